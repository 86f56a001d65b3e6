package record

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// planRestore plans restore and undo: every row goes back to what the item of
// its present operation kept. Restore takes the tree of each pick along; undo
// takes exactly what the operation changed.
func (r *run) planRestore(ctx context.Context) error {
	if r.undo == nil {
		if err := r.reach(ctx, func(lifecycle.Class) bool { return false }); err != nil {
			return err
		}
	} else {
		r.linkOwners()
	}
	if err := r.pops(ctx, slices.Collect(maps.Values(r.nodes))); err != nil {
		return err
	}
	var err error
	if r.parent, err = r.newParent(ctx); err != nil {
		return err
	}
	if r.req.WithAncestors {
		if err := r.ancestors(ctx, r.parent); err != nil {
			return err
		}
	}
	r.authorizeAlong(ctx)
	if err := r.keepHeld(ctx); err != nil {
		return err
	}
	if err = r.mayMendFields(ctx); err != nil {
		return err
	}
	if r.overrides, err = r.readOverrides(); err != nil {
		return err
	}
	owners, err := r.owners(ctx)
	if err != nil {
		return err
	}
	twins, err := r.twins(ctx, r.overrides, r.parent)
	if err != nil {
		return err
	}
	claims := r.claims(r.overrides, r.parent)
	r.settle(func(n *node) {
		// What stays out of business needs no live owner, but an orphan needs one to go anywhere.
		if !n.to.Retired() || timeOf(n.row, "orphaned_at") != nil {
			r.checkOwner(n, owners, r.parent)
		}
	}, func(n *node) {
		if !n.to.Retired() {
			r.checkTwin(n, twins, claims)
		}
	})
	return nil
}

// applyRestore carries out restore and undo.
func (r *run) applyRestore(ctx context.Context) error {
	changes, err := r.mend(ctx, r.overrides, r.parent)
	if err != nil {
		return err
	}
	if err := r.popRows(ctx); err != nil {
		return err
	}
	if err := r.touched(ctx); err != nil {
		return err
	}
	if len(changes) > 0 && len(r.wide) > 0 { // what was mended may be another's by now
		before := map[gid.ID][]wideHold{}
		for id := range changes {
			if k := r.keeps[id]; len(k.wide) > 0 {
				before[id] = k.wide
			}
		}
		if err := r.nameLost(ctx, r.tx, r.a, before); err != nil {
			return err
		}
	}
	if r.undo != nil && slices.ContainsFunc(r.items, func(it *item) bool { return it.outcome == changed }) {
		if _, err := store.Build(r.tx).Add(`UPDATE operations SET undone_by_id = ? WHERE id = ? AND undone_by_id IS NULL`, r.id, r.undo.ID).Exec(ctx, r.tx); err != nil {
			return fmt.Errorf("marking the operation as undone: %w", err)
		}
	}
	version, nodes := r.control.Version(ctx, r.a.Tenant), r.changing
	return r.audit.AppendEach(ctx, r.tx, len(nodes), func(i int) audit.Event {
		n := nodes[i]
		e := event(string(r.req.Verb), n.row, changes[n.row.RecordID()])
		e.From, e.To, e.Version = n.row.RecordState(), n.to, n.row.RecordVersion()+1
		e.Operation, e.PolicyVersion, e.Personal.Reason = &r.id, version, r.req.Reason
		return e
	})
}

// linkOwners puts below their owners the picked rows that nothing brought along:
// what an undone operation changed, so that a row is not restored below an owner
// that cannot be, and what is retired together with its owner without coming
// along with it, because it was retired before or blocks. All of it is of one
// tree from then on.
func (r *run) linkOwners() {
	for _, n := range r.nodes {
		if n.item == nil || len(n.above) > 0 {
			continue
		}
		for _, e := range n.row.RecordType().Edges {
			if e.Class == lifecycle.Weak {
				continue
			}
			if id := refOf(n.row, e.Column); id != nil && r.nodes[*id] != nil {
				n.above = append(n.above, r.nodes[*id])
			}
		}
	}
}

// stackTop names the item that put a record into its present state.
type stackTop struct{ record, operation gid.ID }

