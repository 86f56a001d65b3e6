package server_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/graph"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/identity/oidc"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/server"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

// signers are made once: keys take long to find.
var signers = sync.OnceValue(func() (s struct {
	rsa, other, short *rsa.PrivateKey
	ec                *ecdsa.PrivateKey
},
) {
	var err [4]error
	s.rsa, err[0] = rsa.GenerateKey(rand.Reader, 2048)
	s.other, err[1] = rsa.GenerateKey(rand.Reader, 2048)
	s.short, err[3] = rsa.GenerateKey(rand.Reader, 1024)
	s.ec, err[2] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for _, e := range err {
		if e != nil {
			panic(e)
		}
	}
	return s
})

// issuer is an OpenID Connect provider, as far as keys go.
type issuer struct {
	*httptest.Server
	mu    sync.Mutex
	keys  []jose.JSONWebKey
	down  bool          // answers 503
	hang  chan struct{} // answers once it is closed
	name  string        // what it calls itself, if not by its URL
	large int           // bytes its keys are padded with
	moved bool          // redirects to its keys
	asked atomic.Int32  // for its keys
}

func newIssuer(t *testing.T, keys ...jose.JSONWebKey) *issuer {
	t.Helper()
	i := &issuer{keys: keys}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		name, _ := i.answers(w, r)
		if name == "" {
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": name, "jwks_uri": i.URL + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		i.mu.Lock()
		moved := i.moved
		i.mu.Unlock()
		if moved && r.URL.RawQuery == "" {
			http.Redirect(w, r, "/keys?there", http.StatusFound)
			return
		}
		name, keys := i.answers(w, r)
		if name == "" {
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys, "padding": strings.Repeat("x", i.large)})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) answers(w http.ResponseWriter, r *http.Request) (name string, keys []jose.JSONWebKey) {
	i.mu.Lock()
	down, hang, name, keys := i.down, i.hang, i.name, i.keys
	i.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}
	if down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return "", nil
	}
	if name == "" {
		name = i.URL
	}
	return name, keys
}

func (i *issuer) set(f func(*issuer)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f(i)
}

func public(id string, key crypto.Signer) jose.JSONWebKey {
	return jose.JSONWebKey{KeyID: id, Key: key.Public(), Use: "sig"}
}

type claims = map[string]any

// signed is a token; with an id of "" it names no key.
func signed(t *testing.T, algorithm jose.SignatureAlgorithm, id string, key any, c claims, header ...string) string {
	t.Helper()
	options := &jose.SignerOptions{}
	for i := 0; i < len(header); i += 2 {
		options.WithHeader(jose.HeaderKey(header[i]), header[i+1])
	}
	if id != "" {
		options.WithHeader("kid", id)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	require.NoError(t, err)
	token, err := jwt.Signed(signer).Claims(c).Serialize()
	require.NoError(t, err)
	return token
}

// signOn is a server that takes tokens of an issuer, with two tenants.
type signOn struct {
	*testing.T
	issuer   *issuer
	people   *identity.Service
	db       *store.DB
	http     *httptest.Server
	log      *buffer
	acme     gid.ID
	ann      gid.ID
	mu       sync.Mutex
	now      time.Time
	verifier *oidc.Verifier
}

func (s *signOn) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *signOn) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// eachSignOn runs a test on both databases. Configure changes what is trusted.
func eachSignOn(t *testing.T, configure func(i *oidc.Issuer), test func(s *signOn)) {
	t.Helper()
	t.Parallel()
	for name, open := range map[string]func(testing.TB, ...store.Option) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &signOn{T: t, log: &buffer{}, now: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)}
			s.db = open(t, store.WithClock(s.clock))
			s.issuer = newIssuer(t, public("r1", signers().rsa), public("e1", signers().ec))
			log := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			keys, err := audit.NewKeys(bytes.Repeat([]byte("k"), audit.KeySize))
			require.NoError(t, err)
			events := audit.New(keys)
			s.people = identity.New(s.db, events, log)
			control, err := access.New(identity.PolicySource{DB: s.db}, nil)
			require.NoError(t, err)
			api, err := graph.NewHandler(graph.Config{
				DB: s.db, Control: control, Records: record.New(s.db, control, events, log), People: s.people, Audit: events, Log: log, RequestID: server.RequestID,
			})
			require.NoError(t, err)
			s.acme = made(s.people.CreateTenant(t.Context(), "acme"))
			s.ann = made(s.people.CreateUser(t.Context(), s.acme, "Kim@acme.example", "Ann", []string{"Sales"}))
			require.NoError(t, s.people.GrantRole(t.Context(), s.acme, s.ann, "admin"))
			other := made(s.people.CreateTenant(t.Context(), "other"))
			made(s.people.CreateUser(t.Context(), other, "bob@other.example", "Bob", nil))

			i := oidc.Issuer{
				URL: s.issuer.URL, Audience: "lethe", Algorithms: []jose.SignatureAlgorithm{jose.RS256, jose.ES256}, TenantClaim: "org", UserClaim: "email",
			}
			configure(&i)
			// What one issuer may sign by is nothing another may.
			second := oidc.Issuer{URL: "https://second.example", Audience: "lethe", Algorithms: []jose.SignatureAlgorithm{jose.PS256}, Tenant: "acme", UserClaim: "email"}
			s.verifier = oidc.New([]oidc.Issuer{second, i}, oidc.Options{People: s.people, Now: s.clock, Log: log, Timeout: 3 * time.Second})
			s.http = httptest.NewServer(server.New(server.Config{GraphQL: api, Identity: s.people, Issued: s.verifier, DB: s.db, Log: log}))
			t.Cleanup(s.http.Close)
			test(s)
		})
	}
}

