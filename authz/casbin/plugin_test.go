package casbin_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
)

var vocabulary = casbin.Vocabulary{
	Schema: casbin.Schema{
		"customer":   {"owner": casbin.ID, "team": casbin.ID, "state": casbin.String},
		"deal":       {"owner": casbin.ID, "team": casbin.ID, "state": casbin.String, "amount": casbin.Int, "closesAt": casbin.Time},
		"user":       {},
		"auditEvent": {},
	},
	Fields: map[string][]string{"customer": {"email"}},
}

// memory is a Source.
type memory struct {
	sync.Mutex
	rules map[string][]casbin.Rule
	heads map[string]uint64
	err   error
	loads atomic.Int64
}

func newMemory() *memory {
	return &memory{rules: map[string][]casbin.Rule{}, heads: map[string]uint64{}}
}

func (m *memory) set(tenant string, rules ...casbin.Rule) {
	m.Lock()
	defer m.Unlock()
	m.rules[tenant] = rules
	m.heads[tenant]++
}

func (m *memory) fail(err error) {
	m.Lock()
	defer m.Unlock()
	m.err = err
}

func (m *memory) Head(_ context.Context, tenant string) (uint64, error) {
	m.Lock()
	defer m.Unlock()
	return m.heads[tenant], m.err
}

func (m *memory) Load(_ context.Context, tenant string) (uint64, []casbin.Rule, error) {
	m.loads.Add(1)
	m.Lock()
	defer m.Unlock()
	return m.heads[tenant], m.rules[tenant], m.err
}

type testingT interface {
	require.TestingT
	Helper()
}

func newPlugin(t testingT, m *memory) *casbin.Plugin {
	t.Helper()
	p, err := casbin.New(casbin.Options{Source: m, Vocabulary: vocabulary, Poll: 5 * time.Millisecond})
	require.NoError(t, err)
	return p
}

// ask asks the plugin through a chain of its own.
func ask(t testingT, p *casbin.Plugin, q authz.Request) authz.Decision {
	t.Helper()
	return newChain(t, p).Decide(context.Background(), []authz.Request{q})[0]
}

func newChain(t testingT, p *casbin.Plugin) *authz.Chain {
	t.Helper()
	c, err := authz.NewChain(nil, authz.Member{Name: "casbin", Plugin: p, Role: authz.Grant})
	require.NoError(t, err)
	return c
}

func user(id string, teams ...string) authz.Entity {
	return authz.Entity{Type: "user", ID: id, Props: map[string]any{"teams": teams}}
}

func record(typ string, props map[string]any) authz.Entity {
	return authz.Entity{Type: typ, ID: typ + "_1", Props: props}
}

func props(owner, team any) map[string]any {
	return map[string]any{"owner": owner, "team": team, "state": "ACTIVE", "amount": 1, "closesAt": nil}
}

// demo is the default policy with a user of each role, named like it.
func demo(t testingT) *casbin.Plugin {
	m := newMemory()
	rules := casbin.DefaultRules("t1")
	for _, role := range casbin.DefaultRoles() {
		rules = append(rules, casbin.Grant(casbin.UserSubject(role), casbin.RoleSubject(role), "t1"))
	}
	m.set("t1", rules...)
	return newPlugin(t, m)
}

