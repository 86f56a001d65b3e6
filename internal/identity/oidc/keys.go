package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// freshFor is how long keys are used without asking whether they still are
	// the issuer's: a key it withdrew is refused after that.
	freshFor = 5 * time.Minute
	// usableFor is how long they are used while the issuer does not answer.
	usableFor = 24 * time.Hour
	// retryAfter is between two attempts, whatever asks for them: tokens with
	// keys nobody knows cost the issuer no more than one attempt each time.
	retryAfter = 10 * time.Second
	// fetchTimeout bounds an attempt, and so how long anybody waits for it.
	fetchTimeout = 5 * time.Second
	// maxAnswer is in bytes, of each of the issuer's two documents.
	maxAnswer = 256 << 10
	maxKeys   = 100
	minRSA    = 2048 // bits
)

// keySet is the keys of one issuer, as they were when it last answered.
type keySet struct {
	issuer string
	client *http.Client
	now    func() time.Time
	log    *slog.Logger

	mu     sync.Mutex // never held while the issuer is asked
	keys   []jose.JSONWebKey
	at     time.Time     // of the keys
	tried  time.Time     // the last attempt, of whatever end
	failed bool          // how it ended
	ending chan struct{} // of the attempt that runs: closed at its end
}

// find returns the keys that a token of this header may be signed with. It asks
// the issuer when it knows none, or has not asked for long.
func (s *keySet) find(ctx context.Context, id string, algorithm jose.SignatureAlgorithm) ([]jose.JSONWebKey, error) {
	now := s.now()
	s.mu.Lock()
	found, age := s.matching(id, algorithm), now.Sub(s.at)
	if len(found) > 0 && age < freshFor {
		s.mu.Unlock()
		return found, nil
	}
	if s.ending == nil && now.Sub(s.tried) >= retryAfter {
		s.ending, s.tried = make(chan struct{}), now
		go s.fetch(context.WithoutCancel(ctx), s.ending) // others wait for it, too
	}
	ending, usable := s.ending, len(found) > 0 && age < usableFor
	// While the issuer fails nobody waits for what he can do without.
	if usable && s.failed {
		ending = nil
	}
	s.mu.Unlock()

	if ending != nil {
		select {
		case <-ending:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		s.mu.Lock()
		if found = s.matching(id, algorithm); len(found) > 0 {
			usable = now.Sub(s.at) < usableFor
		}
		s.mu.Unlock()
	}
	if len(found) == 0 || !usable {
		return nil, errors.New("its key is not one of the issuer's")
	}
	return found, nil
}

// matching are the keys of an id that fit an algorithm. Without an id there has
// to be one that fits.
func (s *keySet) matching(id string, algorithm jose.SignatureAlgorithm) (out []jose.JSONWebKey) {
	for _, k := range s.keys {
		if (id == "" || k.KeyID == id) && fits(k, algorithm) {
			out = append(out, k)
		}
	}
	if id == "" && len(out) > 1 {
		return nil
	}
	return out
}

// fits reports whether a key is meant for an algorithm. A set may have others,
// for encryption and for other algorithms.
func fits(k jose.JSONWebKey, algorithm jose.SignatureAlgorithm) bool {
	if k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != string(algorithm) {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return slices.Contains([]string{"RS", "PS"}, string(algorithm[:2])) && key.N.BitLen() >= minRSA
	case *ecdsa.PublicKey:
		return strings.HasPrefix(string(algorithm), "ES")
	case ed25519.PublicKey:
		return algorithm == jose.EdDSA
	}
	return false
}

// fetch asks the issuer. On failure the keys stay what they were.
func (s *keySet) fetch(ctx context.Context, ending chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, s.client.Timeout)
	defer cancel()
	keys, err := s.ask(ctx)
	if err != nil {
		s.log.WarnContext(ctx, "an issuer's keys could not be read", "issuer", s.issuer, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed = err != nil; !s.failed {
		s.keys, s.at = keys, s.tried
	}
	s.ending = nil
	close(ending)
}

// ask reads where the keys are, and then the keys (OpenID Connect Discovery 1.0
// §4, RFC 7517 §5).
func (s *keySet) ask(ctx context.Context) ([]jose.JSONWebKey, error) {
	var about struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := s.get(ctx, strings.TrimSuffix(s.issuer, "/")+"/.well-known/openid-configuration", &about); err != nil {
		return nil, err
	}
	if about.Issuer != s.issuer {
		return nil, fmt.Errorf("it calls itself %q", about.Issuer)
	}
	if err := checkURL(about.Keys, true); err != nil {
		return nil, fmt.Errorf("jwks_uri: %w", err)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := s.get(ctx, about.Keys, &set); err != nil {
		return nil, err
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys, and %d are a lot", len(set.Keys), maxKeys)
	}
	var keys []jose.JSONWebKey
	for _, text := range set.Keys {
		var k jose.JSONWebKey
		// A key of a kind unknown here is for others, and none of our business.
		if json.Unmarshal(text, &k) == nil {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func (s *keySet) get(ctx context.Context, address string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json, application/jwk-set+json")
	answer, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", address, answer.Status)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("reading %s: %w", address, err)
	case len(body) > maxAnswer:
		return fmt.Errorf("%s answers more than %d bytes", address, maxAnswer)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	return nil
}

// client asks issuers. It follows no redirects: one could lead from https to
// what anybody on the way answers.
func client(timeout time.Duration) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	transport.MaxResponseHeaderBytes = 64 << 10
	return &http.Client{
		Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
