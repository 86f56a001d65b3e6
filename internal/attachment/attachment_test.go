package attachment_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/attachment"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/server"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
	"github.com/lethe-crm/lethe/internal/visible"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// maxUpload is small, so that tests can be larger.
const maxUpload = 1 << 20

// world is a server with two tenants: acme, where most users are in Sales, and
// other, where the stranger is an admin.
type world struct {
	*testing.T

	db      *store.DB
	people  *identity.Service
	records *record.Service
	control *access.Control
	bucket  *blob.Bucket
	http    *httptest.Server
	users   map[string]*actor.Actor
	tokens  map[string]string
	log     *logged
}

type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
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

// policy is the default one, with rules of the test.
type policy struct {
	identity.PolicySource

	mu   sync.Mutex
	more []casbin.Rule
}

func (p *policy) Load(ctx context.Context, tenant string) (uint64, []casbin.Rule, error) {
	v, rules, err := p.PolicySource.Load(ctx, tenant)
	p.mu.Lock()
	defer p.mu.Unlock()
	return v, append(rules, p.more...), err
}

func newWorld(t *testing.T, db *store.DB, more ...casbin.Rule) *world {
	t.Helper()
	w := &world{T: t, db: db, users: map[string]*actor.Actor{}, tokens: map[string]string{}, log: &logged{}}
	keys, err := audit.NewKeys(bytes.Repeat([]byte("k"), audit.KeySize))
	require.NoError(t, err)
	log, events := slog.New(slog.NewTextHandler(w.log, nil)), audit.New(keys)
	w.people = identity.New(db, events, log)
	for _, u := range []struct{ tenant, name, role, team string }{
		{"acme", "admin", "admin", "Sales"}, {"acme", "agent", "agent", "Sales"}, {"acme", "viewer", "viewer", "Sales"},
		{"acme", "agent2", "agent", "Support"}, {"acme", "purger", "purger", "Sales"}, {"acme", "nobody", "", "Sales"}, {"other", "stranger", "admin", "All"},
	} {
		tenant, err := w.people.TenantByName(t.Context(), u.tenant)
		if err != nil {
			tenant, err = w.people.CreateTenant(t.Context(), u.tenant)
			require.NoError(t, err)
		}
		id, err := w.people.CreateUser(t.Context(), tenant, u.name+"@acme.example", u.name, []string{u.team})
		require.NoError(t, err)
		if u.role != "" {
			require.NoError(t, w.people.GrantRole(t.Context(), tenant, id, u.role))
		}
		token, err := w.people.CreateToken(t.Context(), tenant, id, time.Hour)
		require.NoError(t, err)
		w.tokens[u.name] = token.Secret
		w.users[u.name], err = w.people.ActAs(t.Context(), tenant, id, "r-1")
		require.NoError(t, err)
	}
	for i := range more {
		more[i].V[1] = w.users["admin"].Tenant.String()
	}
	w.control, err = access.New(&policy{PolicySource: identity.PolicySource{DB: db}, more: more}, func(_ string, _ uint64, findings []casbin.Finding, err error) {
		require.NoError(t, err)
		for _, f := range findings {
			require.NotEqual(t, casbin.Error, f.Severity, f.Message)
		}
	})
	require.NoError(t, err)
	address, err := blob.Folder(filepath.Join(t.TempDir(), "blobs"))
	require.NoError(t, err)
	w.bucket, err = blob.Open(t.Context(), address)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.bucket.Close()) })
	w.records = record.New(db, w.control, events, log).WithBlobs(w.bucket)
	files := attachment.NewHandler(attachment.Config{Control: w.control, Records: w.records, Log: log, Now: db.Now, MaxUpload: maxUpload, RequestID: server.RequestID})
	w.http = httptest.NewServer(server.New(server.Config{GraphQL: http.NotFoundHandler(), Attachments: files, Identity: w.people, DB: db, Log: log}))
	t.Cleanup(w.http.Close)
	return w
}

func (w *world) as(user string) context.Context {
	ctx := actor.With(w.Context(), w.users[user])
	return visible.With(ctx, w.records.Rows(ctx))
}

func (w *world) create(as, typ string, values record.Values) gid.ID {
	w.Helper()
	r, err := w.records.Create(w.as(as), typ, values)
	require.NoError(w, err)
	return r.RecordID()
}

