package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// pin is a context under which the members of a chain keep to one policy of a tenant. What a member left in its own
// is for that member alone: none ends an operation, nor changes what others find in its context.
type pin struct {
	context.Context //nolint:containedctx // it is one

	key  pinKey
	kept map[string]context.Context // of the members that could be pinned, by name
	last *pin                       // of the chain, before this one
	// failed is why others could not, by name. They give no answer.
	failed map[string][]Reason
	err    error
}

type pinKey struct {
	chain  *Chain
	tenant string
}

// Value implements context.Context.
func (p *pin) Value(key any) any {
	switch k := key.(type) {
	case pinKey:
		if k == p.key {
			return p
		}
	case latestKey:
		if k.chain == p.key.chain {
			return p
		}
	}
	return p.Context.Value(key)
}

// latestKey finds the innermost pin of a chain, whatever its tenant.
type latestKey struct{ chain *Chain }

func (c *Chain) latest(ctx context.Context) *pin {
	p, _ := ctx.Value(latestKey{c}).(*pin)
	return p
}

// memberContext is a context that has what one member kept, besides what it has itself.
type memberContext struct {
	context.Context //nolint:containedctx // it is one

	pin    *pin
	member string
}

// Value implements context.Context.
func (m *memberContext) Value(key any) any {
	if v := m.Context.Value(key); v != nil {
		return v
	}
	for p := m.pin; p != nil; p = p.last {
		kept := p.kept[m.member]
		if kept == nil || p != m.pin && p.key == m.pin.key { // another took its place
			continue
		}
		if v := kept.Value(key); v != nil {
			return v
		}
	}
	return nil
}

// under is the context in which a member is asked.
func (c *Chain) under(ctx context.Context, m Member) context.Context {
	if p := c.latest(ctx); p != nil {
		return &memberContext{ctx, p, m.Name}
	}
	return ctx
}

// Under is the context in which the chain would ask the member that a plugin is, for who asks the plugin itself about
// what no chain does.
func (c *Chain) Under(ctx context.Context, p Plugin) context.Context {
	for _, m := range c.members {
		if m.Plugin == p {
			return c.under(ctx, m)
		}
	}
	return ctx
}

// Pin returns a context under which every member that can do so answers from its present policy. A member that
// failed to load its own gives no answer under that context, also if it could later on, and is named in the error
// unless it may be skipped. Where the chain is pinned for the tenant already, it stays so.
func (c *Chain) Pin(ctx context.Context, tenant string) (context.Context, error) {
	if p, ok := ctx.Value(pinKey{c, tenant}).(*pin); ok {
		return ctx, p.err
	}
	return c.pin(ctx, tenant, c.under)
}

// Repin is Pin of the present policies also where the chain is pinned for the tenant already.
func (c *Chain) Repin(ctx context.Context, tenant string) (context.Context, error) {
	return c.pin(ctx, tenant, func(ctx context.Context, _ Member) context.Context { return ctx })
}

// pin pins the members in the contexts that under gives them.
func (c *Chain) pin(ctx context.Context, tenant string, under func(context.Context, Member) context.Context) (context.Context, error) {
	type answer struct {
		kept context.Context //nolint:containedctx // as in pin
		why  []Reason
	}
	pinners := slices.DeleteFunc(slices.Clone(c.members), func(m Member) bool { _, ok := m.Plugin.(Pinner); return !ok })
	answers := askAll(pinners, func(m Member) answer {
		ended := c.begin(m, MethodPin, 0)
		kept, why, failure := call(under(ctx, m), c, m, func(ctx context.Context) (context.Context, error) {
			pinned, err := m.Plugin.(Pinner).Pin(ctx, tenant) //nolint:forcetypeassert // others were left out
			if pinned == nil && err == nil {
				err = errors.New("no context")
			}
			return pinned, err
		})
		ended(ctx, failure, nil)
		return answer{kept, why}
	})
	p := &pin{Context: ctx, key: pinKey{c, tenant}, last: c.latest(ctx), kept: map[string]context.Context{}, failed: map[string][]Reason{}}
	var errs []error
	for i, m := range pinners {
		a := answers[i]
		if a.why == nil {
			p.kept[m.Name] = a.kept //nolint:fatcontext // one for each member
			continue
		}
		p.failed[m.Name] = a.why
		if m.Role != Shadow && (m.OnError == FallbackDeny || ctx.Err() != nil) {
			errs = append(errs, fmt.Errorf("authz: pin %q: %s", m.Name, a.why[0].Detail))
		}
	}
	p.err = errors.Join(errs...)
	return p, p.err
}

// unpinned is why a member gives no answer to the requests under ctx: it could not be pinned for one's tenant.
func (c *Chain) unpinned(ctx context.Context, m Member, reqs []Request) []Reason {
	if _, ok := m.Plugin.(Pinner); !ok {
		return nil
	}
	last := ""
	for i := range reqs {
		tenant := reqs[i].Tenant
		if i > 0 && tenant == last { // as nearly always
			continue
		}
		last = tenant
		if p, ok := ctx.Value(pinKey{c, tenant}).(*pin); ok && p.failed[m.Name] != nil {
			return p.failed[m.Name]
		}
	}
	return nil
}
