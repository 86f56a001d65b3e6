// Package gid is the identifier of every entity: 16 bytes, a UUIDv7 whose last
// byte says which type of thing it names.
//
// Ids sort by time of creation, never repeat and are never reused. Databases
// hold the canonical UUID form (uuid in PostgreSQL, text in SQLite); clients
// see a TypeID (https://github.com/jetify-com/typeid), such as
// customer_06h0e6jgv9w3q9gq91y7t1wa04, from which the type is read without a
// look-up.
package gid

import (
	"crypto/rand"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ID names one entity. The zero ID names nothing.
type ID [16]byte

// Nil is the zero ID.
var Nil ID

// ErrMalformed reports text that is no id at all. An id of a type this binary
// does not know is malformed as well.
var ErrMalformed = errors.New("malformed id")

// Type is the number in the last byte of an id.
type Type uint8

// The types of things that have ids. Numbers are part of stored data: never
// change or reuse one. Record types are below 64.
const (
	Customer   Type = 1
	Contact    Type = 2
	Deal       Type = 3
	Message    Type = 4
	Call       Type = 5
	Task       Type = 6
	Note       Type = 7
	Attachment Type = 8

	Tenant         Type = 64
	User           Type = 65
	Team           Type = 66
	Token          Type = 67
	Session        Type = 68
	SignInLink     Type = 69
	Operation      Type = 70
	OperationItem  Type = 71
	Event          Type = 72
	Recipient      Type = 73
	Policy         Type = 74
	Tombstone      Type = 75
	PolicyRevision Type = 90
	PolicyTest     Type = 91
	LegalHold      Type = 92
	Approval       Type = 95
	RetentionRule  Type = 100
	Export         Type = 110
	ExportSchedule Type = 111

	Notification    Type = 120
	Webhook         Type = 121
	WebhookDelivery Type = 122
	Department      Type = 123
	AlertRule       Type = 124
)

// prefixes are what clients see before the underscore.
var prefixes = map[Type]string{
	Customer: "customer", Contact: "contact", Deal: "deal", Message: "message",
	Call: "call", Task: "task", Note: "note", Attachment: "attachment",
	Tenant: "tenant", User: "user", Team: "team", Token: "token", Session: "session",
	SignInLink: "link", Operation: "operation", OperationItem: "item", Event: "event",
	Recipient: "recipient", Policy: "policy", Tombstone: "tombstone",
	PolicyRevision: "revision", PolicyTest: "policytest",
	LegalHold: "hold", Approval: "approval", RetentionRule: "rule",
	Export: "export", ExportSchedule: "schedule",
	Notification: "notification", Webhook: "webhook", WebhookDelivery: "delivery", Department: "department", AlertRule: "alert",
}

var types = func() map[string]Type {
	m := make(map[string]Type, len(prefixes))
	for t, p := range prefixes {
		m[p] = t
	}
	return m
}()

// Register adds a type, for record types declared outside this list. It is
// called from init functions only and panics on a number or prefix in use.
func Register(t Type, prefix string) {
	if p, ok := prefixes[t]; ok && p == prefix {
		return
	}
	if _, ok := types[prefix]; ok || prefixes[t] != "" || prefix == "" || t == 0 {
		panic(fmt.Sprintf("gid: type %d %q is taken or empty", t, prefix))
	}
	prefixes[t], types[prefix] = prefix, t
}

// String is the prefix of the type's ids.
func (t Type) String() string {
	if p, ok := prefixes[t]; ok {
		return p
	}
	return "type" + strconv.Itoa(int(t))
}

// Generator makes ids that increase within one process, also when the clock
// stands still or steps back.
type Generator struct {
	now    func() time.Time
	random io.Reader

	mu   sync.Mutex
	last uint64 // milliseconds<<12 | counter
}

// NewGenerator returns a generator over a clock and a source of random bytes.
func NewGenerator(now func() time.Time, random io.Reader) *Generator {
	return &Generator{now: now, random: random}
}

var standard = NewGenerator(time.Now, rand.Reader)

// New returns a fresh id of type t from the process's generator.
func New(t Type) ID { return standard.New(t) }

// New returns a fresh id of type t. It panics when the random source fails,
// because an id that could repeat is worse than no server.
func (g *Generator) New(t Type) ID {
	var id ID
	if _, err := io.ReadFull(g.random, id[8:]); err != nil {
		panic("gid: no random bytes: " + err.Error())
	}
	// rand_a is a counter within the millisecond (RFC 9562 section 6.2, method 1).
	tick := uint64(g.now().UnixMilli()) << 12
	g.mu.Lock()
	if tick <= g.last {
		tick = g.last + 1
	}
	g.last = tick
	g.mu.Unlock()
	binary.BigEndian.PutUint64(id[:8], tick>>12<<16|0x7000|tick&0x0fff)
	id[8] = id[8]&0x3f | 0x80
	id[15] = byte(t)
	return id
}

// Derive returns the id of type t for something made elsewhere, which has no id
// of ours: the same for the same time and text, and not to be told from others.
func Derive(t Type, at time.Time, text string) ID {
	sum := sha256.Sum256([]byte(text))
	id := ID(sum[:16])
	// No time before 1970 fits.
	binary.BigEndian.PutUint64(id[:8], uint64(max(at.UnixMilli(), 0))<<16|0x7000|uint64(sum[16])<<4|uint64(sum[17]&0xf))
	id[8] = id[8]&0x3f | 0x80
	id[15] = byte(t)
	return id
}

// Type says what kind of thing the id names.
func (id ID) Type() Type { return Type(id[15]) }

// Time is when the id was made, to the millisecond.
func (id ID) Time() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16)).UTC()
}

