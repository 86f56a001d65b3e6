package access

import (
	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/entfilter"
	"github.com/lethe-crm/lethe/ent"
)

// RoleMark is a role as approvals keep it, so that a query finds it among others.
func RoleMark(role string) string { return "\n" + role + "\n" }

// open are the states of a request in which it is shown to who may decide on it. Later it is to who did.
var open = []any{"PENDING", "APPROVED"}

// decides reports whether the actor may approve what is done to any record at all.
func (r *Rows) decides() bool {
	for _, t := range ent.RecordTypes {
		if _, never := r.plan(t.Name, authz.Approve, mapper(t.Name)).filter.(authz.False); !never {
			return true
		}
	}
	return false
}

// Approvable narrows a query over operations to those of which the actor may read every record that was picked, and
// approve what is done to it. Of records that are gone there is nothing to be told.
func (r *Rows) Approvable(s *sql.Selector) {
	for _, t := range ent.RecordTypes {
		may := r.plan(t.Name, authz.Approve, mapper(t.Name))
		if may.predicate == nil && r.plan(t.Name, authz.Read, mapper(t.Name)).predicate == nil && r.plan(t.Name, authz.ReadRetired, mapper(t.Name)).predicate == nil {
			continue
		}
		row, picked := sql.Dialect(s.Dialect()).Table(t.Table).As("picked_row"), sql.Dialect(s.Dialect()).Table("operation_items").As("picked")
		sub := sql.Dialect(s.Dialect()).Select(picked.C("id")).From(picked).Join(row).On(picked.C("record_id"), row.C("id"))
		sub.Where(sql.ColumnsEQ(picked.C("operation_id"), s.C("id"))).Where(sql.EQ(picked.C("direct"), true))
		seen := sql.Dialect(s.Dialect()).Table(t.Table).As("approvable")
		own := sql.Dialect(s.Dialect()).Select(seen.C("id")).From(seen)
		own.Where(sql.ColumnsEQ(seen.C("id"), row.C("id")))
		r.Where(own, t.Name)
		if may.predicate != nil {
			own.Where(may.predicate(own))
		}
		sub.Where(sql.Not(sql.Exists(own)))
		s.Where(sql.Not(sql.Exists(sub)))
	}
}

// asked is whether an operation waits for the actor to agree, or he had a say in it.
func (r *Rows) asked(s *sql.Selector) *sql.Predicate {
	ap := sql.Dialect(s.Dialect()).Table("approvals").As("asking")
	waits := sql.Dialect(s.Dialect()).Select(ap.C("id")).From(ap)
	waits.Where(sql.ColumnsEQ(ap.C("operation_id"), s.C("id")))
	waits.Where(join(" OR ", []*sql.Predicate{r.voted(waits), join(" AND ", []*sql.Predicate{sql.In(waits.C("status"), open...), r.addressed(waits), r.approvable(waits)})}))
	return sql.Exists(waits)
}

// approvable is Approvable of the operation that a request is about.
func (r *Rows) approvable(s *sql.Selector) *sql.Predicate {
	op := sql.Dialect(s.Dialect()).Table("operations").As("decided")
	sub := sql.Dialect(s.Dialect()).Select(op.C("id")).From(op)
	sub.Where(sql.ColumnsEQ(op.C("id"), s.C("operation_id")))
	r.Approvable(sub)
	return sql.Exists(sub)
}

// addressed is whether a request asks those who have a role of the actor's.
func (r *Rows) addressed(s *sql.Selector) *sql.Predicate {
	preds := []*sql.Predicate{sql.ExprP("1 = 0")}
	for _, role := range r.roles() {
		preds = append(preds, sql.Contains(s.C("roles"), RoleMark(role)))
	}
	return join(" OR ", preds)
}

// voted is whether the actor said something to a request.
func (r *Rows) voted(s *sql.Selector) *sql.Predicate {
	vote := sql.Dialect(s.Dialect()).Table("approval_votes").As("vote")
	sub := sql.Dialect(s.Dialect()).Select(vote.C("id")).From(vote)
	sub.Where(sql.ColumnsEQ(vote.C("approval_id"), s.C("id"))).Where(sql.EQ(vote.C("user_id"), r.actor.User))
	return sql.Exists(sub)
}

// approvals are shown to who asks and who decides on them, and to who reads the operation they are about.
func (r *Rows) approvals(s *sql.Selector) *sql.Predicate {
	op := sql.Dialect(s.Dialect()).Table("operations").As("asked_for")
	reads := sql.Dialect(s.Dialect()).Select(op.C("id")).From(op)
	reads.Where(sql.ColumnsEQ(op.C("id"), s.C("operation_id")))
	r.Where(reads, ent.TypeOperation)
	hold := sql.Dialect(s.Dialect()).Table("legal_holds").As("to_release")
	knows := sql.Dialect(s.Dialect()).Select(hold.C("id")).From(hold)
	knows.Where(sql.ColumnsEQ(hold.C("id"), s.C("target_id")))
	r.Where(knows, ent.TypeLegalHold)
	alternatives := []*sql.Predicate{
		sql.Exists(reads), r.voted(s),
		join(" AND ", []*sql.Predicate{sql.EQ(s.C("subject"), "HOLD_RELEASE"), r.addressed(s), sql.Exists(knows)}),
	}
	if !r.actor.User.IsZero() {
		alternatives = append(alternatives, sql.EQ(s.C("requested_by_id"), r.actor.User))
	}
	for subject, right := range map[string]struct {
		object string
		action authz.Action
	}{"GRANT": {"Policy", authz.PolicyEdit}, "SHORTEN_RETENTION": {"RetentionRule", authz.Approve}} {
		if r.plan(right.object, right.action, entfilter.Mapper{}).predicate == nil {
			preds := []*sql.Predicate{sql.EQ(s.C("subject"), subject)}
			if subject != "GRANT" {
				preds = append(preds, r.addressed(s))
			}
			alternatives = append(alternatives, join(" AND ", preds))
		}
	}
	return join(" OR ", alternatives)
}
