package schema

import (
	"math"

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

// Attachment is a file that belongs to exactly one other record. Here is what
// there is to know of it; its bytes, if sha256 says that there are any, are kept
// elsewhere, under its id.
type Attachment struct{ ent.Schema }

// attachmentOwners are the edges of which an attachment has exactly one.
var attachmentOwners = []struct {
	name string
	typ  any
}{
	{"customer", Customer.Type}, {"deal", Deal.Type}, {"message", Message.Type}, {"call", Call.Type}, {"note", Note.Type},
}

// Mixin implements ent.Interface.
func (Attachment) Mixin() []ent.Mixin {
	return []ent.Mixin{mixin.Record{Record: lifecycle.Record{Type: uint8(gid.Attachment), Label: []string{"filename"}, OneOwner: true}}}
}

// Fields implements ent.Interface.
func (Attachment) Fields() []ent.Field {
	fields := []ent.Field{
		field.String("filename").NotEmpty().Validate(mixin.Characters(mixin.MaxName)).
			Annotations(lifecycle.Searched{As: "f"}, lifecycle.Sensitive{}, entgql.OrderField("FILENAME")).Comment("The file's name."),
		field.String("media_type").Default("application/octet-stream").NotEmpty().Validate(mixin.Characters(mixin.MaxName)).
			Comment("What kind of file it is, as RFC 6838 names it."),
		// What is said of the bytes is what was read of them: nobody claims it.
		field.Int("size").Default(0).Range(0, math.MaxInt32).Annotations(lifecycle.ReadOnly{}).
			Comment("How long the file is, in bytes; 0 where there are none."),
		field.String("sha256").Optional().Nillable().Validate(mixin.SHA256).Annotations(lifecycle.ReadOnly{}).
			Comment("SHA-256 of the file, as 64 hexadecimal digits in lower case. Null where there are no bytes: the attachment was made by createAttachment, and not uploaded."),
	}
	for _, o := range attachmentOwners {
		fields = append(fields, mixin.Ref(o.name+"_id").Annotations(entgql.Skip(entgql.SkipType)))
	}
	return fields
}

// Edges implements ent.Interface.
func (Attachment) Edges() []ent.Edge {
	edges := make([]ent.Edge, len(attachmentOwners))
	for i, o := range attachmentOwners {
		edges[i] = edge.To(o.name, o.typ).Unique().Field(o.name+"_id").
			Annotations(mixin.Restrict(), lifecycle.Edge{Class: lifecycle.Owned}).
			Comment("The " + o.name + " the file belongs to, if it is one.")
	}
	return edges
}

// Indexes implements ent.Interface.
func (Attachment) Indexes() []ent.Index {
	indexes := make([]ent.Index, len(attachmentOwners))
	for i, o := range attachmentOwners {
		indexes[i] = index.Fields(o.name + "_id").Annotations(entsql.IndexWhere(o.name + "_id IS NOT NULL"))
	}
	return indexes
}
