package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// statusPartialSuccess is the 2026 draft's status of an answer with data and
// errors.
const statusPartialSuccess = 294

// exchange is one HTTP request and its answer in the media type agreed on.
type exchange struct {
	http.ResponseWriter
	exec      graphql.GraphExecutor
	mediaType string
	draft     bool
}

// run executes the operation if its kind is one of those served.
func (x exchange) run(ctx context.Context, params *graphql.RawParams, served ...ast.Operation) {
	operation, errs := x.exec.CreateOperationContext(ctx, params)
	if errs != nil {
		x.requestErrors(x.exec.DispatchError(graphql.WithOperationContext(ctx, operation), errs))
		return
	}
	if refusal, status := unserved(operation.Operation.Operation, served); refusal != nil {
		if status == http.StatusMethodNotAllowed {
			x.Header().Set("Allow", http.MethodPost)
		}
		ctx = graphql.WithOperationContext(ctx, operation)
		x.write(status, x.exec.DispatchError(ctx, gqlerror.List{refusal}))
		return
	}

	responses, ctx := x.exec.DispatchOperation(ctx, operation)
	switch response := responses(ctx); {
	case response != nil && response.Data != nil:
		status := http.StatusOK
		if x.draft && x.mediaType == mediaResponse && len(response.Errors) > 0 {
			status = statusPartialSuccess
		}
		x.write(status, response)
	case response != nil:
		// An extension refused the operation instead of executing it.
		x.requestErrors(response)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		late := refuse(CodeQueryLimit, nil, "The operation took too long.")
		x.requestErrors(x.exec.DispatchError(ctx, gqlerror.List{late}))
	}
	// A nil response without a deadline: the client has gone.
}

// unserved refuses an operation of a kind that this exchange cannot answer.
func unserved(kind ast.Operation, served []ast.Operation) (*gqlerror.Error, int) {
	if slices.Contains(served, kind) {
		return nil, 0
	}
	if kind == ast.Subscription {
		return refuse(codeBadUserInput, nil, "Subscriptions need a WebSocket or Accept: text/event-stream."),
			http.StatusBadRequest
	}
	return refuse(codeBadUserInput, nil, "A %s needs POST.", kind), http.StatusMethodNotAllowed
}

// malformed answers a request from which no operation could be taken.
func (x exchange) malformed(ctx context.Context, why *fault) {
	status := why.status
	if x.draft {
		status = why.draft
	}
	refusal := refuse(why.code, nil, "%s", why.message)
	x.write(status, x.exec.DispatchError(ctx, gqlerror.List{refusal}))
}

// requestErrors answers a well-formed request that was not executed. Plain
// JSON gets 200 whatever happened, because clients of that type cannot tell an
// intermediary's error page from an answer.
func (x exchange) requestErrors(response *graphql.Response) {
	response.Data = nil
	if x.mediaType == mediaJSON {
		x.write(http.StatusOK, response)
		return
	}
	status := http.StatusBadRequest
	if x.draft {
		status = http.StatusUnprocessableEntity
	}
	for _, err := range response.Errors {
		code, _ := err.Extensions["code"].(string)
		if known, ok := requestErrorStatus[code]; ok {
			status = known
			break
		}
	}
	x.write(status, response)
}

// write sends a response.
func (x exchange) write(status int, response *graphql.Response) {
	text := encode(response)
	writeHeader(x.ResponseWriter, x.mediaType, status)
	_, _ = x.Write(text) // the client may have gone
}

// encode writes a response as JSON, on one line. Data is copied as it is: gqlgen
// has just encoded it, and marshalling it as a json.RawMessage would scan all of it
// again. Without data there is no data key, which is how clients know a request
// error.
func encode(response *graphql.Response) []byte {
	var body bytes.Buffer
	member := func(name string, value any) {
		encoded, err := json.Marshal(value)
		if err != nil {
			// gqlgen's server recovers and presents it as an internal error.
			panic(fmt.Errorf("encoding the %s of a response: %w", name, err))
		}
		fmt.Fprintf(&body, `,"%s":%s`, name, encoded)
	}
	if len(response.Errors) > 0 {
		member("errors", response.Errors)
	}
	if response.Data != nil {
		body.WriteString(`,"data":`)
		body.Write(response.Data)
	}
	if len(response.Extensions) > 0 {
		member("extensions", response.Extensions)
	}
	if body.Len() == 0 {
		body.WriteByte(',')
	}
	body.WriteByte('}')
	text := body.Bytes()
	text[0] = '{'
	return text
}

func writeHeader(w http.ResponseWriter, mediaType string, status int) {
	header := w.Header()
	header.Set("Content-Type", mediaType+"; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	header.Add("Vary", "Accept")
	w.WriteHeader(status)
}

// reject answers before, or without, a GraphQL executor. Such answers are
// plain JSON: no GraphQL response could be agreed on or made.
func reject(w http.ResponseWriter, status int, code, message string) {
	refusal := refuse(code, nil, "%s", message)
	if id := w.Header().Get("X-Request-ID"); id != "" { // by which the server has named the request; other errors get it from the presenter
		refusal.Extensions["requestID"] = id
	}
	body, err := json.Marshal(struct {
		Errors gqlerror.List `json:"errors"`
	}{gqlerror.List{refusal}})
	if err != nil {
		panic(fmt.Errorf("encoding a refusal: %w", err))
	}
	writeHeader(w, mediaJSON, status)
	_, _ = w.Write(body) // the client may have gone
}
