package graph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"entgo.io/contrib/entgql"
	"entgo.io/ent/dialect/sql"
	"github.com/99designs/gqlgen/graphql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/auditevent"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/policy"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/visible"
)

// listed is how much of a list without pages is shown.
const listed = 1_000

func tenantOf(ctx context.Context) gid.ID { return actor.From(ctx).Tenant }

func (r *Resolver) policy(ctx context.Context) (*policy.Policy, error) {
	p, err := r.Policies.Current(ctx, tenantOf(ctx))
	return &p, err
}

func (r *Resolver) policyHistory(ctx context.Context, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*ent.PolicyRevisionConnection, error) {
	return r.client(ctx).PolicyRevision.Query().Paginate(ctx, after, first, before, last)
}

func policyRows(rules []casbin.Rule) []*model.PolicyRow {
	out := make([]*model.PolicyRow, len(rules))
	for i, r := range rules {
		row := &model.PolicyRow{Kind: r.Ptype, Subject: r.V[0], Line: r.String()}
		if r.Ptype == "g" {
			row.Role = &r.V[1]
		} else {
			row.Object, row.Action, row.Effect, row.Condition = &r.V[2], &r.V[3], &r.V[4], &r.V[5]
		}
		out[i] = row
	}
	return out
}

func policyFindings(findings []casbin.Finding) []*model.PolicyFinding {
	out := make([]*model.PolicyFinding, len(findings))
	for i, f := range findings {
		out[i] = &model.PolicyFinding{Row: int32(f.Index), Line: f.Rule.String(), Severity: model.PolicySeverityWarning, Message: f.Message} //nolint:gosec // rows fit
		if f.Severity == casbin.Error {
			out[i].Severity = model.PolicySeverityError
		}
	}
	return out
}

func (r *Resolver) findings(ctx context.Context) ([]*model.PolicyFinding, error) {
	j, err := r.Policies.Validate(ctx, tenantOf(ctx), policy.Draft{})
	if err != nil {
		return nil, err
	}
	return policyFindings(j.Findings), nil
}

func policyTest(v policy.Verdict) *model.PolicyTestCase {
	out := &model.PolicyTestCase{Name: v.Test.Name, User: v.Test.User, Action: v.Test.Action, Object: v.Test.Object, Permit: v.Test.Permit, Passed: v.Passed()}
	if v.Test.Role != "" {
		out.Role = &v.Test.Role
	}
	return out
}

func policyTests(list []policy.Verdict) []*model.PolicyTestCase {
	out := make([]*model.PolicyTestCase, len(list))
	for i, v := range list {
		out[i] = policyTest(v)
	}
	return out
}

func (r *Resolver) policyTests(ctx context.Context) ([]*model.PolicyTestCase, error) {
	list, err := r.Policies.RunTests(ctx, tenantOf(ctx))
	return policyTests(list), err
}

func (r *Resolver) policyDiff(ctx context.Context, from, to int32) (*model.PolicyDiff, error) {
	var at [2]policy.Revision
	for i, v := range []int32{from, to} {
		var err error
		if at[i], err = r.Policies.At(ctx, tenantOf(ctx), version(v)); err != nil {
			return nil, err
		}
	}
	d := policy.Diff(at[0].Policy, at[1].Policy)
	return &model.PolicyDiff{
		From: from, To: to, Added: policyRows(d.Added), Removed: policyRows(d.Removed), AddedDuties: pointers(d.AddedDuties), RemovedDuties: pointers(d.RemovedDuties),
	}, nil
}

func version(v int32) uint64 { return uint64(max(v, 0)) }

