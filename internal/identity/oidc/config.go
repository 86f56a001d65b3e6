// Package oidc lets people in by tokens that an OpenID Connect issuer signed,
// beside those of Lethe's own.
//
// An issuer says who somebody is, never what he may do: the user has to be there
// already, with the roles the policy gives him, and to be active. He is looked up
// for every request, as for any other credential.
package oidc

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/lethe-crm/lethe/authz"
)

// Issuer is who signs tokens, and what they say.
type Issuer struct {
	// URL is what tokens have as iss, letter for letter; its keys are found below.
	URL string `json:"issuer"`
	// Audience is what tokens that are meant for this server have in aud.
	Audience string `json:"audience"`
	// Algorithms are those a token may be signed with.
	Algorithms []jose.SignatureAlgorithm `json:"algorithms"`
	// Tenant is the tenant of everybody, or TenantClaim names what says it.
	Tenant      string `json:"tenant"`
	TenantClaim string `json:"tenant_claim"`
	// UserClaim names what says who it is: the user's address if it is "email",
	// and otherwise his external subject.
	UserClaim string `json:"user_claim"`
}

// emailClaim is the claim that an issuer has to vouch for, by email_verified.
const emailClaim = "email"

// known are the algorithms there are. Those with a shared secret are not among
// them: whoever could check a token could make one.
var known = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

var usual = []jose.SignatureAlgorithm{jose.RS256, jose.ES256}

// Read reads issuers from a file: JSON, a list in which each has issuer,
// audience, and tenant or tenant_claim, and may have algorithms and user_claim.
func Read(path string) ([]Issuer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	issuers, err := authz.Decode[[]Issuer](text)
	if err == nil {
		err = complete(issuers)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return issuers, nil
}

// complete fills in what was left out, and refuses what could let the wrong
// people in.
func complete(issuers []Issuer) error {
	if len(issuers) == 0 {
		return errors.New("no issuers")
	}
	for i := range issuers {
		if err := issuers[i].complete(); err != nil {
			return fmt.Errorf("issuer %d: %w", i+1, err)
		}
	}
	for i, one := range issuers {
		for _, other := range issuers[:i] {
			switch {
			case one.URL == other.URL:
				return fmt.Errorf("issuer %s is there twice", one.URL)
			case one.UserClaim != emailClaim && other.UserClaim != emailClaim && (one.TenantClaim != "" || other.TenantClaim != "" || one.Tenant == other.Tenant):
				// A subject is unique among those of its issuer only.
				return fmt.Errorf("issuers %s and %s could mean different people by one subject; give each a tenant of its own", other.URL, one.URL)
			}
		}
	}
	return nil
}

func (i *Issuer) complete() error {
	if err := checkURL(i.URL, false); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if i.Audience == "" {
		return errors.New("audience: is needed, or a token made for another service would do")
	}
	if (i.Tenant == "") == (i.TenantClaim == "") {
		return errors.New("either tenant or tenant_claim is needed")
	}
	if i.UserClaim == "" {
		i.UserClaim = emailClaim
	}
	if i.Algorithms == nil {
		i.Algorithms = usual
	}
	if len(i.Algorithms) == 0 {
		return errors.New("algorithms: none")
	}
	for _, a := range i.Algorithms {
		if !slices.Contains(known, a) {
			return fmt.Errorf("algorithms: %q is not one of %v", a, known)
		}
	}
	return nil
}

// checkURL refuses what somebody on the way could answer for.
func checkURL(text string, query bool) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return err
	case u.Host == "" || u.User != nil || (u.RawQuery != "" || u.ForceQuery) && !query || u.Fragment != "":
		return fmt.Errorf("%q is not a URL of scheme, host and path", text)
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q does not begin with https, as it has to unless it is on this machine", text)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
