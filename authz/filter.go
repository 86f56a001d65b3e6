package authz

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Filter says which rows of a type are meant, in terms of the attributes that policies use. It is two-valued:
// a comparison with an attribute that is missing or null is false, and its negation true.
type Filter interface{ isFilter() }

// The filters.
type (
	True  struct{}
	False struct{}
	And   []Filter // of none: true
	Or    []Filter // of none: false
	Not   struct{ Of Filter }
	// Cmp compares an attribute with a value.
	Cmp struct {
		Field string
		Op    Op
		Value any
	}
	// In is true when the attribute equals one of the values.
	In struct {
		Field  string
		Values []any
	}
	IsNull struct{ Field string }
	// Edge is true when a related row matches.
	Edge struct {
		Name string
		Of   Filter
	}
)

func (True) isFilter()   {}
func (False) isFilter()  {}
func (And) isFilter()    {}
func (Or) isFilter()     {}
func (Not) isFilter()    {}
func (Cmp) isFilter()    {}
func (In) isFilter()     {}
func (IsNull) isFilter() {}
func (Edge) isFilter()   {}

// Op is a comparison.
type Op string

// The comparisons. Text is compared byte by byte.
const (
	Equal          Op = "="
	NotEqual       Op = "!="
	Less           Op = "<"
	LessOrEqual    Op = "<="
	Greater        Op = ">"
	GreaterOrEqual Op = ">="
	Prefix         Op = "prefix"
)

// Ops are all comparisons.
func Ops() []Op {
	return []Op{Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual, Prefix}
}

// Check returns an error for a filter that has no meaning: a nil part, an unknown comparison.
func Check(f Filter) error {
	switch x := f.(type) {
	case True, False, In, IsNull:
		return nil
	case And:
		return checkAll(x)
	case Or:
		return checkAll(x)
	case Not:
		return Check(x.Of)
	case Edge:
		return Check(x.Of)
	case Cmp:
		if !slices.Contains(Ops(), x.Op) {
			return fmt.Errorf("authz: unknown comparison %q", x.Op)
		}
		return nil
	default:
		return fmt.Errorf("authz: %T is no filter", f)
	}
}

func checkAll(fs []Filter) error {
	for _, f := range fs {
		if err := Check(f); err != nil {
			return err
		}
	}
	return nil
}

// Simplify removes what does not matter: constants, nesting, double negation. The result matches the same rows.
func Simplify(f Filter) Filter {
	switch x := f.(type) {
	case And:
		kept, isFalse := simplifyAll(x, func(k Filter) ([]Filter, bool) { a, ok := k.(And); return a, ok }, False{}, True{})
		switch {
		case isFalse:
			return False{}
		case len(kept) == 0:
			return True{}
		case len(kept) == 1:
			return kept[0]
		}
		return And(kept)
	case Or:
		kept, isTrue := simplifyAll(x, func(k Filter) ([]Filter, bool) { o, ok := k.(Or); return o, ok }, True{}, False{})
		switch {
		case isTrue:
			return True{}
		case len(kept) == 0:
			return False{}
		case len(kept) == 1:
			return kept[0]
		}
		return Or(kept)
	case Not:
		switch k := Simplify(x.Of).(type) {
		case True:
			return False{}
		case False:
			return True{}
		case Not:
			return k.Of
		default:
			return Not{k}
		}
	case In:
		if len(x.Values) == 0 {
			return False{}
		}
	case Edge:
		k := Simplify(x.Of)
		if k == (Filter)(False{}) {
			return False{}
		}
		return Edge{x.Name, k}
	}
	return f
}

// simplifyAll simplifies the parts of an And or Or, and reports whether one of them decides the whole.
func simplifyAll(fs []Filter, flatten func(Filter) ([]Filter, bool), decides, neutral Filter) ([]Filter, bool) {
	var kept []Filter
	add := func(k Filter) {
		if !slices.ContainsFunc(kept, func(f Filter) bool { return Same(f, k) }) {
			kept = append(kept, k)
		}
	}
	for _, f := range fs {
		k := Simplify(f)
		if Same(k, decides) {
			return nil, true
		}
		if Same(k, neutral) {
			continue
		}
		if parts, ok := flatten(k); ok {
			for _, p := range parts {
				add(p)
			}
			continue
		}
		add(k)
	}
	return kept, false
}

