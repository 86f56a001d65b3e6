package graph_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lethe-crm/lethe/ent/customer"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
)

// aged makes customers as old as that.
func (w *world) aged(days int, list ...gid.ID) {
	w.t.Helper()
	for _, id := range list {
		w.exec(`UPDATE customers SET created_at = ? WHERE id = ?`, w.db.Now().AddDate(0, 0, -days), id)
	}
}

// retentionRule adds a rule through the API, and answers it.
func (w *world) retentionRule(as, input string) object {
	w.t.Helper()
	got := get[object](w, as, `mutation { createRetentionRule(input: {name: "n", reason: "our schedule" `+input+`}) { rule { id version enabled } approval { id } } }`)
	rule, _ := at(got, "createRetentionRule").(object)
	return rule
}

func TestARetentionRuleFindsOutThenActs(t *testing.T) {
	each(t, func(w *world) {
		c, young, active := w.create("agent", "Customer", record.Values{"name": "c", "status": customer.StatusFORMER}), w.customer("agent", "young"), w.customer("agent", "active")
		hidden := w.create("admin", "Customer", record.Values{"name": "hidden", "status": customer.StatusFORMER, "teamID": w.support})
		w.message("agent", c, "m", time.Now())
		w.aged(400, c, active, hidden)
		got := get[object](w, "compliance", `mutation { createRetentionRule(input: {
			name: " former customers ", reason: "our schedule", type: CUSTOMER, filter: {customers: {status: FORMER}}, basis: CREATED_AT, length: 12, unit: MONTHS, action: DELETE
		}) { rule { id name reason type all filter comparisons candidates basis length unit action everyHours approval enabled version lockedUntil removedAt dryRunAt dryRun { matching } nextRunAt changedBy { name } } approval { id } } }`)
		rule, _ := at(got, "createRetentionRule", "rule").(object)
		id := rule["id"]
		w.NotNil(rule["nextRunAt"])
		delete(rule, "id")
		delete(rule, "nextRunAt")
		w.Equal(object{
			"name": "former customers", "reason": "our schedule", "type": "CUSTOMER", "all": false, "filter": `{"status":"FORMER"}`, "comparisons": 1.0, "candidates": nil, "basis": "CREATED_AT", "length": 12.0,
			"unit": "MONTHS", "action": "DELETE", "everyHours": 24.0, "approval": false, "enabled": true, "version": 1.0, "lockedUntil": nil, "removedAt": nil, "dryRunAt": nil, "dryRun": nil, "changedBy": object{"name": "compliance"},
		}, rule)
		w.Nil(at(got, "createRetentionRule", "approval"))
		run := `mutation($id: ID!) { runRule(id: $id) { rule { lastRunAt } operations { status changed actor { name } reason } } }`
		w.Equal("BAD_USER_INPUT", w.ask("compliance", run, vars{"id": id}).code())

		try := `mutation($id: ID!) { dryRunRule(id: $id) { rule { dryRun { matching examined deciding planned byType { type count } blocked { code count } samples { id ... on Customer { name } } actsAt } } } }`
		got = get[object](w, "compliance", try, vars{"id": id})
		dry, _ := at(got, "dryRunRule", "rule", "dryRun").(object)
		w.NotNil(dry["actsAt"])
		delete(dry, "actsAt")
		w.Equal(object{
			"matching": 2.0, "examined": 2.0, "deciding": 2.0, "planned": 2.0, "byType": []any{object{"type": "CUSTOMER", "count": 2.0}, object{"type": "MESSAGE", "count": 1.0}}, "blocked": []any{},
			"samples": []any{object{"id": c.String(), "name": "c"}, object{"id": hidden.String(), "name": "hidden"}},
		}, dry)

		got = get[object](w, "compliance", run, vars{"id": id})
		w.Equal([]any{object{"status": "SUCCEEDED", "changed": 3.0, "actor": nil, "reason": "our schedule"}}, at(got, "runRule", "operations"))
		states := column(at(get[object](w, "admin", `query($ids: [ID!]!) { nodes(ids: $ids) { ... on Record { state } } }`, vars{"ids": ids(c, young, active)}), "nodes"), "state")
		w.Equal([]any{"DELETED", "ACTIVE", "ACTIVE"}, states)
		list := get[object](w, "admin", `{ retentionRules(first: 10) { totalCount nodes { id } } }`)
		w.Equal([]any{id}, column(at(list, "retentionRules", "nodes"), "id"))
	})
}