// IsZero reports whether the id names nothing.
func (id ID) IsZero() bool { return id == Nil }

// UUID is the canonical 36-character form kept in databases.
func (id ID) UUID() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	b[8] = '-'
	hex.Encode(b[9:13], id[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], id[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], id[8:10])
	b[23] = '-'
	hex.Encode(b[24:36], id[10:16])
	return string(b[:])
}

// Crockford's base32, lower case, as TypeID uses it: 26 characters hold 130
// bits, the first two of which are zero.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

var digits = func() (d [256]byte) {
	for i := range d {
		d[i] = 0xff
	}
	for i := range len(alphabet) {
		d[alphabet[i]] = byte(i)
	}
	return d
}()

// String is the form clients see; empty for the zero ID.
func (id ID) String() string {
	var b [64]byte
	return string(id.Append(b[:0]))
}

// Append appends what String answers.
func (id ID) Append(to []byte) []byte {
	if id.IsZero() {
		return to
	}
	hi, lo := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	var b [26]byte
	for i := 25; i >= 0; i-- {
		b[i] = alphabet[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	to = append(to, id.Type().String()...)
	return append(append(to, '_'), b[:]...)
}

// Parse reads the form clients see. The prefix must be the one of the type in
// the last byte, so an id cannot be passed off as another type's.
func Parse(s string) (ID, error) {
	prefix, text, ok := strings.Cut(s, "_")
	t, known := types[prefix]
	if !ok || !known || len(text) != 26 || text[0] > '7' {
		return Nil, ErrMalformed
	}
	var hi, lo uint64
	for i := range len(text) {
		d := digits[text[i]]
		if d == 0xff {
			return Nil, ErrMalformed
		}
		hi = hi<<5 | lo>>59
		lo = lo<<5 | uint64(d)
	}
	var id ID
	binary.BigEndian.PutUint64(id[:8], hi)
	binary.BigEndian.PutUint64(id[8:], lo)
	if id.Type() != t {
		return Nil, ErrMalformed
	}
	return id, nil
}

// ParseUUID reads the form databases hold.
func ParseUUID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return Nil, ErrMalformed
	}
	compact := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if _, err := hex.Decode(id[:], []byte(compact)); err != nil {
		return Nil, ErrMalformed
	}
	return id, nil
}

// Value implements driver.Valuer.
func (id ID) Value() (driver.Value, error) { return id.UUID(), nil }

// Scan implements sql.Scanner.
func (id *ID) Scan(src any) error {
	var err error
	switch v := src.(type) {
	case string:
		*id, err = ParseUUID(v)
	case []byte:
		if len(v) == 16 {
			copy(id[:], v)
			return nil
		}
		*id, err = ParseUUID(string(v))
	case [16]byte:
		*id = v
	case nil:
		*id = Nil
	default:
		err = fmt.Errorf("cannot read an id from %T", src)
	}
	return err
}

// MarshalText implements encoding.TextMarshaler with the form clients see.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*id = Nil
		return nil
	}
	v, err := Parse(string(b))
	*id = v
	return err
}

// MarshalGQL implements gqlgen's Marshaler.
func (id ID) MarshalGQL(w io.Writer) { _, _ = io.WriteString(w, strconv.Quote(id.String())) }

// UnmarshalGQL implements gqlgen's Unmarshaler.
func (id *ID) UnmarshalGQL(v any) error {
	s, ok := v.(string)
	if !ok {
		return ErrMalformed
	}
	parsed, err := Parse(s)
	*id = parsed
	return err
}
