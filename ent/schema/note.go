package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// Note is what somebody wrote down about a customer, such as the minutes of a
// meeting.
type Note struct{ ent.Schema }

// Mixin implements ent.Interface.
func (Note) Mixin() []ent.Mixin {
	return []ent.Mixin{mixin.Record{Record: lifecycle.Record{
		Type: uint8(gid.Note), Label: []string{"body"}, Activity: "happened_at", Alike: []string{"happened_at", "customer_id", "kind", "body"},
	}}}
}

// Fields implements ent.Interface.
func (Note) Fields() []ent.Field {
	return []ent.Field{
		field.Enum("kind").Values("NOTE", "MEETING", "VISIT", "OTHER").Default("NOTE").Comment("What kind of note it is."),
		field.Text("body").NotEmpty().Validate(mixin.Bytes(mixin.MaxBody)).
			Annotations(lifecycle.Searched{As: "b"}, lifecycle.Sensitive{}).Comment("The text."),
		field.Time("happened_at").SchemaType(mixin.TimeSchema()).Annotations(entgql.OrderField("HAPPENED_AT")).
			Comment("When what it speaks of took place."),
		mixin.Ref("customer_id").Annotations(entgql.Skip(entgql.SkipType)),
		mixin.Ref("contact_id").Annotations(entgql.Skip(entgql.SkipType)),
		mixin.Ref("deal_id").Annotations(entgql.Skip(entgql.SkipType)),
	}
}

// Edges implements ent.Interface.
func (Note) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("customer", Customer.Type).Unique().Field("customer_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Owned}).
			Comment("The customer it is about."),
		edge.To("contact", Contact.Type).Unique().Field("contact_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Weak}).
			Comment("The person it is about."),
		edge.To("deal", Deal.Type).Unique().Field("deal_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Weak}).
			Comment("The deal it is about."),
		edge.From("attachments", Attachment.Type).Ref("note").
			Annotations(entgql.RelayConnection()).Comment("Files that belong to the note."),
	}
}

// Indexes implements ent.Interface.
func (Note) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("customer_id", "happened_at", "id"),
		index.Fields("contact_id").Annotations(entsql.IndexWhere("contact_id IS NOT NULL")),
		index.Fields("deal_id").Annotations(entsql.IndexWhere("deal_id IS NOT NULL")),
		index.Fields("tenant_id", "happened_at", "id").Annotations(entsql.IndexWhere("retired_at IS NULL")),
	}
}
