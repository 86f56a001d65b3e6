package authz_test

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
)

type decideFunc func(context.Context, []authz.Request) ([]authz.Decision, error)

func (f decideFunc) Decide(ctx context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	return f(ctx, reqs)
}

// always plans as it decides.
type always authz.Effect

func (a always) Decide(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	out := make([]authz.Decision, len(reqs))
	for i := range out {
		out[i] = authz.Decision{Effect: authz.Effect(a), Reasons: []authz.Reason{{Code: authz.Code(authz.Effect(a).String())}}}
	}
	return out, nil
}

func (a always) Plan(context.Context, authz.Query) (authz.Plan, error) {
	switch authz.Effect(a) {
	case authz.Permit:
		return authz.Plan{Permit: authz.True{}}, nil
	case authz.Deny:
		return authz.Plan{Deny: authz.True{}}, nil
	case authz.Indeterminate:
		return authz.Plan{}, errors.New("no idea")
	}
	return authz.Plan{}, nil
}

const (
	silent  = always(authz.NotApplicable)
	permits = always(authz.Permit)
	denies  = always(authz.Deny)
	unsure  = always(authz.Indeterminate)
)

func member(name string, role authz.Role, p authz.Plugin) authz.Member {
	return authz.Member{Name: name, Role: role, Plugin: p}
}

func skipped(m authz.Member) authz.Member {
	m.OnError, m.NoPlan = authz.FallbackSkip, authz.FallbackSkip
	return m
}

func TestTheCombiningRule(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		members []authz.Member
		permit  bool
	}{
		"a grant permits":                       {[]authz.Member{member("a", authz.Grant, permits)}, true},
		"nobody speaks":                         {[]authz.Member{member("a", authz.Grant, silent)}, false},
		"a grant denies":                        {[]authz.Member{member("a", authz.Grant, permits), member("b", authz.Grant, denies)}, false},
		"a veto denies":                         {[]authz.Member{member("a", authz.Veto, denies), member("b", authz.Grant, permits)}, false},
		"a veto cannot permit":                  {[]authz.Member{member("a", authz.Veto, permits), member("b", authz.Grant, silent)}, false},
		"a shadow cannot deny":                  {[]authz.Member{member("a", authz.Shadow, denies), member("b", authz.Grant, permits)}, true},
		"a shadow cannot permit":                {[]authz.Member{member("a", authz.Shadow, permits), member("b", authz.Grant, silent)}, false},
		"an unsure veto denies":                 {[]authz.Member{member("a", authz.Veto, unsure), member("b", authz.Grant, permits)}, false},
		"an unsure member may be skipped":       {[]authz.Member{skipped(member("a", authz.Veto, unsure)), member("b", authz.Grant, permits)}, true},
		"being skipped is not to permit":        {[]authz.Member{skipped(member("a", authz.Grant, unsure))}, false},
		"a Deny of a skippable member counts":   {[]authz.Member{skipped(member("a", authz.Veto, denies)), member("b", authz.Grant, permits)}, false},
		"one granting member is enough":         {[]authz.Member{member("a", authz.Grant, silent), member("b", authz.Grant, permits)}, true},
		"a role left out of the member is veto": {[]authz.Member{{Name: "a", Plugin: permits}, member("b", authz.Grant, silent)}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chain, err := authz.NewChain(nil, c.members...)
			require.NoError(t, err)
			want := authz.Deny
			if c.permit {
				want = authz.Permit
			}
			for _, d := range chain.Decide(t.Context(), make([]authz.Request, 3)) {
				require.Equal(t, want, d.Effect)
				require.NotEmpty(t, d.Reasons)
			}
			rows, _ := chain.Plan(t.Context(), authz.Query{})
			require.Equal(t, c.permit, authz.Match(rows, nil), "rows must agree with decisions")
		})
	}
}

