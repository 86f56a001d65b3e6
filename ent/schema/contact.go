package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// Contact is a person at a customer.
type Contact struct{ ent.Schema }

// Mixin implements ent.Interface.
func (Contact) Mixin() []ent.Mixin {
	return []ent.Mixin{mixin.Record{Record: lifecycle.Record{
		Type: uint8(gid.Contact), Label: []string{"name"}, Alike: []string{"name", "customer_id", "title", "phone"},
		Uniques: []lifecycle.Unique{{Field: "email", Fold: lifecycle.FoldEmail, Within: "customer_id"}},
	}}}
}

// Fields implements ent.Interface.
func (Contact) Fields() []ent.Field {
	return []ent.Field{
		field.String("name").NotEmpty().Validate(mixin.Characters(mixin.MaxName)).
			Annotations(lifecycle.Searched{As: "n"}, lifecycle.Sensitive{}, entgql.OrderField("NAME")).Comment("The person's name."),
		field.String("email").Optional().Nillable().Validate(mixin.Characters(mixin.MaxName)).
			Annotations(lifecycle.Searched{As: "e"}, lifecycle.Sensitive{}).Comment("E-mail address; unique among the live contacts of a customer."),
		field.String("phone").Optional().Nillable().Validate(mixin.Characters(mixin.MaxName)).
			Annotations(lifecycle.Searched{As: "p"}, lifecycle.Sensitive{}).Comment("Phone number."),
		field.String("title").Optional().Nillable().Validate(mixin.Characters(mixin.MaxName)).
			Annotations(lifecycle.Searched{As: "t"}, lifecycle.Sensitive{}).Comment("What the person does at the customer."),
		mixin.Ref("customer_id").Annotations(entgql.Skip(entgql.SkipType), lifecycle.Named{}),
	}
}

// Edges implements ent.Interface.
func (Contact) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("customer", Customer.Type).Unique().Field("customer_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Owned}).
			Comment("The customer the person is at."),
		edge.From("messages", Message.Type).Ref("contact").
			Annotations(entgql.RelayConnection()).Comment("Messages exchanged with the person."),
		edge.From("calls", Call.Type).Ref("contact").
			Annotations(entgql.RelayConnection()).Comment("Calls with the person."),
		edge.From("notes", Note.Type).Ref("contact").
			Annotations(entgql.RelayConnection()).Comment("What was written down about the person."),
	}
}

// Indexes implements ent.Interface.
func (Contact) Indexes() []ent.Index {
	return []ent.Index{index.Fields("customer_id"), index.Fields("tenant_id", "email_key")}
}
