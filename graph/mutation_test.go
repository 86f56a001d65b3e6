package graph_test

import (
	"fmt"
	"testing"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
)

const customerCount = `{ customers(first: 1, states: [ACTIVE, SUSPENDED, ARCHIVED, VOIDED, DELETED]) { totalCount } }`

func (w *world) customers() any {
	return at(get[object](w, "admin", customerCount), "customers", "totalCount")
}

func TestADocumentHappensAsAWholeOrNotAtAll(t *testing.T) {
	each(t, func(w *world) {
		for name, document := range map[string]string{
			"a later mutation is refused":        `mutation { a: createCustomer(input: {name: "a"}) { customer { id } } b: createCustomer(input: {name: ""}) { customer { id } } }`,
			"an earlier mutation is refused":     `mutation { b: createCustomer(input: {name: ""}) { customer { id } } a: createCustomer(input: {name: "a"}) { customer { id } } }`,
			"a field below a payload cannot be":  `mutation { createCustomer(input: {name: "a"}) { customer { contacts(first: 0) { totalCount } } } }`,
			"an argument below a payload is bad": `mutation { createCustomer(input: {name: "a"}) { customer { contacts(first: 1, after: "x") { totalCount } } } }`,
		} {
			a := w.ask("agent", document)
			w.NotEmpty(a.Errors, name)
			if a.Data != nil {
				w.JSONEq("null", string(a.Data), name)
			}
			w.EqualValues(0, w.customers(), name)
		}
		got := get[object](w, "agent", `mutation { a: createCustomer(input: {name: "a"}) { customer { name } } b: createCustomer(input: {name: "b"}) { customer { name } } }`)
		w.Equal("a", at(got, "a", "customer", "name"))
		w.EqualValues(2, w.customers())
		w.EqualValues(2, at(get[object](w, "compliance", `{ auditEvents(first: 9, where: {action: "CREATE"}) { totalCount } }`), "auditEvents", "totalCount"),
			"what was rolled back left no event")
	})
}

func TestReadsBelowAMutationSeeWhatItWrote(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		person := w.contact("agent", c, "x")
		got := get[object](w, "agent", `mutation($c: ID!, $p: ID!) {
			update: updateContact(input: {id: $p, version: 1, name: "y"}) { contact { name customer { contacts(first: 5) { nodes { name } } } } }
			delete: deleteRecords(input: {select: {ids: [$c]}}) { operation { changed actor { name } items(first: 5) { nodes {
				label outcome record { state viewerCan history(last: 1) { nodes { action } } ... on Contact { customer { name state } } } } } } }
		}`, vars{"c": c.String(), "p": person.String()})
		w.Equal([]any{"y"}, column(at(got, "update", "contact", "customer", "contacts", "nodes"), "name"))
		items, _ := at(got, "delete", "operation", "items", "nodes").([]any)
		w.Equal([]any{"a", "y"}, column(items, "label"))
		w.Equal("DELETED", at(items, 1, "record", "state"))
		w.Equal([]any{"RESTORE"}, at(items, 1, "record", "viewerCan"))
		w.Equal("agent", at(got, "delete", "operation", "actor", "name"))
	})
}

func TestAbsentKeepsAndNullClears(t *testing.T) {
	each(t, func(w *world) {
		got := get[object](w, "agent", `mutation { createCustomer(input: {name: "a", email: "A@Example.com", phone: "1", kind: PERSON, endedAt: "2026-01-02T03:04:05.000006Z"}) {
			customer { id version kind status email phone endedAt owner { name } team { name } createdAt } } }`)
		c := at(got, "createCustomer", "customer")
		w.Equal("PERSON", at(c, "kind"))
		w.Equal("CUSTOMER", at(c, "status"))
		w.Equal("2026-01-02T03:04:05.000006Z", at(c, "endedAt"))
		w.Equal("agent", at(c, "owner", "name"))
		w.Equal("Sales", at(c, "team", "name"))
		got = get[object](w, "agent", `mutation($id: ID!) { updateCustomer(input: {id: $id, version: 1, phone: null, status: LEAD}) { customer { version email phone status name kind } } }`,
			vars{"id": at(c, "id")})
		w.Equal(object{"version": 2.0, "email": "A@Example.com", "phone": nil, "status": "LEAD", "name": "a", "kind": "PERSON"}, at(got, "updateCustomer", "customer"))
		a := w.ask("agent", `mutation($id: ID!) { updateCustomer(input: {id: $id, version: 2, name: null}) { customer { id } } }`, vars{"id": at(c, "id")})
		w.Equal("BAD_USER_INPUT", a.code(), "a required field is not cleared: %s", a.raw)
		w.Equal([]any{"name"}, a.Errors[0].Extensions["fields"])
	})
}

