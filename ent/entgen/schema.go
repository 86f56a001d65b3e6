// Package entgen adds to the generated GraphQL schema what follows from the
// record types: the fields of Record, the states argument, the inputs of create
// and update, and the selector of the lifecycle verbs.
package entgen

import (
	"slices"
	"strings"

	"entgo.io/ent/entc/gen"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/lethe-crm/lethe/internal/lifecycle"
)

var (
	camel  = gen.Funcs["camel"].(func(string) string)
	snake  = gen.Funcs["snake"].(func(string) string)
	plural = gen.Funcs["plural"].(func(string) string)
)

// Schema is the entgql schema hook.
func Schema(g *gen.Graph, s *ast.Schema) error {
	kinds := &ast.Definition{Kind: ast.Enum, Name: "RecordType", Description: "A type of record."}
	selector := &ast.Definition{
		Kind: ast.InputObject, Name: "RecordSelector", Directives: ast.DirectiveList{{Name: "oneOf"}},
		Description: "Which records a verb is about; exactly one of the fields. The selection is frozen when the operation is accepted.",
		Fields: ast.FieldList{
			{Name: "ids", Type: list("ID"), Description: "These records, in this order."},
			{Name: "records", Type: list("RecordVersionInput"), Description: "These records, each as the caller saw it: one that moved on is CONFLICT."},
			{Name: "operation", Type: ast.NamedType("ID", nil), Description: "Whatever that operation changed."},
		},
	}
	communication := &ast.Definition{Kind: ast.Union, Name: "Communication", Description: "What was exchanged with a customer. All of them are records."}
	for _, n := range g.Nodes {
		def := s.Types[n.Name]
		if def == nil {
			continue
		}
		connection(s, n.Name)
		if n.Annotations["LetheRecord"] == nil {
			continue
		}
		kinds.EnumValues = append(kinds.EnumValues, &ast.EnumValueDefinition{Name: strings.ToUpper(snake(n.Name)), Description: n.Name + "."})
		selector.Fields = append(selector.Fields, &ast.FieldDefinition{
			Name: camel(snake(plural(n.Name))), Type: ast.NamedType(n.Name+"WhereInput", nil),
			Description: "The records of that type that match, in the states from which the verb changes something.",
		})
		if record, _ := n.Annotations["LetheRecord"].(map[string]any); record["Activity"] != nil && record["Activity"] != "" {
			communication.Types = append(communication.Types, n.Name)
		}
		recordFields(n, def)
		inputs(s, n)
		searches(s, n)
	}
	s.Types["RecordType"], s.Types["RecordSelector"], s.Types["Communication"] = kinds, selector, communication
	// These are written by hand in schema.graphql, with what they mean.
	delete(s.Types, "RecordState")
	delete(s.Types, "Verb")
	for _, name := range []string{"RetentionAction", "RetentionBasis", "RetentionCandidates", "RetentionUnit"} {
		delete(s.Types, name)
	}
	if s.Types["Time"] == nil {
		s.Types["Time"] = &ast.Definition{Kind: ast.Scalar, Name: "Time", Description: "A point in time, RFC 3339 in UTC."}
	}
	for _, def := range s.Types {
		if def.Kind == ast.Object {
			connections(g, def)
		}
	}
	comparisons(g, s)
	query(s.Types["Query"])
	describe(g, s)
	return nil
}

func list(of string) *ast.Type { return ast.ListType(ast.NonNullNamedType(of, nil), nil) }

// connection gives a connection its nodes and takes the nulls out of its lists.
func connection(s *ast.Schema, name string) {
	conn, edge := s.Types[name+"Connection"], s.Types[name+"Edge"]
	if conn == nil {
		return
	}
	conn.Fields.ForName("edges").Type = ast.NonNullListType(ast.NonNullNamedType(name+"Edge", nil), nil)
	edge.Fields.ForName("node").Type = ast.NonNullNamedType(name, nil)
	conn.Fields = append(conn.Fields, &ast.FieldDefinition{
		Name: "nodes", Type: ast.NonNullListType(ast.NonNullNamedType(name, nil), nil),
		Description: "The nodes of the edges. Select them here or below edges, not both.",
	})
	conn.Fields.ForName("totalCount").Description = "How many there are on all pages. Costs a COUNT when asked for."
}

