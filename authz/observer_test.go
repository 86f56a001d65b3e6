package authz_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
)

// calls are those that were observed.
type calls struct {
	mu  sync.Mutex
	all []authz.Call
}

func (c *calls) add(_ context.Context, call authz.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, call)
}

func (c *calls) of(member string, method authz.Method) []authz.Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.all), func(call authz.Call) bool { return call.Member != member || call.Method != method })
}

func (c *calls) failures(member string, method authz.Method) []authz.Failure {
	var out []authz.Failure
	for _, call := range c.of(member, method) {
		out = append(out, call.Failure)
	}
	return out
}

func TestEveryCallOfAMemberIsObserved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mixed := decideFunc(func(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
			time.Sleep(time.Second)
			ds := make([]authz.Decision, len(reqs))
			ds[1].Effect, ds[2].Effect, ds[3].Effect, ds[4].Effect = authz.Permit, authz.Deny, authz.Deny, 77
			return ds, nil
		})
		chain, err := authz.NewChain(nil, member("mixed", authz.Grant, mixed), member("calm", authz.Veto, pinned{silent, func(ctx context.Context) (context.Context, error) { return ctx, nil }}))
		require.NoError(t, err)
		seen := &calls{}
		chain.Observe(seen.add)
		ctx, err := chain.Pin(t.Context(), "t1")
		require.NoError(t, err)
		chain.Decide(ctx, make([]authz.Request, 5))
		chain.Plan(ctx, authz.Query{})
		chain.Explain(ctx, authz.Request{})
		decided := authz.Call{Member: "mixed", Method: authz.MethodDecide, Requests: 5, Duration: time.Second}
		decided.Effects = [4]int{authz.NotApplicable: 1, authz.Permit: 1, authz.Deny: 2, authz.Indeterminate: 1}
		require.Equal(t, []authz.Call{decided}, seen.of("mixed", authz.MethodDecide))
		quiet := authz.Call{Member: "calm", Method: authz.MethodDecide, Requests: 5, Effects: [4]int{authz.NotApplicable: 5}}
		require.Equal(t, []authz.Call{quiet}, seen.of("calm", authz.MethodDecide))
		for method, requests := range map[authz.Method]int{authz.MethodPin: 0, authz.MethodPlan: 1, authz.MethodExplain: 1} {
			require.Equal(t, []authz.Call{{Member: "calm", Method: method, Requests: requests}}, seen.of("calm", method))
			require.Empty(t, seen.of("mixed", method), "it cannot do that, and is not called")
		}
	})
}

func TestFailuresAreObservedByTheirKind(t *testing.T) {
	t.Parallel()
	for want, decide := range map[authz.Failure]decideFunc{
		"": func(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
			return make([]authz.Decision, len(reqs)), nil
		},
		authz.FailureError: func(context.Context, []authz.Request) ([]authz.Decision, error) { return nil, errors.New("no") },
		authz.FailurePanic: func(context.Context, []authz.Request) ([]authz.Decision, error) { panic("no") },
		authz.FailureTimeout: func(ctx context.Context, _ []authz.Request) ([]authz.Decision, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	} {
		chain, err := authz.NewChain(nil, authz.Member{Name: "a", Role: authz.Grant, Plugin: decide, Timeout: 10 * time.Millisecond})
		require.NoError(t, err)
		seen := &calls{}
		chain.Observe(seen.add)
		chain.Decide(t.Context(), make([]authz.Request, 3))
		require.Equal(t, []authz.Failure{want}, seen.failures("a", authz.MethodDecide))
		if want != "" {
			require.Equal(t, 3, seen.all[0].Effects[authz.Indeterminate], "no answer is no decision")
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	chain, err := authz.NewChain(nil, member("a", authz.Grant, pinned{silent, pins["error"]}))
	require.NoError(t, err)
	seen := &calls{}
	chain.Observe(seen.add)
	ctx, err := chain.Pin(t.Context(), "")
	require.Error(t, err)
	chain.Plan(ctx, authz.Query{})
	require.Equal(t, []authz.Failure{authz.FailurePin}, seen.failures("a", authz.MethodPlan))
	chain, err = authz.NewChain(nil, member("a", authz.Grant, decideFunc(func(ctx context.Context, _ []authz.Request) ([]authz.Decision, error) {
		return nil, ctx.Err()
	})))
	require.NoError(t, err)
	chain.Observe(seen.add)
	chain.Decide(gone, make([]authz.Request, 1))
	require.Equal(t, []authz.Failure{authz.FailureCanceled}, seen.failures("a", authz.MethodDecide))
}
