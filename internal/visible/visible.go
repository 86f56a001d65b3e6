// Package visible carries, in the context of a request, which rows its reader
// may see. It is the seam between the generated entities, which ask, and the
// access rules, which answer.
package visible

import (
	"context"

	"entgo.io/ent/dialect/sql"
)

// Rows narrows a query to what a reader may see.
type Rows interface {
	// Where adds the tenant and row filter of entity typ ("Customer") to s.
	Where(s *sql.Selector, typ string)
}

// Reader is what rows that belong to somebody of one tenant know of him.
type Reader interface {
	Rows
	// TenantID is the tenant's id.
	TenantID() any
	// Filterable reports whether he may compare a field of a type, by its name in the
	// API: whether he sees it in every record that he sees.
	Filterable(typ, field string) bool
}

// ReaderOf is who reads, nil where that is nobody of one tenant.
func ReaderOf(ctx context.Context) Reader {
	if ctx == nil {
		return nil
	}
	reader, _ := ctx.Value(key{}).(Reader)
	return reader
}

type key struct{}

// With returns a context whose reader sees rows.
func With(ctx context.Context, rows Rows) context.Context {
	return context.WithValue(ctx, key{}, rows)
}

// Where narrows s, a query over entity typ, to what the reader in its context
// may see. Without a reader nothing is seen: a forgotten With shows as an empty
// answer, never as a leak.
func Where(s *sql.Selector, typ string) {
	ctx := s.Context()
	if ctx == nil {
		s.Where(sql.False())
		return
	}
	WhereContext(ctx, s, typ)
}

// WhereContext is Where with the context given.
func WhereContext(ctx context.Context, s *sql.Selector, typ string) {
	rows, _ := ctx.Value(key{}).(Rows)
	if rows == nil {
		s.Where(sql.False())
		return
	}
	rows.Where(s, typ)
}

// Live narrows s to records that take part in business. Edge predicates use
// it: what is in the bin must not show through a filter on its neighbours.
func Live(s *sql.Selector) { s.Where(sql.IsNull(s.C("retired_at"))) }

// Target narrows s to rows whose reference in column points to a record, of
// entity typ in table, that the reader may see.
func Target(s *sql.Selector, column, table, typ string) {
	target := sql.Dialect(s.Dialect()).Table(table).As("target")
	sub := sql.Dialect(s.Dialect()).Select(target.C("id")).From(target)
	if ctx := s.Context(); ctx != nil {
		sub.WithContext(ctx)
	}
	sub.Where(sql.ColumnsEQ(target.C("id"), s.C(column)))
	Where(sub, typ)
	s.Where(sql.Exists(sub))
}

// Everything sees every row of every tenant. It is for Lethe's own bookkeeping
// (identity, policies, sweeping), never for an answer to a caller.
var Everything Rows = everything{}

type everything struct{}

func (everything) Where(*sql.Selector, string) {}

// Tenant sees every row of one tenant.
func Tenant(id any) Rows { return tenant{id} }

type tenant struct{ id any }

func (t tenant) Where(s *sql.Selector, _ string) { s.Where(sql.EQ(s.C("tenant_id"), t.id)) }

func (t tenant) TenantID() any { return t.id }

func (tenant) Filterable(string, string) bool { return true }
