// Package transport carries GraphQL over HTTP, and refuses what must not reach
// execution.
//
// POST and GET are gqlgen transports that follow the GraphQL-over-HTTP
// specification (all audits of npm graphql-http pass). Front stands before the
// whole endpoint. Limiter, OneOf, Strict and Redact are gqlgen extensions. The
// package knows no schema but the one a server hands to its extensions.
//
// The order of wiring matters in two places: POST comes before any streaming
// transport, because gqlgen's own match Accept by substring, and Limiter comes
// before every other extension, because it bounds what the others walk:
//
//	documents := transport.NewDocumentCache(1000)
//	limits := transport.DefaultLimits()
//
//	srv := handler.New(schema)
//	srv.SetQueryCache(documents)
//	srv.SetParserTokenLimit(limits.Tokens)
//	srv.SetValidationRulesFn(transport.ValidationRules)
//	srv.SetDisableSuggestion(true)
//	srv.AddTransport(transport.POST{})
//	srv.AddTransport(transport.GET{})
//	srv.Use(transport.NewLimiter(limits, documents))
//	srv.Use(&transport.OneOf{})
//	srv.Use(transport.Strict{})
//	srv.Use(transport.Redact{MaySuggest: mayIntrospect})
//	http.Handle("/graphql", transport.Front(srv, int64(limits.Body)))
package transport
