package record

import (
	"context"
	"fmt"
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

// kept is what the holds that name a record keep from it, taken together. Holds
// on persons and by filter will be read into the same.
type kept struct {
	held                bool // by one that is not released
	blockDelete, freeze bool
	released            time.Time // when the last one was, if that was of late
}

// stops reports whether a verb is refused on a record that is kept like this. A
// purge is, as long as its holds are not released and for a time after that.
func (k kept) stops(verb lifecycle.Verb) bool {
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

// keptAmong reads, with one statement, what keeps some of the records: holds that
// are not released, and those that were released after since.
func (s *Service) keptAmong(ctx context.Context, q store.Querier, tenant gid.ID, ids []gid.ID, since time.Time) (map[gid.ID]kept, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	out := map[gid.ID]kept{}
	err := store.Build(q).Add(`SELECT r.record_id, h.block_delete, h.freeze, h.released_at FROM legal_hold_records r JOIN legal_holds h ON h.id = r.hold_id
		WHERE r.tenant_id = ? AND `+inForce+` AND `, tenant, since).IDs("r.record_id", ids).Query(ctx, q, func(row store.Row) error {
		var id gid.ID
		var blockDelete, freeze bool
		var released *time.Time
		if err := row.Scan(&id, &blockDelete, &freeze, &released); err != nil {
			return err
		}
		k := out[id]
		switch {
		case released == nil:
			k.held, k.blockDelete, k.freeze = true, k.blockDelete || blockDelete, k.freeze || freeze
		case released.After(k.released):
			k.released = *released
		}
		out[id] = k
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading legal holds: %w", err)
	}
	return out, nil
}

// Held says which of the records a legal hold keeps. Whether the caller may know
// is for the caller to ask.
func (s *Service) Held(ctx context.Context, ids []gid.ID) (map[gid.ID]bool, error) {
	var q store.Querier = s.db
	if tx := store.TxFrom(ctx); tx != nil {
		q = tx
	}
	keeps, err := s.keptAmong(ctx, q, actor.From(ctx).Tenant, ids, q.Now())
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
// reach. The rows are locked by now, and whoever places a hold locks them, too:
// a hold is seen here, or has to wait until this is over. Only who may know of
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
	keeps, err := r.keptAmong(ctx, r.q, r.a.Tenant, ids, since)
	if err != nil || len(keeps) == 0 {
		return err
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
// who may know of that, RETAINED to others. The record is locked.
func (s *Service) frozen(ctx context.Context, q store.Querier, a *actor.Actor, row ent.Record) (lifecycle.Code, error) {
	keeps, err := s.keptAmong(ctx, q, a.Tenant, []gid.ID{row.RecordID()}, q.Now())
	switch {
	case err != nil || !keeps[row.RecordID()].freeze:
		return "", err
	case s.control.May(ctx, a, access.Of(authz.HoldRead, row)):
		return lifecycle.Hold, nil
	}
	return lifecycle.Retained, nil
}

// inOperation reports whether a record, as tree.id, is still where tree.operation_id put it.
var inOperation = func() string {
	tables := make([]string, len(ent.RecordTypes))
	for i, t := range ent.RecordTypes {
		tables[i] = fmt.Sprintf(`EXISTS (SELECT 1 FROM %q t WHERE t.id = tree.id AND t.operation_id = tree.operation_id)`, t.Table)
	}
	return `(` + strings.Join(tables, ` OR `) + `)`
}()

// holdsUp says which of the records must wait for a hold on them, or on what came
// with them and would have to go along: so that timers do not try, and fail, and
// write that down, again and again. which narrows the holds, as h.
func (s *Service) holdsUp(ctx context.Context, tenant gid.ID, t *ent.RecordType, ids []gid.ID, which string, args ...any) (map[gid.ID]bool, error) {
	out := map[gid.ID]bool{}
	err := store.Build(s.db).Add(`WITH RECURSIVE tree(root, id, operation_id) AS (SELECT id AS root, id, operation_id FROM `+t.Table+` WHERE `).IDs("id", ids).
		Add(` UNION SELECT tree.root, i.record_id, i.operation_id FROM tree JOIN operation_items i ON i.operation_id = tree.operation_id AND i.came_with = tree.id WHERE i.outcome = ?)
		SELECT DISTINCT tree.root FROM tree JOIN legal_hold_records r ON r.record_id = tree.id JOIN legal_holds h ON h.id = r.hold_id
		WHERE r.tenant_id = ? AND `, changed, tenant).Add(which, args...).Add(` AND `+inOperation).
		Query(ctx, s.db, scanIDs(func(id gid.ID) { out[id] = true }))
	if err != nil {
		return nil, fmt.Errorf("looking for legal holds: %w", err)
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
