package record_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/customer"
	"github.com/lethe-crm/lethe/ent/note"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/visible"
)

// texts differ in case, in script, in marks, and in what SQL takes for patterns
// and quotes.
var texts = []string{"Straße", "strasse", "STRASSE", "ünï", "ÜNÏ", "a", "A", "a ", "%", "_", "a_b", "a%b", "中文", "Жж", "жж", `x' OR 1=1 --`, `say "no"`, `back\slash`, "é", "e\u0301",
	"İstanbul", "istanbul", "ss", "NULL", "true", "0", "2026-03-01T12:00:00Z", "👩‍💻"}

// strangeRecords makes records of all types with values of every kind, null
// ones included, in every state and of every owner.
func (w *world) strangeRecords(r *rand.Rand, each int) map[string][]ent.Record {
	w.t.Helper()
	maybe := func(v any) any {
		if r.IntN(3) == 0 {
			return nil
		}
		return v
	}
	text := func() any { return texts[r.IntN(len(texts))] }
	moment := func() time.Time {
		at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		return []time.Time{
			at, at.Add(time.Microsecond), at.Add(500 * time.Millisecond), at.Add(-time.Second), at.AddDate(-3, 0, 0),
			time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
		}[r.IntN(7)]
	}
	customers := []any{w.customer("admin", "one"), w.customer("admin", "two")}
	makers := map[string]func(i int) record.Values{
		"Customer": func(int) record.Values {
			return record.Values{"name": text(), "phone": maybe(text()), "kind": maybe([]customer.Kind{customer.KindCOMPANY, customer.KindPERSON}[r.IntN(2)]), "endedAt": maybe(moment())}
		},
		"Deal": func(int) record.Values {
			return record.Values{
				"name": text(), "amount": maybe([]float64{0, 0.1, -1.5, 100, 100.000001, 1e14}[r.IntN(6)]), "closesAt": maybe(moment()),
				"customerID": customers[r.IntN(2)],
			}
		},
		"Message": func(int) record.Values {
			return record.Values{"subject": maybe(text()), "body": maybe(text()), "sender": maybe(text()), "sentAt": moment(), "customerID": maybe(customers[r.IntN(2)])}
		},
		"Call": func(int) record.Values {
			return record.Values{"startedAt": moment(), "durationSeconds": maybe([]int{0, 1, 59, 3600}[r.IntN(4)]), "customerID": maybe(customers[r.IntN(2)])}
		},
		"Task": func(int) record.Values {
			return record.Values{"title": text(), "body": maybe(text()), "dueAt": maybe(moment()), "done": r.IntN(2) == 0, "customerID": maybe(customers[r.IntN(2)])}
		},
	}
	makers["Contact"] = func(i int) record.Values {
		return record.Values{"name": text(), "email": maybe(fmt.Sprint(text(), i)), "phone": maybe(text()), "title": maybe(text()), "customerID": customers[r.IntN(2)]}
	}
	makers["Note"] = func(int) record.Values {
		return record.Values{"body": text(), "happenedAt": moment(), "kind": []note.Kind{note.KindMEETING, note.KindNOTE}[r.IntN(2)], "customerID": maybe(customers[r.IntN(2)])}
	}
	makers["Attachment"] = func(int) record.Values {
		return record.Values{"filename": text(), "mediaType": []string{"text/plain", "TEXT/plain"}[r.IntN(2)], "customerID": customers[r.IntN(2)]}
	}
	out := map[string][]ent.Record{}
	everyone := visible.With(w.t.Context(), visible.Everything)
	for _, t := range ent.RecordTypes {
		typ, values := t.Name, makers[t.Name]
		require.NotNil(w.t, values, "%s is tested as well", typ)
		var ids []any
		for i := range each {
			given := values(i)
			for field, v := range given {
				if v == nil {
					delete(given, field)
				}
			}
			id := w.create("admin", typ, given).RecordID()
			ids = append(ids, id)
			var retired any
			state := []string{"ACTIVE", "ACTIVE", "SUSPENDED", "ARCHIVED", "VOIDED", "DELETED"}[r.IntN(6)]
			if state == "VOIDED" || state == "DELETED" {
				retired = w.db.Now()
			}
			w.exec(`UPDATE `+t.Table+` SET owner_id = ?, team_id = ?, state = ?, retired_at = ? WHERE id = ?`,
				maybe([]any{w.users["manager"], w.users["agent"], w.users["agent2"]}[r.IntN(3)]), maybe([]any{w.sales, w.support}[r.IntN(2)]), state, retired, id)
		}
		rows, err := w.svc.Client(everyone).QueryRecords(everyone, typ, func(s *sql.Selector) { s.Where(sql.In(s.C("id"), ids...)) })
		require.NoError(w.t, err)
		// As they were made, so that a seed means the same on both databases.
		slices.SortFunc(rows, func(a, b ent.Record) int { return strings.Compare(a.RecordID().String(), b.RecordID().String()) })
		out[typ] = rows
	}
	return out
}

