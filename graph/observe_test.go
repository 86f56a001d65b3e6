package graph_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/lethe-crm/lethe/graph"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/server"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

// byName lets in whoever says his name.
type byName struct {
	server.Identity
	w *world
}

// Authenticate implements server.Identity.
func (b byName) Authenticate(ctx context.Context, secret string) (*actor.Actor, error) {
	if b.w.users[secret].IsZero() {
		return nil, identity.ErrUnauthenticated
	}
	// As the real one does, which asks the database.
	_, err := store.Build(b.w.db).Add(`SELECT id FROM users WHERE id = ?`, b.w.users[secret]).Exec(ctx, b.w.db)
	return b.w.actor(secret), err
}

// front is the server before the API.
func (w *world) front(c server.Config) *server.Server {
	w.t.Helper()
	c.Log = slog.New(server.LogHandler(slog.NewTextHandler(w.log, nil)))
	w.config.Log = c.Log
	var err error
	w.handler, err = graph.NewHandler(w.config)
	w.NoError(err)
	c.GraphQL, c.Identity, c.DB = w.handler, byName{w: w}, w.db
	return server.New(c)
}

// post sends a document over HTTP.
func (w *world) post(to http.Handler, as, document string, variables vars, header ...string) string {
	w.t.Helper()
	body, err := json.Marshal(map[string]any{"query": document, "variables": variables})
	w.NoError(err)
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodPost, "/graphql", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Authorization", "Bearer "+as)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	out := httptest.NewRecorder()
	to.ServeHTTP(out, r)
	return out.Body.String()
}

// traced runs a test on both databases, with all that was traced.
func traced(t *testing.T, test func(w *world, front http.Handler, kept *tracetest.InMemoryExporter)) {
	t.Helper()
	t.Parallel()
	for name, open := range map[string]func(testing.TB, ...store.Option) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kept := tracetest.NewInMemoryExporter()
			tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)).Tracer("test")
			w := newWorld(t, func(tb testing.TB, opts ...store.Option) *store.DB {
				return open(tb, append(opts, store.WithTracer(tracer))...)
			})
			w.config.Tracer, w.notify.Tracer = tracer, tracer
			test(w, w.front(server.Config{Tracer: tracer}), kept)
		})
	}
}

const (
	clientTrace = "0af7651916cd43dd8448eb211c80319c"
	clientSpan  = "b7ad6b7169203331"
	clientSays  = "00-" + clientTrace + "-" + clientSpan + "-01"
)

