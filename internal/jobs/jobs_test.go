package jobs_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

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
	c.Rules = func(context.Context) error { return nil }
	if c.Sweep == nil {
		c.Sweep = func(context.Context) error { return nil }
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
		c := jobs.Config{DB: db, Every: time.Second, Work: func(context.Context, gid.ID, gid.ID) error { return nil }, Sweep: func(context.Context) error {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
			swept <- struct{}{}
			return nil
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

func TestTheSpanOfAJobPointsToTheRequestThatAskedForIt(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB) {
		kept := tracetest.NewInMemoryExporter()
		tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)).Tracer("test")
		ended := make(chan string, 10)
		r := running(t, jobs.Config{
			DB: db, Tracer: tracer, Work: func(context.Context, gid.ID, gid.ID) error { return nil }, Export: func(context.Context, gid.ID, gid.ID) error { return nil },
			Ended: func(kind, result string, took time.Duration) {
				if kind != "sweep" && kind != "retention" {
					ended <- kind + " " + result
				}
			},
		})
		ctx, request := tracer.Start(t.Context(), "request")
		defer request.End()
		require.NoError(t, db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
			return r.Enqueue(ctx, tx, gid.New(gid.Tenant), gid.New(gid.Operation))
		}))
		require.Equal(t, "operation done", <-ended)
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			return r.EnqueueExport(ctx, tx, gid.New(gid.Tenant), gid.New(gid.Export))
		}))
		require.Equal(t, "export done", <-ended)
		// A span is kept once it has ended, which is after that was told.
		find := func(name string) (found tracetest.SpanStub) {
			require.Eventually(t, func() bool {
				for _, s := range kept.GetSpans() {
					if s.Name == name {
						found = s
						return true
					}
				}
				return false
			}, 10*time.Second, 5*time.Millisecond)
			return found
		}
		operation := find("job operation")
		require.False(t, operation.Parent.IsValid(), "it has a trace of its own")
		require.Len(t, operation.Links, 1)
		require.Equal(t, request.SpanContext().SpanID(), operation.Links[0].SpanContext.SpanID())
		require.Empty(t, find("job export").Links)
	})
}

func TestASweepThatFailsIsCountedAndComesAgain(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB) {
		var tried atomic.Bool
		ended := make(chan string, 100)
		running(t, jobs.Config{
			DB: db, Every: time.Second, Sweep: func(context.Context) error {
				if !tried.Swap(true) {
					return errors.New("the database went away")
				}
				return nil
			},
			Ended: func(kind, result string, _ time.Duration) {
				if kind == "sweep" {
					ended <- result
				}
			},
		})
		require.Equal(t, "failed", <-ended)
		require.Equal(t, "done", <-ended)
	})
}

func TestHowJobsEndIsTold(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB) {
		ended, hold := make(chan string, 10), make(chan struct{})
		var tried atomic.Bool
		r := running(t, jobs.Config{
			DB: db,
			Work: func(context.Context, gid.ID, gid.ID) error {
				if !tried.Swap(true) {
					return errors.New("the database went away")
				}
				<-hold
				return nil
			},
			Ended: func(kind, result string, took time.Duration) {
				require.Contains(t, jobs.Kinds(), kind)
				require.Contains(t, jobs.Results(), result)
				require.GreaterOrEqual(t, took, time.Duration(0))
				if kind == "operation" {
					ended <- result
				}
			},
		})
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			return r.Enqueue(ctx, tx, gid.New(gid.Tenant), gid.New(gid.Operation))
		}))
		require.Equal(t, "failed", <-ended)
		depth := func(running bool) (n int) {
			depths, err := r.Depths(t.Context())
			require.NoError(t, err)
			for _, d := range depths {
				if d.Kind == "operation" && d.Running == running {
					n += d.Jobs
				}
			}
			return n
		}
		require.Eventually(t, func() bool { return depth(true) == 1 }, 30*time.Second, 20*time.Millisecond, "it is tried again")
		require.Zero(t, depth(false))
		close(hold)
		require.Equal(t, "done", <-ended)
		require.Eventually(t, func() bool { return depth(true)+depth(false) == 0 }, 10*time.Second, 20*time.Millisecond)
	})
}
