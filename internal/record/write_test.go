package record_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent/auditevent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

func TestCreatingOverADeletedTwinSucceedsWithAHint(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.delete("agent", c)
		hints := &record.Hints{}
		_, err := w.svc.Create(record.WithHints(w.as("agent"), hints), "Customer", record.Values{"name": "a", "email": "A@Example.COM"})
		require.NoError(w.t, err)
		require.Equal(w.t, []record.Hint{{Code: "IN_BIN", Field: "email", Record: c}}, hints.List())

		// Who may not see the bin is told nothing.
		hidden := &record.Hints{}
		d := w.customer("manager", "b")
		w.delete("manager", d)
		_, err = w.svc.Create(record.WithHints(w.as("agent2"), hidden), "Customer", record.Values{"name": "b", "email": "b@example.com"})
		require.NoError(w.t, err)
		require.Empty(w.t, hidden.List())
	})
}

func TestUniquenessIsAmongLiveRecordsOfOneTenant(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		_, err := w.svc.Create(w.as("agent"), "Customer", record.Values{"name": "x", "email": " A@EXAMPLE.com "})
		require.Equal(w.t, lifecycle.UniqueConflict, code(err))
		_, err = w.svc.Create(w.as("stranger"), "Customer", record.Values{"name": "x", "email": "a@example.com"})
		require.NoError(w.t, err)

		// A contact's address is its customer's affair.
		other := w.customer("agent", "b")
		p := w.contact("agent", c, "p")
		w.contact("agent", other, "p")
		_, err = w.svc.Create(w.as("agent"), "Contact", record.Values{"name": "p2", "email": "p@example.com", "customerID": c})
		require.Equal(w.t, lifecycle.UniqueConflict, code(err))
		_, err = w.svc.Update(w.as("agent"), p, 1, record.Values{"customerID": other})
		require.Equal(w.t, lifecycle.UniqueConflict, code(err), "a move meets its twin there")
		_, err = w.svc.Update(w.as("agent"), p, 1, record.Values{"email": "P@example.com"})
		require.NoError(w.t, err, "its own value is free")
	})
}

func TestDomainsAreComparedInTheirASCIIForm(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"BÜCHER.example": "xn--bcher-kva.example", "пример.рф": "xn--e1afmkfd.xn--p1ai", "Example.COM.": "example.com", "a.b": "a.b",
	} {
		require.Equal(t, want, record.Fold(in, lifecycle.FoldDomain), in)
	}
	require.Equal(t, "ann@xn--bcher-kva.example", record.Fold("Ａnn@Bücher.example", lifecycle.FoldEmail))
	require.Equal(t, "AbC", record.Fold("AbC", lifecycle.FoldNone))
}

func TestBadInputIsNamedByItsField(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		for _, test := range []struct {
			typ    string
			values record.Values
			field  string
		}{
			{"Customer", record.Values{}, "name"},
			{"Customer", record.Values{"name": strings.Repeat("ж", 501)}, "name"},
			{"Customer", record.Values{"name": "a\x00b"}, "name"},
			{"Customer", record.Values{"name": "x", "state": "DELETED"}, "state"},
			{"Customer", record.Values{"name": "x", "purgeAfter": nil}, "purgeAfter"},
			{"Customer", record.Values{"name": "x", "ownerID": gid.New(gid.User)}, "ownerID"},
			{"Contact", record.Values{"name": "x", "customerID": gid.New(gid.Customer)}, "customerID"},
			{"Contact", record.Values{"name": "x"}, "customerID"},
			{"Contact", record.Values{"name": "x", "customerID": w.message("agent", c, "m")}, "customerID"},
			{"Message", record.Values{"subject": "x"}, "sentAt"},
			{"Message", record.Values{"sentAt": w.db.Now(), "recipients": []map[string]any{{"address": ""}}}, "recipients"},
		} {
			_, err := w.svc.Create(w.as("agent"), test.typ, test.values)
			require.Equal(w.t, lifecycle.BadUserInput, code(err), "%v: %v", test.values, err)
			require.Equal(w.t, []string{test.field}, fields(err), "%v: %v", test.values, err)
		}
		require.Len(w.t, w.rows(`SELECT id FROM customers WHERE tenant_id = ?`, w.tenant), 1, "nothing of it was kept")
	})
}

