package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/table"
)

const realData = "testdata/real"

// TestRealTablesAreWhatTheProgramDerives derives them again.
func TestRealTablesAreWhatTheProgramDerives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out, err := exec.Command("go", "run", filepath.Join(realData, "derive.go"), "-from", realData, "-to", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, name := range []string{"customers", "calls"} {
		require.Equal(t, realTable(t, realData, name), realTable(t, dir, name), name)
	}
}

// realTable reads a derived table.
func realTable(t *testing.T, folder, name string) [][]string {
	t.Helper()
	file, err := os.Open(filepath.Join(folder, name+".csv.gz"))
	require.NoError(t, err)
	defer file.Close()
	plain, err := gzip.NewReader(file)
	require.NoError(t, err)
	rows, err := csv.NewReader(plain).ReadAll()
	require.NoError(t, err)
	return rows
}

// office is a tenant whose administrator works with a server and the command line.
type office struct {
	*testing.T

	env    []string
	dir    string
	url    string // of the database
	who    []string
	server *server
	token  string
}

// newOffice starts a server on an empty database. Nobody else is there to agree to purges, or to what is over a cap.
func newOffice(t *testing.T, database func(*testing.T, string) string, env ...string) *office {
	t.Helper()
	dir := t.TempDir()
	url := database(t, dir)
	o := &office{T: t, dir: dir, url: url, who: []string{"--tenant", "default", "--user", "admin@localhost"}}
	o.env = append(os.Environ(), append([]string{"LETHE_DATABASE=" + url, "LETHE_DATA=" + dir, "LETHE_KEY=" + key}, env...)...)
	s, err := start(o.env, dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, o.server.end()) })
	o.server = s
	o.exec(`UPDATE tenants SET brake_records = NULL, brake_percent = NULL, brake_hour = NULL, brake_day = NULL, purge_day = NULL`)
	o.exec(`UPDATE approval_rules SET enabled = FALSE`)
	for _, role := range []string{"purger", "compliance"} {
		o.lethe("role", "grant", role)
	}
	o.token = o.lethe("token", "create")
	return o
}

// exec changes the database past the server.
func (o *office) exec(statement string, args ...any) {
	o.Helper()
	db, err := store.Open(o.Context(), o.url)
	require.NoError(o, err)
	defer db.Close()
	_, err = store.Build(db).Add(statement, args...).Exec(o.Context(), db)
	require.NoError(o, err)
}

// lethe runs a command in the administrator's name.
func (o *office) lethe(args ...string) string {
	o.Helper()
	return o.operates(append(slices.Clone(args), o.who...)...)
}

