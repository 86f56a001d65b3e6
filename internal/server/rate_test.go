package server_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/server"
)

// crowd knows everybody by a credential that says who it is: user or token, a slash, and whose.
type crowd struct {
	server.Identity
	ids sync.Map
}

func (c *crowd) id(name string) gid.ID {
	id, _ := c.ids.LoadOrStore(name, gid.New(gid.User))
	return id.(gid.ID)
}

func (c *crowd) Authenticate(_ context.Context, secret string) (*actor.Actor, error) {
	kind, name, known := strings.Cut(secret, "/")
	if !known {
		return nil, identity.ErrUnauthenticated
	}
	if kind == "token" {
		user, _, _ := strings.Cut(name, "#")
		return &actor.Actor{Kind: actor.Token, User: c.id(user), Credential: c.id(secret)}, nil
	}
	user, _, _ := strings.Cut(name, "#")
	return &actor.Actor{Kind: actor.User, User: c.id(user), Credential: c.id(secret)}, nil
}

func (c *crowd) RedeemLink(_ context.Context, secret, _ string) (identity.Credential, error) {
	if secret != "right" {
		return identity.Credential{}, identity.ErrUnauthenticated
	}
	return identity.Credential{Secret: "user/somebody"}, nil
}

// gate is a server with a clock that stands still until it is moved.
type gate struct {
	*server.Server
	now time.Time
}

func newGate(t *testing.T, rate server.Rate, proxies ...string) *gate {
	t.Helper()
	g := &gate{now: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)}
	config := server.Config{
		GraphQL:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		Identity: &crowd{}, DB: stub{}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Rate: rate, Now: func() time.Time { return g.now },
	}
	for _, p := range proxies {
		config.TrustedProxies = append(config.TrustedProxies, netip.MustParsePrefix(p))
	}
	g.Server = server.New(config)
	return g
}

// ask sends a request from an address, and answers its status.
func (g *gate) ask(from, credential string, forwarded ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/graphql", nil)
	r.RemoteAddr = from
	if credential != "" {
		r.Header.Set("Authorization", "Bearer "+credential)
	}
	for _, f := range forwarded {
		r.Header.Add("X-Forwarded-For", f)
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w
}

const here, there = "192.0.2.1:4711", "192.0.2.2:4711"

func TestWhoAsksTooOftenIsToldWhenToComeBack(t *testing.T) {
	t.Parallel()
	g := newGate(t, server.Rate{PerSecond: 0.5, Burst: 3})
	for range 3 {
		require.Equal(t, http.StatusNoContent, g.ask(here, "user/a").Code)
	}
	refused := g.ask(here, "user/a")
	require.Equal(t, http.StatusTooManyRequests, refused.Code)
	require.Contains(t, refused.Body.String(), `"code":"RATE_LIMITED"`)
	require.Equal(t, "2", refused.Header().Get("Retry-After"))
	g.now = g.now.Add(time.Second)
	require.Equal(t, "1", g.ask(here, "user/a").Header().Get("Retry-After"), "being refused costs nothing")
	g.now = g.now.Add(time.Second)
	require.Equal(t, http.StatusNoContent, g.ask(here, "user/a").Code)
	require.Equal(t, http.StatusTooManyRequests, g.ask(here, "user/a").Code)
}

func TestRequestsAreCountedBySubject(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		from1, as1, from2, as2 string
		together               bool
	}{
		"a user elsewhere":            {here, "user/a", there, "user/a", true},
		"two sessions of a user":      {here, "user/a#1", here, "user/a#2", true},
		"two users in one place":      {here, "user/a", here, "user/b", false},
		"two tokens of a user":        {here, "token/a#1", here, "token/a#2", false},
		"a user and his token":        {here, "user/a", here, "token/a", false},
		"strangers in one place":      {here, "", here, "wrong", true},
		"strangers elsewhere":         {here, "", there, "", false},
		"a stranger and a user":       {here, "", here, "user/a", false},
		"one host's IPv6 addresses":   {"[2001:db8::1]:1", "", "[2001:db8::2]:1", "", true},
		"other hosts' IPv6 addresses": {"[2001:db8::1]:1", "", "[2001:db8:0:1::1]:1", "", false},
		"IPv4 within IPv6":            {here, "", "[::ffff:192.0.2.1]:1", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, server.Rate{PerSecond: 1, Burst: 1})
			require.Equal(t, http.StatusNoContent, g.ask(test.from1, test.as1).Code)
			require.Equal(t, test.together, g.ask(test.from2, test.as2).Code == http.StatusTooManyRequests)
		})
	}
}

