package transport_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/lethe-crm/lethe/internal/transport"
)

const responseJSON = "application/graphql-response+json"

func TestTheAnswerHasTheMediaTypeTheClientPrefers(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	for accept, want := range map[string]string{
		"":                 "application/json",
		"*/*":              "application/json",
		"application/*":    "application/json",
		"application/json": "application/json",
		responseJSON:       responseJSON,
		"application/json;q=0.5, " + responseJSON:                               responseJSON,
		"application/json, " + responseJSON:                                     "application/json",
		responseJSON + ";q=0.1, application/json;q=0.2":                         "application/json",
		responseJSON + ";q=0, */*;q=0.1":                                        "application/json",
		"text/html, application/xhtml+xml, */*;q=0.8":                           "application/json",
		responseJSON + ", application/json, text/event-stream, multipart/mixed": responseJSON, // urql
		"text/event-stream;q=0.2, " + responseJSON + ";q=0.3":                   responseJSON,
	} {
		got := send(t, server, post(`{"query":"{name}"}`, accept))
		require.Equal(t, http.StatusOK, got.status, accept)
		require.Equal(t, want+"; charset=utf-8", got.header.Get("Content-Type"), accept)
		require.Equal(t, "no-store", got.header.Get("Cache-Control"))
	}
}

func TestAMediaTypeThatIsNotServedIsNotAcceptable(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	for _, accept := range []string{"text/html", "application/json;q=0", "nonsense", "multipart/mixed"} {
		require.Equal(t, http.StatusNotAcceptable, send(t, server, post(`{"query":"{name}"}`, accept)).status, accept)
		get := httptest.NewRequest(http.MethodGet, "/graphql?query={name}", nil)
		get.Header.Set("Accept", accept)
		require.Equal(t, http.StatusNotAcceptable, send(t, server, get).status, accept)
	}
}

func TestARefusalNamesItsRequest(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	named := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-ID", "r-1")
		server.ServeHTTP(w, r)
	})
	require.Contains(t, send(t, named, post(`{"query":"{name}"}`, "text/html")).text, `"extensions":{"code":"BAD_USER_INPUT","requestID":"r-1"}`)
	require.NotContains(t, send(t, server, post(`{"query":"{name}"}`, "text/html")).text, "requestID")
}

func TestAnEventStreamIsLeftToAnotherTransportOnlyWhenItIsPreferred(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"text/event-stream":                         false,
		"text/event-stream, multipart/mixed":        false,
		"text/event-stream, application/json;q=0.9": false,
		"application/json, text/event-stream":       true,
		"application/json;q=0.9, */*;q=0.1":         true,
	} {
		require.Equal(t, want, transport.POST{}.Supports(post("", accept)), accept)
		require.Equal(t, !want, transport.WantsEventStream(post("", accept)), accept)
	}
}

func TestABodyFromWhichNoOperationCanBeTakenIsABadRequest(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	for name, body := range map[string]string{
		"empty":                    ``,
		"no JSON":                  `{"query`,
		"an array":                 `[{"query":"{name}"}]`,
		"a string":                 `"{name}"`,
		"null":                     `null`,
		"no query":                 `{}`,
		"null query":               `{"query":null}`,
		"other case":               `{"Query":"{name}"}`,
		"a key twice":              `{"query":"{name}","query":"{self{name}}"}`,
		"two documents":            `{"query":"{name}"}{"query":"{name}"}`,
		"something behind":         `{"query":"{name}"} x`,
		"query of a wrong type":    `{"query":1}`,
		"variables of wrong type":  `{"query":"{name}","variables":[]}`,
		"extensions of wrong type": `{"query":"{name}","extensions":"x"}`,
		"operationName of a type":  `{"query":"{name}","operationName":{}}`,
		"long operationName":       `{"query":"{name}","operationName":"` + strings.Repeat("a", 257) + `"}`,
		"invalid UTF-8":            "{\"query\":\"{name}\",\"variables\":{\"a\":\"\xff\"}}",
	} {
		for _, accept := range []string{"application/json", responseJSON} {
			got := send(t, server, post(body, accept))
			require.Equal(t, http.StatusBadRequest, got.status, name)
			require.Equal(t, "BAD_USER_INPUT", got.code(), name)
			require.NotContains(t, got.text, `"data"`, name)
		}
	}
}

func TestUnknownKeysAndNullsOfARequestAreIgnored(t *testing.T) {
	t.Parallel()
	got := send(t, newServer(t, nil), post(
		` {"query":"{name}","variables":null,"operationName":null,"extensions":null,"id":{"a":[1]}} `, ""))
	require.Equal(t, http.StatusOK, got.status)
	require.JSONEq(t, `{"data":{"name":"lethe"}}`, got.text)
}

