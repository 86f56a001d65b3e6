package graph_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
)

func TestAPreviewIsCarriedOutByItsToken(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "x1")
		w.contact("agent", c, "p")
		w.customer("agent", "x2")
		document := `query($in: DeleteRecordsInput!) { preview(input: {delete: $in}) {
			token total needsApproval reversible byType { type count changed } blockers { code } brokenThreads { threadKey } affectedUsers { name }
			items(first: 9) { totalCount nodes { recordID direct depth outcome priorState type label record { id state } cameWith { id label } blockers { code } } } } }`
		got := get[object](w, "agent", document, vars{"in": object{"select": object{"customers": object{"nameHasPrefix": "x"}}}})
		p := at(got, "preview")
		w.EqualValues(3, at(p, "total"))
		w.EqualValues(3, at(p, "items", "totalCount"))
		w.Equal(false, at(p, "needsApproval"))
		w.Equal(true, at(p, "reversible"))
		w.Equal([]any{
			object{"type": "CUSTOMER", "count": float64(2), "changed": float64(2)}, object{"type": "CONTACT", "count": float64(1), "changed": float64(1)},
		}, at(p, "byType"))
		w.Equal([]any{}, at(p, "blockers"))
		w.Equal([]any{}, at(p, "brokenThreads"))
		w.Equal([]any{}, at(p, "affectedUsers"))
		w.Equal([]any{"x1", "x2", "p"}, column(at(p, "items", "nodes"), "label"))
		w.Equal([]any{true, true, false}, column(at(p, "items", "nodes"), "direct"))
		w.Equal(object{"id": c.String(), "label": "x1"}, at(p, "items", "nodes", 2, "cameWith"))
		w.Nil(at(p, "items", "nodes", 0, "cameWith"))
		w.Equal("ACTIVE", at(p, "items", "nodes", 2, "record", "state"), "nothing has happened")
		token := at(p, "token")

		for _, other := range []string{
			`deleteRecords(input: {select: {customers: {nameHasPrefix: "x"}}, cascade: true, previewToken: $t}) { operation { id } }`,
			`deleteRecords(input: {select: {customers: {nameHasPrefix: "y"}}, previewToken: $t}) { operation { id } }`,
			`restoreRecords(input: {select: {customers: {nameHasPrefix: "x"}}, previewToken: $t}) { operation { id } }`,
		} {
			a := w.ask("agent", `mutation($t: String!) { `+other+` }`, vars{"t": token})
			w.Equal("BAD_USER_INPUT", a.code(), other)
			w.Equal([]any{"previewToken"}, a.Errors[0].Extensions["fields"], a.raw)
		}
		// How it is written, and what does not change what it is about, makes no difference.
		got = get[object](w, "agent", `mutation($t: String!) { deleteRecords(input: {
			previewToken: $t, expectedCount: 2, reason: "why", mode: BEST_EFFORT, idempotencyKey: "k", cascade: false, select: {customers: {nameHasPrefix: "x"}}
		}) { operation { id changed items(first: 9) { nodes { label cameWith { label } } } } } }`, vars{"t": token})
		w.EqualValues(3, at(got, "deleteRecords", "operation", "changed"))
		w.Equal("x1", at(got, "deleteRecords", "operation", "items", "nodes", 2, "cameWith", "label"), "an operation says so as well")
		again := get[object](w, "agent", `mutation { deleteRecords(input: {expectedCount: 2, reason: "why", mode: BEST_EFFORT, idempotencyKey: "k", select: {customers: {nameHasPrefix: "x"}}}) { operation { id } } }`)
		w.Equal(at(got, "deleteRecords", "operation", "id"), at(again, "deleteRecords", "operation", "id"), "the token is no part of the request")
	})
}

func TestASelectionThatMovedOnIsAConflict(t *testing.T) {
	each(t, func(w *world) {
		w.customer("agent", "x1")
		got := get[object](w, "agent", `{ preview(input: {delete: {select: {customers: {nameHasPrefix: "x"}}}}) { token } }`)
		w.customer("agent", "x2")
		a := w.ask("agent", `mutation($t: String!) { deleteRecords(input: {select: {customers: {nameHasPrefix: "x"}}, previewToken: $t}) { operation { id } } }`, vars{"t": at(got, "preview", "token")})
		w.Equal("CONFLICT", a.code())
		for name, want := range map[string]int{"expected": 1, "actual": 2, "added": 1, "removed": 0} {
			w.EqualValues(want, a.Errors[0].Extensions[name], name)
		}
	})
}

