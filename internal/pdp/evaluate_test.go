package pdp_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/gid"
)

func user(id string) object { return object{"type": "user", "id": id} }

func thing(typ, id string) object { return object{"type": typ, "id": id} }

func TestUsersAndRecordsAreJudgedAsTheyAre(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		s := w.serve("")
		own, colleagues := s.customer("agent", "Own"), s.customer("manager", "Colleagues'")
		gone := s.customer("agent", "Gone")
		s.delete("agent", gone)
		require.NoError(w, w.people.DeactivateUser(w.Context(), w.tenant, w.users["admin"]))
		other, err := w.people.CreateTenant(w.Context(), "other")
		require.NoError(w, err)
		stranger, err := w.people.CreateUser(w.Context(), other, "s@other.example", "s", nil)
		require.NoError(w, err)
		sales := []any{w.teams["Sales"].String()}
		posing := user(w.id("outsider"))
		posing["properties"] = object{"teams": sales}
		moved := thing("Customer", colleagues)
		moved["properties"] = object{"owner": w.id("outsider")}
		partly := thing("Customer", own)
		partly["properties"] = object{"name": "another"}
		fresh := thing("Customer", "new")
		fresh["properties"] = object{"owner": w.id("outsider"), "team": nil}
		for name, c := range map[string]struct {
			subject  object
			action   string
			resource object
			permit   bool
			code     string
		}{
			"his own":                              {user(w.id("agent")), "delete", thing("Customer", own), true, ""},
			"his team's, by the database":          {user(w.id("agent")), "update", thing("Customer", colleagues), true, ""},
			"his team's, but only his own":         {user(w.id("agent")), "delete", thing("Customer", colleagues), false, "no_matching_rule"},
			"another team's":                       {user(w.id("outsider")), "update", thing("Customer", colleagues), false, "no_matching_rule"},
			"teams that he claims":                 {posing, "update", thing("Customer", colleagues), false, "no_matching_rule"},
			"an owner that the caller gives":       {user(w.id("outsider")), "update", moved, true, ""},
			"the rest comes from the database":     {user(w.id("agent")), "update", partly, true, ""},
			"no such record":                       {user(w.id("agent")), "read", thing("Customer", gid.New(gid.Customer).String()), false, "resource_not_found"},
			"an id of another type":                {user(w.id("agent")), "read", thing("Contact", own), false, "resource_not_found"},
			"no id at all":                         {user(w.id("agent")), "read", thing("Customer", "7"), false, "resource_not_found"},
			"in the bin, to read":                  {user(w.id("agent")), "read", thing("Customer", gone), false, "resource_state"},
			"in the bin, to read there":            {user(w.id("agent")), "read_retired", thing("Customer", gone), true, ""},
			"in use, to read in the bin":           {user(w.id("agent")), "read_retired", thing("Customer", own), false, "resource_state"},
			"in the bin, to restore":               {user(w.id("agent")), "restore", thing("Customer", gone), true, ""},
			"deactivated":                          {user(w.id("admin")), "read", thing("Customer", own), false, "subject_inactive"},
			"a user who is not there":              {user(gid.New(gid.User).String()), "read", thing("Customer", own), false, "subject_not_found"},
			"another tenant's user":                {user(stranger.String()), "read", thing("Customer", own), false, "subject_not_found"},
			"Lethe itself":                         {user("system"), "read", thing("Customer", own), false, "subject_not_found"},
			"what a role may do":                   {thing("role", "purger"), "purge", thing("Customer", own), true, ""},
			"what a role may not do":               {thing("role", "viewer"), "update", thing("Customer", own), false, "no_matching_rule"},
			"to make one":                          {user(w.id("outsider")), "create", fresh, true, ""},
			"to make one of nobody":                {user(w.id("outsider")), "create", thing("Customer", "new"), false, "no_matching_rule"},
			"the type as a whole":                  {thing("role", "purger"), "purge", thing("Customer", "*"), true, ""},
			"the type as a whole, owned by nobody": {user(w.id("agent")), "read", thing("Customer", "*"), false, "no_matching_rule"},
			"what is no record":                    {thing("role", "admin"), "policy.edit", thing("Policy", "*"), true, ""},
			"a subject of another kind":            {thing("robot", "r2"), "read", thing("Customer", own), false, "incomplete_request"},
		} {
			permit, code := s.evaluate(c.subject, c.action, c.resource)
			require.Equal(w, c.permit, permit, "%s: %s", name, code)
			require.Equal(w, c.code, code, name)
		}
	})
}

