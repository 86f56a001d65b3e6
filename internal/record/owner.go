package record

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// settleOwners locks what drafts point to, refuses what must not be pointed to,
// and gives drafts without an owner or team those of their owner row, else the
// actor's.
func (s *Service) settleOwners(ctx context.Context, tx *store.Tx, a *actor.Actor, t *ent.RecordType, drafts []*draft) error {
	targets, err := s.lockTargets(ctx, t, drafts)
	if err != nil {
		return err
	}
	for _, d := range drafts {
		if d.err != nil {
			continue
		}
		owner, team := a.UserRef(), a.FirstTeam()
		inherited := false
		for _, e := range t.Edges {
			id, ok := d.values[e.Column].(gid.ID)
			if !ok {
				continue
			}
			target := targets[id]
			if d.err = checkTarget(e, id, target); d.err != nil {
				break
			}
			if e.Class == lifecycle.Owned {
				owner, team = refOf(target, "owner_id"), refOf(target, "team_id")
				inherited = true
			}
		}
		if _, given := d.values["owner_id"]; !given && owner != nil {
			d.values["owner_id"] = *owner
			d.inherited = inherited
		}
		if _, given := d.values["team_id"]; !given && team != nil {
			d.values["team_id"] = *team
		}
	}
	return s.checkPeople(ctx, tx, a, t, drafts)
}

// lockTargets loads the records that drafts point to, as far as the caller may
// read them, and keeps them from being retired until the transaction ends.
func (s *Service) lockTargets(ctx context.Context, t *ent.RecordType, drafts []*draft) (map[gid.ID]ent.Record, error) {
	ids := map[string][]gid.ID{}
	for _, d := range drafts {
		for _, e := range t.Edges {
			if id, ok := d.values[e.Column].(gid.ID); ok && d.err == nil {
				ids[e.Target] = append(ids[e.Target], id)
			}
		}
	}
	out := map[gid.ID]ent.Record{}
	for _, target := range typeOrder {
		level := share
		if t.Activity != "" && keepsActivity(target) {
			level = keep // its last activity is written at the end
		}
		rows, err := s.load(ctx, target, ids[target.Name], level)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			out[r.RecordID()] = r
		}
	}
	return out, nil
}

func checkTarget(e ent.RecordReference, id gid.ID, target ent.Record) *Error {
	switch {
	case target == nil || target.RecordType().Name != e.Target:
		return Refuse(lifecycle.BadUserInput, "there is no such record", e.GraphQL)
	case target.RecordState().Retired() && e.Class != lifecycle.Weak:
		return &Error{
			Code: lifecycle.ParentRetired, Message: "the record it would belong to is retired", Fields: []string{e.GraphQL},
			Extensions: map[string]any{"record": id.String(), "state": string(target.RecordState())},
		}
	}
	return nil
}

// checkPeople refuses users and teams that are not there, or not active.
func (s *Service) checkPeople(ctx context.Context, tx *store.Tx, a *actor.Actor, t *ent.RecordType, drafts []*draft) error {
	for _, people := range []struct{ target, table, active string }{{ent.TypeUser, "users", " AND active"}, {ent.TypeTeam, "teams", ""}} {
		var fields []ent.RecordField
		for _, f := range t.Fields {
			if f.Target == people.target {
				fields = append(fields, f)
			}
		}
		known := map[gid.ID]bool{}
		for _, id := range append(slices.Clone(a.Teams), a.User) {
			known[id] = true
		}
		unknown := map[gid.ID]bool{}
		for _, d := range drafts {
			for _, f := range fields {
				if id, ok := d.values[f.Name].(gid.ID); ok && !known[id] {
					unknown[id] = true
				}
			}
		}
		if len(unknown) == 0 {
			continue
		}
		err := store.Build(tx).Add(`SELECT id FROM `+people.table+` WHERE tenant_id = ?`+people.active+` AND `, a.Tenant).IDs("id", slices.Collect(maps.Keys(unknown))).
			Query(ctx, tx, scanIDs(func(id gid.ID) { known[id] = true }))
		if err != nil {
			return fmt.Errorf("looking up %s: %w", people.table, err)
		}
		for _, d := range drafts {
			for _, f := range fields {
				id, ok := d.values[f.Name].(gid.ID)
				switch {
				case !ok || known[id] || d.err != nil:
				case d.inherited && f.Name == "owner_id": // the owner row's owner left
					delete(d.values, f.Name)
				default:
					d.err = Refuse(lifecycle.BadUserInput, "there is no such user or team", f.GraphQL)
				}
			}
		}
	}
	return nil
}
