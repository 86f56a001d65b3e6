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

// Notification is what one user is told of. It holds ids only: what they stand for is read when it is shown, as far as he
// may read it then.
type Notification struct{ ent.Schema }

// Annotations implements ent.Interface.
func (Notification) Annotations() []schema.Annotation {
	return []schema.Annotation{entgql.RelayConnection(), entgql.Skip(entgql.SkipWhereInput)}
}

// Mixin implements ent.Interface.
func (Notification) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (Notification) Fields() []ent.Field {
	return []ent.Field{
		mixin.ID(gid.Notification),
		mixin.Ref("fact_id").Required().Immutable().Annotations(mixin.Hidden()),
		mixin.Ref("user_id").Required().Immutable().Annotations(mixin.Hidden()),
		field.Enum("kind").Values("DELETED", "VOIDED", "RESTORED", "ARCHIVED", "SUSPENDED", "PURGED", "WILL_BE_PURGED", "HOLD_PLACED", "HOLD_RELEASED",
			"APPROVAL_ASKED", "APPROVAL_DECIDED", "OPERATION_FINISHED", "BRAKE_PULLED", "PURGE_FAILED", "ALERT", "WEBHOOK_DISABLED").
			Annotations(entgql.Type("NotificationKind")).Immutable().Comment("What happened."),
		field.Time("at").Immutable().SchemaType(mixin.TimeSchema()).Annotations(entgql.OrderField("AT")).Comment("When it happened."),
		mixin.Ref("operation_id").Immutable().Annotations(mixin.Hidden()),
		mixin.Ref("approval_id").Immutable().Annotations(mixin.Hidden()),
		mixin.Ref("subject_id").Immutable().Annotations(mixin.Hidden()).Comment("The hold, webhook or alert rule."),
		mixin.Ref("about_id").Immutable().Annotations(mixin.Hidden()).Comment("Of whom an alert speaks."),
		field.Int("days").Optional().Nillable().Immutable().Comment("How many days are left at least before the records are purged. Null for other kinds."),
		field.Int("count").Optional().Nillable().Immutable().Comment("How many records or refusals an alert counted. Null for other kinds."),
		field.Int("records").Default(0).Immutable().Annotations(mixin.Hidden()),
		field.Time("read_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).Comment("When the user said that he has seen it."),
	}
}

// Edges implements ent.Interface.
func (Notification) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("operation", Operation.Type).Unique().Immutable().Field("operation_id").Annotations(mixin.Restrict()).
			Comment("The operation that did it. Null where there is none, or the caller may not read it."),
		edge.To("approval", Approval.Type).Unique().Immutable().Field("approval_id").Annotations(mixin.Restrict()).
			Comment("What was asked for. Null for other kinds."),
		edge.To("about", User.Type).Unique().Immutable().Field("about_id").Annotations(mixin.Restrict()).
			Comment("Of whose doing an alert speaks. Null for other kinds, and for the system."),
	}
}

// Indexes implements ent.Interface.
func (Notification) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("user_id", "at"),
		index.Fields("fact_id", "user_id").Unique(),
		index.Fields("at"),
	}
}

// Webhook is where another application is told what happens.
type Webhook struct{ ent.Schema }

// Annotations implements ent.Interface.
func (Webhook) Annotations() []schema.Annotation {
	return []schema.Annotation{entgql.RelayConnection(), entgql.Skip(entgql.SkipWhereInput)}
}

