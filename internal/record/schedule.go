package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// checkRunAt refuses a time that has passed, and verbs that are not put off.
func (r *run) checkRunAt() error {
	at := r.req.RunAt
	switch {
	case at == nil:
		return nil
	case r.req.Verb == lifecycle.Undo:
		return Refuse(lifecycle.BadUserInput, "an operation is undone at once", "runAt")
	case !at.After(r.q.Now()):
		return Refuse(lifecycle.BadUserInput, "is not in the future", "runAt")
	case at.Year() > 9999:
		return Refuse(lifecycle.BadUserInput, "is not in the years 1 to 9999", "runAt")
	case r.req.Until != nil && !r.req.Until.After(*at):
		return Refuse(lifecycle.BadUserInput, "is not after runAt", "until")
	}
	utc := at.UTC().Truncate(time.Microsecond) // as both databases keep it
	r.req.RunAt = &utc
	return nil
}

// schedule writes down what is to be done later. It was planned, so that what would be refused as a whole is refused
// now; what becomes of each record is decided when its time has come.
func (r *run) schedule(ctx context.Context) (*ent.Operation, error) {
	op, err := r.keep(ctx, operation.StatusSCHEDULED)
	if err != nil {
		return nil, err
	}
	return op, r.logScheduled(ctx, op)
}

func (r *run) logScheduled(ctx context.Context, op *ent.Operation) error {
	event := audit.Event{Action: "SCHEDULE", Operation: &r.id, Count: op.Total, PolicyVersion: r.control.Version(ctx, r.a.Tenant), Detail: map[string]any{
		"verb": r.req.Verb, "runAt": r.req.RunAt,
	}}
	if err := r.audit.Append(ctx, r.tx, event); err != nil {
		return err
	}
	return r.tx.Flush(ctx)
}

// ErrLeft says that a user may not act any more.
var ErrLeft = errors.New("record: the user may not act any more")

// ActAs answers a user as he is now, with his teams; ErrLeft when he may not act any more.
type ActAs func(ctx context.Context, tenant, user gid.ID) (*actor.Actor, error)

// dueBatch is how many scheduled operations are looked for at a time.
const dueBatch = 100

// RunScheduled carries out, in every tenant, the scheduled operations whose time has come, and answers how many. Each
// runs once, in a transaction of its own, with the rights that its requester has by then. One that cannot run now holds
// up no other, and is looked at next time.
func (s *Service) RunScheduled(ctx context.Context, actAs ActAs) (int, error) {
	now := s.db.Now()
	return s.eachTenant(ctx, func(ctx context.Context, tenant gid.ID) (ran int, err error) {
		var errs []error
		var last struct {
			at time.Time
			id gid.ID
		}
		for {
			type due struct{ id, user gid.ID }
			var list []due
			err := store.Build(s.db).Add(`SELECT id, actor_id, run_at FROM operations WHERE tenant_id = ? AND status = 'SCHEDULED' AND request IS NOT NULL AND run_at <= ?
				AND (run_at > ? OR run_at = ? AND id > ?) ORDER BY run_at, id LIMIT ?`, tenant, now, last.at, last.at, last.id, dueBatch).
				Query(ctx, s.db, func(row store.Row) error {
					var d due
					err := row.Scan(&d.id, &d.user, &last.at)
					last.id = d.id
					list = append(list, d)
					return err
				})
			if err != nil {
				return ran, errors.Join(append(errs, fmt.Errorf("looking for scheduled operations: %w", err))...)
			}
			for _, d := range list {
				done, err := s.runAs(ctx, actAs, tenant, d.user, d.id)
				if done {
					ran++
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("operation %s: %w", d.id, err))
				}
				if ctx.Err() != nil {
					return ran, errors.Join(errs...)
				}
			}
			if len(list) < dueBatch {
				return ran, errors.Join(errs...)
			}
		}
	})
}

// runAs runs one scheduled operation as its requester, if he may still act.
func (s *Service) runAs(ctx context.Context, actAs ActAs, tenant, user, id gid.ID) (bool, error) {
	a, err := actAs(ctx, tenant, user)
	if errors.Is(err, ErrLeft) { // and nothing is done in his name
		return s.failScheduled(actor.With(ctx, &actor.Actor{Kind: actor.User, Tenant: tenant, User: user}), id, lifecycle.Forbidden)
	}
	if err != nil {
		return false, fmt.Errorf("acting as its requester: %w", err)
	}
	return s.runScheduled(actor.With(ctx, a), id)
}

