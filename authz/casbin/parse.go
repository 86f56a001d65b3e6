package casbin

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/authz"
)

// maxNesting bounds the recursion of the parser and of evaluation.
const maxNesting = 32

// parseCondition reads a condition. Its grammar is closed: there are no functions, no patterns, and an
// attribute is always on the left.
//
//	condition  = conjunction { "or" conjunction } .
//	conjunction = term { "and" term } .
//	term       = "not" term | "(" condition ")" | "any" | comparison .
//	comparison = operand ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) ( literal | "me" )
//	           | operand "in" ( "my.teams" | "(" literal { "," literal } ")" ) .
//	operand    = attribute | "action." name | "context." name .
//	literal    = NAME | "'" text "'" | "\"" text "\"" | number | "true" | "false" .
//
// Names of attributes begin with a lower case letter, those of enum values with an upper case one.
func parseCondition(text string, kindOf func(attribute string) (Kind, error)) (*condition, error) {
	tokens, err := scan(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens, kindOf: kindOf}
	c, err := p.disjunction(0)
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokenEnd {
		return nil, fmt.Errorf("unexpected %q", t.text)
	}
	return c, nil
}

type parser struct {
	tokens []token
	at     int
	kindOf func(string) (Kind, error)
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.kind != tokenEnd {
		p.at++
	}
	return t
}

// accept takes the next token when it is this word or sign; quoted text is neither.
func (p *parser) accept(text string) bool {
	if t := p.peek(); t.text != text || t.kind != tokenName && t.kind != tokenSign {
		return false
	}
	p.at++
	return true
}

func (p *parser) disjunction(depth int) (*condition, error) {
	return p.series(opOr, "or", depth, p.conjunction)
}

func (p *parser) conjunction(depth int) (*condition, error) {
	return p.series(opAnd, "and", depth, p.term)
}

func (p *parser) series(op condOp, word string, depth int, part func(int) (*condition, error)) (*condition, error) {
	var parts []*condition
	for {
		c, err := part(depth)
		if err != nil {
			return nil, err
		}
		parts = append(parts, c)
		if p.accept(word) {
			continue
		}
		if len(parts) == 1 {
			return c, nil
		}
		return &condition{op: op, parts: parts}, nil
	}
}

func (p *parser) term(depth int) (*condition, error) {
	if depth++; depth > maxNesting {
		return nil, fmt.Errorf("nested deeper than %d", maxNesting)
	}
	switch {
	case p.accept("any"):
		return &condition{op: opAny}, nil
	case p.accept("not"):
		c, err := p.term(depth)
		if err != nil {
			return nil, err
		}
		return &condition{op: opNot, parts: []*condition{c}}, nil
	case p.accept("("):
		c, err := p.disjunction(depth)
		if err != nil {
			return nil, err
		}
		if !p.accept(")") {
			return nil, fmt.Errorf("expected ) before %q", p.peek().text)
		}
		return c, nil
	}
	return p.comparison()
}

func (p *parser) comparison() (*condition, error) {
	c := &condition{}
	var err error
	if c.source, c.name, c.kind, err = p.operand(); err != nil {
		return nil, err
	}
	if p.accept("in") {
		return p.membership(c)
	}
	sign := p.next()
	if c.cmp = comparisons[sign.text]; c.cmp == "" || sign.kind != tokenSign {
		return nil, fmt.Errorf("expected a comparison after %q, not %q", c.name, sign.text)
	}
	if p.accept("me") {
		if c.kind != ID && c.kind != 0 || c.cmp != authz.Equal && c.cmp != authz.NotEqual {
			return nil, fmt.Errorf("%q, a %s, cannot be compared with me by %s", c.name, c.kind, sign.text)
		}
		c.op = opMe
		return c, nil
	}
	c.op = opCompare
	v, err := p.literal(c)
	if err != nil {
		return nil, err
	}
	if c.cmp != authz.Equal && c.cmp != authz.NotEqual && !hasOrder(v) {
		return nil, fmt.Errorf("%q, a %s, has no order", c.name, c.kind)
	}
	c.values = []any{v}
	return c, nil
}

func (p *parser) membership(c *condition) (*condition, error) {
	if p.accept("my.teams") {
		if c.kind != ID && c.kind != 0 {
			return nil, fmt.Errorf("%q, a %s, cannot be in my.teams", c.name, c.kind)
		}
		c.op = opMyTeams
		return c, nil
	}
	c.op = opIn
	if !p.accept("(") {
		return nil, fmt.Errorf("expected my.teams or a list after in, not %q", p.peek().text)
	}
	for {
		v, err := p.literal(c)
		if err != nil {
			return nil, err
		}
		c.values = append(c.values, v)
		if p.accept(")") {
			return c, nil
		}
		if !p.accept(",") {
			return nil, fmt.Errorf("expected , or ) before %q", p.peek().text)
		}
	}
}