func TestARequestErrorHasNoDataAndAStatusByMediaType(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	for name, test := range map[string]struct{ body, code string }{
		"parsing":    {`{"query":"{"}`, "GRAPHQL_PARSE_FAILED"},
		"validation": {`{"query":"{nothing}"}`, "GRAPHQL_VALIDATION_FAILED"},
		"variables":  {`{"query":"query($n:Int!){people(first:$n){name}}"}`, "GRAPHQL_VALIDATION_FAILED"},
		"operation":  {`{"query":"query A{name}","operationName":"B"}`, "GRAPHQL_VALIDATION_FAILED"},
		"limit":      {`{"query":"{name` + strings.Repeat(" name", 20) + `}"}`, "QUERY_LIMIT"},
	} {
		for accept, status := range map[string]int{"application/json": http.StatusOK, responseJSON: http.StatusBadRequest} {
			got := send(t, server, post(test.body, accept))
			require.Equal(t, status, got.status, name)
			require.Equal(t, test.code, got.code(), name)
			require.NotContains(t, got.text, `"data"`, name)
		}
	}
}

func TestTheDraftsStatusCodesAreASetting(t *testing.T) {
	t.Parallel()
	partly := func(context.Context) *graphql.Response {
		return &graphql.Response{Data: json.RawMessage(`{"name":null}`), Errors: gqlerror.List{{Message: "no name"}}}
	}
	server := handlerWith(t, partly, transport.POST{Draft: true})
	for body, status := range map[string]int{
		`{"query":"{name}"}`:    294,
		`{"query":"{"}`:         http.StatusBadRequest,
		`{"query":"{nothing}"}`: http.StatusUnprocessableEntity,
		`{"query`:               http.StatusBadRequest,
		`{}`:                    http.StatusUnprocessableEntity,
	} {
		require.Equal(t, status, send(t, server, post(body, responseJSON)).status, body)
	}
	require.Equal(t, http.StatusOK, send(t, server, post(`{"query":"{name}"}`, "application/json")).status)
}

func TestARefusalByAnExtensionGetsTheStatusOfItsCode(t *testing.T) {
	t.Parallel()
	for code, status := range map[string]int{
		transport.CodeUnauthenticated: http.StatusUnauthorized,
		"FORBIDDEN":                   http.StatusForbidden,
		transport.CodeRateLimited:     http.StatusTooManyRequests,
		"AUTHZ_UNAVAILABLE":           http.StatusServiceUnavailable,
		"BAD_USER_INPUT":              http.StatusBadRequest,
	} {
		server := newServer(t, nil, func(s *handler.Server) {
			s.AroundOperations(func(context.Context, graphql.OperationHandler) graphql.ResponseHandler {
				return graphql.OneShot(&graphql.Response{Errors: gqlerror.List{
					{Message: "no", Extensions: map[string]any{"code": code}},
				}})
			})
		})
		got := send(t, server, post(`{"query":"{name}"}`, responseJSON))
		require.Equal(t, status, got.status, code)
		require.NotContains(t, got.text, `"data"`)
		require.Equal(t, http.StatusOK, send(t, server, post(`{"query":"{name}"}`, "")).status)
	}
}

func TestAnExecutionThatTookTooLongIsALimit(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	got := send(t, server, post(`{"query":"{name}"}`, responseJSON).WithContext(ctx))
	require.Equal(t, http.StatusBadRequest, got.status)
	require.Equal(t, "QUERY_LIMIT", got.code())
}

func TestErrorsAndExtensionsStandBesideData(t *testing.T) {
	t.Parallel()
	server := newServer(t, func(ctx context.Context) *graphql.Response {
		graphql.RegisterExtension(ctx, "cost", 3)
		graphql.AddErrorf(ctx, "half of it")
		return &graphql.Response{Data: json.RawMessage(`null`)}
	})
	got := send(t, server, post(`{"query":"{name}"}`, responseJSON))
	require.Equal(t, http.StatusOK, got.status)
	require.JSONEq(t, `{"errors":[{"message":"half of it"}],"data":null,"extensions":{"cost":3}}`, got.text)
}

func TestASubscriptionIsNotAnsweredWithItsFirstEvent(t *testing.T) {
	t.Parallel()
	got := send(t, newServer(t, nil), post(`{"query":"subscription{ticks}"}`, responseJSON))
	require.Equal(t, http.StatusBadRequest, got.status)
	require.Equal(t, "BAD_USER_INPUT", got.code())
}

