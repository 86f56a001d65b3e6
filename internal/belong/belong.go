// Package belong says in SQL what belongs to a record or names it: what refers to
// it, and what refers to that, whatever class the reference is of and whatever
// state the records are in. A customer has contacts, deals, messages, and what is
// attached to these; a contact, what he took part in. An answer does not belong
// to the message it answers.
package belong

import (
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/ent"
)

// references are those between types, by the type that refers.
func references(t *ent.RecordType) []ent.RecordReference {
	return slices.DeleteFunc(slices.Clone(t.Edges), func(e ent.RecordReference) bool { return e.Target == t.Name })
}

// order lists the types so that what others refer to comes first.
var order = func() []*ent.RecordType {
	var out []*ent.RecordType
	var visit func(t *ent.RecordType)
	visit = func(t *ent.RecordType) {
		if slices.Contains(out, t) {
			return
		}
		for _, e := range references(t) {
			visit(ent.RecordTypeNamed(e.Target))
		}
		out = append(out, t)
	}
	for _, t := range ent.RecordTypes {
		visit(t)
	}
	return out
}()

// Below is the start of a statement: WITH a table "below_<table>" (root, id) for
// each of the types, of what belongs to the records that a query, of columns root
// and id, answers, these included. It goes no further than to the type until,
// or through all if that is nil.
func Below(query string, until *ent.RecordType) string {
	var b strings.Builder
	b.WriteString(`WITH seed(root, id) AS (` + query + `)`)
	for _, t := range order {
		b.WriteString(`, below_` + t.Table + `(root, id) AS (SELECT s.root, x.id FROM seed s JOIN ` + t.Table + ` x ON x.id = s.id`)
		for _, e := range references(t) {
			b.WriteString(` UNION SELECT o.root, x.id FROM below_` + ent.RecordTypeNamed(e.Target).Table + ` o JOIN ` + t.Table + ` x ON x.` + e.Column + ` = o.id`)
		}
		b.WriteString(`)`)
		if t == until {
			break
		}
	}
	return b.String() + ` `
}

// Above is the start of a statement: WITH a table "above" (root, id) of the
// persons that the records, of which query answers the ids, belong to or are.
func Above(query string) string {
	var b strings.Builder
	b.WriteString(`WITH seed(id) AS (` + query + `)`)
	for _, t := range slices.Backward(order) {
		b.WriteString(`, above_` + t.Table + `(root, id) AS (SELECT id, id FROM seed`)
		for _, holder := range order {
			for _, e := range references(holder) {
				if e.Target == t.Name {
					b.WriteString(` UNION SELECT o.root, x.` + e.Column + ` FROM above_` + holder.Table + ` o JOIN ` + holder.Table + ` x ON x.id = o.id WHERE x.` + e.Column + ` IS NOT NULL`)
				}
			}
		}
		b.WriteString(`)`)
	}
	b.WriteString(`, above(root, id) AS (`)
	for i, typ := range Persons {
		if i > 0 {
			b.WriteString(` UNION `)
		}
		b.WriteString(`SELECT root, id FROM above_` + ent.RecordTypeNamed(typ).Table)
	}
	return b.String() + `) `
}

// Persons are the types of records that are persons.
var Persons = []string{ent.TypeCustomer, ent.TypeContact}
