package record

import (
	"context"
	"fmt"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// Scope is what a hold keeps.
type Scope struct {
	hold   gid.ID
	ids    map[string][]gid.ID // what belongs to its persons now, by type
	typ    string
	filter *Filter // nil where there is none, or none that can be read: then all of typ
}

// ScopeOf reads it. Whether the caller may know of the hold is for the caller to
// ask.
func (s *Service) ScopeOf(ctx context.Context, hold gid.ID) (*Scope, error) {
	q := s.querier(ctx)
	var wide *bool
	var typ, text *string
	_, err := store.Build(q).Add(`SELECT wide, filter_type, filter FROM legal_holds WHERE tenant_id = ? AND id = ?`, actor.From(ctx).Tenant, hold).
		One(ctx, q, &wide, &typ, &text)
	if err != nil {
		return nil, fmt.Errorf("reading what a legal hold keeps: %w", err)
	}
	out := &Scope{hold: hold, ids: map[string][]gid.ID{}}
	if wide != nil {
		var persons []gid.ID
		err := store.Build(q).Add(`SELECT person_id FROM legal_hold_records WHERE hold_id = ? AND person_id IS NOT NULL`, hold).
			Query(ctx, q, scanIDs(func(id gid.ID) { persons = append(persons, id) }))
		if err != nil {
			return nil, fmt.Errorf("reading the persons of a legal hold: %w", err)
		}
		below, err := s.below(ctx, q, persons)
		if err != nil {
			return nil, err
		}
		for _, id := range below {
			if t := ent.RecordTypeOf(id); t != nil {
				out.ids[t.Name] = append(out.ids[t.Name], id)
			}
		}
	}
	if typ != nil && text != nil {
		out.typ = *typ
		if f, err := ParseFilter(*typ, []byte(*text)); err == nil {
			out.filter = f
		}
	}
	return out, nil
}

// Where narrows a query of a type to what the hold keeps now.
func (s *Scope) Where(sel *sql.Selector, t *ent.RecordType) {
	named := sql.Dialect(sel.Dialect()).Table("legal_hold_records")
	preds := []*sql.Predicate{sql.In(sel.C("id"), sql.Dialect(sel.Dialect()).Select(named.C("record_id")).From(named).Where(sql.EQ(named.C("hold_id"), s.hold)))}
	if ids := s.ids[t.Name]; len(ids) > 0 {
		preds = append(preds, inIDs(sel.C("id"), ids))
	}
	if t.Name == s.typ {
		match := sql.ExprP("1 = 1")
		if s.filter != nil {
			inner := sql.Dialect(sel.Dialect()).Table(t.Table).As("matching")
			from := sql.Dialect(sel.Dialect()).Select(inner.C("id")).From(inner).WithContext(sel.Context())
			s.filter.Where(from)
			match = sql.In(sel.C("id"), from)
		}
		preds = append(preds, match)
	}
	sel.Where(sql.Or(preds...))
}
