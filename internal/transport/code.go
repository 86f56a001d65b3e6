package transport

import (
	"net/http"

	"github.com/99designs/gqlgen/graphql/errcode"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// Codes of requests that are refused before they are executed, beside gqlgen's
// GRAPHQL_PARSE_FAILED and GRAPHQL_VALIDATION_FAILED and the codes of package
// lifecycle.
const (
	CodeQueryLimit      = "QUERY_LIMIT"
	CodeUnauthenticated = "UNAUTHENTICATED"
	CodeRateLimited     = "RATE_LIMITED"

	codeBadUserInput = string(lifecycle.BadUserInput)
	codeInternal     = string(lifecycle.Internal)
)

// requestErrorStatus is the HTTP status of a request error by its code, for
// clients that accept application/graphql-response+json. Codes that are not
// here are the client's fault: 400, or 422 by the draft.
var requestErrorStatus = map[string]int{
	errcode.ParseFailed:                http.StatusBadRequest,
	CodeUnauthenticated:                http.StatusUnauthorized,
	string(lifecycle.Forbidden):        http.StatusForbidden,
	CodeRateLimited:                    http.StatusTooManyRequests,
	string(lifecycle.AuthzUnavailable): http.StatusServiceUnavailable,
	string(lifecycle.Internal):         http.StatusInternalServerError,
}

// gqlgen keeps the kinds of codes in a package variable that must be filled
// before the first request. Protocol codes end a WebSocket operation with an
// "error" message instead of a "next" one.
func init() {
	for _, code := range []string{
		codeBadUserInput, CodeQueryLimit, CodeUnauthenticated, CodeRateLimited,
		string(lifecycle.Forbidden), string(lifecycle.AuthzUnavailable),
	} {
		errcode.RegisterErrorType(code, errcode.KindProtocol)
	}
}

// refuse makes a request error with a code. The position may be nil.
func refuse(code string, at *ast.Position, format string, args ...any) *gqlerror.Error {
	err := gqlerror.Errorf(format, args...)
	if at != nil {
		err.Locations = []gqlerror.Location{{Line: at.Line, Column: at.Column}}
	}
	errcode.Set(err, code)
	return err
}
