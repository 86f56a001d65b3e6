package intake_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/intake"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/server"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

func TestMain(m *testing.M) {
	// Temporary files go where a test can see that none is left.
	folder, err := os.MkdirTemp("", "intake")
	if err != nil {
		panic(err)
	}
	if err := os.Setenv("TMPDIR", folder); err != nil {
		panic(err)
	}
	storetest.Main(m)
}

// maxImport is small, so that tests can be larger.
const maxImport = 1 << 20

// world is a server with a tenant in which everybody is in Sales.
type world struct {
	*testing.T

	db     *store.DB
	http   *httptest.Server
	tokens map[string]string
}

func each(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Parallel()
	for name, open := range map[string]func(testing.TB, ...store.Option) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newWorld(t, open(t)))
		})
	}
}

func newWorld(t *testing.T, db *store.DB) *world {
	t.Helper()
	w := &world{T: t, db: db, tokens: map[string]string{}}
	keys, err := audit.NewKeys(bytes.Repeat([]byte("k"), audit.KeySize))
	require.NoError(t, err)
	log, events := slog.New(slog.DiscardHandler), audit.New(keys)
	people := identity.New(db, events, log)
	tenant, err := people.CreateTenant(t.Context(), "acme")
	require.NoError(t, err)
	for _, role := range []string{"admin", "manager", "viewer"} {
		id, err := people.CreateUser(t.Context(), tenant, role+"@acme.example", role, []string{"Sales"})
		require.NoError(t, err)
		require.NoError(t, people.GrantRole(t.Context(), tenant, id, role))
		token, err := people.CreateToken(t.Context(), tenant, id, time.Hour)
		require.NoError(t, err)
		w.tokens[role] = token.Secret
	}
	control, err := access.New(identity.PolicySource{DB: db}, func(_ string, _ uint64, _ []casbin.Finding, err error) { require.NoError(t, err) })
	require.NoError(t, err)
	files := intake.NewHandler(intake.Config{
		DB: db, Control: control, Records: record.New(db, control, events, log), Audit: events, Log: log, Now: db.Now, MaxImport: maxImport, RequestID: server.RequestID,
		ActAs: func(ctx context.Context, tenant, user gid.ID) (*actor.Actor, error) {
			return people.ActAs(ctx, tenant, user, "")
		},
	})
	w.http = httptest.NewServer(server.New(server.Config{GraphQL: http.NotFoundHandler(), Import: files, Identity: people, DB: db, Log: log}))
	t.Cleanup(w.http.Close)
	return w
}

// part is a field of a form, or with a name of a file a file.
type part struct{ name, file, value string }

func (w *world) request(ctx context.Context, user string, parts ...part) *http.Request {
	w.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, p := range parts {
		create := func() (io.Writer, error) { return form.CreateFormField(p.name) }
		if p.file != "" {
			create = func() (io.Writer, error) { return form.CreateFormFile(p.name, p.file) }
		}
		to, err := create()
		require.NoError(w, err)
		_, err = io.WriteString(to, p.value)
		require.NoError(w, err)
	}
	require.NoError(w, form.Close())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.http.URL+"/import", &body)
	require.NoError(w, err)
	r.Header.Set("Content-Type", form.FormDataContentType())
	if user != "" {
		r.Header.Set("Authorization", "Bearer "+w.tokens[user])
	}
	return r
}

func (w *world) do(r *http.Request) *http.Response {
	w.Helper()
	answer, err := http.DefaultClient.Do(r)
	require.NoError(w, err)
	w.Cleanup(func() { answer.Body.Close() })
	return answer
}

// line is any line of an answer, or all of one that refuses.
type line struct {
	Processed, Created, Found, Failed, Deleted int
	Report                                     *struct {
		DryRun                                     bool
		Processed, Created, Found, Failed, Deleted int
		Failures                                   []struct {
			Row          int
			Code, Reason string
		}
		More      int
		Deletions []struct{ Status string }
	}
	Errors []struct {
		Message    string
		Extensions struct {
			Code      string
			Fields    []string
			RequestID string
		}
	}
}

func (w *world) lines(answer *http.Response) (out []line) {
	w.Helper()
	decoder := json.NewDecoder(answer.Body)
	for {
		var l line
		err := decoder.Decode(&l)
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(w, err)
		out = append(out, l)
	}
}

