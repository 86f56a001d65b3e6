package record_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// exceptions are those that a verification as somebody found, by check.
func (w *world) exceptions(as string, op gid.ID) (map[record.CheckName]int, *record.Verification) {
	w.t.Helper()
	found, err := w.svc.VerifyOperation(w.as(as), op)
	require.NoError(w.t, err)
	out := map[record.CheckName]int{}
	for _, c := range found.Checks {
		if !c.Passed() {
			out[c.Name] = c.Exceptions
		}
	}
	return out, found
}

func TestVerificationFindsWhatIsNotAsItShouldBe(t *testing.T) {
	each(t, func(w *world) {
		w.verified = true
		bucket, err := blob.Open(w.t.Context(), "mem://")
		require.NoError(w.t, err)
		w.svc.WithBlobs(bucket)
		type made struct {
			op                         *ent.Operation
			customer, message, deal    gid.ID
			contact, attachment, other gid.ID
		}
		families := 0
		family := func() made {
			families++
			m := made{customer: w.customer("admin", fmt.Sprint("c", families))}
			m.contact = w.create("admin", "Contact", record.Values{"name": "p", "customerID": m.customer}).RecordID()
			m.message = w.create("admin", "Message", record.Values{"subject": "s", "sentAt": w.db.Now(), "customerID": m.customer}).RecordID()
			m.attachment = w.create("admin", "Attachment", record.Values{"filename": "f", "messageID": m.message}).RecordID()
			m.other = w.customer("admin", fmt.Sprint("o", families))
			m.deal = w.create("admin", "Deal", record.Values{"name": "d", "customerID": m.other}).RecordID()
			return m
		}
		deleted := func() made { m := family(); m.op = w.delete("admin", m.customer); return m }
		restored := func() made { m := deleted(); m.op = w.restore("admin", m.customer); return m }
		purged := func() made { m := deleted(); m.op = w.purge("purger", m.customer); return m }
		for name, test := range map[string]struct {
			make   func() made
			tamper func(made)
			want   map[record.CheckName]int
		}{
			"nothing": {deleted, func(made) {}, map[record.CheckName]int{}},
			"a row that is back by itself": {deleted, func(m made) {
				w.exec(`UPDATE contacts SET state = 'ACTIVE', retired_at = NULL, operation_id = NULL WHERE id = ?`, m.contact)
			}, map[record.CheckName]int{record.CheckState: 1, record.CheckListed: 1, record.CheckReferences: 1}},
			"a row that is deleted and still takes its place": {deleted, func(m made) { w.exec(`UPDATE messages SET retired_at = NULL WHERE id = ?`, m.message) },
				map[record.CheckName]int{record.CheckListed: 1, record.CheckReferences: 1}},
			"a row of another operation": {deleted, func(m made) { w.exec(`UPDATE contacts SET operation_id = NULL WHERE id = ?`, m.contact) },
				map[record.CheckName]int{record.CheckState: 1}},
			"a live row below a deleted one": {deleted, func(m made) { w.exec(`UPDATE deals SET customer_id = ? WHERE id = ?`, m.customer, m.deal) },
				map[record.CheckName]int{record.CheckReferences: 1}},
			"an event of something else": {deleted, func(m made) { w.event(m.op.ID, m.other, "DELETE", "ACTIVE") }, map[record.CheckName]int{record.CheckAuditEvents: 1}},
			"an event twice":             {deleted, func(m made) { w.event(m.op.ID, m.customer, "DELETE", "ACTIVE") }, map[record.CheckName]int{record.CheckAuditEvents: 1}},
			"an item without an event": {deleted, func(m made) {
				w.exec(`UPDATE operation_items SET record_id = ? WHERE record_id = ?`, m.other, m.contact)
			},
				map[record.CheckName]int{record.CheckState: 1, record.CheckListed: 1, record.CheckAuditEvents: 2}},
			"restored": {restored, func(made) {}, map[record.CheckName]int{}},
			"a row that stayed in the bin": {restored, func(m made) {
				w.exec(`UPDATE messages SET state = 'DELETED', retired_at = updated_at WHERE id = ?`, m.message)
			}, map[record.CheckName]int{record.CheckState: 1, record.CheckReferences: 1}},
			"purged": {purged, func(made) {}, map[record.CheckName]int{}},
			"words that are left": {purged, func(m made) {
				values := `(record_id, tenant_id) VALUES (?, ?)`
				if w.db.Dialect() == "postgres" {
					values = `(record_id, tenant_id, words) VALUES (?, ?, '')`
				}
				w.exec(`INSERT INTO search_entries `+values, m.message, w.tenant)
			}, map[record.CheckName]int{record.CheckSearch: 1}},
			"bytes that are left": {purged, func(m made) {
				_, err := bucket.Write(w.t.Context(), blob.Key(w.tenant, m.attachment), strings.NewReader("left"))
				require.NoError(w.t, err)
			}, map[record.CheckName]int{record.CheckBytes: 1}},
			"a row that was not purged": {purged, func(m made) {
				w.exec(`UPDATE operation_items SET record_id = ? WHERE record_id = ? AND operation_id = ?`, m.other, m.contact, m.op.ID)
			},
				map[record.CheckName]int{record.CheckState: 1, record.CheckListed: 1, record.CheckSearch: 1, record.CheckSeals: 1, record.CheckTombstones: 1, record.CheckAuditEvents: 2}},
		} {
			m := test.make()
			test.tamper(m)
			got, found := w.exceptions("admin", m.op.ID)
			require.Equal(w.t, test.want, got, name)
			require.Equal(w.t, len(test.want) == 0, found.Passed(), name)
			require.Equal(w.t, m.op.Changed, found.Changed, name)
			for _, c := range found.Checks {
				require.Len(w.t, c.Records, c.Exceptions, "%s: admin may know of all", name)
			}
		}
	})
}

