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

// readWithin is how long the database has to answer one reader, for whom others wait.
const readWithin = 10 * time.Second

// read reads what transactions of a tenant did, those together that nobody has read:
// where there are many readers, each transaction is read once, and where there are many
// transactions, with one statement.
func (c *Changes) read(ctx context.Context, transactions []*transaction) error {
	select {
	case c.of.reading <- struct{}{}:
		defer func() { <-c.of.reading }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
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
	stmt := store.Build(c.feed.db).Add(`SELECT id, at, action, record_id, from_state, to_state, version, operation_id FROM audit_events
		WHERE tenant_id = ? AND id >= ? AND id <= ? AND outcome = 'SUCCEEDED' AND record_id IS NOT NULL AND `, unread[0].tenant, first, last).Strings("action", Actions)
	err := stmt.Add(` ORDER BY id`).Query(ctx, c.feed.db, func(row store.Row) error {
		var change Change
		if err := row.Scan(&change.Event, &change.At, &change.Action, &change.Record, &change.From, &change.To, &change.Version, &change.Operation); err != nil {
			return err
		}
		for _, t := range by[change.At.UnixMicro()] { // between them may be events of others
			if t.holds(change.Event) {
				read[t] = append(read[t], change)
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
	of     *tenant
	signal Signal

	mu      sync.Mutex
	waiting []*transaction
	lost    bool
}

// Changes begins to wait for the changes of a tenant; the caller closes it.
func (f *Feed) Changes(ctx context.Context, id gid.ID) (*Changes, error) {
	c := &Changes{feed: f, tenant: id, signal: newSignal()}
	for {
		f.mu.Lock()
		t := f.tenants[id]
		switch {
		case t == nil: // who comes first finds out what is no news
			t = &tenant{readers: map[*Changes]struct{}{c: {}}, seen: map[int64]*instant{}, ready: make(chan struct{}), reading: make(chan struct{}, 1)}
			f.tenants[id], c.of = t, t
			f.mu.Unlock()
			if err := f.know(ctx, id, t); err != nil {
				return nil, err
			}
			return c, nil
		case t.known:
			t.readers[c], c.of = struct{}{}, t
			f.mu.Unlock()
			return c, nil
		}
		f.mu.Unlock()
		select {
		case <-t.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// know marks what was committed before there were readers. If that fails there are none.
func (f *Feed) know(ctx context.Context, id gid.ID, t *tenant) error {
	before, _, err := f.events(ctx, []gid.ID{id})
	f.mu.Lock()
	defer f.mu.Unlock()
	defer close(t.ready)
	if err != nil {
		delete(f.tenants, id)
		return err
	}
	for i := range before {
		at := t.instant(before[i].at)
		if before[i].count > at.count {
			at.count = before[i].count
			// Who told of it late tells of its first event; others of that time are told of by who commits them now.
			at.add(&span{first: before[i].first, last: before[i].first})
			at.last = before[i].last
		}
	}
	t.known = true
	return nil
}

// Close ends the wait.
func (c *Changes) Close() {
	f := c.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(c.of.readers, c)
	if len(c.of.readers) == 0 && f.tenants[c.tenant] == c.of {
		delete(f.tenants, c.tenant)
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
		if err := c.read(ctx, next); err != nil {
			return nil, err
		}
		var changes []Change
		for _, t := range next {
			changes = append(changes, t.changes...)
		}
		// Who waited for another to commit wrote his events after him, and may be heard of before him.
		slices.SortFunc(changes, func(a, b Change) int { return bytes.Compare(a.Event[:], b.Event[:]) })
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
