package live

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// Actions are those after which a record is not what it was.
var Actions = []string{"CREATE", "UPDATE", "DELETE", "VOID", "ARCHIVE", "SUSPEND", "RESTORE", "UNDO", "PURGE"}

// Change is what became of a record.
type Change struct {
	Event     gid.ID // of the audit log
	At        time.Time
	Action    string // one of Actions
	Record    gid.ID
	From, To  *lifecycle.State // null before it was created, and once it is purged
	Version   *int
	Operation *gid.ID
}

// transaction is what one transaction did, read from the log once, by the first of
// those who want to know.
type transaction struct {
	span

	mu      sync.Mutex
	changes []Change
}

func (t *transaction) read(ctx context.Context, db *store.DB) ([]Change, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changes != nil {
		return t.changes, nil
	}
	stmt := store.Build(db).Add(`SELECT id, at, action, record_id, from_state, to_state, version, operation_id FROM audit_events
		WHERE tenant_id = ? AND id >= ? AND id <= ? AND at = ? AND outcome = 'SUCCEEDED' AND record_id IS NOT NULL AND `, t.tenant, t.first, t.last, t.at).Strings("action", Actions)
	for _, other := range t.others {
		stmt.Add(` AND NOT (id >= ? AND id <= ?)`, other.first, other.last)
	}
	changes := make([]Change, 0, t.count)
	err := stmt.Add(` ORDER BY id`).Query(ctx, db, func(row store.Row) error {
		var c Change
		err := row.Scan(&c.Event, &c.At, &c.Action, &c.Record, &c.From, &c.To, &c.Version, &c.Operation)
		changes = append(changes, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading changes from the audit log: %w", err)
	}
	t.changes = changes
	return changes, nil
}

// Changes are those of a tenant since somebody began to wait for them.
type Changes struct {
	feed   *Feed
	tenant gid.ID
	signal Signal

	mu      sync.Mutex
	waiting []*transaction
	lost    bool
}

// Changes begins to wait for the changes of a tenant; the caller closes it.
func (f *Feed) Changes(ctx context.Context, tenant gid.ID) (*Changes, error) {
	c := &Changes{feed: f, tenant: tenant, signal: newSignal()}
	f.mu.Lock()
	first := len(f.readers[tenant]) == 0
	if first {
		f.readers[tenant], f.seen[tenant] = map[*Changes]struct{}{}, map[int64]*instant{}
	}
	f.readers[tenant][c] = struct{}{}
	f.mu.Unlock()
	if !first {
		return c, nil
	}
	// What came before is no news.
	before, _, err := f.events(ctx, []gid.ID{tenant})
	if err != nil {
		c.Close()
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen[tenant] != nil {
		for i := range before {
			at := f.instant(tenant, before[i].at)
			if before[i].count > at.count {
				at.count = before[i].count
				at.spans = append(at.spans, span{first: before[i].first, last: before[i].first}) // what it spans is told of by who commits it now
			}
		}
	}
	return c, nil
}

// Close ends the wait.
func (c *Changes) Close() {
	f := c.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.readers[c.tenant], c)
	if len(f.readers[c.tenant]) == 0 {
		delete(f.readers, c.tenant)
		delete(f.seen, c.tenant)
	}
}

func (c *Changes) add(t *transaction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == maxWaiting {
		c.lost = true
	} else {
		c.waiting = append(c.waiting, t)
	}
	c.signal.raise()
}

// Next waits for the changes of the next transaction. Who is too far behind gets
// ErrLost.
func (c *Changes) Next(ctx context.Context) ([]Change, error) {
	for {
		c.mu.Lock()
		var next *transaction
		lost := c.lost
		if len(c.waiting) > 0 {
			next = c.waiting[0]
		}
		c.mu.Unlock()
		switch {
		case lost:
			return nil, ErrLost
		case next == nil:
			if err := c.signal.Wait(ctx); err != nil {
				return nil, err
			}
			continue
		}
		changes, err := next.read(ctx, c.feed.db)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		c.waiting = c.waiting[1:]
		c.mu.Unlock()
		if len(changes) > 0 {
			return changes, nil
		}
	}
}

// Signal says that something is to be looked at, however often it was said.
type Signal struct{ raised chan struct{} }

func newSignal() Signal { return Signal{make(chan struct{}, 1)} }

func (s Signal) raise() {
	select {
	case s.raised <- struct{}{}:
	default:
	}
}

// Wait waits until there is something to look at.
func (s Signal) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.raised:
		return nil
	}
}

// Signal is raised when something is told of a topic, which is an operation or, of
// notifications, a tenant; and every two seconds, since that may be missed. The caller
// ends it.
func (f *Feed) Signal(topic gid.ID) (signal *Signal, end func()) {
	made := newSignal()
	signal = &made
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.signals[topic] == nil {
		f.signals[topic] = map[*Signal]struct{}{}
	}
	f.signals[topic][signal] = struct{}{}
	return signal, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.signals[topic], signal)
		if len(f.signals[topic]) == 0 {
			delete(f.signals, topic)
		}
	}
}

// Waiting is how many wait for changes or signals.
func (f *Feed) Waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, readers := range f.readers {
		n += len(readers)
	}
	for _, signals := range f.signals {
		n += len(signals)
	}
	return n
}
