package record_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// timed is the plain model of what clocks, holds and approvals do to records that have nothing to do with each other:
// what the model of trees leaves out.
type timed struct {
	rows  []*timedRow
	holds []*timedHold
	ops   []*timedOp
	rule  *timedRule
	asked int // requests so far
	kept  []*timedRetention
	// shortening says that others must agree before records are kept for less time.
	shortening bool
	met        map[string]int // how often what timers do was met
}

// timedRow is a record. stack is what it goes back to, last in first out.
type timedRow struct {
	state   lifecycle.State // "" once purged
	version int
	stack   []frame
	purge   time.Time // when its clock runs out; zero for none
	until   time.Time
	then    string
	// What retention rules count from and filter by.
	created, changed, active time.Time
	name, status             string
}

type frame struct {
	state          lifecycle.State
	purge, changed time.Time
	op             int // that put it away; -1 for a timer
}

type timedHold struct {
	rows                []int
	blockDelete, freeze bool
	released            time.Time // zero while it holds
}

// timedRule asks for the consent of others where a verb changes more than so many records.
type timedRule struct {
	verb         lifecycle.Verb
	over, votes  int
	confirm      bool
	request, use time.Duration
}

// timedOp is an operation. It ends at once unless it waits.
type timedOp struct {
	verb     lifecycle.Verb
	by       string
	picks    []int
	versions []int // as others are asked to agree to them; nil for whatever they are
	until    time.Time
	then     string
	status   string
	runAt    time.Time
	voters   []string
	agreed   bool // that was used
	asked    int  // how many others waited, or had waited, when it began to
	expires  time.Time
	useUntil time.Time
	confirm  bool // is still to come
	votes    int
	use      time.Duration
	outcomes map[int]string
	changed  int
}

const (
	binFor     = 30 * 24 * time.Hour
	releaseFor = 30 * 24 * time.Hour
)

// move is the table of the states: where a verb leads, "" for nowhere, and the state itself for no change.
func (r *timedRow) move(verb lifecycle.Verb) (to lifecycle.State, code lifecycle.Code) {
	type S = lifecycle.State
	table := map[lifecycle.Verb]map[S]S{
		lifecycle.Delete:  {"ACTIVE": "DELETED", "SUSPENDED": "DELETED", "ARCHIVED": "DELETED", "VOIDED": "DELETED", "DELETED": "DELETED"},
		lifecycle.Void:    {"ACTIVE": "VOIDED", "SUSPENDED": "VOIDED", "ARCHIVED": "VOIDED", "VOIDED": "VOIDED"},
		lifecycle.Archive: {"ACTIVE": "ARCHIVED", "SUSPENDED": "ARCHIVED", "ARCHIVED": "ARCHIVED"},
		lifecycle.Suspend: {"ACTIVE": "SUSPENDED", "SUSPENDED": "SUSPENDED"},
		lifecycle.Restore: {"ACTIVE": "ACTIVE", "SUSPENDED": "back", "ARCHIVED": "back", "VOIDED": "back", "DELETED": "back"},
		lifecycle.Purge:   {"VOIDED": "gone", "DELETED": "gone"},
	}
	to = table[verb][r.state]
	switch {
	case to != "":
		return to, ""
	case verb == lifecycle.Purge:
		return "", lifecycle.NotRetired
	}
	return "", lifecycle.IllegalTransition
}

// stops says as what a verb is refused on a record for a hold: HOLD, or RETAINED after the last one was released, as it
// is where a rule keeps it.
func (m *timed) stops(i int, verb lifecycle.Verb, now time.Time) lifecycle.Code {
	held, blocks, freezes := false, false, false
	for _, h := range m.holds {
		if !slices.Contains(h.rows, i) {
			continue
		}
		if h.released.IsZero() {
			held, blocks, freezes = true, blocks || h.blockDelete, freezes || h.freeze
		}
	}
	switch verb {
	case lifecycle.Purge:
		if held {
			return lifecycle.Hold
		}
		if _, until := m.keeper(i); now.Before(until) || now.Before(m.released(i)) {
			return lifecycle.Retained
		}
		return ""
	case lifecycle.Delete, lifecycle.Void:
		freezes = freezes || blocks
	}
	if freezes {
		return lifecycle.Hold
	}
	return ""
}

