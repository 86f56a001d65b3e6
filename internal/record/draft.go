package record

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// draft is a record that is about to be created.
type draft struct {
	id     gid.ID            // zero leaves it to the schema
	values Values            // by field name of the registry
	parts  map[string][]part // by part name
	keys   map[string]string // folded columns
	props  map[string]any    // as policies see it
	err    *Error

	inherited bool // its owner is that of the owner row
}

type part map[string]any

func newDraft(t *ent.RecordType, values Values, create bool) *draft {
	d := &draft{values: Values{}, parts: map[string][]part{}, keys: map[string]string{}}
	d.err = d.read(t, values, create)
	for _, f := range t.Fields {
		v, given := d.values[f.Name]
		if f.Named && v == nil && (create || given) && d.err == nil {
			d.err = Refuse(lifecycle.BadUserInput, "is required", f.GraphQL)
		}
	}
	if create && d.err == nil {
		d.err = d.oneOwner(t, nil)
	}
	return d
}

// oneOwner refuses a record that would have no owner or several, where its type
// has exactly one. before is the record as it is; nil for a new one.
func (d *draft) oneOwner(t *ent.RecordType, before ent.Record) *Error {
	if !t.OneOwner {
		return nil
	}
	var fields []string
	owners := 0
	for _, e := range t.Edges {
		if e.Class != lifecycle.Owned {
			continue
		}
		fields = append(fields, e.GraphQL)
		v, given := d.values[e.Column]
		if !given && before != nil {
			v = before.Column(e.Column)
		}
		if v != nil {
			owners++
		}
	}
	if owners == 1 {
		return nil
	}
	return Refuse(lifecycle.BadUserInput, "exactly one of these is needed", fields...)
}

// read sorts values by field of the registry and computes the folded columns.
func (d *draft) read(t *ent.RecordType, values Values, create bool) *Error {
	for name, v := range values {
		if i := slices.IndexFunc(t.Parts, func(p ent.RecordPart) bool { return p.GraphQL == name }); i >= 0 {
			parts, err := readParts(t.Parts[i], v)
			if err != nil {
				return err
			}
			d.parts[t.Parts[i].Name] = parts
			continue
		}
		i := slices.IndexFunc(t.Fields, func(f ent.RecordField) bool { return f.GraphQL == name && !f.ReadOnly && (create || !f.Immutable) })
		if i < 0 {
			return Refuse(lifecycle.BadUserInput, "there is no such field", name)
		}
		f := t.Fields[i]
		v = deref(v)
		switch typed := v.(type) {
		case string:
			if !storable(typed) {
				return Refuse(lifecycle.BadUserInput, unstorable, name)
			}
			if f.Kind == "string" && typed == "" {
				v = nil // empty is stored as NULL
			}
		case time.Time:
			// As both databases keep it, so that what is answered now is what is read later.
			typed = typed.UTC().Truncate(time.Microsecond)
			if typed.Year() < 1 || typed.Year() > 9999 {
				return Refuse(lifecycle.BadUserInput, "is not in the years 1 to 9999", name)
			}
			v = typed
		case int32: // as GraphQL has it
			v = int(typed)
		case float64:
			typed = math.Round(typed*1e4) / 1e4
			if math.IsNaN(typed) || math.Abs(typed) >= 1e15 {
				return Refuse(lifecycle.BadUserInput, "has more than 15 digits before the point", name)
			}
			v = typed
		}
		d.values[f.Name] = v
		for column, fold := range keyColumns(t, f.Name) {
			text, _ := v.(string)
			d.keys[column] = Fold(text, fold)
		}
	}
	return nil
}

const unstorable = "contains a NUL or is not UTF-8"

// storable reports whether both databases can hold a text.
func storable(s string) bool { return !strings.ContainsRune(s, 0) && utf8.ValidString(s) }

