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
)

// Tenant is one organisation; nothing crosses its border.
type Tenant struct{ ent.Schema }

// Annotations implements ent.Interface.
func (Tenant) Annotations() []schema.Annotation { return []schema.Annotation{mixin.Hidden()} }

// Fields implements ent.Interface.
func (Tenant) Fields() []ent.Field {
	return []ent.Field{
		mixin.ID(gid.Tenant),
		field.String("name").Unique().NotEmpty().MaxLen(64),
		field.Int("bin_days").Default(30).Comment("How long a deleted record stays in the bin, in days."),
		field.Int("hold_release_days").Default(30).Comment("How long the clocks of a record stand still after its last legal hold was released, in days."),
		// The brake: null is no cap.
		field.Int("brake_records").Optional().Nillable().Default(1_000).Comment("Records one operation may change that was not previewed."),
		field.Int("brake_percent").Optional().Nillable().Default(10).Comment("Percent of a type's live records one operation may take, where there are more than 1,000."),
		field.Int("brake_hour").Optional().Nillable().Default(2_000).Comment("Records one actor may change in an hour."),
		field.Int("brake_day").Optional().Nillable().Default(5_000).Comment("Records one actor may change in a day."),
		field.Int("purge_day").Optional().Nillable().Default(50_000).Comment("Records that may be purged in 24 hours, by users and by the sweeper. Null is no quota."),
		field.Int("export_days").Default(7).Comment("How long the file of an export is kept, in days."),
		field.Text("export_before").Optional().Nillable().Comment("The verbs that wait for an export, by type of record, as JSON. Null is none."),
		field.Int("settings_version").Default(1).Comment("Counts the changes of the tenant's settings."),
		field.Time("created_at").Immutable().SchemaType(mixin.TimeSchema()),
	}
}

// User is a person who may sign in to a tenant.
type User struct{ ent.Schema }

// Annotations implements ent.Interface.
func (User) Annotations() []schema.Annotation { return []schema.Annotation{entgql.RelayConnection()} }

// Mixin implements ent.Interface.
func (User) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (User) Fields() []ent.Field {
	return []ent.Field{
		mixin.ID(gid.User),
		field.String("email").Annotations(entgql.OrderField("EMAIL")).Comment("The address the user signs in by."),
		field.String("email_key").Annotations(mixin.Hidden()),
		field.String("external_subject").Optional().Nillable().Annotations(mixin.Hidden()).
			Comment("What an issuer of tokens calls the user, where it does not name him by address."),
		field.String("name").Annotations(entgql.OrderField("NAME")).Comment("The user's name."),
		field.Bool("active").Default(true).Comment("Whether the user may do anything at all."),
		field.Time("created_at").Immutable().SchemaType(mixin.TimeSchema()).Annotations(entgql.OrderField("CREATED_AT")).
			Comment("When the user was created."),
		// To the minute: stamping every request would make each of them a write.
		field.Time("last_seen_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).Annotations(mixin.Hidden()),
		field.Int("version").Default(1).Annotations(mixin.Shown()).
			Comment("Counts the user's changes. Name it in an update to act only on what you saw."),
	}
}

// Edges implements ent.Interface.
func (User) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("teams", Team.Type).Comment("The teams the user is in, oldest team first."),
	}
}

// Indexes implements ent.Interface.
func (User) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("tenant_id", "email_key").Unique(),
		index.Fields("tenant_id", "external_subject").Unique(),
	}
}

// Team is a group of users who share records.
type Team struct{ ent.Schema }

// Annotations implements ent.Interface.
func (Team) Annotations() []schema.Annotation { return []schema.Annotation{entgql.RelayConnection()} }

// Mixin implements ent.Interface.
func (Team) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (Team) Fields() []ent.Field {
	return []ent.Field{
		mixin.ID(gid.Team),
		field.String("name").NotEmpty().Annotations(entgql.OrderField("NAME")).Comment("The team's name."),
	}
}

// Edges implements ent.Interface.
func (Team) Edges() []ent.Edge {
	return []ent.Edge{edge.From("users", User.Type).Ref("teams").Annotations(mixin.Hidden())}
}

// Indexes implements ent.Interface.
func (Team) Indexes() []ent.Index {
	return []ent.Index{index.Fields("tenant_id", "name").Unique()}
}

// credential holds what tokens, sessions and sign-in links share: the secret is
// shown once and kept as a hash.
func credential(t gid.Type) []ent.Field {
	return []ent.Field{
		mixin.ID(t),
		mixin.Ref("user_id").Required().Immutable(),
		field.Bytes("hash").Sensitive().Immutable(),
		field.Time("created_at").Immutable().SchemaType(mixin.TimeSchema()),
		field.Time("expires_at").Immutable().SchemaType(mixin.TimeSchema()),
		field.Time("used_at").Optional().Nillable().SchemaType(mixin.TimeSchema()),
		field.Time("revoked_at").Optional().Nillable().SchemaType(mixin.TimeSchema()),
	}
}

func credentialIndexes() []ent.Index {
	return []ent.Index{index.Fields("hash").Unique(), index.Fields("user_id")}
}

// ApiToken is a bearer token of a user.
type ApiToken struct{ ent.Schema }

// Annotations implements ent.Interface.
func (ApiToken) Annotations() []schema.Annotation { return []schema.Annotation{mixin.Hidden()} }

// Mixin implements ent.Interface.
func (ApiToken) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (ApiToken) Fields() []ent.Field {
	return append(credential(gid.Token), field.String("name").Optional().Nillable().Immutable().Comment("What the token is for, in its maker's words."))
}

// Indexes implements ent.Interface.
func (ApiToken) Indexes() []ent.Index { return credentialIndexes() }

// Session is a browser that signed in.
type Session struct{ ent.Schema }

// Annotations implements ent.Interface.
func (Session) Annotations() []schema.Annotation { return []schema.Annotation{mixin.Hidden()} }

// Mixin implements ent.Interface.
func (Session) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (Session) Fields() []ent.Field { return credential(gid.Session) }

// Indexes implements ent.Interface.
func (Session) Indexes() []ent.Index { return credentialIndexes() }

// SignInLink opens one session, once.
type SignInLink struct{ ent.Schema }

// Annotations implements ent.Interface.
func (SignInLink) Annotations() []schema.Annotation { return []schema.Annotation{mixin.Hidden()} }

// Mixin implements ent.Interface.
func (SignInLink) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (SignInLink) Fields() []ent.Field { return credential(gid.SignInLink) }

// Indexes implements ent.Interface.
func (SignInLink) Indexes() []ent.Index { return credentialIndexes() }
