// Package mail reads stored mail (.eml files and folders of them, maildir,
// mbox) into messages that can be kept as records.
//
// It accepts what real mailboxes hold: missing and broken headers, wrong or
// absent charsets, damaged transfer encodings, parts that are never closed. A
// message is refused only when nothing can be read from it; everything that
// was guessed, cut or dropped is named in Message.Warnings.
package mail

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// What a message may hold. Text beyond a limit is cut and a warning says so.
const (
	MaxSubject    = 2_000     // characters
	MaxBody       = 256 << 10 // bytes
	MaxName       = 1_000     // characters of a display name
	MaxAddress    = 320       // bytes: 64 local part, "@", 255 domain (RFC 5321 section 4.5.3.1)
	MaxRecipients = 1_000
	MaxID         = 998 // bytes: the longest line of a mail (RFC 5322 section 2.1.1)
)

// Kinds of recipients.
const (
	To  = "TO"
	CC  = "CC"
	BCC = "BCC"
)

// Categories of messages.
const (
	Normal  = "NORMAL"
	Spam    = "SPAM"
	Mailing = "MAILING"
)

// Where Message.SentAt came from, in the order they are tried.
const (
	FromDate        = "DATE"
	FromReceived    = "RECEIVED"
	FromMboxLine    = "MBOX_FROM"
	FromMaildirName = "MAILDIR_NAME"
	FromImportTime  = "IMPORT_TIME"
)

// ErrEmpty reports a mail without any header field and without text.
var ErrEmpty = errors.New("mail holds neither a header nor text")

// Address is one mailbox. Address is empty where the mail gives only a name,
// such as "To: Recipient-List".
type Address struct{ Address, Name string }

// Recipient is a mailbox the mail was sent to. Kind is TO, CC or BCC.
type Recipient struct {
	Address
	Kind string
}

// Message is what one mail says. All text is valid UTF-8 without NUL.
type Message struct {
	// MessageID is without angle brackets. A mail without one gets
	// "sha256:" and the hex digest of its bytes, so it is never empty and the
	// same mail read twice has the same id.
	MessageID  string
	Sender     *Address // nil when the mail names none
	Recipients []Recipient
	Subject    string
	// Body is the readable text: the plain text parts that a reader is meant
	// to see, HTML turned to text where there is no plain alternative.
	Body         string
	SentAt       time.Time // UTC
	SentAtSource string    // DATE, RECEIVED, MBOX_FROM, MAILDIR_NAME or IMPORT_TIME
	// ThreadKey is the first id of References, else In-Reply-To, else the
	// message's own id.
	ThreadKey string
	InReplyTo string // empty when this is no reply
	Category  string // NORMAL, SPAM or MAILING
	// Attachments are the parts that are not in Body, in their order. A file that
	// is attached twice under one name is there once.
	Attachments []Attachment
	Warnings    []string
}

// Attachment is a file of a mail.
type Attachment struct {
	Filename  string // never empty, without folders
	MediaType string // in lower case
	Content   []byte // as it was before it was encoded for the mail
}

// Times are what is known about a mail from outside its bytes. The zero value
// of a field means unknown; Import must be set.
type Times struct {
	MboxFrom    time.Time // the mbox From_ line
	MaildirName time.Time // the file name in a maildir
	Import      time.Time // when the import runs
}

// Parse reads one mail. The error is ErrEmpty, or says what broke the parser.
func Parse(raw []byte, times Times) (message Message, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			message, err = Message{}, fmt.Errorf("parse mail: %v", cause)
		}
	}()

	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	header, text := splitHeader(raw)
	cutHeader := len(raw)-len(text) > maxHeader
	if cutHeader {
		header, _ = splitHeader(raw[:maxHeader])
	}
	if len(header) == 0 && len(bytes.TrimSpace(text)) == 0 {
		return Message{}, ErrEmpty
	}

	r := &reading{header: header}
	whole := raw
	if cutHeader {
		r.warnf("the header is cut to %d bytes", maxHeader)
		raw = slices.Concat(raw[:maxHeader], []byte("\n\n"), text)
	}
	content := r.readContent(raw, text)
	r.charset = content.charset

	message = Message{
		Sender:      r.sender(),
		Recipients:  r.recipients(),
		Subject:     r.cut("subject", r.text("Subject"), MaxSubject, utf8.RuneCountInString, cutRunes),
		Body:        r.cut("body", strings.TrimSpace(content.text), MaxBody, byteLength, cutBytes),
		MessageID:   r.id(r.first("Message-Id")),
		Category:    r.category(),
		Attachments: content.attachments,
	}
	if message.MessageID == "" {
		message.MessageID = digest(whole)
	}
	message.InReplyTo = r.id(r.first("In-Reply-To"))
	message.ThreadKey = firstNonEmpty(r.id(r.first("References")), message.InReplyTo, message.MessageID)
	message.SentAt, message.SentAtSource = r.sentAt(times)
	message.Warnings = r.warnings
	return message, nil
}

