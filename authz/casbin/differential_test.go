package casbin

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	stock "github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/model"
	"github.com/casbin/casbin/v2/persist"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
)

var testSchema = Schema{
	"customer": {"owner": ID, "team": ID, "state": String},
	"deal":     {"owner": ID, "team": ID, "state": String, "amount": Int},
	"user":     {},
}

// conditions are written twice: in the language, and as what they mean, independently of the evaluator.
// On types without an attribute it is nil.
var conditions = []struct {
	text  string
	only  string // the type that has the attributes; "" for all
	means func(r *authz.Request) bool
}{
	{"any", "", func(*authz.Request) bool { return true }},
	{"owner == me", "", ownerIsMe},
	{"owner != me", "", func(r *authz.Request) bool { return prop(r, "owner") != nil && !ownerIsMe(r) }},
	{"team in my.teams", "", teamIsMine},
	{"owner == me or team in my.teams", "", func(r *authz.Request) bool { return ownerIsMe(r) || teamIsMine(r) }},
	{"state == VOIDED", "", func(r *authz.Request) bool { return prop(r, "state") == "VOIDED" }},
	{"not (state == VOIDED)", "", func(r *authz.Request) bool { return prop(r, "state") != "VOIDED" }},
	{`state in (ACTIVE, "VOIDED") and not owner == me`, "", func(r *authz.Request) bool {
		return (prop(r, "state") == "VOIDED" || prop(r, "state") == "ACTIVE") && !ownerIsMe(r)
	}},
	{"amount < 100", "deal", func(r *authz.Request) bool { n, ok := prop(r, "amount").(int); return ok && n < 100 }},
	{"not amount >= 100", "deal", func(r *authz.Request) bool { n, ok := prop(r, "amount").(int); return !ok || n < 100 }},
	{"action.soft == true", "", func(r *authz.Request) bool { return r.ActionProps["soft"] == true }},
}

func prop(r *authz.Request, name string) any {
	if _, declared := testSchema[r.Resource.Type][name]; !declared {
		return nil
	}
	return r.Resource.Props[name]
}

func ownerIsMe(r *authz.Request) bool { return prop(r, "owner") == r.Subject.ID }

func teamIsMine(r *authz.Request) bool {
	teams, _ := r.Subject.Props["teams"].([]string)
	for _, team := range teams {
		if prop(r, "team") == team {
			return true
		}
	}
	return false
}

// oracle is stock Casbin with the live model file. It reads the rows as CSV lines.
func oracle(t *testing.T, rules []Rule) *stock.Enforcer {
	t.Helper()
	m, err := model.NewModelFromString(Model)
	require.NoError(t, err)
	e, err := stock.NewEnforcer(m)
	require.NoError(t, err)
	for _, r := range rules {
		require.NoError(t, persist.LoadPolicyLine(r.String(), e.GetModel()))
	}
	require.NoError(t, e.BuildRoleLinks())
	e.AddFunction("covers", func(args ...any) (any, error) {
		return strings.HasPrefix(args[0].(string), args[1].(string)+"."), nil
	})
	e.AddFunction("holds", func(args ...any) (any, error) {
		for _, c := range conditions {
			if c.text == args[0] {
				return c.means(args[3].(*authz.Request)), nil
			}
		}
		return nil, fmt.Errorf("condition %q has no meaning here", args[0])
	})
	return e
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// randomRules are valid row by row, but not together: they repeat and contradict each other, have cycles and
// chains beyond the limit, and belong to several tenants.
func randomRules(r *rand.Rand) []Rule {
	subject := func() string {
		if r.IntN(4) == 0 {
			return UserSubject(strconv.Itoa(r.IntN(3)))
		}
		return RoleSubject(strconv.Itoa(r.IntN(14)))
	}
	tenant := func() string { return pick(r, "t1", "t1", "t2") }
	var rules []Rule
	for range r.IntN(50) {
		typ := pick(r, "*", "*", "customer", "deal", "customer.email")
		c := conditions[r.IntN(len(conditions))]
		for c.only != "" && c.only != typ && typ != wildcard {
			c = conditions[r.IntN(len(conditions))]
		}
		rules = append(rules, Permission(subject(), tenant(), typ,
			pick(r, "*", "read", "read", "update", "purge", "policy.edit"), pick(r, "allow", "allow", "allow", "allow", "deny"), c.text))
	}
	for range r.IntN(40) {
		rules = append(rules, Grant(subject(), RoleSubject(strconv.Itoa(r.IntN(14))), tenant()))
	}
	if r.IntN(3) == 0 {
		end := 9 + r.IntN(5)
		for i := range end {
			rules = append(rules, Grant(RoleSubject(strconv.Itoa(i)), RoleSubject(strconv.Itoa(i+1)), "t1"))
		}
	}
	for range r.IntN(4) {
		if len(rules) > 0 {
			rules = append(rules, pick(r, rules...))
		}
	}
	r.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
	return rules
}

func randomRequest(r *rand.Rand) authz.Request {
	q := authz.Request{
		Tenant:  pick(r, "t1", "t1", "t2", "t3"),
		Subject: authz.Entity{Type: pick(r, "user", "user", "role"), ID: strconv.Itoa(r.IntN(4))},
		Action:  pick(r, authz.Read, authz.Update, authz.Purge, authz.PolicyEdit, authz.Export),
		Resource: authz.Entity{Type: pick(r, "customer", "deal", "user"), ID: "x", Props: map[string]any{
			"owner": pick[any](r, nil, "0", "1"), "team": pick[any](r, nil, "sales", "support"),
			"state": pick[any](r, nil, "ACTIVE", "VOIDED", "DELETED"), "amount": pick[any](r, nil, 50, 100),
		}},
	}
	q.Subject.Props = map[string]any{"teams": pick(r, nil, []string{"sales"}, []string{"sales", "support"})}
	q.ActionProps = map[string]any{"soft": pick[any](r, nil, true, false, "true")}
	if q.Resource.Type == "customer" && r.IntN(3) == 0 {
		q.Field = pick(r, "email", "phone")
	}
	return q
}

func ofTenant(rules []Rule, tenant string) []Rule {
	var out []Rule
	for _, r := range rules {
		if r.Ptype == "p" && r.V[1] == tenant || r.Ptype == "g" && r.V[2] == tenant {
			out = append(out, r)
		}
	}
	return out
}

func requireSameAnswer(t *testing.T, e *stock.Enforcer, s *snapshot, q *authz.Request, rules []Rule) (permitted bool) {
	t.Helper()
	obj := q.Resource.Type
	if q.Field != "" {
		obj += "." + q.Field
	}
	subject := subjectOf(q.Subject)
	want, why, err := e.EnforceEx(subject, q.Tenant, obj, string(q.Action), q)
	require.NoError(t, err)
	in := s.input(q)
	effect, rule := s.decide(s.closures[subject], &in)
	var explained []string
	if rule != noRule {
		explained = s.rules[rule].Values()
	}
	if want != (effect == authz.Permit) || strings.Join(why, "|") != strings.Join(explained, "|") {
		t.Fatalf("%+v\nCasbin: %v by %v\nhere: %v by %v\n%v", q, want, why, effect, explained, rules)
	}
	return want
}

// checks is how many questions are asked of random policies. Casbin takes about 0.05 ms for each.
func checks() int {
	if os.Getenv("LETHE_LONG") != "" {
		return 1_000_000
	}
	return 20_000
}

// seed is printed, and taken from LETHE_SEED to see the same again.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("LETHE_SEED"), 10, 64); err == nil {
		n = s
	}
	t.Logf("LETHE_SEED=%d", n)
	return n
}

