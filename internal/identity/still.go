package identity

import (
	"context"
	"fmt"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// Still answers for each of some actors who have come in, in their order, who he is
// by now: in the teams that he is in now, and nil if his credential or he himself is
// no longer good. It takes three statements, however many they are.
func (s *Service) Still(ctx context.Context, actors []*actor.Actor) ([]*actor.Actor, error) {
	users, held := map[gid.ID][]gid.ID{}, map[gid.ID]bool{} // the teams of active users; credentials
	of := map[credentialKind][]gid.ID{}
	var ids []gid.ID
	now := s.db.Now()
	for _, a := range actors {
		ids = append(ids, a.User)
		switch {
		case !a.Expires.IsZero():
			held[a.Credential] = held[a.Credential] || a.Expires.After(now)
		case a.Kind == actor.Token:
			of[apiToken] = append(of[apiToken], a.Credential)
		default:
			of[session] = append(of[session], a.Credential)
		}
	}
	for kind, ids := range of {
		stmt := store.Build(s.db).Add("SELECT id FROM "+kind.table+" WHERE revoked_at IS NULL AND expires_at > ? AND ", now).IDs("id", ids)
		if kind == session {
			stmt.Add(" AND COALESCE(used_at, created_at) > ?", now.Add(-SessionIdle))
		}
		err := stmt.Query(ctx, s.db, func(row store.Row) error {
			var id gid.ID
			err := row.Scan(&id)
			held[id] = true
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("looking for credentials: %w", err)
		}
	}
	err := store.Build(s.db).Add("SELECT u.id, ut.team_id FROM users u LEFT JOIN user_teams ut ON ut.user_id = u.id WHERE u.active = ? AND ", true).IDs("u.id", ids).
		Add(" ORDER BY u.id, ut.team_id").Query(ctx, s.db, func(row store.Row) error {
		var user, team gid.ID
		if err := row.Scan(&user, &team); err != nil {
			return err
		}
		teams := users[user]
		if teams == nil {
			teams = []gid.ID{}
		}
		if !team.IsZero() {
			teams = append(teams, team)
		}
		users[user] = teams
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for users: %w", err)
	}
	out := make([]*actor.Actor, len(actors))
	for i, a := range actors {
		if teams, active := users[a.User]; active && held[a.Credential] {
			as := *a
			as.Teams = teams
			out[i] = &as
		}
	}
	return out, nil
}