// reading is the state of reading one mail: its header and what was noticed.
type reading struct {
	header   header
	charset  string // of the text, the best guess for raw 8-bit header fields
	warnings []string
}

// maxHeader bounds the header, in bytes. Mail servers stop at a few dozen
// kilobytes.
const maxHeader = 1 << 20

// maxWarnings bounds the report about one mail.
const maxWarnings = 20

func (r *reading) warnf(format string, values ...any) {
	if len(r.warnings) < maxWarnings {
		r.warnings = append(r.warnings, clean(fmt.Sprintf(format, values...)))
	}
}

func (r *reading) sender() *Address {
	for _, name := range []string{"From", "Sender"} {
		for _, value := range r.header[name] {
			if mailboxes := r.mailboxes(name, value); len(mailboxes) > 0 {
				return &mailboxes[0]
			}
		}
	}
	return nil
}

func (r *reading) recipients() []Recipient {
	var found []Recipient
	seen := map[Recipient]bool{}
	for _, field := range []struct{ name, kind string }{{"To", To}, {"Cc", CC}, {"Bcc", BCC}} {
		for _, value := range r.header[field.name] {
			for _, mailbox := range r.mailboxes(field.name, value) {
				key := Recipient{Address{Address: strings.ToLower(mailbox.Address)}, field.kind}
				if mailbox.Address == "" {
					key.Name = mailbox.Name
				}
				if seen[key] {
					continue
				}
				if len(found) == MaxRecipients {
					r.warnf("more than %d recipients, the rest is left out", MaxRecipients)
					return found
				}
				seen[key] = true
				found = append(found, Recipient{mailbox, field.kind})
			}
		}
	}
	return found
}

// mailboxes reads the value of an address field and leaves out what no mail
// could have been delivered to.
func (r *reading) mailboxes(field, value string) []Address {
	var kept []Address
	for _, mailbox := range parseAddresses(value, r.decode) {
		if len(mailbox.Address) > MaxAddress {
			r.warnf("%s: an address of %d bytes is left out", field, len(mailbox.Address))
			continue
		}
		mailbox.Name = r.cut(field+" name", mailbox.Name, MaxName, utf8.RuneCountInString, cutRunes)
		kept = append(kept, mailbox)
	}
	return kept
}

func (r *reading) category() string {
	precedence := strings.ToLower(r.text("Precedence"))
	switch {
	case strings.HasPrefix(strings.ToLower(r.text("X-Spam-Flag")), "yes"):
		return Spam
	case r.text("List-Id") != "", r.text("List-Unsubscribe") != "", precedence == "bulk", precedence == "list":
		return Mailing
	}
	return Normal
}

// sentAt is never zero unless times.Import is.
func (r *reading) sentAt(times Times) (time.Time, string) {
	for _, value := range r.header["Date"] {
		if at, ok := parseDate(value); ok {
			return at, FromDate
		}
	}
	if value := r.text("Date"); value != "" {
		r.warnf("Date %q is not a date", cutRunes(value, 100))
	}
	var newest time.Time
	for _, value := range r.header["Received"] {
		if at, ok := parseDate(value[strings.LastIndexByte(value, ';')+1:]); ok && at.After(newest) {
			newest = at
		}
	}
	switch {
	case !newest.IsZero():
		return newest, FromReceived
	case !times.MboxFrom.IsZero():
		return times.MboxFrom.UTC(), FromMboxLine
	case !times.MaildirName.IsZero():
		return times.MaildirName.UTC(), FromMaildirName
	}
	return times.Import.UTC(), FromImportTime
}

// id is the first message id in a header value, without angle brackets.
func (r *reading) id(value string) string {
	id := firstID(r.decode(value))
	if len(id) > MaxID {
		r.warnf("a message id of %d bytes is replaced by its digest", len(id))
		return digest([]byte(id))
	}
	return id
}

// cut shortens text that is over the limit and says so.
func (r *reading) cut(what, text string, limit int, length func(string) int, shorten func(string, int) string) string {
	if n := length(text); n > limit {
		r.warnf("%s is cut from %d to %d", what, n, limit)
		return shorten(text, limit)
	}
	return text
}

func byteLength(text string) int { return len(text) }

// cutRunes keeps the first n characters.
func cutRunes(text string, n int) string {
	for i := range text {
		if n == 0 {
			return text[:i]
		}
		n--
	}
	return text
}

// cutBytes keeps at most n bytes and no half character.
func cutBytes(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func firstNonEmpty(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}
