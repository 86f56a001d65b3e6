package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
)

// Backend is the database as libraries take it that bring statements of their
// own. One field is set.
type Backend struct {
	Postgres *pgxpool.Pool
	SQLite   *sql.DB
}

// Own opens connections of their own for a library, so that what it holds, to
// listen for example, is not missing where requests are served. The caller closes
// them.
func (db *DB) Own(ctx context.Context, most int) (b Backend, done func(), err error) {
	if db.pool == nil {
		lite, err := sql.Open("sqlite", db.path)
		if err != nil {
			return b, nil, fmt.Errorf("opening SQLite: %w", err)
		}
		lite.SetMaxOpenConns(most)
		return Backend{SQLite: lite}, func() { _ = lite.Close() }, nil
	}
	cfg := db.pool.Config()
	cfg.MaxConns, cfg.MinConns, cfg.MinIdleConns = int32(most), 0, 0 //nolint:gosec // a handful
	cfg.MaxConnIdleTime = time.Minute
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return b, nil, fmt.Errorf("connecting to PostgreSQL: %w", err)
	}
	return Backend{Postgres: pool}, pool.Close, nil
}

// Raw is the transaction as libraries take it, with all that was queued sent.
// One of the two is set.
func (tx *Tx) Raw(ctx context.Context) (pgx.Tx, *sql.Tx, error) {
	if err := tx.begin(); err != nil {
		return nil, nil, err
	}
	return tx.pg, tx.sql, tx.Flush(ctx)
}

// The tables of the job queue are the library's own, and so are their migrations:
// riverMigration takes them to the version that the library in this binary wants.
// Another version of the library may bring another migration.
const (
	riverMigrationVersion = 20261128040100
	riverSchema           = 8
)

func (db *DB) riverMigration() *goose.Migration {
	move := func(d rivermigrate.Direction, version int) *goose.GoFunc {
		return &goose.GoFunc{Mode: goose.TransactionDisabled, RunDB: func(ctx context.Context, _ *sql.DB) error {
			opts := &rivermigrate.MigrateOpts{TargetVersion: version}
			if db.pool != nil { // not of the pool: the one who migrates holds a connection of that, and it may be the only one
				return migrateRiver(ctx, riverpgxv5.New(db.beside), d, opts)
			}
			return migrateRiver(ctx, riversqlite.New(db.sql), d, opts)
		}}
	}
	return goose.NewGoMigration(riverMigrationVersion, move(rivermigrate.DirectionUp, riverSchema), move(rivermigrate.DirectionDown, -1))
}

func migrateRiver[T any](ctx context.Context, driver riverdriver.Driver[T], d rivermigrate.Direction, opts *rivermigrate.MigrateOpts) error {
	m, err := rivermigrate.New(driver, nil)
	if err == nil {
		_, err = m.Migrate(ctx, d, opts)
	}
	if err != nil {
		return fmt.Errorf("migrating the job queue: %w", err)
	}
	return nil
}
