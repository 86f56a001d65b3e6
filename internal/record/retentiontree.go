package record

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// along is what keeps a retired record from being purged because it keeps what came
// with the record and would have to go along.
type along struct {
	kept
	clauses []lifecycle.Clause
	rows    []ent.Record // that are kept
}

// keptAlong says of retired records what keeps what came with them: holds, and those
// of the rules that do.
func (s *Service) keptAlong(ctx context.Context, q store.Querier, tenant gid.ID, rules []*rule, rows []ent.Record, release time.Duration, now time.Time) (map[gid.ID]*along, error) {
	var ids []gid.ID
	for _, row := range rows {
		if row.RecordState().Retired() {
			ids = append(ids, row.RecordID())
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	roots, err := s.rootsOf(ctx, q, tenant, ids)
	if err != nil {
		return nil, err
	}
	for id, above := range roots {
		if roots[id] = slices.DeleteFunc(above, func(root gid.ID) bool { return root == id }); len(roots[id]) == 0 {
			delete(roots, id)
		}
	}
	below := slices.Collect(maps.Keys(roots))
	keeps, _, err := s.keptAmong(ctx, q, tenant, below, now.Add(-release))
	if err != nil {
		return nil, err
	}
	keeping := slices.DeleteFunc(slices.Clone(rules), func(r *rule) bool { return r.Action != lifecycle.KeepAction })
	matching, err := s.ruled(ctx, q, tenant, keeping, below, func(k *rule, sel *sql.Selector) { k.young(sel, now) })
	if err != nil {
		return nil, err
	}
	out := map[gid.ID]*along{}
	for _, t := range typeOrder {
		found, err := s.load(visible.With(ctx, visible.Tenant(tenant)), t, slices.DeleteFunc(slices.Clone(below), func(id gid.ID) bool {
			_, held := keeps[id]
			return ent.RecordTypeOf(id) != t || !held && len(matching[id]) == 0
		}), none)
		if err != nil {
			return nil, fmt.Errorf("reading what came along: %w", err)
		}
		for _, row := range found {
			for _, root := range roots[row.RecordID()] {
				if out[root] == nil {
					out[root] = &along{}
				}
				out[root].add(row, keeps[row.RecordID()], matching[row.RecordID()])
			}
		}
	}
	return out, nil
}

// add adds a record that is kept: each rule once, with the last time it keeps one.
func (a *along) add(row ent.Record, k kept, rules []*rule) {
	a.held = a.held || k.held
	if k.released.After(a.released) {
		a.released = k.released
	}
	for _, r := range rules {
		at, ok := r.ends(row)
		if !ok {
			continue
		}
		i := slices.IndexFunc(a.clauses, func(c lifecycle.Clause) bool { return c.Key == r.ID.String() })
		if i < 0 {
			a.clauses = append(a.clauses, lifecycle.Clause{Key: r.ID.String(), Action: r.Action, At: at})
		} else if at.After(a.clauses[i].At) {
			a.clauses[i].At = at
		}
	}
	a.rows = append(a.rows, row)
}
