// Package live tells those who wait for changes that there are some, whichever
// process committed them.
//
// What happened is in the audit log; the feed says where in it to look. A process
// knows what it committed itself. What others committed it hears of from
// PostgreSQL, and whatever it did not hear of it finds in the log when it looks
// there every two seconds: a process may have been killed before it could tell, and
// SQLite sends no notifications. Where nobody waits, nothing is looked at.
package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

const (
	// pollEvery is how late it may be known what nobody told of.
	pollEvery = 2 * time.Second
	// window is how long a transaction may take from writing its events to committing
	// them, and still be found by who looks.
	window = 30 * time.Second
	// maxWaiting is how many transactions a slow reader may be behind, and together how
	// many changes he takes at a time, but for those of the same transaction.
	maxWaiting = 1_000
	together   = 500
)

// ErrLost reports a reader who was so far behind that he has missed changes.
var ErrLost = errors.New("live: too many changes came at once")

// Feed is what one process knows of changes.
type Feed struct {
	db   *store.DB
	log  *slog.Logger
	name string // of this process, to know its own announcements by
	poll time.Duration
	// listening is called when it begins to hear of others.
	listening func()

	outgoing chan announced

	mu      sync.Mutex
	tenants map[gid.ID]*tenant // that have readers
	topics  map[gid.ID]*topic  // that somebody waits for
}

// tenant is one whose changes somebody waits for.
type tenant struct {
	readers map[*Changes]struct{}
	seen    map[int64]*instant // by time
	// ready is closed once it is known what there was before there were readers.
	ready chan struct{}
	known bool
	// reading is taken by who reads the log.
	reading chan struct{}
}

// New returns a feed of a database.
func New(db *store.DB, log *slog.Logger) *Feed {
	return &Feed{
		db: db, log: log, name: gid.New(gid.Event).UUID(), poll: pollEvery, listening: func() {}, outgoing: make(chan announced, 1_024),
		tenants: map[gid.ID]*tenant{}, topics: map[gid.ID]*topic{},
	}
}

// Run hears of what other processes do until the context ends.
func (f *Feed) Run(ctx context.Context) error {
	var working sync.WaitGroup
	defer working.Wait()
	if f.db.Notifies() {
		working.Go(func() { f.announce(ctx) })
		working.Go(func() { f.listen(ctx) })
	}
	tick := time.NewTicker(f.poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := f.look(ctx); err != nil && ctx.Err() == nil {
			f.log.WarnContext(ctx, "changes could not be looked for", "error", err)
		}
	}
}

// span is what one transaction wrote of a tenant: its events from the first to the
// last that carry its time, but for others.
type span struct {
	tenant      gid.ID
	at          time.Time
	first, last gid.ID
	count       int
	others      []span
	operations  []gid.ID
}

// has reports whether an event is one of another span.
func (s *span) has(id gid.ID) bool {
	return bytes.Compare(id[:], s.first[:]) >= 0 && bytes.Compare(id[:], s.last[:]) <= 0
}

// instant is what is known of the events of a tenant that carry one time.
type instant struct {
	count int
	spans []span
	found bool   // by looking
	last  gid.ID // of its events
}

func (at *instant) add(s *span) {
	at.spans = append(slices.Clip(at.spans), *s)
	if bytes.Compare(s.last[:], at.last[:]) > 0 {
		at.last = s.last
	}
}

// committed hands on what was committed here.
func (f *Feed) committed(s *span, topics []gid.ID) {
	f.take(s, topics)
	if !f.db.Notifies() {
		return
	}
	select {
	case f.outgoing <- announced{*s, topics}:
	default: // others will find it
	}
}

// take hands a transaction on to who waits for it, once.
func (f *Feed) take(s *span, topics []gid.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, list := range [][]gid.ID{topics, s.operations} {
		for _, id := range list {
			f.topics[id].raise()
		}
	}
	t := f.tenants[s.tenant]
	if s.count == 0 || t == nil {
		return
	}
	at := t.instant(s.at)
	for i := range at.spans {
		if at.spans[i].first == s.first || at.found && at.spans[i].has(s.first) {
			return
		}
	}
	at.add(s)
	at.count += s.count
	t.hand(s)
}

func (t *tenant) instant(at time.Time) *instant {
	key := at.UnixMicro()
	if t.seen[key] == nil {
		t.seen[key] = &instant{}
	}
	return t.seen[key]
}

func (t *tenant) hand(s *span) {
	what := &transaction{span: *s}
	for reader := range t.readers {
		reader.add(what)
	}
}

// look finds what nobody told of.
func (f *Feed) look(ctx context.Context) error {
	return errors.Join(f.lookForChanges(ctx), f.lookForTopics(ctx))
}

func (f *Feed) lookForChanges(ctx context.Context) error {
	var tenants []gid.ID
	f.mu.Lock()
	for id, t := range f.tenants {
		if t.known {
			tenants = append(tenants, id)
		}
	}
	f.mu.Unlock()
	if len(tenants) == 0 {
		return nil
	}
	found, oldest, err := f.events(ctx, tenants)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range found {
		s := &found[i]
		t := f.tenants[s.tenant]
		if t == nil || !t.known {
			continue
		}
		at := t.instant(s.at)
		if s.count <= at.count {
			continue
		}
		s.others = at.spans
		s.count, at.count = s.count-at.count, s.count
		at.add(s)
		at.found = true
		t.hand(s)
	}
	for _, t := range f.tenants {
		for key, at := range t.seen {
			if bytes.Compare(at.last[:], oldest[:]) < 0 {
				delete(t.seen, key)
			}
		}
	}
	return nil
}

// events are the changes of the last while, by the time they carry; and the id from
// which on it looked.
func (f *Feed) events(ctx context.Context, tenants []gid.ID) ([]span, gid.ID, error) {
	since := gid.Derive(gid.Event, gid.New(gid.Event).Time().Add(-window), "")
	var found []span
	stmt := store.Build(f.db).Add(`SELECT tenant_id, at, count(*), min(CAST(id AS text)), max(CAST(id AS text)) FROM audit_events WHERE `).IDs("tenant_id", tenants).
		Add(` AND id > ? AND outcome = 'SUCCEEDED' AND record_id IS NOT NULL AND `, since).Strings("action", Actions).Add(` GROUP BY tenant_id, at ORDER BY at`)
	err := stmt.Query(ctx, f.db, func(row store.Row) error {
		var s span
		var first, last string
		if err := row.Scan(&s.tenant, &s.at, &s.count, &first, &last); err != nil {
			return err
		}
		var errs [2]error
		s.first, errs[0] = gid.ParseUUID(first)
		s.last, errs[1] = gid.ParseUUID(last)
		found = append(found, s)
		return errors.Join(errs[:]...)
	})
	if err != nil {
		return nil, since, fmt.Errorf("looking for changes in the audit log: %w", err)
	}
	return found, since, nil
}
