package record

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"entgo.io/ent/dialect"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// The modes of an operation.
const (
	AllOrNothing = "ALL_OR_NOTHING"
	BestEffort   = "BEST_EFFORT"
)

// The outcomes of an item.
const (
	changed      = "CHANGED"
	unchanged    = "UNCHANGED"
	failed       = "FAILED"
	notProcessed = "NOT_PROCESSED"
)

// idempotencyWindow is how long a key is kept.
const idempotencyWindow = 7 * 24 * time.Hour

// actions are what policies must allow for each verb.
var actions = map[lifecycle.Verb]authz.Action{
	lifecycle.Delete: authz.Delete, lifecycle.Void: authz.Void, lifecycle.Archive: authz.Archive,
	lifecycle.Suspend: authz.Suspend, lifecycle.Restore: authz.Restore, lifecycle.Purge: authz.Purge, lifecycle.Undo: authz.Restore,
}

// run is one operation under way. It has two halves. The plan selects,
// authorizes and guards: it reads, and leaves in the items and nodes what is to
// become of each record. Then that is applied. A preview is a plan that is not
// applied.
type run struct {
	*Service
	q   store.Querier // what the plan reads from
	tx  *store.Tx     // nil for a preview, which neither locks nor writes
	a   *actor.Actor
	req Request
	id  gid.ID

	// claiming says that the operation with this id was written down before, and is to run now: what it asks for is read when
	// it is locked.
	claiming bool
	// stored is an operation that was written down before, kept what it keeps of its request, and previewed whether it was
	// previewed when it was asked for.
	stored    *ent.Operation
	kept      later
	previewed bool
	// modeGiven is the mode as it was asked for; empty leaves it to us.
	modeGiven string
	// batch is the part of a job that is carried out; nil for an operation that is carried out at once. handed says that
	// the operation was made a job just now.
	batch  *batch
	handed bool
	// job is how many records are selected of what is too large for one transaction.
	job int

	// due restricts what a timer does to records whose clock ran out by then.
	due *time.Time
	// by is the retention rule that asks.
	by *rule
	// again says that what is purged may have been purged before.
	again bool

	plan
}

// plan is what the first half of a run finds out.
type plan struct {
	settings settings
	// token is that of the preview the caller saw, if he sent one.
	token *token
	// undo is the operation that is taken back, if the verb is UNDO.
	undo *ent.Operation
	// large says that the selection is too large for one transaction; then items are not all of it.
	large bool

	items []*item // what was picked, in input order
	nodes map[gid.ID]*node
	stale map[gid.ID]*item // picks that moved on from the version the caller saw
	along []*node          // what comes along, by depth and id

	// keeps is what holds keep from what is in reach, and wide the holds that keep
	// more than they name.
	keeps map[gid.ID]kept
	wide  []wideHold

	// exported says which export has what of a record that has to be exported first.
	exported map[gid.ID]exported

	// met are the edges by which something in reach may have live dependants.
	met map[edgeKey]bool
	// changing are the nodes that go ahead, picked or not, by depth and id.
	changing []*node
	// parts are what is part of the records that are retired, by type and name.
	parts map[string]map[gid.ID][]part
	// above are the owners of what is restored, read and locked with it.
	above map[gid.ID]ent.Record
	// priors are the items of operations that put records into their state, by
	// record and operation.
	priors map[stackTop]lifecycle.State

	// overrides and parent mend what is restored.
	overrides map[gid.ID]map[string]string
	parent    ent.Record
}

// Run carries an operation out in the transaction of the context, or in one of
// its own. What becomes of each record is in the operation's items; an error
// means that nothing was done, not even the operation written down.
func (s *Service) Run(ctx context.Context, req Request) (*ent.Operation, error) {
	return s.start(ctx, &run{req: req})
}

