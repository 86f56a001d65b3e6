package importer_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/xuri/excelize/v2"

	"github.com/lethe-crm/lethe/internal/importer"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// file writes a file of a name.
func (w *world) file(name, content string) string {
	return filepath.Join(w.write(map[string]string{name: content}), name)
}

// workbook writes rows of cells as the first sheet of a workbook.
func (w *world) workbook(rows ...[]any) string {
	w.Helper()
	book := excelize.NewFile()
	for i, row := range rows {
		require.NoError(w, book.SetSheetRow("Sheet1", fmt.Sprintf("A%d", i+1), &row))
	}
	path := filepath.Join(w.TempDir(), "book.xlsx")
	require.NoError(w, book.SaveAs(path))
	return path
}

// rows reads columns of a table as text, sorted.
func (w *world) rows(query string, args ...any) []string {
	w.Helper()
	var out []string
	err := store.Build(w.db).Add(query, args...).Query(w.Context(), w.db, func(row store.Row) error {
		var text *string
		err := row.Scan(&text)
		if text != nil {
			out = append(out, *text)
		}
		return err
	})
	require.NoError(w, err)
	return out
}

func TestEveryTypeIsImportedFromEveryFormatOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.create("admin", "Customer", record.Values{"name": "Акме", "email": "info@acme.example", "phone": "+7 (495) 123-45.67"})
		w.create("admin", "Customer", record.Values{"name": "Twin"})
		w.create("admin", "Customer", record.Values{"name": "Twin"})
		number := w.rows(`SELECT number FROM customers WHERE name = ?`, "Акме")[0]
		for _, test := range []struct {
			as, csv string
			want    []int
			table   string
		}{
			{importer.Contacts, "name,email,customer,title\nВера,vera@acme.example," + number + ",CEO\nLi,li@acme.example,info@acme.example,\nBo,bo@x.example,Nobody,\nTy,,Twin,\n", []int{4, 2, 0, 0, 2}, "contacts"},
			{importer.Deals, "name,customer,amount,currency,stage,closesAt,number\nBig,Акме,\"1,234.50\",eur,won,2026-05-01,D-77\nSmall,Акме,12,usd,,,\n", []int{2, 2, 0, 0, 0}, "deals"},
			{importer.Tasks, "title,customer,dueAt,done,assignee,deal\nCall back,Акме,2026-03-02 10:30,yes,agent@acme.example,D-77\nWrite,Акме,,no,nobody@acme.example,\n", []int{2, 2, 0, 0, 0}, "tasks"},
			{importer.Notes, "body,happenedAt,kind,customer,contact\nMet,2026-03-01,meeting,Акме,Вера\nLoose,2026-03-01T09:00:00+03:00,,,\n", []int{2, 2, 0, 0, 0}, "notes"},
			{importer.Calls, "startedAt,fromNumber,toNumber,direction,duration,outcome,externalID\n2026-03-01 09:00,+7 (495) 123-45-67,,inbound,1:02:03,answered,\n2026-03-01 10:00,,0044 20 7946 0958,OUTBOUND,75,missed,pbx-1\n2026-03-01 11:00,8 495 123,,,1,,\n", []int{3, 2, 0, 0, 1}, "calls"},
			{importer.Messages, "subject,sentAt,sender,recipients,messageID,channel\nHello,2026-03-01,info@acme.example,agent@acme.example; b@x.example,m-1@x,email\nText,2026-03-02,,,,sms\n", []int{2, 2, 0, 0, 0}, "messages"},
		} {
			maps := map[string]string(nil)
			if test.as == importer.Calls {
				maps = map[string]string{"startedAt": "startedAt", "fromNumber": "fromNumber", "toNumber": "toNumber", "direction": "direction", "duration": "durationSeconds", "outcome": "outcome", "externalID": "externalID"}
			}
			config := importer.Config{As: test.as, Path: w.csv(test.csv), Map: maps}
			dry := config
			dry.DryRun = true
			require.Equal(t, test.want, outcomes(w.imported("admin", dry)), "dry %s", test.as)
			require.Equal(t, 0, w.count(test.table))
			report := w.imported("admin", config)
			require.Equal(t, test.want, outcomes(report), "%s: %+v", test.as, report.Items)
			again := w.imported("admin", config)
			require.Equal(t, []int{test.want[0], 0, test.want[1], 0, test.want[4]}, outcomes(again), "%s again: %+v", test.as, again.Items)
			require.Equal(t, test.want[1], w.count(test.table))

			// The same rows as JSON Lines are the same records.
			lines := w.file("rows.jsonl", jsonLines(t, test.csv))
			config.Path = lines
			require.Equal(t, outcomes(again), outcomes(w.imported("admin", config)), "%s as JSON Lines", test.as)
		}
		require.Equal(t, []string{"+442079460958", "+74951234567"}, w.rows(`SELECT COALESCE(from_number, to_number) FROM calls ORDER BY 1`))
		require.Equal(t, []string{"3723"}, w.rows(`SELECT CAST(duration_seconds AS text) FROM calls WHERE from_number IS NOT NULL`))
		require.Equal(t, []string{acme.UUID()}, w.rows(`SELECT CAST(customer_id AS text) FROM calls WHERE customer_id IS NOT NULL`), "found by its phone number")
		require.Equal(t, []string{"EUR", "USD"}, w.rows(`SELECT currency FROM deals ORDER BY 1`))
		require.Equal(t, []string{"Call back"}, w.rows(`SELECT title FROM tasks WHERE deal_id IS NOT NULL AND assignee_id IS NOT NULL`))
		require.Equal(t, []string{"Met"}, w.rows(`SELECT body FROM notes WHERE contact_id IS NOT NULL`))
		require.Equal(t, []string{"Hello"}, w.rows(`SELECT subject FROM messages WHERE customer_id IS NOT NULL`), "found by its sender")
		require.Len(t, w.rows(`SELECT address FROM recipients`), 2)
	})
}

