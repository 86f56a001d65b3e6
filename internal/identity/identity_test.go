package identity_test

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"slices"
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
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
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
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// world is a tenant with an admin and an agent.
type world struct {
	*testing.T
	ctx   context.Context
	db    *store.DB
	svc   *identity.Service
	clock *clock

	mu         sync.Mutex
	statements []string

	tenant, admin, agent gid.ID
}

// each runs a test on both databases.
func each(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Parallel()
	for name, open := range map[string]func(testing.TB, ...store.Option) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{T: t, ctx: t.Context(), clock: &clock{at: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)}}
			w.db = open(t, store.WithClock(w.clock.now), store.WithTrace(w.trace))
			w.svc = identity.New(w.db, audit.New(newKeys(t, 'k')), slog.New(slog.DiscardHandler))
			w.tenant = must(w.svc.CreateTenant(w.ctx, "acme"))
			w.admin = must(w.svc.CreateUser(w.ctx, w.tenant, "admin@acme.example", "Ada", []string{"Sales"}))
			w.agent = must(w.svc.CreateUser(w.ctx, w.tenant, "agent@acme.example", "Alan", []string{"Sales"}))
			require.NoError(t, w.svc.GrantRole(w.ctx, w.tenant, w.admin, casbin.Admin))
			require.NoError(t, w.svc.GrantRole(w.ctx, w.tenant, w.agent, casbin.Agent))
			test(w)
		})
	}
}

func newKeys(t *testing.T, fill byte) *audit.Keys {
	t.Helper()
	keys, err := audit.NewKeys(bytes.Repeat([]byte{fill}, audit.KeySize))
	require.NoError(t, err)
	return keys
}

// must is for what is not under test.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (w *world) trace(query string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.statements = append(w.statements, query)
}

// sent counts the statements f sends.
func (w *world) sent(f func()) int {
	w.mu.Lock()
	w.statements = nil
	w.mu.Unlock()
	f()
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.statements)
}

type event struct {
	action, actor, detail string
}

// events lists what the audit log says, oldest first.
func (w *world) events() []event {
	w.Helper()
	var out []event
	require.NoError(w, store.Build(w.db).Add("SELECT action, actor_id, detail FROM audit_events ORDER BY id").Query(w.ctx, w.db, func(rows store.Row) error {
		var e event
		var actorID gid.ID
		var detail sql.NullString
		if err := rows.Scan(&e.action, &actorID, &detail); err != nil {
			return err
		}
		e.actor, e.detail = actorID.String(), detail.String
		out = append(out, e)
		return nil
	}))
	return out
}

func (w *world) last() event {
	all := w.events()
	return all[len(all)-1]
}

func (w *world) token(user gid.ID) string {
	w.Helper()
	c, err := w.svc.CreateToken(w.ctx, w.tenant, user, time.Hour)
	require.NoError(w, err)
	return c.Secret
}

func (w *world) session(user gid.ID) string {
	w.Helper()
	link, err := w.svc.CreateLink(w.ctx, w.tenant, user, identity.MinLinkTTL)
	require.NoError(w, err)
	c, err := w.svc.RedeemLink(w.ctx, link.Secret, "r-1")
	require.NoError(w, err)
	return c.Secret
}

func (w *world) mayEnter(secret string) *actor.Actor {
	w.Helper()
	a, err := w.svc.Authenticate(w.ctx, secret)
	require.NoError(w, err)
	return a
}

func (w *world) isOut(secret string) {
	w.Helper()
	a, err := w.svc.Authenticate(w.ctx, secret)
	require.ErrorIs(w, err, identity.ErrUnauthenticated)
	require.Nil(w, a)
}

func TestATokenSaysWhoActs(t *testing.T) {
	each(t, func(w *world) {
		support := must(w.svc.EnsureTeam(w.ctx, w.tenant, "Support"))
		sales := must(w.svc.EnsureTeam(w.ctx, w.tenant, "Sales"))
		require.NoError(w, w.svc.AddToTeam(w.ctx, w.tenant, w.agent, support))
		c, err := w.svc.CreateToken(w.ctx, w.tenant, w.agent, time.Hour)
		require.NoError(w, err)
		require.Regexp(w, `^lethe_[A-Za-z0-9_-]{43}$`, c.Secret)

		w.mayEnter(c.Secret) // stamps
		var a *actor.Actor
		require.Equal(w, 1, w.sent(func() { a = w.mayEnter(c.Secret) }), "statements")
		require.Equal(w, &actor.Actor{
			Kind: actor.Token, Tenant: w.tenant, TenantName: "acme", User: w.agent, Credential: c.ID,
			Teams: []gid.ID{sales, support},
		}, a, "teams are oldest first")
	})
}

