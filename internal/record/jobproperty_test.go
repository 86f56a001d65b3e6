package record_test

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// twin is one of two tenants with the same records, of which one has a job where the other has a transaction.
type twin struct {
	*play

	ids []gid.ID // by when they were made
	ops []gid.ID
}

func (w *twin) index(id gid.ID) int { return slices.Index(w.ids, id) }

// make makes a record below another one; -1 is none.
func (w *twin) make(as, typ string, owner, n int) {
	values := record.Values{}
	switch typ {
	case "Customer", "Contact", "Deal":
		values["name"] = fmt.Sprint("n", n)
	case "Note":
		values["body"], values["happenedAt"] = "b", w.db.Now()
	case "Message":
		values["subject"], values["body"], values["sentAt"] = "s", "b", w.db.Now()
	case "Attachment":
		values["filename"] = "f"
	}
	if owner >= 0 {
		of := ent.RecordTypeOf(w.ids[owner]).Name
		values[map[string]string{"Customer": "customerID", "Message": "messageID", "Note": "noteID", "Deal": "dealID"}[of]] = w.ids[owner]
	}
	r, err := w.svc.Create(w.as(as), typ, values)
	require.NoError(w.T, err)
	w.ids = append(w.ids, r.RecordID())
}

// does carries an operation out, whatever way, and answers it.
func (w *twin) does(as string, req record.Request) (*ent.Operation, error) {
	var op *ent.Operation
	var err error
	if req.Verb == lifecycle.Undo {
		op, err = w.svc.Undo(w.as(as), *req.Select.Operation, req)
	} else {
		op, err = w.svc.Run(w.as(as), req)
	}
	if err != nil {
		return nil, err
	}
	if op.FinishedAt == nil {
		w.met["jobs"]++
		require.NoError(w.T, w.svc.Work(w.t.Context(), w.actAs(), w.tenant, op.ID))
	}
	w.ops = append(w.ops, op.ID)
	return w.operation(op.ID), nil
}

// told is what is to be the same of both: states, versions, the operation, and what became of each record.
func (w *twin) told(op *ent.Operation) map[string]any {
	out := map[string]any{}
	for i, id := range w.ids {
		r := w.get(id)
		if r == nil {
			out[fmt.Sprint(i)] = "gone"
			continue
		}
		at := -1
		if op, ok := r.Column("operation_id").(gid.ID); ok {
			at = slices.Index(w.ops, op)
		}
		out[fmt.Sprint(i)] = fmt.Sprint(r.RecordState(), r.RecordVersion(), " by ", at)
	}
	if op == nil {
		return out
	}
	out["operation"] = fmt.Sprint(op.Status, op.Total, op.Processed, op.Changed, op.Unchanged, op.Failed)
	items, err := w.svc.Client(w.ctx).Operation.QueryItems(op).All(w.ctx)
	require.NoError(w.T, err)
	for _, it := range items {
		with, code := -1, ""
		if it.CameWith != nil {
			with = w.index(*it.CameWith)
		}
		if it.Code != nil {
			code = *it.Code
		}
		key := fmt.Sprint("item ", w.index(it.RecordID))
		for out[key] != nil {
			key += "'" // picked again
		}
		out[key] = fmt.Sprint(it.Outcome, code, it.Direct, " with ", with)
	}
	out["events"] = w.rows(`SELECT COUNT(*) FROM audit_events WHERE operation_id = ? AND outcome = 'SUCCEEDED' AND record_id IS NOT NULL`, op.ID)
	return out
}

