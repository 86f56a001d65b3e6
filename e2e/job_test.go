package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// killing is a database with many records whose servers are killed.
type killing struct {
	*testing.T

	env     []string
	dir     string
	db      *store.DB
	token   string
	random  *rand.Rand
	servers []*server
	whole   time.Duration // how long a job takes, about
	killed  map[string]int
}

// TestAKilledServerGoesOnWithItsJobs deletes, restores and purges many records by filter, and kills the servers that
// work on it at any moment: two of them where the database takes two. `make long` does it until each verb was
// interrupted 50 times.
func TestAKilledServerGoesOnWithItsJobs(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs processes, which the race detector does not see")
	}
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("LETHE_SEED"), 10, 64); err == nil {
		seed = s
	}
	customers := 1_500
	if os.Getenv("LETHE_KILLS") != "" {
		customers = 10_000 // each with a note
	}
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("LETHE_SEED=%d", seed)
			k := &killing{T: t, dir: t.TempDir(), random: rand.New(rand.NewPCG(seed, 1)), killed: map[string]int{}, whole: time.Second}
			url := database(t, k.dir)
			k.env = append(os.Environ(), "LETHE_DATABASE="+url, "LETHE_DATA="+k.dir, "LETHE_KEY="+key)
			processes := 1
			if strings.HasPrefix(url, "postgres") {
				processes = 2
			}
			for range processes {
				s, err := start(k.env, k.dir)
				require.NoError(t, err)
				k.servers = append(k.servers, s)
			}
			defer func() {
				for _, s := range k.servers {
					require.NoError(t, s.end())
				}
			}()
			var err error
			k.db, err = store.Open(t.Context(), url)
			require.NoError(t, err)
			defer k.db.Close()
			k.exec(`UPDATE tenants SET brake_records = NULL, brake_percent = NULL, brake_hour = NULL, brake_day = NULL, purge_day = NULL`)
			k.exec(`UPDATE approval_rules SET enabled = FALSE WHERE subject = 'PURGE'`) // nobody else is there to ask
			who := []string{"--tenant", "default", "--user", "admin@localhost"}
			k.does(append([]string{"role", "grant", "purger"}, who...)...)
			k.token = strings.TrimSpace(k.does(append([]string{"token", "create"}, who...)...))

			enough := func() bool {
				for _, verb := range []string{"deleteRecords", "restoreRecords", "purgeRecords"} {
					if k.killed[verb] < kills() {
						return false
					}
				}
				return true
			}
			for !enough() {
				k.fill(who, customers)
				for k.killed["restoreRecords"] < kills() || k.killed["deleteRecords"] < kills() {
					k.job("deleteRecords", customers)
					k.job("restoreRecords", customers)
				}
				k.job("deleteRecords", customers)
				k.job("purgeRecords", customers)
			}
			t.Logf("%d records; killed while they were at it: %v; a job takes about %s", 2*customers, k.killed, k.whole)
		})
	}
}

func (k *killing) does(args ...string) string {
	k.Helper()
	out, err := command(k.env, args...).Output()
	require.NoError(k, err, args)
	return string(out)
}

func (k *killing) exec(query string) {
	k.Helper()
	_, err := store.Build(k.db).Add(query).Exec(k.Context(), k.db)
	require.NoError(k, err)
}

// count reads one number.
func (k *killing) count(query string, args ...any) int {
	k.Helper()
	var n int
	_, err := store.Build(k.db).Add(query, args...).One(k.Context(), k.db, &n)
	require.NoError(k, err)
	return n
}

// fill imports customers with a note each.
func (k *killing) fill(who []string, n int) {
	k.Helper()
	var customers, notes strings.Builder
	customers.WriteString("name,email\n")
	notes.WriteString("body,happenedAt,customer\n")
	for i := range n {
		fmt.Fprintf(&customers, "bulk %d,bulk%d@example.com\n", i, i)
		fmt.Fprintf(&notes, "a note,2026-01-01T00:00:00Z,bulk%d@example.com\n", i)
	}
	for as, text := range map[string]string{"customers": customers.String(), "notes": notes.String()} {
		require.NoError(k, os.WriteFile(filepath.Join(k.dir, as+".csv"), []byte(text), 0o600))
	}
	for _, as := range []string{"customers", "notes"} {
		k.does(append(append([]string{"import", "--as", as}, who...), filepath.Join(k.dir, as+".csv"))...)
	}
	require.Equal(k, n, k.count(`SELECT COUNT(*) FROM notes WHERE customer_id IS NOT NULL`))
}

