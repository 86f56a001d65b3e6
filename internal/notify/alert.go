package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	_ "time/tzdata" // machines without time zones of their own

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent/alertrule"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

const (
	actionAlert = "ALERT"

	maxRules = 100 // of a tenant
	// maxMinutes is for how long signals are kept.
	maxMinutes = 24 * 60
	weighBatch = 500
)

// The signals that are counted.
const (
	signalDeletion = "DELETION"
	signalDenial   = "DENIAL"
)

// deletions are the verbs of which DELETIONS_PER_ACTOR counts the records.
var deletions = []string{"DELETE", "VOID", "PURGE"}

// watchable are the verbs that OUT_OF_HOURS may name.
var watchable = []string{"DELETE", "VOID", "ARCHIVE", "SUSPEND", "RESTORE", "PURGE", "UNDO"}

// AlertRule is an alert rule as it is asked for.
type AlertRule struct {
	Name             string
	Kind             alertrule.Kind
	Count, Minutes   int
	Verbs            []string
	FromHour, ToHour int
	Zone             string
	Weekdays         []int
	Departments      []gid.ID
	Roles            []string
	Enabled          bool
}

func questions(action authz.Action, object string) []access.Question {
	return []access.Question{{Action: action, Type: object}}
}

func (r *AlertRule) check(ctx context.Context, tx *store.Tx, tenant gid.ID) error {
	if r.Name == "" {
		return record.Refuse(lifecycle.BadUserInput, "must not be empty", "name")
	}
	if err := mixin.Characters(mixin.MaxName)(r.Name); err != nil {
		return record.Refuse(lifecycle.BadUserInput, err.Error(), "name")
	}
	for _, bound := range []struct {
		field         string
		is            int
		least, most   int
		onlyOutOfHour bool
	}{{"count", r.Count, 1, 1 << 30, false}, {"minutes", r.Minutes, 1, maxMinutes, false}, {"fromHour", r.FromHour, 0, 23, true}, {"toHour", r.ToHour, 1, 24, true}} {
		if bound.is < bound.least || bound.is > bound.most {
			return record.Refuse(lifecycle.BadUserInput, fmt.Sprintf("must be from %d to %d", bound.least, bound.most), bound.field)
		}
	}
	if _, err := time.LoadLocation(r.Zone); err != nil || r.Zone == "" || r.Zone == "Local" {
		return record.Refuse(lifecycle.BadUserInput, "is no IANA time zone", "zone")
	}
	if r.Kind == alertrule.KindOUT_OF_HOURS && len(r.Verbs) == 0 {
		return record.Refuse(lifecycle.BadUserInput, "must not be empty", "verbs")
	}
	for _, v := range r.Verbs {
		if !slices.Contains(watchable, v) {
			return record.Refuse(lifecycle.BadUserInput, "cannot be watched", "verbs")
		}
	}
	for _, d := range r.Weekdays {
		if d < 1 || d > 7 {
			return record.Refuse(lifecycle.BadUserInput, "must be from 1 to 7", "weekdays")
		}
	}
	found := 0
	_, err := store.Build(tx).Add(`SELECT count(*) FROM departments WHERE tenant_id = ? AND `, tenant).IDs("id", r.Departments).One(ctx, tx, &found)
	switch {
	case err != nil:
		return fmt.Errorf("looking for departments: %w", err)
	case found != len(r.Departments):
		return record.Refuse(lifecycle.BadUserInput, "names a department that is not there, or one twice", "departments")
	case len(r.Departments) == 0 && len(r.Roles) == 0:
		return record.Refuse(lifecycle.BadUserInput, "tells nobody", "departments", "roles")
	}
	for _, role := range r.Roles {
		if role == "" || len(role) > 64 {
			return record.Refuse(lifecycle.BadUserInput, "is no role", "roles")
		}
	}
	return nil
}

func (r *AlertRule) columns() []any {
	departments := make([]string, len(r.Departments))
	for i, d := range r.Departments {
		departments[i] = d.String()
	}
	weekdays, err := json.Marshal(append([]int{}, r.Weekdays...))
	if err != nil {
		panic("notify: numbers that are no JSON: " + err.Error())
	}
	return []any{
		r.Name, r.Count, r.Minutes, store.JSONStrings(append([]string{}, r.Verbs...)), r.FromHour, r.ToHour, r.Zone, string(weekdays), store.JSONStrings(departments), store.JSONStrings(append([]string{}, r.Roles...)), r.Enabled,
	}
}

func (r *AlertRule) detail(id gid.ID) map[string]any {
	return map[string]any{"rule": id.String(), "kind": r.Kind, "count": r.Count, "minutes": r.Minutes, "verbs": r.Verbs, "fromHour": r.FromHour, "toHour": r.ToHour, "zone": r.Zone, "weekdays": r.Weekdays, "roles": r.Roles, "enabled": r.Enabled}
}

