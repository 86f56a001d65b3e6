package record_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// retains makes a rule of a type as compliance. It is said in short: what it
// does, to whom, and after how many days: "DELETE some 20". all are all records,
// some a filter of one comparison, few one of two.
func (w *world) retains(says, typ string, change ...func(*record.RetentionRule)) gid.ID {
	w.t.Helper()
	r := record.RetentionRule{Name: says, Reason: says, Type: typ, Basis: lifecycle.CreatedAt, EveryHours: 1, Enabled: true, Term: lifecycle.Term{Unit: lifecycle.Days}}
	var whom string
	_, err := fmt.Sscan(says, &r.Action, &whom, &r.Term.Length)
	require.NoError(w.t, err, says)
	switch whom {
	case "all":
		r.All = true
	case "some":
		r.Filter, r.Comparisons = `{"nameHasPrefix":"row"}`, 1
	case "few":
		r.Filter, r.Comparisons = `{"nameHasPrefix":"row","emailNotNil":true}`, 2
	default:
		require.Fail(w.t, "whom?", says)
	}
	for _, c := range change {
		c(&r)
	}
	id, request, err := w.svc.CreateRetentionRule(w.as("compliance"), r)
	require.NoError(w.t, err, says)
	require.Zero(w.t, request)
	return id
}

// turnTo turns the clock to a time.
func (w *world) turnTo(at time.Time) { w.clock.add(at.Sub(w.clock.now())) }

// tick lets happen what happens by itself.
func (w *world) tick() {
	w.t.Helper()
	_, err := w.svc.ApplyRules(w.t.Context())
	require.NoError(w.t, err)
	_, err = w.svc.Sweep(w.t.Context())
	require.NoError(w.t, err)
}

func (w *world) explained(as string, id gid.ID) *record.Explanation {
	w.t.Helper()
	e, err := w.svc.Explain(w.as(as), id)
	require.NoError(w.t, err)
	return e
}

// days are those between two times, which are whole ones but for a minute.
func (w *world) days(from, to time.Time) int {
	w.t.Helper()
	n := to.Sub(from).Round(day)
	require.WithinDuration(w.t, from.Add(n), to, time.Minute)
	return int(n / day)
}

// doneBy is the reason of the operation that changed a record last: that of the
// rule, or nothing for the clock of the bin.
func (w *world) doneBy(id gid.ID) string {
	w.t.Helper()
	return w.rows(`SELECT o.reason FROM operations o JOIN operation_items i ON i.operation_id = o.id WHERE i.record_id = ? AND i.outcome = 'CHANGED' ORDER BY i.id DESC LIMIT 1`, id)[0]
}

// purgeRefused is what a purge by hand would be refused as, and until when; empty
// if it would not be.
func (w *world) purgeRefused(as string, id gid.ID) (lifecycle.Code, *time.Time) {
	w.t.Helper()
	p := w.preview(as, record.Request{Verb: lifecycle.Purge, IncludeLive: true, Select: record.Selection{IDs: []gid.ID{id}}})
	require.NotEmpty(w.t, p.Items)
	if p.Items[0].Code == nil {
		require.Equal(w.t, "CHANGED", string(p.Items[0].Outcome))
		return "", nil
	}
	require.NotEmpty(w.t, p.Blocked)
	var until *time.Time // the last, of what would go along, too
	for _, b := range p.Blocked {
		if b.Until != nil && (until == nil || b.Until.After(*until)) {
			until = b.Until
		}
	}
	return lifecycle.Code(*p.Items[0].Code), until
}