func TestOneBadRowDoesNotTakeTheBatchDown(t *testing.T) {
	each(t, func(w *world) {
		rows := []record.Values{
			{"name": "good"}, {"name": ""}, {"name": strings.Repeat("x", 501)}, {"name": "good too"}, {"name": "dup", "email": "x@y.z"}, {"name": "dup", "email": "X@y.z"},
		}
		records, errs, err := w.svc.CreateMany(w.as("agent"), "Customer", rows)
		require.NoError(w.t, err)
		var codes []lifecycle.Code
		for i, err := range errs {
			codes = append(codes, code(err))
			require.Equal(w.t, err == nil, records[i] != nil)
		}
		require.Equal(w.t, []lifecycle.Code{"", lifecycle.BadUserInput, lifecycle.BadUserInput, "", "", lifecycle.UniqueConflict}, codes)
		require.Len(w.t, w.rows(`SELECT id FROM customers`), 3)
	})
}

func TestOwnersComeFromTheOwnerRow(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent2", "a") // in Support
		m := w.create("admin", "Message", record.Values{"subject": "s", "sentAt": w.db.Now(), "customerID": c})
		require.Equal(w.t, w.users["agent2"], m.Column("owner_id"))
		require.Equal(w.t, w.support, m.Column("team_id"))
		own := w.create("admin", "Customer", record.Values{"name": "b"})
		require.Equal(w.t, w.users["admin"], own.Column("owner_id"))
	})
}

func TestUpdatesAreChecked(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		r, err := w.svc.Update(w.as("agent"), c, 1, record.Values{"name": "b", "email": nil})
		require.NoError(w.t, err)
		require.Equal(w.t, 2, r.RecordVersion())
		require.Nil(w.t, w.get(c).Column("email_key"))
		_, err = w.svc.Update(w.as("agent"), c, 1, record.Values{"name": "c"})
		require.Equal(w.t, lifecycle.Conflict, code(err))
		_, err = w.svc.Update(w.as("viewer"), c, 2, record.Values{"name": "c"})
		require.Equal(w.t, lifecycle.Forbidden, code(err))
		_, err = w.svc.Update(w.as("agent2"), c, 2, record.Values{"name": "c"})
		require.Equal(w.t, lifecycle.NotFound, code(err), "what one may not see is not there")
		_, err = w.svc.Update(w.as("stranger"), c, 2, record.Values{"name": "c"})
		require.Equal(w.t, lifecycle.NotFound, code(err))
		// Nobody moves a record out of his own reach.
		_, err = w.svc.Update(w.as("agent"), c, 2, record.Values{"ownerID": w.users["agent2"], "teamID": w.support})
		require.Equal(w.t, lifecycle.Forbidden, code(err))
		gone := w.customer("agent", "gone")
		p := w.contact("agent", c, "p")
		w.delete("agent", gone)
		_, err = w.svc.Update(w.as("agent"), p, 1, record.Values{"customerID": gone})
		require.Equal(w.t, lifecycle.ParentRetired, code(err))
		_, err = w.svc.Create(w.as("agent"), "Contact", record.Values{"name": "x", "customerID": gone})
		require.Equal(w.t, lifecycle.ParentRetired, code(err))
		w.eventsMatchChanges()
		require.Len(w.t, w.rows(`SELECT id FROM audit_events WHERE action = 'UPDATE' AND outcome = 'REFUSED'`), 2)
	})
}

