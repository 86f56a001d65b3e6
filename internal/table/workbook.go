package table

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/xuri/excelize/v2"
)

// maxUnpacked bounds what a workbook may unpack to, in bytes: it is a ZIP file,
// and a small one can hold anything. What is over 16 MiB of it is kept on disk.
const (
	maxUnpacked = 1 << 30
	inMemory    = 16 << 20
)

// workbook reads the first sheet of a workbook (Office Open XML). Cells are read
// as they are stored: a number with all its digits, a time as the serial number
// that it is there.
type workbook struct {
	file     *excelize.File
	rows     *excelize.Rows
	header   []string
	total    int64
	line     int
	epoch    time.Time
	consumed atomic.Int64
}

// The two date systems of workbooks (ISO/IEC 29500-1, 18.17.4.1). The first one
// begins a day early, since it has a 29th of February 1900; earlier days are not
// told apart.
var (
	epoch1900 = time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC)
	epoch1904 = time.Date(1904, 1, 1, 0, 0, 0, 0, time.UTC)
)

var rawCells = excelize.Options{RawCellValue: true, UnzipSizeLimit: maxUnpacked, UnzipXMLSizeLimit: inMemory}

func openWorkbook(path string) (Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open table: %w", err)
	}
	file, err := excelize.OpenFile(path, rawCells)
	if err != nil {
		return nil, fmt.Errorf("open table: %w: %w", ErrHeader, err)
	}
	w := &workbook{file: file, total: info.Size()}
	if err := w.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open table: %w", err), w.Close())
	}
	return w, nil
}

func (w *workbook) open() (err error) {
	props, err := w.file.GetWorkbookProps()
	if err != nil {
		return err
	}
	w.epoch = epoch1900
	if props.Date1904 != nil && *props.Date1904 {
		w.epoch = epoch1904
	}
	sheets := w.file.GetSheetList()
	if len(sheets) == 0 {
		return ErrEmpty
	}
	if w.rows, err = w.file.Rows(sheets[0]); err != nil {
		return err
	}
	names, err := w.cells()
	if errors.Is(err, io.EOF) {
		return ErrEmpty
	}
	if err == nil {
		w.header, err = cutHeader(names)
	}
	return err
}

// cells reads the next row that is not empty.
func (w *workbook) cells() ([]string, error) {
	for w.rows.Next() {
		w.line++
		cells, err := w.rows.Columns(rawCells)
		if err != nil {
			return nil, &RowError{w.line, err}
		}
		for _, cell := range cells {
			if cell != "" {
				return cells, nil
			}
		}
	}
	if err := w.rows.Error(); err != nil {
		return nil, err
	}
	return nil, io.EOF
}

// Next implements Source. Cells that are empty at the end of a row are not
// stored; more cells than there are columns is an error.
func (w *workbook) Next() (Row, error) {
	cells, err := w.cells()
	if err != nil {
		if errors.Is(err, io.EOF) {
			w.consumed.Store(w.total)
		}
		return Row{}, err
	}
	// How much of the packed file a row is nobody knows.
	w.consumed.Store(w.total / 2)
	for len(cells) > len(w.header) && cells[len(cells)-1] == "" {
		cells = cells[:len(cells)-1]
	}
	if len(cells) > len(w.header) {
		return Row{}, &RowError{w.line, &ColumnsError{Got: len(cells), Want: len(w.header)}}
	}
	row := Row{Line: w.line, Values: make(map[string]string, len(cells))}
	size := 0
	for i, cell := range cells {
		row.Values[w.header[i]] = cell
		size += len(cell)
	}
	if size > MaxRow {
		return Row{}, &RowError{w.line, ErrTooLong}
	}
	return row, nil
}

// Header implements Source.
func (w *workbook) Header() []string { return w.header }

// Consumed implements Source.
func (w *workbook) Consumed() int64 { return w.consumed.Load() }

// Total implements Source.
func (w *workbook) Total() int64 { return w.total }

// Epoch implements Source.
func (w *workbook) Epoch() *time.Time { return &w.epoch }

// Close implements Source.
func (w *workbook) Close() error {
	var err error
	if w.rows != nil {
		err = w.rows.Close()
	}
	return errors.Join(err, w.file.Close())
}
