package graph_test

import (
	"testing"
	"time"
)

const verify = `query($id: ID!) { verifyOperation(id: $id) { passed changed superseded operation { id verb } checks { name passed checked exceptions records } } }`

func TestAnOperationIsVerified(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		person := w.contact("agent", c, "p")
		w.message("agent", c, "s", w.db.Now())
		op := w.deleted("agent", c)
		found := at(get[object](w, "compliance", verify, vars{"id": op}), "verifyOperation")
		w.Equal(true, at(found, "passed"))
		w.Equal(object{"id": op, "verb": "DELETE"}, at(found, "operation"))
		w.EqualValues(3, at(found, "changed"))
		w.Equal([]any{"STATE", "LISTED", "REFERENCES", "PARTS", "BYTES", "SEARCH", "SEALS", "TOMBSTONES", "AUDIT_EVENTS"}, column(at(found, "checks"), "name"))
		w.Equal([]any{3.0, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0}, column(at(found, "checks"), "checked"))

		w.exec(`UPDATE contacts SET state = 'ACTIVE', retired_at = NULL WHERE id = ?`, person)
		found = at(get[object](w, "admin", verify, vars{"id": op}), "verifyOperation")
		w.Equal(false, at(found, "passed"))
		w.EqualValues(object{"name": "STATE", "passed": false, "checked": 3.0, "exceptions": 1.0, "records": ids(person)}, at(found, "checks", 0))

		for as, code := range map[string]string{"agent": "FORBIDDEN", "manager": "FORBIDDEN", "viewer": "FORBIDDEN", "stranger": "NOT_FOUND"} {
			w.Equal(code, w.ask(as, verify, vars{"id": op}).code(), as)
		}
		w.Equal("BAD_USER_INPUT", w.ask("admin", verify, vars{"id": c.String()}).code())
	})
}

func TestStatisticsAreOfWhatTheCallerMayRead(t *testing.T) {
	each(t, func(w *world) {
		w.customer("agent", "a")
		w.deleted("agent", w.customer("agent", "b"))
		const document = `query($from: Time, $by: StatisticsPeriod! = DAY) { statistics(types: [CUSTOMER], from: $from, by: $by) {
			types { type live active suspended archived voided deleted periods { start end created deleted voided restored purged freedBytes } } } }`
		types := func(as string) []any {
			list, _ := at(get[object](w, as, document, vars{"from": w.db.Now().Add(-time.Hour)}), "statistics", "types").([]any)
			return list
		}
		want := object{"type": "CUSTOMER", "live": 1.0, "active": 1.0, "suspended": 0.0, "archived": 0.0, "voided": 0.0, "deleted": 1.0, "periods": []any{object{
			"start": "2026-03-01T00:00:00Z", "end": "2026-03-02T00:00:00Z", "created": 2.0, "deleted": 1.0, "voided": 0.0, "restored": 0.0, "purged": 0.0, "freedBytes": 0.0,
		}}}
		w.Equal([]any{want}, types("admin"))
		w.EqualValues(0, at(types("agent2"), 0, "live"), "another team's")
		w.EqualValues(0, at(types("stranger"), 0, "live"), "another tenant's")
		viewer := types("viewer")
		w.EqualValues(0, at(viewer, 0, "deleted"), "who may not read what is retired")
		w.Empty(at(viewer, 0, "periods"), "who may read no audit events")
		w.Equal("LIMIT", w.ask("admin", document, vars{"from": "2024-01-01T00:00:00Z"}).code())
		w.Equal("BAD_USER_INPUT", w.ask("admin", document, vars{"from": "2999-01-01T00:00:00Z"}).code())
		all, _ := at(get[object](w, "admin", `{ statistics(by: MONTH) { types { type periods { start } } } }`), "statistics", "types").([]any)
		w.Len(all, 8)
		w.Equal(9, w.cost("admin", `{ statistics { types { periods { start } } } }`))
		w.Equal(8, w.cost("admin", `{ statistics { types { live } } }`))
	})
}
