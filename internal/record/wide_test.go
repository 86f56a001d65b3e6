package record_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// holdAll places a hold of any scope as a user.
func (w *world) holdAll(as string, h record.Hold) (gid.ID, error) {
	h.Name, h.Reason = "Acme v. Roe", "subpoena"
	return w.svc.PlaceHold(w.as(as), h)
}

func (w *world) mustHold(h record.Hold) gid.ID {
	w.t.Helper()
	id, err := w.holdAll("compliance", h)
	require.NoError(w.t, err)
	return id
}

func (w *world) filter(typ, text string) *record.Filter {
	w.t.Helper()
	f, err := record.ParseFilter(typ, []byte(text))
	require.NoError(w.t, err)
	return f
}

// held says which of the records are, in their order.
func (w *world) held(ids ...gid.ID) []bool {
	w.t.Helper()
	found, err := w.svc.Held(w.as("compliance"), ids)
	require.NoError(w.t, err)
	out := make([]bool, len(ids))
	for i, id := range ids {
		out[i] = found[id]
	}
	return out
}

// estate is a customer with something of every type, and what hangs on that.
type estate struct{ customer, contact, deal, message, attachment, answer, unowned gid.ID }

func (w *world) estate(name string) estate {
	w.t.Helper()
	var e estate
	e.customer = w.customer("admin", name)
	e.contact = w.contact("admin", e.customer, name+"-x")
	e.deal = w.deal("admin", e.customer, name)
	e.message = w.message("admin", e.customer, name)
	e.attachment = w.create("admin", "Attachment", record.Values{"filename": "a.pdf", "messageID": e.message}).RecordID()
	e.answer = w.create("admin", "Message", record.Values{"sentAt": w.db.Now(), "inReplyToID": e.message}).RecordID()
	e.unowned = w.create("admin", "Message", record.Values{"sentAt": w.db.Now(), "contactID": e.contact}).RecordID()
	return e
}

func TestAHoldOnAPersonKeepsWhatBelongsToItNowAndLater(t *testing.T) {
	each(t, func(w *world) {
		w.also(map[string]string{"admin": "purger"})
		a, b := w.estate("a"), w.estate("b")
		rest := w.rest("admin", a.customer)
		h := w.mustHold(record.Hold{Persons: []gid.ID{a.customer}})
		require.Equal(w.t, []bool{true, true, true, true, true, false, true}, w.held(a.customer, a.contact, a.deal, a.message, a.attachment, a.answer, a.unowned))
		require.Equal(w.t, []bool{true, true, true, true}, w.held(rest...))
		require.Equal(w.t, make([]bool, 7), w.held(b.customer, b.contact, b.deal, b.message, b.attachment, b.answer, b.unowned))

		late := w.message("admin", a.customer, "late")
		later := w.create("admin", "Attachment", record.Values{"filename": "b.pdf", "messageID": late}).RecordID()
		_, err := w.svc.Update(w.as("admin"), b.unowned, 1, record.Values{"contactID": a.contact}) // which brings it under the hold
		require.NoError(w.t, err)
		require.Equal(w.t, []bool{true, true, true}, w.held(late, later, b.unowned))
		w.delete("admin", late)
		op := w.purge("admin", late)
		require.Equal(w.t, "FAILED HOLD", w.outcomes(op)[late])
		w.clock.add(60 * 24 * time.Hour)
		n, err := w.svc.Sweep(w.t.Context())
		require.NoError(w.t, err)
		require.Zero(w.t, n)
		require.Equal(w.t, []lifecycle.State{"DELETED", "DELETED"}, w.states(late, later))

		w.release(h)
		require.Equal(w.t, []bool{false, false}, w.held(a.customer, late))
		op = w.purge("admin", late)
		require.Equal(w.t, "FAILED RETAINED", w.outcomes(op)[late], "clocks stand still after the release")
		w.clock.add(31 * 24 * time.Hour)
		n, err = w.svc.Sweep(w.t.Context())
		require.NoError(w.t, err)
		require.Equal(w.t, 2, n)
		w.eventsMatchChanges()
	})
}

func TestAHoldOnAContactKeepsNothingElseOfItsCustomer(t *testing.T) {
	each(t, func(w *world) {
		w.also(map[string]string{"admin": "purger"})
		a := w.estate("a")
		w.mustHold(record.Hold{Persons: []gid.ID{a.contact}, BlockDelete: true})
		require.Equal(w.t, []bool{false, true, false, false, true}, w.held(a.customer, a.contact, a.deal, a.message, a.unowned))
		require.Equal(w.t, "FAILED HOLD", w.outcomes(w.run("admin", record.Request{Verb: lifecycle.Delete, Cascade: true, Select: record.Selection{IDs: []gid.ID{a.customer}}}))[a.customer],
			"what would come along is kept")
		require.Equal(w.t, "FAILED HOLD", w.outcomes(w.delete("admin", a.unowned))[a.unowned])
	})
}