// judge is what a verb would make of a record: UNCHANGED, CHANGED, or FAILED with a code.
func (m *timed) judge(op *timedOp, n int, now time.Time) string {
	i := op.picks[n]
	r := m.rows[i]
	verb := op.verb
	switch {
	case r.state == "" && verb == lifecycle.Purge:
		return "UNCHANGED"
	case r.state == "":
		return "FAILED GONE"
	}
	to, code := r.move(verb)
	switch {
	case to == r.state && (verb != lifecycle.Suspend || r.state != "SUSPENDED"):
		return "UNCHANGED"
	case op.versions != nil && op.versions[n] != r.version:
		return "FAILED STALE"
	case code != "":
		return "FAILED " + string(code)
	}
	if code := m.stops(i, verb, now); code != "" {
		if op.by == "purger" { // who may not know of holds
			code = lifecycle.Retained
		}
		return "FAILED " + string(code)
	}
	return "CHANGED"
}

// request is what becomes of an operation when it is asked for.
func (m *timed) request(op *timedOp, now time.Time) {
	m.ops = append(m.ops, op)
	if m.asks(op, now) {
		return
	}
	if op.runAt.After(now) {
		op.status = "SCHEDULED"
		return
	}
	m.run(op, now)
}

// asks has an operation wait for others, if the rule says so.
func (m *timed) asks(op *timedOp, now time.Time) bool {
	deletes := op.verb == lifecycle.Suspend && op.then == "DELETE" // in time
	if m.rule == nil || op.agreed || m.rule.verb != op.verb && (m.rule.verb != lifecycle.Delete || !deletes) {
		return false
	}
	changes := 0
	for n := range op.picks {
		if m.judge(op, n, now) == "CHANGED" {
			changes++
		}
	}
	if changes <= m.rule.over {
		return false
	}
	op.versions = nil
	for _, i := range op.picks {
		version := m.rows[i].version
		if m.rows[i].state == "" {
			version = -1
		}
		op.versions = append(op.versions, version)
	}
	op.status, op.votes, op.confirm, op.use, op.voters = "PENDING_APPROVAL", m.rule.votes, m.rule.confirm, m.rule.use, nil
	m.asked++
	op.asked, op.expires = m.asked, now.Add(m.rule.request)
	if op.runAt.After(now) && op.runAt.Before(op.expires) {
		op.expires = op.runAt
	}
	return true
}

// run carries an operation out.
func (m *timed) run(op *timedOp, now time.Time) {
	op.outcomes = map[int]string{}
	failed := 0
	for n, i := range op.picks {
		op.outcomes[i] = m.judge(op, n, now)
	}
	for i, outcome := range op.outcomes {
		switch {
		case outcome == "CHANGED":
			op.changed++
			m.change(i, op, slices.Index(m.ops, op), now)
		case outcome != "UNCHANGED":
			failed++
		}
	}
	switch {
	case failed > 0 && op.changed > 0:
		op.status = "PARTIAL"
	case failed > 0:
		op.status = "FAILED"
	default:
		op.status = "SUCCEEDED"
	}
}

// change moves one record.
func (m *timed) change(i int, op *timedOp, by int, now time.Time) {
	r := m.rows[i]
	r.version++
	to, _ := r.move(op.verb)
	switch {
	case to == "gone":
		r.state = ""
		return
	case to == "back":
		r.pop(now)
		return
	case op.verb == lifecycle.Suspend:
		r.until, r.then = op.until, op.then
		if r.state == "SUSPENDED" {
			return
		}
	}
	r.stack = append(r.stack, frame{r.state, r.purge, r.changed, by})
	r.state, r.purge, r.changed = to, time.Time{}, now
	if to == "DELETED" {
		r.purge = now.Add(binFor)
	}
}

// pop takes a record back to where the last operation found it. A suspension that has run out meanwhile is over.
func (r *timedRow) pop(now time.Time) {
	top := r.stack[len(r.stack)-1]
	r.stack = r.stack[:len(r.stack)-1]
	r.state, r.purge, r.changed = top.state, top.purge, top.changed
	if r.state == "ACTIVE" {
		r.changed = now
	}
	if r.state == "SUSPENDED" && !r.until.After(now) {
		r.pop(now)
	}
}

