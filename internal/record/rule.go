package record

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"entgo.io/ent/dialect"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/approval"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// Rule says for what others have to be asked, and whom. It asks where more
// records than Over meet all that it names.
type Rule struct {
	Name    string           `json:"name"`
	Subject approval.Subject `json:"subject"`
	// Type and Condition say which records count; empty is all of them.
	Type      string `json:"type"`
	Condition string `json:"condition"`
	Over      int    `json:"over"`
	// ByFilter lets it ask only where a filter or the bin selects.
	ByFilter bool `json:"byFilter"`
	// OpenDeals lets only customers count that have live deals.
	OpenDeals bool `json:"openDeals"`

	Approvals int `json:"approvals"`
	// Role is who may agree, inherited or not. Empty is for GRANT: whoever may edit the policy.
	Role         string             `json:"role"`
	RequestHours int                `json:"requestHours"`
	UseHours     int                `json:"useHours"`
	Execution    approval.Execution `json:"execution"`
	Enabled      bool               `json:"enabled"`

	when *casbin.When
}

// The bounds of a rule.
const (
	maxApprovals = 20
	maxHours     = 24 * 365
	maxRules     = 100
)

func newRule(name string, subject approval.Subject, role string, more func(*Rule)) Rule {
	r := Rule{Name: name, Subject: subject, Role: role, Approvals: 1, RequestHours: 72, UseHours: 24, Execution: approval.ExecutionAUTOMATIC, Enabled: true}
	if more != nil {
		more(&r)
	}
	return r
}

// brakeRule and grantRule hold where a tenant has no rule of its own: what the brake stops, and what gives restricted
// actions away, is never without another's consent.
var (
	brakeRule = newRule("brake", approval.SubjectBRAKE, casbin.Admin, nil)
	grantRule = newRule("grant", approval.SubjectGRANT, "", nil)
)

// DefaultRules are those that a tenant starts with.
func DefaultRules() []Rule {
	return []Rule{
		newRule("purge-by-filter", approval.SubjectPURGE, casbin.Admin, func(r *Rule) { r.ByFilter = true }),
		newRule("purge-many", approval.SubjectPURGE, casbin.Admin, func(r *Rule) { r.Over = 100 }),
		newRule("void-with-open-deals", approval.SubjectVOID, casbin.Manager, func(r *Rule) { r.OpenDeals = true }),
		newRule("hold-release", approval.SubjectHOLD_RELEASE, casbin.Admin, nil),
		newRule("shorten-retention", approval.SubjectSHORTEN_RETENTION, casbin.Admin, nil),
		brakeRule, grantRule,
	}
}

// SeedRules gives a new tenant the default rules.
func SeedRules(ctx context.Context, tx *store.Tx, tenant gid.ID) error {
	rules := DefaultRules()
	err := tx.InsertEach(ctx, "approval_rules", append([]string{"tenant_id"}, ruleColumns...), len(rules), func(i int, row []any) error {
		row[0] = tenant
		copy(row[1:], rules[i].values())
		return nil
	})
	if err != nil {
		return fmt.Errorf("writing the rules of approval: %w", err)
	}
	return nil
}

// ruleColumns are in the order of values.
var ruleColumns = []string{
	"name", "subject", "record_type", "condition", "over", "by_filter", "open_deals", "approvals", "role", "request_hours", "use_hours", "execution", "enabled",
}

func (r *Rule) values() []any {
	return []any{
		r.Name, string(r.Subject), nullText(r.Type), nullText(r.Condition), r.Over, r.ByFilter, r.OpenDeals, r.Approvals, r.Role, r.RequestHours, r.UseHours, string(r.Execution), r.Enabled,
	}
}

