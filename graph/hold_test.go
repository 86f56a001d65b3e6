package graph_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/gid"
)

// hold places a hold through the API, and answers its id.
func (w *world) hold(as, more string, list ...gid.ID) string {
	w.t.Helper()
	got := get[object](w, as, `mutation($ids: [ID!]!) { placeHold(input: {name: "Acme v. Roe", reason: "subpoena", records: $ids `+more+`}) { hold { id } } }`, vars{"ids": ids(list...)})
	id, _ := at(got, "placeHold", "hold", "id").(string)
	return id
}

// allowRecords gives a user of the tenant one action more.
func (w *world) allowRecords(user string, action authz.Action, condition string) {
	w.t.Helper()
	w.policy.mu.Lock()
	tenant := w.tenant.String()
	w.policy.rules[tenant] = append(slices.Clone(w.policy.rules[tenant]), casbin.Permission(casbin.UserSubject(w.users[user].String()), tenant, "*", string(action), "allow", condition))
	w.policy.edits++
	w.policy.mu.Unlock()
	w.NoError(w.control.Refresh(w.t.Context(), w.tenant))
}

func TestAHoldIsPlacedShownAndReleased(t *testing.T) {
	each(t, func(w *world) {
		c, d := w.customer("agent", "a"), w.customer("agent", "b")
		person := w.contact("agent", c, "x")
		got := get[object](w, "compliance", `mutation($ids: [ID!]!) { placeHold(input: {name: " Acme v. Roe ", reason: "subpoena", records: $ids, blockDelete: true}) { hold {
			id name reason blockDelete freeze placedAt placedBy { name } releasedAt releasedBy { name } releaseReason records(first: 10) { totalCount nodes { id held } }
		} } }`, vars{"ids": ids(c, person)})
		hold, _ := at(got, "placeHold", "hold").(object)
		id := hold["id"]
		w.Contains(id, "hold_")
		w.NotNil(hold["placedAt"])
		w.Equal(object{"totalCount": 2.0, "nodes": []any{object{"id": person.String(), "held": true}, object{"id": c.String(), "held": true}}}, hold["records"])
		for _, name := range []string{"id", "placedAt", "records"} {
			delete(hold, name)
		}
		w.Equal(object{"name": "Acme v. Roe", "reason": "subpoena", "blockDelete": true, "freeze": false, "placedBy": object{"name": "compliance"}, "releasedAt": nil, "releasedBy": nil, "releaseReason": nil}, hold)

		held := func(as string) []any {
			w.t.Helper()
			return column(at(get[object](w, as, `query($ids: [ID!]!) { nodes(ids: $ids) { ... on Record { held } } }`, vars{"ids": ids(c, d)}), "nodes"), "held")
		}
		for as, want := range map[string][]any{"compliance": {true, false}, "admin": {true, false}, "agent": {nil, nil}, "manager": {nil, nil}} {
			w.Equal(want, held(as), as)
		}
		list := func(as, arguments string) []any {
			w.t.Helper()
			return column(at(get[object](w, as, `{ legalHolds(first: 10`+arguments+`) { totalCount nodes { id } } }`), "legalHolds", "nodes"), "id")
		}
		w.Equal([]any{id}, list("compliance", ""))
		w.Equal([]any{}, list("compliance", ", status: RELEASED"))
		w.Equal("FORBIDDEN", w.ask("admin", `mutation($id: ID!) { releaseHold(input: {id: $id, reason: "r"}) { hold { id } } }`, vars{"id": id}).code(), "the right to release is never in *")
		got = get[object](w, "compliance", `mutation($id: ID!) { releaseHold(input: {id: $id, reason: "settled"}) { hold { releasedAt releasedBy { name } releaseReason } } }`, vars{"id": id})
		w.NotNil(at(got, "releaseHold", "hold", "releasedAt"))
		w.Equal("settled", at(got, "releaseHold", "hold", "releaseReason"))
		w.Equal("compliance", at(got, "releaseHold", "hold", "releasedBy", "name"))
		w.Equal([]any{false, false}, held("compliance"))
		w.Equal([]any{}, list("compliance", ""))
		for _, status := range []string{"RELEASED", "null"} {
			w.Equal([]any{id}, list("compliance", ", status: "+status))
		}
	})
}

