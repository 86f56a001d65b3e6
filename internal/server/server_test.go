package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/server"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// whoami answers who acts, in place of GraphQL.
func whoami(w http.ResponseWriter, r *http.Request) {
	a := actor.From(r.Context())
	if a == nil {
		_, _ = io.WriteString(w, "nobody "+server.RequestID(r.Context()))
		return
	}
	_, _ = fmt.Fprint(w, a.Kind, " ", a.User, " ", a.TenantName, " ", a.RequestID)
}

// world is a server with one user.
type world struct {
	*testing.T
	identity *identity.Service
	server   *server.Server
	http     *httptest.Server
	tenant   gid.ID
	user     gid.ID
	log      *buffer
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func each(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := &world{T: t, log: &buffer{}}
		log := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		keys, err := audit.NewKeys(bytes.Repeat([]byte("k"), audit.KeySize))
		require.NoError(t, err)
		w.identity = identity.New(db, audit.New(keys), log)
		w.tenant, err = w.identity.CreateTenant(t.Context(), "acme")
		require.NoError(t, err)
		w.user, err = w.identity.CreateUser(t.Context(), w.tenant, "u@acme.example", "U", nil)
		require.NoError(t, err)
		w.server = server.New(server.Config{GraphQL: http.HandlerFunc(whoami), Identity: w.identity, DB: db, Log: log})
		w.http = httptest.NewServer(w.server)
		t.Cleanup(w.http.Close)
		test(w)
	})
}

// do sends a request and returns the answer with its body read.
func do(t *testing.T, client *http.Client, method, target string, form url.Values, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	res, err := client.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(body)
}

// browser keeps cookies and follows no redirect.
func browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (w *world) ask(c *http.Client, header ...string) string {
	w.Helper()
	_, body := do(w.T, c, http.MethodPost, w.http.URL+"/graphql", nil, header...)
	return body
}

func (w *world) token() string {
	w.Helper()
	c, err := w.identity.CreateToken(w.Context(), w.tenant, w.user, time.Hour)
	require.NoError(w, err)
	return c.Secret
}

func (w *world) link() string {
	w.Helper()
	c, err := w.identity.CreateLink(w.Context(), w.tenant, w.user, time.Hour)
	require.NoError(w, err)
	return c.Secret
}

func (w *world) signIn(c *http.Client) {
	w.Helper()
	res, _ := do(w.T, c, http.MethodPost, w.http.URL+"/signin", url.Values{"token": {w.link()}})
	require.Equal(w, http.StatusSeeOther, res.StatusCode)
}

func TestABearerTokenSaysWhoActs(t *testing.T) {
	each(t, func(w *world) {
		require.Equal(w, "TOKEN "+w.user.String()+" acme r-1", w.ask(browser(), "Authorization", "Bearer "+w.token(), "X-Request-ID", "r-1"))
		require.Equal(w, "TOKEN "+w.user.String()+" acme r-1", w.ask(browser(), "Authorization", "bearer  "+w.token()+" ", "X-Request-ID", "r-1"))
	})
}

func TestWithoutACredentialNobodyActs(t *testing.T) {
	each(t, func(w *world) {
		require.Equal(w, "nobody r-1", w.ask(browser(), "X-Request-ID", "r-1"))
		require.Equal(w, "nobody r-1", w.ask(browser(), "X-Request-ID", "r-1", "Cookie", "lethe_session=lethesession_wrong"))
	})
}

func TestABadBearerTokenDoesNotFallBackToTheCookie(t *testing.T) {
	each(t, func(w *world) {
		c := browser()
		w.signIn(c)
		require.Contains(w, w.ask(c), w.user.String())
		for _, header := range []string{"Bearer lethe_wrong", "Bearer", "Bearer ", "bearer x y"} {
			require.Contains(w, w.ask(c, "Authorization", header), "nobody", header)
		}
		good := "Bearer " + w.token()
		require.Contains(w, w.ask(c, "Authorization", good, "Authorization", good), "nobody", "two tokens")
		require.Contains(w, w.ask(c, "Authorization", "Basic cHJveHk6c2VjcmV0"), w.user.String(), "a proxy's password")
	})
}

