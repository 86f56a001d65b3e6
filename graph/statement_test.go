package graph_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
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
				for typ, values := range map[string]map[string]any{
					"Call": {"startedAt": time.Now()}, "Task": {"title": "t"}, "Note": {"body": "b", "happenedAt": time.Now()},
					"Attachment": {"filename": "f"}, "Deal": {"name": "d", "primaryContactID": person},
				} {
					values["customerID"] = c
					w.create("agent", typ, values)
				}
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
		first := all[0]
		operation := at(get[object](w, "agent", `{ operations(first: 1) { nodes { id } } }`), "operations", "nodes", 0, "id")
		tests := []struct {
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
			{"the audit log", "compliance", `{ auditEvents(last: 50) { nodes { action actor { kind user { name } } reason changes { field old new } operation { id verb } } } }`, 13},
			{"operations with items", "agent", `{ operations(first: 50) { nodes { id canUndo actor { name } items(first: 5) { nodes { recordID type label record { id state } blockers { code } message } } } } }`, 7},
			{"contacts", "agent", `{ contacts(first: 50) { nodes { label customer { name } messages(first: 2) { nodes { id } } calls(first: 2) { nodes { id } } } } }`, 4},
			{"deals", "agent", `{ deals(first: 50) { nodes { label customer { name } primaryContact { name } primaryContactRef { state } attachments(first: 2) { nodes { id } } } } }`, 4},
			{"calls", "agent", `{ calls(first: 50, orderBy: {field: STARTED_AT, direction: DESC}) { nodes { label customer { name } task { title } attachments(first: 2) { nodes { id } } } } }`, 3},
			{"tasks", "agent", `{ tasks(first: 50) { nodes { label customer { name } assignee { name } calls(first: 2) { nodes { id } } } } }`, 3},
			{"notes", "agent", `{ notes(first: 50) { nodes { label customer { name } deal { name } } } }`, 2},
			{"attachments", "agent", `{ attachments(first: 50) { nodes { label customer { name } message { label } } } }`, 2},
			{"a customer with everything", "agent", `{ customers(first: 50) { nodes { contacts(first: 2) { nodes { id } } deals(first: 2) { nodes { id } } messages(first: 2) { nodes { id } } calls(first: 2) { nodes { id } } tasks(first: 2) { nodes { id } } notes(first: 2) { nodes { id } } attachments(first: 2) { nodes { id } } } } }`, 8},
			{"a timeline", "agent", `query($first: ID!) { timeline(customer: $first, first: 50) { nodes { ... on Record { id label } } } }`, 4},
			{"a timeline with edges", "agent", `query($first: ID!) { timeline(customer: $first, first: 50) { totalCount nodes { ... on Record { label owner { name } } ... on Message { contact { name } } } } }`, 9},
			{"the viewer", "agent", `{ viewer { tenant roles user { name } } }`, 1},
			{"a user", "agent", `query($user: ID!) { user(id: $user) { name email teams { name } } }`, 2},
			{"a node", "agent", `query($first: ID!) { node(id: $first) { id ... on Customer { name } } }`, 1},
			{"an operation", "agent", `query($operation: ID!) { operation(id: $operation) { status items(first: 50) { nodes { label record { id } blockers { code } } } } }`, 6},
			{"a preview", "agent", `query($first: ID!) { preview(input: {delete: {select: {ids: [$first]}, cascade: true}}) { token total byType { type count } items(first: 50) { nodes { label } } } }`, 21},
			{"why not", "agent", `query($first: ID!) { whyNot(id: $first, action: DELETE) { code blockers { type count } } }`, 13},
		}
		for _, size := range []int{2, 6} {
			for _, test := range tests {
				w.Equal(test.statements, w.cost(test.as, test.document, vars{"ids": all, "first": first, "operation": operation, "user": w.users["agent"].String()}), "%s of %d", test.name, size)
			}
			if size == 2 {
				grow(4)
			}
		}
	})
}