func TestTheDefaultPolicyIsTheTableOfRoles(t *testing.T) {
	t.Parallel()
	p := demo(t)
	// What each role may do to a record that is its own, of its team, and of neither.
	const mine, ours, others = 1, 2, 4
	table := map[string]map[int]string{
		"viewer": {mine | ours: "read"},
		"agent":  {mine | ours: "read create update", mine: "delete archive suspend restore read_retired"},
		"manager": {
			mine | ours: "read create update delete archive suspend restore read_retired",
			ours:        "void export import approve operation.read",
		},
		"compliance": {mine | ours | others: "read read_retired hold.place hold.release hold.read retention.edit erase export export.read audit.read audit.verify operation.read"},
		"purger":     {mine | ours | others: "read read_retired purge operation.read"},
		"admin":      {},
		"system":     {mine | ours | others: "read read_retired delete void archive restore purge"},
		"nobody":     {},
	}
	for _, a := range authz.Actions() {
		if !a.IsRestricted() || a == authz.PolicyEdit {
			table["admin"][mine|ours|others] += " " + string(a)
		}
	}
	for who, rows := range table {
		for bit, r := range map[int]authz.Entity{
			mine:   record("customer", props(who, "elsewhere")),
			ours:   record("customer", props("somebody", "sales")),
			others: record("customer", props("somebody", nil)),
		} {
			for _, a := range authz.Actions() {
				want := false
				for bits, list := range rows {
					for listed := range strings.FieldsSeq(list) {
						want = want || bits&bit != 0 && listed == string(a)
					}
				}
				d := ask(t, p, authz.Request{Tenant: "t1", Subject: user(who, "sales"), Action: a, Resource: r})
				require.Equal(t, want, d.Permitted(), "%s %s %v", who, a, r.Props)
				require.Equal(t, uint64(1), d.Reasons[0].Version)
			}
		}
	}
}

func TestARuleAboutOwnersDoesNotApplyToTypesWithoutOne(t *testing.T) {
	t.Parallel()
	p := demo(t)
	q := authz.Request{Tenant: "t1", Subject: user("viewer", "sales"), Action: authz.Read}
	q.Resource = record("auditEvent", map[string]any{"owner": "viewer", "team": "sales"})
	d := ask(t, p, q)
	require.Equal(t, authz.Deny, d.Effect)
	require.Equal(t, authz.CodeNoMatchingRule, d.Reasons[0].Code)
	rows, _ := newChain(t, p).Plan(t.Context(), q)
	require.Equal(t, authz.False{}, rows)
	q.Subject = user("admin")
	require.True(t, ask(t, p, q).Permitted())
}

func TestCreatingIsJudgedOnTheRecordToBe(t *testing.T) {
	t.Parallel()
	p := demo(t)
	q := authz.Request{Tenant: "t1", Subject: user("agent", "sales"), Action: authz.Create, Resource: authz.Entity{Type: "customer"}}
	require.False(t, ask(t, p, q).Permitted(), "nothing is known of the record")
	q.Resource.Props = map[string]any{"owner": "agent"}
	require.True(t, ask(t, p, q).Permitted())
	q.Resource.Props = map[string]any{"owner": "other", "team": "support"}
	require.False(t, ask(t, p, q).Permitted())
	q.Resource.Props = map[string]any{"owner": "other", "team": "sales"}
	require.True(t, ask(t, p, q).Permitted())
}

func TestTheWildcardLeavesRestrictedActionsOut(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.set("t1", casbin.Permission("user:1", "t1", "*", "*", "allow", "any"))
	p := newPlugin(t, m)
	for _, a := range authz.Actions() {
		q := authz.Request{Tenant: "t1", Subject: user("1"), Action: a, Resource: record("customer", props("1", nil))}
		require.Equal(t, !a.IsRestricted(), ask(t, p, q).Permitted(), a)
		rows, _ := newChain(t, p).Plan(t.Context(), q)
		require.Equal(t, !a.IsRestricted(), authz.Match(rows, q.Resource.Props), a)
	}
}

func TestAUserNamedLikeARoleDoesNotHaveIt(t *testing.T) {
	t.Parallel()
	p := demo(t)
	for _, id := range []string{"role:admin", "user:admin", "user:system", "*"} {
		q := authz.Request{Tenant: "t1", Subject: user(id), Action: authz.Read, Resource: record("customer", props("x", nil))}
		require.False(t, ask(t, p, q).Permitted(), id)
	}
}