func TestTheWildcardStandsForWhatIsInTheCatalogue(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		admin, tenant := w.id("admin"), w.tenant.String()
		s := w.serve(`[{"name": "policy", "kind": "casbin", "role": "grant", "config": {"external": {"invoice": {}}}}, {"name": "other", "kind": "other", "role": "grant"}]`,
			casbin.Grant(casbin.UserSubject(admin), casbin.RoleSubject("admin"), tenant))
		customer := s.customer("agent", "A customer")
		for _, action := range []string{"PURGE", "Purge", "purge", "purge ", "ERASE", "HOLD_RELEASE", "hold_release", "policy_edit", "no.such.action", "*"} {
			permit, _ := s.evaluate(user(admin), action, thing("Customer", customer))
			require.False(w, permit, action)
			status, got := s.ask("search/resource", object{"subject": user(admin), "action": object{"name": action}, "resource": object{"type": "Customer"}})
			require.Equal(w, http.StatusOK, status, got)
			require.Empty(w, got["results"], action)
		}
		for typ, permitted := range map[string]bool{"customer": false, "Customers": false, "nothing": false, "Customer": true, "invoice": true} {
			id := customer
			if !permitted {
				id = "1"
			}
			permit, code := s.evaluate(user(admin), "read", thing(typ, id))
			require.Equal(w, permitted, permit, "%s: %s", typ, code)
		}
		permit, code := s.evaluate(user(admin), "open", thing("door", "1"))
		require.True(w, permit, "another plugin knows it: %s", code)
	})
}

func TestAnExternalThingHasNoTypeAsAWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite)
	tenant := w.tenant.String()
	s := w.serve(`[{"name": "policy", "kind": "casbin", "role": "grant", "config": {"external": {"invoice": {"secret": "bool"}}}}]`,
		casbin.Permission("user:alice", tenant, "invoice", "read", "allow", "any"),
		casbin.Permission("user:alice", tenant, "invoice", "read", "deny", "secret == true"))
	for _, id := range []string{"1", "*"} {
		permit, code := s.evaluate(user("alice"), "read", thing("invoice", id))
		require.False(w, permit, id)
		require.Equal(w, "rule_deny", code)
		known := thing("invoice", id)
		known["properties"] = object{"secret": false}
		permit, _ = s.evaluate(user("alice"), "read", known)
		require.True(w, permit, id)
	}
}

func TestAFieldAndTheTenantComeInTheContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite)
	tenant := w.tenant.String()
	s := w.serve("", casbin.Permission(casbin.UserSubject(w.id("agent")), tenant, "Customer.email", "*", "deny", "any"))
	customer := s.customer("agent", "A customer")
	for name, c := range map[string]struct {
		typ     string
		context object
		status  int
		permit  bool
	}{
		"the record":             {"Customer", object{}, 200, true},
		"a field":                {"Customer", object{"field": "phone"}, 200, true},
		"a field that is denied": {"Customer", object{"field": "email"}, 200, false},
		"no field":               {"Customer", object{"field": nil, "tenant": nil}, 200, true},
		"an unknown field":       {"Customer", object{"field": "Email"}, 400, false},
		"an empty field":         {"Customer", object{"field": ""}, 400, false},
		"no text":                {"Customer", object{"field": []any{"phone"}}, 400, false},
		"of a type without any":  {"Policy", object{"field": "email"}, 400, false},
		"his tenant":             {"Customer", object{"tenant": tenant}, 200, true},
		"another tenant":         {"Customer", object{"tenant": gid.New(gid.Tenant).String()}, 400, false},
		"no name of a tenant":    {"Customer", object{"tenant": 7}, 400, false},
	} {
		question := object{"subject": user(w.id("agent")), "action": object{"name": "read"}, "resource": thing(c.typ, customer), "context": c.context}
		status, got := s.ask("evaluation", question)
		require.Equal(w, c.status, status, "%s: %v", name, got)
		if status == http.StatusOK {
			require.Equal(w, c.permit, got["decision"], name)
		}
		question["resource"], question["page"] = object{"type": c.typ}, object{"limit": 1}
		status, got = s.ask("search/resource", question)
		require.Equal(w, c.status, status, "%s: %v", name, got)
		if c.typ == "Customer" && status == http.StatusOK {
			require.Equal(w, c.permit, len(got["results"].([]any)) == 1, name)
		}
	}
}

