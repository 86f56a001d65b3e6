// Package mixin holds what schemas share: the life of a record, its tenant and
// owner, its timestamps.
package mixin

import (
	"crypto/rand"
	"regexp"
	"unicode/utf8"

	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"entgo.io/ent/schema/mixin"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// Text limits, in characters.
const (
	MaxName    = 500
	MaxSubject = 2_000
	MaxReason  = 1_000
	// MaxKey is in bytes, for text that is indexed whole; a line of a mail has as
	// many (RFC 5322 section 2.1.1).
	MaxKey = 998
	// MaxBody is in bytes: 256 KiB.
	MaxBody = 256 << 10
)

// Edges only need the name of the type they point to, and the schema package
// imports this one, so the types are named again here.
type (
	// User stands for schema.User.
	User struct{ ent.Schema }
	// Team stands for schema.Team.
	Team struct{ ent.Schema }
	// Operation stands for schema.Operation.
	Operation struct{ ent.Schema }
)

// SealSize is the length of a record's seal in bytes (LIFECYCLE.md section 8).
const SealSize = 16

// NewSeal returns fresh random bytes under which a record's personal values
// are sealed in the audit log.
func NewSeal() []byte {
	b := make([]byte, SealSize)
	if _, err := rand.Read(b); err != nil {
		panic("mixin: no random bytes: " + err.Error())
	}
	return b
}

// IDSchema is how ids are stored.
func IDSchema() map[string]string {
	return map[string]string{dialect.Postgres: "uuid", dialect.SQLite: "text"}
}

// TimeSchema is how points in time are stored: UTC, to the microsecond.
func TimeSchema() map[string]string {
	return map[string]string{dialect.Postgres: "timestamptz", dialect.SQLite: "datetime"}
}

// ID returns the id field of entities of type t.
func ID(t gid.Type) ent.Field {
	return field.String("id").GoType(gid.ID{}).DefaultFunc(func() gid.ID { return gid.New(t) }).
		SchemaType(IDSchema()).Immutable().Annotations(entgql.Type("ID"))
}

// Ref returns a field that holds the id of another entity.
func Ref(name string) *RefField { return &RefField{name: name} }

// RefField builds a reference field.
type RefField struct {
	name     string
	required bool
	frozen   bool
	comment  string
	shown    []schema.Annotation
}

// Comment says what the reference is for.
func (r *RefField) Comment(text string) *RefField { r.comment = text; return r }

// Required makes the reference not null.
func (r *RefField) Required() *RefField { r.required = true; return r }

// Immutable refuses later changes.
func (r *RefField) Immutable() *RefField { r.frozen = true; return r }

// Annotations adds annotations.
func (r *RefField) Annotations(a ...schema.Annotation) *RefField {
	r.shown = append(r.shown, a...)
	return r
}

// Descriptor implements ent.Field.
func (r *RefField) Descriptor() *field.Descriptor {
	b := field.String(r.name).GoType(gid.ID{}).SchemaType(IDSchema()).Annotations(entgql.Type("ID")).Annotations(r.shown...).Comment(r.comment)
	if !r.required {
		b = b.Optional().Nillable()
	}
	if r.frozen {
		b = b.Immutable()
	}
	return b.Descriptor()
}

// Hidden keeps a field or edge out of the API.
func Hidden() schema.Annotation { return entgql.Skip(entgql.SkipAll) }

// Shown keeps a field out of filters only: lifecycle columns are read, and
// selected by the states argument.
func Shown() schema.Annotation { return entgql.Skip(entgql.SkipWhereInput) }

// Characters returns a validator that refuses text of more than n characters.
func Characters(n int) func(string) error {
	return func(s string) error {
		if utf8.RuneCountInString(s) > n {
			return TooLongError{Max: n, Unit: "characters"}
		}
		return nil
	}
}

// Bytes returns a validator that refuses text of more than n bytes.
func Bytes(n int) func(string) error {
	return func(s string) error {
		if len(s) > n {
			return TooLongError{Max: n, Unit: "bytes"}
		}
		return nil
	}
}

var (
	e164   = regexp.MustCompile(`^\+[1-9][0-9]{1,14}$`)
	sha256 = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// E164 refuses phone numbers that are not in the form of ITU-T E.164.
func E164(s string) error {
	if !e164.MatchString(s) {
		return FormatError{"a phone number in E.164, such as +74951234567"}
	}
	return nil
}

// SHA256 refuses what is not a SHA-256 in lower case hexadecimal.
func SHA256(s string) error {
	if !sha256.MatchString(s) {
		return FormatError{"a SHA-256 as 64 hexadecimal digits in lower case"}
	}
	return nil
}

// Restrict is the annotation of every foreign key: nothing is ever removed
// because something else was.
func Restrict() schema.Annotation { return entsql.OnDelete(entsql.Restrict) }

// Tenant binds a row to one tenant for good.
type Tenant struct{ mixin.Schema }

// Fields implements ent.Mixin.
func (Tenant) Fields() []ent.Field {
	return []ent.Field{Ref("tenant_id").Required().Immutable().Annotations(Hidden())}
}

// Timestamps says when a row was made and last written.
type Timestamps struct{ mixin.Schema }

// Fields implements ent.Mixin.
func (Timestamps) Fields() []ent.Field {
	return []ent.Field{
		field.Time("created_at").Immutable().SchemaType(TimeSchema()).
			Annotations(entgql.OrderField("CREATED_AT"), lifecycle.ReadOnly{}).
			Comment("When the record was created."),
		field.Time("updated_at").SchemaType(TimeSchema()).
			Annotations(entgql.OrderField("UPDATED_AT"), lifecycle.ReadOnly{}).
			Comment("When the record was last written, by an update or by a verb."),
	}
}

// Owned gives a row an owner and a team, the two things row policies speak of.
type Owned struct{ mixin.Schema }

// Fields implements ent.Mixin.
func (Owned) Fields() []ent.Field {
	return []ent.Field{
		Ref("owner_id").Annotations(entgql.Skip(entgql.SkipType)),
		Ref("team_id").Annotations(entgql.Skip(entgql.SkipType)),
	}
}

// Edges implements ent.Mixin.
func (Owned) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("owner", User.Type).Unique().Field("owner_id").
			Annotations(Restrict(), entgql.Skip(entgql.SkipWhereInput)).
			Comment("The user who is responsible for the record."),
		edge.To("team", Team.Type).Unique().Field("team_id").
			Annotations(Restrict(), entgql.Skip(entgql.SkipWhereInput)).
			Comment("The team the record belongs to."),
	}
}