// operates runs a command in nobody's name.
func (o *office) operates(args ...string) string {
	o.Helper()
	cmd := command(o.env, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(o, err, "%v: %s", args, stderr.String())
	return strings.TrimSpace(string(out))
}

// imported is what became of the rows of a file.
type imported struct{ Read, Created, Duplicate, InBin, Failed int }

func (o *office) importing(as, path string) imported {
	o.Helper()
	var report imported
	require.NoError(o, json.Unmarshal([]byte(o.lethe("import", "--as", as, "--json", path)), &report))
	return report
}

func (o *office) ask(query string, into any) {
	o.Helper()
	answer, err := post(o.Context(), o.server.url, o.token, query)
	require.NoError(o, err)
	var got struct{ Data, Errors json.RawMessage }
	require.NoError(o, json.Unmarshal(answer, &got))
	require.Empty(o, string(got.Errors), query)
	require.NoError(o, json.Unmarshal(got.Data, into))
}

// counts asks for the number of what each connection lists.
func (o *office) counts(connections map[string]string) map[string]int {
	o.Helper()
	var b strings.Builder
	for alias, connection := range connections {
		fmt.Fprintf(&b, "%s: %s { totalCount } ", alias, connection)
	}
	var got map[string]struct{ TotalCount int }
	o.ask("{ "+b.String()+"}", &got)
	counts := map[string]int{}
	for alias, of := range got {
		counts[alias] = of.TotalCount
	}
	return counts
}

// exported has a file made by the server, and fetches it.
func (o *office) exported(input, name string) (path, manifest string) {
	o.Helper()
	var made struct {
		CreateExport struct{ Export struct{ ID string } }
	}
	o.ask(`mutation { createExport(input: {`+input+`}) { export { id } } }`, &made)
	var got struct {
		Export struct{ Status, Manifest, ManifestSHA256, DownloadURL string }
	}
	require.Eventually(o, func() bool {
		o.ask(fmt.Sprintf(`{ export(id: %q) { status manifest manifestSHA256 downloadURL } }`, made.CreateExport.Export.ID), &got)
		return got.Export.Status != "PENDING" && got.Export.Status != "RUNNING"
	}, time.Minute, 20*time.Millisecond)
	require.Equal(o, "SUCCEEDED", got.Export.Status)
	resp, err := http.Get(got.Export.DownloadURL)
	require.NoError(o, err)
	defer resp.Body.Close()
	require.Equal(o, http.StatusOK, resp.StatusCode)
	file, err := io.ReadAll(resp.Body)
	require.NoError(o, err)
	path = filepath.Join(o.dir, name)
	require.NoError(o, os.WriteFile(path, file, 0o600))
	require.NoError(o, os.WriteFile(path+".manifest.json", []byte(got.Export.Manifest), 0o600))
	require.Equal(o, got.Export.ManifestSHA256, sumOf(o.T, path+".manifest.json"))
	return path, got.Export.ManifestSHA256
}

func sumOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// rowsOf reads an export in any of its formats, as who opens it sees it.
func rowsOf(t *testing.T, path string) (rows []map[string]string) {
	t.Helper()
	r, err := table.OpenAny(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return rows
		}
		require.NoError(t, err)
		for column, value := range row.Values {
			if filepath.Ext(path) == ".csv" {
				row.Values[column] = table.Unguard(value)
			}
			if value == "" {
				delete(row.Values, column)
			}
		}
		rows = append(rows, row.Values)
	}
}

// plain writes a derived table as lethe reads it.
func (o *office) plain(name string) string {
	o.Helper()
	path := filepath.Join(o.dir, name+".csv")
	file, err := os.Create(path)
	require.NoError(o, err)
	defer file.Close()
	require.NoError(o, csv.NewWriter(file).WriteAll(realTable(o.T, realData, name)))
	return path
}

// How many records the data is, and which calls somebody would do away with.
const (
	shortCalls    = `durationSecondsLT: 10`
	realCustomers = 701
	realCalls     = 4_119
	realMails     = 53
)

func TestRealRecordsFromImportToPurgeAndBack(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs processes, which the race detector does not see")
	}
	t.Parallel()
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, database)
			letters, shorts, linked := o.importsOnce()
			spam := o.lettersAndShortCallsGo(letters, shorts)
			o.purgeWaitsForAnExport(shorts, linked, spam)
		})
	}
}