func TestAnIncompleteRequestIsDenied(t *testing.T) {
	t.Parallel()
	p := demo(t)
	whole := authz.Request{Tenant: "t1", Subject: user("admin"), Action: authz.Read, Resource: record("customer", props("x", nil))}
	require.True(t, ask(t, p, whole).Permitted())
	for name, spoil := range map[string]func(*authz.Request){
		"no tenant":       func(q *authz.Request) { q.Tenant = "" },
		"no subject":      func(q *authz.Request) { q.Subject.ID = "" },
		"no subject type": func(q *authz.Request) { q.Subject.Type = "" },
		"strange subject": func(q *authz.Request) { q.Subject.Type = "robot" },
		"no action":       func(q *authz.Request) { q.Action = "" },
		"every action":    func(q *authz.Request) { q.Action = "*" },
		"no type":         func(q *authz.Request) { q.Resource.Type = "" },
		"every type":      func(q *authz.Request) { q.Resource.Type = "*" },
		"a field as type": func(q *authz.Request) { q.Resource.Type = "customer.email" },
	} {
		q := whole
		spoil(&q)
		require.Equal(t, authz.CodeIncomplete, ask(t, p, q).Reasons[0].Code, name)
		rows, _ := newChain(t, p).Plan(t.Context(), q)
		require.Equal(t, authz.False{}, rows, name)
	}
}

func TestARecordWithoutAnAttributeItsTypeHasIsDenied(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.set("t1",
		casbin.Permission("user:1", "t1", "deal", "read", "allow", "any"),
		casbin.Permission("user:1", "t1", "deal", "read", "deny", "amount > 100"),
		casbin.Permission("user:1", "t1", "deal", "update", "allow", "not amount > 100"),
	)
	p := newPlugin(t, m)
	for _, a := range []authz.Action{authz.Read, authz.Update} {
		q := authz.Request{Tenant: "t1", Subject: user("1"), Action: a}
		q.Resource = record("deal", map[string]any{"amount": nil})
		require.True(t, ask(t, p, q).Permitted(), "null is not over 100")
		q.Resource = record("deal", map[string]any{"amount": 101})
		require.False(t, ask(t, p, q).Permitted())
		q.Resource = record("deal", nil)
		require.False(t, ask(t, p, q).Permitted())
		q.Resource = authz.Entity{Type: "deal"}
		require.True(t, ask(t, p, q).Permitted(), "the type as a whole has no amount")
	}
}

func TestAFieldIsReadableWithItsRecordUnlessARuleDeniesIt(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.set("t1",
		casbin.Permission("user:1", "t1", "customer", "read", "allow", "any"),
		casbin.Permission("user:1", "t1", "customer.email", "read", "deny", "owner != me"),
	)
	p := newPlugin(t, m)
	q := authz.Request{Tenant: "t1", Subject: user("1"), Action: authz.Read, Resource: record("customer", props("2", nil))}
	require.True(t, ask(t, p, q).Permitted())
	q.Field = "phone"
	require.True(t, ask(t, p, q).Permitted())
	q.Field = "email"
	require.False(t, ask(t, p, q).Permitted())
	q.Resource.Props["owner"] = "1"
	require.True(t, ask(t, p, q).Permitted())
}

func TestABadRowClosesItsTenantAndNoOther(t *testing.T) {
	t.Parallel()
	good := casbin.Permission("user:1", "t1", "customer", "read", "allow", "any")
	m := newMemory()
	m.set("t1", good, casbin.Permission("user:2", "t1", "customer", "read", "Deny", "any"))
	m.set("t2", casbin.Permission("user:1", "t2", "customer", "read", "allow", "any"))
	m.set("t3", good) // another tenant's row
	p := newPlugin(t, m)
	q := authz.Request{Tenant: "t1", Subject: user("1"), Action: authz.Read, Resource: record("customer", props("1", nil))}
	d := ask(t, p, q)
	require.Equal(t, authz.Deny, d.Effect)
	require.Equal(t, authz.CodePolicyInvalid, d.Reasons[0].Code)
	rows, _ := newChain(t, p).Plan(t.Context(), q)
	require.Equal(t, authz.False{}, rows)
	ever, err := p.CouldEver(t.Context(), "t1", q.Subject, q.Action, "customer")
	require.Error(t, err)
	require.False(t, ever)
	q.Tenant = "t3"
	require.Equal(t, authz.CodePolicyInvalid, ask(t, p, q).Reasons[0].Code)
	q.Tenant = "t2"
	require.True(t, ask(t, p, q).Permitted())

	m.set("t1", good)
	require.NoError(t, p.Refresh(t.Context(), "t1"))
	q.Tenant = "t1"
	require.True(t, ask(t, p, q).Permitted(), "mended")
}

