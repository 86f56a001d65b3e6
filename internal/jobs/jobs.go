// Package jobs works in the background, on River, on both databases: on
// operations that are too large for one transaction, and on what is due by the
// clock. A job only says what to look at. What is to be done about it stands in
// the tables that the work itself writes, so that a job which is lost, or comes
// twice, does no harm.
package jobs

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/telemetry"
)

const (
	// workers is how many operations a process works on at a time.
	workers = 2
	// attempts is how often an operation is tried that fails: River waits 1 s, 16 s,
	// 81 s and 256 s between them.
	attempts = 5
	// stopWithin is how long what has begun may take to come to its next resting place.
	stopWithin = 8 * time.Second

	// The queues of the clock, so that no operation keeps it waiting, of retention
	// rules, which may have much to do, and of exports, which take as long as they take.
	sweeps, rules, exports = "sweeps", "rules", "exports"
)

// Config says what to do.
type Config struct {
	DB  *store.DB
	Log *slog.Logger
	// Work works on an operation until it has ended, or the context ends.
	Work func(ctx context.Context, tenant, operation gid.ID) error
	// GiveUp says that work on an operation has failed too often.
	GiveUp func(ctx context.Context, tenant, operation gid.ID) error
	// Export makes an export until it has ended, or the context ends, and GiveUpExport
	// says that this has failed too often.
	Export       func(ctx context.Context, tenant, export gid.ID) error
	GiveUpExport func(ctx context.Context, tenant, export gid.ID) error
	// Sweep does what is due; one process does it at a time, every so often. Its error is
	// counted: it has said itself what it is.
	Sweep func(ctx context.Context) error
	// Rules lets retention rules act whose time has come, as often, beside that.
	Rules func(ctx context.Context) error
	Every time.Duration

	// Ended is told of each job how it ended, in one of Results, and how long it took; nil is nobody.
	Ended func(kind, result string, took time.Duration)
	// Tracer makes a span of each job, linked to the span in which it was asked for; nil makes none.
	Tracer trace.Tracer
}

// How a job can end: done; failed, and tried again; given up after it has failed too
// often; or stopped with the process, and done by another or by the next.
const (
	done    = "done"
	failed  = "failed"
	gaveUp  = "given_up"
	stopped = "stopped"
)

// Results are how a job can end.
func Results() []string { return []string{done, failed, gaveUp, stopped} }

// Kinds are those of jobs.
func Kinds() []string {
	return []string{operation{}.Kind(), export{}.Kind(), sweep{}.Kind(), retention{}.Kind()}
}

// Runner is a queue with its workers.
type Runner struct {
	log    *slog.Logger
	client client
	add    func(ctx context.Context, tx *store.Tx, args river.JobArgs) error
	close  func()
	db     *store.DB
}

// client is what both of River's have in common.
type client interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	StopAndCancel(ctx context.Context) error
}

// operation is a job.
type operation struct {
	Tenant    gid.ID `json:"tenant"`
	Operation gid.ID `json:"operation"`
}

// Kind implements river.JobArgs.
func (operation) Kind() string { return "operation" }

// export is a job.
type export struct {
	Tenant gid.ID `json:"tenant"`
	Export gid.ID `json:"export"`
}