func TestPropertiesAreComparedByTheirKind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite)
	tenant := w.tenant.String()
	s := w.serve(`[{"name": "policy", "kind": "casbin", "role": "grant", "config": {"external": {"invoice": {"due": "time", "amount": "float", "owner": "id"}}}}]`,
		casbin.Permission("user:alice", tenant, "invoice", "read", "allow", "any"),
		casbin.Permission("user:alice", tenant, "invoice", "read", "deny", "due < '2026-01-01T00:00:00Z' or amount > 1000.0"))
	for name, c := range map[string]struct {
		props  object
		permit bool
	}{
		"in time":                           {object{"due": "2026-01-01T01:00:00+01:00", "amount": 1000}, true},
		"a moment before":                   {object{"due": "2026-01-01T00:59:59+01:00", "amount": 1000}, false},
		"too much":                          {object{"due": "2026-06-01T00:00:00Z", "amount": 1000.5}, false},
		"what is not given may be too much": {object{"due": "2026-06-01T00:00:00Z"}, false},
		"null is not too much":              {object{"due": nil, "amount": nil}, true},
	} {
		resource := thing("invoice", "1")
		resource["properties"] = c.props
		permit, _ := s.evaluate(user("alice"), "read", resource)
		require.Equal(t, c.permit, permit, name)
	}
	resource := thing("invoice", "1")
	resource["properties"] = object{"due": "2020-01-01", "amount": 1} // no time: were it compared, it would not be before
	status, got := s.ask("evaluation", object{"subject": user("alice"), "action": object{"name": "read"}, "resource": resource})
	require.Equal(t, http.StatusBadRequest, status, got)
	status, got = s.ask("evaluations", object{"subject": user("alice"), "action": object{"name": "read"}, "evaluations": []any{object{"resource": resource}}})
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, false, got["evaluations"].([]any)[0].(object)["decision"])
}

func TestABatchTakesAsManyStatementsAsOneQuestion(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		s := w.serve("")
		var items []any
		for _, name := range []string{"a", "b", "c", "d"} {
			id := s.customer("agent", name)
			for _, who := range []string{"agent", "outsider", "manager"} {
				items = append(items, object{"subject": user(w.id(who)), "resource": thing("Customer", id)})
			}
		}
		s.evaluate(user(w.id("agent")), "read", thing("Customer", gid.New(gid.Customer).String())) // the token's use is stamped once
		var got object
		sent := w.statements.during(func() {
			_, got = s.ask("evaluations", object{"action": object{"name": "update"}, "evaluations": items})
		})
		require.Len(w, sent, 3, "who asks, the users, the customers:\n%s", strings.Join(sent, "\n"))
		for i, answer := range got["evaluations"].([]any) {
			require.Equal(w, i%3 != 1, answer.(object)["decision"], "%d", i)
		}
	})
}

func TestEachSemanticStopsWhereItShould(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite)
	s := w.serve("")
	yes := object{"subject": thing("role", "admin"), "action": object{"name": "read"}, "resource": thing("Policy", "*")}
	no := object{"subject": thing("role", "viewer"), "action": object{"name": "policy.edit"}, "resource": thing("Policy", "*")}
	broken := object{"subject": thing("role", "admin")}
	for name, c := range map[string]struct {
		semantic any
		items    []any
		want     []bool
	}{
		"none":                             {nil, []any{yes, no, yes}, []bool{true, false, true}},
		"all":                              {"execute_all", []any{no, broken, yes}, []bool{false, false, true}},
		"to the first deny":                {"deny_on_first_deny", []any{yes, no, yes}, []bool{true, false}},
		"to the first deny, without one":   {"deny_on_first_deny", []any{yes, yes}, []bool{true, true}},
		"a broken one is a deny":           {"deny_on_first_deny", []any{yes, broken, yes}, []bool{true, false}},
		"to the first permit":              {"permit_on_first_permit", []any{no, broken, yes, no}, []bool{false, false, true}},
		"to the first permit, without one": {"permit_on_first_permit", []any{no, no}, []bool{false, false}},
		"what is no evaluation":            {"execute_all", []any{yes, "x", nil}, []bool{true, false, false}},
	} {
		status, got := s.ask("evaluations", object{"evaluations": c.items, "options": object{"evaluations_semantic": c.semantic}})
		require.Equal(t, http.StatusOK, status, name)
		var answers []bool
		for _, v := range got["evaluations"].([]any) {
			answers = append(answers, v.(object)["decision"].(bool))
		}
		require.Equal(t, c.want, answers, name)
	}
}
