package lifecycle

import (
	"io"
	"strconv"
)

// Code names why something was refused. Codes are part of the API: clients
// switch on them, messages beside them are for people.
type Code string

// The codes of operations and their items.
const (
	NotFound            Code = "NOT_FOUND"
	Forbidden           Code = "FORBIDDEN"
	FieldForbidden      Code = "FIELD_FORBIDDEN"
	IllegalTransition   Code = "ILLEGAL_TRANSITION"
	NotRetired          Code = "NOT_RETIRED"
	RecordNotEditable   Code = "RECORD_NOT_EDITABLE"
	Conflict            Code = "CONFLICT"
	UniqueConflict      Code = "UNIQUE_CONFLICT"
	HasDependents       Code = "HAS_DEPENDENTS"
	ParentRetired       Code = "PARENT_RETIRED"
	Hold                Code = "HOLD"
	Retained            Code = "RETAINED"
	InvalidFilter       Code = "INVALID_FILTER"
	Limit               Code = "LIMIT"
	DuplicateInput      Code = "DUPLICATE_INPUT"
	IdempotencyMismatch Code = "IDEMPOTENCY_MISMATCH"
	Gone                Code = "GONE"
	Lockout             Code = "LOCKOUT"
	ApprovalRequired    Code = "APPROVAL_REQUIRED"
	Stale               Code = "STALE"
	SelfApproval        Code = "SELF_APPROVAL"
	ExportRequired      Code = "EXPORT_REQUIRED"
	ExportStale         Code = "EXPORT_STALE"
	BadUserInput        Code = "BAD_USER_INPUT"
	AuthzUnavailable    Code = "AUTHZ_UNAVAILABLE"
	Internal            Code = "INTERNAL"
)

// Codes lists every code this version can answer with.
func Codes() []Code {
	return []Code{
		NotFound, Forbidden, FieldForbidden, IllegalTransition, NotRetired, RecordNotEditable, Conflict,
		UniqueConflict, HasDependents, ParentRetired, Hold, Retained, InvalidFilter, Limit, DuplicateInput,
		IdempotencyMismatch, Gone, Lockout, ApprovalRequired, Stale, SelfApproval, ExportRequired, ExportStale, BadUserInput, AuthzUnavailable, Internal,
	}
}

// MarshalGQL implements gqlgen's Marshaler.
func (c Code) MarshalGQL(w io.Writer) { _, _ = io.WriteString(w, strconv.Quote(string(c))) }

// UnmarshalGQL implements gqlgen's Unmarshaler.
func (c *Code) UnmarshalGQL(v any) error {
	allowed := make([]string, 0, len(Codes()))
	for _, k := range Codes() {
		allowed = append(allowed, string(k))
	}
	return fromGQL((*string)(c), v, allowed, "code")
}
