package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/table"
)

// A table that internal/export wrote says of each row which record it was. It is
// told by these columns.
var exportColumns = []string{"id", "state", "version", "createdAt", "updatedAt"}

// idField is the id that a record of an export had.
const idField = "id"

// lost are the columns of an export that no record takes over: its life begins anew.
var lost = []string{"state", "stateReason", "stateChangedAt", "purgeAfter", "suspendedUntil", "version", "createdAt", "updatedAt", "attachments", "primaryContactEmail"}

// beside are the columns by which a reference of an export is found whose id is gone,
// the best first, by the field that names it.
var beside = map[string][]string{
	"customer": {"customerNumber", "customerEmail"}, "contact": {"contactEmail"}, "deal": {"dealNumber"}, ownerField: {"ownerEmail"}, assigneeField: {"assigneeEmail"},
}

// isLost reports whether a column of an export is about what the record was.
func (r *run) isLost(name string) bool {
	return slices.Contains(lost, name) || slices.ContainsFunc(r.typ.Fields, func(f ent.RecordField) bool { return f.ReadOnly && f.GraphQL == name })
}

func isExport(header []string) bool {
	return !slices.ContainsFunc(exportColumns, func(name string) bool { return !slices.Contains(header, name) })
}

// plainOf is how the text of an export is read back, by what kind of table it is.
func plainOf(path string) func(string) string {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".xlsx":
		return table.Unescape
	case ".jsonl", ".ndjson":
		return func(text string) string { return text }
	}
	return table.Unguard
}

// exportFields are the fields that the columns of an export fill.
func (r *run) exportFields() map[string]func(string) (any, error) {
	out := r.fields(nil)
	plain := plainOf(r.Path)
	for _, f := range r.typ.Fields {
		if parse := out[f.GraphQL]; parse != nil && f.Kind == "string" {
			out[f.GraphQL] = func(s string) (any, error) { return parse(plain(s)) }
		}
		switch {
		case f.Kind == "time" && out[f.GraphQL] != nil: // with all its digits
			out[f.GraphQL] = parseStamp
		case (f.Name == "from_number" || f.Name == "to_number" || f.GraphQL == "currency" || f.GraphQL == "number") && out[f.GraphQL] != nil:
			out[f.GraphQL] = func(s string) (any, error) { return plain(s), nil }
		}
	}
	for name := range references {
		delete(out, references[name])
	}
	delete(out, ownerField)
	delete(out, assigneeField)
	out[idField] = parseID
	for _, columns := range beside {
		for _, name := range columns {
			out[name] = func(s string) (any, error) { return plain(s), nil }
		}
	}
	if r.As == Messages {
		out[recipientsField] = func(s string) (any, error) {
			var list []map[string]any
			if err := json.Unmarshal([]byte(plain(s)), &list); err != nil {
				return nil, errors.New("are no recipients as an export has them")
			}
			return list, nil
		}
	}
	return out
}

// parseStamp reads a time as exports write it.
func parseStamp(s string) (any, error) {
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return nil, errors.New("is not a time such as 2026-03-01T09:00:00Z")
	}
	return at.UTC(), nil
}

// asExported takes from a row what is about the record that it was.
func (row *row) asExported() {
	if id, ok := row.given[idField].(gid.ID); ok {
		row.was = id
	}
	delete(row.given, idField)
	for field, columns := range beside {
		for _, name := range slices.Backward(columns) { // the best last, which stays
			if text, ok := row.given[name].(string); ok && text != "" {
				if row.beside == nil {
					row.beside = map[string]string{}
				}
				row.beside[field] = text
			}
			delete(row.given, name)
		}
	}
	row.exported = true
}

