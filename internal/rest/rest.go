// Package rest is how the endpoints beside GraphQL let people in and answer them:
// with the codes and the form of errors of GraphQL, and statuses that say the same.
package rest

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"

	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/telemetry"
	"github.com/lethe-crm/lethe/internal/visible"
)

// Endpoint answers requests. The actor is expected in the context of each
// (actor.With).
type Endpoint struct {
	Control *access.Control
	Log     *slog.Logger
	// RequestID names the request of a context to callers who are not signed in.
	RequestID func(context.Context) string
}

// An Answer answers a request, or says in what way it failed before anything was
// written: by a *record.Error, or by what is nobody's business but ours.
type Answer func(http.ResponseWriter, *http.Request) error

// ErrMediaType says that a body is no form with files.
var ErrMediaType = record.Refuse(lifecycle.BadUserInput, "a file is sent as multipart/form-data")

// codeUnauthenticated is that of GraphQL.
const codeUnauthenticated lifecycle.Code = "UNAUTHENTICATED"

// statuses are those of the codes; what is not here is in conflict with how things
// are.
var statuses = map[lifecycle.Code]int{
	codeUnauthenticated:        http.StatusUnauthorized,
	lifecycle.BadUserInput:     http.StatusBadRequest,
	lifecycle.Forbidden:        http.StatusForbidden,
	lifecycle.FieldForbidden:   http.StatusForbidden,
	lifecycle.NotFound:         http.StatusNotFound,
	lifecycle.Gone:             http.StatusGone,
	lifecycle.Limit:            http.StatusRequestEntityTooLarge,
	lifecycle.AuthzUnavailable: http.StatusServiceUnavailable,
	lifecycle.Internal:         http.StatusInternalServerError,
}

// SignedIn lets in who is signed in, and presents what fails.
func (e Endpoint) SignedIn(answer Answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if actor.From(r.Context()) == nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			e.present(w, r, record.Refuse(codeUnauthenticated, "Sign in first."))
			return
		}
		e.present(w, r, answer(w, r))
	})
}

// Seeing is SignedIn for what is answered under one version of the policy, with the
// rows that the actor may see.
func (e Endpoint) Seeing(answer Answer) http.Handler {
	return e.SignedIn(func(w http.ResponseWriter, r *http.Request) error {
		who := actor.From(r.Context())
		pinned, err := e.Control.Pin(r.Context(), who.Tenant)
		if err != nil {
			e.Log.ErrorContext(r.Context(), "the policy could not be read", "error", err)
			return record.Refuse(lifecycle.AuthzUnavailable, "Access could not be decided; try again.")
		}
		return answer(w, r.WithContext(visible.With(pinned, e.Control.Rows(pinned, who))))
	})
}

func (e Endpoint) present(w http.ResponseWriter, r *http.Request, err error) {
	if err == nil || r.Context().Err() != nil && !isRefusal(err) { // nobody listens any more
		return
	}
	status, problems := e.Problems(r, err)
	e.Write(w, r, status, map[string]any{"errors": problems})
}

func isRefusal(err error) bool {
	_, is := errors.AsType[*record.Error](err)
	return is
}

// A Problem is an error as GraphQL has it.
type Problem struct {
	Message    string         `json:"message"`
	Extensions map[string]any `json:"extensions"`
}

// Problems is what a client is told of an error. What is no refusal goes to the log.
func (e Endpoint) Problems(r *http.Request, err error) (status int, problems []Problem) {
	refused, ok := errors.AsType[*record.Error](err)
	if !ok {
		e.Log.ErrorContext(r.Context(), "a request failed", "path", r.URL.Path, "error", err)
		refused = record.Refuse(lifecycle.Internal, "Something went wrong on our side.")
	}
	extensions := maps.Clone(refused.Extensions)
	if extensions == nil {
		extensions = map[string]any{}
	}
	extensions["code"] = refused.Code
	if len(refused.Fields) > 0 {
		extensions["fields"] = refused.Fields
	}
	if id := e.requestID(r.Context()); id != "" {
		extensions["requestID"] = id
	}
	if id := telemetry.TraceID(r.Context()); id != "" {
		extensions["traceID"] = id
	}
	status, known := statuses[refused.Code]
	switch {
	case errors.Is(refused, ErrMediaType):
		status = http.StatusUnsupportedMediaType
	case !known:
		status = http.StatusConflict
	}
	return status, []Problem{{refused.Message, extensions}}
}

func (e Endpoint) requestID(ctx context.Context) string {
	if a := actor.From(ctx); a != nil {
		return a.RequestID
	}
	if e.RequestID != nil {
		return e.RequestID(ctx)
	}
	return ""
}

// Write answers JSON.
func (e Endpoint) Write(w http.ResponseWriter, r *http.Request, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		e.Log.ErrorContext(r.Context(), "an answer could not be encoded", "error", err)
		status, body = http.StatusInternalServerError, []byte("{}")
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may have gone
}
