package record_test

import (
	"maps"
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// person is the owner of rows and the team they belong to.
type person struct{ user, team gid.ID }

// people are the actors by role, as w.users has them.
type people map[string]person

// grants is the table of ACCESS.md section 4.
var grants = []struct{ roles, rows, actions string }{
	{"viewer agent agent2 manager", "own team", "read"},
	{"agent agent2 manager", "own team", "create update"},
	{"agent agent2 manager", "own", "delete archive suspend restore read_retired"},
	{"manager", "team", "delete void archive suspend restore read_retired operation.read"},
	{"compliance", "all", "read read_retired audit.read operation.read"},
	{"purger", "all", "read read_retired purge operation.read"},
	{"admin", "all", "read read_retired create update delete void archive suspend restore audit.read operation.read"},
	{"system", "all", "read read_retired delete void archive restore purge"},
}

func has(list, word string) bool { return slices.Contains(strings.Fields(list), word) }

// may reports whether an actor may do something to what is by somebody.
func (p people) may(who, action string, by person) bool {
	me := p[who]
	for _, g := range grants {
		reached := g.rows == "all" || has(g.rows, "own") && by.user == me.user || has(g.rows, "team") && by.team == me.team
		if has(g.roles, who) && has(g.actions, action) && reached {
			return true
		}
	}
	return false
}

// could reports whether there is anything an actor might do it to.
func (p people) could(who, action string) bool {
	for _, g := range grants {
		if has(g.roles, who) && has(g.actions, action) {
			return true
		}
	}
	return false
}

func (p people) sees(who string, r *row) bool {
	if r == nil || r.gone {
		return false
	}
	if r.live() {
		return p.may(who, "read", r.by)
	}
	return p.may(who, "read_retired", r.by)
}

// lost is the code of what an actor does not see.
func (p people) lost(who string, r *row) string {
	if r != nil && r.gone && (p.may(who, "purge", r.by) || p.may(who, "audit.read", r.by)) {
		return "GONE"
	}
	return "NOT_FOUND"
}

type pick struct {
	id      gid.ID
	version int // zero for any
}

// ask is an operation as it is asked for.
type ask struct {
	who                            string
	verb                           lifecycle.Verb
	picks                          []pick
	of                             gid.ID // the operation that selects the picks, or is undone
	bestEffort, cascade, ancestors bool
	parent                         gid.ID
	overrides                      map[gid.ID]map[string]string
	mends                          bool // overrides are drawn once it is known what is picked
	live                           bool // a purge that includes what is live
	short                          bool // a suspension that has ended when the next thing happens
}

func (q ask) restores() bool { return q.verb == lifecycle.Restore || q.verb == lifecycle.Undo }

// action is what the policy must allow.
func (q ask) action() string {
	if q.restores() {
		return "restore"
	}
	return strings.ToLower(string(q.verb))
}

// deletes reports whether a row goes by way of the bin.
func (q ask) deletes(r *row) bool { return q.live && r.live() }

// brings is the verb by which live dependants come along.
func (q ask) brings() lifecycle.Verb {
	if q.live {
		return lifecycle.Delete
	}
	return q.verb
}

func (q ask) move(r *row) lifecycle.Move {
	if q.restores() {
		return lifecycle.Next(r.state, lifecycle.Restore)
	}
	return lifecycle.Next(r.state, q.verb)
}

// to is where the operation leads a row; "" where it changes nothing.
func (q ask) to(r *row) lifecycle.State {
	if q.restores() {
		return r.prior()
	}
	return q.move(r).To
}

// prior is the state a row goes back to.
func (r *row) prior() lifecycle.State {
	if top := r.top(); top != lifecycle.Suspended || !r.short {
		return top
	}
	return lifecycle.Active // a suspension that ran out meanwhile
}

// top is the state on top of a row's stack.
func (r *row) top() lifecycle.State {
	if len(r.stack) == 0 {
		return lifecycle.Active
	}
	return r.stack[len(r.stack)-1].state
}

// stale reports whether a row moved on from the version the caller names.
func (q ask) stale(r *row) bool {
	i := slices.IndexFunc(q.picks, func(p pick) bool { return p.id == r.id })
	return i >= 0 && q.picks[i].version != 0 && q.picks[i].version != r.version
}

// moves reports whether a row gets another owner, which a pick may.
func (q ask) moves(picked bool) bool { return picked && q.parent != gid.Nil }

// home is the owner a row has afterwards.
func (q ask) home(r *row, picked bool) gid.ID {
	if q.moves(picked) {
		return q.parent
	}
	return r.owner
}

// claim takes the values that no other live row may have, or reports that
// another row has one of them.
func (r *row) claim(taken map[string]*row, owner gid.ID, overrides map[string]string) bool {
	var keys []string
	values := maps.Clone(r.unique)
	maps.Copy(values, overrides)
	for field, value := range values {
		key := r.typ + " " + field + " " + strings.ToLower(value)
		if r.typ == "Contact" { // within its customer
			key += owner.UUID()
		}
		if value != "" && (r.typ != "Contact" || owner != gid.Nil) {
			keys = append(keys, key)
		}
	}
	for _, k := range keys {
		if taken[k] != nil && taken[k] != r {
			return false
		}
	}
	for _, k := range keys {
		taken[k] = r
	}
	return true
}

// ran is an operation that was accepted; changed is in the order of its items.
type ran struct {
	who     string
	verb    lifecycle.Verb
	changed []gid.ID
}

// selected resolves a selection: an operation selects what it changed.
func (m *model) selected(ops map[gid.ID]*ran, q ask) ([]pick, lifecycle.Code) {
	picks := q.picks
	if o, undo := ops[q.of], q.verb == lifecycle.Undo; q.of != gid.Nil {
		switch {
		case o == nil || o.who != q.who && !m.may(q.who, "operation.read", m.people[o.who]):
			return nil, lifecycle.NotFound
		case undo && !has("DELETE VOID ARCHIVE SUSPEND", string(o.verb)):
			return nil, lifecycle.IllegalTransition
		}
		for _, id := range o.changed {
			if r := m.row[id]; m.sees(q.who, r) || undo && m.lost(q.who, r) == "GONE" {
				picks = append(picks, pick{id: id})
			}
		}
	}
	if !m.could(q.who, q.action()) {
		return nil, lifecycle.Forbidden
	}
	return picks, ""
}

// refused says what refuses an operation as a whole once its picks are judged.
func (m *model) refused(q ask) lifecycle.Code {
	if !q.restores() || q.parent == gid.Nil {
		return ""
	}
	parent := m.row[q.parent]
	if !m.sees(q.who, parent) {
		return lifecycle.BadUserInput
	}
	if !parent.live() {
		return lifecycle.ParentRetired
	}
	seen := map[gid.ID]bool{}
	for _, p := range q.picks {
		again := seen[p.id] // only the first of an id is judged
		seen[p.id] = true
		if !again && m.judge(q, p) == "CHANGED" && !slices.Contains(owners[m.row[p.id].typ], parent.typ) {
			return lifecycle.BadUserInput
		}
	}
	return ""
}

// owners are the types a record may be a dependant of, on one edge each.
var owners = map[string][]string{
	"Contact": {"Customer"}, "Deal": {"Customer"}, "Message": {"Customer"}, "Call": {"Customer"}, "Task": {"Customer"}, "Note": {"Customer"},
	"Attachment": {"Customer", "Deal", "Message", "Call", "Note"},
}

// classes are those of these edges.
var classes = map[string]lifecycle.Class{
	"Contact": lifecycle.Owned, "Deal": lifecycle.Blocking, "Message": lifecycle.Owned, "Call": lifecycle.Owned, "Task": lifecycle.Owned, "Note": lifecycle.Owned,
	"Attachment": lifecycle.Owned,
}

func failed(verdict string) bool { return strings.HasPrefix(verdict, "FAILED") }
