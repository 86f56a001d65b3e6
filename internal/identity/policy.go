package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// PolicySource reads policies from the database. It reads what is committed,
// also within a transaction.
type PolicySource struct{ DB *store.DB }

var _ casbin.Source = PolicySource{}

// Head implements casbin.Source. A tenant that is not there has version 0.
func (p PolicySource) Head(ctx context.Context, tenant string) (uint64, error) {
	id, err := parseTenant(tenant)
	if err != nil {
		return 0, err
	}
	var version uint64
	_, err = store.Build(p.DB).Add("SELECT version FROM policy_heads WHERE tenant_id = ?", id).One(ctx, p.DB.Aside(), &version)
	return version, err
}

// Load implements casbin.Source.
func (p PolicySource) Load(ctx context.Context, tenant string) (uint64, []casbin.Rule, error) {
	id, err := parseTenant(tenant)
	if err != nil {
		return 0, nil, err
	}
	return loadPolicy(ctx, p.DB.Aside(), id)
}

func parseTenant(tenant string) (gid.ID, error) {
	id, err := gid.Parse(tenant)
	if err == nil && id.Type() != gid.Tenant {
		err = gid.ErrMalformed
	}
	if err != nil {
		return gid.Nil, fmt.Errorf("tenant %q: %w", tenant, err)
	}
	return id, nil
}

// loadPolicy reads version and rows in one statement, which sees one moment.
func loadPolicy(ctx context.Context, q store.Querier, tenant gid.ID) (version uint64, rules []casbin.Rule, err error) {
	err = store.Build(q).Add("SELECT h.version, r.ptype, r.v0, r.v1, r.v2, r.v3, r.v4, r.v5 FROM policy_heads h"+
		" LEFT JOIN policy_rules r ON r.tenant_id = h.tenant_id WHERE h.tenant_id = ? ORDER BY r.position, r.id", tenant).
		Query(ctx, q, func(rows store.Row) error {
			var ptype sql.NullString
			var v [6]sql.NullString
			if err := rows.Scan(&version, &ptype, &v[0], &v[1], &v[2], &v[3], &v[4], &v[5]); err != nil {
				return err
			}
			if !ptype.Valid { // a policy without rows
				return nil
			}
			rule := casbin.Rule{Ptype: ptype.String}
			for i := range v {
				rule.V[i] = v[i].String
			}
			rules = append(rules, rule)
			return nil
		})
	if err != nil {
		return 0, nil, fmt.Errorf("reading a policy: %w", err)
	}
	return version, rules, nil
}

func insertRules(ctx context.Context, tx *store.Tx, tenant gid.ID, position int, rules []casbin.Rule) error {
	rows := make([][]any, len(rules))
	for i, r := range rules {
		rows[i] = []any{gid.New(gid.Policy), tenant, int64(position + i), r.Ptype, r.V[0], r.V[1], r.V[2], r.V[3], r.V[4], r.V[5]}
	}
	return tx.Insert(ctx, "policy_rules", []string{"id", "tenant_id", "position", "ptype", "v0", "v1", "v2", "v3", "v4", "v5"}, rows)
}

// policy is a tenant's policy while it is locked.
type policy struct {
	tenant gid.ID
	rules  []casbin.Rule
}

// lockPolicy reads a tenant's policy and keeps others from changing it, or who
// is active, until the transaction ends.
func lockPolicy(ctx context.Context, tx *store.Tx, tenant gid.ID) (policy, error) {
	var version uint64
	ok, err := store.Build(tx).Add("SELECT version FROM policy_heads WHERE tenant_id = ?", tenant).ForUpdate().One(ctx, tx, &version)
	if err != nil {
		return policy{}, fmt.Errorf("locking a policy: %w", err)
	}
	if !ok {
		return policy{}, fmt.Errorf("tenant %s: %w", tenant, ErrNotFound)
	}
	_, rules, err := loadPolicy(ctx, tx, tenant)
	return policy{tenant, rules}, err
}

// Head and Load make a locked policy a casbin.Source, so that what it would
// permit is answered by what will answer once it is stored.
func (p policy) Head(context.Context, string) (uint64, error) { return 1, nil }

func (p policy) Load(context.Context, string) (uint64, []casbin.Rule, error) { return 1, p.rules, nil }

