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
)

// LegalHold keeps what a legal matter is about from being lost. Once released it
// stays, as the proof of what was kept and how long.
type LegalHold struct{ ent.Schema }

// Annotations implements ent.Interface.
func (LegalHold) Annotations() []schema.Annotation {
	return []schema.Annotation{entgql.RelayConnection(), entgql.Skip(entgql.SkipWhereInput)}
}

// Mixin implements ent.Interface.
func (LegalHold) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (LegalHold) Fields() []ent.Field {
	return []ent.Field{
		mixin.ID(gid.LegalHold),
		field.String("name").NotEmpty().Immutable().Validate(mixin.Characters(mixin.MaxName)).Comment("What the matter is called."),
		field.Text("reason").Immutable().Validate(mixin.Characters(mixin.MaxReason)).Comment("Why its records are kept."),
		field.Bool("block_delete").Immutable().Default(false).Comment("Whether its records are kept from being deleted and voided."),
		field.Bool("freeze").Immutable().Default(false).Comment("Whether its records are kept from every change."),
		field.String("filter_type").Optional().Nillable().Immutable().
			Comment("The type of record of which it keeps all that match its filter, as Customer. Null without a filter."),
		field.Text("filter").Optional().Nillable().Immutable().
			Comment("The where-input, as JSON, of the records it keeps beside those it names: those that match now, and those that will."),
		field.Bool("wide").Optional().Nillable().Immutable().Annotations(mixin.Hidden()).
			Comment("True where it keeps more than the records it names, null elsewhere."),
		mixin.Ref("placed_by_id").Immutable().Annotations(mixin.Hidden()),
		field.Time("placed_at").Immutable().SchemaType(mixin.TimeSchema()).Comment("When it was placed."),
		mixin.Ref("released_by_id").Annotations(mixin.Hidden()),
		field.Time("released_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).Comment("When it was released. Null while it holds."),
		field.Text("release_reason").Optional().Nillable().Comment("The reason given for releasing it."),
	}
}

// Edges implements ent.Interface.
func (LegalHold) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("placed_by", User.Type).Unique().Immutable().Field("placed_by_id").Annotations(mixin.Restrict()).
			Comment("Who placed it. Null for the system."),
		edge.To("released_by", User.Type).Unique().Field("released_by_id").Annotations(mixin.Restrict()).
			Comment("Who released it."),
	}
}

// Indexes implements ent.Interface.
func (LegalHold) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("tenant_id", "id"),
		index.Fields("tenant_id").Annotations(entsql.IndexWhere("wide IS NOT NULL")), // whether there are any of those
	}
}

// LegalHoldRecord names a record that a hold keeps. It has no edge to the record:
// that is in the table of its type, and may be purged once the hold is released.
// A person is such a record with person_id set: what belongs to it is kept, too.
type LegalHoldRecord struct{ ent.Schema }

// Annotations implements ent.Interface.
func (LegalHoldRecord) Annotations() []schema.Annotation {
	return []schema.Annotation{mixin.Hidden(), entsql.Table("legal_hold_records")}
}

// Mixin implements ent.Interface.
func (LegalHoldRecord) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (LegalHoldRecord) Fields() []ent.Field {
	return []ent.Field{
		mixin.Ref("hold_id").Required().Immutable(),
		mixin.Ref("record_id").Required().Immutable(),
		mixin.Ref("person_id").Immutable().Comment("The record once more, if what belongs to it is kept as well."),
	}
}

// Edges implements ent.Interface.
func (LegalHoldRecord) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("hold", LegalHold.Type).Unique().Required().Immutable().Field("hold_id").
			Annotations(mixin.Restrict(), entgql.Skip(entgql.SkipAll)),
	}
}

// Indexes implements ent.Interface.
func (LegalHoldRecord) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("hold_id", "record_id").Unique(),
		index.Fields("record_id"), // whether something keeps a record
		index.Fields("person_id").Annotations(entsql.IndexWhere("person_id IS NOT NULL")),
	}
}
