package transport

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/coder/websocket"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// subprotocol is the GraphQL over WebSocket protocol, which npm graphql-ws speaks.
const subprotocol = "graphql-transport-ws"

// The codes that the protocol closes connections with.
const (
	closeInvalidMessage  websocket.StatusCode = 4400
	closeUnauthorized    websocket.StatusCode = 4401
	closeForbidden       websocket.StatusCode = 4403
	closeSubprotocol     websocket.StatusCode = 4406
	closeInitTimeout     websocket.StatusCode = 4408
	closeSubscriberTwice websocket.StatusCode = 4409
	closeTooManyInits    websocket.StatusCode = 4429
)

const (
	// DefaultInitTimeout is how long a client has to say who it is.
	DefaultInitTimeout = 10 * time.Second
	// DefaultOperations is how many operations run on a socket at a time.
	DefaultOperations = 20

	pingEvery   = 25 * time.Second
	pingTimeout = 15 * time.Second
	// maxSubscriber is how long the name of an operation may be, in bytes.
	maxSubscriber = 128
)

// WebSocket serves operations of all kinds over a socket.
//
// A browser sends its cookie with a socket that a page of any site opens, so only
// pages of the server's own are let in. Who has a token says so in the payload of
// connection_init: {"Authorization": "Bearer ..."}.
type WebSocket struct {
	// Callers end sockets; see there.
	Callers Callers
	// Recover logs what an operation panicked with, and answers what its client is told.
	Recover func(ctx context.Context, value any) *gqlerror.Error
	// Origins are hosts of pages that may connect, beside the one that is connected
	// to: for a proxy that calls the server by another name.
	Origins []string
	// InitTimeout is DefaultInitTimeout where it is zero, Operations DefaultOperations,
	// MaxMessage, in bytes, DefaultMaxBody.
	InitTimeout time.Duration
	Operations  int
	MaxMessage  int64
}

var _ graphql.Transport = WebSocket{}

// Supports implements graphql.Transport.
func (t WebSocket) Supports(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// Do implements graphql.Transport.
func (t WebSocket) Do(w http.ResponseWriter, r *http.Request, exec graphql.GraphExecutor) {
	if t.InitTimeout == 0 {
		t.InitTimeout = DefaultInitTimeout
	}
	if t.Operations == 0 {
		t.Operations = DefaultOperations
	}
	if t.MaxMessage == 0 {
		t.MaxMessage = DefaultMaxBody
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{subprotocol}, OriginPatterns: t.Origins})
	if err != nil {
		return // Accept has answered why
	}
	defer conn.CloseNow() //nolint:errcheck // REASON: where it is closed already, as it should be, this is an error
	if conn.Subprotocol() != subprotocol {
		_ = conn.Close(closeSubprotocol, "Subprotocol not acceptable")
		return
	}
	conn.SetReadLimit(t.MaxMessage)

	ctx, cancel := context.WithCancel(r.Context())
	attended, release := t.Callers.Attend(ctx)
	defer release()
	s := &socket{WebSocket: t, conn: conn, exec: exec, header: r.Header, ctx: ctx, held: ctx, running: map[string]*running{}, release: func() {}}
	defer func() { s.release() }()
	var watching sync.WaitGroup
	defer watching.Wait()
	defer s.work.Wait()
	defer cancel()
	watching.Go(func() { s.watch(attended) })
	watching.Go(s.ping)
	timer := time.AfterFunc(t.InitTimeout, func() { s.late() })
	defer timer.Stop()
	for s.receive() {
	}
}

// socket is one connection.
type socket struct {
	WebSocket

	conn   *websocket.Conn
	exec   graphql.GraphExecutor
	header http.Header
	ctx    context.Context //nolint:containedctx // REASON: the connection's, which operations run under

	mu      sync.Mutex
	begun   bool            // connection_init has come
	known   bool            // and was acknowledged
	held    context.Context //nolint:containedctx // REASON: the caller's, see Callers
	release func()
	running map[string]*running // by the names that the client gave them
	busy    int                 // how many have not ended, completed by the client or not
	// stopping says that nothing more begins, closing that the connection is being closed.
	stopping, closing bool
	work              sync.WaitGroup
}

// running is an operation that the client has not completed.
type running struct {
	id     string
	cancel context.CancelFunc
}

