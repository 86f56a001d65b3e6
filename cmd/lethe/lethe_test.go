package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/demo"
	"github.com/lethe-crm/lethe/internal/store/pgtest"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// place is where the commands of a test keep things.
type place struct {
	*testing.T
	flags []string
}

// each runs a test on both databases, neither of which has tables yet.
func each(t *testing.T, test func(p place)) {
	t.Helper()
	t.Parallel()
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32))), 0o600))
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(place{t, []string{"--data", filepath.Join(t.TempDir(), "data")}})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(place{t, []string{"--data", t.TempDir(), "--database", pgtest.URL(t), "--key-file", key}})
	})
}

// lethe runs a command.
func (p place) lethe(args ...string) (status int, out, err string) {
	p.Helper()
	return lethe(p.Context(), append(args, p.flags...)...)
}

func lethe(ctx context.Context, args ...string) (status int, out, err string) {
	var stdout, stderr bytes.Buffer
	status = run(ctx, args, strings.NewReader(""), &stdout, &stderr)
	return status, stdout.String(), stderr.String()
}

// does runs a command that must do what it is asked.
func (p place) does(args ...string) (out string) {
	p.Helper()
	status, out, err := p.lethe(args...)
	require.Equal(p, done, status, "%v: %s", args, err)
	return out
}

// fails runs a command that must not, and answers what it said.
func (p place) fails(args ...string) string {
	p.Helper()
	status, out, err := p.lethe(args...)
	require.Equal(p, failed, status, "%v: %s", args, err)
	require.Empty(p, out)
	return err
}

// talk collects what a running server says.
type talk struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *talk) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *talk) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var (
	listening = regexp.MustCompile(`listening on (http://127\.0\.0\.1:\d+)`)
	links     = regexp.MustCompile(`(\S+@\S+)(?:, once and within \S+)?\s+(http://\S+/signin\?token=\S+)`)
)

// serve runs a server until stop, which answers its exit status.
func (p place) serve(args ...string) (address string, said *talk, stop func() int) {
	p.Helper()
	ctx, cancel := context.WithCancel(p.Context())
	said = &talk{}
	ended, over := make(chan int, 1), make(chan struct{})
	go func() {
		defer close(over)
		ended <- run(ctx, append(append([]string{"serve", "--listen", "127.0.0.1:0"}, p.flags...), args...), strings.NewReader(""), io.Discard, said)
	}()
	stop = sync.OnceValue(func() int { cancel(); return <-ended })
	p.Cleanup(func() { stop() })
	require.Eventually(p, func() bool {
		select {
		case <-over:
			return true
		default:
		}
		match := listening.FindStringSubmatch(said.String())
		if match != nil {
			address = match[1]
		}
		return match != nil
	}, 30*time.Second, 5*time.Millisecond, "it does not start")
	require.NotEmpty(p, address, "it ended: %s", said)
	return address, said, stop
}

// linksIn are the sign-in links the server printed, by address.
func linksIn(said *talk) map[string]string {
	out := map[string]string{}
	for _, match := range links.FindAllStringSubmatch(said.String(), -1) {
		out[strings.TrimSuffix(match[1], ",")] = match[2]
	}
	return out
}

// ask sends a GraphQL query.
func ask(t *testing.T, client *http.Client, address, token, query string) (status int, body string) {
	t.Helper()
	document, err := json.Marshal(map[string]string{"query": query})
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/graphql", bytes.NewReader(document))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/graphql-response+json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := client.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(answer)
}

// signIn presses the button behind a link.
func signIn(t *testing.T, link string) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	at, err := url.Parse(link)
	require.NoError(t, err)
	client := &http.Client{Jar: jar}
	res, err := client.PostForm("http://"+at.Host+"/signin", url.Values{"token": {at.Query().Get("token")}})
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, "/graphiql/", res.Request.URL.Path)
	require.Equal(t, http.StatusOK, res.StatusCode)
	return client
}

