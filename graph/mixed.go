package graph

import (
	"context"
	"fmt"
	"slices"
	"time"

	"entgo.io/contrib/entgql"
	"entgo.io/ent/dialect/sql"
	"github.com/99designs/gqlgen/graphql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// mixed is a list of records of several types in the order of one time. A page
// of it takes one statement for its ids, and then one for each type that is on
// it, however many types there are.
type mixed []branch

// branch is the share of one type.
type branch struct {
	typ    *ent.RecordType
	column string // of the time
	where  func(*sql.Selector)
}

// mixedPage is a page of a mixed list; total and rows are set where selected.
type mixedPage struct {
	records []ent.Record
	cursors []ent.Cursor
	info    ent.PageInfo
	total   int32
}

func (r *Resolver) mixedPage(ctx context.Context, list mixed, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*mixedPage, error) {
	field, rows, total, err := ent.PageOf(ctx, first, last)
	if err != nil {
		return nil, err
	}
	if err := list.checkCursors(after, before); err != nil {
		return nil, err
	}
	out := &mixedPage{records: []ent.Record{}}
	if len(list) == 0 {
		return out, nil
	}
	if total {
		if out.total, err = r.countMixed(ctx, list); err != nil {
			return nil, err
		}
	}
	if !rows {
		return out, nil
	}
	w := windowOf(after, first, before, last)
	ids, err := r.mixedIDs(ctx, list, w)
	if err != nil {
		return nil, err
	}
	more := len(ids) > w.size
	found, err := r.loadMixed(ctx, list, ids[:min(len(ids), w.size)], field)
	if err != nil {
		return nil, err
	}
	out.records, out.cursors, out.info = ordered(w, found, more, func(rec ent.Record) ent.Cursor {
		return ent.Cursor{ID: rec.RecordID(), Value: list.timeOf(rec)}
	})
	return out, nil
}

func (l mixed) checkCursors(after, before *ent.Cursor) error {
	for _, c := range []struct {
		argument string
		cursor   *ent.Cursor
	}{{"after", after}, {"before", before}} {
		if c.cursor == nil {
			continue
		}
		if _, ok := c.cursor.Value.(time.Time); !ok || ent.RecordTypeOf(c.cursor.ID) == nil {
			return badInput("is a cursor of another list or order", c.argument)
		}
	}
	return nil
}

func (l mixed) timeOf(rec ent.Record) time.Time {
	for _, b := range l {
		if b.typ == rec.RecordType() {
			at, _ := rec.Column(b.column).(time.Time)
			return at
		}
	}
	return time.Time{}
}

// union is all branches as one query, each narrowed to what the reader may see.
func (r *Resolver) union(ctx context.Context, list mixed, narrow func(s *sql.Selector, column string)) *sql.Selector {
	var all *sql.Selector
	for _, b := range list {
		from := sql.Table(b.typ.Table)
		s := sql.Dialect(r.DB.Dialect()).Select(from.C("id")).From(from).WithContext(ctx)
		s.AppendSelectAs(from.C(b.column), "at")
		b.where(s)
		visible.WhereContext(ctx, s, b.typ.Name)
		narrow(s, b.column)
		// SQLite takes an ORDER BY in a part of a union below another SELECT only.
		// Predicates name the columns of s when they are written, so a clone gets the alias.
		part := sql.Dialect(r.DB.Dialect()).Select("id", "at").From(s.Clone().As("part"))
		if all == nil {
			all = part
		} else {
			all.UnionAll(part)
		}
	}
	return all
}

// querier is the document's transaction, or the database.
func (r *Resolver) querier(ctx context.Context) store.Querier {
	if tx := store.TxFrom(ctx); tx != nil {
		return tx
	}
	return r.DB
}

func (r *Resolver) countMixed(ctx context.Context, list mixed) (int32, error) {
	all := r.union(ctx, list, func(*sql.Selector, string) {})
	count := sql.Dialect(r.DB.Dialect()).Select(sql.Count("*")).From(all.As("records"))
	var n int32
	err := store.Select(ctx, r.querier(ctx), count, func(row store.Row) error { return row.Scan(&n) })
	if err != nil {
		return 0, fmt.Errorf("counting records of several types: %w", err)
	}
	return n, nil
}

// mixedIDs reads the ids of a page in the direction of the window, and one more
// than fit. Each branch is cut by itself, so that its index answers it.
func (r *Resolver) mixedIDs(ctx context.Context, list mixed, w window) ([]gid.ID, error) {
	all := r.union(ctx, list, w.newestFirst)
	order := w.order()
	all.OrderBy(order("at"), order("id")).Limit(w.size + 1)
	var ids []gid.ID
	err := store.Select(ctx, r.querier(ctx), all, func(row store.Row) error {
		var id gid.ID
		var at any // for the order only
		if err := row.Scan(&id, &at); err != nil {
			return err
		}
		ids = append(ids, id)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading a page of several types: %w", err)
	}
	return ids, nil
}

// loadMixed loads ids in their order, with what is selected of each type. What
// has left the list since its ids were read is left out.
func (r *Resolver) loadMixed(ctx context.Context, list mixed, ids []gid.ID, field *graphql.CollectedField) ([]ent.Record, error) {
	byID := make(map[gid.ID]ent.Record, len(ids))
	for _, b := range list {
		var own []any
		for _, id := range ids {
			if id.Type() == b.typ.Type {
				own = append(own, id)
			}
		}
		if len(own) == 0 {
			continue
		}
		rows, err := r.client(ctx).CollectRecords(ctx, b.typ.Name, field, []string{"id", "state", b.column}, b.where,
			func(s *sql.Selector) { s.Where(sql.In(s.C("id"), own...)) })
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			byID[row.RecordID()] = row
		}
	}
	found := make([]ent.Record, 0, len(ids))
	for _, id := range ids {
		if rec := byID[id]; rec != nil {
			found = append(found, rec)
		}
	}
	return slices.Clip(found), nil
}

func (w window) order() func(string) string {
	if w.backward {
		return sql.Asc
	}
	return sql.Desc
}

// newestFirst orders one type's share of the page, and cuts it to one more than
// the page holds.
func (w window) newestFirst(s *sql.Selector, column string) {
	for _, p := range slices.Concat(
		entgql.CursorsPredicate(w.after, nil, "id", column, entgql.OrderDirectionDesc),
		entgql.CursorsPredicate(w.before, nil, "id", column, entgql.OrderDirectionAsc),
	) {
		p(s)
	}
	order := w.order()
	s.OrderBy(order(s.C(column)), order(s.C("id"))).Limit(w.size + 1)
}
