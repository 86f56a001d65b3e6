// Package entfilter turns an authz.Filter into an ent predicate.
//
// What the storage cannot say is an error, never a guess, and the caller denies. Every compound is put in
// parentheses: ent prints And(Or(a, b), c) as "a OR b AND c" once another predicate stands before it, and with
// a tenant condition there, that is a way out of the tenant.
package entfilter

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
)

// Mapper says how a type is stored.
type Mapper struct {
	Cols  map[string]Column // by attribute
	Edges map[string]Edge
}

// Column is where an attribute is stored.
type Column struct {
	Name string
	// Value turns a policy's value into the column's, for example a typed id into a UUID. Nil leaves it as it is.
	// It answers ErrNever for a value that the column holds in no row.
	Value func(any) (any, error)
}

// ErrNever reports a value that no row has: nothing equals it, and whatever is there differs from it.
var ErrNever = errors.New("the column never holds this value")

// Edge is a relation to a table, possibly the same. Rows are related when the two columns are equal.
type Edge struct {
	Table        string
	ParentColumn string
	ChildColumn  string
	Child        Mapper
}

// Predicate is what ent's selectors take.
type Predicate = func(*sql.Selector) *sql.Predicate

// Lower returns the predicate for a filter. It matches the rows that authz.Match matches.
func Lower(f authz.Filter, m Mapper) (Predicate, error) {
	if err := authz.Check(f); err != nil {
		return nil, fmt.Errorf("entfilter: %w", err)
	}
	write, err := lower(authz.Simplify(f), m, 0)
	if err != nil {
		return nil, fmt.Errorf("entfilter: %w", err)
	}
	return func(s *sql.Selector) *sql.Predicate {
		return write(table{s.C, s.Dialect()})
	}, nil
}

// table is what a part of the filter is about when it is written.
type table struct {
	column  func(string) string // qualified
	dialect string
}

type writer func(table) *sql.Predicate

func lower(f authz.Filter, m Mapper, depth int) (writer, error) {
	switch x := f.(type) {
	case authz.True:
		return constant("1 = 1"), nil
	case authz.False:
		return constant("1 = 0"), nil
	case authz.And:
		return lowerAll(x, " AND ", "1 = 1", m, depth)
	case authz.Or:
		return lowerAll(x, " OR ", "1 = 0", m, depth)
	case authz.Not:
		return lowerNot(x, m, depth)
	case authz.IsNull:
		c, err := m.column(x.Field)
		return func(t table) *sql.Predicate { return sql.IsNull(t.column(c.Name)) }, err
	case authz.In:
		return lowerIn(x, m)
	case authz.Cmp:
		return lowerCmp(x, m)
	case authz.Edge:
		return lowerEdge(x, m, depth)
	}
	return nil, fmt.Errorf("%T is no filter", f)
}

func constant(expression string) writer {
	return func(table) *sql.Predicate { return sql.ExprP(expression) }
}

func lowerAll(fs []authz.Filter, operator, ofNone string, m Mapper, depth int) (writer, error) {
	if len(fs) == 0 {
		return constant(ofNone), nil
	}
	parts := make([]writer, len(fs))
	for i, f := range fs {
		var err error
		if parts[i], err = lower(f, m, depth); err != nil {
			return nil, err
		}
	}
	return func(t table) *sql.Predicate {
		ps := make([]*sql.Predicate, len(parts))
		for i, p := range parts {
			ps[i] = p(t)
		}
		return join(operator, ps...)
	}, nil
}

// lowerNot writes NOT so that an unknown inside counts as false, as filters mean it.
func lowerNot(x authz.Not, m Mapper, depth int) (writer, error) {
	of, err := lower(x.Of, m, depth)
	return func(t table) *sql.Predicate {
		p := of(t)
		return sql.P(func(b *sql.Builder) {
			b.Wrap(func(b *sql.Builder) {
				b.Wrap(func(b *sql.Builder) { b.Join(p) }).WriteString(" IS NOT TRUE")
			})
		})
	}, err
}

