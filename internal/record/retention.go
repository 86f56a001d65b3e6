package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// Limits of retention rules.
const (
	// maxRetentionRules is how many a tenant may have: each purge asks those that keep.
	maxRetentionRules = 200
	maxDays           = 36_600
	maxMonths         = 1_200
	maxEvery          = 366 * 24
)

// RetentionRule is what a retention rule says.
type RetentionRule struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
	// Type is the type of the records.
	Type string `json:"type"`
	// Filter is a where-input of the type as KeptFilter gives it, with Comparisons
	// of them; empty is every record, for which All must say so.
	Filter      string `json:"filter,omitempty"`
	Comparisons int    `json:"comparisons"`
	All         bool   `json:"all"`
	// Candidates are looked for beside that; empty is nothing in particular.
	Candidates lifecycle.Candidates `json:"candidates,omitempty"`
	// Basis may be empty where Candidates have one.
	Basis      lifecycle.Basis           `json:"basis"`
	Term       lifecycle.Term            `json:"term"`
	Action     lifecycle.RetentionAction `json:"action"`
	EveryHours int                       `json:"everyHours"`
	// Approval leaves it to somebody to apply the rule.
	Approval    bool       `json:"approval"`
	Enabled     bool       `json:"enabled"`
	LockedUntil *time.Time `json:"lockedUntil,omitempty"`
}

// ruleOf is what a rule in the database says.
func ruleOf(r *ent.RetentionRule) RetentionRule {
	out := RetentionRule{
		Name: r.Name, Reason: r.Reason, Type: r.RecordType, Comparisons: r.Comparisons, Basis: r.Basis, Term: lifecycle.Term{Length: r.Length, Unit: r.Unit},
		Action: r.Action, EveryHours: r.EveryHours, Approval: r.Approval, Enabled: r.Enabled, LockedUntil: r.LockedUntil,
	}
	if r.Candidates != nil {
		out.Candidates = *r.Candidates
	}
	if r.Filter != nil {
		out.Filter = *r.Filter
	} else {
		out.All = out.Candidates == ""
	}
	return out
}

// CreateRetentionRule adds a retention rule. If it acts it first finds out what it would do. One that purges comes into
// force once others have agreed, where rules want that; their request is answered then.
func (s *Service) CreateRetentionRule(ctx context.Context, rule RetentionRule) (id, request gid.ID, err error) {
	id = gid.New(gid.RetentionRule)
	err = s.attempt(ctx, "RULE_CREATE", nil, s.control.Repin, func(ctx context.Context, tx *store.Tx, a *actor.Actor) (err error) {
		request, err = s.createRetentionRule(ctx, tx, a, id, rule)
		return err
	})
	return id, request, err
}

