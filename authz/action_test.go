package authz_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
)

func TestActionsReadBackFromTheirEnumValue(t *testing.T) {
	t.Parallel()
	for _, a := range authz.Actions() {
		var b strings.Builder
		a.MarshalGQL(&b)
		var back authz.Action
		require.NoError(t, back.UnmarshalGQL(strings.Trim(b.String(), `"`)))
		require.Equal(t, a, back)
	}
	var b strings.Builder
	authz.HoldPlace.MarshalGQL(&b)
	require.Equal(t, `"HOLD_PLACE"`, b.String())
	for _, bad := range []any{"hold.place", "", "*", 3, nil} {
		var a authz.Action
		require.Error(t, a.UnmarshalGQL(bad))
	}
}

func TestRestrictedActionsAreInTheCatalogue(t *testing.T) {
	t.Parallel()
	require.Len(t, authz.Actions(), 33)
	for _, a := range authz.Restricted() {
		require.True(t, a.Known() && a.IsRestricted())
	}
	require.False(t, authz.Delete.IsRestricted())
}
