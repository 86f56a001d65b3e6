package record_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

func code(err error) lifecycle.Code {
	if e, ok := errors.AsType[*record.Error](err); ok {
		return e.Code
	}
	return ""
}

func fields(err error) []string {
	if e, ok := errors.AsType[*record.Error](err); ok {
		return e.Fields
	}
	return nil
}

func TestRestoringACustomerLeavesWhatWasDeletedBeforeInTheBin(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		p, m1, m2 := w.contact("agent", c, "p"), w.message("agent", c, "one"), w.message("agent", c, "two")
		w.delete("agent", m1)
		op := w.delete("agent", c)
		require.Equal(w.t, map[gid.ID]string{c: "CHANGED", p: "CHANGED along", m2: "CHANGED along"}, w.outcomes(op))
		require.Equal(w.t, []lifecycle.State{"DELETED", "DELETED", "DELETED", "DELETED"}, w.states(c, p, m1, m2))

		op = w.restore("agent", c)
		require.Equal(w.t, map[gid.ID]string{c: "CHANGED", p: "CHANGED along", m2: "CHANGED along"}, w.outcomes(op))
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "ACTIVE", "DELETED", "ACTIVE"}, w.states(c, p, m1, m2))
		require.Equal(w.t, []string{""}, w.rows(`SELECT operation_id FROM customers WHERE id = ?`, c))
		w.eventsMatchChanges()
	})
}

func TestVoidDeleteRestoreRestoreEndsWhereItBegan(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		p := w.contact("agent", c, "p")
		w.void("manager", c)
		w.delete("manager", c)
		require.Equal(w.t, []lifecycle.State{"DELETED", "DELETED"}, w.states(c, p))
		w.restore("manager", c)
		require.Equal(w.t, []lifecycle.State{"VOIDED", "VOIDED"}, w.states(c, p))
		require.Equal(w.t, []string{"out of business"}, w.rows(`SELECT state_reason FROM customers WHERE id = ?`, c))
		require.Equal(w.t, []string{w.users["manager"].UUID()}, w.rows(`SELECT state_changed_by_id FROM customers WHERE id = ?`, c))
		w.restore("manager", c)
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "ACTIVE"}, w.states(c, p))
		require.Equal(w.t, []string{""}, w.rows(`SELECT state_reason FROM contacts WHERE id = ?`, p))
		require.Equal(w.t, []string{""}, w.rows(`SELECT retired_at FROM contacts WHERE id = ?`, p))
		require.Equal(w.t, []string{""}, w.rows(`SELECT prior_state FROM contacts WHERE id = ?`, p))
		w.eventsMatchChanges()
	})
}

func TestRepeatingAVerbChangesNothing(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.delete("agent", c)
		before := w.get(c)
		op := w.delete("agent", c, c)
		require.Equal(w.t, 2, op.Unchanged)
		require.Equal(w.t, before.RecordVersion(), w.get(c).RecordVersion())
		require.Equal(w.t, before.Column("purge_after"), w.get(c).Column("purge_after"))
		w.eventsMatchChanges()
	})
}

func TestADealKeepsItsCustomerUnlessCascaded(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		d := w.deal("agent", c, "d")
		op := w.delete("agent", c)
		require.Equal(w.t, "FAILED", string(op.Status))
		require.Equal(w.t, "FAILED HAS_DEPENDENTS", w.outcomes(op)[c])
		require.Equal(w.t, lifecycle.Active, w.state(c))

		op = w.run("agent", record.Request{Verb: lifecycle.Delete, Cascade: true, Select: record.Selection{IDs: []gid.ID{c}}})
		require.Equal(w.t, map[gid.ID]string{c: "CHANGED", d: "CHANGED along"}, w.outcomes(op))
		w.restore("agent", c)
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "ACTIVE"}, w.states(c, d))

		// Picked together nothing blocks.
		op = w.delete("agent", c, d)
		require.Equal(w.t, 2, op.Changed)
	})
}

