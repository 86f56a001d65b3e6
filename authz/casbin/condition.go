package casbin

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/authz"
)

// condition is a parsed condition. It is one struct, not an interface, so that evaluating it allocates nothing.
type condition struct {
	op     condOp
	parts  []*condition // of opAnd, opOr, opNot
	source source       // of the rest
	name   string
	kind   Kind
	cmp    authz.Op // of opCompare and opMe
	values []any    // of opCompare (one) and opIn
}

type condOp uint8

const (
	opAny condOp = iota
	opAnd
	opOr
	opNot
	opCompare
	opIn
	opMe
	opMyTeams
)

type source uint8

const (
	fromRecord source = iota
	fromAction
	fromContext
)

// truth has a third value for records that came without an attribute their type has. Then an allow rule does
// not apply and a deny rule does. A null attribute is not unknown: comparisons with it are false.
type truth uint8

const (
	isFalse truth = iota
	isTrue
	isUnknown
)

func truthOf(b bool) truth {
	if b {
		return isTrue
	}
	return isFalse
}

// input is what conditions are evaluated against.
type input struct {
	req        *authz.Request
	teams      []string
	attributes map[string]Kind // of the resource's type
}

// teamsOf returns the subject's teams. They may come from JSON.
func teamsOf(subject authz.Entity) []string {
	switch teams := subject.Props["teams"].(type) {
	case []string:
		return teams
	case []any:
		var out []string
		for _, t := range teams {
			if s, ok := t.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

func (c *condition) eval(in *input) truth {
	switch c.op {
	case opAny:
		return isTrue
	case opNot:
		switch c.parts[0].eval(in) {
		case isTrue:
			return isFalse
		case isFalse:
			return isTrue
		}
		return isUnknown
	case opAnd, opOr:
		decides, result := isFalse, isTrue
		if c.op == opOr {
			decides, result = isTrue, isFalse
		}
		for _, p := range c.parts {
			switch p.eval(in) {
			case decides:
				return decides
			case isUnknown:
				result = isUnknown
			}
		}
		return result
	}
	v, known := c.operand(in)
	if !known {
		return isUnknown
	}
	return truthOf(c.compare(v, in))
}

// operand finds the value that is compared. An attribute that the type does not have is null, which only
// happens to rules about every type; one missing from a question about the type as a whole is null as well.
func (c *condition) operand(in *input) (v any, known bool) {
	switch c.source {
	case fromAction:
		return in.req.ActionProps[c.name], true
	case fromContext:
		return in.req.Context[c.name], true
	}
	if _, declared := in.attributes[c.name]; !declared {
		return nil, true
	}
	v, given := in.req.Resource.Props[c.name]
	return v, given || in.req.Resource.ID == ""
}

func (c *condition) compare(v any, in *input) bool {
	switch c.op {
	case opMe:
		return compareID(v, c.cmp, in.req.Subject.ID)
	case opMyTeams:
		for _, t := range in.teams {
			if compareID(v, authz.Equal, t) {
				return true
			}
		}
		return false
	default:
		op := c.cmp
		if c.op == opIn {
			op = authz.Equal
		}
		for _, w := range c.values {
			if authz.Compare(v, op, w) {
				return true
			}
		}
		return false
	}
}

// compareID is authz.Compare without boxing the id.
func compareID(v any, op authz.Op, id string) bool {
	if s, ok := v.(string); ok {
		return (s == id) == (op == authz.Equal)
	}
	return v != nil && authz.Compare(v, op, id)
}

// plan turns the condition into a filter over the record. What is known now (subject, action, context, and
// attributes that the type does not have) is folded.
func (c *condition) plan(in *input) authz.Filter {
	switch c.op {
	case opAny:
		return authz.True{}
	case opNot:
		return authz.Not{Of: c.parts[0].plan(in)}
	case opAnd:
		return authz.And(c.planParts(in))
	case opOr:
		return authz.Or(c.planParts(in))
	}
	_, declared := in.attributes[c.name]
	if c.source != fromRecord || !declared {
		v, _ := c.operand(in)
		if c.compare(v, in) {
			return authz.True{}
		}
		return authz.False{}
	}
	switch c.op {
	case opMe:
		return authz.Cmp{Field: c.name, Op: c.cmp, Value: in.req.Subject.ID}
	case opMyTeams:
		teams := make([]any, len(in.teams))
		for i, t := range in.teams {
			teams[i] = t
		}
		return authz.In{Field: c.name, Values: teams}
	case opIn:
		return authz.In{Field: c.name, Values: slices.Clone(c.values)}
	default:
		return authz.Cmp{Field: c.name, Op: c.cmp, Value: c.values[0]}
	}
}

func (c *condition) planParts(in *input) []authz.Filter {
	out := make([]authz.Filter, len(c.parts))
	for i, p := range c.parts {
		out[i] = p.plan(in)
	}
	return out
}

// possible says which values the condition may take for some subject and some record of a type.
func (c *condition) possible(attributes map[string]Kind) (canBeTrue, canBeFalse bool) {
	switch c.op {
	case opAny:
		return true, false
	case opNot:
		t, f := c.parts[0].possible(attributes)
		return f, t
	case opAnd, opOr:
		canBeTrue, canBeFalse = true, true
		if c.op == opAnd {
			canBeFalse = false
		} else {
			canBeTrue = false
		}
		for _, p := range c.parts {
			t, f := p.possible(attributes)
			if c.op == opAnd {
				canBeTrue, canBeFalse = canBeTrue && t, canBeFalse || f
			} else {
				canBeTrue, canBeFalse = canBeTrue || t, canBeFalse && f
			}
		}
		return canBeTrue, canBeFalse
	}
	if _, declared := attributes[c.name]; c.source == fromRecord && !declared {
		return false, true
	}
	return true, true
}

// reads adds the record's attributes that the condition looks at to a list.
func (c *condition) reads(list []string) []string {
	for _, p := range c.parts {
		list = p.reads(list)
	}
	if c.op >= opCompare && c.source == fromRecord && !slices.Contains(list, c.name) {
		list = append(list, c.name)
	}
	return list
}

// describe lists the values that the condition looks at, for an explanation.
func (c *condition) describe(in *input) string {
	var out []string
	var walk func(*condition)
	walk = func(c *condition) {
		for _, p := range c.parts {
			walk(p)
		}
		if len(c.parts) > 0 || c.op == opAny {
			return
		}
		v, known := c.operand(in)
		shown := fmt.Sprint(v)
		if !known {
			shown = "missing"
		}
		if line := sourceNames[c.source] + c.name + " = " + shown; !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	walk(c)
	return strings.Join(out, ", ")
}

var sourceNames = []string{fromRecord: "", fromAction: "action.", fromContext: "context."}
