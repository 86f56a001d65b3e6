package store

import (
	"context"
	"strings"

	entsql "entgo.io/ent/dialect/sql"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// maxStatement is how much of a statement a span has.
const maxStatement = 2_000

// WithTracer makes a span of every statement, and of the beginning and the end of
// transactions, within what is traced already: what the server asks by itself while
// it waits would else be a trace each time. Spans have the text of a statement and
// none of its arguments.
func WithTracer(tracer trace.Tracer) Option { return func(db *DB) { db.tracer = tracer } }

// idle ends no span.
func idle(error) {}

// span begins a span in the context and answers what ends it. Without a tracer it
// costs a comparison.
func (db *DB) span(ctx context.Context, name, query string) (end func(error)) {
	if db.tracer == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return idle
	}
	if name == "" {
		name = summary(query)
	}
	attributes := make([]attribute.KeyValue, 0, 2)
	attributes = append(attributes, attribute.String("db.system.name", db.system()))
	if query != "" {
		attributes = append(attributes, attribute.String("db.query.text", shortened(query)))
	}
	_, span := db.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...)) //nolint:spancheck // who asked for it ends it
	return func(err error) {                                                                                             //nolint:spancheck // as said
		if err != nil { // its text may hold values
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// spanOf is span for statements that are sent together.
func (db *DB) spanOf(ctx context.Context, queue []queued) (end func(error)) {
	if db.tracer == nil {
		return idle
	}
	texts := make([]string, len(queue))
	for i, q := range queue {
		texts[i] = q.query
	}
	name := "BATCH"
	if len(queue) == 1 {
		name = ""
	}
	return db.span(ctx, name, strings.Join(texts, ";\n"))
}

func (db *DB) system() string {
	if db.pool != nil {
		return "postgresql"
	}
	return "sqlite"
}

func shortened(query string) string {
	if len(query) <= maxStatement {
		return query
	}
	return strings.ToValidUTF8(query[:maxStatement], "") + "..."
}

// summary is a statement in few words: what it does, and to which table.
func summary(query string) string {
	words := strings.Fields(shortened(query))
	if len(words) == 0 {
		return "statement"
	}
	verb := strings.ToUpper(words[0])
	for i, word := range words[:len(words)-1] {
		switch strings.ToUpper(word) {
		case "FROM", "INTO", "UPDATE", "COPY":
			if table := strings.Trim(words[i+1], "`\"(),;"); isName(table) {
				return verb + " " + table
			}
		}
	}
	return verb
}

func isName(word string) bool {
	return word != "" && !strings.ContainsFunc(word, func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' })
}

// spanned is a session whose statements are spans.
type spanned struct {
	session

	db *DB
}

// watched is a session as the options of the database have it.
func (db *DB) watched(s session) session {
	s = traced{s, db.trace}
	if db.tracer == nil {
		return s
	}
	return spanned{s, db}
}

func (s spanned) exec(ctx context.Context, query string, args []any) (n int64, err error) {
	end := s.db.span(ctx, "", query)
	n, err = s.session.exec(ctx, query, args)
	end(err)
	return n, err
}

func (s spanned) query(ctx context.Context, query string, args []any, scan func(Row) error) error {
	end := s.db.span(ctx, "", query)
	err := s.session.query(ctx, query, args, scan)
	end(err)
	return err
}

func (s spanned) rows(ctx context.Context, query string, args []any) (entsql.ColumnScanner, error) {
	end := s.db.span(ctx, "", query)
	rows, err := s.session.rows(ctx, query, args)
	if err != nil {
		end(err)
		return nil, err
	}
	return &spannedRows{ColumnScanner: rows, end: end}, nil
}

// spannedRows end their span when they are closed.
type spannedRows struct {
	entsql.ColumnScanner

	end func(error)
}

// Close implements ent's ColumnScanner.
func (r *spannedRows) Close() error {
	err := r.ColumnScanner.Close()
	r.end(r.Err())
	r.end = idle
	return err
}
