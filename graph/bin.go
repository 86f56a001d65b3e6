package graph

import (
	"context"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
)

// binOf is the part of the bin that arguments name.
func binOf(kinds []ent.RecordKind, deletedBy *gid.ID) (*record.Bin, error) {
	if deletedBy != nil {
		if err := checkID(*deletedBy, "deletedBy", gid.User); err != nil {
			return nil, err
		}
	}
	b := &record.Bin{DeletedBy: deletedBy}
	if kinds != nil {
		b.Types = []string{}
	}
	for _, k := range kinds {
		b.Types = append(b.Types, string(k))
	}
	return b, nil
}

// binFilter is what the bin is narrowed to beside types and user.
type binFilter struct {
	deletedFrom, deletedBefore, purgeBefore *time.Time
	owner, operation                        *gid.ID
	search                                  *string
}

func (r *Resolver) bin(ctx context.Context, kinds []ent.RecordKind, deletedBy *gid.ID, f binFilter, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*model.RecordConnection, error) {
	in, err := binOf(kinds, deletedBy)
	if err != nil {
		return nil, err
	}
	if f.owner != nil {
		if err := checkID(*f.owner, "owner", gid.User); err != nil {
			return nil, err
		}
	}
	if f.operation != nil {
		if err := checkID(*f.operation, "operation", gid.Operation); err != nil {
			return nil, err
		}
	}
	in.DeletedFrom, in.DeletedBefore, in.PurgeBefore, in.Owner, in.Operation = f.deletedFrom, f.deletedBefore, f.purgeBefore, f.owner, f.operation
	list := mixed{}
	for _, t := range ent.RecordTypes {
		if in.Has(t) {
			found, err := finds(t, f.search)
			if err != nil {
				return nil, err
			}
			list = append(list, branch{t, "state_changed_at", func(s *sql.Selector) { in.Where(s); found(s) }})
		}
	}
	return r.recordPage(ctx, list, after, first, before, last)
}

// finds narrows a list to records of a type in which a text is found; nil is any.
func finds(t *ent.RecordType, text *string) (func(*sql.Selector), error) {
	if text == nil {
		return func(*sql.Selector) {}, nil
	}
	found, err := t.Search(*text)
	if err != nil {
		return nil, badInput(err.Error(), "search")
	}
	return found, nil
}

// recordPage is a page of a mixed list as the API shows it.
func (r *Resolver) recordPage(ctx context.Context, list mixed, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*model.RecordConnection, error) {
	p, err := r.mixedPage(ctx, list, after, first, before, last)
	if err != nil {
		return nil, err
	}
	conn := &model.RecordConnection{Edges: []*model.RecordEdge{}, Nodes: p.records, PageInfo: &p.info, TotalCount: p.total}
	for i, rec := range p.records {
		conn.Edges = append(conn.Edges, &model.RecordEdge{Node: rec, Cursor: p.cursors[i]})
	}
	return conn, nil
}
