package authz_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
)

// pinned permits and plans everything, and pins as it is told.
type pinned struct {
	always
	pin func(ctx context.Context) (context.Context, error)
}

func (p pinned) Pin(ctx context.Context, _ string) (context.Context, error) { return p.pin(ctx) }

func (pinned) Explain(context.Context, authz.Request) ([]authz.Reason, error) {
	return []authz.Reason{{Code: authz.CodeRulePermit}}, nil
}

type key string

var pins = map[string]func(context.Context) (context.Context, error){
	"error":      func(ctx context.Context) (context.Context, error) { return ctx, errors.New("no policy") },
	"panic":      func(context.Context) (context.Context, error) { panic("at the pin") },
	"no context": func(context.Context) (context.Context, error) { return nil, nil },
	"slow": func(ctx context.Context) (context.Context, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	},
	"hang": func(ctx context.Context) (context.Context, error) {
		time.Sleep(time.Hour) // whatever its context says
		return ctx, nil
	},
}

func TestAMemberThatCannotBePinnedGivesNoAnswerUnderThePin(t *testing.T) {
	t.Parallel()
	for name, pin := range pins {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				bad := authz.Member{Name: "bad", Role: authz.Veto, Plugin: pinned{permits, pin}, Timeout: time.Second}
				goodOne := &pinned{permits, func(ctx context.Context) (context.Context, error) {
					return context.WithValue(ctx, key("good"), "pinned"), nil
				}}
				good := member("good", authz.Grant, goodOne)
				chain, err := authz.NewChain(nil, good, bad)
				require.NoError(t, err)
				began := time.Now()
				ctx, err := chain.Pin(t.Context(), "t1")
				require.ErrorContains(t, err, `pin "bad"`)
				require.LessOrEqual(t, time.Since(began), time.Second)
				require.Equal(t, "pinned", chain.Under(ctx, goodOne).Value(key("good")), "one that fails does not unpin others")
				_, err = chain.Pin(ctx, "t1")
				require.Error(t, err, "it is not forgotten")
				ask := func(ctx context.Context, tenant string) authz.Effect {
					return chain.Decide(ctx, []authz.Request{{Tenant: "t0"}, {Tenant: tenant}})[1].Effect
				}
				require.Equal(t, authz.Deny, ask(ctx, "t1"))
				rows, why := chain.Plan(ctx, authz.Query{Tenant: "t1"})
				require.Equal(t, authz.False{}, rows)
				require.NotEmpty(t, why)
				require.Contains(t, []authz.Code{authz.CodePluginError, authz.CodePluginTimeout}, chain.Explain(ctx, authz.Request{Tenant: "t1"})[1].Code)
				require.Equal(t, authz.Permit, ask(ctx, "t2"), "it failed for one tenant")
				require.Equal(t, authz.Permit, ask(t.Context(), "t1"), "and under one pin")

				chain, err = authz.NewChain(nil, good, skipped(bad))
				require.NoError(t, err)
				ctx, err = chain.Pin(t.Context(), "t1")
				require.NoError(t, err, "it may be skipped")
				require.Equal(t, authz.Permit, ask(ctx, "t1"))
				bad.Role = authz.Shadow
				chain, err = authz.NewChain(nil, good, bad)
				require.NoError(t, err)
				ctx, err = chain.Pin(t.Context(), "t1")
				require.NoError(t, err, "it does not count")
				require.Equal(t, authz.Permit, ask(ctx, "t1"))
				time.Sleep(2 * time.Hour) // for what hangs
			})
		})
	}
}

func TestAPinIsTheOperationsContextAndAMembersHasWhatItAdded(t *testing.T) {
	t.Parallel()
	meddler := func(ctx context.Context) (context.Context, error) {
		ctx, cancel := context.WithCancel(context.WithValue(ctx, key("actor"), "somebody else"))
		cancel()
		return context.WithValue(ctx, key("added"), "value"), nil
	}
	added := &pinned{permits, meddler}
	stranger := func(context.Context) (context.Context, error) { return context.Background(), nil }
	chain, err := authz.NewChain(nil, member("a", authz.Grant, added), member("b", authz.Veto, pinned{permits, stranger}))
	require.NoError(t, err)
	operation, end := context.WithCancel(context.WithValue(t.Context(), key("actor"), "me"))
	ctx, err := chain.Pin(operation, "t1")
	require.NoError(t, err)
	require.NoError(t, ctx.Err())
	_, limited := ctx.Deadline()
	require.False(t, limited)
	require.Equal(t, "me", ctx.Value(key("actor")))
	require.Nil(t, ctx.Value(key("added")))
	own := chain.Under(ctx, added)
	require.NoError(t, own.Err())
	require.Equal(t, "me", own.Value(key("actor")))
	require.Equal(t, "value", own.Value(key("added")))
	require.Nil(t, own.Value(key("nothing")))
	again, err := chain.Pin(ctx, "t1")
	require.NoError(t, err)
	require.Equal(t, ctx, again)
	child, cancel := context.WithCancel(ctx)
	defer cancel()
	end()
	<-child.Done()
	require.ErrorIs(t, child.Err(), context.Canceled)
}

