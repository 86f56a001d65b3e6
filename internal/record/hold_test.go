package record_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/visible"
)

// hold places a hold as compliance.
func (w *world) hold(h record.Hold, ids ...gid.ID) gid.ID {
	w.t.Helper()
	h.Name, h.Reason, h.Records = "Acme v. Roe", "subpoena", ids
	id, err := w.svc.PlaceHold(w.as("compliance"), h)
	require.NoError(w.t, err)
	return id
}

func (w *world) release(id gid.ID) {
	w.t.Helper()
	require.NoError(w.t, w.tryRelease(w.as("compliance"), id, "settled"))
}

// also gives roles to the users named like other roles.
func (w *world) also(roles map[string]string) {
	rules := slices.Clone(w.policy.rules[w.tenant.String()])
	for user, role := range roles {
		rules = append(rules, casbin.Grant(casbin.UserSubject(w.users[user].String()), casbin.RoleSubject(role), w.tenant.String()))
	}
	w.policy.replace(w.tenant, rules)
	require.NoError(w.t, w.control.Refresh(w.t.Context(), w.tenant))
}

// tried is what becomes of one record: its item's outcome and code, and the
// blockers of a preview of the same.
func (w *world) tried(as string, req record.Request, id gid.ID) (string, []record.Blocker) {
	w.t.Helper()
	preview, err := w.svc.Preview(w.as(as), req)
	require.NoError(w.t, err)
	var blockers []record.Blocker
	for _, b := range preview.Blocked {
		blockers = append(blockers, b.Blocker)
	}
	op := w.run(as, req)
	ran := w.outcomes(op)[id]
	require.Equal(w.t, ran, w.foreseen(preview)[id], "the preview says what the operation does")
	return ran, blockers
}

// foreseen are the outcomes of a preview.
func (w *world) foreseen(p *record.Preview) map[gid.ID]string {
	out := map[gid.ID]string{}
	for _, it := range p.Items {
		s := string(it.Outcome)
		if it.Code != nil {
			s += " " + *it.Code
		}
		if !it.Direct {
			s += " along"
		}
		out[it.RecordID] = s
	}
	return out
}

// TestWhatAHoldRefuses is the table of verbs and holds, for a caller who may
// know of holds, and for one who may not.
func TestWhatAHoldRefuses(t *testing.T) {
	each(t, func(w *world) {
		w.also(map[string]string{"purger": "admin", "manager": "purger"}) // an admin may know of holds
		const remove, void, archive, suspend, restore, purge = lifecycle.Delete, lifecycle.Void, lifecycle.Archive, lifecycle.Suspend, lifecycle.Restore, lifecycle.Purge
		all := []lifecycle.Verb{remove, void, archive, suspend, restore, purge}
		for _, test := range []struct {
			name    string
			hold    record.Hold
			refused []lifecycle.Verb
			update  bool // refused, too
		}{
			{"plain", record.Hold{}, []lifecycle.Verb{purge}, false},
			{"blocking deletion", record.Hold{BlockDelete: true}, []lifecycle.Verb{remove, void, purge}, false},
			{"freezing", record.Hold{Freeze: true}, all, true},
			{"both", record.Hold{BlockDelete: true, Freeze: true}, all, true},
		} {
			for as, want := range map[string]lifecycle.Code{"purger": lifecycle.Hold, "manager": lifecycle.Retained} {
				for _, verb := range all {
					name := fmt.Sprintf("%s %s %s", test.name, as, verb)
					id := w.customer("agent", strings.ReplaceAll(name, " ", "-"))
					if verb == restore || verb == purge {
						w.delete("agent", id)
					}
					w.hold(test.hold, id)
					req := record.Request{Verb: verb, Reason: "r", Select: record.Selection{IDs: []gid.ID{id}}}
					if verb == suspend {
						until := w.db.Now().Add(time.Hour)
						req.Until = &until
					}
					before := w.state(id)
					reasons, err := w.svc.WhyNot(w.as(as), id, map[lifecycle.Verb]authz.Action{
						remove: authz.Delete, void: authz.Void, archive: authz.Archive, suspend: authz.Suspend, restore: authz.Restore, purge: authz.Purge,
					}[verb])
					require.NoError(w.t, err, name)
					got, blockers := w.tried(as, req, id)
					if !slices.Contains(test.refused, verb) {
						require.Equal(w.t, "CHANGED", got, name)
						require.Empty(w.t, reasons, name)
						continue
					}
					require.Equal(w.t, "FAILED "+string(want), got, name)
					require.Equal(w.t, before, w.state(id), name)
					require.Len(w.t, reasons, 1, name)
					require.Equal(w.t, want, reasons[0].Code, name)
					require.Equal(w.t, []record.Blocker{{Code: want, Type: "Customer", Count: 1}}, blockers, name)
					if want == lifecycle.Retained {
						require.Empty(w.t, reasons[0].Blockers, name)
					}
				}
				id := w.customer("agent", strings.ReplaceAll(test.name+" "+as, " ", "-")+"-update")
				w.hold(test.hold, id)
				reasons, err := w.svc.WhyNot(w.as(as), id, authz.Update)
				require.NoError(w.t, err)
				_, err = w.svc.Update(w.as(as), id, 1, record.Values{"name": "another"})
				if !test.update {
					require.NoError(w.t, err, test.name)
					require.Empty(w.t, reasons, test.name)
					continue
				}
				require.Equal(w.t, want, code(err), test.name)
				require.Len(w.t, reasons, 1, test.name)
				require.Equal(w.t, want, reasons[0].Code, test.name)
				require.Equal(w.t, 1, w.get(id).RecordVersion())
			}
		}
		w.eventsMatchChanges()
	})
}

