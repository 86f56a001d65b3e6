package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lethe-crm/lethe/graph"
	"github.com/lethe-crm/lethe/internal/attachment"
	"github.com/lethe-crm/lethe/internal/export"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/identity/oidc"
	"github.com/lethe-crm/lethe/internal/intake"
	"github.com/lethe-crm/lethe/internal/jobs"
	"github.com/lethe-crm/lethe/internal/notify"
	"github.com/lethe-crm/lethe/internal/pdp"
	"github.com/lethe-crm/lethe/internal/policy"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/server"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/telemetry"
	"github.com/lethe-crm/lethe/internal/transport"
)

// optimizeEvery is how often SQLite's statistics are brought up to date.
const optimizeEvery = time.Hour

// reindexPause is what others have of the database between two transactions that find words: on SQLite there is one
// writer at a time, whoever it is.
const reindexPause = 20 * time.Millisecond

// reindexAgain is after how long that is tried again the first time that it failed, and reindexLatest at most.
const reindexAgain, reindexLatest = 5 * time.Second, 10 * time.Minute

// lastSpans is how long is waited for spans that are still to be sent at the end.
const lastSpans = time.Second

// sweepEvery is how late what is due may be.
const sweepEvery = 15 * time.Second

type serveCmd struct {
	storage
	Listen  string `default:"127.0.0.1:8080" placeholder:"ADDRESS" help:"Where to listen (${default})."`
	URL     string `name:"url" placeholder:"URL" help:"Where people reach the server, if that is elsewhere, as behind a proxy."`
	Demo    bool   `help:"Load sample data into a tenant named demo, and print sign-in links for its users."`
	Migrate bool   `help:"Bring the tables of a PostgreSQL database up to date first; SQLite needs no asking."`
	// Tests and receivers within one's own network want it; tenants who are strangers to one another must not have it.
	AllowPrivateWebhooks bool `help:"Let webhooks be at private addresses, and without TLS."`

	Metrics              string           `placeholder:"ADDRESS" help:"Where to serve /metrics, and not beside the API."`
	OIDC                 string           `name:"oidc" placeholder:"FILE" help:"Whose bearer tokens are taken beside Lethe's own: a list of OpenID Connect issuers in JSON. Default is nobody's."`
	Limits               transport.Limits `placeholder:"NAME=N,..." help:"Other limits of a GraphQL request than the defaults, as in depth=20,cost=500000. docs/http.md has their names."`
	TrustedDocuments     string           `placeholder:"FILE" help:"Documents that requests may name instead of sending them: JSON of relay-compiler, graphql-codegen or Apollo. Read again on SIGHUP."`
	TrustedDocumentsOnly bool             `help:"Refuse every other document."`
	Timeout              time.Duration    `default:"30s" help:"How long a GraphQL operation may take (${default}). A mutation that takes longer changes nothing."`
	RateLimit            server.Rate      `placeholder:"N[:BURST]" help:"How many requests a second each user, token, or address of who is not signed in may send. Default is any number."`
	TrustedProxies       []netip.Prefix   `placeholder:"CIDR,..." help:"Whose X-Forwarded-For is believed, as in 10.0.0.0/8. Default is nobody's."`
	MaxUpload            size             `default:"25MiB" placeholder:"SIZE" help:"The largest file that is taken (${default})."`
	MaxImport            size             `default:"256MiB" placeholder:"SIZE" help:"The largest file that is imported over HTTP (${default})."`
	LogLevel             slog.Level       `default:"info" placeholder:"LEVEL" help:"debug, info, warn or error (${default})."`
}

// size is a number of bytes that people write, such as 25MiB.
type size int64

var units = map[string]int64{"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *size) UnmarshalText(text []byte) error {
	digits := strings.TrimRight(string(text), "KMGiB")
	unit, known := units[string(text[len(digits):])]
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || !known || n < 1 || n > record.MaxFile/unit {
		return errors.New("a size is a number of bytes below 2GiB, or of KiB or MiB as in 25MiB")
	}
	*s = size(n * unit)
	return nil
}

