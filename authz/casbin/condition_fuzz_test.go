package casbin

import (
	"strings"
	"testing"

	"github.com/lethe-crm/lethe/authz"
)

// FuzzCondition reads conditions that an editor made up: what is read can be evaluated, planned and explained, and
// never has a value that it is said not to have.
func FuzzCondition(f *testing.F) {
	for _, text := range []string{
		"any", "owner == me", "team in my.teams", "not (owner == me)", "amount > 10000 and not stage == WON", `name == 'a "b"' or name != "c"`,
		"stage in (WON, LOST)", "open == true and amount <= 1.5e3", "action.reason == 'x'", "context.ip != me", "missing == me", "owner == me or",
		strings.Repeat("not ", 40) + "any", strings.Repeat("(", 40) + "any" + strings.Repeat(")", 40), "amount > 1e999", "a\x00b == me", "имя == 'я'",
	} {
		f.Add(text)
	}
	attributes := map[string]Kind{"owner": ID, "team": ID, "amount": Float, "count": Int, "stage": String, "name": String, "open": Bool, "closesAt": Time}
	schema := Schema{"Deal": attributes}
	inputs := []*input{
		{req: &authz.Request{Subject: authz.Entity{ID: "me"}, Resource: authz.Entity{Type: "Deal", ID: "1", Props: map[string]any{
			"owner": "me", "team": "t", "amount": 12.5, "count": int64(3), "stage": "WON", "name": "x", "open": true, "closesAt": nil,
		}}}, teams: []string{"t"}, attributes: attributes},
		{req: &authz.Request{Resource: authz.Entity{Type: "Deal", ID: "1"}}, attributes: attributes},
		{req: &authz.Request{Resource: authz.Entity{Type: "Deal"}}, attributes: attributes},
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCondition(text, func(name string) (Kind, error) { return schema.kindOf("Deal", name) })
		if (err == nil) == (c == nil) {
			t.Fatalf("%q is both refused and read, or neither", text)
		}
		if err != nil {
			return
		}
		canBeTrue, canBeFalse := c.possible(attributes)
		for _, in := range inputs {
			switch value := c.eval(in); {
			case value == isTrue && !canBeTrue, value == isFalse && !canBeFalse:
				t.Fatalf("%q is %v, which it is said never to be", text, value)
			case c.plan(in) == nil:
				t.Fatalf("%q has no plan", text)
			}
			_ = c.describe(in)
		}
		for _, name := range c.reads(nil) {
			if _, known := attributes[name]; !known {
				t.Fatalf("%q reads %q, which no record has", text, name)
			}
		}
	})
}
