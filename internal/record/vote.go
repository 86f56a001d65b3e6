package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/approval"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// ballot is one user's vote about a request, while it is cast.
type ballot struct {
	*run

	ap    *ent.Approval
	op    *ent.Operation // nil if it is about something else
	needs []Need
}

// DecideOperation says yes or no to what an operation waits for, and answers the operation.
func (s *Service) DecideOperation(ctx context.Context, id gid.ID, approve bool, comment string) (*ent.Operation, error) {
	b, err := s.decide(ctx, id, gid.Nil, approve, comment)
	if err != nil {
		return nil, err
	}
	return b.op, nil
}

// DecideRequest says yes or no to a request for approval, whatever it is about.
func (s *Service) DecideRequest(ctx context.Context, id gid.ID, approve bool, comment string) (*ent.Approval, error) {
	b, err := s.decide(ctx, gid.Nil, id, approve, comment)
	if err != nil {
		return nil, err
	}
	return b.ap, nil
}

func (s *Service) decide(ctx context.Context, operation, request gid.ID, approve bool, comment string) (*ballot, error) {
	field := "comment"
	if !approve {
		field = "reason"
	}
	if err := mixin.Characters(mixin.MaxReason)(comment); err != nil || !storable(comment) {
		return nil, Refuse(lifecycle.BadUserInput, fmt.Sprintf("is longer than %d characters, or cannot be stored", mixin.MaxReason), field)
	}
	return s.onRequest(ctx, operation, request, verdict(approve), func(ctx context.Context, b *ballot) error { return b.cast(ctx, approve, comment) })
}

// CancelRequest calls off what somebody asked for himself, and which is no operation. Called off again nothing changes.
func (s *Service) CancelRequest(ctx context.Context, id gid.ID) (*ent.Approval, error) {
	b, err := s.onRequest(ctx, gid.Nil, id, "CANCEL", func(ctx context.Context, b *ballot) error {
		switch {
		case b.ap.RequestedByID == nil || *b.ap.RequestedByID != b.a.User:
			return Refuse(lifecycle.Forbidden, "only who asked for it calls it off", "id")
		case b.op != nil:
			return Refuse(lifecycle.BadUserInput, "it is about an operation: cancelOperation", "id")
		case b.ap.Status == approval.StatusCANCELLED:
			return nil
		case b.ap.Status != approval.StatusPENDING:
			return b.illegal("this was decided already", string(b.ap.Status))
		}
		if err := b.end(ctx, b.ap.ID, approval.StatusCANCELLED, ""); err != nil {
			return err
		}
		return errors.Join(b.log(ctx, "CANCEL"), b.reread(ctx))
	})
	if err != nil {
		return nil, err
	}
	return b.ap, nil
}

// onRequest does something about a request in the transaction of the context, or in one of its own, which is tried again
// when it lost a deadlock, and logs a refusal.
func (s *Service) onRequest(ctx context.Context, operation, request gid.ID, action string, do func(context.Context, *ballot) error) (b *ballot, err error) {
	a := actor.From(ctx)
	if a == nil {
		return nil, errors.New("record: a decision by nobody")
	}
	for try := 1; ; try++ {
		err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
			b = &ballot{run: &run{Service: s, a: a, q: tx, tx: tx, id: operation}}
			if ctx, err = s.judgedBy(ctx, a, s.control.Repin); err != nil {
				return err
			}
			defer func() {
				if refused, ok := errors.AsType[*Error](err); ok && refused.Code != lifecycle.NotFound {
					e := audit.Event{Action: action, Code: refused.Code}
					if b.op != nil {
						e.Operation = &b.op.ID
					}
					if b.ap != nil {
						e.Detail = map[string]any{"approval": b.ap.ID.String()}
					}
					s.logRefusal(ctx, tx, e)
				}
			}()
			if err := b.find(ctx, request); err != nil {
				return err
			}
			return do(ctx, b)
		})
		if err == nil || try == tries || store.TxFrom(ctx) != nil || !store.Busy(err) || store.Pause(ctx, try) != nil {
			return b, err
		}
	}
}

func verdict(approve bool) string {
	if approve {
		return "APPROVE"
	}
	return "REJECT"
}