func TestAUserWithoutATeamComesIn(t *testing.T) {
	each(t, func(w *world) {
		loner := must(w.svc.CreateUser(w.ctx, w.tenant, "loner@acme.example", "Lo", nil))
		require.Empty(w, w.mayEnter(w.token(loner)).Teams)
	})
}

func TestSecretsAreNotInTheDatabase(t *testing.T) {
	each(t, func(w *world) {
		secret := w.token(w.agent)
		var stored []byte
		_, err := store.Build(w.db).Add("SELECT hash FROM api_tokens").One(w.ctx, w.db, &stored)
		require.NoError(w, err)
		require.Len(w, stored, 32)
		require.NotContains(w, string(stored), strings.TrimPrefix(secret, "lethe_"))
		for _, e := range w.events() {
			require.NotContains(w, e.detail, secret)
		}
	})
}

func TestATokenExpires(t *testing.T) {
	each(t, func(w *world) {
		secret := w.token(w.agent)
		w.clock.add(time.Hour - time.Second)
		w.mayEnter(secret)
		w.clock.add(time.Second)
		w.isOut(secret)
	})
}

func TestARevokedTokenIsOutAtTheNextRequest(t *testing.T) {
	each(t, func(w *world) {
		secret := w.token(w.agent)
		id := w.mayEnter(secret).Credential
		require.NoError(w, w.svc.RevokeToken(w.ctx, w.tenant, id))
		w.isOut(secret)
		before := len(w.events())
		require.NoError(w, w.svc.RevokeToken(w.ctx, w.tenant, id), "again")
		require.Len(w, w.events(), before)

		other := must(w.svc.CreateTenant(w.ctx, "other"))
		require.ErrorIs(w, w.svc.RevokeToken(w.ctx, other, id), identity.ErrNotFound)
	})
}

func TestWhatIsNoCredentialIsOut(t *testing.T) {
	each(t, func(w *world) {
		link := must(w.svc.CreateLink(w.ctx, w.tenant, w.agent, time.Hour))
		good := w.token(w.agent)
		for _, secret := range []string{"", "lethe_", "nonsense", link.Secret, good[:len(good)-1], good + "A", strings.ToUpper(good), "lethe_\x00\xff"} {
			w.isOut(secret)
		}
	})
}

func TestTokensAndLinksHoldForABoundedTime(t *testing.T) {
	each(t, func(w *world) {
		for _, ttl := range []time.Duration{-time.Hour, 0, identity.MaxTokenTTL + 1} {
			_, err := w.svc.CreateToken(w.ctx, w.tenant, w.agent, ttl)
			require.ErrorIs(w, err, identity.ErrInvalid)
		}
		for _, ttl := range []time.Duration{0, identity.MinLinkTTL - 1, identity.MaxLinkTTL + 1} {
			_, err := w.svc.CreateLink(w.ctx, w.tenant, w.agent, ttl)
			require.ErrorIs(w, err, identity.ErrInvalid)
		}
	})
}

func TestALinkSignsInOnce(t *testing.T) {
	each(t, func(w *world) {
		link := must(w.svc.CreateLink(w.ctx, w.tenant, w.agent, time.Hour))
		session, err := w.svc.RedeemLink(w.ctx, link.Secret, "r-7")
		require.NoError(w, err)
		a := w.mayEnter(session.Secret)
		require.Equal(w, actor.User, a.Kind)
		require.Equal(w, session.ID, a.Credential)
		require.Equal(w, event{"SIGN_IN", w.agent.String(), w.last().detail}, w.last())

		_, err = w.svc.RedeemLink(w.ctx, link.Secret, "r-8")
		require.ErrorIs(w, err, identity.ErrUnauthenticated)
		_, err = w.svc.RedeemLink(w.ctx, w.token(w.agent), "r-9")
		require.ErrorIs(w, err, identity.ErrUnauthenticated, "a token is no link")
	})
}

