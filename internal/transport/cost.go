package transport

import (
	"math"
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// cost is how many values the answer of a selection set may hold: those of its
// lists apart, because a page repeats them and not what stands beside them
// (totalCount and pageInfo of a connection).
type cost struct{ lists, others int }

func (c cost) and(d cost) cost { return cost{sum(c.lists, d.lists), sum(c.others, d.others)} }

func (c cost) total() int { return sum(c.lists, c.others) }

// times stops at the largest int32, as sum does. An int64 holds the product of
// two of them.
func times(a, b int) int {
	return int(min(int64(a)*int64(b), math.MaxInt32))
}

// checkCost holds a validated operation to the budget: a field costs one, and a
// list as many times its child as it may have elements.
func (l *Limiter) checkCost(operation *ast.OperationDefinition, variables map[string]any) *gqlerror.Error {
	s := costSurvey{pageSize: l.limits.PageSize, values: variables, fragments: map[string]cost{}}
	found := s.selections(operation.SelectionSet).total()
	if found <= l.limits.Cost {
		return nil
	}
	return refuse(CodeQueryLimit, operation.Position,
		"The answer could have too many values: at most %d are allowed. Ask for smaller pages, or for fewer fields.", l.limits.Cost)
}

// costSurvey adds up costs, those of each fragment once. It relies on the
// document being valid, so that fragments have no cycles.
type costSurvey struct {
	pageSize  int
	values    map[string]any
	fragments map[string]cost
}

func (s *costSurvey) selections(set ast.SelectionSet) (total cost) {
	for _, selection := range set {
		switch selected := selection.(type) {
		case *ast.Field:
			total = total.and(s.field(selected))
		case *ast.InlineFragment:
			total = total.and(s.selections(selected.SelectionSet))
		case *ast.FragmentSpread:
			total = total.and(s.fragment(selected))
		}
	}
	return total
}

func (s *costSurvey) fragment(spread *ast.FragmentSpread) cost {
	if known, ok := s.fragments[spread.Name]; ok {
		return known
	}
	found := s.selections(spread.Definition.SelectionSet)
	s.fragments[spread.Name] = found
	return found
}

func (s *costSurvey) field(field *ast.Field) cost {
	if introspects(field) || field.Definition == nil {
		return cost{others: 1} // introspection has bounds of its own
	}
	below := s.selections(field.SelectionSet)
	if field.Definition.Type.Elem != nil {
		return cost{lists: sum(1, times(s.elements(field), below.total()))}
	}
	// A connection: its page is in the lists below it.
	below.lists = times(s.elements(field), below.lists)
	return cost{others: sum(1, below.total())}
}

// elements is how many elements the arguments let a field have: a page, or one
// for each id. Lists that nobody can size are short by nature and count once.
func (s *costSurvey) elements(field *ast.Field) int {
	paged, most := false, 0
	for _, declared := range field.Definition.Arguments {
		if declared.Name != "first" && declared.Name != "last" || declared.Type.Name() != "Int" {
			continue
		}
		paged = true
		if n, ok := s.number(field.Arguments.ForName(declared.Name), declared.DefaultValue); ok {
			most = max(most, n)
		}
	}
	if !paged {
		return max(1, s.ids(field))
	}
	if most < 1 {
		return s.pageSize // whether it may be left out is the field's business
	}
	return most
}

func (s *costSurvey) number(argument *ast.Argument, unless *ast.Value) (int, bool) {
	value := unless
	if argument != nil {
		value = argument.Value
	}
	switch {
	case value == nil:
		return 0, false
	case value.Kind == ast.Variable:
		n, ok := integer(s.values[value.Raw])
		return int(min(n, math.MaxInt32)), ok
	default:
		n, err := strconv.ParseInt(value.Raw, 10, 32)
		return int(n), err == nil
	}
}

// ids is the length of the longest list of ids among the arguments of a list.
func (s *costSurvey) ids(field *ast.Field) (longest int) {
	if field.Definition.Type.Elem == nil {
		return 0
	}
	for _, argument := range field.Arguments {
		declared := field.Definition.Arguments.ForName(argument.Name)
		if declared == nil || declared.Type.Elem == nil || declared.Type.Name() != "ID" {
			continue
		}
		length := len(argument.Value.Children)
		if argument.Value.Kind == ast.Variable {
			elements, _ := list(s.values[argument.Value.Raw])
			length = len(elements)
		}
		longest = max(longest, length)
	}
	return longest
}
