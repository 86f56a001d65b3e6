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
				good := member("good", authz.Grant, pinned{permits, func(ctx context.Context) (context.Context, error) {
					return context.WithValue(ctx, key("good"), "pinned"), nil
				}})
				chain, err := authz.NewChain(nil, good, bad)
				require.NoError(t, err)
				began := time.Now()
				ctx, err := chain.Pin(t.Context(), "t1")
				require.ErrorContains(t, err, `pin "bad"`)
				require.LessOrEqual(t, time.Since(began), time.Second)
				require.Equal(t, "pinned", ctx.Value(key("good")), "one that fails does not unpin others")
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

func TestAPinIsTheOperationsContextWithWhatMembersAddedToIt(t *testing.T) {
	t.Parallel()
	meddler := func(ctx context.Context) (context.Context, error) {
		ctx, cancel := context.WithCancel(context.WithValue(ctx, key("actor"), "somebody else"))
		cancel()
		return context.WithValue(ctx, key("added"), "value"), nil
	}
	stranger := func(context.Context) (context.Context, error) { return context.Background(), nil }
	chain, err := authz.NewChain(nil, member("a", authz.Grant, pinned{permits, meddler}), member("b", authz.Veto, pinned{permits, stranger}))
	require.NoError(t, err)
	operation, end := context.WithCancel(context.WithValue(t.Context(), key("actor"), "me"))
	ctx, err := chain.Pin(operation, "t1")
	require.NoError(t, err)
	require.NoError(t, ctx.Err())
	_, limited := ctx.Deadline()
	require.False(t, limited)
	require.Equal(t, "me", ctx.Value(key("actor")))
	require.Equal(t, "value", ctx.Value(key("added")))
	require.Nil(t, ctx.Value(key("nothing")))
	again, err := chain.Pin(ctx, "t1")
	require.NoError(t, err)
	require.Equal(t, ctx, again)
	child, cancel := context.WithCancel(ctx)
	defer cancel()
	end()
	<-child.Done()
	require.ErrorIs(t, child.Err(), context.Canceled)
}
