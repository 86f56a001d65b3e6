package graph_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/store"
)

const (
	updateUser = `mutation($input: UpdateUserInput!) { updateUser(input: $input) { user { id email name externalSubject version teams { id } } } }`
	renameTeam = `mutation($id: ID!, $name: String!) { renameTeam(id: $id, name: $name) { team { id name } } }`
	ownPage    = `query($id: ID!) { user(id: $id) { roles { name direct } lastSeenAt externalSubject tokens { id name createdAt lastUsedAt expiresAt } sessions { id createdAt lastUsedAt expiresAt current } } }`
)

// allow adds rows to the tenant's policy: what a role may do, and who has it.
func (w *world) allow(role string, who string, rows ...[3]string) {
	tenant := w.tenant.String()
	w.policy.mu.Lock()
	defer w.policy.mu.Unlock()
	for _, r := range rows {
		w.policy.rules[tenant] = append(w.policy.rules[tenant], casbin.Permission(casbin.RoleSubject(role), tenant, r[0], r[1], "allow", r[2]))
	}
	w.policy.rules[tenant] = append(w.policy.rules[tenant], casbin.Grant(casbin.UserSubject(w.users[who].String()), casbin.RoleSubject(role), tenant))
}

// helper is a role that edits people and may do nothing else.
func (w *world) helper(who string) {
	w.allow("helper", who, [3]string{"User", "user.edit", "any"}, [3]string{"Team", "team.edit", "any"})
}

func (w *world) refusedBy(cause string, a answer, message string) {
	w.t.Helper()
	w.Equal("FORBIDDEN", a.code(), "%s: %s", message, a.raw)
	w.Equal(cause, a.Errors[0].Extensions["cause"], message)
	decision, _ := a.Errors[0].Extensions["decisionID"].(string)
	id, err := gid.Parse(decision)
	w.NoError(err, message)
	var outcome, detail string
	w.read(`SELECT outcome, CAST(detail AS text) FROM audit_events WHERE id = ?`, []any{id}, &outcome, &detail)
	w.Equal("REFUSED", outcome, message)
	w.Contains(detail, cause, message)
}

func TestUsersAreListed(t *testing.T) {
	each(t, func(w *world) {
		w.exec(`UPDATE users SET active = ? WHERE id = ?`, false, w.users["nobody"])
		names := func(as, arguments string) []any {
			return column(at(get[object](w, as, `{ users(`+arguments+`) { nodes { name } } }`), "users", "nodes"), "name")
		}
		all := []any{"admin", "agent", "agent2", "compliance", "manager", "nobody", "purger", "viewer"}
		for _, as := range []string{"admin", "viewer"} {
			w.Equal(all, names(as, `first: 100, orderBy: {field: NAME}`), as)
		}
		w.Equal([]any{"stranger"}, names("stranger", `first: 100`))
		for arguments, want := range map[string][]any{
			`first: 2, orderBy: {field: NAME, direction: DESC}`:                                                          {"viewer", "purger"},
			`last: 1, orderBy: {field: EMAIL}`:                                                                           {"viewer"},
			`first: 1, orderBy: {field: CREATED_AT}`:                                                                     {"viewer"},
			`first: 9, where: {active: false}`:                                                                           {"nobody"},
			`first: 9, where: {nameContains: "gent"}, orderBy: {field: NAME}`:                                            {"agent", "agent2"},
			`first: 9, where: {hasTeamsWith: {id: "` + w.support.String() + `"}}`:                                        {"agent2"},
			`first: 9, where: {emailHasPrefix: "stranger"}`:                                                              {},
			`first: 9, where: {hasTeamsWith: {nameHasPrefix: "All"}}`:                                                    {},
			`first: 9, role: "manager"`:                                                                                  {"manager"},
			`first: 9, role: "agent", orderBy: {field: NAME}`:                                                            {"agent", "agent2", "manager"},
			`first: 9, role: "agent", where: {active: true, nameHasSuffix: "2"}`:                                         {"agent2"},
			`first: 9, role: "nowhere"`:                                                                                  {},
			`first: 9, role: "viewer", orderBy: {field: NAME}, where: {not: {id: "` + w.users["viewer"].String() + `"}}`: {"agent", "agent2", "manager"},
		} {
			w.Equal(want, names("admin", arguments), arguments)
		}
		got := get[object](w, "admin", `{ users(first: 3, orderBy: {field: NAME}) { totalCount pageInfo { hasNextPage endCursor } edges { node { name } } } }`)
		w.EqualValues(8, at(got, "users", "totalCount"))
		w.Equal(true, at(got, "users", "pageInfo", "hasNextPage"))
		w.Equal(all[3:5], names("admin", `first: 2, orderBy: {field: NAME}, after: "`+text(got, "users", "pageInfo", "endCursor")+`"`))

		for arguments, code := range map[string]string{``: "BAD_USER_INPUT", `(first: 101)`: "BAD_USER_INPUT", `(first: 9, role: "agent")`: "FIELD_FORBIDDEN"} {
			w.Equal(code, w.ask("manager", `{ users`+arguments+` { nodes { name } } }`).code(), arguments)
		}
		w.Equal("UNAUTHENTICATED", w.ask("", `{ users(first: 9) { nodes { name } } }`).code())
	})
}