func TestOfManyRedeemersOneWins(t *testing.T) {
	each(t, func(w *world) {
		link := must(w.svc.CreateLink(w.ctx, w.tenant, w.agent, time.Hour))
		errs := make(chan error, 8)
		for range cap(errs) {
			go func() {
				_, err := w.svc.RedeemLink(w.ctx, link.Secret, "")
				errs <- err
			}()
		}
		won := 0
		for range cap(errs) {
			if err := <-errs; err == nil {
				won++
			} else {
				require.ErrorIs(w, err, identity.ErrUnauthenticated)
			}
		}
		require.Equal(w, 1, won)
		var sessions int
		_, err := store.Build(w.db).Add("SELECT count(*) FROM sessions").One(w.ctx, w.db, &sessions)
		require.NoError(w, err)
		require.Equal(w, 1, sessions)
	})
}

func TestALinkExpires(t *testing.T) {
	each(t, func(w *world) {
		link := must(w.svc.CreateLink(w.ctx, w.tenant, w.agent, identity.MinLinkTTL))
		w.clock.add(identity.MinLinkTTL)
		_, err := w.svc.RedeemLink(w.ctx, link.Secret, "")
		require.ErrorIs(w, err, identity.ErrUnauthenticated)
	})
}

func TestASessionEndsAfterAWeekOfNothing(t *testing.T) {
	each(t, func(w *world) {
		secret := w.session(w.agent)
		w.clock.add(identity.SessionIdle - time.Second)
		w.mayEnter(secret)
		w.clock.add(identity.SessionIdle - time.Second)
		w.mayEnter(secret)
		w.clock.add(identity.SessionIdle)
		w.isOut(secret)
	})
}

func TestASessionEndsAfterAMonthHoweverBusy(t *testing.T) {
	each(t, func(w *world) {
		secret := w.session(w.agent)
		for range 29 {
			w.clock.add(24 * time.Hour)
			w.mayEnter(secret)
		}
		w.clock.add(24 * time.Hour)
		w.isOut(secret)
	})
}

func TestUseIsStampedAtMostOnceAMinute(t *testing.T) {
	each(t, func(w *world) {
		secret := w.session(w.agent)
		request := func() { w.mayEnter(secret) }
		require.Equal(w, 3, w.sent(request), "the first stamps the session and the user")
		w.clock.add(59 * time.Second)
		require.Equal(w, 1, w.sent(request), "within the minute")
		w.clock.add(time.Second)
		require.Equal(w, 3, w.sent(request), "a minute later")
		other := w.token(w.agent)
		require.Equal(w, 2, w.sent(func() { w.mayEnter(other) }), "the user was seen already")
	})
}

func TestAUserIsSeenByWhateverHeComesInWith(t *testing.T) {
	each(t, func(w *world) {
		seen := func() *time.Time {
			var at sql.NullTime
			ok, err := store.Build(w.db).Add("SELECT last_seen_at FROM users WHERE id = ?", w.agent).One(w.ctx, w.db, &at)
			require.NoError(w, err)
			require.True(w, ok)
			if !at.Valid {
				return nil
			}
			at.Time = at.Time.UTC()
			return &at.Time
		}
		token, session := w.token(w.agent), w.session(w.agent)
		require.Nil(w, seen(), "what he could come in with is not coming in")
		for _, comesIn := range []func(){
			func() { w.mayEnter(token) },
			func() { w.mayEnter(session) },
			func() {
				_, err := w.svc.Named(w.ctx, "acme", identity.ByEmail, "agent@acme.example")
				require.NoError(w, err)
			},
		} {
			w.clock.add(time.Minute)
			first := w.clock.now()
			comesIn()
			require.Equal(w, first, *seen())
			w.clock.add(59 * time.Second)
			comesIn()
			require.Equal(w, first, *seen(), "to the minute")
		}
	})
}

func TestSigningOutEndsTheSession(t *testing.T) {
	each(t, func(w *world) {
		secret, other := w.session(w.agent), w.session(w.agent)
		a := w.mayEnter(secret)
		require.NoError(w, w.svc.RevokeSession(actor.With(w.ctx, a), w.tenant, a.Credential))
		w.isOut(secret)
		w.mayEnter(other)
		require.Equal(w, event{"SIGN_OUT", w.agent.String(), w.last().detail}, w.last())
	})
}