func TestRetentionRulesAreForThoseWhoMayChangeThem(t *testing.T) {
	each(t, func(w *world) {
		id := at(w.retentionRule("compliance", `type: NOTE, all: true, basis: CREATED_AT, length: 1, unit: DAYS, action: DELETE`), "rule", "id")
		for as, shown := range map[string]any{"compliance": object{"id": id}, "admin": object{"id": id}, "manager": nil, "agent": nil, "viewer": nil, "nobody": nil, "stranger": nil} {
			w.Equal(shown, at(get[object](w, as, `query($id: ID!) { node(id: $id) { id } }`, vars{"id": id}), "node"), as)
			one, all := `query($id: ID!) { retentionRule(id: $id) { id } }`, `{ retentionRules(first: 1) { nodes { id } } }`
			if shown == nil && as != "stranger" { // who is an admin elsewhere
				w.Equal("FORBIDDEN", w.ask(as, one, vars{"id": id}).code(), as)
				w.Equal("FORBIDDEN", w.ask(as, all).code(), as)
				continue
			}
			w.Equal(shown, at(get[object](w, as, one, vars{"id": id}), "retentionRule"), as)
			list := []any{}
			if shown != nil {
				list = append(list, shown)
			}
			w.Equal(list, at(get[object](w, as, all), "retentionRules", "nodes"), as)
		}
	})
}

func TestARetentionRuleIsChangedByWhoSawIt(t *testing.T) {
	each(t, func(w *world) {
		id := at(w.retentionRule("admin", `type: CUSTOMER, all: true, basis: CREATED_AT, length: 10, unit: DAYS, action: KEEP, lockedUntil: "2030-01-01T00:00:00Z"`), "rule", "id")
		update := func(change string) answer {
			w.t.Helper()
			return w.ask("admin", `mutation($id: ID!) { updateRetentionRule(input: {id: $id `+change+`}) { rule { version } } }`, vars{"id": id})
		}
		for change, code := range map[string]string{
			`version: 2, length: 20`: "CONFLICT", `version: 1, length: null`: "BAD_USER_INPUT", `version: 1, length: 9`: "RETAINED", `version: 1, lockedUntil: null`: "RETAINED",
			`version: 1, filter: {notes: {body: "x"}}`: "BAD_USER_INPUT", `version: 1, filter: {customers: {}}`: "INVALID_FILTER", `version: 1, enabled: false`: "RETAINED",
		} {
			w.Equal(code, update(change).code(), change)
		}
		refused := update(`version: 1, length: 9, enabled: false`)
		w.Equal([]any{"length", "enabled"}, at(refused.Errors[0].Extensions, "fields"))
		w.Equal("2030-01-01T00:00:00Z", at(refused.Errors[0].Extensions, "until"))
		longer := get[object](w, "admin", `mutation($id: ID!) { updateRetentionRule(input: {id: $id, version: 1, length: 20}) { rule { version length all filter everyHours lockedUntil } } }`, vars{"id": id})
		w.Equal(object{"version": 2.0, "length": 20.0, "all": true, "filter": nil, "everyHours": 24.0, "lockedUntil": "2030-01-01T00:00:00Z"}, at(longer, "updateRetentionRule", "rule"))
		w.Equal("RETAINED", w.ask("admin", `mutation($id: ID!) { removeRetentionRule(input: {id: $id, version: 2}) { rule { id } } }`, vars{"id": id}).code())

		open := at(w.retentionRule("admin", `type: CUSTOMER, all: true, basis: CREATED_AT, length: 10, unit: DAYS, action: ARCHIVE`), "rule", "id")
		got := get[object](w, "admin", `mutation($id: ID!) { a: updateRetentionRule(input: {id: $id, version: 1, filter: {customers: {status: LEAD}}}) { rule { all filter comparisons } }
			b: updateRetentionRule(input: {id: $id, version: 2, all: true}) { rule { all filter comparisons } }
			c: removeRetentionRule(input: {id: $id, version: 3}) { rule { version } } }`, vars{"id": open})
		w.Equal(object{
			"a": object{"rule": object{"all": false, "filter": `{"status":"LEAD"}`, "comparisons": 1.0}}, "b": object{"rule": object{"all": true, "filter": nil, "comparisons": 0.0}}, "c": object{"rule": object{"version": 4.0}},
		}, got)
		w.NotNil(at(get[object](w, "compliance", `query($id: ID!) { retentionRule(id: $id) { removedAt } }`, vars{"id": open}), "retentionRule", "removedAt"))
		w.EqualValues(1, at(get[object](w, "compliance", `{ retentionRules(first: 10) { totalCount } }`), "retentionRules", "totalCount"))
	})
}

