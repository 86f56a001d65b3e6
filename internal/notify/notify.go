// Package notify tells people and other applications what happened.
//
// The audit log is written in the transaction in which something happens. What of
// it somebody may want to be told of is noted in the same transaction, as a fact:
// one for an operation and what it did, not one for a record. Facts are told
// later, each in a transaction of its own that also forgets it, so that everybody
// is told once: users by notifications, other applications by deliveries to their
// webhooks.
//
// Neither holds anything personal. They hold ids; what these stand for is read
// when it is shown, as far as the reader may read it then. Nobody is told of what
// he may not read.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/notification"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// Kind is what somebody may be told of.
type Kind = notification.Kind

// MaxRecords is how many records of a notification are kept, to be counted and
// shown as far as its reader may read them.
const MaxRecords = 1_000

// keep is how long notifications, and deliveries that have ended, are kept.
const keep = 90 * 24 * time.Hour

// Config is what a Service is made of.
type Config struct {
	DB      *store.DB
	Control *access.Control
	Audit   *audit.Log
	Outbox  *Outbox
	Log     *slog.Logger
	// Told is called in the transaction in which a user is told something; it may be nil.
	Told func(tx *store.Tx, user gid.ID)
	// AllowPrivate lets webhooks be at private addresses, and be spoken to without
	// TLS: for tests.
	AllowPrivate bool
	// Attempted is told of each attempt at a delivery how it ended: Delivered, Failed or
	// Dead. Nil is nobody.
	Attempted func(result string)
	// Tracer makes a span of each attempt, and has receivers go on with its trace; nil
	// makes none.
	Tracer trace.Tracer
}

// How an attempt at a delivery can end: taken; not taken, and made again later; or not
// taken, and given up.
const (
	Delivered = "delivered"
	Failed    = "failed"
	Dead      = "dead"
)

// Service tells, and changes who is told of what.
type Service struct {
	Config

	sender *sender
}

// New returns a service over the facts of an outbox.
func New(c Config) *Service {
	s := &Service{Config: c}
	s.sender = newSender(c.AllowPrivate)
	return s
}

// change carries a change by the actor out, who must have a right on an object, in
// the transaction of the context or in one of its own, and writes an event of it.
func (s *Service) change(ctx context.Context, action authz.Action, object, event string, do func(context.Context, *store.Tx, *actor.Actor) (map[string]any, error)) error {
	a := actor.From(ctx)
	if a == nil {
		return errors.New("notify: a change by nobody")
	}
	return s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		ctx, err := s.Control.Repin(ctx, a.Tenant)
		if err != nil {
			return record.Refuse(lifecycle.AuthzUnavailable, "the policy could not be read; try again")
		}
		var detail map[string]any
		if s.Control.May(ctx, a, access.Question{Action: action, Type: object}) {
			detail, err = do(ctx, tx, a)
		} else {
			err = record.Refuse(lifecycle.Forbidden, "the policy does not allow this")
		}
		if refused, ok := errors.AsType[*record.Error](err); ok {
			s.logRefusal(ctx, tx, audit.Event{Action: event, Code: refused.Code})
		}
		if err != nil || detail == nil {
			return err
		}
		return s.Audit.Append(ctx, tx, audit.Event{Action: event, PolicyVersion: s.Control.Version(ctx, a.Tenant), Detail: detail})
	})
}

// logRefusal writes a REFUSED event once the transaction has ended, however it ends.
func (s *Service) logRefusal(ctx context.Context, tx *store.Tx, e audit.Event) {
	e.Outcome, e.PolicyVersion = audit.Refused, s.Control.Version(ctx, actor.From(ctx).Tenant)
	ctx = context.WithoutCancel(ctx)
	tx.AfterEnd(func(bool) {
		if err := s.Audit.Write(ctx, s.DB, e); err != nil {
			s.Log.ErrorContext(ctx, "a refusal could not be written to the audit log", "action", e.Action, "error", err)
		}
	})
}

// Interests are what somebody wants to be told of.
type Interests struct {
	Kinds []Kind
	Types []string // record types; none is all
}

func (i Interests) check() error {
	if len(i.Kinds) == 0 {
		return record.Refuse(lifecycle.BadUserInput, "must not be empty", "kinds")
	}
	for _, k := range i.Kinds {
		if notification.KindValidator(k) != nil {
			return record.Refuse(lifecycle.BadUserInput, "there is no such kind", "kinds")
		}
	}
	for _, t := range i.Types {
		if ent.RecordTypeNamed(t) == nil {
			return record.Refuse(lifecycle.BadUserInput, "there is no such type", "types")
		}
	}
	return nil
}

func (i Interests) kinds() []string {
	out := make([]string, len(i.Kinds))
	for j, k := range i.Kinds {
		out[j] = string(k)
	}
	return out
}

func (i Interests) types() []string {
	if i.Types == nil {
		return []string{}
	}
	return i.Types
}

// among checks that all ids are those of active users of the tenant.
func among(ctx context.Context, tx *store.Tx, tenant gid.ID, users []gid.ID, field string) error {
	found := 0
	_, err := store.Build(tx).Add(`SELECT count(*) FROM users WHERE tenant_id = ? AND active = ? AND `, tenant, true).IDs("id", users).One(ctx, tx, &found)
	if err != nil {
		return fmt.Errorf("looking for users: %w", err)
	}
	if found != len(users) {
		return record.Refuse(lifecycle.BadUserInput, "names somebody who is no active user, or twice", field)
	}
	return nil
}

func nullID(id *gid.ID) any {
	if id == nil || id.IsZero() {
		return nil
	}
	return *id
}
