package record

import (
	"context"
	"fmt"
	"slices"
	"time"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// touchedWithin is how far back a change makes a user one who is affected.
const touchedWithin = 30 * 24 * time.Hour

// threadColumn is what the records of one conversation share, in types that
// have conversations.
const threadColumn = "thread_key"

// ThreadImpact is a conversation of which a part goes and a part stays.
type ThreadImpact struct {
	ThreadKey string
	// Subject is what one of those that go is known by.
	Subject *string
	// Masked says that a subject is hidden from the caller.
	Masked  bool
	Going   int
	Staying int
}

// BrokenThreads are the conversations of which live records that the caller may
// read would stay behind, in the order of what goes. It takes one statement for
// each type that has conversations.
func (p *Preview) BrokenThreads(ctx context.Context) ([]*ThreadImpact, error) {
	r := p.run
	ctx = visible.With(ctx, r.control.Rows(ctx, r.a))
	out := []*ThreadImpact{}
	if r.req.Verb == lifecycle.Restore || r.req.Verb == lifecycle.Undo {
		return out, nil
	}
	for _, t := range typeOrder {
		threads, keys, ids := map[string]*ThreadImpact{}, []string(nil), []gid.ID(nil)
		for _, n := range r.sorted() {
			key := threadOf(n, t)
			if key == "" || n.to != "" && !n.to.Retired() || n.to == "" && r.req.Verb != lifecycle.Purge {
				continue
			}
			if threads[key] == nil {
				threads[key] = &ThreadImpact{ThreadKey: key}
				keys = append(keys, key)
			}
			threads[key].Going++
			ids = append(ids, n.row.RecordID())
			if m := visible.MaskOf(ctx, t.Name); m != nil && m.Hidden(n.row.Column)[access.LabelField] {
				threads[key].Masked = true
			} else if threads[key].Subject == nil {
				threads[key].Subject = n.row.Label()
			}
		}
		if len(keys) == 0 {
			continue
		}
		stay := r.inThreads(ctx, t, keys)
		stay.Select(stay.C(threadColumn), sql.Count("*")).GroupBy(stay.C(threadColumn))
		stay.Where(sql.IsNull(stay.C("retired_at"))).Where(sql.Not(inIDs(stay.C("id"), ids)))
		err := store.Select(ctx, r.q, stay, func(rows store.Row) error {
			var key string
			var n int
			if err := rows.Scan(&key, &n); err != nil {
				return err
			}
			threads[key].Staying = n
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("looking for what stays of threads: %w", err)
		}
		for _, key := range keys {
			if threads[key].Staying > 0 {
				out = append(out, threads[key])
			}
		}
	}
	return out, nil
}

// threadOf is the conversation of a record of type t that the plan changes.
func threadOf(n *node, t *ent.RecordType) string {
	if !n.included || n.row.RecordType() != t || !slices.Contains(t.Columns, threadColumn) {
		return ""
	}
	key, _ := n.row.Column(threadColumn).(string)
	return key
}

// inThreads selects records of conversations that the reader may read.
func (r *run) inThreads(ctx context.Context, t *ent.RecordType, keys []string) *sql.Selector {
	s := sql.Dialect(r.q.Dialect()).Select().From(sql.Dialect(r.q.Dialect()).Table(t.Table)).WithContext(ctx)
	visible.WhereContext(ctx, s, t.Name)
	return s.Where(inStrings(s.C(threadColumn), keys))
}

// AffectedUsers are the users other than the caller who own what would change,
// or who changed it, or something the caller may read in the same
// conversation, in the last 30 days. It takes one statement.
func (p *Preview) AffectedUsers(ctx context.Context) ([]gid.ID, error) {
	r := p.run
	ctx = visible.With(ctx, r.control.Rows(ctx, r.a))
	users := map[gid.ID]bool{}
	var ids []gid.ID
	keys := map[*ent.RecordType][]string{}
	for _, n := range r.sorted() {
		if !n.included {
			continue
		}
		ids = append(ids, n.row.RecordID())
		if owner := refOf(n.row, "owner_id"); owner != nil {
			users[*owner] = true
		}
		t := n.row.RecordType()
		if key := threadOf(n, t); key != "" {
			keys[t] = append(keys[t], key)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	touched := func(of func(column string) *sql.Predicate) *sql.Selector {
		s := sql.Dialect(r.q.Dialect()).Select().From(sql.Dialect(r.q.Dialect()).Table("audit_events"))
		return s.Select(s.C("actor_id")).Where(sql.EQ(s.C("tenant_id"), r.a.Tenant)).Where(sql.NotNull(s.C("actor_id"))).
			Where(sql.EQ(s.C("outcome"), string(audit.Succeeded))).Where(sql.GTE(s.C("at"), r.q.Now().Add(-touchedWithin))).Where(of(s.C("record_id"))).
			Where(sql.NotIn(s.C("action"), "HOLD_PLACE", "HOLD_RELEASE")) // which change nothing, and are not for everyone to know of
	}
	// A union, not an OR: each half is a look-up by record.
	all := touched(func(column string) *sql.Predicate { return inIDs(column, ids) })
	for _, t := range typeOrder {
		if len(keys[t]) > 0 {
			of := r.inThreads(ctx, t, keys[t])
			of.Select(of.C("id"))
			all.Union(touched(func(column string) *sql.Predicate { return sql.In(column, of) }))
		}
	}
	err := store.Select(ctx, r.q, all, scanIDs(func(id gid.ID) { users[id] = true }))
	if err != nil {
		return nil, fmt.Errorf("looking for who is affected: %w", err)
	}
	delete(users, r.a.User)
	out := make([]gid.ID, 0, len(users))
	for id := range users {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b gid.ID) int { return slices.Compare(a[:], b[:]) })
	return out, nil
}

// inStrings is "column IN values" with one argument for any number of values.
func inStrings(column string, values []string) *sql.Predicate {
	return sql.P(func(b *sql.Builder) {
		if b.Dialect() == dialect.Postgres {
			b.Ident(column).WriteString(" = ANY(").Arg(values).WriteString("::text[])")
			return
		}
		b.Ident(column).WriteString(" IN (SELECT value FROM json_each(").Arg(store.JSONStrings(values)).WriteString("))")
	})
}
