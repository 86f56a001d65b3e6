package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/gid"
)

// Recipient is one address a message went to. It is part of the message.
type Recipient struct{ ent.Schema }

// Mixin implements ent.Interface.
func (Recipient) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (Recipient) Fields() []ent.Field {
	return []ent.Field{
		mixin.ID(gid.Recipient),
		mixin.Ref("message_id").Required().Immutable().Annotations(mixin.Hidden()),
		field.Enum("kind").Values("TO", "CC", "BCC").Default("TO").Comment("How the message was addressed to the recipient."),
		field.String("address").Validate(mixin.Characters(mixin.MaxName)).Comment("Address as the message gives it."),
		field.String("address_key").Annotations(mixin.Hidden()),
		field.String("name").Optional().Nillable().Validate(mixin.Characters(mixin.MaxName)).Comment("Name as the message gives it."),
	}
}

// Edges implements ent.Interface.
func (Recipient) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("message", Message.Type).Unique().Required().Immutable().Field("message_id").
			Annotations(mixin.Restrict(), entgql.Skip(entgql.SkipAll)),
	}
}

// Indexes implements ent.Interface.
func (Recipient) Indexes() []ent.Index {
	return []ent.Index{index.Fields("message_id"), index.Fields("tenant_id", "address_key")}
}
