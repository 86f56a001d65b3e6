package mail

import (
	"bytes"
	"encoding/base64"
	"net/textproto"
	"regexp"
	"strings"
	"unicode/utf8"
)

// header is the fields of a mail by canonical name, in the order they stand.
// Values are unfolded and otherwise as in the mail: encoded words and raw
// 8-bit text are not decoded yet.
type header map[string][]string

// fieldName is how a header line starts (RFC 5322 section 2.2, and the space
// before the colon of its obsolete syntax).
var fieldName = regexp.MustCompile(`^([!-9;-~]+)[ \t]*:`)

// splitHeader separates the header from the text behind the empty line. A mail
// that does not start with a header field is all text.
func splitHeader(raw []byte) (header, []byte) {
	fields := header{}
	var name string
	var value []byte
	keep := func() {
		if name != "" {
			fields[name] = append(fields[name], string(bytes.TrimSpace(value)))
		}
	}
	rest := bytes.TrimLeft(raw, "\r\n")
	for len(rest) > 0 {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		match := fieldName.FindSubmatch(line)
		switch {
		case len(line) == 0:
			keep()
			return fields, after
		case line[0] == ' ' || line[0] == '\t':
			value = append(append(value, ' '), bytes.TrimLeft(line, " \t")...)
		case match != nil:
			keep()
			name = textproto.CanonicalMIMEHeaderKey(string(match[1]))
			value = append([]byte(nil), line[len(match[0]):]...)
		case name == "" && len(fields) == 0 && !bytes.HasPrefix(line, []byte("From ")) && !bytes.HasPrefix(line, []byte(">From ")):
			return fields, raw
		}
		// Any other line inside a header is damage and is passed over.
		rest = after
	}
	keep()
	return fields, nil
}

// first is the first value of a field, or "".
func (r *reading) first(name string) string {
	if values := r.header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// text is the first value of a field, decoded and on one line.
func (r *reading) text(name string) string {
	return strings.TrimSpace(r.decode(r.first(name)))
}

// decode turns a header value into readable text.
func (r *reading) decode(value string) string {
	decoded, known := decodeWords(value, r.charset)
	if !known {
		r.warnf("a header field is in an unknown charset")
	}
	return clean(strings.Map(oneLine, decoded))
}

// oneLine turns characters that would break a line into spaces.
func oneLine(char rune) rune {
	switch char {
	case '\r', '\n', '\t', '\v', '\f':
		return ' '
	}
	return char
}

// encodedWordPattern is RFC 2047 section 2 as it is met in practice: with a language
// (RFC 2231 section 5), with spaces left inside, and not set off by spaces.
const encodedWordPattern = `=\?([^?\s]+)\?([bBqQ])\?([^?]*(?:\?[^=?][^?]*)*)\?=`

var (
	encodedWord        = regexp.MustCompile(encodedWordPattern)
	leadingEncodedWord = regexp.MustCompile(`^` + encodedWordPattern)
)

// decodeWords decodes the encoded words of a header value. Neighbouring words
// in one charset are joined before they are converted, because mailers split
// characters between them. known is false when a charset was not understood.
func decodeWords(value, rawCharset string) (text string, known bool) {
	var out strings.Builder
	var pending []byte
	var charset string
	known = true
	convert := func(label string, b []byte) {
		text, ok := toUTF8(label, b)
		known = known && ok
		out.WriteString(text)
	}
	end, afterWord := 0, false
	for _, at := range encodedWord.FindAllStringSubmatchIndex(value, -1) {
		between := value[end:at[0]]
		label, _, _ := strings.Cut(value[at[2]:at[3]], "*")
		joins := afterWord && strings.TrimSpace(between) == ""
		if !joins || !strings.EqualFold(label, charset) {
			convert(charset, pending)
			pending = nil
		}
		if !joins {
			out.WriteString(rawText(between, rawCharset))
		}
		charset, afterWord, end = label, true, at[1]
		pending = append(pending, wordBytes(value[at[4]:at[5]], value[at[6]:at[7]])...)
	}
	convert(charset, pending)
	out.WriteString(rawText(value[end:], rawCharset))
	return out.String(), known
}

// rawText is text of a header that is not in an encoded word: ASCII, UTF-8
// (RFC 6532), or by an old habit in the charset of the text below.
func rawText(value, charset string) string {
	if utf8.ValidString(value) || strings.HasPrefix(strings.ToLower(charset), "utf") {
		return guessUTF8([]byte(value))
	}
	text, _ := toUTF8(charset, []byte(value))
	return text
}

func wordBytes(encoding, text string) []byte {
	if strings.EqualFold(encoding, "q") {
		return decodeQuotedPrintable([]byte(strings.ReplaceAll(text, "_", "=20")))
	}
	letters := strings.Map(func(char rune) rune {
		if strings.ContainsRune(base64Letters, char) {
			return char
		}
		return -1
	}, text)
	decoded, _ := base64.RawStdEncoding.DecodeString(wholeGroups(letters))
	return decoded
}

// firstID is the first "<...>" of a value, or its first word.
func firstID(value string) string {
	if _, after, ok := strings.Cut(value, "<"); ok {
		id, _, _ := strings.Cut(after, ">")
		return strings.TrimSpace(id)
	}
	if words := strings.Fields(value); len(words) > 0 {
		return strings.Trim(words[0], ">,;")
	}
	return ""
}