func TestAHoldByFilterKeepsWhatMatchesNowAndLater(t *testing.T) {
	each(t, func(w *world) {
		w.also(map[string]string{"admin": "purger"})
		acme, rome := w.customer("admin", "acme"), w.customer("admin", "rome")
		gone := w.customer("admin", "acme-2")
		w.delete("admin", gone)
		h := w.mustHold(record.Hold{Records: []gid.ID{rome}, Filter: w.filter("Customer", `{"nameHasPrefix":"acme"}`), BlockDelete: true})
		late := w.customer("admin", "acme-3")
		other := w.customer("admin", "other")
		require.Equal(w.t, []bool{true, true, true, true, false}, w.held(acme, rome, gone, late, other))
		require.Equal(w.t, "FAILED HOLD", w.outcomes(w.purge("admin", gone))[gone])
		require.Equal(w.t, "FAILED HOLD", w.outcomes(w.delete("admin", late))[late])
		events := w.rows(`SELECT COUNT(*) FROM audit_events WHERE action = 'HOLD_PLACE' AND record_id IS NULL AND record_type = 'Customer'`)
		require.Equal(w.t, []string{"1"}, events)
		w.release(h)
		require.Equal(w.t, "CHANGED", w.outcomes(w.delete("admin", late))[late])

		frozen := w.mustHold(record.Hold{Filter: w.filter("Customer", `{"name":"other"}`), Freeze: true})
		_, err := w.svc.Update(w.as("admin"), other, 1, record.Values{"name": "else"})
		require.Equal(w.t, lifecycle.Hold, code(err))
		w.release(frozen)
		_, err = w.svc.Update(w.as("admin"), other, 1, record.Values{"name": "else"})
		require.NoError(w.t, err)

		// Nobody can say what a filter keeps that cannot be read any more.
		w.mustHold(record.Hold{Filter: w.filter("Customer", `{"name":"nobody"}`)})
		require.Equal(w.t, []bool{false}, w.held(other))
		w.exec(`UPDATE legal_holds SET filter = '{"colour":"red"}' WHERE released_at IS NULL`)
		require.Equal(w.t, []bool{true}, w.held(other))
	})
}

// TestNothingEscapesAHoldByBeingChanged edits, moves and mends what a wide hold
// keeps so that it would keep it no more.
func TestNothingEscapesAHoldByBeingChanged(t *testing.T) {
	each(t, func(w *world) {
		w.also(map[string]string{"admin": "purger"})
		a, b := w.estate("a"), w.estate("b")
		w.mustHold(record.Hold{Persons: []gid.ID{a.customer}})
		_, err := w.svc.Update(w.as("admin"), a.message, 1, record.Values{"customerID": b.customer})
		require.NoError(w.t, err)
		require.Equal(w.t, []bool{true, true, false, false}, w.held(a.message, a.attachment, b.customer, b.message), "with what is attached to it")
		_, err = w.svc.Update(w.as("admin"), a.deal, 1, record.Values{"amount": 3.0})
		require.NoError(w.t, err)
		named := w.rows(`SELECT record_id FROM legal_hold_records WHERE record_id = ?`, a.deal)
		require.Empty(w.t, named, "what stays under the hold needs no name")

		w.delete("admin", a.contact)
		op := w.run("admin", record.Request{Verb: lifecycle.Restore, Select: record.Selection{IDs: []gid.ID{a.contact}}, NewParentID: &b.customer})
		require.Equal(w.t, "CHANGED", w.outcomes(op)[a.contact])
		require.Equal(w.t, []bool{true, true}, w.held(a.contact, a.unowned))

		w.mustHold(record.Hold{Filter: w.filter("Deal", `{"name":"b"}`)})
		_, err = w.svc.Update(w.as("admin"), b.deal, 1, record.Values{"name": "harmless"})
		require.NoError(w.t, err)
		require.Equal(w.t, []bool{true}, w.held(b.deal))
		w.eventsMatchChanges()
	})
}

func TestPurgeLetsNothingEscapeAFilter(t *testing.T) {
	each(t, func(w *world) {
		w.also(map[string]string{"admin": "purger"})
		c := w.customer("admin", "a")
		d := w.deal("admin", c, "d")
		m := w.create("admin", "Message", record.Values{"sentAt": w.db.Now(), "dealID": d}).RecordID()
		w.mustHold(record.Hold{Filter: w.filter("Message", fmt.Sprintf(`{"dealID":%q}`, d))})
		w.delete("admin", d)
		require.Equal(w.t, "CHANGED", w.outcomes(w.purge("admin", d))[d])
		require.Nil(w.t, w.get(m).Column("deal_id"))
		require.Equal(w.t, []bool{true}, w.held(m))
	})
}

