package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"entgo.io/ent/dialect/sql"
	"github.com/99designs/gqlgen/graphql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/graph/generated"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/visible"
)

// canUndo reports whether the caller may take an operation back now.
func (r *Resolver) canUndo(ctx context.Context, op *ent.Operation) (bool, error) {
	undoable := op.Verb == lifecycle.Delete || op.Verb == lifecycle.Void || op.Verb == lifecycle.Archive || op.Verb == lifecycle.Suspend
	if !undoable || op.FinishedAt == nil || op.Changed == 0 || op.UndoneByID != nil {
		return false, nil
	}
	for _, t := range ent.RecordTypes {
		could, err := r.Control.CouldEver(ctx, actor.From(ctx), authz.Restore, t.Name)
		if could || err != nil {
			return could, err
		}
	}
	return false, nil
}

// items are the items of an operation, or of a list of operations, that are
// shown together.
type items struct {
	rows []*ent.OperationItem
	key  *graphql.FieldContext
}

// itemsWith finds the items that are shown with one. Where the operations stand
// in a list themselves it is the items of all of them.
func itemsWith(ctx context.Context, item *ent.OperationItem) (items, error) {
	rows, field, err := listOf(ctx, item)
	if err != nil {
		return items{}, err
	}
	var name string
	for outer := field; outer != nil; outer = outer.Parent {
		if outer.Object == ent.TypeOperation && outer.Field.Field != nil && outer.Field.Name == "items" {
			name = outer.Field.Alias
			continue
		}
		operations := reflect.ValueOf(outer.Result)
		if name == "" || operations.Kind() != reflect.Slice {
			continue
		}
		all, err := once(ctx, listKey{outer, "items " + name}, func() ([]*ent.OperationItem, error) {
			var all []*ent.OperationItem
			for i := range operations.Len() {
				if op, ok := nodeOf[*ent.Operation](operations.Index(i)); ok {
					loaded, _ := op.NamedItems(name) // not loaded, no items
					all = append(all, loaded...)
				}
			}
			return all, nil
		})
		if err == nil && len(all) >= len(rows) {
			return items{all, outer}, nil
		}
		break
	}
	return items{rows, field}, nil
}

// itemRecord is the record that an item names, as far as the caller may read it.
func (r *Resolver) itemRecord(ctx context.Context, item *ent.OperationItem, id func(*ent.OperationItem) *gid.ID) (ent.Record, error) {
	named := id(item)
	if named == nil {
		return nil, nil
	}
	with, err := itemsWith(ctx, item)
	if err != nil {
		return nil, err
	}
	field := graphql.GetFieldContext(ctx).Field
	records, err := once(ctx, listKey{with.key, alias(ctx)}, func() (map[gid.ID]ent.Noder, error) {
		return r.client(ctx).NodesByID(ctx, with.ids(id), &field)
	})
	rec, _ := records[*named].(ent.Record)
	return rec, err
}

func ownRecord(item *ent.OperationItem) *gid.ID { return &item.RecordID }

func cameWith(item *ent.OperationItem) *gid.ID { return item.CameWith }

// ids are those of the records that the items name.
func (is items) ids(id func(*ent.OperationItem) *gid.ID) []gid.ID {
	ids := collect(is.rows, id)
	records := ids[:0]
	for _, id := range ids {
		if ent.RecordTypeOf(id) != nil {
			records = append(records, id)
		}
	}
	return records
}

func itemType(item *ent.OperationItem) *ent.RecordKind {
	t := ent.RecordTypeOf(item.RecordID)
	if t == nil {
		return nil
	}
	kind := t.Kind()
	return &kind
}

// itemLabel reads no more of the records than their labels.
func (r *Resolver) itemLabel(ctx context.Context, item *ent.OperationItem) (*string, error) {
	with, err := itemsWith(ctx, item)
	if err != nil {
		return nil, err
	}
	labels, err := once(ctx, listKey{with.key, "labels"}, func() (map[gid.ID]ent.Record, error) {
		return r.columns(ctx, with.ids(ownRecord), func(t *ent.RecordType) []string { return t.Labels })
	})
	rec := labels[item.RecordID]
	if rec == nil {
		return nil, err
	}
	if hides(ctx, rec, access.LabelField) {
		generated.NoteMasked(ctx)
		return nil, err
	}
	return rec.Label(), err
}

// hides reports whether a field of a record is hidden from the caller.
func hides(ctx context.Context, r ent.Record, field string) bool {
	m := visible.MaskOf(ctx, r.RecordType().Name)
	return m != nil && m.Hidden(r.Column)[field]
}