// requestID differs from answer to answer.
var requestID = regexp.MustCompile(`"requestID":"[^"]*"`)

func asGiven(*oidc.Issuer) {}

func made[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// claims are those of a good token, with changes: nil takes a claim away.
func (s *signOn) claims(changes ...any) claims {
	c := claims{
		"iss": s.issuer.URL, "sub": "0815", "aud": "lethe", "exp": s.clock().Add(time.Hour).Unix(), "iat": s.clock().Unix(),
		"org": "acme", "email": "kim@acme.example", "email_verified": true,
	}
	for i := 0; i < len(changes); i += 2 {
		name, _ := changes[i].(string)
		if c[name] = changes[i+1]; changes[i+1] == nil {
			delete(c, name)
		}
	}
	return c
}

func (s *signOn) good(changes ...any) string {
	s.Helper()
	return signed(s.T, jose.RS256, "r1", signers().rsa, s.claims(changes...))
}

// who asks the API who it takes the token's holder for.
func (s *signOn) who(header ...string) (email, code, raw string) {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), http.MethodPost, s.http.URL+"/graphql", strings.NewReader(`{"query": "{ viewer { tenant user { email } } }"}`))
	require.NoError(s, err)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	require.NoError(s, err)
	defer res.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(res.Body)
	require.NoError(s, err)
	var a struct {
		Data struct {
			Viewer struct {
				Tenant string
				User   struct{ Email string }
			}
		}
		Errors []struct{ Extensions struct{ Code string } }
	}
	require.NoError(s, json.Unmarshal(b.Bytes(), &a), b.String())
	if len(a.Errors) > 0 {
		code = a.Errors[0].Extensions.Code
	} else {
		require.Equal(s, "acme", a.Data.Viewer.Tenant)
	}
	return a.Data.Viewer.User.Email, code, requestID.ReplaceAllString(b.String(), "")
}

func (s *signOn) isIn(token, message string) {
	s.Helper()
	email, code, raw := s.who("Authorization", "Bearer "+token)
	require.Empty(s, code, "%s: %s\n%s", message, raw, s.log)
	require.Equal(s, "Kim@acme.example", email, message)
}

// isOut insists on the answer a bad token of Lethe's gets.
func (s *signOn) isOut(token, message string) {
	s.Helper()
	_, code, raw := s.who("Authorization", "Bearer "+token)
	require.Equal(s, "UNAUTHENTICATED", code, "%s: %s", message, raw)
	_, _, bad := s.who("Authorization", "Bearer lethe_nobody")
	require.Equal(s, bad, raw, message)
}

func TestAnIssuersTokenSignsItsUserIn(t *testing.T) {
	eachSignOn(t, asGiven, func(s *signOn) {
		for name, token := range map[string]string{
			"RS256":                     s.good(),
			"ES256":                     signed(s.T, jose.ES256, "e1", signers().ec, s.claims()),
			"without the id of its key": signed(s.T, jose.ES256, "", signers().ec, s.claims()),
			"an access token":           signed(s.T, jose.RS256, "r1", signers().rsa, s.claims(), "typ", "at+jwt"),
			"for several":               s.good("aud", []string{"other", "lethe"}),
			"a clock that is ahead":     s.good("iat", s.clock().Add(20*time.Second).Unix(), "nbf", s.clock().Add(20*time.Second).Unix()),
			"just expired":              s.good("exp", s.clock().Add(-20*time.Second).Unix()),
			"an address in capitals":    s.good("email", "KIM@ACME.EXAMPLE"),
			"of no known time":          s.good("iat", nil),
		} {
			s.isIn(token, name)
		}
		require.Equal(s, int32(1), s.issuer.asked.Load(), "the keys are kept")
	})
}

