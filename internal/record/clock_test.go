package record_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent/message"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

func TestAScheduledOperationIsReadAnewByEachTry(t *testing.T) {
	each(t, func(w *world) {
		schedule := func(name string) (gid.ID, gid.ID) {
			c := w.customer("agent", name)
			return c, w.run("agent", w.later(record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{c}}})).ID
		}
		c, op := schedule("called off between")
		w.clock.add(time.Hour)
		require.NoError(w.t, w.svc.LoseAndRetry(w.as("agent"), op, func() {
			_, err := w.svc.Cancel(w.as("agent"), op)
			require.NoError(w.t, err)
		}))
		require.Equal(w.t, "CANCELLED", string(w.operation(op).Status))
		require.Equal(w.t, lifecycle.Active, w.state(c))

		c, op = schedule("run by another between")
		w.clock.add(time.Hour)
		require.NoError(w.t, w.svc.LoseAndRetry(w.as("agent"), op, func() { w.runsScheduled(1) }))
		require.Equal(w.t, map[gid.ID]string{c: "CHANGED"}, w.outcomes(w.operation(op)))
		require.Equal(w.t, "CHANGED", w.outcomes(w.restore("agent", c))[c])
		w.eventsMatchChanges()
	})
}

func TestTheBrakeCountsWhatWasPutOffWhenItRuns(t *testing.T) {
	each(t, func(w *world) {
		w.caps(nil, nil, 2, nil)
		ids := w.people("agent", "x", 6)
		at := w.clock.now().Add(25 * time.Hour)
		for i := 0; i < 6; i += 2 {
			w.run("agent", record.Request{RunAt: &at, Verb: lifecycle.Delete, Select: record.Selection{IDs: ids[i : i+2]}})
		}
		w.clock.add(26 * time.Hour)
		w.runsScheduled(3)
		require.Equal(w.t, []string{"PAUSED", "PAUSED", "SUCCEEDED"}, w.rows(`SELECT status FROM operations ORDER BY status`))
		require.Equal(w.t, []string{"2"}, w.rows(`SELECT COUNT(*) FROM customers WHERE state = 'DELETED'`))
		require.Equal(w.t, []string{"BRAKE LIMIT", "BRAKE LIMIT"}, w.rows(`SELECT action || ' ' || code FROM audit_events WHERE code IS NOT NULL`), "one event each")
	})
}

func TestTheSameRequestIsTheSameWhenItsTimesHavePassed(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		off := w.later(record.Request{Verb: lifecycle.Delete, IdempotencyKey: "k", Select: record.Selection{IDs: []gid.ID{c}}})
		asleep := w.suspension("", w.customer("agent", "b"))
		asleep.IdempotencyKey = "s"
		first, second := w.run("agent", off), w.run("agent", asleep)
		w.clock.add(2 * time.Hour)
		require.Equal(w.t, first.ID, w.run("agent", off).ID)
		require.Equal(w.t, second.ID, w.run("agent", asleep).ID)
	})
}

func TestAFailureOfAMomentEndsNoScheduledOperation(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		op := w.run("agent", w.later(record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{c}}}))
		w.clock.add(time.Hour)
		_, err := w.svc.RunScheduled(w.t.Context(), func(context.Context, gid.ID, gid.ID) (*actor.Actor, error) {
			return nil, errors.New("the connection was reset")
		})
		require.Error(w.t, err)
		require.Equal(w.t, "SCHEDULED", string(w.operation(op.ID).Status))
		w.runsScheduled(1)
		require.Equal(w.t, lifecycle.Deleted, w.state(c))
	})
}

func TestWhatCannotRunHoldsUpNothingElse(t *testing.T) {
	each(t, func(w *world) {
		var ids []gid.ID
		for range 101 { // a page of those that cannot, and one that can
			c := w.create("agent", "Task", record.Values{"title": "t"}).RecordID()
			ids = append(ids, w.run("agent", w.later(record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{c}}})).ID)
		}
		w.exec(`UPDATE operations SET request = ? WHERE id <> ?`, []byte("no JSON"), ids[100])
		w.clock.add(2 * time.Hour)
		n, err := w.svc.RunScheduled(w.t.Context(), w.actAs())
		require.Error(w.t, err)
		require.Equal(w.t, 1, n)
		require.Equal(w.t, "SUCCEEDED", string(w.operation(ids[100]).Status))
	})
}

func TestARefusedCancellationIsLogged(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		op := w.run("agent", w.later(record.Request{Verb: lifecycle.Delete, Mode: record.BestEffort, Select: record.Selection{IDs: []gid.ID{c, c, gid.New(gid.Customer)}}}))
		_, err := w.svc.Cancel(w.as("purger"), op.ID)
		require.Equal(w.t, lifecycle.Forbidden, code(err))
		require.Equal(w.t, []string{"CANCEL FORBIDDEN"}, w.rows(`SELECT action || ' ' || code FROM audit_events WHERE outcome = 'REFUSED'`))
		_, err = w.svc.Cancel(w.as("manager"), op.ID)
		require.NoError(w.t, err, "an id given twice, and one of nothing, keep nobody from it")
	})
}

func TestASuspensionTooLargeForOneOperationEndsByHalves(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.customer("agent", "a"), w.customer("agent", "b")
		for _, c := range []gid.ID{a, b} {
			rows := make([]record.Values, 600)
			for i := range rows {
				rows[i] = record.Values{"customerID": c, "body": fmt.Sprint(i), "happenedAt": w.db.Now()}
			}
			_, errs, err := w.svc.CreateMany(w.as("agent"), "Note", rows)
			require.NoError(w.t, errors.Join(append(errs, err)...))
		}
		w.run("agent", w.suspension(record.ThenDelete, a, b))
		w.clock.add(2 * time.Hour)
		w.wakes(1202)
		require.Equal(w.t, []lifecycle.State{"DELETED", "DELETED"}, w.states(a, b))
	})
}

func TestEachRecordWakesAtItsOwnTime(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		m := w.message("agent", c, "m")
		w.run("agent", w.suspension("", c, m))
		longer := w.suspension("", m)
		later := longer.Until.Add(48 * time.Hour)
		longer.Until = &later
		w.run("agent", longer)
		w.clock.add(2 * time.Hour)
		w.wakes(1)
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "SUSPENDED"}, w.states(c, m))
	})
}

func TestWhatMayNotWakeLeavesNothingBehindEachTime(t *testing.T) {
	each(t, func(w *world) {
		m := w.create("agent", "Message", record.Values{"subject": "s", "direction": message.DirectionINBOUND, "sentAt": w.db.Now()}).RecordID()
		other := w.customer("agent", "wakes all the same")
		w.run("agent", w.suspension(record.ThenDelete, m, other))
		tenant := w.tenant.String()
		w.policy.replace(w.tenant, append(w.policy.rules[tenant],
			casbin.Permission("user:system", tenant, "Message", "*", "deny", "any")))
		require.NoError(w.t, w.control.Refresh(w.t.Context(), w.tenant))
		w.clock.add(2 * time.Hour)
		count := func() []string {
			return w.rows(`SELECT (SELECT COUNT(*) FROM operations) + (SELECT COUNT(*) FROM audit_events)`)
		}
		_, err := w.svc.Wake(w.everything())
		require.ErrorContains(w.t, err, "may not be restored")
		require.Equal(w.t, []lifecycle.State{"SUSPENDED", "DELETED"}, w.states(m, other))
		before := count()
		for range 3 {
			_, err = w.svc.Wake(w.everything())
			require.Error(w.t, err)
		}
		require.Equal(w.t, before, count())
	})
}
