package graph

import (
	"context"

	"entgo.io/contrib/entgql"
	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/auditevent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/visible"
)

// host answers the fields that all records have, for ent.Record.
type host struct{ Config }

var _ ent.RecordHost = host{}

func question(r ent.Record, action authz.Action) access.Question {
	return access.Of(action, r)
}

// verbs are what a policy must permit for each verb of the state table.
var verbs = map[lifecycle.Verb]authz.Action{
	lifecycle.Delete: authz.Delete, lifecycle.Void: authz.Void, lifecycle.Archive: authz.Archive,
	lifecycle.Suspend: authz.Suspend, lifecycle.Restore: authz.Restore, lifecycle.Purge: authz.Purge,
}

// ViewerCan implements ent.RecordHost: the state table and the policy, in memory.
func (h host) ViewerCan(ctx context.Context, r ent.Record) ([]authz.Action, error) {
	var asked []access.Question
	q := question(r, authz.Update)
	if r.RecordState().Editable() {
		asked = append(asked, q)
	}
	for _, v := range lifecycle.Allowed(r.RecordState()) {
		q.Action = verbs[v]
		asked = append(asked, q)
	}
	may := []authz.Action{}
	for i, d := range h.Control.Decide(ctx, actor.From(ctx), asked) {
		if d.Permit {
			may = append(may, asked[i].Action)
		}
	}
	return may, nil
}

// History implements ent.RecordHost. Who reads a live record reads its history;
// that of a retired one takes audit.read on each event.
func (h host) History(ctx context.Context, r ent.Record, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*ent.AuditEventConnection, error) {
	_, rows, total, err := ent.PageOf(ctx, first, last)
	if err != nil {
		return nil, err
	}
	for name, c := range map[string]*ent.Cursor{"after": after, "before": before} {
		if c != nil && c.Value != nil {
			return nil, badInput("is a cursor of another list or order", name)
		}
	}
	records, field, err := listOf(ctx, r)
	if err != nil {
		return nil, err
	}
	w, key := windowOf(after, first, before, last), alias(ctx)
	conn := &ent.AuditEventConnection{Edges: []*ent.AuditEventEdge{}}
	if total {
		counts, err := once(ctx, listKey{field, "count " + key}, func() (map[gid.ID]int, error) { return h.countEvents(ctx, records) })
		if err != nil {
			return nil, err
		}
		conn.TotalCount = counts[r.RecordID()]
	}
	if !rows {
		return conn, nil
	}
	pages, err := once(ctx, listKey{field, key}, func() (map[gid.ID][]*ent.AuditEvent, error) { return h.readEvents(ctx, records, w) })
	if err != nil {
		return nil, err
	}
	events, cursors, info := page(w, pages[r.RecordID()], func(e *ent.AuditEvent) ent.Cursor { return ent.Cursor{ID: e.ID} })
	conn.PageInfo = info
	for i, e := range events {
		conn.Edges = append(conn.Edges, &ent.AuditEventEdge{Node: e, Cursor: cursors[i]})
	}
	return conn, nil
}

// eventsOf calls read for the records by who may read their events: all of a
// live record's but those about holds, which are for who may know of its holds;
// of a retired one's those that the reader may read as such.
func (h host) eventsOf(ctx context.Context, records []ent.Record, read func(ctx context.Context, ids []any, holds bool) error) error {
	var live, unaware, retired []any
	knows := h.knowsHolds(ctx, records)
	for i, r := range records {
		switch {
		case r.RecordState().Retired():
			retired = append(retired, r.RecordID())
		case knows[i]:
			live = append(live, r.RecordID())
		default:
			unaware = append(unaware, r.RecordID())
		}
	}
	all := visible.With(ctx, visible.Tenant(actor.From(ctx).Tenant))
	for _, part := range []struct {
		ctx   context.Context //nolint:containedctx // of one call
		ids   []any
		holds bool
	}{{all, live, true}, {all, unaware, false}, {ctx, retired, true}} {
		if len(part.ids) == 0 {
			continue
		}
		if err := read(part.ctx, part.ids, part.holds); err != nil {
			return err
		}
	}
	return nil
}

// aboutHolds are the actions of events about holds.
var aboutHolds = []any{"HOLD_PLACE", "HOLD_RELEASE"}

func (h host) countEvents(ctx context.Context, records []ent.Record) (map[gid.ID]int, error) {
	counts := map[gid.ID]int{}
	err := h.eventsOf(ctx, records, func(ctx context.Context, ids []any, holds bool) error {
		var rows []struct {
			RecordID gid.ID `sql:"record_id"`
			Count    int    `sql:"count"`
		}
		err := h.Records.Client(ctx).AuditEvent.Query().Where(func(s *sql.Selector) {
			s.Where(sql.In(s.C(auditevent.FieldRecordID), ids...))
			if !holds {
				s.Where(sql.NotIn(s.C(auditevent.FieldAction), aboutHolds...))
			}
		}).GroupBy(auditevent.FieldRecordID).Aggregate(ent.Count()).Scan(ctx, &rows)
		for _, row := range rows {
			counts[row.RecordID] = row.Count
		}
		return err
	})
	return counts, err
}

// readEvents reads one page of the history of each record, in the direction of
// the window and one event more than fits: one statement for live records and
// one for retired ones.
func (h host) readEvents(ctx context.Context, records []ent.Record, w window) (map[gid.ID][]*ent.AuditEvent, error) {
	pages, together := map[gid.ID][]*ent.AuditEvent{}, &events{}
	order := entgql.OrderDirectionAsc
	if w.backward {
		order = entgql.OrderDirectionDesc
	}
	err := h.eventsOf(ctx, records, func(ctx context.Context, ids []any, holds bool) error {
		rows, err := h.Records.Client(ctx).AuditEvent.Query().Where(func(s *sql.Selector) {
			table := sql.Table(auditevent.Table).As("ranked")
			id, by := table.C(auditevent.FieldID), table.C(auditevent.FieldRecordID)
			inOrder := func(b *sql.Builder) { b.Ident(id).Pad().WriteString(string(order)) }
			ranked := sql.Dialect(s.Dialect()).Select(id).From(table).WithContext(ctx)
			ranked.AppendSelectExprAs(sql.RowNumber().PartitionBy(by).OrderExpr(sql.ExprFunc(inOrder)), "place")
			ranked.Where(sql.In(by, ids...))
			if !holds {
				ranked.Where(sql.NotIn(table.C(auditevent.FieldAction), aboutHolds...))
			}
			visible.WhereContext(ctx, ranked, ent.TypeAuditEvent)
			if w.after != nil {
				ranked.Where(sql.GT(id, w.after.ID))
			}
			if w.before != nil {
				ranked.Where(sql.LT(id, w.before.ID))
			}
			places := sql.Dialect(s.Dialect()).Select("id").From(ranked.As("places"))
			places.Where(sql.LTE("place", w.size+1))
			s.Where(sql.In(s.C(auditevent.FieldID), places))
			s.OrderBy(s.C(auditevent.FieldID) + " " + string(order))
		}).All(ctx)
		for _, e := range rows {
			pages[*e.RecordID] = append(pages[*e.RecordID], e)
		}
		together.rows = append(together.rows, rows...)
		return err
	})
	if err == nil {
		together.remember(ctx)
	}
	return pages, err
}
