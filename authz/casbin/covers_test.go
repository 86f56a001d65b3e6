package casbin_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz/casbin"
)

func TestWhoMayDoAllThatAnotherMay(t *testing.T) {
	t.Parallel()
	const tenant = "t1"
	rule := func(subject, object, action, effect, condition string) casbin.Rule {
		return casbin.Permission(casbin.UserSubject(subject), tenant, object, action, effect, condition)
	}
	a := func(object, action, condition string) casbin.Rule {
		return rule("a", object, action, "allow", condition)
	}
	b := func(object, action, condition string) casbin.Rule {
		return rule("b", object, action, "allow", condition)
	}
	granted := func(subject, role string) casbin.Rule {
		return casbin.Grant(casbin.UserSubject(subject), casbin.RoleSubject(role), tenant)
	}
	ofRole := casbin.Permission(casbin.RoleSubject("r"), tenant, "deal", "read", "allow", "any")
	for name, test := range map[string]struct {
		rules  []casbin.Rule
		covers bool
	}{
		"nobody over nobody":                 {nil, true},
		"the same":                           {[]casbin.Rule{a("deal", "read", "any"), b("deal", "read", "any")}, true},
		"nothing":                            {[]casbin.Rule{b("deal", "read", "any")}, false},
		"another action":                     {[]casbin.Rule{a("deal", "read", "any"), b("deal", "update", "any")}, false},
		"another type":                       {[]casbin.Rule{a("deal", "read", "any"), b("customer", "read", "any")}, false},
		"the same condition":                 {[]casbin.Rule{a("deal", "read", "owner == me"), b("deal", "read", "owner == me")}, true},
		"no condition over one":              {[]casbin.Rule{a("deal", "read", "any"), b("deal", "read", "owner == me")}, true},
		"a condition over none":              {[]casbin.Rule{a("deal", "read", "owner == me"), b("deal", "read", "any")}, false},
		"another condition":                  {[]casbin.Rule{a("deal", "read", "owner == me"), b("deal", "read", "team in my.teams")}, false},
		"every action over one":              {[]casbin.Rule{a("deal", "*", "any"), b("deal", "delete", "any")}, true},
		"one action over every":              {[]casbin.Rule{a("deal", "delete", "any"), b("deal", "*", "any")}, false},
		"every action over a restricted one": {[]casbin.Rule{a("*", "*", "any"), b("deal", "purge", "any")}, false},
		"every type over one":                {[]casbin.Rule{a("*", "purge", "any"), b("deal", "purge", "any")}, true},
		"one type over every":                {[]casbin.Rule{a("deal", "read", "any"), b("*", "read", "any")}, false},
		"a type over its field":              {[]casbin.Rule{a("customer", "read", "any"), b("customer.email", "read", "any")}, true},
		"a field over its type":              {[]casbin.Rule{a("customer.email", "read", "any"), b("customer", "read", "any")}, false},
		"through a role":                     {[]casbin.Rule{ofRole, granted("a", "r"), b("deal", "read", "any")}, true},
		"a role of the other's":              {[]casbin.Rule{ofRole, granted("b", "r")}, false},
		"denied what the other is not":       {[]casbin.Rule{a("*", "*", "any"), rule("a", "deal", "read", "deny", "any"), b("deal", "read", "any")}, false},
		"denied what the other is, too":      {[]casbin.Rule{a("*", "*", "any"), rule("a", "deal", "read", "deny", "any"), b("*", "read", "any"), rule("b", "deal", "read", "deny", "any")}, true},
		"the other is denied":                {[]casbin.Rule{a("*", "*", "any"), b("deal", "read", "any"), rule("b", "deal", "read", "deny", "any")}, true},
		"a deny is no allow":                 {[]casbin.Rule{rule("a", "deal", "read", "deny", "any"), b("deal", "read", "any"), rule("b", "deal", "read", "deny", "any")}, false},
	} {
		m := newMemory()
		m.set(tenant, test.rules...)
		covers, err := newPlugin(t, m).Covers(t.Context(), tenant, user("a"), user("b"))
		require.NoError(t, err, name)
		require.Equal(t, test.covers, covers, name)
	}

	m := newMemory()
	m.fail(errors.New("gone"))
	covers, err := newPlugin(t, m).Covers(t.Context(), tenant, user("a"), user("b"))
	require.Error(t, err)
	require.False(t, covers)
}