// Kind implements river.JobArgs.
func (export) Kind() string { return "export" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (export) InsertOpts() river.InsertOpts { return river.InsertOpts{Queue: exports} }

// sweep is a job.
type sweep struct{}

// Kind implements river.JobArgs.
func (sweep) Kind() string { return "sweep" }

// retention is a job.
type retention struct{}

// Kind implements river.JobArgs.
func (retention) Kind() string { return "retention" }

// New makes a queue whose workers begin with Run.
func New(ctx context.Context, c Config) (*Runner, error) {
	r := &Runner{log: c.Log, db: c.DB}
	connections := 5 // one listens
	if c.DB.Dialect() == "sqlite3" {
		connections = 1
	}
	own, done, err := c.DB.Own(ctx, connections)
	if err != nil {
		return nil, err
	}
	r.close = done
	if own.Postgres != nil {
		queue, err := river.NewClient(riverpgxv5.New(own.Postgres), c.config())
		r.client = queue
		r.add = func(ctx context.Context, tx *store.Tx, args river.JobArgs) error {
			return addTo(ctx, tx, args, queue.InsertTx, func(pg pgx.Tx, _ *sql.Tx) pgx.Tx { return pg })
		}
		return r, made(err)
	}
	queue, err := river.NewClient(riversqlite.New(own.SQLite), c.config())
	r.client = queue
	r.add = func(ctx context.Context, tx *store.Tx, args river.JobArgs) error {
		return addTo(ctx, tx, args, queue.InsertTx, func(_ pgx.Tx, lite *sql.Tx) *sql.Tx { return lite })
	}
	return r, made(err)
}

func made(err error) error {
	if err != nil {
		return fmt.Errorf("making the job queue: %w", err)
	}
	return nil
}

func addTo[T, R any](ctx context.Context, tx *store.Tx, args river.JobArgs, into func(context.Context, T, river.JobArgs, *river.InsertOpts) (R, error), as func(pgx.Tx, *sql.Tx) T) error {
	pg, lite, err := tx.Raw(ctx)
	if err == nil {
		_, err = into(ctx, as(pg, lite), args, options(ctx))
	}
	if err != nil {
		return fmt.Errorf("adding a job: %w", err)
	}
	return nil
}

// metadata is kept with a job.
type metadata struct {
	// Parent is the span in which the job was asked for.
	Parent string `json:"traceparent,omitempty"`
}

// options are nil where nothing is traced.
func options(ctx context.Context) *river.InsertOpts {
	parent := telemetry.Parent(ctx)
	if parent == "" {
		return nil
	}
	text, err := json.Marshal(metadata{parent})
	if err != nil {
		return nil // a job without a link is a job
	}
	return &river.InsertOpts{Metadata: text}
}

// watched does a job, and tells how it ended.
func (c Config) watched(ctx context.Context, job *rivertype.JobRow, do func(context.Context) (result string, err error)) error {
	begun := c.DB.Now()
	var span trace.Span
	if c.Tracer != nil {
		var kept metadata
		_ = json.Unmarshal(job.Metadata, &kept) // of which others keep theirs
		ctx, span = c.Tracer.Start(ctx, "job "+job.Kind, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(telemetry.Link(kept.Parent)...),
			trace.WithAttributes(attribute.String("lethe.job.kind", job.Kind), attribute.Int("lethe.job.attempt", job.Attempt)))
		defer span.End()
	}
	result, err := do(ctx)
	if span != nil {
		span.SetAttributes(attribute.String("lethe.job.result", result))
		if result != done {
			span.SetStatus(codes.Error, "")
		}
	}
	if c.Ended != nil {
		c.Ended(job.Kind, result, max(c.DB.Now().Sub(begun), 0))
	}
	return err
}

func (c Config) config() *river.Config {
	all := river.NewWorkers()
	river.AddWorker(all, river.WorkFunc(c.work))
	river.AddWorker(all, river.WorkFunc(c.export))
	river.AddWorker(all, river.WorkFunc(func(ctx context.Context, job *river.Job[sweep]) error { return c.clock(ctx, job.JobRow, c.Sweep) }))
	river.AddWorker(all, river.WorkFunc(func(ctx context.Context, job *river.Job[retention]) error { return c.clock(ctx, job.JobRow, c.Rules) }))
	return &river.Config{
		Logger:       slog.New(warnings{c.Log.Handler()}),
		JobTimeout:   -1, // an operation takes as long as it takes
		MaxAttempts:  attempts,
		Queues:       map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}, sweeps: {MaxWorkers: 1}, rules: {MaxWorkers: 1}, exports: {MaxWorkers: 1}},
		Workers:      all,
		PeriodicJobs: []*river.PeriodicJob{c.periodic(sweep{}, sweeps), c.periodic(retention{}, rules)},
	}
}

func (c Config) periodic(args river.JobArgs, queue string) *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(c.Every), func() (river.JobArgs, *river.InsertOpts) {
		return args, &river.InsertOpts{Queue: queue, MaxAttempts: 1}
	}, &river.PeriodicJobOpts{RunOnStart: true})
}