func TestAFirstStartLetsTheAdminIn(t *testing.T) {
	each(t, func(p place) {
		address, said, stop := p.serve("--migrate")
		require.Contains(p, said.String(), "ready_after=")
		client := signIn(p.T, linksIn(said)["admin@localhost"])
		status, body := ask(p.T, client, address, "", `{ viewer { user { email } } customers(first: 1) { totalCount } }`)
		require.Equal(p, http.StatusOK, status, body)
		require.Contains(p, body, "admin@localhost")
		status, body = ask(p.T, http.DefaultClient, address, "", `{ __typename }`)
		require.Equal(p, http.StatusUnauthorized, status)
		require.Contains(p, body, "UNAUTHENTICATED")
		require.Equal(p, done, stop())

		_, said, _ = p.serve("--migrate")
		require.Empty(p, linksIn(said), "the second start makes nobody")
	})
}

func TestTheOperatorMakesUsersWithRolesAndTokens(t *testing.T) {
	each(t, func(p place) {
		address, _, _ := p.serve("--migrate")
		ada := []string{"--tenant", "default", "--user", "ada@acme.example"}
		require.Regexp(p, `^user_\w{26}\n$`, p.does("user", "create", "--tenant", "default", "--email", "ada@acme.example", "--name", "Ada", "--team", "Sales, North"))
		token := p.does(append([]string{"token", "create"}, ada...)...)
		require.Regexp(p, `^lethe_[\w-]{43}$`, token, "and nothing else")

		create := `mutation { createCustomer(input: {name: "X"}) { customer { team { name } } } }`
		_, body := ask(p.T, http.DefaultClient, address, token, create)
		require.Contains(p, body, "FORBIDDEN", "she has no role yet")
		require.Empty(p, p.does(append([]string{"role", "grant", "agent"}, ada...)...))
		require.Eventually(p, func() bool {
			_, body = ask(p.T, http.DefaultClient, address, token, create)
			return strings.Contains(body, `"Sales, North"`)
		}, 10*time.Second, 50*time.Millisecond, "a grant reaches the server: %s", &body)
		p.does(append([]string{"role", "revoke", "agent"}, ada...)...)
		require.Eventually(p, func() bool {
			_, body = ask(p.T, http.DefaultClient, address, token, create)
			return strings.Contains(body, "FORBIDDEN")
		}, 10*time.Second, 50*time.Millisecond)

		link := p.does(append([]string{"link", "create", "--url", address + "/"}, ada...)...)
		signIn(p.T, strings.TrimSpace(link))

		var made struct{ ID, Secret string }
		require.NoError(p, json.Unmarshal([]byte(p.does(append([]string{"token", "create", "--json", "--ttl", "1h"}, ada...)...)), &made))
		p.does("token", "revoke", "--tenant", "default", made.ID)
		status, _ := ask(p.T, http.DefaultClient, address, made.Secret, `{ __typename }`)
		require.Equal(p, http.StatusUnauthorized, status)

		p.does("user", "deactivate", "--tenant", "default", "--email", "ada@acme.example")
		status, _ = ask(p.T, http.DefaultClient, address, token, `{ __typename }`)
		require.Equal(p, http.StatusUnauthorized, status)
		require.Contains(p, p.fails(append([]string{"token", "create"}, ada...)...), "deactivated")
		p.does("user", "activate", "--tenant", "default", "--email", "ada@acme.example")
		p.does(append([]string{"token", "create"}, ada...)...)
	})
}

func TestWhatCannotBeDoneIsSaidAndEndsWithOne(t *testing.T) {
	each(t, func(p place) {
		_, _, _ = p.serve("--migrate")
		admin := []string{"--tenant", "default", "--user", "admin@localhost"}
		require.Contains(p, p.fails("user", "deactivate", "--tenant", "default", "--email", "admin@localhost"), "without an active user who can edit its policy")
		require.Contains(p, p.fails(append([]string{"role", "revoke", "admin"}, admin...)...), "without an active user who can edit its policy")
		require.Contains(p, p.fails(append([]string{"role", "grant", "emperor"}, admin...)...), `no role "emperor"`)
		require.Contains(p, p.fails("token", "create", "--tenant", "nowhere", "--user", "x@y.example"), `tenant "nowhere": not found`)
		require.Contains(p, p.fails("token", "create", "--tenant", "default", "--user", "x@y.example"), `user "x@y.example": not found`)
		require.Contains(p, p.fails(append([]string{"token", "create", "--ttl=-1s"}, admin...)...), "invalid")
		require.Contains(p, p.fails(append([]string{"link", "create", "--ttl", "1m"}, admin...)...), "invalid")
		require.Contains(p, p.fails("tenant", "create", "default"), "exists already")
		require.Regexp(p, `^tenant_\w{26}\n$`, p.does("tenant", "create", "other"))
	})
}

