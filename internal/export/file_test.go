package export_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/xuri/excelize/v2"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/message"
	"github.com/lethe-crm/lethe/internal/export"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/importer"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// naughty are strings that break what reads them, as far as a record may hold them.
func naughty(w *world) []string {
	w.Helper()
	text, err := os.ReadFile("../importer/testdata/blns.json")
	w.NoError(err)
	list := decode[[]string](w, text)
	list = append(list, "=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'quoted", "''", "_x0001_", "a\x01b\x1f", "line\r\nline\nline\rline", `a "quoted", text;`, "\uFFFE", "＝1", " ", "  both  ")
	return slices.DeleteFunc(list, func(s string) bool { return s == "" || strings.ContainsRune(s, 0) })
}

// said is what a row of a table says, by column.
type said map[string]string

func readFile(w *world, path string) []said {
	w.Helper()
	var rows [][]string
	switch filepath.Ext(path) {
	case ".csv":
		file, err := os.Open(path)
		w.NoError(err)
		defer file.Close()
		rows, err = csv.NewReader(file).ReadAll()
		w.NoError(err)
	case ".xlsx":
		file, err := excelize.OpenFile(path)
		w.NoError(err)
		defer file.Close()
		rows, err = file.GetRows("Sheet1", excelize.Options{RawCellValue: true})
		w.NoError(err)
	case ".jsonl":
		text, err := os.ReadFile(path)
		w.NoError(err)
		var out []said
		for line := range strings.Lines(string(text)) {
			row := said{}
			for name, v := range decode[map[string]any](w, []byte(line)) {
				if v != nil {
					row[name] = fmt.Sprint(v)
				}
			}
			out = append(out, row)
		}
		return out
	}
	var out []said
	for _, cells := range rows[1:] {
		row := said{}
		for i, cell := range cells {
			if cell != "" {
				row[rows[0][i]] = cell
			}
		}
		out = append(out, row)
	}
	return out
}

func TestAFileSaysWhatTheRecordsSay(t *testing.T) {
	each(t, func(w *world) {
		c := w.create("admin", "Customer", record.Values{"name": "=cmd|' /C calc'!A0", "email": "a@example.com", "number": "C-7"})
		d := w.create("admin", "Deal", record.Values{"name": "Deal", "amount": -5.25, "customerID": c.RecordID()}).RecordID()
		m := w.create("admin", "Message", record.Values{
			"subject": "Hello", "body": "text", "sentAt": time.Date(2026, 2, 1, 8, 0, 0, 123_456_000, time.UTC), "customerID": c.RecordID(), "dealID": d,
			"recipients": []map[string]any{{"address": "b@example.com", "name": "B", "kind": "CC"}},
		}).RecordID()
		w.create("admin", "Attachment", record.Values{"filename": "offer.pdf", "messageID": m})
		folder := w.TempDir()
		for _, f := range export.Formats() {
			path := filepath.Join(folder, "deals"+f.Extension())
			_, err := w.exports.ToFile(w.as("admin"), export.Spec{Type: "Deal", Format: f}, path)
			w.NoError(err)
			rows := readFile(w, path)
			w.Len(rows, 1)
			w.Equal("-5.25", rows[0]["amount"], "a number is not guarded")
			w.Equal(c.RecordID().String(), rows[0]["customerID"])
			w.Equal([]string{"C-7", "a@example.com", "ACTIVE", "admin@acme.example"}, []string{rows[0]["customerNumber"], rows[0]["customerEmail"], rows[0]["state"], rows[0]["ownerEmail"]})

			path = filepath.Join(folder, "messages"+f.Extension())
			_, err = w.exports.ToFile(w.as("admin"), export.Spec{Type: "Message", Format: f}, path)
			w.NoError(err)
			rows = readFile(w, path)
			w.Equal("2026-02-01T08:00:00.123456Z", rows[0]["sentAt"])
			w.JSONEq(`[{"address": "b@example.com", "name": "B", "kind": "CC"}]`, rows[0]["recipients"])
			w.JSONEq(`["offer.pdf"]`, rows[0]["attachments"])

			path = filepath.Join(folder, "customers"+f.Extension())
			manifest, err := w.exports.ToFile(w.as("admin"), export.Spec{Type: "Customer", Format: f, Reason: "a look"}, path)
			w.NoError(err)
			rows = readFile(w, path)
			want := "=cmd|' /C calc'!A0"
			if f == export.CSV {
				want = "'" + want
			}
			w.Equal(want, rows[0]["name"])

			text, err := os.ReadFile(export.ManifestName(path))
			w.NoError(err)
			beside := decode[export.Manifest](w, text)
			file, err := os.ReadFile(path)
			w.NoError(err)
			sum := sha256.Sum256(file)
			w.Equal(hex.EncodeToString(sum[:]), beside.SHA256)
			w.Equal(beside.SHA256, beside.PlainSHA256)
			w.EqualValues(len(file), beside.Bytes)
			records := sha256.Sum256([]byte(c.RecordID().String() + " 1\n"))
			w.Equal(hex.EncodeToString(records[:]), beside.RecordsSHA256)
			w.Equal([]any{"acme", "admin@acme.example", "Customer", "a look", 1, true}, []any{beside.Tenant, beside.RequestedBy, beside.Type, beside.Reason, beside.Rows, beside.Complete})
			w.Equal(manifest.SHA256, beside.SHA256)
			left, err := filepath.Glob(filepath.Join(folder, ".lethe*"))
			w.NoError(err)
			w.Empty(left)
		}
		w.Equal([]string{"SUCCEEDED"}, slices.Compact(w.rows(`SELECT status FROM exports`)))
		w.Len(w.rows(`SELECT action FROM audit_events WHERE action = 'EXPORT_FINISH' AND detail IS NOT NULL`), 9)
	})
}