func (c Config) work(ctx context.Context, job *river.Job[operation]) error {
	return c.try(ctx, job.JobRow, job.Args.Tenant, job.Args.Operation, c.Work, c.GiveUp)
}

func (c Config) export(ctx context.Context, job *river.Job[export]) error {
	return c.try(ctx, job.JobRow, job.Args.Tenant, job.Args.Export, c.Export, c.GiveUpExport)
}

// try works on something, and gives it up when that has failed too often.
func (c Config) try(ctx context.Context, job *rivertype.JobRow, tenant, id gid.ID, work, giveUp func(ctx context.Context, tenant, id gid.ID) error) error {
	return c.watched(ctx, job, func(ctx context.Context) (string, error) {
		err := work(ctx, tenant, id)
		switch {
		case err == nil:
			return done, nil
		case ctx.Err() != nil: // another process goes on with it, or this one when it is back
			return stopped, err
		}
		c.Log.ErrorContext(ctx, "work in the background failed", job.Kind, id, "attempt", job.Attempt, "error", err)
		if job.Attempt >= job.MaxAttempts {
			return gaveUp, errors.Join(err, giveUp(ctx, tenant, id))
		}
		return failed, err
	})
}

func (c Config) clock(ctx context.Context, job *rivertype.JobRow, do func(context.Context) error) error {
	if job.AttemptedAt != nil && job.AttemptedAt.Sub(job.ScheduledAt) > c.Every {
		return nil // the one before took longer than the time between them: the next one is waiting already
	}
	return c.watched(ctx, job, func(ctx context.Context) (string, error) {
		switch err := do(ctx); {
		case ctx.Err() != nil:
			return stopped, nil //nolint:nilerr // the clock makes the next one
		case err != nil:
			return failed, nil //nolint:nilerr // it has said itself what that is, and the clock makes the next one
		}
		return done, nil
	})
}

// Depth is how many jobs of a kind are in the queue.
type Depth struct {
	Kind string
	// Running says of those that they are worked on, and else they wait, to be tried
	// for the first time or again.
	Running bool
	Jobs    int
}

// Depths counts the jobs that have not ended.
func (r *Runner) Depths(ctx context.Context) (depths []Depth, err error) {
	err = store.Build(r.db).Add(`SELECT kind, CASE WHEN state = 'running' THEN 1 ELSE 0 END, COUNT(*) FROM river_job
		WHERE state IN ('available', 'pending', 'retryable', 'running', 'scheduled') GROUP BY 1, 2`).Query(ctx, r.db, func(row store.Row) error {
		var d Depth
		var running int
		err := row.Scan(&d.Kind, &running, &d.Jobs)
		d.Running = running == 1
		depths = append(depths, d)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("counting jobs: %w", err)
	}
	return depths, nil
}

// Enqueue has an operation worked on once the transaction is committed.
func (r *Runner) Enqueue(ctx context.Context, tx *store.Tx, tenant, op gid.ID) error {
	return r.add(ctx, tx, operation{tenant, op})
}

// EnqueueExport has an export made once the transaction is committed.
func (r *Runner) EnqueueExport(ctx context.Context, tx *store.Tx, tenant, id gid.ID) error {
	return r.add(ctx, tx, export{tenant, id})
}

// Run works until the context ends. What has begun comes to its next resting
// place then.
func (r *Runner) Run(ctx context.Context) error {
	defer r.close()
	base := context.WithoutCancel(ctx)
	if err := r.client.Start(base); err != nil {
		return fmt.Errorf("starting the job queue: %w", err)
	}
	<-ctx.Done()
	ending, cancel := context.WithTimeout(base, stopWithin)
	defer cancel()
	if err := r.client.StopAndCancel(ending); err != nil {
		return fmt.Errorf("stopping the job queue: %w", err)
	}
	return nil
}

// warnings lets through what somebody should know of.
type warnings struct{ slog.Handler }

// Enabled implements slog.Handler.
func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }
