package record

import (
	"context"
	"fmt"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/auditevent"
	"github.com/lethe-crm/lethe/ent/tombstone"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// MaxPeriods is how many periods statistics have at most.
const MaxPeriods = 400

// StatisticsRequest says what to count: records of these types, and what became of them in a time.
type StatisticsRequest struct {
	Types    []*ent.RecordType
	From, To time.Time
	By       store.Period
	// Periods says whether what became of records is asked for; without it only records are counted.
	Periods bool
}

// TypeStatistics are those of the records of a type that the reader may read.
type TypeStatistics struct {
	Type   *ent.RecordType
	States map[lifecycle.State]int
	// Periods are nil where none are asked for, and where the reader may read no audit event of the type.
	Periods []*PeriodStatistics
}

// Live is how many of the records are not retired.
func (t *TypeStatistics) Live() int {
	live := 0
	for state, n := range t.States {
		if !state.Retired() {
			live += n
		}
	}
	return live
}

// PeriodStatistics is what became of records in a day, a week or a month.
type PeriodStatistics struct {
	Start, End                                 time.Time
	Created, Deleted, Voided, Restored, Purged int
	// FreedBytes are those of the files of attachments that were purged; what the database needed for rows is not counted.
	FreedBytes int64
}

// Statistics counts the records that the reader in the context may read, by type and state, and the audit events that
// he may read, by type and period.
func (s *Service) Statistics(ctx context.Context, req StatisticsRequest) ([]*TypeStatistics, error) {
	starts, err := req.starts()
	if err != nil {
		return nil, err
	}
	out := make([]*TypeStatistics, len(req.Types))
	byName := map[string]*TypeStatistics{}
	for i, t := range req.Types {
		out[i] = &TypeStatistics{Type: t, States: map[lifecycle.State]int{}}
		if err := s.countStates(ctx, out[i]); err != nil {
			return nil, err
		}
		could, err := s.control.CouldEver(ctx, actor.From(ctx), authz.AuditRead, t.Name)
		if err != nil {
			return nil, Refuse(lifecycle.AuthzUnavailable, "access could not be decided; try again")
		}
		if !could || !req.Periods {
			continue
		}
		byName[t.Name] = out[i]
		for j, start := range starts[:len(starts)-1] {
			out[i].Periods = append(out[i].Periods, &PeriodStatistics{Start: start, End: starts[j+1]})
		}
	}
	if len(byName) == 0 {
		return out, nil
	}
	return out, s.countEvents(ctx, req, starts, byName)
}

// starts are when the periods begin, and when the last one ends.
func (r *StatisticsRequest) starts() ([]time.Time, error) {
	if !r.From.Before(r.To) {
		return nil, Refuse(lifecycle.BadUserInput, "is not before to", "from")
	}
	if r.From.Year() < 1 || r.To.Year() > 9999 {
		return nil, Refuse(lifecycle.BadUserInput, "is not in the years 1 to 9999", "from", "to")
	}
	starts := []time.Time{r.By.Start(r.From)}
	for starts[len(starts)-1].Before(r.To) {
		if len(starts) > MaxPeriods {
			return nil, Refuse(lifecycle.Limit, fmt.Sprintf("is more than %d periods before to", MaxPeriods), "from")
		}
		starts = append(starts, r.By.Next(starts[len(starts)-1]))
	}
	return starts, nil
}

func (s *Service) countStates(ctx context.Context, into *TypeStatistics) error {
	q := s.querier(ctx)
	from := sql.Dialect(q.Dialect()).Table(into.Type.Table)
	rows := sql.Dialect(q.Dialect()).Select(from.C("state"), "COUNT(*)").From(from).GroupBy(from.C("state")).WithContext(ctx)
	visible.Where(rows, into.Type.Name)
	err := store.Select(ctx, q, rows, func(row store.Row) error {
		var state string
		var n int
		err := row.Scan(&state, &n)
		into.States[lifecycle.State(state)] = n
		return err
	})
	if err != nil {
		return fmt.Errorf("counting %s: %w", into.Type.Table, err)
	}
	return nil
}

// countEvents counts from the audit log: it has what became of records that are gone, and says whose they were.
func (s *Service) countEvents(ctx context.Context, req StatisticsRequest, starts []time.Time, byName map[string]*TypeStatistics) error {
	q := s.querier(ctx)
	place := map[string]int{}
	for i, start := range starts {
		place[start.Format(time.DateOnly)] = i
	}
	names := make([]any, 0, len(byName))
	for name := range byName {
		names = append(names, name)
	}
	database := sql.Dialect(q.Dialect())
	e, t := database.Table(auditevent.Table).As("e"), database.Table(tombstone.Table).As("t")
	typ, action, at := e.C(auditevent.FieldRecordType), e.C(auditevent.FieldAction), e.C(auditevent.FieldAt)
	period := req.By.Day(q.Dialect(), at)
	rows := database.Select(typ, action, period, "COUNT(*)", "CAST(COALESCE(SUM("+t.C(tombstone.FieldSize)+"), 0) AS bigint)").From(e).LeftJoin(t).OnP(sql.And(
		sql.ColumnsEQ(t.C(tombstone.FieldRecordID), e.C(auditevent.FieldRecordID)),
		sql.ColumnsEQ(t.C(tombstone.FieldOperationID), e.C(auditevent.FieldOperationID)),
		sql.EQ(action, string(lifecycle.Purge)),
	)).WithContext(ctx)
	rows.Where(sql.And(
		sql.GTE(at, req.From.UTC()), sql.LT(at, req.To.UTC()), sql.In(typ, names...), sql.EQ(e.C(auditevent.FieldOutcome), string(auditevent.OutcomeSUCCEEDED)),
		sql.In(action, "CREATE", string(lifecycle.Delete), string(lifecycle.Void), string(lifecycle.Restore), string(lifecycle.Undo), string(lifecycle.Purge)),
		// What was archived or suspended was not away.
		sql.ExprP("("+action+" NOT IN ('RESTORE', 'UNDO') OR "+e.C(auditevent.FieldFrom)+" IN ('VOIDED', 'DELETED'))"),
	))
	visible.Where(rows, ent.TypeAuditEvent)
	rows.GroupBy(typ, action, period)
	err := store.Select(ctx, q, rows, func(row store.Row) error {
		var name, action, day string
		var n int
		var size int64
		if err := row.Scan(&name, &action, &day, &n, &size); err != nil {
			return err
		}
		i, ok := place[day]
		if !ok {
			return fmt.Errorf("an event on %s, which is in no period", day)
		}
		byName[name].Periods[i].count(action, n, size)
		return nil
	})
	if err != nil {
		return fmt.Errorf("counting audit events: %w", err)
	}
	return nil
}

func (p *PeriodStatistics) count(action string, n int, size int64) {
	switch lifecycle.Verb(action) {
	case lifecycle.Delete:
		p.Deleted += n
	case lifecycle.Void:
		p.Voided += n
	case lifecycle.Restore, lifecycle.Undo:
		p.Restored += n
	case lifecycle.Purge:
		p.Purged += n
		p.FreedBytes += size
	default:
		p.Created += n
	}
}
