package mail

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jhillyerd/enmime/v2"
	"github.com/jhillyerd/enmime/v2/mediatype"
	"golang.org/x/net/html/charset"
)

// Bounds on the structure of one mail. What is beyond them is not taken apart
// and counts as an attachment. Two multiparts inside of each other are usual,
// five are rare; the time enmime needs at the end of a mail grows by a power
// of the depth when none is closed.
const (
	maxMultiparts = 16
	maxParts      = 5_000
	maxBoundary   = 1_000    // bytes; RFC 2046 section 5.1.1 allows 70
	maxMediaType  = 64 << 10 // bytes of one Content-Type
)

// content is what the parts of a mail add up to.
type content struct {
	text        string
	charset     string // of the first text part
	attachments []Attachment
}

// part is one node of the MIME structure. Content is not decoded.
type part struct {
	mediaType   string
	charset     string
	encoding    string
	attached    bool // Content-Disposition: attachment
	name        string
	content     []byte
	children    []*part
	isMultipart bool
}

// readContent takes the mail apart and assembles its text.
func (r *reading) readContent(raw, text []byte) content {
	if len(r.header) == 0 {
		r.warnf("the mail has no header")
		return content{text: newLines(guessUTF8(text))}
	}
	root, err := r.readParts(raw)
	if err != nil {
		r.warnf("the structure of the mail is broken: %v", err)
		root = &part{mediaType: "text/plain", content: text}
	}
	if !root.hasContent() {
		r.warnf("no part was found in a mail of several parts, all of it is read as text")
		root = &part{mediaType: "text/plain", encoding: root.encoding, content: text}
	}

	var chosen selection
	chosen.add([]*part{root}, "mixed", false, true, true)
	result := content{attachments: r.attachments(chosen.attachments)}
	var texts []string
	for _, p := range chosen.plain {
		if !p.isText() { // an image among the text
			continue
		}
		if result.charset == "" {
			result.charset = p.charset
		}
		if text := strings.Trim(r.partText(p), "\n"); strings.TrimSpace(text) != "" {
			texts = append(texts, text)
		}
	}
	if len(texts) == 0 { // an empty plain alternative says nothing
		for _, p := range chosen.html {
			if p.mediaType == "text/html" {
				texts = append(texts, r.partText(p))
			}
		}
	}
	result.text = strings.Join(texts, "\n\n")
	return result
}

// partText is the text of a text part in UTF-8.
func (r *reading) partText(p *part) string {
	decoded, whole := decodeTransfer(p.encoding, p.content)
	if !whole {
		r.warnf("a part is announced as base64 and partly is not")
	}
	label := p.charset
	if p.mediaType == "text/html" && undeclared[strings.ToLower(label)] && !utf8.Valid(decoded) {
		// windows-1252 is also the answer where the document says nothing.
		if _, name, _ := charset.DetermineEncoding(decoded, ""); name != "windows-1252" {
			label = name
		}
	}
	text, known := toUTF8(label, decoded)
	if !known {
		r.warnf("charset %q is not known", cutRunes(label, 100))
	}
	if strings.ContainsRune(text, '\uFFFD') {
		r.warnf("some text is not valid in its charset")
	}
	if p.mediaType == "text/html" {
		return htmlText(text)
	}
	return newLines(text)
}

func newLines(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
}

// hasContent is false for a multipart without parts.
func (p *part) hasContent() bool {
	return !p.isMultipart || slices.ContainsFunc(p.children, (*part).hasContent)
}

func (p *part) isText() bool {
	return p.mediaType == "text/plain" || p.mediaType == "text/html"
}

// isMedia is what a mail program shows between the text.
func (p *part) isMedia() bool {
	family, _, _ := strings.Cut(p.mediaType, "/")
	return family == "image" || family == "audio" || family == "video"
}

// selection is the algorithm of RFC 8621 section 4.1.4: which parts are the
// text of the mail, which are its HTML, and what else there is.
type selection struct {
	plain, html []*part
	attachments []*part
}

// add sorts the parts of one multipart. Text goes to plain where toPlain is
// set and to html where toHTML is: inside an alternative it belongs to one.
func (s *selection) add(parts []*part, multipart string, inAlternative, toPlain, toHTML bool) {
	plainBefore, htmlBefore := len(s.plain), len(s.html)
	for i, p := range parts {
		inline := !p.attached && (p.isText() || p.isMedia()) &&
			(i == 0 || multipart != "related" && (p.isMedia() || p.name == ""))
		switch {
		case p.isMultipart:
			kind := strings.TrimPrefix(p.mediaType, "multipart/")
			s.add(p.children, kind, inAlternative || kind == "alternative", toPlain, toHTML)
		case !inline:
			s.attachments = append(s.attachments, p)
		case multipart == "alternative" && p.mediaType == "text/plain":
			s.plain = append(s.plain, p)
		case multipart == "alternative" && p.mediaType == "text/html":
			s.html = append(s.html, p)
		case multipart == "alternative":
			s.attachments = append(s.attachments, p)
		default:
			if inAlternative && p.mediaType == "text/plain" {
				toHTML = false
			}
			if inAlternative && p.mediaType == "text/html" {
				toPlain = false
			}
			if toPlain {
				s.plain = append(s.plain, p)
			}
			if toHTML {
				s.html = append(s.html, p)
			}
			if p.isMedia() {
				s.attachments = append(s.attachments, p)
			}
		}
	}
	if multipart == "alternative" && toPlain && toHTML {
		switch {
		case len(s.plain) == plainBefore:
			s.plain = append(s.plain, s.html[htmlBefore:]...)
		case len(s.html) == htmlBefore:
			s.html = append(s.html, s.plain[plainBefore:]...)
		}
	}
}

