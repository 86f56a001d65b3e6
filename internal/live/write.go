package live

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

var _ audit.Feed = (*Feed)(nil)

type writtenKey struct{}

// written is what a transaction has written so far.
type written struct {
	spans  []*span // by tenant
	topics []gid.ID
}

func (f *Feed) written(tx *store.Tx) *written {
	return store.Get(tx, writtenKey{}, func() *written {
		w := &written{}
		tx.AfterEnd(func(committed bool) {
			if !committed {
				return
			}
			for i, s := range w.spans {
				var topics []gid.ID
				if i == 0 {
					topics = w.topics
				}
				f.committed(s, topics)
			}
			if len(w.spans) == 0 && len(w.topics) > 0 {
				f.committed(&span{}, w.topics)
			}
		})
		return w
	})
}

// Touch raises the signals of a topic once a transaction is committed.
func (f *Feed) Touch(tx *store.Tx, topic gid.ID) {
	w := f.written(tx)
	w.topics = append(w.topics, topic)
}

// Of implements audit.Feed.
func (f *Feed) Of(tx *store.Tx) audit.Listener { return &listener{f.written(tx), tx.Now()} }

// listener notes where in the log a transaction's events are.
type listener struct {
	*written

	at time.Time
}

// Hear implements audit.Listener.
func (l *listener) Hear(tenant gid.ID, _ *gid.ID, id gid.ID, e *audit.Event) {
	changes := e.RecordID != nil && (e.Outcome == "" || e.Outcome == audit.Succeeded) && slices.Contains(Actions, e.Action)
	if !changes && e.Operation == nil {
		return
	}
	s := l.of(tenant)
	if e.Operation != nil && !slices.Contains(s.operations, *e.Operation) {
		s.operations = append(s.operations, *e.Operation)
	}
	if !changes {
		return
	}
	if s.count++; s.count == 1 || bytes.Compare(id[:], s.first[:]) < 0 {
		s.first = id
	}
	if bytes.Compare(id[:], s.last[:]) > 0 {
		s.last = id
	}
}

func (l *listener) of(tenant gid.ID) *span {
	for _, s := range l.spans {
		if s.tenant == tenant {
			return s
		}
	}
	s := &span{tenant: tenant, at: l.at}
	l.spans = append(l.spans, s)
	return s
}

// End implements audit.Listener.
func (*listener) End(context.Context) error { return nil }

const (
	channel = "lethe_live"
	// gather is how long others may wait to hear, so that much is said at once.
	gather = 20 * time.Millisecond
	// maxPayload is below PostgreSQL's 8,000 bytes.
	maxPayload = 7_500
	// again is after how long a connection that was lost is made anew.
	again = time.Second
)

// announced is what others are told of a transaction.
type announced struct {
	span
	topics []gid.ID
}

// message is how it is told.
type message struct {
	Tenant     gid.ID   `json:"tenant"`
	At         int64    `json:"at"` // microseconds since 1970
	First      gid.ID   `json:"first"`
	Last       gid.ID   `json:"last"`
	Count      int      `json:"count"`
	Operations []gid.ID `json:"operations,omitempty"`
	Topics     []gid.ID `json:"topics,omitempty"`
}

type envelope struct {
	From     string            `json:"from"`
	Messages []json.RawMessage `json:"messages"`
}

// announce tells other processes what this one committed: beside the transactions,
// since PostgreSQL commits those that notify one after the other.
func (f *Feed) announce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-f.outgoing:
			var messages []json.RawMessage
			size := 0
			add := func(a announced) {
				const most = 100 // of one transaction; who waits for others looks after two seconds
				text, err := json.Marshal(message{
					a.tenant, a.at.UnixMicro(), a.first, a.last, a.count, a.operations[:min(len(a.operations), most)], a.topics[:min(len(a.topics), most)],
				})
				if err != nil {
					f.log.ErrorContext(ctx, "a change could not be told of", "error", err)
					return
				}
				if size+len(text) > maxPayload {
					f.send(ctx, messages)
					messages, size = nil, 0
				}
				messages, size = append(messages, text), size+len(text)+1
			}
			add(a)
			timer := time.NewTimer(gather)
		gathering:
			for {
				select {
				case a := <-f.outgoing:
					add(a)
				case <-timer.C:
					break gathering
				case <-ctx.Done():
					break gathering
				}
			}
			timer.Stop()
			f.send(context.WithoutCancel(ctx), messages)
		}
	}
}

func (f *Feed) send(ctx context.Context, messages []json.RawMessage) {
	if len(messages) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	payload, err := json.Marshal(envelope{f.name, messages})
	if err == nil {
		var nothing string
		_, err = store.Build(f.db).Add(`SELECT CAST(pg_notify(?, ?) AS text)`, channel, string(payload)).One(ctx, f.db, &nothing)
	}
	if err != nil {
		f.log.WarnContext(ctx, "other processes could not be told of changes, and will look for them", "error", err)
	}
}

// listen hears what others announce.
func (f *Feed) listen(ctx context.Context) {
	for {
		err := f.db.Listen(ctx, channel, f.listening, f.hear)
		if ctx.Err() != nil {
			return
		}
		f.log.WarnContext(ctx, "changes of other processes are known later for a while", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
	}
}

func (f *Feed) hear(payload string) {
	var e envelope
	if json.Unmarshal([]byte(payload), &e) != nil || e.From == f.name {
		return
	}
	for _, text := range e.Messages {
		var m message
		if json.Unmarshal(text, &m) != nil {
			continue // of a version that says it otherwise
		}
		f.take(&span{tenant: m.Tenant, at: time.UnixMicro(m.At).UTC(), first: m.First, last: m.Last, count: m.Count, operations: m.Operations}, m.Topics)
	}
}