func TestTeamsAreListed(t *testing.T) {
	each(t, func(w *world) {
		got := get[object](w, "viewer", `{ teams(first: 9, orderBy: {field: NAME}) { totalCount nodes { id name } } }`)
		w.Equal([]any{"Sales", "Support"}, column(at(got, "teams", "nodes"), "name"))
		w.EqualValues(2, at(got, "teams", "totalCount"))
		got = get[object](w, "viewer", `{ teams(last: 1, where: {nameHasPrefix: "S"}) { nodes { name } } }`)
		w.Equal([]any{"Support"}, column(at(got, "teams", "nodes"), "name"))
		got = get[object](w, "stranger", `{ teams(first: 9) { nodes { name } } }`)
		w.Equal([]any{"All"}, column(at(got, "teams", "nodes"), "name"))
		w.Equal("BAD_USER_INPUT", w.ask("viewer", `{ teams { nodes { name } } }`).code())
	})
}

func TestWhatIsShownOfAUser(t *testing.T) {
	each(t, func(w *world) {
		agent := w.users["manager"]
		token, err := w.people.CreateNamedToken(w.t.Context(), w.tenant, agent, time.Hour, "backup")
		w.NoError(err)
		_, err = w.people.Authenticate(w.t.Context(), token.Secret)
		w.NoError(err)
		other, err := w.people.CreateToken(w.t.Context(), w.tenant, agent, time.Hour)
		w.NoError(err)
		revoked, err := w.people.CreateToken(w.t.Context(), w.tenant, agent, time.Hour)
		w.NoError(err)
		w.NoError(w.people.RevokeToken(w.t.Context(), w.tenant, revoked.ID))
		expired, err := w.people.CreateToken(w.t.Context(), w.tenant, agent, time.Hour)
		w.NoError(err)
		w.exec(`UPDATE api_tokens SET expires_at = ? WHERE id = ?`, w.db.Now().Add(-time.Second), expired.ID)
		session := func() gid.ID {
			link, err := w.people.CreateLink(w.t.Context(), w.tenant, agent, time.Hour)
			w.NoError(err)
			c, err := w.people.RedeemLink(w.t.Context(), link.Secret, "r-2")
			w.NoError(err)
			return c.ID
		}
		idle, held := session(), session()
		w.exec(`UPDATE sessions SET created_at = ? WHERE id = ?`, w.db.Now().Add(-identity.SessionIdle-time.Hour), idle)
		w.exec(`UPDATE users SET external_subject = ? WHERE id = ?`, "0815", agent)

		for _, as := range []string{"manager", "admin"} {
			u := at(get[object](w, as, ownPage, vars{"id": agent.String()}), "user")
			w.Equal([]any{object{"name": "manager", "direct": true}, object{"name": "agent", "direct": false}, object{"name": "viewer", "direct": false}}, at(u, "roles"), as)
			w.NotNil(at(u, "lastSeenAt"), as)
			w.Equal("0815", at(u, "externalSubject"), as)
			w.Equal(ids(other.ID, token.ID), column(at(u, "tokens"), "id"), as)
			w.Equal([]any{nil, "backup"}, column(at(u, "tokens"), "name"), as)
			w.Nil(at(u, "tokens", 0, "lastUsedAt"), as)
			w.NotNil(at(u, "tokens", 1, "lastUsedAt"), as)
			w.NotNil(at(u, "tokens", 1, "expiresAt"), as)
			w.Equal(ids(held), column(at(u, "sessions"), "id"), as)
			w.Equal(false, at(u, "sessions", 0, "current"), as)
		}
		for _, as := range []string{"agent", "viewer", "purger"} {
			u := at(get[object](w, as, ownPage, vars{"id": agent.String()}), "user")
			w.Equal(object{"roles": nil, "lastSeenAt": nil, "externalSubject": nil, "tokens": nil, "sessions": nil}, u, as)
		}
		w.Nil(at(get[object](w, "stranger", ownPage, vars{"id": agent.String()}), "user"))
		u := at(get[object](w, "nobody", ownPage, vars{"id": w.users["nobody"].String()}), "user")
		w.Equal(object{"roles": []any{}, "lastSeenAt": nil, "externalSubject": nil, "tokens": []any{}, "sessions": []any{}}, u, "who has nothing is shown so")

		// What a list shows is the same, each for his own.
		got := get[object](w, "manager", `{ users(first: 9, orderBy: {field: NAME}) { nodes { name tokens { id } roles { name } } } }`)
		for i, n := range at(got, "users", "nodes").([]any) {
			if mine := at(n, "name") == "manager"; mine {
				w.Len(at(n, "tokens"), 2)
			} else {
				w.Nil(at(n, "tokens"), i)
				w.Nil(at(n, "roles"), i)
			}
		}
		get[object](w, "manager", revokeTok, vars{"id": token.ID.String()})
		u = at(get[object](w, "admin", ownPage, vars{"id": agent.String()}), "user")
		w.Equal(ids(other.ID), column(at(u, "tokens"), "id"))
	})
}