func TestGETServesQueriesOnly(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	for _, test := range []struct {
		query  url.Values
		status int
	}{
		{url.Values{"query": {"{name}"}}, http.StatusOK},
		{url.Values{"query": {"query A($n:Int){people(first:$n){name}} mutation B{rename}"}, "operationName": {"A"}, "variables": {`{"n":2}`}}, http.StatusOK},
		{url.Values{"query": {"query A{name} mutation B{rename}"}, "operationName": {"B"}}, http.StatusMethodNotAllowed},
		{url.Values{"query": {"mutation{rename}"}}, http.StatusMethodNotAllowed},
		{url.Values{"query": {"subscription{ticks}"}}, http.StatusBadRequest},
		{url.Values{}, http.StatusBadRequest},
		{url.Values{"query": {"{name}", "{name}"}}, http.StatusBadRequest},
		{url.Values{"query": {"{name}"}, "variables": {"[]"}}, http.StatusBadRequest},
		{url.Values{"query": {"{name}"}, "variables": {"{}{}"}}, http.StatusBadRequest},
		{url.Values{"query": {"{name}"}, "extensions": {"1"}}, http.StatusBadRequest},
		{url.Values{"query": {"{name}#\xff"}}, http.StatusBadRequest},
	} {
		for _, accept := range []string{"application/json", responseJSON} {
			request := httptest.NewRequest(http.MethodGet, "/graphql?"+test.query.Encode(), nil)
			request.Header.Set("Accept", accept)
			got := send(t, server, request)
			require.Equal(t, test.status, got.status, test.query)
			if test.status == http.StatusMethodNotAllowed {
				require.Equal(t, "POST", got.header.Get("Allow"))
			}
		}
	}
}

func TestABodyOverTheLimitIsNotRead(t *testing.T) {
	t.Parallel()
	body := fmt.Sprintf(`{"query":"{name}","x":%q}`, strings.Repeat("a", 2000))
	server := handlerWith(t, nil, transport.POST{MaxBody: 1000})
	front := transport.Front(newServer(t, nil), 1000)

	unknownLength := post(body, "")
	unknownLength.ContentLength = -1
	for _, got := range []reply{
		send(t, server, post(body, "")), send(t, front, post(body, "")), send(t, front, unknownLength),
	} {
		require.Equal(t, http.StatusRequestEntityTooLarge, got.status)
		require.Equal(t, "QUERY_LIMIT", got.code())
	}
	require.Equal(t, http.StatusOK, send(t, front, post(`{"query":"{name}"}`, "")).status)
}

func TestTheFrontAcceptsOnlyWhatABrowserCannotForge(t *testing.T) {
	t.Parallel()
	front := transport.Front(newServer(t, nil), transport.DefaultMaxBody)
	for contentType, status := range map[string]int{
		"application/json":                  http.StatusOK,
		"Application/JSON; charset=UTF-8":   http.StatusOK,
		"application/json; charset=utf8":    http.StatusOK,
		"application/json; charset=utf-16":  http.StatusUnsupportedMediaType,
		"":                                  http.StatusUnsupportedMediaType,
		"text/plain":                        http.StatusUnsupportedMediaType,
		"text/plain; application/json":      http.StatusUnsupportedMediaType,
		"application/graphql":               http.StatusUnsupportedMediaType,
		"application/x-www-form-urlencoded": http.StatusUnsupportedMediaType,
		"multipart/form-data; boundary=x":   http.StatusUnsupportedMediaType,
	} {
		request := post(`{"query":"{name}"}`, "")
		request.Header.Set("Content-Type", contentType)
		require.Equal(t, status, send(t, front, request).status, contentType)
	}
	compressed := post(`{"query":"{name}"}`, "")
	compressed.Header.Set("Content-Encoding", "gzip")
	require.Equal(t, http.StatusUnsupportedMediaType, send(t, front, compressed).status)
}

func TestTheFrontNamesTheMethodsItAllows(t *testing.T) {
	t.Parallel()
	front := transport.Front(newServer(t, nil), transport.DefaultMaxBody)
	for method, status := range map[string]int{
		http.MethodPut: http.StatusMethodNotAllowed, http.MethodDelete: http.StatusMethodNotAllowed,
		http.MethodHead: http.StatusMethodNotAllowed, http.MethodOptions: http.StatusNoContent,
	} {
		got := send(t, front, httptest.NewRequest(method, "/graphql", nil))
		require.Equal(t, status, got.status, method)
		require.Equal(t, "GET, POST, OPTIONS", got.header.Get("Allow"), method)
	}
}
