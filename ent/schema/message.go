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

// Message is one e-mail, chat line or text message.
type Message struct{ ent.Schema }

// Mixin implements ent.Interface.
func (Message) Mixin() []ent.Mixin {
	return []ent.Mixin{mixin.Record{Record: lifecycle.Record{
		Type: uint8(gid.Message), Label: []string{"subject"}, Activity: "sent_at",
		Alike:   []string{"sent_at", "sender_folded", "subject", "body"},
		Uniques: []lifecycle.Unique{{Field: "message_id", Fold: lifecycle.FoldNone}},
	}}}
}

// Fields implements ent.Interface.
func (Message) Fields() []ent.Field {
	return []ent.Field{
		field.Enum("channel").Values("EMAIL", "CHAT", "SMS", "LETTER", "OTHER").Default("EMAIL").
			Comment("The way the message came or went."),
		field.Enum("category").Values("NORMAL", "SPAM", "MAILING").Default("NORMAL").
			Comment("What kind of message it is."),
		field.Enum("direction").Values("INBOUND", "OUTBOUND").Default("INBOUND").
			Comment("Whether the message came in or went out."),
		field.String("sender").Optional().Nillable().Validate(mixin.Characters(mixin.MaxName)).
			Annotations(lifecycle.Searched{As: "f"}, lifecycle.Sensitive{}).Comment("Address of the sender, if there is one."),
		field.String("sender_name").Optional().Nillable().Validate(mixin.Characters(mixin.MaxName)).
			Annotations(lifecycle.Searched{As: "n"}, lifecycle.Sensitive{}).Comment("Name of the sender as the message gives it."),
		field.String("sender_folded").Optional().Nillable().
			Annotations(mixin.Hidden(), lifecycle.ReadOnly{}),
		field.Text("subject").Optional().Nillable().Validate(mixin.Characters(mixin.MaxSubject)).
			Annotations(lifecycle.Searched{As: "s"}, lifecycle.Sensitive{}).Comment("Subject line."),
		field.Text("body").Optional().Nillable().Validate(mixin.Bytes(mixin.MaxBody)).
			Annotations(lifecycle.Searched{As: "b"}, lifecycle.Sensitive{}).Comment("Text of the message."),
		field.Time("sent_at").SchemaType(mixin.TimeSchema()).Annotations(entgql.OrderField("SENT_AT")).
			Comment("When the message was sent."),
		field.String("message_id").Optional().Nillable().Validate(mixin.Bytes(mixin.MaxKey)).
			Comment("The Message-ID of a mail without its brackets; unique among live messages."),
		field.String("thread_key").Optional().Nillable().Validate(mixin.Bytes(mixin.MaxKey)).
			Comment("What the messages of one conversation share."),
		mixin.Ref("customer_id").Annotations(entgql.Skip(entgql.SkipType)),
		mixin.Ref("contact_id").Annotations(entgql.Skip(entgql.SkipType)),
		mixin.Ref("deal_id").Annotations(entgql.Skip(entgql.SkipType)),
		mixin.Ref("in_reply_to_id").Annotations(entgql.Skip(entgql.SkipType)),
	}
}

// Edges implements ent.Interface.
func (Message) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("customer", Customer.Type).Unique().Field("customer_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Owned}).
			Comment("The customer the message was exchanged with."),
		edge.To("contact", Contact.Type).Unique().Field("contact_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Weak}).
			Comment("The person the message was exchanged with."),
		edge.To("deal", Deal.Type).Unique().Field("deal_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Weak}).
			Comment("The deal the message is about."),
		edge.To("replies", Message.Type).
			Annotations(mixin.Restrict(), entgql.Skip(entgql.SkipAll)).
			From("in_reply_to").Unique().Field("in_reply_to_id").
			Annotations(lifecycle.Edge{Class: lifecycle.Weak}).
			Comment("The message this one answers."),
		edge.From("attachments", Attachment.Type).Ref("message").
			Annotations(entgql.RelayConnection()).Comment("Files that belong to the message."),
		edge.From("recipients", Recipient.Type).Ref("message").
			Annotations(lifecycle.Searched{As: "r"}, lifecycle.Part{}, lifecycle.Sensitive{}, entgql.Skip(entgql.SkipWhereInput)).
			Comment("To whom the message went."),
	}
}

// Indexes implements ent.Interface.
func (Message) Indexes() []ent.Index {
	live := entsql.IndexWhere("retired_at IS NULL")
	return []ent.Index{
		index.Fields("customer_id", "sent_at", "id"),
		index.Fields("contact_id").Annotations(entsql.IndexWhere("contact_id IS NOT NULL")),
		index.Fields("deal_id").Annotations(entsql.IndexWhere("deal_id IS NOT NULL")),
		index.Fields("in_reply_to_id").Annotations(entsql.IndexWhere("in_reply_to_id IS NOT NULL")),
		index.Fields("tenant_id", "sent_at", "id").Annotations(live),
		index.Fields("tenant_id", "sender_folded", "sent_at", "id").Annotations(live),
		index.Fields("tenant_id", "thread_key").Annotations(live),
	}
}
