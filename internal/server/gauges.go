package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lethe-crm/lethe/internal/jobs"
	"github.com/lethe-crm/lethe/internal/store"
)

// Sources are asked when metrics are read.
type Sources struct {
	Pool func() store.Pool
	// Connections are sockets and streams that are open, Subscriptions what is waited for
	// on them.
	Connections, Subscriptions func() int
	// Jobs and Deliveries ask the database, at most every few seconds, however often
	// metrics are read: who reads them need not be signed in.
	Jobs       func(ctx context.Context) ([]jobs.Depth, error)
	Deliveries func(ctx context.Context) (int, error)
	Now        func() time.Time
	Log        *slog.Logger
}

const (
	// gaugesFor is how long what was counted in the database is shown.
	gaugesFor = 5 * time.Second
	// gaugesWithin is how long the database has for it.
	gaugesWithin = 2 * time.Second
)

func gauge(subsystem, name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("lethe", subsystem, name), help, labels, nil)
}

var (
	connections = gauge("database", "connections", "Connections that requests share: in_use, idle, or max.", "state")
	waits       = gauge("database", "connection_waits_total", "How often somebody waited for a connection.")
	waited      = gauge("database", "connection_wait_seconds_total", "How long all who waited for a connection did.")
	streams     = gauge("streams", "connections", "WebSockets and streams of events that are open.")
	subscribed  = gauge("streams", "subscriptions", "Subscriptions that are open.")
	depth       = gauge("jobs", "queue_depth", "Jobs that have not ended: waiting or running.", "kind", "state")
	pending     = gauge("webhooks", "deliveries_pending", "Deliveries that are still to be made, now or later.")
)

// Read has metrics tell what the sources say.
func (m *Metrics) Read(s Sources) { m.registry.MustRegister(&gauges{Sources: s}) }

// gauges is a prometheus.Collector.
type gauges struct {
	Sources

	mu         sync.Mutex
	counted    time.Time
	known      bool
	depths     []jobs.Depth
	deliveries int
}

// Describe implements prometheus.Collector.
func (*gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{streams, subscribed, connections, waits, waited, depth, pending} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	is := func(d *prometheus.Desc, n float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	pool := g.Pool()
	is(streams, float64(g.Connections()))
	is(subscribed, float64(g.Subscriptions()))
	is(connections, float64(pool.InUse), "in_use")
	is(connections, float64(pool.Idle), "idle")
	is(connections, float64(pool.Most), "max")
	to <- prometheus.MustNewConstMetric(waits, prometheus.CounterValue, float64(pool.Waits))
	to <- prometheus.MustNewConstMetric(waited, prometheus.CounterValue, pool.Waited.Seconds())

	depths, deliveries, known := g.count()
	if !known { // a database that does not answer has no depth of zero
		return
	}
	states := map[bool]string{true: "running", false: "waiting"}
	counts := map[jobs.Depth]int{}
	for _, d := range depths {
		counts[jobs.Depth{Kind: d.Kind, Running: d.Running}] = d.Jobs
	}
	for _, kind := range jobs.Kinds() {
		for running, state := range states {
			is(depth, float64(counts[jobs.Depth{Kind: kind, Running: running}]), kind, state)
		}
	}
	is(pending, float64(deliveries))
}

// count asks the database, unless it was asked just now.
func (g *gauges) count() (depths []jobs.Depth, deliveries int, known bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.Now()
	if !g.counted.IsZero() && now.Sub(g.counted) < gaugesFor {
		return g.depths, g.deliveries, g.known
	}
	ctx, cancel := context.WithTimeout(context.Background(), gaugesWithin) // a prometheus.Collector is given none
	defer cancel()
	var err error
	if g.depths, err = g.Jobs(ctx); err == nil {
		g.deliveries, err = g.Deliveries(ctx)
	}
	if g.counted, g.known = now, err == nil; err != nil {
		g.Log.WarnContext(ctx, "what waits could not be counted", "error", err)
	}
	return g.depths, g.deliveries, g.known
}
