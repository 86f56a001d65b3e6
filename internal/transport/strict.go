package transport

import (
	"context"
	"slices"
	"strings"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// Strict is an extension that refuses what gqlgen accepts and cannot be served
// right: NUL in text, which PostgreSQL does not store, and @defer, which over
// plain JSON loses data without a word.
type Strict struct{}

var _ graphql.OperationContextMutator = Strict{}

// ExtensionName implements graphql.HandlerExtension.
func (Strict) ExtensionName() string { return "Strict" }

// Validate implements graphql.HandlerExtension.
func (Strict) Validate(graphql.ExecutableSchema) error { return nil }

// MutateOperationContext implements graphql.OperationContextMutator.
func (Strict) MutateOperationContext(_ context.Context, operation *graphql.OperationContext) *gqlerror.Error {
	for _, definition := range operation.Operation.VariableDefinitions {
		if hasNUL(operation.Variables[definition.Variable]) {
			return refuse(codeBadUserInput, definition.Position, `Variable "$%s" contains a NUL character.`, definition.Variable)
		}
	}
	// NUL comes into a document by an escape only. Few documents need the walk.
	if !strings.Contains(operation.RawQuery, `\u`) && !strings.Contains(operation.RawQuery, "defer") {
		return nil
	}
	if err := strictDirectives(operation.Operation.Directives); err != nil {
		return err
	}
	if err := strictSelections(operation.Operation.SelectionSet); err != nil {
		return err
	}
	for _, fragment := range operation.Doc.Fragments {
		if err := strictDirectives(fragment.Directives); err != nil {
			return err
		}
		if err := strictSelections(fragment.SelectionSet); err != nil {
			return err
		}
	}
	return nil
}

func strictSelections(selections ast.SelectionSet) *gqlerror.Error {
	for _, selection := range selections {
		var directives ast.DirectiveList
		var below ast.SelectionSet
		switch s := selection.(type) {
		case *ast.Field:
			if err := strictArguments(s.Arguments); err != nil {
				return err
			}
			directives, below = s.Directives, s.SelectionSet
		case *ast.InlineFragment:
			directives, below = s.Directives, s.SelectionSet
		case *ast.FragmentSpread:
			directives = s.Directives
		}
		if err := strictDirectives(directives); err != nil {
			return err
		}
		if err := strictSelections(below); err != nil {
			return err
		}
	}
	return nil
}

func strictDirectives(directives ast.DirectiveList) *gqlerror.Error {
	for _, directive := range directives {
		if directive.Name == "defer" {
			return refuse(codeBadUserInput, directive.Position, "@defer is not supported.")
		}
		if err := strictArguments(directive.Arguments); err != nil {
			return err
		}
	}
	return nil
}

func strictArguments(arguments ast.ArgumentList) *gqlerror.Error {
	for _, argument := range arguments {
		if literalHasNUL(argument.Value) {
			return refuse(codeBadUserInput, argument.Position, `Argument "%s" contains a NUL character.`, argument.Name)
		}
	}
	return nil
}

func literalHasNUL(value *ast.Value) bool {
	if value == nil {
		return false
	}
	for _, child := range value.Children {
		if literalHasNUL(child.Value) {
			return true
		}
	}
	return strings.ContainsRune(value.Raw, 0)
}

func hasNUL(value any) bool {
	if text, ok := value.(string); ok {
		return strings.ContainsRune(text, 0)
	}
	if object, ok := value.(map[string]any); ok {
		for name, field := range object {
			if strings.ContainsRune(name, 0) || hasNUL(field) {
				return true
			}
		}
		return false
	}
	elements, _ := list(value)
	return slices.ContainsFunc(elements, hasNUL)
}
