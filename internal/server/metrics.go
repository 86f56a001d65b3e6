package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/graph"
	"github.com/lethe-crm/lethe/internal/export"
	"github.com/lethe-crm/lethe/internal/jobs"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/notify"
	"github.com/lethe-crm/lethe/internal/record"
)

// Metrics counts what the operator watches, and serves it to Prometheus. Nothing
// in it names a tenant, a user or a record, and no label has a value that a client
// chooses.
type Metrics struct {
	registry *prometheus.Registry
	handler  http.Handler

	calls     *prometheus.HistogramVec
	decisions *prometheus.CounterVec
	failures  *prometheus.CounterVec
	loads     *prometheus.CounterVec
	reloads   *prometheus.CounterVec
	brakes    *prometheus.CounterVec

	requests     *prometheus.CounterVec
	requestTimes *prometheus.HistogramVec
	queries      *prometheus.CounterVec
	queryTimes   *prometheus.HistogramVec
	operations   *prometheus.CounterVec
	changes      *prometheus.CounterVec
	jobs         *prometheus.CounterVec
	jobTimes     *prometheus.HistogramVec
	attempts     *prometheus.CounterVec
	exports      *prometheus.CounterVec
}

// buckets span a decision in memory, in microseconds, and a remote plugin that
// times out, in seconds.
var buckets = []float64{.000_01, .000_05, .000_1, .000_5, .001, .005, .01, .05, .1, .5, 1, 2.5, 5}

// requestBuckets span a list out of memory and an answer nobody waits for, and
// jobBuckets a sweep that finds nothing and an operation on a million records.
var (
	requestBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	jobBuckets     = []float64{.005, .025, .1, .5, 1, 5, 15, 60, 300, 1_800, 7_200}
)

// statusClasses are how requests are answered.
var statusClasses = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}

// ends are how operations end.
var ends = []operation.Status{operation.StatusSUCCEEDED, operation.StatusPARTIAL, operation.StatusFAILED, operation.StatusCANCELLED, operation.StatusREJECTED, operation.StatusEXPIRED}

// NewMetrics returns metrics of their own registry, with those of Go and of the
// process.
func NewMetrics() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	counter := func(subsystem, name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "lethe", Subsystem: subsystem, Name: name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	histogram := func(subsystem, name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "lethe", Subsystem: subsystem, Name: name, Help: help, Buckets: buckets}, labels)
		m.registry.MustRegister(h)
		return h
	}
	m.calls = histogram("authz", "call_duration_seconds", "How long members of the chain of plugins take, a call of which may be about many records.", buckets, "member", "method")
	m.decisions = counter("authz", "decisions_total", "What members of the chain answered, for each record by itself.", "member", "effect")
	m.failures = counter("authz", "failures_total", "Calls that members of the chain gave no answer to.", "member", "method", "failure")
	m.loads = counter("authz", "policy_loads_total", "Policies read from the database: loaded, invalid (which permits nothing), or failed.", "result")
	m.reloads = counter("authz", "chain_reloads_total", "Chains read again from the file: replaced, or refused, which leaves the one there was.", "result")
	m.brakes = counter("operations", "braked_total", "Operations that came over a cap and were stopped, by the cap.", "cap")
	m.requests = counter("http", "requests_total", "Requests by route, method and class of status.", "route", "method", "status")
	m.requestTimes = histogram("http", "request_duration_seconds", "How long requests take.", requestBuckets, "route")
	m.queries = counter("graphql", "operations_total", "Queries, mutations and what was refused before it was known which (none), by OK or the code of the first error.", "type", "code")
	m.queryTimes = histogram("graphql", "operation_duration_seconds", "How long queries and mutations take, their transaction included.", requestBuckets, "type")
	m.operations = counter("operations", "ended_total", "Operations on records that have ended, by verb and status.", "verb", "status")
	m.changes = counter("records", "changed_total", "Records that operations have changed, those that came along included, by verb and type.", "verb", "type")
	m.jobs = counter("jobs", "ended_total", "Jobs that were worked on: done, failed (tried again), given up, or stopped with the process.", "kind", "result")
	m.jobTimes = histogram("jobs", "duration_seconds", "How long jobs are worked on.", jobBuckets, "kind")
	m.attempts = counter("webhooks", "attempts_total", "Attempts to deliver to webhooks: delivered, failed (tried again), or dead (given up).", "result")
	m.exports = counter("exports", "ended_total", "Exports that succeeded or failed, by format.", "format", "status")
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.begin()
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return m
}

// begin has what may never come there from the start, for alerts on its increase.
func (m *Metrics) begin() {
	for _, result := range []string{loaded, invalid, failed} {
		m.loads.WithLabelValues(result)
	}
	for _, result := range []string{replaced, refused} {
		m.reloads.WithLabelValues(result)
	}
	for _, name := range record.Caps() {
		m.brakes.WithLabelValues(name)
	}
	for _, verb := range verbs() {
		for _, status := range ends {
			m.operations.WithLabelValues(string(verb), string(status))
		}
		for _, t := range ent.RecordTypes {
			m.changes.WithLabelValues(string(verb), t.Name)
		}
	}
	for _, kind := range graph.OperationTypes() {
		m.queries.WithLabelValues(kind, string(lifecycle.Internal))
	}
	for _, kind := range jobs.Kinds() {
		for _, result := range jobs.Results() {
			m.jobs.WithLabelValues(kind, result)
		}
	}
	for _, result := range []string{notify.Delivered, notify.Failed, notify.Dead} {
		m.attempts.WithLabelValues(result)
	}
	for _, format := range export.Formats() {
		for _, status := range []string{"SUCCEEDED", "FAILED"} {
			m.exports.WithLabelValues(string(format), status)
		}
	}
}

