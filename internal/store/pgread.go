package store

import (
	"context"
	stdsql "database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/lethe-crm/lethe/internal/gid"
)

// On PostgreSQL ent reads past database/sql, which turns every column of every
// row into an interface and back: half of the time of a list went there. The
// rows are decoded from their wire format into what ent scans into.

// poolReader is an ent driver that reads from a pool and writes nothing.
type poolReader struct {
	dialect.Driver // refuses what is not a query

	pool  *pgxpool.Pool
	trace func(string)
}

// Query implements ent's dialect.Driver.
func (d poolReader) Query(ctx context.Context, query string, args, v any) error {
	into, values, err := queryArgs(args, v)
	if err != nil {
		return err
	}
	d.trace(query)
	rows, err := d.pool.Query(ctx, query, values...)
	if err != nil {
		return err
	}
	*into = entsql.Rows{ColumnScanner: &pgRows{Rows: rows, decode: decoder{rows.FieldDescriptions(), rows.Conn().TypeMap()}}}
	return nil
}

// txReader is an ent driver that reads in a transaction.
type txReader struct {
	dialect.Driver // everything but queries

	tx *Tx
}

// Query implements ent's dialect.Driver. All rows are read at once: between two
// of them database/sql might use the connection, to roll back what was
// cancelled.
func (d txReader) Query(ctx context.Context, query string, args, v any) error {
	into, values, err := queryArgs(args, v)
	if err != nil {
		return err
	}
	d.tx.db.trace(query)
	return d.tx.conn.Raw(func(dc any) error {
		conn, ok := dc.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("store: %T is no PostgreSQL connection", dc)
		}
		rows, err := conn.Conn().Query(ctx, query, values...)
		if err != nil {
			return err
		}
		kept := &keptRows{decode: decoder{rows.FieldDescriptions(), conn.Conn().TypeMap()}, at: -1}
		for rows.Next() {
			kept.add(rows.RawValues())
		}
		*into = entsql.Rows{ColumnScanner: kept}
		return rows.Err()
	})
}

// queryArgs does with arguments what database/sql does: it asks those for their
// value that have one.
func queryArgs(args, v any) (*entsql.Rows, []any, error) {
	into, ok := v.(*entsql.Rows)
	given, isList := args.([]any)
	if !ok || !isList {
		return nil, nil, fmt.Errorf("store: a query into a %T with a %T", v, args)
	}
	values := make([]any, len(given))
	for i, arg := range given {
		valuer, ok := arg.(driver.Valuer)
		if !ok {
			values[i] = arg
			continue
		}
		value, err := driver.DefaultParameterConverter.ConvertValue(valuer)
		if err != nil {
			return nil, nil, fmt.Errorf("reading argument %d: %w", i+1, err)
		}
		values[i] = value
	}
	return into, values, nil
}

// decoder reads columns in their wire format.
type decoder struct {
	columns []pgconn.FieldDescription
	types   *pgtype.Map
}

func (d decoder) names() []string {
	names := make([]string, len(d.columns))
	for i, c := range d.columns {
		names[i] = c.Name
	}
	return names
}

func (d decoder) scan(raw [][]byte, dest []any) error {
	if len(dest) != len(raw) {
		return fmt.Errorf("store: %d columns into %d places", len(raw), len(dest))
	}
	for i, value := range raw {
		c := &d.columns[i]
		if d.fast(c, value, dest[i]) {
			continue
		}
		if err := d.types.Scan(c.DataTypeOID, c.Format, value, dest[i]); err != nil {
			return fmt.Errorf("reading column %s: %w", c.Name, err)
		}
	}
	return nil
}

// microsecondsTo2000 is the epoch of PostgreSQL's times.
const microsecondsTo2000 = 946_684_800_000_000

