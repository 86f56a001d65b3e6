package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// actionDue is the action of facts that say that records will be purged. It is no
// event of the log: nothing has happened yet.
const actionDue = "PURGE_DUE"

// stages say how many days before their clock runs out people are told of records,
// and of which: those whose clock runs out between so many days from now. Digests
// are made once a day: what is told of has at least so many days left, and a server
// that was down for some days still tells.
var stages = []struct{ days, from, until int }{{1, 0, 2}, {7, 2, 8}}

// sweepRows is how many rows that are too old go at a time.
const sweepRows = 5_000

// Sweep makes the digests of the day and removes what is too old. It answers how
// many digests it made, and how many notifications and deliveries went.
func (s *Service) Sweep(ctx context.Context) (digests, removed int, err error) {
	digests, err = s.digests(ctx)
	var errs [5]error
	errs[0] = err
	now := s.DB.Now()
	var n int
	for i, old := range []struct {
		find string
		with []string
	}{
		{`SELECT id FROM notifications WHERE at < ?`, []string{`DELETE FROM notification_records WHERE notification_id`, `DELETE FROM notifications WHERE id`}},
		{`SELECT id FROM webhook_deliveries WHERE created_at < ? AND status <> 'PENDING'`, []string{`DELETE FROM webhook_deliveries WHERE id`}},
	} {
		n, errs[1+i] = s.remove(ctx, old.find, now.Add(-keep), old.with)
		removed += n
	}
	errs[3] = s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		for _, old := range []struct {
			stmt   string
			before time.Time
		}{
			{`DELETE FROM alert_signals WHERE at < ?`, now.Add(-maxMinutes * time.Minute)},
			{`DELETE FROM purge_notices WHERE purge_after < ?`, now.Add(-keep)},
		} {
			if _, err := store.Build(tx).Add(old.stmt, old.before).Exec(ctx, tx); err != nil {
				return fmt.Errorf("removing what is too old: %w", err)
			}
		}
		return nil
	})
	return digests, removed, errors.Join(errs[:]...)
}

// remove removes rows with what belongs to them, some at a time.
func (s *Service) remove(ctx context.Context, find string, before time.Time, with []string) (removed int, err error) {
	for {
		n := 0
		err := s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
			var ids []gid.ID
			err := store.Build(tx).Add(find+` ORDER BY id LIMIT ?`, before, sweepRows).Query(ctx, tx, func(row store.Row) error {
				var id gid.ID
				err := row.Scan(&id)
				ids = append(ids, id)
				return err
			})
			if n = len(ids); err != nil || n == 0 {
				return err
			}
			for _, from := range with {
				table, column, _ := strings.Cut(from, " WHERE ")
				if _, err := store.Build(tx).Add(table+` WHERE `).IDs(column, ids).Exec(ctx, tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return removed, fmt.Errorf("removing what is too old: %w", err)
		}
		if removed += n; n < sweepRows {
			return removed, nil
		}
	}
}

// digests makes the digests of the day, once in every tenant.
func (s *Service) digests(ctx context.Context) (made int, err error) {
	day := s.DB.Now().Truncate(24 * time.Hour)
	var tenants []gid.ID
	err = store.Build(s.DB).Add(`SELECT t.id FROM tenants t WHERE NOT EXISTS (SELECT 1 FROM notify_marks m WHERE m.tenant_id = t.id AND m.name = ? AND m.at >= ?) ORDER BY t.id`, actionDue, day).
		Query(ctx, s.DB, func(row store.Row) error {
			var id gid.ID
			err := row.Scan(&id)
			tenants = append(tenants, id)
			return err
		})
	if err != nil {
		return 0, fmt.Errorf("looking for tenants without a digest: %w", err)
	}
	var failures error
	for _, tenant := range tenants {
		n := 0
		err := s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
			n, err = s.digest(ctx, tx, tenant, day)
			return err
		})
		if err != nil {
			failures = errors.Join(failures, fmt.Errorf("making the digest of tenant %s: %w", tenant, err))
		}
		made += n
	}
	if made > 0 {
		s.Outbox.awake()
	}
	return made, failures
}

// digest notes which records of a tenant will be purged, each once for a stage and a
// clock. It looks at the clock alone: whether holds or rules keep a record is not
// for everybody to know.
func (s *Service) digest(ctx context.Context, tx *store.Tx, tenant gid.ID, day time.Time) (made int, err error) {
	n, err := store.Build(tx).Add(`INSERT INTO notify_marks (tenant_id, name, at) VALUES (?, ?, ?) ON CONFLICT (tenant_id, name) DO UPDATE SET at = excluded.at WHERE notify_marks.at < excluded.at`,
		tenant, actionDue, day).Exec(ctx, tx)
	if err != nil || n == 0 {
		return 0, err
	}
	now := tx.Now()
	for _, stage := range stages {
		id, noted := gid.New(gid.Event), int64(0)
		for _, t := range ent.RecordTypes {
			n, err := store.Build(tx).Add(`INSERT INTO purge_notices (record_id, days, purge_after, tenant_id, record_type, owner_id, fact_id)
				SELECT r.id, CAST(? AS bigint), r.purge_after, r.tenant_id, ?, r.owner_id, ? FROM `+t.Table+` r WHERE r.tenant_id = ? AND r.state IN ('VOIDED', 'DELETED') AND r.purge_after > ? AND r.purge_after <= ?
				ON CONFLICT DO NOTHING`, stage.days, t.Name, id, tenant, now.AddDate(0, 0, stage.from), now.AddDate(0, 0, stage.until)).Exec(ctx, tx)
			if err != nil {
				return 0, err
			}
			noted += n
		}
		if noted == 0 {
			continue
		}
		made++
		_, err := store.Build(tx).Add(`INSERT INTO notify_facts (id, tenant_id, at, action, outcome, count, weighed) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			id, tenant, now, actionDue, string(audit.Succeeded), stage.days, true).Exec(ctx, tx)
		if err != nil {
			return 0, err
		}
	}
	return made, nil
}
