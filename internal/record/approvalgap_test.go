package record_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent/approval"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// notes are some of a customer.
func (w *world) notes(as string, customer gid.ID, n int) []gid.ID {
	w.t.Helper()
	return w.many(as, "Note", n, func(int) record.Values {
		return record.Values{"body": "a note", "happenedAt": w.db.Now(), "customerID": customer}
	})
}

// What comes along counts, however much it is.
func TestAJobOfFewPicksAsksForAllThatComesAlong(t *testing.T) {
	each(t, func(w *world) {
		w.asks()
		w.caps(nil, nil, nil, nil)
		w.svc.Resize(150, 75, 1_000)
		c := w.customer("agent", "large")
		w.notes("agent", c, 200)
		w.delete("agent", c)
		w.works()
		req := record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: []gid.ID{c}}}
		require.True(w.t, w.preview("purger", req).NeedsApproval)
		op := w.run("purger", req)
		require.Equal(w.t, []string{"PENDING_APPROVAL", "PENDING"}, w.status(op))
		require.Equal(w.t, 0, w.works())
		w.approves("admin", op)
		w.runsApproved(1)
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", 201, 201, 201, 0, 0}, w.counters(op.ID))
		require.Equal(w.t, []string{"DONE"}, w.rows(`SELECT status FROM approvals`))
	})
}

// Of a selection that is too large to plan, what comes along is found batch by batch.
func TestAJobAsksOnceTooMuchComesAlong(t *testing.T) {
	each(t, func(w *world) {
		w.asks()
		w.caps(nil, nil, nil, nil)
		w.svc.Resize(4, 2, 1_000)
		w.rule(record.Rule{Name: "many", Subject: approval.SubjectDELETE, Over: 8, Role: "manager"})
		ids := w.people("agent", "x", 6)
		for _, id := range ids {
			w.notes("agent", id, 2)
		}
		op := w.run("admin", record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids}})
		require.Equal(w.t, "QUEUED", string(op.Status))
		w.works()
		require.Equal(w.t, []string{"PENDING_APPROVAL", "PENDING"}, w.status(op))
		require.Equal(w.t, 6, w.operation(op.ID).Changed)
		require.Equal(w.t, 0, w.works())
		w.approves("manager", op)
		w.runsApproved(1)
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", 18, 18, 18, 0, 0}, w.counters(op.ID))
		require.Equal(w.t, []string{"DONE"}, w.rows(`SELECT status FROM approvals`))
	})
}

// An operation that becomes a job only when its time has come asks as any other.
func TestAScheduledOperationThatHasGrownAsks(t *testing.T) {
	each(t, func(w *world) {
		w.asks()
		w.caps(nil, nil, nil, nil)
		w.svc.Resize(150, 75, 1_000)
		c := w.customer("agent", "large")
		w.notes("agent", c, 200)
		op := w.run("purger", w.later(record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: []gid.ID{c}}}))
		require.Equal(w.t, "SCHEDULED", string(op.Status), "it is not retired: nothing would change")
		w.delete("agent", c)
		w.works()
		w.clock.add(time.Hour)
		w.runsScheduled(1)
		w.works()
		require.Equal(w.t, []string{"PENDING_APPROVAL", "PENDING"}, w.status(op))
		require.Equal(w.t, lifecycle.Deleted, w.state(c))
		w.approves("admin", op)
		w.runsApproved(1)
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", 201, 201, 201, 0, 0}, w.counters(op.ID))
	})
}

// A filter selected it, even if the request is read again when its time has come.
func TestAScheduledFilterAsksWhenItsTimeHasCome(t *testing.T) {
	each(t, func(w *world) {
		w.asks()
		w.caps(nil, nil, nil, nil)
		ids := w.binned(2)
		h := w.hold(record.Hold{}, ids...)
		req := byFilter(ids)
		req.Mode = record.BestEffort
		op := w.run("purger", w.later(req))
		require.Equal(w.t, "SCHEDULED", string(op.Status), "it would change nothing")
		w.exec(`UPDATE tenants SET hold_release_days = 0`)
		w.exec(`UPDATE legal_holds SET released_at = ? WHERE id = ?`, w.db.Now(), h)
		w.clock.add(time.Hour)
		w.runsScheduled(1)
		require.Equal(w.t, []string{"PENDING_APPROVAL", "PENDING"}, w.status(op))
		require.Equal(w.t, lifecycle.Deleted, w.state(ids[0]))
	})
}

// Deals that are picked beside their customer are open deals as well.
func TestPickingTheDealsIsNoWayAroundARule(t *testing.T) {
	each(t, func(w *world) {
		w.asks("manager2")
		c, d := w.withDeal("agent")
		req := voiding(c, d)
		req.Cascade = false
		op := w.run("manager", req)
		require.Equal(w.t, []string{"PENDING_APPROVAL", "PENDING"}, w.status(op))
		w.approves("manager2", op)
		w.runsApproved(1)
		require.Equal(w.t, []lifecycle.State{"VOIDED", "VOIDED"}, w.states(c, d))

		w.svc.Resize(4, 2, 100) // nor in a job
		c, d = w.withDeal("agent")
		w.notes("agent", c, 5)
		req = voiding(c, d)
		req.Cascade = false
		op = w.run("manager", req)
		require.Equal(w.t, "QUEUED", string(op.Status))
		w.works()
		require.Equal(w.t, []string{"PENDING_APPROVAL", "PENDING"}, w.status(op))
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "ACTIVE"}, w.states(c, d))
	})
}

