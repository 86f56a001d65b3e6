// Package migration compares the entities with what the migrations make of a
// database. Its tests do so on both databases; `make migration` writes what is
// missing.
package migration

import (
	"context"
	"slices"

	atlas "ariga.io/atlas/sql/migrate"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/schema"

	"github.com/lethe-crm/lethe/ent/migrate"
)

// unchecked are references the database does not check: each verb writes them
// on every row it changes, to a row it has just inserted or read.
var unchecked = []string{"operation_id", "state_changed_by_id"}

// checked are the tables of which all references are checked.
var checked = []string{"operation_items", "approvals"}

// Tables are the tables of the entities.
func Tables() []*schema.Table {
	for _, t := range migrate.Tables {
		t.ForeignKeys = slices.DeleteFunc(t.ForeignKeys, func(fk *schema.ForeignKey) bool {
			return !slices.Contains(checked, t.Name) && slices.Contains(unchecked, fk.Columns[0].Name)
		})
	}
	return migrate.Tables
}

// Diff writes to dir what the database of drv, as the migrations in dir leave
// it, lacks.
func Diff(ctx context.Context, drv *entsql.Driver, dir atlas.Dir, name string, formatter atlas.Formatter) error {
	m, err := schema.NewMigrate(drv, schema.WithDir(dir), schema.WithFormatter(formatter),
		schema.WithMigrationMode(schema.ModeReplay), schema.WithDropColumn(true), schema.WithDropIndex(true),
		schema.WithErrNoPlan(true))
	if err != nil {
		return err
	}
	return m.NamedDiff(ctx, name, Tables()...)
}