func (s *Service) createRetentionRule(ctx context.Context, tx *store.Tx, a *actor.Actor, id gid.ID, rule RetentionRule) (request gid.ID, err error) {
	if err := s.mayRule(ctx, a); err != nil {
		return gid.Nil, err
	}
	if err := rule.check(tx.Now()); err != nil {
		return gid.Nil, err
	}
	if err := s.maySearch(ctx, a, &Filter{Type: rule.Type, Text: []byte(rule.Filter)}); err != nil {
		return gid.Nil, err
	}
	if err := rule.checkLock(nil, tx.Now()); err != nil {
		return gid.Nil, err
	}
	if err := s.fenceRule(ctx, tx, a, rule); err != nil {
		return gid.Nil, err
	}
	// Rules are counted by one at a time: the tenant's row is what everybody locks who changes how it keeps records.
	if _, err := store.Build(tx).Add(`SELECT id FROM tenants WHERE id = ?`, a.Tenant).ForNoKeyUpdate().Exec(ctx, tx); err != nil {
		return gid.Nil, fmt.Errorf("locking the tenant: %w", err)
	}
	var n int
	if _, err := store.Build(tx).Add(`SELECT COUNT(*) FROM retention_rules WHERE tenant_id = ? AND removed_at IS NULL`, a.Tenant).One(ctx, tx, &n); err != nil {
		return gid.Nil, fmt.Errorf("counting rules: %w", err)
	}
	if n >= maxRetentionRules {
		return gid.Nil, Refuse(lifecycle.Limit, fmt.Sprintf("a tenant has %d rules at most", maxRetentionRules))
	}
	if rule.purges() {
		asked := &Shortening{Rule: id, To: &rule, Changed: []string{"enabled"}, Version: 1}
		if request, err = s.askToShorten(ctx, tx, asked, rule.Reason, nil); err != nil {
			return gid.Nil, err
		}
		if !request.IsZero() { // till then it is there, and does nothing
			waiting := rule
			waiting.Enabled, waiting.LockedUntil = false, nil
			rule = waiting
		}
	}
	now := tx.Now()
	err = tx.Insert(ctx, "retention_rules", []string{
		"id", "tenant_id", "name", "record_type", "filter", "comparisons", "candidates", "basis", "length", "unit", "action", "every_hours", "reason", "approval",
		"enabled", "version", "locked_until", "created_at", "updated_at", "next_run_at", "changed_by_id",
	}, [][]any{{
		id, a.Tenant, rule.Name, rule.Type, nullText(rule.Filter), rule.Comparisons, nullText(string(rule.Candidates)), string(rule.Basis), rule.Term.Length, string(rule.Term.Unit),
		string(rule.Action), rule.EveryHours, rule.Reason, rule.Approval, rule.Enabled, 1, nullTime(rule.LockedUntil), now, now, nullTime(rule.firstRun(now)), nullID(a.UserRef()),
	}})
	if err == nil {
		err = tx.Flush(ctx)
	}
	if err != nil {
		return gid.Nil, fmt.Errorf("writing a rule: %w", err)
	}
	return request, s.auditRule(ctx, tx, a, "RULE_CREATE", id, rule, nil, nil)
}

// fenceRule waits, for a rule that keeps, until no purge is under way that has not seen it.
func (s *Service) fenceRule(ctx context.Context, tx *store.Tx, a *actor.Actor, rule RetentionRule) error {
	if rule.Action != lifecycle.KeepAction {
		return nil
	}
	return fenceOff(ctx, tx, a.Tenant)
}

// UpdateRetentionRule changes a rule that is still at a version. What changes whom it is
// about, when and how, makes it find out anew what it would do. What would keep records for
// less time waits for others to agree, where rules want that: then nothing changes yet, and
// their request is answered.
func (s *Service) UpdateRetentionRule(ctx context.Context, id gid.ID, version int, change func(*RetentionRule) error) (request gid.ID, err error) {
	err = s.attempt(ctx, "RULE_UPDATE", []gid.ID{id}, s.control.Repin, func(ctx context.Context, tx *store.Tx, a *actor.Actor) (err error) {
		request, err = s.updateRetentionRule(ctx, tx, a, id, version, change, nil)
		return err
	})
	return request, err
}