func TestExplainSaysWhatBecomesOfARecord(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		explain := `query($id: ID!) { explain(record: $id) { action at by { id } stays until purgeAfter suspendedUntil suspendedThen rules { rule { id } at decides } } }`
		of := func(as string) object {
			w.t.Helper()
			e, _ := at(get[object](w, as, explain, vars{"id": c.String()}), "explain").(object)
			return e
		}
		nothing := object{"action": nil, "at": nil, "by": nil, "stays": nil, "until": nil, "purgeAfter": nil, "suspendedUntil": nil, "suspendedThen": nil, "rules": []any{}}
		w.Equal(nothing, of("agent"))
		w.exec(`UPDATE customers SET created_at = ? WHERE id = ?`, time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), c)
		act := at(w.retentionRule("compliance", `type: CUSTOMER, all: true, basis: CREATED_AT, length: 13, unit: MONTHS, action: DELETE`), "rule", "id")
		keep := at(w.retentionRule("compliance", `type: CUSTOMER, all: true, basis: CREATED_AT, length: 800, unit: DAYS, action: KEEP`), "rule", "id")
		kept := "2028-04-10T12:00:00Z"
		told := of("compliance")
		w.Equal(object{
			"action": "DELETE", "at": kept, "by": object{"id": keep}, "stays": "RETAINED", "until": kept, "purgeAfter": nil, "suspendedUntil": nil, "suspendedThen": nil,
			"rules": []any{object{"rule": object{"id": act}, "at": "2027-03-01T00:00:00Z", "decides": false}, object{"rule": object{"id": keep}, "at": kept, "decides": true}},
		}, told)
		e := of("agent")
		w.Equal(object{"action": "DELETE", "at": nil, "by": nil, "stays": "RETAINED", "until": nil, "purgeAfter": nil, "suspendedUntil": nil, "suspendedThen": nil, "rules": []any{}}, e)
		w.hold("compliance", "", c)
		w.Equal(e, of("agent"), "a hold looks like a rule that keeps")
		told = of("compliance")
		w.Equal([]any{"HOLD", nil, nil}, []any{told["stays"], told["at"], told["by"]})

		theirs := w.create("admin", "Customer", record.Values{"name": "theirs", "ownerID": w.users["admin"], "teamID": w.support})
		unseen, missing := w.ask("agent", explain, vars{"id": theirs.String()}), w.ask("agent", explain, vars{"id": gid.New(gid.Customer).String()})
		w.Equal("NOT_FOUND", missing.code())
		w.Equal(missing.Errors[0].Message, unseen.Errors[0].Message)
		w.Equal("BAD_USER_INPUT", w.ask("agent", explain, vars{"id": w.users["agent"].String()}).code())
		w.exec(`DELETE FROM legal_hold_records`)
		w.exec(`UPDATE retention_rules SET removed_at = ?`, w.db.Now())
		w.deleted("agent", c)
		binned := of("agent")
		w.Equal("PURGE", binned["action"])
		w.Equal(binned["purgeAfter"], binned["at"])
	})
}