func pointers[T any](list []T) []*T {
	out := make([]*T, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

// draftOf reads a change of the policy.
func draftOf(ctx context.Context, in *model.PolicyDraftInput) (d policy.Draft, err error) {
	if text := in.CSV.Value(); text != nil {
		d.Replace = true
		if d.Rules, err = policyRules(ctx, *text, "csv"); err != nil {
			return d, err
		}
	}
	for field, change := range map[string]struct {
		lines []*model.PolicyRowInput
		rules *[]casbin.Rule
	}{"add": {in.Add.Value(), &d.Add}, "remove": {in.Remove.Value(), &d.Remove}} {
		if len(change.lines) > 0 && d.Replace {
			return d, badInput("goes not together with csv", field)
		}
		for i, line := range change.lines {
			at := fmt.Sprintf("%s[%d]", field, i)
			rules, err := policyRules(ctx, line.Line, at)
			if err != nil {
				return d, err
			}
			if len(rules) != 1 {
				return d, badInput("is one row", at)
			}
			*change.rules = append(*change.rules, rules[0])
		}
	}
	if in.Duties.IsSet() {
		d.SetDuties = true
		for _, duty := range in.Duties.Value() {
			d.Duties = append(d.Duties, policy.Duty{Name: duty.Name, Roles: duty.Roles})
		}
	}
	return d, nil
}

// policyRules reads rows. A dot stands for the tenant.
func policyRules(ctx context.Context, text, field string) ([]casbin.Rule, error) {
	rules, err := casbin.ReadCSV(strings.NewReader(text))
	if err != nil {
		return nil, badInput("cannot be read: "+err.Error(), field)
	}
	for i := range rules {
		at := 1
		if rules[i].Ptype == "g" {
			at = 2
		}
		if rules[i].V[at] == "." {
			rules[i].V[at] = tenantOf(ctx).String()
		}
	}
	return rules, nil
}

func judgement(j *policy.Judgement) *model.PolicyJudgement {
	refused := j.Refused()
	out := &model.PolicyJudgement{Accepted: refused == nil, NeedsApproval: refused == nil && j.Grants != nil, Findings: policyFindings(j.Findings), FailedTests: policyTests(j.Failed)}
	if shown, ok := errors.AsType[*record.Error](refused); ok {
		out.Refusal = &shown.Message
		if cause, ok := shown.Extensions["cause"].(string); ok {
			out.Cause = &cause
		}
	}
	return out
}

func (r *Resolver) validatePolicy(ctx context.Context, in *model.PolicyDraftInput) (*model.PolicyJudgement, error) {
	d, err := draftOf(ctx, in)
	if err != nil {
		return nil, err
	}
	j, err := r.Policies.Validate(ctx, tenantOf(ctx), d)
	if err != nil {
		return nil, err
	}
	return judgement(j), nil
}

func (r *Resolver) previewPolicy(ctx context.Context, in *model.PolicyDraftInput, replay int32) (*model.PolicyPreview, error) {
	d, err := draftOf(ctx, in)
	if err != nil {
		return nil, err
	}
	if replay < 0 || replay > policy.MaxReplay {
		return nil, badInput(fmt.Sprintf("is from 0 to %d", policy.MaxReplay), "replay")
	}
	var decisions []policy.Decided
	if replay > 0 {
		if decisions, err = r.decisions(ctx, int(replay)); err != nil {
			return nil, err
		}
	}
	p, err := r.Policies.Preview(ctx, tenantOf(ctx), d, decisions)
	if err != nil {
		return nil, err
	}
	out := &model.PolicyPreview{
		Judgement: judgement(p.Judgement), Changes: []*model.AccessChange{}, TotalChanges: int32(len(p.Changes)), //nolint:gosec // bounded by rows
		Replayed: int32(len(decisions)), Flips: []*model.DecisionFlip{}, //nolint:gosec // at most MaxReplay
	}
	for _, c := range p.Changes[:min(len(p.Changes), listed)] {
		out.Changes = append(out.Changes, &model.AccessChange{Subject: c.Subject, Action: c.Action, Object: c.Object, Gained: c.Gained, Lost: c.Lost})
	}
	for _, f := range p.Flips {
		out.Flips = append(out.Flips, &model.DecisionFlip{Event: f.Event, Action: f.Action, Object: f.Object, User: f.User, Before: f.Before, After: f.After})
	}
	return out, nil
}

// decisions are the last events about records that the caller may read, as the
// questions that were asked for them.
func (r *Resolver) decisions(ctx context.Context, n int) ([]policy.Decided, error) {
	names := make([]any, 0, len(authz.Actions()))
	for _, a := range authz.Actions() {
		names = append(names, strings.ToUpper(strings.ReplaceAll(string(a), ".", "_")))
	}
	rows, err := r.client(ctx).AuditEvent.Query().Where(func(s *sql.Selector) {
		s.Where(sql.And(sql.NotNull(s.C(auditevent.FieldActorID)), sql.NotNull(s.C(auditevent.FieldRecordType)), sql.In(s.C(auditevent.FieldAction), names...)))
		s.OrderBy(s.C(auditevent.FieldID) + " " + string(entgql.OrderDirectionDesc))
		s.Limit(n)
	}).All(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]policy.Decided, 0, len(rows))
	for _, e := range rows {
		if d, ok := decided(e); ok {
			out = append(out, d)
		}
	}
	return out, nil
}

// decided is what was asked for an event, with what the log has of the record.
func decided(e *ent.AuditEvent) (policy.Decided, bool) {
	object := deref(e.RecordType)
	if on, ok := e.Detail["object"].(string); ok && object == "" {
		object = on
	}
	action, object, ok := policy.Asked(e.Action, object)
	if !ok || e.ActorID == nil {
		return policy.Decided{}, false
	}
	d := policy.Decided{Event: e.ID, User: *e.ActorID, Action: action, Object: object, Props: map[string]any{}}
	if e.RecordID != nil {
		d.Record = *e.RecordID
	}
	for name, id := range map[string]*gid.ID{"owner": e.OwnerID, "team": e.TeamID} {
		if d.Props[name] = nil; id != nil {
			d.Props[name] = id.String()
		}
	}
	if e.From != nil {
		d.Props["state"] = string(*e.From)
	}
	return d, true
}

func (r *Resolver) applyPolicy(ctx context.Context, in *model.ApplyPolicyInput) (*model.PolicyPayload, error) {
	d, err := draftOf(ctx, in.Draft)
	if err != nil {
		return nil, err
	}
	d.Base, d.Message = version(in.Version), in.Message
	return r.policyPayload(ctx)(r.Policies.Apply(ctx, tenantOf(ctx), d))
}

func (r *Resolver) rollbackPolicy(ctx context.Context, in *model.RollbackPolicyInput) (*model.PolicyPayload, error) {
	return r.policyPayload(ctx)(r.Policies.Rollback(ctx, tenantOf(ctx), version(in.Version), version(in.To), in.Message))
}

func (r *Resolver) changeRole(ctx context.Context, in *model.RoleInput, change func(context.Context, gid.ID, gid.ID, string) (policy.Policy, error)) (*model.PolicyPayload, error) {
	if err := checkID(in.User, "user", gid.User); err != nil {
		return nil, err
	}
	return r.policyPayload(ctx)(change(ctx, tenantOf(ctx), in.User, in.Role))
}

func (r *Resolver) policyPayload(ctx context.Context) func(policy.Policy, error) (*model.PolicyPayload, error) {
	return func(p policy.Policy, err error) (*model.PolicyPayload, error) {
		if err != nil {
			return nil, err
		}
		request, err := r.requested(ctx, p.Waiting)
		return &model.PolicyPayload{Policy: &p, Approval: request}, err
	}
}

func (r *Resolver) putPolicyTest(ctx context.Context, in *model.PutPolicyTestInput) (*model.PolicyTestPayload, error) {
	t := policy.Test{Name: in.Name, User: in.User.Value(), Action: in.Action, Object: in.Object, Permit: in.Permit}
	if t.User != nil {
		if err := checkID(*t.User, "user", gid.User); err != nil {
			return nil, err
		}
	}
	if role := in.Role.Value(); role != nil {
		t.Role = *role
	}
	for _, id := range in.Teams.Value() {
		if err := checkID(id, "teams", gid.Team); err != nil {
			return nil, err
		}
		t.Teams = append(t.Teams, id.String())
	}
	for i, a := range in.Attributes.Value() {
		var v any
		if err := json.Unmarshal([]byte(a.JSON), &v); err != nil {
			return nil, badInput("is no JSON", fmt.Sprintf("attributes[%d].json", i))
		}
		if t.Props == nil {
			t.Props = map[string]any{}
		}
		t.Props[a.Name] = v
	}
	v, err := r.Policies.PutTest(ctx, tenantOf(ctx), t)
	if err != nil {
		return nil, err
	}
	return &model.PolicyTestPayload{Test: policyTest(v)}, nil
}

func (r *Resolver) deletePolicyTest(ctx context.Context, name string) (*model.DeletePolicyTestPayload, error) {
	if err := r.Policies.DeleteTest(ctx, tenantOf(ctx), name); err != nil {
		return nil, err
	}
	return &model.DeletePolicyTestPayload{Name: name}, nil
}

// accessQuestion is what explainAccess is asked.
type accessQuestion struct {
	user       *gid.ID
	role       *string
	action     *authz.Action
	record     *gid.ID
	object     *string
	field      *string
	decisionID *gid.ID
	// masked says that fields of the record are hidden from who wants to know.
	masked bool
}

func (r *Resolver) explainAccess(ctx context.Context, a accessQuestion) (*model.AccessExplanation, error) {
	q := authz.Request{Tenant: tenantOf(ctx).String()}
	out := &model.AccessExplanation{Reasons: []*model.AccessReason{}}
	var err error
	if a.decisionID != nil {
		err = r.askedFor(ctx, a, &q, out)
	} else {
		err = r.askedOf(ctx, &a, &q)
	}
	if err != nil {
		return nil, err
	}
	e, err := r.Control.Explain(ctx, q)
	if err != nil {
		return nil, record.Refuse(lifecycle.AuthzUnavailable, "Access could not be decided; try again.")
	}
	out.Permitted, out.Action, out.Roles, out.PolicyVersion = e.Permit, q.Action, e.Roles, int32(e.Version) //nolint:gosec // versions count changes
	out.Subject, out.Object = q.Subject.Type+":"+q.Subject.ID, q.Resource.Type
	if q.Field != "" {
		out.Object += "." + q.Field
	}
	if e.Rule != "" {
		out.Rule = &e.Rule
	}
	if out.Roles == nil {
		out.Roles = []string{}
	}
	for _, reason := range e.Reasons {
		shown := &model.AccessReason{Plugin: reason.Plugin, Code: string(reason.Code)}
		if reason.Rule != "" {
			shown.Rule = &reason.Rule
		}
		detail, _, values := strings.Cut(reason.Detail, "; ")
		if values && a.masked { // what conditions compare are values of the record
			noteBelow(ctx, "reasons", len(out.Reasons), "detail")
		} else {
			detail = reason.Detail
		}
		if detail != "" {
			shown.Detail = &detail
		}
		out.Reasons = append(out.Reasons, shown)
	}
	return out, nil
}

// askedOf is a question as its arguments put it.
func (r *Resolver) askedOf(ctx context.Context, a *accessQuestion, q *authz.Request) error {
	switch {
	case (a.user == nil) == (a.role == nil):
		return badInput("either a user or a role asks", "user", "role")
	case a.action == nil:
		return badInput("is needed", "action")
	case (a.record == nil) == (a.object == nil):
		return badInput("it is about either a record or a type", "record", "object")
	}
	q.Action, q.Subject = *a.action, authz.Entity{Type: "role", ID: deref(a.role)}
	if a.user != nil {
		if err := r.askedBy(ctx, *a.user, "user", q); err != nil {
			return err
		}
	}
	vocabulary := r.Control.Vocabulary()
	if a.object != nil {
		q.Resource.Type = *a.object
	} else {
		field := graphql.GetFieldContext(ctx).Field
		found, err := r.client(ctx).NodesByID(ctx, []gid.ID{*a.record}, &field)
		if err != nil {
			return err
		}
		rec, ok := found[*a.record].(ent.Record)
		if !ok {
			return record.Refuse(lifecycle.NotFound, "There is no such record.", "record")
		}
		if m := visible.MaskOf(ctx, rec.RecordType().Name); m != nil {
			a.masked = len(m.Hidden(rec.Column)) > 0
		}
		q.Resource = authz.Entity{Type: rec.RecordType().Name, ID: a.record.String(), Props: access.RecordProps(rec)}
	}
	if vocabulary.Schema[q.Resource.Type] == nil {
		return badInput("is no type that policies speak of", "object")
	}
	if q.Field = deref(a.field); q.Field != "" && !slices.Contains(vocabulary.Fields[q.Resource.Type], q.Field) {
		return badInput("is no field that policies speak of", "field")
	}
	return nil
}

func (r *Resolver) askedBy(ctx context.Context, user gid.ID, field string, q *authz.Request) error {
	if err := checkID(user, field, gid.User); err != nil {
		return err
	}
	subject, ok, err := r.Policies.Subject(ctx, tenantOf(ctx), user)
	if err == nil && !ok {
		err = record.Refuse(lifecycle.NotFound, "There is no such user.", field)
	}
	q.Subject = subject
	return err
}

// askedFor is the question behind a decision of the audit log.
func (r *Resolver) askedFor(ctx context.Context, a accessQuestion, q *authz.Request, out *model.AccessExplanation) error {
	if err := checkID(*a.decisionID, "decisionID", gid.Event); err != nil {
		return err
	}
	if a.user != nil || a.role != nil || a.action != nil || a.record != nil || a.object != nil || a.field != nil {
		return badInput("goes not together with other arguments", "decisionID")
	}
	e, err := r.client(ctx).AuditEvent.Query().Where(auditevent.ID(*a.decisionID)).Only(ctx)
	if ent.IsNotFound(err) {
		return record.Refuse(lifecycle.NotFound, "There is no such decision.", "decisionID")
	}
	if err != nil {
		return err
	}
	d, ok := decided(e)
	if !ok {
		return badInput("is no decision on access by a user", "decisionID")
	}
	if err := r.askedBy(ctx, d.User, "decisionID", q); err != nil {
		return err
	}
	q.Action, q.Resource.Type = d.Action, d.Object
	if !d.Record.IsZero() {
		q.Resource.ID, q.Resource.Props = d.Record.String(), d.Props
	}
	if e.PolicyVersion != nil {
		by := int32(*e.PolicyVersion) //nolint:gosec // it was cut when it was written
		out.DecidedBy = &by
	}
	return nil
}

func (r *Resolver) whoCan(ctx context.Context, action authz.Action, object string) (*model.WhoCan, error) {
	if r.Control.Vocabulary().Schema[object] == nil {
		return nil, badInput("is no type that policies speak of", "object")
	}
	p, err := r.policy(ctx)
	if err != nil {
		return nil, err
	}
	may := func(typ, id string) bool {
		reach := casbin.Never
		if err == nil {
			reach, err = r.Control.Reach(ctx, p.Tenant, authz.Entity{Type: typ, ID: id}, action, object)
		}
		return reach != casbin.Never
	}
	out := &model.WhoCan{Roles: []string{}, Users: []*ent.User{}}
	for _, role := range p.Roles() {
		if may("role", role) {
			out.Roles = append(out.Roles, role)
		}
	}
	users, listErr := r.Policies.ActiveUsers(ctx, p.Tenant)
	if listErr != nil {
		return nil, listErr
	}
	users = slices.DeleteFunc(users, func(u gid.ID) bool { return !may("user", u.String()) })
	if err != nil {
		return nil, err
	}
	out.TotalUsers = int32(len(users)) //nolint:gosec // users fit
	field := below(ctx, graphql.GetFieldContext(ctx).Field, "users")
	if field == nil || len(users) == 0 {
		return out, nil
	}
	users = users[:min(len(users), listed)]
	found, err := r.client(ctx).NodesByID(ctx, users, field)
	if err != nil {
		return nil, err
	}
	for _, id := range users {
		if u, ok := found[id].(*ent.User); ok {
			out.Users = append(out.Users, u)
		}
	}
	return out, nil
}

func (r *Resolver) accessMatrix(ctx context.Context) ([]*model.AccessMatrixEntry, error) {
	p, err := r.policy(ctx)
	if err != nil {
		return nil, err
	}
	vocabulary := r.Control.Vocabulary()
	objects := make([]string, 0, len(vocabulary.Schema))
	for object := range vocabulary.Schema {
		objects = append(objects, object)
	}
	slices.Sort(objects)
	out := []*model.AccessMatrixEntry{}
	for _, role := range p.Roles() {
		for _, object := range objects {
			for _, action := range authz.Actions() {
				reach, err := r.Control.Reach(ctx, p.Tenant, authz.Entity{Type: "role", ID: role}, action, object)
				if err != nil {
					return nil, err
				}
				switch reach {
				case casbin.Always:
					out = append(out, &model.AccessMatrixEntry{Role: role, Object: object, Action: action, Reach: model.AccessReachAlways})
				case casbin.Sometimes:
					out = append(out, &model.AccessMatrixEntry{Role: role, Object: object, Action: action, Reach: model.AccessReachSometimes})
				}
			}
		}
	}
	return out, nil
}

func (r *Resolver) accessReview(ctx context.Context) ([]*model.AccessReviewEntry, error) {
	grants, err := r.Policies.Review(ctx, tenantOf(ctx))
	if err != nil {
		return nil, err
	}
	out := make([]*model.AccessReviewEntry, len(grants))
	for i, g := range grants {
		out[i] = &model.AccessReviewEntry{User: g.User, Active: g.Active, Role: g.Role, Inherited: g.Inherited, LastUsedAt: g.LastUsed}
		if g.Name != "" {
			out[i].Name = &g.Name
		}
		if out[i].Inherited == nil {
			out[i].Inherited = []string{}
		}
	}
	return out, nil
}
