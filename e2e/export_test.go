package e2e

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/store"
)

// TestAKilledServerGoesOnWithItsExports kills servers while they write files: each
// export ends with one file, which holds every record once, and no bytes are without
// somebody who knows of them.
func TestAKilledServerGoesOnWithItsExports(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs processes, which the race detector does not see")
	}
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("LETHE_SEED"), 10, 64); err == nil {
		seed = s
	}
	times := 2
	if os.Getenv("LETHE_KILLS") != "" {
		times = kills()
	}
	const records = 4_000
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("LETHE_SEED=%d", seed)
			random := rand.New(rand.NewPCG(seed, 2))
			dir := t.TempDir()
			url := database(t, dir)
			env := append(os.Environ(), "LETHE_DATABASE="+url, "LETHE_DATA="+dir, "LETHE_KEY="+key)
			s, err := start(env, dir)
			require.NoError(t, err)
			run := func(args ...string) string {
				out, err := command(env, args...).CombinedOutput()
				require.NoError(t, err, "%s", out)
				return strings.TrimSpace(string(out))
			}
			who := []string{"--tenant", "default", "--user", "admin@localhost"}
			token := run(append([]string{"token", "create"}, who...)...)
			var b strings.Builder
			b.WriteString("body,happenedAt\n")
			for i := range records {
				fmt.Fprintf(&b, "%d %s,2026-01-01\n", i, strings.Repeat("x", 500))
			}
			table := filepath.Join(dir, "notes.csv")
			require.NoError(t, os.WriteFile(table, []byte(b.String()), 0o600))
			run(append([]string{"import", "--as", "notes", table}, who...)...)
			db, err := store.Open(t.Context(), url)
			require.NoError(t, err)
			defer db.Close()

			ask := func(query string) map[string]any {
				t.Helper()
				answer, err := post(t.Context(), s.url, token, query)
				require.NoError(t, err)
				var got struct{ Data, Errors any }
				require.NoError(t, json.Unmarshal(answer, &got))
				require.Nil(t, got.Errors, "%s", answer)
				return got.Data.(map[string]any)
			}
			export := func() string {
				got := ask(`mutation { createExport(input: {type: NOTE}) { export { id } } }`)
				return got["createExport"].(map[string]any)["export"].(map[string]any)["id"].(string)
			}
			status := func(id string) map[string]any {
				return ask(fmt.Sprintf(`{ export(id: %q) { status rows complete downloadURL } }`, id))["export"].(map[string]any)
			}
			ended := func(id string) map[string]any {
				t.Helper()
				deadline := time.Now().Add(3 * time.Minute)
				for time.Now().Before(deadline) {
					if e := status(id); e["status"] != "PENDING" && e["status"] != "RUNNING" {
						return e
					}
					time.Sleep(50 * time.Millisecond)
				}
				t.Fatalf("it did not end: %v\n%s", status(id), s.out)
				return nil
			}
			began := time.Now()
			require.Equal(t, "SUCCEEDED", ended(export())["status"])
			whole := time.Since(began)

			interrupted, exports := 0, 1
			for interrupted < times {
				id := export()
				exports++
				time.Sleep(time.Duration(random.Int64N(int64(whole))))
				require.NoError(t, s.cmd.Process.Kill())
				require.Error(t, <-s.done, "killed, not stopped")
				var was string
				_, err := store.Build(db).Add(`SELECT status FROM exports ORDER BY id DESC LIMIT 1`).One(t.Context(), db, &was)
				require.NoError(t, err)
				if was == "RUNNING" {
					interrupted++
				}
				s, err = start(env, dir)
				require.NoError(t, err)
				e := ended(id)
				require.Equal(t, []any{"SUCCEEDED", float64(records), true}, []any{e["status"], e["rows"], e["complete"]})

				link, _ := e["downloadURL"].(string)
				_, path, _ := strings.Cut(link, "/exports/") // the server listens elsewhere by now
				resp, err := http.Get(s.url + "/exports/" + path)
				require.NoError(t, err)
				text, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				require.Equal(t, http.StatusOK, resp.StatusCode)
				rows, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
				require.NoError(t, err)
				seen := map[string]bool{}
				for _, row := range rows[1:] {
					seen[row[0]] = true
				}
				require.Len(t, rows[1:], records)
				require.Len(t, seen, records)
			}

			// Each export was finished once, and every file is somebody's.
			count := func(query string) (n int) {
				_, err := store.Build(db).Add(query).One(t.Context(), db, &n)
				require.NoError(t, err)
				return n
			}
			require.Equal(t, exports, count(`SELECT COUNT(*) FROM audit_events WHERE action = 'EXPORT_FINISH'`))
			require.Equal(t, exports, count(`SELECT COUNT(*) FROM exports WHERE status = 'SUCCEEDED' AND blob_id IS NOT NULL`))
			require.Equal(t, exports*records, count(`SELECT COUNT(*) FROM export_rows`))
			files := 0
			require.NoError(t, filepath.WalkDir(filepath.Join(dir, "blobs"), func(_ string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() && !strings.HasPrefix(d.Name(), "fileblob") { // what is not whole has another name
					files++
				}
				return err
			}))
			require.LessOrEqual(t, files, exports+count(`SELECT COUNT(*) FROM blob_spares`), "no bytes that nobody knows of")
			t.Logf("one takes %s; %d of %d were interrupted", whole, interrupted, exports)
			require.NoError(t, s.end())
		})
	}
}
