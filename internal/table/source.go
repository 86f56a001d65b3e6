package table

import (
	"path/filepath"
	"strings"
	"time"
)

// Source streams the rows of a table in any format. Only Consumed may be called
// from another goroutine.
type Source interface {
	// Header is the names of the columns in their order.
	Header() []string
	// Next returns the next row, a *RowError for one that cannot be read, io.EOF
	// at the end, or the error of the file.
	Next() (Row, error)
	// Consumed is how many of the Total bytes are done with.
	Consumed() int64
	Total() int64
	// Epoch is the day from which a spreadsheet counts the days that stand for
	// times, nil where times are text.
	Epoch() *time.Time
	Close() error
}

// IsTable reports whether a file is a table by its name.
func IsTable(path string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".csv", ".tsv", ".txt", ".xlsx", ".jsonl", ".ndjson":
		return true
	}
	return false
}

// OpenAny opens a table by its name: .xlsx is a workbook, .jsonl and .ndjson are
// objects a line, everything else is delimited text. The error is ErrEmpty,
// ErrHeader, a *RowError for the header, or one of the file. Close the source
// after use.
func OpenAny(path string) (Source, error) {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".xlsx":
		return openWorkbook(path)
	case ".jsonl", ".ndjson":
		return openLines(path)
	}
	return Open(path, Options{})
}

// Epoch implements Source.
func (*Reader) Epoch() *time.Time { return nil }

// cutHeader checks names as those of columns.
func cutHeader(names []string) ([]string, error) {
	r := &Reader{}
	err := r.setHeader(names)
	return r.header, err
}
