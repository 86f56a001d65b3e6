package casbin

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/authz"
)

// Covers reports whether a subject may do all that another may, but for actions that do not count. Conditions are
// compared by what they mean, not by how they are written: every record that they tell apart is tried under the rules
// of both. Whoever asks is "me" for both of them, so "owner == me" is the same for each, though of other records.
// Where it takes more than can be tried, the rules have to say it one by one; else the answer is no.
func (p *Plugin) Covers(ctx context.Context, tenant string, subject, other authz.Entity, but ...authz.Action) (bool, error) {
	s, err := p.usable(ctx, tenant)
	if err != nil {
		return false, err
	}
	mine, theirs := subjectOf(subject), subjectOf(other)
	if s.repeats(mine, theirs) {
		return true, nil
	}
	beyond := p.vocabulary.find(func(typ, field string, action authz.Action) bool {
		if slices.Contains(but, action) {
			return false
		}
		conditions := s.deciding(theirs, typ, field, action)
		if conditions == nil {
			return false
		}
		q := p.vocabulary.question(typ, field, action)
		return q.some(append(conditions, s.deciding(mine, typ, field, action)...), persons{}, func(q *question) bool {
			return q.permits(s, theirs) && !q.permits(s, mine)
		})
	})
	return !beyond, nil
}

// Widens reports whether a user would be permitted something that he is not if he were in other teams: something of
// those he joins that he has no part in as himself, or of those he leaves that he is denied. Where actions are given,
// only those count.
func (p *Plugin) Widens(ctx context.Context, tenant string, user authz.Entity, after []string, only ...authz.Action) (bool, error) {
	s, err := p.usable(ctx, tenant)
	if err != nil {
		return false, err
	}
	subject, before := subjectOf(user), teamsOf(user)
	kept, left := split(before, after)
	_, joined := split(after, before)
	if len(left)+len(joined) == 0 {
		return false, nil
	}
	return p.vocabulary.find(func(typ, field string, action authz.Action) bool {
		if len(only) > 0 && !slices.Contains(only, action) {
			return false
		}
		conditions := s.deciding(subject, typ, field, action)
		if !slices.ContainsFunc(conditions, (*condition).speaksOfTeams) {
			return false
		}
		q := p.vocabulary.question(typ, field, action)
		samples := collectSamples(conditions, p.vocabulary.Schema[typ])
		stays, leaves, joins := samples.telling(kept), samples.telling(left), samples.telling(joined)
		then, now := slices.Concat(stays, joins), slices.Concat(stays, leaves)
		return q.among(samples, persons{[]string{user.ID}, [][]string{slices.Concat(stays, leaves, joins)}}, func(q *question) bool {
			q.in.teams = then
			if !q.permits(s, subject) {
				return false
			}
			q.in.teams = now
			return !q.permits(s, subject)
		})
	}), nil
}

// split tells those of a list that are in another from those that are not.
func split(list, other []string) (in, out []string) {
	for _, t := range list {
		if slices.Contains(other, t) {
			in = append(in, t)
		} else {
			out = append(out, t)
		}
	}
	return in, out
}

// find looks for an object and an action for which found holds.
func (v Vocabulary) find(found func(typ, field string, action authz.Action) bool) bool {
	actions := append(authz.Actions(), v.Actions...)
	for _, typ := range slices.Sorted(maps.Keys(v.Schema)) {
		for _, field := range append([]string{""}, v.Fields[typ]...) {
			for _, action := range actions {
				if found(typ, field, action) {
					return true
				}
			}
		}
	}
	return false
}

func (v Vocabulary) question(typ, field string, action authz.Action) *question {
	return &question{comparison: &Comparison{vocabulary: v}, request: authz.Request{
		Action: action, Field: field, Subject: authz.Entity{Type: "user"}, Resource: authz.Entity{Type: typ},
	}}
}

// deciding are the conditions of a subject's rules on an object and action; none when no rule allows him anything.
func (s *snapshot) deciding(subject, typ, field string, action authz.Action) (list []*condition) {
	allowed := false
	s.each(s.closures[subject], typ, field, action, func(g grant, deny bool) {
		list = append(list, g.condition)
		allowed = allowed || !deny
	})
	if !allowed {
		return nil
	}
	return list
}

// speaksOfTeams reports whether a condition depends on the teams of who asks.
func (c *condition) speaksOfTeams() bool {
	return c.op == opMyTeams || slices.ContainsFunc(c.parts, (*condition).speaksOfTeams)
}

// telling are those of some teams that conditions tell apart: each they name, and one that stands for the others.
func (s *samples) telling(teams []string) (out []string) {
	other := false
	for _, t := range teams {
		if named := slices.Contains(s.ids, t); named || !other {
			out = append(out, t)
			other = other || !named
		}
	}
	return out
}

// repeats reports whether the rules say by themselves that a subject may do all that another may: each that allows
// the other something is met by one that allows the subject as much, under the same condition or none, and none
// denies the subject what it does not deny the other.
func (s *snapshot) repeats(subject, other string) bool {
	mine, theirs := s.rulesOf(subject), s.rulesOf(other)
	for _, rule := range theirs {
		if !denies(rule) && !s.met(rule, mine) {
			return false
		}
	}
	for _, rule := range mine {
		if denies(rule) && !repeated(rule, theirs) {
			return false
		}
	}
	return true
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