func (s *Service) updateRetentionRule(ctx context.Context, tx *store.Tx, a *actor.Actor, id gid.ID, version int, change func(*RetentionRule) error, agreed *ent.Approval) (gid.ID, error) {
	row, err := s.lockRule(ctx, tx, a, id)
	if agreed != nil && isCode(err, lifecycle.NotFound) {
		return gid.Nil, Refuse(lifecycle.Stale, "the rule was removed", "id")
	}
	if err != nil {
		return gid.Nil, err
	}
	if row.Version != version {
		return gid.Nil, movedOn("rule is", row.Version, agreed)
	}
	old, now := ruleOf(row), tx.Now()
	rule := old
	if err := change(&rule); err != nil {
		return gid.Nil, err
	}
	if err := rule.check(now); err != nil {
		return gid.Nil, err
	}
	if agreed == nil && rule.Filter != old.Filter {
		if err := s.maySearch(ctx, a, &Filter{Type: rule.Type, Text: []byte(rule.Filter)}); err != nil {
			return gid.Nil, err
		}
	}
	if err := rule.checkLock(&old, now); err != nil {
		return gid.Nil, err
	}
	changes := old.changes(rule)
	if len(changes) == 0 {
		return gid.Nil, nil
	}
	if old.shortens(rule) {
		asked := &Shortening{Rule: id, To: &rule, Changed: changes, Version: version}
		if request, err := s.askToShorten(ctx, tx, asked, rule.Reason, agreed); err != nil || !request.IsZero() {
			return request, err
		}
	}
	if err := s.fenceRule(ctx, tx, a, rule); err != nil {
		return gid.Nil, err
	}
	stmt := store.Build(tx).Add(`UPDATE retention_rules SET version = version + 1, updated_at = ?, changed_by_id = ?, name = ?, filter = ?, comparisons = ?, basis = ?, length = ?, unit = ?,
		action = ?, every_hours = ?, reason = ?, approval = ?, enabled = ?, locked_until = ?`, now, nullID(a.UserRef()), rule.Name, nullText(rule.Filter), rule.Comparisons,
		string(rule.Basis), rule.Term.Length, string(rule.Term.Unit), string(rule.Action), rule.EveryHours, rule.Reason, rule.Approval, rule.Enabled, nullTime(rule.LockedUntil))
	if !isPlain(changes) {
		stmt.Add(`, dry_run = NULL, dry_run_at = NULL, next_run_at = ?`, nullTime(rule.firstRun(now)))
		if _, err := store.Build(tx).Add(`DELETE FROM retention_waits WHERE rule_id = ?`, id).Exec(ctx, tx); err != nil {
			return gid.Nil, fmt.Errorf("forgetting what a rule waits for: %w", err)
		}
	}
	if _, err := stmt.Add(` WHERE id = ?`, id).Exec(ctx, tx); err != nil {
		return gid.Nil, fmt.Errorf("changing a rule: %w", err)
	}
	return gid.Nil, s.auditRule(ctx, tx, a, "RULE_UPDATE", id, rule, &old, agreed)
}

// RemoveRetentionRule takes a rule out of force for good. One that keeps goes once others
// have agreed, where rules want that; their request is answered then.
func (s *Service) RemoveRetentionRule(ctx context.Context, id gid.ID, version int) (request gid.ID, err error) {
	err = s.attempt(ctx, "RULE_REMOVE", []gid.ID{id}, s.control.Repin, func(ctx context.Context, tx *store.Tx, a *actor.Actor) (err error) {
		request, err = s.removeRetentionRule(ctx, tx, a, id, version, nil)
		return err
	})
	return request, err
}

func (s *Service) removeRetentionRule(ctx context.Context, tx *store.Tx, a *actor.Actor, id gid.ID, version int, agreed *ent.Approval) (gid.ID, error) {
	row, err := s.lockRule(ctx, tx, a, id)
	if agreed != nil && isCode(err, lifecycle.NotFound) {
		return gid.Nil, Refuse(lifecycle.Stale, "the rule was removed", "id")
	}
	if err != nil {
		return gid.Nil, err
	}
	if row.Version != version {
		return gid.Nil, movedOn("rule is", row.Version, agreed)
	}
	old := ruleOf(row)
	if old.locked(tx.Now()) {
		return gid.Nil, old.lockedError("id")
	}
	if old.keeps() {
		if request, err := s.askToShorten(ctx, tx, &Shortening{Rule: id, Version: version}, old.Reason, agreed); err != nil || !request.IsZero() {
			return request, err
		}
	}
	for _, stmt := range []*store.SQL{
		store.Build(tx).Add(`DELETE FROM retention_waits WHERE rule_id = ?`, id),
		store.Build(tx).Add(`UPDATE retention_rules SET removed_at = ?, updated_at = ?, changed_by_id = ?, next_run_at = NULL, version = version + 1 WHERE id = ?`,
			tx.Now(), tx.Now(), nullID(a.UserRef()), id),
	} {
		if _, err := stmt.Exec(ctx, tx); err != nil {
			return gid.Nil, fmt.Errorf("removing a rule: %w", err)
		}
	}
	return gid.Nil, s.auditRule(ctx, tx, a, "RULE_REMOVE", id, old, nil, agreed)
}

