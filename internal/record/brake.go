package record

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"entgo.io/ent/dialect"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// counted are the verbs that the brake counts. What is brought back is not, and
// neither is what was never there before: import.
var counted = []lifecycle.Verb{lifecycle.Delete, lifecycle.Void, lifecycle.Archive, lifecycle.Suspend, lifecycle.Purge}

// manyRows is how many live rows a type has before a share of them is much.
const manyRows = 1_000

// settings are what an operation needs of its tenant's settings, and what its
// actor has changed of late.
type settings struct {
	bin         time.Duration // how long a record stays in the bin
	holdRelease time.Duration // how long it stays after its last hold was released

	records, percent, hour, day *int // caps; nil is none
	lastHour, lastDay           int

	purgeDay   *int // how many records may be purged in 24 hours; nil is no quota
	lastPurged int

	// live are the live rows of the types for which percent matters, counted no
	// further than it does.
	live map[*ent.RecordType]int
}

// readSettings reads them with one statement. The sums are only computed where
// a cap asks for them.
func (r *run) readSettings(ctx context.Context) error {
	if !slices.Contains(counted, r.req.Verb) {
		return nil
	}
	verbs := make([]string, len(counted))
	for i, v := range counted {
		verbs[i] = `'` + string(v) + `'`
	}
	sum := `(SELECT CAST(COALESCE(SUM(o.changed), 0) AS bigint) FROM operations o
		WHERE o.tenant_id = t.id AND o.actor_id = ? AND o.finished_at > ? AND o.verb IN (` + strings.Join(verbs, ", ") + `))`
	s, now, days, holdDays := &r.settings, r.q.Now(), 0, 0
	*s = settings{}
	purges, quota := `NULL, 0`, []any(nil)
	if r.req.Verb == lifecycle.Purge {
		purges, quota = `t.purge_day, CASE WHEN t.purge_day IS NULL THEN 0 ELSE `+purgedSince+` END`, []any{now.Add(-quotaTime)}
	}
	_, err := store.Build(r.q).Add(`SELECT t.bin_days, t.hold_release_days, t.brake_records, t.brake_percent, t.brake_hour, t.brake_day,
		CASE WHEN t.brake_hour IS NULL THEN 0 ELSE `+sum+` END, CASE WHEN t.brake_day IS NULL THEN 0 ELSE `+sum+` END, `,
		r.a.User, now.Add(-time.Hour), r.a.User, now.Add(-24*time.Hour)).Add(purges, quota...).Add(` FROM tenants t WHERE t.id = ?`, r.a.Tenant).
		One(ctx, r.q, &days, &holdDays, &s.records, &s.percent, &s.hour, &s.day, &s.lastHour, &s.lastDay, &s.purgeDay, &s.lastPurged)
	if err != nil {
		return fmt.Errorf("reading the tenant's settings: %w", err)
	}
	s.bin, s.holdRelease = time.Duration(days)*24*time.Hour, time.Duration(holdDays)*24*time.Hour
	if r.due != nil { // what runs out was counted when it was retired
		s.records, s.percent = nil, nil
	}
	if r.a.Kind == actor.System {
		s.hour, s.day = nil, nil
	}
	return nil
}

// readSums reads what the actor has changed of late once more, where a cap asks for it, and makes his operations wait for
// each other until then: two at once would each count without the other. He may not do so much that waiting costs him.
// So do the purges of a tenant that has a quota of them. It comes before records are locked, so that nobody waits
// crosswise.
func (r *run) readSums(ctx context.Context) error {
	if r.tx == nil || r.tx.Dialect() != dialect.Postgres {
		return nil // on SQLite one writes at a time, and what was read is what is
	}
	var names []any
	if r.settings.hour != nil || r.settings.day != nil {
		names = append(names, "brake"+r.a.Tenant.UUID()+r.a.User.UUID())
	}
	if r.settings.purgeDay != nil {
		names = append(names, "quota"+r.a.Tenant.UUID())
	}
	if len(names) == 0 && r.a.Kind != actor.System {
		return nil
	}
	stmt := store.Build(r.tx).Add(`SELECT `)
	for _, name := range names {
		stmt.Add(`pg_advisory_xact_lock(hashtextextended(?, 0)), `, name)
	}
	// The fence, so that the settings are those that were in force when it was passed.
	if _, err := stmt.Add(`pg_advisory_xact_lock_shared(?)`, fenceKey(r.a.Tenant)).Exec(ctx, r.tx); err != nil {
		return fmt.Errorf("waiting for other operations: %w", err)
	}
	return r.readSettings(ctx)
}

