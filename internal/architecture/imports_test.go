// Package architecture tests what no single package can: which package may
// import which.
package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/lethe-crm/lethe"

// layer is a part of the tree and what of ours its packages import. A package
// belongs to the row with the longest matching path; a path that ends in a
// slash means what is below only. Packages of one row may import each other.
type layer struct {
	path string
	may  []string
	why  string
}

const (
	anything = "anything"
	// others are the packages without a row: helpers with a subject of their
	// own, which stay away from the upper layers.
	others = "others"
)

var (
	leaves   = []string{"internal/gid", "internal/lifecycle", "internal/visible"}
	entities = concat(leaves, "ent", "ent/schema", "ent/mixin", "internal/search")
	policy   = []string{"authz", "authz/"}
)

// layers is §4 of the design, lowest first. Only direct imports are looked at:
// when every row holds, what is reached through others holds as well.
var layers = []layer{
	{"internal/gid", nil, "ids are read without knowing what they identify"},
	{"internal/lifecycle", nil, "the state machine is values and can be tested alone"},
	{"internal/visible", nil, "it is the seam between who asks and who answers, and knows neither"},
	{"authz", nil, "a plugin written elsewhere compiles against this package only"},
	{"authz/", []string{"authz"}, "a plugin knows requests and decisions, not how records are kept"},

	{"internal/store", []string{"internal/gid", "internal/lifecycle"}, "it opens databases; what is stored is the generated code's affair"},

	{"ent/mixin", leaves, "a mixin is columns and annotations"},
	{"ent/schema", concat(leaves, "ent/mixin"), "a schema is declarations; rules are in internal/record"},
	{"ent", concat(entities, "authz"), "generated code; what is imported here is dragged into everything"},

	{"internal/blob", []string{"internal/gid", "internal/store"}, "it keeps bytes for whoever refers to them"},
	{"internal/search", []string{"internal/gid"}, "it takes texts apart; whose they are is the caller's"},
	{"internal/search/index", []string{"internal/gid", "internal/search", "internal/store"}, "it keeps words; of which fields is the caller's affair"},
	{"internal/audit", concat(entities, "internal/store", others), "the log is written in the transaction it speaks of"},
	{"internal/live", []string{"internal/gid", "internal/lifecycle", "internal/store", "internal/audit"}, "it says where in the log there is news; what of it is for whom, others say"},
	{"internal/record", concat(concat(entities, policy...), "internal/blob", "internal/search/index", "internal/store", "internal/audit", others),
		"the pipeline serves every caller and knows none"},
	{"internal/policy", concat(concat(entities, policy...), "internal/store", "internal/audit", "internal/record", others),
		"what a policy may become is decided before anybody is let in by it"},
	{"internal/notify", concat(concat(entities, policy...), "internal/store", "internal/audit", "internal/record", "internal/telemetry", others),
		"it tells what has happened, after it has"},
	{"internal/identity", concat(concat(entities, policy...), "internal/store", "internal/audit", "internal/record", "internal/policy", others),
		"who may come in is known before anything is asked, and to whoever serves it"},
	{"internal/importer", concat(concat(entities, policy...), "internal/store", "internal/audit", "internal/record", others),
		"it turns files into requests to the pipeline"},
	{"internal/export", concat(concat(entities, policy...), "internal/blob", "internal/store", "internal/audit", "internal/record", others),
		"it turns what somebody may read into files"},
	{"internal/demo", concat(concat(entities, policy...), "internal/store", "internal/record", "internal/importer", others),
		"sample data comes in as any other does"},

	{"internal/telemetry", nil, "it makes spans, of whatever they are; any package may have a use for one"},
	{"internal/jobs", []string{"internal/gid", "internal/store", "internal/telemetry"}, "a job says what to look at; what to do about it is the caller's"},
	{"internal/pdp", concat(concat(entities, policy...), "internal/store", "internal/audit", others),
		"it asks the chain for other applications, about users and records as they are; it changes nothing"},
	{"internal/rest", concat(concat(entities, policy...), "internal/record", "internal/telemetry", others), "it presents refusals as GraphQL does, to those who do not speak it"},
	{"internal/intake", concat(concat(entities, policy...), "internal/store", "internal/audit", "internal/record", "internal/importer", "internal/rest", others),
		"files to import come in here; what becomes of them the importer says"},
	{"internal/attachment", concat(concat(entities, policy...), "internal/blob", "internal/store", "internal/audit", "internal/record", "internal/rest", others),
		"files come and go here; whose they are, and who may have them, the pipeline says"},
	{"internal/transport", []string{"internal/lifecycle"}, "it carries any schema; of ours it knows the codes"},
	{"graph", concat(concat(entities, policy...), "internal/blob", "internal/store", "internal/audit", "internal/record", "internal/policy", "internal/identity", "internal/export", "internal/live", "internal/notify", "internal/telemetry", "internal/transport", others),
		"resolvers hand on; a document's transaction begins and ends here"},

	{"internal/server", []string{anything}, "it ties together what is served"},
	{"cmd", []string{anything}, "it ties everything together"},
	{"bench", []string{anything}, "it measures the whole from outside"},
	{"e2e", []string{anything}, "it tests the whole from outside"},
}