func TestAFileIsThereWholeOrNotAtAll(t *testing.T) {
	each(t, func(w *world) {
		w.customer("admin", "one")
		path := filepath.Join(w.TempDir(), "no", "such", "folder.csv")
		_, err := w.exports.ToFile(w.as("admin"), export.Spec{Type: "Customer", Format: export.CSV}, path)
		w.Error(err)
		folder := w.TempDir()
		path = filepath.Join(folder, "taken.csv")
		w.NoError(os.MkdirAll(filepath.Join(path, "by a folder"), 0o700))
		_, err = w.exports.ToFile(w.as("admin"), export.Spec{Type: "Customer", Format: export.CSV}, path)
		w.Error(err)
		left, err := filepath.Glob(filepath.Join(folder, ".lethe*"))
		w.NoError(err)
		w.Empty(left)
		w.Equal([]string{"FAILED"}, w.rows(`SELECT status FROM exports`))
		w.Empty(w.rows(`SELECT record_id FROM export_rows`))
	})
}

func TestAnEncryptedFileIsForItsRecipients(t *testing.T) {
	each(t, func(w *world) {
		w.customer("admin", "secret")
		one, err := age.GenerateX25519Identity()
		w.NoError(err)
		other, err := age.GenerateX25519Identity()
		w.NoError(err)
		path := filepath.Join(w.TempDir(), "customers.csv.age")
		m, err := w.exports.ToFile(w.as("admin"), export.Spec{Type: "Customer", Format: export.CSV, EncryptTo: []string{one.Recipient().String(), other.Recipient().String()}}, path)
		w.NoError(err)
		file, err := os.ReadFile(path)
		w.NoError(err)
		w.NotContains(string(file), "secret")
		for _, id := range []*age.X25519Identity{one, other} {
			plain, err := age.Decrypt(bytes.NewReader(file), id)
			w.NoError(err)
			text, err := io.ReadAll(plain)
			w.NoError(err)
			w.Contains(string(text), "secret")
			sum := sha256.Sum256(text)
			w.Equal(hex.EncodeToString(sum[:]), m.PlainSHA256)
			w.EqualValues(len(text), m.PlainBytes)
		}
		w.NotEqual(m.SHA256, m.PlainSHA256)
		for _, wrong := range []string{"age1", "", "AGE-SECRET-KEY-1", one.Recipient().String() + "\n" + other.Recipient().String(), "# comment"} {
			_, err := w.exports.ToStream(w.as("admin"), export.Spec{Type: "Customer", Format: export.CSV, EncryptTo: []string{wrong}}, io.Discard)
			w.fails(lifecycle.BadUserInput, err)
		}
	})
}

func TestOnlyWhatTheRequesterMayReadAndExportIsInAFile(t *testing.T) {
	each(t, func(w *world) {
		w.customer("admin", "sales")
		foreign := w.customer("agent", "support") // of another team
		retired := w.customer("manager", "gone")
		w.run("admin", lifecycle.Delete, retired)
		names := func(as string, states ...lifecycle.State) (out []string) {
			var b bytes.Buffer
			_, err := w.exports.ToStream(w.as(as), export.Spec{Type: "Customer", Format: export.JSONL, States: states}, &b)
			w.NoError(err)
			for line := range strings.Lines(b.String()) {
				name, _ := decode[map[string]any](w, []byte(line))["name"].(string)
				out = append(out, name)
			}
			return out
		}
		w.Equal([]string{"sales"}, names("manager"))
		w.Equal([]string{"sales", "support"}, names("compliance"))
		w.Equal([]string{"gone"}, names("manager", lifecycle.Deleted))
		w.Equal([]string{"sales", "gone"}, names("manager", lifecycle.Deleted, lifecycle.Active))
		for _, as := range []string{"agent", "viewer", "purger"} {
			_, err := w.exports.ToStream(w.as(as), export.Spec{Type: "Customer", Format: export.CSV}, io.Discard)
			w.fails(lifecycle.Forbidden, err)
			_, err = w.exports.Create(w.as(as), export.Spec{Type: "Customer", Format: export.CSV})
			w.fails(lifecycle.Forbidden, err)
		}
		w.NotEmpty(w.rows(`SELECT code FROM audit_events WHERE action = 'EXPORT_REQUEST' AND outcome = 'REFUSED'`))

		// What a record refers to is nothing to who may not read it.
		w.create("manager", "Note", record.Values{"body": "about somebody else's", "happenedAt": w.db.Now(), "customerID": w.customer("manager", "own")})
		w.exec(`UPDATE notes SET customer_id = ?`, foreign)
		var b bytes.Buffer
		m, err := w.exports.ToStream(w.as("manager"), export.Spec{Type: "Note", Format: export.JSONL}, &b)
		w.NoError(err)
		w.NotContains(b.String(), foreign.String())
		w.Equal(map[string]int{"customerID": 1}, m.Masked)
	})
}

