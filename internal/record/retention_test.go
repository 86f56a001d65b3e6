package record_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/customer"
	"github.com/lethe-crm/lethe/ent/message"
	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

const day = 24 * time.Hour

// ruling is a rule with what every rule says filled in.
func (w *world) ruling(r record.RetentionRule, filter string) record.RetentionRule {
	w.t.Helper()
	r.Name, r.Reason, r.Enabled = "a rule", "our retention schedule", true
	if r.EveryHours == 0 {
		r.EveryHours = 24
	}
	if r.Term.Unit == "" {
		r.Term.Unit = lifecycle.Days
	}
	if r.Basis == "" && r.Candidates == "" {
		r.Basis = lifecycle.CreatedAt
	}
	switch {
	case filter != "":
		f := w.filter(r.Type, filter)
		r.Filter, r.Comparisons = string(f.Text), f.Comparisons
	case r.Candidates == "":
		r.All = true
	}
	return r
}

// ruleBy adds a rule in somebody's name.
func (w *world) ruleBy(as string, r record.RetentionRule, filter string) gid.ID {
	w.t.Helper()
	id, request, err := w.svc.CreateRetentionRule(w.as(as), w.ruling(r, filter))
	require.NoError(w.t, err)
	require.Zero(w.t, request)
	return id
}

func (w *world) ruleOf(id gid.ID) *ent.RetentionRule {
	w.t.Helper()
	r, err := w.svc.Client(w.everything()).RetentionRule.Get(w.everything(), id)
	require.NoError(w.t, err)
	return r
}

func (w *world) dryRunOf(id gid.ID) *record.DryRun {
	w.t.Helper()
	d, err := record.DryRunOf(w.ruleOf(id))
	require.NoError(w.t, err)
	return d
}

// ruled lets the rules act whose time has come, and insists on how many records they change.
func (w *world) ruled(want int) {
	w.t.Helper()
	n, err := w.svc.ApplyRules(w.t.Context())
	require.NoError(w.t, err)
	require.Equal(w.t, want, n)
}

// changeRule changes a rule at the version it is at.
func (w *world) changeRule(as string, id gid.ID, change func(*record.RetentionRule)) (gid.ID, error) {
	w.t.Helper()
	return w.svc.UpdateRetentionRule(w.as(as), id, w.ruleOf(id).Version, func(r *record.RetentionRule) error { change(r); return nil })
}

func term(n int) lifecycle.Term { return lifecycle.Term{Length: n, Unit: lifecycle.Days} }

func (w *world) messageOf(category message.Category) gid.ID {
	w.t.Helper()
	return w.create("agent", "Message", record.Values{"subject": "s", "sentAt": w.db.Now(), "category": category}).RecordID()
}

func (w *world) call() gid.ID {
	w.t.Helper()
	return w.create("agent", "Call", record.Values{"startedAt": w.db.Now(), "fromNumber": "+74951234567"}).RecordID()
}

func TestMessagesGoByCategoryAndAgeAndCallsByAge(t *testing.T) {
	each(t, func(w *world) {
		spam, mail, call := w.messageOf(message.CategorySPAM), w.messageOf(message.CategoryNORMAL), w.call()
		w.clock.add(20 * day)
		young := []gid.ID{w.messageOf(message.CategorySPAM), w.call()}
		w.clock.add(15 * day)
		messages := w.ruleBy("compliance", record.RetentionRule{Type: "Message", Basis: lifecycle.OccurredAt, Term: term(30), Action: lifecycle.DeleteAction}, `{"category":"SPAM"}`)
		calls := w.ruleBy("compliance", record.RetentionRule{Type: "Call", Basis: lifecycle.OccurredAt, Term: term(30), Action: lifecycle.DeleteAction}, "")

		w.ruled(0) // which finds out
		d := w.dryRunOf(messages)
		require.Equal(w.t, []int{1, 1, 1, 1}, []int{d.Matching, d.Examined, d.Deciding, d.Planned})
		require.Equal(w.t, []record.DryCount{{Type: ent.RecordTypeNamed("Message").Kind(), Count: 1}}, d.ByType)
		require.Equal(w.t, []gid.ID{spam}, d.Samples)
		require.Equal(w.t, []gid.ID{call}, w.dryRunOf(calls).Samples)
		require.WithinDuration(w.t, w.db.Now().Add(day), *d.ActsAt, time.Minute)
		w.ruled(0)
		w.clock.add(day + time.Minute)
		w.ruled(2)
		require.Equal(w.t, []lifecycle.State{"DELETED", "ACTIVE", "DELETED", "ACTIVE", "ACTIVE"}, w.states(spam, mail, call, young[0], young[1]))
		require.NotNil(w.t, w.get(spam).Column("purge_after"), "it goes through the bin")
		require.Equal(w.t, []string{"DELETE", "DELETE"}, w.rows(`SELECT verb FROM operations WHERE actor_id IS NULL AND status = 'SUCCEEDED'`))
		var kept struct {
			RetentionRule string `json:"retentionRule"`
		}
		first, err := w.svc.Client(w.everything()).Operation.Query().Where(operation.ActorIDIsNil()).Order(operation.ByID()).First(w.everything())
		require.NoError(w.t, err)
		require.NoError(w.t, json.Unmarshal(first.Selection, &kept))
		require.Equal(w.t, messages.String(), kept.RetentionRule, "the operation says which rule asked")

		w.clock.add(15 * day)
		w.ruled(2)
		require.Equal(w.t, []lifecycle.State{"DELETED", "DELETED"}, w.states(young...))
		require.Equal(w.t, lifecycle.Active, w.state(mail))
		w.eventsMatchChanges()
	})
}

