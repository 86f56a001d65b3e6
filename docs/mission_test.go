package docs_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	missionRow  = regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$`)
	missionTest = regexp.MustCompile(`^([a-z0-9/]+)\.(Test\w+)$`)
)

// TestTheMissionIsShownByTests runs what the page names: each row has a test that passes, and is not skipped on any
// database that must be there.
func TestTheMissionIsShownByTests(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs tests of other packages")
	}
	page, err := os.ReadFile("mission.md")
	require.NoError(t, err)
	named, rows := map[string][]string{}, 0
	for _, row := range missionRow.FindAllStringSubmatch(string(page), -1) {
		if row[1] == "what" {
			continue
		}
		rows++
		for test := range strings.SplitSeq(row[3], ", ") {
			m := missionTest.FindStringSubmatch(strings.TrimSpace(test))
			require.NotNil(t, m, "%s: %q is no test", row[1], test)
			if !slices.Contains(named[m[1]], m[2]) {
				named[m[1]] = append(named[m[1]], m[2])
			}
		}
	}
	require.GreaterOrEqual(t, rows, 34, "the rows of the page are found")
	for pkg, tests := range named {
		results := outcomes(t, pkg, tests)
		for _, test := range tests {
			require.Equal(t, "pass", results[test], "%s.%s", pkg, test)
			for name, result := range results {
				postgres := strings.HasSuffix(name, "/postgres") && os.Getenv("LETHE_REQUIRE_POSTGRES") == ""
				if strings.HasPrefix(name, test+"/") && !postgres {
					require.Equal(t, "pass", result, "%s.%s", pkg, name)
				}
			}
		}
	}
}

// outcomes runs tests of a package and answers what became of each, and of those within them.
func outcomes(t *testing.T, pkg string, tests []string) map[string]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "test", "-json", "-run", "^("+strings.Join(tests, "|")+")$", "./"+path.Clean(pkg))
	cmd.Dir = ".."
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	results, said := map[string]string{}, strings.Builder{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var event struct{ Action, Test, Output string }
		require.NoError(t, json.Unmarshal(lines.Bytes(), &event), lines.Text())
		switch event.Action {
		case "pass", "fail", "skip":
			results[event.Test] = event.Action
		case "output":
			said.WriteString(event.Output)
		}
	}
	require.NoError(t, lines.Err())
	require.NoError(t, err, "%s: %s%s", pkg, said.String(), errs.String())
	return results
}
