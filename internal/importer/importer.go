// Package importer turns stored mail and tables into records.
//
// It reads one item at a time, writes 500 at a time, each 500 in a transaction
// of its own, and leaves out what cannot be read, what is refused and what is
// there already, saying so. An import that is stopped keeps what it wrote;
// running it again goes on, since what is there is left out.
package importer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // zones are known wherever the server runs

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/table"
)

// What can be imported, the values of Config.As.
const (
	Messages  = "messages"
	Customers = "customers"
	Contacts  = "contacts"
	Deals     = "deals"
	Tasks     = "tasks"
	Calls     = "calls"
	Notes     = "notes"
)

// Kinds lists what can be imported: everything with a life of its own but
// attachments, which are files and no rows.
func Kinds() []string {
	var out []string
	for _, t := range ent.RecordTypes {
		if t.Name != ent.TypeAttachment {
			out = append(out, kindOf(t))
		}
	}
	slices.Sort(out)
	return out
}

// kindOf is how a type is called as what to import.
func kindOf(t *ent.RecordType) string { return t.Table }

// Config says what to import, from where and how.
type Config struct {
	DB      *store.DB
	Records *record.Service
	Control *access.Control
	Audit   *audit.Log

	// As is what the items become, one of Kinds.
	As string
	// Path is a table in any form internal/table knows, or for messages mail in
	// any form internal/mail knows.
	Path string
	// Timezone is where times without a zone are from, by its IANA name; "" is UTC.
	Timezone string
	// Map says which column of a table fills which field. Without it a column
	// fills the field of the same name, in upper or lower case.
	Map map[string]string
	// Set gives fields a value in every record.
	Set map[string]string
	// MarkDeleted is COLUMN=VALUE: the records of rows of a table of which the column
	// has the value are deleted once all rows are read, those that were there before,
	// too. "" marks none.
	MarkDeleted string
	// ActAs lets a deletion that is too large for one transaction act for the actor;
	// without it such a one is left to others.
	ActAs record.ActAs
	// DryRun does everything but keep it.
	DryRun bool
	// Progress, if set, is told after every batch how many of the bytes at Path
	// are done with.
	Progress func(done, total int64)
	// Counted, if set, is told the same by numbers of items.
	Counted func(Counts)
	// Now is the clock; mail without any time is sent then.
	Now func() time.Time
}

// UsageError reports a Config that cannot be carried out whatever is at Path.
type UsageError struct{ message string }

func (e *UsageError) Error() string { return e.message }

// Misused makes a UsageError of what was wrong with a command.
func Misused(err error) error { return &UsageError{err.Error()} }

func usage(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// ErrNothing reports a source of which not one item could be read.
var ErrNothing = errors.New("nothing could be read")

// FileError reports what keeps a file from being read: it is not what its name says.
type FileError struct{ err error }

func (e *FileError) Error() string { return e.err.Error() }
func (e *FileError) Unwrap() error { return e.err }

// Run imports on behalf of the actor in the context, who needs the rights to
// import and to create each record, and to delete those that are marked. The report says what became of everything
// that was read; with an error it says how far the import came.
//
// The error is a *UsageError, a *record.Error when the policy allows the actor
// no import of this type at all, ErrNothing, or what kept Path from being read; a
// *FileError if that is in a table itself.
func Run(ctx context.Context, config Config) (Report, error) {
	r := &run{Config: config, actor: actor.From(ctx), report: Report{DryRun: config.DryRun}, seen: seen{}}
	if r.actor == nil {
		return r.report, errors.New("importer: importing for nobody")
	}
	err := r.run(ctx)
	if r.forbidden > 0 {
		err = errors.Join(err, r.logRefusal(ctx, r.forbidden))
	}
	return r.report, err
}

// run is one import under way.
type run struct {
	Config
	actor  *actor.Actor
	typ    *ent.RecordType
	mail   bool // and not rows of a table
	zone   *time.Location
	set    settings
	marks  marking
	report Report

	// marked are the live records that are to be deleted.
	marked []marked

	batch []*row
	bytes int // of text in the batch
	held  int // and of files
	// analyzed is how many rows were created when the database was last told.
	analyzed int
	// progress is how far the source is read.
	progress func() (done, total int64)
	// seen stands in for the records that a dry run does not keep.
	seen seen
	// forbidden counts the rows that the policy did not let in.
	forbidden int
}

func (r *run) run(ctx context.Context) error {
	i := slices.IndexFunc(ent.RecordTypes, func(t *ent.RecordType) bool { return kindOf(t) == r.As && t.Name != ent.TypeAttachment })
	if i < 0 {
		return usage("nothing can be imported as %q; there are: %s", r.As, strings.Join(Kinds(), ", "))
	}
	r.typ = ent.RecordTypes[i]
	read := r.readTable
	if r.mail = r.As == Messages && !table.IsTable(r.Path); r.mail {
		read = r.readMail
	}
	var err error
	if r.zone, err = time.LoadLocation(r.Timezone); err != nil {
		return usage("there is no time zone %q", r.Timezone)
	}
	if r.set, err = r.settings(); err != nil {
		return err
	}
	if r.marks, err = r.marking(); err != nil {
		return err
	}
	if err := r.couldEver(ctx); err != nil {
		return err
	}
	if err := read(ctx); err != nil {
		return err
	}
	for len(r.batch) > 0 {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	r.tell()
	if err := r.deleteMarked(ctx); err != nil {
		return err
	}
	if r.report.unreadable == r.report.Read {
		return ErrNothing
	}
	return nil
}

// couldEver refuses what the policy would not allow for any record of the type.
func (r *run) couldEver(ctx context.Context) error {
	needed := map[authz.Action]string{authz.Import: "importing "}
	if r.marks.column != "" {
		needed[authz.Delete] = "deleting "
	}
	for action, doing := range needed {
		could, err := r.Control.CouldEver(ctx, r.actor, action, r.typ.Name)
		if err != nil {
			return record.Refuse(lifecycle.AuthzUnavailable, "access could not be decided; try again")
		}
		if !could {
			return errors.Join(record.Refuse(lifecycle.Forbidden, "the policy does not allow "+doing+r.As), r.logRefusal(ctx, 0))
		}
	}
	return nil
}

func (r *run) tell() {
	if r.Counted != nil {
		r.Counted(r.report.Counts())
	}
	if r.Progress != nil && r.progress != nil {
		r.Progress(r.progress())
	}
}

func (r *run) logRefusal(ctx context.Context, count int) error {
	err := r.Audit.Write(context.WithoutCancel(ctx), r.DB, audit.Event{
		Action: "IMPORT", Outcome: audit.Refused, Code: lifecycle.Forbidden, RecordType: r.typ.Name,
		Count: count, PolicyVersion: r.Control.Version(ctx, r.actor.Tenant),
	})
	if err != nil {
		return fmt.Errorf("writing the refusal to the audit log: %w", err)
	}
	return nil
}

// reason is what a person is told about a refusal.
func reason(e *record.Error) string {
	fields := slices.Clone(e.Fields)
	if len(fields) == 0 {
		return e.Message
	}
	return strings.Join(fields, ", ") + ": " + e.Message
}
