package authz

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// DefaultTimeout is how long a member without a timeout of its own may take. There is no way to wait forever.
const DefaultTimeout = 2 * time.Second

// Member is a plugin and its place in a chain.
type Member struct {
	Name    string
	Plugin  Plugin
	Role    Role
	OnError Fallback      // when it fails, times out, or answers Indeterminate
	NoPlan  Fallback      // when rows are asked for and it is no Planner
	Timeout time.Duration // zero is DefaultTimeout
}

// Sink is told of every decision: the request, what the chain made of it, and each member's answer in order.
type Sink func(ctx context.Context, r Request, final Decision, each []Decision)

// Chain combines plugins: any Deny wins; a member that gave no answer counts as Deny unless it may be skipped;
// otherwise one Permit of a granting member permits; otherwise the answer is Deny.
type Chain struct {
	members  []Member
	sink     Sink
	observer Observer
	closing  *closing
}

// NewChain refuses a chain that could permit nothing. The sink may be nil.
func NewChain(sink Sink, members ...Member) (*Chain, error) {
	names := map[string]bool{}
	grants := false
	for _, m := range members {
		switch {
		case m.Name == "" || names[m.Name]:
			return nil, fmt.Errorf("authz: member name %q is empty or used twice", m.Name)
		case m.Plugin == nil:
			return nil, fmt.Errorf("authz: member %q has no plugin", m.Name)
		case m.Role > Shadow || m.OnError > FallbackSkip || m.NoPlan > FallbackSkip || m.Timeout < 0:
			return nil, fmt.Errorf("authz: member %q: role, fallback or timeout out of range", m.Name)
		}
		names[m.Name] = true
		grants = grants || m.Role == Grant
	}
	if !grants {
		return nil, errors.New("authz: no member grants, so every request would be denied")
	}
	c := &Chain{members: slices.Clone(members), sink: sink, closing: &closing{}}
	for _, m := range members {
		if _, ok := m.Plugin.(io.Closer); ok {
			c.closing.members = append(c.closing.members, m)
		}
	}
	return c, nil
}

// Decide answers each request with Permit or Deny, in their order.
func (c *Chain) Decide(ctx context.Context, reqs []Request) []Decision {
	if len(reqs) == 0 {
		return nil
	}
	answers := askAll(c.members, func(m Member) []Decision { return c.decide(ctx, m, reqs) })
	ended := ctx.Err() != nil
	out := make([]Decision, len(reqs))
	each := make([]Decision, len(c.members))
	for i, r := range reqs {
		for j := range c.members {
			each[j] = answers[j][i]
		}
		out[i] = c.combine(each, ended)
		if c.sink != nil {
			c.sink(ctx, r, out[i], slices.Clone(each))
		}
	}
	return out
}

// combine makes one decision of those of the members. A member that has no answer because whoever asked went away
// did not fail, and is not skipped: who made it slow enough would be rid of it.
func (c *Chain) combine(each []Decision, ended bool) Decision {
	var denied, permitted, silent []Reason
	final := NotApplicable
	for i, m := range c.members {
		if m.Role == Shadow {
			continue
		}
		d := each[i]
		if d.Effect == Indeterminate {
			if m.OnError == FallbackSkip && !ended {
				continue // and not why the others deny
			}
			d.Effect = Deny
		}
		switch {
		case d.Effect == Deny:
			final = Deny
			denied = join(denied, d.Reasons)
		case d.Effect == Permit && m.Role == Grant:
			if final != Deny {
				final = Permit
			}
			permitted = join(permitted, d.Reasons)
		default:
			silent = join(silent, d.Reasons)
		}
	}
	switch {
	case final == Permit:
		return Decision{Permit, permitted}
	case final == Deny:
		return Decision{Deny, denied}
	case len(silent) == 0:
		silent = []Reason{{Plugin: "chain", Code: CodeNoMatchingRule}}
	}
	return Decision{Deny, silent}
}

