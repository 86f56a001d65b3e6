package graph

import (
	"context"
	"reflect"
	"slices"

	"github.com/99designs/gqlgen/graphql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/approval"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/policy"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

func (r *Resolver) approvalRules(ctx context.Context) ([]*model.ApprovalRule, error) {
	rules, err := r.Records.Rules(ctx)
	out := make([]*model.ApprovalRule, len(rules))
	for i := range rules {
		rule := &rules[i]
		out[i] = &model.ApprovalRule{
			Name: rule.Name, Subject: rule.Subject, Over: int32(rule.Over), ByFilter: rule.ByFilter, OpenDeals: rule.OpenDeals, Approvals: int32(rule.Approvals), //nolint:gosec // bounded
			RequestHours: int32(rule.RequestHours), UseHours: int32(rule.UseHours), Execution: rule.Execution, Enabled: rule.Enabled, //nolint:gosec // bounded
		}
		if t := ent.RecordTypeNamed(rule.Type); t != nil {
			kind := t.Kind()
			out[i].Type = &kind
		}
		if rule.Condition != "" {
			out[i].Condition = &rule.Condition
		}
		if rule.Role != "" {
			out[i].Role = &rule.Role
		}
	}
	return out, err
}

func (r *Resolver) setApprovalRule(ctx context.Context, in *model.SetApprovalRuleInput) (*model.ApprovalRulesPayload, error) {
	rule := record.Rule{
		Name: in.Name, Subject: in.Subject, Condition: deref(in.Condition.Value()), Over: int(in.Over), ByFilter: in.ByFilter, OpenDeals: in.OpenDeals, Approvals: int(in.Approvals),
		Role: deref(in.Role.Value()), RequestHours: int(in.RequestHours), UseHours: int(in.UseHours), Execution: in.Execution, Enabled: in.Enabled,
	}
	if kind := in.Type.Value(); kind != nil {
		rule.Type = typeOfKind(*kind)
	}
	if err := r.Records.SetRule(ctx, rule); err != nil {
		return nil, err
	}
	return r.rulesPayload(ctx)
}

func (r *Resolver) removeApprovalRule(ctx context.Context, name string) (*model.ApprovalRulesPayload, error) {
	if err := r.Records.RemoveRule(ctx, name); err != nil {
		return nil, err
	}
	return r.rulesPayload(ctx)
}

func (r *Resolver) rulesPayload(ctx context.Context) (*model.ApprovalRulesPayload, error) {
	rules, err := r.approvalRules(ctx)
	return &model.ApprovalRulesPayload{Rules: rules}, err
}

func (r *Resolver) approvals(ctx context.Context, status *approval.Status, part *model.ApprovalPart, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*ent.ApprovalConnection, error) {
	q := r.client(ctx).Approval.Query()
	if status != nil {
		q.Where(approval.StatusEQ(*status))
	}
	if part != nil {
		own := approval.RequestedByIDEQ(actor.From(ctx).User)
		if *part == model.ApprovalPartOthers {
			own = approval.Not(own)
		}
		q.Where(own)
	}
	return q.Paginate(ctx, after, first, before, last)
}

// groupKey is under what it is kept which requests are shown together with one.
type groupKey struct {
	root    *graphql.FieldContext
	request gid.ID
}

// rootOf is the root field that a field is below.
func rootOf(ctx context.Context) *graphql.FieldContext {
	root := graphql.GetFieldContext(ctx)
	for field := root; field != nil; field = field.Parent {
		if field.Field.Field != nil { // and not an element of a list
			root = field
		}
	}
	return root
}

// groupOf are the ids of requests that are shown together with one: those of its list, or of all operations that stand
// in one.
func groupOf(ctx context.Context, ap *ent.Approval) ([]gid.ID, error) {
	rows, _, err := listOf(ctx, ap)
	if err != nil {
		return nil, err
	}
	return once(ctx, groupKey{rootOf(ctx), ap.ID}, func() ([]gid.ID, error) {
		return collect(rows, func(a *ent.Approval) *gid.ID { return &a.ID }), nil
	})
}

// votesKey is under what the votes of requests that are shown together are kept, and what is read with them.
type votesKey struct {
	first groupKey
	what  string
}

// votesOf are the votes of requests that are shown together, read with one statement.
func (r *Resolver) votesOf(ctx context.Context, ap *ent.Approval) (map[gid.ID][]record.Vote, votesKey, error) {
	group, err := groupOf(ctx, ap)
	if err != nil {
		return nil, votesKey{}, err
	}
	key := votesKey{groupKey{rootOf(ctx), group[0]}, "votes"}
	votes, err := once(ctx, key, func() (map[gid.ID][]record.Vote, error) { return r.Records.Votes(ctx, group) })
	return votes, key, err
}

func (r *Resolver) approvalNeeds(ctx context.Context, ap *ent.Approval) ([]*model.ApprovalNeed, error) {
	votes, _, err := r.votesOf(ctx, ap)
	if err != nil {
		return nil, err
	}
	needs, err := record.NeedsOf(ap)
	if err != nil {
		return nil, err
	}
	given, err := r.Records.Given(ctx, ap, votes[ap.ID])
	if err != nil {
		return nil, err
	}
	out := make([]*model.ApprovalNeed, len(needs))
	for i := range needs {
		out[i] = &model.ApprovalNeed{Approvals: int32(needs[i].Approvals), Given: int32(given[i]), Rules: needs[i].Rules} //nolint:gosec // bounded
		if needs[i].Role != "" {
			out[i].Role = &needs[i].Role
		}
	}
	return out, nil
}

func (r *Resolver) approvalVotes(ctx context.Context, ap *ent.Approval) ([]*model.ApprovalVote, error) {
	votes, key, err := r.votesOf(ctx, ap)
	if err != nil {
		return nil, err
	}
	users := map[gid.ID]ent.Noder{}
	if field := below(ctx, graphql.GetFieldContext(ctx).Field, "user"); field != nil {
		users, err = once(ctx, votesKey{key.first, alias(ctx)}, func() (map[gid.ID]ent.Noder, error) {
			var all []record.Vote
			for _, some := range votes {
				all = append(all, some...)
			}
			return r.client(ctx).NodesByID(ctx, collect(all, func(v record.Vote) *gid.ID { return &v.User }), field)
		})
		if err != nil {
			return nil, err
		}
	}
	out := make([]*model.ApprovalVote, len(votes[ap.ID]))
	for i, v := range votes[ap.ID] {
		out[i] = &model.ApprovalVote{Approve: v.Approve, At: v.At}
		out[i].User, _ = users[v.User].(*ent.User)
		if v.Comment != "" {
			out[i].Comment = &v.Comment
		}
	}
	return out, nil
}

// approvalHold is the hold that a request is about, as far as the caller may know of it.
func (r *Resolver) approvalHold(ctx context.Context, ap *ent.Approval) (*ent.LegalHold, error) {
	if ap.TargetID == nil || ap.Subject != approval.SubjectHOLD_RELEASE {
		return nil, nil
	}
	rows, list, err := listOf(ctx, ap)
	if err != nil {
		return nil, err
	}
	field := graphql.GetFieldContext(ctx).Field
	holds, err := once(ctx, listKey{list, alias(ctx)}, func() (map[gid.ID]ent.Noder, error) {
		return r.client(ctx).NodesByID(ctx, collect(rows, func(a *ent.Approval) *gid.ID { return a.TargetID }), &field)
	})
	hold, _ := holds[*ap.TargetID].(*ent.LegalHold)
	return hold, err
}

func policyChange(ap *ent.Approval) (*model.PolicyChangeRequest, error) {
	if ap.Subject != approval.SubjectGRANT {
		return nil, nil
	}
	f, err := policy.FrozenOf(ap)
	if err != nil {
		return nil, err
	}
	return &model.PolicyChangeRequest{Version: int32(f.Base), Added: f.Added, Removed: f.Removed}, nil //nolint:gosec // versions fit
}

func (r *Resolver) viewerDecides(ctx context.Context, ap *ent.Approval) (bool, error) {
	a := actor.From(ctx)
	if ap.Status != approval.StatusPENDING || ap.RequestedByID != nil && *ap.RequestedByID == a.User {
		return false, nil
	}
	needs, err := record.NeedsOf(ap)
	if err != nil {
		return false, err
	}
	roles, err := r.Control.Roles(ctx, a)
	if err != nil {
		return false, err
	}
	for _, n := range needs {
		if n.Role == "" {
			return r.Control.CouldEver(ctx, a, authz.PolicyEdit, "Policy")
		}
		if slices.Contains(roles, n.Role) {
			return true, nil
		}
	}
	return false, nil
}

// operationsWith are the ids of operations that are shown together with one, in a list of their own or of requests.
func operationsWith(ctx context.Context, op *ent.Operation) ([]gid.ID, *graphql.FieldContext, error) {
	rows, field, err := listOf(ctx, op)
	if err != nil || len(rows) > 1 {
		return collect(rows, func(o *ent.Operation) *gid.ID { return &o.ID }), field, err
	}
	for above := field; above != nil; above = above.Parent {
		list := reflect.ValueOf(above.Result)
		if list.Kind() != reflect.Slice {
			continue
		}
		ids := []gid.ID{op.ID}
		for i := range list.Len() {
			if ap, ok := nodeOf[*ent.Approval](list.Index(i)); ok && ap.OperationID != nil && *ap.OperationID != op.ID {
				ids = append(ids, *ap.OperationID)
			}
		}
		if len(ids) > 1 {
			return ids, above, nil
		}
	}
	return []gid.ID{op.ID}, field, nil
}

// operationApprovals are the requests of operations that are shown together: who reads an operation reads them.
func (r *Resolver) operationApprovals(ctx context.Context, op *ent.Operation) ([]*ent.Approval, error) {
	ids, list, err := operationsWith(ctx, op)
	if err != nil {
		return nil, err
	}
	field := graphql.GetFieldContext(ctx).Field
	all, err := once(ctx, listKey{list, alias(ctx)}, func() (map[gid.ID][]*ent.Approval, error) {
		of, order, err := r.requestsOf(ctx, ids)
		if err != nil {
			return nil, err
		}
		found, err := r.client(ctx).NodesByID(visible.With(ctx, visible.Tenant(tenantOf(ctx))), order, &field)
		out := map[gid.ID][]*ent.Approval{}
		for _, id := range order {
			if ap, ok := found[id].(*ent.Approval); ok {
				out[of[id]] = append(out[of[id]], ap)
			}
			if _, err := once(ctx, groupKey{rootOf(ctx), id}, func() ([]gid.ID, error) { return order, nil }); err != nil {
				return nil, err
			}
		}
		return out, err
	})
	if all[op.ID] == nil {
		return []*ent.Approval{}, err
	}
	return all[op.ID], err
}

// requestsOf are the ids of the requests of operations, in order, with whose each is.
func (r *Resolver) requestsOf(ctx context.Context, operations []gid.ID) (of map[gid.ID]gid.ID, order []gid.ID, err error) {
	q := r.querier(ctx)
	of = map[gid.ID]gid.ID{}
	err = store.Build(q).Add(`SELECT id, operation_id FROM approvals WHERE `).IDs("operation_id", operations).Add(` ORDER BY id`).Query(ctx, q, func(row store.Row) error {
		var id, operation gid.ID
		err := row.Scan(&id, &operation)
		of[id], order = operation, append(order, id)
		return err
	})
	return of, order, err
}

func (r *Resolver) decideOperation(ctx context.Context, id gid.ID, approve bool, text string) (*model.OperationPayload, error) {
	if err := checkID(id, "id", gid.Operation); err != nil {
		return nil, err
	}
	op, err := r.Records.DecideOperation(ctx, id, approve, text)
	if err != nil {
		return nil, err
	}
	return &model.OperationPayload{Operation: op}, nil
}

func (r *Resolver) confirmOperation(ctx context.Context, id gid.ID) (*model.OperationPayload, error) {
	if err := checkID(id, "id", gid.Operation); err != nil {
		return nil, err
	}
	op, err := r.Records.Confirm(ctx, id)
	if err != nil {
		return nil, err
	}
	return &model.OperationPayload{Operation: op}, nil
}

func (r *Resolver) decideRequest(ctx context.Context, id gid.ID, approve bool, text string) (*model.ApprovalPayload, error) {
	if err := checkID(id, "id", gid.Approval); err != nil {
		return nil, err
	}
	if _, err := r.Records.DecideRequest(ctx, id, approve, text); err != nil {
		return nil, err
	}
	ap, err := r.requested(ctx, id)
	return &model.ApprovalPayload{Approval: ap}, err
}

func (r *Resolver) cancelRequest(ctx context.Context, id gid.ID) (*model.ApprovalPayload, error) {
	if err := checkID(id, "id", gid.Approval); err != nil {
		return nil, err
	}
	if _, err := r.Records.CancelRequest(ctx, id); err != nil {
		return nil, err
	}
	ap, err := r.requested(ctx, id)
	return &model.ApprovalPayload{Approval: ap}, err
}

// requested reads a request for who has just made it, or decided on it. There is none where nobody had to be asked.
func (r *Resolver) requested(ctx context.Context, id gid.ID) (*ent.Approval, error) {
	if id.IsZero() {
		return nil, nil
	}
	return selected[*ent.Approval](visible.With(ctx, visible.Tenant(tenantOf(ctx))), r, id, "approval")
}