// pops finds what each row goes back to: in the items that were read when what
// came along was looked for, else in the database.
func (r *run) pops(ctx context.Context, nodes []*node) error {
	var ids, operations []gid.ID
	for _, n := range nodes {
		op := refOf(n.row, "operation_id")
		if op == nil {
			continue
		}
		if _, known := r.priors[stackTop{n.row.RecordID(), *op}]; !known {
			ids = append(ids, n.row.RecordID())
			if !slices.Contains(operations, *op) {
				operations = append(operations, *op)
			}
		}
	}
	if len(ids) > 0 {
		err := store.Build(r.q).Add(`SELECT record_id, operation_id, prior_state FROM operation_items WHERE outcome = ? AND `, changed).
			IDs("operation_id", operations).Add(` AND `).IDs("record_id", ids).Query(ctx, r.q, func(row store.Row) error {
			var top stackTop
			var state string
			err := row.Scan(&top.record, &top.operation, &state)
			r.keepPrior(top, state)
			return err
		})
		if err != nil {
			return fmt.Errorf("reading prior states: %w", err)
		}
	}
	for _, n := range nodes {
		if op := refOf(n.row, "operation_id"); op != nil {
			if state, ok := r.priors[stackTop{n.row.RecordID(), *op}]; ok {
				if n.awake = n.ranOut(state, r.q.Now()); n.awake {
					state = lifecycle.Active // timers do not touch what is retired or archived
				}
				n.pop, n.to = &prior{state: state}, state
			}
		}
	}
	for _, n := range nodes {
		if n.pop == nil {
			return fmt.Errorf("record %s has no item in its operation", n.row.RecordID())
		}
	}
	return nil
}

func (p *plan) keepPrior(top stackTop, state string) {
	if p.priors == nil {
		p.priors = map[stackTop]lifecycle.State{}
	}
	p.priors[top] = lifecycle.State(state)
}

// newParent loads the owner to restore below.
func (r *run) newParent(ctx context.Context) (ent.Record, error) {
	id := r.req.NewParentID
	if id == nil {
		return nil, nil
	}
	t := ent.RecordTypeOf(*id)
	if t == nil {
		return nil, Refuse(lifecycle.BadUserInput, "is no record", "newParentID")
	}
	rows, err := r.load(ctx, t, []gid.ID{*id}, share)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, Refuse(lifecycle.BadUserInput, "there is no such record", "newParentID")
	}
	if rows[0].RecordState().Retired() {
		return nil, &Error{Code: lifecycle.ParentRetired, Message: "the new owner is retired", Fields: []string{"newParentID"}, Extensions: map[string]any{"state": string(rows[0].RecordState())}}
	}
	for _, it := range r.items {
		if it.node != nil && ownerEdge(it.typ, t) == nil {
			return nil, Refuse(lifecycle.BadUserInput, "cannot own a record of that type", "newParentID")
		}
	}
	return rows[0], nil
}

// ownerEdge is the edge by which a record of type t belongs to one of type owner.
func ownerEdge(t, owner *ent.RecordType) *ent.RecordReference {
	for i, e := range t.Edges {
		if e.Class != lifecycle.Weak && e.Target == owner.Name {
			return &t.Edges[i]
		}
	}
	return nil
}

// ancestors adds the chain of retired owners of what is picked, and nothing
// else of theirs.
func (r *run) ancestors(ctx context.Context, parent ent.Record) error {
	all := visible.With(ctx, visible.Tenant(r.a.Tenant))
	level := slices.Collect(maps.Values(r.nodes))
	for len(level) > 0 {
		ids := map[string][]gid.ID{}
		below := map[gid.ID][]*node{}
		for _, n := range level {
			if n.to.Retired() || n.item != nil && parent != nil {
				continue
			}
			for _, e := range n.row.RecordType().Edges {
				id := refOf(n.row, e.Column)
				if e.Class == lifecycle.Weak || id == nil {
					continue
				}
				if known := r.nodes[*id]; known != nil {
					if known.item == nil && !slices.Contains(n.below, known) { // an owner of another pick, too
						n.below = append(n.below, known)
					}
					continue
				}
				ids[e.Target] = append(ids[e.Target], *id)
				below[*id] = append(below[*id], n)
			}
		}
		level = nil
		for _, t := range typeOrder {
			rows, err := r.load(all, t, ids[t.Name], update)
			if err != nil {
				return err
			}
			for _, row := range rows {
				if !row.RecordState().Retired() {
					continue
				}
				n := r.addAlong(row, 0)
				// It comes along with what it owns: without it that is refused.
				for _, b := range below[row.RecordID()] {
					b.below = append(b.below, n)
				}
				level = append(level, n)
			}
		}
		if err := r.pops(ctx, level); err != nil {
			return err
		}
	}
	return nil
}