func TestAHoldOnWhatWouldComeAlongKeepsItsRoot(t *testing.T) {
	each(t, func(w *world) {
		w.also(map[string]string{"manager": "purger"})
		a, b := w.customer("agent", "a"), w.customer("agent", "b")
		person, other := w.contact("agent", a, "x"), w.contact("agent", b, "y")
		h := w.hold(record.Hold{BlockDelete: true}, person)
		both := record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{a, b}}, Mode: record.BestEffort}
		op := w.run("agent", both)
		require.Equal(w.t, map[gid.ID]string{a: "FAILED RETAINED", b: "CHANGED", other: "CHANGED along"}, w.outcomes(op))
		require.Equal(w.t, []lifecycle.State{lifecycle.Active, lifecycle.Active}, w.states(a, person))
		refused := w.rows(`SELECT code FROM audit_events WHERE outcome = 'REFUSED' AND operation_id = ?`, op.ID)
		require.Equal(w.t, []string{"RETAINED"}, refused)

		w.release(h)
		w.delete("agent", a)
		w.hold(record.Hold{}, person)
		require.Equal(w.t, map[gid.ID]string{a: "FAILED RETAINED"}, w.outcomes(w.purge("manager", a)))
		op = w.restore("agent", a)
		require.Equal(w.t, "CHANGED", w.outcomes(op)[a], "what is only kept from being purged comes back")
	})
}

func TestTheSweeperLeavesWhatIsHeldAndNothingElse(t *testing.T) {
	each(t, func(w *world) {
		root, single, free := w.customer("agent", "root"), w.customer("agent", "single"), w.customer("agent", "free")
		person, plain := w.contact("agent", root, "x"), w.contact("agent", free, "y")
		moved := w.customer("agent", "moved away from")
		apart := w.contact("agent", moved, "apart")
		w.delete("agent", moved) // its contact comes along, and is then taken out of the tree
		w.run("agent", record.Request{Verb: lifecycle.Restore, Select: record.Selection{IDs: []gid.ID{apart}}, NewParentID: &free})
		w.delete("agent", root, single, free)
		h := w.hold(record.Hold{}, single, person, apart)
		w.clock.add(31 * 24 * time.Hour)
		n, err := w.svc.Sweep(w.t.Context())
		require.NoError(w.t, err)
		// free has the contact that is held in its tree by now.
		require.Equal(w.t, []lifecycle.State{"DELETED", "DELETED", "DELETED", "DELETED", "DELETED", ""}, w.states(root, single, free, person, apart, moved))
		require.Equal(w.t, lifecycle.State(""), w.state(plain), "which is due by itself")
		require.Equal(w.t, 2, n)
		operations := w.rows(`SELECT COUNT(*) FROM operations`)
		for range 2 {
			n, err := w.svc.Sweep(w.t.Context())
			require.NoError(w.t, err)
			require.Zero(w.t, n)
		}
		require.Equal(w.t, operations, w.rows(`SELECT COUNT(*) FROM operations`), "it does not try again and again")

		w.release(h)
		w.clock.add(29 * 24 * time.Hour)
		n, err = w.svc.Sweep(w.t.Context())
		require.NoError(w.t, err)
		require.Zero(w.t, n, "the clocks stand still for 30 days after the release")
		w.clock.add(2 * 24 * time.Hour)
		n, err = w.svc.Sweep(w.t.Context())
		require.NoError(w.t, err)
		require.Equal(w.t, 5, n)
		w.eventsMatchChanges()
	})
}

