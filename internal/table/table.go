// Package table streams the rows of delimited text files (CSV and its kin)
// for imports.
//
// It finds out the charset by the byte order mark, the separator by the first
// rows and the names of the columns by the first row. A row that cannot be
// read is reported and the next one is read; no file can make it hold more
// than a row of MaxRow bytes.
package table

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/text/encoding/unicode"
)

// What a file may hold. Fields are bounded by the row.
const (
	MaxRow     = 1 << 20 // bytes of one row as UTF-8, line breaks in quotes included
	MaxColumns = 4_096
)

// Why a row, or the header, cannot be read.
var (
	ErrEmpty     = errors.New("the file holds no rows")
	ErrHeader    = errors.New("the header cannot be used")
	ErrTooLong   = fmt.Errorf("the row is longer than %d bytes", MaxRow)
	ErrQuote     = errors.New("a quote is not closed, or text follows a closing quote")
	ErrEncoding  = errors.New("the text is not valid in the charset of the file")
	ErrNUL       = errors.New("the row holds a NUL character")
	ErrTruncated = errors.New("the file ends within the row")
)

// ColumnsError reports a row with another number of fields than the header.
type ColumnsError struct{ Got, Want int }

func (e *ColumnsError) Error() string {
	if e.Got > e.Want {
		return fmt.Sprintf("more than %d fields", e.Want)
	}
	return fmt.Sprintf("%d fields instead of %d", e.Got, e.Want)
}

// RowError reports a row that cannot be read. The rows behind it can be.
type RowError struct {
	Line int // where the row starts, from 1
	Err  error
}

