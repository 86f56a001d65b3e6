package lifecycle_test

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// dayOne is what the days of these tests count from.
var dayOne = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func onDay(n int) time.Time { return dayOne.Add(time.Duration(n) * 24 * time.Hour) }

// clause is a rule with a filter of so many comparisons, whose time comes on a day.
func clause(key string, action lifecycle.RetentionAction, comparisons, day int) lifecycle.Clause {
	return lifecycle.Clause{Key: key, Action: action, Comparisons: comparisons, At: onDay(day)}
}

// told is a ruling in short: what is done, on which day and by what, and what keeps
// the record from being purged until which day.
func told(r lifecycle.Ruling) string {
	day := func(at time.Time) int { return int(at.Sub(dayOne) / (24 * time.Hour)) }
	out := "nothing"
	if r.Action != "" {
		out = string(r.Action)
	}
	if r.At != nil {
		out += fmt.Sprintf(" on %d", day(*r.At))
	}
	if r.By != "" {
		out += " by " + r.By
	}
	if r.Stays != "" {
		out += ", " + string(r.Stays)
	}
	if r.Until != nil {
		out += fmt.Sprintf(" until %d", day(*r.Until))
	}
	return out
}

func TestWhichRuleWins(t *testing.T) {
	t.Parallel()
	const (
		keep, remove, void, archive, purge   = lifecycle.KeepAction, lifecycle.DeleteAction, lifecycle.VoidAction, lifecycle.ArchiveAction, lifecycle.PurgeAction
		active, suspended, archived, deleted = lifecycle.Active, lifecycle.Suspended, lifecycle.Archived, lifecycle.Deleted
		voided                               = lifecycle.Voided
	)
	type clauses = []lifecycle.Clause
	for _, test := range []struct {
		name     string
		state    lifecycle.State
		held     bool
		released int // the day on which its clocks go on
		bin      int // the day of the bin's clock
		clauses  clauses
		want     string // on day 1
	}{
		{"nothing is about it", active, false, 0, 0, nil, "nothing"},
		{"the clock of the bin", deleted, false, 0, 30, nil, "PURGE on 30"},
		{"voided records have no clock", voided, false, 0, 0, nil, "nothing"},
		{"the clock of an orphan", voided, false, 0, 30, nil, "PURGE on 30"},
		{"a clock is of no account while the record lives", active, false, 0, 30, nil, "nothing"},

		{"a hold before the longest that keeps", deleted, true, 0, 30, clauses{clause("k", keep, 0, 90)}, "PURGE, HOLD"},
		{"a hold before an explicit delete rule", active, true, 0, 0, clauses{clause("d", remove, 3, 5)}, "DELETE, HOLD"},
		{"a hold stops what loses nothing, too", active, true, 0, 0, clauses{clause("a", archive, 3, 5)}, "ARCHIVE, HOLD"},
		{"a hold on what nothing is about", active, true, 0, 0, nil, "nothing, HOLD"},
		{"a hold before the delay of one that was released", deleted, true, 40, 30, nil, "PURGE, HOLD"},

		{"the delay after a hold stops the clock of the bin", deleted, false, 40, 30, nil, "PURGE on 40, RETAINED until 40"},
		{"a clock that goes on longer", deleted, false, 20, 30, nil, "PURGE on 30, RETAINED until 20"},
		{"the delay stops rules that purge", deleted, false, 20, 30, clauses{clause("p", purge, 0, 5)}, "PURGE on 20, RETAINED until 20"},
		{"the delay stops no deletion, but a purge", active, false, 20, 0, clauses{clause("d", remove, 1, 5)}, "DELETE on 5 by d, RETAINED until 20"},
		{"the delay and nothing to come", active, false, 20, 0, nil, "nothing, RETAINED until 20"},
		{"the delay is over", deleted, false, 1, 30, nil, "PURGE on 30"},

		{"a rule that keeps before the clock of the bin", deleted, false, 0, 30, clauses{clause("k", keep, 0, 90)}, "PURGE on 90 by k, RETAINED until 90"},
		{"one that keeps for less time", deleted, false, 0, 30, clauses{clause("k", keep, 0, 20)}, "PURGE on 30, RETAINED until 20"},
		{"one that keeps no more", deleted, false, 0, 30, clauses{clause("k", keep, 0, 1)}, "PURGE on 30"},
		{"the longest that keeps, not the most specific", deleted, false, 0, 30, clauses{clause("k", keep, 3, 40), clause("l", keep, 0, 90)}, "PURGE on 90 by l, RETAINED until 90"},
		{"of two that keep as long, always the same", deleted, false, 0, 30, clauses{clause("l", keep, 0, 90), clause("k", keep, 0, 90)}, "PURGE on 90 by k, RETAINED until 90"},
		{"one that keeps before an explicit delete rule", active, false, 0, 0, clauses{clause("k", keep, 0, 90), clause("d", remove, 3, 5)}, "DELETE on 90 by k, RETAINED until 90"},
		{"one that keeps before a rule that purges", deleted, false, 0, 30, clauses{clause("k", keep, 0, 20), clause("p", purge, 3, 5)}, "PURGE on 20 by k, RETAINED until 20"},
		{"one that keeps stops nothing that loses nothing", active, false, 0, 0, clauses{clause("k", keep, 0, 90), clause("a", archive, 0, 5)}, "ARCHIVE on 5 by a, RETAINED until 90"},
		{"one that keeps stops no voiding", active, false, 0, 0, clauses{clause("k", keep, 0, 90), clause("v", void, 0, 5)}, "VOID on 5 by v, RETAINED until 90"},
		{"one that keeps what nothing else is about", active, false, 0, 0, clauses{clause("k", keep, 0, 90)}, "nothing by k, RETAINED until 90"},
		{"the delay after a hold, longer than what keeps", deleted, false, 90, 30, clauses{clause("k", keep, 0, 40)}, "PURGE on 90, RETAINED until 90"},
		{"the delay after a hold, shorter than what keeps", deleted, false, 40, 30, clauses{clause("k", keep, 0, 90)}, "PURGE on 90 by k, RETAINED until 90"},

		{"an explicit delete rule before a more specific one", active, false, 0, 0, clauses{clause("d", remove, 1, 50), clause("a", archive, 3, 5)}, "DELETE on 50 by d"},
		{"a rule that deletes everything is not explicit", active, false, 0, 0, clauses{clause("d", remove, 0, 5), clause("a", archive, 1, 50)}, "ARCHIVE on 50 by a"},
		{"the most specific of explicit ones", active, false, 0, 0, clauses{clause("d", remove, 1, 5), clause("e", remove, 2, 50)}, "DELETE on 50 by e"},
		{"the most specific before the shortest", active, false, 0, 0, clauses{clause("a", archive, 1, 5), clause("v", void, 2, 50)}, "VOID on 50 by v"},
		{"the shortest of those as specific", active, false, 0, 0, clauses{clause("v", void, 2, 50), clause("a", archive, 2, 5)}, "ARCHIVE on 5 by a"},
		{"the shortest of those about everything", active, false, 0, 0, clauses{clause("d", remove, 0, 50), clause("v", void, 0, 5)}, "VOID on 5 by v"},
		{"of two alike always the same", active, false, 0, 0, clauses{clause("e", remove, 1, 5), clause("d", remove, 1, 5)}, "DELETE on 5 by d"},
		{"suspended records are live", suspended, false, 0, 0, clauses{clause("a", archive, 1, 5)}, "ARCHIVE on 5 by a"},

		{"one that has acted gives way to one as specific", archived, false, 0, 0, clauses{clause("a", archive, 1, 5), clause("v", void, 1, 50)}, "VOID on 50 by v"},
		{"one that has acted stands before one less specific", archived, false, 0, 0, clauses{clause("a", archive, 1, 5), clause("d", remove, 0, 50)}, "nothing"},
		{"what is deleted can be purged by one as specific", deleted, false, 0, 30, clauses{clause("d", remove, 1, 1), clause("p", purge, 1, 5)}, "PURGE on 5 by p"},
		{"the clock of the bin before a rule that purges later", deleted, false, 0, 30, clauses{clause("p", purge, 1, 50)}, "PURGE on 30"},
		{"rules that purge are not about what lives", active, false, 0, 0, clauses{clause("p", purge, 1, 5)}, "nothing"},
		{"nor rules that archive about what is retired", voided, false, 0, 0, clauses{clause("a", archive, 3, 5), clause("p", purge, 0, 50)}, "PURGE on 50 by p"},
		{"nor rules that delete about what is voided", voided, false, 0, 0, clauses{clause("d", remove, 3, 5)}, "nothing"},
		{"a time that has passed is told", active, false, 0, 0, clauses{clause("d", remove, 1, 0)}, "DELETE on 0 by d"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := lifecycle.Standing{State: test.state, Held: test.held, Clauses: test.clauses}
			if test.released > 0 {
				s.Released = onDay(test.released)
			}
			if test.bin > 0 {
				at := onDay(test.bin)
				s.PurgeAfter = &at
			}
			require.Equal(t, test.want, told(s.Rule(onDay(1))))
		})
	}
}

