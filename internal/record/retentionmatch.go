package record

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/retentionrule"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// endedColumn is the column of when the business with a customer ended.
const endedColumn = "ended_at"

// rule is a retention rule with the predicate that its filter is.
type rule struct {
	*ent.RetentionRule
	typ   *ent.RecordType
	where func(*sql.Selector)
	// searches says that the filter finds records by their words.
	searches bool
}

func compile(row *ent.RetentionRule) (*rule, error) {
	r := &rule{RetentionRule: row, typ: ent.RecordTypeNamed(row.RecordType), where: func(*sql.Selector) {}}
	if r.typ == nil {
		return nil, fmt.Errorf("rule %s is about a %s, which is no type of records", row.ID, row.RecordType)
	}
	if row.Filter != nil {
		f, err := ParseFilter(r.typ.Name, []byte(*row.Filter))
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", row.ID, err)
		}
		r.where, r.searches = f.Where, f.searches
	}
	return r, nil
}

// retentionRulesOf are the rules of a tenant that are in force, oldest first. One that
// cannot be read must not pass for one that is not there.
func (s *Service) retentionRulesOf(ctx context.Context, tenant gid.ID) ([]*rule, error) {
	rows, err := s.Client(ctx).RetentionRule.Query().Where(retentionrule.Enabled(true), retentionrule.RemovedAtIsNil()).
		Order(retentionrule.ByID()).All(visible.With(ctx, visible.Tenant(tenant)))
	if err != nil {
		return nil, fmt.Errorf("reading retention rules: %w", err)
	}
	out := make([]*rule, len(rows))
	for i, row := range rows {
		if out[i], err = compile(row); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r *rule) term() lifecycle.Term { return lifecycle.Term{Length: r.Length, Unit: r.Unit} }

func (r *rule) seeksDuplicates() bool {
	return r.Candidates != nil && *r.Candidates == lifecycle.Duplicates
}

// ages are the columns from which the age of a record counts: the first that has a value.
func (r *rule) ages() []string {
	switch r.Basis {
	case lifecycle.OccurredAt:
		return []string{r.typ.Activity}
	case lifecycle.StateChangedAt:
		return []string{"state_changed_at"}
	case lifecycle.EndedAt:
		return []string{endedColumn}
	case lifecycle.LastActivity:
		if keepsActivity(r.typ) {
			return []string{lastActivity, "created_at"}
		}
		return []string{"updated_at"}
	}
	return []string{"created_at"}
}

// begins is when the age of a record begins; never, if none of the columns has a value.
func (r *rule) begins(row ent.Record) (time.Time, bool) {
	for _, c := range r.ages() {
		if at := timeOf(row, c); at != nil {
			return *at, true
		}
	}
	return time.Time{}, false
}

// ends is when the rule ends to keep a record, or acts on it. What has no age yet is
// kept, and never acted on.
func (r *rule) ends(row ent.Record) (time.Time, bool) {
	at, ok := r.begins(row)
	if !ok {
		return lifecycle.Never, r.Action == lifecycle.KeepAction
	}
	return r.term().After(at), true
}

// narrow lets through the records that the rule is about, of any age. Duplicates
// are found by the rows beside them, and not here.
func (r *rule) narrow(s *sql.Selector) {
	r.where(s)
	if r.Basis == lifecycle.EndedAt && r.Action != lifecycle.KeepAction {
		s.Where(sql.NotNull(s.C(endedColumn)))
	}
}

// old lets through what has reached the age of the rule; young what has not.
func (r *rule) old(s *sql.Selector, now time.Time)   { r.aged(s, sql.OpLTE, now) }
func (r *rule) young(s *sql.Selector, now time.Time) { r.aged(s, sql.OpGT, now) }

func (r *rule) aged(s *sql.Selector, op sql.Op, now time.Time) {
	columns := r.ages()
	s.Where(sql.P(func(b *sql.Builder) {
		if len(columns) == 1 {
			b.WriteByte('(').Ident(s.C(columns[0])).WriteOp(op).Arg(r.term().Before(now))
			if op == sql.OpGT && r.Basis == lifecycle.EndedAt { // its age has not begun
				b.WriteString(" OR ").Ident(s.C(columns[0])).WriteOp(sql.OpIsNull)
			}
			b.WriteByte(')')
			return
		}
		b.WriteString("COALESCE(").IdentComma(s.C(columns[0]), s.C(columns[1])).WriteString(")").WriteOp(op).Arg(r.term().Before(now))
	}))
}

// ruled says, with one statement, which of the rules are about which of some
// records. more narrows each of them.
func (s *Service) ruled(ctx context.Context, q store.Querier, tenant gid.ID, rules []*rule, ids []gid.ID, more func(*rule, *sql.Selector)) (map[gid.ID][]*rule, error) {
	ctx = visible.With(ctx, visible.Tenant(tenant))
	rules, err := s.keepingAll(ctx, q, tenant, rules, ids)
	if err != nil {
		return nil, err
	}
	var all *sql.Selector
	for i, r := range rules {
		own := slices.DeleteFunc(slices.Clone(ids), func(id gid.ID) bool { return id.Type() != r.typ.Type })
		if len(own) == 0 {
			continue
		}
		t := sql.Dialect(q.Dialect()).Table(r.typ.Table)
		sel := sql.Dialect(q.Dialect()).Select().From(t).WithContext(ctx)
		sel.AppendSelectExpr(sql.Raw(strconv.Itoa(i))).AppendSelect(t.C("id"))
		sel.Where(sql.EQ(t.C("tenant_id"), tenant)).Where(inIDs(t.C("id"), own))
		r.narrow(sel)
		if more != nil {
			more(r, sel)
		}
		if all == nil {
			all = sel
		} else {
			all.UnionAll(sel)
		}
	}
	out := map[gid.ID][]*rule{}
	if all == nil {
		return out, nil
	}
	err = store.Select(ctx, q, all, func(row store.Row) error {
		var i int
		var id gid.ID
		if err := row.Scan(&i, &id); err != nil {
			return err
		}
		out[id] = append(out[id], rules[i])
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("asking retention rules: %w", err)
	}
	return out, nil
}

// keepingAll are rules of which those that keep what has some words keep all of their
// type that may have them, while not all records are found by their words.
func (s *Service) keepingAll(ctx context.Context, q store.Querier, tenant gid.ID, rules []*rule, ids []gid.ID) ([]*rule, error) {
	out := slices.Clone(rules)
	for i, r := range rules {
		if !r.searches || r.Action != lifecycle.KeepAction {
			continue
		}
		own := slices.DeleteFunc(slices.Clone(ids), func(id gid.ID) bool { return id.Type() != r.typ.Type })
		known, err := s.findable(ctx, q, tenant, r.typ, own)
		if err != nil {
			return nil, err
		}
		if !known {
			all := *r
			all.where = func(*sql.Selector) {}
			out[i] = &all
		}
	}
	return out, nil
}

// querier is the transaction of the context, or the database.
func (s *Service) querier(ctx context.Context) store.Querier {
	if tx := store.TxFrom(ctx); tx != nil {
		return tx
	}
	return s.db
}
