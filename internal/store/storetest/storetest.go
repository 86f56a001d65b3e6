// Package storetest runs a test on every database Lethe supports.
//
// A package whose tests use it should hand its TestMain to [Main].
package storetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/pgtest"
)

// Each runs a test on SQLite and on PostgreSQL, in parallel subtests, each on a
// migrated database without rows that is its own. Without PostgreSQL that half
// is skipped.
func Each(t *testing.T, test func(t *testing.T, db *store.DB), opts ...store.Option) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, SQLite(t, opts...))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, Postgres(t, opts...))
	})
}

// SQLite opens a migrated SQLite database in a folder of the test.
func SQLite(tb testing.TB, opts ...store.Option) *store.DB {
	tb.Helper()
	return open(tb, SQLiteURL(tb), opts)
}

// SQLiteURL is the URL of a migrated SQLite database in a folder of the test.
func SQLiteURL(tb testing.TB) string {
	tb.Helper()
	file, err := migratedFile()
	require.NoError(tb, err)
	path := filepath.Join(tb.TempDir(), "lethe.db")
	require.NoError(tb, os.WriteFile(path, file, 0o600))
	return "sqlite:" + path
}

// Postgres opens a migrated PostgreSQL database of the test, or skips it.
func Postgres(tb testing.TB, opts ...store.Option) *store.DB {
	tb.Helper()
	return open(tb, PostgresURL(tb), opts)
}

// PostgresURL is the URL of a migrated PostgreSQL database of the test.
func PostgresURL(tb testing.TB) string {
	tb.Helper()
	return pgtest.Template(tb, "storetest", migrate)
}

// Main is the body of a package's TestMain, as [pgtest.Main] describes it.
func Main(m *testing.M) { pgtest.Main(m) }

func open(tb testing.TB, url string, opts []store.Option) *store.DB {
	tb.Helper()
	db, err := store.Open(context.Background(), url, opts...)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, db.Close()) })
	return db
}

// migratedFile is a SQLite database with all migrations and no rows. Writing it
// to a file takes a hundredth of migrating one.
var migratedFile = sync.OnceValues(func() (file []byte, err error) {
	dir, err := os.MkdirTemp("", "lethe-storetest-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the template: %w", err)
	}
	defer func() {
		if e := os.RemoveAll(dir); err == nil {
			err = e
		}
	}()
	path := filepath.Join(dir, "template.db")
	// Closing the last connection moves the write-ahead log into the file.
	if err := migrate("sqlite:" + path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func migrate(url string) (err error) {
	ctx := context.Background()
	db, err := store.Open(ctx, url)
	if err != nil {
		return err
	}
	defer func() {
		if e := db.Close(); err == nil {
			err = e
		}
	}()
	return db.Migrate(ctx)
}
