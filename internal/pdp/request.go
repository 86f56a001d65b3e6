package pdp

import (
	"fmt"

	"github.com/lethe-crm/lethe/authz"
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

// question reads a complete evaluation.
func question(tenant string, body map[string]any) (authz.Request, error) {
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
	r.Context, err = objectAt(body, "context")
	return r, err
}