// fast reads the types that entities are made of, as far as their value is of
// the usual kind; the rest is left to pgx.
func (d decoder) fast(c *pgconn.FieldDescription, raw []byte, dest any) bool {
	isBinary := c.Format == pgx.BinaryFormatCode
	switch dest := dest.(type) {
	case *stdsql.NullString:
		if c.DataTypeOID != pgtype.TextOID && c.DataTypeOID != pgtype.VarcharOID {
			return false
		}
		dest.String, dest.Valid = string(raw), raw != nil
		return true
	case *gid.ID:
		if !isBinary || len(raw) != len(dest) {
			return false
		}
		copy(dest[:], raw)
		return true
	case *entsql.NullScanner:
		id, ok := dest.S.(*gid.ID)
		if !ok || raw != nil && (!isBinary || len(raw) != len(id)) {
			return false
		}
		if dest.Valid = raw != nil; dest.Valid {
			copy(id[:], raw)
		}
		return true
	case *stdsql.NullTime:
		if c.DataTypeOID != pgtype.TimestamptzOID || raw != nil && (!isBinary || len(raw) != 8) {
			return false
		}
		if dest.Valid = raw != nil; dest.Valid {
			at := int64(binary.BigEndian.Uint64(raw)) //nolint:gosec // the bits of a signed number
			if at == 1<<63-1 || at == -1<<63 {        // infinity
				return false
			}
			dest.Time = time.UnixMicro(at + microsecondsTo2000).UTC()
		} else {
			dest.Time = time.Time{}
		}
		return true
	case *stdsql.NullInt64:
		if raw != nil && (!isBinary || c.DataTypeOID != pgtype.Int8OID || len(raw) != 8) {
			return false
		}
		if dest.Valid, dest.Int64 = raw != nil, 0; dest.Valid {
			dest.Int64 = int64(binary.BigEndian.Uint64(raw)) //nolint:gosec // the bits of a signed number
		}
		return true
	case *[]byte:
		if c.DataTypeOID != pgtype.ByteaOID || raw != nil && !isBinary {
			return false
		}
		if *dest = nil; raw != nil {
			*dest = append([]byte{}, raw...)
		}
		return true
	}
	return false
}

// errColumnTypes is not met: ent asks for the types of columns where it has no
// entity to read into.
var errColumnTypes = errors.New("store: the types of columns are not told")

// pgRows are rows as they come.
type pgRows struct {
	pgx.Rows

	decode decoder
}

// Close implements ent's ColumnScanner.
func (r *pgRows) Close() error {
	r.Rows.Close()
	return nil
}

// ColumnTypes implements ent's ColumnScanner.
func (r *pgRows) ColumnTypes() ([]*stdsql.ColumnType, error) { return nil, errColumnTypes }

// Columns implements ent's ColumnScanner.
func (r *pgRows) Columns() ([]string, error) { return r.decode.names(), r.Err() }

// NextResultSet implements ent's ColumnScanner.
func (r *pgRows) NextResultSet() bool { return false }

// Scan implements ent's ColumnScanner.
func (r *pgRows) Scan(dest ...any) error { return r.decode.scan(r.RawValues(), dest) }

// keptRows are rows that were read at once.
type keptRows struct {
	decode decoder
	rows   [][][]byte
	at     int
}

// add keeps a copy of a row: the connection's buffer is used again.
func (r *keptRows) add(raw [][]byte) {
	size := 0
	for _, value := range raw {
		size += len(value)
	}
	buffer, row := make([]byte, 0, size), make([][]byte, len(raw))
	for i, value := range raw {
		if value == nil {
			continue
		}
		start := len(buffer)
		buffer = append(buffer, value...)
		row[i] = buffer[start:len(buffer):len(buffer)]
	}
	r.rows = append(r.rows, row)
}

// Close implements ent's ColumnScanner.
func (r *keptRows) Close() error { return nil }

// Err implements ent's ColumnScanner: the rows are here.
func (r *keptRows) Err() error { return nil }

// ColumnTypes implements ent's ColumnScanner.
func (r *keptRows) ColumnTypes() ([]*stdsql.ColumnType, error) { return nil, errColumnTypes }

// Columns implements ent's ColumnScanner.
func (r *keptRows) Columns() ([]string, error) { return r.decode.names(), nil }

// Next implements ent's ColumnScanner.
func (r *keptRows) Next() bool {
	r.at++
	return r.at < len(r.rows)
}

// NextResultSet implements ent's ColumnScanner.
func (r *keptRows) NextResultSet() bool { return false }

// Scan implements ent's ColumnScanner.
func (r *keptRows) Scan(dest ...any) error { return r.decode.scan(r.rows[r.at], dest) }
