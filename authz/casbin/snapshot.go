package casbin

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/lethe-crm/lethe/authz"
)

// maxDepth is how many links lead from a subject to a role at most. It is Casbin's default.
const maxDepth = 10

// snapshot is a compiled policy of one tenant. It is never changed.
type snapshot struct {
	version  uint64
	schema   Schema
	invalid  []Finding // errors that make every answer a refusal
	rules    []Rule
	entries  map[entryKey]*entry
	parents  map[string][]string // subject or role: the roles it is given
	closures map[string][]uint32 // subject or role: itself and its roles, as sorted grantee ids

	silent []authz.Reason                   // no rule speaks
	spoken []atomic.Pointer[[]authz.Reason] // by rule, once it has decided something
}

// object is what a rule is about: a type, a field of it, or every type.
type object struct{ typ, field string }

func parseObject(s string) object {
	typ, field, dotted := strings.Cut(s, ".")
	if dotted && field == "" {
		return object{typ: s} // no such type
	}
	return object{typ, field}
}

type entryKey struct {
	object
	action string
}

// entry holds the rules on one object and action.
type entry struct{ allow, deny []grant }

// grant is a rule without the object and action, which the index knows. Sorted by grantee.
type grant struct {
	grantee   uint32
	rule      int32
	condition *condition
}

// compile builds the index. It takes whatever Casbin takes: cycles, duplicates, and chains that are too long,
// of which it follows the first maxDepth links. Rows with a condition that cannot be read have to be refused before.
func compile(version uint64, rules []Rule, schema Schema) (*snapshot, error) {
	s := &snapshot{
		version: version, schema: schema, rules: rules,
		entries: map[entryKey]*entry{}, parents: map[string][]string{}, closures: map[string][]uint32{},
		silent: []authz.Reason{{Plugin: name, Code: authz.CodeNoMatchingRule, Version: version}},
		spoken: make([]atomic.Pointer[[]authz.Reason], len(rules)),
	}
	grantees := map[string]uint32{}
	conditions := map[[2]string]*condition{} // by type and text
	for i, r := range rules {
		if r.Ptype == "g" {
			s.parents[r.V[0]] = append(s.parents[r.V[0]], r.V[1])
			continue
		}
		obj := parseObject(r.V[2])
		text := [2]string{obj.typ, r.V[5]}
		c, ok := conditions[text]
		if !ok {
			var err error
			if c, err = schema.condition(obj.typ, r.V[5]); err != nil {
				return nil, err
			}
			conditions[text] = c
		}
		id, ok := grantees[r.V[0]]
		if !ok {
			id = uint32(len(grantees)) //nolint:gosec // a policy has fewer than 2^32 rows
			grantees[r.V[0]] = id
		}
		key := entryKey{obj, r.V[3]}
		e := s.entries[key]
		if e == nil {
			e = &entry{}
			s.entries[key] = e
		}
		g := grant{id, int32(i), c}
		if r.V[4] == "deny" {
			e.deny = append(e.deny, g)
		} else {
			e.allow = append(e.allow, g)
		}
	}
	for _, e := range s.entries {
		e.allow, e.deny = sortGrants(e.allow), sortGrants(e.deny)
	}
	s.close(grantees)
	return s, nil
}

func (s Schema) condition(typ, text string) (*condition, error) {
	return parseCondition(text, func(attribute string) (Kind, error) { return s.kindOf(typ, attribute) })
}

// sortGrants orders by grantee and then by rule, and drops rules that repeat an earlier one.
func sortGrants(gs []grant) []grant {
	slices.SortFunc(gs, func(a, b grant) int {
		if a.grantee != b.grantee {
			return int(a.grantee) - int(b.grantee)
		}
		return int(a.rule) - int(b.rule)
	})
	return slices.CompactFunc(gs, func(a, b grant) bool { return a.grantee == b.grantee && a.condition == b.condition })
}

