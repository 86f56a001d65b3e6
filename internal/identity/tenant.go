package identity

import (
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/policy"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// maxName is how many characters the name of a tenant, a user or a team may have.
const maxName = 64

// checkName answers why a name cannot be one.
func checkName(kind, name string) error {
	switch {
	case name == "" || strings.TrimSpace(name) != name:
		return fmt.Errorf("the name of a %s is empty or has space around it: %w", kind, ErrInvalid)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("the name of a %s has control characters or is no UTF-8: %w", kind, ErrInvalid)
	case utf8.RuneCountInString(name) > maxName:
		return fmt.Errorf("the name of a %s has more than %d characters: %w", kind, maxName, ErrInvalid)
	}
	return nil
}

// CreateTenant adds a tenant that has the default policy and nobody in it.
func (s *Service) CreateTenant(ctx context.Context, name string) (gid.ID, error) {
	if err := checkName("tenant", name); err != nil {
		return gid.Nil, err
	}
	id := gid.New(gid.Tenant)
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		if _, err := store.Build(tx).Add("INSERT INTO tenants (id, name, created_at) VALUES (?, ?, ?)", id, name, tx.Now()).Exec(ctx, tx); err != nil {
			return taken(err, "tenant %q", name)
		}
		if err := policy.Create(ctx, tx, id); err != nil {
			return err
		}
		if err := record.SeedRules(ctx, tx, id); err != nil {
			return err
		}
		return s.record(ctx, tx, id, actionTenantCreate, map[string]any{"tenant": id})
	})
	if err != nil {
		return gid.Nil, fmt.Errorf("creating a tenant: %w", err)
	}
	return id, nil
}

// TenantByName finds a tenant, or answers ErrNotFound.
func (s *Service) TenantByName(ctx context.Context, name string) (gid.ID, error) {
	var id gid.ID
	ok, err := store.Build(s.db).Add("SELECT id FROM tenants WHERE name = ?", name).One(ctx, s.querier(ctx), &id)
	switch {
	case err != nil:
		return gid.Nil, fmt.Errorf("looking for a tenant: %w", err)
	case !ok:
		return gid.Nil, fmt.Errorf("tenant %q: %w", name, ErrNotFound)
	}
	return id, nil
}

// querier is the transaction of the context, or the database.
func (s *Service) querier(ctx context.Context) store.Querier {
	if tx := store.TxFrom(ctx); tx != nil {
		return tx
	}
	return s.db
}
