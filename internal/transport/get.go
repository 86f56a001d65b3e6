package transport

import (
	"net/http"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
)

// GET serves queries in the URL, and nothing that changes state: links and
// images are fetched with the user's cookies from any site.
type GET struct {
	// Draft is POST's.
	Draft bool
}

var _ graphql.Transport = GET{}

// Supports implements graphql.Transport.
func (t GET) Supports(r *http.Request) bool {
	return r.Method == http.MethodGet && r.Header.Get("Upgrade") == ""
}

// Do implements graphql.Transport.
func (t GET) Do(w http.ResponseWriter, r *http.Request, exec graphql.GraphExecutor) {
	mediaType := negotiate(r)
	if mediaType == "" || mediaType == mediaEventStream {
		notAcceptable(w)
		return
	}
	x := exchange{ResponseWriter: w, exec: exec, mediaType: mediaType, draft: t.Draft}
	start := graphql.Now()
	params, why := decodeURL(r.URL.RawQuery)
	if why != nil {
		x.malformed(r.Context(), why)
		return
	}
	params.Headers = r.Header
	params.ReadTime = graphql.TraceTiming{Start: start, End: graphql.Now()}
	x.run(r.Context(), params, ast.Query)
}
