// Package store opens the database, SQLite or PostgreSQL, and hides what
// differs between them: connections, transactions, locks, bulk inserts,
// constraint errors and migrations.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the embedded database
)

// sqliteParams are not a matter of taste. Without _txlock=immediate two writers
// deadlock; without _time_format and _timezone times are stored in a form that
// does not sort.
const sqliteParams = "_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=foreign_keys(1)&_pragma=case_sensitive_like(1)&_txlock=immediate&_time_format=sqlite&_timezone=UTC"

// DB is an open database.
type DB struct {
	sql     *sql.DB
	pool    *pgxpool.Pool // nil on SQLite
	beside  *pgxpool.Pool // nil on SQLite; one connection, for Aside
	side    *sql.DB       // for Aside
	dialect string
	trace   func(query string)
	now     func() time.Time
}

// Option configures Open.
type Option func(*DB)

// WithTrace calls f with every statement, before it is sent.
func WithTrace(f func(query string)) Option { return func(db *DB) { db.trace = f } }

// WithClock replaces the clock that stamps rows.
func WithClock(now func() time.Time) Option { return func(db *DB) { db.now = now } }

// Open opens the database at a URL: postgres://... with every parameter pgx
// takes, or sqlite:PATH, whose folder is created.
func Open(ctx context.Context, dsn string, opts ...Option) (*DB, error) {
	db := &DB{now: time.Now, //nolint:forbidigo // the one place where the process's clock comes from
		trace: func(string) {}}
	for _, opt := range opts {
		opt(db)
	}
	switch scheme, rest, _ := strings.Cut(dsn, ":"); scheme {
	case "postgres", "postgresql":
		cfg, err := pgxpool.ParseConfig(dsn)
		if err != nil {
			return nil, fmt.Errorf("reading the database URL: %w", err)
		}
		cfg.ConnConfig.RuntimeParams["timezone"] = "UTC"
		cfg.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
			// Times are UTC wherever the server runs, as they are on SQLite.
			conn.TypeMap().RegisterType(&pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}})
			return nil
		}
		db.pool, err = pgxpool.NewWithConfig(ctx, cfg)
		if err != nil {
			return nil, fmt.Errorf("connecting to PostgreSQL: %w", err)
		}
		db.dialect, db.sql = dialect.Postgres, stdlib.OpenDBFromPool(db.pool)
		// The pool holds the connections; database/sql would hold them twice.
		db.sql.SetMaxIdleConns(0)
		beside := cfg.Copy()
		beside.MaxConns, beside.MinConns = 1, 0
		if db.beside, err = pgxpool.NewWithConfig(ctx, beside); err != nil {
			return nil, fmt.Errorf("connecting to PostgreSQL: %w", err)
		}
		db.side = stdlib.OpenDBFromPool(db.beside)
		db.side.SetMaxIdleConns(0)
	case "sqlite":
		path := strings.TrimPrefix(rest, "//")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("creating the data folder: %w", err)
		}
		var err error
		db.dialect = dialect.SQLite
		db.sql, err = sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+sqliteParams)
		if err != nil {
			return nil, fmt.Errorf("opening SQLite: %w", err)
		}
		db.sql.SetMaxOpenConns(8)
		db.sql.SetMaxIdleConns(8)
		db.side, err = sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+sqliteParams)
		if err != nil {
			return nil, fmt.Errorf("opening SQLite: %w", err)
		}
		db.side.SetMaxOpenConns(1)
	default:
		return nil, fmt.Errorf("a database URL starts with sqlite: or postgres:, not %q", scheme)
	}
	if err := db.sql.PingContext(ctx); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("reaching the database: %w", err)
	}
	return db, nil
}

// Close closes all connections.
func (db *DB) Close() error {
	err := errors.Join(db.sql.Close(), db.side.Close())
	if db.pool != nil {
		db.pool.Close()
		db.beside.Close()
	}
	return err
}

// Aside runs statements next to the caller's transaction, at once and for good,
// on a connection of its own: callers who hold one of the pool and wait for a
// second could wait for one another. On SQLite, which has one writer, it is for
// reading.
func (db *DB) Aside() Querier { return aside{db} }

type aside struct{ *DB }

// ExecContext implements Querier.
func (a aside) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return traced{a.side, a.trace}.ExecContext(ctx, query, args...)
}

// QueryContext implements Querier.
func (a aside) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return traced{a.side, a.trace}.QueryContext(ctx, query, args...)
}

// Dialect is dialect.SQLite or dialect.Postgres.
func (db *DB) Dialect() string { return db.dialect }

// Now is the time as rows are stamped with it: UTC, to the microsecond, which
// is what both databases keep.
func (db *DB) Now() time.Time { return db.now().UTC().Truncate(time.Microsecond) }

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error { return db.sql.PingContext(ctx) }

// Driver is the ent driver for reads outside of transactions.
func (db *DB) Driver() dialect.Driver {
	refusing := readDriver{entsql.NewDriver(db.dialect, entsql.Conn{ExecQuerier: traced{db.sql, db.trace}})}
	if db.pool != nil {
		return poolReader{refusing, db.pool, db.trace}
	}
	return refusing
}

// ErrNoTransaction reports a write through a client that has no transaction.
var ErrNoTransaction = errors.New("store: writes need a transaction")

// readDriver refuses what is not a query.
type readDriver struct{ *entsql.Driver }

func (d readDriver) Exec(context.Context, string, any, any) error { return ErrNoTransaction }

func (d readDriver) Tx(context.Context) (dialect.Tx, error) { return nil, ErrNoTransaction }

func (d readDriver) BeginTx(context.Context, *sql.TxOptions) (dialect.Tx, error) {
	return nil, ErrNoTransaction
}

// Querier runs statements; DB and Tx are queriers.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	Dialect() string
	Now() time.Time
}

// QueryContext implements Querier.
func (db *DB) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return traced{db.sql, db.trace}.QueryContext(ctx, query, args...)
}

// ExecContext implements Querier. It is for single statements that need no
// transaction, such as stamping a session.
func (db *DB) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return traced{db.sql, db.trace}.ExecContext(ctx, query, args...)
}

type traced struct {
	entsql.ExecQuerier
	trace func(string)
}

func (t traced) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	t.trace(query)
	return t.ExecQuerier.ExecContext(ctx, query, args...)
}

func (t traced) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	t.trace(query)
	return t.ExecQuerier.QueryContext(ctx, query, args...)
}