// columns reads some columns of records the caller may read, in one statement
// a type.
func (r *Resolver) columns(ctx context.Context, ids []gid.ID, columns func(*ent.RecordType) []string) (map[gid.ID]ent.Record, error) {
	byType := map[*ent.RecordType][]any{}
	for _, id := range ids {
		if t := ent.RecordTypeOf(id); t != nil {
			byType[t] = append(byType[t], id)
		}
	}
	out := map[gid.ID]ent.Record{}
	for t, ids := range byType {
		names := append(append([]string{"id"}, columns(t)...), visible.MaskColumns(ctx, t.Name)...)
		rows, err := r.client(ctx).CollectRecords(ctx, t.Name, nil, names, func(s *sql.Selector) {
			s.Where(sql.In(s.C("id"), ids...))
		})
		if err != nil {
			return nil, err
		}
		for _, rec := range rows {
			out[rec.RecordID()] = rec
		}
	}
	return out, nil
}

// messages say each code in words.
var messages = map[lifecycle.Code]string{
	lifecycle.NotFound:            "There is no such record.",
	lifecycle.Forbidden:           "You may not do this to the record, or to one that would come along.",
	lifecycle.FieldForbidden:      "You may not use this field.",
	lifecycle.IllegalTransition:   "The record's state does not allow it.",
	lifecycle.NotRetired:          "Only voided and deleted records are purged.",
	lifecycle.RecordNotEditable:   "The record is read-only in its state.",
	lifecycle.Conflict:            "The record is not at this version any more.",
	lifecycle.UniqueConflict:      "Another live record has the same value.",
	lifecycle.HasDependents:       "Live records depend on it.",
	lifecycle.ParentRetired:       "The record it belongs to is retired.",
	lifecycle.Hold:                "A legal hold keeps it as it is.",
	lifecycle.Retained:            "It has to be kept for now.",
	lifecycle.InvalidFilter:       "The filter compares nothing.",
	lifecycle.Limit:               "That is more than is allowed at once.",
	lifecycle.DuplicateInput:      "The id was given before.",
	lifecycle.IdempotencyMismatch: "The idempotency key was used for another request.",
	lifecycle.Gone:                "The record was purged.",
	lifecycle.Lockout:             "The tenant would be left without an active user who can edit its policy.",
	lifecycle.ApprovalRequired:    "Others have to agree first.",
	lifecycle.Stale:               "It is not as it was when others agreed.",
	lifecycle.SelfApproval:        "Nobody decides on what he asked for himself.",
	lifecycle.ExportRequired:      "It has to be exported first: no complete export has it.",
	lifecycle.ExportStale:         "It has to be exported again: it has changed since.",
	lifecycle.BadUserInput:        "The input is not valid.",
	lifecycle.AuthzUnavailable:    "Access could not be decided; try again.",
	lifecycle.Internal:            "Something went wrong on our side.",
}

func codeOf(code *string) *lifecycle.Code {
	if code == nil {
		return nil
	}
	c := lifecycle.Code(*code)
	return &c
}

// itemCode is the code of an item as the caller may know it: that it was a hold
// was told to who asked for the operation, if he might know.
func itemCode(ctx context.Context, item *ent.OperationItem) *lifecycle.Code {
	code := codeOf(item.Code)
	if code != nil && *code == lifecycle.Hold && !asked(ctx) {
		*code = lifecycle.Retained
	}
	return code
}

func itemMessage(ctx context.Context, item *ent.OperationItem) *string {
	code := itemCode(ctx, item)
	if code == nil {
		return nil
	}
	message, ok := messages[*code]
	if !ok {
		return nil
	}
	message = inWords(ctx, message)
	return &message
}

// blockers are the parameters of the codes of items shown together, with what
// they name.
type blockers struct {
	of         map[gid.ID][]record.Blocker
	records    map[gid.ID]ent.Noder
	operations map[gid.ID]ent.Noder
	// own are the items' records, for values that are read from them.
	own map[gid.ID]ent.Record
}

