package authzen

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Config says where the decision point is and how it is asked.
type Config struct {
	// URL is where its API begins, without /access/v1: https, unless it is this machine or Insecure.
	URL string `json:"url"`
	// TokenEnv names the environment variable that holds the bearer token. The token itself has no place in a
	// file that is read in reviews. Empty is no token.
	TokenEnv string `json:"token_env"`
	// Headers go with every request, for gateways that want a tenant or a key of theirs.
	Headers map[string]string `json:"headers"`
	// Batch is how many evaluations go into one request to /evaluations; the default is 500. With 1 each is a
	// request to /evaluation of its own, for decision points that know no other.
	Batch int `json:"batch"`
	// Discover has the endpoints read from /.well-known/authzen-configuration, once and at the first question.
	Discover bool `json:"discover"`
	// Insecure lets questions, answers and the token go over plain HTTP.
	Insecure bool `json:"insecure"`
	// TypeID is the resource id that stands for a type as a whole, and for what is not there yet: AuthZEN wants
	// an id always. The default is "*".
	TypeID string `json:"type_id"`
}

const (
	defaultBatch = 500
	maxBatch     = 1_000
)

// TypeAsWhole is the resource id that stands for a type as a whole, and for what is not there yet.
const TypeAsWhole = "*"

// own are the headers that the plugin sets itself.
var own = []string{"Accept", "Authorization", "Connection", "Content-Length", "Content-Type", "Host", "Transfer-Encoding", "Upgrade"}

// Validate refuses what could not work, and what would give requests away.
func (c *Config) Validate() error {
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		return errors.New("url is needed")
	case err != nil:
		return errors.New("url is none") // the reason would repeat what may have a password in it
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return errors.New("url has no user, query or fragment; a token is named by token_env")
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return fmt.Errorf("url %q does not begin with https:// and a host", c.URL)
	case u.Scheme == "http" && !c.Insecure && !isLoopback(u.Hostname()):
		return fmt.Errorf("url %q is not https; say insecure if that is meant", c.URL)
	case c.Batch < 0 || c.Batch > maxBatch:
		return fmt.Errorf("batch is 1 to %d, not %d", maxBatch, c.Batch)
	}
	for name, value := range c.Headers {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return fmt.Errorf("header %q is none", name)
		}
		if slices.Contains(own, http.CanonicalHeaderKey(name)) {
			return fmt.Errorf("header %q is not for configuration", name)
		}
	}
	return nil
}

// isLoopback reports whether what is sent to a host stays on this machine.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
