// Package e2e runs the real binary as its users do, on both databases.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/pgtest"
)

// binary is the folder the real binary was built into.
var binary string

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "gql" { // the scripts run this program under that name, too

		dir, err := os.MkdirTemp("", "lethe-e2e-")
		if err != nil {
			panic(err)
		}
		binary = dir
		build := exec.Command("go", "build", "-o", filepath.Join(dir, "lethe"), "../cmd/lethe")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "building the binary:", err)
			os.Exit(1)
		}
	}
	testscript.Main(cleaning{m}, map[string]func(){"gql": gql})
}

type cleaning struct{ m *testing.M }

func (c cleaning) Run() int {
	code := pgtest.Run(c.m)
	if err := os.RemoveAll(binary); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// key is the server's key in these tests.
var key = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32))

// databases are where each test runs.
var databases = map[string]func(t *testing.T, dir string) string{
	"sqlite":   func(_ *testing.T, dir string) string { return "sqlite:" + filepath.Join(dir, "lethe.db") },
	"postgres": func(t *testing.T, _ string) string { return pgtest.URL(t) },
}

func TestScripts(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	mails, err := filepath.Abs("../internal/mail/testdata")
	if err != nil {
		t.Fatal(err)
	}
	for name, database := range databases {
		for _, script := range scripts {
			t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar")+"/"+name, func(t *testing.T) {
				t.Parallel()
				url := database(t, t.TempDir())
				testscript.Run(t, testscript.Params{
					Files:               []string{script},
					RequireExplicitExec: true,
					UpdateScripts:       os.Getenv("LETHE_UPDATE") != "" && name == "sqlite",
					Setup: func(env *testscript.Env) error {
						env.Setenv("PATH", binary+string(os.PathListSeparator)+env.Getenv("PATH"))
						env.Setenv("LETHE_DATABASE", url)
						env.Setenv("LETHE_DATA", filepath.Join(env.WorkDir, "data"))
						env.Setenv("LETHE_KEY", key)
						env.Setenv("MAILS", mails)
						env.Setenv("LAST", filepath.Join(env.WorkDir, "last.json"))
						return nil
					},
					Cmds: map[string]func(*testscript.TestScript, bool, []string){
						"serve": serve, "stop": stop, "capture": capture, "normalize": normalize, "token": token, "tombstone": tombstone,
					},
				})
			})
		}
	}
}

// server is a running lethe.
type server struct {
	cmd  *exec.Cmd
	url  string
	out  *safeBuffer
	done chan error
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

var listening = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// start runs lethe serve on a free port and waits until it is ready.
func start(env []string, dir string, args ...string) (*server, error) {
	s := &server{out: &safeBuffer{}, done: make(chan error, 1)}
	s.cmd = exec.Command(filepath.Join(binary, "lethe"), append([]string{"serve", "--listen", "127.0.0.1:0", "--migrate"}, args...)...)
	s.cmd.Env, s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = env, dir, s.out, s.out
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { s.done <- s.cmd.Wait() }()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if s.url == "" {
			s.url = listening.FindString(s.out.String())
		}
		if s.url != "" {
			if resp, err := http.Get(s.url + "/readyz"); err == nil {
				_ = resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					return s, nil
				}
			}
		}
		select {
		case err := <-s.done:
			return nil, fmt.Errorf("it ended: %w\n%s", err, s.out)
		case <-time.After(10 * time.Millisecond):
		}
	}
	_ = s.cmd.Process.Kill()
	return nil, fmt.Errorf("not ready in time:\n%s", s.out)
}

// end stops the server as an operator would, and says whether it stopped well.
func (s *server) end() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-s.done:
		return err
	case <-time.After(15 * time.Second):
		_ = s.cmd.Process.Kill()
		return fmt.Errorf("it did not stop:\n%s", s.out)
	}
}

func scriptEnv(ts *testscript.TestScript) []string {
	env := os.Environ()
	for _, name := range []string{"LETHE_DATABASE", "LETHE_DATA", "LETHE_KEY"} {
		env = append(env, name+"="+ts.Getenv(name))
	}
	return env
}

var servers sync.Map // of *testscript.TestScript to *server