// importsOnce imports everything, twice, and compares what is there with what the files say.
func (o *office) importsOnce() (letters, shorts, linked int) {
	o.Helper()
	stores, table := realTable(o.T, realData, "customers")[1:], realTable(o.T, realData, "calls")[1:]
	require.Equal(o, []int{realCustomers, realCalls}, []int{len(stores), len(table)})
	files := []struct{ as, path string }{
		{"customers", o.plain("customers")}, {"calls", o.plain("calls")}, {"messages", "../internal/mail/testdata/eml"},
	}
	read := map[string]int{"customers": realCustomers, "calls": realCalls, "messages": realMails}
	created := map[string]int{}
	for _, file := range files {
		got := o.importing(file.as, file.path)
		created[file.as] = got.Created
		require.Equal(o, imported{Read: read[file.as], Created: got.Created, Duplicate: read[file.as] - got.Created}, got, file.as)
	}
	require.Equal(o, map[string]int{"customers": realCustomers, "calls": realCalls, "messages": realMails - 1}, created, "one mail is there twice")

	// What the files say, counted here and there.
	phones := map[string]bool{}
	for _, store := range stores {
		phones[store[1]] = store[1] != ""
	}
	want := map[string]int{"customers": realCustomers, "calls": realCalls, "messages": realMails - 1}
	connections := map[string]string{"customers": `customers(first: 1)`, "calls": `calls(first: 1)`, "messages": `messages(first: 1)`}
	count := func(alias, where string, is func(call []string) bool) {
		connections[alias], want[alias] = `calls(first: 1, where: {`+where+`})`, 0
		for _, call := range table {
			if is(call) {
				want[alias]++
			}
		}
	}
	seconds := func(call []string) int {
		n, err := strconv.Atoi(call[4])
		require.NoError(o, err)
		return n
	}
	for month := time.March; month <= time.December; month++ {
		from := time.Date(2010, month, 1, 0, 0, 0, 0, time.UTC)
		count(from.Format("Jan"), fmt.Sprintf(`startedAtGTE: %q, startedAtLT: %q`, from.Format(time.RFC3339), from.AddDate(0, 1, 0).Format(time.RFC3339)),
			func(call []string) bool { return strings.HasPrefix(call[3], from.Format("2006-01")) })
	}
	count("short", shortCalls, func(call []string) bool { return seconds(call) < 10 })
	count("long", `durationSecondsGTE: 1800`, func(call []string) bool { return seconds(call) >= 1800 })
	count("numbered", `toNumberNotNil: true`, func(call []string) bool { return call[2] != "" })
	count("washington", `toNumberHasPrefix: "+1425"`, func(call []string) bool { return strings.HasPrefix(call[2], "+1425") })
	count("linked", `hasCustomer: true`, func(call []string) bool { return phones[call[2]] })
	count("inbound", `direction: INBOUND`, func([]string) bool { return false })
	require.Equal(o, 1_378, want["May"], "as the source says")
	require.Equal(o, 30, want["short"])
	require.Positive(o, want["linked"])
	require.Positive(o, want["washington"])
	require.Equal(o, want, o.counts(connections))

	for _, file := range files {
		require.Equal(o, imported{Read: read[file.as], Duplicate: read[file.as]}, o.importing(file.as, file.path), "a second time")
	}
	require.Equal(o, want, o.counts(connections))
	return want["messages"], want["short"], want["linked"]
}

