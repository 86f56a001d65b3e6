package graph_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/graph"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/export"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/live"
	"github.com/lethe-crm/lethe/internal/notify"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
	"github.com/lethe-crm/lethe/internal/visible"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// statements are what was sent to the database.
type statements struct {
	mu   sync.Mutex
	list []string
	// before is called with each statement that is about to be sent, if there is one.
	before func(string)
}

func (s *statements) add(q string) {
	if s.before != nil {
		s.before(q)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, q)
}

func (s *statements) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.list
	s.list = nil
	return list
}

// policies are kept in memory.
type policies struct {
	mu    sync.Mutex
	rules map[string][]casbin.Rule
	edits uint64 // since the first version
	fails error
}

func (p *policies) Head(context.Context, string) (uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return 1 + p.edits, p.fails
}

func (p *policies) Load(_ context.Context, tenant string) (uint64, []casbin.Rule, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return 1 + p.edits, p.rules[tenant], p.fails
}

// world is a tenant with a user of each role, another tenant beside it, and
// the API over them.
type world struct {
	*require.Assertions

	t       testing.TB
	db      *store.DB
	records *record.Service
	people  *identity.Service
	policy  *policies
	control *access.Control
	exports *export.Service
	notify  *notify.Service
	feed    *live.Feed
	config  graph.Config
	handler http.Handler
	sql     *statements
	log     *logged
	logger  *slog.Logger
	audit   *audit.Log

	tenant, other  gid.ID
	sales, support gid.ID
	users          map[string]gid.ID // by role; agent2 is in Support

	later func(time.Duration) // moves the clock

	// tampered says that the test wrote past the operations, so that verify would find it.
	tampered bool
}

// logged is what went to the log.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// each runs a test on both databases.
func each(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Parallel()
	for name, open := range map[string]func(testing.TB, ...store.Option) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newWorld(t, open))
		})
	}
}

// one is each for a test that asks one thing after another, and a great many: the race detector, which CI runs with
// -short, has nothing to find there and would take minutes.
func one(t *testing.T, test func(w *world)) {
	t.Helper()
	if testing.Short() {
		t.Skip("it asks one thing after another, and runs without -short")
	}
	each(t, test)
}

func newWorld(t testing.TB, open func(testing.TB, ...store.Option) *store.DB) *world {
	t.Helper()
	w := &world{
		Assertions: require.New(t), t: t, sql: &statements{}, log: &logged{},
		users: map[string]gid.ID{}, policy: &policies{rules: map[string][]casbin.Rule{}},
	}
	clock, step := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), sync.Mutex{}
	w.db = open(t, store.WithTrace(w.sql.add), store.WithClock(func() time.Time {
		step.Lock()
		defer step.Unlock()
		clock = clock.Add(time.Millisecond)
		return clock
	}))
	w.later = func(d time.Duration) {
		step.Lock()
		defer step.Unlock()
		clock = clock.Add(d)
	}
	keys, err := audit.NewKeys([]byte(strings.Repeat("k", audit.KeySize)))
	w.NoError(err)
	control, err := access.New(w.policy, func(string, uint64, []casbin.Finding, error) {})
	w.NoError(err)
	w.control = control
	logger := slog.New(slog.NewTextHandler(w.log, nil))
	outbox, feed := notify.NewOutbox(), live.New(w.db, logger)
	w.feed = feed
	log := audit.New(keys).Feeding(outbox, feed)
	w.notify = notify.New(notify.Config{DB: w.db, Control: control, Audit: log, Outbox: outbox, Log: logger, Told: feed.Touch, AllowPrivate: true})
	w.logger, w.audit = logger, log
	w.records, w.people = record.New(w.db, control, log, logger), identity.New(w.db, log, logger)
	t.Cleanup(w.verify)
	blobs, err := blob.Open(t.Context(), "mem://")
	w.NoError(err)
	w.exports = export.New(export.Config{
		DB: w.db, Control: control, Records: w.records, Audit: log, Blobs: blobs, Log: logger,
		ActAs: func(ctx context.Context, tenant, user gid.ID) (*actor.Actor, error) {
			return w.people.ActAs(ctx, tenant, user, "")
		},
	})
	w.config = graph.Config{DB: w.db, Control: control, Records: w.records, People: w.people, Exports: w.exports, Notify: w.notify, Audit: log, Log: logger, Feed: feed, Callers: stayers{}}
	w.handler, err = graph.NewHandler(w.config)
	w.NoError(err)

	w.tenant, w.other = w.newTenant("acme"), w.newTenant("other")
	w.sales, w.support = w.newTeam(w.tenant, "Sales"), w.newTeam(w.tenant, "Support")
	rules := casbin.DefaultRules(w.tenant.String())
	for _, role := range []string{"viewer", "agent", "agent2", "manager", "compliance", "purger", "admin", "nobody"} {
		team, grant := w.sales, strings.TrimSuffix(role, "2")
		if role == "agent2" {
			team = w.support
		}
		id := w.newUser(w.tenant, role, team)
		w.users[role] = id
		if role != "nobody" {
			rules = append(rules, casbin.Grant(casbin.UserSubject(id.String()), casbin.RoleSubject(grant), w.tenant.String()))
		}
	}
	w.policy.rules[w.tenant.String()] = rules
	stranger := w.newUser(w.other, "stranger", w.newTeam(w.other, "All"))
	w.users["stranger"] = stranger
	w.policy.rules[w.other.String()] = append(casbin.DefaultRules(w.other.String()),
		casbin.Grant(casbin.UserSubject(stranger.String()), casbin.RoleSubject("admin"), w.other.String()))
	return w
}

