package transport_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/lethe-crm/lethe/internal/transport"
)

// callers let in who has the token "good".
type callers struct {
	mu      sync.Mutex
	ends    []context.CancelCauseFunc
	held    int
	refuses error // of Now
	full    bool
	now     func()
}

type nameKey struct{}

func (c *callers) SignIn(ctx context.Context, token string) (context.Context, bool, error) {
	if token == "unknown" {
		return ctx, false, errors.New("the database is away")
	}
	return context.WithValue(ctx, nameKey{}, token), token == "good", nil
}

func (c *callers) Hold(ctx context.Context) (context.Context, func(), error) {
	if c.full {
		return ctx, nil, transport.ErrTooMany
	}
	held, release := c.Attend(ctx)
	return held, release, nil
}

func (c *callers) Attend(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held++
	c.ends = append(c.ends, cancel)
	return ctx, func() {
		cancel(nil)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.held--
	}
}

func (c *callers) Now(ctx context.Context) (context.Context, error) {
	if c.now != nil {
		c.now()
	}
	return ctx, c.refuses
}

func (c *callers) Latest(ctx context.Context) (context.Context, error) { return ctx, nil }

// end ends all that is held, for a reason.
func (c *callers) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, end := range c.ends {
		end(why)
	}
}

func (c *callers) holding() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// ticking answers a subscription with what is sent to the channel, a mutation once it
// is let go, and everything else at once.
func ticking(ticks <-chan string, letGo <-chan struct{}) answer {
	var mu sync.Mutex
	answered := map[*graphql.OperationContext]bool{}
	return func(ctx context.Context) *graphql.Response {
		op := graphql.GetOperationContext(ctx)
		if op.Operation.Operation == ast.Subscription {
			select {
			case tick, more := <-ticks:
				if !more {
					return nil
				}
				if tick == "panic" {
					panic(tick)
				}
				return &graphql.Response{Data: json.RawMessage(`{"ticks":` + tick + `}`)}
			case <-ctx.Done():
				return nil
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if answered[op] {
			return nil
		}
		answered[op] = true
		if op.Operation.Operation == ast.Mutation {
			select {
			case <-letGo:
			case <-ctx.Done():
				return nil
			}
		}
		return &graphql.Response{Data: json.RawMessage(`{"name":"lethe"}`)}
	}
}

// client is one that speaks graphql-transport-ws.
type client struct {
	*require.Assertions

	t       *testing.T
	conn    *websocket.Conn
	callers *callers
	ticks   chan string
	letGo   chan struct{}
}

func connect(t *testing.T, with transport.WebSocket, subprotocols ...string) *client {
	t.Helper()
	c := &client{require.New(t), t, nil, &callers{}, make(chan string), make(chan struct{})}
	with.Callers = c.callers
	with.Recover = func(_ context.Context, value any) *gqlerror.Error { return gqlerror.Errorf("recovered: %v", value) }
	handler := handlerWith(t, ticking(c.ticks, c.letGo), with)
	server := httptest.NewServer(transport.Front(handler, transport.DefaultMaxBody))
	t.Cleanup(server.Close)
	if subprotocols == nil {
		subprotocols = []string{"graphql-transport-ws"}
	}
	var err error
	c.conn, _, err = websocket.Dial(t.Context(), server.URL, &websocket.DialOptions{Subprotocols: subprotocols})
	c.NoError(err)
	t.Cleanup(func() { _ = c.conn.CloseNow() })
	return c
}

func (c *client) say(text string) {
	c.t.Helper()
	c.NoError(c.conn.Write(c.t.Context(), websocket.MessageText, []byte(text)))
}

func (c *client) hears(want string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	_, text, err := c.conn.Read(ctx)
	c.NoError(err, "instead of %s", want)
	c.JSONEq(want, string(text))
}

func (c *client) closes(code int, reason string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	_, text, err := c.conn.Read(ctx)
	c.Error(err, "%s", text)
	var closed websocket.CloseError
	c.ErrorAs(err, &closed)
	c.EqualValues(code, closed.Code, closed.Reason)
	c.Equal(reason, closed.Reason)
	c.Eventually(func() bool { return c.callers.holding() == 0 }, 10*time.Second, time.Millisecond, "the connection is let go")
}

func (c *client) signIn() {
	c.t.Helper()
	c.say(`{"type":"connection_init","payload":{"Authorization":"Bearer good"}}`)
	c.hears(`{"type":"connection_ack"}`)
}

const tick = `{"id":"a","type":"subscribe","payload":{"query":"subscription { ticks }"}}`

func TestASocketServesOperationsOfAllKinds(t *testing.T) {
	t.Parallel()
	c := connect(t, transport.WebSocket{})
	c.say(`{"type":"ping"}`)
	c.hears(`{"type":"pong"}`)
	c.signIn()
	c.say(`{"type":"pong"}`)
	c.say(tick)
	c.ticks <- "1"
	c.hears(`{"id":"a","type":"next","payload":{"data":{"ticks":1}}}`)
	c.say(`{"id":"b","type":"subscribe","payload":{"query":"{ name }","operationName":null,"variables":null,"extensions":null}}`)
	c.hears(`{"id":"b","type":"next","payload":{"data":{"name":"lethe"}}}`)
	c.hears(`{"id":"b","type":"complete"}`)
	c.say(`{"id":"b","type":"subscribe","payload":{"query":"mutation { rename }"}}`) // a name may be used again
	close(c.letGo)
	c.hears(`{"id":"b","type":"next","payload":{"data":{"name":"lethe"}}}`)
	c.hears(`{"id":"b","type":"complete"}`)
	c.ticks <- "2"
	c.hears(`{"id":"a","type":"next","payload":{"data":{"ticks":2}}}`)
	close(c.ticks)
	c.hears(`{"id":"a","type":"complete"}`)
}

func TestAClientMayCompleteAnOperationAndUseItsNameAgain(t *testing.T) {
	t.Parallel()
	c := connect(t, transport.WebSocket{})
	c.signIn()
	c.say(tick)
	c.say(`{"id":"a","type":"complete"}`)
	c.say(`{"id":"never","type":"complete"}`)
	c.say(tick)
	c.ticks <- "7" // whoever takes it, the first or the second
	c.say(`{"id":"a","type":"complete"}`)
	c.say(`{"type":"ping"}`)
	for {
		_, text, err := c.conn.Read(t.Context())
		c.NoError(err)
		if string(text) == `{"type":"pong"}` {
			break
		}
		c.JSONEq(`{"id":"a","type":"next","payload":{"data":{"ticks":7}}}`, string(text))
	}
}

func TestErrorsOfARequestEndItsOperationOnly(t *testing.T) {
	t.Parallel()
	c := connect(t, transport.WebSocket{Operations: 1})
	c.signIn()
	errorCode := func(message string) string {
		c.say(message)
		_, text, err := c.conn.Read(t.Context())
		c.NoError(err)
		var m struct {
			ID, Type string
			Payload  []struct{ Extensions struct{ Code string } }
		}
		c.NoError(json.Unmarshal(text, &m), string(text))
		c.Equal("error", m.Type, string(text))
		c.Equal("x", m.ID)
		c.Len(m.Payload, 1)
		return m.Payload[0].Extensions.Code
	}
	for want, payload := range map[string]string{
		"GRAPHQL_PARSE_FAILED":      `{"query":"{"}`,
		"GRAPHQL_VALIDATION_FAILED": `{"query":"{ nothing }"}`,
		"BAD_USER_INPUT":            `{"query":"{ name }","query":"{ name }"}`,
		"QUERY_LIMIT":               `{"query":"{ ` + strings.Repeat("a: name ", 100) + ` }"}`,
	} {
		c.Equal(want, errorCode(`{"id":"x","type":"subscribe","payload":`+payload+`}`), payload)
	}
	c.say(tick)
	c.Equal("QUERY_LIMIT", errorCode(`{"id":"x","type":"subscribe","payload":{"query":"{ name }"}}`), "one operation at a time")
	c.ticks <- "panic"
	c.hears(`{"id":"a","type":"error","payload":[{"message":"recovered: panic"}]}`)
	c.say(tick)
	c.ticks <- "1"
	c.hears(`{"id":"a","type":"next","payload":{"data":{"ticks":1}}}`)
}

func TestASocketIsClosedWithTheCodesOfTheProtocol(t *testing.T) {
	t.Parallel()
	subscribe := func(id string) string {
		return `{"id":"` + id + `","type":"subscribe","payload":{"query":"subscription { ticks }"}}`
	}
	for name, test := range map[string]struct {
		signedIn bool
		messages []string
		code     int
		reason   string
	}{
		"no JSON":              {false, []string{`x`}, 4400, "Invalid message"},
		"unknown type":         {false, []string{`{"type":"start"}`}, 4400, "Invalid message"},
		"a list":               {false, []string{`[]`}, 4400, "Invalid message"},
		"a payload of a type":  {false, []string{`{"type":"connection_init","payload":"x"}`}, 4400, "Invalid message"},
		"another scheme":       {false, []string{`{"type":"connection_init","payload":{"authorization":"Basic x"}}`}, 4400, "Invalid message"},
		"two tokens":           {false, []string{`{"type":"connection_init","payload":{"authorization":"Bearer good","Authorization":"Bearer good"}}`}, 4400, "Invalid message"},
		"nobody":               {false, []string{`{"type":"connection_init"}`}, 4403, "Forbidden"},
		"a bad token":          {false, []string{`{"type":"connection_init","payload":{"authorization":"Bearer bad"}}`}, 4403, "Forbidden"},
		"before the ack":       {false, []string{subscribe("a")}, 4401, "Unauthorized"},
		"initialised twice":    {true, []string{`{"type":"connection_init"}`}, 4429, "Too many initialisation requests"},
		"a name twice":         {true, []string{subscribe("a"), subscribe("a")}, 4409, "Subscriber for a already exists"},
		"a long name twice":    {true, []string{subscribe(strings.Repeat("ы", 60)), subscribe(strings.Repeat("ы", 60))}, 4409, "Subscriber for this id already exists"},
		"no name":              {true, []string{subscribe("")}, 4400, "Invalid message"},
		"a name that is long":  {true, []string{subscribe(strings.Repeat("a", 129))}, 4400, "Invalid message"},
		"nothing to subscribe": {true, []string{`{"id":"a","type":"subscribe"}`}, 4400, "Invalid message"},
		"a large message":      {true, []string{`{"type":"ping","payload":"` + strings.Repeat("a", 2_000) + `"}`}, 1009, "read limited at 1001 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := connect(t, transport.WebSocket{MaxMessage: 1_000})
			if test.signedIn {
				c.signIn()
			}
			for _, m := range test.messages {
				c.say(m)
			}
			c.closes(test.code, test.reason)
		})
	}
	t.Run("no initialisation", func(t *testing.T) {
		t.Parallel()
		connect(t, transport.WebSocket{InitTimeout: 10 * time.Millisecond}).closes(4408, "Connection initialisation timeout")
	})
	t.Run("bytes", func(t *testing.T) {
		t.Parallel()
		c := connect(t, transport.WebSocket{})
		c.NoError(c.conn.Write(t.Context(), websocket.MessageBinary, []byte(`{"type":"ping"}`)))
		c.closes(4400, "Invalid message")
	})
	t.Run("another protocol", func(t *testing.T) {
		t.Parallel()
		connect(t, transport.WebSocket{}, "graphql-ws").closes(4406, "Subprotocol not acceptable")
	})
	t.Run("signed out", func(t *testing.T) {
		t.Parallel()
		c := connect(t, transport.WebSocket{})
		c.signIn()
		c.say(tick)
		c.ticks <- "1"
		c.hears(`{"id":"a","type":"next","payload":{"data":{"ticks":1}}}`)
		c.callers.end(transport.ErrSignedOut)
		c.closes(4403, "Forbidden")
	})
	t.Run("nobody can tell", func(t *testing.T) {
		t.Parallel()
		c := connect(t, transport.WebSocket{})
		c.say(`{"type":"connection_init","payload":{"Authorization":"Bearer unknown"}}`)
		c.closes(1013, "Try again later")
	})
	t.Run("too many", func(t *testing.T) {
		t.Parallel()
		c := connect(t, transport.WebSocket{})
		c.callers.full = true
		c.say(`{"type":"connection_init","payload":{"Authorization":"Bearer good"}}`)
		c.closes(1013, "Too many connections")
	})
	t.Run("signed out when it asks", func(t *testing.T) {
		t.Parallel()
		c := connect(t, transport.WebSocket{})
		c.signIn()
		c.callers.refuses = transport.ErrSignedOut
		c.say(tick)
		c.closes(4403, "Forbidden")
	})
}

// A server that stops ends subscriptions at once, and lets what it has accepted end.
func TestAStoppingServerAnswersWhatItHasBegun(t *testing.T) {
	t.Parallel()
	c := connect(t, transport.WebSocket{})
	c.signIn()
	c.say(tick)
	c.ticks <- "1"
	c.hears(`{"id":"a","type":"next","payload":{"data":{"ticks":1}}}`)
	c.say(`{"id":"b","type":"subscribe","payload":{"query":"mutation { rename }"}}`)
	c.say(`{"type":"ping"}`)
	c.hears(`{"type":"pong"}`) // so that the mutation is under way
	c.callers.end(transport.ErrStopping)
	c.say(`{"id":"c","type":"subscribe","payload":{"query":"{ name }"}}`) // comes too late, and does no harm
	c.say(`{"type":"ping"}`)
	c.hears(`{"type":"pong"}`)
	close(c.letGo)
	c.hears(`{"id":"b","type":"next","payload":{"data":{"name":"lethe"}}}`)
	c.hears(`{"id":"b","type":"complete"}`)
	c.closes(1001, "The server is stopping")
}

// What is completed counts until it has ended, or a client could begin without end.
func TestCompletedOperationsCountUntilTheyEnd(t *testing.T) {
	t.Parallel()
	c := connect(t, transport.WebSocket{Operations: 2})
	asked := make(chan struct{}, 10)
	letGo := make(chan struct{})
	c.callers.now = func() {
		asked <- struct{}{}
		<-letGo
	}
	c.signIn()
	for range 4 {
		c.say(tick)
		<-asked
		c.say(`{"id":"a","type":"complete"}`)
	}
	c.say(tick)
	_, text, err := c.conn.Read(t.Context())
	c.NoError(err)
	c.Contains(string(text), "QUERY_LIMIT")
	close(letGo)
	c.Eventually(func() bool {
		c.say(`{"id":"b","type":"subscribe","payload":{"query":"{ name }"}}`)
		_, text, err := c.conn.Read(t.Context())
		c.NoError(err)
		return strings.Contains(string(text), "next")
	}, 10*time.Second, time.Millisecond)
}

func TestPagesOfOtherSitesOpenNoSocket(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(handlerWith(t, nil, transport.WebSocket{Callers: &callers{}, Origins: []string{"crm.example"}}))
	t.Cleanup(server.Close)
	for origin, in := range map[string]bool{
		"": true, server.URL: true, "https://crm.example": true, "https://evil.example": false, "null": false, "https://crm.example.evil.example": false,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		conn, response, err := websocket.Dial(t.Context(), server.URL, &websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}, HTTPHeader: header})
		if in {
			require.NoError(t, err, origin)
			require.NoError(t, conn.CloseNow())
			continue
		}
		require.Error(t, err, origin)
		require.Equal(t, http.StatusForbidden, response.StatusCode, origin)
	}
}

