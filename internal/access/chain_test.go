package access_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
	_ "github.com/lethe-crm/lethe/authz/authzen"
	"github.com/lethe-crm/lethe/authz/casbin"
	_ "github.com/lethe-crm/lethe/authz/officehours"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
)

type fixed []casbin.Rule

func (fixed) Head(context.Context, string) (uint64, error) { return 1, nil }

func (f fixed) Load(context.Context, string) (uint64, []casbin.Rule, error) { return 1, f, nil }

func chain(t *testing.T, text string) ([]authz.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "authz.json")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return access.ReadChain(path)
}

func TestAPluginOfTheConfigurationVetoesWhatThePolicyAllows(t *testing.T) {
	t.Parallel()
	tenant, user := gid.New(gid.Tenant), gid.New(gid.User)
	rules := append(fixed(casbin.DefaultRules(tenant.String())), casbin.Grant(casbin.UserSubject(user.String()), casbin.RoleSubject("admin"), tenant.String()))
	members, err := chain(t, fmt.Sprintf(`[
		{"name": "policy", "kind": "casbin", "role": "grant"},
		{"name": "hours", "kind": "officehours", "role": "veto",
		 "config": {"zone": "UTC", "days": [%d], "from": 0, "to": 24, "actions": ["delete"]}}
	]`, (time.Now().UTC().Weekday()+3)%7))
	require.NoError(t, err)
	control, err := access.New(rules, nil, members...)
	require.NoError(t, err)
	a := &actor.Actor{Kind: actor.Token, Tenant: tenant, User: user}
	may := func(action authz.Action) bool {
		return control.May(t.Context(), a, access.Question{Action: action, Type: "Customer", ID: gid.New(gid.Customer)})
	}
	require.True(t, may(authz.Update))
	require.False(t, may(authz.Delete), "the office is closed")
}

func TestAChainThatCannotBeTrustedIsRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no JSON":              `members: []`,
		"nobody":               `[]`,
		"an unknown field":     `[{"name": "a", "kind": "casbin", "role": "grant", "onerror": "skip"}]`,
		"an unknown kind":      `[{"name": "a", "kind": "casbin", "role": "grant"}, {"name": "b", "kind": "nobody"}]`,
		"no policy":            `[{"name": "a", "kind": "officehours", "role": "grant", "config": {"zone": "UTC", "days": [1], "to": 24, "actions": ["delete"]}}]`,
		"a policy that vetoes": `[{"name": "a", "kind": "casbin", "role": "veto"}]`,
		"a skipped policy":     `[{"name": "a", "kind": "casbin", "role": "grant", "on_error": "skip"}]`,
		"two policies":         `[{"name": "a", "kind": "casbin", "role": "grant"}, {"name": "b", "kind": "casbin", "role": "grant"}]`,
		"bad configuration":    `[{"name": "a", "kind": "casbin", "role": "grant"}, {"name": "b", "kind": "officehours", "config": {"zone": "UTC"}}]`,
	} {
		members, err := chain(t, text)
		if err == nil {
			_, err = access.New(fixed{}, nil, members...)
		}
		require.Error(t, err, name)
	}
}

type panics struct{}

func (panics) Decide(context.Context, []authz.Request) ([]authz.Decision, error) { panic("oops") }

func init() {
	authz.Register("panics", func(context.Context, string, json.RawMessage) (authz.Plugin, error) { return panics{}, nil })
}

func TestAFailingPluginDeniesWhatThePolicyAllowsAndSaysThatItFailed(t *testing.T) {
	t.Parallel()
	tenant, user := gid.New(gid.Tenant), gid.New(gid.User)
	rules := append(fixed(casbin.DefaultRules(tenant.String())), casbin.Grant(casbin.UserSubject(user.String()), casbin.RoleSubject("admin"), tenant.String()))
	a := &actor.Actor{Kind: actor.Token, Tenant: tenant, User: user}
	pdp := func(answer string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, answer)
		}))
		t.Cleanup(server.Close)
		return fmt.Sprintf(`"kind": "authzen", "config": {"url": %q}`, server.URL)
	}
	for name, c := range map[string]struct {
		member              string
		permit, unavailable bool
	}{
		"a yes":              {pdp(`{"decision": true}`), true, false},
		"a no":               {pdp(`{"decision": false}`), false, false},
		"a yes in quotes":    {pdp(`{"decision": "true"}`), false, true},
		"an empty answer":    {pdp(`{}`), false, true},
		"nobody there":       {`"kind": "authzen", "config": {"url": "http://127.0.0.1:1"}`, false, true},
		"a panic":            {`"kind": "panics"`, false, true},
		"a panic, skipped":   {`"kind": "panics", "on_error": "skip"`, true, false},
		"skipped, and a no":  {`"kind": "panics", "on_error": "skip"}, {"name": "no", ` + pdp(`{"decision": false}`), false, false},
		"a failure, skipped": {pdp(`{}`) + `, "on_error": "skip"`, true, false},
	} {
		for _, role := range []string{"grant", "veto"} {
			t.Run(name+"/"+role, func(t *testing.T) {
				t.Parallel()
				members, err := chain(t, fmt.Sprintf(`[{"name": "policy", "kind": "casbin", "role": "grant"}, {"name": "other", "role": %q, %s}]`, role, c.member))
				require.NoError(t, err)
				control, err := access.New(rules, nil, members...)
				require.NoError(t, err)
				d := control.Decide(t.Context(), a, []access.Question{{Action: authz.Update, Type: "Customer", ID: gid.New(gid.Customer)}})
				require.Equal(t, c.permit, d[0].Permit)
				require.Equal(t, c.unavailable, d[0].Unavailable)
			})
		}
	}
}
