package access_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
)

func init() { authz.Register("stamp", newStamp) }

// stamp permits everything, and signs with its number. It answers nothing once
// it is closed.
type stamp struct {
	n      int
	closed atomic.Bool
}

var stamps sync.Map // of int to *stamp

func newStamp(_ context.Context, _ string, config json.RawMessage) (authz.Plugin, error) {
	n, err := authz.Decode[int](config)
	s := &stamp{n: n}
	stamps.Store(n, s)
	return s, err
}

func (s *stamp) Decide(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	if s.closed.Load() {
		return nil, errors.New("closed")
	}
	ds := make([]authz.Decision, len(reqs))
	for i := range ds {
		ds[i] = authz.Decision{Effect: authz.Permit, Reasons: []authz.Reason{{Rule: fmt.Sprint(s.n)}}}
	}
	return ds, nil
}

func (s *stamp) Close() error {
	s.closed.Store(true)
	return nil
}

// stamped is a chain of the policy, which says nothing, and a stamp.
func stamped(t *testing.T, n int) []authz.Config {
	t.Helper()
	members, err := chain(t, fmt.Sprintf(`[{"name": "policy", "kind": "casbin", "role": "grant"}, {"name": "stamp", "kind": "stamp", "role": "grant", "config": %d}]`, n))
	require.NoError(t, err)
	return members
}

func someone() *actor.Actor {
	return &actor.Actor{Kind: actor.Token, Tenant: gid.New(gid.Tenant), User: gid.New(gid.User)}
}

func TestAnOperationKeepsItsChainWhileChainsAreReplaced(t *testing.T) {
	t.Parallel()
	const first, last = 1000, 1040
	control, err := access.New(fixed{}, nil, stamped(t, first)...)
	require.NoError(t, err)
	a := someone()
	question := []access.Question{access.Of(authz.Read, &ent.Customer{ID: gid.New(gid.Customer)})}
	stop := make(chan struct{})
	var working sync.WaitGroup
	seen := make([]map[string]bool, 4)
	for i := range seen {
		seen[i] = map[string]bool{}
		working.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ctx, err := control.Pin(t.Context(), a.Tenant)
				if err != nil {
					t.Error(err)
					return
				}
				var rule string
				for range 20 {
					ctx, err = control.Pin(ctx, a.Tenant) // as what is called by an operation does
					if err != nil {
						t.Error(err)
					}
					d := control.Decide(ctx, a, question)[0]
					if rule == "" {
						rule = d.Rule
					}
					if !d.Permit || d.Rule != rule {
						t.Errorf("one operation was judged by %s and by %s", rule, d.Rule)
						return
					}
					runtime.Gosched()
				}
				seen[i][rule] = true
			}
		})
	}
	for n := first + 1; n <= last; n++ {
		require.NoError(t, control.Reload(t.Context(), stamped(t, n), func(err error) {
			if err != nil {
				t.Error(err)
			}
		}))
		runtime.GC()
	}
	require.Equal(t, fmt.Sprint(last), control.Decide(t.Context(), a, question)[0].Rule)
	close(stop)
	working.Wait()
	all := map[string]bool{}
	for _, some := range seen {
		for rule := range some {
			all[rule] = true
		}
	}
	require.Greater(t, len(all), 2, "chains were replaced while somebody asked")
	open := func() (count int) {
		for n := first; n <= last; n++ {
			s, _ := stamps.Load(n)
			if !s.(*stamp).closed.Load() {
				count++
			}
		}
		return count
	}
	require.Eventually(t, func() bool { runtime.GC(); return open() == 1 }, 10*time.Second, time.Millisecond, "what the old chains held is closed")
	require.Eventually(t, func() bool { return access.Retired(control) == 0 }, 10*time.Second, time.Millisecond, "and forgotten")
	require.NoError(t, control.Close())
	require.Zero(t, open())
}

func TestAChainThatCannotBeBuiltReplacesNothing(t *testing.T) {
	t.Parallel()
	control, err := access.New(fixed{}, nil, stamped(t, 1)...)
	require.NoError(t, err)
	a := someone()
	for name, text := range map[string]string{
		"no policy":         `[{"name": "stamp", "kind": "stamp", "role": "grant", "config": 2}]`,
		"bad configuration": `[{"name": "policy", "kind": "casbin", "role": "grant"}, {"name": "stamp", "kind": "stamp", "role": "grant", "config": "two"}]`,
		"unknown kind":      `[{"name": "policy", "kind": "casbin", "role": "grant"}, {"name": "stamp", "kind": "stump"}]`,
	} {
		members, err := chain(t, text)
		require.NoError(t, err)
		require.Error(t, control.Reload(t.Context(), members, nil), name)
		require.Equal(t, "1", control.Decide(t.Context(), a, []access.Question{{Action: authz.Read, Type: "Customer"}})[0].Rule, name)
	}
}

