package oidc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
)

const (
	// leeway is how far the issuer's clock may be from ours.
	leeway = 30 * time.Second
	// maxToken and maxName are in bytes.
	maxToken = 16 << 10
	maxName  = 512
)

// People is what of identity.Service finds who is named.
type People interface {
	Named(ctx context.Context, tenant string, by identity.Naming, name string) (*actor.Actor, error)
}

// Options are what a Verifier works with.
type Options struct {
	People People
	Now    func() time.Time
	Log    *slog.Logger
	// Timeout bounds a question to an issuer; zero is 5 s.
	Timeout time.Duration
}

// Verifier tells whom an issuer's token means. It implements
// identity.Authenticator.
type Verifier struct {
	Options
	issuers    map[string]*trusted
	algorithms []jose.SignatureAlgorithm // of any issuer
}

var _ identity.Authenticator = (*Verifier)(nil)

// trusted is an issuer with its keys.
type trusted struct {
	Issuer
	keys *keySet
}

// New returns a verifier of what these issuers sign, as Read answers them. It
// asks them nothing before there is a token to check: they may be down.
func New(issuers []Issuer, o Options) *Verifier {
	v := &Verifier{Options: o, issuers: map[string]*trusted{}}
	c := client(cmp.Or(o.Timeout, fetchTimeout))
	for _, i := range issuers {
		v.issuers[i.URL] = &trusted{i, &keySet{issuer: i.URL, client: c, now: o.Now, log: o.Log}}
		v.algorithms = append(v.algorithms, i.Algorithms...)
	}
	return v
}

// Takes reports whether a bearer token has the shape of those that issuers sign.
// None of Lethe's own has a dot.
func (v *Verifier) Takes(token string) bool { return strings.Count(token, ".") == 2 }

// Authenticate answers who a token means. Whatever is wrong with it is
// identity.ErrUnauthenticated, with a reason for the log that names nobody.
func (v *Verifier) Authenticate(ctx context.Context, token string) (*actor.Actor, error) {
	if len(token) > maxToken {
		return nil, refusal("it is longer than %d bytes", maxToken)
	}
	parsed, err := jwt.ParseSigned(token, v.algorithms)
	if err != nil {
		return nil, refusal("it cannot be read: %w", err)
	}
	header := parsed.Headers[0]
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); !slices.Contains(types, strings.ToLower(typ)) {
		return nil, refusal("it is a token of type %q", typ)
	}
	var said jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&said); err != nil {
		return nil, refusal("its claims cannot be read: %w", err)
	}
	// Believed only as far as to find who would have signed this.
	issuer := v.issuers[said.Issuer]
	algorithm := jose.SignatureAlgorithm(header.Algorithm)
	switch {
	case issuer == nil:
		return nil, refusal("nobody trusts its issuer")
	case !slices.Contains(issuer.Algorithms, algorithm):
		return nil, refusal("%s does not sign by %s", issuer.URL, algorithm)
	}
	keys, err := issuer.keys.find(ctx, header.KeyID, algorithm)
	if err != nil {
		return nil, refusal("of %s: %w", issuer.URL, err)
	}
	claims, named, err := verified(parsed, keys)
	if err == nil {
		err = v.check(issuer, claims)
	}
	if _, event := named["events"]; err == nil && event {
		err = errors.New("it tells of an event, as a logout token does, and lets nobody in")
	}
	if err != nil {
		return nil, refusal("of %s: %w", issuer.URL, err)
	}
	a, err := v.who(ctx, issuer, named)
	if err != nil {
		return nil, err
	}
	a.Credential, a.Expires = gid.Derive(gid.Token, claims.IssuedAt.Time(), token), claims.Expiry.Time().Add(leeway)
	return a, nil
}

// types are what a token may say it is: nothing, an ID token, or an access token
// (RFC 9068 §2.1). A logout token has the same issuer and audience; where it does
// not say by this what it is, its events do (RFC 8417 §2.2).
var types = []string{"", "jwt", "at+jwt", "application/at+jwt"}

func refusal(reason string, args ...any) error {
	return fmt.Errorf("%w: %w", identity.ErrUnauthenticated, fmt.Errorf(reason, args...))
}

func verified(token *jwt.JSONWebToken, keys []jose.JSONWebKey) (claims jwt.Claims, all map[string]json.RawMessage, err error) {
	for _, k := range keys {
		if err = token.Claims(k, &claims, &all); err == nil {
			return claims, all, nil
		}
	}
	return claims, nil, fmt.Errorf("checking its signature: %w", err)
}

func (v *Verifier) check(issuer *trusted, claims jwt.Claims) error {
	if claims.Expiry == nil {
		return errors.New("it would never expire")
	}
	return claims.ValidateWithLeeway(jwt.Expected{
		Issuer: issuer.URL, AnyAudience: jwt.Audience{issuer.Audience}, Time: v.Now(),
	}, leeway)
}

// who finds the user that claims speak of.
func (v *Verifier) who(ctx context.Context, issuer *trusted, claims map[string]json.RawMessage) (*actor.Actor, error) {
	tenant := issuer.Tenant
	if issuer.TenantClaim != "" {
		if tenant = text(claims[issuer.TenantClaim]); tenant == "" {
			return nil, refusal("of %s: it names no tenant in %q", issuer.URL, issuer.TenantClaim)
		}
	}
	name := text(claims[issuer.UserClaim])
	if name == "" {
		return nil, refusal("of %s: it names no user in %q", issuer.URL, issuer.UserClaim)
	}
	by := identity.BySubject
	if issuer.UserClaim == emailClaim {
		by = identity.ByEmail
		if string(claims["email_verified"]) != "true" {
			return nil, refusal("of %s: it does not say that the address is verified", issuer.URL)
		}
	}
	a, err := v.People.Named(ctx, tenant, by, name)
	if errors.Is(err, identity.ErrUnauthenticated) {
		return nil, refusal("of %s: it names no tenant and active user of here", issuer.URL)
	}
	return a, err
}

// text is a claim that is a string and could be a name; otherwise it is empty.
func text(claim json.RawMessage) string {
	var s string
	if json.Unmarshal(claim, &s) != nil || len(s) > maxName || strings.ContainsRune(s, 0) {
		return ""
	}
	return s
}
