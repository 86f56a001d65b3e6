package graph

import (
	"context"
	"slices"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/errcode"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/transport"
)

const (
	// ok is how an operation ends that has no errors, and otherCode one with an error
	// that has none of the codes.
	ok, otherCode = "OK", "OTHER"
	// unread is the type of an operation that was refused before it was known.
	unread = "none"
	// maxName is how much of the name that a client gives an operation a span has.
	maxName = 100
)

// OperationTypes are what operations are counted by.
func OperationTypes() []string {
	return []string{string(ast.Query), string(ast.Mutation), string(ast.Subscription), unread}
}

// OutcomeCodes are how operations end: without errors, or by the code of the first.
func OutcomeCodes() []string {
	codes := []string{
		ok, otherCode, transport.CodeQueryLimit, transport.CodeUnauthenticated, transport.CodeRateLimited, errcode.ParseFailed, errcode.ValidationFailed,
	}
	for _, code := range lifecycle.Codes() {
		codes = append(codes, string(code))
	}
	return codes
}

// observed tells of each operation how it ended. What clients choose, such as the names
// of operations, is not told.
type observed struct {
	Config
	codes []string
}

var _ interface {
	graphql.OperationInterceptor
	graphql.ResponseInterceptor
} = observed{}

type observedKey struct{}

// ExtensionName implements graphql.HandlerExtension.
func (observed) ExtensionName() string { return "Observed" }

// Validate implements graphql.HandlerExtension.
func (observed) Validate(graphql.ExecutableSchema) error { return nil }

// InterceptOperation implements graphql.OperationInterceptor. It is here that the end
// of a mutation is known, which is that of its transaction.
func (o observed) InterceptOperation(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
	begun, kind := o.DB.Now(), string(graphql.GetOperationContext(ctx).Operation.Operation)
	answers := next(context.WithValue(ctx, observedKey{}, true))
	return func(ctx context.Context) *graphql.Response {
		answer := answers(ctx)
		if answer != nil {
			took := max(o.DB.Now().Sub(begun), 0)
			if kind == string(ast.Subscription) {
				took = 0 // it waited for something to happen, for as long as that took
			}
			o.Observe(kind, o.codeOf(answer), took)
		}
		return answer
	}
}

// InterceptResponse implements graphql.ResponseInterceptor, for what was refused before
// it was an operation.
func (o observed) InterceptResponse(ctx context.Context, next graphql.ResponseHandler) *graphql.Response {
	answer := next(ctx)
	if executed, _ := ctx.Value(observedKey{}).(bool); !executed && answer != nil {
		o.Observe(unread, o.codeOf(answer), 0)
	}
	return answer
}

func (o observed) codeOf(answer *graphql.Response) string {
	if len(answer.Errors) == 0 {
		return ok
	}
	if code := coded(answer.Errors[0]); slices.Contains(o.codes, code) {
		return code
	}
	return otherCode
}

// spans makes a span of each operation and of each of its root fields. They have
// neither the document, in which values may stand, nor variables.
type spans struct{ Config }

var _ interface {
	graphql.OperationInterceptor
	graphql.RootFieldInterceptor
} = spans{}

// ExtensionName implements graphql.HandlerExtension.
func (spans) ExtensionName() string { return "Spans" }

// Validate implements graphql.HandlerExtension.
func (spans) Validate(graphql.ExecutableSchema) error { return nil }

// InterceptOperation implements graphql.OperationInterceptor.
func (s spans) InterceptOperation(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
	op := graphql.GetOperationContext(ctx).Operation
	attributes := []attribute.KeyValue{attribute.String("graphql.operation.type", string(op.Operation))}
	if op.Name != "" {
		attributes = append(attributes, attribute.String("graphql.operation.name", op.Name[:min(len(op.Name), maxName)]))
	}
	ctx, span := s.Tracer.Start(ctx, string(op.Operation), trace.WithAttributes(attributes...)) //nolint:spancheck // it ends with the last answer
	answers := next(ctx)
	return func(ctx context.Context) *graphql.Response { //nolint:spancheck // as said
		answer := answers(ctx)
		if answer != nil {
			failed(span, answer.Errors)
		}
		if answer == nil || op.Operation != ast.Subscription {
			span.End()
		}
		return answer
	}
}

// InterceptRootField implements graphql.RootFieldInterceptor.
func (s spans) InterceptRootField(ctx context.Context, next graphql.RootResolver) graphql.Marshaler {
	field := graphql.GetRootFieldContext(ctx)
	ctx, span := s.Tracer.Start(ctx, field.Field.ObjectDefinition.Name+"."+field.Field.Name)
	defer span.End()
	value := next(ctx)
	if span.IsRecording() {
		var own gqlerror.List
		for _, err := range graphql.GetErrors(ctx) {
			if len(err.Path) > 0 && err.Path[0] == ast.PathName(field.Field.Alias) {
				own = append(own, err)
			}
		}
		failed(span, own)
	}
	return value
}

// failed marks a span by the code of an error. Its text is for the client.
func failed(span trace.Span, errs gqlerror.List) {
	if len(errs) == 0 {
		return
	}
	span.SetStatus(otelcodes.Error, coded(errs[0]))
}
