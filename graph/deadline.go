package graph

import (
	"context"
	"errors"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
)

// deadline ends operations that take too long, all but subscriptions, which are
// meant to last.
type deadline struct {
	Config
	after time.Duration
}

var _ graphql.OperationInterceptor = deadline{}

// ExtensionName implements graphql.HandlerExtension.
func (deadline) ExtensionName() string { return "Deadline" }

// Validate implements graphql.HandlerExtension.
func (deadline) Validate(graphql.ExecutableSchema) error { return nil }

// InterceptOperation implements graphql.OperationInterceptor.
func (d deadline) InterceptOperation(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
	if graphql.GetOperationContext(ctx).Operation.Operation == ast.Subscription {
		return next(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, d.after)
	respond := next(ctx)
	return func(within context.Context) *graphql.Response {
		defer cancel()
		response := respond(within)
		// What was done in time stands, however late the answer is. What is cut off
		// is no answer: half of a query would pass for all of it.
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) || response != nil && len(response.Errors) == 0 {
			return response
		}
		return d.refusal(ctx, context.DeadlineExceeded)
	}
}
