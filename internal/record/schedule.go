package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

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

// later is what is kept of a request that is carried out later: the picks as they were frozen, and how.
type later struct {
	Picks         []laterPick                  `json:"picks"`
	Reason        string                       `json:"reason,omitempty"`
	Previewed     bool                         `json:"previewed,omitempty"`
	Cascade       bool                         `json:"cascade,omitempty"`
	IncludeLive   bool                         `json:"includeLive,omitempty"`
	DuplicateOf   *gid.ID                      `json:"duplicateOf,omitempty"`
	Overrides     map[gid.ID]map[string]string `json:"overrides,omitempty"`
	WithAncestors bool                         `json:"withAncestors,omitempty"`
	NewParentID   *gid.ID                      `json:"newParentID,omitempty"`
	Until         *time.Time                   `json:"until,omitempty"`
	Then          string                       `json:"then,omitempty"`
}

type laterPick struct {
	ID      gid.ID `json:"id"`
	Version int    `json:"version,omitempty"` // zero for any
}

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
	now, req := r.tx.Now(), r.req
	kept := later{
		Reason: req.Reason, Previewed: r.token != nil, Cascade: req.Cascade, IncludeLive: req.IncludeLive, DuplicateOf: req.DuplicateOf, Overrides: req.Overrides,
		WithAncestors: req.WithAncestors, NewParentID: req.NewParentID, Until: req.Until, Then: req.Then,
	}
	items := make([]*item, len(r.items))
	for i, it := range r.items {
		kept.Picks = append(kept.Picks, laterPick{it.id, it.expect})
		items[i] = &item{id: it.id, typ: it.typ, outcome: notProcessed}
	}
	request, err := json.Marshal(kept)
	if err != nil {
		return nil, fmt.Errorf("encoding a request: %w", err)
	}
	op := &ent.Operation{
		ID: r.id, TenantID: r.a.Tenant, Verb: req.Verb, Status: operation.StatusSCHEDULED, Mode: operation.Mode(req.Mode), Cascade: req.Cascade,
		Selection: req.Payload, Request: request, ActorID: r.a.UserRef(), TeamID: r.a.FirstTeam(), DuplicateOfID: req.DuplicateOf,
		Total: len(items), CreatedAt: now, RunAt: req.RunAt,
	}
	if err := r.insertOperation(ctx, op); err != nil {
		return nil, err
	}
	if err := r.insertItems(ctx, items); err != nil {
		return nil, err
	}
	event := audit.Event{Action: "SCHEDULE", Operation: &r.id, Count: len(items), PolicyVersion: r.control.Version(ctx, r.a.Tenant), Detail: map[string]any{
		"verb": req.Verb, "runAt": req.RunAt,
	}}
	if err := r.audit.Append(ctx, r.tx, event); err != nil {
		return nil, err
	}
	return r.Client(ctx).AdoptOperation(op), r.tx.Flush(ctx)
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
	var kept later
	if err := json.Unmarshal(op.Request, &kept); err != nil {
		return nil, fmt.Errorf("reading a request: %w", err)
	}
	r.scheduled = op
	r.req = Request{
		Verb: op.Verb, Mode: string(op.Mode), Payload: op.Selection, Reason: kept.Reason, Cascade: kept.Cascade, IncludeLive: kept.IncludeLive, DuplicateOf: kept.DuplicateOf,
		Overrides: kept.Overrides, WithAncestors: kept.WithAncestors, NewParentID: kept.NewParentID, Until: kept.Until, Then: kept.Then,
	}
	r.previewed = kept.Previewed
	if slices.ContainsFunc(kept.Picks, func(p laterPick) bool { return p.Version != 0 }) {
		for _, p := range kept.Picks {
			r.req.Select.Versions = append(r.req.Select.Versions, Version(p))
		}
		return op, nil
	}
	r.req.Select.IDs = []gid.ID{}
	for _, p := range kept.Picks {
		r.req.Select.IDs = append(r.req.Select.IDs, p.ID)
	}
	return op, nil
}

// lockScheduled locks an operation, and reports whether it is still to run.
func (r *run) lockScheduled(ctx context.Context, id gid.ID) (bool, error) {
	found, err := store.Build(r.tx).Add(`SELECT id FROM operations WHERE tenant_id = ? AND id = ? AND status = 'SCHEDULED'`, r.a.Tenant, id).ForUpdate().
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
		return nil
	})
	return done, err
}