// count counts the rows of a table.
func (w *world) count(table string) (n int) {
	w.Helper()
	_, err := store.Build(w.db).Add("SELECT count(*) FROM "+table).One(w.Context(), w.db, &n)
	require.NoError(w, err)
	return n
}

func calls(n int) string {
	var b strings.Builder
	b.WriteString("When,Number,Id,Gone\n")
	for i := range n {
		fmt.Fprintf(&b, "2026-03-01 09:00,+74951234567,pbx-%d,%d\n", i, i%2)
	}
	return b.String()
}

var mapped = []part{{name: "as", value: "calls"}, {name: "map", value: "When=startedAt"}, {name: "map", value: "Number=fromNumber"}, {name: "map", value: "Id=externalID"}}

func TestAFileIsImportedAndItsProgressTold(t *testing.T) {
	each(t, func(w *world) {
		file := part{"file", "calls.csv", calls(1_200) + "never,,bad,1\n"}
		form := append([]part{file, {name: "markDeleted", value: "Gone=1"}, {name: "set", value: "direction=INBOUND"}, {name: "timezone", value: "Europe/Moscow"}}, mapped...)
		for _, dry := range []bool{true, false} {
			sent := form
			if dry {
				sent = append([]part{{name: "dryRun", value: "true"}}, form...)
			}
			answer := w.do(w.request(w.Context(), "manager", sent...))
			require.Equal(w, http.StatusOK, answer.StatusCode)
			require.Equal(w, "application/x-ndjson", answer.Header.Get("Content-Type"))
			lines := w.lines(answer)
			require.GreaterOrEqual(w, len(lines), 4, "one for each 500 rows, and the report")
			require.Equal(w, 500, lines[0].Created)
			last := lines[len(lines)-1].Report
			require.NotNil(w, last)
			require.Equal(w, []any{dry, 1_201, 1_200, 0, 1, 600}, []any{last.DryRun, last.Processed, last.Created, last.Found, last.Failed, last.Deleted})
			require.Len(w, last.Failures, 1)
			require.Equal(w, 1_202, last.Failures[0].Row)
			require.Equal(w, "BAD_USER_INPUT", last.Failures[0].Code)
			require.Contains(w, last.Failures[0].Reason, "startedAt")
			want := 1_200
			if dry {
				want = 0
			}
			require.Equal(w, want, w.count("calls"))
			require.Equal(w, want/2, w.count("calls WHERE state = 'DELETED'"))
		}
		lines := w.lines(w.do(w.request(w.Context(), "manager", form...)))
		last := lines[len(lines)-1].Report
		require.Equal(w, []int{0, 1_200, 1, 0}, []int{last.Created, last.Found, last.Failed, last.Deleted}, "again")
	})
}

func TestAReportNamesAThousandRowsThatFailed(t *testing.T) {
	each(t, func(w *world) {
		lines := w.lines(w.do(w.request(w.Context(), "manager", append([]part{{"file", "calls.csv", calls(1) + strings.Repeat("never,,,\n", 1_002)}}, mapped...)...)))
		require.Empty(w, lines[len(lines)-1].Errors)
		last := lines[len(lines)-1].Report
		require.Equal(w, []int{1_002, 1_000, 2}, []int{last.Failed, len(last.Failures), last.More})
	})
}

