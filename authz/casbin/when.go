package casbin

import "github.com/lethe-crm/lethe/authz"

// When is a condition that stands by itself, outside of a policy.
type When struct {
	condition  *condition
	vocabulary Vocabulary
}

// When reads a condition on things of a type, or on those of every type if it is empty.
func (v Vocabulary) When(typ, text string) (When, error) {
	if typ == "" {
		typ = wildcard
	}
	c, err := v.Schema.condition(typ, text)
	return When{c, v}, err
}

// Holds reports whether the condition is true of a request, or cannot be told: who asks others too often loses less than
// who does not ask.
func (w When) Holds(r *authz.Request) bool {
	return w.condition.eval(&input{req: r, teams: teamsOf(r.Subject), attributes: w.vocabulary.Schema[r.Resource.Type]}) != isFalse
}