func TestPagesOfAPreview(t *testing.T) {
	each(t, func(w *world) {
		var want []any
		for i := range 7 {
			want = append(want, w.customer("agent", fmt.Sprint("x", i)).String())
		}
		walk := func(first bool) (seen []any) {
			argument, cursor, more := "first: 3, after: $c", "endCursor", "hasNextPage"
			if !first {
				argument, cursor, more = "last: 3, before: $c", "startCursor", "hasPreviousPage"
			}
			var c any
			for range 4 {
				got := get[object](w, "agent", `query($c: Cursor) { preview(input: {delete: {select: {customers: {nameHasPrefix: "x"}}}}) {
					items(`+argument+`) { edges { cursor node { recordID } } pageInfo { `+cursor+` `+more+` } } } }`, vars{"c": c})
				var page []any
				edges, _ := at(got, "preview", "items", "edges").([]any)
				for _, e := range edges {
					page = append(page, at(e, "node", "recordID"))
				}
				if first {
					seen = append(seen, page...)
				} else {
					seen = append(page, seen...)
				}
				c = at(got, "preview", "items", "pageInfo", cursor)
				if at(got, "preview", "items", "pageInfo", more) == false {
					break
				}
			}
			return seen
		}
		w.Equal(want, walk(true))
		w.Equal(want, walk(false))
		got := get[object](w, "agent", `{ preview(input: {delete: {select: {customers: {nameHasPrefix: "x"}}}}) { items(first: 1) { totalCount } } }`)
		w.EqualValues(7, at(got, "preview", "items", "totalCount"))

		foreign := at(get[object](w, "agent", `{ customers(first: 1) { pageInfo { endCursor } } }`), "customers", "pageInfo", "endCursor")
		document := `query($c: Cursor) { preview(input: {delete: {select: {customers: {nameHasPrefix: "x"}}}}) { items(%s) { nodes { recordID } } } }`
		w.Equal("BAD_USER_INPUT", w.ask("agent", fmt.Sprintf(document, "first: 1, after: $c"), vars{"c": foreign}).code())
		w.Equal("BAD_USER_INPUT", w.ask("agent", `{ preview(input: {delete: {select: {customers: {nameHasPrefix: "x"}}}}) { items { nodes { recordID } } } }`).code())
	})
}

func TestAPreviewShowsWhatStandsInTheWay(t *testing.T) {
	each(t, func(w *world) {
		c := w.create("manager", "Customer", map[string]any{"name": "a", "email": "a@example.com"})
		d := w.create("manager", "Deal", map[string]any{"name": "d", "customerID": c})
		got := get[object](w, "manager", `query($c: ID!) { preview(input: {void: {select: {ids: [$c]}, reason: ""}}) {
			blockers { code type count hidden } items(first: 1) { nodes { outcome code message blockers { code type count hidden } } } } }`, vars{"c": c.String()})
		blocker := object{"code": "HAS_DEPENDENTS", "type": "DEAL", "count": float64(1), "hidden": false}
		w.Equal([]any{blocker}, at(got, "preview", "blockers"))
		w.Equal([]any{blocker}, at(got, "preview", "items", "nodes", 0, "blockers"), "to who asks, as it is")
		w.Equal("Live records depend on it.", at(got, "preview", "items", "nodes", 0, "message"))

		w.deleted("manager", d)
		w.deleted("manager", c)
		w.create("manager", "Customer", map[string]any{"name": "twin", "email": "A@example.com"})
		got = get[object](w, "manager", `query($c: ID!) { preview(input: {restore: {select: {ids: [$c]}}}) { reversible blockers { code field value record { label } } } }`, vars{"c": c.String()})
		w.Equal([]any{object{"code": "UNIQUE_CONFLICT", "field": "email", "value": "a@example.com", "record": object{"label": "twin"}}}, at(got, "preview", "blockers"))

		w.exec(`UPDATE tenants SET brake_hour = 2`)
		got = get[object](w, "manager", `{ preview(input: {delete: {select: {customers: {name: "twin"}}}}) { blockers { code field limit count } } }`)
		w.Equal([]any{object{"code": "LIMIT", "field": "brakeHour", "limit": float64(2), "count": float64(3)},
			object{"code": "APPROVAL_REQUIRED", "field": nil, "limit": nil, "count": float64(1)}}, at(got, "preview", "blockers"))
		got = get[object](w, "manager", `mutation { deleteRecords(input: {select: {customers: {name: "twin"}}, expectedCount: 1}) { operation { status code approvals { subject needs { role } } } } }`)
		w.Equal(object{"status": "PAUSED", "code": "LIMIT", "approvals": []any{object{"subject": "BRAKE", "needs": []any{object{"role": "admin"}}}}}, at(got, "deleteRecords", "operation"))
	})
}

