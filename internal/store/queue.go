package store

import (
	"context"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/jackc/pgx/v5"
)

// queued is a write that waits to be sent with others.
type queued struct {
	query string
	args  []any
	done  func(changed int64, err error) error
}

// Queue leaves a write whose outcome is not needed yet to be sent with those
// that follow, in one round trip; on SQLite it is done at once. done is told how
// many rows it changed and may turn its error into another; nil takes both as
// they are. Whatever else is asked of the transaction comes after it, and so does
// its end; Flush waits for the outcome.
func (s *SQL) Queue(ctx context.Context, tx *Tx, done func(changed int64, err error) error) error {
	if done == nil {
		done = func(_ int64, err error) error { return err }
	}
	if tx.db.pool == nil {
		return done(s.Exec(ctx, tx))
	}
	args, err := pgArgs(s.args)
	if err != nil {
		return err
	}
	tx.db.trace(s.text.String())
	tx.queue = append(tx.queue, queued{s.text.String(), args, done})
	return nil
}

// Flush sends what is queued.
func (tx *Tx) Flush(ctx context.Context) error {
	if len(tx.queue) == 0 {
		return nil
	}
	if err := tx.begin(); err != nil {
		return err
	}
	queue := tx.queue
	tx.queue = nil
	batch := &pgx.Batch{}
	for _, q := range queue {
		batch.Queue(q.query, q.args...)
	}
	end := tx.db.spanOf(ctx, queue)
	answers := tx.pg.SendBatch(ctx, batch)
	var err error
	for _, q := range queue {
		tag, failed := answers.Exec()
		if err = q.done(tag.RowsAffected(), failed); err != nil {
			break
		}
	}
	if closed := answers.Close(); err == nil {
		err = closed
	}
	end(err)
	return err
}

// beginning is a session of a transaction, which begins with its first
// statement, and in which what is queued goes first.
type beginning struct{ tx *Tx }

func (b beginning) session(ctx context.Context) (session, error) {
	if err := b.tx.begin(); err != nil {
		return nil, err
	}
	if b.tx.pg == nil {
		return sqliteSession{b.tx.sql}, nil
	}
	return pgSession{b.tx.pg}, b.tx.Flush(ctx)
}

func (b beginning) exec(ctx context.Context, query string, args []any) (int64, error) {
	s, err := b.session(ctx)
	if err != nil {
		return 0, err
	}
	return s.exec(ctx, query, args)
}

func (b beginning) query(ctx context.Context, query string, args []any, scan func(Row) error) error {
	s, err := b.session(ctx)
	if err != nil {
		return err
	}
	return s.query(ctx, query, args, scan)
}

func (b beginning) rows(ctx context.Context, query string, args []any) (entsql.ColumnScanner, error) {
	s, err := b.session(ctx)
	if err != nil {
		return nil, err
	}
	return s.rows(ctx, query, args)
}
