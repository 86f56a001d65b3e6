package record

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// Candidate is a record that a rule would void, and why.
type Candidate struct {
	Record gid.ID
	// Kind is what it was found as; empty for a filter and age.
	Kind lifecycle.Candidates
	// DuplicateOf is the older record that it repeats, and Field the field they share.
	DuplicateOf *gid.ID
	Field       string
	// Since is when its time came.
	Since time.Time
}

// maxCandidates is how many candidates are listed at most.
const maxCandidates = 10_000

// auditRun writes down that somebody let a rule act.
func (s *Service) auditRun(ctx context.Context, tx *store.Tx, a *actor.Actor, action string, id gid.ID, ops []*ent.Operation) error {
	names := make([]string, len(ops))
	for i, op := range ops {
		names[i] = op.ID.String()
	}
	return s.audit.Append(ctx, tx, audit.Event{Action: action, PolicyVersion: s.control.Version(ctx, a.Tenant), Detail: map[string]any{"rule": id.String(), "operations": names}})
}

// voiding is the cycle of a rule that voids, for who may void such records.
func (s *Service) voiding(ctx context.Context, id gid.ID) (*cycle, error) {
	a := actor.From(ctx)
	rules, err := s.retentionRulesOf(ctx, a.Tenant)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(rules, func(r *rule) bool { return r.ID == id })
	if i < 0 {
		return nil, Refuse(lifecycle.NotFound, "there is no such rule in force", "rule")
	}
	r := rules[i]
	could, err := s.control.CouldEver(ctx, a, authz.Void, r.typ.Name)
	if err != nil {
		return nil, Refuse(lifecycle.AuthzUnavailable, "access could not be decided; try again")
	}
	switch {
	case !could: // nor may he know of the rule
		return nil, Refuse(lifecycle.NotFound, "there is no such rule in force", "rule")
	case r.Action != lifecycle.VoidAction:
		return nil, Refuse(lifecycle.BadUserInput, "the rule voids nothing", "rule")
	}
	c, err := s.newCycle(ctx, a.Tenant, r, rules, s.querier(ctx).Now())
	if err == nil {
		c.person = true
	}
	return c, err
}

// VoidCandidates lists what a rule would void of the records that the caller may
// read, by id: 10,000 of them at most.
func (s *Service) VoidCandidates(ctx context.Context, id gid.ID) ([]Candidate, error) {
	ctx, err := s.judgedBy(ctx, actor.From(ctx), s.control.Pin)
	if err != nil {
		return nil, err
	}
	c, err := s.voiding(ctx, id)
	if err != nil {
		return nil, err
	}
	return c.candidates(ctx, maxCandidates)
}

func (c *cycle) candidates(ctx context.Context, most int) ([]Candidate, error) {
	var out []Candidate
	var place gid.ID
	for {
		rows, err := c.page(ctx, &place, true)
		if err != nil {
			return out, err
		}
		found, err := c.decided(ctx, rows)
		if err != nil {
			return nil, err
		}
		older, err := c.readableTwins(ctx, found)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			one := Candidate{Record: f.row.RecordID(), Since: f.at.UTC()}
			if c.rule.Candidates != nil {
				one.Kind = *c.rule.Candidates
			}
			if !f.of.IsZero() {
				if !older[f.of] {
					continue // what he cannot compare he cannot judge
				}
				one.DuplicateOf, one.Field = &f.of, f.by
			}
			if out = append(out, one); len(out) == most {
				return out, nil
			}
		}
		if place.IsZero() {
			return out, nil
		}
	}
}

// readableTwins says which of the records that candidates repeat the reader may read.
func (c *cycle) readableTwins(ctx context.Context, found []candidate) (map[gid.ID]bool, error) {
	var ids []gid.ID
	for _, f := range found {
		if !f.of.IsZero() {
			ids = append(ids, f.of)
		}
	}
	rows, err := c.load(ctx, c.rule.typ, ids, none)
	out := map[gid.ID]bool{}
	for _, row := range rows {
		out[row.RecordID()] = true
	}
	return out, err
}

