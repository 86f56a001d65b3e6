// Package telemetry makes spans of what happens to a request, and sends them to
// whoever collects them, as OpenTelemetry has it. Where to is said by the variables
// of its specification; without them there is no tracer at all, and whoever is given
// none does nothing.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Name is that of the instrumentation, in every span.
const Name = "github.com/lethe-crm/lethe"

// Provider makes spans and sends them.
type Provider struct{ sdk *sdktrace.TracerProvider }

// Open returns what the variables of the environment ask for, which is nil where they
// name nobody to send spans to. Sampling, batching and the resource are the SDK's own,
// by its own variables. What cannot be sent goes to the log.
func Open(ctx context.Context, getenv func(string) string, log *slog.Logger, version string) (*Provider, error) {
	client, err := newClient(getenv)
	if client == nil || err != nil {
		return nil, err
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "lethe"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("reading OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("starting to send spans: %w", err)
	}
	return &Provider{sdktrace.NewTracerProvider(sdktrace.WithBatcher(spoken{exporter, log}), sdktrace.WithResource(about))}, nil
}

// Tracer makes spans; it is nil where there is nobody to send them to.
func (p *Provider) Tracer() trace.Tracer {
	if p == nil {
		return nil
	}
	return p.sdk.Tracer(Name)
}

// Close sends what is left, as far as the context lets it.
func (p *Provider) Close(ctx context.Context) error {
	if p == nil {
		return nil
	}
	if err := p.sdk.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("sending the last spans: %w", err)
	}
	return nil
}

// spoken says in the log what could not be sent. The SDK would tell a handler of the
// whole process.
type spoken struct {
	sdktrace.SpanExporter

	log *slog.Logger
}

// ExportSpans implements sdktrace.SpanExporter.
func (s spoken) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := s.SpanExporter.ExportSpans(ctx, spans); err != nil {
		s.log.WarnContext(ctx, "spans could not be sent", "spans", len(spans), "error", err)
	}
	return nil
}

// propagator reads and writes the headers of https://www.w3.org/TR/trace-context/.
// Baggage, which may hold anything, is not handed on.
var propagator propagation.TraceContext

// traceparent is the name of the header that says which span something belongs to.
const traceparent = "traceparent"

// Parent is the span of the context as text, to be read by WithParent later or
// elsewhere; empty where nothing is traced. What a client says beside it, the
// tracestate, stays here.
func Parent(ctx context.Context) string {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagator.Inject(trace.ContextWithSpanContext(ctx, span.WithTraceState(trace.TraceState{})), carrier)
	return carrier[traceparent]
}

// WithParent is a context in which spans belong to the one that parent names.
func WithParent(ctx context.Context, parent string) context.Context {
	if parent == "" {
		return ctx
	}
	return propagator.Extract(ctx, propagation.MapCarrier{traceparent: parent})
}

// Link points to the span that parent names; none where it names none.
func Link(parent string) []trace.Link {
	span := trace.SpanContextFromContext(WithParent(context.Background(), parent))
	if !span.IsValid() {
		return nil
	}
	return []trace.Link{{SpanContext: span}}
}

// TraceID names the trace of the context to people; empty where nobody keeps it.
func TraceID(ctx context.Context) string {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsSampled() || !span.IsValid() {
		return ""
	}
	return span.TraceID().String()
}
