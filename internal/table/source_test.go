package table_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/xuri/excelize/v2"

	"github.com/lethe-crm/lethe/internal/table"
)

// file writes a file of a name and answers its path.
func file(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

// book is a workbook of rows, changed by what is done to it.
func book(t testing.TB, change func(*excelize.File), rows ...[]any) []byte {
	t.Helper()
	f := excelize.NewFile()
	for i, row := range rows {
		require.NoError(t, f.SetSheetRow("Sheet1", fmt.Sprintf("A%d", i+1), &row))
	}
	if change != nil {
		change(f)
	}
	var b bytes.Buffer
	require.NoError(t, f.Write(&b))
	require.NoError(t, f.Close())
	return b.Bytes()
}

func TestAWorkbookSaysFromWhenItCountsDays(t *testing.T) {
	t.Parallel()
	from1904 := func(f *excelize.File) {
		yes := true
		require.NoError(t, f.SetWorkbookProps(&excelize.WorkbookPropsOptions{Date1904: &yes}))
	}
	for name, test := range map[string]struct {
		change func(*excelize.File)
		want   time.Time
	}{
		"1900": {nil, time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC)},
		"1904": {from1904, time.Date(1904, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		s, err := table.OpenAny(file(t, "a.xlsx", book(t, test.change, []any{"day"}, []any{1})))
		require.NoError(t, err, name)
		require.Equal(t, test.want, *s.Epoch(), name)
		require.NoError(t, s.Close())
	}
	for _, name := range []string{"a.csv", "a.jsonl"} {
		s, err := table.OpenAny(file(t, name, []byte("{\"day\": 1}\n")))
		require.NoError(t, err, name)
		require.Nil(t, s.Epoch(), name)
		require.NoError(t, s.Close())
	}
}

func TestLinesNoneOfWhichCanBeReadSayWhy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		want error
	}{
		"no objects":     {"not json\n[]\n", table.ErrNotObject},
		"an empty file":  {"\n", table.ErrEmpty},
		"not UTF-8":      {"{\"a\": \"\xff\"}\n", table.ErrEncoding},
		"too many names": {manyNames(table.MaxColumns+1, 4), table.ErrHeader},
		"long names":     {manyNames(200, 10_000), table.ErrHeader},
	} {
		_, err := table.OpenAny(file(t, "a.jsonl", []byte(test.text)))
		require.ErrorIs(t, err, test.want, name)
	}
	var unreadable *table.RowError
	_, err := table.OpenAny(file(t, "a.jsonl", []byte("\n{\"a\": {}}\n")))
	require.ErrorAs(t, err, &unreadable)
	require.Equal(t, 2, unreadable.Line)

	s, err := table.OpenAny(file(t, "a.jsonl", []byte("not json\n{\"a\": 1}\n")))
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, s.Header())
	require.NoError(t, s.Close())
}

// manyNames is an object a line, each with a name of its own.
func manyNames(lines, length int) string {
	var b strings.Builder
	for i := range lines {
		fmt.Fprintf(&b, "{\"%0*d\": 1}\n", length, i)
	}
	return b.String()
}

// readSource reads to the end, which comes after at most so many rows, whatever
// the file holds.
func readSource(t *testing.T, path string, most int) {
	t.Helper()
	s, err := table.OpenAny(path)
	if err != nil {
		return
	}
	defer func() { _ = s.Close() }() // a part may be found broken only then
	columns := map[string]bool{}
	for _, name := range s.Header() {
		columns[name] = true
	}
	require.LessOrEqual(t, len(columns), table.MaxColumns)
	for range most {
		row, err := s.Next()
		var unreadable *table.RowError
		switch {
		case errors.As(err, &unreadable):
			require.Positive(t, unreadable.Line)
		case errors.Is(err, io.EOF):
			require.Equal(t, s.Total(), s.Consumed())
			return
		case err != nil:
			return
		}
		size := 0
		for _, value := range row.Values {
			size += len(value)
		}
		require.LessOrEqual(t, size, table.MaxRow)
		require.LessOrEqual(t, len(row.Values), len(columns))
	}
	require.Fail(t, "no end")
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("\xef\xbb\xbf{\"a\": \"x\", \"b\": 1.50}\r\n\n{\"a\": [\"x\", \"y\"], \"c\": null}\n"))
	f.Add([]byte("{\"a\": {\"b\": 1}}\n{\"a\": 1, \"a\": 2}\n{\"a\": 1} {\"b\": 2}\nx\n{\"a\": true}"))
	f.Add([]byte("{\"\": 1, \" \": \"\\u0000\"}\n{\"a\": 1e999}\n" + strings.Repeat("[", 100)))
	f.Fuzz(func(t *testing.T, text []byte) {
		readSource(t, file(t, "a.jsonl", text), len(text)+1)
	})
}

// FuzzWorkbook changes the bytes of workbooks. Few changes get past the checksums
// in them; FuzzSheet is for what is inside.
func FuzzWorkbook(f *testing.F) {
	f.Add(book(f, nil, []any{"a", "b"}, []any{1, "x"}, []any{}, []any{46082.375, true, "one too many"}))
	f.Add(book(f, func(b *excelize.File) {
		_, err := b.NewSheet("Sheet2")
		require.NoError(f, err)
		require.NoError(f, b.SetCellFormula("Sheet1", "A2", "1+1"))
		require.NoError(f, b.MergeCell("Sheet1", "A3", "B4"))
	}, []any{"a", "b"}))
	f.Fuzz(func(t *testing.T, packed []byte) {
		readSource(t, file(t, "a.xlsx", packed), 1<<20)
	})
}

// FuzzSheet changes the parts of a workbook that rows are read from.
func FuzzSheet(f *testing.F) {
	parts := unpack(f, book(f, nil, []any{"a", "b"}, []any{1, "x"}))
	const workbook, sheet, texts = "xl/workbook.xml", "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml"
	f.Add(parts[workbook], parts[sheet], parts[texts])
	f.Add(parts[workbook], []byte(`<worksheet><sheetData><row r="1"><c r="A1" t="s"><v>0</v></c></row><row r="1048576"><c r="XFD1" t="inlineStr"><is><t>x</t></is></c></row><row r="-1"><c t="s"><v>-1</v></c></row></sheetData></worksheet>`), parts[texts])
	f.Add([]byte(`<workbook><workbookPr date1904="1"/><sheets><sheet name="a" sheetId="1" r:id="rId1"/></sheets></workbook>`), parts[sheet], []byte(`<sst><si><r><t>a</t></r><r><t>b</t></r></si><si/></sst>`))
	f.Fuzz(func(t *testing.T, props, rows, shared []byte) {
		var packed bytes.Buffer
		out := zip.NewWriter(&packed)
		for name, part := range parts {
			switch name {
			case workbook:
				part = props
			case sheet:
				part = rows
			case texts:
				part = shared
			}
			w, err := out.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
			require.NoError(t, err)
			_, err = w.Write(part)
			require.NoError(t, err)
		}
		require.NoError(t, out.Close())
		readSource(t, file(t, "a.xlsx", packed.Bytes()), len(rows)+1)
	})
}

// unpack is what a ZIP file holds, by name.
func unpack(t testing.TB, packed []byte) map[string][]byte {
	t.Helper()
	in, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	require.NoError(t, err)
	parts := map[string][]byte{}
	for _, part := range in.File {
		r, err := part.Open()
		require.NoError(t, err)
		parts[part.Name], err = io.ReadAll(r)
		require.NoError(t, err)
	}
	return parts
}