// CreateAlertRule adds an alert rule.
func (s *Service) CreateAlertRule(ctx context.Context, r AlertRule) (gid.ID, error) {
	id := gid.New(gid.AlertRule)
	return id, s.change(ctx, authz.AlertEdit, objectAlert, "ALERT_RULE_CREATE", func(ctx context.Context, tx *store.Tx, a *actor.Actor) (map[string]any, error) {
		if alertrule.KindValidator(r.Kind) != nil {
			return nil, record.Refuse(lifecycle.BadUserInput, "there is no such kind", "kind")
		}
		if err := r.check(ctx, tx, a.Tenant); err != nil {
			return nil, err
		}
		count := 0
		if _, err := store.Build(tx).Add(`SELECT count(*) FROM alert_rules WHERE tenant_id = ? AND removed_at IS NULL`, a.Tenant).One(ctx, tx, &count); err != nil {
			return nil, fmt.Errorf("counting alert rules: %w", err)
		}
		if count >= maxRules {
			return nil, record.Refuse(lifecycle.Limit, fmt.Sprintf("more than %d alert rules", maxRules))
		}
		values := append([]any{id, a.Tenant, string(r.Kind), tx.Now(), tx.Now()}, r.columns()...)
		_, err := store.Build(tx).Add(`INSERT INTO alert_rules (id, tenant_id, kind, created_at, updated_at, name, count, minutes, verbs, from_hour, to_hour, zone, weekdays, departments, roles, enabled, version)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)`, values...).Exec(ctx, tx)
		if err != nil {
			return nil, fmt.Errorf("writing an alert rule: %w", err)
		}
		return r.detail(id), nil
	})
}

const ruleColumns = `name, kind, count, minutes, verbs, from_hour, to_hour, zone, weekdays, departments, roles, enabled`

// scan reads ruleColumns, and what comes before them.
func (r *AlertRule) scan(row store.Row, before ...any) error {
	var verbs, weekdays, departments, roles []byte
	var kind string
	dest := append(slices.Clone(before), &r.Name, &kind, &r.Count, &r.Minutes, &verbs, &r.FromHour, &r.ToHour, &r.Zone, &weekdays, &departments, &roles, &r.Enabled)
	if err := row.Scan(dest...); err != nil {
		return err
	}
	r.Kind = alertrule.Kind(kind)
	var names []string
	if err := errors.Join(json.Unmarshal(verbs, &r.Verbs), json.Unmarshal(weekdays, &r.Weekdays), json.Unmarshal(departments, &names), json.Unmarshal(roles, &r.Roles)); err != nil {
		return fmt.Errorf("reading an alert rule: %w", err)
	}
	for _, name := range names {
		id, err := gid.Parse(name)
		if err != nil {
			return fmt.Errorf("reading an alert rule: %w", err)
		}
		r.Departments = append(r.Departments, id)
	}
	return nil
}

func lockRule(ctx context.Context, tx *store.Tx, a *actor.Actor, id gid.ID, version int) (r AlertRule, err error) {
	found, at := false, 0
	err = store.Build(tx).Add(`SELECT version, `+ruleColumns+` FROM alert_rules WHERE tenant_id = ? AND id = ? AND removed_at IS NULL`, a.Tenant, id).ForUpdate().Query(ctx, tx, func(row store.Row) error {
		found = true
		return r.scan(row, &at)
	})
	switch {
	case err != nil:
		return r, fmt.Errorf("reading an alert rule: %w", err)
	case !found:
		return r, record.Refuse(lifecycle.NotFound, "there is no such alert rule", "id")
	case at != version:
		return r, movedOn(at)
	}
	return r, nil
}

// UpdateAlertRule changes an alert rule that the actor saw at a version.
func (s *Service) UpdateAlertRule(ctx context.Context, id gid.ID, version int, update func(*AlertRule) error) error {
	return s.change(ctx, authz.AlertEdit, objectAlert, "ALERT_RULE_UPDATE", func(ctx context.Context, tx *store.Tx, a *actor.Actor) (map[string]any, error) {
		r, err := lockRule(ctx, tx, a, id, version)
		if err != nil {
			return nil, err
		}
		if err := update(&r); err != nil {
			return nil, err
		}
		if err := r.check(ctx, tx, a.Tenant); err != nil {
			return nil, err
		}
		_, err = store.Build(tx).Add(`UPDATE alert_rules SET name = ?, count = ?, minutes = ?, verbs = ?, from_hour = ?, to_hour = ?, zone = ?, weekdays = ?, departments = ?, roles = ?, enabled = ?, version = version + 1, updated_at = ? WHERE id = ?`,
			append(r.columns(), tx.Now(), id)...).Exec(ctx, tx)
		if err != nil {
			return nil, fmt.Errorf("changing an alert rule: %w", err)
		}
		return r.detail(id), nil
	})
}

