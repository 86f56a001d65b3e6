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
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/semaphore"
	_ "modernc.org/sqlite" // the embedded database
)

// sqliteParams are not a matter of taste. Without _txlock=immediate two writers
// deadlock; without _time_format and _timezone times are stored in a form that
// does not sort. Without secure_delete what is purged stays in the file until its
// page is used again.
const sqliteParams = "_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=foreign_keys(1)&_pragma=case_sensitive_like(1)&_pragma=secure_delete(1)&_txlock=immediate&_time_format=sqlite&_timezone=UTC"

// DB is an open database.
type DB struct {
	main    session
	side    session             // for Aside
	sql     *sql.DB             // SQLite itself; on PostgreSQL for migrations only
	sideSQL *sql.DB             // nil on PostgreSQL
	fullSQL *sql.DB             // for Durable; nil on PostgreSQL
	pool    *pgxpool.Pool       // nil on SQLite
	beside  *pgxpool.Pool       // nil on SQLite; one connection, for Aside
	path    string              // what the driver of SQLite is told
	writer  *semaphore.Weighted // SQLite's one writer; nil on PostgreSQL
	dialect string
	trace   func(query string)
	tracer  trace.Tracer // nil makes no spans
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
		cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			// Times are UTC wherever the server runs, as they are on SQLite.
			conn.TypeMap().RegisterType(&pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}})
			// Statements here are short; compiling one takes longer than running it. As a parameter of the connection a pooler
			// would refuse it.
			_, err := conn.Exec(ctx, `SET jit = off`)
			return err
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
		db.main, db.side = pgSession{db.pool}, pgSession{db.beside}
	case "sqlite":
		path := strings.TrimPrefix(rest, "//")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("creating the data folder: %w", err)
		}
		var err error
		db.dialect, db.writer = dialect.SQLite, semaphore.NewWeighted(1)
		db.path = "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + sqliteParams
		db.sql, err = sql.Open("sqlite", db.path)
		if err != nil {
			return nil, fmt.Errorf("opening SQLite: %w", err)
		}
		db.sql.SetMaxOpenConns(8)
		db.sql.SetMaxIdleConns(8)
		db.sideSQL, err = sql.Open("sqlite", db.path)
		if err != nil {
			return nil, fmt.Errorf("opening SQLite: %w", err)
		}
		db.sideSQL.SetMaxOpenConns(1)
		db.fullSQL, err = sql.Open("sqlite", strings.Replace(db.path, "synchronous(NORMAL)", "synchronous(FULL)", 1))
		if err != nil {
			return nil, fmt.Errorf("opening SQLite: %w", err)
		}
		db.fullSQL.SetMaxOpenConns(1)
		db.main, db.side = sqliteSession{db.sql}, sqliteSession{db.sideSQL}
	default:
		return nil, fmt.Errorf("a database URL starts with sqlite: or postgres:, not %q", scheme)
	}
	db.main, db.side = db.watched(db.main), db.watched(db.side)
	if err := db.Ping(ctx); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("reaching the database: %w", err)
	}
	return db, nil
}

// Close closes all connections.
func (db *DB) Close() error {
	err := db.sql.Close()
	if db.sideSQL != nil {
		err = errors.Join(err, db.sideSQL.Close(), db.fullSQL.Close())
	}
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

// Durable is the database for transactions that must outlive the power, with all that
// was committed before them, such as those after which something outside of it is
// destroyed. PostgreSQL's all do. Those of SQLite outlive the process only: it syncs
// its log when it moves what is in it into the database, and not at each commit,
// which would make each cost a write to the disk. A commit that does sync the log
// syncs all of it.
func (db *DB) Durable() *DB {
	if db.fullSQL == nil {
		return db
	}
	durable := *db
	durable.sql = db.fullSQL
	return &durable
}

type aside struct{ *DB }

func (a aside) session() session { return a.side }

// Dialect is dialect.SQLite or dialect.Postgres.
func (db *DB) Dialect() string { return db.dialect }

// Now is the time as rows are stamped with it: UTC, to the microsecond, which
// is what both databases keep.
func (db *DB) Now() time.Time { return db.now().UTC().Truncate(time.Microsecond) }

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	if db.pool != nil {
		return db.pool.Ping(ctx)
	}
	return db.sql.PingContext(ctx)
}

// Pool is how the connections are used that requests share.
type Pool struct {
	InUse, Idle, Most int
	// Waits is how often somebody waited for one, and Waited how long all of them did.
	Waits  int64
	Waited time.Duration
}

// Pool counts connections.
func (db *DB) Pool() Pool {
	if db.pool != nil {
		s := db.pool.Stat()
		return Pool{int(s.AcquiredConns()), int(s.IdleConns()), int(s.MaxConns()), s.EmptyAcquireCount(), s.EmptyAcquireWaitTime()}
	}
	s := db.sql.Stats()
	return Pool{s.InUse, s.Idle, s.MaxOpenConnections, s.WaitCount, s.WaitDuration}
}

// Driver is the ent driver for reads outside of transactions.
func (db *DB) Driver() dialect.Driver { return driver{session: db.main, dialect: db.dialect} }

// Analyze has PostgreSQL take stock of those of the tables that it believes to
// hold fewer than so many rows. Who fills a table calls it as the table grows:
// autovacuum comes by once a minute, and until then statements keep the plans
// that were made for an empty table. A table somebody else is busy with is
// passed over, as is one of another owner. SQLite keeps no such plans.
func (db *DB) Analyze(ctx context.Context, rows int, tables ...string) error {
	if db.pool == nil {
		return nil
	}
	var stale []string
	err := Build(db).Add(`SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND reltuples < ?::bigint AND `, rows).
		Strings("relname", tables).Add(` ORDER BY relname`).Query(ctx, db, func(row Row) error {
		var table string
		err := row.Scan(&table)
		stale = append(stale, `"`+table+`"`)
		return err
	})
	if err == nil && len(stale) > 0 {
		_, err = Build(db).Add(`ANALYZE (SKIP_LOCKED) `+strings.Join(stale, ", ")).Exec(ctx, db)
	}
	if err != nil {
		return fmt.Errorf("analyzing tables: %w", err)
	}
	return nil
}

// Optimize has SQLite take stock of the tables that have changed much since it
// last did: without statistics it reads a whole table for a page of it. It looks
// at a sample only. PostgreSQL does so by itself.
func (db *DB) Optimize(ctx context.Context) error {
	if db.writer == nil {
		return nil
	}
	if err := db.writer.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("waiting to write: %w", err)
	}
	defer db.writer.Release(1)
	if _, err := db.sql.ExecContext(ctx, "PRAGMA optimize = 0x10002"); err != nil { // all tables, not only those this connection has read
		return fmt.Errorf("analyzing tables: %w", err)
	}
	return nil
}

var (
	// ErrNoTransaction reports a write through a client that has no transaction.
	ErrNoTransaction = errors.New("store: writes need a transaction")

	errArguments    = errors.New("store: ent's arguments are not what they were")
	errColumnTypes  = errors.New("store: the types of columns are not told")
	errLastInsertID = errors.New("store: the database makes no ids")
)

// Querier runs statements; DB and Tx are queriers. Outside of a transaction it
// is for reading, and for single statements such as stamping a session.
type Querier interface {
	Dialect() string
	Now() time.Time
	session() session
}

func (db *DB) session() session { return db.main }
