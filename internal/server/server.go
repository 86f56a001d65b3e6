// Package server serves the API over HTTP: who is asking, signing in and out,
// health, and what every answer carries.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/server/graphiql"
)

// Limits on what a client may take of the server's time.
const (
	headerTimeout  = 10 * time.Second
	bodyTimeout    = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
	// grace is how long requests may take to finish when the server stops. The
	// promise is 10 s, and closing what is left takes some.
	grace = 8 * time.Second
)

// Identity is what of identity.Service is needed to let people in and out.
type Identity interface {
	identity.Authenticator
	RedeemLink(ctx context.Context, secret, requestID string) (identity.Credential, error)
	RevokeSession(ctx context.Context, tenant, session gid.ID) error
}

// Issued takes bearer tokens that others sign, as oidc.Verifier does.
type Issued interface {
	identity.Authenticator
	// Takes reports whether a token has the shape of such a one.
	Takes(token string) bool
}

// Database is what of store.DB says whether requests can be served.
type Database interface {
	Ping(ctx context.Context) error
	Ready(ctx context.Context) error
}

// Config is what a Server is made of.
type Config struct {
	// GraphQL finds the actor in the context (actor.From), none when the caller
	// is not signed in, and the name of the request by RequestID.
	GraphQL http.Handler
	// AuthZEN is a policy decision point for other applications, below
	// /access/v1/; it finds the actor where GraphQL does. Nil is none.
	AuthZEN http.Handler
	// Attachments takes and answers files, at /attachments and below; it finds the
	// actor where GraphQL does. Nil is none.
	Attachments http.Handler
	// Import takes files to import, at /import; it finds the actor where GraphQL does.
	// Nil is none.
	Import http.Handler
	// Exports gives the files of exports, below /exports/, to who is signed in or has
	// a link; it finds the actor where GraphQL does. Nil is none.
	Exports http.Handler
	// Callers are those who are connected for longer than a request; nil where nobody
	// is.
	Callers *Callers
	// Schema gives the schema, at /schema.graphql; it finds the actor where GraphQL
	// does. Nil is none.
	Schema   http.Handler
	Identity Identity
	// Issued is asked about bearer tokens it takes; nil takes none.
	Issued Issued
	DB     Database
	Log    *slog.Logger
	// PublicURL is where people reach the server. When it begins with https,
	// cookies are for TLS only, whatever a proxy speaks to the server.
	PublicURL string
	// Metrics are served beside the API, to whoever asks; nil where they have a
	// listener of their own.
	Metrics http.Handler
	// Requested is told of each request by which route it was served, with which method,
	// out of a few, and how it was answered after which time; nil is nobody.
	Requested func(route, method string, status int, took time.Duration)
	// Tracer makes a span of each request, of the trace that the client says; nil makes none.
	Tracer trace.Tracer
	// Rate is how often each subject may ask: a token, a user, or an address where
	// nobody is signed in.
	Rate Rate
	// TrustedProxies are whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Server is an http.Handler that can be run.
type Server struct {
	Config
	handler  http.Handler
	routes   map[string]string // by pattern
	grace    time.Duration
	migrated atomic.Bool
	draining atomic.Bool
	// requests are counted by subject, failures to sign in by address. The former
	// may be nil.
	requests, failures *meter
}

// New returns a server.
func New(c Config) *Server {
	s := &Server{
		Config: c, routes: map[string]string{}, grace: grace, requests: newMeter(c.Rate),
		failures: newMeter(Rate{PerSecond: 1 / failureEvery.Seconds(), Burst: failuresAtOnce}),
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	sameOrigin := http.NewCrossOriginProtection() // a form elsewhere signs nobody in or out

	mux := http.NewServeMux()
	s.handle(mux, "/graphql", s.authenticated(c.GraphQL))
	if c.AuthZEN != nil {
		s.handle(mux, "/access/v1/", s.authenticated(c.AuthZEN))
		s.handle(mux, "/.well-known/authzen-configuration", c.AuthZEN)
	}
	// A form elsewhere sends files with the cookie of whoever looks at it.
	own := http.NewCrossOriginProtection()
	own.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuseAs(w, r, http.StatusForbidden, lifecycle.Forbidden, "This is not for pages of other sites.")
	}))
	if c.Import != nil {
		s.handle(mux, "/import", own.Handler(s.authenticated(c.Import)))
	}
	if c.Attachments != nil {
		files := own.Handler(s.authenticated(c.Attachments))
		s.handle(mux, "/attachments", files)
		s.handle(mux, "/attachments/", files)
	}
	if c.Exports != nil {
		s.handle(mux, "GET /exports/{id}", s.authenticated(c.Exports))
	}
	if c.Schema != nil {
		s.handle(mux, "GET /schema.graphql", s.authenticated(c.Schema))
	}
	s.handle(mux, "GET /signin", http.HandlerFunc(s.showSignIn))
	s.handle(mux, "POST /signin", sameOrigin.Handler(http.HandlerFunc(s.signIn)))
	s.handle(mux, "POST /signout", sameOrigin.Handler(s.authenticated(http.HandlerFunc(s.signOut))))
	s.handle(mux, "/graphiql/", http.StripPrefix("/graphiql", graphiql.Handler("/graphql")))
	s.handle(mux, "GET /{$}", http.RedirectHandler("/graphiql/", http.StatusFound))
	s.handle(mux, "GET /healthz", http.HandlerFunc(s.healthy))
	s.handle(mux, "GET /readyz", http.HandlerFunc(s.ready))
	if c.Metrics != nil {
		s.handle(mux, "GET /metrics", c.Metrics)
	}

	s.handler = s.named(s.observed(headers(s.recovered(impatient(mux)))))
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Run serves until the context ends. Then it takes no more requests, lets those
// that run finish, and returns within 10 s.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	// The end of ctx is where draining begins, not where requests are cut off.
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return base },
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.grace)
	defer cancel()
	if s.Callers != nil {
		s.Callers.stop() // streams have no end of their own
	}
	err := srv.Shutdown(stop)
	if err == nil && s.Callers != nil {
		err = s.Callers.wait(stop) // for sockets, of which Shutdown knows nothing
	}
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			s.Log.WarnContext(stop, "requests were cut off because they did not end in time", "grace", s.grace)
			err = nil
		}
		cut()
		return errors.Join(err, srv.Close())
	}
	return nil
}