// Undo takes an operation back: it restores exactly the records that are still
// where that operation put them.
func (s *Service) Undo(ctx context.Context, operation gid.ID, req Request) (*ent.Operation, error) {
	req.Verb, req.Select = lifecycle.Undo, Selection{Operation: &operation}
	return s.start(ctx, &run{req: req})
}

func (s *Service) start(ctx context.Context, r *run) (op *ent.Operation, err error) {
	r.Service, r.a, r.id = s, actor.From(ctx), gid.New(gid.Operation)
	if r.a == nil {
		return nil, errors.New("record: an operation by nobody")
	}
	for try := 1; ; try++ {
		op, err = r.once(ctx)
		// In a transaction of the caller's only he can try again.
		if err == nil || try == tries || store.TxFrom(ctx) != nil || !store.Busy(err) || store.Pause(ctx, try) != nil {
			return op, err
		}
	}
}

// tries is how often an operation is tried that lost a deadlock.
const tries = 5

// byItself reports whether a timer or a retention rule asks, and no person.
func (r *run) byItself() bool { return r.due != nil || r.by != nil }

func (r *run) once(ctx context.Context) (op *ent.Operation, err error) {
	err = r.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		r.q, r.tx, r.plan = tx, tx, plan{}
		if err := r.takeRoom(ctx); err != nil {
			return err
		}
		if err := r.stillSaid(ctx); err != nil {
			return err
		}
		op, err = r.do(ctx)
		if refused, ok := errors.AsType[*Error](err); ok && !r.claiming && !r.byItself() { // of which whoever runs it tells
			e := audit.Event{Action: string(r.req.Verb), Code: refused.Code, Count: len(r.items)}
			for _, it := range r.items {
				e.IDs = append(e.IDs, it.id.String())
			}
			r.logRefusal(ctx, tx, e)
		}
		return err
	})
	return op, err
}