// Apply says which candidates of a rule to void.
type Apply struct {
	RetentionRule gid.ID
	// Records are those chosen among the candidates; nil is all of them, of which
	// there must be Expected then.
	Records  []gid.ID
	Expected *int
	Cascade  bool
}

// ApplyRule voids candidates of a rule in the name of the caller: an ordinary
// operation, or one for each record that others repeat.
func (s *Service) ApplyRule(ctx context.Context, in Apply) (ops []*ent.Operation, err error) {
	if err := fewEnough(in.Records, "records"); err != nil {
		return nil, err
	}
	err = s.attempt(ctx, "RULE_APPLY", append([]gid.ID{in.RetentionRule}, in.Records...), s.control.Pin, func(ctx context.Context, tx *store.Tx, a *actor.Actor) error {
		ops = nil
		c, err := s.voiding(ctx, in.RetentionRule)
		if err != nil {
			return err
		}
		all, err := c.candidates(ctx, maxCandidates)
		if err != nil {
			return err
		}
		chosen, err := in.choose(all)
		if err != nil {
			return err
		}
		groups, order := map[gid.ID][]gid.ID{}, []gid.ID{}
		for _, f := range chosen {
			of := gid.Nil
			if f.DuplicateOf != nil {
				of = *f.DuplicateOf
			}
			if groups[of] == nil {
				order = append(order, of)
			}
			groups[of] = append(groups[of], f.Record)
		}
		for _, of := range order {
			req, err := c.request(groups[of], of)
			if err != nil {
				return err
			}
			n := len(groups[of])
			req.ExpectedCount, req.Cascade = &n, in.Cascade
			op, err := s.Run(ctx, req)
			if err != nil {
				return err
			}
			ops = append(ops, op)
		}
		return s.auditRun(ctx, tx, a, "RULE_APPLY", in.RetentionRule, ops)
	})
	return ops, err
}

// choose are the candidates that are to be voided.
func (in Apply) choose(all []Candidate) ([]Candidate, error) {
	if in.Records == nil {
		switch {
		case in.Expected == nil:
			return nil, Refuse(lifecycle.BadUserInput, "is required where no records are named", "expectedCount")
		case *in.Expected != len(all):
			return nil, &Error{
				Code: lifecycle.Conflict, Message: "there are not as many candidates as expected", Fields: []string{"expectedCount"},
				Extensions: map[string]any{"expected": *in.Expected, "actual": len(all)},
			}
		}
	} else {
		named := distinctIDs(in.Records)
		chosen := slices.DeleteFunc(slices.Clone(all), func(c Candidate) bool { return !named[c.Record] })
		if len(chosen) < len(named) {
			return nil, Refuse(lifecycle.BadUserInput, "not all of them are candidates of the rule", "records")
		}
		all = chosen
	}
	if len(all) > MaxRows {
		return nil, Refuse(lifecycle.Limit, fmt.Sprintf("more than %d records at once", MaxRows), "records")
	}
	return all, nil
}

func distinctIDs(ids []gid.ID) map[gid.ID]bool {
	out := map[gid.ID]bool{}
	for _, id := range ids {
		out[id] = true
	}
	return out
}

// Explanation says what becomes of a record by itself, as far as the caller may
// know.
type Explanation struct {
	lifecycle.Ruling
	// By is the rule that decides; Rules are all that are about the record.
	By    *ent.RetentionRule
	Rules []RuleAt
	// PurgeAfter is the clock of the bin, SuspendedUntil that of a suspension.
	PurgeAfter, SuspendedUntil *time.Time
	SuspendedThen              string
}

// RuleAt is a rule that is about a record, and when it ends to keep it, or acts.
type RuleAt struct {
	RetentionRule *ent.RetentionRule
	At            *time.Time // nil where the age of the record has not begun
	Decides       bool
}