// Record gives a schema the life of a record. It brings tenant, owner and
// timestamps with it.
type Record struct {
	mixin.Schema
	lifecycle.Record
}

// Annotations implements ent.Mixin.
func (r Record) Annotations() []schema.Annotation {
	return []schema.Annotation{
		r.Record,
		entgql.RelayConnection(),
		entgql.QueryField(),
		entgql.Implements("Record"),
	}
}

// Fields implements ent.Mixin.
func (r Record) Fields() []ent.Field {
	fields := []ent.Field{ID(gid.Type(r.Type))}
	fields = append(fields, Tenant{}.Fields()...)
	fields = append(fields, Owned{}.Fields()...)
	fields = append(fields, Timestamps{}.Fields()...)
	for _, u := range r.Uniques {
		fields = append(fields, field.String(u.Field+"_key").Optional().Nillable().Annotations(Hidden(), lifecycle.ReadOnly{}))
	}
	if r.Numbered {
		fields = append(fields, field.String("number").Immutable().Validate(Characters(64)).
			Annotations(lifecycle.Searched{As: "u"}, entgql.OrderField("NUMBER")).
			Comment("The number people know the record by. Never reused, not even after a purge."))
	}
	return append(fields,
		field.Enum("state").GoType(lifecycle.State("")).Default(string(lifecycle.Active)).
			Annotations(Shown(), entgql.Type("RecordState")).Comment("Where the record is in its life."),
		field.Enum("prior_state").GoType(lifecycle.State("")).Optional().Nillable().
			Annotations(Hidden()),
		field.Time("state_changed_at").SchemaType(TimeSchema()).
			Annotations(Shown(), entgql.OrderField("STATE_CHANGED_AT")).
			Comment("When the record came into its state."),
		Ref("state_changed_by_id").Annotations(Hidden()),
		field.Text("state_reason").Optional().Nillable().Annotations(Shown()).
			Comment("The reason given for the state."),
		Ref("operation_id").Annotations(Hidden()),
		field.Time("orphaned_at").Optional().Nillable().SchemaType(TimeSchema()).Annotations(Shown()).
			Comment("When the record's owner was purged while the record stayed in the bin by an operation of its own."),
		field.Bytes("seal").Sensitive().DefaultFunc(NewSeal).Immutable().Annotations(Hidden()),
		field.Time("retired_at").Optional().Nillable().SchemaType(TimeSchema()).Annotations(Hidden()),
		field.Time("purge_after").Optional().Nillable().SchemaType(TimeSchema()).Annotations(Shown()).
			Comment("When the sweeper may purge the record. Null while nothing does."),
		field.Time("suspended_until").Optional().Nillable().SchemaType(TimeSchema()).Annotations(Shown()).
			Comment("When the suspension ends."),
		field.Enum("suspended_then").Values("RESTORE", "DELETE").Optional().Nillable().Annotations(Hidden()),
		field.Int("version").Default(1).Annotations(Shown()).
			Comment("Counts the record's changes. Name it in an update or a verb to act only on what you saw."),
	)
}

// Edges implements ent.Mixin.
func (Record) Edges() []ent.Edge {
	return append(Owned{}.Edges(),
		edge.To("state_changed_by", User.Type).Unique().Field("state_changed_by_id").
			Annotations(Restrict(), entgql.Skip(entgql.SkipWhereInput)).
			Comment("Who brought the record into its state."),
		edge.To("operation", Operation.Type).Unique().Field("operation_id").
			Annotations(Restrict(), entgql.Skip(entgql.SkipWhereInput)).
			Comment("The operation that put the record into its state. Null while it never left ACTIVE."),
	)
}

// Indexes implements ent.Mixin.
func (r Record) Indexes() []ent.Index {
	out := []ent.Index{
		index.Fields("tenant_id", "state", "state_changed_at", "id"),
		index.Fields("operation_id").Annotations(entsql.IndexWhere("operation_id IS NOT NULL")),
		index.Fields("purge_after").Annotations(entsql.IndexWhere("purge_after IS NOT NULL")),
		index.Fields("owner_id"),
	}
	for _, u := range r.Uniques {
		cols := []string{"tenant_id"}
		if u.Within != "" {
			cols = append(cols, u.Within)
		}
		out = append(out, index.Fields(append(cols, u.Field+"_key")...).Unique().
			Annotations(entsql.IndexWhere("retired_at IS NULL")))
	}
	if r.Numbered {
		out = append(out, index.Fields("tenant_id", "number").Unique())
	}
	return out
}
