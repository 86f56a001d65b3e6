package casbin

import (
	"context"
	"strings"

	"github.com/lethe-crm/lethe/authz"
)

// Covers reports whether a subject may do all that another may: every rule that allows the other something is
// met by one that allows the subject as much, under the same condition or none, and no rule denies the subject
// what it does not deny the other. Where that cannot be told from the rules alone the answer is no.
func (p *Plugin) Covers(ctx context.Context, tenant string, subject, other authz.Entity) (bool, error) {
	s, err := p.usable(ctx, tenant)
	if err != nil {
		return false, err
	}
	mine, theirs := s.rulesOf(subjectOf(subject)), s.rulesOf(subjectOf(other))
	for _, rule := range theirs {
		if !denies(rule) && !s.met(rule, mine) {
			return false, nil
		}
	}
	for _, rule := range mine {
		if denies(rule) && !repeated(rule, theirs) {
			return false, nil
		}
	}
	return true, nil
}

// rulesOf are the rules that a subject has, by itself or through roles.
func (s *snapshot) rulesOf(subject string) []Rule {
	names := map[string]bool{}
	for _, n := range s.reachable(subject) {
		names[n] = true
	}
	var rules []Rule
	for _, r := range s.rules {
		if r.Ptype != "g" && names[r.V[0]] {
			rules = append(rules, r)
		}
	}
	return rules
}

func denies(r Rule) bool { return r.V[4] == "deny" }

func sameCondition(a, b Rule) bool { return strings.TrimSpace(a.V[5]) == strings.TrimSpace(b.V[5]) }

// met reports whether one of the rules allows all that an allowing rule does.
func (s *snapshot) met(rule Rule, rules []Rule) bool {
	for _, r := range rules {
		if !denies(r) && objectWithin(rule.V[2], r.V[2]) && actionWithin(rule.V[3], r.V[3]) &&
			(sameCondition(r, rule) || s.always(r)) {
			return true
		}
	}
	return false
}

func repeated(rule Rule, rules []Rule) bool {
	for _, r := range rules {
		if denies(r) && r.V[2] == rule.V[2] && r.V[3] == rule.V[3] && sameCondition(r, rule) {
			return true
		}
	}
	return false
}

// always reports whether a rule has no condition that could fail.
func (s *snapshot) always(r Rule) bool {
	typ := parseObject(r.V[2]).typ
	c, err := s.schema.condition(typ, r.V[5])
	if err != nil {
		return false
	}
	canBeTrue, canBeFalse := c.possible(s.schema[typ])
	return canBeTrue && !canBeFalse
}

func objectWithin(narrow, wide string) bool {
	return wide == wildcard || wide == narrow || narrow != wildcard && parseObject(narrow).typ == wide
}

// actionWithin knows that the wildcard does not speak of the restricted actions.
func actionWithin(narrow, wide string) bool {
	return wide == narrow || wide == wildcard && !authz.Action(narrow).IsRestricted()
}
