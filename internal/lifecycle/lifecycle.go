// Package lifecycle holds the rules of a record's life as values: its states,
// the verbs that move it between them, how edges take part, and the codes by
// which a refusal is named. It does nothing and imports nothing of ours.
package lifecycle

import (
	"fmt"
	"io"
	"slices"
	"strconv"
)

// State is where a record is in its life.
type State string

// The states of a record. A purged record is no row any more and so has none.
const (
	Active    State = "ACTIVE"
	Suspended State = "SUSPENDED"
	Archived  State = "ARCHIVED"
	Voided    State = "VOIDED"
	Deleted   State = "DELETED"
)

// States lists all states, live ones first.
func States() []State { return []State{Active, Suspended, Archived, Voided, Deleted} }

// Live lists the states in which a record takes part in business.
func Live() []State { return []State{Active, Suspended, Archived} }

// Retired lists the states in which retired_at is set.
func Retired() []State { return []State{Voided, Deleted} }

// Values implements field.EnumValues for ent.
func (State) Values() []string {
	var out []string
	for _, s := range States() {
		out = append(out, string(s))
	}
	return out
}

// Retired reports whether the record is out of business: voided or deleted.
func (s State) Retired() bool { return s == Voided || s == Deleted }

// Editable reports whether ordinary writes are accepted in this state.
func (s State) Editable() bool { return s == Active || s == Suspended }

// Verb is an action that ends, or brings back, a record.
type Verb string

// The verbs. Undo and Erase are operations over records rather than moves of
// one record, so they have no row in the table.
const (
	Delete  Verb = "DELETE"
	Void    Verb = "VOID"
	Archive Verb = "ARCHIVE"
	Suspend Verb = "SUSPEND"
	Restore Verb = "RESTORE"
	Purge   Verb = "PURGE"
	Erase   Verb = "ERASE"
	Undo    Verb = "UNDO"
)

// Verbs lists the verbs that move one record.
func Verbs() []Verb { return []Verb{Delete, Void, Archive, Suspend, Restore, Purge} }

// Values implements field.EnumValues for ent.
func (Verb) Values() []string {
	var out []string
	for _, v := range append(Verbs(), Erase, Undo) {
		out = append(out, string(v))
	}
	return out
}

// Move says what a verb does to a record in a given state.
type Move struct {
	// To is the state after the verb. Empty when Prior, Gone or Code is set.
	To State
	// Prior means: back to where the operation that put it here found it.
	Prior bool
	// Gone means: the row is removed and a tombstone stays.
	Gone bool
	// Code refuses the verb. Empty when it applies or changes nothing.
	Code Code
	// Unchanged means: already there, a success that changes nothing.
	Unchanged bool
}

// Applies reports whether the verb would change the record.
func (m Move) Applies() bool { return m.Code == "" && !m.Unchanged }

var (
	unchanged = Move{Unchanged: true}
	refused   = Move{Code: IllegalTransition}
	notYet    = Move{Code: NotRetired}
	prior     = Move{Prior: true}
	gone      = Move{Gone: true}
)

func to(s State) Move { return Move{To: s} }

// table is the whole state machine; state_machine.md is drawn from it.
var table = map[State]map[Verb]Move{
	Active:    {Delete: to(Deleted), Void: to(Voided), Archive: to(Archived), Suspend: to(Suspended), Restore: unchanged, Purge: notYet},
	Suspended: {Delete: to(Deleted), Void: to(Voided), Archive: to(Archived), Suspend: to(Suspended), Restore: to(Active), Purge: notYet},
	Archived:  {Delete: to(Deleted), Void: to(Voided), Archive: unchanged, Suspend: refused, Restore: prior, Purge: notYet},
	Voided:    {Delete: to(Deleted), Void: unchanged, Archive: refused, Suspend: refused, Restore: prior, Purge: gone},
	Deleted:   {Delete: unchanged, Void: refused, Archive: refused, Suspend: refused, Restore: prior, Purge: gone},
}

// Next says what v does to a record in state s. An unknown state or verb is
// refused.
func Next(s State, v Verb) Move {
	if m, ok := table[s][v]; ok {
		return m
	}
	return refused
}

// Allowed lists the verbs that would change a record in state s.
func Allowed(s State) []Verb {
	var out []Verb
	for _, v := range Verbs() {
		if Next(s, v).Applies() {
			out = append(out, v)
		}
	}
	return out
}

// ChangedBy lists the states from which v changes something: what a filter
// selects among when the caller names no states.
func ChangedBy(v Verb) []State {
	var out []State
	for _, s := range States() {
		if Next(s, v).Applies() {
			out = append(out, s)
		}
	}
	return out
}

// Class says how an edge takes part when the record it points to is retired.
type Class string

// The edge classes. The annotation stands on the edge of the dependant, the
// record that holds the reference.
const (
	// Owned dependants go where their owner goes.
	Owned Class = "OWNED"
	// Blocking dependants keep their target from being retired while they live.
	Blocking Class = "BLOCKING"
	// Weak references stay in place and read as null while the target is not live.
	Weak Class = "WEAK"
)

// Edge is the ent annotation that classes an edge between record types.
type Edge struct{ Class Class }

// Name implements ent's schema.Annotation.
func (Edge) Name() string { return "LetheEdge" }

// Brings reports whether v takes live dependants of class c along. Blocking
// ones come only where the caller asked for the cascade.
func Brings(v Verb, c Class, cascade bool) bool {
	switch v {
	case Delete, Void:
		return c == Owned || c == Blocking && cascade
	case Archive:
		return c == Owned
	}
	return false
}

// MarshalGQL implements gqlgen's Marshaler.
func (s State) MarshalGQL(w io.Writer) { _, _ = io.WriteString(w, strconv.Quote(string(s))) }

// UnmarshalGQL implements gqlgen's Unmarshaler.
func (s *State) UnmarshalGQL(v any) error {
	return fromGQL((*string)(s), v, s.Values(), "record state")
}

// MarshalGQL implements gqlgen's Marshaler.
func (v Verb) MarshalGQL(w io.Writer) { _, _ = io.WriteString(w, strconv.Quote(string(v))) }

// UnmarshalGQL implements gqlgen's Unmarshaler.
func (v *Verb) UnmarshalGQL(in any) error { return fromGQL((*string)(v), in, v.Values(), "verb") }

func fromGQL(dst *string, v any, allowed []string, what string) error {
	s, ok := v.(string)
	if !ok || !slices.Contains(allowed, s) {
		return fmt.Errorf("not a %s", what)
	}
	*dst = s
	return nil
}
