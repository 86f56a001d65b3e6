package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
)

// workload is one kind of work, as requests to either server.
type workload struct {
	name  string
	title string
	aim   string // of Lethe's share of the limit's throughput
	// records is how many records a request is about, where that is worth a figure.
	records int
	// whole says that requests are so long that all of them are counted, and the
	// turn lasts until the last has been answered.
	whole bool
	// next returns what makes the requests of one connection: nil once there is
	// nothing left. Between pairs says that it may stop there.
	next func(s *server, worker int) func() (request []byte, check func([]byte) error, between bool)
	// after puts the database back, outside of what is measured.
	after func(ctx context.Context) error
}

const (
	pageSize = 50
	newest   = 5

	customersQuery = `query Customers($after: Cursor) { customers(first: 50, after: $after) { nodes { id number name email state version
		messages(first: 5, orderBy: {field: SENT_AT, direction: DESC}) { nodes { id subject sentAt sender } } } } }`
	messagesQuery = `query Messages($sender: String!, $from: Time!, $to: Time!) { messages(first: 50, orderBy: {field: SENT_AT, direction: DESC},
		where: {sender: $sender, sentAtGTE: $from, sentAtLT: $to}) { nodes { id subject sender sentAt direction } } }`
	deleteQuery  = `mutation Delete($ids: [ID!]!) { deleteRecords(input: {select: {ids: $ids}}) { operation { id status changed } } }`
	restoreQuery = `mutation Restore($ids: [ID!]!) { restoreRecords(input: {select: {ids: $ids}}) { operation { id status changed } } }`
	threadQuery  = `mutation Thread($thread: String!, $count: Int!) { deleteRecords(input: {select: {messages: {threadKey: $thread}}, expectedCount: $count}) {
		operation { id status changed } } }`
)

// wire is a request as it goes over the wire.
func (b *bench) wire(method, target string, body any) []byte {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			panic(err) // ids and text are JSON
		}
	}
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", method, target, b.token, len(text))
	return append([]byte(head), text...)
}

func (b *bench) graphql(query string, variables map[string]any) []byte {
	return b.wire("POST", "/graphql", map[string]any{"query": query, "variables": variables})
}

// pageOf asks for a page of customers.
func (b *bench) pageOf(s *server, after gid.ID) []byte {
	if s == b.limit {
		return b.wire("GET", "/customers?after="+after.String(), nil)
	}
	var cursor bytes.Buffer
	ent.Cursor{ID: after}.MarshalGQL(&cursor)
	return b.graphql(customersQuery, map[string]any{"after": json.RawMessage(cursor.Bytes())})
}

// period is a sender's correspondence of a time.
type period struct {
	sender   string
	from, to time.Time
}

func (b *bench) messagesOf(s *server, p period) []byte {
	from, to := p.from.Format(time.RFC3339Nano), p.to.Format(time.RFC3339Nano)
	if s == b.limit {
		return b.wire("GET", "/messages?"+url.Values{"sender": {p.sender}, "from": {from}, "to": {to}}.Encode(), nil)
	}
	return b.graphql(messagesQuery, map[string]any{"sender": p.sender, "from": from, "to": to})
}

func (b *bench) verb(s *server, verb string, id gid.ID) []byte {
	if s == b.limit {
		return b.wire("POST", "/"+verb, map[string]any{"ids": []gid.ID{id}})
	}
	query := deleteQuery
	if verb == "restore" {
		query = restoreQuery
	}
	return b.graphql(query, map[string]any{"ids": []gid.ID{id}})
}

func (b *bench) deleteThread(s *server, thread string) []byte {
	if s == b.limit {
		return b.wire("POST", "/delete", map[string]any{"threadKey": thread, "expectedCount": batch})
	}
	return b.graphql(threadQuery, map[string]any{"thread": thread, "count": batch})
}

