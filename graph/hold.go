package graph

import (
	"context"
	"slices"

	"entgo.io/ent/dialect/sql"
	"github.com/99designs/gqlgen/graphql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/legalhold"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/belong"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/visible"
)

// knowsHolds says, of records shown together, of which ones the caller may know
// whether a hold keeps them.
func (h host) knowsHolds(ctx context.Context, records []ent.Record) []bool {
	questions := make([]access.Question, len(records))
	for i, r := range records {
		questions[i] = question(r, authz.HoldRead)
	}
	out := make([]bool, len(records))
	for i, d := range h.Control.Decide(ctx, actor.From(ctx), questions) {
		out[i] = d.Permit
	}
	return out
}

// Held implements ent.RecordHost: with one statement for all records of a list,
// and with none for who may not know.
func (h host) Held(ctx context.Context, r ent.Record) (*bool, error) {
	records, field, err := listOf(ctx, r)
	if err != nil {
		return nil, err
	}
	all, err := once(ctx, listKey{field, "held"}, func() (map[gid.ID]*bool, error) {
		var ids []gid.ID
		for i, knows := range h.knowsHolds(ctx, records) {
			if knows {
				ids = append(ids, records[i].RecordID())
			}
		}
		held, err := h.Records.Held(ctx, ids)
		if err != nil {
			return nil, err
		}
		out := make(map[gid.ID]*bool, len(ids))
		for _, id := range ids {
			is := held[id]
			out[id] = &is
		}
		return out, nil
	})
	return all[r.RecordID()], err
}

func (r *Resolver) legalHold(ctx context.Context, id gid.ID) (*ent.LegalHold, error) {
	if err := checkID(id, "id", gid.LegalHold); err != nil {
		return nil, err
	}
	field := graphql.GetFieldContext(ctx).Field
	found, err := r.client(ctx).NodesByID(ctx, []gid.ID{id}, &field)
	if err != nil {
		return nil, err
	}
	hold, _ := found[id].(*ent.LegalHold)
	return hold, nil
}

func (r *Resolver) legalHolds(ctx context.Context, status *model.LegalHoldStatus, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*ent.LegalHoldConnection, error) {
	q := r.client(ctx).LegalHold.Query()
	if status != nil {
		switch *status {
		case model.LegalHoldStatusActive:
			q.Where(legalhold.ReleasedAtIsNil())
		case model.LegalHoldStatusReleased:
			q.Where(legalhold.ReleasedAtNotNil())
		}
	}
	return q.Paginate(ctx, after, first, before, last)
}

// heldRecords lists the records that a hold keeps now and the caller may read.
func (r *Resolver) heldRecords(ctx context.Context, hold *ent.LegalHold, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*model.RecordConnection, error) {
	scope, err := r.Records.ScopeOf(ctx, hold.ID)
	if err != nil {
		return nil, err
	}
	list := mixed{}
	for _, t := range ent.RecordTypes {
		list = append(list, branch{t, "created_at", func(s *sql.Selector) { scope.Where(s, t) }})
	}
	return r.recordPage(ctx, list, after, first, before, last)
}

// heldPersons lists the persons of a hold that the caller may read.
func (r *Resolver) heldPersons(ctx context.Context, hold *ent.LegalHold, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*model.RecordConnection, error) {
	list := mixed{}
	for _, t := range ent.RecordTypes {
		if slices.Contains(belong.Persons, t.Name) {
			list = append(list, branch{t, "created_at", func(s *sql.Selector) {
				named := sql.Dialect(s.Dialect()).Table("legal_hold_records")
				s.Where(sql.In(s.C("id"), sql.Dialect(s.Dialect()).Select(named.C("person_id")).From(named).
					Where(sql.And(sql.EQ(named.C("hold_id"), hold.ID), sql.NotNull(named.C("person_id"))))))
			}})
		}
	}
	return r.recordPage(ctx, list, after, first, before, last)
}

// holdPayload reads a hold for who has just placed or released it, whatever else
// he may know of holds.
func (r *Resolver) holdPayload(ctx context.Context, id gid.ID) (*model.LegalHoldPayload, error) {
	hold, err := selected[*ent.LegalHold](visible.With(ctx, visible.Tenant(tenantOf(ctx))), r, id, "hold")
	return &model.LegalHoldPayload{Hold: hold}, err
}

func (r *Resolver) placeHold(ctx context.Context, in *model.PlaceHoldInput) (*model.LegalHoldPayload, error) {
	h := record.Hold{Name: in.Name, Reason: in.Reason, Records: in.Records.Value(), Persons: in.Persons.Value(), BlockDelete: in.BlockDelete, Freeze: in.Freeze}
	if selector := in.Filter.Value(); selector != nil {
		for _, where := range setOf(selector) {
			var err error
			if h.Filter, err = record.KeptFilter(where); err != nil {
				return nil, err
			}
		}
	}
	id, err := r.Records.PlaceHold(ctx, h)
	if err != nil {
		return nil, err
	}
	return r.holdPayload(ctx, id)
}

func (r *Resolver) addToHold(ctx context.Context, in *model.AddToHoldInput) (*model.LegalHoldPayload, error) {
	if err := checkID(in.ID, "id", gid.LegalHold); err != nil {
		return nil, err
	}
	if err := r.Records.AddToHold(ctx, in.ID, in.Records); err != nil {
		return nil, err
	}
	return r.holdPayload(ctx, in.ID)
}

func (r *Resolver) releaseHold(ctx context.Context, in *model.ReleaseHoldInput) (*model.LegalHoldPayload, error) {
	if err := checkID(in.ID, "id", gid.LegalHold); err != nil {
		return nil, err
	}
	request, err := r.Records.ReleaseHold(ctx, in.ID, in.Reason)
	if err != nil {
		return nil, err
	}
	out, err := r.holdPayload(ctx, in.ID)
	if err == nil {
		out.Approval, err = r.requested(ctx, request)
	}
	return out, err
}
