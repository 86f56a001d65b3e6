package mail

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxFilename is the length of the longest name of a file, in characters.
const MaxFilename = 500

// endings are those of files that have no name.
var endings = map[string]string{
	"message/rfc822": ".eml", "text/plain": ".txt", "text/html": ".html", "text/calendar": ".ics", "text/vcard": ".vcf", "text/csv": ".csv",
	"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/svg+xml": ".svg", "application/pdf": ".pdf", "application/zip": ".zip",
	"application/pkcs7-signature": ".p7s", "application/pgp-signature": ".asc",
}

// attachments are the files of parts.
func (r *reading) attachments(parts []*part) []Attachment {
	var out []Attachment
	byName := map[string][]int{}
	for i, p := range parts {
		content, whole := decodeTransfer(p.encoding, p.content)
		if !whole {
			r.warnf("an attachment is announced as base64 and partly is not")
		}
		a := Attachment{Filename: r.filename(p, i+1), MediaType: r.cut("media type", clean(p.mediaType), MaxFilename, utf8.RuneCountInString, cutRunes), Content: content}
		again := false
		for _, j := range byName[a.Filename] {
			again = again || bytes.Equal(out[j].Content, content)
		}
		if again {
			continue
		}
		byName[a.Filename] = append(byName[a.Filename], len(out))
		out = append(out, a)
	}
	return out
}

// filename is the name of the nth attachment. What it says of folders is left
// out: it is where the file was on somebody else's machine.
func (r *reading) filename(p *part, n int) string {
	name := p.name
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = strings.TrimSpace(clean(name))
	if name == "" || name == "." || name == ".." {
		return fmt.Sprintf("attachment %d%s", n, endings[p.mediaType])
	}
	return r.cut("file name", name, MaxFilename, utf8.RuneCountInString, cutRunes)
}
