package access

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/internal/gid"
)

// Observe sets who is told of every call of a member of the chain. It comes
// before the first question.
func (c *Control) Observe(o authz.Observer) {
	c.observer = o
	c.chain.Load().Observe(o)
}

// Reload replaces the chain by one of other members, as New would build it. What
// cannot be built changes nothing. Operations that have begun go on with the
// chain they have; what its plugins hold is closed after them, and what came of
// that is told to closed.
func (c *Control) Reload(ctx context.Context, members []authz.Config, closed func(error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The policies in force were judged by the types they may name, which need a new start.
	vocabulary, err := VocabularyOf(members)
	if err == nil && !reflect.DeepEqual(vocabulary, c.vocabulary) {
		err = fmt.Errorf("the external types of the member of kind %q have changed: that takes a restart", Kind)
	}
	if err != nil {
		return fmt.Errorf("building the chain: %w", err)
	}
	chain, err := c.build(ctx, members)
	if err != nil {
		return err
	}
	c.retire(c.chain.Swap(chain), closed)
	return nil
}

// retire has a chain closed, and remembers how until it is. The lock is held.
func (c *Control) retire(chain *authz.Chain, closed func(error)) {
	c.retirements++
	id := c.retirements
	c.retired[id] = chain.Retire(func(err error) {
		c.mu.Lock()
		delete(c.retired, id)
		c.mu.Unlock()
		closed(err)
	})
}

// Close closes what plugins hold. Nobody may ask any more.
func (c *Control) Close() error {
	c.mu.Lock()
	retired := slices.Collect(maps.Values(c.retired))
	c.mu.Unlock()
	errs := []error{c.chain.Load().Close()}
	for _, now := range retired {
		errs = append(errs, now())
	}
	return errors.Join(errs...)
}

type chainKey struct{ control *Control }

// chainOf is the chain that judges under ctx: the one that is pinned, or that of
// now.
func (c *Control) chainOf(ctx context.Context) *authz.Chain {
	if pinned, ok := ctx.Value(chainKey{c}).(*authz.Chain); ok {
		return pinned
	}
	return c.chain.Load()
}

func (c *Control) pin(ctx context.Context, chain *authz.Chain, tenant gid.ID) (context.Context, error) {
	return chain.Pin(c.with(ctx, chain), tenant.String())
}

// with makes a chain the one that judges.
func (c *Control) with(ctx context.Context, chain *authz.Chain) context.Context {
	if ctx.Value(chainKey{c}) == any(chain) {
		return ctx
	}
	return context.WithValue(ctx, chainKey{c}, chain)
}