// rulesJSON is an expression for the enabled rules of a tenant about some subjects, so that they can be read together
// with something else.
func rulesJSON(q store.Querier, tenant string, subjects ...approval.Subject) string {
	quoted := make([]string, len(subjects))
	for i, s := range subjects {
		quoted[i] = `'` + string(s) + `'`
	}
	object, list, boolean := `json_object`, `json_group_array`, func(c string) string { return `json(CASE WHEN ` + c + ` THEN 'true' ELSE 'false' END)` }
	if q.Dialect() == dialect.Postgres {
		object, list, boolean = `json_build_object`, `json_agg`, func(c string) string { return c }
	}
	pairs := []string{
		`'name', a.name`, `'subject', a.subject`, `'type', a.record_type`, `'condition', a.condition`, `'over', a.over`, `'byFilter', ` + boolean(`a.by_filter`),
		`'openDeals', ` + boolean(`a.open_deals`), `'approvals', a.approvals`, `'role', a.role`, `'requestHours', a.request_hours`, `'useHours', a.use_hours`,
		`'execution', a.execution`, `'enabled', ` + boolean(`a.enabled`),
	}
	return `(SELECT CAST(` + list + `(` + object + `(` + strings.Join(pairs, `, `) + `)) AS text) FROM approval_rules a
		WHERE a.tenant_id = ` + tenant + ` AND a.enabled AND a.subject IN (` + strings.Join(quoted, `, `) + `))`
}

// readRules reads what rulesJSON selected.
func (s *Service) readRules(text *string) ([]Rule, error) {
	if text == nil {
		return nil, nil
	}
	var rules []Rule
	if err := json.Unmarshal([]byte(*text), &rules); err != nil {
		return nil, fmt.Errorf("reading the rules of approval: %w", err)
	}
	slices.SortFunc(rules, func(a, b Rule) int { return strings.Compare(a.Name, b.Name) })
	for i := range rules {
		if err := s.readCondition(&rules[i]); err != nil {
			return nil, fmt.Errorf("the rule of approval %q: %w", rules[i].Name, err)
		}
	}
	return rules, nil
}

func (s *Service) readCondition(r *Rule) error {
	if r.Condition == "" {
		return nil
	}
	when, err := s.control.When(r.Type, r.Condition)
	r.when = &when
	return err
}

// rulesOf reads the enabled rules about something.
func (s *Service) rulesOf(ctx context.Context, q store.Querier, tenant gid.ID, subject approval.Subject) ([]Rule, error) {
	var text *string
	if _, err := store.Build(q).Add(`SELECT `+rulesJSON(q, `?`, subject), tenant).One(ctx, q, &text); err != nil {
		return nil, fmt.Errorf("reading the rules of approval: %w", err)
	}
	rules, err := s.readRules(text)
	if err == nil && len(rules) == 0 && subject == approval.SubjectGRANT {
		rules = []Rule{grantRule}
	}
	return rules, err
}

// asks reports whether the rule asks, where so many of these records meet it.
func (r *Rule) asks(n int) bool { return n > r.Over }

// counts reports whether a record counts for the rule, whatever hangs on it.
func (r *Rule) counts(a *actor.Actor, action authz.Action, row ent.Record) bool {
	return (r.Type == "" || r.Type == row.RecordType().Name) && (r.when == nil || access.Holds(*r.when, a, action, row))
}

