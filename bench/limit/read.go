package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
)

const (
	pageSize = 50
	newest   = 5
)

type nodes[T any] struct {
	Nodes []T `json:"nodes"`
}

type customer struct {
	ID       gid.ID         `json:"id"`
	Number   string         `json:"number"`
	Name     string         `json:"name"`
	Email    *string        `json:"email"`
	State    string         `json:"state"`
	Version  int            `json:"version"`
	Messages nodes[*letter] `json:"messages"`
}

// letter is a message below its customer.
type letter struct {
	ID      gid.ID    `json:"id"`
	Subject *string   `json:"subject"`
	SentAt  time.Time `json:"sentAt"`
	Sender  *string   `json:"sender"`
}

type found struct {
	ID        gid.ID    `json:"id"`
	Subject   *string   `json:"subject"`
	Sender    *string   `json:"sender"`
	SentAt    time.Time `json:"sentAt"`
	Direction string    `json:"direction"`
}

// visible is the row filter of a manager on a table t, on live rows and on
// retired ones: what is his own, $2, and what belongs to his teams, $3.
func (d dialect) visible() string { return `(t.owner_id = $2 OR ` + d.in("t.team_id", "$3") + `)` }

// customersSQL reads customers with their newest messages, in one statement on
// PostgreSQL by a lateral join. SQLite, which has none, costs no round trip and
// is asked twice.
func (d dialect) customersSQL() string {
	return `SELECT c.id, c.number, c.name, c.email, c.state, c.version, m.id, m.subject, m.sent_at, m.sender
		FROM (SELECT id, number, name, email, state, version FROM customers t
			WHERE tenant_id = $1 AND ` + d.visible() + ` AND state = 'ACTIVE' AND id > $4 ORDER BY id LIMIT $5) c
		LEFT JOIN LATERAL (SELECT id, subject, sent_at, sender FROM messages t
			WHERE customer_id = c.id AND tenant_id = $1 AND ` + d.visible() + ` AND state = 'ACTIVE'
			ORDER BY sent_at DESC, id DESC LIMIT $6) m ON true ORDER BY c.id, m.sent_at DESC, m.id DESC`
}

func (h *handler) customers(ctx context.Context, c *caller, r *http.Request) (any, error) {
	after, err := gid.Parse(r.URL.Query().Get("after"))
	if err != nil {
		return nil, &problem{"BAD_USER_INPUT", "after"}
	}
	d := h.db.dialect()
	list := make([]*customer, 0, pageSize)
	if d.lateral {
		err = h.db.run(ctx, step{sql: d.customersSQL(), args: []any{c.tenant, c.user, d.ids(c.teams), ref(after), pageSize, newest}, each: func(scan scanner) error {
			var row customer
			var m letter
			var at *time.Time
			if err := scan((*ref)(&row.ID), &row.Number, &row.Name, &row.Email, &row.State, &row.Version, (*ref)(&m.ID), &m.Subject, &at, &m.Sender); err != nil {
				return err
			}
			if len(list) == 0 || list[len(list)-1].ID != row.ID {
				row.Messages.Nodes = make([]*letter, 0, newest)
				list = append(list, &row)
			}
			if at != nil {
				m.SentAt = *at
				last := list[len(list)-1]
				last.Messages.Nodes = append(last.Messages.Nodes, &m)
			}
			return nil
		}})
	} else {
		list, err = h.customersInTwo(ctx, c, ref(after))
	}
	return map[string]any{"customers": nodes[*customer]{list}}, err
}

const (
	customersSQLite = `SELECT id, number, name, email, state, version FROM customers t
		WHERE tenant_id = $1 AND (owner_id = $2 OR team_id IN (SELECT value FROM json_each($3))) AND state = 'ACTIVE' AND id > $4 ORDER BY id LIMIT $5`
	newestSQLite = `SELECT id, subject, sent_at, sender FROM messages t
		WHERE customer_id = $4 AND tenant_id = $1 AND (owner_id = $2 OR team_id IN (SELECT value FROM json_each($3))) AND state = 'ACTIVE'
		ORDER BY sent_at DESC, id DESC LIMIT $5`
)

// customersInTwo asks for the messages of one customer after the other: within
// the process that is faster than numbering the messages of all.
func (h *handler) customersInTwo(ctx context.Context, c *caller, after ref) ([]*customer, error) {
	teams := h.db.dialect().ids(c.teams)
	list := make([]*customer, 0, pageSize)
	err := h.db.run(ctx, step{sql: customersSQLite, args: []any{c.tenant, c.user, teams, after, pageSize}, each: func(scan scanner) error {
		var row customer
		row.Messages.Nodes = make([]*letter, 0, newest)
		list = append(list, &row)
		return scan((*ref)(&row.ID), &row.Number, &row.Name, &row.Email, &row.State, &row.Version)
	}})
	if err != nil {
		return nil, err
	}
	steps := make([]step, len(list))
	for i, row := range list {
		steps[i] = step{sql: newestSQLite, args: []any{c.tenant, c.user, teams, ref(row.ID), newest}, each: func(scan scanner) error {
			var m letter
			row.Messages.Nodes = append(row.Messages.Nodes, &m)
			return scan((*ref)(&m.ID), &m.Subject, &m.SentAt, &m.Sender)
		}}
	}
	return list, h.db.run(ctx, steps...)
}

func (d dialect) messagesSQL() string {
	return `SELECT id, subject, sender, sent_at, direction FROM messages t
		WHERE tenant_id = $1 AND ` + d.visible() + ` AND sender_folded = $4 AND sent_at >= $5 AND sent_at < $6
		AND retired_at IS NULL AND state = 'ACTIVE' ORDER BY sent_at DESC, id DESC LIMIT $7`
}

func (h *handler) messages(ctx context.Context, c *caller, r *http.Request) (any, error) {
	query := r.URL.Query()
	from, err := time.Parse(time.RFC3339Nano, query.Get("from"))
	if err != nil {
		return nil, &problem{"BAD_USER_INPUT", "from"}
	}
	to, err := time.Parse(time.RFC3339Nano, query.Get("to"))
	if err != nil {
		return nil, &problem{"BAD_USER_INPUT", "to"}
	}
	d := h.db.dialect()
	list := make([]*found, 0, pageSize)
	err = h.db.run(ctx, step{sql: d.messagesSQL(), args: []any{
		c.tenant, c.user, d.ids(c.teams), strings.ToLower(query.Get("sender")), from, to, pageSize,
	}, each: func(scan scanner) error {
		var m found
		list = append(list, &m)
		return scan((*ref)(&m.ID), &m.Subject, &m.Sender, &m.SentAt, &m.Direction)
	}})
	return map[string]any{"messages": nodes[*found]{list}}, err
}
