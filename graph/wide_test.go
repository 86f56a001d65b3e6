package graph_test

import (
	"testing"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/internal/gid"
)

func TestAWideHoldIsPlacedAndShown(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.customer("agent", "acme"), w.customer("agent", "rome")
		x := w.contact("agent", a, "x")
		got := get[object](w, "compliance", `mutation($p: [ID!]) { placeHold(input: {name: "m", reason: "r", persons: $p, filter: {customers: {nameHasPrefix: "rome"}}}) { hold {
			id filterType filter persons(first: 5) { nodes { id } } records(first: 5) { totalCount nodes { id held } } } } }`, vars{"p": ids(a)})
		hold, _ := at(got, "placeHold", "hold").(object)
		id := hold["id"]
		delete(hold, "id")
		w.Equal(object{
			"filterType": "Customer", "filter": `{"nameHasPrefix":"rome"}`, "persons": object{"nodes": []any{object{"id": a.String()}}},
			"records": object{"totalCount": 3.0, "nodes": []any{object{"id": x.String(), "held": true}, object{"id": b.String(), "held": true}, object{"id": a.String(), "held": true}}},
		}, hold)
		y := w.contact("agent", a, "y")
		records := `query($id: ID!) { legalHold(id: $id) { records(first: 1) { totalCount nodes { id } } } }`
		w.Equal(object{"totalCount": 4.0, "nodes": []any{object{"id": y.String()}}}, at(get[object](w, "compliance", records, vars{"id": id}), "legalHold", "records"), "what arrives later is listed, too")

		z := w.contact("agent", b, "z")
		add := `mutation($id: ID!, $r: [ID!]!) { addToHold(input: {id: $id, records: $r}) { hold { records(first: 5) { totalCount } } } }`
		got = get[object](w, "compliance", add, vars{"id": id, "r": ids(z)})
		w.EqualValues(5, at(got, "addToHold", "hold", "records", "totalCount"))
		w.Equal("FORBIDDEN", w.ask("agent", add, vars{"id": id, "r": ids(z)}).code())
		w.Equal("BAD_USER_INPUT", w.ask("compliance", add, vars{"id": z.String(), "r": ids(z)}).code())
		w.Equal("NOT_FOUND", w.ask("stranger", add, vars{"id": id, "r": ids(z)}).code())
		for _, filter := range []string{`{}`, `{customers: {}}`, `{customers: {name: "a", idIn: []}}`, `{customers: {hasContacts: true}}`, `{customers: {name: "a"}, deals: {name: "a"}}`} {
			w.NotEmpty(w.ask("compliance", `mutation { placeHold(input: {name: "m", reason: "r", filter: `+filter+`}) { hold { id } } }`).code(), filter)
		}
		w.Equal("BAD_USER_INPUT", w.ask("compliance", `mutation { placeHold(input: {name: "m", reason: "r"}) { hold { id } } }`).code())
	})
}

// TestAWideHoldIsKnownToWhoMayKnowOfAllOfIt asks as one who may know of the holds
// of his own team's records alone.
func TestAWideHoldIsKnownToWhoMayKnowOfAllOfIt(t *testing.T) {
	each(t, func(w *world) {
		for _, action := range []authz.Action{authz.HoldRead, authz.HoldPlace, authz.HoldRelease} {
			w.allowRecords("agent2", action, "team in my.teams")
		}
		ours := w.customer("agent2", "ours")
		w.customer("agent", "theirs")
		place := func(as, scope string) any {
			w.t.Helper()
			return at(get[object](w, as, `mutation { placeHold(input: {name: "m", reason: "r", `+scope+`}) { hold { id } } }`), "placeHold", "hold", "id")
		}
		refused := func(scope string) {
			w.t.Helper()
			w.Equal("FORBIDDEN", w.ask("agent2", `mutation { placeHold(input: {name: "m", reason: "r", `+scope+`}) { hold { id } } }`).code(), scope)
		}
		sees := func(as string) []any {
			w.t.Helper()
			return column(at(get[object](w, as, `{ legalHolds(first: 10) { nodes { id } } }`), "legalHolds", "nodes"), "id")
		}
		person := place("agent2", `persons: ["`+ours.String()+`"]`)
		w.Equal([]any{}, sees("agent2"), "what he may not know of may come to belong to the person")
		filter := place("compliance", `filter: {customers: {name: "ours"}}`)
		w.Equal([]any{}, sees("agent2"), "a filter may come to match what he may not know of")
		w.Equal([]any{person, filter}, sees("compliance"))
		// The answer is the same whether something hidden matches or nothing does.
		refused(`filter: {customers: {name: "theirs"}}`)
		refused(`filter: {customers: {name: "nothing of the kind"}}`)

		z := w.contact("admin", ours, "z")
		w.exec(`UPDATE contacts SET team_id = NULL WHERE id = ?`, z) // of no team, below his own customer
		refused(`persons: ["` + ours.String() + `"]`)
		release := `mutation($id: ID!) { releaseHold(input: {id: $id, reason: "r"}) { hold { id } } }`
		w.Equal("NOT_FOUND", w.ask("agent2", release, vars{"id": person}).code())
		w.Equal("NOT_FOUND", w.ask("agent2", release, vars{"id": gid.New(gid.LegalHold).String()}).code())
		get[object](w, "compliance", release, vars{"id": person})
		get[object](w, "compliance", release, vars{"id": filter})
	})
}

func TestSettingsAreReadAndChanged(t *testing.T) {
	each(t, func(w *world) {
		const all = `{ binDays holdReleaseDays brakeRecords brakePercent brakeHour brakeDay purgeDay version }`
		change := `mutation($in: UpdateSettingsInput!) { updateSettings(input: $in) { settings ` + all + ` } }`
		before := at(get[object](w, "admin", `{ settings `+all+` }`), "settings").(object)
		w.EqualValues(50_000, before["purgeDay"])
		got := get[object](w, "admin", change, vars{"in": object{"version": before["version"], "purgeDay": nil, "binDays": 45, "brakeHour": 7}})
		before["purgeDay"], before["binDays"], before["brakeHour"], before["version"] = nil, 45.0, 7.0, before["version"].(float64)+1
		w.Equal(before, at(got, "updateSettings", "settings"))
		w.Equal(object{"settings": before}, get[object](w, "admin", `{ settings `+all+` }`))
		w.Equal("CONFLICT", w.ask("admin", change, vars{"in": object{"version": 1, "purgeDay": 4}}).code())
		w.Equal("BAD_USER_INPUT", w.ask("admin", change, vars{"in": object{"version": before["version"], "binDays": nil}}).code())
		for _, as := range []string{"agent", "manager", "viewer", "nobody"} {
			w.Equal("FORBIDDEN", w.ask(as, `{ settings { binDays } }`).code(), as)
			w.Equal("FORBIDDEN", w.ask(as, change, vars{"in": object{"version": 1, "purgeDay": 4}}).code(), as)
		}
	})
}