// missingBoundary matches a multipart field that another Content-Type follows
// in the same header: the empty line and the boundary between them were lost.
var missingBoundary = regexp.MustCompile(
	`(?im)^(content-type:[ \t]*multipart/[^;\r\n]*;(?:[^\r\n]|\r?\n[ \t])*?boundary="([^"\r\n]+)"[^\r\n]*\r?\n)(content-type:)`)

// readParts lets enmime find the parts of the mail. Text is converted here
// and not there, because enmime stops at broken base64 and takes a guessed
// charset over a declared one.
func (r *reading) readParts(raw []byte) (*part, error) {
	raw = bytes.TrimLeft(raw, "\r\n")
	raw = missingBoundary.ReplaceAll(raw, []byte("$1\n--$2\n$3"))
	guard := mediaTypes{raw: raw, boundaries: map[string]bool{}}
	parser := enmime.NewParser(
		enmime.RawContent(true),
		enmime.SkipMalformedParts(true),
		enmime.MultipartWOBoundaryAsSinglePart(true),
		enmime.DisableTextConversion(true),
		enmime.MaxStoredPartErrors(1),
		enmime.SetCustomParseMediaType(guard.parse),
	)
	root, err := parser.ReadParts(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	if guard.refused {
		r.warnf("the mail has too many parts, some are not taken apart")
	}
	return newPart(root, "text/plain"), nil
}

// mediaTypes parses Content-Type for enmime and keeps it from taking apart a
// mail that was made to exhaust memory: enmime has no limits of its own.
type mediaTypes struct {
	raw        []byte
	boundaries map[string]bool
	parts      int
	refused    bool
}

func (g *mediaTypes) parse(value string) (string, map[string]string, []string, error) {
	if strings.TrimSpace(value) == "" {
		return "", nil, nil, errors.New("no media type")
	}
	if len(value) > maxMediaType {
		g.refused = true
		return "application/octet-stream", map[string]string{}, nil, nil
	}
	kind, parameters, invalid, err := mediatype.ParseWithOptions(value, mediatype.ParseOptions{StripMediaTypeInvalidCharacters: true})
	if err != nil { // keep the type, do without its parameters
		kind, _, _ = strings.Cut(value, ";")
		if kind = strings.ToLower(strings.TrimSpace(kind)); strings.HasPrefix(kind, "multipart") {
			kind = "text/plain" // RFC 2045 section 5.2
		}
		return kind, map[string]string{}, nil, nil
	}
	if boundary, ok := parameters["boundary"]; ok && !g.allows(boundary) {
		g.refused = true
		return "application/octet-stream", map[string]string{}, invalid, nil
	}
	return kind, parameters, invalid, nil
}

// allows counts the parts that a boundary will make before enmime makes them.
func (g *mediaTypes) allows(boundary string) bool {
	allowed, seen := g.boundaries[boundary]
	if seen {
		return allowed
	}
	if len(g.boundaries) < maxMultiparts && len(boundary) <= maxBoundary {
		g.parts += bytes.Count(g.raw, []byte("--"+boundary))
		allowed = g.parts <= maxParts
	}
	g.boundaries[boundary] = allowed
	return allowed
}

func newPart(from *enmime.Part, defaultType string) *part {
	p := &part{
		mediaType: strings.ToLower(from.ContentType),
		charset:   from.Charset,
		encoding:  from.Header.Get("Content-Transfer-Encoding"),
		attached:  strings.EqualFold(from.Disposition, "attachment"),
		name:      from.FileName,
		content:   from.Content,
	}
	if p.mediaType == "" {
		p.mediaType = defaultType
	}
	p.isMultipart = from.FirstChild != nil || from.Boundary != "" && strings.HasPrefix(p.mediaType, "multipart/")
	childType := "text/plain"
	if p.mediaType == "multipart/digest" { // RFC 2046 section 5.1.5
		childType = "message/rfc822"
	}
	for child := from.FirstChild; child != nil; child = child.NextSibling {
		p.children = append(p.children, newPart(child, childType))
	}
	return p
}
