package graph

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/99designs/gqlgen/graphql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// maxTeams is how many teams a new user may be put into at once.
const maxTeams = 100

// refusedIdentity gives the errors of internal/identity the form clients see.
// What they say besides stays here: it may name what the caller may not know.
func refusedIdentity(err error, thing string, fields ...string) error {
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return record.Refuse(lifecycle.NotFound, fmt.Sprintf("There is no such %s.", thing), fields...)
	case errors.Is(err, identity.ErrExists):
		return record.Refuse(lifecycle.UniqueConflict, fmt.Sprintf("There is such a %s already.", thing), fields...)
	case errors.Is(err, identity.ErrInactive):
		return record.Refuse(lifecycle.Conflict, "The user is deactivated.", fields...)
	case errors.Is(err, identity.ErrLockout):
		return record.Refuse(lifecycle.Lockout, messages[lifecycle.Lockout], fields...)
	case errors.Is(err, identity.ErrInvalid):
		return badInput(fmt.Sprintf("The %s cannot be like this.", thing), fields...)
	}
	return err
}

// require asks the chain whether the caller may do this, by the policy as it is
// now.
func (r *Resolver) require(ctx context.Context, action authz.Action, object string, id gid.ID) error {
	a := actor.From(ctx)
	ctx, err := r.Control.Repin(ctx, a.Tenant)
	if err != nil {
		return r.undecided(ctx, err)
	}
	switch d := r.Control.Decide(ctx, a, []access.Question{{Action: action, Type: object, ID: id}})[0]; {
	case d.Permit:
		return nil
	case d.Unavailable:
		return record.Refuse(lifecycle.AuthzUnavailable, messages[lifecycle.AuthzUnavailable])
	}
	r.logRefusal(ctx, action, object)
	return record.Refuse(lifecycle.Forbidden, "The policy does not allow this.")
}

func (r *Resolver) undecided(ctx context.Context, err error) error {
	r.Log.ErrorContext(ctx, "access could not be decided", "error", err)
	return record.Refuse(lifecycle.AuthzUnavailable, messages[lifecycle.AuthzUnavailable])
}

func (r *Resolver) user(ctx context.Context, id gid.ID) (*ent.User, error) {
	if err := checkID(id, "id", gid.User); err != nil {
		return nil, err
	}
	field := graphql.GetFieldContext(ctx).Field
	found, err := r.client(ctx).NodesByID(ctx, []gid.ID{id}, &field)
	if err != nil {
		return nil, err
	}
	user, _ := found[id].(*ent.User)
	return user, nil
}

// selected reads what a payload's field shows, when it is asked for.
func selected[T ent.Noder](ctx context.Context, r *Resolver, id gid.ID, name string) (T, error) {
	var none T
	field := below(ctx, graphql.GetFieldContext(ctx).Field, name)
	if field == nil {
		return none, nil
	}
	found, err := r.client(ctx).NodesByID(ctx, []gid.ID{id}, field)
	if err != nil {
		return none, err
	}
	thing, ok := found[id].(T)
	if !ok {
		return none, fmt.Errorf("there is no %s %s", name, id)
	}
	return thing, nil
}

func (r *Resolver) userPayload(ctx context.Context, id gid.ID) (*model.UserPayload, error) {
	user, err := selected[*ent.User](ctx, r, id, "user")
	return &model.UserPayload{User: user}, err
}

func (r *Resolver) createUser(ctx context.Context, input model.CreateUserInput) (*model.UserPayload, error) {
	if err := r.require(ctx, authz.UserEdit, "User", gid.Nil); err != nil {
		return nil, err
	}
	teams := input.Teams.Value()
	if len(teams) > 0 {
		if err := r.require(ctx, authz.TeamEdit, "Team", gid.Nil); err != nil {
			return nil, err
		}
	}
	if len(teams) > maxTeams {
		return nil, badInput(fmt.Sprintf("A user is put into up to %d teams.", maxTeams), "teams")
	}
	for _, team := range teams {
		if err := checkID(team, "teams", gid.Team); err != nil {
			return nil, err
		}
	}
	id, err := r.People.CreateUserIn(ctx, actor.From(ctx).Tenant, input.Email, input.Name, teams)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return nil, refusedIdentity(err, "team", "teams")
	case errors.Is(err, identity.ErrExists):
		return nil, refusedIdentity(err, "user", "email")
	case err != nil:
		return nil, refusedIdentity(err, "user", "email", "name")
	}
	return r.userPayload(ctx, id)
}

