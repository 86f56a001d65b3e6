package store

import (
	"context"
	"database/sql"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
)

// Row is the row a scan function is called for.
type Row interface {
	// Scan reads the columns in their order.
	Scan(dest ...any) error
}

// session runs statements on a connection or a pool of them. Each database has
// its own.
type session interface {
	exec(ctx context.Context, query string, args []any) (int64, error)
	query(ctx context.Context, query string, args []any, scan func(Row) error) error
	// rows is query for ent.
	rows(ctx context.Context, query string, args []any) (entsql.ColumnScanner, error)
}

// sqliteSession runs statements through database/sql.
type sqliteSession struct {
	entsql.ExecQuerier
}

func (s sqliteSession) exec(ctx context.Context, query string, args []any) (int64, error) {
	res, err := s.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (s sqliteSession) query(ctx context.Context, query string, args []any, scan func(Row) error) (err error) {
	rows, err := s.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() {
		if e := rows.Close(); err == nil {
			err = e
		}
	}()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (s sqliteSession) rows(ctx context.Context, query string, args []any) (entsql.ColumnScanner, error) {
	rows, err := s.QueryContext(ctx, query, args...) //nolint:sqlclosecheck,rowserrcheck // ent closes them and asks
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// traced tells of every statement before it is sent.
type traced struct {
	session

	trace func(string)
}

func (t traced) exec(ctx context.Context, query string, args []any) (int64, error) {
	t.trace(query)
	return t.session.exec(ctx, query, args)
}

func (t traced) query(ctx context.Context, query string, args []any, scan func(Row) error) error {
	t.trace(query)
	return t.session.query(ctx, query, args, scan)
}

func (t traced) rows(ctx context.Context, query string, args []any) (entsql.ColumnScanner, error) {
	t.trace(query)
	return t.session.rows(ctx, query, args)
}

// driver is an ent driver over a session. It writes where it may, and its
// transactions are the one it is in.
type driver struct {
	session session
	dialect string
	writes  bool
}

var _ dialect.Driver = driver{}

// Exec implements ent's dialect.Driver.
func (d driver) Exec(ctx context.Context, query string, args, v any) error {
	if !d.writes {
		return ErrNoTransaction
	}
	list, ok := args.([]any)
	if !ok {
		return errArguments
	}
	n, err := d.session.exec(ctx, query, list)
	if result, wanted := v.(*sql.Result); wanted && err == nil {
		*result = affected(n)
	}
	return err
}

// Query implements ent's dialect.Driver.
func (d driver) Query(ctx context.Context, query string, args, v any) error {
	into, isRows := v.(*entsql.Rows)
	list, isList := args.([]any)
	if !isRows || !isList {
		return errArguments
	}
	rows, err := d.session.rows(ctx, query, list)
	if err != nil {
		return err
	}
	*into = entsql.Rows{ColumnScanner: rows}
	return nil
}

// Tx implements ent's dialect.Driver.
func (d driver) Tx(context.Context) (dialect.Tx, error) {
	if !d.writes {
		return nil, ErrNoTransaction
	}
	return dialect.NopTx(d), nil
}

// BeginTx implements ent's transaction options.
func (d driver) BeginTx(ctx context.Context, _ *sql.TxOptions) (dialect.Tx, error) { return d.Tx(ctx) }

// Close implements ent's dialect.Driver; the database is closed by its owner.
func (driver) Close() error { return nil }

// Dialect implements ent's dialect.Driver.
func (d driver) Dialect() string { return d.dialect }

// affected is the result of a write: how many rows it changed.
type affected int64

// LastInsertId implements sql.Result; ids are made before they are inserted.
func (affected) LastInsertId() (int64, error) { return 0, errLastInsertID }

// RowsAffected implements sql.Result.
func (n affected) RowsAffected() (int64, error) { return int64(n), nil }
