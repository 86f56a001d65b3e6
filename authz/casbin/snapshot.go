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
	types    numbers[string]
	fields   numbers[object]
	named    map[string][]string // type: the fields of it that rules name
	actions  numbers[string]
	entries  map[entryKey]*entry
	parents  map[string][]string // subject or role: the roles it is given
	closures map[string][]uint32 // subject or role: itself and its roles, as sorted grantee ids
	users    map[string][]uint32 // the closures of users, by their ids alone
	reads    map[string][]string // by type that rules are about, or "*": the attributes that conditions look at

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

// entryKey is an object and an action by their numbers: four strings to look up for a decision would be most of its
// time. The numbers of what no rule names are missing from the index, as they should be.
type entryKey struct{ object, action uint32 }

// everything is the number of a wildcard.
const everything = 1

// numbers gives objects and actions their numbers.
type numbers[K comparable] map[K]uint32

func (n numbers[K]) add(k K) uint32 {
	id, ok := n[k]
	if !ok {
		id = uint32(len(n)) + everything + 1 //nolint:gosec // a policy has fewer than 2^32 rows
		n[k] = id
	}
	return id
}

// entry holds the rules on one object and action.
type entry struct{ allow, deny grants }

// grants are rules sorted by grantee.
type grants struct {
	list []grant
	// starts says where those of a grantee begin, in lists that are long to search.
	starts map[uint32]int32
}

// of returns the grants from a grantee's first one on; there may be none of his.
func (g *grants) of(grantee uint32) []grant {
	if g.starts == nil {
		for i := range g.list {
			if g.list[i].grantee >= grantee {
				return g.list[i:]
			}
		}
		return nil
	}
	if at, ok := g.starts[grantee]; ok {
		return g.list[at:]
	}
	return nil
}

// short is how long a list of grants is at most that is searched one by one.
const short = 8

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
		version: version, schema: schema, rules: rules, types: numbers[string]{}, fields: numbers[object]{}, named: map[string][]string{}, actions: numbers[string]{},
		entries: map[entryKey]*entry{}, parents: map[string][]string{}, closures: map[string][]uint32{}, users: map[string][]uint32{},
		reads:  map[string][]string{},
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
			s.reads[obj.typ] = c.reads(s.reads[obj.typ])
		}
		id, ok := grantees[r.V[0]]
		if !ok {
			id = uint32(len(grantees)) //nolint:gosec // a policy has fewer than 2^32 rows
			grantees[r.V[0]] = id
		}
		key := s.key(obj, r.V[3])
		e := s.entries[key]
		if e == nil {
			e = &entry{}
			s.entries[key] = e
		}
		g := grant{id, int32(i), c}
		if r.V[4] == "deny" {
			e.deny.list = append(e.deny.list, g)
		} else {
			e.allow.list = append(e.allow.list, g)
		}
	}
	for o := range s.fields {
		s.named[o.typ] = append(s.named[o.typ], o.field)
	}
	for _, e := range s.entries {
		e.allow.sort()
		e.deny.sort()
	}
	s.close(grantees)
	return s, nil
}

// key numbers an object and an action that a rule names. Fields have the odd numbers and types the even ones.
func (s *snapshot) key(o object, action string) entryKey {
	key := entryKey{everything, everything}
	switch {
	case o.field != "":
		key.object = s.fields.add(o)*2 + 1
	case o.typ != wildcard:
		key.object = s.types.add(o.typ) * 2
	}
	if action != wildcard {
		key.action = s.actions.add(action)
	}
	return key
}

func (s Schema) condition(typ, text string) (*condition, error) {
	return parseCondition(text, func(attribute string) (Kind, error) { return s.kindOf(typ, attribute) })
}

// attributes are those that rules may look at for a thing of a type.
func (s *snapshot) attributes(typ string) []string {
	own, everywhere := s.reads[typ], s.reads[wildcard]
	if len(everywhere) == 0 {
		return slices.Clip(own)
	}
	out := slices.Clone(everywhere)
	for _, name := range own {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// sort orders by grantee and then by rule, and drops rules that repeat an earlier one.
func (g *grants) sort() {
	slices.SortFunc(g.list, func(a, b grant) int {
		if a.grantee != b.grantee {
			return int(a.grantee) - int(b.grantee)
		}
		return int(a.rule) - int(b.rule)
	})
	g.list = slices.CompactFunc(g.list, func(a, b grant) bool { return a.grantee == b.grantee && a.condition == b.condition })
	if len(g.list) <= short {
		return
	}
	g.starts = map[uint32]int32{}
	for i := range slices.Backward(g.list) {
		g.starts[g.list[i].grantee] = int32(i) //nolint:gosec // a policy has fewer than 2^31 rows
	}
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
		if id, isUser := strings.CutPrefix(subject, userPrefix); isUser {
			s.users[id] = ids
		}
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
	objects := [3]uint32{0, s.types[typ] * 2, everything}
	if field != "" {
		if id := s.fields[object{typ, field}]; id != 0 {
			objects[0] = id*2 + 1
		}
	}
	acts := [2]uint32{s.actions[string(action)], everything}
	if action.IsRestricted() {
		acts[1] = 0
	}
	for _, o := range objects {
		for _, a := range acts {
			if o == 0 || a == 0 {
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

// decide answers a complete request of whoever stands for the grantees of a closure, and names the first rule in policy order that decided, as Casbin does.
func (s *snapshot) decide(closure []uint32, in *input) (authz.Effect, int32) {
	if len(closure) == 0 {
		return authz.NotApplicable, noRule
	}
	found := s.candidates(in.req.Resource.Type, in.req.Field, in.req.Action)
	deny, allow := int32(noRule), int32(noRule)
	for _, e := range found.list[:found.n] {
		deny = firstRule(closure, &e.deny, in, deny, true)
	}
	if deny != noRule {
		return authz.Deny, deny
	}
	for _, e := range found.list[:found.n] {
		allow = firstRule(closure, &e.allow, in, allow, false)
	}
	if allow != noRule {
		return authz.Permit, allow
	}
	return authz.NotApplicable, noRule
}

// firstRule returns the earliest of the rules that is granted to one of the closure and whose condition holds,
// or best when none comes before it. Rules whose condition is unknown count when they deny.
func firstRule(closure []uint32, gs *grants, in *input, best int32, unknownHolds bool) int32 {
	if len(gs.list) == 0 {
		return best
	}
	for _, id := range closure {
		for _, g := range gs.of(id) {
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

// each calls f with every rule on the request's object and action granted to one of the closure, in policy order within
// an entry, whatever its condition says.
func (s *snapshot) each(closure []uint32, typ, field string, action authz.Action, f func(g grant, deny bool)) {
	found := s.candidates(typ, field, action)
	for _, e := range found.list[:found.n] {
		for i, gs := range [][]grant{e.allow.list, e.deny.list} {
			for _, g := range gs {
				if _, ok := slices.BinarySearch(closure, g.grantee); ok {
					f(g, i == 1)
				}
			}
		}
	}
}
