package record

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// kept is what the holds on a record keep from it, taken together.
type kept struct {
	held                bool // by one that is not released
	blockDelete, freeze bool
	released            time.Time  // when the last one was, if that was of late
	wide                []wideHold // those of the holds not released that keep it without naming it
}

// add adds what one hold keeps from it.
func (k *kept) add(blockDelete, freeze bool, released *time.Time) {
	switch {
	case released == nil:
		k.held, k.blockDelete, k.freeze = true, k.blockDelete || blockDelete, k.freeze || freeze
	case released.After(k.released):
		k.released = *released
	}
}

// stops reports whether a verb is refused on a record that is kept like this. A
// purge is, as long as its holds are not released and for a time after that.
func (k *kept) stops(verb lifecycle.Verb) bool {
	switch verb {
	case lifecycle.Purge:
		return k.held || !k.released.IsZero()
	case lifecycle.Delete, lifecycle.Void:
		return k.blockDelete || k.freeze
	}
	return k.freeze
}

// inForce is what a hold must be, as h, to keep something: not released, or
// after a moment.
const inForce = `(h.released_at IS NULL OR h.released_at > ?)`

// keptAmong reads what keeps some of the records: holds that are not released, and
// those that were released after since. It takes one statement where the tenant
// has no wide holds in force, which it answers, too.
func (s *Service) keptAmong(ctx context.Context, q store.Querier, tenant gid.ID, ids []gid.ID, since time.Time) (map[gid.ID]kept, []wideHold, error) {
	if len(ids) == 0 {
		return nil, nil, nil
	}
	out := map[gid.ID]kept{}
	var all []wideHold
	err := store.Build(q).Add(`SELECT r.record_id, h.id, h.block_delete, h.freeze, h.released_at, h.filter_type, h.filter FROM legal_hold_records r JOIN legal_holds h ON h.id = r.hold_id
		WHERE r.tenant_id = ? AND `+inForce+` AND `, tenant, since).IDs("r.record_id", ids).
		Add(` UNION ALL SELECT NULL, h.id, h.block_delete, h.freeze, h.released_at, h.filter_type, h.filter FROM legal_holds h
		WHERE h.tenant_id = ? AND h.wide IS NOT NULL AND `+inForce, tenant, since).Query(ctx, q, func(row store.Row) error {
		var id gid.ID
		var w wideHold
		var typ, filter *string
		if err := row.Scan(&id, &w.hold, &w.blockDelete, &w.freeze, &w.released, &typ, &filter); err != nil {
			return err
		}
		if id.IsZero() {
			if typ != nil && filter != nil {
				w.typ, w.filter = *typ, *filter
			}
			all = append(all, w)
			return nil
		}
		k := out[id]
		k.add(w.blockDelete, w.freeze, w.released)
		out[id] = k
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reading legal holds: %w", err)
	}
	covered, err := s.covered(ctx, q, tenant, ids, all)
	if err != nil {
		return nil, nil, err
	}
	for id, list := range covered {
		k := out[id]
		for _, w := range list {
			w.to(&k)
		}
		out[id] = k
	}
	return out, all, nil
}

// Held says which of the records a legal hold keeps. Whether the caller may know
// is for the caller to ask.
func (s *Service) Held(ctx context.Context, ids []gid.ID) (map[gid.ID]bool, error) {
	q := s.querier(ctx)
	keeps, _, err := s.keptAmong(ctx, q, actor.From(ctx).Tenant, ids, q.Now())
	if err != nil {
		return nil, err
	}
	out := make(map[gid.ID]bool, len(keeps))
	for id, k := range keeps {
		out[id] = k.held
	}
	return out, nil
}

// keepHeld keeps from the verb what a hold keeps from it, of all that is in
// reach. The rows are locked by now, and whoever places a hold locks them, too, or
// waits at the fence: a hold is seen here, or has to wait until this is over. Only who may know of
// the holds on a record is told that it is one.
func (r *run) keepHeld(ctx context.Context) error {
	ids := make([]gid.ID, 0, len(r.nodes))
	for id := range r.nodes {
		ids = append(ids, id)
	}
	since := r.q.Now()
	if r.req.Verb == lifecycle.Purge {
		since = since.Add(-r.settings.holdRelease)
	}
	keeps, wide, err := r.keptAmong(ctx, r.q, r.a.Tenant, ids, since)
	if err != nil {
		return err
	}
	r.keeps, r.wide = keeps, wide
	if len(keeps) == 0 {
		return nil
	}
	var stopped []*node
	var questions []access.Question
	for _, n := range r.sorted() {
		if k, ok := keeps[n.row.RecordID()]; ok && n.problem == "" && k.stops(r.req.Verb) {
			stopped = append(stopped, n)
			questions = append(questions, access.Of(authz.HoldRead, n.row))
		}
	}
	for i, answer := range r.control.Decide(ctx, r.a, questions) {
		n := stopped[i]
		k := keeps[n.row.RecordID()]
		n.problem = lifecycle.Retained
		if !answer.Permit {
			continue
		}
		b := Blocker{Type: n.row.RecordType().Name, Count: 1}
		if k.held {
			n.problem = lifecycle.Hold
		} else {
			until := k.released.Add(r.settings.holdRelease).UTC()
			b.Until = &until
		}
		b.Code = n.problem
		n.blockers = []Blocker{b}
	}
	return nil
}

// frozen says as what a record must not be edited, if a hold freezes it: HOLD to
// who may know of that, RETAINED to others. The record is locked. It answers the
// wide holds that keep it as well.
func (s *Service) frozen(ctx context.Context, q store.Querier, a *actor.Actor, row ent.Record) (lifecycle.Code, []wideHold, error) {
	keeps, _, err := s.keptAmong(ctx, q, a.Tenant, []gid.ID{row.RecordID()}, q.Now())
	k := keeps[row.RecordID()]
	switch {
	case err != nil || !k.freeze:
		return "", k.wide, err
	case s.control.May(ctx, a, access.Of(authz.HoldRead, row)):
		return lifecycle.Hold, k.wide, nil
	}
	return lifecycle.Retained, k.wide, nil
}

// inOperation reports whether a record, as tree.id, is still where tree.operation_id put it.
var inOperation = func() string {
	tables := make([]string, len(ent.RecordTypes))
	for i, t := range ent.RecordTypes {
		tables[i] = fmt.Sprintf(`EXISTS (SELECT 1 FROM %q t WHERE t.id = tree.id AND t.operation_id = tree.operation_id)`, t.Table)
	}
	return `(` + strings.Join(tables, ` OR `) + `)`
}()

// rootsOf answers, for some records and all that came with them and would have to go along, which of the records these
// are below: themselves included.
func (s *Service) rootsOf(ctx context.Context, q store.Querier, tenant gid.ID, ids []gid.ID) (map[gid.ID][]gid.ID, error) {
	roots := map[gid.ID][]gid.ID{}
	stmt := store.Build(q).Add(`WITH RECURSIVE tree(root, id, operation_id) AS (SELECT * FROM (`)
	for i, t := range typeOrder {
		if i > 0 {
			stmt.Add(` UNION ALL `)
		}
		stmt.Add(`SELECT id AS root, id, operation_id FROM `+t.Table+` WHERE tenant_id = ? AND `, tenant).IDs("id", ids)
	}
	err := stmt.Add(`) picked UNION SELECT tree.root, i.record_id, i.operation_id FROM tree JOIN operation_items i ON i.operation_id = tree.operation_id AND i.came_with = tree.id WHERE i.outcome = ?)
		SELECT DISTINCT tree.root, tree.id FROM tree WHERE tree.root = tree.id OR `+inOperation, changed).Query(ctx, q, func(row store.Row) error {
		var root, id gid.ID
		if err := row.Scan(&root, &id); err != nil {
			return err
		}
		roots[id] = append(roots[id], root)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for what came with records: %w", err)
	}
	return roots, nil
}

// holdsUp says which of the records must wait for a hold on them, or on what came
// with them and would have to go along: so that timers do not try, and fail, and
// write that down, again and again.
func (s *Service) holdsUp(ctx context.Context, tenant gid.ID, ids []gid.ID, since time.Time, stops func(kept) bool) (map[gid.ID]bool, error) {
	roots, err := s.rootsOf(ctx, s.db, tenant, ids)
	if err != nil {
		return nil, err
	}
	keeps, _, err := s.keptAmong(ctx, s.db, tenant, slices.Collect(maps.Keys(roots)), since)
	if err != nil {
		return nil, err
	}
	out := map[gid.ID]bool{}
	for id, k := range keeps {
		if stops(k) {
			for _, root := range roots[id] {
				out[root] = true
			}
		}
	}
	return out, nil
}

// holdRules are what a tenant's timers must know of its holds.
type holdRules struct {
	any     bool          // whether it ever placed one
	release time.Duration // how long clocks stand still after the last one of a record
}

func (s *Service) holdRules(ctx context.Context, tenant gid.ID) (holdRules, error) {
	var rules holdRules
	var days int
	_, err := store.Build(s.db).Add(`SELECT t.hold_release_days, EXISTS (SELECT 1 FROM legal_holds h WHERE h.tenant_id = t.id) FROM tenants t WHERE t.id = ?`, tenant).
		One(ctx, s.db, &days, &rules.any)
	if err != nil {
		return rules, fmt.Errorf("reading the tenant's settings: %w", err)
	}
	rules.release = time.Duration(days) * 24 * time.Hour
	return rules, nil
}
