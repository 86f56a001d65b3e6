package record_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// many makes records of a type with one call.
func (w *world) many(as, typ string, n int, values func(i int) record.Values) []gid.ID {
	w.t.Helper()
	var ids []gid.ID
	for n > 0 {
		rows := make([]record.Values, min(n, 1_000))
		for i := range rows {
			rows[i] = values(len(ids) + i)
		}
		made, errs, err := w.svc.CreateMany(w.as(as), typ, rows)
		require.NoError(w.t, err)
		for i, r := range made {
			require.NoError(w.t, errs[i])
			ids = append(ids, r.RecordID())
		}
		n -= len(rows)
	}
	return ids
}

func (w *world) manyCustomers(as string, n int) []gid.ID {
	w.t.Helper()
	return w.many(as, "Customer", n, func(i int) record.Values { return record.Values{"name": fmt.Sprintf("bulk %04d", i)} })
}

// large is each for a test with thousands of records or steps that does one thing after another: the race detector, which
// CI runs with -short, has nothing to find there and would take minutes.
func large(t *testing.T, test func(w *world)) {
	t.Helper()
	if testing.Short() {
		t.Skip("it has thousands of records or steps, one after another, and runs without -short")
	}
	each(t, test)
}

// bulk selects what manyCustomers makes.
func bulk() record.Selection {
	return record.Selection{Filter: &record.Filter{Type: "Customer", Comparisons: 1, Where: func(s *sql.Selector) { s.Where(sql.HasPrefix(s.C("name"), "bulk ")) }}}
}

// expecting is a request for so many records.
func expecting(verb lifecycle.Verb, n int) record.Request {
	return record.Request{Verb: verb, Select: bulk(), ExpectedCount: &n, Reason: "clearing out"}
}

// works carries out the jobs that wait.
func (w *world) works(left ...string) int {
	w.t.Helper()
	n, err := w.svc.TakeUp(w.t.Context(), w.actAs(left...), false)
	require.NoError(w.t, err)
	return n
}

// counters are those of an operation.
func (w *world) counters(id gid.ID) []any {
	w.t.Helper()
	op := w.operation(id)
	return []any{string(op.Status), op.Total, op.Processed, op.Changed, op.Unchanged, op.Failed}
}

// itemsAreWhole checks that an operation has one item for every record, and that nothing of it waits.
func (w *world) itemsAreWhole(id gid.ID) {
	w.t.Helper()
	op := w.operation(id)
	require.Equal(w.t, []string{fmt.Sprint(op.Total)}, w.rows(`SELECT COUNT(DISTINCT record_id) FROM operation_items WHERE operation_id = ?`, id))
	require.Equal(w.t, []string{fmt.Sprint(op.Total)}, w.rows(`SELECT COUNT(*) FROM operation_items WHERE operation_id = ?`, id))
	require.Equal(w.t, []string{fmt.Sprint(op.Changed)}, w.rows(`SELECT COUNT(*) FROM operation_items WHERE operation_id = ? AND outcome = 'CHANGED'`, id))
	require.Equal(w.t, []string{"0"}, w.rows(`SELECT COUNT(*) FROM operation_items WHERE operation_id = ? AND pending IS NOT NULL`, id))
	require.Nil(w.t, op.Request)
}

