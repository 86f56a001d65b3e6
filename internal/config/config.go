// Package config turns what an operator gave, or left out, into the address of
// the database and the key it is written with.
package config

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// KeyVariable holds the key itself. There is no flag for it: arguments are
// shown to everybody on the machine.
const KeyVariable = "LETHE_KEY"

// KeySize is the length of the server's key in bytes.
const KeySize = 32

// Storage is where things are kept, as given by flags and environment.
type Storage struct {
	// Data is the data folder.
	Data string
	// Database is a URL, empty for SQLite in the data folder.
	Database string
	// KeyFile is a path, empty for the default.
	KeyFile string
	// Key is the key itself, base64.
	Key string
}

// URL is the database's, in the form store.Open takes.
func (s Storage) URL() string {
	if s.Database == "" {
		return "sqlite:" + filepath.Join(s.Data, "lethe.db")
	}
	return s.Database
}

// SQLitePath is the file of a SQLite database; ok is false for PostgreSQL.
func (s Storage) SQLitePath() (path string, ok bool) {
	path, ok = strings.CutPrefix(s.URL(), "sqlite:")
	return strings.TrimPrefix(path, "//"), ok
}

// Redacted is the database's URL without a password, for people to read.
func (s Storage) Redacted() string {
	if _, ok := s.SQLitePath(); ok {
		return s.URL()
	}
	u, err := url.Parse(s.URL())
	if err != nil {
		return "a database URL that cannot be read"
	}
	u.RawQuery = "" // a password may be a parameter, too
	return u.Redacted()
}

// The ways in which there can be no key.
var (
	ErrTwoKeys = errors.New("a key is given twice, by --key-file and by " + KeyVariable)
	ErrNoKey   = errors.New("with PostgreSQL the key must be given, by --key-file or " + KeyVariable)
	ErrKeyGone = errors.New("the database was written with a key, but its file is gone; bring it back, or name it with --key-file")
)

// ReadKey returns the server's key. With SQLite the default is lethe.key in the
// data folder, and mayCreate says that it is made there when it is missing.
func (s Storage) ReadKey(mayCreate bool) ([]byte, error) {
	if s.Key != "" && s.KeyFile != "" {
		return nil, ErrTwoKeys
	}
	if s.Key != "" {
		return decode(KeyVariable, s.Key)
	}
	path := s.KeyFile
	if path == "" {
		if _, ok := s.SQLitePath(); !ok {
			return nil, ErrNoKey
		}
		path = filepath.Join(s.Data, "lethe.key")
		switch _, err := os.Stat(path); {
		case errors.Is(err, fs.ErrNotExist) && !mayCreate:
			return nil, fmt.Errorf("%s: %w", path, ErrKeyGone)
		case errors.Is(err, fs.ErrNotExist):
			if err := create(path); err != nil {
				return nil, fmt.Errorf("making a key: %w", err)
			}
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	return decode(path, string(text))
}

// decode reads base64 in either alphabet, padded or not. An error never quotes
// what may be most of a key.
func decode(source, text string) ([]byte, error) {
	text = strings.TrimRight(strings.TrimSpace(text), "=")
	text = strings.NewReplacer("-", "+", "_", "/").Replace(text)
	key, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("the key in %s is not base64", source)
	}
	if len(key) != KeySize {
		return nil, fmt.Errorf("the key in %s has %d bytes, not %d", source, len(key), KeySize)
	}
	return key, nil
}

// create makes a key file that appears complete or not at all. Of two processes
// that start together one makes it, and the other finds it.
func create(path string) (err error) {
	key := make([]byte, KeySize)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".lethe.key-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if e := os.Remove(f.Name()); err == nil {
			err = e
		}
	}()
	_, err = fmt.Fprintln(f, base64.StdEncoding.EncodeToString(key))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
