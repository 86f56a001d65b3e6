package store

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Violation is what kind of constraint a statement broke.
type Violation uint8

// The kinds of constraints.
const (
	NoViolation Violation = iota
	UniqueViolation
	ReferenceViolation
	OtherViolation
)

// ConstraintError says which constraint a statement broke.
type ConstraintError struct {
	Kind Violation
	// Columns are the columns of a unique constraint as far as the database
	// names them, else the name of the constraint, which ends in them.
	Columns string
}

// Concerns reports whether the constraint ends in the column.
func (c ConstraintError) Concerns(column string) bool {
	return strings.HasSuffix(c.Columns, "_"+column) || strings.HasSuffix(c.Columns, "."+column)
}

// Constraint reads a constraint violation out of a driver's error, by its code
// and not by its text; only the names of columns are taken from there.
func Constraint(err error) (ConstraintError, bool) {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case "23505":
			return ConstraintError{UniqueViolation, pg.ConstraintName}, true
		case "23503", "23001":
			return ConstraintError{ReferenceViolation, pg.ConstraintName}, true
		case "23502", "23514":
			return ConstraintError{OtherViolation, pg.ConstraintName}, true
		}
		return ConstraintError{}, false
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		switch lite.Code() {
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
			text, _, _ := strings.Cut(lite.Error(), " (")
			return ConstraintError{UniqueViolation, text}, true
		case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
			return ConstraintError{ReferenceViolation, ""}, true
		case sqlite3.SQLITE_CONSTRAINT_TRIGGER:
			// A RESTRICT reference is a trigger to SQLite; its text is the only
			// thing that tells it from one of ours.
			if strings.Contains(lite.Error(), "FOREIGN KEY") {
				return ConstraintError{ReferenceViolation, ""}, true
			}
			return ConstraintError{OtherViolation, ""}, true
		case sqlite3.SQLITE_CONSTRAINT_NOTNULL, sqlite3.SQLITE_CONSTRAINT_CHECK:
			return ConstraintError{OtherViolation, ""}, true
		}
	}
	return ConstraintError{}, false
}

// Busy reports whether a statement failed for want of a lock and may be tried
// again: a deadlock, a serialization failure, or SQLite's busy database.
func Busy(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == "40P01" || pg.Code == "40001" || pg.Code == "55P03"
	}
	lite, ok := errors.AsType[*sqlite.Error](err)
	return ok && lite.Code()&0xff == sqlite3.SQLITE_BUSY
}
