package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/internal/jobs"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/server"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/pgtest"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

// told are metrics that were told of one of everything.
func told(t *testing.T) *server.Metrics {
	t.Helper()
	m := server.NewMetrics()
	m.Read(sources(nil, nil))
	call := authz.Call{Member: "casbin", Method: authz.MethodDecide, Requests: 1, Duration: time.Millisecond, Failure: authz.FailureTimeout}
	call.Effects[authz.Permit] = 1
	m.Call(t.Context(), call)
	m.Requested("/graphql", http.MethodPost, http.StatusOK, time.Millisecond)
	m.Operated("query", "OK", time.Millisecond)
	m.Ended(lifecycle.Delete, "SUCCEEDED")
	m.Changed(lifecycle.Delete, "Customer", 3)
	m.Worked("sweep", "done", time.Second)
	m.Attempted("delivered")
	m.Exported("CSV", "SUCCEEDED")
	m.Braked("brakeHour")
	return m
}

func sources(err error, asked *int) server.Sources {
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	return server.Sources{
		Connections: func() int { return 6 }, Subscriptions: func() int { return 11 },
		Pool: func() store.Pool { return store.Pool{InUse: 3, Idle: 5, Most: 8, Waits: 2, Waited: time.Second} },
		Jobs: func(context.Context) ([]jobs.Depth, error) {
			if asked != nil {
				*asked++
			}
			return []jobs.Depth{{Kind: "operation", Running: true, Jobs: 2}, {Kind: "operation", Jobs: 7}, {Kind: "stranger", Jobs: 9}}, err
		},
		Deliveries: func(context.Context) (int, error) { return 4, nil },
		Now:        func() time.Time { now = now.Add(2 * time.Second); return now },
		Log:        slog.New(slog.DiscardHandler),
	}
}

func TestWhatIsCountedIsShown(t *testing.T) {
	t.Parallel()
	body := get(told(t), http.MethodGet, "/metrics").Body.String()
	for _, line := range []string{
		`lethe_http_requests_total{method="POST",route="/graphql",status="2xx"} 1`,
		`lethe_streams_connections 6`,
		`lethe_streams_subscriptions 11`,
		`lethe_http_request_duration_seconds_count{route="/graphql"} 1`,
		`lethe_graphql_operations_total{code="OK",type="query"} 1`,
		`lethe_graphql_operations_total{code="INTERNAL",type="mutation"} 0`,
		`lethe_operations_ended_total{status="SUCCEEDED",verb="DELETE"} 1`,
		`lethe_operations_ended_total{status="FAILED",verb="PURGE"} 0`,
		`lethe_records_changed_total{type="Customer",verb="DELETE"} 3`,
		`lethe_jobs_ended_total{kind="sweep",result="done"} 1`,
		`lethe_jobs_ended_total{kind="operation",result="given_up"} 0`,
		`lethe_jobs_duration_seconds_sum{kind="sweep"} 1`,
		`lethe_jobs_queue_depth{kind="operation",state="running"} 2`,
		`lethe_jobs_queue_depth{kind="operation",state="waiting"} 7`,
		`lethe_jobs_queue_depth{kind="export",state="waiting"} 0`,
		`lethe_webhooks_attempts_total{result="delivered"} 1`,
		`lethe_webhooks_attempts_total{result="dead"} 0`,
		`lethe_webhooks_deliveries_pending 4`,
		`lethe_exports_ended_total{format="CSV",status="SUCCEEDED"} 1`,
		`lethe_database_connections{state="in_use"} 3`,
		`lethe_database_connections{state="max"} 8`,
		`lethe_database_connection_waits_total 2`,
		`lethe_database_connection_wait_seconds_total 1`,
	} {
		require.Contains(t, body, line+"\n")
	}
	require.NotContains(t, body, "stranger")
}

func TestLabelsHaveNoValuesButThoseThereAre(t *testing.T) {
	t.Parallel()
	m := server.NewMetrics()
	m.Operated("query", "surprise", time.Second)
	m.Operated("surprise", "OK", time.Second)
	m.Requested("/graphql", "POST", 999, time.Second)
	m.Requested("/graphql", "POST", -1, time.Second)
	body := get(m, http.MethodGet, "/metrics").Body.String()
	require.NotContains(t, body, "surprise")
	require.Contains(t, body, `status="5xx"`)
	require.Contains(t, body, `status="1xx"`)
}

func TestTheDatabaseIsAskedForMetricsEveryFewSecondsAtMost(t *testing.T) {
	t.Parallel()
	asked := 0
	m := server.NewMetrics()
	m.Read(sources(nil, &asked)) // whose clock goes on by two seconds a look
	for range 6 {
		get(m, http.MethodGet, "/metrics")
	}
	require.Equal(t, 2, asked)

	m = server.NewMetrics()
	m.Read(sources(errors.New("gone"), nil))
	body := get(m, http.MethodGet, "/metrics").Body.String()
	require.Contains(t, body, "lethe_database_connections", "what needs no database is told")
	require.NotContains(t, body, "lethe_jobs_queue_depth", "and what cannot be known is not zero")
}

