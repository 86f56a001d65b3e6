package graph_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/graph"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
)

// A threat is a request that grows with n, of which no size is to cost more than its length.
type threat struct {
	// size is that of the smaller of the two that are compared.
	size int
	// body is of a request with n of what is dangerous in it.
	body func(n int) string
	code string
}

// numbered repeats text n times with # numbered.
func numbered(n int, text string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.ReplaceAll(text, "#", strconv.Itoa(i)))
		b.WriteByte(' ')
	}
	return b.String()
}

// nested is text n times, a core, and what closes it n times.
func nested(n int, opening, core, closing string) string {
	return strings.Repeat(opening, n) + core + strings.Repeat(closing, n)
}

// document is the body of a request without variables.
func document(text func(n int) string) func(n int) string {
	return func(n int) string {
		b, err := json.Marshal(map[string]any{"query": text(n)})
		if err != nil {
			panic(err)
		}
		return string(b)
	}
}

// variable is the body of a request for a document whose variable v is text.
func variable(query string, text func(n int) string) func(n int) string {
	return func(n int) string { return `{"query":` + strconv.Quote(query) + `,"variables":{"v":` + text(n) + `}}` }
}

const (
	limited = "QUERY_LIMIT"
	invalid = "GRAPHQL_VALIDATION_FAILED"
	badText = "GRAPHQL_PARSE_FAILED"
	badBody = "BAD_USER_INPUT"
)

