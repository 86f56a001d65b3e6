package server

import (
	"errors"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/transport"
)

const (
	// maxSubjects bounds what is remembered of who asked how often, to some 10 MB.
	// Who was longest away is forgotten first, and begins anew.
	maxSubjects = 1 << 16
	// Whoever fails to sign in has this many tries, and then another one as often
	// as that. A right link takes one try; a secret takes 2^128 to guess.
	failuresAtOnce = 20
	failureEvery   = 3 * time.Second
	// maxHops is how many proxies a request may have come through.
	maxHops = 32
)

// Rate is how many requests a subject may send: a token bucket. The zero value
// is no limit.
type Rate struct {
	// PerSecond is what the bucket gains in a second.
	PerSecond float64
	// Burst is what it holds, so how many may come at once.
	Burst int
}

// UnmarshalText implements encoding.TextUnmarshaler: 50 is fifty requests a
// second and a hundred at once, 50:200 two hundred at once, 0 no limit.
func (r *Rate) UnmarshalText(text []byte) error {
	perSecond, burst, given := strings.Cut(string(text), ":")
	read := Rate{}
	var err error
	if read.PerSecond, err = strconv.ParseFloat(perSecond, 64); err == nil && given {
		read.Burst, err = strconv.Atoi(burst)
	}
	if !given {
		read.Burst = int(math.Ceil(2 * min(read.PerSecond, math.MaxInt32/2)))
	}
	none := read.PerSecond == 0 && !given
	if err != nil || !none && (!(read.PerSecond > 0) || read.PerSecond > math.MaxInt32 || read.Burst < 1) {
		return errors.New("a rate is requests a second, as in 50, or that and how many may come at once, as in 50:200; 0 is no limit")
	}
	*r = read
	return nil
}

// meter is the token buckets of subjects.
type meter struct {
	rate Rate
	of   *lru.Cache[string, *rate.Limiter]
}

// newMeter returns nil where there is no limit.
func newMeter(r Rate) *meter {
	if r.PerSecond == 0 {
		return nil
	}
	of, err := lru.New[string, *rate.Limiter](maxSubjects)
	if err != nil {
		panic(err) // the size is ours
	}
	return &meter{r, of}
}

func (m *meter) bucket(subject string) *rate.Limiter {
	fresh := rate.NewLimiter(rate.Limit(m.rate.PerSecond), m.rate.Burst)
	if known, ok, _ := m.of.PeekOrAdd(subject, fresh); ok {
		m.of.Get(subject) // it was here now
		return known
	}
	return fresh
}

// take takes one from the subject's bucket, or says how long until there is one.
func (m *meter) take(subject string, now time.Time) (wait time.Duration) {
	if m == nil {
		return 0
	}
	bucket := m.bucket(subject)
	if bucket.AllowN(now, 1) {
		return 0
	}
	return m.until(bucket, now)
}

// look says how long until there is one to take.
func (m *meter) look(subject string, now time.Time) (wait time.Duration) {
	bucket := m.bucket(subject)
	if bucket.TokensAt(now) >= 1 {
		return 0
	}
	return m.until(bucket, now)
}

func (m *meter) until(bucket *rate.Limiter, now time.Time) time.Duration {
	missing := 1 - bucket.TokensAt(now)
	return max(time.Duration(missing/m.rate.PerSecond*float64(time.Second)), time.Millisecond)
}

// subject is whose requests are counted together: a token's, a user's by
// whatever session, and those of one address by whoever is not signed in.
func (s *Server) subject(r *http.Request, a *actor.Actor) string {
	switch {
	case a == nil:
		return "address " + s.client(r)
	case a.Kind == actor.Token && a.Credential != (gid.ID{}): // an issuer's token is no credential of ours
		return "token " + a.Credential.String()
	default:
		return "user " + a.User.String()
	}
}

// client is the address that a request is from. An IPv6 address stands for its
// /64, all of which one host may use.
func (s *Server) client(r *http.Request) string {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	at := remote.Addr().Unmap().WithZone("")
	// Each proxy adds to the right whom it was asked by. What is left of an
	// address that is no proxy of ours may be anything.
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for n := 0; len(hops) > 0 && n < maxHops && s.trusts(at); n++ {
		before, ok := forwarded(hops[len(hops)-1])
		if !ok {
			break
		}
		at, hops = before, hops[:len(hops)-1]
	}
	if at.Is6() {
		if prefix, err := at.Prefix(64); err == nil { // REASON: 64 is within every IPv6 address
			return prefix.String()
		}
	}
	return at.String()
}

// forwarded reads an address with or without a port.
func forwarded(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	at, err := netip.ParseAddr(text)
	if err != nil {
		with, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}, false
		}
		at = with.Addr()
	}
	return at.Unmap().WithZone(""), true
}

func (s *Server) trusts(at netip.Addr) bool {
	for _, proxies := range s.TrustedProxies {
		if proxies.Contains(at) {
			return true
		}
	}
	return false
}

// limited answers a subject that asks too often. It reports whether it did.
func (s *Server) limited(w http.ResponseWriter, r *http.Request, a *actor.Actor) bool {
	if s.requests == nil {
		return false
	}
	wait := s.requests.take(s.subject(r, a), s.Now())
	if wait == 0 {
		return false
	}
	retryAfter(w, wait)
	refuseAs(w, r, http.StatusTooManyRequests, lifecycle.Code(transport.CodeRateLimited), "Too many requests; try again later.")
	return true
}

func retryAfter(w http.ResponseWriter, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
}
