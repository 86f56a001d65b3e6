package record

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// ruleBatch is how many records a rule acts on in one operation.
const ruleBatch = 500

// turnTime is after how long a rule's turn is taken again that did not come to its end: because its process was killed, or
// the quota of purges used up.
const turnTime = time.Hour

// cycle is one time that a rule acts, or finds out what it would do.
type cycle struct {
	*Service
	tenant  gid.ID
	rule    *rule
	rules   []*rule // those of the tenant that are about records of the type
	all     []*rule
	release time.Duration
	now     time.Time
	twins   map[gid.ID]twin // of the type, where a rule looks for duplicates
	repeats []gid.ID        // those that have one, in order
	// person says that somebody asks in his own name. What a hold keeps the pipeline
	// says then: what is not listed would tell that it is held.
	person bool
}

// candidate is a record that a rule decides on and whose time has come.
type candidate struct {
	row ent.Record
	of  gid.ID // what it repeats, if the rule looks for duplicates
	by  string // the field by which it does
	at  time.Time
}

// ApplyRules lets, in every tenant, the retention rules act whose time has come,
// and answers how many records they changed. A new or changed rule only finds out
// what it would do. Each batch is an operation of the system, in which all guards
// are asked again; what cannot go holds up nothing else, and is left alone for
// longer each time.
func (s *Service) ApplyRules(ctx context.Context) (int, error) {
	return s.eachTenant(ctx, func(ctx context.Context, tenant gid.ID) (done int, err error) {
		now := s.db.Now()
		rules, err := s.retentionRulesOf(ctx, tenant)
		if err != nil {
			return 0, err
		}
		if err := s.mustSearch(ctx, rules); err != nil {
			if _, waits := errors.AsType[*Error](err); waits {
				s.log.WarnContext(ctx, "retention rules wait", "tenant", tenant, "error", err)
				err = nil
			}
			return 0, err
		}
		var errs []error
		for _, r := range rules {
			if r.NextRunAt == nil || r.NextRunAt.After(now) || ctx.Err() != nil {
				continue
			}
			n, err := s.runCycle(ctx, tenant, r, rules, now)
			done += n
			if err != nil {
				errs = append(errs, fmt.Errorf("rule %s of tenant %s: %w", r.ID, tenant, err))
			}
		}
		return done, errors.Join(errs...)
	})
}

// runCycle takes a rule's turn, unless another process was quicker or somebody
// changed it.
func (s *Service) runCycle(ctx context.Context, tenant gid.ID, r *rule, rules []*rule, now time.Time) (int, error) {
	every := time.Duration(r.EveryHours) * time.Hour
	next, again := now.Add(every), now.Add(min(every, turnTime))
	n, err := store.Build(s.db).Add(`UPDATE retention_rules SET next_run_at = ? WHERE id = ? AND version = ? AND next_run_at = ? AND removed_at IS NULL`,
		again, r.ID, r.Version, *r.NextRunAt).Exec(ctx, s.db)
	if err != nil || n == 0 {
		return 0, err
	}
	c, err := s.newCycle(ctx, tenant, r, rules, now)
	if err != nil {
		return 0, err
	}
	if r.DryRunAt == nil || r.Approval {
		return 0, c.dryRun(ctx, next)
	}
	_, done, err := c.act(ctx, 0)
	if errors.Is(err, errQuota) || errors.Is(err, errMoved) {
		return done, nil
	}
	if err == nil {
		_, err = store.Build(s.db).Add(`DELETE FROM retention_waits WHERE rule_id = ? AND until <= ?`, r.ID, now).Exec(ctx, s.db) // not even tried again
	}
	if err == nil {
		_, err = store.Build(s.db).Add(`UPDATE retention_rules SET last_run_at = ?, next_run_at = ? WHERE id = ? AND version = ? AND next_run_at = ?`,
			now, next, r.ID, r.Version, again).Exec(ctx, s.db)
	}
	return done, err
}

