package record_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
	"github.com/lethe-crm/lethe/internal/visible"
)

// Documents whose refusal is written after their end gave room back after that,
// while somebody with the right to write waited for room.
func TestRefusalsDoNotHoldRoomWhileTheyAreWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.SQLite)
	large := func(ctx context.Context) error {
		ids := make([]gid.ID, record.MaxRows)
		for i := range ids {
			ids[i] = gid.New(gid.Customer)
		}
		_, err := w.svc.Run(ctx, record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids}})
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	as := func(name string) context.Context { return actor.With(ctx, actor.From(w.as(name))) }
	ended := make(chan error)
	for range 8 {
		go func() {
			ended <- w.db.InTx(as("viewer"), func(ctx context.Context, _ *store.Tx) error {
				_, refused := w.svc.Create(ctx, "Customer", record.Values{"name": "x"})
				_ = large(ctx)
				return refused
			})
		}()
		go func() { ended <- large(as("agent")) }()
	}
	for range 16 {
		require.NotErrorIs(t, <-ended, context.DeadlineExceeded)
	}
}

func TestAFilterIsAskedAgainWithTheLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.Postgres) // SQLite has nobody who changes a row meanwhile
	c, one := w.customer("manager", "a"), 1
	changed, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- w.db.InTx(w.as("manager"), func(ctx context.Context, _ *store.Tx) error {
			_, err := w.svc.Update(ctx, c, 1, record.Values{"name": "precious"})
			close(changed)
			<-goOn
			return err
		})
	}()
	<-changed
	time.AfterFunc(300*time.Millisecond, func() { close(goOn) })
	op := w.run("manager", record.Request{Verb: lifecycle.Delete, ExpectedCount: &one, Select: record.Selection{Filter: &record.Filter{
		Type: "Customer", Comparisons: 1, Where: func(s *sql.Selector) { s.Where(sql.EQ(s.C("name"), "a")) },
	}}})
	require.NoError(t, <-done)
	require.Equal(t, map[gid.ID]string{c: "FAILED CONFLICT"}, w.outcomes(op))
	require.Equal(t, lifecycle.Active, w.state(c))
}

func TestTheSweeperGoesOnPastWhatIsTooLarge(t *testing.T) {
	each(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		// Two voided orphans with more below them, together, than one operation takes.
		c := w.customer("admin", "a")
		var messages []gid.ID
		for i := range 2 {
			m := w.message("admin", c, fmt.Sprint("m", i))
			messages = append(messages, m)
			var rows []record.Values
			for j := range 600 {
				rows = append(rows, record.Values{"filename": fmt.Sprint("f", j), "messageID": m})
			}
			_, errs, err := w.svc.CreateMany(w.as("admin"), "Attachment", rows)
			require.NoError(w.t, err)
			for _, err := range errs {
				require.NoError(w.t, err)
			}
			require.Equal(w.t, 601, w.void("admin", m).Changed)
		}
		w.delete("admin", c)
		w.purge("purger", c)
		other := w.customer("admin", "unrelated")
		w.delete("admin", other)
		w.clock.add(40 * 24 * time.Hour)
		purged, err := w.svc.Sweep(w.everything())
		require.NoError(w.t, err)
		require.Equal(w.t, 1203, purged)
		require.Equal(w.t, []lifecycle.State{"", "", ""}, w.states(messages[0], messages[1], other))
	})
}

func TestATombstoneTellsWhatTheSameDocumentDid(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("admin", "a")
		require.NoError(w.t, w.db.InTx(w.as("admin"), func(ctx context.Context, _ *store.Tx) error {
			if _, err := w.svc.Run(ctx, record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{c}}}); err != nil {
				return err
			}
			ctx = actor.With(ctx, actor.From(w.as("purger")))
			ctx = visible.With(ctx, w.svc.Rows(ctx))
			_, err := w.svc.Run(ctx, record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: []gid.ID{c}}})
			return err
		}))
		history := w.rows(`SELECT history FROM tombstones WHERE record_id = ?`, c)
		require.Len(w.t, history, 1)
		require.Contains(w.t, history[0], "CREATE")
		require.Contains(w.t, history[0], "DELETE")
		require.NotContains(w.t, history[0], "PURGE")
	})
}

func TestAnOwnerOfTwoPicksComesBackForEither(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("admin", "c")
		m := w.message("admin", c, "m")
		a := w.create("admin", "Attachment", record.Values{"filename": "f", "messageID": m}).RecordID()
		call := w.create("admin", "Call", record.Values{"startedAt": w.db.Now(), "externalID": "x", "customerID": c}).RecordID()
		w.delete("admin", m)
		w.delete("admin", c)
		w.create("admin", "Call", record.Values{"startedAt": w.db.Now(), "externalID": "x"})
		op := w.run("admin", record.Request{Verb: lifecycle.Restore, Mode: record.BestEffort, WithAncestors: true, Select: record.Selection{IDs: []gid.ID{a, call}}})
		require.Equal(w.t, "FAILED UNIQUE_CONFLICT", w.outcomes(op)[call])
		require.Equal(w.t, "CHANGED", w.outcomes(op)[a])
	})
}

func TestUndoTellsNothingOfWhatIsHidden(t *testing.T) {
	each(t, func(w *world) {
		mine := w.create("admin", "Customer", record.Values{"name": "a", "ownerID": w.users["agent"], "teamID": w.sales}).RecordID()
		hidden := w.create("admin", "Customer", record.Values{"name": "b", "ownerID": w.users["agent2"], "teamID": w.support}).RecordID()
		op := w.delete("admin", mine, hidden)
		undone, err := w.svc.Undo(w.as("manager"), op.ID, record.Request{})
		require.NoError(w.t, err)
		require.Equal(w.t, map[gid.ID]string{mine: "CHANGED"}, w.outcomes(undone))
		require.Equal(w.t, 1, undone.Total)
		require.Equal(w.t, lifecycle.Deleted, w.state(hidden))
	})
}

func TestRestoringManyFoldsEachValueOnce(t *testing.T) {
	each(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		const n = 600 // one after the other against each other took a minute
		var rows []record.Values
		for i := range n {
			rows = append(rows, record.Values{"name": "x", "domain": fmt.Sprintf("пример-%d.рф", i), "email": fmt.Sprintf("имя@пример-%d.рф", i)})
		}
		made, errs, err := w.svc.CreateMany(w.as("admin"), "Customer", rows)
		require.NoError(w.t, err)
		ids := make([]gid.ID, n)
		for i := range made {
			require.NoError(w.t, errs[i])
			ids[i] = made[i].RecordID()
		}
		w.delete("admin", ids...)
		require.Equal(w.t, n, w.restore("admin", ids...).Changed)
	})
}
