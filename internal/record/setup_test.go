package record_test

import (
	"context"
	"database/sql"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/migrate"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
	"github.com/lethe-crm/lethe/internal/visible"
)

// clock is a clock that tests turn.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(time.Millisecond)
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// statements counts what is sent to the database.
type statements struct {
	mu   sync.Mutex
	list []string
	// before is called once, before the next statement that contains its text is sent.
	before func()
	text   string
}

func (s *statements) add(q string) {
	s.mu.Lock()
	s.list = append(s.list, q)
	var do func()
	if s.before != nil && strings.Contains(q, s.text) {
		do, s.before = s.before, nil
	}
	s.mu.Unlock()
	if do != nil {
		do()
	}
}

// onceBefore does something before the next statement that contains a text.
func (s *statements) onceBefore(text string, do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text, s.before = text, do
}

func (s *statements) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = nil
}

func (s *statements) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.list)
}

// source is a policy kept in memory.
type source struct {
	mu    sync.Mutex
	rules map[string][]casbin.Rule
	v     uint64
}

func (s *source) Head(context.Context, string) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.v, nil
}

func (s *source) Load(_ context.Context, tenant string) (uint64, []casbin.Rule, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.v, s.rules[tenant], nil
}

// replace puts other rules into force.
func (s *source) replace(tenant gid.ID, rules []casbin.Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules[tenant.String()] = rules
	s.v++
}

// world is one tenant with the demo's users, and another tenant beside it.
type world struct {
	t       *testing.T
	db      *store.DB
	svc     *record.Service
	log     *audit.Log
	policy  *source
	control *access.Control
	clock   *clock
	sql     *statements

	tenant, other  gid.ID
	sales, support gid.ID
	users          map[string]gid.ID // by role name; agent2 is in Support

	// verified says that nothing is left for verify to do: it was done, or the test wrote past the operations, so that it
	// would find that.
	verified bool
}

// each runs a test on both databases.
func each(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(newWorld(t, storetest.SQLite))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(newWorld(t, storetest.Postgres))
	})
}

func newWorld(t *testing.T, open func(testing.TB, ...store.Option) *store.DB) *world {
	t.Helper()
	w := &world{
		t: t, clock: &clock{at: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)}, sql: &statements{}, users: map[string]gid.ID{},
		policy: &source{rules: map[string][]casbin.Rule{}, v: 1},
	}
	db := open(t, store.WithClock(w.clock.now), store.WithTrace(w.sql.add))
	w.db = db
	keys, err := audit.NewKeys([]byte(strings.Repeat("k", audit.KeySize)))
	require.NoError(t, err)
	w.log = audit.New(keys)
	control, err := access.New(w.policy, func(_ string, _ uint64, findings []casbin.Finding, err error) {
		require.NoError(t, err)
		for _, f := range findings {
			require.NotEqual(t, casbin.Error, f.Severity, f.Message)
		}
	})
	require.NoError(t, err)
	w.control = control
	w.restarted()
	t.Cleanup(w.verify)

	w.tenant, w.other = w.newTenant("acme"), w.newTenant("other")
	w.sales, w.support = w.insertTeam(w.tenant, "Sales"), w.insertTeam(w.tenant, "Support")
	rules := casbin.DefaultRules(w.tenant.String())
	for _, role := range []string{"viewer", "agent", "agent2", "manager", "compliance", "purger", "admin"} {
		team, grant := w.sales, role
		if role == "agent2" {
			team, grant = w.support, "agent"
		}
		id := w.insertUser(w.tenant, role, team)
		w.users[role] = id
		rules = append(rules, casbin.Grant(casbin.UserSubject(id.String()), casbin.RoleSubject(grant), w.tenant.String()))
	}
	w.policy.rules[w.tenant.String()] = rules
	stranger := w.insertUser(w.other, "stranger", w.insertTeam(w.other, "All"))
	w.users["stranger"] = stranger
	w.policy.rules[w.other.String()] = append(casbin.DefaultRules(w.other.String()), casbin.Grant(casbin.UserSubject(stranger.String()), casbin.RoleSubject("admin"), w.other.String()))
	return w
}

// restarted forgets all that a process remembers.
func (w *world) restarted() {
	w.svc = record.New(w.db, w.control, w.log, slog.New(slog.DiscardHandler))
}

func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	_, err := store.Build(w.db).Add(query, args...).Exec(w.t.Context(), w.db)
	require.NoError(w.t, err)
}

