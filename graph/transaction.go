package graph

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/lethe-crm/lethe/internal/actor"
)

// transactions runs each mutation document in one transaction: all of it
// happens, or nothing.
type transactions struct{ Config }

var _ interface {
	graphql.OperationContextMutator
	graphql.ResponseInterceptor
} = transactions{}

// errRolledBack ends the transaction of a document that has errors.
var errRolledBack = errors.New("graph: the document has errors")

// ExtensionName implements graphql.HandlerExtension.
func (transactions) ExtensionName() string { return "Transactions" }

// Validate implements graphql.HandlerExtension.
func (transactions) Validate(graphql.ExecutableSchema) error { return nil }

// MutateOperationContext makes resolvers run one at a time: they share one
// connection, and pgx answers "conn busy" to two at once.
func (transactions) MutateOperationContext(_ context.Context, op *graphql.OperationContext) *gqlerror.Error {
	if op.Operation.Operation != ast.Mutation {
		return nil
	}
	var mu sync.Mutex
	inner := op.ResolverMiddleware
	op.ResolverMiddleware = func(ctx context.Context, next graphql.Resolver) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		return inner(ctx, next)
	}
	return nil
}

// InterceptResponse implements graphql.ResponseInterceptor.
func (t transactions) InterceptResponse(ctx context.Context, next graphql.ResponseHandler) *graphql.Response {
	if !executes(ctx, ast.Mutation) {
		return next(ctx)
	}
	ctx, tx, err := t.DB.Begin(ctx)
	if err != nil {
		return t.refusal(ctx, err)
	}
	ended := false
	defer func() {
		if !ended { // a panic, which is presented further up
			_ = tx.End(context.WithoutCancel(ctx), errRolledBack)
		}
	}()
	response := next(ctx)
	if response == nil || len(response.Errors) > 0 {
		ended = true
		if err := tx.End(context.WithoutCancel(ctx), errRolledBack); err != errRolledBack { //nolint:errorlint // rolling back joins an error of its own to it
			t.Log.ErrorContext(ctx, "a transaction was not rolled back", "error", err)
		}
		if response != nil {
			response.Data = json.RawMessage("null") // nothing of it has happened
		}
		return response
	}
	err = tx.End(ctx, nil)
	ended = true
	if err != nil {
		return t.refusal(ctx, err)
	}
	return response
}

// executes reports whether the response is that of an operation of the kind
// that is under way, rather than of a request that was refused before.
func executes(ctx context.Context, kind ast.Operation) bool {
	if actor.From(ctx) == nil || ctx.Value(sharedKey{}) == nil {
		return false
	}
	op := graphql.GetOperationContext(ctx).Operation
	return op != nil && op.Operation == kind
}
