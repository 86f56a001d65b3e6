package graph

import (
	"context"

	"github.com/99designs/gqlgen/graphql"

	"github.com/lethe-crm/lethe/ent"
	exported "github.com/lethe-crm/lethe/ent/export"
	"github.com/lethe-crm/lethe/ent/exportschedule"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/export"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/visible"
)

func statesOf(names []string) []lifecycle.State {
	out := make([]lifecycle.State, len(names))
	for i, name := range names {
		out[i] = lifecycle.State(name)
	}
	return out
}

// requirements lists what waits for an export, in the order of the types.
func requirements(before record.ExportBefore) []*model.ExportRequirement {
	out := []*model.ExportRequirement{}
	for _, t := range ent.RecordTypes {
		if verbs := before[t.Name]; len(verbs) > 0 {
			out = append(out, &model.ExportRequirement{Type: t.Kind(), Verbs: verbs})
		}
	}
	return out
}

// exportSpec is what an input asks to export.
func exportSpec(kind ent.RecordKind, filter *model.ExportFilter, states []lifecycle.State, format exported.Format, keys []string, reason *string) (export.Spec, error) {
	spec := export.Spec{Type: typeOfKind(kind), States: states, Format: export.Format(format), EncryptTo: keys, Reason: deref(reason)}
	if filter == nil {
		return spec, nil
	}
	for _, where := range setOf(filter) {
		f, err := record.KeptFilter(where)
		if err != nil {
			return spec, err
		}
		if f.Comparisons == 0 {
			return spec, record.Refuse(lifecycle.InvalidFilter, "the filter compares nothing; leave it out to export everything", "filter")
		}
		if f.Type != spec.Type {
			return spec, badInput("selects records of another type", "filter", "type")
		}
		spec.Filter = f
	}
	return spec, nil
}

func (r *Resolver) createExport(ctx context.Context, in *model.CreateExportInput) (*model.ExportPayload, error) {
	spec, err := exportSpec(in.Type, in.Filter.Value(), in.States, in.Format, in.EncryptTo.Value(), in.Reason.Value())
	if err != nil {
		return nil, err
	}
	id, err := r.Exports.Create(ctx, spec)
	if err != nil {
		return nil, err
	}
	return r.exportPayload(ctx, id)
}

// exportPayload reads an export for who has just asked for it or ended it.
func (r *Resolver) exportPayload(ctx context.Context, id gid.ID) (*model.ExportPayload, error) {
	e, err := selected[*ent.Export](visible.With(ctx, visible.Tenant(tenantOf(ctx))), r, id, "export")
	return &model.ExportPayload{Export: e}, err
}

func (r *Resolver) endExport(ctx context.Context, id gid.ID, end func(context.Context, gid.ID) error) (*model.ExportPayload, error) {
	if err := checkID(id, "id", gid.Export); err != nil {
		return nil, err
	}
	if err := end(ctx, id); err != nil {
		return nil, err
	}
	return r.exportPayload(ctx, id)
}

func (r *Resolver) createExportSchedule(ctx context.Context, in *model.CreateExportScheduleInput) (*model.ExportSchedulePayload, error) {
	spec, err := exportSpec(in.Type, in.Filter.Value(), in.States, in.Format, in.EncryptTo.Value(), in.Reason.Value())
	if err != nil {
		return nil, err
	}
	id, err := r.Exports.CreateSchedule(ctx, export.Schedule{Spec: spec, Every: in.Every, Keep: int(in.Keep)})
	if err != nil {
		return nil, err
	}
	return r.schedulePayload(ctx, id)
}

func (r *Resolver) schedulePayload(ctx context.Context, id gid.ID) (*model.ExportSchedulePayload, error) {
	s, err := selected[*ent.ExportSchedule](visible.With(ctx, visible.Tenant(tenantOf(ctx))), r, id, "schedule")
	return &model.ExportSchedulePayload{Schedule: s}, err
}

func (r *Resolver) removeExportSchedule(ctx context.Context, id gid.ID) (*model.ExportSchedulePayload, error) {
	if err := checkID(id, "id", gid.ExportSchedule); err != nil {
		return nil, err
	}
	if err := r.Exports.RemoveSchedule(ctx, id); err != nil {
		return nil, err
	}
	return r.schedulePayload(ctx, id)
}

func (r *Resolver) requireExport(ctx context.Context, in *model.RequireExportInput) (*model.SettingsPayload, error) {
	s, err := r.Records.RequireExport(ctx, int(in.Version), typeOfKind(in.Type), in.Verbs)
	if err != nil {
		return nil, err
	}
	return &model.SettingsPayload{Settings: settingsModel(s)}, nil
}

func (r *Resolver) export(ctx context.Context, id gid.ID) (*ent.Export, error) {
	if err := checkID(id, "id", gid.Export); err != nil {
		return nil, err
	}
	field := graphql.GetFieldContext(ctx).Field
	found, err := r.client(ctx).NodesByID(ctx, []gid.ID{id}, &field)
	if err != nil {
		return nil, err
	}
	e, _ := found[id].(*ent.Export)
	return e, nil
}

func (r *Resolver) exports(ctx context.Context, status *exported.Status, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*ent.ExportConnection, error) {
	q := r.client(ctx).Export.Query()
	if status != nil {
		q.Where(exported.StatusEQ(*status))
	}
	return q.Paginate(ctx, after, first, before, last)
}

func (r *Resolver) exportSchedules(ctx context.Context, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*ent.ExportScheduleConnection, error) {
	return r.client(ctx).ExportSchedule.Query().Where(exportschedule.RemovedAtIsNil()).Paginate(ctx, after, first, before, last)
}

// downloadURL is where the caller fetches the file of an export.
func (r *Resolver) downloadURL(ctx context.Context, e *ent.Export) (*string, error) {
	link, err := r.Exports.LinkTo(ctx, e)
	return orNil(link), err
}

// exportManifest is the hash of the manifest of the export that an event names.
func exportManifest(e *ent.AuditEvent) *string {
	sum, _ := e.Detail["exportManifest"].(string)
	return orNil(sum)
}
