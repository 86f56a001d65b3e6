package live_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/live"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// process is one of those that share a database.
type process struct {
	t      *testing.T
	db     *store.DB
	feed   *live.Feed
	audit  *audit.Log
	tenant gid.ID
}

func each(t *testing.T, test func(t *testing.T, here, there *process)) {
	t.Helper()
	for name, open := range map[string]func(testing.TB, ...store.Option) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, tenant := open(t), gid.New(gid.Tenant)
			keys, err := audit.NewKeys([]byte(strings.Repeat("k", audit.KeySize)))
			require.NoError(t, err)
			start := func() *process {
				listening := make(chan struct{})
				feed := live.New(db, slog.New(slog.DiscardHandler)).Blind(sync.OnceFunc(func() { close(listening) }))
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- feed.Run(ctx) }()
				t.Cleanup(func() {
					stop()
					require.NoError(t, <-ended)
				})
				if db.Notifies() {
					<-listening
				}
				return &process{t, db, feed, audit.New(keys).Feeding(feed), tenant}
			}
			test(t, start(), start())
		})
	}
}

var errUndone = errors.New("undone")

// write writes events of records, which it answers.
func (p *process) write(fail error, actions ...string) []gid.ID {
	p.t.Helper()
	records := make([]gid.ID, len(actions))
	ctx := actor.With(p.t.Context(), actor.ForSystem(p.tenant))
	err := p.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		for i, action := range actions {
			records[i] = gid.New(gid.Task)
			if err := p.audit.Append(ctx, tx, audit.Event{Action: action, RecordID: &records[i], RecordType: "Task", From: lifecycle.Active, To: lifecycle.Deleted, Version: 2}); err != nil {
				return err
			}
		}
		return errors.Join(p.audit.Flush(ctx, tx), fail)
	})
	require.ErrorIs(p.t, err, fail)
	return records
}

func (p *process) changes() *live.Changes {
	p.t.Helper()
	c, err := p.feed.Changes(p.t.Context(), p.tenant)
	require.NoError(p.t, err)
	p.t.Cleanup(c.Close)
	return c
}

func (p *process) look() {
	p.t.Helper()
	require.NoError(p.t, p.feed.Look(p.t.Context()))
}

// next are the records of the changes that come next.
func next(t *testing.T, c *live.Changes) []gid.ID {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	changes, err := c.Next(ctx)
	require.NoError(t, err)
	records := make([]gid.ID, len(changes))
	for i, change := range changes {
		records[i] = change.Record
		require.Equal(t, lifecycle.Deleted, *change.To)
	}
	return records
}

// nothing insists that no change waits.
func nothing(t *testing.T, c *live.Changes) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	changes, err := c.Next(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, changes)
}

func TestWhatIsCommittedIsToldOnceInItsOrder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, here, _ *process) {
		here.write(nil, "CREATE") // before anybody waits
		c := here.changes()
		first := here.write(nil, "UPDATE", "DELETE")
		here.write(errUndone, "DELETE")
		here.write(nil, "DOWNLOAD") // which changes nothing
		second := here.write(nil, "PURGE")
		here.look() // finds nothing more
		require.Equal(t, append(first, second...), next(t, c), "who comes late takes more at a time")
		nothing(t, c)
		third := here.write(nil, "VOID")
		require.Equal(t, third, next(t, c))
	})
}

func TestWhatAnotherProcessCommitsIsFound(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, here, there *process) {
		c := here.changes()
		other := here.changes()
		records := there.write(nil, "UPDATE", "DELETE", "VOID")
		if !here.db.Notifies() {
			nothing(t, c)
			here.look()
		}
		require.Equal(t, records, next(t, c))
		require.Equal(t, records, next(t, other))
		here.look()
		here.look()
		nothing(t, c)
	})
}

// What nobody announced, because its process was killed, is found in the log; what is
// announced after it was found there is not told again.
func TestWhatNobodyToldOfIsFoundInTheLog(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, here, there *process) {
		c := here.changes()
		there.audit = audit.New(here.keys()) // without a feed
		mine := here.write(nil, "UPDATE")
		silent := there.write(nil, "DELETE", "DELETE")
		require.Equal(t, mine, next(t, c))
		nothing(t, c)
		here.look()
		require.Equal(t, silent, next(t, c))
		here.look()
		nothing(t, c)
	})
}

