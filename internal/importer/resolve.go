package importer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/call"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

func (row *row) warnf(format string, args ...any) {
	row.item.Warnings = append(row.item.Warnings, fmt.Sprintf(format, args...))
}

// resolve finds the records that rows name: a customer by number, address or
// name, a contact by address or name, a deal by number or name; and the customer
// of a call by the other party's number.
func (r *run) resolve(ctx context.Context, rows []*row) error {
	customers, err := r.named(ctx, rows, "customer", ent.TypeCustomer, []string{"number", "email_key", "name"}, nil)
	if err != nil {
		return err
	}
	for _, row := range rows {
		customers.set(r, row, "customer", "customerID")
	}
	if err := r.linkByPhone(ctx, rows); err != nil {
		return err
	}
	within := func(row *row, found ent.Record) bool {
		of, known := row.values["customerID"].(gid.ID)
		at, _ := found.Column("customer_id").(gid.ID)
		if row.named("customer") != "" { // which may not have been found
			return known && of == at
		}
		return !known || of == at
	}
	for field, columns := range map[string][]string{"contact": {"email_key", "name"}, "deal": {"number", "name"}} {
		typ := map[string]string{"contact": ent.TypeContact, "deal": ent.TypeDeal}[field]
		found, err := r.named(ctx, rows, field, typ, columns, within)
		if err != nil {
			return err
		}
		for _, row := range rows {
			found.set(r, row, field, field+"ID")
		}
	}
	return r.inherit(ctx, rows)
}

// candidates are the records that texts may name, by column and value.
type candidates struct {
	columns []string
	by      map[string][]ent.Record
	fits    func(*row, ent.Record) bool
}

// named reads the live records, as far as the actor may see them, that the rows
// may name by a field: one statement for each column.
func (r *run) named(ctx context.Context, rows []*row, field, typ string, columns []string, fits func(*row, ent.Record) bool) (*candidates, error) {
	c := &candidates{columns: columns, by: map[string][]ent.Record{}, fits: fits}
	for _, column := range columns {
		texts := distinct(rows, func(row *row) []string { return []string{keyFor(column, row.named(field))} })
		for keys := range slices.Chunk(texts, lookupKeys) {
			args := make([]any, len(keys))
			for i, key := range keys {
				args[i] = key
			}
			found, err := r.Records.Client(ctx).QueryRecords(ctx, typ, func(s *sql.Selector) {
				s.Where(sql.IsNull(s.C("retired_at"))).Where(sql.In(s.C(column), args...)).OrderBy(s.C("id"))
			})
			if err != nil {
				return nil, fmt.Errorf("looking up %ss: %w", field, err)
			}
			for _, rec := range found {
				key, _ := rec.Column(column).(string)
				c.by[column+" "+key] = append(c.by[column+" "+key], rec)
			}
		}
	}
	return c, nil
}

func keyFor(column, text string) string {
	if column == "email_key" {
		return record.Fold(text, lifecycle.FoldEmail)
	}
	return text
}

// set fills the reference of a row, or says why not: a record that must have it
// fails, another one is imported without.
func (c *candidates) set(r *run, row *row, field, into string) {
	text := row.named(field)
	if text == "" || row.values[into] != nil || !row.pending() {
		return
	}
	for _, column := range c.columns {
		found := slices.Clone(c.by[column+" "+keyFor(column, text)])
		if c.fits != nil {
			found = slices.DeleteFunc(found, func(rec ent.Record) bool { return !c.fits(row, rec) })
		}
		switch len(found) {
		case 0:
			continue
		case 1:
			row.values[into] = found[0].RecordID()
			return
		}
		row.unresolved(r, field, into, fmt.Sprintf("there are several live records %q", text))
		return
	}
	row.unresolved(r, field, into, fmt.Sprintf("there is no live record %q", text))
}

func (row *row) unresolved(r *run, field, into, why string) {
	for _, f := range r.typ.Fields {
		if f.GraphQL == into && f.Named {
			row.item.fail(string(lifecycle.BadUserInput), field+": "+why)
			return
		}
	}
	row.warnf("%s: %s", field, why)
}

// inherit reads whose customers the rows belong to: a new record takes its
// owner and team from there.
func (r *run) inherit(ctx context.Context, rows []*row) error {
	var ids []gid.ID
	for _, row := range rows {
		if id, ok := row.values["customerID"].(gid.ID); ok && row.pending() && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	_, byID, err := r.customers(ctx, nil, ids)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if id, ok := row.values["customerID"].(gid.ID); ok && byID[id] != nil {
			row.ownerRef, row.teamRef = byID[id].Owner, byID[id].Team
		}
	}
	return nil
}

// linkByPhone links calls to the live contact, else to the live customer, with
// the other party's number.
func (r *run) linkByPhone(ctx context.Context, rows []*row) error {
	if r.As != Calls {
		return nil
	}
	numbers := distinct(rows, func(row *row) []string { return []string{row.otherParty()} })
	if len(numbers) == 0 {
		return nil
	}
	var args []any
	for _, number := range numbers {
		args = append(args, number, "00"+strings.TrimPrefix(number, "+"))
	}
	by := map[string]map[string]ent.Record{}
	for _, typ := range []string{ent.TypeContact, ent.TypeCustomer} {
		found, err := r.Records.Client(ctx).QueryRecords(ctx, typ, func(s *sql.Selector) {
			s.Where(sql.IsNull(s.C("retired_at"))).Where(inDigits(s.C("phone"), args)).OrderBy(s.C("id"))
		})
		if err != nil {
			return fmt.Errorf("looking up phone numbers: %w", err)
		}
		by[typ] = map[string]ent.Record{}
		for _, rec := range found {
			text, _ := rec.Column("phone").(string)
			phone, ok := mixin.Phone(text)
			if ok && by[typ][phone] == nil { // the oldest, where several share it
				by[typ][phone] = rec
			}
		}
	}
	for _, row := range rows {
		number := row.otherParty()
		if contact := by[ent.TypeContact][number]; contact != nil {
			if row.values["contactID"] == nil && row.named("contact") == "" {
				row.values["contactID"] = contact.RecordID()
			}
			if of, ok := contact.Column("customer_id").(gid.ID); ok {
				row.values["customerID"] = of
			}
		} else if customer := by[ent.TypeCustomer][number]; customer != nil {
			row.values["customerID"] = customer.RecordID()
		}
	}
	return nil
}

