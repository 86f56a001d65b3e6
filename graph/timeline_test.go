package graph_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
)

// exchange makes one message, call and note of a customer at each of the times.
func (w *world) exchange(as string, customer gid.ID, times ...time.Time) (newestFirst []any) {
	w.t.Helper()
	for _, at := range times {
		for _, id := range []gid.ID{
			w.message(as, customer, "m", at),
			w.create(as, "Call", record.Values{"startedAt": at, "customerID": customer}),
			w.create(as, "Note", record.Values{"body": "n", "happenedAt": at, "customerID": customer}),
		} {
			newestFirst = append([]any{id.String()}, newestFirst...)
		}
	}
	return newestFirst
}

func TestATimelineIsNewestFirstInBothDirections(t *testing.T) {
	each(t, func(w *world) {
		base := time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
		c := w.customer("agent", "c")
		w.exchange("agent", w.customer("agent", "another"), base)
		want := w.exchange("agent", c, base, base, base.Add(time.Millisecond), base.Add(time.Hour))
		for _, size := range []int{1, 2, 5, 100} {
			for _, backward := range []bool{false, true} {
				w.Equal(want, w.walk("agent", "timeline", fmt.Sprintf(", customer: %q", c), size, backward))
			}
		}
		got := get[object](w, "agent", fmt.Sprintf(`{ timeline(customer: %q, first: 2) { totalCount edges { node { __typename ... on Record { label } ... on Note { body } } } } }`, c))
		w.EqualValues(12, at(got, "timeline", "totalCount"))
		w.Equal("Note", at(got, "timeline", "edges", 0, "node", "__typename"))
		w.Equal("n", at(got, "timeline", "edges", 0, "node", "body"))
		narrowed := fmt.Sprintf(`, customer: %q, types: [CALL, NOTE], from: "2026-01-02T10:00:00.001Z", to: "2026-01-02T11:00:00Z"`, c)
		w.Equal(want[3:5], w.walk("agent", "timeline", narrowed, 1, false))
		w.Equal("BAD_USER_INPUT", w.ask("agent", fmt.Sprintf(`{ timeline(customer: %q, types: [DEAL], first: 1) { totalCount } }`, c)).code())
	})
}

func TestATimelineShowsWhatItsReaderMayRead(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		shown := w.exchange("agent", c, time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC))
		count := func(as string, customer gid.ID, arguments string) any {
			return at(get[object](w, as, fmt.Sprintf(`{ timeline(customer: %q, first: 9 %s) { totalCount nodes { ... on Record { id } } } }`, customer, arguments)), "timeline")
		}
		empty := count("agent", gid.New(gid.Customer), "")
		w.Equal(object{"totalCount": 0.0, "nodes": []any{}}, empty)
		for _, as := range []string{"agent2", "stranger"} {
			w.Equal(empty, count(as, c, ""), as)
		}
		// A note of one's own below a customer of others is in no timeline.
		own := w.create("agent", "Note", record.Values{"body": "own", "happenedAt": time.Now(), "customerID": c})
		w.exec(`UPDATE notes SET owner_id = ?, team_id = ? WHERE id = ?`, w.users["agent2"], w.support, own)
		w.Equal(empty, count("agent2", c, ""))

		gone, _ := gid.Parse(shown[0].(string))
		w.deleted("agent", gone)
		w.Equal(shown[1:], w.walk("agent", "timeline", fmt.Sprintf(", customer: %q", c), 9, false))
		w.Equal(shown[:1], w.walk("agent", "timeline", fmt.Sprintf(", customer: %q, states: [DELETED]", c), 9, false))
		cursor := at(get[object](w, "agent", `{ customers(first: 1) { pageInfo { endCursor } } }`), "customers", "pageInfo", "endCursor")
		w.Equal("BAD_USER_INPUT", w.ask("agent", fmt.Sprintf(`{ timeline(customer: %q, first: 1, after: %q) { totalCount } }`, c, cursor)).code())
	})
}

func TestTheBinIsNarrowed(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.customer("agent", "a"), w.customer("manager", "b")
		w.contact("agent", a, "below a")
		first := w.deleted("agent", a)
		second := w.deleted("manager", b)
		at1 := at(get[object](w, "admin", `{ bin(last: 1) { nodes { stateChangedAt } } }`), "bin", "nodes", 0, "stateChangedAt")
		both := ids(b, a)
		for arguments, want := range map[string][]any{
			"":                                     both,
			fmt.Sprintf(", operation: %q", first):  both[1:],
			fmt.Sprintf(", operation: %q", second): both[:1],
			fmt.Sprintf(", owner: %q", w.users["agent"]):               both[1:],
			fmt.Sprintf(", deletedBefore: %q", at1):                    nil,
			fmt.Sprintf(", deletedFrom: %q", at1):                      both,
			`, purgeBefore: "2026-02-01T00:00:00Z"`:                    nil,
			`, purgeBefore: "2027-01-01T00:00:00Z", types: [CUSTOMER]`: both,
		} {
			for _, backward := range []bool{false, true} {
				w.Equal(want, slices.Clip(w.walk("admin", "bin", arguments, 1, backward)), arguments)
			}
		}
	})
}
