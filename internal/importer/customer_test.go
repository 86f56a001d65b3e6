package importer_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent/customer"
	"github.com/lethe-crm/lethe/internal/importer"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

func TestColumnsFillTheFieldsTheyAreMappedTo(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		path := w.csv("Firma;E-Mail;Art;Seit;Zuständig;Nr\n" +
			"Grün & Söhne;info@grün.example;person;2025-12-31;agent@acme.example;K-7\n" +
			"Ohne Alles;;;2026-01-01T12:00:00+01:00;;\n")
		report := w.imported("admin", importer.Config{
			As: importer.Customers, Path: path, Set: map[string]string{"status": "lead"},
			Map: map[string]string{"Firma": "name", "e-mail": "email", "Art": "kind", "Seit": "endedAt", "Zuständig": "owner", "Nr": "number"},
		})
		require.Equal(t, []int{2, 2, 0, 0, 0}, outcomes(report), "%+v", report.Items)
		require.Empty(t, report.Items)
		all := map[string]int{}
		for _, c := range w.customers() {
			all[c.Name]++
			require.Equal(t, customer.StatusLEAD, c.Status)
			if c.Name == "Ohne Alles" {
				require.Equal(t, start.Year(), c.EndedAt.Year())
				require.Equal(t, 11, c.EndedAt.UTC().Hour())
				require.Equal(t, customer.KindCOMPANY, c.Kind)
				require.Equal(t, w.users["admin"], *c.OwnerID)
				require.Nil(t, c.Email)
				continue
			}
			require.Equal(t, "info@grün.example", *c.Email)
			require.Equal(t, "K-7", c.Number)
			require.Equal(t, customer.KindPERSON, c.Kind)
			require.Equal(t, w.users["agent"], *c.OwnerID)
		}
		require.Equal(t, map[string]int{"Grün & Söhne": 1, "Ohne Alles": 1}, all)
	})
}

