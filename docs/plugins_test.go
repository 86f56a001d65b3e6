package docs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz/casbin"
	_ "github.com/lethe-crm/lethe/authz/officehours" // the page's example
	"github.com/lethe-crm/lethe/internal/access"
)

// maxPluginLines is what an example of a plugin may take, imports and comments included.
const maxPluginLines = 60

func TestTheExampleOfAPluginIsShort(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "authz", "officehours", "officehours.go"))
	require.NoError(t, err)
	require.Less(t, bytes.Count(text, []byte("\n")), maxPluginLines)
}

var fenced = regexp.MustCompile("```(\\w+)\n((?s:.*?))```")

// fences are the page's code blocks in a language.
func fences(t *testing.T, language string) (out []string) {
	t.Helper()
	page, err := os.ReadFile("plugins.md")
	require.NoError(t, err)
	for _, m := range fenced.FindAllStringSubmatch(string(page), -1) {
		if m[1] == language {
			out = append(out, m[2])
		}
	}
	return out
}

func TestThePagesChainIsAccepted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "authz.json")
	require.NoError(t, os.WriteFile(path, []byte(fences(t, "json")[0]), 0o600))
	members, err := access.ReadChain(path)
	require.NoError(t, err)
	require.Len(t, members, 2)
	_, err = access.New(nobody{}, nil, members...)
	require.NoError(t, err)
}

// TestThePageAddsAPlugin does what the page says: a module of its own, tested, and compiled into a server that then
// takes it into its chain. The repository is compiled where it is, seen with the changed file: a copy of it would have
// to be compiled anew.
func TestThePageAddsAPlugin(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it links a server")
	}
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	work := t.TempDir()
	plugin := filepath.Join(work, "freeze")
	require.NoError(t, os.MkdirAll(filepath.Join(work, "cmd", "lethe"), 0o700))
	require.NoError(t, os.Mkdir(plugin, 0o700))
	for _, name := range []string{"go.mod", "go.sum", "cmd/lethe/plugins.go"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(work, name), text, 0o600))
	}
	found := readBlocks(t, "plugins.md")
	require.Len(t, found, 4)
	for _, b := range found {
		apply(t, work, b)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(root, "cmd/lethe/plugins.go"): filepath.Join(work, "cmd/lethe/plugins.go"),
	}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(work, "overlay.json"), overlay, 0o600))

	commands := fences(t, "sh")
	require.Len(t, commands, 2)
	binary := filepath.Join(work, "lethe")
	// What the page does to the repository is done beside it.
	beside := strings.NewReplacer(
		"../freeze", plugin+" "+filepath.Join(work, "go.mod"),
		"go build", "go build -modfile "+filepath.Join(work, "go.mod")+" -overlay "+filepath.Join(work, "overlay.json")+" -o "+binary,
	)
	server := beside.Replace(commands[0])
	for dir, lines := range map[string]string{plugin: strings.ReplaceAll(commands[1], "../lethe", root), root: server} {
		for line := range strings.Lines(lines) {
			run(t, dir, strings.Fields(line)...)
		}
	}

	chain := filepath.Join(work, "authz.json")
	good := fences(t, "json")[1]
	serve := func(text, until string) string {
		require.NoError(t, os.WriteFile(chain, []byte(text), 0o600))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, binary, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(work, "data"), "--authz", chain)
		said := &lines{until: until, found: cancel}
		cmd.Stderr = said
		require.Error(t, cmd.Run(), "it is killed, or refuses")
		return said.said.String()
	}
	require.Contains(t, serve(good, "listening on"), "listening on")
	require.Contains(t, serve(strings.ReplaceAll(good, `"teams"`, `"tems"`), "listening on"), `plugin "freeze" of kind "freeze": config: json: unknown field "tems"`)
}

// lines is what a program says, until it says something.
type lines struct {
	said  bytes.Buffer
	until string
	found func()
}

func (l *lines) Write(p []byte) (int, error) {
	n, err := l.said.Write(p)
	if bytes.Contains(l.said.Bytes(), []byte(l.until)) {
		l.found()
	}
	return n, err
}

// nobody has a policy.
type nobody struct{}

func (nobody) Head(context.Context, string) (uint64, error) { return 0, nil }

func (nobody) Load(context.Context, string) (uint64, []casbin.Rule, error) { return 0, nil, nil }
