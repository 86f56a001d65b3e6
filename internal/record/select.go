package record

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// pageSize is how many picks are read at a time: so many that one page tells
// whether they are more than one transaction takes.
const pageSize = MaxRows + 1

// pages answers a selection page by page, so that its size takes no memory. A
// page that is not full is the last one.
type pages func(ctx context.Context) ([]Version, error)

// selected reads the selection. Of records that the caller named, the version is
// the one he saw; of others it is the one they are at.
func (r *run) selected(ctx context.Context) (pages, error) {
	switch sel := r.req.Select; {
	case sel.Filter != nil:
		if sel.Filter.searches {
			if err := r.mustBeIndexed(ctx); err != nil {
				return nil, err
			}
		}
		return r.filtered(sel.Filter)
	case sel.Bin != nil:
		return r.inBin(sel.Bin), nil
	case sel.Operation != nil:
		return r.ofOperation(ctx, *sel.Operation)
	default:
		named := slices.Clone(sel.Versions)
		for _, id := range sel.IDs {
			named = append(named, Version{ID: id})
		}
		return func(context.Context) ([]Version, error) {
			page := named[:min(len(named), pageSize)]
			named = named[len(page):]
			return page, nil
		}, nil
	}
}

// names reports whether the selection names its records.
func (r *run) names() bool {
	return r.req.Select.Filter == nil && r.req.Select.Bin == nil && r.req.Select.Operation == nil
}

// tail is what is left to read of some records, by id. A page tells whether they
// are many; then the rest is read at once: the database may have to sort all of
// them for every page.
type tail struct {
	read  func(ctx context.Context, after gid.ID, most int) ([]Version, error)
	rows  []Version
	last  gid.ID
	whole bool // what comes after the first page is read at once
	done  bool
}

// peek answers the next row, or nil.
func (t *tail) peek(ctx context.Context) (*Version, error) {
	if len(t.rows) == 0 && !t.done {
		most := pageSize
		if t.whole && !t.last.IsZero() {
			most = MaxPicks + 1
		}
		rows, err := t.read(ctx, t.last, most)
		if err != nil {
			return nil, err
		}
		t.rows, t.done = rows, len(rows) < most
		if len(rows) > 0 {
			t.last = rows[len(rows)-1].ID
		}
	}
	if len(t.rows) == 0 {
		return nil, nil
	}
	return &t.rows[0], nil
}

// filtered answers what a filter selects, by id.
func (r *run) filtered(f *Filter) (pages, error) {
	t := ent.RecordTypeNamed(f.Type)
	if t == nil {
		return nil, Refuse(lifecycle.BadUserInput, "there is no such type", "select")
	}
	states := lifecycle.ChangedBy(r.req.Verb)
	if r.deletes() {
		states = lifecycle.States()
	}
	if r.req.States != nil {
		states = slices.DeleteFunc(states, func(s lifecycle.State) bool { return !slices.Contains(r.req.States, s) })
	}
	// Live and retired rows are found by different indexes: those of fields hold
	// live rows only.
	isRetired := lifecycle.State.Retired
	live, retired := slices.DeleteFunc(slices.Clone(states), isRetired), slices.DeleteFunc(states, func(s lifecycle.State) bool { return !isRetired(s) })
	tails := []*tail{r.tailOf(t, f.Where, live, sql.IsNull), r.tailOf(t, f.Where, retired, sql.NotNull)}
	return func(ctx context.Context) ([]Version, error) {
		var page []Version
		for len(page) < pageSize {
			var next *tail
			for _, t := range tails {
				row, err := t.peek(ctx)
				if err != nil {
					return nil, err
				}
				if row != nil && (next == nil || bytes.Compare(row.ID[:], next.rows[0].ID[:]) < 0) {
					next = t
				}
			}
			if next == nil {
				break
			}
			page, next.rows = append(page, next.rows[0]), next.rows[1:]
		}
		return page, nil
	}, nil
}

// tailOf reads the records of a type in some states, by id.
func (r *run) tailOf(t *ent.RecordType, where func(*sql.Selector), states []lifecycle.State, retired func(string) *sql.Predicate) *tail {
	names := make([]any, len(states))
	for i, state := range states {
		names[i] = string(state)
	}
	return &tail{done: len(states) == 0, whole: true, read: func(ctx context.Context, after gid.ID, most int) ([]Version, error) {
		return r.page(ctx, t, where, after, most, func(s *sql.Selector) {
			s.Where(retired(s.C("retired_at"))).Where(sql.In(s.C("state"), names...))
		})
	}}
}

