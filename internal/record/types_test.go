package record_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

func TestAnAttachmentHasExactlyOneOwner(t *testing.T) {
	each(t, func(w *world) {
		c, d := w.customer("agent", "a"), w.customer("agent", "b")
		m := w.message("agent", c, "hello")
		for _, values := range []record.Values{{}, {"customerID": c, "messageID": m}, {"customerID": nil}} {
			values["filename"] = "f"
			_, err := w.svc.Create(w.as("agent"), "Attachment", values)
			var refused *record.Error
			require.ErrorAs(w.t, err, &refused)
			require.Equal(w.t, lifecycle.BadUserInput, refused.Code)
			require.ElementsMatch(w.t, []string{"customerID", "dealID", "messageID", "callID", "noteID"}, refused.Fields)
		}
		a := w.create("agent", "Attachment", record.Values{"filename": "f", "messageID": m}).RecordID()
		for _, values := range []record.Values{{"customerID": c}, {"messageID": nil}} {
			_, err := w.svc.Update(w.as("agent"), a, 1, values)
			require.ErrorContains(w.t, err, "exactly one")
		}
		moved, err := w.svc.Update(w.as("agent"), a, 1, record.Values{"messageID": nil, "customerID": d})
		require.NoError(w.t, err)
		require.Equal(w.t, d, moved.Column("customer_id"))
		require.Nil(w.t, moved.Column("message_id"))
	})
}

func TestAnAttachmentGoesAndComesBackWithItsOwnersOwner(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		m, rest := w.message("agent", c, "hello"), w.rest("agent", c)
		deal := w.deal("agent", c, "d")
		var ids []gid.ID
		for _, owner := range append([]gid.ID{m, deal}, rest...) {
			field := map[gid.Type]string{gid.Message: "messageID", gid.Deal: "dealID", gid.Call: "callID", gid.Note: "noteID"}[owner.Type()]
			if field != "" {
				ids = append(ids, w.create("agent", "Attachment", record.Values{"filename": "f", field: owner}).RecordID())
			}
		}
		require.Len(w.t, ids, 4)
		all := slices.Concat([]gid.ID{c, m, deal}, rest, ids)
		op := w.run("agent", record.Request{Verb: lifecycle.Delete, Cascade: true, Select: record.Selection{IDs: []gid.ID{c}}})
		require.Equal(w.t, len(all), op.Changed)
		op = w.restore("agent", c)
		require.Equal(w.t, len(all), op.Changed)
		for _, s := range w.states(all...) {
			require.Equal(w.t, lifecycle.Active, s)
		}
		w.eventsMatchChanges()
	})
}

func TestARestoredAttachmentMovesToAnOwnerOfAnotherType(t *testing.T) {
	each(t, func(w *world) {
		c, d := w.customer("agent", "a"), w.customer("agent", "b")
		a := w.create("agent", "Attachment", record.Values{"filename": "f", "messageID": w.message("agent", c, "hello")}).RecordID()
		w.delete("agent", a)
		w.delete("agent", c)
		require.Equal(w.t, "FAILED PARENT_RETIRED", w.outcomes(w.restore("agent", a))[a])
		op := w.run("agent", record.Request{Verb: lifecycle.Restore, Select: record.Selection{IDs: []gid.ID{a}}, NewParentID: &d})
		require.Equal(w.t, "CHANGED", w.outcomes(op)[a])
		row := w.get(a)
		require.Equal(w.t, d, row.Column("customer_id"))
		require.Nil(w.t, row.Column("message_id"))
	})
}

func TestNumbersHaveTheirForm(t *testing.T) {
	each(t, func(w *world) {
		for _, test := range []struct {
			typ, field, bad, good, want string
		}{
			{"Call", "fromNumber", "8 (495) 123-45-67", "+74951234567", "E.164"},
			{"Call", "toNumber", "+0123", "+8613800138000", "E.164"},
		} {
			values := record.Values{"startedAt": w.db.Now(), test.field: test.bad}
			_, err := w.svc.Create(w.as("agent"), test.typ, values)
			var refused *record.Error
			require.ErrorAs(w.t, err, &refused)
			require.Equal(w.t, []string{test.field}, refused.Fields)
			require.Contains(w.t, refused.Message, test.want)
			values[test.field] = test.good
			require.Equal(w.t, test.good, w.create("agent", test.typ, values).Column(map[string]string{"fromNumber": "from_number", "toNumber": "to_number"}[test.field]))
		}
		_, err := w.svc.Create(w.as("agent"), "Call", record.Values{"startedAt": w.db.Now(), "durationSeconds": -1})
		require.ErrorContains(w.t, err, "durationSeconds")
	})
}

