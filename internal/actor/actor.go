// Package actor says who is acting: a user of one tenant, by session or by
// token, or Lethe itself.
package actor

import (
	"context"
	"time"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/internal/gid"
)

// Kind is how an actor came in.
type Kind string

// The kinds.
const (
	User   Kind = "USER"
	Token  Kind = "TOKEN"
	System Kind = "SYSTEM"
)

// Actor is who is acting.
type Actor struct {
	Kind       Kind
	Tenant     gid.ID
	TenantName string
	// User is zero for the system.
	User gid.ID
	// Credential is the token or session that was used; zero for the system.
	Credential gid.ID
	// Expires is when the credential does, where that is not in the database but in
	// the credential; else it is zero.
	Expires time.Time
	// Teams are the user's teams, oldest first.
	Teams []gid.ID
	// RequestID names the request in logs and in the audit log.
	RequestID string
}

type key struct{}

// With returns a context in which a acts.
func With(ctx context.Context, a *Actor) context.Context { return context.WithValue(ctx, key{}, a) }

// From returns who acts in the context, or nil.
func From(ctx context.Context) *Actor {
	a, _ := ctx.Value(key{}).(*Actor)
	return a
}

// ForSystem is Lethe itself, acting in a tenant.
func ForSystem(tenant gid.ID) *Actor { return &Actor{Kind: System, Tenant: tenant} }

// Subject is the actor as policies know it.
func (a *Actor) Subject() authz.Entity {
	if a.Kind == System {
		return authz.Entity{Type: "user", ID: "system"}
	}
	teams := make([]string, len(a.Teams))
	for i, t := range a.Teams {
		teams[i] = t.String()
	}
	return authz.Entity{Type: "user", ID: a.User.String(), Props: map[string]any{"teams": teams}}
}

// UserRef is the user as a reference that is null for the system.
func (a *Actor) UserRef() *gid.ID {
	if a.User.IsZero() {
		return nil
	}
	return &a.User
}

// FirstTeam is the team new records belong to, null without one.
func (a *Actor) FirstTeam() *gid.ID {
	if len(a.Teams) == 0 {
		return nil
	}
	return &a.Teams[0]
}
