package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/approval"
	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// useApproval takes up what others agreed to, for the operation, which is locked, to run by it, once. Who has lost the
// role since, or may not act any more, does not count: where too few are left, the operation waits for others again, as
// long as its request does.
func (r *run) useApproval(ctx context.Context, op *ent.Operation) (bool, error) {
	id, err := r.latest(ctx, op.ID)
	if err != nil {
		return false, err
	}
	if ctx, err = r.judgedBy(ctx, r.a, r.control.Repin); err != nil {
		return false, err
	}
	b := &ballot{run: r, op: op}
	if err := b.lockRequest(ctx, id); err != nil {
		return false, err
	}
	now, ap := r.tx.Now(), b.ap
	if ap.Status != approval.StatusAPPROVED || ap.UseUntil == nil || !now.Before(*ap.UseUntil) || ap.Execution == approval.ExecutionCONFIRM && ap.ConfirmedAt == nil {
		return false, nil // what is over, ends when the clocks are looked at
	}
	enough, err := r.Service.enough(ctx, ap)
	if err != nil {
		return false, err
	}
	if !enough {
		return false, b.lapse(ctx)
	}
	r.kept.Agreed = &payload{}
	if err := json.Unmarshal(ap.Payload, r.kept.Agreed); err != nil {
		return false, fmt.Errorf("reading what was agreed to: %w", err)
	}
	r.kept.Approval = &ap.ID
	return true, r.end(ctx, ap.ID, approval.StatusDONE, "")
}

// lapse puts a request back to where it waits for others.
func (b *ballot) lapse(ctx context.Context) error {
	if !b.tx.Now().Before(b.ap.ExpiresAt) {
		return b.expire(ctx)
	}
	status, code := operation.StatusPENDING_APPROVAL, ""
	if b.ap.Subject == approval.SubjectBRAKE {
		status, code = operation.StatusPAUSED, string(lifecycle.Limit)
	}
	_, err := store.Build(b.tx).Add(`UPDATE approvals SET status = 'PENDING', approved_at = NULL, use_until = NULL, confirmed_at = NULL, waits_until = expires_at WHERE id = ?`, b.ap.ID).Exec(ctx, b.tx)
	if err == nil {
		_, err = store.Build(b.tx).Add(`UPDATE operations SET status = ?, code = ? WHERE id = ?`, string(status), nullText(code), b.op.ID).Exec(ctx, b.tx)
	}
	if err != nil {
		return fmt.Errorf("putting an approval back: %w", err)
	}
	return b.log(ctx, "APPROVAL_LAPSE")
}

// expire ends a request, and the operation that waits for it.
func (b *ballot) expire(ctx context.Context) error {
	if b.op != nil {
		if err := b.callOff(ctx, b.op, operation.StatusEXPIRED); err != nil {
			return err
		}
	}
	if err := b.end(ctx, b.ap.ID, approval.StatusEXPIRED, ""); err != nil {
		return err
	}
	return b.log(ctx, "APPROVAL_EXPIRE")
}

// approvalEnds is what becomes of a request when its operation ends without it.
var approvalEnds = map[operation.Status]approval.Status{
	operation.StatusFAILED: approval.StatusFAILED, operation.StatusCANCELLED: approval.StatusCANCELLED,
	operation.StatusREJECTED: approval.StatusREJECTED, operation.StatusEXPIRED: approval.StatusEXPIRED,
}

// endApproval ends the request of an operation, if one waits.
func (r *run) endApproval(ctx context.Context, status approval.Status, code lifecycle.Code) error {
	_, err := store.Build(r.tx).Add(`UPDATE approvals SET status = ?, ended_at = ?, code = ?, waits_until = NULL WHERE operation_id = ? AND waits_until IS NOT NULL`,
		string(status), r.tx.Now(), nullText(string(code)), r.id).Exec(ctx, r.tx)
	if err != nil {
		return fmt.Errorf("ending a request for approval: %w", err)
	}
	return nil
}

// end ends a request.
func (r *run) end(ctx context.Context, id gid.ID, status approval.Status, code lifecycle.Code) error {
	_, err := store.Build(r.tx).Add(`UPDATE approvals SET status = ?, ended_at = ?, code = ?, waits_until = NULL WHERE id = ?`, string(status), r.tx.Now(), nullText(string(code)), id).Exec(ctx, r.tx)
	if err != nil {
		return fmt.Errorf("ending a request for approval: %w", err)
	}
	return nil
}

// Confirm lets an operation run that was approved, where rules want that said. Whoever asked for it may, and who may do
// the same to all of its records.
func (s *Service) Confirm(ctx context.Context, id gid.ID) (*ent.Operation, error) {
	return s.steer(ctx, id, "CONFIRM", func(ctx context.Context, r *run, op *ent.Operation) error {
		request, err := r.latest(ctx, id)
		if err != nil {
			return err
		}
		b := &ballot{run: r, op: op}
		if op.Status != operation.StatusAPPROVED || request.IsZero() {
			return b.illegal("only an operation that was approved can be confirmed", string(op.Status))
		}
		if err := b.lockRequest(ctx, request); err != nil {
			return err
		}
		switch ap := b.ap; {
		case ap.Execution != approval.ExecutionCONFIRM:
			return b.illegal("this operation runs without being confirmed", string(op.Status))
		case ap.UseUntil == nil || !r.tx.Now().Before(*ap.UseUntil):
			return b.illegal("the time to confirm it is over", string(operation.StatusEXPIRED))
		case ap.ConfirmedAt != nil:
			return nil
		}
		if _, err := store.Build(r.tx).Add(`UPDATE approvals SET confirmed_at = ? WHERE id = ?`, r.tx.Now(), request).Exec(ctx, r.tx); err != nil {
			return fmt.Errorf("confirming an operation: %w", err)
		}
		return r.toRun(ctx, op)
	})
}

