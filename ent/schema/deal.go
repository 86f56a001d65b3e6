package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/dialect"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// Deal is business under way or done with a customer.
type Deal struct{ ent.Schema }

// Mixin implements ent.Interface.
func (Deal) Mixin() []ent.Mixin {
	return []ent.Mixin{mixin.Record{Record: lifecycle.Record{
		Type: uint8(gid.Deal), Label: []string{"name"}, Numbered: true, Alike: []string{"name", "customer_id", "amount", "closes_at"},
	}}}
}

// Fields implements ent.Interface.
func (Deal) Fields() []ent.Field {
	return []ent.Field{
		field.String("name").NotEmpty().Validate(mixin.Characters(mixin.MaxName)).
			Annotations(lifecycle.Searched{As: "n"}, lifecycle.Sensitive{}, entgql.OrderField("NAME")).Comment("What the deal is about."),
		field.Float("amount").Optional().Nillable().
			SchemaType(map[string]string{dialect.Postgres: "numeric(19,4)", dialect.SQLite: "real"}).
			Annotations(lifecycle.Sensitive{}).Comment("Value of the deal, in units of its currency."),
		field.String("currency").Optional().Nillable().MinLen(3).MaxLen(3).Comment("ISO 4217 code of the currency."),
		field.Enum("stage").Values("QUALIFICATION", "PROPOSAL", "NEGOTIATION", "WON", "LOST").Default("QUALIFICATION").
			Comment("How far the deal has come."),
		field.Time("closes_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).
			Comment("When the deal is expected to close, or did."),
		mixin.Ref("customer_id").Annotations(entgql.Skip(entgql.SkipType)),
		mixin.Ref("primary_contact_id").Annotations(entgql.Skip(entgql.SkipType)),
	}
}

// Edges implements ent.Interface.
func (Deal) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("customer", Customer.Type).Unique().Field("customer_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Blocking}).
			Comment("The customer the deal is with."),
		edge.To("primary_contact", Contact.Type).Unique().Field("primary_contact_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Weak}).
			Comment("The person one talks to about the deal."),
		edge.From("messages", Message.Type).Ref("deal").
			Annotations(entgql.RelayConnection()).Comment("Messages about the deal."),
		edge.From("calls", Call.Type).Ref("deal").
			Annotations(entgql.RelayConnection()).Comment("Calls about the deal."),
		edge.From("tasks", Task.Type).Ref("deal").
			Annotations(entgql.RelayConnection()).Comment("What is to be done about the deal."),
		edge.From("notes", Note.Type).Ref("deal").
			Annotations(entgql.RelayConnection()).Comment("What was written down about the deal."),
		edge.From("attachments", Attachment.Type).Ref("deal").
			Annotations(entgql.RelayConnection()).Comment("Files that belong to the deal."),
	}
}

// Indexes implements ent.Interface.
func (Deal) Indexes() []ent.Index {
	return []ent.Index{index.Fields("customer_id"), index.Fields("primary_contact_id")}
}
