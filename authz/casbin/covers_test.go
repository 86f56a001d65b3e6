package casbin_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
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
		"the same in other words":            {[]casbin.Rule{a("deal", "read", "owner == me or team in my.teams"), b("deal", "read", "(team in my.teams) or (owner == me)")}, true},
		"two conditions over one of both":    {[]casbin.Rule{a("deal", "read", "amount < 10"), a("deal", "read", "amount >= 10"), b("deal", "read", "amount == 5 or amount == 50")}, true},
		"one condition over a narrower one":  {[]casbin.Rule{a("deal", "read", "amount < 10"), b("deal", "read", "amount < 5 and owner == me")}, true},
		"one condition over a wider one":     {[]casbin.Rule{a("deal", "read", "amount < 10"), b("deal", "read", "amount <= 10")}, false},
		"denied elsewhere":                   {[]casbin.Rule{a("deal", "read", "any"), rule("a", "deal", "read", "deny", "amount > 100"), b("deal", "read", "amount < 100")}, true},
		"denied right there":                 {[]casbin.Rule{a("deal", "read", "any"), rule("a", "deal", "read", "deny", "amount > 99"), b("deal", "read", "amount <= 100")}, false},
		"each type by itself over every":     {[]casbin.Rule{a("deal", "read", "any"), a("customer", "read", "any"), b("*", "read", "any")}, false},
		"a deny is no allow":                 {[]casbin.Rule{rule("a", "deal", "read", "deny", "amount > 5"), b("deal", "read", "any"), rule("b", "deal", "read", "deny", "amount > 5")}, false},
		"denied all that is allowed":         {[]casbin.Rule{b("deal", "read", "any"), rule("b", "deal", "read", "deny", "any")}, true},
	} {
		m := newMemory()
		m.set(tenant, test.rules...)
		covers, err := newPlugin(t, m).Covers(t.Context(), tenant, user("a"), user("b"))
		require.NoError(t, err, name)
		require.Equal(t, test.covers, covers, name)
	}

	m := newMemory()
	m.set(tenant, a("deal", "read", "any"), b("deal", "purge", "any"), b("deal", "erase", "any"))
	for want, but := range map[bool][]authz.Action{false: {authz.Purge}, true: {authz.Purge, authz.Erase}} {
		covers, err := newPlugin(t, m).Covers(t.Context(), tenant, user("a"), user("b"), but...)
		require.NoError(t, err)
		require.Equal(t, want, covers, "but for %v", but)
	}

	m = newMemory()
	m.fail(errors.New("gone"))
	covers, err := newPlugin(t, m).Covers(t.Context(), tenant, user("a"), user("b"))
	require.Error(t, err)
	require.False(t, covers)
}

func TestWhatCannotAllBeTriedHasToBeSaid(t *testing.T) {
	t.Parallel()
	const tenant = "t1"
	var numbers []string
	for i := range 50 {
		numbers = append(numbers, strconv.Itoa(i*10))
	}
	many := "amount in (" + strings.Join(numbers, ", ") + ") and owner == me and team in my.teams and state == OPEN and closesAt < \"2026-01-01T00:00:00Z\""
	rule := func(subject, condition string) casbin.Rule {
		return casbin.Permission(casbin.UserSubject(subject), tenant, "deal", "read", "allow", condition)
	}
	for condition, covers := range map[string]bool{many: true, many + " and amount < 4000": false} {
		m := newMemory()
		m.set(tenant, rule("a", many), rule("b", condition))
		got, err := newPlugin(t, m).Covers(t.Context(), tenant, user("a"), user("b"))
		require.NoError(t, err)
		require.Equal(t, covers, got, condition)
	}
}