// RunApproved carries out, in every tenant, the operations that were approved and whose time has come, and answers how
// many. They run as those that were scheduled do.
func (s *Service) RunApproved(ctx context.Context, actAs ActAs) (int, error) {
	now := s.db.Now()
	return s.eachTenant(ctx, func(ctx context.Context, tenant gid.ID) (ran int, err error) {
		type due struct{ id, user gid.ID }
		var list []due
		err = store.Build(s.db).Add(`SELECT o.id, o.actor_id FROM approvals a JOIN operations o ON o.id = a.operation_id WHERE a.tenant_id = ? AND a.waits_until IS NOT NULL
			AND a.waits_until > ? AND a.status = 'APPROVED' AND (a.execution = 'AUTOMATIC' OR a.confirmed_at IS NOT NULL) AND o.status = 'APPROVED' AND (o.run_at IS NULL OR o.run_at <= ?)
			ORDER BY a.id`, tenant, now, now).Query(ctx, s.db, func(row store.Row) error {
			var d due
			err := row.Scan(&d.id, &d.user)
			list = append(list, d)
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("looking for approved operations: %w", err)
		}
		var errs []error
		for _, d := range list {
			done, err := s.runAs(ctx, actAs, tenant, d.user, d.id)
			if done {
				ran++
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("operation %s: %w", d.id, err))
			}
			if ctx.Err() != nil {
				break
			}
		}
		return ran, errors.Join(errs...)
	})
}

// runApproved runs one operation if it was approved and its time has come.
func (s *Service) runApproved(ctx context.Context, actAs ActAs, tenant, id gid.ID) error {
	var user gid.ID
	found, err := store.Build(s.db).Add(`SELECT actor_id FROM operations WHERE tenant_id = ? AND id = ? AND status = 'APPROVED' AND (run_at IS NULL OR run_at <= ?)`,
		tenant, id, s.db.Now()).One(ctx, s.db, &user)
	if err != nil || !found {
		return err
	}
	_, err = s.runAs(ctx, actAs, tenant, user, id)
	return err
}

// ExpireApprovals ends, in every tenant, the requests that were not decided in time, and the approvals that were not
// used in time, with the operations that wait for them. It answers how many.
func (s *Service) ExpireApprovals(ctx context.Context) (int, error) {
	now := s.db.Now()
	return s.eachTenant(ctx, func(ctx context.Context, tenant gid.ID) (n int, err error) {
		var ids []gid.ID
		err = store.Build(s.db).Add(`SELECT id FROM approvals WHERE tenant_id = ? AND waits_until IS NOT NULL AND waits_until <= ? ORDER BY waits_until, id`, tenant, now).
			Query(ctx, s.db, scanIDs(func(id gid.ID) { ids = append(ids, id) }))
		if err != nil {
			return 0, fmt.Errorf("looking for requests that expire: %w", err)
		}
		var errs []error
		for _, id := range ids {
			done, err := s.expireOne(ctx, tenant, id, now)
			if done {
				n++
			}
			errs = append(errs, err)
			if ctx.Err() != nil {
				break
			}
		}
		return n, errors.Join(errs...)
	})
}

// expireOne ends one request, unless it was decided or used meanwhile.
func (s *Service) expireOne(ctx context.Context, tenant, id gid.ID, now time.Time) (done bool, err error) {
	ctx = visible.With(ctx, visible.Tenant(tenant))
	for try := 1; ; try++ {
		err = s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
			b := &ballot{run: &run{Service: s, a: actor.From(ctx), q: tx, tx: tx}}
			if err := b.find(ctx, id); err != nil {
				return err
			}
			wait := b.ap.ExpiresAt
			if b.ap.UseUntil != nil {
				wait = *b.ap.UseUntil
			}
			open := b.ap.Status == approval.StatusPENDING || b.ap.Status == approval.StatusAPPROVED
			if done = open && !now.Before(wait); !done {
				return nil
			}
			return b.expire(ctx)
		})
		if err == nil || try == tries || !store.Busy(err) || store.Pause(ctx, try) != nil {
			return done && err == nil, err
		}
	}
}

// carry does what others agreed to that is no operation, in the name of who asked for it. What is refused ends the
// request as failed: it could never be done as it was asked for.
func (b *ballot) carry(ctx context.Context) error {
	refused, err := b.tryCarry(ctx)
	if err != nil {
		return err
	}
	status, code := approval.StatusDONE, lifecycle.Code("")
	if refused != nil {
		if refused.Code == lifecycle.AuthzUnavailable {
			return refused
		}
		status, code = approval.StatusFAILED, refused.Code
		b.logRefusal(ctx, b.tx, audit.Event{Action: string(b.ap.Subject), Code: code, Detail: map[string]any{"approval": b.ap.ID.String()}})
	}
	return b.end(ctx, b.ap.ID, status, code)
}

func (b *ballot) tryCarry(ctx context.Context) (*Error, error) {
	if b.actAs == nil || b.ap.RequestedByID == nil {
		return nil, errors.New("record: nobody to act for")
	}
	a, err := b.actAs(ctx, b.a.Tenant, *b.ap.RequestedByID)
	if errors.Is(err, ErrLeft) {
		return Refuse(lifecycle.Forbidden, "who asked for it may not act any more"), nil
	}
	if err == nil {
		var as context.Context
		if as, err = b.judgedBy(actor.With(ctx, a), a, b.control.Repin); err == nil {
			err = b.approvables[b.ap.Subject].Carry(as, b.tx, b.ap)
		}
	}
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused, nil
	}
	return nil, err
}