var comparisons = map[string]authz.Op{
	"==": authz.Equal, "!=": authz.NotEqual,
	"<": authz.Less, "<=": authz.LessOrEqual, ">": authz.Greater, ">=": authz.GreaterOrEqual,
}

// reserved cannot be attributes.
var reserved = map[string]bool{
	"any": true, "and": true, "or": true, "not": true, "in": true, "me": true, "true": true, "false": true,
}

// operand reads what is compared. Properties of the action and of the context are not declared: their kind
// is 0, and a comparison with one of another kind is false.
func (p *parser) operand() (source, string, Kind, error) {
	t := p.next()
	if t.kind != tokenName || reserved[t.text] {
		return 0, "", 0, fmt.Errorf("expected an attribute, not %q", t.text)
	}
	scope, name, dotted := strings.Cut(t.text, ".")
	switch {
	case !dotted && isLower(scope[0]):
		k, err := p.kindOf(scope)
		return fromRecord, scope, k, err
	case dotted && scope == "action" && name != "":
		return fromAction, name, 0, nil
	case dotted && scope == "context" && name != "":
		return fromContext, name, 0, nil
	}
	return 0, "", 0, fmt.Errorf("%q is no attribute", t.text)
}

// literal reads a value of the operand's kind.
func (p *parser) literal(c *condition) (any, error) {
	t := p.next()
	mismatch := fmt.Errorf("%q, a %s, cannot be compared with %q", c.name, c.kind, t.text)
	is := func(kinds ...Kind) bool {
		return c.kind == 0 || slices.Contains(kinds, c.kind)
	}
	switch t.kind {
	case tokenText:
		if c.kind == Time {
			at, err := time.Parse(time.RFC3339, t.text)
			if err != nil {
				return nil, fmt.Errorf("%q is not a time such as 2006-01-02T15:04:05Z", t.text)
			}
			return at.UTC(), nil
		}
		if is(String, ID) {
			return t.text, nil
		}
	case tokenNumber:
		if n, err := strconv.ParseInt(t.text, 10, 64); err == nil && is(Int) {
			return n, nil
		}
		if f, err := strconv.ParseFloat(t.text, 64); err == nil && is(Float) {
			return f, nil
		}
	case tokenName:
		switch {
		case t.text == "true" || t.text == "false":
			if is(Bool) {
				return t.text == "true", nil
			}
		case t.text[0] >= 'A' && t.text[0] <= 'Z' && !strings.Contains(t.text, "."):
			if is(String) {
				return t.text, nil
			}
		default:
			return nil, fmt.Errorf("expected a value, not %q", t.text)
		}
	case tokenEnd:
		return nil, fmt.Errorf("expected a value at the end")
	}
	return nil, mismatch
}

// hasOrder leaves text out: databases order it by their collation, which need not be ours.
func hasOrder(v any) bool {
	switch v.(type) {
	case int64, float64, time.Time:
		return true
	}
	return false
}

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenNumber
	tokenText
	tokenSign
)

type token struct {
	kind tokenKind
	text string
}

func scan(s string) ([]token, error) {
	var out []token
	for i := 0; i < len(s); {
		start, c := i, s[i]
		switch {
		case c == ' ':
			i++
			continue
		case isLetter(c):
			for i < len(s) && (isLetter(s[i]) || isDigit(s[i]) || s[i] == '_' || s[i] == '.') {
				i++
			}
			out = append(out, token{tokenName, s[start:i]})
		case isDigit(c) || c == '-':
			for i++; i < len(s) && (isDigit(s[i]) || s[i] == '.'); {
				i++
			}
			if i < len(s) && isLetter(s[i]) {
				return nil, fmt.Errorf("%q is no number", s[start:i+1])
			}
			out = append(out, token{tokenNumber, s[start:i]})
		case c == '\'' || c == '"':
			end := strings.IndexByte(s[i+1:], c)
			if end < 0 {
				return nil, fmt.Errorf("text without its closing %c", c)
			}
			i += end + 2
			out = append(out, token{tokenText, s[start+1 : i-1]})
		default:
			i++
			if i < len(s) && s[i] == '=' && strings.IndexByte("=!<>", c) >= 0 {
				i++
			}
			sign := s[start:i]
			if comparisons[sign] == "" && sign != "(" && sign != ")" && sign != "," {
				return nil, fmt.Errorf("unexpected %q", sign)
			}
			out = append(out, token{tokenSign, sign})
		}
	}
	return append(out, token{kind: tokenEnd}), nil
}

func isLower(c byte) bool  { return c >= 'a' && c <= 'z' }
func isLetter(c byte) bool { return isLower(c) || c >= 'A' && c <= 'Z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
