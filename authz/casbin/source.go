package casbin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
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

// Watcher is implemented by sources that are told of changes.
type Watcher interface {
	// Watch calls changed with each tenant whose policy changed, and with "" once it has begun: what changed before
	// is not told. It returns when the context ends or it lost touch, and ErrCannotWatch if it is no use trying again.
	Watch(ctx context.Context, changed func(tenant string)) error
}

// ErrCannotWatch is answered by a Watcher whose storage tells nothing.
var ErrCannotWatch = errors.New("casbin: the source cannot be watched")

// HeadsReader is implemented by sources that read the versions of many tenants at once.
type HeadsReader interface {
	// Heads answers the versions by tenant. A tenant without rows is left out or has version 0.
	Heads(ctx context.Context, tenants []string) (map[string]uint64, error)
}

// Run refreshes the tenants in use every poll interval, and at once those a Watcher names, until the context
// ends. Polling goes on beside the watch: what is told while nobody listens is not told again. A failure is
// reported to Options.OnLoad and tried again; meanwhile the last known policy stays in force.
func (p *Plugin) Run(ctx context.Context) error {
	told := &changes{signal: make(chan struct{}, 1)}
	var watching sync.WaitGroup
	defer watching.Wait()
	if w, ok := p.source.(Watcher); ok {
		watching.Go(func() { p.watch(ctx, w, told.add) })
	}
	tick := time.NewTicker(p.poll)
	defer tick.Stop()
	for {
		var due []string
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			due = p.inUse()
		case <-told.signal:
			due = told.take(p.inUse())
		}
		p.refreshAll(ctx, due)
	}
}

func (p *Plugin) inUse() []string { return slices.Sorted(maps.Keys(*p.tenants.Load())) }

// changes are the tenants that were named since the last look, each once however often that was.
type changes struct {
	mu      sync.Mutex
	tenants map[string]bool
	signal  chan struct{}
}

func (c *changes) add(tenant string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tenants == nil {
		c.tenants = map[string]bool{}
	}
	c.tenants[tenant] = true
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

// take returns those of the tenants that were named, or all.
func (c *changes) take(of []string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	named := c.tenants
	c.tenants = nil
	if named[""] {
		return of
	}
	return slices.DeleteFunc(of, func(tenant string) bool { return !named[tenant] })
}

// Waits between attempts to watch. While none succeeds, changes are seen by the poll.
const (
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 5 * time.Second
)

// watch keeps a watch going until the context ends.
func (p *Plugin) watch(ctx context.Context, w Watcher, changed func(tenant string)) {
	backoff := firstBackoff
	for {
		err := w.Watch(ctx, func(tenant string) {
			if tenant == "" {
				backoff = firstBackoff
			}
			changed(tenant)
		})
		if ctx.Err() != nil || errors.Is(err, ErrCannotWatch) {
			return
		}
		p.onLoad("", 0, nil, fmt.Errorf("casbin: the watch on policies ended, trying again in %s: %w", backoff, err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// refreshTimeout keeps one stuck query from holding up all tenants for good.
const refreshTimeout = 10 * time.Second

// refreshAll asks for the versions of all tenants at once where the source can tell them so.
func (p *Plugin) refreshAll(ctx context.Context, tenants []string) {
	if len(tenants) == 0 {
		return
	}
	if h, ok := p.source.(HeadsReader); ok {
		heads, err := p.headsInTime(ctx, h, tenants)
		if err != nil {
			p.failed(ctx, "", fmt.Errorf("casbin: policy versions: %w", err))
			return
		}
		tenants = slices.DeleteFunc(tenants, func(tenant string) bool {
			s := p.tenant(tenant).snapshot.Load()
			return s != nil && s.version == heads[tenant]
		})
	}
	for _, tenant := range tenants {
		if err := p.refreshInTime(ctx, tenant); err != nil {
			p.failed(ctx, tenant, err)
		}
	}
}

// failed reports what is not only the end of Run.
func (p *Plugin) failed(ctx context.Context, tenant string, err error) {
	if ctx.Err() == nil {
		p.onLoad(tenant, p.Version(ctx, tenant), nil, err)
	}
}

func (p *Plugin) headsInTime(ctx context.Context, h HeadsReader, tenants []string) (map[string]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	return h.Heads(ctx, tenants)
}

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
