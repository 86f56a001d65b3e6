package transport

import (
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// What no input within the limits has is refused before gqlparser validates or
// coerces it: that takes time by the square of how deep a value is, and hundreds
// of allocations for each object. checkInputs, which is exact, comes after it.

const (
	// levelsOfInput is how many levels of JSON a level of an input may take: its
	// object, a list around it, and a list around that.
	levelsOfInput = 3
	// valuesOfID is how many values a record may take that is chosen by its id: an
	// object, the id, and maxReferenceValues.
	valuesOfID = 2 + maxReferenceValues
	// valuesOfNode is how many values a value of an input may take: itself, and a list
	// around it.
	valuesOfNode = 2
)

func (l *Limiter) deepest() int { return levelsOfInput * (l.limits.InputDepth + 1) }

func (l *Limiter) tooDeep(at *ast.Position) *gqlerror.Error {
	return exceeds(l.limits.InputDepth+1, l.limits.InputDepth, at, "levels in an input")
}

// checkVariables reads all variables, declared or not.
func (l *Limiter) checkVariables(variables map[string]any) *gqlerror.Error {
	values, most := 0, valuesOfNode*l.limits.InputNodes+valuesOfID*l.limits.IDs
	var check func(value any, depth int) *gqlerror.Error
	check = func(value any, depth int) *gqlerror.Error {
		values++
		if err := exceeds(values, most, nil, "values in its variables"); err != nil {
			return err
		}
		if depth > l.deepest() {
			return l.tooDeep(nil)
		}
		switch typed := value.(type) {
		case map[string]any:
			for _, field := range typed {
				if err := check(field, depth+1); err != nil {
					return err
				}
			}
		case []any:
			for _, element := range typed {
				if err := check(element, depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for _, value := range variables {
		if err := check(value, 1); err != nil {
			return err
		}
	}
	return nil
}

// checkLiterals reads the values that are written in a document.
func (l *Limiter) checkLiterals(document *ast.QueryDocument) *gqlerror.Error {
	for _, operation := range document.Operations {
		for _, definition := range operation.VariableDefinitions {
			if l.isDeep(definition.DefaultValue, 1) {
				return l.tooDeep(definition.Position)
			}
			if err := l.checkDirectives(definition.Directives); err != nil {
				return err
			}
		}
		if err := firstError(l.checkDirectives(operation.Directives), l.checkSelections(operation.SelectionSet)); err != nil {
			return err
		}
	}
	for _, fragment := range document.Fragments {
		if err := firstError(l.checkDirectives(fragment.Directives), l.checkSelections(fragment.SelectionSet)); err != nil {
			return err
		}
	}
	return nil
}

func (l *Limiter) checkSelections(selections ast.SelectionSet) *gqlerror.Error {
	for _, selection := range selections {
		var err *gqlerror.Error
		switch s := selection.(type) {
		case *ast.Field:
			err = firstError(l.checkArguments(s.Arguments), l.checkDirectives(s.Directives), l.checkSelections(s.SelectionSet))
		case *ast.InlineFragment:
			err = firstError(l.checkDirectives(s.Directives), l.checkSelections(s.SelectionSet))
		case *ast.FragmentSpread:
			err = l.checkDirectives(s.Directives)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Limiter) checkDirectives(directives ast.DirectiveList) *gqlerror.Error {
	for _, directive := range directives {
		if err := l.checkArguments(directive.Arguments); err != nil {
			return err
		}
	}
	return nil
}

func (l *Limiter) checkArguments(arguments ast.ArgumentList) *gqlerror.Error {
	for _, argument := range arguments {
		if l.isDeep(argument.Value, 1) {
			return l.tooDeep(argument.Position)
		}
	}
	return nil
}

func (l *Limiter) isDeep(value *ast.Value, depth int) bool {
	if value == nil {
		return false
	}
	if depth > l.deepest() {
		return true
	}
	for _, child := range value.Children {
		if l.isDeep(child.Value, depth+1) {
			return true
		}
	}
	return false
}
