package importer_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent/message"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/importer"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/mail"
	"github.com/lethe-crm/lethe/internal/record"
)

const corpus = "../mail/testdata/"

// maildir lays the maildir of the corpus out under the names it had, which a Go
// module may not hold.
func (w *world) maildir() string {
	w.Helper()
	files := map[string]string{}
	for letter, name := range map[string]string{
		"a": "cur/1491941793.M41850P8566V0000000000000015I0000000004F3030E_0.mx1.example.com,S=10956;2,STln",
		"b": "new/1234567890.M20046P2137.mailserver,S=4542,W=4642;2,Sb",
		"c": ".My Folder/cur/1035478339.27041_118.foo.org,S=1000,W=1030;2,TDR",
		"d": ".My Folder/new/1276528487.M364837P9451.kurkku,S=1355,W=1394;2,",
		"e": ".My Folder.Nested Folder/cur/1276533073.M242911P3632.kurkku;2,FP",
		"f": ".My Folder.Nested Folder/new/1035478339.27041_118.foo.org,S=1000,W=1030;2,RDF,",
	} {
		b, err := os.ReadFile(corpus + "maildir/" + letter + ".txt")
		require.NoError(w, err)
		files[name] = string(b)
	}
	return w.write(files)
}

func TestEveryMailOfTheCorpusIsImportedOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		eml := importer.Config{As: importer.Messages, Path: corpus + "eml"}
		maildir := importer.Config{As: importer.Messages, Path: w.maildir()}

		first := w.imported("admin", eml)
		// 011 is 009 again: without a Message-ID its bytes say so.
		require.Equal(t, []int{53, 52, 1, 0, 0}, outcomes(first), "%+v", first.Items)
		require.Equal(t, importer.Duplicate, find(t, first, "malformed/011.eml", 0).Outcome)
		require.Positive(t, first.Attachments)
		require.NotZero(t, first.SentAt[mail.FromDate])
		require.Equal(t, first.Created, sum(first.SentAt))
		folder := w.imported("admin", maildir)
		require.Equal(t, []int{6, 6, 0, 0, 0}, outcomes(folder))
		require.Equal(t, map[string]int{mail.FromMaildirName: 6}, folder.SentAt)
		require.Equal(t, 58, w.count("messages"))
		for _, m := range w.messages() {
			require.NotEmpty(t, *m.MessageID)
			require.Equal(t, w.users["admin"], *m.OwnerID)
		}

		again, againFolder := w.imported("admin", eml), w.imported("admin", maildir)
		require.Equal(t, []int{53, 0, 53, 0, 0}, outcomes(again))
		require.Equal(t, []int{6, 0, 6, 0, 0}, outcomes(againFolder))
		require.Equal(t, importer.Duplicate, find(t, again, "rfc/001.eml", 0).Outcome)

		w.retire(lifecycle.Delete, w.message("id1@host.com").ID)
		third := w.imported("admin", eml)
		require.Equal(t, []int{53, 0, 52, 1, 0}, outcomes(third))
		require.Equal(t, importer.InBin, find(t, third, "rfc/001.eml", 0).Outcome)
		require.Equal(t, 58, w.count("messages"))

		b, err := json.Marshal(third)
		require.NoError(t, err)
		require.Contains(t, string(b), `"inBin":1`)
	})
}

// outcomes are read, created, duplicate, in the bin, failed.
func outcomes(r importer.Report) []int {
	return []int{r.Read, r.Created, r.Duplicate, r.InBin, r.Failed}
}

func sum(counts map[string]int) (n int) {
	for v := range maps.Values(counts) {
		n += v
	}
	return n
}

