package importer_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/xuri/excelize/v2"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/importer"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
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

func TestAContactIsThereAlreadyWithinItsCustomer(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		first := w.create("admin", "Customer", record.Values{"name": "First"})
		second := w.create("admin", "Customer", record.Values{"name": "Second"})
		contact := func(email string, of gid.ID) gid.ID {
			return w.create("admin", "Contact", record.Values{"name": "Li", "email": email, "customerID": of})
		}
		contact("live@x.example", first)
		w.retire(lifecycle.Delete, contact("gone@x.example", first))
		w.retire(lifecycle.Void, contact("void@x.example", first))
		w.retire(lifecycle.Delete, contact("back@x.example", first))
		contact("back@x.example", first)
		for text, want := range map[string]importer.Outcome{
			"LIVE@x.example,First": importer.Duplicate, "gone@x.example,First": importer.InBin, "Void@x.example,First": importer.InBin, "back@x.example,First": importer.Duplicate,
			"live@x.example,Second": importer.Created, "gone@x.example,Second": importer.Created,
		} {
			for _, dry := range []bool{true, false} {
				report := w.imported("admin", importer.Config{As: importer.Contacts, DryRun: dry, Path: w.csv("name,email,customer\nA," + text + "\n")})
				if want == importer.Created {
					require.Equal(t, 1, report.Created, "%s: %+v", text, report.Items)
					continue
				}
				item := find(t, report, "", 2)
				require.Equal(t, want, item.Outcome, "%s: %+v", text, item)
				require.Equal(t, "UNIQUE_CONFLICT", item.Code)
				require.Contains(t, item.Reason, "email")
			}
		}
		report := w.imported("admin", importer.Config{As: importer.Contacts, Path: w.csv("name,email,customerID\nA,gone@x.example," + first.String() + "\nB,new@x.example," + second.String() + "\n")})
		require.Equal(t, []int{2, 1, 0, 1, 0}, outcomes(report), "%+v", report.Items)
	})
}

func TestADryRunOfManyBatchesCountsAsTheRealOne(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.create("admin", "Customer", record.Values{"name": "First"})
		w.create("admin", "Customer", record.Values{"name": "Second"})
		var contacts, notes strings.Builder
		contacts.WriteString("name,email,customer\n")
		notes.WriteString("body,happenedAt,customer\n")
		for i := range 600 {
			fmt.Fprintf(&contacts, "A,a%d@x.example,First\n", i)
			fmt.Fprintf(&notes, "%d,2026-03-01,First\n", i)
		}
		contacts.WriteString("B,A7@x.example,First\nB,a7@x.example,Second\nB,a599@x.example,First\n")
		notes.WriteString("7,2026-03-01,First\n7,2026-03-01,Second\n599,2026-03-01,First\n")
		for as, csv := range map[string]string{importer.Contacts: contacts.String(), importer.Notes: notes.String()} {
			config := importer.Config{As: as, Path: w.csv(csv), DryRun: true}
			dry := w.imported("admin", config)
			config.DryRun = false
			kept := w.imported("admin", config)
			require.Equal(t, []int{603, 601, 2, 0, 0}, outcomes(kept), "%+v", kept.Items)
			kept.DryRun = true
			require.Equal(t, kept, dry)
		}
	})
}

func TestWhatSaysTheSameAsARetiredRecordIsInTheBin(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.create("admin", "Customer", record.Values{"name": "Acme", "phone": "+44 20 7946 0110"})
		w.retire(lifecycle.Delete, w.create("admin", "Customer", record.Values{"name": "Gone"}), w.create("admin", "Customer", record.Values{"name": "Back"}))
		w.create("admin", "Customer", record.Values{"name": "Back"})
		report := w.imported("admin", importer.Config{As: importer.Customers, Path: w.csv("name,kind,phone\n" +
			"Acme,company,+44 20 7946 0110\nAcme,person,+44 20 7946 0110\nAcme,,\nGone,,\nBack,,\n")})
		require.Equal(t, []int{5, 2, 2, 1, 0}, outcomes(report), "%+v", report.Items)
		require.Equal(t, importer.Duplicate, find(t, report, "", 2).Outcome)
		require.Equal(t, importer.InBin, find(t, report, "", 5).Outcome)
		require.Equal(t, importer.Duplicate, find(t, report, "", 6).Outcome, "what is live wins")

		w.retire(lifecycle.Void, w.create("admin", "Task", record.Values{"title": "Call back", "customerID": acme}))
		report = w.imported("admin", importer.Config{As: importer.Tasks, Path: w.csv("title,customer,customerID\nCall back,," + acme.String() + "\nCall back,,\n"), Map: map[string]string{"title": "title", "customerID": "customerID"}})
		require.Equal(t, []int{2, 1, 0, 1, 0}, outcomes(report), "%+v", report.Items)
	})
}

