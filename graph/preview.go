package graph

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/99designs/gqlgen/graphql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
)

// preview answers what the one verb that is set would do.
func (r *Resolver) preview(ctx context.Context, in model.PreviewInput) (*record.Preview, error) {
	var m move
	var name string
	switch {
	case in.Delete.Value() != nil:
		m, name = deletion(in.Delete.Value()), "delete"
	case in.Void.Value() != nil:
		m, name = voiding(in.Void.Value()), "void"
	case in.Archive.Value() != nil:
		m, name = archiving(in.Archive.Value()), "archive"
	case in.Suspend.Value() != nil:
		m, name = suspending(in.Suspend.Value()), "suspend"
	case in.Restore.Value() != nil:
		m, name = restoration(in.Restore.Value()), "restore"
	case in.Purge.Value() != nil:
		m, name = purging(in.Purge.Value()), "purge"
	case in.EmptyBin.Value() != nil:
		m, name = emptying(in.EmptyBin.Value()), "emptyBin"
	case in.Undo.Value() != nil:
		m, name = undoing(in.Undo.Value()), "undo"
	default:
		return nil, badInput("must not be null", "input")
	}
	input, _ := inputOf(ctx)[name].(map[string]any)
	req, err := m.request(input)
	if err != nil {
		return nil, err
	}
	return r.Records.Preview(ctx, req)
}

// previewItems is a page of items that are stored nowhere.
func previewItems(ctx context.Context, p *record.Preview, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*ent.OperationItemConnection, error) {
	_, rows, _, err := ent.PageOf(ctx, first, last)
	if err != nil {
		return nil, err
	}
	conn := &ent.OperationItemConnection{Edges: []*ent.OperationItemEdge{}, TotalCount: len(p.Items)}
	if !rows {
		return conn, nil
	}
	items := p.Items
	for _, c := range []struct {
		argument string
		cursor   *ent.Cursor
	}{{"before", before}, {"after", after}} {
		if c.cursor == nil {
			continue
		}
		at := slices.IndexFunc(p.Items, func(item *ent.OperationItem) bool { return item.ID == c.cursor.ID })
		if at < 0 || c.cursor.Value != nil {
			return nil, badInput("is a cursor of another list, or of an item that is not previewed any more", c.argument)
		}
		if c.argument == "before" {
			items = items[:at]
		} else {
			items = items[min(at+1, len(items)):]
		}
	}
	w := windowOf(after, first, before, last)
	items = slices.Clone(items)
	if w.backward {
		slices.Reverse(items)
	}
	items, cursors, info := page(w, items, func(item *ent.OperationItem) ent.Cursor { return ent.Cursor{ID: item.ID} })
	conn.PageInfo = info
	for i, item := range items {
		conn.Edges = append(conn.Edges, &ent.OperationItemEdge{Node: item, Cursor: cursors[i]})
	}
	return conn, nil
}

// showBlockers shows blockers that are stored nowhere, to the caller they were
// found for.
func (r *Resolver) showBlockers(ctx context.Context, list []record.Blocked) ([]*model.Blocker, error) {
	var with items
	for i, b := range list {
		params, err := json.Marshal([]record.Blocker{b.Blocker})
		if err != nil {
			return nil, fmt.Errorf("encoding a blocker: %w", err)
		}
		with.rows = append(with.rows, &ent.OperationItem{ID: gid.ID{byte(i >> 8), byte(i)}, RecordID: b.Record, Params: params})
	}
	read, err := r.readBlockers(ctx, with)
	if err != nil {
		return nil, err
	}
	out := make([]*model.Blocker, len(list))
	for i, b := range list {
		if out[i], err = read.shown(ctx, i, with.rows[i], b.Blocker); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r *Resolver) affectedUsers(ctx context.Context, p *record.Preview) ([]*ent.User, error) {
	ids, err := p.AffectedUsers(ctx)
	if err != nil || len(ids) == 0 {
		return []*ent.User{}, err
	}
	field := graphql.GetFieldContext(ctx).Field
	found, err := r.client(ctx).NodesByID(ctx, ids, &field)
	if err != nil {
		return nil, err
	}
	users := make([]*ent.User, 0, len(ids))
	for _, id := range ids {
		if user, ok := found[id].(*ent.User); ok {
			users = append(users, user)
		}
	}
	return users, nil
}

func brokenThreads(ctx context.Context, p *record.Preview) ([]*record.ThreadImpact, error) {
	threads, err := p.BrokenThreads(ctx)
	for i, t := range threads {
		if t.Masked {
			noteElement(ctx, i, "subject")
		}
	}
	return threads, err
}

// reasonMessage is the code in words, where there is nothing more to say.
func reasonMessage(ctx context.Context, reason *record.Reason) string {
	return inWords(ctx, cmp.Or(reason.Message, messages[reason.Code]))
}

func (r *Resolver) reasonBlockers(ctx context.Context, reason *record.Reason) ([]*model.Blocker, error) {
	list := make([]record.Blocked, len(reason.Blockers))
	for i, b := range reason.Blockers {
		list[i] = record.Blocked{Record: reason.Record, Blocker: b}
	}
	return r.showBlockers(ctx, list)
}
