package table

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Why a line of JSON cannot be read.
var (
	ErrNotObject = errors.New("the line is not one JSON object")
	ErrTwice     = errors.New("a name stands in the object twice")
	ErrNested    = errors.New("a value is an object or a list of other things than text")
)

// lines reads JSON Lines: one object a line, whose names are the columns. A
// list of texts is one text, joined by "; ".
type lines struct {
	file     *os.File
	window   *bufio.Reader
	header   []string
	total    int64
	line     int
	consumed atomic.Int64
}

// openLines reads the file once for the names in it, since any line may have
// one more.
func openLines(path string) (Source, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open table: %w", err)
	}
	l := &lines{file: file}
	if err := l.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open table: %w", err), file.Close())
	}
	return l, nil
}

func (l *lines) open() error {
	info, err := l.file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return err
	}
	l.total = info.Size()
	if err := l.start(); err != nil {
		return err
	}
	var names []string
	seen := map[string]bool{}
	var first error // the reason of the first line that cannot be read
	rows, size := 0, 0
	for {
		values, order, _, err := l.read()
		var unreadable *RowError
		switch {
		case errors.Is(err, io.EOF):
			switch {
			case rows == 0:
				return ErrEmpty
			case len(names) == 0 && first != nil:
				return first // there is no column, and the lines are why
			}
			if l.header, err = cutHeader(names); err != nil {
				return err
			}
			return l.start()
		case errors.As(err, &unreadable):
			if first == nil {
				first = err
			}
		case err != nil:
			return err
		}
		for _, name := range order {
			if _, ok := values[name]; ok && !seen[name] {
				names, seen[name] = append(names, name), true
				size += len(name)
			}
		}
		rows++
		// Or every line could bring names of its own, to be kept to the end.
		switch {
		case len(names) > MaxColumns:
			_, err := cutHeader(names)
			return err
		case size > MaxRow:
			return fmt.Errorf("%w: the names of its columns are longer than %d bytes", ErrHeader, MaxRow)
		}
	}
}

func (l *lines) start() error {
	if _, err := l.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	l.window, l.line = bufio.NewReaderSize(l.file, MaxRow+2), 0
	l.consumed.Store(0)
	if mark, _ := l.window.Peek(3); bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		n, err := l.window.Discard(3)
		l.consumed.Store(int64(n))
		return err
	}
	return nil
}

// read reads the next line that is not empty.
func (l *lines) read() (values map[string]string, order []string, at int, err error) {
	for {
		text, err := l.window.ReadSlice('\n')
		l.line++
		l.consumed.Add(int64(len(text)))
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			if err := l.skip(); err != nil {
				return nil, nil, l.line, err
			}
			return nil, nil, l.line, &RowError{l.line, ErrTooLong}
		case err != nil && !errors.Is(err, io.EOF):
			return nil, nil, l.line, err
		}
		text = bytes.TrimSpace(text)
		if len(text) == 0 {
			if err != nil {
				return nil, nil, l.line, io.EOF
			}
			continue
		}
		if values, order, err = object(text); err != nil {
			return nil, order, l.line, &RowError{l.line, err}
		}
		return values, order, l.line, nil
	}
}

// skip gets behind a line that is too long.
func (l *lines) skip() error {
	for {
		text, err := l.window.ReadSlice('\n')
		l.consumed.Add(int64(len(text)))
		if err == nil || errors.Is(err, io.EOF) {
			return nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// object reads one object of plain values.
func object(text []byte) (values map[string]string, order []string, err error) {
	if !utf8.Valid(text) {
		return nil, nil, ErrEncoding
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return nil, nil, ErrNotObject
	}
	values = map[string]string{}
	for decoder.More() {
		key, err := decoder.Token()
		name, ok := key.(string)
		if err != nil || !ok {
			return nil, order, ErrNotObject
		}
		name = strings.TrimSpace(name)
		var value any
		if err := decoder.Decode(&value); err != nil {
			return nil, order, ErrNotObject
		}
		if _, twice := values[name]; twice {
			return nil, order, fmt.Errorf("%w: %q", ErrTwice, name)
		}
		if values[name], err = plain(value); err != nil {
			return nil, order, fmt.Errorf("%w: %q", err, name)
		}
		if strings.ContainsRune(values[name], 0) {
			return nil, order, ErrNUL
		}
		order = append(order, name)
	}
	if _, err := decoder.Token(); err != nil {
		return nil, order, ErrNotObject
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, order, ErrNotObject
	}
	return values, order, nil
}

func plain(value any) (string, error) {
	switch value := value.(type) {
	case nil:
		return "", nil
	case string:
		return value, nil
	case json.Number:
		return value.String(), nil
	case bool:
		return fmt.Sprint(value), nil
	case []any:
		texts := make([]string, len(value))
		for i, v := range value {
			text, ok := v.(string)
			if !ok {
				return "", ErrNested
			}
			texts[i] = text
		}
		return strings.Join(texts, "; "), nil
	}
	return "", ErrNested
}

// Next implements Source.
func (l *lines) Next() (Row, error) {
	values, _, at, err := l.read()
	if err != nil {
		return Row{}, err
	}
	return Row{Line: at, Values: values}, nil
}

// Header implements Source.
func (l *lines) Header() []string { return l.header }

// Consumed implements Source.
func (l *lines) Consumed() int64 { return l.consumed.Load() }

// Total implements Source.
func (l *lines) Total() int64 { return l.total }

// Epoch implements Source.
func (*lines) Epoch() *time.Time { return nil }

// Close implements Source.
func (l *lines) Close() error { return l.file.Close() }