// close computes which grantees every subject stands for.
func (s *snapshot) close(grantees map[string]uint32) {
	subjects := maps.Clone(grantees)
	for subject := range s.parents {
		subjects[subject] = 0
	}
	for subject := range subjects {
		var ids []uint32
		for _, name := range s.reachable(subject) {
			if id, ok := grantees[name]; ok {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		s.closures[subject] = ids
	}
}

// reachable returns the subject and the roles it has, nearest first.
func (s *snapshot) reachable(subject string) []string {
	names := []string{subject}
	seen := map[string]bool{subject: true}
	level := 0
	for depth := 0; depth < maxDepth && level < len(names); depth++ {
		end := len(names)
		for _, name := range names[level:end] {
			for _, parent := range s.parents[name] {
				if !seen[parent] {
					seen[parent] = true
					names = append(names, parent)
				}
			}
		}
		level = end
	}
	return names
}

// reasons are why the answer to a request is what it is. All answers by a rule share one list.
func (s *snapshot) reasons(effect authz.Effect, rule int32) []authz.Reason {
	code := authz.CodeRuleDeny
	switch effect {
	case authz.Deny:
	case authz.Permit:
		code = authz.CodeRulePermit
	default:
		return s.silent
	}
	if known := s.spoken[rule].Load(); known != nil {
		return *known
	}
	list := []authz.Reason{{Plugin: name, Code: code, Rule: s.rules[rule].String(), Version: s.version}}
	s.spoken[rule].Store(&list)
	return list
}

// path returns the way from a subject to one of its roles, both included.
func (s *snapshot) path(subject, role string) []string {
	from := map[string]string{subject: ""}
	for queue := []string{subject}; len(queue) > 0; queue = queue[1:] {
		if queue[0] != role {
			for _, parent := range s.parents[queue[0]] {
				if _, seen := from[parent]; !seen {
					from[parent] = queue[0]
					queue = append(queue, parent)
				}
			}
			continue
		}
		var way []string
		for at := role; at != ""; at = from[at] {
			way = append(way, at)
		}
		slices.Reverse(way)
		return way
	}
	return nil
}

// candidates are the entries that speak about a request. A field is covered by rules on it, on its type and on
// every type: who may read a record reads its fields, but for those that a rule denies.
type candidates struct {
	list [6]*entry
	n    int
}

func (s *snapshot) candidates(typ, field string, action authz.Action) candidates {
	var c candidates
	objects := [3]object{{typ, field}, {typ, ""}, {wildcard, ""}}
	acts := [2]string{string(action), wildcard}
	for i, o := range objects {
		if i == 1 && field == "" {
			continue // the same as the first
		}
		for _, a := range acts {
			if a == wildcard && action.IsRestricted() {
				continue
			}
			if e := s.entries[entryKey{o, a}]; e != nil {
				c.list[c.n] = e
				c.n++
			}
		}
	}
	return c
}

const noRule = -1

// decide answers a complete request, and names the first rule in policy order that decided, as Casbin does.
func (s *snapshot) decide(subject string, in *input) (authz.Effect, int32) {
	closure := s.closures[subject]
	if len(closure) == 0 {
		return authz.NotApplicable, noRule
	}
	found := s.candidates(in.req.Resource.Type, in.req.Field, in.req.Action)
	deny, allow := int32(noRule), int32(noRule)
	for _, e := range found.list[:found.n] {
		deny = firstRule(closure, e.deny, in, deny, true)
	}
	if deny != noRule {
		return authz.Deny, deny
	}
	for _, e := range found.list[:found.n] {
		allow = firstRule(closure, e.allow, in, allow, false)
	}
	if allow != noRule {
		return authz.Permit, allow
	}
	return authz.NotApplicable, noRule
}

// firstRule returns the earliest of the rules that is granted to one of the closure and whose condition holds,
// or best when none comes before it. Rules whose condition is unknown count when they deny.
func firstRule(closure []uint32, gs []grant, in *input, best int32, unknownHolds bool) int32 {
	for _, id := range closure {
		at, _ := slices.BinarySearchFunc(gs, id, func(g grant, id uint32) int { return int(g.grantee) - int(id) })
		gs = gs[at:]
		for _, g := range gs {
			if g.grantee != id {
				break
			}
			if best != noRule && g.rule >= best {
				continue
			}
			if t := g.condition.eval(in); t == isTrue || t == isUnknown && unknownHolds {
				best = g.rule
			}
		}
	}
	return best
}

// each calls f with every rule on the request's object and action that the subject has, in policy order within
// an entry, whatever its condition says.
func (s *snapshot) each(subject string, typ, field string, action authz.Action, f func(g grant, deny bool)) {
	closure := s.closures[subject]
	found := s.candidates(typ, field, action)
	for _, e := range found.list[:found.n] {
		for i, gs := range [][]grant{e.allow, e.deny} {
			for _, g := range gs {
				if _, ok := slices.BinarySearch(closure, g.grantee); ok {
					f(g, i == 1)
				}
			}
		}
	}
}