func (s *Server) healthy(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") }

// ready says whether to send requests here. That migrations are there is asked
// until they are.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		answer(w, http.StatusServiceUnavailable, "stopping")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	err := s.DB.Ping(ctx)
	if err == nil && !s.migrated.Load() {
		if err = s.DB.Ready(ctx); err == nil {
			s.migrated.Store(true)
		}
	}
	if err != nil {
		s.Log.WarnContext(ctx, "not ready", "error", err)
		answer(w, http.StatusServiceUnavailable, "not ready")
		return
	}
	answer(w, http.StatusOK, "ready")
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text) // the client may have gone
}

// authenticated adds to the context who is asking, if he may.
func (s *Server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, err := s.actor(r)
		if err != nil {
			s.Log.ErrorContext(r.Context(), "authenticating failed", "error", err)
			refuse(w, r, http.StatusServiceUnavailable, "The server cannot tell who you are just now; try again.")
			return
		}
		if s.limited(w, r, a) {
			return
		}
		if a != nil {
			a.RequestID = RequestID(r.Context())
			r = r.WithContext(actor.With(r.Context(), a))
		}
		next.ServeHTTP(w, r)
	})
}

// actor is who the request's credential belongs to, nil without a good one. Who
// shows a bearer token means to use it: a cookie beside it is not looked at.
func (s *Server) actor(r *http.Request) (*actor.Actor, error) {
	secret, given := bearer(r)
	if !given {
		for _, cookie := range r.CookiesNamed(cookieName) {
			secret = cookie.Value
		}
	}
	if secret == "" {
		return nil, nil
	}
	// A cookie is of our own making: who could plant one would sign others in as himself.
	issued := s.Issued
	if !given {
		issued = nil
	}
	return authenticate(r.Context(), s.Identity, issued, secret, s.Log)
}

// authenticate answers who a secret belongs to, nil for nobody.
func authenticate(ctx context.Context, own identity.Authenticator, issued Issued, secret string, log *slog.Logger) (*actor.Actor, error) {
	var a *actor.Actor
	var err error
	if issued != nil && issued.Takes(secret) {
		if a, err = issued.Authenticate(ctx, secret); errors.Is(err, identity.ErrUnauthenticated) {
			// Why it is refused is for the log only: the answer is that of any credential that is no good.
			log.InfoContext(ctx, "an issuer's token was refused", "reason", err)
		}
	} else {
		a, err = own.Authenticate(ctx, secret)
	}
	if errors.Is(err, identity.ErrUnauthenticated) {
		return nil, nil
	}
	return a, err
}

// bearer is the token of the Authorization header. Another scheme is meant for a
// proxy and none of ours; several headers are nobody's token.
func bearer(r *http.Request) (secret string, given bool) {
	for _, header := range r.Header.Values("Authorization") {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			continue
		}
		if given {
			return "", true
		}
		secret, given = strings.TrimSpace(rest), true
	}
	return secret, given
}
