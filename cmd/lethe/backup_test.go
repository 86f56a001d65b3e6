package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/record"
)

// upload sends a file of a record, and answers the attachment's id.
func upload(t *testing.T, address, token, owner, of, content string) string {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	require.NoError(t, form.WriteField(owner, of))
	file, err := form.CreateFormFile("file", "a.txt")
	require.NoError(t, err)
	_, err = io.WriteString(file, content)
	require.NoError(t, err)
	require.NoError(t, form.Close())
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/attachments", &body)
	require.NoError(t, err)
	r.Header.Set("Content-Type", form.FormDataContentType())
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, res.StatusCode, "%s", answer)
	var v struct{ Attachment struct{ ID string } }
	require.NoError(t, json.Unmarshal(answer, &v))
	return v.Attachment.ID
}

// findings runs check, and answers what it found, as "PROBLEM repaired".
func (p place) findings(want int, args ...string) []string {
	p.Helper()
	status, out, err := p.lethe(append([]string{"check", "--json"}, args...)...)
	require.Equal(p, want, status, "%s%s", out, err)
	var v record.Checked
	require.NoError(p, json.Unmarshal([]byte(out), &v))
	list := []string{}
	for _, f := range v.Findings {
		list = append(list, fmt.Sprint(f.Problem, " ", f.Repaired))
	}
	slices.Sort(list)
	return list
}

// files are those below a folder.
func files(t *testing.T, folder string) (out []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, path)
		}
		return err
	}))
	return out
}

// filled serves a database with two customers, each with a file, and answers how to go on.
func (p place) filled() (address, token string, customers []string, stop func() int) {
	p.Helper()
	address, _, stop = p.serve("--migrate")
	p.does("role", "grant", "--tenant", "default", "--user", "admin@localhost", "purger")
	token = strings.TrimSpace(p.does("token", "create", "--tenant", "default", "--user", "admin@localhost"))
	for range 2 {
		_, body := ask(p.T, http.DefaultClient, address, token, `mutation { createCustomer(input: {name: "Acme"}) { customer { id } } }`)
		var v struct {
			Data struct {
				CreateCustomer struct{ Customer struct{ ID string } }
			}
		}
		require.NoError(p, json.Unmarshal([]byte(body), &v))
		customers = append(customers, v.Data.CreateCustomer.Customer.ID)
		upload(p.T, address, token, "customerID", v.Data.CreateCustomer.Customer.ID, "bytes of "+v.Data.CreateCustomer.Customer.ID)
	}
	return address, token, customers, stop
}

func TestABackupIsServedAndWhatWasPurgedSinceIsPurgedAgain(t *testing.T) {
	t.Parallel()
	p := place{t, []string{"--data", filepath.Join(t.TempDir(), "data")}}
	address, token, customers, stop := p.filled()
	path := filepath.Join(t.TempDir(), "backup")
	require.Contains(t, p.does("backup", path), "2 files") // while the server runs
	require.Contains(t, p.fails("backup", path), "is there already")
	require.NoFileExists(t, filepath.Join(path, "lethe.key"))

	for _, verb := range []string{"delete", "purge"} {
		_, body := ask(t, http.DefaultClient, address, token, fmt.Sprintf(`mutation { %sRecords(input: {select: {ids: [%q]}}) { operation { changed } } }`, verb, customers[0]))
		require.Contains(t, body, `"changed":2`)
	}
	require.Zero(t, stop())
	require.Len(t, files(t, filepath.Join(p.flags[1], "blobs")), 1)
	require.Empty(t, p.findings(done))

	restored := place{t, []string{"--data", path, "--key-file", filepath.Join(p.flags[1], "lethe.key")}}
	require.Empty(t, restored.findings(done))
	newer := "--tombstones=sqlite:" + filepath.Join(p.flags[1], "lethe.db")
	require.Equal(t, []string{"PURGED_RECORD false", "PURGED_RECORD false"}, restored.findings(failed, newer))
	require.Equal(t, []string{"PURGED_RECORD true", "PURGED_RECORD true"}, restored.findings(done, newer, "--repair"))
	require.Empty(t, restored.findings(done, newer))
	require.Len(t, files(t, filepath.Join(path, "blobs")), 1)
	address, _, stop = restored.serve()
	_, body := ask(t, http.DefaultClient, address, token, `{ customers(first: 9) { nodes { id attachments(first: 9) { nodes { sha256 } } } } }`)
	require.Contains(t, body, customers[1])
	require.NotContains(t, body, customers[0])
	require.Zero(t, stop())
}

func TestCheckFindsBytesThatAreLostOrStray(t *testing.T) {
	each(t, func(p place) {
		_, _, _, stop := p.filled()
		require.Zero(p, stop())
		require.Empty(p, p.findings(done))
		kept := files(p.T, filepath.Join(p.flags[1], "blobs"))
		require.Len(p, kept, 2)
		require.NoError(p, os.Remove(kept[0]))
		require.NoError(p, os.WriteFile(kept[1], []byte("fewer"), 0o600))
		require.NoError(p, os.WriteFile(filepath.Join(filepath.Dir(kept[0]), "attachment_01m8gyszbfe01atjkz8e57zgg8"), []byte("stray"), 0o600))
		require.NoError(p, os.WriteFile(filepath.Join(filepath.Dir(kept[0]), "attachment_01m8gyszbfe01atjkz8e57zgg8.18.tmp"), []byte("torn"), 0o600))
		require.Equal(p, []string{"MISSING_BYTES false", "STRAY_BYTES false", "STRAY_BYTES false", "WRONG_SIZE false"}, p.findings(failed))
		require.Equal(p, []string{"MISSING_BYTES false", "STRAY_BYTES true", "STRAY_BYTES true", "WRONG_SIZE false"}, p.findings(failed, "--repair"))
		require.Equal(p, []string{"MISSING_BYTES false", "WRONG_SIZE false"}, p.findings(failed))
		require.Len(p, files(p.T, filepath.Join(p.flags[1], "blobs")), 1)
	})
}

func TestAPostgreSQLDatabaseIsBackedUpWithItsOwnTools(t *testing.T) {
	t.Parallel()
	status, _, err := lethe(t.Context(), "backup", "--database", "postgres://localhost/x", filepath.Join(t.TempDir(), "b"))
	require.Equal(t, misuse, status)
	require.Contains(t, err, "pg_dump")
}
