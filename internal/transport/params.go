package transport

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/99designs/gqlgen/graphql"
)

// maxOperationName is in bytes. Names are echoed in errors and logs.
const maxOperationName = 256

// fault is why no operation could be taken from a request.
type fault struct {
	// status is the HTTP status, draft the one of the 2026 draft, which tells
	// what cannot be parsed from what is parsed and wrong.
	status, draft int
	code, message string
}

func unparsable(message string) *fault {
	return &fault{http.StatusBadRequest, http.StatusBadRequest, codeBadUserInput, message}
}

func wrong(format string, args ...any) *fault {
	return &fault{http.StatusBadRequest, http.StatusUnprocessableEntity, codeBadUserInput, fmt.Sprintf(format, args...)}
}

var (
	faultTooLarge = &fault{
		http.StatusRequestEntityTooLarge, http.StatusRequestEntityTooLarge,
		CodeQueryLimit, "The request body is too large.",
	}
	faultUnread  = unparsable("The request could not be read.")
	faultNotUTF8 = unparsable("The request is not valid UTF-8.")
	faultNotJSON = unparsable("The request is not one JSON object.")
	faultBatch   = wrong("Batches are not supported: send one operation a request.")
	faultNoQuery = wrong("The request has no query.")
	faultRepeat  = wrong("A key of the request comes twice.")
	faultName    = wrong("The operationName is longer than %d bytes.", maxOperationName)
)

// decodeBody reads the parameters of a POST. Keys are matched exactly and may
// come once, unlike encoding/json's own matching, so that no two readers of
// one body (a proxy's rules and this server) can take different operations
// from it. Unknown keys are ignored, as the specification asks.
func decodeBody(body []byte) (*graphql.RawParams, *fault) {
	if !utf8.Valid(body) {
		return nil, faultNotUTF8
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	switch open, err := decoder.Token(); {
	case err == nil && open == json.Delim('['):
		return nil, faultBatch
	case err != nil || open != json.Delim('{'):
		return nil, faultNotJSON
	}

	var params graphql.RawParams
	var query, operationName, documentID, docID, id *string
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, faultNotJSON
		}
		key, _ := token.(string)
		if seen[key] {
			return nil, faultRepeat
		}
		seen[key] = true

		switch key {
		case "query":
			err = decoder.Decode(&query)
		case "operationName":
			err = decoder.Decode(&operationName)
		case "documentId":
			err = decoder.Decode(&documentID)
		case "doc_id":
			err = decoder.Decode(&docID)
		case "id":
			var raw json.RawMessage // of another type it may be a client's own
			if err = decoder.Decode(&raw); err == nil && json.Unmarshal(raw, &id) != nil {
				id = nil
			}
		case "variables":
			err = decoder.Decode(&params.Variables)
		case "extensions":
			err = decoder.Decode(&params.Extensions)
		default:
			err = decoder.Decode(new(json.RawMessage))
		}
		var wrongType *json.UnmarshalTypeError
		switch {
		case errors.As(err, &wrongType):
			return nil, wrong("The %s of the request has the wrong type.", key)
		case err != nil:
			return nil, faultNotJSON
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, faultNotJSON
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, faultNotJSON
	}
	if query != nil {
		params.Query = *query
	}
	if operationName != nil {
		params.OperationName = *operationName
	}
	named(&params, text(documentID), text(docID), text(id))
	return checkParams(&params)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// decodeURL reads the parameters of a GET.
func decodeURL(rawQuery string) (*graphql.RawParams, *fault) {
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, unparsable("The URL's query is malformed.")
	}
	var params graphql.RawParams
	var documentID, docID, id string
	for key, into := range map[string]func(string) error{
		"query":         func(s string) error { params.Query = s; return nil },
		"operationName": func(s string) error { params.OperationName = s; return nil },
		"documentId":    func(s string) error { documentID = s; return nil },
		"doc_id":        func(s string) error { docID = s; return nil },
		"id":            func(s string) error { id = s; return nil },
		"variables":     func(s string) error { return decodeMap(s, &params.Variables) },
		"extensions":    func(s string) error { return decodeMap(s, &params.Extensions) },
	} {
		switch value := values[key]; {
		case len(value) > 1:
			return nil, wrong("The parameter %s comes twice.", key)
		case len(value) == 0 || value[0] == "":
		case !utf8.ValidString(value[0]):
			return nil, faultNotUTF8
		case into(value[0]) != nil:
			return nil, wrong("The parameter %s is not one JSON object.", key)
		}
	}
	named(&params, documentID, docID, id)
	return checkParams(&params)
}

func decodeMap(text string, into *map[string]any) error {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON document")
	}
	return nil
}

func checkParams(params *graphql.RawParams) (*graphql.RawParams, *fault) {
	switch {
	case params.Query == "" && documentID(params) == "":
		return nil, faultNoQuery
	case len(params.OperationName) > maxOperationName:
		return nil, faultName
	}
	return params, nil
}
