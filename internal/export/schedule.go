package export

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/export"
	"github.com/lethe-crm/lethe/ent/exportschedule"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// Limits of schedules.
const (
	maxKeep      = 100
	maxSchedules = 20 // of one user
	maxCron      = 200
)

// A Schedule asks for an export again and again.
type Schedule struct {
	Spec

	// Every is a cron expression in UTC: five fields, or @hourly and its like.
	Every string
	// Keep is how many of its files are kept.
	Keep int
}

// next is when a cron expression comes true after a moment; never is an error.
func next(every string, after time.Time) (time.Time, error) {
	wrong := record.Refuse(lifecycle.BadUserInput, "is no cron expression of minute, hour, day, month and weekday, such as 0 3 * * 1", "every")
	// A zone would be another clock than that of the tenant's other settings, and an
	// interval begins anew with each process.
	if len(every) > maxCron || strings.Contains(every, "TZ=") || strings.HasPrefix(every, "@every") {
		return time.Time{}, wrong
	}
	parsed, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor).Parse(every)
	if err != nil {
		return time.Time{}, wrong
	}
	at := parsed.Next(after.UTC())
	if at.IsZero() {
		return at, record.Refuse(lifecycle.BadUserInput, "is never", "every")
	}
	return at, nil
}

// CreateSchedule makes a schedule, which asks in the name of the actor.
func (s *Service) CreateSchedule(ctx context.Context, schedule Schedule) (id gid.ID, err error) {
	id = gid.New(gid.ExportSchedule)
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		a := actor.From(ctx)
		if a == nil || a.User.IsZero() {
			return errors.New("export: a schedule for nobody")
		}
		return s.refused(ctx, "EXPORT_SCHEDULE", s.createSchedule(ctx, tx, a, id, schedule))
	})
	return id, err
}

func (s *Service) createSchedule(ctx context.Context, tx *store.Tx, a *actor.Actor, id gid.ID, schedule Schedule) error {
	if err := schedule.check(); err != nil {
		return err
	}
	if schedule.Keep < 1 || schedule.Keep > maxKeep {
		return record.Refuse(lifecycle.BadUserInput, fmt.Sprintf("must be from 1 to %d", maxKeep), "keep")
	}
	first, err := next(schedule.Every, tx.Now())
	if err != nil {
		return err
	}
	reading, rows, err := s.reads(ctx, a)
	if err != nil {
		return err
	}
	if err := s.allowed(reading, a, &schedule.Spec, rows); err != nil {
		return err
	}
	if _, err := store.Build(tx).Add(`SELECT id FROM users WHERE id = ?`, a.User).ForNoKeyUpdate().Exec(ctx, tx); err != nil {
		return fmt.Errorf("locking the user: %w", err)
	}
	var n int
	_, err = store.Build(tx).Add(`SELECT COUNT(*) FROM export_schedules WHERE tenant_id = ? AND requested_by_id = ? AND removed_at IS NULL`, a.Tenant, a.User).One(ctx, tx, &n)
	if err != nil {
		return fmt.Errorf("counting schedules: %w", err)
	}
	if n >= maxSchedules {
		return record.Refuse(lifecycle.Limit, fmt.Sprintf("a user has %d schedules at most", maxSchedules))
	}
	states, keys, filter := schedule.kept()
	err = tx.Insert(ctx, "export_schedules", []string{
		"id", "tenant_id", "record_type", "filter", "states", "format", "encrypt_to", "reason", "every", "keep", "requested_by_id", "created_at", "next_run_at",
	}, [][]any{{id, a.Tenant, schedule.Type, filter, states, string(schedule.Format), keys, nullText(schedule.Reason), schedule.Every, schedule.Keep, a.User, tx.Now(), first}})
	if err == nil {
		err = tx.Flush(ctx)
	}
	if err != nil {
		return fmt.Errorf("writing a schedule: %w", err)
	}
	return s.log(reading, tx, "EXPORT_SCHEDULE", id, schedule.Type, map[string]any{"every": schedule.Every, "keep": schedule.Keep})
}

// RemoveSchedule ends a schedule that the actor may read. Its exports stay, and go
// as others do.
func (s *Service) RemoveSchedule(ctx context.Context, id gid.ID) error {
	return s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		a := actor.From(ctx)
		reading, _, err := s.reads(ctx, a)
		if err != nil {
			return err
		}
		// Who starts what is due has done so by now, or will find it removed.
		if _, err := store.Build(tx).Add(`SELECT id FROM export_schedules WHERE tenant_id = ? AND id = ?`, a.Tenant, id).ForUpdate().Exec(ctx, tx); err != nil {
			return fmt.Errorf("locking a schedule: %w", err)
		}
		row, err := s.Records.Client(ctx).ExportSchedule.Get(reading, id)
		if ent.IsNotFound(err) || err == nil && row.RemovedAt != nil {
			return s.refused(ctx, "EXPORT_UNSCHEDULE", record.Refuse(lifecycle.NotFound, "there is no such schedule", "id"))
		}
		if err != nil {
			return fmt.Errorf("reading a schedule: %w", err)
		}
		var days int
		if _, err := store.Build(tx).Add(`SELECT export_days FROM tenants WHERE id = ?`, a.Tenant).One(ctx, tx, &days); err != nil {
			return fmt.Errorf("reading the tenant's settings: %w", err)
		}
		for _, stmt := range []*store.SQL{
			store.Build(tx).Add(`UPDATE export_schedules SET removed_at = ?, next_run_at = NULL WHERE id = ?`, tx.Now(), id),
			store.Build(tx).Add(`UPDATE exports SET expires_at = ? WHERE schedule_id = ? AND status = 'SUCCEEDED'`, tx.Now().Add(time.Duration(days)*24*time.Hour), id),
		} {
			if _, err := stmt.Exec(ctx, tx); err != nil {
				return fmt.Errorf("removing a schedule: %w", err)
			}
		}
		return s.log(reading, tx, "EXPORT_UNSCHEDULE", id, row.RecordType, nil)
	})
}

