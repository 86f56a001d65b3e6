package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"sync"

	_ "modernc.org/sqlite" // the driver Lethe uses, too
)

// sqliteParams are Lethe's.
const sqliteParams = "_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=foreign_keys(1)&_pragma=case_sensitive_like(1)&_pragma=secure_delete(1)&_txlock=immediate&_time_format=sqlite&_timezone=UTC"

// lite is a SQLite database with its prepared statements.
type lite struct {
	db *sql.DB

	mu         sync.RWMutex
	statements map[string]*sql.Stmt

	// writing is held by the one transaction that writes. Left to SQLite, the
	// others would sleep and try again.
	writing sync.Mutex
}

func openSQLite(ctx context.Context, path string) (database, error) {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+sqliteParams)
	if err != nil {
		return nil, fmt.Errorf("opening SQLite: %w", err)
	}
	db.SetMaxOpenConns(8) // as many as Lethe
	db.SetMaxIdleConns(8)
	return &lite{db: db, statements: map[string]*sql.Stmt{}}, db.PingContext(ctx)
}

func (l *lite) close()           { _ = l.db.Close() } // the process ends
func (l *lite) dialect() dialect { return sqliteDialect }

func (l *lite) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	l.mu.RLock()
	s := l.statements[text]
	l.mu.RUnlock()
	if s != nil {
		return s, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.statements[text]; s != nil {
		return s, nil
	}
	s, err := l.db.PrepareContext(context.WithoutCancel(ctx), text) //nolint:sqlclosecheck // kept as long as the process
	if err != nil {
		return nil, fmt.Errorf("%.60s: %w", text, err)
	}
	l.statements[text] = s
	return s, nil
}

func (l *lite) run(ctx context.Context, steps ...step) error {
	for _, st := range steps {
		s, err := l.prepared(ctx, st.sql)
		if err != nil {
			return err
		}
		if err := liteStep(ctx, s, st); err != nil {
			return fmt.Errorf("%.60s: %w", st.sql, err)
		}
	}
	return nil
}

func liteStep(ctx context.Context, s *sql.Stmt, st step) error {
	if st.write {
		res, err := s.ExecContext(ctx, st.args...)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		return st.changed(n)
	}
	rows, err := s.QueryContext(ctx, st.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if st.each != nil {
			if err := st.each(rows.Scan); err != nil {
				return err
			}
		}
	}
	return rows.Err()
}

type liteTx struct {
	lite *lite
	tx   *sql.Tx
}

func (l *lite) begin(ctx context.Context) (transaction, error) {
	l.writing.Lock()
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		l.writing.Unlock()
		return nil, err
	}
	return &liteTx{l, tx}, nil
}

func (t *liteTx) run(ctx context.Context, steps ...step) error {
	for _, st := range steps {
		s, err := t.lite.prepared(ctx, st.sql)
		if err != nil {
			return err
		}
		if err := liteStep(ctx, t.tx.StmtContext(ctx, s), st); err != nil {
			return fmt.Errorf("%.60s: %w", st.sql, err)
		}
	}
	return nil
}

func (t *liteTx) commit(ctx context.Context, steps ...step) error {
	if err := t.run(ctx, steps...); err != nil {
		return err
	}
	return t.tx.Commit()
}

func (t *liteTx) end() {
	_ = t.tx.Rollback() // after a commit there is nothing to roll back
	t.lite.writing.Unlock()
}
