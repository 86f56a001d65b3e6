package record_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent/approval"
	"github.com/lethe-crm/lethe/ent/customer"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// peek is the time without moving it.
func (c *clock) peek() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// TestPropertyClocksHoldsAndApprovals drives records that have nothing to do with each other through every verb, at once,
// later, and after others agreed; with holds placed and released, retention rules made and changed, time passing and the clocks looked at; and compares
// states, versions, codes, statuses and purge times with a plain model.
func TestPropertyClocksHoldsAndApprovals(t *testing.T) {
	property(t, func(p *play) int {
		s := &timedPlay{play: p, m: &timed{met: p.met}}
		defer func() { p.exec(`DELETE FROM tenants WHERE id = ?`, p.tenant) }() // clocks of other cases need not look at it
		var rules []casbin.Rule
		for _, name := range []string{"admin2", "admin3"} {
			p.users[name] = p.insertUser(p.tenant, name, p.sales)
			rules = append(rules, casbin.Grant(casbin.UserSubject(p.users[name].String()), casbin.RoleSubject("admin"), p.tenant.String()))
		}
		p.users["counsel"] = p.insertUser(p.tenant, "counsel", p.sales) // who purges, and may know of holds
		for _, role := range []string{"purger", "compliance"} {
			rules = append(rules, casbin.Grant(casbin.UserSubject(p.users["counsel"].String()), casbin.RoleSubject(role), p.tenant.String()))
		}
		p.policy.mu.Lock()
		p.policy.rules[p.tenant.String()] = append(slices.Clone(p.policy.rules[p.tenant.String()]), rules...)
		p.policy.mu.Unlock()
		p.svc.ActingAs(p.actAs())
		for range rapid.IntRange(1, 5).Draw(p.T, "records") {
			now := p.clock.peek()
			r := &timedRow{state: "ACTIVE", version: 1, created: now, changed: now, name: "n", status: oneOf(p, "status", "LEAD", "CUSTOMER")}
			s.ids.rows = append(s.ids.rows, p.world.create("admin", "Customer", record.Values{"name": r.name, "status": customer.Status(r.status)}).RecordID())
			s.m.rows = append(s.m.rows, r)
		}
		if !p.chance(4, "no rule") {
			s.setRule()
		}
		if s.retains = !p.chance(4, "no retention rules"); s.retains {
			if s.m.shortening = p.chance(3, "others agree to shortening"); s.m.shortening {
				s.setShortening()
			}
			for range rapid.IntRange(0, 3).Draw(p.T, "retention rules") {
				s.addRule()
			}
		}
		least := 1
		if s.retains {
			least = 6 // rules take time
		}
		steps := rapid.IntRange(least, 20).Draw(p.T, "steps")
		for range steps {
			s.step()
			s.compare()
		}
		p.eventsMatchChanges()
		return steps
	})
}

type timedPlay struct {
	*play

	m       *timed
	ids     timedIDs
	retains bool // there are retention rules
	looks   int
}

func (s *timedPlay) setRule() {
	r := &timedRule{
		verb: oneOf(s.play, "verb", lifecycle.Delete, lifecycle.Void, lifecycle.Purge, lifecycle.Archive, lifecycle.Suspend), over: oneOf(s.play, "over", 0, 0, 0, 1),
		votes: oneOf(s.play, "votes", 1, 1, 2), confirm: s.chance(3, "confirm"), request: 72 * time.Hour, use: 24 * time.Hour,
	}
	s.m.rule = r
	rule := record.Rule{Name: "asks", Subject: approval.Subject(r.verb), Over: r.over, Approvals: r.votes, Role: "admin", RequestHours: 72, UseHours: 24, Execution: approval.ExecutionAUTOMATIC, Enabled: true}
	if r.confirm {
		rule.Execution = approval.ExecutionCONFIRM
	}
	require.NoError(s.T, s.svc.SetRule(s.as("admin"), rule))
	s.Logf("rule %+v", *r)
}

