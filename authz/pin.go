package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// pin is a context under which the members of a chain keep to one policy of a tenant. It has what the members left
// in theirs, and nothing else of them: a member does not end an operation, nor change what others find in its context.
type pin struct {
	context.Context //nolint:containedctx // it is one

	key  pinKey
	kept []context.Context // of the members that could be pinned
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
	if k, ok := key.(pinKey); ok && k == p.key {
		return p
	}
	if v := p.Context.Value(key); v != nil {
		return v
	}
	for _, kept := range p.kept {
		if v := kept.Value(key); v != nil {
			return v
		}
	}
	return nil
}

// Pin returns a context under which every member that can do so answers from its present policy. A member that
// failed to load its own gives no answer under that context, also if it could later on, and is named in the error
// unless it may be skipped. Where the chain is pinned for the tenant already, it stays so.
func (c *Chain) Pin(ctx context.Context, tenant string) (context.Context, error) {
	key := pinKey{c, tenant}
	if p, ok := ctx.Value(key).(*pin); ok {
		return ctx, p.err
	}
	type answer struct {
		kept context.Context //nolint:containedctx // as in pin
		why  []Reason
	}
	pinners := slices.DeleteFunc(slices.Clone(c.members), func(m Member) bool { _, ok := m.Plugin.(Pinner); return !ok })
	answers := askAll(pinners, func(m Member) answer {
		ended := c.begin(m, MethodPin, 0)
		kept, why, failure := call(ctx, c, m, func(ctx context.Context) (context.Context, error) {
			pinned, err := m.Plugin.(Pinner).Pin(ctx, tenant) //nolint:forcetypeassert // others were left out
			if pinned == nil && err == nil {
				err = errors.New("no context")
			}
			return pinned, err
		})
		ended(ctx, failure, nil)
		return answer{kept, why}
	})
	p := &pin{Context: ctx, key: key, failed: map[string][]Reason{}}
	var errs []error
	for i, m := range pinners {
		a := answers[i]
		if a.why == nil {
			p.kept = append(p.kept, a.kept)
			continue
		}
		p.failed[m.Name] = a.why
		if m.Role != Shadow && m.OnError == FallbackDeny {
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
