package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
)

// seal encrypts what is personal of the event of each row as internal/audit
// does, so that Lethe can open it: AES-GCM under a key derived from the tenant's
// and the record's seal, with the event's id as what is authenticated. last says
// that the events carry the last values.
func (op *operation) seal(last bool) error {
	key, err := op.keys.Tenant(gid.ID(op.caller.tenant))
	if err != nil {
		return err
	}
	for _, r := range op.sorted() {
		r.event = ref(gid.New(gid.Event))
		personal := audit.Personal{Reason: op.sel.Reason}
		if last {
			personal.Changes = r.last()
		}
		if personal.Reason == "" && len(personal.Changes) == 0 {
			continue
		}
		plain, err := json.Marshal(personal)
		if err != nil {
			return fmt.Errorf("encoding last values: %w", err)
		}
		if r.sealed, err = encrypt(key, r.seal, plain, r.event[:]); err != nil {
			return err
		}
	}
	return nil
}

func encrypt(tenant, seal, plain, with []byte) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, tenant, seal, "lethe seal", audit.KeySize)
	if err != nil {
		return nil, fmt.Errorf("deriving a record's key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("preparing a cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("preparing a cipher: %w", err)
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("drawing a nonce: %w", err)
	}
	return aead.Seal(nonce, nonce, plain, with), nil
}