func TestACallComesBackWithAnotherExternalID(t *testing.T) {
	each(t, func(w *world) {
		first := w.create("agent", "Call", record.Values{"startedAt": w.db.Now(), "externalID": "x-1"}).RecordID()
		w.delete("agent", first)
		w.create("agent", "Call", record.Values{"startedAt": w.db.Now(), "externalID": "x-1"})
		require.Equal(w.t, "FAILED UNIQUE_CONFLICT", w.outcomes(w.restore("agent", first))[first])
		op := w.run("agent", record.Request{
			Verb: lifecycle.Restore, Select: record.Selection{IDs: []gid.ID{first}},
			Overrides: map[gid.ID]map[string]string{first: {"externalID": "x-2"}},
		})
		require.Equal(w.t, "CHANGED", w.outcomes(op)[first])
	})
}

func TestATaskIsAssignedToAnActiveUserOfTheTenant(t *testing.T) {
	each(t, func(w *world) {
		task := w.create("agent", "Task", record.Values{"title": "t", "assigneeID": w.users["agent2"]})
		require.Equal(w.t, w.users["agent2"], task.Column("assignee_id"))
		_, err := w.svc.Create(w.as("agent"), "Task", record.Values{"title": "t", "assigneeID": w.users["stranger"]})
		require.ErrorContains(w.t, err, "assigneeID")
		w.exec(`UPDATE users SET active = ? WHERE id = ?`, false, w.users["viewer"])
		_, err = w.svc.Update(w.as("agent"), task.RecordID(), 1, record.Values{"assigneeID": w.users["viewer"]})
		require.ErrorContains(w.t, err, "assigneeID")
	})
}

// lastActivity is that of a customer, zero for none.
func (w *world) lastActivity(customer gid.ID) time.Time {
	w.t.Helper()
	at, _ := w.get(customer).Column("last_activity_at").(time.Time)
	return at.UTC()
}

func TestACustomerKeepsItsLastActivity(t *testing.T) {
	each(t, func(w *world) {
		c, d := w.customer("agent", "a"), w.customer("agent", "b")
		day := func(n int) time.Time { return time.Date(2026, 1, n, 12, 0, 0, 0, time.UTC) }
		require.Zero(w.t, w.lastActivity(c))
		note := w.create("agent", "Note", record.Values{"body": "n", "happenedAt": day(3), "customerID": c}).RecordID()
		call := w.create("agent", "Call", record.Values{"startedAt": day(5), "customerID": c}).RecordID()
		message := w.create("agent", "Message", record.Values{"subject": "s", "sentAt": day(4), "customerID": c}).RecordID()
		require.Equal(w.t, day(5), w.lastActivity(c))
		w.delete("agent", call)
		require.Equal(w.t, day(4), w.lastActivity(c), "what is in the bin is no activity")
		w.restore("agent", call)
		require.Equal(w.t, day(5), w.lastActivity(c))
		_, err := w.svc.Update(w.as("agent"), call, 3, record.Values{"customerID": d})
		require.NoError(w.t, err)
		require.Equal(w.t, []time.Time{day(4), day(5)}, []time.Time{w.lastActivity(c), w.lastActivity(d)}, "it moved")
		_, err = w.svc.Update(w.as("agent"), message, 1, record.Values{"sentAt": day(1)})
		require.NoError(w.t, err)
		require.Equal(w.t, day(3), w.lastActivity(c))
		w.delete("agent", c)
		require.Equal(w.t, day(3), w.lastActivity(c), "retired with its communications it keeps what it had")
		w.restore("agent", c)
		require.Equal(w.t, day(3), w.lastActivity(c))
		op := w.delete("agent", note, message)
		require.Zero(w.t, w.lastActivity(c))
		_, err = w.svc.Undo(w.as("agent"), op.ID, record.Request{})
		require.NoError(w.t, err)
		require.Equal(w.t, day(3), w.lastActivity(c))
		w.delete("agent", message)
		w.run("agent", record.Request{Verb: lifecycle.Restore, Select: record.Selection{IDs: []gid.ID{message}}, NewParentID: &d})
		require.Equal(w.t, day(5), w.lastActivity(d))
		require.Equal(w.t, 3, w.get(c).RecordVersion(), "it is no change of the customer: created, deleted, restored")
		w.eventsMatchChanges()
	})
}

func TestOfManyWritersTheNewestActivityIsKept(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		const writers, each = 8, 5
		var wg sync.WaitGroup
		for i := range writers {
			ctx := w.as("agent")
			wg.Go(func() {
				for j := range each {
					r, err := w.svc.Create(ctx, "Call", record.Values{"startedAt": at.Add(time.Duration(i*each+j) * time.Hour), "customerID": c})
					if err == nil && j%2 == 0 {
						_, err = w.svc.Run(ctx, record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{r.RecordID()}}})
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		require.Equal(w.t, []string{c.UUID()}, w.rows(`SELECT id FROM customers WHERE last_activity_at = (SELECT MAX(started_at) FROM calls WHERE retired_at IS NULL)`))
	})
}