// RunSchedules asks for the exports whose time has come, each in the name of who
// made its schedule, and answers how many. Times that were missed are made up for
// once.
func (s *Service) RunSchedules(ctx context.Context) (int, error) {
	now := s.DB.Now()
	return s.eachTenant(ctx, func(ctx context.Context, tenant gid.ID) (int, error) {
		all := visible.With(ctx, visible.Tenant(tenant))
		due, err := s.Records.Client(all).ExportSchedule.Query().Where(exportschedule.NextRunAtLTE(now)).Order(exportschedule.ByID()).All(all)
		if err != nil {
			return 0, fmt.Errorf("looking for schedules: %w", err)
		}
		var errs []error
		done := 0
		for _, schedule := range due {
			asked, err := s.runSchedule(ctx, schedule, now)
			if err != nil {
				errs = append(errs, fmt.Errorf("schedule %s: %w", schedule.ID, err))
			}
			if asked {
				done++
			}
		}
		return done, errors.Join(errs...)
	})
}

func (s *Service) runSchedule(ctx context.Context, schedule *ent.ExportSchedule, now time.Time) (asked bool, err error) {
	at, err := next(schedule.Every, now)
	if err != nil {
		return false, err
	}
	a, err := s.ActAs(ctx, schedule.TenantID, schedule.RequestedByID)
	left := errors.Is(err, record.ErrLeft)
	if err != nil && !left {
		return false, err
	}
	if left {
		a = &actor.Actor{Kind: actor.User, Tenant: schedule.TenantID, User: schedule.RequestedByID}
	}
	err = s.DB.InTx(actor.With(ctx, a), func(ctx context.Context, tx *store.Tx) error {
		var then any = at
		if left { // he does not come back by himself
			then = nil
		}
		// Another process may have been quicker, or somebody has removed it.
		n, err := store.Build(tx).Add(`UPDATE export_schedules SET last_run_at = ?, next_run_at = ?, code = NULL WHERE id = ? AND next_run_at = ? AND removed_at IS NULL`,
			now, then, schedule.ID, *schedule.NextRunAt).Exec(ctx, tx)
		if err != nil || n == 0 {
			return err
		}
		if left {
			return s.couldNot(ctx, tx, schedule, lifecycle.Forbidden)
		}
		var busy int // the one before is still under way
		_, err = store.Build(tx).Add(`SELECT COUNT(*) FROM exports WHERE schedule_id = ? AND worked_at IS NOT NULL`, schedule.ID).One(ctx, tx, &busy)
		if err != nil || busy > 0 {
			return err
		}
		reason := ""
		if schedule.Reason != nil {
			reason = *schedule.Reason
		}
		spec, err := specOf(schedule.RecordType, schedule.Filter, schedule.States, schedule.EncryptTo, string(schedule.Format), reason)
		if err == nil {
			err = s.create(ctx, tx, a, gid.New(gid.Export), spec, schedule.ID)
		}
		if refused, ok := errors.AsType[*record.Error](err); ok && refused.Code != lifecycle.AuthzUnavailable { // said before anything was written; what passes is tried again
			return s.couldNot(ctx, tx, schedule, refused.Code)
		}
		asked = err == nil
		return err
	})
	return asked, err
}

// couldNot says why a schedule did not ask for an export.
func (s *Service) couldNot(ctx context.Context, tx *store.Tx, schedule *ent.ExportSchedule, code lifecycle.Code) error {
	if _, err := store.Build(tx).Add(`UPDATE export_schedules SET code = ? WHERE id = ?`, string(code), schedule.ID).Exec(ctx, tx); err != nil {
		return fmt.Errorf("writing down why a schedule failed: %w", err)
	}
	return s.log(ctx, tx, "EXPORT_REQUEST", schedule.ID, schedule.RecordType, map[string]any{"refused": code})
}

// keepNewest lets the older files of a schedule go.
func (s *Service) keepNewest(ctx context.Context, tx *store.Tx, id gid.ID) error {
	all := visible.With(ctx, visible.Tenant(actor.From(ctx).Tenant))
	schedule, err := s.Records.Client(ctx).ExportSchedule.Get(all, id)
	if err != nil {
		return err
	}
	files, err := s.Records.Client(ctx).Export.Query().Where(export.ScheduleID(id), export.StatusEQ(export.StatusSUCCEEDED)).Order(export.ByID()).All(all)
	if err != nil {
		return err
	}
	for len(files) > schedule.Keep {
		if err := s.letGo(ctx, tx, files[0]); err != nil {
			return err
		}
		files = files[1:]
	}
	return nil
}
