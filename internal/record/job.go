package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// An operation about more records than one transaction takes is a job. What it is about is written down when it is
// accepted; then it is carried out in batches, each of them a transaction that locks the operation, takes the next
// picks in the line, plans and applies them with what comes along as any operation is, and moves the counters. The
// operation's row is the truth: a worker that is killed loses a batch that was not committed, and whoever works on it
// next takes the same picks again.

// MaxTree is how many records one pick of a job may bring along. They go in one transaction: a record is never live below
// an owner that is not.
const MaxTree = 20_000

// sizes say how much goes into a transaction. They are the same everywhere but in tests.
type sizes struct {
	rows  int // records of an operation that is done at once; with twice as many a batch of a job is tried by halves
	batch int // picks of a batch
	tree  int // records of one pick in a job
}

var usual = sizes{rows: MaxRows, batch: 500, tree: MaxTree}

// A Queue has somebody work on an operation, in this process or another, once the transaction is committed.
type Queue interface {
	Enqueue(ctx context.Context, tx *store.Tx, tenant, operation gid.ID) error
}

// WithQueue has jobs carried out as soon as they are accepted. Without it they wait for RunDue.
func (s *Service) WithQueue(q Queue) *Service {
	s.queue = q
	return s
}

// batch is a part of a job.
type batch struct {
	size, most int // picks, and records with what comes along
	// picks are those of the batch, with their items.
	picks []waitingPick
	// tally is what the batch adds to the operation's counters.
	tally tally
}

type tally struct{ total, processed, changed, unchanged, failed int }

// enqueue accepts an operation that is too large for one transaction.
func (r *run) enqueue(ctx context.Context) (*ent.Operation, error) {
	if r.modeGiven == AllOrNothing || r.due != nil || r.a.Kind == actor.System {
		return nil, r.tooMany()
	}
	r.req.Mode = BestEffort
	if r.stored != nil {
		if asked, err := r.askLarge(ctx, r.stored); asked || err != nil { // it has grown since it was written down
			return r.stored, err
		}
		return r.hand(ctx, r.stored)
	}
	if r.large = len(r.items) > r.sizes.rows; r.large { // the plan was given up before it came to this
		if err := errors.Join(r.couldEver(ctx), r.checkDuplicateOf(ctx)); err != nil {
			return nil, err
		}
	}
	status := operation.StatusQUEUED
	if r.req.RunAt != nil {
		status = operation.StatusSCHEDULED
	}
	op, err := r.keep(ctx, status)
	if err != nil {
		return nil, err
	}
	if asked, err := r.askLarge(ctx, op); asked || err != nil {
		return op, err
	}
	if r.req.RunAt != nil {
		return op, r.logScheduled(ctx, op)
	}
	event := audit.Event{Action: "QUEUE", Operation: &r.id, Count: op.Total, PolicyVersion: r.control.Version(ctx, r.a.Tenant), Detail: map[string]any{"verb": r.req.Verb}}
	if err := r.audit.Append(ctx, r.tx, event); err != nil {
		return nil, err
	}
	return op, r.handOver(ctx)
}

// askLarge lets a job wait for others where it has to. How many records it takes of each type, nobody knows beforehand; of
// what comes along, what was found until it was too much counts.
func (r *run) askLarge(ctx context.Context, op *ent.Operation) (bool, error) {
	if !slices.Contains(counted, r.req.Verb) || r.kept.Approval != nil {
		return false, nil
	}
	r.job = max(op.Total, len(r.nodes))
	var caps []exceeded
	if r.req.RunAt == nil || r.asks(nil) != nil { // else they are counted when its time has come: once others have agreed, none is
		caps = r.over(max(r.job-r.imported(), 0), nil)
	}
	k := r.asks(caps)
	if k == nil && len(caps) > 0 {
		return false, caps[0].refusal()
	}
	if k == nil {
		return false, nil
	}
	r.stored = op
	_, err := r.ask(ctx, k, caps)
	return true, err
}

// hand makes a job of an operation that was written down before.
func (r *run) hand(ctx context.Context, op *ent.Operation) (*ent.Operation, error) {
	if r.modeGiven == AllOrNothing {
		return nil, r.tooMany()
	}
	request, err := json.Marshal(r.kept)
	if err == nil {
		_, err = store.Build(r.tx).Add(`UPDATE operations SET status = 'QUEUED', code = NULL, mode = ?, request = ? WHERE id = ?`, BestEffort, request, op.ID).Exec(ctx, r.tx)
	}
	if err != nil {
		return nil, fmt.Errorf("queueing an operation: %w", err)
	}
	op.Status, op.Mode = operation.StatusQUEUED, BestEffort
	r.handed = true
	return op, r.handOver(ctx)
}