func TestWrongUseEndsWithTwo(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{},
		{"nonsense"},
		{"serve", "--nonsense"},
		{"serve", "--log-level", "loud"},
		{"token", "create", "--tenant", "default"},
		{"token", "create", "--tenant", "default", "--user", "x@y.example", "--ttl", "soon"},
		{"migrate"},
		{"migrate", "sideways"},
		{"sweep"},
		{"role", "grant", "--tenant", "default", "--user", "x@y.example"},
	} {
		status, out, err := lethe(t.Context(), args...)
		require.Equal(t, misuse, status, "%v", args)
		require.Empty(t, out)
		require.NotEmpty(t, err)
	}
	status, out, _ := lethe(t.Context(), "--help")
	require.Equal(t, done, status)
	require.Contains(t, out, "serve")
}

func TestFlagsComeFromTheEnvironmentToo(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("LETHE_DATA", dir)
	t.Setenv("LETHE_TENANT", "acme")
	t.Setenv("LETHE_KEY", base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("e"), 32)))
	status, _, err := lethe(t.Context(), "tenant", "create", "acme")
	require.Equal(t, done, status, err)
	require.NoFileExists(t, filepath.Join(dir, "lethe.key"), "the key was given")
	status, _, err = lethe(t.Context(), "user", "create", "--email", "a@acme.example")
	require.Equal(t, done, status, err)

	t.Setenv("LETHE_KEY", base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("x"), 32)))
	status, _, err = lethe(t.Context(), "user", "create", "--email", "b@acme.example")
	require.Equal(t, failed, status)
	require.Contains(t, err, "another key")
	t.Setenv("LETHE_KEY", "")
	status, _, err = lethe(t.Context(), "user", "create", "--email", "b@acme.example")
	require.Equal(t, failed, status)
	require.Contains(t, err, "its file is gone")
	t.Setenv("LETHE_TTL", "soon")
	status, _, _ = lethe(t.Context(), "token", "create", "--user", "a@acme.example")
	require.Equal(t, misuse, status)
}

func TestAMistypedFolderDoesNotBecomeADatabase(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "typo")
	status, _, err := lethe(t.Context(), "token", "create", "--tenant", "default", "--user", "admin@localhost", "--data", dir)
	require.Equal(t, failed, status)
	require.Contains(t, err, "there is no database at")
	require.NoDirExists(t, dir)
}

func TestPostgreSQLIsMigratedWhenAsked(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))), 0o600))
	p := place{t, []string{"--database", pgtest.URL(t)}}
	require.Contains(t, p.fails("serve", "--listen", "127.0.0.1:0", "--key-file", key), "lethe migrate up")
	require.Contains(t, p.does("migrate", "status"), "pending")
	p.does("migrate", "up")
	require.NotContains(t, p.does("migrate", "status"), "pending")
	require.Contains(t, p.fails("serve", "--listen", "127.0.0.1:0"), "the key must be given")
	p.does("tenant", "create", "acme", "--key-file", key)
	p.does("migrate", "down")
	var all []struct{ Applied bool }
	require.NoError(t, json.Unmarshal([]byte(p.does("migrate", "status", "--json")), &all))
	require.False(t, all[len(all)-1].Applied)
	require.True(t, all[0].Applied)
}

func TestTheDemoIsLoadedOnceAndLetsEachOfItsUsersIn(t *testing.T) {
	each(t, func(p place) {
		count := `{ viewer { user { email } } customers(first: 1) { totalCount } }`
		address, said, stop := p.serve("--demo", "--migrate")
		var first string
		for _, u := range demo.Users() {
			client := signIn(p.T, linksIn(said)[u.Email()])
			status, body := ask(p.T, client, address, "", count)
			require.Equal(p, http.StatusOK, status)
			require.Contains(p, body, u.Email())
			if u.Name == "admin" {
				first = body
			}
		}
		require.NotContains(p, first, `"totalCount":0`)
		require.Equal(p, done, stop())

		p.does("user", "deactivate", "--tenant", "demo", "--email", "viewer@demo.example")
		address, said, _ = p.serve("--demo", "--migrate")
		_, body := ask(p.T, signIn(p.T, linksIn(said)["admin@demo.example"]), address, "", count)
		require.Equal(p, first, body, "the same records")
		require.NotContains(p, linksIn(said), "viewer@demo.example")
		require.Contains(p, said.String(), "is deactivated")
	})
}

