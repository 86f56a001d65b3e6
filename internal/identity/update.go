package identity

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// UserChange is what is to change of a user; what is nil stays.
type UserChange struct {
	Email, Name *string
	// Subject is what an issuer calls him; empty for nothing.
	Subject *string
	// Teams are all he is to be in.
	Teams *[]gid.ID
}

// ConflictError refuses a change of a version that is not the last any more.
type ConflictError struct{ Version int }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("it is at version %d", e.Version)
}

// UpdateUser changes a user of a version; of another it answers ConflictError.
// What is already as it should be is no change.
func (s *Service) UpdateUser(ctx context.Context, tenant, user gid.ID, version int, change UserChange) error {
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		var was struct {
			email, name string
			subject     sql.NullString
			version     int
		}
		ok, err := store.Build(tx).Add("SELECT email, name, external_subject, version FROM users WHERE id = ? AND tenant_id = ?", user, tenant).
			ForNoKeyUpdate().One(ctx, tx, &was.email, &was.name, &was.subject, &was.version)
		switch {
		case err != nil:
			return err
		case !ok:
			return fmt.Errorf("user %s: %w", user, ErrNotFound)
		case was.version != version:
			return &ConflictError{was.version}
		}
		set := map[string]any{}
		if change.Email != nil && *change.Email != was.email {
			if err := checkEmail(*change.Email); err != nil {
				return err
			}
			set["email"], set["email_key"] = *change.Email, emailKey(*change.Email)
		}
		if change.Name != nil && *change.Name != was.name {
			if err := checkName("user", *change.Name); err != nil {
				return err
			}
			set["name"] = *change.Name
		}
		if change.Subject != nil && *change.Subject != was.subject.String {
			if err := checkSubject(*change.Subject); err != nil {
				return err
			}
			set["external_subject"] = subject(*change.Subject)
		}
		changed := slices.Sorted(maps.Keys(set))
		if change.Teams != nil {
			moved, err := s.setTeams(ctx, tx, tenant, user, *change.Teams)
			if err != nil {
				return err
			}
			if moved {
				changed = append(changed, "teams")
			}
		}
		if len(changed) == 0 {
			return nil
		}
		update := store.Build(tx).Add("UPDATE users SET version = version + 1")
		for _, column := range slices.Sorted(maps.Keys(set)) {
			update.Add(", "+column+" = ?", set[column])
		}
		if _, err := update.Add(" WHERE id = ?", user).Exec(ctx, tx); err != nil {
			return taken(err, "a user")
		}
		changed = slices.DeleteFunc(changed, func(column string) bool { return column == "email_key" })
		return s.record(ctx, tx, tenant, actionUserUpdate, map[string]any{"user": user, "version": version + 1, "changed": changed})
	})
	if err != nil {
		return fmt.Errorf("updating a user: %w", err)
	}
	return nil
}

// subject is what the column holds: null is nobody's, and so is not unique.
func subject(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// TeamsOf lists the teams of a user of the tenant; none if he is not there.
func (s *Service) TeamsOf(ctx context.Context, tenant, user gid.ID) ([]gid.ID, error) {
	return teamsOf(ctx, s.querier(ctx), tenant, user)
}

func teamsOf(ctx context.Context, q store.Querier, tenant, user gid.ID) ([]gid.ID, error) {
	var teams []gid.ID
	err := store.Build(q).Add("SELECT ut.team_id FROM user_teams ut JOIN users u ON u.id = ut.user_id WHERE u.id = ? AND u.tenant_id = ? ORDER BY ut.team_id", user, tenant).
		Query(ctx, q, func(rows store.Row) error {
			var team gid.ID
			err := rows.Scan(&team)
			teams = append(teams, team)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("listing the teams of a user: %w", err)
	}
	return teams, nil
}

// setTeams makes these the teams of a user, and reports whether they were not.
func (s *Service) setTeams(ctx context.Context, tx *store.Tx, tenant, user gid.ID, teams []gid.ID) (moved bool, err error) {
	was, err := teamsOf(ctx, tx, tenant, user)
	if err != nil {
		return false, err
	}
	if left := without(was, teams); len(left) > 0 {
		if _, err := store.Build(tx).Add("DELETE FROM user_teams WHERE user_id = ? AND ", user).IDs("team_id", left).Exec(ctx, tx); err != nil {
			return false, err
		}
		if err := s.record(ctx, tx, tenant, actionTeamLeave, map[string]any{"user": user, "teams": left}); err != nil {
			return false, err
		}
		moved = true
	}
	if joined := without(teams, was); len(joined) > 0 {
		if err := s.join(ctx, tx, tenant, user, joined); err != nil {
			return false, err
		}
		moved = true
	}
	return moved, nil
}

// without lists the ids of one list that are not in another, each once.
func without(list, others []gid.ID) (out []gid.ID) {
	for _, id := range list {
		if !slices.Contains(others, id) && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// join puts a user into teams, each named once. One that is not there is
// ErrNotFound.
func (s *Service) join(ctx context.Context, tx *store.Tx, tenant, user gid.ID, teams []gid.ID) error {
	n, err := store.Build(tx).Add("INSERT INTO user_teams (user_id, team_id) SELECT u.id, t.id FROM users u JOIN teams t ON t.tenant_id = u.tenant_id"+
		" WHERE u.id = ? AND u.tenant_id = ? AND ", user, tenant).IDs("t.id", teams).Exec(ctx, tx)
	if err != nil {
		return err
	}
	if int(n) != len(teams) {
		return fmt.Errorf("a team: %w", ErrNotFound)
	}
	return s.record(ctx, tx, tenant, actionTeamJoin, map[string]any{"user": user, "teams": teams})
}

// RenameTeam gives a team another name. One that is taken is ErrExists.
func (s *Service) RenameTeam(ctx context.Context, tenant, team gid.ID, name string) error {
	if err := checkName("team", name); err != nil {
		return err
	}
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		var was string
		ok, err := store.Build(tx).Add("SELECT name FROM teams WHERE id = ? AND tenant_id = ?", team, tenant).ForNoKeyUpdate().One(ctx, tx, &was)
		switch {
		case err != nil:
			return err
		case !ok:
			return fmt.Errorf("team %s: %w", team, ErrNotFound)
		case was == name:
			return nil
		}
		if _, err := store.Build(tx).Add("UPDATE teams SET name = ? WHERE id = ?", name, team).Exec(ctx, tx); err != nil {
			return taken(err, "team %q", name)
		}
		return s.record(ctx, tx, tenant, actionTeamRename, map[string]any{"team": team})
	})
	if err != nil {
		return fmt.Errorf("renaming a team: %w", err)
	}
	return nil
}
