package authz_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
)

// scribbler writes whatever it can reach, and permits.
type scribbler struct{ always }

func (s scribbler) Decide(ctx context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	for i := range reqs {
		s.scribble(reqs[i])
		reqs[i] = authz.Request{}
	}
	return s.always.Decide(ctx, reqs)
}

func (s scribbler) Plan(ctx context.Context, q authz.Query) (authz.Plan, error) {
	s.scribble(q)
	return s.always.Plan(ctx, q)
}

func (s scribbler) Explain(_ context.Context, r authz.Request) ([]authz.Reason, error) {
	s.scribble(r)
	return nil, nil
}

func (scribbler) scribble(r authz.Request) {
	for _, m := range []map[string]any{r.Subject.Props, r.ActionProps, r.Resource.Props, r.Context} {
		for _, v := range m {
			switch v := v.(type) {
			case []string:
				v[0] = "scribbled"
			case []any:
				v[0].(map[string]any)["name"] = "scribbled"
			}
		}
		if m != nil {
			m["owner"] = "scribbled"
		}
	}
}

// witness denies when it sees that anybody has scribbled, and copies nothing.
type witness struct{ always }

func (witness) ReadOnly() {}

func (witness) Decide(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	ds := make([]authz.Decision, len(reqs))
	for i, r := range reqs {
		ds[i].Effect = authz.Permit
		for _, m := range []map[string]any{r.Subject.Props, r.ActionProps, r.Resource.Props, r.Context} {
			if m["owner"] != "me" || m["teams"].([]string)[0] != "sales" || m["links"].([]any)[0].(map[string]any)["name"] != "a" {
				ds[i].Effect = authz.Deny
			}
		}
	}
	return ds, nil
}

// TestAMemberCannotChangeWhatOthersSee finds a shared map by the race detector, too.
func TestAMemberCannotChangeWhatOthersSee(t *testing.T) {
	t.Parallel()
	props := func() map[string]any {
		return map[string]any{"owner": "me", "teams": []string{"sales"}, "links": []any{map[string]any{"name": "a"}}}
	}
	chain, err := authz.NewChain(nil, member("a", authz.Veto, scribbler{permits}), member("b", authz.Grant, witness{permits}), member("c", authz.Veto, scribbler{permits}))
	require.NoError(t, err)
	subject := props()
	reqs := make([]authz.Request, 50)
	for i := range reqs {
		reqs[i] = authz.Request{Subject: authz.Entity{Props: subject}, ActionProps: subject, Resource: authz.Entity{Props: props()}, Context: props()}
	}
	for range 50 {
		for _, d := range chain.Decide(t.Context(), reqs) {
			require.Equal(t, authz.Permit, d.Effect)
		}
		chain.Plan(t.Context(), reqs[0])
		chain.Explain(t.Context(), reqs[0])
	}
	for _, r := range reqs {
		require.Equal(t, authz.Request{Subject: authz.Entity{Props: props()}, ActionProps: props(), Resource: authz.Entity{Props: props()}, Context: props()}, r)
	}
}

// BenchmarkChain is what a member costs that reads only, and one that does not say so; times are for a batch of 1,000.
func BenchmarkChain(b *testing.B) {
	teams := map[string]any{"teams": []string{"sales", "support"}}
	reqs := make([]authz.Request, 1_000)
	for i := range reqs {
		reqs[i] = authz.Request{Subject: authz.Entity{Props: teams}, Resource: authz.Entity{Props: map[string]any{"owner": "me", "team": "sales", "state": "ACTIVE"}}}
	}
	for name, p := range map[string]authz.Plugin{"reads only": calm{}, "copies": decideFunc(calm{}.Decide)} {
		b.Run(name, func(b *testing.B) {
			chain, err := authz.NewChain(nil, member("a", authz.Grant, p))
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				chain.Decide(b.Context(), reqs)
			}
		})
	}
}

type calm struct{}

func (calm) ReadOnly() {}

func (calm) Decide(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	return make([]authz.Decision, len(reqs)), nil
}
