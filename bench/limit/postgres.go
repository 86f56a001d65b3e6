package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgres is a pool of connections. Steps are pipelined: however many there
// are, they cost one round trip.
type postgres struct{ pool *pgxpool.Pool }

func openPostgres(ctx context.Context, url string) (database, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("reading the database URL: %w", err)
	}
	cfg.ConnConfig.RuntimeParams["timezone"] = "UTC"
	cfg.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}})
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connecting to PostgreSQL: %w", err)
	}
	return postgres{pool}, nil
}

func (p postgres) close()           { p.pool.Close() }
func (p postgres) dialect() dialect { return postgresDialect }

func (p postgres) run(ctx context.Context, steps ...step) error {
	if len(steps) == 1 {
		return one(ctx, p.pool, steps[0])
	}
	return pipeline(ctx, p.pool, steps)
}

type sender interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

func one(ctx context.Context, s sender, st step) error {
	rows, err := s.Query(ctx, st.sql, st.args...)
	if err != nil {
		return err
	}
	return drain(rows, st)
}

func drain(rows pgx.Rows, st step) error {
	defer rows.Close()
	for rows.Next() {
		if st.each == nil {
			continue
		}
		if err := st.each(rows.Scan); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("%.60s: %w", st.sql, err)
	}
	return st.changed(rows.CommandTag().RowsAffected())
}

// pipeline sends all steps before it reads the first answer.
func pipeline(ctx context.Context, s sender, steps []step) (err error) {
	b := &pgx.Batch{}
	for _, st := range steps {
		b.Queue(st.sql, st.args...)
	}
	results := s.SendBatch(ctx, b)
	defer func() {
		if e := results.Close(); err == nil {
			err = e
		}
	}()
	for _, st := range steps {
		rows, err := results.Query()
		if err != nil {
			return fmt.Errorf("%.60s: %w", st.sql, err)
		}
		if err := drain(rows, st); err != nil {
			return err
		}
	}
	return nil
}

// postgresTx begins with the first pipeline and commits with the last.
type postgresTx struct {
	conn  *pgxpool.Conn
	begun bool
}

func (p postgres) begin(ctx context.Context) (transaction, error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	return &postgresTx{conn: conn}, nil
}

func (t *postgresTx) run(ctx context.Context, steps ...step) error {
	if !t.begun {
		t.begun = true
		steps = append([]step{{sql: "BEGIN"}}, steps...)
	}
	return pipeline(ctx, t.conn, steps)
}

func (t *postgresTx) commit(ctx context.Context, steps ...step) error {
	return t.run(ctx, append(steps, step{sql: "COMMIT"})...)
}

func (t *postgresTx) end() {
	if t.conn.Conn().PgConn().TxStatus() != 'I' {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, _ = t.conn.Exec(ctx, "ROLLBACK") // the pool drops a connection that could not
	}
	t.conn.Release()
}
