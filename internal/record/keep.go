package record

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// keepRule is a rule that keeps, as it is read beside the settings of a tenant.
type keepRule struct {
	Type   string          `json:"type"`
	Filter *string         `json:"filter"`
	Basis  lifecycle.Basis `json:"basis"`
	Length int             `json:"length"`
	Unit   lifecycle.Unit  `json:"unit"`
}

// keepRules is an expression for the rules of tenant t that keep, as JSON.
func keepRules(q store.Querier) string {
	const fields = `'id', k.id, 'type', k.record_type, 'filter', k.filter, 'basis', k.basis, 'length', k.length, 'unit', k.unit`
	list := `json_group_array(json_object(` + fields + `))`
	if q.Dialect() == dialect.Postgres {
		list = `json_agg(json_build_object(` + fields + `))::text`
	}
	return `(SELECT ` + list + ` FROM retention_rules k WHERE k.tenant_id = t.id AND k.action = 'KEEP' AND k.enabled AND k.removed_at IS NULL)`
}

// readKeepRules reads what keepRules selects.
func readKeepRules(encoded *string) ([]*rule, error) {
	if encoded == nil {
		return nil, nil
	}
	var rows []struct {
		keepRule
		ID string `json:"id"` // as the database writes it
	}
	if err := json.Unmarshal([]byte(*encoded), &rows); err != nil {
		return nil, fmt.Errorf("reading rules that keep: %w", err)
	}
	out := make([]*rule, len(rows))
	for i, row := range rows {
		var id gid.ID
		if err := id.Scan(row.ID); err != nil {
			return nil, fmt.Errorf("reading rules that keep: %w", err)
		}
		var err error
		out[i], err = compile(&ent.RetentionRule{
			ID: id, RecordType: row.Type, Filter: row.Filter, Basis: row.Basis, Length: row.Length, Unit: row.Unit, Action: lifecycle.KeepAction,
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// keepingOf are the rules of a tenant that keep.
func (s *Service) keepingOf(ctx context.Context, tenant gid.ID) ([]*rule, error) {
	var encoded *string
	if _, err := store.Build(s.db).Add(`SELECT `+keepRules(s.db)+` FROM tenants t WHERE t.id = ?`, tenant).One(ctx, s.db, &encoded); err != nil {
		return nil, fmt.Errorf("reading rules that keep: %w", err)
	}
	return readKeepRules(encoded)
}

// keepByRules keeps from being purged what a rule keeps, of all that is in reach:
// RETAINED, as for a hold that one may not know of. Until when is told who may
// know of holds as well: to others it would tell that it is none.
func (r *run) keepByRules(ctx context.Context) error {
	if len(r.settings.keep) == 0 {
		return nil
	}
	ids := make([]gid.ID, 0, len(r.nodes))
	for id := range r.nodes {
		ids = append(ids, id)
	}
	now := r.q.Now()
	matching, err := r.Service.ruled(ctx, r.q, r.a.Tenant, r.settings.keep, ids, func(k *rule, s *sql.Selector) { k.young(s, now) })
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
		until = until.UTC()
		n.blockers = []Blocker{{Code: lifecycle.Retained, Type: n.row.RecordType().Name, Count: 1, Until: &until}}
	}
	return nil
}

// keptByRules says which of the records must wait for a rule that keeps them, or
// what came with them and would have to go along: so that the sweeper does not
// try, and fail, again and again.
func (s *Service) keptByRules(ctx context.Context, tenant gid.ID, keep []*rule, ids []gid.ID, now time.Time) (map[gid.ID]bool, error) {
	roots, err := s.rootsOf(ctx, tenant, ids)
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
