package authz_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
)

// knows is a plugin that decides nothing and lists some ids.
type knows struct {
	ids []string
	err error
}

func (knows) Decide(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	return make([]authz.Decision, len(reqs)), nil
}

func (k knows) Search(context.Context, authz.Search) ([]authz.Entity, error) {
	var out []authz.Entity
	for _, id := range k.ids {
		out = append(out, authz.Entity{Type: "record", ID: id})
	}
	return out, k.err
}

func TestASearchIsWhatAllMembersKnowInOrder(t *testing.T) {
	t.Parallel()
	search := func(after string, limit int, members ...authz.Member) ([]string, error) {
		chain, err := authz.NewChain(nil, members...)
		require.NoError(t, err)
		found, err := chain.Search(t.Context(), authz.Search{For: authz.SoughtResources, Type: "record", After: after, Limit: limit})
		ids := []string{}
		for _, e := range found {
			ids = append(ids, e.ID)
		}
		return ids, err
	}
	a := authz.Member{Name: "a", Role: authz.Grant, Plugin: knows{ids: []string{"1", "3", "5"}}}
	b := authz.Member{Name: "b", Plugin: knows{ids: []string{"2", "3"}}}
	shadow := authz.Member{Name: "c", Role: authz.Shadow, Plugin: knows{ids: []string{"4"}}}
	failing := authz.Member{Name: "d", Plugin: knows{err: errors.New("no")}}

	ids, err := search("", 10, a, b, shadow)
	require.NoError(t, err)
	require.Equal(t, []string{"1", "2", "3", "5"}, ids)
	ids, err = search("1", 2, a, b)
	require.NoError(t, err)
	require.Equal(t, []string{"2", "3"}, ids)
	_, err = search("", 10, a, failing)
	require.ErrorContains(t, err, `"d"`)
}
