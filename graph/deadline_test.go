package graph_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lethe-crm/lethe/graph"
)

// hurry builds the API anew with a time limit, and has statements that begin with a verb and name a table sent once that has run out.
func (w *world) hurry(limit time.Duration, verb, table string) {
	w.t.Helper()
	var err error
	config := graph.Config{DB: w.db, Control: w.control, Records: w.records, People: w.people, Exports: w.exports, Notify: w.notify, Audit: w.audit, Log: w.logger, Timeout: limit}
	w.handler, err = graph.NewHandler(config)
	w.NoError(err)
	w.sql.before = func(q string) {
		if !strings.HasPrefix(q, verb) || !strings.Contains(q, table) {
			return
		}
		// The operation's limit is over by then, and whoever waits for that has noticed.
		ctx, cancel := context.WithTimeout(context.Background(), 2*limit)
		defer cancel()
		<-ctx.Done()
	}
}

func TestAnOperationThatTakesTooLongEndsAndChangesNothing(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("admin", "slow")
		w.hurry(500*time.Millisecond, "UPDATE", "customers")
		a := w.ask("admin", fmt.Sprintf(`mutation {
			createCustomer(input: {name: "first"}) { customer { id } }
			updateCustomer(input: {id: %q, version: 1, name: "x"}) { customer { id } }
		}`, c))
		w.Equal("QUERY_LIMIT", a.code(), a.raw)
		w.Len(a.Errors, 1)
		w.Contains(a.raw, "took too long")
		w.NotContains(a.raw, `"data"`)
		w.sql.before = nil
		got := get[object](w, "admin", `{ customers(first: 10) { nodes { name version } } }`)
		w.Equal([]any{object{"name": "slow", "version": 1.0}}, at(got, "customers", "nodes"), "what was created before is gone, too")
	})
}

func TestAQueryThatTakesTooLongIsNotHalfAnswered(t *testing.T) {
	each(t, func(w *world) {
		w.customer("admin", "slow")
		w.hurry(500*time.Millisecond, "SELECT", "deals")
		a := w.ask("admin", `{ customers(first: 1) { nodes { name } } deals(first: 1) { nodes { name } } }`)
		w.Equal("QUERY_LIMIT", a.code(), a.raw)
		w.Len(a.Errors, 1)
		w.NotContains(a.raw, `"data"`)
		w.NotContains(w.log.String(), "level=ERROR")
	})
}
