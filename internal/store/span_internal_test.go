package store

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

const someQuery = `SELECT a, b FROM customers WHERE name = ?`

func TestWithoutATracerStatementsCostNothing(t *testing.T) {
	db := &DB{trace: func(string) {}}
	ctx, queue := t.Context(), []queued{{query: someQuery}, {query: someQuery}}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		db.span(ctx, "", someQuery)(nil)
		db.spanOf(ctx, queue)(nil)
	}))
	require.IsType(t, traced{}, db.watched(sqliteSession{}), "and are not wrapped")
}

func TestWhatIsNotTracedAlreadyHasNoSpans(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept))
	db := &DB{tracer: provider.Tracer("test")}
	require.Zero(t, testing.AllocsPerRun(100, func() { db.span(t.Context(), "", someQuery)(nil) }))
	require.Empty(t, kept.GetSpans())

	ctx, request := provider.Tracer("test").Start(t.Context(), "request")
	db.span(ctx, "", someQuery)(errors.New("secret"))
	request.End()
	spans := kept.GetSpans()
	require.Len(t, spans, 2)
	require.Equal(t, "SELECT customers", spans[0].Name)
	require.Equal(t, request.SpanContext().SpanID(), spans[0].Parent.SpanID())
	require.Empty(t, spans[0].Status.Description, "the text of an error may hold values")
}

func TestStatementsAreNamedByWhatTheyDo(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		someQuery: "SELECT customers",
		"SELECT `a`.`b` FROM `customers` WHERE x":      "SELECT customers",
		`INSERT INTO "audit_events" ("id") VALUES (?)`: "INSERT audit_events",
		`update deals set x = 1`:                       "UPDATE deals",
		"\n\tDELETE FROM notes":                        "DELETE notes",
		`SELECT 1`:                                     "SELECT",
		`SELECT x FROM (SELECT 1)`:                     "SELECT",
		`WITH x AS (SELECT 1 FROM tasks) SELECT`:       "WITH tasks",
		``:                                             "statement",
		`FROM`:                                         "FROM",
	} {
		require.Equal(t, want, summary(query), query)
	}
	require.LessOrEqual(t, len(shortened(strings.Repeat("я", maxStatement))), maxStatement+len("..."))
}

func BenchmarkSpanWithoutTracer(b *testing.B) {
	db := &DB{}
	b.ReportAllocs()
	for b.Loop() {
		db.span(b.Context(), "", someQuery)(nil)
	}
}
