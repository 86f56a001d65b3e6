package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/belong"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// Hold is a legal hold to place. It keeps its records from being purged.
type Hold struct {
	Name, Reason string
	Records      []gid.ID
	// Persons are customers and contacts: with each of them it keeps what belongs
	// to it or names it, now and later.
	Persons []gid.ID
	// Filter, with its Text, is of what it keeps beside that, now and later.
	Filter *Filter
	// BlockDelete keeps them from being deleted and voided, too.
	BlockDelete bool
	// Freeze keeps them from every change.
	Freeze bool
}

// wide reports whether the hold keeps more than the records it names.
func (h *Hold) wide() bool { return len(h.Persons) > 0 || h.Filter != nil }

// PlaceHold places a legal hold on all it is about, or is refused. Records that it
// names are locked as an operation locks them: one that purges them has done so by
// now, or will see the hold. A hold that keeps more waits at the fence instead.
func (s *Service) PlaceHold(ctx context.Context, h Hold) (gid.ID, error) {
	h.Records, h.Persons = slices.Clone(h.Records), slices.Clone(h.Persons)
	if err := h.check(); err != nil {
		return gid.Nil, err
	}
	id := gid.New(gid.LegalHold)
	err := s.attempt(ctx, "HOLD_PLACE", slices.Concat(h.Records, h.Persons), s.control.Pin, func(ctx context.Context, tx *store.Tx, a *actor.Actor) error {
		l := share
		if h.wide() {
			l = none
			if err := fenceOff(ctx, tx, a.Tenant); err != nil {
				return err
			}
		}
		rows, err := s.toHold(ctx, tx, a, h.all(), l)
		if err == nil {
			err = s.mayHoldWidely(ctx, tx, a, authz.HoldPlace, h.Persons, h.filterType())
		}
		if err == nil {
			err = s.maySearch(ctx, a, h.Filter)
		}
		if err != nil {
			return err
		}
		return s.writeHold(ctx, tx, a, id, h, rows)
	})
	return id, err
}

// ReleaseHold ends a legal hold; the clocks of records that no other one keeps
// go on after a delay. Releasing it again changes nothing. Where rules want others to agree, the hold stays until they
// have, and their request is answered.
func (s *Service) ReleaseHold(ctx context.Context, id gid.ID, reason string) (request gid.ID, err error) {
	if err := holdText("reason", reason, mixin.MaxReason); err != nil {
		return gid.Nil, err
	}
	// What was kept can be lost from now on: that is judged by the policy as it is now.
	err = s.attempt(ctx, "HOLD_RELEASE", []gid.ID{id}, s.control.Repin, func(ctx context.Context, tx *store.Tx, a *actor.Actor) (err error) {
		request, err = s.releaseHold(ctx, tx, a, id, reason, nil)
		return err
	})
	return request, err
}

// attempt runs do in the transaction of the context, or in one of its own, which is
// tried again when it lost a deadlock, and logs a refusal.
func (s *Service) attempt(ctx context.Context, action string, ids []gid.ID, pin func(context.Context, gid.ID) (context.Context, error),
	do func(context.Context, *store.Tx, *actor.Actor) error,
) error {
	a := actor.From(ctx)
	if a == nil {
		return fmt.Errorf("record: %s by nobody", action)
	}
	for try := 1; ; try++ {
		err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
			ctx, err := s.judgedBy(ctx, a, pin)
			if err == nil {
				err = do(ctx, tx, a)
			}
			if refused, ok := errors.AsType[*Error](err); ok {
				e := audit.Event{Action: action, Code: refused.Code, Count: len(ids)}
				for _, id := range ids {
					e.IDs = append(e.IDs, id.String())
				}
				s.logRefusal(ctx, tx, e)
			}
			return err
		})
		if err == nil || try == tries || store.TxFrom(ctx) != nil || !store.Busy(err) || store.Pause(ctx, try) != nil {
			return err
		}
	}
}

func (h *Hold) check() error {
	h.Name = strings.TrimSpace(h.Name)
	if err := holdText("name", h.Name, mixin.MaxName); err != nil {
		return err
	}
	if err := holdText("reason", h.Reason, mixin.MaxReason); err != nil {
		return err
	}
	if err := fewEnough(h.Records, "records"); err != nil {
		return err
	}
	if err := fewEnough(h.Persons, "persons"); err != nil {
		return err
	}
	if len(h.Records) == 0 && !h.wide() {
		return Refuse(lifecycle.BadUserInput, "a hold is about a record at least", "records")
	}
	if slices.ContainsFunc(h.Persons, func(id gid.ID) bool {
		t := ent.RecordTypeOf(id)
		return t == nil || !slices.Contains(belong.Persons, t.Name)
	}) {
		return Refuse(lifecycle.BadUserInput, "a person is a customer or a contact", "persons")
	}
	if h.Filter != nil {
		if !h.Filter.own {
			return Refuse(lifecycle.InvalidFilter, "a hold filters by fields of the records themselves, not by what they refer to", "filter")
		}
	}
	h.Persons = distinct(h.Persons)
	h.Records = slices.DeleteFunc(distinct(h.Records), func(id gid.ID) bool { return slices.Contains(h.Persons, id) })
	return nil
}