// Explain says which rule decides what becomes of a record, and when. Rules are
// told who may change them, holds who may know of them on the record; to others
// both are RETAINED, and no time is told that would depend on them.
func (s *Service) Explain(ctx context.Context, id gid.ID) (*Explanation, error) {
	a, q := actor.From(ctx), s.querier(ctx)
	t := ent.RecordTypeOf(id)
	if t == nil {
		return nil, Refuse(lifecycle.NotFound, "there is no such record", "record")
	}
	ctx, err := s.judgedBy(ctx, a, s.control.Pin)
	if err != nil {
		return nil, err
	}
	rows, err := s.load(ctx, t, []gid.ID{id}, none)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		gone, err := s.purged(ctx, q, a, []gid.ID{id})
		switch {
		case err != nil:
			return nil, err
		case gone[id]:
			return nil, Refuse(lifecycle.Gone, "the record was purged", "record")
		}
		return nil, Refuse(lifecycle.NotFound, "there is no such record", "record")
	}
	row := rows[0]
	rules, err := s.retentionRulesOf(ctx, a.Tenant)
	if err != nil {
		return nil, err
	}
	holds, err := s.holdRules(ctx, a.Tenant)
	if err != nil {
		return nil, err
	}
	var twins map[gid.ID]twin
	if slices.ContainsFunc(rules, func(r *rule) bool { return r.typ == t && r.seeksDuplicates() }) {
		if twins, err = s.twins(ctx, q, a.Tenant, t); err != nil {
			return nil, err
		}
	}
	now := q.Now()
	keeps, _, err := s.keptAmong(ctx, q, a.Tenant, []gid.ID{id}, now.Add(-holds.release))
	if err != nil {
		return nil, err
	}
	trees, err := s.keptAlong(ctx, q, a.Tenant, rules, rows, holds.release, now)
	if err != nil {
		return nil, err
	}
	standing, err := s.standing(ctx, q, a.Tenant, rules, twins, rows, keeps, trees, holds.release)
	if err != nil {
		return nil, err
	}
	st := standing[id]
	out := &Explanation{Ruling: st.Rule(now), PurgeAfter: st.PurgeAfter}
	if st.State == lifecycle.Suspended {
		out.SuspendedUntil = timeOf(row, "suspended_until")
		out.SuspendedThen = ThenRestore
		if then := row.Column("suspended_then"); then != nil {
			out.SuspendedThen = fmt.Sprint(then)
		}
	}
	if out.Stays != "" && !s.mayKnowWhy(ctx, a, row, trees[id]) {
		out.Stays, out.Until, out.At, out.Ruling.By = lifecycle.Retained, nil, nil, ""
	}
	if s.mayRule(ctx, a) == nil {
		out.tellRules(st, rules)
	}
	return out, nil
}

// mayKnowWhy reports whether the actor may know of holds on a record, and on what is
// kept of what came with it.
func (s *Service) mayKnowWhy(ctx context.Context, a *actor.Actor, row ent.Record, tree *along) bool {
	questions := []access.Question{access.Of(authz.HoldRead, row)}
	if tree != nil {
		for _, below := range tree.rows {
			questions = append(questions, access.Of(authz.HoldRead, below))
		}
	}
	return !slices.ContainsFunc(s.control.Decide(ctx, a, questions), func(d access.Decision) bool { return !d.Permit })
}

// tellRules tells the rules about the record, and those that keep it for what came
// with it: each once, with the last time.
func (e *Explanation) tellRules(st lifecycle.Standing, rules []*rule) {
	slices.SortStableFunc(st.Clauses, func(a, b lifecycle.Clause) int { return a.At.Compare(b.At) })
	for _, c := range st.Clauses {
		i := slices.IndexFunc(rules, func(r *rule) bool { return r.ID.String() == c.Key })
		decides := c.Key == e.Ruling.By
		if decides {
			e.By = rules[i].RetentionRule
		}
		told := RuleAt{RetentionRule: rules[i].RetentionRule, Decides: decides}
		e.Rules = slices.DeleteFunc(e.Rules, func(r RuleAt) bool { return r.RetentionRule == told.RetentionRule })
		if c.At.Before(lifecycle.Never) {
			at := c.At.UTC()
			told.At = &at
		}
		e.Rules = append(e.Rules, told)
	}
}