func TestPropertyAJobDoesWhatOneTransactionWould(t *testing.T) {
	property(t, func(p *play) int {
		q := newPlay(p.world, p.T, p.foreign)
		q.met = p.met
		defer q.close()
		q.svc = record.New(q.db, q.control, q.log, slog.New(slog.DiscardHandler)).Resize(2, rapid.IntRange(1, 3).Draw(p.T, "batch"), 60)
		one, job := &twin{play: p}, &twin{play: q}
		both := []*twin{one, job}
		who := func() string {
			return rapid.SampledFrom([]string{"admin", "admin", "manager", "agent"}).Draw(p.T, "who")
		}
		types := []string{}
		for range rapid.IntRange(2, 14).Draw(p.T, "records") {
			typ := rapid.SampledFrom([]string{"Customer", "Customer", "Contact", "Deal", "Note", "Message", "Attachment"}).Draw(p.T, "type")
			var owners []int
			for i, of := range types {
				if of == "Customer" && typ != "Customer" && typ != "Attachment" || typ == "Attachment" && of != "Contact" && of != "Attachment" {
					owners = append(owners, i)
				}
			}
			owner := -1
			if len(owners) > 0 {
				owner = rapid.SampledFrom(owners).Draw(p.T, "owner")
			} else if typ == "Contact" || typ == "Attachment" {
				typ = "Customer"
			}
			as := who()
			types = append(types, typ)
			for _, w := range both {
				w.make(as, typ, owner, len(types))
			}
		}
		pick := rapid.IntRange(0, len(types)-1)
		steps := rapid.IntRange(1, 5).Draw(p.T, "steps")
		for range steps {
			as := who()
			verb := rapid.SampledFrom([]lifecycle.Verb{lifecycle.Delete, lifecycle.Delete, lifecycle.Void, lifecycle.Archive, lifecycle.Suspend, lifecycle.Restore, lifecycle.Restore, lifecycle.Purge, lifecycle.Undo}).Draw(p.T, "verb")
			if verb == lifecycle.Purge {
				as = "purger"
			}
			selection := rapid.SampledFrom([]string{"ids", "ids", "versions", "filter", "operation"}).Draw(p.T, "selection")
			if verb == lifecycle.Undo {
				selection = "operation"
			}
			picked := rapid.SliceOfN(pick, 1, 6).Draw(p.T, "picks")
			stale := rapid.Bool().Draw(p.T, "stale")
			nth := 0
			if len(one.ops) > 0 {
				nth = rapid.IntRange(0, len(one.ops)-1).Draw(p.T, "operation")
			} else if selection == "operation" {
				continue
			}
			cascade := rapid.Bool().Draw(p.T, "cascade") && (verb == lifecycle.Delete || verb == lifecycle.Void)
			live := rapid.Bool().Draw(p.T, "live") && verb == lifecycle.Purge
			p.Logf("%s: %s of %s %v (%d), cascade %t, live %t, stale %t", as, verb, selection, picked, nth, cascade, live, stale)
			var answers []map[string]any
			var refused []lifecycle.Code
			var errs []error
			for _, w := range both {
				req := record.Request{Verb: verb, Mode: record.BestEffort, Reason: "r", Cascade: cascade, IncludeLive: live}
				if verb == lifecycle.Suspend {
					until := w.clock.now().Add(24 * time.Hour)
					req.Until = &until
				}
				switch selection {
				case "ids":
					for _, i := range picked {
						req.Select.IDs = append(req.Select.IDs, w.ids[i])
					}
				case "versions":
					for n, i := range picked {
						version := 1
						if r := w.get(w.ids[i]); r != nil && (n > 0 || !stale) {
							version = r.RecordVersion()
						}
						req.Select.Versions = append(req.Select.Versions, record.Version{ID: w.ids[i], Version: version})
					}
				case "filter":
					req.Select.Filter = &record.Filter{Type: "Customer", Comparisons: 1, Where: func(s *sql.Selector) { s.Where(sql.NEQ(s.C("name"), "n1")) }}
					if p, err := w.svc.Preview(w.as(as), req); err == nil {
						req.PreviewToken = p.Token
					} else {
						req.ExpectedCount = new(0) // and what it refuses is refused
					}
				case "operation":
					req.Select.Operation = &w.ops[nth]
				}
				op, err := w.does(as, req)
				refused, errs = append(refused, code(err)), append(errs, err)
				answers = append(answers, w.told(op))
			}
			require.Equal(p.T, refused[0], refused[1], "%v", errs)
			require.Equal(p.T, answers[0], answers[1])
			p.met[string(verb)+" of "+selection]++
		}
		for _, w := range both {
			w.eventsMatchChanges()
			w.noLiveRowBelowARetiredOwner()
		}
		return steps
	})
}