func TestATokenThatIsNotRightInEveryWayIsNobodys(t *testing.T) {
	eachSignOn(t, asGiven, func(s *signOn) {
		parts := strings.Split(s.good(), ".")
		encode := func(v any) string {
			return base64.RawURLEncoding.EncodeToString(made(json.Marshal(v)))
		}
		pem, err := x509.MarshalPKIXPublicKey(signers().rsa.Public())
		require.NoError(s, err)
		inactive := made(s.people.CreateUser(s.Context(), s.acme, "gone@acme.example", "Gone", nil))
		require.NoError(s, s.people.DeactivateUser(s.Context(), s.acme, inactive))
		for name, token := range map[string]string{
			"expired":                       s.good("exp", s.clock().Add(-time.Minute).Unix()),
			"never expiring":                s.good("exp", nil),
			"not yet valid":                 s.good("nbf", s.clock().Add(time.Minute).Unix()),
			"made in the future":            s.good("iat", s.clock().Add(time.Minute).Unix()),
			"of another issuer":             s.good("iss", "https://issuer.example"),
			"of an issuer spelled other":    s.good("iss", s.issuer.URL+"/"),
			"of no issuer":                  s.good("iss", nil),
			"for somebody else":             s.good("aud", "other"),
			"for others":                    s.good("aud", []string{"other", "lethe2"}),
			"for nobody":                    s.good("aud", nil),
			"not signed":                    encode(claims{"alg": "none"}) + "." + parts[1] + ".",
			"not signed, in capitals":       encode(claims{"alg": "NONE"}) + "." + parts[1] + ".",
			"signed by the public key":      signed(s.T, jose.HS256, "r1", pem, s.claims()),
			"signed in a way not allowed":   signed(s.T, jose.PS256, "r1", signers().rsa, s.claims()),
			"signed by somebody":            signed(s.T, jose.RS256, "r1", signers().other, s.claims()),
			"with a key of another kind":    signed(s.T, jose.RS256, "e1", signers().rsa, s.claims()),
			"with a key nobody knows":       signed(s.T, jose.RS256, "r2", signers().other, s.claims()),
			"with its own key":              signed(s.T, jose.RS256, "r1", signers().other, s.claims(), "jku", "https://issuer.example/keys"),
			"a logout token":                signed(s.T, jose.RS256, "r1", signers().rsa, s.claims(), "typ", "logout+jwt"),
			"a logout token of no type":     s.good("events", claims{"http://schemas.openid.net/event/backchannel-logout": claims{}}),
			"with another payload":          parts[0] + "." + encode(s.claims("email", "gone@acme.example")) + "." + parts[2],
			"with another header":           encode(claims{"alg": "ES256", "kid": "r1"}) + "." + parts[1] + "." + parts[2],
			"without a signature":           parts[0] + "." + parts[1] + ".",
			"of an unknown user":            s.good("email", "who@acme.example"),
			"of another tenant's user":      s.good("email", "bob@other.example"),
			"of a deactivated user":         s.good("email", "gone@acme.example"),
			"of no user":                    s.good("email", nil),
			"of many users":                 s.good("email", []string{"kim@acme.example"}),
			"of Lethe itself":               s.good("email", "user:system"),
			"of a user who looks alike":     s.good("email", "\u212Aim@acme.example"),
			"not verified":                  s.good("email_verified", false),
			"perhaps verified":              s.good("email_verified", nil),
			"verified, in words":            s.good("email_verified", "true"),
			"of an unknown tenant":          s.good("org", "nowhere"),
			"of no tenant":                  s.good("org", nil),
			"of a tenant that is a number":  s.good("org", 1),
			"of the user in another tenant": s.good("org", "other"),
			"huge":                          s.good("padding", strings.Repeat("x", 20<<10)),
			"dots":                          "..",
			"garbage":                       "lethe.is.garbage",
			"encrypted":                     "a.b.c.d.e",
			"JSON":                          `{"payload":"","protected":"","signature":"."}.`,
		} {
			s.isOut(token, name)
		}
		s.isIn(s.good(), "the one that is")
		require.Contains(s, s.log.String(), "it would never expire", "the log says why")
		for _, part := range []string{parts[1], "who@acme.example", "bob@other.example"} {
			require.NotContains(s, s.log.String(), part)
		}
	})
}

