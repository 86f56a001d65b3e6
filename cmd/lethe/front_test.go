package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheFrontOfRequestsIsConfiguredByFlags(t *testing.T) {
	each(t, func(p place) {
		documents := filepath.Join(p.TempDir(), "documents.json")
		require.NoError(p, os.WriteFile(documents, []byte(`{"who": "{ viewer { user { email } } }"}`), 0o600))
		address, _, _ := p.serve("--migrate", "--trusted-documents", documents, "--trusted-documents-only", "--rate-limit", "0.001:3",
			"--trusted-proxies", "10.0.0.0/8,fd00::/8", "--limits", "depth=2,cost=10", "--timeout", "5s")
		token := strings.TrimSpace(p.does("token", "create", "--tenant", "default", "--user", "admin@localhost"))
		_, body := ask(p.T, http.DefaultClient, address, token, `{ viewer { user { email } } }`)
		require.Contains(p, body, "DOCUMENT_NOT_TRUSTED")
		get := func(path string) int {
			r, err := http.NewRequestWithContext(p.Context(), http.MethodGet, address+path, nil)
			require.NoError(p, err)
			r.Header.Set("Authorization", "Bearer "+token)
			r.Header.Set("Accept", "application/graphql-response+json")
			res, err := http.DefaultClient.Do(r)
			require.NoError(p, err)
			defer res.Body.Close()
			return res.StatusCode
		}
		require.Equal(p, http.StatusBadRequest, get("/graphql?documentId=who"), "it is three deep")
		require.Equal(p, http.StatusOK, get("/schema.graphql"))
		require.Equal(p, http.StatusTooManyRequests, get("/graphql?documentId=who"))
	})
}

func TestFlagsOfTheFrontThatMakeNoSenseAreMisuse(t *testing.T) {
	each(t, func(p place) {
		for _, args := range [][]string{
			{"--trusted-documents-only"}, {"--rate-limit", "many"}, {"--limits", "deep=1"}, {"--trusted-proxies", "10.0.0.0/99"}, {"--timeout", "soon"},
		} {
			status, _, said := p.lethe(append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
			require.Equal(p, misuse, status, "%v: %s", args, said)
		}
	})
}
