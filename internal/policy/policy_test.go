package policy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/policy"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// world is a tenant with an admin.
type world struct {
	*testing.T
	ctx           context.Context
	db            *store.DB
	people        *identity.Service
	policies      *policy.Service
	tenant, admin gid.ID
}

// each runs a test on both databases.
func each(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Parallel()
	for name, open := range map[string]func(testing.TB, ...store.Option) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys, err := audit.NewKeys(bytes.Repeat([]byte("k"), audit.KeySize))
			require.NoError(t, err)
			w := &world{T: t, ctx: t.Context(), db: open(t)}
			log := slog.New(slog.DiscardHandler)
			w.people, w.policies = identity.New(w.db, audit.New(keys), log), policy.New(w.db, nil, audit.New(keys), log)
			w.tenant, err = w.people.CreateTenant(w.ctx, "acme")
			require.NoError(t, err)
			w.admin, err = w.people.CreateUser(w.ctx, w.tenant, "admin@acme.example", "Ada", nil)
			require.NoError(t, err)
			require.NoError(t, w.people.GrantRole(w.ctx, w.tenant, w.admin, casbin.Admin))
			test(w)
		})
	}
}

func (w *world) row(subject string) casbin.Rule {
	return casbin.Permission(subject, w.tenant.String(), "Customer", "read", "allow", "owner == me")
}

func TestOfManyEditorsOneWins(t *testing.T) {
	each(t, func(w *world) {
		const editors = 8
		ctx := actor.With(w.ctx, &actor.Actor{Kind: actor.User, Tenant: w.tenant, User: w.admin})
		var done sync.WaitGroup
		results := make([]error, editors)
		for i := range editors {
			done.Go(func() {
				_, results[i] = w.policies.Apply(ctx, w.tenant, policy.Draft{Base: 2, Add: []casbin.Rule{w.row(fmt.Sprintf("role:r%d", i))}})
			})
		}
		done.Wait()
		won := 0
		for _, err := range results {
			if err == nil {
				won++
				continue
			}
			require.ErrorIs(w, err, policy.ErrConflict)
		}
		require.Equal(w, 1, won)
		p, err := w.policies.Current(w.ctx, w.tenant)
		require.NoError(w, err)
		require.EqualValues(w, 3, p.Version)
		require.Len(w, p.Rules, len(casbin.DefaultRules(""))+2)
	})
}

func TestEveryChangeOfTheOperatorIsAVersion(t *testing.T) {
	each(t, func(w *world) {
		require.NoError(w, w.people.GrantRole(w.ctx, w.tenant, w.admin, casbin.Purger))
		require.NoError(w, w.people.GrantRole(w.ctx, w.tenant, w.admin, casbin.Purger), "again, which changes nothing")
		require.NoError(w, w.people.RevokeRole(w.ctx, w.tenant, w.admin, casbin.Purger))
		p, err := w.policies.Current(w.ctx, w.tenant)
		require.NoError(w, err)
		require.EqualValues(w, 4, p.Version)
		granted, err := w.policies.At(w.ctx, w.tenant, 3)
		require.NoError(w, err)
		was, err := w.policies.At(w.ctx, w.tenant, 2)
		require.NoError(w, err)
		require.Equal(w, []casbin.Rule{casbin.Grant(casbin.UserSubject(w.admin.String()), "role:purger", w.tenant.String())}, policy.Diff(was.Policy, granted.Policy).Added)
		require.Equal(w, was.Rules, p.Rules)
		first, err := w.policies.At(w.ctx, w.tenant, 1)
		require.NoError(w, err)
		require.Equal(w, casbin.DefaultRules(w.tenant.String()), first.Rules)
		require.Nil(w, first.Author)
		_, err = w.policies.At(w.ctx, w.tenant, 5)
		require.ErrorIs(w, err, policy.ErrNotFound)
	})
}

func TestAnActorOfAnotherTenantChangesNothing(t *testing.T) {
	each(t, func(w *world) {
		other, err := w.people.CreateTenant(w.ctx, "other")
		require.NoError(w, err)
		for _, by := range []*actor.Actor{{Kind: actor.User, Tenant: w.tenant, User: w.admin}, actor.ForSystem(w.tenant)} {
			ctx := actor.With(w.ctx, by)
			_, err = w.policies.Apply(ctx, other, policy.Draft{Base: 1, Add: []casbin.Rule{casbin.Permission("role:x", other.String(), "*", "read", "allow", "any")}})
			require.ErrorIs(w, err, policy.ErrForbidden)
			require.ErrorIs(w, w.policies.DeleteTest(ctx, other, "x"), policy.ErrForbidden)
		}
		_, err = w.policies.At(w.ctx, other, 2)
		require.ErrorIs(w, err, policy.ErrNotFound)
	})
}

func TestAFailureLeavesThePolicyWhole(t *testing.T) {
	each(t, func(w *world) {
		boom := errors.New("boom")
		err := w.db.InTx(w.ctx, func(ctx context.Context, tx *store.Tx) error {
			_, err := w.policies.Apply(ctx, w.tenant, policy.Draft{Base: 2, Add: []casbin.Rule{w.row("role:x")}})
			require.NoError(w, err)
			tx.BeforeCommit(func(context.Context) error { return boom })
			return nil
		})
		require.ErrorIs(w, err, boom)
		p, err := w.policies.Current(w.ctx, w.tenant)
		require.NoError(w, err)
		require.EqualValues(w, 2, p.Version)
		_, err = w.policies.At(w.ctx, w.tenant, 3)
		require.ErrorIs(w, err, policy.ErrNotFound)
	})
}