func TestAPolicyThatCannotBeLoadedDenies(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.set("t1", casbin.Permission("user:1", "t1", "customer", "read", "allow", "any"))
	m.fail(errors.New("no database"))
	p := newPlugin(t, m)
	q := authz.Request{Tenant: "t1", Subject: user("1"), Action: authz.Read, Resource: record("customer", props("1", nil))}
	d := ask(t, p, q)
	require.Equal(t, authz.CodePluginError, d.Reasons[0].Code)
	require.False(t, d.Permitted())
	rows, _ := newChain(t, p).Plan(t.Context(), q)
	require.Equal(t, authz.False{}, rows)
	m.fail(nil)
	require.True(t, ask(t, p, q).Permitted())
}

func TestManyFirstRequestsLoadAPolicyOnce(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.set("t1", casbin.Permission("user:1", "t1", "customer", "read", "allow", "any"))
	p := newPlugin(t, m)
	q := authz.Request{Tenant: "t1", Subject: user("1"), Action: authz.Read, Resource: record("customer", props("1", nil))}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			ds, err := p.Decide(context.Background(), []authz.Request{q})
			if err != nil || !ds[0].Permitted() {
				t.Error(ds, err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(1), m.loads.Load())
}

func TestAChangeArrivesByPollingButNotInAnOperationUnderWay(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.set("t1", casbin.Permission("user:1", "t1", "customer", "read", "allow", "any"))
	p := newPlugin(t, m)
	chain := newChain(t, p)
	q := []authz.Request{{Tenant: "t1", Subject: user("1"), Action: authz.Read, Resource: record("customer", props("1", nil))}}
	underWay, err := chain.Pin(t.Context(), "t1")
	require.NoError(t, err)
	done := make(chan error)
	ctx, stop := context.WithCancel(t.Context())
	go func() { done <- p.Run(ctx) }()
	m.set("t1")
	require.Eventually(t, func() bool { return !chain.Decide(t.Context(), q)[0].Permitted() }, 10*time.Second, time.Millisecond)
	require.Equal(t, uint64(2), chain.Version(t.Context(), "t1"))
	require.True(t, chain.Decide(underWay, q)[0].Permitted())
	require.Equal(t, uint64(1), chain.Version(underWay, "t1"))
	stop()
	require.NoError(t, <-done)
}

func TestRolesAreListedWithThoseTheyInclude(t *testing.T) {
	t.Parallel()
	p := demo(t)
	roles, err := p.RolesOf(t.Context(), "t1", user("manager"))
	require.NoError(t, err)
	require.Equal(t, []string{"manager", "agent", "viewer"}, roles)
	for _, nobody := range []authz.Entity{user("x"), user(""), {Type: "robot", ID: "admin"}} {
		roles, err = p.RolesOf(t.Context(), "t1", nobody)
		require.NoError(t, err)
		require.Empty(t, roles)
	}
}

func TestWhatASubjectCouldEverDo(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.set("t1", append(casbin.DefaultRules("t1"),
		casbin.Grant("user:1", "role:viewer", "t1"),
		casbin.Grant("user:2", "role:admin", "t1"),
		casbin.Permission("user:2", "t1", "deal", "read", "deny", "not (owner == me and not any)"),
		casbin.Permission("user:2", "t1", "deal", "update", "deny", "owner != me"))...)
	p := newPlugin(t, m)
	for _, c := range []struct {
		user   string
		action authz.Action
		typ    string
		want   bool
	}{
		{"1", authz.Read, "customer", true},
		{"1", authz.Read, "auditEvent", false}, // has no owner
		{"1", authz.Update, "customer", false},
		{"2", authz.Read, "auditEvent", true},
		{"2", authz.Purge, "customer", false},
		{"2", authz.Read, "deal", false}, // denied always
		{"2", authz.Update, "deal", true},
		{"3", authz.Read, "customer", false},
	} {
		got, err := p.CouldEver(t.Context(), "t1", user(c.user), c.action, c.typ)
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%v", c)
	}
}

func TestAnExplanationNamesRulesPathsAndValues(t *testing.T) {
	t.Parallel()
	p := demo(t)
	why := newChain(t, p).Explain(t.Context(), authz.Request{
		Tenant: "t1", Subject: user("manager", "sales"), Action: authz.Delete,
		Resource: record("customer", props("x", "sales")),
	})
	require.Len(t, why, 2)
	byCode := map[authz.Code]authz.Reason{}
	for _, r := range why {
		byCode[r.Code] = r
	}
	require.Equal(t, "p,role:manager,t1,*,delete,allow,team in my.teams", byCode[authz.CodeRulePermit].Rule)
	require.Equal(t, "user:manager > role:manager; team = sales", byCode[authz.CodeRulePermit].Detail)
	require.Equal(t, "user:manager > role:manager > role:agent; owner = x", byCode[authz.CodeConditionFailed].Detail)
}

func TestTheRowsOfAPlanAreThoseThatDecideThePermits(t *testing.T) {
	t.Parallel()
	texts := []string{
		"any", "owner == me", "owner != me", "team in my.teams", "state == VOIDED", "state in (ACTIVE, VOIDED)",
		"not state == VOIDED", "action.soft == true", "context.hour < 12", "not (owner == me or team in my.teams)",
		"owner == me and not (state == VOIDED or action.soft == true)", "owner == 'u2'",
	}
	dealOnly := append([]string{"amount < 10", "amount in (5, 10)", "not amount >= 10", `closesAt < "2026-01-01T00:00:00Z"`}, texts...)
	rapid.Check(t, func(t *rapid.T) {
		var rules []casbin.Rule
		for range rapid.IntRange(1, 8).Draw(t, "rules") {
			typ := rapid.SampledFrom([]string{"*", "customer", "deal"}).Draw(t, "type")
			cond := rapid.SampledFrom(texts).Draw(t, "condition")
			if typ != "customer" {
				cond = rapid.SampledFrom(dealOnly).Draw(t, "condition")
			}
			rules = append(rules, casbin.Permission(
				rapid.SampledFrom([]string{"user:u1", "role:a", "role:b"}).Draw(t, "subject"), "t1", typ,
				rapid.SampledFrom([]string{"*", "read", "purge"}).Draw(t, "action"),
				rapid.SampledFrom([]string{"allow", "allow", "deny"}).Draw(t, "effect"), cond))
		}
		rules = append(rules, casbin.Grant("user:u1", "role:a", "t1"))
		if rapid.Bool().Draw(t, "inherit") {
			rules = append(rules, casbin.Grant("role:a", "role:b", "t1"))
		}
		m := newMemory()
		m.set("t1", rules...)
		chain := newChain(t, newPlugin(t, m))
		at := time.Date(2025, 12, 1, 0, 0, 0, 0, time.FixedZone("x", 7200))
		q := authz.Request{
			Tenant:      "t1",
			Subject:     user("u1", rapid.SliceOfN(rapid.SampledFrom([]string{"sales", "support"}), 0, 2).Draw(t, "teams")...),
			Action:      rapid.SampledFrom([]authz.Action{authz.Read, authz.Purge}).Draw(t, "asked"),
			ActionProps: map[string]any{"soft": rapid.SampledFrom([]any{nil, true, false}).Draw(t, "soft")},
			Context:     map[string]any{"hour": rapid.SampledFrom([]any{nil, 9, 15}).Draw(t, "hour")},
			Resource:    authz.Entity{Type: rapid.SampledFrom([]string{"customer", "deal", "user"}).Draw(t, "asked type")},
		}
		rows, why := chain.Plan(context.Background(), q)
		for range 5 {
			row := map[string]any{
				"owner":    rapid.SampledFrom([]any{nil, "u1", "u2", "U1"}).Draw(t, "owner"),
				"team":     rapid.SampledFrom([]any{nil, "sales", "support"}).Draw(t, "team"),
				"state":    rapid.SampledFrom([]any{nil, "ACTIVE", "VOIDED", "voided"}).Draw(t, "state"),
				"amount":   rapid.SampledFrom([]any{nil, 5, 10}).Draw(t, "amount"),
				"closesAt": rapid.SampledFrom([]any{nil, at, at.AddDate(1, 0, 0)}).Draw(t, "closesAt"),
			}
			q.Resource.ID, q.Resource.Props = "1", row
			d := chain.Decide(context.Background(), []authz.Request{q})[0]
			require.Equal(t, d.Permitted(), authz.Match(rows, row), "%v\n%#v\n%v\n%v", rules, rows, why, d)
		}
	})
}

// told is a source that can be watched, until it is cut off.
type told struct {
	*memory
	watches atomic.Int64
	changed chan string
	cut     chan struct{}
}

func (s *told) Watch(ctx context.Context, changed func(string)) error {
	s.watches.Add(1)
	changed("")
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.cut:
			return errors.New("cut off")
		case tenant := <-s.changed:
			changed(tenant)
		}
	}
}

