package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// Judgement is what there is to say about a policy that is to take the place of
// another.
type Judgement struct {
	Policy   Policy // that was judged
	Findings []casbin.Finding
	Failed   []Verdict // tests with another answer than they should have
	// Grants is something restricted that somebody would gain: another one who may edit the policy has to agree first.
	Grants *casbin.Gain

	// refusal is the first thing, beside findings and tests, that is against it.
	refusal error
}

// Refused is why it would be refused, or nil.
func (j *Judgement) Refused() error { return j.err() }

func (j *Judgement) err() error {
	var shown []any
	first := ""
	for _, f := range j.Findings {
		if f.Severity != casbin.Error {
			continue
		}
		if first == "" {
			first = f.String()
		}
		shown = append(shown, map[string]any{"row": f.Index, "rule": f.Rule.String(), "message": f.Message})
	}
	switch {
	case len(shown) > 0:
		return refuse(ErrInvalid, "The policy would not be valid: "+first, map[string]any{"findings": shown}, "rules")
	case j.refusal != nil:
		return j.refusal
	case len(j.Failed) > 0:
		names := make([]string, len(j.Failed))
		for i, v := range j.Failed {
			names[i] = v.Test.Name
		}
		return refuse(ErrTest, "A test of the policy fails: "+strings.Join(names, ", "), map[string]any{"tests": names})
	}
	return nil
}

// Validate judges a draft without storing anything.
func (s *Service) Validate(ctx context.Context, tenant gid.ID, d Draft) (*Judgement, error) {
	by := actor.From(ctx)
	if by == nil {
		by = actor.ForSystem(tenant)
	}
	var j *Judgement
	q := s.querier(ctx)
	before, err := s.Current(ctx, tenant)
	if err != nil {
		return nil, err
	}
	after, err := d.on(before)
	if err != nil {
		return nil, err
	}
	if j, err = s.judge(ctx, q, by, before, after); err != nil {
		return nil, fmt.Errorf("judging a policy: %w", err)
	}
	return j, nil
}

func (s *Service) judge(ctx context.Context, q store.Querier, by *actor.Actor, before, after Policy) (*Judgement, error) {
	j := &Judgement{Policy: after, Findings: s.vocabulary.Lint(after.Tenant.String(), after.Rules)}
	unknown, err := unknownUsers(ctx, q, before, after)
	if err != nil {
		return nil, err
	}
	j.Findings = append(j.Findings, unknown...)
	j.Findings = append(j.Findings, brokenDuties(after)...)
	j.refusal = checkDuties(after.Duties)
	for _, f := range j.Findings {
		if f.Severity == casbin.Error {
			return j, nil // what cannot be compiled cannot be compared
		}
	}
	for _, check := range []func() error{
		func() error { return dutyError(after) },
		func() error { return s.escalation(j, by, before, after) },
		func() error { return s.lockout(ctx, q, before, after) },
	} {
		if j.refusal != nil {
			return j, nil //nolint:nilerr // that it would be refused is the answer
		}
		if j.refusal = check(); j.refusal != nil && !isRefusal(j.refusal) {
			return nil, j.refusal
		}
	}
	verdicts, err := s.runTests(ctx, q, after)
	if err != nil {
		return nil, err
	}
	for _, v := range verdicts {
		if !v.Passed() {
			j.Failed = append(j.Failed, v)
		}
	}
	return j, nil
}

