package e2e

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// webhookKills is how often a server is killed while it delivers; `make long` raises it.
func webhookKills() int {
	if n, err := strconv.Atoi(os.Getenv("LETHE_KILLS")); err == nil {
		return n
	}
	return 2
}

// TestAKilledServerDeliversEveryEvent kills servers while they deliver. Every event arrives, and under one id, so that a
// receiver that throws repeated ids away sees each once.
func TestAKilledServerDeliversEveryEvent(t *testing.T) {
	t.Parallel()
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var secret []byte
			ids, events, unsigned, times := map[string]string{}, map[string]map[string]bool{}, 0, 0 // ids by operation and back
			receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return
				}
				time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				id := r.Header.Get("Webhook-Id")
				mac := hmac.New(sha256.New, secret)
				mac.Write([]byte(id + "." + r.Header.Get("Webhook-Timestamp") + "." + string(body)))
				var event struct{ Data struct{ Operation string } }
				if r.Header.Get("Webhook-Signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) || json.Unmarshal(body, &event) != nil {
					unsigned++
					return
				}
				times++
				ids[id] = event.Data.Operation
				if events[event.Data.Operation] == nil {
					events[event.Data.Operation] = map[string]bool{}
				}
				events[event.Data.Operation][id] = true
			}))
			t.Cleanup(receiver.Close)

			dir := t.TempDir()
			env := append(os.Environ(), "LETHE_DATABASE="+database(t, dir), "LETHE_DATA="+dir, "LETHE_KEY="+key, "LETHE_ALLOW_PRIVATE_WEBHOOKS=true")
			s, err := start(env, dir)
			require.NoError(t, err)
			out, err := command(env, "token", "create", "--tenant", "default", "--user", "admin@localhost").Output()
			require.NoError(t, err)
			token := strings.TrimSpace(string(out))
			ask := func(query string, into any) {
				t.Helper()
				answer, err := post(t.Context(), s.url, token, query)
				require.NoError(t, err)
				var got struct{ Data, Errors json.RawMessage }
				require.NoError(t, json.Unmarshal(answer, &got))
				require.Empty(t, got.Errors, "%s", answer)
				require.NoError(t, json.Unmarshal(got.Data, into))
			}
			var hook struct{ CreateWebhook struct{ Secret string } }
			ask(fmt.Sprintf(`mutation { createWebhook(input: {url: %q, kinds: [DELETED, RESTORED]}) { secret } }`, receiver.URL), &hook)
			mu.Lock()
			secret, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(hook.CreateWebhook.Secret, "whsec_"))
			mu.Unlock()
			require.NoError(t, err)
			var created struct {
				CreateCustomer struct{ Customer struct{ ID string } }
			}
			ask(`mutation { createCustomer(input: {name: "Told"}) { customer { id } } }`, &created)

			var wanted []string
			for range webhookKills() {
				for range 6 {
					for _, verb := range []string{"deleteRecords", "restoreRecords"} {
						var did map[string]struct{ Operation struct{ ID string } }
						ask(fmt.Sprintf(`mutation { %s(input: {select: {ids: [%q]}}) { operation { id } } }`, verb, created.CreateCustomer.Customer.ID), &did)
						wanted = append(wanted, did[verb].Operation.ID)
					}
				}
				time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
				require.NoError(t, s.cmd.Process.Kill())
				require.Error(t, <-s.done, "killed, not stopped")
				s, err = start(env, dir)
				require.NoError(t, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second) // a lease, and some
			defer cancel()
			for {
				mu.Lock()
				arrived := len(events)
				mu.Unlock()
				if arrived >= len(wanted) {
					break
				}
				select {
				case <-ctx.Done():
					require.FailNow(t, "not every event arrived", "%d of %d", arrived, len(wanted))
				case <-time.After(50 * time.Millisecond):
				}
			}
			require.NoError(t, s.end())
			mu.Lock()
			defer mu.Unlock()
			require.Zero(t, unsigned)
			for _, operation := range wanted {
				require.Len(t, events[operation], 1, "one id for an event")
			}
			require.Len(t, ids, len(wanted), "and one event for an id")
			t.Logf("%d events, sent %d times, over %d kills", len(wanted), times, webhookKills())
		})
	}
}
