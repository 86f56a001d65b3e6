package record_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/approval"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// asks gives the tenant the default rules, and further users: each name is that of a role, with what tells them apart
// behind it.
func (w *world) asks(names ...string) {
	w.t.Helper()
	require.NoError(w.t, w.db.InTx(w.t.Context(), func(ctx context.Context, tx *store.Tx) error { return record.SeedRules(ctx, tx, w.tenant) }))
	rules := slices.Clone(w.policy.rules[w.tenant.String()])
	for _, name := range names {
		id := w.insertUser(w.tenant, name, w.sales)
		w.users[name] = id
		rules = append(rules, casbin.Grant(casbin.UserSubject(id.String()), casbin.RoleSubject(name[:len(name)-1]), w.tenant.String()))
	}
	w.setPolicy(rules)
	w.svc.ActingAs(w.actAs())
}

func (w *world) setPolicy(rules []casbin.Rule) {
	w.t.Helper()
	w.policy.replace(w.tenant, rules)
	require.NoError(w.t, w.control.Refresh(w.t.Context(), w.tenant))
}

// revoke takes the roles of a user away.
func (w *world) revoke(name string) {
	w.t.Helper()
	w.setPolicy(slices.DeleteFunc(slices.Clone(w.policy.rules[w.tenant.String()]), func(r casbin.Rule) bool {
		return r.Ptype == "g" && r.V[0] == casbin.UserSubject(w.users[name].String())
	}))
}

func (w *world) rule(r record.Rule) {
	w.t.Helper()
	if r.Approvals == 0 {
		r.Approvals = 1
	}
	if r.Execution == "" {
		r.Execution = approval.ExecutionAUTOMATIC
	}
	if r.RequestHours == 0 {
		r.RequestHours, r.UseHours = 72, 24
	}
	r.Enabled = true
	require.NoError(w.t, w.svc.SetRule(w.as("admin"), r))
}

// status is that of an operation, and of its last request.
func (w *world) status(op *ent.Operation) []string {
	w.t.Helper()
	return append([]string{string(w.operation(op.ID).Status)}, w.rows(`SELECT status FROM approvals WHERE operation_id = ? ORDER BY id DESC LIMIT 1`, op.ID)...)
}

func (w *world) approves(as string, op *ent.Operation) *ent.Operation {
	w.t.Helper()
	out, err := w.svc.DecideOperation(w.as(as), op.ID, true, "fine")
	require.NoError(w.t, err)
	return out
}

// refuses insists that a decision is refused.
func (w *world) refuses(want lifecycle.Code, as string, op *ent.Operation) {
	w.t.Helper()
	for _, approve := range []bool{true, false} {
		_, err := w.svc.DecideOperation(w.as(as), op.ID, approve, "")
		require.Equal(w.t, want, code(err), "%s: %v", as, err)
	}
}

func (w *world) runsApproved(want int, left ...string) {
	w.t.Helper()
	n, err := w.svc.RunApproved(w.t.Context(), w.actAs(left...))
	require.NoError(w.t, err)
	require.Equal(w.t, want, n)
}

func (w *world) expires(want int) {
	w.t.Helper()
	n, err := w.svc.ExpireApprovals(w.t.Context())
	require.NoError(w.t, err)
	require.Equal(w.t, want, n)
}

// binned are deleted customers of one agent.
func (w *world) binned(n int) []gid.ID {
	w.t.Helper()
	ids := w.people("agent", "x", n)
	w.delete("agent", ids...)
	return ids
}

func byFilter(ids []gid.ID) record.Request {
	named := make([]any, len(ids))
	for i, id := range ids {
		named[i] = id
	}
	n := len(ids)
	return record.Request{
		Verb: lifecycle.Purge, ExpectedCount: &n, Reason: "clean up",
		Select: record.Selection{Filter: &record.Filter{Type: "Customer", Comparisons: 1, Where: func(s *sql.Selector) { s.Where(sql.In(s.C("id"), named...)) }}},
	}
}

