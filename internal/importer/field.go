package importer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/customer"
	"github.com/lethe-crm/lethe/ent/message"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// ownerField names the owner by the address of a user. It is not a field of
// records, which hold the user's id.
const ownerField = "owner"

// mailFields are the fields of a message that do not come from the mail.
var mailFields = []string{"channel", "category", "direction", "ownerID", "teamID", "dealID"}

// enums read the values of enums into the types the entities want.
var enums = map[string]func(string) (any, error){
	"Customer.kind":     enum(customer.KindValidator, customer.KindCOMPANY, customer.KindPERSON),
	"Customer.status":   enum(customer.StatusValidator, customer.StatusLEAD, customer.StatusPROSPECT, customer.StatusCUSTOMER, customer.StatusFORMER),
	"Message.channel":   enum(message.ChannelValidator, message.ChannelEMAIL, message.ChannelCHAT, message.ChannelSMS, message.ChannelLETTER, message.ChannelOTHER),
	"Message.category":  enum(message.CategoryValidator, message.CategoryNORMAL, message.CategorySPAM, message.CategoryMAILING),
	"Message.direction": enum(message.DirectionValidator, message.DirectionINBOUND, message.DirectionOUTBOUND),
}

func enum[T ~string](validate func(T) error, values ...T) func(string) (any, error) {
	return func(text string) (any, error) {
		v := T(strings.ToUpper(strings.TrimSpace(text)))
		if validate(v) != nil {
			return nil, fmt.Errorf("is not one of %s", join(values))
		}
		return v, nil
	}
}

func join[T ~string](values []T) string {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = string(v)
	}
	return strings.Join(names, ", ")
}

// fields are the fields that a column or a setting may fill, by GraphQL name,
// each with how its text is read.
func fields(t *ent.RecordType) map[string]func(string) (any, error) {
	out := map[string]func(string) (any, error){ownerField: text(0)}
	for _, f := range t.Fields {
		if f.ReadOnly || t.Name == ent.TypeMessage && !slices.Contains(mailFields, f.GraphQL) {
			continue
		}
		switch f.Kind {
		case "string":
			limit := mixin.MaxName
			if f.Name == "number" {
				limit = maxNumber
			}
			out[f.GraphQL] = text(limit)
		case "enum":
			out[f.GraphQL] = enums[t.Name+"."+f.GraphQL]
		case "time":
			out[f.GraphQL] = parseTime
		case "id":
			out[f.GraphQL] = parseID
		}
	}
	return out
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

func parseTime(s string) (any, error) {
	s = strings.TrimSpace(s)
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		at, err = time.Parse(time.DateOnly, s)
	}
	at = at.UTC()
	if err != nil || at.Year() < 1 || at.Year() > 9999 {
		return nil, errors.New("is not a time such as 2026-03-01 or 2026-03-01T09:00:00Z")
	}
	return at, nil
}

// settings are the values that every record gets.
type settings struct {
	values record.Values
	owner  string // folded address
}

func (r *run) settings() (settings, error) {
	s := settings{values: record.Values{}}
	if r.As == Messages && len(r.Map) > 0 {
		return s, usage("mail has no columns to map")
	}
	known := fields(r.typ)
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