// leaveOutExported marks the rows of an export whose record is still there. What it
// says by now is not looked at: an import changes nothing that is there.
func (r *run) leaveOutExported(ctx context.Context, tx *store.Tx, rows []*row) error {
	var ids []gid.ID
	for _, row := range rows {
		if row.pending() && row.was.Type() == r.typ.Type {
			ids = append(ids, row.was)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	live := map[gid.ID]bool{}
	err := store.Build(tx).Add(`SELECT id, retired_at IS NULL FROM `+r.typ.Table+` WHERE tenant_id = ? AND `, r.actor.Tenant).IDs("id", ids).
		Query(ctx, tx, func(found store.Row) error {
			var id gid.ID
			var is bool
			err := found.Scan(&id, &is)
			live[id] = is
			return err
		})
	if err != nil {
		return fmt.Errorf("looking for the records of an export: %w", err)
	}
	for _, row := range rows {
		is, there := live[row.was]
		switch {
		case !there || !row.pending():
		case is:
			row.item.Outcome, row.item.Code, row.item.Reason = Duplicate, string(lifecycle.UniqueConflict), "the record is there"
		default:
			row.item.Outcome, row.item.Code, row.item.Reason = InBin, string(lifecycle.UniqueConflict), "the record is deleted or voided"
		}
	}
	return r.freeNumbers(ctx, tx, rows)
}

// freeNumbers lets rows have new numbers whose own were given out: a number is never
// used again, not even for what was purged.
func (r *run) freeNumbers(ctx context.Context, tx *store.Tx, rows []*row) error {
	if !r.typ.Numbered {
		return nil
	}
	numbers := distinct(rows, func(row *row) []string {
		if !row.pending() || !row.exported {
			return nil
		}
		return []string{row.number()}
	})
	taken := map[string]bool{}
	err := store.Build(tx).Add(`SELECT number FROM record_numbers WHERE tenant_id = ? AND record_type = ? AND `, r.actor.Tenant, r.typ.Name).Strings("number", numbers).
		Query(ctx, tx, func(found store.Row) error {
			var number string
			err := found.Scan(&number)
			taken[number] = true
			return err
		})
	if err != nil {
		return fmt.Errorf("looking for numbers: %w", err)
	}
	for _, row := range rows {
		if number := row.number(); row.pending() && row.exported && taken[number] {
			delete(row.values, "number")
			row.warnf("number: %s was given out before; it gets another", number)
		}
	}
	return nil
}

// findReferences replaces the references of exported rows whose target is not there
// any more, or not live, by the names beside them.
func (r *run) findReferences(ctx context.Context, rows []*row) error {
	byType := map[string][]gid.ID{}
	each := func(f func(row *row, field ent.RecordField, id gid.ID)) {
		for _, row := range rows {
			if !row.exported || !row.pending() {
				continue
			}
			for _, field := range r.typ.Fields {
				if id, ok := row.values[field.GraphQL].(gid.ID); ok && field.Target != "" {
					f(row, field, id)
				}
			}
		}
	}
	each(func(_ *row, field ent.RecordField, id gid.ID) {
		byType[field.Target] = append(byType[field.Target], id)
	})
	there := map[gid.ID]bool{}
	for typ, ids := range byType {
		if err := r.liveAmong(ctx, typ, ids, there); err != nil {
			return err
		}
	}
	each(func(row *row, field ent.RecordField, id gid.ID) {
		if there[id] {
			return
		}
		delete(row.values, field.GraphQL)
		name := strings.TrimSuffix(field.GraphQL, "ID")
		switch text := row.beside[name]; {
		case name == ownerField || name == "team":
			row.warnf("%s: %s is not there any more", name, id)
		case isReference(name) && text != "":
			if row.found == nil {
				row.found = map[string]string{}
			}
			row.found[name] = text
		case field.Named:
			row.item.fail(string(lifecycle.BadUserInput), fmt.Sprintf("%s: %s is not there any more", name, id))
		default:
			row.warnf("%s: %s is not there any more", name, id)
		}
	})
	return nil
}

// liveAmong adds those of the ids that are there: records that are live and that the
// actor may see, users who are active, teams.
func (r *run) liveAmong(ctx context.Context, typ string, ids []gid.ID, into map[gid.ID]bool) error {
	if ent.RecordTypeNamed(typ) != nil {
		found, err := r.Records.Client(ctx).CollectRecords(ctx, typ, nil, []string{"id"}, func(s *sql.Selector) {
			s.Where(sql.IsNull(s.C("retired_at"))).Where(record.Among(s.C("id"), ids))
		})
		if err != nil {
			return fmt.Errorf("looking for what rows refer to: %w", err)
		}
		for _, rec := range found {
			into[rec.RecordID()] = true
		}
		return nil
	}
	condition := map[string]string{ent.TypeUser: `users WHERE active AND `, ent.TypeTeam: `teams WHERE `}[typ]
	if condition == "" {
		return nil
	}
	q := store.TxFrom(ctx)
	err := store.Build(q).Add(`SELECT id FROM `+condition+`tenant_id = ? AND `, r.actor.Tenant).IDs("id", ids).Query(ctx, q, func(row store.Row) error {
		var id gid.ID
		err := row.Scan(&id)
		into[id] = true
		return err
	})
	if err != nil {
		return fmt.Errorf("looking for what rows refer to: %w", err)
	}
	return nil
}