func TestALinkShowsAButtonAndTheButtonSignsIn(t *testing.T) {
	each(t, func(w *world) {
		secret, c := w.link(), browser()
		for range 3 { // previews in mail and chat
			res, page := do(w.T, browser(), http.MethodGet, w.http.URL+"/signin?token="+secret, nil)
			require.Equal(w, http.StatusOK, res.StatusCode)
			require.Contains(w, page, `name="token" value="`+secret+`"`)
			require.Empty(w, res.Cookies())
		}
		res, _ := do(w.T, c, http.MethodPost, w.http.URL+"/signin", url.Values{"token": {secret}})
		require.Equal(w, http.StatusSeeOther, res.StatusCode)
		require.Equal(w, "/graphiql/", res.Header.Get("Location"))
		cookie := res.Cookies()[0]
		require.Equal(w, "lethe_session", cookie.Name)
		require.True(w, cookie.HttpOnly)
		require.False(w, cookie.Secure, "this was not TLS")
		require.Equal(w, http.SameSiteLaxMode, cookie.SameSite)
		require.Equal(w, 30*24*60*60, cookie.MaxAge)
		require.Contains(w, w.ask(c), "USER "+w.user.String())

		res, page := do(w.T, browser(), http.MethodPost, w.http.URL+"/signin", url.Values{"token": {secret}})
		require.Equal(w, http.StatusUnauthorized, res.StatusCode)
		require.Contains(w, page, "has been used")
		require.Empty(w, res.Cookies())
		require.NotContains(w, w.log.String(), secret)
	})
}

func TestCookiesAreForTLSWhereThereIsTLS(t *testing.T) {
	each(t, func(w *world) {
		res, _ := do(w.T, browser(), http.MethodPost, w.http.URL+"/signin", url.Values{"token": {w.link()}}, "X-Forwarded-Proto", "https")
		require.True(w, res.Cookies()[0].Secure)
		w.server.PublicURL = "https://crm.example"
		res, _ = do(w.T, browser(), http.MethodPost, w.http.URL+"/signin", url.Values{"token": {w.link()}})
		require.True(w, res.Cookies()[0].Secure)
	})
}

func TestSigningOutEndsTheSession(t *testing.T) {
	each(t, func(w *world) {
		c := browser()
		w.signIn(c)
		at, err := url.Parse(w.http.URL)
		require.NoError(w, err)
		old := c.Jar.Cookies(at)[0].String()
		res, _ := do(w.T, c, http.MethodPost, w.http.URL+"/signout", url.Values{})
		require.Equal(w, http.StatusSeeOther, res.StatusCode)
		require.Empty(w, c.Jar.Cookies(at))
		require.Contains(w, w.ask(browser(), "Cookie", old), "nobody")
		res, _ = do(w.T, c, http.MethodPost, w.http.URL+"/signout", url.Values{})
		require.Equal(w, http.StatusSeeOther, res.StatusCode, "again")
	})
}

func TestSigningOutDoesNotRevokeAToken(t *testing.T) {
	each(t, func(w *world) {
		header := []string{"Authorization", "Bearer " + w.token()}
		do(w.T, browser(), http.MethodPost, w.http.URL+"/signout", url.Values{}, header...)
		require.Contains(w, w.ask(browser(), header...), w.user.String())
	})
}

func TestAFormElsewhereSignsNobodyInOrOut(t *testing.T) {
	each(t, func(w *world) {
		secret, c := w.link(), browser()
		for _, header := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}} {
			res, _ := do(w.T, c, http.MethodPost, w.http.URL+"/signin", url.Values{"token": {secret}}, header...)
			require.Equal(w, http.StatusForbidden, res.StatusCode)
		}
		res, _ := do(w.T, c, http.MethodPost, w.http.URL+"/signin", url.Values{"token": {secret}}, "Origin", w.http.URL)
		require.Equal(w, http.StatusSeeOther, res.StatusCode, "the link is not burnt")
		res, _ = do(w.T, c, http.MethodPost, w.http.URL+"/signout", url.Values{}, "Sec-Fetch-Site", "cross-site")
		require.Equal(w, http.StatusForbidden, res.StatusCode)
		require.Contains(w, w.ask(c), w.user.String())
	})
}