func TestWhatIsArchivedLivesAndKeepsItsCustomer(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		d := w.deal("agent", c, "d")
		archive := record.Request{Verb: lifecycle.Archive, Select: record.Selection{IDs: []gid.ID{d}}}
		w.run("agent", archive)
		require.Equal(w.t, lifecycle.Archived, w.state(d))
		require.Equal(w.t, "FAILED HAS_DEPENDENTS", w.outcomes(w.delete("agent", c))[c])

		// In the bin it blocks no more; archiving is never blocked.
		w.delete("agent", d)
		require.Equal(w.t, "CHANGED", w.outcomes(w.delete("agent", c))[c])
		w.restore("agent", c)
		w.restore("agent", d)
		archive.Select.IDs = []gid.ID{c}
		require.Equal(w.t, map[gid.ID]string{c: "CHANGED"}, w.outcomes(w.run("agent", archive)))
		require.Equal(w.t, []lifecycle.State{"ARCHIVED", "ARCHIVED"}, w.states(c, d))
	})
}

func TestAllOrNothingAndBestEffort(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.customer("agent", "a"), w.customer("agent", "b")
		w.deal("agent", b, "d")
		op := w.delete("agent", a, b)
		require.Equal(w.t, map[gid.ID]string{a: "NOT_PROCESSED", b: "FAILED HAS_DEPENDENTS"}, w.outcomes(op))
		op = w.run("agent", record.Request{Verb: lifecycle.Delete, Mode: record.BestEffort, Select: record.Selection{IDs: []gid.ID{a, b}}})
		require.Equal(w.t, "PARTIAL", string(op.Status))
		require.Equal(w.t, []lifecycle.State{"DELETED", "ACTIVE"}, w.states(a, b))
		require.Len(w.t, w.rows(`SELECT id FROM audit_events WHERE outcome = 'REFUSED' AND action = 'DELETE'`), 2)
	})
}

func TestACallerNeedsTheActionOnEverythingThatComesAlong(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.create("manager", "Message", record.Values{"subject": "mine", "sentAt": w.db.Now(), "customerID": c, "ownerID": w.users["manager"]})
		op := w.delete("agent", c)
		require.Equal(w.t, "FAILED FORBIDDEN", w.outcomes(op)[c])
		require.Contains(w.t, w.rows(`SELECT params FROM operation_items WHERE operation_id = ?`, op.ID)[0], `"type":"Message"`)

		// What he may not read is not named.
		hidden := w.customer("agent", "b")
		m := w.message("admin", hidden, "secret")
		w.exec(`UPDATE messages SET owner_id = ?, team_id = ? WHERE id = ?`, w.users["agent2"], w.support, m)
		op = w.delete("agent", hidden)
		require.JSONEq(w.t, `[{"code":"FORBIDDEN","hidden":true}]`, w.rows(`SELECT params FROM operation_items WHERE operation_id = ?`, op.ID)[0])
	})
}

func TestWhatTheCallerMayNotSeeIsMissing(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent2", "a")
		op := w.delete("agent", c)
		require.Equal(w.t, "FAILED NOT_FOUND", w.outcomes(op)[c])
		op, err := w.svc.Run(w.as("stranger"), record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{c}}})
		require.NoError(w.t, err)
		require.Equal(w.t, "FAILED NOT_FOUND", w.outcomes(op)[c])
		require.Equal(w.t, lifecycle.Active, w.state(c))
	})
}

func TestAVerbThePolicyNeverAllowsIsRefusedAtTheTop(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		_, err := w.svc.Run(w.as("viewer"), record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{c}}})
		require.Equal(w.t, lifecycle.Forbidden, code(err))
		w.delete("agent", c)
		for _, who := range []string{"agent", "admin", "manager"} {
			_, err = w.svc.Run(w.as(who), record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: []gid.ID{c}}})
			require.Equal(w.t, lifecycle.Forbidden, code(err), who)
		}
		require.Len(w.t, w.rows(`SELECT id FROM audit_events WHERE outcome = 'REFUSED' AND code = 'FORBIDDEN'`), 4)
	})
}