// handOver leaves an operation to the workers.
func (r *run) handOver(ctx context.Context) error {
	if _, err := store.Build(r.tx).Add(`UPDATE operations SET worked_at = ? WHERE id = ?`, r.tx.Now(), r.id).Exec(ctx, r.tx); err != nil {
		return fmt.Errorf("queueing an operation: %w", err)
	}
	if r.queue == nil {
		return nil
	}
	if err := r.queue.Enqueue(ctx, r.tx, r.a.Tenant, r.id); err != nil {
		return fmt.Errorf("queueing an operation: %w", err)
	}
	return nil
}

// Work carries on with an operation that waits for a worker, batch by batch, until it has ended or the context does.
// It acts with the rights that its requester has at each batch. Several may work on the same operation: they take
// turns. A batch that has begun is finished when the context ends.
func (s *Service) Work(ctx context.Context, actAs ActAs, tenant, id gid.ID) error {
	if err := s.runApproved(ctx, actAs, tenant, id); err != nil {
		return err
	}
	size, whole := s.sizes.batch, context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		more, next, err := s.workOn(whole, actAs, tenant, id, size)
		if err != nil || !more {
			return err
		}
		size = next
	}
	return ctx.Err()
}

// workOn carries out one batch of up to so many picks, and answers whether there is more, and how many to take next.
func (s *Service) workOn(ctx context.Context, actAs ActAs, tenant, id gid.ID, size int) (more bool, next int, err error) {
	var user gid.ID
	found, err := store.Build(s.db).Add(`SELECT actor_id FROM operations WHERE tenant_id = ? AND id = ? AND status IN ('QUEUED', 'RUNNING')`, tenant, id).One(ctx, s.db, &user)
	if err != nil || !found {
		return false, 0, err
	}
	a, left := actor.ForSystem(tenant), false
	if !user.IsZero() {
		a, err = actAs(ctx, tenant, user)
		if left = errors.Is(err, ErrLeft); left {
			a, err = &actor.Actor{Kind: actor.User, Tenant: tenant, User: user}, nil
		}
		if err != nil {
			return false, 0, fmt.Errorf("acting as its requester: %w", err)
		}
	}
	r := &run{Service: s, a: a, id: id, batch: &batch{size: size}}
	ctx = actor.With(ctx, a)
	for try := 1; ; try++ {
		more, err = r.doBatch(ctx, left)
		_, late := errors.AsType[*Error](err) // somebody came in between: now the plan will see it
		if err == nil || try == tries || !late && !store.Busy(err) || store.Pause(ctx, try) != nil {
			break
		}
	}
	switch {
	case errors.Is(err, errLarge):
		return true, max(min(size, len(r.batch.picks))/2, 1), nil
	case err != nil:
		return false, 0, err
	}
	return more, min(s.sizes.batch, 2*size), nil
}

// doBatch carries out one batch in a transaction.
func (r *run) doBatch(ctx context.Context, left bool) (more bool, err error) {
	weight := int64(MaxRows)
	if r.batch.size == 1 { // with a large tree, perhaps
		weight = room
	}
	release, err := take(ctx, r.room, weight)
	if err != nil {
		return false, err
	}
	defer release()
	err = r.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		r.q, r.tx, r.plan, r.batch.tally = tx, tx, plan{}, tally{}
		op, err := r.takeUp(ctx)
		if err != nil || op == nil {
			more = false
			return err
		}
		if len(r.batch.picks) == 0 {
			more = false
			return r.finish(ctx, op)
		}
		more = true
		if left {
			return r.failRest(ctx, op, lifecycle.Forbidden)
		}
		pinned, err := r.planBatch(ctx)
		if refused, ok := errors.AsType[*Error](err); ok && refused.Code != lifecycle.AuthzUnavailable {
			return r.failRest(pinned, op, refused.Code)
		}
		if errors.Is(err, errLarge) && r.batch.most == r.sizes.tree {
			return r.failPick(pinned)
		}
		if err != nil {
			return err
		}
		r.job = 0 // what this batch takes is known
		caps := r.overCaps()
		if k := r.asks(caps); k != nil {
			return r.pause(pinned, op, k, caps)
		}
		if len(caps) > 0 && r.kept.Approval == nil {
			return caps[0].refusal()
		}
		_, err = r.apply(pinned)
		return err
	})
	return more, err
}

