package record

import (
	"context"
	"fmt"
	"slices"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// lock says how rows are read.
type lock uint8

const (
	none   lock = iota
	share       // kept from being changed
	keep        // kept from being changed by others, and good to refer to
	update      // kept for this transaction
)

// apply adds the lock to a query. SQLite's transactions take the whole
// database when they begin and need none.
func (l lock) apply(s *sql.Selector) {
	if s.Dialect() != dialect.Postgres {
		return
	}
	switch l {
	case share:
		s.ForShare()
	case keep:
		s.For(sql.LockStrength("NO KEY UPDATE"))
	case update:
		s.ForUpdate()
	}
}

// load reads records of one type as the reader in the context may see them, in
// the order of their ids, which is the order in which they are locked.
func (s *Service) load(ctx context.Context, t *ent.RecordType, ids []gid.ID, l lock) ([]ent.Record, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	return s.query(ctx, t, l, func(sel *sql.Selector) { sel.Where(inIDs(sel.C("id"), ids)) })
}

// query reads records of one type in the order of their ids.
func (s *Service) query(ctx context.Context, t *ent.RecordType, l lock, where func(*sql.Selector)) ([]ent.Record, error) {
	rows, err := s.Client(ctx).QueryRecords(ctx, t.Name, where, func(sel *sql.Selector) {
		sel.OrderBy(sel.C("id"))
		l.apply(sel)
	})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", t.Table, err)
	}
	return rows, nil
}

// load reads like the service's; a preview locks nothing.
func (r *run) load(ctx context.Context, t *ent.RecordType, ids []gid.ID, l lock) ([]ent.Record, error) {
	return r.Service.load(ctx, t, ids, r.lock(l))
}

func (r *run) query(ctx context.Context, t *ent.RecordType, l lock, where func(*sql.Selector)) ([]ent.Record, error) {
	return r.Service.query(ctx, t, r.lock(l), where)
}

func (r *run) lock(l lock) lock {
	if r.tx == nil {
		return none
	}
	return l
}

// inIDs is "column IN ids" with one argument for any number of ids.
func inIDs(column string, ids []gid.ID) *sql.Predicate {
	return sql.P(func(b *sql.Builder) {
		if b.Dialect() == dialect.Postgres {
			b.Ident(column).WriteString(" = ANY(").Arg(gid.Array(ids)).WriteString("::uuid[])")
			return
		}
		b.Ident(column).WriteString(" IN (SELECT value FROM json_each(").Arg(gid.JSONArray(ids)).WriteString("))")
	})
}

// inAny is "column is one of the ids or of what the queries select". An OR of
// the two would have PostgreSQL read the whole table, and a join estimate half of
// it: it is told to look up an array.
func inAny(column string, ids []gid.ID, queries []*sql.Selector) *sql.Predicate {
	return sql.P(func(b *sql.Builder) {
		start, end := " IN (", ")"
		if b.Dialect() == dialect.Postgres {
			start, end = " = ANY(ARRAY(", "))"
		}
		b.Ident(column).WriteString(start)
		if b.Dialect() == dialect.Postgres {
			b.WriteString("SELECT unnest(").Arg(gid.Array(ids)).WriteString("::uuid[])")
		} else {
			b.WriteString("SELECT value FROM json_each(").Arg(gid.JSONArray(ids)).WriteString(")")
		}
		for _, q := range queries {
			b.WriteString(" UNION ALL ").Join(q)
		}
		b.WriteString(end)
	})
}

func scanIDs(f func(gid.ID)) func(store.Row) error {
	return func(rows store.Row) error {
		var id gid.ID
		if err := rows.Scan(&id); err != nil {
			return err
		}
		f(id)
		return nil
	}
}

// partsOf reads the parts of records.
func (s *Service) partsOf(ctx context.Context, q store.Querier, p ent.RecordPart, ids []gid.ID) (map[gid.ID][]part, error) {
	columns := slices.DeleteFunc(slices.Clone(p.Columns), func(c string) bool {
		return c == "id" || c == "tenant_id" || c == p.Column || isKey(c)
	})
	out := map[gid.ID][]part{}
	stmt := store.Build(q).Add(`SELECT ` + p.Column)
	for _, c := range columns {
		stmt.Add(`, ` + c)
	}
	err := stmt.Add(` FROM `+p.Table+` WHERE `).IDs(p.Column, ids).Add(` ORDER BY id`).Query(ctx, q, func(rows store.Row) error {
		var owner gid.ID
		values := make([]any, len(columns))
		dest := []any{&owner}
		for i := range values {
			dest = append(dest, &values[i])
		}
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		row := part{}
		for i, c := range columns {
			if b, ok := values[i].([]byte); ok {
				values[i] = string(b)
			}
			if values[i] != nil {
				row[c] = values[i]
			}
		}
		out[owner] = append(out[owner], row)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", p.Name, err)
	}
	return out, nil
}
