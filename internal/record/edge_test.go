package record_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

func TestAMessageHasManyAnswersAndKeepsItsOwn(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		question := w.message("agent", c, "q")
		for range 2 {
			w.create("agent", "Message", record.Values{"sentAt": w.db.Now(), "customerID": c, "inReplyToID": question})
		}
		require.Nil(w.t, w.get(question).Column("in_reply_to_id"))
		require.Equal(w.t, 1, w.get(question).RecordVersion())
		w.eventsMatchChanges()
	})
}

func TestAPurgeIsJudgedByThePolicyAsItIsNow(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.delete("agent", c)
		ctx := w.as("purger")
		pinned, err := w.svc.Pin(ctx)
		require.NoError(w.t, err)
		w.policy.mu.Lock()
		w.policy.v++
		var kept []casbin.Rule
		for _, r := range w.policy.rules[w.tenant.String()] {
			if !strings.Contains(r.String(), "purge") {
				kept = append(kept, r)
			}
		}
		w.policy.rules[w.tenant.String()] = kept
		w.policy.mu.Unlock()
		_, err = w.svc.Run(pinned, record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: []gid.ID{c}}})
		require.Equal(w.t, lifecycle.Forbidden, code(err))
		require.Equal(w.t, lifecycle.Deleted, w.state(c))
	})
}

func TestALeaversCustomersCanBeAddedTo(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent2", "a")
		w.exec(`UPDATE users SET active = ? WHERE id = ?`, false, w.users["agent2"])
		m := w.create("admin", "Message", record.Values{"sentAt": w.db.Now(), "customerID": c})
		require.Nil(w.t, m.Column("owner_id"))
		require.Equal(w.t, w.support, m.Column("team_id"))
	})
}

func TestRestoresThatMeetDoNotDeadlock(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		var messages []gid.ID
		for range 6 {
			messages = append(messages, w.message("agent", c, "m"))
		}
		w.delete("agent", c)
		var wg sync.WaitGroup
		for i, m := range messages {
			wg.Go(func() {
				req := record.Request{Verb: lifecycle.Restore, WithAncestors: true, Select: record.Selection{IDs: []gid.ID{m}}}
				if i%2 == 0 {
					req = record.Request{Verb: lifecycle.Restore, Select: record.Selection{IDs: []gid.ID{c, m}}}
				}
				if _, err := w.svc.Run(w.as("agent"), req); err != nil {
					w.t.Errorf("restoring: %v", err)
				}
			})
		}
		wg.Wait()
		w.noLiveRowBelowARetiredOwner()
		w.eventsMatchChanges()
	})
}

func TestManyPurgesAtOnceDoNotWaitForOneAnother(t *testing.T) {
	each(t, func(w *world) {
		var ids []gid.ID
		for i := range 30 {
			ids = append(ids, w.customer("agent", fmt.Sprint("c", i)))
		}
		w.delete("agent", ids...)
		var wg sync.WaitGroup
		for _, id := range ids {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(w.as("purger"), 20*time.Second)
				defer cancel()
				if _, err := w.svc.Run(ctx, record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: []gid.ID{id}}}); err != nil {
					w.t.Errorf("purging: %v", err)
				}
			})
		}
		wg.Wait()
		require.Empty(w.t, w.rows(`SELECT id FROM customers WHERE tenant_id = ?`, w.tenant))
	})
}

func TestAClearedValueStaysClearedOnAMove(t *testing.T) {
	each(t, func(w *world) {
		c, o := w.customer("agent", "a"), w.customer("agent", "b")
		p := w.contact("agent", c, "p")
		_, err := w.svc.Update(w.as("agent"), p, 1, record.Values{"customerID": o, "email": nil})
		require.NoError(w.t, err)
		require.Nil(w.t, w.get(p).Column("email_key"))
	})
}

func TestAnUndoThatFailsCanBeTriedAgain(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		op := w.delete("agent", c)
		twin := w.customer("agent", "a")
		undo, err := w.svc.Undo(w.as("agent"), op.ID, record.Request{})
		require.NoError(w.t, err)
		require.Equal(w.t, "FAILED UNIQUE_CONFLICT", w.outcomes(undo)[c])
		require.Equal(w.t, []string{""}, w.rows(`SELECT undone_by_id FROM operations WHERE id = ?`, op.ID))
		w.delete("agent", twin)
		undo, err = w.svc.Undo(w.as("agent"), op.ID, record.Request{})
		require.NoError(w.t, err)
		require.Equal(w.t, 1, undo.Changed)
		require.Equal(w.t, []string{undo.ID.UUID()}, w.rows(`SELECT undone_by_id FROM operations WHERE id = ?`, op.ID))
	})
}

func TestAnUndoLeavesWhatIsPurgedAlone(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.customer("agent", "a"), w.customer("agent", "b")
		op := w.delete("admin", a, b)
		w.purge("purger", b)
		undo, err := w.svc.Undo(w.as("admin"), op.ID, record.Request{})
		require.NoError(w.t, err)
		require.Equal(w.t, map[gid.ID]string{a: "CHANGED", b: "UNCHANGED GONE"}, w.outcomes(undo))
		require.Equal(w.t, lifecycle.Active, w.state(a))
	})
}

