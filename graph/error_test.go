package graph_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"log/slog"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/graph"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
)

func TestStrangersLearnNothing(t *testing.T) {
	each(t, func(w *world) {
		for _, document := range []string{`{ customers(first: 1) { totalCount } }`, `{ __schema { types { name } } }`, `{ nosuchfield }`, `{`, `mutation { purgeRecords(input: {select: {ids: []}}) { operation { id } } }`} {
			w.sql.take()
			a := w.ask("", document)
			w.Equal("UNAUTHENTICATED", a.code(), document)
			w.Len(a.Errors, 1)
			w.NotContains(a.raw, `"data"`)
			w.Empty(w.sql.take())
		}
	})
}

func TestErrorsCarryACodeAndTheRequest(t *testing.T) {
	each(t, func(w *world) {
		customer, contact := w.customer("agent", "a"), gid.New(gid.Contact)
		for _, test := range []struct {
			document string
			code     string
			fields   []any
		}{
			{`{ nosuchfield }`, "GRAPHQL_VALIDATION_FAILED", nil},
			{`{ customers(`, "GRAPHQL_PARSE_FAILED", nil},
			{`{ node(id: "nonsense") { id } }`, "BAD_USER_INPUT", []any{"id"}},
			{`{ nodes(ids: ["` + customer.String() + `", "customer_1"]) { id } }`, "BAD_USER_INPUT", []any{"ids[1]"}},
			{`{ node(id: "` + strings.Replace(customer.String(), "customer", "contact", 1) + `") { id } }`, "BAD_USER_INPUT", []any{"id"}},
			{`{ operation(id: "` + customer.String() + `") { id } }`, "BAD_USER_INPUT", []any{"id"}},
			{`{ bin(first: 1, deletedBy: "` + customer.String() + `") { totalCount } }`, "BAD_USER_INPUT", []any{"deletedBy"}},
			{`{ customers(first: 1, where: {id: "x"}) { nodes { id } } }`, "BAD_USER_INPUT", []any{"where.id"}},
			{`{ customers(first: 1) { nodes { contacts(first: 1, where: {id: "x"}) { nodes { id } } } } }`, "BAD_USER_INPUT", []any{"where"}},
			{`{ customers(first: 1, where: {or: [{}]}) { nodes { id } } }`, "BAD_USER_INPUT", []any{"where"}},
			{`{ customers(first: 1, where: {createdAt: "yesterday"}) { nodes { id } } }`, "BAD_USER_INPUT", []any{"where.createdAt"}},
			{`mutation { updateCustomer(input: {id: "` + contact.String() + `", version: 1}) { customer { id } } }`, "BAD_USER_INPUT", []any{"id"}},
			{`mutation { createContact(input: {name: "x", customerID: "` + contact.String() + `"}) { contact { id } } }`, "BAD_USER_INPUT", []any{"customerID"}},
			{`mutation { createCustomer(input: {name: "x", ownerID: "` + contact.String() + `"}) { customer { id } } }`, "BAD_USER_INPUT", []any{"ownerID"}},
			{`mutation { undoOperation(input: {id: "` + customer.String() + `"}) { operation { id } } }`, "BAD_USER_INPUT", []any{"id"}},
			{`mutation { deleteRecords(input: {select: {operation: "` + customer.String() + `"}}) { operation { id } } }`, "BAD_USER_INPUT", []any{"select.operation"}},
			{`mutation { deleteRecords(input: {select: {ids: ["x"]}}) { operation { id } } }`, "BAD_USER_INPUT", []any{"input.select.ids[0]"}},
			{`mutation { voidRecords(input: {select: {ids: []}, reason: "r", duplicateOf: "` + w.tenant.String() + `"}) { operation { id } } }`, "BAD_USER_INPUT", []any{"duplicateOf"}},
			{`mutation { createCustomer(input: {name: ""}) { customer { id } } }`, "BAD_USER_INPUT", []any{"name"}},
			{`mutation { updateCustomer(input: {id: "` + customer.String() + `", version: 7}) { customer { id } } }`, "CONFLICT", []any{"version"}},
		} {
			a := w.ask("agent", test.document)
			w.Equal(test.code, a.code(), "%s: %s", test.document, a.raw)
			if test.fields != nil {
				w.Equal(test.fields, a.Errors[0].Extensions["fields"], "%s: %s", test.document, a.raw)
			}
			w.NotContains(a.raw, "ent:")
			for _, e := range a.Errors {
				w.Equal("r-1", e.Extensions["requestID"], test.document)
			}
		}
		w.NotContains(w.log.String(), "ERROR")
	})
}