// page reads the next records of a type that the caller may read, by id: no more
// of them than their ids and versions.
func (r *run) page(ctx context.Context, t *ent.RecordType, where func(*sql.Selector), after gid.ID, most int, also func(*sql.Selector)) ([]Version, error) {
	table := sql.Dialect(r.q.Dialect()).Table(t.Table)
	s := sql.Dialect(r.q.Dialect()).Select(table.C("id"), table.C("version")).From(table).WithContext(ctx)
	visible.WhereContext(ctx, s, t.Name)
	where(s)
	also(s)
	if !after.IsZero() {
		s.Where(sql.GT(s.C("id"), after))
	}
	s.OrderBy(s.C("id")).Limit(most)
	var out []Version
	err := store.Select(ctx, r.q, s, func(row store.Row) error {
		var v Version
		err := row.Scan(&v.ID, &v.Version)
		out = append(out, v)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("selecting %s: %w", t.Table, err)
	}
	return out, nil
}

// inBin answers what stands in the bin, type by type.
func (r *run) inBin(b *Bin) pages {
	var tails []*tail
	for _, t := range typeOrder {
		if b.Has(t) {
			tails = append(tails, &tail{whole: true, read: func(ctx context.Context, after gid.ID, most int) ([]Version, error) {
				return r.page(ctx, t, b.Where, after, most, func(*sql.Selector) {})
			}})
		}
	}
	return func(ctx context.Context) ([]Version, error) {
		var page []Version
		for len(page) < pageSize && len(tails) > 0 {
			row, err := tails[0].peek(ctx)
			if err != nil {
				return nil, err
			}
			if row == nil {
				tails = tails[1:]
				continue
			}
			page, tails[0].rows = append(page, *row), tails[0].rows[1:]
		}
		return page, nil
	}
}

// ofOperation answers what an operation changed that the caller may know of.
func (r *run) ofOperation(ctx context.Context, id gid.ID) (pages, error) {
	op, err := r.Client(ctx).Operation.Get(ctx, id)
	if ent.IsNotFound(err) {
		return nil, Refuse(lifecycle.NotFound, "there is no such operation", "id")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the operation: %w", err)
	}
	if r.req.Verb == lifecycle.Undo {
		if err := r.checkUndo(op); err != nil {
			return nil, err
		}
		r.undo = op
	}
	items := &tail{}
	var item gid.ID
	items.read = func(ctx context.Context, _ gid.ID, _ int) (rows []Version, err error) {
		err = store.Build(r.q).Add(`SELECT id, record_id FROM operation_items WHERE operation_id = ? AND outcome = ? AND id > ? ORDER BY id LIMIT ?`, id, changed, item, pageSize).
			Query(ctx, r.q, func(row store.Row) error {
				var v Version
				err := row.Scan(&item, &v.ID)
				rows = append(rows, v)
				return err
			})
		if err != nil {
			return nil, fmt.Errorf("reading the operation's items: %w", err)
		}
		return rows, nil
	}
	return func(ctx context.Context) ([]Version, error) {
		var page []Version
		for len(page) < pageSize { // what the caller may not know of leaves room for more
			if row, err := items.peek(ctx); row == nil || err != nil {
				return page, err
			}
			known, err := r.known(ctx, items.rows)
			if err != nil {
				return nil, err
			}
			page, items.rows = append(page, known...), nil
		}
		return page, nil
	}, nil
}

// checkUndo refuses to take back what cannot be, or is still under way.
func (r *run) checkUndo(op *ent.Operation) error {
	if !undoable(op.Verb) {
		return Refuse(lifecycle.IllegalTransition, "this operation cannot be undone", "id")
	}
	if op.FinishedAt == nil {
		return &Error{
			Code: lifecycle.IllegalTransition, Message: "only an operation that has ended can be undone; cancel it first", Fields: []string{"id"},
			Extensions: map[string]any{"status": string(op.Status)},
		}
	}
	return nil
}

// known are those of some records that the caller may read, with the versions
// they are at, and, where an operation is taken back, those he may know to be
// gone: it says of each what became of it.
func (r *run) known(ctx context.Context, list []Version) ([]Version, error) {
	ids := make([]gid.ID, len(list))
	for i, v := range list {
		ids[i] = v.ID
	}
	at := map[gid.ID]int{}
	for _, t := range typeOrder {
		own := slices.DeleteFunc(slices.Clone(ids), func(id gid.ID) bool { return ent.RecordTypeOf(id) != t })
		if len(own) == 0 {
			continue
		}
		rows, err := r.load(ctx, t, own, none)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			at[row.RecordID()] = row.RecordVersion()
		}
	}
	gone := map[gid.ID]bool{}
	if r.undo != nil {
		var err error
		if gone, err = r.purged(ctx, r.q, r.a, slices.DeleteFunc(ids, func(id gid.ID) bool { return at[id] != 0 })); err != nil {
			return nil, err
		}
	}
	out := make([]Version, 0, len(list))
	for _, v := range list {
		if at[v.ID] != 0 || gone[v.ID] {
			out = append(out, Version{v.ID, at[v.ID]})
		}
	}
	return out, nil
}
