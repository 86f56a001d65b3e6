package record

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"entgo.io/ent/dialect"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// lastActivity is the column in which a customer keeps when the newest of its
// live communications took place. It is no change of the customer: it has no
// event and no version.
const lastActivity = "last_activity_at"

// keepsActivity reports whether records of a type keep their last activity.
func keepsActivity(t *ent.RecordType) bool { return slices.Contains(t.Columns, lastActivity) }

// activityEdge is the edge from a communication to the record that keeps its
// last activity, nil for what is no communication.
func activityEdge(t *ent.RecordType) *ent.RecordReference {
	if t.Activity == "" {
		return nil
	}
	for i, e := range t.Edges {
		if e.Class == lifecycle.Owned && keepsActivity(ent.RecordTypeNamed(e.Target)) {
			return &t.Edges[i]
		}
	}
	return nil
}

// customersOf are the records whose last activity may change with these
// communications; other records have no part in it.
func customersOf(rows ...ent.Record) []gid.ID {
	var ids []gid.ID
	for _, row := range rows {
		if row == nil {
			continue
		}
		if e := activityEdge(row.RecordType()); e != nil {
			if id := refOf(row, e.Column); id != nil && !slices.Contains(ids, *id) {
				ids = append(ids, *id)
			}
		}
	}
	return ids
}

// activity brings the last activity of customers up to date, in one statement.
// They are locked by then (lock keep or update): two writers who each see only
// their own communication would leave the older one behind.
func (s *Service) activity(ctx context.Context, tx *store.Tx, a *actor.Actor, customers []gid.ID) error {
	if len(customers) == 0 {
		return nil
	}
	return store.Build(tx).Add(activityUpdate+` AND k.tenant_id = ? AND `, a.Tenant).IDs("k.id", customers).
		Add(`) n WHERE customers.id = n.id AND customers.`+lastActivity+` IS DISTINCT FROM n.newest AND `).IDs("customers.id", customers).Queue(ctx, tx, named("writing the last activity"))
}

var activityUpdate = func() string {
	var newest []string
	for _, t := range ent.RecordTypes {
		if e := activityEdge(t); e != nil {
			newest = append(newest, `SELECT MAX(`+t.Activity+`) AS at FROM `+t.Table+` WHERE `+e.Column+` = k.id AND retired_at IS NULL`)
		}
	}
	return `UPDATE customers SET ` + lastActivity + ` = n.newest FROM (SELECT k.id, (SELECT MAX(at) FROM (` +
		strings.Join(newest, ` UNION ALL `) + `) x) AS newest FROM customers k WHERE 1 = 1`
}()

// moves reports whether a draft changes when a communication took place, or whose
// it is.
func (d *draft) moves(t *ent.RecordType) bool {
	e := activityEdge(t)
	if e == nil {
		return false
	}
	_, when := d.values[t.Activity]
	_, whose := d.values[e.Column]
	return when || whose
}

// lockActivityOf locks the customers whose last activity the update of a
// communication may change: the one it is of, and the one it moves to.
func (s *Service) lockActivityOf(ctx context.Context, tx *store.Tx, a *actor.Actor, t *ent.RecordType, d *draft, id gid.ID) error {
	if !d.moves(t) {
		return nil
	}
	var ids []gid.ID
	e := activityEdge(t)
	err := store.Build(tx).Add(`SELECT `+e.Column+` FROM `+t.Table+` WHERE tenant_id = ? AND id = ? AND `+e.Column+` IS NOT NULL`, a.Tenant, id).
		Query(ctx, tx, scanIDs(func(id gid.ID) { ids = append(ids, id) }))
	if err != nil {
		return fmt.Errorf("reading whose communication it is: %w", err)
	}
	if to, ok := d.values[e.Column].(gid.ID); ok {
		ids = append(ids, to)
	}
	return s.lockKeepers(ctx, tx, a, ids)
}

// lockKeepers locks customers in the order of their ids.
func (s *Service) lockKeepers(ctx context.Context, tx *store.Tx, a *actor.Actor, ids []gid.ID) error {
	if len(ids) == 0 {
		return nil
	}
	err := store.Build(tx).Add(`SELECT id FROM customers WHERE tenant_id = ? AND `, a.Tenant).IDs("id", ids).
		Add(` ORDER BY id`).ForNoKeyUpdate().Query(ctx, tx, scanIDs(func(gid.ID) {}))
	if err != nil {
		return fmt.Errorf("locking customers: %w", err)
	}
	return nil
}

// lockPickedKeepers locks the customers of picked communications before these
// are locked themselves: owners before what they own.
func (r *run) lockPickedKeepers(ctx context.Context, ids map[string][]gid.ID) error {
	start, end, none := `id IN (`, `)`, true
	if r.tx.Dialect() == dialect.Postgres {
		start, end = `id = ANY(ARRAY(`, `))`
	}
	stmt := store.Build(r.tx).Add(`SELECT id FROM customers WHERE tenant_id = ? AND `+start, r.a.Tenant)
	for _, t := range typeOrder {
		e := activityEdge(t)
		if e == nil || len(ids[t.Name]) == 0 {
			continue
		}
		if !none {
			stmt.Add(` UNION ALL `)
		}
		none = false
		stmt.Add(`SELECT `+e.Column+` FROM `+t.Table+` WHERE tenant_id = ? AND `, r.a.Tenant).IDs("id", ids[t.Name])
	}
	if none {
		return nil
	}
	err := stmt.Add(end+` ORDER BY id`).ForNoKeyUpdate().Query(ctx, r.tx, scanIDs(func(gid.ID) {}))
	if err != nil {
		return fmt.Errorf("locking customers: %w", err)
	}
	return nil
}

// touched brings the last activity of the customers up to date whose
// communications the operation changed. A customer that is retired with them
// keeps what it had.
func (r *run) touched(ctx context.Context) error {
	var rows []ent.Record
	for _, n := range r.changing {
		rows = append(rows, n.row)
	}
	customers := slices.DeleteFunc(customersOf(rows...), func(id gid.ID) bool {
		n := r.nodes[id]
		return n != nil && n.included && (n.to == "" || n.to.Retired())
	})
	if to := r.req.NewParentID; to != nil && len(rows) > 0 && keepsActivity(ent.RecordTypeOf(*to)) {
		customers = append(customers, *to)
	}
	return r.activity(ctx, r.tx, r.a, customers)
}
