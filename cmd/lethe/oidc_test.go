package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"
)

func TestIssuersAreReadBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, "oidc.json")
	require.NoError(t, os.WriteFile(path, []byte(`[{"issuer": "http://login.example.com", "audience": "lethe", "tenant": "acme"}]`), 0o600))
	data := filepath.Join(folder, "data")
	status, _, said := lethe(t.Context(), "serve", "--data", data, "--oidc", path)
	require.Equal(t, failed, status)
	require.Contains(t, said, "https")
	require.NoDirExists(t, data)
}

func TestServeTakesTheTokensOfIssuers(t *testing.T) {
	each(t, func(p place) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(p, err)
		mux := http.NewServeMux()
		issuer := httptest.NewServer(mux)
		p.Cleanup(issuer.Close)
		mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": %q}`, issuer.URL, issuer.URL+"/keys")
		})
		mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{KeyID: "1", Key: key.Public()}}})
		})
		path := filepath.Join(p.TempDir(), "oidc.json")
		require.NoError(p, os.WriteFile(path, fmt.Appendf(nil, `[{"issuer": %q, "audience": "lethe", "tenant": "default"}]`, issuer.URL), 0o600))
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
		require.NoError(p, err)
		token, err := jwt.Signed(signer).Claims(map[string]any{
			"iss": issuer.URL, "aud": "lethe", "exp": time.Now().Add(time.Hour).Unix(), "email": "admin@localhost", "email_verified": true,
		}).Serialize()
		require.NoError(p, err)

		for flag, want := range map[string]string{path: "admin@localhost", "": "UNAUTHENTICATED"} {
			args := []string{"--migrate"}
			if flag != "" {
				args = append(args, "--oidc", flag)
			}
			address, _, stop := p.serve(args...)
			_, body := ask(p.T, http.DefaultClient, address, token, `{ viewer { user { email } } }`)
			require.Contains(p, body, want)
			require.Equal(p, done, stop())
		}
	})
}
