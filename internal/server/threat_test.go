package server_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// pipes is a listener for connections within the process, on which time is that of the test.
type pipes struct {
	conns chan net.Conn
	done  context.Context
	close context.CancelFunc
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done.Done():
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.close(); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func TestASlowClientIsCutOff(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		begins string
		within time.Duration
	}{
		"before the headers": {"", 11 * time.Second},
		"in the headers":     {"POST /graphql HTTP/1.1\r\nHost: lethe\r\nX-Slow: ", 11 * time.Second},
		"in the body":        {"POST /graphql HTTP/1.1\r\nHost: lethe\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n", 32 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				done, closed := context.WithCancel(t.Context())
				listener := &pipes{make(chan net.Conn), done, closed}
				s := serve(func(w http.ResponseWriter, r *http.Request) {
					if _, err := io.ReadAll(r.Body); err != nil {
						w.WriteHeader(http.StatusBadRequest)
					}
				}, nil, io.Discard)
				ended := make(chan error, 1)
				go func() { ended <- s.Run(ctx, listener) }()
				client, conn := net.Pipe()
				listener.conns <- conn
				go func() { _, _ = io.Copy(io.Discard, client) }()
				began := time.Now()
				_, err := io.WriteString(client, test.begins)
				tick := time.NewTicker(time.Second)
				defer tick.Stop()
				for err == nil && time.Since(began) < time.Hour {
					<-tick.C
					_, err = io.WriteString(client, "x")
				}
				require.Error(t, err, "the connection is closed")
				require.LessOrEqual(t, time.Since(began), test.within)
				stop()
				require.NoError(t, <-ended)
				_ = client.Close()
			})
		})
	}
}

func TestHeadersOfProxiesMakeNobodySomebody(t *testing.T) {
	each(t, func(w *world) {
		user, token := w.user.String(), w.token()
		for _, name := range []string{
			"X-Forwarded-User", "X-User", "X-User-ID", "X-Remote-User", "Remote-User", "X-Auth-Request-User", "X-Authenticated-User",
			"X-Forwarded-Email", "X-Tenant", "X-Lethe-User", "From", "X-Real-IP", "X-Forwarded-For", "Forwarded", "X-Client-Cert", "X-Original-URL", "X-Rewrite-URL",
		} {
			require.Contains(w, w.ask(browser(), name, user), "nobody", name)
			require.Contains(w, w.ask(browser(), name, "u@acme.example"), "nobody", name)
			require.Contains(w, w.ask(browser(), name, "Bearer "+token), "nobody", name)
		}
		for _, basic := range []string{"Basic " + token, "bearer", "Bearer", "Bearer  ", token, "Bearer " + token + "x", "Bearer " + token[:len(token)-1]} {
			require.Contains(w, w.ask(browser(), "Authorization", basic), "nobody", basic)
		}
	})
}

func TestAnswersNameNoHostThatAClientMadeUp(t *testing.T) {
	t.Parallel()
	s := serve(whoami, nil, io.Discard)
	for _, target := range []string{"/", "/signin", "/graphiql/", "/nowhere"} {
		got := get(s, http.MethodGet, "http://evil.example"+target, "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "gopher", "Forwarded", "host=evil.example")
		require.NotContains(t, got.Body.String(), "evil.example", target)
		for name, values := range got.Header() {
			require.NotContains(t, values, "evil.example", "%s: %s", target, name)
		}
		require.NotContains(t, got.Header().Get("Location"), "evil", target)
		require.NotContains(t, got.Header().Get("Access-Control-Allow-Origin"), "*", target)
	}
}
