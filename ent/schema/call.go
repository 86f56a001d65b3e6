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

// Call is one phone call.
type Call struct{ ent.Schema }

// Mixin implements ent.Interface.
func (Call) Mixin() []ent.Mixin {
	return []ent.Mixin{mixin.Record{Record: lifecycle.Record{
		Type: uint8(gid.Call), Label: []string{"from_number", "to_number"}, Activity: "started_at",
		Alike:   []string{"started_at", "direction", "from_number", "to_number", "duration_seconds"},
		Uniques: []lifecycle.Unique{{Field: "external_id", Fold: lifecycle.FoldNone}},
	}}}
}

// Fields implements ent.Interface.
func (Call) Fields() []ent.Field {
	return []ent.Field{
		field.Enum("direction").Values("INBOUND", "OUTBOUND").Default("INBOUND").
			Comment("Whether the call came in or went out."),
		field.String("from_number").Optional().Nillable().Validate(mixin.E164).
			Annotations(lifecycle.Searched{As: "f"}, lifecycle.Sensitive{}).Comment("The number that called, in E.164 such as +74951234567. Null when it was withheld."),
		field.String("to_number").Optional().Nillable().Validate(mixin.E164).
			Annotations(lifecycle.Searched{As: "t"}, lifecycle.Sensitive{}).Comment("The number that was called, in E.164."),
		field.Time("started_at").SchemaType(mixin.TimeSchema()).Annotations(entgql.OrderField("STARTED_AT")).
			Comment("When the call began."),
		field.Int("duration_seconds").Default(0).NonNegative().Comment("How long it lasted, in seconds."),
		field.Enum("outcome").Values("ANSWERED", "MISSED", "BUSY", "VOICEMAIL", "FAILED").Default("ANSWERED").
			Comment("How the call ended."),
		field.String("external_id").Optional().Nillable().Validate(mixin.Bytes(mixin.MaxKey)).
			Comment("The call's id in the telephone system; unique among live calls."),
		mixin.Ref("customer_id").Annotations(entgql.Skip(entgql.SkipType)),
		mixin.Ref("contact_id").Annotations(entgql.Skip(entgql.SkipType)),
		mixin.Ref("deal_id").Annotations(entgql.Skip(entgql.SkipType)),
		mixin.Ref("task_id").Annotations(entgql.Skip(entgql.SkipType)),
	}
}

// Edges implements ent.Interface.
func (Call) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("customer", Customer.Type).Unique().Field("customer_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Owned}).
			Comment("The customer one spoke with."),
		edge.To("contact", Contact.Type).Unique().Field("contact_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Weak}).
			Comment("The person one spoke with."),
		edge.To("deal", Deal.Type).Unique().Field("deal_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Weak}).
			Comment("The deal the call was about."),
		edge.To("task", Task.Type).Unique().Field("task_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Weak}).
			Comment("The task the call was made for."),
		edge.From("attachments", Attachment.Type).Ref("call").
			Annotations(entgql.RelayConnection()).Comment("Files that belong to the call, such as its recording."),
	}
}

// Indexes implements ent.Interface.
func (Call) Indexes() []ent.Index {
	live := entsql.IndexWhere("retired_at IS NULL")
	return []ent.Index{
		index.Fields("customer_id", "started_at", "id"),
		index.Fields("contact_id").Annotations(entsql.IndexWhere("contact_id IS NOT NULL")),
		index.Fields("deal_id").Annotations(entsql.IndexWhere("deal_id IS NOT NULL")),
		index.Fields("task_id").Annotations(entsql.IndexWhere("task_id IS NOT NULL")),
		index.Fields("tenant_id", "started_at", "id").Annotations(live),
		index.Fields("tenant_id", "from_number", "started_at").Annotations(live),
		index.Fields("tenant_id", "to_number", "started_at").Annotations(live),
	}
}
