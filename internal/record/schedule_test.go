package record_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// later puts a request off by an hour.
func (w *world) later(req record.Request) record.Request {
	at := w.clock.now().Add(time.Hour)
	req.RunAt = &at
	return req
}

// actAs answers the users of the world; those who left are an error.
func (w *world) actAs(left ...string) record.ActAs {
	return func(_ context.Context, tenant, user gid.ID) (*actor.Actor, error) {
		for name, id := range w.users {
			if id != user {
				continue
			}
			if slices.Contains(left, name) {
				return nil, record.ErrLeft
			}
			a := *actor.From(w.as(name))
			if a.Tenant != tenant {
				return nil, errors.New("of another tenant")
			}
			return &a, nil
		}
		return nil, errors.New("nobody")
	}
}

func (w *world) runsScheduled(want int, left ...string) {
	w.t.Helper()
	n, err := w.svc.RunScheduled(w.t.Context(), w.actAs(left...))
	require.NoError(w.t, err)
	require.Equal(w.t, want, n)
}

func (w *world) operation(id gid.ID) *ent.Operation {
	w.t.Helper()
	op, err := w.svc.Client(w.everything()).Operation.Get(w.everything(), id)
	require.NoError(w.t, err)
	return op
}

func TestAScheduledOperationLeavesRecordsAsTheyAreUntilItRuns(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		m := w.message("agent", c, "m")
		op := w.run("agent", w.later(record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{c}}, Reason: "later"}))
		require.Equal(w.t, "SCHEDULED", string(op.Status))
		require.Equal(w.t, []any{1, 0, 0}, []any{op.Total, op.Processed, op.Changed})
		require.Equal(w.t, map[gid.ID]string{c: "NOT_PROCESSED"}, w.outcomes(op))
		require.Nil(w.t, op.FinishedAt)
		w.runsScheduled(0)
		_, err := w.svc.Update(w.as("agent"), c, 1, record.Values{"name": "still editable"})
		require.NoError(w.t, err)
		w.clock.add(time.Hour)
		w.runsScheduled(1)
		require.Equal(w.t, []lifecycle.State{"DELETED", "DELETED"}, w.states(c, m))
		after := w.operation(op.ID)
		require.Equal(w.t, []any{"SUCCEEDED", 2, 2, 2}, []any{string(after.Status), after.Total, after.Processed, after.Changed})
		require.Equal(w.t, map[gid.ID]string{c: "CHANGED", m: "CHANGED along"}, w.outcomes(after))
		require.NotNil(w.t, after.FinishedAt)
		require.True(w.t, op.RunAt.Equal(*after.RunAt))
		require.Nil(w.t, after.Request, "what it was asked with is kept no longer than needed")
		require.Equal(w.t, op.ID, w.get(c).Column("operation_id"))
		require.Equal(w.t, "later", w.get(c).Column("state_reason"))
		w.runsScheduled(0)
		undone, err := w.svc.Undo(w.as("agent"), op.ID, record.Request{})
		require.NoError(w.t, err)
		require.Equal(w.t, 2, undone.Changed)
		require.Equal(w.t, []string{"1"}, w.rows(`SELECT COUNT(*) FROM audit_events WHERE action = 'SCHEDULE'`))
		w.eventsMatchChanges()
	})
}

func TestAScheduledOperationIsJudgedWhenItRuns(t *testing.T) {
	each(t, func(w *world) {
		mine, taken, moved, gone := w.customer("agent", "mine"), w.customer("agent", "taken"), w.customer("agent", "moved"), w.customer("agent", "gone")
		op := w.run("agent", w.later(record.Request{Verb: lifecycle.Delete, Mode: record.BestEffort, Select: record.Selection{Versions: []record.Version{
			{ID: mine, Version: 1}, {ID: taken, Version: 1}, {ID: moved, Version: 1}, {ID: gone, Version: 1},
		}}}))
		w.exec(`UPDATE customers SET owner_id = ? WHERE id = ?`, w.users["manager"], taken)
		_, err := w.svc.Update(w.as("agent"), moved, 1, record.Values{"name": "x"})
		require.NoError(w.t, err)
		w.delete("agent", gone)
		w.purge("purger", gone)
		w.clock.add(time.Hour)
		w.runsScheduled(1)
		after := w.operation(op.ID)
		require.Equal(w.t, "PARTIAL", string(after.Status))
		require.Equal(w.t, map[gid.ID]string{mine: "CHANGED", taken: "FAILED FORBIDDEN", moved: "FAILED CONFLICT", gone: "FAILED NOT_FOUND"}, w.outcomes(after))
	})
}

