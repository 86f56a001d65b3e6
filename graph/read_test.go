package graph_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
)

func TestListsShowWhatTheReaderMaySee(t *testing.T) {
	each(t, func(w *world) {
		mine, theirs, foreign := w.customer("agent", "mine"), w.customer("agent2", "theirs"), w.customer("stranger", "foreign")
		for as, want := range map[string][]any{
			"agent": {"mine"}, "viewer": {"mine"}, "agent2": {"theirs"}, "compliance": {"mine", "theirs"}, "admin": {"mine", "theirs"}, "nobody": {}, "stranger": {"foreign"},
		} {
			got := get[object](w, as, `query($ids: [ID!]!) { customers(first: 9) { totalCount nodes { name } } nodes(ids: $ids) { ... on Record { label } } }`, vars{"ids": ids(mine, theirs, foreign)})
			w.Equal(want, column(at(got, "customers", "nodes"), "name"), as)
			w.EqualValues(len(want), at(got, "customers", "totalCount"), as)
			var found []any
			for _, n := range column(at(got, "nodes"), "label") {
				if n != nil {
					found = append(found, n)
				}
			}
			w.Len(found, len(want), as)
		}
	})
}

func TestListsShowActiveRecordsUnlessAskedForOthers(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		gone := w.contact("agent", c, "gone")
		w.contact("agent", c, "kept")
		w.deleted("agent", gone)
		for states, want := range map[string][]any{
			"": {"kept"}, ", states: null": {"kept"}, ", states: [ACTIVE]": {"kept"}, ", states: [DELETED]": {"gone"},
			", states: [ACTIVE, DELETED]": {"gone", "kept"}, ", states: []": {}, ", states: [VOIDED]": {},
		} {
			got := get[object](w, "agent", fmt.Sprintf(`{ contacts(first: 9%s) { nodes { name } totalCount } customers(first: 1) { nodes { contacts(first: 9%s) { nodes { name } totalCount } } } }`, states, states))
			for _, list := range []any{at(got, "contacts"), at(got, "customers", "nodes", 0, "contacts")} {
				w.Equal(want, column(at(list, "nodes"), "name"), states)
				w.EqualValues(len(want), at(list, "totalCount"), states)
			}
		}
		got := get[object](w, "viewer", `{ contacts(first: 9, states: [ACTIVE, DELETED]) { nodes { name } } }`)
		w.Equal([]any{"kept"}, column(at(got, "contacts", "nodes"), "name"), "a viewer may not read what is retired")
	})
}

func TestFiltersForEqualityCompareFolded(t *testing.T) {
	each(t, func(w *world) {
		c := w.create("agent", "Customer", record.Values{"name": "a", "email": "A@Bücher.example", "domain": "Bücher.example"})
		w.create("agent", "Customer", record.Values{"name": "b", "email": "b@example.org", "domain": "example.org"})
		w.create("agent", "Customer", record.Values{"name": "c"})
		w.create("agent", "Contact", record.Values{"name": "a", "email": "a@example.org", "customerID": c})
		w.create("agent", "Message", record.Values{"subject": "a", "sentAt": time.Now(), "sender": "A@Example.org", "messageID": "A@x"})
		for _, test := range []struct {
			list, field, where string
			want               []any
		}{
			{"customers", "name", `email: "a@bücher.EXAMPLE"`, []any{"a"}},
			{"customers", "name", `email: "a@xn--bcher-kva.example"`, []any{"a"}},
			{"customers", "name", `emailIn: [" B@Example.ORG", "x"]`, []any{"b"}},
			{"customers", "name", `emailNEQ: "B@Example.ORG"`, []any{"a"}},
			{"customers", "name", `emailNotIn: ["B@Example.ORG"]`, []any{"a"}},
			{"customers", "name", `domain: "XN--bcher-kva.example."`, []any{"a"}},
			{"customers", "name", `name: "A"`, []any{}},
			{"contacts", "name", `email: "A@Example.org"`, []any{"a"}},
			{"messages", "subject", `sender: "a@EXAMPLE.org"`, []any{"a"}},
			{"messages", "subject", `messageID: "A@x"`, []any{"a"}},
			{"messages", "subject", `messageID: "a@x"`, []any{}},
		} {
			got := get[object](w, "agent", fmt.Sprintf(`{ %s(first: 9, where: {%s}) { nodes { %s } } }`, test.list, test.where, test.field))
			w.Equal(test.want, column(at(got, test.list, "nodes"), test.field), test.where)
		}
	})
}

