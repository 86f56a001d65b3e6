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

// ApprovalRule says for what others have to be asked, and whom.
type ApprovalRule struct{ ent.Schema }

// Annotations implements ent.Interface.
func (ApprovalRule) Annotations() []schema.Annotation { return []schema.Annotation{mixin.Hidden()} }

// Mixin implements ent.Interface.
func (ApprovalRule) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (ApprovalRule) Fields() []ent.Field {
	return []ent.Field{
		field.String("name").NotEmpty().MaxLen(64).Comment("By which the rule is known in its tenant."),
		field.String("subject").Comment("A verb, or what else others have to be asked for."),
		field.String("record_type").Optional().Nillable().Comment("Only records of this type count."),
		field.Text("condition").Optional().Nillable().Comment("Only records count of which this holds, in the language of policies."),
		field.Int("over").Default(0).Comment("Asks where more records than this count."),
		field.Bool("by_filter").Default(false).Comment("Asks only where a filter selects."),
		field.Bool("open_deals").Default(false).Comment("Only customers count that have live deals."),
		field.Int("approvals").Default(1).Comment("How many have to agree."),
		field.String("role").Default("").Comment("Who may agree. Empty for holders of policy.edit."),
		field.Int("request_hours").Default(72).Comment("How long it is waited for them."),
		field.Int("use_hours").Default(24).Comment("How long what they agreed to may be used."),
		field.String("execution").Default("AUTOMATIC").Comment("AUTOMATIC, or CONFIRM: it waits for somebody to say that it is to run."),
		field.Bool("enabled").Default(true),
	}
}

// Indexes implements ent.Interface.
func (ApprovalRule) Indexes() []ent.Index {
	return []ent.Index{index.Fields("tenant_id", "name").Unique()}
}

// Approval asks others to agree to something, which is frozen as it was asked for.
type Approval struct{ ent.Schema }

// Annotations implements ent.Interface.
func (Approval) Annotations() []schema.Annotation {
	return []schema.Annotation{entgql.RelayConnection(), entgql.Skip(entgql.SkipWhereInput)}
}

// Mixin implements ent.Interface.
func (Approval) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (Approval) Fields() []ent.Field {
	return []ent.Field{
		mixin.ID(gid.Approval),
		field.Enum("subject").Values("DELETE", "VOID", "ARCHIVE", "SUSPEND", "PURGE", "HOLD_RELEASE", "SHORTEN_RETENTION", "GRANT", "BRAKE").
			Annotations(entgql.Type("ApprovalSubject")).Immutable().Comment("What is asked for."),
		field.Enum("status").Values("PENDING", "APPROVED", "DONE", "FAILED", "REJECTED", "CANCELLED", "EXPIRED").
			Annotations(entgql.Type("ApprovalStatus")).Comment("How far it has come, or how it ended."),
		field.Enum("execution").Values("AUTOMATIC", "CONFIRM").Annotations(entgql.Type("ApprovalExecution")).Immutable().
			Comment("What happens once enough have agreed."),
		mixin.Ref("operation_id").Immutable().Annotations(mixin.Hidden()),
		mixin.Ref("target_id").Immutable().Annotations(mixin.Hidden()).Comment("What it is about, if that is no operation: a hold."),
		field.Bytes("payload").Optional().Immutable().Annotations(mixin.Hidden()).Comment("What was asked for, as JSON."),
		field.Bytes("needs").Immutable().Annotations(mixin.Hidden()).Comment("The rules that asked for it, with who has to agree, as JSON."),
		field.Text("roles").Immutable().Annotations(mixin.Hidden()).Comment("The roles of needs, each between line ends, for queries."),
		field.Text("reason").Optional().Nillable().Immutable().Comment("The reason given."),
		field.Int("records").Default(0).Immutable().Comment("How many records it would change, those that come along included."),
		field.Int64("policy_version").Immutable().Annotations(mixin.Hidden()).Comment("The policy's version when it was asked for."),
		field.Int("use_hours").Immutable().Annotations(mixin.Hidden()),
		mixin.Ref("requested_by_id").Immutable().Annotations(mixin.Hidden()),
		field.Time("created_at").Immutable().SchemaType(mixin.TimeSchema()).Comment("When it was asked for."),
		field.Time("expires_at").Immutable().SchemaType(mixin.TimeSchema()).Comment("Until when it may be decided."),
		field.Time("approved_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).Comment("When enough had agreed."),
		field.Time("use_until").Optional().Nillable().SchemaType(mixin.TimeSchema()).Comment("Until when it may be used, once enough have agreed."),
		field.Time("confirmed_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).Comment("When it was confirmed, where that is needed."),
		field.Time("ended_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).Comment("When it was used, or ended otherwise."),
		field.String("code").Optional().Nillable().Annotations(mixin.Hidden()).Comment("Why what was agreed to could not be done."),
		field.Time("waits_until").Optional().Nillable().SchemaType(mixin.TimeSchema()).Annotations(mixin.Hidden()).
			Comment("When it expires as it is now. Null once it has ended."),
	}
}

// Edges implements ent.Interface.
func (Approval) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("operation", Operation.Type).Unique().Immutable().Field("operation_id").Annotations(mixin.Restrict()).
			Comment("The operation that waits for it, if it is one."),
		edge.To("requested_by", User.Type).Unique().Immutable().Field("requested_by_id").Annotations(mixin.Restrict()).
			Comment("Who asks."),
	}
}

// Indexes implements ent.Interface.
func (Approval) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("tenant_id", "id"),
		index.Fields("operation_id"),
		index.Fields("waits_until").Annotations(entsql.IndexWhere("waits_until IS NOT NULL")), // what runs or expires next
	}
}

// ApprovalVote is what one user said to a request.
type ApprovalVote struct{ ent.Schema }

// Annotations implements ent.Interface.
func (ApprovalVote) Annotations() []schema.Annotation { return []schema.Annotation{mixin.Hidden()} }

// Mixin implements ent.Interface.
func (ApprovalVote) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (ApprovalVote) Fields() []ent.Field {
	return []ent.Field{
		mixin.Ref("approval_id").Required().Immutable(),
		mixin.Ref("user_id").Required().Immutable(),
		field.Bool("approve"),
		field.Text("comment").Optional().Nillable(),
		field.Time("at").SchemaType(mixin.TimeSchema()),
	}
}

// Edges implements ent.Interface.
func (ApprovalVote) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("approval", Approval.Type).Unique().Required().Immutable().Field("approval_id").
			Annotations(mixin.Restrict(), entgql.Skip(entgql.SkipAll)),
		edge.To("user", User.Type).Unique().Required().Immutable().Field("user_id").
			Annotations(mixin.Restrict(), entgql.Skip(entgql.SkipAll)),
	}
}

// Indexes implements ent.Interface.
func (ApprovalVote) Indexes() []ent.Index {
	return []ent.Index{index.Fields("approval_id", "user_id").Unique()}
}
