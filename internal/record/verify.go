package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"entgo.io/ent/dialect/sql"
	"golang.org/x/sync/errgroup"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// CheckName is what is checked of an operation after the fact.
type CheckName string

// The checks.
const (
	CheckState       CheckName = "STATE"
	CheckListed      CheckName = "LISTED"
	CheckReferences  CheckName = "REFERENCES"
	CheckParts       CheckName = "PARTS"
	CheckBytes       CheckName = "BYTES"
	CheckSearch      CheckName = "SEARCH"
	CheckSeals       CheckName = "SEALS"
	CheckTombstones  CheckName = "TOMBSTONES"
	CheckAuditEvents CheckName = "AUDIT_EVENTS"
)

// checkNames are all checks, in the order in which they are answered.
var checkNames = []CheckName{CheckState, CheckListed, CheckReferences, CheckParts, CheckBytes, CheckSearch, CheckSeals, CheckTombstones, CheckAuditEvents}

// Check is what one check came to.
type Check struct {
	Name    CheckName
	Checked int // how many records it was about
	// Exceptions is how many records are not as they should be, and Records are up to maxExceptions of them that the
	// reader may know of.
	Exceptions int
	Records    []gid.ID
}

// Passed reports whether every record is as it should be.
func (c *Check) Passed() bool { return c.Exceptions == 0 }

// Verification is what an operation left, compared with what it was to leave.
type Verification struct {
	Operation *ent.Operation
	Changed   int // how many records the operation changed so far
	// Superseded is how many of them a later operation took on: of these, only what is true of every record is checked.
	Superseded int
	Checks     []*Check
}

// Passed reports whether all checks are passed.
func (v *Verification) Passed() bool {
	return !slices.ContainsFunc(v.Checks, func(c *Check) bool { return !c.Passed() })
}

const (
	// verifyPage is how many records are checked at a time: an operation may have changed a million.
	verifyPage = 10_000
	// maxExceptions is how many records a check names, and maxNamed out of how many, where some are hidden.
	maxExceptions, maxNamed = 20, 200
	// maxBytesLooked is how many keys are looked up in the bucket, which takes a request each, lookers at a time.
	maxBytesLooked, lookers = 1_000, 16
)

// verifier checks one operation, page by page.
type verifier struct {
	*Service
	tx     *store.Tx
	op     *ent.Operation
	out    *Verification
	checks map[CheckName]*Check
	looked int // in the bucket
}

// changedItem is a record that the operation changed, and what it is now.
type changedItem struct {
	item, record gid.ID
	typ          *ent.RecordType
	prior        lifecycle.State  // before the operation
	below        *lifecycle.State // what that was put on, of what was restored
	belowOf      gid.ID           // the operation that put the record into below; zero for none
	priorOf      gid.ID
	version      int
	superseded   bool

	there     bool
	state     lifecycle.State
	retired   bool // by its clock, which is what unique values and owners go by
	operation gid.ID
}

// VerifyOperation compares what an operation left with what it was to leave: of the operation that the reader in the
// context may read, over one state of the database. It can be asked at any time; what an operation has not come to yet is
// not checked.
func (s *Service) VerifyOperation(ctx context.Context, id gid.ID) (*Verification, error) {
	op, err := s.Client(ctx).Operation.Query().Where(operation.ID(id)).Only(ctx)
	if ent.IsNotFound(err) {
		return nil, Refuse(lifecycle.NotFound, "there is no such operation", "id")
	}
	if err != nil {
		return nil, fmt.Errorf("reading an operation: %w", err)
	}
	v := &verifier{Service: s, op: op, out: &Verification{Operation: op}, checks: map[CheckName]*Check{}}
	for _, name := range checkNames {
		c := &Check{Name: name}
		v.checks[name], v.out.Checks = c, append(v.out.Checks, c)
	}
	err = s.db.Snapshot(ctx, func(ctx context.Context, tx *store.Tx) error {
		v.tx = tx
		return errors.Join(v.pages(ctx), v.eventsWithoutChange(ctx))
	})
	if err != nil {
		return nil, fmt.Errorf("verifying operation %s: %w", id, err)
	}
	return v.out, v.nameReadable(ctx)
}

func (v *verifier) pages(ctx context.Context) error {
	for after := (gid.ID{}); ; {
		items, err := v.page(ctx, after)
		if err != nil || len(items) == 0 {
			return err
		}
		after = items[len(items)-1].item
		for _, check := range []func(context.Context, []*changedItem) error{
			v.readRows, v.checkStates, v.checkReferences, v.checkGone, v.checkBytes, v.checkEvents,
		} {
			if err := check(ctx, items); err != nil {
				return err
			}
		}
		if len(items) < verifyPage {
			return nil
		}
	}
}

