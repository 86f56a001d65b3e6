package casbin

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/authz"
)

// Gain is something that a policy lets a subject do and another did not.
type Gain struct {
	Subject string // as rows name it
	Action  authz.Action
	Object  string // a type, or a field as "type.field"
}

// Comparison holds a policy against the one it is to take the place of. It compares what they mean: rows that
// are written otherwise and permit the same are no difference.
//
// Conditions compare attributes with constants, with who asks and with each other not at all, so a finite set of
// values for each attribute shows every answer a policy can give. Each such record is tried.
type Comparison struct {
	before, after *snapshot
	vocabulary    Vocabulary
	rows          [2]map[string]string // by subject: its rows of kind p, before and after
}

// Compare compiles two policies. Their rows have to be valid.
func (v Vocabulary) Compare(before, after []Rule) (*Comparison, error) {
	c := &Comparison{vocabulary: v}
	for i, rules := range [][]Rule{before, after} {
		s, err := compile(0, slices.Clone(rules), v.Schema)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			c.before = s
		} else {
			c.after = s
		}
		texts := map[string][]string{}
		for _, r := range rules {
			if r.Ptype == "p" {
				texts[r.V[0]] = append(texts[r.V[0]], strings.Join(r.V[2:], "\x00"))
			}
		}
		c.rows[i] = map[string]string{}
		for subject, rows := range texts {
			slices.Sort(rows)
			c.rows[i][subject] = strings.Join(slices.Compact(rows), "\x01")
		}
	}
	return c, nil
}

// Own finds what a user gains for himself. Teams are those he is in.
func (c *Comparison) Own(user string, teams []string) (Gain, bool) {
	subject := UserSubject(user)
	if !c.affected(subject) {
		return Gain{}, false
	}
	return c.gain(subject, persons{ids: []string{user}, teams: [][]string{append(slices.Clone(teams), someTeam)}}, func(q *question) bool {
		return q.gained()
	})
}

// Beyond finds what somebody else gains that the holder does not have himself, or that is restricted. Conditions
// that speak of who asks are compared as such: "owner == me" given by one who has the same is no gain.
func (c *Comparison) Beyond(holder string) (Gain, bool) {
	own := UserSubject(holder)
	return c.others(holder, func(q *question) bool { return q.request.Action.IsRestricted() || !q.permits(c.before, own) })
}

// Exceeding is Beyond without what is restricted.
func (c *Comparison) Exceeding(holder string) (Gain, bool) {
	own := UserSubject(holder)
	return c.others(holder, func(q *question) bool { return !q.request.Action.IsRestricted() && !q.permits(c.before, own) })
}

// others finds something that somebody else than the holder gains.
func (c *Comparison) others(holder string, which func(*question) bool) (Gain, bool) {
	own := UserSubject(holder)
	known := map[string]bool{}
	for _, subject := range slices.Sorted(maps.Keys(c.after.closures)) {
		if subject == own || !c.affected(subject) {
			continue
		}
		key := strings.Join(c.named(c.before, 0, subject), " ") + "|" + strings.Join(c.named(c.after, 1, subject), " ")
		if known[key] {
			continue
		}
		known[key] = true
		if g, found := c.gain(subject, persons{}, func(q *question) bool { return q.gained() && which(q) }, own); found {
			return g, true
		}
	}
	return Gain{}, false
}

