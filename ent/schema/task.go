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

// Task is something to be done for a customer.
type Task struct{ ent.Schema }

// Mixin implements ent.Interface.
func (Task) Mixin() []ent.Mixin {
	return []ent.Mixin{mixin.Record{Record: lifecycle.Record{
		Type: uint8(gid.Task), Label: []string{"title"}, Alike: []string{"title", "customer_id", "due_at", "body"},
	}}}
}

// Fields implements ent.Interface.
func (Task) Fields() []ent.Field {
	return []ent.Field{
		field.String("title").NotEmpty().Validate(mixin.Characters(mixin.MaxName)).
			Annotations(lifecycle.Searched{As: "t"}, lifecycle.Sensitive{}, entgql.OrderField("TITLE")).Comment("What is to be done."),
		field.Text("body").Optional().Nillable().Validate(mixin.Bytes(mixin.MaxBody)).
			Annotations(lifecycle.Searched{As: "b"}, lifecycle.Sensitive{}).Comment("What there is to know about it."),
		field.Time("due_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).Comment("By when it is to be done."),
		field.Bool("done").Default(false).Comment("Whether it is done."),
		mixin.Ref("customer_id").Annotations(entgql.Skip(entgql.SkipType)),
		mixin.Ref("deal_id").Annotations(entgql.Skip(entgql.SkipType)),
		mixin.Ref("assignee_id").Annotations(entgql.Skip(entgql.SkipType)),
	}
}

// Edges implements ent.Interface.
func (Task) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("customer", Customer.Type).Unique().Field("customer_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Owned}).
			Comment("The customer it is done for."),
		edge.To("deal", Deal.Type).Unique().Field("deal_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Weak}).
			Comment("The deal it is about."),
		edge.To("assignee", User.Type).Unique().Field("assignee_id").
			Annotations(mixin.Restrict(), entgql.Skip(entgql.SkipWhereInput)).
			Comment("The user who is to do it."),
		edge.From("calls", Call.Type).Ref("task").
			Annotations(entgql.RelayConnection()).Comment("Calls made for the task."),
	}
}

// Indexes implements ent.Interface.
func (Task) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("customer_id"),
		index.Fields("deal_id").Annotations(entsql.IndexWhere("deal_id IS NOT NULL")),
		index.Fields("assignee_id", "due_at").Annotations(entsql.IndexWhere("retired_at IS NULL")),
	}
}