// find locks the operation, if there is one, and the request, as far as the actor may know of them: in this order,
// as everybody who changes them does.
func (b *ballot) find(ctx context.Context, request gid.ID) error {
	missing := Refuse(lifecycle.NotFound, "there is no such operation", "id")
	if b.id.IsZero() {
		missing = Refuse(lifecycle.NotFound, "there is no such request", "id")
		ap, err := b.Client(ctx).Approval.Get(ctx, request)
		if ent.IsNotFound(err) {
			return missing
		}
		if err != nil {
			return fmt.Errorf("reading a request for approval: %w", err)
		}
		if ap.OperationID != nil {
			b.id = *ap.OperationID
		}
	}
	if !b.id.IsZero() {
		if err := b.lockOperation(ctx); err != nil {
			return err
		}
		var err error
		b.op, err = b.Client(ctx).Operation.Get(ctx, b.id)
		if ent.IsNotFound(err) {
			b.op = nil
			return missing
		}
		if err != nil {
			return fmt.Errorf("reading the operation: %w", err)
		}
		if request.IsZero() {
			if request, err = b.latest(ctx, b.id); err != nil {
				return err
			}
			if request.IsZero() {
				return b.illegal("this operation asks nobody to agree", string(b.op.Status))
			}
		}
	}
	return b.lockRequest(ctx, request)
}

func (b *ballot) illegal(message, status string) *Error {
	return &Error{Code: lifecycle.IllegalTransition, Message: message, Fields: []string{"id"}, Extensions: map[string]any{"status": status}}
}

// latest is the last request that an operation made; zero if it made none.
func (r *run) latest(ctx context.Context, operation gid.ID) (id gid.ID, err error) {
	_, err = store.Build(r.tx).Add(`SELECT id FROM approvals WHERE operation_id = ? ORDER BY id DESC LIMIT 1`, operation).One(ctx, r.tx, &id)
	if err != nil {
		err = fmt.Errorf("looking for a request for approval: %w", err)
	}
	return id, err
}

func (b *ballot) lockRequest(ctx context.Context, id gid.ID) (err error) {
	if _, err := store.Build(b.tx).Add(`SELECT id FROM approvals WHERE tenant_id = ? AND id = ?`, b.a.Tenant, id).ForUpdate().Exec(ctx, b.tx); err != nil {
		return fmt.Errorf("locking a request for approval: %w", err)
	}
	if b.ap, err = b.Client(ctx).Approval.Get(visible.With(ctx, visible.Tenant(b.a.Tenant)), id); err != nil {
		return fmt.Errorf("reading a request for approval: %w", err)
	}
	if err := json.Unmarshal(b.ap.Needs, &b.needs); err != nil {
		return fmt.Errorf("reading a request for approval: %w", err)
	}
	return nil
}

// cast casts the vote. One that was cast already changes nothing.
func (b *ballot) cast(ctx context.Context, approve bool, comment string) error {
	if b.ap.RequestedByID != nil && *b.ap.RequestedByID == b.a.User {
		return Refuse(lifecycle.SelfApproval, "nobody decides on what he asked for himself", "id")
	}
	if err := b.mayVote(ctx, b.a); err != nil {
		return err
	}
	var before *bool
	if _, err := store.Build(b.tx).Add(`SELECT approve FROM approval_votes WHERE approval_id = ? AND user_id = ?`, b.ap.ID, b.a.User).One(ctx, b.tx, &before); err != nil {
		return fmt.Errorf("reading votes: %w", err)
	}
	now := b.tx.Now()
	switch {
	case before != nil && *before == approve && slices.Contains(ledTo[approve], b.ap.Status):
		return nil
	case b.ap.Status != approval.StatusPENDING:
		return b.illegal("this was decided already, or called off", string(b.ap.Status))
	case !now.Before(b.ap.ExpiresAt):
		return b.illegal("the time to decide on this is over", string(approval.StatusEXPIRED))
	}
	if before == nil || *before != approve {
		if err := b.write(ctx, approve, comment); err != nil {
			return err
		}
	}
	if !approve {
		return b.reject(ctx)
	}
	enough, err := b.Service.enough(ctx, b.ap)
	if err == nil && enough {
		err = b.approved(ctx)
	}
	return errors.Join(err, b.reread(ctx))
}

// ledTo is what becomes of a request by a vote.
var ledTo = map[bool][]approval.Status{true: {approval.StatusAPPROVED, approval.StatusDONE, approval.StatusFAILED}, false: {approval.StatusREJECTED}}

