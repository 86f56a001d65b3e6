package record_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// people makes customers whose names start alike.
func (w *world) people(as, prefix string, n int) []gid.ID {
	w.t.Helper()
	rows := make([]record.Values, n)
	for i := range rows {
		rows[i] = record.Values{"name": fmt.Sprint(prefix, i)}
	}
	records, errs, err := w.svc.CreateMany(w.as(as), "Customer", rows)
	require.NoError(w.t, err)
	ids := make([]gid.ID, n)
	for i, r := range records {
		require.NoError(w.t, errs[i])
		ids[i] = r.RecordID()
	}
	return ids
}

// byAdmin is who has to agree to what is over a cap.
var byAdmin = record.Blocker{Code: lifecycle.ApprovalRequired, Count: 1, Role: "admin"}

// braked insists that a request is over a cap, changes nothing, and waits for others; and answers its operation.
func (w *world) braked(as string, req record.Request, want map[string]any) *ent.Operation {
	w.t.Helper()
	before := w.rows(`SELECT SUM(version) FROM customers`)
	op := w.run(as, req)
	require.Equal(w.t, "PAUSED", string(op.Status))
	require.Equal(w.t, "LIMIT", *op.Code)
	require.Equal(w.t, before, w.rows(`SELECT SUM(version) FROM customers`))
	require.Equal(w.t, []string{"PENDING BRAKE"}, w.rows(`SELECT status || ' ' || subject FROM approvals WHERE operation_id = ?`, op.ID))
	details := w.rows(`SELECT CAST(detail AS text) FROM audit_events WHERE action = 'BRAKE' AND code = 'LIMIT' AND operation_id = ?`, op.ID)
	require.Len(w.t, details, 1, "it is logged")
	wanted, err := json.Marshal(want)
	require.NoError(w.t, err)
	require.JSONEq(w.t, string(wanted), details[0])
	return op
}

func TestTheBrakeHoldsAnOperationThatWasNotPreviewed(t *testing.T) {
	each(t, func(w *world) {
		w.caps(3, nil, nil, nil)
		ids := w.people("agent", "x", 3)
		w.contact("agent", ids[0], "p")
		req := record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids}}
		w.braked("agent", req, map[string]any{"cap": "brakeRecords", "limit": 3, "actual": 4})
		p := w.preview("agent", req)
		require.Empty(w.t, p.Blocked, "with its token it goes")
		req.PreviewToken = p.Token
		require.Equal(w.t, 4, w.run("agent", req).Changed)
		require.Equal(w.t, 4, w.restore("agent", ids...).Changed, "bringing back is not counted")
		w.caps(4, nil, nil, nil)
		require.Equal(w.t, 4, w.run("agent", record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids}}).Changed, "up to the cap")
		w.caps(0, nil, nil, nil)
		require.Equal(w.t, 3, w.delete("agent", ids...).Unchanged, "what changes nothing is not braked")
		w.braked("purger", record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: ids[:1]}}, map[string]any{"cap": "brakeRecords", "limit": 0, "actual": 2})
	})
}

func TestWhatOneTransactionTakesIsDoneAtOnce(t *testing.T) {
	large(t, func(w *world) {
		w.caps(10, nil, nil, nil)
		ids := w.people("admin", "x", record.MaxRows)
		w.contact("admin", ids[0], "p")
		req := record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids[1:]}}
		req.PreviewToken = w.preview("admin", req).Token
		require.Equal(w.t, record.MaxRows-1, w.run("admin", req).Changed)
		w.restore("admin", ids[1:]...)
		req = record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids}}
		p := w.preview("admin", req)
		require.Equal(w.t, record.MaxRows+1, p.Total)
		req.PreviewToken = p.Token
		require.Equal(w.t, "QUEUED", string(w.run("admin", req).Status), "with the contact it is one too many")
	})
}