func TestMaskedFieldsAreEmptyAndCounted(t *testing.T) {
	each(t, func(w *world) {
		id := w.customer("admin", "hidden")
		w.hide("manager", "Customer.email")
		w.refreshed()
		for _, f := range export.Formats() {
			path := filepath.Join(w.TempDir(), "customers"+f.Extension())
			m, err := w.exports.ToFile(w.as("manager"), export.Spec{Type: "Customer", Format: f}, path)
			w.NoError(err)
			w.Equal(map[string]int{"email": 1}, m.Masked)
			w.False(m.Complete)
			rows := readFile(w, path)
			w.Equal("hidden", rows[0]["name"])
			w.NotContains(rows[0], "email")
		}
		// Nor may he find out by a filter what it is, nor by what refers to it.
		filter, err := record.ParseFilter("Customer", []byte(`{"emailContains": "hidden"}`))
		w.NoError(err)
		_, err = w.exports.Create(w.as("manager"), export.Spec{Type: "Customer", Format: export.CSV, Filter: filter})
		w.fails(lifecycle.FieldForbidden, err)
		nested, err := record.ParseFilter("Note", []byte(`{"or": [{"hasCustomerWith": [{"not": {"emailContains": "hidden"}}]}]}`))
		w.NoError(err)
		_, err = w.exports.Create(w.as("manager"), export.Spec{Type: "Note", Format: export.CSV, Filter: nested})
		w.fails(lifecycle.FieldForbidden, err)
		w.create("manager", "Note", record.Values{"body": "n", "happenedAt": w.db.Now(), "customerID": id})
		var b bytes.Buffer
		m, err := w.exports.ToStream(w.as("manager"), export.Spec{Type: "Note", Format: export.JSONL}, &b)
		w.NoError(err)
		w.NotContains(b.String(), "hidden@example.com")
		w.True(m.Complete, "the address beside a reference is no part of the note")
	})
}

func TestTextThatIsLongerThanACellIsCutAndSaysSo(t *testing.T) {
	each(t, func(w *world) {
		for _, body := range []string{strings.Repeat("я", 32_767), strings.Repeat("x", 32_766) + "😀", strings.Repeat("x", 32_760) + "\x01"} {
			w.create("admin", "Note", record.Values{"body": body, "happenedAt": w.db.Now()})
		}
		path := filepath.Join(w.TempDir(), "notes.xlsx")
		m, err := w.exports.ToFile(w.as("admin"), export.Spec{Type: "Note", Format: export.XLSX}, path)
		w.NoError(err)
		w.Equal(map[string]int{"body": 1}, m.Cut)
		w.False(m.Complete)
		rows := readFile(w, path)
		w.Equal(strings.Repeat("я", 32_767), rows[0]["body"])
		w.Equal(strings.Repeat("x", 32_766), rows[1]["body"])
		w.Equal(strings.Repeat("x", 32_760)+"_x0001_", rows[2]["body"])
		m, err = w.exports.ToStream(w.as("admin"), export.Spec{Type: "Note", Format: export.CSV}, io.Discard)
		w.NoError(err)
		w.True(m.Complete)
	})
}

// content is what records of a type say, but for what is theirs alone: ids, numbers
// and stamps. References are to live records, which stay.
func (w *world) content(t *ent.RecordType) []string {
	w.Helper()
	rows, err := w.records.Client(w.everything()).QueryRecords(w.everything(), t.Name)
	w.NoError(err)
	contents, err := w.records.ContentsOf(w.Context(), w.db, w.tenant, rows)
	w.NoError(err)
	out := make([]string, len(rows))
	for i, row := range rows {
		fields := map[string]any{"parts": contents[row.RecordID()].Parts}
		for _, f := range t.Fields {
			if v := row.Column(f.Name); f.GraphQL != "number" && v != nil && v != "" && !f.ReadOnly {
				fields[f.GraphQL] = v
			}
		}
		text, err := json.Marshal(fields)
		w.NoError(err)
		out[i] = string(text)
	}
	slices.Sort(out)
	return out
}