func TestOnlyTrustedProxiesSayWhereARequestIsFrom(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		proxies    []string
		from1      string
		forwarded1 string
		from2      string
		forwarded2 string
		together   bool
	}{
		"nobody is trusted":             {nil, here, "198.51.100.1", here, "198.51.100.2", true},
		"a stranger's header":           {[]string{"10.0.0.0/8"}, here, "198.51.100.1", here, "198.51.100.2", true},
		"a proxy's":                     {[]string{"192.0.2.0/24"}, here, "198.51.100.1", here, "198.51.100.2", false},
		"two proxies', one client":      {[]string{"192.0.2.0/24"}, here, "198.51.100.1", there, "198.51.100.1", true},
		"what the client put before it": {[]string{"192.0.2.0/24"}, here, "203.0.113.1, 198.51.100.1", here, "203.0.113.2, 198.51.100.1", true},
		"a proxy before the proxy":      {[]string{"192.0.2.0/24", "10.0.0.0/8"}, here, "198.51.100.1, 10.0.0.1", here, "198.51.100.2, 10.0.0.1", false},
		"with a port":                   {[]string{"192.0.2.0/24"}, here, "198.51.100.1:5", here, "198.51.100.1:6", true},
		"nonsense":                      {[]string{"192.0.2.0/24"}, here, "unknown", here, "_hidden", true},
		"no header from a proxy":        {[]string{"192.0.2.0/24"}, here, "", here, "", true},
		"a proxy by IPv6":               {[]string{"2001:db8::/32"}, "[2001:db8::1]:1", "198.51.100.1", "[2001:db8::1]:1", "198.51.100.2", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, server.Rate{PerSecond: 1, Burst: 1}, test.proxies...)
			require.Equal(t, http.StatusNoContent, g.ask(test.from1, "", test.forwarded1).Code)
			require.Equal(t, test.together, g.ask(test.from2, "", test.forwarded2).Code == http.StatusTooManyRequests)
		})
	}
	g := newGate(t, server.Rate{PerSecond: 1, Burst: 1}, "192.0.2.0/24")
	require.Equal(t, http.StatusNoContent, g.ask(here, "", "198.51.100.1", "198.51.100.2").Code)
	require.Equal(t, http.StatusTooManyRequests, g.ask(here, "", "198.51.100.7", "198.51.100.2").Code, "the last of several headers is the proxy's")
}

func TestWithoutARateEverybodyMayAsk(t *testing.T) {
	t.Parallel()
	g := newGate(t, server.Rate{})
	for range 2_000 {
		require.Equal(t, http.StatusNoContent, g.ask(here, "").Code)
	}
}

func TestWhatIsRememberedOfSubjectsIsBounded(t *testing.T) {
	t.Parallel()
	g := newGate(t, server.Rate{PerSecond: 1, Burst: 1})
	address := func(n int) string {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 1).String()
	}
	const most = 1 << 16
	for n := range most + 1 {
		require.Equal(t, http.StatusNoContent, g.ask(address(n), "").Code)
	}
	require.Equal(t, http.StatusTooManyRequests, g.ask(address(most), "").Code)
	require.Equal(t, http.StatusNoContent, g.ask(address(0), "").Code, "the first one is forgotten")
}

func TestFailedSignInsAreCountedByAddress(t *testing.T) {
	t.Parallel()
	g := newGate(t, server.Rate{}) // whatever the rate
	signIn := func(from, secret string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/signin", strings.NewReader(url.Values{"token": {secret}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept-Language", "ru")
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		return w
	}
	for range 40 {
		require.Equal(t, http.StatusSeeOther, signIn(here, "right").Code, "who gets in is not counted")
	}
	for range 20 {
		require.Equal(t, http.StatusUnauthorized, signIn(here, "wrong").Code)
	}
	refused := signIn(here, "right")
	require.Equal(t, http.StatusTooManyRequests, refused.Code)
	require.Contains(t, refused.Body.String(), "Слишком много попыток")
	wait, err := strconv.Atoi(refused.Header().Get("Retry-After"))
	require.NoError(t, err)
	require.Equal(t, http.StatusSeeOther, signIn(there, "right").Code)
	g.now = g.now.Add(time.Duration(wait) * time.Second)
	require.Equal(t, http.StatusSeeOther, signIn(here, "right").Code)
}

func TestRatesAreReadAsOperatorsWriteThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]server.Rate{"0": {}, "50": {50, 100}, "0.5": {0.5, 1}, "50:200": {50, 200}} {
		var got server.Rate
		require.NoError(t, got.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, got, text)
	}
	for _, wrong := range []string{"", "x", "-1", "NaN", "Inf", "0:5", "5:0", "5:", "5:x", ":5", "1e300"} {
		require.Error(t, new(server.Rate).UnmarshalText([]byte(wrong)), wrong)
	}
}
