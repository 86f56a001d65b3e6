package record_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

func (w *world) note(as string, customer gid.ID) gid.ID {
	w.t.Helper()
	return w.create(as, "Note", record.Values{"body": "a note", "happenedAt": w.db.Now(), "customerID": customer}).RecordID()
}

// batches works on an operation until so many batches are done.
func (w *world) batches(id gid.ID, n int) {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.t.Context())
	defer stop()
	acting := w.actAs()
	err := w.svc.Work(ctx, func(c context.Context, tenant, user gid.ID) (*actor.Actor, error) {
		if n--; n == 0 {
			stop() // the batch that has begun is finished
		}
		return acting(c, tenant, user)
	}, w.tenant, id)
	require.ErrorIs(w.t, err, context.Canceled)
}

func TestAJobGoesOnWithTheTypesThatItsRequesterMayChange(t *testing.T) {
	each(t, func(w *world) {
		w.svc.Resize(2, 1, 60)
		tenant := w.tenant.String()
		w.policy.replace(w.tenant, append(slices.Clone(w.policy.rules[tenant]),
			casbin.Permission(casbin.UserSubject(w.users["compliance"].String()), tenant, "Note", "delete", "allow", "any")))
		c := w.customer("admin", "a")
		notes := []gid.ID{w.note("admin", c), w.note("admin", c)}
		w.svc.Resize(10, 10, 60)
		archived := w.run("admin", record.Request{Verb: lifecycle.Archive, Select: record.Selection{IDs: []gid.ID{c}}}).ID
		w.svc.Resize(2, 1, 60)
		req := record.Request{Verb: lifecycle.Delete, Mode: record.BestEffort, Select: record.Selection{Operation: &archived}}
		p := w.preview("compliance", req)
		require.Equal(w.t, 3, p.Total)
		op := w.run("compliance", req)
		w.works()
		require.Equal(w.t, []any{"PARTIAL", 3, 3, 2, 0, 1}, w.counters(op.ID))
		require.Equal(w.t, map[gid.ID]string{c: "FAILED FORBIDDEN", notes[0]: "CHANGED", notes[1]: "CHANGED"}, w.outcomes(op))
	})
}

func TestOverridesOfAJobAreForRecordsOfAnyBatch(t *testing.T) {
	each(t, func(w *world) {
		ids := []gid.ID{w.customer("admin", "a"), w.customer("admin", "b"), w.customer("admin", "c")}
		w.delete("admin", ids...)
		w.customer("admin", "c") // takes the address of the last
		w.svc.Resize(2, 1, 60)
		req := record.Request{Verb: lifecycle.Restore, Select: record.Selection{IDs: ids}, Overrides: map[gid.ID]map[string]string{ids[2]: {"email": "other@example.com"}}}
		require.Empty(w.t, w.preview("admin", req).Blocked)
		op := w.run("admin", req)
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", 3, 3, 3, 0, 0}, w.counters(op.ID))
		require.Equal(w.t, "other@example.com", w.get(ids[2]).Column("email"))
	})
}

func TestTheBrakeCountsWhatJobsHaveDoneThatHaveNotEnded(t *testing.T) {
	each(t, func(w *world) {
		for _, limits := range [][2]any{{4, nil}, {nil, 4}} {
			w.caps(nil, nil, limits[0], limits[1])
			w.clock.add(48 * time.Hour)
			w.svc.Resize(2, 1, 60)
			op := w.run("admin", record.Request{Verb: lifecycle.Archive, Select: record.Selection{IDs: w.people("admin", "x", 4)}})
			w.batches(op.ID, 3)
			require.Equal(w.t, []any{"RUNNING", 4, 3, 3, 0, 0}, w.counters(op.ID))
			require.Equal(w.t, "PAUSED", string(w.run("admin", record.Request{Verb: lifecycle.Archive, Select: record.Selection{IDs: w.people("admin", "y", 2)}}).Status))
			w.works()
			require.Equal(w.t, []any{"SUCCEEDED", 4, 4, 4, 0, 0}, w.counters(op.ID), "what it did itself is not counted twice")
		}
	})
}

