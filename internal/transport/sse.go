package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

const (
	// beat is how often a silent connection says that it is there.
	beat = 12 * time.Second
	// writeTimeout is how long a client may take to receive one message.
	writeTimeout = 15 * time.Second
)

// SSE serves operations as server-sent events, in the mode of distinct connections
// of the GraphQL over SSE protocol: one operation a request, whose responses come as
// events named next, and then one named complete. So do errors about the request, as
// the protocol asks: a browser's EventSource cannot read other answers.
//
// A stream that ends without complete was cut off; clients try again.
type SSE struct {
	// Callers end streams; see there.
	Callers Callers
}

var _ graphql.Transport = SSE{}

// Supports implements graphql.Transport.
func (t SSE) Supports(r *http.Request) bool {
	return !upgrades(r) && WantsEventStream(r) && (r.Method == http.MethodGet || r.Method == http.MethodPost && sendsJSON(r))
}

// Do implements graphql.Transport.
func (t SSE) Do(w http.ResponseWriter, r *http.Request, exec graphql.GraphExecutor) {
	start := graphql.Now()
	served := []ast.Operation{ast.Query, ast.Mutation, ast.Subscription}
	var params *graphql.RawParams
	var why *fault
	if r.Method == http.MethodGet {
		served = []ast.Operation{ast.Query, ast.Subscription}
		params, why = decodeURL(r.URL.RawQuery)
	} else {
		params, why = readBody(r.Body)
	}
	ctx := r.Context()
	s := &events{w: w, control: http.NewResponseController(w)}
	header := w.Header()
	header.Set("X-Accel-Buffering", "no") // which nginx would keep the events by
	writeHeader(w, mediaEventStream, http.StatusOK)
	if s.write(":\n\n") != nil { // so that the client knows that it is connected
		return
	}
	if why != nil {
		_ = s.end(faultError(ctx, exec, why)) // the client may have gone
		return
	}
	params.Headers = r.Header
	params.ReadTime = graphql.TraceTiming{Start: start, End: graphql.Now()}
	operation, refused := begin(ctx, exec, params, served...)
	if refused != nil {
		_ = s.end(refused)
		return
	}

	// Queries and mutations end by themselves, and the server waits for them.
	held := ctx
	if operation.Operation.Operation == ast.Subscription {
		var release func()
		var err error
		if held, release, err = t.Callers.Hold(ctx); err != nil {
			_ = s.end(exec.DispatchError(graphql.WithOperationContext(ctx, operation), gqlerror.List{errTooMany()}))
			return
		}
		defer release()
	}
	connected, cancel := context.WithCancel(held)
	var beating sync.WaitGroup
	beating.Go(func() { s.beat(connected, cancel) })
	defer beating.Wait()
	defer cancel()
	responses, ctx := exec.DispatchOperation(connected, operation)
	for {
		response := responses(ctx)
		if response == nil {
			break
		}
		if s.next(response) != nil {
			return
		}
	}
	switch cause := context.Cause(ctx); {
	case cause == nil:
		_ = s.end(nil)
	case errors.Is(cause, ErrSignedOut):
		_ = s.end(exec.DispatchError(ctx, gqlerror.List{errSignedOut()}))
	}
}

// events writes the events of one stream.
type events struct {
	mu      sync.Mutex
	w       io.Writer
	control *http.ResponseController
}

func (s *events) write(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := io.WriteString(s.w, text); err != nil {
		return err
	}
	return s.control.Flush()
}

func (s *events) next(response *graphql.Response) error {
	return s.write("event: next\ndata: " + string(encode(response)) + "\n\n")
}

// end completes the stream, after a last response where there is one.
func (s *events) end(response *graphql.Response) error {
	if response != nil {
		if err := s.next(response); err != nil {
			return err
		}
	}
	return s.write("event: complete\ndata:\n\n") // an EventSource ignores events without data
}

func (s *events) beat(ctx context.Context, gone func()) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.write(":\n\n") != nil {
			gone()
			return
		}
	}
}