// mostVerified is how many operations of a world are verified.
const mostVerified = 40

// verify insists, once a test has passed, that what its operations left is what they were to leave.
func (w *world) verify() {
	if w.t.Failed() || w.t.Skipped() || w.tampered {
		return
	}
	// The context of the test has ended.
	ctx := visible.With(context.WithoutCancel(w.t.Context()), visible.Everything)
	for _, tenant := range []gid.ID{w.tenant, w.other} {
		ctx := actor.With(ctx, actor.ForSystem(tenant))
		var list []gid.ID
		err := store.Build(w.db).Add(`SELECT id FROM operations WHERE tenant_id = ? AND changed > 0 ORDER BY id DESC LIMIT ?`, tenant, mostVerified).Query(ctx, w.db, func(row store.Row) error {
			var id gid.ID
			err := row.Scan(&id)
			list = append(list, id)
			return err
		})
		w.NoError(err)
		for _, id := range list {
			found, err := w.records.VerifyOperation(ctx, id)
			w.NoError(err)
			for _, c := range found.Checks {
				w.Zero(c.Exceptions, "%s of %s %s: %v", c.Name, found.Operation.Verb, id, c.Records)
			}
		}
	}
}

func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	for _, t := range ent.RecordTypes {
		w.tampered = w.tampered || strings.HasPrefix(query, "UPDATE "+t.Table+" ")
	}
	_, err := store.Build(w.db).Add(query, args...).Exec(w.t.Context(), w.db)
	w.NoError(err)
}

func (w *world) newTenant(name string) gid.ID {
	id := gid.New(gid.Tenant)
	w.exec(`INSERT INTO tenants (id, name, bin_days, created_at) VALUES (?, ?, 30, ?)`, id, name, w.db.Now())
	return id
}

func (w *world) newTeam(tenant gid.ID, name string) gid.ID {
	id := gid.New(gid.Team)
	w.exec(`INSERT INTO teams (id, tenant_id, name) VALUES (?, ?, ?)`, id, tenant, name)
	return id
}