// TestStatementsOfVerbs says what each mutation costs, the same for one record
// and for 300.
func TestStatementsOfVerbs(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("manager", "c")
		w.exec(`UPDATE tenants SET brake_percent = NULL WHERE id = ?`, w.tenant)
		operation := func(as, document string, variables vars) (id string, statements int) {
			w.sql.take()
			got := get[object](w, as, document, variables)
			statements = len(w.sql.take())
			for _, payload := range got {
				w.Equal("SUCCEEDED", at(payload, "operation", "status"), document)
				id, _ = at(payload, "operation", "id").(string)
			}
			return id, statements
		}
		verb := func(name string) string {
			return `mutation($ids: [ID!]!) { ` + name + `Records(input: {select: {ids: $ids}}) { operation { id status } } }`
		}
		for _, n := range []int{1, 300} {
			list := make([]gid.ID, n)
			for i := range list {
				list[i] = w.message("manager", c, "m", time.Now())
			}
			of := vars{"ids": ids(list...)}
			get[object](w, "manager", `{ viewer { tenant } }`) // the policy is read
			get[object](w, "purger", `{ viewer { tenant } }`)
			cost := map[string]int{}
			var last string
			_, cost["delete"] = operation("manager", verb("delete"), of)
			_, cost["restore"] = operation("manager", verb("restore"), of)
			_, cost["void"] = operation("manager", `mutation($ids: [ID!]!) { voidRecords(input: {select: {ids: $ids}, reason: "r"}) { operation { id status } } }`, of)
			_, cost["delete what is void"] = operation("manager", verb("delete"), of)
			_, cost["restore to void"] = operation("manager", verb("restore"), of)
			_, cost["restore to live"] = operation("manager", verb("restore"), of)
			last, cost["delete by filter"] = operation("manager", `mutation($n: Int!) { deleteRecords(input: {select: {messages: {subject: "m"}}, expectedCount: $n}) { operation { id status } } }`, vars{"n": n})
			_, cost["undo"] = operation("manager", `mutation($id: ID!) { undoOperation(input: {id: $id}) { operation { id status } } }`, vars{"id": last})
			operation("manager", verb("delete"), of)
			_, cost["purge"] = operation("purger", verb("purge"), of)
			other := make([]gid.ID, n)
			for i := range other {
				other[i] = w.message("manager", c, "m", time.Now())
			}
			operation("manager", verb("delete"), vars{"ids": ids(other...)})
			_, cost["empty the bin"] = operation("purger", `mutation($n: Int!) { emptyBin(input: {types: [MESSAGE], expectedCount: $n}) { operation { id status } } }`, vars{"n": n})
			want := map[string]int{
				// One of them notes what is to be told; on PostgreSQL it is no round trip.
				"delete": 12, "restore": 10, "void": 12, "delete what is void": 13, "restore to void": 10, "restore to live": 10,
				"delete by filter": 14, "undo": 15, "purge": 15, "empty the bin": 16,
			}
			words := 2 // the words of records and their places
			if w.db.Dialect() == "postgres" {
				words = 1
			}
			want["purge"] += words
			want["empty the bin"] += words
			if w.db.Dialect() == "postgres" { // the brake's lock, and the sums once it is held: where a tenant has caps
				for _, name := range []string{"delete", "void", "delete what is void", "delete by filter", "purge", "empty the bin"} {
					want[name] += 2
				}
			}
			w.Equal(want, cost, "%d records", n)
		}
	})
}

func TestStatementsOfWrites(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		variables := vars{"c": c.String()}
		words := 2 // the words of a record and their place
		if w.db.Dialect() == "postgres" {
			words = 1
		}
		for name, test := range map[string]struct {
			document   string
			statements int
		}{
			"a customer":    {`mutation { createCustomer(input: {name: "n"}) { customer { id } } }`, 4},
			"a contact":     {`mutation($c: ID!) { createContact(input: {name: "n", customerID: $c}) { contact { id } } }`, 3},
			"a deal":        {`mutation($c: ID!) { createDeal(input: {name: "n", customerID: $c}) { deal { id } } }`, 5},
			"a message":     {`mutation($c: ID!) { createMessage(input: {subject: "s", sentAt: "2026-01-01T00:00:00Z", customerID: $c, recipients: [{address: "a@b"}]}) { message { id } } }`, 5},
			"a call":        {`mutation($c: ID!) { createCall(input: {startedAt: "2026-01-01T00:00:00Z", customerID: $c}) { call { id } } }`, 4},
			"a task":        {`mutation($c: ID!) { createTask(input: {title: "t", customerID: $c}) { task { id } } }`, 3},
			"a note":        {`mutation($c: ID!) { createNote(input: {body: "b", happenedAt: "2026-01-01T00:00:00Z", customerID: $c}) { note { id } } }`, 4},
			"an attachment": {`mutation($c: ID!) { createAttachment(input: {filename: "f", customerID: $c}) { attachment { id } } }`, 3},
		} {
			get[object](w, "agent", test.document, variables) // numbers are taken in blocks
			w.sql.take()
			get[object](w, "agent", test.document, variables)
			w.Equal(test.statements+words, len(w.sql.take()), name) //nolint:testifylint // the statements themselves are long
		}
		for name, test := range map[string]struct {
			id         gid.ID
			set        string
			statements int
		}{
			"Customer":   {w.customer("agent", "x"), `name: "m"`, 5},
			"Contact":    {w.create("agent", "Contact", map[string]any{"name": "n", "customerID": c}), `name: "m"`, 5},
			"Deal":       {w.create("agent", "Deal", map[string]any{"name": "n", "customerID": c}), `name: "m"`, 5},
			"Message":    {w.create("agent", "Message", map[string]any{"subject": "s", "sentAt": time.Now(), "customerID": c}), `subject: "t", recipients: [{address: "a@b"}]`, 8},
			"Call":       {w.create("agent", "Call", map[string]any{"startedAt": time.Now(), "customerID": c}), `durationSeconds: 5`, 5},
			"Task":       {w.create("agent", "Task", map[string]any{"title": "t", "customerID": c}), `title: "u"`, 5},
			"Note":       {w.create("agent", "Note", map[string]any{"body": "b", "happenedAt": time.Now(), "customerID": c}), `body: "c"`, 5},
			"Attachment": {w.create("agent", "Attachment", map[string]any{"filename": "f", "customerID": c}), `filename: "g"`, 5},
		} {
			w.sql.take()
			get[object](w, "agent", `mutation($id: ID!) { update`+name+`(input: {id: $id, version: 1, `+test.set+`}) { `+strings.ToLower(name)+` { version } } }`, vars{"id": test.id.String()})
			switch name {
			case "Message": // the recipients are read again
				test.statements += words + 1
			case "Call": // nothing by whose words it is found
			default:
				test.statements += words
			}
			w.Equal(test.statements, len(w.sql.take()), name) //nolint:testifylint // as above
		}
	})
}
