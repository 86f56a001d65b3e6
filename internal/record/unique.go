package record

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// checkUnique refuses drafts whose folded values a live record has, or an
// earlier draft. The index only catches what slips in between.
func (s *Service) checkUnique(ctx context.Context, tx *store.Tx, a *actor.Actor, t *ent.RecordType, drafts []*draft, self *gid.ID) error {
	for _, u := range t.Uniques {
		byKey := map[string][]*draft{}
		for _, d := range drafts {
			if k := d.keys[u.Key]; k != "" && d.err == nil {
				byKey[k] = append(byKey[k], d)
			}
		}
		if len(byKey) == 0 {
			continue
		}
		keys := make([]string, 0, len(byKey))
		for k := range byKey {
			keys = append(keys, k)
		}
		taken, err := s.taken(ctx, tx, a, t, u, keys)
		if err != nil {
			return err
		}
		for _, ds := range byKey {
			seen := map[string]bool{}
			for _, d := range ds {
				scope := d.keys[u.Key]
				if u.Within != "" {
					within, ok := d.values[u.Within].(gid.ID)
					if !ok {
						continue // NULLs are never equal
					}
					scope += " " + within.String()
				}
				holder, conflict := taken[scope]
				if conflict && self != nil && holder == *self {
					conflict = false
				}
				if conflict || seen[scope] {
					d.err = s.uniqueError(ctx, t, u, holder)
				}
				seen[scope] = true
			}
		}
	}
	return nil
}

// taken says which live record has each of the folded values, by value and scope.
func (s *Service) taken(ctx context.Context, q store.Querier, a *actor.Actor, t *ent.RecordType, u ent.RecordUnique, keys []string) (map[string]gid.ID, error) {
	within := "NULL"
	if u.Within != "" {
		within = u.Within
	}
	out := map[string]gid.ID{}
	err := store.Build(q).Add(`SELECT id, `+u.Key+`, `+within+` FROM `+t.Table+` WHERE tenant_id = ? AND retired_at IS NULL AND `, a.Tenant).
		Strings(u.Key, keys).Query(ctx, q, func(rows store.Row) error {
		var id, scope gid.ID
		var key string
		if err := rows.Scan(&id, &key, &scope); err != nil {
			return err
		}
		if u.Within != "" {
			key += " " + scope.String()
		}
		out[key] = id
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for twins: %w", err)
	}
	return out, nil
}

// uniqueError names the record that has the value to those who may read it.
func (s *Service) uniqueError(ctx context.Context, t *ent.RecordType, u ent.RecordUnique, holder gid.ID) *Error {
	e := &Error{
		Code: lifecycle.UniqueConflict, Message: "another live record has this value", Fields: []string{u.GraphQL},
		Extensions: map[string]any{"field": u.GraphQL},
	}
	if !holder.IsZero() {
		if rows, err := s.load(ctx, t, []gid.ID{holder}, none); err == nil && len(rows) == 1 {
			e.Extensions["record"] = holder.String()
		}
	}
	return e
}

// mapWriteError turns what ent and the database say about a write into what the
// API says about a field.
func mapWriteError(t *ent.RecordType, err error) error {
	if invalid, ok := errors.AsType[*ent.ValidationError](err); ok {
		reason := "is not valid"
		if long, ok := errors.AsType[mixin.TooLongError](invalid); ok {
			reason = long.Error()
		} else if format, ok := errors.AsType[mixin.FormatError](invalid); ok {
			reason = format.Error()
		} else if strings.Contains(invalid.Error(), "missing required") || strings.Contains(invalid.Error(), "less than the required") {
			reason = "is required"
		}
		return Refuse(lifecycle.BadUserInput, reason, graphQLName(t, invalid.Name))
	}
	c, ok := store.Constraint(err)
	if !ok {
		return err
	}
	switch c.Kind {
	case store.UniqueViolation:
		for _, u := range t.Uniques {
			if c.Concerns(u.Key) {
				return &Error{Code: lifecycle.UniqueConflict, Message: "another live record has this value", Fields: []string{u.GraphQL}, Extensions: map[string]any{"field": u.GraphQL}}
			}
		}
		if c.Concerns("number") {
			return &Error{Code: lifecycle.UniqueConflict, Message: "this number was given out before", Fields: []string{"number"}, Extensions: map[string]any{"field": "number"}}
		}
	case store.ReferenceViolation:
		return Refuse(lifecycle.BadUserInput, "refers to something that is not there")
	}
	return err
}
