package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/ent/operationitem"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// A row that the table marks as deleted becomes a record as any other does, or is
// a duplicate of a live one, and that is deleted: of all rows together by one
// operation, after the last of them was read. An import that is stopped before
// deletes nothing; run again it finds them live, and deletes them.

// markedReason is why the records of marked rows are deleted.
const markedReason = "marked as deleted in the import"

// marking says which rows are marked as deleted: those of which a column has a value.
type marking struct{ column, value string }

// marking reads what the Config says of it.
func (r *run) marking() (marking, error) {
	column, value, cut := strings.Cut(r.MarkDeleted, "=")
	value = strings.TrimSpace(value)
	switch {
	case r.MarkDeleted == "":
		return marking{}, nil
	case r.mail:
		return marking{}, usage("mail has no column that could mark it as deleted")
	case !cut || column == "" || value == "": // an empty cell must not delete
		return marking{}, usage("rows are marked as deleted by COLUMN=VALUE, with a value that is not empty")
	}
	return marking{column, value}, nil
}

// find brings the column into the letters of the table's header.
func (m *marking) find(header []string) error {
	if m.column == "" {
		return nil
	}
	i := slices.Index(header, m.column)
	if i < 0 {
		i = slices.IndexFunc(header, func(h string) bool { return strings.EqualFold(h, m.column) })
	}
	if i < 0 {
		return usage("there is no column %q; there are: %s", m.column, strings.Join(header, ", "))
	}
	m.column = header[i]
	return nil
}

func (m *marking) marks(values map[string]string) bool {
	return m.column != "" && strings.TrimSpace(values[m.column]) == m.value
}

// marked is a live record that is to be deleted, and the line that says so.
type marked struct {
	id      gid.ID
	line    int
	created bool // by this import
}

// mark takes down what a row that is done with means for the deletion.
func (r *run) mark(row *row) {
	switch outcome := row.item.Outcome; {
	case !row.marked:
	case outcome == InBin:
		row.item.Outcome, row.item.Code = Unchanged, ""
	case outcome == Created && r.DryRun:
		r.report.Deleted++
	case outcome == Created:
		r.marked = append(r.marked, marked{row.created.RecordID(), row.item.Line, true})
	case outcome == Duplicate && !row.twin.IsZero():
		r.marked = append(r.marked, marked{row.twin, row.item.Line, false})
	case outcome == Duplicate && r.DryRun && r.markSeen(row):
	case outcome == Duplicate:
		r.report.addUndeleted(row.item.Line, lifecycle.Conflict, "it cannot be told which live record this is")
	}
}

// markSeen has an earlier row of a dry run deleted that a row is a duplicate of.
func (r *run) markSeen(row *row) (found bool) {
	deleted := false
	for _, key := range row.seenAs(r.typ) {
		already, seen := r.seen[key]
		found, deleted = found || seen, deleted || already
		if seen {
			r.seen[key] = true
		}
	}
	if found && !deleted {
		r.report.Deleted++
	}
	return found
}

// findMarked finds the live records that the marked rows of a batch are duplicates
// of. Of a row that fits several none is deleted.
func (r *run) findMarked(ctx context.Context, tx *store.Tx, rows []*row) error {
	made := map[gid.ID]bool{} // which a dry run does not keep
	for _, row := range rows {
		if row.created != nil && r.DryRun {
			made[row.created.RecordID()] = true
		}
	}
	rows = slices.DeleteFunc(slices.Clone(rows), func(row *row) bool { return !row.marked || row.item.Outcome != Duplicate })
	if len(rows) == 0 {
		return nil
	}
	found := make([]map[gid.ID]bool, len(rows))
	for _, within := range []bool{false, true} {
		live, _, err := r.twins(ctx, tx, rows, within)
		if err != nil {
			return err
		}
		for i, row := range rows {
			if found[i] == nil {
				found[i] = map[gid.ID]bool{}
			}
			for _, u := range r.typ.Uniques {
				if key := row.scoped(r.typ, u); key != "" && within == (u.Within != "") {
					found[i][live[u.Key+" "+key]] = true
				}
			}
			if number := row.number(); number != "" && r.typ.Numbered && !within {
				found[i][live["number "+number]] = true
			}
		}
	}
	if err := r.findAlike(ctx, rows, found); err != nil {
		return err
	}
	there, err := r.stillThere(ctx, tx, rows)
	if err != nil {
		return err
	}
	for i, row := range rows {
		delete(found[i], gid.Nil)
		if there[row.was] { // whatever else it says
			found[i] = map[gid.ID]bool{row.was: true}
		}
		for id := range found[i] {
			if len(found[i]) == 1 && !made[id] {
				row.twin = id
			}
		}
	}
	return nil
}

// findAlike adds the live records that say the same as rows without a key.
func (r *run) findAlike(ctx context.Context, rows []*row, found []map[gid.ID]bool) error {
	columns := r.typ.Alike
	var args []any
	for _, row := range rows {
		if row.alike != "" {
			args = append(args, row.column(r.typ, columns[0]))
		}
	}
	if len(args) == 0 {
		return nil
	}
	live, err := r.saying(ctx, columns, args, func(s *sql.Selector) *sql.Predicate { return sql.IsNull(s.C("retired_at")) })
	if err != nil {
		return err
	}
	for i, row := range rows {
		if row.alike == "" {
			continue
		}
		for _, id := range live[row.alike] {
			found[i][id] = true
		}
	}
	return nil
}

