package casbin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// Source is where policies are stored. The version of a tenant's policy changes with every change to its rows.
type Source interface {
	// Head returns the version alone; it is asked for often.
	Head(ctx context.Context, tenant string) (version uint64, err error)
	// Load returns the rows and their version, both of one moment. A tenant without rows is no error.
	Load(ctx context.Context, tenant string) (version uint64, rules []Rule, err error)
}

// tenantPolicy holds a tenant's snapshot. Whoever loads it holds the lock, a channel of one so that waiting
// for it can end with a context.
type tenantPolicy struct {
	snapshot atomic.Pointer[snapshot]
	lock     chan struct{}
}

// current returns the tenant's snapshot: the pinned one, or the newest known, or one loaded now.
func (p *Plugin) current(ctx context.Context, tenant string) (*snapshot, error) {
	if pinned, ok := ctx.Value(pinKey{p, tenant}).(*snapshot); ok {
		return pinned, nil
	}
	t := p.tenant(tenant)
	if s := t.snapshot.Load(); s != nil {
		return s, nil
	}
	return p.load(ctx, tenant, t, func(s *snapshot) bool { return s != nil })
}

type pinKey struct {
	plugin *Plugin
	tenant string
}

// Pin implements authz.Pinner.
func (p *Plugin) Pin(ctx context.Context, tenant string) (context.Context, error) {
	s, err := p.current(ctx, tenant)
	if err != nil {
		return ctx, err
	}
	return context.WithValue(ctx, pinKey{p, tenant}, s), nil
}

// Refresh brings the tenant's policy up to what the source has now.
func (p *Plugin) Refresh(ctx context.Context, tenant string) error {
	head, err := p.source.Head(ctx, tenant)
	if err != nil {
		return fmt.Errorf("casbin: policy version of tenant %s: %w", tenant, err)
	}
	t := p.tenant(tenant)
	if s := t.snapshot.Load(); s != nil && s.version == head {
		return nil
	}
	_, err = p.load(ctx, tenant, t, func(s *snapshot) bool { return s != nil && s.version == head })
	return err
}

// Repin pins what the source has now, also where an older policy is pinned.
func (p *Plugin) Repin(ctx context.Context, tenant string) (context.Context, error) {
	if err := p.Refresh(ctx, tenant); err != nil {
		return ctx, err
	}
	return context.WithValue(ctx, pinKey{p, tenant}, p.tenant(tenant).snapshot.Load()), nil
}

// Run refreshes the tenants in use every poll interval, until the context ends. A failure is reported to
// Options.OnLoad and tried again; meanwhile the last known policy stays in force.
func (p *Plugin) Run(ctx context.Context) error {
	tick := time.NewTicker(p.poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, tenant := range slices.Sorted(maps.Keys(*p.tenants.Load())) {
			if err := p.refreshInTime(ctx, tenant); err != nil && ctx.Err() == nil {
				p.onLoad(tenant, p.Version(ctx, tenant), nil, err)
			}
		}
	}
}

// refreshTimeout keeps one stuck query from holding up all tenants for good.
const refreshTimeout = 10 * time.Second

func (p *Plugin) refreshInTime(ctx context.Context, tenant string) error {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	return p.Refresh(ctx, tenant)
}

// tenant returns the place of a tenant's snapshot. The map is copied when one is added, so reading takes no lock.
func (p *Plugin) tenant(name string) *tenantPolicy {
	for {
		known := p.tenants.Load()
		if t, ok := (*known)[name]; ok {
			return t
		}
		added := maps.Clone(*known)
		t := &tenantPolicy{lock: make(chan struct{}, 1)}
		added[name] = t
		if p.tenants.CompareAndSwap(known, &added) {
			return t
		}
	}
}

// load reads and compiles a policy, unless someone else did while it waited and the result will do.
func (p *Plugin) load(ctx context.Context, tenant string, t *tenantPolicy, willDo func(*snapshot) bool) (*snapshot, error) {
	select {
	case t.lock <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("casbin: wait for policy of tenant %s: %w", tenant, ctx.Err())
	}
	defer func() { <-t.lock }()
	if s := t.snapshot.Load(); willDo(s) {
		return s, nil
	}
	version, rules, err := p.source.Load(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("casbin: load policy of tenant %s: %w", tenant, err)
	}
	s, findings := p.compile(tenant, version, rules)
	t.snapshot.Store(s)
	p.onLoad(tenant, version, findings, nil)
	return s, nil
}

// compile makes a snapshot of rows that were read. Rows that should never have been stored make one that
// permits nothing: leaving them out could drop a deny.
func (p *Plugin) compile(tenant string, version uint64, rules []Rule) (*snapshot, []Finding) {
	findings := p.vocabulary.Validate(tenant, rules)
	var invalid []Finding
	for _, f := range findings {
		if f.Severity == Error {
			invalid = append(invalid, f)
		}
	}
	if len(invalid) > 0 {
		return &snapshot{version: version, invalid: invalid}, findings
	}
	s, err := compile(version, slices.Clone(rules), p.vocabulary.Schema)
	if err != nil {
		f := Finding{Severity: Error, Message: err.Error()}
		return &snapshot{version: version, invalid: []Finding{f}}, append(findings, f)
	}
	return s, findings
}

var errInvalid = errors.New("casbin: the policy of this tenant has invalid rows")