// serve [ARGS]: runs the server; URL is set. It is stopped with the script.
func serve(ts *testscript.TestScript, _ bool, args []string) {
	s, err := start(scriptEnv(ts), ts.Getenv("WORK"), args...)
	if err != nil {
		ts.Fatalf("serve: %v", err)
	}
	servers.Store(ts, s)
	ts.Setenv("URL", s.url)
	ts.Defer(func() {
		if s, ok := servers.LoadAndDelete(ts); ok {
			_ = s.(*server).end()
			ts.Logf("[server]\n%s", s.(*server).out)
		}
	})
}

// stop: stops the server, which must end well.
func stop(ts *testscript.TestScript, _ bool, _ []string) {
	s, ok := servers.LoadAndDelete(ts)
	if !ok {
		ts.Fatalf("stop: nothing is running")
	}
	ts.Check(s.(*server).end())
}

// token NAME TENANT EMAIL: creates a token and puts it into NAME.
func token(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.Command(filepath.Join(binary, "lethe"), "token", "create", "--tenant", args[1], "--user", args[2])
	cmd.Env = scriptEnv(ts)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		ts.Fatalf("token: %v\n%s", err, stderr.String())
	}
	secret, rest, _ := strings.Cut(string(out), "\n")
	if rest != "" || secret == "" || strings.ContainsAny(secret, " \t") {
		ts.Fatalf("token create prints the token and nothing else, not %q", out)
	}
	ts.Setenv(args[0], secret)
}

// capture NAME PATH: puts a value of the last answer into NAME.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("last.json")), &v))
	for step := range strings.SplitSeq(args[1], ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(at) {
				ts.Fatalf("capture %s: no element %q", args[1], step)
			}
			v = at[i]
		default:
			ts.Fatalf("capture %s: nothing at %q", args[1], step)
		}
	}
	text, ok := v.(string)
	if !ok {
		text = fmt.Sprint(v)
	}
	ts.Setenv(args[0], text)
}

// tombstone ID TYPE NUMBER: insists on the one tombstone of a record.
func tombstone(ts *testscript.TestScript, _ bool, args []string) {
	ctx := context.Background()
	db, err := store.Open(ctx, ts.Getenv("LETHE_DATABASE"))
	ts.Check(err)
	defer func() { ts.Check(db.Close()) }()
	id, err := gid.Parse(args[0])
	ts.Check(err)
	var typ, number string
	found, err := store.Build(db).Add(`SELECT record_type, number FROM tombstones WHERE record_id = ?`, id).One(ctx, db, &typ, &number)
	ts.Check(err)
	if !found || typ != args[1] || number != args[2] {
		ts.Fatalf("tombstone of %s: %v %q %q", args[0], found, typ, number)
	}
}

var (
	ids   = regexp.MustCompile(`\b([a-z]+)_[0-9a-z]{26}\b`)
	times = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
)

// normalize FROM TO: replaces ids by their order, and times.
func normalize(ts *testscript.TestScript, _ bool, args []string) {
	seen := map[string]string{}
	count := map[string]int{}
	text := ids.ReplaceAllStringFunc(ts.ReadFile(args[0]), func(id string) string {
		if seen[id] == "" {
			typ, _, _ := strings.Cut(id, "_")
			count[typ]++
			seen[id] = fmt.Sprintf("<%s %d>", typ, count[typ])
		}
		return seen[id]
	})
	text = times.ReplaceAllString(text, "<time>")
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

// gql TOKEN FILE: sends a document, in which ${NAME} stands for variables of
// the script, and prints the answer, which is kept as last.json as well.
func gql() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: gql TOKEN FILE")
		os.Exit(2)
	}
	document, err := os.ReadFile(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	query := regexp.MustCompile(`\$\{(\w+)\}`).ReplaceAllStringFunc(string(document), func(s string) string { return os.Getenv(s[2 : len(s)-1]) })
	answer, err := post(context.Background(), os.Getenv("URL"), os.Args[1], query)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, answer, "", "  "); err != nil {
		fmt.Fprintln(os.Stderr, err, string(answer))
		os.Exit(1)
	}
	pretty.WriteByte('\n')
	if err := os.WriteFile(os.Getenv("LAST"), pretty.Bytes(), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(pretty.String())
}

func post(ctx context.Context, url, secret, query string) ([]byte, error) {
	body, err := json.Marshal(map[string]string{"query": query})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/graphql", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/graphql-response+json")
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(bufio.NewReader(resp.Body))
}