func TestAPurgeByFilterWaitsForAnother(t *testing.T) {
	each(t, func(w *world) {
		w.asks("admin2")
		w.caps(nil, nil, nil, nil)
		ids := w.binned(3)
		req := byFilter(ids)
		p := w.preview("purger", req)
		require.True(w.t, p.NeedsApproval)
		require.Equal(w.t, []record.Blocked{{Blocker: byAdmin}}, p.Blocked)
		req.IdempotencyKey = "k"
		op := w.run("purger", req)
		require.Equal(w.t, []string{"PENDING_APPROVAL", "PENDING"}, w.status(op))
		require.Equal(w.t, op.ID, w.run("purger", req).ID, "the same key is the same operation")
		require.Equal(w.t, []any{3, 0, 0}, []any{op.Total, op.Processed, op.Changed})
		require.Equal(w.t, "NOT_PROCESSED", w.outcomes(op)[ids[0]])
		require.Equal(w.t, []string{"3"}, w.rows(`SELECT COUNT(*) FROM customers`))
		require.Equal(w.t, []string{"1"}, w.rows(`SELECT COUNT(*) FROM approvals`))
		_, err := w.svc.Undo(w.as("admin"), op.ID, record.Request{})
		require.Equal(w.t, lifecycle.IllegalTransition, code(err))

		w.refuses(lifecycle.SelfApproval, "purger", op)
		w.refuses(lifecycle.Forbidden, "manager", op) // he reads it, as it is his team's
		w.refuses(lifecycle.NotFound, "agent", op)
		w.refuses(lifecycle.NotFound, "stranger", op)
		w.runsApproved(0)
		w.revoke("purger") // and gives the role back: he has to have it when it runs
		rules := append(slices.Clone(w.policy.rules[w.tenant.String()]), casbin.Grant(casbin.UserSubject(w.users["purger"].String()), casbin.RoleSubject("purger"), w.tenant.String()))
		w.setPolicy(rules)

		after := w.approves("admin", op)
		require.Equal(w.t, "APPROVED", string(after.Status))
		w.approves("admin", op) // again, which changes nothing
		require.Equal(w.t, []string{"1"}, w.rows(`SELECT COUNT(*) FROM approval_votes`))
		w.refuses(lifecycle.IllegalTransition, "admin2", op)
		w.runsApproved(1)
		require.Equal(w.t, []string{"SUCCEEDED", "DONE"}, w.status(op))
		require.Equal(w.t, 3, w.operation(op.ID).Changed)
		require.Equal(w.t, []string{"0"}, w.rows(`SELECT COUNT(*) FROM customers`))
		w.runsApproved(0)
		for _, action := range []string{"APPROVAL_ASK", "APPROVE"} {
			require.Equal(w.t, []string{"1"}, w.rows(`SELECT COUNT(*) FROM audit_events WHERE action = ? AND outcome = 'SUCCEEDED' AND operation_id = ?`, action, op.ID), action)
		}
		require.Equal(w.t, []string{"2"}, w.rows(`SELECT COUNT(*) FROM audit_events WHERE outcome = 'REFUSED' AND code = 'SELF_APPROVAL' AND operation_id = ?`, op.ID))
		require.Equal(w.t, []string{"3"}, w.rows(`SELECT COUNT(*) FROM audit_events WHERE action = 'PURGE' AND record_id IS NOT NULL AND actor_id = ?`, w.users["purger"]), "in the name of who asked")
	})
}

func TestRulesSayWhatWaits(t *testing.T) {
	each(t, func(w *world) {
		w.asks()
		w.caps(nil, nil, nil, nil)
		ids := w.binned(202)
		purge := func(some []gid.ID) string {
			return string(w.run("purger", record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: some}}).Status)
		}
		require.Equal(w.t, "SUCCEEDED", purge(ids[:100]), "as many as 100")
		require.Equal(w.t, "PENDING_APPROVAL", purge(ids[100:201]), "one more")
		w.clock.add(31 * 24 * time.Hour)
		n, err := w.svc.Sweep(w.t.Context())
		require.NoError(w.t, err)
		require.Equal(w.t, 102, n, "the clock asks nobody")

		small, large, none := w.deal("agent", w.customer("agent", "a"), "small"), w.deal("agent", w.customer("agent", "b"), "large"), w.customer("agent", "c")
		w.exec(`UPDATE deals SET amount = CASE WHEN id = ? THEN 10000 ELSE 10001 END`, small)
		w.rule(record.Rule{Name: "large deals", Subject: approval.SubjectDELETE, Type: "Deal", Condition: "amount > 10000", Role: "manager"})
		require.Equal(w.t, "SUCCEEDED", string(w.delete("agent", small).Status))
		require.Equal(w.t, "SUCCEEDED", string(w.delete("agent", none).Status))
		op := w.delete("agent", large)
		require.Equal(w.t, "PENDING_APPROVAL", string(op.Status))
		w.approves("manager", op)
		w.runsApproved(1)
		require.Equal(w.t, lifecycle.Deleted, w.state(large))
	})
}

