package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	stock "github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/model"
	"github.com/casbin/casbin/v2/persist"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/access"
)

// policySizes are of how many rules the policies have that decisions are
// measured with.
var policySizes = []int{100, 1_000, 10_000, 100_000}

const (
	benchTenant = "t"
	users       = 8_192
	// distinct is how many different requests there are: more than fit a cache
	// of answers that somebody might be tempted to build.
	distinct = 65_536
	// batchSize is how many decisions an operation asks for at once.
	batchSize = 1_000
)

// kinds of conditions, each in the language and as what it means for stock
// Casbin, which has a function for them.
var meanings = map[string]func(r *authz.Request) bool{
	"any":         func(*authz.Request) bool { return true },
	"owner == me": func(r *authz.Request) bool { return r.Resource.Props["owner"] == r.Subject.ID },
	"team in my.teams": func(r *authz.Request) bool {
		teams, _ := r.Subject.Props["teams"].([]string)
		for _, t := range teams {
			if r.Resource.Props["team"] == t {
				return true
			}
		}
		return false
	},
	"state == VOIDED": func(r *authz.Request) bool { return r.Resource.Props["state"] == "VOIDED" },
}

// manyRules are the default policy, users with roles of it, and rules about
// single users and roles, n in all.
func manyRules(n int) []casbin.Rule {
	rules := casbin.DefaultRules(benchTenant)
	roles, types := casbin.DefaultRoles(), []string{"Customer", "Contact", "Deal", "Message"}
	conditions, actions := []string{"owner == me", "team in my.teams", "state == VOIDED", "any"}, []string{"read", "update", "delete", "restore"}
	for i := 0; len(rules) < n; i++ {
		user := casbin.UserSubject(fmt.Sprint(i % users))
		switch i % 3 {
		case 0:
			rules = append(rules, casbin.Grant(user, casbin.RoleSubject(roles[i%len(roles)]), benchTenant))
		case 1:
			rules = append(rules, casbin.Permission(user, benchTenant, types[i/3%4], actions[i/12%4], "allow", conditions[i/48%4]))
		default:
			rules = append(rules, casbin.Permission(casbin.RoleSubject(fmt.Sprint("r", i)), benchTenant, types[i/3%4], actions[i/12%4], []string{"allow", "deny"}[i/48%2], conditions[i/96%4]))
		}
	}
	return rules
}

func manyRequests() []authz.Request {
	types, states := []string{"Customer", "Contact", "Deal", "Message"}, []string{"ACTIVE", "VOIDED"}
	out := make([]authz.Request, distinct)
	for i := range out {
		out[i] = authz.Request{
			Tenant: benchTenant, Action: []authz.Action{authz.Read, authz.Delete}[i/users/4%2],
			Subject: authz.Entity{Type: "user", ID: fmt.Sprint(i % users), Props: map[string]any{"teams": []string{"sales"}}},
			Resource: authz.Entity{Type: types[i/users%4], ID: "x", Props: map[string]any{
				"owner": fmt.Sprint(i % 7), "team": []string{"sales", "support"}[i%2], "state": states[i/2%2],
			}},
		}
	}
	return out
}

// fixed is a policy that is there.
type fixed []casbin.Rule

func (fixed) Head(context.Context, string) (uint64, error) { return 1, nil }

func (f fixed) Load(context.Context, string) (uint64, []casbin.Rule, error) { return 1, f, nil }

func stockEnforcer(rules []casbin.Rule) (*stock.Enforcer, error) {
	m, err := model.NewModelFromString(casbin.Model)
	if err != nil {
		return nil, err
	}
	e, err := stock.NewEnforcer(m)
	if err != nil {
		return nil, err
	}
	for _, r := range rules {
		if err := persist.LoadPolicyLine(r.String(), e.GetModel()); err != nil {
			return nil, err
		}
	}
	e.AddFunction("covers", func(args ...any) (any, error) {
		obj, isText := args[0].(string)
		typ, isTextToo := args[1].(string)
		return isText && isTextToo && strings.HasPrefix(obj, typ+"."), nil
	})
	e.AddFunction("holds", func(args ...any) (any, error) {
		condition, isText := args[0].(string)
		r, isRequest := args[3].(*authz.Request)
		if !isText || !isRequest {
			return nil, fmt.Errorf("holds of %T and %T", args[0], args[3])
		}
		if means := meanings[condition]; means != nil {
			return means(r), nil
		}
		return meanings["owner == me"](r) || meanings["team in my.teams"](r), nil // of the default policy
	})
	return e, e.BuildRoleLinks()
}