// named are the subjects with rows that a subject stands for, sorted.
func (c *Comparison) named(s *snapshot, i int, subject string) []string {
	var out []string
	for _, name := range s.reachable(subject) {
		if c.rows[i][name] != "" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// affected reports whether any row that speaks of the subject is another.
func (c *Comparison) affected(subject string) bool {
	before, after := c.named(c.before, 0, subject), c.named(c.after, 1, subject)
	return !slices.Equal(before, after) || slices.ContainsFunc(after, func(name string) bool { return c.rows[0][name] != c.rows[1][name] })
}

// Change is a difference between two policies in what a subject may do.
type Change struct {
	Gain
	Gained, Lost bool // for some record
}

// Changes lists what anybody gains or loses: subjects that rows speak of, sorted, with every object and action.
func (c *Comparison) Changes() []Change {
	subjects := map[string]bool{}
	for _, s := range []*snapshot{c.before, c.after} {
		for subject := range s.closures {
			subjects[subject] = true
		}
	}
	back := &Comparison{before: c.after, after: c.before, vocabulary: c.vocabulary}
	back.rows[0], back.rows[1] = c.rows[1], c.rows[0]
	var out []Change
	for _, subject := range slices.Sorted(maps.Keys(subjects)) {
		if !c.affected(subject) && !back.affected(subject) {
			continue
		}
		at := map[Gain]int{}
		note := func(in *Comparison, set func(*Change)) {
			in.gain(subject, persons{}, func(q *question) bool {
				if !q.gained() {
					return false
				}
				g := q.gain()
				if _, known := at[g]; !known {
					at[g] = len(out)
					out = append(out, Change{Gain: g})
				}
				set(&out[at[g]])
				return false
			})
		}
		note(c, func(ch *Change) { ch.Gained = true })
		note(back, func(ch *Change) { ch.Lost = true })
	}
	return out
}

// gain looks for a record of some type for which found holds.
func (c *Comparison) gain(subject string, p persons, found func(*question) bool, others ...string) (Gain, bool) {
	actions := append(authz.Actions(), c.vocabulary.Actions...)
	for _, typ := range slices.Sorted(maps.Keys(c.vocabulary.Schema)) {
		for _, field := range append([]string{""}, c.fields(typ)...) {
			for _, action := range actions {
				conditions, differ := c.conditions(subject, typ, field, action, others)
				if !differ {
					continue
				}
				q := &question{comparison: c, subject: subject, request: authz.Request{
					Action: action, Field: field, Subject: authz.Entity{Type: "user"}, Resource: authz.Entity{Type: typ},
				}}
				if q.some(conditions, p, found) {
					return q.gain(), true
				}
			}
		}
	}
	return Gain{}, false
}

// fields are the fields of a type that rows of either policy name: all others are decided as the record is.
func (c *Comparison) fields(typ string) []string {
	names := slices.Concat(c.before.named[typ], c.after.named[typ])
	slices.Sort(names)
	return slices.Compact(names)
}

// conditions are those that decide, under either policy, what a subject and others may do; differ is false when
// nothing can be gained.
func (c *Comparison) conditions(subject, typ, field string, action authz.Action, others []string) (list []*condition, differ bool) {
	var rules [2][]string
	allowed := false
	for i, s := range []*snapshot{c.before, c.after} {
		s.each(s.closures[subject], typ, field, action, func(g grant, deny bool) {
			list = append(list, g.condition)
			rules[i] = append(rules[i], strings.Join(s.rules[g.rule].V[4:], " "))
			allowed = allowed || i == 1 && !deny
		})
		slices.Sort(rules[i])
	}
	if !allowed || slices.Equal(rules[0], rules[1]) {
		return nil, false
	}
	for _, other := range others {
		c.before.each(c.before.closures[other], typ, field, action, func(g grant, _ bool) { list = append(list, g.condition) })
	}
	return list, true
}

// question is what one person may do to one record.
type question struct {
	comparison *Comparison
	subject    string
	request    authz.Request
	in         input
}

func (q *question) gain() Gain {
	object := q.request.Resource.Type
	if q.request.Field != "" {
		object += "." + q.request.Field
	}
	return Gain{q.subject, q.request.Action, object}
}

func (q *question) permits(s *snapshot, subject string) bool {
	effect, _ := s.decide(s.closures[subject], &q.in)
	return effect == authz.Permit
}

func (q *question) gained() bool {
	return q.permits(q.comparison.after, q.subject) && !q.permits(q.comparison.before, q.subject)
}

// some tries every record, and everyone who may ask, that the conditions tell apart. More than it can try is
// taken for a gain.
func (q *question) some(conditions []*condition, p persons, found func(*question) bool) bool {
	samples := collectSamples(conditions, q.comparison.vocabulary.Schema[q.request.Resource.Type])
	if p.ids == nil {
		p = samples.persons()
	}
	return q.among(samples, p, found)
}

// among tries the records that samples make up.
func (q *question) among(samples *samples, p persons, found func(*question) bool) bool {
	return samples.each(p, func(in input) bool {
		r := *in.req
		r.Action, r.Field, r.Resource.Type = q.request.Action, q.request.Field, q.request.Resource.Type
		q.in = input{req: &r, teams: in.teams, attributes: samples.kinds}
		return found(q)
	})
}

// persons are who may ask: each id with each list of teams.
type persons struct {
	ids   []string
	teams [][]string
}

// Stand-ins for what no row names.
const (
	somebody     = "\x00somebody"
	somebodyElse = "\x00somebody else"
	someTeam     = "\x00some team"
)

// maxSamples bounds the work of one comparison of two rules.
const maxSamples = 20_000

type operandKey struct {
	source source
	name   string
}

// samples are the values that conditions tell apart, by attribute.
type samples struct {
	kinds  map[string]Kind
	values map[operandKey][]any
	ids    []string // that are compared with ids
}

func collectSamples(conditions []*condition, kinds map[string]Kind) *samples {
	s := &samples{kinds: kinds, values: map[operandKey][]any{}}
	var walk func(*condition)
	walk = func(c *condition) {
		for _, p := range c.parts {
			walk(p)
		}
		if len(c.parts) > 0 || c.op == opAny {
			return
		}
		key := operandKey{c.source, c.name}
		if _, declared := kinds[c.name]; c.source == fromRecord && !declared {
			return // null in every record of the type
		}
		if _, known := s.values[key]; !known {
			s.values[key] = []any{nil}
		}
		s.add(key, c.kind)
		for _, v := range c.values {
			s.literal(key, c.kind, v)
		}
	}
	for _, c := range conditions {
		walk(c)
	}
	return s
}

// add takes the values that stand for all that no literal names.
func (s *samples) add(key operandKey, kind Kind) {
	switch kind {
	case ID:
		s.put(key, somebody, somebodyElse, someTeam)
	case Bool:
		s.put(key, true, false)
	case String:
		s.put(key, "", somebodyElse)
	case Int:
		s.put(key, int64(0))
	case Float:
		s.put(key, float64(0))
	case Time:
		s.put(key, time.Unix(0, 0).UTC())
	default: // of the action or the context: anything
		s.put(key, true, false, somebody, somebodyElse, someTeam, int64(0))
	}
}

// literal takes a value that a condition names, and those right beside it.
func (s *samples) literal(key operandKey, kind Kind, v any) {
	s.put(key, v)
	switch v := v.(type) {
	case string:
		if kind == ID || kind == 0 {
			s.ids = append(s.ids, v)
		}
		s.put(key, v+"\x00")
	case int64:
		s.put(key, v-1, v+1)
		if kind == Float || kind == 0 {
			f := float64(v)
			s.put(key, math.Nextafter(f, math.Inf(-1)), math.Nextafter(f, math.Inf(1)))
		}
	case float64:
		s.put(key, math.Nextafter(v, math.Inf(-1)), math.Nextafter(v, math.Inf(1)))
	case time.Time:
		s.put(key, v.Add(-1), v.Add(1))
	}
}

func (s *samples) put(key operandKey, values ...any) {
	for _, v := range values {
		if !slices.Contains(s.values[key], v) {
			s.values[key] = append(s.values[key], v)
		}
	}
}

// persons are everyone whom the conditions tell apart: nobody they name, and each they name, in no team they
// name and in all.
func (s *samples) persons() persons {
	ids := append([]string{somebody}, s.ids...)
	teams := [][]string{{someTeam}}
	if len(s.ids) > 0 {
		teams = append(teams, append([]string{someTeam}, s.ids...))
	}
	return persons{ids, teams}
}

// each calls f with every record and everyone who may ask, until it answers true. It answers true as well when
// there are too many.
func (s *samples) each(p persons, f func(input) bool) bool {
	keys := slices.SortedFunc(maps.Keys(s.values), func(a, b operandKey) int {
		return strings.Compare(sourceNames[a.source]+a.name, sourceNames[b.source]+b.name)
	})
	for _, key := range keys {
		// Whoever asks may be the value of any id.
		if s.kinds[key.name] == ID || key.source != fromRecord {
			for _, id := range p.ids {
				s.put(key, id)
			}
			for _, teams := range p.teams {
				for _, t := range teams {
					s.put(key, t)
				}
			}
		}
	}
	total := len(p.ids) * len(p.teams)
	for _, key := range keys {
		if total *= len(s.values[key]); total > maxSamples {
			return true
		}
	}
	props := [3]map[string]any{{}, {}, {}}
	for name := range s.kinds {
		props[fromRecord][name] = nil
	}
	for _, id := range p.ids {
		for _, teams := range p.teams {
			r := authz.Request{
				Subject: authz.Entity{Type: "user", ID: id}, ActionProps: props[fromAction], Context: props[fromContext],
				Resource: authz.Entity{ID: "some", Props: props[fromRecord]},
			}
			var try func(int) bool
			try = func(i int) bool {
				if i == len(keys) {
					return f(input{req: &r, teams: teams})
				}
				for _, v := range s.values[keys[i]] {
					props[keys[i].source][keys[i].name] = v
					if try(i + 1) {
						return true
					}
				}
				return false
			}
			if try(0) {
				return true
			}
		}
	}
	return false
}
