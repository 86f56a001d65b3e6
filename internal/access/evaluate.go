package access

import (
	"context"
	"fmt"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/authz/entfilter"
	"github.com/lethe-crm/lethe/internal/gid"
)

// Evaluate asks the chain about anybody and anything, all at once. The caller
// decides who may ask.
func (c *Control) Evaluate(ctx context.Context, reqs []authz.Request) []authz.Decision {
	return c.chainOf(ctx).Decide(ctx, reqs)
}

// Search returns things that plugins of the chain know and Lethe does not.
func (c *Control) Search(ctx context.Context, s authz.Search) ([]authz.Entity, error) {
	return c.chainOf(ctx).Search(ctx, s)
}

// Narrow returns what a query over a record type adds to see only what the
// subject of q may act on. What cannot be said in columns shows nothing.
func (c *Control) Narrow(ctx context.Context, q authz.Query) func(*sql.Selector) {
	filter, _ := c.chainOf(ctx).Plan(ctx, q)
	predicate, err := entfilter.Lower(filter, mapper(q.Resource.Type))
	if err != nil {
		predicate = nothing.predicate
	}
	return func(s *sql.Selector) { s.Where(join(" AND ", []*sql.Predicate{predicate(s)})) }
}

// Typed reads attributes that came as JSON as policies compare them: times as
// times, ids as they are written. A value of another kind is refused: compared
// with anything it would be different, and a rule that denies would not apply.
func (c *Control) Typed(typ string, props map[string]any) (map[string]any, error) {
	kinds := c.vocabulary.Schema[typ]
	if len(props) == 0 {
		return nil, nil
	}
	out := make(map[string]any, len(props))
	for name, v := range props {
		kind, declared := kinds[name]
		if declared && v != nil {
			var ok bool
			if v, ok = typed(kind, v); !ok {
				return nil, fmt.Errorf("%s of %s is no %s", name, typ, kind)
			}
		}
		out[name] = v
	}
	return out, nil
}

func typed(kind casbin.Kind, v any) (any, bool) {
	switch v := v.(type) {
	case string:
		switch kind {
		case casbin.String:
			return v, true
		case casbin.ID:
			if id, err := gid.Parse(v); err == nil {
				return id.String(), true
			}
			return v, true // of an external type
		case casbin.Time:
			t, err := time.Parse(time.RFC3339, v)
			return t.UTC(), err == nil
		}
	case int64:
		return v, kind == casbin.Int || kind == casbin.Float
	case float64:
		return v, kind == casbin.Float
	case bool:
		return v, kind == casbin.Bool
	}
	return nil, false
}
