package casbin

import (
	"fmt"
	"strings"
	"unicode"
)

// Severity says whether a finding keeps a policy from being used.
type Severity string

// The severities.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Finding is something wrong with a row.
type Finding struct {
	Index    int // of the row
	Rule     Rule
	Severity Severity
	Message  string
}

func (f Finding) String() string {
	return fmt.Sprintf("row %d: %s: %s (%s)", f.Index, f.Severity, f.Message, f.Rule)
}

// Limits on the length of values, in bytes.
const (
	maxValue     = 256
	maxCondition = 1024
)

// Validate judges the rows of a tenant's policy. With an error among the findings the policy permits nothing.
func (v Vocabulary) Validate(tenant string, rules []Rule) []Finding {
	var out []Finding
	seen := map[Rule]int{}
	permitted := map[string]bool{} // roles with rules or roles of their own
	for i, r := range rules {
		permitted[r.V[0]] = true
		before := len(out)
		for _, problem := range v.check(tenant, r) {
			out = append(out, Finding{i, r, Error, problem})
		}
		if first, repeated := seen[r]; repeated && len(out) == before {
			out = append(out, Finding{i, r, Warning, fmt.Sprintf("repeats row %d", first)})
		} else if !repeated {
			seen[r] = i
		}
	}
	for i, r := range rules {
		if r.Ptype == "g" && !permitted[r.V[1]] {
			out = append(out, Finding{i, r, Warning, fmt.Sprintf("no rule is about %s", r.V[1])})
		}
	}
	return append(out, checkHierarchy(rules)...)
}

// check judges a row by itself.
func (v Vocabulary) check(tenant string, r Rule) []string {
	var problems []string
	fail := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for i, value := range r.V {
		limit := maxValue
		if i == 5 {
			limit = maxCondition
		}
		if len(value) > limit {
			fail("value %d is longer than %d bytes", i+1, limit)
		}
		if strings.ContainsFunc(value, unicode.IsControl) || strings.TrimSpace(value) != value || strings.ContainsRune(value, unicode.ReplacementChar) {
			fail("value %d has control characters, bad encoding, or space around it", i+1)
		}
	}
	if len(problems) > 0 {
		return problems
	}
	switch r.Ptype {
	case "p":
		if !isName(r.V[0], userPrefix) && !isName(r.V[0], rolePrefix) {
			fail("subject %q is neither user:<id> nor role:<name>", r.V[0])
		}
		if r.V[1] != tenant {
			fail("tenant %q is not %q", r.V[1], tenant)
		}
		obj := parseObject(r.V[2])
		if !v.knowsObject(obj) {
			fail("unknown object %q", r.V[2])
		}
		if !v.knowsAction(r.V[3]) {
			fail("unknown action %q", r.V[3])
		}
		if r.V[4] != "allow" && r.V[4] != "deny" {
			fail("effect %q is neither allow nor deny", r.V[4])
		}
		if v.knowsObject(obj) {
			if _, err := v.Schema.condition(obj.typ, r.V[5]); err != nil {
				fail("condition: %v", err)
			}
		}
	case "g":
		if !isName(r.V[0], userPrefix) && !isName(r.V[0], rolePrefix) {
			fail("subject %q is neither user:<id> nor role:<name>", r.V[0])
		}
		if r.V[0] == System {
			fail("%s cannot be given a role", System)
		}
		if !isName(r.V[1], rolePrefix) {
			fail("role %q is not role:<name>", r.V[1])
		}
		if r.V[2] != tenant {
			fail("tenant %q is not %q", r.V[2], tenant)
		}
		if r.V[3]+r.V[4]+r.V[5] != "" {
			fail("a g row has three values")
		}
	default:
		fail("a row is of kind p or g, not %q", r.Ptype)
	}
	return problems
}

func isName(s, prefix string) bool {
	name, ok := strings.CutPrefix(s, prefix)
	return ok && name != "" && !strings.ContainsFunc(name, unicode.IsSpace)
}

// checkHierarchy finds roles that contain themselves, and chains that are too long. A row is named for each.
func checkHierarchy(rules []Rule) []Finding {
	parents := map[string][]string{}
	row := map[string]int{} // of the first role that a subject is given
	for i, r := range rules {
		if r.Ptype != "g" {
			continue
		}
		if _, seen := row[r.V[0]]; !seen {
			row[r.V[0]] = i
		}
		parents[r.V[0]] = append(parents[r.V[0]], r.V[1])
	}
	const visiting = -1
	depths := map[string]int{} // links above
	var out []Finding
	find := func(name, format string, args ...any) {
		i := row[name]
		out = append(out, Finding{i, rules[i], Error, fmt.Sprintf(format, args...)})
	}
	var depth func(name string) int
	depth = func(name string) int {
		if d, known := depths[name]; known {
			if d == visiting {
				find(name, "%s has itself as a role", name)
				return 0
			}
			return d
		}
		depths[name] = visiting
		longest := 0
		for _, p := range parents[name] {
			longest = max(longest, depth(p)+1)
		}
		if depths[name] = longest; longest == maxDepth+1 {
			find(name, "more than %d roles deep above %s", maxDepth, name)
		}
		return longest
	}
	for _, r := range rules {
		if r.Ptype == "g" {
			depth(r.V[0])
		}
	}
	return out
}