// withDeal is a customer with a live deal.
func (w *world) withDeal(as string) (customer, deal gid.ID) {
	customer = w.customer(as, gid.New(gid.Customer).String())
	return customer, w.deal(as, customer, "open")
}

func voiding(ids ...gid.ID) record.Request {
	return record.Request{Verb: lifecycle.Void, Reason: "closed down", Cascade: true, Mode: record.BestEffort, Select: record.Selection{IDs: ids}}
}

func TestVoidingCustomersWithOpenDealsWaitsForAManager(t *testing.T) {
	each(t, func(w *world) {
		w.asks("manager2")
		c, d := w.withDeal("agent")
		without := w.customer("agent", "none")
		require.Equal(w.t, "SUCCEEDED", string(w.run("manager", voiding(without)).Status))
		req := voiding(c)
		req.Cascade = false
		require.Equal(w.t, "FAILED", string(w.run("manager", req).Status), "it changes nothing, and asks nobody")
		op := w.run("manager", voiding(c))
		require.Equal(w.t, "PENDING_APPROVAL", string(op.Status))
		w.refuses(lifecycle.Forbidden, "admin", op) // who is no manager
		w.refuses(lifecycle.SelfApproval, "manager", op)
		w.approves("manager2", op)
		w.runsApproved(1)
		require.Equal(w.t, []lifecycle.State{"VOIDED", "VOIDED"}, w.states(c, d))
		require.Equal(w.t, map[gid.ID]string{c: "CHANGED", d: "CHANGED along"}, w.outcomes(op))
	})
}

func TestWhatIsNotAsItWasIsStale(t *testing.T) {
	each(t, func(w *world) {
		w.asks("manager2")
		same, _ := w.withDeal("agent")
		edited, _ := w.withDeal("agent")
		held, _ := w.withDeal("agent")
		more, _ := w.withDeal("agent")
		dealEdited, deal := w.withDeal("agent")
		written, _ := w.withDeal("agent")
		op := w.run("manager", voiding(same, edited, held, more, dealEdited, written))
		require.Equal(w.t, "PENDING_APPROVAL", string(op.Status))
		_, err := w.svc.Update(w.as("agent"), edited, 1, record.Values{"name": "edited"})
		require.NoError(w.t, err)
		_, err = w.svc.Update(w.as("agent"), deal, 1, record.Values{"name": "edited"})
		require.NoError(w.t, err)
		w.deal("agent", more, "another")
		w.message("agent", written, "what belongs to it goes with it")
		w.hold(record.Hold{BlockDelete: true}, held)
		w.approves("manager2", op)
		w.runsApproved(1)
		require.Equal(w.t, "PARTIAL", string(w.operation(op.ID).Status))
		got := w.outcomes(op)
		want := map[gid.ID]string{same: "CHANGED", edited: "FAILED STALE", held: "FAILED RETAINED", more: "FAILED STALE", dealEdited: "FAILED STALE", written: "CHANGED"}
		for id, outcome := range want {
			require.Equal(w.t, outcome, got[id])
		}
	})
}

func TestOneRejectionEndsIt(t *testing.T) {
	each(t, func(w *world) {
		w.asks("admin2")
		w.rule(record.Rule{Name: "purge-by-filter", Subject: approval.SubjectPURGE, ByFilter: true, Role: "admin", Approvals: 2})
		ids := w.binned(1)
		op := w.run("purger", byFilter(ids))
		w.approves("admin", op)
		require.Equal(w.t, []string{"PENDING_APPROVAL", "PENDING"}, w.status(op), "two are needed")
		out, err := w.svc.DecideOperation(w.as("admin2"), op.ID, false, "not these")
		require.NoError(w.t, err)
		require.Equal(w.t, "REJECTED", string(out.Status))
		require.NotNil(w.t, out.FinishedAt)
		require.Equal(w.t, []string{"REJECTED", "REJECTED"}, w.status(op))
		w.refuses(lifecycle.IllegalTransition, "admin", op)
		w.runsApproved(0)
		require.Equal(w.t, lifecycle.Deleted, w.state(ids[0]))
		w.clock.add(100 * time.Hour)
		w.expires(0)
	})
}

