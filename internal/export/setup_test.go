package export_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/export"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
	"github.com/lethe-crm/lethe/internal/visible"
)

func TestMain(m *testing.M) { storetest.Main(m) }

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

// jobs keeps what was asked for, until a test works on it.
type jobs struct {
	mu  sync.Mutex
	ids []gid.ID
}

func (j *jobs) EnqueueExport(_ context.Context, tx *store.Tx, _, id gid.ID) error {
	tx.AfterEnd(func(committed bool) {
		j.mu.Lock()
		defer j.mu.Unlock()
		if committed {
			j.ids = append(j.ids, id)
		}
	})
	return nil
}

func (j *jobs) take() []gid.ID {
	j.mu.Lock()
	defer j.mu.Unlock()
	ids := j.ids
	j.ids = nil
	return ids
}

// world is a tenant with a user of each role, all in Sales.
type world struct {
	*require.Assertions
	*testing.T

	db      *store.DB
	clock   *clock
	people  *identity.Service
	control *access.Control
	log     *audit.Log
	records *record.Service
	exports *export.Service
	blobs   *blob.Bucket
	jobs    *jobs
	tenant  gid.ID
	users   map[string]gid.ID
	rules   *rules
}

// rules are the default policy, to which tests add.
type rules struct {
	mu   sync.Mutex
	list []casbin.Rule
	v    uint64
}

func (r *rules) Head(context.Context, string) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.v, nil
}

func (r *rules) Load(context.Context, string) (uint64, []casbin.Rule, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.v, r.list, nil
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

func newWorld(t *testing.T, open func(testing.TB, ...store.Option) *store.DB) *world {
	t.Helper()
	w := &world{
		Assertions: require.New(t), T: t, clock: &clock{at: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)}, jobs: &jobs{}, users: map[string]gid.ID{}, rules: &rules{v: 1},
	}
	w.db = open(t, store.WithClock(w.clock.now))
	keys, err := audit.NewKeys([]byte(strings.Repeat("k", audit.KeySize)))
	w.NoError(err)
	w.log = audit.New(keys)
	logger := slog.New(slog.DiscardHandler)
	w.people = identity.New(w.db, w.log, logger)
	w.tenant, err = w.people.CreateTenant(t.Context(), "acme")
	w.NoError(err)
	w.rules.list = casbin.DefaultRules(w.tenant.String())
	for _, role := range []string{"admin", "manager", "agent", "compliance", "purger", "viewer"} {
		team := "Sales"
		if role == "agent" {
			team = "Support"
		}
		w.users[role], err = w.people.CreateUser(t.Context(), w.tenant, role+"@acme.example", role, []string{team})
		w.NoError(err)
		w.rules.list = append(w.rules.list, casbin.Grant(casbin.UserSubject(w.users[role].String()), casbin.RoleSubject(role), w.tenant.String()))
	}
	w.control, err = access.New(w.rules, func(_ string, _ uint64, _ []casbin.Finding, err error) { require.NoError(t, err) })
	w.NoError(err)
	w.records = record.New(w.db, w.control, w.log, logger)
	folder, err := blob.Folder(filepath.Join(t.TempDir(), "blobs"))
	w.NoError(err)
	w.blobs, err = blob.Open(t.Context(), folder)
	w.NoError(err)
	t.Cleanup(func() { w.NoError(w.blobs.Close()) })
	w.exports = export.New(export.Config{
		DB: w.db, Control: w.control, Records: w.records, Audit: w.log, Blobs: w.blobs, Log: logger, ActAs: w.actAs, Queue: w.jobs, PublicURL: "https://lethe.example",
	})
	return w
}

func (w *world) actAs(ctx context.Context, tenant, user gid.ID) (*actor.Actor, error) {
	a, err := w.people.ActAs(ctx, tenant, user, "")
	if errors.Is(err, identity.ErrInactive) {
		err = record.ErrLeft
	}
	return a, err
}

// as is a context in which a user acts and reads.
func (w *world) as(role string) context.Context {
	w.Helper()
	if role == "system" {
		ctx := actor.With(w.Context(), actor.ForSystem(w.tenant))
		return visible.With(ctx, w.records.Rows(ctx))
	}
	a, err := w.people.ActAs(w.Context(), w.tenant, w.users[role], "r-1")
	w.NoError(err)
	ctx := actor.With(w.Context(), a)
	return visible.With(ctx, w.records.Rows(ctx))
}

