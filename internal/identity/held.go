package identity

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// Token is a bearer token that holds.
type Token struct {
	ID         gid.ID
	Name       *string
	CreatedAt  time.Time
	LastUsedAt *time.Time
	ExpiresAt  time.Time
}

// Session is a browser that is signed in.
type Session struct {
	ID         gid.ID
	CreatedAt  time.Time
	LastUsedAt *time.Time
	ExpiresAt  time.Time
}

// maxHeld is how many credentials of a user are listed.
const maxHeld = 100

// Tokens lists, by user, the tokens that hold, newest first, up to 100 each. It
// sends one statement for any number of users.
func (s *Service) Tokens(ctx context.Context, tenant gid.ID, users []gid.ID) (map[gid.ID][]*Token, error) {
	out := map[gid.ID][]*Token{}
	err := s.held(ctx, apiToken, "c.name", tenant, users, func(user gid.ID, h held) {
		t := &Token{h.id, nil, h.created, h.lastUsed(), h.expires}
		if h.name.Valid {
			t.Name = &h.name.String
		}
		out[user] = append(out[user], t)
	})
	return out, err
}

// Sessions lists, by user, the sessions that hold, newest first, up to 100 each.
// It sends one statement for any number of users.
func (s *Service) Sessions(ctx context.Context, tenant gid.ID, users []gid.ID) (map[gid.ID][]*Session, error) {
	out := map[gid.ID][]*Session{}
	err := s.held(ctx, session, "NULL", tenant, users, func(user gid.ID, h held) {
		out[user] = append(out[user], &Session{h.id, h.created, h.lastUsed(), h.expires})
	})
	return out, err
}

// held is a row of a credential that holds.
type held struct {
	id               gid.ID
	name             sql.NullString
	created, expires time.Time
	used             sql.NullTime
}

func (h held) lastUsed() *time.Time {
	if !h.used.Valid {
		return nil
	}
	return &h.used.Time
}

func (s *Service) held(ctx context.Context, kind credentialKind, name string, tenant gid.ID, users []gid.ID, found func(gid.ID, held)) error {
	q, now := s.querier(ctx), s.db.Now()
	inner := store.Build(q).Add("SELECT user_id, id, name, created_at, used_at, expires_at FROM (SELECT c.user_id, c.id, "+name+" AS name, c.created_at, c.used_at, c.expires_at,"+
		" ROW_NUMBER() OVER (PARTITION BY c.user_id ORDER BY c.id DESC) AS place FROM "+kind.table+" c WHERE c.tenant_id = ? AND c.revoked_at IS NULL AND c.expires_at > ?", tenant, now)
	if kind == session {
		inner.Add(" AND COALESCE(c.used_at, c.created_at) > ?", now.Add(-SessionIdle))
	}
	err := inner.Add(" AND ").IDs("c.user_id", users).Add(") h WHERE place <= ? ORDER BY user_id, id DESC", maxHeld).Query(ctx, q, func(rows store.Row) error {
		var user gid.ID
		var h held
		if err := rows.Scan(&user, &h.id, &h.name, &h.created, &h.used, &h.expires); err != nil {
			return err
		}
		found(user, h)
		return nil
	})
	if err != nil {
		return fmt.Errorf("listing credentials: %w", err)
	}
	return nil
}
