package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// MaxFilter is how many bytes a filter that is kept may have.
const MaxFilter = 16 << 10

// whereInputs are ent's filters, by the type of record they select.
var whereInputs = func() map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for _, t := range ent.RecordTypes {
		out[t.Name] = reflect.TypeOf(t.Filter()).Elem()
	}
	return out
}()

// FilterOf lowers a where-input of ent's: a *ent.CustomerWhereInput filters customers.
// One that compares nothing has no Where: the pipeline refuses it, whoever asks.
func FilterOf(where any) (*Filter, error) {
	v := reflect.ValueOf(where)
	typ, _ := strings.CutSuffix(v.Type().Elem().Name(), "WhereInput")
	if whereInputs[typ] != v.Type().Elem() {
		return nil, fmt.Errorf("record: a filter by a %T", where)
	}
	if v.IsNil() {
		return nil, Refuse(lifecycle.BadUserInput, "must not be null", "select")
	}
	f := &Filter{Type: typ, Comparisons: comparisons(v.Elem()), searches: searches(v.Elem())}
	if f.Comparisons == 0 {
		return f, nil
	}
	answer := v.MethodByName("P").Call(nil)
	if err, _ := reflect.TypeAssert[error](answer[1]); err != nil {
		return nil, Refuse(lifecycle.InvalidFilter, "A part of the filter is empty, or a text in it too long.", "select")
	}
	var ok bool
	f.Where, ok = reflect.TypeAssert[func(*sql.Selector)](answer[0].Convert(reflect.TypeFor[func(*sql.Selector)]()))
	if !ok {
		return nil, fmt.Errorf("record: a filter of %T", answer[0].Interface())
	}
	return f, nil
}

// KeptFilter is FilterOf of a where-input that is to be kept: with its text, which
// is canonical and which ParseFilter reads.
func KeptFilter(where any) (*Filter, error) {
	v := reflect.ValueOf(where)
	if v.IsNil() {
		return nil, Refuse(lifecycle.BadUserInput, "must not be null", "filter")
	}
	// The JSON of an empty list is the same as of none, but it selects nothing.
	if path := emptyList(v.Elem()); path != "" {
		return nil, invalid(path, "is an empty list")
	}
	text, err := json.Marshal(where)
	if err != nil {
		return nil, fmt.Errorf("encoding a filter: %w", err)
	}
	return ParseFilter(strings.TrimSuffix(v.Type().Elem().Name(), "WhereInput"), text)
}

// ParseFilter reads a where-input of a type of record from JSON: by the names of
// the API, exactly, each once, without null and empty lists. Whatever is wrong is
// INVALID_FILTER, and a filter that compares nothing is.
func ParseFilter(typ string, text []byte) (*Filter, error) {
	t, ok := whereInputs[typ]
	switch {
	case !ok:
		return nil, Refuse(lifecycle.BadUserInput, "there is no such type", "type")
	case len(text) > MaxFilter:
		return nil, invalid("", fmt.Sprintf("is longer than %d bytes", MaxFilter))
	case !json.Valid(text):
		return nil, invalid("", "is no JSON")
	}
	where := reflect.New(t)
	if err := readWhere(where.Elem(), text, ""); err != nil {
		return nil, err
	}
	f, err := FilterOf(where.Interface())
	if refused, ok := errors.AsType[*Error](err); ok {
		return nil, invalid("", refused.Message)
	}
	if err != nil {
		return nil, err
	}
	if f.Comparisons == 0 {
		return nil, invalid("", "compares nothing and would select everything")
	}
	f.own = comparesOwn(where.Elem())
	if f.Text, err = json.Marshal(where.Interface()); err != nil {
		return nil, fmt.Errorf("encoding a filter: %w", err)
	}
	return f, nil
}

func invalid(path, message string) *Error {
	if path != "" {
		message = path + " " + message
	}
	return Refuse(lifecycle.InvalidFilter, message, "filter")
}

// readWhere fills a where-input from a JSON object that is well-formed.
func readWhere(where reflect.Value, text []byte, path string) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return invalid(path, "is no object")
	}
	seen := map[string]bool{}
	for decoder.More() {
		key, err := decoder.Token()
		name, _ := key.(string)
		if err != nil {
			return invalid(path, "cannot be read")
		}
		at := strings.TrimPrefix(path+"."+name, ".")
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return invalid(at, "cannot be read")
		}
		field := fieldNamed(where, name)
		switch {
		case !field.IsValid():
			return invalid(at, "is no field of the filter")
		case seen[name]:
			return invalid(at, "is given twice")
		case string(value) == "null":
			return invalid(at, "must not be null")
		}
		seen[name] = true
		if err := readField(field, value, at); err != nil {
			return err
		}
	}
	return nil
}

func fieldNamed(where reflect.Value, name string) reflect.Value {
	for i := range where.NumField() {
		if tag, _, _ := strings.Cut(where.Type().Field(i).Tag.Get("json"), ","); tag == name && tag != "-" {
			return where.Field(i)
		}
	}
	return reflect.Value{}
}