func TestALargeOperationIsAJob(t *testing.T) {
	large(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		ids := w.manyCustomers("admin", 1_200)
		along := w.many("admin", "Note", 1_500, func(i int) record.Values {
			return record.Values{"body": "a note", "happenedAt": w.db.Now(), "customerID": ids[i%300]}
		})
		op := w.run("admin", expecting(lifecycle.Delete, 1_200))
		require.Equal(w.t, []any{"QUEUED", 1_200, 0, 0, 0, 0}, w.counters(op.ID))
		require.Equal(w.t, "BEST_EFFORT", string(op.Mode))
		require.Equal(w.t, lifecycle.Active, w.state(ids[0]))
		later := w.manyCustomers("admin", 3) // what comes later is left alone
		require.Equal(w.t, 1, w.works())
		require.Equal(w.t, []any{"SUCCEEDED", 2_700, 2_700, 2_700, 0, 0}, w.counters(op.ID))
		w.itemsAreWhole(op.ID)
		require.Equal(w.t, []lifecycle.State{"DELETED", "DELETED", "DELETED", "ACTIVE"}, w.states(ids[0], ids[1_199], along[1_499], later[0]))
		require.Equal(w.t, 0, w.works())
		w.eventsMatchChanges()

		// The tree of a root is what came with it, whatever batch that was.
		back := w.restore("admin", ids[0])
		require.Equal(w.t, 6, back.Changed)
		undo, err := w.svc.Undo(w.as("admin"), op.ID, record.Request{})
		require.NoError(w.t, err)
		require.Equal(w.t, []any{"QUEUED", 2_700, 0, 0, 0, 0}, w.counters(undo.ID))
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", 2_700, 2_700, 2_694, 6, 0}, w.counters(undo.ID))
		w.itemsAreWhole(undo.ID)
		require.Equal(w.t, undo.ID, *w.operation(op.ID).UndoneByID)
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "ACTIVE", "ACTIVE"}, w.states(ids[0], ids[1_199], along[1_499]))
		w.noLiveRowBelowARetiredOwner()

		again := w.run("admin", expecting(lifecycle.Delete, 1_203))
		w.works()
		purge := w.run("purger", expecting(lifecycle.Purge, 1_203))
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", 2_703, 2_703, 2_703, 0, 0}, w.counters(purge.ID))
		require.Equal(w.t, []string{"2703"}, w.rows(`SELECT COUNT(*) FROM tombstones WHERE operation_id = ?`, purge.ID))
		require.Equal(w.t, []string{"2703"}, w.rows(`SELECT COUNT(*) FROM audit_events WHERE operation_id = ? AND action = 'PURGE' AND outcome = 'SUCCEEDED'`, purge.ID))
		_, err = w.svc.Undo(w.as("purger"), again.ID, record.Request{})
		require.ErrorContains(w.t, err, "FORBIDDEN")
		gone, err := w.svc.Undo(w.as("admin"), again.ID, record.Request{})
		require.NoError(w.t, err)
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", 2_703, 2_703, 0, 2_703, 0}, w.counters(gone.ID))
		w.eventsMatchChanges()
	})
}

func TestAJobIsPreviewedAsItWillBeCarriedOut(t *testing.T) {
	large(t, func(w *world) {
		ids := w.manyCustomers("admin", 1_100)
		w.many("admin", "Note", 900, func(i int) record.Values {
			return record.Values{"body": "a note", "happenedAt": w.db.Now(), "customerID": ids[0]}
		})
		w.deal("admin", ids[7], "blocks")
		w.caps(1_000, nil, nil, nil)
		p, err := w.svc.Preview(w.as("admin"), record.Request{Verb: lifecycle.Delete, Select: bulk()})
		require.NoError(w.t, err)
		require.Equal(w.t, 2_000, p.Total)
		require.Equal(w.t, []record.TypeCount{{Type: ent.RecordTypeNamed("Customer").Kind(), Count: 1_100, Changed: 1_099}, {Type: ent.RecordTypeNamed("Note").Kind(), Count: 900, Changed: 900}}, p.ByType)
		require.Len(w.t, p.Blocked, 1)
		require.Equal(w.t, lifecycle.HasDependents, p.Blocked[0].Code)
		require.NotEmpty(w.t, p.Items)
		require.LessOrEqual(w.t, len(p.Items), record.MaxRows)

		require.Equal(w.t, "PAUSED", string(w.run("admin", expecting(lifecycle.Delete, 1_100)).Status), "what nobody looked at before")
		op := w.run("admin", record.Request{Verb: lifecycle.Delete, Select: bulk(), PreviewToken: p.Token})
		w.works()
		require.Equal(w.t, []any{"PARTIAL", 2_000, 2_000, 1_999, 0, 1}, w.counters(op.ID))

		// The selection is not what it was.
		_, err = w.svc.Run(w.as("admin"), record.Request{Verb: lifecycle.Delete, Select: bulk(), PreviewToken: p.Token})
		require.ErrorContains(w.t, err, "CONFLICT")
	})
}

