package casbin

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Rule is a policy row as Casbin's adapters store it: the kind of row ("p" or "g") and its values.
//
//	p: subject, tenant, object, action, effect, condition
//	g: subject or role, the role it is given, tenant
type Rule struct {
	Ptype string
	V     [6]string
}

// Subject prefixes. In Casbin a user named like a role has that role; the prefixes keep the two apart.
const (
	userPrefix = "user:"
	rolePrefix = "role:"
)

// System is the subject of timers and retention. Nobody can sign in as it, and it cannot be given a role.
const System = userPrefix + "system"

// UserSubject is how policies name a user.
func UserSubject(id string) string { return userPrefix + id }

// RoleSubject is how policies name a role.
func RoleSubject(name string) string { return rolePrefix + name }

// Permission is a "p" row.
func Permission(subject, tenant, object, action, effect, condition string) Rule {
	return Rule{"p", [6]string{subject, tenant, object, action, effect, condition}}
}

// Grant is a "g" row: the subject, or everyone in the role, has the other role.
func Grant(subject, role, tenant string) Rule {
	return Rule{"g", [6]string{subject, role, tenant}}
}

// Values are the values that a row of this kind has; of an unknown kind, those up to the last that is not empty.
func (r Rule) Values() []string {
	switch r.Ptype {
	case "p":
		return r.V[:6]
	case "g":
		return r.V[:3]
	}
	n := len(r.V)
	for n > 0 && r.V[n-1] == "" {
		n--
	}
	return r.V[:n]
}

// String is the row as a line of Casbin's CSV.
func (r Rule) String() string {
	var b strings.Builder
	if err := WriteCSV(&b, []Rule{r}); err != nil {
		return fmt.Sprintf("%s %q", r.Ptype, r.V) // a strings.Builder takes every write
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// WriteCSV writes rows in the format of Casbin's policy files.
func WriteCSV(w io.Writer, rules []Rule) error {
	out := csv.NewWriter(w)
	for _, r := range rules {
		if err := out.Write(append([]string{r.Ptype}, r.Values()...)); err != nil {
			return fmt.Errorf("write policy: %w", err)
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write policy: %w", err)
	}
	return nil
}

// ReadCSV reads a Casbin policy file. It checks the form only; Validate judges what the rows say.
func ReadCSV(r io.Reader) ([]Rule, error) {
	in := csv.NewReader(r)
	in.Comment = '#'
	in.TrimLeadingSpace = true
	in.FieldsPerRecord = -1
	var rules []Rule
	for {
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			return rules, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read policy: %w", err)
		}
		line, _ := in.FieldPos(0)
		want, ok := map[string]int{"p": 6, "g": 3}[fields[0]]
		if !ok {
			return nil, fmt.Errorf("read policy: line %d: a row starts with p or g, not %q", line, fields[0])
		}
		if len(fields)-1 != want {
			return nil, fmt.Errorf("read policy: line %d: a %s row has %d values, not %d", line, fields[0], want, len(fields)-1)
		}
		rule := Rule{Ptype: fields[0]}
		copy(rule.V[:], fields[1:])
		rules = append(rules, rule)
	}
}