func TestFiltersOnNeighboursSeeNoMoreThanTheReader(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("manager", "a")
		retired := w.contact("manager", c, "retired")
		w.deleted("manager", retired)
		hidden := w.contact("manager", c, "hidden")
		w.exec(`UPDATE contacts SET owner_id = ?, team_id = ? WHERE id = ?`, w.users["agent2"], w.support, hidden)
		found := func(as, filter string) any {
			return at(get[object](w, as, `{ customers(first: 9, where: {`+filter+`}) { totalCount } }`), "customers", "totalCount")
		}
		w.EqualValues(0, found("agent", `hasContacts: true`))
		w.EqualValues(1, found("agent", `hasContacts: false`))
		w.EqualValues(0, found("agent", `hasContactsWith: [{name: "retired"}]`))
		w.EqualValues(0, found("agent", `hasContactsWith: [{name: "hidden"}]`))
		w.EqualValues(1, found("agent", `not: {hasContactsWith: [{name: "hidden"}]}`))
		w.EqualValues(1, found("admin", `hasContactsWith: [{name: "hidden"}]`))
		w.EqualValues(0, found("admin", `hasContactsWith: [{name: "retired"}]`), "retired rows take no part in filters")
		w.contact("agent", c, "seen")
		w.EqualValues(1, found("agent", `hasContactsWith: [{name: "seen", hasCustomerWith: [{name: "a"}]}]`))
		w.EqualValues(0, found("agent", `hasContactsWith: [{name: "seen", hasCustomerWith: [{hasContactsWith: [{name: "hidden"}]}]}]`))
		foreign := w.contact("stranger", w.customer("stranger", "f"), "foreign")
		w.exec(`UPDATE contacts SET customer_id = ? WHERE id = ?`, c, foreign)
		w.EqualValues(0, found("admin", `hasContactsWith: [{name: "foreign"}]`), "nor does another tenant")
	})
}

func TestAWeakEdgeIsNullWhileItsTargetIsRetired(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		person := w.contact("agent", c, "x")
		m := w.create("agent", "Message", record.Values{"sentAt": time.Now(), "contactID": person})
		document := `query($id: ID!) { node(id: $id) { ... on Message { a: contact { name } b: contact { id customer { name } } contactRef { id type state } } } }`
		got := at(get[object](w, "agent", document, vars{"id": m.String()}), "node")
		w.Equal(object{
			"a": object{"name": "x"}, "b": object{"id": person.String(), "customer": object{"name": "a"}},
			"contactRef": object{"id": person.String(), "type": "CONTACT", "state": "ACTIVE"},
		}, got)
		w.deleted("agent", person)
		w.Equal(object{"a": nil, "b": nil, "contactRef": object{"id": person.String(), "type": "CONTACT", "state": "DELETED"}},
			at(get[object](w, "agent", document, vars{"id": m.String()}), "node"))
		w.Equal(object{"a": nil, "b": nil, "contactRef": nil}, at(get[object](w, "viewer", document, vars{"id": m.String()}), "node"),
			"who may not read it there is not told")
		w.Equal(object{"contactRef": object{"type": "CONTACT"}},
			at(get[object](w, "agent", `query($id: ID!) { node(id: $id) { ... on Message { contactRef { type } } } }`, vars{"id": m.String()}), "node"), "the reference alone")
	})
}

func TestNodeFindsWhatTheReaderMaySeeAndNothingElse(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		op := w.deleted("agent", c)
		item := at(get[object](w, "agent", `query($id: ID!) { operation(id: $id) { items(first: 1) { nodes { id } } } }`, vars{"id": op}), "operation", "items", "nodes", 0, "id")
		event := at(get[object](w, "compliance", `{ auditEvents(first: 1) { nodes { id } } }`), "auditEvents", "nodes", 0, "id")
		all := []any{c.String(), w.users["agent"].String(), w.sales.String(), op, event, item, gid.New(gid.Customer).String(), w.tenant.String(), c.String()}
		document := `query($ids: [ID!]!) { nodes(ids: $ids) { __typename id ... on Customer { state name } ... on Operation { verb } ... on User { email teams { name } } } }`
		names := func(as string) []any {
			return column(at(get[object](w, as, document, vars{"ids": all}), "nodes"), "__typename")
		}
		w.Equal([]any{"Customer", "User", "Team", "Operation", nil, nil, nil, nil, "Customer"}, names("agent"))
		w.Equal([]any{nil, "User", "Team", nil, nil, nil, nil, nil, nil}, names("agent2"))
		w.Equal([]any{"Customer", "User", "Team", "Operation", "AuditEvent", nil, nil, nil, "Customer"}, names("compliance"))
		w.Equal([]any{nil, nil, nil, nil, nil, nil, nil, nil, nil}, names("stranger"))
		got := get[object](w, "agent", `query($id: ID!) { node(id: $id) { ... on Record { label state purgeAfter } ... on Customer { name } } }`, vars{"id": c.String()})
		w.Equal("DELETED", at(got, "node", "state"))
		w.Equal("a", at(got, "node", "label"))
		w.Nil(at(get[object](w, "agent2", `query($id: ID!) { operation(id: $id) { id } }`, vars{"id": op}), "operation"))
		w.NotNil(at(get[object](w, "manager", `query($id: ID!) { operation(id: $id) { id } }`, vars{"id": op}), "operation"), "a manager reads the team's operations")
	})
}

