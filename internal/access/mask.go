package access

import (
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/visible"
)

// LabelField is the computed field that is made of others, and hidden with any of them.
const LabelField = "label"

// Maskable are the fields of a record type that policies may name: those that hold personal data.
func Maskable(typ string) []string { return maskable[typ] }

var maskable = func() map[string][]string {
	out := map[string][]string{}
	for _, t := range ent.RecordTypes {
		for _, f := range t.Fields {
			if f.Sensitive {
				out[t.Name] = append(out[t.Name], f.GraphQL)
			}
		}
		for _, p := range t.Parts {
			out[t.Name] = append(out[t.Name], p.GraphQL)
		}
	}
	return out
}()

// Comparisons are what follows the name of a field in filters.
var Comparisons = []string{
	"", "NEQ", "In", "NotIn", "GT", "GTE", "LT", "LTE", "Contains", "HasPrefix", "HasSuffix", "EqualFold", "ContainsFold", "IsNil", "NotNil",
}

// Comparable is Filterable of what a filter calls a comparison with a field.
func (r *Rows) Comparable(typ, comparison string) bool {
	m := r.mask(typ)
	return m == nil || !slices.ContainsFunc(maskable[typ], func(field string) bool {
		rest, ok := strings.CutPrefix(comparison, field)
		return ok && slices.Contains(Comparisons, rest) && m.names[field]
	})
}

// mask is what is hidden of the records of one type.
type mask struct {
	typ     *ent.RecordType
	labels  []string // the fields a label is made of
	fields  []maskedField
	columns []string
	names   map[string]bool
	// always is what is hidden whatever the row; nil when that depends on it.
	always map[string]bool
}

// maskedField says where a field shows: in live records and in retired ones.
type maskedField struct {
	name          string
	live, retired authz.Filter
}

var (
	_ visible.Masker = (*Rows)(nil)
	_ visible.Reader = (*Rows)(nil)
)

// Mask implements visible.Masker. Fields are planned as rows are, and the filter is then held against each row
// that is shown: for the rows of a page there is nothing to ask.
func (r *Rows) Mask(typ string) visible.Mask {
	if m := r.mask(typ); m != nil {
		return m
	}
	return nil
}

func (r *Rows) mask(typ string) *mask {
	t := ent.RecordTypeNamed(typ)
	if t == nil {
		return nil
	}
	r.mu.Lock()
	m, known := r.masks[typ]
	r.mu.Unlock()
	if known {
		return m
	}
	m = r.newMask(t)
	r.mu.Lock()
	r.masks[typ] = m
	r.mu.Unlock()
	return m
}

func (r *Rows) newMask(t *ent.RecordType) *mask {
	named := r.chain.Fields(r.ctx, r.actor.Tenant.String(), t.Name, maskable[t.Name])
	m := &mask{typ: t, names: map[string]bool{}}
	constant := true
	for _, name := range named {
		f := maskedField{name, r.shows(t, name, authz.Read), r.shows(t, name, authz.ReadRetired)}
		// Who reads records in one of the two only is shown others in events and answers to his writes.
		f.live, f.retired = first(f.live, f.retired), first(f.retired, f.live)
		if isTrue(f.live) && isTrue(f.retired) {
			continue
		}
		constant = constant && isFalse(f.live) && isFalse(f.retired)
		m.fields, m.names[name] = append(m.fields, f), true
	}
	if len(m.fields) == 0 {
		return nil
	}
	for _, label := range t.Labels {
		for _, f := range t.Fields {
			if f.Name == label {
				m.labels = append(m.labels, f.GraphQL)
			}
		}
	}
	if slices.ContainsFunc(m.labels, func(l string) bool { return m.names[l] }) {
		m.names[LabelField] = true
	}
	if constant {
		m.always = m.names
		return m
	}
	m.columns = []string{"state"}
	for _, a := range attributes[t.Name] {
		for _, f := range m.fields {
			if slices.Contains(append(authz.Attributes(f.live), authz.Attributes(f.retired)...), a.name) && !slices.Contains(m.columns, a.column) {
				m.columns = append(m.columns, a.column)
			}
		}
	}
	return m
}

// shows is for which of the records that the reader may read under an action he may read a field as well; nil when he
// may read none.
func (r *Rows) shows(t *ent.RecordType, field string, action authz.Action) authz.Filter {
	record := r.plan(t.Name, action, mapper(t.Name))
	query := authz.Query{
		Tenant: r.actor.Tenant.String(), Subject: r.actor.Subject(), Action: action, Resource: authz.Entity{Type: t.Name}, Field: field,
	}
	filter, _ := r.chain.Plan(r.ctx, query)
	switch {
	case isFalse(record.filter):
		return nil
	case authz.Same(record.filter, filter):
		return authz.True{}
	case !memoryKnows(t, filter):
		return authz.False{}
	}
	return filter
}

// memoryKnows reports whether a filter can be held against a row that was read: one over other rows cannot.
func memoryKnows(t *ent.RecordType, f authz.Filter) bool {
	for _, name := range authz.Attributes(f) {
		if !slices.ContainsFunc(attributes[t.Name], func(a attribute) bool { return a.name == name }) {
			return false
		}
	}
	return true
}

// first is the first filter there is; without any, nothing is shown.
func first(a, b authz.Filter) authz.Filter {
	switch {
	case a != nil:
		return a
	case b != nil:
		return b
	}
	return authz.False{}
}

func isTrue(f authz.Filter) bool {
	_, ok := f.(authz.True)
	return ok
}

func isFalse(f authz.Filter) bool {
	_, ok := f.(authz.False)
	return ok
}

// Columns implements visible.Mask.
func (m *mask) Columns() []string { return m.columns }

// Names implements visible.Mask.
func (m *mask) Names() map[string]bool { return m.names }

// Hidden implements visible.Mask.
func (m *mask) Hidden(column func(string) any) map[string]bool {
	if m.always != nil {
		return m.always
	}
	props := Props(m.typ, column)
	state, _ := column("state").(lifecycle.State)
	var hidden map[string]bool
	for _, f := range m.fields {
		shown := f.live
		if state.Retired() {
			shown = f.retired
		}
		if authz.Match(shown, props) {
			continue
		}
		if hidden == nil {
			hidden = map[string]bool{}
		}
		hidden[f.name] = true
		if slices.Contains(m.labels, f.name) {
			hidden[LabelField] = true
		}
	}
	return hidden
}

// TenantID implements visible.Reader.
func (r *Rows) TenantID() any { return r.actor.Tenant }

// Filterable reports whether a reader may filter and order by a field: he must see it in every record of the type
// that he may read, or what he is answered would tell of the values that are hidden from him.
func (r *Rows) Filterable(typ, field string) bool {
	m := r.mask(typ)
	return m == nil || !m.names[field]
}
