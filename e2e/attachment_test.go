package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
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

// TestKilledImportsAndPurgesLoseNoBytes kills imports of mail with attachments, and servers that purge them, at any moment.
// Afterwards every record is there once, or purged once, and the bytes that are there are those of attachments.
func TestKilledImportsAndPurgesLoseNoBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs processes, which the race detector does not see")
	}
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("LETHE_SEED"), 10, 64); err == nil {
		seed = s
	}
	rounds := min(kills(), 2)
	if os.Getenv("LETHE_KILLS") != "" {
		rounds = kills()
	}
	const mails = 1_200
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("LETHE_SEED=%d", seed)
			k := &killing{T: t, dir: t.TempDir(), random: rand.New(rand.NewPCG(seed, 2)), killed: map[string]int{}, whole: time.Second}
			url := database(t, k.dir)
			k.env = append(os.Environ(), "LETHE_DATABASE="+url, "LETHE_DATA="+k.dir, "LETHE_KEY="+key)
			s, err := start(k.env, k.dir)
			require.NoError(t, err)
			k.servers = []*server{s}
			defer func() { require.NoError(t, k.servers[0].end()) }()
			k.db, err = store.Open(t.Context(), url)
			require.NoError(t, err)
			defer k.db.Close()
			k.exec(`UPDATE tenants SET brake_records = NULL, brake_percent = NULL, brake_hour = NULL, brake_day = NULL, purge_day = NULL`)
			k.exec(`UPDATE approval_rules SET enabled = FALSE WHERE subject = 'PURGE'`)
			who := []string{"--tenant", "default", "--user", "admin@localhost"}
			k.does(append([]string{"role", "grant", "purger"}, who...)...)
			k.token = strings.TrimSpace(k.does(append([]string{"token", "create"}, who...)...))
			folder := filepath.Join(k.dir, "mails")
			require.NoError(t, os.Mkdir(folder, 0o700))
			for i := range mails {
				require.NoError(t, os.WriteFile(filepath.Join(folder, fmt.Sprintf("%d.eml", i)), []byte(mailWithFile(i)), 0o600))
			}
			importing := append(append([]string{"import", "--as", "messages"}, who...), folder)

			interrupted := 0
			for round := 0; round < rounds || interrupted < rounds && round < 4*rounds; round++ {
				began := time.Now()
				cmd := command(k.env, importing...)
				require.NoError(t, cmd.Start())
				timer := time.AfterFunc(time.Duration(k.random.Int64N(int64(k.whole))), func() { _ = cmd.Process.Kill() })
				if err := cmd.Wait(); err == nil {
					k.whole = max(time.Since(began), 100*time.Millisecond)
				} else {
					interrupted++
				}
				timer.Stop()
				k.does(importing...)
				k.bytesAre(mails)

				k.purgeAll(mails)
				k.bytesAre(0)
			}
			t.Logf("of %d rounds %d imports were interrupted, and %d purges", rounds, interrupted, k.killed["purgeRecords"])
		})
	}
}

func fileOf(i int) string { return strings.Repeat(fmt.Sprintf("file %d\n", i), 200) }

func mailWithFile(i int) string {
	return fmt.Sprintf("Message-ID: <m%d@x>\nFrom: a@example.com\nTo: b@example.com\nDate: Sun, 1 Mar 2026 09:00:00 +0000\nSubject: bulk %d\n"+
		"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nText\n--b\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n"+
		"Content-Disposition: attachment; filename=\"f%d.txt\"\n\n%s\n--b--\n", i, i, i, base64.StdEncoding.EncodeToString([]byte(fileOf(i))))
}

// purgeAll deletes all messages, and purges them while their server is killed.
func (k *killing) purgeAll(mails int) {
	k.Helper()
	for _, verb := range []string{"deleteRecords", "purgeRecords"} {
		answer, err := post(k.Context(), k.servers[0].url, k.token,
			fmt.Sprintf(`mutation { %s(input: {select: {messages: {subjectHasPrefix: "bulk "}}, expectedCount: %d}) { operation { id } } }`, verb, mails))
		require.NoError(k, err)
		var got struct {
			Data map[string]struct{ Operation struct{ ID string } }
		}
		require.NoError(k, json.Unmarshal(answer, &got))
		require.NotEmpty(k, got.Data, "%s", answer)
		op, err := gid.Parse(got.Data[verb].Operation.ID)
		require.NoError(k, err)
		if verb == "purgeRecords" && !k.endedWithin(op, time.Duration(k.random.Int64N(int64(time.Second)))) {
			require.NoError(k, k.servers[0].cmd.Process.Kill())
			require.Error(k, <-k.servers[0].done, "killed, not stopped")
			k.killed[verb]++
			k.servers[0], err = start(k.env, k.dir)
			require.NoError(k, err)
		}
		require.True(k, k.endedWithin(op, 3*time.Minute), "it does not come to an end")
		require.Equal(k, 2*mails, k.count(`SELECT changed FROM operations WHERE id = ? AND failed = 0`, op))
	}
}

// bytesAre checks, after a sweep of all that is spare, that so many messages each have their attachment with its bytes, and
// that there are no others.
func (k *killing) bytesAre(n int) {
	k.Helper()
	k.exec(`UPDATE blob_spares SET until = '2026-01-01 00:00:00+00:00'`)
	k.does("sweep", "--once")
	require.Zero(k, k.count(`SELECT COUNT(*) FROM blob_spares`))
	require.Equal(k, n, k.count(`SELECT COUNT(*) FROM messages`))
	require.Equal(k, n, k.count(`SELECT COUNT(DISTINCT message_id) FROM attachments WHERE sha256 IS NOT NULL`))
	require.Equal(k, n, k.count(`SELECT COUNT(*) FROM attachments`))
	k.does("check")
	want := map[string]bool{}
	for i := range n {
		sum := sha256.Sum256([]byte(fileOf(i)))
		want[hex.EncodeToString(sum[:])] = true
	}
	there := 0
	err := filepath.WalkDir(filepath.Join(k.dir, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		there++
		content, err := os.ReadFile(path)
		sum := sha256.Sum256(content)
		require.True(k, want[hex.EncodeToString(sum[:])], "%s", path)
		return err
	})
	if !os.IsNotExist(err) {
		require.NoError(k, err)
	}
	require.Equal(k, n, there)
}
