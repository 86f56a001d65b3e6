package graph_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/policy"
	"github.com/lethe-crm/lethe/internal/record"
)

// hide denies a user something with a field.
func (w *world) hide(user, object, action, condition string) {
	w.t.Helper()
	w.amend(casbin.Permission(w.userSubject(user), w.tenant.String(), object, action, "deny", condition))
}

// amend adds rules to the policy in force.
func (w *world) amend(rules ...casbin.Rule) {
	w.t.Helper()
	w.policy.mu.Lock()
	w.policy.rules[w.tenant.String()] = append(slices.Clone(w.policy.rules[w.tenant.String()]), rules...)
	w.policy.edits++
	w.policy.mu.Unlock()
	w.NoError(w.control.Refresh(w.t.Context(), w.tenant))
}

// masked are the paths that an answer names as withheld.
func (a answer) masked() []string {
	a.w.t.Helper()
	var paths []string
	list, _ := a.Extensions["masked"].([]any)
	for _, m := range list {
		a.w.Equal("FIELD_FORBIDDEN", at(m, "code"))
		path, _ := at(m, "path").([]any)
		parts := make([]string, len(path))
		for i, p := range path {
			parts[i] = fmt.Sprint(p)
		}
		paths = append(paths, strings.Join(parts, "."))
	}
	return paths
}

// secrets are records of every type with a value of its own in each field that can be hidden.
func (w *world) secrets(as string) (map[string]gid.ID, map[string]string) {
	w.t.Helper()
	made, values := map[string]gid.ID{}, map[string]string{}
	write := func(typ string, more record.Values) {
		fields := record.Values{}
		for i, name := range access.Maskable(typ) {
			secret := fmt.Sprintf("secret%s%dx", strings.ToLower(typ), i)
			switch {
			case typ == "Deal" && name == "amount":
				secret = "12345.5"
				fields[name] = 12345.5
			case name == "recipients":
				fields[name] = []map[string]any{{"address": secret + "@example.com", "kind": "TO"}}
			case name == "email" || name == "sender":
				fields[name] = secret + "@example.com"
			case strings.HasSuffix(name, "Number"):
				secret = fmt.Sprintf("+4930%07d", 1000+i)
				fields[name] = secret
			default:
				fields[name] = secret
			}
			values[typ+"."+name] = secret
		}
		maps.Copy(fields, more)
		made[typ] = w.create(as, typ, fields)
	}
	write("Customer", nil)
	c := made["Customer"]
	write("Contact", record.Values{"customerID": c})
	write("Deal", record.Values{"customerID": c})
	write("Message", record.Values{"customerID": c, "sentAt": time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)})
	write("Call", record.Values{"customerID": c, "startedAt": time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)})
	write("Task", record.Values{"customerID": c})
	write("Note", record.Values{"customerID": c, "happenedAt": time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)})
	write("Attachment", record.Values{"customerID": c})
	return made, values
}

const everyField = `
fragment c on Customer { name email phone domain label }
fragment p on Contact { name email phone title label }
fragment d on Deal { name amount label }
fragment m on Message { sender senderName subject body label recipients { address name kind } }
fragment l on Call { fromNumber toNumber label }
fragment t on Task { title body label }
fragment n on Note { body label }
fragment a on Attachment { filename label }
fragment h on Record { history(first: 20) { nodes { reason changes { field old new } } } }
fragment r on Record { id ...c ...p ...d ...m ...l ...t ...n ...a ...h }
`

// documents read records of every type by every way there is.
func documents(made map[string]gid.ID) map[string]string {
	var all []string
	for _, id := range made {
		all = append(all, fmt.Sprintf("%q", id))
	}
	list := strings.Join(all, ", ")
	docs := map[string]string{
		"nodes":    `{ nodes(ids: [` + list + `]) { ...r } }`,
		"timeline": fmt.Sprintf(`{ timeline(customer: %q, first: 9) { edges { node { ... on Record { ...r } } } } }`, made["Customer"]),
		"edges": `{ customers(first: 9) { edges { node { ...c contacts(first: 9) { nodes { ...p } } deals(first: 9) { nodes { ...d } } messages(first: 9) { edges { node { ...m } } }
			calls(first: 9) { nodes { ...l } } tasks(first: 9) { nodes { ...t } } notes(first: 9) { nodes { ...n } } attachments(first: 9) { nodes { ...a } } } } } }`,
		"owners":  `{ contacts(first: 9) { nodes { customer { ...c } } } deals(first: 9) { nodes { customer { ...c } } } messages(first: 9) { nodes { customer { ...c } } } }`,
		"audit":   `{ auditEvents(first: 50) { nodes { recordType reason changes { field old new } } } }`,
		"preview": fmt.Sprintf(`{ preview(input: {delete: {select: {ids: [%q]}, cascade: true}}) { items(first: 20) { nodes { label record { ...r } } } brokenThreads { subject } blockers { value record { ...r } } } }`, made["Customer"]),
	}
	for _, t := range ent.RecordTypes {
		docs["list of "+t.Name] = `{ ` + strings.ToLower(t.Name) + `s(first: 9) { totalCount nodes { ...r } } }`
		docs["node "+t.Name] = fmt.Sprintf(`{ node(id: %q) { ...r } }`, made[t.Name])
	}
	for name, d := range docs {
		docs[name] = d + "\n" + fragmentsOf(d)
	}
	return docs
}

