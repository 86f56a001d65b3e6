package record_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// quota sets how many records may be purged in a day.
func (w *world) quota(n any) {
	w.t.Helper()
	w.exec(`UPDATE tenants SET purge_day = ? WHERE id = ?`, n, w.tenant)
}

func (w *world) sweep() int {
	w.t.Helper()
	n, err := w.svc.Sweep(w.t.Context())
	require.NoError(w.t, err)
	return n
}

func TestTheSweeperCatchesUpWithinQuotaOldestFirst(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		var ids []gid.ID // of several types in turn, each a minute after the last one
		for i := range 12 {
			var id gid.ID
			switch i % 3 {
			case 0:
				id = w.message("agent", c, "m")
			case 1:
				id = w.customer("agent", fmt.Sprintf("c%d", i))
			case 2:
				id = w.contact("agent", c, fmt.Sprintf("x%d", i))
			}
			ids = append(ids, id)
			w.delete("agent", id)
			w.clock.add(time.Minute)
		}
		w.quota(5)
		w.clock.add(60 * 24 * time.Hour)
		for day, left := range []int{7, 2, 0} {
			require.Equal(w.t, len(w.living(ids))-left, w.sweep())
			require.Zero(w.t, w.sweep(), "the quota of day %d is used up", day)
			require.Equal(w.t, ids[len(ids)-left:], w.living(ids), "the oldest went first")
			w.clock.add(25 * time.Hour)
		}
	})
}

// living are the records that have a row, in order.
func (w *world) living(ids []gid.ID) []gid.ID {
	w.t.Helper()
	out := []gid.ID{}
	for _, id := range ids {
		if w.state(id) != "" {
			out = append(out, id)
		}
	}
	return out
}

func TestATreeLargerThanTheQuotaGoesLeafByLeaf(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		tree := []gid.ID{c}
		for i := range 6 {
			tree = append(tree, w.contact("agent", c, fmt.Sprint("x", i)))
		}
		w.delete("agent", c)
		w.quota(4)
		w.clock.add(31 * 24 * time.Hour)
		require.Equal(w.t, 4, w.sweep())
		require.Equal(w.t, lifecycle.Deleted, w.state(c))
		w.clock.add(25 * time.Hour)
		require.Equal(w.t, 3, w.sweep())
		require.Empty(w.t, w.living(tree))
	})
}

func TestAUsersPurgeCountsAgainstTheQuota(t *testing.T) {
	each(t, func(w *world) {
		var ids []gid.ID
		for i := range 5 {
			ids = append(ids, w.customer("agent", fmt.Sprint("c", i)))
		}
		w.delete("agent", ids...)
		w.quota(3)
		w.purge("purger", ids[:2]...)
		req := record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: ids[2:4]}}
		require.Contains(w.t, w.preview("purger", req).Blocked, record.Blocked{Blocker: record.Blocker{Code: lifecycle.Limit, Field: "purgeDay", Limit: 3, Count: 4}})
		op := w.run("purger", req)
		require.Equal(w.t, "PAUSED LIMIT", string(op.Status)+" "+*op.Code, "until another lets it go on")
		w.purge("purger", ids[2])
		w.clock.add(31 * 24 * time.Hour)
		w.quota(0)
		require.Zero(w.t, w.sweep())
		w.quota(nil)
		require.Equal(w.t, 2, w.sweep())
	})
}

func TestTwoSweepersTogetherKeepTheQuotaAndDoNothingTwice(t *testing.T) {
	each(t, func(w *world) {
		var ids []gid.ID
		for i := range 30 {
			ids = append(ids, w.customer("agent", fmt.Sprint("c", i)))
		}
		w.delete("agent", ids...)
		w.quota(17)
		w.clock.add(31 * 24 * time.Hour)
		var wait sync.WaitGroup
		var mu sync.Mutex
		total := 0
		for range 4 {
			wait.Go(func() {
				n, err := w.svc.Sweep(w.t.Context())
				if err != nil {
					w.t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				total += n
			})
		}
		wait.Wait()
		require.Equal(w.t, 17, total)
		require.Len(w.t, w.living(ids), 13)
		require.Equal(w.t, []string{"17"}, w.rows(`SELECT COUNT(*) FROM tombstones`))
		require.Equal(w.t, []string{"17"}, w.rows(`SELECT COUNT(*) FROM audit_events WHERE action = 'PURGE' AND outcome = 'SUCCEEDED'`))
	})
}

func TestASweepTakesBatchesOfAtMost500(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("admin", "c")
		values := make([]record.Values, 700)
		for i := range values {
			values[i] = record.Values{"body": "x", "happenedAt": w.db.Now(), "customerID": c}
		}
		_, errs, err := w.svc.CreateMany(w.as("admin"), "Note", values)
		require.NoError(w.t, err)
		require.NotContains(w.t, errs, 1)
		w.caps(nil, nil, nil, nil)
		w.delete("admin", c)
		w.clock.add(31 * 24 * time.Hour)
		require.Equal(w.t, 701, w.sweep())
		require.Empty(w.t, w.rows(`SELECT id FROM operations WHERE verb = 'PURGE' AND changed > 500`))
		require.Empty(w.t, w.rows(`SELECT id FROM notes`))
	})
}
