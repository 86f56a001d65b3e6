package blob_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func TestBytesWithoutAnOwnerGo(t *testing.T) {
	t.Parallel()
	for name, open := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			folder := filepath.Join(t.TempDir(), "a folder", "blobs")
			bucket := openFolder(t, folder)
			in := func(do func(context.Context, *store.Tx) error) error { return db.InTx(t.Context(), do) }
			spare := func(until time.Time, keys ...string) {
				require.NoError(t, in(func(ctx context.Context, tx *store.Tx) error { return blob.Spare(ctx, tx, until, keys...) }))
			}
			write := func(key string, from io.Reader) error {
				_, err := bucket.Write(t.Context(), key, from)
				return err
			}
			keys := func() (all []string) {
				require.NoError(t, bucket.Keys(t.Context(), func(key string, _ int64) error { all = append(all, key); return nil }))
				return all
			}
			sweep := func() int {
				n, err := bucket.Sweep(t.Context(), db)
				require.NoError(t, err)
				return n
			}
			take := func(key string) error {
				return in(func(ctx context.Context, tx *store.Tx) error { return blob.Take(ctx, tx, key) })
			}

			now := db.Now()
			spare(now.Add(time.Hour), "t/taken", "t/waiting", "t/failed")
			spare(now.Add(-time.Second), "t/late", "t/never")
			for _, key := range []string{"t/taken", "t/waiting", "t/late"} {
				require.NoError(t, write(key, strings.NewReader("bytes of "+key)))
			}
			torn := errors.New("torn")
			require.ErrorIs(t, write("t/failed", io.MultiReader(strings.NewReader("some"), iotest.ErrReader(torn))), torn)
			require.Equal(t, []string{"t/late", "t/taken", "t/waiting"}, keys(), "of what failed nothing is kept")

			require.NoError(t, take("t/taken"))
			require.ErrorIs(t, in(func(ctx context.Context, tx *store.Tx) error {
				return errors.Join(blob.Take(ctx, tx, "t/waiting"), torn)
			}), torn)
			require.Equal(t, 2, sweep())
			require.Equal(t, []string{"t/taken", "t/waiting"}, keys())
			require.ErrorIs(t, take("t/late"), blob.ErrExpired)
			require.Zero(t, sweep())

			spare(now.Add(-time.Second), "t/taken")
			require.Equal(t, 1, sweep())
			_, err := bucket.Open(t.Context(), "t/taken")
			require.ErrorIs(t, err, blob.ErrNotFound)

			// What a killed process wrote a part of.
			require.NoError(t, os.WriteFile(filepath.Join(folder, "t", "torn.18.tmp"), []byte("a part"), 0o600))
			spare(now.Add(-time.Second), "t/torn")
			require.Equal(t, []string{"t/torn.18.tmp", "t/waiting"}, keys())
			require.Equal(t, 1, sweep())
			require.Equal(t, []string{"t/waiting"}, keys())

			// Of some keys only what is due goes at once.
			spare(now.Add(-time.Second), "t/due")
			spare(now.Add(time.Hour), "t/later", "t/forsaken")
			for _, key := range []string{"t/due", "t/later", "t/forsaken"} {
				require.NoError(t, write(key, strings.NewReader("bytes")))
			}
			require.NoError(t, bucket.Remove(t.Context(), db, []string{"t/due", "t/later"}))
			require.Equal(t, []string{"t/forsaken", "t/later", "t/waiting"}, keys())
			require.NoError(t, blob.Forsake(t.Context(), db, "t/forsaken"))
			require.Equal(t, 1, sweep())
			require.ErrorIs(t, in(func(ctx context.Context, tx *store.Tx) error {
				return blob.Take(ctx, tx, "t/later", "t/forsaken")
			}), blob.ErrExpired, "all of them or none")
			require.NoError(t, take("t/later"))

			r, err := bucket.Open(t.Context(), "t/waiting")
			require.NoError(t, err)
			text, err := io.ReadAll(r)
			require.NoError(t, err)
			require.NoError(t, r.Close())
			require.Equal(t, "bytes of t/waiting", string(text))
		})
	}
}

