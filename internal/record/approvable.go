package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lethe-crm/lethe/authz"
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

// Approvable is something besides operations that others can be asked for: Request files it, frozen as a payload, and
// once enough have agreed it is carried out in the transaction of the last vote.
type Approvable interface {
	// MayDecide refuses who may not decide on the request, though he has a role that is asked.
	MayDecide(ctx context.Context, tx *store.Tx, a *actor.Actor, ap *ent.Approval) error
	// Carry does it. The actor of the context is who asked; everything is checked again. It must refuse before it writes:
	// an *Error ends the request as FAILED.
	Carry(ctx context.Context, tx *store.Tx, ap *ent.Approval) error
}

// Approves makes something known that others can be asked for.
func (s *Service) Approves(subject approval.Subject, what Approvable) { s.approvables[subject] = what }

// ActingAs lets what was approved be done in the name of who asked for it.
func (s *Service) ActingAs(actAs ActAs) { s.actAs = actAs }

// OnBrake has f told of each cap that an operation came over.
func (s *Service) OnBrake(f func(name string)) { s.onBrake = f }

// OnEnd has f told of each operation that has ended, and how.
func (s *Service) OnEnd(f func(verb lifecycle.Verb, status string)) { s.onEnd = f }

// OnChange has f told how many records of a type operations have changed, those that came along included.
func (s *Service) OnChange(f func(verb lifecycle.Verb, typ string, records int)) { s.onChange = f }

// tellEnd tells of an operation that ends with the transaction.
func (r *run) tellEnd(verb lifecycle.Verb, status operation.Status) {
	if r.onEnd == nil {
		return
	}
	r.tx.AfterEnd(func(committed bool) {
		if committed {
			r.onEnd(verb, string(status))
		}
	})
}

// tellChanges tells of what the plan changes, once it is committed.
func (r *run) tellChanges() {
	if r.onChange == nil {
		return
	}
	verb, counts := r.req.Verb, map[string]int{}
	for _, it := range r.items {
		if it.outcome == changed && it.typ != nil {
			counts[it.typ.Name]++
		}
	}
	for _, n := range r.along {
		counts[n.row.RecordType().Name]++
	}
	r.tx.AfterEnd(func(committed bool) {
		if !committed {
			return
		}
		for typ, n := range counts {
			r.onChange(verb, typ, n)
		}
	})
}

// Request asks others for something, if there are rules about it, and answers the request; zero where there are none, and
// it may be done at once. Asked for again while it waits, by the same user, it is the same request.
func (s *Service) Request(ctx context.Context, tx *store.Tx, subject approval.Subject, ask Ask) (gid.ID, error) {
	a := actor.From(ctx)
	if a.Kind == actor.System { // the operator on the machine, or a clock
		return gid.Nil, nil
	}
	rules, err := s.rulesOf(ctx, tx, a.Tenant, subject)
	if err != nil || len(rules) == 0 {
		return gid.Nil, err
	}
	var waiting gid.ID
	_, err = store.Build(tx).Add(`SELECT id FROM approvals WHERE tenant_id = ? AND requested_by_id = ? AND waits_until > ? AND subject = ?
		AND (target_id = ? OR target_id IS NULL AND payload = ?)`, a.Tenant, a.User, tx.Now(), string(subject), idOrZero(ask.Target), []byte(ask.Payload)).One(ctx, tx, &waiting)
	if err != nil || !waiting.IsZero() {
		return waiting, err
	}
	k := &asking{}
	for i := range rules {
		k.add(&rules[i])
	}
	id, err := s.file(ctx, tx, k, ask, nil)
	if err != nil {
		return gid.Nil, err
	}
	return id, s.audit.Append(ctx, tx, audit.Event{Action: "APPROVAL_ASK", Count: ask.Records, PolicyVersion: s.control.Version(ctx, a.Tenant), Detail: k.detail(id)})
}

func idOrZero(id *gid.ID) gid.ID {
	if id == nil {
		return gid.Nil
	}
	return *id
}

// holdRelease is the release of a legal hold.
type holdRelease struct{ *Service }

// releasing is what is kept of a release that others are asked for.
type releasing struct {
	Hold   gid.ID `json:"hold"`
	Reason string `json:"reason"`
}

// MayDecide implements Approvable: it takes the right to approve what is done to each of its records, and to all that it
// keeps by person or filter.
func (h holdRelease) MayDecide(ctx context.Context, tx *store.Tx, a *actor.Actor, ap *ent.Approval) error {
	id := idOrZero(ap.TargetID)
	ids, persons, err := h.namedBy(ctx, tx, id)
	if err != nil {
		return err
	}
	all := visible.With(ctx, visible.Tenant(a.Tenant))
	hold, err := h.Client(ctx).LegalHold.Get(all, id)
	if err != nil {
		return fmt.Errorf("reading a legal hold: %w", err)
	}
	rows, err := h.loadAny(all, ids, none)
	if err != nil {
		return err
	}
	if err := h.mayHold(ctx, a, authz.Approve, rows, "id"); err != nil {
		return err
	}
	typ := ""
	if hold.FilterType != nil {
		typ = *hold.FilterType
	}
	return h.mayHoldWidely(ctx, tx, a, authz.Approve, persons, typ)
}

// Carry implements Approvable.
func (h holdRelease) Carry(ctx context.Context, tx *store.Tx, ap *ent.Approval) error {
	var asked releasing
	if err := json.Unmarshal(ap.Payload, &asked); err != nil {
		return fmt.Errorf("reading what was agreed to: %w", err)
	}
	_, err := h.releaseHold(ctx, tx, actor.From(ctx), asked.Hold, asked.Reason, ap)
	return err
}

// askToRelease asks others for the release of a hold, if there are rules about it.
func (s *Service) askToRelease(ctx context.Context, tx *store.Tx, id gid.ID, reason string, rows []ent.Record) (gid.ID, error) {
	frozen, err := json.Marshal(releasing{id, reason})
	if err != nil {
		return gid.Nil, errors.Join(errors.New("encoding a request"), err)
	}
	return s.Request(ctx, tx, approval.SubjectHOLD_RELEASE, Ask{Target: &id, Payload: frozen, Reason: reason, Records: len(rows)})
}