// jsonLines writes a CSV without quotes in its values as objects.
func jsonLines(t *testing.T, csv string) string {
	t.Helper()
	csv = strings.ReplaceAll(csv, "\"1,234.50\"", "1234.50")
	rows := strings.Split(strings.TrimSpace(csv), "\n")
	header := strings.Split(rows[0], ",")
	var b strings.Builder
	for _, row := range rows[1:] {
		cells := strings.Split(row, ",")
		require.Len(t, cells, len(header), row)
		b.WriteString("{")
		for i, cell := range cells {
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, "%q: %q", header[i], cell)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

func TestAWorkbookIsReadAsItIsStored(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		path := w.workbook(
			[]any{"startedAt", "fromNumber", "durationSeconds", "externalID"},
			[]any{46082.375, "+74951234567", 90, "a"},
			[]any{},
			[]any{"2026-03-01 10:00", "+8613800138000", "12:00", "b"},
			[]any{"never", "", "", "c"},
			[]any{46082, "", "", "", "", "one too many"},
		)
		report := w.imported("admin", importer.Config{As: importer.Calls, Path: path, Timezone: "Europe/Moscow"})
		require.Equal(t, []int{4, 2, 0, 0, 2}, outcomes(report), "%+v", report.Items)
		require.Equal(t, importer.Unreadable, find(t, report, "", 6).Code)
		require.Contains(t, find(t, report, "", 5).Reason, "startedAt")
		at := w.rows(`SELECT external_id FROM calls WHERE started_at = ? AND duration_seconds = 90`, start.AddDate(0, 0, 0).UTC().Truncate(24*3600e9).Add(6*3600e9))
		require.Equal(t, []string{"a"}, at, "9:00 in Moscow is 6:00 UTC")
		require.Equal(t, []string{"720"}, w.rows(`SELECT CAST(duration_seconds AS text) FROM calls WHERE external_id = 'b'`))
	})
}

func TestWhatCannotBeLinkedIsSaid(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		gone := w.create("admin", "Customer", record.Values{"name": "Gone", "email": "gone@x.example"})
		w.retire(lifecycle.Delete, gone)
		csv := "body,happenedAt,customer,customerID\nA,2026-03-01,Nobody,\nB,2026-03-01,," + gone.String() + "\nC,2026-03-01,Gone,\n"
		report := w.imported("admin", importer.Config{As: importer.Notes, Path: w.csv(csv), Map: map[string]string{"body": "body", "happenedAt": "happenedAt", "customer": "customer"}})
		require.Equal(t, []int{3, 3, 0, 0, 0}, outcomes(report))
		require.Contains(t, find(t, report, "", 2).Warnings[0], `customer: there is no live record "Nobody"`)
		require.Len(t, w.rows(`SELECT body FROM notes WHERE customer_id IS NULL`), 3)
		report = w.imported("admin", importer.Config{As: importer.Notes, Path: w.csv("body,happenedAt,customerID\nD,2026-03-01," + gone.String() + "\n")})
		require.Equal(t, []int{1, 0, 0, 0, 1}, outcomes(report))
		require.Equal(t, "PARENT_RETIRED", find(t, report, "", 2).Code)
	})
}

func TestBadLinesOfJSONAreReportedAndPassedOver(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		path := w.file("notes.jsonl", `{"body": "A", "happenedAt": "2026-03-01"}
not json
{"body": "B", "happenedAt": "2026-03-01", "body": "C"}
{"body": {"x": 1}, "happenedAt": "2026-03-01"}

{"happenedAt": "2026-03-01"}
{"body": "D", "happenedAt": "2026-03-01", "kind": "band"}
{"body": "Я 你好", "happenedAt": "2026-03-01", "kind": "visit"}
`)
		report := w.imported("admin", importer.Config{As: importer.Notes, Path: path})
		require.Equal(t, []int{7, 2, 0, 0, 5}, outcomes(report), "%+v", report.Items)
		for line, says := range map[int]string{2: "object", 3: "twice", 4: "list", 6: "required", 7: "MEETING"} {
			require.Contains(t, find(t, report, "", line).Reason, says)
		}
		require.Equal(t, []string{"A", "Я 你好"}, w.rows(`SELECT body FROM notes ORDER BY body`))
	})
}

func TestStatementsOfAnImportDoNotGrowWithItsRows(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for i := range 300 {
			w.create("admin", "Customer", record.Values{"name": fmt.Sprint("C", i)})
		}
		cost := func(from, n int) int64 {
			var csv strings.Builder
			csv.WriteString("startedAt,fromNumber,customer\n")
			for i := range n {
				fmt.Fprintf(&csv, "2026-03-01 09:%02d:%02d,+7495%07d,C%d\n", i/60, i%60, from+i, i)
			}
			before := w.statements.Load()
			report := w.imported("admin", importer.Config{As: importer.Calls, Path: w.csv(csv.String())})
			require.Equal(t, n, report.Created, "%+v", report.Items)
			return w.statements.Load() - before
		}
		require.Equal(t, cost(0, 20), cost(1000, 300))
	})
}

func TestWhoMayNotImportATypeImportsNothing(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, err := w.run("viewer", importer.Config{As: importer.Notes, Path: w.csv("body,happenedAt\nA,2026-03-01\n")})
		var refused *record.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, lifecycle.Forbidden, refused.Code)
		require.Zero(t, w.count("notes"))
	})
}
