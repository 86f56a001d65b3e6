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
	begin := func(ctx context.Context) (*store.Tx, error) {
		ctx, tx, err := db.Begin(ctx)
		if err == nil { // it begins with its first statement
			_, err = store.Build(tx).Add("SELECT 1").Exec(ctx, tx)
		}
		return tx, err
	}
	first, err := begin(t.Context())
	require.NoError(t, err)
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = begin(soon)
	require.ErrorIs(t, err, context.DeadlineExceeded, "who gives up leaves the queue")

	var turns []int
	var writers sync.WaitGroup
	for i := range 10 {
		writers.Go(func() {
			tx, err := begin(t.Context())
			require.NoError(t, err)
			turns = append(turns, i) // nobody else has the turn
			require.NoError(t, tx.End(t.Context(), nil))
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
			_, err = store.Build(tx).Add("SELECT 1").Exec(ctx, tx)
			require.NoError(t, err)
			told := false
			tx.AfterEnd(func(committed bool) { told = !committed })
			tx.BeforeCommit(func(context.Context) error { panic("boom") })
			require.Panics(t, func() { _ = tx.End(ctx, nil) })
			require.True(t, told)
			require.NoError(t, tx.End(ctx, nil), "it has ended")
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

func TestATransactionHoldsNothingBeforeItsFirstStatement(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		for range 40 { // more than there are connections
			_, idle, err := db.Begin(t.Context())
			require.NoError(t, err)
			require.True(t, idle.Unused())
			defer func() { require.NoError(t, idle.End(t.Context(), nil)) }()
		}
		ctx, tx, err := db.Begin(t.Context())
		require.NoError(t, err)
		_, err = store.Build(tx).Add("SELECT 1").Exec(ctx, tx)
		require.NoError(t, err)
		require.False(t, tx.Unused())
		var order []string
		tx.AfterEnd(func(bool) { order = append(order, "told") })
		tx.Free(func() { order = append(order, "freed") })
		require.NoError(t, tx.End(ctx, nil))
		require.Equal(t, []string{"freed", "told"}, order)
		_, err = store.Build(tx).Add("SELECT 1").Exec(ctx, tx)
		require.Error(t, err, "it has ended")
	})
}