func TestADeactivatedUserIsOutAtTheNextRequest(t *testing.T) {
	each(t, func(w *world) {
		token, session := w.token(w.agent), w.session(w.agent)
		link := must(w.svc.CreateLink(w.ctx, w.tenant, w.agent, time.Hour))
		w.mayEnter(token)
		w.mayEnter(session)
		require.NoError(w, w.svc.DeactivateUser(w.ctx, w.tenant, w.agent))
		require.Equal(w, "USER_DEACTIVATE", w.last().action)
		w.isOut(token)
		w.isOut(session)
		_, err := w.svc.RedeemLink(w.ctx, link.Secret, "")
		require.ErrorIs(w, err, identity.ErrUnauthenticated)
		_, err = w.svc.CreateToken(w.ctx, w.tenant, w.agent, time.Hour)
		require.ErrorIs(w, err, identity.ErrInactive)

		require.NoError(w, w.svc.ActivateUser(w.ctx, w.tenant, w.agent))
		w.isOut(token)
		w.isOut(session)
		w.mayEnter(w.token(w.agent))
	})
}

func TestCredentialsOfADeactivatedUserAreNoneEvenUnrevoked(t *testing.T) {
	each(t, func(w *world) {
		token, session := w.token(w.agent), w.session(w.agent)
		_, err := store.Build(w.db).Add("UPDATE users SET active = ? WHERE id = ?", false, w.agent).Exec(w.ctx, w.db)
		require.NoError(w, err)
		w.isOut(token)
		w.isOut(session)
	})
}

func TestTheLastAdminIsKept(t *testing.T) {
	each(t, func(w *world) {
		require.ErrorIs(w, w.svc.DeactivateUser(w.ctx, w.tenant, w.admin), identity.ErrLockout)
		require.ErrorIs(w, w.svc.RevokeRole(w.ctx, w.tenant, w.admin, casbin.Admin), identity.ErrLockout)
		w.mayEnter(w.token(w.admin))

		require.NoError(w, w.svc.GrantRole(w.ctx, w.tenant, w.agent, casbin.Admin))
		require.NoError(w, w.svc.DeactivateUser(w.ctx, w.tenant, w.agent))
		require.ErrorIs(w, w.svc.DeactivateUser(w.ctx, w.tenant, w.admin), identity.ErrLockout, "the other admin is deactivated")
		require.NoError(w, w.svc.ActivateUser(w.ctx, w.tenant, w.agent))
		require.NoError(w, w.svc.RevokeRole(w.ctx, w.tenant, w.admin, casbin.Admin))
		require.NoError(w, w.svc.DeactivateUser(w.ctx, w.tenant, w.admin))
		require.ErrorIs(w, w.svc.RevokeRole(w.ctx, w.tenant, w.agent, casbin.Admin), identity.ErrLockout)
	})
}

func TestOfTwoAdminsWhoDeactivateEachOtherOneStays(t *testing.T) {
	each(t, func(w *world) {
		require.NoError(w, w.svc.GrantRole(w.ctx, w.tenant, w.agent, casbin.Admin))
		errs := make(chan error, 2)
		for _, user := range []gid.ID{w.admin, w.agent} {
			go func() { errs <- w.svc.DeactivateUser(w.ctx, w.tenant, user) }()
		}
		one, two := <-errs, <-errs
		if one == nil {
			one, two = two, one
		}
		require.ErrorIs(w, one, identity.ErrLockout)
		require.NoError(w, two)
	})
}

func TestATenantWithoutAnAdminCanStillBeWeeded(t *testing.T) {
	each(t, func(w *world) {
		other := must(w.svc.CreateTenant(w.ctx, "other"))
		user := must(w.svc.CreateUser(w.ctx, other, "x@acme.example", "X", nil))
		require.NoError(w, w.svc.GrantRole(w.ctx, other, user, casbin.Viewer))
		require.NoError(w, w.svc.RevokeRole(w.ctx, other, user, casbin.Viewer))
		require.NoError(w, w.svc.DeactivateUser(w.ctx, other, user))
	})
}

