package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
)

// past is a step of a record's history, as a tombstone keeps it.
type past struct {
	Action    string    `json:"action"`
	At        time.Time `json:"at"`
	Operation *gid.ID   `json:"operation,omitempty"`
	To        *string   `json:"to,omitempty"`
}

// stone is what remains of a record.
type stone struct {
	id            ref
	history, refs string
	hash          []byte
}

// unread are the columns of a message that its tombstone vouches for, besides those of every kind.
const unread = `t.created_at, t.updated_at, t.message_id_key, t.prior_state, t.state_changed_at, t.state_changed_by_id, t.state_reason,
	t.orphaned_at, t.retired_at, t.purge_after, t.suspended_until, t.suspended_then, t.sender_folded`

// purge removes messages from the bin for good, with their recipients, and leaves a tombstone of each. One round trip
// reads and locks, one writes and commits. Files and answers are looked for; nothing the benchmark purges has one that stays.
func (op *operation) purge(ctx context.Context) error {
	k, where, args, err := op.picked()
	if err != nil {
		return err
	}
	if k.name != "Message" {
		return &problem{"BAD_USER_INPUT", "messages only"}
	}
	key, err := op.keys.Tenant(gid.ID(op.caller.tenant))
	if err != nil {
		return err
	}
	return op.inTransaction(ctx, func(tx transaction) error {
		contents, histories := map[ref]map[string]any{}, map[ref][]past{}
		stays := func(scanner) error { return &problem{"RETAINED", "something else belongs to it"} }
		ids := args[len(args)-1:]
		in := op.d.in("t.id", "$1")
		reads := []step{
			{sql: `SELECT ` + k.columns + `, ` + unread + ` FROM messages t WHERE ` + where + ` ORDER BY t.id` + op.d.lock("UPDATE OF t"), args: args, each: func(scan scanner) error {
				r, content, err := k.scanAll(scan, op.caller.tenant)
				if err != nil {
					return err
				}
				if r.state != "DELETED" {
					return &problem{"NOT_RETIRED", r.state}
				}
				contents[r.id] = content
				op.rows[r.id] = r
				op.direct = append(op.direct, r)
				return nil
			}},
			{sql: `SELECT 1 FROM attachments t WHERE ` + op.d.in("t.message_id", "$1") + ` LIMIT 1`, args: ids, each: stays},
			{sql: `SELECT 1 FROM messages t WHERE ` + op.d.in("t.in_reply_to_id", "$1") + ` AND NOT (` + in + `) LIMIT 1`, args: ids, each: stays},
			{sql: `SELECT record_id, at, action, to_state, operation_id FROM audit_events t
				WHERE outcome = 'SUCCEEDED' AND (to_state IS NULL OR from_state IS NULL OR from_state <> to_state) AND ` + op.d.in("t.record_id", "$1") + ` ORDER BY id`,
				args: ids, each: func(scan scanner) error {
					var id, operation ref
					var p past
					if err := scan(&id, &p.At, &p.Action, &p.To, &operation); err != nil {
						return err
					}
					if !operation.zero() {
						p.Operation = (*gid.ID)(&operation)
					}
					histories[id] = append(histories[id], p)
					return nil
				}},
		}
		if err := tx.run(ctx, reads...); err != nil {
			return err
		}
		if err := op.complete(); err != nil {
			return err
		}
		if err := op.permitted(); err != nil {
			return err
		}
		stones := map[ref]stone{}
		for _, r := range op.direct {
			r.event = ref(gid.New(gid.Event)) // nothing is sealed: the seal goes with the row
			if stones[r.id], err = r.stone(key, histories[r.id], contents[r.id]); err != nil {
				return err
			}
		}
		return tx.commit(ctx, op.steps(func(op *operation, k *kind, rows []*row) []step {
			return append([]step{
				{sql: `UPDATE messages AS t SET in_reply_to_id = NULL WHERE ` + op.d.in("t.in_reply_to_id", "$1"), args: ids, write: true},
				{sql: `DELETE FROM recipients AS t WHERE ` + op.d.in("t.message_id", "$1"), args: ids, write: true},
			}, op.d.purge(op, k, rows, stones)...)
		})...)
	})
}

// scanAll reads the columns of a message, and what its tombstone vouches for.
func (k *kind) scanAll(scan scanner, tenant ref) (*row, map[string]any, error) {
	var created, updated, changed time.Time
	var key, priorState, reason, then, sender *string
	var by ref
	var orphaned, retired, purge, until *time.Time
	r, err := k.scan(scan, &created, &updated, &key, &priorState, &changed, &by, &reason, &orphaned, &retired, &purge, &until, &then, &sender)
	if err != nil {
		return nil, nil, err
	}
	content := map[string]any{
		"id": gid.ID(r.id), "tenant_id": gid.ID(tenant), "state": r.state, "operation_id": id(r.operation), "version": r.version, "seal": r.seal,
		"created_at": created, "updated_at": updated, "message_id_key": key, "prior_state": priorState, "state_changed_at": changed,
		"state_changed_by_id": id(by), "state_reason": reason, "orphaned_at": orphaned, "retired_at": retired, "purge_after": purge,
		"suspended_until": until, "suspended_then": then, "sender_folded": sender,
	}
	for i, f := range k.fields {
		content[f.column] = r.values[i]
		if v, ok := r.values[i].(*ref); ok {
			content[f.column] = id(*v)
		}
	}
	return r, content, nil
}

// id is a reference as JSON has it.
func id(r ref) *gid.ID {
	if r.zero() {
		return nil
	}
	return (*gid.ID)(&r)
}

// stone is the tombstone of a message.
func (r *row) stone(key []byte, history []past, content map[string]any) (s stone, err error) {
	refs := map[string]gid.ID{}
	for name, column := range map[string]string{"customer": "customer_id", "contact": "contact_id", "deal": "deal_id", "in_reply_to": "in_reply_to_id"} {
		if to := r.get(column); !to.zero() {
			refs[name] = gid.ID(to)
		}
	}
	var texts [3][]byte
	for i, v := range []any{history, refs, content} {
		if texts[i], err = json.Marshal(v); err != nil {
			return s, fmt.Errorf("encoding a tombstone: %w", err)
		}
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(texts[2])
	return stone{ref(gid.New(gid.Tombstone)), string(texts[0]), string(texts[1]), mac.Sum(nil)}, nil
}
