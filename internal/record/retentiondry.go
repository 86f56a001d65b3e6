package record

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

const (
	drySamples = 20
	// dryExamined is how many records a dry run looks at one by one; the rest is counted.
	dryExamined = 10_000
	// dryPlanned is for how many it finds out all that would come of it.
	dryPlanned = 2_000
)

// DryRun is what a rule found out that it would do.
type DryRun struct {
	// Matching are the records that it is about and that are old enough; of a rule
	// that keeps, those that it keeps.
	Matching int `json:"matching"`
	// Examined are how many of them it looked at, and Deciding on how many of these
	// it decides: others are held, kept, or another rule's.
	Examined int `json:"examined"`
	Deciding int `json:"deciding"`
	// Planned are for how many of these it found out what would come of it: ByType
	// what would change, with what comes along, and Blocked what could not, and why.
	Planned int         `json:"planned"`
	ByType  []DryCount  `json:"byType,omitempty"`
	Blocked []DryRefuse `json:"blocked,omitempty"`
	Samples []gid.ID    `json:"samples,omitempty"`
	// ActsAt is when it would act by its schedule.
	ActsAt *time.Time `json:"actsAt,omitempty"`
}

// DryCount counts the records of a type that would change.
type DryCount struct {
	Type  ent.RecordKind `json:"type"`
	Count int            `json:"count"`
}

// DryRefuse counts the records that could not, by why.
type DryRefuse struct {
	Code  lifecycle.Code `json:"code"`
	Count int            `json:"count"`
}

// DryRunOf reads the last dry run of a rule; nil where there is none.
func DryRunOf(r *ent.RetentionRule) (*DryRun, error) {
	if r.DryRunAt == nil || len(r.DryRun) == 0 {
		return nil, nil
	}
	var d DryRun
	if err := json.Unmarshal(r.DryRun, &d); err != nil {
		return nil, fmt.Errorf("reading a dry run: %w", err)
	}
	return &d, nil
}

// dryRun finds out what the rule would do now, and writes that down. If it is to
// act it does so at next.
func (c *cycle) dryRun(ctx context.Context, next time.Time) error {
	read, err := c.judgedBy(ctx, actor.From(ctx), c.control.Pin)
	if err != nil {
		return err
	}
	d := &DryRun{}
	if c.rule.Action == lifecycle.KeepAction {
		err = c.countKept(read, d)
	} else {
		err = c.tryOut(read, d)
	}
	if err != nil {
		return err
	}
	acts := c.rule.Enabled && c.rule.Action != lifecycle.KeepAction
	if acts {
		d.ActsAt = &next
	}
	encoded, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encoding a dry run: %w", err)
	}
	stmt := store.Build(c.querier(ctx)).Add(`UPDATE retention_rules SET dry_run = ?, dry_run_at = ?, next_run_at = ? WHERE id = ? AND version = ?`,
		encoded, c.now, nullTime(d.ActsAt), c.rule.ID, c.rule.Version)
	if _, err := stmt.Exec(ctx, c.querier(ctx)); err != nil {
		return fmt.Errorf("writing a dry run: %w", err)
	}
	return nil
}

// count counts what a predicate lets through.
func (c *cycle) count(ctx context.Context, where func(*sql.Selector)) (n int, err error) {
	q := c.querier(ctx)
	t := sql.Dialect(q.Dialect()).Table(c.rule.typ.Table)
	sel := sql.Dialect(q.Dialect()).Select(sql.Count("*")).From(t).WithContext(ctx)
	visible.Where(sel, c.rule.typ.Name)
	where(sel)
	if err := store.Select(ctx, q, sel, func(row store.Row) error { return row.Scan(&n) }); err != nil {
		return 0, fmt.Errorf("counting %s: %w", c.rule.typ.Table, err)
	}
	return n, nil
}

// countKept counts what the rule keeps.
func (c *cycle) countKept(ctx context.Context, d *DryRun) (err error) {
	where := func(s *sql.Selector) {
		c.rule.narrow(s)
		c.rule.young(s, c.now)
	}
	if d.Matching, err = c.count(ctx, where); err != nil {
		return err
	}
	rows, err := c.Client(ctx).CollectRecords(ctx, c.rule.typ.Name, nil, []string{"id"}, where, func(s *sql.Selector) { s.OrderBy(s.C("id")).Limit(drySamples) })
	if err != nil {
		return fmt.Errorf("looking for %s: %w", c.rule.typ.Table, err)
	}
	for _, row := range rows {
		d.Samples = append(d.Samples, row.RecordID())
	}
	return nil
}

// countOld counts what the rule is about and is old enough.
func (c *cycle) countOld(ctx context.Context, d *DryRun) error {
	chunks := [][]gid.ID{nil}
	if c.rule.seeksDuplicates() {
		chunks = slices.Collect(slices.Chunk(c.repeats, dryExamined))
	}
	for _, ids := range chunks {
		n, err := c.count(ctx, func(s *sql.Selector) {
			c.narrow(s)
			if ids != nil {
				s.Where(inIDs(s.C("id"), ids))
			}
		})
		if err != nil {
			return err
		}
		d.Matching += n
	}
	return nil
}

