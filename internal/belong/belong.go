// Package belong says in SQL what belongs to a record or names it: what refers to
// it, and what refers to that, whatever class the reference is of and whatever
// state the records are in. A customer has contacts, deals, messages, and what is
// attached to these; a contact, what he took part in. An answer does not belong
// to the message it answers.
package belong

import (
	"strings"

	"entgo.io/ent/dialect"

	"github.com/lethe-crm/lethe/ent"
)

// Persons are the types of records that are persons.
var Persons = []string{ent.TypeCustomer, ent.TypeContact}

// Below is the start of a statement: WITH a table below (root, id) of what belongs
// to the records that a query, of columns root and id, answers, these included.
func Below(name, query string) string {
	return walk(name, `below`, query, func(t *ent.RecordType, column string) (string, string) {
		return `SELECT at.root, x.id FROM below at JOIN ` + t.Table + ` x ON x.` + column + ` = at.id`,
			`SELECT x.id FROM ` + t.Table + ` x WHERE x.` + column + ` = at.id`
	})
}

// Above is the start of a statement: WITH a table above (root, id) of what the
// records that a query, of columns root and id, answers belong to or name, these
// included.
func Above(name, query string) string {
	return walk(name, `above`, query, func(t *ent.RecordType, column string) (string, string) {
		return `SELECT at.root, x.` + column + ` FROM above at JOIN ` + t.Table + ` x ON x.id = at.id WHERE x.` + column + ` IS NOT NULL`,
			`SELECT x.` + column + ` AS id FROM ` + t.Table + ` x WHERE x.id = at.id AND x.` + column + ` IS NOT NULL`
	})
}

// walk goes along all references between types until there is no more, in the way
// each database has for several steps at once: SQLite takes them one beside the
// other, PostgreSQL wants a single one.
func walk(name, table, query string, step func(t *ent.RecordType, column string) (term, lateral string)) string {
	var terms, laterals []string
	for _, t := range ent.RecordTypes {
		for _, e := range t.Edges {
			if e.Target != t.Name {
				term, lateral := step(t, e.Column)
				terms, laterals = append(terms, term), append(laterals, lateral)
			}
		}
	}
	steps := strings.Join(terms, ` UNION `)
	if name == dialect.Postgres {
		steps = `SELECT at.root, next.id FROM ` + table + ` at CROSS JOIN LATERAL (` + strings.Join(laterals, ` UNION ALL `) + `) next`
	}
	return `WITH RECURSIVE ` + table + `(root, id) AS (` + query + ` UNION ` + steps + `) `
}