// readOverrides answers the new values by record and column.
func (r *run) readOverrides() (map[gid.ID]map[string]string, error) {
	out := map[gid.ID]map[string]string{}
	for id, values := range r.req.Overrides {
		n := r.nodes[id]
		if n == nil {
			if r.batch != nil || slices.ContainsFunc(r.items, func(it *item) bool { return it.id == id }) {
				continue // it is of another batch, or was refused already: nothing to mend
			}
			return nil, Refuse(lifecycle.BadUserInput, "are for records that are restored", "overrides")
		}
		t := n.row.RecordType()
		out[id] = map[string]string{}
		for name, v := range values {
			i := slices.IndexFunc(t.Uniques, func(u ent.RecordUnique) bool { return u.GraphQL == name })
			if i < 0 || len(v) > mixin.MaxKey || t.Uniques[i].Fold != lifecycle.FoldNone && mixin.Characters(mixin.MaxName)(v) != nil || !storable(v) {
				return nil, Refuse(lifecycle.BadUserInput, "cannot be mended with this value", "overrides", name)
			}
			out[id][t.Uniques[i].Field] = v
		}
	}
	return out, nil
}

// owners loads what the rows belong to, in any state, as far as it is not
// restored with them.
func (r *run) owners(ctx context.Context) (map[gid.ID]blocker, error) {
	ids, known, seen := map[string][]gid.ID{}, map[string][]ent.Record{}, map[gid.ID]bool{}
	for _, n := range r.nodes {
		for _, e := range n.row.RecordType().Edges {
			id := refOf(n.row, e.Column)
			if id == nil || e.Class == lifecycle.Weak || seen[*id] {
				continue
			}
			seen[*id] = true
			if row := r.above[*id]; row != nil {
				known[e.Target] = append(known[e.Target], row)
			} else {
				ids[e.Target] = append(ids[e.Target], *id)
			}
		}
	}
	out := map[gid.ID]blocker{}
	all := visible.With(ctx, visible.Tenant(r.a.Tenant))
	for _, t := range typeOrder {
		rows, err := r.load(all, t, ids[t.Name], share)
		if err != nil {
			return nil, err
		}
		rows = append(rows, known[t.Name]...)
		for i, ok := range r.readable(ctx, rows) {
			out[rows[i].RecordID()] = blocker{rows[i], ok}
		}
	}
	return out, nil
}

func (r *run) checkOwner(n *node, owners map[gid.ID]blocker, parent ent.Record) {
	if n.item != nil && parent != nil {
		return // it gets another owner
	}
	if timeOf(n.row, "orphaned_at") != nil {
		n.problem, n.blockers = lifecycle.ParentRetired, []Blocker{{Code: lifecycle.ParentRetired, Field: "newParentID"}}
		return
	}
	for _, e := range n.row.RecordType().Edges {
		id := refOf(n.row, e.Column)
		if e.Class == lifecycle.Weak || id == nil {
			continue
		}
		if with := r.nodes[*id]; with != nil && with.included && !with.to.Retired() {
			continue
		}
		owner, ok := owners[*id]
		if ok && !owner.row.RecordState().Retired() {
			continue
		}
		b := Blocker{Code: lifecycle.ParentRetired, Hidden: true}
		if ok && owner.readable {
			b = Blocker{Code: lifecycle.ParentRetired, Type: e.Target, Record: id.UUID(), State: owner.row.RecordState(), Count: 1}
			if op := refOf(owner.row, "operation_id"); op != nil {
				b.Operation = op.UUID()
			}
		}
		n.problem, n.blockers = lifecycle.ParentRetired, []Blocker{b}
		return
	}
}

// valueOf is a column of a row as it will be when restored.
func valueOf(n *node, column string, overrides map[gid.ID]map[string]string, parent ent.Record) any {
	if v, ok := overrides[n.row.RecordID()][column]; ok {
		return v
	}
	if parent != nil && n.item != nil {
		if e := ownerEdge(n.row.RecordType(), parent.RecordType()); e != nil && e.Column == column {
			return parent.RecordID()
		}
	}
	return n.row.Column(column)
}

// newKey reports whether a row comes under a unique value it does not hold now.
func newKey(n *node, overrides map[gid.ID]map[string]string, parent ent.Record) bool {
	return n.row.RecordState().Retired() || len(overrides[n.row.RecordID()]) > 0 || parent != nil && n.item != nil
}

// scope is under which key and scope a row's value is unique; empty for none.
func scope(n *node, u ent.RecordUnique, overrides map[gid.ID]map[string]string, parent ent.Record) (key, within string) {
	text, _ := valueOf(n, u.Field, overrides, parent).(string)
	if key = Fold(text, u.Fold); key == "" || u.Within == "" {
		return key, key
	}
	id, ok := valueOf(n, u.Within, overrides, parent).(gid.ID)
	if !ok {
		return "", ""
	}
	return key, key + " " + id.String()
}

