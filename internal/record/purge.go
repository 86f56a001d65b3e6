package record

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/search/index"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// planPurge plans the end of retired records and their trees.
func (r *run) planPurge(ctx context.Context) error {
	if err := r.reach(ctx, r.brings); err != nil {
		return err
	}
	if r.deletes() {
		r.linkOwners()
	}
	r.authorizeAlong(ctx)
	if r.deletes() {
		r.authorizeDeletes(ctx)
		blocked, err := r.keptByDependants(ctx)
		if err == nil {
			err = r.keepHeld(ctx)
		}
		if err == nil {
			err = r.keepByRules(ctx)
		}
		if err == nil {
			err = r.keepUnexported(ctx)
		}
		if err != nil {
			return err
		}
		r.settle(blocked)
		return nil
	}
	for _, n := range r.nodes {
		if !n.row.RecordState().Retired() && n.problem == "" {
			n.problem = lifecycle.NotRetired
		}
	}
	if err := r.keepHeld(ctx); err != nil {
		return err
	}
	if err := r.keepByRules(ctx); err != nil {
		return err
	}
	if err := r.keepUnexported(ctx); err != nil {
		return err
	}
	r.settle()
	return nil
}

// applyPurge removes records for good, and leaves a tombstone of each.
func (r *run) applyPurge(ctx context.Context) error {
	if err := r.retireLive(ctx); err != nil {
		return err
	}
	// Histories tell of what the same transaction did before.
	if err := r.audit.Flush(ctx, r.tx); err != nil {
		return err
	}
	// The seal goes with the row: what a purge event would seal could never be read.
	version := r.control.Version(ctx, r.a.Tenant)
	events := make([]audit.Event, 0, len(r.changing))
	for _, n := range r.changing {
		e := event(string(lifecycle.Purge), n.row, nil)
		e.From, e.Version, e.Operation, e.PolicyVersion = n.row.RecordState(), n.row.RecordVersion()+1, &r.id, version
		e.Detail = r.exportDetail(lifecycle.Purge, n.row)
		if !e.From.Retired() { // it was deleted just now
			e.From, e.Version = lifecycle.Deleted, e.Version+1
		}
		events = append(events, e)
	}
	if err := r.audit.Append(ctx, r.tx, events...); err != nil {
		return err
	}
	if err := r.tombstones(ctx); err != nil {
		return err
	}
	if err := r.release(ctx); err != nil {
		return err
	}
	var gone []gid.ID
	if err := r.letGo(ctx); err != nil {
		return err
	}
	if err := r.forgetExports(ctx); err != nil {
		return err
	}
	for _, t := range slices.Backward(typeOrder) {
		ids := r.changedIDs(t)
		if len(ids) == 0 {
			continue
		}
		for _, p := range t.Parts {
			if _, err := store.Build(r.tx).Add(`DELETE FROM `+p.Table+` WHERE `).IDs(p.Column, ids).Exec(ctx, r.tx); err != nil {
				return fmt.Errorf("removing %s: %w", p.Name, err)
			}
		}
		gone = append(gone, ids...)
		if err := r.exec(ctx, t, store.Build(r.tx).Add(`DELETE FROM `+t.Table), ids); err != nil {
			return err
		}
	}
	return index.Remove(ctx, r.tx, gone)
}

// release lets go of the records that point to what is purged. A weak reference
// becomes null; what was owned and stays in the bin by an operation of its own
// is an orphan from now on.
func (r *run) release(ctx context.Context) error {
	all := visible.With(ctx, visible.Tenant(r.a.Tenant))
	now := r.tx.Now()
	bumped := map[gid.ID]bool{} // one change, one event, however many references go
	lost := map[gid.ID][]wideHold{}
	var events []audit.Event
	for _, target := range typeOrder {
		ids := r.changedIDs(target)
		if len(ids) == 0 {
			continue
		}
		for _, d := range dependants[target.Name] {
			rows, err := r.query(all, d.holder, update, func(s *sql.Selector) { s.Where(inIDs(s.C(d.edge.Column), ids)) })
			if err != nil {
				return err
			}
			var inside, outside, again []gid.ID
			for _, row := range rows {
				id := row.RecordID()
				switch n := r.nodes[id]; {
				case n != nil && n.included:
					inside = append(inside, id)
				case bumped[id]:
					again = append(again, id)
				default:
					outside = append(outside, id)
					e := event("UPDATE", row, nil)
					e.From, e.To, e.Version, e.Operation = row.RecordState(), row.RecordState(), row.RecordVersion()+1, &r.id
					e.PolicyVersion = r.control.Version(ctx, r.a.Tenant)
					events = append(events, e)
					bumped[id] = true
				}
				if n := r.nodes[id]; n == nil || !n.included {
					i := slices.IndexFunc(events, func(e audit.Event) bool { return *e.RecordID == id })
					events[i].Personal.Changes = append(events[i].Personal.Changes, audit.Change{Field: d.edge.GraphQL, Old: row.Column(d.edge.Column)})
				}
			}
			if err := r.keptBefore(ctx, slices.Concat(outside, again), lost); err != nil {
				return err
			}
			for _, set := range []struct {
				ids []gid.ID
				add string
			}{{inside, ""}, {again, ""}, {outside, ", version = version + 1, updated_at = ?"}} {
				if len(set.ids) == 0 {
					continue
				}
				stmt := store.Build(r.tx).Add(`UPDATE ` + d.holder.Table + ` SET ` + d.edge.Column + ` = NULL`)
				if set.add != "" {
					stmt.Add(set.add, now)
				}
				if d.edge.Class != lifecycle.Weak {
					r.orphan(stmt, now)
				}
				if err := r.exec(ctx, d.holder, stmt, set.ids); err != nil {
					return err
				}
			}
		}
	}
	if err := r.keepPace(ctx, bumped); err != nil {
		return err
	}
	if err := r.nameLost(ctx, r.tx, r.a, lost); err != nil {
		return err
	}
	return r.audit.Append(ctx, r.tx, events...)
}

