package access_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/gid"
)

func external(config string) []authz.Config {
	return []authz.Config{{Name: "policy", Kind: access.Kind, Role: authz.Grant, Config: json.RawMessage(config)}}
}

func TestPoliciesMayNameExternalTypesOnceTheyAreConfigured(t *testing.T) {
	t.Parallel()
	tenant := gid.New(gid.Tenant)
	rules := fixed(append(casbin.DefaultRules(tenant.String()), // every default rule stays valid beside the external types
		casbin.Permission("user:alice", tenant.String(), "record", "read", "allow", "status == 'active' and owner == me"),
		casbin.Permission("user:alice", tenant.String(), "todo:item", "read", "allow", "any")))
	ask := func(control *access.Control, typ string, props map[string]any) bool {
		r := authz.Request{
			Tenant: tenant.String(), Subject: authz.Entity{Type: "user", ID: "alice"}, Action: authz.Read,
			Resource: authz.Entity{Type: typ, ID: "1", Props: props},
		}
		return control.Evaluate(t.Context(), []authz.Request{r})[0].Permitted()
	}
	control, err := access.New(rules, nil, external(`{"external": {"record": {"status": "string", "owner": "id"}, "todo:item": {}}}`)...)
	require.NoError(t, err)
	require.True(t, ask(control, "record", map[string]any{"status": "active", "owner": "alice"}))
	require.False(t, ask(control, "record", map[string]any{"status": "archived", "owner": "alice"}))
	require.False(t, ask(control, "record", map[string]any{"owner": "alice"}), "what is not given is not guessed")
	require.True(t, ask(control, "todo:item", nil))

	unconfigured, err := access.New(rules, nil)
	require.NoError(t, err)
	require.False(t, ask(unconfigured, "todo:item", nil), "an unknown type makes the policy invalid")
}

func TestExternalTypesThatWouldChangeTheMeaningOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	for config, says := range map[string]string{
		`{"external": {"Customer": {}}}`:                        "own",
		`{"external": {"Policy": {}}}`:                          "own",
		`{"external": {"a.b": {}}}`:                             "no name of a type",
		`{"external": {"*": {}}}`:                               "no name of a type",
		`{"external": {"": {}}}`:                                "no name of a type",
		`{"external": {"record": {"owner": "int"}}}`:            "owner is a id elsewhere",
		`{"external": {"a": {"x": "int"}, "b": {"x": "bool"}}}`: "x is a int elsewhere",
		`{"external": {"record": {"Status": "string"}}}`:        "no name of an attribute",
		`{"external": {"record": {"and": "string"}}}`:           "no name of an attribute",
		`{"external": {"record": {"a.b": "string"}}}`:           "no name of an attribute",
		`{"external": {"record": {"status": "text"}}}`:          "is none of",
		`{"external": {"record": {"status": "unknown"}}}`:       "is none of",
		`{"extern": {}}`:                                        "unknown field",
	} {
		_, err := access.New(fixed{}, nil, external(config)...)
		require.ErrorContains(t, err, says, config)
	}
}

func TestAttributesOfOneNameAreOfOneKind(t *testing.T) {
	t.Parallel()
	kinds := map[string]casbin.Kind{}
	for typ, attributes := range access.Vocabulary().Schema {
		for name, kind := range attributes {
			if known, ok := kinds[name]; ok {
				require.Equal(t, known, kind, "%s.%s: rules about every type could not use it", typ, name)
			}
			kinds[name] = kind
		}
	}
}
