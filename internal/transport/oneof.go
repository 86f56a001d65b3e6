package transport

import (
	"context"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/errcode"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// OneOf is an extension that holds variables to @oneOf. gqlparser checks
// literals only.
type OneOf struct{ schema *ast.Schema }

var _ graphql.OperationContextMutator = (*OneOf)(nil)

// ExtensionName implements graphql.HandlerExtension.
func (*OneOf) ExtensionName() string { return "OneOf" }

// Validate implements graphql.HandlerExtension.
func (o *OneOf) Validate(schema graphql.ExecutableSchema) error {
	o.schema = schema.Schema()
	return nil
}

// MutateOperationContext implements graphql.OperationContextMutator.
func (o *OneOf) MutateOperationContext(_ context.Context, operation *graphql.OperationContext) *gqlerror.Error {
	for _, definition := range operation.Operation.VariableDefinitions {
		if culprit := o.violated(definition.Type, operation.Variables[definition.Variable]); culprit != nil {
			return refuse(errcode.ValidationFailed, definition.Position,
				`Variable "$%s": OneOf Input Object "%s" must specify exactly one non-null key.`,
				definition.Variable, culprit.Name)
		}
	}
	return nil
}

// violated returns the type of an object within value that has not exactly one
// field with a value.
func (o *OneOf) violated(t *ast.Type, value any) *ast.Definition {
	if elements, ok := list(value); ok {
		for _, element := range elements {
			if culprit := o.violated(elementType(t), element); culprit != nil {
				return culprit
			}
		}
		return nil
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil
	}
	definition := inputObject(o.schema, t)
	if definition == nil {
		return nil
	}
	if definition.Directives.ForName("oneOf") != nil && !exactlyOne(object) {
		return definition
	}
	for name, field := range object {
		if declared := definition.Fields.ForName(name); declared != nil {
			if culprit := o.violated(declared.Type, field); culprit != nil {
				return culprit
			}
		}
	}
	return nil
}

func exactlyOne(object map[string]any) bool {
	fields := 0
	for name, value := range object {
		if name == "__typename" {
			continue // gqlparser lets clients send back what they were given
		}
		if value == nil {
			return false
		}
		fields++
	}
	return fields == 1
}
