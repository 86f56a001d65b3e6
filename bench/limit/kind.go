package main

import (
	"strings"
	"time"

	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
)

// form is how the value of a field is read.
type form uint8

const (
	text form = iota
	moments
	identity
	integer
	number
	boolean
)

// field is a column with its name in the audit log.
type field struct {
	column, name string
	form         form
}

// kind is a type of records.
type kind struct {
	name, table string
	fields      []field
	// owners are the columns of what a record belongs to, and comes along with.
	owners []string
	// activity is the column of when a communication took place.
	activity string
	// columns are what is selected of a row, with table t.
	columns string
}

// ownership stands first among the fields of every kind.
var ownership = []field{{"owner_id", "ownerID", identity}, {"team_id", "teamID", identity}}

// kinds are the record types, owners first. To add one is to add an entry.
var kinds = func() []*kind {
	list := []*kind{
		{name: "Customer", table: "customers", fields: []field{
			{"number", "number", text}, {"name", "name", text}, {"kind", "kind", text}, {"email", "email", text}, {"phone", "phone", text},
			{"domain", "domain", text}, {"status", "status", text}, {"last_activity_at", "lastActivityAt", moments}, {"ended_at", "endedAt", moments},
		}},
		{name: "Contact", table: "contacts", owners: []string{"customer_id"}, fields: []field{
			{"name", "name", text}, {"email", "email", text}, {"phone", "phone", text}, {"title", "title", text}, {"customer_id", "customerID", identity},
		}},
		{name: "Task", table: "tasks", owners: []string{"customer_id"}, fields: []field{
			{"title", "title", text}, {"body", "body", text}, {"due_at", "dueAt", moments}, {"done", "done", boolean},
			{"customer_id", "customerID", identity}, {"deal_id", "dealID", identity}, {"assignee_id", "assigneeID", identity},
		}},
		{name: "Call", table: "calls", owners: []string{"customer_id"}, activity: "started_at", fields: []field{
			{"direction", "direction", text}, {"from_number", "fromNumber", text}, {"to_number", "toNumber", text}, {"started_at", "startedAt", moments},
			{"duration_seconds", "durationSeconds", integer}, {"outcome", "outcome", text}, {"external_id", "externalID", text},
			{"customer_id", "customerID", identity}, {"contact_id", "contactID", identity}, {"deal_id", "dealID", identity}, {"task_id", "taskID", identity},
		}},
		{name: "Message", table: "messages", owners: []string{"customer_id"}, activity: "sent_at", fields: []field{
			{"channel", "channel", text}, {"category", "category", text}, {"direction", "direction", text}, {"sender", "sender", text},
			{"sender_name", "senderName", text}, {"subject", "subject", text}, {"body", "body", text}, {"sent_at", "sentAt", moments},
			{"message_id", "messageID", text}, {"thread_key", "threadKey", text},
			{"customer_id", "customerID", identity}, {"contact_id", "contactID", identity}, {"deal_id", "dealID", identity}, {"in_reply_to_id", "inReplyToID", identity},
		}},
		{name: "Note", table: "notes", owners: []string{"customer_id"}, activity: "happened_at", fields: []field{
			{"kind", "kind", text}, {"body", "body", text}, {"happened_at", "happenedAt", moments},
			{"customer_id", "customerID", identity}, {"contact_id", "contactID", identity}, {"deal_id", "dealID", identity},
		}},
		{name: "Attachment", table: "attachments", owners: []string{"customer_id", "message_id", "call_id", "note_id"}, fields: []field{
			{"filename", "filename", text}, {"media_type", "mediaType", text}, {"size", "size", integer}, {"sha256", "sha256", text},
			{"customer_id", "customerID", identity}, {"deal_id", "dealID", identity}, {"message_id", "messageID", identity},
			{"call_id", "callID", identity}, {"note_id", "noteID", identity},
		}},
	}
	for _, k := range list {
		k.fields = append(append([]field(nil), ownership...), k.fields...)
		names := []string{"t.id", "t.state", "t.operation_id", "t.version", "t.seal"}
		for _, f := range k.fields {
			names = append(names, "t."+f.column)
		}
		k.columns = strings.Join(names, ", ")
	}
	return list
}()

