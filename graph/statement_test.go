package graph_test

import (
	"fmt"
	"testing"
	"time"
)

// cost is how many statements a document takes.
func (w *world) cost(as, document string, variables ...vars) int {
	w.t.Helper()
	get[object](w, as, document, variables...) // the policy is read and the document parsed
	w.sql.take()
	get[object](w, as, document, variables...)
	return len(w.sql.take())
}

func TestStatementsDoNotGrowWithTheRows(t *testing.T) {
	each(t, func(w *world) {
		grow := func(n int) {
			for i := range n {
				c := w.customer("agent", fmt.Sprint("c", i))
				person := w.contact("agent", c, "x")
				w.create("agent", "Message", map[string]any{
					"subject": "s", "sentAt": time.Now(), "customerID": c, "contactID": person,
					"recipients": []map[string]any{{"address": "a@example.com"}},
				})
				gone := w.customer("agent", fmt.Sprint("gone", i))
				w.contact("agent", gone, "y")
				w.deleted("agent", gone)
			}
		}
		grow(2)
		var all []any
		for _, list := range []string{"customers", "contacts", "messages"} {
			got := get[object](w, "agent", `{ `+list+`(first: 2) { nodes { id } } }`)
			all = append(all, column(at(got, list, "nodes"), "id")...)
		}
		for _, test := range []struct {
			name, as, document string
			statements         int
		}{
			{"a list", "agent", `{ customers(first: 50) { nodes { id name viewerCan held type label } } }`, 1},
			{"a nested list", "agent", `{ customers(first: 50) { nodes { id name messages(first: 5, orderBy: {field: SENT_AT, direction: DESC}) { nodes { id subject } } } } }`, 2},
			{"with totals", "agent", `{ customers(first: 50) { totalCount nodes { id messages(first: 5) { totalCount nodes { id } } } } }`, 4},
			{"two edges of one kind", "agent", `{ customers(first: 50) { nodes { a: messages(first: 5) { nodes { id } } b: messages(last: 2) { nodes { id } } } } }`, 3},
			{"to-one edges", "agent", `{ messages(first: 50) { nodes { customer { name } contact { name } contactRef { id } owner { name } team { name } recipients { address } } } }`, 6},
			{"one edge under two aliases", "agent", `{ messages(first: 50) { nodes { a: customer { name } b: customer { kind contacts(first: 1) { nodes { id } } } } } }`, 3},
			{"nodes", "agent", `query($ids: [ID!]!) { nodes(ids: $ids) { id ... on Record { label state owner { name } } } }`, 6},
			{"nodes with connections", "agent", `query($ids: [ID!]!) { nodes(ids: $ids) { ... on Customer { messages(first: 2) { totalCount nodes { id } } } } }`, 5},
			{"the bin", "agent", `{ bin(first: 50) { nodes { id label } } }`, 2},
			{"the bin with edges", "agent", `{ bin(first: 50) { totalCount nodes { label stateChangedBy { name } operation { id } ... on Customer { contacts(first: 2, states: [DELETED]) { nodes { name } } } } } }`, 6},
			{"histories", "agent", `{ customers(first: 50) { nodes { history(first: 5) { nodes { action actor { user { name } } reason changes { field } operation { id } } } } } }`, 4},
			{"the audit log", "compliance", `{ auditEvents(last: 50) { nodes { action actor { kind user { name } } reason changes { field old new } operation { id verb } } } }`, 8},
			{"operations with items", "agent", `{ operations(first: 50) { nodes { id canUndo actor { name } items(first: 5) { nodes { recordID type label record { id state } blockers { code } message } } } } }`, 7},
		} {
			w.Equal(test.statements, w.cost(test.as, test.document, vars{"ids": all}), test.name)
		}
		grow(4)
		w.Equal(7, w.cost("agent", `{ operations(first: 50) { nodes { id canUndo actor { name } items(first: 5) { nodes { recordID type label record { id state } blockers { code } message } } } } }`))
		w.Equal(6, w.cost("agent", `{ bin(first: 50) { totalCount nodes { label stateChangedBy { name } operation { id } ... on Customer { contacts(first: 2, states: [DELETED]) { nodes { name } } } } } }`))
	})
}
