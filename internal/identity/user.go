package identity

import (
	"context"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// User is a person who may sign in to a tenant.
type User struct {
	ID     gid.ID
	Tenant gid.ID
	Email  string
	Name   string
	Active bool
}

// maxEmail is RFC 5321's limit on a path, without its angle brackets.
const maxEmail = 254

// CreateUser adds an active user, without any role, to a tenant and to teams,
// which are made where they are missing.
func (s *Service) CreateUser(ctx context.Context, tenant gid.ID, email, name string, teams []string) (gid.ID, error) {
	if err := checkEmail(email); err != nil {
		return gid.Nil, err
	}
	if err := checkName("user", name); err != nil {
		return gid.Nil, err
	}
	id := gid.New(gid.User)
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		if err := requireTenant(ctx, tx, tenant); err != nil {
			return err
		}
		if _, err := store.Build(tx).Add("INSERT INTO users (id, tenant_id, email, email_key, name, active, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
			id, tenant, email, emailKey(email), name, true, tx.Now()).Exec(ctx, tx); err != nil {
			return taken(err, "user %q", email)
		}
		if err := s.record(ctx, tx, tenant, actionUserCreate, map[string]any{"user": id}); err != nil {
			return err
		}
		for _, name := range teams {
			team, err := s.EnsureTeam(ctx, tenant, name)
			if err != nil {
				return err
			}
			if err := s.AddToTeam(ctx, tenant, id, team); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return gid.Nil, fmt.Errorf("creating a user: %w", err)
	}
	return id, nil
}

func checkEmail(email string) error {
	if a, err := mail.ParseAddress(email); err != nil || a.Address != email || len(email) > maxEmail {
		return fmt.Errorf("%q is no e-mail address: %w", email, ErrInvalid)
	}
	return nil
}

// maxSubject is what OpenID Connect Core 1.0 §2 allows, in ASCII characters.
const maxSubject = 255

func checkSubject(subject string) error {
	if len(subject) > maxSubject || strings.TrimSpace(subject) != subject || !utf8.ValidString(subject) || strings.ContainsFunc(subject, unicode.IsControl) {
		return fmt.Errorf("a subject has up to %d bytes, none of them control characters, and no space around it: %w", maxSubject, ErrInvalid)
	}
	return nil
}

func emailKey(email string) string { return record.Fold(email, lifecycle.FoldEmail) }

func requireTenant(ctx context.Context, tx *store.Tx, tenant gid.ID) error {
	var one int
	ok, err := store.Build(tx).Add("SELECT 1 FROM tenants WHERE id = ?", tenant).ForShare().One(ctx, tx, &one)
	if err == nil && !ok {
		err = fmt.Errorf("tenant %s: %w", tenant, ErrNotFound)
	}
	return err
}

// UserByEmail finds a user of a tenant, active or not, however the address is
// spelled in upper and lower case. Without one it answers ErrNotFound.
func (s *Service) UserByEmail(ctx context.Context, tenant gid.ID, email string) (User, error) {
	u := User{Tenant: tenant}
	ok, err := store.Build(s.db).Add("SELECT id, email, name, active FROM users WHERE tenant_id = ? AND email_key = ?", tenant, emailKey(email)).
		One(ctx, s.querier(ctx), &u.ID, &u.Email, &u.Name, &u.Active)
	switch {
	case err != nil:
		return User{}, fmt.Errorf("looking for a user: %w", err)
	case !ok:
		return User{}, fmt.Errorf("user %q: %w", email, ErrNotFound)
	}
	return u, nil
}

// ActivateUser lets a user in again. He needs new credentials of Lethe's; by a
// token of an OpenID Connect issuer he comes in at once, with all he may do.
func (s *Service) ActivateUser(ctx context.Context, tenant, user gid.ID) error {
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		if changed, err := setActive(ctx, tx, tenant, user, true); err != nil || !changed {
			return err
		}
		return s.record(ctx, tx, tenant, actionUserActivate, map[string]any{"user": user})
	})
	if err != nil {
		return fmt.Errorf("activating a user: %w", err)
	}
	return nil
}