// keptBefore notes which wide holds keep records before a reference of theirs goes.
func (r *run) keptBefore(ctx context.Context, ids []gid.ID, into map[gid.ID][]wideHold) error {
	standing := slices.DeleteFunc(slices.Clone(r.wide), func(w wideHold) bool { return w.released != nil })
	ids = slices.DeleteFunc(ids, func(id gid.ID) bool { return into[id] != nil })
	covered, err := r.covered(ctx, r.tx, r.a.Tenant, ids, standing)
	maps.Copy(into, covered)
	return err
}

func (r *run) orphan(stmt *store.SQL, now time.Time) {
	stmt.Add(`, orphaned_at = ?, purge_after = CASE WHEN state = 'VOIDED' AND purge_after IS NULL THEN ?`, now, now.Add(r.settings.bin))
	if r.tx.Dialect() == "postgres" {
		stmt.Add(`::timestamptz`)
	}
	stmt.Add(` ELSE purge_after END`)
}

var tombstoneColumns = []string{
	"id", "tenant_id", "record_id", "record_type", "number", "owner_id", "team_id", "purged_by", "purged_at", "operation_id", "history", "refs", "content_hash", "export_manifest", "size",
}

// tombstones writes what remains of each record.
func (r *run) tombstones(ctx context.Context) error {
	var ids []gid.ID
	for _, n := range r.changing {
		ids = append(ids, n.row.RecordID())
	}
	if len(ids) == 0 {
		return nil
	}
	if r.again {
		err := store.Build(r.tx).Add(`SELECT record_id FROM tombstones WHERE `).IDs("record_id", ids).Query(ctx, r.tx, scanIDs(func(id gid.ID) {
			ids = slices.DeleteFunc(ids, func(other gid.ID) bool { return other == id })
		}))
		if err != nil {
			return fmt.Errorf("reading tombstones: %w", err)
		}
	}
	history, err := r.histories(ctx, ids)
	if err != nil {
		return err
	}
	key, err := r.audit.Keys().Tenant(r.a.Tenant)
	if err != nil {
		return err
	}
	rows := make([][]any, 0, len(ids))
	for _, id := range ids {
		row := r.nodes[id].row
		t := row.RecordType()
		refs := map[string]string{}
		for _, e := range t.Edges {
			if to := refOf(row, e.Column); to != nil {
				refs[e.Name] = to.String()
			}
		}
		content := map[string]any{}
		for _, c := range t.Columns {
			content[c] = row.Column(c)
		}
		encoded, err := json.Marshal(content)
		if err != nil {
			return fmt.Errorf("encoding a record: %w", err)
		}
		mac := hmac.New(sha256.New, key)
		mac.Write(encoded)
		past, err := json.Marshal(history[id])
		if err != nil {
			return fmt.Errorf("encoding a history: %w", err)
		}
		pointers, err := json.Marshal(refs)
		if err != nil {
			return fmt.Errorf("encoding references: %w", err)
		}
		var number any
		if t.Numbered {
			number = row.Column("number")
		}
		rows = append(rows, []any{
			gid.New(gid.Tombstone), r.a.Tenant, id, t.Name, number, nullID(refOf(row, "owner_id")), nullID(refOf(row, "team_id")), nullID(r.a.UserRef()),
			r.tx.Now(), r.id, string(past), string(pointers), mac.Sum(nil),
			nullText(r.manifestOf(lifecycle.Purge, row)), sizeOf(row),
		})
	}
	if err := r.tx.Insert(ctx, "tombstones", tombstoneColumns, rows); err != nil {
		return fmt.Errorf("writing tombstones: %w", err)
	}
	return nil
}

// sizeOf is how many bytes go with a record, nil where it has none.
func sizeOf(row ent.Record) any {
	a, ok := row.(*ent.Attachment)
	if !ok || a.Sha256 == nil {
		return nil
	}
	return a.Size
}

// histories reads the states records went through from the audit log.
func (r *run) histories(ctx context.Context, ids []gid.ID) (map[gid.ID][]map[string]any, error) {
	out := map[gid.ID][]map[string]any{}
	err := store.Build(r.tx).Add(`SELECT record_id, at, action, from_state, to_state, operation_id FROM audit_events
		WHERE outcome = 'SUCCEEDED' AND (to_state IS NULL OR from_state IS NULL OR from_state <> to_state) AND `).
		IDs("record_id", ids).Add(` ORDER BY id`).Query(ctx, r.tx, func(rows store.Row) error {
		var id, op gid.ID
		var at time.Time
		var action string
		var from, to *string
		if err := rows.Scan(&id, &at, &action, &from, &to, &op); err != nil {
			return err
		}
		entry := map[string]any{"at": at.UTC(), "action": action}
		if to != nil {
			entry["to"] = *to
		}
		if !op.IsZero() {
			entry["operation"] = op.String()
		}
		out[id] = append(out[id], entry)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading histories: %w", err)
	}
	return out, nil
}
