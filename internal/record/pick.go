package record

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// pick freezes the selection as items, in the order it was given.
func (r *run) pick(ctx context.Context) error {
	sel := r.req.Select
	add := func(id gid.ID, version int) {
		r.items = append(r.items, &item{id: id, typ: ent.RecordTypeOf(id), expect: version})
	}
	switch {
	case sel.Filter != nil:
		ids, err := r.filtered(ctx, sel.Filter)
		if err != nil {
			return err
		}
		for _, id := range ids {
			add(id, 0)
		}
	case sel.Bin != nil:
		ids, err := r.inBin(ctx, sel.Bin)
		if err != nil {
			return err
		}
		for _, id := range ids {
			add(id, 0)
		}
	case sel.Operation != nil:
		if err := r.ofOperation(ctx, *sel.Operation, add); err != nil {
			return err
		}
	case sel.Versions != nil:
		for _, v := range sel.Versions {
			add(v.ID, v.Version)
		}
	default:
		for _, id := range sel.IDs {
			add(id, 0)
		}
	}
	if len(r.items) > MaxRows {
		return r.tooMany()
	}
	seen := map[gid.ID]bool{}
	for _, it := range r.items {
		if seen[it.id] {
			it.outcome, it.code = unchanged, lifecycle.DuplicateInput
		}
		seen[it.id] = true
	}
	return nil
}

// filtered answers the ids a filter selects, one more than may be at most.
func (r *run) filtered(ctx context.Context, f *Filter) ([]gid.ID, error) {
	t := ent.RecordTypeNamed(f.Type)
	if t == nil {
		return nil, Refuse(lifecycle.BadUserInput, "there is no such type", "select")
	}
	states := lifecycle.ChangedBy(r.req.Verb)
	if r.deletes() {
		states = lifecycle.States()
	}
	if r.req.States != nil {
		states = slices.DeleteFunc(states, func(s lifecycle.State) bool { return !slices.Contains(r.req.States, s) })
	}
	// Live and retired rows are found by different indexes: those of fields hold
	// live rows only.
	isRetired := lifecycle.State.Retired
	live, retired := slices.DeleteFunc(slices.Clone(states), isRetired), slices.DeleteFunc(states, func(s lifecycle.State) bool { return !isRetired(s) })
	ids, err := r.idsOf(ctx, t, f, live, sql.IsNull)
	if err != nil {
		return nil, err
	}
	more, err := r.idsOf(ctx, t, f, retired, sql.NotNull)
	if err != nil {
		return nil, err
	}
	ids = append(ids, more...)
	slices.SortFunc(ids, func(a, b gid.ID) int { return bytes.Compare(a[:], b[:]) })
	return ids, nil
}

// idsOf answers the ids of a filter's records in some states, in order.
func (r *run) idsOf(ctx context.Context, t *ent.RecordType, f *Filter, states []lifecycle.State, retired func(string) *sql.Predicate) ([]gid.ID, error) {
	if len(states) == 0 {
		return nil, nil
	}
	names := make([]any, len(states))
	for i, state := range states {
		names[i] = string(state)
	}
	rows, err := r.Client(ctx).CollectRecords(ctx, t.Name, nil, []string{"id"}, f.Where, func(s *sql.Selector) {
		s.Where(retired(s.C("retired_at"))).Where(sql.In(s.C("state"), names...))
		s.OrderBy(s.C("id")).Limit(MaxRows + 1)
	})
	if err != nil {
		return nil, fmt.Errorf("selecting %s: %w", t.Table, err)
	}
	ids := make([]gid.ID, len(rows))
	for i, row := range rows {
		ids[i] = row.RecordID()
	}
	return ids, nil
}

// ofOperation selects what an operation changed that the caller may know of.
func (r *run) ofOperation(ctx context.Context, id gid.ID, add func(gid.ID, int)) error {
	op, err := r.Client(ctx).Operation.Get(ctx, id)
	if ent.IsNotFound(err) {
		return Refuse(lifecycle.NotFound, "there is no such operation", "id")
	}
	if err != nil {
		return fmt.Errorf("reading the operation: %w", err)
	}
	if r.req.Verb == lifecycle.Undo {
		switch op.Verb {
		case lifecycle.Delete, lifecycle.Void, lifecycle.Archive, lifecycle.Suspend:
		default:
			return Refuse(lifecycle.IllegalTransition, "this operation cannot be undone", "id")
		}
		r.undo = op
	}
	var ids []gid.ID
	err = store.Build(r.q).Add(`SELECT record_id FROM operation_items WHERE operation_id = ? AND outcome = ? ORDER BY id`, id, changed).
		Query(ctx, r.q, scanIDs(func(record gid.ID) { ids = append(ids, record) }))
	if err != nil {
		return fmt.Errorf("reading the operation's items: %w", err)
	}
	seen := map[gid.ID]bool{}
	for _, t := range typeOrder {
		rows, err := r.load(ctx, t, slices.DeleteFunc(slices.Clone(ids), func(id gid.ID) bool { return ent.RecordTypeOf(id) != t }), none)
		if err != nil {
			return err
		}
		for _, row := range rows {
			seen[row.RecordID()] = true
		}
	}
	gone := map[gid.ID]bool{}
	if r.undo != nil { // which says of each what became of it
		if gone, err = r.purged(ctx, r.q, r.a, slices.DeleteFunc(slices.Clone(ids), func(id gid.ID) bool { return seen[id] })); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if seen[id] || gone[id] {
			add(id, 0)
		}
	}
	return nil
}

// judge locks the picked records and says of each whether the verb applies.
func (r *run) judge(ctx context.Context) error {
	ids := map[string][]gid.ID{}
	var all []gid.ID
	for _, it := range r.items {
		if it.outcome == "" && it.typ != nil {
			ids[it.typ.Name] = append(ids[it.typ.Name], it.id)
			all = append(all, it.id)
		}
	}
	if err := r.lockAbove(ctx, ids); err != nil {
		return err
	}
	rows := map[gid.ID]ent.Record{}
	for _, t := range typeOrder {
		found, err := r.loadPicked(ctx, t, ids[t.Name])
		if err != nil {
			return err
		}
		for _, row := range found {
			rows[row.RecordID()] = row
		}
	}
	for _, it := range r.items {
		if row := rows[it.id]; row != nil {
			it.version = row.RecordVersion()
		}
	}
	gone, err := r.purged(ctx, r.q, r.a, slices.DeleteFunc(all, func(id gid.ID) bool { return rows[id] != nil }))
	if err != nil {
		return err
	}
	var present []*item
	var questions []access.Question
	for _, it := range r.items {
		switch row := rows[it.id]; {
		case it.outcome != "":
		case row != nil:
			it.node = &node{row: row, item: it}
			present = append(present, it)
			questions = append(questions, r.question(row))
		case gone[it.id] && r.req.Verb == lifecycle.Purge:
			it.outcome = unchanged
		case r.undo != nil: // what is purged, or out of sight by now, is left alone
			it.outcome, it.code = unchanged, lifecycle.NotFound
			if gone[it.id] {
				it.code = lifecycle.Gone
			}
		case gone[it.id]:
			it.fail(lifecycle.Gone)
		case r.req.Select.Filter != nil: // it matched a moment ago
			it.fail(lifecycle.Conflict)
		default:
			it.fail(lifecycle.NotFound)
		}
	}
	deletes := r.mayDeletePicks(ctx, present)
	for i, answer := range r.control.Decide(ctx, r.a, questions) {
		it := present[i]
		if !answer.Permit {
			it.fail(refusal(answer).Code)
			continue
		}
		if also, asked := deletes[it.id]; asked && !also.Permit {
			it.fail(refusal(also).Code)
			continue
		}
		r.judgeState(it)
		if it.node != nil {
			r.nodes[it.id] = it.node
		}
	}
	return nil
}

