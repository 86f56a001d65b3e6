package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
)

// Tx is a transaction. It gives ent and hand-written statements the same one.
type Tx struct {
	db   *DB
	conn *sql.Conn
	tx   *sql.Tx
	now  time.Time

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
	conn, err := db.sql.Conn(ctx)
	if err != nil {
		return ctx, nil, fmt.Errorf("taking a connection: %w", err)
	}
	raw, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return ctx, nil, errors.Join(fmt.Errorf("beginning a transaction: %w", err), conn.Close())
	}
	tx := &Tx{db: db, conn: conn, tx: raw, now: db.Now(), values: map[any]any{}}
	return context.WithValue(ctx, txKey{}, tx), tx, nil
}

// End commits when err is nil and rolls back otherwise. It answers err, or why
// the commit failed.
func (tx *Tx) End(ctx context.Context, err error) error {
	for i := 0; err == nil && i < len(tx.before); i++ { // a hook may add another
		err = tx.before[i](ctx)
	}
	committed := false
	if err == nil {
		if err = tx.tx.Commit(); err != nil {
			err = fmt.Errorf("committing: %w", err)
		} else {
			committed = true
		}
	} else if e := tx.tx.Rollback(); e != nil && !errors.Is(e, sql.ErrTxDone) {
		err = errors.Join(err, fmt.Errorf("rolling back: %w", e))
	}
	if e := tx.conn.Close(); e != nil && err == nil && !committed {
		err = e
	}
	for _, f := range tx.after {
		f(committed)
	}
	return err
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

// ExecContext implements Querier.
func (tx *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return traced{tx.tx, tx.db.trace}.ExecContext(ctx, query, args...)
}

// QueryContext implements Querier.
func (tx *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return traced{tx.tx, tx.db.trace}.QueryContext(ctx, query, args...)
}

// Driver is the ent driver over the transaction. Its own Tx joins it.
func (tx *Tx) Driver() dialect.Driver {
	joined := txDriver{entsql.NewDriver(tx.db.dialect, entsql.Conn{ExecQuerier: traced{tx.tx, tx.db.trace}})}
	if tx.db.pool == nil {
		return joined
	}
	reader := txReader{joined, tx}
	return &nested{reader}
}

type txDriver struct{ *entsql.Driver }

func (d txDriver) Tx(context.Context) (dialect.Tx, error) { return dialect.NopTx(d), nil }

func (d txDriver) BeginTx(context.Context, *sql.TxOptions) (dialect.Tx, error) {
	return dialect.NopTx(d), nil
}

// nested is a driver whose transactions are the one it is in.
type nested struct{ txReader }

// Tx implements ent's dialect.Driver.
func (d *nested) Tx(context.Context) (dialect.Tx, error) { return dialect.NopTx(d), nil }

// BeginTx implements ent's transaction options.
func (d *nested) BeginTx(context.Context, *sql.TxOptions) (dialect.Tx, error) {
	return dialect.NopTx(d), nil
}
