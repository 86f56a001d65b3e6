package graph_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"entgo.io/contrib/entgql"
	"github.com/99designs/gqlgen/graphql"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
)

// walk pages through a list and answers the ids in the order they came.
func (w *world) walk(as, field, arguments string, size int, backward bool) []any {
	w.t.Helper()
	count, cursor, more, end := "first", "after", "hasNextPage", "endCursor"
	if backward {
		count, cursor, more, end = "last", "before", "hasPreviousPage", "startCursor"
	}
	document := fmt.Sprintf(`query($c: Cursor) { %s(%s: %d, %s: $c %s) { nodes { ... on Record { id } } pageInfo { %s %s } } }`, field, count, size, cursor, arguments, more, end)
	var seen []any
	at := any(nil)
	for range 100 {
		page := get[map[string]struct {
			Nodes    []object
			PageInfo object
		}](w, as, document, vars{"c": at})[field]
		w.LessOrEqual(len(page.Nodes), size)
		var here []any
		for _, n := range page.Nodes {
			here = append(here, n["id"])
		}
		if backward {
			seen = append(here, seen...)
		} else {
			seen = append(seen, here...)
		}
		if page.PageInfo[more] != true {
			return seen
		}
		at = page.PageInfo[end]
	}
	w.Fail("a list without end")
	return nil
}

func TestPagesByTimeHoldEachMessageOnce(t *testing.T) {
	each(t, func(w *world) {
		base := time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
		var want []any
		for _, d := range []time.Duration{ // in their order; equal times are in the order of ids
			-time.Hour, 0, 0, 0, time.Microsecond, 10 * time.Microsecond, 500 * time.Millisecond, 500 * time.Millisecond,
			550 * time.Millisecond, 999999 * time.Microsecond, time.Second, time.Second + 100*time.Millisecond, 24 * time.Hour,
		} {
			want = append(want, w.message("agent", gid.Nil, "m", base.Add(d)).String())
		}
		reversed := slices.Clone(want)
		slices.Reverse(reversed)
		for _, size := range []int{1, 2, 5, 100} {
			ascending, descending := `, orderBy: {field: SENT_AT, direction: ASC}`, `, orderBy: {field: SENT_AT, direction: DESC}`
			w.Equal(want, w.walk("agent", "messages", ascending, size, false))
			w.Equal(want, w.walk("agent", "messages", ascending, size, true))
			w.Equal(reversed, w.walk("agent", "messages", descending, size, false))
			w.Equal(reversed, w.walk("agent", "messages", descending, size, true))
			w.Equal(want, w.walk("agent", "messages", "", size, false), "by id")
		}
		zone := base.In(time.FixedZone("", 3*3600)).Format(time.RFC3339)
		w.Len(at(get[object](w, "agent", `query($t: Time) { messages(first: 100, where: {sentAt: $t}) { nodes { id } } }`, vars{"t": zone}), "messages", "nodes"), 3,
			"a time is the same in any zone")
	})
}

func TestEveryOrderPagesInBothDirections(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "owner")
		for _, name := range []string{"b", "a", "a", "Ünïcode", "c"} {
			w.customer("agent", name)
			w.contact("agent", c, name)
			w.create("agent", "Deal", record.Values{"name": name, "customerID": c})
			w.message("agent", c, name, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		}
		for field, orders := range map[string][]string{
			"customers": {"NAME", "NUMBER", "CREATED_AT", "UPDATED_AT", "STATE_CHANGED_AT"},
			"contacts":  {"NAME", "CREATED_AT", "UPDATED_AT", "STATE_CHANGED_AT"},
			"deals":     {"NAME", "NUMBER", "CREATED_AT", "UPDATED_AT", "STATE_CHANGED_AT"},
			"messages":  {"SENT_AT", "CREATED_AT", "UPDATED_AT", "STATE_CHANGED_AT"},
		} {
			for _, order := range orders {
				arguments := fmt.Sprintf(`, orderBy: {field: %s, direction: DESC}`, order)
				whole := w.walk("agent", field, arguments, 100, false)
				w.GreaterOrEqual(len(whole), 5)
				w.Equal(whole, w.walk("agent", field, arguments, 2, false), order)
				w.Equal(whole, w.walk("agent", field, arguments, 2, true), order)
			}
		}
	})
}