func TestATokenHasAName(t *testing.T) {
	each(t, func(w *world) {
		const named = `mutation($user: ID!, $name: String) { createToken(input: {user: $user, ttl: 60, name: $name}) { id } }`
		for _, name := range []any{"nightly export", nil} {
			got := get[object](w, "admin", named, vars{"user": w.users["admin"].String(), "name": name})
			u := at(get[object](w, "admin", ownPage, vars{"id": w.users["admin"].String()}), "user")
			w.Equal(name, at(u, "tokens", 0, "name"))
			w.Equal(text(got, "createToken", "id"), at(u, "tokens", 0, "id"))
		}
		for _, name := range []string{"", " padded", "a\nb", strings.Repeat("x", 65)} {
			w.Equal("BAD_USER_INPUT", w.ask("admin", named, vars{"user": w.users["admin"].String(), "name": name}).code(), name)
		}
	})
}

func TestAUserIsChanged(t *testing.T) {
	each(t, func(w *world) {
		agent := w.users["agent"].String()
		change := func(version int, fields vars) object {
			input := vars{"id": agent, "version": version}
			maps.Copy(input, fields)
			got := get[object](w, "admin", updateUser, vars{"input": input})
			u, _ := at(got, "updateUser", "user").(object)
			return u
		}
		w.Equal(object{
			"id": agent, "email": "Alan@acme.example", "name": "Alan", "externalSubject": "0815", "version": 2.0,
			"teams": []any{object{"id": w.support.String()}},
		}, change(1, vars{"email": "Alan@acme.example", "name": "Alan", "externalSubject": "0815", "teams": ids(w.support)}))
		w.EqualValues(2, change(2, vars{})["version"], "nothing to change")
		w.EqualValues(2, change(2, vars{"name": "Alan", "teams": ids(w.support, w.support)})["version"], "it is so already")
		u := change(2, vars{"externalSubject": nil, "teams": []any{}})
		w.EqualValues(3, u["version"])
		w.Nil(u["externalSubject"])
		w.Empty(u["teams"])
		u = change(3, vars{"teams": ids(w.sales, w.support, w.sales)})
		w.Equal(ids(w.sales, w.support), column(u["teams"], "id"))
		found, err := w.people.UserByEmail(w.t.Context(), w.tenant, "alan@ACME.example")
		w.NoError(err)
		w.Equal(w.users["agent"], found.ID, "the key follows the address")

		events := w.ask("admin", `{ auditEvents(last: 100) { nodes { action } } }`)
		w.Equal([]any{"TEAM_LEAVE", "TEAM_JOIN", "USER_UPDATE", "TEAM_LEAVE", "USER_UPDATE", "TEAM_JOIN", "USER_UPDATE"},
			column(at(decode(w, events), "auditEvents", "nodes"), "action"))
		var detail string
		w.read(`SELECT CAST(detail AS text) FROM audit_events WHERE action = 'USER_UPDATE' ORDER BY id LIMIT 1`, nil, &detail)
		w.Contains(detail, `external_subject`)
		w.NotContains(detail, "Alan")
		w.NotContains(detail, "0815")

		conflict := w.ask("admin", updateUser, vars{"input": vars{"id": agent, "version": 3, "name": "Other"}})
		w.Equal("CONFLICT", conflict.code())
		w.EqualValues(4, conflict.Errors[0].Extensions["version"])
		get[object](w, "admin", updateUser, vars{"input": vars{"id": w.users["viewer"].String(), "version": 1, "externalSubject": "4711"}})

		for name, test := range map[string]struct {
			input vars
			code  string
			field string
		}{
			"an address that is taken":  {vars{"email": "VIEWER@acme.example"}, "UNIQUE_CONFLICT", "email"},
			"a subject that is taken":   {vars{"externalSubject": "4711"}, "UNIQUE_CONFLICT", "externalSubject"},
			"no address":                {vars{"email": "role:admin"}, "BAD_USER_INPUT", "email"},
			"an address of null":        {vars{"email": nil}, "BAD_USER_INPUT", "email"},
			"no name":                   {vars{"name": " "}, "BAD_USER_INPUT", "name"},
			"a name of null":            {vars{"name": nil}, "BAD_USER_INPUT", "name"},
			"teams of null":             {vars{"teams": nil}, "BAD_USER_INPUT", "teams"},
			"a subject too long":        {vars{"externalSubject": strings.Repeat("x", 256)}, "BAD_USER_INPUT", "externalSubject"},
			"a team of nowhere":         {vars{"teams": ids(gid.New(gid.Team))}, "NOT_FOUND", "teams"},
			"a user for a team":         {vars{"teams": []any{agent}}, "BAD_USER_INPUT", "teams"},
			"somebody of nowhere":       {vars{"id": gid.New(gid.User).String(), "name": "x"}, "NOT_FOUND", "id"},
			"nobody of nowhere, moved":  {vars{"id": gid.New(gid.User).String(), "teams": ids(w.sales)}, "NOT_FOUND", "id"},
			"a team for somebody":       {vars{"id": w.sales.String(), "name": "x"}, "BAD_USER_INPUT", "id"},
			"more teams than there are": {vars{"teams": many(101)}, "BAD_USER_INPUT", "teams"},
		} {
			input := vars{"id": agent, "version": 4}
			maps.Copy(input, test.input)
			a := w.ask("admin", updateUser, vars{"input": input})
			w.Equal(test.code, a.code(), "%s: %s", name, a.raw)
			w.Contains(a.Errors[0].Extensions["fields"], test.field, name)
		}
		w.EqualValues(4, change(4, vars{})["version"], "what was refused changed nothing")
		for _, as := range []string{"viewer", "agent", "manager", "compliance", "purger", "nobody"} {
			for document, variables := range map[string]vars{
				updateUser: {"input": vars{"id": w.users[as].String(), "version": 1, "name": "x"}}, renameTeam: {"id": w.sales.String(), "name": "x"},
			} {
				w.Equal("FORBIDDEN", w.ask(as, document, variables).code(), "%s: %s", as, document)
			}
		}
	})
}

