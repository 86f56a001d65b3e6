package graph_test

import (
	"testing"

	"github.com/lethe-crm/lethe/authz/casbin"
)

func TestTheWildcardGrantsNothingRestricted(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "kept")
		w.deleted("agent", c)
		const document = `mutation($ids: [ID!]!) { purgeRecords(input: {select: {ids: $ids}, expectedCount: 1, reason: "test"}) { operation { status } } }`
		w.Equal("FORBIDDEN", w.ask("admin", document, vars{"ids": ids(c)}).code())
		got := get[object](w, "admin", `query($id: ID!) { node(id: $id) { ... on Record { state viewerCan } } }`, vars{"id": c.String()})
		w.Equal("DELETED", at(got, "node", "state"), "it is there, and the admin may read it")
		w.Contains(at(got, "node", "viewerCan"), "RESTORE")
		w.NotContains(at(got, "node", "viewerCan"), "PURGE")
		got = get[object](w, "purger", document, vars{"ids": ids(c)})
		w.Equal("SUCCEEDED", at(got, "purgeRecords", "operation", "status"))
	})
}

// In Casbin a user who is named like a role has that role.
func TestAUserNamedLikeARoleHasNone(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		for _, name := range []string{"role:admin", "role:compliance", "user:system"} {
			w.users[name] = w.newUser(w.tenant, name, w.support)
			// A row that names him by his name would be about the role.
			w.NotContains(casbin.UserSubject(w.users[name].String()), name)
			got := get[object](w, name, `query($id: ID!) { node(id: $id) { id } customers(first: 9) { totalCount } viewer { roles } }`, vars{"id": c.String()})
			w.Nil(at(got, "node"), name)
			w.EqualValues(0, at(got, "customers", "totalCount"), name)
			w.Empty(at(got, "viewer", "roles"), name)
			w.NotEmpty(w.ask(name, `mutation($ids: [ID!]!) { deleteRecords(input: {select: {ids: $ids}}) { operation { id } } }`, vars{"ids": ids(c)}).Errors, name)
		}
	})
}