func TestFirstGoesWithBeforeAndLastWithAfter(t *testing.T) {
	each(t, func(w *world) {
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			w.customer("agent", name)
		}
		edges := at(get[object](w, "agent", `{ customers(first: 5) { edges { cursor } } }`), "customers", "edges")
		for _, test := range []struct {
			arguments string
			cursor    int
			want      []any
		}{
			{"first: 2, before: $c", 3, []any{"a", "b"}},
			{"last: 2, after: $c", 0, []any{"d", "e"}},
			{"first: 2, after: $c", 1, []any{"c", "d"}},
			{"last: 2, before: $c", 3, []any{"b", "c"}},
		} {
			got := get[object](w, "agent", `query($c: Cursor) { customers(`+test.arguments+`) { nodes { name } } }`, vars{"c": at(edges, test.cursor, "cursor")})
			w.Equal(test.want, column(at(got, "customers", "nodes"), "name"), test.arguments)
		}
	})
}

func TestConnectionsWantFirstOrLastUpTo100(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.contact("agent", c, "x")
		op := w.deleted("agent", w.customer("agent", "b"))
		for _, field := range []string{
			`customers%s { nodes { id } }`, `contacts%s { totalCount }`, `deals%s { nodes { id } }`, `messages%s { nodes { id } }`,
			`operations%s { nodes { id } }`, `bin%s { nodes { id } }`,
			`customers(first: 1) { nodes { contacts%s { nodes { id } } } }`,
			`customers(first: 1) { nodes { contacts%s { totalCount } } }`,
			`customers(first: 1) { nodes { history%s { nodes { id } } } }`,
			`operation(id: "` + op + `") { items%s { nodes { id } } }`,
		} {
			for _, arguments := range []string{"", "(first: 0)", "(first: -1)", "(first: 101)", "(last: 101)", "(first: 1, last: 1)", "(first: null)"} {
				a := w.ask("agent", "{ "+fmt.Sprintf(field, arguments)+" }")
				w.Contains([]string{"BAD_USER_INPUT", "QUERY_LIMIT"}, a.code(), "%s with %s", field, arguments)
			}
			get[object](w, "agent", "{ "+fmt.Sprintf(field, "(first: 100)")+" }")
			get[object](w, "agent", "{ "+fmt.Sprintf(field, "(last: 1)")+" }")
		}
		w.Contains([]string{"BAD_USER_INPUT", "QUERY_LIMIT"}, w.ask("compliance", `{ auditEvents { totalCount } }`).code())
	})
}

func encodeCursor(c ent.Cursor) string {
	var b strings.Builder
	c.MarshalGQL(&b)
	return strings.Trim(b.String(), `"`)
}

func raw(v any) string {
	b, err := msgpack.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

func TestMadeUpCursorsAreBadInput(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.contact("agent", c, "x")
		w.deleted("agent", w.customer("agent", "b"))
		op := w.deleted("agent", w.customer("agent", "c"))
		cursors := map[string]string{
			"empty":               "",
			"no base64":           "~~~",
			"no msgpack":          base64.RawStdEncoding.EncodeToString([]byte{0xc1, 0xff}),
			"another thing":       raw(map[string]any{"i": 7}),
			"text for an id":      raw(map[string]any{"i": "customer_x"}),
			"a list for a value":  raw(map[string]any{"i": c.String(), "v": []int{1, 2}}),
			"a map for a value":   raw(map[string]any{"i": c.String(), "v": map[string]int{"a": 1}}),
			"a NUL in its text":   encodeCursor(ent.Cursor{ID: c, Value: "a\x00b"}),
			"no UTF-8 in it":      encodeCursor(ent.Cursor{ID: c, Value: "\xff\xfe"}),
			"a megabyte":          raw(map[string]any{"i": c.String(), "v": strings.Repeat("x", 500_000)}),
			"lists in lists":      base64.RawStdEncoding.EncodeToString(append([]byte("\x82\xa1i\xa1x\xa1v"), []byte(strings.Repeat("\x91", 500_000))...)),
			"a number for a time": encodeCursor(ent.Cursor{ID: c, Value: 7}),
			"text for a time":     encodeCursor(ent.Cursor{ID: c, Value: "2026-01-01"}),
		}
		for name, cursor := range cursors {
			for _, document := range []string{
				`query($c: Cursor) { customers(first: 1, after: $c, orderBy: {field: CREATED_AT}) { nodes { id } } }`,
				`query($c: Cursor) { customers(first: 1) { nodes { contacts(first: 1, before: $c, orderBy: {field: CREATED_AT}) { nodes { id } } } } }`,
				`query($c: Cursor) { bin(first: 1, after: $c) { nodes { id } } }`,
			} {
				a := w.ask("agent", document, vars{"c": cursor})
				w.Equal("BAD_USER_INPUT", a.code(), "%s: %s", name, a.raw)
				w.NotEmpty(a.Errors[0].Extensions["fields"], a.raw)
			}
		}
		for _, document := range []string{
			`query($c: Cursor) { customers(first: 1, after: $c) { nodes { id } } }`,
			`query($c: Cursor) { customers(first: 1) { nodes { history(first: 1, after: $c) { nodes { id } } } } }`,
			`query($c: Cursor) { operation(id: "` + op + `") { items(first: 1, after: $c) { nodes { id } } } }`,
			`query($c: Cursor) { messages(last: 1, before: $c, orderBy: {field: SENT_AT}) { nodes { id } } }`,
		} {
			other := encodeCursor(ent.Cursor{ID: c, Value: "a"})
			w.Equal("BAD_USER_INPUT", w.ask("agent", document, vars{"c": other}).code(), "a cursor of another order: %s", document)
		}
		w.NotContains(w.log.String(), "ERROR", "nothing of that is our fault")
	})
}