// editors lists the active users who can edit the policy, were this it.
func (p policy) editors(ctx context.Context, tx *store.Tx) ([]gid.ID, error) {
	users, err := activeUsers(ctx, tx, p.tenant)
	if err != nil {
		return nil, err
	}
	plugin, err := casbin.New(casbin.Options{Source: p, Vocabulary: access.Vocabulary()})
	if err != nil {
		return nil, err
	}
	requests := make([]authz.Request, len(users))
	for i, u := range users {
		requests[i] = authz.Request{
			Tenant: p.tenant.String(), Action: authz.PolicyEdit,
			Subject: authz.Entity{Type: "user", ID: u.String()}, Resource: authz.Entity{Type: "Policy"},
		}
	}
	decisions, err := plugin.Decide(ctx, requests)
	if err != nil {
		return nil, err
	}
	var editors []gid.ID
	for i, d := range decisions {
		if d.Effect == authz.Permit {
			editors = append(editors, users[i])
		}
	}
	return editors, nil
}

// GrantRole gives a user a role, as the operator: he may give any. A role is
// known when the policy has a row about it. Granting it twice is no error.
func (s *Service) GrantRole(ctx context.Context, tenant, user gid.ID, role string) error {
	err := s.changeRoles(ctx, tenant, user, role, actionRoleGrant, func(ctx context.Context, tx *store.Tx, p policy, grant casbin.Rule) (bool, error) {
		if slices.Contains(p.rules, grant) {
			return false, nil
		}
		after := append(slices.Clip(p.rules), grant)
		for _, f := range access.Vocabulary().Validate(tenant.String(), after) {
			if f.Severity == casbin.Error {
				return false, fmt.Errorf("the policy would be refused: %s: %w", f, ErrInvalid)
			}
		}
		var last int
		if _, err := store.Build(tx).Add("SELECT COALESCE(MAX(position), -1) FROM policy_rules WHERE tenant_id = ?", tenant).One(ctx, tx, &last); err != nil {
			return false, err
		}
		return true, insertRules(ctx, tx, tenant, last+1, []casbin.Rule{grant})
	})
	if err != nil {
		return fmt.Errorf("granting a role: %w", err)
	}
	return nil
}

// RevokeRole takes a role back that a user was given. Without it there is
// nothing to do. The last one who can edit the policy keeps it: ErrLockout.
func (s *Service) RevokeRole(ctx context.Context, tenant, user gid.ID, role string) error {
	err := s.changeRoles(ctx, tenant, user, role, actionRoleRevoke, func(ctx context.Context, tx *store.Tx, p policy, grant casbin.Rule) (bool, error) {
		if !slices.Contains(p.rules, grant) {
			return false, nil
		}
		before, err := p.editors(ctx, tx)
		if err != nil {
			return false, err
		}
		after := policy{tenant, slices.DeleteFunc(slices.Clone(p.rules), func(r casbin.Rule) bool { return r == grant })}
		left, err := after.editors(ctx, tx)
		if err != nil {
			return false, err
		}
		if len(left) == 0 && len(before) > 0 {
			return false, ErrLockout
		}
		_, err = store.Build(tx).Add("DELETE FROM policy_rules WHERE tenant_id = ? AND ptype = 'g' AND v0 = ? AND v1 = ? AND v2 = ?",
			tenant, grant.V[0], grant.V[1], grant.V[2]).Exec(ctx, tx)
		return true, err
	})
	if err != nil {
		return fmt.Errorf("revoking a role: %w", err)
	}
	return nil
}

// changeRoles runs change on the locked policy, and when it changed something
// moves the policy's version on and writes that down.
func (s *Service) changeRoles(ctx context.Context, tenant, user gid.ID, role, action string,
	change func(context.Context, *store.Tx, policy, casbin.Rule) (changed bool, err error),
) error {
	if user.IsZero() {
		return errors.New("the system has the roles the policy gives it, and no others")
	}
	return s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		p, err := lockPolicy(ctx, tx, tenant)
		if err != nil {
			return err
		}
		if _, err := userIn(ctx, tx, tenant, user); err != nil {
			return err
		}
		subject := casbin.RoleSubject(role)
		if !slices.ContainsFunc(p.rules, func(r casbin.Rule) bool { return r.V[0] == subject }) {
			return fmt.Errorf("role %q: %w", role, ErrNotFound)
		}
		changed, err := change(ctx, tx, p, casbin.Grant(casbin.UserSubject(user.String()), subject, tenant.String()))
		if err != nil || !changed {
			return err
		}
		if _, err := store.Build(tx).Add("UPDATE policy_heads SET version = version + 1 WHERE tenant_id = ?", tenant).Exec(ctx, tx); err != nil {
			return err
		}
		return s.record(actor.With(ctx, actor.ForSystem(tenant)), tx, tenant, action, map[string]any{"user": user, "role": role})
	})
}
