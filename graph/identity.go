package graph

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
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

// maxTeams is how many teams a user may be put into at once.
const maxTeams = 100

// The causes of refusals of identity, as of those of policy.
const (
	causeLockout    = "LOCKOUT"
	causeEscalation = "ESCALATION"
)

// operators are the actions that nobody gives over the API, so that no role that
// edits users need have them. They do not count where nobody is acted for: else a
// user who has one could be kept out by the operator alone.
var operators = []authz.Action{authz.Purge, authz.Erase, authz.HoldRelease}

// refusedIdentity gives the errors of internal/identity the form clients see.
// What they say besides stays here: it may name what the caller may not know.
func refusedIdentity(err error, thing string, fields ...string) error {
	var conflict *identity.ConflictError
	switch {
	case errors.As(err, &conflict):
		refused := record.Refuse(lifecycle.Conflict, fmt.Sprintf("The %s is not at this version any more.", thing), "version")
		refused.Extensions = map[string]any{"version": conflict.Version}
		return refused
	case errors.Is(err, identity.ErrNotFound):
		return record.Refuse(lifecycle.NotFound, fmt.Sprintf("There is no such %s.", thing), fields...)
	case errors.Is(err, identity.ErrExists):
		return record.Refuse(lifecycle.UniqueConflict, fmt.Sprintf("There is such a %s already.", thing), fields...)
	case errors.Is(err, identity.ErrInactive):
		return record.Refuse(lifecycle.Conflict, "The user is deactivated.", fields...)
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
	return r.forbid(ctx, action, object, "", "The policy does not allow this.")
}

// forbid refuses, and writes so into the audit log.
func (r *Resolver) forbid(ctx context.Context, action authz.Action, object, cause, message string, fields ...string) error {
	refused := record.Refuse(lifecycle.Forbidden, message, fields...)
	refused.Extensions = map[string]any{}
	var causes []string
	if cause != "" {
		refused.Extensions["cause"] = cause
		causes = append(causes, cause)
	}
	refused.Extensions["decisionID"] = r.logRefusal(ctx, action, object, causes...).String()
	return refused
}

// requireCover refuses what would be done to a user who may do more than the
// caller does. Of oneself there is nothing to gain.
func (r *Resolver) requireCover(ctx context.Context, action authz.Action, object string, user gid.ID, hint, field string, but ...authz.Action) error {
	a := actor.From(ctx)
	if user == a.User {
		return nil
	}
	ctx, err := r.Control.Repin(ctx, a.Tenant)
	if err != nil {
		return r.undecided(ctx, err)
	}
	covers, err := r.Control.Covers(ctx, a, user, but...)
	switch {
	case err != nil:
		return r.undecided(ctx, err)
	case !covers:
		return r.forbid(ctx, action, object, causeEscalation, "The user may do what you may not."+hint, field)
	}
	return nil
}

// requireCredential refuses to let somebody come in as a user who may do more
// than the caller does. Where other plugins decide, too, what they would permit
// the user cannot be known before.
func (r *Resolver) requireCredential(ctx context.Context, action authz.Action, object string, user gid.ID, hint, field string) error {
	a := actor.From(ctx)
	if user == a.User {
		return nil
	}
	pinned, err := r.Control.Repin(ctx, a.Tenant)
	if err != nil {
		return r.undecided(ctx, err)
	}
	if !r.Control.Alone(pinned) {
		return r.forbid(ctx, action, object, causeEscalation, "Not the policy alone decides here, so that the user might be allowed what you are not."+hint, field)
	}
	return r.requireCover(ctx, action, object, user, hint, field)
}

// requireTeams refuses to put somebody else into teams that would give the caller
// something: whoever he puts there, he could make a credential of.
func (r *Resolver) requireTeams(ctx context.Context, teams []gid.ID) error {
	if len(teams) > maxTeams {
		return badInput(fmt.Sprintf("A user is put into up to %d teams.", maxTeams), "teams")
	}
	for _, team := range teams {
		if err := checkID(team, "teams", gid.Team); err != nil {
			return err
		}
	}
	a := actor.From(ctx)
	return r.requireNoMore(ctx, a.User, a.Teams, slices.Concat(a.Teams, teams), "You are not in the team, and its records are more than you may see.")
}

// requireNoMore refuses teams that would give a user what he has not got in his. Where
// actions are given, only those count.
func (r *Resolver) requireNoMore(ctx context.Context, user gid.ID, teams, after []gid.ID, message string, only ...authz.Action) error {
	tenant := tenantOf(ctx)
	ctx, err := r.Control.Repin(ctx, tenant)
	if err != nil {
		return r.undecided(ctx, err)
	}
	widens, err := r.Control.Widens(ctx, tenant, user, teams, after, only...)
	switch {
	case err != nil:
		return r.undecided(ctx, err)
	case widens:
		return r.forbid(ctx, authz.TeamEdit, "Team", causeEscalation, message, "teams")
	}
	return nil
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
	user := identity.NewUser{Email: input.Email, Name: input.Name, Teams: input.Teams.Value(), Subject: deref(input.ExternalSubject.Value())}
	if len(user.Teams) > 0 {
		if err := r.require(ctx, authz.TeamEdit, "Team", gid.Nil); err != nil {
			return nil, err
		}
	}
	if err := r.requireTeams(ctx, user.Teams); err != nil {
		return nil, err
	}
	id, err := r.People.CreateUserIn(ctx, actor.From(ctx).Tenant, user)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return nil, refusedIdentity(err, "team", "teams")
	case errors.Is(err, identity.ErrExists):
		return nil, refusedIdentity(err, "user", "email", "externalSubject")
	case err != nil:
		return nil, refusedIdentity(err, "user", "email", "name", "externalSubject")
	}
	return r.userPayload(ctx, id)
}