func many(n int) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = gid.New(gid.Team).String()
	}
	return list
}

func TestThoseOfOtherTenantsAreNotThereToBeChanged(t *testing.T) {
	each(t, func(w *world) {
		all := w.newTeam(w.other, "Strangers")
		for name, test := range map[string]struct {
			document string
			input    func(id gid.ID) vars
			ids      [2]gid.ID
		}{
			"a user": {updateUser, func(id gid.ID) vars { return vars{"input": vars{"id": id.String(), "version": 1, "name": "x"}} }, [2]gid.ID{w.users["stranger"], gid.New(gid.User)}},
			"a user, moved": {updateUser, func(id gid.ID) vars {
				return vars{"input": vars{"id": id.String(), "version": 1, "teams": ids(w.sales)}}
			}, [2]gid.ID{w.users["stranger"], gid.New(gid.User)}},
			"a user, outdated": {updateUser, func(id gid.ID) vars {
				return vars{"input": vars{"id": id.String(), "version": 7, "email": "x@x.example"}}
			}, [2]gid.ID{w.users["stranger"], gid.New(gid.User)}},
			"a team": {renameTeam, func(id gid.ID) vars { return vars{"id": id.String(), "name": "x"} }, [2]gid.ID{all, gid.New(gid.Team)}},
			"a team to be in": {updateUser, func(id gid.ID) vars {
				return vars{"input": vars{"id": w.users["agent"].String(), "version": 1, "teams": ids(id)}}
			}, [2]gid.ID{all, gid.New(gid.Team)}},
		} {
			var answers [2]string
			for i, id := range test.ids {
				a := w.ask("admin", test.document, test.input(id))
				w.Equal("NOT_FOUND", a.code(), "%s: %s", name, a.raw)
				answers[i] = strings.ReplaceAll(a.raw, id.String(), "")
			}
			w.Equal(answers[0], answers[1], name)
		}
		var name string
		w.read(`SELECT name FROM users WHERE id = ?`, []any{w.users["stranger"]}, &name)
		w.Equal("stranger", name)
	})
}

