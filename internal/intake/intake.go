// Package intake takes files to import over HTTP.
//
// A file goes to a temporary file a piece at a time, and from there through
// internal/importer, which says what becomes of it. Meanwhile the client is told
// how far that is, a line at a time: it sees that something happens, and a client
// that has gone is noticed.
package intake

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/importer"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/rest"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/table"
)

// DefaultMaxImport is the size of the largest file that is taken, in bytes, where
// the operator does not say otherwise.
const DefaultMaxImport = 256 << 20

// tellEvery is how long a client waits for a line at most.
const tellEvery = time.Second

// Config is what the endpoint is made of.
type Config struct {
	DB      *store.DB
	Control *access.Control
	Records *record.Service
	Audit   *audit.Log
	Log     *slog.Logger
	Now     func() time.Time
	// ActAs lets a deletion that is a job act for who imports.
	ActAs record.ActAs
	// MaxImport is the size of the largest file that is taken, in bytes; zero is
	// DefaultMaxImport.
	MaxImport int64
	// RequestID names the request of a context to callers who are not signed in.
	RequestID func(context.Context) string
}

type handler struct {
	Config

	rest rest.Endpoint
}

// NewHandler serves POST /import. The actor is expected in the context of each
// request (actor.With).
func NewHandler(c Config) http.Handler {
	if c.MaxImport == 0 {
		c.MaxImport = DefaultMaxImport
	}
	h := &handler{c, rest.Endpoint{Control: c.Control, Log: c.Log, RequestID: c.RequestID}}
	mux := http.NewServeMux()
	mux.Handle("POST /import", h.rest.SignedIn(h.take)) // each batch is judged by the policy as it is then
	return mux
}

// take imports the file of a form.
func (h *handler) take(w http.ResponseWriter, r *http.Request) (err error) {
	f := &form{handler: h}
	defer func() {
		if f.path != "" {
			err = errors.Join(err, os.Remove(f.path))
		}
	}()
	if err := f.read(w, r); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	l := &lines{w: w, gone: stop}
	var ticking sync.WaitGroup
	ticking.Go(func() { l.tick(ctx) })
	report, err := importer.Run(ctx, importer.Config{
		DB: h.DB, Records: h.Records, Control: h.Control, Audit: h.Audit, Now: h.Now, ActAs: h.ActAs,
		As: f.as, Path: f.path, Map: f.columns, Set: f.set, MarkDeleted: f.markDeleted, Timezone: f.timezone, DryRun: f.dryRun, Counted: l.tell,
	})
	stop()
	ticking.Wait()
	if r.Context().Err() != nil {
		return nil // what was committed stays
	}
	last := map[string]any{"report": summary(&report)}
	if err != nil {
		err = refusal(err)
		if !l.begun {
			return err
		}
		_, last["errors"] = h.rest.Problems(r, err)
	}
	l.write(last)
	return nil
}

// refusal is what a client is told of an import that did not come to its end.
func refusal(err error) error {
	var wrong *importer.UsageError
	var file *importer.FileError
	var row *table.RowError
	switch {
	case errors.As(err, &wrong):
		return record.Refuse(lifecycle.BadUserInput, wrong.Error())
	case errors.Is(err, importer.ErrNothing), errors.Is(err, table.ErrEmpty), errors.Is(err, table.ErrHeader), errors.As(err, &row):
		return record.Refuse(lifecycle.BadUserInput, "nothing in the file could be read", fileField)
	case errors.As(err, &file): // whose words are about our file, not the client's
		return record.Refuse(lifecycle.BadUserInput, "the file is not what its name says", fileField)
	}
	return err
}

// lines writes an answer of lines of JSON, of which the first says that it has begun.
type lines struct {
	mu     sync.Mutex
	w      http.ResponseWriter
	gone   func()
	counts importer.Counts
	begun  bool
}

// tick repeats how far the import is, so that no client waits for longer.
func (l *lines) tick(ctx context.Context) {
	ticker := time.NewTicker(tellEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.mu.Lock()
			counts := l.counts
			l.mu.Unlock()
			l.write(counts)
		}
	}
}

func (l *lines) tell(counts importer.Counts) {
	l.mu.Lock()
	l.counts = counts
	l.mu.Unlock()
	l.write(counts)
}

func (l *lines) write(v any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.begun {
		l.w.Header().Set("Content-Type", "application/x-ndjson")
		l.w.Header().Set("X-Accel-Buffering", "no") // a proxy that waits for the end keeps the lines from whom they are for
		l.w.WriteHeader(http.StatusOK)
		l.begun = true
	}
	line, err := json.Marshal(v)
	if err == nil {
		_, err = l.w.Write(append(line, '\n'))
	}
	if err == nil {
		err = http.NewResponseController(l.w).Flush()
	}
	if err != nil {
		l.gone()
	}
}

// described is a report as the last line has it.
type described struct {
	DryRun bool `json:"dryRun"`
	importer.Counts

	UnusedColumns []string            `json:"unusedColumns,omitempty"`
	Deletions     []importer.Deletion `json:"deletions,omitempty"`
	Failures      []failure           `json:"failures"`
	// More is how many failed beside these.
	More int `json:"more"`
}

type failure struct {
	Row    int    `json:"row,omitempty"`
	Name   string `json:"name,omitempty"` // of a mail
	Code   string `json:"code"`
	Reason string `json:"reason"`
}

func summary(report *importer.Report) described {
	out := described{
		DryRun: report.DryRun, Counts: report.Counts(), UnusedColumns: report.UnusedColumns, Deletions: report.Deletions, Failures: []failure{},
	}
	for _, item := range report.Items {
		if item.Outcome == importer.Failed || item.Outcome == importer.NotDeleted {
			out.Failures = append(out.Failures, failure{item.Line, item.Name, item.Code, item.Reason})
		}
	}
	out.More = out.Failed - len(out.Failures)
	return out
}