// loadPicked locks what is picked, and reads it. A filter is asked again with
// the lock: what somebody has changed while that was waited for may match no
// more.
func (r *run) loadPicked(ctx context.Context, t *ent.RecordType, ids []gid.ID) ([]ent.Record, error) {
	f := r.req.Select.Filter
	if f == nil {
		f = &Filter{Where: func(*sql.Selector) {}}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return r.query(ctx, t, update, func(s *sql.Selector) {
		s.Where(inIDs(s.C("id"), ids))
		f.Where(s)
		if r.tx != nil {
			fenced(r.a.Tenant)(s)
		}
	})
}

func (r *run) question(row ent.Record) access.Question {
	return access.Of(actions[r.req.Verb], row)
}

// judgeState applies the state table to a picked record.
func (r *run) judgeState(it *item) {
	row := it.node.row
	state := row.RecordState()
	if r.undo != nil {
		if op := refOf(row, "operation_id"); op == nil || *op != r.undo.ID {
			it.outcome, it.node = unchanged, nil // restored or changed since
			return
		}
	}
	if r.due != nil {
		if !r.isDue(row) {
			it.outcome, it.node = unchanged, nil
			return
		}
	}
	verb := r.req.Verb
	if verb == lifecycle.Undo {
		verb = lifecycle.Restore
	}
	switch move := lifecycle.Next(state, verb); {
	case move.Unchanged:
		it.outcome, it.node = unchanged, nil
	case it.expect != 0 && it.expect != row.RecordVersion():
		it.fail(lifecycle.Conflict, Blocker{State: state, Version: row.RecordVersion()})
		r.stale[it.id] = it
	case r.deletes() && !state.Retired():
		it.node.to = "" // by way of the bin
	case move.Code != "":
		it.fail(move.Code, Blocker{State: state, Allowed: lifecycle.Allowed(state)})
	default:
		it.node.to = move.To
	}
}

// lockAbove locks what stands above the picks before these are locked
// themselves: owners before what they own, in every verb.
func (r *run) lockAbove(ctx context.Context, ids map[string][]gid.ID) error {
	switch {
	case r.tx == nil: // a preview locks nothing
		return nil
	case r.req.Verb == lifecycle.Restore || r.req.Verb == lifecycle.Undo:
		return r.lockOwners(ctx, ids)
	case r.req.Verb == lifecycle.Purge && !r.deletes(): // what is purged took no part by then
		return nil
	}
	return r.lockPickedKeepers(ctx, ids)
}

// lockOwners keeps the owners of records from being retired while these are
// restored below them, and keeps what it reads of them. Picks of the same type
// are locked in the same pass: a lock that is raised deadlocks with another one
// that is.
func (r *run) lockOwners(ctx context.Context, ids map[string][]gid.ID) error {
	all := visible.With(ctx, visible.Tenant(r.a.Tenant))
	parent := map[string][]gid.ID{}
	if p := r.req.NewParentID; p != nil && ent.RecordTypeOf(*p) != nil {
		parent[ent.RecordTypeOf(*p).Name] = []gid.ID{*p}
	}
	r.above = map[gid.ID]ent.Record{}
	for _, t := range typeOrder {
		var below []dependant
		for _, d := range dependants[t.Name] {
			if d.edge.Class != lifecycle.Weak && len(ids[d.holder.Name]) > 0 {
				below = append(below, d)
			}
		}
		if len(below) == 0 && len(parent[t.Name]) == 0 {
			continue // picks of the type are locked when they are read
		}
		rows, err := r.query(all, t, update, func(s *sql.Selector) {
			held := make([]*sql.Selector, len(below))
			for i, d := range below {
				holder := sql.Dialect(s.Dialect()).Table(d.holder.Table).As("held")
				held[i] = sql.Dialect(s.Dialect()).Select(holder.C(d.edge.Column)).From(holder).
					Where(sql.And(sql.EQ(holder.C("tenant_id"), r.a.Tenant), inIDs(holder.C("id"), ids[d.holder.Name])))
			}
			s.Where(inAny(s.C("id"), append(parent[t.Name], ids[t.Name]...), held))
		})
		if err != nil {
			return err
		}
		for _, row := range rows {
			r.above[row.RecordID()] = row
		}
	}
	return nil
}

// purged says which of the ids were purged, to callers who may know it: those
// who may purge such records or read their audit events.
func (s *Service) purged(ctx context.Context, q store.Querier, a *actor.Actor, ids []gid.ID) (map[gid.ID]bool, error) {
	out := map[gid.ID]bool{}
	if len(ids) == 0 {
		return out, nil
	}
	var questions []access.Question
	var records []gid.ID
	err := store.Build(q).Add(`SELECT record_id, record_type, owner_id, team_id FROM tombstones WHERE tenant_id = ? AND `, a.Tenant).
		IDs("record_id", ids).Query(ctx, q, func(rows store.Row) error {
		var id, owner, team gid.ID
		var typ string
		if err := rows.Scan(&id, &typ, &owner, &team); err != nil {
			return err
		}
		t := ent.RecordTypeNamed(typ)
		if t == nil {
			return nil
		}
		props := access.Props(t, func(column string) any {
			switch column {
			case "owner_id":
				return owner
			case "team_id":
				return team
			}
			return nil
		})
		records = append(records, id)
		for _, action := range []authz.Action{authz.Purge, authz.AuditRead} {
			questions = append(questions, access.Question{Action: action, Type: typ, ID: id, Props: props})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading tombstones: %w", err)
	}
	for i, answer := range s.control.Decide(ctx, a, questions) {
		if answer.Permit {
			out[records[i/2]] = true
		}
	}
	return out, nil
}
