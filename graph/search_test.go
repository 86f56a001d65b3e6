package graph_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lethe-crm/lethe/ent"
	entcall "github.com/lethe-crm/lethe/ent/call"
	entmessage "github.com/lethe-crm/lethe/ent/message"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// found are the ids that a list answers to a search, in its order.
func (w *world) found(as, list, text string, more string) []any {
	w.t.Helper()
	fields := `{ id }`
	if list == "bin" {
		fields = `{ ... on Record { id } }`
	}
	got := get[object](w, as, `query($q: String!) { `+list+`(first: 50, search: $q`+more+`) { totalCount nodes `+fields+` } }`, vars{"q": text})
	nodes := column(at(got, list, "nodes"), "id")
	w.EqualValues(len(nodes), at(got, list, "totalCount"), text)
	return nodes
}

func TestRecordsAreFoundByWords(t *testing.T) {
	each(t, func(w *world) {
		customer := w.customer("agent", "Аптека на углу")
		texts := []string{
			"The dogs were running", "Running late: C++ and C#", "Счета за ноябрь оплачены", "请把合同发给张伟", "«Кавычки» \"quotes\" it's", "ELEPHANT слон 大象",
			"100% & | ! :* () <-> \\ NEAR(a b) OR AND NOT", "Ёлка",
		}
		var all []any
		for i, text := range texts {
			all = append(all, w.message("agent", customer, text, time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC)).String())
		}
		for query, want := range map[string][]int{
			"dog": {0}, "DOG run": {0}, "run": {1, 0}, "c++": {1}, "c#": {1}, "c": {1}, "счёт": {2}, "ноября счетом": {2}, "合同": {3}, "张伟 合同": {3}, "同合": nil,
			"кавычка": {4}, `"quotes"`: {4}, "слоны": {5}, "elephants 大象": {5}, "елка": {7}, "near or and not": {6}, "dog OR слон": nil, "dog -run": {0}, "d*": nil, "*": nil, "": nil, "'": nil,
			"100": {6}, "words:dog": nil, "{subject}: dog": nil,
		} {
			var ids []any
			for _, i := range want {
				ids = append(ids, all[i])
			}
			w.Equal(ids, append([]any(nil), w.found("agent", "messages", query, "")...), "%q", query)
		}
		w.Equal([]any{all[0], all[1]}, w.found("agent", "messages", "run", `, orderBy: {field: SENT_AT, direction: ASC}`))
		w.Equal([]any{customer.String()}, w.found("agent", "customers", "аптеки угла", ""))
		for _, query := range []string{strings.Repeat("а", 501), strings.Repeat("a b c ", 30) + "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30", "nul\x00"} {
			a := w.ask("agent", `query($q: String!) { messages(first: 1, search: $q) { nodes { id } } }`, vars{"q": query})
			w.Equal("BAD_USER_INPUT", a.code(), "%.10s", query)
		}
		for query, why := range map[string]string{strings.Repeat("а", 501): "500 characters", "nul\x00": "NUL"} {
			a := w.ask("agent", `query($q: String!) { messages(first: 1, where: {or: [{search: $q}]}) { nodes { id } } }`, vars{"q": query})
			w.Equal("BAD_USER_INPUT", a.code(), "%.10s", query)
			w.Contains(a.raw, why)
		}
		long := w.ask("agent", `query($q: String!) { messages(first: 1, where: {subjectContains: $q}) { nodes { id } } }`, vars{"q": strings.Repeat("a", 4097)})
		w.Contains(long.raw, "subjectContains is longer than 4096 bytes")

		// The same in filters, below other records, in timeline and bin, and for verbs.
		w.Equal([]any{all[0]}, w.found("agent", "messages", "run", `, where: {not: {search: "c++"}}`))
		w.Equal([]any{all[0], all[5]}, column(at(get[object](w, "agent", `{ messages(first: 9, where: {or: [{search: "dogs"}, {search: "elephant"}]}, orderBy: {field: SENT_AT, direction: ASC}) { nodes { id } } }`), "messages", "nodes"), "id"))
		for document, path := range map[string][]any{
			`{ customers(first: 9) { nodes { messages(first: 9, search: "run") { totalCount nodes { id } } } } }`:               {"customers", "nodes", 0, "messages"},
			`query($c: ID!) { timeline(customer: $c, first: 9, search: "run") { totalCount nodes { ... on Message { id } } } }`: {"timeline"},
		} {
			var v vars
			if strings.Contains(document, "$c") {
				v = vars{"c": customer.String()}
			}
			list := at(get[object](w, "agent", document, v), path...)
			w.Equal([]any{all[1], all[0]}, column(at(list, "nodes"), "id"), document)
			w.EqualValues(2, at(list, "totalCount"))
		}
		w.Len(column(at(get[object](w, "agent", `{ customers(first: 9, where: {hasMessagesWith: [{search: "elephant"}]}) { nodes { id } } }`), "customers", "nodes"), "id"), 1)
		a := get[object](w, "agent", `mutation { deleteRecords(input: {select: {messages: {search: "run"}}, expectedCount: 2}) { operation { changed } } }`)
		w.EqualValues(2, at(a, "deleteRecords", "operation", "changed"))
		w.Empty(w.found("agent", "messages", "run", ""))
		w.Equal([]any{all[1], all[0]}, w.found("agent", "messages", "run", `, states: [DELETED]`))
		w.ElementsMatch([]any{all[1], all[0]}, w.found("agent", "bin", "run", ""))
		w.Empty(w.found("agent", "bin", "elephant", ""))
	})
}

