package transport

import "github.com/vektah/gqlparser/v2/ast"

// Introspects reports whether a validated operation asks for the schema.
func Introspects(operation *ast.OperationDefinition) bool {
	seen := map[string]bool{}
	var within func(ast.SelectionSet) bool
	within = func(set ast.SelectionSet) bool {
		for _, selection := range set {
			var below ast.SelectionSet
			switch selected := selection.(type) {
			case *ast.Field:
				if introspects(selected) {
					return true
				}
				below = selected.SelectionSet
			case *ast.InlineFragment:
				below = selected.SelectionSet
			case *ast.FragmentSpread:
				if seen[selected.Name] {
					continue
				}
				seen[selected.Name] = true
				below = selected.Definition.SelectionSet
			}
			if within(below) {
				return true
			}
		}
		return false
	}
	return within(operation.SelectionSet)
}
