package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// AuditEvent says that something happened, or was refused. It has no edges, so
// that it outlives what it speaks of; triggers keep it append-only.
type AuditEvent struct{ ent.Schema }

// Annotations implements ent.Interface.
func (AuditEvent) Annotations() []schema.Annotation {
	return []schema.Annotation{entgql.RelayConnection(), entgql.QueryField()}
}

// Mixin implements ent.Interface.
func (AuditEvent) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (AuditEvent) Fields() []ent.Field {
	return []ent.Field{
		mixin.ID(gid.Event),
		field.Time("at").SchemaType(mixin.TimeSchema()).Comment("When it happened."),
		field.String("action").Comment("What was done or asked for, such as CREATE, UPDATE, DELETE, SIGN_IN."),
		field.Enum("outcome").Values("SUCCEEDED", "REFUSED", "FAILED").Annotations(entgql.Type("AuditOutcome")).Comment("How it ended."),
		field.String("code").Optional().Nillable().Annotations(mixin.Hidden()),
		mixin.Ref("actor_id").Annotations(entgql.Skip(entgql.SkipType)),
		mixin.Ref("token_id").Annotations(mixin.Hidden()),
		mixin.Ref("record_id").Comment("The record it concerns."),
		field.String("record_type").Optional().Nillable().Annotations(mixin.Hidden()),
		mixin.Ref("owner_id").Annotations(mixin.Hidden()),
		mixin.Ref("team_id").Annotations(mixin.Hidden()),
		field.Enum("from").GoType(lifecycle.State("")).Optional().Nillable().Annotations(entgql.Type("RecordState"), mixin.Shown()).
			StorageKey("from_state").Comment("The record's state before."),
		field.Enum("to").GoType(lifecycle.State("")).Optional().Nillable().Annotations(entgql.Type("RecordState"), mixin.Shown()).
			StorageKey("to_state").Comment("The record's state after. Null once it is purged."),
		field.Int("version").Optional().Nillable().Annotations(mixin.Shown()).Comment("The record's version after."),
		mixin.Ref("operation_id").Annotations(entgql.Skip(entgql.SkipType)),
		field.String("request_id").Optional().Nillable().Comment("The request it happened in, as X-Request-ID names it."),
		field.String("rule").Optional().Nillable().Annotations(mixin.Shown()).Comment("The policy rule that decided."),
		field.Int("policy_version").Optional().Nillable().Annotations(mixin.Shown()).Comment("The version of the policy that decided."),
		field.Int("count").Optional().Nillable().Annotations(mixin.Shown()).Comment("How many records a refused request was about."),
		field.JSON("ids", []string{}).Optional().Annotations(mixin.Hidden()).Comment("Up to 20 of the records of a refused request."),
		field.JSON("detail", map[string]any{}).Optional().Annotations(mixin.Hidden()).Comment("Particulars that are not personal."),
		field.Bytes("sealed").Optional().Annotations(mixin.Hidden()).Comment("Personal values: reason, and changed fields with old and new values, under the record's seal."),
	}
}

// Indexes implements ent.Interface.
func (AuditEvent) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("tenant_id", "id"),
		index.Fields("record_id", "id"),
		index.Fields("operation_id"),
		index.Fields("tenant_id", "at"), // what happened in a period: statistics
	}
}

// Tombstone is what remains of a purged record.
type Tombstone struct{ ent.Schema }

// Annotations implements ent.Interface.
func (Tombstone) Annotations() []schema.Annotation { return []schema.Annotation{mixin.Hidden()} }

// Mixin implements ent.Interface.
func (Tombstone) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (Tombstone) Fields() []ent.Field {
	return []ent.Field{
		mixin.ID(gid.Tombstone),
		mixin.Ref("record_id").Required(),
		field.String("record_type"),
		field.String("number").Optional().Nillable(),
		mixin.Ref("owner_id"),
		mixin.Ref("team_id"),
		mixin.Ref("purged_by"),
		field.Time("purged_at").SchemaType(mixin.TimeSchema()),
		mixin.Ref("operation_id").Required(),
		field.JSON("history", []map[string]any{}).Comment("The states the record went through, with times and operations."),
		field.JSON("refs", map[string]string{}).Comment("What the record pointed to: edge and id."),
		field.Bytes("content_hash").Comment("HMAC-SHA-256 of the record's last content under the tenant's key."),
		field.String("export_manifest").Optional().Nillable().Comment("SHA-256 of the manifest of the export that holds that content, where one was required."),
		field.Int("size").Optional().Nillable().Comment("How many bytes went with it: those of an attachment's file. Null where it had none."),
	}
}

// Indexes implements ent.Interface.
func (Tombstone) Indexes() []ent.Index {
	return []ent.Index{index.Fields("record_id").Unique(), index.Fields("tenant_id", "purged_at")}
}

// RecordNumber is a number given out. Rows are only ever added, so that no
// number is given out twice.
type RecordNumber struct{ ent.Schema }

// Annotations implements ent.Interface.
func (RecordNumber) Annotations() []schema.Annotation { return []schema.Annotation{mixin.Hidden()} }

// Mixin implements ent.Interface.
func (RecordNumber) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (RecordNumber) Fields() []ent.Field {
	return []ent.Field{
		field.String("record_type").Immutable(),
		field.String("number").Immutable(),
		mixin.Ref("record_id").Required().Immutable(),
	}
}