// TestPrecedenceOfHoldsKeepRulesAndDeleteRules is the table of what wins: any hold,
// the longest that keeps, an explicit delete rule, the most specific rule, the
// shortest. Each row says what is explained of a record on a day, and what a purge by
// hand is refused as then; the clock is turned to see that both are true.
func TestPrecedenceOfHoldsKeepRulesAndDeleteRules(t *testing.T) {
	const (
		live, archived, voided, bin = lifecycle.Active, lifecycle.Archived, lifecycle.Voided, lifecycle.Deleted
		none, held                  = "", "held"
	)
	type row struct {
		state lifecycle.State // since day 0: the clock of the bin is 30 days
		hold  string          // or "released 25": its delay of 10 days then begins on day 25
		rules string
		on    int
		want  string // what is done, on which day, and by which rule
		stays string // HOLD or RETAINED, and until which day
	}
	rows := []row{
		// No rule acts: the bin, holds, what keeps.
		{live, none, "", 2, "nothing", ""},
		{live, held, "", 2, "nothing", "HOLD"},
		{live, "released 1", "", 2, "nothing", "RETAINED 11"},
		{live, none, "KEEP all 40", 2, "nothing by KEEP all 40", "RETAINED 40"},
		{live, "released 1", "KEEP all 40", 2, "nothing by KEEP all 40", "RETAINED 40"},
		{live, "released 1", "KEEP all 5", 2, "nothing", "RETAINED 11"},
		{live, none, "KEEP all 5", 9, "nothing", ""},
		{voided, none, "", 2, "nothing", ""},
		{bin, none, "", 2, "PURGE 30", ""},
		{bin, none, "", 35, "PURGE 30", ""}, // the sweeper was down
		{bin, held, "", 2, "PURGE", "HOLD"},
		{bin, held, "", 35, "PURGE", "HOLD"},
		{bin, "released 1", "", 2, "PURGE 30", "RETAINED 11"},
		{bin, "released 1", "", 12, "PURGE 30", ""},
		{bin, "released 25", "", 26, "PURGE 35", "RETAINED 35"},
		{bin, "released 40", "", 41, "PURGE 50", "RETAINED 50"},
		{bin, "released 40", "", 51, "PURGE 30", ""},
		{bin, none, "KEEP all 10", 2, "PURGE 30", "RETAINED 10"},
		{bin, none, "KEEP all 10", 12, "PURGE 30", ""},
		{bin, none, "KEEP all 40", 2, "PURGE 40 by KEEP all 40", "RETAINED 40"},
		{bin, none, "KEEP all 40", 35, "PURGE 40 by KEEP all 40", "RETAINED 40"},
		{bin, none, "KEEP all 40", 45, "PURGE 30", ""},
		{bin, none, "KEEP few 40, KEEP all 50", 2, "PURGE 50 by KEEP all 50", "RETAINED 50"},
		{bin, none, "KEEP few 50, KEEP all 40", 2, "PURGE 50 by KEEP few 50", "RETAINED 50"},
		{bin, held, "KEEP all 40", 2, "PURGE", "HOLD"},
		{bin, held, "KEEP all 40", 50, "PURGE", "HOLD"},
		{bin, "released 25", "KEEP all 50", 26, "PURGE 50 by KEEP all 50", "RETAINED 50"},
		{bin, "released 45", "KEEP all 50", 46, "PURGE 55", "RETAINED 55"},
		{bin, "released 25", "KEEP all 10", 26, "PURGE 35", "RETAINED 35"},

		// One rule acts.
		{live, none, "DELETE some 20", 2, "DELETE 20 by DELETE some 20", ""},
		{live, none, "DELETE all 20", 2, "DELETE 20 by DELETE all 20", ""},
		{live, none, "VOID all 20", 2, "VOID 20 by VOID all 20", ""},
		{live, none, "ARCHIVE all 20", 2, "ARCHIVE 20 by ARCHIVE all 20", ""},
		{live, none, "PURGE some 20", 2, "nothing", ""}, // what lives is not purged
		{live, none, "DELETE some 20", 25, "DELETE 20 by DELETE some 20", ""},
		{bin, none, "DELETE some 20", 2, "PURGE 30", ""},
		{bin, none, "PURGE all 20", 2, "PURGE 20 by PURGE all 20", ""},
		{bin, none, "PURGE all 50", 2, "PURGE 30", ""}, // the clock of the bin is earlier
		{bin, none, "PURGE all 20", 35, "PURGE 20 by PURGE all 20", ""},
		{voided, none, "PURGE some 20", 2, "PURGE 20 by PURGE some 20", ""},
		{voided, none, "DELETE some 20", 2, "nothing", ""},

		// A hold before all of them.
		{live, held, "DELETE some 20", 2, "DELETE", "HOLD"},
		{live, held, "VOID some 20", 2, "VOID", "HOLD"},
		{live, held, "ARCHIVE some 20", 2, "ARCHIVE", "HOLD"},
		{live, held, "KEEP all 40, DELETE few 20", 2, "DELETE", "HOLD"},
		{bin, held, "PURGE some 20", 2, "PURGE", "HOLD"},
		{voided, held, "PURGE some 20", 25, "PURGE", "HOLD"},
		{live, "released 15", "DELETE some 20", 16, "DELETE 20 by DELETE some 20", "RETAINED 25"}, // it is only purges that wait
		{live, "released 15", "ARCHIVE some 20", 16, "ARCHIVE 20 by ARCHIVE some 20", "RETAINED 25"},
		{bin, "released 15", "PURGE some 20", 16, "PURGE 25", "RETAINED 25"},
		{bin, "released 5", "PURGE some 20", 6, "PURGE 20 by PURGE some 20", "RETAINED 15"},
		{bin, "released 5", "PURGE some 20", 16, "PURGE 20 by PURGE some 20", ""},
		{voided, "released 15", "KEEP all 40, PURGE some 20", 16, "PURGE 40 by KEEP all 40", "RETAINED 40"},
		{voided, "released 35", "KEEP all 40, PURGE some 20", 36, "PURGE 45", "RETAINED 45"},

		// What keeps before what deletes and purges.
		{live, none, "KEEP all 40, DELETE few 20", 2, "DELETE 40 by KEEP all 40", "RETAINED 40"},
		{live, none, "KEEP all 40, DELETE few 20", 45, "DELETE 20 by DELETE few 20", ""},
		{live, none, "KEEP all 10, DELETE few 20", 2, "DELETE 20 by DELETE few 20", "RETAINED 10"},
		{live, none, "KEEP few 30, KEEP all 40, DELETE few 20", 2, "DELETE 40 by KEEP all 40", "RETAINED 40"},
		{live, none, "KEEP all 40, VOID few 20", 2, "VOID 20 by VOID few 20", "RETAINED 40"}, // which loses nothing
		{live, none, "KEEP all 40, ARCHIVE few 20", 2, "ARCHIVE 20 by ARCHIVE few 20", "RETAINED 40"},
		{bin, none, "KEEP all 40, PURGE few 20", 2, "PURGE 40 by KEEP all 40", "RETAINED 40"},
		{bin, none, "KEEP all 25, PURGE few 20", 2, "PURGE 25 by KEEP all 25", "RETAINED 25"},
		{bin, none, "KEEP all 10, PURGE few 20", 2, "PURGE 20 by PURGE few 20", "RETAINED 10"},
		{voided, none, "KEEP all 40, PURGE few 20", 2, "PURGE 40 by KEEP all 40", "RETAINED 40"},

		// An explicit delete rule before a more specific one, and that before a shorter one.
		{live, none, "DELETE some 50, ARCHIVE few 20", 2, "DELETE 50 by DELETE some 50", ""},
		{live, none, "DELETE some 50, VOID few 20, DELETE all 10", 2, "DELETE 50 by DELETE some 50", ""},
		{live, none, "DELETE some 20, DELETE few 50", 2, "DELETE 50 by DELETE few 50", ""},
		{live, none, "DELETE all 20, ARCHIVE some 50", 2, "ARCHIVE 50 by ARCHIVE some 50", ""}, // not explicit
		{live, none, "VOID some 20, ARCHIVE few 50", 2, "ARCHIVE 50 by ARCHIVE few 50", ""},
		{live, none, "VOID some 50, ARCHIVE some 20", 2, "ARCHIVE 20 by ARCHIVE some 20", ""},
		{live, none, "DELETE all 50, VOID all 20", 2, "VOID 20 by VOID all 20", ""},
		{live, none, "DELETE all 20, VOID all 50", 2, "DELETE 20 by DELETE all 20", ""},
		{live, none, "PURGE few 10, DELETE all 20", 2, "DELETE 20 by DELETE all 20", ""},
		{archived, none, "ARCHIVE all 1, DELETE all 20", 2, "DELETE 20 by DELETE all 20", ""}, // what has acted gives way
		{archived, none, "ARCHIVE some 1, DELETE all 20", 2, "nothing", ""},                   // but to nothing less specific
		{archived, none, "ARCHIVE few 1, DELETE some 20", 2, "DELETE 20 by DELETE some 20", ""},
		{bin, none, "DELETE some 1, PURGE some 20", 2, "PURGE 20 by PURGE some 20", ""},
		{bin, none, "PURGE some 10, PURGE few 20", 2, "PURGE 20 by PURGE few 20", ""},
		{voided, none, "VOID some 1, PURGE all 20", 2, "nothing", ""},
	}
	large(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		w.exec(`UPDATE tenants SET hold_release_days = 10 WHERE id = ?`, w.tenant)
		w.also(map[string]string{"manager": "purger", "admin": "purger"}) // of whom the one may know of holds
		for i, test := range rows {
			name := fmt.Sprintf("row %d: %s %s, %q, on %d", i+1, test.state, test.hold, test.rules, test.on)
			w.t.Run(name, func(t *testing.T) {
				outer := w.t
				w.t = t
				defer func() { w.t = outer }()
				w.precedence(fmt.Sprintf("row%d", i), test.state, test.hold, test.rules, test.on, test.want, test.stays)
			})
		}
	})
}