func TestDecisionsAndTheirRulesAreThoseOfCasbin(t *testing.T) {
	t.Parallel()
	const perPolicy = 100
	permitted, denied, seed := 0, 0, seed(t)
	for policy := range checks() / perPolicy {
		r := rand.New(rand.NewPCG(seed, uint64(policy)))
		rules := randomRules(r)
		e := oracle(t, rules)
		snapshots := map[string]*snapshot{}
		for range perPolicy {
			q := randomRequest(r)
			if snapshots[q.Tenant] == nil {
				s, err := compile(1, ofTenant(rules, q.Tenant), testSchema)
				require.NoError(t, err)
				snapshots[q.Tenant] = s
			}
			if requireSameAnswer(t, e, snapshots[q.Tenant], &q, rules) {
				permitted++
			} else {
				denied++
			}
		}
	}
	t.Logf("%d permitted, %d denied", permitted, denied)
	require.Greater(t, permitted, (permitted+denied)/50, "policies so strict that the test says nothing")
}

func TestTheDefaultPolicyIsAsCasbinReadsIt(t *testing.T) {
	t.Parallel()
	rules := DefaultRules("t1")
	for i, role := range DefaultRoles() {
		rules = append(rules, Grant(UserSubject(strconv.Itoa(i)), RoleSubject(role), "t1"))
	}
	e := oracle(t, rules)
	s, err := compile(1, rules, testSchema)
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		for _, a := range authz.Actions() {
			q := randomRequest(r)
			q.Tenant, q.Action = "t1", a
			q.Subject.Type, q.Subject.ID = "user", pick(r, "0", "1", "2", "3", "4", "5", "6", "system")
			requireSameAnswer(t, e, s, &q, rules)
		}
	}
}

func TestDecidingAllocatesNothing(t *testing.T) {
	rules := append(DefaultRules("t1"), Grant("user:1", "role:manager", "t1"))
	s, err := compile(1, rules, testSchema)
	require.NoError(t, err)
	q := authz.Request{
		Tenant: "t1", Action: authz.Read,
		Subject:  authz.Entity{Type: "user", ID: "1", Props: map[string]any{"teams": []string{"sales"}}},
		Resource: authz.Entity{Type: "customer", ID: "x", Props: map[string]any{"owner": "2", "team": "sales"}},
	}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		in := s.input(&q)
		if effect, _ := s.decide(s.users["1"], &in); effect != authz.Permit {
			t.Error("not permitted")
		}
	}))
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			rules := DefaultRules("t1")
			for i := range n {
				rules = append(rules, Permission(UserSubject(strconv.Itoa(i)), "t1", "customer", "read", "allow", "owner == me"))
			}
			rules = append(rules, Grant("user:1", "role:manager", "t1"))
			s, err := compile(1, rules, testSchema)
			require.NoError(b, err)
			q := authz.Request{
				Tenant: "t1", Action: authz.Read,
				Subject:  authz.Entity{Type: "user", ID: "1", Props: map[string]any{"teams": []string{"sales"}}},
				Resource: authz.Entity{Type: "customer", ID: "x", Props: map[string]any{"owner": "2", "team": "sales"}},
			}
			b.ReportAllocs()
			for b.Loop() {
				in := s.input(&q)
				if effect, _ := s.decide(s.users["1"], &in); effect != authz.Permit {
					b.Fatal("not permitted")
				}
			}
		})
	}
}
