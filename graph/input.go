package graph

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
)

// create makes a record of the type from an input of gqlgen's.
func create[T ent.Record](ctx context.Context, r *Resolver, typ string, input any) (T, error) {
	return write[T](typ, input, func(values record.Values) (ent.Record, error) { return r.Records.Create(ctx, typ, values) })
}

// update changes a record of the type.
func update[T ent.Record](ctx context.Context, r *Resolver, typ string, id gid.ID, version int32, input any) (T, error) {
	if err := checkID(id, "id", ent.RecordTypeNamed(typ).Type); err != nil {
		var none T
		return none, err
	}
	return write[T](typ, input, func(values record.Values) (ent.Record, error) {
		return r.Records.Update(ctx, id, int(version), values)
	})
}

// write saves what an input gives.
func write[T ent.Record](typ string, input any, save func(record.Values) (ent.Record, error)) (T, error) {
	var none T
	values, err := valuesOf(ent.RecordTypeNamed(typ), input)
	if err != nil {
		return none, err
	}
	rec, err := save(values)
	if err != nil {
		return none, err
	}
	saved, ok := rec.(T)
	if !ok {
		return none, fmt.Errorf("a %s was saved as a %T", typ, rec)
	}
	return saved, nil
}

// people are the types that are no records and that records refer to.
var people = map[string]gid.Type{ent.TypeUser: gid.User, ent.TypeTeam: gid.Team}

// valuesOf are the fields of an input that were given, by their names.
func valuesOf(t *ent.RecordType, input any) (record.Values, error) {
	values := record.Values(given(reflect.ValueOf(input)))
	delete(values, "id")
	delete(values, "version")
	for name, v := range values {
		id, ok := v.(gid.ID)
		if !ok {
			continue
		}
		i := slices.IndexFunc(t.Fields, func(f ent.RecordField) bool { return f.GraphQL == name })
		if i < 0 {
			continue
		}
		want, ok := people[t.Fields[i].Target]
		if target := ent.RecordTypeNamed(t.Fields[i].Target); target != nil {
			want, ok = target.Type, true
		}
		if ok {
			if err := checkID(id, name, want); err != nil {
				return nil, err
			}
		}
	}
	return values, nil
}

// omittable is a field of an input that knows whether it was given.
type omittable interface{ IsSet() bool }

// given reads an input of gqlgen's: what was absent is absent, null is nil.
func given(input reflect.Value) map[string]any {
	values := map[string]any{}
	for i := range input.NumField() {
		name, _, _ := strings.Cut(input.Type().Field(i).Tag.Get("json"), ",")
		v := input.Field(i)
		if o, ok := reflect.TypeAssert[omittable](v); ok {
			if !o.IsSet() {
				continue
			}
			v = v.MethodByName("Value").Call(nil)[0]
		}
		values[name] = plain(v)
	}
	return values
}

// plain turns pointers into what they point to, and lists of inputs into lists
// of their values.
func plain(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return plain(v.Elem())
	case reflect.Slice:
		if v.IsNil() {
			return nil
		}
		if v.Type().Elem().Kind() != reflect.Pointer {
			return v.Interface()
		}
		parts := make([]map[string]any, v.Len())
		for i := range parts {
			parts[i] = given(v.Index(i).Elem())
		}
		return parts
	}
	return v.Interface()
}

// selectionOf reads the one field of a selector that is set.
func selectionOf(s *model.RecordSelector) (record.Selection, error) {
	var out record.Selection
	for name, v := range setOf(s) {
		switch v := v.(type) {
		case []gid.ID:
			out.IDs = v
			if v == nil {
				out.IDs = []gid.ID{}
			}
		case []*model.RecordVersionInput:
			out.Versions = make([]record.Version, len(v))
			for i, rv := range v {
				out.Versions[i] = record.Version{ID: rv.ID, Version: int(rv.Version)}
			}
		case *gid.ID:
			if v == nil {
				return out, badInput("must not be null", "select."+name)
			}
			if err := checkID(*v, "select."+name, gid.Operation); err != nil {
				return out, err
			}
			out.Operation = v
		default:
			var err error
			if out.Filter, err = record.FilterOf(v); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// setOf are the fields of a selector that are set, by name.
func setOf[T any](s *T) map[string]any {
	out := map[string]any{}
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		if o, ok := reflect.TypeAssert[omittable](f); !ok || !o.IsSet() {
			continue
		}
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		out[name] = f.MethodByName("Value").Call(nil)[0].Interface()
	}
	return out
}

// overridesOf are the values that mend a restore, by record and field.
func overridesOf(list []*model.RestoreOverrideInput) map[gid.ID]map[string]string {
	out := map[gid.ID]map[string]string{}
	for _, o := range list {
		values := given(reflect.ValueOf(*o))
		delete(values, "id")
		if out[o.ID] == nil {
			out[o.ID] = map[string]string{}
		}
		for name, v := range values {
			out[o.ID][name], _ = v.(string) // null is empty, which is stored as NULL
		}
	}
	return out
}

// recordRef refuses a reference to what is no record.
func recordRef(id *gid.ID, field string) error {
	if id != nil && ent.RecordTypeOf(*id) == nil {
		return badInput("is no id of a record", field)
	}
	return nil
}
