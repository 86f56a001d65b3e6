// Package audit writes what happened, in the transaction in which it happened.
//
// Personal values are sealed: AES-GCM under a key derived from the tenant's key
// and the record's seal. Purge removes the row with the only copy of the seal,
// so the log still verifies while the values can no longer be read.
package audit

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// Outcome is how what an event speaks of ended.
type Outcome string

// The outcomes.
const (
	Succeeded Outcome = "SUCCEEDED"
	Refused   Outcome = "REFUSED"
	Failed    Outcome = "FAILED"
)

// MaxRefusedIDs is how many records a REFUSED event names.
const MaxRefusedIDs = 20

// Event is one entry of the log. Actor, tenant, request and time are taken from
// the context and the transaction.
type Event struct {
	// ID is made when it is zero; a refusal names its event to the client.
	ID gid.ID

	Action  string
	Outcome Outcome // empty is SUCCEEDED
	Code    lifecycle.Code

	RecordID   *gid.ID
	RecordType string
	Owner      *gid.ID
	Team       *gid.ID
	From, To   lifecycle.State
	Version    int

	Operation     *gid.ID
	Rule          string
	PolicyVersion uint64

	Count  int
	IDs    []string
	Detail map[string]any // particulars that are not personal

	// Seal is the record's; without one Personal must be empty.
	Seal     []byte
	Personal Personal
}

// Log writes events.
type Log struct {
	keys  *Keys
	feeds []Feed
}

// Feed is told of the events of a transaction as they are written, before it
// commits: what follows from them is written with them, or not at all.
type Feed interface {
	// Of begins with a transaction's events.
	Of(tx *store.Tx) Listener
}

// Listener hears of the events of one transaction that are written at once.
type Listener interface {
	// Hear is told of each event, which it must not keep.
	Hear(tenant gid.ID, actor *gid.ID, id gid.ID, e *Event)
	// End comes after the last of them.
	End(ctx context.Context) error
}

// New returns a log that seals under keys.
func New(keys *Keys) *Log { return &Log{keys: keys} }

// Feeding has feeds told of what is written from now on.
func (l *Log) Feeding(feeds ...Feed) *Log {
	l.feeds = append(l.feeds, feeds...)
	return l
}

// Keys are the keys the log seals under.
func (l *Log) Keys() *Keys { return l.keys }

// columns are those of audit_events, in the order of row.
var columns = []string{
	"id", "tenant_id", "at", "action", "outcome", "code", "actor_id", "token_id", "record_id", "record_type", "owner_id", "team_id",
	"from_state", "to_state", "version", "operation_id", "request_id", "rule", "policy_version", "count", "ids", "detail", "sealed",
}

type pendingKey struct{}

// pending are the events of a transaction: each batch has so many, and gives
// them one by one.
type pending struct {
	batches []batch
	total   int
}

type batch struct {
	by    *actor.Actor
	n     int
	event func(i int) Event
}

// Append adds events to the log as part of tx. They are written with one
// statement when it commits.
func (l *Log) Append(ctx context.Context, tx *store.Tx, events ...Event) error {
	return l.AppendEach(ctx, tx, len(events), func(i int) Event { return events[i] })
}

// AppendEach adds n events, which are asked for when they are written, one after
// the other, so that the values of a thousand records are not held sealed as
// well. What an event points to may be used again for the next one.
func (l *Log) AppendEach(ctx context.Context, tx *store.Tx, n int, event func(i int) Event) error {
	a := actor.From(ctx)
	if a == nil {
		return errors.New("audit: nobody acts in this context")
	}
	p := l.pending(tx)
	p.batches = append(p.batches, batch{a, n, event})
	p.total += n
	return nil
}

// Flush writes the events that the transaction has so far, for who reads the log
// within it.
func (l *Log) Flush(ctx context.Context, tx *store.Tx) error {
	return l.write(ctx, tx, l.pending(tx))
}