// stream reads a stream of server-sent events to its end.
func stream(t *testing.T, server *httptest.Server, r *http.Request) string {
	t.Helper()
	r.RequestURI = ""
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(server.URL, "http://")
	r.Header.Set("Accept", "text/event-stream")
	response, err := server.Client().Do(r.WithContext(t.Context()))
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/event-stream; charset=utf-8", response.Header.Get("Content-Type"))
	require.Equal(t, "no", response.Header.Get("X-Accel-Buffering"))
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(text)
}

func TestEventsAreThoseOfTheProtocol(t *testing.T) {
	t.Parallel()
	ticks, letGo := make(chan string, 3), make(chan struct{})
	close(letGo)
	c := &callers{}
	server := httptest.NewServer(transport.Front(handlerWith(t, ticking(ticks, letGo), transport.SSE{Callers: c}), transport.DefaultMaxBody))
	t.Cleanup(server.Close)
	const complete = "event: complete\ndata:\n\n"
	name := ":\n\nevent: next\ndata: {\"data\":{\"name\":\"lethe\"}}\n\n" + complete
	require.Equal(t, name, stream(t, server, post(`{"query":"{ name }"}`, "")))
	require.Equal(t, name, stream(t, server, post(`{"query":"mutation { rename }"}`, "")))
	require.Equal(t, name, stream(t, server, httptest.NewRequest(http.MethodGet, "/graphql?query={name}", nil)))
	for code, r := range map[string]*http.Request{
		"BAD_USER_INPUT":            httptest.NewRequest(http.MethodGet, "/graphql?query=mutation{rename}", nil),
		"GRAPHQL_VALIDATION_FAILED": post(`{"query":"{ nothing }"}`, ""),
		"GRAPHQL_PARSE_FAILED":      post(`{"query":"{"}`, ""),
		"QUERY_LIMIT":               post(`{"query":"{ `+strings.Repeat("a: name ", 100)+` }"}`, ""),
	} {
		text := stream(t, server, r)
		require.Contains(t, text, `"code":"`+code+`"`)
		require.Contains(t, text, "event: next\ndata: {\"errors\":")
		require.True(t, strings.HasSuffix(text, "\n\n"+complete), text)
	}
	ticks <- "1"
	ticks <- "2"
	close(ticks)
	require.Equal(t, ":\n\nevent: next\ndata: {\"data\":{\"ticks\":1}}\n\nevent: next\ndata: {\"data\":{\"ticks\":2}}\n\n"+complete, stream(t, server, post(`{"query":"subscription { ticks }"}`, "")))
	require.Zero(t, c.holding())
}