func TestMoreHeldRecordsThanABatchHoldUpNothingElse(t *testing.T) {
	each(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		var held []gid.ID
		for i := range 501 { // one more than the sweeper takes at once
			held = append(held, w.create("agent", "Note", record.Values{"body": fmt.Sprint(i), "happenedAt": w.db.Now()}).RecordID())
		}
		last := w.create("agent", "Note", record.Values{"body": "last", "happenedAt": w.db.Now()}).RecordID()
		w.delete("agent", held...)
		w.clock.add(time.Minute)
		w.delete("agent", last)
		w.hold(record.Hold{}, held...)
		w.clock.add(31 * 24 * time.Hour)
		n, err := w.svc.Sweep(w.t.Context())
		require.NoError(w.t, err)
		require.Equal(w.t, 1, n)
		require.Equal(w.t, lifecycle.State(""), w.state(last))
	})
}

func TestWhatIsFrozenIsNotWoken(t *testing.T) {
	each(t, func(w *world) {
		frozen, blocked, free := w.customer("agent", "a"), w.customer("agent", "b"), w.customer("agent", "c")
		until := w.db.Now().Add(time.Hour)
		w.run("agent", record.Request{Verb: lifecycle.Suspend, Until: &until, Then: record.ThenDelete, Select: record.Selection{IDs: []gid.ID{frozen, blocked, free}}})
		h := w.hold(record.Hold{Freeze: true}, frozen)
		w.hold(record.Hold{BlockDelete: true}, blocked)
		w.clock.add(2 * time.Hour)
		for range 2 {
			_, err := w.svc.Wake(w.t.Context())
			require.NoError(w.t, err)
			require.Equal(w.t, []lifecycle.State{"SUSPENDED", "ACTIVE", "DELETED"}, w.states(frozen, blocked, free))
		}
		require.Empty(w.t, w.rows(`SELECT record_id FROM operation_items WHERE record_id = ? AND outcome = 'FAILED'`, frozen), "it was not even tried")
		w.release(h)
		_, err := w.svc.Wake(w.t.Context())
		require.NoError(w.t, err)
		require.Equal(w.t, lifecycle.Deleted, w.state(frozen))
	})
}

func TestAfterTheLastHoldIsReleasedThePurgeWaits(t *testing.T) {
	each(t, func(w *world) {
		w.also(map[string]string{"purger": "admin", "manager": "purger"})
		id := w.customer("agent", "a")
		w.delete("agent", id)
		w.exec(`UPDATE tenants SET hold_release_days = 10 WHERE id = ?`, w.tenant)
		first, second := w.hold(record.Hold{}, id), w.hold(record.Hold{}, id)
		req := record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: []gid.ID{id}}}
		w.release(first)
		w.clock.add(9 * 24 * time.Hour)
		got, _ := w.tried("purger", req, id)
		require.Equal(w.t, "FAILED HOLD", got, "the other one is in force")
		w.release(second)
		released := w.clock.now()
		w.release(second) // which changes nothing
		w.clock.add(9 * 24 * time.Hour)
		got, blockers := w.tried("purger", req, id)
		require.Equal(w.t, "FAILED RETAINED", got)
		require.Len(w.t, blockers, 1)
		require.NotNil(w.t, blockers[0].Until)
		require.WithinDuration(w.t, released.Add(10*24*time.Hour), *blockers[0].Until, time.Second)
		got, blockers = w.tried("manager", req, id)
		require.Equal(w.t, "FAILED RETAINED", got)
		require.Equal(w.t, []record.Blocker{{Code: lifecycle.Retained, Type: "Customer", Count: 1}}, blockers, "and nothing of when")
		w.clock.add(2 * 24 * time.Hour)
		got, _ = w.tried("manager", req, id)
		require.Equal(w.t, "CHANGED", got)
	})
}