func TestColumnsThatFillNothingAreNamed(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		config := importer.Config{As: importer.Customers, Path: w.csv("Name,Site,E-mail,kind\nA,a.example,a@a.example,person\n"), Set: map[string]string{"kind": "COMPANY"}}
		require.Equal(t, []string{"Site", "E-mail", "kind"}, w.imported("admin", config).UnusedColumns)
		config.Map = map[string]string{"Name": "name"}
		require.Empty(t, w.imported("admin", config).UnusedColumns, "a mapping says what is wanted")
	})
}

func TestASenderMayStandWithAName(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		of := w.create("admin", "Customer", record.Values{"name": "Li", "email": "li@x.example"})
		header := "subject,sentAt,sender,senderName,recipients,channel\n"
		config := importer.Config{As: importer.Messages, Path: w.csv(header +
			"A,2026-03-01,Li Na <LI@x.example>,,\"Team List; Bo, Jr. <bo@x.example>, ed@x.example\",EMAIL\n" +
			"B,2026-03-02,Li Na <li@x.example>,Miss Li,,EMAIL\n" +
			"C,2026-03-03,li@x.example,,,EMAIL\n" +
			"D,2026-03-04,+7 (495) 123-45-67,,\"+7 (495) 1; 22\",SMS\n" +
			"E,2026-03-05,\"a@x.example, b@x.example\",,,EMAIL\n")}
		report := w.imported("admin", config)
		require.Equal(t, []int{5, 5, 0, 0, 0}, outcomes(report), "%+v", report.Items)
		got := map[string][]string{}
		for _, m := range w.messages() {
			name := ""
			if m.SenderName != nil {
				name = *m.SenderName
			}
			got[*m.Subject] = append(got[*m.Subject], *m.Sender, name)
			if *m.Subject < "D" {
				require.Equal(t, &of, m.CustomerID, *m.Subject)
			}
		}
		require.Equal(t, map[string][]string{
			"A": {"LI@x.example", "Li Na"}, "B": {"li@x.example", "Miss Li"}, "C": {"li@x.example", ""},
			"D": {"+7 (495) 123-45-67", ""}, "E": {"a@x.example, b@x.example", ""},
		}, got)
		require.ElementsMatch(t, []string{"Team List", "Bo", "bo@x.example", "ed@x.example", "+7 (495) 1", "22"}, w.rows(`SELECT address FROM recipients`))
		require.Equal(t, 5, w.imported("admin", config).Duplicate)
	})
}

func TestNumbersAreNotGuessed(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.create("admin", "Customer", record.Values{"name": "Acme"})
		var csv strings.Builder
		csv.WriteString("name;customer;amount\n")
		for i, amount := range []string{"1,234,567.50", "-1,234", "12.5", "1.234,50", "12,5", "1,2345", "1,23,456"} {
			fmt.Fprintf(&csv, "%d;Acme;%s\n", i, amount)
		}
		report := w.imported("admin", importer.Config{As: importer.Deals, Path: w.csv(csv.String())})
		require.Equal(t, []int{7, 3, 0, 0, 4}, outcomes(report), "%+v", report.Items)
		require.ElementsMatch(t, []string{"0", "1", "2"}, w.rows(`SELECT name FROM deals`))
		require.Contains(t, find(t, report, "", 5).Reason, "amount")
	})
}

func TestACallFindsAPhoneNumberHoweverItIsWritten(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for i, phone := range []string{"0044 20 7946 0110", "+44 (0)20 7946-0111", "004420.7946/0112"} {
			w.create("admin", "Customer", record.Values{"name": fmt.Sprint(i), "phone": phone})
		}
		report := w.imported("admin", importer.Config{As: importer.Calls, Path: w.csv("startedAt,fromNumber\n2026-03-01,+44 (0)20 7946 0110\n2026-03-01,+442079460111\n2026-03-01,00442079460112\n")})
		require.Equal(t, 3, report.Created, "%+v", report.Items)
		require.ElementsMatch(t, []string{"+4420794601100", "+4420794601111", "+4420794601122"},
			w.rows(`SELECT from_number || name FROM calls JOIN customers ON customers.id = calls.customer_id`))
	})
}

func TestAContactOfACustomerNobodyKnowsIsNotGuessed(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.create("admin", "Customer", record.Values{"name": "Acme"})
		w.create("admin", "Contact", record.Values{"name": "Li", "customerID": acme})
		report := w.imported("admin", importer.Config{As: importer.Notes, Path: w.csv("body,happenedAt,customer,contact\nA,2026-03-01,Nobody,Li\nB,2026-03-01,,Li\n")})
		require.Equal(t, 2, report.Created, "%+v", report.Items)
		require.Len(t, find(t, report, "", 2).Warnings, 2)
		require.Equal(t, []string{"B"}, w.rows(`SELECT body FROM notes WHERE contact_id IS NOT NULL`))
	})
}

