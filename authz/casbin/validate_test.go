package casbin_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-crm/lethe/authz/casbin"
)

func errorsOf(findings []casbin.Finding) (out []string) {
	for _, f := range findings {
		if f.Severity == casbin.Error {
			out = append(out, f.Message)
		}
	}
	return out
}

func TestTheDefaultPolicyIsValid(t *testing.T) {
	t.Parallel()
	require.Empty(t, vocabulary.Validate("t1", casbin.DefaultRules("t1")))
}

func TestRowsThatCasbinWouldTakeAreRefused(t *testing.T) {
	t.Parallel()
	cases := map[string]casbin.Rule{
		"bare subject":         casbin.Permission("alice", "t1", "customer", "read", "allow", "any"),
		"empty user":           casbin.Permission("user:", "t1", "customer", "read", "allow", "any"),
		"space in subject":     casbin.Permission("user:a b", "t1", "customer", "read", "allow", "any"),
		"other tenant":         casbin.Permission("user:1", "t2", "customer", "read", "allow", "any"),
		"unknown type":         casbin.Permission("user:1", "t1", "invoice", "read", "allow", "any"),
		"unknown field":        casbin.Permission("user:1", "t1", "customer.name", "read", "allow", "any"),
		"field of everything":  casbin.Permission("user:1", "t1", "*.email", "read", "allow", "any"),
		"empty field":          casbin.Permission("user:1", "t1", "customer.", "read", "allow", "any"),
		"unknown action":       casbin.Permission("user:1", "t1", "customer", "look", "allow", "any"),
		"pattern as action":    casbin.Permission("user:1", "t1", "customer", "hold.*", "allow", "any"),
		"capital effect":       casbin.Permission("user:1", "t1", "customer", "read", "Deny", "any"),
		"empty effect":         casbin.Permission("user:1", "t1", "customer", "read", "", "any"),
		"empty condition":      casbin.Permission("user:1", "t1", "customer", "read", "allow", ""),
		"long condition":       casbin.Permission("user:1", "t1", "customer", "read", "allow", strings.Repeat("any or ", 200)+"any"),
		"new line":             casbin.Permission("user:1\n", "t1", "customer", "read", "allow", "any"),
		"space around":         casbin.Permission("user:1", "t1", "customer", "read", "allow", " any"),
		"bad encoding":         casbin.Permission("user:\xff", "t1", "customer", "read", "allow", "any"),
		"role to a bare name":  casbin.Grant("alice", "role:admin", "t1"),
		"bare role":            casbin.Grant("user:1", "admin", "t1"),
		"user as role":         casbin.Grant("user:1", "user:2", "t1"),
		"role in other tenant": casbin.Grant("user:1", "role:admin", "t2"),
		"role to system":       casbin.Grant("user:system", "role:admin", "t1"),
		"role to itself":       casbin.Grant("role:a", "role:a", "t1"),
		"fourth value":         {Ptype: "g", V: [6]string{"user:1", "role:a", "t1", "x"}},
		"other kind":           {Ptype: "p2", V: [6]string{"user:1", "t1", "customer", "read", "allow", "any"}},
		"no kind":              {},
	}
	for name, r := range cases {
		require.NotEmpty(t, errorsOf(vocabulary.Validate("t1", []casbin.Rule{r})), name)
	}
}

func TestHierarchiesHaveNoCyclesAndAtMostTenLevels(t *testing.T) {
	t.Parallel()
	chain := func(n int) (rules []casbin.Rule) {
		for i := range n {
			rules = append(rules, casbin.Grant(fmt.Sprint("role:", i), fmt.Sprint("role:", i+1), "t1"))
		}
		return rules
	}
	require.Empty(t, errorsOf(vocabulary.Validate("t1", chain(10))))
	require.NotEmpty(t, errorsOf(vocabulary.Validate("t1", chain(11))))
	require.NotEmpty(t, errorsOf(vocabulary.Validate("t1", append(chain(10), casbin.Grant("user:1", "role:0", "t1")))))
	require.NotEmpty(t, errorsOf(vocabulary.Validate("t1", append(chain(3), casbin.Grant("role:3", "role:1", "t1")))))
	diamond := append(chain(3), casbin.Grant("role:0", "role:2", "t1"), casbin.Grant("role:0", "role:3", "t1"))
	require.Empty(t, errorsOf(vocabulary.Validate("t1", diamond)))
}