// endScheduled ends a scheduled operation without doing anything to its records.
func (r *run) endScheduled(ctx context.Context, status operation.Status, outcome string, code lifecycle.Code) error {
	count := `0`
	if outcome == failed {
		count = `total`
	}
	_, err := store.Build(r.tx).Add(`UPDATE operations SET status = ?, finished_at = ?, processed = total, failed = `+count+`, request = NULL WHERE id = ?`,
		string(status), r.tx.Now(), r.id).Exec(ctx, r.tx)
	if err == nil {
		_, err = store.Build(r.tx).Add(`UPDATE operation_items SET outcome = ?, code = ? WHERE operation_id = ?`, outcome, nullText(string(code)), r.id).Exec(ctx, r.tx)
	}
	if err != nil {
		return fmt.Errorf("ending a scheduled operation: %w", err)
	}
	return nil
}

// Cancel calls off an operation that is scheduled. Whoever asked for it may, and who may do to each of its records what
// it would do.
func (s *Service) Cancel(ctx context.Context, id gid.ID) (op *ent.Operation, err error) {
	r := &run{Service: s, a: actor.From(ctx), id: id}
	if r.a == nil {
		return nil, errors.New("record: cancelling for nobody")
	}
	err = s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		r.q, r.tx = tx, tx
		if ctx, err = r.pinned(ctx); err != nil {
			return err
		}
		defer func() {
			if refused, ok := errors.AsType[*Error](err); ok && refused.Code != lifecycle.NotFound {
				r.logRefusal(ctx, tx, audit.Event{Action: "CANCEL", Code: refused.Code, Operation: &id})
			}
		}()
		free, err := r.lockScheduled(ctx, id)
		if err != nil {
			return err
		}
		op, err = r.Client(ctx).Operation.Get(ctx, id)
		if ent.IsNotFound(err) {
			return Refuse(lifecycle.NotFound, "there is no such operation", "id")
		}
		if err != nil {
			return fmt.Errorf("reading the operation: %w", err)
		}
		if err := r.mayCancel(ctx, op); err != nil {
			return err
		}
		if !free {
			return &Error{
				Code: lifecycle.IllegalTransition, Message: "only an operation that has not run yet can be cancelled", Fields: []string{"id"},
				Extensions: map[string]any{"status": string(op.Status)},
			}
		}
		if err := r.endScheduled(ctx, operation.StatusCANCELLED, notProcessed, ""); err != nil {
			return err
		}
		event := audit.Event{Action: "CANCEL", Operation: &id, Count: op.Total, PolicyVersion: r.control.Version(ctx, r.a.Tenant), Detail: map[string]any{"verb": op.Verb}}
		if err := r.audit.Append(ctx, tx, event); err != nil {
			return err
		}
		op, err = r.Client(ctx).Operation.Get(ctx, id)
		return err
	})
	return op, err
}

// mayCancel refuses who neither asked for an operation nor may do what it does to each of its records.
func (r *run) mayCancel(ctx context.Context, op *ent.Operation) error {
	if op.ActorID != nil && *op.ActorID == r.a.User {
		return nil
	}
	var ids []gid.ID
	err := store.Build(r.tx).Add(`SELECT DISTINCT record_id FROM operation_items WHERE operation_id = ? ORDER BY record_id`, op.ID).
		Query(ctx, r.tx, scanIDs(func(id gid.ID) { ids = append(ids, id) }))
	if err != nil {
		return fmt.Errorf("reading the operation's items: %w", err)
	}
	hidden := false
	var questions []access.Question
	for _, t := range typeOrder {
		own := slices.DeleteFunc(slices.Clone(ids), func(id gid.ID) bool { return ent.RecordTypeOf(id) != t })
		rows, err := r.load(ctx, t, own, none)
		if err != nil {
			return err
		}
		there, err := r.load(visible.With(ctx, visible.Tenant(r.a.Tenant)), t, own, none)
		if err != nil {
			return err
		}
		hidden = hidden || len(rows) < len(there)
		for _, row := range rows {
			questions = append(questions, access.Of(actions[op.Verb], row))
		}
	}
	answers := r.control.Decide(ctx, r.a, questions)
	if hidden || slices.ContainsFunc(answers, func(d access.Decision) bool { return !d.Permit }) {
		return Refuse(lifecycle.Forbidden, "only who asked for it may cancel it, or who may do the same to all of its records", "id")
	}
	return nil
}
