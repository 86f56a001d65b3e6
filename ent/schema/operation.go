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

// Operation is one use of a verb over any number of records; it is what one
// undoes, approves and follows.
type Operation struct{ ent.Schema }

// Annotations implements ent.Interface.
func (Operation) Annotations() []schema.Annotation {
	return []schema.Annotation{entgql.RelayConnection(), entgql.QueryField(), entgql.Skip(entgql.SkipWhereInput)}
}

// Mixin implements ent.Interface.
func (Operation) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (Operation) Fields() []ent.Field {
	return []ent.Field{
		mixin.ID(gid.Operation),
		field.Enum("verb").GoType(lifecycle.Verb("")).Annotations(entgql.Type("Verb")).Comment("What was asked for."),
		field.Enum("status").Values("PENDING_APPROVAL", "APPROVED", "SCHEDULED", "QUEUED", "RUNNING", "PAUSED",
			"SUCCEEDED", "PARTIAL", "FAILED", "REJECTED", "CANCELLED", "EXPIRED").
			Comment("How far the operation has come, or how it ended."),
		field.Enum("mode").Values("ALL_OR_NOTHING", "BEST_EFFORT").
			Comment("Whether one failure keeps everything else from changing."),
		field.Bool("cascade").Default(false).Comment("Whether live dependants that would block were taken along."),
		field.Text("reason").Optional().Nillable().Comment("The reason given."),
		field.Bytes("selection").Annotations(mixin.Hidden()).Comment("The selection as it was given, as JSON."),
		field.Bytes("request").Optional().Annotations(mixin.Hidden()).Comment("What is kept of a request that is carried out later, as JSON."),
		mixin.Ref("actor_id").Annotations(mixin.Hidden()),
		mixin.Ref("team_id").Annotations(mixin.Hidden()).Comment("The actor's first team, for row policies."),
		mixin.Ref("on_behalf_of_id").Annotations(mixin.Hidden()),
		mixin.Ref("undone_by_id").Annotations(mixin.Hidden()),
		mixin.Ref("undoes_id").Annotations(mixin.Hidden()),
		mixin.Ref("duplicate_of_id").Annotations(mixin.Hidden()),
		field.String("idempotency_key").Optional().Nillable().Annotations(mixin.Hidden()),
		field.Bytes("payload_hash").Optional().Annotations(mixin.Hidden()),
		field.Int("total").Default(0).Comment("Records the operation is about, those that came along included."),
		field.Int("processed").Default(0).Comment("Records dealt with so far."),
		field.Int("changed").Default(0).Comment("Records that changed."),
		field.Int("unchanged").Default(0).Comment("Records that were already where the verb leads."),
		field.Int("failed").Default(0).Comment("Records that were refused."),
		field.Int("imported").Default(0).Annotations(mixin.Hidden()).
			Comment("How many of the records were created by the import that asks for the operation: what was never there before, the brake does not count."),
		field.Time("created_at").Immutable().SchemaType(mixin.TimeSchema()).Comment("When the operation was asked for."),
		field.Time("run_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).Comment("When the operation is to run, if later."),
		field.Time("finished_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).Comment("When the operation ended."),
		field.String("code").Optional().Nillable().Annotations(mixin.Hidden()).Comment("Why the operation is paused, or failed as a whole."),
		field.Time("worked_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).Annotations(mixin.Hidden()).
			Comment("When a worker last finished a batch of it."),
	}
}

// Edges implements ent.Interface.
func (Operation) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("actor", User.Type).Unique().Field("actor_id").Annotations(mixin.Restrict()).
			Comment("Who asked for the operation. Null for the system."),
		edge.To("on_behalf_of", User.Type).Unique().Field("on_behalf_of_id").Annotations(mixin.Restrict()).
			Comment("For whom it was asked."),
		edge.To("undone_by", Operation.Type).Unique().Field("undone_by_id").Annotations(mixin.Restrict()).
			Comment("The operation that undid this one."),
		edge.From("items", OperationItem.Type).Ref("operation").Annotations(entgql.RelayConnection()).
			Comment("What became of each record: those given in input order, then those that came along by depth and id."),
	}
}

// Indexes implements ent.Interface.
func (Operation) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("tenant_id", "actor_id", "idempotency_key").Unique().
			Annotations(entsql.IndexWhere("idempotency_key IS NOT NULL")),
		index.Fields("tenant_id", "id"),
		index.Fields("run_at").Annotations(entsql.IndexWhere("request IS NOT NULL")), // what is to run next
		index.Fields("tenant_id", "actor_id", "finished_at"),                         // what an actor did of late: the brake
		index.Fields("tenant_id", "verb", "finished_at"),                             // what was purged of late: the quota
	}
}