func (w *world) everything() context.Context { return visible.With(w.Context(), visible.Everything) }

func (w *world) create(as, typ string, values record.Values) ent.Record {
	w.Helper()
	r, err := w.records.Create(w.as(as), typ, values)
	w.NoError(err)
	return r
}

func (w *world) customer(as, name string) gid.ID {
	w.Helper()
	return w.create(as, "Customer", record.Values{"name": name, "email": strings.ReplaceAll(name, " ", ".") + "@example.com"}).RecordID()
}

func (w *world) update(as, typ string, id gid.ID, values record.Values) {
	w.Helper()
	rows, err := w.records.Client(w.everything()).QueryRecords(w.everything(), typ)
	w.NoError(err)
	for _, row := range rows {
		if row.RecordID() == id {
			_, err = w.records.Update(w.as(as), id, row.RecordVersion(), values)
			w.NoError(err)
		}
	}
}

func (w *world) run(as string, verb lifecycle.Verb, ids ...gid.ID) *ent.Operation {
	w.Helper()
	op, err := w.records.Run(w.as(as), record.Request{Verb: verb, Reason: "test", Mode: record.BestEffort, Select: record.Selection{IDs: ids}})
	w.NoError(err)
	return op
}

// codes are those of the items of an operation.
func (w *world) codes(op *ent.Operation) []string {
	w.Helper()
	items, err := w.records.Client(w.everything()).Operation.QueryItems(op).All(w.everything())
	w.NoError(err)
	var out []string
	for _, it := range items {
		text := string(it.Outcome)
		if it.Code != nil {
			text += " " + *it.Code
		}
		out = append(out, text)
	}
	return out
}

// asked asks for an export and makes it.
func (w *world) asked(as string, spec export.Spec) *ent.Export {
	w.Helper()
	id, err := w.exports.Create(w.as(as), spec)
	w.NoError(err)
	w.work()
	return w.export(id)
}

// work makes what was asked for.
func (w *world) work() {
	w.Helper()
	for _, id := range w.jobs.take() {
		w.NoError(w.exports.Work(w.Context(), w.tenant, id))
	}
}

func (w *world) export(id gid.ID) *ent.Export {
	w.Helper()
	e, err := w.records.Client(w.everything()).Export.Get(w.everything(), id)
	w.NoError(err)
	return e
}

// rows reads one column of a query, as text.
func (w *world) rows(query string, args ...any) []string {
	w.Helper()
	out := []string{}
	err := store.Build(w.db).Add(query, args...).Query(w.Context(), w.db, func(row store.Row) error {
		var v any
		err := row.Scan(&v)
		if b, ok := v.([]byte); ok {
			v = string(b)
		}
		text, _ := v.(string)
		out = append(out, text)
		return err
	})
	w.NoError(err)
	return out
}

func (w *world) exec(query string, args ...any) {
	w.Helper()
	_, err := store.Build(w.db).Add(query, args...).Exec(w.Context(), w.db)
	w.NoError(err)
}

func (w *world) hide(role, object string) {
	w.Helper()
	w.rules.mu.Lock()
	defer w.rules.mu.Unlock()
	w.rules.list = append(w.rules.list, casbin.Permission(casbin.RoleSubject(role), w.tenant.String(), object, "read", "deny", "any"))
	w.rules.v++
}

func (w *world) refreshed() {
	w.Helper()
	w.NoError(w.control.Refresh(w.Context(), w.tenant))
}

// fails insists on a refusal with a code.
func (w *world) fails(code lifecycle.Code, err error) {
	w.Helper()
	var refused *record.Error
	w.ErrorAs(err, &refused)
	w.Equal(code, refused.Code, err)
}

func manifest(w *world, e *ent.Export) *export.Manifest {
	w.Helper()
	m, err := export.ManifestOf(e)
	w.NoError(err)
	w.NotNil(m, "%s %v", e.Status, e.Code)
	return m
}

func decode[T any](w *world, text []byte) T {
	w.Helper()
	var v T
	w.NoError(json.Unmarshal(text, &v))
	return v
}