func TestWhoMayPlaceAWideHold(t *testing.T) {
	each(t, func(w *world) {
		w.also(map[string]string{"admin": "purger"})
		a := w.estate("a")
		_, err := w.holdAll("agent", record.Hold{Persons: []gid.ID{a.customer}})
		require.Error(w.t, err)
		for name, h := range map[string]record.Hold{
			"a deal is no person": {Persons: []gid.ID{a.deal}},
			"nothing":             {},
			"of what refers":      {Filter: w.filter("Customer", `{"hasMessages":true}`)},
			"deep of what refers": {Filter: w.filter("Customer", `{"or":[{"name":"a"},{"hasDealsWith":[{"name":"a"}]}]}`)},
			"nobody":              {Persons: []gid.ID{gid.New(gid.Customer)}},
		} {
			_, err := w.holdAll("compliance", h)
			require.Error(w.t, err, name)
		}
		require.Empty(w.t, w.rows(`SELECT id FROM legal_holds`))
	})
}

func TestAddToHold(t *testing.T) {
	each(t, func(w *world) {
		w.also(map[string]string{"admin": "purger"})
		a, b := w.customer("admin", "a"), w.customer("admin", "b")
		h := w.hold(record.Hold{BlockDelete: true}, a)
		add := func(as string, ids ...gid.ID) error { return w.svc.AddToHold(w.as(as), h, ids) }
		require.Equal(w.t, lifecycle.Forbidden, code(add("agent", b)))
		require.Equal(w.t, lifecycle.NotFound, code(add("compliance", gid.New(gid.Customer))))
		require.Equal(w.t, []bool{true, false}, w.held(a, b))
		require.NoError(w.t, add("compliance", b, a, b))
		require.Equal(w.t, []bool{true, true}, w.held(a, b))
		require.Equal(w.t, []string{"2"}, w.rows(`SELECT COUNT(*) FROM audit_events WHERE action = 'HOLD_PLACE' AND outcome = 'SUCCEEDED'`), "one event for each that is new")
		require.Equal(w.t, "FAILED HOLD", w.outcomes(w.delete("admin", b))[b])
		w.release(h)
		require.Equal(w.t, lifecycle.IllegalTransition, code(add("compliance", a)))
	})
}

// TestWideHoldsAndPurgesDoNotMiss places holds on a person and by filter while
// what they keep is purged: once a hold is placed, what is left stays.
func TestWideHoldsAndPurgesDoNotMiss(t *testing.T) {
	each(t, func(w *world) {
		w.also(map[string]string{"admin": "purger"})
		for round := range 6 {
			c := w.customer("admin", fmt.Sprintf("c%d", round))
			var ids []gid.ID
			for i := range 8 {
				ids = append(ids, w.message("admin", c, fmt.Sprintf("round %d-%d", round, i)))
			}
			w.delete("admin", ids...)
			h := record.Hold{Persons: []gid.ID{c}}
			if round%2 == 1 {
				h = record.Hold{Filter: w.filter("Message", fmt.Sprintf(`{"subjectHasPrefix":"round %d-"}`, round))}
			}
			var wait sync.WaitGroup
			for _, id := range ids {
				wait.Go(func() {
					_, err := w.svc.Run(w.as("admin"), record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: []gid.ID{id}}})
					require.NoError(w.t, err)
				})
			}
			var after []lifecycle.State
			wait.Go(func() {
				_, err := w.holdAll("compliance", h)
				require.NoError(w.t, err)
				after = w.states(ids...)
			})
			wait.Wait()
			require.Equal(w.t, after, w.states(ids...), "what the hold found is still there")
		}
	})
}

// TestAWideHoldWaitsForWhatIsUnderWay places holds while a purge and an update are
// done and not committed: it must not be placed over their heads.
func TestAWideHoldWaitsForWhatIsUnderWay(t *testing.T) {
	each(t, func(w *world) {
		w.also(map[string]string{"admin": "purger"})
		c := w.customer("admin", "c")
		gone, edited := w.message("admin", c, "gone"), w.message("admin", c, "edited")
		w.delete("admin", gone)
		for name, change := range map[string]func(ctx context.Context) error{
			"purge": func(ctx context.Context) error {
				_, err := w.svc.Run(ctx, record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: []gid.ID{gone}}})
				return err
			},
			"update": func(ctx context.Context) error {
				_, err := w.svc.Update(ctx, edited, 1, record.Values{"subject": "another"})
				return err
			},
		} {
			placed := make(chan error, 1)
			require.NoError(w.t, w.db.InTx(w.as("admin"), func(ctx context.Context, _ *store.Tx) error {
				if err := change(ctx); err != nil {
					return err
				}
				go func() {
					_, err := w.holdAll("compliance", record.Hold{Persons: []gid.ID{c}, Freeze: name == "update"})
					placed <- err
				}()
				select {
				case err := <-placed:
					return errors.Join(errors.New("a hold was placed over the head of a "+name), err)
				case <-time.After(300 * time.Millisecond):
					return nil
				}
			}))
			require.NoError(w.t, <-placed)
		}
	})
}