// upper are the rows that packages without a row of their own stay away from.
var upper = []string{"cmd", "internal/server", "graph", "internal/store"}

func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()
	packages := list(t)
	require.Contains(t, packages, "internal/architecture", "go list sees this package")
	for name, imports := range packages {
		for _, imported := range imports {
			if why, ok := allowed(name, imported); !ok {
				t.Errorf("%s imports %s: %s", name, imported, why)
			}
		}
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		from, to string
		ok       bool
	}{
		{"cmd/lethe", "internal/server", true},
		{"internal/server", "graph", true},
		{"graph", "internal/record", true},
		{"graph/model", "graph", true},
		{"internal/record", "ent", true},
		{"internal/record", "ent/customer", true},
		{"internal/record", "authz/entfilter", true},
		{"internal/record", "internal/store", true},
		{"ent", "ent/schema", true},
		{"ent/runtime", "ent/mixin", true},
		{"ent/schema", "ent/mixin", true},
		{"ent/mixin", "internal/lifecycle", true},
		{"authz/casbin", "authz", true},
		{"internal/audit", "ent", true},
		{"internal/audit", "internal/gid", true},
		{"internal/record", "internal/audit", true},
		{"internal/audit", "internal/store", true},
		{"internal/identity", "internal/store", true},
		{"internal/identity", "authz/casbin", true},
		{"internal/server", "internal/identity", true},
		{"graph", "internal/transport", true},
		{"graph", "internal/store", true},
		{"ent", "authz", true},
		{"internal/server", "internal/pdp", true},
		{"internal/pdp", "internal/access", true},
		{"internal/export", "internal/record", true},
		{"graph", "internal/export", true},
		{"internal/pdp", "authz/authzen", true},

		{"internal/notify", "internal/telemetry", true},
		{"graph", "internal/server", false},
		{"internal/identity", "internal/server", false},
		{"internal/record", "internal/identity", false},
		{"internal/record", "graph", false},
		{"internal/record", "internal/transport", false},
		{"ent", "internal/record", false},
		{"ent/schema", "ent", false},
		{"ent/mixin", "ent/schema", false},
		{"internal/store", "ent", false},
		{"internal/lifecycle", "internal/gid", false},
		{"internal/telemetry", "internal/store", false},
		{"internal/gid", "internal/lifecycle", false},
		{"authz", "authz/casbin", false},
		{"authz/casbin", "internal/lifecycle", false},
		{"internal/store", "internal/audit", false},
		{"ent/customer", "internal/audit", false},
		{"internal/audit", "internal/record", false},
		{"internal/transport", "graph", false},
		{"internal/pdp", "internal/record", false},
		{"internal/record", "internal/export", false},
		{"internal/pdp", "graph", false},
		{"internal/audit", "graph/model", false},
	} {
		_, ok := allowed(test.from, test.to)
		require.Equal(t, test.ok, ok, "%s -> %s", test.from, test.to)
	}
}

// allowed reports whether a package may import another, and why not.
func allowed(from, to string) (why string, ok bool) {
	own, target := layerOf(from), layerOf(to)
	if own == nil {
		return "a package without a row in this table stays away from the upper layers",
			target == nil || !slices.Contains(upper, target.path)
	}
	path := others
	if target != nil {
		path = target.path
	}
	return own.why, path == own.path || slices.Contains(own.may, path) || slices.Contains(own.may, anything)
}

// layerOf is the row to which a package belongs, nil when there is none.
func layerOf(name string) *layer {
	var longest *layer
	for i, l := range layers {
		below := strings.HasPrefix(name, strings.TrimSuffix(l.path, "/")+"/")
		exact := name == l.path
		if (below || exact) && (longest == nil || len(l.path) > len(longest.path)) {
			longest = &layers[i]
		}
	}
	return longest
}

// list returns the packages of the module, each with what it imports of ours.
// Tests are left out: they may reach for a helper of any layer.
func list(t *testing.T) map[string][]string {
	t.Helper()
	// -e: a package that does not build is somebody else's failure.
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports", module+"/...")
	out, err := cmd.Output()
	require.NoError(t, err)
	packages := map[string][]string{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		ours := []string{}
		for _, imported := range p.Imports {
			if name, ok := strings.CutPrefix(imported, module+"/"); ok {
				ours = append(ours, name)
			}
		}
		packages[strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")] = ours
	}
}

func concat(base []string, more ...string) []string {
	return append(slices.Clone(base), more...)
}
