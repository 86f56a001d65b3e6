package e2e

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/store"
)

// TestAnotherProcessRefusesWhatWasRevoked runs two servers on one database. A
// role is given and revoked by a third process, and what they answer is watched.
func TestAnotherProcessRefusesWhatWasRevoked(t *testing.T) {
	t.Parallel()
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			url := database(t, dir)
			env := append(os.Environ(), "LETHE_DATABASE="+url, "LETHE_DATA="+dir, "LETHE_KEY="+key)
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
				t.Cleanup(func() { require.NoError(t, s.end()) })
				servers = append(servers, s)
			}
			who := []string{"--tenant", "default", "--user", "clerk@example.com"}
			run("user", "create", "--tenant", "default", "--email", "clerk@example.com", "--name", "Clerk")
			secret := run(append([]string{"token", "create"}, who...)...)

			// permitted creates a customer, or is refused for want of a role.
			permitted := func(s *server) bool {
				t.Helper()
				answer, err := post(t.Context(), s.url, secret, `mutation { createCustomer(input: {name: "Fresh"}) { customer { id } } }`)
				require.NoError(t, err)
				if strings.Contains(string(answer), `"FORBIDDEN"`) {
					return false
				}
				require.NotContains(t, string(answer), `"errors"`)
				return true
			}
			// after waits until both servers answer so, and says how long that took.
			after := func(since time.Time, want bool) time.Duration {
				t.Helper()
				for _, s := range servers {
					require.Eventually(t, func() bool { return permitted(s) == want }, 10*time.Second, 5*time.Millisecond)
				}
				return time.Since(since)
			}
			change := func(verb string, want bool) time.Duration {
				t.Helper()
				run(append([]string{"role", verb, "agent"}, who...)...)
				return after(time.Now(), want)
			}
			cut := func() {
				if !strings.HasPrefix(url, "postgres") {
					return
				}
				db, err := store.Open(t.Context(), url)
				require.NoError(t, err)
				defer db.Close()
				// A server may be connecting; then the next look finds it.
				ended := 0
				require.Eventually(t, func() bool {
					err := store.Build(db).Add(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'listen %'`).
						Query(t.Context(), db, func(row store.Row) error {
							ended++
							var ok bool
							return row.Scan(&ok)
						})
					return err == nil && ended >= 2*len(servers) // one for policies, one for changes
				}, 10*time.Second, 5*time.Millisecond, "nobody listens")
			}
			require.False(t, permitted(servers[0]))
			require.False(t, permitted(servers[1]))

			slowest := map[string]time.Duration{}
			for range 2 {
				slowest["grant"] = max(slowest["grant"], change("grant", true))
				slowest["revoke"] = max(slowest["revoke"], change("revoke", false))
				change("grant", true)
				cut()
				slowest["revoke, cut"] = max(slowest["revoke, cut"], change("revoke", false))
			}
			t.Logf("slowest after the command ended: %v", slowest)

			// Who is deactivated is out with the next request; there is nothing to wait for.
			change("grant", true)
			run("user", "deactivate", "--tenant", "default", "--email", "clerk@example.com")
			for _, s := range servers {
				answer, err := post(t.Context(), s.url, secret, `{ viewer { user { id } } }`)
				require.NoError(t, err)
				require.Contains(t, string(answer), "UNAUTHENTICATED")
			}
		})
	}
}

// TestABadRowClosesItsTenantOnly writes a row past all checks, as whoever has the database can.
func TestABadRowClosesItsTenantOnly(t *testing.T) {
	t.Parallel()
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			url := database(t, dir)
			env := append(os.Environ(), "LETHE_DATABASE="+url, "LETHE_DATA="+dir, "LETHE_KEY="+key)
			run := func(args ...string) string {
				t.Helper()
				out, err := command(env, args...).Output()
				require.NoError(t, err, args)
				return strings.TrimSpace(string(out))
			}
			s, err := start(env, dir)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.end()) })
			secrets := map[string]string{}
			for _, tenant := range []string{"good", "bad"} {
				run("tenant", "create", tenant)
				run("user", "create", "--tenant", tenant, "--email", "a@example.com")
				run("role", "grant", "agent", "--tenant", tenant, "--user", "a@example.com")
				secrets[tenant] = run("token", "create", "--tenant", tenant, "--user", "a@example.com")
			}
			permitted := func(tenant string) bool {
				t.Helper()
				answer, err := post(t.Context(), s.url, secrets[tenant], `mutation { createCustomer(input: {name: "Kept"}) { customer { id } } }`)
				require.NoError(t, err)
				return !strings.Contains(string(answer), `"errors"`)
			}
			eventually := func(tenant string, want bool) {
				t.Helper()
				require.Eventually(t, func() bool { return permitted(tenant) == want }, 10*time.Second, 5*time.Millisecond, "%s %v", tenant, want)
			}
			eventually("good", true)
			eventually("bad", true)

			db, err := store.Open(t.Context(), url)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
			write := func(effect, was string) {
				t.Helper()
				require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error {
					const bad = ` WHERE tenant_id = (SELECT id FROM tenants WHERE name = 'bad')`
					if _, err := store.Build(tx).Add(`UPDATE policy_rules SET v4 = ?`+bad+` AND v4 = ?`, effect, was).Exec(ctx, tx); err != nil {
						return err
					}
					_, err := store.Build(tx).Add(`UPDATE policy_heads SET version = version + 1`+bad).Exec(ctx, tx)
					return err
				}))
			}
			write("Allow", "allow")
			eventually("bad", false)
			require.True(t, permitted("good"))
			require.Contains(t, s.out.String(), "a policy is invalid and permits nothing")
			answer, err := post(t.Context(), s.url, secrets["bad"], `{ customers(first: 9) { totalCount } }`)
			require.NoError(t, err)
			require.NotContains(t, string(answer), `"totalCount":1`)

			write("allow", "Allow")
			eventually("bad", true)
			require.True(t, permitted("good"))
		})
	}
}
