package notify

import (
	"context"
	"errors"
	"fmt"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// MaxFollowed is how many records one user may follow.
const MaxFollowed = 10_000

// Follow has the actor told of what becomes of a record, which he must have been
// found to be able to read. Followed again, nothing changes.
func (s *Service) Follow(ctx context.Context, of gid.ID) error {
	a := actor.From(ctx)
	if a == nil || a.User.IsZero() {
		return errors.New("notify: nobody follows")
	}
	return s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		count := 0
		if _, err := store.Build(tx).Add(`SELECT count(*) FROM follows WHERE user_id = ?`, a.User).One(ctx, tx, &count); err != nil {
			return fmt.Errorf("counting what is followed: %w", err)
		}
		if count >= MaxFollowed {
			return record.Refuse(lifecycle.Limit, fmt.Sprintf("more than %d records", MaxFollowed), "id")
		}
		_, err := store.Build(tx).Add(`INSERT INTO follows (tenant_id, user_id, record_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, a.Tenant, a.User, of).Exec(ctx, tx)
		if err != nil {
			return fmt.Errorf("following a record: %w", err)
		}
		return nil
	})
}

// Unfollow ends what Follow began.
func (s *Service) Unfollow(ctx context.Context, of gid.ID) error {
	a := actor.From(ctx)
	if a == nil || a.User.IsZero() {
		return errors.New("notify: nobody follows")
	}
	return s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		if _, err := store.Build(tx).Add(`DELETE FROM follows WHERE record_id = ? AND user_id = ?`, of, a.User).Exec(ctx, tx); err != nil {
			return fmt.Errorf("following a record no more: %w", err)
		}
		return nil
	})
}

// MarkRead says that the actor has seen notifications of his, or all, and answers
// how many he had not.
func (s *Service) MarkRead(ctx context.Context, ids []gid.ID, all bool) (marked int, err error) {
	a := actor.From(ctx)
	if a == nil || a.User.IsZero() {
		return 0, errors.New("notify: nobody reads")
	}
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		stmt := store.Build(tx).Add(`UPDATE notifications SET read_at = ? WHERE user_id = ? AND tenant_id = ? AND read_at IS NULL`, tx.Now(), a.User, a.Tenant)
		if !all {
			stmt.Add(` AND `).IDs("id", ids)
		}
		n, err := stmt.Exec(ctx, tx)
		marked = int(n)
		if err != nil {
			return fmt.Errorf("marking notifications: %w", err)
		}
		return nil
	})
	return marked, err
}

// Counted is how many records of a type a notification is about, of those that its
// reader may read.
type Counted struct {
	Type  ent.RecordKind
	Count int
	// Record is the record, where there is one only.
	Record gid.ID
}

// Counts counts the records of notifications by type, as far as the actor may read
// them now.
func (s *Service) Counts(ctx context.Context, notifications []gid.ID) (map[gid.ID][]Counted, error) {
	out := map[gid.ID][]Counted{}
	if len(notifications) == 0 {
		return out, nil
	}
	q, rows := s.querier(ctx), s.Control.Rows(ctx, actor.From(ctx))
	var all *sql.Selector
	values := make([]any, len(notifications))
	for i, id := range notifications {
		values[i] = id
	}
	for _, t := range ent.RecordTypes {
		b := sql.Dialect(q.Dialect())
		told, row, n := b.Table("notification_records").As("told"), b.Table(t.Table).As("told_row"), b.Table("notifications").As("told_by")
		sub := b.Select().From(told).Join(row).On(row.C("id"), told.C("record_id")).Join(n).On(n.C("id"), told.C("notification_id"))
		sub.SelectExpr(sql.Expr(told.C("notification_id")), sql.Expr("'"+t.Name+"'"), sql.Expr("count(*)"), sql.Expr("min(CAST("+told.C("record_id")+" AS text))"))
		sub.Where(sql.In(told.C("notification_id"), values...))
		rows.Tellable(sub, row, t, n.C("kind"))
		sub.GroupBy(told.C("notification_id"))
		if all == nil {
			all = sub
		} else {
			all.UnionAll(sub)
		}
	}
	err := store.Select(ctx, q, all, func(row store.Row) error {
		var id gid.ID
		var typ, first string
		var c Counted
		if err := row.Scan(&id, &typ, &c.Count, &first); err != nil {
			return err
		}
		c.Type = ent.RecordTypeNamed(typ).Kind()
		if c.Count == 1 {
			id, err := gid.ParseUUID(first)
			if err != nil {
				return err
			}
			c.Record = id
		}
		out[id] = append(out[id], c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("counting what notifications are about: %w", err)
	}
	return out, nil
}
