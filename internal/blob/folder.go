package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// folder is one in which bytes are kept, for what its bucket does not do well: that
// one reads all of the folder for each page of a list.
type folder struct {
	root   string
	prefix string // of the names of all keys
	// sync has what was written to a file, or the names that were in a folder, outlive the power.
	sync func(*os.File) error
	// names are those in a folder.
	names func(at string) ([]string, error)
}

// folderAt reads the URL of a bucket that is a folder as its driver does.
func folderAt(address string) (*folder, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("reading the URL of the file bucket")
	}
	name := u.Path
	if u.Host == "." || os.PathSeparator != '/' { // the path is relative, or begins with the letter of a drive
		name = strings.TrimPrefix(name, "/")
	}
	root, err := filepath.Abs(filepath.FromSlash(name))
	if err != nil {
		return nil, fmt.Errorf("finding the folder of bytes: %w", err)
	}
	f := &folder{root, u.Query().Get("prefix"), (*os.File).Sync, namesIn}
	// The folder itself may be new; who may not read the one above did not make it.
	if err := f.syncFolder(filepath.Dir(root)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("opening the folder of bytes: %w", err)
	}
	return f, nil
}

// path is where the bytes of a key are.
func (f *folder) path(key string) string {
	return filepath.Join(f.root, filepath.FromSlash(f.prefix+key))
}

// syncFile syncs a file before it gets its name: there is no moment at which the name
// is there and what belongs under it is not.
func (f *folder) syncFile(file *os.File) error {
	if file == nil {
		return errors.New("the file that is written is not known")
	}
	return f.sync(file)
}

// syncNames syncs the folder in which the bytes of a key are, and those above it, any
// of which may be new.
func (f *folder) syncNames(key string) error {
	for at := filepath.Dir(f.path(key)); ; at = filepath.Dir(at) {
		if err := f.syncFolder(at); err != nil || len(at) <= len(f.root) {
			return err
		}
	}
}

func (f *folder) syncFolder(at string) error { return syncFolder(at, f.sync) }

// SyncFolder has the names that are in a folder outlive the power.
func SyncFolder(at string) error { return syncFolder(at, (*os.File).Sync) }

func syncFolder(at string, sync func(*os.File) error) error {
	if runtime.GOOS == "windows" { // which has no such thing
		return nil
	}
	dir, err := os.Open(at)
	if err != nil {
		return err
	}
	err = sync(dir)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) { // some shared folders have no such thing either
		err = nil
	}
	return errors.Join(err, dir.Close())
}

// keys calls do for every key, with how many bytes it has, in the order of names.
func (f *folder) keys(ctx context.Context, do func(key string, size int64) error) error {
	return filepath.WalkDir(f.root, func(at string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && entry.IsDir() {
			return nil
		}
		var info fs.FileInfo
		if err == nil {
			info, err = entry.Info()
		}
		if errors.Is(err, fs.ErrNotExist) { // it went meanwhile
			return nil
		}
		if err == nil {
			at, err = filepath.Rel(f.root, at)
		}
		if err != nil {
			return fmt.Errorf("listing bytes: %w", err)
		}
		key, ours := strings.CutPrefix(filepath.ToSlash(at), f.prefix)
		if !ours || strings.HasSuffix(key, ".attrs") { // which says what is kept under a key
			return nil
		}
		return do(key, info.Size())
	})
}

// torn are the files that whoever was killed left while he wrote to some keys,
// KEY.NUMBER.tmp each, with their keys. Each folder is read once.
func (f *folder) torn(keys map[string]bool) (map[string]string, error) {
	out, read := map[string]string{}, map[string]bool{}
	for key := range keys {
		at := filepath.Dir(f.path(key))
		if read[at] {
			continue
		}
		read[at] = true
		names, err := f.names(at)
		if err != nil {
			return nil, fmt.Errorf("looking for bytes that were not written to their end: %w", err)
		}
		for _, name := range names {
			before, _, _ := strings.Cut(name, ".")
			of := path.Join(path.Dir(key), before)
			if before != name && keys[of] {
				out[path.Join(path.Dir(key), name)] = of
			}
		}
	}
	return out, nil
}

// namesIn are the names in a folder, where there is one.
func namesIn(at string) (names []string, err error) {
	dir, err := os.Open(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	return dir.Readdirnames(-1)
}
