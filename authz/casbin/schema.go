package casbin

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/authz"
)

// Kind is the type of an attribute.
type Kind uint8

// The kinds. ID is text that is only compared for equality, and may be compared with me and my.teams.
const (
	String Kind = iota + 1
	Int
	Float
	Bool
	Time
	ID
)

var kindNames = []string{"unknown", "string", "int", "float", "bool", "time", "id"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[0]
}

// UnmarshalText reads the name of a kind.
func (k *Kind) UnmarshalText(text []byte) error {
	i := slices.Index(kindNames, string(text))
	if i <= 0 {
		return fmt.Errorf("%q is none of %v", text, kindNames[1:])
	}
	*k = Kind(i) //nolint:gosec // there are seven
	return nil
}

// Schema names the object types, and the attributes that conditions on them may use.
type Schema map[string]map[string]Kind

// IsAttribute reports whether conditions could use an attribute of that name.
func IsAttribute(name string) bool {
	if name == "" || !isLower(name[0]) || reserved[name] {
		return false
	}
	tokens, err := scan(name)
	return err == nil && len(tokens) == 2 && tokens[0].kind == tokenName && !strings.Contains(name, ".")
}

// Vocabulary is what the application calls its things; rows that say anything else are refused.
type Vocabulary struct {
	Schema Schema
	// Fields are the fields by type that may be named as "type.field".
	Fields map[string][]string
	// Actions are known besides those of the catalogue.
	Actions []authz.Action
}

// wildcard stands for every type of the vocabulary, or for every action of it that is not restricted.
const wildcard = "*"

func (v Vocabulary) knowsAction(a string) bool {
	return a == wildcard || authz.Action(a).Known() || slices.Contains(v.Actions, authz.Action(a))
}

func (v Vocabulary) knowsObject(o object) bool {
	if o.typ == wildcard {
		return o.field == ""
	}
	_, known := v.Schema[o.typ]
	return known && (o.field == "" || slices.Contains(v.Fields[o.typ], o.field))
}

// kindOf finds the kind that a condition on the object may take an attribute for. A rule about every type
// uses an attribute as those types have it that have it at all, and they must agree.
func (s Schema) kindOf(typ, attribute string) (Kind, error) {
	if typ != wildcard {
		if k, ok := s[typ][attribute]; ok {
			return k, nil
		}
		return 0, fmt.Errorf("%s has no attribute %q", typ, attribute)
	}
	var found Kind
	for _, attributes := range s {
		k, ok := attributes[attribute]
		switch {
		case !ok:
		case found != 0 && found != k:
			return 0, fmt.Errorf("%q is a %s in one type and a %s in another", attribute, found, k)
		default:
			found = k
		}
	}
	if found == 0 {
		return 0, fmt.Errorf("no type has an attribute %q", attribute)
	}
	return found, nil
}
