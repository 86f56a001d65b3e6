package identity

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// Naming is by what somebody else names a user of ours.
type Naming string

// The namings. Each is unique within a tenant.
const (
	ByEmail   Naming = "email"
	BySubject Naming = "external_subject"
)

// Named is the active user of a tenant whom somebody else names, whose word is to
// be trusted: whoever asks has checked it. Without such a tenant and user it
// answers ErrUnauthenticated. It sends one statement, and once a minute another.
func (s *Service) Named(ctx context.Context, tenant string, by Naming, name string) (*actor.Actor, error) {
	column, key := "u.external_subject", name
	if by == ByEmail {
		column, key = "u.email_key", emailKey(name)
	}
	var a *actor.Actor
	var seen sql.NullTime
	now := s.db.Now()
	err := store.Build(s.db).Add("SELECT t.id, t.name, u.id, u.email, u.last_seen_at, ut.team_id FROM tenants t JOIN users u ON u.tenant_id = t.id"+
		" LEFT JOIN user_teams ut ON ut.user_id = u.id WHERE t.name = ? AND "+column+" = ? AND u.active = ? ORDER BY ut.team_id", tenant, key, true).
		Query(ctx, s.db, func(rows store.Row) error {
			row, team, email := actor.Actor{Kind: actor.Token}, gid.Nil, ""
			if err := rows.Scan(&row.Tenant, &row.TenantName, &row.User, &email, &seen, &team); err != nil {
				return err
			}
			if by == ByEmail && lowerASCII(email) != lowerASCII(name) {
				return nil
			}
			if a == nil {
				a = &row
			}
			if !team.IsZero() {
				a.Teams = append(a.Teams, team)
			}
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("looking for a user by %s: %w", by, err)
	}
	if a == nil {
		return nil, ErrUnauthenticated
	}
	if isDue(seen, now) {
		s.stamp(ctx, "users", "last_seen_at", a.User, now)
	}
	return a, nil
}

// lowerASCII folds what every mail system folds, and nothing else. Keys fold
// more, so that people find each other; two mailboxes elsewhere that differ in
// that are two people.
func lowerASCII(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' {
			return c - 'A' + 'a'
		}
		return c
	}, s)
}
