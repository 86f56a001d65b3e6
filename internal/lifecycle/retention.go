package lifecycle

import (
	"cmp"
	"io"
	"slices"
	"strconv"
	"time"
)

// RetentionAction is what a retention rule does to the records it is about.
type RetentionAction string

// The actions of retention rules.
const (
	KeepAction    RetentionAction = "KEEP"
	DeleteAction  RetentionAction = "DELETE"
	VoidAction    RetentionAction = "VOID"
	ArchiveAction RetentionAction = "ARCHIVE"
	PurgeAction   RetentionAction = "PURGE"
)

// Values implements field.EnumValues for ent.
func (RetentionAction) Values() []string {
	return []string{string(KeepAction), string(DeleteAction), string(VoidAction), string(ArchiveAction), string(PurgeAction)}
}

// Verb is what the pipeline is asked for; a rule that keeps asks for nothing.
func (a RetentionAction) Verb() Verb {
	if a == KeepAction {
		return ""
	}
	return Verb(a)
}

// Loses reports whether a record is lost by the action, at once or in time.
func (a RetentionAction) Loses() bool { return a == DeleteAction || a == PurgeAction }

// About reports whether the action is about records in a state. DELETE, VOID and
// ARCHIVE are about live ones, and of those retired, about what is there already.
func (a RetentionAction) About(s State) bool {
	switch a {
	case KeepAction:
		return true
	case PurgeAction:
		return s.Retired()
	}
	return !s.Retired() || Next(s, Verb(a)).Unchanged
}

// Basis is from when on the age of a record counts for a rule.
type Basis string

// The bases of age.
const (
	CreatedAt      Basis = "CREATED_AT"
	OccurredAt     Basis = "OCCURRED_AT"
	StateChangedAt Basis = "STATE_CHANGED_AT"
	LastActivity   Basis = "LAST_ACTIVITY"
	EndedAt        Basis = "ENDED_AT"
)

// Values implements field.EnumValues for ent.
func (Basis) Values() []string {
	return []string{string(CreatedAt), string(OccurredAt), string(StateChangedAt), string(LastActivity), string(EndedAt)}
}

// Candidates are what a rule looks for beside its filter.
type Candidates string

// The kinds of candidates.
const (
	Duplicates Candidates = "DUPLICATES"
	Inactive   Candidates = "INACTIVE"
	Ended      Candidates = "ENDED"
)

// Values implements field.EnumValues for ent.
func (Candidates) Values() []string {
	return []string{string(Duplicates), string(Inactive), string(Ended)}
}

// Unit is what the length of a rule is counted in.
type Unit string

// The units of time.
const (
	Days   Unit = "DAYS"
	Months Unit = "MONTHS"
)

// Values implements field.EnumValues for ent.
func (Unit) Values() []string { return []string{string(Days), string(Months)} }

// Term is a length of time as rules give it.
type Term struct {
	Length int  `json:"length"`
	Unit   Unit `json:"unit"`
}

// After is the end of the term that begins at a time. A day is 24 hours. A month
// ends on the same day of the next one, at the same time in UTC; where that has no
// such day it ends with the month: 31 January and a month is 1 March, 00:00. So a
// term that begins later never ends earlier.
func (t Term) After(at time.Time) time.Time {
	at = at.UTC()
	if t.Unit == Days {
		return at.Add(time.Duration(t.Length) * 24 * time.Hour)
	}
	end := time.Date(at.Year(), at.Month()+time.Month(t.Length), at.Day(), at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), time.UTC)
	if end.Day() != at.Day() { // it went over into the month after
		return time.Date(end.Year(), end.Month(), 1, 0, 0, 0, 0, time.UTC)
	}
	return end
}

// Before is the latest time, to the microsecond, at which a term can have begun
// that has ended by now.
func (t Term) Before(now time.Time) time.Time {
	now = now.UTC()
	if t.Unit == Days {
		return now.Add(-time.Duration(t.Length) * 24 * time.Hour)
	}
	begin := time.Date(now.Year(), now.Month()-time.Month(t.Length), now.Day(), now.Hour(), now.Minute(), now.Second(), now.Nanosecond(), time.UTC)
	if begin.Day() != now.Day() { // all of that shorter month has ended
		return time.Date(begin.Year(), begin.Month(), 1, 0, 0, 0, 0, time.UTC).Add(-time.Microsecond)
	}
	return begin
}

// AtLeast reports whether the term is as long as another, whenever it begins.
func (t Term) AtLeast(other Term) bool {
	if t.Unit == other.Unit {
		return t.Length >= other.Length
	}
	if t.Unit == Days { // no month has more days
		return t.Length >= 31*other.Length
	}
	return t.Length*28 >= other.Length
}

// Never is when a rule ends to keep a record whose age has not begun.
var Never = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// known is a time, and nil for one that is not.
func known(at *time.Time) *time.Time {
	if at == nil || !at.Before(Never) {
		return nil
	}
	return at
}

// Clause is one rule as it is about one record.
type Clause struct {
	Key         string // tells rules apart
	Action      RetentionAction
	Comparisons int       // of its filter
	At          time.Time // when it ends to keep, or acts
	// Proposes says that somebody has to apply it: so it decides on nothing, and
	// stands in the way of no other.
	Proposes bool
}

