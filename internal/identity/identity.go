// Package identity knows who may come in: tenants, users, teams, the
// credentials users come in with, and the policy that says which roles they
// have.
//
// Nothing in it asks what the caller may do. It is called by the operator's
// commands and by what has asked already. What it does on behalf of the actor
// of the context is written down in his name, and else in the system's.
package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/policy"
	"github.com/lethe-crm/lethe/internal/store"
)

// The errors that callers tell apart. They come wrapped, with what they are
// about.
var (
	// ErrUnauthenticated reports a credential that is unknown, used up, expired
	// or revoked, or whose user is deactivated. It does not say which.
	ErrUnauthenticated = errors.New("not signed in")
	ErrNotFound        = policy.ErrNotFound
	ErrExists          = errors.New("exists already")
	ErrInvalid         = policy.ErrInvalid
	// ErrInactive reports a deactivated user.
	ErrInactive = errors.New("deactivated")
	// ErrLockout refuses what would leave nobody who can edit the policy.
	ErrLockout = policy.ErrLockout
	// ErrWrongKey reports a database that was written with another key.
	ErrWrongKey = errors.New("this database was written with another key; give the one it was created with by --key-file or LETHE_KEY")
)

// Authenticator tells who holds a secret. Service is the one of this package;
// the seam is for single sign-on.
type Authenticator interface {
	// Authenticate answers ErrUnauthenticated for a secret nobody may use.
	Authenticate(ctx context.Context, secret string) (*actor.Actor, error)
}

// Service keeps tenants, users and their credentials.
type Service struct {
	db       *store.DB
	audit    *audit.Log
	log      *slog.Logger
	policies *policy.Service
}

var _ Authenticator = (*Service)(nil)

// New returns a service over a database, whose clock is its clock.
func New(db *store.DB, auditLog *audit.Log, log *slog.Logger) *Service {
	return &Service{db, auditLog, log, policy.New(db, nil, auditLog, log)}
}

// WithVocabulary is the service where policies may name other things, such as
// external types.
func (s *Service) WithVocabulary(v casbin.Vocabulary) *Service {
	other := *s
	other.policies = s.policies.WithVocabulary(v)
	return &other
}

// The actions as the audit log names them.
const (
	actionTenantCreate   = "TENANT_CREATE"
	actionUserCreate     = "USER_CREATE"
	actionUserUpdate     = "USER_UPDATE"
	actionUserActivate   = "USER_ACTIVATE"
	actionUserDeactivate = "USER_DEACTIVATE"
	actionTeamCreate     = "TEAM_CREATE"
	actionTeamRename     = "TEAM_RENAME"
	actionTeamJoin       = "TEAM_JOIN"
	actionTeamLeave      = "TEAM_LEAVE"
	actionTokenCreate    = "TOKEN_CREATE"
	actionTokenRevoke    = "TOKEN_REVOKE"
	actionLinkCreate     = "LINK_CREATE"
	actionSignIn         = "SIGN_IN"
	actionSignOut        = "SIGN_OUT"
)

// record writes an event of a tenant as part of tx. Detail holds ids and names
// of roles: an event of this package has no seal to keep anything personal under.
func (s *Service) record(ctx context.Context, tx *store.Tx, tenant gid.ID, action string, detail map[string]any) error {
	if a := actor.From(ctx); a == nil || a.Tenant != tenant {
		ctx = actor.With(ctx, actor.ForSystem(tenant))
	}
	return s.audit.Append(ctx, tx, audit.Event{Action: action, Detail: detail})
}

// taken turns a broken unique constraint into ErrExists.
func taken(err error, format string, args ...any) error {
	if c, ok := store.Constraint(err); ok && c.Kind == store.UniqueViolation {
		return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrExists)
	}
	return err
}