// mayVote refuses who has none of the roles that are asked for, or may not approve on each of the records.
func (b *ballot) mayVote(ctx context.Context, a *actor.Actor) error {
	refused := Refuse(lifecycle.Forbidden, "you are none of those who decide on this", "id")
	if a.Kind == actor.System || a.User.IsZero() { // there is no automatic approval
		return refused
	}
	roles, err := b.control.Roles(ctx, a)
	if err != nil {
		return Refuse(lifecycle.AuthzUnavailable, "access could not be decided; try again")
	}
	if !slices.ContainsFunc(b.needs, func(n Need) bool { return n.Role == "" || slices.Contains(roles, n.Role) }) {
		return refused
	}
	if b.op == nil {
		return b.approvables[b.ap.Subject].MayDecide(ctx, b.tx, a, b.ap)
	}
	may, err := b.mayApproveAll(ctx, a)
	if err == nil && may {
		may, err = b.mayApproveTaken(ctx)
	}
	if err == nil && !may {
		err = Refuse(lifecycle.Forbidden, "you may not approve what is done to some of its records", "id")
	}
	return err
}

// mayApproveAll reports whether an actor sees every record that is picked, and may approve what is done to it: with one
// statement, however many there are.
func (b *ballot) mayApproveAll(ctx context.Context, a *actor.Actor) (bool, error) {
	s := sql.Dialect(b.tx.Dialect()).Select(sql.Count("*")).From(sql.Dialect(b.tx.Dialect()).Table("operations").As("decided")).WithContext(ctx)
	s.Where(sql.EQ(s.C("id"), b.op.ID))
	b.control.Rows(ctx, a).Approvable(s)
	n := 0
	err := store.Select(ctx, b.tx, s, func(row store.Row) error { return row.Scan(&n) })
	if err != nil {
		return false, fmt.Errorf("asking who may approve: %w", err)
	}
	return n > 0, nil
}

// mayApproveTaken is mayApproveAll for what comes along only because who asks wants it to.
func (b *ballot) mayApproveTaken(ctx context.Context) (bool, error) {
	var agreed payload
	if err := json.Unmarshal(b.ap.Payload, &agreed); err != nil {
		return false, fmt.Errorf("reading what is asked for: %w", err)
	}
	if len(agreed.Taken) == 0 {
		return true, nil
	}
	ids := make([]gid.ID, len(agreed.Taken))
	for i, v := range agreed.Taken {
		ids[i] = v.ID
	}
	return b.mayDoTo(ctx, authz.Approve, ids)
}

func (b *ballot) write(ctx context.Context, approve bool, comment string) error {
	_, err := store.Build(b.tx).Add(`DELETE FROM approval_votes WHERE approval_id = ? AND user_id = ?`, b.ap.ID, b.a.User).Exec(ctx, b.tx)
	if err == nil {
		_, err = store.Build(b.tx).Add(`INSERT INTO approval_votes (tenant_id, approval_id, user_id, approve, comment, at) VALUES (?, ?, ?, ?, ?, ?)`,
			b.a.Tenant, b.ap.ID, b.a.User, approve, nullText(comment), b.tx.Now()).Exec(ctx, b.tx)
	}
	if err != nil {
		return fmt.Errorf("writing a vote: %w", err)
	}
	return b.log(ctx, verdict(approve))
}

// log writes an event about the request.
func (b *ballot) log(ctx context.Context, action string) error {
	e := audit.Event{Action: action, PolicyVersion: b.control.Version(ctx, b.a.Tenant), Detail: map[string]any{"approval": b.ap.ID.String(), "subject": b.ap.Subject}}
	if b.op != nil {
		e.Operation, e.Count = &b.op.ID, b.op.Total
	}
	return b.audit.Append(ctx, b.tx, e)
}

// approved is what happens once enough have agreed.
func (b *ballot) approved(ctx context.Context) error {
	now := b.tx.Now()
	from := now
	if b.op != nil && b.op.RunAt != nil && b.op.RunAt.After(now) {
		from = *b.op.RunAt
	}
	until := from.Add(hours(b.ap.UseHours))
	_, err := store.Build(b.tx).Add(`UPDATE approvals SET status = 'APPROVED', approved_at = ?, use_until = ?, waits_until = ? WHERE id = ?`, now, until, until, b.ap.ID).Exec(ctx, b.tx)
	if err != nil {
		return fmt.Errorf("writing a request for approval: %w", err)
	}
	if b.op == nil {
		return b.carry(ctx)
	}
	if _, err := store.Build(b.tx).Add(`UPDATE operations SET status = 'APPROVED', code = NULL WHERE id = ?`, b.op.ID).Exec(ctx, b.tx); err != nil {
		return fmt.Errorf("writing the operation: %w", err)
	}
	if b.ap.Execution == approval.ExecutionCONFIRM {
		return nil
	}
	return b.toRun(ctx, b.op)
}