func TestViewerIsTheCaller(t *testing.T) {
	each(t, func(w *world) {
		got := get[object](w, "manager", `{ viewer { tenant roles user { name email teams { name } } } }`)
		w.Equal(object{
			"tenant": "acme", "roles": []any{"manager", "agent", "viewer"},
			"user": object{"name": "manager", "email": "manager@acme.example", "teams": []any{object{"name": "Sales"}}},
		}, at(got, "viewer"))
		w.Equal(object{"tenant": "acme", "roles": []any{}}, at(get[object](w, "nobody", `{ viewer { tenant roles } }`), "viewer"))
	})
}

func TestViewerCanFollowsStateAndPolicy(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("manager", "a")
		can := func(as string) any {
			return at(get[object](w, as, `query($id: ID!) { node(id: $id) { ... on Record { viewerCan held } } }`, vars{"id": c.String()}), "node")
		}
		w.Equal(object{"viewerCan": []any{"UPDATE", "DELETE", "VOID", "ARCHIVE", "SUSPEND"}, "held": nil}, can("manager"))
		w.Equal(object{"viewerCan": []any{"UPDATE"}, "held": nil}, can("agent"))
		w.Equal(object{"viewerCan": []any{}, "held": nil}, can("viewer"))
		w.Equal(object{"viewerCan": []any{}, "held": false}, can("compliance"))
		w.deleted("manager", c)
		w.Equal(object{"viewerCan": []any{"RESTORE"}, "held": nil}, can("manager"))
		w.Equal(object{"viewerCan": []any{"PURGE"}, "held": nil}, can("purger"))
		w.Nil(can("viewer"))
	})
}

func (w *world) bin(as, arguments string) []any {
	w.t.Helper()
	return column(at(get[object](w, as, `{ bin(first: 100`+arguments+`) { nodes { label } } }`), "bin", "nodes"), "label")
}

func TestTheBinHoldsTheTopsOfWhatWasDeleted(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.customer("manager", "a"), w.customer("manager", "b")
		early, late := w.contact("manager", a, "early"), w.contact("manager", a, "late")
		w.message("manager", a, "mail", time.Now())
		w.deleted("manager", early)
		w.deleted("manager", a)
		w.deleted("manager", b)
		w.Equal([]any{"b", "a", "early"}, w.bin("manager", ""), "newest first; what came along is below its customer")
		w.EqualValues(3, at(get[object](w, "manager", `{ bin(first: 1) { totalCount } }`), "bin", "totalCount"))
		w.Equal([]any{"early"}, w.bin("manager", ", types: [CONTACT]"))
		w.Equal([]any{"b", "a"}, w.bin("manager", ", types: [CUSTOMER, DEAL, CUSTOMER]"))
		w.Equal([]any{}, w.bin("manager", ", types: []"))
		w.Equal([]any{"b", "a", "early"}, w.bin("manager", `, deletedBy: "`+w.users["manager"].String()+`"`))
		w.Equal([]any{}, w.bin("manager", `, deletedBy: "`+w.users["agent"].String()+`"`))
		w.Equal([]any{}, w.bin("agent2", ""))
		w.Equal([]any{}, w.bin("viewer", ""))
		get[object](w, "manager", `mutation($id: ID!) { restoreRecords(input: {select: {ids: [$id]}}) { operation { changed } } }`, vars{"id": a.String()})
		w.Equal([]any{"b", "early"}, w.bin("manager", ""))
		w.deleted("manager", late)
		w.Equal([]any{"late", "b", "early"}, w.bin("manager", ""))
		got := get[object](w, "purger", `mutation($id: ID!) { purgeRecords(input: {select: {ids: [$id]}}) { operation { changed } } }`, vars{"id": b.String()})
		w.EqualValues(1, at(got, "purgeRecords", "operation", "changed"))
		w.Equal([]any{"late", "early"}, w.bin("manager", ""))
	})
}