// standings draws what may be known of a record. Times are few, so that they meet.
var standings = rapid.Custom(func(t *rapid.T) lifecycle.Standing {
	days := rapid.IntRange(0, 6)
	s := lifecycle.Standing{State: rapid.SampledFrom(lifecycle.States()).Draw(t, "state"), Held: rapid.IntRange(0, 4).Draw(t, "held") == 0}
	if s.State.Retired() && rapid.Bool().Draw(t, "clock") {
		at := onDay(days.Draw(t, "purge after"))
		s.PurgeAfter = &at
	}
	if rapid.Bool().Draw(t, "released") {
		s.Released = onDay(days.Draw(t, "released on"))
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "clauses") {
		action := lifecycle.RetentionAction(rapid.SampledFrom(lifecycle.RetentionAction("").Values()).Draw(t, "action"))
		s.Clauses = append(s.Clauses, clause(string(rune('a'+i)), action, rapid.IntRange(0, 2).Draw(t, "comparisons"), days.Draw(t, "day")))
	}
	return s
})

// happens is when the ruling does something, never for what does nothing.
func happens(r lifecycle.Ruling) time.Time {
	if r.Action == "" || r.At == nil {
		return onDay(1000)
	}
	return *r.At
}

func TestRulingsHoldTogether(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := standings.Draw(t, "standing")
		now := onDay(rapid.IntRange(0, 7).Draw(t, "now"))
		before := fmt.Sprint(s)
		r := s.Rule(now)
		require.Equal(t, before, fmt.Sprint(s), "it changes nothing")

		shuffled := s
		shuffled.Clauses = append([]lifecycle.Clause{}, s.Clauses...)
		rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed"))).Shuffle(len(shuffled.Clauses), func(i, j int) {
			shuffled.Clauses[i], shuffled.Clauses[j] = shuffled.Clauses[j], shuffled.Clauses[i]
		})
		require.Equal(t, told(r), told(shuffled.Rule(now)), "the order of rules is of no account")

		held := s
		held.Held = true
		h := held.Rule(now)
		require.Equal(t, lifecycle.Hold, h.Stays)
		require.Nil(t, h.At, "a hold stops everything")
		require.Empty(t, h.By)
		require.Equal(t, r.Action, h.Action, "and else changes nothing")

		require.Equal(t, r.Stays == lifecycle.Retained, r.Until != nil)
		if r.Until != nil {
			require.True(t, r.Until.After(now), "what keeps it is not over")
		}
		if !s.Held && r.Action != "" {
			require.NotNil(t, r.At)
			require.False(t, lifecycle.Next(s.State, r.Action.Verb()).Unchanged, "it is not there already")
			require.True(t, lifecycle.Next(s.State, r.Action.Verb()).Applies(), "and can go there")
		}
		if r.Stays == lifecycle.Retained && r.Action == lifecycle.PurgeAction {
			require.False(t, r.At.Before(*r.Until), "nothing is purged while it is kept")
		}
		for _, c := range s.Clauses {
			kept := c.Action == lifecycle.KeepAction && c.At.After(now)
			if kept && !s.Held && r.Action.Loses() {
				require.False(t, r.At.Before(c.At), "nothing is lost while a rule keeps it")
			}
			if kept && !s.Held {
				require.False(t, r.Until.Before(c.At))
			}
		}
	})
}

