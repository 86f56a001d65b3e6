package jobs_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/jobs"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func each(t *testing.T, test func(t *testing.T, db *store.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, storetest.SQLite(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, storetest.Postgres(t))
	})
}

// running starts a queue, which ends with the test.
func running(t *testing.T, c jobs.Config) *jobs.Runner {
	t.Helper()
	c.Log = slog.New(slog.DiscardHandler)
	if c.Every == 0 {
		c.Every = time.Hour
	}
	c.Rules = func(context.Context) {}
	if c.Sweep == nil {
		c.Sweep = func(context.Context) {}
	}
	r, err := jobs.New(t.Context(), c)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return r
}

func TestAnOperationIsWorkedOnOnceItsTransactionIsCommitted(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB) {
		worked := make(chan gid.ID, 10)
		r := running(t, jobs.Config{DB: db, Work: func(_ context.Context, _, op gid.ID) error { worked <- op; return nil }})
		enqueue := func(end error) gid.ID {
			id := gid.New(gid.Operation)
			err := db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				if err := r.Enqueue(ctx, tx, gid.New(gid.Tenant), id); err != nil {
					return err
				}
				select {
				case <-worked:
					t.Error("it was worked on before it was there")
				case <-time.After(50 * time.Millisecond):
				}
				return end
			})
			require.ErrorIs(t, err, end)
			return id
		}
		enqueue(errors.New("rolled back"))
		require.Equal(t, enqueue(nil), <-worked)
		select {
		case id := <-worked:
			t.Errorf("%s was worked on, too", id)
		case <-time.After(300 * time.Millisecond):
		}
	})
}

func TestWorkThatFailsIsTriedAgain(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB) {
		var mu sync.Mutex
		tries := 0
		done := make(chan struct{})
		r := running(t, jobs.Config{DB: db, Work: func(context.Context, gid.ID, gid.ID) error {
			mu.Lock()
			defer mu.Unlock()
			if tries++; tries == 1 {
				return errors.New("the database went away")
			}
			close(done)
			return nil
		}, GiveUp: func(context.Context, gid.ID, gid.ID) error {
			t.Error("it was given up")
			return nil
		}})
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			return r.Enqueue(ctx, tx, gid.New(gid.Tenant), gid.New(gid.Operation))
		}))
		<-done
	})
}

func TestOneProcessSweepsAtATime(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB) {
		var mu sync.Mutex
		now, most, swept := 0, 0, make(chan struct{}, 100)
		c := jobs.Config{DB: db, Every: time.Second, Work: func(context.Context, gid.ID, gid.ID) error { return nil }, Sweep: func(context.Context) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
			swept <- struct{}{}
		}}
		running(t, c)
		if db.Dialect() == "postgres" { // SQLite is for one process
			running(t, c)
		}
		for range 3 {
			<-swept
		}
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, 1, most)
	})
}
