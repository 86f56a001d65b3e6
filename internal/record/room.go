package record

import (
	"context"
	"fmt"

	"golang.org/x/sync/semaphore"

	"github.com/lethe-crm/lethe/internal/store"
)

// room is for how many records, as far as that is known beforehand, large
// operations may be under way at a time in one process. Each holds its records
// in memory, and more of them at once are hardly faster: they wait for the same
// disks and rows.
const room = 2 * MaxRows

// small is of how many records an operation takes no room, so that it never
// waits behind large ones.
const small = 16

// takeRoom waits until there is room for the operation. It is given back when
// the transaction ends; what else is done in that has it, too.
//
// Whoever waits here must not hold what those who have room may wait for, locks
// or a connection: an operation in a transaction that has begun goes on without.
func (r *run) takeRoom(ctx context.Context) error {
	if !r.tx.Unused() {
		return nil
	}
	n, err := r.weight(ctx, r.db)
	if err != nil {
		return err
	}
	release, err := take(ctx, r.room, n)
	if err == nil {
		r.tx.Free(release)
	}
	return err
}

func take(ctx context.Context, s *semaphore.Weighted, n int64) (release func(), err error) {
	if n <= small {
		return func() {}, nil
	}
	if err := s.Acquire(ctx, n); err != nil {
		return nil, fmt.Errorf("waiting for other large operations: %w", err)
	}
	return func() { s.Release(n) }, nil
}

// weight is how many records the operation is about at most, as far as can be
// said before they are selected.
func (r *run) weight(ctx context.Context, q store.Querier) (int64, error) {
	n, sel := MaxRows, r.req.Select
	switch {
	case r.claiming:
		if _, err := store.Build(q).Add(`SELECT total FROM operations WHERE tenant_id = ? AND id = ?`, r.a.Tenant, r.id).One(ctx, q, &n); err != nil {
			return 0, fmt.Errorf("reading how large the operation is: %w", err)
		}
	case sel.Operation != nil:
		_, err := store.Build(q).Add(`SELECT changed FROM operations WHERE tenant_id = ? AND id = ?`, r.a.Tenant, *sel.Operation).One(ctx, q, &n)
		if err != nil {
			return 0, fmt.Errorf("reading how large the operation was: %w", err)
		}
	case sel.IDs != nil || sel.Versions != nil:
		n = max(len(sel.IDs), len(sel.Versions))
	case r.req.ExpectedCount != nil:
		n = *r.req.ExpectedCount // it is refused if there are more
	}
	return int64(min(n, MaxRows)), nil
}