func kindNamed(name string) *kind {
	for _, k := range kinds {
		if k.name == name {
			return k
		}
	}
	return nil
}

// byType finds a kind by the type in the last byte of an id. A deal has none: it
// never comes along, it stands in the way.
var byType = map[gid.Type]*kind{
	gid.Customer: kindNamed("Customer"), gid.Contact: kindNamed("Contact"), gid.Message: kindNamed("Message"), gid.Call: kindNamed("Call"),
	gid.Task: kindNamed("Task"), gid.Note: kindNamed("Note"), gid.Attachment: kindNamed("Attachment"),
}

func kindOf(id ref) *kind { return byType[gid.ID(id).Type()] }

// row is a record as it is read and locked.
type row struct {
	kind      *kind
	id        ref
	state     string
	operation ref
	version   int
	seal      []byte
	values    []any // a pointer for each field, to a pointer or to a ref
	parts     []map[string]any

	prior *string // the state it goes back to
	depth int
	with  ref // what it came along with
	item  ref // of the operation
	event ref
	// sealed are its last values.
	sealed []byte
}

// scan reads the columns of a kind, and what else stands behind them.
func (k *kind) scan(scan scanner, more ...any) (*row, error) {
	r := &row{kind: k, values: make([]any, len(k.fields))}
	dest := make([]any, 0, 5+len(k.fields)+len(more))
	dest = append(dest, &r.id, &r.state, &r.operation, &r.version, &r.seal)
	for i, f := range k.fields {
		switch f.form {
		case text:
			r.values[i] = new(*string)
		case moments:
			r.values[i] = new(*time.Time)
		case identity:
			r.values[i] = new(ref)
		case integer:
			r.values[i] = new(*int64)
		case number:
			r.values[i] = new(*float64)
		case boolean:
			r.values[i] = new(*bool)
		}
		dest = append(dest, r.values[i])
	}
	for _, m := range more {
		if m == &prior {
			m = &r.prior
		}
		dest = append(dest, m)
	}
	return r, scan(dest...)
}

// prior stands for the state a row goes back to, among the columns of a scan.
var prior struct{}

// get is a reference of a row.
func (r *row) get(column string) ref {
	for i, f := range r.kind.fields {
		if f.column == column {
			if id, ok := r.values[i].(*ref); ok {
				return *id
			}
		}
	}
	return ref{}
}

// at is when a communication took place.
func (r *row) at() time.Time {
	for i, f := range r.kind.fields {
		if f.column == r.kind.activity {
			if at, ok := r.values[i].(**time.Time); ok && *at != nil {
				return **at
			}
		}
	}
	return time.Time{}
}

// last are the values a record has when it is retired, as the audit log keeps them.
func (r *row) last() []audit.Change {
	changes := make([]audit.Change, 0, len(r.values)+1)
	for i, f := range r.kind.fields {
		switch v := r.values[i].(type) {
		case **string:
			if *v != nil {
				changes = append(changes, audit.Change{Field: f.name, Old: **v})
			}
		case **time.Time:
			if *v != nil {
				changes = append(changes, audit.Change{Field: f.name, Old: **v})
			}
		case *ref:
			if !v.zero() {
				changes = append(changes, audit.Change{Field: f.name, Old: gid.ID(*v)})
			}
		case **int64:
			if *v != nil {
				changes = append(changes, audit.Change{Field: f.name, Old: **v})
			}
		case **float64:
			if *v != nil {
				changes = append(changes, audit.Change{Field: f.name, Old: **v})
			}
		case **bool:
			if *v != nil {
				changes = append(changes, audit.Change{Field: f.name, Old: **v})
			}
		}
	}
	if len(r.parts) > 0 {
		changes = append(changes, audit.Change{Field: "recipients", Old: r.parts})
	}
	return changes
}
