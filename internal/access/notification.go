package access

import (
	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
)

// holdKinds are the notifications that say that there is a hold.
var holdKinds = []any{"HOLD_PLACED", "HOLD_RELEASED"}

// notifications are shown to whom they are for, while he may read what they are
// about: one of the records, or what was asked for, or the hold, or the operation. What names
// none of these was meant for him by whoever may change alert rules and webhooks.
func (r *Rows) notifications(s *sql.Selector) *sql.Predicate {
	if r.actor.User.IsZero() {
		return sql.ExprP("1 = 0")
	}
	exists := func(table, column, typ string) *sql.Predicate {
		from := sql.Dialect(s.Dialect()).Table(table).As("told_of")
		sub := sql.Dialect(s.Dialect()).Select(from.C("id")).From(from)
		sub.Where(sql.ColumnsEQ(from.C("id"), s.C(column)))
		r.Where(sub, typ)
		return sql.Exists(sub)
	}
	var some []*sql.Predicate
	for _, t := range ent.RecordTypes {
		told := sql.Dialect(s.Dialect()).Table("notification_records").As("told")
		row := sql.Dialect(s.Dialect()).Table(t.Table).As("told_row")
		sub := sql.Dialect(s.Dialect()).Select(row.C("id")).From(row).Join(told).On(told.C("record_id"), row.C("id"))
		sub.Where(sql.ColumnsEQ(told.C("notification_id"), s.C("id")))
		r.tellable(sub, row, t, s.C("kind"))
		some = append(some, sql.Exists(sub))
	}
	none, named := sql.EQ(s.C("records"), 0), func(column string) *sql.Predicate { return sql.NotNull(s.C(column)) }
	return join(" AND ", []*sql.Predicate{
		sql.EQ(s.C("user_id"), r.actor.User),
		either(none, join(" OR ", some)),
		either(sql.Not(join(" AND ", []*sql.Predicate{none, sql.In(s.C("kind"), holdKinds...)})), exists("legal_holds", "subject_id", ent.TypeLegalHold)),
		either(sql.Not(join(" AND ", []*sql.Predicate{none, named("approval_id")})), exists("approvals", "approval_id", ent.TypeApproval)),
		either(sql.Not(join(" AND ", []*sql.Predicate{none, sql.IsNull(s.C("approval_id")), named("operation_id")})), exists("operations", "operation_id", ent.TypeOperation)),
	})
}

// Tellable narrows a query over the rows of a record type, joined with what
// notifications are about, to those that the reader may be told of by a
// notification of that kind.
func (r *Rows) Tellable(s *sql.Selector, row *sql.SelectTable, t *ent.RecordType, kind string) {
	r.tellable(s, row, t, kind)
}

func (r *Rows) tellable(s *sql.Selector, row *sql.SelectTable, t *ent.RecordType, kind string) {
	seen := sql.Dialect(s.Dialect()).Table(t.Table).As("tellable")
	own := sql.Dialect(s.Dialect()).Select(seen.C("id")).From(seen)
	own.Where(sql.ColumnsEQ(seen.C("id"), row.C("id")))
	r.Where(own, t.Name)
	if known := r.plan(t.Name, authz.HoldRead, mapper(t.Name)); known.predicate != nil {
		own.Where(either(sql.NotIn(kind, holdKinds...), known.predicate(own)))
	}
	s.Where(sql.Exists(own))
}
