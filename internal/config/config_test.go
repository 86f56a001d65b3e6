package config_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/config"
)

var key = bytes.Repeat([]byte{0xfb, 0xff}, 16) // has both characters in which the alphabets differ

func TestTheFirstStartMakesAKeyThatTheNextOneFinds(t *testing.T) {
	t.Parallel()
	s := config.Storage{Data: filepath.Join(t.TempDir(), "new", "data")}
	first, err := s.ReadKey(true)
	require.NoError(t, err)
	require.Len(t, first, config.KeySize)
	info, err := os.Stat(filepath.Join(s.Data, "lethe.key"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	entries, err := os.ReadDir(s.Data)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing else is left behind")

	again, err := s.ReadKey(false)
	require.NoError(t, err)
	require.Equal(t, first, again)
}

func TestProcessesThatStartTogetherHaveOneKey(t *testing.T) {
	t.Parallel()
	s := config.Storage{Data: t.TempDir()}
	keys := make(chan []byte, 8)
	for range cap(keys) {
		go func() {
			k, _ := s.ReadKey(true)
			keys <- k
		}()
	}
	first := <-keys
	require.Len(t, first, config.KeySize)
	for range cap(keys) - 1 {
		require.Equal(t, first, <-keys)
	}
}

func TestALostKeyIsNotReplaced(t *testing.T) {
	t.Parallel()
	s := config.Storage{Data: t.TempDir()}
	_, err := s.ReadKey(false)
	require.ErrorIs(t, err, config.ErrKeyGone)
	require.NoFileExists(t, filepath.Join(s.Data, "lethe.key"))
}

func TestPostgreSQLMustBeGivenAKey(t *testing.T) {
	t.Parallel()
	s := config.Storage{Data: t.TempDir(), Database: "postgres://localhost/x"}
	_, err := s.ReadKey(true)
	require.ErrorIs(t, err, config.ErrNoKey)
	s.Key = base64.StdEncoding.EncodeToString(key)
	got, err := s.ReadKey(true)
	require.NoError(t, err)
	require.Equal(t, key, got)
	s.KeyFile = "somewhere"
	_, err = s.ReadKey(true)
	require.ErrorIs(t, err, config.ErrTwoKeys)
}

func TestKeysAreReadHoweverTheyWereEncoded(t *testing.T) {
	t.Parallel()
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		path := filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(path, []byte(" "+encoding.EncodeToString(key)+"\r\n"), 0o600))
		got, err := config.Storage{KeyFile: path}.ReadKey(false)
		require.NoError(t, err)
		require.Equal(t, key, got)
	}
}

func TestAKeyThatIsNoneIsRefusedAndNotShown(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"sesame!", base64.StdEncoding.EncodeToString(key[:31]), base64.StdEncoding.EncodeToString(append(key, 1))} {
		_, err := config.Storage{Key: text}.ReadKey(false)
		require.Error(t, err)
		require.NotContains(t, err.Error(), text)
	}
	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err := config.Storage{KeyFile: path}.ReadKey(true)
	require.Error(t, err, "an empty file")
	_, err = config.Storage{KeyFile: path + "2"}.ReadKey(true)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestTheDatabaseIsSQLiteInTheDataFolderUnlessNamed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ database, url, path, redacted string }{
		{"", "sqlite:data/lethe.db", "data/lethe.db", "sqlite:data/lethe.db"},
		{"sqlite:/srv/x.db", "sqlite:/srv/x.db", "/srv/x.db", "sqlite:/srv/x.db"},
		{"sqlite:///srv/x.db", "sqlite:///srv/x.db", "/srv/x.db", "sqlite:///srv/x.db"},
		{"postgres://u:secret@h1,h2/db?password=secret", "postgres://u:secret@h1,h2/db?password=secret", "", "postgres://u:xxxxx@h1,h2/db"},
		{"postgres://u:%zzsecret@h", "postgres://u:%zzsecret@h", "", "a database URL that cannot be read"},
	} {
		s := config.Storage{Data: "data", Database: test.database}
		require.Equal(t, test.url, s.URL())
		path, ok := s.SQLitePath()
		require.Equal(t, test.path != "", ok)
		if ok {
			require.Equal(t, test.path, path)
		}
		require.Equal(t, test.redacted, s.Redacted())
	}
}