// stillThere says which rows of an export have their record, live.
func (r *run) stillThere(ctx context.Context, tx *store.Tx, rows []*row) (map[gid.ID]bool, error) {
	var ids []gid.ID
	for _, row := range rows {
		if row.was.Type() == r.typ.Type {
			ids = append(ids, row.was)
		}
	}
	out := map[gid.ID]bool{}
	if len(ids) == 0 {
		return out, nil
	}
	err := store.Build(tx).Add(`SELECT id FROM `+r.typ.Table+` WHERE tenant_id = ? AND retired_at IS NULL AND `, r.actor.Tenant).IDs("id", ids).
		Query(ctx, tx, func(found store.Row) error {
			var id gid.ID
			err := found.Scan(&id)
			out[id] = true
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("looking for the records of an export: %w", err)
	}
	return out, nil
}

// deletedByMe finds what rows without a key say that the actor has deleted himself:
// that he may know, whatever else of the bin he may see.
func (r *run) deletedByMe(ctx context.Context, rows []*row) (map[string][]gid.ID, error) {
	var args []any
	for _, row := range rows {
		if row.marked {
			args = append(args, row.column(r.typ, r.typ.Alike[0]))
		}
	}
	if len(args) == 0 {
		return nil, nil
	}
	return r.saying(visible.With(ctx, visible.Tenant(r.actor.Tenant)), r.typ.Alike, args, func(s *sql.Selector) *sql.Predicate {
		return sql.And(sql.EQ(s.C("state"), string(lifecycle.Deleted)), sql.EQ(s.C("state_changed_by_id"), r.actor.User))
	})
}

// deleteMarked deletes the records of all rows that are marked.
func (r *run) deleteMarked(ctx context.Context) error {
	do := r.deleteThese
	most := record.MaxPicks
	if r.DryRun {
		do, most = r.previewThese, record.MaxRows
	}
	for some := range slices.Chunk(r.marked, most) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := do(ctx, some); err != nil {
			return err
		}
		r.tell()
	}
	return nil
}

func (r *run) deletion(these []marked) record.Request {
	request := record.Request{Verb: lifecycle.Delete, Reason: markedReason, Mode: record.BestEffort, Import: &record.Import{}}
	for _, m := range these {
		request.Select.IDs = append(request.Select.IDs, m.id)
		if m.created {
			request.Import.Created++
		}
	}
	return request
}

// deleteThese runs the operation to its end, unless somebody else must agree first.
func (r *run) deleteThese(ctx context.Context, these []marked) error {
	request := r.deletion(these)
	var err error
	if request.Payload, err = json.Marshal(map[string]any{"import": map[string]any{"as": r.As, "records": len(these), "created": request.Import.Created}}); err != nil {
		return fmt.Errorf("encoding what is deleted: %w", err)
	}
	op, err := r.Records.Run(ctx, request)
	if refused, ok := errors.AsType[*record.Error](err); ok {
		for _, m := range these {
			r.report.addUndeleted(m.line, refused.Code, reason(refused))
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting what is marked: %w", err)
	}
	if isUnderWay(op.Status) && r.ActAs != nil {
		if err := r.Records.Work(ctx, r.ActAs, r.actor.Tenant, op.ID); err != nil {
			return fmt.Errorf("deleting what is marked: %w", err)
		}
	}
	return r.reportDeletion(ctx, op.ID, these)
}

func isUnderWay(status operation.Status) bool {
	return status == operation.StatusQUEUED || status == operation.StatusRUNNING
}

// reportDeletion takes down what became of the marked records.
func (r *run) reportDeletion(ctx context.Context, op gid.ID, these []marked) error {
	d := Deletion{Operation: op.String()}
	if _, err := store.Build(r.DB).Add(`SELECT status FROM operations WHERE tenant_id = ? AND id = ?`, r.actor.Tenant, op).One(ctx, r.DB, &d.Status); err != nil {
		return fmt.Errorf("reading what was deleted: %w", err)
	}
	refused := map[gid.ID]lifecycle.Code{}
	err := store.Build(r.DB).Add(`SELECT record_id, outcome, code FROM operation_items WHERE operation_id = ? AND direct`, op).
		Query(ctx, r.DB, func(item store.Row) error {
			var id gid.ID
			var outcome string
			var code *string
			if err := item.Scan(&id, &outcome, &code); err != nil {
				return err
			}
			switch operationitem.Outcome(outcome) {
			case operationitem.OutcomeCHANGED:
				r.report.Deleted++
			case operationitem.OutcomeNOT_PROCESSED:
				d.Waiting++
			case operationitem.OutcomeFAILED:
				refused[id] = lifecycle.Internal
				if code != nil {
					refused[id] = lifecycle.Code(*code)
				}
			}
			return nil
		})
	if err != nil {
		return fmt.Errorf("reading what was deleted: %w", err)
	}
	r.report.Deletions = append(r.report.Deletions, d)
	for _, m := range these {
		if code, is := refused[m.id]; is {
			r.report.addUndeleted(m.line, code, "the record is live still")
		}
	}
	return nil
}

// previewThese says what would become of records that were there before.
func (r *run) previewThese(ctx context.Context, these []marked) error {
	preview, err := r.Records.Preview(ctx, r.deletion(these))
	if refused, ok := errors.AsType[*record.Error](err); ok {
		for _, m := range these {
			r.report.addUndeleted(m.line, refused.Code, reason(refused))
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("previewing what is marked: %w", err)
	}
	lines := map[gid.ID]int{}
	for _, m := range these {
		lines[m.id] = m.line
	}
	for _, item := range preview.Items {
		switch {
		case !item.Direct:
		case item.Outcome == operationitem.OutcomeCHANGED:
			r.report.Deleted++
		case item.Outcome == operationitem.OutcomeFAILED && item.Code != nil:
			r.report.addUndeleted(lines[item.RecordID], lifecycle.Code(*item.Code), "the record would stay live")
		}
	}
	return nil
}
