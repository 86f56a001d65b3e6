package main

import (
	"context"
	"slices"
	"strings"
	"time"
)

// retire deletes what is picked, with all that comes along, in two round trips:
// one reads and locks, one writes and commits.
func (op *operation) retire(ctx context.Context) error {
	k, where, args, err := op.picked()
	if err != nil {
		return err
	}
	return op.inTransaction(ctx, func(tx transaction) error {
		reads := op.lockKeepers(k, where, args)
		reads = append(reads,
			step{sql: `SELECT ` + k.columns + ` FROM ` + k.table + ` t WHERE ` + where + ` ORDER BY t.id` + op.d.lock("UPDATE OF t"), args: args, each: func(scan scanner) error {
				r, err := k.scan(scan)
				if err != nil {
					return err
				}
				if r.state == "DELETED" || !r.operation.zero() {
					// What an earlier operation took along would have to come, too;
					// nothing the benchmark deletes has one.
					return &problem{"ILLEGAL_TRANSITION", r.state}
				}
				return op.pick(r)
			}},
			step{sql: `SELECT bin_days FROM tenants WHERE id = $1`, args: args[:1], each: func(scan scanner) error { return scan(&op.binDays) }},
		)
		reads = append(reads, op.closure(k, where, args)...)
		if err := tx.run(ctx, reads...); err != nil {
			return err
		}
		if err := op.complete(); err != nil {
			return err
		}
		if err := op.permitted(); err != nil {
			return err
		}
		if err := op.seal(true); err != nil {
			return err
		}
		return tx.commit(ctx, slices.Concat(op.steps(op.d.retire), op.untouch())...)
	})
}

// closure reads and locks what comes along, level by level; the rows above are
// locked when each step begins, so nothing can be attached to them any more. A
// live deal of a customer stands in the way.
func (op *operation) closure(root *kind, where string, args []any) []step {
	var steps []step
	below := func(k *kind, owner, of string, depth int) {
		condition := `t.tenant_id = $1 AND t.retired_at IS NULL AND t.` + owner + ` IN (` + of + `)`
		steps = append(steps, step{
			sql:  `SELECT ` + k.columns + ` FROM ` + k.table + ` t WHERE ` + condition + ` ORDER BY t.id` + op.d.lock("UPDATE OF t"),
			args: args, each: func(scan scanner) error {
				r, err := k.scan(scan)
				if err != nil {
					return err
				}
				r.depth, r.with = depth, r.get(owner)
				op.rows[r.id] = r
				return nil
			},
		})
	}
	picked := `SELECT t.id FROM ` + root.table + ` t WHERE ` + where
	messages := picked
	attachment := kindNamed("Attachment")
	switch root.name {
	case "Customer":
		for _, k := range kinds {
			if slices.Contains(k.owners, "customer_id") {
				below(k, "customer_id", picked, 1)
			}
		}
		for _, owner := range []string{"message_id", "call_id", "note_id"} {
			table := map[string]string{"message_id": "messages", "call_id": "calls", "note_id": "notes"}[owner]
			below(attachment, owner, `SELECT o.id FROM `+table+` o WHERE o.retired_at IS NULL AND o.customer_id IN (`+picked+`)`, 2)
		}
		messages = `SELECT o.id FROM messages o WHERE o.retired_at IS NULL AND o.customer_id IN (` + picked + `)`
		steps = append(steps, step{
			sql: `SELECT 1 FROM deals t WHERE t.tenant_id = $1 AND t.retired_at IS NULL AND t.customer_id IN (` + picked + `) LIMIT 1`, args: args,
			each: func(scanner) error { return &problem{"HAS_DEPENDENTS", "a deal is under way"} },
		})
	case "Message":
		below(attachment, "message_id", picked, 1)
	case "Call":
		below(attachment, "call_id", picked, 1)
	case "Note":
		below(attachment, "note_id", picked, 1)
	}
	return append(steps, step{
		sql: `SELECT r.message_id, r.kind, r.address, r.name FROM recipients r WHERE r.message_id IN (` + messages + `) ORDER BY r.id`, args: args,
		each: func(scan scanner) error {
			var message ref
			var kind, address string
			var name *string
			if err := scan(&message, &kind, &address, &name); err != nil {
				return err
			}
			part := map[string]any{"kind": kind, "address": address}
			if name != nil {
				part["name"] = *name
			}
			if r := op.rows[message]; r != nil {
				r.parts = append(r.parts, part)
			}
			return nil
		},
	})
}

// untouch brings the customers up to date whose newest communication is deleted,
// unless they are themselves. Only those are asked for what is the newest now.
func (op *operation) untouch() []step {
	var stale []ref
	for _, r := range op.rows {
		customer := r.get("customer_id")
		if r.kind.activity == "" || customer.zero() || op.rows[customer] != nil || slices.Contains(stale, customer) {
			continue
		}
		if last := op.keepers[customer].last; last != nil && !r.at().Before(*last) {
			stale = append(stale, customer)
		}
	}
	if len(stale) == 0 {
		return nil
	}
	var newest []string
	for _, k := range kinds {
		if k.activity != "" {
			newest = append(newest, `SELECT MAX(`+k.activity+`) AS at FROM `+k.table+` WHERE customer_id = customers.id AND retired_at IS NULL`)
		}
	}
	text := `UPDATE customers SET last_activity_at = (SELECT MAX(x.at) FROM (` + strings.Join(newest, ` UNION ALL `) + `) x) WHERE ` + op.d.in("id", "$1")
	return []step{{sql: text, args: []any{op.d.ids(stale)}, write: true, rows: len(stale)}}
}

// purgeAfter is when what is deleted now is due.
func (op *operation) purgeAfter() time.Time {
	return op.now.Add(time.Duration(op.binDays) * 24 * time.Hour)
}
