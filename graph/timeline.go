package graph

import (
	"context"
	"slices"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/visible"
)

// timelineFilter is what a timeline is narrowed to; nil lets all through.
type timelineFilter struct {
	types    []ent.RecordKind
	from, to *time.Time
	states   []lifecycle.State
	search   *string
}

func (r *Resolver) timeline(ctx context.Context, customer gid.ID, f timelineFilter, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*model.CommunicationConnection, error) {
	if err := checkID(customer, "customer", gid.Customer); err != nil {
		return nil, err
	}
	for _, k := range f.types {
		if ent.RecordTypeNamed(string(k)).Activity == "" {
			return nil, badInput("names a type that is no communication", "types")
		}
	}
	if f.states == nil {
		f.states = []lifecycle.State{lifecycle.Active}
	}
	list := mixed{}
	for _, t := range ent.RecordTypes {
		if t.Activity != "" && (f.types == nil || slices.Contains(f.types, t.Kind())) {
			found, err := finds(t, f.search)
			if err != nil {
				return nil, err
			}
			list = append(list, branch{t, t.Activity, func(s *sql.Selector) { f.where(s, customer, t.Activity); found(s) }})
		}
	}
	p, err := r.mixedPage(ctx, list, after, first, before, last)
	if err != nil {
		return nil, err
	}
	conn := &model.CommunicationConnection{Edges: []*model.CommunicationEdge{}, Nodes: []ent.Communication{}, PageInfo: &p.info, TotalCount: p.total}
	for i, rec := range p.records {
		c, _ := rec.(ent.Communication)
		conn.Nodes = append(conn.Nodes, c)
		conn.Edges = append(conn.Edges, &model.CommunicationEdge{Node: c, Cursor: p.cursors[i]})
	}
	return conn, nil
}

// where narrows one type to a customer that the reader may read: of another
// one nothing shows, also where its communications would.
func (f timelineFilter) where(s *sql.Selector, customer gid.ID, column string) {
	s.Where(sql.EQ(s.C("customer_id"), customer))
	visible.Target(s, "customer_id", "customers", ent.TypeCustomer)
	states := make([]any, len(f.states))
	for i, state := range f.states {
		states[i] = string(state)
	}
	s.Where(sql.In(s.C("state"), states...))
	if f.from != nil {
		s.Where(sql.GTE(s.C(column), *f.from))
	}
	if f.to != nil {
		s.Where(sql.LT(s.C(column), *f.to))
	}
}
