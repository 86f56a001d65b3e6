package graph_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/graph"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/policy"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// governed is each with the policies in the database, where they can be changed.
func governed(t *testing.T, test func(w *world)) {
	t.Helper()
	each(t, func(w *world) {
		control, err := access.New(policy.Source{DB: w.db}, func(string, uint64, []casbin.Finding, error) {})
		w.NoError(err)
		keys, err := audit.NewKeys([]byte(strings.Repeat("k", audit.KeySize)))
		w.NoError(err)
		logger, log := slog.New(slog.NewTextHandler(w.log, nil)), audit.New(keys)
		w.records = record.New(w.db, control, log, logger)
		w.handler, err = graph.NewHandler(graph.Config{
			DB: w.db, Control: control, Records: w.records, Policies: policy.New(w.db, control, log, logger).WithApprovals(w.records), Audit: log, Log: logger,
		})
		w.NoError(err)
		for tenant, rules := range w.policy.rules {
			id, err := gid.Parse(tenant)
			w.NoError(err)
			w.exec(`INSERT INTO policy_heads (tenant_id, version) VALUES (?, 1)`, id)
			for i, r := range rules {
				w.exec(`INSERT INTO policy_rules (id, tenant_id, position, ptype, v0, v1, v2, v3, v4, v5) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
					gid.New(gid.Policy), id, i, r.Ptype, r.V[0], r.V[1], r.V[2], r.V[3], r.V[4], r.V[5])
			}
		}
		w.NoError(policy.Adopt(w.t.Context(), w.db))
		test(w)
	})
}

// operator changes the policy on the machine.
func (w *world) operator(d policy.Draft) error {
	w.t.Helper()
	keys, err := audit.NewKeys([]byte(strings.Repeat("k", audit.KeySize)))
	w.NoError(err)
	control, err := access.New(policy.Source{DB: w.db}, nil)
	w.NoError(err)
	svc := policy.New(w.db, control, audit.New(keys), slog.New(slog.DiscardHandler))
	p, err := svc.Current(w.t.Context(), w.tenant)
	w.NoError(err)
	d.Base = p.Version
	_, err = svc.Apply(w.t.Context(), w.tenant, d)
	// The server polls; here its next request is to see it.
	_ = w.ask("admin", `mutation { deletePolicyTest(name: "no such test") { name } }`)
	return err
}

// rule is a row of the tenant's.
func (w *world) rule(subject, object, action, effect, condition string) casbin.Rule {
	return casbin.Permission(subject, w.tenant.String(), object, action, effect, condition)
}

func (w *world) userSubject(name string) string { return casbin.UserSubject(w.users[name].String()) }

func (w *world) grant(user, role string) casbin.Rule {
	return casbin.Grant(w.userSubject(user), casbin.RoleSubject(role), w.tenant.String())
}

func (w *world) version() int {
	w.t.Helper()
	v, _ := at(get[object](w, "admin", `{ policy { version } }`), "policy", "version").(float64)
	return int(v)
}

const apply = `mutation($v: Int!, $d: PolicyDraftInput!, $m: String! = "") { applyPolicy(input: {version: $v, draft: $d, message: $m}) { policy { version csv } } }`

func lines(rules ...casbin.Rule) []object {
	out := []object{}
	for _, r := range rules {
		out = append(out, object{"line": r.String()})
	}
	return out
}

// applies sends a change of the version in force.
func (w *world) applies(as string, d object) answer {
	w.t.Helper()
	return w.ask(as, apply, vars{"v": w.version(), "d": d})
}

// refusal is the code and the cause of the first error.
func (a answer) refusal() string {
	a.w.t.Helper()
	code := a.code()
	if cause, ok := a.Errors[0].Extensions["cause"]; ok {
		return code + " " + fmt.Sprint(cause)
	}
	return code
}

func TestAPolicyIsReadByWhoMay(t *testing.T) {
	governed(t, func(w *world) {
		got := get[object](w, "admin", `{ policy { version roles csv rules { kind subject role object action effect condition } findings { severity message } duties { name } tests { name } } }`)
		w.EqualValues(1, at(got, "policy", "version"))
		w.Equal([]any{"admin", "agent", "compliance", "manager", "purger", "viewer"}, at(got, "policy", "roles"))
		rules, err := casbin.ReadCSV(strings.NewReader(fmt.Sprint(at(got, "policy", "csv"))))
		w.NoError(err)
		w.Equal(w.policy.rules[w.tenant.String()], rules)
		w.Empty(at(got, "policy", "findings"), "nothing is wrong with the default policy")
		for _, as := range []string{"viewer", "agent", "manager", "compliance", "purger", "nobody"} {
			for _, field := range []string{`policy { version }`, `policyHistory(first: 1) { totalCount }`, `whoCan(action: PURGE, object: "Customer") { roles }`, `accessMatrix { role }`, `accessReview { role }`} {
				w.Equal("FORBIDDEN", w.ask(as, "{ "+field+" }").code(), as)
			}
			w.Equal("FORBIDDEN", w.ask(as, apply, vars{"v": 1, "d": object{"add": lines(w.grant(as, "admin"))}}).code(), as)
		}
		w.Equal(1, w.version())
	})
}

func TestAChangeOfAPolicyIsKeptAsAVersion(t *testing.T) {
	governed(t, func(w *world) {
		c := w.customer("agent2", "Elsewhere")
		seen := func() any {
			return at(get[object](w, "agent", `query($id: ID!) { node(id: $id) { id } }`, vars{"id": c.String()}), "node", "id")
		}
		w.Nil(seen())
		added := w.rule("role:viewer", "Customer", "read", "allow", "any")
		got := get[object](w, "admin", apply, vars{"v": 1, "m": "Everybody reads customers", "d": object{"add": lines(added)}})
		w.EqualValues(2, at(got, "applyPolicy", "policy", "version"))
		w.Equal(c.String(), seen(), "the next request is judged by it")

		history := get[object](w, "admin", `{ policyHistory(first: 9) { totalCount nodes { version message author { name } csv } } }`)
		w.EqualValues(2, at(history, "policyHistory", "totalCount"))
		w.Equal([]any{1.0, 2.0}, column(at(history, "policyHistory", "nodes"), "version"))
		w.Equal([]any{"The policy as it was before changes were kept", "Everybody reads customers"}, column(at(history, "policyHistory", "nodes"), "message"))
		w.Nil(at(history, "policyHistory", "nodes", 0, "author"))
		w.Equal("admin", at(history, "policyHistory", "nodes", 1, "author", "name"))
		w.Contains(at(history, "policyHistory", "nodes", 1, "csv"), added.String())
		diff := get[object](w, "admin", `{ policyDiff(from: 1, to: 2) { added { line } removed { line } } }`)
		w.Equal([]any{added.String()}, column(at(diff, "policyDiff", "added"), "line"))
		w.Empty(at(diff, "policyDiff", "removed"))
		w.Equal("NOT_FOUND", w.ask("admin", `{ policyDiff(from: 1, to: 7) { to } }`).code())

		got = get[object](w, "admin", `mutation { rollbackPolicy(input: {version: 2, to: 1, message: "Not so"}) { policy { version csv } } }`)
		w.EqualValues(3, at(got, "rollbackPolicy", "policy", "version"))
		w.NotContains(at(got, "rollbackPolicy", "policy", "csv"), added.String())
		w.Nil(seen())
		events := get[object](w, "compliance", `{ auditEvents(first: 9, where: {actionHasPrefix: "POLICY"}) { nodes { action outcome policyVersion actor { user { name } } } } }`)
		w.Equal([]any{"POLICY_APPLY", "POLICY_ROLLBACK"}, column(at(events, "auditEvents", "nodes"), "action"))
		w.Equal([]any{1.0, 2.0}, column(at(events, "auditEvents", "nodes"), "policyVersion"))
	})
}

func TestOfTwoEditorsOneIsToldWhatTheOtherChanged(t *testing.T) {
	governed(t, func(w *world) {
		first, second := w.rule("role:viewer", "Customer", "read", "allow", "any"), w.rule("role:viewer", "Deal", "read", "allow", "any")
		get[object](w, "admin", apply, vars{"v": 1, "m": "First", "d": object{"add": lines(first)}})
		a := w.ask("admin", apply, vars{"v": 1, "d": object{"add": lines(second)}})
		w.Equal("CONFLICT", a.code(), a.raw)
		w.EqualValues(2, a.Errors[0].Extensions["version"])
		w.Equal(w.users["admin"].String(), a.Errors[0].Extensions["author"])
		w.Equal("First", a.Errors[0].Extensions["message"])
		w.Equal([]any{first.String()}, a.Errors[0].Extensions["added"])
		w.Equal("CONFLICT", w.ask("admin", `mutation { rollbackPolicy(input: {version: 1, to: 1}) { policy { version } } }`).code())
		w.Equal(2, w.version())
	})
}

func TestAChangeWithOneBadRowChangesNothing(t *testing.T) {
	governed(t, func(w *world) {
		var rows []casbin.Rule
		for i := range 49 {
			rows = append(rows, w.rule(fmt.Sprintf("role:team%d", i), "Customer", "read", "allow", "any"))
		}
		for name, bad := range map[string]casbin.Rule{
			"object":    w.rule("role:x", "Invoice", "read", "allow", "any"),
			"action":    w.rule("role:x", "Customer", "look", "allow", "any"),
			"effect":    w.rule("role:x", "Customer", "read", "Allow", "any"),
			"condition": w.rule("role:x", "Customer", "read", "allow", "owner = me"),
			"tenant":    casbin.Permission("role:x", w.other.String(), "Customer", "read", "allow", "any"),
			"user":      w.rule(casbin.UserSubject(gid.New(gid.User).String()), "Customer", "read", "allow", "any"),
			"stranger":  casbin.Grant(w.userSubject("stranger"), "role:viewer", w.tenant.String()),
			"bare user": w.rule("alice", "Customer", "read", "allow", "any"),
			"cycle":     casbin.Grant("role:viewer", "role:manager", w.tenant.String()),
		} {
			a := w.applies("admin", object{"add": lines(append(slices.Clone(rows), bad)...)})
			w.Equal("BAD_USER_INPUT POLICY_INVALID", a.refusal(), "%s: %s", name, a.raw)
			w.NotEmpty(a.Errors[0].Extensions["findings"], name)
			got := get[object](w, "admin", `query($d: PolicyDraftInput!) { validatePolicy(draft: $d) { accepted cause findings { row severity } } }`,
				vars{"d": object{"add": lines(append(slices.Clone(rows), bad)...)}})
			w.Equal(false, at(got, "validatePolicy", "accepted"), name)
		}
		w.Equal("BAD_USER_INPUT", w.applies("admin", object{"csv": "p,role:x"}).code())
		w.Equal("BAD_USER_INPUT POLICY_INVALID", w.applies("admin", object{"remove": lines(rows[0])}).refusal(), "a row that is not there")
		w.Equal(1, w.version())
		w.NotContains(w.ask("admin", `{ policy { csv } }`).raw, "role:team")
		get[object](w, "admin", apply, vars{"v": 1, "d": object{"add": lines(rows...)}})
		w.Equal(2, w.version(), "the others are fine")
	})
}

func TestNobodyIsLockedOutOfThePolicy(t *testing.T) {
	governed(t, func(w *world) {
		edit := w.rule("role:admin", "*", "policy.edit", "allow", "any")
		for name, d := range map[string]object{
			"the grant goes":    {"remove": lines(w.grant("admin", "admin"))},
			"the rule goes":     {"remove": lines(edit)},
			"a deny comes":      {"add": lines(w.rule("role:admin", "Policy", "policy.edit", "deny", "any"))},
			"a file without it": {"csv": w.grant("agent", "agent").String() + "\n" + w.rule("role:agent", "Customer", "read", "allow", "any").String()},
			"an empty file":     {"csv": ""},
		} {
			a := w.applies("admin", d)
			w.Equal("FORBIDDEN LOCKOUT", a.refusal(), "%s: %s", name, a.raw)
			w.NotEmpty(a.Errors[0].Extensions["decisionID"])
		}
		a := w.ask("admin", `mutation($u: ID!) { revokeRole(input: {user: $u, role: "admin"}) { policy { version } } }`, vars{"u": w.users["admin"].String()})
		w.Equal("FORBIDDEN LOCKOUT", a.refusal())
		w.ErrorIs(w.operator(policy.Draft{Replace: true}), policy.ErrLockout, "not by the operator either")
		w.Equal(1, w.version())

		// A version in which somebody else was the editor, who has left since.
		w.NoError(w.operator(policy.Draft{Add: []casbin.Rule{w.grant("manager", "admin")}, Remove: []casbin.Rule{w.grant("admin", "admin")}}))
		w.NoError(w.operator(policy.Draft{Add: []casbin.Rule{w.grant("admin", "admin")}}))
		w.exec(`UPDATE users SET active = ? WHERE id = ?`, false, w.users["manager"])
		a = w.ask("admin", `mutation { rollbackPolicy(input: {version: 3, to: 2}) { policy { version } } }`)
		w.Equal("FORBIDDEN LOCKOUT", a.refusal())
		w.Equal(3, w.version())
		events := get[object](w, "compliance", `{ auditEvents(first: 50, where: {outcome: REFUSED}) { nodes { action code } } }`)
		w.Subset(column(at(events, "auditEvents", "nodes"), "action"), []any{"POLICY_APPLY", "ROLE_REVOKE", "POLICY_ROLLBACK"})
	})
}

func TestNobodyChangesWhatHeMayDoHimself(t *testing.T) {
	governed(t, func(w *world) {
		me := w.userSubject("admin")
		w.NoError(w.operator(policy.Draft{Add: []casbin.Rule{w.rule(me, "Deal", "read", "deny", "state == VOIDED"), w.rule("role:top", "*", "purge", "allow", "any")}}))
		for name, d := range map[string]object{
			"a grant to himself":     {"add": lines(w.grant("admin", "purger"))},
			"a role he holds":        {"add": lines(w.rule("role:admin", "Customer", "purge", "allow", "owner == me"))},
			"an edge above his role": {"add": lines(casbin.Grant("role:admin", "role:top", w.tenant.String()))},
			"a rule on himself":      {"add": lines(w.rule(me, "Customer", "erase", "allow", "any"))},
			"a deny on himself":      {"remove": lines(w.rule(me, "Deal", "read", "deny", "state == VOIDED"))},
			"a narrower deny":        {"remove": lines(w.rule(me, "Deal", "read", "deny", "state == VOIDED")), "add": lines(w.rule(me, "Deal", "read", "deny", "state == VOIDED and owner == me"))},
		} {
			a := w.applies("admin", d)
			w.Equal("FORBIDDEN ESCALATION", a.refusal(), "%s: %s", name, a.raw)
			w.Equal(me, a.Errors[0].Extensions["subject"], name)
		}
		a := w.ask("admin", `mutation($u: ID!) { grantRole(input: {user: $u, role: "purger"}) { policy { version } } }`, vars{"u": w.users["admin"].String()})
		w.Equal("FORBIDDEN ESCALATION", a.refusal())
		// Version 1 had no deny on him.
		a = w.ask("admin", `mutation { rollbackPolicy(input: {version: 2, to: 1}) { policy { version } } }`)
		w.Equal("FORBIDDEN ESCALATION", a.refusal())
		w.Equal(2, w.version())
		w.Empty(w.applies("admin", object{"add": lines(w.rule(me, "Deal", "read", "deny", "any"))}).Errors, "less is no escalation")
	})
}

func TestOthersGetNoMoreThanTheGiverHas(t *testing.T) {
	governed(t, func(w *world) {
		give := func(as, user, role string) answer {
			return w.ask(as, `mutation($u: ID!, $r: String!) { grantRole(input: {user: $u, role: $r}) { policy { version } } }`, vars{"u": w.users[user].String(), "r": role})
		}
		w.Empty(give("admin", "nobody", "manager").Errors)
		w.Equal("manager", at(get[object](w, "nobody", `{ viewer { roles } }`), "viewer", "roles", 0), "at once")
		w.Equal("NOT_FOUND", give("admin", "nobody", "emperor").code())
		w.Equal("NOT_FOUND", give("admin", "stranger", "agent").code())
		for _, role := range []string{"purger", "compliance", "admin"} {
			w.Empty(give("admin", "agent", role).Errors, role)
			w.Equal([]any{"agent", "viewer"}, at(get[object](w, "agent", `{ viewer { roles } }`), "viewer", "roles"), "another has to agree first")
		}
		w.Empty(w.applies("admin", object{"add": lines(w.rule("role:agent", "*", "hold.release", "allow", "any"))}).Errors)
		w.Equal("FORBIDDEN ESCALATION", w.applies("admin", object{"add": lines(w.rule("role:admin", "*", "hold.release", "allow", "any"))}).refusal(), "he would gain it himself")
		w.Equal(4, w.count(`SELECT COUNT(*) FROM approvals`))
		w.Empty(w.applies("admin", object{"add": lines(w.rule("role:agent", "*", "*", "allow", "any"))}).Errors, "a wildcard leaves them out")
		c := w.customer("agent", "a")
		w.deleted("agent", c)
		w.Equal("FORBIDDEN", w.ask("agent", `mutation($id: ID!) { purgeRecords(input: {select: {ids: [$id]}}) { operation { id } } }`, vars{"id": c.String()}).code(), "* is no purge")
		w.Empty(w.ask("admin", `mutation($u: ID!) { revokeRole(input: {user: $u, role: "purger"}) { policy { version } } }`, vars{"u": w.users["purger"].String()}).Errors, "revoking is free")

		// One who may edit the policy and else only what his team has.
		w.NoError(w.operator(policy.Draft{Add: []casbin.Rule{
			w.rule("role:clerk", "Policy", "policy.edit", "allow", "any"), w.rule("role:clerk", "Policy", "policy.read", "allow", "any"), w.grant("agent2", "clerk"),
		}, Remove: []casbin.Rule{w.rule("role:agent", "*", "*", "allow", "any")}}))
		for condition, ok := range map[string]bool{
			"owner == me or team in my.teams": true, "owner == me": true, "owner == me and state == ACTIVE": true, "any": false, "not owner == me": false, "state == ACTIVE": false,
		} {
			a := w.applies("agent2", object{"add": lines(w.rule("user:"+w.users["viewer"].String(), "Customer", "update", "allow", condition))})
			if ok {
				w.Empty(a.Errors, "%s: %s", condition, a.raw)
			} else {
				w.Equal("FORBIDDEN ESCALATION", a.refusal(), condition)
			}
		}
	})
}

func TestAUserNamedLikeARoleHasNoRole(t *testing.T) {
	governed(t, func(w *world) {
		w.exec(`UPDATE users SET name = 'role:admin' WHERE id = ?`, w.users["nobody"])
		w.Equal([]any{}, at(get[object](w, "nobody", `{ viewer { roles } }`), "viewer", "roles"))
		w.Equal("FORBIDDEN", w.ask("nobody", `{ policy { version } }`).code())
		for _, subject := range []string{"admin", "user:admin", "user:role:admin"} {
			a := w.applies("admin", object{"add": lines(casbin.Grant(subject, "role:viewer", w.tenant.String()))})
			w.Equal("BAD_USER_INPUT POLICY_INVALID", a.refusal(), subject)
		}
	})
}

func TestSeparationOfDutyHoldsOverInheritedRoles(t *testing.T) {
	governed(t, func(w *world) {
		w.NoError(w.operator(policy.Draft{
			SetDuties: true, Duties: []policy.Duty{{Name: "write and review", Roles: []string{"agent", "reviewer"}}},
			Add: []casbin.Rule{w.rule("role:reviewer", "Customer", "approve", "allow", "any"), w.grant("nobody", "reviewer")},
		}))
		got := get[object](w, "admin", `{ policy { duties { name roles } } }`)
		w.Equal([]any{object{"name": "write and review", "roles": []any{"agent", "reviewer"}}}, at(got, "policy", "duties"))
		grant := func(user, role string) answer {
			return w.ask("admin", `mutation($u: ID!, $r: String!) { grantRole(input: {user: $u, role: $r}) { policy { version } } }`, vars{"u": w.users[user].String(), "r": role})
		}
		w.Equal("FORBIDDEN SEPARATION_OF_DUTY", grant("agent", "reviewer").refusal())
		w.Equal("FORBIDDEN SEPARATION_OF_DUTY", grant("manager", "reviewer").refusal(), "a manager is an agent")
		w.Equal("FORBIDDEN SEPARATION_OF_DUTY", grant("nobody", "manager").refusal(), "the other way round")
		w.Empty(grant("viewer", "reviewer").Errors)
		a := w.applies("admin", object{"add": lines(casbin.Grant("role:viewer", "role:reviewer", w.tenant.String()))})
		w.Equal("FORBIDDEN SEPARATION_OF_DUTY", a.refusal(), "an edge gives it to every agent")
		w.ErrorIs(w.operator(policy.Draft{Add: []casbin.Rule{w.grant("agent2", "reviewer")}}), policy.ErrDuty, "not by the operator either")
		a = w.applies("admin", object{"duties": []object{{"name": "x", "roles": []string{"agent", "viewer"}}}})
		w.Equal("FORBIDDEN SEPARATION_OF_DUTY", a.refusal(), "nor one that is broken already")
		w.Equal("BAD_USER_INPUT POLICY_INVALID", w.applies("admin", object{"duties": []object{{"name": "x", "roles": []string{"agent"}}}}).refusal())
		w.Empty(w.applies("admin", object{"duties": []object{}}).Errors)
		w.Empty(grant("agent", "reviewer").Errors)
	})
}

func TestAFailingTestKeepsAPolicyOut(t *testing.T) {
	governed(t, func(w *world) {
		const put = `mutation($i: PutPolicyTestInput!) { putPolicyTest(input: $i) { test { name passed permit } } }`
		got := get[object](w, "admin", put, vars{"i": object{"name": "agents purge nothing", "role": "agent", "action": "PURGE", "object": "Customer", "permit": false}})
		w.Equal(true, at(got, "putPolicyTest", "test", "passed"))
		got = get[object](w, "admin", put, vars{"i": object{
			"name": "agents keep to their own", "role": "agent", "action": "DELETE", "object": "Customer", "permit": false,
			"attributes": []object{{"name": "owner", "json": `"somebody"`}},
		}})
		w.Equal(true, at(got, "putPolicyTest", "test", "passed"))
		open := object{"add": lines(w.rule("role:agent", "Customer", "delete", "allow", "any"))}
		a := w.applies("admin", open)
		w.Equal("BAD_USER_INPUT POLICY_TEST", a.refusal())
		w.Equal([]any{"agents keep to their own"}, a.Errors[0].Extensions["tests"])
		got = get[object](w, "admin", `query($d: PolicyDraftInput!) { validatePolicy(draft: $d) { accepted cause failedTests { name } } }`, vars{"d": open})
		w.Equal([]any{"agents keep to their own"}, column(at(got, "validatePolicy", "failedTests"), "name"))
		get[object](w, "admin", `mutation { deletePolicyTest(name: "agents keep to their own") { name } }`)
		w.Empty(w.applies("admin", open).Errors)
		w.Equal([]any{"agents purge nothing"}, column(at(get[object](w, "admin", `{ policy { tests { name } } }`), "policy", "tests"), "name"))
		for _, bad := range []object{
			{"name": "x", "action": "READ", "object": "Customer", "permit": true}, {"name": "x", "role": "a", "action": "READ", "object": "Invoice", "permit": true},
			{"name": " ", "role": "a", "action": "READ", "object": "Customer", "permit": true},
			{"name": "x", "role": "a", "action": "READ", "object": "Customer", "permit": true, "attributes": []object{{"name": "nose", "json": "1"}}},
		} {
			w.Equal("BAD_USER_INPUT POLICY_INVALID", w.ask("admin", put, vars{"i": bad}).refusal())
		}
		w.Equal("NOT_FOUND", w.ask("admin", `mutation { deletePolicyTest(name: "x") { name } }`).code())
	})
}

func TestAnEditorWhoIsNoneAnyMoreIsRefusedAtOnce(t *testing.T) {
	governed(t, func(w *world) {
		w.NoError(w.operator(policy.Draft{Add: []casbin.Rule{w.grant("manager", "admin")}}))
		get[object](w, "manager", `{ policy { version } }`)
		// Behind the back of this server, which has not polled yet.
		w.exec(`DELETE FROM policy_rules WHERE v0 = ? AND v1 = 'role:admin'`, w.userSubject("manager"))
		w.exec(`UPDATE policy_heads SET version = 3 WHERE tenant_id = ?`, w.tenant)
		a := w.ask("manager", apply, vars{"v": 3, "d": object{"add": lines(w.rule("role:viewer", "Customer", "read", "allow", "any"))}})
		w.Equal("FORBIDDEN", a.refusal(), "not for what he would give: %s", a.raw)
	})
}

func TestAccessIsExplained(t *testing.T) {
	governed(t, func(w *world) {
		c := w.customer("agent", "a")
		const explain = `query($u: ID, $r: String, $a: Action, $rec: ID, $o: String, $d: ID) { explainAccess(user: $u, role: $r, action: $a, record: $rec, object: $o, decisionID: $d) {
			permitted subject action object roles rule policyVersion decidedBy reasons { plugin code rule detail } } }`
		e := at(get[object](w, "admin", explain, vars{"u": w.users["manager"].String(), "a": "DELETE", "rec": c.String()}), "explainAccess")
		w.Equal(true, at(e, "permitted"))
		w.Equal([]any{"manager", "agent", "viewer"}, at(e, "roles"))
		w.Contains(at(e, "rule"), "role:manager")
		w.Len(at(e, "reasons"), 2)
		w.Contains(column(at(e, "reasons"), "code"), "condition_failed", "the agent's rule, for his own records only")
		w.Contains(w.ask("admin", explain, vars{"u": w.users["manager"].String(), "a": "DELETE", "rec": c.String()}).raw, "owner = "+w.users["agent"].String())
		e = at(get[object](w, "admin", explain, vars{"u": w.users["agent2"].String(), "a": "DELETE", "rec": c.String()}), "explainAccess")
		w.Equal(false, at(e, "permitted"))
		e = at(get[object](w, "admin", explain, vars{"r": "purger", "a": "PURGE", "o": "Customer"}), "explainAccess")
		w.Equal(true, at(e, "permitted"))
		w.Equal("role:purger", at(e, "subject"))
		for _, bad := range []vars{
			{"a": "READ", "o": "Customer"}, {"u": w.users["agent"].String(), "r": "x", "a": "READ", "o": "Customer"}, {"r": "x", "o": "Customer"}, {"r": "x", "a": "READ"},
			{"r": "x", "a": "READ", "o": "Invoice"}, {"u": c.String(), "a": "READ", "o": "Customer"},
		} {
			w.Equal("BAD_USER_INPUT", w.ask("admin", explain, bad).code())
		}
		w.Equal("NOT_FOUND", w.ask("admin", explain, vars{"u": w.users["stranger"].String(), "a": "READ", "o": "Customer"}).code())
		w.Equal("NOT_FOUND", w.ask("admin", explain, vars{"r": "x", "a": "READ", "rec": gid.New(gid.Customer).String()}).code())

		refused := w.ask("viewer", `mutation { createCustomer(input: {name: "x"}) { customer { id } } }`)
		id := refused.Errors[0].Extensions["decisionID"]
		w.NotEmpty(id)
		e = at(get[object](w, "admin", explain, vars{"d": id}), "explainAccess")
		w.Equal(object{
			"permitted": false, "subject": "user:" + w.users["viewer"].String(), "action": "CREATE", "object": "Customer", "roles": []any{"viewer"}, "rule": nil,
			"policyVersion": 1.0, "decidedBy": 1.0, "reasons": []any{object{"plugin": "casbin", "code": "no_matching_rule", "rule": nil, "detail": nil}},
		}, e)
		id = w.ask("viewer", `{ policy { version } }`).Errors[0].Extensions["decisionID"]
		w.Equal("Policy", at(get[object](w, "admin", explain, vars{"d": id}), "explainAccess", "object"))
		w.Equal("NOT_FOUND", w.ask("stranger", explain, vars{"d": id}).code(), "a decision of another tenant")
	})
}

func TestWhoCan(t *testing.T) {
	governed(t, func(w *world) {
		got := get[object](w, "admin", `{ whoCan(action: PURGE, object: "Customer") { roles users { name teams { name } } totalUsers } }`)
		w.Equal([]any{"purger"}, at(got, "whoCan", "roles"))
		w.Equal([]any{"purger"}, column(at(got, "whoCan", "users"), "name"))
		w.exec(`UPDATE users SET active = ? WHERE id = ?`, false, w.users["purger"])
		w.EqualValues(0, at(get[object](w, "admin", `{ whoCan(action: PURGE, object: "Customer") { totalUsers } }`), "whoCan", "totalUsers"))
		w.Equal("BAD_USER_INPUT", w.ask("admin", `{ whoCan(action: PURGE, object: "Invoice") { totalUsers } }`).code())
		matrix, _ := at(get[object](w, "admin", `{ accessMatrix { role object action reach } }`), "accessMatrix").([]any)
		has := map[string]any{}
		for _, m := range matrix {
			has[fmt.Sprint(at(m, "role"), " ", at(m, "action"), " ", at(m, "object"))] = at(m, "reach")
		}
		w.Equal("ALWAYS", has["purger PURGE Customer"])
		w.Equal("SOMETIMES", has["manager DELETE Customer"])
		w.Nil(has["admin PURGE Customer"])
		w.Nil(has["viewer DELETE Customer"])
	})
}

func TestAPreviewNamesWhatWouldChange(t *testing.T) {
	governed(t, func(w *world) {
		c := w.customer("agent", "a")
		w.deleted("agent", c)
		draft := object{"remove": lines(w.rule("role:agent", "*", "delete", "allow", "owner == me"))}
		const preview = `query($d: PolicyDraftInput!, $n: Int!) { previewPolicy(draft: $d, replay: $n) {
			judgement { accepted cause } changes { subject action object gained lost } totalChanges replayed flips { user action object before after } } }`
		got := at(get[object](w, "admin", preview, vars{"d": draft, "n": 100}), "previewPolicy")
		w.Equal(true, at(got, "judgement", "accepted"))
		w.Contains(at(got, "changes"), object{"subject": "role:agent", "action": "DELETE", "object": "Customer", "gained": false, "lost": true})
		w.Contains(at(got, "changes"), object{"subject": w.userSubject("manager"), "action": "DELETE", "object": "Customer", "gained": false, "lost": true})
		w.EqualValues(2, at(got, "replayed"))
		w.Equal([]any{object{"user": w.users["agent"].String(), "action": "DELETE", "object": "Customer", "before": true, "after": false}}, at(got, "flips"))
		got = at(get[object](w, "admin", preview, vars{"d": object{"add": lines(w.rule("role:viewer", "Customer", "read", "allow", "owner == me"))}, "n": 0}), "previewPolicy")
		w.EqualValues(0, at(got, "totalChanges"), "it says nothing new")
		w.Equal("BAD_USER_INPUT", w.ask("admin", preview, vars{"d": draft, "n": 10_001}).code())
		w.Equal(1, w.version())
	})
}

func TestGrantsAreReviewed(t *testing.T) {
	governed(t, func(w *world) {
		w.customer("agent", "a")
		w.exec(`UPDATE users SET active = ? WHERE id = ?`, false, w.users["viewer"])
		w.sql.take()
		list, _ := at(get[object](w, "admin", `{ accessReview { user name active role inherited lastUsedAt } }`), "accessReview").([]any)
		w.Len(slices.DeleteFunc(w.sql.take(), func(q string) bool { return !strings.Contains(q, "audit_events") && !strings.Contains(q, "users") }), 1)
		by := map[string]any{}
		for _, g := range list {
			by[fmt.Sprint(at(g, "name"))] = g
		}
		w.Len(list, 7)
		w.NotNil(at(by["agent"], "lastUsedAt"))
		w.Nil(at(by["agent2"], "lastUsedAt"), "never used")
		w.Equal(false, at(by["viewer"], "active"), "has left")
		w.Equal([]any{"agent", "viewer"}, at(by["manager"], "inherited"))
	})
}

func TestRevisionsAreOnlyAdded(t *testing.T) {
	governed(t, func(w *world) {
		for _, statement := range []string{`UPDATE policy_revisions SET message = 'x'`, `DELETE FROM policy_revisions`} {
			_, err := store.Build(w.db).Add(statement).Exec(w.t.Context(), w.db)
			w.ErrorContains(err, "append-only", statement)
		}
	})
}
