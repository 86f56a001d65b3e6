package record_test

import (
	"slices"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// timedRetention is a retention rule in the plain model.
type timedRetention struct {
	key          string // its id
	deals        bool   // it is about deals, of which there are none
	status, name string // of the customers it is about; empty for any
	action       string
	basis        string
	length       int
	months       bool
	every        int // hours
	reason       string
	approval     bool
	enabled      bool
	removed      bool
	version      int
	locked       time.Time
	next         time.Time // when it has its next turn; zero for never
	// What the last dry run found out, if there was one.
	tried              bool
	matching, deciding int
}

func (t *timedRetention) inForce() bool { return t.enabled && !t.removed }

func (t *timedRetention) isAbout(r *timedRow) bool {
	return !t.deals && (t.status == "" || t.status == r.status) && (t.name == "" || t.name == r.name)
}

func (t *timedRetention) comparisons() (n int) {
	for _, value := range []string{t.status, t.name} {
		if value != "" {
			n++
		}
	}
	return n
}

// end is when it ends to keep a record, or acts on it.
func (t *timedRetention) end(r *timedRow) time.Time {
	from := r.created
	switch {
	case t.basis == "STATE_CHANGED_AT":
		from = r.changed
	case t.basis == "LAST_ACTIVITY" && !r.active.IsZero():
		from = r.active
	}
	return t.after(from)
}

func (t *timedRetention) after(from time.Time) time.Time {
	if !t.months {
		return from.Add(time.Duration(t.length) * 24 * time.Hour)
	}
	month := time.Date(from.Year(), from.Month(), 1, 0, 0, 0, 0, time.UTC)
	for range t.length {
		month = month.AddDate(0, 1, 0)
	}
	following := month.AddDate(0, 1, 0)
	day := month.Add(from.Sub(time.Date(from.Year(), from.Month(), 1, 0, 0, 0, 0, time.UTC)))
	if day.Before(following) {
		return day
	}
	return following
}

// shorter reports whether another term can end before this one.
func (t *timedRetention) shorter(to *timedRetention) bool {
	for day := range 4 * 366 {
		from := time.Date(2027, 1, 1+day, 12, 0, 0, 0, time.UTC)
		if to.after(from).Before(t.after(from)) {
			return true
		}
	}
	return false
}

// leads says what the action would make of a record: "" if it is not for it.
func (t *timedRetention) leads(r *timedRow) lifecycle.State {
	if t.action == "KEEP" {
		return ""
	}
	to, _ := r.move(lifecycle.Verb(t.action))
	retired := r.state == "VOIDED" || r.state == "DELETED"
	if t.action != "PURGE" && retired && to != r.state { // what is put away is left there
		return ""
	}
	return to
}

func (t *timedRetention) loses() bool { return t.action == "DELETE" || t.action == "PURGE" }

// keeper is the rule that keeps a record for longest, and until when.
func (m *timed) keeper(i int) (by *timedRetention, until time.Time) {
	for _, t := range m.kept { // of two the older one is told
		if end := t.end(m.rows[i]); t.inForce() && t.action == "KEEP" && t.isAbout(m.rows[i]) && end.After(until) {
			by, until = t, end
		}
	}
	return by, until
}

func (m *timed) held(i int) bool {
	return slices.ContainsFunc(m.holds, func(h *timedHold) bool { return h.released.IsZero() && slices.Contains(h.rows, i) })
}

// released is until when clocks stand still after the last hold was released.
func (m *timed) released(i int) (until time.Time) {
	for _, h := range m.holds {
		if end := h.released.Add(releaseFor); slices.Contains(h.rows, i) && !h.released.IsZero() && end.After(until) {
			until = end
		}
	}
	return until
}

// fate is what becomes of a record by itself.
type fate struct {
	by     *timedRetention
	action string
	at     time.Time
	stays  lifecycle.Code // what keeps it from being purged
	until  time.Time
}

// actor is the rule that decides among those that act: one that deletes by a filter, then the most specific one, then one
// that still has something to do, then the one that acts first.
func (m *timed) actor(i int, others ...*timedRetention) *timedRetention {
	r := m.rows[i]
	var list []*timedRetention
	for _, t := range m.kept {
		if (t.inForce() || slices.Contains(others, t)) && !t.approval && t.isAbout(r) && t.leads(r) != "" { // what is only proposed decides nothing
			list = append(list, t)
		}
	}
	if len(list) == 0 {
		return nil
	}
	yes := func(b bool) int {
		if b {
			return 0
		}
		return 1
	}
	return slices.MinFunc(list, func(a, b *timedRetention) int {
		for _, by := range []int{
			yes(a.loses() && a.comparisons() > 0) - yes(b.loses() && b.comparisons() > 0), b.comparisons() - a.comparisons(),
			yes(a.leads(r) != r.state) - yes(b.leads(r) != r.state), a.end(r).Compare(b.end(r)),
		} {
			if by != 0 {
				return by
			}
		}
		return strings.Compare(a.key, b.key)
	})
}

// fate says what becomes of a record, with other rules as if they were in force.
func (m *timed) fate(i int, now time.Time, others ...*timedRetention) (f fate) {
	r := m.rows[i]
	if t := m.actor(i, others...); t != nil && t.leads(r) != r.state {
		f.by, f.action, f.at = t, t.action, t.end(r)
	}
	if !r.purge.IsZero() && (f.by == nil || r.purge.Before(f.at)) {
		f.by, f.action, f.at = nil, "PURGE", r.purge
	}
	if m.held(i) {
		return fate{action: f.action, stays: lifecycle.Hold}
	}
	delay := func(by *timedRetention, until time.Time) {
		if f.at.Before(until) {
			f.by, f.at = by, until
		}
	}
	keeper, until := m.keeper(i)
	kept, after := now.Before(until), m.released(i)
	if kept && (f.action == "DELETE" || f.action == "PURGE") {
		delay(keeper, until)
	}
	if now.Before(after) && f.action == "PURGE" {
		delay(nil, after)
	}
	if kept {
		f.stays, f.until = lifecycle.Retained, until
	}
	if now.Before(after) && (!kept || after.After(until)) {
		f.stays, f.until, keeper = lifecycle.Retained, after, nil
	}
	if f.stays != "" && f.action == "" {
		f.by = keeper
	}
	return f
}

// acts are the records that a rule decides on and whose time has come.
func (m *timed) acts(t *timedRetention, now time.Time) (out []int) {
	for i, r := range m.rows {
		if r.state == "" {
			continue
		}
		if t.approval {
			if to := t.leads(r); t.isAbout(r) && to != "" && to != r.state && !m.held(i) && !t.end(r).After(now) {
				out = append(out, i)
			}
			continue
		}
		if f := m.fate(i, now, t); f.by == t && f.action == t.action && !f.at.After(now) {
			out = append(out, i)
		}
	}
	return out
}

// act has a rule act now: an ordinary operation, if there is something to do.
func (m *timed) act(t *timedRetention, now time.Time) {
	op := &timedOp{verb: lifecycle.Verb(t.action), by: "system", picks: m.acts(t, now)}
	if len(op.picks) > 0 {
		m.ops = append(m.ops, op)
		m.run(op, now)
	}
	m.met["rule "+t.action] += op.changed
}

// candidates are what a rule would void for all that somebody knows who is told of no hold.
func (m *timed) candidates(t *timedRetention, now time.Time) []int {
	others := *m
	others.holds = nil
	return others.acts(t, now)
}

// dryRun has a rule find out what it would do.
func (m *timed) dryRun(t *timedRetention, now time.Time) {
	t.tried, t.matching, t.deciding = true, 0, 0
	for _, r := range m.rows {
		switch {
		case r.state == "" || !t.isAbout(r):
		case t.action == "KEEP":
			if now.Before(t.end(r)) {
				t.matching++
			}
		case t.leads(r) != "" && t.leads(r) != r.state && !t.end(r).After(now):
			t.matching++
		}
	}
	if t.action != "KEEP" {
		t.deciding = len(m.acts(t, now))
	}
}

// applyRules gives each rule its turn, the oldest first.
func (m *timed) applyRules(now time.Time) {
	for _, t := range m.kept {
		if !t.inForce() || t.next.IsZero() || t.next.After(now) {
			continue
		}
		t.next = now.Add(time.Duration(t.every) * time.Hour)
		if !t.tried || t.approval {
			m.dryRun(t, now)
		} else {
			m.act(t, now)
		}
	}
}

// put puts a rule in the place of an older version of itself.
func (t *timedRetention) put(to timedRetention, now time.Time) {
	if !t.plain(&to) {
		to.tried = false
		to.start(now)
	}
	to.version = t.version + 1
	*t = to
}

// start has it find out what it would do.
func (t *timedRetention) start(now time.Time) {
	t.next = time.Time{}
	if t.enabled && t.action != "KEEP" {
		t.next = now
	}
}

// plain reports whether another version does the same to the same records.
func (t *timedRetention) plain(to *timedRetention) bool {
	a, b := *t, *to
	a.every, a.reason, a.locked, b.every, b.reason, b.locked = 0, "", time.Time{}, 0, "", time.Time{}
	return a == b
}

// weaker reports whether another version is about fewer records, or for less time, or acts less often.
func (t *timedRetention) weaker(to *timedRetention) bool {
	return (t.status != to.status || t.name != to.name) && to.comparisons() > 0 || t.basis != to.basis || t.action != to.action || t.shorter(to) ||
		t.action != "KEEP" && to.every > t.every || to.approval && !t.approval || t.enabled && !to.enabled
}

// needsConsent reports whether others must agree to another version; nil is the end of the rule.
func (m *timed) needsConsent(t, to *timedRetention) bool {
	keeps := t != nil && t.enabled && t.action == "KEEP"
	switch {
	case !m.shortening:
		return false
	case to == nil:
		return keeps
	}
	return keeps && t.weaker(to) || to.enabled && to.action == "PURGE" && (t == nil || !t.plain(to))
}