// setActive lets a user in or keeps him out. Who may come in by the token of an
// issuer has at once again what he may do, so of letting in all actions count.
func (r *Resolver) setActive(ctx context.Context, id gid.ID, set func(ctx context.Context, tenant, user gid.ID) error, but ...authz.Action) (*model.UserPayload, error) {
	if err := checkID(id, "id", gid.User); err != nil {
		return nil, err
	}
	if err := r.require(ctx, authz.UserEdit, "User", id); err != nil {
		return nil, err
	}
	if err := r.requireCover(ctx, authz.UserEdit, "User", id, "", "id", but...); err != nil {
		return nil, err
	}
	err := set(ctx, actor.From(ctx).Tenant, id)
	switch {
	case errors.Is(err, identity.ErrLockout):
		return nil, r.forbid(ctx, authz.UserEdit, "User", causeLockout, messages[lifecycle.Lockout], "id")
	case err != nil:
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
	hint := " Whoever runs the server can use `lethe " + command + "`."
	if err := r.requireCredential(ctx, authz.TokenEdit, "Token", user, hint, "user"); err != nil {
		return none, err
	}
	c, err := create(ctx, actor.From(ctx).Tenant, user, time.Duration(ttl)*time.Second)
	switch {
	case errors.Is(err, identity.ErrInvalid):
		return none, badInput("It cannot hold that long or that short, or be called that.", "ttl", "name")
	case err != nil:
		return none, refusedIdentity(err, "user", "user")
	}
	return c, nil
}

func (r *Resolver) createToken(ctx context.Context, input model.CreateTokenInput) (*model.CreateTokenPayload, error) {
	create := r.People.CreateToken
	if name := input.Name.Value(); name != nil {
		create = func(ctx context.Context, tenant, user gid.ID, ttl time.Duration) (identity.Credential, error) {
			return r.People.CreateNamedToken(ctx, tenant, user, ttl, *name)
		}
	}
	c, err := r.issue(ctx, input.User, input.TTL, "token create", create)
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