func TestAPluginThatMisbehavesDenies(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	plugins := map[string]struct {
		decide decideFunc
		code   authz.Code
	}{
		"error": {func(context.Context, []authz.Request) ([]authz.Decision, error) {
			return []authz.Decision{{Effect: authz.Permit}, {Effect: authz.Permit}}, errors.New("but")
		}, authz.CodePluginError},
		"panic": {func(context.Context, []authz.Request) ([]authz.Decision, error) {
			panic("at the disco")
		}, authz.CodePluginError},
		"goexit": {func(context.Context, []authz.Request) ([]authz.Decision, error) {
			runtime.Goexit()
			return nil, nil
		}, authz.CodePluginError},
		"too few": {func(context.Context, []authz.Request) ([]authz.Decision, error) {
			return []authz.Decision{{Effect: authz.Permit}}, nil
		}, authz.CodePluginError},
		"too many": {func(context.Context, []authz.Request) ([]authz.Decision, error) {
			return make([]authz.Decision, 3), nil
		}, authz.CodePluginError},
		"none": {func(context.Context, []authz.Request) ([]authz.Decision, error) {
			return nil, nil
		}, authz.CodePluginError},
		"hang": {func(context.Context, []authz.Request) ([]authz.Decision, error) {
			<-release // whatever its context says
			return nil, nil
		}, authz.CodePluginTimeout},
		"slow": {func(ctx context.Context, _ []authz.Request) ([]authz.Decision, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, authz.CodePluginTimeout},
		"unknown effect": {func(context.Context, []authz.Request) ([]authz.Decision, error) {
			why := []authz.Reason{{Code: "odd"}}
			return []authz.Decision{{Effect: 7, Reasons: why}, {Effect: 255, Reasons: why}}, nil
		}, "odd"},
	}
	for name, p := range plugins {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := authz.Member{Name: "bad", Role: authz.Veto, Plugin: p.decide, Timeout: 20 * time.Millisecond}
			chain, err := authz.NewChain(nil, member("good", authz.Grant, permits), bad)
			require.NoError(t, err)
			for _, d := range chain.Decide(t.Context(), make([]authz.Request, 2)) {
				require.Equal(t, authz.Deny, d.Effect)
				require.Equal(t, p.code, d.Reasons[0].Code)
			}
			chain, err = authz.NewChain(nil, member("good", authz.Grant, permits), skipped(bad))
			require.NoError(t, err)
			for _, d := range chain.Decide(t.Context(), make([]authz.Request, 2)) {
				require.Equal(t, authz.Permit, d.Effect)
			}
		})
	}
}

type planFunc func(context.Context, authz.Query) (authz.Plan, error)

func (planFunc) Decide(context.Context, []authz.Request) ([]authz.Decision, error) { return nil, nil }

func (f planFunc) Plan(ctx context.Context, q authz.Query) (authz.Plan, error) { return f(ctx, q) }

func TestAPlanThatCannotBeUsedMatchesNoRow(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	plans := map[string]authz.Plugin{
		"cannot plan": decideFunc(nil),
		"panic":       planFunc(func(context.Context, authz.Query) (authz.Plan, error) { panic("no") }),
		"hang": planFunc(func(context.Context, authz.Query) (authz.Plan, error) {
			<-release
			return authz.Plan{}, nil
		}),
		"hole": planFunc(func(context.Context, authz.Query) (authz.Plan, error) {
			return authz.Plan{Permit: authz.Not{}}, nil
		}),
		"unknown comparison": planFunc(func(context.Context, authz.Query) (authz.Plan, error) {
			return authz.Plan{Permit: authz.Not{Of: authz.Cmp{Op: "~"}}}, nil
		}),
	}
	for name, p := range plans {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := authz.Member{Name: "bad", Role: authz.Veto, Plugin: p, Timeout: 20 * time.Millisecond}
			chain, err := authz.NewChain(nil, member("good", authz.Grant, permits), bad)
			require.NoError(t, err)
			rows, why := chain.Plan(t.Context(), authz.Query{})
			require.Equal(t, authz.False{}, rows)
			require.NotEmpty(t, why)
			chain, err = authz.NewChain(nil, member("good", authz.Grant, permits), skipped(bad))
			require.NoError(t, err)
			rows, _ = chain.Plan(t.Context(), authz.Query{})
			require.Equal(t, authz.True{}, rows)
		})
	}
}

func TestAChainThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	for name, members := range map[string][]authz.Member{
		"empty":          nil,
		"only vetoes":    {member("a", authz.Veto, permits), member("b", authz.Shadow, permits)},
		"no plugin":      {member("a", authz.Grant, nil)},
		"no name":        {member("", authz.Grant, permits)},
		"same name":      {member("a", authz.Grant, permits), member("a", authz.Grant, permits)},
		"unknown role":   {member("a", authz.Grant, permits), member("b", 9, permits)},
		"negative times": {{Name: "a", Role: authz.Grant, Plugin: permits, Timeout: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := authz.NewChain(nil, members...)
			require.Error(t, err)
		})
	}
}