func TestADeactivatedUserIsOutAtTheNextRequest(t *testing.T) {
	each(t, func(w *world) {
		c, header := browser(), []string{"Authorization", "Bearer " + w.token()}
		w.signIn(c)
		require.NoError(w, w.identity.DeactivateUser(w.Context(), w.tenant, w.user))
		require.Contains(w, w.ask(c), "nobody")
		require.Contains(w, w.ask(browser(), header...), "nobody")
	})
}

// stub is an identity and a database that do as they are told.
type stub struct {
	server.Identity
	err error
}

func (s stub) Authenticate(context.Context, string) (*actor.Actor, error) { return nil, s.err }
func (s stub) RedeemLink(context.Context, string, string) (identity.Credential, error) {
	return identity.Credential{}, s.err
}
func (s stub) Ping(context.Context) error  { return nil }
func (s stub) Ready(context.Context) error { return s.err }

func serve(graphql http.HandlerFunc, err error, log io.Writer) *server.Server {
	return server.New(server.Config{
		GraphQL: graphql, Identity: stub{err: err}, DB: stub{err: err},
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
}

func get(s http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestRequestsAreNamed(t *testing.T) {
	t.Parallel()
	s := serve(whoami, nil, io.Discard)
	for _, good := range []string{"r-1", "0190b5e2-7c1d-7f00-8000-000000000000", "Root=1-67891233-abcdef012345678912345678", strings.Repeat("x", 128)} {
		require.Equal(t, good, get(s, http.MethodPost, "/graphql", "X-Request-ID", good).Header().Get("X-Request-ID"))
	}
	for _, bad := range []string{"", "a b", "a\"b", "<script>", "заявка", strings.Repeat("x", 129)} {
		res := get(s, http.MethodPost, "/graphql", "X-Request-ID", bad)
		id := res.Header().Get("X-Request-ID")
		require.Regexp(t, `^[A-Z0-9]{26}$`, id)
		require.Equal(t, "nobody "+id, res.Body.String())
	}
}

func TestTheServerOutlivesAPanic(t *testing.T) {
	t.Parallel()
	var log buffer
	s := serve(func(http.ResponseWriter, *http.Request) { panic("the sky") }, nil, &log)
	res := get(s, http.MethodPost, "/graphql", "X-Request-ID", "r-1")
	require.Equal(t, http.StatusInternalServerError, res.Code)
	require.JSONEq(t, `{"errors":[{"message":"Something went wrong on our side.","extensions":{"code":"INTERNAL","requestID":"r-1"}}]}`, res.Body.String())
	require.Contains(t, log.String(), "the sky")
	require.Contains(t, log.String(), "server_test.go", "the stack")
}

func TestADatabaseThatDoesNotAnswerIsNotTheCallersFault(t *testing.T) {
	t.Parallel()
	var log buffer
	s := serve(whoami, errors.New("secret reason"), &log)
	for method, path := range map[string]string{http.MethodPost: "/graphql", http.MethodGet: "/readyz"} {
		res := get(s, method, path, "Authorization", "Bearer lethe_x")
		require.Equal(t, http.StatusServiceUnavailable, res.Code)
		require.NotContains(t, res.Body.String(), "secret reason")
	}
	require.Equal(t, http.StatusServiceUnavailable, get(s, http.MethodPost, "/signin").Code)
	require.Equal(t, http.StatusOK, get(s, http.MethodGet, "/healthz").Code)
	require.Contains(t, log.String(), "secret reason")
}

func TestReadyMeansMigrated(t *testing.T) {
	t.Parallel()
	require.Equal(t, http.StatusServiceUnavailable, get(serve(whoami, store.ErrPending, io.Discard), http.MethodGet, "/readyz").Code)
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := server.New(server.Config{GraphQL: http.HandlerFunc(whoami), Identity: stub{}, DB: db, Log: slog.New(slog.DiscardHandler)})
		require.Equal(t, http.StatusOK, get(s, http.MethodGet, "/readyz").Code)
	})
}

func TestAnswersCarryWhatKeepsBrowsersSafe(t *testing.T) {
	t.Parallel()
	s := serve(whoami, nil, io.Discard)
	for _, path := range []string{"/graphql", "/signin?token=x", "/healthz", "/graphiql/", "/nowhere"} {
		h := get(s, http.MethodGet, path).Header()
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), path)
		require.Equal(t, "DENY", h.Get("X-Frame-Options"), path)
		require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'", path)
		require.Contains(t, h.Get("Content-Security-Policy"), "frame-ancestors 'none'", path)
		require.Contains(t, []string{"no-referrer", "same-origin"}, h.Get("Referrer-Policy"), path)
	}
	require.Equal(t, "no-store", get(s, http.MethodGet, "/signin?token=x").Header().Get("Cache-Control"))
	require.Equal(t, "no-cache", get(s, http.MethodGet, "/graphiql/").Header().Get("Cache-Control"), "a handler knows better")
}