// connections gives every field that answers record connections its states.
func connections(g *gen.Graph, def *ast.Definition) {
	for _, f := range def.Fields {
		name, ok := strings.CutSuffix(f.Type.Name(), "Connection")
		if !ok {
			continue
		}
		i := slices.IndexFunc(g.Nodes, func(n *gen.Type) bool { return n.Name == name })
		if i < 0 || g.Nodes[i].Annotations["LetheRecord"] == nil {
			continue
		}
		f.Arguments = append(f.Arguments, &ast.ArgumentDefinition{
			Name: "states", Type: list("RecordState"),
			DefaultValue: &ast.Value{Kind: ast.ListValue, Children: ast.ChildValueList{{Value: &ast.Value{Kind: ast.EnumValue, Raw: string(lifecycle.Active)}}}},
			Description:  "The states to list. Retired records show to those who may read them only.",
		}, &ast.ArgumentDefinition{
			Name: "search", Type: ast.NamedType("String", nil),
			Description: "Only records with all of these words, in any order, case and form, in fields the caller may see. Without an order the newest come first.",
		})
	}
}

// recordFields gives a record type the fields of Record that are computed.
func recordFields(n *gen.Type, def *ast.Definition) {
	def.Fields = append(def.Fields,
		&ast.FieldDefinition{Name: "type", Type: ast.NonNullNamedType("RecordType", nil), Description: "The record's type."},
		&ast.FieldDefinition{Name: "label", Type: ast.NamedType("String", nil), Description: "What people know the record by."},
		&ast.FieldDefinition{Name: "held", Type: ast.NamedType("Boolean", nil), Description: "Whether a legal hold keeps the record. Null to those who may not know."},
		&ast.FieldDefinition{Name: "viewerCan", Type: ast.NonNullListType(ast.NonNullNamedType("Action", nil), nil), Description: "What the caller may do to the record now."},
		&ast.FieldDefinition{
			Name: "history", Type: ast.NonNullNamedType("AuditEventConnection", nil),
			Description: "What happened to the record, oldest first.",
			Arguments: ast.ArgumentDefinitionList{
				{Name: "after", Type: ast.NamedType("Cursor", nil), Description: "Events after this one."},
				{Name: "first", Type: ast.NamedType("Int", nil), Description: "The first n events, 1 to 100."},
				{Name: "before", Type: ast.NamedType("Cursor", nil), Description: "Events before this one."},
				{Name: "last", Type: ast.NamedType("Int", nil), Description: "The last n events, 1 to 100."},
			},
		},
	)
	for _, e := range n.Edges {
		if class, _ := e.Annotations["LetheEdge"].(map[string]any); class["Class"] == string(lifecycle.Weak) {
			def.Fields = append(def.Fields, &ast.FieldDefinition{
				Name: camel(e.Name) + "Ref", Type: ast.NamedType("RecordRef", nil),
				Description: "What " + camel(e.Name) + " points to, also while that is not live, for those who may read it there.",
			})
		}
	}
	for _, f := range n.Fields {
		if f.Annotations["LetheSensitive"] != nil {
			if field := def.Fields.ForName(camel(f.Name)); field != nil {
				field.Type.NonNull = false
			}
		}
	}
}

// searches adds to the filter of a record type what is no comparison of a field.
func searches(s *ast.Schema, n *gen.Type) {
	where := s.Types[n.Name+"WhereInput"]
	where.Fields = append(where.Fields, &ast.FieldDefinition{
		Name: "search", Type: ast.NamedType("String", nil),
		Description: "It has all of these words, in any order, case and form, in fields the caller may see.",
	})
	for _, e := range n.Edges {
		if e.Annotations["LethePart"] == nil || e.Annotations["LetheSearched"] == nil {
			continue
		}
		where.Fields = append(where.Fields,
			&ast.FieldDefinition{Name: camel(e.Name), Type: ast.NamedType("String", nil), Description: "One of its " + e.Name + " has this address; upper or lower case and the form of a domain make no difference."},
			&ast.FieldDefinition{Name: camel(e.Name) + "In", Type: list("String"), Description: "One of its " + e.Name + " has one of these addresses."},
		)
	}
}

// lifecycleFields are the columns of mixin.Record that no input sets.
var lifecycleFields = []string{
	"tenant_id", "state", "prior_state", "state_changed_at", "state_changed_by_id", "state_reason", "operation_id",
	"orphaned_at", "seal", "retired_at", "purge_after", "suspended_until", "suspended_then", "version",
}

