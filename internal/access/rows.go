package access

import (
	"context"
	"fmt"
	"sync"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/entfilter"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/visible"
)

// Rows is what one actor may see, planned once for each type. It serves one
// request, so that one version of the policy judges all of it.
func (c *Control) Rows(ctx context.Context, a *actor.Actor) *Rows {
	return &Rows{ctx: ctx, chain: c.chainOf(ctx), actor: a, roles: func() []string {
		roles, err := c.Roles(ctx, a)
		if err != nil {
			return nil // who they are cannot be told: nobody
		}
		return roles
	}, plans: map[string]plan{}, masks: map[string]*mask{}}
}

// Rows implements visible.Rows for one actor.
type Rows struct {
	ctx   context.Context //nolint:containedctx // predicates are built without one, and this serves one request only
	chain *authz.Chain
	actor *actor.Actor
	roles func() []string

	mu    sync.Mutex
	plans map[string]plan
	masks map[string]*mask
}

var _ visible.Rows = (*Rows)(nil)

// plan is a planned filter; a nil predicate lets every row through.
type plan struct {
	filter    authz.Filter
	predicate entfilter.Predicate
}

var nothing = plan{authz.False{}, func(*sql.Selector) *sql.Predicate { return sql.ExprP("1 = 0") }}

// Where implements visible.Rows.
func (r *Rows) Where(s *sql.Selector, typ string) {
	preds := []*sql.Predicate{sql.EQ(s.C("tenant_id"), r.actor.Tenant)}
	switch {
	case ent.RecordTypeNamed(typ) != nil:
		live, retired := r.plan(typ, authz.Read, mapper(typ)), r.plan(typ, authz.ReadRetired, mapper(typ))
		if !authz.Same(live.filter, retired.filter) {
			preds = append(preds, either(
				join(" AND ", append(predicates(s, live), sql.IsNull(s.C("retired_at")))),
				join(" AND ", append(predicates(s, retired), sql.NotNull(s.C("retired_at")))),
			))
		} else {
			preds = append(preds, predicates(s, live)...)
		}
	case typ == ent.TypeAuditEvent:
		preds = append(preds, r.events(s)...)
	case typ == ent.TypeOperationItem:
		preds = append(preds, r.items(s)...)
	case typ == ent.TypeLegalHold:
		preds = append(preds, r.holds(s)...)
	case typ == ent.TypeOperation:
		// Everyone reads what he asked for himself.
		if p := r.plan(typ, authz.OperationRead, mapper(typ)); p.predicate != nil {
			mine := sql.ExprP("1 = 0")
			if !r.actor.User.IsZero() {
				mine = sql.EQ(s.C("actor_id"), r.actor.User)
			}
			alternatives := []*sql.Predicate{mine, p.predicate(s)}
			if r.decides() {
				alternatives = append(alternatives, r.asked(s))
			}
			preds = append(preds, join(" OR ", alternatives))
		}
	case typ == ent.TypeApproval:
		preds = append(preds, r.approvals(s))
	case typ == ent.TypeExport || typ == ent.TypeExportSchedule:
		preds = append(preds, r.exports(s)...)
	case typ == ent.TypeNotification:
		preds = append(preds, r.notifications(s))
	case typ == ent.TypeWebhook, typ == ent.TypeWebhookDelivery:
		preds = append(preds, predicates(s, r.plan("Webhook", authz.WebhookEdit, entfilter.Mapper{}))...)
	case typ == ent.TypeDepartment, typ == ent.TypeAlertRule:
		preds = append(preds, predicates(s, r.plan("Alert", authz.AlertEdit, entfilter.Mapper{}))...)
	case typ == ent.TypeRetentionRule: // which says of records what not everybody may know
		preds = append(preds, predicates(s, r.plan(typ, authz.RetentionEdit, entfilter.Mapper{}))...)
	}
	s.Where(join(" AND ", preds))
}

// WhereMay narrows s, a query over the records of a type, to those to which the
// actor may do something; that he may read them, Where says.
func (r *Rows) WhereMay(s *sql.Selector, typ string, action authz.Action) {
	if preds := predicates(s, r.plan(typ, action, mapper(typ))); len(preds) > 0 {
		s.Where(join(" AND ", preds))
	}
}

// exports are shown to who asked for them, and to who may read those of others.
func (r *Rows) exports(s *sql.Selector) []*sql.Predicate {
	others := r.plan(ent.TypeExport, authz.ExportRead, entfilter.Mapper{})
	if others.predicate == nil {
		return nil
	}
	mine := sql.ExprP("1 = 0")
	if !r.actor.User.IsZero() {
		mine = sql.EQ(s.C("requested_by_id"), r.actor.User)
	}
	return []*sql.Predicate{either(mine, others.predicate(s))}
}

