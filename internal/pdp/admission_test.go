package pdp_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/pdp"
	"github.com/lethe-crm/lethe/internal/store"
)

const plain = `{"subject": {"type": "user", "id": "alice"}, "action": {"name": "read"}, "resource": {"type": "Policy", "id": "*"}}`

var endpoints = []string{"evaluation", "evaluations", "search/subject", "search/resource", "search/action"}

func TestOnlyWhoMayEvaluateIsAnswered(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		s := w.serve("", casbin.Grant(casbin.UserSubject(w.id("admin")), casbin.RoleSubject("admin"), w.tenant.String()))
		for _, path := range endpoints {
			for name, c := range map[string]struct {
				authorization string
				status        int
				code          string
			}{
				"nobody":                  {"", http.StatusUnauthorized, "UNAUTHENTICATED"},
				"a token nobody has":      {"Bearer lethe_nobody", http.StatusUnauthorized, "UNAUTHENTICATED"},
				"who may not ask":         {"Bearer " + w.tokenOf("manager"), http.StatusForbidden, "FORBIDDEN"},
				"an admin":                {"Bearer " + w.tokenOf("admin"), http.StatusOK, ""},
				"who may do nothing else": {"Bearer " + w.token, http.StatusOK, ""},
			} {
				res, text := s.send(w.T, http.MethodPost, "/access/v1/"+path, plain, "Content-Type", "application/json", "Authorization", c.authorization)
				require.Equal(w, c.status, res.StatusCode, "%s: %s: %s", path, name, text)
				var got struct{ Code string }
				require.NoError(w, json.Unmarshal([]byte(text), &got))
				require.Equal(w, c.code, got.Code)
				require.Equal(w, c.status == http.StatusUnauthorized, res.Header.Get("WWW-Authenticate") == "Bearer")
			}
		}
		var refused int
		_, err := store.Build(w.db).Add("SELECT count(*) FROM audit_events WHERE action = 'AUTHZ_EVALUATE' AND outcome = 'REFUSED' AND tenant_id = ?", w.tenant).One(w.Context(), w.db, &refused)
		require.NoError(w, err)
		require.Equal(w, len(endpoints), refused, "who was refused is in the audit log")

		res, _ := s.send(w.T, http.MethodGet, "/.well-known/authzen-configuration", "", "Authorization", "")
		require.Equal(w, http.StatusOK, res.StatusCode, "where to ask is no secret")
		res, _ = s.send(w.T, http.MethodGet, "/access/v1/evaluation", "")
		require.Equal(w, http.StatusMethodNotAllowed, res.StatusCode)
	})
}

func TestWhatIsMalformedIsRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite)
	s := w.serve("")
	with := func(more string) string { return plain[:len(plain)-1] + more + "}" }
	for name, c := range map[string]struct {
		path, body string
		status     int
	}{
		"a key twice":                {"evaluation", with(`, "subject": {"type": "user", "id": "bob"}`), 400},
		"two values":                 {"evaluation", plain + plain, 400},
		"a list":                     {"evaluation", "[" + plain + "]", 400},
		"null":                       {"evaluation", "null", 400},
		"an empty id":                {"evaluation", strings.Replace(plain, `"alice"`, `""`, 1), 400},
		"a null id":                  {"evaluation", strings.Replace(plain, `"alice"`, `null`, 1), 400},
		"a long id":                  {"evaluation", strings.Replace(plain, `alice`, strings.Repeat("a", 513), 1), 400},
		"keys in capitals":           {"evaluation", strings.Replace(plain, `"subject"`, `"Subject"`, 1), 400},
		"properties that are a list": {"evaluation", strings.Replace(plain, `"id": "*"`, `"id": "*", "properties": []`, 1), 400},
		"a context that is text":     {"evaluation", with(`, "context": "x"`), 400},
		"evaluations of no list":     {"evaluations", with(`, "evaluations": {}`), 400},
		"a default that is wrong":    {"evaluations", `{"subject": "alice", "evaluations": [` + plain + `]}`, 400},
		"a default without its id":   {"evaluations", `{"subject": {"type": "user"}, "evaluations": [` + plain + `]}`, 400},
		"an unknown semantic":        {"evaluations", with(`, "options": {"evaluations_semantic": "any"}, "evaluations": [{}]`), 400},
		"a semantic of no text":      {"evaluations", with(`, "options": {"evaluations_semantic": 1}, "evaluations": [{}]`), 400},
		"too many evaluations":       {"evaluations", with(`, "evaluations": [{}` + strings.Repeat(",{}", 500) + `]`), 400},
		"as many as may be":          {"evaluations", with(`, "evaluations": [{}` + strings.Repeat(",{}", 499) + `]`), 200},
		"null for evaluations":       {"evaluations", with(`, "evaluations": null`), 200},
		"a page without end":         {"search/subject", with(`, "page": {"limit": 0}`), 400},
		"half a limit":               {"search/subject", with(`, "page": {"limit": 1.5}`), 400},
		"a token that is none":       {"search/subject", with(`, "page": {"token": "x"}`), 400},
		"a body without end":         {"evaluation", strings.Repeat(" ", 1<<20) + plain, 413},
		"a time that is none":        {"evaluation", `{"subject": {"type": "user", "id": "a"}, "action": {"name": "read"}, "resource": {"type": "Deal", "id": "*", "properties": {"closesAt": "soon"}}}`, 400},
		"an amount that is text":     {"evaluation", `{"subject": {"type": "user", "id": "a"}, "action": {"name": "read"}, "resource": {"type": "Deal", "id": "*", "properties": {"amount": "7"}}}`, 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, text := s.send(t, http.MethodPost, "/access/v1/"+c.path, c.body, "Content-Type", "application/json")
			require.Equal(t, c.status, res.StatusCode, text)
		})
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "text/json"} {
		res, _ := s.send(t, http.MethodPost, "/access/v1/evaluation", plain, "Content-Type", kind)
		require.Equal(t, http.StatusBadRequest, res.StatusCode, kind)
	}
	res, _ := s.send(t, http.MethodPost, "/access/v1/evaluation", plain, "Content-Type", "application/json; charset=utf-8")
	require.Equal(t, http.StatusOK, res.StatusCode)
}

