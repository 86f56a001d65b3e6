// Package casbin is the default plugin: role-based rules in Casbin's model and storage format.
//
// Casbin is the language and the yardstick, not the evaluator. Its Enforce interprets every rule of every
// tenant; here each tenant's rows are compiled once into an index, and the tests hold the index against
// Casbin's own answers. See model.conf for the model and parse.go for the grammar of conditions.
package casbin

import (
	"context"
	_ "embed" // for Model
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lethe-crm/lethe/authz"
)

// Model is the Casbin model that the rows are written for.
//
//go:embed model.conf
var Model string

// name is how the plugin calls itself in reasons.
const name = "casbin"

// Options are what a Plugin needs.
type Options struct {
	Source Source
	Vocabulary
	// Poll is how often Run looks for changes; zero is a second.
	Poll time.Duration
	// OnLoad is told of every policy that was loaded, with what is wrong with it, and of every failure of Run.
	// A finding that is an error, or an error, deserves an alert.
	OnLoad func(tenant string, version uint64, findings []Finding, err error)
}

// Plugin decides by the policies of a Source. It implements authz.Planner, Explainer, Versioned, Pinner, FieldNamer,
// AttributeReader and ReadOnly.
type Plugin struct {
	source     Source
	vocabulary Vocabulary
	actions    map[authz.Action]bool // that rules can name
	poll       time.Duration
	onLoad     func(string, uint64, []Finding, error)
	tenants    atomic.Pointer[map[string]*tenantPolicy]
}

var _ interface {
	authz.Plugin
	authz.Planner
	authz.Explainer
	authz.Versioned
	authz.Pinner
	authz.FieldNamer
	authz.AttributeReader
	authz.ReadOnly
} = (*Plugin)(nil)

// New returns a plugin. It loads each tenant's policy when it is first needed.
func New(o Options) (*Plugin, error) {
	if o.Source == nil || len(o.Schema) == 0 {
		return nil, errors.New("casbin: a source and a schema are required")
	}
	p := &Plugin{source: o.Source, vocabulary: o.Vocabulary, poll: o.Poll, onLoad: o.OnLoad}
	p.actions = map[authz.Action]bool{}
	for _, a := range append(authz.Actions(), o.Actions...) {
		p.actions[a] = true
	}
	if p.poll <= 0 {
		p.poll = time.Second
	}
	if p.onLoad == nil {
		p.onLoad = func(string, uint64, []Finding, error) {}
	}
	p.tenants.Store(&map[string]*tenantPolicy{})
	return p, nil
}

// Validate judges rows before they are stored.
func (p *Plugin) Validate(tenant string, rules []Rule) []Finding {
	return p.vocabulary.Validate(tenant, rules)
}

// Decide implements authz.Plugin.
func (p *Plugin) Decide(ctx context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	out := make([]authz.Decision, len(reqs))
	var seen lookup
	for i := range reqs {
		out[i] = p.decide(ctx, &seen, &reqs[i])
	}
	return out, nil
}

func (p *Plugin) decide(ctx context.Context, seen *lookup, r *authz.Request) authz.Decision {
	s, refusal := p.prepare(ctx, seen, r)
	if refusal != nil {
		return *refusal
	}
	in := s.input(r)
	effect, rule := s.decide(seen.closure, &in)
	return authz.Decision{Effect: effect, Reasons: s.reasons(effect, rule)}
}

// lookup keeps what the requests of a batch have in common: its policy, so that one version judges all of it, and
// the grantees that its subject stands for.
type lookup struct {
	tenant   string
	snapshot *snapshot
	err      error

	of      *snapshot // that the closure is of
	typ, id string
	closure []uint32
}

func (l *lookup) policy(ctx context.Context, p *Plugin, r *authz.Request) (*snapshot, error) {
	if l.tenant != r.Tenant {
		l.tenant = r.Tenant
		l.snapshot, l.err = p.current(ctx, r.Tenant)
	}
	return l.snapshot, l.err
}

func (l *lookup) subject(s *snapshot, e *authz.Entity) {
	if l.of == s && l.typ == e.Type && l.id == e.ID {
		return
	}
	l.of, l.typ, l.id = s, e.Type, e.ID
	if e.Type == "user" {
		l.closure = s.users[e.ID]
	} else {
		l.closure = s.closures[subjectOf(*e)]
	}
}