func TestBadRowsAreReportedByTheirLines(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		live := w.create("admin", "Customer", record.Values{"name": "Live", "email": "live@example.com", "domain": "live.example", "number": "L-1"})
		for i, verb := range []lifecycle.Verb{lifecycle.Delete, lifecycle.Void} {
			w.retire(verb, w.create("admin", "Customer", record.Values{"name": "Retired", "email": fmt.Sprintf("retired%d@example.com", i), "number": fmt.Sprintf("R-%d", i)}))
		}
		purged := w.create("admin", "Customer", record.Values{"name": "Purged", "number": "P-1"})
		w.retire(lifecycle.Delete, purged)
		require.NoError(t, w.purge(purged))

		long := strings.Repeat("я", 501)
		lines := []string{
			"name,email,domain,number,status,endedAt,owner",
			"Good,good@example.com,,,,,",              // 2
			"Twin,LIVE@example.com,,,,,",              // 3
			"Twin,,Live.Example.,,,,",                 // 4
			"Twin,,,L-1,,,",                           // 5
			"Earlier,GOOD@example.com,,,,,",           // 6
			"In bin,retired0@example.com,,,,,",        // 7
			"In bin,retired1@example.com,,,,,",        // 8
			"In bin,,,R-0,,,",                         // 9
			",noname@example.com,,,,,",                // 10
			long + ",,,,,,",                           // 11
			"Status,,,,WRONG,,",                       // 12
			"Time,,,,,31.12.2025,",                    // 13
			"Owner,,,,,,nobody@acme.example",          // 14
			"Few,columns",                             // 15
			"Number,,," + strings.Repeat("9", 65),     // 16, and too few columns
			"Purged,,,P-1,,,",                         // 17
			"NUL\x00,,,,,,",                           // 18
			"Both,retired0@example.com,live.example,", // 19, and too few columns
			"Both,retired0@example.com,live.example,,,,",
			"Last,last@example.com,,,,,",
		}
		report := w.imported("admin", importer.Config{As: importer.Customers, Path: w.csv(strings.Join(lines, "\n") + "\n")})
		require.Equal(t, []int{20, 2, 5, 3, 10}, outcomes(report), "%+v", report.Items)
		for line, want := range map[int]struct {
			outcome importer.Outcome
			code    string
			reason  string
		}{
			3:  {importer.Duplicate, "UNIQUE_CONFLICT", "email"},
			4:  {importer.Duplicate, "UNIQUE_CONFLICT", "domain"},
			5:  {importer.Duplicate, "UNIQUE_CONFLICT", "number"},
			6:  {importer.Duplicate, "UNIQUE_CONFLICT", "email"},
			7:  {importer.InBin, "UNIQUE_CONFLICT", "email"},
			8:  {importer.InBin, "UNIQUE_CONFLICT", "email"},
			9:  {importer.InBin, "UNIQUE_CONFLICT", "number"},
			10: {importer.Failed, "BAD_USER_INPUT", "name"},
			11: {importer.Failed, "BAD_USER_INPUT", "longer than 500"},
			12: {importer.Failed, "BAD_USER_INPUT", "LEAD, PROSPECT"},
			13: {importer.Failed, "BAD_USER_INPUT", "endedAt"},
			14: {importer.Failed, "BAD_USER_INPUT", "owner"},
			15: {importer.Failed, importer.Unreadable, ""},
			16: {importer.Failed, importer.Unreadable, ""},
			17: {importer.Failed, "UNIQUE_CONFLICT", "number"},
			18: {importer.Failed, importer.Unreadable, "NUL"},
			19: {importer.Failed, importer.Unreadable, ""},
			20: {importer.Duplicate, "UNIQUE_CONFLICT", "domain"},
		} {
			item := find(t, report, "", line)
			require.Equal(t, want.outcome, item.Outcome, "line %d: %+v", line, item)
			require.Equal(t, want.code, item.Code, "line %d: %+v", line, item)
			require.Contains(t, item.Reason, want.reason, "line %d", line)
		}
		require.NotEqual(t, live, w.customers()[len(w.customers())-1].ID)
	})
}

func TestNaughtyStringsAreReadBackAsTheyWereWritten(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b, err := os.ReadFile("testdata/blns.json")
		require.NoError(t, err)
		var naughty []string
		require.NoError(t, json.Unmarshal(b, &naughty))
		var file bytes.Buffer
		out := csv.NewWriter(&file)
		require.NoError(t, out.Write([]string{"number", "name", "phone"}))
		want := map[string]string{}
		for i, s := range naughty {
			number := fmt.Sprintf("N-%d", i)
			require.NoError(t, out.Write([]string{number, s, s}))
			if s != "" && !strings.ContainsRune(s, 0) {
				want[number] = s
			}
		}
		require.NoError(t, out.Write([]string{"nul", "a\x00b", ""}))
		out.Flush()

		report := w.imported("admin", importer.Config{As: importer.Customers, Path: w.csv(file.String())})
		require.Equal(t, len(naughty)+1, report.Read)
		require.Equal(t, len(want), report.Created, "%+v", report.Items)
		got := map[string]string{}
		for _, c := range w.customers() {
			got[c.Number] = c.Name
			require.Equal(t, c.Name, *c.Phone)
		}
		require.Equal(t, want, got)
	})
}