func TestAMessageHasItsRecipients(t *testing.T) {
	each(t, func(w *world) {
		got := get[object](w, "agent", `mutation($r: [RecipientInput!]) { createMessage(input: {sentAt: "2026-01-01T00:00:00Z", subject: "s", recipients: $r}) {
			message { id recipients { address name kind } } } }`, vars{"r": []object{{"address": "a@example.com"}, {"address": "b@example.com", "name": "B", "kind": "CC"}}})
		w.Equal([]any{
			object{"address": "a@example.com", "name": nil, "kind": "TO"}, object{"address": "b@example.com", "name": "B", "kind": "CC"},
		}, at(got, "createMessage", "message", "recipients"))
		id := at(got, "createMessage", "message", "id")
		got = get[object](w, "agent", `mutation($id: ID!) { updateMessage(input: {id: $id, version: 1, subject: "t"}) { message { recipients { address } } } }`, vars{"id": id})
		w.Len(at(got, "updateMessage", "message", "recipients"), 2, "absent keeps them")
		got = get[object](w, "agent", `mutation($id: ID!) { updateMessage(input: {id: $id, version: 2, recipients: [{address: "c@example.com"}]}) { message { recipients { address } } } }`, vars{"id": id})
		w.Equal([]any{"c@example.com"}, column(at(got, "updateMessage", "message", "recipients"), "address"))
	})
}

func TestAFilterMustCompareSomething(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.contact("agent", c, "x")
		for _, filter := range []string{
			`{}`, `{or: [{}]}`, `{or: []}`, `{and: [{}, {}]}`, `{not: {}}`, `{idNotIn: []}`, `{idIn: []}`, `{not: {idIn: []}}`, `{nameNotIn: []}`,
			`{or: [{name: "a"}, {}]}`, `{not: {or: [{}]}}`, `{hasContactsWith: [{}]}`, `{hasContactsWith: []}`, `{and: [{idNotIn: []}]}`, `{emailIsNil: false}`, `{name: "a", not: {}}`,
		} {
			a := w.ask("agent", `mutation { deleteRecords(input: {select: {customers: `+filter+`}, expectedCount: 1}) { operation { id } } }`)
			w.Equal("INVALID_FILTER", a.code(), "%s: %s", filter, a.raw)
		}
		w.EqualValues(1, at(get[object](w, "agent", `{ customers(first: 1) { totalCount } }`), "customers", "totalCount"))
		for _, filter := range []string{
			`{name: "a"}`, `{or: [{name: "nobody"}, {nameHasPrefix: "a"}]}`, `{not: {name: "b"}}`, `{emailIsNil: true}`, `{idNotIn: ["` + gid.New(gid.Customer).String() + `"]}`,
			`{hasContacts: true}`, `{hasContactsWith: [{name: "x"}]}`, `{not: {hasDeals: true}}`, `{kind: COMPANY}`, `{createdAtGT: "2020-01-01T00:00:00Z"}`,
		} {
			got := get[object](w, "agent", `mutation { deleteRecords(input: {select: {customers: `+filter+`}, expectedCount: 1}) { operation { id changed } } }`)
			w.EqualValues(2, at(got, "deleteRecords", "operation", "changed"), filter)
			got = get[object](w, "agent", `mutation($id: ID!) { undoOperation(input: {id: $id}) { operation { changed verb } } }`, vars{"id": at(got, "deleteRecords", "operation", "id")})
			w.EqualValues(2, at(got, "undoOperation", "operation", "changed"), filter)
		}
		a := w.ask("agent", `mutation { deleteRecords(input: {select: {customers: {name: "a"}}, expectedCount: 2}) { operation { id } } }`)
		w.Equal("CONFLICT", a.code())
		w.EqualValues(1, a.Errors[0].Extensions["actual"])
	})
}

