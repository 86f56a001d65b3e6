package record

import (
	"reflect"
	"strings"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// Fold is the form under which values are compared for uniqueness.
func Fold(s string, fold lifecycle.Fold) string { return fold.Apply(s) }

// isKey reports whether a column only holds the folded form of another.
func isKey(column string) bool {
	return strings.HasSuffix(column, "_key") && column != "thread_key" || strings.HasSuffix(column, "_folded")
}

// keyColumns are the folded columns that follow from a field, with the folding.
func keyColumns(t *ent.RecordType, field string) map[string]lifecycle.Fold {
	keys := map[string]lifecycle.Fold{}
	for _, u := range t.Uniques {
		if u.Field == field {
			keys[u.Key] = u.Fold
		}
	}
	for _, f := range t.Fields {
		if f.Name == field+"_folded" {
			keys[f.Name] = lifecycle.FoldEmail
		}
	}
	return keys
}

func refOf(r ent.Record, column string) *gid.ID {
	id, ok := r.Column(column).(gid.ID)
	if !ok || id.IsZero() {
		return nil
	}
	return &id
}

// deref turns a pointer into what it points to, and a nil one into nil.
func deref(v any) any {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer {
		return v
	}
	if rv.IsNil() {
		return nil
	}
	return rv.Elem().Interface()
}

// typeOrder lists the record types so that what others point to comes first:
// the order of locks. Its reverse is the order of removal.
var typeOrder = func() []*ent.RecordType {
	var order []*ent.RecordType
	seen := map[string]bool{}
	var visit func(t *ent.RecordType)
	visit = func(t *ent.RecordType) {
		if seen[t.Name] {
			return
		}
		seen[t.Name] = true
		for _, e := range t.Edges {
			visit(ent.RecordTypeNamed(e.Target))
		}
		order = append(order, t)
	}
	for _, t := range ent.RecordTypes {
		visit(t)
	}
	return order
}()

// dependant is an edge that points to a type, seen from that type.
type dependant struct {
	holder *ent.RecordType
	edge   ent.RecordReference
}

// edgeKey names an edge among those of all types.
type edgeKey struct{ table, column string }

func (d dependant) key() edgeKey { return edgeKey{d.holder.Table, d.edge.Column} }

var dependants = func() map[string][]dependant {
	out := map[string][]dependant{}
	for _, t := range typeOrder {
		for _, e := range t.Edges {
			out[e.Target] = append(out[e.Target], dependant{t, e})
		}
	}
	return out
}()
