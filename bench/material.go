package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// variety is how many different requests there are of a kind.
const variety = 500

// material is what requests are made of: all of it rows the manager may see.
type material struct {
	cursors   []gid.ID
	periods   []period
	messages  []gid.ID
	customers []gid.ID
	threads   []string
}

// gather picks the material from the database, the same for both servers.
func (b *bench) gather(ctx context.Context) (*material, error) {
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // the same choice each time
	m := &material{}
	seen, args, err := b.seen(ctx)
	if err != nil {
		return nil, err
	}
	customers, err := b.list(ctx, `SELECT id FROM customers WHERE state = 'ACTIVE' AND `+seen+` ORDER BY id`, args...)
	if err != nil {
		return nil, err
	}
	if len(customers) <= pageSize {
		return nil, errors.New("there are too few customers for a page")
	}
	for range min(2*variety, len(customers)-pageSize) {
		m.cursors = append(m.cursors, customers[random.IntN(len(customers)-pageSize)])
	}
	if m.customers, err = b.list(ctx, `SELECT id FROM customers WHERE state = 'ACTIVE' AND `+seen+` AND NOT EXISTS (SELECT 1 FROM deals WHERE customer_id = customers.id) ORDER BY id`, args...); err != nil {
		return nil, err
	}
	m.customers = sample(random, m.customers, variety*b.connections)
	if m.messages, err = b.messagesOfSome(ctx, sample(random, customers, 2*variety)); err != nil {
		return nil, err
	}
	m.messages = sample(random, m.messages, variety*b.connections)
	// Those of the manager's team are the first.
	err = store.Build(b.db).Add(`SELECT thread_key FROM messages WHERE tenant_id = ? AND thread_key >= 'thread-0-0' AND thread_key < 'thread-0-r' AND retired_at IS NULL
		GROUP BY thread_key HAVING count(*) = ? ORDER BY thread_key`, b.tenant, batch).Query(ctx, b.db, func(rows store.Row) error {
		var thread string
		err := rows.Scan(&thread)
		m.threads = append(m.threads, thread)
		return err
	})
	if err != nil {
		return nil, err
	}
	m.periods, err = b.periods(ctx, random, seen, args)
	return m, err
}

// messagesOfSome are the messages of customers.
func (b *bench) messagesOfSome(ctx context.Context, customers []gid.ID) (ids []gid.ID, err error) {
	err = store.Build(b.db).Add(`SELECT id FROM messages WHERE state = 'ACTIVE' AND `).IDs("customer_id", customers).Add(` ORDER BY id`).
		Query(ctx, b.db, func(rows store.Row) error {
			var id gid.ID
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		})
	return ids, err
}

// seen is the condition of what the manager may see, with its arguments.
func (b *bench) seen(ctx context.Context) (string, []any, error) {
	var user, team gid.ID
	_, err := store.Build(b.db).Add(`SELECT u.id, t.team_id FROM users u JOIN user_teams t ON t.user_id = u.id WHERE u.tenant_id = ? AND u.email = ?`, b.tenant, manager).
		One(ctx, b.db, &user, &team)
	return `(owner_id = ? OR team_id = ?)`, []any{user, team}, err
}

func (b *bench) list(ctx context.Context, query string, args ...any) (ids []gid.ID, err error) {
	err = store.Build(b.db).Add(query, args...).Query(ctx, b.db, func(rows store.Row) error {
		var id gid.ID
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	})
	return ids, err
}

func sample[T any](random *rand.Rand, list []T, n int) []T {
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:min(n, len(list))]
}

// periods finds senders with the time of a year in which a page of what they
// sent can be seen; where there are few messages, more.
func (b *bench) periods(ctx context.Context, random *rand.Rand, seen string, args []any) (list []period, err error) {
	var senders []string
	err = store.Build(b.db).Add(`SELECT DISTINCT sender_folded FROM messages ORDER BY sender_folded`).Query(ctx, b.db, func(rows store.Row) error {
		var sender string
		err := rows.Scan(&sender)
		senders = append(senders, sender)
		return err
	})
	if err != nil {
		return nil, err
	}
	end := b.db.Now().Truncate(24 * time.Hour)
	for try := 0; len(list) < min(variety, 5*len(senders)); try++ {
		from := end.AddDate(-3, 0, random.IntN(2*365))
		p := period{senders[random.IntN(len(senders))], from, from.AddDate(1, 0, 0)}
		var n int
		_, err := store.Build(b.db).Add(`SELECT count(*) FROM messages WHERE tenant_id = ? AND sender_folded = ? AND sent_at >= ? AND sent_at < ? AND retired_at IS NULL AND `+seen,
			append([]any{b.tenant, p.sender, p.from, p.to}, args...)...).One(ctx, b.db, &n)
		if err != nil {
			return nil, err
		}
		if n >= pageSize {
			list = append(list, p)
		}
		if try > 20*variety {
			return nil, fmt.Errorf("of %d senders too few sent %d messages in a year", len(senders), pageSize)
		}
	}
	return list, nil
}

// putBack undoes deletes by SQL, and clears away what that leaves behind, so that
// both servers find the same.
func (b *bench) putBack(ctx context.Context) error {
	err := b.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		customers, err := b.list(ctx, `SELECT DISTINCT customer_id FROM messages WHERE operation_id IS NOT NULL`)
		if err != nil {
			return err
		}
		_, err = store.Build(tx).Add(`UPDATE messages SET state = 'ACTIVE', prior_state = NULL, operation_id = NULL, purge_after = NULL, retired_at = NULL,
			state_changed_at = created_at, state_changed_by_id = owner_id, updated_at = created_at, version = 1 WHERE operation_id IS NOT NULL`).Exec(ctx, tx)
		if err != nil {
			return err
		}
		_, err = store.Build(tx).Add(`UPDATE customers SET last_activity_at = n.newest FROM (SELECT customer_id, MAX(sent_at) AS newest FROM messages WHERE `).
			IDs("customer_id", customers).Add(` GROUP BY customer_id) n WHERE n.customer_id = customers.id AND customers.last_activity_at IS DISTINCT FROM n.newest`).Exec(ctx, tx)
		return err
	})
	if err != nil || b.sqlite {
		return err
	}
	for _, table := range []string{"messages", "customers"} {
		if _, err := store.Build(b.db).Add(`VACUUM `+table).Exec(ctx, b.db); err != nil {
			return err
		}
	}
	return nil
}
