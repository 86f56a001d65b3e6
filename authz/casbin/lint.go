package casbin

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lethe-crm/lethe/authz"
)

// Lint is Validate, and what else a person would want to know of a policy that is valid: rows that never match,
// that match everything under another name, and that another row says already. They are warnings.
func (v Vocabulary) Lint(tenant string, rules []Rule) []Finding {
	out := v.Validate(tenant, rules)
	if slices.ContainsFunc(out, func(f Finding) bool { return f.Severity == Error }) {
		return out
	}
	l := linter{v, rules, make([]*condition, len(rules)), map[[3]string]bool{}}
	bySubject := map[string][]int{}
	for i, r := range rules {
		if r.Ptype != "p" {
			continue
		}
		c, err := v.Schema.condition(parseObject(r.V[2]).typ, r.V[5])
		if err != nil { // Validate has read it
			return append(out, Finding{i, r, Error, err.Error()})
		}
		l.conditions[i] = c
		bySubject[r.V[0]] = append(bySubject[r.V[0]], i)
	}
	for i, r := range rules {
		if r.Ptype != "p" {
			continue
		}
		warn := func(format string, args ...any) {
			out = append(out, Finding{i, r, Warning, fmt.Sprintf(format, args...)})
		}
		switch {
		case l.implies(r.V[2], l.conditions[i], &condition{op: opNot, parts: []*condition{{op: opAny}}}, [2]string{r.V[5], "not any"}):
			warn("never matches")
			continue
		case r.V[5] != "any" && l.implies(r.V[2], &condition{op: opAny}, l.conditions[i], [2]string{"any", r.V[5]}):
			warn("the condition holds for everyone and everything; any says so")
		}
		if l.showsInBin(i, bySubject[r.V[0]]) {
			warn("the field still shows in records that are retired, if read_retired is allowed: * denies it everywhere")
		}
		for _, j := range bySubject[r.V[0]] {
			if l.shadows(j, i) {
				if r.V[4] == "allow" && rules[j].V[4] == "deny" {
					warn("never permits: row %d denies it", j)
				} else {
					warn("says nothing that row %d does not say", j)
				}
				break
			}
		}
	}
	return out
}

// linter remembers which conditions imply which, by object and text.
type linter struct {
	vocabulary Vocabulary
	rules      []Rule
	conditions []*condition
	known      map[[3]string]bool
}

// showsInBin reports whether a row hides a field from readers of live records, and none of the subject's does so for
// retired ones.
func (l *linter) showsInBin(i int, subject []int) bool {
	r := l.rules[i]
	if parseObject(r.V[2]).field == "" || r.V[3] != string(authz.Read) || r.V[4] != "deny" {
		return false
	}
	return !slices.ContainsFunc(subject, func(j int) bool {
		other := l.rules[j]
		return other.V[4] == "deny" && coversObject(other.V[2], r.V[2]) && coversAction(other.V[3], string(authz.ReadRetired))
	})
}

// shadows reports whether row j leaves nothing to row i of the same subject. Of two that say the same the first
// stays.
func (l *linter) shadows(j, i int) bool {
	a, b := l.rules[j], l.rules[i]
	if i == j || a == b || a.V[4] == "allow" && b.V[4] == "deny" || !coversObject(a.V[2], b.V[2]) || !coversAction(a.V[3], b.V[3]) {
		return false
	}
	if !l.implies(b.V[2], l.conditions[i], l.conditions[j], [2]string{b.V[5], a.V[5]}) {
		return false
	}
	same := a.V[2] == b.V[2] && a.V[3] == b.V[3] && a.V[4] == b.V[4] && l.implies(b.V[2], l.conditions[j], l.conditions[i], [2]string{a.V[5], b.V[5]})
	return !same || j < i
}

// implies reports whether the second condition holds wherever the first does.
func (l *linter) implies(obj string, a, b *condition, texts [2]string) bool {
	key := [3]string{obj, texts[0], texts[1]}
	if known, ok := l.known[key]; ok {
		return known
	}
	types := []string{parseObject(obj).typ}
	if types[0] == wildcard {
		types = slices.Sorted(maps.Keys(l.vocabulary.Schema))
	}
	implied := true
	for _, typ := range types {
		kinds := l.vocabulary.Schema[typ]
		s := collectSamples([]*condition{a, b}, kinds)
		implied = implied && !s.each(s.persons(), func(in input) bool {
			in.attributes = kinds
			return a.eval(&in) == isTrue && b.eval(&in) != isTrue
		})
	}
	l.known[key] = implied
	return implied
}

func coversObject(wide, narrow string) bool {
	return wide == wildcard || wide == narrow || parseObject(narrow).typ == wide
}

func coversAction(wide, narrow string) bool {
	return wide == narrow || wide == wildcard && !authz.Action(narrow).IsRestricted()
}
