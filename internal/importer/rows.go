package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/table"
)

// readTable reads the rows of a table.
func (r *run) readTable(ctx context.Context) (err error) {
	t, err := table.OpenAny(r.Path)
	if err != nil {
		return &FileError{err}
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	r.progress = func() (int64, int64) { return t.Consumed(), t.Total() }
	if err := r.marks.find(t.Header()); err != nil {
		return err
	}
	columns, err := r.columns(t)
	if err != nil {
		return err
	}
	for {
		line, err := t.Next()
		var unreadable *table.RowError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &unreadable):
			r.report.add(ReportItem{Line: unreadable.Line, Outcome: Failed, Code: Unreadable, Reason: unreadable.Err.Error()})
			continue
		case err != nil:
			return &FileError{fmt.Errorf("reading %s: %w", r.Path, err)}
		}
		row := &row{item: ReportItem{Line: line.Line}, given: maps.Clone(r.set.values), owner: r.set.owner, refs: maps.Clone(r.set.refs), marked: r.marks.marks(line.Values)}
		if err := row.fill(r.typ, columns, line.Values); err != nil {
			row.item.fail(string(lifecycle.BadUserInput), err.Error())
			r.report.add(row.item)
			continue
		}
		if err := r.add(ctx, row); err != nil {
			return err
		}
	}
}

// column is a column of a table that fills a field.
type column struct {
	name, field string
	parse       func(string) (any, error)
}

// columns finds out which columns fill which fields, by the mapping or else by
// their names.
func (r *run) columns(t table.Source) ([]column, error) {
	known, header := r.fields(t.Epoch()), t.Header()
	var out []column
	exported := len(r.Map) == 0 && isExport(header)
	if exported {
		known = r.exportFields()
	}
	if len(r.Map) == 0 {
		for _, name := range header {
			before := len(out)
			for field, parse := range known {
				_, set := r.Set[field]
				if strings.EqualFold(name, field) && !set {
					out = append(out, column{name, field, parse})
				}
			}
			if len(out) == before && (!exported || !r.isLost(name)) && name != r.marks.column {
				r.report.UnusedColumns = append(r.report.UnusedColumns, name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Map)) {
		field := r.Map[name]
		i := slices.IndexFunc(header, func(h string) bool { return h == name })
		if i < 0 {
			i = slices.IndexFunc(header, func(h string) bool { return strings.EqualFold(h, name) })
		}
		switch {
		case i < 0:
			return nil, usage("there is no column %q; there are: %s", name, strings.Join(header, ", "))
		case known[field] == nil:
			return nil, unknownField(field, known)
		}
		if _, set := r.Set[field]; set {
			return nil, usage("the field %q is both mapped and set", field)
		}
		out = append(out, column{header[i], field, known[field]})
	}
	filled := map[string]string{}
	for _, c := range out {
		field := c.field
		if !exported && (field == ownerField || isReference(field)) {
			field += "ID"
		}
		if other, twice := filled[field]; twice {
			return nil, usage("the columns %q and %q both fill %s", other, c.name, c.field)
		}
		filled[field] = c.name
	}
	for _, f := range r.typ.Fields {
		_, isFilled := filled[f.GraphQL]
		if (f.Required || f.Named) && !isFilled && r.set.values[f.GraphQL] == nil && r.set.refs[references[f.GraphQL]] == "" {
			return nil, usage("no column fills the %s; map one of: %s", words(f.Name), strings.Join(header, ", "))
		}
	}
	return out, nil
}

// words is a field as people say it.
func words(name string) string { return strings.ReplaceAll(strings.TrimSuffix(name, "_id"), "_", " ") }

// fill reads the fields of a row. An empty one is not set.
func (row *row) fill(t *ent.RecordType, columns []column, values map[string]string) error {
	for _, c := range columns {
		text := values[c.name]
		if text == "" {
			continue
		}
		v, err := c.parse(text)
		if err != nil {
			return fmt.Errorf("%s: %w", c.field, err)
		}
		row.size += len(text)
		switch {
		case c.field == ownerField:
			row.owner = record.Fold(text, lifecycle.FoldEmail)
		case isReference(c.field):
			if row.refs == nil {
				row.refs = map[string]string{}
			}
			row.refs[c.field] = strings.TrimSpace(text)
		default:
			row.given[c.field] = v
		}
	}
	for _, f := range t.Fields {
		if v := row.given[f.GraphQL]; f.Required && (v == nil || v == "") {
			return fmt.Errorf("%s: is required", f.GraphQL)
		}
	}
	if row.given[idField] != nil {
		row.asExported()
	}
	row.addresses()
	return nil
}

// addresses are those by which a message of a table finds who it was exchanged
// with.
func (row *row) addresses() {
	if text, ok := row.given["sender"].(string); ok {
		sender, name := text, ""
		if of := mailboxes(text); len(of) == 1 && !row.exported {
			sender, name = addressAndName(of[0])
		}
		row.given["sender"], row.sender = sender, record.Fold(sender, lifecycle.FoldEmail)
		if name != "" && row.given["senderName"] == nil {
			row.given["senderName"] = name
		}
	}
	recipients, _ := row.given[recipientsField].([]map[string]any)
	for _, to := range recipients {
		address, _ := to["address"].(string)
		row.recipients = append(row.recipients, record.Fold(address, lifecycle.FoldEmail))
	}
}
