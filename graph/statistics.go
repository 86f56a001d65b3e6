package graph

import (
	"context"
	"time"

	"github.com/99designs/gqlgen/graphql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

func (r *Resolver) statistics(ctx context.Context, kinds []ent.RecordKind, from, to *time.Time, by model.StatisticsPeriod) (*model.Statistics, error) {
	req := record.StatisticsRequest{By: store.Period(by), To: r.DB.Now()}
	if to != nil {
		req.To = *to
	}
	if req.From = lately(req.To, req.By); from != nil {
		req.From = *from
	}
	named := map[ent.RecordKind]bool{}
	for _, k := range kinds {
		named[k] = true
	}
	for _, t := range ent.RecordTypes {
		if kinds == nil || named[t.Kind()] {
			req.Types = append(req.Types, t)
		}
	}
	if types := below(ctx, graphql.GetFieldContext(ctx).Field, "types"); types != nil {
		req.Periods = below(ctx, *types, "periods") != nil
	}
	found, err := r.Records.Statistics(ctx, req)
	if err != nil {
		return nil, err
	}
	out := &model.Statistics{Types: []*model.TypeStatistics{}}
	for _, t := range found {
		out.Types = append(out.Types, typeStatistics(t))
	}
	return out, nil
}

// lately is from when on statistics are counted where nothing is said.
func lately(to time.Time, by store.Period) time.Time {
	switch by {
	case store.Week:
		return to.AddDate(0, 0, -7*12)
	case store.Month:
		return to.AddDate(-1, 0, 0)
	}
	return to.AddDate(0, 0, -30)
}

func typeStatistics(t *record.TypeStatistics) *model.TypeStatistics {
	out := &model.TypeStatistics{
		Type: t.Type.Kind(), Live: whole(t.Live()), Active: whole(t.States[lifecycle.Active]), Suspended: whole(t.States[lifecycle.Suspended]),
		Archived: whole(t.States[lifecycle.Archived]), Voided: whole(t.States[lifecycle.Voided]), Deleted: whole(t.States[lifecycle.Deleted]),
		Periods: []*model.PeriodStatistics{},
	}
	for _, p := range t.Periods {
		out.Periods = append(out.Periods, &model.PeriodStatistics{
			Start: p.Start, End: p.End, Created: whole(p.Created), Deleted: whole(p.Deleted), Voided: whole(p.Voided),
			Restored: whole(p.Restored), Purged: whole(p.Purged), FreedBytes: float64(p.FreedBytes),
		})
	}
	return out
}