// event adds one to the audit log, past the operations.
func (w *world) event(op, id gid.ID, action, from string) {
	w.t.Helper()
	w.exec(`INSERT INTO audit_events (id, tenant_id, at, action, outcome, record_id, record_type, from_state, operation_id) VALUES (?, ?, ?, ?, 'SUCCEEDED', ?, ?, ?, ?)`,
		gid.New(gid.Event), w.tenant, w.db.Now(), action, id, ent.RecordTypeOf(id).Name, from, op)
}

func TestWhatALaterOperationTookOnIsNoException(t *testing.T) {
	each(t, func(w *world) {
		a, b, c := w.customer("admin", "a"), w.customer("admin", "b"), w.customer("admin", "c")
		void := w.void("admin", a, b, c)
		del := w.delete("admin", a, b)
		back := w.restore("admin", a)
		w.purge("purger", b)
		for op, superseded := range map[gid.ID]int{void.ID: 2, del.ID: 2, back.ID: 0} {
			got, found := w.exceptions("admin", op)
			require.Empty(w.t, got)
			require.Equal(w.t, superseded, found.Superseded, "%s", found.Operation.Verb)
		}
		// A suspension with another end stays with the operation that suspended the record.
		until := w.db.Now().Add(time.Hour)
		d := w.customer("admin", "d")
		w.run("admin", record.Request{Verb: lifecycle.Suspend, Until: &until, Select: record.Selection{IDs: []gid.ID{d}}})
		later := until.Add(time.Hour)
		again := w.run("admin", record.Request{Verb: lifecycle.Suspend, Until: &later, Select: record.Selection{IDs: []gid.ID{d}}})
		got, _ := w.exceptions("admin", again.ID)
		require.Empty(w.t, got)
		// What was live when it was purged has two events.
		e := w.customer("admin", "e")
		live := w.run("purger", record.Request{Verb: lifecycle.Purge, IncludeLive: true, Select: record.Selection{IDs: []gid.ID{e}}})
		got, _ = w.exceptions("admin", live.ID)
		require.Empty(w.t, got)
	})
}

func TestVerificationNamesNothingHidden(t *testing.T) {
	each(t, func(w *world) {
		w.verified = true
		own, others := w.customer("agent", "own"), w.customer("agent2", "other's")
		op := w.delete("admin", own, others)
		w.exec(`UPDATE customers SET operation_id = NULL`)
		_, err := w.svc.VerifyOperation(w.as("stranger"), op.ID)
		require.Equal(w.t, lifecycle.NotFound, code(err))
		_, err = w.svc.VerifyOperation(w.as("agent"), op.ID)
		require.Equal(w.t, lifecycle.NotFound, code(err), "an operation of another")
		mine := w.delete("agent", w.customer("agent", "mine"))
		w.exec(`UPDATE customers SET owner_id = ?, team_id = ?, operation_id = NULL`, w.users["agent2"], w.support)
		got, found := w.exceptions("agent", mine.ID)
		require.Equal(w.t, map[record.CheckName]int{record.CheckState: 1}, got)
		require.Empty(w.t, found.Checks[0].Records)
	})
}

func TestVerificationTakesAsManyStatementsWhateverTheSize(t *testing.T) {
	each(t, func(w *world) {
		var costs []int
		for _, n := range []int{2, 9} {
			var list []gid.ID
			for i := range n {
				list = append(list, w.customer("admin", fmt.Sprint("c", i)))
			}
			w.delete("admin", list...)
			op := w.purge("purger", list...)
			ctx := w.as("admin")
			w.sql.reset()
			_, err := w.svc.VerifyOperation(ctx, op.ID)
			require.NoError(w.t, err)
			costs = append(costs, w.sql.count())
		}
		require.Equal(w.t, costs[0], costs[1])
		require.LessOrEqual(w.t, costs[0], 12)
	})
}