func TestVoidCandidatesArePagedAndAppliedInOnesOwnName(t *testing.T) {
	each(t, func(w *world) {
		id := at(w.retentionRule("compliance", `type: CUSTOMER, candidates: DUPLICATES, length: 0, unit: DAYS, action: VOID, approval: true`), "rule", "id")
		older := w.create("manager", "Customer", record.Values{"name": "older", "phone": "+49 30 1234567"})
		var repeats []gid.ID
		twin := func(n int) {
			for range n {
				repeats = append(repeats, w.create("manager", "Customer", record.Values{"name": fmt.Sprint("repeat", len(repeats)), "phone": "0049 30 123 45 67"}))
			}
		}
		twin(5)
		list := `query($id: ID!, $after: Cursor, $before: Cursor, $first: Int, $last: Int) { voidCandidates(rule: $id, first: $first, after: $after, last: $last, before: $before) {
			totalCount pageInfo { hasNextPage hasPreviousPage startCursor endCursor } edges { cursor node { kind field since record { id ... on Customer { name } } duplicateOf { id } } } } }`
		page := func(v vars) (found []any, info object) {
			w.t.Helper()
			v["id"] = id
			got := get[object](w, "manager", list, v)
			w.EqualValues(len(repeats), at(got, "voidCandidates", "totalCount"))
			edges, _ := at(got, "voidCandidates", "edges").([]any)
			for _, e := range edges {
				w.Equal([]any{"DUPLICATES", "phone", older.String()}, []any{at(e, "node", "kind"), at(e, "node", "field"), at(e, "node", "duplicateOf", "id")})
				found = append(found, at(e, "node", "record", "id"))
			}
			info, _ = at(got, "voidCandidates", "pageInfo").(object)
			return found, info
		}
		first, info := page(vars{"first": 2})
		w.Equal(ids(repeats[:2]...), first)
		w.Equal([]any{true, false}, []any{info["hasNextPage"], info["hasPreviousPage"]})
		second, info := page(vars{"first": 10, "after": info["endCursor"]})
		w.Equal(ids(repeats[2:]...), second)
		w.Equal(false, info["hasNextPage"])
		last, info := page(vars{"last": 2})
		w.Equal(ids(repeats[3:]...), last)
		last, info = page(vars{"last": 2, "before": info["startCursor"]})
		w.Equal(ids(repeats[1:3]...), last)
		w.Equal([]any{true, true}, []any{info["hasNextPage"], info["hasPreviousPage"]})

		statements := func() int {
			w.sql.take()
			page(vars{"first": 100})
			return len(w.sql.take())
		}
		few := statements()
		twin(20)
		w.Equal(few, statements(), "however many there are")

		w.Equal("NOT_FOUND", w.ask("viewer", list, vars{"id": id, "first": 1}).code())
		w.Equal("BAD_USER_INPUT", w.ask("manager", list, vars{"id": id, "first": 1, "after": "nonsense"}).code())
		apply := `mutation($input: ApplyRuleInput!) { applyRule(input: $input) { operations { status changed reason actor { name } } } }`
		w.Equal("CONFLICT", w.ask("manager", apply, vars{"input": vars{"id": id, "expectedCount": 3}}).code())
		got := get[object](w, "manager", apply, vars{"input": vars{"id": id, "records": ids(repeats[0])}})
		w.Equal([]any{object{"status": "SUCCEEDED", "changed": 1.0, "reason": "our schedule", "actor": object{"name": "manager"}}}, at(got, "applyRule", "operations"))
		got = get[object](w, "manager", apply, vars{"input": vars{"id": id, "expectedCount": len(repeats) - 1}})
		w.EqualValues(len(repeats)-1, at(got, "applyRule", "operations", 0, "changed"))
	})
}

