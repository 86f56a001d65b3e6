package graph

import (
	"context"
	"reflect"
	"slices"

	"github.com/99designs/gqlgen/graphql"

	"github.com/lethe-crm/lethe/ent"
)

// list is a list of the answer: what stands beside a row and is read with it.
type list[T comparable] struct {
	rows []T
	in   map[T]bool
}

type listKey struct {
	field *graphql.FieldContext
	what  string
}

// listOf finds the list in which row stands, so that what its resolvers need is
// read for all of it at once. The field that holds the list is its identity; a
// row that stands alone is a list of itself.
func listOf[T comparable](ctx context.Context, row T) ([]T, *graphql.FieldContext, error) {
	own := graphql.GetFieldContext(ctx)
	for field := own.Parent; field != nil; field = field.Parent {
		rows := reflect.ValueOf(field.Result)
		if rows.Kind() != reflect.Slice {
			continue
		}
		l, err := once(ctx, listKey{field, "list"}, func() (*list[T], error) {
			l := &list[T]{in: map[T]bool{}}
			for i := range rows.Len() {
				if v, ok := nodeOf[T](rows.Index(i)); ok && !l.in[v] {
					l.rows, l.in[v] = append(l.rows, v), true
				}
			}
			return l, nil
		})
		if err != nil {
			return nil, nil, err
		}
		if l != nil && l.in[row] {
			return l.rows, field, nil
		}
		break
	}
	return []T{row}, own.Parent, nil
}

// nodeOf is an element of a list, or the node of an element that is an edge.
func nodeOf[T any](v reflect.Value) (T, bool) {
	if node, ok := reflect.TypeAssert[T](v); ok {
		return node, true
	}
	if v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
		if f := v.Elem().FieldByName("Node"); f.IsValid() {
			return reflect.TypeAssert[T](f)
		}
	}
	var none T
	return none, false
}

// below is the field of that name in what is selected below another, or nil.
func below(ctx context.Context, parent graphql.CollectedField, name string) *graphql.CollectedField {
	var found *graphql.CollectedField
	for _, f := range graphql.CollectFields(graphql.GetOperationContext(ctx), parent.Selections, nil) {
		switch {
		case f.Name != name:
		case found == nil:
			found = &f
		default: // by another alias
			found.Selections = slices.Concat(found.Selections, f.Selections)
		}
	}
	return found
}

// window is a page of a list in its order: size rows after or before a cursor,
// from the end if backward.
type window struct {
	after, before *ent.Cursor
	size          int
	backward      bool
}

func windowOf(after *ent.Cursor, first *int, before *ent.Cursor, last *int) window {
	w := window{after: after, before: before, backward: last != nil}
	if w.backward {
		w.size = *last
	} else {
		w.size = *first
	}
	return w
}

// page cuts rows, which were read in the direction of the window and one more
// than fit, and brings them into their order.
func page[T any](w window, rows []T, cursor func(T) ent.Cursor) ([]T, []ent.Cursor, ent.PageInfo) {
	return ordered(w, rows[:min(len(rows), w.size)], len(rows) > w.size, cursor)
}

// ordered brings the rows of a page into their order; more says whether there
// are others in the direction of the window.
func ordered[T any](w window, rows []T, more bool, cursor func(T) ent.Cursor) ([]T, []ent.Cursor, ent.PageInfo) {
	info := ent.PageInfo{
		HasNextPage:     w.before != nil || more && !w.backward,
		HasPreviousPage: w.after != nil || more && w.backward,
	}
	result, cursors := make([]T, len(rows)), make([]ent.Cursor, len(rows))
	for i, row := range rows {
		at := i
		if w.backward {
			at = len(rows) - 1 - i
		}
		result[at], cursors[at] = row, cursor(row)
	}
	if len(rows) > 0 {
		info.StartCursor, info.EndCursor = &cursors[0], &cursors[len(cursors)-1]
	}
	return result, cursors, info
}