func TestThePageListsEveryMetricWithItsLabels(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "observability.md"))
	require.NoError(t, err)
	listed := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(lethe_\\w+)` \\|([^|]*)\\|").FindAllStringSubmatch(string(page), -1) {
		labels := []string{}
		for _, label := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[2], -1) {
			labels = append(labels, label[1])
		}
		listed[row[1]] = labels
	}
	require.Equal(t, told(t).Names(), listed)
}

func TestTheDashboardAndTheAlertsAskForMetricsThereAre(t *testing.T) {
	t.Parallel()
	body := get(told(t), http.MethodGet, "/metrics").Body.String()
	exposed := map[string]bool{}
	for _, sample := range regexp.MustCompile(`(?m)^([a-z_]+)(?:\{| )`).FindAllStringSubmatch(body, -1) {
		exposed[sample[1]] = true
	}
	dashboard, err := os.ReadFile(filepath.Join("..", "..", "deploy", "grafana", "lethe.json"))
	require.NoError(t, err)
	require.True(t, json.Valid(dashboard))
	alerts, err := os.ReadFile(filepath.Join("..", "..", "deploy", "prometheus", "alerts.yml"))
	require.NoError(t, err)
	asked := map[string]bool{}
	for _, text := range []string{string(dashboard), string(alerts)} {
		names := regexp.MustCompile(`\b(?:lethe|go|process)_[a-z_]+\b`).FindAllString(text, -1)
		require.Greater(t, len(names), 3)
		for _, name := range names {
			require.True(t, exposed[name], "%s is not there", name)
			asked[name] = true
		}
	}
	for name := range told(t).Names() {
		require.True(t, asked[name] || asked[name+"_bucket"] || asked[name+"_count"], "%s is on no panel", name)
	}
	labels := map[string]bool{"le": true, "instance": true} // the last is of whoever asks
	for _, names := range told(t).Names() {
		for _, name := range names {
			labels[name] = true
		}
	}
	for _, by := range regexp.MustCompile(`by ?\(([^)]*)\)`).FindAllStringSubmatch(string(dashboard)+string(alerts), -1) {
		for name := range strings.SplitSeq(by[1], ",") {
			require.True(t, labels[strings.TrimSpace(name)], "there is no label %s", name)
		}
	}
}

func TestRequestsAreCountedByTheRouteThatServedThem(t *testing.T) {
	t.Parallel()
	type request struct {
		route, method string
		status        int
	}
	var seen []request
	s := server.New(server.Config{
		GraphQL: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("panic") {
				panic("the sky")
			}
			whoami(w, r)
		}), Exports: http.HandlerFunc(whoami), Identity: stub{}, DB: stub{}, Log: slog.New(slog.DiscardHandler),
		Requested: func(route, method string, status int, took time.Duration) {
			require.GreaterOrEqual(t, took, time.Duration(0))
			seen = append(seen, request{route, method, status})
		},
	})
	for _, test := range []struct {
		method, target string
		want           request
	}{
		{http.MethodPost, "/graphql", request{"/graphql", "POST", 200}},
		{http.MethodPost, "/graphql?panic=1", request{"/graphql", "POST", 500}},
		{"BREW", "/graphql", request{"/graphql", "OTHER", 200}},
		{http.MethodGet, "/exports/export_42", request{"/exports/{id}", "GET", 200}},
		{http.MethodGet, "/", request{"/", "GET", 302}},
		{http.MethodGet, "/healthz", request{"/healthz", "GET", 200}},
		{http.MethodDelete, "/healthz", request{"other", "DELETE", 405}},
		{http.MethodGet, "/nowhere/at/all", request{"other", "GET", 404}},
		{http.MethodGet, "/graphiql", request{"/graphiql/", "GET", 307}},
	} {
		seen = nil
		get(s, test.method, test.target)
		require.Equal(t, []request{test.want}, seen, test.target)
	}
}

func TestRequestsAreTracedWithoutWhoAndWhat(t *testing.T) {
	t.Parallel()
	kept := tracetest.NewInMemoryExporter()
	s := server.New(server.Config{
		GraphQL: http.HandlerFunc(whoami), Exports: http.HandlerFunc(whoami), Identity: stub{}, DB: stub{}, Log: slog.New(slog.DiscardHandler),
		Tracer: sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)).Tracer("test"),
	})
	get(s, http.MethodGet, "/exports/export_secret?token=secret", "Authorization", "Bearer secret", "User-Agent", "secret", "Cookie", "secret=secret", "Baggage", "secret=secret")
	get(s, http.MethodGet, "/secret")
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		get(s, http.MethodGet, path)
	}
	spans := kept.GetSpans()
	require.Len(t, spans, 2, "what machines ask every few seconds is no trace")
	require.Equal(t, "GET /exports/{id}", spans[0].Name)
	require.Equal(t, "GET other", spans[1].Name)
	for _, span := range spans {
		text, err := json.Marshal(span)
		require.NoError(t, err)
		require.NotContains(t, string(text), "secret")
		require.NotContains(t, string(text), "192.0.2.1", "the address of the client")
	}
}

func TestWhatIsLoggedForARequestHasItsNameAndItsTrace(t *testing.T) {
	t.Parallel()
	var out buffer
	log := slog.New(server.LogHandler(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	s := server.New(server.Config{
		GraphQL: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			log.With("part", "x").InfoContext(r.Context(), "deep inside")
		}), Identity: stub{}, DB: stub{}, Log: log, Tracer: sdktrace.NewTracerProvider().Tracer("test"),
	})
	get(s, http.MethodPost, "/graphql", "X-Request-ID", "r-7", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	log.Info("for nobody")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 3)
	require.Contains(t, lines[0], `part=x requestID=r-7 traceID=0af7651916cd43dd8448eb211c80319c spanID=`)
	require.Contains(t, lines[1], "msg=request")
	require.Contains(t, lines[1], "requestID=r-7")
	require.Equal(t, 1, strings.Count(lines[1], "requestID"))
	require.NotContains(t, lines[2], "requestID")
	require.NotContains(t, lines[2], "traceID")
}

// unmigrated opens a database without tables, of each kind.
func unmigrated(t *testing.T, test func(t *testing.T, db *store.DB)) {
	t.Helper()
	for name, url := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "lethe.db") },
		"postgres": func(t *testing.T) string { return pgtest.URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := store.Open(t.Context(), url(t))
			require.NoError(t, err)
			t.Cleanup(func() { _ = db.Close() })
			test(t, db)
		})
	}
}

func TestAServerIsNotReadyBeforeItsMigrations(t *testing.T) {
	t.Parallel()
	unmigrated(t, func(t *testing.T, db *store.DB) {
		s := server.New(server.Config{GraphQL: http.HandlerFunc(whoami), Identity: stub{}, DB: db, Log: slog.New(slog.DiscardHandler)})
		require.Equal(t, http.StatusServiceUnavailable, get(s, http.MethodGet, "/readyz").Code)
		require.Equal(t, http.StatusOK, get(s, http.MethodGet, "/healthz").Code, "it is alive all the same")
		require.NoError(t, db.Migrate(t.Context()))
		require.Equal(t, http.StatusOK, get(s, http.MethodGet, "/readyz").Code)
	})
}

func TestAServerIsNotReadyWithoutItsDatabase(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		var log buffer
		s := server.New(server.Config{GraphQL: http.HandlerFunc(whoami), Identity: stub{}, DB: db, Log: slog.New(slog.NewTextHandler(&log, nil))})
		require.Equal(t, http.StatusOK, get(s, http.MethodGet, "/readyz").Code)
		require.NoError(t, db.Close())
		res := get(s, http.MethodGet, "/readyz")
		require.Equal(t, http.StatusServiceUnavailable, res.Code)
		require.Equal(t, "not ready\n", res.Body.String(), "why is for the log")
		require.Contains(t, log.String(), "not ready")
		require.Equal(t, http.StatusOK, get(s, http.MethodGet, "/healthz").Code)
	})
}

func TestAServerThatStopsIsNotReady(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		started, finish := make(chan struct{}), make(chan struct{})
		s := server.New(server.Config{GraphQL: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(started); <-finish }), Identity: stub{}, DB: db, Log: slog.New(slog.DiscardHandler)})
		address, stop, ended := run(t, s)
		require.Equal(t, http.StatusOK, get(s, http.MethodGet, "/readyz").Code)
		go func() {
			if res, err := http.Post(address+"/graphql", "application/json", strings.NewReader("{}")); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		}()
		<-started
		stop()
		require.Eventually(t, func() bool { return get(s, http.MethodGet, "/readyz").Code == http.StatusServiceUnavailable }, 10*time.Second, time.Millisecond)
		require.Equal(t, "stopping\n", get(s, http.MethodGet, "/readyz").Body.String())
		require.Equal(t, http.StatusOK, get(s, http.MethodGet, "/healthz").Code)
		close(finish)
		require.NoError(t, <-ended)
	})
}

func TestWithoutAnybodyWhoWantsToKnowRequestsCostNothing(t *testing.T) {
	cost := func(c server.Config) float64 {
		c.GraphQL, c.Identity, c.DB, c.Log = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), stub{}, stub{}, slog.New(slog.DiscardHandler)
		s := server.New(c)
		return testing.AllocsPerRun(200, func() {
			s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/healthz", nil))
		})
	}
	off := cost(server.Config{})
	counted := cost(server.Config{Requested: server.NewMetrics().Requested})
	traced := cost(server.Config{Tracer: sdktrace.NewTracerProvider().Tracer("test")}) // /healthz is not
	t.Logf("allocations of a request: %v, %v counted, %v traced", off, counted, traced)
	require.LessOrEqual(t, counted, off+2)
	require.InDelta(t, off, traced, 0.5)
}