func TestTheShareOfAJobThatLeavesRecordsLive(t *testing.T) {
	large(t, func(w *world) {
		w.manyCustomers("admin", 1_100)
		w.caps(nil, 50, nil, nil)
		first := record.Selection{Filter: &record.Filter{Type: "Customer", Comparisons: 1, Where: func(s *sql.Selector) { s.Where(sql.LT(s.C("name"), "bulk 0600")) }}}
		w.svc.Resize(500, 300, 20_000)
		op := w.run("admin", record.Request{Verb: lifecycle.Archive, Select: first, ExpectedCount: new(600)})
		w.works()
		require.Equal(w.t, []any{"PAUSED", 600, 300, 300, 0, 0}, w.counters(op.ID), "600 are more than half of 1,100")
	})
}

func TestAPickThatWasOrphanedByItsJobIsNoConflict(t *testing.T) {
	each(t, func(w *world) {
		c, other := w.customer("admin", "a"), w.customer("admin", "b")
		n := w.note("admin", c)
		w.delete("admin", n)
		w.delete("admin", c, other)
		w.svc.Resize(2, 1, 60)
		var picks []record.Version
		for _, id := range []gid.ID{c, other, n} {
			picks = append(picks, record.Version{ID: id, Version: w.get(id).RecordVersion()})
		}
		op := w.run("purger", record.Request{Verb: lifecycle.Purge, Select: record.Selection{Versions: picks}})
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", 3, 3, 3, 0, 0}, w.counters(op.ID))
	})
}

func TestWhatALargeSelectionRepeatsIsNotPartOfIt(t *testing.T) {
	large(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		ids := w.manyCustomers("admin", 1_100)
		req := expecting(lifecycle.Void, 1_100)
		req.DuplicateOf = &ids[1_050]
		_, err := w.svc.Preview(w.as("admin"), req)
		require.Equal(w.t, lifecycle.BadUserInput, code(err), "%v", err)
		_, err = w.svc.Run(w.as("admin"), req)
		require.Equal(w.t, lifecycle.BadUserInput, code(err), "%v", err)
		require.Equal(w.t, []string{"0"}, w.rows(`SELECT COUNT(*) FROM operations`))
	})
}

func TestAPreviewCountsAnOwnerOnceThatComesAlongInManyBatches(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("admin", "a")
		notes := []gid.ID{w.note("admin", c), w.note("admin", c), w.note("admin", c), w.note("admin", c)}
		w.delete("admin", notes...)
		w.delete("admin", c)
		w.svc.Resize(2, 1, 60)
		req := record.Request{Verb: lifecycle.Restore, WithAncestors: true, ExpectedCount: new(4),
			Select: record.Selection{Filter: &record.Filter{Type: "Note", Comparisons: 1, Where: func(s *sql.Selector) { s.Where(sql.EQ(s.C("customer_id"), c)) }}}}
		require.Equal(w.t, 5, w.preview("admin", req).Total)
		op := w.run("admin", req)
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", 5, 5, 5, 0, 0}, w.counters(op.ID))
	})
}

func TestWhatACancelledJobWasRefusedIsLogged(t *testing.T) {
	each(t, func(w *world) {
		ids := w.people("agent", "x", 4)
		w.hold(record.Hold{BlockDelete: true}, ids[0])
		w.svc.Resize(2, 1, 60)
		op := w.run("agent", record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids}, Mode: record.BestEffort})
		require.Equal(w.t, "QUEUED", string(op.Status))
		w.batches(op.ID, 2)
		_, err := w.svc.Cancel(w.as("admin"), op.ID)
		require.NoError(w.t, err)
		require.Equal(w.t, []any{"CANCELLED", 4, 4, 1, 0, 1}, w.counters(op.ID))
		require.Equal(w.t, []string{"1 RETAINED " + w.users["agent"].UUID()},
			w.rows(`SELECT CAST(count AS text) || ' ' || code || ' ' || CAST(actor_id AS text) FROM audit_events WHERE operation_id = ? AND outcome = 'REFUSED'`, op.ID))
	})
}

