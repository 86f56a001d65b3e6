package importer

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/mail"
	"github.com/lethe-crm/lethe/internal/record"
)

// ownerField names the owner by the address of a user. It is not a field of
// records, which hold the user's id.
const ownerField = "owner"

// mailFields are the fields of a message that do not come from the mail.
var mailFields = []string{"channel", "category", "direction", "ownerID", "teamID", "dealID"}

// reference fields name a record or a user as people do: a customer by number,
// address or name, a user by address. They are no fields of records, which hold
// ids.
var references = map[string]string{"customerID": "customer", "contactID": "contact", "dealID": "deal"}

const assigneeField = "assignee"

// recipientsField is a list of addresses, separated by ; or a comma.
const recipientsField = "recipients"

// fields are the fields that a column or a setting may fill, by GraphQL name,
// each with how its text is read.
func (r *run) fields(epoch *time.Time) map[string]func(string) (any, error) {
	out := map[string]func(string) (any, error){ownerField: text(0)}
	for _, f := range r.typ.Fields {
		if f.ReadOnly || r.mail && !slices.Contains(mailFields, f.GraphQL) {
			continue
		}
		switch {
		case f.GraphQL == "number":
			out[f.GraphQL] = text(maxNumber)
		case f.Name == "from_number" || f.Name == "to_number":
			out[f.GraphQL] = parsePhone
		case f.GraphQL == "currency":
			out[f.GraphQL] = func(s string) (any, error) { return strings.ToUpper(strings.TrimSpace(s)), nil }
		case f.GraphQL == "durationSeconds":
			out[f.GraphQL] = parseDuration
		case f.Kind == "string":
			out[f.GraphQL] = text(0) // the schema knows how long it may be
		case f.Kind == "enum":
			out[f.GraphQL] = parseEnum(f)
		case f.Kind == "time":
			out[f.GraphQL] = r.parseTime(epoch)
		case f.Kind == "int":
			out[f.GraphQL] = parseInt
		case f.Kind == "float":
			out[f.GraphQL] = parseFloat
		case f.Kind == "bool":
			out[f.GraphQL] = parseBool
		case f.Kind == "id":
			out[f.GraphQL] = parseID
			if name := references[f.GraphQL]; name != "" && !r.mail {
				out[name] = text(0)
			}
			if f.GraphQL == "assigneeID" {
				out[assigneeField] = text(0)
			}
		}
	}
	if r.As == Messages && !r.mail {
		out[recipientsField] = parseRecipients
	}
	return out
}

func parseEnum(f ent.RecordField) func(string) (any, error) {
	return func(s string) (any, error) {
		v := strings.ToUpper(strings.TrimSpace(s))
		if !slices.Contains(f.Values, v) {
			return nil, fmt.Errorf("is not one of %s", strings.Join(f.Values, ", "))
		}
		return f.Enum(v), nil
	}
}

func parseInt(s string) (any, error) {
	n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(s), ".0"))
	if err != nil {
		return nil, errors.New("is not a whole number")
	}
	return n, nil
}

// grouped is a number with commas between thousands.
var grouped = regexp.MustCompile(`^[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?$`)

// parseFloat takes commas where they can only stand between thousands, and
// refuses a decimal comma: what 1.234,50 is worth must not be guessed.
func parseFloat(s string) (any, error) {
	s = strings.TrimSpace(s)
	if grouped.MatchString(s) {
		s = strings.ReplaceAll(s, ",", "")
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return nil, errors.New("is not a number such as 1234.50 or 1,234.50")
	}
	return v, nil
}

func parseBool(s string) (any, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "yes", "y", "1", "x", "да", "是":
		return true, nil
	case "false", "no", "n", "0", "нет", "否":
		return false, nil
	}
	return nil, errors.New("is neither yes nor no")
}

// parseDuration reads seconds, or h:mm:ss and mm:ss.
func parseDuration(s string) (any, error) {
	seconds := 0
	for i, part := range strings.Split(strings.TrimSpace(s), ":") {
		n, err := strconv.Atoi(strings.TrimSuffix(part, ".0"))
		if err != nil || n < 0 || i > 2 || i > 0 && n > 59 {
			return nil, errors.New("is not a number of seconds, or a time such as 1:02:03")
		}
		seconds = seconds*60 + n
	}
	return seconds, nil
}