func TestASelectionThatChangedIsNoJob(t *testing.T) {
	large(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		ids := w.manyCustomers("admin", 1_100)
		req := record.Request{Verb: lifecycle.Archive, Select: bulk()}
		p, err := w.svc.Preview(w.as("admin"), req)
		require.NoError(w.t, err)
		_, err = w.svc.Update(w.as("admin"), ids[1_050], 1, record.Values{"name": "bulk another"})
		require.NoError(w.t, err)
		req.PreviewToken = p.Token
		refused := new(record.Error)
		_, err = w.svc.Run(w.as("admin"), req)
		require.ErrorAs(w.t, err, &refused)
		require.Equal(w.t, lifecycle.Conflict, refused.Code)
		require.Equal(w.t, map[string]any{"expected": 1_100, "actual": 1_100}, refused.Extensions)
		_, err = w.svc.Run(w.as("admin"), expecting(lifecycle.Archive, 1_101))
		require.ErrorContains(w.t, err, "CONFLICT")
		req = expecting(lifecycle.Archive, 1_100)
		req.Mode = record.AllOrNothing
		_, err = w.svc.Run(w.as("admin"), req)
		require.ErrorContains(w.t, err, "LIMIT")
		require.Equal(w.t, []string{"0"}, w.rows(`SELECT COUNT(*) FROM operations WHERE status = 'QUEUED'`))
		require.Equal(w.t, []string{"0"}, w.rows(`SELECT COUNT(*) FROM operation_items`))
	})
}

func TestAJobIsJudgedBatchByBatch(t *testing.T) {
	large(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		mine := w.manyCustomers("agent", 1_010)
		op := w.run("agent", expecting(lifecycle.Delete, 1_010))
		w.exec(`UPDATE customers SET owner_id = ? WHERE id = ?`, w.users["manager"], mine[5])
		w.hold(record.Hold{BlockDelete: true}, mine[900])
		w.works()
		require.Equal(w.t, []any{"PARTIAL", 1_010, 1_010, 1_008, 0, 2}, w.counters(op.ID))
		require.Equal(w.t, []string{"2"}, w.rows(`SELECT count FROM audit_events WHERE operation_id = ? AND outcome = 'REFUSED'`, op.ID), "one event for all that was refused")

		// Who asked for it has left.
		mine = w.manyCustomers("agent", 1_020)
		op = w.run("agent", record.Request{Verb: lifecycle.Archive, Select: bulk(), ExpectedCount: new(1_022)})
		w.works("agent")
		require.Equal(w.t, []any{"FAILED", 1_022, 1_022, 0, 0, 1_022}, w.counters(op.ID))
		require.Equal(w.t, "FORBIDDEN", *w.operation(op.ID).Code)
		require.Equal(w.t, lifecycle.Active, w.state(mine[0]))
		w.itemsAreWhole(op.ID)
	})
}

func TestAJobIsCancelledBetweenBatches(t *testing.T) {
	large(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		w.manyCustomers("agent", 1_600)
		op := w.run("agent", expecting(lifecycle.Delete, 1_600))
		// Whoever acts for its requester cancels it before the second batch.
		batches := 0
		acting := w.actAs()
		_, err := w.svc.TakeUp(w.t.Context(), func(ctx context.Context, tenant, user gid.ID) (*actor.Actor, error) {
			if batches++; batches == 2 {
				_, err := w.svc.Undo(w.as("agent"), op.ID, record.Request{})
				require.ErrorContains(w.t, err, "ILLEGAL_TRANSITION", "it has not ended")
				cancelled, err := w.svc.Cancel(w.as("agent"), op.ID)
				require.NoError(w.t, err)
				require.Equal(w.t, "CANCELLED", string(cancelled.Status))
			}
			return acting(ctx, tenant, user)
		}, false)
		require.NoError(w.t, err)
		require.Equal(w.t, []any{"CANCELLED", 1_600, 1_600, 500, 0, 0}, w.counters(op.ID))
		w.itemsAreWhole(op.ID)
		require.Equal(w.t, []string{"500"}, w.rows(`SELECT COUNT(*) FROM customers WHERE state = 'DELETED'`))
		undo, err := w.svc.Undo(w.as("agent"), op.ID, record.Request{})
		require.NoError(w.t, err)
		require.Equal(w.t, 500, undo.Changed)
		_, err = w.svc.Cancel(w.as("agent"), op.ID)
		require.ErrorContains(w.t, err, "ILLEGAL_TRANSITION")
		w.eventsMatchChanges()
	})
}