type message struct {
	ID      string          `json:"id,omitempty"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// close ends the connection with a code. What is written after it is lost.
func (s *socket) close(code websocket.StatusCode, reason string) {
	s.mu.Lock()
	closing := s.closing
	s.closing = true
	s.mu.Unlock()
	if !closing {
		_ = s.conn.Close(code, reason) // the client may have gone
	}
}

func (s *socket) late() {
	s.mu.Lock()
	known := s.begun
	s.mu.Unlock()
	if !known {
		s.close(closeInitTimeout, "Connection initialisation timeout")
	}
}

// watch closes the connection when the server stops.
func (s *socket) watch(attended context.Context) {
	<-attended.Done()
	if errors.Is(context.Cause(attended), ErrStopping) {
		s.drain()
	}
}

// drain lets queries and mutations that run end, and closes the connection:
// subscriptions end with the held context.
func (s *socket) drain() {
	s.mu.Lock()
	s.begun, s.stopping = true, true
	s.mu.Unlock()
	s.work.Wait()
	s.close(websocket.StatusGoingAway, "The server is stopping")
}

// ping finds out about clients that are gone without a word.
func (s *socket) ping() {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(s.ctx, pingTimeout)
		err := s.conn.Ping(ctx)
		cancel()
		if err != nil {
			_ = s.conn.CloseNow()
			return
		}
	}
}

// receive takes one message, and reports whether there may be another.
func (s *socket) receive() bool {
	kind, text, err := s.conn.Read(s.ctx)
	if err != nil {
		return false
	}
	var m message
	if kind != websocket.MessageText || json.Unmarshal(text, &m) != nil {
		s.close(closeInvalidMessage, "Invalid message")
		return false
	}
	switch m.Type {
	case "connection_init":
		return s.init(m.Payload)
	case "ping":
		return s.send(message{Type: "pong"}) == nil
	case "pong":
		return true
	case "subscribe":
		return s.subscribe(m)
	case "complete":
		s.mu.Lock()
		op := s.running[m.ID]
		delete(s.running, m.ID)
		s.mu.Unlock()
		if op != nil {
			op.cancel()
		}
		return true
	}
	s.close(closeInvalidMessage, "Invalid message")
	return false
}

// init lets the caller in.
func (s *socket) init(payload json.RawMessage) bool {
	s.mu.Lock()
	begun := s.begun
	s.begun = true
	s.mu.Unlock()
	if begun {
		s.close(closeTooManyInits, "Too many initialisation requests")
		return false
	}
	token, ok := tokenIn(payload)
	if !ok {
		s.close(closeInvalidMessage, "Invalid message")
		return false
	}
	ctx, in, err := s.Callers.SignIn(s.ctx, token)
	switch {
	case err != nil: // which says nothing about the token
		s.close(websocket.StatusTryAgainLater, "Try again later")
		return false
	case !in:
		s.close(closeForbidden, "Forbidden")
		return false
	}
	held, release, err := s.Callers.Hold(ctx)
	if err != nil {
		s.close(websocket.StatusTryAgainLater, "Too many connections")
		return false
	}
	s.mu.Lock()
	s.held, s.release, s.known = held, release, true
	if !s.stopping {
		s.work.Go(func() { s.watchCaller(held) })
	}
	s.mu.Unlock()
	return s.send(message{Type: "connection_ack"}) == nil
}

// watchCaller closes the connection when who called may call no longer. That the
// server stops, watch sees.
func (s *socket) watchCaller(held context.Context) {
	<-held.Done()
	if errors.Is(context.Cause(held), ErrSignedOut) {
		s.close(closeForbidden, "Forbidden")
	}
}

// tokenIn is the bearer token of a payload, empty where there is none. It answers
// false for a payload that is no object, or has something else there.
func tokenIn(payload json.RawMessage) (token string, ok bool) {
	if len(payload) == 0 || string(payload) == "null" {
		return "", true
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(payload, &members) != nil {
		return "", false
	}
	for name, value := range members {
		if !strings.EqualFold(name, "authorization") {
			continue
		}
		var header string
		if json.Unmarshal(value, &header) != nil || token != "" {
			return "", false
		}
		scheme, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
		if !strings.EqualFold(scheme, "Bearer") || strings.TrimSpace(rest) == "" {
			return "", false
		}
		token = strings.TrimSpace(rest)
	}
	return token, true
}

// subscribe begins an operation.
func (s *socket) subscribe(m message) bool {
	if m.ID == "" || len(m.ID) > maxSubscriber || len(m.Payload) == 0 {
		s.close(closeInvalidMessage, "Invalid message")
		return false
	}
	ctx, cancel := context.WithCancel(s.ctx)
	op := &running{m.ID, cancel}
	s.mu.Lock()
	held, known, stopping, twice := s.held, s.known, s.stopping, s.running[m.ID] != nil
	// What the client completed takes a moment to end, and counts until then.
	busy := len(s.running) >= s.Operations || s.busy >= 2*s.Operations
	begins := known && !stopping && !twice && !busy
	if begins {
		s.running[m.ID] = op
		s.busy++
		s.work.Add(1) // under the lock, after which drain may wait
	}
	s.mu.Unlock()
	switch {
	case begins:
		go func() {
			defer s.ended()
			defer cancel()
			s.run(ctx, held, op, m.Payload)
		}()
		return true
	case stopping: // it is about to be closed, once what runs has ended
		cancel()
		return true
	case !known:
		s.close(closeUnauthorized, "Unauthorized")
	case twice:
		s.close(closeSubscriberTwice, "Subscriber for "+shown(m.ID)+" already exists")
	default:
		cancel()
		return s.fail(m.ID, gqlerror.List{refuse(CodeQueryLimit, nil, "At most %d operations run on a connection at a time.", s.Operations)}) == nil
	}
	cancel()
	return false
}

func (s *socket) ended() {
	s.mu.Lock()
	s.busy--
	s.mu.Unlock()
	s.work.Done()
}

// shown is a name as far as the reason of a closing frame has room.
func shown(id string) string {
	const room = 80
	if len(id) > room {
		return "this id"
	}
	return id
}

// run executes an operation. Its context ends with the connection and with the
// client's wish; that of a subscription with the held one, too.
func (s *socket) run(ctx, held context.Context, op *running, payload []byte) {
	defer func() {
		if value := recover(); value != nil {
			_ = s.finish(op, gqlerror.List{s.Recover(ctx, value)})
		}
	}()
	start := graphql.Now()
	params, why := decodeBody(payload)
	if why != nil {
		_ = s.finish(op, faultError(ctx, s.exec, why).Errors)
		return
	}
	params.Headers = s.header
	params.ReadTime = graphql.TraceTiming{Start: start, End: graphql.Now()}
	asking, stop := context.WithCancel(held)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	caller, err := s.Callers.Now(asking)
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, ErrSignedOut):
		s.close(closeForbidden, "Forbidden")
		return
	case err != nil:
		_ = s.finish(op, gqlerror.List{refuse(codeInternal, nil, "The server cannot tell who you are just now; try again.")})
		return
	}
	operation, refused := begin(caller, s.exec, params, ast.Query, ast.Mutation, ast.Subscription)
	if refused != nil {
		_ = s.finish(op, refused.Errors)
		return
	}
	// Both contexts have to do with it: one says whose it is, the other how long it lasts.
	running, cancel := context.WithCancelCause(context.WithoutCancel(caller))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
	if operation.Operation.Operation == ast.Subscription {
		defer context.AfterFunc(held, func() { cancel(context.Cause(held)) })()
	}
	responses, running := s.exec.DispatchOperation(graphql.StartOperationTrace(running), operation)
	for first := true; ; first = false {
		response := responses(running)
		switch {
		case response == nil && running.Err() == nil:
			_ = s.finish(op, nil)
			return
		case response == nil:
			s.gone(op)
			return
		case response.Data == nil && first:
			_ = s.finish(op, response.Errors)
			return
		case !s.runs(op) || s.send(message{ID: op.id, Type: "next", Payload: encode(response)}) != nil:
			return
		}
	}
}

// runs reports whether the client has not completed an operation.
func (s *socket) runs(op *running) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running[op.id] == op
}

// gone ends an operation without a word, and reports whether it ran.
func (s *socket) gone(op *running) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	runs := s.running[op.id] == op
	if runs {
		delete(s.running, op.id)
	}
	return runs
}

// finish ends an operation, with errors or without.
func (s *socket) finish(op *running, errs gqlerror.List) error {
	switch {
	case !s.gone(op):
		return nil
	case len(errs) > 0:
		return s.fail(op.id, errs)
	}
	return s.send(message{ID: op.id, Type: "complete"})
}

func (s *socket) fail(id string, errs gqlerror.List) error {
	payload, err := json.Marshal(errs)
	if err != nil {
		return err
	}
	return s.send(message{ID: id, Type: "error", Payload: payload})
}

func (s *socket) send(m message) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, writeTimeout)
	defer cancel()
	err = s.conn.Write(ctx, websocket.MessageText, text)
	if err != nil {
		_ = s.conn.CloseNow() // or the client would wait for what it has missed
	}
	return err
}
