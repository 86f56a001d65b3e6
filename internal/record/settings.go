package record

import (
	"context"
	"errors"
	"fmt"

	"entgo.io/ent/dialect"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// Settings are those of a tenant.
type Settings struct {
	Version int // counts their changes
	// ExportBefore are the verbs that wait for an export, by type of record.
	ExportBefore ExportBefore

	values map[string]*int
}

// Value answers a setting by its name; nil is no cap.
func (s *Settings) Value(name string) *int { return s.values[name] }

// Setting is what can be set for a tenant.
type Setting struct {
	Name        string // in the API
	column      string
	least, most int
	cap         bool // whether null is a value, too: no cap
}

// TenantSettings lists them. A century of days is more than any law asks for.
var TenantSettings = []Setting{
	{"binDays", "bin_days", 1, 36_500, false},
	{"holdReleaseDays", "hold_release_days", 0, 36_500, false},
	{"brakeRecords", "brake_records", 0, 1 << 30, true},
	{"brakePercent", "brake_percent", 0, 100, true},
	{"brakeHour", "brake_hour", 0, 1 << 30, true},
	{"brakeDay", "brake_day", 0, 1 << 30, true},
	{purgeDay, "purge_day", 0, 1 << 30, true},
	{"exportDays", "export_days", 1, 3_650, false},
}

// Settings answers the settings of the actor's tenant, to who may change them.
func (s *Service) Settings(ctx context.Context) (*Settings, error) {
	a := actor.From(ctx)
	if a == nil {
		return nil, errors.New("record: settings for nobody")
	}
	if err := s.maySet(ctx, a); err != nil {
		return nil, err
	}
	q := s.querier(ctx)
	return s.settingsOf(ctx, q, a)
}

func (s *Service) maySet(ctx context.Context, a *actor.Actor) error {
	answer := s.control.Decide(ctx, a, []access.Question{{Action: authz.SettingsEdit, Type: "Settings"}})[0]
	if !answer.Permit {
		return refusal(answer)
	}
	return nil
}

func (s *Service) settingsOf(ctx context.Context, q store.Querier, a *actor.Actor) (*Settings, error) {
	out := &Settings{values: map[string]*int{}}
	var before *string
	stmt, dest := store.Build(q).Add(`SELECT settings_version, export_before`), []any{&out.Version, &before}
	read := make([]*int, len(TenantSettings))
	for i, setting := range TenantSettings {
		stmt.Add(`, ` + setting.column)
		dest = append(dest, &read[i])
	}
	if _, err := stmt.Add(` FROM tenants WHERE id = ?`, a.Tenant).One(ctx, q, dest...); err != nil {
		return nil, fmt.Errorf("reading the tenant's settings: %w", err)
	}
	for i, setting := range TenantSettings {
		out.values[setting.Name] = read[i]
	}
	var err error
	out.ExportBefore, err = readExportBefore(before)
	return out, err
}

// UpdateSettings changes settings of the actor's tenant, by name, that he saw at a
// version. A longer bin keeps what is in it longer, too; a shorter one is for what
// is deleted from then on. To set what is set already changes nothing. What keeps records for a shorter time waits for
// others to agree, where rules want that: then nothing changes yet, and their request is answered.
func (s *Service) UpdateSettings(ctx context.Context, version int, values map[string]*int) (out *Settings, request gid.ID, err error) {
	a := actor.From(ctx)
	if a == nil {
		return nil, gid.Nil, errors.New("record: settings by nobody")
	}
	for _, setting := range TenantSettings {
		if v, given := values[setting.Name]; given {
			if err := setting.check(v); err != nil {
				return nil, gid.Nil, err
			}
		}
	}
	err = s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		ctx, err = s.judgedBy(ctx, a, s.control.Repin)
		if err == nil {
			out, request, err = s.updateSettings(ctx, tx, a, version, values, nil)
		}
		if refused, ok := errors.AsType[*Error](err); ok {
			s.logRefusal(ctx, tx, audit.Event{Action: "SETTINGS_UPDATE", Code: refused.Code})
		}
		return err
	})
	return out, request, err
}

func (setting Setting) check(v *int) error {
	switch {
	case v == nil && !setting.cap:
		return Refuse(lifecycle.BadUserInput, "must not be null", setting.Name)
	case v != nil && (*v < setting.least || *v > setting.most):
		return Refuse(lifecycle.BadUserInput, fmt.Sprintf("must be from %d to %d", setting.least, setting.most), setting.Name)
	}
	return nil
}