var (
	listed  = `query($v: [ID!]!) { nodes(ids: $v) { id } }`
	chosen  = `mutation($v: [ID!]!) { purgeRecords(input: {select: {ids: $v}, reason: "r"}) { operation { id } } }`
	where   = `query($v: CustomerWhereInput!) { customers(first: 1, where: $v) { nodes { id } } }`
	threats = map[string]threat{
		"fragments that double at each level": {40, document(func(n int) string {
			return "{ ...F0 } " + numbered(n, "fragment F# on Query { ...G# ...G# } fragment G# on Query { viewer { tenant } }") +
				func() string {
					var b strings.Builder
					for i := range n {
						fmt.Fprintf(&b, "fragment H%d on Query { ...H%d ...H%d } ", i, i+1, i+1)
					}
					return b.String()
				}() + fmt.Sprintf("fragment H%d on Query { viewer { tenant } } query B { ...H0 }", n)
		}), ""},
		"a bomb of fragments": {40, document(func(n int) string {
			var b strings.Builder
			b.WriteString("{ ...F0 } ")
			for i := range n {
				fmt.Fprintf(&b, "fragment F%d on Query { ...F%d ...F%d } ", i, i+1, i+1)
			}
			fmt.Fprintf(&b, "fragment F%d on Query { viewer { tenant } }", n)
			return b.String()
		}), limited},
		"a bomb of fragments below fields": {40, document(func(n int) string {
			var b strings.Builder
			b.WriteString("{ customers(first: 1) { nodes { ...F0 } } } ")
			for i := range n {
				fmt.Fprintf(&b, "fragment F%d on Customer { a: team { id } ...F%d b: owner { id } ...F%d } ", i, i+1, i+1)
			}
			fmt.Fprintf(&b, "fragment F%d on Customer { id }", n)
			return b.String()
		}), limited},
		"fragments in a circle": {200, document(func(n int) string {
			var b strings.Builder
			b.WriteString("{ ...F0 } ")
			for i := range n {
				fmt.Fprintf(&b, "fragment F%d on Query { ...F%d } ", i, (i+1)%n)
			}
			return b.String()
		}), ""},
		"a field again and again":          {10_000, document(func(n int) string { return "{ viewer { " + strings.Repeat("tenant ", n) + "} }" }), limited},
		"a field as often as tokens allow": {2_000, document(func(n int) string { return "{ viewer { " + strings.Repeat("tenant ", n) + "} }" }), limited},
		"a list again and again":           {200, document(func(n int) string { return "{" + strings.Repeat("customers(first: 1) { nodes { id } } ", n) + "}" }), limited},
		"directives":                       {5_000, document(func(n int) string { return "{ viewer { tenant " + strings.Repeat("@skip(if: false) ", n) + "} }" }), limited},
		"directives within the tokens":     {300, document(func(n int) string { return "{ viewer { tenant " + strings.Repeat("@skip(if: false) ", n) + "} }" }), ""},
		"directives nobody knows":          {1_000, document(func(n int) string { return "{ viewer { tenant " + numbered(n, "@d#") + "} }" }), ""},
		"aliases":                          {1_000, document(func(n int) string { return "{ viewer { " + numbered(n, "a#: tenant") + "} }" }), limited},
		"aliases of root fields":           {500, document(func(n int) string { return "{" + numbered(n, "a#: viewer { tenant }") + "}" }), limited},
		"mutations": {100, document(func(n int) string {
			return "mutation {" + numbered(n, `a#: createCustomer(input: {name: "x"}) { customer { id } }`) + "}"
		}), limited},
		"fields nobody knows":    {1_000, document(func(n int) string { return "{ viewer { " + numbered(n, "tenan#") + "} }" }), invalid},
		"arguments nobody knows": {500, document(func(n int) string { return "{ customers(first: 1 " + numbered(n, "wher#: 1") + ") { nodes { id } } }" }), ""},
		"a deep selection":       {500, document(func(n int) string { return nested(n, "{ customers(first: 1) { nodes { team ", "{ id }", "}}}") }), limited},
		"deep inline fragments":  {1_100, document(func(n int) string { return "{" + nested(n, "... {", "viewer { tenant }", "}") + "}" }), limited},
		"introspection in circles": {30, document(func(n int) string {
			return "{ __schema { types { " + nested(n, "fields { type { ", "name", "} }") + " } } }"
		}), limited},
		"introspection of types":    {50, document(func(n int) string { return "{" + numbered(n, `a#: __type(name: "Query") { fields { name } }`) + "}" }), limited},
		"operations":                {400, document(func(n int) string { return numbered(n, "query A# { viewer { tenant } }") }), limited},
		"variables declared":        {500, document(func(n int) string { return "query(" + numbered(n, "$v#: Int") + ") { viewer { tenant } }" }), ""},
		"a variable declared twice": {500, document(func(n int) string { return "query(" + numbered(n, "$v: Int") + ") { viewer { tenant } }" }), ""},
		"a deep literal": {100, document(func(n int) string {
			return "{ customers(first: 1, where: " + nested(n, "{not: ", `{name: "x"}`, "}") + ") { nodes { id } } }"
		}), limited},
		"a deep list":                   {1_000, document(func(n int) string { return "{ nodes(ids: " + nested(n, "[", `"x"`, "]") + ") { id } }" }), limited},
		"open brackets":                 {200_000, document(func(n int) string { return strings.Repeat("{a", n) }), ""},
		"open lists":                    {200_000, document(func(n int) string { return "{ nodes(ids: " + strings.Repeat("[", n) }), ""},
		"a long name":                   {200_000, document(func(n int) string { return "{ " + strings.Repeat("a", n) + " }" }), invalid},
		"a long comment":                {200_000, document(func(n int) string { return "{ x #" + strings.Repeat("a", n) + "\n }" }), ""},
		"comments":                      {100_000, document(func(n int) string { return strings.Repeat("#\n", n) + "{ x }" }), ""},
		"commas":                        {200_000, document(func(n int) string { return strings.Repeat(",", n) + "{ x }" }), ""},
		"a string without an end":       {200_000, document(func(n int) string { return `{ node(id: "` + strings.Repeat("a", n) }), badText},
		"a block without an end":        {100_000, document(func(n int) string { return `{ node(id: """` + strings.Repeat("\n ", n) }), badText},
		"escapes":                       {50_000, document(func(n int) string { return `{ nobody(id: "` + strings.Repeat(`\u0041`, n) + `") { id } }` }), invalid},
		"a definition of a type":        {500, document(func(n int) string { return numbered(n, "type A# { a: Int }") + "{ viewer { tenant } }" }), ""},
		"ids":                           {100_000, variable(listed, func(n int) string { return "[" + strings.Repeat(`"x",`, n-1) + `"x"]` }), limited},
		"ids of a mutation":             {20_000, variable(chosen, func(n int) string { return "[" + strings.Repeat(`"customer_x",`, n-1) + `"x"]` }), limited},
		"ids in the document":           {1_100, document(func(n int) string { return "{ nodes(ids: [" + strings.Repeat(`"x" `, n) + "]) { id } }" }), limited},
		"deep variables":                {2_000, variable(where, func(n int) string { return nested(n, `{"not":`, `{"name":"x"}`, "}") }), limited},
		"variables deeper than JSON is": {15_000, variable(where, func(n int) string { return nested(n, `{"not":`, `{"name":"x"}`, "}") }), badBody},
		"wide variables":                {10_000, variable(where, func(n int) string { return `{"or":[` + strings.Repeat(`{"name":"x"},`, n-1) + `{"name":"x"}]}` }), limited},
		"variables nobody declared":     {10_000, variable(`{ viewer { tenant } }`, func(n int) string { return `1,` + numbered(n, `"v#":1,`) + `"w":{}` }), ""},
		"a key again and again":         {10_000, func(n int) string { return `{` + strings.Repeat(`"query":"{ viewer { tenant } }",`, n) + `"x":1}` }, badBody},
		"batches":                       {10_000, func(n int) string { return `[` + strings.Repeat(`{"query":"{ viewer { tenant } }"},`, n) + `{}]` }, badBody},
		"documents behind one another":  {10_000, func(n int) string { return strings.Repeat(`{"query":"{ viewer { tenant } }"}`, n) }, badBody},
		"extensions":                    {5_000, func(n int) string { return `{"query":"{ x }","extensions":` + nested(n, `{"a":`, "1", "}") + `}` }, ""},
		"truncated JSON":                {200_000, func(n int) string { return `{"query":"` + strings.Repeat("a", n) }, badBody},
		"deep JSON":                     {200_000, func(n int) string { return `{"query":` + strings.Repeat("[", n) }, badBody},
		"more than a body may have":     {1_100_000, func(n int) string { return `{"query":"` + strings.Repeat(" ", n) + `{ viewer { tenant } }"}` }, limited},
		"a long name of an operation": {100_000, func(n int) string {
			return `{"query":"query A { viewer { tenant } }","operationName":"` + strings.Repeat("A", n) + `"}`
		}, badBody},
	}
)