func TestWhoHasTooManyStreamsIsToldSo(t *testing.T) {
	t.Parallel()
	c := &callers{full: true}
	server := httptest.NewServer(handlerWith(t, ticking(nil, nil), transport.SSE{Callers: c}))
	t.Cleanup(server.Close)
	require.Contains(t, stream(t, server, post(`{"query":"subscription { ticks }"}`, "")), "RATE_LIMITED")
	require.Contains(t, stream(t, server, post(`{"query":"{ name }"}`, "")), "lethe", "which is none")
}

// Who is signed out is told so, and does not try again; who is cut off, does.
func TestAStreamEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	for why, want := range map[error]string{
		transport.ErrSignedOut: "UNAUTHENTICATED",
		transport.ErrStopping:  "",
	} {
		ticks, c := make(chan string), &callers{}
		server := httptest.NewServer(handlerWith(t, ticking(ticks, nil), transport.SSE{Callers: c}))
		t.Cleanup(server.Close)
		go func() {
			ticks <- "1"
			c.end(why)
		}()
		text := stream(t, server, post(`{"query":"subscription { ticks }"}`, ""))
		if want == "" {
			require.False(t, strings.Contains(text, "complete") || strings.Contains(text, "errors"), text)
			continue
		}
		require.Contains(t, text, want)
		require.Contains(t, text, "event: complete")
	}
}