func TestIDsAreCheckedBeforeAnyQuery(t *testing.T) {
	each(t, func(w *world) {
		get[object](w, "agent", `{ viewer { tenant } }`)
		w.sql.take()
		w.Equal("BAD_USER_INPUT", w.ask("agent", `{ operation(id: "`+w.tenant.String()+`") { id } }`).code())
		w.Equal("BAD_USER_INPUT", w.ask("agent", `mutation { updateCustomer(input: {id: "`+w.tenant.String()+`", version: 1}) { customer { id } } }`).code())
		w.Empty(w.sql.take())
	})
}

func TestErrorsOfTheDatabaseAreNotShown(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.exec(`ALTER TABLE contacts RENAME TO elsewhere`)
		a := w.ask("agent", `{ customers(first: 1) { nodes { contacts(first: 1) { nodes { id } } } } }`)
		w.Equal("INTERNAL", a.code())
		w.NotContains(a.raw, "contacts\"")
		w.NotContains(strings.ToLower(a.raw), "sql")
		w.Contains(w.log.String(), "contacts", "the log has the text")
		a = w.ask("agent", `mutation($id: ID!) { deleteRecords(input: {select: {ids: [$id]}}) { operation { id } } }`, vars{"id": c.String()})
		w.Equal("INTERNAL", a.code())
		w.NotContains(strings.ToLower(a.raw), "elsewhere")
		w.JSONEq("null", string(a.Data))
	})
}

func TestAPolicyThatCannotBeReadIsAuthzUnavailable(t *testing.T) {
	each(t, func(w *world) {
		w.policy.mu.Lock()
		w.policy.fails = errors.New("the secret text")
		w.policy.mu.Unlock()
		a := w.ask("agent", `{ customers(first: 1) { totalCount } }`)
		if a.code() != "AUTHZ_UNAVAILABLE" {
			w.Fail("neither refused nor closed", a.raw)
		}
		w.NotContains(a.raw, "secret")
	})
}

func TestAPanicIsAnInternalError(t *testing.T) {
	t.Parallel()
	log := &logged{}
	control, err := access.New(&policies{}, nil)
	require.NoError(t, err)
	h, err := graph.NewHandler(graph.Config{Control: control, Log: slog.New(slog.NewTextHandler(log, nil))})
	require.NoError(t, err)
	ctx := actor.With(t.Context(), &actor.Actor{Tenant: gid.New(gid.Tenant), User: gid.New(gid.User), RequestID: "r-9"})
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/graphql", strings.NewReader(`{"query":"{ customers(first: 1) { totalCount } }"}`))
	r.Header.Set("Content-Type", "application/json")
	out := httptest.NewRecorder()
	h.ServeHTTP(out, r)
	require.Contains(t, out.Body.String(), `"INTERNAL"`)
	require.Contains(t, out.Body.String(), "r-9")
	require.NotContains(t, out.Body.String(), "nil pointer")
	require.Contains(t, log.String(), "nil pointer")
}

func TestOnlyTheRightGetFurtherThanTheDoor(t *testing.T) {
	each(t, func(w *world) {
		for _, as := range []string{"viewer", "nobody", "purger"} {
			a := w.ask(as, `mutation { createCustomer(input: {name: "x"}) { customer { id } } }`)
			w.Equal("FORBIDDEN", a.code(), as)
			w.JSONEq("null", string(a.Data))
		}
		for _, as := range []string{"viewer", "agent", "manager", "nobody"} {
			w.Equal("FORBIDDEN", w.ask(as, `{ auditEvents(first: 1) { totalCount } }`).code(), as)
		}
		get[object](w, "compliance", `{ auditEvents(first: 1) { totalCount } }`)
		got := get[object](w, "nobody", `{ customers(first: 1) { totalCount } bin(first: 1) { totalCount } operations(first: 1) { totalCount } }`)
		w.EqualValues(0, at(got, "customers", "totalCount"), "lists are not refused, they are empty")

		events := get[object](w, "compliance", `{ auditEvents(first: 50, where: {outcome: REFUSED}) { nodes { action outcome code recordType actor { user { name } } } } }`)
		list, _ := at(events, "auditEvents", "nodes").([]any)
		var seen []string
		for _, e := range list {
			seen = append(seen, fmt.Sprint(at(e, "action"), " ", at(e, "recordType"), " ", at(e, "code"), " ", at(e, "actor", "user", "name")))
		}
		w.Equal([]string{
			"CREATE CUSTOMER FORBIDDEN viewer", "CREATE CUSTOMER FORBIDDEN nobody", "CREATE CUSTOMER FORBIDDEN purger",
			"AUDIT_READ <nil> FORBIDDEN viewer", "AUDIT_READ <nil> FORBIDDEN agent", "AUDIT_READ <nil> FORBIDDEN manager", "AUDIT_READ <nil> FORBIDDEN nobody",
		}, seen, "one REFUSED event for each")
	})
}