// mostAnswered is how long, in bytes, the answer to what is refused may be.
const mostAnswered = 8 << 10

func (w *world) sent(body string) *httptest.ResponseRecorder {
	ctx := actor.With(w.t.Context(), w.actor("admin"))
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/graphql", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/graphql-response+json")
	out := httptest.NewRecorder()
	w.handler.ServeHTTP(out, r)
	return out
}

func TestMaliciousDocumentsAreRefusedBeforeTheyRun(t *testing.T) {
	each(t, func(w *world) {
		for name, threat := range threats {
			for _, n := range []int{threat.size, 2 * threat.size} {
				w.sql.take()
				out := w.sent(threat.body(n))
				w.Empty(w.sql.take(), "%s: nothing was asked of the database", name)
				w.GreaterOrEqual(out.Code, 400, "%s: %s", name, out.Body)
				w.Less(out.Code, 500, "%s: %s", name, out.Body)
				w.LessOrEqual(out.Body.Len(), mostAnswered, name)
				a := answer{w: w, raw: out.Body.String()}
				w.NoError(json.Unmarshal(out.Body.Bytes(), &a), "%s: %s", name, a.raw)
				w.Nil(a.Data, name)
				if threat.code != "" {
					w.Equal(threat.code, a.code(), "%s: %s", name, a.raw)
				}
				w.Contains([]string{limited, invalid, badText, badBody}, a.code(), name)
			}
		}
		w.NotContains(w.log.String(), "ERROR")
	})
}

