package record

import (
	"cmp"
	"context"
	"fmt"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// planRetire plans delete, void and archive.
func (r *run) planRetire(ctx context.Context) error {
	verb := r.req.Verb
	if err := r.reach(ctx, func(c lifecycle.Class) bool { return lifecycle.Brings(verb, c, r.req.Cascade) }); err != nil {
		return err
	}
	for _, n := range r.nodes {
		if n.to == "" {
			n.to = lifecycle.Next(n.row.RecordState(), verb).To
		}
		if n.to == "" && n.item == nil { // for example archived already: it stays as it is
			n.detach()
			delete(r.nodes, n.row.RecordID())
		}
	}
	r.linkOwners()
	r.authorizeAlong(ctx)
	if err := r.keepHeld(ctx); err != nil {
		return err
	}
	if err := r.keepUnexported(ctx); err != nil {
		return err
	}
	blocked, err := r.keptByDependants(ctx)
	if err != nil {
		return err
	}
	r.settle(blocked)
	return nil
}

// keptByDependants is a check of what live records that point to it keep from being retired.
func (r *run) keptByDependants(ctx context.Context) (func(*node), error) {
	blocking, err := r.blockingDependants(ctx)
	if err == nil {
		err = r.pullIn(ctx, blocking)
	}
	return func(n *node) {
		for _, d := range blocking[n.row.RecordID()] {
			if other := r.nodes[d.row.RecordID()]; other != nil && other.included {
				continue
			}
			n.problem = lifecycle.HasDependents
			b := Blocker{Code: lifecycle.HasDependents, Type: d.row.RecordType().Name, Count: 1}
			if !d.readable {
				b = Blocker{Code: lifecycle.HasDependents, Hidden: true}
			}
			n.blockers = merge(n.blockers, b)
		}
	}, err
}

// applyRetire carries out delete, void and archive.
func (r *run) applyRetire(ctx context.Context) error {
	verb, now := r.req.Verb, r.tx.Now()
	var purgeAfter any
	if verb == lifecycle.Delete {
		purgeAfter = now.Add(r.settings.bin)
	}
	for _, t := range typeOrder {
		ids := r.changedIDs(t)
		if len(ids) == 0 {
			continue
		}
		stmt := store.Build(r.tx).Add(`UPDATE `+t.Table+` SET prior_state = state, state = ?, state_changed_at = ?, state_changed_by_id = ?, state_reason = ?,
			operation_id = ?, purge_after = ?, updated_at = ?, version = version + 1`,
			string(lifecycle.Next(lifecycle.Active, verb).To), now, nullID(r.a.UserRef()), nullText(r.req.Reason), r.id, purgeAfter, now)
		if verb != lifecycle.Archive {
			stmt.Add(`, retired_at = COALESCE(retired_at, ?)`, now)
		}
		if err := r.exec(ctx, t, stmt, ids); err != nil {
			return err
		}
	}
	if err := r.touched(ctx); err != nil {
		return err
	}
	return r.auditRetired(ctx, verb, "", r.changing)
}

// detach takes a node out of the graph.
func (n *node) detach() {
	for _, p := range n.above {
		p.below = without(p.below, n)
		for _, b := range n.below {
			p.below = append(p.below, b)
			b.above = append(b.above, p)
		}
	}
	for _, b := range n.below {
		b.above = without(b.above, n)
	}
}

func without(list []*node, n *node) []*node {
	out := make([]*node, 0, len(list))
	for _, m := range list {
		if m != n {
			out = append(out, m)
		}
	}
	return out
}

// blocker is a live record that keeps another from being retired.
type blocker struct {
	row      ent.Record
	readable bool
}

// blockingDependants finds, for everything in reach, the live records that
// point to it by a BLOCKING edge.
func (r *run) blockingDependants(ctx context.Context) (map[gid.ID][]blocker, error) {
	out := map[gid.ID][]blocker{}
	if r.req.Verb == lifecycle.Archive {
		return out, nil
	}
	all := visible.With(ctx, visible.Tenant(r.a.Tenant))
	for _, target := range typeOrder {
		var ids []gid.ID
		for id, n := range r.nodes {
			if n.row.RecordType() == target {
				ids = append(ids, id)
			}
		}
		for _, d := range dependants[target.Name] {
			if d.edge.Class != lifecycle.Blocking || len(ids) == 0 || !r.met[d.key()] {
				continue
			}
			rows, err := r.query(all, d.holder, none, func(s *sql.Selector) {
				s.Where(inIDs(s.C(d.edge.Column), ids))
				s.Where(sql.IsNull(s.C("retired_at")))
			})
			if err != nil {
				return nil, err
			}
			for i, ok := range r.readable(ctx, rows) {
				of := *refOf(rows[i], d.edge.Column)
				out[of] = append(out[of], blocker{rows[i], ok})
			}
		}
	}
	return out, nil
}

// changedIDs are the records of a type that the operation changes.
func (r *run) changedIDs(t *ent.RecordType) []gid.ID {
	var ids []gid.ID
	for _, n := range r.changing {
		if n.row.RecordType() == t {
			ids = append(ids, n.row.RecordID())
		}
	}
	return ids
}

// exec queues an update over locked rows and insists that it meets all of them.
func (r *run) exec(ctx context.Context, t *ent.RecordType, stmt *store.SQL, ids []gid.ID) error {
	return stmt.Add(` WHERE tenant_id = ? AND `, r.a.Tenant).IDs(t.Table+".id", ids).Queue(ctx, r.tx, meets(t, len(ids)))
}

// meets insists that a write of records of a type met as many rows as it should.
func meets(t *ent.RecordType, want int) func(int64, error) error {
	return func(n int64, err error) error {
		switch c, ok := store.Constraint(err); {
		case ok && c.Kind == store.UniqueViolation:
			return mapWriteError(t, err) // a twin slipped in between
		case err != nil:
			return fmt.Errorf("changing %s: %w", t.Table, err)
		case n != int64(want):
			return fmt.Errorf("changing %s: %d rows instead of %d", t.Table, n, want)
		}
		return nil
	}
}

// readParts reads what is part of the records that change, for the events that
// carry their last values.
func (r *run) readParts(ctx context.Context) error {
	r.parts = map[string]map[gid.ID][]part{}
	for _, t := range typeOrder {
		ids := r.changedIDs(t)
		for _, p := range t.Parts {
			if len(ids) == 0 {
				continue
			}
			rows, err := r.partsOf(ctx, r.tx, p, ids)
			if err != nil {
				return err
			}
			r.parts[t.Name+p.Name] = rows
		}
	}
	return nil
}

// auditRetired writes one event for each record that was retired, with its last
// values. They went to one state, or where each node says.
func (r *run) auditRetired(ctx context.Context, verb lifecycle.Verb, to lifecycle.State, nodes []*node) error {
	version, parts := r.control.Version(ctx, r.a.Tenant), r.parts
	var changes []audit.Change
	return r.audit.AppendEach(ctx, r.tx, len(nodes), func(i int) audit.Event {
		n := nodes[i]
		t := n.row.RecordType()
		changes = lastValues(changes[:0], n.row)
		for _, p := range t.Parts {
			if rows := parts[t.Name+p.Name][n.row.RecordID()]; len(rows) > 0 {
				changes = append(changes, audit.Change{Field: p.GraphQL, Old: rows})
			}
		}
		e := event(string(verb), n.row, changes)
		e.From, e.To, e.Version = n.row.RecordState(), cmp.Or(to, n.to), n.row.RecordVersion()+1
		e.Operation, e.PolicyVersion = &r.id, version
		e.Personal.Reason = r.req.Reason
		e.Detail = r.exportDetail(verb, n.row)
		return e
	})
}

// lastValues appends the values a record had when it was retired.
func lastValues(to []audit.Change, row ent.Record) []audit.Change {
	for _, f := range row.RecordType().Fields {
		if v := row.Column(f.Name); v != nil && !isKey(f.Name) {
			to = append(to, audit.Change{Field: f.GraphQL, Old: v})
		}
	}
	return to
}
