// Package export writes the records of a type into a file: those that somebody may
// read, with the fields that he may read, as they are at one moment.
//
// The server keeps the files for a while, and gives them to whoever has a link; the
// command line writes them where it is told. Both write down which records are in
// them, and what these said: some verbs wait for that (record.ExportBefore).
package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// Limits.
const (
	// maxRecipients is how many keys a file may be encrypted to, and maxKey how long
	// each may be: the keys that withstand quantum computers have 2,000 characters.
	maxRecipients = 20
	maxKey        = 4_000
	// maxWaiting is how many exports of one user may be under way.
	maxWaiting = 20
)

// A Format is the form of a file.
type Format string

// The formats.
const (
	CSV   Format = "CSV"
	XLSX  Format = "XLSX"
	JSONL Format = "JSONL"
)

// Formats lists them.
func Formats() []Format { return []Format{CSV, XLSX, JSONL} }

// Extension is how the names of such files end.
func (f Format) Extension() string { return "." + strings.ToLower(string(f)) }

// Spec is what is to be exported.
type Spec struct {
	// Type is the type of the records.
	Type string
	// Filter is one that record.ParseFilter answers; nil is all of them.
	Filter *record.Filter
	// States are those of the records; none is ACTIVE.
	States []lifecycle.State
	Format Format
	// EncryptTo are keys of age (age1...); without any the file is not encrypted.
	EncryptTo []string
	Reason    string
}

// A Queue has somebody work on an export once the transaction is committed.
type Queue interface {
	EnqueueExport(ctx context.Context, tx *store.Tx, tenant, export gid.ID) error
}

// Config is what a Service is made of.
type Config struct {
	DB      *store.DB
	Control *access.Control
	Records *record.Service
	Audit   *audit.Log
	Blobs   *blob.Bucket
	Log     *slog.Logger
	// ActAs answers a user as he is now.
	ActAs record.ActAs
	// Queue may be nil: then TakeUp works on what waits.
	Queue Queue
	// PublicURL is what links begin with.
	PublicURL string
	// Ended is told of each export that succeeded or failed; nil is nobody.
	Ended func(format, status string)
}

// Service makes exports.
type Service struct {
	Config

	pageRows int // rows that are held at a time
}

// New returns a service.
func New(c Config) *Service { return &Service{Config: c, pageRows: 200} }

// check refuses what cannot be exported, and fills in what may be left out.
func (spec *Spec) check() error {
	switch {
	case ent.RecordTypeNamed(spec.Type) == nil:
		return record.Refuse(lifecycle.BadUserInput, "there is no such type", "type")
	case !slices.Contains(Formats(), spec.Format):
		return record.Refuse(lifecycle.BadUserInput, "there is no such format", "format")
	case spec.Filter != nil && spec.Filter.Type != spec.Type:
		return record.Refuse(lifecycle.BadUserInput, "is a filter of another type", "filter")
	case len(spec.EncryptTo) > maxRecipients:
		return record.Refuse(lifecycle.Limit, fmt.Sprintf("more than %d keys", maxRecipients), "encryptTo")
	}
	if len(spec.States) == 0 {
		spec.States = []lifecycle.State{lifecycle.Active}
	}
	slices.Sort(spec.States)
	spec.States = slices.Compact(spec.States)
	for _, state := range spec.States {
		if !slices.Contains(lifecycle.States(), state) {
			return record.Refuse(lifecycle.BadUserInput, "there is no such state", "states")
		}
	}
	if err := mixin.Characters(mixin.MaxReason)(spec.Reason); err != nil {
		return record.Refuse(lifecycle.BadUserInput, err.Error(), "reason")
	}
	_, err := spec.recipients()
	return err
}

// recipients are whom the file is encrypted to.
func (spec *Spec) recipients() ([]age.Recipient, error) {
	var out []age.Recipient
	for _, key := range spec.EncryptTo {
		if len(key) > maxKey || strings.ContainsAny(key, "\r\n") {
			return nil, record.Refuse(lifecycle.BadUserInput, "is no key of age, such as age1...", "encryptTo")
		}
		parsed, err := age.ParseRecipients(strings.NewReader(key))
		if err != nil || len(parsed) != 1 { // the error repeats the key
			return nil, record.Refuse(lifecycle.BadUserInput, "is no key of age, such as age1...", "encryptTo")
		}
		out = append(out, parsed...)
	}
	return out, nil
}

// reads is the context in which everything is judged by one version of the policy,
// and read as the actor may.
func (s *Service) reads(ctx context.Context, a *actor.Actor) (context.Context, *access.Rows, error) {
	pinned, err := s.Control.Pin(ctx, a.Tenant)
	if err != nil {
		return ctx, nil, record.Refuse(lifecycle.AuthzUnavailable, "the policy could not be read; try again")
	}
	rows := s.Control.Rows(pinned, a)
	return visible.With(pinned, rows), rows, nil
}

// allowed refuses who may export no record of the type at all, and a filter by what
// is hidden from him: the file would tell of it.
func (s *Service) allowed(ctx context.Context, a *actor.Actor, spec *Spec, rows *access.Rows) error {
	could, err := s.Control.CouldEver(ctx, a, authz.Export, spec.Type)
	if err != nil {
		return record.Refuse(lifecycle.AuthzUnavailable, "access could not be decided; try again")
	}
	if !could {
		return record.Refuse(lifecycle.Forbidden, "the policy does not allow to export these records")
	}
	hidden := ""
	err = spec.Filter.Compared(func(typ, comparison string) {
		if !rows.Comparable(typ, comparison) {
			hidden = comparison
		}
	})
	if hidden != "" {
		return record.Refuse(lifecycle.FieldForbidden, "the policy hides values of this field from you: it cannot be filtered by", hidden)
	}
	return err
}

// refused writes a refusal to the audit log, after the transaction it is about.
func (s *Service) refused(ctx context.Context, action string, err error) error {
	refusal, ok := errors.AsType[*record.Error](err)
	if !ok {
		return err
	}
	detached, event := context.WithoutCancel(ctx), audit.Event{Action: action, Outcome: audit.Refused, Code: refusal.Code}
	if a := actor.From(ctx); a != nil {
		event.PolicyVersion = s.Control.Version(ctx, a.Tenant)
	}
	write := func(bool) {
		if failed := s.Audit.Write(detached, s.DB, event); failed != nil {
			s.Log.ErrorContext(detached, "a refusal could not be written to the audit log", "action", action, "error", failed)
		}
	}
	if tx := store.TxFrom(ctx); tx != nil {
		tx.AfterEnd(write)
	} else {
		write(false)
	}
	return err
}

// eachTenant does something as the system of each tenant.
func (s *Service) eachTenant(ctx context.Context, do func(ctx context.Context, tenant gid.ID) (int, error)) (int, error) {
	var tenants []gid.ID
	err := store.Build(s.DB).Add(`SELECT id FROM tenants ORDER BY id`).Query(ctx, s.DB, func(row store.Row) error {
		var id gid.ID
		err := row.Scan(&id)
		tenants = append(tenants, id)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("reading tenants: %w", err)
	}
	done := 0
	var errs []error
	for _, tenant := range tenants {
		n, err := do(actor.With(ctx, actor.ForSystem(tenant)), tenant)
		done += n
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return done, errors.Join(errs...)
}

func nullText(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func nullTime(t *time.Time) any {
	if t == nil {
		return nil
	}
	return *t
}