// fragmentsOf are the fragments that a document uses; unused ones are not allowed.
func fragmentsOf(document string) string {
	if strings.Contains(document, "...r ") || strings.Contains(document, "...r}") {
		return everyField
	}
	var used []string
	for line := range strings.SplitSeq(strings.TrimSpace(everyField), "\n") {
		if name := strings.Fields(line)[1]; strings.Contains(document, "..."+name+" ") || strings.Contains(document, "..."+name+"}") {
			used = append(used, line)
		}
	}
	return strings.Join(used, "\n")
}

func TestAHiddenFieldIsInNoAnswer(t *testing.T) {
	each(t, func(w *world) {
		made, values := w.secrets("admin")
		// The manager reads all of it, and what happened to it; of nothing he sees a field that can be hidden.
		w.exec(`UPDATE customers SET owner_id = ?`, w.users["manager"])
		for _, t := range ent.RecordTypes {
			w.exec(`UPDATE `+t.Table+` SET team_id = ? WHERE tenant_id = ?`, w.sales, w.tenant)
			w.amend(casbin.Permission(w.userSubject("compliance"), w.tenant.String(), t.Name, "delete", "allow", "any"))
			for _, field := range access.Maskable(t.Name) {
				w.hide("compliance", t.Name+"."+field, "*", "any")
			}
		}
		for name, document := range documents(made) {
			open := w.ask("admin", document)
			w.Empty(open.Errors, "%s: %s", name, open.raw)
			w.Empty(open.masked(), name)
			hidden := w.ask("compliance", document)
			w.Empty(hidden.Errors, "%s: %s", name, hidden.raw)
			shown := 0
			for field, secret := range values {
				if strings.Contains(open.raw, secret) {
					shown++
				}
				w.NotContains(hidden.raw, secret, "%s shows %s", name, field)
			}
			w.NotZero(shown, "%s shows nothing to anybody: %s", name, open.raw)
			w.NotEmpty(hidden.masked(), "%s: %s", name, hidden.raw)
		}
	})
}

func TestAHiddenFieldIsNullAndNamedOnce(t *testing.T) {
	each(t, func(w *world) {
		with := w.create("agent", "Customer", record.Values{"name": "a", "phone": "+491", "email": "a@example.com"})
		without := w.create("agent", "Customer", record.Values{"name": "b"})
		w.hide("agent", "Customer.phone", "read", "any")
		got := w.ask("agent", fmt.Sprintf(`{ nodes(ids: [%q, %q]) { ... on Customer { name phone tel: phone email } } }`, with, without))
		w.Empty(got.Errors, got.raw)
		w.JSONEq(`{"nodes": [{"name": "a", "phone": null, "tel": null, "email": "a@example.com"}, {"name": "b", "phone": null, "tel": null, "email": null}]}`, string(got.Data),
			"whether there is a number is hidden as well")
		w.Equal([]string{"nodes.0.phone", "nodes.0.tel", "nodes.1.phone", "nodes.1.tel"}, got.masked())
		other := w.ask("admin", fmt.Sprintf(`{ node(id: %q) { ... on Customer { phone } } }`, with))
		w.JSONEq(`{"node": {"phone": "+491"}}`, string(other.Data))
		w.Empty(other.masked())
	})
}

