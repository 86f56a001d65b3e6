package store

import (
	"context"
	stdsql "database/sql"
	sqldriver "database/sql/driver"
	"encoding/binary"
	"fmt"
	"time"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/lethe-crm/lethe/internal/gid"
)

// pgSession runs statements through pgx itself: database/sql turns every column
// of every row into an interface and back, which is half of the time of a list.
// Rows that ent reads are decoded from the wire into what it scans into.
type pgSession struct {
	on interface {
		Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error)
		Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	}
}

func (s pgSession) exec(ctx context.Context, query string, args []any) (int64, error) {
	values, err := pgArgs(args)
	if err != nil {
		return 0, err
	}
	tag, err := s.on.Exec(ctx, query, values...)
	return tag.RowsAffected(), err
}

func (s pgSession) query(ctx context.Context, query string, args []any, scan func(Row) error) error {
	values, err := pgArgs(args)
	if err != nil {
		return err
	}
	rows, err := s.on.Query(ctx, query, values...)
	if err != nil {
		return err
	}
	defer rows.Close()
	r := &pgRows{rows, decoder{rows.FieldDescriptions(), rows.Conn().TypeMap()}}
	for rows.Next() {
		if err := scan(r); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (s pgSession) rows(ctx context.Context, query string, args []any) (entsql.ColumnScanner, error) {
	values, err := pgArgs(args)
	if err != nil {
		return nil, err
	}
	rows, err := s.on.Query(ctx, query, values...)
	if err != nil {
		return nil, err
	}
	return &pgRows{rows, decoder{rows.FieldDescriptions(), rows.Conn().TypeMap()}}, nil
}

// pgArgs does with arguments what database/sql does: those that have a value
// are asked for it. Ids go as the 16 bytes they are.
func pgArgs(args []any) ([]any, error) {
	values := make([]any, len(args))
	for i, arg := range args {
		value, err := pgValue(arg)
		if err != nil {
			return nil, fmt.Errorf("reading argument %d: %w", i+1, err)
		}
		values[i] = value
	}
	return values, nil
}

func pgValue(arg any) (any, error) {
	switch arg := arg.(type) {
	case gid.ID:
		return [16]byte(arg), nil
	case *gid.ID:
		if arg == nil {
			return nil, nil
		}
		return [16]byte(*arg), nil
	case sqldriver.Valuer:
		return sqldriver.DefaultParameterConverter.ConvertValue(arg)
	}
	return arg, nil
}

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

// ColumnTypes implements ent's ColumnScanner, which asks where it has no entity
// to read into.
func (r *pgRows) ColumnTypes() ([]*stdsql.ColumnType, error) { return nil, errColumnTypes }

// Columns implements ent's ColumnScanner.
func (r *pgRows) Columns() ([]string, error) {
	names := make([]string, len(r.decode.columns))
	for i, c := range r.decode.columns {
		names[i] = c.Name
	}
	return names, r.Err()
}

// NextResultSet implements ent's ColumnScanner.
func (r *pgRows) NextResultSet() bool { return false }

// Scan implements ent's ColumnScanner, and Row.
func (r *pgRows) Scan(dest ...any) error { return r.decode.scan(r.RawValues(), dest) }

// decoder reads columns in their wire format.
type decoder struct {
	columns []pgconn.FieldDescription
	types   *pgtype.Map
}

func (d decoder) scan(raw [][]byte, dest []any) error {
	if len(dest) != len(raw) {
		return fmt.Errorf("store: %d columns into %d places", len(raw), len(dest))
	}
	for i, value := range raw {
		c := &d.columns[i]
		if fast(c, value, dest[i]) {
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
func fast(c *pgconn.FieldDescription, raw []byte, dest any) bool {
	isBinary := c.Format == pgx.BinaryFormatCode
	switch dest := dest.(type) {
	case *stdsql.NullString:
		if c.DataTypeOID != pgtype.TextOID && c.DataTypeOID != pgtype.VarcharOID {
			return false
		}
		dest.String, dest.Valid = string(raw), raw != nil
	case *gid.ID:
		if raw == nil {
			*dest = gid.Nil
			return true
		}
		if !isBinary || len(raw) != len(dest) {
			return false
		}
		copy(dest[:], raw)
	case *entsql.NullScanner:
		id, ok := dest.S.(*gid.ID)
		if !ok || raw != nil && (!isBinary || len(raw) != len(id)) {
			return false
		}
		if dest.Valid = raw != nil; dest.Valid {
			copy(id[:], raw)
		}
	case *stdsql.NullTime:
		at, ok := microseconds(c, raw, isBinary)
		if !ok {
			return false
		}
		if dest.Valid, dest.Time = raw != nil, (time.Time{}); dest.Valid {
			dest.Time = time.UnixMicro(at).UTC()
		}
	case *stdsql.NullInt64:
		if raw != nil && (!isBinary || c.DataTypeOID != pgtype.Int8OID || len(raw) != 8) {
			return false
		}
		if dest.Valid, dest.Int64 = raw != nil, 0; dest.Valid {
			dest.Int64 = int64(binary.BigEndian.Uint64(raw)) //nolint:gosec // the bits of a signed number
		}
	case *[]byte:
		if c.DataTypeOID != pgtype.ByteaOID || raw != nil && !isBinary {
			return false
		}
		if *dest = nil; raw != nil {
			*dest = append([]byte{}, raw...)
		}
	default:
		return false
	}
	return true
}

// microseconds reads a time; NULL is any.
func microseconds(c *pgconn.FieldDescription, raw []byte, isBinary bool) (at int64, ok bool) {
	if c.DataTypeOID != pgtype.TimestamptzOID || raw != nil && (!isBinary || len(raw) != 8) {
		return 0, false
	}
	if raw == nil {
		return 0, true
	}
	at = int64(binary.BigEndian.Uint64(raw)) //nolint:gosec // the bits of a signed number
	if at == 1<<63-1 || at == -1<<63 {       // infinity
		return 0, false
	}
	return at + microsecondsTo2000, true
}
