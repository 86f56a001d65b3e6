package mail

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/cention-sany/utf7"
	"github.com/gogs/chardet"
	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

// charsets are labels met in mail that neither WHATWG nor IANA lists, or that
// mean something else in mail than on the web.
var charsets = map[string]encoding.Encoding{
	"utf-7":             utf7.UTF7,
	"utf7":              utf7.UTF7,
	"unicode-1-1-utf-7": utf7.UTF7,
	"csunicode11utf7":   utf7.UTF7,
	"hz-gb-2312":        simplifiedchinese.HZGB2312,
	"gb2312":            simplifiedchinese.GB18030, // a superset, often sent under this name
	"gbk":               simplifiedchinese.GB18030,
	"cp936":             simplifiedchinese.GB18030,
	"windows-936":       simplifiedchinese.GB18030,
	"cp949":             korean.EUCKR,
	"utf-16":            unicode.UTF16(unicode.BigEndian, unicode.UseBOM), // RFC 2781 section 4.3
	"utf-32":            utf32.UTF32(utf32.BigEndian, utf32.UseBOM),
}

// undeclared are labels that say nothing about the charset.
var undeclared = map[string]bool{
	"": true, "us-ascii": true, "ascii": true, "ansi_x3.4-1968": true, "unknown": true,
	"unknown-8bit": true, "x-unknown": true, "default": true, "default_charset": true, "8bit": true, "binary": true,
}

// toUTF8 converts text to valid UTF-8 without NUL. Text without a declared
// charset is taken as UTF-8 where it is valid, else its charset is guessed.
// known is false when the label is not understood.
func toUTF8(label string, text []byte) (converted string, known bool) {
	if len(text) == 0 {
		return "", true
	}
	label = strings.ToLower(strings.Trim(strings.TrimSpace(label), `"'`))
	label = strings.TrimPrefix(label, "charset=")
	if undeclared[label] {
		return guessUTF8(text), true
	}
	if label == "utf-8" || label == "utf8" {
		return clean(string(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")))), true
	}
	if label == "iso-2022-kr" || label == "csiso2022kr" {
		return decodeOr(korean.EUCKR, shiftedKorean(text)), true
	}
	found := lookUp(label)
	if found == nil {
		return guessUTF8(text), false
	}
	if _, name := charset.Lookup(label); name == "windows-1252" && !isASCII(text) && utf8.Valid(text) {
		// Latin text is next to never valid UTF-8 by chance, and UTF-8
		// labelled Latin-1 is common.
		return clean(string(text)), true
	}
	return decodeOr(found, text), true
}

func lookUp(label string) encoding.Encoding {
	if found, ok := charsets[label]; ok {
		return found
	}
	if found, _ := charset.Lookup(label); found != nil && found != encoding.Replacement {
		return found
	}
	if found, err := ianaindex.MIME.Encoding(label); err == nil && found != nil {
		return found
	}
	if number, ok := strings.CutPrefix(label, "cp-"); ok {
		return lookUp("cp" + number)
	}
	if number, ok := strings.CutPrefix(label, "cp"); ok && len(number) == 4 {
		return lookUp("windows-" + number)
	}
	return nil
}

func decodeOr(from encoding.Encoding, text []byte) string {
	decoded, err := from.NewDecoder().Bytes(text)
	if err != nil {
		return guessUTF8(text)
	}
	return clean(string(decoded))
}

// guessConfidence, of 100, is what a guessed charset must reach; below it text
// is read as windows-1252, which has a character for nearly every byte.
const guessConfidence = 40

// guessSample bounds the bytes that are looked at to guess a charset.
const guessSample = 64 << 10

func guessUTF8(text []byte) string {
	if bytes.Contains(text, []byte("\x1b$")) {
		if decoded, err := lookUp("iso-2022-jp").NewDecoder().Bytes(text); err == nil {
			return clean(string(decoded))
		}
	}
	if utf8.Valid(text) {
		return clean(string(text))
	}
	if found := guessCyrillic(text[:min(len(text), guessSample)]); found != nil {
		return decodeOr(found, text)
	}
	best, err := chardet.NewTextDetector().DetectBest(text[:min(len(text), guessSample)])
	if err == nil && best.Confidence >= guessConfidence {
		if found := lookUp(strings.ToLower(best.Charset)); found != nil {
			if decoded, err := found.NewDecoder().Bytes(text); err == nil {
				return clean(string(decoded))
			}
		}
	}
	decoded, err := lookUp("windows-1252").NewDecoder().Bytes(text)
	if err != nil {
		return clean(string(text))
	}
	return clean(string(decoded))
}

// commonCyrillic are the letters that make up about two thirds of a Russian or
// Bulgarian text, lower-case.
const commonCyrillic = "оеаинтсрвл"

// guessCyrillic returns the charset that makes most of the text common
// Cyrillic letters, or nil. The trigrams of chardet need far longer texts.
func guessCyrillic(text []byte) encoding.Encoding {
	var best encoding.Encoding
	most := 0
	for _, candidate := range []encoding.Encoding{charmap.Windows1251, charmap.KOI8R, charmap.CodePage866, charmap.ISO8859_5} {
		decoded, err := candidate.NewDecoder().Bytes(text)
		if err != nil {
			continue
		}
		foreign, common := 0, 0
		for _, char := range string(decoded) {
			if char >= utf8.RuneSelf {
				foreign++
			}
			if strings.ContainsRune(commonCyrillic, char) {
				common++
			}
		}
		if common*2 > foreign && common > most {
			best, most = candidate, common
		}
	}
	return best
}

// shiftedKorean turns ISO-2022-KR (RFC 1557) into EUC-KR: between SO and SI
// the high bit is left out.
func shiftedKorean(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte("\x1b$)C"), nil)
	out := make([]byte, 0, len(text))
	shifted := false
	for _, c := range text {
		switch {
		case c == 0x0e || c == 0x0f:
			shifted = c == 0x0e
		case c == '\n':
			shifted = false
			out = append(out, c)
		case shifted && c > ' ':
			out = append(out, c|0x80)
		default:
			out = append(out, c)
		}
	}
	return out
}

func isASCII(text []byte) bool {
	for _, c := range text {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// clean makes text valid UTF-8 without NUL, which PostgreSQL cannot store.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
}