func TestARepeatedRequestHasOneEffect(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("manager", "a")
		document := `mutation($ids: [ID!]!, $r: String, $k: String) { deleteRecords(input: {reason: $r, select: {ids: $ids}, idempotencyKey: $k}) { operation { id changed } } }`
		first := get[object](w, "manager", document, vars{"ids": ids(c), "r": "x", "k": "key"})
		again := get[object](w, "manager", `mutation { deleteRecords(input: {select: {ids: ["`+c.String()+`"]}, idempotencyKey: "key", reason: "x"}) { operation { id changed } } }`)
		w.Equal(first, again, "literals and the order of fields make no difference")
		w.Equal("IDEMPOTENCY_MISMATCH", w.ask("manager", document, vars{"ids": ids(c), "r": "y", "k": "key"}).code())
		w.Equal("IDEMPOTENCY_MISMATCH", w.ask("manager", `mutation($id: ID!) { voidRecords(input: {select: {ids: [$id]}, reason: "x", idempotencyKey: "key"}) { operation { id } } }`, vars{"id": c.String()}).code())
	})
}

func TestVerbsTakeWhatTheInputSays(t *testing.T) {
	each(t, func(w *world) {
		c := w.create("manager", "Customer", record.Values{"name": "a", "email": "a@example.com"})
		w.create("manager", "Deal", record.Values{"name": "d", "customerID": c})
		one := func(as, document string) any {
			got := get[object](w, as, `mutation($c: ID!) { `+document+` { operation { status mode reason cascade changed failed items(first: 9) { nodes { outcome code message blockers { code type count field value state version allowed hidden record { label } } } } } } }`, vars{"c": c.String()})
			for _, v := range got {
				return at(v, "operation")
			}
			return nil
		}
		op := one("manager", `voidRecords(input: {select: {ids: [$c]}, reason: "gone"})`)
		w.Equal("FAILED", at(op, "status"))
		w.Equal("HAS_DEPENDENTS", at(op, "items", "nodes", 0, "code"))
		w.Equal("Live records depend on it.", at(op, "items", "nodes", 0, "message"))
		w.Equal("DEAL", at(op, "items", "nodes", 0, "blockers", 0, "type"))
		w.EqualValues(1, at(op, "items", "nodes", 0, "blockers", 0, "count"))

		op = one("manager", `deleteRecords(input: {select: {records: [{id: $c, version: 9}]}})`)
		w.Equal("CONFLICT", at(op, "items", "nodes", 0, "code"))
		w.EqualValues(1, at(op, "items", "nodes", 0, "blockers", 0, "version"))
		w.Equal("ACTIVE", at(op, "items", "nodes", 0, "blockers", 0, "state"))

		op = one("manager", `voidRecords(input: {select: {records: [{id: $c, version: 1}]}, reason: "gone", cascade: true, mode: BEST_EFFORT})`)
		w.Equal("SUCCEEDED", at(op, "status"))
		w.Equal("BEST_EFFORT", at(op, "mode"))
		w.Equal("gone", at(op, "reason"))
		w.EqualValues(2, at(op, "changed"))

		w.create("manager", "Customer", record.Values{"name": "twin", "email": "A@Example.COM"})
		op = one("manager", `restoreRecords(input: {select: {ids: [$c]}})`)
		w.Equal("UNIQUE_CONFLICT", at(op, "items", "nodes", 0, "code"))
		w.Equal(object{
			"code": "UNIQUE_CONFLICT", "type": "CUSTOMER", "count": nil, "field": "email", "value": "a@example.com", "state": nil, "version": nil, "allowed": nil,
			"hidden": false, "record": object{"label": "twin"},
		}, at(op, "items", "nodes", 0, "blockers", 0))
		op = one("manager", `restoreRecords(input: {select: {ids: [$c]}, overrides: [{id: $c, email: "b@example.com"}]})`)
		w.Equal("SUCCEEDED", at(op, "status"))

		w.Equal("FORBIDDEN", w.ask("manager", `mutation($c: ID!) { purgeRecords(input: {select: {ids: [$c]}}) { operation { id } } }`, vars{"c": c.String()}).code())
		op = one("purger", `purgeRecords(input: {select: {ids: [$c]}})`)
		w.Equal("NOT_RETIRED", at(op, "items", "nodes", 0, "code"))
	})
}

