package record

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"slices"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// A preview's token is, in base64url:
//
//	version   1 byte
//	expires   8 bytes, seconds since 1970
//	request  16 bytes, keyed hash of tenant, caller, verb and request
//	digest   32 bytes, keyed hash of the sorted ids and versions of what is picked
//	picks     4 bytes each, sorted: the starts of keyed hashes of the ids
//	mac      32 bytes, keyed hash of all before it
//
// Of a selection that is too large for one transaction, version is 2, and instead of the picks there is
//
//	count     4 bytes, how many they are
//
// each hash an HMAC-SHA-256 under a key of the tenant's own. It says what was picked to nobody who
// does not know the ids already.
const (
	tokenVersion = 1
	largeVersion = 2
	tokenLife    = time.Hour
	requestSize  = 16
	pickSize     = 4
	tokenHead    = 1 + 8 + requestSize + sha256.Size
)

// token is what a preview's token says.
type token struct {
	expires time.Time
	request []byte
	digest  []byte
	picks   []uint32
	count   int // of a large selection; then there are no picks
}

// size is how many records were picked.
func (t *token) size() int { return len(t.picks) + t.count }

var tokenText = base64.RawURLEncoding.Strict()

func (t *token) sealed(key []byte) string {
	b := []byte{tokenVersion}
	if t.count > 0 {
		b[0] = largeVersion
	}
	b = binary.BigEndian.AppendUint64(b, uint64(t.expires.Unix())) //nolint:gosec // after 1970
	b = append(append(b, t.request...), t.digest...)
	for _, p := range t.picks {
		b = binary.BigEndian.AppendUint32(b, p)
	}
	if t.count > 0 {
		b = binary.BigEndian.AppendUint32(b, uint32(t.count)) //nolint:gosec // at most MaxPicks
	}
	return tokenText.EncodeToString(append(b, keyed(key, b)...))
}

// openToken reads a token that was sealed under the key; nil is any other text.
func openToken(key []byte, text string) *token {
	b, err := tokenText.DecodeString(text)
	if err != nil || len(b) < tokenHead+sha256.Size || b[0] != tokenVersion && b[0] != largeVersion {
		return nil
	}
	body, mac := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if !hmac.Equal(mac, keyed(key, body)) {
		return nil
	}
	seconds := int64(binary.BigEndian.Uint64(body[1:])) //nolint:gosec // written by sealed
	t := &token{expires: time.Unix(seconds, 0), request: body[9 : 9+requestSize], digest: body[9+requestSize : tokenHead]}
	if b[0] == largeVersion {
		t.count = int(binary.BigEndian.Uint32(body[tokenHead:]))
		return t
	}
	for picks := body[tokenHead:]; len(picks) >= pickSize; picks = picks[pickSize:] {
		t.picks = append(t.picks, binary.BigEndian.Uint32(picks))
	}
	return t
}

// keyed is an HMAC over parts, each with its length.
func keyed(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, p := range parts {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		mac.Write(p)
	}
	return mac.Sum(nil)
}

// tokenKey is for tokens only: what is signed for one purpose is worth nothing
// for another.
func (r *run) tokenKey() ([]byte, error) {
	tenant, err := r.audit.Keys().Tenant(r.a.Tenant)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, tenant, nil, "lethe preview token", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of tokens: %w", err)
	}
	return key, nil
}

// requestHash says what was asked for, and by whom.
func (r *run) requestHash(key []byte) []byte {
	bound := r.req.Bound
	if bound == nil {
		bound = r.req.Payload
	}
	return keyed(key, r.a.Tenant[:], r.a.User[:], []byte(r.req.Verb), bound)[:requestSize]
}

// picked is a token for what is picked now.
func (r *run) picked(key []byte) *token {
	items := slices.SortedFunc(slices.Values(r.items), func(a, b *item) int { return cmp.Or(bytes.Compare(a.id[:], b.id[:]), a.version-b.version) })
	t := &token{expires: r.q.Now().Add(tokenLife), request: r.requestHash(key)}
	var versions []byte
	for _, it := range items {
		versions = append(versions, it.id[:]...)
		versions = binary.BigEndian.AppendUint64(versions, uint64(it.version)) //nolint:gosec // versions count from 1
		t.picks = append(t.picks, pickHash(key, it.id))
	}
	t.digest = keyed(key, []byte("digest"), versions)
	slices.Sort(t.picks)
	return t
}

func pickHash(key []byte, id gid.ID) uint32 {
	return binary.BigEndian.Uint32(keyed(key, []byte("pick"), id[:]))
}

// readToken opens the token of a request, and refuses one that was not given to
// this caller for this request.
func (r *run) readToken(context.Context) error {
	if r.tx == nil || r.req.PreviewToken == "" {
		return nil
	}
	key, err := r.tokenKey()
	if err != nil {
		return err
	}
	t := openToken(key, r.req.PreviewToken)
	if t == nil || !hmac.Equal(t.request, r.requestHash(key)) {
		return Refuse(lifecycle.BadUserInput, "is no token of a preview of this request", "previewToken")
	}
	if r.q.Now().After(t.expires) {
		return Refuse(lifecycle.BadUserInput, "has expired; preview again", "previewToken")
	}
	r.token = t
	return nil
}

// checkToken refuses a selection that is not the one that was previewed.
func (r *run) checkToken(context.Context) error {
	if r.token == nil {
		return nil
	}
	key, err := r.tokenKey()
	if err != nil {
		return err
	}
	now := r.picked(key)
	if hmac.Equal(now.digest, r.token.digest) {
		return nil
	}
	if r.token.count > 0 {
		return changedSince(r.token.count, len(r.items))
	}
	added, removed := difference(r.token.picks, now.picks)
	return &Error{
		Code: lifecycle.Conflict, Message: "the selection is not as it was previewed; preview again", Fields: []string{"previewToken"},
		Extensions: map[string]any{"expected": len(r.token.picks), "actual": len(now.picks), "added": added, "removed": removed},
	}
}

// difference counts what two sorted lists do not share.
func difference(before, now []uint32) (added, removed int) {
	for len(before) > 0 && len(now) > 0 {
		switch {
		case before[0] == now[0]:
			before, now = before[1:], now[1:]
		case before[0] < now[0]:
			before, removed = before[1:], removed+1
		default:
			now, added = now[1:], added+1
		}
	}
	return added + len(now), removed + len(before)
}

// changedSince refuses a selection that is not the one that was previewed, where one of them is too large to say how they
// differ.
func changedSince(expected, actual int) *Error {
	return &Error{
		Code: lifecycle.Conflict, Message: "the selection is not as it was previewed; preview again", Fields: []string{"previewToken"},
		Extensions: map[string]any{"expected": expected, "actual": actual},
	}
}

// seal is the digest of a large selection, page by page.
type seal struct{ mac hash.Hash }

func newSeal(key []byte) seal {
	s := seal{hmac.New(sha256.New, key)}
	s.mac.Write([]byte("large selection"))
	return s
}

func (s seal) add(picks []Version) {
	for _, p := range picks {
		s.mac.Write(p.ID[:])
		s.mac.Write(binary.BigEndian.AppendUint64(nil, uint64(p.Version))) //nolint:gosec // versions count from 1
	}
}

func (s seal) sum() []byte { return s.mac.Sum(nil) }