func TestOneMoreThatKeepsNeverMakesALossEarlier(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := standings.Draw(t, "standing")
		now := onDay(rapid.IntRange(0, 7).Draw(t, "now"))
		more := s
		more.Clauses = append(append([]lifecycle.Clause{}, s.Clauses...), clause("z", lifecycle.KeepAction, rapid.IntRange(0, 2).Draw(t, "comparisons"), rapid.IntRange(0, 9).Draw(t, "day")))
		before, after := s.Rule(now), more.Rule(now)
		require.Equal(t, before.Action, after.Action, "it does not change what is done")
		require.False(t, happens(after).Before(happens(before)))
		if !before.Action.Loses() {
			require.Equal(t, happens(before), happens(after), "it stops only what loses the record")
		}
		if before.Until != nil {
			require.False(t, after.Until.Before(*before.Until))
		}

		delayed := s
		delayed.Released = s.Released.Add(24 * time.Hour)
		if s.Released.IsZero() {
			delayed.Released = onDay(rapid.IntRange(0, 9).Draw(t, "released"))
		}
		late := delayed.Rule(now)
		require.Equal(t, before.Action, late.Action)
		require.False(t, happens(late).Before(happens(before)), "nor does a delay")
	})
}

// TestARulingComesTrue turns the clock: what is ruled of a later time is what is ruled then.
func TestARulingComesTrue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := standings.Draw(t, "standing")
		r := s.Rule(onDay(0))
		if s.Held || r.Action == "" {
			return
		}
		then := s.Rule(*r.At)
		require.Equal(t, r.Action, then.Action)
		require.False(t, then.At.After(*r.At), "its time has come")
		if just := r.At.Add(-time.Microsecond); just.After(onDay(0)) {
			require.Equal(t, happens(r), happens(s.Rule(just)), "and not before")
		}
	})
}

