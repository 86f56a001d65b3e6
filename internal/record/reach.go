package record

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// reach finds what comes along with the picked records, level by level: live
// dependants as far as brings says so, and the tree each record is the root of
// in its present operation. Every row is locked before the next level is read,
// so nothing new can be attached below it.
func (r *run) reach(ctx context.Context, brings func(lifecycle.Class) bool) error {
	all := visible.With(ctx, visible.Tenant(r.a.Tenant))
	level := make([]*node, 0, len(r.nodes))
	for _, it := range r.items {
		if it.node != nil {
			level = append(level, it.node)
		}
	}
	for depth := 1; len(level) > 0; depth++ {
		byType := map[string][]gid.ID{}
		for _, n := range level {
			byType[n.row.RecordType().Name] = append(byType[n.row.RecordType().Name], n.row.RecordID())
		}
		var next []*node
		attach := func(parent *node, row ent.Record) {
			n := r.nodes[row.RecordID()]
			known := n != nil
			if !known {
				n = r.addAlong(row, depth)
				next = append(next, n)
			}
			if n != parent && (!known || !slices.Contains(parent.below, n)) {
				parent.below = append(parent.below, n)
				n.above = append(n.above, parent)
			}
		}
		if err := r.attachTree(all, level, attach); err != nil {
			return err
		}
		met, err := r.meet(ctx, byType)
		if err != nil {
			return err
		}
		for _, target := range typeOrder {
			for _, d := range dependants[target.Name] {
				ids := byType[target.Name]
				if len(ids) == 0 || !brings(d.edge.Class) || !met[d.key()] {
					continue
				}
				rows, err := r.query(all, d.holder, update, func(s *sql.Selector) {
					s.Where(inIDs(s.C(d.edge.Column), ids))
					s.Where(sql.IsNull(s.C("retired_at")))
					s.Limit(r.most() + 1) // which is too many
				})
				if err != nil {
					return err
				}
				for _, row := range rows {
					attach(r.nodes[*refOf(row, d.edge.Column)], row)
				}
			}
		}
		if len(r.nodes) > r.most() {
			return errLarge
		}
		level = next
	}
	return r.adopt(ctx)
}

// addAlong adds a record that comes along. One that the caller picked, and that
// is not as he saw it, comes along with nothing.
func (r *run) addAlong(row ent.Record, depth int) *node {
	n := &node{row: row, depth: depth}
	if it := r.stale[row.RecordID()]; it != nil {
		n.problem, n.blockers = it.code, it.blockers
	}
	r.nodes[row.RecordID()] = n
	return n
}

// meet asks, with one statement for all, by which edges a level has live
// dependants at all, so that the others need not be read one by one. The level
// is locked: nobody can attach anything to it any more.
func (r *run) meet(ctx context.Context, level map[string][]gid.ID) (map[edgeKey]bool, error) {
	met := map[edgeKey]bool{}
	if !r.brings(lifecycle.Owned) {
		return met, nil
	}
	var asked []dependant
	stmt := store.Build(r.q)
	for _, target := range typeOrder {
		for _, d := range dependants[target.Name] {
			if ids := level[target.Name]; len(ids) > 0 && d.edge.Class != lifecycle.Weak {
				start := `, `
				if len(asked) == 0 {
					start = `SELECT `
				}
				stmt.Add(start+`EXISTS (SELECT 1 FROM `+d.holder.Table+` WHERE tenant_id = ? AND retired_at IS NULL AND `, r.a.Tenant).IDs(d.edge.Column, ids).Add(`)`)
				asked = append(asked, d)
			}
		}
	}
	found, dest := make([]bool, len(asked)), make([]any, len(asked))
	for i := range found {
		dest[i] = &found[i]
	}
	switch len(asked) {
	case 0:
		return met, nil
	case 1:
		found[0] = true // one look is as good as one question
	default:
		if _, err := stmt.One(ctx, r.q, dest...); err != nil {
			return nil, fmt.Errorf("looking for dependants: %w", err)
		}
	}
	if r.met == nil {
		r.met = map[edgeKey]bool{}
	}
	for i, d := range asked {
		met[d.key()] = met[d.key()] || found[i]
		r.met[d.key()] = r.met[d.key()] || found[i]
	}
	return met, nil
}