func TestImportReportsAndSweepPurges(t *testing.T) {
	each(t, func(p place) {
		_, _, _ = p.serve("--migrate")
		path := filepath.Join(p.TempDir(), "customers.csv")
		require.NoError(p, os.WriteFile(path, []byte("name,email,Site\nAcme,info@acme.example,acme.example\n,,\n"), 0o600))
		imports := []string{"import", "--tenant", "default", "--user", "admin@localhost", "--as", "customers", "--map", "name=name", "--map", "email=email", "--map", "Site=domain", path}
		require.Contains(p, p.does(append(imports, "--dry-run")...), "nothing is kept")
		var report struct{ Read, Created, Duplicate int }
		require.NoError(p, json.Unmarshal([]byte(p.does(append(imports, "--json")...)), &report))
		require.Equal(p, 1, report.Created)
		require.Contains(p, p.does(imports...), "1 duplicate")
		status, _, err := p.lethe("import", "--tenant", "default", "--user", "admin@localhost", "--as", "customers", path)
		require.Equal(p, done, status, err)
		require.Contains(p, err, "columns that fill nothing: Site\n")
		status, _, err = p.lethe("import", "--tenant", "default", "--user", "admin@localhost", "--as", "dreams", path)
		require.Equal(p, misuse, status, err)
		p.fails("import", "--tenant", "default", "--user", "admin@localhost", "--as", "customers", path+"x")

		require.Equal(p, "0 run, 0 expired, 0 taken up, 0 woken, 0 by rules, 0 purged, 0 exports begun, 0 ended, bytes of 0 removed, 0 told, 0 forgotten\n", p.does("sweep", "--once"))
		require.JSONEq(p, `{"ran":0,"expired":0,"jobs":0,"purged":0,"ruled":0,"woken":0,"exports":0,"ended":0,"bytes":0,"told":0,"old":0}`, p.does("sweep", "--once", "--json"))

		marked := slices.Concat(imports, []string{"--mark-deleted", "Site=acme.example"})
		require.Contains(p, p.does(marked...), "1 duplicate, 0 in the bin, 1 failed; 1 deleted, 0 not deleted")
		require.Contains(p, p.does(marked...), "1 failed, 1 unchanged")
	})
}

func TestSchemaAndVersionNeedNoDatabase(t *testing.T) {
	t.Parallel()
	status, schema, _ := lethe(t.Context(), "schema")
	require.Equal(t, done, status)
	require.Contains(t, schema, "type Query")
	path := filepath.Join(t.TempDir(), "schema.graphql")
	status, out, _ := lethe(t.Context(), "schema", "-o", path)
	require.Equal(t, done, status)
	require.Empty(t, out)
	written, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, schema, string(written))

	status, out, _ = lethe(t.Context(), "version", "--json")
	require.Equal(t, done, status)
	var b build
	require.NoError(t, json.Unmarshal([]byte(out), &b))
	require.NotEmpty(t, b.Version)
	status, out, _ = lethe(t.Context(), "version")
	require.Equal(t, done, status)
	require.Contains(t, out, "lethe "+b.Version)
}

func TestAnAddressInUseIsSaidBeforeAnythingIsMade(t *testing.T) {
	each(t, func(p place) {
		address, _, stop := p.serve("--migrate")
		said := p.fails("serve", "--migrate", "--listen", strings.TrimPrefix(address, "http://"), "--demo")
		require.Contains(p, said, "in use")
		require.Equal(p, done, stop())
		require.Contains(p, p.fails("token", "create", "--tenant", "demo", "--user", "admin@demo.example"), fmt.Sprintf("tenant %q", "demo"))
	})
}
