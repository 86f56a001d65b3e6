package graph

import (
	"context"
	"reflect"

	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/record"
)

func (r *Resolver) settings(ctx context.Context) (*model.TenantSettings, error) {
	s, err := r.Records.Settings(ctx)
	if err != nil {
		return nil, err
	}
	return settingsModel(s), nil
}

func (r *Resolver) updateSettings(ctx context.Context, in *model.UpdateSettingsInput) (*model.SettingsPayload, error) {
	values := map[string]*int{}
	for name, v := range given(reflect.ValueOf(*in)) {
		switch v := v.(type) {
		case nil:
			values[name] = nil
		case int32:
			if name != "version" {
				n := int(v)
				values[name] = &n
			}
		}
	}
	s, request, err := r.Records.UpdateSettings(ctx, int(in.Version), values)
	if err != nil {
		return nil, err
	}
	ap, err := r.requested(ctx, request)
	return &model.SettingsPayload{Settings: settingsModel(s), Approval: ap}, err
}

func settingsModel(s *record.Settings) *model.TenantSettings {
	days := func(name string) int32 {
		if v := count(s.Value(name)); v != nil {
			return *v
		}
		return 0 // which the column never is null for
	}
	return &model.TenantSettings{
		BinDays: days("binDays"), ExportDays: days("exportDays"), ExportBefore: requirements(s.ExportBefore), HoldReleaseDays: days("holdReleaseDays"), BrakeRecords: count(s.Value("brakeRecords")), BrakePercent: count(s.Value("brakePercent")),
		BrakeHour: count(s.Value("brakeHour")), BrakeDay: count(s.Value("brakeDay")), PurgeDay: count(s.Value("purgeDay")), Version: int32(s.Version), //nolint:gosec // counts by one
	}
}

func count(v *int) *int32 {
	if v == nil {
		return nil
	}
	n := int32(*v) //nolint:gosec // a setting is no larger
	return &n
}