// moments draws times to the microsecond; many are at the ends of months, where
// terms are hard.
var moments = rapid.Custom(func(t *rapid.T) time.Time {
	month := time.Date(rapid.IntRange(1999, 2101).Draw(t, "year"), time.Month(rapid.IntRange(1, 12).Draw(t, "month")), 1, 0, 0, 0, 0, time.UTC)
	day := rapid.OneOf(rapid.IntRange(0, 30), rapid.IntRange(26, 31)).Draw(t, "day")
	of := rapid.OneOf(rapid.SampledFrom([]int64{0, 1, 24*3600_000_000 - 1}), rapid.Int64Range(0, 24*3600_000_000-1)).Draw(t, "microseconds")
	return month.AddDate(0, 0, day).Add(time.Duration(of) * time.Microsecond)
})

var terms = rapid.Custom(func(t *rapid.T) lifecycle.Term {
	if rapid.Bool().Draw(t, "days") {
		return lifecycle.Term{Length: rapid.OneOf(rapid.IntRange(0, 70), rapid.IntRange(0, 36_600)).Draw(t, "length"), Unit: lifecycle.Days}
	}
	return lifecycle.Term{Length: rapid.OneOf(rapid.IntRange(0, 26), rapid.IntRange(0, 1_200)).Draw(t, "length"), Unit: lifecycle.Months}
})

func TestTheEndsOfTerms(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		begin  string
		length int
		unit   lifecycle.Unit
		end    string
	}{
		{"2026-03-28T12:00:00Z", 2, lifecycle.Days, "2026-03-30T12:00:00Z"},
		{"2026-03-28T23:30:00+02:00", 1, lifecycle.Days, "2026-03-29T21:30:00Z"},
		{"2026-01-15T08:30:00Z", 1, lifecycle.Months, "2026-02-15T08:30:00Z"},
		{"2026-01-28T08:30:00Z", 1, lifecycle.Months, "2026-02-28T08:30:00Z"},
		{"2026-01-29T08:30:00Z", 1, lifecycle.Months, "2026-03-01T00:00:00Z"},
		{"2026-01-31T08:30:00Z", 1, lifecycle.Months, "2026-03-01T00:00:00Z"},
		{"2028-01-29T08:30:00Z", 1, lifecycle.Months, "2028-02-29T08:30:00Z"},
		{"2028-01-30T08:30:00Z", 1, lifecycle.Months, "2028-03-01T00:00:00Z"},
		{"2028-02-29T08:30:00Z", 12, lifecycle.Months, "2029-03-01T00:00:00Z"},
		{"2028-02-29T08:30:00Z", 48, lifecycle.Months, "2032-02-29T08:30:00Z"},
		{"2096-02-29T08:30:00Z", 48, lifecycle.Months, "2100-03-01T00:00:00Z"}, // 2100 is no leap year
		{"2026-08-31T08:30:00Z", 1, lifecycle.Months, "2026-10-01T00:00:00Z"},
		{"2026-10-31T08:30:00Z", 2, lifecycle.Months, "2026-12-31T08:30:00Z"},
		{"2026-12-31T23:00:00-02:00", 1, lifecycle.Months, "2027-02-01T01:00:00Z"}, // it is 1 January in UTC
	} {
		begin, err := time.Parse(time.RFC3339, test.begin)
		require.NoError(t, err)
		term := lifecycle.Term{Length: test.length, Unit: test.unit}
		require.Equal(t, test.end, term.After(begin).Format(time.RFC3339), "%s and %v", test.begin, term)
	}
}