func TestPlacingAndReleasingNeedTheirRights(t *testing.T) {
	each(t, func(w *world) {
		mine, theirs := w.customer("agent", "mine"), w.customer("agent2", "theirs")
		gone := w.customer("agent", "gone")
		w.delete("agent", gone)
		w.purge("purger", gone)
		place := func(as string, ids ...gid.ID) error {
			_, err := w.svc.PlaceHold(w.as(as), record.Hold{Name: "m", Reason: "r", Records: ids})
			return err
		}
		missing := gid.New(gid.Customer)
		for _, test := range []struct {
			name, as string
			ids      []gid.ID
			want     lifecycle.Code
		}{
			{"without the right", "agent", []gid.ID{mine}, lifecycle.Forbidden},
			{"hidden", "agent", []gid.ID{theirs}, lifecycle.NotFound},
			{"of another tenant", "stranger", []gid.ID{mine}, lifecycle.NotFound},
			{"missing", "compliance", []gid.ID{mine, missing}, lifecycle.NotFound},
			{"no record", "compliance", []gid.ID{w.users["agent"]}, lifecycle.NotFound},
			{"purged", "compliance", []gid.ID{gone}, lifecycle.Gone},
			{"none", "compliance", nil, lifecycle.BadUserInput},
			{"too many", "compliance", make([]gid.ID, record.MaxRows+1), lifecycle.Limit},
			{"allowed, even twice", "compliance", []gid.ID{mine, theirs, mine}, ""},
		} {
			require.Equal(w.t, test.want, code(place(test.as, test.ids...)), test.name)
		}
		require.Equal(w.t, place("agent", missing).Error(), place("agent", theirs).Error(), "hidden is as missing")
		require.Equal(w.t, []string{"1"}, w.rows(`SELECT COUNT(*) FROM legal_holds`), "what is refused leaves nothing")
		require.Equal(w.t, []string{"2"}, w.rows(`SELECT COUNT(*) FROM legal_hold_records`))
		require.NotEmpty(w.t, w.rows(`SELECT id FROM audit_events WHERE action = 'HOLD_PLACE' AND outcome = 'REFUSED' AND code = 'FORBIDDEN'`))

		h := w.hold(record.Hold{}, mine)
		unknown := gid.New(gid.LegalHold)
		for as, want := range map[string]lifecycle.Code{"agent": lifecycle.NotFound, "stranger": lifecycle.NotFound, "admin": lifecycle.Forbidden} {
			require.Equal(w.t, want, code(w.tryRelease(w.as(as), h, "r")), as)
			require.Equal(w.t, lifecycle.NotFound, code(w.tryRelease(w.as(as), unknown, "r")), as)
		}
		require.Equal(w.t, lifecycle.BadUserInput, code(w.tryRelease(w.as("compliance"), h, " ")))
		require.Equal(w.t, []string{""}, w.rows(`SELECT released_at FROM legal_holds WHERE id = ?`, h))
		w.release(h)
		require.NotEqual(w.t, []string{""}, w.rows(`SELECT released_at FROM legal_holds WHERE id = ?`, h))
	})
}