// Mixin implements ent.Interface.
func (Webhook) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (Webhook) Fields() []ent.Field {
	when := func(name, comment string) ent.Field {
		return field.Time(name).Optional().Nillable().SchemaType(mixin.TimeSchema()).Comment(comment)
	}
	return []ent.Field{
		mixin.ID(gid.Webhook),
		field.Text("url").Comment("Where it is told, by POST."),
		field.String("name").Default("").Validate(mixin.Characters(mixin.MaxName)).Comment("What it is for."),
		field.JSON("kinds", []string{}).Annotations(mixin.Hidden()),
		field.JSON("types", []string{}).Annotations(mixin.Hidden()).Comment("Record types; none is all."),
		field.Bool("enabled").Default(true).Comment("Whether anything is sent to it."),
		field.Int("version").Default(1).Comment("Counts its changes."),
		field.Bytes("secret").Annotations(mixin.Hidden()).Comment("What it is signed with, sealed under the tenant's key."),
		field.Bytes("previous_secret").Optional().Annotations(mixin.Hidden()),
		when("previous_secret_until", "Until when it is signed with the secret before this one, too. Null where there is none."),
		mixin.Ref("created_by_id").Annotations(mixin.Hidden()),
		field.Time("created_at").Immutable().SchemaType(mixin.TimeSchema()).Comment("When it was created."),
		field.Time("updated_at").SchemaType(mixin.TimeSchema()).Comment("When it was last changed."),
		when("failing_since", "Since when nothing was taken. Null while all is well."),
		when("removed_at", "When it was removed. Null while it is there."),
	}
}

// Edges implements ent.Interface.
func (Webhook) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("created_by", User.Type).Unique().Field("created_by_id").Annotations(mixin.Restrict()).
			Comment("Who created it, and is told when it fails for too long. Null for the system."),
	}
}

// Indexes implements ent.Interface.
func (Webhook) Indexes() []ent.Index { return []ent.Index{index.Fields("tenant_id", "id")} }

// WebhookDelivery is one event on its way to a webhook.
type WebhookDelivery struct{ ent.Schema }

// Annotations implements ent.Interface.
func (WebhookDelivery) Annotations() []schema.Annotation {
	return []schema.Annotation{entgql.RelayConnection(), entgql.Skip(entgql.SkipWhereInput)}
}

// Mixin implements ent.Interface.
func (WebhookDelivery) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (WebhookDelivery) Fields() []ent.Field {
	when := func(name, comment string) ent.Field {
		return field.Time(name).Optional().Nillable().SchemaType(mixin.TimeSchema()).Comment(comment)
	}
	return []ent.Field{
		mixin.ID(gid.WebhookDelivery),
		mixin.Ref("webhook_id").Required().Immutable().Annotations(mixin.Hidden()),
		field.String("event_type").Immutable().Comment("What it says, such as record.deleted."),
		field.Bytes("body").Immutable().Annotations(mixin.Hidden()).Comment("What is sent: ids, never personal values."),
		field.Enum("status").Values("PENDING", "DELIVERED", "FAILED", "DEAD").Annotations(entgql.Type("WebhookDeliveryStatus")).Comment("How far it has come."),
		field.Int("attempts").Default(0).Comment("How often it was tried."),
		field.Time("created_at").Immutable().SchemaType(mixin.TimeSchema()).Comment("When it was to be sent first."),
		when("next_at", "When it is sent next, or taken up again where a process was killed while it sent it. Null where it is not."),
		when("delivered_at", "When the receiver took it."),
		field.Int("status_code").Optional().Nillable().Comment("The HTTP status of the last answer. Null without one."),
		field.String("failure").Optional().Nillable().Comment("Why the last attempt failed: STATUS, TIMEOUT, REFUSED_ADDRESS, DNS, TLS, CONNECTION, REDIRECT or GONE."),
	}
}

// Edges implements ent.Interface.
func (WebhookDelivery) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("webhook", Webhook.Type).Unique().Required().Immutable().Field("webhook_id").Annotations(mixin.Restrict()).
			Comment("Where it goes."),
	}
}

// Indexes implements ent.Interface.
func (WebhookDelivery) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("webhook_id", "id"),
		index.Fields("webhook_id", "next_at").Annotations(entsql.IndexWhere("next_at IS NOT NULL")),
		index.Fields("created_at"),
	}
}

// Department is a group of people who are told of some kinds of events.
type Department struct{ ent.Schema }

