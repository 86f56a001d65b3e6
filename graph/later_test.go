package graph_test

import (
	"fmt"
	"testing"
)

func TestOperationsArePutOffAndCalledOff(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		schedule := func(key string) object {
			return get[object](w, "agent", fmt.Sprintf(`mutation { deleteRecords(input: {select: {ids: [%q]}, runAt: "2030-01-01T00:00:00Z", idempotencyKey: %q}) {
				operation { id status runAt finishedAt total processed canUndo items(first: 9) { nodes { recordID outcome code } } } } }`, c, key))
		}
		op, _ := at(schedule("k"), "deleteRecords", "operation").(object)
		w.Equal("SCHEDULED", op["status"])
		w.Equal("2030-01-01T00:00:00Z", op["runAt"])
		w.Nil(op["finishedAt"])
		w.Equal(false, op["canUndo"])
		w.EqualValues(1, op["total"])
		w.EqualValues(0, op["processed"])
		w.Equal([]any{object{"recordID": c.String(), "outcome": "NOT_PROCESSED", "code": nil}}, at(op, "items", "nodes"))
		w.Equal(op["id"], at(schedule("k"), "deleteRecords", "operation", "id"), "the same request, once")
		state := get[object](w, "agent", fmt.Sprintf(`{ node(id: %q) { ... on Record { state viewerCan } } }`, c))
		w.Equal("ACTIVE", at(state, "node", "state"))
		w.Contains(at(state, "node", "viewerCan"), "UPDATE")

		cancel := fmt.Sprintf(`mutation { cancelOperation(input: {id: %q}) { operation { status processed items(first: 9) { nodes { outcome } } } } }`, op["id"])
		for as, want := range map[string]string{"agent2": "NOT_FOUND", "stranger": "NOT_FOUND", "purger": "FORBIDDEN"} {
			w.Equal(want, w.ask(as, cancel).code(), as)
		}
		got := get[object](w, "manager", cancel)
		w.Equal("CANCELLED", at(got, "cancelOperation", "operation", "status"))
		again := w.ask("agent", cancel)
		w.Equal("ILLEGAL_TRANSITION", again.code())
		w.Equal("CANCELLED", again.Errors[0].Extensions["status"])
		w.Equal("BAD_USER_INPUT", w.ask("agent", fmt.Sprintf(`mutation { cancelOperation(input: {id: %q}) { operation { id } } }`, c)).code())
		w.Equal("BAD_USER_INPUT", w.ask("agent", fmt.Sprintf(`mutation { deleteRecords(input: {select: {ids: [%q]}, runAt: "2020-01-01T00:00:00Z"}) { operation { id } } }`, c)).code())
		events := get[object](w, "admin", `{ auditEvents(last: 9, where: {actionIn: ["SCHEDULE", "CANCEL"], outcome: SUCCEEDED}) { nodes { action outcome actor { user { name } } operation { id } } } }`)
		w.Equal([]any{"SCHEDULE", "CANCEL"}, column(at(events, "auditEvents", "nodes"), "action"))
		w.Equal("manager", at(events, "auditEvents", "nodes", 1, "actor", "user", "name"))
	})
}

func TestArchiveAndSuspendOverTheAPI(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		p := w.contact("agent", c, "p")
		for _, what := range []string{"archive: {select: {ids: [%q]}}", `suspend: {select: {ids: [%q]}, until: "2030-01-01T00:00:00Z"}`} {
			preview := get[object](w, "agent", fmt.Sprintf(`{ preview(input: {`+what+`}) { total reversible } }`, c))
			w.Equal(true, at(preview, "preview", "reversible"), what)
		}
		w.Empty(at(get[object](w, "agent", fmt.Sprintf(`{ whyNot(id: %q, action: SUSPEND) { code } }`, c)), "whyNot"))
		got := get[object](w, "agent", fmt.Sprintf(`mutation { suspendRecords(input: {select: {ids: [%q]}, until: "2030-01-01T00:00:00Z", then: DELETE, reason: "waiting"}) { operation { verb canUndo changed } } }`, c))
		w.Equal(object{"verb": "SUSPEND", "canUndo": true, "changed": 1.0}, at(got, "suspendRecords", "operation"))
		record := get[object](w, "agent", fmt.Sprintf(`{ node(id: %q) { ... on Customer { state suspendedUntil stateReason viewerCan contacts(first: 9) { nodes { state } } } } customers(first: 9) { totalCount } }`, c))
		w.Equal(object{
			"state": "SUSPENDED", "suspendedUntil": "2030-01-01T00:00:00Z", "stateReason": "waiting", "viewerCan": []any{"UPDATE", "DELETE", "ARCHIVE", "SUSPEND", "RESTORE"},
			"contacts": object{"nodes": []any{object{"state": "ACTIVE"}}},
		}, at(record, "node"))
		w.EqualValues(0, at(record, "customers", "totalCount"), "lists show what is ACTIVE")
		got = get[object](w, "agent", fmt.Sprintf(`mutation { archiveRecords(input: {select: {ids: [%q]}}) { operation { id changed } } }`, c))
		w.EqualValues(2, at(got, "archiveRecords", "operation", "changed"))
		w.Equal("RECORD_NOT_EDITABLE", w.ask("agent", fmt.Sprintf(`mutation { updateContact(input: {id: %q, version: 2, name: "x"}) { contact { id } } }`, p)).code())
		listed := get[object](w, "agent", `{ customers(first: 9, states: [ARCHIVED]) { nodes { id } } }`)
		w.Equal(ids(c), column(at(listed, "customers", "nodes"), "id"))
		undone := get[object](w, "agent", fmt.Sprintf(`mutation { undoOperation(input: {id: %q}) { operation { changed } } }`, at(got, "archiveRecords", "operation", "id")))
		w.EqualValues(2, at(undone, "undoOperation", "operation", "changed"))
		state := get[object](w, "agent", fmt.Sprintf(`{ nodes(ids: [%q, %q]) { ... on Record { state } } }`, c, p))
		w.Equal([]any{"SUSPENDED", "ACTIVE"}, column(at(state, "nodes"), "state"))
	})
}
