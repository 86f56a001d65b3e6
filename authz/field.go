package authz

import (
	"context"
	"slices"
)

// FieldNamer is implemented by plugins that know which fields of a type their policy speaks of. Of all others it
// decides as of the record itself, so that nobody has to ask about them.
type FieldNamer interface {
	// FieldNames must not wait: known is false while the policy is not at hand.
	FieldNames(ctx context.Context, tenant, typ string) (names []string, known bool)
}

// Fields are those of the candidates, fields of a type, about which the chain may decide otherwise than about the
// record itself. A member that does not say, or failed to, may do so about each.
func (c *Chain) Fields(ctx context.Context, tenant, typ string, candidates []string) []string {
	var named []string
	for _, m := range c.members {
		if m.Role == Shadow {
			continue
		}
		f, ok := m.Plugin.(FieldNamer)
		if !ok {
			return candidates
		}
		names, known := c.fieldNames(ctx, m, f, tenant, typ)
		if !known {
			return candidates
		}
		named = append(named, names...)
	}
	if len(named) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(candidates), func(f string) bool { return !slices.Contains(named, f) })
}

// Attributes are the attributes that a filter looks at, each once.
func Attributes(f Filter) []string {
	var names []string
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var walk func(Filter)
	walk = func(f Filter) {
		switch f := f.(type) {
		case And:
			for _, f := range f {
				walk(f)
			}
		case Or:
			for _, f := range f {
				walk(f)
			}
		case Not:
			walk(f.Of)
		case Cmp:
			add(f.Field)
		case In:
			add(f.Field)
		case IsNull:
			add(f.Field)
		case Edge:
			add(f.Name)
		}
	}
	walk(f)
	return names
}
