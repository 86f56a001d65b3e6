package policy

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/approval"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// WithApprovals lets changes that give restricted actions to others wait for a second one who may edit the policy.
// Without it they are refused.
func (s *Service) WithApprovals(records *record.Service) *Service {
	s.approvals = records
	records.Approves(approval.SubjectGRANT, s)
	return s
}

// Frozen is a change that waits for others to agree to it, as it was asked for.
type Frozen struct {
	Action  string `json:"action"`
	Base    uint64 `json:"base"` // the version it changes
	Message string `json:"message,omitempty"`
	// One of these says what is asked for.
	Draft *Draft `json:"draft,omitempty"`
	To    uint64 `json:"to,omitempty"`
	User  gid.ID `json:"user,omitzero"`
	Role  string `json:"role,omitempty"`
	// Added and Removed are what it does, as lines.
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
}

// FrozenOf is the change that a request is about.
func FrozenOf(ap *ent.Approval) (Frozen, error) {
	var f Frozen
	if err := json.Unmarshal(ap.Payload, &f); err != nil {
		return f, fmt.Errorf("reading a change that waits: %w", err)
	}
	return f, nil
}

// ask lets a change wait for others, and answers the request.
func (s *Service) ask(ctx context.Context, tx *store.Tx, before, after Policy, c change) (gid.ID, error) {
	f, d := c.frozen, Diff(before, after)
	f.Action, f.Base, f.Message, f.Added, f.Removed = c.action, before.Version, c.message, Lines(d.Added), Lines(d.Removed)
	frozen, err := json.Marshal(f)
	if err != nil {
		return gid.Nil, fmt.Errorf("encoding a change of the policy: %w", err)
	}
	return s.approvals.Request(ctx, tx, approval.SubjectGRANT, record.Ask{Payload: frozen, Reason: c.message})
}

// change is what was asked for, as a change again.
func (s *Service) change(tenant gid.ID, f Frozen) change {
	switch {
	case f.Draft != nil:
		return s.applying(*f.Draft)
	case f.To != 0:
		return s.rollingBack(tenant, f.Base, f.To, f.Message)
	}
	return s.granting(tenant, f.User, f.Role)
}

// MayDecide implements record.Approvable: whoever may edit the policy decides, unless he would gain by it.
func (s *Service) MayDecide(ctx context.Context, tx *store.Tx, a *actor.Actor, ap *ent.Approval) error {
	f, err := FrozenOf(ap)
	if err != nil {
		return err
	}
	before, err := lock(ctx, tx, a.Tenant)
	if err != nil {
		return err
	}
	if err := s.mayEdit(ctx, a, before); err != nil || before.Version != f.Base {
		return err // what is not as it was is found when it is carried out
	}
	after, err := s.change(a.Tenant, f).to(ctx, tx, before)
	if err != nil {
		return err
	}
	comparison, err := s.vocabulary.Compare(before.Rules, after.Rules)
	if err != nil {
		return err
	}
	return ownGain(comparison, a)
}

// Carry implements record.Approvable: the change is made to the version that it was asked for, by who asked, and checked
// as any other is.
func (s *Service) Carry(ctx context.Context, tx *store.Tx, ap *ent.Approval) error {
	f, err := FrozenOf(ap)
	if err != nil {
		return err
	}
	before, err := lock(ctx, tx, ap.TenantID)
	if err != nil {
		return err
	}
	if before.Version != f.Base {
		refused := record.Refuse(lifecycle.Stale, fmt.Sprintf("The policy is at version %d, not %d.", before.Version, f.Base))
		refused.Extensions = map[string]any{"version": before.Version}
		return refused
	}
	c := s.change(ap.TenantID, f)
	c.agreed = &ap.ID
	_, err = s.carryOut(ctx, ap.TenantID, c)
	return err
}

// ownGain refuses what somebody would gain himself.
func ownGain(comparison *casbin.Comparison, by *actor.Actor) error {
	teams := make([]string, len(by.Teams))
	for i, t := range by.Teams {
		teams[i] = t.String()
	}
	if g, found := comparison.Own(by.User.String(), teams); found {
		return refuse(ErrEscalation, fmt.Sprintf("You would gain %s of %s. Nobody changes what he may do himself.", g.Action, g.Object), gained(g))
	}
	return nil
}
