package notify

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

func TestSignaturesAreThoseOfTheSpecification(t *testing.T) {
	t.Parallel()
	// The vector of the reference libraries of https://www.standardwebhooks.com.
	secret, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	require.NoError(t, err)
	got := sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`), secret)
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", got)
	both := sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`), []byte("new"), secret)
	require.True(t, strings.HasSuffix(both, " "+got), "the signature under the secret before comes second")
	fresh, err := newSecret()
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(show(fresh), "whsec_"))
	require.Len(t, fresh, 32)
}

func TestOnlyPublicAddressesAreDialled(t *testing.T) {
	t.Parallel()
	s := newSender(false)
	for address, allowed := range map[string]bool{
		"93.184.216.34:443": true, "93.184.216.34:8443": true, "[2606:2800:220:1:248:1893:25c8:1946]:443": true, "1.1.1.1:80": true,
		"127.0.0.1:443": false, "127.255.255.254:443": false, "10.1.2.3:443": false, "172.16.0.1:443": false, "172.31.255.255:443": false, "192.168.1.1:443": false,
		"100.64.0.1:443": false, "169.254.169.254:80": false, "0.0.0.0:80": false, "0.1.2.3:80": false, "224.0.0.1:80": false, "255.255.255.255:80": false, "198.18.0.1:80": false, "192.0.0.192:80": false,
		"[::1]:443": false, "[::]:443": false, "[fe80::1]:443": false, "[fe80::1%eth0]:443": false, "[fc00::1]:443": false, "[fd00:ec2::254]:80": false, "[ff02::1]:443": false,
		"[::ffff:127.0.0.1]:443": false, "[::ffff:10.0.0.1]:443": false, "[::ffff:8.8.8.8]:443": true, "[::127.0.0.1]:443": false, "[64:ff9b::7f00:1]:443": false, "[64:ff9b:1::7f00:1]:443": false,
		"[2002:7f00:1::]:443": false, "[2001::1]:443": false, "[2001:db8::1]:443": false, "nonsense": false,
	} {
		err := s.control("tcp", address, nil)
		require.Equal(t, allowed, err == nil, address)
	}
	require.Error(t, s.control("udp", "93.184.216.34:443", nil))
	require.False(t, public(netip.Addr{}))
}

func TestURLsOfWebhooks(t *testing.T) {
	t.Parallel()
	strict, lax := New(Config{}), New(Config{AllowPrivate: true})
	for url, allowed := range map[string]struct{ strict, lax bool }{
		"https://example.com/hook":         {true, true},
		"https://example.com:8443/h?x=1":   {true, true},
		"http://example.com/hook":          {false, true},
		"http://127.0.0.1:8080":            {false, true},
		"https://127.0.0.1":                {false, true},
		"https://[::1]/":                   {false, true},
		"https://localhost/":               {false, true},
		"https://LOCALHOST./":              {false, true},
		"https://a.localhost/":             {false, true},
		"https://169.254.169.254/latest":   {false, true},
		"https://user:secret@example.com/": {},
		"https://user@example.com/":        {},
		"https://example.com/#part":        {},
		"https://example.com/#":            {},
		"ftp://example.com/":               {},
		"file:///etc/passwd":               {},
		"https:///path":                    {},
		"//example.com":                    {},
		"":                                 {},
		"https://exa mple.com":             {},
		"https://example.com/" + strings.Repeat("x", maxURL): {},
	} {
		for s, want := range map[*Service]bool{strict: allowed.strict, lax: allowed.lax} {
			err := s.checkURL(url)
			require.Equal(t, want, err == nil, "%s: %v", url, err)
			if err != nil {
				var refused *record.Error
				require.ErrorAs(t, err, &refused)
				require.Equal(t, lifecycle.BadUserInput, refused.Code)
				require.Equal(t, []string{"url"}, refused.Fields)
			}
		}
	}
}

func TestHowAttemptsEnd(t *testing.T) {
	t.Parallel()
	elsewhere := 0
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/elsewhere":
			elsewhere++
		case "/redirect":
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case "/gone":
			w.WriteHeader(http.StatusGone)
		case "/error":
			w.WriteHeader(http.StatusInternalServerError)
		case "/endless": // what is read of an answer is bounded
			for range 1_000 {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}
	}))
	t.Cleanup(receiver.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	s := newSender(true)
	for url, want := range map[string]answer{
		receiver.URL + "/":         {200, ""},
		receiver.URL + "/redirect": {307, "REDIRECT"},
		receiver.URL + "/gone":     {410, "GONE"},
		receiver.URL + "/error":    {500, "STATUS"},
		receiver.URL + "/endless":  {200, ""},
		secure.URL:                 {0, "TLS"},
		closed.URL:                 {0, "CONNECTION"},
	} {
		require.Equal(t, want, s.send(t.Context(), url, "delivery_1", time.Unix(0, 0), "v1,x", []byte("{}")), url)
	}
	require.Zero(t, elsewhere, "redirects are not followed")
	require.Equal(t, answer{0, "REFUSED_ADDRESS"}, newSender(false).send(t.Context(), receiver.URL, "delivery_1", time.Unix(0, 0), "v1,x", []byte("{}")))
}

func TestWaitsBetweenAttemptsAreThoseOfTheSpecification(t *testing.T) {
	t.Parallel()
	require.Equal(t, 10, MaxAttempts)
	for _, wait := range backoff {
		for range 100 {
			got := jitter(wait)
			require.GreaterOrEqual(t, got, wait)
			require.Less(t, got, wait+wait/5)
		}
	}
}

func TestWorkingHours(t *testing.T) {
	t.Parallel()
	r := &rule{AlertRule: AlertRule{FromHour: 8, ToHour: 18, Weekdays: []int{1, 2, 3, 4, 5}}}
	for at, working := range map[string]bool{
		"2026-03-02T08:00:00Z": true, "2026-03-02T17:59:59Z": true, "2026-03-02T18:00:00Z": false, "2026-03-02T07:59:59Z": false, // a Monday
		"2026-03-01T12:00:00Z": false, "2026-02-28T12:00:00Z": false, // Sunday, Saturday
	} {
		moment, err := time.Parse(time.RFC3339, at)
		require.NoError(t, err)
		require.Equal(t, working, r.working(moment), at)
	}
}