func TestWhoWouldBePermittedMoreInATeam(t *testing.T) {
	t.Parallel()
	const tenant = "t1"
	rule := func(effect, condition string) casbin.Rule {
		return casbin.Permission(casbin.UserSubject("a"), tenant, "deal", "read", effect, condition)
	}
	for name, test := range map[string]struct {
		rules  []casbin.Rule
		more   []string
		widens bool
	}{
		"nobody":                        {nil, []string{"t9"}, false},
		"who sees all":                  {[]casbin.Rule{rule("allow", "any")}, []string{"t9"}, false},
		"who sees his own":              {[]casbin.Rule{rule("allow", "owner == me")}, []string{"t9"}, false},
		"who sees his teams'":           {[]casbin.Rule{rule("allow", "team in my.teams")}, []string{"t9"}, true},
		"a team he is in":               {[]casbin.Rule{rule("allow", "team in my.teams")}, []string{"mine"}, false},
		"no team":                       {[]casbin.Rule{rule("allow", "team in my.teams")}, nil, false},
		"his teams' and all":            {[]casbin.Rule{rule("allow", "team in my.teams"), rule("allow", "any")}, []string{"t9"}, false},
		"his teams' and the others'":    {[]casbin.Rule{rule("allow", "team in my.teams"), rule("allow", "not team in my.teams")}, []string{"t9"}, false},
		"of his teams' what is his own": {[]casbin.Rule{rule("allow", "team in my.teams and owner == me"), rule("allow", "owner == me")}, []string{"t9"}, false},
		"his teams', but not that one":  {[]casbin.Rule{rule("allow", "team in my.teams"), rule("deny", `team == 't9'`)}, []string{"t9"}, false},
		"another than that one":         {[]casbin.Rule{rule("allow", "team in my.teams"), rule("deny", `team == 't9'`)}, []string{"t9", "t8"}, true},
		"of one team by its name":       {[]casbin.Rule{rule("allow", "team in my.teams and team == 't9'")}, []string{"t8", "t9"}, true},
		"of another team by its name":   {[]casbin.Rule{rule("allow", "team in my.teams and team == 't9'")}, []string{"t8"}, false},
		"who is denied his teams'":      {[]casbin.Rule{rule("allow", "any"), rule("deny", "team in my.teams")}, []string{"t9"}, false},
	} {
		m := newMemory()
		m.set(tenant, test.rules...)
		who := user("a")
		who.Props = map[string]any{"teams": []string{"mine", "mine too"}}
		widens, err := newPlugin(t, m).Widens(t.Context(), tenant, who, append(test.more, "mine", "mine too"))
		require.NoError(t, err, name)
		require.Equal(t, test.widens, widens, name)
	}
	for name, test := range map[string]struct {
		rules  []casbin.Rule
		after  []string
		widens bool
	}{
		"who sees his teams', and leaves one":               {[]casbin.Rule{rule("allow", "team in my.teams")}, []string{"mine"}, false},
		"who is denied his teams', and leaves one":          {[]casbin.Rule{rule("allow", "any"), rule("deny", "team in my.teams")}, []string{"mine"}, true},
		"who is denied his teams', and leaves all":          {[]casbin.Rule{rule("allow", "any"), rule("deny", "team in my.teams")}, nil, true},
		"who is denied one by its name, and leaves another": {[]casbin.Rule{rule("allow", "any"), rule("deny", "team in my.teams and team == 'mine'")}, []string{"mine"}, false},
		"who is denied one by its name, and leaves it":      {[]casbin.Rule{rule("allow", "any"), rule("deny", "team in my.teams and team == 'mine'")}, []string{"mine too"}, true},
		"who sees the others', and leaves one":              {[]casbin.Rule{rule("allow", "not team in my.teams")}, []string{"mine"}, true},
		"who sees the others', and changes one":             {[]casbin.Rule{rule("allow", "not team in my.teams")}, []string{"mine", "t9"}, true},
		"nothing changes":                                   {[]casbin.Rule{rule("allow", "not team in my.teams")}, []string{"mine too", "mine"}, false},
	} {
		m := newMemory()
		m.set(tenant, test.rules...)
		widens, err := newPlugin(t, m).Widens(t.Context(), tenant, user("a", "mine", "mine too"), test.after)
		require.NoError(t, err, name)
		require.Equal(t, test.widens, widens, name)
	}
	m := newMemory()
	m.set(tenant, rule("allow", "team in my.teams"))
	for want, only := range map[bool]authz.Action{true: authz.Read, false: authz.Purge} {
		widens, err := newPlugin(t, m).Widens(t.Context(), tenant, user("a"), []string{"t9"}, only)
		require.NoError(t, err)
		require.Equal(t, want, widens, "only %s", only)
	}
	m.fail(errors.New("gone"))
	_, err := newPlugin(t, m).Widens(t.Context(), tenant, user("a"), []string{"t9"})
	require.Error(t, err)
}