func TestWhatWasPurgedComesBackFromItsExport(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("admin", "stays")
		contact := w.create("admin", "Contact", record.Values{"name": "Stays", "email": "stays@example.org", "customerID": c}).RecordID()
		deal := w.create("admin", "Deal", record.Values{"name": "Stays", "amount": 12.5, "customerID": c}).RecordID()
		list := naughty(w)
		var values []record.Values
		at := time.Date(2026, 2, 1, 8, 0, 0, 1_000, time.UTC)
		for i, text := range list {
			short := text
			if r := []rune(short); len(r) > 400 {
				short = string(r[:400])
			}
			values = append(values, record.Values{
				"subject": short, "body": text, "sentAt": at.Add(time.Duration(i) * time.Second), "sender": short, "senderName": short, "customerID": c, "contactID": contact, "dealID": deal,
				"direction": message.DirectionOUTBOUND, "messageID": fmt.Sprintf("<%d@example.com>", i),
				"recipients": []map[string]any{{"address": "x" + short, "name": short, "kind": "BCC"}, {"address": "b@example.com", "kind": "TO"}},
			})
		}
		for chunk := range slices.Chunk(values, 200) {
			_, refused, err := w.records.CreateMany(w.as("admin"), "Message", chunk)
			w.NoError(err)
			for _, err := range refused {
				w.NoError(err)
			}
		}
		more := map[string]record.Values{
			"Customer": {"name": "'=back", "email": "back@example.com", "phone": "+74951234567", "number": "C-77"},
			"Contact":  {"name": "+back", "email": "back@example.com", "customerID": c, "title": "=CEO()"},
			"Deal":     {"name": "-back", "amount": -0.1, "customerID": c, "primaryContactID": contact},
			"Task":     {"title": "@back", "body": "a\r\nb", "dueAt": at, "customerID": c, "dealID": deal, "done": true, "assigneeID": w.users["manager"]},
			"Call":     {"startedAt": at, "fromNumber": "+74951234567", "durationSeconds": 7, "customerID": c, "contactID": contact},
			"Note":     {"body": "\tback", "happenedAt": at, "customerID": c},
		}
		stays := map[string]any{"Customer": c, "Contact": contact, "Deal": deal}
		folder := w.TempDir()
		w.exec(`UPDATE tenants SET brake_records = NULL, brake_percent = NULL, brake_hour = NULL, brake_day = NULL`)
		w.exec(`UPDATE approval_rules SET enabled = ?`, false)
		for typ, v := range more {
			w.create("admin", typ, v)
		}
		for _, f := range export.Formats() {
			for _, t := range ent.RecordTypes {
				if t.Name != "Message" && more[t.Name] == nil {
					continue
				}
				before := w.content(t)
				path := filepath.Join(folder, t.Table+f.Extension())
				_, err := w.exports.ToFile(w.as("admin"), export.Spec{Type: t.Name, Format: f}, path)
				w.NoError(err)

				report := w.imported(t.Table, path)
				w.Equal([]int{0, len(before)}, []int{report.Created, report.Duplicate}, "live twins are found: %s %+v", t.Name, report.Items)

				rows, err := w.records.Client(w.everything()).QueryRecords(w.everything(), t.Name)
				w.NoError(err)
				var ids []gid.ID
				for _, row := range rows {
					if row.RecordID() != stays[t.Name] {
						ids = append(ids, row.RecordID())
					}
				}
				w.Equal([]string{"CHANGED"}, slices.Compact(w.codes(w.run("admin", lifecycle.Delete, ids...))))
				report = w.imported(t.Table, path)
				w.Zero(report.Created, "an import never revives what is in the bin")
				w.Equal([]string{"CHANGED"}, slices.Compact(w.codes(w.run("purger", lifecycle.Purge, ids...))))
				report = w.imported(t.Table, path)
				w.Zero(report.Failed, "%s %+v", t.Name, report.Items)
				w.Empty(report.UnusedColumns)
				w.Equal(before, w.content(t), "%s as %s", t.Name, f)

				report = w.imported(t.Table, path)
				w.Zero(report.Created, "nothing is doubled: %s %+v", t.Name, report.Items)
			}
		}
	})
}

func (w *world) imported(as, path string) importer.Report {
	w.Helper()
	report, err := importer.Run(w.as("admin"), importer.Config{
		DB: w.db, Records: w.records, Control: w.control, Audit: w.log, As: as, Path: path, Now: w.clock.now,
	})
	w.NoError(err, "%+v", report)
	return report
}
