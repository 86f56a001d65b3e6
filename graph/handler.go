// Package graph is the GraphQL API: resolvers that hand on to internal/record
// and ent, who may call what, and how errors and transactions end.
package graph

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"strings"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/formatter"

	"github.com/lethe-crm/lethe/graph/generated"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/export"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/live"
	"github.com/lethe-crm/lethe/internal/notify"
	"github.com/lethe-crm/lethe/internal/policy"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/transport"
)

// Config is what the API is made of.
type Config struct {
	DB       *store.DB
	Control  *access.Control
	Records  *record.Service
	People   *identity.Service
	Policies *policy.Service
	Exports  *export.Service
	Notify   *notify.Service
	Audit    *audit.Log
	Log      *slog.Logger

	// Feed tells of changes. Without Callers, who say whom to tell, there are no
	// subscriptions.
	Feed    *live.Feed
	Callers transport.Callers
	// Origins are hosts of pages that may open sockets, beside the server's own.
	Origins []string

	// RequestID names the request in errors to callers who are not signed in;
	// it may be nil. An actor carries the id himself.
	RequestID func(context.Context) string
	// MayIntrospect says who may ask for the schema; nil is everybody who is
	// signed in.
	MayIntrospect func(context.Context) bool
}

// documents is how many parsed documents are kept.
const documents = 1_000

// NewHandler serves the API. The actor is expected in the context of each
// request (actor.With). It fails when a root field says of nobody who may use it.
func NewHandler(c Config) (http.Handler, error) {
	schema := newSchema(c)
	if err := checkGuards(schema.Schema()); err != nil {
		return nil, err
	}
	limits, cache := transport.DefaultLimits(), transport.NewDocumentCache(documents)
	srv := handler.New(schema)
	srv.SetQueryCache(cache)
	srv.SetParserTokenLimit(limits.Tokens)
	srv.SetValidationRulesFn(transport.ValidationRules)
	srv.SetDisableSuggestion(true)
	srv.SetErrorPresenter(c.present)
	srv.SetRecoverFunc(c.recovered)
	if c.Callers != nil { // first: what follows would take their requests
		srv.AddTransport(transport.WebSocket{Callers: c.Callers, Recover: c.panicked, Origins: c.Origins})
		srv.AddTransport(transport.SSE{Callers: c.Callers})
	}
	srv.AddTransport(transport.POST{})
	srv.AddTransport(transport.GET{})
	srv.Use(admission{c, newUsedFields(schema.Schema())}) // before all else: strangers learn nothing of the schema
	srv.Use(transport.NewLimiter(limits, cache))
	srv.Use(&transport.OneOf{})
	srv.Use(transport.Strict{})
	srv.Use(transport.Redact{MaySuggest: c.mayIntrospect})
	srv.Use(transactions{c})
	return transport.Front(srv, transport.DefaultMaxBody), nil
}

// newSchema leaves out the directives that only concern the generator, and @defer,
// which gqlgen brings along and which is refused: what introspection tells of, clients
// use.
func newSchema(c Config) graphql.ExecutableSchema {
	config := generated.Config{
		Resolvers:  &Resolver{c},
		Directives: generated.DirectiveRoot{Authz: c.authz, Public: public},
	}
	schema := *generated.NewExecutableSchema(config).Schema()
	schema.Directives = maps.Clone(schema.Directives)
	maps.DeleteFunc(schema.Directives, func(name string, _ *ast.DirectiveDefinition) bool {
		return name == "defer" || strings.HasPrefix(name, "go")
	})
	config.Schema = &schema
	return generated.NewExecutableSchema(config)
}

func (c Config) mayIntrospect(ctx context.Context) bool {
	return c.MayIntrospect == nil || c.MayIntrospect(ctx)
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
