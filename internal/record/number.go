package record

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"entgo.io/ent/dialect"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// numberBlock is how many numbers a process takes from a counter at once. The
// rest of a block is lost when the process ends: gaps are fine, waiting for one
// another is not.
const numberBlock = 20

// block is what is left of the numbers a process took.
type block struct{ next, end int }

type numbers struct {
	mu     sync.Mutex
	blocks map[string]block
}

// number gives drafts without a number one, and refuses numbers that were given
// out before.
func (s *Service) number(ctx context.Context, tx *store.Tx, a *actor.Actor, t *ent.RecordType, drafts []*draft) error {
	if !t.Numbered {
		return nil
	}
	var given []string
	var missing []*draft
	for _, d := range drafts {
		if d.err != nil {
			continue
		}
		if n, ok := d.values["number"].(string); ok {
			given = append(given, n)
		} else {
			missing = append(missing, d)
		}
	}
	used, err := usedNumbers(ctx, tx, a, t, given)
	if err != nil {
		return err
	}
	for _, d := range drafts {
		n, ok := d.values["number"].(string)
		if !ok || d.err != nil {
			continue
		}
		if used[n] {
			d.err = &Error{Code: lifecycle.UniqueConflict, Message: "this number was given out before", Fields: []string{"number"}, Extensions: map[string]any{"field": "number"}}
		}
		used[n] = true
	}
	for len(missing) > 0 {
		fresh, err := s.takeNumbers(ctx, tx, a.Tenant, t, len(missing))
		if err != nil {
			return err
		}
		taken, err := usedNumbers(ctx, tx, a, t, fresh)
		if err != nil {
			return err
		}
		for _, n := range fresh {
			if len(missing) > 0 && !taken[n] && !used[n] {
				missing[0].values["number"] = n
				missing = missing[1:]
			}
		}
	}
	return nil
}

func usedNumbers(ctx context.Context, q store.Querier, a *actor.Actor, t *ent.RecordType, list []string) (map[string]bool, error) {
	used := map[string]bool{}
	if len(list) == 0 {
		return used, nil
	}
	err := store.Build(q).Add(`SELECT number FROM record_numbers WHERE tenant_id = ? AND record_type = ? AND `, a.Tenant, t.Name).
		Strings("number", list).Query(ctx, q, func(rows store.Row) error {
		var n string
		if err := rows.Scan(&n); err != nil {
			return err
		}
		used[n] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking up numbers: %w", err)
	}
	return used, nil
}

// takeNumbers returns n numbers, such as D-100, that this process alone has.
func (s *Service) takeNumbers(ctx context.Context, tx *store.Tx, tenant gid.ID, t *ent.RecordType, n int) ([]string, error) {
	s.numbers.mu.Lock()
	defer s.numbers.mu.Unlock()
	key := tenant.UUID() + t.Name
	b := s.numbers.blocks[key]
	out := make([]string, 0, n)
	for len(out) < n {
		if b.next == b.end {
			want := max(numberBlock, n-len(out))
			end, err := s.advance(ctx, tx, tenant, t, want)
			if err != nil {
				return nil, err
			}
			b = block{end - want, end}
		}
		out = append(out, t.Name[:1]+"-"+strconv.Itoa(b.next))
		b.next++
	}
	s.numbers.blocks[key] = b
	return out, nil
}

// advance moves a counter by n and answers where it stands then. On PostgreSQL
// it does so in a transaction of its own, so that nobody waits for ours; on
// SQLite there is one writer anyway, and the block is taken within ours.
func (s *Service) advance(ctx context.Context, tx *store.Tx, tenant gid.ID, t *ent.RecordType, n int) (end int, err error) {
	var q store.Querier = tx
	if tx.Dialect() == dialect.Postgres {
		q = s.db.Aside()
	} else {
		// Rolled back, the block would be given out twice.
		tx.AfterEnd(func(committed bool) {
			if !committed {
				s.numbers.mu.Lock()
				delete(s.numbers.blocks, tenant.UUID()+t.Name)
				s.numbers.mu.Unlock()
			}
		})
	}
	ok, err := store.Build(q).Add(`INSERT INTO number_counters (tenant_id, record_type, next) VALUES (?, ?, ?)
		ON CONFLICT (tenant_id, record_type) DO UPDATE SET next = number_counters.next + ? RETURNING next`, tenant, t.Name, n+1, n).
		One(ctx, q, &end)
	if err != nil || !ok {
		return 0, fmt.Errorf("taking numbers: %w", err)
	}
	return end, nil
}