func TestEveryVerbIsPreviewed(t *testing.T) {
	each(t, func(w *world) {
		c, d := w.customer("agent", "a"), w.customer("agent", "b")
		op := w.deleted("agent", d)
		for as, inputs := range map[string][]string{
			"manager": {`delete: {select: {ids: [$c]}}`, `void: {select: {ids: [$c]}, reason: "x"}`, `restore: {select: {ids: [$d]}}`, `undo: {id: $op}`},
			"purger":  {`purge: {select: {ids: [$d]}}`, `emptyBin: {}`, `emptyBin: {types: [CUSTOMER], deletedBy: $u}`},
		} {
			for _, input := range inputs {
				got := get[object](w, as, `query($c: ID!, $d: ID!, $op: ID!, $u: ID!) { preview(input: {`+input+`}) { total reversible token byType { changed }
					unused: items(first: 1) { nodes { recordID } } } node(id: $c) { id } d: node(id: $d) { id } o: node(id: $op) { id } u: node(id: $u) { id } }`,
					vars{"c": c.String(), "d": d.String(), "op": op, "u": w.users["agent"].String()})
				w.EqualValues(1, at(got, "preview", "total"), input)
				w.EqualValues(1, at(got, "preview", "byType", 0, "changed"), input)
				w.NotEmpty(at(got, "preview", "token"))
				w.Equal(slices.Contains([]string{`delete: {select: {ids: [$c]}}`, `void: {select: {ids: [$c]}, reason: "x"}`}, input), at(got, "preview", "reversible"), input)
			}
		}
		w.Equal("GRAPHQL_VALIDATION_FAILED", w.ask("manager", `query($in: PreviewInput!) { preview(input: $in) { total } }`,
			vars{"in": object{"undo": object{"id": op}, "emptyBin": object{}}}).code())
		w.Equal("FORBIDDEN", w.ask("agent", `{ preview(input: {emptyBin: {}}) { total } }`).code())
		w.Equal("BAD_USER_INPUT", w.ask("purger", `query($d: ID!) { preview(input: {emptyBin: {deletedBy: $d}}) { total } }`, vars{"d": d.String()}).code())
		w.Equal("INVALID_FILTER", w.ask("manager", `{ preview(input: {delete: {select: {customers: {}}}}) { total } }`).code())
	})
}

func TestEmptyingTheBin(t *testing.T) {
	each(t, func(w *world) {
		c, d := w.customer("agent", "a"), w.customer("agent", "b")
		w.contact("agent", c, "p")
		w.deleted("agent", c)
		w.deleted("agent", d)
		bin := `{ bin(first: 9) { totalCount } }`
		w.EqualValues(2, at(get[object](w, "purger", bin), "bin", "totalCount"))
		a := w.ask("purger", `mutation { emptyBin(input: {}) { operation { id } } }`)
		w.Equal("BAD_USER_INPUT", a.code())
		a = w.ask("purger", `mutation { emptyBin(input: {expectedCount: 3}) { operation { id } } }`)
		w.Equal("CONFLICT", a.code())
		w.EqualValues(2, a.Errors[0].Extensions["actual"])
		token := at(get[object](w, "purger", `{ preview(input: {emptyBin: {types: [CUSTOMER]}}) { token total } }`), "preview", "token")
		w.Equal("BAD_USER_INPUT", w.ask("purger", `mutation($t: String) { emptyBin(input: {previewToken: $t}) { operation { id } } }`, vars{"t": token}).code(), "another part of the bin")
		got := get[object](w, "purger", `mutation($t: String) { emptyBin(input: {types: [CUSTOMER], previewToken: $t, reason: "spring"}) { operation { verb reason changed status } } }`, vars{"t": token})
		w.Equal(object{"verb": "PURGE", "reason": "spring", "changed": float64(3), "status": "SUCCEEDED"}, at(got, "emptyBin", "operation"))
		w.EqualValues(0, at(get[object](w, "purger", bin), "bin", "totalCount"))
		got = get[object](w, "purger", `mutation { emptyBin(input: {expectedCount: 0}) { operation { total } } }`)
		w.EqualValues(0, at(got, "emptyBin", "operation", "total"))
	})
}

