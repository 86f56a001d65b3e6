package graph_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
)

func TestItemsOfOthersOperationsSpeakOfReadableRecordsOnly(t *testing.T) {
	each(t, func(w *world) {
		theirs := w.customer("agent2", "theirs")
		w.create("agent2", "Deal", map[string]any{"name": "secret", "customerID": theirs})
		ours := w.customer("agent", "ours")
		refused := get[object](w, "admin", fmt.Sprintf(`mutation { deleteRecords(input: {select: {ids: [%q, %q]}, mode: BEST_EFFORT}) { operation { id } } }`, theirs, ours))
		op := at(refused, "deleteRecords", "operation", "id")
		question := fmt.Sprintf(`{ node(id: %q) { ... on Operation { items(first: 9) { totalCount nodes { recordID code blockers { type count hidden } } } } } }`, op)
		require.Len(w.t, at(get[object](w, "admin", question), "node", "items", "nodes"), 2, "who asked sees all of it")
		got := get[object](w, "manager", question)
		require.Equal(w.t, ids(ours), column(at(got, "node", "items", "nodes"), "recordID"))
		require.InDelta(w.t, 1, at(got, "node", "items", "totalCount"), 0)
	})
}

func TestReferencesTellNothingOfHiddenRecords(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		p := w.contact("agent", c, "p")
		w.exec(`UPDATE contacts SET owner_id = ?, team_id = ? WHERE id = ?`, w.users["agent2"], w.support, p)
		count := func(as, where string) any {
			return at(get[object](w, as, `{ contacts(first: 1, where: {`+where+`}) { totalCount } }`), "contacts", "totalCount")
		}
		for _, where := range []string{fmt.Sprintf("customerID: %q", c), fmt.Sprintf("customerIDIn: [%q]", c), "hasCustomer: true"} {
			require.InDelta(w.t, 1, count("admin", where), 0, where)
			require.InDelta(w.t, 0, count("agent2", where), 0, where)
		}
		require.Equal(w.t, "GRAPHQL_VALIDATION_FAILED", w.ask("agent2", fmt.Sprintf(`{ contacts(first: 1, where: {customerIDGT: %q}) { totalCount } }`, c)).code())
		history := fmt.Sprintf(`{ node(id: %q) { ... on Contact { history(first: 1) { nodes { changes { field new } } } } } }`, p)
		require.Contains(w.t, w.ask("admin", history).raw, c.String())
		require.NotContains(w.t, w.ask("agent2", history).raw, c.String())
	})
}

func TestLongPatternsAreRefused(t *testing.T) {
	each(t, func(w *world) {
		long := strings.Repeat("%", 60_000)
		for _, document := range []string{
			fmt.Sprintf(`{ customers(first: 1, where: {nameContains: %q}) { totalCount } }`, long),
			fmt.Sprintf(`{ auditEvents(first: 1, where: {actionHasPrefix: %q}) { totalCount } }`, long),
		} {
			require.Equal(w.t, "BAD_USER_INPUT", w.ask("admin", document).code())
		}
		require.Equal(w.t, "INVALID_FILTER", w.ask("admin", fmt.Sprintf(`mutation { deleteRecords(input: {select: {customers: {nameContains: %q}}, expectedCount: 0}) { operation { id } } }`, long)).code())
	})
}

func TestACursorBelongsToItsList(t *testing.T) {
	each(t, func(w *world) {
		w.contact("agent", w.customer("agent", "c"), "p")
		cursor := at(get[object](w, "agent", `{ contacts(first: 1) { pageInfo { endCursor } } }`), "contacts", "pageInfo", "endCursor")
		require.Equal(w.t, "BAD_USER_INPUT", w.ask("agent", fmt.Sprintf(`{ customers(first: 1, after: %q) { nodes { id } } }`, cursor)).code())
	})
}

func TestAVerbOnNothingNeedsTheRightAsWell(t *testing.T) {
	each(t, func(w *world) {
		require.Equal(w.t, "FORBIDDEN", w.ask("viewer", `mutation { purgeRecords(input: {select: {ids: []}}) { operation { id } } }`).code())
		require.Equal(w.t, "FORBIDDEN", w.ask("viewer", fmt.Sprintf(`mutation { deleteRecords(input: {select: {customers: {idIn: [%q]}}, expectedCount: 5}) { operation { id } } }`, w.customer("agent", "c"))).code())
	})
}

