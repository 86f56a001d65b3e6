// Package docs_test does what the pages beside it say.
package docs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// maxLines is how many lines a record type may cost that are written by hand.
const maxLines = 60

// block is a code block of the page and the file it belongs to.
type block struct {
	file  string
	place string // "new", "at the end", or after which text
	text  string
}

var blocks = regexp.MustCompile("\\*\\*([^*]+)\\*\\*, (new|at the end|after `[^`]+`):\n\n```\\w+\n((?s:.*?))```")

func readBlocks(t *testing.T, name string) []block {
	t.Helper()
	page, err := os.ReadFile(name)
	require.NoError(t, err)
	var out []block
	for _, m := range blocks.FindAllStringSubmatch(string(page), -1) {
		place := strings.TrimSuffix(strings.TrimPrefix(m[2], "after `"), "`")
		out = append(out, block{m[1], place, m[3]})
	}
	return out
}

func TestARecordTypeCostsFewLines(t *testing.T) {
	t.Parallel()
	lines := 0
	for _, b := range readBlocks(t, "record-type.md") {
		for line := range strings.SplitSeq(b.text, "\n") {
			if strings.TrimSpace(line) != "" {
				lines++
			}
		}
	}
	t.Logf("%d lines", lines)
	require.Greater(t, lines, 40, "the blocks of the page are found")
	require.LessOrEqual(t, lines, maxLines)
}

// TestThePageAddsARecordType does in a copy of the repository what the page
// says, and uses what comes out.
func TestThePageAddsARecordType(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it generates and compiles everything anew")
	}
	root := copyRepository(t)
	for _, b := range readBlocks(t, "record-type.md") {
		apply(t, root, b)
	}
	try, err := os.ReadFile(filepath.Join("testdata", "ticket_test.go.txt"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, "graph", "ticket_test.go"), try, 0o600))
	for _, command := range [][]string{
		{"go", "run", "./ent/entc.go"},
		{"go", "run", "./graph/gqlgen.go"},
		{"go", "run", "./ent/migration/main.go", "tickets"},
		{"go", "test", "-count=1", "-run", "^TestTicket$", "-v", "./graph"},
	} {
		out := run(t, root, command...)
		if command[1] == "test" {
			require.Contains(t, out, "--- PASS: TestTicket")
		}
	}
}

// copyRepository copies what Git knows of, and what it would.
func copyRepository(t *testing.T) string {
	t.Helper()
	from, to := strings.TrimSpace(run(t, ".", "git", "rev-parse", "--show-toplevel")), t.TempDir()
	for name := range strings.SplitSeq(run(t, from, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00") {
		if name == "" || strings.HasPrefix(name, "bench/") || strings.HasPrefix(name, "docs/") {
			continue
		}
		content, err := os.ReadFile(filepath.Join(from, name))
		if os.IsNotExist(err) {
			continue // removed and not yet committed
		}
		require.NoError(t, err)
		path := filepath.Join(to, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, content, 0o600))
	}
	return to
}

func apply(t *testing.T, root string, b block) {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(b.file))
	before, err := os.ReadFile(path)
	if b.place == "new" {
		require.ErrorIs(t, err, os.ErrNotExist, b.file)
		require.NoError(t, os.WriteFile(path, []byte(b.text), 0o600))
		return
	}
	require.NoError(t, err)
	after := string(before) + "\n" + b.text
	if b.place != "at the end" {
		require.Equal(t, 1, strings.Count(string(before), b.place), "%s has %q once", b.file, b.place)
		at := strings.Index(string(before), b.place)
		end := at + strings.Index(string(before[at:]), "\n") + 1
		after = string(before[:end]) + b.text + string(before[end:])
	}
	require.NoError(t, os.WriteFile(path, []byte(after), 0o600))
}

func run(t *testing.T, dir string, command ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir = dir
	// The half for PostgreSQL is left out: it wants a database that is empty.
	cmd.Env = append(os.Environ(), "LETHE_DEV_POSTGRES=", "GOFLAGS=")
	var out, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failed
	require.NoError(t, cmd.Run(), "%s\n%s%s", strings.Join(command, " "), &out, &failed)
	return out.String()
}