// Same reports whether two filters are written the same way. Values are compared as Match compares them.
func Same(a, b Filter) bool {
	switch x := a.(type) {
	case And:
		y, ok := b.(And)
		return ok && slices.EqualFunc(x, y, Same)
	case Or:
		y, ok := b.(Or)
		return ok && slices.EqualFunc(x, y, Same)
	case Not:
		y, ok := b.(Not)
		return ok && Same(x.Of, y.Of)
	case Edge:
		y, ok := b.(Edge)
		return ok && x.Name == y.Name && Same(x.Of, y.Of)
	case Cmp:
		y, ok := b.(Cmp)
		return ok && x.Field == y.Field && x.Op == y.Op && sameValue(x.Value, y.Value)
	case In:
		y, ok := b.(In)
		return ok && x.Field == y.Field && slices.EqualFunc(x.Values, y.Values, sameValue)
	case True:
		_, ok := b.(True)
		return ok
	case False:
		_, ok := b.(False)
		return ok
	case IsNull:
		y, ok := b.(IsNull)
		return ok && x == y
	default:
		return a == nil && b == nil
	}
}

func sameValue(a, b any) bool { return a == nil && b == nil || Compare(a, Equal, b) }

// Match is what filters mean; storage must agree with it. An edge's rows are a []map[string]any under its name.
// It panics on a filter that Check refuses.
func Match(f Filter, row map[string]any) bool {
	switch x := f.(type) {
	case True:
		return true
	case False:
		return false
	case And:
		return !slices.ContainsFunc(x, func(k Filter) bool { return !Match(k, row) })
	case Or:
		return slices.ContainsFunc(x, func(k Filter) bool { return Match(k, row) })
	case Not:
		return !Match(x.Of, row)
	case IsNull:
		return plain(row[x.Field]) == nil
	case In:
		return slices.ContainsFunc(x.Values, func(v any) bool { return Compare(row[x.Field], Equal, v) })
	case Cmp:
		return Compare(row[x.Field], x.Op, x.Value)
	case Edge:
		rows, _ := row[x.Name].([]map[string]any)
		return slices.ContainsFunc(rows, func(r map[string]any) bool { return Match(x.Of, r) })
	default:
		panic(Check(f))
	}
}

// Compare compares two values. Numbers compare as numbers and times as instants; a value that prints itself
// (fmt.Stringer) compares as text. It is false when either is null or when they are of different kinds.
func Compare(a any, op Op, b any) bool {
	if x, ok := a.(string); ok { // the usual case, without allocating
		if y, ok := b.(string); ok {
			return compareText(x, op, y)
		}
	}
	a, b = plain(a), plain(b)
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return compareText(x, op, y)
		}
	case bool:
		y, ok := b.(bool)
		return ok && (op == Equal && x == y || op == NotEqual && x != y)
	case int64:
		switch y := b.(type) {
		case int64:
			return ordered(x, op, y)
		case float64:
			return ordered(float64(x), op, y)
		}
	case float64:
		switch y := b.(type) {
		case int64:
			return ordered(x, op, float64(y))
		case float64:
			return ordered(x, op, y)
		}
	case time.Time:
		if y, ok := b.(time.Time); ok {
			return ordered(x.Compare(y), op, 0)
		}
	}
	return false
}

func compareText(x string, op Op, y string) bool {
	if op == Prefix {
		return strings.HasPrefix(x, y)
	}
	return ordered(x, op, y)
}

func ordered[T int | int64 | float64 | string](x T, op Op, y T) bool {
	switch op {
	case Equal:
		return x == y
	case NotEqual:
		return x != y
	case Less:
		return x < y
	case LessOrEqual:
		return x <= y
	case Greater:
		return x > y
	case GreaterOrEqual:
		return x >= y
	default:
		return false
	}
}

// plain reduces a value to nil, string, bool, int64, float64 or time.Time; what it does not know it leaves.
func plain(v any) any {
	switch x := v.(type) {
	case nil, string, bool, int64, float64, time.Time:
		return v
	case int:
		return int64(x)
	}
	r := reflect.ValueOf(v)
	if r.Kind() == reflect.Pointer {
		if r.IsNil() {
			return nil
		}
		if _, prints := v.(fmt.Stringer); !prints || r.Elem().Type() == reflect.TypeFor[time.Time]() {
			return plain(r.Elem().Interface())
		}
	}
	if s, ok := v.(fmt.Stringer); ok {
		return s.String()
	}
	switch {
	case r.Kind() == reflect.String:
		return r.String()
	case r.Kind() == reflect.Bool:
		return r.Bool()
	case r.CanInt():
		return r.Int()
	case r.CanUint() && r.Uint() <= 1<<63-1:
		return int64(r.Uint()) //nolint:gosec // checked in the case
	case r.CanFloat():
		return r.Float()
	}
	return v
}