func TestOnlyABearerTokenIsTakenForAnIssuers(t *testing.T) {
	eachSignOn(t, asGiven, func(s *signOn) {
		for _, header := range [][]string{{"Cookie", "lethe_session=" + s.good()}, {"Authorization", "Basic " + s.good()}, {"Authorization", s.good()}} {
			_, code, raw := s.who(header...)
			require.Equal(s, "UNAUTHENTICATED", code, raw)
		}
		require.Zero(s, s.issuer.asked.Load())
		own, err := s.people.CreateToken(s.Context(), s.acme, s.ann, time.Hour)
		require.NoError(s, err)
		s.isIn(own.Secret, "Lethe's own tokens go on to hold")
	})
}

func TestAUserIsOutAtTheNextRequest(t *testing.T) {
	eachSignOn(t, asGiven, func(s *signOn) {
		second := made(s.people.CreateUser(s.Context(), s.acme, "second@acme.example", "S", nil))
		require.NoError(s, s.people.GrantRole(s.Context(), s.acme, second, "admin"))
		token := s.good()
		s.isIn(token, "he is active")
		require.NoError(s, s.people.DeactivateUser(s.Context(), s.acme, s.ann))
		s.isOut(token, "he is not")
		require.NoError(s, s.people.ActivateUser(s.Context(), s.acme, s.ann))
		s.isIn(token, "he is again: the token is not ours to revoke")
	})
}

func TestKeysAreChangedByTheIssuer(t *testing.T) {
	eachSignOn(t, asGiven, func(s *signOn) {
		next := func() string { return signed(s.T, jose.RS256, "r2", signers().other, s.claims()) }
		s.isIn(s.good(), "the first key")
		s.isOut(next(), "nobody knows the second")
		s.issuer.set(func(i *issuer) { i.keys = []jose.JSONWebKey{public("r2", signers().other)} })
		for range 20 {
			s.isOut(next(), "the issuer was asked just now")
		}
		require.Equal(s, int32(1), s.issuer.asked.Load(), "unknown keys do not make it be asked again and again")
		s.pass(10 * time.Second)
		s.isIn(next(), "it has changed its keys")
		require.Equal(s, int32(2), s.issuer.asked.Load())
		s.isOut(s.good(), "the first key is gone")

		s.issuer.set(func(i *issuer) { i.keys = []jose.JSONWebKey{public("r1", signers().rsa)} })
		s.pass(5*time.Minute - time.Second)
		s.isIn(next(), "it is believed to be there for five minutes")
		s.pass(time.Second)
		s.isOut(next(), "and then looked for")
	})
}

func TestAnIssuerThatIsDown(t *testing.T) {
	eachSignOn(t, asGiven, func(s *signOn) {
		s.issuer.set(func(i *issuer) { i.down = true })
		s.isOut(s.good(), "its keys were never seen")
		s.issuer.set(func(i *issuer) { i.down = false })
		s.isOut(s.good(), "it was asked just now")
		s.pass(10 * time.Second)
		s.isIn(s.good(), "it is there again")

		s.issuer.set(func(i *issuer) { i.down = true })
		for range 3 {
			s.pass(time.Hour)
			s.isIn(s.good(), "known keys go on to hold")
		}
		s.isOut(signed(s.T, jose.RS256, "r2", signers().other, s.claims()), "unknown keys do not become known")
		s.pass(21 * time.Hour)
		s.isOut(s.good(), "for a day")
	})
}

func TestAnIssuerThatHangs(t *testing.T) {
	eachSignOn(t, asGiven, func(s *signOn) {
		s.isIn(s.good(), "the first key")
		s.pass(time.Hour)
		release := make(chan struct{})
		s.issuer.set(func(i *issuer) { i.hang = release })
		defer close(release)
		var all sync.WaitGroup
		start := time.Now()
		for range 10 {
			all.Go(func() {
				_, code, _ := s.who("Authorization", "Bearer "+s.good())
				if code != "" {
					s.Error("known keys go on to hold", code)
				}
			})
			all.Go(func() {
				_, code, _ := s.who("Authorization", "Bearer "+signed(s.T, jose.RS256, "r2", signers().other, s.claims()))
				if code != "UNAUTHENTICATED" {
					s.Error("an unknown key is refused", code)
				}
			})
		}
		all.Wait()
		require.Less(s, time.Since(start), 10*time.Second, "nobody waits for long")
		s.pass(time.Minute)
		start = time.Now()
		s.isIn(s.good(), "who can do without does not wait again")
		require.Less(s, time.Since(start), 2500*time.Millisecond)
	})
}