func TestAGrantReachesDecisionsWithTheNextRefresh(t *testing.T) {
	each(t, func(w *world) {
		source := identity.PolicySource{DB: w.db}
		control, err := access.New(source, nil)
		require.NoError(w, err)
		head := func() uint64 { return must(source.Head(w.ctx, w.tenant.String())) }
		start := head()
		a := w.mayEnter(w.token(w.agent))
		purge := access.Question{Action: authz.Purge, Type: "Customer"}
		require.False(w, control.May(w.ctx, a, purge))

		require.NoError(w, w.svc.GrantRole(w.ctx, w.tenant, w.agent, casbin.Purger))
		require.Equal(w, start+1, head())
		require.Equal(w, "ROLE_GRANT", w.last().action)
		require.Empty(w, w.last().actor, "the operator acts as the system")
		require.JSONEq(w, `{"user":"`+w.agent.String()+`","role":"purger"}`, w.last().detail)
		require.NoError(w, control.Refresh(w.ctx, w.tenant))
		require.True(w, control.May(w.ctx, a, purge))

		before := len(w.events())
		require.NoError(w, w.svc.GrantRole(w.ctx, w.tenant, w.agent, casbin.Purger), "again")
		require.Equal(w, start+1, head())
		require.Len(w, w.events(), before)

		require.NoError(w, w.svc.RevokeRole(w.ctx, w.tenant, w.agent, casbin.Purger))
		require.Equal(w, start+2, head())
		require.Equal(w, "ROLE_REVOKE", w.last().action)
		require.NoError(w, control.Refresh(w.ctx, w.tenant))
		require.False(w, control.May(w.ctx, a, purge))
		require.NoError(w, w.svc.RevokeRole(w.ctx, w.tenant, w.agent, casbin.Purger), "again")
		require.Equal(w, start+2, head())
	})
}

func TestGrantsAtTheSameTimeAreAllKept(t *testing.T) {
	each(t, func(w *world) {
		roles := []string{casbin.Viewer, casbin.Manager, casbin.Compliance, casbin.Purger}
		errs := make(chan error, len(roles))
		for _, role := range roles {
			go func() { errs <- w.svc.GrantRole(w.ctx, w.tenant, w.agent, role) }()
		}
		for range roles {
			require.NoError(w, <-errs)
		}
		version, rules, err := identity.PolicySource{DB: w.db}.Load(w.ctx, w.tenant.String())
		require.NoError(w, err)
		require.EqualValues(w, 7, version)
		for _, role := range roles {
			require.Contains(w, rules, casbin.Grant(casbin.UserSubject(w.agent.String()), casbin.RoleSubject(role), w.tenant.String()))
		}
	})
}

func TestANewTenantHasTheDefaultPolicyInItsOrder(t *testing.T) {
	each(t, func(w *world) {
		tenant := must(w.svc.CreateTenant(w.ctx, "other"))
		source := identity.PolicySource{DB: w.db}
		version, rules, err := source.Load(w.ctx, tenant.String())
		require.NoError(w, err)
		require.EqualValues(w, 1, version)
		require.Equal(w, casbin.DefaultRules(tenant.String()), rules)

		version, rules, err = source.Load(w.ctx, gid.New(gid.Tenant).String())
		require.NoError(w, err)
		require.Zero(w, version)
		require.Empty(w, rules)
		_, err = source.Head(w.ctx, w.agent.String())
		require.Error(w, err, "a user is no tenant")
	})
}