// items are shown to who asked for the operation, and of other people's
// operations those that speak of a record the reader may read.
func (r *Rows) items(s *sql.Selector) []*sql.Predicate {
	all := true
	for _, t := range ent.RecordTypes {
		for _, action := range []authz.Action{authz.Read, authz.ReadRetired} {
			all = all && r.plan(t.Name, action, mapper(t.Name)).predicate == nil
		}
	}
	if all {
		return nil
	}
	exists := func(table, as string, narrow func(*sql.Selector, *sql.SelectTable)) *sql.Predicate {
		from := sql.Dialect(s.Dialect()).Table(table).As(as)
		sub := sql.Dialect(s.Dialect()).Select(from.C("id")).From(from)
		narrow(sub, from)
		return sql.Exists(sub)
	}
	mine := exists("operations", "asked", func(sub *sql.Selector, from *sql.SelectTable) {
		sub.Where(sql.ColumnsEQ(from.C("id"), s.C("operation_id")))
		sub.Where(sql.EQ(from.C("actor_id"), r.actor.User))
	})
	alternatives := []*sql.Predicate{mine}
	for _, t := range ent.RecordTypes {
		alternatives = append(alternatives, exists(t.Table, "spoken_of", func(sub *sql.Selector, from *sql.SelectTable) {
			sub.Where(sql.ColumnsEQ(from.C("id"), s.C("record_id")))
			r.Where(sub, t.Name)
		}))
	}
	return []*sql.Predicate{join(" OR ", alternatives)}
}

// events are filtered by the type, owner and team of what they speak of, at
// the time they speak of it.
func (r *Rows) events(s *sql.Selector) []*sql.Predicate {
	var alternatives []*sql.Predicate
	general := r.plan(ent.TypeAuditEvent, authz.AuditRead, entfilter.Mapper{})
	all := general.predicate == nil
	if general.predicate == nil {
		alternatives = append(alternatives, sql.IsNull(s.C("record_type")))
	}
	m := entfilter.Mapper{Cols: map[string]entfilter.Column{"owner": idColumn("owner_id"), "team": idColumn("team_id")}}
	for _, t := range ent.RecordTypes {
		p, holds := r.planAs("event ", t.Name, authz.AuditRead, m), r.planAs("event ", t.Name, authz.HoldRead, m)
		all = all && p.predicate == nil && holds.predicate == nil
		preds := append(predicates(s, p), sql.EQ(s.C("record_type"), t.Name))
		if holds.predicate != nil { // that a hold was placed is for who may know of it
			preds = append(preds, either(sql.NotIn(s.C("action"), "HOLD_PLACE", "HOLD_RELEASE"), holds.predicate(s)))
		}
		alternatives = append(alternatives, join(" AND ", preds))
	}
	if all {
		return nil
	}
	return []*sql.Predicate{join(" OR ", alternatives)}
}

// WhereWas narrows s, a query over the audit log, to what became of records that the
// actor might have read before, as far as their owner and team say so: there may be
// nothing else left of them.
func (r *Rows) WhereWas(s *sql.Selector) {
	m := entfilter.Mapper{Cols: map[string]entfilter.Column{"owner": idColumn("owner_id"), "team": idColumn("team_id")}}
	var retired []any
	for _, state := range lifecycle.Retired() {
		retired = append(retired, string(state))
	}
	var alternatives []*sql.Predicate
	for _, t := range ent.RecordTypes {
		live, bin := r.planAs("event ", t.Name, authz.Read, m), r.planAs("event ", t.Name, authz.ReadRetired, m)
		alternatives = append(alternatives, join(" AND ", []*sql.Predicate{sql.EQ(s.C("record_type"), t.Name), either(
			join(" AND ", append(predicates(s, live), sql.NotIn(s.C("from_state"), retired...))),
			join(" AND ", append(predicates(s, bin), sql.In(s.C("from_state"), retired...))),
		)}))
	}
	s.Where(join(" AND ", []*sql.Predicate{sql.EQ(s.C("tenant_id"), r.actor.Tenant), join(" OR ", alternatives)}))
}

// holds are shown to who may know of them on each of their records. Where all
// of these are purged by now, it takes the right for holds as such.
func (r *Rows) holds(s *sql.Selector) []*sql.Predicate {
	var preds, some []*sql.Predicate
	for _, t := range ent.RecordTypes {
		kept := func(narrow func(sub *sql.Selector, row *sql.SelectTable)) *sql.Predicate {
			row, named := sql.Dialect(s.Dialect()).Table(t.Table).As("kept_row"), sql.Dialect(s.Dialect()).Table("legal_hold_records").As("named")
			sub := sql.Dialect(s.Dialect()).Select(named.C("id")).From(named).Join(row).On(named.C("record_id"), row.C("id"))
			sub.Where(sql.ColumnsEQ(named.C("hold_id"), s.C("id")))
			narrow(sub, row)
			return sql.Exists(sub)
		}
		some = append(some, kept(func(*sql.Selector, *sql.SelectTable) {}))
		known := r.plan(t.Name, authz.HoldRead, mapper(t.Name))
		if r.everywhere(t.Name, authz.HoldRead) {
			some = append(some, sql.EQ(s.C("filter_type"), t.Name))
			continue
		}
		// What a wide hold keeps changes: who may know of whatever it may come to keep may know of it.
		preds = append(preds, either(sql.IsNull(s.C("filter_type")), sql.NEQ(s.C("filter_type"), t.Name)), sql.Not(personal(s)))
		preds = append(preds, sql.Not(kept(func(sub *sql.Selector, row *sql.SelectTable) {
			sub.Where(sql.Not(r.knows(sub, row, t, known)))
		})))
	}
	if r.plan(ent.TypeLegalHold, authz.HoldRead, entfilter.Mapper{}).predicate != nil {
		preds = append(preds, join(" OR ", some))
	}
	return preds
}

