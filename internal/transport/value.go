package transport

import (
	"encoding/json"
	"reflect"
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"
)

// list returns the elements of a variable's list. Most are []any; gqlparser
// makes a typed slice, such as []map[string]any, of a single value given where
// a list is declared.
func list(value any) ([]any, bool) {
	switch typed := value.(type) {
	case []any:
		return typed, true
	case nil, string, bool, json.Number, map[string]any:
		return nil, false
	}
	slice := reflect.ValueOf(value)
	if slice.Kind() != reflect.Slice {
		return nil, false
	}
	elements := make([]any, slice.Len())
	for i := range elements {
		elements[i] = slice.Index(i).Interface()
	}
	return elements, true
}

// elementType is the type of a list's elements, and the type itself where a
// value is nested deeper than declared, which coercion brings about.
func elementType(t *ast.Type) *ast.Type {
	if t != nil && t.Elem != nil {
		return t.Elem
	}
	return t
}

// inputObject is the definition of the input object that t names, also as a
// list of it; nil for every other type.
func inputObject(schema *ast.Schema, t *ast.Type) *ast.Definition {
	if t == nil {
		return nil
	}
	if definition := schema.Types[t.Name()]; definition != nil && definition.Kind == ast.InputObject {
		return definition
	}
	return nil
}

// integer reads a variable of type Int, which may be what JSON, gqlparser's
// coercion or gqlgen's own leniency towards strings makes of it. ok is false
// for what is no integer or too large to be one.
func integer(value any) (n int64, ok bool) {
	var err error
	switch typed := value.(type) {
	case int64:
		return typed, true
	case int:
		return int64(typed), true
	case int32:
		return int64(typed), true
	case float64:
		return int64(typed), typed == float64(int64(typed))
	case json.Number:
		n, err = typed.Int64()
	case string:
		n, err = strconv.ParseInt(typed, 10, 64)
	default:
		return 0, false
	}
	return n, err == nil
}