func TestTheBrakeHoldsATenthOfAType(t *testing.T) {
	each(t, func(w *world) {
		w.caps(nil, 10, nil, nil)
		ids := w.people("agent", "x", 1_000)
		req := func(n int) record.Request {
			return record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids[:n]}}
		}
		w.sql.reset()
		p := w.preview("agent", req(100))
		plain := w.sql.count()
		require.Empty(w.t, p.Blocked)
		w.sql.reset()
		require.Empty(w.t, w.preview("agent", req(101)).Blocked, "a type of 1,000")
		require.Equal(w.t, plain+1, w.sql.count(), "counted only where it may matter")

		ids = append(ids, w.people("agent", "y", 10)...)
		want := map[string]any{"cap": "brakePercent", "limit": 10, "actual": 102, "type": ent.RecordKind("Customer")}
		w.braked("agent", req(102), want)
		previewed := req(102)
		p = w.preview("agent", previewed)
		require.Equal(w.t, []record.Blocked{{Blocker: record.Blocker{Code: lifecycle.Limit, Field: "brakePercent", Type: "Customer", Limit: 10, Count: 102}}, {Blocker: byAdmin}}, p.Blocked)
		previewed.PreviewToken = p.Token
		w.braked("agent", previewed, want)
		require.Equal(w.t, 101, w.run("agent", req(101)).Changed, "a tenth of 1,010")
		require.Equal(w.t, 101, w.purge("purger", ids[:101]...).Changed, "what is in the bin is no share of what is live")

		w.people("agent", "z", 200)
		w.caps(nil, 0, nil, nil)
		w.braked("agent", record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids[200:201]}},
			map[string]any{"cap": "brakePercent", "limit": 0, "actual": 1, "type": ent.RecordKind("Customer")})
	})
}

func TestTheBrakeCountsTheHourAndTheDay(t *testing.T) {
	each(t, func(w *world) {
		w.caps(nil, nil, 5, 8)
		ids := w.people("agent", "x", 20)
		one := func(i int) record.Request {
			return record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids[i : i+1]}}
		}
		require.Equal(w.t, 4, w.delete("agent", ids[:4]...).Changed)
		require.Equal(w.t, 4, w.restore("agent", ids[:4]...).Changed)
		w.braked("agent", record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids[4:6]}}, map[string]any{"cap": "brakeHour", "limit": 5, "actual": 6})
		require.Equal(w.t, 1, w.void("manager", ids[9]).Changed, "each actor for himself")
		w.run("agent", one(4))
		p := w.preview("agent", one(5))
		require.Equal(w.t, []record.Blocked{{Blocker: record.Blocker{Code: lifecycle.Limit, Field: "brakeHour", Limit: 5, Count: 6}}, {Blocker: byAdmin}}, p.Blocked)
		previewed := one(5)
		previewed.PreviewToken = p.Token
		w.braked("agent", previewed, map[string]any{"cap": "brakeHour", "limit": 5, "actual": 6})

		w.clock.add(61 * time.Minute)
		w.run("agent", record.Request{Verb: lifecycle.Archive, Select: record.Selection{IDs: ids[5:8]}})
		w.braked("agent", one(10), map[string]any{"cap": "brakeDay", "limit": 8, "actual": 9})
		w.clock.add(24 * time.Hour)
		w.run("agent", one(10))

		w.caps(nil, nil, nil, nil)
		require.Equal(w.t, 9, w.delete("agent", ids[11:]...).Changed, "null is no cap")
	})
}

func TestTheSweeperIsNotBraked(t *testing.T) {
	each(t, func(w *world) {
		ids := w.people("agent", "x", 3)
		w.delete("agent", ids...)
		w.caps(1, 0, 1, 1)
		w.clock.add(31 * 24 * time.Hour)
		n, err := w.svc.Sweep(w.t.Context())
		require.NoError(w.t, err)
		require.Equal(w.t, 3, n)
	})
}

func TestSettingsAreReadOnceAndSumsAgainUnderTheLock(t *testing.T) {
	each(t, func(w *world) {
		ids := w.people("agent", "x", 2)
		w.sql.reset()
		w.delete("agent", ids[0])
		settings := 0
		for _, q := range w.sql.list {
			if strings.Contains(q, "bin_days") {
				settings++
			}
		}
		want := 1
		if w.db.Dialect() == "postgres" {
			want = 2 // and the sums once more, when the user's other operations are waited for
		}
		require.Equal(w.t, want, settings)
		w.sql.reset()
		w.restore("agent", ids[0])
		for _, q := range w.sql.list {
			require.NotContains(w.t, q, "bin_days", "bringing back needs none")
		}
	})
}

func TestOperationsOfOneUserAtOnceStayBelowHisCap(t *testing.T) {
	each(t, func(w *world) {
		w.caps(nil, nil, 30, nil)
		ids := w.people("agent", "x", 100)
		var wg sync.WaitGroup
		var mu sync.Mutex
		changed, refused := 0, 0
		for i := range 10 {
			wg.Go(func() {
				op, err := w.svc.Run(w.as("agent"), record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids[10*i : 10*i+10]}})
				mu.Lock()
				defer mu.Unlock()
				require.NoError(w.t, err)
				if op.Status == operation.StatusPAUSED {
					refused++
				}
				changed += op.Changed
			})
		}
		wg.Wait()
		require.Equal(w.t, []int{30, 7}, []int{changed, refused})
	})
}
