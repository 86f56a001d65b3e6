package live

import (
	"bytes"
	"context"
	"fmt"
	"slices"
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

// transaction is what one transaction did, read from the log once, for all who want to
// know.
type transaction struct {
	span

	changes []Change // nil until they are read
}

// read reads what transactions of a tenant did, those together that nobody has read:
// where there are many readers, each transaction is read once, and where there are many
// transactions, with one statement.
func (f *Feed) read(ctx context.Context, transactions []*transaction) error {
	f.reading.Lock()
	defer f.reading.Unlock()
	unread := slices.DeleteFunc(slices.Clone(transactions), func(t *transaction) bool { return t.changes != nil })
	if len(unread) == 0 {
		return nil
	}
	first, last := unread[0].first, unread[0].last
	by := map[int64][]*transaction{}
	for _, t := range unread {
		if bytes.Compare(t.first[:], first[:]) < 0 {
			first = t.first
		}
		if bytes.Compare(t.last[:], last[:]) > 0 {
			last = t.last
		}
		by[t.at.UnixMicro()] = append(by[t.at.UnixMicro()], t)
	}
	read := make(map[*transaction][]Change, len(unread))
	stmt := store.Build(f.db).Add(`SELECT id, at, action, record_id, from_state, to_state, version, operation_id FROM audit_events
		WHERE tenant_id = ? AND id >= ? AND id <= ? AND outcome = 'SUCCEEDED' AND record_id IS NOT NULL AND `, unread[0].tenant, first, last).Strings("action", Actions)
	err := stmt.Add(` ORDER BY id`).Query(ctx, f.db, func(row store.Row) error {
		var c Change
		if err := row.Scan(&c.Event, &c.At, &c.Action, &c.Record, &c.From, &c.To, &c.Version, &c.Operation); err != nil {
			return err
		}
		for _, t := range by[c.At.UnixMicro()] { // between them may be events of others
			if t.holds(c.Event) {
				read[t] = append(read[t], c)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading changes from the audit log: %w", err)
	}
	for _, t := range unread {
		if t.changes = read[t]; t.changes == nil {
			t.changes = []Change{}
		}
	}
	return nil
}

// holds reports whether an event that carries its time is one of a transaction.
func (t *transaction) holds(event gid.ID) bool {
	return t.has(event) && !slices.ContainsFunc(t.others, func(other span) bool { return other.has(event) })
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

// Next waits for changes, and answers those of all transactions that are known by
// then, up to some number: who is slow takes more at a time. Who is too far behind gets
// ErrLost.
func (c *Changes) Next(ctx context.Context) ([]Change, error) {
	for {
		c.mu.Lock()
		next, lost := c.waiting, c.lost
		c.mu.Unlock()
		switch {
		case lost:
			return nil, ErrLost
		case len(next) == 0:
			if err := c.signal.Wait(ctx); err != nil {
				return nil, err
			}
			continue
		}
		taken, size := 0, 0
		for taken < len(next) && size < together {
			size += next[taken].count
			taken++
		}
		next = next[:taken]
		if err := c.feed.read(ctx, next); err != nil {
			return nil, err
		}
		var changes []Change
		for _, t := range next {
			changes = append(changes, t.changes...)
		}
		c.mu.Lock()
		c.waiting = c.waiting[taken:]
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
