package graph

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/formatter"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/transport"
)

// schemaObject is what policies call the schema.
const schemaObject = "Schema"

// mayIntrospect reports whether the caller may ask for the schema: whoever is
// signed in may, unless the chain says otherwise.
func (c Config) mayIntrospect(ctx context.Context) bool {
	a := actor.From(ctx)
	return a != nil && !c.Control.Forbids(ctx, a, access.Question{Action: authz.SchemaRead, Type: schemaObject})
}

func (c Config) refuseSchema(ctx context.Context) error {
	refused := record.Refuse(lifecycle.Forbidden, "The policy does not allow this.")
	refused.Extensions = map[string]any{"decisionID": c.logRefusal(ctx, authz.SchemaRead, schemaObject).String()}
	return refused
}

// NewSchemaHandler answers the schema as SDL to who may introspect.
func NewSchemaHandler(c Config) http.Handler {
	text := SDL()
	sum := sha256.Sum256([]byte(text))
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if actor.From(r.Context()) == nil {
			c.refuseOverHTTP(w, r, http.StatusUnauthorized, record.Refuse(transport.CodeUnauthenticated, "Sign in first."))
			return
		}
		if !c.mayIntrospect(r.Context()) {
			c.refuseOverHTTP(w, r, http.StatusForbidden, c.refuseSchema(r.Context()))
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "private, no-cache")
		w.Header().Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
	})
}

func (c Config) refuseOverHTTP(w http.ResponseWriter, r *http.Request, status int, err error) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]gqlerror.List{"errors": {c.present(r.Context(), err)}}) //nolint:errchkjson // the client may have gone
}

// SDL is the whole schema as it is published, without what only concerns the
// generator.
func SDL() string {
	schema := *newSchema(Config{}).Schema()
	schema.Types = map[string]*ast.Definition{}
	for name, def := range newSchema(Config{}).Schema().Types {
		published := *def
		published.Directives = nil
		for _, d := range def.Directives {
			if !strings.HasPrefix(d.Name, "go") {
				published.Directives = append(published.Directives, d)
			}
		}
		schema.Types[name] = &published
	}
	var b strings.Builder
	formatter.NewFormatter(&b, formatter.WithIndent("  ")).FormatSchema(&schema)
	return b.String()
}