// readField reads what a comparison compares with, a list of that, or what is
// nested.
func readField(field reflect.Value, value []byte, path string) error {
	switch t := field.Type(); t.Kind() {
	case reflect.Pointer:
		to := reflect.New(t.Elem())
		field.Set(to)
		if isWhereInput(t.Elem()) {
			return readWhere(to.Elem(), value, path)
		}
		return readLeaf(to, value, path)
	case reflect.Slice:
		var list []json.RawMessage
		if err := json.Unmarshal(value, &list); err != nil || len(list) == 0 {
			return invalid(path, "must be a list that is not empty")
		}
		field.Set(reflect.MakeSlice(t, len(list), len(list)))
		for i, element := range list {
			to := field.Index(i).Addr()
			if string(element) == "null" {
				return invalid(path, "must not hold null")
			}
			if t.Elem().Kind() == reflect.Pointer {
				if err := readField(to.Elem(), element, path); err != nil {
					return err
				}
				continue
			}
			if err := readLeaf(to, element, path); err != nil {
				return err
			}
		}
		return nil
	}
	return readLeaf(field.Addr(), value, path)
}

// readLeaf reads one value into what to points to. An id or a constant reads as
// it does in the API.
func readLeaf(to reflect.Value, value []byte, path string) error {
	var err error
	if api, ok := reflect.TypeAssert[interface{ UnmarshalGQL(v any) error }](to); ok {
		var plain any
		if err = json.Unmarshal(value, &plain); err == nil {
			err = api.UnmarshalGQL(plain)
		}
	} else {
		err = json.Unmarshal(value, to.Interface())
	}
	if err != nil {
		return invalid(path, "has no such value")
	}
	if s := to.Elem(); s.Kind() == reflect.String && !storable(s.String()) {
		return invalid(path, unstorable)
	}
	return nil
}

// comparesOwn reports whether a where-input compares fields of the records alone,
// and nothing of what they refer to or is referred to by.
func comparesOwn(where reflect.Value) bool {
	for i := range where.NumField() {
		f := where.Field(i)
		switch name := where.Type().Field(i).Name; {
		case f.IsZero():
		case name == "Not":
			if !comparesOwn(f.Elem()) {
				return false
			}
		case name == "Or" || name == "And":
			for j := range f.Len() {
				if !comparesOwn(f.Index(j).Elem()) {
					return false
				}
			}
		case strings.HasPrefix(name, "Has"):
			return false
		}
	}
	return true
}

// searches reports whether a where-input finds records by their words, those that it
// selects or others that these refer to.
func searches(where reflect.Value) bool {
	for i := range where.NumField() {
		f := where.Field(i)
		switch {
		case f.IsZero():
		case where.Type().Field(i).Name == "Search":
			return true
		case f.Kind() == reflect.Pointer && isWhereInput(f.Type().Elem()):
			if searches(f.Elem()) {
				return true
			}
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Pointer && isWhereInput(f.Type().Elem().Elem()):
			for j := range f.Len() {
				if !f.Index(j).IsNil() && searches(f.Index(j).Elem()) {
					return true
				}
			}
		}
	}
	return false
}

// emptyList names a list in a where-input that has nothing in it.
func emptyList(where reflect.Value) string {
	for i := range where.NumField() {
		f := where.Field(i)
		name, _, _ := strings.Cut(where.Type().Field(i).Tag.Get("json"), ",")
		switch {
		case name == "-" || f.IsZero():
		case f.Kind() == reflect.Slice && f.Len() == 0:
			return name
		case f.Kind() == reflect.Pointer && isWhereInput(f.Type().Elem()):
			if in := emptyList(f.Elem()); in != "" {
				return name + "." + in
			}
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Pointer:
			for j := range f.Len() {
				if f.Index(j).IsNil() {
					return name
				}
				if in := emptyList(f.Index(j).Elem()); in != "" {
					return name + "." + in
				}
			}
		}
	}
	return ""
}

// comparisons counts what a where-input compares: leaves that are set, anywhere
// in it. An empty list is none.
func comparisons(where reflect.Value) int {
	n := 0
	for i := range where.NumField() {
		f := where.Field(i)
		switch {
		case where.Type().Field(i).Tag.Get("json") == "-" || f.IsZero():
		case f.Kind() == reflect.Pointer && isWhereInput(f.Type().Elem()):
			n += comparisons(f.Elem())
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Pointer && isWhereInput(f.Type().Elem().Elem()):
			for j := range f.Len() {
				in := 0
				if !f.Index(j).IsNil() {
					in = comparisons(f.Index(j).Elem())
				}
				if in == 0 && where.Type().Field(i).Name == "Or" {
					return 0 // one branch that compares nothing lets everything through
				}
				n += in
			}
		case f.Kind() == reflect.Slice && f.Len() == 0:
		case f.Kind() == reflect.Pointer && f.Elem().Kind() == reflect.String && f.Elem().Len() == 0 && isPattern(where.Type().Field(i).Name):
		default:
			n++
		}
	}
	return n
}

// isPattern reports whether a comparison looks for a part of a text: every text
// contains the empty one.
func isPattern(name string) bool {
	return strings.HasSuffix(name, "Contains") || strings.HasSuffix(name, "HasPrefix") || strings.HasSuffix(name, "HasSuffix")
}

func isWhereInput(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && strings.HasSuffix(t.Name(), "WhereInput")
}