func (r *RetentionRule) keeps() bool  { return r.Enabled && r.Action == lifecycle.KeepAction }
func (r *RetentionRule) purges() bool { return r.Enabled && r.Action == lifecycle.PurgeAction }

// shortens reports whether records would be kept for less time by another rule instead: because it keeps less, or purges
// what the bin would have kept.
func (r *RetentionRule) shortens(to RetentionRule) bool {
	return r.keeps() && len(r.weakened(to)) > 0 || to.purges() && !isPlain(r.changes(to))
}

// mayRule refuses who may not change retention rules.
func (s *Service) mayRule(ctx context.Context, a *actor.Actor) error {
	if s.control.May(ctx, a, access.Question{Action: authz.RetentionEdit, Type: ent.TypeRetentionRule}) {
		return nil
	}
	return Refuse(lifecycle.Forbidden, "you may not change retention rules")
}

// lockRule locks a rule that is in force, and reads it.
func (s *Service) lockRule(ctx context.Context, tx *store.Tx, a *actor.Actor, id gid.ID) (*ent.RetentionRule, error) {
	if err := s.mayRule(ctx, a); err != nil {
		return nil, err
	}
	if _, err := store.Build(tx).Add(`SELECT id FROM retention_rules WHERE tenant_id = ? AND id = ?`, a.Tenant, id).ForUpdate().Exec(ctx, tx); err != nil {
		return nil, fmt.Errorf("locking a rule: %w", err)
	}
	row, err := s.Client(ctx).RetentionRule.Get(visible.With(ctx, visible.Tenant(a.Tenant)), id)
	if ent.IsNotFound(err) || err == nil && row.RemovedAt != nil {
		return nil, Refuse(lifecycle.NotFound, "there is no such rule", "id")
	}
	if err != nil {
		return nil, fmt.Errorf("reading a rule: %w", err)
	}
	return row, nil
}

func isCode(err error, code lifecycle.Code) bool {
	refused, ok := errors.AsType[*Error](err)
	return ok && refused.Code == code
}

// firstRun is when a rule first finds out what it would do.
func (r *RetentionRule) firstRun(now time.Time) *time.Time {
	if !r.Enabled || r.Action == lifecycle.KeepAction {
		return nil
	}
	return &now
}

// auditRule writes down what became of a rule. Names, reasons and filters may hold
// personal data, for which the log has no seal here: they are named, not told.
func (s *Service) auditRule(ctx context.Context, tx *store.Tx, a *actor.Actor, action string, id gid.ID, rule RetentionRule, old *RetentionRule, agreed *ent.Approval) error {
	detail := map[string]any{
		"rule": id.String(), "type": rule.Type, "action": rule.Action, "basis": rule.Basis, "length": rule.Term.Length, "unit": rule.Term.Unit, "enabled": rule.Enabled,
		"comparisons": rule.Comparisons, "proposes": rule.Approval,
	}
	if rule.LockedUntil != nil {
		detail["lockedUntil"] = rule.LockedUntil
	}
	if agreed != nil {
		detail["approval"] = agreed.ID.String()
	}
	if old != nil {
		detail["changed"] = old.changes(rule)
		detail["was"] = map[string]any{"action": old.Action, "basis": old.Basis, "length": old.Term.Length, "unit": old.Term.Unit, "enabled": old.Enabled}
		if shorter := old.weakened(rule); old.keeps() && len(shorter) > 0 {
			detail["shortens"] = shorter
		}
	}
	return s.audit.Append(ctx, tx, audit.Event{Action: action, PolicyVersion: s.control.Version(ctx, a.Tenant), Detail: detail})
}

// plainFields are those that change neither whom a rule is about, nor what it does.
var plainFields = []string{"name", "reason", "everyHours", "lockedUntil"}

func isPlain(changes []string) bool {
	return !slices.ContainsFunc(changes, func(field string) bool { return !slices.Contains(plainFields, field) })
}

