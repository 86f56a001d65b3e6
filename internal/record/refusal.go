package record

import (
	"context"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/store"
)

// logRefusal writes a REFUSED event once the transaction has ended, however it
// ends: a refusal must not be forgotten because its document was rolled back.
// Without a transaction it writes it now.
func (s *Service) logRefusal(ctx context.Context, tx *store.Tx, e audit.Event) {
	e.Outcome = audit.Refused
	if a := actor.From(ctx); a != nil {
		e.PolicyVersion = s.control.Version(ctx, a.Tenant)
	}
	if len(e.IDs) > audit.MaxRefusedIDs {
		e.IDs = e.IDs[:audit.MaxRefusedIDs]
	}
	detached := context.WithoutCancel(ctx)
	write := func(bool) {
		if err := s.audit.Write(detached, s.db, e); err != nil {
			s.log.ErrorContext(detached, "a refusal could not be written to the audit log", "action", e.Action, "error", err)
		}
	}
	if tx == nil {
		write(false)
		return
	}
	tx.AfterEnd(write)
}
