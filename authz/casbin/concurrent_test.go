package casbin

import (
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
)

// edited is a source that keeps every version it had.
type edited struct {
	mu       sync.Mutex
	versions [][]Rule // the first is version 1
}

func (e *edited) edit(rules []Rule) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.versions = append(e.versions, rules)
}

func (e *edited) Head(context.Context, string) (uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return uint64(len(e.versions)), nil
}

func (e *edited) Load(context.Context, string) (uint64, []Rule, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return uint64(len(e.versions)), e.versions[len(e.versions)-1], nil
}

// validPolicy is the default policy with random grants and rules of users.
func validPolicy(r *rand.Rand) []Rule {
	rules := DefaultRules("t1")
	for user := range 4 {
		for _, role := range DefaultRoles() {
			if r.IntN(4) == 0 {
				rules = append(rules, Grant(UserSubject(strconv.Itoa(user)), RoleSubject(role), "t1"))
			}
		}
		for range r.IntN(4) {
			c := conditions[r.IntN(len(conditions))]
			rules = append(rules, Permission(UserSubject(strconv.Itoa(user)), "t1", "deal",
				pick(r, "read", "update", "purge", "*"), pick(r, "allow", "deny"), c.text))
		}
	}
	r.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
	return rules
}

type verdict struct {
	permit bool
	rule   string
}

// TestConcurrentDecisionsAreRightForTheirVersion asks from 200 sides while the policy is edited 20 times a second.
// Afterwards every answer is held against Casbin, by the policy of the version that the answer names.
func TestConcurrentDecisionsAreRightForTheirVersion(t *testing.T) {
	t.Parallel()
	duration := 2 * time.Second
	if os.Getenv("LETHE_LONG") != "" {
		duration = 30 * time.Second
	}
	r := rand.New(rand.NewPCG(seed(t), 2))
	source := &edited{}
	source.edit(validPolicy(r))
	vocabulary := Vocabulary{Schema: testSchema, Fields: map[string][]string{"customer": {"email", "phone"}}}
	p, err := New(Options{Source: source, Vocabulary: vocabulary, Poll: time.Millisecond, OnLoad: func(_ string, _ uint64, findings []Finding, err error) {
		for _, f := range findings {
			if f.Severity == Error {
				t.Error(f)
			}
		}
		if err != nil {
			t.Error(err)
		}
	}})
	require.NoError(t, err)
	chain, err := authz.NewChain(nil, authz.Member{Name: "casbin", Plugin: p, Role: authz.Grant, Timeout: time.Minute})
	require.NoError(t, err)
	requests := make([]authz.Request, 300)
	for i := range requests {
		requests[i] = randomRequest(r)
		requests[i].Tenant = "t1"
	}

	ctx, cancel := context.WithCancel(t.Context())
	var background, deciding sync.WaitGroup
	background.Go(func() { _ = p.Run(ctx) })
	background.Go(func() {
		for tick := time.NewTicker(time.Second / 20); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
				source.edit(validPolicy(r))
			}
		}
	})
	type asked struct {
		version uint64
		request int
	}
	const sides = 200
	seen := make([]map[asked]verdict, sides)
	counts := make([]int, sides)
	// On a busy machine it takes longer until there were enough versions.
	start := time.Now()
	enough := func() bool {
		took := time.Since(start)
		return took > duration && p.Version(t.Context(), "t1") > 20 || took > 20*duration
	}
	for side := range sides {
		seen[side] = map[asked]verdict{}
		r := rand.New(rand.NewPCG(uint64(side), 3))
		deciding.Go(func() {
			pace := time.NewTicker(20 * time.Millisecond) // so that edits get a turn
			defer pace.Stop()
			for ; !enough(); <-pace.C {
				ctx, pinned := ctx, uint64(0)
				if side%2 == 0 {
					var err error
					if ctx, err = chain.Pin(ctx, "t1"); err != nil {
						t.Error(err)
						return
					}
					pinned = chain.Version(ctx, "t1")
				}
				batch, which := make([]authz.Request, 10), make([]int, 10)
				for i := range batch {
					which[i] = r.IntN(len(requests))
					batch[i] = requests[which[i]]
				}
				for i, d := range chain.Decide(ctx, batch) {
					why := d.Reasons[0]
					if pinned != 0 && why.Version != pinned {
						t.Errorf("pinned to %d, decided by %d", pinned, why.Version)
					}
					key, v := asked{why.Version, which[i]}, verdict{d.Permitted(), why.Rule}
					if before, known := seen[side][key]; known && before != v {
						t.Errorf("%+v: %v, then %v", key, before, v)
					}
					seen[side][key] = v
					counts[side]++
				}
			}
		})
	}
	deciding.Wait()
	cancel()
	background.Wait()

	all, decisions := map[asked]verdict{}, 0
	for side := range sides {
		for key, v := range seen[side] {
			if before, known := all[key]; known && before != v {
				t.Errorf("%+v: %v here, %v there", key, before, v)
			}
		}
		maps.Copy(all, seen[side])
		decisions += counts[side]
	}
	byVersion := map[uint64]map[int]verdict{}
	for key, v := range all {
		if byVersion[key.version] == nil {
			byVersion[key.version] = map[int]verdict{}
		}
		byVersion[key.version][key.request] = v
	}
	require.NotContains(t, byVersion, uint64(0), "a decision without a version")
	permitted := 0
	for version, verdicts := range byVersion {
		e := oracle(t, source.versions[version-1])
		for request, got := range verdicts {
			q := &requests[request]
			obj := q.Resource.Type
			if q.Field != "" {
				obj += "." + q.Field
			}
			want, why, err := e.EnforceEx(subjectOf(q.Subject), q.Tenant, obj, string(q.Action), q)
			require.NoError(t, err)
			rule := ""
			if len(why) > 0 {
				rule = Permission(why[0], why[1], why[2], why[3], why[4], why[5]).String()
			}
			require.Equal(t, verdict{want, rule}, got, "version %d: %+v", version, q)
			if want {
				permitted++
			}
		}
	}
	t.Logf("%d decisions by %d of %d versions, %d different, %d of them permitted", decisions, len(byVersion), len(source.versions), len(all), permitted)
	require.Greater(t, len(byVersion), 5, "so few versions that the test says nothing")
	require.Greater(t, permitted, len(all)/50)
}