func TestWhoLostTheRoleDoesNotCount(t *testing.T) {
	each(t, func(w *world) {
		w.asks("admin2", "admin3")
		ids := w.binned(2)
		op := w.run("purger", byFilter(ids[:1]))
		w.approves("admin2", op)
		w.revoke("admin2")
		w.runsApproved(0)
		require.Equal(w.t, []string{"PENDING_APPROVAL", "PENDING"}, w.status(op), "it waits again")
		w.approves("admin3", op)
		w.exec(`UPDATE users SET active = ? WHERE id = ?`, false, w.users["admin3"])
		w.runsApproved(0)
		require.Equal(w.t, []string{"PENDING_APPROVAL", "PENDING"}, w.status(op))
		w.approves("admin", op)
		w.runsApproved(1)
		require.Equal(w.t, []string{"SUCCEEDED", "DONE"}, w.status(op))

		// And where its time is over by then, it expires.
		w.rule(record.Rule{Name: "purge-by-filter", Subject: approval.SubjectPURGE, ByFilter: true, Role: "admin", RequestHours: 1, UseHours: 24})
		op = w.run("purger", byFilter(ids[1:]))
		w.approves("admin", op)
		w.clock.add(2 * time.Hour)
		w.revoke("admin")
		w.runsApproved(0)
		require.Equal(w.t, []string{"EXPIRED", "EXPIRED"}, w.status(op))
	})
}

func TestRequestsAndApprovalsExpire(t *testing.T) {
	each(t, func(w *world) {
		w.asks()
		ids := w.binned(3)
		undecided := w.run("purger", byFilter(ids[:1]))
		unused := w.run("purger", byFilter(ids[1:2]))
		w.approves("admin", unused)
		w.clock.add(25 * time.Hour)
		w.runsApproved(0) // what is over is not used
		w.expires(1)
		require.Equal(w.t, []string{"EXPIRED", "EXPIRED"}, w.status(unused))
		require.Equal(w.t, []string{"PENDING_APPROVAL", "PENDING"}, w.status(undecided))
		w.clock.add(48 * time.Hour)
		w.refuses(lifecycle.IllegalTransition, "admin", undecided)
		w.expires(1)
		w.expires(0)
		require.Equal(w.t, []string{"EXPIRED", "EXPIRED"}, w.status(undecided))
		require.NotNil(w.t, w.operation(undecided.ID).FinishedAt)
		require.Equal(w.t, []string{"2"}, w.rows(`SELECT COUNT(*) FROM audit_events WHERE action = 'APPROVAL_EXPIRE'`))

		later := w.later(byFilter(ids[2:]))
		op := w.run("purger", later)
		w.clock.add(2 * time.Hour)
		w.expires(1)
		require.Equal(w.t, []string{"EXPIRED", "EXPIRED"}, w.status(op), "not approved by its time")
	})
}

func TestWhatIsApprovedWaitsForItsTime(t *testing.T) {
	each(t, func(w *world) {
		w.asks()
		ids := w.binned(1)
		op := w.run("purger", w.later(byFilter(ids)))
		require.Equal(w.t, "PENDING_APPROVAL", string(op.Status))
		w.runsScheduled(0)
		require.Equal(w.t, "APPROVED", string(w.approves("admin", op).Status))
		w.runsApproved(0)
		w.clock.add(2 * time.Hour)
		w.runsScheduled(0)
		w.runsApproved(1)
		require.Equal(w.t, []string{"SUCCEEDED", "DONE"}, w.status(op))
	})
}

func TestAScheduledOperationAsksWhenItsTimeHasComeToo(t *testing.T) {
	each(t, func(w *world) {
		w.asks("manager2")
		c := w.customer("agent", "none yet")
		op := w.run("manager", w.later(voiding(c)))
		require.Equal(w.t, "SCHEDULED", string(op.Status))
		w.deal("agent", c, "open by now")
		w.clock.add(time.Hour)
		w.runsScheduled(1)
		require.Equal(w.t, []string{"PENDING_APPROVAL", "PENDING"}, w.status(op))
		require.Equal(w.t, lifecycle.Active, w.state(c))
		w.approves("manager2", op)
		w.runsApproved(1)
		require.Equal(w.t, lifecycle.Voided, w.state(c))
	})
}