// runScheduled runs one operation as the actor of the context, and answers whether it did: another process may have
// been quicker, or it was cancelled. Each try locks it and reads it anew.
func (s *Service) runScheduled(ctx context.Context, id gid.ID) (bool, error) {
	for try := 1; ; try++ {
		r := &run{Service: s, a: actor.From(ctx), id: id, claiming: true}
		op, err := r.once(ctx)
		if refused, ok := errors.AsType[*Error](err); ok && refused.Code != lifecycle.AuthzUnavailable {
			return s.failScheduled(ctx, id, refused.Code)
		}
		if err == nil || try == tries || !store.Busy(err) || store.Pause(ctx, try) != nil {
			return op != nil, err
		}
	}
}

// claim locks a scheduled operation and takes up its request; nil when there is nothing to do any more.
func (r *run) claim(ctx context.Context) (*ent.Operation, error) {
	free, err := r.lockScheduled(ctx, r.id)
	if err != nil || !free {
		return nil, err
	}
	all := visible.With(ctx, visible.Tenant(r.a.Tenant))
	op, err := r.Client(ctx).Operation.Get(all, r.id)
	if err != nil {
		return nil, fmt.Errorf("reading a scheduled operation: %w", err)
	}
	if err := r.readLater(op); err != nil {
		return nil, err
	}
	if op.Status == operation.StatusAPPROVED {
		if used, err := r.useApproval(ctx, op); err != nil || !used {
			return nil, err
		}
	}
	if op.Total > r.sizes.rows || op.Processed > 0 {
		return r.hand(ctx, op)
	}
	picks, err := r.waiting(ctx, MaxRows)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(picks, func(a, b waitingPick) int { return bytes.Compare(a.item[:], b.item[:]) }) // as they were given
	r.req.Select = Selection{Versions: make([]Version, len(picks))}
	for i, p := range picks {
		r.req.Select.Versions[i] = p.Version
	}
	return op, nil
}

// lockScheduled locks an operation, and reports whether it is still to run.
func (r *run) lockScheduled(ctx context.Context, id gid.ID) (bool, error) {
	found, err := store.Build(r.tx).Add(`SELECT id FROM operations WHERE tenant_id = ? AND id = ? AND status IN ('SCHEDULED', 'APPROVED')`, r.a.Tenant, id).ForUpdate().
		One(ctx, r.tx, &id)
	if err != nil {
		return false, fmt.Errorf("locking a scheduled operation: %w", err)
	}
	return found, nil
}

// failScheduled ends an operation that was refused as a whole.
func (s *Service) failScheduled(ctx context.Context, id gid.ID, code lifecycle.Code) (done bool, err error) {
	r := &run{Service: s, a: actor.From(ctx), id: id}
	err = s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		r.q, r.tx = tx, tx
		if done, err = r.lockScheduled(ctx, id); err != nil || !done {
			return err
		}
		op, err := r.Client(ctx).Operation.Get(visible.With(ctx, visible.Tenant(r.a.Tenant)), id)
		if err != nil {
			return fmt.Errorf("reading the operation: %w", err)
		}
		if err := r.endScheduled(ctx, operation.StatusFAILED, failed, code); err != nil {
			return err
		}
		r.logRefusal(ctx, tx, audit.Event{Action: string(op.Verb), Code: code, Operation: &id, Count: op.Total})
		r.tellEnd(op.Verb, operation.StatusFAILED)
		return nil
	})
	return done, err
}

// endScheduled ends an operation without doing anything to those of its records that still wait.
func (r *run) endScheduled(ctx context.Context, status operation.Status, outcome string, code lifecycle.Code) error {
	count := ``
	if outcome == failed {
		count = `, failed = failed + total - processed`
	}
	_, err := store.Build(r.tx).Add(`UPDATE operations SET status = ?, finished_at = ?, processed = total`+count+`, code = ?, request = NULL WHERE id = ?`,
		string(status), r.tx.Now(), nullText(string(code)), r.id).Exec(ctx, r.tx)
	if err == nil {
		_, err = store.Build(r.tx).Add(`UPDATE operation_items SET outcome = ?, code = ?, pending = NULL, version = 0 WHERE operation_id = ? AND pending IS NOT NULL`,
			outcome, nullText(string(code)), r.id).Exec(ctx, r.tx)
	}
	if err != nil {
		return fmt.Errorf("ending an operation: %w", err)
	}
	return r.endApproval(ctx, approvalEnds[status], code)
}

// Cancel calls off what is still to come of an operation; what is done stays done. Whoever asked for it may, and who
// may do to each of its records what it would do.
func (s *Service) Cancel(ctx context.Context, id gid.ID) (*ent.Operation, error) {
	return s.steer(ctx, id, "CANCEL", func(ctx context.Context, r *run, op *ent.Operation) error {
		if !isWaiting(op.Status) {
			return &Error{
				Code: lifecycle.IllegalTransition, Message: "only an operation that has not ended can be cancelled", Fields: []string{"id"},
				Extensions: map[string]any{"status": string(op.Status)},
			}
		}
		return r.callOff(ctx, op, operation.StatusCANCELLED)
	})
}