func TestAChangedRuleFindsOutFirst(t *testing.T) {
	each(t, func(w *world) {
		a := w.customer("agent", "a")
		w.clock.add(40 * day)
		b := w.customer("agent", "b")
		id := w.ruleBy("admin", record.RetentionRule{Type: "Customer", Term: term(300), Action: lifecycle.ArchiveAction}, "")
		w.ruled(0)
		w.clock.add(2 * day)
		w.ruled(0)
		require.NotNil(w.t, w.ruleOf(id).LastRunAt)
		_, err := w.changeRule("admin", id, func(r *record.RetentionRule) { r.Term = term(30) })
		require.NoError(w.t, err)
		require.Nil(w.t, w.dryRunOf(id), "what it found out was about another rule")
		_, err = w.svc.RunRule(w.as("admin"), id)
		require.Equal(w.t, lifecycle.BadUserInput, code(err), "it has to find out first, also by hand")
		w.ruled(0)
		require.Equal(w.t, []gid.ID{a}, w.dryRunOf(id).Samples)
		next := *w.ruleOf(id).NextRunAt
		_, err = w.changeRule("admin", id, func(r *record.RetentionRule) { r.Name, r.EveryHours = "renamed", 48 })
		require.NoError(w.t, err)
		require.NotNil(w.t, w.dryRunOf(id), "a name changes nothing")
		require.Equal(w.t, next, *w.ruleOf(id).NextRunAt)
		ops, err := w.svc.RunRule(w.as("admin"), id)
		require.NoError(w.t, err)
		require.Len(w.t, ops, 1)
		require.Equal(w.t, []lifecycle.State{"ARCHIVED", "ACTIVE"}, w.states(a, b))
		_, err = w.changeRule("admin", id, func(r *record.RetentionRule) { r.Enabled = false })
		require.NoError(w.t, err)
		w.clock.add(60 * day)
		w.ruled(0)
		require.Equal(w.t, lifecycle.Active, w.state(b), "a rule that is not in force does nothing")
		require.Equal(w.t, []string{"RULE_CREATE", "RULE_RUN", "RULE_UPDATE"}, w.rows(`SELECT DISTINCT action FROM audit_events WHERE action LIKE 'RULE%' AND code IS NULL ORDER BY action`))
		w.eventsMatchChanges()
	})
}

func TestWhatARuleKeepsIsNotPurgedByAnybody(t *testing.T) {
	each(t, func(w *world) {
		w.quota(nil)
		kept, free := w.create("agent", "Customer", record.Values{"name": "k", "status": customer.StatusFORMER}).RecordID(), w.customer("agent", "f")
		below := w.message("agent", free, "of what is free")
		w.ruleBy("compliance", record.RetentionRule{Type: "Customer", Term: term(365), Action: lifecycle.KeepAction}, `{"status":"FORMER"}`)
		w.ruleBy("compliance", record.RetentionRule{Type: "Message", Basis: lifecycle.OccurredAt, Term: term(90), Action: lifecycle.KeepAction}, "")
		until := w.get(kept).Column("created_at").(time.Time).UTC().Add(365 * day)
		w.delete("agent", kept, free)
		w.clock.add(31 * day)
		require.Zero(w.t, w.sweep(), "the one is kept itself, the other by what goes with it")

		purge := record.Request{Verb: lifecycle.Purge, Mode: record.BestEffort, Select: record.Selection{IDs: []gid.ID{kept}}}
		outcome, blockers := w.tried("purger", purge, kept)
		require.Equal(w.t, "FAILED RETAINED", outcome)
		require.Nil(w.t, blockers[0].Until, "who may not know of holds is not told until when: it would say that it is none")
		w.also(map[string]string{"compliance": "purger"})
		outcome, blockers = w.tried("compliance", purge, kept)
		require.Equal(w.t, "FAILED RETAINED", outcome)
		require.Equal(w.t, until, *blockers[0].Until)
		e, err := w.svc.Explain(w.as("admin"), kept)
		require.NoError(w.t, err)
		require.Equal(w.t, lifecycle.Retained, e.Stays)
		require.Equal(w.t, until, e.Until.UTC())

		w.clock.add(60 * day)
		require.Equal(w.t, 2, w.sweep(), "the message is no longer kept, so it goes with its customer")
		require.Equal(w.t, []gid.ID{kept}, w.living([]gid.ID{kept, free, below}))
		w.clock.add(365 * day)
		require.Equal(w.t, 1, w.sweep())
		w.eventsMatchChanges()
	})
}

