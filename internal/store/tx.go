package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"entgo.io/ent/dialect"
	"github.com/jackc/pgx/v5"
)

// Tx is a transaction. It gives ent and hand-written statements the same one.
type Tx struct {
	db  *DB
	on  session
	pg  pgx.Tx  // nil on SQLite
	sql *sql.Tx // nil on PostgreSQL
	now time.Time

	used   bool // a statement was made
	queue  []queued
	before []func(context.Context) error
	after  []func(committed bool)
	values map[any]any
}

type txKey struct{}

// TxFrom returns the transaction of the context, or nil.
func TxFrom(ctx context.Context) *Tx {
	tx, _ := ctx.Value(txKey{}).(*Tx)
	return tx
}

// Begin starts a transaction and returns a context that carries it. The caller
// ends it with End.
func (db *DB) Begin(ctx context.Context) (context.Context, *Tx, error) {
	tx := &Tx{db: db, now: db.Now(), values: map[any]any{}}
	if db.pool != nil {
		pg, err := db.pool.Begin(ctx)
		if err != nil {
			return ctx, nil, fmt.Errorf("beginning a transaction: %w", err)
		}
		tx.pg, tx.on = pg, traced{flushing{pgSession{pg}, tx}, tx.trace}
	} else {
		// Whoever waits for SQLite's writer asks it again and again, and may be
		// passed over until the timeout. Here they wait in a queue.
		if err := db.writer.Acquire(ctx, 1); err != nil {
			return ctx, nil, fmt.Errorf("waiting to write: %w", err)
		}
		raw, err := db.sql.BeginTx(ctx, nil)
		if err != nil {
			db.writer.Release(1)
			return ctx, nil, fmt.Errorf("beginning a transaction: %w", err)
		}
		tx.sql, tx.on = raw, traced{sqliteSession{raw}, tx.trace}
	}
	return context.WithValue(ctx, txKey{}, tx), tx, nil
}

func (tx *Tx) trace(query string) {
	tx.used = true
	tx.db.trace(query)
}

// Unused reports whether nothing was asked of the transaction yet, so that it
// holds no lock of a row.
func (tx *Tx) Unused() bool { return !tx.used }

func (tx *Tx) commit(ctx context.Context) error {
	if tx.pg != nil {
		return tx.pg.Commit(ctx)
	}
	return tx.sql.Commit()
}

// rollbackTimeout is for PostgreSQL to answer; then the connection is given up,
// which rolls back as well.
const rollbackTimeout = 5 * time.Second

func (tx *Tx) rollback(ctx context.Context) error {
	if tx.pg == nil {
		return tx.sql.Rollback()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	return tx.pg.Rollback(ctx)
}

// End commits when err is nil and rolls back otherwise. It answers err, or why
// the commit failed.
func (tx *Tx) End(ctx context.Context, err error) error {
	committed, err := tx.end(ctx, err)
	for _, f := range tx.after {
		f(committed)
	}
	return err
}

func (tx *Tx) end(ctx context.Context, err error) (committed bool, _ error) {
	ended := false
	defer func() {
		if !ended { // a hook panicked
			_ = tx.rollback(ctx)
		}
		if tx.sql != nil {
			tx.db.writer.Release(1)
		}
	}()
	for i := 0; err == nil && i < len(tx.before); i++ { // a hook may add another
		err = tx.before[i](ctx)
	}
	if err == nil {
		err = tx.Flush(ctx)
	}
	ended = true
	if err == nil {
		if err = tx.commit(ctx); err != nil {
			return false, fmt.Errorf("committing: %w", err)
		}
		return true, nil
	}
	if e := tx.rollback(ctx); e != nil && !errors.Is(e, sql.ErrTxDone) && !errors.Is(e, pgx.ErrTxClosed) {
		err = errors.Join(err, fmt.Errorf("rolling back: %w", e))
	}
	return false, err
}

// InTx runs fn in the transaction of the context, or in one of its own.
func (db *DB) InTx(ctx context.Context, fn func(context.Context, *Tx) error) (err error) {
	if tx := TxFrom(ctx); tx != nil {
		return fn(ctx, tx)
	}
	ctx, tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done { // fn panicked
			_ = tx.End(context.WithoutCancel(ctx), errors.New("store: panic in a transaction"))
		}
	}()
	err = fn(ctx, tx)
	done = true
	return tx.End(ctx, err)
}

// Dialect implements Querier.
func (tx *Tx) Dialect() string { return tx.db.dialect }

// Now is when the transaction began: one moment for all it writes.
func (tx *Tx) Now() time.Time { return tx.now }

// Get returns what the transaction carries under key, made by init on first use.
func Get[T any](tx *Tx, key any, init func() T) T {
	if v, ok := tx.values[key].(T); ok {
		return v
	}
	v := init()
	tx.values[key] = v
	return v
}

// BeforeCommit runs f at the end of the transaction, inside it.
func (tx *Tx) BeforeCommit(f func(context.Context) error) { tx.before = append(tx.before, f) }

// AfterEnd runs f once the transaction has ended.
func (tx *Tx) AfterEnd(f func(committed bool)) { tx.after = append(tx.after, f) }

func (tx *Tx) session() session { return tx.on }

// Driver is the ent driver over the transaction. Its own transactions join it.
func (tx *Tx) Driver() dialect.Driver {
	return driver{session: tx.on, dialect: tx.db.dialect, writes: true}
}
