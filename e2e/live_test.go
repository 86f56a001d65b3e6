package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// socket is a client of graphql-transport-ws.
type socket struct {
	*require.Assertions

	t    *testing.T
	conn *websocket.Conn
}

func dial(t *testing.T, url, secret string) *socket {
	t.Helper()
	s := &socket{Assertions: require.New(t), t: t}
	var err error
	s.conn, _, err = websocket.Dial(t.Context(), url+"/graphql", &websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}})
	s.NoError(err)
	t.Cleanup(func() { _ = s.conn.CloseNow() })
	s.say(fmt.Sprintf(`{"type":"connection_init","payload":{"Authorization":"Bearer %s"}}`, secret))
	s.Equal("connection_ack", s.hear().Type)
	return s
}

type heard struct {
	ID, Type string
	Payload  json.RawMessage
}

func (s *socket) say(text string) {
	s.t.Helper()
	s.NoError(s.conn.Write(s.t.Context(), websocket.MessageText, []byte(text)))
}

func (s *socket) subscribe(id, document string) {
	s.t.Helper()
	text, err := json.Marshal(map[string]any{"id": id, "type": "subscribe", "payload": map[string]any{"query": document}})
	s.NoError(err)
	s.say(string(text))
}

func (s *socket) read() (m heard, err error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	_, text, err := s.conn.Read(ctx)
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	return m, err
}

func (s *socket) hear() heard {
	s.t.Helper()
	m, err := s.read()
	s.NoError(err)
	return m
}

// closed waits for the end of the connection, and answers its code.
func (s *socket) closed() websocket.StatusCode {
	s.t.Helper()
	for {
		if _, err := s.read(); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

// TestSocketsHearOfOtherProcessesUntilTheyMayNot runs two servers on one database: what
// is changed by the one, or by a command, is heard of at the other.
func TestSocketsHearOfOtherProcessesUntilTheyMayNot(t *testing.T) {
	t.Parallel()
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			env := append(os.Environ(), "LETHE_DATABASE="+database(t, dir), "LETHE_DATA="+dir, "LETHE_KEY="+key)
			run := func(args ...string) string {
				t.Helper()
				out, err := command(env, args...).Output()
				require.NoError(t, err, args)
				return strings.TrimSpace(string(out))
			}
			var servers []*server
			for range 2 {
				s, err := start(env, dir)
				require.NoError(t, err)
				t.Cleanup(func() { _ = s.end() })
				servers = append(servers, s)
			}
			who := []string{"--tenant", "default", "--user", "clerk@example.com"}
			run("user", "create", "--tenant", "default", "--email", "clerk@example.com", "--name", "Clerk")
			run(append([]string{"role", "grant", "agent"}, who...)...)
			secret := run(append([]string{"token", "create"}, who...)...)

			near, far := dial(t, servers[0].url, secret), dial(t, servers[1].url, secret)
			for _, s := range []*socket{near, far} {
				s.subscribe("c", `subscription { recordChanged(types: [CUSTOMER]) { action recordID } }`)
				s.say(`{"type":"ping"}`)
				s.Equal("pong", s.hear().Type)
			}
			// Before it has subscribed it hears of nothing.
			hears := func(s *socket, from *server) {
				t.Helper()
				got := make(chan heard, 1)
				go func() {
					m, err := s.read()
					if err == nil {
						got <- m
					}
				}()
				for {
					answer, err := post(t.Context(), from.url, secret, `mutation { createCustomer(input: {name: "Fresh"}) { customer { id } } }`)
					require.NoError(t, err)
					require.NotContains(t, string(answer), `"errors"`)
					select {
					case m := <-got:
						require.Equal(t, "next", m.Type)
						require.Contains(t, string(m.Payload), `"action":"CREATE"`)
						return
					case <-time.After(300 * time.Millisecond):
					case <-t.Context().Done():
						t.Fatal("nothing was heard")
					}
				}
			}
			hears(near, servers[0])
			hears(far, servers[0])

			// Who is revoked hears no more within two seconds.
			run("user", "deactivate", "--tenant", "default", "--email", "clerk@example.com")
			revoked := time.Now()
			for _, s := range []*socket{near, far} {
				require.EqualValues(t, 4403, s.closed())
			}
			t.Logf("closed %v after the command ended", time.Since(revoked))
		})
	}
}

// TestAStoppingServerSaysGoodbye stops a server that has sockets and streams.
func TestAStoppingServerSaysGoodbye(t *testing.T) {
	t.Parallel()
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			env := append(os.Environ(), "LETHE_DATABASE="+database(t, dir), "LETHE_DATA="+dir, "LETHE_KEY="+key)
			s, err := start(env, dir)
			require.NoError(t, err)
			t.Cleanup(func() { _ = s.cmd.Process.Kill() })
			out, err := command(env, "user", "create", "--tenant", "default", "--email", "clerk@example.com", "--name", "Clerk").Output()
			require.NoError(t, err, string(out))
			token, err := command(env, "token", "create", "--tenant", "default", "--user", "clerk@example.com").Output()
			require.NoError(t, err)
			secret := strings.TrimSpace(string(token))

			open := dial(t, s.url, secret)
			open.subscribe("n", `subscription { notifications { id } }`)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/graphql?query=subscription%7Bnotifications%7Bid%7D%7D", nil)
			require.NoError(t, err)
			r.Header.Set("Accept", "text/event-stream")
			r.Header.Set("Authorization", "Bearer "+secret)
			events, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			defer events.Body.Close()

			require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
			require.Equal(t, websocket.StatusGoingAway, open.closed())
			var rest strings.Builder
			buffer := make([]byte, 1<<10)
			for err == nil {
				var n int
				n, err = events.Body.Read(buffer)
				rest.Write(buffer[:n])
			}
			require.NotContains(t, rest.String(), "complete", "a stream that is cut off is asked for again")
			require.NoError(t, <-s.done)
			require.NotContains(t, s.out.String(), "did not end in time", "nothing waits for what has no end")
		})
	}
}
