package export_test

import (
	"testing"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/internal/export"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// wait makes verbs wait for an export of records of a type.
func (w *world) wait(typ string, verbs ...lifecycle.Verb) {
	w.Helper()
	s, err := w.records.Settings(w.as("admin"))
	w.NoError(err)
	_, err = w.records.RequireExport(w.as("admin"), s.Version, typ, verbs)
	w.NoError(err)
}

var whole = export.Spec{Type: "Customer", Format: export.JSONL, States: lifecycle.States()}

func TestAVerbWaitsForAnExportOfWhatARecordSays(t *testing.T) {
	each(t, func(w *world) {
		w.wait("Customer", lifecycle.Delete, lifecycle.Purge)
		c := w.customer("admin", "one")
		w.Equal([]string{"FAILED EXPORT_REQUIRED"}, w.codes(w.run("admin", lifecycle.Delete, c)))
		preview, err := w.records.Preview(w.as("admin"), record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{c}}})
		w.NoError(err)
		w.Equal("EXPORT_REQUIRED", *preview.Items[0].Code)
		reasons, err := w.records.WhyNot(w.as("admin"), c, authz.Delete)
		w.NoError(err)
		w.Len(reasons, 1)
		w.Equal(lifecycle.ExportRequired, reasons[0].Code)
		w.Equal([]string{"CHANGED"}, w.codes(w.run("admin", lifecycle.Void, c)), "it does not wait")
		w.Equal([]string{"CHANGED"}, w.codes(w.run("admin", lifecycle.Restore, c)))

		// Exported, then deleted, restored, and deleted again: what it says is the same.
		e := w.asked("compliance", whole)
		for _, verb := range []lifecycle.Verb{lifecycle.Delete, lifecycle.Restore, lifecycle.Delete} {
			w.Equal([]string{"CHANGED"}, w.codes(w.run("admin", verb, c)), verb)
		}
		w.Equal([]string{"CHANGED"}, w.codes(w.run("purger", lifecycle.Purge, c)))
		w.Equal([]string{*e.ManifestSha256}, w.rows(`SELECT export_manifest FROM tombstones`))
		w.Empty(w.rows(`SELECT record_id FROM export_rows`), "what the export says of it goes with it")
		for _, action := range []string{"DELETE", "PURGE"} {
			details := w.rows(`SELECT CAST(detail AS text) FROM audit_events WHERE action = ? AND outcome = 'SUCCEEDED'`, action)
			w.NotEmpty(details)
			for _, detail := range details {
				w.Equal(*e.ManifestSha256, decode[map[string]string](w, []byte(detail))["exportManifest"])
			}
		}
	})
}

func TestAnEditMakesAnExportStale(t *testing.T) {
	each(t, func(w *world) {
		w.wait("Customer", lifecycle.Purge)
		w.wait("Message", lifecycle.Delete)
		c := w.customer("admin", "one")
		w.asked("compliance", whole)
		w.update("admin", "Customer", c, record.Values{"name": "edited"})
		w.Equal([]string{"CHANGED"}, w.codes(w.run("admin", lifecycle.Delete, c)))
		w.Equal([]string{"FAILED EXPORT_STALE"}, w.codes(w.run("purger", lifecycle.Purge, c)))
		w.asked("compliance", whole)
		w.Equal([]string{"CHANGED"}, w.codes(w.run("purger", lifecycle.Purge, c)))

		// So do parts, and what comes along waits as well.
		owner := w.customer("admin", "owner")
		m := w.create("admin", "Message", record.Values{
			"subject": "s", "sentAt": w.db.Now(), "customerID": owner, "recipients": []map[string]any{{"address": "a@example.com", "kind": "TO"}},
		}).RecordID()
		messages := export.Spec{Type: "Message", Format: export.CSV}
		w.asked("compliance", messages)
		w.update("admin", "Message", m, record.Values{"recipients": []map[string]any{{"address": "b@example.com", "kind": "TO"}}})
		w.Equal([]string{"FAILED EXPORT_STALE"}, w.codes(w.run("admin", lifecycle.Delete, m)))
		w.Equal([]string{"FAILED EXPORT_STALE"}, w.codes(w.run("admin", lifecycle.Delete, owner)), "with what comes along")
		w.update("admin", "Message", m, record.Values{"recipients": []map[string]any{{"address": "a@example.com", "kind": "TO"}}})
		w.Equal([]string{"CHANGED", "CHANGED"}, w.codes(w.run("admin", lifecycle.Delete, owner)), "it says again what the export says")
	})
}

