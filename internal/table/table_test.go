package table_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding/unicode"

	"github.com/lethe-crm/lethe/internal/table"
)

// readAll reads every row and every row error.
func readAll(t *testing.T, r *table.Reader) (rows []table.Row, bad []*table.RowError) {
	t.Helper()
	for {
		row, err := r.Next()
		var rowError *table.RowError
		switch {
		case err == nil:
			require.Len(t, row.Values, len(r.Header()))
			rows = append(rows, row)
		case errors.As(err, &rowError):
			bad = append(bad, rowError)
		default:
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, r.Total(), r.Consumed())
			return rows, bad
		}
	}
}

func reader(t *testing.T, text string, options table.Options) *table.Reader {
	t.Helper()
	r, err := table.NewReader(strings.NewReader(text), int64(len(text)), options)
	require.NoError(t, err)
	return r
}

// values are the fields of rows in the order of the header.
func values(r *table.Reader, rows []table.Row) [][]string {
	var all [][]string
	for _, row := range rows {
		var fields []string
		for _, name := range r.Header() {
			fields = append(fields, row.Values[name])
		}
		all = append(all, fields)
	}
	return all
}

func TestTheSeparatorIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, separator string }{
		"comma":                        {"a,b\n1,2\n", ","},
		"semicolon with decimal comma": {"a;b\n1,5;2,5\n3,5;4,5\n", ";"},
		"tab with commas in text":      {"a\tb\n1, 2\t3, 4\nx\ty\n", "\t"},
		"bar":                          {"a|b|c\n1|2|3\n", "|"},
		"separators in quotes":         {"a,b\n\"1;2;3\",4\n\"5;6;7\",8\n", ","},
		"one column":                   {"a\n1\n", ","},
		"more fields win":              {"a;b;c,d\n1;2;3,4\n", ";"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := reader(t, c.text, table.Options{})
			require.Equal(t, c.separator, r.Separator())
			_, bad := readAll(t, r)
			require.Empty(t, bad)
		})
	}
}

func TestFieldsAreReadAsRFC4180WritesThem(t *testing.T) {
	t.Parallel()
	r := reader(t, "\ufeffid, name ,\r\n1,\"a \"\"b\"\"\",\"x\r\ny\"\r\n\r\n2,5\" pipe,\"\"\r\n3,,last", table.Options{})
	require.Equal(t, []string{"id", "name", "column 3"}, r.Header())
	rows, bad := readAll(t, r)
	require.Empty(t, bad)
	require.Equal(t, [][]string{{"1", `a "b"`, "x\r\ny"}, {"2", `5" pipe`, ""}, {"3", "", "last"}}, values(r, rows))
	require.Equal(t, []int{2, 5, 6}, []int{rows[0].Line, rows[1].Line, rows[2].Line})
}

func TestABadRowIsReportedAndTheNextIsRead(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", table.MaxRow)
	for name, c := range map[string]struct {
		row  string
		want error
	}{
		"too few fields":              {"1", nil},
		"too many fields":             {"1,2,3", nil},
		"invalid UTF-8":               {"\xff,2", table.ErrEncoding},
		"NUL":                         {"\x00,2", table.ErrNUL},
		"text behind a closing quote": {`"1"x,2`, table.ErrQuote},
		"a quote that is not closed":  {`"1,2`, table.ErrQuote},
		"too long":                    {long + ",2", table.ErrTooLong},
		"too long in quotes":          {`"` + long + `",2`, table.ErrTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := reader(t, "a,b\nbefore,1\n"+c.row+"\nafter,2\nlast,3\n", table.Options{})
			rows, bad := readAll(t, r)
			require.Equal(t, [][]string{{"before", "1"}, {"after", "2"}, {"last", "3"}}, values(r, rows))
			require.Equal(t, []int{2, 4, 5}, []int{rows[0].Line, rows[1].Line, rows[2].Line})
			require.Len(t, bad, 1)
			require.Equal(t, 3, bad[0].Line)
			if c.want == nil {
				var columns *table.ColumnsError
				require.ErrorAs(t, bad[0], &columns)
				return
			}
			require.ErrorIs(t, bad[0], c.want)
		})
	}
}

func TestARowOfTheLargestSizeIsRead(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"\n", "\r\n", ""} {
		field := strings.Repeat("x", table.MaxRow-2)
		r := reader(t, "a,b\n"+field+",2"+end, table.Options{})
		rows, bad := readAll(t, r)
		require.Empty(t, bad)
		require.Equal(t, [][]string{{field, "2"}}, values(r, rows))
	}
}

func TestAHeaderThatCannotBeUsedIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"empty file":    {"", table.ErrEmpty},
		"a mark alone":  {"\ufeff", table.ErrEmpty},
		"empty lines":   {"\n\r\n", table.ErrEmpty},
		"same names":    {"a,b, a\n", table.ErrHeader},
		"too many":      {strings.Repeat(",", table.MaxColumns), table.ErrHeader},
		"invalid UTF-8": {"a,\xff\n", table.ErrEncoding},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := table.NewReader(strings.NewReader(c.text), int64(len(c.text)), table.Options{})
			require.ErrorIs(t, err, c.want)
		})
	}
}

