package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/errcode"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// Codes of requests about trusted documents. Apollo and urql know the first two:
// after the second they send the text instead.
const (
	CodeDocumentNotFound     = "PERSISTED_QUERY_NOT_FOUND"
	CodeDocumentNotSupported = "PERSISTED_QUERY_NOT_SUPPORTED"
	CodeDocumentNotTrusted   = "DOCUMENT_NOT_TRUSTED"
)

func init() {
	for _, code := range []string{CodeDocumentNotFound, CodeDocumentNotSupported, CodeDocumentNotTrusted} {
		errcode.RegisterErrorType(code, errcode.KindProtocol)
	}
}

// documentKey is where the id of a document is among the extensions of a
// request. No client sends it: a request's own extension of that name is dropped.
const documentKey = "lethe.documentId"

// maxDocumentID is in bytes; a SHA-256 in hex has 64.
const maxDocumentID = 256

// TrustedDocuments is an extension by which requests name a document of a list
// instead of sending it. There is no way to add to the list by a request.
type TrustedDocuments struct {
	// Only refuses every other document, before it is parsed.
	Only bool

	byID atomic.Pointer[map[string]string]
}

var _ graphql.OperationParameterMutator = (*TrustedDocuments)(nil)

// Load reads the list from a file: a JSON object of ids and documents, as
// relay-compiler and the client preset of graphql-codegen write it, or Apollo's
// manifest of operations. A file that is not right leaves the list there is.
func (d *TrustedDocuments) Load(path string) (documents int, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("reading trusted documents: %w", err)
	}
	byID, err := parseDocuments(text)
	if err != nil {
		return 0, fmt.Errorf("reading trusted documents from %s: %w", path, err)
	}
	d.byID.Store(&byID)
	return len(byID), nil
}

func parseDocuments(text []byte) (map[string]string, error) {
	byID := map[string]string{}
	var manifest struct {
		Format     string `json:"format"`
		Operations []struct {
			ID   string `json:"id"`
			Body string `json:"body"`
		} `json:"operations"`
	}
	if err := json.Unmarshal(text, &manifest); err == nil && manifest.Format == "apollo-persisted-query-manifest" {
		for _, operation := range manifest.Operations {
			byID[operation.ID] = operation.Body
		}
	} else if err := json.Unmarshal(text, &byID); err != nil {
		return nil, errors.New("it is neither a JSON object of ids and documents nor an Apollo manifest of version 1")
	}
	if len(byID) == 0 {
		return nil, errors.New("it has no documents")
	}
	for id, document := range byID {
		if id == "" || len(id) > maxDocumentID || document == "" {
			return nil, fmt.Errorf("the document %q is empty, or its id is, or is longer than %d bytes", clip(id, maxElement), maxDocumentID)
		}
	}
	return byID, nil
}

// ExtensionName implements graphql.HandlerExtension.
func (*TrustedDocuments) ExtensionName() string { return "TrustedDocuments" }

// Validate implements graphql.HandlerExtension.
func (*TrustedDocuments) Validate(graphql.ExecutableSchema) error { return nil }

// MutateOperationParameters implements graphql.OperationParameterMutator.
func (d *TrustedDocuments) MutateOperationParameters(_ context.Context, params *graphql.RawParams) *gqlerror.Error {
	id := documentID(params)
	delete(params.Extensions, documentKey)
	var document string
	known := false
	if byID := d.byID.Load(); byID != nil {
		document, known = (*byID)[id]
	} else if id != "" && params.Query == "" {
		return refuse(CodeDocumentNotSupported, nil, "PersistedQueryNotSupported") // the words that clients look for
	}
	switch {
	case params.Query == "" && known:
		params.Query = document
	case params.Query == "" && id != "":
		return refuse(CodeDocumentNotFound, nil, "PersistedQueryNotFound")
	case params.Query == "":
		return refuse(codeBadUserInput, nil, "%s", faultNoQuery.message)
	case d.Only && (!known || params.Query != document):
		return refuse(CodeDocumentNotTrusted, nil, "Only documents of the server's list are served; name one by its documentId.")
	}
	return nil
}

// documentID is the id of the document that a request names: documentId, as the
// draft of GraphQL over HTTP has it; doc_id or id, as Relay's network layers send
// it; or extensions.persistedQuery.sha256Hash, as Apollo and urql do.
func documentID(params *graphql.RawParams) string {
	if id, ok := params.Extensions[documentKey].(string); ok {
		return id
	}
	persisted, _ := params.Extensions["persistedQuery"].(map[string]any)
	id, _ := persisted["sha256Hash"].(string)
	return id
}

// named notes the id of a document that a request names outside of its extensions.
func named(params *graphql.RawParams, ids ...string) {
	delete(params.Extensions, documentKey)
	for _, id := range ids {
		if id == "" {
			continue
		}
		if params.Extensions == nil {
			params.Extensions = map[string]any{}
		}
		params.Extensions[documentKey] = id
		return
	}
}
