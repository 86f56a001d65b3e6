package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// officeHours is a chain in which nothing is deleted but on some days of the week.
func officeHours(days string) string {
	return `[{"name": "policy", "kind": "casbin", "role": "grant"},
	{"name": "hours", "kind": "officehours", "role": "veto", "config": {"zone": "UTC", "days": ` + days + `, "from": 0, "to": 24, "actions": ["delete"]}}]`
}

func TestAHangupPutsAnotherChainOfPluginsInForce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "authz.json")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write(officeHours("[0, 1, 2, 3, 4, 5, 6]"))
	env := append(os.Environ(), "LETHE_DATABASE="+databases["sqlite"](t, dir), "LETHE_DATA="+dir, "LETHE_KEY="+key)
	s, err := start(env, dir, "--authz", file)
	require.NoError(t, err)
	defer func() { _ = s.cmd.Process.Kill() }()
	out, err := command(env, "token", "create", "--tenant", "default", "--user", "admin@localhost").Output()
	require.NoError(t, err)
	token := strings.TrimSpace(string(out))
	ask := func(query string) string {
		t.Helper()
		answer, err := post(t.Context(), s.url, token, query)
		require.NoError(t, err)
		return string(answer)
	}
	customer := func() string {
		return regexp.MustCompile(`customer_\w+`).FindString(ask(`mutation { createCustomer(input: {name: "Acme"}) { customer { id } } }`))
	}
	deleting := func() string {
		return ask(fmt.Sprintf(`mutation { deleteRecords(input: {select: {ids: [%q]}}) { operation { status items(first: 1) { nodes { code } } } } }`, customer()))
	}
	hangup := func(says string) {
		t.Helper()
		before := len(s.out.String())
		require.NoError(t, s.cmd.Process.Signal(syscall.SIGHUP))
		require.Eventually(t, func() bool { return strings.Contains(s.out.String()[before:], says) }, 10*time.Second, 5*time.Millisecond)
	}
	metrics := func() string {
		resp, err := http.Get(s.url + "/metrics")
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(body)
	}

	require.Contains(t, deleting(), `"SUCCEEDED"`)
	write(officeHours(fmt.Sprintf("[%d]", (time.Now().UTC().Weekday()+3)%7)))
	require.Contains(t, deleting(), `"SUCCEEDED"`, "a file alone changes nothing")
	hangup(`members="[policy hours]"`)
	require.Contains(t, deleting(), `"FORBIDDEN"`)
	require.NotEmpty(t, customer(), "the veto is on deleting alone")
	require.Contains(t, metrics(), `lethe_authz_decisions_total{effect="deny",member="hours"} 1`)

	write(officeHours(`[0, 1, 2, 3, 4, 5, 6], "form": 8`))
	hangup(`unknown field \"form\"`)
	require.Contains(t, deleting(), `"FORBIDDEN"`, "a file that is not right changes nothing")
	write(`[`)
	hangup("stays as it is")
	require.Contains(t, deleting(), `"FORBIDDEN"`)
	write(officeHours("[0, 1, 2, 3, 4, 5, 6]"))
	hangup("was replaced")
	require.Contains(t, deleting(), `"SUCCEEDED"`)
	require.Contains(t, metrics(), `lethe_authz_chain_reloads_total{result="refused"} 2`)
	require.NoError(t, s.end())
}

func TestMetricsCanHaveAListenerOfTheirOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	env := append(os.Environ(), "LETHE_DATABASE="+databases["sqlite"](t, dir), "LETHE_DATA="+dir, "LETHE_KEY="+key)
	s, err := start(env, dir, "--metrics", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = s.cmd.Process.Kill() }()
	apart := regexp.MustCompile(`metrics on (http://\S+/metrics)`).FindStringSubmatch(s.out.String())
	require.NotNil(t, apart, s.out)
	for url, status := range map[string]int{apart[1]: http.StatusOK, s.url + "/metrics": http.StatusNotFound} {
		resp, err := http.Get(url)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, status, resp.StatusCode, url)
	}
	require.NoError(t, s.end())
}
