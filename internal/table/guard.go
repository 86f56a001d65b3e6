package table

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Spreadsheets take text that begins with one of these for a formula. The last
// four are their wide forms, which some fold.
const formulaStarts = "=+-@\t\r\n＝＋－＠"

// Guard puts an apostrophe in front of text that a spreadsheet would take for a
// formula, and of text that begins with one, so that Unguard knows its own.
func Guard(text string) string {
	if first, _ := utf8.DecodeRuneInString(text); text != "" && (first == '\'' || strings.ContainsRune(formulaStarts, first)) {
		return "'" + text
	}
	return text
}

// Unguard takes back what Guard did.
func Unguard(text string) string { return strings.TrimPrefix(text, "'") }

// escaped is how workbooks write what XML cannot hold (ISO/IEC 29500-1, 22.9.2.19).
var escaped = regexp.MustCompile(`_x[0-9A-Fa-f]{4}_`)

// Escape writes characters that XML cannot hold at all as _x0001_, and a _x that was there
// before as _x005F_x.
func Escape(text string) string {
	text = strings.ReplaceAll(text, "_x", "_x005F_x")
	var b strings.Builder
	for _, c := range text {
		if c < 0x20 && c != '\t' && c != '\n' && c != '\r' || c == 0xFFFE || c == 0xFFFF {
			b.WriteString("_x" + strings.ToUpper(strconv.FormatInt(0x10000+int64(c), 16)[1:]) + "_")
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

// Unescape takes back what Escape did.
func Unescape(text string) string {
	return escaped.ReplaceAllStringFunc(text, func(s string) string {
		c, err := strconv.ParseUint(s[2:6], 16, 16)
		if err != nil {
			return s
		}
		return string(rune(c))
	})
}