func TestWhatHasToBeConfirmedWaitsForThat(t *testing.T) {
	each(t, func(w *world) {
		w.asks()
		w.rule(record.Rule{Name: "purge-by-filter", Subject: approval.SubjectPURGE, ByFilter: true, Role: "admin", Execution: approval.ExecutionCONFIRM})
		ids := w.binned(2)
		op, forgotten := w.run("purger", byFilter(ids[:1])), w.run("purger", byFilter(ids[1:]))
		_, err := w.svc.Confirm(w.as("purger"), op.ID)
		require.Equal(w.t, lifecycle.IllegalTransition, code(err))
		w.approves("admin", op)
		w.approves("admin", forgotten)
		w.runsApproved(0)
		_, err = w.svc.Confirm(w.as("admin"), op.ID)
		require.Equal(w.t, lifecycle.Forbidden, code(err), "who may not purge")
		out, err := w.svc.Confirm(w.as("purger"), op.ID)
		require.NoError(w.t, err)
		require.Equal(w.t, "APPROVED", string(out.Status))
		w.runsApproved(1)
		require.Equal(w.t, []string{"SUCCEEDED", "DONE"}, w.status(op))
		w.clock.add(24 * time.Hour)
		_, err = w.svc.Confirm(w.as("purger"), forgotten.ID)
		require.Equal(w.t, lifecycle.IllegalTransition, code(err))
		w.expires(1)
		require.Equal(w.t, []string{"EXPIRED", "EXPIRED"}, w.status(forgotten))
	})
}

func TestWhoAskedMayCallItOff(t *testing.T) {
	each(t, func(w *world) {
		w.asks()
		ids := w.binned(2)
		pending, approved := w.run("purger", byFilter(ids[:1])), w.run("purger", byFilter(ids[1:]))
		w.approves("admin", approved)
		for _, op := range []*ent.Operation{pending, approved} {
			_, err := w.svc.Cancel(w.as("purger"), op.ID)
			require.NoError(w.t, err)
			require.Equal(w.t, []string{"CANCELLED", "CANCELLED"}, w.status(op))
			w.refuses(lifecycle.IllegalTransition, "admin", op)
		}
		w.runsApproved(0)
		require.Equal(w.t, []string{"2"}, w.rows(`SELECT COUNT(*) FROM customers`))
	})
}

func TestWhatTheBrakeStoppedGoesOnWithAnothersConsent(t *testing.T) {
	each(t, func(w *world) {
		w.svc.ActingAs(w.actAs())
		var told []string
		w.svc.OnBrake(func(name string) { told = append(told, name) })
		w.caps(nil, nil, 2, nil)
		ids := w.people("agent", "x", 4)
		op := w.run("agent", record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids}, IdempotencyKey: "k"})
		require.Equal(w.t, []string{"PAUSED", "PENDING"}, w.status(op))
		require.Equal(w.t, []string{"brakeHour"}, told)
		require.Equal(w.t, op.ID, w.run("agent", record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids}, IdempotencyKey: "k"}).ID)
		_, err := w.svc.Resume(w.as("agent"), op.ID)
		require.Equal(w.t, lifecycle.IllegalTransition, code(err))
		w.refuses(lifecycle.SelfApproval, "agent", op)
		w.approves("admin", op)
		require.Nil(w.t, w.operation(op.ID).Code)
		w.runsApproved(1)
		require.Equal(w.t, []string{"SUCCEEDED", "DONE"}, w.status(op))
		require.Equal(w.t, 4, w.operation(op.ID).Changed)
	})
}