func (s *timedPlay) setShortening() {
	require.NoError(s.T, s.svc.SetRule(s.as("admin"), record.Rule{
		Name: "shortening", Subject: approval.SubjectSHORTEN_RETENTION, Approvals: 1, Role: "admin", RequestHours: 72, UseHours: 24, Execution: approval.ExecutionAUTOMATIC, Enabled: true,
	}))
}

// step does one thing, in the system and in the model.
func (s *timedPlay) step() {
	steps := []string{"verb", "verb", "verb", "verb", "later", "undo", "hold", "release", "pass", "pass", "pass", "vote", "vote", "reject", "cancel", "confirm", "edit"}
	if s.retains {
		steps = append([]string{"pass", "pass", "pass", "pass", "pass", "rule", "change rule", "change rule", "by hand", "apply", "talk", "edit", "remove rule", "purge kept"}, steps...)
	}
	switch oneOf(s.play, "step", steps...) {
	case "verb":
		s.ask(false)
	case "later":
		s.ask(true)
	case "undo":
		s.undo()
	case "hold":
		s.hold()
	case "release":
		s.release()
	case "pass":
		s.pass()
	case "vote", "reject", "cancel", "confirm":
		s.steer()
	case "edit":
		s.edit()
	case "rule":
		if len(s.m.kept) < 6 {
			s.addRule()
		}
	case "change rule":
		s.changeRule()
	case "remove rule":
		s.removeRule()
	case "by hand":
		s.byHand()
	case "apply":
		s.apply()
	case "talk":
		s.talk()
	case "purge kept":
		s.purgeKept()
	}
}

// who does a verb: purges are often somebody's who may not know of holds.
func (s *timedPlay) who(verb lifecycle.Verb) string {
	if verb != lifecycle.Purge {
		return "admin"
	}
	return oneOf(s.play, "purges", "purger", "purger", "counsel")
}

func (s *timedPlay) ask(later bool) {
	verb := oneOf(s.play, "verb", lifecycle.Delete, lifecycle.Delete, lifecycle.Void, lifecycle.Archive, lifecycle.Suspend, lifecycle.Suspend, lifecycle.Restore, lifecycle.Purge)
	op := &timedOp{verb: verb, by: s.who(verb), picks: rapid.SliceOfNDistinct(rapid.IntRange(0, len(s.m.rows)-1), 1, len(s.m.rows), func(i int) int { return i }).Draw(s.T, "picks")}
	req := record.Request{Verb: verb, Mode: record.BestEffort, Reason: "because"}
	for _, i := range op.picks {
		req.Select.IDs = append(req.Select.IDs, s.ids.rows[i])
	}
	now := s.clock.peek()
	if later {
		op.runAt = now.Add(time.Duration(rapid.IntRange(1, 100).Draw(s.T, "hours")) * time.Hour)
		req.RunAt = &op.runAt
	}
	if verb == lifecycle.Suspend {
		op.until = now.Add(101 * time.Hour).Add(time.Duration(rapid.IntRange(0, 500).Draw(s.T, "until")) * time.Hour)
		op.then = oneOf(s.play, "then", "RESTORE", "DELETE")
		req.Until, req.Then = &op.until, op.then
	}
	s.request(op, req, now)
}

// purgeKept asks for a purge of what rules keep in the bin, or of all that is there.
func (s *timedPlay) purgeKept() {
	now := s.clock.peek()
	op := &timedOp{verb: lifecycle.Purge, by: s.who(lifecycle.Purge)}
	for _, keptOnly := range []bool{true, false} {
		for i, r := range s.m.rows {
			if _, until := s.m.keeper(i); (r.state == "VOIDED" || r.state == "DELETED") && (now.Before(until) || !keptOnly) && len(op.picks) < 2 {
				op.picks = append(op.picks, i)
			}
		}
		if len(op.picks) > 0 {
			break
		}
	}
	if len(op.picks) == 0 {
		return
	}
	req := record.Request{Verb: op.verb, Mode: record.BestEffort, Reason: "because"}
	for _, i := range op.picks {
		req.Select.IDs = append(req.Select.IDs, s.ids.rows[i])
	}
	s.request(op, req, now)
}