func TestWhatIsFoundFollowsTheRecord(t *testing.T) {
	each(t, func(w *world) {
		customer := w.customer("agent", "first")
		m := w.create("agent", "Message", record.Values{
			"customerID": customer, "subject": "apples", "sentAt": w.db.Now(), "sender": "Vera@Apteka.example",
			"recipients": []map[string]any{{"address": "Sales@demo.example", "name": "Olga"}, {"address": "copy@demo.example", "kind": "CC"}},
		})
		own := []any{m.String()}
		for _, query := range []string{"apple", "olga", "copy@demo.example", "vera apteka"} {
			w.Equal(own, w.found("agent", "messages", query, ""), query)
		}
		for _, where := range []string{`recipients: "sales@DEMO.example"`, `recipientsIn: ["x@y.example", "COPY@demo.example"]`, `sender: "vera@apteka.example"`} {
			w.Equal(own, w.found("agent", "messages", "apple", `, where: {`+where+`}`), where)
		}
		w.Empty(w.found("agent", "messages", "apple", `, where: {recipients: "vera@apteka.example"}`))
		w.Equal(own, w.found("agent", "messages", "apple", `, where: {not: {recipients: "vera@apteka.example"}}`))

		get[object](w, "agent", `mutation($id: ID!) { updateMessage(input: {id: $id, version: 1, subject: "pears"}) { message { version } } }`, vars{"id": m.String()})
		w.Empty(w.found("agent", "messages", "apple", ""))
		w.Equal(own, w.found("agent", "messages", "pear olga", ""))
		get[object](w, "agent", `mutation($id: ID!) { updateMessage(input: {id: $id, version: 2, recipients: [{address: "ivan@demo.example"}]}) { message { version } } }`, vars{"id": m.String()})
		w.Empty(w.found("agent", "messages", "olga", ""))
		w.Equal(own, w.found("agent", "messages", "ivan pear", ""))

		w.deleted("agent", customer)
		w.Equal(own, w.found("agent", "messages", "pear", ", states: [DELETED]"))
		get[object](w, "admin", `mutation($id: ID!) { restoreRecords(input: {select: {ids: [$id]}}) { operation { changed } } }`, vars{"id": customer.String()})
		w.Equal(own, w.found("agent", "messages", "pear", ""))

		c := w.create("agent", "Customer", record.Values{"name": "twin", "email": "old@x.example"})
		w.deleted("agent", c)
		w.create("agent", "Customer", record.Values{"name": "other twin", "email": "old@x.example"})
		a := get[object](w, "admin", `mutation($id: ID!) { restoreRecords(input: {select: {ids: [$id]}, overrides: [{id: $id, email: "new@x.example"}]}) { operation { status changed } } }`, vars{"id": c.String()})
		w.EqualValues(1, at(a, "restoreRecords", "operation", "changed"), a)
		w.Equal([]any{c.String()}, w.found("agent", "customers", "new@x.example", ""))

		w.deleted("agent", m)
		a = get[object](w, "purger", `mutation($id: ID!) { purgeRecords(input: {select: {ids: [$id]}}) { operation { status changed } } }`, vars{"id": m.String()})
		w.EqualValues(1, at(a, "purgeRecords", "operation", "changed"), a)
		var n int
		_, err := store.Build(w.db).Add(`SELECT count(*) FROM search_entries WHERE record_id = ?`, m).One(w.t.Context(), w.db, &n)
		w.NoError(err)
		w.Zero(n, "nothing of a purged record is left to be found by")
	})
}

