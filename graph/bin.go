package graph

import (
	"bytes"
	"context"
	"slices"
	"time"

	"entgo.io/contrib/entgql"
	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
)

// binColumns are what the bin needs of its rows, whatever is selected.
var binColumns = []string{"id", "state", "state_changed_at"}

// binOf is the part of the bin that arguments name.
func binOf(kinds []ent.RecordKind, deletedBy *gid.ID) (*record.Bin, error) {
	if deletedBy != nil {
		if err := checkID(*deletedBy, "deletedBy", gid.User); err != nil {
			return nil, err
		}
	}
	b := &record.Bin{DeletedBy: deletedBy}
	if kinds != nil {
		b.Types = []string{}
	}
	for _, k := range kinds {
		b.Types = append(b.Types, string(k))
	}
	return b, nil
}

// bin is a page over all types: a page of each, merged. Each type is read with
// the edges that are selected of it, in one statement and one for each edge.
func (r *Resolver) bin(ctx context.Context, kinds []ent.RecordKind, deletedBy *gid.ID, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*model.RecordConnection, error) {
	in, err := binOf(kinds, deletedBy)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct {
		argument string
		cursor   *ent.Cursor
	}{{"after", after}, {"before", before}} {
		if c.cursor == nil {
			continue
		}
		if _, ok := c.cursor.Value.(time.Time); !ok || ent.RecordTypeOf(c.cursor.ID) == nil {
			return nil, badInput("is a cursor of another list or order", c.argument)
		}
	}
	field, rows, total, err := ent.PageOf(ctx, first, last)
	if err != nil {
		return nil, err
	}
	w := windowOf(after, first, before, last)
	conn := &model.RecordConnection{Edges: []*model.RecordEdge{}, Nodes: []ent.Record{}, PageInfo: &ent.PageInfo{}}
	var merged []ent.Record
	for _, t := range ent.RecordTypes {
		if !in.Has(t) {
			continue
		}
		if total {
			n, err := r.client(ctx).CountRecords(ctx, t.Name, in.Where)
			if err != nil {
				return nil, err
			}
			conn.TotalCount += int32(n) //nolint:gosec // a bin of two thousand million records is not served anyway
		}
		if !rows {
			continue
		}
		part, err := r.client(ctx).CollectRecords(ctx, t.Name, field, binColumns, in.Where, w.newestFirst)
		if err != nil {
			return nil, err
		}
		merged = append(merged, part...)
	}
	slices.SortFunc(merged, func(a, b ent.Record) int {
		order := deletedAt(b).Compare(deletedAt(a))
		if order == 0 {
			idA, idB := a.RecordID(), b.RecordID()
			order = bytes.Compare(idB[:], idA[:])
		}
		if w.backward {
			order = -order
		}
		return order
	})
	records, cursors, info := page(w, merged, func(rec ent.Record) ent.Cursor {
		return ent.Cursor{ID: rec.RecordID(), Value: deletedAt(rec)}
	})
	conn.Nodes, conn.PageInfo = records, &info
	for i, rec := range records {
		conn.Edges = append(conn.Edges, &model.RecordEdge{Node: rec, Cursor: cursors[i]})
	}
	return conn, nil
}

func deletedAt(r ent.Record) time.Time {
	at, _ := r.Column("state_changed_at").(time.Time)
	return at
}

// newestFirst orders one type's share of the page, and cuts it to one more than
// the page holds.
func (w window) newestFirst(s *sql.Selector) {
	order := sql.Desc
	if w.backward {
		order = sql.Asc
	}
	for _, p := range slices.Concat(
		entgql.CursorsPredicate(w.after, nil, "id", "state_changed_at", entgql.OrderDirectionDesc),
		entgql.CursorsPredicate(w.before, nil, "id", "state_changed_at", entgql.OrderDirectionAsc),
	) {
		p(s)
	}
	s.OrderBy(order(s.C("state_changed_at")), order(s.C("id"))).Limit(w.size + 1)
}
