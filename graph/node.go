package graph

import (
	"context"
	"fmt"

	"github.com/99designs/gqlgen/graphql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

func (r *Resolver) node(ctx context.Context, id gid.ID) (ent.Noder, error) {
	found, err := r.nodes(ctx, []gid.ID{id})
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// nodes finds things by their ids, records in any state, in one statement a
// type. What is not there, hidden, or only a part of something is null.
func (r *Resolver) nodes(ctx context.Context, ids []gid.ID) ([]ent.Noder, error) {
	var asked []gid.ID
	for _, id := range ids {
		switch t := id.Type(); {
		case ent.RecordTypeOf(id) != nil, t == gid.User, t == gid.Team, t == gid.Operation, t == gid.Event, t == gid.LegalHold, t == gid.Approval, t == gid.RetentionRule, t == gid.Export, t == gid.ExportSchedule,
			t == gid.Notification, t == gid.Webhook, t == gid.WebhookDelivery, t == gid.Department, t == gid.AlertRule:
			asked = append(asked, id)
		}
	}
	field := graphql.GetFieldContext(ctx).Field
	found, err := r.client(ctx).NodesByID(ctx, asked, &field)
	if err != nil {
		return nil, err
	}
	out := make([]ent.Noder, len(ids))
	for i, id := range ids {
		out[i] = found[id]
	}
	return out, nil
}

func (r *Resolver) operation(ctx context.Context, id gid.ID) (*ent.Operation, error) {
	if err := checkID(id, "id", gid.Operation); err != nil {
		return nil, err
	}
	q, err := r.client(ctx).Operation.Query().Where(operation.ID(id)).CollectFields(ctx)
	if err != nil {
		return nil, err
	}
	op, err := q.Only(ctx)
	return op, ent.MaskNotFound(err)
}

func (r *Resolver) viewer(ctx context.Context) (*model.Viewer, error) {
	a := actor.From(ctx)
	roles, err := r.Control.Roles(ctx, a)
	if err != nil {
		return nil, record.Refuse(lifecycle.AuthzUnavailable, "Access could not be decided; try again.")
	}
	out := &model.Viewer{Tenant: a.TenantName, Roles: roles}
	if out.Roles == nil {
		out.Roles = []string{}
	}
	user := below(ctx, graphql.GetFieldContext(ctx).Field, "user")
	if user == nil {
		return out, nil
	}
	found, err := r.client(ctx).NodesByID(ctx, []gid.ID{a.User}, user)
	if err != nil {
		return nil, err
	}
	var ok bool
	if out.User, ok = found[a.User].(*ent.User); !ok {
		return nil, fmt.Errorf("there is no user %s", a.User)
	}
	return out, nil
}
