package pdp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
)

// vector is a case of the certification scenario.
type vector struct {
	ID, Level, Method, Path string
	Headers                 map[string]string
	Body                    json.RawMessage
	Raw                     *string
	Repeat                  int
	Expect                  expectation
}

type expectation struct {
	Status       int
	Headers      map[string]string
	Decision     *bool
	Evaluations  []bool
	Count        int
	Include      []map[string]string
	ResultType   string            `json:"result_type"`
	ResultsArray bool              `json:"results_array"`
	Results      *[]map[string]any // exactly
	Metadata     bool
}

const certified = 62

func vectors(t *testing.T) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/certification-vectors.json")
	require.NoError(t, err)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields() // an expectation that is not read is not tested
	var file struct {
		Source  string
		Fixture json.RawMessage
		Vectors []vector
	}
	require.NoError(t, d.Decode(&file))
	require.Len(t, file.Vectors, certified)
	ids := map[string]bool{}
	for _, v := range file.Vectors {
		require.False(t, ids[v.ID], "%s is there twice", v.ID)
		ids[v.ID] = true
	}
	return file.Vectors
}

// directory knows the subjects, resources and actions of the scenario, and
// decides nothing.
type directory struct{}

var (
	subjects  = map[string]map[string]any{"alice": nil, "bob": {"role": "admin"}}
	resources = map[string]map[string]any{"record-1": {"status": "active"}, "record-2": {"status": "archived"}}
)

func (directory) Decide(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	return make([]authz.Decision, len(reqs)), nil
}

func (directory) Search(_ context.Context, s authz.Search) ([]authz.Entity, error) {
	all := map[string]map[string]any{}
	switch {
	case s.For == authz.SoughtSubjects && s.Type == "user":
		all = subjects
	case s.For == authz.SoughtResources && s.Type == "record":
		all = resources
	case s.For == authz.SoughtActions && s.Type == "record":
		all = map[string]map[string]any{"read": nil, "write": nil, "delete": nil}
	}
	var out []authz.Entity
	for _, id := range slices.Sorted(maps.Keys(all)) {
		out = append(out, authz.Entity{ID: id, Props: all[id]})
	}
	return out, nil
}

// scenario grants by the eight rules of the scenario.
type scenario struct{ directory }

func (scenario) Decide(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	out := make([]authz.Decision, len(reqs))
	for i, r := range reqs {
		if r.Subject.Type == "user" && r.Resource.Type == "record" && permitted(r) {
			out[i].Effect = authz.Permit
		}
	}
	return out, nil
}

func permitted(r authz.Request) bool {
	archived := r.Resource.Props["status"] == "archived"
	alice, first := r.Subject.ID == "alice", r.Resource.ID == "record-1"
	switch r.Action {
	case "read":
		return (alice || r.Subject.ID == "bob") && first // rules 1 and 3
	case "write":
		return alice && first && !archived || r.Subject.Props["role"] == "admin" && archived // rules 2, 4, 5, 6
	case "delete":
		return alice && first && r.ActionProps["soft"] == true // rules 7 and 8
	}
	return false
}

func init() {
	authz.Register("scenario", func(context.Context, string, json.RawMessage) (authz.Plugin, error) { return scenario{}, nil })
	authz.Register("directory", func(context.Context, string, json.RawMessage) (authz.Plugin, error) { return directory{}, nil })
}

func TestTheCertificationScenarioPasses(t *testing.T) {
	t.Parallel()
	certify(t, nil, nil, `[{"name": "policy", "kind": "casbin", "role": "grant"}, {"name": "scenario", "kind": "scenario", "role": "grant"}]`)
}

// TestTheCertificationScenarioPassesOverPolicyRows runs what rows can say.
func TestTheCertificationScenarioPassesOverPolicyRows(t *testing.T) {
	t.Parallel()
	const write, existence = `policies do not know the action "write"`, "rows do not know which records of others there are"
	certify(t, map[string]string{
		"rule2": write, "2.2.5": write, "3.2.3": write, "3.2.4": write, "3.2.7": write,
		"4.2.4": write, "4.3.4": write, "4.4.1": write, "4.4.2": write, "4.4.3": write,
		"4.6.1-subject": existence,
	}, func(tenant string) []casbin.Rule {
		return []casbin.Rule{
			casbin.Permission("user:alice", tenant, "record", "read", "allow", "any"),
			casbin.Permission("user:bob", tenant, "record", "read", "allow", "any"),
			casbin.Permission("user:alice", tenant, "record", "delete", "allow", "action.soft == true"),
		}
	}, `[{"name": "policy", "kind": "casbin", "role": "grant", "config": {"external": {"record": {"status": "string"}}}}, {"name": "known", "kind": "directory"}]`)
}

