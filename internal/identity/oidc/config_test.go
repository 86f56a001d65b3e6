package oidc_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/identity/oidc"
)

func read(t *testing.T, text string) ([]oidc.Issuer, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "oidc.json")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return oidc.Read(path)
}

func TestWhatIsLeftOutIsSafe(t *testing.T) {
	t.Parallel()
	issuers, err := read(t, `[
		{"issuer": "https://login.example.com/realms/crm", "audience": "lethe", "tenant": "acme"},
		{"issuer": "http://127.0.0.1:8081", "audience": "lethe", "tenant_claim": "org", "user_claim": "sub", "algorithms": ["EdDSA"]}
	]`)
	require.NoError(t, err)
	require.Equal(t, []oidc.Issuer{
		{URL: "https://login.example.com/realms/crm", Audience: "lethe", Algorithms: []jose.SignatureAlgorithm{jose.RS256, jose.ES256}, Tenant: "acme", UserClaim: "email"},
		{URL: "http://127.0.0.1:8081", Audience: "lethe", Algorithms: []jose.SignatureAlgorithm{jose.EdDSA}, TenantClaim: "org", UserClaim: "sub"},
	}, issuers)
}

func TestIssuersThatCannotBeTrustedAreRefused(t *testing.T) {
	t.Parallel()
	const good = `{"issuer": "https://a.example", "audience": "lethe", "tenant": "acme"}`
	_, err := read(t, `[`+good+`]`)
	require.NoError(t, err)
	for name, test := range map[string]struct{ text, says string }{
		"no JSON":               {`issuers:`, "invalid"},
		"no list":               {good, "cannot unmarshal"},
		"more than one value":   {`[` + good + `] []`, "more than one"},
		"nobody":                {`[]`, "no issuers"},
		"an unknown key":        {`[{"issuer": "https://a.example", "audiences": ["lethe"], "tenant": "acme"}]`, "audiences"},
		"no URL":                {`[{"audience": "lethe", "tenant": "acme"}]`, "issuer"},
		"no scheme":             {`[{"issuer": "a.example", "audience": "lethe", "tenant": "acme"}]`, "issuer"},
		"plain HTTP":            {`[{"issuer": "http://a.example", "audience": "lethe", "tenant": "acme"}]`, "https"},
		"something like a loop": {`[{"issuer": "http://localhost.example", "audience": "lethe", "tenant": "acme"}]`, "https"},
		"a password":            {`[{"issuer": "https://me:you@a.example", "audience": "lethe", "tenant": "acme"}]`, "URL"},
		"a query":               {`[{"issuer": "https://a.example?x", "audience": "lethe", "tenant": "acme"}]`, "URL"},
		"no audience":           {`[{"issuer": "https://a.example", "tenant": "acme"}]`, "audience"},
		"no tenant":             {`[{"issuer": "https://a.example", "audience": "lethe"}]`, "tenant"},
		"two tenants":           {`[{"issuer": "https://a.example", "audience": "lethe", "tenant": "acme", "tenant_claim": "org"}]`, "tenant"},
		"no algorithm":          {`[{"issuer": "https://a.example", "audience": "lethe", "tenant": "acme", "algorithms": []}]`, "algorithms"},
		"no signature":          {`[{"issuer": "https://a.example", "audience": "lethe", "tenant": "acme", "algorithms": ["RS256", "none"]}]`, "none"},
		"a shared secret":       {`[{"issuer": "https://a.example", "audience": "lethe", "tenant": "acme", "algorithms": ["HS256"]}]`, "HS256"},
		"one twice":             {`[` + good + `, ` + good + `]`, "twice"},
		"two meanings of a subject": {`[{"issuer": "https://a.example", "audience": "lethe", "tenant": "acme", "user_claim": "sub"},
			{"issuer": "https://b.example", "audience": "lethe", "tenant_claim": "org", "user_claim": "oid"}]`, "one subject"},
	} {
		issuers, err := read(t, test.text)
		require.ErrorContains(t, err, test.says, name)
		require.Nil(t, issuers, name)
	}
	_, err = oidc.Read(filepath.Join(t.TempDir(), "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