// RemoveAlertRule removes an alert rule. The alerts that it raised stay.
func (s *Service) RemoveAlertRule(ctx context.Context, id gid.ID, version int) error {
	return s.change(ctx, authz.AlertEdit, objectAlert, "ALERT_RULE_REMOVE", func(ctx context.Context, tx *store.Tx, a *actor.Actor) (map[string]any, error) {
		if _, err := lockRule(ctx, tx, a, id, version); err != nil {
			return nil, err
		}
		_, err := store.Build(tx).Add(`UPDATE alert_rules SET enabled = ?, removed_at = ?, version = version + 1, updated_at = ? WHERE id = ?`, false, tx.Now(), tx.Now(), id).Exec(ctx, tx)
		if err != nil {
			return nil, fmt.Errorf("removing an alert rule: %w", err)
		}
		return map[string]any{"rule": id.String()}, nil
	})
}

// rule is an alert rule in force.
type rule struct {
	AlertRule

	id, tenant gid.ID
}

// watched is a fact as alert rules see it.
type watched struct {
	id, tenant, actor gid.ID
	at                time.Time
	action            string
	refused, purge    bool
	count             int
}

// weigh looks at facts that nobody has looked at, for what alert rules are about,
// and raises alerts: each is an event of the audit log, and told as such.
func (s *Service) weigh(ctx context.Context) error {
	for {
		n := 0
		err := s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
			n, err = s.weighSome(ctx, tx)
			return err
		})
		if err != nil {
			return fmt.Errorf("looking for what is unusual: %w", err)
		}
		if n < weighBatch {
			return nil
		}
	}
}

func (s *Service) weighSome(ctx context.Context, tx *store.Tx) (int, error) {
	var facts []watched
	var ids []gid.ID
	tenants := map[gid.ID]bool{}
	err := store.Build(tx).Add(`SELECT f.id, f.tenant_id, f.at, f.action, f.outcome, COALESCE(f.actor_id, o.actor_id), f.count, f.operation_id FROM notify_facts f LEFT JOIN operations o ON o.id = f.operation_id
		WHERE f.weighed = ? ORDER BY f.at, f.id LIMIT ?`, false, weighBatch).ForUpdateOf("f").Query(ctx, tx, func(row store.Row) error {
		var f watched
		var outcome string
		var by, operation *gid.ID
		if err := row.Scan(&f.id, &f.tenant, &f.at, &f.action, &outcome, &by, &f.count, &operation); err != nil {
			return err
		}
		if by != nil {
			f.actor = *by
		}
		f.refused = outcome == string(audit.Refused)
		f.purge = f.refused && f.action == "PURGE" && operation != nil
		facts, ids = append(facts, f), append(ids, f.id)
		tenants[f.tenant] = true
		return nil
	})
	if err != nil || len(facts) == 0 {
		return 0, err
	}
	// What is counted is counted; of facts that wait, only what comes later is counted again. The days of a digest are no count, and what an alert counted is told.
	_, err = store.Build(tx).Add(`UPDATE notify_facts SET weighed = ?, count = CASE WHEN action IN (?, ?) THEN count ELSE 0 END WHERE `, true, actionDue, actionAlert).IDs("id", ids).Exec(ctx, tx)
	if err != nil {
		return 0, err
	}
	rules, err := s.rules(ctx, tx, tenants)
	if err != nil || len(rules) == 0 {
		return len(facts), err
	}
	var signals [][]any
	for _, f := range facts {
		switch {
		case f.refused:
			signals = append(signals, []any{f.tenant, signalDenial, f.actor, f.at, f.count})
		case slices.Contains(deletions, f.action):
			signals = append(signals, []any{f.tenant, signalDeletion, f.actor, f.at, f.count})
		}
	}
	if err := tx.Insert(ctx, "alert_signals", []string{"tenant_id", "signal", "actor_id", "at", "count"}, signals); err != nil {
		return 0, err
	}
	for i := range rules {
		if err := s.apply(ctx, tx, &rules[i], facts); err != nil {
			return 0, err
		}
	}
	return len(facts), nil
}

// rules are those of some tenants that are in force. Who has them weighs alone, so that
// of two who weigh at once the later one counts what the other has.
func (s *Service) rules(ctx context.Context, tx *store.Tx, tenants map[gid.ID]bool) (rules []rule, err error) {
	ids := make([]gid.ID, 0, len(tenants))
	for id := range tenants {
		ids = append(ids, id)
	}
	err = store.Build(tx).Add(`SELECT id, tenant_id, `+ruleColumns+` FROM alert_rules WHERE enabled = ? AND `, true).IDs("tenant_id", ids).Add(` ORDER BY id`).ForNoKeyUpdate().Query(ctx, tx, func(row store.Row) error {
		var r rule
		if err := r.scan(row, &r.id, &r.tenant); err != nil {
			return err
		}
		rules = append(rules, r)
		return nil
	})
	return rules, err
}

