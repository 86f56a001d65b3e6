package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// How long credentials hold.
const (
	// MaxTokenTTL bounds what a forgotten token can do.
	MaxTokenTTL = 366 * 24 * time.Hour
	MinLinkTTL  = 15 * time.Minute
	MaxLinkTTL  = 24 * time.Hour
	// SessionTTL is from signing in, SessionIdle from the last request.
	SessionTTL  = 30 * 24 * time.Hour
	SessionIdle = 7 * 24 * time.Hour
	// stampEvery is how exact used_at and last_seen_at are: stamping every
	// request would make each of them a write.
	stampEvery = time.Minute
)

// Credential is a token, session or sign-in link just made. Its secret cannot
// be had again: the database keeps a hash.
type Credential struct {
	ID        gid.ID    `json:"id"`
	Secret    string    `json:"secret"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// credentialKind is a table of credentials. A secret begins with its prefix, so
// that the table is known without a look-up and scanners of leaked secrets
// recognise it. No prefix is the beginning of another.
type credentialKind struct {
	table  string
	prefix string
	id     gid.Type
	actor  actor.Kind
}

var (
	apiToken   = credentialKind{"api_tokens", "lethe_", gid.Token, actor.Token}
	session    = credentialKind{"sessions", "lethesession_", gid.Session, actor.User}
	signInLink = credentialKind{"sign_in_links", "lethelink_", gid.SignInLink, actor.User}
)

// secretSize is in bytes. At 256 random bits a plain SHA-256 is as good a hash
// as any: there is nothing to guess.
const secretSize = 32

func hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// issue makes a credential of an active user.
func issue(ctx context.Context, tx *store.Tx, kind credentialKind, tenant, user gid.ID, ttl time.Duration) (Credential, error) {
	if err := requireActive(ctx, tx, tenant, user); err != nil {
		return Credential{}, err
	}
	raw := make([]byte, secretSize)
	if _, err := rand.Read(raw); err != nil {
		return Credential{}, fmt.Errorf("drawing a secret: %w", err)
	}
	c := Credential{gid.New(kind.id), kind.prefix + base64.RawURLEncoding.EncodeToString(raw), tx.Now().Add(ttl)}
	_, err := store.Build(tx).Add("INSERT INTO "+kind.table+" (id, tenant_id, user_id, hash, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
		c.ID, tenant, user, hash(c.Secret), tx.Now(), c.ExpiresAt).Exec(ctx, tx)
	return c, err
}

// CreateToken makes a bearer token that acts as a user.
func (s *Service) CreateToken(ctx context.Context, tenant, user gid.ID, ttl time.Duration) (Credential, error) {
	if ttl <= 0 || ttl > MaxTokenTTL {
		return Credential{}, fmt.Errorf("a token holds for up to %s, not %s: %w", MaxTokenTTL, ttl, ErrInvalid)
	}
	return s.create(ctx, apiToken, tenant, user, ttl, actionTokenCreate, "token")
}

// CreateNamedToken is CreateToken with what the token is for.
func (s *Service) CreateNamedToken(ctx context.Context, tenant, user gid.ID, ttl time.Duration, name string) (Credential, error) {
	if err := checkName("token", name); err != nil {
		return Credential{}, err
	}
	var c Credential
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		if c, err = s.CreateToken(ctx, tenant, user, ttl); err != nil {
			return err
		}
		_, err = store.Build(tx).Add("UPDATE api_tokens SET name = ? WHERE id = ?", name, c.ID).Exec(ctx, tx)
		return err
	})
	return c, err
}

// CreateLink makes a link that signs a user in once.
func (s *Service) CreateLink(ctx context.Context, tenant, user gid.ID, ttl time.Duration) (Credential, error) {
	if ttl < MinLinkTTL || ttl > MaxLinkTTL {
		return Credential{}, fmt.Errorf("a sign-in link holds for %s to %s, not %s: %w", MinLinkTTL, MaxLinkTTL, ttl, ErrInvalid)
	}
	return s.create(ctx, signInLink, tenant, user, ttl, actionLinkCreate, "link")
}

func (s *Service) create(ctx context.Context, kind credentialKind, tenant, user gid.ID, ttl time.Duration, action, noun string) (Credential, error) {
	var c Credential
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		if c, err = issue(ctx, tx, kind, tenant, user, ttl); err != nil {
			return err
		}
		return s.record(ctx, tx, tenant, action, map[string]any{"user": user, noun: c.ID})
	})
	if err != nil {
		return Credential{}, fmt.Errorf("creating a %s: %w", noun, err)
	}
	return c, nil
}

// RedeemLink exchanges a link's secret for a session. Whoever comes second gets
// ErrUnauthenticated.
func (s *Service) RedeemLink(ctx context.Context, secret, requestID string) (Credential, error) {
	if !strings.HasPrefix(secret, signInLink.prefix) {
		return Credential{}, ErrUnauthenticated
	}
	var c Credential
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		var link, tenant, user gid.ID
		// The claim is one statement, so that of two redeemers one finds no row.
		ok, err := store.Build(tx).Add("UPDATE sign_in_links SET used_at = ? WHERE hash = ? AND used_at IS NULL AND revoked_at IS NULL AND expires_at > ? RETURNING id, tenant_id, user_id",
			tx.Now(), hash(secret), tx.Now()).One(ctx, tx, &link, &tenant, &user)
		if err != nil {
			return err
		}
		if !ok {
			return ErrUnauthenticated
		}
		if c, err = issue(ctx, tx, session, tenant, user, SessionTTL); errors.Is(err, ErrInactive) {
			return ErrUnauthenticated
		} else if err != nil {
			return err
		}
		ctx = actor.With(ctx, &actor.Actor{Kind: actor.User, Tenant: tenant, User: user, Credential: c.ID, RequestID: requestID})
		return s.record(ctx, tx, tenant, actionSignIn, map[string]any{"link": link, "session": c.ID})
	})
	if err != nil {
		return Credential{}, fmt.Errorf("signing in: %w", err)
	}
	return c, nil
}

// RevokeToken ends a token. Ending it twice is no error.
func (s *Service) RevokeToken(ctx context.Context, tenant, token gid.ID) error {
	return s.revoke(ctx, apiToken, tenant, token, actionTokenRevoke, "token")
}

// RevokeSession ends a session. Ending it twice is no error.
func (s *Service) RevokeSession(ctx context.Context, tenant, id gid.ID) error {
	return s.revoke(ctx, session, tenant, id, actionSignOut, "session")
}

func (s *Service) revoke(ctx context.Context, kind credentialKind, tenant, id gid.ID, action, noun string) error {
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		var user gid.ID
		ok, err := store.Build(tx).Add("SELECT user_id FROM "+kind.table+" WHERE id = ? AND tenant_id = ?", id, tenant).One(ctx, tx, &user)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%s %s: %w", noun, id, ErrNotFound)
		}
		n, err := store.Build(tx).Add("UPDATE "+kind.table+" SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", tx.Now(), id).Exec(ctx, tx)
		if err != nil || n == 0 {
			return err
		}
		return s.record(ctx, tx, tenant, action, map[string]any{"user": user, noun: id})
	})
	if err != nil {
		return fmt.Errorf("revoking a %s: %w", noun, err)
	}
	return nil
}

// Authenticate implements Authenticator for tokens and sessions. It sends one
// statement, and once a minute two more, which stamp the use of the credential
// and that the user was seen.
func (s *Service) Authenticate(ctx context.Context, secret string) (*actor.Actor, error) {
	kind, ok := kindOf(secret)
	if !ok {
		return nil, ErrUnauthenticated
	}
	now := s.db.Now()
	statement := store.Build(s.db).Add("SELECT c.id, c.tenant_id, t.name, c.user_id, c.used_at, u.last_seen_at, ut.team_id FROM "+kind.table+" c"+
		" JOIN users u ON u.id = c.user_id AND u.tenant_id = c.tenant_id"+
		" JOIN tenants t ON t.id = c.tenant_id"+
		" LEFT JOIN user_teams ut ON ut.user_id = c.user_id"+
		" WHERE c.hash = ? AND c.revoked_at IS NULL AND c.expires_at > ? AND u.active = ?", hash(secret), now, true)
	if kind == session {
		statement.Add(" AND COALESCE(c.used_at, c.created_at) > ?", now.Add(-SessionIdle))
	}
	var a *actor.Actor
	var used, seen sql.NullTime
	err := statement.Add(" ORDER BY ut.team_id").Query(ctx, s.db, func(rows store.Row) error {
		row, team := actor.Actor{Kind: kind.actor}, gid.Nil
		if err := rows.Scan(&row.Credential, &row.Tenant, &row.TenantName, &row.User, &used, &seen, &team); err != nil {
			return err
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
		return nil, fmt.Errorf("looking for a credential: %w", err)
	}
	if a == nil {
		return nil, ErrUnauthenticated
	}
	if isDue(used, now) {
		s.stamp(ctx, kind.table, "used_at", a.Credential, now)
	}
	if isDue(seen, now) {
		s.stamp(ctx, "users", "last_seen_at", a.User, now)
	}
	return a, nil
}

// isDue reports whether a stamp is too old, or was never set.
func isDue(stamp sql.NullTime, now time.Time) bool {
	return !stamp.Valid || !stamp.Time.Add(stampEvery).After(now)
}

func kindOf(secret string) (credentialKind, bool) {
	for _, kind := range []credentialKind{apiToken, session} {
		if strings.HasPrefix(secret, kind.prefix) {
			return kind, true
		}
	}
	return credentialKind{}, false
}

// stamp notes that a credential was used, or a user seen. A user is not turned
// away because the database is too busy for that; the next request tries again.
func (s *Service) stamp(ctx context.Context, table, column string, id gid.ID, now time.Time) {
	_, err := store.Build(s.db).Add("UPDATE "+table+" SET "+column+" = ? WHERE id = ? AND ("+column+" IS NULL OR "+column+" <= ?)",
		now, id, now.Add(-stampEvery)).Exec(ctx, s.db)
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "a stamp could not be set", "of", id, "column", column, "error", err)
	}
}

// ActAs is an active user without a credential, for commands the operator runs
// in his name. Everything else asks for a credential.
func (s *Service) ActAs(ctx context.Context, tenant, user gid.ID, requestID string) (*actor.Actor, error) {
	var a *actor.Actor
	q := s.querier(ctx)
	err := store.Build(q).Add("SELECT t.name, ut.team_id FROM users u JOIN tenants t ON t.id = u.tenant_id LEFT JOIN user_teams ut ON ut.user_id = u.id"+
		" WHERE u.id = ? AND u.tenant_id = ? AND u.active = ? ORDER BY ut.team_id", user, tenant, true).Query(ctx, q, func(rows store.Row) error {
		row, team := actor.Actor{Kind: actor.User, Tenant: tenant, User: user, RequestID: requestID}, gid.Nil
		if err := rows.Scan(&row.TenantName, &team); err != nil {
			return err
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
		return nil, fmt.Errorf("acting as a user: %w", err)
	}
	if a == nil {
		return nil, fmt.Errorf("acting as user %s: %w", user, ErrInactive)
	}
	return a, nil
}