func TestArchivedRecordsAreMendedAgainstLiveTwins(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.customer("agent", "b")
		w.run("agent", record.Request{Verb: lifecycle.Archive, Select: record.Selection{IDs: []gid.ID{c}}})
		restore := record.Request{Verb: lifecycle.Restore, Select: record.Selection{IDs: []gid.ID{c}}, Overrides: map[gid.ID]map[string]string{c: {"email": "b@example.com"}}}
		require.Equal(w.t, "FAILED UNIQUE_CONFLICT", w.outcomes(w.run("agent", restore))[c])
		restore.Overrides = nil
		require.Equal(w.t, "CHANGED", w.outcomes(w.run("agent", restore))[c])
	})
}

func TestAnOrphanNeedsAnOwnerToGoAnywhere(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		m := w.message("agent", c, "m")
		w.void("manager", m)
		w.delete("manager", m)
		w.delete("agent", c)
		w.purge("purger", c)
		require.Equal(w.t, "FAILED PARENT_RETIRED", w.outcomes(w.restore("manager", m))[m])
		require.Equal(w.t, lifecycle.Deleted, w.state(m))
	})
}

func TestARecordWithANewOwnerGoesItsOwnWay(t *testing.T) {
	each(t, func(w *world) {
		c, o := w.customer("manager", "a"), w.customer("manager", "b")
		m := w.message("manager", c, "m")
		w.void("manager", c)
		w.delete("manager", m)
		op := w.run("manager", record.Request{Verb: lifecycle.Restore, NewParentID: &o, Select: record.Selection{IDs: []gid.ID{m}}})
		require.Equal(w.t, "CHANGED", w.outcomes(op)[m])
		w.delete("manager", o)
		require.Equal(w.t, 1, w.restore("manager", c).Changed, "without what is another's by now")
	})
}

func TestStatesNarrowAndNeverWiden(t *testing.T) {
	each(t, func(w *world) {
		live, gone := w.customer("agent", "a"), w.customer("agent", "b")
		w.delete("agent", gone)
		none := 0
		op := w.run("agent", record.Request{
			Verb: lifecycle.Delete, States: []lifecycle.State{lifecycle.Deleted}, ExpectedCount: &none,
			Select: record.Selection{Filter: &record.Filter{Type: "Customer", Where: nothingMore, Comparisons: 1}},
		})
		require.Zero(w.t, op.Total)
		require.Equal(w.t, lifecycle.Active, w.state(live))
	})
}

func TestWhatOneOperationSaysOfAnother(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.customer("agent", "a"), w.customer("agent", "b")
		for name, req := range map[string]record.Request{
			"duplicateOf":    {Verb: lifecycle.Void, Reason: "r", DuplicateOf: &a, Select: record.Selection{IDs: []gid.ID{a}}},
			"overrides":      {Verb: lifecycle.Restore, Overrides: map[gid.ID]map[string]string{b: {"email": "x@y.z"}}, Select: record.Selection{IDs: []gid.ID{a}}},
			"reason":         {Verb: lifecycle.Void, Select: record.Selection{IDs: []gid.ID{a}}},
			"idempotencyKey": {Verb: lifecycle.Delete, IdempotencyKey: "a\x00", Select: record.Selection{IDs: []gid.ID{a}}},
			"select":         {Verb: lifecycle.Delete, Select: record.Selection{Versions: []record.Version{{ID: a}}}},
		} {
			_, err := w.svc.Run(w.as("manager"), req)
			require.Equal(w.t, lifecycle.BadUserInput, code(err), name)
			require.Equal(w.t, []string{name}, fields(err))
		}
		op := w.run("manager", record.Request{Verb: lifecycle.Void, Reason: "r", DuplicateOf: &a, Select: record.Selection{IDs: []gid.ID{b}}})
		require.Equal(w.t, 1, op.Changed)
	})
}

func TestTimesAndAmountsAreAnsweredAsTheyAreKept(t *testing.T) {
	each(t, func(w *world) {
		at := time.Date(2026, 5, 1, 12, 0, 0, 123_456_789, time.FixedZone("east", 3*3600))
		m := w.create("agent", "Message", record.Values{"sentAt": at})
		require.Equal(w.t, at.UTC().Truncate(time.Microsecond), m.Column("sent_at"))
		require.Equal(w.t, m.Column("sent_at"), w.get(m.RecordID()).Column("sent_at"))
		d := w.create("agent", "Deal", record.Values{"name": "d", "amount": 0.123456})
		require.InDelta(w.t, 0.1235, d.Column("amount"), 0)
		require.Equal(w.t, d.Column("amount"), w.get(d.RecordID()).Column("amount"))
		for _, values := range []record.Values{
			{"sentAt": time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("west", -12*3600))},
			{"sentAt": at, "messageID": strings.Repeat("猫", 400)},
			{"sentAt": at, "recipients": []map[string]any{{"address": "a@b.c", "kind": "XX"}}},
		} {
			_, err := w.svc.Create(w.as("agent"), "Message", values)
			require.Equal(w.t, lifecycle.BadUserInput, code(err), "%v", values)
		}
		_, err := w.svc.Create(w.as("agent"), "Deal", record.Values{"name": "d", "amount": 1e20})
		require.Equal(w.t, lifecycle.BadUserInput, code(err))
	})
}

func nothingMore(*sql.Selector) {}