// unknownUsers finds rows about users who are not there: an error in rows that
// come, and a warning in those that were there, whose user may since be gone.
func unknownUsers(ctx context.Context, q store.Querier, before, after Policy) ([]casbin.Finding, error) {
	var ids []gid.ID
	named := map[string]gid.ID{}
	for _, r := range after.Rules {
		text, ok := strings.CutPrefix(r.V[0], casbin.UserSubject(""))
		if !ok || r.V[0] == casbin.System {
			continue
		}
		if _, seen := named[r.V[0]]; seen {
			continue
		}
		id, err := gid.Parse(text)
		if err != nil || id.Type() != gid.User {
			id = gid.Nil
		}
		named[r.V[0]] = id
		if !id.IsZero() {
			ids = append(ids, id)
		}
	}
	if len(named) == 0 {
		return nil, nil
	}
	there := map[gid.ID]bool{}
	err := store.Build(q).Add("SELECT id FROM users WHERE tenant_id = ? AND ", after.Tenant).IDs("id", ids).Query(ctx, q, func(rows store.Row) error {
		var id gid.ID
		err := rows.Scan(&id)
		there[id] = true
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for the users of a policy: %w", err)
	}
	old := map[casbin.Rule]bool{}
	for _, r := range before.Rules {
		old[r] = true
	}
	var out []casbin.Finding
	for i, r := range after.Rules {
		id, isUser := named[r.V[0]]
		if !isUser || there[id] {
			continue
		}
		f := casbin.Finding{Index: i, Rule: r, Severity: casbin.Error, Message: "there is no such user"}
		if old[r] {
			f.Severity = casbin.Warning
		}
		out = append(out, f)
	}
	return out, nil
}

// parents are, by subject, the roles it is given.
func (p Policy) parents() map[string][]string {
	out := map[string][]string{}
	for _, r := range p.Rules {
		if r.Ptype == "g" {
			out[r.V[0]] = append(out[r.V[0]], r.V[1])
		}
	}
	return out
}

// maxDuties bounds the separations of duty of a tenant, and the roles of each.
const maxDuties = 100

func checkDuties(duties []Duty) error {
	if len(duties) > maxDuties {
		return refuse(ErrInvalid, fmt.Sprintf("There are more than %d separations of duty.", maxDuties), nil, "duties")
	}
	seen := map[string]bool{}
	for _, d := range duties {
		if d.Name == "" || strings.TrimSpace(d.Name) != d.Name || seen[d.Name] {
			return refuse(ErrInvalid, fmt.Sprintf("The name %q of a separation of duty is empty, has space around it, or is used twice.", d.Name), nil, "duties")
		}
		seen[d.Name] = true
		roles := slices.Compact(slices.Sorted(slices.Values(d.Roles)))
		if len(roles) < 2 || len(roles) != len(d.Roles) || len(roles) > maxDuties {
			return refuse(ErrInvalid, fmt.Sprintf("The separation of duty %q needs 2 to %d different roles.", d.Name, maxDuties), nil, "duties")
		}
	}
	return nil
}

// brokenDuties names, for every subject that has two roles of one set, the row
// by which it is given a role. Inherited roles count.
func brokenDuties(p Policy) (out []casbin.Finding) {
	if len(p.Duties) == 0 {
		return nil
	}
	parents := p.parents()
	reached := map[string]map[string]bool{}
	var reach func(subject string, into map[string]bool)
	reach = func(subject string, into map[string]bool) {
		if into[subject] {
			return
		}
		into[subject] = true
		for _, role := range parents[subject] {
			reach(role, into)
		}
	}
	said := map[string]bool{}
	for i, r := range slices.Backward(p.Rules) { // the last grant is the one that broke it
		if r.Ptype != "g" {
			continue
		}
		if reached[r.V[0]] == nil {
			reached[r.V[0]] = map[string]bool{}
			reach(r.V[0], reached[r.V[0]])
		}
		for _, d := range p.Duties {
			var both []string
			for _, role := range d.Roles {
				if reached[r.V[0]][casbin.RoleSubject(role)] {
					both = append(both, role)
				}
			}
			if key := r.V[0] + "\x00" + d.Name; len(both) > 1 && !said[key] {
				said[key] = true
				out = append(out, casbin.Finding{
					Index: i, Rule: r, Severity: casbin.Warning,
					Message: fmt.Sprintf("%s would have %s, which separation of duty %q keeps apart", r.V[0], strings.Join(both, " and "), d.Name),
				})
			}
		}
	}
	slices.Reverse(out)
	return out
}

func dutyError(p Policy) error {
	broken := brokenDuties(p)
	if len(broken) == 0 {
		return nil
	}
	return refuse(ErrDuty, "A separation of duty would be broken: "+broken[0].Message+".", nil)
}

// escalation refuses what the author would gain himself, and what he would give
// to others beyond what he has. What is restricted takes another one to agree.
// The system may give anything.
func (s *Service) escalation(j *Judgement, by *actor.Actor, before, after Policy) error {
	if by.Kind == actor.System {
		return nil
	}
	comparison, err := s.vocabulary.Compare(before.Rules, after.Rules)
	if err != nil {
		return err
	}
	if err := ownGain(comparison, by); err != nil {
		return err
	}
	g, found := comparison.Beyond(by.User.String())
	if !found {
		return nil
	}
	if more, found := comparison.Exceeding(by.User.String()); found {
		return refuse(ErrEscalation, fmt.Sprintf("%s would gain %s of %s, which you have not, or not of as much.", more.Subject, more.Action, more.Object), gained(more))
	}
	if s.approvals == nil {
		return refuse(ErrEscalation, fmt.Sprintf("%s would gain %s of %s. The operator gives that on the machine: lethe role grant, or lethe policy import.",
			g.Subject, g.Action, g.Object), gained(g))
	}
	j.Grants = &g
	return nil
}

func gained(g casbin.Gain) map[string]any {
	return map[string]any{"subject": g.Subject, "action": string(g.Action), "object": g.Object}
}

// lockout refuses what would leave nobody who can edit the policy, where there
// is somebody.
func (s *Service) lockout(ctx context.Context, q store.Querier, before, after Policy) error {
	users, err := activeUsers(ctx, q, after.Tenant)
	if err != nil {
		return err
	}
	left, err := s.editorsAmong(ctx, after, users)
	if err != nil || len(left) > 0 {
		return err
	}
	had, err := s.editorsAmong(ctx, before, users)
	if err != nil || len(had) == 0 {
		return err
	}
	return refuse(ErrLockout, "The tenant would be left without an active user who can edit its policy.", nil)
}

// LockEditors lists the active users who can edit a tenant's policy, and keeps
// that so until the transaction ends.
func (s *Service) LockEditors(ctx context.Context, tx *store.Tx, tenant gid.ID) ([]gid.ID, error) {
	p, err := lock(ctx, tx, tenant)
	if err != nil {
		return nil, err
	}
	users, err := activeUsers(ctx, tx, tenant)
	if err != nil {
		return nil, err
	}
	return s.editorsAmong(ctx, p, users)
}

// editorsAmong leaves out rows that cannot be used here. With them the policy
// permits nothing, and nobody would be an editor worth keeping; but they may name
// types that only the server was told of.
func (s *Service) editorsAmong(ctx context.Context, p Policy, users []gid.ID) ([]gid.ID, error) {
	unusable := map[int]bool{}
	for _, f := range s.vocabulary.Validate(p.Tenant.String(), p.Rules) {
		unusable[f.Index] = unusable[f.Index] || f.Severity == casbin.Error
	}
	var rules []casbin.Rule
	for i, r := range p.Rules {
		if !unusable[i] {
			rules = append(rules, r)
		}
	}
	p.Rules = rules
	plugin, err := s.plugin(p)
	if err != nil {
		return nil, err
	}
	requests := make([]authz.Request, len(users))
	for i, u := range users {
		requests[i] = authz.Request{
			Tenant: p.Tenant.String(), Action: authz.PolicyEdit,
			Subject: authz.Entity{Type: "user", ID: u.String()}, Resource: authz.Entity{Type: "Policy"},
		}
	}
	decisions, err := plugin.Decide(ctx, requests)
	if err != nil {
		return nil, err
	}
	var editors []gid.ID
	for i, d := range decisions {
		if d.Permitted() {
			editors = append(editors, users[i])
		}
	}
	return editors, nil
}

func activeUsers(ctx context.Context, q store.Querier, tenant gid.ID) ([]gid.ID, error) {
	var users []gid.ID
	err := store.Build(q).Add("SELECT id FROM users WHERE tenant_id = ? AND active = ? ORDER BY id", tenant, true).Query(ctx, q, func(rows store.Row) error {
		var id gid.ID
		if err := rows.Scan(&id); err != nil {
			return err
		}
		users = append(users, id)
		return nil
	})
	return users, err
}