// parsePhone refuses a national number: whose it is depends on where it was
// written.
func parsePhone(s string) (any, error) {
	number, ok := mixin.Phone(s)
	if !ok {
		return nil, errors.New("is not an international phone number such as +7 495 123-45-67")
	}
	return number, nil
}

// mailboxes are the mailboxes in a text, none where it has no "@": what else a
// channel has for addresses is not taken apart as mail is.
func mailboxes(s string) []mail.Address {
	if !strings.Contains(s, "@") {
		return nil
	}
	return mail.ParseAddresses(s)
}

// parseRecipients reads mailboxes, or other addresses.
func parseRecipients(s string) (any, error) {
	var out []map[string]any
	for _, to := range mailboxes(s) {
		address, name := addressAndName(to)
		out = append(out, map[string]any{"kind": mail.To, "address": address, "name": name})
	}
	if out != nil {
		return out, nil
	}
	for _, address := range strings.FieldsFunc(s, func(c rune) bool { return c == ';' || c == ',' }) {
		if address = strings.TrimSpace(address); address != "" {
			out = append(out, map[string]any{"kind": mail.To, "address": address})
		}
	}
	return out, nil
}

// maxNumber is the limit of mixin.Record, in characters.
const maxNumber = 64

// text reads text as it stands; a limit of 0 is none.
func text(limit int) func(string) (any, error) {
	return func(s string) (any, error) {
		if limit > 0 {
			if err := mixin.Characters(limit)(s); err != nil {
				return nil, err
			}
		}
		return s, nil
	}
}

func parseID(s string) (any, error) {
	id, err := gid.Parse(strings.TrimSpace(s))
	if err != nil {
		return nil, errors.New("is not an id")
	}
	return id, nil
}

var layouts = []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly}

// maxSerial is the last day of the year 9999 as a spreadsheet counts.
const maxSerial = 2_958_466

// parseTime reads the forms above, and the days since the epoch of a spreadsheet.
func (r *run) parseTime(epoch *time.Time) func(string) (any, error) {
	zone := r.zone
	return func(s string) (any, error) {
		s = strings.TrimSpace(s)
		if days, err := strconv.ParseFloat(s, 64); epoch != nil && err == nil && days >= 1 && days < maxSerial {
			at := epoch.Add(time.Duration(math.Round(days*86_400)) * time.Second)
			return time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), 0, zone).UTC(), nil
		}
		for _, layout := range layouts {
			if at, err := time.ParseInLocation(layout, s, zone); err == nil && at.UTC().Year() >= 1 && at.UTC().Year() <= 9999 {
				return at.UTC(), nil
			}
		}
		return nil, errors.New("is not a time such as 2026-03-01 or 2026-03-01T09:00:00Z")
	}
}

// settings are the values that every record gets.
type settings struct {
	values record.Values
	owner  string // folded address
	refs   map[string]string
}

// isReference reports whether a field names a record or a user as people do.
func isReference(field string) bool {
	return field == "customer" || field == "contact" || field == "deal" || field == assigneeField
}

func (r *run) settings() (settings, error) {
	s := settings{values: record.Values{}}
	if r.mail && len(r.Map) > 0 {
		return s, usage("mail has no columns to map")
	}
	known := r.fields(nil)
	s.refs = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(r.Set)) {
		parse := known[name]
		if parse == nil {
			return s, unknownField(name, known)
		}
		v, err := parse(r.Set[name])
		if err != nil {
			return s, usage("%s=%s %v", name, r.Set[name], err)
		}
		if name == ownerField {
			s.owner = record.Fold(r.Set[name], lifecycle.FoldEmail)
			continue
		}
		if isReference(name) {
			s.refs[name] = r.Set[name]
			continue
		}
		s.values[name] = v
	}
	if s.owner != "" && s.values["ownerID"] != nil {
		return s, usage("owner and ownerID are the same thing; set one of them")
	}
	return s, nil
}

func unknownField[V any](name string, known map[string]V) error {
	return usage("there is no field %q; there are: %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
}
