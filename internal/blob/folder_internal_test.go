package blob

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBytesAreSyncedBeforeTheyHaveTheirNameAndTheirNameIsAfterwards(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "blobs")
	address, err := Folder(root)
	require.NoError(t, err)
	for query, prefix := range map[string]string{"": "", "&prefix=of/": "of/"} {
		bucket, err := Open(t.Context(), address+query)
		require.NoError(t, err)
		defer func() { require.NoError(t, bucket.Close()) }()
		final := filepath.Join(root, prefix, "t", "key")
		var synced []string
		bucket.folder.sync = func(f *os.File) error {
			name, err := filepath.Rel(root, f.Name())
			require.NoError(t, err)
			info, err := f.Stat()
			require.NoError(t, err)
			_, err = os.Stat(final)
			require.Equal(t, info.IsDir(), err == nil, name)
			if !info.IsDir() {
				require.EqualValues(t, len("bytes"), info.Size())
			}
			synced = append(synced, regexp.MustCompile(`[0-9a-f]+\.tmp$`).ReplaceAllString(filepath.ToSlash(name), "N.tmp"))
			return f.Sync()
		}
		_, err = bucket.Write(t.Context(), "t/key", strings.NewReader("bytes"))
		require.NoError(t, err)
		want := []string{prefix + "t/key.N.tmp", prefix + "t"}
		if prefix != "" {
			want = append(want, "of")
		}
		require.Equal(t, append(want, "."), synced)
	}
}

func TestAFolderIsReadOnceHoweverManyKeysWereLeft(t *testing.T) {
	t.Parallel()
	address, err := Folder(filepath.Join(t.TempDir(), "blobs"))
	require.NoError(t, err)
	bucket, err := Open(t.Context(), address)
	require.NoError(t, err)
	defer func() { require.NoError(t, bucket.Close()) }()
	var read []string
	bucket.folder.names = func(at string) ([]string, error) {
		read = append(read, filepath.Base(at))
		return []string{"a.1.tmp", "b.2.tmp", "c.3.tmp", "b"}, nil
	}
	torn, err := bucket.folder.torn(map[string]bool{"t/a": true, "t/b": true, "t/d": true})
	require.NoError(t, err)
	require.Equal(t, []string{"t"}, read)
	require.Equal(t, map[string]string{"t/a.1.tmp": "t/a", "t/b.2.tmp": "t/b"}, torn)
}