func TestAMemberThatIsSkippedIsNotWhyOthersDeny(t *testing.T) {
	t.Parallel()
	fails := skipped(member("bad", authz.Veto, unsure))
	for want, other := range map[authz.Code]authz.Plugin{authz.Code(authz.NotApplicable.String()): silent, authz.Code(authz.Deny.String()): denies} {
		chain, err := authz.NewChain(nil, fails, member("good", authz.Grant, other))
		require.NoError(t, err)
		require.Equal(t, authz.Decision{Effect: authz.Deny, Reasons: []authz.Reason{{Code: want}}}, chain.Decide(t.Context(), make([]authz.Request, 1))[0])
	}
	chain, err := authz.NewChain(nil, skipped(member("bad", authz.Grant, unsure)))
	require.NoError(t, err)
	require.Equal(t, []authz.Reason{{Plugin: "chain", Code: authz.CodeNoMatchingRule}}, chain.Decide(t.Context(), make([]authz.Request, 1))[0].Reasons)
}

// waiter answers when its context has ended.
type waiter struct{}

func (waiter) Decide(ctx context.Context, _ []authz.Request) ([]authz.Decision, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (waiter) Plan(ctx context.Context, _ authz.Query) (authz.Plan, error) {
	<-ctx.Done()
	return authz.Plan{}, ctx.Err()
}

func (waiter) Pin(ctx context.Context, _ string) (context.Context, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestWhoGoesAwayGetsRidOfNoMember(t *testing.T) {
	t.Parallel()
	chain, err := authz.NewChain(nil, member("good", authz.Grant, permits), skipped(member("slow", authz.Veto, waiter{})))
	require.NoError(t, err)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	for _, ctx := range []context.Context{canceled, late} {
		require.Equal(t, authz.Deny, chain.Decide(ctx, make([]authz.Request, 1))[0].Effect)
		rows, _ := chain.Plan(ctx, authz.Query{})
		require.Equal(t, authz.False{}, rows)
		_, err := chain.Pin(ctx, "t1")
		require.Error(t, err)
	}
}

func TestTheSinkSeesEveryMember(t *testing.T) {
	t.Parallel()
	var seen []authz.Effect
	sink := func(_ context.Context, _ authz.Request, final authz.Decision, each []authz.Decision) {
		seen = append(seen, final.Effect)
		for _, d := range each {
			seen = append(seen, d.Effect)
		}
	}
	chain, err := authz.NewChain(sink, member("a", authz.Grant, permits), member("b", authz.Shadow, denies))
	require.NoError(t, err)
	chain.Decide(t.Context(), make([]authz.Request, 1))
	require.Equal(t, []authz.Effect{authz.Permit, authz.Permit, authz.Deny}, seen)
}

func TestAChainIsConfigured(t *testing.T) {
	t.Parallel()
	own := map[string]authz.Factory{
		"own": func(_ context.Context, _ string, config json.RawMessage) (authz.Plugin, error) {
			var effect authz.Effect
			return always(authz.Permit), json.Unmarshal(config, &effect)
		},
	}
	build := func(text string) error {
		var members []authz.Config
		if err := json.Unmarshal([]byte(text), &members); err != nil {
			return err
		}
		_, err := authz.BuildChain(t.Context(), members, own, nil)
		return err
	}
	require.NoError(t, build(`[{"name":"a","kind":"own","role":"grant","on_error":"deny","no_plan":"skip","timeout":"1s","config":1}]`))
	require.ErrorContains(t, build(`[{"name":"a","kind":"own","config":1}]`), "no member grants")
	require.ErrorContains(t, build(`[{"name":"a","kind":"own","role":"boss","config":1}]`), "boss")
	require.ErrorContains(t, build(`[{"name":"a","kind":"own","role":"grant","on_error":"permit"}]`), "permit")
	require.ErrorContains(t, build(`[{"name":"a","kind":"other","role":"grant"}]`), "other")
	require.ErrorContains(t, build(`[{"name":"a","kind":"own","role":"grant","config":"x"}]`), "plugin")
	require.ErrorContains(t, build(`[{"name":"a","kind":"own","role":"grant","timeout":"0s","config":1}]`), "timeout")
}
