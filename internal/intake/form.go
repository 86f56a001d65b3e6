package intake

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/rest"
)

const (
	// uploadTime is how long a client may take to send a file.
	uploadTime = time.Hour
	// maxForm is what a form may have beside the file, in bytes, and maxFields what
	// of that its fields may be.
	maxForm   = 256 << 10
	maxFields = 64 << 10
	// fileField is the form's field with the file.
	fileField = "file"
)

// extensions are those by which files are told apart.
var extensions = []string{".csv", ".tsv", ".txt", ".xlsx", ".jsonl", ".ndjson", ".eml", ".mbox"}

// form is a form that is being read: a file and how to import it, in any order.
type form struct {
	*handler

	as, markDeleted, timezone string
	columns, set              map[string]string
	dryRun                    bool
	given                     map[string]bool // the fields that stand once only
	path                      string          // of the temporary file
	left                      int64           // bytes for fields
}

func (f *form) read(w http.ResponseWriter, r *http.Request) error {
	kind, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" || parameters["boundary"] == "" {
		return rest.ErrMediaType
	}
	if r.ContentLength > f.MaxImport+maxForm {
		return f.tooLarge()
	}
	if err := http.NewResponseController(w).SetReadDeadline(f.Now().Add(uploadTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("letting the client take its time: %w", err)
	}
	f.given, f.left = map[string]bool{}, maxFields
	body := http.MaxBytesReader(w, r.Body, f.MaxImport+maxForm)
	if err := f.readParts(multipart.NewReader(body, parameters["boundary"])); err != nil {
		return err
	}
	// Only behind the end of the body the server notices that a client goes away.
	if _, err := io.Copy(io.Discard, body); err != nil {
		return f.torn(err)
	}
	for name, missing := range map[string]bool{"as": f.as == "", fileField: f.path == ""} {
		if missing {
			return record.Refuse(lifecycle.BadUserInput, "is required", name)
		}
	}
	return nil
}

func (f *form) readParts(from *multipart.Reader) error {
	for {
		part, err := from.NextRawPart() // raw: a file is read as it was sent
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return f.torn(err)
		}
		if name := part.FormName(); name == fileField {
			err = f.readFile(part)
		} else {
			err = f.readField(name, part)
		}
		if err != nil {
			return err
		}
	}
}

func (f *form) readField(name string, part io.Reader) error {
	value, err := io.ReadAll(io.LimitReader(part, f.left+1))
	if err != nil {
		return f.torn(err)
	}
	if f.left -= int64(len(value)); f.left < 0 {
		return record.Refuse(lifecycle.Limit, fmt.Sprintf("the fields have at most %d bytes together", maxFields))
	}
	text := string(value)
	if once := name != "map" && name != "set"; once && f.given[name] {
		return record.Refuse(lifecycle.BadUserInput, "is given twice", name)
	}
	f.given[name] = true
	switch name {
	case "as":
		f.as = text
	case "map":
		f.columns, err = pair(f.columns, name, text)
	case "set":
		f.set, err = pair(f.set, name, text)
	case "markDeleted":
		f.markDeleted = text
	case "timezone":
		f.timezone = text
	case "dryRun":
		if f.dryRun, err = strconv.ParseBool(text); err != nil {
			err = record.Refuse(lifecycle.BadUserInput, "is neither true nor false", name)
		}
	default:
		delete(f.given, name)
		return record.Refuse(lifecycle.BadUserInput, "there is no such field", strings.ToValidUTF8(name[:min(len(name), 64)], ""))
	}
	return err
}

// pair adds NAME=VALUE.
func pair(to map[string]string, field, text string) (map[string]string, error) {
	name, value, cut := strings.Cut(text, "=")
	if !cut || name == "" {
		return to, record.Refuse(lifecycle.BadUserInput, "is not of the form name=value", field)
	}
	if _, twice := to[name]; twice {
		return to, record.Refuse(lifecycle.BadUserInput, "has the same name twice", field)
	}
	if to == nil {
		to = map[string]string{}
	}
	to[name] = value
	return to, nil
}

// readFile writes the file down under a name that says what it is.
func (f *form) readFile(part *multipart.Part) (err error) {
	if f.path != "" {
		return record.Refuse(lifecycle.BadUserInput, "is given twice", fileField)
	}
	extension := strings.ToLower(filepath.Ext(part.FileName()))
	if !slices.Contains(extensions, extension) {
		return record.Refuse(lifecycle.BadUserInput, "has a name that ends in one of "+strings.Join(extensions, ", "), fileField)
	}
	file, err := os.CreateTemp("", "lethe-import-*"+extension)
	if err != nil {
		return fmt.Errorf("making room for a file: %w", err)
	}
	f.path = file.Name()
	content := &source{from: part}
	n, err := io.Copy(file, io.LimitReader(content, f.MaxImport+1))
	err = errors.Join(err, file.Close())
	switch {
	case content.err != nil:
		return f.torn(content.err)
	case err != nil:
		return fmt.Errorf("writing a file down: %w", err)
	case n > f.MaxImport:
		return f.tooLarge()
	}
	return nil
}

// source remembers that it failed itself, and not whoever writes down what it says.
type source struct {
	from io.Reader
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (f *form) tooLarge() error {
	return record.Refuse(lifecycle.Limit, fmt.Sprintf("a file has at most %d bytes", f.MaxImport), fileField)
}

// torn is what a client is told whose form cannot be read to its end.
func (f *form) torn(err error) error {
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return f.tooLarge()
	}
	return record.Refuse(lifecycle.BadUserInput, "the form cannot be read to its end")
}