func TestWhatHasNotEndedIsKeptByARuleThatCountsFromTheEnd(t *testing.T) {
	each(t, func(w *world) {
		w.quota(nil)
		going, ended := w.customer("agent", "going"), w.create("agent", "Customer", record.Values{"name": "ended", "endedAt": w.db.Now()}).RecordID()
		id := w.ruleBy("compliance", record.RetentionRule{Type: "Customer", Basis: lifecycle.EndedAt, Term: term(100), Action: lifecycle.KeepAction}, "")
		require.NoError(w.t, w.svc.DryRunRule(w.as("compliance"), id))
		require.Equal(w.t, 2, w.dryRunOf(id).Matching)
		w.delete("agent", going, ended)
		w.clock.add(50 * day)
		require.Zero(w.t, w.sweep())
		e, err := w.svc.Explain(w.as("compliance"), going)
		require.NoError(w.t, err)
		require.Equal(w.t, lifecycle.Ruling{By: id.String(), Action: lifecycle.PurgeAction, Stays: lifecycle.Retained}, e.Ruling)
		require.Nil(w.t, e.Rules[0].At)
		w.also(map[string]string{"admin": "purger"})
		outcome, blockers := w.tried("admin", record.Request{Verb: lifecycle.Purge, Mode: record.BestEffort, Select: record.Selection{IDs: []gid.ID{going}}}, going)
		require.Equal(w.t, "FAILED RETAINED", outcome)
		require.Nil(w.t, blockers[0].Until)
		w.clock.add(60 * day)
		require.Equal(w.t, 1, w.sweep())
		require.Equal(w.t, []gid.ID{going}, w.living([]gid.ID{going, ended}))
	})
}

func TestALockedRuleIsOnlyEverExtended(t *testing.T) {
	each(t, func(w *world) {
		until := w.db.Now().Add(100 * day)
		rule := w.ruling(record.RetentionRule{Type: "Deal", Term: term(30), Action: lifecycle.KeepAction}, `{"stage":"WON"}`)
		rule.LockedUntil = &until
		id, _, err := w.svc.CreateRetentionRule(w.as("admin"), rule)
		require.NoError(w.t, err)
		other := w.filter("Deal", `{"stage":"WON","currency":"EUR"}`)
		for name, change := range map[string]func(*record.RetentionRule){
			"shorter": func(r *record.RetentionRule) { r.Term = term(29) }, "a month may be shorter": func(r *record.RetentionRule) { r.Term = lifecycle.Term{Length: 1, Unit: lifecycle.Months} },
			"narrower": func(r *record.RetentionRule) { r.Filter, r.Comparisons = string(other.Text), other.Comparisons },
			"disabled": func(r *record.RetentionRule) { r.Enabled = false }, "unlocked": func(r *record.RetentionRule) { r.LockedUntil = nil },
			"locked shorter": func(r *record.RetentionRule) { at := until.Add(-time.Hour); r.LockedUntil = &at },
			"another action": func(r *record.RetentionRule) { r.Action = lifecycle.DeleteAction }, "another basis": func(r *record.RetentionRule) { r.Basis = lifecycle.StateChangedAt },
		} {
			_, err := w.changeRule("admin", id, change)
			require.Equal(w.t, lifecycle.Retained, code(err), name)
		}
		_, err = w.svc.RemoveRetentionRule(w.as("admin"), id, 1)
		require.Equal(w.t, lifecycle.Retained, code(err))
		require.Equal(w.t, 1, w.ruleOf(id).Version)
		longer := until.Add(day)
		for name, change := range map[string]func(*record.RetentionRule){
			"longer": func(r *record.RetentionRule) { r.Term = term(60) }, "about all": func(r *record.RetentionRule) { r.Filter, r.Comparisons, r.All = "", 0, true },
			"locked longer": func(r *record.RetentionRule) { r.LockedUntil = &longer },
		} {
			_, err := w.changeRule("compliance", id, change)
			require.NoError(w.t, err, name)
		}
		w.clock.add(102 * day)
		_, err = w.changeRule("admin", id, func(r *record.RetentionRule) { r.Term, r.LockedUntil = term(1), nil })
		require.NoError(w.t, err)
		_, err = w.svc.RemoveRetentionRule(w.as("admin"), id, 5)
		require.NoError(w.t, err)
		require.NotNil(w.t, w.ruleOf(id).RemovedAt, "it stays as the proof of what it said")
		_, err = w.svc.RemoveRetentionRule(w.as("admin"), id, 6)
		require.Equal(w.t, lifecycle.NotFound, code(err))
	})
}