// toRun leaves an operation to the workers, unless it has to wait for its time.
func (r *run) toRun(ctx context.Context, op *ent.Operation) error {
	if op.RunAt != nil && op.RunAt.After(r.tx.Now()) {
		return nil
	}
	return r.handOver(ctx)
}

func (b *ballot) reject(ctx context.Context) error {
	if b.op != nil {
		if err := b.callOff(ctx, b.op, operation.StatusREJECTED); err != nil {
			return err
		}
	} else if err := b.end(ctx, b.ap.ID, approval.StatusREJECTED, ""); err != nil {
		return err
	}
	return b.reread(ctx)
}

// reread reads what has become of the operation and of the request.
func (b *ballot) reread(ctx context.Context) error {
	all := visible.With(ctx, visible.Tenant(b.a.Tenant))
	ap, err := b.Client(ctx).Approval.Get(all, b.ap.ID)
	if err == nil {
		b.ap = ap
		if b.op != nil {
			b.op, err = b.Client(ctx).Operation.Get(all, b.op.ID)
		}
	}
	if err != nil {
		return fmt.Errorf("reading what was decided: %w", err)
	}
	return nil
}

// Vote is what one user said to a request.
type Vote struct {
	User    gid.ID
	Approve bool
	Comment string
	At      time.Time
	// active says that the user may act at all.
	active bool
}

// Votes lists what was said to some requests, in order.
func (s *Service) Votes(ctx context.Context, ids []gid.ID) (map[gid.ID][]Vote, error) {
	q := s.querier(ctx)
	out := map[gid.ID][]Vote{}
	err := store.Build(q).Add(`SELECT v.approval_id, v.user_id, v.approve, v.comment, v.at, u.active FROM approval_votes v JOIN users u ON u.id = v.user_id WHERE `).
		IDs("v.approval_id", ids).Add(` ORDER BY v.id`).Query(ctx, q, func(row store.Row) error {
		var id gid.ID
		var v Vote
		var comment *string
		err := row.Scan(&id, &v.User, &v.Approve, &comment, &v.At, &v.active)
		if comment != nil {
			v.Comment = *comment
		}
		out[id] = append(out[id], v)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading votes: %w", err)
	}
	return out, nil
}

// NeedsOf says who has to agree to a request.
func NeedsOf(ap *ent.Approval) ([]Need, error) {
	var needs []Need
	if err := json.Unmarshal(ap.Needs, &needs); err != nil {
		return nil, fmt.Errorf("reading a request for approval: %w", err)
	}
	return needs, nil
}

// Given counts, for each need of a request, who agrees, has the role, and may still act.
func (s *Service) Given(ctx context.Context, ap *ent.Approval, votes []Vote) ([]int, error) {
	needs, err := NeedsOf(ap)
	if err != nil {
		return nil, err
	}
	given := make([]int, len(needs))
	for _, v := range votes {
		if !v.Approve || !v.active || ap.RequestedByID != nil && *ap.RequestedByID == v.User {
			continue
		}
		held, err := s.control.RolesOf(ctx, ap.TenantID, v.User)
		if err != nil {
			return nil, Refuse(lifecycle.AuthzUnavailable, "access could not be decided; try again")
		}
		for i, n := range needs {
			counts := slices.ContainsFunc(held, func(h casbin.Held) bool { return n.Role != "" && h.Role == n.Role })
			if n.Role == "" {
				voter := &actor.Actor{Kind: actor.User, Tenant: ap.TenantID, User: v.User}
				if counts, err = s.control.CouldEver(ctx, voter, authz.PolicyEdit, "Policy"); err != nil {
					return nil, Refuse(lifecycle.AuthzUnavailable, "access could not be decided; try again")
				}
			}
			if counts {
				given[i]++
			}
		}
	}
	return given, nil
}

// enough reports whether as many agree to a request as are needed, of those who may still.
func (s *Service) enough(ctx context.Context, ap *ent.Approval) (bool, error) {
	needs, err := NeedsOf(ap)
	if err != nil {
		return false, err
	}
	votes, err := s.Votes(ctx, []gid.ID{ap.ID})
	if err != nil {
		return false, err
	}
	given, err := s.Given(ctx, ap, votes[ap.ID])
	for i, n := range needs {
		if err != nil || given[i] < n.Approvals {
			return false, err
		}
	}
	return true, nil
}