func TestAPickThatComesAlongIsDealtWithOnce(t *testing.T) {
	large(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		first := w.manyCustomers("admin", 1_100)
		notes := w.many("admin", "Note", 600, func(i int) record.Values {
			return record.Values{"body": "a note", "happenedAt": w.db.Now(), "customerID": first[i]}
		})
		id := w.run("admin", expecting(lifecycle.Archive, 1_100)).ID
		w.works()
		op := w.run("admin", record.Request{Verb: lifecycle.Delete, Select: record.Selection{Operation: &id}})
		require.Equal(w.t, 1_700, op.Total)
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", 1_700, 1_700, 1_700, 0, 0}, w.counters(op.ID))
		w.itemsAreWhole(op.ID)
		require.Equal(w.t, []string{"600"}, w.rows(`SELECT COUNT(*) FROM operation_items WHERE operation_id = ? AND direct AND came_with IS NOT NULL`, op.ID), "picked, and with their owners all the same")
		require.Equal(w.t, 2, w.restore("admin", first[0]).Changed)
		require.Equal(w.t, lifecycle.Archived, w.state(notes[0]))
	})
}

func TestOnePickWithALargeTree(t *testing.T) {
	large(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		c := w.customer("admin", "large")
		other := w.customer("admin", "small")
		notes := w.many("admin", "Note", 2_500, func(int) record.Values {
			return record.Values{"body": "a note", "happenedAt": w.db.Now(), "customerID": c}
		})
		op := w.run("admin", record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{other, c, other}}})
		require.Equal(w.t, []any{"QUEUED", 3, 0, 0, 0, 0}, w.counters(op.ID))
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", 2_503, 2_503, 2_502, 1, 0}, w.counters(op.ID))
		require.Equal(w.t, []string{"DUPLICATE_INPUT"}, w.rows(`SELECT code FROM operation_items WHERE operation_id = ? AND outcome = 'UNCHANGED'`, op.ID))
		require.Equal(w.t, lifecycle.Deleted, w.state(notes[2_499]))
		back := w.run("admin", record.Request{Verb: lifecycle.Restore, Select: record.Selection{IDs: []gid.ID{c}}})
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", 2_501, 2_501, 2_501, 0, 0}, w.counters(back.ID))
		w.noLiveRowBelowARetiredOwner()
		w.eventsMatchChanges()
	})
}

func TestATreeThatIsTooLargeIsRefusedAlone(t *testing.T) {
	each(t, func(w *world) {
		w.svc.Resize(4, 2, 10)
		c, other := w.customer("admin", "large"), w.customer("admin", "small")
		w.many("admin", "Note", 11, func(int) record.Values {
			return record.Values{"body": "a note", "happenedAt": w.db.Now(), "customerID": c}
		})
		req := record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{c, other}}}
		require.Equal(w.t, lifecycle.Limit, w.preview("admin", req).Blocked[0].Code)
		op := w.run("admin", req)
		w.works()
		require.Equal(w.t, []any{"PARTIAL", 2, 2, 1, 0, 1}, w.counters(op.ID))
		require.Equal(w.t, map[gid.ID]string{c: "FAILED LIMIT", other: "CHANGED"}, w.outcomes(op))
	})
}

func TestAJobThatIsPutOff(t *testing.T) {
	large(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		ids := w.manyCustomers("agent", 1_100)
		op := w.run("agent", w.later(expecting(lifecycle.Delete, 1_100)))
		require.Equal(w.t, []any{"SCHEDULED", 1_100, 0, 0, 0, 0}, w.counters(op.ID))
		require.Equal(w.t, 0, w.works())
		w.clock.add(time.Hour)
		w.runsScheduled(1)
		require.Equal(w.t, "QUEUED", string(w.operation(op.ID).Status))
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", 1_100, 1_100, 1_100, 0, 0}, w.counters(op.ID))
		require.Equal(w.t, lifecycle.Deleted, w.state(ids[0]))
	})
}

