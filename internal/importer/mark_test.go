package importer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/importer"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// actAs answers the users of the world as they are now.
func (w *world) actAs(_ context.Context, _, user gid.ID) (*actor.Actor, error) {
	for name, id := range w.users {
		if id == user {
			return actor.From(w.as(name)), nil
		}
	}
	return nil, errors.New("nobody")
}

const markedCalls = "startedAt,fromNumber,externalID,status\n" +
	"2026-03-01 09:00,+74951234567,pbx-1,kept\n" +
	"2026-03-01 10:00,+74951234567,pbx-2,deleted\n" +
	"2026-03-01 11:00,+74951234568,, deleted \n" +
	"never,,pbx-3,deleted\n" +
	"2026-03-01 12:00,,pbx-4,Deleted\n"

// states are the calls with their states.
func (w *world) states() []string {
	w.Helper()
	return w.rows(`SELECT COALESCE(external_id, from_number) || ' ' || state FROM calls ORDER BY 1`)
}

func TestRowsMarkedAsDeletedAreImportedAndDeletedByOneOperation(t *testing.T) {
	for _, format := range []string{"csv", "xlsx", "jsonl"} {
		t.Run(format, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				config := importer.Config{As: importer.Calls, Path: w.marked(t, format), MarkDeleted: "STATUS=deleted", ActAs: w.actAs}
				dry := config
				dry.DryRun = true
				would := w.imported("manager", dry)
				require.Equal(t, importer.Counts{Processed: 5, Created: 4, Failed: 1, Deleted: 2}, would.Counts(), "%+v", would.Items)
				require.Empty(t, w.states())

				report := w.imported("manager", config)
				require.Equal(t, importer.Counts{Processed: 5, Created: 4, Failed: 1, Deleted: 2}, report.Counts(), "%+v", report.Items)
				require.Empty(t, report.UnusedColumns)
				want := []string{"+74951234568 DELETED", "pbx-1 ACTIVE", "pbx-2 DELETED", "pbx-4 ACTIVE"}
				require.Equal(t, want, w.states())
				require.Len(t, report.Deletions, 1)
				require.Equal(t, "SUCCEEDED", report.Deletions[0].Status)
				require.Equal(t, []string{"marked as deleted in the import"}, w.rows(`SELECT reason FROM operations WHERE verb = 'DELETE'`))
				require.Equal(t, []string{w.users["manager"].UUID()}, w.rows(`SELECT CAST(actor_id AS text) FROM operations`))

				// What is in the bin by it stays there, and nothing is made anew.
				for _, again := range []importer.Config{dry, config} {
					report := w.imported("manager", again)
					require.Equal(t, importer.Counts{Processed: 5, Found: 4, Failed: 1}, report.Counts(), "%+v", report.Items)
					require.Equal(t, 2, report.Unchanged)
					require.Equal(t, importer.Unchanged, find(t, report, "", 3).Outcome)
				}
				require.Equal(t, want, w.states())
				require.Len(t, w.rows(`SELECT verb FROM operations`), 1)
			})
		})
	}
}

// marked writes the calls in a format.
func (w *world) marked(t *testing.T, format string) string {
	t.Helper()
	switch format {
	case "jsonl":
		return w.file("calls.jsonl", jsonLines(t, markedCalls))
	case "xlsx":
		var rows [][]any
		for line := range strings.Lines(markedCalls) {
			var row []any
			for cell := range strings.SplitSeq(strings.TrimSuffix(line, "\n"), ",") {
				row = append(row, cell)
			}
			rows = append(rows, row)
		}
		return w.workbook(rows...)
	}
	return w.csv(markedCalls)
}