func TestAWatchedPolicyIsFreshWithoutThePoll(t *testing.T) {
	t.Parallel()
	rule := func(tenant string) casbin.Rule {
		return casbin.Permission("user:1", tenant, "customer", "read", "allow", "any")
	}
	s := &told{memory: newMemory(), changed: make(chan string), cut: make(chan struct{})}
	var mu sync.Mutex
	var failures []error
	p, err := casbin.New(casbin.Options{Source: s, Vocabulary: vocabulary, Poll: time.Hour, OnLoad: func(_ string, _ uint64, _ []casbin.Finding, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failures = append(failures, err)
		}
	}})
	require.NoError(t, err)
	permitted := func(tenant string) bool {
		return ask(t, p, authz.Request{Tenant: tenant, Subject: user("1"), Action: authz.Read, Resource: record("customer", props("1", nil))}).Permitted()
	}
	eventually := func(tenant string, want bool) {
		t.Helper()
		require.Eventually(t, func() bool { return permitted(tenant) == want }, 10*time.Second, time.Millisecond)
	}
	for _, tenant := range []string{"t1", "t2"} {
		s.set(tenant, rule(tenant))
		require.True(t, permitted(tenant))
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()

	s.set("t1")
	s.set("t2")
	s.changed <- "t1"
	eventually("t1", false)
	s.changed <- "t3" // not in use
	s.changed <- "t2"
	eventually("t2", false)

	// What changes while nobody watches is seen once somebody does again.
	s.set("t1", rule("t1"))
	s.cut <- struct{}{}
	eventually("t1", true)
	s.set("t2", rule("t2"))
	s.cut <- struct{}{}
	eventually("t2", true)
	require.EqualValues(t, 3, s.watches.Load())
	cancel()
	require.NoError(t, <-ended)
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, failures, 2, "each cut is reported, the end is not")
}