func TestAnUnknownFieldOrColumnIsWrongUse(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		path := w.csv("Company,email\nAcme,a@example.com\n")
		for name, test := range map[string]struct {
			config importer.Config
			says   string
		}{
			"unknown type":       {importer.Config{As: "attachments", Path: path}, "calls, contacts, customers"},
			"unknown column":     {importer.Config{As: importer.Customers, Path: path, Map: map[string]string{"Firm": "name"}}, "Company, email"},
			"unknown field":      {importer.Config{As: importer.Customers, Path: path, Map: map[string]string{"Company": "title"}}, "endedAt"},
			"unknown setting":    {importer.Config{As: importer.Customers, Path: path, Set: map[string]string{"state": "DELETED"}}, "status"},
			"bad setting":        {importer.Config{As: importer.Customers, Path: path, Set: map[string]string{"kind": "BAND"}}, "COMPANY, PERSON"},
			"mapped and set":     {importer.Config{As: importer.Customers, Path: path, Map: map[string]string{"Company": "name"}, Set: map[string]string{"name": "A"}}, "both"},
			"mapped twice":       {importer.Config{As: importer.Customers, Path: path, Map: map[string]string{"Company": "name", "email": "name"}}, "both"},
			"no name":            {importer.Config{As: importer.Customers, Path: path}, "Company, email"},
			"mail has no column": {importer.Config{As: importer.Messages, Path: corpus + "eml", Map: map[string]string{"a": "subject"}}, "no columns"},
			"text of a mail":     {importer.Config{As: importer.Messages, Path: corpus + "eml", Set: map[string]string{"subject": "a"}}, "category"},
			"name and id":        {importer.Config{As: importer.Contacts, Path: w.csv("name,customer,customerID\nA,B,\n")}, "both"},
			"two owners":         {importer.Config{As: importer.Customers, Path: path, Set: map[string]string{"owner": "a@b", "ownerID": w.users["admin"].String()}}, "same thing"},
		} {
			_, err := w.run("admin", test.config)
			var wrong *importer.UsageError
			require.ErrorAs(t, err, &wrong, name)
			require.ErrorContains(t, err, test.says, name)
		}
		require.Zero(t, w.count("customers"))
	})
}

func TestARowRefusedByTheRecordsDoesNotSpoilItsBatch(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		report := w.imported("admin", importer.Config{As: importer.Customers, Path: w.csv(customers(40, 17, w.tenant.String()))}) // an id, of no user
		require.Equal(t, []int{40, 39, 0, 0, 1}, outcomes(report), "%+v", report.Items)
		require.Contains(t, find(t, report, "", 19).Reason, "ownerID")
	})
}

// customers is a table of n rows, one of which has an owner.
func customers(n, row int, owner string) string {
	var rows strings.Builder
	rows.WriteString("name,email,ownerID\n")
	for i := range n {
		id := ""
		if i == row {
			id = owner
		}
		fmt.Fprintf(&rows, "C%d,c%d@example.com,%s\n", i, i, id)
	}
	return rows.String()
}

func TestATwinThatSomebodyCreatesMeanwhileDoesNotSpoilTheBatch(t *testing.T) {
	t.Parallel()
	var w *world
	var armed atomic.Bool
	db := storetest.Postgres(t, store.WithTrace(func(query string) {
		// SQLite has one writer; nobody comes in between.
		if strings.HasPrefix(query, `INSERT INTO "customers"`) && armed.CompareAndSwap(true, false) {
			w.create("admin", "Customer", record.Values{"name": "First", "email": "C17@example.com"})
		}
	}))
	w = newWorld(t, db, &atomic.Int64{})
	armed.Store(true)
	report := w.imported("admin", importer.Config{As: importer.Customers, Path: w.csv(customers(40, -1, ""))})
	require.False(t, armed.Load())
	require.Equal(t, []int{40, 39, 1, 0, 0}, outcomes(report), "%+v", report.Items)
	require.Equal(t, importer.Duplicate, find(t, report, "", 19).Outcome)
	require.Equal(t, 40, w.count("customers"))
}

func TestAReportIsBoundedAndKeepsFailuresApart(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		file := "name,email\n" + strings.Repeat("A,a@example.com\n", importer.MaxItems+3) + strings.Repeat(",x\n", 2)
		report := w.imported("admin", importer.Config{As: importer.Customers, Path: w.csv(file)})
		require.Equal(t, []int{importer.MaxItems + 5, 1, importer.MaxItems + 2, 0, 2}, outcomes(report))
		require.Len(t, report.Items, importer.MaxItems+2)
		require.Equal(t, 2, report.Omitted)
	})
}
