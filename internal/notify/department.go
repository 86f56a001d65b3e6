package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

const (
	objectAlert    = "Alert"
	maxMembers     = 1_000
	maxDepartments = 100 // of a tenant
)

// Department is a department as it is asked for.
type Department struct {
	Name, Address string
	Interests
	Members []gid.ID
	Webhook *gid.ID
}

func (d *Department) check(ctx context.Context, tx *store.Tx, a *actor.Actor) error {
	if d.Name == "" {
		return record.Refuse(lifecycle.BadUserInput, "must not be empty", "name")
	}
	for field, text := range map[string]string{"name": d.Name, "address": d.Address} {
		if err := mixin.Characters(mixin.MaxName)(text); err != nil {
			return record.Refuse(lifecycle.BadUserInput, err.Error(), field)
		}
	}
	if err := d.Interests.check(); err != nil {
		return err
	}
	if len(d.Members) > maxMembers {
		return record.Refuse(lifecycle.Limit, fmt.Sprintf("more than %d members", maxMembers), "members")
	}
	if err := among(ctx, tx, a.Tenant, d.Members, "members"); err != nil {
		return err
	}
	if d.Webhook == nil {
		return nil
	}
	if _, err := lockWebhook(ctx, tx, a, *d.Webhook, 0); err != nil {
		if refused, ok := errors.AsType[*record.Error](err); ok {
			refused.Code, refused.Fields = lifecycle.BadUserInput, []string{"webhook"}
		}
		return err
	}
	return nil
}

// mayTellWebhook refuses who may not change what a webhook is told of: a department
// adds to it.
func (s *Service) mayTellWebhook(ctx context.Context, a *actor.Actor, d *Department) error {
	if d.Webhook == nil {
		return nil
	}
	if answer := s.Control.Decide(ctx, a, questions(authz.WebhookEdit, objectWebhook)); !answer[0].Permit {
		return record.Refuse(lifecycle.Forbidden, "the policy does not allow this", "webhook")
	}
	return s.check(ctx, a, &Webhook{URL: "https://webhook.invalid", Interests: d.Interests})
}

func (d *Department) detail(id gid.ID) map[string]any {
	members := make([]string, len(d.Members))
	for i, m := range d.Members {
		members[i] = m.String()
	}
	return map[string]any{"department": id.String(), "kinds": d.kinds(), "types": d.types(), "members": members}
}

// CreateDepartment adds a department.
func (s *Service) CreateDepartment(ctx context.Context, d Department) (gid.ID, error) {
	id := gid.New(gid.Department)
	return id, s.change(ctx, authz.AlertEdit, objectAlert, "DEPARTMENT_CREATE", func(ctx context.Context, tx *store.Tx, a *actor.Actor) (map[string]any, error) {
		if err := errors.Join(d.check(ctx, tx, a), s.mayTellWebhook(ctx, a, &d)); err != nil {
			return nil, err
		}
		count := 0
		if _, err := store.Build(tx).Add(`SELECT count(*) FROM departments WHERE tenant_id = ?`, a.Tenant).One(ctx, tx, &count); err != nil {
			return nil, fmt.Errorf("counting departments: %w", err)
		}
		if count >= maxDepartments {
			return nil, record.Refuse(lifecycle.Limit, fmt.Sprintf("more than %d departments", maxDepartments))
		}
		_, err := store.Build(tx).Add(`INSERT INTO departments (id, tenant_id, name, address, kinds, types, webhook_id, version, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?)`,
			id, a.Tenant, d.Name, d.Address, store.JSONStrings(d.kinds()), store.JSONStrings(d.types()), nullID(d.Webhook), tx.Now(), tx.Now()).Exec(ctx, tx)
		if err == nil {
			err = setMembers(ctx, tx, id, d.Members)
		}
		if err != nil {
			return nil, fmt.Errorf("writing a department: %w", err)
		}
		return d.detail(id), nil
	})
}

func setMembers(ctx context.Context, tx *store.Tx, id gid.ID, members []gid.ID) error {
	if _, err := store.Build(tx).Add(`DELETE FROM department_members WHERE department_id = ?`, id).Exec(ctx, tx); err != nil {
		return err
	}
	rows := make([][]any, len(members))
	for i, m := range members {
		rows[i] = []any{id, m}
	}
	return tx.Insert(ctx, "department_members", []string{"department_id", "user_id"}, rows)
}