func (s *Service) newCycle(ctx context.Context, tenant gid.ID, r *rule, rules []*rule, now time.Time) (*cycle, error) {
	if err := s.mustSearch(ctx, rules); err != nil {
		return nil, err
	}
	c := &cycle{Service: s, tenant: tenant, rule: r, all: rules, now: now}
	for _, other := range rules {
		if other.typ == r.typ {
			c.rules = append(c.rules, other)
		}
	}
	holds, err := s.holdRules(ctx, tenant)
	if err != nil {
		return nil, err
	}
	c.release = holds.release
	if slices.ContainsFunc(c.rules, func(o *rule) bool { return o.seeksDuplicates() }) {
		c.twins, err = s.twins(ctx, s.querier(ctx), tenant, r.typ)
		c.repeats = slices.SortedFunc(maps.Keys(c.twins), func(a, b gid.ID) int { return bytes.Compare(a[:], b[:]) })
	}
	return c, err
}

// page reads the next records, by id, that the rule is about and that are old
// enough, whatever else there is to say of them. It moves place to where the next
// page begins, and to gid.Nil behind the last one.
func (c *cycle) page(ctx context.Context, place *gid.ID, waiting bool) ([]ent.Record, error) {
	after, some := *place, c.next(*place)
	if c.rule.seeksDuplicates() && len(some) == 0 {
		*place = gid.Nil
		return nil, nil
	}
	columns := []string{"id", "tenant_id", "owner_id", "team_id", "state", "version", "created_at", "updated_at", "state_changed_at", "purge_after", "suspended_until"}
	for _, o := range c.rules {
		for _, name := range o.ages() {
			if !slices.Contains(columns, name) {
				columns = append(columns, name)
			}
		}
	}
	rows, err := c.Client(ctx).CollectRecords(ctx, c.rule.typ.Name, nil, columns, func(s *sql.Selector) {
		c.narrow(s)
		s.Where(sql.GT(s.C("id"), after)).OrderBy(s.C("id")).Limit(ruleBatch)
		if some != nil {
			s.Where(inIDs(s.C("id"), some))
		}
		if !waiting {
			w := sql.Dialect(s.Dialect()).Table("retention_waits").As("waits")
			s.Where(sql.NotExists(sql.Dialect(s.Dialect()).Select(w.C("id")).From(w).Where(sql.And(
				sql.EQ(w.C("rule_id"), c.rule.ID), sql.ColumnsEQ(w.C("record_id"), s.C("id")), sql.GT(w.C("until"), c.now)))))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("looking for %s: %w", c.rule.typ.Table, err)
	}
	*place = gid.Nil
	switch {
	case len(some) == ruleBatch:
		*place = some[len(some)-1]
	case some == nil && len(rows) == ruleBatch:
		*place = rows[len(rows)-1].RecordID()
	}
	return rows, nil
}

// narrow lets through what the rule is about, is old enough for it, and in a
// state from which it would do something.
func (c *cycle) narrow(s *sql.Selector) {
	c.rule.narrow(s)
	c.rule.old(s, c.now)
	var states []any
	for _, state := range lifecycle.ChangedBy(c.rule.Action.Verb()) {
		if c.rule.Action.About(state) {
			states = append(states, string(state))
		}
	}
	if c.rule.Action == lifecycle.PurgeAction {
		s.Where(sql.NotNull(s.C("retired_at")))
	} else {
		s.Where(sql.IsNull(s.C("retired_at")))
	}
	s.Where(sql.In(s.C("state"), states...))
}

// next are the duplicates after one of them that a page looks at; nil where the rule looks for something else.
func (c *cycle) next(after gid.ID) []gid.ID {
	if !c.rule.seeksDuplicates() {
		return nil
	}
	i, found := slices.BinarySearchFunc(c.repeats, after, func(a, b gid.ID) int { return bytes.Compare(a[:], b[:]) })
	if found {
		i++
	}
	return c.repeats[i:min(i+ruleBatch, len(c.repeats))]
}

// decided are those of the records on which the rule decides, and whose time has come.
func (c *cycle) decided(ctx context.Context, rows []ent.Record) ([]candidate, error) {
	var keeps map[gid.ID]kept
	var trees map[gid.ID]*along
	if !c.person {
		ids := make([]gid.ID, len(rows))
		for i, row := range rows {
			ids[i] = row.RecordID()
		}
		var err error
		if keeps, _, err = c.keptAmong(ctx, c.querier(ctx), c.tenant, ids, c.now.Add(-c.release)); err != nil {
			return nil, err
		}
		if trees, err = c.keptAlong(ctx, c.querier(ctx), c.tenant, c.all, rows, c.release, c.now); err != nil {
			return nil, err
		}
	}
	standing, err := c.standing(ctx, c.querier(ctx), c.tenant, c.rules, c.twins, rows, keeps, trees, c.release)
	if err != nil {
		return nil, err
	}
	var out []candidate
	for _, row := range rows {
		at, ok := c.since(standing[row.RecordID()])
		if !ok {
			continue
		}
		found := candidate{row: row, at: at}
		if c.rule.seeksDuplicates() {
			t := c.twins[row.RecordID()]
			found.of, found.by = t.of, t.field
		}
		out = append(out, found)
	}
	return out, nil
}

// since is when the time of a record came on which the rule decides, or for which it proposes something.
func (c *cycle) since(st lifecycle.Standing) (time.Time, bool) {
	if c.rule.Approval {
		i := slices.IndexFunc(st.Clauses, func(o lifecycle.Clause) bool { return o.Key == c.rule.ID.String() })
		if i < 0 || st.Held || st.Clauses[i].At.After(c.now) {
			return time.Time{}, false
		}
		return st.Clauses[i].At, true
	}
	ruling := st.Rule(c.now)
	if ruling.By != c.rule.ID.String() || ruling.At == nil || ruling.At.After(c.now) {
		return time.Time{}, false
	}
	return *ruling.At, true
}

// standing is what is known of records of one type when it is decided what becomes
// of them: which rules are about them, and what holds keep of them, and what keeps
// what came with them.
func (s *Service) standing(ctx context.Context, q store.Querier, tenant gid.ID, rules []*rule, twins map[gid.ID]twin, rows []ent.Record, keeps map[gid.ID]kept,
	trees map[gid.ID]*along, release time.Duration,
) (map[gid.ID]lifecycle.Standing, error) {
	ids := make([]gid.ID, len(rows))
	for i, row := range rows {
		ids[i] = row.RecordID()
	}
	matching, err := s.ruled(ctx, q, tenant, rules, ids, nil)
	if err != nil {
		return nil, err
	}
	out := make(map[gid.ID]lifecycle.Standing, len(rows))
	for _, row := range rows {
		id := row.RecordID()
		st := lifecycle.Standing{State: row.RecordState(), PurgeAfter: timeOf(row, "purge_after"), Held: keeps[id].held}
		released := keeps[id].released
		if tree := trees[id]; tree != nil {
			st.Held, st.Clauses = st.Held || tree.held, append(st.Clauses, tree.clauses...)
			if tree.released.After(released) {
				released = tree.released
			}
		}
		if !released.IsZero() {
			st.Released = released.Add(release)
		}
		for _, r := range matching[id] {
			at, ok := r.ends(row)
			if _, twin := twins[id]; !ok || r.seeksDuplicates() && !twin {
				continue
			}
			st.Clauses = append(st.Clauses, lifecycle.Clause{Key: r.ID.String(), Action: r.Action, Comparisons: r.Comparisons, At: at, Proposes: r.Approval})
		}
		out[id] = st
	}
	return out, nil
}

// act does what the rule says to what it decides on, to no more than so many
// records; zero is all of them.
func (c *cycle) act(ctx context.Context, most int) (ops []*ent.Operation, changed int, err error) {
	read, err := c.judgedBy(ctx, actor.From(ctx), c.control.Pin)
	if err != nil {
		return nil, 0, err
	}
	var place gid.ID
	var errs []error
	for tried := 0; ; {
		rows, err := c.page(read, &place, false)
		if err != nil {
			return ops, changed, errors.Join(append(errs, err)...)
		}
		found, err := c.decided(ctx, rows)
		if err != nil {
			return ops, changed, errors.Join(append(errs, err)...)
		}
		if found, err = c.exportedOf(read, found); err != nil {
			return ops, changed, errors.Join(append(errs, err)...)
		}
		if most > 0 {
			found = found[:min(len(found), most-tried)]
		}
		tried += len(found)
		for of, ids := range byTwin(found) {
			done, err := c.batch(ctx, ids, of)
			for _, op := range done {
				ops, changed = append(ops, op), changed+op.Changed
			}
			if errors.Is(err, errQuota) || errors.Is(err, errMoved) {
				return ops, changed, errors.Join(append(errs, err)...)
			}
			errs = append(errs, err)
		}
		if place.IsZero() || ctx.Err() != nil || most > 0 && tried >= most {
			return ops, changed, errors.Join(errs...)
		}
	}
}

// byTwin are the ids of candidates by what they repeat, which is zero for all
// where nothing is looked for.
func byTwin(found []candidate) map[gid.ID][]gid.ID {
	out := map[gid.ID][]gid.ID{}
	for _, f := range found {
		out[f.of] = append(out[f.of], f.row.RecordID())
	}
	return out
}

// request is the operation that does what the rule says to some records, if they
// are still what the rule is about when they are locked.
func (c *cycle) request(ids []gid.ID, of gid.ID) (Request, error) {
	payload, err := json.Marshal(map[string]any{"retentionRule": c.rule.ID, "records": ids})
	if err != nil {
		return Request{}, fmt.Errorf("encoding a request: %w", err)
	}
	req := Request{Verb: c.rule.Action.Verb(), Mode: BestEffort, Reason: c.rule.Reason, Payload: payload}
	req.Select.Filter = &Filter{Type: c.rule.typ.Name, Comparisons: 1, Where: func(s *sql.Selector) {
		s.Where(inIDs(s.C("id"), ids))
		c.narrow(s)
	}}
	if !of.IsZero() { // both are as they were when one was found to repeat the other
		req.Select.Filter.Where = func(s *sql.Selector) {
			s.Where(inIDs(s.C("id"), ids))
			c.narrow(s)
			older := sql.Dialect(s.Dialect()).Table(c.rule.typ.Table).As("older")
			s.Where(sql.LTE(s.C("updated_at"), c.now)).Where(sql.Exists(sql.Dialect(s.Dialect()).Select(older.C("id")).From(older).
				Where(sql.And(sql.EQ(older.C("id"), of), sql.IsNull(older.C("retired_at")), sql.LTE(older.C("updated_at"), c.now)))))
		}
	}
	req.States = slices.DeleteFunc(lifecycle.States(), func(state lifecycle.State) bool { return !c.rule.Action.About(state) })
	if !of.IsZero() && req.Verb == lifecycle.Void {
		req.DuplicateOf = &of
	}
	return req, nil
}

// errMoved ends a turn: the rule was changed or removed in the meantime.
var errMoved = errors.New("record: the rule has changed")

// stillSaid holds the rule that asks as it is until the operation is done.
func (r *run) stillSaid(ctx context.Context) error {
	if r.by == nil {
		return nil
	}
	found, err := store.Build(r.tx).Add(`SELECT id FROM retention_rules WHERE id = ? AND version = ? AND removed_at IS NULL`, r.by.ID, r.by.Version).ForShare().
		One(ctx, r.tx, new(gid.ID))
	if err == nil && !found {
		err = errMoved
	}
	return err
}

// batch runs one operation. One that is refused, because more comes along than an
// operation may be about, is tried by halves.
func (c *cycle) batch(ctx context.Context, ids []gid.ID, of gid.ID) ([]*ent.Operation, error) {
	req, err := c.request(ids, of)
	if err != nil {
		return nil, err
	}
	r := &run{req: req, by: c.rule}
	op, err := c.start(ctx, r)
	switch refused, ok := errors.AsType[*Error](err); {
	case err == nil:
		codes := map[gid.ID]lifecycle.Code{}
		for _, it := range r.items {
			if it.outcome == failed && lasting(it.code) {
				codes[it.id] = it.code
			}
		}
		err = c.waitFor(ctx, codes)
		if op == nil {
			return nil, err
		}
		return []*ent.Operation{op}, err
	case !ok || !lasting(refused.Code) || ctx.Err() != nil:
		return nil, err
	case len(ids) == 1 && refused.Extensions["cap"] == purgeDay && (*r.settings.purgeDay == 0 || r.changes() <= *r.settings.purgeDay):
		return nil, errQuota // of which there is room for it another day
	case len(ids) == 1 || refused.Code != lifecycle.Limit:
		codes := map[gid.ID]lifecycle.Code{}
		for _, id := range ids {
			codes[id] = refused.Code
		}
		return nil, c.waitFor(ctx, codes)
	}
	first, err := c.batch(ctx, ids[:len(ids)/2], of)
	if errors.Is(err, errQuota) || errors.Is(err, errMoved) {
		return first, err
	}
	second, otherErr := c.batch(ctx, ids[len(ids)/2:], of)
	return append(first, second...), errors.Join(err, otherErr)
}

// longestWait is for how many times that a rule acts a record is left alone at
// most on which it cannot.
const longestWait = 64

// waitFor leaves records alone that the rule could not act on, until it acts for
// the second time, then for the fourth, and so on up to longestWait.
func (c *cycle) waitFor(ctx context.Context, codes map[gid.ID]lifecycle.Code) error {
	if len(codes) == 0 {
		return nil
	}
	every := time.Duration(c.rule.EveryHours) * time.Hour
	return c.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		ids := make([]gid.ID, 0, len(codes))
		for id := range codes {
			ids = append(ids, id)
		}
		// As who changes the rule does: otherwise they would wait for each other crosswise.
		if _, err := store.Build(tx).Add(`SELECT id FROM retention_rules WHERE id = ?`, c.rule.ID).ForUpdate().Exec(ctx, tx); err != nil {
			return fmt.Errorf("locking a rule: %w", err)
		}
		tries := map[gid.ID]int{}
		err := store.Build(tx).Add(`SELECT record_id, tries FROM retention_waits WHERE rule_id = ? AND `, c.rule.ID).IDs("record_id", ids).Query(ctx, tx, func(row store.Row) error {
			var id gid.ID
			var n int
			err := row.Scan(&id, &n)
			tries[id] = n
			return err
		})
		if err == nil {
			_, err = store.Build(tx).Add(`DELETE FROM retention_waits WHERE rule_id = ? AND `, c.rule.ID).IDs("record_id", ids).Exec(ctx, tx)
		}
		if err == nil {
			err = tx.InsertEach(ctx, "retention_waits", []string{"tenant_id", "rule_id", "record_id", "code", "tries", "until"}, len(ids), func(i int, row []any) error {
				id, code := ids[i], codes[ids[i]]
				if code == lifecycle.Hold { // this is read by some who may not know of holds
					code = lifecycle.Retained
				}
				n := tries[id] + 1
				copy(row, []any{c.tenant, c.rule.ID, id, string(code), n, c.now.Add(every * time.Duration(min(1<<min(n, 10), longestWait)))})
				return nil
			})
		}
		if err == nil {
			err = tx.Flush(ctx)
		}
		if err != nil {
			return fmt.Errorf("leaving records alone: %w", err)
		}
		return nil
	})
}
