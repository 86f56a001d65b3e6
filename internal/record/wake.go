package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// Wake ends, in every tenant, the suspensions that have run out, and answers how many. Records come back, or go into
// the bin, as was chosen when they were suspended; what cannot go into the bin comes back. Each batch is an operation
// of the system, and the clock is looked at again when its records are locked.
func (s *Service) Wake(ctx context.Context) (int, error) {
	return s.eachTenant(ctx, func(ctx context.Context, tenant gid.ID) (woken int, err error) {
		now := s.db.Now()
		holds, err := s.holdRules(ctx, tenant)
		if err != nil {
			return 0, err
		}
		var errs []error
		for _, t := range typeOrder {
			n, err := s.wakeType(ctx, tenant, t, holds, now)
			woken += n
			if err != nil {
				errs = append(errs, fmt.Errorf("waking %s of tenant %s: %w", t.Table, tenant, err))
			}
		}
		return woken, errors.Join(errs...)
	})
}

// eachTenant does something for every tenant as the system. A tenant that fails holds up no other.
func (s *Service) eachTenant(ctx context.Context, do func(ctx context.Context, tenant gid.ID) (int, error)) (int, error) {
	var tenants []gid.ID
	if err := store.Build(s.db).Add(`SELECT id FROM tenants ORDER BY id`).Query(ctx, s.db, scanIDs(func(id gid.ID) { tenants = append(tenants, id) })); err != nil {
		return 0, fmt.Errorf("reading tenants: %w", err)
	}
	done := 0
	var errs []error
	for _, tenant := range tenants {
		n, err := do(actor.With(ctx, actor.ForSystem(tenant)), tenant)
		done += n
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return done, errors.Join(errs...)
}

// wakeType goes through the suspensions of a type that have run out, once: what
// cannot wake now is looked at next time. What a hold freezes stays suspended.
func (s *Service) wakeType(ctx context.Context, tenant gid.ID, t *ent.RecordType, holds holdRules, now time.Time) (woken int, err error) {
	var last time.Time
	var lastID gid.ID
	var failures error
	for {
		then := map[gid.ID]string{}
		var found []gid.ID
		err := store.Build(s.db).Add(`SELECT id, suspended_then, suspended_until FROM `+t.Table+` WHERE tenant_id = ? AND state = ? AND suspended_until <= ?
			AND (suspended_until, id) > (?, ?) ORDER BY suspended_until, id LIMIT ?`,
			tenant, string(lifecycle.Suspended), now, last, lastID, sweepBatch).Query(ctx, s.db, func(row store.Row) error {
			what := ThenRestore
			if err := row.Scan(&lastID, &what, &last); err != nil {
				return err
			}
			found, then[lastID] = append(found, lastID), what
			return nil
		})
		if err != nil || len(found) == 0 {
			return woken, errors.Join(failures, err)
		}
		var waits map[gid.ID]bool
		if holds.any {
			if waits, err = s.holdsUp(ctx, tenant, found, now, func(k kept) bool { return k.freeze }); err != nil {
				return woken, errors.Join(failures, err)
			}
		}
		ids := map[string][]gid.ID{}
		for _, id := range found {
			if !waits[id] {
				ids[then[id]] = append(ids[then[id]], id)
			}
		}
		gone, stay, err := s.endSuspensions(ctx, lifecycle.Delete, ids[ThenDelete], now)
		woken += gone
		if err != nil {
			return woken, errors.Join(failures, err)
		}
		back, asleep, err := s.endSuspensions(ctx, lifecycle.Restore, append(ids[ThenRestore], stay...), now)
		woken += back
		if len(asleep) > 0 {
			failures = errors.Join(failures, fmt.Errorf("%d of them may not be restored, the first is %s", len(asleep), asleep[0]))
		}
		if err != nil || len(found) < sweepBatch {
			return woken, errors.Join(failures, err)
		}
	}
}

// endSuspensions runs a verb over suspended records whose time is up, and answers how many went, and which cannot go. A
// batch that is refused, because more comes along than one operation may be about, is tried by halves. What could not
// be decided, or was in somebody's hands, is left for the next time.
func (s *Service) endSuspensions(ctx context.Context, verb lifecycle.Verb, ids []gid.ID, now time.Time) (went int, stay []gid.ID, err error) {
	if len(ids) == 0 {
		return 0, nil, nil
	}
	r := &run{req: Request{Verb: verb, Select: Selection{IDs: ids}, Mode: BestEffort}, due: &now}
	op, err := s.start(ctx, r)
	switch refused, ok := errors.AsType[*Error](err); {
	case err == nil:
		for _, it := range r.items {
			if it.outcome == failed && lasting(it.code) {
				stay = append(stay, it.id)
			}
		}
		if op != nil {
			went = op.Changed
		}
		return went, stay, nil
	case !ok || !lasting(refused.Code) || ctx.Err() != nil:
		return 0, nil, err
	case len(ids) == 1 || refused.Code != lifecycle.Limit:
		return 0, ids, nil
	}
	went, stay, err = s.endSuspensions(ctx, verb, ids[:len(ids)/2], now)
	more, others, otherErr := s.endSuspensions(ctx, verb, ids[len(ids)/2:], now)
	return went + more, append(stay, others...), errors.Join(err, otherErr)
}

// lasting reports whether a refusal will be the same a moment later.
func lasting(code lifecycle.Code) bool {
	return code == lifecycle.Hold || code == lifecycle.Retained || code == lifecycle.Limit || code == lifecycle.HasDependents || code == lifecycle.Forbidden || code == lifecycle.UniqueConflict || code == lifecycle.ParentRetired ||
		code == lifecycle.ExportRequired || code == lifecycle.ExportStale
}

// isDue reports whether the clock by which a timer came for a record has run out.
func (r *run) isDue(row ent.Record) bool {
	at := timeOf(row, "purge_after")
	if r.req.Verb != lifecycle.Purge {
		if row.RecordState() != lifecycle.Suspended {
			return false
		}
		at = timeOf(row, "suspended_until")
	}
	return at != nil && !at.After(*r.due)
}

// wakeThreads restores the suspended records of a conversation that was gone on with: something came in that is newer
// than the suspension. It is an operation of the system in the transaction of the new records.
func (s *Service) wakeThreads(ctx context.Context, tx *store.Tx, a *actor.Actor, t *ent.RecordType, records []ent.Record) error {
	if t.Activity == "" || !slices.Contains(t.Columns, threadColumn) || !slices.Contains(t.Columns, "direction") {
		return nil
	}
	newest := map[string]time.Time{}
	var keys []string
	for _, r := range records {
		if r == nil || fmt.Sprint(r.Column("direction")) != "INBOUND" {
			continue
		}
		key, _ := r.Column(threadColumn).(string)
		at := timeOf(r, t.Activity)
		if key == "" || at == nil {
			continue
		}
		if _, known := newest[key]; !known {
			keys = append(keys, key)
		}
		if at.After(newest[key]) {
			newest[key] = *at
		}
	}
	if len(keys) == 0 {
		return nil
	}
	var asleep []gid.ID
	err := store.Build(tx).Add(`SELECT id, `+threadColumn+`, state_changed_at FROM `+t.Table+` WHERE tenant_id = ? AND state = ? AND `,
		a.Tenant, string(lifecycle.Suspended)).Strings(threadColumn, keys).Add(` ORDER BY id LIMIT ?`, MaxRows).
		Query(ctx, tx, func(row store.Row) error {
			var id gid.ID
			var key string
			var since time.Time
			if err := row.Scan(&id, &key, &since); err != nil {
				return err
			}
			if newest[key].After(since) {
				asleep = append(asleep, id)
			}
			return nil
		})
	if err != nil {
		return fmt.Errorf("looking for conversations that are suspended: %w", err)
	}
	if len(asleep) == 0 {
		return nil
	}
	op, err := s.start(actor.With(ctx, actor.ForSystem(a.Tenant)), &run{req: Request{Verb: lifecycle.Restore, Select: Selection{IDs: asleep}, Mode: BestEffort}})
	if refused, ok := errors.AsType[*Error](err); ok {
		s.log.WarnContext(ctx, "a suspended conversation was not woken", "error", refused, "messages", len(asleep))
		return nil // what came in is kept all the same
	}
	if err == nil && op.Failed > 0 {
		s.log.WarnContext(ctx, "a suspended conversation was not woken", "operation", op.ID, "failed", op.Failed)
	}
	return err
}