func TestThePolicyOfTheSignInPageAllowsItsStyle(t *testing.T) {
	t.Parallel()
	res := get(serve(whoami, nil, io.Discard), http.MethodGet, "/signin?token=x")
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(res.Body.String())
	require.NotNil(t, style)
	require.NotEmpty(t, style[1])
	sum := sha256.Sum256([]byte(style[1]))
	require.Contains(t, res.Header().Get("Content-Security-Policy"), "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
}

func TestTheSignInPageSpeaksTheReadersLanguage(t *testing.T) {
	t.Parallel()
	s := serve(whoami, nil, io.Discard)
	for accept, want := range map[string]string{"": "Sign in", "de": "Sign in", "ru-RU,ru;q=0.9,en;q=0.8": "Войти", "zh-CN": "登录", "zh;q=0.9,en;q=0.5": "登录", "nonsense;;": "Sign in"} {
		require.Contains(t, get(s, http.MethodGet, "/signin?token=x", "Accept-Language", accept).Body.String(), ">"+want+"</button>", accept)
	}
	require.NotContains(t, get(s, http.MethodGet, "/signin").Body.String(), "<button", "without a link there is nothing to press")
	require.NotContains(t, get(s, http.MethodGet, "/signin?token="+url.QueryEscape(`"><script>`)).Body.String(), "<script>")
}

func TestStreamingHandlersCanFlush(t *testing.T) {
	t.Parallel()
	s := serve(func(w http.ResponseWriter, _ *http.Request) {
		_, ok := w.(http.Flusher)
		_, _ = fmt.Fprint(w, ok, http.NewResponseController(w).Flush() == nil)
	}, nil, io.Discard)
	require.Equal(t, "true true", get(s, http.MethodPost, "/graphql").Body.String())
}

// run starts a server and returns its address, what ends it, and how it ended.
func run(t *testing.T, s *server.Server) (address string, stop context.CancelFunc, ended <-chan error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, listener) }()
	return "http://" + listener.Addr().String(), cancel, done
}

func TestStoppingLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	started, finish := make(chan struct{}), make(chan struct{})
	s := serve(func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-finish
		_, _ = fmt.Fprint(w, "finished ", r.Context().Err())
	}, nil, io.Discard)
	address, stop, ended := run(t, s)
	answers := make(chan string, 1)
	go func() {
		res, err := http.Post(address+"/graphql", "application/json", strings.NewReader("{}"))
		if err != nil {
			answers <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		answers <- string(body)
	}()
	<-started
	stop()
	require.Eventually(t, func() bool { return get(s, http.MethodGet, "/readyz").Code == http.StatusServiceUnavailable }, 10*time.Second, time.Millisecond)
	close(finish)
	require.Equal(t, "finished <nil>", <-answers)
	require.NoError(t, <-ended)
}

func TestStoppingCutsOffWhatDoesNotFinish(t *testing.T) {
	t.Parallel()
	started, cut := make(chan struct{}), make(chan struct{})
	s := serve(func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
		close(cut)
	}, nil, io.Discard)
	require.Less(t, s.SetGrace(50*time.Millisecond), 10*time.Second, "the promise")
	address, stop, ended := run(t, s)
	go func() {
		if res, err := http.Post(address+"/graphql", "application/json", strings.NewReader("{}")); err == nil {
			_ = res.Body.Close()
		}
	}()
	<-started
	stop()
	require.NoError(t, <-ended)
	<-cut
}