// undo takes back what is still where an operation put it.
func (m *timed) undo(of int, now time.Time) *timedOp {
	op := &timedOp{verb: lifecycle.Undo, outcomes: map[int]string{}}
	m.ops = append(m.ops, op)
	failed := 0
	for _, i := range m.ops[of].picks {
		r := m.rows[i]
		if m.ops[of].outcomes[i] != "CHANGED" {
			continue
		}
		switch {
		case r.state == "":
			op.outcomes[i] = "UNCHANGED GONE"
		case len(r.stack) == 0 || r.stack[len(r.stack)-1].op != of:
			op.outcomes[i] = "UNCHANGED"
		case m.stops(i, lifecycle.Restore, now) != "":
			op.outcomes[i] = "FAILED HOLD"
			failed++
		default:
			op.outcomes[i] = "CHANGED"
			op.changed++
			r.version++
			r.pop(now)
		}
	}
	switch {
	case failed > 0 && op.changed > 0:
		op.status = "PARTIAL"
	case failed > 0:
		op.status = "FAILED"
	default:
		op.status = "SUCCEEDED"
	}
	return op
}

// vote is one user's consent.
func (m *timed) vote(op *timedOp, who string, now time.Time) {
	if slices.Contains(op.voters, who) {
		return
	}
	if op.voters = append(op.voters, who); len(op.voters) < op.votes {
		return
	}
	from := now
	if op.runAt.After(now) {
		from = op.runAt
	}
	op.status, op.useUntil = "APPROVED", from.Add(op.use)
}

func (op *timedOp) waits() bool {
	return slices.Contains([]string{"SCHEDULED", "PENDING_APPROVAL", "APPROVED"}, op.status)
}

// end ends an operation that waits, without doing anything.
func (op *timedOp) end(status string) {
	op.status, op.outcomes = status, map[int]string{}
	for _, i := range op.picks {
		op.outcomes[i] = "NOT_PROCESSED"
	}
}

// late fails an operation that would suspend until a time that has passed.
func (op *timedOp) late(now time.Time) bool {
	if op.verb != lifecycle.Suspend || op.until.After(now) {
		return false
	}
	op.end("FAILED")
	for i := range op.outcomes {
		op.outcomes[i] = "FAILED BAD_USER_INPUT"
	}
	return true
}

// sweep does what is due: what is scheduled, what was agreed to, what nobody agreed to, suspensions, retention
// rules, the bin.
func (m *timed) sweep(now time.Time) {
	inOrder := slices.Clone(m.ops) // of their time
	slices.SortStableFunc(inOrder, func(a, b *timedOp) int { return a.runAt.Compare(b.runAt) })
	for _, op := range inOrder {
		if op.status == "SCHEDULED" && !op.runAt.After(now) && !op.late(now) && !m.asks(op, now) {
			m.run(op, now)
		}
	}
	slices.SortStableFunc(inOrder, func(a, b *timedOp) int { return a.asked - b.asked }) // of when others were asked
	for _, op := range inOrder {
		if op.status == "APPROVED" && !op.confirm && !op.runAt.After(now) && now.Before(op.useUntil) {
			if op.agreed = true; !op.late(now) {
				m.run(op, now)
			}
		}
	}
	for _, op := range m.ops {
		if op.status == "PENDING_APPROVAL" && !now.Before(op.expires) || op.status == "APPROVED" && !now.Before(op.useUntil) {
			op.end("EXPIRED")
		}
	}
	for i, r := range m.rows {
		if r.state != "SUSPENDED" || r.until.After(now) || m.stops(i, lifecycle.Restore, now) != "" {
			continue
		}
		timer := &timedOp{verb: lifecycle.Restore}
		if r.then == "DELETE" && m.stops(i, lifecycle.Delete, now) == "" {
			timer.verb = lifecycle.Delete
		}
		m.change(i, timer, -1, now)
	}
	m.applyRules(now)
	for i, r := range m.rows {
		if r.state != "DELETED" || r.purge.After(now) {
			continue
		}
		_, until := m.keeper(i)
		switch {
		case m.stops(i, lifecycle.Purge, now) == "":
			m.change(i, &timedOp{verb: lifecycle.Purge}, -1, now)
			m.met["swept"]++
		case now.Before(until):
			m.met["kept by a rule"]++
		default:
			m.met["kept by a hold"]++
		}
	}
}

func (r *timedRow) String() string {
	return fmt.Sprint(r.state, " v", r.version)
}

// timedIDs are the records, operations, holds and rules of the system, by their place in the model.
type timedIDs struct{ rows, ops, holds, rules []gid.ID }
