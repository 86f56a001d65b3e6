// Package generated is the executable schema; what follows is the part of it that
// is written by hand.
package generated

import (
	"context"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/lethe-crm/lethe/internal/gid"
)

// answerSize is how much memory an answer is given at first, in bytes.
const answerSize = 8 << 10

// directAnswers is what one operation knows of the parts of its answer that are
// written straight from rows; see package graphgen. It is written by hand.
type directAnswers struct {
	mu    sync.Mutex
	plans map[planKey][]directField
	args  map[*ast.Field]map[string]any
}

// planKey is a selection of a type. Its address tells one from another: the
// document does not change while it is executed.
type planKey struct {
	first *ast.Selection
	n     int
	typ   *string
}

// directField is a selected field of an object that is written directly.
type directField struct {
	key   string // what stands before the value: {"name": or ,"name":
	index int    // which of the object's fields, 0 for __typename
	below []directField
}

// fields answers what is selected, nil where read knows one of the fields not.
func (d *directAnswers) fields(
	op *graphql.OperationContext, sel ast.SelectionSet, implementors []string, read func(*graphql.CollectedField, *directField) bool,
) []directField {
	if len(sel) == 0 {
		return nil
	}
	key := planKey{&sel[0], len(sel), &implementors[0]}
	d.mu.Lock()
	plan, known := d.plans[key]
	d.mu.Unlock()
	if known {
		return plan
	}
	collected := graphql.CollectFields(op, sel, implementors)
	plan = make([]directField, len(collected))
	for i := range collected {
		before := `,"`
		if i == 0 {
			before = `{"`
		}
		plan[i].key = before + collected[i].Alias + `":` // a GraphQL name needs no quoting
		if len(collected[i].Deferrables) > 0 || !read(&collected[i], &plan[i]) {
			plan = nil
			break
		}
	}
	if len(plan) == 0 {
		plan = nil
	}
	d.mu.Lock()
	if d.plans == nil {
		d.plans = map[planKey][]directField{}
	}
	d.plans[key] = plan
	d.mu.Unlock()
	return plan
}

// arguments reads the arguments of a field once.
func (d *directAnswers) arguments(
	ctx context.Context, field graphql.CollectedField, variables map[string]any, read func(context.Context, map[string]any) (map[string]any, error),
) (map[string]any, error) {
	d.mu.Lock()
	args, known := d.args[field.Field]
	d.mu.Unlock()
	if known {
		return args, nil
	}
	args, err := read(ctx, field.ArgumentMap(variables))
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	if d.args == nil {
		d.args = map[*ast.Field]map[string]any{}
	}
	d.args[field.Field] = args
	d.mu.Unlock()
	return args, nil
}

// marshalSlice marshals the elements of a list one after another, each with a
// field context and a recovery of its own, as gqlgen does at once.
func marshalSlice(ctx context.Context, n int, marshal func(context.Context, int) graphql.Marshaler) graphql.Array {
	out := make(graphql.Array, n)
	for i := range n {
		marshalElement(graphql.WithFieldContext(ctx, &graphql.FieldContext{Index: &i}), out, i, marshal)
	}
	return out
}

func marshalElement(ctx context.Context, out graphql.Array, i int, marshal func(context.Context, int) graphql.Marshaler) {
	defer func() {
		if r := recover(); r != nil {
			graphql.AddError(ctx, graphql.Recover(ctx, r))
			out[i] = graphql.Null
		}
	}()
	out[i] = marshal(ctx, i)
}

func writeList[T any](list []T, write func(io.Writer, T)) graphql.Marshaler {
	return graphql.WriterFunc(func(w io.Writer) {
		writeText(w, "[")
		for i, v := range list {
			if i > 0 {
				writeText(w, ",")
			}
			write(w, v)
		}
		writeText(w, "]")
	})
}

// What is written goes into memory, where nothing can go wrong.

func writeText(w io.Writer, s string) { _, _ = io.WriteString(w, s) }

func writeOptional[T any](w io.Writer, v *T, write func(io.Writer, T)) {
	if v == nil {
		writeText(w, "null")
		return
	}
	write(w, *v)
}

func writeString(w io.Writer, s string) {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' {
			graphql.MarshalString(s).MarshalGQL(w)
			return
		}
	}
	writeText(w, `"`)
	writeText(w, s)
	writeText(w, `"`)
}

func writeTime(w io.Writer, t time.Time) {
	var b [len(time.RFC3339Nano) + 2]byte
	_, _ = w.Write(append(t.AppendFormat(append(b[:0], '"'), time.RFC3339Nano), '"'))
}

func writeInt(w io.Writer, n int) {
	var b [20]byte
	_, _ = w.Write(strconv.AppendInt(b[:0], int64(n), 10))
}

func writeBool(w io.Writer, v bool) { writeText(w, strconv.FormatBool(v)) }

func writeID(w io.Writer, id gid.ID) {
	var b [64]byte
	_, _ = w.Write(append(id.Append(append(b[:0], '"')), '"'))
}
