package authz_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
)

// frugal looks at few attributes, and at others of other types.
type frugal map[string][]string

func (frugal) Decide(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	return make([]authz.Decision, len(reqs)), nil
}

func (f frugal) Attributes(_ context.Context, _, typ string) ([]string, bool) {
	return f[typ], f != nil
}

// lost panics where it is asked what it looks at, and which version it has.
type lost struct{ frugal }

func (lost) Attributes(context.Context, string, string) ([]string, bool) { panic("lost") }

func (lost) Version(context.Context, string) uint64 { panic("lost") }

func TestAChainLooksAtWhatItsMembersLookAt(t *testing.T) {
	t.Parallel()
	a, b := frugal{"deal": {"owner", "amount"}}, frugal{"deal": {"amount", "state"}, "customer": {"owner"}}
	for name, c := range map[string]struct {
		typ     string
		plugins []authz.Plugin
		names   []string
		all     bool
	}{
		"what any of them looks at":    {"deal", []authz.Plugin{a, b}, []string{"owner", "amount", "state"}, false},
		"of the type":                  {"customer", []authz.Plugin{a, b}, []string{"owner"}, false},
		"nothing":                      {"user", []authz.Plugin{a, b}, nil, false},
		"one that cannot tell":         {"deal", []authz.Plugin{a, permits}, nil, true},
		"one that does not know now":   {"deal", []authz.Plugin{a, frugal(nil)}, nil, true},
		"one that panics at the asker": {"deal", []authz.Plugin{a, lost{a}}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var members []authz.Member
			for i, p := range c.plugins {
				members = append(members, member(string(rune('a'+i)), authz.Grant, p))
			}
			chain, err := authz.NewChain(nil, members...)
			require.NoError(t, err)
			names, all := chain.Attributes(t.Context(), "t1", c.typ)
			require.Equal(t, c.names, names)
			require.Equal(t, c.all, all)
		})
	}
}

func TestAVersionThatPanicsIsNone(t *testing.T) {
	t.Parallel()
	chain, err := authz.NewChain(nil, member("a", authz.Grant, lost{}))
	require.NoError(t, err)
	seen := &calls{}
	chain.Observe(seen.add)
	require.Zero(t, chain.Version(t.Context(), "t1"))
	require.Equal(t, []authz.Failure{authz.FailurePanic}, seen.failures("a", authz.MethodVersion))
}