func (w *world) precedence(name string, state lifecycle.State, hold, rules string, on int, want, stays string) {
	w.t.Helper()
	begin := w.clock.now()
	id := w.customer("agent", name)
	if verb := map[lifecycle.State]lifecycle.Verb{lifecycle.Deleted: lifecycle.Delete, lifecycle.Voided: lifecycle.Void, lifecycle.Archived: lifecycle.Archive}[state]; verb != "" {
		w.run("manager", record.Request{Verb: verb, Reason: "day 0", Select: record.Selection{IDs: []gid.ID{id}}})
	}
	for says := range strings.SplitSeq(rules, ", ") {
		if says != "" {
			w.retains(says, "Customer")
		}
	}
	defer w.exec(`DELETE FROM retention_rules`) // of the rows after this one they are not
	w.tick()                                    // rules find out what they would do
	w.clock.add(time.Hour)
	w.tick()
	require.Equal(w.t, state, w.state(id), "nothing happens on day 0")
	if hold != "" {
		h := w.hold(record.Hold{}, id)
		var released int
		if n, _ := fmt.Sscanf(hold, "released %d", &released); n == 1 {
			w.turnTo(begin.Add(time.Duration(released) * day))
			w.release(h)
		}
	}
	w.turnTo(begin.Add(time.Duration(on) * day))

	// What is explained.
	e := w.explained("compliance", id)
	require.Equal(w.t, want, w.inShort(e, begin))
	require.Equal(w.t, stays, w.untilDay(e.Stays, e.Until, begin))
	require.Equal(w.t, e.By != nil, slices.ContainsFunc(e.Rules, func(r record.RuleAt) bool { return r.Decides }))
	require.Len(w.t, e.Rules, strings.Count(rules, ",")+min(1, len(rules)))

	// To who may not know of holds it is all the same what keeps it.
	told := w.explained("agent", id)
	require.Empty(w.t, told.Rules)
	require.Nil(w.t, told.By)
	require.Equal(w.t, e.Action, told.Action)
	require.Nil(w.t, told.Until)
	if stays == "" {
		require.Empty(w.t, told.Stays)
		require.Equal(w.t, e.At, told.At)
	} else {
		require.Equal(w.t, lifecycle.Retained, told.Stays)
		require.Nil(w.t, told.At)
	}

	// A purge by hand is refused just as that is explained.
	code, until := w.purgeRefused("admin", id)
	require.Equal(w.t, stays, w.untilDay(code, until, begin))
	code, until = w.purgeRefused("manager", id)
	require.Equal(w.t, told.Stays, code)
	require.Nil(w.t, until)
	if e.Until != nil { // not a moment longer than that
		require.Equal(w.t, lifecycle.Retained, e.Stays)
		defer func(at time.Time) {
			if w.state(id) != "" {
				w.turnTo(later(at, w.clock.now()).Add(time.Second))
				code, _ := w.purgeRefused("admin", id)
				require.Empty(w.t, code)
			}
		}(*e.Until)
	}

	// And it comes true.
	if e.At == nil || e.Action == "" {
		for range 4 {
			w.clock.add(100 * day)
			w.tick()
			require.Equal(w.t, state, w.state(id), "nothing happens to it")
		}
		return
	}
	w.comesTrue(id, state, e)
}

