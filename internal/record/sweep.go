package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// sweepBatch is how many records one purge of the sweeper takes.
const sweepBatch = 500

// purgeDay is the cap on what is purged of a tenant within quotaTime, by whomever.
const purgeDay = "purgeDay"

// quotaTime is the time that a quota is for. It moves along, as the brake's does:
// at no midnight there is twice as much.
const quotaTime = 24 * time.Hour

// purgedSince counts what was purged of the tenant t after a moment, by operations that ended since and by jobs that have
// not, but for one that counts for itself.
const purgedSince = `((SELECT CAST(COALESCE(SUM(o.changed), 0) AS bigint) FROM operations o WHERE o.tenant_id = t.id AND o.verb = 'PURGE' AND o.finished_at > ?)
	+ (SELECT CAST(COALESCE(SUM(o.changed), 0) AS bigint) FROM operations o WHERE o.tenant_id = t.id AND o.verb = 'PURGE' AND o.request IS NOT NULL AND o.worked_at > ? AND o.id <> ?))`

// Sweep purges, in every tenant, the retired records whose clock has run out,
// oldest first, as many as the tenant's quota lets it, and answers how many went.
// Each batch is an operation of the system; state, guards, clock and quota are
// looked at again in the transaction that purges. What cannot go holds up nothing
// else.
func (s *Service) Sweep(ctx context.Context) (int, error) {
	now := s.db.Now()
	return s.eachTenant(ctx, func(ctx context.Context, tenant gid.ID) (int, error) {
		purged, err := s.sweepTenant(ctx, tenant, now)
		if err != nil {
			err = fmt.Errorf("purging records of tenant %s: %w", tenant, err)
		}
		return purged, err
	})
}

// due is a place in the order in which the sweeper goes through a tenant: by
// clock, and of one moment what depends on others first, so that a tree that is
// larger than a batch goes leaf by leaf.
type due struct {
	at   time.Time
	rank int
	id   gid.ID
}

// sweepTenant goes through what is due, once: what cannot go now is looked at next
// time.
func (s *Service) sweepTenant(ctx context.Context, tenant gid.ID, now time.Time) (purged int, err error) {
	holds, err := s.holdRules(ctx, tenant)
	if err != nil {
		return 0, err
	}
	keep, err := s.keepingOf(ctx, s.db, tenant)
	if err != nil {
		return 0, err
	}
	before, err := s.exportBeforeOf(ctx, tenant)
	if err != nil {
		return 0, err
	}
	var failures error
	last := due{rank: -1}
	for ctx.Err() == nil {
		room, err := s.quotaLeft(ctx, tenant, now)
		if err != nil || room == 0 {
			return purged, errors.Join(failures, err)
		}
		var ids []gid.ID
		if ids, last, err = s.nextDue(ctx, tenant, now, last, min(sweepBatch, room)); err != nil || len(ids) == 0 {
			return purged, errors.Join(failures, err)
		}
		if holds.any {
			waits, err := s.holdsUp(ctx, tenant, ids, now.Add(-holds.release), func(k kept) bool { return k.stops(lifecycle.Purge) })
			if err != nil {
				return purged, errors.Join(failures, err)
			}
			ids = slices.DeleteFunc(ids, func(id gid.ID) bool { return waits[id] })
		}
		if len(keep) > 0 && len(ids) > 0 {
			waits, err := s.keptByRules(ctx, tenant, keep, ids, now)
			if err != nil {
				return purged, errors.Join(failures, err)
			}
			ids = slices.DeleteFunc(ids, func(id gid.ID) bool { return waits[id] })
		}
		if len(ids) > 0 {
			waits, err := s.unexported(ctx, tenant, before, lifecycle.Purge, ids)
			if err != nil {
				return purged, errors.Join(failures, err)
			}
			ids = slices.DeleteFunc(ids, func(id gid.ID) bool { return waits[id] })
		}
		if len(ids) == 0 {
			continue
		}
		n, err := s.purgeDue(ctx, ids, now)
		purged += n
		if errors.Is(err, errQuota) { // what is younger waits as well
			return purged, failures
		}
		failures = errors.Join(failures, err)
	}
	return purged, failures
}