func TestTheBinIsPagedAcrossTypes(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("manager", "c")
		var want []any
		for i := range 3 {
			for _, id := range []gid.ID{
				w.customer("manager", fmt.Sprint("c", i)), w.contact("manager", c, fmt.Sprint("p", i)), w.message("manager", c, fmt.Sprint("m", i), time.Now()),
				w.create("manager", "Deal", record.Values{"name": fmt.Sprint("d", i)}),
			} {
				w.deleted("manager", id)
				want = append([]any{id.String()}, want...)
			}
		}
		for _, size := range []int{1, 3, 5, 100} {
			w.Equal(want, w.walk("manager", "bin", "", size, false))
			w.Equal(want, w.walk("manager", "bin", "", size, true))
		}
		w.exec(`UPDATE customers SET state_changed_at = ? WHERE state = 'DELETED'`, w.db.Now())
		w.exec(`UPDATE contacts SET state_changed_at = ? WHERE state = 'DELETED'`, w.db.Now().Truncate(time.Second))
		w.exec(`UPDATE messages SET state_changed_at = ? WHERE state = 'DELETED'`, w.db.Now().Truncate(time.Second))
		whole := w.walk("manager", "bin", "", 100, false)
		w.Len(whole, len(want))
		w.Equal(whole, w.walk("manager", "bin", "", 2, false), "equal times are told apart by id")
		w.Equal(whole, w.walk("manager", "bin", "", 2, true))

		got := get[object](w, "manager", `{ bin(first: 2) { edges { cursor node { __typename id owner { name } } } pageInfo { startCursor endCursor hasNextPage hasPreviousPage } } }`)
		w.Equal(at(got, "bin", "edges", 0, "cursor"), at(got, "bin", "pageInfo", "startCursor"))
		w.Equal("manager", at(got, "bin", "edges", 0, "node", "owner", "name"))
		w.Equal("BAD_USER_INPUT", w.ask("manager", `{ bin(first: 2) { nodes { id } edges { node { id } } } }`).code())
	})
}

func TestHistoryIsOldestFirstAndPaged(t *testing.T) {
	each(t, func(w *world) {
		a := w.customer("manager", "a")
		w.customer("manager", "b")
		for i := range 4 {
			get[object](w, "manager", `mutation($id: ID!, $v: Int!, $n: String) { updateCustomer(input: {id: $id, version: $v, name: $n}) { customer { id } } }`,
				vars{"id": a.String(), "v": i + 1, "n": fmt.Sprint("a", i)})
		}
		document := `{ customers(first: 9) { nodes { history(%s) { totalCount nodes { action version changes { field old new } } pageInfo { hasNextPage hasPreviousPage } } } } }`
		got := get[object](w, "viewer", fmt.Sprintf(document, "first: 2"))
		w.EqualValues(5, at(got, "customers", "nodes", 0, "history", "totalCount"))
		w.EqualValues(1, at(got, "customers", "nodes", 1, "history", "totalCount"))
		w.Equal([]any{"CREATE", "UPDATE"}, column(at(got, "customers", "nodes", 0, "history", "nodes"), "action"))
		w.Equal([]any{object{"field": "name", "old": `"a"`, "new": `"a0"`}}, at(got, "customers", "nodes", 0, "history", "nodes", 1, "changes"))
		w.Equal(object{"hasNextPage": true, "hasPreviousPage": false}, at(got, "customers", "nodes", 0, "history", "pageInfo"))
		w.Equal(object{"hasNextPage": false, "hasPreviousPage": false}, at(got, "customers", "nodes", 1, "history", "pageInfo"))
		got = get[object](w, "viewer", fmt.Sprintf(document, "last: 2"))
		w.Equal([]any{4.0, 5.0}, column(at(got, "customers", "nodes", 0, "history", "nodes"), "version"))
		w.Equal([]any{1.0}, column(at(got, "customers", "nodes", 1, "history", "nodes"), "version"))

		var seen []any
		cursor := any(nil)
		for {
			page := at(get[object](w, "viewer", `query($id: ID!, $c: Cursor) { node(id: $id) { ... on Record { history(first: 2, after: $c) { edges { cursor node { version } } pageInfo { hasNextPage endCursor } } } } }`,
				vars{"id": a.String(), "c": cursor}), "node", "history")
			for i := range at(page, "edges").([]any) {
				seen = append(seen, at(page, "edges", i, "node", "version"))
			}
			if cursor = at(page, "pageInfo", "endCursor"); at(page, "pageInfo", "hasNextPage") != true {
				break
			}
		}
		w.Equal([]any{1.0, 2.0, 3.0, 4.0, 5.0}, seen)
		got = get[object](w, "viewer", `query($ids: [ID!]!) { nodes(ids: $ids) { ... on Record { history(first: 1) { totalCount } } } }`,
			vars{"ids": ids(gid.New(gid.Customer), a, w.users["viewer"], a)})
		w.Equal([]any{nil, object{"history": object{"totalCount": 5.0}}, object{}, object{"history": object{"totalCount": 5.0}}}, at(got, "nodes"))
	})
}