func (w *world) newTenant(name string) gid.ID {
	id := gid.New(gid.Tenant)
	w.exec(`INSERT INTO tenants (id, name, bin_days, created_at) VALUES (?, ?, 30, ?)`, id, name, w.db.Now())
	return id
}

// caps sets those of the brake: records of an operation, percent of a type,
// records in an hour and in a day.
func (w *world) caps(records, percent, hour, day any) {
	w.t.Helper()
	w.exec(`UPDATE tenants SET brake_records = ?, brake_percent = ?, brake_hour = ?, brake_day = ? WHERE id = ?`, records, percent, hour, day, w.tenant)
}

func (w *world) insertTeam(tenant gid.ID, name string) gid.ID {
	id := gid.New(gid.Team)
	w.exec(`INSERT INTO teams (id, tenant_id, name) VALUES (?, ?, ?)`, id, tenant, name)
	return id
}

func (w *world) insertUser(tenant gid.ID, name string, team gid.ID) gid.ID {
	id := gid.New(gid.User)
	w.exec(`INSERT INTO users (id, tenant_id, email, email_key, name, active, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		id, tenant, name+"@acme.example", name+"@acme.example", name, true, w.db.Now())
	w.exec(`INSERT INTO user_teams (user_id, team_id) VALUES (?, ?)`, id, team)
	return id
}

// as returns a context in which a user acts and reads.
func (w *world) as(name string) context.Context {
	a := &actor.Actor{Kind: actor.Token, Tenant: w.tenant, User: w.users[name], Credential: gid.New(gid.Token), RequestID: "r-1", Teams: []gid.ID{w.sales}}
	switch name {
	case "agent2":
		a.Teams = []gid.ID{w.support}
	case "stranger":
		a.Tenant, a.Teams = w.other, nil
	case "system":
		a = actor.ForSystem(w.tenant)
	}
	ctx := actor.With(w.t.Context(), a)
	return visible.With(ctx, w.svc.Rows(ctx))
}

func (w *world) create(as, typ string, values record.Values) ent.Record {
	w.t.Helper()
	r, err := w.svc.Create(w.as(as), typ, values)
	require.NoError(w.t, err)
	return r
}

func (w *world) customer(as, name string) gid.ID {
	w.t.Helper()
	return w.create(as, "Customer", record.Values{"name": name, "email": name + "@example.com"}).RecordID()
}

func (w *world) contact(as string, customer gid.ID, name string) gid.ID {
	w.t.Helper()
	return w.create(as, "Contact", record.Values{"name": name, "email": name + "@example.com", "customerID": customer}).RecordID()
}

func (w *world) message(as string, customer gid.ID, subject string) gid.ID {
	w.t.Helper()
	return w.create(as, "Message", record.Values{
		"subject": subject, "body": "text", "sentAt": w.db.Now(), "customerID": customer, "sender": "someone@example.com",
		"recipients": []map[string]any{{"address": "a@example.com", "kind": "TO"}},
	}).RecordID()
}

func (w *world) deal(as string, customer gid.ID, name string) gid.ID {
	w.t.Helper()
	return w.create(as, "Deal", record.Values{"name": name, "amount": 100.5, "customerID": customer}).RecordID()
}

// rest makes a call, a task, a note and an attachment of a customer.
func (w *world) rest(as string, customer gid.ID) []gid.ID {
	w.t.Helper()
	var ids []gid.ID
	for typ, values := range map[string]record.Values{
		"Call": {"startedAt": w.db.Now(), "fromNumber": "+74951234567"},
		"Task": {"title": "call back"}, "Note": {"body": "a note", "happenedAt": w.db.Now()},
		"Attachment": {"filename": "offer.pdf"},
	} {
		values["customerID"] = customer
		ids = append(ids, w.create(as, typ, values).RecordID())
	}
	return ids
}

// run carries an operation out and insists that it was written down.
func (w *world) run(as string, req record.Request) *ent.Operation {
	w.t.Helper()
	op, err := w.svc.Run(w.as(as), req)
	require.NoError(w.t, err)
	return op
}

func (w *world) delete(as string, ids ...gid.ID) *ent.Operation {
	w.t.Helper()
	return w.run(as, record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids}})
}

func (w *world) restore(as string, ids ...gid.ID) *ent.Operation {
	w.t.Helper()
	return w.run(as, record.Request{Verb: lifecycle.Restore, Select: record.Selection{IDs: ids}})
}

func (w *world) void(as string, ids ...gid.ID) *ent.Operation {
	w.t.Helper()
	return w.run(as, record.Request{Verb: lifecycle.Void, Reason: "out of business", Select: record.Selection{IDs: ids}})
}

func (w *world) purge(as string, ids ...gid.ID) *ent.Operation {
	w.t.Helper()
	return w.run(as, record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: ids}})
}

// get reads a record past every filter; nil when there is no row.
func (w *world) get(id gid.ID) ent.Record {
	w.t.Helper()
	ctx := visible.With(w.t.Context(), visible.Everything)
	nodes, err := w.svc.Client(ctx).NodesByID(ctx, []gid.ID{id}, nil)
	require.NoError(w.t, err)
	r, _ := nodes[id].(ent.Record)
	return r
}

// state is "" for a row that is gone.
func (w *world) state(id gid.ID) lifecycle.State {
	w.t.Helper()
	if r := w.get(id); r != nil {
		return r.RecordState()
	}
	return ""
}

func (w *world) states(ids ...gid.ID) []lifecycle.State {
	w.t.Helper()
	var out []lifecycle.State
	for _, id := range ids {
		out = append(out, w.state(id))
	}
	return out
}

// outcome is one item of an operation in short: CHANGED, or FAILED CODE.
func (w *world) outcomes(op *ent.Operation) map[gid.ID]string {
	w.t.Helper()
	ctx := visible.With(w.t.Context(), visible.Everything)
	items, err := w.svc.Client(ctx).Operation.QueryItems(op).All(ctx)
	require.NoError(w.t, err)
	out := map[gid.ID]string{}
	for _, it := range items {
		s := string(it.Outcome)
		if it.Code != nil {
			s += " " + *it.Code
		}
		if !it.Direct {
			s += " along"
		}
		out[it.RecordID] = s
	}
	return out
}

// rows reads one column of a query.
func (w *world) rows(query string, args ...any) []string {
	w.t.Helper()
	var out []string
	err := store.Build(w.db).Add(query, args...).Query(w.t.Context(), w.db, func(rows store.Row) error {
		var s sql.NullString
		if err := rows.Scan(&s); err != nil {
			return err
		}
		out = append(out, s.String)
		return nil
	})
	require.NoError(w.t, err)
	return out
}

// eventsMatchChanges checks that the log has one event for every version of
// every record.
func (w *world) eventsMatchChanges() {
	w.t.Helper()
	for _, t := range ent.RecordTypes {
		require.Empty(w.t, w.rows(`SELECT r.id FROM `+t.Table+` r WHERE r.version <> (SELECT COUNT(*) FROM audit_events e WHERE e.record_id = r.id AND e.outcome = 'SUCCEEDED' AND e.action NOT LIKE 'HOLD_%')`),
			"%s whose versions are not one event each", t.Table)
	}
}

// mostVerified is how many operations of a world are verified: properties make thousands.
const mostVerified = 60

// verify insists, once a test has passed, that what its operations left is what they were to leave.
func (w *world) verify() {
	if w.t.Failed() || w.t.Skipped() || w.verified {
		return
	}
	w.verified = true
	// The context of the test has ended.
	ctx := visible.With(context.WithoutCancel(w.t.Context()), visible.Everything)
	for _, tenant := range []gid.ID{w.tenant, w.other} {
		ctx := actor.With(ctx, actor.ForSystem(tenant))
		var ids []gid.ID
		err := store.Build(w.db).Add(`SELECT id FROM operations WHERE tenant_id = ? AND changed > 0 ORDER BY id DESC LIMIT ?`, tenant, mostVerified).Query(ctx, w.db, func(row store.Row) error {
			var id gid.ID
			err := row.Scan(&id)
			ids = append(ids, id)
			return err
		})
		require.NoError(w.t, err)
		for _, id := range ids {
			found, err := w.svc.VerifyOperation(ctx, id)
			require.NoError(w.t, err)
			require.Equal(w.t, found.Operation.Changed, found.Changed, "records that %s changed", id)
			for _, c := range found.Checks {
				require.Zero(w.t, c.Exceptions, "%s of %s %s: %v", c.Name, found.Operation.Verb, id, c.Records)
			}
		}
	}
}

// everything is a context that reads past every filter.
func (w *world) everything() context.Context {
	return visible.With(w.t.Context(), visible.Everything)
}

// columns are the columns of a table.
func (w *world) columns(table string) []string {
	w.t.Helper()
	var names []string
	for _, t := range migrate.Tables {
		for _, c := range t.Columns {
			if t.Name == table {
				names = append(names, `"`+c.Name+`"`)
			}
		}
	}
	require.NotEmpty(w.t, names)
	return names
}