// randomCondition is one that the type, or every type, can have.
func (w *world) randomCondition(r *rand.Rand, typ string, rows []ent.Record, depth int) string {
	nested := func() string { return w.randomCondition(r, typ, rows, depth-1) }
	if depth > 0 {
		switch r.IntN(6) {
		case 0:
			return "not (" + nested() + ")"
		case 1:
			return "(" + nested() + ") and (" + nested() + ")"
		case 2:
			return "(" + nested() + ") or (" + nested() + ")"
		case 3:
			return "not " + []string{"owner == me", "team in my.teams", "any"}[r.IntN(3)]
		}
	}
	schema := access.Vocabulary().Schema[typ]
	names := make([]string, 0, len(schema))
	for name := range schema {
		names = append(names, name)
	}
	slices.Sort(names)
	name := names[r.IntN(len(names))]
	literal := func() string {
		props := access.RecordProps(rows[r.IntN(len(rows))]) // mostly values that are there
		v := props[name]
		switch schema[name] {
		case casbin.Int:
			return strconv.Itoa([]int{-1, 0, 1, 59, 3600, 1 << 30, 1 << 40}[r.IntN(7)])
		case casbin.Float:
			return []string{"0", "0.1", "-1.5", "100", "100.000001", "100000000000000.0"}[r.IntN(6)]
		case casbin.Bool:
			return strconv.FormatBool(r.IntN(2) == 0)
		case casbin.Time:
			at, ok := v.(time.Time)
			if !ok {
				at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3*3600))
			}
			return `"` + at.Format(time.RFC3339Nano) + `"`
		default:
			text, ok := v.(string)
			if !ok || r.IntN(4) == 0 {
				text = texts[r.IntN(len(texts))]
			}
			if strings.Contains(text, `"`) {
				return `'` + text + `'`
			}
			return `"` + text + `"`
		}
	}
	switch {
	case schema[name] == casbin.ID && r.IntN(2) == 0:
		return name + []string{" == me", " != me", " in my.teams"}[r.IntN(3)]
	case r.IntN(4) == 0:
		return name + " in (" + literal() + ", " + literal() + ")"
	case schema[name] == casbin.Int || schema[name] == casbin.Float || schema[name] == casbin.Time:
		return name + []string{" == ", " != ", " < ", " <= ", " > ", " >= "}[r.IntN(6)] + literal()
	}
	return name + []string{" == ", " != "}[r.IntN(2)] + literal()
}

// TestPropertyListsShowWhatDecisionsPermit holds the two ways in which a policy
// is asked against one another: which rows a list shows, by SQL, and what is
// decided on each row, in Go.
func TestPropertyListsShowWhatDecisionsPermit(t *testing.T) {
	pairs, rows, seed := 8_000, 25, rand.Uint64()
	if os.Getenv("LETHE_LONG") != "" {
		pairs, rows = 200_000, 60
	}
	if text := os.Getenv("LETHE_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	each(t, func(w *world) {
		r := rand.New(rand.NewPCG(seed, 0))
		records := w.strangeRecords(r, rows)
		a := actor.From(w.as("manager"))
		subject, tenant := casbin.UserSubject(a.User.String()), w.tenant.String()
		control, err := access.New(w.policy, func(string, uint64, []casbin.Finding, error) {})
		require.NoError(t, err)
		vocabulary := access.Vocabulary()
		shown, hidden, filters := 0, 0, 0
		for shown+hidden < pairs {
			typ := ent.RecordTypes[filters%len(ent.RecordTypes)].Name
			rows := records[typ]
			var rules []casbin.Rule
			for range 1 + r.IntN(3) {
				rule := casbin.Permission(subject, tenant, []string{typ, typ, "*"}[r.IntN(3)], []string{"read", "read_retired", "*", "*"}[r.IntN(4)],
					[]string{"allow", "allow", "deny"}[r.IntN(3)], w.randomCondition(r, typ, rows, 3))
				if !slices.ContainsFunc(vocabulary.Validate(tenant, append(slices.Clone(rules), rule)), func(f casbin.Finding) bool { return f.Severity == casbin.Error }) {
					rules = append(rules, rule)
				}
			}
			w.policy.mu.Lock()
			w.policy.rules[tenant] = rules
			w.policy.v++
			w.policy.mu.Unlock()
			require.NoError(t, control.Refresh(t.Context(), w.tenant))

			ctx := actor.With(t.Context(), a)
			ctx = visible.With(ctx, control.Rows(ctx, a))
			found, err := w.svc.Client(ctx).CollectRecords(ctx, typ, nil, []string{"id"})
			require.NoError(t, err, "%v", rules)
			listed := map[gid.ID]bool{}
			for _, row := range found {
				listed[row.RecordID()] = true
			}
			questions := make([]access.Question, len(rows))
			for i, row := range rows {
				questions[i] = access.Of(authz.Read, row)
				if row.RecordState().Retired() {
					questions[i].Action = authz.ReadRetired
				}
			}
			for i, answer := range control.Decide(ctx, a, questions) {
				if answer.Permit != listed[rows[i].RecordID()] {
					t.Fatalf("LETHE_SEED=%d\n%s\n%s %v: decided %v, listed %v", seed, fmt.Sprint(rules), questions[i].Action, access.RecordProps(rows[i]), answer.Permit, !answer.Permit)
				}
				if answer.Permit {
					shown++
				} else {
					hidden++
				}
			}
			filters++
		}
		t.Logf("%d filters, %d pairs: %d shown, %d hidden; LETHE_SEED=%d", filters, shown+hidden, shown, hidden, seed)
		require.Greater(t, shown, pairs/10)
		require.Greater(t, hidden, pairs/10)
	})
}