// changes are the names of the fields in which another rule differs.
func (r *RetentionRule) changes(to RetentionRule) []string {
	var out []string
	for _, c := range []struct {
		field   string
		changed bool
	}{
		{"name", r.Name != to.Name}, {"reason", r.Reason != to.Reason}, {"filter", r.Filter != to.Filter}, {"basis", r.Basis != to.Basis},
		{"length", r.Term != to.Term}, {"action", r.Action != to.Action}, {"everyHours", r.EveryHours != to.EveryHours}, {"approval", r.Approval != to.Approval},
		{"enabled", r.Enabled != to.Enabled}, {"lockedUntil", !sameTime(r.LockedUntil, to.LockedUntil)},
	} {
		if c.changed {
			out = append(out, c.field)
		}
	}
	return out
}

// weakened are the names of the fields by which another rule would be less than
// this one: for fewer records, for less time, or less often.
func (r *RetentionRule) weakened(to RetentionRule) []string {
	var out []string
	for _, c := range []struct {
		field string
		less  bool
	}{
		{"filter", r.Filter != to.Filter && !to.All}, {"basis", r.Basis != to.Basis}, {"length", !to.Term.AtLeast(r.Term)}, {"action", r.Action != to.Action},
		{"everyHours", r.Action != lifecycle.KeepAction && to.EveryHours > r.EveryHours}, {"approval", to.Approval && !r.Approval}, {"enabled", r.Enabled && !to.Enabled},
	} {
		if c.less {
			out = append(out, c.field)
		}
	}
	return out
}

func sameTime(a, b *time.Time) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Equal(*b)
}

func (r *RetentionRule) locked(now time.Time) bool {
	return r.LockedUntil != nil && now.Before(*r.LockedUntil)
}

func (r *RetentionRule) lockedError(fields ...string) *Error {
	return &Error{
		Code: lifecycle.Retained, Message: "the rule is locked until then: it can only be extended", Fields: fields,
		Extensions: map[string]any{"until": r.LockedUntil.UTC()},
	}
}

// checkLock refuses what a locked rule does not allow, and a lock that is none.
func (r *RetentionRule) checkLock(old *RetentionRule, now time.Time) error {
	if at := r.LockedUntil; at != nil {
		utc := at.UTC().Truncate(time.Microsecond) // as both databases keep it
		r.LockedUntil = &utc
	}
	if old != nil && old.locked(now) {
		less := old.weakened(*r)
		if r.LockedUntil == nil || r.LockedUntil.Before(*old.LockedUntil) {
			less = append(less, "lockedUntil")
		}
		if len(less) > 0 {
			return old.lockedError(less...)
		}
	}
	if at := r.LockedUntil; at != nil && (old == nil || !sameTime(at, old.LockedUntil)) {
		switch {
		case !at.After(now):
			return Refuse(lifecycle.BadUserInput, "is not in the future", "lockedUntil")
		case at.Year() > 9999:
			return Refuse(lifecycle.BadUserInput, "is not in the years 1 to 9999", "lockedUntil")
		case !r.Enabled:
			return Refuse(lifecycle.BadUserInput, "a rule that is not in force is not locked", "lockedUntil")
		}
	}
	return nil
}

// check refuses what no rule can say, and fills in what follows from the rest.
func (r *RetentionRule) check(time.Time) error {
	r.Name = strings.TrimSpace(r.Name)
	if err := holdText("name", r.Name, mixin.MaxName); err != nil {
		return err
	}
	if err := holdText("reason", r.Reason, mixin.MaxReason); err != nil {
		return err
	}
	t := ent.RecordTypeNamed(r.Type)
	if t == nil {
		return Refuse(lifecycle.BadUserInput, "there is no such type", "type")
	}
	for _, check := range []func(*ent.RecordType) error{r.checkFilter, r.checkCandidates, r.checkAge} {
		if err := check(t); err != nil {
			return err
		}
	}
	if !slices.Contains(r.Action.Values(), string(r.Action)) {
		return Refuse(lifecycle.BadUserInput, "there is no such action", "action")
	}
	if r.EveryHours < 1 || r.EveryHours > maxEvery {
		return Refuse(lifecycle.BadUserInput, fmt.Sprintf("is not between 1 and %d", maxEvery), "everyHours")
	}
	if r.Approval && r.Action != lifecycle.VoidAction {
		return Refuse(lifecycle.BadUserInput, "only rules that void are applied by somebody", "approval")
	}
	return nil
}

