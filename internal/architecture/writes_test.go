package architecture

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// write matches a statement that writes to a table named in the text, or to one
// that is only known at run time.
var write = regexp.MustCompile("(?i)(?:INSERT INTO|UPDATE|DELETE FROM|TRUNCATE(?: TABLE)?)\\s+(?:\"?(\\w+)\"?|(`?\\s*\\+|`\\s*\\+))|\\.Insert\\(\\w+, (?:\"(\\w+)\"|(\\w))")

// recordTables are the tables of record types and of their parts.
var recordTables = map[string]bool{"customers": true, "contacts": true, "deals": true, "messages": true, "recipients": true}

func TestOnlyTheRecordPackageWritesRecords(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	found := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator)))
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "node_modules" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.Contains(string(text), "DO NOT EDIT") && strings.Contains(string(text), "Code generated") {
			return nil
		}
		for _, m := range write.FindAllStringSubmatch(string(text), -1) {
			table, dynamic := m[1]+m[3], m[2] != "" || m[4] != ""
			if !recordTables[table] && !dynamic {
				continue
			}
			found++
			switch {
			case strings.HasPrefix(name, "internal/record/"):
			case dynamic && strings.HasPrefix(name, "internal/store/"): // the bulk insert itself
			case dynamic && strings.HasPrefix(name, "internal/identity/"): // its three tables of credentials
			case strings.HasPrefix(name, "bench/"): // it fills a database of its own, and does by hand what the pipeline is compared with
			default:
				t.Errorf("%s writes to a record type: %q", name, m[0])
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Positive(t, found, "the pattern still finds the writer itself")
}
