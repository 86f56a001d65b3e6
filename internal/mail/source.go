package mail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// DefaultLimit is the size of the largest mail that is read when Options has
// no other.
const DefaultLimit = 32 << 20

// ErrTooLarge reports a mail over Options.Limit.
var ErrTooLarge = errors.New("mail is too large")

// ErrNoMail reports a path that holds no mail in any format that is known.
var ErrNoMail = errors.New("no mail found")

// Format is how a source keeps mail.
type Format string

// The formats of a source.
const (
	EML     Format = "eml"     // one file, one mail
	Mbox    Format = "mbox"    // one file, mails behind From_ lines
	Maildir Format = "maildir" // a folder with cur and new
	Folder  Format = "folder"  // a folder that holds any of these at any depth
)

// Options of a source. The zero value is ready to use.
type Options struct {
	Limit int64 // bytes of one mail; 0 means DefaultLimit
}

// Item is one mail of a source.
type Item struct {
	// Name says where it stands: the slash-separated path from the source, for
	// the nth mail of an mbox with ":#n" (counted from 1) behind it.
	Name string
	// Raw is the mail. It belongs to the receiver; nil when Err is set.
	Raw []byte
	// Times holds what the From_ line or the file name says.
	Times Times
	// Err says why this mail could not be read. The others can be.
	Err error
}

// Parse reads the mail of the item; at is when the import runs.
func (i Item) Parse(at time.Time) (Message, error) {
	if i.Err != nil {
		return Message{}, i.Err
	}
	times := i.Times
	times.Import = at
	return Parse(i.Raw, times)
}

// Source is stored mail at a path. Nothing is written to it.
type Source struct {
	root     string // free of symbolic links
	format   Format
	limit    int64
	total    int64
	ignored  int
	consumed atomic.Int64
}

// Open finds out what is stored at path and how large it is, by names and
// sizes only. The error is ErrNoMail or one of the file system.
func Open(path string, options Options) (*Source, error) {
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("open mail: %w", err)
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("open mail: %w", err)
	}
	s := &Source{root: root, limit: options.Limit}
	if s.limit <= 0 {
		s.limit = DefaultLimit
	}
	found := 0
	err = s.each(context.Background(), func(f file) error {
		switch {
		case f.format == "":
			s.ignored++
		case f.err == nil:
			found++
			s.total += f.size
			s.format = f.format
		default:
			found++
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open mail: %w", err)
	}
	if found == 0 {
		return nil, fmt.Errorf("open mail %s: %w", filepath.Base(path), ErrNoMail)
	}
	if info.IsDir() {
		s.format = Folder
		if isDir(filepath.Join(root, "cur")) || isDir(filepath.Join(root, "new")) {
			s.format = Maildir
		}
	}
	return s, nil
}

// Format is what was found at the path.
func (s *Source) Format() Format { return s.format }

// Total is the bytes of all mail as it was when the source was opened.
func (s *Source) Total() int64 { return s.total }

// Consumed is the bytes Walk has been through. It may be called meanwhile.
func (s *Source) Consumed() int64 { return s.consumed.Load() }

// Ignored is the number of files in a folder that are not mail by their names,
// such as the indexes of a mail server.
func (s *Source) Ignored() int { return s.ignored }

// Walk hands every mail to fn, in the order of their names, one at a time in
// memory. A mail that cannot be read is handed over with Err set. Walk stops
// at the first error of fn, or when ctx ends, and returns that.
func (s *Source) Walk(ctx context.Context, fn func(Item) error) error {
	s.consumed.Store(0)
	return s.each(ctx, func(f file) error {
		switch {
		case f.format == "":
			return nil
		case f.err != nil:
			return fn(Item{Name: f.name, Err: f.err})
		case f.format == Mbox:
			return s.walkMbox(ctx, f, fn)
		}
		raw, err := s.read(f.path)
		s.consumed.Add(f.size)
		return fn(Item{Name: f.name, Raw: raw, Times: Times{MaildirName: f.at}, Err: err})
	})
}

// file is one file of a source. An empty format means it is not mail.
type file struct {
	path, name string
	format     Format
	size       int64
	at         time.Time // in the name of a maildir file
	err        error
}

// each hands every file below the root to fn. What cannot be listed becomes a
// file with an error.
func (s *Source) each(ctx context.Context, fn func(file) error) error {
	return filepath.WalkDir(s.root, func(path string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f := file{path: path, name: s.relative(path)}
		if err != nil {
			f.format, f.err = Folder, err
			if failed := fn(f); failed != nil || entry == nil {
				return failed
			}
			return nil
		}
		if entry.IsDir() {
			if path != s.root && entry.Name() == "tmp" && isMaildir(filepath.Dir(path)) {
				return fs.SkipDir // mail that is being delivered
			}
			return nil
		}
		f.format = s.formatOf(path, entry)
		if f.format == Maildir {
			f.at = maildirTime(entry.Name())
		}
		info, err := entry.Info()
		switch {
		case err != nil:
			f.err = err
		case !info.Mode().IsRegular():
			f.err = errors.New("not a regular file")
		default:
			f.size = info.Size()
		}
		return fn(f)
	})
}

func (s *Source) relative(path string) string {
	name, err := filepath.Rel(s.root, path)
	if err != nil || name == "." {
		name = filepath.Base(path)
	}
	return clean(filepath.ToSlash(name))
}

// formatOf tells mail from other files: by the folder, by the extension, and
// for a file that may be an mbox, or is the source itself, by its first bytes.
func (s *Source) formatOf(path string, entry fs.DirEntry) Format {
	extension := strings.ToLower(filepath.Ext(entry.Name()))
	folder := filepath.Base(filepath.Dir(path))
	switch {
	case path == s.root && entry.Type().IsRegular():
		if startsMbox(path) {
			return Mbox
		}
		return EML
	case extension == ".eml":
		return EML
	case (folder == "cur" || folder == "new") && isMaildir(filepath.Dir(filepath.Dir(path))):
		if strings.HasPrefix(entry.Name(), ".") {
			return ""
		}
		return Maildir
	case (extension == "" || extension == ".mbox" || extension == ".mbx") && entry.Type().IsRegular() && startsMbox(path):
		return Mbox
	}
	return ""
}

// isMaildir says whether a folder is a maildir: it has cur or new. Empty
// folders get lost in archives, so not both are asked for.
func isMaildir(folder string) bool {
	return isDir(filepath.Join(folder, "cur")) || isDir(filepath.Join(folder, "new"))
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func startsMbox(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	start := make([]byte, len(fromLine))
	_, err = io.ReadFull(f, start)
	return err == nil && bytes.Equal(start, fromLine)
}

// maildirTime is the delivery time at the start of a maildir file name, in
// seconds since 1970 (https://cr.yp.to/proto/maildir.html).
func maildirTime(name string) time.Time {
	digits, _, ok := strings.Cut(name, ".")
	seconds, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || seconds <= 0 || seconds > maxMaildirTime {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// maxMaildirTime is in the year 2200: a larger number is no time.
const maxMaildirTime = 7_258_118_400

// read returns the bytes of one file, or ErrTooLarge without reading more
// than the limit.
func (s *Source) read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, s.limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > s.limit {
		return nil, fmt.Errorf("%w: over %d bytes", ErrTooLarge, s.limit)
	}
	return raw, nil
}