func TestARequestToKeepForLessTimeIsShownToWhoDecides(t *testing.T) {
	each(t, func(w *world) {
		w.seed()
		keep := at(w.retentionRule("compliance", `type: CALL, filter: {calls: {direction: INBOUND}}, basis: OCCURRED_AT, length: 90, unit: DAYS, action: KEEP`), "rule", "id")
		got := get[object](w, "compliance", `mutation($id: ID!) { updateRetentionRule(input: {id: $id, version: 1, length: 30, name: "calls"}) { rule { version length } approval { id status subject } } }`, vars{"id": keep})
		w.Equal(object{"version": 1.0, "length": 90.0}, at(got, "updateRetentionRule", "rule"))
		purge := w.retentionRule("compliance", `type: NOTE, all: true, basis: STATE_CHANGED_AT, length: 1, unit: DAYS, action: PURGE`)
		w.Equal(false, at(purge, "rule", "enabled"))
		w.NotNil(purge["approval"])
		get[object](w, "compliance", `mutation($id: ID!) { removeRetentionRule(input: {id: $id, version: 1}) { approval { id } } }`, vars{"id": keep})
		fields := `retentionChange { remove changed rule { id length } to { name type all filter basis length unit action enabled lockedUntil } settings { name old new } }`
		list := `{ approvals(first: 10) { nodes { id subject ` + fields + ` } } }`
		for _, as := range []string{"manager", "agent", "viewer", "stranger"} {
			w.Empty(at(get[object](w, as, list), "approvals", "nodes"), as)
		}
		w.sql.take()
		requests, _ := at(get[object](w, "admin", list), "approvals", "nodes").([]any)
		w.LessOrEqual(len(w.sql.take()), 4, "with one statement for all rules")
		w.Len(requests, 3)
		slices.SortFunc(requests, func(a, b any) int { return len(fmt.Sprint(b)) - len(fmt.Sprint(a)) })
		w.Contains(requests, any(object{
			"id": at(got, "updateRetentionRule", "approval", "id"), "subject": "SHORTEN_RETENTION", "retentionChange": object{
				"remove": false, "changed": []any{"name", "length"}, "rule": object{"id": keep, "length": 90.0}, "settings": []any{}, "to": object{
					"name": "calls", "type": "CALL", "all": false, "filter": `{"direction":"INBOUND"}`, "basis": "OCCURRED_AT", "length": 30.0, "unit": "DAYS", "action": "KEEP", "enabled": true, "lockedUntil": nil,
				},
			},
		}))
		w.Equal(object{"remove": true, "changed": []any{}, "rule": object{"id": keep, "length": 90.0}, "settings": []any{}, "to": nil}, at(requests[2], "retentionChange"))
		get[object](w, "admin", `mutation($id: ID!) { approveRequest(input: {id: $id}) { approval { status } } }`, vars{"id": at(got, "updateRetentionRule", "approval", "id")})
		w.EqualValues(30, at(get[object](w, "compliance", `query($id: ID!) { retentionRule(id: $id) { length } }`, vars{"id": keep}), "retentionRule", "length"))

		cancel := `mutation($id: ID!) { cancelRequest(input: {id: $id}) { approval { status } } }`
		off := vars{"id": at(purge, "approval", "id")}
		w.Equal("FORBIDDEN", w.ask("admin", cancel, off).code())
		w.Equal("NOT_FOUND", w.ask("manager", cancel, off).code())
		for range 2 {
			w.Equal("CANCELLED", at(get[object](w, "compliance", cancel, off), "cancelRequest", "approval", "status"))
		}
		w.Equal("ILLEGAL_TRANSITION", w.ask("admin", `mutation($id: ID!) { approveRequest(input: {id: $id}) { approval { status } } }`, off).code())
		w.Equal("ILLEGAL_TRANSITION", w.ask("compliance", cancel, vars{"id": at(got, "updateRetentionRule", "approval", "id")}).code())
		w.Equal(1, w.count(`SELECT COUNT(*) FROM audit_events WHERE action = 'CANCEL' AND code IS NULL`))
		settings := get[object](w, "admin", `mutation { updateSettings(input: {version: 1, binDays: 7, purgeDay: null}) { settings { binDays version } approval { `+fields+` } } }`)
		w.Equal(object{"binDays": 30.0, "version": 1.0}, at(settings, "updateSettings", "settings"))
		request := vars{"id": at(got, "updateRetentionRule", "approval", "id")}
		for as, want := range map[string]any{"admin": object{"status": "DONE"}, "compliance": object{"status": "DONE"}, "manager": nil} {
			w.Equal(want, at(get[object](w, as, `query($id: ID!) { node(id: $id) { ... on Approval { status } } }`, request), "node"), as)
		}
		change, _ := at(settings, "updateSettings", "approval", "retentionChange").(object)
		w.Equal([]any{object{"name": "binDays", "old": 30.0, "new": 7.0}, object{"name": "purgeDay", "old": 50000.0, "new": nil}}, change["settings"])
		w.Equal([]any{false, []any{}, nil, nil}, []any{change["remove"], change["changed"], change["rule"], change["to"]})
	})
}
