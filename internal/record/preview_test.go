package record_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

func (w *world) preview(as string, req record.Request) *record.Preview {
	w.t.Helper()
	p, err := w.svc.Preview(w.as(as), req)
	require.NoError(w.t, err)
	return p
}

// named selects customers by their name.
func named(prefix string) record.Request {
	return record.Request{
		Verb: lifecycle.Delete, Bound: json.RawMessage(fmt.Sprintf("%q", prefix)),
		Select: record.Selection{Filter: &record.Filter{Type: "Customer", Comparisons: 1, Where: func(s *sql.Selector) { s.Where(sql.HasPrefix(s.C("name"), prefix)) }}},
	}
}

// previewed are the items of a preview in short, as outcomes has them.
func previewed(p *record.Preview) map[gid.ID]string {
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

func extensions(err error) map[string]any {
	if e, ok := errors.AsType[*record.Error](err); ok {
		return e.Extensions
	}
	return nil
}

func TestAPreviewSaysWhatTheOperationThenDoes(t *testing.T) {
	each(t, func(w *world) {
		n := 0
		// a has a contact and a message, b a deal, gone is in the bin with its contact.
		fresh := func() (a, b, gone gid.ID) {
			n++
			a, b, gone = w.customer("agent", fmt.Sprint("a", n)), w.customer("agent", fmt.Sprint("b", n)), w.customer("agent", fmt.Sprint("gone", n))
			w.contact("agent", a, "p")
			w.message("agent", a, "m")
			w.deal("agent", b, "d")
			w.contact("agent", gone, "q")
			w.delete("agent", gone)
			return a, b, gone
		}
		for _, test := range []struct {
			as    string
			req   record.Request
			total int
		}{
			{"manager", record.Request{Verb: lifecycle.Delete}, 6},
			{"manager", record.Request{Verb: lifecycle.Delete, Mode: record.BestEffort}, 8},
			{"manager", record.Request{Verb: lifecycle.Delete, Cascade: true, Mode: record.BestEffort}, 9},
			{"manager", record.Request{Verb: lifecycle.Void, Reason: "x", Mode: record.BestEffort}, 8},
			{"manager", record.Request{Verb: lifecycle.Archive, Mode: record.BestEffort}, 8},
			{"manager", record.Request{Verb: lifecycle.Restore, Mode: record.BestEffort}, 7},
			{"purger", record.Request{Verb: lifecycle.Purge, Mode: record.BestEffort}, 7},
		} {
			a, b, gone := fresh()
			test.req.Select.IDs = []gid.ID{a, b, gone, gone, a, gid.New(gid.Customer)}
			seen := w.preview(test.as, test.req)
			require.Equal(w.t, []lifecycle.State{lifecycle.Active, lifecycle.Active, lifecycle.Deleted}, w.states(a, b, gone))
			op := w.run(test.as, test.req)
			require.Equal(w.t, w.outcomes(op), previewed(seen), test.req.Verb)
			require.Equal(w.t, test.total, op.Total, test.req.Verb)
			require.Equal(w.t, op.Total, seen.Total, test.req.Verb)
			count, changed := 0, 0
			for _, c := range seen.ByType {
				count, changed = count+c.Count, changed+c.Changed
			}
			require.Equal(w.t, op.Total, count)
			require.Equal(w.t, op.Changed, changed)
		}
		a, _, _ := fresh()
		op := w.delete("agent", a)
		undo := record.Request{Verb: lifecycle.Undo, Select: record.Selection{Operation: &op.ID}}
		seen := w.preview("agent", undo)
		require.False(w.t, seen.Reversible)
		require.Equal(w.t, w.outcomes(w.run("agent", undo)), previewed(seen))
	})
}

func TestAPreviewWritesAndLocksNothing(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.customer("agent", "a"), w.customer("agent", "b")
		w.contact("agent", a, "p")
		w.delete("agent", b)
		op := w.delete("agent", w.customer("agent", "c"))
		count := func() []string {
			return w.rows(`SELECT (SELECT COUNT(*) FROM operations) + (SELECT COUNT(*) FROM operation_items) + (SELECT COUNT(*) FROM audit_events)`)
		}
		before := count()
		w.sql.reset()
		for as, reqs := range map[string][]record.Request{
			"manager": {
				{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{a, b, gid.New(gid.Customer)}}},
				{Verb: lifecycle.Void, Select: record.Selection{IDs: []gid.ID{a}}, IdempotencyKey: "k"},
				{Verb: lifecycle.Restore, WithAncestors: true, Select: record.Selection{IDs: []gid.ID{b}}},
				{Verb: lifecycle.Undo, Select: record.Selection{Operation: &op.ID}},
				named("a"),
			},
			"purger": {
				{Verb: lifecycle.Purge, Select: record.Selection{IDs: []gid.ID{a, b}}},
				{Verb: lifecycle.Purge, Select: record.Selection{Bin: &record.Bin{}}},
			},
		} {
			for _, req := range reqs {
				p := w.preview(as, req)
				_, err := p.BrokenThreads(w.as(as))
				require.NoError(w.t, err)
				_, err = p.AffectedUsers(w.as(as))
				require.NoError(w.t, err)
			}
		}
		for _, q := range w.sql.list {
			require.True(w.t, strings.HasPrefix(q, "SELECT"), q)
			require.NotContains(w.t, q, "FOR UPDATE")
			require.NotContains(w.t, q, "FOR SHARE")
		}
		require.Equal(w.t, before, count())

		// Nor does it wait for a writer.
		ctx, tx, err := w.db.Begin(w.t.Context())
		require.NoError(w.t, err)
		defer func() { require.NoError(w.t, tx.End(ctx, nil)) }()
		_, err = store.Build(tx).Add(`UPDATE customers SET updated_at = updated_at`).Exec(ctx, tx)
		require.NoError(w.t, err)
		w.preview("manager", record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{a}}})
	})
}

