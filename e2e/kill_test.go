package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// kills is how often a server is killed; `make long` raises it.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("LETHE_KILLS")); err == nil {
		return n
	}
	return 3
}

func TestAKilledServerLeavesAllOrNothing(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("LETHE_SEED"), 10, 64); err == nil {
		seed = s
	}
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("LETHE_SEED=%d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			dir := t.TempDir()
			env := append(os.Environ(), "LETHE_DATABASE="+database(t, dir), "LETHE_DATA="+dir, "LETHE_KEY="+key)
			s, err := start(env, dir)
			require.NoError(t, err)
			out, err := command(env, "token", "create", "--tenant", "default", "--user", "admin@localhost").Output()
			require.NoError(t, err)
			token := strings.TrimSpace(string(out))

			ask := func(query string, into any) {
				t.Helper()
				answer, err := post(t.Context(), s.url, token, query)
				require.NoError(t, err)
				var got struct {
					Data   json.RawMessage
					Errors json.RawMessage
				}
				require.NoError(t, json.Unmarshal(answer, &got))
				require.Empty(t, got.Errors, "%s", answer)
				require.NoError(t, json.Unmarshal(got.Data, into))
			}
			var settings map[string]any // in a minute it deletes what a user may in a day
			ask(`mutation { updateSettings(input: {version: 1, brakeHour: null, brakeDay: null}) { settings { version } } }`, &settings)
			var created struct {
				CreateCustomer struct{ Customer struct{ ID string } }
			}
			ask(`mutation { createCustomer(input: {name: "Killed"}) { customer { id } } }`, &created)
			id := created.CreateCustomer.Customer.ID
			const messages, aDocument = 800, 20
			for range messages / aDocument {
				var b strings.Builder
				for i := range aDocument {
					fmt.Fprintf(&b, `m%d: createMessage(input: {subject: "s", body: "b", sentAt: "2026-01-01T00:00:00Z", customerID: %q}) { message { id } } `, i, id)
				}
				var ignored map[string]any
				ask("mutation {"+b.String()+"}", &ignored)
			}

			counts := func() (live, deleted, operations int) {
				var got struct {
					Live, Deleted struct{ TotalCount int }
					Operations    struct{ TotalCount int }
				}
				ask(`{ live: messages(first: 1) { totalCount } deleted: messages(first: 1, states: [DELETED]) { totalCount } operations(first: 1) { totalCount } }`, &got)
				return got.Live.TotalCount, got.Deleted.TotalCount, got.Operations.TotalCount
			}
			// How long one takes whole says when to kill the next ones.
			began := time.Now()
			for _, verb := range []string{"deleteRecords", "restoreRecords"} {
				var ignored map[string]any
				ask(fmt.Sprintf(`mutation { %s(input: {select: {ids: [%q]}}) { operation { id } } }`, verb, id), &ignored)
			}
			whole := time.Since(began) / 2
			interrupted, kept := 0, 0
			for range kills() {
				_, _, before := counts()
				verb := `deleteRecords`
				if _, deleted, _ := counts(); deleted > 0 {
					verb = `restoreRecords`
				}
				ctx, cancel := context.WithCancel(t.Context())
				answered := make(chan bool, 1)
				go func() {
					_, err := post(ctx, s.url, token, fmt.Sprintf(`mutation { %s(input: {select: {ids: [%q]}}) { operation { id } } }`, verb, id))
					answered <- err == nil
				}()
				time.Sleep(time.Duration(random.Int64N(int64(whole * 3 / 2))))
				require.NoError(t, s.cmd.Process.Kill())
				require.Error(t, <-s.done, "killed, not stopped")
				if !<-answered {
					interrupted++
				}
				cancel()
				s, err = start(env, dir)
				require.NoError(t, err)
				live, deleted, after := counts()
				require.True(t, live == messages && deleted == 0 || live == 0 && deleted == messages, "%d live, %d deleted", live, deleted)
				wasDelete := verb == "deleteRecords"
				happened := (deleted == messages) == wasDelete
				if happened {
					kept++
				}
				require.Equal(t, happened, after == before+1, "the operation is there exactly if its changes are")
			}
			t.Logf("one takes %s; of %d killed %d were not answered, %d were done", whole, kills(), interrupted, kept)
			require.NoError(t, s.end())
		})
	}
}

func command(env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(binary, "lethe"), args...)
	cmd.Env = env
	return cmd
}