func TestAMarkedRowDeletesTheLiveRecordItIs(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.create("admin", "Customer", record.Values{"name": "Acme", "email": "info@acme.example"})
		w.create("admin", "Customer", record.Values{"name": "Alike", "phone": "+74951234567"})
		w.create("admin", "Customer", record.Values{"name": "Several"})
		w.create("admin", "Customer", record.Values{"name": "Several"})
		busy := w.create("admin", "Customer", record.Values{"name": "Busy"})
		w.create("admin", "Deal", record.Values{"name": "Open", "customerID": busy})
		w.create("admin", "Customer", record.Values{"name": "Live", "email": "live@acme.example"})
		path := w.csv("name,email,phone,gone\nOther,INFO@acme.example,,x\nAlike,,+74951234567,x\nSeveral,,,x\nBusy,,,x\nLive,live@acme.example,,\nNew,new@acme.example,,\nNew,new@acme.example,,x\n")
		for _, dry := range []bool{true, false} {
			report := w.imported("admin", importer.Config{As: importer.Customers, Path: path, MarkDeleted: "gone=x", DryRun: dry})
			require.Equal(t, importer.Counts{Processed: 7, Created: 1, Found: 6, Failed: 2, Deleted: 3}, report.Counts(), "%+v", report.Items)
			for line, code := range map[int]lifecycle.Code{4: lifecycle.Conflict, 5: lifecycle.HasDependents} {
				i := slices.IndexFunc(report.Items, func(item importer.ReportItem) bool { return item.Line == line && item.Outcome == importer.NotDeleted })
				require.GreaterOrEqual(t, i, 0, "%+v", report.Items)
				require.Equal(t, string(code), report.Items[i].Code)
			}
		}
		require.Equal(t, []string{"Busy", "Live", "Several", "Several"}, w.rows(`SELECT name FROM customers WHERE state = 'ACTIVE' ORDER BY 1`))
		require.Equal(t, []string{"Acme", "Alike", "New"}, w.rows(`SELECT name FROM customers WHERE state = 'DELETED' ORDER BY 1`))
	})
}

func TestWhoMayNotDeleteImportsNothingThatIsMarked(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		// A manager may delete what belongs to his team alone.
		path := w.csv("startedAt,externalID,gone,teamID\n2026-03-01,a,x,\n2026-03-01,b,,\n")
		w.create("admin", "Call", record.Values{"startedAt": start, "externalID": "a", "ownerID": w.users["agent"], "teamID": w.teams["Support"]})
		report := w.imported("manager", importer.Config{As: importer.Calls, Path: path, MarkDeleted: "gone=x"})
		require.Equal(t, importer.Counts{Processed: 2, Created: 1, Found: 1, Failed: 1}, report.Counts(), "%+v", report.Items)
		require.Equal(t, []string{"a ACTIVE", "b ACTIVE"}, w.states())

		for _, mark := range []string{"gone", "gone=", "=x", "never=x"} {
			_, err := w.run("manager", importer.Config{As: importer.Calls, Path: path, MarkDeleted: mark})
			var wrong *importer.UsageError
			require.ErrorAs(t, err, &wrong, mark)
		}
	})
}

func TestAnImportThatWasStoppedFinishesItsDeletionsWhenItIsRunAgain(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		path, n := w.many(1_200)
		config := importer.Config{As: importer.Calls, Path: path, MarkDeleted: "gone=x", ActAs: w.actAs}
		ctx, stop := context.WithCancel(w.as("admin"))
		defer stop()
		stopped := config
		stopped.DB, stopped.Records, stopped.Control, stopped.Audit, stopped.Now = w.db, w.svc, w.control, w.log, w.db.Now
		stopped.Counted = func(c importer.Counts) {
			if c.Processed >= 500 {
				stop()
			}
		}
		_, err := importer.Run(ctx, stopped)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 500, w.count("calls"))
		require.Equal(t, 0, w.count("calls WHERE state = 'DELETED'"))

		report := w.imported("admin", config)
		require.Equal(t, importer.Counts{Processed: n, Created: n - 500, Found: 500, Deleted: n}, report.Counts())
		require.Equal(t, n, w.count("calls WHERE state = 'DELETED'"))
		require.Equal(t, []string{"SUCCEEDED"}, w.rows(`SELECT status FROM operations`), "one, as a job")
	})
}

func TestTheBrakeCountsWhatAnImportDeletesThatWasThereBefore(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		path, n := w.many(1_100)
		config := importer.Config{As: importer.Calls, Path: path, ActAs: w.actAs}
		w.imported("manager", config)
		config.MarkDeleted = "gone=x"
		report := w.imported("manager", config)
		require.Equal(t, importer.Counts{Processed: n, Found: n}, report.Counts())
		require.Equal(t, "PAUSED", report.Deletions[0].Status)
		require.Equal(t, n, report.Deletions[0].Waiting)

		fresh := w.csv("startedAt,externalID,gone\n2026-03-01,new,x\n")
		report = w.imported("manager", importer.Config{As: importer.Calls, Path: fresh, MarkDeleted: "gone=x"})
		require.Equal(t, 1, report.Deleted)
	})
}

// many writes so many marked calls.
func (w *world) many(n int) (path string, lines int) {
	var b strings.Builder
	b.WriteString("startedAt,externalID,gone\n")
	for i := range n {
		fmt.Fprintf(&b, "2026-03-01 09:00,many-%d,x\n", i)
	}
	return w.csv(b.String()), n
}
