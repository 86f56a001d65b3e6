package table

import (
	"bytes"
	"errors"
	"strings"
)

// errMore asks for more of the file: the end of the row is not in sight.
var errMore = errors.New("the row goes on")

// form is how rows are written.
type form struct {
	separator, rowEnd string
	quoted            bool // fields may stand in double quotes (RFC 4180)
	atEnd             bool // nothing follows what is in sight
}

// split cuts the row at the start of text into fields, at most limit+1, and
// says how long it is with its end.
func (f form) split(text []byte, limit int) (fields []string, length int, err error) {
	if !f.quoted {
		return f.splitPlain(text, limit)
	}
	at := 0
	for {
		var field string
		if at < len(text) && text[at] == '"' {
			var closed int
			if field, closed, err = f.quotedField(text[at:]); err != nil {
				return nil, len(text), err
			}
			at += closed
		} else {
			end := bytes.IndexAny(text[at:], f.separator+"\n")
			if end < 0 {
				if !f.atEnd {
					return nil, 0, errMore
				}
				end = len(text) - at
			}
			field = string(text[at : at+end])
			at += end
		}
		if len(fields) <= limit {
			fields = append(fields, field)
		}
		rest := text[at:]
		switch {
		case bytes.HasPrefix(rest, []byte(f.separator)):
			at += len(f.separator)
		case len(rest) == 0 && !f.atEnd:
			return nil, 0, errMore
		case len(rest) == 0, rest[0] == '\n':
			last := &fields[len(fields)-1]
			*last = strings.TrimSuffix(*last, "\r")
			return fields, at + min(1, len(rest)), nil
		case bytes.HasPrefix(rest, []byte("\r\n")):
			return fields, at + 2, nil
		case string(rest) == "\r":
			if !f.atEnd {
				return nil, 0, errMore
			}
			return fields, at + 1, nil
		default: // text behind a closing quote
			return nil, at, ErrQuote
		}
	}
}

// quotedField reads the field in quotes at the start of text and says where
// the text behind it begins.
func (f form) quotedField(text []byte) (field string, end int, err error) {
	for at := 1; ; at++ {
		next := bytes.IndexByte(text[at:], '"')
		if next < 0 || at+next == len(text)-1 && !f.atEnd { // it may be the first of two
			if f.atEnd {
				return "", 0, ErrQuote
			}
			return "", 0, errMore
		}
		at += next
		if at+1 == len(text) || text[at+1] != '"' {
			return strings.ReplaceAll(string(text[1:at]), `""`, `"`), at + 1, nil
		}
		at++
	}
}

// splitPlain cuts a row without quotes.
func (f form) splitPlain(text []byte, limit int) ([]string, int, error) {
	end := bytes.Index(text, []byte(f.rowEnd))
	length := end + len(f.rowEnd)
	switch {
	case end < 0 && !f.atEnd:
		return nil, 0, errMore
	case end < 0 && f.rowEnd != "\n" && len(bytes.TrimSpace(text)) > 0:
		return nil, len(text), ErrTruncated
	case end < 0:
		end, length = len(text), len(text)
	}
	if f.rowEnd != "\n" { // line breaks behind a row end belong to it
		behind := bytes.TrimLeft(text[length:], "\r\n")
		if len(behind) == 0 && !f.atEnd {
			return nil, 0, errMore
		}
		length = len(text) - len(behind)
	}
	row := string(text[:end])
	if f.rowEnd == "\n" {
		row = strings.TrimSuffix(row, "\r")
	}
	return strings.SplitN(row, f.separator, limit+1), length, nil
}
