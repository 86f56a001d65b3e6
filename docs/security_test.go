package docs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryThreatNamesTestsThatExist reads the table of SECURITY.md. The tests are run where they are; that a row names
// none, or one that was renamed, is found here.
func TestEveryThreatNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../SECURITY.md")
	require.NoError(t, err)
	rows, sources := 0, map[string]string{}
	for _, row := range missionRow.FindAllStringSubmatch(string(page), -1) {
		if row[1] == "what is tried" || strings.HasPrefix(row[1], "-") {
			continue
		}
		rows++
		for test := range strings.SplitSeq(row[3], ", ") {
			m := missionTest.FindStringSubmatch(strings.TrimSpace(test))
			require.NotNil(t, m, "%s: %q is no test", row[1], test)
			if sources[m[1]] == "" {
				sources[m[1]] = testsOf(t, filepath.Join("..", m[1]))
			}
			require.True(t, strings.Contains(sources[m[1]], "\nfunc "+m[2]+"(t *testing.T) {"), "%s: there is no %s", row[1], test) //nolint:testifylint // Contains would print all sources
		}
	}
	require.GreaterOrEqual(t, rows, 35, "the rows of the page are found")
}

func testsOf(t *testing.T, folder string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	require.NoError(t, err)
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		all.Write(text)
	}
	return all.String()
}
