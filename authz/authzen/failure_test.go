package authzen_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
	_ "github.com/lethe-crm/lethe/authz/authzen"
)

// permits permits everything.
type permits struct{}

func (permits) Decide(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	ds := make([]authz.Decision, len(reqs))
	for i := range ds {
		ds[i].Effect = authz.Permit
	}
	return ds, nil
}

// says answers everything with the same text.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, text)
	}
}

// yes permits everything, as one does that is asked for a single decision and for two.
var yes = says(`{"decision": true, "evaluations": [{"decision": true}, {"decision": true}]}`)

// hang waits for the client to go. The server only notices that once the body is read.
func hang(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// misbehaviours are decision points that must never let anything through.
func misbehaviours(t *testing.T) map[string]http.HandlerFunc {
	t.Helper()
	permitting := httptest.NewServer(yes)
	t.Cleanup(permitting.Close)
	with := func(kind string, status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{kind}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
	}
	permit := `{"decision": true, "evaluations": [{"decision": true}, {"decision": true}]}`
	return map[string]http.HandlerFunc{
		"500":                    with("application/json", http.StatusInternalServerError, permit),
		"401":                    with("application/json", http.StatusUnauthorized, permit),
		"201":                    with("application/json", http.StatusCreated, permit),
		"204":                    with("application/json", http.StatusNoContent, ""),
		"a page":                 with("text/html", http.StatusOK, "<html>Sign in</html>"),
		"a page called JSON":     with("application/json", http.StatusOK, "<html>Sign in</html>"),
		"JSON called a page":     with("text/html", http.StatusOK, permit),
		"JSON called nothing":    with("", http.StatusOK, permit),
		"nothing":                says(``),
		"an empty object":        says(`{}`),
		"null":                   says(`null`),
		"true":                   says(`true`),
		"a list":                 says(`[{"decision": true}, {"decision": true}]`),
		"true as text":           says(`{"decision": "true", "evaluations": [{"decision": "true"}, {"decision": "true"}]}`),
		"true as a number":       says(`{"decision": 1, "evaluations": [{"decision": 1}, {"decision": 1}]}`),
		"a null decision":        says(`{"decision": null, "evaluations": [{"decision": null}, {"decision": null}]}`),
		"another spelling":       says(`{"Decision": true, "Evaluations": [{"decision": true}, {"decision": true}]}`),
		"another spelling below": says(`{"DECISION": true, "evaluations": [{"Decision": true}, {"Decision": true}]}`),
		"null evaluations":       says(`{"decision": null, "evaluations": null}`),
		"too few answers":        says(`{"evaluations": [{"decision": true}]}`),
		"too many answers":       says(`{"evaluations": [{"decision": true}, {"decision": true}, {"decision": true}]}`),
		"null for one answer":    says(`{"evaluations": [{"decision": true}, null]}`),
		"one answer to all":      says(`{"evaluations": {"decision": true}}`),
		"no, then yes":           says(`{"decision": false, "decision": true, "evaluations": [{"decision": false, "decision": true}, {"decision": true}]}`),
		"something behind":       says(permit + `{}`),
		"half an answer":         says(permit[:len(permit)-1]),
		"a body that breaks off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, permit)
		},
		"a gigantic body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, permit) // cut off anywhere behind it, the body is a yes
			for pad := strings.Repeat(" ", 1<<20); ; {
				if _, err := io.WriteString(w, pad); err != nil {
					return
				}
			}
		},
		"a hang": func(_ http.ResponseWriter, r *http.Request) {
			hang(r)
		},
		"a hang in the body": func(w http.ResponseWriter, r *http.Request) {
			yes(w, r)
			_ = http.NewResponseController(w).Flush()
			hang(r)
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, permitting.URL+r.URL.Path, http.StatusTemporaryRedirect)
		},
		"a redirect that says yes": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Location", permitting.URL+r.URL.Path)
			w.WriteHeader(http.StatusFound)
			_, _ = io.WriteString(w, permit)
		},
		"a panic": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"no":      says(`{"decision": false, "evaluations": [{"decision": false}, {"decision": false}]}`),
	}
}

// TestNothingButAPlainYesPermits holds a chain with a misbehaving decision point to denials, whatever its role is.
func TestNothingButAPlainYesPermits(t *testing.T) {
	t.Parallel()
	r := authz.Request{Tenant: "t", Subject: authz.Entity{Type: "user", ID: "u"}, Action: "read", Resource: authz.Entity{Type: "Customer", ID: "c"}}
	batches := map[string][]authz.Request{"one": {r}, "two": {r, r}}
	own := map[string]authz.Factory{"permits": func(context.Context, string, json.RawMessage) (authz.Plugin, error) { return permits{}, nil }}
	chains := map[string]func(remote authz.Config) []authz.Config{
		"granting alone": func(remote authz.Config) []authz.Config {
			remote.Role = authz.Grant
			return []authz.Config{remote}
		},
		"granting beside who permits": func(remote authz.Config) []authz.Config {
			remote.Role = authz.Grant
			return []authz.Config{{Name: "all", Kind: "permits", Role: authz.Grant}, remote}
		},
		"vetoing who permits": func(remote authz.Config) []authz.Config {
			return []authz.Config{{Name: "all", Kind: "permits", Role: authz.Grant}, remote}
		},
	}
	decide := func(t *testing.T, url, timeout string, members func(authz.Config) []authz.Config, reqs []authz.Request) []authz.Decision {
		t.Helper()
		chain, err := authz.BuildChain(t.Context(), members(authz.Config{
			Name: "remote", Kind: "authzen", Timeout: timeout, Config: json.RawMessage(`{"url": "` + url + `"}`),
		}), own, nil)
		require.NoError(t, err)
		ds := chain.Decide(t.Context(), reqs)
		require.Len(t, ds, len(reqs))
		return ds
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := "http://" + listener.Addr().String()
	require.NoError(t, listener.Close())

	servers := map[string]string{"nobody there": closed}
	for name, handle := range misbehaviours(t) {
		server := httptest.NewServer(handle)
		t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
		servers[name] = server.URL
	}
	good := httptest.NewServer(yes)
	t.Cleanup(good.Close)
	for place, members := range chains {
		for size, reqs := range batches {
			for _, d := range decide(t, good.URL, "", members, reqs) {
				require.Equal(t, authz.Permit, d.Effect, "%s of %s: a yes counts, or the denials below mean nothing", size, place)
			}
			for name, url := range servers {
				t.Run(name+"/"+place+"/"+size, func(t *testing.T) {
					t.Parallel()
					timeout := "5s"
					if strings.HasPrefix(name, "a hang") {
						timeout = "100ms"
					}
					begin := time.Now()
					for _, d := range decide(t, url, timeout, members, reqs) {
						require.Equal(t, authz.Deny, d.Effect)
						require.NotEmpty(t, d.Reasons)
						switch {
						case strings.HasPrefix(name, "a hang"):
							require.Equal(t, authz.CodePluginTimeout, d.Reasons[0].Code)
						case name == "no":
							require.Equal(t, authz.CodeRuleDeny, d.Reasons[0].Code)
						default:
							require.Equal(t, authz.CodePluginError, d.Reasons[0].Code, d.Reasons[0].Detail)
							require.NotContains(t, d.Reasons[0].Detail, "panic")
						}
					}
					require.Less(t, time.Since(begin), 4*time.Second, "it is refused at once, not when the time is up")
				})
			}
		}
	}
}