// Indexes implements ent.Interface.
func (RecordNumber) Indexes() []ent.Index {
	return []ent.Index{index.Fields("tenant_id", "record_type", "number").Unique()}
}

// NumberCounter is where a tenant's numbers of a type go on.
type NumberCounter struct{ ent.Schema }

// Annotations implements ent.Interface.
func (NumberCounter) Annotations() []schema.Annotation { return []schema.Annotation{mixin.Hidden()} }

// Mixin implements ent.Interface.
func (NumberCounter) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (NumberCounter) Fields() []ent.Field {
	return []ent.Field{field.String("record_type").Immutable(), field.Int("next").Default(1)}
}

// Indexes implements ent.Interface.
func (NumberCounter) Indexes() []ent.Index {
	return []ent.Index{index.Fields("tenant_id", "record_type").Unique()}
}

// PolicyRule is one row of a tenant's Casbin policy.
type PolicyRule struct{ ent.Schema }

// Annotations implements ent.Interface.
func (PolicyRule) Annotations() []schema.Annotation { return []schema.Annotation{mixin.Hidden()} }

// Mixin implements ent.Interface.
func (PolicyRule) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (PolicyRule) Fields() []ent.Field {
	fields := []ent.Field{mixin.ID(gid.Policy), field.Int("position"), field.String("ptype")}
	for _, v := range []string{"v0", "v1", "v2", "v3", "v4", "v5"} {
		fields = append(fields, field.String(v).Default(""))
	}
	return fields
}

// Indexes implements ent.Interface.
func (PolicyRule) Indexes() []ent.Index {
	return []ent.Index{index.Fields("tenant_id", "position")}
}

// PolicyHead is the version of a tenant's policy in force.
type PolicyHead struct{ ent.Schema }

// Annotations implements ent.Interface.
func (PolicyHead) Annotations() []schema.Annotation { return []schema.Annotation{mixin.Hidden()} }

// Mixin implements ent.Interface.
func (PolicyHead) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (PolicyHead) Fields() []ent.Field {
	return []ent.Field{
		field.Int("version").Default(1),
		field.JSON("duties", []map[string]any{}).Optional().Comment("The sets of roles of which nobody may have two: name and roles."),
	}
}

// Indexes implements ent.Interface.
func (PolicyHead) Indexes() []ent.Index { return []ent.Index{index.Fields("tenant_id").Unique()} }

// PolicyRevision is a tenant's policy as one change left it. Rows are only ever
// added.
type PolicyRevision struct{ ent.Schema }

// Annotations implements ent.Interface.
func (PolicyRevision) Annotations() []schema.Annotation {
	return []schema.Annotation{entgql.RelayConnection(), entgql.Skip(entgql.SkipWhereInput)}
}

// Mixin implements ent.Interface.
func (PolicyRevision) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (PolicyRevision) Fields() []ent.Field {
	return []ent.Field{
		mixin.ID(gid.PolicyRevision),
		field.Int("version").Immutable().Comment("The version of the policy that this is."),
		mixin.Ref("author_id").Immutable().Annotations(mixin.Hidden()),
		field.Text("message").Immutable().Default("").Comment("Why it was changed, in the author's words."),
		field.Text("csv").StorageKey("rows").Immutable().Comment("The rows, as a Casbin policy file."),
		field.JSON("duties", []map[string]any{}).Optional().Immutable().Annotations(mixin.Hidden()),
		field.Time("created_at").Immutable().SchemaType(mixin.TimeSchema()).Comment("When it came into force."),
	}
}

// Edges implements ent.Interface.
func (PolicyRevision) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("author", User.Type).Unique().Immutable().Field("author_id").Annotations(mixin.Restrict()).
			Comment("Who changed the policy. Null for the system: Lethe itself, or its operator on the machine."),
	}
}

// Indexes implements ent.Interface.
func (PolicyRevision) Indexes() []ent.Index {
	return []ent.Index{index.Fields("tenant_id", "version").Unique()}
}

// PolicyTest is a question with the answer a tenant's policy has to give.
type PolicyTest struct{ ent.Schema }

// Annotations implements ent.Interface.
func (PolicyTest) Annotations() []schema.Annotation { return []schema.Annotation{mixin.Hidden()} }

// Mixin implements ent.Interface.
func (PolicyTest) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (PolicyTest) Fields() []ent.Field {
	return []ent.Field{
		mixin.ID(gid.PolicyTest),
		field.String("name").NotEmpty(),
		field.Bytes("question").Comment("Who wants to do what to what, and whether he may, as JSON."),
	}
}

// Indexes implements ent.Interface.
func (PolicyTest) Indexes() []ent.Index {
	return []ent.Index{index.Fields("tenant_id", "name").Unique()}
}

// Secret proves that the key in use is the one the database was written with.
type Secret struct{ ent.Schema }

// Annotations implements ent.Interface.
func (Secret) Annotations() []schema.Annotation { return []schema.Annotation{mixin.Hidden()} }

// Fields implements ent.Interface.
func (Secret) Fields() []ent.Field {
	return []ent.Field{field.String("name").Unique(), field.Bytes("value")}
}