func (s *timedPlay) request(op *timedOp, req record.Request, now time.Time) {
	s.Logf("%s of %v at %v", op.verb, op.picks, op.runAt)
	got, err := s.svc.Run(s.as(op.by), req)
	require.NoError(s.T, err)
	s.ids.ops = append(s.ids.ops, got.ID)
	s.m.request(op, now)
	s.met[string(op.verb)+" "+op.status]++
}

func (s *timedPlay) undo() {
	var of []int
	for i, op := range s.m.ops {
		if !op.waits() && op.changed > 0 && slices.Contains([]lifecycle.Verb{lifecycle.Delete, lifecycle.Void, lifecycle.Archive, lifecycle.Suspend}, op.verb) {
			of = append(of, i)
		}
	}
	if len(of) == 0 {
		return
	}
	n := rapid.SampledFrom(of).Draw(s.T, "operation")
	now := s.clock.peek()
	s.Logf("undo of %d", n)
	got, err := s.svc.Undo(s.as("admin"), s.ids.ops[n], record.Request{Mode: record.BestEffort})
	require.NoError(s.T, err)
	s.ids.ops = append(s.ids.ops, got.ID)
	op := s.m.undo(n, now)
	s.met["UNDO "+op.status]++
}

func (s *timedPlay) hold() {
	h := &timedHold{blockDelete: s.chance(2, "blockDelete"), freeze: s.chance(4, "freeze")}
	var ids []gid.ID
	for i, r := range s.m.rows {
		if r.state != "" && s.chance(2, "held") {
			h.rows, ids = append(h.rows, i), append(ids, s.ids.rows[i])
		}
	}
	if len(ids) == 0 {
		return
	}
	s.Logf("hold %+v", *h)
	id, err := s.svc.PlaceHold(s.as("compliance"), record.Hold{Name: "m", Reason: "r", Records: ids, BlockDelete: h.blockDelete, Freeze: h.freeze})
	require.NoError(s.T, err)
	s.ids.holds = append(s.ids.holds, id)
	s.m.holds = append(s.m.holds, h)
}

func (s *timedPlay) release() {
	for i, h := range s.m.holds {
		if h.released.IsZero() && s.chance(2, "release") {
			h.released = s.clock.peek()
			s.Logf("release of %d", i)
			require.NoError(s.T, s.tryRelease(s.as("compliance"), s.ids.holds[i], "over"))
			return
		}
	}
}

// pass lets time go by, and has the clocks looked at.
func (s *timedPlay) pass() {
	list := []int{1, 1, 10, 30, 80, 24 * 8, 24 * 20, 24 * 31}
	if s.retains {
		list = append([]int{24 * 31, 24 * 8, 24 * 20, 30, 24 * 2}, list...)
	}
	hours := oneOf(s.play, "hours", list...)
	s.clock.add(time.Duration(hours) * time.Hour)
	now := s.clock.peek()
	s.Logf("%d hours pass", hours)
	ctx := s.t.Context()
	for _, look := range []func() (int, error){
		func() (int, error) { return s.svc.RunScheduled(ctx, s.actAs()) },
		func() (int, error) { return s.svc.RunApproved(ctx, s.actAs()) },
		func() (int, error) { return s.svc.ExpireApprovals(ctx) },
		func() (int, error) { return s.svc.Wake(ctx) },
		func() (int, error) { return s.svc.ApplyRules(ctx) },
		func() (int, error) { return s.svc.Sweep(ctx) },
	} {
		_, err := look()
		require.NoError(s.T, err)
	}
	s.m.sweep(now)
	s.newOperations()
}

