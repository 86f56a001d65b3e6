package record

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// keepingOf are the rules of a tenant that keep.
func (s *Service) keepingOf(ctx context.Context, q store.Querier, tenant gid.ID) ([]*rule, error) {
	var out []*rule
	err := store.Build(q).Add(`SELECT id, record_type, filter, basis, length, unit FROM retention_rules
		WHERE tenant_id = ? AND action = 'KEEP' AND enabled AND removed_at IS NULL ORDER BY id`, tenant).
		Query(ctx, q, func(row store.Row) error {
			r := &ent.RetentionRule{Action: lifecycle.KeepAction}
			if err := row.Scan(&r.ID, &r.RecordType, &r.Filter, &r.Basis, &r.Length, &r.Unit); err != nil {
				return err
			}
			compiled, err := compile(r)
			out = append(out, compiled)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("reading rules that keep: %w", err)
	}
	return out, nil
}

// keepByRules keeps from being purged what a rule keeps, of all that is in reach:
// RETAINED, as for a hold that one may not know of. Until when is told who may
// know of holds as well: to others it would tell that it is none.
func (r *run) keepByRules(ctx context.Context) error {
	// Asked for with the rows and the fence locked: whoever makes such a rule waits for the fence.
	keep, err := r.keepingOf(ctx, r.q, r.a.Tenant)
	if err != nil || len(keep) == 0 {
		return err
	}
	ids := make([]gid.ID, 0, len(r.nodes))
	for id := range r.nodes {
		ids = append(ids, id)
	}
	now := r.q.Now()
	matching, err := r.Service.ruled(ctx, r.q, r.a.Tenant, keep, ids, func(k *rule, s *sql.Selector) { k.young(s, now) })
	if err != nil || len(matching) == 0 {
		return err
	}
	var stopped []*node
	var questions []access.Question
	for _, n := range r.sorted() {
		if len(matching[n.row.RecordID()]) > 0 && (n.problem == "" || n.problem == lifecycle.Retained) {
			stopped = append(stopped, n)
			questions = append(questions, access.Of(authz.HoldRead, n.row))
		}
	}
	for i, answer := range r.control.Decide(ctx, r.a, questions) {
		n := stopped[i]
		n.problem = lifecycle.Retained
		if !answer.Permit {
			continue
		}
		var until time.Time
		for _, k := range matching[n.row.RecordID()] {
			if at, ok := k.ends(n.row); ok && at.After(until) {
				until = at
			}
		}
		for _, b := range n.blockers { // a hold that was released keeps it, too
			if b.Until != nil && b.Until.After(until) {
				until = *b.Until
			}
		}
		b := Blocker{Code: lifecycle.Retained, Type: n.row.RecordType().Name, Count: 1}
		if until = until.UTC(); until.Before(lifecycle.Never) {
			b.Until = &until
		}
		n.blockers = []Blocker{b}
	}
	return nil
}

// keptByRules says which of the records must wait for a rule that keeps them, or
// what came with them and would have to go along: so that the sweeper does not
// try, and fail, again and again.
func (s *Service) keptByRules(ctx context.Context, tenant gid.ID, keep []*rule, ids []gid.ID, now time.Time) (map[gid.ID]bool, error) {
	roots, err := s.rootsOf(ctx, s.db, tenant, ids)
	if err != nil {
		return nil, err
	}
	matching, err := s.ruled(ctx, s.db, tenant, keep, slices.Collect(maps.Keys(roots)), func(k *rule, s *sql.Selector) { k.young(s, now) })
	if err != nil {
		return nil, err
	}
	out := map[gid.ID]bool{}
	for id := range matching {
		for _, root := range roots[id] {
			out[root] = true
		}
	}
	return out, nil
}