func TestAHoldIsKnownToWhoMayKnowOfAllOfIt(t *testing.T) {
	each(t, func(w *world) {
		w.allowRecords("agent2", authz.HoldRead, "team in my.teams")
		w.allowRecords("agent2", authz.HoldRelease, "any")
		ours, theirs := w.customer("agent2", "ours"), w.customer("agent", "theirs")
		own, both := w.hold("compliance", "", ours), w.hold("compliance", "", ours, theirs)
		for as, want := range map[string][]any{"compliance": {own, both}, "admin": {own, both}, "agent2": {own}, "agent": {}, "viewer": {}, "nobody": {}, "stranger": {}} {
			got := get[object](w, as, `{ legalHolds(first: 10) { totalCount nodes { id } } }`)
			w.Equal(want, column(at(got, "legalHolds", "nodes"), "id"), as)
			w.EqualValues(len(want), at(got, "legalHolds", "totalCount"), as)
			for _, id := range []string{own, both} {
				document := `query($id: ID!) { legalHold(id: $id) { id } node(id: $id) { id } }`
				got, shown := get[object](w, as, document, vars{"id": id}), any(nil)
				if slices.Contains(want, any(id)) {
					shown = object{"id": id}
				}
				w.Equal(object{"legalHold": shown, "node": shown}, got, as)
			}
		}
		release := `mutation($id: ID!) { releaseHold(input: {id: $id, reason: "r"}) { hold { id } } }`
		unseen, missing := w.ask("agent2", release, vars{"id": both}), w.ask("agent2", release, vars{"id": gid.New(gid.LegalHold).String()})
		w.Equal("NOT_FOUND", unseen.code())
		w.Equal(missing.Errors[0].Message, unseen.Errors[0].Message)
		w.Equal("NOT_FOUND", w.ask("stranger", release, vars{"id": own}).code())
		w.Equal("BAD_USER_INPUT", w.ask("agent2", release, vars{"id": ours.String()}).code())
		get[object](w, "agent2", release, vars{"id": own})
	})
}

func TestHistoriesTellOfHoldsOnlyToWhoMayKnow(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.hold("compliance", "", c)
		for as, want := range map[string][]any{"agent": {"CREATE"}, "manager": {"CREATE"}, "compliance": {"CREATE", "HOLD_PLACE"}} {
			got := get[object](w, as, `query($id: ID!) { node(id: $id) { ... on Record { history(first: 10) { totalCount nodes { action } } } } }`, vars{"id": c.String()})
			w.Equal(want, column(at(got, "node", "history", "nodes"), "action"), as)
			w.EqualValues(len(want), at(got, "node", "history", "totalCount"), as)
		}
		got := get[object](w, "compliance", `{ auditEvents(first: 10, where: {action: "HOLD_PLACE"}) { nodes { recordID reason changes { field new } } } }`)
		w.Equal([]any{object{"recordID": c.String(), "reason": "subpoena", "changes": []any{object{"field": "hold", "new": `"Acme v. Roe"`}}}}, at(got, "auditEvents", "nodes"))
	})
}

func TestWhatAHoldRefusedIsToldToWhoAsked(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.hold("compliance", "freeze: true", c)
		fields := `items(first: 1) { nodes { code message blockers { code type count record { id } until hidden } } }`
		remove := func(as string) (object, any) {
			w.t.Helper()
			got := get[object](w, as, `mutation($id: ID!) { deleteRecords(input: {select: {ids: [$id]}}) { operation { id status `+fields+` } } }`, vars{"id": c.String()})
			op := at(got, "deleteRecords", "operation")
			w.Equal("FAILED", at(op, "status"))
			item, _ := at(op, "items", "nodes", 0).(object)
			return item, at(op, "id")
		}
		retained := object{"code": "RETAINED", "message": "It has to be kept for now.", "blockers": []any{}}
		item, id := remove("admin")
		w.Equal(object{"code": "HOLD", "message": "A legal hold keeps it as it is.", "blockers": []any{
			object{"code": "HOLD", "type": "CUSTOMER", "count": 1.0, "record": nil, "until": nil, "hidden": false},
		}}, item)
		got := get[object](w, "manager", `query($id: ID!) { operation(id: $id) { `+fields+` } }`, vars{"id": id})
		w.Equal(retained, at(got, "operation", "items", "nodes", 0), "others may not know of holds")
		item, _ = remove("agent")
		w.Equal(retained, item)

		update := `mutation($id: ID!) { updateCustomer(input: {id: $id, version: 1, name: "b"}) { customer { id } } }`
		w.Equal("HOLD", w.ask("admin", update, vars{"id": c.String()}).code())
		w.Equal("RETAINED", w.ask("agent", update, vars{"id": c.String()}).code())
	})
}

func TestWhetherAListIsHeldTakesOneStatement(t *testing.T) {
	each(t, func(w *world) {
		document := `{ customers(first: 50) { nodes { held } } }`
		cost := func(n int) int {
			for i := range n {
				w.hold("compliance", "", w.customer("agent", fmt.Sprintf("c%d-%d", n, i)))
			}
			return w.cost("compliance", document)
		}
		w.Equal(2, cost(2))
		w.Equal(2, cost(7))
		w.Equal(1, w.cost("agent", document), "who may not know is not told by the time it takes")
	})
}