func TestAFieldIsHiddenByTheRecord(t *testing.T) {
	each(t, func(w *world) {
		mine := w.create("agent", "Customer", record.Values{"name": "mine", "phone": "+491"})
		ours := w.create("manager", "Customer", record.Values{"name": "ours", "phone": "+492"})
		w.hide("agent", "Customer.phone", "read", "not (owner == me)")
		w.hide("agent", "Customer.name", "read", "state == ARCHIVED")
		for _, document := range []string{
			`{ customers(first: 9, orderBy: {field: CREATED_AT, direction: ASC}) { nodes { phone } } }`, // owner is not selected
			`{ customers(first: 9, orderBy: {field: CREATED_AT, direction: ASC}) { edges { node { phone } } } }`,
			fmt.Sprintf(`{ nodes(ids: [%q, %q]) { ... on Customer { phone owner { id } viewerCan } } }`, mine, ours),
		} {
			got := w.ask("agent", document)
			w.Empty(got.Errors, got.raw)
			w.Contains(got.raw, "+491")
			w.NotContains(got.raw, "+492")
			w.Len(got.masked(), 1, got.raw)
		}
		w.exec(`UPDATE customers SET state = 'ARCHIVED' WHERE id = ?`, mine)
		got := w.ask("agent", fmt.Sprintf(`{ node(id: %q) { ... on Customer { name label phone } } }`, mine))
		w.JSONEq(`{"node": {"name": null, "label": null, "phone": "+491"}}`, string(got.Data))
		w.Equal([]string{"node.label", "node.name"}, got.masked())
		// What happened to it is told by the same rule.
		history := `{ node(id: %q) { ... on Customer { history(first: 1) { nodes { changes { field new old } } } } } }`
		got = w.ask("agent", fmt.Sprintf(history, ours))
		w.NotContains(got.raw, "+492")
		w.Contains(got.raw, "ours")
		w.Len(got.masked(), 2, got.raw)
		w.Contains(w.ask("agent", fmt.Sprintf(history, mine)).raw, "+491")
	})
}

func TestAFieldMayShowInLiveRecordsAlone(t *testing.T) {
	each(t, func(w *world) {
		live := w.create("agent", "Customer", record.Values{"name": "live", "phone": "+491"})
		gone := w.create("agent", "Customer", record.Values{"name": "gone", "phone": "+492"})
		w.hide("agent", "Customer.phone", "read_retired", "any")
		w.deleted("agent", gone)
		got := w.ask("agent", fmt.Sprintf(`{ nodes(ids: [%q, %q]) { ... on Customer { name phone } } bin(first: 9) { nodes { ... on Customer { name phone } } } }`, live, gone))
		w.Empty(got.Errors, got.raw)
		w.Contains(got.raw, "+491")
		w.NotContains(got.raw, "+492")
		w.Equal([]string{"bin.nodes.0.phone", "nodes.1.phone"}, got.masked())
	})
}