func TestWhichExportsStandForRecords(t *testing.T) {
	each(t, func(w *world) {
		w.wait("Customer", lifecycle.Delete)
		c := w.customer("admin", "one")
		refused := func(why string) {
			w.Helper()
			w.Equal([]string{"FAILED EXPORT_REQUIRED"}, w.codes(w.run("admin", lifecycle.Delete, c)), why)
		}
		id, err := w.exports.Create(w.as("compliance"), customers)
		w.NoError(err)
		refused("not made yet")
		w.NoError(w.exports.Cancel(w.as("compliance"), id))
		w.work()
		w.hide("manager", "Customer.email")
		w.refreshed()
		w.asked("manager", customers)
		refused("masked")
		e := w.asked("compliance", customers)
		w.NoError(w.exports.Delete(w.as("compliance"), e.ID))
		refused("deleted")
		w.asked("compliance", customers)
		w.clock.add(8 * 24 * time.Hour)
		_, err = w.exports.Expire(w.Context())
		w.NoError(err)
		refused("gone, and nobody fetched it")
		e = w.asked("compliance", customers)
		w.Equal(200, w.fetch("compliance", "/exports/"+e.ID.String()).Code)
		w.clock.add(8 * 24 * time.Hour)
		_, err = w.exports.Expire(w.Context())
		w.NoError(err)
		w.Equal([]string{"CHANGED"}, w.codes(w.run("admin", lifecycle.Delete, c)), "somebody has it")
	})
}

func TestTimersAndRulesWaitForAnExport(t *testing.T) {
	each(t, func(w *world) {
		c, ruled := w.customer("admin", "binned"), w.customer("admin", "ruled")
		w.run("admin", lifecycle.Delete, c)
		w.wait("Customer", lifecycle.Purge, lifecycle.Delete)
		_, _, err := w.records.CreateRetentionRule(w.as("compliance"), record.RetentionRule{
			Name: "old", Reason: "old", Type: "Customer", All: true, Basis: lifecycle.CreatedAt, Term: lifecycle.Term{Length: 1, Unit: lifecycle.Days},
			Action: lifecycle.DeleteAction, EveryHours: 1, Enabled: true,
		})
		w.NoError(err)
		w.clock.add(31 * 24 * time.Hour)
		operations := len(w.rows(`SELECT id FROM operations`))
		turn := func() (purged, acted int) {
			var err error
			purged, err = w.records.Sweep(w.Context())
			w.NoError(err)
			acted, err = w.records.ApplyRules(w.Context())
			w.NoError(err)
			w.clock.add(time.Hour + time.Minute)
			return purged, acted
		}
		for range 3 { // the first turn of a rule only looks
			purged, acted := turn()
			w.Zero(purged)
			w.Zero(acted)
		}
		w.Len(w.rows(`SELECT id FROM operations`), operations, "what waits leaves nothing behind")
		w.Empty(w.rows(`SELECT record_id FROM retention_waits`))
		w.asked("compliance", whole)
		purged, acted := turn()
		w.Equal(1, purged)
		w.Equal(1, acted)
		rows, err := w.records.Client(w.everything()).QueryRecords(w.everything(), "Customer", func(s *sql.Selector) {})
		w.NoError(err)
		w.Len(rows, 1)
		w.Equal([]any{ruled, lifecycle.Deleted}, []any{rows[0].RecordID(), rows[0].RecordState()})
	})
}

func TestWhoMaySayWhatWaits(t *testing.T) {
	each(t, func(w *world) {
		_, err := w.records.RequireExport(w.as("manager"), 1, "Customer", []lifecycle.Verb{lifecycle.Purge})
		w.fails(lifecycle.Forbidden, err)
		_, err = w.records.RequireExport(w.as("admin"), 1, "Customer", []lifecycle.Verb{lifecycle.Archive})
		w.fails(lifecycle.BadUserInput, err)
		_, err = w.records.RequireExport(w.as("admin"), 7, "Customer", nil)
		w.fails(lifecycle.Conflict, err)
		s, err := w.records.RequireExport(w.as("admin"), 1, "Customer", []lifecycle.Verb{lifecycle.Purge, lifecycle.Void, lifecycle.Purge})
		w.NoError(err)
		w.Equal(record.ExportBefore{"Customer": {lifecycle.Void, lifecycle.Purge}}, s.ExportBefore)
		s, err = w.records.RequireExport(w.as("admin"), s.Version, "Customer", nil)
		w.NoError(err)
		w.Empty(s.ExportBefore)
	})
}