func TestToKeepForLessTimeOthersHaveToAgree(t *testing.T) {
	each(t, func(w *world) {
		w.asks("admin2", "admin3")
		keep := w.ruleBy("compliance", record.RetentionRule{Type: "Note", Term: term(100), Action: lifecycle.KeepAction}, "")
		_, err := w.changeRule("compliance", keep, func(r *record.RetentionRule) { r.Term = term(200) })
		require.NoError(w.t, err)
		require.Equal(w.t, 200, w.ruleOf(keep).Length, "to keep longer nobody is asked")

		asked, err := w.changeRule("admin", keep, func(r *record.RetentionRule) { r.Term = term(50) })
		require.NoError(w.t, err)
		require.NotZero(w.t, asked)
		require.Equal(w.t, 200, w.ruleOf(keep).Length)
		again, err := w.changeRule("admin", keep, func(r *record.RetentionRule) { r.Term = term(50) })
		require.NoError(w.t, err)
		require.Equal(w.t, asked, again, "asked twice it is one request")
		another, err := w.changeRule("admin", keep, func(r *record.RetentionRule) { r.Term = term(60) })
		require.NoError(w.t, err)
		require.NotEqual(w.t, asked, another, "and another change another one")
		_, err = w.svc.DecideRequest(w.as("admin"), asked, true, "")
		require.Equal(w.t, lifecycle.SelfApproval, code(err))
		_, err = w.svc.DecideRequest(w.as("manager"), asked, true, "")
		require.Equal(w.t, lifecycle.NotFound, code(err))
		_, err = w.svc.DecideRequest(w.as("admin2"), asked, true, "")
		require.NoError(w.t, err)
		require.Equal(w.t, 50, w.ruleOf(keep).Length)
		ap, err := w.svc.DecideRequest(w.as("admin2"), another, true, "")
		require.NoError(w.t, err)
		require.Equal(w.t, []string{"FAILED", "STALE"}, []string{string(ap.Status), *ap.Code}, "the rule moved on since")

		remove, err := w.svc.RemoveRetentionRule(w.as("admin"), keep, w.ruleOf(keep).Version)
		require.NoError(w.t, err)
		require.NotZero(w.t, remove)
		_, err = w.svc.DecideRequest(w.as("admin3"), remove, false, "we need them")
		require.NoError(w.t, err)
		require.Nil(w.t, w.ruleOf(keep).RemovedAt)
		require.Equal(w.t, []string{"APPROVE", "APPROVE", "REJECT"}, w.rows(`SELECT action FROM audit_events WHERE action IN ('APPROVE', 'REJECT') AND code IS NULL ORDER BY id`))

		purge, request, err := w.svc.CreateRetentionRule(w.as("compliance"), w.ruling(record.RetentionRule{Type: "Note", Term: term(1), Basis: lifecycle.StateChangedAt, Action: lifecycle.PurgeAction}, ""))
		require.NoError(w.t, err)
		require.NotZero(w.t, request, "a rule that purges takes what the bin would have kept")
		require.False(w.t, w.ruleOf(purge).Enabled)
		_, err = w.svc.DecideRequest(w.as("admin"), request, true, "")
		require.NoError(w.t, err)
		require.True(w.t, w.ruleOf(purge).Enabled)
		gone := w.note("agent", w.customer("agent", "c"))
		w.delete("agent", gone)
		w.clock.add(3 * day)
		w.ruled(0)
		w.clock.add(2 * day)
		w.ruled(0) // it is kept for 50 days
		w.clock.add(50 * day)
		w.ruled(1)
		require.Empty(w.t, w.living([]gid.ID{gone}))

		_, request, err = w.svc.UpdateSettings(w.as("admin"), 1, map[string]*int{"binDays": new(7), "brakeHour": new(9)})
		require.NoError(w.t, err)
		require.NotZero(w.t, request)
		s, err := w.svc.Settings(w.as("admin"))
		require.NoError(w.t, err)
		require.Equal(w.t, 30, *s.Value("binDays"))
		_, err = w.svc.DecideRequest(w.as("admin2"), request, true, "")
		require.NoError(w.t, err)
		s, err = w.svc.Settings(w.as("admin"))
		require.NoError(w.t, err)
		require.Equal(w.t, []int{7, 9}, []int{*s.Value("binDays"), *s.Value("brakeHour")})
		w.eventsMatchChanges()
	})
}

func TestARuleIsForThoseWhoMayAndOfTheirTenant(t *testing.T) {
	each(t, func(w *world) {
		rule := record.RetentionRule{Type: "Customer", Term: term(1), Action: lifecycle.VoidAction}
		for _, as := range []string{"viewer", "agent", "manager", "purger"} {
			_, _, err := w.svc.CreateRetentionRule(w.as(as), w.ruling(rule, ""))
			require.Equal(w.t, lifecycle.Forbidden, code(err), as)
		}
		id := w.ruleBy("compliance", rule, "")
		c := w.customer("agent", "c")
		theirs := w.create("stranger", "Customer", record.Values{"name": "theirs"}).RecordID()
		w.clock.add(2 * day)
		for _, as := range []string{"agent", "stranger"} {
			want := map[string]lifecycle.Code{"agent": lifecycle.Forbidden, "stranger": lifecycle.NotFound}[as]
			_, err := w.svc.UpdateRetentionRule(w.as(as), id, 1, func(*record.RetentionRule) error { return nil })
			require.Equal(w.t, want, code(err), as)
			_, err = w.svc.RemoveRetentionRule(w.as(as), id, 1)
			require.Equal(w.t, want, code(err), as)
			require.Equal(w.t, want, code(w.svc.DryRunRule(w.as(as), id)), as)
			_, err = w.svc.RunRule(w.as(as), id)
			require.Equal(w.t, want, code(err), as)
		}
		for _, as := range []string{"viewer", "stranger"} {
			_, err := w.svc.VoidCandidates(w.as(as), id)
			require.Equal(w.t, lifecycle.NotFound, code(err), as)
			_, err = w.svc.ApplyRule(w.as(as), record.Apply{RetentionRule: id, Records: []gid.ID{c}})
			require.Equal(w.t, lifecycle.NotFound, code(err), as)
		}
		e, err := w.svc.Explain(w.as("agent"), c)
		require.NoError(w.t, err)
		require.Equal(w.t, lifecycle.VoidAction, e.Action)
		require.Nil(w.t, e.By, "rules are for who may change them")
		require.Empty(w.t, e.Rules)
		e, err = w.svc.Explain(w.as("compliance"), c)
		require.NoError(w.t, err)
		require.Equal(w.t, id, e.By.ID)
		_, err = w.svc.Explain(w.as("stranger"), c)
		require.Equal(w.t, lifecycle.NotFound, code(err))
		w.ruled(0)
		w.clock.add(2 * day)
		w.ruled(1)
		require.Equal(w.t, []lifecycle.State{"VOIDED", "ACTIVE"}, w.states(c, theirs))
	})
}