func TestHoldsAreInTheLogUnderTheSealOfEachRecord(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.customer("agent", "a"), w.customer("agent", "b")
		version := w.get(a).RecordVersion()
		w.release(w.hold(record.Hold{Freeze: true}, a, b))
		require.Equal(w.t, version, w.get(a).RecordVersion(), "a hold is no change of the record")
		for _, action := range []string{"HOLD_PLACE", "HOLD_RELEASE"} {
			require.ElementsMatch(w.t, w.rows(`SELECT id FROM customers`), w.rows(`SELECT record_id FROM audit_events WHERE outcome = 'SUCCEEDED' AND action = ?`, action))
			events, err := w.svc.Client(w.everything()).AuditEvent.Query().All(visible.With(w.t.Context(), visible.Tenant(w.tenant)))
			require.NoError(w.t, err)
			found := 0
			for _, e := range events {
				if e.Action != action {
					continue
				}
				found++
				seal, _ := w.get(*e.RecordID).Column("seal").([]byte)
				p, err := w.log.Open(w.tenant, seal, e.ID, e.Sealed)
				require.NoError(w.t, err)
				require.NotEmpty(w.t, p.Reason)
				require.NotContains(w.t, fmt.Sprint(e.Detail), "Acme")
				change := audit.Change{Field: "hold", New: "Acme v. Roe"}
				if action == "HOLD_RELEASE" {
					change = audit.Change{Field: "hold", Old: "Acme v. Roe"}
				}
				require.Equal(w.t, []audit.Change{change}, p.Changes)
			}
			require.Equal(w.t, 2, found)
		}
		// Who may read the log, but not know of holds, does not learn of them there.
		w.policy.replace(w.tenant, append(slices.Clone(w.policy.rules[w.tenant.String()]),
			casbin.Permission(casbin.UserSubject(w.users["agent2"].String()), w.tenant.String(), "*", string(authz.AuditRead), "allow", "any")))
		require.NoError(w.t, w.control.Refresh(w.t.Context(), w.tenant))
		seen := func(as string) (n int) {
			ctx := actor.With(w.t.Context(), actor.From(w.as(as)))
			ctx = visible.With(ctx, w.svc.Rows(ctx))
			events, err := w.svc.Client(ctx).AuditEvent.Query().All(ctx)
			require.NoError(w.t, err)
			require.NotEmpty(w.t, events)
			for _, e := range events {
				if strings.HasPrefix(e.Action, "HOLD_") {
					n++
				}
			}
			return n
		}
		require.Equal(w.t, 4, seen("compliance"))
		require.Zero(w.t, seen("agent2"))
	})
}

// TestAHoldAndAPurgeDoNotMiss has holds and purges of the same records at once:
// a record that a hold was placed on is there, and one that is gone is in no hold.
func TestAHoldAndAPurgeDoNotMiss(t *testing.T) {
	each(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		const n = 24
		ids := make([]gid.ID, n)
		for i := range ids {
			ids[i] = w.customer("agent", fmt.Sprint("c", i))
			w.contact("agent", ids[i], "x")
		}
		w.delete("agent", ids...)
		var wg sync.WaitGroup
		errs := make(chan error, 2*n)
		for _, id := range ids {
			wg.Go(func() {
				_, err := w.svc.PlaceHold(w.as("compliance"), record.Hold{Name: "m", Reason: "r", Records: []gid.ID{id}})
				if err != nil && code(err) != lifecycle.NotFound && code(err) != lifecycle.Gone {
					errs <- err
				}
			})
			wg.Go(func() {
				_, err := w.svc.Run(w.as("purger"), record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: []gid.ID{id}}})
				if err != nil {
					errs <- err
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			require.NoError(w.t, err)
		}
		held := w.rows(`SELECT record_id FROM legal_hold_records ORDER BY record_id`)
		left := w.rows(`SELECT id FROM customers ORDER BY id`)
		require.Equal(w.t, left, held)
	})
}

func TestHoldsTakeOneStatementHoweverManyRecords(t *testing.T) {
	each(t, func(w *world) {
		cost := func(n int) int {
			var ids []gid.ID
			for i := range n {
				id := w.customer("agent", fmt.Sprintf("c%d-%d", n, i))
				w.contact("agent", id, "x")
				ids = append(ids, id)
			}
			w.delete("agent", ids...)
			w.hold(record.Hold{}, ids...)
			w.purge("purger", ids...) // reads what is read once
			w.sql.reset()
			op := w.purge("purger", ids...)
			require.Equal(w.t, n, op.Failed)
			return w.sql.count()
		}
		require.Equal(w.t, cost(2), cost(15))
	})
}

// tryRelease releases a hold where nobody has to be asked.
func (w *world) tryRelease(ctx context.Context, id gid.ID, reason string) error {
	w.t.Helper()
	request, err := w.svc.ReleaseHold(ctx, id, reason)
	require.True(w.t, request.IsZero(), "nobody has to be asked")
	return err
}
