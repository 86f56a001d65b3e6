package graph_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect"

	entmessage "github.com/lethe-crm/lethe/ent/message"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/search"
	"github.com/lethe-crm/lethe/internal/store"
)

// letter is a message of a great many.
type letter struct {
	id          string
	subject, as string
	sent        int // seconds
}

// letters are so many that a list of them is longer than is walked. They are in the index in another order than they
// were sent in, three in each second, and every fifth is of another team.
func (w *world) letters() []letter {
	random := rand.New(rand.NewPCG(1, 2))
	n, old := search.MaxWalked+search.MaxGathered+700, search.MaxGathered+500
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	models := map[string]gid.ID{}
	for _, as := range []string{"agent", "agent2"} {
		models[as] = w.create(as, "Message", record.Values{"subject": "model", "sentAt": start.AddDate(-1, 0, 0)})
	}
	var all []letter
	for place, at := range random.Perm(n) {
		one := letter{id: gid.New(gid.Message).String(), as: "agent", sent: at / 3, subject: "note"}
		if place%5 == 0 {
			one.as = "agent2"
		}
		for word, has := range map[string]bool{
			" common": place%2 == 0, " usual": place%3 == 0, " rare": place%700 == 0,
			" late": at < old, " thinning": at < old || at%30 == 0, " top": at > n-1_000,
		} {
			if has {
				one.subject += word
			}
		}
		all = append(all, one)
	}
	columns := slices.Clone(entmessage.Columns)
	for i, c := range columns {
		switch c {
		case "id":
			columns[i] = "v.column1"
		case "subject":
			columns[i] = "v.column2"
		case "sent_at":
			columns[i] = "v.column3"
		default:
			columns[i] = "m." + c
		}
	}
	values := "(?, ?, ?)"
	if w.db.Dialect() == dialect.Postgres {
		values = "(?::uuid, ?, ?::timestamptz)"
	}
	for as, model := range models {
		var rows []any
		flush := func() {
			list := strings.TrimSuffix(strings.Repeat(values+", ", len(rows)/3), ", ")
			w.exec(`INSERT INTO messages (`+strings.Join(entmessage.Columns, ", ")+`) SELECT `+strings.Join(columns, ", ")+` FROM messages m CROSS JOIN (VALUES `+list+`) v WHERE m.id = ?`, append(rows, model)...)
			rows = nil
		}
		for _, one := range all {
			if one.as == as {
				id, err := gid.Parse(one.id)
				w.NoError(err)
				rows = append(rows, id, one.subject, start.Add(time.Duration(one.sent)*time.Second))
			}
			if len(rows) == 1_500 {
				flush()
			}
		}
		flush()
	}
	w.exec(`DELETE FROM search_progress`)
	_, err := w.records.Reindex(w.t.Context(), 0)
	w.NoError(err)
	slices.SortFunc(all, func(a, b letter) int {
		if a.sent != b.sent {
			return b.sent - a.sent
		}
		return strings.Compare(b.id, a.id)
	})
	return all
}

func TestPagesOfFrequentWordsAreThoseOfTheWholeList(t *testing.T) {
	one(t, func(w *world) {
		all := w.letters()
		const size = 100
		for _, s := range []struct {
			as, words  string
			statements []int // on SQLite, of the first pages: one counts, one reads, and one more where a walk fills no page
		}{
			{"admin", "common", []int{2, 2, 2}},
			{"admin", "common usual notes", []int{2, 2}}, // only so many have all
			{"agent", "common", []int{2, 2, 2}},
			{"agent", "rare", []int{2}},
			{"agent", "top common", []int{2, 2}},
			{"admin", "late", []int{3, 2}},
			{"admin", "thinning", []int{2, 2}},
			{"admin", "note", []int{2, 2}},
			{"admin", "elephant", []int{2}},
		} {
			var want []any
			for _, l := range all {
				words := strings.Fields(strings.ReplaceAll(s.words, "notes", "note"))
				if (s.as == "admin" || l.as == s.as) && !slices.ContainsFunc(words, func(word string) bool { return !slices.Contains(strings.Fields(l.subject), word) }) {
					want = append(want, l.id)
				}
			}
			for _, way := range []struct{ size, cursor, order, end, more string }{
				{"first", "after", "DESC", "endCursor", "hasNextPage"},
				{"last", "before", "ASC", "startCursor", "hasPreviousPage"},
			} {
				cursor := "null"
				for page, statements := range s.statements {
					document := fmt.Sprintf(`{ messages(%s: %d, %s: %s, search: %q, orderBy: {field: SENT_AT, direction: %s}) { pageInfo { hasNextPage hasPreviousPage startCursor endCursor } nodes { id } } }`,
						way.size, size, way.cursor, cursor, s.words, way.order)
					why := fmt.Sprint(s.as, s.words, way.size, page)
					w.sql.take()
					list := at(get[object](w, s.as, document), "messages")
					took := w.sql.take()
					got := column(at(list, "nodes"), "id")
					if way.size == "last" {
						slices.Reverse(got)
					}
					expected := want[min(len(want), page*size):min(len(want), (page+1)*size)]
					w.Equal(append([]any{}, expected...), append([]any{}, got...), why)
					w.Equal(len(want) > (page+1)*size, at(list, "pageInfo", way.more), why)
					if w.db.Dialect() == dialect.Postgres {
						statements = 1
					}
					w.Len(took, statements, "%s: %v", why, took)
					cursor = fmt.Sprintf("%q", at(list, "pageInfo", way.end))
				}
			}
		}
		for search, want := range map[string]int{`search: "common"`: 51, `search: "common", where: {sentAtLT: "2026-01-01T00:00:00Z"}`: 0, `search: "common", where: {category: SPAM}`: 0, `search: "common", states: [DELETED]`: 0, `where: {search: "common"}`: 51} {
			list := at(get[object](w, "admin", `{ messages(first: 51, `+search+`) { totalCount nodes { id recipients { address } } } }`), "messages")
			w.Len(at(list, "nodes"), want, search)
			total := 0
			if want > 0 {
				for _, l := range all {
					if strings.Contains(l.subject, " common") {
						total++
					}
				}
			}
			w.EqualValues(total, at(list, "totalCount"), search)
		}
		var n int
		_, err := store.Build(w.db).Add(`SELECT count(*) FROM search_entries`).One(w.t.Context(), w.db, &n)
		w.NoError(err)
		w.Equal(len(all)+2, n)
	})
}