// Run implements the command.
func (cmd *serveCmd) Run(ctx context.Context, c *console) (err error) {
	start := time.Now()
	log := c.logger(cmd.LogLevel)
	trusted, err := cmd.trusted()
	if err != nil {
		return err
	}
	hangups, ignore := cmd.hangups()
	defer ignore()
	var issuers []oidc.Issuer
	if cmd.OIDC != "" {
		if issuers, err = oidc.Read(cmd.OIDC); err != nil {
			return fmt.Errorf("reading the issuers: %w", err)
		}
	}
	spans, err := telemetry.Open(ctx, os.Getenv, log, readBuild().Version)
	if err != nil {
		return &usageError{err.Error()}
	}
	defer func() {
		left, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSpans)
		defer cancel()
		err = errors.Join(err, spans.Close(left))
	}()
	a, err := cmd.open(ctx, log, opening{create: true, migrate: cmd.Migrate, tracer: spans.Tracer()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	metrics := server.NewMetrics()
	a.loaded = metrics.PolicyLoaded
	control, err := a.control()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	control.Observe(metrics.Call)
	records := a.records(control)
	exports := a.exports(control, records)
	telling := a.notifying(control, cmd.AllowPrivateWebhooks)
	telling.Attempted, exports.Ended = metrics.Attempted, metrics.Exported
	queue, err := a.jobs(ctx, records, exports, telling, metrics.Worked)
	if err != nil {
		return err
	}
	records.WithQueue(queue)
	exports.Queue = queue
	records.OnBrake(metrics.Braked)
	records.OnEnd(metrics.Ended)
	records.OnChange(metrics.Changed)
	verifier := cmd.verifier(a, issuers, log)
	callers := server.NewCallers(a.identity, verifier, a.identity, log)
	metrics.Read(server.Sources{Connections: callers.Connections, Subscriptions: a.feed.Waiting, Pool: a.db.Pool, Jobs: queue.Depths, Deliveries: telling.Pending, Now: a.db.Now, Log: log})
	policies := policy.New(a.db, control, a.audit, log).WithApprovals(records)
	front := graph.Config{
		Feed: a.feed, Callers: callers, Origins: origins(cmd.URL),
		DB: a.db, Control: control, Records: records, People: a.identity, Policies: policies, Exports: exports, Notify: telling, Audit: a.audit, Log: log, RequestID: server.RequestID, Observe: metrics.Operated, Tracer: a.tracer,
		Limits: cmd.Limits, Timeout: cmd.Timeout, Trusted: trusted,
	}
	api, err := graph.NewHandler(front)
	if err != nil {
		return fmt.Errorf("building the API: %w", err)
	}

	// The address is taken before links that name it are made.
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", cmd.Listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	watched, err := cmd.watched(ctx)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	local := "http://" + listener.Addr().String()
	public := cmd.URL
	if public == "" {
		public = reachable(listener.Addr())
	}
	exports.PublicURL = public
	if err := cmd.welcome(ctx, c, a, records, public); err != nil {
		return errors.Join(err, listener.Close(), closeIf(watched))
	}

	background, stop := context.WithCancel(ctx)
	var working sync.WaitGroup
	defer func() { stop(); working.Wait() }()
	working.Go(func() {
		if err := control.Run(background); err != nil {
			log.ErrorContext(background, "watching policies ended", "error", err)
		}
	})
	working.Go(func() {
		if err := queue.Run(background); err != nil {
			log.ErrorContext(background, "working in the background ended", "error", err)
		}
	})
	if _, err := records.TakeUp(ctx, a.actAs, true); err != nil { // what was under way when the last process was stopped, or killed
		log.ErrorContext(ctx, "taking up what was under way failed", "error", err)
	}
	if _, err := exports.TakeUp(ctx, true); err != nil {
		log.ErrorContext(ctx, "taking up exports failed", "error", err)
	}
	working.Go(func() {
		if err := a.feed.Run(background); err != nil {
			log.ErrorContext(background, "hearing of changes ended", "error", err)
		}
	})
	working.Go(func() {
		if err := callers.Run(background); err != nil {
			log.ErrorContext(background, "looking after connections ended", "error", err)
		}
	})
	working.Go(func() {
		if err := telling.Run(background); err != nil {
			log.ErrorContext(background, "telling what happened ended", "error", err)
		}
	})
	working.Go(func() { optimize(background, a.db, records, log) })
	working.Go(func() {
		a.reindex(background, func(ctx context.Context) (int, error) { return records.Reindex(ctx, reindexPause) }, reindexAgain)
	})
	working.Go(func() { cmd.reload(background, hangups, trusted, control, metrics, log) })

	decisions := pdp.NewHandler(pdp.Config{DB: a.db, Control: control, Records: records, Audit: a.audit, Log: log, PublicURL: public})
	files := attachment.NewHandler(attachment.Config{
		Control: control, Records: records, Log: log, Now: a.db.Now, MaxUpload: int64(cmd.MaxUpload), RequestID: server.RequestID,
	})
	intakes := intake.NewHandler(intake.Config{
		DB: a.db, Control: control, Records: records, Audit: a.audit, Log: log, Now: a.db.Now, ActAs: a.actAs, MaxImport: int64(cmd.MaxImport), RequestID: server.RequestID,
	})
	config := server.Config{Callers: callers, Issued: verifier, Import: intakes, GraphQL: api, Schema: graph.NewSchemaHandler(front), AuthZEN: decisions, Attachments: files, Exports: exports, Identity: a.identity, DB: a.db, Log: log, PublicURL: public, Metrics: metrics, Requested: metrics.Requested, Tracer: a.tracer, Rate: cmd.RateLimit, TrustedProxies: cmd.TrustedProxies}
	if watched != nil {
		config.Metrics = nil
		log.InfoContext(ctx, "metrics on http://"+watched.Addr().String()+"/metrics")
		working.Go(func() {
			if err := metrics.Run(background, watched); err != nil {
				log.ErrorContext(background, "serving metrics ended", "error", err)
			}
		})
	}
	s := server.New(config)
	log.InfoContext(ctx, "listening on "+local, "database", cmd.config().Redacted(), "version", readBuild().Version,
		"ready_after", time.Since(start).Round(time.Millisecond))
	if err := s.Run(ctx, listener); err != nil {
		return err
	}
	log.InfoContext(ctx, "stopped")
	return nil
}

// verifier takes the tokens of issuers; it is nil where there are none.
func (cmd *serveCmd) verifier(a *app, issuers []oidc.Issuer, log *slog.Logger) server.Issued {
	if len(issuers) == 0 {
		return nil
	}
	return oidc.New(issuers, oidc.Options{People: a.identity, Now: a.db.Now, Log: log})
}

// origins are the hosts of pages that people get from the server, where that is not the host that a proxy calls it by.
func origins(public string) []string {
	if u, err := url.Parse(public); err == nil && u.Host != "" {
		return []string{u.Host}
	}
	return nil
}

// watched is the listener for metrics, nil where they are served beside the API.
func (cmd *serveCmd) watched(ctx context.Context) (net.Listener, error) {
	if cmd.Metrics == "" {
		return nil, nil
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", cmd.Metrics)
	if err != nil {
		return nil, fmt.Errorf("listening for metrics: %w", err)
	}
	return listener, nil
}

func closeIf(listener net.Listener) error {
	if listener == nil {
		return nil
	}
	return listener.Close()
}

// welcome sets up an empty database and says how to sign in.
func (cmd *serveCmd) welcome(ctx context.Context, c *console, a *app, records *record.Service, public string) error {
	link, err := a.identity.Bootstrap(ctx)
	if err != nil {
		return err
	}
	if link.Secret != "" {
		c.sayf("Sign in as %s, once and within %s:\n  %s", identity.DefaultAdmin, identity.MaxLinkTTL, signInURL(public, link))
	}
	if cmd.Demo {
		return demoData(ctx, c, a, records, public)
	}
	return nil
}

// reachable is the address as a browser on this machine takes it.
func reachable(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("http://localhost:%d", tcp.Port)
	}
	return "http://" + addr.String()
}

// jobs is the queue of what is done in the background.
func (a *app) jobs(ctx context.Context, records *record.Service, exports *export.Service, telling *notify.Service, ended func(kind, result string, took time.Duration)) (*jobs.Runner, error) {
	return jobs.New(ctx, jobs.Config{
		DB: a.db, Log: a.log, Every: sweepEvery, Ended: ended, Tracer: a.tracer,
		Work:   func(ctx context.Context, tenant, op gid.ID) error { return records.Work(ctx, a.actAs, tenant, op) },
		GiveUp: records.Stop,
		Export: exports.Work, GiveUpExport: exports.GiveUp,
		Sweep: func(ctx context.Context) error {
			return a.does(ctx, func(ctx context.Context) (swept, error) { return a.sweep(ctx, records, exports, telling) })
		},
		Rules: func(ctx context.Context) error {
			return a.does(ctx, func(ctx context.Context) (swept, error) { return a.applyRules(ctx, records) })
		},
	})
}

// does what the clock brings about, and says what that was.
func (a *app) does(ctx context.Context, what func(context.Context) (swept, error)) error {
	did, err := what(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		a.log.ErrorContext(ctx, "sweeping failed", "error", err, "did", did)
	case did != (swept{}):
		a.log.InfoContext(ctx, "did what was due", "did", did)
	}
	return err
}

// reindex has records found that were written before there was an index of words, or by another version of it. After an
// error it goes on later, each time later than before: what searches waits for it.
func (a *app) reindex(ctx context.Context, do func(context.Context) (int, error), wait time.Duration) {
	for {
		n, err := do(ctx)
		switch {
		case ctx.Err() != nil: // the next start goes on
			return
		case err == nil:
			if n > 0 {
				a.log.InfoContext(ctx, "records can be found by their words", "records", n)
			}
			return
		}
		a.log.ErrorContext(ctx, "not all records can be found by their words", "error", err, "again_in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, reindexLatest)
	}
}

// optimize keeps the database's statistics, and its file clear of the words of what was purged, until the context ends.
func optimize(ctx context.Context, db *store.DB, records *record.Service, log *slog.Logger) {
	tick := time.NewTicker(optimizeEvery)
	defer tick.Stop()
	for {
		if err := db.Optimize(ctx); err != nil && ctx.Err() == nil {
			log.ErrorContext(ctx, "statistics could not be taken", "error", err)
		}
		if err := records.Forget(ctx, reindexPause); err != nil && ctx.Err() == nil {
			log.ErrorContext(ctx, "words of purged records are still in the file", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