func TestTheHistoryOfARetiredRecordTakesAuditRead(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.deleted("agent", c)
		history := func(as string) any {
			return at(get[object](w, as, `query($id: ID!) { node(id: $id) { ... on Record { history(first: 9) { totalCount nodes { action reason actor { kind user { name } } operation { verb } } } } } }`,
				vars{"id": c.String()}), "node", "history")
		}
		w.Equal(object{"totalCount": 0.0, "nodes": []any{}}, history("agent"))
		w.Equal([]any{"CREATE", "DELETE"}, column(at(history("compliance"), "nodes"), "action"))
		last := at(history("compliance"), "nodes", 1)
		w.Equal(object{
			"action": "DELETE", "reason": "test", "actor": object{"kind": "TOKEN", "user": object{"name": "agent"}}, "operation": object{"verb": "DELETE"},
		}, last)
	})
}

func TestAuditValuesAreErasedWithTheRecord(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("manager", "Jane Roe")
		w.deleted("manager", c)
		document := `query($id: ID!) { auditEvents(first: 9, where: {recordID: $id}) { nodes { action code outcome recordType reason from to version changes { field old new } } } }`
		before := at(get[object](w, "compliance", document, vars{"id": c.String()}), "auditEvents", "nodes")
		w.Contains(fmt.Sprint(before), "Jane Roe")
		get[object](w, "purger", `mutation($id: ID!) { purgeRecords(input: {select: {ids: [$id]}, reason: "law"}) { operation { status } } }`, vars{"id": c.String()})
		after, _ := at(get[object](w, "compliance", document, vars{"id": c.String()}), "auditEvents", "nodes").([]any)
		w.NotContains(fmt.Sprint(after), "Jane Roe")
		w.Equal([]any{"CREATE", "DELETE", "PURGE"}, column(after, "action"), "the log itself stays")
		for _, e := range after[:2] {
			w.Equal("[erased]", at(e, "reason"))
			w.Equal([]any{}, at(e, "changes"))
			w.Equal("CUSTOMER", at(e, "recordType"))
		}
		w.Equal("DELETED", at(after, 2, "from"))
		w.Nil(at(after, 2, "to"))
	})
}

func TestItemsShowRecordsTheReaderMayRead(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("manager", "a")
		p := w.contact("manager", c, "x")
		op := w.deleted("manager", c)
		document := `query($id: ID!) { operation(id: $id) { canUndo items(first: 9) { nodes { recordID type label direct depth priorState outcome record { __typename label } } } } }`
		items := at(get[object](w, "manager", document, vars{"id": op}), "operation", "items", "nodes")
		w.Equal([]any{
			object{"recordID": c.String(), "type": "CUSTOMER", "label": "a", "direct": true, "depth": 0.0, "priorState": "ACTIVE", "outcome": "CHANGED", "record": object{"__typename": "Customer", "label": "a"}},
			object{"recordID": p.String(), "type": "CONTACT", "label": "x", "direct": false, "depth": 1.0, "priorState": "ACTIVE", "outcome": "CHANGED", "record": object{"__typename": "Contact", "label": "x"}},
		}, items)
		w.exec(`UPDATE contacts SET owner_id = ?, team_id = ? WHERE id = ?`, w.users["agent2"], w.support, p)
		items = at(get[object](w, "manager", document, vars{"id": op}), "operation", "items", "nodes")
		w.Nil(at(items, 1, "record"))
		w.Nil(at(items, 1, "label"))
		w.Equal("a", at(items, 0, "label"))
		unknown := gid.New(gid.Tenant)
		got := get[object](w, "manager", `mutation($ids: [ID!]!) { deleteRecords(input: {select: {ids: $ids}}) { operation { items(first: 9) { nodes { type label outcome code message record { id } } } } } }`, vars{"ids": ids(unknown, c)})
		w.Equal(object{"type": nil, "label": nil, "outcome": "FAILED", "code": "NOT_FOUND", "message": "There is no such record.", "record": nil}, at(got, "deleteRecords", "operation", "items", "nodes", 0))
	})
}

