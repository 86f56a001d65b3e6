package identity

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/store"
)

// What Bootstrap makes.
const (
	DefaultTenant = "default"
	DefaultTeam   = "Everyone"
	DefaultAdmin  = "admin@localhost"
)

// Bootstrap makes the first tenant of an empty database, with one admin, and
// returns a sign-in link for him. Where there is a tenant it does nothing and
// the link is empty.
func (s *Service) Bootstrap(ctx context.Context) (Credential, error) {
	var link Credential
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		var tenants int
		if _, err := store.Build(tx).Add("SELECT count(*) FROM tenants").One(ctx, tx, &tenants); err != nil || tenants > 0 {
			return err
		}
		tenant, err := s.CreateTenant(ctx, DefaultTenant)
		if err != nil {
			return err
		}
		admin, err := s.CreateUser(ctx, tenant, DefaultAdmin, "Administrator", []string{DefaultTeam})
		if err != nil {
			return err
		}
		if err := s.GrantRole(ctx, tenant, admin, casbin.Admin); err != nil {
			return err
		}
		link, err = s.CreateLink(ctx, tenant, admin, MaxLinkTTL)
		return err
	})
	if errors.Is(err, ErrExists) { // another replica was faster
		return Credential{}, nil
	}
	if err != nil {
		return Credential{}, fmt.Errorf("setting up an empty database: %w", err)
	}
	return link, nil
}

// keyCheck is the row of secrets that says which key the database is written with.
const keyCheck = "key-check"

// HasKey reports whether the database was written with some key already, so
// that making a new one could only be a mistake.
func HasKey(ctx context.Context, db *store.DB) (bool, error) {
	var one int
	ok, err := store.Build(db).Add("SELECT 1 FROM secrets WHERE name = ?", keyCheck).One(ctx, db, &one)
	if err != nil {
		return false, fmt.Errorf("looking for the key check: %w", err)
	}
	return ok, nil
}

// CheckKey answers ErrWrongKey when the database was written with other keys
// than these. To a database without a key these become its keys.
func CheckKey(ctx context.Context, db *store.DB, keys *audit.Keys) error {
	check, err := keys.Check()
	if err != nil {
		return fmt.Errorf("computing the key check: %w", err)
	}
	has, err := HasKey(ctx, db)
	if err != nil {
		return err
	}
	if !has {
		if _, err := store.Build(db).Add("INSERT INTO secrets (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", keyCheck, check).Exec(ctx, db); err != nil {
			return fmt.Errorf("storing the key check: %w", err)
		}
	}
	var stored []byte
	if _, err := store.Build(db).Add("SELECT value FROM secrets WHERE name = ?", keyCheck).One(ctx, db, &stored); err != nil {
		return fmt.Errorf("reading the key check: %w", err)
	}
	if subtle.ConstantTimeCompare(stored, check) != 1 {
		return ErrWrongKey
	}
	return nil
}