// TestConcurrentReloadsOfTheSamePolicyChangeNoDecision loads a thousand versions with the same rows.
func TestConcurrentReloadsOfTheSamePolicyChangeNoDecision(t *testing.T) { //nolint:paralleltest // it takes all processors
	r := rand.New(rand.NewPCG(seed(t), 4))
	source := &edited{}
	policy := validPolicy(r)
	source.edit(policy)
	p, err := New(Options{Source: source, Vocabulary: Vocabulary{Schema: testSchema}})
	require.NoError(t, err)
	requests := make([]authz.Request, 200)
	for i := range requests {
		requests[i] = randomRequest(r)
		requests[i].Tenant = "t1"
	}
	verdicts := func() (out []verdict) {
		ds, err := p.Decide(t.Context(), requests)
		if err != nil {
			t.Error(err)
		}
		for _, d := range ds {
			out = append(out, verdict{d.Permitted(), d.Reasons[0].Rule})
		}
		return out
	}
	want := verdicts()
	done := make(chan struct{})
	var deciding sync.WaitGroup
	rounds := make([]int, 8)
	for i := range rounds {
		deciding.Go(func() {
			for {
				for j, got := range verdicts() {
					if got != want[j] {
						t.Errorf("%+v: %v became %v", requests[j], want[j], got)
						return
					}
				}
				rounds[i]++
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for range 1_000 {
		source.edit(policy)
		require.NoError(t, p.Refresh(t.Context(), "t1"))
	}
	close(done)
	deciding.Wait()
	require.EqualValues(t, 1_001, p.Version(t.Context(), "t1"))
	total := 0
	for _, n := range rounds {
		total += n * len(requests)
	}
	t.Logf("%d decisions over 1,000 reloads", total)
}
