package graph

import (
	"context"
	"errors"
	"slices"
	"time"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/predicate"
	"github.com/lethe-crm/lethe/ent/user"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// users lists the users whom the filter, and the role where one is given, leave.
func (r *Resolver) users(ctx context.Context, role *string, page func(*ent.UserQuery) (*ent.UserConnection, error)) (*ent.UserConnection, error) {
	q := r.client(ctx).User.Query()
	if role != nil {
		if !r.may(ctx, authz.PolicyRead, "Policy") {
			return nil, record.Refuse(lifecycle.FieldForbidden, messages[lifecycle.FieldForbidden], "role")
		}
		holders, err := r.Control.Holders(ctx, tenantOf(ctx), *role)
		if err != nil {
			return nil, r.undecided(ctx, err)
		}
		q.Where(among(holders))
	}
	return page(q)
}

// among is "its id is one of these", in one argument for any number of them.
func among(ids []gid.ID) predicate.User {
	return func(s *sql.Selector) {
		s.Where(sql.P(func(b *sql.Builder) {
			b.Ident(s.C(user.FieldID))
			if b.Dialect() == dialect.Postgres {
				b.WriteString(" = ANY(").Arg(gid.Array(ids)).WriteString("::uuid[])")
				return
			}
			b.WriteString(" IN (SELECT value FROM json_each(").Arg(gid.JSONArray(ids)).WriteString("))")
		}))
	}
}

// may asks without refusing: what it guards is left out. It is asked once for a
// request.
func (r *Resolver) may(ctx context.Context, action authz.Action, object string) bool {
	type key struct {
		action authz.Action
		object string
	}
	may, _ := once(ctx, key{action, object}, func() (bool, error) {
		return r.Control.May(ctx, actor.From(ctx), access.Question{Action: action, Type: object}), nil
	})
	return may
}

// shows reports whether the caller reads something of a user: his own, or
// anybody's for who may do the action.
func (r *Resolver) shows(ctx context.Context, u *ent.User, action authz.Action, object string) bool {
	return u.ID == actor.From(ctx).User || r.may(ctx, action, object)
}

func (r *Resolver) rolesOf(ctx context.Context, u *ent.User) ([]*casbin.Held, error) {
	if !r.shows(ctx, u, authz.PolicyRead, "Policy") {
		return nil, nil
	}
	roles, err := r.Control.RolesOf(ctx, tenantOf(ctx), u.ID)
	if err != nil {
		return nil, r.undecided(ctx, err)
	}
	return pointers(roles), nil
}

func (r *Resolver) lastSeen(ctx context.Context, u *ent.User) *time.Time {
	if !r.shows(ctx, u, authz.UserEdit, "User") {
		return nil
	}
	return u.LastSeenAt
}

func (r *Resolver) externalSubject(ctx context.Context, u *ent.User) *string {
	if !r.shows(ctx, u, authz.UserEdit, "User") {
		return nil
	}
	return u.ExternalSubject
}

// credentials reads something of a user for all users of the list he stands in.
func credentials[T any](ctx context.Context, r *Resolver, u *ent.User, kind string, read func(context.Context, gid.ID, []gid.ID) (map[gid.ID][]*T, error)) ([]*T, error) {
	if !r.shows(ctx, u, authz.TokenEdit, "Token") {
		return nil, nil
	}
	users, list, err := listOf(ctx, u)
	if err != nil {
		return nil, err
	}
	all, err := once(ctx, listKey{list, kind}, func() (map[gid.ID][]*T, error) {
		ids := make([]gid.ID, len(users))
		for i, u := range users {
			ids[i] = u.ID
		}
		return read(ctx, tenantOf(ctx), ids)
	})
	if err != nil {
		return nil, err
	}
	if found := all[u.ID]; found != nil {
		return found, nil
	}
	return []*T{}, nil
}

// updateUser changes a user. His address and subject say who comes in as him, so
// whoever sets them could be him; a name and teams are no such thing.
func (r *Resolver) updateUser(ctx context.Context, input model.UpdateUserInput) (*model.UserPayload, error) {
	if err := checkID(input.ID, "id", gid.User); err != nil {
		return nil, err
	}
	if err := r.require(ctx, authz.UserEdit, "User", input.ID); err != nil {
		return nil, err
	}
	change, err := changeOf(input)
	if err != nil {
		return nil, err
	}
	if change.Email != nil || change.Subject != nil {
		err = r.requireCredential(ctx, authz.UserEdit, "User", input.ID, "", "id")
	} else {
		err = r.requireCover(ctx, authz.UserEdit, "User", input.ID, "", "id", operators...)
	}
	if err != nil {
		return nil, err
	}
	if change.Teams != nil {
		if err := r.requireMove(ctx, input.ID, *change.Teams); err != nil {
			return nil, err
		}
	}
	err = r.People.UpdateUser(ctx, tenantOf(ctx), input.ID, int(input.Version), change)
	switch {
	case errors.Is(err, identity.ErrNotFound) && change.Teams != nil && r.isThere(ctx, input.ID):
		return nil, refusedIdentity(err, "team", "teams")
	case errors.Is(err, identity.ErrNotFound):
		return nil, refusedIdentity(err, "user", "id")
	case err != nil:
		return nil, refusedIdentity(err, "user", atFault(input)...)
	}
	return r.userPayload(ctx, input.ID)
}

// changeOf reads what is to change. Only a subject can be taken away.
func changeOf(input model.UpdateUserInput) (c identity.UserChange, err error) {
	for _, field := range []struct {
		name string
		set  bool
		null bool
	}{
		{"email", input.Email.IsSet(), input.Email.Value() == nil},
		{"name", input.Name.IsSet(), input.Name.Value() == nil},
		{"teams", input.Teams.IsSet(), input.Teams.Value() == nil},
	} {
		if field.set && field.null {
			return c, badInput("cannot be null", field.name)
		}
	}
	c.Email, c.Name = input.Email.Value(), input.Name.Value()
	if input.ExternalSubject.IsSet() {
		subject := deref(input.ExternalSubject.Value())
		c.Subject = &subject
	}
	if teams := input.Teams.Value(); teams != nil {
		c.Teams = &teams
	}
	return c, nil
}

// atFault are the fields of an input that could be at fault.
func atFault(input model.UpdateUserInput) (fields []string) {
	for _, field := range []struct {
		name string
		set  bool
	}{{"email", input.Email.IsSet()}, {"name", input.Name.IsSet()}, {"externalSubject", input.ExternalSubject.IsSet()}} {
		if field.set {
			fields = append(fields, field.name)
		}
	}
	return fields
}

// requireMove refuses teams that would give the caller more than he has, be it
// for himself or by somebody else.
func (r *Resolver) requireMove(ctx context.Context, user gid.ID, teams []gid.ID) error {
	if err := r.require(ctx, authz.TeamEdit, "Team", gid.Nil); err != nil {
		return err
	}
	was, err := r.People.TeamsOf(ctx, tenantOf(ctx), user)
	if err != nil {
		return err
	}
	if user == actor.From(ctx).User {
		if !sameIDs(was, teams) {
			return r.forbid(ctx, authz.TeamEdit, "Team", causeEscalation, "Nobody changes the teams he is in himself.", "teams")
		}
		return nil
	}
	more := less(teams, was)
	if err := r.requireTeams(ctx, more); err != nil {
		return err
	}
	// A rule may deny what is of one's teams: whoever leaves one is out of its reach.
	a := actor.From(ctx)
	after := less(slices.Concat(a.Teams, more), less(was, teams))
	if err := r.requireNoMore(ctx, a.User, a.Teams, after, "You are in the team, and would be allowed more if you were not."); err != nil {
		return err
	}
	// What the operator alone gives he gives for the teams of then.
	return r.requireNoMore(ctx, user, was, teams, "The user would be given more of what only whoever runs the server gives.", operators...)
}

// isThere tells a user who is not there from a team that is not.
func (r *Resolver) isThere(ctx context.Context, id gid.ID) bool {
	n, err := r.client(ctx).User.Query().Where(user.ID(id)).Count(ctx)
	return err == nil && n > 0
}

// less are the ids of one list that are not in another.
func less(list, others []gid.ID) (out []gid.ID) {
	in := map[gid.ID]bool{}
	for _, id := range others {
		in[id] = true
	}
	for _, id := range list {
		if !in[id] {
			out = append(out, id)
		}
	}
	return out
}

func sameIDs(a, b []gid.ID) bool { return len(less(a, b)) == 0 && len(less(b, a)) == 0 }

func (r *Resolver) renameTeam(ctx context.Context, id gid.ID, name string) (*model.TeamPayload, error) {
	if err := checkID(id, "id", gid.Team); err != nil {
		return nil, err
	}
	if err := r.require(ctx, authz.TeamEdit, "Team", id); err != nil {
		return nil, err
	}
	if err := r.People.RenameTeam(ctx, tenantOf(ctx), id, name); err != nil {
		field := "name"
		if errors.Is(err, identity.ErrNotFound) {
			field = "id"
		}
		return nil, refusedIdentity(err, "team", field)
	}
	team, err := selected[*ent.Team](ctx, r, id, "team")
	return &model.TeamPayload{Team: team}, err
}
