package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestThePageOfFlagsIsWhatTheProgramTakes(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/configuration.md")
	require.NoError(t, err)
	status, out, problem := lethe(t.Context(), "configuration")
	require.Equal(t, done, status, problem)
	require.Equal(t, string(page), out, `docs/configuration.md is not what "go generate ./..." writes`)
}

func TestAServerIsAskedWhetherItIsHealthy(t *testing.T) {
	t.Parallel()
	asked := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path
		if asked == "/readyz" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	address := server.Listener.Addr().String()
	status, out, problem := lethe(t.Context(), "healthy", "--listen", address)
	require.Equal(t, done, status, problem)
	require.Equal(t, "ok\n", out)
	require.Equal(t, "/healthz", asked)
	_, port, _ := strings.Cut(address, ":")
	status, _, problem = lethe(t.Context(), "healthy", "--listen", "0.0.0.0:"+port, "--ready")
	require.Equal(t, failed, status)
	require.Contains(t, problem, "503")
	status, _, _ = lethe(t.Context(), "healthy", "--listen", "nonsense")
	require.Equal(t, misuse, status)
}