// Rules lists the rules of the actor's tenant by name, those that are switched off included.
func (s *Service) Rules(ctx context.Context) ([]Rule, error) {
	q := s.querier(ctx)
	var rules []Rule
	err := store.Build(q).Add(`SELECT `+strings.Join(ruleColumns, ", ")+` FROM approval_rules WHERE tenant_id = ? ORDER BY name`, actor.From(ctx).Tenant).
		Query(ctx, q, func(row store.Row) error {
			var r Rule
			var typ, condition *string
			err := row.Scan(&r.Name, &r.Subject, &typ, &condition, &r.Over, &r.ByFilter, &r.OpenDeals, &r.Approvals, &r.Role, &r.RequestHours, &r.UseHours, &r.Execution, &r.Enabled)
			if typ != nil {
				r.Type = *typ
			}
			if condition != nil {
				r.Condition = *condition
			}
			rules = append(rules, r)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("reading the rules of approval: %w", err)
	}
	return rules, nil
}

// check refuses a rule that could not be followed.
func (s *Service) checkRule(r *Rule) error {
	r.Name, r.Condition, r.Role = strings.TrimSpace(r.Name), strings.TrimSpace(r.Condition), strings.TrimSpace(r.Role)
	verb := slices.Contains(counted, lifecycle.Verb(r.Subject))
	switch {
	case r.Name == "" || utf8.RuneCountInString(r.Name) > 64 || !storable(r.Name):
		return Refuse(lifecycle.BadUserInput, "is empty, longer than 64 characters, or cannot be stored", "name")
	case r.Type != "" && ent.RecordTypeNamed(r.Type) == nil:
		return Refuse(lifecycle.BadUserInput, "there is no such type", "type")
	case !verb && (r.Over != 0 || r.ByFilter || r.OpenDeals || r.Type != "" || r.Condition != ""):
		return Refuse(lifecycle.BadUserInput, "this rule is about no records: it takes neither type, condition, over, byFilter nor openDeals", "subject")
	case !verb && r.Subject != approval.SubjectBRAKE && r.Execution != approval.ExecutionAUTOMATIC:
		return Refuse(lifecycle.BadUserInput, "only operations wait to be confirmed", "execution")
	case r.OpenDeals && r.Type != "" && r.Type != ent.TypeCustomer:
		return Refuse(lifecycle.BadUserInput, "only customers have deals", "openDeals")
	case r.Over < 0 || r.Over > MaxPicks:
		return Refuse(lifecycle.BadUserInput, fmt.Sprintf("is from 0 to %d", MaxPicks), "over")
	case r.Approvals < 1 || r.Approvals > maxApprovals:
		return Refuse(lifecycle.BadUserInput, fmt.Sprintf("is from 1 to %d", maxApprovals), "approvals")
	case r.RequestHours < 1 || r.RequestHours > maxHours:
		return Refuse(lifecycle.BadUserInput, fmt.Sprintf("is from 1 to %d", maxHours), "requestHours")
	case r.UseHours < 1 || r.UseHours > maxHours:
		return Refuse(lifecycle.BadUserInput, fmt.Sprintf("is from 1 to %d", maxHours), "useHours")
	case (r.Role == "") != (r.Subject == approval.SubjectGRANT):
		return Refuse(lifecycle.BadUserInput, "is needed, except for GRANT, on which holders of POLICY_EDIT decide", "role")
	case utf8.RuneCountInString(r.Role) > 64 || !storable(r.Role):
		return Refuse(lifecycle.BadUserInput, "is no role", "role")
	case len(r.Condition) > 1_000 || !storable(r.Condition):
		return Refuse(lifecycle.BadUserInput, "is longer than 1,000 bytes, or cannot be stored", "condition")
	case r.Subject == approval.SubjectGRANT && !r.Enabled:
		return Refuse(lifecycle.BadUserInput, "a restricted action is never given away by one alone", "enabled")
	}
	if err := s.readCondition(r); err != nil {
		return Refuse(lifecycle.BadUserInput, err.Error(), "condition")
	}
	return nil
}

// SetRule makes a rule, or replaces the one of its name.
func (s *Service) SetRule(ctx context.Context, r Rule) error {
	if err := s.checkRule(&r); err != nil {
		return err
	}
	return s.changeRule(ctx, "APPROVAL_RULE_SET", r.Name, func(ctx context.Context, tx *store.Tx, tenant gid.ID, old *Rule) (map[string]any, error) {
		var n int
		if _, err := store.Build(tx).Add(`SELECT COUNT(*) FROM approval_rules WHERE tenant_id = ?`, tenant).One(ctx, tx, &n); err != nil {
			return nil, err
		}
		if old == nil && n >= maxRules {
			return nil, Refuse(lifecycle.Limit, fmt.Sprintf("there are %d rules already", maxRules), "name")
		}
		if _, err := store.Build(tx).Add(`DELETE FROM approval_rules WHERE tenant_id = ? AND name = ?`, tenant, r.Name).Exec(ctx, tx); err != nil {
			return nil, err
		}
		return map[string]any{"new": r}, tx.Insert(ctx, "approval_rules", append([]string{"tenant_id"}, ruleColumns...), [][]any{append([]any{tenant}, r.values()...)})
	})
}

// RemoveRule takes a rule away. Without one of their own, what the brake stops and what gives restricted actions away
// follow the default.
func (s *Service) RemoveRule(ctx context.Context, name string) error {
	return s.changeRule(ctx, "APPROVAL_RULE_REMOVE", name, func(ctx context.Context, tx *store.Tx, tenant gid.ID, old *Rule) (map[string]any, error) {
		if old == nil {
			return nil, Refuse(lifecycle.NotFound, "there is no such rule", "name")
		}
		_, err := store.Build(tx).Add(`DELETE FROM approval_rules WHERE tenant_id = ? AND name = ?`, tenant, name).Exec(ctx, tx)
		return map[string]any{}, err
	})
}

// changeRule changes a rule, and keeps in the log what it was. What waits already waits for what it was asked with; and
// nobody changes the rule that a request of his own waits for.
func (s *Service) changeRule(ctx context.Context, action, name string, do func(context.Context, *store.Tx, gid.ID, *Rule) (map[string]any, error)) error {
	a := actor.From(ctx)
	return s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		if ctx, err = s.judgedBy(ctx, a, s.control.Repin); err != nil {
			return err
		}
		defer func() {
			if refused, ok := err.(*Error); ok { //nolint:errorlint // as it was made here
				s.logRefusal(ctx, tx, audit.Event{Action: action, Code: refused.Code, Detail: map[string]any{"rule": name}})
			}
		}()
		if a.Kind != actor.System && !s.control.May(ctx, a, access.Question{Action: authz.PolicyEdit, Type: "Policy"}) {
			return Refuse(lifecycle.Forbidden, "The policy does not allow this.")
		}
		// Rules are changed one at a time: the tenant's row stands for all of them.
		if _, err := store.Build(tx).Add(`SELECT id FROM tenants WHERE id = ?`, a.Tenant).ForNoKeyUpdate().Exec(ctx, tx); err != nil {
			return fmt.Errorf("locking the rules of approval: %w", err)
		}
		rules, err := s.Rules(ctx)
		if err != nil {
			return err
		}
		var old *Rule
		if i := slices.IndexFunc(rules, func(r Rule) bool { return r.Name == name }); i >= 0 {
			old = &rules[i]
			if err := s.keepsOwn(ctx, tx, a, name); err != nil {
				return err
			}
		}
		detail, err := do(ctx, tx, a.Tenant, old)
		if err != nil {
			return err
		}
		detail["rule"], detail["old"] = name, old
		return s.audit.Append(ctx, tx, audit.Event{Action: action, PolicyVersion: s.control.Version(ctx, a.Tenant), Detail: detail})
	})
}

// keepsOwn refuses to change a rule that a request of the actor's own waits for.
func (s *Service) keepsOwn(ctx context.Context, tx *store.Tx, a *actor.Actor, name string) error {
	waits := false
	err := store.Build(tx).Add(`SELECT needs FROM approvals WHERE tenant_id = ? AND requested_by_id = ? AND waits_until IS NOT NULL`, a.Tenant, a.User).
		Query(ctx, tx, func(row store.Row) error {
			var text []byte
			if err := row.Scan(&text); err != nil {
				return err
			}
			var needs []Need
			err := json.Unmarshal(text, &needs)
			waits = waits || slices.ContainsFunc(needs, func(n Need) bool { return slices.Contains(n.Rules, name) })
			return err
		})
	if err != nil {
		return fmt.Errorf("looking for requests of one's own: %w", err)
	}
	if waits {
		return Refuse(lifecycle.SelfApproval, "a request of your own waits for this rule", "name")
	}
	return nil
}

// hours is a number of hours.
func hours(n int) time.Duration { return time.Duration(n) * time.Hour }