func TestPostgreSQLTakesStockWhenATableDoubles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.Postgres(t), &atomic.Int64{})
	known := func(table string) string {
		return w.rows(`SELECT CAST(reltuples AS int)::text FROM pg_class WHERE relname = ?`, table)[0]
	}
	w.imported("admin", importer.Config{As: importer.Customers, Path: w.csv(customers(499, -1, ""))})
	require.Equal(t, "-1", known("customers"), "autovacuum is off in tests")
	w.imported("admin", importer.Config{As: importer.Customers, Path: w.csv(customers(499+2_200, -1, "")), DryRun: true})
	require.Equal(t, "-1", known("customers"))
	w.imported("admin", importer.Config{As: importer.Customers, Path: w.csv(customers(499+2_200, -1, ""))})
	// After 501 rows, and after 1,501: 1,001 are not twice as many.
	require.Equal(t, "2000", known("customers"))
	require.Equal(t, "2000", known("record_numbers"))
	var calls strings.Builder
	calls.WriteString("startedAt,externalID\n")
	for i := range 600 {
		fmt.Fprintf(&calls, "2026-03-01,%d\n", i)
	}
	w.imported("admin", importer.Config{As: importer.Calls, Path: w.csv(calls.String())})
	require.Equal(t, "500", known("calls"))
	require.Equal(t, "2000", known("customers"), "there are more of them than of what came")
}

func TestAWorkbookMayCountItsDaysFrom1904(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		path := w.workbook([]any{"startedAt", "externalID"}, []any{46082.375 - 1462, 46082})
		book, err := excelize.OpenFile(path)
		require.NoError(t, err)
		from1904 := true
		require.NoError(t, book.SetWorkbookProps(&excelize.WorkbookPropsOptions{Date1904: &from1904}))
		require.NoError(t, book.Save())
		require.NoError(t, book.Close())
		report := w.imported("admin", importer.Config{As: importer.Calls, Path: path})
		require.Equal(t, 1, report.Created, "%+v", report.Items)
		require.Equal(t, []string{"46082"}, w.rows(`SELECT external_id FROM calls WHERE started_at = ?`, start), "text fields have the number as it is")
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
			name := fmt.Sprint("C", i)
			customer := w.create("admin", "Customer", record.Values{"name": name, "email": name + "@x.example", "phone": fmt.Sprintf("+7495%07d", i)})
			w.create("admin", "Contact", record.Values{"name": name, "email": name + "@x.example", "customerID": customer})
			w.create("admin", "Deal", record.Values{"name": name, "customerID": customer})
		}
		for _, test := range []struct{ as, header, row string }{
			{importer.Customers, "name,email,domain,owner", "New %[1]d,new%[1]d@x.example,%[1]d.example,agent@acme.example"},
			{importer.Customers, "name,phone", "Loose %[1]d,+7499%07[1]d"},
			{importer.Contacts, "name,email,customer", "K%[1]d,k%[1]d@x.example,C%[2]d"},
			{importer.Contacts, "name,customer", "L%[1]d,c%[2]d@x.example"},
			{importer.Deals, "name,customer,number", "B%[1]d,C%[2]d,N-%[1]d"},
			{importer.Deals, "name,customer,amount", "B%[1]d,C%[2]d,%[1]d"},
			{importer.Tasks, "title,customer,assignee,deal", "T%[1]d,C%[2]d,agent@acme.example,C%[2]d"},
			{importer.Notes, "body,happenedAt,customer,contact", "N%[1]d,2026-03-01,C%[2]d,C%[2]d"},
			{importer.Calls, "startedAt,fromNumber,customer,externalID", "2026-03-01,+7499%07[1]d,C%[2]d,x%[1]d"},
			{importer.Calls, "startedAt,fromNumber,durationSeconds", "2026-03-01,+7495%07[2]d,%[1]d"},
			{importer.Messages, "subject,sentAt,sender,recipients,messageID", "S%[1]d,2026-03-01,c%[2]d@x.example,agent@acme.example,m%[1]d@x"},
			{importer.Messages, "subject,sentAt,sender,customer", "U%[1]d,2026-03-01,c%[2]d@x.example,C%[2]d"},
		} {
			cost := func(from, n int) (first, again int64) {
				csv := test.header + "\n"
				for i := range n {
					csv += fmt.Sprintf(test.row+"\n", from+i, i)
				}
				config := importer.Config{As: test.as, Path: w.csv(csv)}
				before := w.statements.Load()
				report := w.imported("admin", config)
				require.Equal(t, []int{n, n, 0, 0, 0}, outcomes(report), "%s: %+v", test.as, report.Items)
				first = w.statements.Load() - before
				require.Equal(t, n, w.imported("admin", config).Duplicate)
				return first, w.statements.Load() - before - first
			}
			few, fewAgain := cost(1000, 40)
			many, manyAgain := cost(2000, 300)
			require.Equal(t, few, many, "%s by %s", test.as, test.header)
			require.Equal(t, fewAgain, manyAgain, "%s by %s again", test.as, test.header)
		}
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