// lettersAndShortCallsGo says of some letters what they are, and lets rules delete spam and short calls.
func (o *office) lettersAndShortCallsGo(letters, shorts int) (spam int) {
	o.Helper()
	type node struct {
		ID      string
		Version int
	}
	var found struct{ Old, Undated struct{ Nodes []node } }
	began := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339) // mail without a time is sent when it is imported
	o.ask(`{ old: messages(first: 20, where: {sentAtLT: "2010-01-01T00:00:00Z"}, orderBy: {field: SENT_AT, direction: ASC}) { nodes { id version } }
		undated: messages(first: 2, where: {sentAtGTE: "`+began+`"}) { nodes { id version } } }`, &found)
	require.Len(o, found.Old.Nodes, 8)
	require.Len(o, found.Undated.Nodes, 2)
	var b strings.Builder
	categorise := func(category string, nodes ...node) {
		for _, n := range nodes {
			fmt.Fprintf(&b, `%s: updateMessage(input: {id: %q, version: %d, category: %s}) { message { category } } `, n.ID, n.ID, n.Version, category)
		}
	}
	categorise("SPAM", found.Old.Nodes[:5]...)
	categorise("MAILING", found.Old.Nodes[5:]...)
	categorise("SPAM", found.Undated.Nodes...)
	var ignored map[string]any
	o.ask(`mutation { `+b.String()+`}`, &ignored)
	connections := map[string]string{
		"letters": `messages(first: 1)`, "spam": `messages(first: 1, where: {category: SPAM})`, "mailings": `messages(first: 1, where: {category: MAILING})`,
		"calls": `calls(first: 1)`, "short": `calls(first: 1, where: {` + shortCalls + `})`, "bin": `bin(first: 1)`,
		"deletedCalls": `calls(first: 1, states: [DELETED])`, "deletedLetters": `messages(first: 1, states: [DELETED])`,
	}
	want := map[string]int{
		"letters": letters, "spam": 7, "mailings": 4, // one by its header
		"calls": realCalls, "short": shorts, "bin": 0, "deletedCalls": 0, "deletedLetters": 0,
	}
	require.Equal(o, want, o.counts(connections))

	for _, rule := range []struct {
		input   string
		planned int
	}{
		{`name: "spam", reason: "our schedule", type: MESSAGE, filter: {messages: {category: SPAM}}, basis: OCCURRED_AT, length: 30, unit: DAYS, action: DELETE`, 5},
		{`name: "nobody spoke", reason: "our schedule", type: CALL, filter: {calls: {` + shortCalls + `}}, basis: OCCURRED_AT, length: 30, unit: DAYS, action: DELETE`, shorts},
	} {
		var made struct {
			CreateRetentionRule struct{ Rule struct{ ID string } }
		}
		o.ask(`mutation { createRetentionRule(input: {`+rule.input+`}) { rule { id } } }`, &made)
		id := made.CreateRetentionRule.Rule.ID
		var dry struct {
			DryRunRule struct {
				Rule struct {
					DryRun struct {
						Planned int
						ByType  []struct {
							Type  string
							Count int
						}
					}
				}
			}
		}
		o.ask(fmt.Sprintf(`mutation { dryRunRule(id: %q) { rule { dryRun { planned byType { type count } } } } }`, id), &dry)
		found := dry.DryRunRule.Rule.DryRun
		require.Equal(o, rule.planned, found.Planned)
		along := 0 // the files of the letters
		for _, of := range found.ByType {
			along += of.Count
		}
		require.Equal(o, want, o.counts(connections), "a dry run changes nothing")

		if strings.Contains(rule.input, "SPAM") { // at once, by hand
			var ran struct {
				RunRule struct {
					Operations []struct{ Changed, Failed int }
				}
			}
			o.ask(fmt.Sprintf(`mutation { runRule(id: %q) { operations { changed failed } } }`, id), &ran)
			require.Equal(o, []struct{ Changed, Failed int }{{along, 0}}, ran.RunRule.Operations)
			want["letters"], want["spam"], want["deletedLetters"] = letters-5, 2, 5
		} else { // by its schedule, a day later, while no server runs
			require.Equal(o, rule.planned, along)
			require.NoError(o, o.server.end())
			o.exec(`UPDATE retention_rules SET next_run_at = ? WHERE name = 'nobody spoke' AND dry_run IS NOT NULL`, time.Now().UTC().Add(-time.Minute))
			o.operates("sweep", "--once")
			s, err := start(o.env, o.dir)
			require.NoError(o, err)
			o.server = s
			want["calls"], want["short"], want["deletedCalls"] = realCalls-shorts, 0, shorts
		}
		want["bin"] += rule.planned
		require.Equal(o, want, o.counts(connections))
	}
	o.operates("sweep", "--once")
	require.Equal(o, want, o.counts(connections), "what is in the bin has its time there")
	return 5
}