func TestAKeyThatCannotBeRemovedHoldsUpNoOthers(t *testing.T) {
	t.Parallel()
	for name, open := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
			db := open(t, store.WithClock(func() time.Time { return now }))
			folder := filepath.Join(t.TempDir(), "blobs")
			bucket := openFolder(t, folder)
			require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				return errors.Join(blob.Spare(ctx, tx, now.Add(-time.Hour), "t/stuck"), blob.Spare(ctx, tx, now, "t/next"))
			}))
			_, err := bucket.Write(t.Context(), "t/next", strings.NewReader("bytes"))
			require.NoError(t, err)
			// Nobody removes a folder with something in it.
			require.NoError(t, os.MkdirAll(filepath.Join(folder, "t", "stuck", "full"), 0o700))

			removed, err := bucket.Sweep(t.Context(), db)
			require.ErrorContains(t, err, "t/stuck")
			require.Equal(t, 1, removed)
			require.NoFileExists(t, filepath.Join(folder, "t", "next"))
			removed, err = bucket.Sweep(t.Context(), db)
			require.NoError(t, err, "it is put off")
			require.Zero(t, removed)
			require.ErrorIs(t, db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error { return blob.Take(ctx, tx, "t/stuck") }), blob.ErrExpired)

			require.NoError(t, os.Remove(filepath.Join(folder, "t", "stuck", "full")))
			now = now.Add(time.Hour)
			removed, err = bucket.Sweep(t.Context(), db)
			require.NoError(t, err)
			require.Equal(t, 1, removed)
		})
	}
}

var databases = map[string]func(testing.TB, ...store.Option) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres}

func openFolder(t *testing.T, path string) *blob.Bucket {
	t.Helper()
	address, err := blob.Folder(path)
	require.NoError(t, err)
	bucket, err := blob.Open(t.Context(), address)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bucket.Close()) })
	return bucket
}

func TestALargeFolderIsReadWhole(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	folder := filepath.Join(t.TempDir(), "blobs")
	bucket := openFolder(t, folder)
	const files = 2_500 // more than two pages of a list
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "t"), 0o700))
	for i := range files {
		require.NoError(t, os.WriteFile(filepath.Join(folder, "t", fmt.Sprintf("a%06d", i)), nil, 0o600))
	}
	for _, name := range []string{"torn.18.tmp", "torn.19.tmp", "torn_other.18.tmp"} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, "t", name), []byte("a part"), 0o600))
	}
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		return blob.Spare(ctx, tx, tx.Now(), "t/torn", "other/torn")
	}))
	removed, err := bucket.Sweep(t.Context(), db)
	require.NoError(t, err)
	require.Equal(t, 2, removed)
	var keys []string
	require.NoError(t, bucket.Keys(t.Context(), func(key string, _ int64) error { keys = append(keys, key); return nil }))
	require.Len(t, keys, files+1)
	require.True(t, slices.IsSorted(keys))
	require.Equal(t, "t/torn_other.18.tmp", keys[files])
}

func TestBytesGoOnceItIsDurableThatNothingRefersToThem(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	bucket := openFolder(t, filepath.Join(t.TempDir(), "blobs"))
	in := func(do func(context.Context, *store.Tx) error) { require.NoError(t, db.InTx(t.Context(), do)) }
	in(func(ctx context.Context, tx *store.Tx) error {
		for _, statement := range []string{
			`CREATE TABLE levels (level INTEGER)`,
			`CREATE TRIGGER going AFTER UPDATE OF going ON blob_spares BEGIN INSERT INTO levels SELECT synchronous FROM pragma_synchronous; END`,
		} {
			if _, err := store.Build(tx).Add(statement).Exec(ctx, tx); err != nil {
				return err
			}
		}
		return blob.Spare(ctx, tx, tx.Now(), "t/due")
	})
	_, err := bucket.Write(t.Context(), "t/due", strings.NewReader("bytes"))
	require.NoError(t, err)
	removed, err := bucket.Sweep(t.Context(), db)
	require.NoError(t, err)
	require.Equal(t, 1, removed)
	var levels []int
	require.NoError(t, store.Build(db).Add(`SELECT level FROM levels UNION ALL SELECT synchronous FROM pragma_synchronous`).Query(t.Context(), db, func(row store.Row) error {
		var level int
		err := row.Scan(&level)
		levels = append(levels, level)
		return err
	}))
	require.Equal(t, []int{2, 1}, levels, "FULL where they are marked as going, and NORMAL otherwise")
}