func TestOfNamesThatRulesCannotSayNoneSpeaks(t *testing.T) {
	t.Parallel()
	const tenant = "t1"
	m := newMemory()
	m.set(tenant, casbin.Permission("user:a", tenant, "*", "*", "allow", "any"), casbin.Permission("user:a", tenant, "*", "*", "deny", "state == VOIDED"))
	p := newPlugin(t, m)
	for _, q := range []authz.Request{
		{Action: "READ", Resource: record("customer", props("a", nil))},
		{Action: "read ", Resource: record("customer", props("a", nil))},
		{Action: authz.Read, Resource: record("Customer", props("a", nil))},
		{Action: authz.Read, Resource: record("nothing", props("a", nil))},
	} {
		q.Tenant, q.Subject = tenant, user("a")
		ds, err := p.Decide(t.Context(), []authz.Request{q})
		require.NoError(t, err)
		require.Equal(t, authz.NotApplicable, ds[0].Effect, "others may know it")
		require.Equal(t, authz.CodeNoMatchingRule, ds[0].Reasons[0].Code)
		q.Resource.ID = ""
		plan, err := p.Plan(t.Context(), q)
		require.NoError(t, err)
		require.Equal(t, authz.False{}, plan.Permit)
		require.Equal(t, authz.False{}, plan.Deny)
	}
}
