package transport_test

import (
	"strings"
	"testing"

	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/transport"
)

// TestAListCostsAsManyTimesItsChildAsItMayHaveElements finds out what documents cost: they pass with that budget, and
// with one less they do not.
func TestAListCostsAsManyTimesItsChildAsItMayHaveElements(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		query, variables string
		cost             int
	}{
		"fields":                       {"{name self{name}}", "", 3},
		"a list":                       {"{people(first:10){name}}", "", 11},
		"the larger of first and last": {"{people(first:3,last:10){name}}", "", 11},
		"a list without a page":        {"{people{name}}", "", 101},
		"null":                         {"{people(first:null){name}}", "", 101},
		"a variable":                   {"query($n:Int){people(first:$n){name}}", `{"n":7}`, 8},
		"a variable's default":         {"query($n:Int=5){people(first:$n){name}}", "", 6},
		"no variable":                  {"query($n:Int){people(last:$n){name}}", "", 101},
		"a list in a list":             {"{people(first:10){name people(first:20){name}}}", "", 1 + 10*(1+1+20)},
		"a connection":                 {"{pets(first:10){totalCount nodes{name}}}", "", 1 + 1 + 10*(1+1)},
		"edges":                        {"{pets(first:10){edges{node{name}}}}", "", 1 + 10*(1+1+1)},
		"a page by default":            {"{pets{nodes{name}}}", "", 1 + 2*2},
		"connections in one another":   {"{pets(first:10){nodes{pets(last:30){totalCount nodes{name}}}}}", "", 1 + 10*(1+1+1+30*2)},
		"a spread page":                {"{pets(first:10){...P}} fragment P on Pets{totalCount nodes{...F}} fragment F on Query{name self{name}}", "", 1 + 1 + 10*(1+3)},
		"inline":                       {"{pets(first:10){...{...{nodes{name}}}}}", "", 1 + 10*2},
		"ids":                          {`{node(ids:["a","b","c"]){name}}`, "", 1 + 3},
		"ids in a variable":            {`query($i:[ID!]!){node(ids:$i){name}}`, `{"i":["a","b"]}`, 1 + 2},
		"introspection":                {"{__schema{types{fields{name}}}}", "", 1},
		"several operations":           {"query A{people(first:100){name}}", "", 101},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, budget := range []int{test.cost, test.cost - 1} {
				limits := transport.DefaultLimits()
				limits.Cost = budget
				server := newServer(t, nil, func(s *handler.Server) { s.Use(transport.NewLimiter(limits, nil)) })
				got := ask(t, server, test.query, test.variables)
				if budget == test.cost {
					require.Nil(t, got.code(), got.text)
					continue
				}
				require.Equal(t, "QUERY_LIMIT", got.code(), got.text)
			}
		})
	}
}

func TestPagesInPagesAreOverTheBudget(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	pages := func(levels int) string {
		return strings.Repeat("{pets(first:100){nodes", levels) + "{name}" + strings.Repeat("}}", levels)
	}
	require.Nil(t, ask(t, server, pages(2), "").code())
	got := ask(t, server, pages(3), "")
	require.Equal(t, "QUERY_LIMIT", got.code())
	require.Contains(t, got.text, "smaller pages")
	require.Equal(t, "QUERY_LIMIT", ask(t, server, pages(7), "").code(), "100^7 overflows an int32")
}

func TestLimitsAreSetByName(t *testing.T) {
	t.Parallel()
	var limits transport.Limits
	require.NoError(t, limits.UnmarshalText([]byte("depth=20, cost=500000")))
	want := transport.DefaultLimits()
	want.Depth, want.Cost = 20, 500_000
	require.Equal(t, want, limits)
	for _, wrong := range []string{"", "depth", "depth=", "depth=0", "depth=-1", "depth=x", "dept=1", "depth=1;cost=2", "page-size=101", "depth=1000000"} {
		require.Error(t, limits.UnmarshalText([]byte(wrong)), wrong)
	}
	require.Equal(t, want, limits, "what cannot be read changes nothing")
}