// setActive lets a user in or keeps him out.
func (r *Resolver) setActive(ctx context.Context, id gid.ID, set func(ctx context.Context, tenant, user gid.ID) error) (*model.UserPayload, error) {
	if err := checkID(id, "id", gid.User); err != nil {
		return nil, err
	}
	if err := r.require(ctx, authz.UserEdit, "User", id); err != nil {
		return nil, err
	}
	if err := set(ctx, actor.From(ctx).Tenant, id); err != nil {
		return nil, refusedIdentity(err, "user", "id")
	}
	return r.userPayload(ctx, id)
}

func (r *Resolver) createTeam(ctx context.Context, name string) (*model.TeamPayload, error) {
	if err := r.require(ctx, authz.TeamEdit, "Team", gid.Nil); err != nil {
		return nil, err
	}
	id, err := r.People.CreateTeam(ctx, actor.From(ctx).Tenant, name)
	if err != nil {
		return nil, refusedIdentity(err, "team", "name")
	}
	team, err := selected[*ent.Team](ctx, r, id, "team")
	return &model.TeamPayload{Team: team}, err
}

// issue makes a credential for oneself, or for a user who may do no more: who
// holds it is that user.
func (r *Resolver) issue(ctx context.Context, user gid.ID, ttl int32, command string,
	create func(ctx context.Context, tenant, user gid.ID, ttl time.Duration) (identity.Credential, error),
) (identity.Credential, error) {
	var none identity.Credential
	if err := checkID(user, "user", gid.User); err != nil {
		return none, err
	}
	if err := r.require(ctx, authz.TokenEdit, "Token", gid.Nil); err != nil {
		return none, err
	}
	a := actor.From(ctx)
	if user != a.User {
		now, err := r.Control.Repin(ctx, a.Tenant)
		if err != nil {
			return none, r.undecided(ctx, err)
		}
		covers, err := r.Control.Covers(now, a, user)
		if err != nil {
			return none, r.undecided(ctx, err)
		}
		if !covers {
			r.logRefusal(now, authz.TokenEdit, "Token")
			return none, record.Refuse(lifecycle.Forbidden,
				"The user may do what you may not. Whoever runs the server can use `lethe "+command+"`.", "user")
		}
	}
	c, err := create(ctx, a.Tenant, user, time.Duration(ttl)*time.Second)
	switch {
	case errors.Is(err, identity.ErrInvalid):
		return none, badInput("It cannot hold that long, or that short.", "ttl")
	case err != nil:
		return none, refusedIdentity(err, "user", "user")
	}
	return c, nil
}

func (r *Resolver) createToken(ctx context.Context, input model.CreateTokenInput) (*model.CreateTokenPayload, error) {
	c, err := r.issue(ctx, input.User, input.TTL, "token create", r.People.CreateToken)
	if err != nil {
		return nil, err
	}
	return &model.CreateTokenPayload{ID: c.ID, Secret: c.Secret, ExpiresAt: c.ExpiresAt}, nil
}

func (r *Resolver) createSignInLink(ctx context.Context, input model.CreateSignInLinkInput) (*model.CreateSignInLinkPayload, error) {
	c, err := r.issue(ctx, input.User, input.TTL, "link create", r.People.CreateLink)
	if err != nil {
		return nil, err
	}
	return &model.CreateSignInLinkPayload{ID: c.ID, Path: "/signin?token=" + url.QueryEscape(c.Secret), ExpiresAt: c.ExpiresAt}, nil
}

// revoke ends a credential of one's own, or with TOKEN_EDIT of anybody's.
func (r *Resolver) revoke(ctx context.Context, id gid.ID, typ gid.Type, thing string, revoke func(ctx context.Context, tenant, id gid.ID) error) (*model.RevokePayload, error) {
	if err := checkID(id, "id", typ); err != nil {
		return nil, err
	}
	a := actor.From(ctx)
	owner, err := r.People.CredentialUser(ctx, a.Tenant, id)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return nil, err
	}
	if err != nil || owner != a.User { // whether it is there is told to those who may
		if err := r.require(ctx, authz.TokenEdit, "Token", id); err != nil {
			return nil, err
		}
	}
	if err := revoke(ctx, a.Tenant, id); err != nil {
		return nil, refusedIdentity(err, thing, "id")
	}
	return &model.RevokePayload{ID: id}, nil
}
