package pdp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/pdp"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/server"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
	"github.com/lethe-crm/lethe/internal/visible"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// world is a tenant with some users, and one whose token other applications use.
type world struct {
	*testing.T

	db         *store.DB
	log        *audit.Log
	people     *identity.Service
	statements *statements
	tenant     gid.ID
	users      map[string]gid.ID
	teams      map[string]gid.ID
	token      string // of the application
}

type statements struct {
	mu   sync.Mutex
	list []string
}

func (s *statements) add(query string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, query)
}

// during counts the statements that f leads to.
func (s *statements) during(f func()) []string {
	s.mu.Lock()
	s.list = nil
	s.mu.Unlock()
	f()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list
}

func each(t *testing.T, test func(w *world)) {
	t.Helper()
	for name, open := range map[string]func(testing.TB, ...store.Option) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newWorld(t, open))
		})
	}
}

func newWorld(t *testing.T, open func(testing.TB, ...store.Option) *store.DB) *world {
	t.Helper()
	w := &world{T: t, statements: &statements{}, users: map[string]gid.ID{}, teams: map[string]gid.ID{}}
	w.db = open(t, store.WithTrace(w.statements.add))
	keys, err := audit.NewKeys(bytes.Repeat([]byte("k"), audit.KeySize))
	require.NoError(t, err)
	w.log = audit.New(keys)
	w.people = identity.New(w.db, w.log, slog.New(slog.DiscardHandler))
	w.tenant, err = w.people.CreateTenant(t.Context(), "acme")
	require.NoError(t, err)
	for _, user := range []struct{ name, team string }{{"app", "Machines"}, {"admin", "Sales"}, {"agent", "Sales"}, {"manager", "Sales"}, {"outsider", "Support"}} {
		w.users[user.name], err = w.people.CreateUser(t.Context(), w.tenant, user.name+"@acme.example", user.name, []string{user.team})
		require.NoError(t, err)
		w.teams[user.team], err = w.people.EnsureTeam(t.Context(), w.tenant, user.team)
		require.NoError(t, err)
	}
	w.token = w.tokenOf("app")
	return w
}

func (w *world) tokenOf(user string) string {
	w.Helper()
	c, err := w.people.CreateToken(w.Context(), w.tenant, w.users[user], time.Hour)
	require.NoError(w, err)
	return c.Secret
}

func (w *world) id(user string) string { return w.users[user].String() }

// rows is a policy of one tenant.
type rows []casbin.Rule

func (rows) Head(context.Context, string) (uint64, error) { return 1, nil }

func (r rows) Load(context.Context, string) (uint64, []casbin.Rule, error) { return 1, r, nil }

// policy is the default one, in which the application may only ask, and the
// agent, the manager and the admin are what they are called.
func (w *world) policy(extra ...casbin.Rule) rows {
	tenant := w.tenant.String()
	out := append(rows(casbin.DefaultRules(tenant)), casbin.Permission(casbin.UserSubject(w.id("app")), tenant, pdp.Object, string(authz.Evaluate), "allow", "any"))
	for _, role := range []string{"agent", "manager"} {
		out = append(out, casbin.Grant(casbin.UserSubject(w.id(role)), casbin.RoleSubject(role), tenant))
	}
	out = append(out, casbin.Grant(casbin.UserSubject(w.id("outsider")), casbin.RoleSubject("agent"), tenant))
	return append(out, extra...)
}

// served is a server over the world.
type served struct {
	w       *world
	url     string
	http    *httptest.Server
	records *record.Service
	control *access.Control
}

// serve runs a server with a chain, none for the policy alone.
func (w *world) serve(members string, extra ...casbin.Rule) *served {
	w.Helper()
	var chain []authz.Config
	if members != "" {
		path := filepath.Join(w.TempDir(), "authz.json")
		require.NoError(w, os.WriteFile(path, []byte(members), 0o600))
		var err error
		chain, err = access.ReadChain(path)
		require.NoError(w, err)
	}
	control, err := access.New(w.policy(extra...), func(_ string, _ uint64, findings []casbin.Finding, err error) {
		for _, f := range findings {
			require.NotEqual(w, casbin.Error, f.Severity, f.String())
		}
		require.NoError(w, err)
	}, chain...)
	require.NoError(w, err)
	log := slog.New(slog.DiscardHandler)
	s := &served{w: w, control: control, records: record.New(w.db, control, w.log, log)}
	s.http = httptest.NewUnstartedServer(nil)
	s.url = "https://" + s.http.Listener.Addr().String()
	s.http.Config.Handler = server.New(server.Config{
		GraphQL: http.NotFoundHandler(), Identity: w.people, DB: w.db, Log: log, PublicURL: s.url,
		AuthZEN: pdp.NewHandler(pdp.Config{DB: w.db, Control: control, Records: s.records, Audit: w.log, Log: log, PublicURL: s.url + "/", AtOnce: 1_000}),
	})
	s.http.StartTLS()
	w.Cleanup(s.http.Close)
	return s
}

// send sends a request as the application, unless the header says otherwise.
func (s *served) send(t *testing.T, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+s.w.token)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := s.http.Client().Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(text)
}

// ask posts JSON and answers with status and body.
func (s *served) ask(path string, body any) (int, map[string]any) {
	s.w.Helper()
	text, err := json.Marshal(body)
	require.NoError(s.w, err)
	res, answer := s.send(s.w.T, http.MethodPost, "/access/v1/"+path, string(text), "Content-Type", "application/json")
	var out map[string]any
	require.NoError(s.w, json.Unmarshal([]byte(answer), &out), answer)
	return res.StatusCode, out
}

type object = map[string]any

// evaluate answers one evaluation, and with what code it was denied.
func (s *served) evaluate(subject object, action string, resource object) (bool, string) {
	s.w.Helper()
	status, got := s.ask("evaluation", object{"subject": subject, "action": object{"name": action}, "resource": resource})
	require.Equal(s.w, http.StatusOK, status, got)
	decision, ok := got["decision"].(bool)
	require.True(s.w, ok)
	context, _ := got["context"].(map[string]any)
	code, _ := context["reason"].(string)
	return decision, code
}

// as is a context in which a user acts.
func (s *served) as(user string) context.Context {
	s.w.Helper()
	a, err := s.w.people.ActAs(s.w.Context(), s.w.tenant, s.w.users[user], "test")
	require.NoError(s.w, err)
	ctx := actor.With(s.w.Context(), a)
	return visible.With(ctx, s.control.Rows(ctx, a))
}

// customer makes a customer that a user owns, in his team.
func (s *served) customer(owner, name string) string {
	s.w.Helper()
	r, err := s.records.Create(s.as(owner), "Customer", record.Values{"name": name})
	require.NoError(s.w, err)
	return r.RecordID().String()
}

func (s *served) delete(user, id string) {
	s.w.Helper()
	parsed, err := gid.Parse(id)
	require.NoError(s.w, err)
	one := 1
	_, err = s.records.Run(s.as(user), record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{parsed}}, ExpectedCount: &one, Mode: "ALL_OR_NOTHING"})
	require.NoError(s.w, err)
}

func sqlite(tb testing.TB, opts ...store.Option) *store.DB {
	tb.Helper()
	return storetest.SQLite(tb, opts...)
}

// serveOne asks a handler for one evaluation, and answers the status.
func serveOne(ctx context.Context, t *testing.T, h http.Handler, body string) int {
	t.Helper()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/access/v1/evaluation", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}
