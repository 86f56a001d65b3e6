package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// RetentionRule says how long records of a type are kept, or what becomes of
// them by their age. Once removed it stays, as the proof of what it said.
type RetentionRule struct{ ent.Schema }

// Annotations implements ent.Interface.
func (RetentionRule) Annotations() []schema.Annotation {
	return []schema.Annotation{entgql.RelayConnection(), entgql.Skip(entgql.SkipWhereInput)}
}

// Mixin implements ent.Interface.
func (RetentionRule) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (RetentionRule) Fields() []ent.Field {
	when := func(name, comment string) ent.Field {
		return field.Time(name).Optional().Nillable().SchemaType(mixin.TimeSchema()).Comment(comment)
	}
	return []ent.Field{
		mixin.ID(gid.RetentionRule),
		field.String("name").NotEmpty().Validate(mixin.Characters(mixin.MaxName)).Comment("What the rule is called."),
		field.String("record_type").Annotations(mixin.Hidden()),
		field.Text("filter").Optional().Nillable().Comment("Which records of the type, as JSON in the form of their where-input. Null is all of them."),
		field.Int("comparisons").Default(0).Comment("How many comparisons its filter makes: of two rules the one that makes more is the more specific."),
		field.Enum("candidates").GoType(lifecycle.Candidates("")).Optional().Nillable().Annotations(entgql.Type("RetentionCandidates")).
			Comment("What the records are beside that. Null is nothing in particular."),
		field.Enum("basis").GoType(lifecycle.Basis("")).Annotations(entgql.Type("RetentionBasis")).Comment("From when on their age counts."),
		field.Int("length").Comment("The age at which the rule ends to keep, or acts, in its unit."),
		field.Enum("unit").GoType(lifecycle.Unit("")).Annotations(entgql.Type("RetentionUnit")).Comment("Days of 24 hours, or months of the calendar in UTC."),
		field.Enum("action").GoType(lifecycle.RetentionAction("")).Annotations(entgql.Type("RetentionAction")).Comment("What becomes of the records."),
		field.Int("every_hours").Default(24).Comment("How many hours lie between two times that it acts."),
		field.Text("reason").Validate(mixin.Characters(mixin.MaxReason)).Comment("Why: also the reason of what it does."),
		field.Bool("approval").Default(false).Comment("Whether it only finds candidates, and somebody has to apply it."),
		field.Bool("enabled").Default(true).Comment("Whether it is in force."),
		field.Int("version").Default(1).Comment("Counts the rule's changes."),
		when("locked_until", "Until when nobody can shorten, narrow, disable or remove it. Null is no lock."),
		field.Time("created_at").Immutable().SchemaType(mixin.TimeSchema()).Comment("When it was created."),
		field.Time("updated_at").SchemaType(mixin.TimeSchema()).Comment("When it was last changed."),
		when("removed_at", "When it was removed. Null while it is there."),
		when("dry_run_at", "When it last found out what it would do. Null since a change."),
		when("last_run_at", "When it last acted."),
		when("next_run_at", "When it acts next, or finds out what it would do where it has not yet. Null where it does not."),
		field.Bytes("dry_run").Optional().Annotations(mixin.Hidden()).Comment("What it found out, as JSON: numbers, codes and ids."),
		mixin.Ref("changed_by_id").Annotations(mixin.Hidden()),
	}
}

// Edges implements ent.Interface.
func (RetentionRule) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("changed_by", User.Type).Unique().Field("changed_by_id").Annotations(mixin.Restrict()).
			Comment("Who changed it last. Null for the system."),
	}
}

// Indexes implements ent.Interface.
func (RetentionRule) Indexes() []ent.Index { return []ent.Index{index.Fields("tenant_id", "id")} }

// RetentionWait is a record that a rule could not act on, and when it is tried
// again: later each time.
type RetentionWait struct{ ent.Schema }

// Annotations implements ent.Interface.
func (RetentionWait) Annotations() []schema.Annotation {
	return []schema.Annotation{mixin.Hidden(), entsql.Table("retention_waits")}
}

// Mixin implements ent.Interface.
func (RetentionWait) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (RetentionWait) Fields() []ent.Field {
	return []ent.Field{
		mixin.Ref("rule_id").Required().Immutable(),
		mixin.Ref("record_id").Required().Immutable(),
		field.String("code"),
		field.Int("tries").Default(1),
		field.Time("until").SchemaType(mixin.TimeSchema()),
	}
}

// Edges implements ent.Interface.
func (RetentionWait) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("rule", RetentionRule.Type).Unique().Required().Immutable().Field("rule_id").
			Annotations(mixin.Restrict(), entgql.Skip(entgql.SkipAll)),
	}
}

// Indexes implements ent.Interface.
func (RetentionWait) Indexes() []ent.Index {
	return []ent.Index{index.Fields("rule_id", "record_id").Unique()}
}
