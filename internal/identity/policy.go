package identity

import (
	"context"
	"fmt"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/policy"
)

// PolicySource reads policies from the database.
type PolicySource = policy.Source

// GrantRole gives a user a role, as the operator: he may give any. A role is
// known when the policy has a row about it. Granting it twice is no error.
func (s *Service) GrantRole(ctx context.Context, tenant, user gid.ID, role string) error {
	if _, err := s.policies.Grant(actor.With(ctx, actor.ForSystem(tenant)), tenant, user, role); err != nil {
		return fmt.Errorf("granting a role: %w", err)
	}
	return nil
}

// RevokeRole takes a role back that a user was given. Without it there is
// nothing to do. The last one who can edit the policy keeps it: ErrLockout.
func (s *Service) RevokeRole(ctx context.Context, tenant, user gid.ID, role string) error {
	if _, err := s.policies.Revoke(actor.With(ctx, actor.ForSystem(tenant)), tenant, user, role); err != nil {
		return fmt.Errorf("revoking a role: %w", err)
	}
	return nil
}