// inDigits is "column is one of the numbers" for a column in which people wrote
// numbers with spaces and the like.
func inDigits(column string, numbers []any) *sql.Predicate {
	return sql.P(func(b *sql.Builder) {
		b.WriteString(strings.Repeat("REPLACE(", len(mixin.PhoneMarks()))).Ident(column)
		for _, mark := range mixin.PhoneMarks() {
			b.WriteString(", '" + mark + "', '')")
		}
		b.WriteString(" IN (").Args(numbers...).WriteString(")")
	})
}

// otherParty is the number by which a call that names no customer finds one.
func (row *row) otherParty() string {
	if row.values["customerID"] != nil || row.exported || row.named("customer") != "" || !row.pending() {
		return ""
	}
	field := "fromNumber"
	if row.values["direction"] == call.DirectionOUTBOUND {
		field = "toNumber"
	}
	number, _ := row.values[field].(string)
	return number
}

// leaveOutAlike marks rows without a key of their own that say the same as a
// record the actor may see, live or retired, or as an earlier row: running an
// import again creates nothing.
func (r *run) leaveOutAlike(ctx context.Context, rows []*row) error {
	columns := r.typ.Alike
	if len(columns) == 0 || r.mail {
		return nil
	}
	var asked []*row
	var args []any
	for _, row := range rows {
		if !row.pending() || row.keyed(r.typ) {
			continue
		}
		row.alike = likenessOf(r.typ, columns, row.column)
		asked = append(asked, row)
		args = append(args, row.column(r.typ, columns[0]))
	}
	if len(asked) == 0 {
		return nil
	}
	live, err := r.saying(ctx, columns, args, func(s *sql.Selector) *sql.Predicate { return sql.IsNull(s.C("retired_at")) })
	if err != nil {
		return err
	}
	retired, err := r.saying(ctx, columns, args, func(s *sql.Selector) *sql.Predicate {
		return sql.In(s.C("state"), string(lifecycle.Voided), string(lifecycle.Deleted))
	})
	if err != nil {
		return err
	}
	mine, err := r.deletedByMe(ctx, asked)
	if err != nil {
		return err
	}
	earlier := map[string]bool{}
	for _, row := range asked {
		switch {
		case live[row.alike] != nil || earlier[row.alike] || r.seen.has("alike", row.alike):
			row.item.Outcome, row.item.Code, row.item.Reason = Duplicate, string(lifecycle.UniqueConflict), "a live record says the same"
		case retired[row.alike] != nil || row.marked && mine[row.alike] != nil:
			row.item.Outcome, row.item.Code, row.item.Reason = InBin, string(lifecycle.UniqueConflict), "a deleted or voided record says the same"
		default:
			earlier[row.alike] = true // for the rows behind it
		}
	}
	return nil
}

// saying reads what records say that have one of the values in the first of the
// columns, and which these are. Live and retired ones are read apart: for an OR of the two SQLite uses
// the index of neither.
func (r *run) saying(ctx context.Context, columns []string, values []any, of func(*sql.Selector) *sql.Predicate) (map[string][]gid.ID, error) {
	found, err := r.Records.Client(ctx).CollectRecords(ctx, r.typ.Name, nil, append([]string{"id"}, columns...), func(s *sql.Selector) {
		s.Where(of(s)).Where(sql.In(s.C(columns[0]), values...))
	})
	if err != nil {
		return nil, fmt.Errorf("looking for the same %s: %w", r.As, err)
	}
	out := map[string][]gid.ID{}
	for _, rec := range found {
		alike := likenessOf(r.typ, columns, func(_ *ent.RecordType, column string) any { return rec.Column(column) })
		out[alike] = append(out[alike], rec.RecordID())
	}
	return out, nil
}

// keyed reports whether a row has a value that no two records share.
func (row *row) keyed(t *ent.RecordType) bool {
	if row.number() != "" {
		return true
	}
	return slices.ContainsFunc(t.Uniques, func(u ent.RecordUnique) bool { return row.scoped(t, u) != "" })
}

// column is the value of a row for a column, or the column's default.
func (row *row) column(t *ent.RecordType, column string) any {
	if column == "sender_folded" {
		return row.sender
	}
	for _, f := range t.Fields {
		if f.Name != column {
			continue
		}
		v := row.values[f.GraphQL]
		switch {
		case v == nil && f.Kind == "enum" && len(f.Values) > 0:
			return f.Enum(f.Values[0]) // their default
		case v == nil && f.Kind == "int":
			return 0
		}
		return v
	}
	return nil
}

func likenessOf(t *ent.RecordType, columns []string, value func(*ent.RecordType, string) any) string {
	parts := make([]string, len(columns))
	for i, column := range columns {
		switch v := value(t, column).(type) {
		case nil:
		case time.Time:
			parts[i] = v.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
		default:
			parts[i] = fmt.Sprint(v)
		}
	}
	return strings.Join(parts, "\x00")
}