// twins finds the live records that have the values of what is restored, by
// type, field and scope.
func (r *run) twins(ctx context.Context, overrides map[gid.ID]map[string]string, parent ent.Record) (map[string]blocker, error) {
	out := map[string]blocker{}
	for _, t := range typeOrder {
		for _, u := range t.Uniques {
			var keys []string
			for _, n := range r.nodes {
				if n.row.RecordType() == t && !n.to.Retired() && newKey(n, overrides, parent) {
					if key, _ := scope(n, u, overrides, parent); key != "" {
						keys = append(keys, key)
					}
				}
			}
			if len(keys) == 0 {
				continue
			}
			taken, err := r.taken(ctx, r.q, r.a, t, u, keys)
			if err != nil {
				return nil, err
			}
			if len(taken) == 0 {
				continue
			}
			rows, err := r.load(visible.With(ctx, visible.Tenant(r.a.Tenant)), t, slices.Collect(maps.Values(taken)), none)
			if err != nil {
				return nil, err
			}
			readable := map[gid.ID]bool{}
			byID := map[gid.ID]ent.Record{}
			for i, ok := range r.readable(ctx, rows) {
				readable[rows[i].RecordID()], byID[rows[i].RecordID()] = ok, rows[i]
			}
			for within, id := range taken {
				out[t.Name+u.Field+within] = blocker{byID[id], readable[id]}
			}
		}
	}
	return out, nil
}

// claim is a value that nobody else may have, by type, field and scope.
type claim struct {
	unique ent.RecordUnique
	within string
}

func (c claim) key(t *ent.RecordType) string { return t.Name + c.unique.Field + c.within }

// claims are the values that come back to life with each node, and who claims
// each. They are worked out once: folding a domain a million times takes minutes.
type claims struct {
	of map[*node][]claim
	by map[string][]*node
}

func (r *run) claims(overrides map[gid.ID]map[string]string, parent ent.Record) claims {
	c := claims{map[*node][]claim{}, map[string][]*node{}}
	for _, n := range r.nodes {
		t := n.row.RecordType()
		if n.to.Retired() {
			continue
		}
		for _, u := range t.Uniques {
			if _, within := scope(n, u, overrides, parent); within != "" {
				mine := claim{u, within}
				c.by[mine.key(t)] = append(c.by[mine.key(t)], n)
				if newKey(n, overrides, parent) {
					c.of[n] = append(c.of[n], mine)
				}
			}
		}
	}
	return c
}

func (r *run) checkTwin(n *node, twins map[string]blocker, all claims) {
	t := n.row.RecordType()
	for _, mine := range all.of[n] {
		b := Blocker{Code: lifecycle.UniqueConflict, Type: t.Name, Field: mine.unique.GraphQL}
		twin, taken := twins[mine.key(t)]
		taken = taken && (twin.row == nil || twin.row.RecordID() != n.row.RecordID())
		if taken && twin.readable && twin.row != nil {
			b.Record = twin.row.RecordID().UUID()
		}
		for _, other := range all.by[mine.key(t)] { // of two among its own rows the later fails
			if !taken && other != n && other.included && other.problem == "" && other.row.RecordID().UUID() < n.row.RecordID().UUID() {
				taken = true
			}
		}
		if taken {
			n.problem, n.blockers = lifecycle.UniqueConflict, []Blocker{b}
			return
		}
	}
}