func TestWhyNotInWords(t *testing.T) {
	each(t, func(w *world) {
		c := w.create("manager", "Customer", map[string]any{"name": "a", "email": "a@example.com"})
		why := func(as string, id gid.ID, action string) any {
			return at(get[object](w, as, `query($id: ID!) { whyNot(id: $id, action: `+action+`) { code message blockers { code type count state allowed value hidden record { label } } } }`, vars{"id": id.String()}), "whyNot")
		}
		w.Equal([]any{}, why("manager", c, "DELETE"))
		w.Equal([]any{object{"code": "FORBIDDEN", "message": "You may not do this to the record, or to one that would come along.", "blockers": []any{}}}, why("manager", c, "PURGE"))
		w.Equal([]any{object{"code": "NOT_FOUND", "message": "There is no such record.", "blockers": []any{}}}, why("agent2", c, "DELETE"))
		w.Equal([]any{object{"code": "NOT_FOUND", "message": "There is no such record.", "blockers": []any{}}}, why("agent", gid.New(gid.Message), "READ"))
		w.deleted("manager", c)
		got := why("manager", c, "UPDATE")
		w.Equal("RECORD_NOT_EDITABLE", at(got, 0, "code"))
		w.Equal("DELETED", at(got, 0, "blockers", 0, "state"))
		w.Equal([]any{"RESTORE", "PURGE"}, at(got, 0, "blockers", 0, "allowed"))
		w.create("manager", "Customer", map[string]any{"name": "twin", "email": "A@example.com"})
		got = why("manager", c, "RESTORE")
		w.Equal("UNIQUE_CONFLICT", at(got, 0, "code"))
		w.Equal("Another live record has the same value.", at(got, 0, "message"))
		w.Equal("a@example.com", at(got, 0, "blockers", 0, "value"))
		w.Equal("twin", at(got, 0, "blockers", 0, "record", "label"))
		w.Equal("BAD_USER_INPUT", w.ask("manager", `{ whyNot(id: "nonsense", action: READ) { code } }`).code())
	})
}

func TestStatementsOfAPreviewDoNotGrowWithTheRows(t *testing.T) {
	each(t, func(w *world) {
		grow := func(n int) {
			for i := range n {
				c := w.customer("agent", fmt.Sprint("x", i))
				w.contact("agent", c, "p")
				w.create("agent", "Message", map[string]any{"subject": "s", "sentAt": time.Now(), "customerID": c, "threadKey": "t"})
				w.create("agent", "Deal", map[string]any{"name": "d", "customerID": c})
			}
		}
		document := `{ preview(input: {delete: {mode: BEST_EFFORT, select: {customers: {nameHasPrefix: "x"}}}}) {
			token total byType { type count } blockers { code type record { label } operation { id } value } brokenThreads { threadKey subject } affectedUsers { name }
			items(first: 50) { totalCount nodes { recordID label record { id state } cameWith { id } blockers { code record { label } operation { id } value } } } } }`
		cascading := `{ preview(input: {delete: {cascade: true, select: {customers: {nameHasPrefix: "x"}}}}) {
			brokenThreads { subject } affectedUsers { name } items(first: 50) { nodes { label record { label } cameWith { label } } } } }`
		grow(2)
		few, fewer := w.cost("agent", document), w.cost("agent", cascading)
		grow(6)
		w.t.Logf("statements: %d blocked, %d going", few, fewer)
		w.Equal(few, w.cost("agent", document))
		w.Equal(fewer, w.cost("agent", cascading))
	})
}