func (r *RetentionRule) checkFilter(t *ent.RecordType) error {
	switch {
	case r.Filter != "" && r.All:
		return Refuse(lifecycle.BadUserInput, "a rule has a filter, or is about all records", "filter", "all")
	case r.Filter == "" && r.All:
		r.Comparisons = 0
		if r.Candidates != "" {
			return Refuse(lifecycle.BadUserInput, "a rule looks for candidates, or is about all records", "candidates", "all")
		}
		return nil
	case r.Filter == "" && r.Candidates != "":
		r.Comparisons = 1
		return nil
	case r.Comparisons == 0:
		return Refuse(lifecycle.InvalidFilter, "the filter compares nothing: for a rule about all records say so by all", "filter")
	}
	f, err := ParseFilter(t.Name, []byte(r.Filter))
	if err != nil {
		return err
	}
	if !f.own && r.Action == lifecycle.KeepAction { // what it leads to may be retired, or gone, when it matters
		return Refuse(lifecycle.InvalidFilter, "a rule that keeps compares only what the record says itself", "filter")
	}
	r.Filter, r.Comparisons = string(f.Text), f.Comparisons
	return nil
}

func (r *RetentionRule) checkCandidates(t *ent.RecordType) error {
	if r.Candidates == "" {
		return nil
	}
	own := map[lifecycle.Candidates]struct {
		basis lifecycle.Basis
		types []string
	}{
		lifecycle.Duplicates: {lifecycle.CreatedAt, []string{ent.TypeCustomer, ent.TypeContact}},
		lifecycle.Inactive:   {lifecycle.LastActivity, []string{ent.TypeCustomer}},
		lifecycle.Ended:      {lifecycle.EndedAt, []string{ent.TypeCustomer}},
	}
	kind, ok := own[r.Candidates]
	switch {
	case !ok:
		return Refuse(lifecycle.BadUserInput, "there is no such kind of candidates", "candidates")
	case !slices.Contains(kind.types, t.Name):
		return Refuse(lifecycle.BadUserInput, "there are no such candidates among these records", "candidates", "type")
	case r.Action == lifecycle.KeepAction || r.Action == lifecycle.PurgeAction:
		return Refuse(lifecycle.BadUserInput, "candidates are deleted, voided or archived", "candidates", "action")
	case r.Basis != "" && r.Basis != kind.basis:
		return Refuse(lifecycle.BadUserInput, "the age of these candidates counts from "+string(kind.basis), "basis", "candidates")
	}
	r.Basis = kind.basis
	return nil
}

func (r *RetentionRule) checkAge(t *ent.RecordType) error {
	least, most := 1, maxDays
	if r.Candidates != "" {
		least = 0
	}
	switch r.Term.Unit {
	case lifecycle.Days:
	case lifecycle.Months:
		most = maxMonths
	default:
		return Refuse(lifecycle.BadUserInput, "there is no such unit", "unit")
	}
	if r.Term.Length < least || r.Term.Length > most {
		return Refuse(lifecycle.BadUserInput, fmt.Sprintf("is not between %d and %d", least, most), "length")
	}
	switch r.Basis {
	case lifecycle.CreatedAt, lifecycle.StateChangedAt, lifecycle.LastActivity:
		return nil
	case lifecycle.OccurredAt:
		if t.Activity == "" {
			return Refuse(lifecycle.BadUserInput, "such records have no time of their own", "basis", "type")
		}
		return nil
	case lifecycle.EndedAt:
		if !slices.Contains(t.Columns, endedColumn) {
			return Refuse(lifecycle.BadUserInput, "such records do not end", "basis", "type")
		}
		return nil
	case "":
		return Refuse(lifecycle.BadUserInput, "is required", "basis")
	}
	return Refuse(lifecycle.BadUserInput, "there is no such basis", "basis")
}
