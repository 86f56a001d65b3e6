package transport

import (
	"errors"
	"io"
	"net/http"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
)

// DefaultMaxBody is how many bytes of a request are read.
const DefaultMaxBody int64 = 1 << 20

// POST serves queries and mutations in a JSON body.
type POST struct {
	// MaxBody is the largest body in bytes. Zero is DefaultMaxBody.
	MaxBody int64
	// Draft answers with the status codes of the 2026 draft: 422 for requests
	// that are understood but refused, 294 for data with errors.
	Draft bool
}

var _ graphql.Transport = POST{}

// Supports implements graphql.Transport. A request whose client prefers an
// event stream is left to another transport.
func (t POST) Supports(r *http.Request) bool {
	return r.Method == http.MethodPost && r.Header.Get("Upgrade") == "" && sendsJSON(r) && !WantsEventStream(r)
}

// Do implements graphql.Transport.
func (t POST) Do(w http.ResponseWriter, r *http.Request, exec graphql.GraphExecutor) {
	mediaType := negotiate(r)
	if mediaType == "" {
		notAcceptable(w)
		return
	}
	x := exchange{ResponseWriter: w, exec: exec, mediaType: mediaType, draft: t.Draft}
	start := graphql.Now()

	limit := t.MaxBody
	if limit == 0 {
		limit = DefaultMaxBody
	}
	params, why := readBody(http.MaxBytesReader(w, r.Body, limit))
	if why != nil {
		x.malformed(r.Context(), why)
		return
	}
	params.Headers = r.Header
	params.ReadTime = graphql.TraceTiming{Start: start, End: graphql.Now()}
	x.run(r.Context(), params, ast.Query, ast.Mutation)
}

// readBody reads the parameters of a POST.
func readBody(from io.Reader) (*graphql.RawParams, *fault) {
	body, err := io.ReadAll(from)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, faultTooLarge
	}
	if err != nil {
		return nil, faultUnread
	}
	return decodeBody(body)
}

func notAcceptable(w http.ResponseWriter) {
	reject(w, http.StatusNotAcceptable, codeBadUserInput,
		"This endpoint answers with "+mediaResponse+" or "+mediaJSON+".")
}