// page reads the next records that the operation changed. What came later is told by the version it met: an operation
// that was scheduled has an id from when it was asked for.
func (v *verifier) page(ctx context.Context, after gid.ID) ([]*changedItem, error) {
	var items []*changedItem
	err := store.Build(v.tx).Add(`SELECT i.id, i.record_id, i.prior_state, i.prior_operation_id, i.version, b.prior_state, b.prior_operation_id,
			EXISTS (SELECT 1 FROM operation_items n WHERE n.record_id = i.record_id AND n.operation_id <> i.operation_id AND n.outcome = 'CHANGED' AND n.version > i.version)
		FROM operation_items i LEFT JOIN operation_items b ON b.record_id = i.record_id AND b.operation_id = i.prior_operation_id AND b.outcome = 'CHANGED'
		WHERE i.operation_id = ? AND i.id > ? AND i.outcome = 'CHANGED' ORDER BY i.id LIMIT ?`, v.op.ID, after, verifyPage).
		Query(ctx, v.tx, func(row store.Row) error {
			it := &changedItem{}
			var prior, below *string
			if err := row.Scan(&it.item, &it.record, &prior, &it.priorOf, &it.version, &below, &it.belowOf, &it.superseded); err != nil {
				return err
			}
			if prior != nil {
				it.prior = lifecycle.State(*prior)
			}
			if below != nil {
				it.below = new(lifecycle.State)
				*it.below = lifecycle.State(*below)
			}
			it.typ = ent.RecordTypeOf(it.record)
			items = append(items, it)
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("reading what it changed: %w", err)
	}
	return items, nil
}

// readRows reads what the records are now, past every filter.
func (v *verifier) readRows(ctx context.Context, items []*changedItem) error {
	v.out.Changed += len(items)
	byID := make(map[gid.ID]*changedItem, len(items))
	for _, it := range items {
		byID[it.record] = it
		if it.superseded {
			v.out.Superseded++
		}
	}
	for t, ids := range byType(items, func(*changedItem) bool { return true }) {
		err := store.Build(v.tx).Add(`SELECT id, state, retired_at IS NOT NULL, operation_id FROM `+t.Table+` WHERE `).IDs("id", ids).Query(ctx, v.tx, func(row store.Row) error {
			var id, of gid.ID
			var state string
			var retired bool
			if err := row.Scan(&id, &state, &retired, &of); err != nil {
				return err
			}
			it := byID[id]
			it.there, it.state, it.retired, it.operation = true, lifecycle.State(state), retired, of
			return nil
		})
		if err != nil {
			return fmt.Errorf("reading %s: %w", t.Table, err)
		}
	}
	return nil
}

func byType(items []*changedItem, which func(*changedItem) bool) map[*ent.RecordType][]gid.ID {
	out := map[*ent.RecordType][]gid.ID{}
	for _, it := range items {
		if it.typ != nil && which(it) {
			out[it.typ] = append(out[it.typ], it.record)
		}
	}
	return out
}

// wrong counts a record that is not as it should be.
func (v *verifier) wrong(name CheckName, id gid.ID) {
	c := v.checks[name]
	c.Exceptions++
	if len(c.Records) < maxNamed && !slices.Contains(c.Records, id) {
		c.Records = append(c.Records, id)
	}
}

// checkStates checks that each record is where the operation leads, and out of the lists where that is none of theirs.
func (v *verifier) checkStates(_ context.Context, items []*changedItem) error {
	for _, it := range items {
		v.checks[CheckState].Checked++
		if it.there {
			v.checks[CheckListed].Checked++
			// A list goes by one, and a unique value, an owner and a filter on neighbours by the other.
			if it.state.Retired() != it.retired {
				v.wrong(CheckListed, it.record)
			}
		}
		if it.superseded {
			continue
		}
		if !v.arrived(it) {
			v.wrong(CheckState, it.record)
		}
		if it.there && it.state == lifecycle.Active && v.leaves() {
			v.wrong(CheckListed, it.record)
		}
	}
	return nil
}

// leaves reports whether what the operation changes leaves the lists.
func (v *verifier) leaves() bool {
	return v.op.Verb != lifecycle.Restore && v.op.Verb != lifecycle.Undo
}

// targets are the states to which verbs lead that always lead to the same.
var targets = map[lifecycle.Verb]lifecycle.State{
	lifecycle.Delete: lifecycle.Deleted, lifecycle.Void: lifecycle.Voided, lifecycle.Archive: lifecycle.Archived, lifecycle.Suspend: lifecycle.Suspended,
}

// arrived reports whether a record that nothing else happened to is where the operation leads.
func (v *verifier) arrived(it *changedItem) bool {
	switch v.op.Verb {
	case lifecycle.Purge:
		return !it.there
	case lifecycle.Restore, lifecycle.Undo:
		back := it.there && it.below != nil && it.state == *it.below && it.operation == it.belowOf
		// A suspension that ran out in the bin ends there.
		woken := it.there && it.below != nil && *it.below == lifecycle.Suspended && it.state == lifecycle.Active && it.operation.IsZero()
		return back || woken
	case lifecycle.Suspend:
		// What was suspended got another end, and stays with the operation that suspended it.
		if it.prior == lifecycle.Suspended {
			return it.there && it.state == lifecycle.Suspended && it.operation == it.priorOf
		}
	}
	return it.there && it.state == targets[v.op.Verb] && it.operation == v.op.ID
}

// checkReferences checks that nothing is live below what is retired, and that nothing points to what is gone.
func (v *verifier) checkReferences(ctx context.Context, items []*changedItem) error {
	v.checks[CheckReferences].Checked += len(items)
	stmt, parts := store.Build(v.tx), 0
	add := func(text string, column string, ids []gid.ID) {
		if parts++; parts > 1 {
			stmt.Add(` UNION `)
		}
		stmt.Add(text).IDs(column, ids)
	}
	gone := byType(items, func(it *changedItem) bool { return !it.there })
	retired := byType(items, func(it *changedItem) bool { return it.there && it.retired })
	for _, t := range typeOrder {
		for _, d := range dependants[t.Name] {
			if ids := gone[t]; len(ids) > 0 {
				add(`SELECT r.id FROM `+d.holder.Table+` r WHERE `, "r."+d.edge.Column, ids)
			}
			if ids := retired[t]; len(ids) > 0 && d.edge.Class != lifecycle.Weak {
				add(`SELECT r.id FROM `+d.holder.Table+` r WHERE r.retired_at IS NULL AND `, "r."+d.edge.Column, ids)
			}
		}
	}
	for t, ids := range byType(items, func(it *changedItem) bool { return it.there && !it.retired }) {
		for _, e := range t.Edges {
			if owner := ent.RecordTypeNamed(e.Target); e.Class != lifecycle.Weak {
				add(`SELECT r.id FROM `+t.Table+` r JOIN `+owner.Table+` o ON o.id = r.`+e.Column+` WHERE o.retired_at IS NOT NULL AND `, "r.id", ids)
			}
		}
	}
	if parts == 0 {
		return nil
	}
	if err := stmt.Query(ctx, v.tx, scanIDs(func(id gid.ID) { v.wrong(CheckReferences, id) })); err != nil {
		return fmt.Errorf("reading references: %w", err)
	}
	return nil
}

// checkGone checks that of what is purged nothing is left but a tombstone.
func (v *verifier) checkGone(ctx context.Context, items []*changedItem) error {
	if v.op.Verb != lifecycle.Purge {
		return nil
	}
	all := byType(items, func(*changedItem) bool { return true })
	var ids []gid.ID
	for _, it := range items {
		ids = append(ids, it.record)
		if it.there { // its row has the only copy of its seal
			v.wrong(CheckSeals, it.record)
		}
	}
	for _, name := range []CheckName{CheckSearch, CheckSeals, CheckTombstones, CheckParts} {
		v.checks[name].Checked += len(ids)
	}
	if err := v.each(ctx, CheckSearch, `SELECT record_id FROM search_entries WHERE `, "record_id", ids); err != nil {
		return err
	}
	for t, ids := range all {
		for _, p := range t.Parts {
			if err := v.each(ctx, CheckParts, `SELECT DISTINCT `+p.Column+` FROM `+p.Table+` WHERE `, p.Column, ids); err != nil {
				return err
			}
		}
	}
	// What was purged again has the tombstone of the first time.
	has := make(map[gid.ID]bool, len(ids))
	err := store.Build(v.tx).Add(`SELECT record_id FROM tombstones WHERE `).IDs("record_id", ids).Query(ctx, v.tx, scanIDs(func(id gid.ID) { has[id] = true }))
	if err != nil {
		return fmt.Errorf("reading tombstones: %w", err)
	}
	for _, id := range ids {
		if !has[id] {
			v.wrong(CheckTombstones, id)
		}
	}
	return nil
}

// each counts what a query finds, which should find nothing.
func (v *verifier) each(ctx context.Context, name CheckName, query, column string, ids []gid.ID) error {
	if err := store.Build(v.tx).Add(query).IDs(column, ids).Query(ctx, v.tx, scanIDs(func(id gid.ID) { v.wrong(name, id) })); err != nil {
		return fmt.Errorf("checking %s: %w", name, err)
	}
	return nil
}

// checkBytes checks that the bytes of what is purged are gone, or go with the next sweep.
func (v *verifier) checkBytes(ctx context.Context, items []*changedItem) error {
	if v.op.Verb != lifecycle.Purge {
		return nil
	}
	byKey := map[string]gid.ID{}
	var keys []string
	for _, it := range items {
		if it.typ != nil && it.typ.Name == ent.TypeAttachment {
			key := blob.Key(v.op.TenantID, it.record)
			keys, byKey[key] = append(keys, key), it.record
		}
	}
	if len(keys) == 0 {
		return nil
	}
	spare := map[string]bool{}
	err := store.Build(v.tx).Add(`SELECT blob_key FROM blob_spares WHERE `).Strings("blob_key", keys).Query(ctx, v.tx, func(row store.Row) error {
		var key string
		err := row.Scan(&key)
		spare[key] = true
		return err
	})
	if err != nil {
		return fmt.Errorf("reading which bytes go: %w", err)
	}
	v.checks[CheckBytes].Checked += len(spare)
	keys = slices.DeleteFunc(keys, func(key string) bool { return spare[key] })
	if v.blobs == nil {
		return nil
	}
	keys = keys[:min(len(keys), maxBytesLooked-v.looked)]
	v.looked += len(keys)
	v.checks[CheckBytes].Checked += len(keys)
	var mu sync.Mutex
	looking, ctx := errgroup.WithContext(ctx)
	looking.SetLimit(lookers)
	for _, key := range keys {
		looking.Go(func() error {
			there, err := v.blobs.Has(ctx, key)
			if there {
				mu.Lock()
				defer mu.Unlock()
				v.wrong(CheckBytes, byKey[key])
			}
			return err
		})
	}
	return looking.Wait()
}

// checkEvents checks that the audit log has one event for each transition: of what was live when it was purged, two.
func (v *verifier) checkEvents(ctx context.Context, items []*changedItem) error {
	v.checks[CheckAuditEvents].Checked += len(items)
	type transition struct {
		record       gid.ID
		action, from string
	}
	ids := make([]gid.ID, len(items))
	for i, it := range items {
		ids[i] = it.record
	}
	seen := make(map[transition]int, len(items))
	err := store.Build(v.tx).Add(`SELECT record_id, action, from_state FROM audit_events WHERE operation_id = ? AND outcome = 'SUCCEEDED' AND action IN (?, 'DELETE') AND `,
		v.op.ID, string(v.op.Verb)).IDs("record_id", ids).Query(ctx, v.tx, func(row store.Row) error {
		var t transition
		var from *string
		if err := row.Scan(&t.record, &t.action, &from); err != nil {
			return err
		}
		if from != nil {
			t.from = *from
		}
		seen[t]++
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	for _, it := range items {
		want := []transition{{it.record, string(v.op.Verb), string(it.prior)}}
		if v.op.Verb == lifecycle.Purge && !it.prior.Retired() {
			want = []transition{{it.record, string(lifecycle.Purge), string(lifecycle.Deleted)}, {it.record, string(lifecycle.Delete), string(it.prior)}}
		}
		if slices.ContainsFunc(want, func(t transition) bool { return seen[t] != 1 }) {
			v.wrong(CheckAuditEvents, it.record)
		}
	}
	return nil
}

// eventsWithoutChange checks that the log speaks of no record that the operation did not change.
func (v *verifier) eventsWithoutChange(ctx context.Context) error {
	err := store.Build(v.tx).Add(`SELECT e.record_id FROM audit_events e WHERE e.operation_id = ? AND e.outcome = 'SUCCEEDED' AND e.action = ? AND e.record_id IS NOT NULL
		AND NOT EXISTS (SELECT 1 FROM operation_items i WHERE i.operation_id = e.operation_id AND i.record_id = e.record_id AND i.outcome = 'CHANGED')`,
		v.op.ID, string(v.op.Verb)).Query(ctx, v.tx, scanIDs(func(id gid.ID) { v.wrong(CheckAuditEvents, id) }))
	if err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	return nil
}

// nameReadable leaves of what is named what the reader may read, or may know to be purged.
func (v *verifier) nameReadable(ctx context.Context) error {
	ids := map[*ent.RecordType][]gid.ID{}
	var all []gid.ID
	for _, c := range v.out.Checks {
		for _, id := range c.Records {
			if t := ent.RecordTypeOf(id); t != nil {
				ids[t], all = append(ids[t], id), append(all, id)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	known, err := v.purged(ctx, v.querier(ctx), actor.From(ctx), all)
	if err != nil {
		return err
	}
	for t, ids := range ids {
		rows, err := v.Client(ctx).CollectRecords(ctx, t.Name, nil, []string{"id"}, func(s *sql.Selector) { s.Where(inIDs(s.C("id"), ids)) })
		if err != nil {
			return fmt.Errorf("reading %s: %w", t.Table, err)
		}
		for _, row := range rows {
			known[row.RecordID()] = true
		}
	}
	for _, c := range v.out.Checks {
		c.Records = slices.DeleteFunc(c.Records, func(id gid.ID) bool { return !known[id] })
		c.Records = c.Records[:min(len(c.Records), maxExceptions)]
	}
	return nil
}
