package identity_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

// Whoever moves a head on is told of, at commit: the trigger knows no writer.
func TestEveryChangeOfAPolicyIsToldToThoseWhoWatch(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		source := identity.PolicySource{DB: db}
		ctx, cancel := context.WithCancel(t.Context())
		told := make(chan string, 10)
		ended := make(chan error, 1)
		go func() { ended <- source.Watch(ctx, func(tenant string) { told <- tenant }) }()
		if db.Dialect() == "sqlite3" {
			require.ErrorIs(t, <-ended, casbin.ErrCannotWatch)
			cancel()
			return
		}
		next := func() string {
			t.Helper()
			select {
			case tenant := <-told:
				return tenant
			case err := <-ended:
				require.NoError(t, err)
			case <-time.After(10 * time.Second):
				require.Fail(t, "nothing was told")
			}
			return "nothing"
		}
		require.Empty(t, next(), "it begins")
		tenant := gid.New(gid.Tenant)
		for _, change := range []string{
			`INSERT INTO policy_heads (version, tenant_id) VALUES (1, ?)`,
			`UPDATE policy_heads SET version = version + 1 WHERE tenant_id = ?`,
			`DELETE FROM policy_heads WHERE tenant_id = ?`,
		} {
			_, err := store.Build(db).Add(change, tenant).Exec(ctx, db)
			require.NoError(t, err)
			require.Equal(t, tenant.String(), next(), change)
		}
		_, err := store.Build(db).Add(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'listen %'`).Exec(ctx, db)
		require.NoError(t, err)
		require.Error(t, <-ended, "whoever is cut off knows")
		cancel()
	})
}

func TestTheHeadsOfManyTenantsAreReadAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		source := identity.PolicySource{DB: db}
		want, tenants := map[string]uint64{}, []string{gid.New(gid.Tenant).String()}
		for i := range 30 {
			id := gid.New(gid.Tenant)
			_, err := store.Build(db).Add(`INSERT INTO policy_heads (tenant_id, version) VALUES (?, ?)`, id, i+1).Exec(t.Context(), db)
			require.NoError(t, err)
			want[id.String()] = uint64(i + 1)
			tenants = append(tenants, id.String())
		}
		heads, err := source.Heads(t.Context(), tenants)
		require.NoError(t, err)
		require.Equal(t, want, heads)
	})
}
