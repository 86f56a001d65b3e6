package transport

import (
	"context"
	"errors"
	"net/http"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// Callers says who calls for as long as a connection lasts.
type Callers interface {
	// SignIn returns the context of whom a token means; without a token, of whoever
	// calls already. It answers false for nobody.
	SignIn(ctx context.Context, token string) (context.Context, bool, error)
	// Hold returns a context that ends, with ErrSignedOut or ErrStopping as its cause,
	// when its caller may no longer have what he called for, or when the server stops.
	// The server waits for release. It answers ErrTooMany for who has too many.
	Hold(ctx context.Context) (held context.Context, release func(), err error)
	// Attend is Hold for nobody in particular: it ends when the server stops.
	Attend(ctx context.Context) (attended context.Context, release func())
	// Now returns a context for another operation of a held caller, as he is now.
	Now(held context.Context) (context.Context, error)
	// Latest is Now by what is known of him, which may be a second old.
	Latest(held context.Context) (context.Context, error)
}

// Why a held context ends, or there is none.
var (
	ErrSignedOut = errors.New("transport: the caller's credential is no longer good")
	ErrStopping  = errors.New("transport: the server is stopping")
	ErrTooMany   = errors.New("transport: the caller has too many connections")
)

// errSignedOut is what the caller of ErrSignedOut is told.
func errSignedOut() *gqlerror.Error {
	return refuse(CodeUnauthenticated, nil, "Your sign-in has ended. Sign in again.")
}

// errTooMany is what the caller of ErrTooMany is told.
func errTooMany() *gqlerror.Error {
	return refuse(CodeRateLimited, nil, "You have too many open connections. Close some of them.")
}

// faultError is a fault as the errors of a response.
func faultError(ctx context.Context, exec graphql.GraphExecutor, why *fault) *graphql.Response {
	ctx = graphql.WithOperationContext(ctx, &graphql.OperationContext{})
	return exec.DispatchError(ctx, gqlerror.List{refuse(why.code, nil, "%s", why.message)})
}

// begin takes an operation from its parameters. What refuses it comes back as the
// response instead.
func begin(ctx context.Context, exec graphql.GraphExecutor, params *graphql.RawParams, served ...ast.Operation) (*graphql.OperationContext, *graphql.Response) {
	operation, errs := exec.CreateOperationContext(ctx, params)
	if errs == nil {
		if refusal, _ := unserved(operation.Operation.Operation, served); refusal != nil {
			errs = gqlerror.List{refusal}
		}
	}
	if errs != nil {
		return operation, exec.DispatchError(graphql.WithOperationContext(ctx, operation), errs)
	}
	return operation, nil
}

// upgrades reports whether a client wants another protocol than HTTP.
func upgrades(r *http.Request) bool { return r.Header.Get("Upgrade") != "" }
