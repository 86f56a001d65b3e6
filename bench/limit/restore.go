package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// restore brings back what is picked, with the tree that came along: what the
// operation of each pick took and what is where that left it. One round trip
// reads and locks, one writes and commits; where something came along one more
// reads that.
func (op *operation) restore(ctx context.Context) error {
	k, where, args, err := op.picked()
	if err != nil {
		return err
	}
	err = op.inTransaction(ctx, func(tx transaction) error {
		reads := op.lockKeepers(k, where, args)
		reads = append(reads, op.rowsOf(k, where, args, func(r *row) error {
			if r.prior == nil {
				return &problem{"ILLEGAL_TRANSITION", r.state}
			}
			return op.pick(r)
		}))
		links := map[*kind][]ref{}
		with := map[ref]row{}
		reads = append(reads, op.tree(k, where, args, func(id, cameWith, operation ref, depth int) {
			if k := kindOf(id); k != nil {
				links[k] = append(links[k], id)
				with[id] = row{with: cameWith, operation: operation, depth: depth}
			}
		}))
		if err := tx.run(ctx, reads...); err != nil {
			return err
		}
		if err := op.below(ctx, tx, links, with); err != nil {
			return err
		}
		if err := op.complete(); err != nil {
			return err
		}
		if err := op.permitted(); err != nil {
			return err
		}
		for _, r := range op.direct {
			if customer := r.get("customer_id"); *r.prior != "VOIDED" && op.keepers[customer].retired {
				return &problem{"PARENT_RETIRED", "the customer is retired"}
			}
		}
		if err := op.seal(false); err != nil {
			return err
		}
		return tx.commit(ctx, slices.Concat(op.steps(op.d.restore), op.touch())...)
	})
	// A twin that has the value by now is what the index is for.
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "23505" {
		return &problem{"UNIQUE_CONFLICT", pg.ConstraintName}
	}
	return err
}

// rowsOf reads and locks rows with the state each goes back to.
func (op *operation) rowsOf(k *kind, where string, args []any, each func(*row) error) step {
	return step{
		sql: `SELECT ` + k.columns + `, i.prior_state FROM ` + k.table + ` t
			LEFT JOIN operation_items i ON i.record_id = t.id AND i.operation_id = t.operation_id AND i.outcome = 'CHANGED'
			WHERE ` + where + ` ORDER BY t.id` + op.d.lock("UPDATE OF t"),
		args: args,
		each: func(scan scanner) error {
			r, err := k.scan(scan, &prior)
			if err != nil {
				return err
			}
			return each(r)
		},
	}
}

// tree reads what came along with the picks in their operations. To SQLite CROSS
// JOIN says where to begin.
func (op *operation) tree(k *kind, where string, args []any, each func(id, with, operation ref, depth int)) step {
	return step{
		sql: `WITH RECURSIVE tree (record_id, came_with, operation_id, depth) AS (
				SELECT i.record_id, i.came_with, i.operation_id, 1 FROM ` + k.table + ` t
				CROSS JOIN operation_items i WHERE i.operation_id = t.operation_id AND i.came_with = t.id AND i.outcome = 'CHANGED' AND ` + where + `
				UNION ALL
				SELECT i.record_id, i.came_with, i.operation_id, tree.depth + 1 FROM tree
				CROSS JOIN operation_items i WHERE i.operation_id = tree.operation_id AND i.came_with = tree.record_id AND i.outcome = 'CHANGED')
			SELECT record_id, came_with, operation_id, depth FROM tree`,
		args: args,
		each: func(scan scanner) error {
			var id, with, operation ref
			var depth int
			if err := scan(&id, &with, &operation, &depth); err != nil {
				return err
			}
			each(id, with, operation, depth)
			return nil
		},
	}
}

// below reads and locks what came along, and leaves what has moved on since.
func (op *operation) below(ctx context.Context, tx transaction, links map[*kind][]ref, with map[ref]row) error {
	var reads []step
	for _, k := range kinds {
		if len(links[k]) == 0 {
			continue
		}
		args := []any{op.caller.tenant, op.d.ids(links[k])}
		reads = append(reads, op.rowsOf(k, `t.tenant_id = $1 AND `+op.d.in("t.id", "$2"), args, func(r *row) error {
			link := with[r.id]
			mine := slices.ContainsFunc(r.kind.owners, func(column string) bool { return r.get(column) == link.with })
			if r.operation == link.operation && r.prior != nil && mine {
				r.with, r.depth = link.with, link.depth
				op.rows[r.id] = r
			}
			return nil
		}))
	}
	if len(reads) == 0 {
		return nil
	}
	return tx.run(ctx, reads...)
}

// touch brings the customers up to date whose newest communication comes back.
func (op *operation) touch() []step {
	newest := map[ref]time.Time{}
	for _, r := range op.rows {
		customer := r.get("customer_id")
		if r.kind.activity == "" || customer.zero() || op.rows[customer] != nil {
			continue
		}
		last := op.keepers[customer].last
		if at := r.at(); (last == nil || at.After(*last)) && at.After(newest[customer]) {
			newest[customer] = at
		}
	}
	if len(newest) == 0 {
		return nil
	}
	return []step{op.d.touch(newest)}
}
