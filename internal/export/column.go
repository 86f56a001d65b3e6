package export

import (
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/ent"
)

// attachments is the column of the names of the files that belong to a record.
const attachments = "attachments"

// column is one of a file.
type column struct {
	name string
	// field is the field of the API that it shows: what is hidden with it.
	field string
	// from is the column of the record's row; of a reference, that of the id.
	from string
	// target is what a reference points to, and of that shows the column beside the
	// id by which people know it: empty for the id itself.
	target, shows string
	part          string // the name of a part, if it is one
	// text says that it holds whatever people wrote.
	text bool
}

// stamps are the columns of a record's life.
var stamps = []column{
	{name: "state", from: "state"}, {name: "stateReason", from: "state_reason", text: true}, {name: "stateChangedAt", from: "state_changed_at"},
	{name: "purgeAfter", from: "purge_after"}, {name: "suspendedUntil", from: "suspended_until"}, {name: "version", from: "version"},
	{name: "createdAt", from: "created_at"}, {name: "updatedAt", from: "updated_at"},
}

// known are the columns by which people know what a reference points to, and by
// which an import finds it again when its id is gone.
var known = map[string][]struct{ column, name string }{
	ent.TypeUser:     {{"email", "Email"}},
	ent.TypeCustomer: {{"number", "Number"}, {"email", "Email"}},
	ent.TypeContact:  {{"email", "Email"}},
	ent.TypeDeal:     {{"number", "Number"}},
}

// columnsOf are the columns of files of a type.
func columnsOf(t *ent.RecordType) []column {
	out := []column{{name: "id", from: "id"}}
	if t.Numbered {
		out = append(out, column{name: "number", field: "number", from: "number", text: true})
	}
	out = append(out, stamps...)
	for _, f := range t.Fields {
		if f.GraphQL == "number" || strings.HasSuffix(f.Name, "_key") || strings.HasSuffix(f.Name, "_folded") {
			continue
		}
		c := column{name: f.GraphQL, field: f.GraphQL, from: f.Name, target: f.Target, text: f.Kind == "string"}
		out = append(out, c)
		for _, k := range known[f.Target] {
			c.name, c.shows, c.text = strings.TrimSuffix(f.GraphQL, "ID")+k.name, k.column, true
			out = append(out, c)
		}
	}
	for _, p := range t.Parts {
		out = append(out, column{name: p.GraphQL, field: p.GraphQL, part: p.GraphQL, text: true})
	}
	if attachmentEdge(t) != "" {
		out = append(out, column{name: attachments, text: true})
	}
	return out
}

// attachmentEdge is the column by which attachments belong to records of a type;
// empty where they do not.
func attachmentEdge(t *ent.RecordType) string {
	edges := ent.RecordTypeNamed(ent.TypeAttachment).Edges
	i := slices.IndexFunc(edges, func(e ent.RecordReference) bool { return e.Target == t.Name })
	if i < 0 {
		return ""
	}
	return edges[i].Column
}

func names(columns []column) []string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = c.name
	}
	return out
}
