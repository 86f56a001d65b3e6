package identity

import (
	"context"
	"fmt"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// CreateTeam makes a team. A name that is taken is ErrExists.
func (s *Service) CreateTeam(ctx context.Context, tenant gid.ID, name string) (gid.ID, error) {
	if err := checkName("team", name); err != nil {
		return gid.Nil, err
	}
	id := gid.New(gid.Team)
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		if err := requireTenant(ctx, tx, tenant); err != nil {
			return err
		}
		if _, err := store.Build(tx).Add("INSERT INTO teams (id, tenant_id, name) VALUES (?, ?, ?)", id, tenant, name).Exec(ctx, tx); err != nil {
			return taken(err, "team %q", name)
		}
		return s.record(ctx, tx, tenant, actionTeamCreate, map[string]any{"team": id})
	})
	if err != nil {
		return gid.Nil, fmt.Errorf("creating a team: %w", err)
	}
	return id, nil
}

// NewUser is a user to be made.
type NewUser struct {
	Email, Name string
	// Subject is what an issuer calls him; empty for nothing.
	Subject string
	// Teams are there already. One that is not is ErrNotFound.
	Teams []gid.ID
}

// CreateUserIn is CreateUser with teams that are there already.
func (s *Service) CreateUserIn(ctx context.Context, tenant gid.ID, user NewUser) (gid.ID, error) {
	if err := checkSubject(user.Subject); err != nil {
		return gid.Nil, err
	}
	var id gid.ID
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		if id, err = s.CreateUser(ctx, tenant, user.Email, user.Name, nil); err != nil {
			return err
		}
		if user.Subject != "" {
			if _, err := store.Build(tx).Add("UPDATE users SET external_subject = ? WHERE id = ?", user.Subject, id).Exec(ctx, tx); err != nil {
				return taken(err, "the subject of a user")
			}
		}
		if len(user.Teams) == 0 {
			return nil
		}
		return s.join(ctx, tx, tenant, id, without(user.Teams, nil))
	})
	return id, err
}

// CredentialUser is whose token or session it is. Without one it answers
// ErrNotFound.
func (s *Service) CredentialUser(ctx context.Context, tenant, id gid.ID) (gid.ID, error) {
	kind := apiToken
	if id.Type() == session.id {
		kind = session
	}
	var user gid.ID
	ok, err := store.Build(s.db).Add("SELECT user_id FROM "+kind.table+" WHERE id = ? AND tenant_id = ?", id, tenant).One(ctx, s.querier(ctx), &user)
	if err == nil && !ok {
		err = ErrNotFound
	}
	if err != nil {
		return gid.Nil, fmt.Errorf("looking for a credential: %w", err)
	}
	return user, nil
}
