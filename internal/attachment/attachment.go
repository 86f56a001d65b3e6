// Package attachment takes the files of attachments over HTTP, and hands them out.
//
// Files are not sent through GraphQL: a multipart request there is one that a form
// of any other site can send. Here a file goes through memory a piece at a time,
// in both directions; whose it is and who may read it internal/record says.
package attachment

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/visible"
)

// DefaultMaxUpload is the size of the largest file that is taken, in bytes, where
// the operator does not say otherwise.
const DefaultMaxUpload = 25 << 20

// Config is what the endpoint is made of.
type Config struct {
	Control *access.Control
	Records *record.Service
	Log     *slog.Logger
	Now     func() time.Time
	// MaxUpload is the size of the largest file that is taken, in bytes; zero is
	// DefaultMaxUpload.
	MaxUpload int64
	// RequestID names the request of a context to callers who are not signed in.
	RequestID func(context.Context) string
}

type handler struct{ Config }

// NewHandler serves POST /attachments and GET /attachments/{id}. The actor is
// expected in the context of each request (actor.With).
func NewHandler(c Config) http.Handler {
	if c.MaxUpload == 0 {
		c.MaxUpload = DefaultMaxUpload
	}
	h := &handler{c}
	mux := http.NewServeMux()
	mux.Handle("POST /attachments", h.answering(h.upload))
	mux.Handle("GET /attachments/{id}", h.answering(h.download))
	return mux
}

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

// answering lets in who is signed in, gives him the rows he may see under one
// version of the policy, and presents what fails.
func (h *handler) answering(answer func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h.admit(w, r, answer)
		refused, isRefused := errors.AsType[*record.Error](err)
		switch {
		case err == nil:
		case isRefused:
			h.refuse(w, r, refused)
		case r.Context().Err() != nil: // nobody listens any more
		default:
			h.Log.ErrorContext(r.Context(), "a request failed", "path", r.URL.Path, "error", err, "requestID", h.requestID(r.Context()))
			h.refuse(w, r, record.Refuse(lifecycle.Internal, "Something went wrong on our side."))
		}
	})
}

func (h *handler) admit(w http.ResponseWriter, r *http.Request, answer func(http.ResponseWriter, *http.Request) error) error {
	who := actor.From(r.Context())
	if who == nil {
		w.Header().Set("WWW-Authenticate", "Bearer")
		return record.Refuse(codeUnauthenticated, "Sign in first.")
	}
	pinned, err := h.Control.Pin(r.Context(), who.Tenant)
	if err != nil {
		h.Log.ErrorContext(r.Context(), "the policy could not be read", "error", err)
		return record.Refuse(lifecycle.AuthzUnavailable, "Access could not be decided; try again.")
	}
	return answer(w, r.WithContext(visible.With(pinned, h.Control.Rows(pinned, who))))
}

func (h *handler) requestID(ctx context.Context) string {
	if a := actor.From(ctx); a != nil {
		return a.RequestID
	}
	if h.RequestID != nil {
		return h.RequestID(ctx)
	}
	return ""
}

// refuse answers an error as GraphQL does.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, e *record.Error) {
	extensions := maps.Clone(e.Extensions)
	if extensions == nil {
		extensions = map[string]any{}
	}
	extensions["code"] = e.Code
	if len(e.Fields) > 0 {
		extensions["fields"] = e.Fields
	}
	if id := h.requestID(r.Context()); id != "" {
		extensions["requestID"] = id
	}
	status, known := statuses[e.Code]
	switch {
	case errors.Is(e, errMediaType):
		status = http.StatusUnsupportedMediaType
	case !known:
		status = http.StatusConflict
	}
	h.write(w, r, status, map[string]any{"errors": []any{map[string]any{"message": e.Message, "extensions": extensions}}})
}

func (h *handler) write(w http.ResponseWriter, r *http.Request, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		h.Log.ErrorContext(r.Context(), "an answer could not be encoded", "error", err)
		status, body = http.StatusInternalServerError, []byte("{}")
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may have gone
}

// hidesName reports whether the file's name is hidden from the reader.
func hidesName(ctx context.Context, a *ent.Attachment) bool {
	mask := visible.MaskOf(ctx, ent.TypeAttachment)
	return mask != nil && mask.Hidden(a.Column)["filename"]
}
