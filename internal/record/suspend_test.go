package record_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent/message"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// suspend suspends records for an hour.
func (w *world) suspension(then string, ids ...gid.ID) record.Request {
	until := w.clock.now().Add(time.Hour)
	return record.Request{Verb: lifecycle.Suspend, Select: record.Selection{IDs: ids}, Until: &until, Then: then, Mode: record.BestEffort}
}

func (w *world) wakes(want int) {
	w.t.Helper()
	n, err := w.svc.Wake(w.everything())
	require.NoError(w.t, err)
	require.Equal(w.t, want, n)
}

func TestASuspendedRecordLeavesWhatItOwnsAndStaysEditable(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		m := w.message("agent", c, "m")
		d := w.deal("agent", c, "d")
		op := w.run("agent", w.suspension("", c))
		require.Equal(w.t, map[gid.ID]string{c: "CHANGED"}, w.outcomes(op))
		require.Equal(w.t, []lifecycle.State{"SUSPENDED", "ACTIVE", "ACTIVE"}, w.states(c, m, d))
		row, err := w.svc.Update(w.as("agent"), c, w.get(c).RecordVersion(), record.Values{"name": "b"})
		require.NoError(w.t, err)
		require.Equal(w.t, lifecycle.Suspended, row.RecordState())
		w.message("agent", c, "another may be written below it")
		require.Equal(w.t, "CHANGED", w.outcomes(w.restore("agent", c))[c])
		row = w.get(c)
		for _, column := range []string{"suspended_until", "suspended_then", "operation_id", "prior_state", "state_reason"} {
			require.Nil(w.t, row.Column(column), column)
		}
		w.eventsMatchChanges()
	})
}

func TestSuspendingAgainSetsAnotherEndOnly(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		first := w.run("agent", w.suspension("", c))
		before := w.get(c)
		again := w.suspension(record.ThenDelete, c)
		later := again.Until.Add(48 * time.Hour)
		again.Until = &later
		op := w.run("agent", again)
		require.Equal(w.t, map[gid.ID]string{c: "CHANGED"}, w.outcomes(op))
		after := w.get(c)
		require.Equal(w.t, first.ID, after.Column("operation_id"))
		for _, column := range []string{"state", "state_changed_at", "prior_state"} {
			require.Equal(w.t, before.Column(column), after.Column(column), column)
		}
		require.True(w.t, later.Truncate(time.Microsecond).Equal(after.Column("suspended_until").(time.Time)))
		require.Equal(w.t, before.RecordVersion()+1, after.RecordVersion())
		require.Len(w.t, w.rows(`SELECT id FROM audit_events WHERE action = 'SUSPEND'`), 2)

		// The second operation put nothing into its state, so there is nothing of it to undo.
		undone, err := w.svc.Undo(w.as("agent"), op.ID, record.Request{})
		require.NoError(w.t, err)
		require.Zero(w.t, undone.Changed)
		undone, err = w.svc.Undo(w.as("agent"), first.ID, record.Request{})
		require.NoError(w.t, err)
		require.Equal(w.t, 1, undone.Changed)
		require.Equal(w.t, lifecycle.Active, w.state(c))
	})
}

func TestASuspensionEndsByTheClockAsWasChosen(t *testing.T) {
	each(t, func(w *world) {
		back, gone, kept, longer := w.customer("agent", "back"), w.customer("agent", "gone"), w.customer("agent", "kept"), w.customer("agent", "longer")
		w.deal("agent", kept, "a deal that keeps it")
		w.run("agent", w.suspension(record.ThenRestore, back))
		w.run("agent", w.suspension(record.ThenDelete, gone, kept))
		w.wakes(0)
		w.clock.add(30 * time.Minute)
		w.run("agent", w.suspension(record.ThenRestore, longer))
		w.clock.add(31 * time.Minute)
		w.wakes(3)
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "DELETED", "ACTIVE", "SUSPENDED"}, w.states(back, gone, kept, longer))
		require.NotNil(w.t, w.get(gone).Column("purge_after"))
		w.wakes(0)
		require.Equal(w.t, []string{"DELETE", "RESTORE"}, w.rows(`SELECT DISTINCT verb FROM operations WHERE actor_id IS NULL ORDER BY verb`))
		// What came out of a suspension into the bin goes back to it, and it is over.
		require.Equal(w.t, "CHANGED", w.outcomes(w.restore("agent", gone))[gone])
		require.Equal(w.t, lifecycle.Active, w.state(gone))
		w.eventsMatchChanges()
	})
}

