package graph_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/graph"
	"github.com/lethe-crm/lethe/internal/actor"
)

// schema asks for GET /schema.graphql.
func (w *world) schema(as string, header ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	ctx := w.t.Context()
	if as != "" {
		ctx = actor.With(ctx, w.actor(as))
	}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/schema.graphql", nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	out := httptest.NewRecorder()
	graph.NewSchemaHandler(graph.Config{DB: w.db, Control: w.control, Audit: w.audit, Log: w.logger}).ServeHTTP(out, r)
	return out
}

func TestTheSchemaIsForWhoIsSignedInUnlessAPolicyDeniesIt(t *testing.T) {
	each(t, func(w *world) {
		const introspection = `{ ...F } fragment F on Query { __schema { queryType { name } } }`
		const typed = `{ __type(name: "Query") { name } }`
		for _, as := range []string{"admin", "viewer", "nobody"} {
			get[object](w, as, introspection)
			w.Equal(http.StatusOK, w.schema(as).Code)
		}
		w.amend(casbin.Permission(casbin.RoleSubject("viewer"), w.tenant.String(), "Schema", "schema.read", "deny", "any"))
		for _, as := range []string{"viewer", "agent", "manager"} { // who has the role by another, too
			for _, query := range []string{introspection, typed} {
				refused := w.ask(as, query)
				w.Equal("FORBIDDEN", refused.code(), refused.raw)
				w.NotContains(refused.raw, "data")
			}
			w.Equal(http.StatusForbidden, w.schema(as).Code)
			get[object](w, as, `{ __typename customers(first: 1) { __typename } }`)
		}
		get[object](w, "admin", introspection)
		get[object](w, "nobody", introspection)

		events := get[object](w, "compliance", `{ auditEvents(first: 1, where: {outcome: REFUSED}) { nodes { action code } } }`)
		w.Equal([]any{object{"action": "SCHEMA_READ", "code": "FORBIDDEN"}}, at(events, "auditEvents", "nodes"))
	})
}

func TestThePublishedSchemaIsKeptAsLongAsItIsTheSame(t *testing.T) {
	each(t, func(w *world) {
		first := w.schema("viewer")
		w.Equal(graph.SDL(), first.Body.String())
		w.Contains(first.Header().Get("Cache-Control"), "private")
		again := w.schema("viewer", "If-None-Match", first.Header().Get("ETag"))
		w.Equal(http.StatusNotModified, again.Code)
		w.Empty(again.Body.String())

		w.amend(casbin.Permission(casbin.RoleSubject("viewer"), w.tenant.String(), "Schema", "schema.read", "deny", "any"))
		refused := w.schema("viewer", "If-None-Match", first.Header().Get("ETag"))
		w.Equal(http.StatusForbidden, refused.Code, "and not 304")
		w.Contains(refused.Body.String(), `"FORBIDDEN"`)
		stranger := w.schema("")
		w.Equal(http.StatusUnauthorized, stranger.Code)
		w.Contains(stranger.Body.String(), `"UNAUTHENTICATED"`)
	})
}

func TestNamesAreSuggestedToNobodyWhoMayNotReadTheSchema(t *testing.T) {
	each(t, func(w *world) {
		w.amend(casbin.Permission(casbin.RoleSubject("viewer"), w.tenant.String(), "Schema", "schema.read", "deny", "any"))
		for _, query := range []string{
			`{ customer(first: 1) { totalCount } }`,
			`{ customers(frist: 1) { totalCount } }`,
			`{ customers(first: 1, where: {nam: "x"}) { totalCount } }`,
			`{ customers(first: 1, states: [DELETE]) { totalCount } }`,
			`{ customers(first: 1) { nodes { ... on Custome { id } } } }`,
			`query($w: CustomerWhereInpu) { customers(first: 1, where: $w) { totalCount } }`,
			`{ customers(first: 1) { nodes } }`,
			`mutation { deleteRecords(input: {selec: {}}) { operation { id } } }`,
			`{ customers(first: 1) @skp(if: true) { totalCount } }`,
		} {
			a := w.ask("viewer", query)
			w.Equal("GRAPHQL_VALIDATION_FAILED", a.code(), a.raw)
			w.NotContains(a.raw, "Did you mean", query)
		}
		a := w.ask("viewer", `query($w: CustomerWhereInput) { customers(first: 1, where: $w) { totalCount } }`, vars{"w": map[string]any{"nam": "x"}})
		w.Equal("GRAPHQL_VALIDATION_FAILED", a.code(), a.raw)
		w.NotContains(a.raw, "Did you mean")
	})
}