// comesTrue turns the clock to where something becomes of a record by what is
// explained. The clock of the bin is looked at each time; a rule acts when it is its
// turn again, an hour after it had the last one.
func (w *world) comesTrue(id gid.ID, state lifecycle.State, e *record.Explanation) {
	w.t.Helper()
	if e.At.After(w.clock.now()) {
		w.turnTo(e.At.Add(-time.Minute))
		w.tick()
		require.Equal(w.t, state, w.state(id), "it is a minute early")
		w.turnTo(e.At.Add(time.Minute))
		now := w.explained("compliance", id)
		if e.Until == nil || !e.Until.After(*e.At) { // and not only from being purged
			require.Empty(w.t, now.Stays, "nothing keeps it any more")
		}
		require.Equal(w.t, e.Action, now.Action)
		require.NotNil(w.t, now.At)
		require.False(w.t, now.At.After(*e.At))
		if e.By != nil && e.By.Action != lifecycle.KeepAction {
			require.Equal(w.t, e.By.ID, now.By.ID)
		}
		e = now
		if clock := e.PurgeAfter; e.By != nil && (clock == nil || clock.After(w.clock.now())) {
			w.tick()
			require.Equal(w.t, state, w.state(id), "it is not the rule's turn")
			w.clock.add(time.Hour)
		}
	}
	by := ""
	if clock := e.PurgeAfter; e.By != nil {
		by = e.By.Reason
		// Where both are due the sweeper may come first.
		if clock != nil && !clock.After(w.clock.now()) && !e.By.NextRunAt.Before(w.clock.now()) {
			by = ""
		}
	}
	w.tick()
	require.Equal(w.t, map[lifecycle.RetentionAction]lifecycle.State{
		lifecycle.DeleteAction: lifecycle.Deleted, lifecycle.VoidAction: lifecycle.Voided, lifecycle.ArchiveAction: lifecycle.Archived, lifecycle.PurgeAction: "",
	}[e.Action], w.state(id), "it is time")
	require.Equal(w.t, by, w.doneBy(id))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// inShort is what is explained in the words of the table.
func (w *world) inShort(e *record.Explanation, begin time.Time) string {
	w.t.Helper()
	out := "nothing"
	if e.Action != "" {
		out = string(e.Action)
	}
	if e.At != nil {
		out += fmt.Sprintf(" %d", w.days(begin, *e.At))
	}
	if e.By != nil {
		out += " by " + e.By.Name
	}
	return out
}

func (w *world) untilDay(code lifecycle.Code, until *time.Time, begin time.Time) string {
	w.t.Helper()
	if until == nil {
		return string(code)
	}
	return fmt.Sprintf("%s %d", code, w.days(begin, *until))
}

// TestPrecedenceCountsWhatCameAlong is the same for a customer in the bin whose contact came with it: what keeps the
// contact keeps both.
func TestPrecedenceCountsWhatCameAlong(t *testing.T) {
	large(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		w.exec(`UPDATE tenants SET hold_release_days = 10 WHERE id = ?`, w.tenant)
		w.also(map[string]string{"manager": "purger", "admin": "purger"})
		for i, test := range []struct {
			hold               string // of the contact
			customers, persons string // rules
			on                 int
			want, stays        string
		}{
			{"", "", "", 2, "PURGE 30", ""},
			{"held", "", "", 2, "PURGE", "HOLD"},
			{"released 1", "", "", 2, "PURGE 30", "RETAINED 11"},
			{"released 25", "", "", 26, "PURGE 35", "RETAINED 35"},
			{"", "", "KEEP all 10", 2, "PURGE 30", "RETAINED 10"},
			{"", "", "KEEP all 40", 2, "PURGE 40 by KEEP all 40", "RETAINED 40"},
			{"", "KEEP all 50", "KEEP all 40", 2, "PURGE 50 by KEEP all 50", "RETAINED 50"},
			{"", "KEEP all 40", "KEEP all 50", 2, "PURGE 50 by KEEP all 50", "RETAINED 50"},
			{"", "PURGE some 20", "KEEP all 40", 2, "PURGE 40 by KEEP all 40", "RETAINED 40"},
			{"", "PURGE some 20", "", 2, "PURGE 20 by PURGE some 20", ""},
			{"held", "PURGE some 20", "KEEP all 40", 2, "PURGE", "HOLD"},
			{"released 35", "", "KEEP all 38", 36, "PURGE 45", "RETAINED 45"},
		} {
			name := fmt.Sprintf("row %d: %s %q %q on %d", i+1, test.hold, test.customers, test.persons, test.on)
			begin := w.clock.now()
			id := w.customer("agent", fmt.Sprintf("row%d", i))
			person := w.contact("agent", id, fmt.Sprintf("person%d", i))
			w.delete("agent", id)
			for typ, says := range map[string]string{"Customer": test.customers, "Contact": test.persons} {
				if says != "" {
					w.retains(says, typ)
				}
			}
			w.tick()
			w.clock.add(time.Hour)
			w.tick()
			if test.hold != "" {
				h, released := w.hold(record.Hold{}, person), 0
				if n, _ := fmt.Sscanf(test.hold, "released %d", &released); n == 1 {
					w.turnTo(begin.Add(time.Duration(released) * day))
					w.release(h)
				}
			}
			w.turnTo(begin.Add(time.Duration(test.on) * day))
			e := w.explained("compliance", id)
			require.Equal(w.t, test.want, w.inShort(e, begin), name)
			require.Equal(w.t, test.stays, w.untilDay(e.Stays, e.Until, begin), name)
			told := w.explained("agent", id)
			require.Equal(w.t, test.stays != "", told.Stays == lifecycle.Retained, name)
			require.Equal(w.t, test.stays != "", told.At == nil, name)
			code, until := w.purgeRefused("admin", id)
			require.Equal(w.t, test.stays, w.untilDay(code, until, begin), name)
			if e.At == nil {
				w.clock.add(100 * day)
				w.tick()
				require.Equal(w.t, lifecycle.Deleted, w.state(id), name)
			} else {
				w.turnTo(e.At.Add(-time.Minute))
				w.tick()
				require.Equal(w.t, lifecycle.Deleted, w.state(id), name) // the contact may go alone, before that
				w.turnTo(e.At.Add(time.Hour + time.Minute))              // a rule acts when it is its turn again
				w.tick()
				require.Empty(w.t, w.living([]gid.ID{id, person}), name)
			}
			require.Empty(w.t, w.rows(`SELECT code FROM retention_waits`), name, "no rule has tried in vain")
			w.exec(`DELETE FROM retention_rules`)
		}
	})
}
