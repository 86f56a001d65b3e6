package transport

import (
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// input is what the value of an argument comes to.
type input struct{ depth, nodes, ids int }

// and is both, side by side.
func (i input) and(j input) input {
	return input{depth: max(i.depth, j.depth), nodes: sum(i.nodes, j.nodes), ids: sum(i.ids, j.ids)}
}

// maxReferenceValues is how many plain values an object with one id may have
// to count as that id only, as {id, version} does.
const maxReferenceValues = 3

// inObject makes the fields of an object into the object.
func (i input) inObject() input {
	if i.depth == 0 && i.ids == 1 && i.nodes <= maxReferenceValues {
		return input{depth: 1, ids: 1}
	}
	return input{depth: i.depth + 1, nodes: sum(i.nodes, 1), ids: i.ids}
}

// inList makes the elements of a list of type t into the list. Declared lists
// nest as deep as the schema says; those in custom scalars as deep as the
// client likes.
func (i input) inList(t *ast.Type) input {
	if t == nil || t.Elem == nil {
		i.depth++
	}
	return i
}

// plain is a value that is neither an object nor a list.
func plain(t *ast.Type) input {
	if t != nil && t.Name() == "ID" {
		return input{ids: 1}
	}
	return input{nodes: 1}
}

// checkInputs holds the arguments of a validated operation to the limits.
func (l *Limiter) checkInputs(operation *ast.OperationDefinition, variables map[string]any) *gqlerror.Error {
	s := inputSurvey{
		schema: l.schema, pageSize: l.limits.PageSize, values: variables,
		variables: map[string]input{}, fragments: map[string]input{},
	}
	found, err := s.selections(operation.SelectionSet)
	if err != nil {
		return err
	}
	return firstError(
		exceeds(found.ids, l.limits.IDs, operation.Position, "ids"),
		exceeds(found.depth, l.limits.InputDepth, operation.Position, "levels in an input"),
		exceeds(found.nodes, l.limits.InputNodes, operation.Position, "values in its inputs"),
	)
}

// inputSurvey measures arguments, each fragment and each variable once.
type inputSurvey struct {
	schema    *ast.Schema
	pageSize  int
	values    map[string]any
	variables map[string]input
	fragments map[string]input
}

func (s *inputSurvey) selections(set ast.SelectionSet) (total input, err *gqlerror.Error) {
	for _, selection := range set {
		var one input
		switch selected := selection.(type) {
		case *ast.Field:
			one, err = s.field(selected)
		case *ast.InlineFragment:
			one, err = s.selections(selected.SelectionSet)
		case *ast.FragmentSpread:
			one, err = s.fragment(selected)
		}
		if err != nil {
			return total, err
		}
		total = total.and(one)
	}
	return total, nil
}

func (s *inputSurvey) fragment(spread *ast.FragmentSpread) (input, *gqlerror.Error) {
	if known, ok := s.fragments[spread.Name]; ok {
		return known, nil
	}
	found, err := s.selections(spread.Definition.SelectionSet)
	s.fragments[spread.Name] = found
	return found, err
}

func (s *inputSurvey) field(field *ast.Field) (input, *gqlerror.Error) {
	if introspects(field) {
		return input{}, nil
	}
	total, err := s.selections(field.SelectionSet)
	if err != nil {
		return total, err
	}
	for _, argument := range field.Arguments {
		declared := field.Definition.Arguments.ForName(argument.Name)
		if declared == nil {
			continue
		}
		if err := s.checkPage(argument, declared); err != nil {
			return total, err
		}
		one := s.literal(declared.Type, argument.Value)
		if one == (input{nodes: 1}) {
			// A plain argument is no more than the field, which is counted.
			continue
		}
		total = total.and(one)
	}
	return total, nil
}

// checkPage holds first and last to 1 and the page size. Null is as good as
// absent; whether one of them is required is the field's business.
func (s *inputSurvey) checkPage(argument *ast.Argument, declared *ast.ArgumentDefinition) *gqlerror.Error {
	if argument.Name != "first" && argument.Name != "last" || declared.Type.Name() != "Int" {
		return nil
	}
	var n int64
	var ok bool
	switch argument.Value.Kind {
	case ast.NullValue:
		return nil
	case ast.Variable:
		value := s.values[argument.Value.Raw]
		if value == nil {
			return nil
		}
		n, ok = integer(value)
	default:
		parsed, err := strconv.ParseInt(argument.Value.Raw, 10, 64)
		n, ok = parsed, err == nil
	}
	if ok && 1 <= n && n <= int64(s.pageSize) {
		return nil
	}
	err := refuse(string(lifecycle.BadUserInput), argument.Position,
		"%s must be from 1 to %d.", argument.Name, s.pageSize)
	err.Extensions["fields"] = []string{argument.Name}
	return err
}

func (s *inputSurvey) literal(t *ast.Type, value *ast.Value) (found input) {
	switch value.Kind {
	case ast.Variable:
		return s.variable(value)
	case ast.ListValue:
		for _, child := range value.Children {
			found = found.and(s.literal(elementType(t), child.Value))
		}
		return found.inList(t)
	case ast.ObjectValue:
		definition := inputObject(s.schema, t)
		for _, child := range value.Children {
			found = found.and(s.literal(fieldType(definition, child.Name), child.Value))
		}
		return found.inObject()
	default:
		return plain(t)
	}
}

func (s *inputSurvey) variable(reference *ast.Value) input {
	if known, ok := s.variables[reference.Raw]; ok {
		return known
	}
	found := s.value(reference.VariableDefinition.Type, s.values[reference.Raw])
	s.variables[reference.Raw] = found
	return found
}

func (s *inputSurvey) value(t *ast.Type, value any) (found input) {
	if object, ok := value.(map[string]any); ok {
		definition := inputObject(s.schema, t)
		for name, field := range object {
			found = found.and(s.value(fieldType(definition, name), field))
		}
		return found.inObject()
	}
	elements, ok := list(value)
	if !ok {
		return plain(t)
	}
	for _, element := range elements {
		found = found.and(s.value(elementType(t), element))
	}
	return found.inList(t)
}

// fieldType is nil for fields of custom scalars, which have no types.
func fieldType(object *ast.Definition, name string) *ast.Type {
	if object == nil {
		return nil
	}
	if field := object.Fields.ForName(name); field != nil {
		return field.Type
	}
	return nil
}
