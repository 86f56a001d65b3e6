package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"

	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/table"
)

// writer writes rows in some form. A cell is nil, a string, an int64, a float64, a
// bool or a time.
type writer interface {
	// write answers the columns of which not all of the text went in.
	write(row []any) (cut []int, err error)
	close() error
}

func newWriter(f Format, to io.Writer, columns []column) (writer, error) {
	switch f {
	case CSV:
		return newCSV(to, columns)
	case XLSX:
		return newWorkbook(to, columns)
	case JSONL:
		return &lines{to: to, columns: columns}, nil
	}
	return nil, fmt.Errorf("export: there is no format %s", f)
}

// timeText is a time as it is written in all forms: in UTC, with all its digits.
func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// delimited is CSV as RFC 4180 has it. All text is in quotes, so that nobody takes
// what is in it for another separator. Text that a spreadsheet would take for a
// formula is guarded. encoding/csv would turn the line ends in text into others.
type delimited struct {
	to      io.Writer
	columns []column
	line    bytes.Buffer
}

func newCSV(to io.Writer, columns []column) (*delimited, error) {
	d := &delimited{to: to, columns: columns}
	for i, c := range columns {
		d.next(i)
		d.quote(c.name)
	}
	return d, d.end()
}

func (d *delimited) next(i int) {
	if i > 0 {
		d.line.WriteByte(',')
	}
}

func (d *delimited) quote(text string) {
	d.line.WriteString(`"` + strings.ReplaceAll(text, `"`, `""`) + `"`)
}

func (d *delimited) end() error {
	d.line.WriteString("\r\n")
	_, err := d.to.Write(d.line.Bytes())
	d.line.Reset()
	return err
}

func (d *delimited) write(row []any) ([]int, error) {
	for i, cell := range row {
		d.next(i)
		switch v := cell.(type) {
		case nil:
		case string:
			if d.columns[i].text {
				v = table.Guard(v)
			}
			d.quote(v)
		case int64:
			d.line.WriteString(strconv.FormatInt(v, 10))
		case float64:
			d.line.WriteString(strconv.FormatFloat(v, 'f', -1, 64))
		case bool:
			d.line.WriteString(strconv.FormatBool(v))
		case time.Time:
			d.line.WriteString(timeText(v))
		default:
			return nil, fmt.Errorf("export: a cell of %T", cell)
		}
	}
	return nil, d.end()
}

func (*delimited) close() error { return nil }

// lines is JSON Lines: one object a line, with all columns in their order.
type lines struct {
	to      io.Writer
	columns []column
	line    bytes.Buffer
}

func (l *lines) write(row []any) ([]int, error) {
	encoder := json.NewEncoder(&l.line)
	encoder.SetEscapeHTML(false)
	for i, cell := range row {
		if i == 0 {
			l.line.WriteByte('{')
		} else {
			l.line.WriteByte(',')
		}
		if t, ok := cell.(time.Time); ok {
			cell = timeText(t)
		}
		for _, v := range []any{l.columns[i].name, cell} {
			if err := encoder.Encode(v); err != nil {
				return nil, fmt.Errorf("encoding a row: %w", err)
			}
			l.line.Truncate(l.line.Len() - 1) // the line end
			l.line.WriteByte(':')
		}
		l.line.Truncate(l.line.Len() - 1)
	}
	l.line.WriteString("}\n")
	_, err := l.to.Write(l.line.Bytes())
	l.line.Reset()
	return nil, err
}

func (*lines) close() error { return nil }

// What a sheet holds.
const (
	maxSheetRows = 1_048_576
	maxCell      = 32_767 // UTF-16 units
)

// workbook is a workbook (Office Open XML) of one sheet. Text is text, whatever it
// begins with, and so are times: a number of days has not all their digits. What it
// has written waits in a temporary file for the end.
type workbook struct {
	to   io.Writer
	file *excelize.File
	rows *excelize.StreamWriter
	line int
}

func newWorkbook(to io.Writer, columns []column) (*workbook, error) {
	w := &workbook{to: to, file: excelize.NewFile()}
	var err error
	if w.rows, err = w.file.NewStreamWriter("Sheet1"); err != nil {
		return nil, errors.Join(fmt.Errorf("beginning a workbook: %w", err), w.file.Close())
	}
	header := make([]any, len(columns))
	for i, c := range columns {
		header[i] = c.name
	}
	if err := w.row(header); err != nil {
		return nil, errors.Join(err, w.file.Close())
	}
	return w, nil
}

func (w *workbook) row(cells []any) error {
	w.line++
	if err := w.rows.SetRow("A"+strconv.Itoa(w.line), cells); err != nil {
		return fmt.Errorf("writing a row of a workbook: %w", err)
	}
	return nil
}

func (w *workbook) write(row []any) (cut []int, err error) {
	if w.line == maxSheetRows {
		return nil, record.Refuse(lifecycle.Limit, fmt.Sprintf("a sheet has %d rows at most; choose CSV or JSONL", maxSheetRows), "format")
	}
	cells := make([]any, len(row))
	for i, cell := range row {
		switch v := cell.(type) {
		case string:
			text := table.Escape(v)
			if len(text) > maxCell { // it may still fit
				if short := shorten(text); short != text {
					text, cut = short, append(cut, i)
				}
			}
			if text != "" { // what is empty is not there: a row is as long as its last cell
				cells[i] = text
			}
		case time.Time:
			cells[i] = timeText(v)
		case float64:
			if v == math.Trunc(v) && math.Abs(v) < 1<<53 { // without an exponent
				cells[i] = int64(v)
			} else {
				cells[i] = v
			}
		default:
			cells[i] = v
		}
	}
	return cut, w.row(cells)
}

// shorten cuts text to what a cell holds, between two characters and not within what
// stands for one.
func shorten(text string) string {
	units := 0
	for at, c := range text {
		if units += utf16.RuneLen(c); units > maxCell {
			start := max(at-7, 0)
			for start > 0 && !utf8.RuneStart(text[start]) {
				start--
			}
			if i := strings.LastIndex(text[start:at], "_x"); i >= 0 {
				at = start + i
			}
			return text[:at]
		}
	}
	return text
}

func (w *workbook) close() (err error) {
	defer func() { err = errors.Join(err, w.file.Close()) }()
	if err := w.rows.Flush(); err != nil {
		return fmt.Errorf("ending a workbook: %w", err)
	}
	if _, err := w.file.WriteTo(w.to); err != nil {
		return fmt.Errorf("writing a workbook: %w", err)
	}
	return nil
}
