package access

import (
	"context"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/gid"
)

// Explanation is a decision with all that was considered for it.
type Explanation struct {
	Permit  bool
	Rule    string // that decided
	Version uint64
	Roles   []string
	Reasons []authz.Reason
}

// Explain answers a question about anybody, and says why, plugin by plugin. The
// caller decides who may ask.
func (c *Control) Explain(ctx context.Context, r authz.Request) (Explanation, error) {
	var e Explanation
	chain := c.chainOf(ctx)
	d := chain.Decide(ctx, []authz.Request{r})[0]
	e.Permit = d.Permitted()
	for _, reason := range d.Reasons {
		if reason.Rule != "" && e.Rule == "" {
			e.Rule = reason.Rule
		}
		e.Version = max(e.Version, reason.Version)
	}
	e.Reasons = chain.Explain(ctx, r)
	var err error
	e.Roles, err = c.policy.RolesOf(ctx, r.Tenant, r.Subject)
	return e, err
}

// Reach reports for how many things of a type the policy permits an action to a
// subject.
func (c *Control) Reach(ctx context.Context, tenant gid.ID, subject authz.Entity, action authz.Action, typ string) (casbin.Reach, error) {
	return c.policy.Reach(ctx, tenant.String(), subject, action, typ)
}