// takeUp locks the operation, and reads the request and the next picks in the line; nil when there is nothing to do.
func (r *run) takeUp(ctx context.Context) (*ent.Operation, error) {
	var id gid.ID
	found, err := store.Build(r.tx).Add(`SELECT id FROM operations WHERE tenant_id = ? AND id = ? AND status IN ('QUEUED', 'RUNNING')`, r.a.Tenant, r.id).ForUpdate().One(ctx, r.tx, &id)
	if err != nil || !found {
		return nil, err
	}
	op, err := r.Client(ctx).Operation.Get(visible.With(ctx, visible.Tenant(r.a.Tenant)), r.id)
	if err != nil {
		return nil, fmt.Errorf("reading a job: %w", err)
	}
	if err := r.readLater(op); err != nil {
		return nil, err
	}
	r.batch.picks, err = r.waiting(ctx, r.batch.size)
	r.batch.most = 2 * r.sizes.rows
	if r.batch.size == 1 { // for which there is room
		r.batch.most = r.sizes.tree
	}
	r.req.Select.Versions = make([]Version, len(r.batch.picks))
	for i, p := range r.batch.picks {
		r.req.Select.Versions[i] = p.Version
	}
	return op, err
}

// planBatch plans a batch, and answers the context it was judged in. One that has grown is planned again.
func (r *run) planBatch(ctx context.Context) (context.Context, error) {
	for {
		if pinned, err := r.planOnce(ctx); !errors.Is(err, errMore) {
			return pinned, err
		}
	}
}

func (r *run) planOnce(ctx context.Context) (context.Context, error) {
	if err := r.check(); err != nil {
		return ctx, err
	}
	ctx, err := r.pinned(ctx)
	if err != nil {
		return ctx, err
	}
	r.plan = plan{nodes: map[gid.ID]*node{}, stale: map[gid.ID]*item{}}
	if r.req.Verb == lifecycle.Undo {
		if r.undo, err = r.Client(ctx).Operation.Get(visible.With(ctx, visible.Tenant(r.a.Tenant)), *r.kept.Undoes); err != nil {
			return ctx, fmt.Errorf("reading the operation that is taken back: %w", err)
		}
	}
	for _, step := range []func(context.Context) error{
		r.readSettings, r.readSums, r.pickBatch, r.couldEver, r.checkDuplicateOf, r.judge, r.linkBefore, r.guard, r.checkSize, r.countLive,
	} {
		if err := step(ctx); err != nil {
			return ctx, err
		}
	}
	return ctx, nil
}

// pickBatch takes up the picks of a batch.
func (r *run) pickBatch(context.Context) error {
	for _, p := range r.batch.picks {
		it := &item{id: p.ID, typ: ent.RecordTypeOf(p.ID), expect: p.Version.Version, key: p.item, picked: true}
		if p.again {
			it.outcome, it.code = unchanged, lifecycle.DuplicateInput
		}
		r.items = append(r.items, it)
	}
	return nil
}

// failPick refuses a pick that would bring along more than one transaction takes at all.
func (r *run) failPick(ctx context.Context) error {
	r.plan, r.batch.picks = plan{}, r.batch.picks[:1]
	if err := r.pickBatch(ctx); err != nil {
		return err
	}
	r.items[0].fail(lifecycle.Limit, Blocker{Limit: r.sizes.tree})
	if _, err := r.writeBatch(ctx); err != nil {
		return err
	}
	return r.tx.Flush(ctx)
}

