package authz_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
)

func TestAUniformPluginPlansWhatItDecides(t *testing.T) {
	t.Parallel()
	for effect := range authz.Indeterminate + 1 {
		u := authz.Uniform(func(_ context.Context, r authz.Request) authz.Decision {
			require.Equal(t, authz.Entity{Type: "Deal"}, r.Resource, "it sees no resource")
			require.Equal(t, authz.Delete, r.Action)
			return authz.Decision{Effect: effect}
		})
		chain, err := authz.NewChain(nil, member("base", authz.Grant, permits), member("u", authz.Veto, u))
		require.NoError(t, err)
		r := authz.Request{Action: authz.Delete, Resource: authz.Entity{Type: "Deal", ID: "1", Props: map[string]any{"owner": "me"}}}
		permitted := chain.Decide(t.Context(), []authz.Request{r})[0].Permitted()
		require.Equal(t, effect < authz.Deny, permitted)
		rows, _ := chain.Plan(t.Context(), r)
		require.Equal(t, permitted, authz.Match(rows, nil))
		chain, err = authz.NewChain(nil, member("base", authz.Grant, permits), skipped(member("u", authz.Veto, u)))
		require.NoError(t, err)
		permitted = chain.Decide(t.Context(), []authz.Request{r})[0].Permitted()
		require.Equal(t, effect != authz.Deny, permitted)
		rows, _ = chain.Plan(t.Context(), r)
		require.Equal(t, permitted, authz.Match(rows, nil))
		grants, err := authz.NewChain(nil, member("u", authz.Grant, u))
		require.NoError(t, err)
		rows, _ = grants.Plan(t.Context(), r)
		require.Equal(t, effect == authz.Permit, authz.Match(rows, nil))
		names, all := grants.Attributes(t.Context(), "t1", "Deal")
		require.Empty(t, names)
		require.False(t, all)
	}
}
