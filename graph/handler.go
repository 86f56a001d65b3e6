// Package graph is the GraphQL API: resolvers that hand on to internal/record
// and ent, who may call what, and how errors and transactions end.
package graph

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/vektah/gqlparser/v2/ast"
	"go.opentelemetry.io/otel/trace"

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
	// Observe is told of each operation its type, out of OperationTypes, how it ended,
	// out of OutcomeCodes, and how long it took; nil is nobody.
	Observe func(kind, code string, took time.Duration)
	// Tracer makes spans of operations and of their root fields; nil makes none.
	Tracer trace.Tracer
	// Trusted are the documents that requests may name; nil is none.
	Trusted *transport.TrustedDocuments
	// Limits bound a request; none are transport.DefaultLimits.
	Limits transport.Limits
	// Timeout is how long an operation may take; zero is DefaultTimeout.
	Timeout time.Duration
}

// DefaultTimeout is how long an operation may take.
const DefaultTimeout = 30 * time.Second

// documents is how many parsed documents are kept.
const documents = 1_000

// NewHandler serves the API. The actor is expected in the context of each
// request (actor.With). It fails when a root field says of nobody who may use it.
func NewHandler(c Config) (http.Handler, error) {
	schema := newSchema(c)
	if err := checkGuards(schema.Schema()); err != nil {
		return nil, err
	}
	limits, cache := c.Limits, transport.NewDocumentCache(documents)
	if limits == (transport.Limits{}) {
		limits = transport.DefaultLimits()
	}
	srv := handler.New(schema)
	srv.SetQueryCache(cache)
	srv.SetParserTokenLimit(limits.Tokens)
	srv.SetValidationRulesFn(transport.ValidationRules)
	srv.SetDisableSuggestion(true)
	srv.SetErrorPresenter(c.present)
	srv.SetRecoverFunc(c.recovered)
	if c.Callers != nil { // first: what follows would take their requests
		srv.AddTransport(transport.WebSocket{Callers: c.Callers, Recover: c.panicked, Origins: c.Origins, MaxMessage: int64(limits.Body)})
		srv.AddTransport(transport.SSE{Callers: c.Callers})
	}
	srv.AddTransport(transport.POST{MaxBody: int64(limits.Body)})
	srv.AddTransport(transport.GET{})
	if c.Observe != nil {
		srv.Use(observed{c, OutcomeCodes()})
	}
	if c.Tracer != nil {
		srv.Use(spans{c})
	}
	srv.Use(deadline{c, cmp.Or(c.Timeout, DefaultTimeout)})
	srv.Use(admission{c, newUsedFields(schema.Schema())}) // before all else: strangers learn nothing of the schema
	trusted := c.Trusted
	if trusted == nil {
		trusted = &transport.TrustedDocuments{}
	}
	srv.Use(trusted)
	srv.Use(transport.NewLimiter(limits, cache))
	srv.Use(&transport.OneOf{})
	srv.Use(transport.Strict{})
	srv.Use(transport.Redact{MaySuggest: c.mayIntrospect})
	srv.Use(transactions{c})
	return speaking(transport.Front(srv, int64(limits.Body))), nil
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