func TestADryRunReportsTheSameAndWritesNothing(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		tables := []string{"messages", "recipients", "attachments", "blob_spares", "customers", "audit_events", "record_numbers"}
		var before []int
		for _, table := range tables {
			before = append(before, w.count(table))
		}
		mails := importer.Config{As: importer.Messages, Path: corpus + "eml", DryRun: true}
		rows := importer.Config{As: importer.Customers, Path: w.csv("name,email\nA,a@example.com\n,x\nB,A@EXAMPLE.com\n"), DryRun: true}

		for _, user := range []string{"admin", "manager"} {
			report := w.imported(user, mails)
			require.True(t, report.DryRun)
			require.Equal(t, []int{53, 52, 1, 0, 0}, outcomes(report))
			require.Positive(t, report.Attachments)
			require.Empty(t, w.keys())
			require.Equal(t, []int{3, 1, 1, 0, 1}, outcomes(w.imported(user, rows)))
		}
		var after []int
		for _, table := range tables {
			after = append(after, w.count(table))
		}
		require.Equal(t, before, after)
	})
}

// eml is a mail with an id, from somebody to others.
func eml(id, from, to string, headers ...string) string {
	return "Message-ID: <" + id + ">\r\nFrom: " + from + "\r\nTo: " + to + "\r\nDate: Sun, 1 Mar 2026 09:00:00 +0000\r\n" +
		strings.Join(append(headers, ""), "\r\n") + "Subject: " + id + "\r\n\r\nText of " + id + "\r\n"
}

func TestMailIsLinkedToTheContactTheCustomerAndTheMessageItAnswers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.create("admin", "Customer", record.Values{"name": "Acme", "email": "info@acme-client.example", "ownerID": w.users["agent"], "teamID": w.teams["Support"]})
		gone := w.create("admin", "Customer", record.Values{"name": "Gone", "email": "gone@example.com"})
		anna := w.create("admin", "Contact", record.Values{"name": "Anna", "email": "Anna@Acme-Client.example", "customerID": acme})
		w.retire(lifecycle.Delete, gone)
		w.imported("admin", importer.Config{As: importer.Messages, Path: w.write(map[string]string{
			"0.eml": eml("question@x", "ANNA@acme-client.example", "agent@acme.example"),
		})})
		question := w.message("question@x")

		report := w.imported("admin", importer.Config{As: importer.Messages, Path: w.write(map[string]string{
			"1.eml": eml("deep@x", "anna@acme-client.example", "agent@acme.example", "In-Reply-To: <answer@x>", "References: <question@x> <answer@x>"),
			"2.eml": eml("answer@x", "Agent@ACME.example", "nobody@example.com, anna@acme-client.example", "In-Reply-To: <question@x>"),
			"3.eml": eml("office@x", "info@acme-client.example", "agent@acme.example", "In-Reply-To: <nowhere@x>"),
			"4.eml": eml("gone@x", "gone@example.com", "agent@acme.example"),
			"5.eml": eml("self@x", "stranger@example.com", "Recipient-List:;, \"No Address\"", "In-Reply-To: <self@x>"),
			"6.eml": eml("ring-a@x", "stranger@example.com", "a@example.com", "In-Reply-To: <ring-b@x>"),
			"7.eml": eml("ring-b@x", "stranger@example.com", "a@example.com", "In-Reply-To: <ring-a@x>"),
		})})
		require.Equal(t, []int{7, 7, 0, 0, 0}, outcomes(report), "%+v", report.Items)

		require.Equal(t, anna, *question.ContactID)
		require.Equal(t, acme, *question.CustomerID)
		require.Equal(t, w.users["agent"], *question.OwnerID, "the owner of the customer")
		require.Equal(t, w.teams["Support"], *question.TeamID)
		require.Equal(t, message.DirectionINBOUND, question.Direction)
		require.Nil(t, question.InReplyToID)

		answer, deep := w.message("answer@x"), w.message("deep@x")
		require.Equal(t, message.DirectionOUTBOUND, answer.Direction)
		require.Equal(t, anna, *answer.ContactID, "the first recipient that is known")
		require.Equal(t, acme, *answer.CustomerID)
		require.Equal(t, question.ID, *answer.InReplyToID)
		require.Equal(t, answer.ID, *deep.InReplyToID, "which comes later in the same import")
		require.Equal(t, "question@x", *deep.ThreadKey)
		require.Len(t, answer.Edges.Recipients, 2)

		office := w.message("office@x")
		require.Nil(t, office.ContactID)
		require.Equal(t, acme, *office.CustomerID)
		require.Nil(t, office.InReplyToID)
		for _, id := range []string{"gone@x", "self@x"} {
			m := w.message(id)
			require.Nil(t, m.CustomerID)
			require.Nil(t, m.InReplyToID)
			require.Equal(t, w.users["admin"], *m.OwnerID)
		}
		a, b := w.message("ring-a@x"), w.message("ring-b@x")
		require.NotEqual(t, a.InReplyToID == nil, b.InReplyToID == nil, "one link of a ring is left")
	})
}