func spansOf(kept *tracetest.InMemoryExporter, name string) (found tracetest.SpanStubs) {
	for _, s := range kept.GetSpans() {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

func attributeOf(s tracetest.SpanStub, name string) string {
	for _, a := range s.Attributes {
		if string(a.Key) == name {
			return a.Value.String()
		}
	}
	return ""
}

func TestTheSpansOfAMutationAreOneTree(t *testing.T) {
	traced(t, func(w *world, front http.Handler, kept *tracetest.InMemoryExporter) {
		gone := w.customer("agent", "Verschwiegen KG")
		kept.Reset()
		got := w.post(front, "agent", `mutation Renew($id: ID!, $name: String!) {
			createCustomer(input: {name: $name, email: "geheim@example.com"}) { customer { id name } }
			again: deleteRecords(input: {select: {ids: [$id]}, reason: "Kündigung wegen Umzug"}) { operation { status } }
		}`, vars{"id": gone.String(), "name": "Heimlich GmbH"}, "traceparent", clientSays, "tracestate", "vendor=geheim", "X-Request-ID", "r-42")
		w.Contains(got, `"SUCCEEDED"`)

		spans := kept.GetSpans()
		byID, roots := map[trace.SpanID]tracetest.SpanStub{}, tracetest.SpanStubs{}
		for _, s := range spans {
			w.Equal(clientTrace, s.SpanContext.TraceID().String(), s.Name)
			byID[s.SpanContext.SpanID()] = s
			if s.Parent.SpanID().String() == clientSpan {
				roots = append(roots, s)
			}
		}
		w.Len(roots, 1)
		w.Equal("POST /graphql", roots[0].Name)
		w.Equal("/graphql", attributeOf(roots[0], "http.route"))
		w.Equal("200", attributeOf(roots[0], "http.response.status_code"))
		w.Equal("r-42", attributeOf(roots[0], "lethe.request_id"))

		// line are the names from a span up to the request.
		line := func(s tracetest.SpanStub) (names []string) {
			for {
				names = append(names, s.Name)
				above, inside := byID[s.Parent.SpanID()]
				if !inside {
					return names
				}
				s = above
			}
		}
		within := map[string]int{}
		for _, s := range spans {
			names := line(s)
			w.Equal("POST /graphql", names[len(names)-1], "%v hangs together", names)
			if attributeOf(s, "db.system.name") != "" && len(names) > 1 {
				within[names[1]]++
			}
		}
		for name, above := range map[string][]string{
			"mutation": {"POST /graphql"}, "Mutation.createCustomer": {"mutation", "POST /graphql"}, "Mutation.deleteRecords": {"mutation", "POST /graphql"},
			"COMMIT": {"mutation", "POST /graphql"}, "BEGIN": {"mutation", "POST /graphql"}, "SELECT users": {"POST /graphql"},
		} {
			found := spansOf(kept, name)
			w.NotEmpty(found, name)
			if name != "SELECT users" {
				w.Len(found, 1, name)
			}
			w.Equal(above, line(found[0])[1:])
		}
		w.NotZero(within["Mutation.createCustomer"], "statements belong to the field for which they are sent")
		w.NotZero(within["Mutation.deleteRecords"])
		w.Equal("Renew", attributeOf(spansOf(kept, "mutation")[0], "graphql.operation.name"))
		w.Equal("mutation", attributeOf(spansOf(kept, "mutation")[0], "graphql.operation.type"))

		w.nothingPersonal(spans, gone)
	})
}

// nothingPersonal insists that spans have none of the values of the request.
func (w *world) nothingPersonal(spans tracetest.SpanStubs, ids ...gid.ID) {
	w.t.Helper()
	for _, s := range spans {
		text := fmt.Sprintf("%s %v %v %v %v", s.Name, s.Attributes, s.Events, s.Status, s.Links)
		for _, secret := range []string{"geheim", "Heimlich", "Verschwiegen", "Umzug", "192.0.2.1", "@acme"} {
			w.NotContains(text, secret)
		}
		for _, id := range ids {
			w.NotContains(text, id.String())
			w.NotContains(text, id.UUID())
		}
	}
}

func TestThereIsASpanForARootFieldAndNoneForOthers(t *testing.T) {
	traced(t, func(w *world, front http.Handler, kept *tracetest.InMemoryExporter) {
		c := w.customer("agent", "Heimlich GmbH")
		w.contact("agent", c, "geheim")
		kept.Reset()
		w.post(front, "agent", `{ a: customers(first: 5, where: {nameContains: "Heimlich"}) { nodes { id name contacts(first: 5) { nodes { name } } } } b: customers(first: 1) { totalCount } viewer { tenant } }`, nil)
		names := map[string]int{}
		for _, s := range kept.GetSpans() {
			if strings.HasPrefix(s.Name, "Query.") {
				names[s.Name]++
			}
		}
		w.Equal(map[string]int{"Query.customers": 2, "Query.viewer": 1}, names)
		w.nothingPersonal(kept.GetSpans(), c)
	})
}

func TestWhatIsRefusedIsMarkedByItsCodeAndNamesItsTrace(t *testing.T) {
	traced(t, func(w *world, front http.Handler, kept *tracetest.InMemoryExporter) {
		got := w.post(front, "agent", `mutation { updateCustomer(input: {id: "`+gid.New(gid.Customer).String()+`", version: 1, name: "geheim"}) { customer { id } } }`, nil, "traceparent", clientSays)
		w.Contains(got, `"traceID":"`+clientTrace+`"`)
		field := spansOf(kept, "Mutation.updateCustomer")[0]
		w.Equal("NOT_FOUND", field.Status.Description)
		w.Equal("NOT_FOUND", spansOf(kept, "mutation")[0].Status.Description)
		w.Len(spansOf(kept, "ROLLBACK"), 1)
		w.nothingPersonal(kept.GetSpans())

		w.exec(`ALTER TABLE contacts RENAME TO elsewhere`)
		w.customer("agent", "c")
		got = w.post(front, "agent", `{ customers(first: 1) { nodes { contacts(first: 1) { nodes { id } } } } }`, nil, "traceparent", clientSays, "X-Request-ID", "r-43")
		w.Contains(got, "INTERNAL")
		i := strings.Index(w.log.String(), "a request failed")
		w.NotEqual(-1, i)
		w.Contains(w.log.String()[i:], "requestID=r-43 traceID="+clientTrace+" spanID=")
	})
}

func TestATraceOfAStrangerIsKeptAwayWhenItIsNotSampled(t *testing.T) {
	traced(t, func(w *world, front http.Handler, kept *tracetest.InMemoryExporter) {
		kept.Reset()
		got := w.post(front, "agent", `{ nosuch }`, nil, "traceparent", strings.TrimSuffix(clientSays, "1")+"0")
		w.Contains(got, "GRAPHQL_VALIDATION_FAILED")
		w.NotContains(got, "traceID", "nobody could look it up")
		w.Empty(kept.GetSpans())
	})
}

func TestAWebhookGoesOnWithTheTraceOfTheRequest(t *testing.T) {
	traced(t, func(w *world, front http.Handler, kept *tracetest.InMemoryExporter) {
		heard := make(chan http.Header, 10)
		receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { heard <- r.Header.Clone() }))
		w.t.Cleanup(receiver.Close)
		get[object](w, "admin", `mutation($url: String!) { createWebhook(input: {url: $url, kinds: [DELETED]}) { webhook { id } } }`, vars{"url": receiver.URL + "/geheim"})
		c := w.customer("agent", "Heimlich GmbH")
		w.told()
		kept.Reset()
		w.Contains(w.post(front, "agent", `mutation($id: ID!) { deleteRecords(input: {select: {ids: [$id]}}) { operation { status } } }`, vars{"id": c.String()}, "traceparent", clientSays, "tracestate", "vendor=geheim"), "SUCCEEDED")
		w.told()
		_, err := w.notify.Deliver(w.t.Context())
		w.NoError(err)
		header := <-heard
		sent := spansOf(kept, "webhook")
		w.Len(sent, 1)
		w.Equal("00-"+clientTrace+"-"+sent[0].SpanContext.SpanID().String()+"-01", header.Get("Traceparent"))
		w.Empty(header.Get("Tracestate"), "what the client says to its own collector")
		w.Equal("200", attributeOf(sent[0], "http.response.status_code"))
		w.Equal(spansOf(kept, "mutation")[0].SpanContext.SpanID(), sent[0].Parent.SpanID())
		w.nothingPersonal(kept.GetSpans(), c)
	})
}