func TestASearchTellsNothingThatIsHidden(t *testing.T) {
	each(t, func(w *world) {
		made, values := w.secrets("agent")
		hidden := 0
		for _, typ := range ent.RecordTypes {
			for _, text := range typ.Searched {
				secret, ok := values[typ.Name+"."+text.GraphQL]
				if !ok {
					continue
				}
				hidden++
				list := plural(typ.Name)
				w.Equal([]any{made[typ.Name].String()}, w.found("agent", list, secret, ""), "%s.%s", typ.Name, text.GraphQL)
				w.hide("agent", typ.Name+"."+text.GraphQL, "read", "any")
				w.Empty(w.found("agent", list, secret, ""), "%s.%s", typ.Name, text.GraphQL)
				w.Equal([]any{made[typ.Name].String()}, w.found("admin", list, secret, ""), text.GraphQL)
			}
		}
		w.Positive(hidden)
		// What is kept is searched by others: its counts would tell.
		rule := `mutation { createRetentionRule(input: {name: "r", reason: "r", type: MESSAGE, filter: {messages: {or: [{search: "secret"}, {category: SPAM}]}}, basis: OCCURRED_AT, action: DELETE, length: 1, unit: DAYS}) { rule { id } } }`
		hold := `mutation { placeHold(input: {name: "h", reason: "r", filter: {messages: {search: "secret"}}}) { hold { id } } }`
		w.hide("compliance", "Message.body", "read", "any")
		for _, document := range []string{rule, hold} {
			refused := w.ask("compliance", document)
			w.Equal("FIELD_FORBIDDEN", refused.code(), refused.raw)
		}
		get[object](w, "admin", rule)
		for _, h := range hidings {
			m := w.hidden(h, "Message", record.Values{"subject": "zanzibar"})
			w.Empty(w.found(h.as, "messages", "zanzibar", ", states: [ACTIVE, DELETED]"), h.why)
			w.Contains(w.found("admin", "messages", "zanzibar", ", states: [ACTIVE, DELETED]"), any(m.String()))
		}
		w.Equal("FIELD_FORBIDDEN", w.ask("agent", `{ messages(first: 9, where: {recipients: "a@b.example"}) { totalCount } }`).code(), "recipients are hidden from him by now")
		w.Equal("FIELD_FORBIDDEN", w.ask("agent", `{ messages(first: 9, where: {recipientsIn: ["a@b.example"]}) { totalCount } }`).code())
	})
}

func TestASearchIsOneStatementAndOneThatCounts(t *testing.T) {
	each(t, func(w *world) {
		for i := range 30 {
			w.message("agent", gid.Nil, "run", w.db.Now().Add(time.Duration(i)*time.Second))
		}
		plain := w.cost("agent", `{ messages(first: 20) { nodes { id subject } } }`)
		counts := 1
		if w.db.Dialect() == "postgres" {
			counts = 0 // it sees by itself what is frequent
		}
		w.Equal(plain+counts, w.cost("agent", `{ messages(first: 20, search: "running") { nodes { id subject } } }`))
		w.Equal(plain, w.cost("agent", `{ messages(first: 20, search: "running", orderBy: {field: UPDATED_AT, direction: DESC}) { nodes { id subject } } }`), "in another order nothing is walked")
		w.Equal(plain, w.cost("agent", `{ messages(first: 20, search: "running", states: [DELETED]) { nodes { id subject } } }`), "nor in the bin")
	})
}