// Annotations implements ent.Interface.
func (Department) Annotations() []schema.Annotation {
	return []schema.Annotation{entgql.RelayConnection(), entgql.Skip(entgql.SkipWhereInput)}
}

// Mixin implements ent.Interface.
func (Department) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (Department) Fields() []ent.Field {
	return []ent.Field{
		mixin.ID(gid.Department),
		field.String("name").NotEmpty().Validate(mixin.Characters(mixin.MaxName)).Comment("What it is called."),
		field.String("address").Default("").Comment("Where else it is reached, such as an e-mail address. For people to read: nothing is sent there."),
		field.JSON("kinds", []string{}).Annotations(mixin.Hidden()),
		field.JSON("types", []string{}).Annotations(mixin.Hidden()).Comment("Record types; none is all."),
		mixin.Ref("webhook_id").Annotations(mixin.Hidden()),
		field.Int("version").Default(1).Comment("Counts its changes."),
		field.Time("created_at").Immutable().SchemaType(mixin.TimeSchema()).Comment("When it was created."),
		field.Time("updated_at").SchemaType(mixin.TimeSchema()).Comment("When it was last changed."),
	}
}

// Edges implements ent.Interface.
func (Department) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("webhook", Webhook.Type).Unique().Field("webhook_id").Annotations(mixin.Restrict()).
			Comment("A webhook that is told with it, whatever it is told of otherwise. Null for none."),
	}
}

// Indexes implements ent.Interface.
func (Department) Indexes() []ent.Index { return []ent.Index{index.Fields("tenant_id", "id")} }

// AlertRule says what is unusual.
type AlertRule struct{ ent.Schema }

// Annotations implements ent.Interface.
func (AlertRule) Annotations() []schema.Annotation {
	return []schema.Annotation{entgql.RelayConnection(), entgql.Skip(entgql.SkipWhereInput)}
}

// Mixin implements ent.Interface.
func (AlertRule) Mixin() []ent.Mixin { return []ent.Mixin{mixin.Tenant{}} }

// Fields implements ent.Interface.
func (AlertRule) Fields() []ent.Field {
	return []ent.Field{
		mixin.ID(gid.AlertRule),
		field.String("name").NotEmpty().Validate(mixin.Characters(mixin.MaxName)).Comment("What it is called."),
		field.Enum("kind").Values("DELETIONS_PER_ACTOR", "OUT_OF_HOURS", "DENIALS", "PURGE_FAILED").Annotations(entgql.Type("AlertKind")).Immutable().
			Comment("What it looks for."),
		field.Int("count").Default(1).Comment("From how many on it is unusual."),
		field.Int("minutes").Default(60).Comment("Within how many minutes they count; as long it is not raised again for the same actor."),
		field.JSON("verbs", []string{}).Annotations(mixin.Hidden()),
		field.Int("from_hour").Default(8).Comment("When working hours begin, in hours of its time zone."),
		field.Int("to_hour").Default(18).Comment("When working hours end."),
		field.String("zone").Default("UTC").Comment("The time zone of its hours, by its IANA name."),
		field.JSON("weekdays", []int{}).Annotations(entgql.Type("[Int!]")).Comment("The working days: 1 is Monday, 7 is Sunday."),
		field.JSON("departments", []string{}).Annotations(mixin.Hidden()),
		field.JSON("roles", []string{}).Annotations(mixin.Hidden()),
		field.Bool("enabled").Default(true).Comment("Whether it is in force."),
		field.Int("version").Default(1).Comment("Counts its changes."),
		field.Time("created_at").Immutable().SchemaType(mixin.TimeSchema()).Comment("When it was created."),
		field.Time("updated_at").SchemaType(mixin.TimeSchema()).Comment("When it was last changed."),
		field.Time("removed_at").Optional().Nillable().SchemaType(mixin.TimeSchema()).Comment("When it was removed. Null while it is there."),
	}
}

// Indexes implements ent.Interface.
func (AlertRule) Indexes() []ent.Index { return []ent.Index{index.Fields("tenant_id", "id")} }
