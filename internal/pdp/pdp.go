// Package pdp serves the chain of plugins as a policy decision point: the OpenID
// AuthZEN Authorization API 1.0, for other applications that want to know who
// may do what.
//
// A caller signs in as for GraphQL and needs the action authz.evaluate on
// "Authz". He is then trusted with what he says about subjects and resources;
// the tenant is his own always.
package pdp

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/authzen"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// Object is what a caller needs authz.Evaluate on.
const Object = "Authz"

// Limits on what one request, and one tenant, may ask for.
const (
	maxBody        = 1 << 20 // bytes
	maxEvaluations = 500     // in one request
	maxText        = 512     // bytes of a type, an id or a name
	defaultPage    = 100     // results of a search
	maxPage        = 500
	chunk          = 200 // candidates that are decided on at a time
	maxScan        = 1_000
	// maxAtOnce is how many requests of one tenant are worked on at the same
	// time by one process.
	maxAtOnce = 16
)

// Records reads records as the reader in the context may see them.
type Records interface {
	Client(ctx context.Context) *ent.Client
}

// Config is what the decision point is made of.
type Config struct {
	DB      *store.DB
	Control *access.Control
	Records Records
	Audit   *audit.Log
	Log     *slog.Logger
	// PublicURL is where clients reach the server; the metadata say so.
	PublicURL string
	// AtOnce is how many requests of one tenant are worked on at the same time;
	// zero is 16.
	AtOnce int
}

// handler serves the API.
type handler struct {
	Config

	busy busy
}

// NewHandler serves the API. The actor is expected in the context of each request
// (actor.With), except for the metadata, which are for everybody.
func NewHandler(c Config) http.Handler {
	c.PublicURL = strings.TrimSuffix(c.PublicURL, "/")
	if c.AtOnce == 0 {
		c.AtOnce = maxAtOnce
	}
	h := &handler{Config: c, busy: busy{limit: c.AtOnce, running: map[gid.ID]int{}}}
	mux := http.NewServeMux()
	mux.Handle("POST /access/v1/evaluation", h.answering(h.evaluation))
	mux.Handle("POST /access/v1/evaluations", h.answering(h.evaluations))
	mux.Handle("POST /access/v1/search/subject", h.answering(h.searchSubjects))
	mux.Handle("POST /access/v1/search/resource", h.answering(h.searchResources))
	mux.Handle("POST /access/v1/search/action", h.answering(h.searchActions))
	mux.HandleFunc("GET /.well-known/authzen-configuration", h.metadata)
	return mux
}

// problem is an answer that is no decision.
type problem struct {
	status  int
	code    lifecycle.Code
	message string
}

func (p *problem) Error() string { return p.message }

func malformed(message string) error {
	return &problem{http.StatusBadRequest, lifecycle.BadUserInput, message}
}

var errUnavailable = &problem{http.StatusServiceUnavailable, lifecycle.AuthzUnavailable, "access could not be decided; try again"}

// answering lets in who may ask, and gives what he asks one version of the policy.
func (h *handler) answering(answer func(context.Context, gid.ID, map[string]any) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := h.admit(w, r, answer)
		var p *problem
		switch {
		case err == nil:
			h.write(w, r, http.StatusOK, v)
		case errors.As(err, &p):
			h.refuse(w, r, p)
		case r.Context().Err() != nil: // nobody listens any more
		default:
			h.Log.ErrorContext(r.Context(), "a question about access failed", "path", r.URL.Path, "error", err)
			h.refuse(w, r, errUnavailable)
		}
	})
}

func (h *handler) admit(w http.ResponseWriter, r *http.Request, answer func(context.Context, gid.ID, map[string]any) (any, error)) (any, error) {
	ctx, who := r.Context(), actor.From(r.Context())
	if who == nil {
		w.Header().Set("WWW-Authenticate", "Bearer")
		return nil, &problem{http.StatusUnauthorized, "UNAUTHENTICATED", "sign in first, by a bearer token"}
	}
	ctx, err := h.Control.Pin(ctx, who.Tenant)
	if err != nil {
		return nil, err
	}
	if err := h.mayAsk(ctx, who); err != nil {
		return nil, err
	}
	body, err := read(w, r)
	if err != nil {
		return nil, err
	}
	// Whoever may not ask, or sends slowly, takes no turn of those who may.
	if !h.busy.enter(who.Tenant) {
		w.Header().Set("Retry-After", "1")
		return nil, &problem{http.StatusTooManyRequests, lifecycle.Limit, "too many requests at the same time; try again"}
	}
	defer h.busy.leave(who.Tenant)
	// The caller may ask about everything in his tenant, whatever he may read there.
	return answer(visible.With(ctx, visible.Tenant(who.Tenant)), who.Tenant, body)
}

// mayAsk refuses who may not ask, and writes that down.
func (h *handler) mayAsk(ctx context.Context, who *actor.Actor) error {
	d := h.Control.Decide(ctx, who, []access.Question{{Action: authz.Evaluate, Type: Object}})[0]
	switch {
	case d.Permit:
		return nil
	case d.Unavailable:
		return errUnavailable
	}
	if err := h.Audit.Write(context.WithoutCancel(ctx), h.DB, audit.Event{
		Action: "AUTHZ_EVALUATE", Outcome: audit.Refused, Code: lifecycle.Forbidden,
		PolicyVersion: h.Control.Version(ctx, who.Tenant), Detail: map[string]any{"object": Object},
	}); err != nil {
		h.Log.ErrorContext(ctx, "a refusal could not be written to the audit log", "error", err)
	}
	return &problem{http.StatusForbidden, lifecycle.Forbidden, "the policy does not allow this; it takes authz.evaluate on " + Object}
}

// read reads the object that a request is.
func read(w http.ResponseWriter, r *http.Request) (map[string]any, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, malformed("the content type is application/json")
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, &problem{http.StatusRequestEntityTooLarge, lifecycle.Limit, "the body is longer than 1 MiB"}
	case err != nil:
		return nil, malformed("the body could not be read")
	}
	v, err := authzen.Parse(text)
	if err != nil {
		return nil, malformed("the body is " + err.Error())
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, malformed("the body is no object")
	}
	return object, nil
}

func (h *handler) refuse(w http.ResponseWriter, r *http.Request, p *problem) {
	h.write(w, r, p.status, map[string]string{"code": string(p.code), "error": p.message})
}

func (h *handler) write(w http.ResponseWriter, r *http.Request, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		h.Log.ErrorContext(r.Context(), "encoding an answer failed", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may have gone
}

// metadata says where everything is.
func (h *handler) metadata(w http.ResponseWriter, r *http.Request) {
	at := h.PublicURL + "/access/v1/"
	h.write(w, r, http.StatusOK, map[string]string{
		"policy_decision_point":       h.PublicURL,
		"access_evaluation_endpoint":  at + "evaluation",
		"access_evaluations_endpoint": at + "evaluations",
		"search_subject_endpoint":     at + "search/subject",
		"search_resource_endpoint":    at + "search/resource",
		"search_action_endpoint":      at + "search/action",
	})
}