// knows says that the reader may know of the holds on a row of a type, and read it.
func (r *Rows) knows(s *sql.Selector, row *sql.SelectTable, t *ent.RecordType, known plan) *sql.Predicate {
	seen := sql.Dialect(s.Dialect()).Table(t.Table).As("seen")
	own := sql.Dialect(s.Dialect()).Select(seen.C("id")).From(seen)
	own.Where(sql.ColumnsEQ(seen.C("id"), row.C("id")))
	r.Where(own, t.Name)
	if known.predicate != nil {
		own.Where(known.predicate(own))
	}
	return sql.Exists(own)
}

// personal says of the holds of a query that they keep what belongs to a person.
func personal(s *sql.Selector) *sql.Predicate {
	named := sql.Dialect(s.Dialect()).Table("legal_hold_records").As("named")
	return sql.Exists(sql.Dialect(s.Dialect()).Select(named.C("id")).From(named).
		Where(sql.And(sql.ColumnsEQ(named.C("hold_id"), s.C("id")), sql.NotNull(named.C("person_id")))))
}

// Everywhere reports whether the actor may do something to every record of a type
// there is or will be, and read it.
func (c *Control) Everywhere(ctx context.Context, a *actor.Actor, action authz.Action, typ string) bool {
	r := c.Rows(ctx, a)
	return r.everywhere(typ, action)
}

func (r *Rows) everywhere(typ string, action authz.Action) bool {
	for _, needed := range []authz.Action{action, authz.Read, authz.ReadRetired} {
		if r.plan(typ, needed, mapper(typ)).predicate != nil {
			return false
		}
	}
	return true
}

// plan asks the chain for the rows of a type, once. What cannot be said in
// columns shows nothing.
func (r *Rows) plan(typ string, action authz.Action, m entfilter.Mapper) plan {
	return r.planAs("", typ, action, m)
}

// planAs keeps plans apart that are lowered to the columns of something else.
func (r *Rows) planAs(as, typ string, action authz.Action, m entfilter.Mapper) plan {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := as + typ + " " + string(action)
	if p, ok := r.plans[key]; ok {
		return p
	}
	filter, _ := r.chain.Plan(r.ctx, authz.Query{
		Tenant: r.actor.Tenant.String(), Subject: r.actor.Subject(), Action: action, Resource: authz.Entity{Type: typ},
	})
	p := plan{filter: filter}
	if _, all := filter.(authz.True); !all {
		var err error
		if p.predicate, err = entfilter.Lower(filter, m); err != nil {
			p = nothing
		}
	}
	r.plans[key] = p
	return p
}

func predicates(s *sql.Selector, p plan) []*sql.Predicate {
	if p.predicate == nil {
		return nil
	}
	return []*sql.Predicate{p.predicate(s)}
}

func either(a, b *sql.Predicate) *sql.Predicate { return join(" OR ", []*sql.Predicate{a, b}) }

// join puts parentheses around everything: ent's own And prints "a OR b AND c"
// where an Or comes first.
func join(op string, preds []*sql.Predicate) *sql.Predicate {
	return sql.P(func(b *sql.Builder) {
		b.WriteByte('(')
		for i, p := range preds {
			if i > 0 {
				b.WriteString(op)
			}
			b.WriteByte('(').Join(p).WriteByte(')')
		}
		b.WriteByte(')')
	})
}

var mappers = func() map[string]entfilter.Mapper {
	out := map[string]entfilter.Mapper{}
	for typ, attrs := range attributes {
		m := entfilter.Mapper{Cols: map[string]entfilter.Column{}}
		for _, a := range attrs {
			m.Cols[a.name] = entfilter.Column{Name: a.column}
			if a.kind.String() == "id" {
				m.Cols[a.name] = idColumn(a.column)
			}
		}
		out[typ] = m
	}
	return out
}()

func mapper(typ string) entfilter.Mapper { return mappers[typ] }

func idColumn(name string) entfilter.Column {
	return entfilter.Column{Name: name, Value: func(v any) (any, error) {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("an id is text, not %T", v)
		}
		id, err := gid.Parse(s)
		if err != nil || id.String() != s { // decisions compare ids as text
			return nil, entfilter.ErrNever
		}
		return id, nil
	}}
}
