package graph

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/graph/generated"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// Masked says in the extensions of a response where a value was withheld.
type Masked struct {
	Path ast.Path       `json:"path"`
	Code lifecycle.Code `json:"code"` // FIELD_FORBIDDEN
}

// InterceptResponse implements graphql.ResponseInterceptor: it names what was withheld.
func (a admission) InterceptResponse(ctx context.Context, next graphql.ResponseHandler) *graphql.Response {
	response := next(ctx)
	s := sharedOf(ctx)
	if response == nil || s == nil {
		return response
	}
	s.mu.Lock()
	paths := slices.Collect(maps.Values(s.masked))
	s.mu.Unlock()
	if len(paths) == 0 {
		return response
	}
	slices.SortFunc(paths, comparePaths)
	list := make([]Masked, len(paths))
	for i, p := range paths {
		list[i] = Masked{p, lifecycle.FieldForbidden}
	}
	if response.Extensions == nil {
		response.Extensions = map[string]any{}
	}
	response.Extensions["masked"] = list
	return response
}

func (s *shared) noteMasked(path ast.Path) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.masked == nil {
		s.masked = map[string]ast.Path{}
	}
	s.masked[path.String()] = path
}

// comparePaths puts paths into the order of the answer as far as indexes go.
func comparePaths(a, b ast.Path) int {
	return slices.CompareFunc(a, b, func(x, y ast.PathElement) int {
		i, isIndex := x.(ast.PathIndex)
		j, isToo := y.(ast.PathIndex)
		if isIndex && isToo {
			return int(i) - int(j)
		}
		return strings.Compare(fmt.Sprint(x), fmt.Sprint(y))
	})
}

// noteElement says that a field of the element of the list that is being resolved is withheld, under each name by
// which it was asked for.
func noteElement(ctx context.Context, index int, field string) {
	own := graphql.GetFieldContext(ctx)
	element := graphql.WithFieldContext(ctx, &graphql.FieldContext{Parent: own, Index: &index})
	for _, f := range graphql.CollectFields(graphql.GetOperationContext(ctx), own.Field.Selections, nil) {
		if f.Name == field {
			generated.NoteMasked(element, f.Alias)
		}
	}
}

// noteBelow is noteElement for a list below the field that is being resolved.
func noteBelow(ctx context.Context, list string, index int, field string) {
	own := graphql.GetFieldContext(ctx)
	for _, f := range graphql.CollectFields(graphql.GetOperationContext(ctx), own.Field.Selections, nil) {
		if f.Name == list {
			noteElement(graphql.WithFieldContext(ctx, &graphql.FieldContext{Parent: own, Field: f}), index, field)
		}
	}
}

// usedFields knows which arguments compare a field, or put records in the order of one.
type usedFields struct {
	schema *ast.Schema
	// filters are, by filter type and field, the field of the record that is compared.
	filters map[string]map[string]string
	// orders are, by the enum of orders and its value, the field of the record.
	orders map[string]map[string]string
}

func newUsedFields(schema *ast.Schema) usedFields {
	u := usedFields{schema, map[string]map[string]string{}, map[string]map[string]string{}}
	for _, t := range ent.RecordTypes {
		filters, orders := map[string]string{}, map[string]string{}
		where, order := schema.Types[t.Name+"WhereInput"], schema.Types[t.Name+"OrderField"]
		for _, field := range access.Maskable(t.Name) {
			for _, c := range access.Comparisons {
				if where != nil && where.Fields.ForName(field+c) != nil {
					filters[field+c] = field
				}
			}
			if order != nil && order.EnumValues.ForName(constantCase(field)) != nil {
				orders[constantCase(field)] = field
			}
		}
		u.filters[t.Name+"WhereInput"], u.orders[t.Name+"OrderField"] = filters, orders
	}
	return u
}

// constantCase is how enums spell a field: senderName is SENDER_NAME.
func constantCase(name string) string {
	var b strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}

