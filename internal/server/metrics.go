package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/record"
)

// Metrics counts what the operator watches, and serves it to Prometheus. Nothing
// in it names a tenant, a user or a record.
type Metrics struct {
	handler   http.Handler
	calls     *prometheus.HistogramVec
	decisions *prometheus.CounterVec
	failures  *prometheus.CounterVec
	loads     *prometheus.CounterVec
	reloads   *prometheus.CounterVec
	brakes    *prometheus.CounterVec
}

// buckets span a decision in memory, in microseconds, and a remote plugin that
// times out, in seconds.
var buckets = []float64{.000_01, .000_05, .000_1, .000_5, .001, .005, .01, .05, .1, .5, 1, 2.5, 5}

// NewMetrics returns metrics of their own registry, with those of Go and of the
// process.
func NewMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "lethe", Subsystem: "authz", Name: name, Help: help}, labels)
	}
	m := &Metrics{
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "lethe", Subsystem: "authz", Name: "call_duration_seconds", Buckets: buckets,
			Help: "How long members of the chain of plugins take, a call of which may be about many records.",
		}, []string{"member", "method"}),
		decisions: counter("decisions_total", "What members of the chain answered, for each record by itself.", "member", "effect"),
		failures:  counter("failures_total", "Calls that members of the chain gave no answer to.", "member", "method", "failure"),
		loads:     counter("policy_loads_total", "Policies read from the database: loaded, invalid (which permits nothing), or failed.", "result"),
		reloads:   counter("chain_reloads_total", "Chains read again from the file: replaced, or refused, which leaves the one there was.", "result"),
		brakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "lethe", Subsystem: "operations", Name: "braked_total", Help: "Operations that came over a cap and were stopped, by the cap.",
		}, []string{"cap"}),
	}
	// What may never come is there from the start, for alerts on its increase.
	for _, result := range []string{loaded, invalid, failed} {
		m.loads.WithLabelValues(result)
	}
	for _, result := range []string{replaced, refused} {
		m.reloads.WithLabelValues(result)
	}
	for _, name := range record.Caps() {
		m.brakes.WithLabelValues(name)
	}
	r := prometheus.NewRegistry()
	r.MustRegister(m.brakes, m.calls, m.decisions, m.failures, m.loads, m.reloads,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(r, promhttp.HandlerOpts{})
	return m
}

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