// mend writes new values and the new owner, before the rows come back to life
// and their indexes with them.
func (r *run) mend(ctx context.Context, overrides map[gid.ID]map[string]string, parent ent.Record) (map[gid.ID][]audit.Change, error) {
	changes, mended := map[gid.ID][]audit.Change{}, map[*ent.RecordType][]gid.ID{}
	for id, values := range overrides {
		n := r.nodes[id]
		if !n.included || len(values) == 0 {
			continue
		}
		t := n.row.RecordType()
		stmt := store.Build(r.tx).Add(`UPDATE `+t.Table+` SET updated_at = ?`, r.tx.Now())
		for column, v := range values {
			stmt.Add(`, `+column+` = ?`, nullText(v))
			for key, fold := range keyColumns(t, column) {
				stmt.Add(`, `+key+` = ?`, nullText(Fold(v, fold)))
			}
			changes[id] = append(changes[id], audit.Change{Field: graphQLName(t, column), Old: n.row.Column(column), New: nullText(v)})
		}
		if err := r.exec(ctx, t, stmt, []gid.ID{id}); err != nil {
			return nil, err
		}
		mended[t] = append(mended[t], id)
	}
	if err := r.refindMended(ctx, mended); err != nil {
		return nil, err
	}
	if parent == nil {
		return changes, nil
	}
	moved := map[*ent.RecordType][]gid.ID{}
	for _, it := range r.items {
		if it.node != nil && it.node.included {
			e := ownerEdge(it.typ, parent.RecordType())
			moved[it.typ] = append(moved[it.typ], it.id)
			changes[it.id] = append(changes[it.id], audit.Change{Field: e.GraphQL, Old: it.node.row.Column(e.Column), New: parent.RecordID()})
			for _, other := range it.typ.Edges {
				if v := it.node.row.Column(other.Column); it.typ.OneOwner && other.Class == lifecycle.Owned && other.Column != e.Column && v != nil {
					changes[it.id] = append(changes[it.id], audit.Change{Field: other.GraphQL, Old: v})
				}
			}
		}
	}
	for t, ids := range moved {
		to := ownerEdge(t, parent.RecordType()).Column
		stmt := store.Build(r.tx).Add(`UPDATE `+t.Table+` SET `+to+` = ?, orphaned_at = NULL`, parent.RecordID())
		for _, e := range t.Edges {
			if t.OneOwner && e.Class == lifecycle.Owned && e.Column != to {
				stmt.Add(`, ` + e.Column + ` = NULL`)
			}
		}
		if err := r.exec(ctx, t, stmt, ids); err != nil {
			return nil, err
		}
	}
	return changes, nil
}

// popRows takes the top off the stack of each row: one statement a type.
func (r *run) popRows(ctx context.Context) error {
	now := r.tx.Now()
	for _, t := range typeOrder {
		ids := r.changedIDs(t)
		if len(ids) == 0 {
			continue
		}
		// Back in ACTIVE it says who restored it; in any other state who put it
		// there first. What is voided is on a clock only as an orphan, which it is
		// no more once it has another owner.
		err := store.Build(r.tx).Add(`UPDATE `+t.Table+` SET state = i.prior_state, operation_id = i.prior_operation_id,
			prior_state = (SELECT p.prior_state FROM operation_items p WHERE p.operation_id = i.prior_operation_id AND p.record_id = i.record_id AND p.outcome = 'CHANGED'),
			purge_after = CASE WHEN i.prior_state = 'VOIDED' AND `+t.Table+`.orphaned_at IS NULL THEN NULL ELSE i.prior_purge_after END, retired_at = i.prior_retired_at,
			state_changed_at = CASE WHEN i.prior_state = 'ACTIVE' THEN ? ELSE i.prior_changed_at END,`, now).
			Add(` state_changed_by_id = CASE WHEN i.prior_state = 'ACTIVE' THEN ?`, nullID(r.a.UserRef())).Add(r.uuidCast()+` ELSE i.prior_changed_by END,
			state_reason = i.prior_reason, updated_at = ?, version = `+t.Table+`.version + 1,
			suspended_until = CASE WHEN i.prior_state = 'ACTIVE' THEN NULL ELSE `+t.Table+`.suspended_until END,
			suspended_then = CASE WHEN i.prior_state = 'ACTIVE' THEN NULL ELSE `+t.Table+`.suspended_then END
			FROM operation_items i WHERE i.record_id = `+t.Table+`.id AND i.operation_id = `+t.Table+`.operation_id AND i.outcome = 'CHANGED'
			AND `+t.Table+`.tenant_id = ? AND `, now, r.a.Tenant).IDs(t.Table+".id", ids).Queue(ctx, r.tx, meets(t, len(ids)))
		if err != nil {
			return err
		}
		if err := r.wake(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// wake ends the suspensions that ran out while their records were retired or archived.
func (r *run) wake(ctx context.Context, t *ent.RecordType) error {
	var ids []gid.ID
	for _, n := range r.changing {
		if n.awake && n.row.RecordType() == t {
			ids = append(ids, n.row.RecordID())
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return r.exec(ctx, t, store.Build(r.tx).Add(`UPDATE `+t.Table+` SET state = ?, prior_state = NULL, operation_id = NULL, state_changed_at = ?, state_changed_by_id = ?,
		state_reason = NULL, suspended_until = NULL, suspended_then = NULL`, string(lifecycle.Active), r.tx.Now(), nullID(r.a.UserRef())), ids)
}

// uuidCast tells PostgreSQL the type of a parameter it cannot infer.
func (r *run) uuidCast() string {
	if r.tx.Dialect() == "postgres" {
		return "::uuid"
	}
	return ""
}
