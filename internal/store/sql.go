package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/jackc/pgx/v5"

	"github.com/lethe-crm/lethe/internal/gid"
)

// SQL builds one statement for either database: text, and arguments that are
// numbered as the database wants them.
type SQL struct {
	dialect string
	text    strings.Builder
	args    []any
}

// Build starts a statement for q's database.
func Build(q Querier) *SQL { return &SQL{dialect: q.Dialect()} }

// Add appends text, in which each ? stands for the next of args.
func (s *SQL) Add(text string, args ...any) *SQL {
	for _, arg := range args {
		before, after, ok := strings.Cut(text, "?")
		if !ok {
			panic("store: more arguments than question marks in " + text)
		}
		s.text.WriteString(before)
		s.arg(arg)
		text = after
	}
	s.text.WriteString(text)
	return s
}

func (s *SQL) arg(v any) {
	s.args = append(s.args, v)
	if s.dialect == dialect.Postgres {
		s.text.WriteByte('$')
		s.text.WriteString(strconv.Itoa(len(s.args)))
		return
	}
	s.text.WriteByte('?')
}

// IDs appends "column IN ids" with one argument, so that the text, and with it
// the prepared statement, is the same for any number of ids.
func (s *SQL) IDs(column string, ids []gid.ID) *SQL {
	if s.dialect == dialect.Postgres {
		s.text.WriteString(column + " = ANY(")
		s.arg(gid.Array(ids))
		s.text.WriteString("::uuid[])")
		return s
	}
	s.text.WriteString(column + " IN (SELECT value FROM json_each(")
	s.arg(gid.JSONArray(ids))
	s.text.WriteString("))")
	return s
}

// Strings appends "column IN values" with one argument.
func (s *SQL) Strings(column string, values []string) *SQL {
	if s.dialect == dialect.Postgres {
		s.text.WriteString(column + " = ANY(")
		s.arg(values)
		s.text.WriteString("::text[])")
		return s
	}
	return s.strings(column, values)
}

func (s *SQL) strings(column string, values []string) *SQL {
	s.text.WriteString(column + " IN (SELECT value FROM json_each(")
	s.arg(JSONStrings(values))
	s.text.WriteString("))")
	return s
}

// JSONStrings is values as JSON.
func JSONStrings(values []string) string {
	list, err := json.Marshal(values)
	if err != nil {
		panic("store: strings that are no JSON: " + err.Error())
	}
	return string(list)
}

// ForUpdate appends the row lock of PostgreSQL. SQLite's transactions take the
// database at once and need none.
func (s *SQL) ForUpdate() *SQL { return s.lock(" FOR UPDATE") }

// ForUpdateOf locks the rows of one table of a query, and leaves out those that
// somebody else has locked: workers take what is to be done apart like this.
func (s *SQL) ForUpdateOf(table string) *SQL {
	return s.lock(" FOR UPDATE OF " + table + " SKIP LOCKED")
}

// ForNoKeyUpdate appends the lock that lets others go on to refer to a row.
func (s *SQL) ForNoKeyUpdate() *SQL { return s.lock(" FOR NO KEY UPDATE") }

// ForShare appends the lock that keeps a row from being changed.
func (s *SQL) ForShare() *SQL { return s.lock(" FOR SHARE") }

func (s *SQL) lock(text string) *SQL {
	if s.dialect == dialect.Postgres {
		s.text.WriteString(text)
	}
	return s
}

// Exec runs the statement and answers the number of rows it changed.
func (s *SQL) Exec(ctx context.Context, q Querier) (int64, error) {
	return q.session().exec(ctx, s.text.String(), s.args)
}

// Query runs the statement and calls scan for each row.
func (s *SQL) Query(ctx context.Context, q Querier, scan func(Row) error) error {
	return q.session().query(ctx, s.text.String(), s.args, scan)
}

// Select runs a query of ent's builder and calls scan for each row.
func Select(ctx context.Context, q Querier, s *entsql.Selector, scan func(Row) error) error {
	query, args := s.Query()
	return q.session().query(ctx, query, args, scan)
}

// One runs the statement and scans its only row; ok is false when there is none.
func (s *SQL) One(ctx context.Context, q Querier, dest ...any) (ok bool, err error) {
	err = s.Query(ctx, q, func(row Row) error {
		ok = true
		return row.Scan(dest...)
	})
	return ok, err
}

// maxSQLiteArgs is SQLITE_MAX_VARIABLE_NUMBER.
const maxSQLiteArgs = 32_766

// copyRows is from how many rows on COPY is faster on PostgreSQL: it takes two
// round trips more than a prepared statement.
const copyRows = 16

// Insert adds rows to a table.
func (tx *Tx) Insert(ctx context.Context, table string, columns []string, rows [][]any) error {
	return tx.InsertEach(ctx, table, columns, len(rows), func(i int, row []any) error {
		copy(row, rows[i])
		return nil
	})
}

// InsertEach adds n rows to a table, of which fill answers one after the other,
// so that not all of them are held at once: on PostgreSQL many by COPY and a few
// in the queue, so that what is wrong with them may come out later; on SQLite by
// one statement for every few thousand values. fill must not use the
// transaction, nor keep row.
func (tx *Tx) InsertEach(ctx context.Context, table string, columns []string, n int, fill func(i int, row []any) error) error {
	switch {
	case n == 0:
		return nil
	case tx.db.pool != nil && n >= copyRows:
		return tx.copy(ctx, table, columns, n, fill)
	}
	most := n
	if tx.db.pool == nil {
		most = min(n, maxSQLiteArgs/len(columns))
	}
	for start := 0; start < n; start += most {
		end := min(start+most, n)
		args := make([]any, (end-start)*len(columns))
		for i := start; i < end; i++ {
			if err := fill(i, args[(i-start)*len(columns):(i-start+1)*len(columns)]); err != nil {
				return err
			}
		}
		stmt := &SQL{dialect: tx.Dialect()}
		stmt.text.WriteString(`INSERT INTO "` + table + `" ("` + strings.Join(columns, `","`) + `") VALUES `)
		for i, v := range args {
			switch {
			case i == 0:
				stmt.text.WriteByte('(')
			case i%len(columns) == 0:
				stmt.text.WriteString("),(")
			default:
				stmt.text.WriteByte(',')
			}
			stmt.arg(v)
		}
		stmt.text.WriteByte(')')
		if err := stmt.Queue(ctx, tx, nil); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) copy(ctx context.Context, table string, columns []string, n int, fill func(i int, row []any) error) error {
	query := fmt.Sprintf(`COPY "%s" ("%s") FROM STDIN`, table, strings.Join(columns, `","`))
	tx.db.trace(query)
	if err := errors.Join(tx.begin(), tx.Flush(ctx)); err != nil {
		return err
	}
	end := tx.db.span(ctx, "COPY "+table, query)
	row := make([]any, len(columns))
	_, err := tx.pg.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromSlice(n, func(i int) ([]any, error) {
		clear(row)
		if err := fill(i, row); err != nil {
			return nil, err
		}
		for j, v := range row {
			value, err := pgValue(v)
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", columns[j], err)
			}
			row[j] = value
		}
		return row, nil
	}))
	end(err)
	return err
}
