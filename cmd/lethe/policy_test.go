package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func (p place) file(text string) string {
	p.Helper()
	path := filepath.Join(p.TempDir(), "policy.csv")
	require.NoError(p, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestTheOperatorCarriesAPolicyOutAndIn(t *testing.T) {
	each(t, func(p place) {
		p.does("migrate", "up")
		_, _, stop := p.serve("--migrate")
		stop()
		csv := p.does("policy", "export", "--tenant", "default")
		require.Contains(p, csv, "role:purger")
		require.Contains(p, p.does("policy", "check", "--tenant", "default", p.file(csv)), "can be used")

		more := csv + "p,role:auditor,.,AuditEvent,audit.read,allow,any\n"
		require.Contains(p, p.does("policy", "import", "--tenant", "default", "--message", "Auditors", p.file(more)), "1 rows came, 0 went")
		require.Contains(p, p.does("policy", "export", "--tenant", "default"), "role:auditor")
		var exported struct{ Version int }
		require.NoError(p, json.Unmarshal([]byte(p.does("policy", "export", "--tenant", "default", "--json")), &exported))
		require.Equal(p, 3, exported.Version, "the default, the first admin, and this")
		require.NotContains(p, p.does("policy", "export", "--tenant", "default", "--version", "2"), "role:auditor")

		require.Contains(p, p.fails("policy", "import", "--tenant", "default", "--version", "2", p.file(more)), "version 3, not 2")
		require.Contains(p, p.fails("policy", "import", "--tenant", "default", p.file(strings.ReplaceAll(csv, "policy.edit", "policy.read"))), "without an active user who can edit its policy")
		require.Contains(p, p.fails("policy", "import", "--tenant", "default", p.file(more+"p,role:x,.,Invoice,read,allow,any\n")), "Invoice")
		require.Contains(p, p.does("policy", "explain", "--tenant", "default", "--user", "admin@localhost", "purge", "Customer"), "never")
		require.Contains(p, p.does("policy", "explain", "--tenant", "default", "--role", "manager", "delete", "Customer"), "for some records")
	})
}

func TestAPolicyFileIsCheckedWithoutADatabase(t *testing.T) {
	t.Parallel()
	p := place{t, nil}
	require.Contains(t, p.does("policy", "check", p.file("p,role:a,t,Customer,read,allow,any\n")), "can be used")
	status, out, _ := p.lethe("policy", "check", "--json", p.file("p,role:a,t,Customer,look,allow,any\np,role:a,t,Customer,read,allow,state == VOIDED and state == ACTIVE\n"))
	require.Equal(t, failed, status)
	var result struct {
		Valid    bool
		Findings []struct{ Message, Severity string }
	}
	require.NoError(t, json.Unmarshal([]byte(out), &result))
	require.False(t, result.Valid)
	require.Contains(t, result.Findings[0].Message, "look")
	p.fails("policy", "check", p.file("p,role:a\n"))
	p.fails("policy", "check", filepath.Join(t.TempDir(), "none"))
}

func TestTypesOfOtherApplicationsAreKnownToCommandsThatAreToldOfThem(t *testing.T) {
	each(t, func(p place) {
		_, _, stop := p.serve("--migrate")
		stop()
		chain := p.file(`[{"name": "policy", "kind": "casbin", "role": "grant", "config": {"external": {"invoice": {"amount": "float"}}}}]`)
		row := "p,role:manager,.,invoice,approve,allow,amount < 1000.0\n"
		more := p.file(p.does("policy", "export", "--tenant", "default") + row)
		require.Contains(p, p.fails("policy", "import", "--tenant", "default", more), `unknown object "invoice"`)
		p.does("policy", "import", "--tenant", "default", "--authz", chain, more)
		require.Contains(p, p.does("policy", "explain", "--tenant", "default", "--authz", chain, "--role", "manager", "approve", "invoice"), "for some records")
		require.Contains(p, p.does("policy", "check", "--authz", chain, p.file(strings.Replace(row, ",.,", ",t,", 1))), "can be used")

		for _, told := range [][]string{{"--authz", chain}, nil} {
			out := p.fails(append([]string{"user", "deactivate", "--tenant", "default", "--email", "admin@localhost"}, told...)...)
			require.Contains(p, out, "without an active user who can edit its policy", "%v: the last editor is kept", told)
		}
	})
}
