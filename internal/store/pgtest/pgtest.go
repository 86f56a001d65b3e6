// Package pgtest gives a test a PostgreSQL database of its own.
//
// The server behind it is the one named by LETHE_TEST_POSTGRES, a URL of a
// role that may create databases, or else a throw-away cluster that the first
// test of the process starts from installed binaries and that ends with the
// process. Where neither is to be had the test is skipped, or fails when
// LETHE_REQUIRE_POSTGRES=1 says that skipping would hide something.
//
// A package whose tests use it should hand its TestMain to [Main].
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	serverVariable  = "LETHE_TEST_POSTGRES"
	requireVariable = "LETHE_REQUIRE_POSTGRES"

	// statementTimeout bounds one CREATE or DROP DATABASE. They take some
	// 10 ms; the rest is for a machine that is busy with other tests.
	statementTimeout = time.Minute
)

// errUnavailable is why a test is skipped: nobody named a server and none can
// be started. Every other error is a failure of the test.
var errUnavailable = errors.New("no PostgreSQL to test on")

// The server and the templates are shared by all tests of the process, because
// starting a cluster costs about a second and a template as much as its setup.
var (
	shared  = sync.OnceValues(openServer)
	opened  atomic.Pointer[server]
	skipped atomic.Int64

	templatesMu sync.Mutex
	templates   = map[string]*template{}
)

type template struct {
	once sync.Once
	name string
	err  error
}

// URL returns the URL of a fresh, empty database, which is dropped when the
// test ends, together with whatever connections are still open to it.
func URL(tb testing.TB) string {
	tb.Helper()
	s := serverFor(tb)
	return clone(tb, s, "")
}

// Template returns the URL of a fresh copy of a database that setup filled.
// Setup runs once per process and key, on an empty database, and must close
// its connections; the copies cost no more than an empty database does.
func Template(tb testing.TB, key string, setup func(url string) error) string {
	tb.Helper()
	s := serverFor(tb)

	templatesMu.Lock()
	t, ok := templates[key]
	if !ok {
		t = &template{}
		templates[key] = t
	}
	templatesMu.Unlock()

	t.once.Do(func() { t.name, t.err = s.createTemplate(setup) })
	if t.err != nil {
		tb.Fatalf("pgtest: template %q: %v", key, t.err)
	}
	return clone(tb, s, t.name)
}

// Main runs the tests of a package, drops what they left on the server, stops
// the cluster and says in one line how many tests were skipped for want of
// PostgreSQL. It is the body of a TestMain.
//
// A package without it leaves no process behind, but leaves its templates on a
// server named by LETHE_TEST_POSTGRES.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main for packages that have to clean up more before they end.
func Run(m *testing.M) (code int) {
	code = m.Run()
	if err := stop(os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	return code
}

func stop(w io.Writer) error {
	if n := skipped.Load(); n > 0 {
		fmt.Fprintf(w, "pgtest: %d PostgreSQL tests were skipped: install PostgreSQL %d or newer, or set %s\n",
			n, oldestVersion, serverVariable)
	}
	s := opened.Load()
	if s == nil {
		return nil
	}
	return s.close()
}

// serverFor returns the server, or ends the test.
func serverFor(tb testing.TB) *server {
	tb.Helper()
	s, err := shared()
	if err != nil {
		refuse(tb, err)
	}
	return s
}

func refuse(tb testing.TB, err error) {
	tb.Helper()
	if errors.Is(err, errUnavailable) && os.Getenv(requireVariable) != "1" {
		skipped.Add(1)
		tb.Skipf("pgtest: %v", err)
	}
	tb.Fatalf("pgtest: %v", err)
}

func openServer() (*server, error) {
	s, err := newServer(os.Getenv(serverVariable))
	if err != nil {
		return nil, err
	}
	opened.Store(s)
	return s, nil
}

// clone creates a database for tb, a copy of the template or an empty one.
func clone(tb testing.TB, s *server, template string) string {
	tb.Helper()
	name, err := s.create(template)
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.drop(name); err != nil {
			tb.Errorf("pgtest: %v", err)
		}
	})
	return s.url(name)
}

// statementContext is apart from the test's own context, which is cancelled
// before the clean-up that drops the database.
func statementContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), statementTimeout)
}