// OperationItem says what became of one record in one operation.
type OperationItem struct{ ent.Schema }

// Annotations implements ent.Interface.
func (OperationItem) Annotations() []schema.Annotation {
	return []schema.Annotation{entgql.RelayConnection(), entgql.Skip(entgql.SkipWhereInput)}
}

// Mixin implements ent.Interface.
func (OperationItem) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (OperationItem) Fields() []ent.Field {
	return []ent.Field{
		mixin.ID(gid.OperationItem),
		mixin.Ref("operation_id").Required().Immutable().Annotations(mixin.Hidden()),
		mixin.Ref("record_id").Required().Immutable().Comment("The record, or the id that was given for one."),
		field.Bool("direct").Comment("Whether the record was picked by the caller; else it came along."),
		field.Int("depth").Default(0).Comment("How many edges below a picked record it was found."),
		mixin.Ref("came_with").Annotations(mixin.Hidden()).
			Comment("The nearest record of the same operation above this one."),
		field.Enum("outcome").Values("CHANGED", "UNCHANGED", "FAILED", "NOT_PROCESSED").
			Annotations(entgql.Type("ItemOutcome")).Comment("What became of the record."),
		field.String("code").Optional().Nillable().Annotations(mixin.Hidden()),
		field.Bytes("params").Optional().Annotations(mixin.Hidden()).Comment("Parameters of the code as JSON: ids and field names, never values."),
		field.Enum("prior_state").GoType(lifecycle.State("")).Optional().Nillable().Annotations(entgql.Type("RecordState")).
			Comment("The record's state before the operation."),
		mixin.Ref("prior_operation_id").Annotations(mixin.Hidden()),
		field.Time("prior_purge_after").Optional().Nillable().SchemaType(mixin.TimeSchema()).Annotations(mixin.Hidden()),
		field.Time("prior_retired_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).Annotations(mixin.Hidden()),
		field.Time("prior_changed_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).Annotations(mixin.Hidden()),
		mixin.Ref("prior_changed_by").Annotations(mixin.Hidden()),
		field.Text("prior_reason").Optional().Nillable().Annotations(mixin.Hidden()),
		field.Int("version").Default(0).Annotations(mixin.Hidden()).
			Comment("The record's version before the operation; while it waits, the version the caller saw, zero for any."),
		field.Int("pending").Optional().Nillable().Annotations(mixin.Hidden()).Comment("Its place among those that wait to be dealt with. Null once it was."),
	}
}

// Edges implements ent.Interface.
func (OperationItem) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("operation", Operation.Type).Unique().Required().Immutable().Field("operation_id").
			Annotations(mixin.Restrict(), entgql.Skip(entgql.SkipAll)),
	}
}

// Indexes implements ent.Interface.
func (OperationItem) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("operation_id", "id"),
		index.Fields("operation_id", "came_with").Annotations(entsql.IndexWhere("came_with IS NOT NULL")),
		index.Fields("record_id", "operation_id"),
		index.Fields("operation_id", "pending").Annotations(entsql.IndexWhere("pending IS NOT NULL")), // what a worker does next
	}
}