// What is asked of some for another reason is not let past the brake by them.
func TestAJobThatIsPutOffAsksForTheBrakeToo(t *testing.T) {
	each(t, func(w *world) {
		w.asks()
		w.caps(10, nil, nil, nil)
		w.svc.Resize(20, 10, 100)
		w.rule(record.Rule{Name: "many", Subject: approval.SubjectDELETE, Over: 10, Role: "manager"})
		w.manyCustomers("agent", 30)
		op := w.run("agent", w.later(expecting(lifecycle.Delete, 30)))
		require.Equal(w.t, []string{"PAUSED", "PENDING"}, w.status(op))
		w.approves("manager", op)
		require.Equal(w.t, []string{"PAUSED", "PENDING"}, w.status(op), "an admin has to agree as well")
		w.approves("admin", op)
		require.Equal(w.t, []string{"APPROVED", "APPROVED"}, w.status(op))
	})
}

// To have the clock delete something is to delete it.
func TestSuspendingUntilDeletedAsksAsDeletingDoes(t *testing.T) {
	each(t, func(w *world) {
		w.asks()
		w.rule(record.Rule{Name: "customers", Subject: approval.SubjectDELETE, Type: "Customer", Role: "manager"})
		until := w.db.Now().Add(time.Minute)
		req := record.Request{Verb: lifecycle.Suspend, Until: &until, Then: record.ThenDelete, Select: record.Selection{IDs: []gid.ID{w.customer("agent", "a")}}}
		require.True(w.t, w.preview("agent", req).NeedsApproval)
		require.Equal(w.t, "PENDING_APPROVAL", string(w.run("agent", req).Status))
		req.Then = record.ThenRestore
		require.Equal(w.t, "SUCCEEDED", string(w.run("agent", req).Status))
	})
}

// What a hold has come to keep since was not agreed to be let go.
func TestAHoldThatHasGrownIsNotReleased(t *testing.T) {
	each(t, func(w *world) {
		w.asks()
		a, b := w.customer("agent", "a"), w.customer("agent", "b")
		h := w.hold(record.Hold{}, a)
		request, err := w.svc.ReleaseHold(w.as("compliance"), h, "settled")
		require.NoError(w.t, err)
		require.NoError(w.t, w.svc.AddToHold(w.as("compliance"), h, []gid.ID{b}))
		ap, err := w.svc.DecideRequest(w.as("admin"), request, true, "")
		require.NoError(w.t, err)
		require.Equal(w.t, approval.StatusFAILED, ap.Status)
		require.Equal(w.t, []string{"STALE"}, w.rows(`SELECT code FROM approvals WHERE id = ?`, request))
		require.Equal(w.t, []string{""}, w.rows(`SELECT released_at FROM legal_holds`))
	})
}

// Who agrees must know of all that is taken along, and may approve it.
func TestWhoAgreesMayApproveWhatIsTakenAlong(t *testing.T) {
	each(t, func(w *world) {
		w.asks()
		c, d := w.withDeal("agent")
		w.exec(`UPDATE deals SET owner_id = ?, team_id = ? WHERE id = ?`, w.users["agent2"], w.support, d)
		op := w.run("admin", voiding(c))
		require.Equal(w.t, "PENDING_APPROVAL", string(op.Status))
		w.refuses(lifecycle.Forbidden, "manager", op)
		w.exec(`UPDATE deals SET team_id = ? WHERE id = ?`, w.sales, d)
		w.approves("manager", op)
		require.Equal(w.t, []string{"APPROVED", "APPROVED"}, w.status(op))
	})
}

// What a job was refused before it was stopped is in the log, however it ends.
func TestAStoppedJobThatEndsTellsWhatWasRefused(t *testing.T) {
	each(t, func(w *world) {
		for _, end := range []func(op gid.ID){
			func(op gid.ID) {
				_, err := w.svc.DecideOperation(w.as("admin"), op, false, "no")
				require.NoError(w.t, err)
			},
			func(gid.ID) {
				w.clock.add(73 * time.Hour)
				w.expires(1)
			},
			func(op gid.ID) {
				_, err := w.svc.Cancel(w.as("agent"), op)
				require.NoError(w.t, err)
			},
		} {
			w.caps(nil, nil, nil, nil)
			w.svc.Resize(4, 2, 100)
			ids := w.people("agent", gid.New(gid.Customer).String(), 6)
			w.hold(record.Hold{BlockDelete: true}, ids[0])
			op := w.run("agent", record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids}})
			w.caps(nil, nil, 2, nil)
			w.works()
			require.Equal(w.t, []any{"PAUSED", 6, 2, 1, 0, 1}, w.counters(op.ID))
			end(op.ID)
			require.Equal(w.t, []string{"1 RETAINED"}, w.rows(`SELECT COUNT(*) || ' ' || MAX(code) FROM audit_events WHERE outcome = 'REFUSED' AND operation_id = ?`, op.ID))
			w.clock.add(2 * time.Hour)
		}
	})
}
