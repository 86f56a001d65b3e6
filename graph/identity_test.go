package graph_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
)

// storePolicy puts the tenant's policy where internal/identity looks for who can
// edit it.
func (w *world) storePolicy() {
	w.t.Helper()
	w.exec(`INSERT INTO policy_heads (tenant_id, version) VALUES (?, 1)`, w.tenant)
	for i, r := range w.policy.rules[w.tenant.String()] {
		w.exec(`INSERT INTO policy_rules (id, tenant_id, position, ptype, v0, v1, v2, v3, v4, v5) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			gid.New(gid.Policy), w.tenant, i, r.Ptype, r.V[0], r.V[1], r.V[2], r.V[3], r.V[4], r.V[5])
	}
}

// text is a string of decoded JSON.
func text(v any, path ...any) string {
	s, _ := at(v, path...).(string)
	return s
}

const (
	createUser = `mutation($email: String!, $name: String!, $teams: [ID!]) { createUser(input: {email: $email, name: $name, teams: $teams}) { user { id email name active teams { id } } } }`
	createTok  = `mutation($user: ID!, $ttl: Int!) { createToken(input: {user: $user, ttl: $ttl}) { id secret expiresAt } }`
	createLink = `mutation($user: ID!, $ttl: Int!) { createSignInLink(input: {user: $user, ttl: $ttl}) { id path } }`
	deactivate = `mutation($id: ID!) { deactivateUser(id: $id) { user { id active } } }`
	activate   = `mutation($id: ID!) { activateUser(id: $id) { user { id active } } }`
	revokeTok  = `mutation($id: ID!) { revokeToken(id: $id) { id } }`
	revokeSess = `mutation($id: ID!) { revokeSession(id: $id) { id } }`
	createTeam = `mutation($name: String!) { createTeam(name: $name) { team { id name } } }`
)

func TestAnAdminMakesUsersAndTeams(t *testing.T) {
	each(t, func(w *world) {
		got := get[object](w, "admin", createTeam, vars{"name": "North"})
		team := text(got, "createTeam", "team", "id")
		w.Equal("North", at(got, "createTeam", "team", "name"))
		got = get[object](w, "admin", createUser, vars{"email": "new@acme.example", "name": "New", "teams": []string{team, team}})
		w.Equal([]any{team}, column(at(got, "createUser", "user", "teams"), "id"))
		w.Equal(true, at(got, "createUser", "user", "active"))
		id := text(got, "createUser", "user", "id")
		got = get[object](w, "agent", `query($id: ID!) { user(id: $id) { email } }`, vars{"id": id})
		w.Equal("new@acme.example", at(got, "user", "email"))
		got = get[object](w, "stranger", `query($id: ID!) { user(id: $id) { email } }`, vars{"id": id})
		w.Nil(at(got, "user"))

		for name, test := range map[string]struct {
			document  string
			variables vars
			code      string
		}{
			"an address that is taken": {createUser, vars{"email": "NEW@acme.example", "name": "n"}, "UNIQUE_CONFLICT"},
			"a role for an address":    {createUser, vars{"email": "role:admin", "name": "n"}, "BAD_USER_INPUT"},
			"no name":                  {createUser, vars{"email": "x@acme.example", "name": " "}, "BAD_USER_INPUT"},
			"a team of nowhere":        {createUser, vars{"email": "x@acme.example", "name": "n", "teams": []any{gid.New(gid.Team).String()}}, "NOT_FOUND"},
			"a user for a team":        {createUser, vars{"email": "x@acme.example", "name": "n", "teams": []any{id}}, "BAD_USER_INPUT"},
			"a team that is there":     {createTeam, vars{"name": "North"}, "UNIQUE_CONFLICT"},
			"a team without a name":    {createTeam, vars{"name": ""}, "BAD_USER_INPUT"},
		} {
			a := w.ask("admin", test.document, test.variables)
			w.Equal(test.code, a.code(), name)
			w.NotEmpty(a.Errors[0].Extensions["fields"], name)
		}
	})
}

func TestOnlyThoseWhoMayEditPeople(t *testing.T) {
	each(t, func(w *world) {
		for _, as := range []string{"viewer", "agent", "manager", "compliance", "purger", "nobody"} {
			for document, variables := range map[string]vars{
				createUser: {"email": "x@acme.example", "name": "x"}, createTeam: {"name": "x"},
				deactivate: {"id": w.users["agent2"].String()}, activate: {"id": w.users["agent2"].String()},
				createTok: {"user": w.users[as].String(), "ttl": 60}, createLink: {"user": w.users[as].String(), "ttl": 3600},
				revokeTok: {"id": gid.New(gid.Token).String()}, revokeSess: {"id": gid.New(gid.Session).String()},
			} {
				w.Equal("FORBIDDEN", w.ask(as, document, variables).code(), "%s: %s", as, document)
			}
		}
		got := get[object](w, "admin", `{ auditEvents(last: 100) { nodes { action outcome } } }`)
		w.Contains(column(at(got, "auditEvents", "nodes"), "action"), "TOKEN_EDIT")
	})
}

func TestNobodyBecomesWhoMayDoMore(t *testing.T) {
	each(t, func(w *world) {
		for target, allowed := range map[string]bool{
			"viewer": true, "agent": true, "agent2": true, "manager": true, "nobody": true, "admin": true,
			"purger": false, "compliance": false,
		} {
			for document, command := range map[string]string{createTok: "lethe token create", createLink: "lethe link create"} {
				a := w.ask("admin", document, vars{"user": w.users[target].String(), "ttl": 3600})
				if allowed {
					w.Empty(a.Errors, "%s: %s", target, a.raw)
					continue
				}
				w.refusedBy("ESCALATION", a, target)
				w.Contains(a.Errors[0].Message, command)
			}
		}
	})
}

func TestUsersOfOthersAreNotThere(t *testing.T) {
	each(t, func(w *world) {
		w.storePolicy()
		for _, document := range []string{deactivate, activate, createTok, createLink} {
			var answers []string
			for _, id := range []gid.ID{w.users["stranger"], gid.New(gid.User)} {
				a := w.ask("admin", document, vars{"id": id.String(), "user": id.String(), "ttl": 3600})
				w.Equal("NOT_FOUND", a.code(), document)
				answers = append(answers, strings.ReplaceAll(a.raw, id.String(), ""))
			}
			w.Equal(answers[0], answers[1])
		}
		token, err := w.people.CreateToken(w.t.Context(), w.other, w.users["stranger"], identity.MaxTokenTTL)
		w.NoError(err)
		w.Equal("NOT_FOUND", w.ask("admin", revokeTok, vars{"id": token.ID.String()}).code())
		_, err = w.people.Authenticate(w.t.Context(), token.Secret)
		w.NoError(err)
	})
}

func TestADeactivatedUserIsOut(t *testing.T) {
	each(t, func(w *world) {
		w.storePolicy()
		agent := w.users["agent"]
		got := get[object](w, "admin", createTok, vars{"user": agent.String(), "ttl": 3600})
		secret := text(got, "createToken", "secret")
		a, err := w.people.Authenticate(w.t.Context(), secret)
		w.NoError(err)
		w.Equal(agent, a.User)
		got = get[object](w, "admin", deactivate, vars{"id": agent.String()})
		w.Equal(false, at(got, "deactivateUser", "user", "active"))
		_, err = w.people.Authenticate(w.t.Context(), secret)
		w.ErrorIs(err, identity.ErrUnauthenticated)
		w.Equal("CONFLICT", w.ask("admin", createTok, vars{"user": agent.String(), "ttl": 3600}).code())
		got = get[object](w, "admin", activate, vars{"id": agent.String()})
		w.Equal(true, at(got, "activateUser", "user", "active"))
		_, err = w.people.Authenticate(w.t.Context(), secret)
		w.ErrorIs(err, identity.ErrUnauthenticated, "a revoked token stays revoked")

		// The only one who can edit the policy stays, and with him all of the document.
		both := w.ask("admin", `mutation($a: ID!, $b: ID!) { a: deactivateUser(id: $a) { user { id } } b: deactivateUser(id: $b) { user { id } } }`,
			vars{"a": agent.String(), "b": w.users["admin"].String()})
		w.refusedBy("LOCKOUT", both, "the last editor")
		got = get[object](w, "admin", `query($id: ID!) { user(id: $id) { active } }`, vars{"id": agent.String()})
		w.Equal(true, at(got, "user", "active"))
	})
}

func TestOnesOwnCredentialsAreRevokedByOneself(t *testing.T) {
	each(t, func(w *world) {
		own, err := w.people.CreateToken(w.t.Context(), w.tenant, w.users["agent"], identity.MaxTokenTTL)
		w.NoError(err)
		w.Equal("FORBIDDEN", w.ask("agent2", revokeTok, vars{"id": own.ID.String()}).code())
		get[object](w, "agent", revokeTok, vars{"id": own.ID.String()})
		_, err = w.people.Authenticate(w.t.Context(), own.Secret)
		w.ErrorIs(err, identity.ErrUnauthenticated)

		got := get[object](w, "admin", createLink, vars{"user": w.users["agent"].String(), "ttl": 3600})
		link, err := url.Parse(text(got, "createSignInLink", "path"))
		w.NoError(err)
		session, err := w.people.RedeemLink(w.t.Context(), link.Query().Get("token"), "r-2")
		w.NoError(err)
		w.Equal("BAD_USER_INPUT", w.ask("agent", revokeTok, vars{"id": session.ID.String()}).code())
		get[object](w, "agent", revokeSess, vars{"id": session.ID.String()})
		_, err = w.people.Authenticate(w.t.Context(), session.Secret)
		w.ErrorIs(err, identity.ErrUnauthenticated)

		for _, ttl := range []int{0, -1, 367 * 24 * 3600} {
			w.Equal("BAD_USER_INPUT", w.ask("admin", createTok, vars{"user": w.users["agent"].String(), "ttl": ttl}).code())
		}
		got = get[object](w, "admin", createTok, vars{"user": w.users["agent"].String(), "ttl": 60})
		secret := text(got, "createToken", "secret")
		w.NotContains(w.log.String(), secret)
		events := w.ask("admin", `{ auditEvents(last: 100) { nodes { action reason changes { old new } } } }`)
		w.Contains(events.raw, "TOKEN_CREATE")
		w.NotContains(events.raw, secret)
	})
}