func TestWhatCannotBeUndoneIsJudgedByTheChainOfNow(t *testing.T) {
	t.Parallel()
	control, err := access.New(fixed{}, nil, stamped(t, 11)...)
	require.NoError(t, err)
	a := someone()
	ctx, err := control.Pin(t.Context(), a.Tenant)
	require.NoError(t, err)
	require.NoError(t, control.Reload(t.Context(), stamped(t, 12), func(error) {}))
	rule := func(ctx context.Context) string {
		return control.Decide(ctx, a, []access.Question{{Action: authz.Read, Type: "Customer"}})[0].Rule
	}
	require.Equal(t, "11", rule(ctx))
	now, err := control.Repin(ctx, a.Tenant)
	require.NoError(t, err)
	require.Equal(t, "12", rule(now))
	require.NoError(t, control.Reload(t.Context(), stamped(t, 13), func(error) {}))
	require.Equal(t, "12", rule(now), "and keeps it")
}

// dated permits by the day that it is, which operations keep.
type dated struct{}

var today atomic.Int64

type dayKey struct{}

func (dated) Pin(ctx context.Context, _ string) (context.Context, error) {
	return context.WithValue(ctx, dayKey{}, today.Load()), nil
}

func (dated) Decide(ctx context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	ds := make([]authz.Decision, len(reqs))
	for i := range ds {
		ds[i] = authz.Decision{Effect: authz.Permit, Reasons: []authz.Reason{{Rule: fmt.Sprint(ctx.Value(dayKey{}))}}}
	}
	return ds, nil
}

func TestWhatCannotBeUndoneIsJudgedByEveryMembersPolicyOfNow(t *testing.T) {
	t.Parallel()
	authz.Register("dated", func(context.Context, string, json.RawMessage) (authz.Plugin, error) { return dated{}, nil })
	members, err := chain(t, `[{"name": "policy", "kind": "casbin", "role": "grant"}, {"name": "dated", "kind": "dated", "role": "grant"}]`)
	require.NoError(t, err)
	control, err := access.New(fixed{}, nil, members...)
	require.NoError(t, err)
	a := someone()
	rule := func(ctx context.Context) string {
		return control.Decide(ctx, a, []access.Question{{Action: authz.Read, Type: "Customer"}})[0].Rule
	}
	ctx, err := control.Pin(t.Context(), a.Tenant)
	require.NoError(t, err)
	today.Store(1)
	require.Equal(t, "0", rule(ctx))
	now, err := control.Repin(ctx, a.Tenant)
	require.NoError(t, err)
	require.Equal(t, "1", rule(now))
	today.Store(2)
	require.Equal(t, "1", rule(now), "and keeps it")
}

func TestListsAreOfThePinnedChainToo(t *testing.T) {
	t.Parallel()
	a := someone()
	rules := fixed{casbin.Permission(casbin.UserSubject(a.User.String()), a.Tenant.String(), "*", "*", "allow", "any")}
	control, err := access.New(rules, nil)
	require.NoError(t, err)
	ctx, err := control.Pin(t.Context(), a.Tenant)
	require.NoError(t, err)
	require.NoError(t, control.Reload(t.Context(), stamped(t, 31), func(error) {})) // a stamp cannot plan
	where := func(ctx context.Context) string {
		s := sql.Select().From(sql.Table("customers"))
		control.Rows(ctx, a).Where(s, "Customer")
		query, _ := s.Query()
		return query
	}
	require.NotContains(t, where(ctx), "1 = 0")
	require.Contains(t, where(t.Context()), "1 = 0")
}

func TestTheChainsOfAllReloadsAreObserved(t *testing.T) {
	t.Parallel()
	control, err := access.New(fixed{}, nil)
	require.NoError(t, err)
	var asked atomic.Int32
	control.Observe(func(_ context.Context, call authz.Call) { asked.Add(int32(call.Requests)) })
	ask := func() { control.Decide(t.Context(), someone(), make([]access.Question, 3)) }
	ask()
	require.EqualValues(t, 3, asked.Load())
	require.NoError(t, control.Reload(t.Context(), nil, func(error) {}))
	ask()
	require.EqualValues(t, 6, asked.Load())
}

// versions is a policy that changes.
type versions struct {
	mu    sync.Mutex
	head  uint64
	rules []casbin.Rule
}

func (v *versions) set(rules ...casbin.Rule) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.head, v.rules = v.head+1, rules
}

func (v *versions) Head(context.Context, string) (uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.head, nil
}

func (v *versions) Load(context.Context, string) (uint64, []casbin.Rule, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.head, v.rules, nil
}

