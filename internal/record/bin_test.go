package record_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

func TestEmptyingTheBinPurgesWhatItShows(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.customer("agent", "a"), w.customer("agent", "b")
		p, m, early := w.contact("agent", a, "p"), w.message("agent", a, "m"), w.message("agent", a, "early")
		voided := w.customer("agent", "voided")
		w.void("manager", voided)
		w.delete("agent", early)
		w.delete("agent", a)
		theirs := w.customer("agent2", "theirs")
		w.delete("agent2", theirs)
		empty := func(n int, bin record.Bin) record.Request {
			return record.Request{Verb: lifecycle.Purge, Select: record.Selection{Bin: &bin}, ExpectedCount: &n}
		}
		_, err := w.svc.Run(w.as("purger"), empty(5, record.Bin{}))
		require.Equal(w.t, lifecycle.Conflict, code(err))
		require.Equal(w.t, map[string]any{"expected": 5, "actual": 3}, extensions(err), "the tops of the bin")
		_, err = w.svc.Run(w.as("agent"), empty(2, record.Bin{}))
		require.Equal(w.t, lifecycle.Forbidden, code(err))

		by := w.users["agent2"]
		op := w.run("purger", empty(1, record.Bin{DeletedBy: &by}))
		require.Equal(w.t, map[gid.ID]string{theirs: "CHANGED"}, w.outcomes(op))
		op = w.run("purger", empty(1, record.Bin{Types: []string{"Message"}}))
		require.Equal(w.t, map[gid.ID]string{early: "CHANGED"}, w.outcomes(op))
		op = w.run("purger", empty(0, record.Bin{Types: []string{}}))
		require.Zero(w.t, op.Total)
		op = w.run("purger", empty(1, record.Bin{}))
		require.Equal(w.t, map[gid.ID]string{a: "CHANGED", p: "CHANGED along", m: "CHANGED along"}, w.outcomes(op))
		require.Equal(w.t, lifecycle.Purge, op.Verb)
		require.Equal(w.t, []lifecycle.State{"", "", "", "", "", lifecycle.Active, lifecycle.Voided}, w.states(a, p, m, early, theirs, b, voided))
		w.eventsMatchChanges()
	})
}

func TestAFullBinIsEmptiedByAJob(t *testing.T) {
	large(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		ids := append(w.people("admin", "x", record.MaxRows-1), w.people("admin", "y", 2)...)
		w.delete("admin", ids[:record.MaxRows-1]...)
		w.delete("admin", ids[record.MaxRows-1:]...)
		n := len(ids)
		op := w.run("purger", record.Request{Verb: lifecycle.Purge, Select: record.Selection{Bin: &record.Bin{}}, ExpectedCount: &n})
		require.Equal(w.t, lifecycle.Deleted, w.state(ids[0]))
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", n, n, n, 0, 0}, w.counters(op.ID))
		require.Equal(w.t, []string{"0"}, w.rows(`SELECT COUNT(*) FROM customers`))
	})
}
