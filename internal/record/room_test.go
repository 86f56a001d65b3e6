package record_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

// SQLite has one writer at a time, so nothing ever waits for room there.
func TestLargeOperationsWaitForRoomAndSmallOnesDoNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.Postgres)
	w.caps(nil, nil, nil, nil) // with caps by the hour one user's operations wait for each other
	remove := func(ctx context.Context, n int) error {
		ids := make([]gid.ID, n) // of no record: what is held is room
		for i := range ids {
			ids[i] = gid.New(gid.Customer)
		}
		_, err := w.svc.Run(actor.With(ctx, actor.From(w.as("manager"))), record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids}})
		return err
	}
	var begun, ended sync.WaitGroup
	release := make(chan struct{})
	for range 2 {
		begun.Add(1)
		ended.Go(func() {
			err := w.db.InTx(t.Context(), func(ctx context.Context, _ *store.Tx) error {
				err := remove(ctx, record.MaxRows)
				begun.Done()
				<-release
				return err
			})
			require.NoError(t, err)
		})
	}
	begun.Wait()
	soon, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, remove(soon, record.MaxRows), context.DeadlineExceeded)
	require.NoError(t, remove(t.Context(), 10), "a small one is let through")
	require.NoError(t, w.db.InTx(t.Context(), func(ctx context.Context, _ *store.Tx) error {
		if err := remove(ctx, 10); err != nil {
			return err
		}
		return remove(ctx, record.MaxRows)
	}), "a transaction that may hold locks does not wait")
	waiting := make(chan error)
	go func() { waiting <- remove(t.Context(), record.MaxRows) }()
	close(release)
	require.NoError(t, <-waiting)
	ended.Wait()
}