// all are the records that the hold names, persons included.
func (h *Hold) all() []gid.ID { return slices.Concat(h.Persons, h.Records) }

func (h *Hold) filterType() string {
	if h.Filter == nil {
		return ""
	}
	return h.Filter.Type
}

func fewEnough(ids []gid.ID, field string) error {
	if len(ids) > MaxRows {
		return Refuse(lifecycle.Limit, fmt.Sprintf("more than %d records at once", MaxRows), field)
	}
	return nil
}

// distinct sorts ids and drops those that are repeated.
func distinct(ids []gid.ID) []gid.ID {
	slices.SortFunc(ids, func(a, b gid.ID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

func holdText(field, text string, most int) error {
	switch err := mixin.Characters(most)(text); {
	case strings.TrimSpace(text) == "":
		return Refuse(lifecycle.BadUserInput, "is required", field)
	case err != nil:
		return Refuse(lifecycle.BadUserInput, err.Error(), field)
	case !storable(text):
		return Refuse(lifecycle.BadUserInput, unstorable, field)
	}
	return nil
}

// toHold locks the records of a hold, and reads them.
func (s *Service) toHold(ctx context.Context, tx *store.Tx, a *actor.Actor, ids []gid.ID, l lock) ([]ent.Record, error) {
	rows, err := s.loadAny(ctx, ids, l)
	if err != nil {
		return nil, err
	}
	if len(rows) < len(ids) {
		found := map[gid.ID]bool{}
		for _, row := range rows {
			found[row.RecordID()] = true
		}
		missing := slices.DeleteFunc(slices.Clone(ids), func(id gid.ID) bool { return found[id] })
		gone, err := s.purged(ctx, tx, a, missing)
		if err != nil {
			return nil, err
		}
		code, message := lifecycle.NotFound, "there is no such record"
		if gone[missing[0]] {
			code, message = lifecycle.Gone, "the record was purged"
		}
		return nil, &Error{Code: code, Message: message, Fields: []string{"records"}, Extensions: map[string]any{"record": missing[0].String()}}
	}
	return rows, s.mayHold(ctx, a, authz.HoldPlace, rows, "records")
}

// mayHold refuses who may not do something about the holds on each of the records.
func (s *Service) mayHold(ctx context.Context, a *actor.Actor, action authz.Action, rows []ent.Record, field string) error {
	questions := make([]access.Question, len(rows))
	for i, row := range rows {
		questions[i] = access.Of(action, row)
	}
	for i, answer := range s.control.Decide(ctx, a, questions) {
		if !answer.Permit {
			refused := refusal(answer)
			refused.Fields, refused.Extensions = []string{field}, map[string]any{"record": rows[i].RecordID().String()}
			return refused
		}
	}
	return nil
}

// loadAny reads records of any types, in the order in which they are locked.
func (s *Service) loadAny(ctx context.Context, ids []gid.ID, l lock) ([]ent.Record, error) {
	var out []ent.Record
	for _, t := range typeOrder {
		rows, err := s.load(ctx, t, slices.DeleteFunc(slices.Clone(ids), func(id gid.ID) bool { return ent.RecordTypeOf(id) != t }), l)
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	return out, nil
}

func (s *Service) writeHold(ctx context.Context, tx *store.Tx, a *actor.Actor, id gid.ID, h Hold, rows []ent.Record) error {
	var typ, filter, wide any
	if h.Filter != nil {
		typ, filter = h.Filter.Type, string(h.Filter.Text)
	}
	if h.wide() {
		wide = true
	}
	err := tx.Insert(ctx, "legal_holds", []string{"id", "tenant_id", "name", "reason", "block_delete", "freeze", "placed_by_id", "placed_at", "filter_type", "filter", "wide"},
		[][]any{{id, a.Tenant, h.Name, h.Reason, h.BlockDelete, h.Freeze, nullID(a.UserRef()), tx.Now(), typ, filter, wide}})
	if err == nil {
		err = tx.InsertEach(ctx, "legal_hold_records", []string{"tenant_id", "hold_id", "record_id", "person_id"}, len(rows), func(i int, row []any) error {
			record := rows[i].RecordID()
			copy(row, []any{a.Tenant, id, record, nil})
			if slices.Contains(h.Persons, record) {
				row[3] = record
			}
			return nil
		})
	}
	if err == nil {
		err = tx.Flush(ctx)
	}
	if err != nil {
		return fmt.Errorf("writing a legal hold: %w", err)
	}
	detail := map[string]any{"hold": id.String(), "blockDelete": h.BlockDelete, "freeze": h.Freeze}
	if len(h.Persons) > 0 {
		detail["persons"] = len(h.Persons)
	}
	if err := s.auditFilter(ctx, tx, a, "HOLD_PLACE", h.filterType(), detail); err != nil {
		return err
	}
	return s.auditHold(ctx, tx, a, "HOLD_PLACE", rows, audit.Personal{Reason: h.Reason, Changes: []audit.Change{{Field: "hold", New: h.Name}}}, detail)
}

// auditFilter writes an event for what a hold keeps by filter: one for all of it,
// of its type and without a record.
func (s *Service) auditFilter(ctx context.Context, tx *store.Tx, a *actor.Actor, action, typ string, detail map[string]any) error {
	if typ == "" {
		return nil
	}
	return s.audit.Append(ctx, tx, audit.Event{Action: action, RecordType: typ, PolicyVersion: s.control.Version(ctx, a.Tenant), Detail: detail})
}

// auditHold writes an event for each record of a hold. The record does not
// change; what the matter is called is sealed with it.
func (s *Service) auditHold(ctx context.Context, tx *store.Tx, a *actor.Actor, action string, rows []ent.Record, personal audit.Personal, detail map[string]any) error {
	version := s.control.Version(ctx, a.Tenant)
	return s.audit.AppendEach(ctx, tx, len(rows), func(i int) audit.Event {
		e := event(action, rows[i], nil)
		e.From, e.To, e.Version = rows[i].RecordState(), rows[i].RecordState(), rows[i].RecordVersion()
		e.PolicyVersion, e.Personal, e.Detail = version, personal, detail
		return e
	})
}

// releaseHold releases a hold, unless others have to be asked and have not agreed.
func (s *Service) releaseHold(ctx context.Context, tx *store.Tx, a *actor.Actor, id gid.ID, reason string, agreed *ent.Approval) (request gid.ID, err error) {
	if _, err := store.Build(tx).Add(`SELECT id FROM legal_holds WHERE tenant_id = ? AND id = ?`, a.Tenant, id).ForUpdate().Exec(ctx, tx); err != nil {
		return gid.Nil, fmt.Errorf("locking a legal hold: %w", err)
	}
	hold, err := s.Client(ctx).LegalHold.Get(ctx, id) // as far as the caller may know of it
	if ent.IsNotFound(err) {
		return gid.Nil, Refuse(lifecycle.NotFound, "there is no such hold", "id")
	}
	if err != nil {
		return gid.Nil, fmt.Errorf("reading a legal hold: %w", err)
	}
	ids, persons, err := s.namedBy(ctx, tx, id)
	if err != nil {
		return gid.Nil, err
	}
	rows, err := s.loadAny(visible.With(ctx, visible.Tenant(a.Tenant)), ids, none)
	if err != nil {
		return gid.Nil, err
	}
	if err := s.mayHold(ctx, a, authz.HoldRelease, rows, "id"); err != nil {
		return gid.Nil, err
	}
	typ := ""
	if hold.FilterType != nil {
		typ = *hold.FilterType
	}
	if err := s.mayHoldWidely(ctx, tx, a, authz.HoldRelease, persons, typ); err != nil {
		return gid.Nil, err
	}
	if hold.ReleasedAt != nil {
		return gid.Nil, nil
	}
	switch {
	case agreed == nil:
		if request, err = s.askToRelease(ctx, tx, id, reason, rows); err != nil || !request.IsZero() {
			return request, err
		}
	case typ == "" && len(persons) == 0 && len(rows) > agreed.Records: // a wide hold keeps more and less all the time
		return gid.Nil, Refuse(lifecycle.Stale, "the hold names more records than it did when its release was asked for", "id")
	}
	_, err = store.Build(tx).Add(`UPDATE legal_holds SET released_at = ?, released_by_id = ?, release_reason = ? WHERE id = ?`, tx.Now(), nullID(a.UserRef()), reason, id).Exec(ctx, tx)
	if err != nil {
		return gid.Nil, fmt.Errorf("releasing a legal hold: %w", err)
	}
	if err := s.auditFilter(ctx, tx, a, "HOLD_RELEASE", typ, map[string]any{"hold": id.String()}); err != nil {
		return gid.Nil, err
	}
	return gid.Nil, s.auditHold(ctx, tx, a, "HOLD_RELEASE", rows, audit.Personal{Reason: reason, Changes: []audit.Change{{Field: "hold", Old: hold.Name}}}, map[string]any{"hold": id.String()})
}