// tryOut plans the operations that the rule would ask for.
func (c *cycle) tryOut(ctx context.Context, d *DryRun) error {
	if err := c.countOld(ctx, d); err != nil {
		return err
	}
	types, refused := map[*ent.RecordType]int{}, map[lifecycle.Code]int{}
	var place gid.ID
	for d.Examined < dryExamined {
		rows, err := c.page(ctx, &place, true)
		if err != nil {
			return err
		}
		d.Examined += len(rows)
		found, err := c.decided(ctx, rows)
		if err != nil {
			return err
		}
		d.Deciding += len(found)
		for _, f := range found[:min(len(found), drySamples-len(d.Samples))] {
			d.Samples = append(d.Samples, f.row.RecordID())
		}
		found = found[:min(len(found), dryPlanned-d.Planned)]
		d.Planned += len(found)
		for of, ids := range byTwin(found) {
			if err := c.plan(ctx, ids, of, types, refused); err != nil {
				return err
			}
		}
		if place.IsZero() {
			break
		}
	}
	for _, t := range typeOrder {
		if n := types[t]; n > 0 {
			d.ByType = append(d.ByType, DryCount{t.Kind(), n})
		}
	}
	for code, n := range refused {
		d.Blocked = append(d.Blocked, DryRefuse{code, n})
	}
	slices.SortFunc(d.Blocked, func(a, b DryRefuse) int { return bytes.Compare([]byte(a.Code), []byte(b.Code)) })
	return nil
}

// plan adds up what would become of some records.
func (c *cycle) plan(ctx context.Context, ids []gid.ID, of gid.ID, types map[*ent.RecordType]int, refusals map[lifecycle.Code]int) error {
	req, err := c.request(ids, of)
	if err != nil {
		return err
	}
	r := &run{Service: c.Service, q: c.querier(ctx), a: actor.From(ctx), req: req, by: c.rule}
	if err = r.check(); err == nil {
		err = r.prepare(ctx)
	}
	if errors.Is(err, errLarge) {
		err = r.tooMany()
	}
	refused, ok := errors.AsType[*Error](err)
	switch {
	case ok && refused.Code == lifecycle.Limit && len(ids) > 1:
		return errors.Join(c.plan(ctx, ids[:len(ids)/2], of, types, refusals), c.plan(ctx, ids[len(ids)/2:], of, types, refusals))
	case ok && lasting(refused.Code):
		refusals[refused.Code] += len(ids)
		return nil
	case err != nil:
		return err
	}
	for _, it := range r.all() {
		switch it.outcome {
		case changed:
			types[it.typ]++
		case failed:
			if it.code == lifecycle.Hold { // this is read by some who may not know of holds
				it.code = lifecycle.Retained
			}
			refusals[it.code]++
		}
	}
	return nil
}

// byHand is the cycle of a rule that somebody asks for by hand: its rules are those
// in force, and itself.
func (s *Service) byHand(ctx context.Context, a *actor.Actor, row *ent.RetentionRule) (*cycle, error) {
	rules, err := s.retentionRulesOf(ctx, a.Tenant)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(rules, func(r *rule) bool { return r.ID == row.ID })
	if i < 0 {
		own, err := compile(row)
		if err != nil {
			return nil, err
		}
		i, rules = len(rules), append(rules, own)
	}
	return s.newCycle(ctx, a.Tenant, rules[i], rules, s.querier(ctx).Now())
}

// DryRunRule finds out now what a rule would do.
func (s *Service) DryRunRule(ctx context.Context, id gid.ID) error {
	return s.attempt(ctx, "RULE_DRY_RUN", []gid.ID{id}, s.control.Pin, func(ctx context.Context, tx *store.Tx, a *actor.Actor) error {
		row, err := s.lockRule(ctx, tx, a, id)
		if err != nil {
			return err
		}
		c, err := s.byHand(ctx, a, row)
		if err != nil {
			return err
		}
		next := c.now.Add(time.Duration(row.EveryHours) * time.Hour)
		if row.DryRunAt != nil && row.NextRunAt != nil { // it acts when it would have anyway
			next = *row.NextRunAt
		}
		err = c.dryRun(actor.With(ctx, actor.ForSystem(a.Tenant)), next)
		return err
	})
}

// RunRule lets a rule act now, on 1,000 records at most, and answers the operations
// that changed something. It does what it found out before that it would do.
func (s *Service) RunRule(ctx context.Context, id gid.ID) (ops []*ent.Operation, err error) {
	err = s.attempt(ctx, "RULE_RUN", []gid.ID{id}, s.control.Repin, func(ctx context.Context, tx *store.Tx, a *actor.Actor) error {
		row, err := s.lockRule(ctx, tx, a, id)
		if err != nil {
			return err
		}
		switch {
		case row.Action == lifecycle.KeepAction:
			return Refuse(lifecycle.BadUserInput, "a rule that keeps does nothing", "id")
		case !row.Enabled:
			return Refuse(lifecycle.BadUserInput, "the rule is not in force", "id")
		case row.Approval:
			return Refuse(lifecycle.BadUserInput, "the rule is applied by somebody: applyRule", "id")
		case row.DryRunAt == nil:
			return Refuse(lifecycle.BadUserInput, "the rule has not found out yet what it would do: dryRunRule", "id")
		}
		c, err := s.byHand(ctx, a, row)
		if err != nil {
			return err
		}
		ops, _, err = c.act(actor.With(ctx, actor.ForSystem(a.Tenant)), MaxRows)
		switch {
		case errors.Is(err, errQuota) && len(ops) == 0:
			return &Error{Code: lifecycle.Limit, Message: brakes[purgeDay], Extensions: map[string]any{"cap": purgeDay}}
		case err != nil && !errors.Is(err, errQuota):
			return err
		}
		if _, err := store.Build(tx).Add(`UPDATE retention_rules SET last_run_at = ? WHERE id = ?`, tx.Now(), id).Exec(ctx, tx); err != nil {
			return fmt.Errorf("writing when a rule acted: %w", err)
		}
		return s.auditRun(ctx, tx, a, "RULE_RUN", id, ops)
	})
	return ops, err
}