// explicit reports whether somebody asked for these very records to be deleted.
func (c Clause) explicit() bool { return c.Action.Loses() && c.Comparisons > 0 }

// Standing is what is known of a record when it is decided what becomes of it.
type Standing struct {
	State State
	// PurgeAfter is the clock of the bin, if it runs.
	PurgeAfter *time.Time
	// Held says that a legal hold keeps the record; Released until when its clocks
	// stand still after the last one.
	Held     bool
	Released time.Time
	Clauses  []Clause
}

// Ruling is what becomes of a record by itself.
type Ruling struct {
	// By is the clause that decides; empty for a hold, the clock of the bin, or nothing.
	By string
	// Action is what is done to it, at At; empty when nothing is.
	Action RetentionAction
	// At is when, as far as is known: null while a hold keeps it, or a rule for which
	// its age has not begun.
	At *time.Time
	// Stays is HOLD or RETAINED while something keeps the record from being purged,
	// until Until, if that is known.
	Stays Code
	Until *time.Time
}

// Rule decides what becomes of a record, and by which rule: any hold before the
// longest that keeps it, before one that deletes by a filter, before the most
// specific one, before the one that acts first. What keeps a record keeps it from
// being deleted and purged, and a hold from everything.
func (s Standing) Rule(now time.Time) Ruling {
	var keep, act *Clause
	for _, c := range slices.Clone(s.Clauses) {
		switch {
		case c.Proposes || !c.Action.About(s.State):
		case c.Action == KeepAction:
			if keep == nil || longer(c, *keep) < 0 {
				keep = &c
			}
		case act == nil || s.before(c, *act) < 0:
			act = &c
		}
	}
	var out Ruling
	if act != nil && !s.reached(act.Action) {
		out.By, out.Action, out.At = act.Key, act.Action, &act.At
	}
	if s.State.Retired() && s.PurgeAfter != nil && (out.At == nil || s.PurgeAfter.Before(*out.At)) {
		out = Ruling{Action: PurgeAction, At: s.PurgeAfter}
	}
	if s.Held {
		return Ruling{Action: out.Action, Stays: Hold}
	}
	wait := func(until time.Time, by string, stops bool) {
		if !now.Before(until) { // it keeps nothing any more
			return
		}
		if out.Until == nil || out.Until.Before(until) {
			out.Stays, out.Until = Retained, &until
			if out.Action == "" {
				out.By = by
			}
		}
		if stops && out.At.Before(until) {
			out.At, out.By = &until, by
		}
	}
	if keep != nil {
		wait(keep.At, keep.Key, out.Action.Loses())
	}
	wait(s.Released, "", out.Action == PurgeAction) // of what is deleted the bin's clock waits by itself
	out.At, out.Until = known(out.At), known(out.Until)
	return out
}

// reached reports whether the record is where the action leads.
func (s Standing) reached(a RetentionAction) bool { return Next(s.State, a.Verb()).Unchanged }

// longer orders rules that keep: the longest first.
func longer(a, b Clause) int {
	return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Key, b.Key))
}

// before orders rules that act by which one decides. Of two that are as specific,
// one that has acted gives way: what is archived after a year can be deleted after two.
func (s Standing) before(a, b Clause) int {
	return cmp.Or(
		truth(b.explicit(), a.explicit()), cmp.Compare(b.Comparisons, a.Comparisons),
		truth(s.reached(a.Action), s.reached(b.Action)), a.At.Compare(b.At), cmp.Compare(a.Key, b.Key),
	)
}

func truth(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// MarshalGQL implements gqlgen's Marshaler.
func (a RetentionAction) MarshalGQL(w io.Writer) { _, _ = io.WriteString(w, strconv.Quote(string(a))) }

// UnmarshalGQL implements gqlgen's Unmarshaler.
func (a *RetentionAction) UnmarshalGQL(v any) error {
	return fromGQL((*string)(a), v, a.Values(), "retention action")
}

// MarshalGQL implements gqlgen's Marshaler.
func (b Basis) MarshalGQL(w io.Writer) { _, _ = io.WriteString(w, strconv.Quote(string(b))) }

// UnmarshalGQL implements gqlgen's Unmarshaler.
func (b *Basis) UnmarshalGQL(v any) error {
	return fromGQL((*string)(b), v, b.Values(), "basis of age")
}

// MarshalGQL implements gqlgen's Marshaler.
func (c Candidates) MarshalGQL(w io.Writer) { _, _ = io.WriteString(w, strconv.Quote(string(c))) }

// UnmarshalGQL implements gqlgen's Unmarshaler.
func (c *Candidates) UnmarshalGQL(v any) error {
	return fromGQL((*string)(c), v, c.Values(), "kind of candidates")
}

// MarshalGQL implements gqlgen's Marshaler.
func (u Unit) MarshalGQL(w io.Writer) { _, _ = io.WriteString(w, strconv.Quote(string(u))) }

// UnmarshalGQL implements gqlgen's Unmarshaler.
func (u *Unit) UnmarshalGQL(v any) error { return fromGQL((*string)(u), v, u.Values(), "unit of time") }