// DeactivateUser keeps a user out from his next request on, and revokes all he
// could come in with. The last one who can edit the policy is kept: ErrLockout.
func (s *Service) DeactivateUser(ctx context.Context, tenant, user gid.ID) error {
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		// The lock comes first, as in GrantRole and RevokeRole: of two admins who
		// deactivate each other, one is refused.
		editors, err := s.policies.LockEditors(ctx, tx, tenant)
		if err != nil {
			return err
		}
		if slices.Equal(editors, []gid.ID{user}) {
			return ErrLockout
		}
		if changed, err := setActive(ctx, tx, tenant, user, false); err != nil || !changed {
			return err
		}
		for _, table := range []string{"api_tokens", "sessions", "sign_in_links"} {
			if _, err := store.Build(tx).Add("UPDATE "+table+" SET revoked_at = ? WHERE user_id = ? AND revoked_at IS NULL", tx.Now(), user).Exec(ctx, tx); err != nil {
				return err
			}
		}
		return s.record(ctx, tx, tenant, actionUserDeactivate, map[string]any{"user": user})
	})
	if err != nil {
		return fmt.Errorf("deactivating a user: %w", err)
	}
	return nil
}

// setActive reports whether the user was not as wanted before.
func setActive(ctx context.Context, tx *store.Tx, tenant, user gid.ID, active bool) (changed bool, err error) {
	n, err := store.Build(tx).Add("UPDATE users SET active = ?, version = version + 1 WHERE id = ? AND tenant_id = ? AND active <> ?", active, user, tenant, active).Exec(ctx, tx)
	if err != nil || n > 0 {
		return n > 0, err
	}
	_, err = userIn(ctx, tx, tenant, user)
	return false, err
}

// userIn reports whether a user of the tenant is active, and keeps that so until
// the transaction ends.
func userIn(ctx context.Context, tx *store.Tx, tenant, user gid.ID) (active bool, err error) {
	ok, err := store.Build(tx).Add("SELECT active FROM users WHERE id = ? AND tenant_id = ?", user, tenant).ForShare().One(ctx, tx, &active)
	if err == nil && !ok {
		err = fmt.Errorf("user %s: %w", user, ErrNotFound)
	}
	return active, err
}

func requireActive(ctx context.Context, tx *store.Tx, tenant, user gid.ID) error {
	active, err := userIn(ctx, tx, tenant, user)
	if err == nil && !active {
		err = fmt.Errorf("user %s: %w", user, ErrInactive)
	}
	return err
}

// EnsureTeam finds a team by its name, or makes it.
func (s *Service) EnsureTeam(ctx context.Context, tenant gid.ID, name string) (gid.ID, error) {
	if err := checkName("team", name); err != nil {
		return gid.Nil, err
	}
	var id gid.ID
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		if err := requireTenant(ctx, tx, tenant); err != nil {
			return err
		}
		fresh := gid.New(gid.Team)
		n, err := store.Build(tx).Add("INSERT INTO teams (id, tenant_id, name) VALUES (?, ?, ?) ON CONFLICT (tenant_id, name) DO NOTHING", fresh, tenant, name).Exec(ctx, tx)
		if err != nil {
			return err
		}
		if n > 0 {
			id = fresh
			return s.record(ctx, tx, tenant, actionTeamCreate, map[string]any{"team": id})
		}
		_, err = store.Build(tx).Add("SELECT id FROM teams WHERE tenant_id = ? AND name = ?", tenant, name).One(ctx, tx, &id)
		return err
	})
	if err != nil {
		return gid.Nil, fmt.Errorf("making a team: %w", err)
	}
	return id, nil
}

// AddToTeam puts a user into a team. Being in it already is no error.
func (s *Service) AddToTeam(ctx context.Context, tenant, user, team gid.ID) error {
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		if _, err := userIn(ctx, tx, tenant, user); err != nil {
			return err
		}
		var one int
		if ok, err := store.Build(tx).Add("SELECT 1 FROM teams WHERE id = ? AND tenant_id = ?", team, tenant).One(ctx, tx, &one); err != nil || !ok {
			if err == nil {
				err = fmt.Errorf("team %s: %w", team, ErrNotFound)
			}
			return err
		}
		n, err := store.Build(tx).Add("INSERT INTO user_teams (user_id, team_id) VALUES (?, ?) ON CONFLICT (user_id, team_id) DO NOTHING", user, team).Exec(ctx, tx)
		if err != nil || n == 0 {
			return err
		}
		return s.record(ctx, tx, tenant, actionTeamJoin, map[string]any{"user": user, "team": team})
	})
	if err != nil {
		return fmt.Errorf("adding to a team: %w", err)
	}
	return nil
}