// callOff ends an operation of which nothing more is done.
func (r *run) callOff(ctx context.Context, op *ent.Operation, status operation.Status) error {
	if op.Failed > 0 { // who asked for it was refused that, whoever calls it off
		if err := r.readLater(op); err != nil {
			return err
		}
		r.logFailed(actor.With(ctx, &actor.Actor{Kind: actor.User, Tenant: op.TenantID, User: *op.ActorID}), op)
	}
	if err := r.endScheduled(ctx, status, notProcessed, ""); err != nil {
		return err
	}
	r.tellEnd(op.Verb, status)
	return nil
}

// steer changes the course of an operation that has not ended, in the transaction of the context or one of its own, and
// answers it as it is then.
func (s *Service) steer(ctx context.Context, id gid.ID, action string, do func(context.Context, *run, *ent.Operation) error) (op *ent.Operation, err error) {
	r := &run{Service: s, a: actor.From(ctx), id: id}
	if r.a == nil {
		return nil, errors.New("record: an operation steered by nobody")
	}
	err = s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		r.q, r.tx = tx, tx
		if ctx, err = r.pinned(ctx); err != nil {
			return err
		}
		defer func() {
			if refused, ok := errors.AsType[*Error](err); ok && refused.Code != lifecycle.NotFound {
				r.logRefusal(ctx, tx, audit.Event{Action: action, Code: refused.Code, Operation: &id})
			}
		}()
		if err := r.lockOperation(ctx); err != nil {
			return err
		}
		op, err = r.Client(ctx).Operation.Get(ctx, id)
		if ent.IsNotFound(err) {
			return Refuse(lifecycle.NotFound, "there is no such operation", "id")
		}
		if err != nil {
			return fmt.Errorf("reading the operation: %w", err)
		}
		if err := r.maySteer(ctx, op); err != nil {
			return err
		}
		if err := do(ctx, r, op); err != nil {
			return err
		}
		event := audit.Event{Action: action, Operation: &id, Count: op.Total, PolicyVersion: r.control.Version(ctx, r.a.Tenant), Detail: map[string]any{"verb": op.Verb}}
		if err := r.audit.Append(ctx, tx, event); err != nil {
			return err
		}
		op, err = r.Client(ctx).Operation.Get(ctx, id)
		return err
	})
	return op, err
}

// lockOperation locks the operation, whatever has become of it: a batch of it that is under way is over then.
func (r *run) lockOperation(ctx context.Context) error {
	if _, err := store.Build(r.tx).Add(`SELECT id FROM operations WHERE tenant_id = ? AND id = ?`, r.a.Tenant, r.id).ForUpdate().Exec(ctx, r.tx); err != nil {
		return fmt.Errorf("locking an operation: %w", err)
	}
	return nil
}

// maySteer refuses who neither asked for an operation nor may do what it does to each of its records.
func (r *run) maySteer(ctx context.Context, op *ent.Operation) error {
	if op.ActorID != nil && *op.ActorID == r.a.User {
		return nil
	}
	var last gid.ID
	for {
		var ids []gid.ID
		err := store.Build(r.tx).Add(`SELECT id, record_id FROM operation_items WHERE operation_id = ? AND id > ? ORDER BY id LIMIT ?`, op.ID, last, MaxRows).
			Query(ctx, r.tx, func(row store.Row) error {
				var id gid.ID
				err := row.Scan(&last, &id)
				ids = append(ids, id)
				return err
			})
		if err != nil {
			return fmt.Errorf("reading the operation's items: %w", err)
		}
		may, err := r.mayDoTo(ctx, actions[op.Verb], ids)
		if err != nil {
			return err
		}
		if !may {
			return Refuse(lifecycle.Forbidden, "only who asked for it may do that, or who may do the same to all of its records", "id")
		}
		if len(ids) < MaxRows {
			return nil
		}
	}
}

// mayDoTo reports whether the actor sees all of the records that are there, and may do something to each of them.
func (r *run) mayDoTo(ctx context.Context, action authz.Action, ids []gid.ID) (bool, error) {
	var questions []access.Question
	for _, t := range typeOrder {
		own := slices.DeleteFunc(slices.Clone(ids), func(id gid.ID) bool { return ent.RecordTypeOf(id) != t })
		rows, err := r.load(ctx, t, own, none)
		if err != nil {
			return false, err
		}
		there, err := r.load(visible.With(ctx, visible.Tenant(r.a.Tenant)), t, own, none)
		if err != nil {
			return false, err
		}
		if len(rows) < len(there) {
			return false, nil
		}
		for _, row := range rows {
			questions = append(questions, access.Of(action, row))
		}
	}
	return !slices.ContainsFunc(r.control.Decide(ctx, r.a, questions), func(d access.Decision) bool { return !d.Permit }), nil
}
