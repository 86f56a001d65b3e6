package record

import (
	"context"
	"fmt"
	"strings"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/belong"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// Scope is what a hold keeps.
type Scope struct {
	hold   gid.ID
	wide   bool
	typ    string
	filter *Filter // nil where there is none, or none that can be read: then all of typ
}

// ScopeOf reads it. Whether the caller may know of the hold is for the caller to
// ask.
func (s *Service) ScopeOf(ctx context.Context, hold gid.ID) (*Scope, error) {
	var q store.Querier = s.db
	if tx := store.TxFrom(ctx); tx != nil {
		q = tx
	}
	var wide *bool
	var typ, text *string
	_, err := store.Build(q).Add(`SELECT wide, filter_type, filter FROM legal_holds WHERE tenant_id = ? AND id = ?`, actor.From(ctx).Tenant, hold).
		One(ctx, q, &wide, &typ, &text)
	if err != nil {
		return nil, fmt.Errorf("reading what a legal hold keeps: %w", err)
	}
	out := &Scope{hold: hold, wide: wide != nil}
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
	if s.wide {
		preds = append(preds, sql.P(func(b *sql.Builder) {
			b.Ident(sel.C("id")).WriteString(" IN (")
			start, end, _ := strings.Cut(belong.Below(sel.Dialect(), "SELECT person_id, person_id FROM legal_hold_records WHERE person_id IS NOT NULL AND hold_id = ?"), "?")
			b.WriteString(start).Arg(s.hold).WriteString(end + "SELECT id FROM below)")
		}))
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