// join appends more to list, which is more itself as long as it is alone.
func join(list, more []Reason) []Reason {
	if len(list) == 0 {
		return slices.Clip(more)
	}
	return append(list, more...)
}

// Plan answers with the rows that Decide would permit, were it asked about each.
func (c *Chain) Plan(ctx context.Context, q Query) (Filter, []Reason) {
	type answer struct {
		plan Plan
		skip bool
	}
	counting := slices.DeleteFunc(slices.Clone(c.members), func(m Member) bool { return m.Role == Shadow })
	answers := askAll(counting, func(m Member) answer {
		planner, ok := m.Plugin.(Planner)
		if !ok {
			why := []Reason{{Plugin: m.Name, Code: CodeNotSupported, Detail: "the plugin cannot plan"}}
			return answer{Plan{Deny: True{}, Reasons: why}, m.NoPlan == FallbackSkip}
		}
		p, why := c.plan(ctx, m, planner, q)
		if why != nil {
			return answer{Plan{Deny: True{}, Reasons: why}, m.OnError == FallbackSkip && ctx.Err() == nil} // as combine
		}
		return answer{plan: p}
	})
	permit, deny := Or{}, Or{}
	var why []Reason
	for i, m := range counting {
		a := answers[i]
		why = append(why, a.plan.Reasons...)
		if a.skip {
			continue
		}
		if a.plan.Deny != nil {
			deny = append(deny, a.plan.Deny)
		}
		if m.Role == Grant && a.plan.Permit != nil {
			permit = append(permit, a.plan.Permit)
		}
	}
	return Simplify(And{permit, Not{deny}}), why
}

// checkPlan refuses filters with holes, which would match everything below a Not.
func checkPlan(p Plan) error {
	for _, f := range []Filter{p.Permit, p.Deny} {
		if f == nil {
			continue
		}
		if err := Check(f); err != nil {
			return err
		}
	}
	return nil
}

// Explain collects what every member that can explain has to say about a request. A member that fails says so.
func (c *Chain) Explain(ctx context.Context, r Request) []Reason {
	var why []Reason
	for _, m := range c.members {
		if e, ok := m.Plugin.(Explainer); ok {
			why = append(why, c.explain(ctx, m, e, r)...)
		}
	}
	return why
}

// Alone reports whether no other member than the one that a plugin is counts.
func (c *Chain) Alone(p Plugin) bool {
	return !slices.ContainsFunc(c.members, func(m Member) bool { return m.Role != Shadow && m.Plugin != p })
}

// Version is the policy version of the first member that has one, for the audit trail; zero when none has.
func (c *Chain) Version(ctx context.Context, tenant string) uint64 {
	for _, m := range c.members {
		if v, ok := m.Plugin.(Versioned); ok {
			return c.version(ctx, m, v, tenant)
		}
	}
	return 0
}

// Attributes lists the attributes of a type's resources that the members look at; all says that one of them may
// look at any.
func (c *Chain) Attributes(ctx context.Context, tenant, typ string) (names []string, all bool) {
	for _, m := range c.members {
		r, ok := m.Plugin.(AttributeReader)
		if !ok {
			return nil, true
		}
		own, known := c.attributes(ctx, m, r, tenant, typ)
		if !known {
			return nil, true
		}
		for _, name := range own {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, false
}

// askAll asks the members at the same time, so that a chain takes as long as its slowest member. The last is asked
// by the caller's own goroutine: most chains have one.
func askAll[T any](members []Member, ask func(Member) T) []T {
	out := make([]T, len(members))
	done := make(chan struct{}, len(members))
	for i, m := range members {
		if i == len(members)-1 {
			out[i] = ask(m)
			done <- struct{}{}
			break
		}
		go func() {
			out[i] = ask(m)
			done <- struct{}{}
		}()
	}
	for range members {
		<-done
	}
	return out
}