// waits holds every evaluation of "wait" until it is let go.
type waits struct{ begun, let chan struct{} }

var waiting = waits{make(chan struct{}), make(chan struct{})}

func (p waits) Decide(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	for _, r := range reqs {
		if r.Action == "wait" {
			p.begun <- struct{}{}
			<-p.let
		}
	}
	return make([]authz.Decision, len(reqs)), nil
}

// fails cannot decide on what is not about Authz.
type fails struct{}

func (fails) Decide(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	if reqs[0].Resource.Type == pdp.Object && reqs[0].Subject.ID != "alice" {
		return make([]authz.Decision, len(reqs)), nil
	}
	panic("a secret of the plugin")
}

// other permits one thing that nobody else knows.
type other struct{}

func (other) Decide(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	out := make([]authz.Decision, len(reqs))
	for i, r := range reqs {
		if r.Action == "open" && r.Resource.Type == "door" {
			out[i].Effect = authz.Permit
		}
	}
	return out, nil
}

func (other) Plan(context.Context, authz.Query) (authz.Plan, error) { return authz.Plan{}, nil }

func init() {
	authz.Register("other", func(context.Context, string, json.RawMessage) (authz.Plugin, error) { return other{}, nil })
	authz.Register("waits", func(context.Context, string, json.RawMessage) (authz.Plugin, error) { return waiting, nil })
	authz.Register("fails", func(context.Context, string, json.RawMessage) (authz.Plugin, error) { return fails{}, nil })
}

func TestAPluginThatFailsDeniesAndTellsOnlyThat(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite)
	s := w.serve(`[{"name": "policy", "kind": "casbin", "role": "grant"}, {"name": "bad", "kind": "fails"}]`)
	res, text := s.send(t, http.MethodPost, "/access/v1/evaluation", plain, "Content-Type", "application/json")
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.JSONEq(t, `{"decision": false, "context": {"reason": "pdp_error"}}`, text)
}

func TestATenantWaitsForItsOwnRequestsOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite)
	control, err := access.New(w.policy(), nil, authz.Config{Name: "policy", Kind: "casbin", Role: authz.Grant}, authz.Config{Name: "slow", Kind: "waits", Timeout: "1m"})
	require.NoError(t, err)
	h := pdp.NewHandler(pdp.Config{DB: w.db, Control: control, Audit: w.log, AtOnce: 1})
	ask := func(tenant gid.ID, body string) int {
		a := &actor.Actor{Kind: actor.Token, Tenant: tenant, User: w.users["app"]}
		return serveOne(actor.With(t.Context(), a), t, h, body)
	}
	first := make(chan int)
	go func() { first <- ask(w.tenant, strings.Replace(plain, `"read"`, `"wait"`, 1)) }()
	<-waiting.begun
	require.Equal(t, http.StatusTooManyRequests, ask(w.tenant, plain))
	require.Equal(t, http.StatusForbidden, ask(gid.New(gid.Tenant), plain), "another tenant has its own turn")
	agent := actor.With(t.Context(), &actor.Actor{Kind: actor.Token, Tenant: w.tenant, User: w.users["agent"]})
	require.Equal(t, http.StatusForbidden, serveOne(agent, t, h, plain), "who may not ask takes no turn")
	sent := make(chan int)
	body, sending := io.Pipe()
	go func() {
		r := httptest.NewRequestWithContext(actor.With(t.Context(), &actor.Actor{Kind: actor.Token, Tenant: w.tenant, User: w.users["app"]}), http.MethodPost, "/access/v1/evaluation", body)
		r.Header.Set("Content-Type", "application/json")
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		sent <- answer.Code
	}()
	_, err = sending.Write([]byte(plain[:1])) // is being read
	require.NoError(t, err)
	close(waiting.let)
	require.Equal(t, http.StatusOK, <-first)
	require.Equal(t, http.StatusOK, ask(w.tenant, plain), "who has not sent all takes no turn")
	_, err = sending.Write([]byte(plain[1:]))
	require.NoError(t, err)
	require.NoError(t, sending.Close())
	require.Equal(t, http.StatusOK, <-sent)
}
