package record

import (
	"context"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// A purge that includes what is live deletes it first, as one operation: both are checked, both are logged, and what
// belongs to a record comes along as it does when it is deleted.

// deletes reports whether the operation puts records into the bin before it purges them.
func (r *run) deletes() bool { return r.req.Verb == lifecycle.Purge && r.req.IncludeLive }

// brings reports whether live dependants come along.
func (r *run) brings(c lifecycle.Class) bool {
	verb := r.req.Verb
	if r.deletes() {
		verb = lifecycle.Delete
	}
	return lifecycle.Brings(verb, c, r.req.Cascade)
}

// mayDelete says which of some live rows the actor may delete as well.
func (r *run) mayDelete(ctx context.Context, rows []ent.Record) []access.Decision {
	questions := make([]access.Question, len(rows))
	for i, row := range rows {
		questions[i] = access.Of(authz.Delete, row)
	}
	return r.control.Decide(ctx, r.a, questions)
}

// mayDeletePicks says which of the live picks the actor may delete as well, where they are.
func (r *run) mayDeletePicks(ctx context.Context, picks []*item) map[gid.ID]access.Decision {
	if !r.deletes() {
		return nil
	}
	var live []ent.Record
	for _, it := range picks {
		if !it.node.row.RecordState().Retired() {
			live = append(live, it.node.row)
		}
	}
	out := map[gid.ID]access.Decision{}
	for i, answer := range r.mayDelete(ctx, live) {
		out[live[i].RecordID()] = answer
	}
	return out
}

// authorizeDeletes refuses what is live and comes along, where the actor may not delete it.
func (r *run) authorizeDeletes(ctx context.Context) {
	var nodes []*node
	var rows []ent.Record
	for _, n := range r.sorted() {
		if n.item == nil && n.problem == "" && !n.row.RecordState().Retired() {
			nodes, rows = append(nodes, n), append(rows, n.row)
		}
	}
	for i, answer := range r.mayDelete(ctx, rows) {
		if !answer.Permit {
			n := nodes[i]
			n.problem = refusal(answer).Code
			n.blockers = []Blocker{{Code: n.problem, Type: n.row.RecordType().Name, Count: 1}} // he may read it, or it had a problem
		}
	}
}

// retireLive puts what is live into the bin, and says so in the log.
func (r *run) retireLive(ctx context.Context) error {
	var live []*node
	for _, n := range r.changing {
		if !n.row.RecordState().Retired() {
			live = append(live, n)
		}
	}
	if len(live) == 0 {
		return nil
	}
	now := r.tx.Now()
	for _, t := range typeOrder {
		var ids []gid.ID
		for _, n := range live {
			if n.row.RecordType() == t {
				ids = append(ids, n.row.RecordID())
			}
		}
		if len(ids) == 0 {
			continue
		}
		stmt := store.Build(r.tx).Add(`UPDATE `+t.Table+` SET prior_state = state, state = ?, state_changed_at = ?, state_changed_by_id = ?, state_reason = ?,
			operation_id = ?, purge_after = ?, retired_at = ?, updated_at = ?, version = version + 1`,
			string(lifecycle.Deleted), now, nullID(r.a.UserRef()), nullText(r.req.Reason), r.id, now.Add(r.settings.bin), now, now)
		if err := r.exec(ctx, t, stmt, ids); err != nil {
			return err
		}
	}
	if err := r.touched(ctx); err != nil {
		return err
	}
	return r.auditRetired(ctx, lifecycle.Delete, lifecycle.Deleted, live)
}