func TestAHiddenFieldIsNotComparedOrOrderedBy(t *testing.T) {
	each(t, func(w *world) {
		c := w.create("agent", "Customer", record.Values{"name": "c", "phone": "+491"})
		w.contact("agent", c, "p")
		w.hide("agent", "Customer.phone", "read", "not (owner == me)") // he sees those of his own
		w.hide("agent", "Customer.name", "read", "any")
		w.hide("agent", "Message.senderName", "read", "any")
		for _, document := range []string{
			`{ customers(first: 9, where: {phone: "+491"}) { totalCount } }`,
			`{ customers(first: 9, where: {phoneIsNil: true}) { totalCount } }`,
			`{ customers(first: 9, where: {not: {phoneGT: "+4"}}) { totalCount } }`,
			`{ customers(first: 9, where: {or: [{status: CUSTOMER}, {and: [{phoneHasPrefix: "+4"}]}]}) { totalCount } }`,
			`{ customers(first: 9, where: {phoneIn: ["+491"]}) { nodes { id } } }`,
			`{ customers(first: 9, orderBy: {field: NAME, direction: ASC}) { nodes { id } } }`,
			`{ contacts(first: 9, where: {hasCustomerWith: [{nameContains: "c"}]}) { totalCount } }`,
			`{ contacts(first: 9) { nodes { customer { deals(first: 9, where: {hasCustomerWith: {phoneNEQ: "x"}}) { totalCount } } } } }`,
			`{ ...f } fragment f on Query { customers(first: 9, where: {phoneContains: "49"}) { totalCount } }`,
			`{ ... on Query { messages(first: 9, where: {senderName: "x"}) { totalCount } } }`,
			`mutation { deleteRecords(input: {select: {customers: {phone: "+491"}}}) { operation { id } } }`,
			`{ preview(input: {delete: {select: {customers: {name: "c"}}}}) { total } }`,
		} {
			got := w.ask("agent", document)
			w.Equal("FIELD_FORBIDDEN", got.code(), "%s: %s", document, got.raw)
			w.Contains([]any{"null", ""}, string(got.Data), document)
			w.NotEmpty(got.Errors[0].Extensions["decisionID"])
		}
		byVariable := `query($w: CustomerWhereInput, $o: CustomerOrder) { customers(first: 9, where: $w, orderBy: $o) { totalCount nodes { id } } }`
		for _, v := range []vars{
			{"w": object{"phone": "+491"}},
			{"w": object{"and": []any{object{"not": object{"phoneNotNil": true}}}}},
			{"w": object{"and": object{"phoneNotNil": true}}}, // a single value where a list is declared
			{"o": object{"field": "NAME", "direction": "DESC"}},
		} {
			w.Equal("FIELD_FORBIDDEN", w.ask("agent", byVariable, v).code(), v)
			w.Empty(w.ask("admin", byVariable, v).Errors, v)
		}
		w.Empty(w.ask("agent", byVariable, vars{"w": object{"status": "CUSTOMER", "phone": nil}}).Errors, "null compares nothing")
		w.Empty(w.ask("agent", `{ messages(first: 9, where: {sender: "x"}) { totalCount } }`).Errors, "another field of a longer name is hidden")
		w.sql.take()
		w.ask("agent", `{ customers(first: 9, where: {phone: "+491"}) { totalCount } }`)
		for _, statement := range w.sql.take() {
			w.NotContains(statement, "customers", "it is refused before anything is read")
		}
		events := at(get[object](w, "admin", `{ auditEvents(last: 1, where: {outcome: REFUSED}) { nodes { outcome code action recordType } } }`), "auditEvents", "nodes", 0)
		w.Equal(object{"outcome": "REFUSED", "code": "FIELD_FORBIDDEN", "action": "READ", "recordType": "CUSTOMER"}, events)
	})
}

func TestAFieldIsWrittenByWhoMay(t *testing.T) {
	each(t, func(w *world) {
		c := w.create("admin", "Customer", record.Values{"name": "c", "phone": "+491", "email": "c@example.com", "ownerID": w.users["agent"], "teamID": w.sales})
		m := w.create("admin", "Message", record.Values{"subject": "s", "ownerID": w.users["agent"], "sentAt": time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)})
		w.hide("agent", "Customer.phone", "update", "any")
		w.hide("agent", "Customer.domain", "create", "any")
		w.hide("agent", "Customer.name", "update", `status == FORMER`)
		w.hide("agent", "Customer.email", "read", "any")
		w.hide("agent", "Message.recipients", "update", "any")
		update := func(fields string) answer {
			v := at(get[object](w, "admin", fmt.Sprintf(`{ node(id: %q) { ... on Record { version } } }`, c)), "node", "version")
			return w.ask("agent", fmt.Sprintf(`mutation { updateCustomer(input: {id: %q, version: %v, %s}) { customer { phone email name } } }`, c, v, fields))
		}
		for _, fields := range []string{`phone: "+492"`, `phone: null`, `name: "d", phone: "+492"`, `email: null`, `name: "d", status: FORMER`} {
			got := update(fields)
			w.Equal("FIELD_FORBIDDEN", got.code(), "%s: %s", fields, got.raw)
		}
		w.exec(`UPDATE customers SET status = 'FORMER' WHERE id = ?`, c)
		w.Equal("FIELD_FORBIDDEN", update(`name: "d", status: CUSTOMER`).code(), "the record as it was decides too")
		w.exec(`UPDATE customers SET status = 'CUSTOMER' WHERE id = ?`, c)
		got := update(`name: "d"`)
		w.JSONEq(`{"updateCustomer": {"customer": {"phone": "+491", "name": "d", "email": null}}}`, string(got.Data), got.raw)
		w.Equal([]string{"updateCustomer.customer.email"}, got.masked())
		kept := get[object](w, "admin", fmt.Sprintf(`{ node(id: %q) { ... on Customer { phone email name } } }`, c))
		w.Equal(object{"node": object{"phone": "+491", "email": "c@example.com", "name": "d"}}, kept)

		w.Equal("FIELD_FORBIDDEN", w.ask("agent", `mutation { createCustomer(input: {name: "n", domain: "example.com"}) { customer { id } } }`).code())
		w.Empty(w.ask("agent", `mutation { createCustomer(input: {name: "n", phone: "+493"}) { customer { id } } }`).Errors)
		w.Equal("FIELD_FORBIDDEN", w.ask("agent", fmt.Sprintf(`mutation { updateMessage(input: {id: %q, version: 1, recipients: []}) { message { id } } }`, m)).code())
		w.Empty(w.ask("agent", fmt.Sprintf(`mutation { updateMessage(input: {id: %q, version: 1, subject: "t"}) { message { id } } }`, m)).Errors)

		w.deleted("agent", c)
		mend := fmt.Sprintf(`mutation { restoreRecords(input: {select: {ids: [%q]}, overrides: [{id: %q, email: "d@example.com"}]}) { operation { status } } }`, c, c)
		w.hide("nobody", "Customer.email", "read", "any")
		w.Equal("SUCCEEDED", at(get[object](w, "agent", mend), "restoreRecords", "operation", "status"), "in the bin nothing is hidden from him")
	})
}