// attachTree attaches to each record of a level the records that came with it
// in the operation that put it into its state and are still where that left them.
func (r *run) attachTree(ctx context.Context, level []*node, attach func(*node, ent.Record)) error {
	var roots, operations []gid.ID
	for _, n := range level {
		if op := refOf(n.row, "operation_id"); op != nil {
			roots = append(roots, n.row.RecordID())
			if !slices.Contains(operations, *op) {
				operations = append(operations, *op)
			}
		}
	}
	if len(roots) == 0 {
		return nil
	}
	isRoot := map[gid.ID]bool{}
	for _, id := range roots {
		isRoot[id] = true
	}
	type link struct{ with, operation gid.ID }
	type came struct {
		item, id gid.ID
		link
		state string
	}
	var items []came
	links := map[gid.ID][]link{}
	ids := map[string][]gid.ID{}
	// The items of the roots themselves say what these go back to.
	const columns = `SELECT id, record_id, came_with, operation_id, prior_state FROM operation_items WHERE outcome = '` + changed + `' AND `
	err := store.Build(r.q).Add(columns).IDs("operation_id", operations).Add(` AND `).IDs("came_with", roots).
		Add(` UNION ALL `+columns).IDs("operation_id", operations).Add(` AND `).IDs("record_id", roots).
		Query(ctx, r.q, func(row store.Row) error {
			var c came
			err := row.Scan(&c.item, &c.id, &c.with, &c.operation, &c.state)
			items = append(items, c)
			return err
		})
	if err != nil {
		return fmt.Errorf("reading what came along: %w", err)
	}
	// In their order: not by the statement, for which SQLite would walk through all items there are.
	slices.SortFunc(items, func(a, b came) int { return bytes.Compare(a.item[:], b.item[:]) })
	for _, c := range items {
		r.keepPrior(stackTop{c.id, c.operation}, c.state)
		if t := ent.RecordTypeOf(c.id); t != nil && isRoot[c.with] {
			if links[c.id] == nil {
				ids[t.Name] = append(ids[t.Name], c.id)
			}
			links[c.id] = append(links[c.id], c.link)
		}
	}
	var found []ent.Record
	for _, t := range typeOrder {
		rows, err := r.load(ctx, t, ids[t.Name], update)
		if err != nil {
			return err
		}
		found = append(found, rows...)
	}
	var further []ent.Record // that came with an owner of their owner
	for _, row := range found {
		for _, l := range links[row.RecordID()] {
			if !belongs(row, l.with, nil) {
				further = append(further, row)
			}
		}
	}
	owners, err := r.ownersOf(ctx, further)
	if err != nil {
		return err
	}
	for _, row := range found {
		op := refOf(row, "operation_id")
		for _, l := range links[row.RecordID()] {
			parent := r.nodes[l.with]
			of := refOf(parent.row, "operation_id")
			if op != nil && of != nil && *op == l.operation && *of == l.operation && belongs(row, l.with, owners) {
				attach(parent, row)
			}
		}
	}
	return nil
}

// belongs reports whether a record still hangs on an owner, or on what hangs on
// it: one that was given another meanwhile goes its own way.
func belongs(row ent.Record, owner gid.ID, owners map[gid.ID]ent.Record) bool {
	for _, e := range row.RecordType().Edges {
		if id := refOf(row, e.Column); e.Class != lifecycle.Weak && id != nil {
			if above := owners[*id]; *id == owner || above != nil && belongs(above, owner, owners) {
				return true
			}
		}
	}
	return false
}

// ownersOf reads what records hang on, all the way up.
func (r *run) ownersOf(ctx context.Context, rows []ent.Record) (map[gid.ID]ent.Record, error) {
	out := map[gid.ID]ent.Record{}
	for len(rows) > 0 {
		ids := map[string][]gid.ID{}
		for _, row := range rows {
			for _, e := range row.RecordType().Edges {
				if id := refOf(row, e.Column); e.Class != lifecycle.Weak && id != nil && out[*id] == nil {
					ids[e.Target] = append(ids[e.Target], *id)
				}
			}
		}
		rows = nil
		for _, t := range typeOrder {
			above, err := r.load(ctx, t, ids[t.Name], none)
			if err != nil {
				return nil, err
			}
			for _, row := range above {
				out[row.RecordID()] = row
			}
			rows = append(rows, above...)
		}
	}
	return out, nil
}

// authorizeAlong asks for everything that comes along at once: the verb on each
// row, and whether the caller may read it at all.
func (r *run) authorizeAlong(ctx context.Context) {
	var along []*node
	var questions []access.Question
	for _, n := range r.sorted() {
		if n.item != nil {
			continue
		}
		along = append(along, n)
		q := r.question(n.row)
		questions = append(questions, q)
		q.Action = authz.Read
		if n.row.RecordState().Retired() {
			q.Action = authz.ReadRetired
		}
		questions = append(questions, q)
	}
	answers := r.control.Decide(ctx, r.a, questions)
	for i, n := range along {
		may, reads := answers[2*i], answers[2*i+1]
		if may.Permit && reads.Permit {
			continue
		}
		n.problem = lifecycle.Forbidden
		if may.Unavailable || reads.Unavailable {
			n.problem = lifecycle.AuthzUnavailable
		}
		if !reads.Permit {
			n.blockers = []Blocker{{Code: n.problem, Hidden: true}}
		} else {
			n.blockers = []Blocker{{Code: n.problem, Type: n.row.RecordType().Name, Count: 1}}
		}
	}
	r.compareApproved()
}

