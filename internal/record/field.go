package record

import (
	"context"
	"maps"
	"slices"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// given are the fields, by their names in the API, that a draft sets.
func (d *draft) given(t *ent.RecordType) map[string]bool {
	out := map[string]bool{}
	for _, f := range t.Fields {
		if _, ok := d.values[f.Name]; ok {
			out[f.GraphQL] = true
		}
	}
	for _, p := range t.Parts {
		if _, ok := d.parts[p.Name]; ok {
			out[p.GraphQL] = true
		}
	}
	return out
}

// mayCreateFields refuses the drafts that give a value to a field which the policy does not let the actor write.
func (s *Service) mayCreateFields(ctx context.Context, a *actor.Actor, t *ent.RecordType, drafts []*draft) {
	named := s.control.Fields(ctx, a, t.Name)
	if len(named) == 0 {
		return
	}
	var questions []access.Question
	var of []*draft
	for _, d := range drafts {
		if d.err != nil {
			continue
		}
		given := d.given(t)
		for _, name := range named {
			if given[name] {
				questions = append(questions, access.Question{Action: authz.Create, Type: t.Name, Field: name, Props: d.props})
				of = append(of, d)
			}
		}
	}
	for i, answer := range s.control.Decide(ctx, a, questions) {
		if of[i].err == nil {
			of[i].err = fieldRefusal(answer, questions[i].Field)
		}
	}
}

// mayUpdateFields refuses to change a field that the policy does not let the actor write, in the record as it was or as
// it would be. A field that is hidden from him he does not change either: a form that sends back what it was shown
// would clear it.
func (s *Service) mayUpdateFields(ctx context.Context, a *actor.Actor, t *ent.RecordType, before, after access.Question, r ent.Record, d *draft) *Error {
	named := s.control.Fields(ctx, a, t.Name)
	if len(named) == 0 {
		return nil
	}
	var hidden map[string]bool
	if m := s.control.Rows(ctx, a).Mask(t.Name); m != nil {
		hidden = m.Hidden(r.Column)
	}
	given := d.given(t)
	var questions []access.Question
	for _, name := range named {
		if !given[name] {
			continue
		}
		if hidden[name] {
			return Refuse(lifecycle.FieldForbidden, "the field is hidden from you", name)
		}
		before.Field, after.Field = name, name
		questions = append(questions, before, after)
	}
	for i, answer := range s.control.Decide(ctx, a, questions) {
		if refused := fieldRefusal(answer, questions[i].Field); refused != nil {
			return refused
		}
	}
	return nil
}

// mayMendFields refuses overrides of fields that the policy does not let the actor restore.
func (r *run) mayMendFields(ctx context.Context) error {
	for id, values := range r.req.Overrides {
		n := r.nodes[id]
		if n == nil || n.row == nil {
			continue
		}
		t := n.row.RecordType()
		named := r.control.Fields(ctx, r.a, t.Name)
		var hidden map[string]bool
		if m := r.control.Rows(ctx, r.a).Mask(t.Name); m != nil {
			hidden = m.Hidden(n.row.Column)
		}
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if !slices.Contains(named, name) {
				continue
			}
			if hidden[name] {
				return Refuse(lifecycle.FieldForbidden, "the field is hidden from you", "overrides", name)
			}
			q := access.Question{Action: authz.Restore, Type: t.Name, ID: id, Field: name, Props: access.RecordProps(n.row)}
			if refused := fieldRefusal(r.control.Decide(ctx, r.a, []access.Question{q})[0], name); refused != nil {
				return refused
			}
		}
	}
	return nil
}

func fieldRefusal(d access.Decision, field string) *Error {
	switch {
	case d.Permit:
		return nil
	case d.Unavailable:
		return refusal(d)
	}
	return Refuse(lifecycle.FieldForbidden, "the policy does not let you write this field", field)
}
