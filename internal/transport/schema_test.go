package transport_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/lethe-crm/lethe/internal/transport"
)

// tiny has one example of every shape the extensions look at.
var tiny = gqlparser.MustLoadSchema(&ast.Source{Name: "tiny.graphql", Input: `
	scalar JSON
	type Query {
		name: String!
		self: Query
		people(first: Int, last: Int, ids: [ID!], where: Where, extra: JSON): [Query!]
		pets(first: Int = 2, last: Int, ids: [ID!]): Pets!
		node(ids: [ID!]!): [Query]!
		select(by: Selector, many: [Selector!], grid: [[Selector]], wrapped: Wrapper): String
	}
	type Pets { nodes: [Query!]!  edges: [Edge!]!  totalCount: Int! }
	type Edge { node: Query! }
	type Mutation { rename(ids: [ID!], records: [Reference!], text: String): String }
	type Subscription { ticks: Int! }
	input Where { id: ID  name: String  first: Int  and: [Where!]  not: Where  names: [String!] }
	input Selector @oneOf { ids: [ID!]  name: String  where: Where  nested: Selector }
	input Wrapper { selector: Selector  selectors: [Selector!] }
	input Reference { id: ID!  version: Int! }
`})

// answer stands for the generated code: it gives data without executing.
type answer func(ctx context.Context) *graphql.Response

func newServer(t *testing.T, answer answer, configure ...func(*handler.Server)) *handler.Server {
	t.Helper()
	if answer == nil {
		answer = func(context.Context) *graphql.Response {
			return &graphql.Response{Data: json.RawMessage(`{"name":"lethe"}`)}
		}
	}
	server := handler.New(&graphql.ExecutableSchemaMock{
		SchemaFunc: func() *ast.Schema { return tiny },
		ExecFunc: func(ctx context.Context) graphql.ResponseHandler {
			return func(ctx context.Context) *graphql.Response { return answer(ctx) }
		},
		ComplexityFunc: func(context.Context, string, string, int, map[string]any) (int, bool) { return 0, false },
	})
	limits := transport.DefaultLimits()
	documents := transport.NewDocumentCache(10)
	server.SetQueryCache(documents)
	server.SetParserTokenLimit(limits.Tokens)
	server.SetValidationRulesFn(transport.ValidationRules)
	server.SetDisableSuggestion(true)
	for _, c := range configure {
		c(server)
	}
	server.Use(transport.NewLimiter(limits, documents))
	server.Use(&transport.OneOf{})
	server.Use(transport.Strict{})
	server.Use(transport.Redact{})
	server.AddTransport(transport.POST{})
	server.AddTransport(transport.GET{})
	return server
}

type reply struct {
	status int
	header http.Header
	text   string
	body   struct {
		Errors []struct {
			Message    string
			Path       []any
			Extensions map[string]any
		}
		Data json.RawMessage
	}
}

func (r reply) code() any {
	if len(r.body.Errors) == 0 {
		return nil
	}
	return r.body.Errors[0].Extensions["code"]
}

func send(t *testing.T, h http.Handler, request *http.Request) reply {
	t.Helper()
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, request)
	text, err := io.ReadAll(recorder.Body)
	require.NoError(t, err)
	got := reply{status: recorder.Code, header: recorder.Header(), text: string(text)}
	if len(text) > 0 {
		require.NoError(t, json.Unmarshal(text, &got.body), got.text)
	}
	return got
}

func post(body, accept string) *http.Request {
	request := httptest.NewRequest(http.MethodPost, "/graphql", strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	return request
}

// ask posts a query with variables and accepts GraphQL's own media type.
func ask(t *testing.T, h http.Handler, query, variables string) reply {
	t.Helper()
	quoted, err := json.Marshal(query)
	require.NoError(t, err)
	if variables == "" {
		variables = "{}"
	}
	return send(t, h, post(`{"query":`+string(quoted)+`,"variables":`+variables+`}`, "application/graphql-response+json"))
}

// handlerWith is a server with that transport first.
func handlerWith(t *testing.T, answer answer, first graphql.Transport) *handler.Server {
	t.Helper()
	return newServer(t, answer, func(s *handler.Server) { s.AddTransport(first) })
}