func TestAThreadDeeperThanATransactionGoesIsLinkedThroughout(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const depth = 40
		files := map[string]string{}
		for i := range depth {
			files[fmt.Sprintf("%02d.eml", depth-i)] = eml(fmt.Sprintf("m%d@x", i), "a@example.com", "b@example.com", fmt.Sprintf("In-Reply-To: <m%d@x>", i-1))
		}
		report := w.imported("admin", importer.Config{As: importer.Messages, Path: w.write(files)})
		require.Equal(t, depth, report.Created)
		ids := map[string]gid.ID{}
		for _, m := range w.messages() {
			ids[*m.MessageID] = m.ID
		}
		for _, m := range w.messages() {
			if m.InReplyToID == nil {
				require.Equal(t, "m0@x", *m.MessageID)
				continue
			}
			var i int
			_, err := fmt.Sscanf(*m.MessageID, "m%d@x", &i)
			require.NoError(t, err)
			require.Equal(t, ids[fmt.Sprintf("m%d@x", i-1)], *m.InReplyToID)
		}
	})
}

func TestWhatAMailCannotKeepIsReported(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		long := strings.Repeat("й", 600)
		report := w.imported("admin", importer.Config{As: importer.Messages, Set: map[string]string{"category": "mailing", "owner": "AGENT@acme.example", "teamID": w.teams["Support"].String()}, Path: w.write(map[string]string{
			"empty.eml": "",
			"long.eml":  eml("long@x", `"`+long+`" <a@example.com>`, `"`+long+`" <b@example.com>`),
			"list.eml":  eml("list@x", "a@example.com", "Recipient-List"),
			"twin.eml":  eml("list@x", "a@example.com", "b@example.com"),
		})})
		require.Equal(t, []int{4, 2, 1, 0, 1}, outcomes(report), "%+v", report.Items)
		empty := find(t, report, "empty.eml", 0)
		require.Equal(t, importer.Unreadable, empty.Code)
		require.NotEmpty(t, empty.Reason)
		require.NotEmpty(t, find(t, report, "long.eml", 0).Warnings)
		require.Equal(t, importer.Duplicate, find(t, report, "twin.eml", 0).Outcome)

		m := w.message("long@x")
		require.Len(t, []rune(*m.SenderName), 500)
		require.Equal(t, message.CategoryMAILING, m.Category)
		require.Equal(t, w.users["agent"], *m.OwnerID)
		require.Equal(t, "Recipient-List", w.message("list@x").Edges.Recipients[0].Address)
	})
}

func TestABatchOfMailTakesABoundedNumberOfStatements(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		count := func(n int, start string) int64 {
			files := map[string]string{}
			for i := range n {
				id := fmt.Sprintf("%s%d@x", start, i)
				files[fmt.Sprintf("%d.eml", i)] = eml(id, fmt.Sprintf("a%d@example.com", i), "b@example.com", fmt.Sprintf("In-Reply-To: <%s%d@x>", start, i-i%2))
			}
			path := w.write(files)
			before := w.statements.Load()
			require.Equal(t, n, w.imported("admin", importer.Config{As: importer.Messages, Path: path}).Created)
			return w.statements.Load() - before
		}
		few, many := count(10, "few"), count(500, "many")
		w.Logf("statements: %d for 10 mails, %d for 500", few, many)
		require.LessOrEqual(t, many, few+5, "SQLite adds rows by the thousand values")
		require.LessOrEqual(t, many, int64(40))
		require.LessOrEqual(t, count(1000, "two"), 2*many+5)
	})
}

