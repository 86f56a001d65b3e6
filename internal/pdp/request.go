package pdp

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/authzen"
)

// part reads one of the entities of a request. With needID it has to say which
// one; else an id is ignored, because the search is for it.
func part(body map[string]any, name string, needID bool) (authz.Entity, error) {
	var e authz.Entity
	object, err := objectAt(body, name)
	if err != nil {
		return e, err
	}
	if object == nil {
		return e, malformed(name + " is needed")
	}
	if e.Type, err = textAt(object, name, "type"); err != nil {
		return e, err
	}
	if needID {
		if e.ID, err = textAt(object, name, "id"); err != nil {
			return e, err
		}
	}
	e.Props, err = objectAt(object, "properties")
	return e, err
}

// actionOf reads the action of a request.
func actionOf(body map[string]any) (authz.Action, map[string]any, error) {
	object, err := objectAt(body, "action")
	if err != nil {
		return "", nil, err
	}
	if object == nil {
		return "", nil, malformed("action is needed")
	}
	name, err := textAt(object, "action", "name")
	if err != nil {
		return "", nil, err
	}
	props, err := objectAt(object, "properties")
	return authz.Action(name), props, err
}

// objectAt is an object of another, nil where there is none.
func objectAt(body map[string]any, name string) (map[string]any, error) {
	switch v := body[name].(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return v, nil
	default:
		return nil, malformed(name + " is no object")
	}
}

func textAt(object map[string]any, of, name string) (string, error) {
	text, ok := object[name].(string)
	switch {
	case object[name] == nil:
		return "", malformed(of + "." + name + " is needed")
	case !ok || text == "" || len(text) > maxText:
		return "", malformed(fmt.Sprintf("%s.%s is no text of 1 to %d bytes", of, name, maxText))
	}
	return text, nil
}

// inContext reads the context of a request, in which the field and the tenant are
// that AuthZEN has no place for (see authz/authzen). A field that no policy can
// name is refused: it would be decided on as the record is. The tenant is the
// caller's in any case.
func (h *handler) inContext(r *authz.Request, body map[string]any) error {
	given, err := objectAt(body, "context")
	if err != nil {
		return err
	}
	r.Context = maps.Clone(given)
	if v := given[authzen.TenantKey]; v != nil && v != r.Tenant {
		return malformed("context.tenant is not the tenant of the token")
	}
	if v := given[authzen.FieldKey]; v != nil {
		field, _ := v.(string)
		if !slices.Contains(h.Control.Vocabulary().Fields[r.Resource.Type], field) {
			return malformed("context.field is no field of " + r.Resource.Type + " that policies may name")
		}
		r.Field = field
	}
	delete(r.Context, authzen.TenantKey)
	delete(r.Context, authzen.FieldKey)
	return nil
}

// question reads a complete evaluation.
func (h *handler) question(tenant string, body map[string]any) (authz.Request, error) {
	r := authz.Request{Tenant: tenant}
	var err error
	if r.Subject, err = part(body, "subject", true); err != nil {
		return r, err
	}
	if r.Action, r.ActionProps, err = actionOf(body); err != nil {
		return r, err
	}
	if r.Resource, err = part(body, "resource", true); err != nil {
		return r, err
	}
	return r, h.inContext(&r, body)
}