// check refuses an operation that compares or orders by a field that is hidden from the reader in some record: the
// answer would tell of its values.
func (u usedFields) check(op *graphql.OperationContext, rows *access.Rows) (typ, argument string) {
	visited := map[string]bool{}
	var walk func(ast.SelectionSet) bool
	walk = func(set ast.SelectionSet) bool {
		for _, s := range set {
			switch s := s.(type) {
			case *ast.Field:
				for _, a := range s.Arguments {
					if typ, argument = u.argument(s, a, op.Variables, rows); typ != "" {
						return false
					}
				}
				if !walk(s.SelectionSet) {
					return false
				}
			case *ast.InlineFragment:
				if !walk(s.SelectionSet) {
					return false
				}
			case *ast.FragmentSpread:
				if s.Definition == nil || visited[s.Name] {
					continue
				}
				visited[s.Name] = true
				if !walk(s.Definition.SelectionSet) {
					return false
				}
			}
		}
		return true
	}
	walk(op.Operation.SelectionSet)
	return typ, argument
}

func (u usedFields) argument(f *ast.Field, a *ast.Argument, variables map[string]any, rows *access.Rows) (typ, argument string) {
	if f.Definition == nil {
		return "", ""
	}
	declared := f.Definition.Arguments.ForName(a.Name)
	if declared == nil || !u.compares(declared.Type, map[string]bool{}) {
		return "", ""
	}
	value, err := a.Value.Value(variables)
	if err != nil {
		return "", "" // it is refused where it is read
	}
	return u.value(declared.Type, value, rows)
}

// compares reports whether a type of input has a filter or an order in it.
func (u usedFields) compares(t *ast.Type, seen map[string]bool) bool {
	name := t.Name()
	if u.filters[name] != nil || u.orders[name] != nil {
		return true
	}
	def := u.schema.Types[name]
	if seen[name] || def == nil || def.Kind != ast.InputObject {
		return false
	}
	seen[name] = true
	return slices.ContainsFunc(def.Fields, func(f *ast.FieldDefinition) bool { return u.compares(f.Type, seen) })
}

func (u usedFields) value(t *ast.Type, value any, rows *access.Rows) (typ, argument string) {
	name := t.Name()
	switch v := value.(type) {
	case nil:
		return "", ""
	case string:
		if field := u.orders[name][v]; field != "" {
			if of := strings.TrimSuffix(name, "OrderField"); !rows.Filterable(of, field) {
				return of, field
			}
		}
		return "", ""
	case map[string]any:
		def := u.schema.Types[name]
		if def == nil {
			return "", ""
		}
		for key, below := range v {
			if field := u.filters[name][key]; field != "" && below != nil {
				if of := strings.TrimSuffix(name, "WhereInput"); !rows.Filterable(of, field) {
					return of, key
				}
			}
			if declared := def.Fields.ForName(key); declared != nil {
				if typ, argument = u.value(declared.Type, below, rows); typ != "" {
					return typ, argument
				}
			}
		}
		return "", ""
	}
	if list := reflect.ValueOf(value); list.Kind() == reflect.Slice {
		for i := range list.Len() {
			if typ, argument = u.value(t, list.Index(i).Interface(), rows); typ != "" {
				return typ, argument
			}
		}
	}
	return "", ""
}

// refuseHidden refuses an operation that compares or orders by what is hidden from the caller, before anything of it
// is executed.
func (a admission) refuseHidden(ctx context.Context, rows *access.Rows) *graphql.Response {
	typ, argument := a.fields.check(graphql.GetOperationContext(ctx), rows)
	if typ == "" {
		return nil
	}
	refused := record.Refuse(lifecycle.FieldForbidden, "The policy hides values of this field from you: it cannot be filtered or ordered by.", argument)
	refused.Extensions = map[string]any{"decisionID": a.logRefusalAs(ctx, lifecycle.FieldForbidden, authz.Read, typ).String()}
	return a.refusal(ctx, refused)
}