func TestUTF16IsReadByItsMark(t *testing.T) {
	t.Parallel()
	const text = "name;town\r\nMüller;Köln\r\n王;北京\r\n"
	for _, order := range []unicode.Endianness{unicode.LittleEndian, unicode.BigEndian} {
		encoded, err := unicode.UTF16(order, unicode.UseBOM).NewEncoder().String(text)
		require.NoError(t, err)
		r := reader(t, encoded, table.Options{})
		rows, bad := readAll(t, r)
		require.Empty(t, bad)
		require.Equal(t, []string{"name", "town"}, r.Header())
		require.Equal(t, [][]string{{"Müller", "Köln"}, {"王", "北京"}}, values(r, rows))
	}
	r := reader(t, "\xff\xfea\x00\n\x00\x00\xd8\n\x00b\x00\n\x00", table.Options{})
	rows, bad := readAll(t, r)
	require.Equal(t, [][]string{{"b"}}, values(r, rows))
	require.Len(t, bad, 1)
	require.ErrorIs(t, bad[0], table.ErrEncoding)
}

func TestAdventureWorksFilesAreReadWithTheirMarks(t *testing.T) {
	t.Parallel()
	marks := table.Options{FieldSep: "+|", RowEnd: "&|"}
	for name, c := range map[string]struct {
		options table.Options
		header  string
		rows    int
		second  []string // the start of the second row
	}{
		"EmailAddress":  {marks, "person id email guid modified", 6, []string{"2", "2", "terri0@adventure-works.com"}},
		"Store":         {marks, "id name seller survey guid modified", 6, []string{"294", "Professional Sales and Service", "276"}},
		"Vendor":        {table.Options{}, "id account name rating preferred active url modified", 6, []string{"1494", "ALLENSON0001", "Allenson Cycles"}},
		"CountryRegion": {table.Options{}, "code name modified", 10, []string{"AE", "United Arab Emirates"}},
		"Employee":      {table.Options{FieldSep: "\t"}, "id national login node level title born marital gender hired salaried vacation sick current guid modified", 6, []string{"2", "245797967", `adventure-works\terri0`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.options.Header = strings.Fields(c.header)
			r, err := table.Open(filepath.Join("testdata", "adventureworks", name+".csv"), c.options)
			require.NoError(t, err)
			defer func() { require.NoError(t, r.Close()) }()
			rows, bad := readAll(t, r)
			require.Empty(t, bad)
			require.Len(t, rows, c.rows)
			for i, row := range rows {
				require.Equal(t, i+1, row.Line)
			}
			require.Equal(t, c.second, values(r, rows)[1][:len(c.second)])
			if name == "CountryRegion" {
				require.Equal(t, "Côte d'Ivoire", rows[6].Values["name"])
			}
		})
	}
}

func TestRowsWithMarksOfTheirOwnMayHoldLineBreaksAndQuotes(t *testing.T) {
	t.Parallel()
	r := reader(t, "a+|b&|\r\n1+|\"x\ny&|\r\n2+|z+|3&|\n4+|&|\ncut+|", table.Options{FieldSep: "+|", RowEnd: "&|"})
	rows, bad := readAll(t, r)
	require.Equal(t, [][]string{{"1", "\"x\ny"}, {"4", ""}}, values(r, rows))
	require.Len(t, bad, 2)
	require.Equal(t, 4, bad[0].Line)
	require.ErrorIs(t, bad[1], table.ErrTruncated)
	require.Equal(t, 6, bad[1].Line)
}

func TestProgressFollowsTheRows(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("a,b\n")
	for i := range 10_000 {
		fmt.Fprintf(&text, "%d,x\n", i)
	}
	path := filepath.Join(t.TempDir(), "a.csv")
	require.NoError(t, os.WriteFile(path, []byte(text.String()), 0o600))
	r, err := table.Open(path, table.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	require.EqualValues(t, text.Len(), r.Total())
	_, err = r.Next()
	require.NoError(t, err)
	require.EqualValues(t, len("a,b\n0,x\n"), r.Consumed())
	rows, bad := readAll(t, r)
	require.Empty(t, bad)
	require.Len(t, rows, 9_999)
}

func TestAMissingFileIsReported(t *testing.T) {
	t.Parallel()
	_, err := table.Open(filepath.Join(t.TempDir(), "missing.csv"), table.Options{})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = table.Open(t.TempDir(), table.Options{})
	require.Error(t, err)
}

func FuzzReader(f *testing.F) {
	f.Add("a,b\n1,2\n\"x\"\"\n\",3\n", "", "")
	f.Add("\xff\xfea\x00\n\x00", "", "")
	f.Add("1+|2&|\n3+|4&|\n", "+|", "&|")
	f.Fuzz(func(t *testing.T, text, separator, end string) {
		r, err := table.NewReader(strings.NewReader(text), int64(len(text)), table.Options{FieldSep: separator, RowEnd: end})
		if err != nil {
			return
		}
		for range len(text) + 2 { // every call gets further
			if _, err = r.Next(); errors.Is(err, io.EOF) {
				return
			}
		}
		t.Fatal("no end")
	})
}