func readParts(p ent.RecordPart, v any) ([]part, *Error) {
	rows, ok := v.([]map[string]any)
	if v != nil && !ok {
		return nil, Refuse(lifecycle.BadUserInput, "is not a list of objects", p.GraphQL)
	}
	out := make([]part, 0, len(rows))
	for _, row := range rows {
		address, _ := deref(row["address"]).(string)
		name, _ := deref(row["name"]).(string)
		if strings.TrimSpace(address) == "" || mixin.Characters(mixin.MaxName)(address) != nil || mixin.Characters(mixin.MaxName)(name) != nil {
			return nil, Refuse(lifecycle.BadUserInput, fmt.Sprintf("an address is needed, of at most %d characters", mixin.MaxName), p.GraphQL)
		}
		if !storable(address) || !storable(name) {
			return nil, Refuse(lifecycle.BadUserInput, unstorable, p.GraphQL)
		}
		kind := "TO"
		if given := deref(row["kind"]); given != nil && fmt.Sprint(given) != "" {
			kind = fmt.Sprint(given)
		}
		if kind != "TO" && kind != "CC" && kind != "BCC" {
			return nil, Refuse(lifecycle.BadUserInput, "a kind is TO, CC or BCC", p.GraphQL)
		}
		out = append(out, part{"address": address, "name": name, "kind": kind})
	}
	return out, nil
}

// valid refuses a draft that the schema would refuse, so that one bad row does
// not take a batch down with it.
func (s *Service) valid(ctx context.Context, tx *store.Tx, a *actor.Actor, t *ent.RecordType, d *draft) *Error {
	err := s.Client(ctx).CheckRecord(t.Name, func(m ent.Mutation) error {
		for _, name := range []string{"created_at", "updated_at", "state_changed_at"} {
			if err := m.SetField(name, tx.Now()); err != nil {
				return err
			}
		}
		if err := m.SetField("tenant_id", a.Tenant); err != nil {
			return err
		}
		if t.Numbered { // it is taken later, where none is given
			if err := m.SetField("number", "0"); err != nil {
				return err
			}
		}
		return setFields(t, m, d)
	})
	if err == nil {
		return nil
	}
	err = mapWriteError(t, err)
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused
	}
	return Refuse(lifecycle.BadUserInput, err.Error())
}

func partRows(a *actor.Actor, p ent.RecordPart, record gid.ID, parts []part) [][]any {
	rows := make([][]any, len(parts))
	for i, values := range parts {
		row := make([]any, len(p.Columns))
		for j, column := range p.Columns {
			switch column {
			case "id":
				row[j] = gid.New(gid.Recipient)
			case "tenant_id":
				row[j] = a.Tenant
			case p.Column:
				row[j] = record
			case "address_key":
				address, _ := values["address"].(string)
				row[j] = Fold(address, lifecycle.FoldEmail)
			default:
				row[j] = values[column]
				if row[j] == "" {
					row[j] = nil
				}
			}
		}
		rows[i] = row
	}
	return rows
}

// setFields fills a mutation with what a draft says; nil clears.
func setFields(t *ent.RecordType, m ent.Mutation, d *draft) error {
	if named, ok := m.(interface{ SetID(id gid.ID) }); ok && !d.id.IsZero() {
		named.SetID(d.id)
	}
	for name, v := range d.values {
		if err := setField(m, name, v); err != nil {
			return Refuse(lifecycle.BadUserInput, "cannot have this value", graphQLName(t, name))
		}
	}
	for column, key := range d.keys {
		var v any
		if key != "" {
			v = key
		}
		if err := setField(m, column, v); err != nil {
			return fmt.Errorf("setting %s: %w", column, err)
		}
	}
	return nil
}

func setField(m ent.Mutation, name string, v any) error {
	if v != nil {
		return m.SetField(name, v)
	}
	if m.Op().Is(ent.OpCreate) {
		return nil
	}
	return m.ClearField(name)
}

func graphQLName(t *ent.RecordType, column string) string {
	for _, f := range t.Fields {
		if f.Name == column {
			return f.GraphQL
		}
	}
	return column
}