func lockDepartment(ctx context.Context, tx *store.Tx, a *actor.Actor, id gid.ID, version int) (d Department, err error) {
	var kinds, types []byte
	at := 0
	found, err := store.Build(tx).Add(`SELECT name, address, kinds, types, webhook_id, version FROM departments WHERE tenant_id = ? AND id = ?`, a.Tenant, id).ForUpdate().
		One(ctx, tx, &d.Name, &d.Address, &kinds, &types, &d.Webhook, &at)
	switch {
	case err != nil:
		return d, fmt.Errorf("reading a department: %w", err)
	case !found:
		return d, record.Refuse(lifecycle.NotFound, "there is no such department", "id")
	case at != version:
		return d, movedOn(at)
	}
	if err := errors.Join(json.Unmarshal(kinds, &d.Kinds), json.Unmarshal(types, &d.Types)); err != nil {
		return d, err
	}
	// Who has left since is left out, so that others can still be changed.
	err = store.Build(tx).Add(`SELECT m.user_id FROM department_members m JOIN users u ON u.id = m.user_id WHERE m.department_id = ? AND u.active = ? ORDER BY m.user_id`, id, true).Query(ctx, tx, func(row store.Row) error {
		var user gid.ID
		err := row.Scan(&user)
		d.Members = append(d.Members, user)
		return err
	})
	return d, err
}

// UpdateDepartment changes a department that the actor saw at a version.
func (s *Service) UpdateDepartment(ctx context.Context, id gid.ID, version int, update func(*Department) error) error {
	return s.change(ctx, authz.AlertEdit, objectAlert, "DEPARTMENT_UPDATE", func(ctx context.Context, tx *store.Tx, a *actor.Actor) (map[string]any, error) {
		d, err := lockDepartment(ctx, tx, a, id, version)
		if err != nil {
			return nil, err
		}
		members := slices.Clone(d.Members)
		if err := update(&d); err != nil {
			return nil, err
		}
		if err := errors.Join(d.check(ctx, tx, a), s.mayTellWebhook(ctx, a, &d)); err != nil {
			return nil, err
		}
		_, err = store.Build(tx).Add(`UPDATE departments SET name = ?, address = ?, kinds = ?, types = ?, webhook_id = ?, version = version + 1, updated_at = ? WHERE id = ?`,
			d.Name, d.Address, store.JSONStrings(d.kinds()), store.JSONStrings(d.types()), nullID(d.Webhook), tx.Now(), id).Exec(ctx, tx)
		if err == nil && !slices.Equal(members, d.Members) {
			err = setMembers(ctx, tx, id, d.Members)
		}
		if err != nil {
			return nil, fmt.Errorf("changing a department: %w", err)
		}
		return d.detail(id), nil
	})
}

// RemoveDepartment removes a department.
func (s *Service) RemoveDepartment(ctx context.Context, id gid.ID, version int) error {
	return s.change(ctx, authz.AlertEdit, objectAlert, "DEPARTMENT_REMOVE", func(ctx context.Context, tx *store.Tx, a *actor.Actor) (map[string]any, error) {
		if _, err := lockDepartment(ctx, tx, a, id, version); err != nil {
			return nil, err
		}
		for _, from := range []string{`DELETE FROM department_members WHERE department_id = ?`, `DELETE FROM departments WHERE id = ?`} {
			if _, err := store.Build(tx).Add(from, id).Exec(ctx, tx); err != nil {
				return nil, fmt.Errorf("removing a department: %w", err)
			}
		}
		return map[string]any{"department": id.String()}, nil
	})
}

// Members lists the members of departments.
func (s *Service) Members(ctx context.Context, departments []gid.ID) (map[gid.ID][]gid.ID, error) {
	out := map[gid.ID][]gid.ID{}
	q := s.querier(ctx)
	err := store.Build(q).Add(`SELECT department_id, user_id FROM department_members WHERE `).IDs("department_id", departments).Add(` ORDER BY department_id, user_id`).Query(ctx, q, func(row store.Row) error {
		var department, user gid.ID
		err := row.Scan(&department, &user)
		out[department] = append(out[department], user)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading members: %w", err)
	}
	return out, nil
}

func (s *Service) querier(ctx context.Context) store.Querier {
	if tx := store.TxFrom(ctx); tx != nil {
		return tx
	}
	return s.DB
}