func TestRecordsFromBeforeThereWasAnIndexAreFound(t *testing.T) {
	each(t, func(w *world) {
		var all []any
		for i := range 450 { // more than two batches
			all = append(all, w.message("agent", gid.Nil, "old letters", time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC)).String())
		}
		other := w.create("stranger", "Message", record.Values{"subject": "old letters", "sentAt": w.db.Now(), "recipients": []map[string]any{{"address": "far@away.example"}}})
		for _, table := range []string{"search_entries", "search_progress"} {
			w.exec(`DELETE FROM ` + table)
		}
		if w.db.Dialect() != "postgres" {
			w.exec(`INSERT INTO search_words (search_words) VALUES ('delete-all')`)
		}
		w.Empty(w.found("agent", "messages", "letter", ""))
		n, err := w.records.Reindex(w.t.Context(), 0)
		w.NoError(err)
		w.Equal(451, n)
		got := get[object](w, "agent", `{ messages(first: 1, search: "letter") { totalCount nodes { id } } }`)
		w.EqualValues(450, at(got, "messages", "totalCount"))
		w.Equal(all[449], at(got, "messages", "nodes", 0, "id"))
		w.Equal([]any{other.String()}, w.found("stranger", "messages", "far away letter", ""))
		n, err = w.records.Reindex(w.t.Context(), 0)
		w.NoError(err)
		w.Zero(n, "what is done is not done again")
	})
}

func TestMessagesAndCallsAreFiltered(t *testing.T) {
	each(t, func(w *world) {
		day := func(n int) time.Time { return time.Date(2026, 1, n, 12, 0, 0, 0, time.UTC) }
		message := func(n int, sender, category, recipient string) string {
			return w.create("agent", "Message", record.Values{
				"subject": "s", "sentAt": day(n), "sender": sender, "category": entmessage.Category(category), "recipients": []map[string]any{{"address": recipient}},
			}).String()
		}
		call := func(n int, from, to, direction string, seconds int) string {
			return w.create("agent", "Call", record.Values{
				"startedAt": day(n), "fromNumber": from, "toNumber": to, "direction": entcall.Direction(direction), "durationSeconds": seconds,
			}).String()
		}
		first := message(1, "a@x.example", "NORMAL", "us@demo.example")
		second := message(2, "b@x.example", "SPAM", "us@demo.example")
		third := message(3, "a@x.example", "MAILING", "all@demo.example")
		in := call(1, "+74951234567", "+4930123", "INBOUND", 5)
		out := call(2, "+4930123", "+74951234567", "OUTBOUND", 600)
		for filter, want := range map[string][]any{
			`messages(first: 9, where: {sentAtGTE: "2026-01-02T00:00:00Z", sentAtLT: "2026-01-03T00:00:00Z"}`:             {second},
			`messages(first: 9, where: {sender: "A@X.example"}`:                                                           {first, third},
			`messages(first: 9, where: {recipients: "US@demo.example"}`:                                                   {first, second},
			`messages(first: 9, where: {categoryIn: [SPAM, MAILING], recipients: "us@demo.example"}`:                      {second},
			`calls(first: 9, where: {startedAtGTE: "2026-01-02T00:00:00Z"}`:                                               {out},
			`calls(first: 9, where: {or: [{fromNumber: "+74951234567"}, {toNumber: "+74951234567"}]}`:                     {in, out},
			`calls(first: 9, where: {or: [{fromNumber: "+74951234567"}, {toNumber: "+74951234567"}], direction: INBOUND}`: {in},
			`calls(first: 9, where: {durationSecondsGT: 60}`:                                                              {out},
			`calls(first: 9, search: "+74951234567", where: {durationSecondsLTE: 60}`:                                     {in},
		} {
			got := get[object](w, "agent", `{ list: `+filter+`) { totalCount nodes { id } } }`)
			w.ElementsMatch(want, column(at(got, "list", "nodes"), "id"), filter)
			w.EqualValues(len(want), at(got, "list", "totalCount"), filter)
		}
	})
}