func TestAJobWaitsForOthersAndGoesOnAfterTheBrake(t *testing.T) {
	large(t, func(w *world) {
		w.asks()
		w.caps(nil, nil, nil, nil)
		ids := w.manyCustomers("admin", 1_200)
		del := expecting(lifecycle.Delete, 1_200)
		w.rule(record.Rule{Name: "many", Subject: approval.SubjectDELETE, Over: 1_000, Role: "manager"})
		w.exec(`UPDATE customers SET team_id = ?`, w.sales)
		op := w.run("admin", del)
		require.Equal(w.t, []string{"PENDING_APPROVAL", "PENDING"}, w.status(op))
		require.Equal(w.t, 0, w.works())
		_, err := w.svc.Update(w.as("admin"), ids[3], 1, record.Values{"name": "edited"})
		require.NoError(w.t, err)
		w.approves("manager", op)
		w.runsApproved(1)
		w.caps(nil, nil, 10, nil) // which does not hold it up
		w.works()
		require.Equal(w.t, []any{"PARTIAL", 1_200, 1_200, 1_199, 0, 1}, w.counters(op.ID))
		require.Equal(w.t, "FAILED STALE", w.outcomes(op)[ids[3]])
	})
}

func TestAJobThatTheBrakeStoppedGoesOn(t *testing.T) {
	large(t, func(w *world) {
		w.svc.ActingAs(w.actAs())
		w.users["admin2"] = w.insertUser(w.tenant, "admin2", w.sales)
		w.setPolicy(append(slices.Clone(w.policy.rules[w.tenant.String()]), casbin.Grant(casbin.UserSubject(w.users["admin2"].String()), casbin.RoleSubject("admin"), w.tenant.String())))
		w.caps(nil, nil, nil, nil)
		w.manyCustomers("admin", 1_200)
		op := w.run("admin", expecting(lifecycle.Delete, 1_200))
		w.caps(nil, nil, 700, nil)
		w.works()
		require.Equal(w.t, []any{"PAUSED", 1_200, 500, 500, 0, 0}, w.counters(op.ID))
		require.Equal(w.t, []string{"PAUSED", "PENDING"}, w.status(op))
		require.Equal(w.t, 0, w.works())
		w.refuses(lifecycle.SelfApproval, "admin", op)
		w.approves("admin2", op)
		w.runsApproved(1)
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", 1_200, 1_200, 1_200, 0, 0}, w.counters(op.ID))
	})
}

func TestApproversAtOnce(t *testing.T) {
	each(t, func(w *world) {
		w.asks("admin2", "admin3")
		w.rule(record.Rule{Name: "purge-by-filter", Subject: approval.SubjectPURGE, ByFilter: true, Role: "admin", Approvals: 2})
		for i := range 5 {
			op := w.run("purger", byFilter(w.binned(1)))
			var wg sync.WaitGroup
			for _, as := range []string{"admin", "admin2", "admin3"} {
				wg.Go(func() {
					_, err := w.svc.DecideOperation(w.as(as), op.ID, true, "")
					if err != nil && code(err) != lifecycle.IllegalTransition {
						w.t.Error(err)
					}
				})
			}
			ran := make([]int, 3)
			for j := range ran {
				wg.Go(func() {
					var err error
					if ran[j], err = w.svc.RunApproved(w.t.Context(), w.actAs()); err != nil {
						w.t.Error(err)
					}
				})
			}
			wg.Wait()
			n, err := w.svc.RunApproved(w.t.Context(), w.actAs())
			require.NoError(w.t, err)
			require.Equal(w.t, 1, n+ran[0]+ran[1]+ran[2], "%d: it runs once", i)
			require.Equal(w.t, []string{"SUCCEEDED", "DONE"}, w.status(op))
		}
		require.Equal(w.t, []string{"5"}, w.rows(`SELECT COUNT(*) FROM audit_events WHERE action = 'PURGE' AND record_id IS NOT NULL`))
	})
}

