package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// compare insists that both servers answer the same and leave the same behind:
// a limit that does less is none.
func (b *bench) compare(ctx context.Context, m *material) (err error) {
	for i := range min(5, len(m.cursors), len(m.periods)) {
		if err := b.sameAnswer(func(s *server) []byte { return b.pageOf(s, m.cursors[i]) }); err != nil {
			return fmt.Errorf("a page of customers: %w", err)
		}
		if err := b.sameAnswer(func(s *server) []byte { return b.messagesOf(s, m.periods[i]) }); err != nil {
			return fmt.Errorf("messages of a sender: %w", err)
		}
	}
	for _, id := range []gid.ID{m.messages[0], m.customers[0]} {
		for _, verb := range []string{"delete", "restore"} {
			if err := b.sameTrace(ctx, id, verb, m.customers[0] == id); err != nil {
				return fmt.Errorf("%s of %s: %w", verb, id, err)
			}
		}
	}
	if len(m.threads) == 0 {
		return errors.New("there are too few messages for a thread")
	}
	if err := b.sameThread(ctx, m.threads[0]); err != nil {
		return fmt.Errorf("delete of a thread: %w", err)
	}
	return b.opens(m.messages[0])
}

func (b *bench) ask(s *server, request []byte) ([]byte, error) {
	c, err := dial(s.address)
	if err != nil {
		return nil, err
	}
	defer c.close()
	body, err := c.do(request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return append([]byte(nil), body...), nil
}

func (b *bench) sameAnswer(request func(*server) []byte) error {
	var answers [2]any
	for i, s := range []*server{b.lethe, b.limit} {
		body, err := b.ask(s, request(s))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(body, &answers[i]); err != nil {
			return err
		}
	}
	if !reflect.DeepEqual(answers[0], answers[1]) {
		return fmt.Errorf("lethe answers\n%v\nand the limit\n%v", answers[0], answers[1])
	}
	return nil
}

// sameTrace carries a verb out by Lethe and, once that is taken back, by the
// limit, and compares what they leave behind.
func (b *bench) sameTrace(ctx context.Context, id gid.ID, verb string, along bool) error {
	back := map[string]string{"delete": "restore", "restore": "delete"}[verb]
	var traces [2][]trace
	for i, s := range []*server{b.lethe, b.limit} {
		if verb == "restore" { // it needs something to restore
			if err := b.expect(b.lethe, b.verb(b.lethe, back, id), 0); err != nil {
				return err
			}
		}
		if err := b.expect(s, b.verb(s, verb, id), 0); err != nil {
			return err
		}
		var err error
		if traces[i], err = b.traces(ctx); err != nil {
			return err
		}
		if along != (len(traces[i]) > 1) {
			return fmt.Errorf("%d records changed", len(traces[i]))
		}
		if verb == "delete" {
			if err := b.expect(b.lethe, b.verb(b.lethe, back, id), 0); err != nil {
				return err
			}
		}
	}
	return same(traces)
}

func (b *bench) sameThread(ctx context.Context, thread string) error {
	var traces [2][]trace
	for i, s := range []*server{b.lethe, b.limit} {
		err := b.expect(s, b.deleteThread(s, thread), batch)
		if err == nil {
			traces[i], err = b.traces(ctx)
		}
		if err := errors.Join(err, b.putBack(ctx)); err != nil {
			return err
		}
	}
	return same(traces)
}

func (b *bench) expect(s *server, request []byte, n int) error {
	body, err := b.ask(s, request)
	if err != nil {
		return err
	}
	return changed(n)(body)
}

func same(traces [2][]trace) error {
	if len(traces[0]) != len(traces[1]) {
		return fmt.Errorf("lethe changes %d records, the limit %d", len(traces[0]), len(traces[1]))
	}
	for i := range traces[0] {
		if !reflect.DeepEqual(traces[0][i], traces[1][i]) {
			return fmt.Errorf("lethe leaves\n%+v\nand the limit\n%+v", traces[0][i], traces[1][i])
		}
	}
	return nil
}

// trace is what an operation leaves of one record: row, item and event, but for
// ids and times that are new each time.
type trace struct {
	Record                                        gid.ID
	Direct                                        bool
	Depth                                         int
	CameWith                                      gid.ID
	Outcome, ItemState, Action, EventType         string
	From, To, State, PriorState                   string
	Versions                                      [2]int64 // of row and event, since the item
	HasOperation, Retired, Clock                  bool
	Purge                                         time.Duration // from when the event was written
	ChangedBy, Actor, Owner, Team                 gid.ID
	HasToken, HasRequest                          bool
	PolicyVersion                                 int64
	Personal                                      string
	Verb, Status                                  string
	Total, Changed                                int64
	LastActivity                                  time.Time
	PriorOperation, PriorPurge, PriorRetired, New bool
}

// The events are looked for by their record: by their operation SQLite would read
// all of them for each.
const traceSQL = `SELECT i.record_id, i.direct, i.depth, i.came_with, i.outcome, i.prior_state, i.version, i.prior_operation_id, i.prior_purge_after, i.prior_retired_at,
	e.id, e.action, e.record_type, e.from_state, e.to_state, e.version, e.actor_id, e.owner_id, e.team_id, e.token_id, e.request_id, e.policy_version, e.sealed, e.at,
	o.verb, o.status, o.total, o.changed
	FROM operations o JOIN operation_items i ON i.operation_id = o.id JOIN audit_events e ON e.record_id = i.record_id AND COALESCE(e.operation_id, e.id) = o.id
	WHERE o.id = (SELECT id FROM operations ORDER BY id DESC LIMIT 1) ORDER BY i.id`

// traces are those of the newest operation, in the order of its items.
func (b *bench) traces(ctx context.Context) (list []trace, err error) {
	type event struct {
		id     gid.ID
		at     time.Time
		sealed []byte
		item   int64
		number int64
	}
	var events []event
	err = store.Build(b.db).Add(traceSQL).Query(ctx, b.db, func(rows store.Row) error {
		var t trace
		var e event
		var priorOperation, token gid.ID
		var priorPurge, priorRetired sql.NullTime
		var request sql.NullString
		err := rows.Scan(&t.Record, &t.Direct, &t.Depth, &t.CameWith, &t.Outcome, &t.ItemState, &e.item, &priorOperation, &priorPurge, &priorRetired,
			&e.id, &t.Action, &t.EventType, &t.From, &t.To, &e.number, &t.Actor, &t.Owner, &t.Team, &token, &request, &t.PolicyVersion, &e.sealed, &e.at,
			&t.Verb, &t.Status, &t.Total, &t.Changed)
		t.PriorOperation, t.PriorPurge, t.PriorRetired = !priorOperation.IsZero(), priorPurge.Valid, priorRetired.Valid
		t.HasToken, t.HasRequest = !token.IsZero(), request.String != ""
		list, events = append(list, t), append(events, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range list {
		t, e := &list[i], events[i]
		seal, version, err := b.row(ctx, t, e.at)
		if err != nil {
			return nil, err
		}
		t.Versions = [2]int64{version - e.item, e.number - e.item}
		personal, err := audit.New(b.keys).Open(b.tenant, seal, e.id, e.sealed)
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(personal)
		if err != nil {
			return nil, err
		}
		t.Personal = string(text)
	}
	return list, nil
}

var tables = map[string]string{
	"Customer": "customers", "Contact": "contacts", "Deal": "deals", "Message": "messages", "Call": "calls", "Task": "tasks", "Note": "notes", "Attachment": "attachments",
}

// row reads what an operation left in the row of a record.
func (b *bench) row(ctx context.Context, t *trace, at time.Time) (seal []byte, version int64, err error) {
	var operation gid.ID
	var prior sql.NullString
	var purge, retired sql.NullTime
	var changedAt time.Time
	table := tables[t.EventType]
	_, err = store.Build(b.db).Add(`SELECT state, prior_state, version, operation_id, purge_after, retired_at, state_changed_at, state_changed_by_id, seal FROM `+table+` WHERE id = ?`, t.Record).
		One(ctx, b.db, &t.State, &prior, &version, &operation, &purge, &retired, &changedAt, &t.ChangedBy, &seal)
	if err != nil {
		return nil, 0, err
	}
	t.PriorState, t.HasOperation, t.Retired, t.Clock = prior.String, !operation.IsZero(), retired.Valid, purge.Valid
	t.New = changedAt.Equal(at)
	if purge.Valid {
		t.Purge = purge.Time.Sub(at)
	}
	if table != "messages" {
		return seal, version, nil
	}
	var last sql.NullTime
	_, err = store.Build(b.db).Add(`SELECT c.last_activity_at FROM customers c JOIN messages m ON m.customer_id = c.id WHERE m.id = ?`, t.Record).One(ctx, b.db, &last)
	t.LastActivity = last.Time
	return seal, version, err
}

// opens insists that Lethe shows what the limit sealed, to who may read it.
func (b *bench) opens(id gid.ID) (err error) {
	if err := b.expect(b.limit, b.verb(b.limit, "delete", id), 1); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.expect(b.limit, b.verb(b.limit, "restore", id), 1)) }()
	as := *b
	as.token = b.auditor
	body, err := b.ask(b.lethe, as.graphql(`query Event($id: ID!) { node(id: $id) { ... on Message { history(last: 1) { nodes { action changes { field old } } } } } }`, map[string]any{"id": id}))
	if err != nil {
		return err
	}
	var answer struct {
		Data struct {
			Node struct {
				History struct {
					Nodes []struct {
						Action  string
						Changes []struct{ Field, Old string }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	for _, e := range answer.Data.Node.History.Nodes {
		for _, c := range e.Changes {
			if e.Action == "DELETE" && c.Field == "subject" && c.Old != "" {
				return nil
			}
		}
	}
	return fmt.Errorf("lethe does not show the last values of what the limit deleted: %.1000s", body)
}
