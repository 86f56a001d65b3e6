package authzen

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
)

// pdp is a decision point that answers by a function and remembers what it was asked.
type pdp struct {
	*httptest.Server

	mu       sync.Mutex
	requests []seen
}

type seen struct {
	path   string
	header http.Header
	body   string
}

func newPDP(t *testing.T, handle http.HandlerFunc) *pdp {
	t.Helper()
	p := &pdp{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.requests = append(p.requests, seen{r.URL.Path, r.Header.Clone(), string(body)})
		p.mu.Unlock()
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		w.Header().Set("Content-Type", "application/json")
		handle(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *pdp) asked() []seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// byName permits every action but "delete".
func byName(w http.ResponseWriter, r *http.Request) {
	type evaluation struct{ Action struct{ Name string } }
	var q struct {
		evaluation
		Evaluations []evaluation
	}
	_ = json.NewDecoder(r.Body).Decode(&q)
	say := func(e evaluation) map[string]any { return map[string]any{"decision": e.Action.Name != "delete"} }
	if q.Evaluations == nil {
		_ = json.NewEncoder(w).Encode(say(q.evaluation))
		return
	}
	var out []map[string]any
	for _, e := range q.Evaluations {
		out = append(out, say(e))
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"evaluations": out})
}

func newPlugin(t *testing.T, config string) *plugin {
	t.Helper()
	built, err := authz.New(t.Context(), "authzen", "remote", json.RawMessage(config))
	require.NoError(t, err)
	p, ok := built.(*plugin)
	require.True(t, ok)
	return p
}

func request(action authz.Action) authz.Request {
	return authz.Request{
		Tenant: "t1", Subject: authz.Entity{Type: "user", ID: "u1", Props: map[string]any{"teams": []string{"a", "b"}}},
		Action: action, Resource: authz.Entity{Type: "Customer", ID: "c1", Props: map[string]any{"state": "ACTIVE", "amount": int64(7), "since": time.Unix(0, 0).UTC()}},
	}
}

func TestEveryPartOfARequestReachesTheDecisionPoint(t *testing.T) {
	t.Parallel()
	p := newPDP(t, byName)
	full := request("read")
	full.ActionProps = map[string]any{"soft": true}
	full.Field = "email"
	full.Context = map[string]any{"ip": "::1", "tenant": "chosen by the caller", "field": "chosen, too"}
	whole := authz.Request{Tenant: "t1", Subject: authz.Entity{Type: "user", ID: "u1"}, Action: "create", Resource: authz.Entity{Type: "Customer"}, Context: map[string]any{"field": "x"}}
	plugin := newPlugin(t, `{"url": "`+p.URL+`/"}`)
	for _, r := range []authz.Request{full, whole} {
		_, err := plugin.Decide(t.Context(), []authz.Request{r})
		require.NoError(t, err)
	}
	asked := p.asked()
	require.Equal(t, "/access/v1/evaluation", asked[0].path)
	require.Equal(t, "application/json", asked[0].header.Get("Content-Type"))
	require.JSONEq(t, `{
		"subject": {"type": "user", "id": "u1", "properties": {"teams": ["a", "b"]}},
		"action": {"name": "read", "properties": {"soft": true}},
		"resource": {"type": "Customer", "id": "c1", "properties": {"state": "ACTIVE", "amount": 7, "since": "1970-01-01T00:00:00Z"}},
		"context": {"ip": "::1", "tenant": "t1", "field": "email"}
	}`, asked[0].body)
	require.JSONEq(t, `{
		"subject": {"type": "user", "id": "u1"}, "action": {"name": "create"}, "resource": {"type": "Customer", "id": "*"}, "context": {"tenant": "t1"}
	}`, asked[1].body)
	require.Equal(t, "chosen by the caller", full.Context["tenant"], "members share the maps of a request")
}

func TestABatchIsOneRequestAndAnswersStayInOrder(t *testing.T) {
	t.Parallel()
	reqs := []authz.Request{request("read"), request("delete"), request("update"), request("delete"), request("read")}
	want := []authz.Effect{authz.Permit, authz.Deny, authz.Permit, authz.Deny, authz.Permit}
	for name, c := range map[string]struct {
		config string
		paths  []string
	}{
		"all at once":    {`"batch": 0`, []string{"/access/v1/evaluations"}},
		"in parts":       {`"batch": 2`, []string{"/access/v1/evaluation", "/access/v1/evaluations", "/access/v1/evaluations"}},
		"one at a time":  {`"batch": 1`, []string{"/access/v1/evaluation", "/access/v1/evaluation", "/access/v1/evaluation", "/access/v1/evaluation", "/access/v1/evaluation"}},
		"exactly a part": {`"batch": 5`, []string{"/access/v1/evaluations"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPDP(t, byName)
			ds, err := newPlugin(t, `{"url": "`+p.URL+`", `+c.config+`}`).Decide(t.Context(), reqs)
			require.NoError(t, err)
			var effects []authz.Effect
			for _, d := range ds {
				effects = append(effects, d.Effect)
			}
			require.Equal(t, want, effects)
			var paths []string
			for _, s := range p.asked() {
				paths = append(paths, s.path)
				require.Equal(t, strings.HasSuffix(s.path, "s"), strings.Contains(s.body, `"evaluations_semantic":"execute_all"`))
			}
			require.ElementsMatch(t, c.paths, paths)
		})
	}
}

func TestNoAndYesBecomeDenyAndPermitWithTheWordsOfTheDecisionPoint(t *testing.T) {
	t.Parallel()
	p := newPDP(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"decision": false, "context": {"reason": "on holiday", "long": "`+strings.Repeat("x", 2*maxDetail)+`"}}`)
	})
	plugin := newPlugin(t, `{"url": "`+p.URL+`"}`)
	ds, err := plugin.Decide(t.Context(), []authz.Request{request("read")})
	require.NoError(t, err)
	require.Equal(t, authz.Deny, ds[0].Effect)
	require.Equal(t, authz.CodeRuleDeny, ds[0].Reasons[0].Code)
	require.Equal(t, "remote", ds[0].Reasons[0].Plugin)
	require.Len(t, ds[0].Reasons[0].Detail, maxDetail)
	why, err := plugin.Explain(t.Context(), request("read"))
	require.NoError(t, err)
	require.Equal(t, ds[0].Reasons, why)
}

func TestTheTokenComesFromTheEnvironmentAndHeadersGoAlong(t *testing.T) {
	t.Setenv("TEST_PDP_TOKEN", "s3cret")
	p := newPDP(t, byName)
	_, err := newPlugin(t, `{"url": "`+p.URL+`", "token_env": "TEST_PDP_TOKEN", "headers": {"X-Store": "one"}}`).Decide(t.Context(), []authz.Request{request("read")})
	require.NoError(t, err)
	require.Equal(t, "Bearer s3cret", p.asked()[0].header.Get("Authorization"))
	require.Equal(t, "one", p.asked()[0].header.Get("X-Store"))
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	var opened atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		byName(w, r)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	plugin := newPlugin(t, `{"url": "`+server.URL+`"}`)
	for range 20 {
		_, err := plugin.Decide(t.Context(), []authz.Request{request("read")})
		require.NoError(t, err)
	}
	require.Equal(t, int32(1), opened.Load())
}

func TestConfigurationsThatCouldNotWorkOrGiveRequestsAwayAreRefused(t *testing.T) {
	t.Parallel()
	for config, says := range map[string]string{
		``:                                                                 "url is needed",
		`{"url": "ftp://pdp"}`:                                             "does not begin with https",
		`{"url": "pdp.example"}`:                                           "does not begin with https",
		`{"url": "https://"}`:                                              "does not begin with https",
		`{"url": "http://pdp.example"}`:                                    "is not https",
		`{"url": "http://127.0.0.1.example"}`:                              "is not https",
		`{"url": "http://localhost.example"}`:                              "is not https",
		`{"url": "https://u:p@pdp.example"}`:                               "no user",
		`{"url": "https://pdp.example?x=1"}`:                               "no user, query",
		`{"url": "https://pdp.example#x"}`:                                 "no user, query",
		`{"url": "https://pdp", "batch": -1}`:                              "batch is 1 to 1000",
		`{"url": "https://pdp", "batch": 1001}`:                            "batch is 1 to 1000",
		`{"url": "https://pdp", "token": "x"}`:                             `unknown field "token"`,
		`{"url": "https://pdp", "batch": "one"}`:                           "cannot unmarshal",
		`{"url": "https://pdp", "token_env": "LETHE_NO_SUCH_VARIABLE"}`:    "LETHE_NO_SUCH_VARIABLE",
		`{"url": "https://pdp", "headers": {"authorization": "Bearer x"}}`: "is not for configuration",
		`{"url": "https://pdp", "headers": {"a b": "x"}}`:                  "is none",
		`{"url": "https://pdp", "headers": {"a": "x\r\nb: y"}}`:            "is none",
	} {
		_, err := authz.New(t.Context(), "authzen", "remote", json.RawMessage(config))
		require.ErrorContains(t, err, says, config)
	}
	for _, config := range []string{
		`{"url": "https://pdp.example/base/"}`, `{"url": "http://localhost:1"}`, `{"url": "http://[::1]:1"}`, `{"url": "http://127.9.9.9:1"}`,
		`{"url": "http://pdp.example", "insecure": true}`,
	} {
		_, err := authz.New(t.Context(), "authzen", "remote", json.RawMessage(config))
		require.NoError(t, err, config)
	}
}

func TestEndpointsAreReadOnceAndOnlyWhereTheyWereConfigured(t *testing.T) {
	t.Parallel()
	var fetched atomic.Int32
	var metadata atomic.Pointer[map[string]any]
	p := newPDP(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/authzen-configuration/acme":
			fetched.Add(1)
			_ = json.NewEncoder(w).Encode(*metadata.Load())
		case "/one", "/many":
			byName(w, r)
		default:
			http.NotFound(w, r)
		}
	})
	ask := func(plugin *plugin, n int) error {
		_, err := plugin.Decide(t.Context(), []authz.Request{request("read"), request("read"), request("read")}[:n])
		return err
	}
	config := `{"url": "` + p.URL + `/acme", "discover": true}`
	good := map[string]any{"policy_decision_point": p.URL + "/acme", "access_evaluation_endpoint": p.URL + "/one", "access_evaluations_endpoint": p.URL + "/many"}
	metadata.Store(&good)
	plugin := newPlugin(t, config)
	require.NoError(t, ask(plugin, 1))
	require.NoError(t, ask(plugin, 2))
	require.Equal(t, int32(1), fetched.Load())
	require.Equal(t, "/many", p.asked()[2].path)

	single := map[string]any{"policy_decision_point": p.URL + "/acme", "access_evaluation_endpoint": p.URL + "/one"}
	metadata.Store(&single)
	require.NoError(t, ask(newPlugin(t, config), 3))
	require.Equal(t, "/one", p.asked()[len(p.asked())-1].path, "without an endpoint for many they are asked one by one")

	for name, bad := range map[string]map[string]any{
		"another decision point": {"policy_decision_point": "https://evil.example", "access_evaluation_endpoint": p.URL + "/one"},
		"another host":           {"policy_decision_point": p.URL + "/acme", "access_evaluation_endpoint": "http://evil.example/one"},
		"no endpoint":            {"policy_decision_point": p.URL + "/acme"},
		"an endpoint of no text": {"policy_decision_point": p.URL + "/acme", "access_evaluation_endpoint": 7},
	} {
		metadata.Store(&bad)
		plugin := newPlugin(t, config)
		require.Error(t, ask(plugin, 1), name)
		metadata.Store(&good)
		require.NoError(t, ask(plugin, 1), "a failure is not kept: %s", name)
	}
}
