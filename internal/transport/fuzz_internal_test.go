package transport

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// FuzzBody gives the server whatever there is for a body: what is read of one is what encoding/json reads of it.
func FuzzBody(f *testing.F) {
	for _, body := range []string{
		`{"query":"{name}"}`, ` {"query":"{name}","variables":{"a":[1,{"b":null}]},"operationName":null,"extensions":{}} `,
		`{"Query":"{name}"}`, `{"query":"a","query":"b"}`, `[{"query":"{name}"}]`, `{"query":"{name}"} x`, `{"query":1}`,
		`{"query":"` + "\xff" + `"}`, `{"query":"\ud800"}`, `{"query`, ``, `null`, `{"\u0071uery":"{name}"}`, `{"variables":{"a":1e999}}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		params, problem := decodeBody(body)
		if problem != nil {
			if problem.status < 400 || problem.status >= 500 || problem.message == "" || params != nil {
				t.Fatalf("%q: %+v", body, problem)
			}
			return
		}
		var keys map[string]json.RawMessage
		if !utf8.Valid(body) || json.Unmarshal(body, &keys) != nil {
			t.Fatalf("%q is taken and is no object", body)
		}
		var query string
		if err := json.Unmarshal(keys["query"], &query); err != nil || query != params.Query {
			t.Fatalf("%q: %q is read for %q", body, params.Query, query)
		}
		if len(params.OperationName) > maxOperationName {
			t.Fatalf("a name of %d bytes is taken", len(params.OperationName))
		}
		var variables map[string]any
		decoder := json.NewDecoder(bytes.NewReader(keys["variables"]))
		if len(keys["variables"]) > 0 && (decodeNumbers(decoder, &variables) != nil || len(variables) != len(params.Variables)) {
			t.Fatalf("%q: other variables are read", body)
		}
	})
}

// decodeNumbers keeps numbers as they are: one that no float64 holds is no error.
func decodeNumbers(decoder *json.Decoder, into any) error {
	decoder.UseNumber()
	return decoder.Decode(into)
}
