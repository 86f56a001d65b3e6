package graph

import (
	"context"
	"fmt"
	"strings"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// checkGuards refuses a schema with a root field that says of nobody who may
// use it.
func checkGuards(schema *ast.Schema) error {
	for _, root := range []*ast.Definition{schema.Query, schema.Mutation, schema.Subscription} {
		if root == nil {
			continue
		}
		for _, f := range root.Fields {
			if strings.HasPrefix(f.Name, "__") || f.Directives.ForName("authz") != nil || f.Directives.ForName("public") != nil {
				continue
			}
			return fmt.Errorf("%s.%s has neither @authz nor @public", root.Name, f.Name)
		}
	}
	return nil
}

// public implements @public.
func public(ctx context.Context, _ any, next graphql.Resolver) (any, error) { return next(ctx) }

// authz implements @authz. With an object it refuses who could never do that to
// any such object. Lists are not refused, they are empty; and without an object
// the field, or the pipeline behind it, decides for each record.
func (c Config) authz(ctx context.Context, _ any, next graphql.Resolver, object *string, action authz.Action) (any, error) {
	if object == nil || action == authz.Read {
		return next(ctx)
	}
	could, err := c.couldEver(ctx, action, *object)
	if err != nil {
		c.Log.ErrorContext(ctx, "access could not be decided", "error", err)
		return nil, record.Refuse(lifecycle.AuthzUnavailable, "Access could not be decided; try again.")
	}
	if !could {
		refused := record.Refuse(lifecycle.Forbidden, "The policy does not allow this.")
		refused.Extensions = map[string]any{"decisionID": c.logRefusal(ctx, action, *object).String()}
		return nil, refused
	}
	return next(ctx)
}

func (c Config) couldEver(ctx context.Context, action authz.Action, object string) (bool, error) {
	objects := []string{object}
	if object == ent.TypeAuditEvent { // decided by the type of what an event speaks of
		for _, t := range ent.RecordTypes {
			objects = append(objects, t.Name)
		}
	}
	for _, o := range objects {
		could, err := c.Control.CouldEver(ctx, actor.From(ctx), action, o)
		if could || err != nil {
			return could, err
		}
	}
	return false, nil
}

// logRefusal writes a REFUSED event, and answers its id: after the document's transaction, which is
// rolled back, or at once where there is none. A cause tells refusals of one code apart.
func (c Config) logRefusal(ctx context.Context, action authz.Action, object string, cause ...string) gid.ID {
	return c.logRefusalAs(ctx, lifecycle.Forbidden, action, object, cause...)
}

// logRefusalAs is logRefusal with another code.
func (c Config) logRefusalAs(ctx context.Context, code lifecycle.Code, action authz.Action, object string, cause ...string) gid.ID {
	event := audit.Event{
		ID:      gid.New(gid.Event),
		Action:  strings.ToUpper(strings.ReplaceAll(string(action), ".", "_")),
		Outcome: audit.Refused, Code: code,
		PolicyVersion: c.Control.Version(ctx, actor.From(ctx).Tenant),
	}
	if ent.RecordTypeNamed(object) != nil {
		event.RecordType = object
	} else {
		event.Detail = map[string]any{"object": object}
		for _, text := range cause {
			event.Detail["cause"] = text
		}
	}
	ctx = context.WithoutCancel(ctx)
	write := func(bool) {
		if err := c.Audit.Write(ctx, c.DB, event); err != nil {
			c.Log.ErrorContext(ctx, "a refusal could not be written to the audit log", "action", event.Action, "error", err)
		}
	}
	if tx := store.TxFrom(ctx); tx != nil {
		tx.AfterEnd(write)
		return event.ID
	}
	write(false)
	return event.ID
}