// takenLive says how many live records of each type the plan takes.
func (p *plan) takenLive() map[*ent.RecordType]int {
	taken := map[*ent.RecordType]int{}
	for _, n := range p.nodes {
		if n.included && !n.row.RecordState().Retired() {
			taken[n.row.RecordType()]++
		}
	}
	return taken
}

// countLive counts the live rows of types of which the plan takes so many that
// it could be more than the share allowed: no further than to where it is not,
// and with one statement for all types.
func (r *run) countLive(ctx context.Context) error {
	percent := r.settings.percent
	if percent == nil {
		return nil
	}
	taken := r.takenLive()
	stmt := store.Build(r.q)
	var types []*ent.RecordType
	for _, t := range typeOrder {
		n := taken[t]
		if n == 0 || n*100 <= manyRows**percent {
			continue // not too many of as few as 1,000
		}
		enough := manyRows + 1
		if *percent > 0 {
			enough = (n*100 + *percent - 1) / *percent
		}
		start := `, `
		if len(types) == 0 {
			start = `SELECT `
		}
		stmt.Add(start+`(SELECT COUNT(*) FROM (SELECT 1 FROM `+t.Table+` WHERE tenant_id = ? AND retired_at IS NULL LIMIT ?) counted)`, r.a.Tenant, enough)
		types = append(types, t)
	}
	if len(types) == 0 {
		return nil
	}
	counts := make([]int, len(types))
	dest := make([]any, len(types))
	for i := range counts {
		dest[i] = &counts[i]
	}
	if _, err := stmt.One(ctx, r.q, dest...); err != nil {
		return fmt.Errorf("counting live records: %w", err)
	}
	r.settings.live = map[*ent.RecordType]int{}
	for i, t := range types {
		r.settings.live[t] = counts[i]
	}
	return nil
}

// exceeded is a cap that an operation would be over.
type exceeded struct {
	cap           string
	limit, actual int
	typ           *ent.RecordType // of a cap by type
}

// overCaps lists the caps that the plan would be over. A preview stands for the
// operation that is sent with its token.
func (r *run) overCaps() []exceeded {
	var out []exceeded
	n, s := r.changes(), r.settings
	if n == 0 {
		return nil
	}
	check := func(name string, limit *int, actual int) {
		if limit != nil && actual > *limit {
			out = append(out, exceeded{cap: name, limit: *limit, actual: actual})
		}
	}
	if r.tx != nil && r.token == nil && !r.previewed {
		check("brakeRecords", s.records, n)
	}
	taken := r.takenLive()
	for _, t := range typeOrder {
		if live := s.live[t]; live > manyRows && taken[t]*100 > live**s.percent {
			out = append(out, exceeded{"brakePercent", *s.percent, taken[t], t})
		}
	}
	check("brakeHour", s.hour, s.lastHour+n)
	check("brakeDay", s.day, s.lastDay+n)
	check(purgeDay, s.purgeDay, s.lastPurged+n)
	return out
}

// changes is how many records the plan changes, those that come along included.
func (p *plan) changes() int {
	n := len(p.along)
	for _, it := range p.items {
		if it.outcome == changed {
			n++
		}
	}
	return n
}

// brakes say each cap in words.
var brakes = map[string]string{
	"brakeRecords": "more records than one operation may change that was not previewed",
	"brakePercent": "a larger share of the live records of a type than one operation may take",
	"brakeHour":    "more records than one user may change in an hour",
	"brakeDay":     "more records than one user may change in a day",
	purgeDay:       "more records than may be purged in a day",
}

// refusal is how an operation over the cap ends, until somebody can approve it.
func (e exceeded) refusal() *Error {
	out := &Error{Code: lifecycle.Limit, Message: brakes[e.cap], Extensions: map[string]any{"cap": e.cap, "limit": e.limit, "actual": e.actual}}
	if e.typ != nil {
		out.Extensions["type"] = e.typ.Kind()
	}
	return out
}

// blocker is the same as a preview shows it.
func (e exceeded) blocker() Blocker {
	b := Blocker{Code: lifecycle.Limit, Field: e.cap, Limit: e.limit, Count: e.actual}
	if e.typ != nil {
		b.Type = e.typ.Name
	}
	return b
}