func (e *RowError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap is the cause: one of the errors of this package.
func (e *RowError) Unwrap() error { return e.Err }

// Options say what cannot be found out. The zero value fits CSV with a header.
type Options struct {
	// Header names the columns of a file without a header row.
	Header []string
	// FieldSep separates fields. Empty: comma, semicolon, tab or "|",
	// whichever the first rows fit, and a field may stand in double quotes.
	// Where it is set, quotes are characters like any other, as bcp of SQL
	// Server writes them.
	FieldSep string
	// RowEnd ends rows. Empty: \n or \r\n. Line breaks behind a RowEnd belong
	// to it.
	RowEnd string
}

// Row is one row by the names of its columns.
type Row struct {
	Line   int // where the row starts, from 1
	Values map[string]string
}

// Reader reads rows one at a time. Only Consumed may be called from another
// goroutine.
type Reader struct {
	source   *source
	file     io.Closer
	window   *bufio.Reader
	total    int64
	wide     bool // UTF-16
	header   []string
	separate string
	rowEnd   string
	quoted   bool
	line     int
	consumed atomic.Int64
}

// source counts the bytes that are read.
type source struct {
	from io.Reader
	read int64
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.read += int64(n)
	return n, err
}

// Open opens the file at path and reads its header. The error is ErrEmpty,
// ErrHeader, a *RowError for the header, or one of the file system. Close the
// reader after use.
func Open(path string, options Options) (*Reader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open table: %w", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	var r *Reader
	if err == nil {
		r, err = NewReader(file, info.Size(), options)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open table: %w", err), file.Close())
	}
	r.file = file
	return r, nil
}

// NewReader reads a table of size bytes from any source.
func NewReader(from io.Reader, size int64, options Options) (*Reader, error) {
	r := &Reader{source: &source{from: from}, total: size, separate: options.FieldSep, rowEnd: options.RowEnd, line: 1}
	if r.rowEnd == "" {
		r.rowEnd = "\n"
	}
	if err := r.detectCharset(); err != nil {
		return nil, err
	}
	if r.separate == "" {
		r.quoted = true
		r.separate = r.detectSeparator()
	}
	names := options.Header
	if len(names) == 0 {
		var err error
		if names, _, err = r.row(); errors.Is(err, io.EOF) {
			return nil, ErrEmpty
		} else if err != nil {
			return nil, err
		}
	}
	if err := r.setHeader(names); err != nil {
		return nil, err
	}
	return r, nil
}

// detectCharset reads the byte order mark. Without one the file is UTF-8.
func (r *Reader) detectCharset() error {
	raw := bufio.NewReader(r.source)
	mark, err := raw.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var text io.Reader = raw
	switch {
	case bytes.HasPrefix(mark, []byte("\xff\xfe")), bytes.HasPrefix(mark, []byte("\xfe\xff")):
		r.wide = true
		text = unicode.UTF16(unicode.LittleEndian, unicode.ExpectBOM).NewDecoder().Reader(raw)
	case bytes.HasPrefix(mark, []byte("\xef\xbb\xbf")):
		_, err = raw.Discard(3)
	}
	// Larger than a row, so that a row of MaxRow is told from a longer one.
	r.window = bufio.NewReaderSize(text, MaxRow+len(r.rowEnd)+8)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// separators are what is looked for, the most usual first.
var separators = []string{",", ";", "\t", "|"}

// sampleRows and sampleBytes bound what is looked at to find the separator.
const (
	sampleRows  = 10
	sampleBytes = 64 << 10
)

// detectSeparator takes the separator that cuts most of the first rows into
// as many fields as the first of them, and of those the one that makes most
// fields.
func (r *Reader) detectSeparator() string {
	sample, _ := r.window.Peek(sampleBytes) // an error comes back with the first row
	best, bestRows, bestFields := separators[0], 0, 1
	for _, separator := range separators {
		form := form{separator: separator, rowEnd: r.rowEnd, quoted: true, atEnd: len(sample) < sampleBytes}
		rest, fields, rows := sample, 0, 0
		for rows < sampleRows && len(rest) > 0 {
			cut, length, err := form.split(rest, MaxColumns)
			if err != nil || rows > 0 && len(cut) != fields {
				break
			}
			fields, rest = len(cut), rest[length:]
			rows++
		}
		if fields > 1 && (rows > bestRows || rows == bestRows && fields > bestFields) {
			best, bestRows, bestFields = separator, rows, fields
		}
	}
	return best
}

// setHeader takes the names of the columns. A column without a name gets its
// number; two of one name cannot be told apart.
func (r *Reader) setHeader(names []string) error {
	if len(names) > MaxColumns {
		return fmt.Errorf("%w: more than %d columns", ErrHeader, MaxColumns)
	}
	seen := map[string]bool{}
	for i, name := range names {
		name = strings.TrimSpace(name)
		if name == "" {
			name = fmt.Sprintf("column %d", i+1)
		}
		if seen[name] {
			return fmt.Errorf("%w: column %q stands in it twice", ErrHeader, name)
		}
		seen[name] = true
		r.header = append(r.header, name)
	}
	return nil
}

// Header is the names of the columns in their order.
func (r *Reader) Header() []string { return r.header }

// Separator is what stands between fields, as given or as found out.
func (r *Reader) Separator() string { return r.separate }

// Total is the size of the file in bytes.
func (r *Reader) Total() int64 { return r.total }

// Consumed is the bytes of the rows that were read. For UTF-16 it is an
// estimate until the end is reached.
func (r *Reader) Consumed() int64 { return r.consumed.Load() }

func (r *Reader) progress() {
	ahead := int64(r.window.Buffered())
	if r.wide {
		ahead *= 2 // most letters of tables are one byte in UTF-8
	}
	r.consumed.Store(max(r.consumed.Load(), r.source.read-ahead))
}

// Close closes the file that Open opened.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// Next returns the next row, a *RowError for one that cannot be read, io.EOF
// at the end, or the error of the file. Empty lines are passed over.
func (r *Reader) Next() (Row, error) {
	fields, line, err := r.row()
	r.progress()
	if err != nil {
		return Row{}, err
	}
	if len(fields) != len(r.header) {
		return Row{}, &RowError{line, &ColumnsError{Got: len(fields), Want: len(r.header)}}
	}
	row := Row{Line: line, Values: make(map[string]string, len(fields))}
	for i, field := range fields {
		row.Values[r.header[i]] = field
	}
	return row, nil
}

// row reads the fields of the next row that is not empty and says where it
// starts.
func (r *Reader) row() ([]string, int, error) {
	limit := MaxColumns
	if r.header != nil {
		limit = len(r.header)
	}
	for {
		raw, fields, err := r.peekRow(limit)
		line := r.line
		r.line += bytes.Count(raw, []byte("\n"))
		if err != nil {
			return nil, line, r.skip(raw, line, err)
		}
		text := bytes.TrimRight(raw, "\r\n")
		err = r.invalid(text)
		if _, failed := r.window.Discard(len(raw)); failed != nil {
			return nil, line, failed
		}
		switch {
		case err != nil:
			return nil, line, &RowError{line, err}
		case len(text) > 0:
			return fields, line, nil
		}
	}
}

// peekRow looks at more and more of the file until a whole row is in sight.
func (r *Reader) peekRow(limit int) (raw []byte, fields []string, err error) {
	form := form{separator: r.separate, rowEnd: r.rowEnd, quoted: r.quoted}
	for size := 4 << 10; ; size *= 2 {
		size = min(size, r.window.Size())
		seen, err := r.window.Peek(size)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, err
		}
		if len(seen) == 0 {
			return nil, nil, io.EOF
		}
		form.atEnd = err != nil
		fields, length, err := form.split(seen, limit)
		switch {
		case err == nil && len(bytes.TrimSuffix(bytes.TrimRight(seen[:length], "\r\n"), []byte(r.rowEnd))) > MaxRow:
			return seen, nil, ErrTooLong
		case err == nil:
			return seen[:length], fields, nil
		case !errors.Is(err, errMore):
			return seen[:length], nil, err
		case size == r.window.Size():
			return seen, nil, ErrTooLong
		}
	}
}

// skip gets behind a row that cannot be read: to the end of its first line,
// as a quote that is not closed would take in all rows behind it.
func (r *Reader) skip(seen []byte, line int, cause error) error {
	known := errors.Is(cause, ErrTooLong) || errors.Is(cause, ErrQuote) || errors.Is(cause, ErrTruncated)
	if !known {
		return cause
	}
	r.line = line
	for {
		at := bytes.Index(seen, []byte(r.rowEnd))
		length := at + len(r.rowEnd)
		if at < 0 { // keep what may be the start of a row end
			length = max(1, len(seen)-len(r.rowEnd)+1)
		}
		r.line += bytes.Count(seen[:length], []byte("\n"))
		if _, err := r.window.Discard(length); err != nil {
			return err
		}
		if at >= 0 {
			return &RowError{line, cause}
		}
		next, err := r.window.Peek(sampleBytes)
		if len(next) == 0 {
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			return &RowError{line, cause}
		}
		seen = next
	}
}

// invalid says why text cannot be kept, or nil.
func (r *Reader) invalid(text []byte) error {
	switch {
	case !utf8.Valid(text), r.wide && bytes.Contains(text, []byte("\uFFFD")):
		return ErrEncoding
	case bytes.IndexByte(text, 0) >= 0:
		return ErrNUL
	}
	return nil
}