// purgeWaitsForAnExport purges the short calls, once they were exported, and recreates them.
func (o *office) purgeWaitsForAnExport(shorts, linked, spam int) {
	o.Helper()
	var settings struct{ Settings struct{ Version int } }
	o.ask(`{ settings { version } }`, &settings)
	var ignored map[string]any
	o.ask(fmt.Sprintf(`mutation { requireExport(input: {version: %d, type: CALL, verbs: [PURGE]}) { settings { version } } }`, settings.Settings.Version), &ignored)
	type outcome struct {
		PurgeRecords struct {
			Operation struct {
				ID, Status      string
				Changed, Failed int
				Items           struct{ Nodes []struct{ Code string } }
			}
		}
	}
	purge := func() (got outcome) {
		o.ask(fmt.Sprintf(`mutation { purgeRecords(input: {select: {calls: {%s}}, states: [DELETED], expectedCount: %d}) {
			operation { id status changed failed items(first: 1) { nodes { code } } } } }`, shortCalls, shorts), &got)
		return got
	}
	refused := purge().PurgeRecords.Operation
	require.Equal(o, []any{"FAILED", 0}, []any{refused.Status, refused.Changed})
	require.Equal(o, "EXPORT_REQUIRED", refused.Items.Nodes[0].Code)
	connections := map[string]string{
		"calls": `calls(first: 1)`, "deleted": `calls(first: 1, states: [DELETED])`, "bin": `bin(first: 1)`, "short": `calls(first: 1, where: {` + shortCalls + `})`,
		"linked": `calls(first: 1, where: {hasCustomer: true})`,
	}
	want := o.counts(connections)
	require.Less(o, want["linked"], linked, "a short call is a customer's")
	require.Equal(o, map[string]int{"calls": realCalls - shorts, "deleted": shorts, "bin": shorts + spam, "short": 0, "linked": want["linked"]}, want)

	// All calls, in three formats, in two ways.
	const all = `type: CALL, states: [ACTIVE, DELETED], format: `
	asCSV, _ := o.exported(all+"CSV", "export.csv")
	asXLSX, _ := o.exported(all+"XLSX", "export.xlsx")
	asLines := filepath.Join(o.dir, "export.jsonl")
	o.lethe("export", "--as", "calls", "--states", "ACTIVE", "--states", "DELETED", asLines)
	manifests := map[string]map[string]any{}
	for _, path := range []string{asCSV, asXLSX, asLines} {
		text, err := os.ReadFile(path + ".manifest.json")
		require.NoError(o, err)
		var manifest map[string]any
		require.NoError(o, json.Unmarshal(text, &manifest))
		require.Equal(o, []any{float64(realCalls), true, sumOf(o.T, path)}, []any{manifest["rows"], manifest["complete"], manifest["sha256"]}, path)
		manifests[path] = manifest
	}
	rows := rowsOf(o.T, asCSV)
	require.Len(o, rows, realCalls)
	for _, path := range []string{asXLSX, asLines} {
		require.Equal(o, manifests[asCSV]["recordsSHA256"], manifests[path]["recordsSHA256"], path)
		require.Equal(o, rows, rowsOf(o.T, path), path)
	}

	done := purge().PurgeRecords.Operation
	require.Equal(o, []any{"SUCCEEDED", shorts, 0}, []any{done.Status, done.Changed, done.Failed})
	var events struct {
		AuditEvents struct {
			TotalCount int
			Nodes      []struct{ ExportManifest string }
		}
	}
	o.ask(`{ auditEvents(first: 100, where: {action: "PURGE", outcome: SUCCEEDED, recordIDNotNil: true}) { totalCount nodes { exportManifest } } }`, &events)
	require.Equal(o, shorts, events.AuditEvents.TotalCount)
	for _, event := range events.AuditEvents.Nodes {
		require.Equal(o, sumOf(o.T, asLines+".manifest.json"), event.ExportManifest, "the newest export that has the record as it was")
	}
	want["deleted"], want["bin"] = 0, spam
	require.Equal(o, want, o.counts(connections))
	o.operates("check")

	// Each of the files recreates what was purged, and the others then nothing.
	for i, path := range []string{asXLSX, asCSV, asLines} {
		created := 0
		if i == 0 {
			created = shorts
		}
		require.Equal(o, imported{Read: realCalls, Created: created, Duplicate: realCalls - created}, o.importing("calls", path), path)
		want["calls"], want["short"], want["linked"] = realCalls, shorts, linked
		require.Equal(o, want, o.counts(connections))
	}
	again, _ := o.exported(`type: CALL, format: CSV`, "again.csv")
	life := []string{"id", "state", "stateReason", "stateChangedAt", "purgeAfter", "version", "createdAt", "updatedAt"}
	says := func(rows []map[string]string) []map[string]string {
		for _, row := range rows {
			for _, column := range life {
				delete(row, column)
			}
		}
		slices.SortFunc(rows, func(a, b map[string]string) int { return strings.Compare(a["externalID"], b["externalID"]) })
		return rows
	}
	require.Equal(o, says(rows), says(rowsOf(o.T, again)), "the calls say what they said")
}