func TestWhatCannotBeGranted(t *testing.T) {
	each(t, func(w *world) {
		other := must(w.svc.CreateTenant(w.ctx, "other"))
		stranger := must(w.svc.CreateUser(w.ctx, other, "stranger@acme.example", "S", nil))
		for name, grant := range map[string]func() error{
			"a role without a rule":    func() error { return w.svc.GrantRole(w.ctx, w.tenant, w.agent, "emperor") },
			"a role named like no":     func() error { return w.svc.GrantRole(w.ctx, w.tenant, w.agent, "") },
			"another tenant's user":    func() error { return w.svc.GrantRole(w.ctx, w.tenant, stranger, casbin.Admin) },
			"nobody":                   func() error { return w.svc.GrantRole(w.ctx, w.tenant, gid.New(gid.User), casbin.Admin) },
			"the system":               func() error { return w.svc.GrantRole(w.ctx, w.tenant, gid.Nil, casbin.Admin) },
			"an unknown role's taking": func() error { return w.svc.RevokeRole(w.ctx, w.tenant, w.agent, "emperor") },
			"in a tenant not there":    func() error { return w.svc.GrantRole(w.ctx, gid.New(gid.Tenant), w.agent, casbin.Admin) },
		} {
			before := len(w.events())
			require.Error(w, grant(), name)
			require.Len(w, w.events(), before, name)
		}
		// The operator's hand-made row: the whole policy permits nothing, so
		// nothing is added to it either.
		_, err := store.Build(w.db).Add("UPDATE policy_rules SET v4 = 'Allow' WHERE tenant_id = ? AND position = 0", w.tenant).Exec(w.ctx, w.db)
		require.NoError(w, err)
		require.ErrorIs(w, w.svc.GrantRole(w.ctx, w.tenant, w.agent, casbin.Purger), identity.ErrInvalid)
	})
}

func TestNamesAndAddressesAreCheckedAndUnique(t *testing.T) {
	each(t, func(w *world) {
		for _, email := range []string{"", "system", "user:system", "A <a@b.example>", "a@b.example ", "a@@b", strings.Repeat("a", 250) + "@b.example", "a\n@b.example"} {
			_, err := w.svc.CreateUser(w.ctx, w.tenant, email, "X", nil)
			require.ErrorIs(w, err, identity.ErrInvalid, email)
		}
		for _, name := range []string{"", " x", "x\x00", "x\xff", strings.Repeat("я", 65)} {
			_, err := w.svc.CreateTenant(w.ctx, name)
			require.ErrorIs(w, err, identity.ErrInvalid, name)
			_, err = w.svc.EnsureTeam(w.ctx, w.tenant, name)
			require.ErrorIs(w, err, identity.ErrInvalid, name)
			_, err = w.svc.CreateUser(w.ctx, w.tenant, "x@acme.example", name, nil)
			require.ErrorIs(w, err, identity.ErrInvalid, name)
		}
		_, err := w.svc.CreateTenant(w.ctx, "acme")
		require.ErrorIs(w, err, identity.ErrExists)
		_, err = w.svc.CreateUser(w.ctx, w.tenant, "AGENT@Acme.Example", "X", []string{"New"})
		require.ErrorIs(w, err, identity.ErrExists)
		_, err = w.svc.CreateUser(w.ctx, gid.New(gid.Tenant), "x@acme.example", "X", nil)
		require.ErrorIs(w, err, identity.ErrNotFound)

		found, err := w.svc.UserByEmail(w.ctx, w.tenant, "Agent@ACME.example")
		require.NoError(w, err)
		require.Equal(w, identity.User{ID: w.agent, Tenant: w.tenant, Email: "agent@acme.example", Name: "Alan", Active: true}, found)
		_, err = w.svc.UserByEmail(w.ctx, w.tenant, "nobody@acme.example")
		require.ErrorIs(w, err, identity.ErrNotFound)
		require.Equal(w, w.tenant, must(w.svc.TenantByName(w.ctx, "acme")))
		_, err = w.svc.TenantByName(w.ctx, "nowhere")
		require.ErrorIs(w, err, identity.ErrNotFound)
	})
}

func TestTenantsDoNotShareTeams(t *testing.T) {
	each(t, func(w *world) {
		other := must(w.svc.CreateTenant(w.ctx, "other"))
		theirs := must(w.svc.EnsureTeam(w.ctx, other, "Sales"))
		require.NotEqual(w, theirs, must(w.svc.EnsureTeam(w.ctx, w.tenant, "Sales")))
		require.ErrorIs(w, w.svc.AddToTeam(w.ctx, w.tenant, w.agent, theirs), identity.ErrNotFound)
		require.ErrorIs(w, w.svc.AddToTeam(w.ctx, other, w.agent, theirs), identity.ErrNotFound)
		_, err := w.svc.CreateToken(w.ctx, other, w.agent, time.Hour)
		require.ErrorIs(w, err, identity.ErrNotFound)
	})
}