func (w *world) run(as string, verb lifecycle.Verb, ids ...gid.ID) {
	w.Helper()
	op, err := w.records.Run(w.as(as), record.Request{Verb: verb, Reason: "a reason", Select: record.Selection{IDs: ids}})
	require.NoError(w, err)
	require.Zero(w, op.Failed)
}

// part is a field of a form; with a file name it is a file.
type part struct{ name, file, kind, content string }

// answer is what the server answered.
type answer struct {
	*http.Response

	body string
}

func (a answer) code() string {
	var v struct {
		Errors []struct {
			Extensions struct {
				Code      string
				RequestID string
			}
		}
	}
	if json.Unmarshal([]byte(a.body), &v) != nil || len(v.Errors) == 0 {
		return ""
	}
	if v.Errors[0].Extensions.RequestID == "" {
		return v.Errors[0].Extensions.Code + " without the request's id"
	}
	return v.Errors[0].Extensions.Code
}

func (w *world) do(as, method, path string, body io.Reader, header ...string) answer {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, w.http.URL+path, body)
	require.NoError(w, err)
	if as != "" {
		r.Header.Set("Authorization", "Bearer "+w.tokens[as])
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	require.NoError(w, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(w, err)
	return answer{res, string(b)}
}

func form(parts ...part) (body *bytes.Buffer, kind string) {
	body = &bytes.Buffer{}
	m := multipart.NewWriter(body)
	for _, p := range parts {
		h := textproto.MIMEHeader{}
		disposition := fmt.Sprintf(`form-data; name=%q`, p.name)
		if p.file != "" {
			disposition += `; filename="` + p.file + `"`
		}
		h.Set("Content-Disposition", disposition)
		if p.kind != "" {
			h.Set("Content-Type", p.kind)
		}
		out, err := m.CreatePart(h)
		if err == nil {
			_, err = io.WriteString(out, p.content)
		}
		if err != nil {
			panic(err)
		}
	}
	if err := m.Close(); err != nil {
		panic(err)
	}
	return body, m.FormDataContentType()
}

func (w *world) upload(as string, parts ...part) answer {
	w.Helper()
	body, kind := form(parts...)
	return w.do(as, http.MethodPost, "/attachments", body, "Content-Type", kind)
}

// uploaded is upload without a refusal.
func (w *world) uploaded(as string, parts ...part) gid.ID {
	w.Helper()
	got := w.upload(as, parts...)
	require.Equal(w, http.StatusCreated, got.StatusCode, got.body)
	var v struct{ Attachment struct{ ID gid.ID } }
	require.NoError(w, json.Unmarshal([]byte(got.body), &v))
	return v.Attachment.ID
}

func (w *world) keys() []string {
	w.Helper()
	out := []string{}
	require.NoError(w, w.bucket.Keys(w.Context(), func(key string, _ int64) error { out = append(out, key); return nil }))
	return out
}

func (w *world) sweep() {
	w.Helper()
	_, err := w.bucket.Sweep(w.Context(), w.db)
	require.NoError(w, err)
}

func (w *world) count(query string, args ...any) (n int) {
	w.Helper()
	_, err := store.Build(w.db).Add(query, args...).One(w.Context(), w.db, &n)
	require.NoError(w, err)
	return n
}

func TestWhatIsUploadedIsDownloaded(t *testing.T) {
	each(t, func(w *world) {
		customer := w.create("agent", ent.TypeCustomer, record.Values{"name": "Acme"})
		content := strings.Repeat("0123456789", 50_000)
		sum := sha256.Sum256([]byte(content))
		for name, parts := range map[string][]part{
			"owner first": {{name: "customerID", content: customer.String()}, {name: "noteID"}, {name: "file", file: "договор № 1.pdf", kind: "application/pdf", content: content}},
			"file first":  {{name: "file", file: "договор № 1.pdf", kind: "application/pdf", content: content}, {name: "customerID", content: customer.String()}},
		} {
			got := w.upload("agent", parts...)
			require.Equal(w, http.StatusCreated, got.StatusCode, "%s: %s", name, got.body)
			var v struct{ Attachment map[string]any }
			require.NoError(w, json.Unmarshal([]byte(got.body), &v))
			path, _ := v.Attachment["downloadURL"].(string)
			require.Equal(w, path, got.Header.Get("Location"))
			id, _ := v.Attachment["id"].(string)
			require.Equal(w, map[string]any{
				"id": id, "filename": "договор № 1.pdf", "mediaType": "application/pdf", "size": 500_000.0, "sha256": hex.EncodeToString(sum[:]), "version": 1.0,
				"downloadURL": "/attachments/" + id,
			}, v.Attachment)

			whole := w.do("agent", http.MethodGet, path, nil)
			require.Equal(w, http.StatusOK, whole.StatusCode, whole.body)
			require.Equal(w, content, whole.body)
			for header, want := range map[string]string{
				"Content-Type": "application/pdf", "ETag": `"` + hex.EncodeToString(sum[:]) + `"`, "Cache-Control": "private, no-store",
				"X-Content-Type-Options": "nosniff", "Content-Length": "500000", "Accept-Ranges": "bytes",
				"Content-Disposition": `attachment; filename="_______ _ 1.pdf"; filename*=UTF-8''%D0%B4%D0%BE%D0%B3%D0%BE%D0%B2%D0%BE%D1%80%20%E2%84%96%201.pdf`,
			} {
				require.Equal(w, want, whole.Header.Get(header), header)
			}
			part := w.do("agent", http.MethodGet, path, nil, "Range", "bytes=499995-")
			require.Equal(w, http.StatusPartialContent, part.StatusCode)
			require.Equal(w, "56789", part.body)
			require.Equal(w, http.StatusNotModified, w.do("agent", http.MethodGet, path, nil, "If-None-Match", whole.Header.Get("ETag")).StatusCode)
			require.Equal(w, http.StatusRequestedRangeNotSatisfiable, w.do("agent", http.MethodGet, path, nil, "Range", "bytes=500000-").StatusCode)
			head := w.do("agent", http.MethodHead, path, nil)
			require.Equal(w, "500000", head.Header.Get("Content-Length"))
		}
		require.Len(w, w.keys(), 2)
		require.Zero(w, w.count(`SELECT COUNT(*) FROM blob_spares`))
		require.Equal(w, 2, w.count(`SELECT COUNT(*) FROM audit_events WHERE action = 'CREATE' AND record_type = 'Attachment'`))
		require.Equal(w, 2, w.count(`SELECT COUNT(*) FROM attachments WHERE owner_id = ?`, w.users["agent"].User), "it is its owner's owner's")
	})
}

func TestAnUploadThatIsRefusedLeavesNothing(t *testing.T) {
	each(t, func(w *world) {
		customer := w.create("admin", ent.TypeCustomer, record.Values{"name": "Acme", "ownerID": w.users["agent"].User})
		hidden := w.create("admin", ent.TypeCustomer, record.Values{"name": "Hidden", "ownerID": w.users["agent2"].User, "teamID": w.users["agent2"].Teams[0]})
		binned := w.create("agent", ent.TypeCustomer, record.Values{"name": "Binned"})
		w.run("agent", lifecycle.Delete, binned)
		owner := part{name: "customerID", content: customer.String()}
		file := part{name: "file", file: "a.txt", content: "text"}
		large := part{name: "file", file: "large.bin", content: strings.Repeat("x", maxUpload+1)}
		for name, test := range map[string]struct {
			as     string
			parts  []part
			status int
			code   string
			fields string
		}{
			"nobody":                 {"", []part{owner, file}, 401, "UNAUTHENTICATED", ""},
			"may not create":         {"viewer", []part{owner, file}, 403, "FORBIDDEN", ""},
			"may not create here":    {"agent2", []part{owner, file}, 400, "BAD_USER_INPUT", "customerID"},
			"no owner":               {"agent", []part{file}, 400, "BAD_USER_INPUT", "customerID"},
			"two owners":             {"agent", []part{owner, {name: "noteID", content: gid.New(gid.Note).String()}, file}, 400, "BAD_USER_INPUT", ""},
			"an owner twice":         {"agent", []part{owner, owner, file}, 400, "BAD_USER_INPUT", "customerID"},
			"no id":                  {"agent", []part{{name: "customerID", content: "x"}, file}, 400, "BAD_USER_INPUT", "customerID"},
			"an owner of no kind":    {"agent", []part{{name: "taskID", content: gid.New(gid.Task).String()}, file}, 400, "BAD_USER_INPUT", "taskID"},
			"an id of another kind":  {"agent", []part{{name: "noteID", content: customer.String()}, file}, 400, "BAD_USER_INPUT", "noteID"},
			"a hidden owner":         {"agent", []part{{name: "customerID", content: hidden.String()}, file}, 400, "BAD_USER_INPUT", "customerID"},
			"a missing owner":        {"agent", []part{{name: "customerID", content: gid.New(gid.Customer).String()}, file}, 400, "BAD_USER_INPUT", "customerID"},
			"a retired owner":        {"agent", []part{{name: "customerID", content: binned.String()}, file}, 409, "PARENT_RETIRED", "customerID"},
			"no file":                {"agent", []part{owner}, 400, "BAD_USER_INPUT", "file"},
			"a file without name":    {"agent", []part{owner, {name: "file", content: "text"}}, 400, "BAD_USER_INPUT", "file"},
			"two files":              {"agent", []part{owner, file, file}, 400, "BAD_USER_INPUT", "file"},
			"a claimed digest":       {"agent", []part{file, owner, {name: "sha256", content: strings.Repeat("0", 64)}}, 400, "BAD_USER_INPUT", "sha256"},
			"a long name":            {"agent", []part{owner, {name: "file", file: strings.Repeat("a", 501), content: "text"}}, 400, "BAD_USER_INPUT", "filename"},
			"a name that is no text": {"agent", []part{owner, {name: "file", file: "a\xff", content: "text"}}, 400, "BAD_USER_INPUT", "filename"},
			"a long media type":      {"agent", []part{owner, {name: "file", file: "a", kind: "text/" + strings.Repeat("a", 500), content: "text"}}, 400, "BAD_USER_INPUT", "mediaType"},
			"too large":              {"agent", []part{owner, large}, 413, "LIMIT", "file"},
			"much too large":         {"agent", []part{owner, {name: "file", file: "b", content: strings.Repeat("x", 2*maxUpload)}}, 413, "LIMIT", "file"},
		} {
			got := w.upload(test.as, test.parts...)
			require.Equal(w, test.status, got.StatusCode, "%s: %s", name, got.body)
			require.Equal(w, test.code, got.code(), "%s: %s", name, got.body)
			require.Contains(w, got.body, test.fields, name)
			require.NotContains(w, got.body, hidden.String(), name)
		}
		body, kind := form(owner, file)
		torn := bytes.NewReader(body.Bytes()[:body.Len()-20])
		require.Equal(w, "BAD_USER_INPUT", w.do("agent", http.MethodPost, "/attachments", torn, "Content-Type", kind).code())
		require.Equal(w, http.StatusUnsupportedMediaType, w.do("agent", http.MethodPost, "/attachments", strings.NewReader("{}"), "Content-Type", "application/json").StatusCode)
		foreign := w.do("agent", http.MethodPost, "/attachments", bytes.NewReader(body.Bytes()), "Content-Type", kind, "Sec-Fetch-Site", "cross-site")
		require.Equal(w, http.StatusForbidden, foreign.StatusCode)
		require.Equal(w, "FORBIDDEN", foreign.code())

		w.sweep()
		require.Empty(w, w.keys())
		require.Zero(w, w.count(`SELECT COUNT(*) FROM blob_spares`))
		require.Zero(w, w.count(`SELECT COUNT(*) FROM attachments`))
		require.Equal(w, 1, w.count(`SELECT COUNT(*) FROM audit_events WHERE action = 'CREATE' AND outcome = 'REFUSED' AND record_type = 'Attachment'`), "the viewer's")
		require.Equal(w, http.StatusCreated, w.upload("agent", owner, part{name: "file", file: "edge.bin", content: strings.Repeat("x", maxUpload)}).StatusCode, "as large as may be")
	})
}

func TestWhoMayNotReadAnAttachmentIsToldThatThereIsNone(t *testing.T) {
	each(t, func(w *world) {
		customer := w.create("agent", ent.TypeCustomer, record.Values{"name": "Acme"})
		id := w.uploaded("agent", part{name: "customerID", content: customer.String()}, part{name: "file", file: "a.txt", content: "text"})
		bare := w.create("agent", ent.TypeAttachment, record.Values{"customerID": customer, "filename": "no bytes"})
		get := func(as string, id any) (int, string) {
			got := w.do(as, http.MethodGet, fmt.Sprintf("/attachments/%s", id), nil, "X-Request-ID", "r-1")
			return got.StatusCode, got.body
		}
		_, missing := get("agent", gid.New(gid.Attachment))
		for _, as := range []string{"agent2", "nobody", "stranger"} {
			status, body := get(as, id)
			require.Equal(w, http.StatusNotFound, status, as)
			require.Equal(w, missing, body, as)
		}
		for _, other := range []any{customer, "x", "attachment_00000000000000000000000000"} {
			status, body := get("agent", other)
			require.Equal(w, http.StatusNotFound, status, other)
			require.Equal(w, missing, body, other)
		}
		require.Equal(w, "UNAUTHENTICATED", w.do("", http.MethodGet, "/attachments/"+id.String(), nil).code())
		require.Equal(w, http.StatusNotFound, w.do("agent", http.MethodGet, "/attachments/"+bare.String(), nil).StatusCode, "it has no bytes")

		// In any state that one may read it in.
		status, _ := get("viewer", id)
		require.Equal(w, http.StatusOK, status)
		w.run("agent", lifecycle.Delete, customer)
		for as, want := range map[string]int{"agent": 200, "viewer": 404, "admin": 200} {
			status, _ := get(as, id)
			require.Equal(w, want, status, as)
		}
		w.run("purger", lifecycle.Purge, customer)
		for as, want := range map[string]int{"purger": 410, "agent": 404} {
			status, _ := get(as, id)
			require.Equal(w, want, status, as)
		}
		require.Empty(w, w.keys())
	})
}

func TestAHiddenNameIsNotInTheHeaders(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB, ...store.Option) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t), casbin.Rule{Ptype: "p", V: [6]string{"role:viewer", "", "Attachment.filename", "read", "deny", "any"}})
			customer := w.create("agent", ent.TypeCustomer, record.Values{"name": "Acme"})
			secret := part{name: "file", file: "secret.html", kind: "text/html; charset=utf-8", content: "<script>alert(1)</script>"}
			id := w.uploaded("admin", part{name: "customerID", content: customer.String()}, secret)
			got := w.do("viewer", http.MethodGet, "/attachments/"+id.String(), nil)
			require.Equal(w, http.StatusOK, got.StatusCode, got.body)
			require.NotContains(w, fmt.Sprint(got.Header), "secret")
			require.Equal(w, `attachment; filename="`+id.String()+`"; filename*=UTF-8''`+id.String(), got.Header.Get("Content-Disposition"))
			require.Contains(w, got.Header.Get("Content-Security-Policy"), "sandbox")
			// An agent is a viewer as well.
			mine := w.upload("agent", part{name: "customerID", content: customer.String()}, secret)
			require.Equal(w, http.StatusCreated, mine.StatusCode, mine.body)
			require.Contains(w, mine.body, `"filename":null`)
		})
	}
}

func TestNothingRefersToBytesThatAreNotThere(t *testing.T) {
	each(t, func(w *world) {
		customer := w.create("agent", ent.TypeCustomer, record.Values{"name": "Acme"})
		file, err := w.records.Receive(w.as("agent"), strings.NewReader("text"))
		require.NoError(w, err)
		file.Values = record.Values{"customerID": customer, "filename": "a.txt"}
		require.Len(w, w.keys(), 1, "whoever is killed here leaves bytes")

		// It took so long that a sweep came in between.
		require.NoError(w, w.records.Forsake(w.as("agent"), file))
		w.sweep()
		_, _, err = w.records.Attach(w.as("agent"), []*record.File{file})
		refused, ok := err.(*record.Error) //nolint:errorlint // it is answered as it is
		require.True(w, ok, "%v", err)
		require.Equal(w, lifecycle.Limit, refused.Code)
		require.Zero(w, w.count(`SELECT COUNT(*) FROM attachments`))
		require.Empty(w, w.keys())
	})
}