// apply raises the alerts of a rule over some facts.
func (s *Service) apply(ctx context.Context, tx *store.Tx, r *rule, facts []watched) error {
	counts := map[gid.ID]int{} // by actor
	switch r.Kind {
	case alertrule.KindDELETIONS_PER_ACTOR, alertrule.KindDENIALS:
		signal := signalDeletion
		if r.Kind == alertrule.KindDENIALS {
			signal = signalDenial
		}
		err := store.Build(tx).Add(`SELECT actor_id, CAST(SUM(count) AS bigint) FROM alert_signals WHERE tenant_id = ? AND signal = ? AND at > ? GROUP BY actor_id HAVING SUM(count) >= ?`,
			r.tenant, signal, tx.Now().Add(-time.Duration(r.Minutes)*time.Minute), r.Count).Query(ctx, tx, func(row store.Row) error {
			var by gid.ID
			n := 0
			err := row.Scan(&by, &n)
			counts[by] = n
			return err
		})
		if err != nil {
			return err
		}
	case alertrule.KindOUT_OF_HOURS:
		zone, err := time.LoadLocation(r.Zone)
		if err != nil { // this machine does not know it; other rules are weighed all the same
			s.Log.ErrorContext(ctx, "the time zone of an alert rule is not known", "rule", r.id, "error", err)
			return nil
		}
		for _, f := range facts {
			if f.tenant == r.tenant && !f.refused && !f.actor.IsZero() && slices.Contains(r.Verbs, f.action) && !r.working(f.at.In(zone)) {
				counts[f.actor] += f.count
			}
		}
	case alertrule.KindPURGE_FAILED:
		for _, f := range facts {
			if f.tenant == r.tenant && f.purge {
				counts[f.actor] += f.count
			}
		}
	}
	for by, n := range counts {
		if r.Kind == alertrule.KindDELETIONS_PER_ACTOR && by.IsZero() {
			continue // what the clock and rules do is not unusual
		}
		if err := s.raise(ctx, tx, r, by, n); err != nil {
			return err
		}
	}
	return nil
}

// working reports whether a local time is within working hours.
func (r *rule) working(at time.Time) bool {
	day := int(at.Weekday())
	if day == 0 {
		day = 7
	}
	return (len(r.Weekdays) == 0 || slices.Contains(r.Weekdays, day)) && at.Hour() >= r.FromHour && at.Hour() < r.ToHour
}

// raise raises one alert of a rule for an actor within its time.
func (s *Service) raise(ctx context.Context, tx *store.Tx, r *rule, by gid.ID, count int) error {
	before := tx.Now().Add(-time.Duration(r.Minutes) * time.Minute)
	n, err := store.Build(tx).Add(`INSERT INTO alert_marks (rule_id, actor_id, at) VALUES (?, ?, ?) ON CONFLICT (rule_id, actor_id) DO UPDATE SET at = excluded.at WHERE alert_marks.at <= ?`,
		r.id, by, tx.Now(), before).Exec(ctx, tx)
	if err != nil || n == 0 {
		return err
	}
	detail := map[string]any{"rule": r.id.String(), "kind": r.Kind, "count": count, "minutes": r.Minutes}
	if !by.IsZero() {
		detail["actor"] = by.String()
	}
	return s.Audit.Append(actor.With(ctx, actor.ForSystem(r.tenant)), tx, audit.Event{Action: actionAlert, Detail: detail})
}

// alerted are the users whom the rule of an alert names.
func (s *Service) alerted(ctx context.Context, tx *store.Tx, f *fact) ([]gid.ID, error) {
	var r AlertRule
	found := false
	err := store.Build(tx).Add(`SELECT `+ruleColumns+` FROM alert_rules WHERE id = ?`, nullID(f.subject)).Query(ctx, tx, func(row store.Row) error {
		found = true
		return r.scan(row)
	})
	if err != nil || !found {
		return nil, err
	}
	var to []gid.ID
	for _, role := range r.Roles {
		holders, err := s.Control.Holders(ctx, f.tenant, role)
		if err != nil {
			return nil, fmt.Errorf("asking who is alerted: %w", err)
		}
		to = append(to, holders...)
	}
	err = store.Build(tx).Add(`SELECT user_id FROM department_members WHERE `).IDs("department_id", r.Departments).Query(ctx, tx, func(row store.Row) error {
		var user gid.ID
		err := row.Scan(&user)
		to = append(to, user)
		return err
	})
	return to, err
}