// linkBefore puts picks below owners that a batch before took, as linkOwners does in one transaction: all of it is of one
// tree from then on.
func (r *run) linkBefore(ctx context.Context) error {
	if r.undo == nil && !r.brings(lifecycle.Owned) {
		return nil
	}
	below := map[gid.ID][]*node{}
	var ids []gid.ID
	for _, n := range r.nodes {
		for _, e := range n.row.RecordType().Edges {
			id := refOf(n.row, e.Column)
			if e.Class == lifecycle.Weak || id == nil || r.nodes[*id] != nil {
				continue
			}
			if slices.Contains(r.kept.Progress.Types, ent.RecordTypeOf(*id).Name) { // of another type none went before
				below[*id] = append(below[*id], n)
				ids = append(ids, *id)
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	err := store.Build(r.tx).Add(`SELECT record_id FROM operation_items WHERE operation_id = ? AND outcome = ? AND `, r.id, changed).IDs("record_id", ids).
		Query(ctx, r.tx, scanIDs(func(id gid.ID) {
			for _, n := range below[id] {
				n.under = &id
			}
		}))
	if err != nil {
		return fmt.Errorf("looking for owners that went before: %w", err)
	}
	return nil
}

// adopt finds what comes along in this batch and was picked as well, and waits in the line: by outcome, because what waits
// is all of the operation at first, and is found by record the quicker. It is dealt with now; only if
// it was seen at another version does it keep what brings it along from going, as it would in one transaction.
func (r *run) adopt(ctx context.Context) error {
	if r.batch == nil || r.tx == nil {
		return nil
	}
	var ids []gid.ID
	for id, n := range r.nodes {
		if n.item == nil {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return store.Build(r.tx).Add(`SELECT id, record_id, version FROM operation_items WHERE operation_id = ? AND outcome = ? AND code IS NULL AND `, r.id, notProcessed).
		IDs("record_id", ids).Query(ctx, r.tx, func(row store.Row) error {
		var item, id gid.ID
		var version int
		if err := row.Scan(&item, &id, &version); err != nil {
			return err
		}
		n := r.nodes[id]
		n.waits = item
		if version != 0 && version != n.row.RecordVersion() && n.problem == "" {
			n.problem, n.blockers = r.moved(), []Blocker{{Code: r.moved(), State: n.row.RecordState(), Version: n.row.RecordVersion()}}
		}
		return nil
	})
}

// errMore says that there is more to a batch than was known, and that it must be planned again.
var errMore = errors.New("record: the batch has grown")

// pullIn takes into the batch what keeps a record of it from being retired, and waits in the line itself: both go, as they
// would in one transaction.
func (r *run) pullIn(ctx context.Context, blocking map[gid.ID][]blocker) error {
	if r.batch == nil || r.tx == nil {
		return nil
	}
	var ids []gid.ID
	for _, list := range blocking {
		for _, b := range list {
			if id := b.row.RecordID(); r.nodes[id] == nil {
				ids = append(ids, id)
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	known := len(r.batch.picks)
	err := store.Build(r.tx).Add(`SELECT id, record_id, version FROM operation_items WHERE operation_id = ? AND outcome = ? AND code IS NULL AND `, r.id, notProcessed).
		IDs("record_id", ids).Query(ctx, r.tx, func(row store.Row) error {
		var p waitingPick
		err := row.Scan(&p.item, &p.ID, &p.Version.Version)
		if err == nil && !slices.ContainsFunc(r.batch.picks, func(q waitingPick) bool { return q.item == p.item }) {
			r.batch.picks = append(r.batch.picks, p)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("looking for what is picked, too: %w", err)
	}
	if len(r.batch.picks) > known {
		return errMore
	}
	return nil
}

// keepPace says of picks that wait that this batch has changed them: for those who saw them before they are as they were.
func (r *run) keepPace(ctx context.Context, changed map[gid.ID]bool) error {
	if r.batch == nil || len(changed) == 0 {
		return nil
	}
	return store.Build(r.tx).Add(`UPDATE operation_items SET version = version + 1 WHERE operation_id = ? AND outcome = ? AND version > 0 AND `, r.id, notProcessed).
		IDs("record_id", slices.Collect(maps.Keys(changed))).Queue(ctx, r.tx, named("writing the picks"))
}

// writeBatch writes what becomes of the batch, and moves the counters.
func (r *run) writeBatch(ctx context.Context) (*ent.Operation, error) {
	all, t := r.all(), &r.batch.tally
	var again []gid.ID
	for _, it := range all {
		if it.key.IsZero() {
			t.total++ // it was not known of before
		} else {
			again = append(again, it.key)
		}
		t.count(it.outcome)
		r.noteRefused(it)
	}
	t.processed = len(all)
	p := &r.kept.Progress
	for _, it := range all {
		if it.outcome == changed && !slices.Contains(p.Types, it.typ.Name) {
			p.Types = append(p.Types, it.typ.Name)
		}
	}
	for _, pick := range r.batch.picks {
		if pick.place > 0 {
			p.Place = max(p.Place, pick.place)
		}
	}
	for typ, n := range r.takenLive() {
		if p.Taken == nil {
			p.Taken = map[string]int{}
		}
		p.Taken[typ.Name] += n
	}
	if err := r.move(ctx); err != nil {
		return nil, err
	}
	if err := store.Build(r.tx).Add(`DELETE FROM operation_items WHERE `).IDs("id", again).Queue(ctx, r.tx, named("replacing the items")); err != nil {
		return nil, err
	}
	return r.stored, r.insertItems(ctx, all)
}

func (t *tally) count(outcome string) {
	switch outcome {
	case changed:
		t.changed++
	case unchanged:
		t.unchanged++
	case failed:
		t.failed++
	}
}

// move adds a batch to the operation's counters.
func (r *run) move(ctx context.Context) error {
	request, err := json.Marshal(r.kept)
	if err != nil {
		return fmt.Errorf("encoding a request: %w", err)
	}
	t := r.batch.tally
	return store.Build(r.tx).Add(`UPDATE operations SET status = 'RUNNING', total = total + ?, processed = processed + ?, changed = changed + ?, unchanged = unchanged + ?,
		failed = failed + ?, worked_at = ?, request = ? WHERE id = ?`, t.total, t.processed, t.changed, t.unchanged, t.failed, r.tx.Now(), request, r.id).
		Queue(ctx, r.tx, named("writing the operation"))
}

// maxRefused is how many ids the log is told of an operation that was refused in part.
const maxRefused = 20

func (r *run) noteRefused(it *item) {
	if it.outcome != failed {
		return
	}
	p := &r.kept.Progress
	if p.Code == "" {
		p.Code = it.code
		if p.Code == lifecycle.Hold { // the log is read by some who may not know of holds
			p.Code = lifecycle.Retained
		}
	}
	if len(p.Refused) < maxRefused {
		p.Refused = append(p.Refused, it.id.String())
	}
}

// failRest ends a job of which nothing more can be done.
func (r *run) failRest(ctx context.Context, op *ent.Operation, code lifecycle.Code) error {
	r.plan = plan{}
	_, err := store.Build(r.tx).Add(`UPDATE operations SET status = 'RUNNING', failed = failed + total - processed, processed = total, code = ?, worked_at = ? WHERE id = ?`,
		string(code), r.tx.Now(), r.id).Exec(ctx, r.tx)
	if err == nil {
		_, err = store.Build(r.tx).Add(`UPDATE operation_items SET outcome = ?, code = ?, pending = NULL, version = 0 WHERE operation_id = ? AND pending IS NOT NULL`, failed, string(code), r.id).Exec(ctx, r.tx)
	}
	if err != nil {
		return fmt.Errorf("ending a job: %w", err)
	}
	if r.kept.Progress.Code == "" {
		r.kept.Progress.Code = code
	}
	op.Failed, op.Processed = op.Failed+op.Total-op.Processed, op.Total
	return r.finish(ctx, op)
}

// finish ends a job of which nothing waits any more.
func (r *run) finish(ctx context.Context, op *ent.Operation) error {
	status := operation.StatusSUCCEEDED
	switch {
	case op.Failed > 0 && op.Changed > 0:
		status = operation.StatusPARTIAL
	case op.Failed > 0:
		status = operation.StatusFAILED
	}
	_, err := store.Build(r.tx).Add(`UPDATE operations SET status = ?, finished_at = ?, request = NULL WHERE id = ?`, string(status), r.tx.Now(), r.id).Exec(ctx, r.tx)
	if err != nil {
		return fmt.Errorf("ending a job: %w", err)
	}
	r.logFailed(ctx, op)
	r.tellEnd(op.Verb, status)
	return nil
}

// logFailed logs what a job that ends was refused.
func (r *run) logFailed(ctx context.Context, op *ent.Operation) {
	if op.Failed > 0 {
		p := r.kept.Progress
		r.logRefusal(ctx, r.tx, audit.Event{Action: string(op.Verb), Code: p.Code, Operation: &r.id, Count: op.Failed, IDs: p.Refused})
	}
}

// pause stops a job that has come over a cap, or to what others have to agree to.
func (r *run) pause(ctx context.Context, op *ent.Operation, k *asking, caps []exceeded) error {
	r.plan = plan{settings: r.settings}
	r.job = op.Total - op.Processed
	_, err := r.ask(ctx, k, caps)
	return err
}

// Stop pauses a job that fails each time it is tried, until somebody resumes it.
func (s *Service) Stop(ctx context.Context, tenant, id gid.ID) error {
	ctx = actor.With(ctx, actor.ForSystem(tenant))
	return s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		n, err := store.Build(tx).Add(`UPDATE operations SET status = 'PAUSED', code = ? WHERE tenant_id = ? AND id = ? AND status IN ('QUEUED', 'RUNNING')`,
			string(lifecycle.Internal), tenant, id).Exec(ctx, tx)
		if err != nil || n == 0 {
			return err
		}
		return s.audit.Append(ctx, tx, audit.Event{Action: "PAUSE", Operation: &id, Code: lifecycle.Internal})
	})
}

// Resume lets a job go on that was stopped by an error. Whoever asked for it may, and who may do the same to all of its
// records.
func (s *Service) Resume(ctx context.Context, id gid.ID) (*ent.Operation, error) {
	return s.steer(ctx, id, "RESUME", func(ctx context.Context, r *run, op *ent.Operation) error {
		if op.Status != operation.StatusPAUSED || op.Code == nil || *op.Code != string(lifecycle.Internal) {
			return &Error{
				Code: lifecycle.IllegalTransition, Message: "only an operation that was stopped by an error can be resumed", Fields: []string{"id"},
				Extensions: map[string]any{"status": string(op.Status)},
			}
		}
		if _, err := store.Build(r.tx).Add(`UPDATE operations SET status = 'QUEUED', code = NULL, worked_at = NULL WHERE id = ?`, id).Exec(ctx, r.tx); err != nil {
			return fmt.Errorf("resuming an operation: %w", err)
		}
		return r.handOver(ctx)
	})
}

// abandoned is after how long without a batch nobody is taken to work on a job any more.
const abandoned = time.Minute

// TakeUp has the jobs worked on that nobody works on any more, and answers how many: those of which no batch was
// finished for a minute or, if all is asked for because the process has just begun, every one that has not ended. To
// work on one that somebody else works on does no harm. Without a queue it works on them itself.
func (s *Service) TakeUp(ctx context.Context, actAs ActAs, all bool) (int, error) {
	now := s.db.Now()
	since := now
	if !all && s.queue != nil {
		since = since.Add(-abandoned)
	}
	return s.eachTenant(ctx, func(ctx context.Context, tenant gid.ID) (int, error) {
		var ids []gid.ID
		err := store.Build(s.db).Add(`SELECT id FROM operations WHERE tenant_id = ? AND request IS NOT NULL AND status IN ('QUEUED', 'RUNNING')
			AND (worked_at IS NULL OR worked_at <= ?) ORDER BY id`, tenant, since).Query(ctx, s.db, scanIDs(func(id gid.ID) { ids = append(ids, id) }))
		if err != nil {
			return 0, fmt.Errorf("looking for jobs: %w", err)
		}
		var errs []error
		for _, id := range ids {
			if s.queue == nil {
				errs = append(errs, s.Work(ctx, actAs, tenant, id))
				continue
			}
			errs = append(errs, s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
				n, err := store.Build(tx).Add(`UPDATE operations SET worked_at = ? WHERE id = ? AND status IN ('QUEUED', 'RUNNING') AND (worked_at IS NULL OR worked_at <= ?)`,
					now, id, since).Exec(ctx, tx)
				if err != nil || n == 0 {
					return err
				}
				return s.queue.Enqueue(ctx, tx, tenant, id)
			}))
		}
		return len(ids), errors.Join(errs...)
	})
}

// takenBefore is how many live records of a type the batches before took.
func (r *run) takenBefore(t *ent.RecordType) int { return r.kept.Progress.Taken[t.Name] }

// isWaiting reports whether an operation waits for its time, for somebody, or for a worker.
func isWaiting(status operation.Status) bool {
	return slices.Contains([]operation.Status{
		operation.StatusPENDING_APPROVAL, operation.StatusAPPROVED, operation.StatusSCHEDULED, operation.StatusQUEUED, operation.StatusRUNNING, operation.StatusPAUSED,
	}, status)
}
