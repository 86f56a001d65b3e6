package telemetry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/lethe-crm/lethe/internal/telemetry"
)

// env is an environment.
type env map[string]string

func (e env) get(name string) string { return e[name] }

// collector is who spans are sent to.
type collector struct {
	*httptest.Server

	mu      sync.Mutex
	busy    int // how many requests are sent away first
	status  int
	paths   []string
	headers []http.Header
	spans   []string
	service map[string]string
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{status: http.StatusOK, service: map[string]string{}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paths, c.headers = append(c.paths, r.URL.Path), append(c.headers, r.Header)
	if c.busy > 0 {
		c.busy--
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(r.Body); err != nil {
			panic(err)
		}
	}
	sent, err := io.ReadAll(body)
	if err != nil {
		panic(err)
	}
	var data tracepb.TracesData
	if err := proto.Unmarshal(sent, &data); err != nil {
		panic(err)
	}
	for _, resource := range data.GetResourceSpans() {
		for _, a := range resource.GetResource().GetAttributes() {
			c.service[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, s.GetName())
			}
		}
	}
	w.WriteHeader(c.status)
}

// sends opens telemetry, makes a span and closes it; and answers what went to the log.
func sends(t *testing.T, e env) string {
	t.Helper()
	var log bytes.Buffer
	p, err := telemetry.Open(t.Context(), e.get, slog.New(slog.NewTextHandler(&log, nil)), "v1")
	require.NoError(t, err)
	_, span := p.Tracer().Start(t.Context(), "hello")
	span.End()
	require.NoError(t, p.Close(t.Context()))
	return log.String()
}

func TestWithoutAnEndpointThereIsNoTracer(t *testing.T) {
	t.Parallel()
	for _, e := range []env{
		{}, {"OTEL_SERVICE_NAME": "x"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
	} {
		p, err := telemetry.Open(t.Context(), e.get, slog.New(slog.DiscardHandler), "v1")
		require.NoError(t, err)
		require.Nil(t, p)
		require.Nil(t, p.Tracer())
		require.NoError(t, p.Close(t.Context()))
	}
}

func TestSpansAreSentWhereTheVariablesSay(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env  func(url string) env
		path string
	}{
		"all signals": {func(url string) env { return env{"OTEL_EXPORTER_OTLP_ENDPOINT": url} }, "/v1/traces"},
		"with a path": {func(url string) env { return env{"OTEL_EXPORTER_OTLP_ENDPOINT": url + "/otlp/"} }, "/otlp/v1/traces"},
		"of traces":   {func(url string) env { return env{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url + "/own"} }, "/own"},
		"of both": {func(url string) env {
			return env{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url + "/own", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
		}, "/own"},
		"compressed": {func(url string) env {
			return env{"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
		}, "/v1/traces"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			require.Empty(t, sends(t, test.env(c.URL)))
			require.Equal(t, []string{test.path}, c.paths)
			require.Equal(t, []string{"hello"}, c.spans)
			require.Equal(t, "lethe", c.service["service.name"])
			require.Equal(t, "v1", c.service["service.version"])
			require.Equal(t, "application/x-protobuf", c.headers[0].Get("Content-Type"))
		})
	}
}

func TestSpansCarryTheHeadersOfTheVariables(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	sends(t, env{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20a=b, x-tenant = 7"})
	require.Equal(t, "Bearer a=b", c.headers[0].Get("Authorization"))
	require.Equal(t, "7", c.headers[0].Get("X-Tenant"))
}

func TestWhoIsBusyIsSentSpansAgain(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	c.busy = 1
	require.Empty(t, sends(t, env{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL}))
	require.Len(t, c.paths, 2)
	require.Equal(t, []string{"hello"}, c.spans)
}

func TestWhatCannotBeSentGoesToTheLog(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	c.status = http.StatusForbidden
	require.Contains(t, sends(t, env{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL}), "403 Forbidden")
	require.Len(t, c.paths, 1, "which trying again does not help")
}

func TestVariablesThatMeanNothingAreRefused(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for want, more := range map[string]env{
		"http/protobuf only":             {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
		"neither gzip nor none":          {"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"},
		"no list of name=value":          {"OTEL_EXPORTER_OTLP_HEADERS": "secret"},
		"not a number of milliseconds":   {"OTEL_EXPORTER_OTLP_TIMEOUT": "10s"},
		"no URL":                         {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
		"has no certificate in it":       {"OTEL_EXPORTER_OTLP_CERTIFICATE": empty},
		"reading OTEL_EXPORTER_OTLP_CER": {"OTEL_EXPORTER_OTLP_CERTIFICATE": empty + "er"},
	} {
		e := env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
		maps.Copy(e, more)
		_, err := telemetry.Open(t.Context(), e.get, slog.New(slog.DiscardHandler), "v1")
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestASpanIsFoundAgainByItsText(t *testing.T) {
	t.Parallel()
	require.Empty(t, telemetry.Parent(t.Context()))
	require.Empty(t, telemetry.TraceID(t.Context()))
	require.Nil(t, telemetry.Link(""))
	for _, nonsense := range []string{"x", "00-00000000000000000000000000000000-0000000000000000-01", strings.Repeat("0", 5000)} {
		require.Empty(t, telemetry.Parent(telemetry.WithParent(t.Context(), nonsense)))
		require.Nil(t, telemetry.Link(nonsense))
	}

	ctx, span := sdktrace.NewTracerProvider().Tracer("test").Start(t.Context(), "asked")
	defer span.End()
	text := telemetry.Parent(ctx)
	require.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`, text)
	require.Equal(t, span.SpanContext().TraceID().String(), telemetry.TraceID(ctx))
	again := trace.SpanContextFromContext(telemetry.WithParent(context.Background(), text))
	require.Equal(t, span.SpanContext().SpanID(), again.SpanID())
	require.True(t, again.IsRemote())
	require.Equal(t, span.SpanContext().SpanID(), telemetry.Link(text)[0].SpanContext.SpanID())
}
