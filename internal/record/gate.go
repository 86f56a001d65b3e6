package record

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sync/semaphore"

	"github.com/lethe-crm/lethe/internal/store"
)

// largeRows is from how many picked records on an operation waits its turn.
const largeRows = 100

// gate bounds how many records all large operations of a process work on at
// once: their rows and events are in memory, and more of them side by side than
// there are processors end no earlier.
type gate struct{ rows *semaphore.Weighted }

func newGate() gate { return gate{semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0)) * MaxRows)} }

// begunKey is under which a transaction remembers that it may hold locks.
type begunKey struct{}

// begin notes that a transaction is about to lock rows, and reports whether it is
// the first time. Whoever holds locks must not wait at the gate: what is in there
// may wait for him.
func begin(tx *store.Tx) (first bool) {
	begun := store.Get(tx, begunKey{}, func() *bool { return new(bool) })
	first = !*begun
	*begun = true
	return first
}

// enter waits until a large operation may go on, and leaves when its transaction
// ends.
func (r *run) enter(ctx context.Context) error {
	n := min(int64(len(r.items)), MaxRows)
	if r.tx == nil || !begin(r.tx) || n < largeRows {
		return nil
	}
	if err := r.gate.rows.Acquire(ctx, n); err != nil {
		return fmt.Errorf("waiting for other operations: %w", err)
	}
	r.tx.AfterEnd(func(bool) { r.gate.rows.Release(n) })
	return nil
}