func TestPurgeLeavesATombstoneAndNothingElse(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		m := w.message("agent", c, "one")
		live := w.customer("agent", "b")
		require.Equal(w.t, "FAILED NOT_RETIRED", w.outcomes(w.purge("purger", live))[live])
		w.delete("agent", c)
		op := w.purge("purger", c)
		require.Equal(w.t, map[gid.ID]string{c: "CHANGED", m: "CHANGED along"}, w.outcomes(op))
		require.Nil(w.t, w.get(c))
		require.Nil(w.t, w.get(m))
		require.Empty(w.t, w.rows(`SELECT id FROM recipients WHERE message_id = ?`, m))
		require.Equal(w.t, []string{"C-1"}, w.rows(`SELECT number FROM tombstones WHERE record_id = ?`, c))
		require.Equal(w.t, []string{"CREATE", "DELETE", "PURGE"}, w.rows(`SELECT action FROM audit_events WHERE record_id = ? ORDER BY id`, c))

		// Again it changes nothing; to others it was never there.
		op = w.purge("purger", c)
		require.Equal(w.t, "UNCHANGED", w.outcomes(op)[c])
		op = w.delete("agent", c)
		require.Equal(w.t, "FAILED NOT_FOUND", w.outcomes(op)[c])
		op = w.delete("admin", c)
		require.Equal(w.t, "FAILED GONE", w.outcomes(op)[c])

		// The number is never given out again.
		_, err := w.svc.Create(w.as("agent"), "Customer", record.Values{"name": "n", "number": "C-1"})
		require.Equal(w.t, lifecycle.UniqueConflict, code(err))
	})
}

func TestPurgeMakesOrphansOfWhatWasDeletedByItself(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		gone, voided := w.message("agent", c, "deleted"), w.message("agent", c, "voided")
		w.delete("agent", gone)
		w.void("manager", voided)
		clock := w.get(gone).Column("purge_after")
		w.delete("agent", c)
		w.purge("purger", c)
		for _, id := range []gid.ID{gone, voided} {
			r := w.get(id)
			require.NotNil(w.t, r)
			require.Nil(w.t, r.Column("customer_id"))
			require.NotNil(w.t, r.Column("orphaned_at"))
			require.NotNil(w.t, r.Column("purge_after"))
		}
		require.Equal(w.t, clock, w.get(gone).Column("purge_after"))
		require.Equal(w.t, "FAILED PARENT_RETIRED", w.outcomes(w.restore("agent", gone))[gone])
		home := w.customer("agent", "b")
		op := w.run("agent", record.Request{Verb: lifecycle.Restore, NewParentID: &home, Select: record.Selection{IDs: []gid.ID{gone}}})
		require.Equal(w.t, "CHANGED", w.outcomes(op)[gone])
		require.Equal(w.t, home, w.get(gone).Column("customer_id"))
		require.Nil(w.t, w.get(gone).Column("orphaned_at"))
		w.eventsMatchChanges()
	})
}

func TestPurgeNullsWeakReferencesAndSaysSo(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		p := w.contact("agent", c, "p")
		d := w.create("agent", "Deal", record.Values{"name": "d", "customerID": c, "primaryContactID": p}).RecordID()
		first := w.message("agent", c, "first")
		reply := w.create("agent", "Message", record.Values{"subject": "re", "sentAt": w.db.Now(), "customerID": c, "inReplyToID": first, "contactID": p}).RecordID()
		w.delete("agent", p)
		require.Equal(w.t, p, w.get(d).Column("primary_contact_id"), "delete leaves weak references")
		w.delete("agent", first)
		w.purge("purger", p, first)
		require.Nil(w.t, w.get(d).Column("primary_contact_id"))
		require.Nil(w.t, w.get(reply).Column("contact_id"))
		require.Nil(w.t, w.get(reply).Column("in_reply_to_id"))
		require.Equal(w.t, 2, w.get(d).RecordVersion())
		require.Equal(w.t, 2, w.get(reply).RecordVersion(), "two references, one change")
		w.eventsMatchChanges()
	})
}

func TestRestoreIntoATakenValueNeedsAnother(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.delete("agent", c)
		twin := w.create("agent", "Customer", record.Values{"name": "new", "email": "A@EXAMPLE.com"}).RecordID()
		op := w.restore("agent", c)
		require.Equal(w.t, "FAILED UNIQUE_CONFLICT", w.outcomes(op)[c])
		require.Contains(w.t, w.rows(`SELECT params FROM operation_items WHERE operation_id = ?`, op.ID)[0], twin.UUID())
		op = w.run("agent", record.Request{
			Verb: lifecycle.Restore, Select: record.Selection{IDs: []gid.ID{c}}, Overrides: map[gid.ID]map[string]string{c: {"email": "other@example.com"}},
		})
		require.Equal(w.t, "CHANGED", w.outcomes(op)[c])
		require.Equal(w.t, "other@example.com", w.get(c).Column("email_key"))
		w.eventsMatchChanges()
	})
}