func (s *Service) updateSettings(ctx context.Context, tx *store.Tx, a *actor.Actor, version int, values map[string]*int, agreed *ent.Approval) (*Settings, gid.ID, error) {
	if err := s.maySet(ctx, a); err != nil {
		return nil, gid.Nil, err
	}
	// Who deletes by the old settings has done so by now, or will read the new ones.
	if err := fenceOff(ctx, tx, a.Tenant); err != nil {
		return nil, gid.Nil, err
	}
	if _, err := store.Build(tx).Add(`SELECT id FROM tenants WHERE id = ?`, a.Tenant).ForNoKeyUpdate().Exec(ctx, tx); err != nil {
		return nil, gid.Nil, fmt.Errorf("locking the tenant's settings: %w", err)
	}
	old, err := s.settingsOf(ctx, tx, a)
	if err != nil {
		return nil, gid.Nil, err
	}
	if old.Version != version {
		return nil, gid.Nil, movedOn("settings are", old.Version, agreed)
	}
	stmt, changes := store.Build(tx).Add(`UPDATE tenants SET settings_version = settings_version + 1`), map[string]any{}
	asked := &Shortening{Settings: map[string]*int{}, Was: map[string]*int{}, Version: version}
	for _, setting := range TenantSettings {
		v, given := values[setting.Name]
		before := old.values[setting.Name]
		if !given || v == before || v != nil && before != nil && *v == *before {
			continue
		}
		stmt.Add(`, `+setting.column+` = ?`, nullInt(v))
		changes[setting.Name] = map[string]any{"old": nullInt(before), "new": nullInt(v)}
		asked.Settings[setting.Name], asked.Was[setting.Name] = v, before
	}
	if len(changes) == 0 {
		return old, gid.Nil, nil
	}
	detail := map[string]any{"settings": changes}
	if shorter := Shortens(old, values); len(shorter) > 0 {
		detail["shortens"] = shorter
		if request, err := s.askToShorten(ctx, tx, asked, "", agreed); err != nil || !request.IsZero() {
			return old, request, err
		}
	}
	if agreed != nil {
		detail["approval"] = agreed.ID.String()
	}
	if _, err := stmt.Add(` WHERE id = ?`, a.Tenant).Exec(ctx, tx); err != nil {
		return nil, gid.Nil, fmt.Errorf("changing the tenant's settings: %w", err)
	}
	if v, given := values["binDays"]; given && *v > *old.values["binDays"] {
		if err := s.lengthenBin(ctx, tx, a, *v); err != nil {
			return nil, gid.Nil, err
		}
	}
	if err := s.audit.Append(ctx, tx, audit.Event{Action: "SETTINGS_UPDATE", PolicyVersion: s.control.Version(ctx, a.Tenant), Detail: detail}); err != nil {
		return nil, gid.Nil, err
	}
	out, err := s.settingsOf(ctx, tx, a)
	return out, gid.Nil, err
}

// Shortens names the settings that would keep records for a shorter time.
func Shortens(old *Settings, values map[string]*int) []string {
	var out []string
	for _, name := range []string{"binDays", "holdReleaseDays"} {
		if v, before := values[name], old.values[name]; v != nil && before != nil && *v < *before {
			out = append(out, name)
		}
	}
	return out
}

// lengthenBin keeps what is in the bin for at least so long from when it came in.
// What waits for longer, because it came in when the bin was longer, goes on to.
func (s *Service) lengthenBin(ctx context.Context, tx *store.Tx, a *actor.Actor, days int) error {
	// An orphan that was voided is on a clock from when it lost its owner.
	const since = `CASE WHEN state = 'VOIDED' THEN orphaned_at ELSE state_changed_at END`
	for _, t := range typeOrder {
		until := since + ` + interval '1 day' * CAST(? AS bigint)`
		if tx.Dialect() != dialect.Postgres { // where a time is text that starts with its day
			until = `date(substr(` + since + `, 1, 10), ? || ' days') || substr(` + since + `, 11)`
		}
		stmt := store.Build(tx).Add(`UPDATE `+t.Table+` SET purge_after = `+until, days).
			Add(` WHERE tenant_id = ? AND purge_after IS NOT NULL AND state IN ('VOIDED', 'DELETED') AND purge_after < `, a.Tenant).Add(until, days)
		if _, err := stmt.Exec(ctx, tx); err != nil {
			return fmt.Errorf("lengthening the clocks of %s: %w", t.Table, err)
		}
	}
	return nil
}

func nullInt(v *int) any {
	if v == nil {
		return nil
	}
	return *v
}
