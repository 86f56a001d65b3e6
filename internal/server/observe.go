package server

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// unrouted is the route of requests for what there is not.
const unrouted = "other"

// methods are told apart; a client can send any.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}

// otherMethod stands for those that are not.
const otherMethod = "OTHER"

// quiet are the routes that are not traced: they are asked every few seconds, by
// machines.
var quiet = []string{"/healthz", "/readyz", "/metrics"}

// handle serves a pattern, and makes its path a route.
func (s *Server) handle(mux *http.ServeMux, pattern string, h http.Handler) {
	mux.Handle(pattern, h)
	path := pattern
	if _, after, found := strings.Cut(pattern, " "); found {
		path = after
	}
	s.routes[pattern] = strings.TrimSuffix(path, "{$}")
}

// route is the path of the pattern by which a request was served, and never its own
// path, which may be anything.
func (s *Server) route(r *http.Request) string {
	if route, known := s.routes[r.Pattern]; known {
		return route
	}
	return unrouted
}

func method(r *http.Request) string {
	if slices.Contains(methods, r.Method) {
		return r.Method
	}
	return otherMethod
}

// observed counts, traces and logs each request, as far as anybody wants to know.
// Queries are left out: a sign-in link has its secret there. So is who asks from where,
// which is personal; this is why the middleware of OpenTelemetry is not used.
func (s *Server) observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		logs := s.Log.Enabled(r.Context(), slog.LevelDebug)
		traces := s.Tracer != nil && !slices.Contains(quiet, r.URL.Path)
		if !logs && !traces && s.Requested == nil {
			next.ServeHTTP(w, r)
			return
		}
		start, seen := time.Now(), &statusWriter{ResponseWriter: w}
		var span trace.Span
		if traces {
			ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
			ctx, span = s.Tracer.Start(ctx, method(r), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
				attribute.String("http.request.method", method(r)), attribute.String("lethe.request_id", RequestID(ctx))))
			r = r.WithContext(ctx)
		}
		defer func() {
			took, status := time.Since(start), seen.answered()
			if span != nil {
				end(span, method(r)+" "+s.route(r), s.route(r), status)
			}
			if s.Requested != nil {
				s.Requested(s.route(r), method(r), status, took)
			}
			if logs {
				s.Log.DebugContext(r.Context(), "request", "method", r.Method, "path", r.URL.Path, "status", status, "duration", took)
			}
		}()
		next.ServeHTTP(seen, r)
	})
}

func end(span trace.Span, name, route string, status int) {
	span.SetName(name)
	span.SetAttributes(attribute.String("http.route", route), attribute.Int("http.response.status_code", status))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}