// What may stand in labels of GraphQL operations.
var operationTypes, outcomeCodes = setOf(graph.OperationTypes()), setOf(graph.OutcomeCodes())

func setOf(names []string) map[string]bool {
	set := map[string]bool{}
	for _, name := range names {
		set[name] = true
	}
	return set
}

// verbs are those of operations.
func verbs() []lifecycle.Verb { return append(lifecycle.Verbs(), lifecycle.Undo) }

// Requested counts a request, as Config.Requested has it.
func (m *Metrics) Requested(route, method string, status int, took time.Duration) {
	class := min(max(status/100, 1), len(statusClasses)) - 1
	m.requests.WithLabelValues(route, method, statusClasses[class]).Inc()
	if status != http.StatusSwitchingProtocols { // which lasts as long as the client likes
		m.requestTimes.WithLabelValues(route).Observe(took.Seconds())
	}
}

// Operated counts a GraphQL operation, as graph.Config has it.
func (m *Metrics) Operated(kind, code string, took time.Duration) {
	if !operationTypes[kind] || !outcomeCodes[code] {
		return
	}
	m.queries.WithLabelValues(kind, code).Inc()
	if took > 0 {
		m.queryTimes.WithLabelValues(kind).Observe(took.Seconds())
	}
}

// Ended counts an operation on records.
func (m *Metrics) Ended(verb lifecycle.Verb, status string) {
	m.operations.WithLabelValues(string(verb), status).Inc()
}

// Changed counts records that an operation has changed.
func (m *Metrics) Changed(verb lifecycle.Verb, typ string, records int) {
	m.changes.WithLabelValues(string(verb), typ).Add(float64(records))
}

// Worked counts a job.
func (m *Metrics) Worked(kind, result string, took time.Duration) {
	m.jobs.WithLabelValues(kind, result).Inc()
	m.jobTimes.WithLabelValues(kind).Observe(took.Seconds())
}

// Attempted counts an attempt to deliver to a webhook.
func (m *Metrics) Attempted(result string) { m.attempts.WithLabelValues(result).Inc() }

// Exported counts an export.
func (m *Metrics) Exported(format, status string) { m.exports.WithLabelValues(format, status).Inc() }

// Names are the metrics of Lethe with their labels, in order; those of Go and of the
// process are their library's.
func (m *Metrics) Names() map[string][]string {
	descriptions := make(chan *prometheus.Desc)
	go func() {
		m.registry.Describe(descriptions)
		close(descriptions)
	}()
	names := map[string][]string{}
	for d := range descriptions {
		if match := description.FindStringSubmatch(d.String()); match != nil {
			names[match[1]] = strings.FieldsFunc(match[2], func(c rune) bool { return c == ',' })
		}
	}
	return names
}

// description is how a prometheus.Desc, which is opaque, shows itself.
var description = regexp.MustCompile(`fqName: "(lethe_\w+)".*variableLabels: \{([^}]*)\}`)

// The results that are counted.
const (
	loaded   = "loaded"
	invalid  = "invalid"
	failed   = "failed"
	replaced = "replaced"
	refused  = "refused"
)

// Call is an authz.Observer.
func (m *Metrics) Call(_ context.Context, call authz.Call) {
	m.calls.WithLabelValues(call.Member, string(call.Method)).Observe(call.Duration.Seconds())
	if call.Failure != "" {
		m.failures.WithLabelValues(call.Member, string(call.Method), string(call.Failure)).Inc()
	}
	for effect, n := range call.Effects {
		if n > 0 {
			m.decisions.WithLabelValues(call.Member, authz.Effect(effect).String()).Add(float64(n))
		}
	}
}

// Braked counts an operation that came over a cap.
func (m *Metrics) Braked(name string) { m.brakes.WithLabelValues(name).Inc() }

// PolicyLoaded counts a policy that was read, or could not be.
func (m *Metrics) PolicyLoaded(findings []casbin.Finding, err error) {
	result := loaded
	for _, f := range findings {
		if f.Severity == casbin.Error {
			result = invalid
		}
	}
	if err != nil {
		result = failed
	}
	m.loads.WithLabelValues(result).Inc()
}

// ChainReloaded counts a chain that was read again, or could not be.
func (m *Metrics) ChainReloaded(err error) {
	result := replaced
	if err != nil {
		result = refused
	}
	m.reloads.WithLabelValues(result).Inc()
}

// ServeHTTP implements http.Handler.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

// Run serves the metrics, and nothing else, until the context ends.
func (m *Metrics) Run(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes}
	ended := context.AfterFunc(ctx, func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(stop) != nil {
			_ = srv.Close() // who reads metrics can read them elsewhere
		}
	})
	defer ended()
	if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving metrics: %w", err)
	}
	return nil
}