func TestWhatIsRefusedAsAWholeFails(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.customer("agent", "a"), w.customer("agent", "b")
		left := w.run("agent", w.later(record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{a}}}))
		w.clock.add(time.Hour)
		w.runsScheduled(1, "agent")
		require.Equal(w.t, []any{"FAILED", 1, 1}, []any{string(w.operation(left.ID).Status), w.operation(left.ID).Failed, w.operation(left.ID).Processed})
		require.Equal(w.t, map[gid.ID]string{a: "FAILED FORBIDDEN"}, w.outcomes(left))
		require.Equal(w.t, lifecycle.Active, w.state(a))

		// Its owner may do nothing any more when its time has come.
		revoked := w.run("agent", w.later(record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{b}}}))
		w.policy.replace(w.tenant, nil)
		require.NoError(w.t, w.control.Refresh(w.t.Context(), w.tenant))
		w.clock.add(time.Hour)
		w.runsScheduled(1)
		require.Equal(w.t, "FAILED", string(w.operation(revoked.ID).Status))
		require.Equal(w.t, lifecycle.Active, w.state(b))
	})
}

func TestAScheduledOperationIsCancelledByWhoMay(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		schedule := func() *ent.Operation {
			return w.run("agent", w.later(record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{c}}, IdempotencyKey: "k" + gid.New(gid.Operation).String()}))
		}
		op := schedule()
		for who, want := range map[string]lifecycle.Code{"agent2": lifecycle.NotFound, "viewer": lifecycle.NotFound, "stranger": lifecycle.NotFound, "purger": lifecycle.Forbidden} {
			_, err := w.svc.Cancel(w.as(who), op.ID)
			require.Equal(w.t, want, code(err), who)
		}
		for _, who := range []string{"agent", "manager"} {
			op := schedule()
			got, err := w.svc.Cancel(w.as(who), op.ID)
			require.NoError(w.t, err, who)
			require.Equal(w.t, []any{"CANCELLED", 1, 1}, []any{string(got.Status), got.Total, got.Processed})
			_, err = w.svc.Cancel(w.as(who), op.ID)
			require.Equal(w.t, lifecycle.IllegalTransition, code(err))
		}
		w.clock.add(time.Hour)
		w.runsScheduled(1)
		require.Equal(w.t, lifecycle.Deleted, w.state(c))
		_, err := w.svc.Cancel(w.as("agent"), op.ID)
		require.Equal(w.t, lifecycle.IllegalTransition, code(err), "it has run")
		require.Equal(w.t, []string{"2"}, w.rows(`SELECT COUNT(*) FROM audit_events WHERE action = 'CANCEL' AND outcome = 'SUCCEEDED'`))
	})
}

func TestAScheduledOperationRunsOnce(t *testing.T) {
	each(t, func(w *world) {
		var list []gid.ID
		for range 8 {
			c := w.customer("agent", string(rune('a'+len(list))))
			list = append(list, c)
			w.run("agent", w.later(record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{c}}}))
		}
		w.clock.add(time.Hour)
		var wg sync.WaitGroup
		ran := make([]int, 4)
		for i := range ran {
			wg.Go(func() {
				n, err := w.svc.RunScheduled(w.t.Context(), w.actAs())
				require.NoError(w.t, err)
				ran[i] = n
			})
		}
		wg.Wait()
		require.Equal(w.t, 8, ran[0]+ran[1]+ran[2]+ran[3])
		for _, c := range list {
			require.Equal(w.t, lifecycle.Deleted, w.state(c))
		}
		require.Equal(w.t, []string{"8"}, w.rows(`SELECT COUNT(*) FROM audit_events WHERE action = 'DELETE'`))
		w.eventsMatchChanges()
	})
}

func TestWhatCannotBePutOffIsRefused(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		past := w.clock.now().Add(-time.Second)
		_, err := w.svc.Run(w.as("agent"), record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{c}}, RunAt: &past})
		require.Equal(w.t, lifecycle.BadUserInput, code(err))
		op := w.delete("agent", c)
		_, err = w.svc.Undo(w.as("agent"), op.ID, w.later(record.Request{}))
		require.Equal(w.t, lifecycle.BadUserInput, code(err))
		suspend := w.later(w.suspension("", w.customer("agent", "b")))
		_, err = w.svc.Run(w.as("agent"), suspend)
		require.Equal(w.t, lifecycle.BadUserInput, code(err), "it would end before it begins")
		_, err = w.svc.Run(w.as("viewer"), w.later(record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{c}}}))
		require.Equal(w.t, lifecycle.Forbidden, code(err), "what could never be allowed is refused now")
	})
}