func (l *Log) pending(tx *store.Tx) *pending {
	return store.Get(tx, pendingKey{}, func() *pending {
		p := &pending{}
		tx.BeforeCommit(func(ctx context.Context) error { return l.write(ctx, tx, p) })
		return p
	})
}

func (l *Log) write(ctx context.Context, tx *store.Tx, p *pending) error {
	batches, done := p.batches, 0
	sealer := sealer{keys: l.keys}
	for _, feed := range l.feeds {
		sealer.listeners = append(sealer.listeners, feed.Of(tx))
	}
	err := tx.InsertEach(ctx, "audit_events", columns, p.total, func(_ int, row []any) error {
		for batches[0].n == done {
			batches, done = batches[1:], 0
		}
		e := batches[0].event(done)
		done++
		return sealer.fill(row, tx, batches[0].by, &e)
	})
	if err != nil {
		return fmt.Errorf("writing the audit log: %w", err)
	}
	*p = pending{}
	for _, listener := range sealer.listeners {
		if err := listener.End(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Write adds events in a transaction of their own: for refusals, after the
// transaction they were refused in has ended.
func (l *Log) Write(ctx context.Context, db *store.DB, events ...Event) error {
	ctx, tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	return tx.End(ctx, l.Append(ctx, tx, events...))
}

// sealer fills the rows of events, one after the other.
type sealer struct {
	keys      *Keys
	listeners []Listener
	plain     []byte // of the last event
}

func (s *sealer) fill(row []any, tx *store.Tx, a *actor.Actor, e *Event) error {
	id := e.ID
	if id.IsZero() {
		id = gid.New(gid.Event)
	}
	var sealed any
	if e.Personal.Reason != "" || len(e.Personal.Changes) > 0 {
		b, err := s.seal(a.Tenant, e.Seal, id, e.Personal)
		if err != nil {
			return err
		}
		sealed = b
	}
	outcome := e.Outcome
	if outcome == "" {
		outcome = Succeeded
	}
	var token *gid.ID
	if a.Kind == actor.Token {
		token = &a.Credential
	}
	ids, err := jsonOrNil(e.IDs, len(e.IDs))
	if err != nil {
		return err
	}
	detail, err := jsonOrNil(e.Detail, len(e.Detail))
	if err != nil {
		return err
	}
	for _, listener := range s.listeners {
		listener.Hear(a.Tenant, a.UserRef(), id, e)
	}
	copy(row, []any{
		id, a.Tenant, tx.Now(), e.Action, string(outcome), text(string(e.Code)), ref(a.UserRef()), ref(token), ref(e.RecordID), text(e.RecordType),
		ref(e.Owner), ref(e.Team), text(string(e.From)), text(string(e.To)), number(e.Version), ref(e.Operation), text(a.RequestID), text(e.Rule),
		number(int(e.PolicyVersion & math.MaxInt32)), number(e.Count), ids, detail, sealed,
	})
	return nil
}

func jsonOrNil(v any, n int) (any, error) {
	if n == 0 {
		return nil, nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}

func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func number(n int) any {
	if n == 0 {
		return nil
	}
	return int64(n)
}

func ref(id *gid.ID) any {
	if id == nil || id.IsZero() {
		return nil
	}
	return *id
}

// ErrErased reports that personal values cannot be read any more.
var ErrErased = errors.New("audit: the values are erased")

func (s *sealer) seal(tenant gid.ID, seal []byte, event gid.ID, p Personal) ([]byte, error) {
	if len(seal) == 0 {
		return nil, errors.New("audit: personal values without a seal")
	}
	plain, err := p.append(s.plain[:0])
	if err != nil {
		return nil, fmt.Errorf("encoding personal values: %w", err)
	}
	s.plain = plain
	aead, err := s.keys.aead(tenant, seal)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("drawing a nonce: %w", err)
	}
	// The event's id is authenticated with the values, so that they cannot be
	// moved to another event.
	return aead.Seal(nonce, nonce, plain, event[:]), nil
}

// Open reads the personal values of an event. Without the record's seal, or
// under another one, they are erased.
func (l *Log) Open(tenant gid.ID, seal []byte, event gid.ID, sealed []byte) (Personal, error) {
	var p Personal
	if len(sealed) == 0 {
		return p, nil
	}
	if len(seal) == 0 {
		return p, ErrErased
	}
	aead, err := l.keys.aead(tenant, seal)
	if err != nil {
		return p, err
	}
	if len(sealed) < aead.NonceSize() {
		return p, ErrErased
	}
	plain, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], event[:])
	if err != nil {
		return p, ErrErased
	}
	if err := json.Unmarshal(plain, &p); err != nil {
		return p, fmt.Errorf("decoding personal values: %w", err)
	}
	return p, nil
}

// KeySize is the length of the server's key in bytes.
const KeySize = 32

// Keys derives tenants' keys from the server's key, which is never in the
// database.
type Keys struct {
	secret []byte

	mu      sync.RWMutex
	tenants map[gid.ID][]byte
}

// NewKeys takes the server's key.
func NewKeys(secret []byte) (*Keys, error) {
	if len(secret) != KeySize {
		return nil, fmt.Errorf("the key has %d bytes, not %d", len(secret), KeySize)
	}
	return &Keys{secret: secret, tenants: map[gid.ID][]byte{}}, nil
}

// Tenant is a tenant's key: HKDF-SHA-256 of the server's key and the tenant's id.
func (k *Keys) Tenant(tenant gid.ID) ([]byte, error) {
	k.mu.RLock()
	key := k.tenants[tenant]
	k.mu.RUnlock()
	if key != nil {
		return key, nil
	}
	key, err := hkdf.Key(sha256.New, k.secret, tenant[:], "lethe tenant", KeySize)
	if err != nil {
		return nil, fmt.Errorf("deriving a tenant's key: %w", err)
	}
	k.mu.Lock()
	k.tenants[tenant] = key
	k.mu.Unlock()
	return key, nil
}

func (k *Keys) aead(tenant gid.ID, seal []byte) (cipher.AEAD, error) {
	key, err := k.Tenant(tenant)
	if err != nil {
		return nil, err
	}
	sealed, err := hkdf.Key(sha256.New, key, seal, "lethe seal", KeySize)
	if err != nil {
		return nil, fmt.Errorf("deriving a record's key: %w", err)
	}
	block, err := aes.NewCipher(sealed)
	if err != nil {
		return nil, fmt.Errorf("preparing a cipher: %w", err)
	}
	return cipher.NewGCM(block)
}

// Seal encrypts a secret of a tenant that has to be read again, such as what
// webhooks are signed with. It is opened for the same owner only.
func (k *Keys) Seal(tenant, owner gid.ID, secret []byte) ([]byte, error) {
	aead, err := k.aead(tenant, owner[:])
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(secret)+aead.Overhead())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("drawing a nonce: %w", err)
	}
	return aead.Seal(nonce, nonce, secret, owner[:]), nil
}

// Unseal decrypts what Seal encrypted.
func (k *Keys) Unseal(tenant, owner gid.ID, sealed []byte) ([]byte, error) {
	aead, err := k.aead(tenant, owner[:])
	if err != nil {
		return nil, err
	}
	if len(sealed) < aead.NonceSize() {
		return nil, errors.New("audit: a sealed secret is too short")
	}
	secret, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], owner[:])
	if err != nil {
		return nil, fmt.Errorf("opening a secret: %w", err)
	}
	return secret, nil
}

// Check is a value that proves, kept in the database, that a key is the one the
// database was written with.
func (k *Keys) Check() ([]byte, error) {
	return hkdf.Key(sha256.New, k.secret, nil, "lethe key check", KeySize)
}
