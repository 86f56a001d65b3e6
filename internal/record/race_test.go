package record_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// noLiveRowBelowARetiredOwner is the invariant the locks are there for.
func (w *world) noLiveRowBelowARetiredOwner() {
	w.t.Helper()
	for _, t := range ent.RecordTypes {
		for _, e := range t.Edges {
			if e.Class == lifecycle.Weak {
				continue
			}
			owner := ent.RecordTypeNamed(e.Target).Table
			require.Empty(w.t, w.rows(`SELECT c.id FROM `+t.Table+` c JOIN `+owner+` o ON o.id = c.`+e.Column+` WHERE c.retired_at IS NULL AND o.retired_at IS NOT NULL`),
				"live %s below retired %s", t.Table, owner)
		}
	}
}

func TestNoChildSlipsInUnderAParentBeingDeleted(t *testing.T) {
	each(t, func(w *world) {
		const parents, creators = 12, 4
		ids := make([]gid.ID, parents)
		for i := range ids {
			ids[i] = w.customer("agent", fmt.Sprintf("c%d", i))
			w.contact("agent", ids[i], "first")
		}
		var wg sync.WaitGroup
		refused := make(chan error, 1_000)
		for i, id := range ids {
			wg.Go(func() {
				op, err := w.svc.Run(w.as("agent"), record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{id}}})
				if err != nil || op.Changed == 0 {
					refused <- fmt.Errorf("deleting: %v %w", op, err)
				}
			})
			for j := range creators {
				wg.Go(func() {
					_, err := w.svc.Create(w.as("agent"), "Contact", record.Values{"name": fmt.Sprintf("p%d-%d", i, j), "customerID": id})
					if err != nil && code(err) != lifecycle.ParentRetired {
						refused <- fmt.Errorf("creating a contact: %w", err)
					}
				})
				wg.Go(func() {
					_, err := w.svc.Create(w.as("agent"), "Message", record.Values{"subject": "s", "sentAt": w.db.Now(), "customerID": id})
					if err != nil && code(err) != lifecycle.ParentRetired {
						refused <- fmt.Errorf("creating a message: %w", err)
					}
				})
			}
		}
		wg.Wait()
		close(refused)
		var all []error
		for err := range refused {
			all = append(all, err)
		}
		require.NoError(w.t, errors.Join(all...))
		w.noLiveRowBelowARetiredOwner()
		w.eventsMatchChanges()
	})
}

func TestOfThoseWhoNameAVersionExactlyOneWins(t *testing.T) {
	each(t, func(w *world) {
		const callers, rounds = 50, 4
		id := w.customer("agent", "a")
		for round := range rounds {
			version := w.get(id).RecordVersion()
			verb := lifecycle.Delete
			if w.state(id) == lifecycle.Deleted {
				verb = lifecycle.Restore
			}
			var wg sync.WaitGroup
			var mu sync.Mutex
			won, other := 0, map[string]int{}
			for range callers {
				wg.Go(func() {
					op, err := w.svc.Run(w.as("agent"), record.Request{Verb: verb, Select: record.Selection{Versions: []record.Version{{ID: id, Version: version}}}})
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err != nil:
						other[err.Error()]++
					case op.Changed == 1:
						won++
					default:
						other[string(op.Status)]++
					}
				})
			}
			wg.Wait()
			require.Equal(w.t, 1, won, "round %d: %v", round, other)
			require.Equal(w.t, callers-1, other["SUCCEEDED"]+other["FAILED"], "round %d: %v", round, other)
			require.Equal(w.t, version+1, w.get(id).RecordVersion(), "versions have no gaps")
		}
		w.eventsMatchChanges()
	})
}

func TestUpdatesOfOneVersionAreWonByOne(t *testing.T) {
	each(t, func(w *world) {
		const callers = 50
		id := w.customer("agent", "a")
		var wg sync.WaitGroup
		var mu sync.Mutex
		won, conflicts := 0, 0
		for i := range callers {
			wg.Go(func() {
				_, err := w.svc.Update(w.as("agent"), id, 1, record.Values{"name": fmt.Sprint("n", i)})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won++
				case code(err) == lifecycle.Conflict:
					conflicts++
				default:
					w.t.Errorf("updating: %v", err)
				}
			})
		}
		wg.Wait()
		require.Equal(w.t, 1, won)
		require.Equal(w.t, callers-1, conflicts)
		require.Equal(w.t, 2, w.get(id).RecordVersion())
		w.eventsMatchChanges()
	})
}

func TestOppositeOperationsOnATreeDoNotTearIt(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		p := w.contact("agent", c, "p")
		m := w.message("agent", c, "m")
		var wg sync.WaitGroup
		for i := range 24 {
			wg.Go(func() {
				req := record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{[]gid.ID{c, p, m}[i%3]}}}
				if i%2 == 0 {
					req.Verb = lifecycle.Restore
				}
				_, err := w.svc.Run(w.as("agent"), req)
				if err != nil {
					w.t.Errorf("%s: %v", req.Verb, err)
				}
			})
		}
		wg.Wait()
		w.noLiveRowBelowARetiredOwner()
		w.eventsMatchChanges()
	})
}

func TestOneEffectUnderOneKeyAtOnce(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		req := record.Request{Verb: lifecycle.Delete, IdempotencyKey: "k", Select: record.Selection{IDs: []gid.ID{c}}}
		var wg sync.WaitGroup
		var mu sync.Mutex
		ids := map[gid.ID]int{}
		for range 20 {
			wg.Go(func() {
				op, err := w.svc.Run(w.as("agent"), req)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					w.t.Errorf("running: %v", err)
					return
				}
				ids[op.ID]++
			})
		}
		wg.Wait()
		require.Len(w.t, ids, 1)
		require.Equal(w.t, 2, w.get(c).RecordVersion())
	})
}

func TestManyWhoNeedNumbersDoNotWaitForOneAnother(t *testing.T) {
	each(t, func(w *world) {
		var wg sync.WaitGroup
		for range 60 { // many more than there are connections
			wg.Go(func() {
				for range 4 {
					if _, err := w.svc.Create(w.as("agent"), "Customer", record.Values{"name": "n"}); err != nil {
						w.t.Errorf("creating: %v", err)
					}
				}
			})
		}
		wg.Wait()
		require.Len(w.t, w.rows(`SELECT DISTINCT number FROM customers`), 240)
	})
}