func TestAPreviewThePolicyNeverAllowsIsRefusedAndLogged(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		_, err := w.svc.Preview(w.as("viewer"), record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{c}}})
		require.Equal(w.t, lifecycle.Forbidden, code(err))
		require.Len(w.t, w.rows(`SELECT id FROM audit_events WHERE outcome = 'REFUSED' AND code = 'FORBIDDEN' AND action = 'DELETE'`), 1)
	})
}

func TestTheBlockersOfAPreviewAreAddedUp(t *testing.T) {
	each(t, func(w *world) {
		a, b, c := w.customer("agent", "a"), w.customer("agent", "b"), w.customer("agent", "c")
		w.deal("agent", a, "d1")
		w.deal("agent", a, "d2")
		w.deal("agent", b, "d3")
		m := w.message("admin", c, "secret")
		w.exec(`UPDATE messages SET owner_id = ?, team_id = ? WHERE id = ?`, w.users["agent2"], w.support, m)
		missing := gid.New(gid.Customer)
		p := w.preview("agent", record.Request{Verb: lifecycle.Delete, Mode: record.BestEffort, Select: record.Selection{IDs: []gid.ID{a, b, c, missing}}})
		require.Equal(w.t, []record.Blocked{
			{Blocker: record.Blocker{Code: lifecycle.HasDependents, Type: "Deal", Count: 3}},
			{Record: c, Blocker: record.Blocker{Code: lifecycle.Forbidden, Hidden: true}},
			{Record: missing, Blocker: record.Blocker{Code: lifecycle.NotFound, Count: 1}},
		}, p.Blocked)
		require.True(w.t, p.Reversible)
		require.False(w.t, p.NeedsApproval)
		require.Equal(w.t, []record.TypeCount{{Type: "Customer", Count: 4}}, p.ByType)

		w.delete("agent", m, w.customer("agent", "d"))
		require.False(w.t, w.preview("purger", record.Request{Verb: lifecycle.Purge, Select: record.Selection{Bin: &record.Bin{}}}).Reversible)
	})
}

func TestATokenHoldsAnOperationToWhatWasPreviewed(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.customer("agent", "x1"), w.customer("agent", "x2")
		req := named("x")
		token := func() record.Request {
			req := req
			req.PreviewToken = w.preview("agent", named("x")).Token
			return req
		}
		unchangedSince := token()
		op := w.run("agent", unchangedSince)
		require.Equal(w.t, 2, op.Changed, "a filter needs no expectedCount then")
		w.restore("agent", a, b)

		stale := token()
		c := w.customer("agent", "x3")
		_, err := w.svc.Run(w.as("agent"), stale)
		require.Equal(w.t, lifecycle.Conflict, code(err))
		require.Equal(w.t, map[string]any{"expected": 2, "actual": 3, "added": 1, "removed": 0}, extensions(err))

		stale = token()
		w.delete("agent", b, c)
		w.customer("agent", "x4")
		_, err = w.svc.Run(w.as("agent"), stale)
		require.Equal(w.t, map[string]any{"expected": 3, "actual": 2, "added": 1, "removed": 2}, extensions(err))

		stale = token()
		_, err = w.svc.Update(w.as("agent"), a, w.get(a).RecordVersion(), record.Values{"phone": "1"})
		require.NoError(w.t, err)
		_, err = w.svc.Run(w.as("agent"), stale)
		require.Equal(w.t, lifecycle.Conflict, code(err), "an edit is a change as well")
		require.Equal(w.t, map[string]any{"expected": 2, "actual": 2, "added": 0, "removed": 0}, extensions(err))
		require.Equal(w.t, []string{"previewToken"}, fields(err))
		require.Equal(w.t, lifecycle.Active, w.state(a))
		require.Len(w.t, w.rows(`SELECT id FROM audit_events WHERE outcome = 'REFUSED' AND code = 'CONFLICT'`), 3)
	})
}