func TestWithoutATracerNothingIsTraced(t *testing.T) {
	each(t, func(w *world) {
		got := w.post(w.front(server.Config{}), "agent", `{ nosuch }`, nil, "traceparent", clientSays)
		w.NotContains(got, "traceID")
	})
}

func TestOperationsAreCountedByTypeAndOutcome(t *testing.T) {
	each(t, func(w *world) {
		got := map[string]int{}
		w.config.Observe = func(kind, code string, _ time.Duration) {
			got[kind+" "+code]++
			w.Contains(graph.OperationTypes(), kind)
			w.Contains(graph.OutcomeCodes(), code)
		}
		front := w.front(server.Config{})
		c := w.customer("manager", "c")
		for _, document := range []string{
			`query Any { viewer { tenant } }`, `query Other { viewer { tenant } }`, `{ node(id: "x") { id } }`, `{ nosuch }`, `{`,
			`mutation { createCustomer(input: {name: "x"}) { customer { id } } }`,
			`mutation { updateCustomer(input: {id: "` + gid.New(gid.Customer).String() + `", version: 1}) { customer { id } } }`,
			`mutation { deleteRecords(input: {select: {ids: ["` + c.String() + `"]}}) { operation { id } } }`,
		} {
			w.post(front, "agent", document, nil)
		}
		w.post(front, "", `{ viewer { tenant } }`, nil)
		w.Equal(map[string]int{
			"query OK": 2, "query BAD_USER_INPUT": 1, "none GRAPHQL_VALIDATION_FAILED": 1, "none GRAPHQL_PARSE_FAILED": 1,
			"mutation OK": 2, "mutation NOT_FOUND": 1, "none UNAUTHENTICATED": 1,
		}, got)
	})
}

