package record

import (
	"context"
	"fmt"
	"time"

	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// What becomes of a record when its suspension ends.
const (
	ThenRestore = "RESTORE"
	ThenDelete  = "DELETE"
)

// checkTimes refuses times that have passed.
func (r *run) checkTimes() error {
	if err := r.checkSuspension(); err != nil {
		return err
	}
	return r.checkRunAt()
}

// checkSuspension insists on an end that is yet to come.
func (r *run) checkSuspension() error {
	req := &r.req
	if req.Verb != lifecycle.Suspend {
		return nil
	}
	if req.Then == "" {
		req.Then = ThenRestore
	}
	switch {
	case req.Then != ThenRestore && req.Then != ThenDelete:
		return Refuse(lifecycle.BadUserInput, "is neither RESTORE nor DELETE", "then")
	case req.Until == nil && r.tx == nil:
		return nil // to look at it, no end is needed
	case req.Until == nil:
		return Refuse(lifecycle.BadUserInput, "is required", "until")
	case !req.Until.After(r.q.Now()):
		return Refuse(lifecycle.BadUserInput, "is not in the future", "until")
	case req.Until.Year() > 9999:
		return Refuse(lifecycle.BadUserInput, "is not in the years 1 to 9999", "until")
	}
	until := req.Until.UTC().Truncate(time.Microsecond) // as both databases keep it
	req.Until = &until
	return nil
}

// planSuspend plans a suspension: nothing comes along, and each record wakes at its own time.
func (r *run) planSuspend(ctx context.Context) error {
	if err := r.keepHeld(ctx); err != nil {
		return err
	}
	r.settle()
	return nil
}

// applySuspend carries a suspension out. What is suspended already stays with
// the operation that suspended it, and is given another end.
func (r *run) applySuspend(ctx context.Context) error {
	now := r.tx.Now()
	for _, t := range typeOrder {
		var anew, again []gid.ID
		for _, n := range r.changing {
			switch {
			case n.row.RecordType() != t:
			case n.row.RecordState() == lifecycle.Suspended:
				again = append(again, n.row.RecordID())
			default:
				anew = append(anew, n.row.RecordID())
			}
		}
		const end = ` SET suspended_until = ?, suspended_then = ?, updated_at = ?, version = version + 1`
		if len(anew) > 0 {
			stmt := store.Build(r.tx).Add(`UPDATE `+t.Table+end, *r.req.Until, r.req.Then, now).
				Add(`, prior_state = state, state = ?, state_changed_at = ?, state_changed_by_id = ?, state_reason = ?, operation_id = ?`,
					string(lifecycle.Suspended), now, nullID(r.a.UserRef()), nullText(r.req.Reason), r.id)
			if err := r.exec(ctx, t, stmt, anew); err != nil {
				return err
			}
		}
		if len(again) > 0 {
			if err := r.exec(ctx, t, store.Build(r.tx).Add(`UPDATE `+t.Table+end, *r.req.Until, r.req.Then, now), again); err != nil {
				return err
			}
		}
	}
	version := r.control.Version(ctx, r.a.Tenant)
	return r.audit.AppendEach(ctx, r.tx, len(r.changing), func(i int) audit.Event {
		n := r.changing[i]
		changes := []audit.Change{{Field: "suspendedUntil", New: *r.req.Until}, {Field: "suspendedThen", New: r.req.Then}}
		if n.row.RecordState() == lifecycle.Suspended {
			if until := timeOf(n.row, "suspended_until"); until != nil {
				changes[0].Old = *until
			}
			if then := n.row.Column("suspended_then"); then != nil {
				changes[1].Old = fmt.Sprint(then)
			}
		}
		e := event(string(r.req.Verb), n.row, changes)
		e.From, e.To, e.Version = n.row.RecordState(), lifecycle.Suspended, n.row.RecordVersion()+1
		e.Operation, e.PolicyVersion, e.Personal.Reason = &r.id, version, r.req.Reason
		return e
	})
}

// ranOut reports whether what a record goes back to is a suspension that has
// ended meanwhile.
func (n *node) ranOut(state lifecycle.State, now time.Time) bool {
	until := timeOf(n.row, "suspended_until")
	return state == lifecycle.Suspended && until != nil && !until.After(now)
}