func TestAValueThatIsTakenIsNotToldWhereItIsHidden(t *testing.T) {
	each(t, func(w *world) {
		gone := w.create("agent", "Customer", record.Values{"name": "gone", "email": "same@example.com"})
		w.hide("agent", "Customer.email", "*", "any")
		w.deleted("agent", gone)
		w.create("admin", "Customer", record.Values{"name": "new", "email": "same@example.com"})
		restore := fmt.Sprintf(`mutation { restoreRecords(input: {select: {ids: [%q]}}) { operation { items(first: 9) { nodes { code label blockers { code field value } } } } } }`, gone)
		got := w.ask("agent", restore)
		w.Empty(got.Errors, got.raw)
		w.Contains(got.raw, "UNIQUE_CONFLICT")
		w.NotContains(got.raw, "same@example.com")
		w.Equal([]string{"restoreRecords.operation.items.nodes.0.blockers.0.value"}, got.masked())
		w.Contains(w.ask("admin", restore).raw, "same@example.com")
		mend := fmt.Sprintf(`mutation { restoreRecords(input: {select: {ids: [%q]}, overrides: [{id: %q, email: "d@example.com"}]}) { operation { status } } }`, gone, gone)
		w.Equal("FIELD_FORBIDDEN", w.ask("agent", mend).code())
	})
}

func TestTheSubjectOfAThreadIsHiddenWithTheMessages(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		thread := record.Values{"subject": "secret", "threadKey": "t", "customerID": c, "sentAt": time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
		going := w.create("agent", "Message", thread)
		w.create("agent", "Message", thread)
		preview := fmt.Sprintf(`{ preview(input: {delete: {select: {ids: [%q]}}}) { brokenThreads { about: subject staying } items(first: 9) { nodes { label } } } }`, going)
		w.Contains(w.ask("agent", preview).raw, `"about":"secret"`)
		w.hide("agent", "Message.subject", "read", "any")
		got := w.ask("agent", preview)
		w.JSONEq(`{"preview": {"brokenThreads": [{"about": null, "staying": 1}], "items": {"nodes": [{"label": null}]}}}`, string(got.Data), got.raw)
		w.Equal([]string{"preview.brokenThreads.0.about", "preview.items.nodes.0.label"}, got.masked())
	})
}

func TestAnExplanationTellsNoHiddenValue(t *testing.T) {
	governed(t, func(w *world) {
		d := w.create("agent", "Deal", record.Values{"name": "d", "amount": 12345.5})
		w.NoError(w.operator(policy.Draft{Add: []casbin.Rule{
			w.rule("role:agent", "Deal", "update", "deny", "amount > 10000"), w.rule(w.userSubject("admin"), "Deal.amount", "*", "deny", "not (owner == me)"),
		}}))
		explain := fmt.Sprintf(`{ explainAccess(user: %q, action: UPDATE, record: %q) { permitted why: reasons { rule text: detail } } node(id: %q) { ... on Deal { amount } } }`, w.users["agent"], d, d)
		got := w.ask("admin", explain)
		w.Empty(got.Errors, got.raw)
		w.NotContains(got.raw, "12345")
		w.Contains(got.raw, `"permitted":false`)
		w.Contains(got.masked(), "explainAccess.why.0.text")
		w.Contains(got.masked(), "node.amount")
		// Where nothing is hidden, the values that a condition compares are told.
		w.exec(`UPDATE deals SET owner_id = ? WHERE id = ?`, w.users["admin"], d)
		w.Contains(w.ask("admin", explain).raw, "12345")
	})
}