func TestWhatClientsChooseAddsNoSeries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.SQLite)
	m := server.NewMetrics()
	w.config.Observe = m.Operated
	w.records.OnEnd(m.Ended)
	w.records.OnChange(m.Changed)
	front := w.front(server.Config{Requested: m.Requested, Metrics: m})
	c := w.create("agent", "Customer", record.Values{"name": "c"})
	requests := func() {
		for i := range 500 {
			chosen := fmt.Sprintf("x%d", rand.Uint64())
			method := []string{http.MethodGet, http.MethodPost, "X" + strings.ToUpper(chosen)}[i%3]
			path := []string{"/" + chosen, "/graphiql/" + chosen, "/exports/" + chosen, "/" + chosen + "/" + chosen, "//graphql", "/graphql?query=" + chosen, "/signin?token=" + chosen}[i%7]
			r := httptest.NewRequest(method, path, strings.NewReader(chosen))
			r.Header.Set("X-Request-ID", chosen)
			front.ServeHTTP(httptest.NewRecorder(), r)
			w.post(front, "agent", []string{
				`query ` + chosen + ` { viewer { tenant } }`, `{ ` + chosen + ` }`, `mutation ` + chosen + ` { createCustomer(input: {name: "` + chosen + `"}) { customer { id } } }`,
				`query ` + chosen + ` { ` + chosen + `: node(id: "` + chosen + `") { id } }`, chosen,
				`mutation ` + chosen + ` { ` + chosen + `: archiveRecords(input: {select: {ids: ["` + c.String() + `"]}, reason: "` + chosen + `"}) { operation { id } } }`,
			}[i%6], nil)
			m.Operated(chosen, chosen, 0)
		}
	}
	series := func() []string {
		out := httptest.NewRecorder()
		m.ServeHTTP(out, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		body, err := io.ReadAll(out.Body)
		w.NoError(err)
		problems, err := promlint.New(bytes.NewReader(body)).Lint()
		w.NoError(err)
		w.Empty(problems)
		var list []string
		for line := range strings.Lines(string(body)) {
			if strings.HasPrefix(line, "lethe_") {
				list = append(list, line[:strings.LastIndex(line, " ")])
			}
		}
		slices.Sort(list)
		return list
	}
	requests()
	first := series()
	requests()
	w.Equal(first, series())
	w.Less(len(first), 600, "there are not many to begin with")
	w.Contains(first, `lethe_http_requests_total{method="OTHER",route="other",status="4xx"}`)
	w.Contains(first, `lethe_graphql_operations_total{code="GRAPHQL_PARSE_FAILED",type="none"}`)
	w.Contains(first, `lethe_records_changed_total{type="Customer",verb="ARCHIVE"}`)
}