func certify(t *testing.T, except map[string]string, rules func(tenant string) []casbin.Rule, members string) {
	t.Helper()
	each(t, func(w *world) {
		all := vectors(w.T)
		for id := range except {
			require.True(w, slices.ContainsFunc(all, func(v vector) bool { return v.ID == id }), "there is a case %s", id)
		}
		var extra []casbin.Rule
		if rules != nil {
			extra = rules(w.tenant.String())
		}
		s := w.serve(members, extra...)
		var mu sync.Mutex
		ran := 0
		w.Run("cases", func(t *testing.T) {
			for _, v := range all {
				if except[v.ID] != "" {
					continue
				}
				t.Run(v.ID, func(t *testing.T) {
					t.Parallel()
					for range max(v.Repeat, 1) {
						s.certify(t, v)
					}
					mu.Lock()
					defer mu.Unlock()
					ran++
				})
			}
		})
		require.Equal(w, certified-len(except), ran, "every case ran to its end")
	})
}

func (s *served) certify(t *testing.T, v vector) {
	t.Helper()
	body := string(v.Body)
	if v.Raw != nil {
		body = *v.Raw
	}
	header := []string{"Content-Type", "application/json"}
	for name, value := range v.Headers {
		header = append(header, name, value)
	}
	res, text := s.send(t, v.Method, v.Path, body, header...)
	e := v.Expect
	require.Equal(t, e.Status, res.StatusCode, text)
	for name, value := range e.Headers {
		require.Equal(t, value, res.Header.Get(name))
	}
	if e.Status != http.StatusOK {
		return
	}
	require.Equal(t, "application/json", res.Header.Get("Content-Type"))
	var got map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &got))
	checked := false
	if e.Decision != nil {
		checked = true
		require.Equal(t, *e.Decision, got["decision"])
	}
	if e.Evaluations != nil || e.Count > 0 {
		checked = true
		list, _ := got["evaluations"].([]any)
		require.Len(t, list, max(len(e.Evaluations), e.Count), text)
		for i, item := range list {
			decision, isBool := item.(map[string]any)["decision"].(bool)
			require.True(t, isBool)
			if e.Evaluations != nil {
				require.Equal(t, e.Evaluations[i], decision, "evaluation %d: %s", i, text)
			}
		}
	}
	if e.Include != nil || e.ResultsArray || e.Results != nil {
		checked = true
		s.checkResults(t, e, got, text)
	}
	if e.Metadata {
		checked = true
		require.Equal(t, s.url, got["policy_decision_point"])
		for _, name := range []string{"access_evaluation", "access_evaluations", "search_subject", "search_resource", "search_action"} {
			at, _ := got[name+"_endpoint"].(string)
			require.True(t, strings.HasPrefix(at, s.url+"/access/v1/"), "%s is %q", name, at)
			require.True(t, strings.HasPrefix(at, "https://"))
			res, _ := s.send(t, http.MethodPost, strings.TrimPrefix(at, s.url), `{}`, "Content-Type", "application/json")
			require.Equal(t, http.StatusBadRequest, res.StatusCode, "there is something at %s", at)
		}
	}
	require.True(t, checked, "the case expects something")
}

func (s *served) checkResults(t *testing.T, e expectation, got map[string]any, text string) {
	t.Helper()
	results, ok := got["results"].([]any)
	require.True(t, ok, text)
	if e.Results != nil {
		require.Len(t, results, len(*e.Results), text)
	}
	for _, want := range e.Include {
		require.True(t, slices.ContainsFunc(results, func(v any) bool {
			for name, value := range want {
				if v.(map[string]any)[name] != value {
					return false
				}
			}
			return true
		}), "%v is in %s", want, text)
	}
	for _, v := range results {
		if e.ResultType != "" {
			require.Equal(t, e.ResultType, v.(map[string]any)["type"])
			require.NotEmpty(t, v.(map[string]any)["id"])
		}
	}
	if page, given := got["page"]; given {
		_, isText := page.(map[string]any)["next_token"].(string)
		require.True(t, isText)
	}
}
