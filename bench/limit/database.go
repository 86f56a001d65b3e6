package main

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/lethe-crm/lethe/internal/gid"
)

// database runs statements on PostgreSQL or SQLite.
type database interface {
	// run sends steps, all at once where the database allows it.
	run(ctx context.Context, steps ...step) error
	begin(ctx context.Context) (transaction, error)
	close()
	// dialect writes what the two databases say differently.
	dialect() dialect
}

// transaction is one under way. The first steps it runs begin it.
type transaction interface {
	run(ctx context.Context, steps ...step) error
	// commit runs the last steps and commits, without waiting in between.
	commit(ctx context.Context, steps ...step) error
	// end gives the connection back, and rolls back what is not committed.
	end()
}

type scanner func(dest ...any) error

// step is a statement with what to do with each of its rows, or with the number
// of rows it must change.
type step struct {
	sql   string
	args  []any
	each  func(scanner) error
	rows  int  // how many rows it must change, if any
	write bool // it is no query
}

func (s step) changed(n int64) error {
	if s.rows > 0 && n != int64(s.rows) {
		return fmt.Errorf("%d rows changed instead of %d: %.60s", n, s.rows, s.sql)
	}
	return nil
}

func open(ctx context.Context, url string) (database, error) {
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		return openSQLite(ctx, path)
	}
	return openPostgres(ctx, url)
}

// ref is an id as databases hold it; the zero one is NULL. Its errors are what
// the interfaces ask for.
type ref gid.ID //nolint:recvcheck // what scans needs a pointer, what writes takes the value

func (r ref) zero() bool { return r == ref{} }

// ScanUUID implements pgtype.UUIDScanner.
func (r *ref) ScanUUID(v pgtype.UUID) error { *r = v.Bytes; return nil } //nolint:unparam // as said

// UUIDValue implements pgtype.UUIDValuer.
func (r ref) UUIDValue() (pgtype.UUID, error) { //nolint:unparam // as said
	return pgtype.UUID{Bytes: r, Valid: !r.zero()}, nil
}

// Scan implements sql.Scanner, for SQLite.
func (r *ref) Scan(v any) error { return (*gid.ID)(r).Scan(v) }

// Value implements driver.Valuer, for SQLite.
func (r ref) Value() (driver.Value, error) { //nolint:unparam // as said
	if r.zero() {
		return nil, nil
	}
	return gid.ID(r).UUID(), nil
}

// MarshalJSON writes the form SQLite holds, for json_each.
func (r ref) MarshalJSON() ([]byte, error) { //nolint:unparam // as said
	if r.zero() {
		return []byte("null"), nil
	}
	return []byte(`"` + gid.ID(r).UUID() + `"`), nil
}

// dialect is what is written differently for the two databases.
type dialect struct {
	// in is "column IN parameter", of ids.
	in func(column, parameter string) string
	// lock is the row lock of a SELECT.
	lock func(strength string) string
	// ids is a list of ids as a parameter.
	ids func([]ref) any
	// unindexed stands before a condition that is not to be looked up in an index.
	unindexed string
	// thread selects the messages of thread $4 in the states from which a delete
	// changes something, said so that the index over live rows serves.
	thread string
	// lateral says that a join may look at each row of what it joins.
	lateral bool
	// retire and restore write the items and the events of rows of one kind, and
	// change the rows.
	retire, restore func(op *operation, k *kind, rows []*row) []step
	// purge writes the items, the events and the tombstones of rows of one kind, and
	// removes the rows.
	purge func(op *operation, k *kind, rows []*row, stones map[ref]stone) []step
	// touch writes when customers were last in touch.
	touch func(at map[ref]time.Time) step
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // ids, numbers and text are JSON
	}
	return string(b)
}