func TestNobodyChangesWhoMayDoMore(t *testing.T) {
	each(t, func(w *world) {
		w.storePolicy()
		w.helper("nobody")
		nothing := w.newUser(w.tenant, "nothing", w.sales)
		edit := func(as string, user gid.ID, fields vars) answer {
			input := vars{"id": user.String(), "version": 1}
			maps.Copy(input, fields)
			return w.ask(as, updateUser, vars{"input": input})
		}
		for _, target := range []string{"viewer", "agent", "admin"} {
			id := w.users[target]
			w.refusedBy("ESCALATION", edit("nobody", id, vars{"name": "x"}), target)
			w.refusedBy("ESCALATION", edit("nobody", id, vars{"email": "x@acme.example"}), target)
			w.refusedBy("ESCALATION", edit("nobody", id, vars{"teams": ids(w.support)}), target)
			w.refusedBy("ESCALATION", w.ask("nobody", deactivate, vars{"id": id.String()}), target)
			w.refusedBy("ESCALATION", w.ask("nobody", activate, vars{"id": id.String()}), target)
		}
		w.Empty(edit("nobody", nothing, vars{"name": "x", "email": "y@acme.example", "teams": ids(w.support)}).Errors, "who has no more than the editor")
		get[object](w, "nobody", deactivate, vars{"id": nothing.String()})

		// What only the operator gives keeps nobody from being named or kept out,
		// but from being acted for.
		purger := w.users["purger"]
		w.refusedBy("ESCALATION", edit("admin", purger, vars{"email": "x@acme.example"}), "whoever has the address is the purger")
		w.refusedBy("ESCALATION", edit("admin", purger, vars{"externalSubject": "0815"}), "and whoever has the subject")
		w.Empty(edit("admin", purger, vars{"name": "x"}).Errors)
		get[object](w, "admin", deactivate, vars{"id": purger.String()})
		w.refusedBy("ESCALATION", w.ask("admin", activate, vars{"id": purger.String()}), "an issuer's token lets him in at once")
	})
}

