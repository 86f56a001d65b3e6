package access

import (
	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
)

// When reads a condition, in the language of policies, on records of a type, or of any type if it is empty.
func (c *Control) When(typ, text string) (casbin.When, error) { return c.vocabulary.When(typ, text) }

// Holds reports whether a condition holds of a record that the actor wants to do something to.
func Holds(w casbin.When, a *actor.Actor, action authz.Action, r ent.Record) bool {
	return w.Holds(&authz.Request{
		Tenant: a.Tenant.String(), Subject: a.Subject(), Action: action,
		Resource: authz.Entity{Type: r.RecordType().Name, ID: r.RecordID().String(), Props: RecordProps(r)},
	})
}