func TestAnOperationCanBeUndoneOnce(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("manager", "a")
		op := w.deleted("manager", c)
		can := func(as, id string) any {
			return at(get[object](w, as, `query($id: ID!) { operation(id: $id) { canUndo undoneBy { verb } } }`, vars{"id": id}), "operation")
		}
		w.Equal(object{"canUndo": true, "undoneBy": nil}, can("manager", op))
		w.Equal(object{"canUndo": false, "undoneBy": nil}, can("compliance", op), "to take it back is to restore")
		got := get[object](w, "manager", `mutation($id: ID!) { undoOperation(input: {id: $id}) { operation { id canUndo changed } } }`, vars{"id": op})
		w.Equal(false, at(got, "undoOperation", "operation", "canUndo"))
		w.Equal(object{"canUndo": false, "undoneBy": object{"verb": "UNDO"}}, can("manager", op))
		unchanged := at(get[object](w, "manager", `mutation($id: ID!) { restoreRecords(input: {select: {ids: [$id]}}) { operation { canUndo } } }`, vars{"id": c.String()}), "restoreRecords", "operation", "canUndo")
		w.Equal(false, unchanged)
	})
}

func TestInterfacesAnswerEveryRecordType(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("manager", "a")
		all := []gid.ID{c, w.contact("manager", c, "x"), w.create("manager", "Deal", record.Values{"name": "d"}), w.message("manager", c, "m", time.Now()),
			w.create("manager", "Call", record.Values{"startedAt": time.Now(), "toNumber": "+861012345678"}), w.create("manager", "Task", record.Values{"title": "t"}),
			w.create("manager", "Note", record.Values{"body": "n", "happenedAt": time.Now()}),
			w.create("manager", "Attachment", record.Values{"filename": "f", "customerID": c}),
		}
		w.Len(all, len(ent.RecordTypes), "a record of each type")
		w.deleted("manager", all...)
		fields := `__typename id type label state stateChangedAt stateChangedBy { name } stateReason operation { verb } purgeAfter suspendedUntil held owner { name } team { name } version createdAt updatedAt viewerCan history(first: 1) { totalCount }`
		got := get[object](w, "manager", `query($ids: [ID!]!) { nodes(ids: $ids) { ... on Record { `+fields+` } } bin(first: 9) { nodes { `+fields+` } } }`, vars{"ids": ids(all...)})
		w.Len(at(got, "nodes"), len(all))
		for _, n := range append(at(got, "nodes").([]any), at(got, "bin", "nodes").([]any)...) {
			w.Equal("manager", at(n, "stateChangedBy", "name"))
			w.Equal("DELETE", at(n, "operation", "verb"))
			w.Equal("test", at(n, "stateReason"))
			w.Equal("Sales", at(n, "team", "name"))
			w.NotNil(at(n, "purgeAfter"))
			w.Equal(strings.ToUpper(fmt.Sprint(at(n, "__typename"))), at(n, "type"))
		}
	})
}

func TestIntrospectionTellsOfTheDirectivesThatAreServed(t *testing.T) {
	each(t, func(w *world) {
		var got struct {
			Schema struct{ Directives []struct{ Name string } } `json:"__schema"`
		}
		a := w.ask("admin", `{ __schema { directives { name } } }`)
		w.Empty(a.Errors)
		w.NoError(json.Unmarshal(a.Data, &got))
		var names []string
		for _, d := range got.Schema.Directives {
			names = append(names, d.Name)
		}
		w.ElementsMatch([]string{"authz", "deprecated", "include", "oneOf", "public", "skip", "specifiedBy"}, names)
		w.Equal("GRAPHQL_VALIDATION_FAILED", w.ask("admin", `{ ... @defer { viewer { tenant } } }`).code())
	})
}