func TestATokenIsOfOneCallerVerbAndRequest(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "x1")
		req := named("x")
		good, expired := w.preview("agent", req).Token, false
		refused := func(as, token string, change func(*record.Request)) {
			req := named("x")
			req.PreviewToken = token
			if change != nil {
				change(&req)
			}
			_, err := w.svc.Run(w.as(as), req)
			require.Equal(w.t, lifecycle.BadUserInput, code(err), "%v", err)
			require.Equal(w.t, []string{"previewToken"}, fields(err))
			require.Equal(w.t, expired, strings.Contains(err.Error(), "expired"))
		}
		refused("manager", good, nil)
		refused("stranger", good, nil)
		refused("agent", good, func(r *record.Request) { r.Verb = lifecycle.Archive })
		refused("agent", good, func(r *record.Request) { r.Bound = json.RawMessage(`"y"`) })
		refused("agent", "nonsense", nil)
		refused("agent", good+"=", nil)
		refused("agent", good[:len(good)-2], nil)
		raw, err := base64.RawURLEncoding.DecodeString(good)
		require.NoError(w.t, err)
		for i := range raw {
			bad := append([]byte(nil), raw...)
			bad[i] ^= 1
			refused("agent", base64.RawURLEncoding.EncodeToString(bad), nil)
		}
		require.NotContains(w.t, string(raw), string(c[:8]), "ids do not stand in it")

		w.clock.add(61 * time.Minute)
		expired = true
		refused("agent", good, nil)
		require.Equal(w.t, lifecycle.Active, w.state(c))
		req.PreviewToken = w.preview("agent", req).Token
		w.clock.add(59 * time.Minute)
		require.Equal(w.t, 1, w.run("agent", req).Changed)
	})
}

func TestAFilterNeedsACountOrAToken(t *testing.T) {
	each(t, func(w *world) {
		w.customer("agent", "x")
		_, err := w.svc.Run(w.as("agent"), named("x"))
		require.Equal(w.t, lifecycle.BadUserInput, code(err))
		_, err = w.svc.Run(w.as("purger"), record.Request{Verb: lifecycle.Purge, Select: record.Selection{Bin: &record.Bin{}}})
		require.Equal(w.t, lifecycle.BadUserInput, code(err))
		require.Equal(w.t, []string{"expectedCount"}, fields(err))
		w.preview("agent", named("x"))

		two := 2 // beside a token it must be right as well
		req := named("x")
		req.PreviewToken, req.ExpectedCount = w.preview("agent", req).Token, &two
		_, err = w.svc.Run(w.as("agent"), req)
		require.Equal(w.t, lifecycle.Conflict, code(err))
	})
}

func TestAPreviewNamesThreadsThatWouldBreak(t *testing.T) {
	each(t, func(w *world) {
		say := func(as, thread, subject string) gid.ID {
			return w.create(as, "Message", record.Values{"subject": subject, "sentAt": w.db.Now(), "threadKey": thread}).RecordID()
		}
		a, b := say("agent", "t1", "hello"), say("agent", "t1", "re: hello")
		say("agent", "t1", "re: re: hello")
		say("agent2", "t1", "not for him")
		ids := []gid.ID{a, b, say("agent", "t2", "whole"), say("agent", "t2", "re: whole")}
		alone, other := say("agent", "t3", "alone"), say("agent2", "t3", "not for him")
		gone := say("agent", "t4", "x")
		w.delete("agent", say("agent", "t4", "y"))
		ids = append(ids, alone, gone)
		p := w.preview("agent", record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids}})
		threads, err := p.BrokenThreads(w.as("agent"))
		require.NoError(w.t, err)
		hello := "hello"
		require.Equal(w.t, []*record.ThreadImpact{{ThreadKey: "t1", Subject: &hello, Going: 2, Staying: 1}}, threads)
		require.NotContains(w.t, fmt.Sprint(threads), other)

		w.delete("agent", ids...)
		p = w.preview("agent", record.Request{Verb: lifecycle.Restore, Select: record.Selection{IDs: []gid.ID{a}}})
		threads, err = p.BrokenThreads(w.as("agent"))
		require.NoError(w.t, err)
		require.Empty(w.t, threads, "nothing goes")
		p = w.preview("purger", record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: []gid.ID{a}}})
		threads, err = p.BrokenThreads(w.as("purger"))
		require.NoError(w.t, err)
		require.Len(w.t, threads, 1)
		require.Equal(w.t, 2, threads[0].Staying, "what the purger may read of it")
	})
}