// sorted lists the nodes by depth and id.
func (r *run) sorted() []*node {
	out := make([]*node, 0, len(r.nodes))
	for _, n := range r.nodes {
		out = append(out, n)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i].row.RecordID(), out[j].row.RecordID()
		if out[i].depth != out[j].depth {
			return out[i].depth < out[j].depth
		}
		return bytes.Compare(a[:], b[:]) < 0
	})
	return out
}

// settle decides which picked records go ahead. A record fails with everything
// that brings it along; in ALL_OR_NOTHING one failure stops all. check, if
// given, looks at a node that is included and may set its problem.
func (r *run) settle(checks ...func(*node)) {
	nodes := r.sorted()
	for again := true; again; {
		again = false
		r.include()
		wrong := func(n *node) bool { return n.included && n.problem != "" }
		for i, check := range checks {
			if i > 0 && slices.ContainsFunc(nodes, wrong) {
				break // what that takes out of the way may change what the next check finds
			}
			for _, n := range nodes {
				if n.included && n.problem == "" {
					check(n)
				}
			}
		}
		for _, it := range r.items {
			if it.node == nil {
				continue
			}
			if bad := problems(it.node); len(bad) > 0 {
				r.reject(it, bad)
				again = true
			}
		}
	}
	if r.req.Mode == AllOrNothing && slices.ContainsFunc(r.items, func(it *item) bool { return it.outcome == failed }) {
		for _, it := range r.items {
			if it.outcome != failed {
				it.outcome, it.code, it.node = notProcessed, "", nil
			}
		}
		r.include()
	}
	r.along, r.changing = nil, nil
	for _, n := range nodes {
		if !n.included {
			continue
		}
		r.changing = append(r.changing, n)
		for _, above := range n.above {
			if above.included {
				id := above.row.RecordID()
				n.cameWith = &id
				break
			}
		}
		if n.cameWith == nil {
			n.cameWith = n.under
		}
		if n.item != nil && n.item.node == n {
			n.item.outcome, n.depth = changed, 0
		} else {
			n.item = nil // a pick that was refused comes along no more
			r.along = append(r.along, n)
		}
	}
}

// include marks what is reached from the picks that still go ahead.
func (r *run) include() {
	for _, n := range r.nodes {
		n.included = false
	}
	var visit func(*node)
	visit = func(n *node) {
		if n.included {
			return
		}
		n.included = true
		for _, b := range n.below {
			visit(b)
		}
	}
	for _, it := range r.items {
		if it.node != nil {
			visit(it.node)
		}
	}
}

// problems lists the nodes below n, itself included, that cannot be changed.
func problems(n *node) []*node {
	var out []*node
	seen := map[*node]bool{}
	var visit func(*node)
	visit = func(n *node) {
		if seen[n] {
			return
		}
		seen[n] = true
		if n.problem != "" || n.item != nil && n.item.outcome == failed && n.item.node == nil {
			out = append(out, n)
		}
		for _, b := range n.below {
			visit(b)
		}
	}
	visit(n)
	return out
}

// reject fails a pick for what is wrong below it. Of what the caller may not
// read nothing is told but that there is something.
func (r *run) reject(it *item, bad []*node) {
	sort.Slice(bad, func(i, j int) bool { return bad[i].depth < bad[j].depth })
	code := lifecycle.Code("")
	var blockers []Blocker
	hidden := false
	for _, n := range bad {
		c, list := n.problem, n.blockers
		if c == "" {
			c, list = n.item.code, n.item.blockers
		}
		if code == "" {
			code = c
		}
		for _, b := range list {
			hidden = hidden || b.Hidden
			blockers = merge(blockers, b)
		}
	}
	if hidden {
		blockers = []Blocker{{Code: code, Hidden: true}}
	}
	it.fail(code, blockers...)
}

// merge adds a blocker to a list; those that only count a type are added up.
func merge(list []Blocker, b Blocker) []Blocker {
	for i := range list {
		if list[i].Code == b.Code && list[i].Type == b.Type && b.Record == "" && list[i].Record == "" && b.Field == "" && b.Count > 0 {
			list[i].Count += b.Count
			list[i].Until = latest(list[i].Until, b.Until)
			return list
		}
	}
	return append(list, b)
}

// latest is the later of two times, of which either may be missing.
func latest(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.After(*a) {
		return b
	}
	return a
}

// readable says which rows the caller may read in the state they are in.
func (r *run) readable(ctx context.Context, rows []ent.Record) []bool {
	questions := make([]access.Question, len(rows))
	for i, row := range rows {
		questions[i] = r.question(row)
		questions[i].Action = authz.Read
		if row.RecordState().Retired() {
			questions[i].Action = authz.ReadRetired
		}
	}
	out := make([]bool, len(rows))
	for i, answer := range r.control.Decide(ctx, r.a, questions) {
		out[i] = answer.Permit
	}
	return out
}