// quotaLeft is how many records may be purged now; as many as a batch where there
// is no quota.
func (s *Service) quotaLeft(ctx context.Context, tenant gid.ID, now time.Time) (int, error) {
	var quota *int
	done := 0
	_, err := store.Build(s.db).Add(`SELECT t.purge_day, CASE WHEN t.purge_day IS NULL THEN 0 ELSE `+purgedSince+` END FROM tenants t WHERE t.id = ?`, now.Add(-quotaTime), now.Add(-quotaTime), gid.Nil, tenant).
		One(ctx, s.db, &quota, &done)
	if err != nil {
		return 0, fmt.Errorf("reading the quota of purges: %w", err)
	}
	if quota == nil {
		return sweepBatch, nil
	}
	return max(*quota-done, 0), nil
}

// nextDue answers the next records after a place, over all types.
func (s *Service) nextDue(ctx context.Context, tenant gid.ID, now time.Time, last due, n int) ([]gid.ID, due, error) {
	stmt := store.Build(s.db).Add(`SELECT id, due, place FROM (`)
	for i, t := range slices.Backward(typeOrder) {
		rank := len(typeOrder) - 1 - i
		if rank > 0 {
			stmt.Add(` UNION ALL `)
		}
		// Of the moment of the last one, the types before its own are done, and of its own the ids up to it.
		from := last.id
		if rank > last.rank {
			from = gid.Nil
		}
		op := `>=`
		if rank < last.rank {
			op = `>`
		}
		stmt.Add(fmt.Sprintf(`SELECT * FROM (SELECT id, purge_after AS due, %d AS place FROM %s WHERE tenant_id = ? AND purge_after <= ? AND state IN ('VOIDED', 'DELETED')
			AND purge_after %s ? AND (purge_after > ? OR id > ?) ORDER BY purge_after, id LIMIT ?) t%d`, rank, t.Table, op, rank),
			tenant, now, last.at, last.at, from, n)
	}
	var ids []gid.ID
	err := stmt.Add(`) everything ORDER BY due, place, id LIMIT ?`, n).Query(ctx, s.db, func(row store.Row) error {
		if err := row.Scan(&last.id, &last.at, &last.rank); err != nil {
			return err
		}
		ids = append(ids, last.id)
		return nil
	})
	if err != nil {
		return nil, last, fmt.Errorf("looking for what is due: %w", err)
	}
	return ids, last, nil
}

// errQuota ends a sweep: no more may be purged now.
var errQuota = errors.New("record: the quota of purges is used up")

// purgeDue purges what is due of some records. A batch that is refused, because
// more comes along than a batch may take, or than the quota has room for, is tried
// by halves, the older first.
func (s *Service) purgeDue(ctx context.Context, ids []gid.ID, now time.Time) (int, error) {
	op, err := s.start(ctx, &run{req: Request{Verb: lifecycle.Purge, Select: Selection{IDs: ids}, Mode: BestEffort}, due: &now})
	refused, ok := errors.AsType[*Error](err)
	switch {
	case err == nil && op == nil:
		return 0, nil
	case err == nil:
		return op.Changed, nil
	case !ok || ctx.Err() != nil:
		return 0, err
	case len(ids) == 1 && refused.Extensions["cap"] == purgeDay:
		return 0, errQuota
	case len(ids) == 1:
		return 0, fmt.Errorf("%s: %w", ids[0], err)
	}
	first, err := s.purgeDue(ctx, ids[:len(ids)/2], now)
	if errors.Is(err, errQuota) {
		return first, err
	}
	second, otherErr := s.purgeDue(ctx, ids[len(ids)/2:], now)
	return first + second, errors.Join(err, otherErr)
}
