package record

import (
	"context"
	"fmt"
	"sync"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
)

// Hint tells the caller of a create that a retired record has the same value:
// restoring that one may be what he wants.
type Hint struct {
	Code   string `json:"code"` // IN_BIN
	Field  string `json:"field"`
	Record gid.ID `json:"record"`
}

// Hints collects the hints of a request.
type Hints struct {
	mu   sync.Mutex
	list []Hint
}

// List is what was collected.
func (h *Hints) List() []Hint {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.list
}

type hintsKey struct{}

// WithHints returns a context whose creates leave hints in h.
func WithHints(ctx context.Context, h *Hints) context.Context {
	return context.WithValue(ctx, hintsKey{}, h)
}

// hint looks for retired twins of a new record, as far as the caller may see
// them, where somebody collects hints.
func (s *Service) hint(ctx context.Context, r ent.Record) error {
	h, ok := ctx.Value(hintsKey{}).(*Hints)
	if !ok {
		return nil
	}
	t := r.RecordType()
	for _, u := range t.Uniques {
		key, ok := r.Column(u.Key).(string)
		if !ok {
			continue
		}
		rows, err := s.query(ctx, t, none, func(sel *sql.Selector) {
			sel.Where(sql.EQ(sel.C(u.Key), key))
			sel.Where(sql.NotNull(sel.C("retired_at")))
			if u.Within != "" {
				sel.Where(sql.EQ(sel.C(u.Within), r.Column(u.Within)))
			}
			sel.Limit(1)
		})
		if err != nil {
			return fmt.Errorf("looking for twins in the bin: %w", err)
		}
		for _, row := range rows {
			h.mu.Lock()
			h.list = append(h.list, Hint{"IN_BIN", u.GraphQL, row.RecordID()})
			h.mu.Unlock()
		}
	}
	return nil
}
