package record

import (
	"context"
	"errors"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// LoseAndRetry runs a scheduled operation whose first try is rolled back, as by a lost deadlock, and does something
// before the second.
func (s *Service) LoseAndRetry(ctx context.Context, id gid.ID, between func()) error {
	lost := errors.New("deadlock")
	r := &run{Service: s, a: actor.From(ctx), id: id, claiming: true}
	err := s.db.InTx(ctx, func(ctx context.Context, _ *store.Tx) error {
		_, err := r.once(ctx)
		return errors.Join(lost, err)
	})
	if !errors.Is(err, lost) {
		return err
	}
	between()
	_, err = r.once(ctx)
	return err
}

// Resize has as much go into a transaction as a test can make more than.
func (s *Service) Resize(rows, batch, tree int) *Service {
	s.sizes = sizes{rows, batch, tree}
	return s
}
