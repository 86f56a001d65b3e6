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

// customersSQL reads customers with their newest messages in one statement: on
// PostgreSQL by a lateral join, on SQLite by a subquery for each customer.
func (d dialect) customersSQL() string {
	page := `SELECT id, number, name, email, state, version FROM customers t
		WHERE tenant_id = $1 AND ` + d.visible() + ` AND state = 'ACTIVE' AND id > $4 ORDER BY id LIMIT $5`
	newest := ` FROM messages t WHERE t.customer_id = c.id AND t.tenant_id = $1 AND ` + d.visible() + ` AND t.state = 'ACTIVE'
		ORDER BY t.sent_at DESC, t.id DESC LIMIT $6`
	join := `LEFT JOIN LATERAL (SELECT t.id, t.subject, t.sent_at, t.sender` + newest + `) m ON true`
	if !d.lateral {
		join = `LEFT JOIN messages m ON m.rowid IN (SELECT t.rowid` + newest + `)`
	}
	return `WITH c AS MATERIALIZED (` + page + `) SELECT c.id, c.number, c.name, c.email, c.state, c.version, m.id, m.subject, m.sent_at, m.sender
		FROM c ` + join + ` ORDER BY c.id, m.sent_at DESC, m.id DESC`
}

func (h *handler) customers(ctx context.Context, c *caller, r *http.Request) (any, error) {
	after, err := gid.Parse(r.URL.Query().Get("after"))
	if err != nil {
		return nil, &problem{"BAD_USER_INPUT", "after"}
	}
	d := h.db.dialect()
	list := make([]*customer, 0, pageSize)
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
	return map[string]any{"customers": nodes[*customer]{list}}, err
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
