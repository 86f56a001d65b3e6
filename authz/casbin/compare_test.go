package casbin_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
)

func allow(subject, object, action, condition string) casbin.Rule {
	return casbin.Permission(subject, "t1", object, action, "allow", condition)
}

func deny(subject, object, action, condition string) casbin.Rule {
	return casbin.Permission(subject, "t1", object, action, "deny", condition)
}

func TestWhatAUserGainsHimselfIsFoundByWhatItMeans(t *testing.T) {
	t.Parallel()
	hasB := casbin.Grant("user:1", "role:b", "t1")
	base := []casbin.Rule{allow("role:a", "*", "*", "any"), allow("role:b", "customer", "read", "owner == me"), hasB}
	add := func(rules ...casbin.Rule) []casbin.Rule { return append(slices.Clone(base), rules...) }
	for name, test := range map[string]struct {
		before, after []casbin.Rule
		gains         bool
	}{
		"nothing":                        {base, base, false},
		"a grant to himself":             {base, add(casbin.Grant("user:1", "role:a", "t1")), true},
		"a rule on himself":              {base, add(allow("user:1", "customer", "update", "any")), true},
		"a role he has":                  {base, add(allow("role:b", "customer", "update", "any")), true},
		"an edge above a role he has":    {base, add(casbin.Grant("role:b", "role:a", "t1")), true},
		"a deny on himself goes":         {add(deny("user:1", "customer", "read", "state == VOIDED")), base, true},
		"a wider condition":              {base, add(allow("role:b", "customer", "read", "team in my.teams")), true},
		"the same in other words":        {base, add(allow("role:b", "customer", "read", "not (owner != me or not owner == me)")), false},
		"less":                           {add(allow("user:1", "customer", "read", "any")), base, false},
		"a narrower condition":           {base, add(allow("role:b", "customer", "read", "owner == me and state == ACTIVE")), false},
		"a role of others":               {base, add(allow("role:a", "customer", "purge", "any")), false},
		"a smaller number":               {add(allow("user:1", "deal", "read", "amount < 10")), add(allow("user:1", "deal", "read", "amount < 9")), false},
		"a greater number":               {add(allow("user:1", "deal", "read", "amount < 10")), add(allow("user:1", "deal", "read", "amount <= 10")), true},
		"a deny that allows cover again": {add(deny("user:1", "customer", "read", "owner == me")), add(deny("user:1", "customer", "read", "any")), false},
	} {
		for _, set := range [][]casbin.Rule{test.before, test.after} {
			if found := errorsOf(vocabulary.Validate("t1", set)); len(found) > 0 {
				t.Fatal(name, found)
			}
		}
		c, err := vocabulary.Compare(test.before, test.after)
		require.NoError(t, err)
		g, found := c.Own("1", []string{"x"})
		require.Equal(t, test.gains, found, "%s: %v", name, g)
	}
}

func TestOthersGetWhatTheGiverHas(t *testing.T) {
	t.Parallel()
	base := []casbin.Rule{
		allow("role:boss", "customer", "*", "team in my.teams"), allow("role:boss", "customer", "purge", "any"), casbin.Grant("user:1", "role:boss", "t1"),
		allow("role:low", "customer", "read", "owner == me and team in my.teams"),
	}
	for name, test := range map[string]struct {
		row  casbin.Rule
		gain *casbin.Gain
	}{
		"what he has":                  {allow("user:2", "customer", "read", "team in my.teams"), nil},
		"less than he has":             {allow("user:2", "customer", "update", "team in my.teams and state == ACTIVE"), nil},
		"a role within his":            {casbin.Grant("user:2", "role:low", "t1"), nil},
		"a wider condition":            {allow("user:2", "customer", "read", "any"), &casbin.Gain{Subject: "user:2", Action: authz.Read, Object: "customer"}},
		"another condition":            {allow("role:low", "customer", "read", "owner == me"), &casbin.Gain{Subject: "role:low", Action: authz.Read, Object: "customer"}},
		"another type":                 {allow("role:low", "deal", "read", "team in my.teams"), &casbin.Gain{Subject: "role:low", Action: authz.Read, Object: "deal"}},
		"a restricted action he holds": {allow("user:2", "customer", "purge", "owner == me"), &casbin.Gain{Subject: "user:2", Action: authz.Purge, Object: "customer"}},
		"his own role with one in it":  {casbin.Grant("user:2", "role:boss", "t1"), &casbin.Gain{Subject: "user:2", Action: authz.Purge, Object: "customer"}},
		"a wildcard leaves purge out":  {allow("user:2", "customer", "*", "team in my.teams"), nil},
	} {
		c, err := vocabulary.Compare(base, append(slices.Clone(base), test.row))
		require.NoError(t, err, name)
		g, found := c.Beyond("1")
		require.Equal(t, test.gain != nil, found, "%s: %v", name, g)
		if found {
			require.Equal(t, *test.gain, g, name)
		}
	}
}

func TestChangesNameWhoGainsAndWhoLoses(t *testing.T) {
	t.Parallel()
	before := []casbin.Rule{allow("role:a", "customer", "read", "any"), casbin.Grant("user:1", "role:a", "t1"), casbin.Grant("user:2", "role:a", "t1")}
	after := []casbin.Rule{allow("role:a", "customer", "read", "owner == me"), allow("role:a", "customer", "update", "owner == me"), casbin.Grant("user:1", "role:a", "t1")}
	c, err := vocabulary.Compare(before, after)
	require.NoError(t, err)
	got := map[string]string{}
	for _, ch := range c.Changes() {
		got[ch.Subject+" "+string(ch.Action)+" "+ch.Object] = map[bool]string{true: "gains"}[ch.Gained] + map[bool]string{true: "loses"}[ch.Lost]
	}
	require.Equal(t, map[string]string{
		"role:a read customer": "loses", "role:a update customer": "gains", "user:1 read customer": "loses", "user:1 update customer": "gains",
		"user:2 read customer": "loses",
	}, got)
}

func TestLintSaysWhatAValidPolicyGetsWrong(t *testing.T) {
	t.Parallel()
	require.Empty(t, vocabulary.Lint("t1", casbin.DefaultRules("t1")))
	for want, rules := range map[string][]casbin.Rule{
		"never matches":                           {allow("role:a", "customer", "read", "state == VOIDED and state == ACTIVE")},
		"holds for everyone":                      {allow("role:a", "customer", "read", "owner == me or owner != me or not owner == me")},
		"says nothing that row 0 does not say":    {allow("role:a", "*", "*", "any"), allow("role:a", "customer", "read", "owner == me")},
		"never permits: row 1 denies it":          {allow("role:a", "customer", "read", "owner == me"), deny("role:a", "customer", "*", "any")},
		"still shows in records that are retired": {allow("role:a", "customer", "read", "any"), deny("role:a", "customer.email", "read", "any")},
		"repeats row 0":                           {allow("role:a", "customer", "read", "any"), allow("role:a", "customer", "read", "any")},
	} {
		var said []string
		for _, f := range vocabulary.Lint("t1", rules) {
			require.Equal(t, casbin.Warning, f.Severity)
			said = append(said, f.Message)
		}
		require.Contains(t, strings.Join(said, "\n"), want)
	}
}