// job asks for a verb over all customers, and kills the servers until it has ended.
func (k *killing) job(verb string, customers int) {
	k.Helper()
	answer, err := post(k.Context(), k.servers[0].url, k.token,
		fmt.Sprintf(`mutation { %s(input: {select: {customers: {nameHasPrefix: "bulk "}}, expectedCount: %d}) { operation { id } } }`, verb, customers))
	require.NoError(k, err)
	var got struct {
		Data map[string]struct{ Operation struct{ ID string } }
	}
	require.NoError(k, json.Unmarshal(answer, &got))
	require.NotEmpty(k, got.Data, "%s", answer)
	op, err := gid.Parse(got.Data[verb].Operation.ID)
	require.NoError(k, err)

	began, interrupted := time.Now(), false
	for processed := 0; !k.ended(op); {
		wait := time.Duration(k.random.Int64N(int64(k.whole)))
		if !k.endedWithin(op, wait) && k.killed[verb] < kills() {
			i := k.random.IntN(len(k.servers))
			require.NoError(k, k.servers[i].cmd.Process.Kill())
			require.Error(k, <-k.servers[i].done, "killed, not stopped")
			if !k.ended(op) {
				k.killed[verb]++
				interrupted = true
			}
			k.servers[i], err = start(k.env, k.dir)
			require.NoError(k, err)
		}
		now := k.count(`SELECT processed FROM operations WHERE id = ?`, op)
		require.GreaterOrEqual(k, now, processed, "what is done stays done")
		processed = now
		require.Less(k, time.Since(began), 5*time.Minute, "it does not come to an end")
	}
	if !interrupted {
		k.whole = max(time.Since(began), 100*time.Millisecond)
	}
	k.isWhole(verb, op, 2*customers)
}

// isWhole checks that a job did each record once: items, events and changes are equal, and nothing is lost.
func (k *killing) isWhole(verb string, op gid.ID, records int) {
	k.Helper()
	action := map[string]string{"deleteRecords": "DELETE", "restoreRecords": "RESTORE", "purgeRecords": "PURGE"}[verb]
	for query, want := range map[string]int{
		`SELECT changed FROM operations WHERE id = ? AND status = 'SUCCEEDED' AND failed = 0 AND unchanged = 0 AND total = changed AND processed = changed`: records,
		`SELECT COUNT(*) FROM operation_items WHERE operation_id = ? AND outcome = 'CHANGED' AND pending IS NULL`:                                           records,
		`SELECT COUNT(DISTINCT record_id) FROM operation_items WHERE operation_id = ?`:                                                                      records,
		`SELECT COUNT(*) FROM audit_events WHERE operation_id = ? AND outcome = 'SUCCEEDED' AND record_id IS NOT NULL AND action = '` + action + `'`:        records,
		`SELECT COUNT(DISTINCT record_id) FROM audit_events WHERE operation_id = ? AND outcome = 'SUCCEEDED' AND action = '` + action + `'`:                 records,
	} {
		require.Equal(k, want, k.count(query, op), query)
	}
	for _, table := range []string{"customers", "notes"} {
		state := map[string]string{"deleteRecords": "DELETED", "restoreRecords": "ACTIVE", "purgeRecords": ""}[verb]
		if state == "" {
			require.Zero(k, k.count(`SELECT COUNT(*) FROM `+table))
			require.Equal(k, records, k.count(`SELECT COUNT(*) FROM tombstones WHERE operation_id = ?`, op))
			continue
		}
		require.Equal(k, records/2, k.count(`SELECT COUNT(*) FROM `+table+` WHERE state = ?`, state))
		require.Zero(k, k.count(`SELECT COUNT(*) FROM `+table+` r LEFT JOIN (SELECT record_id, COUNT(*) AS n FROM audit_events WHERE outcome = 'SUCCEEDED' AND record_id IS NOT NULL
			GROUP BY record_id) e ON e.record_id = r.id WHERE r.version <> COALESCE(e.n, 0)`), "versions are not one event each")
	}
}

func (k *killing) ended(op gid.ID) bool {
	return k.count(`SELECT COUNT(*) FROM operations WHERE id = ? AND finished_at IS NOT NULL`, op) == 1
}

func (k *killing) endedWithin(op gid.ID, d time.Duration) bool {
	for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if k.ended(op) {
			return true
		}
	}
	return k.ended(op)
}