// inputs emits Create<Type>Input, Update<Type>Input and <Type>Payload.
func inputs(s *ast.Schema, n *gen.Type) {
	create := &ast.Definition{Kind: ast.InputObject, Name: "Create" + n.Name + "Input", Description: "What a new " + n.Name + " is made of."}
	update := &ast.Definition{
		Kind: ast.InputObject, Name: "Update" + n.Name + "Input",
		Description: "What to change of a " + n.Name + ": a field that is absent stays, null clears it.",
		Fields: ast.FieldList{
			{Name: "id", Type: ast.NonNullNamedType("ID", nil), Description: "The record."},
			{Name: "version", Type: ast.NonNullNamedType("Int", nil), Description: "The version the caller saw; CONFLICT when the record moved on."},
		},
	}
	for _, f := range n.Fields {
		if slices.Contains(lifecycleFields, f.Name) || f.Annotations["LetheReadOnly"] != nil {
			continue
		}
		typ, about := graphqlType(s, n, f), f.Comment()
		if ref, ok := strings.CutSuffix(f.Name, "_id"); ok && about == "" {
			about = "The " + strings.ReplaceAll(ref, "_", " ") + "."
		}
		required := &ast.Type{NamedType: typ, NonNull: !f.Optional && !f.Default && f.Name != "number" || f.Annotations["LetheNamed"] != nil}
		create.Fields = append(create.Fields, &ast.FieldDefinition{Name: camel(f.Name), Type: required, Description: about})
		if !f.Immutable {
			update.Fields = append(update.Fields, &ast.FieldDefinition{Name: camel(f.Name), Type: ast.NamedType(typ, nil), Description: about})
		}
	}
	for _, e := range n.Edges {
		if e.Annotations["LethePart"] == nil {
			continue
		}
		part := &ast.Definition{Kind: ast.InputObject, Name: e.Type.Name + "Input", Description: "One of the " + e.Name + " of a " + n.Name + "."}
		shown := s.Types[e.Type.Name]
		for _, f := range e.Type.Fields {
			if field := shown.Fields.ForName(camel(f.Name)); field != nil {
				part.Fields = append(part.Fields, &ast.FieldDefinition{
					Name: field.Name, Type: &ast.Type{NamedType: field.Type.Name(), NonNull: !f.Optional && !f.Default}, Description: f.Comment(),
				})
			}
		}
		s.Types[part.Name] = part
		create.Fields = append(create.Fields, &ast.FieldDefinition{Name: camel(e.Name), Type: list(part.Name), Description: e.Comment()})
		update.Fields = append(update.Fields, &ast.FieldDefinition{Name: camel(e.Name), Type: list(part.Name), Description: "All of them anew. " + e.Comment()})
	}
	payload := &ast.Definition{
		Kind: ast.Object, Name: n.Name + "Payload", Description: "What a write of a " + n.Name + " answers.",
		Fields: ast.FieldList{{Name: camel(snake(n.Name)), Type: ast.NonNullNamedType(n.Name, nil), Description: "The record as it is now."}},
	}
	s.Types[create.Name], s.Types[update.Name], s.Types[payload.Name] = create, update, payload
}

func graphqlType(s *ast.Schema, n *gen.Type, f *gen.Field) string {
	if where := s.Types[n.Name+"WhereInput"]; where != nil {
		if field := where.Fields.ForName(camel(f.Name)); field != nil {
			return field.Type.Name()
		}
	}
	if field := s.Types[n.Name].Fields.ForName(camel(f.Name)); field != nil {
		return field.Type.Name()
	}
	return "String"
}

// query guards the generated root fields.
func query(def *ast.Definition) {
	for _, f := range def.Fields {
		object, action := strings.TrimSuffix(f.Type.Name(), "Connection"), "READ"
		switch f.Name {
		case "node", "nodes", "operations":
			object = "" // decided per row
		case "auditEvents":
			action = "AUDIT_READ"
		}
		args := ast.ArgumentList{{Name: "action", Value: &ast.Value{Kind: ast.EnumValue, Raw: action}}}
		if object != "" {
			args = append(ast.ArgumentList{{Name: "object", Value: &ast.Value{Kind: ast.StringValue, Raw: object}}}, args...)
		}
		f.Directives = append(f.Directives, &ast.Directive{Name: "authz", Arguments: args})
	}
}