func TestOnlyWhatAPolicyLooksAtIsGathered(t *testing.T) {
	t.Parallel()
	a := someone()
	tenant, subject := a.Tenant.String(), casbin.UserSubject(a.User.String())
	own := func(condition string) casbin.Rule {
		return casbin.Permission(subject, tenant, "Customer", "read", "allow", condition)
	}
	for name, c := range map[string]struct {
		rules []casbin.Rule
		want  bool
		read  []string
	}{
		"nothing":                      {[]casbin.Rule{own("any")}, true, nil},
		"one, which holds":             {[]casbin.Rule{own("name == 'a'")}, true, []string{"name"}},
		"one, which does not":          {[]casbin.Rule{own("name == 'b'")}, false, []string{"name"}},
		"null is not missing":          {[]casbin.Rule{own("not phone == 'b'")}, true, []string{"phone"}},
		"below not, and, or":           {[]casbin.Rule{own("not (kind == PERSON) and (owner == me or state == ACTIVE)")}, true, []string{"kind", "owner_id", "state"}},
		"of a set":                     {[]casbin.Rule{own("kind in (COMPANY, PERSON) or team in my.teams")}, true, []string{"kind", "team_id"}},
		"of rules about every type":    {[]casbin.Rule{own("name == 'a'"), casbin.Permission(subject, tenant, "*", "read", "deny", "state == ACTIVE")}, false, []string{"name", "state"}},
		"of other actions and persons": {[]casbin.Rule{own("any"), casbin.Permission(casbin.RoleSubject("x"), tenant, "Customer", "delete", "allow", "name == 'b'")}, true, []string{"name"}},
		"not of other types":           {[]casbin.Rule{own("any"), casbin.Permission(subject, tenant, "Deal", "read", "allow", "name == 'b'")}, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := &versions{}
			source.set(c.rules...)
			control, err := access.New(source, func(_ string, _ uint64, findings []casbin.Finding, err error) {
				require.NoError(t, err)
				for _, f := range findings {
					require.NotEqual(t, casbin.Error, f.Severity, f.String())
				}
			})
			require.NoError(t, err)
			r := &reading{Record: &ent.Customer{ID: gid.New(gid.Customer), Name: "a", Kind: "COMPANY", State: "ACTIVE"}}
			require.Equal(t, c.want, control.May(t.Context(), a, access.Of(authz.Read, r)))
			require.ElementsMatch(t, c.read, r.columns)
			q := access.Question{Action: authz.Read, Type: "Customer", ID: r.RecordID(), Props: access.RecordProps(r)}
			require.Equal(t, c.want, control.May(t.Context(), a, q), "with all attributes")
		})
	}
}

// reading notes which columns are read.
type reading struct {
	ent.Record
	columns []string
}

func (r *reading) Column(name string) any {
	r.columns = append(r.columns, name)
	return r.Record.Column(name)
}

func TestAttributesAreThoseOfThePinnedPolicy(t *testing.T) {
	t.Parallel()
	a := someone()
	tenant, subject := a.Tenant.String(), casbin.UserSubject(a.User.String())
	source := &versions{}
	source.set(casbin.Permission(subject, tenant, "Customer", "read", "allow", "name == 'a'"))
	control, err := access.New(source, nil)
	require.NoError(t, err)
	ctx, err := control.Pin(t.Context(), a.Tenant)
	require.NoError(t, err)
	source.set(casbin.Permission(subject, tenant, "Customer", "read", "allow", "kind == PERSON"))
	require.NoError(t, control.Refresh(t.Context(), a.Tenant))
	r := &ent.Customer{ID: gid.New(gid.Customer), Name: "a", Kind: "COMPANY"}
	require.True(t, control.May(ctx, a, access.Of(authz.Read, r)))
	require.False(t, control.May(t.Context(), a, access.Of(authz.Read, r)))
}

func TestAMemberThatDoesNotSayWhatItLooksAtSeesAll(t *testing.T) {
	t.Parallel()
	control, err := access.New(fixed{}, nil, stamped(t, 21)...)
	require.NoError(t, err)
	r := &reading{Record: &ent.Customer{ID: gid.New(gid.Customer)}}
	require.True(t, control.May(t.Context(), someone(), access.Of(authz.Read, r)))
	require.Len(t, r.columns, len(access.Vocabulary().Schema["Customer"]))
}

// BenchmarkControl decides about 1,000 records in one batch, with those
// attributes that the policy looks at and with all; times are for the batch.
func BenchmarkControl(b *testing.B) {
	a := someone()
	a.Teams = []gid.ID{gid.New(gid.Team)}
	tenant := a.Tenant.String()
	rules := append(fixed(casbin.DefaultRules(tenant)), casbin.Grant(casbin.UserSubject(a.User.String()), casbin.RoleSubject(casbin.Manager), tenant))
	control, err := access.New(rules, nil)
	require.NoError(b, err)
	ctx, err := control.Pin(b.Context(), a.Tenant)
	require.NoError(b, err)
	lazy, eager := make([]access.Question, 1_000), make([]access.Question, 1_000)
	for i := range lazy {
		lazy[i] = access.Of(authz.Read, &ent.Customer{ID: gid.New(gid.Customer), Name: fmt.Sprint(i), TeamID: &a.Teams[0]})
		eager[i] = lazy[i]
	}
	for name, questions := range map[string]func() []access.Question{
		"looked at": func() []access.Question { return lazy },
		"all": func() []access.Question {
			for i := range eager {
				eager[i].Props = access.RecordProps(eager[i].Record)
			}
			return eager
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, d := range control.Decide(ctx, a, questions()) {
					if !d.Permit {
						b.Fatal("not permitted")
					}
				}
			}
		})
	}
}