func (w *world) newUser(tenant gid.ID, name string, team gid.ID) gid.ID {
	id := gid.New(gid.User)
	w.exec(`INSERT INTO users (id, tenant_id, email, email_key, name, active, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		id, tenant, name+"@acme.example", name+"@acme.example", name, true, w.db.Now())
	w.exec(`INSERT INTO user_teams (user_id, team_id) VALUES (?, ?)`, id, team)
	return id
}

func (w *world) actor(name string) *actor.Actor {
	a := &actor.Actor{Kind: actor.Token, Tenant: w.tenant, TenantName: "acme", User: w.users[name], Credential: gid.New(gid.Token), RequestID: "r-1", Teams: []gid.ID{w.sales}}
	switch name {
	case "agent2":
		a.Teams = []gid.ID{w.support}
	case "stranger":
		a.Tenant, a.TenantName, a.Teams = w.other, "other", nil
	}
	return a
}

// create makes a record past the API.
func (w *world) create(as, typ string, values record.Values) gid.ID {
	w.t.Helper()
	a := w.actor(as)
	ctx := visible.With(actor.With(w.t.Context(), a), visible.Tenant(a.Tenant))
	r, err := w.records.Create(ctx, typ, values)
	w.NoError(err)
	return r.RecordID()
}

func (w *world) customer(as, name string) gid.ID {
	w.t.Helper()
	return w.create(as, "Customer", record.Values{"name": name})
}

func (w *world) contact(as string, customer gid.ID, name string) gid.ID {
	w.t.Helper()
	return w.create(as, "Contact", record.Values{"name": name, "customerID": customer})
}

func (w *world) message(as string, customer gid.ID, subject string, sent time.Time) gid.ID {
	w.t.Helper()
	values := record.Values{"subject": subject, "body": "text", "sentAt": sent}
	if !customer.IsZero() {
		values["customerID"] = customer
	}
	return w.create(as, "Message", values)
}

// answer is what the API answered.
type answer struct {
	w      *world
	Status int
	Data   json.RawMessage `json:"data"`
	Errors []struct {
		Message    string         `json:"message"`
		Path       []any          `json:"path"`
		Extensions map[string]any `json:"extensions"`
	} `json:"errors"`
	Extensions map[string]any `json:"extensions"`
	raw        string
}

type vars map[string]any

// ask sends a document as a user; "" is nobody.
func (w *world) ask(as, document string, variables ...vars) answer {
	w.t.Helper()
	body := map[string]any{"query": document}
	if len(variables) > 0 {
		body["variables"] = variables[0]
	}
	b, err := json.Marshal(body)
	w.NoError(err)
	ctx := w.t.Context()
	if as != "" {
		ctx = actor.With(ctx, w.actor(as))
	}
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/graphql", bytes.NewReader(b))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	out := httptest.NewRecorder()
	w.handler.ServeHTTP(out, r)
	a := answer{w: w, Status: out.Code, raw: out.Body.String()}
	w.NoError(json.Unmarshal(out.Body.Bytes(), &a), a.raw)
	return a
}

// get asks, insists that there are no errors, and decodes the data.
func get[T any](w *world, as, document string, variables ...vars) T {
	w.t.Helper()
	a := w.ask(as, document, variables...)
	w.Empty(a.Errors, "%s\n%s", a.raw, w.log)
	var v T
	w.NoError(json.Unmarshal(a.Data, &v), a.raw)
	return v
}

// code is the code of the first error.
func (a answer) code() string {
	a.w.t.Helper()
	a.w.NotEmpty(a.Errors, a.raw)
	code, _ := a.Errors[0].Extensions["code"].(string)
	return code
}

type object = map[string]any

// at walks into decoded JSON.
func at(v any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := v.(object)
			v = m[step]
		case int:
			l, _ := v.([]any)
			if step >= len(l) {
				return nil
			}
			v = l[step]
		}
	}
	return v
}

// each of a list, by one field.
func column(v any, name string) []any {
	list, _ := v.([]any)
	out := make([]any, len(list))
	for i := range list {
		out[i] = at(list[i], name)
	}
	return out
}

func ids(list ...gid.ID) []any {
	out := make([]any, len(list))
	for i, id := range list {
		out[i] = id.String()
	}
	return out
}

// deleted puts a record into the bin through the API, and answers the operation.
func (w *world) deleted(as string, list ...gid.ID) string {
	w.t.Helper()
	got := get[object](w, as, `mutation($ids: [ID!]!) { deleteRecords(input: {select: {ids: $ids}, reason: "test"}) { operation { id status } } }`, vars{"ids": ids(list...)})
	w.Equal("SUCCEEDED", at(got, "deleteRecords", "operation", "status"))
	id, _ := at(got, "deleteRecords", "operation", "id").(string)
	return id
}
