package importer_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/importer"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
	"github.com/lethe-crm/lethe/internal/visible"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// world is a tenant with an admin and a manager in Sales, and an agent in Support.
type world struct {
	*testing.T

	db         *store.DB
	svc        *record.Service
	bucket     *blob.Bucket
	control    *access.Control
	log        *audit.Log
	tenant     gid.ID
	users      map[string]gid.ID
	teams      map[string]gid.ID
	statements *atomic.Int64
}

var roles = map[string]string{"admin": "Sales", "manager": "Sales", "agent": "Support"}

// each runs a test on both databases.
func each(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	for name, open := range map[string]func(testing.TB, ...store.Option) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			statements := &atomic.Int64{}
			db := open(t, store.WithTrace(func(string) { statements.Add(1) }))
			test(t, newWorld(t, db, statements))
		})
	}
}

func newWorld(t *testing.T, db *store.DB, statements *atomic.Int64) *world {
	t.Helper()
	keys, err := audit.NewKeys([]byte(strings.Repeat("k", audit.KeySize)))
	require.NoError(t, err)
	w := &world{T: t, db: db, log: audit.New(keys), users: map[string]gid.ID{}, teams: map[string]gid.ID{}, statements: statements}
	logger := slog.New(slog.DiscardHandler)
	ids := identity.New(db, w.log, logger)
	w.tenant, err = ids.CreateTenant(t.Context(), "acme")
	require.NoError(t, err)
	for role, team := range roles {
		w.users[role], err = ids.CreateUser(t.Context(), w.tenant, role+"@acme.example", role, []string{team})
		require.NoError(t, err)
		require.NoError(t, ids.GrantRole(t.Context(), w.tenant, w.users[role], role))
		w.teams[team], err = ids.EnsureTeam(t.Context(), w.tenant, team)
		require.NoError(t, err)
	}
	w.control, err = access.New(identity.PolicySource{DB: db}, func(_ string, _ uint64, _ []casbin.Finding, err error) { require.NoError(t, err) })
	require.NoError(t, err)
	address, err := blob.Folder(filepath.Join(t.TempDir(), "blobs"))
	require.NoError(t, err)
	w.bucket, err = blob.Open(t.Context(), address)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.bucket.Close()) })
	w.svc = record.New(db, w.control, w.log, logger).WithBlobs(w.bucket)
	return w
}

func (w *world) as(user string) context.Context {
	a := &actor.Actor{Kind: actor.User, Tenant: w.tenant, User: w.users[user], Teams: []gid.ID{w.teams[roles[user]]}}
	ctx := actor.With(w.Context(), a)
	return visible.With(ctx, w.svc.Rows(ctx))
}

// run imports with the services of the world filled in.
func (w *world) run(user string, c importer.Config) (importer.Report, error) {
	c.DB, c.Records, c.Control, c.Audit, c.Now = w.db, w.svc, w.control, w.log, w.db.Now
	return importer.Run(w.as(user), c)
}

// imported is run without an error.
func (w *world) imported(user string, c importer.Config) importer.Report {
	w.Helper()
	report, err := w.run(user, c)
	require.NoError(w, err)
	require.Equal(w, report.Read, report.Created+report.Duplicate+report.InBin+report.Unchanged+report.Failed)
	return report
}

func (w *world) create(user, typ string, values record.Values) gid.ID {
	w.Helper()
	r, err := w.svc.Create(w.as(user), typ, values)
	require.NoError(w, err)
	return r.RecordID()
}

func (w *world) retire(verb lifecycle.Verb, ids ...gid.ID) {
	w.Helper()
	op, err := w.svc.Run(w.as("admin"), record.Request{Verb: verb, Reason: "a reason", Select: record.Selection{IDs: ids}})
	require.NoError(w, err)
	require.GreaterOrEqual(w, op.Changed, len(ids), "with what is attached to them")
	require.Zero(w, op.Failed)
}

func (w *world) messages() []*ent.Message {
	w.Helper()
	ctx := visible.With(w.Context(), visible.Everything)
	out, err := w.svc.Client(ctx).Message.Query().WithRecipients().All(ctx)
	require.NoError(w, err)
	return out
}

// message is the live message with a Message-ID.
func (w *world) message(id string) *ent.Message {
	w.Helper()
	for _, m := range w.messages() {
		if m.RetiredAt == nil && *m.MessageID == id {
			return m
		}
	}
	require.Fail(w, "no live message "+id)
	return nil
}

func (w *world) customers() []*ent.Customer {
	w.Helper()
	ctx := visible.With(w.Context(), visible.Everything)
	out, err := w.svc.Client(ctx).Customer.Query().All(ctx)
	require.NoError(w, err)
	return out
}

// count counts the rows of a table.
func (w *world) count(table string) (n int) {
	w.Helper()
	err := store.Build(w.db).Add("SELECT count(*) FROM "+table).Query(w.Context(), w.db, func(rows store.Row) error { return rows.Scan(&n) })
	require.NoError(w, err)
	return n
}

// write lays files out in a folder and returns its path.
func (w *world) write(files map[string]string) string {
	w.Helper()
	folder := w.TempDir()
	for name, content := range files {
		path := filepath.Join(folder, filepath.FromSlash(name))
		require.NoError(w, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(w, os.WriteFile(path, []byte(content), 0o600))
	}
	return folder
}

func (w *world) csv(content string) string {
	return filepath.Join(w.write(map[string]string{"table.csv": content}), "table.csv")
}

// find is the report's item with a name, or with a line.
func find(t *testing.T, report importer.Report, name string, line int) importer.ReportItem {
	t.Helper()
	for _, item := range report.Items {
		if item.Name == name && item.Line == line {
			return item
		}
	}
	require.Failf(t, "not reported", "%s%d in %+v", name, line, report.Items)
	return importer.ReportItem{}
}

var start = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

func (w *world) purge(ids ...gid.ID) error {
	w.Helper()
	_, err := w.svc.Run(actor.With(w.Context(), actor.ForSystem(w.tenant)), record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: ids}})
	return err
}
