package record_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

func TestWhatWasCommittedIsTold(t *testing.T) {
	each(t, func(w *world) {
		told := map[string]int{}
		w.svc.OnEnd(func(verb lifecycle.Verb, status string) { told[fmt.Sprint(verb, " ", status)]++ })
		w.svc.OnChange(func(verb lifecycle.Verb, typ string, n int) { told[fmt.Sprint(verb, " ", typ)] += n })
		is := func(want map[string]int, why string) {
			w.t.Helper()
			require.Equal(w.t, want, told, why)
			clear(told)
		}
		c, other := w.customer("agent", "c"), w.customer("agent", "other")
		w.contact("agent", c, "a")
		w.contact("agent", c, "b")
		w.delete("agent", c)
		is(map[string]int{"DELETE SUCCEEDED": 1, "DELETE Customer": 1, "DELETE Contact": 2}, "what came along included")
		w.delete("agent", c)
		is(map[string]int{"DELETE SUCCEEDED": 1}, "which changed nothing")
		w.restore("agent", c)
		is(map[string]int{"RESTORE SUCCEEDED": 1, "RESTORE Customer": 1, "RESTORE Contact": 2}, "")

		errRolledBack := errors.New("rolled back")
		err := w.db.InTx(w.as("agent"), func(ctx context.Context, _ *store.Tx) error {
			_, err := w.svc.Run(ctx, record.Request{Verb: lifecycle.Archive, Select: record.Selection{IDs: []gid.ID{c}}})
			require.NoError(w.t, err)
			return errRolledBack
		})
		require.ErrorIs(w.t, err, errRolledBack)
		is(map[string]int{}, "what was rolled back never happened")

		later := w.db.Now().Add(time.Hour)
		op := w.run("agent", record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{other}}, RunAt: &later})
		is(map[string]int{}, "it has not ended")
		_, err = w.svc.Cancel(w.as("agent"), op.ID)
		require.NoError(w.t, err)
		is(map[string]int{"DELETE CANCELLED": 1}, "")
	})
}

func TestOfAJobEachRecordIsToldOnce(t *testing.T) {
	large(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		w.manyCustomers("agent", 1_200)
		told := map[string]int{}
		w.svc.OnEnd(func(verb lifecycle.Verb, status string) { told[fmt.Sprint(verb, " ", status)]++ })
		w.svc.OnChange(func(verb lifecycle.Verb, typ string, n int) { told[fmt.Sprint(verb, " ", typ)] += n })
		w.run("agent", expecting(lifecycle.Delete, 1_200))
		require.Empty(w.t, told)
		w.works()
		require.Equal(w.t, map[string]int{"DELETE SUCCEEDED": 1, "DELETE Customer": 1_200}, told)
	})
}