// prepare finds the subject and the policy that a request is about, or says why there can be no answer.
func (p *Plugin) prepare(ctx context.Context, seen *lookup, r *authz.Request) (*snapshot, *authz.Decision) {
	refuse := func(effect authz.Effect, code authz.Code, version uint64, detail string) *authz.Decision {
		return &authz.Decision{Effect: effect, Reasons: []authz.Reason{
			{Plugin: name, Code: code, Version: version, Detail: detail},
		}}
	}
	isSubject := r.Subject.ID != "" && (r.Subject.Type == "user" || r.Subject.Type == "role")
	if r.Tenant == "" || !isSubject || r.Action == "" || r.Resource.Type == "" {
		return nil, refuse(authz.Deny, authz.CodeIncomplete, 0, "tenant, subject (a user or role), action and type are required")
	}
	// The wildcard is a pattern in rules; as a request it would match them literally. A dot would make a type
	// of a field.
	if r.Action == wildcard || strings.ContainsAny(r.Resource.Type, "*.") {
		return nil, refuse(authz.Deny, authz.CodeIncomplete, 0, "a request names one action and one type")
	}
	s, err := seen.policy(ctx, p, r)
	if err != nil {
		return nil, refuse(authz.Indeterminate, authz.CodePluginError, 0, err.Error())
	}
	if len(s.invalid) > 0 {
		return nil, refuse(authz.Deny, authz.CodePolicyInvalid, s.version, s.invalid[0].String())
	}
	// A wildcard stands for what rules can name. Of other names, which somebody may have misspelled, none speaks.
	if _, known := p.vocabulary.Schema[r.Resource.Type]; !known || !p.actions[r.Action] {
		return nil, &authz.Decision{Effect: authz.NotApplicable, Reasons: s.silent}
	}
	seen.subject(s, &r.Subject)
	return s, nil
}

// subjectOf is how policies name a subject; empty when they have no name for it.
func subjectOf(e authz.Entity) string {
	switch {
	case e.ID == "":
		return ""
	case e.Type == "user":
		return UserSubject(e.ID)
	case e.Type == "role": // to ask what a role may do, whoever has it
		return RoleSubject(e.ID)
	}
	return ""
}

func (s *snapshot) input(r *authz.Request) input {
	return input{req: r, teams: teamsOf(r.Subject), attributes: s.schema[r.Resource.Type]}
}

// Plan implements authz.Planner.
func (p *Plugin) Plan(ctx context.Context, q authz.Query) (authz.Plan, error) {
	var seen lookup
	s, refusal := p.prepare(ctx, &seen, &q)
	if refusal != nil {
		switch refusal.Effect {
		case authz.Indeterminate:
			return authz.Plan{}, errors.New(refusal.Reasons[0].Detail)
		case authz.NotApplicable:
			return authz.Plan{Permit: authz.False{}, Deny: authz.False{}, Reasons: refusal.Reasons}, nil
		}
		return authz.Plan{Deny: authz.True{}, Reasons: refusal.Reasons}, nil
	}
	in := s.input(&q)
	permit, deny := authz.Or{}, authz.Or{}
	s.each(seen.closure, q.Resource.Type, q.Field, q.Action, func(g grant, denies bool) {
		if denies {
			deny = append(deny, g.condition.plan(&in))
		} else {
			permit = append(permit, g.condition.plan(&in))
		}
	})
	plan := authz.Plan{Permit: authz.Simplify(permit), Deny: authz.Simplify(deny)}
	if authz.Same(plan.Permit, authz.False{}) {
		plan.Reasons = []authz.Reason{{Plugin: name, Code: authz.CodeNoMatchingRule, Version: s.version}}
	} else {
		plan.Reasons = []authz.Reason{{Plugin: name, Code: authz.CodeRulePermit, Version: s.version}}
	}
	return plan, nil
}

// Explain implements authz.Explainer: every rule the subject has on the object and action, how it came by the
// rule, and whether the condition holds.
func (p *Plugin) Explain(ctx context.Context, r authz.Request) ([]authz.Reason, error) {
	var seen lookup
	s, refusal := p.prepare(ctx, &seen, &r)
	if refusal != nil {
		return refusal.Reasons, nil
	}
	in := s.input(&r)
	var out []authz.Reason
	s.each(seen.closure, r.Resource.Type, r.Field, r.Action, func(g grant, denies bool) {
		reason := authz.Reason{Plugin: name, Code: authz.CodeConditionFailed, Version: s.version, Rule: s.rules[g.rule].String()}
		held := g.condition.eval(&in)
		switch {
		case denies && held != isFalse:
			reason.Code = authz.CodeRuleDeny
		case !denies && held == isTrue:
			reason.Code = authz.CodeRulePermit
		}
		reason.Detail = strings.Join(s.path(subjectOf(r.Subject), s.rules[g.rule].V[0]), " > ")
		if values := g.condition.describe(&in); values != "" {
			reason.Detail += "; " + values
		}
		out = append(out, reason)
	})
	if len(out) == 0 {
		out = []authz.Reason{{Plugin: name, Code: authz.CodeNoMatchingRule, Version: s.version}}
	}
	return out, nil
}

// FieldNames implements authz.FieldNamer.
func (p *Plugin) FieldNames(ctx context.Context, tenant, typ string) (names []string, known bool) {
	if s := p.loaded(ctx, tenant); s != nil {
		return s.named[typ], true
	}
	return nil, false
}

