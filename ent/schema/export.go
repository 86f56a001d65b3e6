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

// exportFormats are the forms of a file of records.
var exportFormats = []string{"CSV", "XLSX", "JSONL"}

// Export is a file of the records of one type that somebody asked for. Once its
// bytes are gone it stays, as the proof of what was exported.
type Export struct{ ent.Schema }

// Annotations implements ent.Interface.
func (Export) Annotations() []schema.Annotation {
	return []schema.Annotation{entgql.RelayConnection(), entgql.Skip(entgql.SkipWhereInput)}
}

// Mixin implements ent.Interface.
func (Export) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (Export) Fields() []ent.Field {
	when := func(name, comment string) ent.Field {
		return field.Time(name).Optional().Nillable().SchemaType(mixin.TimeSchema()).Comment(comment)
	}
	return []ent.Field{
		mixin.ID(gid.Export),
		field.String("record_type").Immutable().Annotations(mixin.Hidden()),
		field.Text("filter").Optional().Nillable().Immutable().Comment("Which records of the type, as JSON in the form of their where-input. Null is all of them."),
		field.JSON("states", []string{}).Immutable().Annotations(mixin.Hidden()),
		field.Enum("format").Values(exportFormats...).Annotations(entgql.Type("ExportFormat")).Immutable().Comment("The form of the file."),
		field.JSON("encrypt_to", []string{}).Immutable().Annotations(mixin.Hidden()),
		field.Text("reason").Optional().Nillable().Immutable().Validate(mixin.Characters(mixin.MaxReason)).Comment("The reason given."),
		field.Enum("status").Values("PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED").Default("PENDING").
			Annotations(entgql.Type("ExportStatus")).Comment("How far it has come, or how it ended."),
		field.Int("rows").Default(0).Comment("How many records are in the file; while it is written, so far."),
		field.Text("manifest").Optional().Nillable().Comment("What the file is and what is in it, as JSON. Null until it is written."),
		field.String("manifest_sha256").Optional().Nillable().StorageKey("manifest_sha256").Annotations(mixin.Hidden()).
			Comment("SHA-256 of the manifest, as 64 hexadecimal digits in lower case."),
		field.Bool("complete").Default(false).Comment("Whether the records are in it as they are, so that it stands for them where an export is required: nothing was masked or cut."),
		field.String("code").Optional().Nillable().Annotations(mixin.Hidden()),
		field.Int("attempt").Default(0).Annotations(mixin.Hidden()).Comment("Counts who works on it: only the last one may finish it."),
		mixin.Ref("blob_id").Annotations(mixin.Hidden()).Comment("Under which its bytes are kept. Null while there are none, and outside of the server."),
		mixin.Ref("schedule_id").Immutable().Annotations(mixin.Hidden()),
		mixin.Ref("requested_by_id").Required().Immutable().Annotations(mixin.Hidden()),
		field.Time("created_at").Immutable().SchemaType(mixin.TimeSchema()).Comment("When it was asked for."),
		when("worked_at", "When somebody last worked on it. Null once it has ended."),
		when("finished_at", "When it ended."),
		when("expires_at", "When its file goes. Null while it is not there, and for exports of a schedule, which keeps the newest."),
		when("downloaded_at", "When its file was first fetched."),
	}
}

// Edges implements ent.Interface.
func (Export) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("requested_by", User.Type).Unique().Required().Immutable().Field("requested_by_id").Annotations(mixin.Restrict()).
			Comment("Who asked for it: it holds what he may read."),
		edge.To("schedule", ExportSchedule.Type).Unique().Immutable().Field("schedule_id").Annotations(mixin.Restrict()).
			Comment("The schedule that asked for it in his name, if one did."),
	}
}

// Indexes implements ent.Interface.
func (Export) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("tenant_id", "id"),
		index.Fields("schedule_id"),
		index.Fields("worked_at").Annotations(entsql.IndexWhere("worked_at IS NOT NULL")),
		index.Fields("expires_at").Annotations(entsql.IndexWhere("expires_at IS NOT NULL")),
	}
}

// ExportSchedule asks for an export again and again. Once removed it stays, as
// the proof of what was exported by it.
type ExportSchedule struct{ ent.Schema }

// Annotations implements ent.Interface.
func (ExportSchedule) Annotations() []schema.Annotation {
	return []schema.Annotation{entgql.RelayConnection(), entgql.Skip(entgql.SkipWhereInput)}
}

// Mixin implements ent.Interface.
func (ExportSchedule) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (ExportSchedule) Fields() []ent.Field {
	when := func(name, comment string) ent.Field {
		return field.Time(name).Optional().Nillable().SchemaType(mixin.TimeSchema()).Comment(comment)
	}
	return []ent.Field{
		mixin.ID(gid.ExportSchedule),
		field.String("record_type").Immutable().Annotations(mixin.Hidden()),
		field.Text("filter").Optional().Nillable().Immutable().Comment("Which records of the type, as JSON in the form of their where-input. Null is all of them."),
		field.JSON("states", []string{}).Immutable().Annotations(mixin.Hidden()),
		field.Enum("format").Values(exportFormats...).Annotations(entgql.Type("ExportFormat")).Immutable().Comment("The form of the files."),
		field.JSON("encrypt_to", []string{}).Immutable().Annotations(mixin.Hidden()),
		field.Text("reason").Optional().Nillable().Immutable().Validate(mixin.Characters(mixin.MaxReason)).Comment("The reason given."),
		field.String("every").Immutable().Comment("When, as a cron expression in UTC."),
		field.Int("keep").Immutable().Comment("How many of its files are kept, the newest."),
		field.String("code").Optional().Nillable().Annotations(mixin.Hidden()),
		mixin.Ref("requested_by_id").Required().Immutable().Annotations(mixin.Hidden()),
		field.Time("created_at").Immutable().SchemaType(mixin.TimeSchema()).Comment("When it was made."),
		when("last_run_at", "When it last asked for an export."),
		when("next_run_at", "When it asks next. Null when it does not any more."),
		when("removed_at", "When it was removed. Null while it is there."),
	}
}

// Edges implements ent.Interface.
func (ExportSchedule) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("requested_by", User.Type).Unique().Required().Immutable().Field("requested_by_id").Annotations(mixin.Restrict()).
			Comment("Who made it: its exports hold what he may read then."),
	}
}

// Indexes implements ent.Interface.
func (ExportSchedule) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("tenant_id", "id"),
		index.Fields("next_run_at").Annotations(entsql.IndexWhere("next_run_at IS NOT NULL")),
	}
}