func TestAnIssuersAnswerThatIsNotBelieved(t *testing.T) {
	for name, wrong := range map[string]func(i *issuer){
		"another's name": func(i *issuer) { i.name = "https://issuer.example" },
		"more than fits": func(i *issuer) { i.large = 1 << 20 },
		"too many keys": func(i *issuer) {
			for range 100 {
				i.keys = append(i.keys, public("r1", signers().rsa))
			}
		},
		"keys for encryption": func(i *issuer) { i.keys[0].Use = "enc" },
		"other algorithms":    func(i *issuer) { i.keys[0].Algorithm = "RS512" },
		"private keys": func(i *issuer) {
			i.keys = []jose.JSONWebKey{{KeyID: "r1", Key: signers().rsa}}
		},
		"keys that are too short": func(i *issuer) {
			i.keys = []jose.JSONWebKey{public("r1", signers().short)}
		},
		"its keys elsewhere": func(i *issuer) { i.moved = true },
		"a shared secret": func(i *issuer) {
			i.keys = []jose.JSONWebKey{{KeyID: "r1", Key: []byte("secret")}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachSignOn(t, asGiven, func(s *signOn) {
				s.issuer.set(wrong)
				s.isOut(s.good(), name)
				s.isOut(signed(s.T, jose.RS256, "r1", signers().short, s.claims()), name)
				require.NotZero(s, s.issuer.asked.Load()+int32(len(s.issuer.name)))
			})
		})
	}
}

func TestATokenWithoutAKeyIDNeedsAnIssuerWithOneKey(t *testing.T) {
	eachSignOn(t, asGiven, func(s *signOn) {
		nameless := func() string { return signed(s.T, jose.RS256, "", signers().rsa, s.claims()) }
		s.isIn(nameless(), "there is one for RS256")
		s.issuer.set(func(i *issuer) { i.keys = append(i.keys, public("r2", signers().other)) })
		s.pass(5 * time.Minute)
		s.isOut(nameless(), "there are two")
		s.isIn(s.good(), "it is named")
	})
}

func TestUsersAreNamedBySubject(t *testing.T) {
	bySubject := func(i *oidc.Issuer) { i.UserClaim, i.Tenant, i.TenantClaim = "sub", "acme", "" }
	eachSignOn(t, bySubject, func(s *signOn) {
		s.isOut(s.good(), "nobody has it")
		_, err := store.Build(s.db).Add("UPDATE users SET external_subject = ? WHERE id = ?", "0815", s.ann).Exec(s.Context(), s.db)
		require.NoError(s, err)
		s.isIn(s.good("email", nil, "email_verified", nil, "org", "other"), "the tenant is the issuer's")
		s.isOut(s.good("sub", "0816"), "another")
		s.isOut(s.good("sub", nil), "none")
		s.isOut(s.good("sub", ""), "empty")
	})
}

func TestWhatATokenDoesIsInTheLogAsDoneByToken(t *testing.T) {
	eachSignOn(t, asGiven, func(s *signOn) {
		a, err := s.verifier.Authenticate(s.Context(), s.good())
		require.NoError(s, err)
		again, err := s.verifier.Authenticate(s.Context(), s.good())
		require.NoError(s, err)
		require.Equal(s, a.Credential, again.Credential, "a token is the same each time")
		other, err := s.verifier.Authenticate(s.Context(), s.good("jti", "2"))
		require.NoError(s, err)
		require.NotEqual(s, a.Credential, other.Credential)
		require.Equal(s, gid.Token, a.Credential.Type())
		require.Equal(s, s.clock(), a.Credential.Time())
		require.Len(s, a.Teams, 1)

		r, err := http.NewRequestWithContext(s.Context(), http.MethodPost, s.http.URL+"/graphql", strings.NewReader(`{"query": "mutation { createTeam(name: \"North\") { team { id } } }"}`))
		require.NoError(s, err)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+s.good())
		res, err := http.DefaultClient.Do(r)
		require.NoError(s, err)
		require.NoError(s, res.Body.Close())
		var user, token gid.ID
		ok, err := store.Build(s.db).Add("SELECT actor_id, token_id FROM audit_events ORDER BY id DESC LIMIT 1").One(s.Context(), s.db, &user, &token)
		require.NoError(s, err)
		require.True(s, ok)
		require.Equal(s, s.ann, user)
		require.Equal(s, a.Credential, token)
	})
}