func (p *process) keys() *audit.Keys { return p.audit.Keys() }

func TestOthersTenantsAreNotHeardOf(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, here, there *process) {
		c := here.changes()
		there.tenant = gid.New(gid.Tenant)
		there.write(nil, "DELETE")
		here.look()
		nothing(t, c)
	})
}

func TestWhoIsTooFarBehindIsTold(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, here, _ *process) {
		c := here.changes()
		for range live.MaxWaiting + 1 {
			here.write(nil, "UPDATE")
		}
		_, err := c.Next(t.Context())
		require.ErrorIs(t, err, live.ErrLost)
	})
}

func TestTopicsAreSignalledAcrossProcesses(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, here, there *process) {
		topic := gid.New(gid.Operation)
		signal, end := here.feed.Signal(topic)
		t.Cleanup(end)
		raised := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			return signal.Wait(ctx)
		}
		touch := func(p *process, fail error) {
			err := p.db.InTx(t.Context(), func(_ context.Context, tx *store.Tx) error {
				p.feed.Touch(tx, topic)
				return fail
			})
			require.ErrorIs(t, err, fail)
		}
		touch(here, nil)
		require.NoError(t, raised())
		if here.db.Notifies() {
			touch(there, nil)
			require.NoError(t, raised())
		}
		ctx := actor.With(t.Context(), actor.ForSystem(here.tenant))
		require.NoError(t, here.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
			return here.audit.Append(ctx, tx, audit.Event{Action: "QUEUE", Operation: &topic})
		}))
		require.NoError(t, raised())
		touch(here, errUndone)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, signal.Wait(ctx), context.DeadlineExceeded)
	})
}

// What nobody told of is found, for all that wait with one statement for each kind.
func TestNotificationsThatNobodyToldOfAreFound(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, here, _ *process) {
		user := gid.New(gid.User)
		for _, statement := range []struct {
			text string
			args []any
		}{
			{`INSERT INTO tenants (id, name, bin_days, created_at) VALUES (?, 'acme', 30, ?)`, []any{here.tenant, here.db.Now()}},
			{`INSERT INTO users (id, tenant_id, email, email_key, name, active, created_at) VALUES (?, ?, 'a', 'a', 'a', ?, ?)`, []any{user, here.tenant, true, here.db.Now()}},
		} {
			_, err := store.Build(here.db).Add(statement.text, statement.args...).Exec(t.Context(), here.db)
			require.NoError(t, err)
		}
		signal, end := here.feed.Signal(user)
		t.Cleanup(end)
		raised := func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			return signal.Wait(ctx) == nil
		}
		here.look()
		require.False(t, raised(), "there is nothing")
		_, err := store.Build(here.db).Add(`INSERT INTO notifications (id, tenant_id, fact_id, user_id, kind, at, records) VALUES (?, ?, ?, ?, 'ALERT', ?, 0)`,
			gid.New(gid.Notification), here.tenant, gid.New(gid.Event), user, here.db.Now()).Exec(t.Context(), here.db)
		require.NoError(t, err)
		here.look()
		require.True(t, raised())
		here.look()
		require.False(t, raised(), "there is nothing new")
	})
}

// Those who come while it is found out what is no news wait for that; nobody misses
// what is committed once he is told that he waits.
func TestAllWhoComeAtOnceHearTheSame(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, here, there *process) {
		here.write(nil, "CREATE")
		readers := make(chan *live.Changes, 20)
		for range cap(readers) {
			go func() {
				c, err := here.feed.Changes(t.Context(), here.tenant)
				if err != nil {
					t.Error(err)
				}
				readers <- c
			}()
		}
		var all []*live.Changes
		for range cap(readers) {
			c := <-readers
			t.Cleanup(c.Close)
			all = append(all, c)
			here.look()
		}
		records := there.write(nil, "DELETE")
		here.look()
		for _, c := range all {
			require.Equal(t, records, next(t, c))
		}
	})
}
