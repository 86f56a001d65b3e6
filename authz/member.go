package authz

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
)

// decide returns one decision per request whatever the plugin does.
func (c *Chain) decide(ctx context.Context, m Member, reqs []Request) []Decision {
	ended := c.begin(m, MethodDecide, len(reqs))
	ds, why, failure := []Decision(nil), c.unpinned(ctx, m, reqs), FailurePin
	if why == nil {
		own := ownCopy(m, reqs)
		ds, why, failure = call(c.under(ctx, m), c, m, func(ctx context.Context) ([]Decision, error) {
			ds, err := m.Plugin.Decide(ctx, own)
			if err == nil && len(ds) != len(own) {
				err = fmt.Errorf("%d decisions for %d requests", len(ds), len(own))
			}
			return slices.Clone(ds), err
		})
	}
	if why != nil {
		ds = slices.Repeat([]Decision{{Indeterminate, why}}, len(reqs))
	}
	for i := range ds {
		if ds[i].Effect > Indeterminate {
			ds[i].Effect = Indeterminate
		}
	}
	ended(ctx, failure, ds)
	return ds
}

func (c *Chain) plan(ctx context.Context, m Member, planner Planner, q Query) (Plan, []Reason) {
	ended := c.begin(m, MethodPlan, 1)
	reqs := []Request{q}
	p, why, failure := Plan{}, c.unpinned(ctx, m, reqs), FailurePin
	if why == nil {
		own := ownCopy(m, reqs)
		p, why, failure = call(c.under(ctx, m), c, m, func(ctx context.Context) (Plan, error) {
			p, err := planner.Plan(ctx, own[0])
			return p, errors.Join(err, checkPlan(p))
		})
	}
	ended(ctx, failure, nil)
	return p, why
}

func (c *Chain) explain(ctx context.Context, m Member, e Explainer, r Request) []Reason {
	ended := c.begin(m, MethodExplain, 1)
	reqs := []Request{r}
	reasons, why, failure := []Reason(nil), c.unpinned(ctx, m, reqs), FailurePin
	if why == nil {
		own := ownCopy(m, reqs)
		reasons, why, failure = call(c.under(ctx, m), c, m, func(ctx context.Context) ([]Reason, error) { return e.Explain(ctx, own[0]) })
	}
	ended(ctx, failure, nil)
	return append(reasons, why...)
}

// version is guarded against panics only: it is asked for too often for a goroutine each time, and promises not
// to wait. For the same reason it is observed only when it fails.
func (c *Chain) version(ctx context.Context, m Member, v Versioned, tenant string) (version uint64) {
	defer func() {
		if recover() != nil {
			version = 0
			c.begin(m, MethodVersion, 0)(ctx, FailurePanic, nil)
		}
	}()
	return v.Version(c.under(ctx, m), tenant)
}

// attributes is guarded as version is. A member that panics may look at any.
func (c *Chain) attributes(ctx context.Context, m Member, r AttributeReader, tenant, typ string) (names []string, known bool) {
	defer func() {
		if recover() != nil {
			names, known = nil, false
			c.begin(m, MethodAttributes, 0)(ctx, FailurePanic, nil)
		}
	}()
	return r.Attributes(c.under(ctx, m), tenant, typ)
}

// fieldNames is guarded as version is. A member that panics may speak of any.
func (c *Chain) fieldNames(ctx context.Context, m Member, f FieldNamer, tenant, typ string) (names []string, known bool) {
	defer func() {
		if recover() != nil {
			names, known = nil, false
			c.begin(m, MethodFields, 0)(ctx, FailurePanic, nil)
		}
	}()
	return f.FieldNames(c.under(ctx, m), tenant, typ)
}

// call runs a plugin's method. An error, a panic and a timeout become a reason; a method that ignores its
// context is left behind, and keeps its chain from being closed until it returns.
func call[T any](ctx context.Context, c *Chain, m Member, f func(context.Context) (T, error)) (T, []Reason, Failure) {
	type result struct {
		v        T
		err      error
		panicked bool
	}
	timeout := m.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan result, 1)
	go func() {
		defer runtime.KeepAlive(c)
		var r result
		returned := false
		defer func() {
			if p := recover(); p != nil {
				r.err, r.panicked = fmt.Errorf("panic: %v", p), true
			} else if !returned {
				r.err = errors.New("the plugin ended its goroutine")
			}
			done <- r
		}()
		r.v, r.err = f(ctx)
		returned = true
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		r.err = ctx.Err()
	}
	if r.err == nil {
		return r.v, nil, ""
	}
	code, failure := CodePluginError, FailureError
	switch {
	case r.panicked:
		failure = FailurePanic
	case errors.Is(r.err, context.DeadlineExceeded):
		code, failure = CodePluginTimeout, FailureTimeout
	case errors.Is(r.err, context.Canceled) && ctx.Err() != nil:
		failure = FailureCanceled
	}
	var zero T
	return zero, []Reason{{Plugin: m.Name, Code: code, Detail: r.err.Error()}}, failure
}