func TestRepeatedAndIdleRowsAreWarnings(t *testing.T) {
	t.Parallel()
	r := casbin.Permission("user:1", "t1", "customer", "read", "allow", "any")
	findings := vocabulary.Validate("t1", []casbin.Rule{r, r, casbin.Grant("user:1", "role:ghost", "t1")})
	require.Len(t, findings, 2)
	require.Empty(t, errorsOf(findings))
}

func TestConditions(t *testing.T) {
	t.Parallel()
	check := func(typ, condition string) []string {
		return errorsOf(vocabulary.Validate("t1", []casbin.Rule{casbin.Permission("user:1", "t1", typ, "read", "allow", condition)}))
	}
	for _, good := range []string{
		"any", "not any", "owner == me", "owner != me", "owner in my.teams", "owner == 'user_1'", `owner in ("a", 'b')`,
		"state == VOIDED", "state == 'it is'", "amount < 10000", "amount >= -5", "amount in (1, 2)",
		`closesAt < "2026-01-01T00:00:00Z"`, "action.soft == true", "context.hour < 12", "action.by == me",
		"(owner == me or team in my.teams) and not (state == VOIDED)", "not not any", "context.ip == '::1'",
	} {
		require.Empty(t, check("deal", good), good)
	}
	for _, bad := range []string{
		"", "owner", "owner ==", "== me", "owner = me", "me == owner", "owner == you", "owner < me", "state == me",
		"amount == VOIDED", "amount == '1'", "amount < 1.5", "amount == 1x", "amount == 1.2.3", "amount == -",
		"state < VOIDED", "state in my.teams", "state in ()", "state in (A,)", "state in (A", "state in A", "state == voided",
		"closesAt < '2026-01-01'", "closesAt == 5", "phone == '1'", "any any", "any or", "(any", "any)", "any, any",
		"not", "or any", "true", "any == true", "me", "my.teams in team", "eval('1')", "owner == me; any", "owner == me || any",
		"owner =~ '.*'", "owner == 'a", "action. == true", "action == true", "subject.id == 'x'", "action.a.b == 1 or x == 2",
		"Owner == me", "state == A.B", "owner == me # any", "owner\t== me", "ówner == me", "team in my.friends",
		strings.Repeat("(", 40) + "any" + strings.Repeat(")", 40), strings.Repeat("not ", 40) + "any",
	} {
		require.NotEmpty(t, check("deal", bad), bad)
	}
	require.NotEmpty(t, check("user", "owner == me"), "a type without owner")
	require.Empty(t, check("*", "owner == me"))
	require.Empty(t, check("*", "amount < 5"))
	require.NotEmpty(t, check("*", "phone == 'x'"), "no type has it")
}

func TestPoliciesReadBackFromCSV(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringMatching(`[a-z*'", #:()]{0,12}[a-z*'",#:()]`).Filter(func(s string) bool { return strings.TrimSpace(s) == s })
		var rules []casbin.Rule
		for range rapid.IntRange(0, 5).Draw(t, "n") {
			v := func() string { return value.Draw(t, "value") }
			if rapid.Bool().Draw(t, "p") {
				rules = append(rules, casbin.Permission(v(), v(), v(), v(), v(), v()))
			} else {
				rules = append(rules, casbin.Grant(v(), v(), v()))
			}
		}
		var b bytes.Buffer
		require.NoError(t, casbin.WriteCSV(&b, rules))
		back, err := casbin.ReadCSV(&b)
		require.NoError(t, err)
		require.Equal(t, rules, back)
	})
}

func TestPolicyFilesAreReadAsCasbinDoes(t *testing.T) {
	t.Parallel()
	rules, err := casbin.ReadCSV(strings.NewReader("# comment\n\np, user:1, t1, customer, read, allow, \"state in (A, B)\"\ng, user:1, role:a, t1\n"))
	require.NoError(t, err)
	require.Equal(t, []casbin.Rule{
		casbin.Permission("user:1", "t1", "customer", "read", "allow", "state in (A, B)"),
		casbin.Grant("user:1", "role:a", "t1"),
	}, rules)
	for _, bad := range []string{"p, user:1, t1\n", "g, a, b, c, d\n", "x, 1\n", "p, a, b, c, d, e, f, g\n", "p, \"a\n"} {
		_, err := casbin.ReadCSV(strings.NewReader(bad))
		require.Error(t, err, bad)
	}
}