func TestTheLogNamesIdsAndNoPersons(t *testing.T) {
	each(t, func(w *world) {
		w.session(w.agent)
		w.token(w.agent)
		require.NoError(w, w.svc.DeactivateUser(w.ctx, w.tenant, w.agent))
		var actions []string
		for _, e := range w.events() {
			actions = append(actions, e.action)
			for _, personal := range []string{"@", "Alan", "Ada", "Sales"} {
				require.NotContains(w, e.detail, personal)
			}
		}
		require.Equal(w, []string{
			"TENANT_CREATE", "USER_CREATE", "TEAM_CREATE", "TEAM_JOIN", "USER_CREATE", "TEAM_JOIN", "ROLE_GRANT", "ROLE_GRANT",
			"LINK_CREATE", "SIGN_IN", "TOKEN_CREATE", "USER_DEACTIVATE",
		}, actions)
	})
}

// empty runs a test on both databases, on what is not set up yet.
func empty(t *testing.T, test func(t *testing.T, db *store.DB, svc *identity.Service)) {
	t.Helper()
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		test(t, db, identity.New(db, audit.New(newKeys(t, 'k')), slog.New(slog.DiscardHandler)))
	})
}

func TestAnEmptyDatabaseGetsATenantWithAnAdmin(t *testing.T) {
	empty(t, func(t *testing.T, db *store.DB, svc *identity.Service) {
		link, err := svc.Bootstrap(t.Context())
		require.NoError(t, err)
		session, err := svc.RedeemLink(t.Context(), link.Secret, "")
		require.NoError(t, err)
		a, err := svc.Authenticate(t.Context(), session.Secret)
		require.NoError(t, err)
		require.Equal(t, identity.DefaultTenant, a.TenantName)
		require.Len(t, a.Teams, 1)
		control, err := access.New(identity.PolicySource{DB: db}, nil)
		require.NoError(t, err)
		require.True(t, control.May(t.Context(), a, access.Question{Action: authz.PolicyEdit, Type: "Policy"}))

		again, err := svc.Bootstrap(t.Context())
		require.NoError(t, err)
		require.Empty(t, again.Secret)
	})
}

func TestReplicasThatStartTogetherSetUpOnce(t *testing.T) {
	empty(t, func(t *testing.T, _ *store.DB, svc *identity.Service) {
		links := make(chan identity.Credential, 4)
		errs := make(chan error, cap(links))
		for range cap(links) {
			go func() {
				link, err := svc.Bootstrap(t.Context())
				links <- link
				errs <- err
			}()
		}
		var secrets []string
		for range cap(links) {
			require.NoError(t, <-errs)
			secrets = append(secrets, (<-links).Secret)
		}
		require.Len(t, slices.DeleteFunc(secrets, func(s string) bool { return s == "" }), 1)
	})
}

func TestADatabaseOfAnotherKeyIsRefused(t *testing.T) {
	empty(t, func(t *testing.T, db *store.DB, _ *identity.Service) {
		has, err := identity.HasKey(t.Context(), db)
		require.NoError(t, err)
		require.False(t, has)
		require.NoError(t, identity.CheckKey(t.Context(), db, newKeys(t, 'k')))
		require.NoError(t, identity.CheckKey(t.Context(), db, newKeys(t, 'k')))
		require.ErrorIs(t, identity.CheckKey(t.Context(), db, newKeys(t, 'x')), identity.ErrWrongKey)
		has, err = identity.HasKey(t.Context(), db)
		require.NoError(t, err)
		require.True(t, has)
	})
}

func TestTheOperatorActsAsActiveUsersOnly(t *testing.T) {
	each(t, func(w *world) {
		a, err := w.svc.ActAs(w.ctx, w.tenant, w.agent, "r-1")
		require.NoError(w, err)
		sales := must(w.svc.EnsureTeam(w.ctx, w.tenant, "Sales"))
		require.Equal(w, &actor.Actor{Kind: actor.User, Tenant: w.tenant, TenantName: "acme", User: w.agent, Teams: []gid.ID{sales}, RequestID: "r-1"}, a)
		require.NoError(w, w.svc.DeactivateUser(w.ctx, w.tenant, w.agent))
		_, err = w.svc.ActAs(w.ctx, w.tenant, w.agent, "r-1")
		require.ErrorIs(w, err, identity.ErrInactive)
		_, err = w.svc.ActAs(w.ctx, gid.New(gid.Tenant), w.admin, "r-1")
		require.Error(w, err)
	})
}