// revision keeps the revision of then in its pin, under a key that all of its kind share, and signs with it.
type revision struct{ now *string }

func newRevision(now string) revision { return revision{&now} }

func (r revision) Pin(ctx context.Context, tenant string) (context.Context, error) {
	if ctx.Value(key("revision of "+tenant)) != nil {
		return ctx, nil
	}
	return context.WithValue(ctx, key("revision of "+tenant), *r.now), nil
}

func (revision) kept(ctx context.Context, tenant string) string {
	v, _ := ctx.Value(key("revision of " + tenant)).(string)
	return v
}

func (r revision) Decide(ctx context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	out := make([]authz.Decision, len(reqs))
	for i, q := range reqs {
		out[i] = authz.Decision{Effect: authz.Permit, Reasons: []authz.Reason{{Rule: r.kept(ctx, q.Tenant)}}}
	}
	return out, nil
}

func (r revision) Plan(ctx context.Context, q authz.Query) (authz.Plan, error) {
	return authz.Plan{Permit: authz.True{}, Reasons: []authz.Reason{{Rule: r.kept(ctx, q.Tenant)}}}, nil
}

func (r revision) Explain(ctx context.Context, q authz.Request) ([]authz.Reason, error) {
	return []authz.Reason{{Rule: r.kept(ctx, q.Tenant)}}, nil
}

func (r revision) Attributes(ctx context.Context, tenant, _ string) ([]string, bool) {
	return []string{r.kept(ctx, tenant)}, true
}

func (r revision) FieldNames(ctx context.Context, tenant, _ string) ([]string, bool) {
	return []string{r.kept(ctx, tenant)}, true
}

func (r revision) Search(ctx context.Context, s authz.Search) ([]authz.Entity, error) {
	return []authz.Entity{{ID: r.kept(ctx, s.Tenant)}}, nil
}

func TestEveryMemberHasAPinOfItsOwn(t *testing.T) {
	t.Parallel()
	a, b := newRevision("a1"), newRevision("b1")
	chain, err := authz.NewChain(nil, member("a", authz.Grant, a), member("b", authz.Grant, b))
	require.NoError(t, err)
	rules := func(reasons []authz.Reason) (out []string) {
		for _, r := range reasons {
			out = append(out, r.Rule)
		}
		return out
	}
	requireAll := func(ctx context.Context, tenant string, want ...string) {
		t.Helper()
		q := authz.Request{Tenant: tenant}
		require.Equal(t, want, rules(chain.Decide(ctx, []authz.Request{q})[0].Reasons))
		_, why := chain.Plan(ctx, q)
		require.Equal(t, want, rules(why))
		require.Equal(t, want, rules(chain.Explain(ctx, q)))
		names, all := chain.Attributes(ctx, tenant, "deal")
		require.False(t, all)
		require.Equal(t, want, names)
		require.Equal(t, want, chain.Fields(ctx, tenant, "deal", []string{"a1", "a2", "b1", "b2"}))
		found, err := chain.Search(ctx, authz.Search{Tenant: tenant, Limit: 9})
		require.NoError(t, err)
		require.Equal(t, []authz.Entity{{ID: want[0]}, {ID: want[1]}}, found)
	}
	ctx, err := chain.Pin(t.Context(), "t1")
	require.NoError(t, err)
	*a.now, *b.now = "a2", "b2"
	requireAll(ctx, "t1", "a1", "b1")
	both, err := chain.Pin(ctx, "t2")
	require.NoError(t, err)
	requireAll(both, "t1", "a1", "b1")
	requireAll(both, "t2", "a2", "b2")

	// A pin of now replaces that of every member, and of one tenant.
	*a.now, *b.now = "a3", "b3"
	again, err := chain.Repin(both, "t2")
	require.NoError(t, err)
	*a.now, *b.now = "a4", "b4"
	kept, err := chain.Pin(again, "t2")
	require.NoError(t, err)
	for _, ctx := range []context.Context{again, kept} {
		require.Equal(t, []string{"a3", "b3"}, rules(chain.Decide(ctx, []authz.Request{{Tenant: "t2"}})[0].Reasons))
		requireAll(ctx, "t1", "a1", "b1")
	}
	requireAll(both, "t2", "a2", "b2")
}
