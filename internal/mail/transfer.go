package mail

import (
	"bytes"
	"encoding/base64"
	"strings"
)

const base64Letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// decodeTransfer undoes a Content-Transfer-Encoding. Names that are not known
// ("8 bit", "7bits") stand for none.
func decodeTransfer(encoding string, content []byte) (decoded []byte, whole bool) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "quoted-printable":
		return decodeQuotedPrintable(content), true
	case "base64":
		return decodeBase64(content)
	}
	return content, true
}

// decodeQuotedPrintable is RFC 2045 section 6.7; what is not an escape stays
// as it is.
func decodeQuotedPrintable(content []byte) []byte {
	out := make([]byte, 0, len(content))
	for line := range bytes.Lines(content) {
		end := line[len(bytes.TrimRight(line, "\r\n")):]
		line = bytes.TrimRight(line, "\r\n")
		if len(end) > 0 {
			line = bytes.TrimRight(line, " \t")
		}
		soft := bytes.HasSuffix(line, []byte("="))
		if soft {
			line, end = line[:len(line)-1], nil
		}
		for len(line) > 0 {
			if line[0] == '=' && len(line) > 2 {
				high, low := unhex(line[1]), unhex(line[2])
				if high >= 0 && low >= 0 {
					out = append(out, byte(high<<4|low)) //nolint:gosec // two hexadecimal digits
					line = line[3:]
					continue
				}
			}
			out = append(out, line[0])
			line = line[1:]
		}
		out = append(out, end...)
	}
	return out
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// decodeBase64 decodes what is base64 and keeps the rest as it is: a list
// server appends its footer in plain text, and some mailers announce base64
// and send text. Padding ends a run; another run may follow on the next line.
// whole is false when something was not base64.
func decodeBase64(content []byte) (decoded []byte, whole bool) {
	out := make([]byte, 0, base64.StdEncoding.DecodedLen(len(content)))
	run := make([]byte, 0, len(content))
	flush := func() {
		group := wholeGroups(string(run))
		b, _ := base64.RawStdEncoding.DecodeString(group)
		out, run = append(out, b...), run[:0]
	}
	whole = true
	for rest := content; len(rest) > 0; {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		line = bytes.TrimSpace(line)
		data, trailer, padded := bytes.Cut(line, []byte("="))
		foreign := countForeign(data)
		if foreign > 0 || len(bytes.Trim(trailer, "= \t")) > 0 {
			whole = false
		}
		started := len(out)+len(run) > 0
		if foreign*10 > len(data) || foreign > 0 && (!started || bytes.ContainsAny(data, " ")) {
			flush()
			return append(out, rest...), false
		}
		for _, c := range data {
			if strings.IndexByte(base64Letters, c) >= 0 {
				run = append(run, c)
			}
		}
		if padded {
			flush()
		}
		rest = after
	}
	flush()
	return out, whole
}

func countForeign(line []byte) int {
	n := 0
	for _, c := range line {
		if strings.IndexByte(base64Letters, c) < 0 {
			n++
		}
	}
	return n
}

// wholeGroups drops a last letter that cannot hold a byte.
func wholeGroups(letters string) string {
	if len(letters)%4 == 1 {
		return letters[:len(letters)-1]
	}
	return letters
}