func TestStatisticsCountRecordsAndWhatBecameOfThem(t *testing.T) {
	each(t, func(w *world) {
		w.clock.at = time.Date(2026, 3, 1, 23, 59, 0, 0, time.UTC) // a Sunday
		bucket, err := blob.Open(w.t.Context(), "mem://")
		require.NoError(w.t, err)
		w.svc.WithBlobs(bucket)
		a, b, c := w.customer("admin", "a"), w.customer("admin", "b"), w.customer("admin", "c")
		w.clock.add(time.Hour) // Monday, 2 March
		until := w.db.Now().Add(24 * time.Hour)
		w.run("admin", record.Request{Verb: lifecycle.Suspend, Until: &until, Select: record.Selection{IDs: []gid.ID{a}}})
		w.restore("admin", a)
		w.run("admin", record.Request{Verb: lifecycle.Archive, Select: record.Selection{IDs: []gid.ID{a}}})
		w.void("admin", b)
		w.delete("admin", b, c)
		w.restore("admin", c)
		file := record.NewFile([]byte("12345"))
		file.Values = record.Values{"filename": "f", "customerID": c}
		require.NoError(w.t, w.svc.Keep(w.as("admin"), file))
		_, refusals, err := w.svc.Attach(w.as("admin"), []*record.File{file})
		require.NoError(w.t, err)
		require.NoError(w.t, refusals[0])
		w.delete("admin", file.ID)
		w.purge("purger", file.ID)
		w.customer("stranger", "of another tenant")

		ask := func(as string, by store.Period, from, to time.Time) []*record.TypeStatistics {
			found, err := w.svc.Statistics(w.as(as), record.StatisticsRequest{
				Types: []*ent.RecordType{ent.RecordTypeNamed("Customer"), ent.RecordTypeNamed("Attachment")}, From: from, To: to, By: by, Periods: true,
			})
			require.NoError(w.t, err)
			return found
		}
		from, to := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC)
		days := ask("admin", store.Day, from, to)
		require.Equal(w.t, map[lifecycle.State]int{lifecycle.Archived: 1, lifecycle.Deleted: 1, lifecycle.Active: 1}, days[0].States)
		require.Equal(w.t, 2, days[0].Live())
		day := func(d int) time.Time { return time.Date(2026, 3, d, 0, 0, 0, 0, time.UTC) }
		require.Equal(w.t, []*record.PeriodStatistics{
			{Start: day(1), End: day(2), Created: 3}, {Start: day(2), End: day(3), Voided: 1, Deleted: 2, Restored: 1},
		}, days[0].Periods)
		require.Equal(w.t, &record.PeriodStatistics{Start: day(2), End: day(3), Created: 1, Deleted: 1, Purged: 1, FreedBytes: 5}, days[1].Periods[1])
		weeks := ask("admin", store.Week, from, to)[0].Periods
		require.Equal(w.t, []*record.PeriodStatistics{
			{Start: time.Date(2026, 2, 23, 0, 0, 0, 0, time.UTC), End: day(2), Created: 3}, {Start: day(2), End: day(9), Voided: 1, Deleted: 2, Restored: 1},
		}, weeks)
		months := ask("admin", store.Month, from, to)[0].Periods
		require.Equal(w.t, []*record.PeriodStatistics{{Start: day(1), End: time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC), Created: 3, Voided: 1, Deleted: 2, Restored: 1}}, months)
		require.Empty(w.t, ask("agent2", store.Day, from, to)[0].States, "of another team")
		require.Nil(w.t, ask("viewer", store.Day, from, to)[0].Periods, "who may read no events")

		for name, test := range map[string]struct {
			from, to time.Time
			code     lifecycle.Code
		}{
			"too many periods": {to.AddDate(0, 0, -401), to, lifecycle.Limit},
			"no time":          {to, to, lifecycle.BadUserInput},
		} {
			_, err := w.svc.Statistics(w.as("admin"), record.StatisticsRequest{Types: ent.RecordTypes, From: test.from, To: test.to, By: store.Day, Periods: true})
			require.Equal(w.t, test.code, code(err), name)
		}
		require.Len(w.t, ask("admin", store.Day, to.AddDate(0, 0, -400), to)[0].Periods, 400)

		ctx := w.as("admin")
		w.sql.reset()
		_, err = w.svc.Statistics(ctx, record.StatisticsRequest{Types: ent.RecordTypes, From: from, To: to, By: store.Day, Periods: true})
		require.NoError(w.t, err)
		require.Equal(w.t, len(ent.RecordTypes)+1, w.sql.count(), "one statement a type, and one for all that became of them")
	})
}
