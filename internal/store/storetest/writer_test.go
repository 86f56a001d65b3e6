package storetest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

func TestSQLitesWritersTakeTurnsInTheOrderInWhichTheyCame(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	_, first, err := db.Begin(t.Context())
	require.NoError(t, err)
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, _, err = db.Begin(soon)
	require.ErrorIs(t, err, context.DeadlineExceeded, "who gives up leaves the queue")

	var turns []int
	var writers sync.WaitGroup
	for i := range 10 {
		writers.Go(func() {
			ctx, tx, err := db.Begin(t.Context())
			require.NoError(t, err)
			turns = append(turns, i) // nobody else has the turn
			require.NoError(t, tx.End(ctx, nil))
		})
		time.Sleep(10 * time.Millisecond) // until it is in the queue
	}
	require.NoError(t, first.End(t.Context(), nil))
	writers.Wait()
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, turns)
}

func TestAPanicAtTheEndOfATransactionGivesTheTurnBack(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		for range 20 { // more than there are connections
			ctx, tx, err := db.Begin(t.Context())
			require.NoError(t, err)
			tx.BeforeCommit(func(context.Context) error { panic("boom") })
			require.Panics(t, func() { _ = tx.End(ctx, nil) })
		}
	})
}

func TestSQLiteKnowsHowLargeItsTablesAre(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		return tx.InsertEach(ctx, "record_numbers", []string{"tenant_id", "record_type", "number", "record_id"}, 1_000, func(i int, row []any) error {
			copy(row, []any{gid.New(gid.Tenant), "Customer", fmt.Sprint(i), gid.New(gid.Customer)})
			return nil
		})
	}))
	require.NoError(t, db.Optimize(t.Context()))
	var known int
	_, err := store.Build(db).Add(`SELECT COUNT(*) FROM sqlite_stat1 WHERE tbl = 'record_numbers'`).One(t.Context(), db, &known)
	require.NoError(t, err)
	require.Positive(t, known)
}