// TestMaliciousDocumentsCostNoMoreThanTheirLength doubles each of them: what is allocated for it at most doubles. It is
// not parallel, because what others allocate would be counted as well.
//
//nolint:paralleltest // REASON: see above
func TestMaliciousDocumentsCostNoMoreThanTheirLength(t *testing.T) {
	control, err := access.New(&policies{}, nil)
	require.NoError(t, err)
	handler, err := graph.NewHandler(graph.Config{Control: control, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Callers: stayers{}})
	require.NoError(t, err)
	ctx := actor.With(t.Context(), &actor.Actor{Tenant: gid.New(gid.Tenant), User: gid.New(gid.User), RequestID: "r-1"})
	for name, threat := range threats {
		measure := func(n int) (allocations, size float64, took time.Duration) {
			body, runs := threat.body(n), 0
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			allocations = testing.AllocsPerRun(2, func() {
				runs++
				// A document that is new each time is not found in the cache.
				text := strings.Replace(body, `{"query":"`, fmt.Sprintf(`{"query":"#%d\n`, runs), 1)
				r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/graphql", strings.NewReader(text))
				r.Header.Set("Content-Type", "application/json")
				handler.ServeHTTP(httptest.NewRecorder(), r)
			})
			took = time.Since(began) / time.Duration(runs)
			runtime.ReadMemStats(&after)
			return allocations, float64(after.TotalAlloc-before.TotalAlloc) / float64(runs), took
		}
		allocations, size, took := measure(threat.size)
		moreAllocations, moreSize, longer := measure(2 * threat.size)
		t.Logf("%-35s %8d: %7.0f allocations of %9.0f bytes, %8v; twice as large %7.0f of %9.0f, %8v", name, threat.size,
			allocations, size, took.Round(time.Microsecond), moreAllocations, moreSize, longer.Round(time.Microsecond))
		const noise, noisyBytes = 200, 128 << 10 // what is there whatever is asked
		assert.LessOrEqual(t, moreAllocations, 2.5*allocations+noise, "%s: allocations", name)
		assert.LessOrEqual(t, moreSize, 2.5*size+noisyBytes, "%s: bytes", name)
	}
}

func TestHugePagesAreRefusedBeforeTheyRun(t *testing.T) {
	each(t, func(w *world) {
		w.sql.take()
		for _, first := range []string{"0", "-1", "101", "2147483647", "2147483648", "9223372036854775808", "1e9", "99999999999999999999999999"} {
			for _, document := range []string{
				`{ customers(first: ` + first + `) { nodes { id } } }`,
				`{ customers(last: ` + first + `) { nodes { id } } }`,
				`{ customers(first: 1) { nodes { contacts(first: ` + first + `) { nodes { id } } } } }`,
			} {
				out := w.sent(`{"query":` + strconv.Quote(document) + `}`)
				w.Equal(http.StatusBadRequest, out.Code, "%s: %s", document, out.Body)
				w.NotContains(out.Body.String(), `"data"`, document)
			}
			out := w.sent(`{"query":"query($n: Int) { customers(first: $n) { nodes { id } } }","variables":{"n":` + first + `}}`)
			w.Equal(http.StatusBadRequest, out.Code, "%s: %s", first, out.Body)
		}
		w.Empty(w.sql.take())
	})
}

func TestTextThatIsNoneIsRefusedBeforeItRuns(t *testing.T) {
	each(t, func(w *world) {
		w.sql.take()
		for name, body := range map[string]string{
			"NUL in a literal":         `{"query":"{ customers(first: 1, where: {name: \"a\\u0000\"}) { nodes { id } } }"}`,
			"NUL in the document":      `{"query":"{ viewer { tenant } }\u0000"}`,
			"NUL in a variable":        `{"query":"query($v: String) { customers(first: 1, search: $v) { nodes { id } } }","variables":{"v":"a\u0000"}}`,
			"NUL in a key":             `{"query":"query($v: CustomerWhereInput) { customers(first: 1, where: $v) { nodes { id } } }","variables":{"v":{"na\u0000me":"a"}}}`,
			"invalid UTF-8":            "{\"query\":\"{ customers(first: 1, search: \\\"\xff\xfe\\\") { nodes { id } } }\"}",
			"an overlong NUL":          "{\"query\":\"{ customers(first: 1, search: \\\"\xc0\x80\\\") { nodes { id } } }\"}",
			"invalid UTF-8 of a value": "{\"query\":\"query($v: String) { customers(first: 1, search: $v) { nodes { id } } }\",\"variables\":{\"v\":\"\xed\xa0\x80\"}}",
			"UTF-16":                   "\xff\xfe{\x00\"\x00}\x00",
		} {
			out := w.sent(body)
			w.Equal(http.StatusBadRequest, out.Code, "%s: %s", name, out.Body)
			w.LessOrEqual(out.Body.Len(), mostAnswered, name)
		}
		w.Empty(w.sql.take())
	})
}

