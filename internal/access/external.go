package access

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
)

// External are types of other applications that policies may name, with the
// attributes that conditions on them may use: others ask about them by AuthZEN.
type External map[string]map[string]casbin.Kind

// policyConfig is the configuration of the member of kind Kind.
type policyConfig struct {
	External External `json:"external"`
}

// typeName leaves out what has a meaning in policies: the dot of a field, the
// asterisk, the comma.
var typeName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_:/-]{0,99}$`)

// Validate refuses types that would change the meaning of others.
func (c *policyConfig) Validate() error {
	own := Vocabulary().Schema
	kinds := map[string]casbin.Kind{}
	for _, attributes := range own {
		maps.Copy(kinds, attributes) // those of one name are of one kind, or no rule about every type could use it
	}
	for _, typ := range slices.Sorted(maps.Keys(c.External)) {
		if !typeName.MatchString(typ) {
			return fmt.Errorf("external: %q is no name of a type", typ)
		}
		if _, taken := own[typ]; taken {
			return fmt.Errorf("external: %s is a type of Lethe's own", typ)
		}
		for _, name := range slices.Sorted(maps.Keys(c.External[typ])) {
			kind := c.External[typ][name]
			if !casbin.IsAttribute(name) {
				return fmt.Errorf("external: %s: %q is no name of an attribute", typ, name)
			}
			// A rule about every type, such as "owner == me", would become invalid,
			// and with it every tenant's policy that has one.
			if known, ok := kinds[name]; ok && known != kind {
				return fmt.Errorf("external: %s: %s is a %s elsewhere, not a %s", typ, name, known, kind)
			}
			kinds[name] = kind
		}
	}
	return nil
}

// VocabularyOf is what policies may name under a chain: Lethe's own types, and
// the external ones in the configuration of its member of kind Kind.
func VocabularyOf(members []authz.Config) (casbin.Vocabulary, error) {
	v := Vocabulary()
	for _, m := range members {
		if m.Kind != Kind {
			continue
		}
		c, err := authz.Decode[policyConfig](m.Config)
		if err != nil {
			return v, fmt.Errorf("plugin %q of kind %q: %w", m.Name, m.Kind, err)
		}
		for typ, attributes := range c.External {
			v.Schema[typ] = map[string]casbin.Kind{} // known even without attributes
			maps.Copy(v.Schema[typ], attributes)
		}
	}
	return v, nil
}

// Vocabulary is what policies may name under this control.
func (c *Control) Vocabulary() casbin.Vocabulary { return c.vocabulary }