// measured is the figures of one way to decide.
type measured struct {
	time   time.Duration // a decision
	allocs float64       // a decision
}

func of(r testing.BenchmarkResult, decisions int) measured {
	per := float64(r.N) * float64(decisions)
	return measured{time.Duration(float64(r.T) / per), float64(r.MemAllocs) / per}
}

func (m measured) String() string {
	return fmt.Sprintf("%s | %.3g", m.time, m.allocs)
}

// agree checks that as many requests as are asked for are decided alike.
func agree(ctx context.Context, chain *authz.Chain, enforcer *stock.Enforcer, requests []authz.Request, checks int) error {
	for i := range checks {
		r := &requests[i*7919%len(requests)]
		want, err := enforcer.Enforce(casbin.UserSubject(r.Subject.ID), benchTenant, r.Resource.Type, string(r.Action), r)
		if err != nil {
			return err
		}
		if got := chain.Decide(ctx, []authz.Request{*r})[0].Permitted(); got != want {
			return fmt.Errorf("%v is %v here and %v by Casbin", r, got, want)
		}
	}
	return nil
}

// decisions measures how long decisions take, beside stock Casbin on the same
// rules and requests, and checks that both say the same.
func decisions(ctx context.Context) (string, error) {
	requests := manyRequests()
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s/%s.\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	b.WriteString("| rules | compile | memory | hot | allocations | 65,536 distinct | allocations | through the chain | allocations | stock Casbin | allocations |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, n := range policySizes {
		rules := manyRules(n)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		start := time.Now()
		plugin, err := casbin.New(casbin.Options{Source: fixed(rules), Vocabulary: access.Vocabulary()})
		if err != nil {
			return "", err
		}
		if err := plugin.Refresh(ctx, benchTenant); err != nil {
			return "", err
		}
		compile := time.Since(start)
		runtime.GC()
		runtime.ReadMemStats(&after)
		chain, err := authz.NewChain(nil, authz.Member{Name: "casbin", Plugin: plugin, Role: authz.Grant})
		if err != nil {
			return "", err
		}
		enforcer, err := stockEnforcer(rules)
		if err != nil {
			return "", err
		}
		if err := agree(ctx, chain, enforcer, requests, 2_000_000/n); err != nil { // it takes stock Casbin a second or two
			return "", fmt.Errorf("%d rules: %w", n, err)
		}
		hotBatch := make([]authz.Request, batchSize)
		for i := range hotBatch {
			hotBatch[i] = requests[0]
		}
		decide := func(batch func(i int) []authz.Request) measured {
			return of(testing.Benchmark(func(b *testing.B) { //nolint:thelper // it is the benchmark
				b.ReportAllocs()
				for i := range b.N {
					if _, err := plugin.Decide(ctx, batch(i)); err != nil {
						b.Fatal(err)
					}
				}
			}), batchSize)
		}
		slices := distinct / batchSize
		of1000 := func(i int) []authz.Request { return requests[i%slices*batchSize:][:batchSize] }
		hot, cold := decide(func(int) []authz.Request { return hotBatch }), decide(of1000)
		chained := of(testing.Benchmark(func(b *testing.B) { //nolint:thelper // as above
			b.ReportAllocs()
			for i := range b.N {
				chain.Decide(ctx, of1000(i))
			}
		}), batchSize)
		theirs := of(testing.Benchmark(func(b *testing.B) { //nolint:thelper // as above
			b.ReportAllocs()
			for i := range b.N {
				r := &requests[i*7919%distinct]
				if _, err := enforcer.Enforce(casbin.UserSubject(r.Subject.ID), benchTenant, r.Resource.Type, string(r.Action), r); err != nil {
					b.Fatal(err)
				}
			}
		}), 1)
		fmt.Fprintf(&b, "| %d | %s | %.1f MB | %s | %s | %s | %s |\n", n, compile.Round(10*time.Microsecond),
			(float64(after.HeapAlloc)-float64(before.HeapAlloc))/1e6, hot, cold, chained, theirs)
		runtime.KeepAlive(plugin)
	}
	return b.String(), nil
}
