package demo_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/demo"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
	"github.com/lethe-crm/lethe/internal/visible"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// tenant makes the tenant as the command does.
func tenant(t *testing.T, db *store.DB) (config demo.Config, users map[string]gid.ID) {
	t.Helper()
	keys, err := audit.NewKeys([]byte(strings.Repeat("k", audit.KeySize)))
	require.NoError(t, err)
	log, logger := audit.New(keys), slog.New(slog.DiscardHandler)
	ids := identity.New(db, log, logger)
	config.DB, users = db, map[string]gid.ID{}
	config.Tenant, err = ids.CreateTenant(t.Context(), demo.Tenant)
	require.NoError(t, err)
	for _, u := range demo.Users() {
		users[u.Name], err = ids.CreateUser(t.Context(), config.Tenant, u.Email(), u.Name, []string{u.Team})
		require.NoError(t, err)
		require.NoError(t, ids.GrantRole(t.Context(), config.Tenant, users[u.Name], u.Role))
	}
	control, err := access.New(identity.PolicySource{DB: db}, nil)
	require.NoError(t, err)
	config.Records = record.New(db, control, log, logger)
	return config, users
}

func TestTheSampleDataGivesEveryVerbSomethingToActOn(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		config, users := tenant(t, db)
		began := time.Now()
		require.NoError(t, demo.Load(t.Context(), config))
		t.Logf("loaded in %v", time.Since(began))

		ctx := visible.With(t.Context(), visible.Everything)
		client := config.Records.Client(ctx)
		states, owners := map[string]map[lifecycle.State]int{}, map[gid.ID]int{}
		for _, typ := range ent.RecordTypes {
			records, err := client.QueryRecords(ctx, typ.Name, func(*sql.Selector) {}, func(*sql.Selector) {})
			require.NoError(t, err)
			states[typ.Name] = map[lifecycle.State]int{}
			for _, r := range records {
				states[typ.Name][r.RecordState()]++
				owners[r.Column("owner_id").(gid.ID)]++
			}
		}
		require.Equal(t, map[string]map[lifecycle.State]int{
			"Customer": {lifecycle.Active: 42, lifecycle.Deleted: 1, lifecycle.Voided: 2},
			"Contact":  {lifecycle.Active: 44, lifecycle.Deleted: 2, lifecycle.Voided: 2},
			"Deal":     {lifecycle.Active: 12},
			"Message":  {lifecycle.Active: 29, lifecycle.Archived: 1, lifecycle.Deleted: 4, lifecycle.Voided: 1},
			"Call":     {lifecycle.Active: 3}, "Task": {lifecycle.Active: 3}, "Note": {lifecycle.Active: 3}, "Attachment": {lifecycle.Active: 2},
		}, states)
		require.Len(t, owners, 3)
		for _, name := range []string{"agent", "manager", "agent2"} {
			require.Greater(t, owners[users[name]], 20, name)
		}

		customers, err := client.Customer.Query().WithContacts().WithMessages().WithDeals().All(ctx)
		require.NoError(t, err)
		var cascade bool
		reasons := map[string]string{}
		for _, c := range customers {
			whole := len(c.Edges.Contacts) > 0 && len(c.Edges.Messages) > 0 && len(c.Edges.Deals) > 0
			cascade = cascade || whole && c.State == lifecycle.Active
			if c.State == lifecycle.Voided {
				reasons[c.Name] = *c.StateReason
			}
		}
		require.True(t, cascade, "a customer with all that comes along")
		require.Equal(t, map[string]string{"Harbor and Vale": "Entered twice", "АО «Старый завод»": "Предприятие ликвидировано"}, reasons)

		operations, err := client.Operation.Query().WithActor().All(ctx)
		require.NoError(t, err)
		require.Len(t, operations, 6)
		for _, op := range operations {
			require.NotEqual(t, "admin@"+demo.Domain, op.Edges.Actor.Email)
		}
	})
}

func TestLoadingTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		config, _ := tenant(t, db)
		require.NoError(t, demo.Load(t.Context(), config))
		events := count(t, db, "audit_events")
		require.NoError(t, demo.Load(t.Context(), config))
		require.Equal(t, events, count(t, db, "audit_events"))

		// Also when all of them are gone from the lists.
		admin := actor.With(t.Context(), actor.ForSystem(config.Tenant))
		ids, err := config.Records.Client(admin).Customer.Query().IDs(visible.With(admin, visible.Everything))
		require.NoError(t, err)
		_, err = config.Records.Run(admin, record.Request{Verb: lifecycle.Delete, Cascade: true, Select: record.Selection{IDs: ids}})
		require.NoError(t, err)
		customers := count(t, db, "customers")
		require.NoError(t, demo.Load(t.Context(), config))
		require.Equal(t, customers, count(t, db, "customers"))
	})
}

func TestLoadingTakesFewStatements(t *testing.T) {
	t.Parallel()
	var statements atomic.Int64
	config, _ := tenant(t, storetest.SQLite(t, store.WithTrace(func(string) { statements.Add(1) })))
	statements.Store(0)
	require.NoError(t, demo.Load(t.Context(), config))
	t.Logf("%d statements", statements.Load())
	require.LessOrEqual(t, statements.Load(), int64(150), "163 records, 6 operations")
}

func TestATenantWithoutTheUsersIsLeftEmpty(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		config, _ := tenant(t, db)
		config.Tenant = gid.New(gid.Tenant)
		require.ErrorContains(t, demo.Load(t.Context(), config), "admin@demo.example")
		require.Zero(t, count(t, db, "customers"))
	})
}

func TestEveryFolderOfTheSampleDataCarriesItsLicence(t *testing.T) {
	t.Parallel()
	folders, err := os.ReadDir("data")
	require.NoError(t, err)
	for _, folder := range folders {
		if !folder.IsDir() {
			continue
		}
		var licences []string
		for _, pattern := range []string{"LICENSE*", "license*", "LICENSES/*"} {
			found, err := filepath.Glob(filepath.Join("data", folder.Name(), pattern))
			require.NoError(t, err)
			licences = append(licences, found...)
		}
		require.NotEmpty(t, licences, folder.Name())
	}
}

func count(t *testing.T, db *store.DB, table string) (n int) {
	t.Helper()
	_, err := store.Build(db).Add("SELECT count(*) FROM "+table).One(t.Context(), db, &n)
	require.NoError(t, err)
	return n
}
