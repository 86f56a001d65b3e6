package authz

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// closing closes what a chain's plugins hold. It does not know the chain, which may be gone by then.
type closing struct {
	once    sync.Once
	members []Member // that are io.Closers
	err     error
}

func (c *closing) close() error {
	c.once.Do(func() {
		var errs []error
		for _, m := range c.members {
			closer, ok := m.Plugin.(io.Closer)
			if !ok {
				continue
			}
			_, why, _ := call(context.Background(), nil, m, func(context.Context) (struct{}, error) { return struct{}{}, closer.Close() })
			if why != nil {
				errs = append(errs, fmt.Errorf("authz: close %q: %s", m.Name, why[0].Detail))
			}
		}
		c.err = errors.Join(errs...)
	})
	return c.err
}

// Close closes the plugins that are io.Closers, each for as long as its member may take. Nobody may ask the chain
// any more. A plugin that is in two chains must be no io.Closer.
func (c *Chain) Close() error { return c.closing.close() }

// Retire closes the plugins when nobody can ask the chain any more: no context has it pinned, and no call of a
// member is under way. That is when the garbage collector finds it gone, some time after the last operation that used
// it; nothing has to count operations for that, so none can be forgotten. What closing came to is told to closed.
//
// The function that is returned is Close, for a program that ends sooner.
func (c *Chain) Retire(closed func(error)) (now func() error) {
	runtime.AddCleanup(c, func(k *closing) { go func() { closed(k.close()) }() }, c.closing)
	return c.closing.close
}