func TestRequestsInOtherFormsAreRefusedBeforeTheyRun(t *testing.T) {
	each(t, func(w *world) {
		const mutation, query = `mutation { createCustomer(input: {name: "x"}) { customer { id } } }`, `{ customers(first: 1) { totalCount } }`
		as := actor.With(w.t.Context(), w.actor("admin"))
		w.sql.take()
		for name, test := range map[string]struct {
			method, target, contentType, accept, body string
			status                                    int
		}{
			"a form":                   {"POST", "/graphql", "application/x-www-form-urlencoded", "", "query=" + url.QueryEscape(mutation), 415},
			"a form of a page":         {"POST", "/graphql", "text/plain", "", `{"query":` + strconv.Quote(mutation) + `,"x":"="}`, 415},
			"of no type":               {"POST", "/graphql", "", "", `{"query":` + strconv.Quote(mutation) + `}`, 415},
			"a document alone":         {"POST", "/graphql", "application/graphql", "", mutation, 415},
			"multipart":                {"POST", "/graphql", "multipart/form-data; boundary=x", "", "--x\r\nContent-Disposition: form-data; name=\"operations\"\r\n\r\n{\"query\":" + strconv.Quote(mutation) + "}\r\n--x--\r\n", 415},
			"a mutation by GET":        {"GET", "/graphql?query=" + url.QueryEscape(mutation), "", "", "", 405},
			"PUT":                      {"PUT", "/graphql", "application/json", "", `{"query":` + strconv.Quote(query) + `}`, 405},
			"PATCH":                    {"PATCH", "/graphql", "application/json", "", `{"query":` + strconv.Quote(query) + `}`, 405},
			"TRACE":                    {"TRACE", "/graphql", "", "", "", 405},
			"a method nobody knows":    {"BREW", "/graphql", "application/json", "", `{"query":` + strconv.Quote(query) + `}`, 405},
			"an answer nobody serves":  {"POST", "/graphql", "application/json", "text/html", `{"query":` + strconv.Quote(query) + `}`, 406},
			"a stream of parts":        {"POST", "/graphql", "application/json", "multipart/mixed", `{"query":` + strconv.Quote(query) + `}`, 406},
			"deferred":                 {"POST", "/graphql", "application/json", "application/graphql-response+json", `{"query":"{ customers(first: 1) { nodes { ... @defer { id } } } }"}`, 400},
			"streamed":                 {"POST", "/graphql", "application/json", "application/graphql-response+json", `{"query":"{ customers(first: 1) { nodes @stream { id } } }"}`, 400},
			"a batch":                  {"POST", "/graphql", "application/json", "application/graphql-response+json", `[{"query":` + strconv.Quote(query) + `}]`, 400},
			"keys in other letters":    {"POST", "/graphql", "application/json", "application/graphql-response+json", `{"QUERY":` + strconv.Quote(query) + `}`, 400},
			"a query by its hash":      {"POST", "/graphql", "application/json", "application/graphql-response+json", `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"ecf4edb46db40b5132295c0291d62fb65d6759a9eedfa4d5d612dd5ec54a6b38"}}}`, 400},
			"a query given twice":      {"GET", "/graphql?query=" + url.QueryEscape(query) + "&query=" + url.QueryEscape(query), "", "", "", 400},
			"nothing":                  {"POST", "/graphql", "application/json", "application/graphql-response+json", "", 400},
			"a subscription by itself": {"POST", "/graphql", "application/json", "application/graphql-response+json", `{"query":"subscription { notifications { id } }"}`, 400},
		} {
			r := httptest.NewRequestWithContext(as, test.method, test.target, strings.NewReader(test.body))
			if test.contentType != "" {
				r.Header.Set("Content-Type", test.contentType)
			}
			if test.accept != "" {
				r.Header.Set("Accept", test.accept)
			}
			out := httptest.NewRecorder()
			w.handler.ServeHTTP(out, r)
			w.Equal(test.status, out.Code, "%s: %s", name, out.Body)
			w.LessOrEqual(out.Body.Len(), mostAnswered, name)
		}
		w.Empty(w.sql.take())
	})
}