func TestARuleThatCannotBe(t *testing.T) {
	each(t, func(w *world) {
		good := record.RetentionRule{Type: "Customer", Term: term(1), Action: lifecycle.DeleteAction}
		for name, c := range map[string]struct {
			change func(*record.RetentionRule)
			code   lifecycle.Code
		}{
			"no name":              {func(r *record.RetentionRule) { r.Name = " " }, lifecycle.BadUserInput},
			"a long name":          {func(r *record.RetentionRule) { r.Name = strings.Repeat("x", 501) }, lifecycle.BadUserInput},
			"no reason":            {func(r *record.RetentionRule) { r.Reason = "" }, lifecycle.BadUserInput},
			"no type":              {func(r *record.RetentionRule) { r.Type = "Nothing" }, lifecycle.BadUserInput},
			"age of nothing":       {func(r *record.RetentionRule) { r.Term = term(0) }, lifecycle.BadUserInput},
			"age without end":      {func(r *record.RetentionRule) { r.Term = term(36_601) }, lifecycle.BadUserInput},
			"a time it has not":    {func(r *record.RetentionRule) { r.Basis = lifecycle.OccurredAt }, lifecycle.BadUserInput},
			"no basis":             {func(r *record.RetentionRule) { r.Basis = "" }, lifecycle.BadUserInput},
			"never":                {func(r *record.RetentionRule) { r.EveryHours = 0 }, lifecycle.BadUserInput},
			"approval of a delete": {func(r *record.RetentionRule) { r.Approval = true }, lifecycle.BadUserInput},
			"neither all nor some": {func(r *record.RetentionRule) { r.All = false }, lifecycle.InvalidFilter},
			"all duplicates":       {func(r *record.RetentionRule) { r.Candidates = lifecycle.Duplicates }, lifecycle.BadUserInput},
			"candidates to purge": {func(r *record.RetentionRule) {
				r.Candidates, r.All, r.Action = lifecycle.Inactive, false, lifecycle.PurgeAction
			}, lifecycle.BadUserInput},
			"locked in the past":   {func(r *record.RetentionRule) { at := w.db.Now(); r.LockedUntil = &at }, lifecycle.BadUserInput},
			"locked, not in force": {func(r *record.RetentionRule) { at := w.db.Now().Add(day); r.LockedUntil, r.Enabled = &at, false }, lifecycle.BadUserInput},
			"keeps by what it owns": {func(r *record.RetentionRule) {
				f := w.filter("Customer", `{"hasDeals":true}`)
				r.Action, r.All, r.Filter, r.Comparisons = lifecycle.KeepAction, false, string(f.Text), 1
			}, lifecycle.InvalidFilter},
		} {
			rule := w.ruling(good, "")
			c.change(&rule)
			_, _, err := w.svc.CreateRetentionRule(w.as("admin"), rule)
			require.Equal(w.t, c.code, code(err), name)
		}
		require.Empty(w.t, w.rows(`SELECT name FROM retention_rules`))
	})
}

func TestARulePurgesWithinTheQuotaAndGoesOnLater(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		ids := w.notes("agent", c, 7)
		w.run("agent", record.Request{Verb: lifecycle.Delete, Select: record.Selection{IDs: ids}})
		w.ruleBy("admin", record.RetentionRule{Type: "Note", Basis: lifecycle.StateChangedAt, Term: term(1), Action: lifecycle.PurgeAction}, "")
		w.quota(5)
		w.clock.add(2 * day)
		w.ruled(0)
		w.clock.add(2 * day)
		w.ruled(5)
		w.ruled(0)
		require.Empty(w.t, w.rows(`SELECT code FROM retention_waits`), "nothing is wrong with what is left")
		w.clock.add(25 * time.Hour)
		w.ruled(2)
		require.Empty(w.t, w.living(ids))
		w.eventsMatchChanges()
	})
}

