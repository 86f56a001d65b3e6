package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/telemetry"
)

const (
	sendWithin = 15 * time.Second
	// maxAnswer is how much of an answer is read, and thrown away, so that the
	// connection can be used again.
	maxAnswer = 64 << 10
)

// Why an attempt failed. What the receiver said is not kept.
const (
	failedStatus   = "STATUS"
	failedTimeout  = "TIMEOUT"
	failedAddress  = "REFUSED_ADDRESS"
	failedDNS      = "DNS"
	failedTLS      = "TLS"
	failedConnect  = "CONNECTION"
	failedRedirect = "REDIRECT"
	failedGone     = "GONE"
)

// sender sends to addresses that tenants choose.
type sender struct {
	client       *http.Client
	allowPrivate bool
}

func newSender(allowPrivate bool) *sender {
	s := &sender{allowPrivate: allowPrivate}
	dialer := &net.Dialer{Timeout: sendWithin, Control: s.control}
	s.client = &http.Client{
		Timeout: sendWithin,
		// Where a receiver points to was not agreed to by who set the webhook up.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{ // no proxy: one would dial in our place
			DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: sendWithin, ResponseHeaderTimeout: sendWithin, MaxIdleConns: senders, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxAnswer,
		},
	}
	return s
}

// errAddress says that an address is none to send to.
var errAddress = errors.New("notify: this is no address to send to")

// control sees the address that is dialled, after names were resolved: whatever a
// name stands for by then.
func (s *sender) control(network, address string, _ syscall.RawConn) error {
	if s.allowPrivate {
		return nil
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") || !public(at.Addr()) {
		return errAddress
	}
	return nil
}

// checkHost refuses at once a host that is no name and could never be sent to, and
// names that stand for this machine.
func (s *sender) checkHost(host string) error {
	if s.allowPrivate {
		return nil
	}
	lower := strings.TrimSuffix(strings.ToLower(host), ".")
	addr, err := netip.ParseAddr(host)
	if err == nil && !public(addr) || lower == "localhost" || strings.HasSuffix(lower, ".localhost") {
		return record.Refuse(lifecycle.BadUserInput, "is not on the public Internet", "url")
	}
	return nil
}

// special are the blocks that are not on the public Internet, or stand for others:
// of the registries of special-purpose addresses of IANA.
var special = func() (blocks []netip.Prefix) {
	for _, text := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24",
		"192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	} {
		blocks = append(blocks, netip.MustParsePrefix(text))
	}
	return blocks
}()

// global is what is given out of IPv6 to be reached by everybody.
var global = netip.MustParsePrefix("2000::/3")

// inside are the blocks of global that are not, or that carry an IPv4 address which
// would have to be looked at as well: Teredo, documentation, ORCHID, 6to4.
var inside = []netip.Prefix{
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("3fff::/20"), netip.MustParsePrefix("2620:4f:8000::/48"),
}

// public reports whether an address is one of the public Internet. IPv4 addresses
// that are written as IPv6 are looked at as what they are; other blocks of IPv6 that
// stand for IPv4, such as NAT64's, are not global.
func public(addr netip.Addr) bool {
	if addr.Zone() != "" {
		return false
	}
	blocks := special
	if addr = addr.Unmap(); addr.Is6() {
		if !global.Contains(addr) {
			return false
		}
		blocks = inside
	}
	for _, b := range blocks {
		if b.Contains(addr) {
			return false
		}
	}
	return addr.IsValid()
}

// answer is how an attempt ended.
type answer struct {
	status  int    // zero without an answer
	failure string // empty where it was taken
}

// send makes one attempt.
func (s *sender) send(ctx context.Context, url, id string, at time.Time, signature string, body []byte) answer {
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return answer{failure: failedConnect}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Lethe-Webhooks/1")
	r.Header.Set("Webhook-Id", id)
	r.Header.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	r.Header.Set("Webhook-Signature", signature)
	if parent := telemetry.Parent(ctx); parent != "" {
		r.Header.Set("Traceparent", parent)
	}
	got, err := s.client.Do(r)
	if err != nil {
		return answer{failure: failureOf(err)}
	}
	defer got.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(got.Body, maxAnswer))
	a := answer{status: got.StatusCode}
	switch {
	case got.StatusCode >= 200 && got.StatusCode < 300:
	case got.StatusCode == http.StatusGone:
		a.failure = failedGone
	case got.StatusCode >= 300 && got.StatusCode < 400:
		a.failure = failedRedirect
	default:
		a.failure = failedStatus
	}
	return a
}

func failureOf(err error) string {
	var timeout interface{ Timeout() bool }
	_, dns := errors.AsType[*net.DNSError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	switch {
	case errors.Is(err, errAddress):
		return failedAddress
	case dns:
		return failedDNS
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return failedTimeout
	case record, alert, verify, unknown:
		return failedTLS
	}
	return failedConnect
}