func TestAPreviewNamesWhoIsAffected(t *testing.T) {
	each(t, func(w *world) {
		users := func(as string, verb lifecycle.Verb, ids ...gid.ID) []gid.ID {
			p := w.preview(as, record.Request{Verb: verb, Select: record.Selection{IDs: ids}})
			users, err := p.AffectedUsers(w.as(as))
			require.NoError(w.t, err)
			return users
		}
		c := w.customer("agent", "a")
		require.Empty(w.t, users("agent", lifecycle.Delete, c), "his own, and nobody else's")
		require.Equal(w.t, []gid.ID{w.users["agent"]}, users("manager", lifecycle.Delete, c), "its owner")
		_, err := w.svc.Update(w.as("admin"), c, 1, record.Values{"phone": "1"})
		require.NoError(w.t, err)
		require.Equal(w.t, []gid.ID{w.users["admin"]}, users("agent", lifecycle.Delete, c), "who changed it")

		say := func(as, thread string, values record.Values) gid.ID {
			values["sentAt"], values["threadKey"], values["subject"] = w.db.Now(), thread, "s"
			return w.create(as, "Message", values).RecordID()
		}
		m := say("agent", "t", record.Values{})
		say("manager", "t", record.Values{"ownerID": w.users["agent"]})
		say("agent2", "t", record.Values{})
		require.Equal(w.t, []gid.ID{w.users["manager"]}, users("agent", lifecycle.Delete, m), "who wrote to its thread, as far as he may read that")

		w.clock.add(31 * 24 * time.Hour)
		require.Empty(w.t, users("agent", lifecycle.Delete, c, m), "long ago")
		require.Empty(w.t, users("agent", lifecycle.Delete, gid.New(gid.Customer)))
	})
}

func TestAPreviewOfAThousandRecordsIsAHandfulOfStatements(t *testing.T) {
	each(t, func(w *world) {
		count := func(n int) int {
			c := w.create("admin", "Customer", record.Values{"name": "big"}).RecordID()
			rows := make([]record.Values, n)
			for i := range rows {
				rows[i] = record.Values{"subject": "s", "sentAt": w.db.Now(), "customerID": c, "threadKey": fmt.Sprint("t", i)}
			}
			_, _, err := w.svc.CreateMany(w.as("admin"), "Message", rows)
			require.NoError(w.t, err)
			w.sql.reset()
			p := w.preview("admin", record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: []gid.ID{c}}})
			_, err = p.BrokenThreads(w.as("admin"))
			require.NoError(w.t, err)
			_, err = p.AffectedUsers(w.as("admin"))
			require.NoError(w.t, err)
			require.Equal(w.t, n+1, p.Total)
			return w.sql.count()
		}
		few, many := count(1), count(999)
		w.t.Logf("statements: %d", few)
		require.LessOrEqual(w.t, few, 15)
		require.LessOrEqual(w.t, many-few, 1, "the live rows of a type, of which many go")
	})
}

func TestItemsOfAPreviewKeepTheirIDs(t *testing.T) {
	each(t, func(w *world) {
		a := w.customer("agent", "x1")
		w.contact("agent", a, "p")
		first, again := w.preview("agent", named("x")), w.preview("agent", named("x"))
		require.Len(w.t, first.Items, 2)
		require.Equal(w.t, first.Items, again.Items)
		require.NotEqual(w.t, first.Items[0].ID, first.Items[1].ID)
		require.Equal(w.t, &a, first.Items[1].CameWith)
		require.Equal(w.t, gid.OperationItem, first.Items[0].ID.Type())
		other := w.preview("manager", named("x"))
		require.NotEqual(w.t, first.Items[0].ID, other.Items[0].ID, "another preview, other items")
	})
}