func TestRecipientsAreReplacedAndWrittenDown(t *testing.T) {
	each(t, func(w *world) {
		m := w.message("agent", w.customer("agent", "a"), "s")
		_, err := w.svc.Update(w.as("agent"), m, 1, record.Values{"recipients": []map[string]any{{"address": "B@Example.com", "kind": "CC"}, {"address": "c@example.com"}}})
		require.NoError(w.t, err)
		require.Equal(w.t, []string{"b@example.com", "c@example.com"}, w.rows(`SELECT address_key FROM recipients WHERE message_id = ? ORDER BY id`, m))
		require.Equal(w.t, 2, w.get(m).RecordVersion())
		w.eventsMatchChanges()
	})
}

func TestNumbersAreNeverGivenTwice(t *testing.T) {
	each(t, func(w *world) {
		seen := map[any]bool{}
		given := w.create("agent", "Customer", record.Values{"name": "x", "number": "C-3"})
		seen[given.Column("number")] = true
		for range 45 { // more than a block
			r := w.create("agent", "Customer", record.Values{"name": "x"})
			require.False(w.t, seen[r.Column("number")], r.Column("number"))
			seen[r.Column("number")] = true
		}
	})
}

func TestPersonalValuesAreSealed(t *testing.T) {
	each(t, func(w *world) {
		secret := "Зинаида Sekretova"
		c := w.create("agent", "Customer", record.Values{"name": secret}).RecordID()
		w.run("agent", record.Request{Verb: lifecycle.Delete, Reason: secret, Select: record.Selection{IDs: []gid.ID{c}}})
		for _, table := range []string{"audit_events", "operation_items"} {
			for _, column := range w.columns(table) {
				require.NotContains(w.t, strings.Join(w.rows(`SELECT `+column+` FROM `+table), "\n"), secret, "%s.%s", table, column)
			}
		}
		r := w.get(c)
		events, err := w.svc.Client(w.everything()).AuditEvent.Query().All(w.everything())
		require.NoError(w.t, err)
		opened := 0
		for _, e := range events {
			if e.RecordID == nil || *e.RecordID != c {
				continue
			}
			seal, ok := r.Column("seal").([]byte)
			require.True(w.t, ok)
			p, err := w.log.Open(w.tenant, seal, e.ID, e.Sealed)
			require.NoError(w.t, err)
			require.NotEmpty(w.t, p.Changes)
			opened++
			_, err = w.log.Open(w.tenant, []byte("another sixteen b"), e.ID, e.Sealed)
			require.Error(w.t, err)
			_, err = w.log.Open(w.other, seal, e.ID, e.Sealed)
			require.Error(w.t, err, "each tenant has a key of its own")
		}
		require.Equal(w.t, 2, opened)
	})
}

func TestUpdatingWhatWasPurgedSaysSoToThoseWhoMayKnow(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.delete("agent", c)
		w.purge("purger", c)
		for who, want := range map[string]lifecycle.Code{"admin": lifecycle.Gone, "purger": lifecycle.Gone, "agent": lifecycle.NotFound, "stranger": lifecycle.NotFound} {
			_, err := w.svc.Update(w.as(who), c, 2, record.Values{"name": "b"})
			require.Equal(w.t, want, code(err), who)
		}
	})
}

func TestAClearedValueIsNullInTheLog(t *testing.T) {
	each(t, func(w *world) {
		c := w.create("agent", "Customer", record.Values{"name": "a", "email": "a@example.com", "endedAt": w.db.Now()}).RecordID()
		_, err := w.svc.Update(w.as("agent"), c, 1, record.Values{"email": nil, "endedAt": nil, "domain": nil})
		require.NoError(w.t, err)
		e, err := w.svc.Client(w.everything()).AuditEvent.Query().Where(auditevent.Action("UPDATE")).Only(w.everything())
		require.NoError(w.t, err)
		seal, _ := w.get(c).Column("seal").([]byte)
		p, err := w.log.Open(w.tenant, seal, e.ID, e.Sealed)
		require.NoError(w.t, err)
		require.Len(w.t, p.Changes, 2, "the domain was null already")
		for _, change := range p.Changes {
			require.NotNil(w.t, change.Old, change.Field)
			require.Nil(w.t, change.New, change.Field)
		}
	})
}