func TestRestoringAChildNeedsALiveOwner(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		m, p := w.message("agent", c, "one"), w.contact("agent", c, "p")
		w.delete("agent", c)
		op := w.restore("agent", m)
		require.Equal(w.t, "FAILED PARENT_RETIRED", w.outcomes(op)[m])
		op = w.run("agent", record.Request{Verb: lifecycle.Restore, WithAncestors: true, Select: record.Selection{IDs: []gid.ID{m}}})
		require.Equal(w.t, map[gid.ID]string{m: "CHANGED", c: "CHANGED along"}, w.outcomes(op))
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "ACTIVE", "DELETED"}, w.states(c, m, p), "the chain of owners only")
	})
}

func TestUndoTakesBackExactlyWhatIsStillThere(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.customer("agent", "a"), w.customer("agent", "b")
		m, n := w.message("agent", a, "one"), w.message("agent", b, "two")
		op := w.delete("agent", a, b)
		w.restore("agent", b)
		undo, err := w.svc.Undo(w.as("agent"), op.ID, record.Request{})
		require.NoError(w.t, err)
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE"}, w.states(a, b, m, n))
		require.Equal(w.t, 2, undo.Changed)
		require.Equal(w.t, 2, undo.Unchanged)
		_, err = w.svc.Undo(w.as("agent"), undo.ID, record.Request{})
		require.Equal(w.t, lifecycle.IllegalTransition, code(err))
		w.eventsMatchChanges()
	})
}

func TestVersionsAndExpectedCounts(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		op := w.run("agent", record.Request{Verb: lifecycle.Delete, Select: record.Selection{Versions: []record.Version{{ID: c, Version: 7}}}})
		require.Equal(w.t, "FAILED CONFLICT", w.outcomes(op)[c])
		n := 2
		_, err := w.svc.Run(w.as("agent"), record.Request{Verb: lifecycle.Delete, ExpectedCount: &n, Select: record.Selection{IDs: []gid.ID{c}}})
		require.Equal(w.t, lifecycle.Conflict, code(err))
		_, err = w.svc.Run(w.as("agent"), record.Request{Verb: lifecycle.Delete, Select: record.Selection{Filter: &record.Filter{Type: "Customer"}}})
		require.Equal(w.t, lifecycle.InvalidFilter, code(err))
	})
}

func TestAnIdempotencyKeyHasOneEffect(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		req := record.Request{Verb: lifecycle.Delete, IdempotencyKey: "k", Select: record.Selection{IDs: []gid.ID{c}}}
		first := w.run("agent", req)
		w.restore("agent", c)
		require.Equal(w.t, first.ID, w.run("agent", req).ID)
		require.Equal(w.t, lifecycle.Active, w.state(c))
		req.Select.IDs = append(req.Select.IDs, c)
		_, err := w.svc.Run(w.as("agent"), req)
		require.Equal(w.t, lifecycle.IdempotencyMismatch, code(err))
		w.clock.add(8 * 24 * time.Hour)
		require.NotEqual(w.t, first.ID, w.run("agent", req).ID)
	})
}

func TestTheSweeperPurgesWhatIsDue(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		m := w.message("agent", c, "one")
		w.delete("agent", c)
		w.clock.add(29 * 24 * time.Hour)
		n, err := w.svc.Sweep(w.t.Context())
		require.NoError(w.t, err)
		require.Zero(w.t, n)
		require.Equal(w.t, []lifecycle.State{"DELETED", "DELETED"}, w.states(c, m))
		w.clock.add(2 * 24 * time.Hour)
		n, err = w.svc.Sweep(w.t.Context())
		require.NoError(w.t, err)
		require.Equal(w.t, 2, n)
		require.Nil(w.t, w.get(c))
	})
}