func (r *run) do(ctx context.Context) (*ent.Operation, error) {
	if r.claiming {
		if op, err := r.claim(ctx); op == nil || err != nil || r.handed {
			return op, err
		}
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	if earlier, err := r.repeated(ctx); earlier != nil || err != nil {
		return earlier, err
	}
	if err := r.checkTimes(); err != nil { // of a request that is repeated they may have passed
		return nil, err
	}
	ctx, err := r.pinned(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.prepare(ctx); errors.Is(err, errLarge) {
		return r.enqueue(ctx)
	} else if err != nil {
		return nil, err
	}
	caps := r.overCaps()
	if k := r.asks(caps); k != nil {
		return r.ask(ctx, k, caps)
	}
	if len(caps) > 0 && r.kept.Approval == nil {
		return nil, caps[0].refusal()
	}
	if r.req.RunAt != nil {
		return r.schedule(ctx)
	}
	if r.byItself() && r.changes() == 0 { // a timer that changes nothing leaves nothing behind, or it would each time
		return nil, nil
	}
	return r.apply(ctx)
}

// pinned is the context under which everything is judged by one version of the
// policy, and reads what the actor may see by it.
func (r *run) pinned(ctx context.Context) (context.Context, error) {
	pin := r.control.Pin
	if r.req.Verb == lifecycle.Purge {
		pin = r.control.Repin // what cannot be undone is judged by the policy as it is now
	}
	return r.judgedBy(ctx, r.a, pin)
}

func (s *Service) judgedBy(ctx context.Context, a *actor.Actor, pin func(context.Context, gid.ID) (context.Context, error)) (context.Context, error) {
	pinned, err := pin(ctx, a.Tenant)
	if err != nil {
		return ctx, Refuse(lifecycle.AuthzUnavailable, "the policy could not be read; try again")
	}
	return visible.With(pinned, s.control.Rows(pinned, a)), nil
}

// prepare makes the plan. It is the same for an operation and for its preview.
func (r *run) prepare(ctx context.Context) error {
	r.plan = plan{nodes: map[gid.ID]*node{}, stale: map[gid.ID]*item{}}
	for _, step := range []func(context.Context) error{
		r.readToken, r.readSettings, r.readSums, r.pick, r.couldEver, r.checkCount, r.checkDuplicateOf, r.judge, r.checkToken, r.guard, r.checkSize, r.countLive,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// guard finds what comes along and what stands in the way, and settles what
// goes ahead.
func (r *run) guard(ctx context.Context) error {
	switch r.req.Verb {
	case lifecycle.Delete, lifecycle.Void, lifecycle.Archive:
		return r.planRetire(ctx)
	case lifecycle.Suspend:
		return r.planSuspend(ctx)
	case lifecycle.Restore, lifecycle.Undo:
		return r.planRestore(ctx)
	case lifecycle.Purge:
		return r.planPurge(ctx)
	}
	return Refuse(lifecycle.BadUserInput, "this verb is not available")
}

// apply writes what the plan says.
func (r *run) apply(ctx context.Context) (*ent.Operation, error) {
	if r.brings(lifecycle.Owned) { // read first: what is written then goes in one round trip
		if err := r.readParts(ctx); err != nil {
			return nil, err
		}
	}
	write := r.writeDown
	if r.batch != nil {
		write = r.writeBatch
	}
	op, err := write(ctx)
	if err != nil {
		return nil, err
	}
	switch r.req.Verb {
	case lifecycle.Restore, lifecycle.Undo:
		err = r.applyRestore(ctx)
	case lifecycle.Purge:
		err = r.applyPurge(ctx)
	case lifecycle.Suspend:
		err = r.applySuspend(ctx)
	default:
		err = r.applyRetire(ctx)
	}
	if err == nil { // a failure belongs here, and not to the end of the document
		err = r.tx.Flush(ctx)
	}
	if err == nil {
		r.tellChanges()
	}
	return op, err
}

// named says of a queued write what was being done.
func named(doing string) func(int64, error) error {
	return func(_ int64, err error) error {
		if err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		return nil
	}
}

// checkCount refuses a selection that has not as many records as the caller
// expects.
func (r *run) checkCount(context.Context) error {
	want := r.req.ExpectedCount
	if want == nil || *want == len(r.items) {
		return nil
	}
	return unexpected(*want, len(r.items))
}

func unexpected(want, n int) *Error {
	return &Error{
		Code: lifecycle.Conflict, Message: "the selection does not have the expected number of records", Fields: []string{"expectedCount"},
		Extensions: map[string]any{"expected": want, "actual": n},
	}
}

// errLarge says that an operation is about more records than one transaction takes.
var errLarge = errors.New("record: more than one transaction takes")

// checkSize finds out what is more than one transaction takes.
func (r *run) checkSize(context.Context) error {
	most := r.most()
	if r.due != nil && r.req.Verb == lifecycle.Purge && len(r.items) > 1 {
		most = sweepBatch // which a single tree may be larger than
	}
	if len(r.items)+len(r.along) > most {
		return errLarge
	}
	return nil
}

// most is how many records the transaction takes.
func (r *run) most() int {
	switch {
	case r.batch != nil:
		return r.batch.most
	case r.byItself() && len(r.items) == 1: // nobody waits for it, and a tree goes as a whole or never
		return r.sizes.tree
	}
	return r.sizes.rows
}

func (r *run) tooMany() *Error {
	refused := Refuse(lifecycle.Limit, fmt.Sprintf("more than %d records, those that come along included", MaxRows), "select")
	if r.req.Select.Bin != nil {
		refused.Fields = nil // it has no field of the input
	}
	return refused
}

func (r *run) check() error {
	req := &r.req
	if r.stored == nil {
		r.modeGiven = req.Mode
	}
	switch req.Mode {
	case "":
		req.Mode = AllOrNothing
	case AllOrNothing, BestEffort:
	default:
		return Refuse(lifecycle.BadUserInput, "there is no such mode", "mode")
	}
	if req.Verb == lifecycle.Void && req.Reason == "" && r.tx != nil {
		return Refuse(lifecycle.BadUserInput, "voiding needs a reason", "reason")
	}
	if err := mixin.Characters(mixin.MaxReason)(req.Reason); err != nil {
		return Refuse(lifecycle.BadUserInput, err.Error(), "reason")
	}
	if len(req.IdempotencyKey) > 255 {
		return Refuse(lifecycle.BadUserInput, "is longer than 255 bytes", "idempotencyKey")
	}
	for field, text := range map[string]string{"reason": req.Reason, "idempotencyKey": req.IdempotencyKey} {
		if !storable(text) {
			return Refuse(lifecycle.BadUserInput, unstorable, field)
		}
	}
	for _, v := range req.Select.Versions {
		if r.stored == nil && v.Version < 1 {
			return Refuse(lifecycle.BadUserInput, "versions count from 1", "select")
		}
	}
	if f := req.Select.Filter; f != nil {
		if f.Comparisons == 0 {
			return Refuse(lifecycle.InvalidFilter, "the filter compares nothing and would select everything", "select")
		}
	} else if req.States != nil {
		return Refuse(lifecycle.BadUserInput, "states narrow a filter only", "states")
	}
	if (req.Select.Filter != nil || req.Select.Bin != nil) && req.ExpectedCount == nil && req.PreviewToken == "" && r.tx != nil && r.by == nil {
		return Refuse(lifecycle.BadUserInput, "what a filter selects needs expectedCount or previewToken", "expectedCount")
	}
	named := MaxRows
	if req.Import != nil {
		named = MaxPicks
	}
	if r.stored == nil && (len(req.Select.IDs) > named || len(req.Select.Versions) > named) {
		return Refuse(lifecycle.Limit, fmt.Sprintf("more than %d records at once", named), "select")
	}
	if req.Payload == nil {
		payload, err := json.Marshal(req.Select.IDs)
		if err != nil {
			return fmt.Errorf("encoding the selection: %w", err)
		}
		req.Payload = payload
	}
	return nil
}

// repeated answers the operation that the same request under the same key made
// before. A second request waits here until the first has ended.
func (r *run) repeated(ctx context.Context) (*ent.Operation, error) {
	if r.req.IdempotencyKey == "" {
		return nil, nil
	}
	if r.tx.Dialect() == dialect.Postgres {
		name := r.a.Tenant.UUID() + r.a.User.UUID() + r.req.IdempotencyKey
		if _, err := store.Build(r.tx).Add(`SELECT pg_advisory_xact_lock(hashtextextended(?, 0))`, name).Exec(ctx, r.tx); err != nil {
			return nil, fmt.Errorf("waiting for the same idempotency key: %w", err)
		}
	}
	var id gid.ID
	var hash []byte
	var at time.Time
	found, err := store.Build(r.tx).Add(`SELECT id, payload_hash, created_at FROM operations WHERE tenant_id = ? AND actor_id = ? AND idempotency_key = ?`,
		r.a.Tenant, r.a.User, r.req.IdempotencyKey).One(ctx, r.tx, &id, &hash, &at)
	if err != nil || !found {
		return nil, err
	}
	if r.tx.Now().Sub(at) > idempotencyWindow {
		_, err := store.Build(r.tx).Add(`UPDATE operations SET idempotency_key = NULL, payload_hash = NULL WHERE id = ?`, id).Exec(ctx, r.tx)
		return nil, err
	}
	mine, err := r.payloadHash()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(hash, mine) {
		return nil, Refuse(lifecycle.IdempotencyMismatch, "the key was used for another request", "idempotencyKey")
	}
	return r.Client(ctx).Operation.Get(visible.With(ctx, visible.Tenant(r.a.Tenant)), id)
}

// payloadHash is keyed, because a plain hash of a short reason or address is
// guessed in seconds.
func (r *run) payloadHash() ([]byte, error) {
	key, err := r.audit.Keys().Tenant(r.a.Tenant)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(r.req.Verb))
	mac.Write(r.req.Payload)
	return mac.Sum(nil), nil
}

// couldEver refuses at the top level what the policy would never allow on any
// of the selected types.
func (r *run) couldEver(ctx context.Context) error {
	types := map[string]bool{}
	for _, it := range r.items {
		if it.typ != nil {
			types[it.typ.Name] = true
		}
	}
	if f := r.req.Select.Filter; f != nil {
		types[f.Type] = true
	} else if r.large || r.batch != nil { // these are not all
		clear(types)
	}
	if len(types) == 0 { // nothing is selected, or nothing that is a record
		for _, t := range ent.RecordTypes {
			types[t.Name] = true
		}
	}
	for name := range types {
		could, err := r.control.CouldEver(ctx, r.a, actions[r.req.Verb], name)
		if err != nil {
			return Refuse(lifecycle.AuthzUnavailable, "access could not be decided; try again")
		}
		if could {
			return nil
		}
	}
	return Refuse(lifecycle.Forbidden, "the policy does not allow this on any of these records")
}

// checkDuplicateOf insists that what the records are said to repeat is there,
// is of their type, and is none of them.
func (r *run) checkDuplicateOf(ctx context.Context) error {
	id := r.req.DuplicateOf
	if id == nil {
		return nil
	}
	t := ent.RecordTypeOf(*id)
	wrong := r.req.Verb != lifecycle.Void || t == nil ||
		slices.ContainsFunc(r.items, func(it *item) bool { return cannotRepeat(it.id, *id) })
	if !wrong {
		rows, err := r.load(ctx, t, []gid.ID{*id}, none)
		if err != nil {
			return err
		}
		wrong = len(rows) == 0
	}
	if wrong {
		return noDuplicate()
	}
	return nil
}

// cannotRepeat reports whether a record cannot be said to repeat another one.
func cannotRepeat(id, other gid.ID) bool {
	return id == other || ent.RecordTypeOf(id) != ent.RecordTypeOf(other)
}

// noneRepeated is checkDuplicateOf for a page of a selection that is too large for memory.
func (r *run) noneRepeated(page []Version) error {
	if id := r.req.DuplicateOf; id != nil && slices.ContainsFunc(page, func(p Version) bool { return cannotRepeat(p.ID, *id) }) {
		return noDuplicate()
	}
	return nil
}

func noDuplicate() *Error {
	return Refuse(lifecycle.BadUserInput, "is not another record of the same type", "duplicateOf")
}

// all are the items: those picked in input order, then those that come along by
// depth and id.
func (p *plan) all() []*item {
	all := slices.Clone(p.items)
	for _, n := range p.along {
		all = append(all, n.asItem())
	}
	return all
}

// writeDown writes the operation and its items; what changes is written in the
// same transaction.
func (r *run) writeDown(ctx context.Context) (*ent.Operation, error) {
	all := r.all()
	counts := map[string]int{}
	var refused audit.Event
	for _, it := range all {
		counts[it.outcome]++
		if it.outcome == failed {
			if refused.Code == "" {
				refused.Code = it.code
			}
			if refused.Code == lifecycle.Hold { // the log is read by some who may not know of holds
				refused.Code = lifecycle.Retained
			}
			refused.IDs = append(refused.IDs, it.id.String())
		}
	}
	status := operation.StatusSUCCEEDED
	switch {
	case counts[failed] > 0 && counts[changed] > 0:
		status = operation.StatusPARTIAL
	case counts[failed] > 0:
		status = operation.StatusFAILED
	}
	now := r.tx.Now()
	op := &ent.Operation{
		ID: r.id, TenantID: r.a.Tenant, Verb: r.req.Verb, Status: status, Mode: operation.Mode(r.req.Mode), Cascade: r.req.Cascade,
		Selection: r.req.Payload, ActorID: r.a.UserRef(), TeamID: r.a.FirstTeam(), UndoesID: r.undone(), DuplicateOfID: r.req.DuplicateOf,
		Total: len(all), Processed: len(all), Changed: counts[changed], Unchanged: counts[unchanged], Failed: counts[failed],
		Imported: r.imported(), CreatedAt: now, FinishedAt: &now,
	}
	write := r.insertOperation
	if r.stored != nil {
		op.CreatedAt, op.RunAt = r.stored.CreatedAt, r.stored.RunAt
		write = r.updateOperation
	}
	if err := write(ctx, op); err != nil {
		return nil, err
	}
	if err := r.insertItems(ctx, all); err != nil {
		return nil, err
	}
	if counts[failed] > 0 {
		refused.Action, refused.Operation, refused.Count = string(r.req.Verb), &r.id, counts[failed]
		r.logRefusal(ctx, r.tx, refused)
	}
	r.tellEnd(op.Verb, op.Status)
	return r.Client(ctx).AdoptOperation(op), nil
}

// insertOperation writes an operation down.
func (r *run) insertOperation(ctx context.Context, op *ent.Operation) error {
	if r.req.Reason != "" {
		op.Reason = &r.req.Reason
	}
	var hash, key, request any
	if r.req.IdempotencyKey != "" {
		h, err := r.payloadHash()
		if err != nil {
			return err
		}
		op.IdempotencyKey, op.PayloadHash = &r.req.IdempotencyKey, h
		hash, key = h, r.req.IdempotencyKey
	}
	if op.Request != nil {
		request = op.Request
	}
	return store.Build(r.tx).Add(`INSERT INTO operations (id, tenant_id, verb, status, mode, cascade, reason, selection, request, actor_id, team_id,
		undoes_id, duplicate_of_id, idempotency_key, payload_hash, total, processed, changed, unchanged, failed, imported, created_at, run_at, finished_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		op.ID, op.TenantID, string(op.Verb), string(op.Status), string(op.Mode), op.Cascade, nullText(r.req.Reason), op.Selection, request, nullID(op.ActorID), nullID(op.TeamID),
		nullID(op.UndoesID), nullID(op.DuplicateOfID), key, hash, op.Total, op.Processed, op.Changed, op.Unchanged, op.Failed, op.Imported, op.CreatedAt, nullTime(op.RunAt), nullTime(op.FinishedAt)).
		Queue(ctx, r.tx, named("writing the operation"))
}

// updateOperation writes what became of an operation that was written down before; its items are written anew.
func (r *run) updateOperation(ctx context.Context, op *ent.Operation) error {
	err := store.Build(r.tx).Add(`UPDATE operations SET status = ?, total = ?, processed = ?, changed = ?, unchanged = ?, failed = ?, finished_at = ?, request = NULL
		WHERE id = ? AND status IN ('SCHEDULED', 'APPROVED')`, string(op.Status), op.Total, op.Processed, op.Changed, op.Unchanged, op.Failed, nullTime(op.FinishedAt), op.ID).
		Queue(ctx, r.tx, func(n int64, err error) error {
			if err == nil && n != 1 {
				err = errors.New("it is scheduled no more")
			}
			return named("writing the operation")(n, err)
		})
	if err != nil {
		return err
	}
	return store.Build(r.tx).Add(`DELETE FROM operation_items WHERE operation_id = ?`, op.ID).Queue(ctx, r.tx, named("replacing the items"))
}

func (r *run) insertItems(ctx context.Context, items []*item) error {
	err := r.tx.InsertEach(ctx, "operation_items", itemColumns, len(items), func(i int, row []any) error { return items[i].fill(r, row) })
	if err != nil {
		return fmt.Errorf("writing the items: %w", err)
	}
	return nil
}

func (r *run) undone() *gid.ID {
	if r.undo == nil {
		return nil
	}
	return &r.undo.ID
}

func nullText(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func nullID(id *gid.ID) any {
	if id == nil || id.IsZero() {
		return nil
	}
	return *id
}

func nullTime(t *time.Time) any {
	if t == nil {
		return nil
	}
	return *t
}
