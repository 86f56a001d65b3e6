package graph_test

import (
	"context"
	"errors"
	"testing"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/policy"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// count answers a query that counts.
func (w *world) count(query string, args ...any) int {
	w.t.Helper()
	n := 0
	_, err := store.Build(w.db).Add(query, args...).One(w.t.Context(), w.db, &n)
	w.NoError(err)
	return n
}

// actAs answers users as they are in the database.
func (w *world) actAs(ctx context.Context, tenant, user gid.ID) (*actor.Actor, error) {
	a, err := w.people.ActAs(ctx, tenant, user, "")
	if errors.Is(err, identity.ErrInactive) {
		err = record.ErrLeft
	}
	return a, err
}

// seed gives the tenant the default rules of approval.
func (w *world) seed() {
	w.t.Helper()
	w.NoError(w.db.InTx(w.t.Context(), func(ctx context.Context, tx *store.Tx) error { return record.SeedRules(ctx, tx, w.tenant) }))
	w.records.ActingAs(w.actAs)
}

// runsApproved carries out what was approved.
func (w *world) runsApproved(want int) {
	w.t.Helper()
	n, err := w.records.RunApproved(w.t.Context(), w.actAs)
	w.NoError(err)
	w.Equal(want, n)
}

// pending is an operation of the purger that waits for an admin.
func (w *world) pending() string {
	w.t.Helper()
	w.seed()
	w.deleted("agent", w.customer("agent", "a"))
	got := get[object](w, "purger", `mutation { emptyBin(input: {expectedCount: 1}) { operation { id status } } }`)
	w.Equal("PENDING_APPROVAL", at(got, "emptyBin", "operation", "status"))
	id, _ := at(got, "emptyBin", "operation", "id").(string)
	return id
}

const listRequests = `{ approvals(first: 10) { totalCount nodes { id subject status reason records viewerDecides requestedBy { name } needs { role approvals given rules }
	votes { approve comment user { name } } operation { id verb items(first: 10) { nodes { recordID } } } policyChange { version added removed } hold { name } } } }`

func TestEmptyingTheBinIsAskedForAndAgreedTo(t *testing.T) {
	each(t, func(w *world) {
		w.seed()
		c := w.customer("agent", "a")
		w.deleted("agent", c)
		preview := get[object](w, "purger", `{ preview(input: {emptyBin: {}}) { needsApproval blockers { code role count hidden } } }`)
		w.Equal(object{"needsApproval": true, "blockers": []any{object{"code": "APPROVAL_REQUIRED", "role": "admin", "count": float64(1), "hidden": false}}}, preview["preview"])
		asked := get[object](w, "purger", `mutation { emptyBin(input: {expectedCount: 1, reason: "spring"}) { operation { id status approvals { id status expiresAt needs { role given } } } } }`)
		op, _ := at(asked, "emptyBin", "operation", "id").(string)
		w.Equal("PENDING_APPROVAL", at(asked, "emptyBin", "operation", "status"))
		w.Equal([]any{object{"role": "admin", "given": float64(0)}}, at(asked, "emptyBin", "operation", "approvals", 0, "needs"))

		for _, as := range []string{"purger", "admin", "compliance", "manager"} { // the last two read others' operations
			got := get[object](w, as, listRequests)
			w.EqualValues(1, at(got, "approvals", "totalCount"), as)
			w.Equal(op, at(got, "approvals", "nodes", 0, "operation", "id"), as)
			w.Equal("spring", at(got, "approvals", "nodes", 0, "reason"), as)
			w.Equal(as == "admin", at(got, "approvals", "nodes", 0, "viewerDecides"), as)
			w.Equal(c.String(), at(got, "approvals", "nodes", 0, "operation", "items", "nodes", 0, "recordID"), as)
		}
		for _, as := range []string{"agent", "viewer", "stranger"} {
			w.EqualValues(0, at(get[object](w, as, listRequests), "approvals", "totalCount"), as)
		}
		w.EqualValues(0, at(get[object](w, "admin", `{ approvals(first: 1, part: OWN) { totalCount } }`), "approvals", "totalCount"))
		w.EqualValues(1, at(get[object](w, "purger", `{ approvals(first: 1, part: OWN) { totalCount } }`), "approvals", "totalCount"))

		approve := `mutation($id: ID!) { approveOperation(input: {id: $id, comment: "go on"}) { operation { status approvals { status votes { approve comment user { id } } needs { given } } } } }`
		w.Equal("SELF_APPROVAL", w.ask("purger", approve, vars{"id": op}).code())
		w.Equal("FORBIDDEN", w.ask("manager", approve, vars{"id": op}).code())
		w.Equal("NOT_FOUND", w.ask("agent", approve, vars{"id": op}).code())
		w.Equal("NOT_FOUND", w.ask("stranger", approve, vars{"id": op}).code())
		w.Equal("BAD_USER_INPUT", w.ask("admin", approve, vars{"id": c.String()}).code())
		got := get[object](w, "admin", approve, vars{"id": op})
		w.Equal("APPROVED", at(got, "approveOperation", "operation", "status"))
		w.Equal(object{
			"status": "APPROVED", "needs": []any{object{"given": float64(1)}},
			"votes": []any{object{"approve": true, "comment": "go on", "user": object{"id": w.users["admin"].String()}}},
		}, at(got, "approveOperation", "operation", "approvals", 0))
		w.runsApproved(1)
		w.Equal("SUCCEEDED", at(get[object](w, "purger", `query($id: ID!) { operation(id: $id) { status } }`, vars{"id": op}), "operation", "status"))
		w.False(w.sees("purger", c))
	})
}

func TestRestrictedActionsAreGivenByTwo(t *testing.T) {
	governed(t, func(w *world) {
		w.seed()
		w.NoError(w.operator(policy.Draft{Add: []casbin.Rule{w.grant("nobody", "admin")}})) // the second one
		roles := func() any { return at(get[object](w, "agent", `{ viewer { roles } }`), "viewer", "roles") }
		grant := `mutation($u: ID!) { grantRole(input: {user: $u, role: "purger"}) { policy { version } approval { id status } } }`
		asked := get[object](w, "admin", grant, vars{"u": w.users["agent"].String()})
		request, _ := at(asked, "grantRole", "approval", "id").(string)
		w.EqualValues(2, at(asked, "grantRole", "policy", "version"))
		w.Equal([]any{"agent", "viewer"}, roles())
		w.Equal(request, at(get[object](w, "admin", grant, vars{"u": w.users["agent"].String()}), "grantRole", "approval", "id"), "asked again")
		got := get[object](w, "nobody", listRequests)
		w.Equal("GRANT", at(got, "approvals", "nodes", 0, "subject"))
		w.Equal(object{"version": float64(2), "added": []any{w.grant("agent", "purger").String()}, "removed": []any{}}, at(got, "approvals", "nodes", 0, "policyChange"))
		for _, as := range []string{"agent", "manager", "compliance", "stranger"} {
			w.EqualValues(0, at(get[object](w, as, listRequests), "approvals", "totalCount"), as)
		}
		approve := `mutation($id: ID!) { approveRequest(input: {id: $id}) { approval { status code } } }`
		w.Equal("SELF_APPROVAL", w.ask("admin", approve, vars{"id": request}).code())
		w.Equal("NOT_FOUND", w.ask("agent", approve, vars{"id": request}).code())
		w.Equal(object{"status": "DONE", "code": nil}, at(get[object](w, "nobody", approve, vars{"id": request}), "approveRequest", "approval"))
		w.Contains(roles(), "purger")
		w.Equal(1, w.count(`SELECT COUNT(*) FROM audit_events WHERE action = 'ROLE_GRANT' AND outcome = 'SUCCEEDED' AND actor_id = ?`, w.users["admin"]))

		// A policy that has moved on is not the one that was agreed to.
		stale, _ := at(get[object](w, "admin", grant, vars{"u": w.users["viewer"].String()}), "grantRole", "approval", "id").(string)
		w.Empty(w.applies("admin", object{"add": lines(w.rule("role:agent", "Task", "archive", "allow", "any"))}).Errors)
		w.Equal(object{"status": "FAILED", "code": "STALE"}, at(get[object](w, "nobody", approve, vars{"id": stale}), "approveRequest", "approval"))
		w.NotContains(at(get[object](w, "viewer", `{ viewer { roles } }`), "viewer", "roles"), "purger")

		// Who would gain by it does not decide; and one says no.
		to, _ := at(get[object](w, "admin", grant, vars{"u": w.users["nobody"].String()}), "grantRole", "approval", "id").(string)
		w.Equal("FORBIDDEN", w.ask("nobody", approve, vars{"id": to}).code())
		no, _ := at(get[object](w, "admin", grant, vars{"u": w.users["agent2"].String()}), "grantRole", "approval", "id").(string)
		w.Equal("REJECTED", at(get[object](w, "nobody", `mutation($id: ID!) { rejectRequest(input: {id: $id, reason: "no"}) { approval { status } } }`, vars{"id": no}), "rejectRequest", "approval", "status"))

		// The rule about it cannot be switched off.
		set := `mutation($s: ApprovalSubject!, $r: String, $on: Boolean!) { setApprovalRule(input: {name: "x", subject: $s, role: $r, enabled: $on}) { rules { name } } }`
		w.Equal("BAD_USER_INPUT", w.ask("admin", set, vars{"s": "GRANT", "on": false}).code())
		w.Equal("FORBIDDEN", w.ask("manager", set, vars{"s": "DELETE", "r": "admin", "on": true}).code())
		w.Empty(w.ask("admin", set, vars{"s": "DELETE", "r": "admin", "on": true}).Errors)
		w.Len(at(get[object](w, "admin", `{ approvalRules { name subject type condition over byFilter openDeals approvals role requestHours useHours execution enabled } }`), "approvalRules"), 8)
		w.Empty(w.ask("nobody", `mutation { removeApprovalRule(name: "grant") { rules { name } } }`).Errors)
		w.NotNil(at(get[object](w, "admin", grant, vars{"u": w.users["viewer"].String()}), "grantRole", "approval"), "without a rule it is the default's")
	})
}

func TestAHoldIsReleasedByTwo(t *testing.T) {
	each(t, func(w *world) {
		w.seed()
		c := w.customer("agent", "a")
		placed := get[object](w, "compliance", `mutation($r: [ID!]!) { placeHold(input: {name: "Acme v. Roe", reason: "r", records: $r}) { hold { id } } }`, vars{"r": ids(c)})
		release := `mutation($id: ID!) { releaseHold(input: {id: $id, reason: "settled"}) { hold { releasedAt } approval { id status hold { name } } } }`
		got := get[object](w, "compliance", release, vars{"id": at(placed, "placeHold", "hold", "id")})
		w.Nil(at(got, "releaseHold", "hold", "releasedAt"))
		w.Equal("Acme v. Roe", at(got, "releaseHold", "approval", "hold", "name"))
		w.EqualValues(0, at(get[object](w, "manager", listRequests), "approvals", "totalCount"), "who may not know of the hold")
		decided := get[object](w, "admin", `mutation($id: ID!) { approveRequest(input: {id: $id}) { approval { status hold { releasedAt } } } }`, vars{"id": at(got, "releaseHold", "approval", "id")})
		w.Equal("DONE", at(decided, "approveRequest", "approval", "status"))
		w.NotNil(at(decided, "approveRequest", "approval", "hold", "releasedAt"))
	})
}

func TestRequestsAreListedWithAsManyStatements(t *testing.T) {
	each(t, func(w *world) {
		w.seed()
		count := func(n int) int {
			for range n {
				w.deleted("agent", w.customer("agent", gid.New(gid.Customer).String()))
				got := get[object](w, "purger", `mutation { emptyBin(input: {expectedCount: 1}) { operation { id } } }`)
				get[object](w, "admin", `mutation($id: ID!) { rejectOperation(input: {id: $id}) { operation { status } } }`, vars{"id": at(got, "emptyBin", "operation", "id")})
				w.exec(`UPDATE customers SET retired_at = NULL, state = 'ACTIVE'`)
			}
			w.sql.take()
			got := get[object](w, "admin", `{ approvals(first: 50, status: REJECTED) { nodes { needs { given } votes { user { name } } requestedBy { name } operation { id approvals { id votes { user { id } } } } hold { name } } } }`)
			w.NotEmpty(at(got, "approvals", "nodes"))
			statements := len(w.sql.take())
			w.NotEmpty(at(get[object](w, "admin", `{ operations(first: 50) { nodes { approvals { needs { given } votes { user { name } } } } } }`), "operations", "nodes"))
			return statements + len(w.sql.take())
		}
		w.Equal(count(1), count(4))
	})
}
