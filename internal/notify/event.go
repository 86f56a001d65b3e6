package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/notification"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// payload is what a webhook is sent: ids, numbers and names of states, nothing
// personal.
type payload struct {
	Type      string      `json:"type"`
	Timestamp time.Time   `json:"timestamp"`
	Data      payloadData `json:"data"`
}

type payloadData struct {
	Tenant    string          `json:"tenant"`
	Operation string          `json:"operation,omitempty"`
	Verb      string          `json:"verb,omitempty"`
	Actor     string          `json:"actor,omitempty"`
	Approval  string          `json:"approval,omitempty"`
	Hold      string          `json:"hold,omitempty"`
	Rule      string          `json:"rule,omitempty"`
	Days      *int            `json:"days,omitempty"`
	Count     *int            `json:"count,omitempty"`
	Counts    map[string]int  `json:"counts,omitempty"`
	Records   []payloadRecord `json:"records,omitempty"`
	Truncated bool            `json:"truncated,omitempty"`
}

type payloadRecord struct {
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	State   lifecycle.State `json:"state,omitempty"`
	Version int             `json:"version,omitempty"`
}

// payloadRecords is how many records an event names.
const payloadRecords = 100

// tellWebhooks writes a delivery for each webhook that is told.
func (s *Service) tellWebhooks(ctx context.Context, tx *store.Tx, t *telling, departments []department) error {
	told := map[gid.ID]*interest{} // by webhook, the types it is told of
	var order []gid.ID
	err := store.Build(tx).Add(`SELECT id, kinds, types FROM webhooks WHERE tenant_id = ? AND enabled = ? ORDER BY id`, t.tenant, true).ForShare().Query(ctx, tx, func(row store.Row) error { // who disables one gives up what was written for it before
		var id gid.ID
		var kinds, types []byte
		if err := row.Scan(&id, &kinds, &types); err != nil {
			return err
		}
		wants, err := scanInterest(kinds, types)
		switch {
		case err != nil:
			return err
		case wants.in(t.kind):
			told[id] = &wants
		}
		for _, d := range departments {
			switch {
			case d.webhook == nil || *d.webhook != id:
			case told[id] == nil:
				told[id] = &interest{types: d.wants.types}
			case len(told[id].types) > 0 && len(d.wants.types) > 0:
				told[id].types = append(told[id].types, d.wants.types...)
			default: // one of them wants all
				told[id].types = nil
			}
		}
		if told[id] != nil {
			order = append(order, id)
		}
		return nil
	})
	if err != nil || len(order) == 0 {
		return err
	}
	bodies := map[string][]byte{}
	var rows [][]any
	for _, id := range order {
		types := slices.Compact(slices.Sorted(slices.Values(told[id].types)))
		key := strings.Join(types, " ")
		body, done := bodies[key]
		if !done {
			if body, err = t.body(ctx, tx, types); err != nil {
				return err
			}
			bodies[key] = body
		}
		if body != nil {
			rows = append(rows, deliveryRow(t.tenant, id, t.event, body, tx.Now()))
		}
	}
	return addDeliveries(ctx, tx, rows, t.traceparent)
}

// body is the event for who is told of some types, nil where there is none of them.
func (t *telling) body(ctx context.Context, tx *store.Tx, types []string) ([]byte, error) {
	p := payload{Type: t.event, Timestamp: t.at, Data: payloadData{
		Tenant: t.tenant.String(), Operation: text(t.operation), Verb: t.verb, Actor: text(t.actor), Approval: text(t.approval), Days: t.days,
	}}
	switch t.kind {
	case notification.KindHOLD_PLACED, notification.KindHOLD_RELEASED:
		p.Data.Hold, p.Data.Verb = text(t.subject), ""
	case notification.KindALERT:
		p.Data.Rule, p.Data.Actor, p.Data.Count = text(t.subject), text(t.about), &t.count
	case notification.KindWILL_BE_PURGED:
		p.Data.Verb = ""
	}
	if t.source != nil {
		if err := t.list(ctx, tx, types, &p.Data); err != nil {
			return nil, err
		}
		if len(p.Data.Records) == 0 {
			return nil, nil
		}
	}
	body, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encoding an event: %w", err)
	}
	return body, nil
}

// list counts the records of an event, and names the first of them.
func (t *telling) list(ctx context.Context, tx *store.Tx, types []string, into *payloadData) error {
	from := func(selected string) *store.SQL {
		stmt := t.source(store.Build(tx).Add(`SELECT ` + selected + ` FROM (`)).Add(`) a`)
		if len(types) > 0 {
			stmt.Add(` WHERE `).Strings("a.record_type", types)
		}
		return stmt
	}
	kind := func(typ string) string { // as the API names it
		if t := ent.RecordTypeNamed(typ); t != nil {
			var b strings.Builder
			t.Kind().MarshalGQL(&b)
			return strings.Trim(b.String(), `"`)
		}
		return typ
	}
	into.Counts = map[string]int{}
	total := 0
	err := from(`a.record_type, count(*)`).Add(` GROUP BY a.record_type`).Query(ctx, tx, func(row store.Row) error {
		var typ string
		var n int
		err := row.Scan(&typ, &n)
		into.Counts[kind(typ)] = n
		total += n
		return err
	})
	if err == nil {
		err = from(`a.record_id, a.record_type, a.state, a.version`).Add(` ORDER BY a.record_id LIMIT ?`, payloadRecords).Query(ctx, tx, func(row store.Row) error {
			var id gid.ID
			var typ string
			var state *lifecycle.State
			var version *int
			if err := row.Scan(&id, &typ, &state, &version); err != nil {
				return err
			}
			r := payloadRecord{ID: id.String(), Type: kind(typ)}
			if state != nil {
				r.State = *state
			}
			if version != nil {
				r.Version = *version
			}
			into.Records = append(into.Records, r)
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("reading the records of an event: %w", err)
	}
	into.Truncated = total > len(into.Records)
	return nil
}