func TestWhatARuleCannotChangeHoldsUpNothingAndIsLeftAloneForLonger(t *testing.T) {
	each(t, func(w *world) {
		busy, free := w.customer("agent", "busy"), w.customer("agent", "free")
		d := w.deal("agent", busy, "open")
		id := w.ruleBy("admin", record.RetentionRule{Type: "Customer", Term: term(1), Action: lifecycle.DeleteAction}, "")
		w.clock.add(2 * day)
		w.ruled(0)
		require.Equal(w.t, []record.DryRefuse{{Code: lifecycle.HasDependents, Count: 1}}, w.dryRunOf(id).Blocked)
		tries := func() []string { return w.rows(`SELECT tries || ' ' || code FROM retention_waits`) }
		w.clock.add(day)
		w.ruled(1)
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "DELETED"}, w.states(busy, free))
		require.Equal(w.t, []string{"1 HAS_DEPENDENTS"}, tries())
		w.clock.add(day)
		w.ruled(0)
		require.Equal(w.t, []string{"1 HAS_DEPENDENTS"}, tries())
		w.clock.add(day + time.Minute)
		w.ruled(0)
		require.Equal(w.t, []string{"2 HAS_DEPENDENTS"}, tries())
		w.delete("agent", d)
		w.clock.add(day + time.Minute)
		w.ruled(0)
		w.clock.add(3*day + time.Minute)
		w.ruled(1)
		require.Empty(w.t, tries())
		require.Equal(w.t, []string{"0"}, w.rows(`SELECT COUNT(*) FROM operations WHERE actor_id IS NULL AND changed = 0`), "and nothing is written of it")
	})
}

func TestARuleTakesATreeThatIsLargerThanOthersMay(t *testing.T) {
	each(t, func(w *world) {
		big, small := w.customer("agent", "big"), w.customer("agent", "small")
		w.notes("agent", big, 12)
		w.svc.Resize(5, 3, 50)
		w.ruleBy("admin", record.RetentionRule{Type: "Customer", Term: term(1), Action: lifecycle.DeleteAction}, "")
		w.clock.add(2 * day)
		w.ruled(0)
		w.clock.add(day)
		w.ruled(14)
		require.Equal(w.t, []lifecycle.State{"DELETED", "DELETED"}, w.states(big, small))
		w.eventsMatchChanges()
	})
}

func TestSeveralWhoLetRulesActDoEachThingOnce(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		ids := w.notes("agent", c, 40)
		id := w.ruleBy("admin", record.RetentionRule{Type: "Note", Term: term(1), Action: lifecycle.DeleteAction}, "")
		w.clock.add(2 * day)
		for _, want := range []int{0, len(ids)} {
			var all sync.WaitGroup
			counts, errs := make([]int, 4), make([]error, 4)
			for i := range counts {
				all.Go(func() { counts[i], errs[i] = w.svc.ApplyRules(w.t.Context()) })
			}
			all.Wait()
			done := 0
			for i := range counts {
				require.NoError(w.t, errs[i])
				done += counts[i]
			}
			require.Equal(w.t, want, done)
			w.clock.add(day)
		}
		require.Equal(w.t, len(ids), w.dryRunOf(id).Deciding)
		w.eventsMatchChanges()
	})
}

func TestARuleWhoseTurnWasCutShortTakesItAgain(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		n := w.note("agent", c)
		id := w.ruleBy("admin", record.RetentionRule{Type: "Note", Term: term(1), Action: lifecycle.DeleteAction, EveryHours: 24 * 30}, "")
		w.clock.add(2 * day)
		w.ruled(0)
		w.clock.add(31 * day)
		w.exec(`UPDATE tenants SET hold_release_days = NULL WHERE id = ?`, gid.Nil)                      // a statement that changes nothing, so that the next is seen to
		w.exec(`UPDATE retention_rules SET next_run_at = ? WHERE id = ?`, w.db.Now().Add(time.Hour), id) // as one leaves it who is killed
		w.ruled(0)
		w.clock.add(time.Hour + time.Minute)
		w.ruled(1)
		require.Equal(w.t, lifecycle.Deleted, w.state(n))
		require.WithinDuration(w.t, w.db.Now().Add(30*day), *w.ruleOf(id).NextRunAt, time.Minute)
	})
}

