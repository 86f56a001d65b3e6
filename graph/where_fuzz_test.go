package graph_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

// FuzzWhere gives lists whatever there is for a filter: it is refused for a reason that the client can know, or answered.
func FuzzWhere(f *testing.F) {
	for _, where := range []string{
		`{}`, `{"name":"a"}`, `{"nameContainsFold":"%_\\"}`, `{"or":[{"name":null},{"not":{"emailIsNil":true}}]}`, `{"and":[]}`, `{"idIn":["customer_01m8hczc8ye01ryfkvy63g2vr6"]}`,
		`{"id":"x"}`, `{"createdAtGT":"2026-01-01T00:00:00Z"}`, `{"createdAtGT":"0000-00-00"}`, `{"versionGT":9223372036854775807}`, `{"name":"\u0000"}`, `{"name":"\ud800"}`,
		`{"hasContactsWith":[{"name":"b","hasCustomerWith":[{"name":"a"}]}]}`, `{"search":"a' OR 1=1 --"}`, `{"search":"\u5408\u540c"}`, `{"nameIn":["a",null]}`, `[]`, `1`, `null`,
	} {
		f.Add([]byte(where))
	}
	w := newWorld(f, storetest.SQLite)
	w.create("agent", "Customer", record.Values{"name": "a", "email": "a@example.com"})
	f.Fuzz(func(t *testing.T, where []byte) {
		if !json.Valid(where) {
			return
		}
		body, err := json.Marshal(map[string]any{
			"query":     `query($where: CustomerWhereInput) { customers(first: 2, where: $where) { totalCount nodes { id contacts(first: 1) { nodes { id } } } } }`,
			"variables": map[string]json.RawMessage{"where": where},
		})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(actor.With(t.Context(), w.actor("agent")), http.MethodPost, "/graphql", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/graphql-response+json")
		out := httptest.NewRecorder()
		w.handler.ServeHTTP(out, r)
		if out.Code >= 500 || bytes.Contains(out.Body.Bytes(), []byte(`"code":"INTERNAL"`)) {
			t.Fatalf("%s: %d %s\n%s", where, out.Code, out.Body, w.log)
		}
	})
}
