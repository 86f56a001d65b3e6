package graph

import (
	"bytes"
	"context"
	"reflect"
	"slices"

	"github.com/99designs/gqlgen/graphql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/approval"
	"github.com/lethe-crm/lethe/ent/retentionrule"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// orNil is a value, or nil where it is zero.
func orNil[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func (r *Resolver) retentionRule(ctx context.Context, id gid.ID) (*ent.RetentionRule, error) {
	if err := checkID(id, "id", gid.RetentionRule); err != nil {
		return nil, err
	}
	field := graphql.GetFieldContext(ctx).Field
	found, err := r.client(ctx).NodesByID(ctx, []gid.ID{id}, &field)
	if err != nil {
		return nil, err
	}
	rule, _ := found[id].(*ent.RetentionRule)
	return rule, nil
}

func (r *Resolver) retentionRules(ctx context.Context, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*ent.RetentionRuleConnection, error) {
	return r.client(ctx).RetentionRule.Query().Where(retentionrule.RemovedAtIsNil()).Paginate(ctx, after, first, before, last)
}

// rulePayload reads a rule as it is now, with the request that its change waits for.
func (r *Resolver) rulePayload(ctx context.Context, id, request gid.ID) (*model.RetentionRulePayload, error) {
	rule, err := selected[*ent.RetentionRule](ctx, r, id, "rule")
	if err != nil {
		return nil, err
	}
	ap, err := r.requested(ctx, request)
	return &model.RetentionRulePayload{Rule: rule, Approval: ap}, err
}

// ruleFilter is the filter of a rule, of which exactly one is given, and the type it is for.
func ruleFilter(selector *model.RetentionFilter) (*record.Filter, error) {
	if selector == nil {
		return nil, badInput("must not be null", "filter")
	}
	for _, where := range setOf(selector) {
		return record.KeptFilter(where)
	}
	return nil, badInput("must not be empty", "filter")
}

func typeOfKind(kind ent.RecordKind) string {
	for _, t := range ent.RecordTypes {
		if t.Kind() == kind {
			return t.Name
		}
	}
	return ""
}

func (r *Resolver) createRetentionRule(ctx context.Context, in *model.CreateRetentionRuleInput) (*model.RetentionRulePayload, error) {
	rule := record.RetentionRule{
		Name: in.Name, Reason: in.Reason, Type: typeOfKind(in.Type), All: in.All, Candidates: deref(in.Candidates.Value()), Basis: deref(in.Basis.Value()),
		Term: lifecycle.Term{Length: int(in.Length), Unit: in.Unit}, Action: in.Action, EveryHours: int(in.EveryHours), Approval: in.Approval, Enabled: in.Enabled,
		LockedUntil: in.LockedUntil.Value(),
	}
	if selector := in.Filter.Value(); selector != nil {
		f, err := ruleFilter(selector)
		if err != nil {
			return nil, err
		}
		if f.Type != rule.Type {
			return nil, badInput("selects records of another type", "filter", "type")
		}
		rule.Filter, rule.Comparisons = string(f.Text), f.Comparisons
	}
	id, request, err := r.Records.CreateRetentionRule(ctx, rule)
	if err != nil {
		return nil, err
	}
	return r.rulePayload(ctx, id, request)
}

func (r *Resolver) updateRetentionRule(ctx context.Context, in *model.UpdateRetentionRuleInput) (*model.RetentionRulePayload, error) {
	if err := checkID(in.ID, "id", gid.RetentionRule); err != nil {
		return nil, err
	}
	values := given(reflect.ValueOf(*in))
	for name, v := range values {
		if v == nil && name != "lockedUntil" {
			return nil, badInput("must not be null", name)
		}
	}
	var filter *record.Filter
	if in.Filter.IsSet() {
		var err error
		if filter, err = ruleFilter(in.Filter.Value()); err != nil {
			return nil, err
		}
	}
	request, err := r.Records.UpdateRetentionRule(ctx, in.ID, int(in.Version), func(rule *record.RetentionRule) error {
		set(&rule.Name, in.Name.Value())
		set(&rule.Reason, in.Reason.Value())
		set(&rule.Basis, in.Basis.Value())
		set(&rule.Term.Unit, in.Unit.Value())
		set(&rule.Action, in.Action.Value())
		set(&rule.Approval, in.Approval.Value())
		set(&rule.Enabled, in.Enabled.Value())
		if n := in.Length.Value(); n != nil {
			rule.Term.Length = int(*n)
		}
		if n := in.EveryHours.Value(); n != nil {
			rule.EveryHours = int(*n)
		}
		if in.LockedUntil.IsSet() {
			rule.LockedUntil = in.LockedUntil.Value()
		}
		if all := in.All.Value(); all != nil {
			if rule.All = *all; *all {
				rule.Filter, rule.Comparisons = "", 0
			}
		}
		if filter != nil {
			if filter.Type != rule.Type {
				return badInput("selects records of another type", "filter")
			}
			rule.Filter, rule.Comparisons = string(filter.Text), filter.Comparisons
			if !in.All.IsSet() {
				rule.All = false
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r.rulePayload(ctx, in.ID, request)
}

// set sets what is given.
func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func (r *Resolver) removeRetentionRule(ctx context.Context, in *model.RemoveRetentionRuleInput) (*model.RetentionRulePayload, error) {
	if err := checkID(in.ID, "id", gid.RetentionRule); err != nil {
		return nil, err
	}
	request, err := r.Records.RemoveRetentionRule(ctx, in.ID, int(in.Version))
	if err != nil {
		return nil, err
	}
	return r.rulePayload(ctx, in.ID, request)
}

func (r *Resolver) dryRunRule(ctx context.Context, id gid.ID) (*model.RetentionRulePayload, error) {
	if err := checkID(id, "id", gid.RetentionRule); err != nil {
		return nil, err
	}
	if err := r.Records.DryRunRule(ctx, id); err != nil {
		return nil, err
	}
	return r.rulePayload(ctx, id, gid.Nil)
}

func (r *Resolver) runRule(ctx context.Context, id gid.ID) (*model.RunRulePayload, error) {
	if err := checkID(id, "id", gid.RetentionRule); err != nil {
		return nil, err
	}
	ops, err := r.Records.RunRule(ctx, id)
	if err != nil {
		return nil, err
	}
	rule, err := selected[*ent.RetentionRule](ctx, r, id, "rule")
	return &model.RunRulePayload{Rule: rule, Operations: ops}, err
}

func (r *Resolver) applyRule(ctx context.Context, in *model.ApplyRuleInput) (*model.ApplyRulePayload, error) {
	if err := checkID(in.ID, "id", gid.RetentionRule); err != nil {
		return nil, err
	}
	apply := record.Apply{RetentionRule: in.ID, Records: in.Records.Value(), Cascade: in.Cascade}
	if n := in.ExpectedCount.Value(); n != nil {
		expected := int(*n)
		apply.Expected = &expected
	}
	ops, err := r.Records.ApplyRule(ctx, apply)
	if err != nil {
		return nil, err
	}
	return &model.ApplyRulePayload{Operations: ops}, nil
}

// drySamples are the samples of a dry run, as far as the caller may read them.
func (r *Resolver) drySamples(ctx context.Context, d *record.DryRun) ([]ent.Record, error) {
	records := []ent.Record{}
	if len(d.Samples) == 0 {
		return records, nil
	}
	field := graphql.GetFieldContext(ctx).Field
	found, err := r.client(ctx).NodesByID(ctx, d.Samples, &field)
	for _, id := range d.Samples {
		if rec, ok := found[id].(ent.Record); ok {
			records = append(records, rec)
		}
	}
	return records, err
}

func (r *Resolver) explain(ctx context.Context, id gid.ID) (*model.RetentionExplanation, error) {
	if ent.RecordTypeOf(id) == nil {
		return nil, badInput("is not the id of a record", "record")
	}
	e, err := r.Records.Explain(ctx, id)
	if err != nil {
		return nil, err
	}
	out := &model.RetentionExplanation{
		Action: orNil(e.Action), At: e.At, By: e.By, Stays: orNil(e.Stays), Until: e.Until, PurgeAfter: e.PurgeAfter, SuspendedUntil: e.SuspendedUntil,
		Rules: []*model.RetentionRuleDate{},
	}
	if e.SuspendedThen != "" {
		then := model.SuspensionEnd(e.SuspendedThen)
		out.SuspendedThen = &then
	}
	for _, rule := range e.Rules {
		out.Rules = append(out.Rules, &model.RetentionRuleDate{Rule: rule.RetentionRule, At: rule.At, Decides: rule.Decides})
	}
	return out, nil
}

// voidCandidates is a page of candidates, which are stored nowhere.
func (r *Resolver) voidCandidates(ctx context.Context, rule gid.ID, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*model.VoidCandidateConnection, error) {
	if err := checkID(rule, "rule", gid.RetentionRule); err != nil {
		return nil, err
	}
	_, rows, _, err := ent.PageOf(ctx, first, last)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct {
		argument string
		cursor   *ent.Cursor
	}{{"after", after}, {"before", before}} {
		if c.cursor != nil && (c.cursor.Value != nil || ent.RecordTypeOf(c.cursor.ID) == nil) {
			return nil, badInput("is a cursor of another list", c.argument)
		}
	}
	all, err := r.Records.VoidCandidates(ctx, rule)
	if err != nil {
		return nil, err
	}
	conn := &model.VoidCandidateConnection{
		Edges: []*model.VoidCandidateEdge{}, Nodes: []*record.Candidate{}, PageInfo: &ent.PageInfo{}, TotalCount: int32(len(all)), //nolint:gosec // bounded
	}
	if !rows {
		return conn, nil
	}
	w, left := windowOf(after, first, before, last), make([]*record.Candidate, 0, len(all))
	for i := range all {
		id := all[i].Record
		if (after == nil || bytes.Compare(id[:], after.ID[:]) > 0) && (before == nil || bytes.Compare(id[:], before.ID[:]) < 0) {
			left = append(left, &all[i])
		}
	}
	if w.backward {
		slices.Reverse(left)
	}
	nodes, cursors, info := page(w, left, func(c *record.Candidate) ent.Cursor { return ent.Cursor{ID: c.Record} })
	conn.Nodes, conn.PageInfo = nodes, &info
	for i, node := range nodes {
		conn.Edges = append(conn.Edges, &model.VoidCandidateEdge{Node: node, Cursor: cursors[i]})
	}
	return conn, nil
}

// candidateRecord is the record of a candidate: with one statement for all that are shown together.
func (r *Resolver) candidateRecord(ctx context.Context, c *record.Candidate) (ent.Record, error) {
	return r.besideCandidates(ctx, c, func(c *record.Candidate) *gid.ID { return &c.Record })
}

// duplicateOf is the record that a candidate repeats.
func (r *Resolver) duplicateOf(ctx context.Context, c *record.Candidate) (ent.Record, error) {
	if c.DuplicateOf == nil {
		return nil, nil
	}
	return r.besideCandidates(ctx, c, func(c *record.Candidate) *gid.ID { return c.DuplicateOf })
}

func (r *Resolver) besideCandidates(ctx context.Context, c *record.Candidate, which func(*record.Candidate) *gid.ID) (ent.Record, error) {
	rows, list, err := listOf(ctx, c)
	if err != nil {
		return nil, err
	}
	field := graphql.GetFieldContext(ctx).Field
	found, err := once(ctx, listKey{list, alias(ctx)}, func() (map[gid.ID]ent.Noder, error) {
		return r.client(ctx).NodesByID(ctx, collect(rows, which), &field)
	})
	rec, _ := found[*which(c)].(ent.Record)
	return rec, err
}

// retentionChange is the change that a request is about, with the rule as far as the caller may read it.
func (r *Resolver) retentionChange(ctx context.Context, ap *ent.Approval) (*model.RetentionChangeRequest, error) {
	if ap.Subject != approval.SubjectSHORTEN_RETENTION {
		return nil, nil
	}
	asked, err := record.ShorteningOf(ap)
	if err != nil {
		return nil, err
	}
	out := &model.RetentionChangeRequest{Remove: !asked.Rule.IsZero() && asked.To == nil, Changed: asked.Changed, Settings: []*model.SettingChange{}}
	if out.Changed == nil {
		out.Changed = []string{}
	}
	for _, setting := range record.TenantSettings {
		if v, ok := asked.Settings[setting.Name]; ok {
			out.Settings = append(out.Settings, &model.SettingChange{Name: setting.Name, Old: count(asked.Was[setting.Name]), New: count(v)})
		}
	}
	if to := asked.To; to != nil {
		out.To = &model.RetentionRuleTerms{
			Name: to.Name, Type: ent.RecordTypeNamed(to.Type).Kind(), All: to.All, Filter: orNil(to.Filter), Basis: to.Basis, Length: int32(to.Term.Length), //nolint:gosec // bounded
			Unit: to.Term.Unit, Action: to.Action, Enabled: to.Enabled, LockedUntil: to.LockedUntil,
		}
	}
	if field := below(ctx, graphql.GetFieldContext(ctx).Field, "rule"); field != nil && !asked.Rule.IsZero() {
		out.Rule, err = r.ruleOfRequest(ctx, ap, asked.Rule, field)
	}
	return out, err
}

// ruleOfRequest is the rule that a request is about: with one statement for all requests that are shown together.
func (r *Resolver) ruleOfRequest(ctx context.Context, ap *ent.Approval, id gid.ID, field *graphql.CollectedField) (*ent.RetentionRule, error) {
	rows, list, err := listOf(ctx, ap)
	if err != nil {
		return nil, err
	}
	found, err := once(ctx, listKey{list, "rule " + alias(ctx)}, func() (map[gid.ID]ent.Noder, error) {
		var ids []gid.ID
		for _, row := range rows {
			if row.Subject != approval.SubjectSHORTEN_RETENTION {
				continue
			}
			asked, err := record.ShorteningOf(row)
			if err != nil {
				return nil, err
			}
			if !asked.Rule.IsZero() && !slices.Contains(ids, asked.Rule) {
				ids = append(ids, asked.Rule)
			}
		}
		return r.client(ctx).NodesByID(ctx, ids, field)
	})
	rule, _ := found[id].(*ent.RetentionRule)
	return rule, err
}
