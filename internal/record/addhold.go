package record

import (
	"context"
	"fmt"
	"slices"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// AddToHold names further records by a hold that stands. One that it names
// already is left as it is.
func (s *Service) AddToHold(ctx context.Context, id gid.ID, records []gid.ID) error {
	if err := fewEnough(records, "records"); err != nil {
		return err
	}
	if len(records) == 0 {
		return Refuse(lifecycle.BadUserInput, "names no record", "records")
	}
	records = distinct(slices.Clone(records))
	return s.attempt(ctx, "HOLD_PLACE", records, s.control.Pin, func(ctx context.Context, tx *store.Tx, a *actor.Actor) error {
		rows, err := s.toHold(ctx, tx, a, records, share) // records first, as an operation does
		if err != nil {
			return err
		}
		if _, err := store.Build(tx).Add(`SELECT id FROM legal_holds WHERE tenant_id = ? AND id = ?`, a.Tenant, id).ForUpdate().Exec(ctx, tx); err != nil {
			return fmt.Errorf("locking a legal hold: %w", err)
		}
		hold, err := s.Client(ctx).LegalHold.Get(ctx, id) // as far as the caller may know of it
		switch {
		case ent.IsNotFound(err):
			return Refuse(lifecycle.NotFound, "there is no such hold", "id")
		case err != nil:
			return fmt.Errorf("reading a legal hold: %w", err)
		case hold.ReleasedAt != nil:
			return Refuse(lifecycle.IllegalTransition, "the hold was released", "id")
		}
		ids := make([]gid.ID, len(rows))
		for i, row := range rows {
			ids[i] = row.RecordID()
		}
		return s.name(ctx, tx, a, id, ids, audit.Personal{Reason: hold.Reason, Changes: []audit.Change{{Field: "hold", New: hold.Name}}},
			map[string]any{"hold": id.String(), "blockDelete": hold.BlockDelete, "freeze": hold.Freeze})
	})
}

// namedBy answers the records that a hold names, and which of them are persons
// whose belongings it keeps.
func (s *Service) namedBy(ctx context.Context, tx *store.Tx, hold gid.ID) (records, persons []gid.ID, err error) {
	err = store.Build(tx).Add(`SELECT record_id, person_id FROM legal_hold_records WHERE hold_id = ? ORDER BY record_id`, hold).
		Query(ctx, tx, func(row store.Row) error {
			var id, person gid.ID
			if err := row.Scan(&id, &person); err != nil {
				return err
			}
			records = append(records, id)
			if !person.IsZero() {
				persons = append(persons, person)
			}
			return nil
		})
	if err != nil {
		return nil, nil, fmt.Errorf("reading the records of a legal hold: %w", err)
	}
	return records, persons, nil
}

// mayHoldWidely refuses who may not do something about holds on all that a wide
// hold keeps now. What belongs to a person is asked for record by record; which
// one refuses is not told, because it may be hidden. A filter takes the right on
// the whole type, so that the answer does not depend on what matches, and covers
// what will.
func (s *Service) mayHoldWidely(ctx context.Context, tx *store.Tx, a *actor.Actor, action authz.Action, persons []gid.ID, typ string) error {
	if typ != "" && !s.control.Everywhere(ctx, a, action, typ) {
		return Refuse(lifecycle.Forbidden, "a hold by filter takes the right on all records of its type", "filter")
	}
	if len(persons) == 0 {
		return nil
	}
	ids, err := s.below(ctx, tx, persons)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(ids, MaxRows) {
		rows, err := s.loadAny(ctx, chunk, none)
		if err != nil {
			return err
		}
		hidden := len(rows) < len(chunk)
		if action == authz.HoldRelease { // which one need not be able to read
			if rows, err = s.loadAny(visible.With(ctx, visible.Tenant(a.Tenant)), chunk, none); err != nil {
				return err
			}
			hidden = false
		}
		questions := make([]access.Question, len(rows))
		for i, row := range rows {
			questions[i] = access.Of(action, row)
		}
		for _, answer := range s.control.Decide(ctx, a, questions) {
			if answer.Unavailable {
				return refusal(answer)
			}
			hidden = hidden || !answer.Permit
		}
		if hidden {
			return Refuse(lifecycle.Forbidden, "the policy does not allow this on all that belongs to the persons", "persons")
		}
	}
	return nil
}