func TestWhatCannotBeImportedIsRefused(t *testing.T) {
	each(t, func(w *world) {
		file := part{"file", "calls.csv", calls(1)}
		as := part{name: "as", value: "calls"}
		for name, test := range map[string]struct {
			user   string
			parts  []part
			status int
			code   string
		}{
			"nobody":             {"", []part{as, file}, http.StatusUnauthorized, "UNAUTHENTICATED"},
			"not allowed":        {"viewer", append([]part{file}, mapped...), http.StatusForbidden, "FORBIDDEN"},
			"no file":            {"manager", mapped, http.StatusBadRequest, "BAD_USER_INPUT"},
			"no kind":            {"manager", []part{file}, http.StatusBadRequest, "BAD_USER_INPUT"},
			"another kind":       {"manager", []part{{name: "as", value: "attachments"}, file}, http.StatusBadRequest, "BAD_USER_INPUT"},
			"another field":      {"manager", []part{as, file, {name: "path", value: "/etc/passwd"}}, http.StatusBadRequest, "BAD_USER_INPUT"},
			"two files":          {"manager", []part{as, file, file}, http.StatusBadRequest, "BAD_USER_INPUT"},
			"twice":              {"manager", []part{as, as, file}, http.StatusBadRequest, "BAD_USER_INPUT"},
			"a column twice":     {"manager", append([]part{file, {name: "map", value: "When=toNumber"}}, mapped...), http.StatusBadRequest, "BAD_USER_INPUT"},
			"no pair":            {"manager", []part{as, file, {name: "set", value: "direction"}}, http.StatusBadRequest, "BAD_USER_INPUT"},
			"no such column":     {"manager", append([]part{file, {name: "map", value: "Never=toNumber"}}, mapped...), http.StatusBadRequest, "BAD_USER_INPUT"},
			"neither yes nor no": {"manager", append([]part{file, {name: "dryRun", value: "perhaps"}}, mapped...), http.StatusBadRequest, "BAD_USER_INPUT"},
			"an empty mark":      {"manager", append([]part{file, {name: "markDeleted", value: "Gone="}}, mapped...), http.StatusBadRequest, "BAD_USER_INPUT"},
			"another format":     {"manager", []part{as, {"file", "calls.pdf", "x"}}, http.StatusBadRequest, "BAD_USER_INPUT"},
			"no workbook":        {"manager", append([]part{{"file", "calls.xlsx", "x"}}, mapped...), http.StatusBadRequest, "BAD_USER_INPUT"},
			"an empty file":      {"manager", append([]part{{"file", "calls.csv", ""}}, mapped...), http.StatusBadRequest, "BAD_USER_INPUT"},
			"a large file":       {"manager", []part{as, {"file", "calls.csv", strings.Repeat("x", maxImport+1)}}, http.StatusRequestEntityTooLarge, "LIMIT"},
			"large fields":       {"manager", []part{{name: "as", value: strings.Repeat("x", 1<<17)}, file}, http.StatusRequestEntityTooLarge, "LIMIT"},
		} {
			answer := w.do(w.request(w.Context(), test.user, test.parts...))
			lines := w.lines(answer)
			require.Equal(w, test.status, answer.StatusCode, name)
			require.Len(w, lines, 1, name)
			require.Len(w, lines[0].Errors, 1, name)
			require.Equal(w, test.code, lines[0].Errors[0].Extensions.Code, name)
			require.NotEmpty(w, lines[0].Errors[0].Extensions.RequestID, name)
			require.NotContains(w, lines[0].Errors[0].Message, "lethe-import", name)
		}
		r := w.request(w.Context(), "manager", as, file)
		r.Header.Set("Content-Type", "application/json")
		require.Equal(w, http.StatusUnsupportedMediaType, w.do(r).StatusCode)
		r = w.request(w.Context(), "manager", as, file)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		require.Equal(w, http.StatusForbidden, w.do(r).StatusCode)
		require.Equal(w, 0, w.count("calls"))
	})
}

func TestAClientThatGoesAwayStopsTheImportAndTheNextOneFindsWhatStayed(t *testing.T) {
	each(t, func(w *world) {
		form := append([]part{{"file", "calls.csv", calls(20_000)}, {name: "markDeleted", value: "Gone=1"}}, mapped...)
		ctx, leave := context.WithCancel(w.Context())
		answer := w.do(w.request(ctx, "admin", form...))
		require.Equal(w, http.StatusOK, answer.StatusCode)
		leave()
		w.http.Close() // which waits for the answer to end
		stayed := w.count("calls")
		require.Positive(w, stayed)
		require.Less(w, stayed, 20_000)
		require.Zero(w, stayed%500, "batches are finished")
		require.Equal(w, 0, w.count("calls WHERE state = 'DELETED'"))

		left, err := filepath.Glob(filepath.Join(os.TempDir(), "lethe-import-*"))
		require.NoError(w, err)
		for _, path := range left { // of other tests, perhaps
			at, err := os.Stat(path)
			require.True(w, err != nil || at.Size() != int64(len(calls(20_000))), path)
		}
	})
}