// holds checks that an answer has so many ids of a type, and no errors.
func holds(prefix string, want int) func([]byte) error {
	id := []byte(`"id":"` + prefix + `_`)
	return func(body []byte) error {
		if n := bytes.Count(body, id); n != want || bytes.Contains(body, []byte(`"errors"`)) {
			return fmt.Errorf("%d of %s instead of %d: %.300s", n, prefix, want, body)
		}
		return nil
	}
}

var (
	pageHolds     = holds("customer", pageSize)
	messagesHold  = holds("message", pageSize)
	newestHold    = holds("message", pageSize*newest)
	errNotChanged = errors.New("not changed")
)

func customersHold(body []byte) error {
	if err := pageHolds(body); err != nil {
		return err
	}
	return newestHold(body)
}

// changed checks that an operation changed so many records, or any.
func changed(n int) func([]byte) error {
	want := fmt.Appendf(nil, `"changed":%d}`, n)
	return func(body []byte) error {
		if !bytes.Contains(body, []byte(`"status":"SUCCEEDED"`)) || n > 0 && !bytes.Contains(body, want) || bytes.Contains(body, []byte(`"errors"`)) {
			return fmt.Errorf("%w: %.500s", errNotChanged, body)
		}
		return nil
	}
}

// workloads are the rows of the table.
func (b *bench) workloads(m *material) []*workload {
	repeat := func(requests func(s *server) [][]byte, check func([]byte) error) func(*server, int) func() ([]byte, func([]byte) error, bool) {
		made := map[*server][][]byte{b.lethe: requests(b.lethe), b.limit: requests(b.limit)}
		return func(s *server, worker int) func() ([]byte, func([]byte) error, bool) {
			list, random := made[s], rand.New(rand.NewPCG(uint64(worker), uint64(time.Now().UnixNano()))) //nolint:gosec // any order will do
			return func() ([]byte, func([]byte) error, bool) { return list[random.IntN(len(list))], check, true }
		}
	}
	return []*workload{
		{name: "a", title: "50 customers, each with its 5 newest messages", aim: "60 %", next: repeat(func(s *server) (list [][]byte) {
			for _, id := range m.cursors {
				list = append(list, b.pageOf(s, id))
			}
			return list
		}, customersHold)},
		{name: "b", title: "50 messages by sender and period, newest first", aim: "60 %", next: repeat(func(s *server) (list [][]byte) {
			for _, p := range m.periods {
				list = append(list, b.messagesOf(s, p))
			}
			return list
		}, messagesHold)},
		{name: "c", title: "delete or restore of one message", aim: "50 %", next: b.back(m.messages, changed(1))},
		{name: "c2", title: "delete or restore of one customer with all that comes along", next: b.back(m.customers, changed(0))},
		b.threads(m),
	}
}

// back deletes and restores one record after the other; each connection has
// records of its own.
func (b *bench) back(ids []gid.ID, check func([]byte) error) func(*server, int) func() ([]byte, func([]byte) error, bool) {
	each := len(ids) / b.connections
	turn := make([]int, b.connections)
	return func(s *server, worker int) func() ([]byte, func([]byte) error, bool) {
		gone := false
		return func() ([]byte, func([]byte) error, bool) {
			id := ids[worker*each+turn[worker]%each]
			if gone = !gone; gone {
				return b.verb(s, "delete", id), check, false
			}
			turn[worker]++
			return b.verb(s, "restore", id), check, true
		}
	}
}

// threads deletes one thread after the other, and puts them back after a turn.
func (b *bench) threads(m *material) *workload {
	var taken, turn atomic.Int64
	return &workload{
		name: "d", title: "delete of 1,000 messages by filter", aim: "70 %", records: batch, whole: true,
		next: func(s *server, _ int) func() ([]byte, func([]byte) error, bool) {
			return func() ([]byte, func([]byte) error, bool) {
				if turn.Add(1) > int64(len(m.threads)) {
					return nil, nil, true
				}
				// The next turn goes on with other threads: these have been touched.
				return b.deleteThread(s, m.threads[int(taken.Add(1)-1)%len(m.threads)]), changed(batch), true
			}
		},
		after: func(ctx context.Context) error {
			turn.Store(0)
			return b.putBack(ctx)
		},
	}
}