func TestNobodyGainsByTeams(t *testing.T) {
	each(t, func(w *world) {
		w.helper("manager")
		w.helper("nobody")
		w.allow("namer", "agent", [3]string{"User", "user.edit", "any"})
		w.allow("cleaner", "agent2", [3]string{"Message", "purge", "team in my.teams"})
		move := func(as string, user gid.ID, version int, teams ...gid.ID) answer {
			return w.ask(as, updateUser, vars{"input": vars{"id": user.String(), "version": version, "teams": ids(teams...)}})
		}
		create := func(as, name string, teams ...gid.ID) answer {
			return w.ask(as, createUser, vars{"email": name + "@acme.example", "name": name, "teams": ids(teams...)})
		}
		admin, viewer := w.users["admin"], w.users["viewer"]
		w.refusedBy("ESCALATION", move("admin", admin, 1, w.sales, w.support), "one's own teams")
		w.refusedBy("ESCALATION", move("admin", admin, 1), "fewer of one's own")
		w.Empty(move("admin", admin, 1, w.sales).Errors, "the same")
		w.Empty(w.ask("admin", updateUser, vars{"input": vars{"id": admin.String(), "version": 1, "name": "Ada", "email": "ada@acme.example"}}).Errors, "one's own name")

		w.refusedBy("ESCALATION", move("manager", viewer, 1, w.sales, w.support), "a team the manager is not in")
		w.refusedBy("ESCALATION", create("manager", "a", w.support), "nor for somebody new, whom he could act for")
		w.Empty(move("manager", viewer, 1).Errors, "out of a team")
		w.Empty(move("manager", viewer, 2, w.sales).Errors, "into his own")
		w.Empty(create("manager", "b", w.sales).Errors)
		w.Empty(move("admin", viewer, 3, w.support).Errors, "by who sees all")
		w.Empty(create("nobody", "c", w.support).Errors, "by who would see nothing more")
		w.refusedBy("ESCALATION", move("manager", viewer, 4, w.sales, w.support, gid.New(gid.Team)), "a team of nowhere is told from none")

		// TEAM_EDIT is asked for besides.
		w.Equal("FORBIDDEN", move("agent", viewer, 4, w.sales).code())

		// Nor is more given of what only the operator gives.
		w.refusedBy("ESCALATION", move("admin", w.users["agent2"], 1, w.support, w.sales), "a purger's team")
	})
}

func TestNobodyGainsByLeavingATeam(t *testing.T) {
	each(t, func(w *world) {
		other := w.newUser(w.tenant, "other", w.sales)
		w.users["other"] = other
		w.helper("nobody")
		tenant := w.tenant.String()
		for _, who := range []string{"nobody", "other"} {
			w.allow("reader", who, [3]string{"Customer", "read", "any"})
		}
		w.allow("cleaner", "agent2", [3]string{"Message", "purge", "any"})
		w.policy.rules[tenant] = append(w.policy.rules[tenant],
			casbin.Permission(casbin.RoleSubject("reader"), tenant, "Customer", "read", "deny", "team in my.teams"),
			casbin.Permission(casbin.RoleSubject("cleaner"), tenant, "Message", "purge", "deny", "team in my.teams"))
		move := func(as string, user gid.ID, version int, teams ...gid.ID) answer {
			return w.ask(as, updateUser, vars{"input": vars{"id": user.String(), "version": version, "teams": ids(teams...)}})
		}
		w.refusedBy("ESCALATION", move("nobody", other, 1), "whoever acts for him would see the team's")
		w.refusedBy("ESCALATION", move("nobody", other, 1, w.support), "nor by another team")
		w.Empty(move("nobody", other, 1, w.sales, w.support).Errors, "one more, by which nothing is seen")
		w.Empty(move("nobody", other, 2, w.sales).Errors, "a team the editor is not in")
		w.Empty(move("admin", other, 3).Errors, "by who sees all")
		w.refusedBy("ESCALATION", move("admin", w.users["agent2"], 1), "more to purge")
	})
}

