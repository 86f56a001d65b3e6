package record

import (
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

// pick freezes the selection as items, in the order it was given. One of more
// records than one transaction takes is left for a job.
func (r *run) pick(ctx context.Context) error {
	next, err := r.selected(ctx)
	if err != nil {
		return err
	}
	for {
		page, err := next(ctx)
		if err != nil {
			return err
		}
		for _, p := range page {
			it := &item{id: p.ID, typ: ent.RecordTypeOf(p.ID)}
			if r.names() {
				it.expect = p.Version
			}
			r.items = append(r.items, it)
		}
		if len(r.items) > r.sizes.rows {
			return errLarge
		}
		if len(page) < pageSize {
			break
		}
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
		it.fail(r.moved(), Blocker{State: state, Version: row.RecordVersion()})
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