func TestAFilterWithOneBranchThatComparesNothingIsRefused(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("admin", "c")
		for _, where := range []string{
			`{or: [{name: "zz"}, {}]}`, `{or: [{name: "zz"}, {idNotIn: []}]}`, `{nameContains: ""}`, `{or: [{nameHasPrefix: ""}, {name: "zz"}]}`,
		} {
			got := w.ask("admin", `mutation { deleteRecords(input: {select: {customers: `+where+`}, expectedCount: 1}) { operation { id } } }`)
			require.Equal(w.t, "INVALID_FILTER", got.code(), where)
		}
		state := at(get[object](w, "admin", fmt.Sprintf(`{ node(id: %q) { ... on Record { state } } }`, c)), "node", "state")
		require.Equal(w.t, "ACTIVE", state)
	})
}

func TestNullsAndDefaultsAreTheSameRequest(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("admin", "c")
		seen := map[any]bool{}
		for _, more := range []string{``, `cascade: false`, `reason: null`, `reason: ""`, `states: null, cascade: false`} {
			got := get[object](w, "admin", fmt.Sprintf(`mutation { deleteRecords(input: {select: {ids: [%q]}, idempotencyKey: "k" %s}) { operation { id } } }`, c, more))
			seen[at(got, "deleteRecords", "operation", "id")] = true
		}
		require.Len(w.t, seen, 1)
		got := w.ask("admin", fmt.Sprintf(`mutation { deleteRecords(input: {select: {ids: [%q]}, idempotencyKey: "k", cascade: true}) { operation { id } } }`, c))
		require.Equal(w.t, "IDEMPOTENCY_MISMATCH", got.code())
	})
}

func TestAClearedValueIsWrittenDownAsNull(t *testing.T) {
	each(t, func(w *world) {
		c := w.create("admin", "Customer", map[string]any{"name": "c", "email": "c@example.com"})
		w.deleted("admin", c)
		get[object](w, "admin", fmt.Sprintf(`mutation { restoreRecords(input: {select: {ids: [%q]}, overrides: [{id: %q, email: null}]}) { operation { id } } }`, c, c))
		changes := at(get[object](w, "admin", fmt.Sprintf(`{ node(id: %q) { ... on Customer { email history(last: 1) { nodes { changes { field old new } } } } } }`, c)), "node", "history", "nodes", 0, "changes")
		require.Equal(w.t, []any{object{"field": "email", "old": `"c@example.com"`, "new": nil}}, changes)
	})
}

func TestWhatOneMayNotReadIsTheSameAsMissing(t *testing.T) {
	each(t, func(w *world) {
		theirs := w.customer("agent2", "theirs")
		retired := w.create("admin", "Customer", record.Values{"name": "gone", "ownerID": w.users["nobody"], "teamID": w.sales})
		w.deleted("admin", retired)
		missing := gid.New(gid.Customer)
		for _, c := range []struct {
			as     string
			hidden gid.ID
		}{{"agent", theirs}, {"stranger", theirs}, {"agent", retired}, {"stranger", retired}} {
			for _, document := range []string{
				`query($id: ID!) { node(id: $id) { id } }`,
				`query($id: ID!) { nodes(ids: [$id]) { id } }`,
				`query($id: ID!) { customers(first: 9, where: {id: $id}) { totalCount nodes { id } } }`,
				`query($id: ID!) { customers(first: 9, where: {id: $id}, states: [ACTIVE, DELETED]) { totalCount nodes { id } } }`,
				`query($id: ID!) { contacts(first: 9, where: {hasCustomerWith: [{id: $id}]}) { totalCount } }`,
				`mutation($id: ID!) { updateCustomer(input: {id: $id, version: 1, name: "y"}) { customer { id } } }`,
				`mutation($id: ID!) { deleteRecords(input: {select: {ids: [$id]}}) { operation { status changed failed items(first: 9) { nodes { code message label blockers { code } } } } } }`,
				`mutation($id: ID!) { restoreRecords(input: {select: {ids: [$id]}}) { operation { status changed failed items(first: 9) { nodes { code message label blockers { code } } } } } }`,
				`mutation($id: ID!) { createContact(input: {name: "x", customerID: $id}) { contact { id } } }`,
			} {
				hidden, none := w.ask(c.as, document, vars{"id": c.hidden}), w.ask(c.as, document, vars{"id": missing})
				require.Equal(w.t, strings.ReplaceAll(none.raw, missing.String(), "ID"), strings.ReplaceAll(hidden.raw, c.hidden.String(), "ID"), "%s: %s", c.as, document)
			}
		}
	})
}