func TestAnImportNeedsTheRightToImport(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		path := w.write(map[string]string{"1.eml": eml("one@x", "info@client.example", "b@example.com"), "2.eml": eml("two@x", "a@example.com", "b@example.com")})
		events := w.count("audit_events")
		_, err := w.run("agent", importer.Config{As: importer.Messages, Path: path})
		var refused *record.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, lifecycle.Forbidden, refused.Code)
		require.Zero(t, w.count("messages"))
		require.Equal(t, events+1, w.count("audit_events"), "the refusal is written down")

		// A manager may import for the own teams only. The customer of Support,
		// which he cannot see, is not linked.
		w.create("admin", "Customer", record.Values{"name": "Client", "email": "info@client.example", "ownerID": w.users["agent"], "teamID": w.teams["Support"]})
		report := w.imported("manager", importer.Config{As: importer.Messages, Path: path})
		require.Equal(t, 2, report.Created)
		require.Nil(t, w.message("one@x").CustomerID)

		other := w.csv("name,owner,teamID\nOurs,manager@acme.example," + w.teams["Sales"].String() + "\nTheirs,agent@acme.example," + w.teams["Support"].String() + "\n")
		events = w.count("audit_events")
		report = w.imported("manager", importer.Config{As: importer.Customers, Path: other})
		require.Equal(t, []int{2, 1, 0, 0, 1}, outcomes(report))
		require.Equal(t, string(lifecycle.Forbidden), find(t, report, "", 3).Code)
		require.Equal(t, events+2, w.count("audit_events"), "one creation and one refusal")
	})
}

func TestProgressEndsAtTheSizeOfTheSource(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		var done, total int64
		w.imported("admin", importer.Config{As: importer.Messages, Path: corpus + "eml", Progress: func(d, t int64) {
			require.GreaterOrEqual(w, d, done)
			done, total = d, t
		}})
		require.Positive(t, total)
		require.Equal(t, total, done)
	})
}

func TestAPathWithoutMailIsAnError(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, path := range []string{filepath.Join(w.TempDir(), "missing"), w.TempDir()} {
			_, err := w.run("admin", importer.Config{As: importer.Messages, Path: path})
			require.Error(t, err)
			var wrong *importer.UsageError
			require.NotErrorAs(t, err, &wrong)
		}
	})
}

func TestASourceOfWhichNothingCanBeReadIsAnErrorWithAReport(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		report, err := w.run("admin", importer.Config{As: importer.Messages, Path: w.write(map[string]string{"1.eml": "", "2.eml": "\r\n"})})
		require.ErrorIs(t, err, importer.ErrNothing)
		require.Equal(t, []int{2, 0, 0, 0, 2}, outcomes(report))
		require.Equal(t, importer.Unreadable, find(t, report, "2.eml", 0).Code)
		_, err = w.run("admin", importer.Config{As: importer.Customers, Path: w.csv("name,email\n")})
		require.Error(t, err)
	})
}

func TestImportTimeIsUsedWhereAMailHasNone(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		report := w.imported("admin", importer.Config{As: importer.Messages, Path: w.write(map[string]string{"1.eml": "Subject: hello\r\n\r\nText\r\n"})})
		require.Equal(t, map[string]int{mail.FromImportTime: 1}, report.SentAt)
		m := w.messages()[0]
		require.True(t, strings.HasPrefix(*m.MessageID, "sha256:"))
		require.WithinDuration(t, w.db.Now(), m.SentAt, time.Minute)
	})
}