func TestAnOperationOnAThousandRecordsIsAHandfulOfStatements(t *testing.T) {
	each(t, func(w *world) {
		w.caps(nil, nil, nil, 9_000)
		count := func(n int) (deleting, restoring, purging int) {
			c := w.create("admin", "Customer", record.Values{"name": "big"}).RecordID()
			rows := make([]record.Values, n)
			for i := range rows {
				rows[i] = record.Values{"subject": "s", "sentAt": w.db.Now(), "customerID": c, "recipients": []map[string]any{{"address": "a@example.com"}}}
			}
			_, _, err := w.svc.CreateMany(w.as("admin"), "Message", rows)
			require.NoError(w.t, err)
			w.sql.reset()
			require.Equal(w.t, n+1, w.delete("admin", c).Changed)
			deleting = w.sql.count()
			w.sql.reset()
			require.Equal(w.t, n+1, w.restore("admin", c).Changed)
			restoring = w.sql.count()
			w.delete("admin", c)
			w.sql.reset()
			require.Equal(w.t, n+1, w.purge("purger", c).Changed)
			return deleting, restoring, w.sql.count()
		}
		d1, r1, p1 := count(1)
		d2, r2, p2 := count(999)
		w.t.Logf("statements: delete %d, restore %d, purge %d", d1, r1, p1)
		require.LessOrEqual(w.t, d1, 20)
		require.LessOrEqual(w.t, r1, 20)
		require.LessOrEqual(w.t, p1, 30)
		// SQLite splits one insert by its number of arguments.
		require.LessOrEqual(w.t, d2-d1, 3)
		require.LessOrEqual(w.t, r2-r1, 3)
		require.LessOrEqual(w.t, p2-p1, 4)
		_, err := w.svc.Run(w.as("admin"), record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: make([]gid.ID, 1_001)}})
		require.Equal(w.t, lifecycle.Limit, code(err))
	})
}

func TestWhatIsRetiredTogetherComesBackTogether(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("manager", "a")
		d, m := w.deal("manager", c, "blocks"), w.message("manager", c, "voided before")
		w.void("manager", m)
		w.delete("manager", c, d, m)
		require.Equal(w.t, []string{c.UUID(), c.UUID()}, w.rows(`SELECT came_with FROM operation_items WHERE prior_state IS NOT NULL AND came_with IS NOT NULL ORDER BY id`))
		op := w.restore("manager", c)
		require.Equal(w.t, map[gid.ID]string{c: "CHANGED", d: "CHANGED along", m: "CHANGED along"}, w.outcomes(op))
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "ACTIVE", "VOIDED"}, w.states(c, d, m))

		w.delete("manager", c, d, m)
		require.Equal(w.t, 3, w.purge("purger", c).Changed, "nothing of it is left behind as an orphan")
		w.eventsMatchChanges()
	})
}

func TestWhatMovedOnFromTheVersionSeenComesAlongWithNothing(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		m := w.message("agent", c, "one")
		_, err := w.svc.Update(w.as("agent"), m, 1, record.Values{"subject": "two"})
		require.NoError(w.t, err)
		req := record.Request{Verb: lifecycle.Delete, Mode: record.BestEffort, Select: record.Selection{Versions: []record.Version{{ID: c, Version: 1}, {ID: m, Version: 1}}}}
		require.Equal(w.t, map[gid.ID]string{c: "FAILED CONFLICT", m: "FAILED CONFLICT"}, w.outcomes(w.run("agent", req)))
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "ACTIVE"}, w.states(c, m))
	})
}

func TestWhatWasArchivedPastAnArchivedOwnerComesBack(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		m := w.message("agent", c, "archived before")
		archive := func(id gid.ID) *ent.Operation {
			return w.run("agent", record.Request{Verb: lifecycle.Archive, Select: record.Selection{IDs: []gid.ID{id}}})
		}
		archive(m)
		f := w.create("agent", "Attachment", record.Values{"filename": "f", "messageID": m}).RecordID()
		require.Equal(w.t, map[gid.ID]string{c: "CHANGED", f: "CHANGED along"}, w.outcomes(archive(c)))
		require.Equal(w.t, map[gid.ID]string{c: "CHANGED", f: "CHANGED along"}, w.outcomes(w.restore("agent", c)))
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "ARCHIVED", "ACTIVE"}, w.states(c, m, f))
	})
}

func TestAnOrphanWithANewOwnerIsVoidedWithoutAClock(t *testing.T) {
	each(t, func(w *world) {
		c, home := w.customer("manager", "a"), w.customer("manager", "b")
		m := w.message("manager", c, "m")
		w.void("manager", m)
		w.delete("manager", c)
		w.purge("purger", c)
		require.NotNil(w.t, w.get(m).Column("purge_after"), "the clock of an orphan")
		w.delete("manager", m)
		op := w.run("manager", record.Request{Verb: lifecycle.Restore, NewParentID: &home, Select: record.Selection{IDs: []gid.ID{m}}})
		require.Equal(w.t, "CHANGED", w.outcomes(op)[m])
		require.Equal(w.t, lifecycle.Voided, w.state(m))
		require.Nil(w.t, w.get(m).Column("purge_after"))
	})
}
