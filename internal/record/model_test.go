package record_test

import (
	"maps"
	"slices"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// model is LIFECYCLE.md sections 1 to 4 over plain values. Of the table of
// section 1, which has a test of its own, it asks package lifecycle; of who may
// do what, which is ACCESS.md section 4, it asks people.
type model struct {
	people
	all []*row // every record there ever was, by id
	row map[gid.ID]*row
}

type row struct {
	life
	stack        []life // what it goes back to, the nearest last
	id, owner    gid.ID // owner is the one record it is a dependant of; zero for none
	typ          string
	class        lifecycle.Class // of the edge to its owner
	weak         map[string]gid.ID
	unique       map[string]string
	by           person
	version      int
	orphan, gone bool
	short        bool // its suspension is over
}

// life is where an operation put a row.
type life struct {
	op, cameWith gid.ID
	state        lifecycle.State
	clock        string // when it may be purged: "" for never, "fresh" if the last operation set it
}

func (r *row) live() bool { return !r.gone && !r.state.Retired() }

// up is the first row above r that is wanted.
func (m *model) up(r *row, wanted func(*row) bool) *row {
	o := m.row[r.owner]
	for o != nil && !wanted(o) {
		o = m.row[o.owner]
	}
	return o
}

// judge says what becomes of a pick by itself.
func (m *model) judge(q ask, p pick) string {
	r := m.row[p.id]
	switch seen, lost := m.sees(q.who, r), m.lost(q.who, r); {
	case !seen && q.verb == lifecycle.Purge && lost == "GONE":
		return "UNCHANGED"
	case !seen && q.verb == lifecycle.Undo:
		return "UNCHANGED " + lost
	case !seen:
		return "FAILED " + lost
	case !m.may(q.who, q.action(), r.by) || q.deletes(r) && !m.may(q.who, "delete", r.by):
		return "FAILED FORBIDDEN"
	case q.move(r).Unchanged || q.verb == lifecycle.Undo && r.op != q.of:
		return "UNCHANGED"
	case p.version != 0 && p.version != r.version:
		return "FAILED CONFLICT"
	case q.move(r).Code != "" && !q.deletes(r):
		return "FAILED " + string(q.move(r).Code)
	}
	return "CHANGED"
}

// takes is a pick with what comes along: live dependants, the tree of its
// present operation and, with withAncestors, the chain of retired owners.
func (m *model) takes(q ask, root *row, picked map[*row]bool) []*row {
	out := []*row{root}
	for i := 0; i < len(out) && q.verb != lifecycle.Undo; i++ {
		r := out[i]
		for _, c := range m.all {
			live := c.live() && c.owner == r.id && lifecycle.Brings(q.brings(), c.class, q.cascade)
			tree := !c.gone && c.cameWith == r.id && c.op == r.op && m.up(c, func(o *row) bool { return o == r }) != nil
			if (live || tree) && !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	}
	for i := 0; i < len(out) && q.ancestors; i++ {
		r, o := out[i], m.row[out[i].owner]
		if o != nil && !o.live() && !q.to(r).Retired() && !picked[o] && !q.moves(picked[r]) && !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	return slices.DeleteFunc(out, func(r *row) bool { return q.verb != lifecycle.Purge && q.to(r) == "" })
}

// wrong says what keeps rows of a set from changing together.
func (m *model) wrong(q ask, set, picked map[*row]bool) map[*row]string {
	bad, taken := map[*row]string{}, map[string]*row{}
	for _, r := range m.all {
		if r.live() {
			r.claim(taken, r.owner, nil)
		}
		o := m.row[r.owner]
		homeless := r.orphan || o != nil && !o.live() && !q.to(r).Retired() && (!set[o] || q.to(o).Retired())
		blocks := func(d *row) bool { return d.live() && d.owner == r.id && d.class == lifecycle.Blocking && !set[d] }
		switch {
		case !set[r]:
		case q.stale(r): // what is named and refused comes along with nothing else
			bad[r] = " CONFLICT"
		case !picked[r] && (!m.sees(q.who, r) || !m.may(q.who, q.action(), r.by) || q.deletes(r) && !m.may(q.who, "delete", r.by)):
			bad[r] = " FORBIDDEN"
		case q.restores() && homeless && !q.moves(picked[r]):
			bad[r] = " PARENT_RETIRED"
		case has("DELETE VOID", string(q.brings())) && slices.ContainsFunc(m.all, blocks):
			bad[r] = " HAS_DEPENDENTS"
		}
	}
	settled := len(bad) == 0
	for _, r := range m.all { // of two in the set with one value the later fails
		if settled && set[r] && q.restores() && !q.to(r).Retired() && !r.claim(taken, q.home(r, picked[r]), q.overrides[r.id]) {
			bad[r] = " UNIQUE_CONFLICT"
		}
	}
	return bad
}

// plan says what becomes of the picks, and which rows change.
func (m *model) plan(q ask) (say []string, set, picked map[*row]bool) {
	say, picked = make([]string, len(q.picks)), map[*row]bool{}
	takes := map[gid.ID][]*row{}
	for i, p := range q.picks {
		if say[i] = m.judge(q, p); slices.IndexFunc(q.picks, func(o pick) bool { return o.id == p.id }) < i {
			say[i] = "UNCHANGED DUPLICATE_INPUT"
		} else if say[i] == "CHANGED" {
			picked[m.row[p.id]] = true
		}
	}
	for r := range picked {
		takes[r.id] = m.takes(q, r, picked)
	}
	for before := -1; before != len(picked); {
		before, set = len(picked), map[*row]bool{}
		for r := range picked {
			for _, t := range takes[r.id] {
				set[t] = true
			}
		}
		bad := m.wrong(q, set, picked)
		for i, p := range q.picks {
			codes := "" // several things may be wrong: they have no rank
			for _, t := range takes[p.id] {
				codes += bad[t]
			}
			if say[i] == "CHANGED" && codes != "" {
				say[i] = "FAILED" + codes
				delete(picked, m.row[p.id])
			}
		}
	}
	none := !q.bestEffort && slices.ContainsFunc(say, failed)
	for i := range say {
		if none && !failed(say[i]) {
			say[i] = "NOT_PROCESSED"
			clear(set)
		}
	}
	return say, set, picked
}

// apply changes the rows of a set.
func (m *model) apply(q ask, op gid.ID, set, picked map[*row]bool) {
	for r := range set {
		if q.deletes(r) {
			r.version++ // by way of the bin
		}
		r.version++
		switch n := len(r.stack) - 1; {
		case q.verb == lifecycle.Purge:
			r.gone = true
		case q.restores():
			to := q.to(r)
			r.life, r.stack = r.stack[n], r.stack[:n]
			if r.state != to {
				r.life, r.stack = r.stack[n-1], r.stack[:n-1]
			}
			r.owner, r.orphan = q.home(r, picked[r]), r.orphan && !q.moves(picked[r])
			maps.Copy(r.unique, q.overrides[r.id])
		case q.verb == lifecycle.Suspend && r.state == lifecycle.Suspended:
			r.short = q.short // and nothing else
		default:
			r.short = map[bool]bool{true: q.short, false: r.short}[q.verb == lifecycle.Suspend]
			r.stack, r.life = append(r.stack, r.life), life{op: op, state: q.to(r), clock: map[bool]string{true: "fresh"}[q.verb == lifecycle.Delete]}
			// The nearest above it, unless something is between that the verb does not reach through.
			if o := m.up(r, func(o *row) bool {
				return set[o] || !o.live() || o.class == lifecycle.Blocking
			}); set[o] && q.verb != lifecycle.Suspend {
				r.cameWith = o.id
			}
		}
	}
	for _, r := range m.all { // what pointed to a purged row
		n, o := len(r.weak), m.row[r.owner]
		maps.DeleteFunc(r.weak, func(_ string, to gid.ID) bool { return m.row[to].gone })
		if lost := o != nil && o.gone; !r.gone && (lost || len(r.weak) < n) {
			r.version++
			r.owner, r.orphan = map[bool]gid.ID{false: r.owner}[lost], r.orphan || lost
		}
		if r.state == lifecycle.Voided && r.orphan == (r.clock == "") { // only orphans are voided on a clock
			r.clock = map[bool]string{true: "fresh"}[r.orphan]
		}
	}
}