// TestSQLAndGoAgreeOnWhenATermHasEnded is what the database relies on: it compares
// where a record begins with Before, the service compares After with now.
func TestSQLAndGoAgreeOnWhenATermHasEnded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		term, begin := terms.Draw(t, "term"), moments.Draw(t, "begin")
		near := term.After(begin).Add(time.Duration(rapid.SampledFrom([]int64{-2, -1, 0, 1, 2}).Draw(t, "microseconds")) * time.Microsecond)
		for _, now := range []time.Time{near, term.After(begin), near.AddDate(0, 0, rapid.IntRange(-4, 4).Draw(t, "days")), moments.Draw(t, "now")} {
			require.Equal(t, !term.After(begin).After(now), !begin.After(term.Before(now)), "%v from %s, at %s", term, begin, now)
		}
		last := term.Before(begin) // the latest to have ended by then
		require.False(t, term.After(last).After(begin))
		require.True(t, term.After(last.Add(time.Microsecond)).After(begin))
	})
}

func TestWhatBeginsLaterNeverEndsEarlier(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		term, a := terms.Draw(t, "term"), moments.Draw(t, "begin")
		b := rapid.OneOf(moments, rapid.Custom(func(t *rapid.T) time.Time {
			return a.Add(time.Duration(rapid.Int64Range(0, 4*24*3600_000_000).Draw(t, "later")) * time.Microsecond)
		})).Draw(t, "other")
		if b.Before(a) {
			a, b = b, a
		}
		require.False(t, term.After(b).Before(term.After(a)))
		require.False(t, term.Before(b).Before(term.Before(a)))
		require.False(t, term.After(a).Before(a), "no term ends before it begins")
		longer := term
		longer.Length++
		require.True(t, term.After(a).Before(longer.After(a)))
		require.Equal(t, term.After(a), term.After(a.In(time.FixedZone("", 5*3600))), "the zone is of no account")
	})
}

func TestATermAtLeastAsLongNeverEndsEarlier(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b, begin := terms.Draw(t, "term"), terms.Draw(t, "other"), moments.Draw(t, "begin")
		if rapid.Bool().Draw(t, "close") { // as long as the other, counted otherwise
			a = lifecycle.Term{Length: max(0, b.Length/rapid.SampledFrom([]int{27, 28, 30, 31}).Draw(t, "of")), Unit: lifecycle.Months}
			if b.Unit == lifecycle.Months {
				a = lifecycle.Term{Length: b.Length * rapid.SampledFrom([]int{28, 30, 31}).Draw(t, "of"), Unit: lifecycle.Days}
			}
		}
		require.True(t, a.AtLeast(a))
		if a.AtLeast(b) {
			require.False(t, a.After(begin).Before(b.After(begin)), "%v from %s ends before %v", a, begin, b)
		} else if a.Unit == b.Unit {
			require.True(t, b.AtLeast(a))
		}
	})
}

func TestAReleasedHoldKeepsFromBeingPurgedWhatARuleDeletes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	deletes, released, kept := now.Add(time.Hour), now.Add(30*time.Hour), now.Add(10*time.Hour)
	s := lifecycle.Standing{
		State: lifecycle.Active, Released: released,
		Clauses: []lifecycle.Clause{{Key: "deletes", Action: lifecycle.DeleteAction, At: deletes}},
	}
	// It goes into the bin on its day, and is purged no sooner than the clocks go on.
	require.Equal(t, lifecycle.Ruling{By: "deletes", Action: lifecycle.DeleteAction, At: &deletes, Stays: lifecycle.Retained, Until: &released}, s.Rule(now))
	// What is kept by a rule is not deleted, either.
	s.Clauses = append(s.Clauses, lifecycle.Clause{Key: "keeps", Action: lifecycle.KeepAction, At: kept})
	require.Equal(t, lifecycle.Ruling{By: "keeps", Action: lifecycle.DeleteAction, At: &kept, Stays: lifecycle.Retained, Until: &released}, s.Rule(now))
}