func TestOneOfApproveCancelAndExpireWins(t *testing.T) {
	each(t, func(w *world) {
		w.asks()
		seen := map[string]bool{}
		for range 12 {
			ids := w.binned(1)
			op := w.run("purger", byFilter(ids))
			w.exec(`UPDATE approvals SET expires_at = ?, waits_until = ? WHERE operation_id = ?`, w.clock.now().Add(3*time.Millisecond), w.clock.now().Add(3*time.Millisecond), op.ID)
			var wg sync.WaitGroup
			won := make([]bool, 3)
			wg.Go(func() {
				_, err := w.svc.DecideOperation(w.as("admin"), op.ID, true, "")
				won[0] = err == nil
			})
			wg.Go(func() {
				_, err := w.svc.Cancel(w.as("purger"), op.ID)
				won[1] = err == nil
			})
			wg.Go(func() {
				n, err := w.svc.ExpireApprovals(w.t.Context())
				won[2] = err == nil && n == 1
			})
			wg.Wait()
			_, err := w.svc.RunApproved(w.t.Context(), w.actAs())
			require.NoError(w.t, err)
			if s := w.status(op); s[0] == "PENDING_APPROVAL" { // nobody was in time
				w.clock.add(time.Hour)
				w.expires(1)
			}
			status := w.status(op)
			seen[status[0]] = true
			switch status[0] {
			case "SUCCEEDED":
				require.True(w.t, won[0])
				require.False(w.t, won[1] || won[2])
			case "CANCELLED":
				require.True(w.t, won[1]) // perhaps of what had been approved
			case "EXPIRED":
				require.False(w.t, won[0] || won[1])
			default:
				require.Fail(w.t, fmt.Sprint(status))
			}
			there := w.rows(`SELECT COUNT(*) FROM customers WHERE id = ?`, ids[0])[0] == "1"
			require.Equal(w.t, status[0] != "SUCCEEDED", there)
		}
		require.NotEmpty(w.t, seen)
	})
}

func TestAHoldStaysUntilOthersAgree(t *testing.T) {
	each(t, func(w *world) {
		w.asks("compliance2", "admin2")
		c := w.customer("agent", "a")
		h := w.hold(record.Hold{}, c)
		request, err := w.svc.ReleaseHold(w.as("compliance"), h, "settled")
		require.NoError(w.t, err)
		require.False(w.t, request.IsZero())
		again, err := w.svc.ReleaseHold(w.as("compliance"), h, "settled, I say")
		require.NoError(w.t, err)
		require.Equal(w.t, request, again)
		decide := func(as string, approve bool) (approval.Status, lifecycle.Code) {
			ap, err := w.svc.DecideRequest(w.as(as), request, approve, "")
			if err != nil {
				return "", code(err)
			}
			return ap.Status, ""
		}
		for as, want := range map[string]lifecycle.Code{"compliance": lifecycle.SelfApproval, "compliance2": lifecycle.NotFound, "agent": lifecycle.NotFound, "stranger": lifecycle.NotFound} {
			_, got := decide(as, true)
			require.Equal(w.t, want, got, as)
		}
		require.Equal(w.t, []string{""}, w.rows(`SELECT released_at FROM legal_holds`))
		status, _ := decide("admin", true)
		require.Equal(w.t, approval.StatusDONE, status)
		require.NotEqual(w.t, []string{""}, w.rows(`SELECT released_at FROM legal_holds`))
		require.Equal(w.t, []string{w.users["compliance"].UUID()}, w.rows(`SELECT CAST(released_by_id AS text) FROM legal_holds`))
		require.Equal(w.t, []string{"1"}, w.rows(`SELECT COUNT(*) FROM audit_events WHERE action = 'HOLD_RELEASE' AND outcome = 'SUCCEEDED'`))

		// Who may not release it any more does not release it.
		h = w.hold(record.Hold{}, c)
		request, err = w.svc.ReleaseHold(w.as("compliance"), h, "settled")
		require.NoError(w.t, err)
		w.revoke("compliance")
		status, _ = decide("admin2", true)
		require.Equal(w.t, approval.StatusFAILED, status)
		require.Equal(w.t, []string{"1"}, w.rows(`SELECT COUNT(*) FROM legal_holds WHERE released_at IS NULL`))
		require.Equal(w.t, []string{"NOT_FOUND"}, w.rows(`SELECT code FROM approvals WHERE id = ?`, request))
	})
}