func TestAJobThatComesOverACapIsStopped(t *testing.T) {
	large(t, func(w *world) {
		ids := w.manyCustomers("admin", 2_000)
		w.many("admin", "Note", 1_200, func(i int) record.Values {
			return record.Values{"body": "a note", "happenedAt": w.db.Now(), "customerID": ids[i%1_200]}
		})
		w.caps(nil, 50, nil, nil) // half of all notes, of which nothing is known before
		half := record.Selection{Filter: &record.Filter{Type: "Customer", Comparisons: 1, Where: func(s *sql.Selector) { s.Where(sql.LT(s.C("name"), "bulk 1001")) }}}
		op := w.run("admin", record.Request{Verb: lifecycle.Delete, Select: half, ExpectedCount: new(1_001)})
		w.works()
		require.Equal(w.t, []any{"PAUSED", 1_501, 1_000, 1_000, 0, 0}, w.counters(op.ID))
		require.Equal(w.t, "LIMIT", *w.operation(op.ID).Code)
		require.Equal(w.t, []string{"1"}, w.rows(`SELECT COUNT(*) FROM audit_events WHERE action = 'BRAKE' AND operation_id = ?`, op.ID))
		_, err := w.svc.Resume(w.as("admin"), op.ID)
		require.ErrorContains(w.t, err, "ILLEGAL_TRANSITION", "only another may release it")
		require.Equal(w.t, 0, w.works())
	})
}

func TestWorkersTakeTurns(t *testing.T) {
	each(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		w.svc.Resize(40, 20, 100)
		ids := w.manyCustomers("admin", 220)
		w.many("admin", "Note", 100, func(i int) record.Values {
			return record.Values{"body": "a note", "happenedAt": w.db.Now(), "customerID": ids[i]}
		})
		op := w.run("admin", expecting(lifecycle.Delete, 220))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := w.svc.Work(w.t.Context(), w.actAs(), w.tenant, op.ID); err != nil {
					w.t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(w.t, []any{"SUCCEEDED", 320, 320, 320, 0, 0}, w.counters(op.ID))
		w.itemsAreWhole(op.ID)
		w.eventsMatchChanges()
	})
}

// queue notes what it is told, once that is committed.
type queue struct {
	mu  sync.Mutex
	ids []gid.ID
}

func (q *queue) Enqueue(_ context.Context, tx *store.Tx, _, operation gid.ID) error {
	tx.AfterEnd(func(committed bool) {
		q.mu.Lock()
		defer q.mu.Unlock()
		if committed {
			q.ids = append(q.ids, operation)
		}
	})
	return nil
}

func TestAJobThatNobodyWorksOnIsTakenUpAgain(t *testing.T) {
	large(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		q := &queue{}
		w.svc.WithQueue(q)
		w.manyCustomers("admin", 1_100)
		op := w.run("admin", expecting(lifecycle.Delete, 1_100))
		require.Equal(w.t, []gid.ID{op.ID}, q.ids)
		require.Equal(w.t, 0, w.works(), "somebody has only just been told")
		w.clock.add(2 * time.Minute)
		require.Equal(w.t, 1, w.works())
		require.Equal(w.t, 0, w.works())
		require.Equal(w.t, []gid.ID{op.ID, op.ID}, q.ids)

		// It fails, and fails, and is stopped until somebody looks.
		require.NoError(w.t, w.svc.Stop(w.t.Context(), w.tenant, op.ID))
		require.Equal(w.t, []any{"PAUSED", 1_100, 0, 0, 0, 0}, w.counters(op.ID))
		require.NoError(w.t, w.svc.Work(w.t.Context(), w.actAs(), w.tenant, op.ID))
		require.Equal(w.t, "PAUSED", string(w.operation(op.ID).Status))
		_, err := w.svc.Resume(w.as("agent2"), op.ID)
		require.Error(w.t, err)
		resumed, err := w.svc.Resume(w.as("admin"), op.ID)
		require.NoError(w.t, err)
		require.Equal(w.t, "QUEUED", string(resumed.Status))
		require.Len(w.t, q.ids, 3)
		require.NoError(w.t, w.svc.Work(w.t.Context(), w.actAs(), w.tenant, op.ID))
		require.Equal(w.t, []any{"SUCCEEDED", 1_100, 1_100, 1_100, 0, 0}, w.counters(op.ID))
	})
}
