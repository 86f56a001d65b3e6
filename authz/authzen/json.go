package authzen

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds how deep values may be nested, and with it the recursion that reads them.
const maxDepth = 64

// Parse reads one JSON value the way both ends of an AuthZEN exchange have to: what two parsers could read
// differently is refused. That is a key given twice, text that is not UTF-8, anything after the value. Keys are
// taken as they are spelled, where encoding/json would take "Decision" for "decision".
//
// Objects become map[string]any, arrays []any; numbers become int64 where they fit and float64 otherwise, so that
// policies compare them as numbers.
func Parse(text []byte) (any, error) {
	if !utf8.Valid(text) || !json.Valid(text) {
		return nil, errors.New("not valid JSON in UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := value(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	return v, nil
}

func value(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	switch t := t.(type) {
	case json.Delim:
		if depth++; depth > maxDepth {
			return nil, fmt.Errorf("nested deeper than %d", maxDepth)
		}
		if t == '{' {
			return object(d, depth)
		}
		return array(d, depth)
	case json.Number:
		return number(t)
	default:
		return t, nil
	}
}

func object(d *json.Decoder, depth int) (any, error) {
	out := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("reading JSON: %w", err)
		}
		key, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("%v is no key", t)
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("the key %q is given twice", key)
		}
		if out[key], err = value(d, depth); err != nil {
			return nil, err
		}
	}
	_, err := d.Token() // the closing brace
	return out, err
}

func array(d *json.Decoder, depth int) (any, error) {
	out := []any{}
	for d.More() {
		v, err := value(d, depth)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	_, err := d.Token() // the closing bracket
	return out, err
}

func number(n json.Number) (any, error) {
	if i, err := strconv.ParseInt(n.String(), 10, 64); err == nil {
		return i, nil
	}
	f, err := n.Float64()
	if err != nil {
		return nil, fmt.Errorf("the number %s is out of range", n)
	}
	return f, nil
}
