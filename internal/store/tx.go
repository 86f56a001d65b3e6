package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"entgo.io/ent/dialect"
	"github.com/jackc/pgx/v5"
)

// Tx is a transaction. It gives ent and hand-written statements the same one.
//
// It begins with its first statement: until then it holds no connection, and on
// SQLite nobody waits for it to write.
type Tx struct {
	db  *DB
	ctx context.Context //nolint:containedctx // of Begin: a transaction of database/sql ends with the context it began with
	on  session
	pg  pgx.Tx  // once begun, on PostgreSQL
	sql *sql.Tx // once begun, on SQLite
	now time.Time

	snapshot bool // it only reads, and all as it was when it began

	begun  bool
	ended  bool
	queue  []queued
	before []func(context.Context) error
	after  []func(committed bool)
	free   []func()
	values map[any]any
}

type txKey struct{}

// TxFrom returns the transaction of the context, or nil.
func TxFrom(ctx context.Context) *Tx {
	tx, _ := ctx.Value(txKey{}).(*Tx)
	return tx
}

// After is the context for what is done once its transaction has ended, however
// the request that it belonged to ends.
func After(ctx context.Context) context.Context {
	return context.WithValue(context.WithoutCancel(ctx), txKey{}, (*Tx)(nil))
}

// Begin starts a transaction and returns a context that carries it. The caller
// ends it with End.
func (db *DB) Begin(ctx context.Context) (context.Context, *Tx, error) {
	if err := ctx.Err(); err != nil {
		return ctx, nil, fmt.Errorf("beginning a transaction: %w", err)
	}
	tx := &Tx{db: db, ctx: ctx, values: map[any]any{}}
	tx.on = db.watched(beginning{tx})
	return context.WithValue(ctx, txKey{}, tx), tx, nil
}

// begin takes a connection, and on SQLite the right to write.
func (tx *Tx) begin() error {
	if tx.begun {
		return nil
	}
	if tx.ended {
		return sql.ErrTxDone
	}
	end := tx.db.span(tx.ctx, "BEGIN", "")
	err := tx.take()
	end(err)
	return err
}

func (tx *Tx) take() error {
	if tx.db.pool != nil {
		var options pgx.TxOptions
		if tx.snapshot {
			options = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
		}
		pg, err := tx.db.pool.BeginTx(tx.ctx, options)
		if err != nil {
			return fmt.Errorf("beginning a transaction: %w", err)
		}
		tx.pg, tx.begun = pg, true
		return nil
	}
	if tx.snapshot {
		raw, err := tx.db.sql.BeginTx(tx.ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return fmt.Errorf("beginning to read: %w", err)
		}
		tx.sql, tx.begun = raw, true
		return nil
	}
	// Whoever waits for SQLite's writer asks it again and again, and may be
	// passed over until the timeout. Here they wait in a queue.
	if err := tx.db.writer.Acquire(tx.ctx, 1); err != nil {
		return fmt.Errorf("waiting to write: %w", err)
	}
	raw, err := tx.db.sql.BeginTx(tx.ctx, nil)
	if err != nil {
		tx.db.writer.Release(1)
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	tx.sql, tx.begun = raw, true
	tx.Free(func() { tx.db.writer.Release(1) })
	return nil
}

// Unused reports whether nothing was asked of the transaction yet, so that it
// holds no connection and no lock.
func (tx *Tx) Unused() bool { return !tx.begun && len(tx.queue) == 0 }

// Free runs f when the transaction has ended, before anything else that waits
// for its end: others may be waiting for what f gives back.
func (tx *Tx) Free(f func()) { tx.free = append(tx.free, f) }

func (tx *Tx) commit(ctx context.Context) (err error) {
	if !tx.begun {
		return nil
	}
	end := tx.db.span(ctx, "COMMIT", "")
	defer func() { end(err) }()
	if tx.pg != nil {
		return tx.pg.Commit(ctx)
	}
	return tx.sql.Commit()
}

// rollbackTimeout is for PostgreSQL to answer; then the connection is given up,
// which rolls back as well.
const rollbackTimeout = 5 * time.Second

func (tx *Tx) rollback(ctx context.Context) (err error) {
	if !tx.begun {
		return nil
	}
	end := tx.db.span(ctx, "ROLLBACK", "")
	defer func() { end(err) }()
	if tx.pg == nil {
		return tx.sql.Rollback()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	return tx.pg.Rollback(ctx)
}

// End commits when err is nil and rolls back otherwise. It answers err, or why
// the commit failed. A transaction ends once: after that, also after a panic of
// a hook, End does nothing.
func (tx *Tx) End(ctx context.Context, err error) error {
	if tx.ended {
		return err
	}
	committed := false
	defer func() {
		for _, f := range tx.after {
			f(committed)
		}
	}()
	committed, err = tx.end(ctx, err)
	return err
}

func (tx *Tx) end(ctx context.Context, err error) (committed bool, _ error) {
	settled := false
	defer func() {
		if !settled { // a hook panicked
			_ = tx.rollback(ctx)
		}
		tx.ended, tx.begun = true, false
		for _, f := range tx.free {
			f()
		}
	}()
	for i := 0; err == nil && i < len(tx.before); i++ { // a hook may add another
		err = tx.before[i](ctx)
	}
	if err == nil {
		err = tx.Flush(ctx)
	}
	settled = true
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

// Snapshot runs fn, which only reads, over the database as it is at the first
// statement, whatever others write until it is done. Who writes does not wait for
// it; fn does so through the context that it was not given.
func (db *DB) Snapshot(ctx context.Context, fn func(context.Context, *Tx) error) error {
	tx := &Tx{db: db, ctx: ctx, values: map[any]any{}, snapshot: true}
	tx.on = db.watched(beginning{tx})
	err := fn(context.WithValue(ctx, txKey{}, tx), tx)
	// There is nothing to commit.
	if e := tx.rollback(ctx); err == nil && e != nil && !errors.Is(e, sql.ErrTxDone) && !errors.Is(e, pgx.ErrTxClosed) {
		err = fmt.Errorf("ending a snapshot: %w", e)
	}
	tx.ended, tx.begun = true, false
	return err
}

// Dialect implements Querier.
func (tx *Tx) Dialect() string { return tx.db.dialect }

// Now is one moment for all that the transaction writes: when it was first asked
// for.
func (tx *Tx) Now() time.Time {
	if tx.now.IsZero() {
		tx.now = tx.db.Now()
	}
	return tx.now
}

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
	return driver{session: tx.on, dialect: tx.db.dialect, writes: !tx.snapshot}
}

// Pause waits before a transaction is tried again that lost a deadlock: longer
// each time, and not as long as the others, which would meet again.
func Pause(ctx context.Context, try int) error {
	most := 10 * time.Millisecond << min(try, 6)
	select {
	case <-time.After(rand.N(most)): //nolint:gosec // nobody gains by knowing how long
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
