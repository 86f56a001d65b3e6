package main

import (
	"context"
	"crypto/sha256"
	"time"
)

// stampEvery is how exact it is kept when a token was used, as in Lethe.
const stampEvery = time.Minute

const authenticateSQL = `SELECT c.id, c.tenant_id, c.user_id, c.used_at, ut.team_id FROM api_tokens c
	JOIN users u ON u.id = c.user_id AND u.tenant_id = c.tenant_id
	LEFT JOIN user_teams ut ON ut.user_id = c.user_id
	WHERE c.hash = $1 AND c.revoked_at IS NULL AND c.expires_at > $2 AND u.active
	ORDER BY ut.team_id`

// authenticate finds the caller by the hash of his token, with his teams.
func (h *handler) authenticate(ctx context.Context, secret string) (*caller, error) {
	sum := sha256.Sum256([]byte(secret))
	now := moment()
	var c *caller
	err := h.db.run(ctx, step{sql: authenticateSQL, args: []any{sum[:], now}, each: func(scan scanner) error {
		var row caller
		var team ref
		var used *time.Time
		if err := scan(&row.token, &row.tenant, &row.user, &used, &team); err != nil {
			return err
		}
		if c == nil {
			c = &row
			if used != nil {
				c.used = *used
			}
		}
		if !team.zero() {
			c.teams = append(c.teams, team)
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, &problem{"UNAUTHENTICATED", "not signed in"}
	}
	if now.Sub(c.used) > stampEvery {
		err = h.db.run(ctx, step{sql: `UPDATE api_tokens SET used_at = $1 WHERE id = $2`, args: []any{now, c.token}, write: true})
	}
	return c, err
}

// moment is now, to the microsecond, which is what databases keep.
func moment() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