// Version implements authz.Versioned. It does not load anything.
func (p *Plugin) Version(ctx context.Context, tenant string) uint64 {
	if s := p.loaded(ctx, tenant); s != nil {
		return s.version
	}
	return 0
}

// loaded is the policy that is pinned or, without asking the source, the newest known; nil where there is none.
func (p *Plugin) loaded(ctx context.Context, tenant string) *snapshot {
	if pinned, ok := ctx.Value(pinKey{p, tenant}).(*snapshot); ok {
		return pinned
	}
	if t, ok := (*p.tenants.Load())[tenant]; ok {
		return t.snapshot.Load()
	}
	return nil
}

// Attributes implements authz.AttributeReader. A policy with invalid rows looks at none, and refuses.
func (p *Plugin) Attributes(ctx context.Context, tenant, typ string) (names []string, known bool) {
	if s := p.loaded(ctx, tenant); s != nil {
		return s.attributes(typ), true
	}
	return nil, false
}

// ReadOnly implements authz.ReadOnly.
func (p *Plugin) ReadOnly() {}

// RolesOf returns the names of the roles that a subject has, by itself or through other roles, nearest first.
func (p *Plugin) RolesOf(ctx context.Context, tenant string, subject authz.Entity) ([]string, error) {
	s, err := p.usable(ctx, tenant)
	if err != nil {
		return nil, err
	}
	var roles []string
	for _, n := range s.reachable(subjectOf(subject))[1:] {
		roles = append(roles, strings.TrimPrefix(n, rolePrefix))
	}
	return roles, nil
}

// Held is a role that somebody has.
type Held struct {
	Role string
	// Direct says that he was given it; else it comes with one he was given.
	Direct bool
}

// Held lists the roles of a subject, nearest first.
func (p *Plugin) Held(ctx context.Context, tenant string, subject authz.Entity) ([]Held, error) {
	s, err := p.usable(ctx, tenant)
	if err != nil {
		return nil, err
	}
	name := subjectOf(subject)
	var roles []Held
	for _, role := range s.reachable(name)[1:] {
		roles = append(roles, Held{strings.TrimPrefix(role, rolePrefix), slices.Contains(s.parents[name], role)})
	}
	return roles, nil
}

// Holders lists the ids of the users who have a role, by themselves or through other roles, sorted.
func (p *Plugin) Holders(ctx context.Context, tenant, role string) ([]string, error) {
	s, err := p.usable(ctx, tenant)
	if err != nil {
		return nil, err
	}
	var users []string
	for subject := range s.parents {
		if id, isUser := strings.CutPrefix(subject, userPrefix); isUser && slices.Contains(s.reachable(subject), RoleSubject(role)) {
			users = append(users, id)
		}
	}
	slices.Sort(users)
	return users, nil
}

// CouldEver reports whether the subject may do this to some thing of the type: a rule allows it for some
// record, and none denies it for every record. It is for telling "you may never" from "there is no such record".
func (p *Plugin) CouldEver(ctx context.Context, tenant string, subject authz.Entity, action authz.Action, typ string) (bool, error) {
	s, err := p.usable(ctx, tenant)
	if err != nil {
		return false, err
	}
	allowed, denied := false, false
	s.each(s.closures[subjectOf(subject)], typ, "", action, func(g grant, denies bool) {
		canBeTrue, canBeFalse := g.condition.possible(s.schema[typ])
		if denies {
			denied = denied || !canBeFalse
		} else {
			allowed = allowed || canBeTrue
		}
	})
	return allowed && !denied, nil
}

func (p *Plugin) usable(ctx context.Context, tenant string) (*snapshot, error) {
	s, err := p.current(ctx, tenant)
	if err == nil && len(s.invalid) > 0 {
		err = errInvalid
	}
	return s, err
}

// Reach is for how many things of a type a policy permits something.
type Reach uint8

// The reaches.
const (
	Never Reach = iota
	Sometimes
	Always
)

// Reach reports for how many things of the type the subject may do this, as far as conditions say by themselves.
func (p *Plugin) Reach(ctx context.Context, tenant string, subject authz.Entity, action authz.Action, typ string) (Reach, error) {
	s, err := p.usable(ctx, tenant)
	if err != nil {
		return Never, err
	}
	reach, deniedAlways, deniedSometimes := Never, false, false
	s.each(s.closures[subjectOf(subject)], typ, "", action, func(g grant, denies bool) {
		canBeTrue, canBeFalse := g.condition.possible(s.schema[typ])
		switch {
		case denies:
			deniedAlways, deniedSometimes = deniedAlways || !canBeFalse, deniedSometimes || canBeTrue
		case !canBeFalse:
			reach = Always
		case canBeTrue:
			reach = max(reach, Sometimes)
		}
	})
	switch {
	case deniedAlways:
		return Never, nil
	case deniedSometimes:
		return min(reach, Sometimes), nil
	}
	return reach, nil
}