// steer decides on, confirms or cancels something that waits.
func (s *timedPlay) steer() {
	var list, asking []int
	for i, op := range s.m.ops {
		if op.waits() {
			list = append(list, i)
		}
		if op.waits() && op.status != "SCHEDULED" {
			asking = append(asking, i)
		}
	}
	if len(list) == 0 {
		return
	}
	if len(asking) > 0 && !s.chance(4, "any") {
		list = asking
	}
	n := rapid.SampledFrom(list).Draw(s.T, "operation")
	op, id, now := s.m.ops[n], s.ids.ops[n], s.clock.peek()
	voter := oneOf(s.play, "voter", "admin2", "admin3", "admin2", "admin3", "admin2", "admin3", "admin", "agent", "purger")
	what := oneOf(s.play, "what", "approve", "approve", "approve", "reject", "confirm", "cancel")
	s.Logf("%s %s of %d", voter, what, n)
	want := lifecycle.Code("")
	var err error
	switch what {
	case "approve", "reject":
		_, err = s.svc.DecideOperation(s.as(voter), id, what == "approve", "")
		switch {
		case voter == "agent":
			want = lifecycle.NotFound // other people's operations
		case op.status == "SCHEDULED":
			want = lifecycle.IllegalTransition
		case voter == op.by:
			want = lifecycle.SelfApproval
		case voter == "purger":
			want = lifecycle.Forbidden // who sees all operations, and decides on none
		case what == "approve" && op.status == "APPROVED" && slices.Contains(op.voters, voter): // said already
		case op.status == "APPROVED", !now.Before(op.expires):
			want = lifecycle.IllegalTransition
		case what == "approve":
			s.m.vote(op, voter, now)
		default:
			op.end("REJECTED")
		}
	case "confirm":
		_, err = s.svc.Confirm(s.as(op.by), id)
		if op.status != "APPROVED" || !s.m.rule.confirm || !now.Before(op.useUntil) {
			want = lifecycle.IllegalTransition
		} else {
			op.confirm = false
		}
	case "cancel":
		_, err = s.svc.Cancel(s.as(op.by), id)
		op.end("CANCELLED")
	}
	require.Equal(s.T, want, code(err), "%v", err)
	s.met[what+" "+string(want)]++
}

// edit changes a record: what others agreed to is not that any more.
func (s *timedPlay) edit() {
	i := rapid.IntRange(0, len(s.m.rows)-1).Draw(s.T, "edit")
	r := s.m.rows[i]
	if r.state != "ACTIVE" && r.state != "SUSPENDED" {
		return
	}
	name, status := oneOf(s.play, "name", "again", "again", "n"), oneOf(s.play, "status", "LEAD", "CUSTOMER")
	s.Logf("edit of %d: %s, %s", i, name, status)
	_, err := s.svc.Update(s.as("admin"), s.ids.rows[i], r.version, record.Values{"name": name, "status": customer.Status(status)})
	if s.m.stops(i, lifecycle.Suspend, s.clock.peek()) != "" {
		require.Equal(s.T, lifecycle.Hold, code(err))
		return
	}
	require.NoError(s.T, err)
	r.version++
	r.name, r.status = name, status
}

// compare compares everything.
func (s *timedPlay) compare() {
	for i, want := range s.m.rows {
		got := s.get(s.ids.rows[i])
		if want.state == "" {
			require.Nil(s.T, got, "record %d", i)
			continue
		}
		require.NotNil(s.T, got, "record %d", i)
		require.Equal(s.T, want.String(), (&timedRow{state: got.RecordState(), version: got.RecordVersion()}).String(), "record %d", i)
		purge, _ := got.Column("purge_after").(time.Time)
		require.Equal(s.T, want.purge.IsZero(), purge.IsZero(), "record %d: %v, %v", i, want.purge, purge)
		require.WithinDuration(s.T, want.purge, purge, 5*time.Second, "record %d", i)
		if want.state == "SUSPENDED" {
			until, _ := got.Column("suspended_until").(time.Time)
			require.WithinDuration(s.T, want.until, until, time.Millisecond, "record %d", i)
		}
	}
	s.compareRules()
	for n, want := range s.m.ops {
		got := s.operation(s.ids.ops[n])
		require.Equal(s.T, want.status, string(got.Status), "operation %d", n)
		require.Equal(s.T, want.changed, got.Changed, "operation %d", n)
		if want.outcomes != nil {
			outcomes := map[int]string{}
			for id, o := range s.outcomes(got) {
				outcomes[slices.Index(s.ids.rows, id)] = o
			}
			require.Equal(s.T, want.outcomes, outcomes, "operation %d", n)
		}
	}
}