func TestInactiveEndedAndRepeatedCustomersAreCandidatesToVoid(t *testing.T) {
	each(t, func(w *world) {
		older := w.create("agent", "Customer", record.Values{"name": "Acme", "email": "Sales@acme.example", "phone": "+7 495 123-45-67"}).RecordID()
		w.clock.add(time.Minute)
		byPhone := w.create("agent", "Customer", record.Values{"name": "Acme Moscow", "phone": "007 (495) 1234567"}).RecordID()
		national := w.create("agent", "Customer", record.Values{"name": "Acme again", "phone": "495 1234567"}).RecordID()
		ended := w.create("agent", "Customer", record.Values{"name": "Gone", "status": customer.StatusFORMER, "endedAt": w.db.Now()}).RecordID()
		w.create("admin", "Customer", record.Values{"name": "Hidden", "ownerID": w.users["admin"], "teamID": w.support, "phone": "+49 30 1234"})
		twinOfHidden := w.create("agent", "Customer", record.Values{"name": "Hidden too", "phone": "+49301234"}).RecordID()
		rules := map[lifecycle.Candidates]gid.ID{}
		for kind, n := range map[lifecycle.Candidates]int{lifecycle.Duplicates: 0, lifecycle.Inactive: 180, lifecycle.Ended: 365} {
			rules[kind] = w.ruleBy("compliance", record.RetentionRule{Type: "Customer", Candidates: kind, Term: term(n), Action: lifecycle.VoidAction, Approval: true}, "")
		}
		candidates := func(as string, kind lifecycle.Candidates) map[gid.ID]record.Candidate {
			list, err := w.svc.VoidCandidates(w.as(as), rules[kind])
			require.NoError(w.t, err)
			out := map[gid.ID]record.Candidate{}
			for _, c := range list {
				require.Equal(w.t, kind, c.Kind)
				out[c.Record] = c
			}
			return out
		}
		found := candidates("manager", lifecycle.Duplicates)
		require.Len(w.t, found, 1)
		require.Equal(w.t, older, *found[byPhone].DuplicateOf)
		require.Equal(w.t, "phone", found[byPhone].Field)
		require.Len(w.t, candidates("admin", lifecycle.Duplicates), 2, "who reads the older record can compare them")
		require.Empty(w.t, candidates("manager", lifecycle.Inactive))
		w.clock.add(181 * day)
		w.message("agent", older, "a word")
		inactive := candidates("admin", lifecycle.Inactive)
		require.NotContains(w.t, inactive, older)
		require.Contains(w.t, inactive, national)
		require.Empty(w.t, candidates("manager", lifecycle.Ended))

		w.ruled(0)
		require.Equal(w.t, 2, w.dryRunOf(rules[lifecycle.Duplicates]).Matching)
		w.clock.add(2 * day)
		w.ruled(0)
		require.Equal(w.t, lifecycle.Active, w.state(byPhone), "somebody has to apply it")

		_, err := w.svc.ApplyRule(w.as("manager"), record.Apply{RetentionRule: rules[lifecycle.Duplicates]})
		require.Equal(w.t, lifecycle.BadUserInput, code(err))
		_, err = w.svc.ApplyRule(w.as("manager"), record.Apply{RetentionRule: rules[lifecycle.Duplicates], Expected: new(2)})
		require.Equal(w.t, lifecycle.Conflict, code(err))
		_, err = w.svc.ApplyRule(w.as("manager"), record.Apply{RetentionRule: rules[lifecycle.Duplicates], Records: []gid.ID{byPhone, national}})
		require.Equal(w.t, lifecycle.BadUserInput, code(err), "one is none of them")
		ops, err := w.svc.ApplyRule(w.as("manager"), record.Apply{RetentionRule: rules[lifecycle.Duplicates], Records: []gid.ID{byPhone}})
		require.NoError(w.t, err)
		require.Len(w.t, ops, 1)
		require.Equal(w.t, older, *ops[0].DuplicateOfID)
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "VOIDED", "ACTIVE"}, w.states(older, byPhone, twinOfHidden))
		require.Empty(w.t, candidates("manager", lifecycle.Duplicates))
		w.clock.add(200 * day)
		require.Contains(w.t, candidates("manager", lifecycle.Ended), ended)
		w.eventsMatchChanges()
	})
}

func TestCandidatesWithOpenDealsWaitForApprovalAndConfirmation(t *testing.T) {
	each(t, func(w *world) {
		w.asks("manager2")
		rule := record.Rule{Name: "void-with-open-deals", Subject: "VOID", OpenDeals: true, Role: "manager", Execution: "CONFIRM"}
		w.rule(rule)
		var customers, deals []gid.ID
		for range 2 {
			c, d := w.withDeal("agent")
			customers, deals = append(customers, c), append(deals, d)
		}
		id := w.ruleBy("compliance", record.RetentionRule{Type: "Customer", Candidates: lifecycle.Inactive, Term: term(10), Action: lifecycle.VoidAction, Approval: true}, "")
		w.clock.add(11 * day)
		ops, err := w.svc.ApplyRule(w.as("manager"), record.Apply{RetentionRule: id, Expected: new(2), Cascade: true})
		require.NoError(w.t, err)
		require.Equal(w.t, []string{"PENDING_APPROVAL", "PENDING"}, w.status(ops[0]))
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "ACTIVE"}, w.states(customers...))
		w.message("agent", customers[1], "a word") // which makes it no candidate any more, and another version
		_, err = w.svc.Update(w.as("agent"), customers[1], 1, record.Values{"name": "alive"})
		require.NoError(w.t, err)
		w.approves("manager2", ops[0])
		require.Equal(w.t, []string{"APPROVED", "APPROVED"}, w.status(ops[0]))
		_, err = w.svc.Confirm(w.as("manager"), ops[0].ID)
		require.NoError(w.t, err)
		w.runsApproved(1)
		require.Equal(w.t, []lifecycle.State{"VOIDED", "ACTIVE"}, w.states(customers...))
		require.Equal(w.t, []lifecycle.State{"VOIDED", "ACTIVE"}, w.states(deals...))
		require.Equal(w.t, "FAILED STALE", w.outcomes(ops[0])[customers[1]])
		w.eventsMatchChanges()
	})
}

