package generated

import (
	"context"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/visible"
)

// hiddenOf are the fields of a record that are hidden from the reader; nil for most.
func hiddenOf(ctx context.Context, r ent.Record) map[string]bool {
	m := visible.MaskOf(ctx, r.RecordType().Name)
	if m == nil {
		return nil
	}
	return m.Hidden(r.Column)
}

// masked answers null for a hidden field, and says so.
func masked(ctx context.Context, field graphql.CollectedField) graphql.Marshaler {
	NoteMasked(ctx, field.Alias)
	return graphql.Null
}

type noteKey struct{}

// WithNote returns a context in which note is told the path of every field whose value is withheld.
func WithNote(ctx context.Context, note func(ast.Path)) context.Context {
	return context.WithValue(ctx, noteKey{}, note)
}

// NoteMasked says that a value at the path of the field that is being resolved, and further below, is withheld.
func NoteMasked(ctx context.Context, below ...string) {
	note, ok := ctx.Value(noteKey{}).(func(ast.Path))
	if !ok {
		return
	}
	path := append(ast.Path{}, graphql.GetPath(ctx)...)
	for _, name := range below {
		path = append(path, ast.PathName(name))
	}
	note(path)
}