// undecided has nothing to say.
type undecided struct{}

func (undecided) Decide(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	return make([]authz.Decision, len(reqs)), nil
}

func init() {
	authz.Register("undecided", func(context.Context, string, json.RawMessage) (authz.Plugin, error) { return undecided{}, nil })
}

func TestNobodyComesInAsAnotherWhereOtherPluginsDecideToo(t *testing.T) {
	each(t, func(w *world) {
		w.storePolicy()
		agent, admin := w.users["agent"], w.users["admin"]
		rename := func(user gid.ID, version int, field, value string) answer {
			return w.ask("admin", updateUser, vars{"input": vars{"id": user.String(), "version": version, field: value}})
		}
		policy := authz.Config{Name: "policy", Kind: access.Kind, Role: authz.Grant}
		other := authz.Config{Name: "other", Kind: "undecided", NoPlan: authz.FallbackSkip}
		for _, role := range []authz.Role{authz.Veto, authz.Grant} {
			other.Role = role
			w.NoError(w.control.Reload(w.t.Context(), []authz.Config{policy, other}, func(error) {}))
			for document, command := range map[string]string{createTok: "lethe token create", createLink: "lethe link create"} {
				a := w.ask("admin", document, vars{"user": agent.String(), "ttl": 3600})
				w.refusedBy("ESCALATION", a, document)
				w.Contains(a.Errors[0].Message, command)
				w.Empty(w.ask("admin", document, vars{"user": admin.String(), "ttl": 3600}).Errors, "for oneself")
			}
			w.refusedBy("ESCALATION", rename(agent, 1, "email", "x@acme.example"), "an address")
			w.refusedBy("ESCALATION", rename(agent, 1, "externalSubject", "0815"), "a subject")
		}
		w.Empty(rename(agent, 1, "name", "x").Errors, "a name lets nobody in")
		get[object](w, "admin", deactivate, vars{"id": agent.String()})
		get[object](w, "admin", activate, vars{"id": agent.String()})
		other.Role = authz.Shadow
		w.NoError(w.control.Reload(w.t.Context(), []authz.Config{policy, other}, func(error) {}))
		w.Empty(w.ask("admin", createTok, vars{"user": agent.String(), "ttl": 3600}).Errors, "a shadow decides nothing")
	})
}

func TestTheLastEditorOfThePolicyIsKept(t *testing.T) {
	each(t, func(w *world) {
		w.storePolicy()
		w.refusedBy("LOCKOUT", w.ask("admin", deactivate, vars{"id": w.users["admin"].String()}), "the last")
		got := get[object](w, "admin", `query($id: ID!) { user(id: $id) { active } }`, vars{"id": w.users["admin"].String()})
		w.Equal(true, at(got, "user", "active"))
	})
}