// TestARuleThatKeepsWaitsForAPurgeUnderWay makes, changes and brings a rule into force while a purge is done and not
// committed: what it keeps must not go after that.
func TestARuleThatKeepsWaitsForAPurgeUnderWay(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		keep := record.RetentionRule{Type: "Note", Term: term(10), Action: lifecycle.KeepAction}
		off := w.ruling(keep, "")
		off.Enabled = false
		id, _, err := w.svc.CreateRetentionRule(w.as("admin"), off)
		require.NoError(w.t, err)
		for name, bring := range map[string]func() error{
			"made": func() error {
				_, _, err := w.svc.CreateRetentionRule(w.as("admin"), w.ruling(keep, `{"body":"another"}`))
				return err
			},
			"brought into force": func() error {
				_, err := w.svc.UpdateRetentionRule(w.as("admin"), id, 1, func(r *record.RetentionRule) error {
					r.Enabled, r.Filter, r.Comparisons, r.All = true, `{"body":"another"}`, 1, false
					return nil
				})
				return err
			},
		} {
			gone := w.note("agent", c)
			w.delete("agent", gone)
			made := make(chan error, 1)
			require.NoError(w.t, w.db.InTx(w.as("purger"), func(ctx context.Context, _ *store.Tx) error {
				if _, err := w.svc.Run(ctx, record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: []gid.ID{gone}}}); err != nil {
					return err
				}
				go func() { made <- bring() }()
				select {
				case err := <-made:
					return errors.Join(errors.New("a rule was "+name+" over the head of a purge"), err)
				case <-time.After(300 * time.Millisecond):
					return nil
				}
			}))
			require.NoError(w.t, <-made)
		}
	})
}

// onOperation has something else happen with the first operation that is written down.
func (w *world) onOperation(do string) {
	w.t.Helper()
	if w.db.Dialect() == "postgres" {
		w.exec(`CREATE FUNCTION meanwhile() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ` + do + `; RETURN NEW; END $$`)
		w.exec(`CREATE TRIGGER meanwhile AFTER INSERT ON operations FOR EACH ROW EXECUTE FUNCTION meanwhile()`)
		return
	}
	w.exec(`CREATE TRIGGER meanwhile AFTER INSERT ON operations BEGIN ` + do + `; END`)
}

// pairs are customers of which each repeats the one before it, in pairs.
func (w *world) pairs(n int) []gid.ID {
	w.t.Helper()
	var ids []gid.ID
	for i := range 2 * n {
		ids = append(ids, w.create("agent", "Customer", record.Values{"name": fmt.Sprint("c", i), "phone": fmt.Sprint("+49 30 10000", i/2)}).RecordID())
	}
	return ids
}

func TestDuplicatesAreDeletedAndArchivedAsWell(t *testing.T) {
	each(t, func(w *world) {
		for action, state := range map[lifecycle.RetentionAction]lifecycle.State{lifecycle.DeleteAction: lifecycle.Deleted, lifecycle.ArchiveAction: lifecycle.Archived} {
			ids := w.pairs(2)
			id := w.ruleBy("admin", record.RetentionRule{Type: "Customer", Candidates: lifecycle.Duplicates, Term: term(0), Action: action}, "")
			w.ruled(0)
			require.Equal(w.t, 2, w.dryRunOf(id).Deciding)
			w.clock.add(day + time.Minute)
			w.ruled(2)
			require.Equal(w.t, []lifecycle.State{"ACTIVE", state, "ACTIVE", state}, w.states(ids...))
			w.exec(`UPDATE retention_rules SET removed_at = ?`, w.db.Now())
			w.delete("agent", ids...)
		}
	})
}

func TestARuleThatIsChangedEndsItsTurn(t *testing.T) {
	each(t, func(w *world) {
		w.pairs(3)
		w.ruleBy("admin", record.RetentionRule{Type: "Customer", Candidates: lifecycle.Duplicates, Term: term(0), Action: lifecycle.VoidAction}, "")
		w.ruled(0)
		w.clock.add(day + time.Minute)
		w.onOperation(`UPDATE retention_rules SET version = version + 1`)
		w.ruled(1)
		require.Len(w.t, w.rows(`SELECT id FROM customers WHERE state = 'VOIDED'`), 1)
	})
}

func TestWhatRepeatsNothingAnyMoreIsLeftAlone(t *testing.T) {
	each(t, func(w *world) {
		w.pairs(2)
		w.ruleBy("admin", record.RetentionRule{Type: "Customer", Candidates: lifecycle.Duplicates, Term: term(0), Action: lifecycle.VoidAction}, "")
		w.ruled(0)
		w.clock.add(day + time.Minute)
		// With the first one that goes all others are edited: in one pair the older, in the other the younger.
		w.onOperation(`UPDATE customers SET phone = NULL, updated_at = '2999-01-01 00:00:00+00:00'`)
		w.ruled(1)
		require.Len(w.t, w.rows(`SELECT id FROM customers WHERE state = 'VOIDED'`), 1)
	})
}

func TestATreeLargerThanTheQuotaHoldsUpNothing(t *testing.T) {
	each(t, func(w *world) {
		big := w.customer("agent", "big")
		w.notes("agent", big, 3)
		small := w.customer("agent", "small")
		w.delete("agent", big, small)
		w.ruleBy("admin", record.RetentionRule{Type: "Customer", Basis: lifecycle.StateChangedAt, Term: term(1), Action: lifecycle.PurgeAction}, "")
		w.quota(2)
		w.clock.add(2 * day)
		w.ruled(0)
		w.clock.add(day)
		w.ruled(1)
		require.Equal(w.t, []gid.ID{big}, w.living([]gid.ID{big, small}))
		require.Equal(w.t, []string{"LIMIT"}, w.rows(`SELECT code FROM retention_waits`))
		w.quota(0)
		w.clock.add(3 * day)
		w.ruled(0)
		require.Len(w.t, w.rows(`SELECT code FROM retention_waits`), 1, "with no quota at all nothing is tried")
	})
}
