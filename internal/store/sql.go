package store

import (
	"context"
	"encoding/json"
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

// Insert adds rows to a table: on PostgreSQL many by COPY and a few in the
// queue, so that what is wrong with them may come out later; on SQLite by one
// statement for every few thousand values.
func (tx *Tx) Insert(ctx context.Context, table string, columns []string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	if tx.db.dialect == dialect.Postgres {
		if len(rows) < copyRows {
			return tx.insertFew(ctx, table, columns, rows)
		}
		return tx.copy(ctx, table, columns, rows)
	}
	group := "(" + strings.TrimSuffix(strings.Repeat("?,", len(columns)), ",") + ")"
	for size := maxSQLiteArgs / len(columns); len(rows) > 0; {
		n := min(size, len(rows))
		args := make([]any, 0, n*len(columns))
		for _, row := range rows[:n] {
			args = append(args, row...)
		}
		query := fmt.Sprintf(`INSERT INTO "%s" ("%s") VALUES %s`, table, strings.Join(columns, `","`),
			strings.TrimSuffix(strings.Repeat(group+",", n), ","))
		if _, err := tx.on.exec(ctx, query, args); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func (tx *Tx) insertFew(ctx context.Context, table string, columns []string, rows [][]any) error {
	stmt := Build(tx).Add(`INSERT INTO "` + table + `" ("` + strings.Join(columns, `","`) + `") VALUES `)
	for i, row := range rows {
		for j, v := range row {
			switch {
			case j > 0:
				stmt.Add(",")
			case i > 0:
				stmt.Add(",(")
			default:
				stmt.Add("(")
			}
			stmt.arg(v)
		}
		stmt.Add(")")
	}
	return stmt.Queue(ctx, tx, nil)
}

func (tx *Tx) copy(ctx context.Context, table string, columns []string, rows [][]any) error {
	tx.db.trace(fmt.Sprintf(`COPY "%s" ("%s") FROM STDIN`, table, strings.Join(columns, `","`)))
	if err := tx.Flush(ctx); err != nil {
		return err
	}
	_, err := tx.pg.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
		return pgArgs(rows[i])
	}))
	return err
}