func TestTimersDoNotTouchWhatIsRetiredOrArchived(t *testing.T) {
	each(t, func(w *world) {
		deleted, archived, early := w.customer("agent", "a"), w.customer("agent", "b"), w.customer("agent", "c")
		w.run("agent", w.suspension(record.ThenDelete, deleted, archived, early))
		w.delete("agent", deleted)
		w.run("agent", record.Request{Verb: lifecycle.Archive, Select: record.Selection{IDs: []gid.ID{archived}}})
		w.delete("agent", early)
		require.Equal(w.t, "CHANGED", w.outcomes(w.restore("agent", early))[early])
		require.Equal(w.t, lifecycle.Suspended, w.state(early), "it has not run out yet")
		w.clock.add(2 * time.Hour)
		w.wakes(1)
		require.Equal(w.t, []lifecycle.State{"DELETED", "ARCHIVED", "DELETED"}, w.states(deleted, archived, early))
		for _, id := range []gid.ID{deleted, archived} {
			require.Equal(w.t, "CHANGED", w.outcomes(w.restore("agent", id))[id])
			row := w.get(id)
			require.Equal(w.t, lifecycle.Active, row.RecordState(), "a suspension that ran out meanwhile is over")
			for _, column := range []string{"suspended_until", "suspended_then", "operation_id", "prior_state"} {
				require.Nil(w.t, row.Column(column), column)
			}
		}
		w.wakes(0)
		w.eventsMatchChanges()
	})
}

func TestAnInboundMessageWakesItsThread(t *testing.T) {
	each(t, func(w *world) {
		arrives := func(as, thread, direction string, sent time.Time) gid.ID {
			return w.create(as, "Message", record.Values{"subject": "s", "threadKey": thread, "direction": message.Direction(direction), "sentAt": sent}).RecordID()
		}
		now := w.clock.now()
		one, two, other := arrives("agent", "t", "OUTBOUND", now), arrives("agent", "t", "INBOUND", now), arrives("agent", "u", "OUTBOUND", now)
		theirs := arrives("agent2", "t", "OUTBOUND", now)
		w.run("agent", w.suspension(record.ThenDelete, one, two, other))
		w.run("agent2", w.suspension(record.ThenDelete, theirs))
		arrives("agent", "t", "OUTBOUND", w.clock.now())
		arrives("agent", "t", "INBOUND", now.Add(-time.Hour)) // old mail that is imported late
		require.Equal(w.t, []lifecycle.State{"SUSPENDED", "SUSPENDED", "SUSPENDED", "SUSPENDED"}, w.states(one, two, other, theirs))
		arrives("agent", "t", "INBOUND", w.clock.now())
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "ACTIVE", "SUSPENDED", "ACTIVE"}, w.states(one, two, other, theirs))
		require.Equal(w.t, []string{"RESTORE"}, w.rows(`SELECT verb FROM operations WHERE actor_id IS NULL`), "the system does it, once")
		w.eventsMatchChanges()
	})
}

func TestASuspensionNeedsAnEndThatIsToCome(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		past, far := w.clock.now().Add(-time.Second), time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
		for _, change := range []func(*record.Request){
			func(r *record.Request) { r.Until = nil },
			func(r *record.Request) { r.Until = &past },
			func(r *record.Request) { r.Until = &far },
			func(r *record.Request) { r.Then = "PURGE" },
		} {
			req := w.suspension("", c)
			change(&req)
			_, err := w.svc.Run(w.as("agent"), req)
			require.Equal(w.t, lifecycle.BadUserInput, code(err))
		}
		w.run("agent", record.Request{Verb: lifecycle.Archive, Select: record.Selection{IDs: []gid.ID{c}}})
		require.Equal(w.t, "FAILED ILLEGAL_TRANSITION", w.outcomes(w.run("agent", w.suspension("", c)))[c])
	})
}
