// Package schema declares the entities. Everything else about them is
// generated from here.
package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"

	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// Customer is a person or company one does business with.
type Customer struct{ ent.Schema }

// Mixin implements ent.Interface.
func (Customer) Mixin() []ent.Mixin {
	return []ent.Mixin{mixin.Record{Record: lifecycle.Record{
		Type: uint8(gid.Customer), Label: []string{"name"}, Numbered: true, Alike: []string{"name", "kind", "phone"},
		Uniques: []lifecycle.Unique{{Field: "email", Fold: lifecycle.FoldEmail}, {Field: "domain", Fold: lifecycle.FoldDomain}},
	}}}
}

// Fields implements ent.Interface.
func (Customer) Fields() []ent.Field {
	return []ent.Field{
		field.String("name").NotEmpty().Validate(mixin.Characters(mixin.MaxName)).
			Annotations(lifecycle.Searched{As: "n"}, lifecycle.Sensitive{}, entgql.OrderField("NAME")).Comment("The name the customer goes by."),
		field.Enum("kind").Values("COMPANY", "PERSON").Default("COMPANY").Comment("Company or person."),
		field.String("email").Optional().Nillable().Validate(mixin.Characters(mixin.MaxName)).
			Annotations(lifecycle.Searched{As: "e"}, lifecycle.Sensitive{}).Comment("Main e-mail address; unique among live customers."),
		field.String("phone").Optional().Nillable().Validate(mixin.Characters(mixin.MaxName)).
			Annotations(lifecycle.Searched{As: "p"}, lifecycle.Sensitive{}).Comment("Main phone number."),
		field.String("domain").Optional().Nillable().Validate(mixin.Characters(mixin.MaxName)).
			Annotations(lifecycle.Searched{As: "d"}, lifecycle.Sensitive{}).Comment("Internet domain; unique among live customers."),
		field.Enum("status").Values("LEAD", "PROSPECT", "CUSTOMER", "FORMER").Default("CUSTOMER").
			Comment("Where the customer is in the business relation."),
		field.Time("last_activity_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).
			Annotations(lifecycle.ReadOnly{}).Comment("When the newest communication took place."),
		field.Time("ended_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).
			Comment("When the business relation ended."),
	}
}

// Edges implements ent.Interface.
func (Customer) Edges() []ent.Edge {
	return []ent.Edge{
		edge.From("contacts", Contact.Type).Ref("customer").
			Annotations(entgql.RelayConnection()).Comment("People at the customer."),
		edge.From("deals", Deal.Type).Ref("customer").
			Annotations(entgql.RelayConnection()).Comment("Business under way or done with the customer."),
		edge.From("messages", Message.Type).Ref("customer").
			Annotations(entgql.RelayConnection()).Comment("Messages exchanged with the customer."),
		edge.From("calls", Call.Type).Ref("customer").
			Annotations(entgql.RelayConnection()).Comment("Calls with the customer."),
		edge.From("tasks", Task.Type).Ref("customer").
			Annotations(entgql.RelayConnection()).Comment("What is to be done for the customer."),
		edge.From("notes", Note.Type).Ref("customer").
			Annotations(entgql.RelayConnection()).Comment("What was written down about the customer."),
		edge.From("attachments", Attachment.Type).Ref("customer").
			Annotations(entgql.RelayConnection()).Comment("Files that belong to the customer itself."),
	}
}