func lowerIn(x authz.In, m Mapper) (writer, error) {
	c, err := m.column(x.Field)
	if err != nil {
		return nil, err
	}
	var values []any
	for _, v := range x.Values {
		stored, err := c.value(v)
		if errors.Is(err, ErrNever) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("attribute %q: %w", x.Field, err)
		}
		if stored != nil {
			values = append(values, stored)
		}
	}
	if len(values) == 0 {
		return constant("1 = 0"), nil
	}
	return func(t table) *sql.Predicate { return sql.In(t.column(c.Name), values...) }, nil
}

var operators = map[authz.Op]string{
	authz.Equal: " = ", authz.NotEqual: " <> ",
	authz.Less: " < ", authz.LessOrEqual: " <= ", authz.Greater: " > ", authz.GreaterOrEqual: " >= ",
}

func lowerCmp(x authz.Cmp, m Mapper) (writer, error) {
	c, err := m.column(x.Field)
	if err != nil {
		return nil, err
	}
	if x.Op == authz.Prefix {
		return lowerPrefix(x, c)
	}
	v, err := c.value(x.Value)
	switch {
	case errors.Is(err, ErrNever) && x.Op == authz.NotEqual:
		return func(t table) *sql.Predicate { return sql.NotNull(t.column(c.Name)) }, nil
	case errors.Is(err, ErrNever):
		return constant("1 = 0"), nil
	case err != nil:
		return nil, fmt.Errorf("attribute %q: %w", x.Field, err)
	case v == nil:
		return constant("1 = 0"), nil
	}
	_, isText := v.(string)
	isOrder := x.Op != authz.Equal && x.Op != authz.NotEqual
	return func(t table) *sql.Predicate {
		return sql.P(func(b *sql.Builder) {
			b.Ident(t.column(c.Name))
			if isText && isOrder && t.dialect == dialect.Postgres {
				b.WriteString(` COLLATE "C"`) // byte order, whatever the database's language
			}
			b.WriteString(operators[x.Op]).Arg(v)
		})
	}, nil
}

// lowerPrefix does not use LIKE, which ignores case on SQLite and gives % and _ a meaning.
func lowerPrefix(x authz.Cmp, c Column) (writer, error) {
	prefix, ok := x.Value.(string)
	if !ok || c.Value != nil {
		return nil, fmt.Errorf("attribute %q has no prefix %v", x.Field, x.Value)
	}
	return func(t table) *sql.Predicate {
		return sql.P(func(b *sql.Builder) {
			b.WriteString("substr(").Ident(t.column(c.Name)).WriteString(", 1, ").
				Arg(utf8.RuneCountInString(prefix)).WriteString(") = ").Arg(prefix)
		})
	}, nil
}

func lowerEdge(x authz.Edge, m Mapper, depth int) (writer, error) {
	e, ok := m.Edges[x.Name]
	if !ok {
		return nil, fmt.Errorf("there is no edge %q", x.Name)
	}
	of, err := lower(x.Of, e.Child, depth+1)
	return func(t table) *sql.Predicate {
		child := sql.Dialect(t.dialect).Table(e.Table).As(fmt.Sprintf("authz_%d", depth))
		related := sql.ColumnsEQ(child.C(e.ChildColumn), t.column(e.ParentColumn))
		query := sql.Dialect(t.dialect).Select(child.C(e.ChildColumn)).From(child)
		return sql.Exists(query.Where(join(" AND ", related, of(table{child.C, t.dialect}))))
	}, err
}

func join(operator string, ps ...*sql.Predicate) *sql.Predicate {
	return sql.P(func(b *sql.Builder) {
		b.Wrap(func(b *sql.Builder) {
			for i, p := range ps {
				if i > 0 {
					b.WriteString(operator)
				}
				b.Wrap(func(b *sql.Builder) { b.Join(p) })
			}
		})
	})
}

func (m Mapper) column(attribute string) (Column, error) {
	if c, ok := m.Cols[attribute]; ok {
		return c, nil
	}
	return Column{}, fmt.Errorf("attribute %q has no column", attribute)
}

// value turns a policy's value into one that the driver takes. Null stays null.
func (c Column) value(v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	if c.Value != nil {
		var err error
		if v, err = c.Value(v); err != nil {
			return nil, err
		}
	}
	switch x := v.(type) {
	case nil, string, bool, int, int64, float64, driver.Valuer:
		return v, nil
	case time.Time:
		return x.UTC(), nil // SQLite stores times as text, in UTC
	default:
		return nil, fmt.Errorf("%T is no value for a column", v)
	}
}
