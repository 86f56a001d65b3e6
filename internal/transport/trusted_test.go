package transport_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/transport"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "documents.json")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func trusting(t *testing.T, only bool, list string) *handler.Server {
	t.Helper()
	documents := &transport.TrustedDocuments{Only: only}
	if list != "" {
		_, err := documents.Load(write(t, list))
		require.NoError(t, err)
	}
	return newServer(t, nil, func(s *handler.Server) { s.Use(documents) })
}

const (
	plainList  = `{"abc": "{name}", "change": "mutation{rename}"}`
	apolloList = `{"format": "apollo-persisted-query-manifest", "version": 1, "operations": [{"id": "abc", "name": "", "type": "query", "body": "{name}"}]}`
)

func TestARequestMayNameATrustedDocument(t *testing.T) {
	t.Parallel()
	for _, list := range []string{plainList, apolloList} {
		for _, only := range []bool{false, true} {
			server := trusting(t, only, list)
			for body, want := range map[string]any{
				`{"documentId": "abc"}`:                                                   nil,
				`{"doc_id": "abc", "variables": {}}`:                                      nil,
				`{"id": "abc", "variables": {}}`:                                          nil,
				`{"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "abc"}}}`: nil,
				`{"documentId": "abc", "query": "{name}"}`:                                nil,
				`{"documentId": "other"}`:                                                 "PERSISTED_QUERY_NOT_FOUND",
				`{"extensions": {"lethe.documentId": "abc"}}`:                             "BAD_USER_INPUT",
				`{"variables": {}}`:                                                       "BAD_USER_INPUT",
			} {
				got := send(t, server, post(body, ""))
				require.Equal(t, want, got.code(), "%s: %s", body, got.text)
			}
			got := send(t, server, httptest.NewRequest(http.MethodGet, "/graphql?documentId=abc", nil))
			require.Nil(t, got.code(), got.text)
			got = send(t, server, httptest.NewRequest(http.MethodGet, "/graphql?extensions="+url.QueryEscape(`{"persistedQuery":{"sha256Hash":"abc"}}`), nil))
			require.Nil(t, got.code(), got.text)
		}
	}
	got := send(t, trusting(t, false, plainList), httptest.NewRequest(http.MethodGet, "/graphql?documentId=change", nil))
	require.Equal(t, http.StatusMethodNotAllowed, got.status, "a link changes nothing")
}

func TestOtherDocumentsAreRefusedBeforeTheyAreParsedWhereOnlyTrustedOnesAreServed(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"query": "{name}"}`, `{"query": "{self{name}}"}`, `{"query": "{{{"}`, `{"documentId": "abc", "query": "{self{name}}"}`,
		`{"query": "{self{name}}", "extensions": {"persistedQuery": {"version": 1, "sha256Hash": "new"}}}`,
	} {
		got := send(t, trusting(t, true, plainList), post(body, ""))
		require.Equal(t, "DOCUMENT_NOT_TRUSTED", got.code(), "%s: %s", body, got.text)
	}
	open := trusting(t, false, plainList)
	require.Nil(t, send(t, open, post(`{"query": "{self{name}}", "extensions": {"persistedQuery": {"sha256Hash": "new"}}}`, "")).code())
	require.Equal(t, "PERSISTED_QUERY_NOT_FOUND", send(t, open, post(`{"extensions": {"persistedQuery": {"sha256Hash": "new"}}}`, "")).code(),
		"what was sent is not remembered")
	require.Equal(t, "PERSISTED_QUERY_NOT_SUPPORTED", send(t, trusting(t, false, ""), post(`{"documentId": "abc"}`, "")).code())
}

func TestTrustedDocumentsAreHeldToTheLimits(t *testing.T) {
	t.Parallel()
	server := trusting(t, true, `{"deep": "`+nest(40)+`"}`)
	require.Equal(t, "QUERY_LIMIT", send(t, server, post(`{"documentId": "deep"}`, "")).code())
}

func TestAListThatCannotBeReadLeavesTheOneThereIs(t *testing.T) {
	t.Parallel()
	documents := &transport.TrustedDocuments{Only: true}
	n, err := documents.Load(write(t, plainList))
	require.NoError(t, err)
	require.Equal(t, 2, n)
	for _, wrong := range []string{"", "[]", "{}", `{"a": 1}`, `{"": "{name}"}`, `{"a": ""}`, `{"format": "apollo-persisted-query-manifest", "operations": []}`} {
		_, err := documents.Load(write(t, wrong))
		require.Error(t, err, wrong)
	}
	server := newServer(t, nil, func(s *handler.Server) { s.Use(documents) })
	require.Nil(t, send(t, server, post(`{"documentId": "abc"}`, "")).code())
}
