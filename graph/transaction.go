package graph

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// transactions runs each mutation document in one transaction: all of it
// happens, or nothing.
type transactions struct{ Config }

var _ interface {
	graphql.OperationContextMutator
	graphql.OperationInterceptor
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

// tries is how often a document is executed that lost a deadlock. All of it is
// executed again: what it had read may have changed.
const tries = 5

// InterceptOperation implements graphql.OperationInterceptor.
func (t transactions) InterceptOperation(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
	if graphql.GetOperationContext(ctx).Operation.Operation != ast.Mutation {
		return next(ctx)
	}
	answered := false
	return func(context.Context) *graphql.Response {
		if answered { // one response, then the end
			return nil
		}
		answered = true
		for try := 1; ; try++ {
			response, again := t.execute(withShared(ctx), next)
			if !again || try == tries || store.Pause(ctx, try) != nil {
				return response
			}
		}
	}
}

// execute runs a document in a transaction, and says whether it may succeed
// when it is run again.
func (t transactions) execute(ctx context.Context, next graphql.OperationHandler) (response *graphql.Response, again bool) {
	ctx, tx, err := t.DB.Begin(ctx)
	if err != nil {
		return t.refusal(ctx, err), false
	}
	ended := false
	defer func() {
		if !ended { // a panic, which is presented further up
			_ = tx.End(context.WithoutCancel(ctx), errRolledBack)
		}
	}()
	hints := &record.Hints{}
	ctx = record.WithHints(ctx, hints)
	response = next(ctx)(ctx)
	if response == nil || len(response.Errors) > 0 {
		ended = true
		if err := tx.End(context.WithoutCancel(ctx), errRolledBack); err != errRolledBack { //nolint:errorlint // rolling back joins an error of its own to it
			t.Log.ErrorContext(ctx, "a transaction was not rolled back", "error", err)
		}
		if response != nil {
			response.Data = json.RawMessage("null") // nothing of it has happened
			delete(response.Extensions, "masked")
		}
		return response, sharedOf(ctx).busy.Load()
	}
	err = tx.End(ctx, nil)
	ended = true
	if err != nil {
		return t.refusal(ctx, err), store.Busy(err)
	}
	if list := hints.List(); len(list) > 0 {
		if response.Extensions == nil {
			response.Extensions = map[string]any{}
		}
		response.Extensions["hints"] = list
	}
	return response, false
}
