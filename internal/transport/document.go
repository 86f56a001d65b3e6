package transport

import (
	"math"

	"github.com/99designs/gqlgen/graphql/errcode"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// tally is what a selection set comes to with its fragments spread.
type tally struct {
	depth, aliases, directives, fields int
	// roots are the fields of the set itself, not those below them.
	roots int
	// lists is how many lists of introspection are in one another.
	lists int
}

// introspected are the fields of introspection that answer lists.
var introspected = map[string]bool{
	"types": true, "directives": true, "fields": true, "args": true, "interfaces": true,
	"possibleTypes": true, "enumValues": true, "inputFields": true,
}

// add takes in a neighbour of the same level.
func (t *tally) add(u tally) {
	t.depth = max(t.depth, u.depth)
	t.aliases = sum(t.aliases, u.aliases)
	t.directives = sum(t.directives, u.directives)
	t.fields = sum(t.fields, u.fields)
	t.roots = sum(t.roots, u.roots)
	t.lists = max(t.lists, u.lists)
}

// sum stops at the largest int32: 40 nested fragments overflow an int64.
func sum(a, b int) int { return min(a+b, math.MaxInt32) }

// extent is a tally of what is executed and one of introspection.
type extent struct{ data, introspection tally }

func (e *extent) add(f extent) {
	e.data.add(f.data)
	e.introspection.add(f.introspection)
}

// checkDocument holds a parsed, not yet validated document to the limits.
func (l *Limiter) checkDocument(document *ast.QueryDocument) *gqlerror.Error {
	if err := exceeds(len(document.Operations), l.limits.Operations, nil, "operations"); err != nil {
		return err
	}
	s := survey{fragments: fragments(document), extents: map[string]*extent{}}
	for _, operation := range document.Operations {
		found, err := s.selections(operation.SelectionSet)
		if err != nil {
			return err
		}
		found.data.directives = sum(found.data.directives, len(operation.Directives))
		for _, variable := range operation.VariableDefinitions {
			found.data.directives = sum(found.data.directives, len(variable.Directives))
		}
		if err := l.checkExtent(found, operation.Position); err != nil {
			return err
		}
		m := merge{fragments: s.fragments, left: l.limits.MergeWork}
		if !m.sets([]ast.SelectionSet{operation.SelectionSet}) {
			return refuse(CodeQueryLimit, operation.Position, "The request selects the same fields too many times.")
		}
	}
	return nil
}

func (l *Limiter) checkExtent(e extent, at *ast.Position) *gqlerror.Error {
	return firstError(
		exceeds(e.data.depth, l.limits.Depth, at, "levels"),
		exceeds(e.data.aliases, l.limits.Aliases, at, "aliases"),
		exceeds(e.data.roots, l.limits.RootFields, at, "root fields"),
		exceeds(e.data.directives, l.limits.Directives, at, "directives"),
		exceeds(e.data.fields, l.limits.Fields, at, "fields"),
		exceeds(e.introspection.depth, introspectionLimits.depth, at, "levels of introspection"),
		exceeds(e.introspection.lists, introspectionLimits.lists, at, "lists in lists of introspection"),
		exceeds(e.introspection.aliases, introspectionLimits.aliases, at, "aliases in introspection"),
		exceeds(e.introspection.roots, introspectionLimits.roots, at, "introspection fields"),
		exceeds(e.introspection.directives, introspectionLimits.directives, at, "directives in introspection"),
		exceeds(e.introspection.fields, introspectionLimits.fields, at, "fields of introspection"),
	)
}

// fragments by name. A name that comes twice is left to the validator, which
// follows the first.
func fragments(document *ast.QueryDocument) map[string]*ast.FragmentDefinition {
	byName := make(map[string]*ast.FragmentDefinition, len(document.Fragments))
	for _, fragment := range document.Fragments {
		if byName[fragment.Name] == nil {
			byName[fragment.Name] = fragment
		}
	}
	return byName
}

// survey measures selection sets, each fragment once.
type survey struct {
	fragments map[string]*ast.FragmentDefinition
	extents   map[string]*extent // nil while the fragment is being measured
}

func (s *survey) selections(set ast.SelectionSet) (total extent, err *gqlerror.Error) {
	for _, selection := range set {
		var one extent
		var directives ast.DirectiveList
		switch selected := selection.(type) {
		case *ast.Field:
			one, err = s.field(selected)
			directives = selected.Directives
		case *ast.InlineFragment:
			one, err = s.selections(selected.SelectionSet)
			directives = selected.Directives
		case *ast.FragmentSpread:
			one, err = s.fragment(selected)
			directives = selected.Directives
		}
		if err != nil {
			return total, err
		}
		one.data.directives = sum(one.data.directives, len(directives))
		total.add(one)
	}
	return total, nil
}

func (s *survey) field(field *ast.Field) (extent, *gqlerror.Error) {
	found, err := s.selections(field.SelectionSet)
	if err != nil {
		return extent{}, err
	}
	// __type and __schema are fields of the query type only. Everything below
	// them belongs to introspection.
	counted := &found.data
	if introspects(field) {
		found.introspection.add(found.data)
		found.data = tally{}
		counted = &found.introspection
	}
	counted.depth++
	if introspected[field.Name] {
		counted.lists++
	}
	counted.fields = sum(counted.fields, 1)
	counted.roots = 1
	if field.Alias != field.Name {
		counted.aliases = sum(counted.aliases, 1)
	}
	return found, nil
}

func introspects(field *ast.Field) bool { return field.Name == "__schema" || field.Name == "__type" }

func (s *survey) fragment(spread *ast.FragmentSpread) (extent, *gqlerror.Error) {
	definition := s.fragments[spread.Name]
	if definition == nil {
		return extent{}, nil // the validator's to report
	}
	known, begun := s.extents[spread.Name]
	if known != nil {
		return *known, nil
	}
	if begun {
		return extent{}, refuse(errcode.ValidationFailed, spread.Position,
			`Cannot spread fragment "%s" within itself.`, clip(spread.Name, maxElement))
	}
	s.extents[spread.Name] = nil
	found, err := s.selections(definition.SelectionSet)
	if err != nil {
		return extent{}, err
	}
	found.data.directives = sum(found.data.directives, len(definition.Directives))
	s.extents[spread.Name] = &found
	return found, nil
}

// merge estimates what gqlparser's OverlappingFieldsCanBeMerged costs: it
// compares every pair of fields that share a response name, level by level
// with their selection sets merged.
type merge struct {
	fragments map[string]*ast.FragmentDefinition
	left      int
}

// sets spends the work on selection sets that become one object of the answer,
// and reports whether it was enough. It relies on the document having no
// cycles and on its depth being bounded.
func (m *merge) sets(sets []ast.SelectionSet) bool {
	below := map[string][]ast.SelectionSet{}
	spread := map[string]bool{}
	var collect func(ast.SelectionSet) bool
	collect = func(set ast.SelectionSet) bool {
		for _, selection := range set {
			m.left--
			switch selected := selection.(type) {
			case *ast.Field:
				m.left -= len(below[selected.Alias])
				below[selected.Alias] = append(below[selected.Alias], selected.SelectionSet)
			case *ast.InlineFragment:
				if !collect(selected.SelectionSet) {
					return false
				}
			case *ast.FragmentSpread:
				definition := m.fragments[selected.Name]
				if definition == nil || spread[selected.Name] {
					continue
				}
				spread[selected.Name] = true
				if !collect(definition.SelectionSet) {
					return false
				}
			}
			if m.left < 0 {
				return false
			}
		}
		return true
	}
	for _, set := range sets {
		if !collect(set) {
			return false
		}
	}
	for _, children := range below {
		if !m.sets(children) {
			return false
		}
	}
	return true
}