func TestEverySelectorOfOneTypeSelects(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.contact("agent", c, "x")
		w.create("agent", "Deal", record.Values{"name": "x"})
		w.create("agent", "Message", record.Values{"subject": "x", "sentAt": w.db.Now()})
		for _, selector := range []string{`contacts: {name: "x"}`, `deals: {name: "x"}`, `messages: {subject: "x"}`, `customers: {name: "a"}`} {
			got := get[object](w, "agent", fmt.Sprintf(`mutation { deleteRecords(input: {select: {%s}, expectedCount: 1, states: [ACTIVE]}) { operation { id changed } } }`, selector))
			w.EqualValues(1, at(got, "deleteRecords", "operation", "changed"), selector)
			got = get[object](w, "agent", `mutation($id: ID!) { restoreRecords(input: {select: {operation: $id}}) { operation { changed } } }`, vars{"id": at(got, "deleteRecords", "operation", "id")})
			w.EqualValues(1, at(got, "restoreRecords", "operation", "changed"), selector)
			if selector == `contacts: {name: "x"}` {
				w.deleted("agent", gidOf(w, "contacts"))
			}
		}
	})
}

// gidOf is the id of the first of a list.
func gidOf(w *world, list string) gid.ID {
	text, _ := at(get[object](w, "agent", `{ `+list+`(first: 1) { nodes { id } } }`), list, "nodes", 0, "id").(string)
	id, err := gid.Parse(text)
	w.NoError(err)
	return id
}

func TestADocumentThatLostADeadlockIsTriedAgain(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.customer("manager", "a"), w.customer("manager", "b")
		document := `mutation($x: ID!, $y: ID!) { x: voidRecords(input: {select: {ids: [$x]}, reason: "r"}) { operation { id } } y: voidRecords(input: {select: {ids: [$y]}, reason: "r"}) { operation { id } } }`
		for range 10 { // each locks what the other wants next
			answers := make(chan answer)
			for _, v := range []vars{{"x": a.String(), "y": b.String()}, {"x": b.String(), "y": a.String()}} {
				go func() { answers <- w.ask("manager", document, v) }()
			}
			for range 2 {
				got := <-answers
				w.Empty(got.Errors, "%s\n%s", got.raw, w.log)
			}
			get[object](w, "manager", `mutation($ids: [ID!]!) { restoreRecords(input: {select: {ids: $ids}}) { operation { changed } } }`, vars{"ids": ids(a, b)})
		}
	})
}

func TestCreatingOverADeletedTwinHintsAtIt(t *testing.T) {
	each(t, func(w *world) {
		c := w.create("agent", "Customer", record.Values{"name": "a", "email": "a@example.com"})
		w.deleted("agent", c)
		a := w.ask("agent", `mutation { createCustomer(input: {name: "b", email: "A@example.com"}) { customer { id } } }`)
		w.Empty(a.Errors)
		w.Contains(a.raw, `"extensions":{"hints":[{"code":"IN_BIN","field":"email","record":"`+c.String()+`"}]}`)
	})
}