func (r *Resolver) itemBlockers(ctx context.Context, item *ent.OperationItem) ([]*model.Blocker, error) {
	if len(item.Params) == 0 {
		return []*model.Blocker{}, nil
	}
	with, err := itemsWith(ctx, item)
	if err != nil {
		return nil, err
	}
	b, err := once(ctx, listKey{with.key, alias(ctx)}, func() (*blockers, error) { return r.readBlockers(ctx, with) })
	if err != nil {
		return nil, err
	}
	own := b.of[item.ID]
	if !asked(ctx) { // of a hold, nothing
		own = slices.DeleteFunc(slices.Clone(own), func(b record.Blocker) bool { return b.Code == lifecycle.Hold || b.Code == lifecycle.Retained })
	}
	out := make([]*model.Blocker, len(own))
	for i, stored := range own {
		if !asked(ctx) && stored.Record == "" && (stored.Code == lifecycle.HasDependents || stored.Code == lifecycle.Forbidden) {
			// What stood in the way was told to who asked; others may not be allowed to read it.
			stored = record.Blocker{Code: stored.Code, Hidden: true}
		}
		if out[i], err = b.shown(ctx, i, item, stored); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// asked reports whether the caller asked for the operation, or for the preview,
// that the field is below.
func asked(ctx context.Context) bool {
	for field := graphql.GetFieldContext(ctx); field != nil; field = field.Parent {
		if _, ok := field.Result.(*record.Preview); ok {
			return true
		}
		op, ok := field.Result.(*ent.Operation)
		if at, isElement := field.Result.(**ent.Operation); isElement {
			op, ok = *at, true
		}
		if ok && op != nil {
			user := actor.From(ctx).User
			return op.ActorID != nil && *op.ActorID == user
		}
	}
	return false
}

func (r *Resolver) readBlockers(ctx context.Context, with items) (*blockers, error) {
	b := &blockers{of: map[gid.ID][]record.Blocker{}}
	var records, operations, conflicts []gid.ID
	columns := map[*ent.RecordType][]string{}
	for _, item := range with.rows {
		if len(item.Params) == 0 {
			continue
		}
		var stored []record.Blocker
		if err := json.Unmarshal(item.Params, &stored); err != nil {
			return nil, fmt.Errorf("reading the parameters of a code: %w", err)
		}
		b.of[item.ID] = stored
		for _, s := range stored {
			for text, ids := range map[string]*[]gid.ID{s.Record: &records, s.Operation: &operations} {
				if text == "" {
					continue
				}
				id, err := gid.ParseUUID(text)
				if err != nil {
					return nil, fmt.Errorf("reading the parameters of a code: %w", err)
				}
				*ids = append(*ids, id)
			}
			if t := ent.RecordTypeOf(item.RecordID); t != nil && columnOf(t, s.Field) != "" {
				conflicts, columns[t] = append(conflicts, item.RecordID), append(columns[t], columnOf(t, s.Field))
			}
		}
	}
	field := graphql.GetFieldContext(ctx).Field
	var err error
	if sub := below(ctx, field, "record"); sub != nil {
		if b.records, err = r.client(ctx).NodesByID(ctx, records, sub); err != nil {
			return nil, err
		}
	}
	if sub := below(ctx, field, "operation"); sub != nil {
		if b.operations, err = r.client(ctx).NodesByID(ctx, operations, sub); err != nil {
			return nil, err
		}
	}
	if below(ctx, field, "value") != nil {
		b.own, err = r.columns(ctx, conflicts, func(t *ent.RecordType) []string { return columns[t] })
	}
	return b, err
}

// columnOf is the column of a field that has a text value of its own.
func columnOf(t *ent.RecordType, field string) string {
	for _, f := range t.Fields {
		if f.GraphQL == field && f.Kind == "string" {
			return f.Name
		}
	}
	return ""
}

func (b *blockers) shown(ctx context.Context, index int, item *ent.OperationItem, s record.Blocker) (*model.Blocker, error) {
	out := &model.Blocker{Code: s.Code, Until: s.Until, Hidden: s.Hidden}
	if t := ent.RecordTypeNamed(s.Type); t != nil {
		kind := t.Kind()
		out.Type = &kind
	}
	if s.Count > 0 {
		n := int32(s.Count) //nolint:gosec // an operation is about 1,000 records at most
		out.Count = &n
	}
	if s.Code == lifecycle.Limit {
		n := int32(s.Limit) //nolint:gosec // a cap is a setting, and no larger
		out.Limit = &n
	}
	if s.Version > 0 {
		n := int32(s.Version) //nolint:gosec // as Record.version, which is an Int as well
		out.Version = &n
	}
	if s.Field != "" {
		out.Field = &s.Field
	}
	if s.Role != "" {
		out.Role = &s.Role
	}
	if s.State != "" {
		out.State = &s.State
	}
	for _, v := range s.Allowed {
		out.Allowed = append(out.Allowed, verbs[v])
	}
	if s.Record != "" {
		id, err := gid.ParseUUID(s.Record)
		if err != nil {
			return nil, fmt.Errorf("reading the parameters of a code: %w", err)
		}
		out.Record, _ = b.records[id].(ent.Record)
	}
	if s.Operation != "" {
		id, err := gid.ParseUUID(s.Operation)
		if err != nil {
			return nil, fmt.Errorf("reading the parameters of a code: %w", err)
		}
		out.Operation, _ = b.operations[id].(*ent.Operation)
	}
	if own := b.own[item.RecordID]; own != nil && s.Code == lifecycle.UniqueConflict {
		if hides(ctx, own, s.Field) {
			noteElement(ctx, index, "value")
			return out, nil
		}
		if value, ok := own.Column(columnOf(own.RecordType(), s.Field)).(string); ok {
			out.Value = &value
		}
	}
	return out, nil
}