func TestWhyNotOfARecordThatOnlyAJobCanTake(t *testing.T) {
	each(t, func(w *world) {
		w.svc.Resize(2, 1, 4)
		c, d := w.customer("admin", "a"), w.customer("admin", "b")
		for range 3 {
			w.note("admin", c)
		}
		for range 5 {
			w.note("admin", d)
		}
		reasons, err := w.svc.WhyNot(w.as("admin"), c, authz.Delete)
		require.NoError(w.t, err)
		require.Empty(w.t, reasons)
		reasons, err = w.svc.WhyNot(w.as("admin"), d, authz.Delete)
		require.NoError(w.t, err)
		require.Len(w.t, reasons, 1)
		require.Equal(w.t, lifecycle.Limit, reasons[0].Code)
	})
}

func TestARepeatedPickThatComesAlongIsSeenAtItsFirstVersion(t *testing.T) {
	each(t, func(w *world) {
		c, other := w.customer("admin", "a"), w.customer("admin", "b")
		n := w.note("admin", c)
		w.svc.Resize(2, 1, 60)
		op := w.run("admin", record.Request{Verb: lifecycle.Delete, Mode: record.BestEffort, Select: record.Selection{Versions: []record.Version{{ID: c, Version: 1}, {ID: other, Version: 1}, {ID: n, Version: 1}, {ID: n, Version: 7}}}})
		w.works()
		require.Equal(w.t, []any{"SUCCEEDED", 4, 4, 3, 1, 0}, w.counters(op.ID), fmt.Sprint(w.outcomes(op)))
	})
}

func TestTheItemsOfWhatWasPutOffAreInInputOrder(t *testing.T) {
	each(t, func(w *world) {
		c, other := w.customer("agent", "a"), w.customer("agent", "b")
		picks := []gid.ID{w.note("agent", c), other, w.note("agent", c), c}
		op := w.run("agent", w.later(record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: picks}}))
		w.clock.add(time.Hour)
		w.runsScheduled(1)
		items, err := w.svc.Client(w.everything()).Operation.QueryItems(op).All(w.everything())
		require.NoError(t, err)
		slices.SortFunc(items, func(a, b *ent.OperationItem) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		var got []gid.ID
		for _, it := range items {
			got = append(got, it.RecordID)
		}
		require.Equal(w.t, picks, got)
	})
}

func TestWhatWasScheduledBeforeThereWereJobsKeepsItsVersions(t *testing.T) {
	each(t, func(w *world) {
		const jobsMigration = 20261128040000
		other, n := w.customer("agent", "b"), w.note("agent", w.customer("agent", "a"))
		picks := []record.Version{{ID: n, Version: 1}, {ID: other, Version: 1}}
		op := w.run("agent", w.later(record.Request{Verb: lifecycle.Delete, Mode: record.BestEffort, Select: record.Selection{Versions: picks}}))
		there := func() bool {
			all, err := w.db.Migrations(t.Context())
			require.NoError(t, err)
			return slices.ContainsFunc(all, func(m store.Migration) bool { return m.Version == jobsMigration && m.Applied })
		}
		for there() {
			require.NoError(t, w.db.MigrateDown(t.Context()))
		}
		w.exec(`UPDATE operations SET request = ? WHERE id = ?`, fmt.Appendf(nil, `{"picks":[{"id":%q,"version":1},{"id":%q,"version":1}]}`, n, other), op.ID)
		w.exec(`UPDATE operation_items SET version = 0`)
		require.NoError(t, w.db.Migrate(t.Context()))
		_, err := w.svc.Update(w.as("agent"), other, 1, record.Values{"name": "seen no more"})
		require.NoError(t, err)
		w.clock.add(time.Hour)
		w.runsScheduled(1)
		require.Equal(w.t, map[gid.ID]string{n: "CHANGED", other: "FAILED CONFLICT"}, w.outcomes(op))
	})
}
