package record_test

import (
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/approval"
	"github.com/lethe-crm/lethe/ent/customer"
	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// says is a rule as the system is told of it.
func (s *timedPlay) says(t *timedRetention) record.RetentionRule {
	r := record.RetentionRule{
		Name: "r", Reason: t.reason, Type: "Customer", All: t.comparisons() == 0, Basis: lifecycle.Basis(t.basis), Term: lifecycle.Term{Length: t.length, Unit: lifecycle.Days},
		Action: lifecycle.RetentionAction(t.action), EveryHours: t.every, Approval: t.approval, Enabled: t.enabled,
	}
	if t.deals {
		r.Type = "Deal"
	}
	if t.months {
		r.Term.Unit = lifecycle.Months
	}
	if !t.locked.IsZero() {
		r.LockedUntil = &t.locked
	}
	if !r.All {
		where := &ent.CustomerWhereInput{}
		if t.status != "" {
			where.Status = new(customer.Status)
			*where.Status = customer.Status(t.status)
		}
		if t.name != "" {
			where.Name = &t.name
		}
		f, err := record.KeptFilter(where)
		require.NoError(s.T, err)
		r.Filter, r.Comparisons = string(f.Text), f.Comparisons
	}
	return r
}

func (s *timedPlay) drawAction(t *timedRetention) {
	t.action = oneOf(s.play, "action", "DELETE", "KEEP", "PURGE", "KEEP", "DELETE", "VOID", "ARCHIVE", "PURGE")
	t.approval = t.action == "VOID" && s.chance(4, "approval")
}

func (s *timedPlay) drawFilter(t *timedRetention) {
	t.status = oneOf(s.play, "of status", "", "LEAD", "CUSTOMER")
	t.name = oneOf(s.play, "of name", "", "", "n", "again")
}

func (s *timedPlay) drawTerm(t *timedRetention) {
	if t.months = s.chance(3, "months"); t.months {
		t.length = oneOf(s.play, "months", 1, 2)
	} else {
		t.length = oneOf(s.play, "days", 10, 40, 3, 1, 30)
	}
}

func (s *timedPlay) drawBasis(t *timedRetention) {
	t.basis = oneOf(s.play, "basis", "CREATED_AT", "STATE_CHANGED_AT", "LAST_ACTIVITY")
}

func (s *timedPlay) drawEvery(t *timedRetention) { t.every = oneOf(s.play, "every", 1, 1, 24, 240) }

// lock locks it for longer than now.
func (s *timedPlay) lock(t *timedRetention) {
	at := s.clock.peek()
	if t.locked.After(at) {
		at = t.locked
	}
	t.locked = at.Add(time.Duration(oneOf(s.play, "locked for", 30, 24*10, 24*40)) * time.Hour)
}

func (s *timedPlay) addRule() {
	t := &timedRetention{reason: "because", enabled: !s.chance(6, "not in force"), version: 1}
	if t.deals = s.chance(12, "of deals"); !t.deals {
		s.drawFilter(t)
	}
	for _, draw := range []func(*timedRetention){s.drawAction, s.drawTerm, s.drawBasis, s.drawEvery} {
		draw(t)
	}
	if t.enabled && s.chance(8, "locked") {
		s.lock(t)
	}
	s.Logf("rule %d: %+v", len(s.m.kept), *t)
	now := s.clock.peek()
	id, request, err := s.svc.CreateRetentionRule(s.as("admin"), s.says(t))
	require.NoError(s.T, err)
	t.key = id.String()
	s.m.kept, s.ids.rules = append(s.m.kept, t), append(s.ids.rules, id)
	if !s.m.needsConsent(nil, t) {
		require.True(s.T, request.IsZero())
		t.start(now)
		return
	}
	asked := *t
	t.enabled, t.locked = false, time.Time{} // till others agree
	if s.consent(request) {
		t.put(asked, now)
	}
}

// consent has another admin decide on a request.
func (s *timedPlay) consent(request gid.ID) bool {
	require.False(s.T, request.IsZero(), "others must agree")
	yes := !s.chance(4, "others refuse")
	s.Logf("others agree: %v", yes)
	ap, err := s.svc.DecideRequest(s.as("admin2"), request, yes, "")
	require.NoError(s.T, err)
	want := map[bool]approval.Status{true: approval.StatusDONE, false: approval.StatusREJECTED}[yes]
	require.Equal(s.T, want, ap.Status)
	s.met["shorten "+string(want)]++
	return yes
}

// someRule draws a rule that is not removed, mostly one of those wanted; -1 if there is none.
func (s *timedPlay) someRule(wanted func(*timedRetention) bool) int {
	var list, best []int
	for i, t := range s.m.kept {
		if !t.removed {
			list = append(list, i)
			if wanted(t) {
				best = append(best, i)
			}
		}
	}
	if len(list) == 0 {
		return -1
	}
	if len(best) > 0 && !s.chance(5, "any rule") {
		list = best
	}
	return rapid.SampledFrom(list).Draw(s.T, "rule")
}

func anyRule(*timedRetention) bool { return true }

func (s *timedPlay) changeRule() {
	n := s.someRule(anyRule)
	if n < 0 {
		return
	}
	t, now := s.m.kept[n], s.clock.peek()
	to := *t
	what := oneOf(s.play, "changes", "reason", "every", "term", "term", "enabled", "enabled", "filter", "basis", "action", "lock", "nothing")
	switch what {
	case "reason":
		to.reason += "!"
	case "every":
		s.drawEvery(&to)
	case "term":
		s.drawTerm(&to)
	case "enabled":
		to.enabled = !to.enabled
	case "filter":
		if !to.deals {
			s.drawFilter(&to)
		}
	case "basis":
		s.drawBasis(&to)
	case "action":
		s.drawAction(&to)
	case "lock":
		if !to.enabled {
			return
		}
		s.lock(&to)
	}
	s.Logf("rule %d, %s: %+v", n, what, to)
	request, err := s.svc.UpdateRetentionRule(s.as("admin"), s.ids.rules[n], t.version, func(r *record.RetentionRule) error {
		*r = s.says(&to)
		return nil
	})
	s.met["change "+what+" "+string(code(err))]++
	if now.Before(t.locked) && t.weaker(&to) {
		require.Equal(s.T, lifecycle.Retained, code(err), "%v", err)
		return
	}
	require.NoError(s.T, err)
	switch {
	case to == *t:
		require.True(s.T, request.IsZero())
	case !s.m.needsConsent(t, &to):
		require.True(s.T, request.IsZero())
		t.put(to, now)
	case s.consent(request):
		t.put(to, now)
	}
}

func (s *timedPlay) removeRule() {
	n := s.someRule(anyRule)
	if n < 0 {
		return
	}
	t, now := s.m.kept[n], s.clock.peek()
	s.Logf("end of rule %d", n)
	request, err := s.svc.RemoveRetentionRule(s.as("admin"), s.ids.rules[n], t.version)
	s.met["remove "+string(code(err))]++
	if now.Before(t.locked) {
		require.Equal(s.T, lifecycle.Retained, code(err), "%v", err)
		return
	}
	require.NoError(s.T, err)
	if s.m.needsConsent(t, nil) {
		t.removed = s.consent(request)
	} else {
		require.True(s.T, request.IsZero())
		t.removed = true
	}
	if t.removed {
		t.version++
		t.next = time.Time{}
	}
}

// byHand has somebody let a rule act, or find out what it would do.
func (s *timedPlay) byHand() {
	n := s.someRule(func(t *timedRetention) bool { return t.enabled && t.action != "KEEP" && !t.approval })
	if n < 0 {
		return
	}
	t, now := s.m.kept[n], s.clock.peek()
	if s.chance(2, "dry") {
		s.Logf("dry run of rule %d", n)
		require.NoError(s.T, s.svc.DryRunRule(s.as("admin"), s.ids.rules[n]))
		next := t.next
		if !t.tried || next.IsZero() {
			next = now.Add(time.Duration(t.every) * time.Hour)
		}
		s.m.dryRun(t, now)
		if t.next = next; !t.enabled || t.action == "KEEP" {
			t.next = time.Time{}
		}
		return
	}
	s.Logf("run of rule %d", n)
	ops, err := s.svc.RunRule(s.as("admin"), s.ids.rules[n])
	s.met["run "+string(code(err))]++
	if t.action == "KEEP" || !t.enabled || t.approval || !t.tried {
		require.Equal(s.T, lifecycle.BadUserInput, code(err), "%v", err)
		return
	}
	require.NoError(s.T, err)
	for _, op := range ops {
		s.ids.ops = append(s.ids.ops, op.ID)
	}
	s.m.act(t, now)
	require.Len(s.T, s.ids.ops, len(s.m.ops), "operations")
}

// newOperations are those that rules asked for since: they alone are nobody's and have a reason.
func (s *timedPlay) newOperations() {
	ops, err := s.svc.Client(s.ctx).Operation.Query().Where(operation.ActorIDIsNil(), operation.ReasonNotNil()).Order(operation.ByID()).All(s.ctx)
	require.NoError(s.T, err)
	for _, op := range ops {
		if !slices.Contains(s.ids.ops, op.ID) {
			s.ids.ops = append(s.ids.ops, op.ID)
		}
	}
	require.Len(s.T, s.ids.ops, len(s.m.ops), "operations")
}

// apply has somebody void what a rule would void.
func (s *timedPlay) apply() {
	n := s.someRule(func(t *timedRetention) bool { return t.enabled && t.action == "VOID" })
	if n < 0 {
		return
	}
	t, id, now := s.m.kept[n], s.ids.rules[n], s.clock.peek()
	s.Logf("candidates of rule %d", n)
	found, err := s.svc.VoidCandidates(s.as("admin"), id)
	s.met["candidates "+string(code(err))]++
	switch {
	case !t.enabled:
		require.Equal(s.T, lifecycle.NotFound, code(err), "%v", err)
		return
	case t.action != "VOID":
		require.Equal(s.T, lifecycle.BadUserInput, code(err), "%v", err)
		return
	}
	require.NoError(s.T, err)
	op := &timedOp{verb: lifecycle.Void, by: "admin"}
	for _, c := range found {
		op.picks = append(op.picks, slices.Index(s.ids.rows, c.Record))
	}
	require.ElementsMatch(s.T, s.m.candidates(t, now), op.picks)
	if len(found) == 0 {
		return
	}
	expected := len(found)
	ops, err := s.svc.ApplyRule(s.as("admin"), record.Apply{RetentionRule: id, Expected: &expected})
	require.NoError(s.T, err)
	require.Len(s.T, ops, 1)
	s.ids.ops = append(s.ids.ops, ops[0].ID)
	s.m.request(op, now)
	s.met["apply "+op.status]++
}

// talk has a communication with a customer take place.
func (s *timedPlay) talk() {
	i := rapid.IntRange(0, len(s.m.rows)-1).Draw(s.T, "talk")
	now := s.clock.peek()
	s.Logf("activity of %d", i)
	s.exec(`UPDATE customers SET last_activity_at = ? WHERE id = ?`, now, s.ids.rows[i])
	s.m.rows[i].active = now
}

// compareRules compares the rules, and what they say becomes of each record.
func (s *timedPlay) compareRules() {
	for n, want := range s.m.kept {
		got, err := s.svc.Client(s.everything()).RetentionRule.Get(s.everything(), s.ids.rules[n])
		require.NoError(s.T, err)
		require.Equal(s.T, want.version, got.Version, "rule %d", n)
		require.Equal(s.T, want.enabled, got.Enabled, "rule %d", n)
		require.Equal(s.T, want.removed, got.RemovedAt != nil, "rule %d", n)
		s.sameTime(want.next, got.NextRunAt, "rule %d has its turn", n)
		dry, err := record.DryRunOf(got)
		require.NoError(s.T, err)
		require.Equal(s.T, want.tried, dry != nil, "rule %d", n)
		if dry != nil {
			require.Equal(s.T, want.matching, dry.Matching, "rule %d", n)
			require.Equal(s.T, want.deciding, dry.Deciding, "rule %d", n)
		}
	}
	s.looks++
	for i := range s.m.rows {
		s.explain([]string{"admin", "compliance"}[s.looks%2], i)
		s.explain("purger", i)
	}
}

// explain compares what somebody is told of what becomes of a record.
func (s *timedPlay) explain(who string, i int) {
	r := s.m.rows[i]
	got, err := s.svc.Explain(s.as(who), s.ids.rows[i])
	if r.state == "" {
		require.Equal(s.T, lifecycle.Gone, code(err), "%v", err)
		return
	}
	require.NoError(s.T, err)
	want := s.m.fate(i, s.clock.peek())
	s.sameTime(r.purge, got.PurgeAfter, "record %d: clock", i)
	require.Equal(s.T, want.action, string(got.Action), "record %d: action", i)
	if who == "purger" { // who may know neither of holds nor of rules
		if want.stays != "" {
			want = fate{stays: lifecycle.Retained}
		}
		want.by = nil
	}
	require.Equal(s.T, want.stays, got.Stays, "record %d: stays", i)
	s.sameTime(want.until, got.Until, "record %d: stays until", i)
	s.sameTime(want.at, got.At, "record %d: %s at", i, want.action)
	by, told := "", ""
	if want.by != nil {
		by = want.by.key
	}
	if got.By != nil {
		told = got.By.ID.String()
	}
	require.Equal(s.T, by, told, "record %d: decides", i)
	var about, all []string
	for _, t := range s.m.kept {
		if who != "purger" && t.inForce() && t.isAbout(r) {
			about = append(about, t.key)
		}
	}
	for _, t := range got.Rules {
		all = append(all, t.RetentionRule.ID.String())
		require.Equal(s.T, t.RetentionRule.ID.String() == by, t.Decides)
	}
	require.ElementsMatch(s.T, about, all, "record %d: rules", i)
	if who != "purger" {
		s.met[strings.TrimSpace("fate "+want.action+" "+string(want.stays))]++
	}
}

// sameTime compares times up to what the clock goes on by itself.
func (s *timedPlay) sameTime(want time.Time, got *time.Time, message string, args ...any) {
	s.T.Helper()
	args = append([]any{message + ": %v, %v"}, append(args, want, got)...)
	require.Equal(s.T, want.IsZero(), got == nil, args...)
	if got != nil {
		require.WithinDuration(s.T, want, *got, 5*time.Second, args...)
	}
}
