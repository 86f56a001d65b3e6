package graph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"entgo.io/ent/dialect/sql"
	"github.com/99designs/gqlgen/graphql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// erased is how a reason reads whose record was purged.
const erased = "[erased]"

// events are audit events that were read together.
type events struct{ rows []*ent.AuditEvent }

// remember lets the resolvers of each event find the others, when they stand
// in many short lists: the histories of a list of records.
func (es *events) remember(ctx context.Context) {
	s := sharedOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range es.rows {
		s.together[e] = es
	}
}

type eventsKey struct {
	events any
	what   string
}

// eventsWith answers the events that were read with e, and what stands for them.
func eventsWith(ctx context.Context, e *ent.AuditEvent) ([]*ent.AuditEvent, any, error) {
	s := sharedOf(ctx)
	s.mu.Lock()
	es := s.together[e]
	s.mu.Unlock()
	if es != nil {
		return es.rows, es, nil
	}
	rows, field, err := listOf(ctx, e)
	return rows, field, err
}

// alias tells a field from others of its kind in the same selection.
func alias(ctx context.Context) string {
	f := graphql.GetFieldContext(ctx).Field
	return f.Name + " " + f.Alias
}

// readForEvents reads, once for all events read together, the things that they
// name by an id.
func readForEvents(ctx context.Context, client *ent.Client, e *ent.AuditEvent, field *graphql.CollectedField, id func(*ent.AuditEvent) *gid.ID) (map[gid.ID]ent.Noder, error) {
	rows, key, err := eventsWith(ctx, e)
	if err != nil {
		return nil, err
	}
	return once(ctx, eventsKey{key, alias(ctx)}, func() (map[gid.ID]ent.Noder, error) {
		return client.NodesByID(ctx, collect(rows, id), field)
	})
}

// collect lists the ids that rows name, each once.
func collect[T any](rows []T, id func(T) *gid.ID) []gid.ID {
	var ids []gid.ID
	seen := map[gid.ID]bool{}
	for _, row := range rows {
		if id := id(row); id != nil && !seen[*id] {
			ids, seen[*id] = append(ids, *id), true
		}
	}
	return ids
}

func (r *Resolver) eventActor(ctx context.Context, e *ent.AuditEvent) (*model.Actor, error) {
	out := &model.Actor{Kind: model.ActorKindUser}
	switch {
	case e.ActorID == nil:
		out.Kind = model.ActorKindSystem
		return out, nil
	case e.TokenID != nil:
		out.Kind = model.ActorKindToken
	}
	user := below(ctx, graphql.GetFieldContext(ctx).Field, "user")
	if user == nil {
		return out, nil
	}
	users, err := readForEvents(ctx, r.client(ctx), e, user, func(e *ent.AuditEvent) *gid.ID { return e.ActorID })
	out.User, _ = users[*e.ActorID].(*ent.User)
	return out, err
}

func (r *Resolver) eventOperation(ctx context.Context, e *ent.AuditEvent) (*ent.Operation, error) {
	if e.OperationID == nil {
		return nil, nil
	}
	field := graphql.GetFieldContext(ctx).Field
	operations, err := readForEvents(ctx, r.client(ctx), e, &field, func(e *ent.AuditEvent) *gid.ID { return e.OperationID })
	op, _ := operations[*e.OperationID].(*ent.Operation)
	return op, err
}

func eventType(e *ent.AuditEvent) *ent.RecordKind {
	if e.RecordType == nil || ent.RecordTypeNamed(*e.RecordType) == nil {
		return nil
	}
	kind := ent.RecordTypeNamed(*e.RecordType).Kind()
	return &kind
}

// personal is what of an event was sealed.
type personal struct {
	audit.Personal
	erased bool
	// hidden are the changes of fields that the reader may not see in the record.
	hidden []bool
}

// personal opens what of an event is sealed, and that of all events read with it.
func (r *Resolver) personal(ctx context.Context, e *ent.AuditEvent) (personal, error) {
	if len(e.Sealed) == 0 {
		return personal{}, nil
	}
	rows, key, err := eventsWith(ctx, e)
	if err != nil {
		return personal{}, err
	}
	opened, err := once(ctx, eventsKey{key, "personal"}, func() (map[gid.ID]personal, error) { return r.open(ctx, rows) })
	return opened[e.ID], err
}

func (r *Resolver) open(ctx context.Context, rows []*ent.AuditEvent) (map[gid.ID]personal, error) {
	seals, err := r.seals(ctx, collect(rows, func(e *ent.AuditEvent) *gid.ID { return e.RecordID }))
	if err != nil {
		return nil, err
	}
	out := make(map[gid.ID]personal, len(rows))
	for _, e := range rows {
		var seal []byte
		if e.RecordID != nil {
			seal = seals[*e.RecordID]
		}
		p, err := r.Audit.Open(e.TenantID, seal, e.ID, e.Sealed)
		switch {
		case errors.Is(err, audit.ErrErased):
			out[e.ID] = personal{erased: true}
		case err != nil:
			return nil, fmt.Errorf("opening an audit event: %w", err)
		default:
			out[e.ID] = personal{Personal: p}
		}
	}
	if err := r.hideFields(ctx, rows, out); err != nil {
		return nil, err
	}
	return out, r.hideReferences(ctx, rows, out)
}

