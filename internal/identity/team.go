package identity

import (
	"context"
	"fmt"
	"slices"

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

// CreateUserIn is CreateUser with teams that are there already. One that is not
// is ErrNotFound.
func (s *Service) CreateUserIn(ctx context.Context, tenant gid.ID, email, name string, teams []gid.ID) (gid.ID, error) {
	var id gid.ID
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		if id, err = s.CreateUser(ctx, tenant, email, name, nil); err != nil || len(teams) == 0 {
			return err
		}
		var once []gid.ID
		for _, team := range teams {
			if !slices.Contains(once, team) {
				once = append(once, team)
			}
		}
		n, err := store.Build(tx).Add("INSERT INTO user_teams (user_id, team_id) SELECT u.id, t.id FROM users u JOIN teams t ON t.tenant_id = u.tenant_id"+
			" WHERE u.id = ? AND u.tenant_id = ? AND ", id, tenant).IDs("t.id", once).Exec(ctx, tx)
		if err != nil {
			return err
		}
		if int(n) != len(once) {
			return fmt.Errorf("a team: %w", ErrNotFound)
		}
		return s.record(ctx, tx, tenant, actionTeamJoin, map[string]any{"user": id, "teams": once})
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
