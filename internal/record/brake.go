package record

import (
	"context"
	"fmt"
	"maps"
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

	// exportBefore are the verbs that wait for an export.
	exportBefore ExportBefore
	exported     bool // whether exports say anything of records; of a purge

	// rules are those that may ask for the verb.
	rules []Rule
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
	// Of a job that has not ended, what it has done so far counts; but for this one, of which that is known.
	changed := `(SELECT CAST(COALESCE(SUM(CASE WHEN o.changed > o.imported THEN o.changed - o.imported ELSE 0 END), 0) AS bigint) FROM operations o
		WHERE o.tenant_id = t.id AND o.actor_id = ? AND o.verb IN (` + strings.Join(verbs, ", ") + `) AND `
	sum := changed + `o.finished_at > ?) + ` + changed + `o.finished_at IS NULL AND o.worked_at > ? AND o.id <> ?)`
	s, days, holdDays := &r.settings, 0, 0
	hour, day := r.q.Now().Add(-time.Hour), r.q.Now().Add(-24*time.Hour)
	var rules, before *string
	*s = settings{}
	purges, quota := `NULL, 0, FALSE`, []any(nil)
	if r.req.Verb == lifecycle.Purge {
		purges, quota = `t.purge_day, CASE WHEN t.purge_day IS NULL THEN 0 ELSE `+purgedSince+` END, EXISTS (SELECT 1 FROM export_rows x WHERE x.tenant_id = t.id)`, []any{day, day, r.id}
	}
	_, err := store.Build(r.q).Add(`SELECT t.bin_days, t.hold_release_days, t.export_before, t.brake_records, t.brake_percent, t.brake_hour, t.brake_day,
		CASE WHEN t.brake_hour IS NULL THEN 0 ELSE `+sum+` END, CASE WHEN t.brake_day IS NULL THEN 0 ELSE `+sum+` END,
		`+rulesJSON(r.q, `t.id`, r.subjects()...)+`, `,
		r.a.User, hour, r.a.User, hour, r.id, r.a.User, day, r.a.User, day, r.id).Add(purges, quota...).Add(` FROM tenants t WHERE t.id = ?`, r.a.Tenant).
		One(ctx, r.q, &days, &holdDays, &before, &s.records, &s.percent, &s.hour, &s.day, &s.lastHour, &s.lastDay, &rules, &s.purgeDay, &s.lastPurged, &s.exported)
	if err != nil {
		return fmt.Errorf("reading the tenant's settings: %w", err)
	}
	if s.rules, err = r.readRules(rules); err != nil {
		return err
	}
	if s.exportBefore, err = readExportBefore(before); err != nil {
		return err
	}
	s.bin, s.holdRelease = time.Duration(days)*24*time.Hour, time.Duration(holdDays)*24*time.Hour
	if r.byItself() { // what runs out was counted when it was retired, and a rule was tried out first
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
func (r *run) countLive(ctx context.Context) error { return r.countLiveOf(ctx, r.takenLive()) }

func (r *run) countLiveOf(ctx context.Context, taken map[*ent.RecordType]int) error {
	percent := r.settings.percent
	if percent == nil {
		return nil
	}
	stmt := store.Build(r.q)
	var types []*ent.RecordType
	for _, t := range typeOrder {
		n := taken[t] + r.takenBefore(t) - r.importedOf(t)
		if taken[t] == 0 || n*100 <= manyRows**percent {
			continue // not too many of as few as 1,000
		}
		enough := manyRows + 1
		if *percent > 0 {
			enough = (n*100 + *percent - 1) / *percent
		}
		enough = max(enough+r.importedOf(t)-r.goneBefore(t), 0)
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
		r.settings.live[t] = counts[i] + r.goneBefore(t) - r.importedOf(t)
	}
	return nil
}

// goneBefore is how many records of a type were live when the operation was asked for, and are no more since the batches
// before.
func (r *run) goneBefore(t *ent.RecordType) int {
	if r.req.Verb == lifecycle.Archive || r.req.Verb == lifecycle.Suspend {
		return 0 // which leave them live
	}
	return r.takenBefore(t)
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
	n := r.changes()
	if n == 0 {
		return nil
	}
	if r.stored != nil {
		n += r.stored.Changed // by the batches before
	}
	if n -= r.imported(); n <= 0 {
		return nil
	}
	return r.over(n, r.takenLive())
}

// imported is how many of the records the import created that asks.
func (r *run) imported() int {
	switch {
	case r.stored != nil:
		return r.stored.Imported
	case r.req.Import != nil:
		return r.req.Import.Created
	}
	return 0
}

// importedOf is how many of the records of a type the import created; it creates records of one.
func (r *run) importedOf(t *ent.RecordType) int {
	if len(r.items) == 0 || r.items[0].typ != t {
		return 0
	}
	return r.imported()
}

// over lists the caps that a number of changes would be over, of which so many take live records of each type.
func (r *run) over(n int, taken map[*ent.RecordType]int) []exceeded {
	var out []exceeded
	s := r.settings
	check := func(name string, limit *int, actual int) {
		if limit != nil && actual > *limit {
			out = append(out, exceeded{cap: name, limit: *limit, actual: actual})
		}
	}
	if r.tx != nil && r.token == nil && !r.previewed {
		check("brakeRecords", s.records, n)
	}
	for _, t := range typeOrder {
		n := taken[t] + r.takenBefore(t) - r.importedOf(t)
		if live := s.live[t]; taken[t] > 0 && live > manyRows && n*100 > live**s.percent {
			out = append(out, exceeded{"brakePercent", *s.percent, n, t})
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

// Caps are the names of the caps.
func Caps() []string { return slices.Sorted(maps.Keys(brakes)) }

// refusal is how an operation over the cap ends for whose actor nobody can approve it.
func (e exceeded) refusal() *Error {
	return &Error{Code: lifecycle.Limit, Message: brakes[e.cap], Extensions: e.detail()}
}

// blocker is the same as a preview shows it.
func (e exceeded) blocker() Blocker {
	b := Blocker{Code: lifecycle.Limit, Field: e.cap, Limit: e.limit, Count: e.actual}
	if e.typ != nil {
		b.Type = e.typ.Name
	}
	return b
}
