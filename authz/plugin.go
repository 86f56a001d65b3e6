package authz

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Factory builds a plugin from its part of the configuration, and refuses what it does not understand. The context is
// for building alone: what a plugin goes on doing afterwards ends with its Close, if it is an io.Closer.
type Factory func(ctx context.Context, name string, config json.RawMessage) (Plugin, error)

var registry = struct {
	sync.RWMutex
	kinds map[string]Factory
}{kinds: map[string]Factory{}}

// Register makes a kind of plugin known. It is called from init, and panics when the kind is taken.
func Register(kind string, f Factory) {
	registry.Lock()
	defer registry.Unlock()
	if _, taken := registry.kinds[kind]; taken || kind == "" || f == nil {
		panic(fmt.Sprintf("authz: plugin kind %q is empty, has no factory, or is registered twice", kind))
	}
	registry.kinds[kind] = f
}

// Kinds returns the registered kinds, sorted.
func Kinds() []string {
	registry.RLock()
	defer registry.RUnlock()
	return slices.Sorted(maps.Keys(registry.kinds))
}

// New builds a plugin of a registered kind.
func New(ctx context.Context, kind, name string, config json.RawMessage) (Plugin, error) {
	registry.RLock()
	f, ok := registry.kinds[kind]
	registry.RUnlock()
	if !ok {
		return nil, fmt.Errorf("authz: plugin %q: unknown kind %q, known are %v", name, kind, Kinds())
	}
	return f.build(ctx, kind, name, config)
}

// build takes a panic for an error, and does not wait longer than the context: a server whose chain is read again must
// outlive it. A plugin that comes too late is closed.
func (f Factory) build(ctx context.Context, kind, name string, config json.RawMessage) (Plugin, error) {
	type result struct {
		p   Plugin
		err error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if v := recover(); v != nil {
				r = result{nil, fmt.Errorf("panic: %v", v)}
			}
			done <- r
		}()
		r.p, r.err = f(ctx, name, config)
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		r.err = ctx.Err()
		go func() {
			late := <-done
			_ = (&closing{members: []Member{{Name: name, Plugin: late.p}}}).close() // nobody waits for it
		}()
	}
	if r.err != nil {
		return nil, fmt.Errorf("authz: plugin %q of kind %q: %w", name, kind, r.err)
	}
	return r.p, nil
}