func TestATeamIsRenamed(t *testing.T) {
	each(t, func(w *world) {
		got := get[object](w, "admin", renameTeam, vars{"id": w.sales.String(), "name": "North"})
		w.Equal(object{"id": w.sales.String(), "name": "North"}, at(got, "renameTeam", "team"))
		get[object](w, "admin", renameTeam, vars{"id": w.sales.String(), "name": "North"})
		for name, test := range map[string]struct {
			id          gid.ID
			name        string
			code, field string
		}{
			"a name that is taken": {w.sales, "Support", "UNIQUE_CONFLICT", "name"},
			"no name":              {w.sales, "", "BAD_USER_INPUT", "name"},
			"a team of nowhere":    {gid.New(gid.Team), "x", "NOT_FOUND", "id"},
			"a user":               {w.users["agent"], "x", "BAD_USER_INPUT", "id"},
		} {
			a := w.ask("admin", renameTeam, vars{"id": test.id.String(), "name": test.name})
			w.Equal(test.code, a.code(), name)
			w.Equal([]any{test.field}, a.Errors[0].Extensions["fields"], name)
		}
		events := decode(w, w.ask("admin", `{ auditEvents(last: 100) { nodes { action } } }`))
		w.Equal([]any{"TEAM_RENAME"}, column(at(events, "auditEvents", "nodes"), "action"))
	})
}

func TestStatementsOfListsOfPeople(t *testing.T) {
	each(t, func(w *world) {
		w.exec(`UPDATE users SET created_at = ?`, w.db.Now())
		for size, n := range []int{2, 9} {
			for i := range n {
				id := w.newUser(w.tenant, fmt.Sprint("u", size, i), w.sales)
				w.users["u"] = id
				w.allow("agent", "u")
				for range 2 {
					_, err := w.people.CreateToken(w.t.Context(), w.tenant, id, time.Hour)
					w.NoError(err)
					link, err := w.people.CreateLink(w.t.Context(), w.tenant, id, time.Hour)
					w.NoError(err)
					_, err = w.people.RedeemLink(w.t.Context(), link.Secret, "r")
					w.NoError(err)
				}
			}
			for document, want := range map[string]int{
				`{ users(first: 50) { nodes { id name roles { name direct } lastSeenAt externalSubject } } }`:                                  1,
				`{ users(first: 50) { nodes { id tokens { id name lastUsedAt } roles { name } } } }`:                                           2,
				`{ users(first: 50) { totalCount nodes { teams { name } tokens { id } sessions { id current } roles { name } lastSeenAt } } }`: 5,
				`{ users(first: 50, role: "agent") { edges { node { tokens { id } } } } }`:                                                     2,
				`{ teams(first: 50) { totalCount nodes { id name } } }`:                                                                        2,
			} {
				w.Equal(want, w.cost("admin", document), document)
			}
		}
	})
}

// read reads a row past the API.
func (w *world) read(query string, args []any, into ...any) {
	w.t.Helper()
	ok, err := store.Build(w.db).Add(query, args...).One(w.t.Context(), w.db, into...)
	w.NoError(err)
	w.True(ok, query)
}

func decode(w *world, a answer) object {
	w.t.Helper()
	w.Empty(a.Errors, a.raw)
	var v object
	w.NoError(json.Unmarshal(a.Data, &v))
	return v
}

func TestASessionKnowsItself(t *testing.T) {
	each(t, func(w *world) {
		var sessions []gid.ID
		for range 2 {
			link, err := w.people.CreateLink(w.t.Context(), w.tenant, w.users["agent"], time.Hour)
			w.NoError(err)
			c, err := w.people.RedeemLink(w.t.Context(), link.Secret, "r")
			w.NoError(err)
			sessions = append(sessions, c.ID)
		}
		a := w.actor("agent")
		a.Kind, a.Credential = actor.User, sessions[0]
		r := httptest.NewRequestWithContext(actor.With(w.t.Context(), a), http.MethodPost, "/graphql", strings.NewReader(`{"query": "{ viewer { user { sessions { id current } } } }"}`))
		r.Header.Set("Content-Type", "application/json")
		out := httptest.NewRecorder()
		w.handler.ServeHTTP(out, r)
		var got object
		w.NoError(json.Unmarshal(out.Body.Bytes(), &got))
		w.Equal([]any{object{"id": sessions[1].String(), "current": false}, object{"id": sessions[0].String(), "current": true}},
			at(got, "data", "viewer", "user", "sessions"), out.Body.String())
	})
}
