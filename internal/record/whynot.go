package record

import (
	"context"
	"errors"
	"slices"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// Reason is why something cannot be done to a record.
type Reason struct {
	Code lifecycle.Code
	// Message is empty where the code says it all.
	Message  string
	Record   gid.ID
	Blockers []Blocker
}

// moves are the verbs by the action a policy must allow for them.
var moves = func() map[authz.Action]lifecycle.Verb {
	out := map[authz.Action]lifecycle.Verb{}
	for v, action := range actions {
		if v != lifecycle.Undo {
			out[action] = v
		}
	}
	return out
}()

// WhyNot explains why the caller may not do something to a record now; there is
// no reason when he may. For a verb it plans the operation that would do it.
func (s *Service) WhyNot(ctx context.Context, id gid.ID, action authz.Action) ([]*Reason, error) {
	verb, isMove := moves[action]
	r, err := s.look(ctx, Request{Verb: verb, Select: Selection{IDs: []gid.ID{id}}})
	if err != nil {
		return nil, err
	}
	t := ent.RecordTypeOf(id)
	if t == nil {
		return []*Reason{{Code: lifecycle.NotFound, Record: id}}, nil
	}
	if ctx, err = r.pinned(ctx); err != nil {
		return nil, err
	}
	rows, err := r.load(ctx, t, []gid.ID{id}, none)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		gone, err := r.purged(ctx, r.q, r.a, []gid.ID{id})
		if err != nil || gone[id] {
			return []*Reason{{Code: lifecycle.Gone, Record: id}}, err
		}
		return []*Reason{{Code: lifecycle.NotFound, Record: id}}, nil
	}
	if isMove {
		return r.whyNotMove(ctx)
	}
	return r.whyNotDo(ctx, rows[0], action)
}

// whyNotMove plans the operation for the one record.
func (r *run) whyNotMove(ctx context.Context) ([]*Reason, error) {
	r.batch = &batch{size: 1, most: r.sizes.tree} // as a job would, which takes more
	err := r.prepare(ctx)
	if errors.Is(err, errLarge) {
		limit := Blocker{Code: lifecycle.Limit, Limit: r.sizes.tree}
		return []*Reason{{Code: lifecycle.Limit, Record: r.req.Select.IDs[0], Blockers: []Blocker{limit}}}, nil
	}
	if refused, ok := errors.AsType[*Error](err); ok && refused.Code != lifecycle.AuthzUnavailable {
		reason := &Reason{Code: refused.Code, Record: r.req.Select.IDs[0]}
		if refused.Code != lifecycle.Forbidden { // which says it of one record
			reason.Message = refused.Message
		}
		return []*Reason{reason}, nil
	}
	if err != nil {
		return nil, err
	}
	out := []*Reason{}
	if it := r.items[0]; it.outcome == failed {
		out = it.reasons()
	}
	caps := r.overCaps()
	for _, over := range caps {
		out = append(out, &Reason{Code: lifecycle.Limit, Message: brakes[over.cap], Record: r.items[0].id, Blockers: []Blocker{over.blocker()}})
	}
	if k := r.asks(caps); k != nil {
		out = append(out, &Reason{Code: lifecycle.ApprovalRequired, Message: k.words(), Record: r.items[0].id, Blockers: k.blockers()})
	}
	return out, nil
}

// reasons are one for each code an item failed for, its own first.
func (it *item) reasons() []*Reason {
	out := []*Reason{{Code: it.code, Record: it.id}}
	for _, b := range it.blockers {
		i := slices.IndexFunc(out, func(r *Reason) bool { return r.Code == b.Code })
		if i < 0 {
			i, out = len(out), append(out, &Reason{Code: b.Code, Record: it.id})
		}
		out[i].Blockers = append(out[i].Blockers, b)
	}
	return out
}

// whyNotDo asks the policy and the state table.
func (r *run) whyNotDo(ctx context.Context, row ent.Record, action authz.Action) ([]*Reason, error) {
	q := r.question(row)
	q.Action = action
	answer := r.control.Decide(ctx, r.a, []access.Question{q})[0]
	if answer.Unavailable {
		return nil, refusal(answer)
	}
	state := row.RecordState()
	out := []*Reason{}
	add := func(code lifecycle.Code, blockers ...Blocker) {
		out = append(out, &Reason{Code: code, Record: row.RecordID(), Blockers: blockers})
	}
	if !answer.Permit {
		add(lifecycle.Forbidden)
	}
	if action == authz.Update && !state.Editable() {
		add(lifecycle.RecordNotEditable, Blocker{Code: lifecycle.RecordNotEditable, State: state, Allowed: lifecycle.Allowed(state)})
	}
	if action == authz.Update && answer.Permit && state.Editable() {
		switch code, _, err := r.frozen(ctx, r.q, r.a, row); {
		case err != nil:
			return nil, err
		case code != "":
			add(code)
		}
	}
	return out, nil
}
