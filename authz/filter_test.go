package authz_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-crm/lethe/authz"
)

type state string

type hidden [2]byte

func (hidden) String() string { return "id_1" }

func TestComparing(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	text, none := "a", (*string)(nil)
	cases := []struct {
		a    any
		op   authz.Op
		b    any
		want bool
	}{
		{"a", authz.Equal, "a", true},
		{"a", authz.Equal, "A", false},
		{state("a"), authz.Equal, "a", true},
		{hidden{}, authz.Equal, "id_1", true},
		{&text, authz.Equal, "a", true},
		{none, authz.Equal, "a", false},
		{none, authz.NotEqual, "a", false},
		{nil, authz.NotEqual, "a", false},
		{"a", authz.NotEqual, nil, false},
		{nil, authz.Equal, nil, false},
		{"Straße", authz.Prefix, "Stra", true},
		{"a", authz.Prefix, "A", false},
		{3, authz.Less, int64(4), true},
		{uint8(3), authz.Equal, 3, true},
		{3, authz.Less, 3.5, true},
		{3.5, authz.GreaterOrEqual, 3, true},
		{float32(2), authz.Equal, 2, true},
		{3, authz.Equal, "3", false},
		{3, authz.NotEqual, "3", false},
		{true, authz.Equal, true, true},
		{true, authz.NotEqual, false, true},
		{true, authz.Greater, false, false},
		{now, authz.Equal, now.In(time.FixedZone("x", 3600)), true},
		{&now, authz.Less, now.Add(1), true},
		{"a", "like", "a", false},
		{[]int{1}, authz.Equal, []int{1}, false},
	}
	for _, c := range cases {
		require.Equal(t, c.want, authz.Compare(c.a, c.op, c.b), "%v %s %v", c.a, c.op, c.b)
	}
}

func genFilter(depth int) *rapid.Generator[authz.Filter] {
	return rapid.Custom(func(t *rapid.T) authz.Filter {
		field := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "field")
		value := rapid.SampledFrom([]any{"x", "y", 1, nil}).Draw(t, "value")
		kind := rapid.IntRange(0, 5).Draw(t, "kind")
		if depth > 0 {
			kind = rapid.IntRange(0, 9).Draw(t, "kind")
		}
		switch kind {
		case 0:
			return authz.True{}
		case 1:
			return authz.False{}
		case 2, 3:
			return authz.Cmp{Field: field, Op: rapid.SampledFrom(authz.Ops()).Draw(t, "op"), Value: value}
		case 4:
			return authz.In{Field: field, Values: []any{value}[:rapid.IntRange(0, 1).Draw(t, "n")]}
		case 5:
			return authz.IsNull{Field: field}
		case 6:
			return authz.Not{Of: genFilter(depth-1).Draw(t, "of")}
		case 7:
			return authz.Edge{Name: "e", Of: genFilter(depth-1).Draw(t, "of")}
		case 8:
			return authz.And(rapid.SliceOfN(genFilter(depth-1), 0, 3).Draw(t, "parts"))
		default:
			return authz.Or(rapid.SliceOfN(genFilter(depth-1), 0, 3).Draw(t, "parts"))
		}
	})
}

func genRow(edges bool) *rapid.Generator[map[string]any] {
	return rapid.Custom(func(t *rapid.T) map[string]any {
		row := map[string]any{
			"a": rapid.SampledFrom([]any{"x", "y", 1, nil}).Draw(t, "a"),
			"b": rapid.SampledFrom([]any{"x", 2, nil}).Draw(t, "b"),
		}
		if edges {
			row["e"] = rapid.SliceOfN(genRow(false), 0, 2).Draw(t, "e")
		}
		return row
	})
}

func TestSimplifyingAFilterKeepsItsRows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f, row := genFilter(3).Draw(t, "f"), genRow(true).Draw(t, "row")
		require.NoError(t, authz.Check(f))
		simple := authz.Simplify(f)
		require.Equal(t, authz.Match(f, row), authz.Match(simple, row), "%#v", simple)
		require.True(t, authz.Same(simple, authz.Simplify(simple)))
	})
}

func TestAFilterWithAHoleIsRefused(t *testing.T) {
	t.Parallel()
	for _, f := range []authz.Filter{
		nil, authz.Not{}, authz.And{authz.True{}, nil}, authz.Or{nil}, authz.Edge{Name: "e"}, authz.Cmp{Field: "a"}, &authz.True{},
	} {
		require.Error(t, authz.Check(f))
	}
}