// hideFields takes out of changes the values of fields that are hidden from the caller in the record as it is now.
// Of a record that is gone, every field that is hidden in some record is.
func (r *Resolver) hideFields(ctx context.Context, rows []*ent.AuditEvent, opened map[gid.ID]personal) error {
	byType := map[*ent.RecordType][]any{}
	for _, e := range rows {
		t := ent.RecordTypeNamed(deref(e.RecordType))
		if t == nil || e.RecordID == nil || len(opened[e.ID].Changes) == 0 {
			continue
		}
		if len(visible.MaskColumns(ctx, t.Name)) > 0 {
			byType[t] = append(byType[t], *e.RecordID)
		}
	}
	records := map[gid.ID]ent.Record{}
	for t, ids := range byType {
		// Whether or not the reader may read them: that he may read the event was decided before.
		all := visible.With(ctx, visible.Tenant(actor.From(ctx).Tenant))
		found, err := r.client(ctx).CollectRecords(all, t.Name, nil, append([]string{"id"}, visible.MaskColumns(ctx, t.Name)...), func(s *sql.Selector) {
			s.Where(sql.In(s.C("id"), ids...))
		})
		if err != nil {
			return fmt.Errorf("reading what decides about fields: %w", err)
		}
		for _, rec := range found {
			records[rec.RecordID()] = rec
		}
	}
	for _, e := range rows {
		m := visible.MaskOf(ctx, deref(e.RecordType))
		p := opened[e.ID]
		if m == nil || len(p.Changes) == 0 || e.RecordID == nil {
			continue
		}
		hidden := m.Names()
		if len(m.Columns()) > 0 && records[*e.RecordID] != nil {
			hidden = m.Hidden(records[*e.RecordID].Column)
		}
		p.hidden = make([]bool, len(p.Changes))
		for i := range p.Changes {
			if p.hidden[i] = hidden[p.Changes[i].Field]; p.hidden[i] {
				p.Changes[i].Old, p.Changes[i].New = nil, nil
			}
		}
		opened[e.ID] = p
	}
	return nil
}

// hideReferences takes out of changes the ids of records the caller may not
// read: that something pointed to them is theirs as well.
func (r *Resolver) hideReferences(ctx context.Context, rows []*ent.AuditEvent, opened map[gid.ID]personal) error {
	var ids []gid.ID
	each := func(f func(value *any, id gid.ID)) {
		for _, e := range rows {
			t := ent.RecordTypeNamed(deref(e.RecordType))
			if t == nil {
				continue
			}
			for i, c := range opened[e.ID].Changes {
				if !slices.ContainsFunc(t.Edges, func(edge ent.RecordReference) bool { return edge.GraphQL == c.Field }) {
					continue
				}
				change := &opened[e.ID].Changes[i]
				for _, value := range []*any{&change.Old, &change.New} {
					text, _ := (*value).(string)
					if id, err := gid.Parse(text); err == nil {
						f(value, id)
					}
				}
			}
		}
	}
	each(func(_ *any, id gid.ID) { ids = append(ids, id) })
	if len(ids) == 0 {
		return nil
	}
	seen, err := r.columns(ctx, ids, func(*ent.RecordType) []string { return nil })
	if err != nil {
		return err
	}
	each(func(value *any, id gid.ID) {
		if seen[id] == nil {
			*value = nil
		}
	})
	return nil
}

func deref[T any](v *T) T {
	var zero T
	if v == nil {
		return zero
	}
	return *v
}

// seals reads the seals of records in any state, whether or not the reader may
// read them: that he may read the event was decided by its own columns.
func (r *Resolver) seals(ctx context.Context, ids []gid.ID) (map[gid.ID][]byte, error) {
	var q store.Querier = r.DB
	if tx := store.TxFrom(ctx); tx != nil {
		q = tx
	}
	out := map[gid.ID][]byte{}
	byType := map[*ent.RecordType][]gid.ID{}
	for _, id := range ids {
		if t := ent.RecordTypeOf(id); t != nil {
			byType[t] = append(byType[t], id)
		}
	}
	for t, ids := range byType {
		err := store.Build(q).Add(`SELECT id, seal FROM `+t.Table+` WHERE tenant_id = ? AND `, actor.From(ctx).Tenant).IDs("id", ids).
			Query(ctx, q, func(rows store.Row) error {
				var id gid.ID
				var seal []byte
				if err := rows.Scan(&id, &seal); err != nil {
					return err
				}
				out[id] = seal
				return nil
			})
		if err != nil {
			return nil, fmt.Errorf("reading the seals of %s: %w", t.Table, err)
		}
	}
	return out, nil
}

func (r *Resolver) eventReason(ctx context.Context, e *ent.AuditEvent) (*string, error) {
	p, err := r.personal(ctx, e)
	switch {
	case err != nil:
		return nil, err
	case p.erased:
		reason := erased
		return &reason, nil
	case p.Reason == "":
		return nil, nil
	}
	return &p.Reason, nil
}

func (r *Resolver) eventChanges(ctx context.Context, e *ent.AuditEvent) ([]*model.FieldChange, error) {
	p, err := r.personal(ctx, e)
	if err != nil {
		return nil, err
	}
	changes := make([]*model.FieldChange, len(p.Changes))
	for i, c := range p.Changes {
		changes[i] = &model.FieldChange{Field: c.Field}
		if p.hidden != nil && p.hidden[i] {
			noteElement(ctx, i, "old")
			noteElement(ctx, i, "new")
			continue
		}
		if changes[i].Old, err = encoded(c.Old); err != nil {
			return nil, err
		}
		if changes[i].New, err = encoded(c.New); err != nil {
			return nil, err
		}
	}
	return changes, nil
}

func encoded(v any) (*string, error) {
	if v == nil {
		return nil, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding a value: %w", err)
	}
	s := string(b)
	return &s, nil
}
