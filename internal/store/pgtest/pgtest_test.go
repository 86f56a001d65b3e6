package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { Main(m) }

func TestEveryTestHasADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	for i := range 3 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			conn := connect(t, URL(t))
			execute(t, conn, "CREATE TABLE customer (name text)")
			execute(t, conn, "INSERT INTO customer VALUES ('Ada')")
			require.Equal(t, 1, count(t, conn, "customer"))
		})
	}
}

func TestADatabaseIsDroppedAtTheEndOfItsTest(t *testing.T) {
	t.Parallel()
	var databaseURL string
	t.Run("with a connection left open", func(t *testing.T) {
		databaseURL = URL(t)
		conn, err := pgx.Connect(t.Context(), databaseURL)
		require.NoError(t, err)
		require.NoError(t, conn.Ping(t.Context()))
	})
	if databaseURL == "" {
		t.Skip("the test above was skipped")
	}
	_, err := pgx.Connect(t.Context(), databaseURL)
	require.ErrorContains(t, err, "3D000", "invalid_catalog_name: the database does not exist")
}

func TestTemplateIsSetUpOnceAndCopied(t *testing.T) {
	t.Parallel()
	var setups atomic.Int32
	setup := func(databaseURL string) error {
		setups.Add(1)
		return executeOn(t.Context(), databaseURL, "CREATE TABLE deal (name text); INSERT INTO deal VALUES ('D-1')")
	}
	t.Run("copies", func(t *testing.T) {
		for i := range 4 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				conn := connect(t, Template(t, "deals", setup))
				require.Equal(t, 1, count(t, conn, "deal"), "the copy has what setup made and nothing of the other copies")
				execute(t, conn, "INSERT INTO deal VALUES ('D-2')")
				require.Equal(t, 2, count(t, conn, "deal"))
			})
		}
	})
	if s := opened.Load(); s != nil {
		require.EqualValues(t, 1, setups.Load())
	}
}

func TestTemplateThatFailsFailsEveryTestThatWantsIt(t *testing.T) {
	t.Parallel()
	s := shareable(t)
	for range 2 {
		r := observe(t, func(tb testing.TB) {
			Template(tb, "broken", func(string) error { return errors.New("relation exists") })
		})
		require.Contains(t, r.fatal, "relation exists")
	}
	require.NotNil(t, s)
}

func TestTheClusterSortsByLanguage(t *testing.T) {
	t.Parallel()
	if os.Getenv(serverVariable) != "" {
		t.Skip("the order is that of the server in " + serverVariable)
	}
	conn := connect(t, URL(t))
	var lower string
	var ordered bool
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT lower('ЖАЛОБА'), 'a' < 'B'").Scan(&lower, &ordered))
	require.Equal(t, "жалоба", lower)
	require.True(t, ordered)
}

func TestServerFromURL(t *testing.T) {
	t.Parallel()
	own := shareable(t)

	t.Run("creates, copies and drops databases there", func(t *testing.T) {
		t.Parallel()
		s, err := newServer(own.admin.String())
		require.NoError(t, err)
		template, err := s.createTemplate(func(u string) error {
			return executeOn(t.Context(), u, "CREATE TABLE task (title text)")
		})
		require.NoError(t, err)
		name, err := s.create(template)
		require.NoError(t, err)
		require.Equal(t, 0, count(t, connect(t, s.url(name)), "task"))
		require.NoError(t, s.drop(name))

		require.NoError(t, s.close())
		conn := connect(t, own.admin.String())
		var left int
		require.NoError(t, conn.QueryRow(t.Context(),
			"SELECT count(*) FROM pg_database WHERE datname LIKE $1 || '%'", s.prefix).Scan(&left))
		require.Zero(t, left, "databases left behind")
	})
	t.Run("keeps the other parts of the URL", func(t *testing.T) {
		t.Parallel()
		s, err := newServer("postgres://lethe:secret@db.example:6432/postgres?sslmode=verify-full")
		require.NoError(t, err)
		require.Equal(t, "postgres://lethe:secret@db.example:6432/x?sslmode=verify-full", s.url("x"))
	})
	t.Run("refuses anything else", func(t *testing.T) {
		t.Parallel()
		_, err := newServer("host=/tmp user=postgres")
		require.ErrorContains(t, err, serverVariable)
	})
}

func TestWithoutPostgreSQL(t *testing.T) {
	refused := func(tb testing.TB) { refuse(tb, fmt.Errorf("%w: nothing installed", errUnavailable)) }

	t.Run("tests are skipped and counted", func(t *testing.T) {
		t.Setenv(requireVariable, "")
		before := skipped.Load()
		r := observe(t, refused)
		require.Contains(t, r.skip, "nothing installed")
		require.Empty(t, r.fatal)
		require.Equal(t, before+1, skipped.Swap(before))
	})
	t.Run("tests fail where it is required", func(t *testing.T) {
		t.Setenv(requireVariable, "1")
		r := observe(t, refused)
		require.Contains(t, r.fatal, "nothing installed")
		require.Empty(t, r.skip)
	})
	t.Run("a server that does not start is never a reason to skip", func(t *testing.T) {
		t.Setenv(requireVariable, "")
		r := observe(t, func(tb testing.TB) { refuse(tb, errors.New("disk full")) })
		require.Contains(t, r.fatal, "disk full")
		require.Empty(t, r.skip)
	})
}

func TestSkippedTestsAreAnnouncedInOneLine(t *testing.T) {
	before := skipped.Swap(3)
	running := opened.Swap(nil)
	defer func() { skipped.Store(before); opened.Store(running) }()
	var out bytes.Buffer
	require.NoError(t, stop(&out))
	require.Equal(t, 1, strings.Count(out.String(), "\n"))
	require.Contains(t, out.String(), "3 PostgreSQL tests were skipped")
}

// shareable is the server of the other tests, or skips where there is none.
func shareable(t *testing.T) *server {
	t.Helper()
	URL(t)
	return opened.Load()
}

func connect(t *testing.T, databaseURL string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), statement)
	require.NoError(t, err)
}

func count(t *testing.T, conn *pgx.Conn, table string) (n int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
	return n
}

// executeOn runs a statement as a template's setup does: on a connection that is
// closed afterwards.
func executeOn(ctx context.Context, databaseURL, statement string) error {
	if _, err := url.Parse(databaseURL); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// recorder is a test whose end is observed rather than suffered.
type recorder struct {
	testing.TB
	fatal, skip string
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.fatal = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skipf(format string, args ...any) {
	r.skip = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func observe(t *testing.T, f func(testing.TB)) *recorder {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r
}