func TestRulesOfApprovalAreChecked(t *testing.T) {
	each(t, func(w *world) {
		w.asks("admin2")
		good := record.Rule{Name: "n", Subject: approval.SubjectPURGE, Role: "admin", Approvals: 1, RequestHours: 1, UseHours: 1, Execution: approval.ExecutionAUTOMATIC, Enabled: true}
		for field, spoil := range map[string]func(*record.Rule){
			"name": func(r *record.Rule) { r.Name = " " }, "type": func(r *record.Rule) { r.Type = "Nothing" }, "over": func(r *record.Rule) { r.Over = -1 },
			"approvals": func(r *record.Rule) { r.Approvals = 0 }, "requestHours": func(r *record.Rule) { r.RequestHours = 0 }, "useHours": func(r *record.Rule) { r.UseHours = 9_000 },
			"role": func(r *record.Rule) { r.Role = "" }, "condition": func(r *record.Rule) { r.Condition = "nothing > 1" },
			"subject":   func(r *record.Rule) { r.Subject, r.Over = approval.SubjectHOLD_RELEASE, 1 },
			"execution": func(r *record.Rule) { r.Subject, r.Execution = approval.SubjectHOLD_RELEASE, approval.ExecutionCONFIRM },
			"enabled":   func(r *record.Rule) { r.Subject, r.Role, r.Enabled = approval.SubjectGRANT, "", false },
			"openDeals": func(r *record.Rule) { r.Type, r.OpenDeals = "Deal", true },
		} {
			r := good
			spoil(&r)
			err := w.svc.SetRule(w.as("admin"), r)
			require.Equal(w.t, lifecycle.BadUserInput, code(err), field)
			require.Equal(w.t, []string{field}, fields(err))
		}
		require.Equal(w.t, lifecycle.Forbidden, code(w.svc.SetRule(w.as("manager"), good)))
		require.Equal(w.t, lifecycle.Forbidden, code(w.svc.RemoveRule(w.as("manager"), "brake")))
		require.Equal(w.t, lifecycle.NotFound, code(w.svc.RemoveRule(w.as("admin"), "nothing")))

		// Who waits for a rule leaves it alone; what waits is not changed by who does not.
		w.setPolicy(append(slices.Clone(w.policy.rules[w.tenant.String()]), casbin.Grant(casbin.UserSubject(w.users["admin"].String()), casbin.RoleSubject("purger"), w.tenant.String())))
		op := w.run("admin", byFilter(w.binned(1)))
		require.Equal(w.t, "PENDING_APPROVAL", string(op.Status))
		require.Equal(w.t, lifecycle.SelfApproval, code(w.svc.RemoveRule(w.as("admin"), "purge-by-filter")))
		good.Name = "purge-by-filter"
		require.Equal(w.t, lifecycle.SelfApproval, code(w.svc.SetRule(w.as("admin"), good)))
		require.NoError(w.t, w.svc.RemoveRule(w.as("admin2"), "purge-by-filter"))
		w.runsApproved(0)
		require.Equal(w.t, []string{"PENDING_APPROVAL", "PENDING"}, w.status(op))
		require.Equal(w.t, []string{"1"}, w.rows(`SELECT COUNT(*) FROM audit_events WHERE action = 'APPROVAL_RULE_REMOVE' AND outcome = 'SUCCEEDED'`))
		require.Equal(w.t, "SUCCEEDED", string(w.run("admin", byFilter(w.binned(1))).Status), "and now nobody is asked")
	})
}

// inSupport is a user as one of the other team.
func (w *world) inSupport(name string) context.Context {
	a := *actor.From(w.as(name))
	a.Teams = []gid.ID{w.support}
	ctx := actor.With(w.t.Context(), &a)
	return visible.With(ctx, w.svc.Rows(ctx))
}

func TestWhoDecidesReadsIt(t *testing.T) {
	each(t, func(w *world) {
		w.asks("manager2")
		w.exec(`UPDATE user_teams SET team_id = ? WHERE user_id = ?`, w.support, w.users["manager2"])
		c, _ := w.withDeal("agent")
		op := w.run("admin", voiding(c)) // whose operations no manager of another team reads
		w.exec(`UPDATE operations SET team_id = NULL WHERE id = ?`, op.ID)
		sees := func(as string) bool {
			ctx := w.as(as)
			if as == "manager2" {
				ctx = w.inSupport(as)
			}
			n, err := w.svc.Client(ctx).Operation.Query().Count(ctx)
			require.NoError(w.t, err)
			requests, err := w.svc.Client(ctx).Approval.Query().Count(ctx)
			require.NoError(w.t, err)
			require.Equal(w.t, n, requests, as)
			return n > 0
		}
		require.True(w.t, sees("manager"), "he decides on it")
		require.False(w.t, sees("manager2"), "the records are another team's")
		require.False(w.t, sees("agent"))
		_, err := w.svc.DecideOperation(w.inSupport("manager2"), op.ID, true, "")
		require.Equal(w.t, lifecycle.NotFound, code(err))
		w.approves("manager", op)
		w.runsApproved(1)
		require.True(w.t, sees("manager"), "he had a say in it")
	})
}