func TestCursorsOfOddValuesDoNotReachTheDatabaseAsErrors(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		for _, v := range []any{time.Time{}, time.Unix(0, 0), time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), time.Date(-4000, 1, 1, 0, 0, 0, 0, time.UTC)} {
			for _, id := range []gid.ID{c, gid.New(gid.User)} {
				a := w.ask("agent", `query($c: Cursor) { customers(first: 1, after: $c, orderBy: {field: CREATED_AT}) { nodes { id } } }`, vars{"c": encodeCursor(ent.Cursor{ID: id, Value: v})})
				if len(a.Errors) > 0 {
					w.Equal("BAD_USER_INPUT", a.code(), "%v: %s\n%s", v, a.raw, w.log)
				}
			}
		}
	})
}

func TestNodesAloneAreEnoughBesideTotalCount(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		want := ids(w.contact("agent", c, "x"), w.contact("agent", c, "y"), w.contact("agent", c, "z"))
		got := get[object](w, "agent", `{ customers(first: 5) { nodes { contacts(first: 2) { nodes { id } totalCount } } totalCount } }`)
		w.EqualValues(1, at(got, "customers", "totalCount"))
		contacts := at(got, "customers", "nodes", 0, "contacts")
		w.Equal(want[:2], column(at(contacts, "nodes"), "id"))
		w.EqualValues(3, at(contacts, "totalCount"))

		got = get[object](w, "agent", `{ customers(first: 5) { nodes { contacts(first: 2) { totalCount } } } }`)
		w.EqualValues(3, at(got, "customers", "nodes", 0, "contacts", "totalCount"), "the total alone")
	})
}

func TestPageInfoCostsNoCount(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.contact("agent", c, "x")
		w.contact("agent", c, "y")
		w.sql.take()
		got := get[object](w, "agent", `{ customers(first: 1) { pageInfo { hasNextPage } nodes { contacts(first: 1) { pageInfo { hasNextPage endCursor } } } } }`)
		w.Equal(false, at(got, "customers", "pageInfo", "hasNextPage"))
		w.Equal(true, at(got, "customers", "nodes", 0, "contacts", "pageInfo", "hasNextPage"))
		sent := w.sql.take()
		w.Len(sent, 2)
		for _, s := range sent {
			w.NotContains(s, "COUNT")
		}
	})
}

func TestNodesAreSelectedInOnePlace(t *testing.T) {
	each(t, func(w *world) {
		a := w.ask("agent", `{ customers(first: 1) { nodes { id } edges { node { id } } } }`)
		w.Equal("BAD_USER_INPUT", a.code())
	})
}

func TestCursorsAreRead(t *testing.T) {
	t.Parallel()
	c := ent.Cursor{ID: gid.New(gid.Customer), Value: strings.Repeat("名", 500)}
	back, err := ent.UnmarshalCursor(encodeCursor(c))
	require.NoError(t, err, "the longest name fits")
	require.Equal(t, c.Value, back.Value)
	var _ graphql.Marshaler = entgql.Cursor[gid.ID]{}
}
