package record

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// Create makes a record of a type.
func (s *Service) Create(ctx context.Context, typ string, values Values) (ent.Record, error) {
	records, errs, err := s.CreateMany(ctx, typ, []Values{values})
	if err == nil && errs[0] != nil {
		err = errs[0]
	}
	if err != nil {
		return nil, err
	}
	return records[0], s.hint(ctx, records[0])
}

// draft is a record that is about to be created.
type draft struct {
	values Values            // by field name of the registry
	parts  map[string][]part // by part name
	keys   map[string]string // folded columns
	props  map[string]any    // as policies see it
	err    *Error

	inherited bool // its owner is that of the owner row
}

type part map[string]any

// CreateMany makes records of one type in a bounded number of statements. What
// is refused is left out: its place in the records is nil, its place in the
// refusals says why. Inside one call a later twin of an earlier record is a
// conflict.
func (s *Service) CreateMany(ctx context.Context, typ string, rows []Values) ([]ent.Record, []error, error) {
	a, t := actor.From(ctx), ent.RecordTypeNamed(typ)
	if a == nil || t == nil {
		return nil, nil, fmt.Errorf("record: creating a %q for nobody", typ)
	}
	out, errs := make([]ent.Record, len(rows)), make([]error, len(rows))
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		drafts := make([]*draft, len(rows))
		for i, values := range rows {
			drafts[i] = newDraft(t, values, true)
		}
		if err := s.settleOwners(ctx, tx, a, t, drafts); err != nil {
			return err
		}
		s.authorizeCreate(ctx, a, t, drafts)
		for _, d := range drafts { // what is not written must not take a value or a number from another row
			if d.err == nil {
				d.err = s.valid(ctx, tx, a, t, d)
			}
		}
		if err := s.checkUnique(ctx, tx, a, t, drafts, nil); err != nil {
			return err
		}
		if err := s.number(ctx, tx, a, t, drafts); err != nil {
			return err
		}
		if err := s.insert(ctx, tx, a, t, drafts, out); err != nil {
			return err
		}
		refused := map[lifecycle.Code]int{}
		for i, d := range drafts {
			if d.err != nil {
				errs[i] = d.err
				refused[d.err.Code]++
			}
		}
		if n := refused[lifecycle.Forbidden]; n > 0 {
			s.logRefusal(ctx, tx, audit.Event{Action: "CREATE", Code: lifecycle.Forbidden, RecordType: t.Name, Count: n})
		}
		return nil
	})
	return out, errs, err
}

func newDraft(t *ent.RecordType, values Values, create bool) *draft {
	d := &draft{values: Values{}, parts: map[string][]part{}, keys: map[string]string{}}
	d.err = d.read(t, values, create)
	return d
}

// read sorts values by field of the registry and computes the folded columns.
func (d *draft) read(t *ent.RecordType, values Values, create bool) *Error {
	for name, v := range values {
		if i := slices.IndexFunc(t.Parts, func(p ent.RecordPart) bool { return p.GraphQL == name }); i >= 0 {
			parts, err := readParts(t.Parts[i], v)
			if err != nil {
				return err
			}
			d.parts[t.Parts[i].Name] = parts
			continue
		}
		i := slices.IndexFunc(t.Fields, func(f ent.RecordField) bool { return f.GraphQL == name && !f.ReadOnly && (create || !f.Immutable) })
		if i < 0 {
			return Refuse(lifecycle.BadUserInput, "there is no such field", name)
		}
		f := t.Fields[i]
		v = deref(v)
		switch typed := v.(type) {
		case string:
			if !storable(typed) {
				return Refuse(lifecycle.BadUserInput, unstorable, name)
			}
			if f.Kind == "string" && typed == "" {
				v = nil // empty is stored as NULL
			}
		case time.Time:
			// As both databases keep it, so that what is answered now is what is read later.
			typed = typed.UTC().Truncate(time.Microsecond)
			if typed.Year() < 1 || typed.Year() > 9999 {
				return Refuse(lifecycle.BadUserInput, "is not in the years 1 to 9999", name)
			}
			v = typed
		case float64:
			typed = math.Round(typed*1e4) / 1e4
			if math.IsNaN(typed) || math.Abs(typed) >= 1e15 {
				return Refuse(lifecycle.BadUserInput, "has more than 15 digits before the point", name)
			}
			v = typed
		}
		d.values[f.Name] = v
		for column, fold := range keyColumns(t, f.Name) {
			text, _ := v.(string)
			d.keys[column] = Fold(text, fold)
		}
	}
	return nil
}

const unstorable = "contains a NUL or is not UTF-8"

// storable reports whether both databases can hold a text.
func storable(s string) bool { return !strings.ContainsRune(s, 0) && utf8.ValidString(s) }

func readParts(p ent.RecordPart, v any) ([]part, *Error) {
	rows, ok := v.([]map[string]any)
	if v != nil && !ok {
		return nil, Refuse(lifecycle.BadUserInput, "is not a list of objects", p.GraphQL)
	}
	out := make([]part, 0, len(rows))
	for _, row := range rows {
		address, _ := deref(row["address"]).(string)
		name, _ := deref(row["name"]).(string)
		if strings.TrimSpace(address) == "" || mixin.Characters(mixin.MaxName)(address) != nil || mixin.Characters(mixin.MaxName)(name) != nil {
			return nil, Refuse(lifecycle.BadUserInput, fmt.Sprintf("an address is needed, of at most %d characters", mixin.MaxName), p.GraphQL)
		}
		if !storable(address) || !storable(name) {
			return nil, Refuse(lifecycle.BadUserInput, unstorable, p.GraphQL)
		}
		kind := "TO"
		if given := deref(row["kind"]); given != nil && fmt.Sprint(given) != "" {
			kind = fmt.Sprint(given)
		}
		if kind != "TO" && kind != "CC" && kind != "BCC" {
			return nil, Refuse(lifecycle.BadUserInput, "a kind is TO, CC or BCC", p.GraphQL)
		}
		out = append(out, part{"address": address, "name": name, "kind": kind})
	}
	return out, nil
}

// settleOwners locks what drafts point to, refuses what must not be pointed to,
// and gives drafts without an owner or team those of their owner row, else the
// actor's.
func (s *Service) settleOwners(ctx context.Context, tx *store.Tx, a *actor.Actor, t *ent.RecordType, drafts []*draft) error {
	targets, err := s.lockTargets(ctx, t, drafts)
	if err != nil {
		return err
	}
	for _, d := range drafts {
		if d.err != nil {
			continue
		}
		owner, team := a.UserRef(), a.FirstTeam()
		inherited := false
		for _, e := range t.Edges {
			id, ok := d.values[e.Column].(gid.ID)
			if !ok {
				continue
			}
			target := targets[id]
			if d.err = checkTarget(e, id, target); d.err != nil {
				break
			}
			if e.Class == lifecycle.Owned {
				owner, team = refOf(target, "owner_id"), refOf(target, "team_id")
				inherited = true
			}
		}
		if _, given := d.values["owner_id"]; !given && owner != nil {
			d.values["owner_id"] = *owner
			d.inherited = inherited
		}
		if _, given := d.values["team_id"]; !given && team != nil {
			d.values["team_id"] = *team
		}
	}
	return s.checkPeople(ctx, tx, a, drafts)
}

// lockTargets loads the records that drafts point to, as far as the caller may
// read them, and keeps them from being retired until the transaction ends.
func (s *Service) lockTargets(ctx context.Context, t *ent.RecordType, drafts []*draft) (map[gid.ID]ent.Record, error) {
	ids := map[string][]gid.ID{}
	for _, d := range drafts {
		for _, e := range t.Edges {
			if id, ok := d.values[e.Column].(gid.ID); ok && d.err == nil {
				ids[e.Target] = append(ids[e.Target], id)
			}
		}
	}
	out := map[gid.ID]ent.Record{}
	for _, target := range typeOrder {
		rows, err := s.load(ctx, target, ids[target.Name], share)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			out[r.RecordID()] = r
		}
	}
	return out, nil
}

func checkTarget(e ent.RecordReference, id gid.ID, target ent.Record) *Error {
	switch {
	case target == nil || target.RecordType().Name != e.Target:
		return Refuse(lifecycle.BadUserInput, "there is no such record", e.GraphQL)
	case target.RecordState().Retired() && e.Class != lifecycle.Weak:
		return &Error{
			Code: lifecycle.ParentRetired, Message: "the record it would belong to is retired", Fields: []string{e.GraphQL},
			Extensions: map[string]any{"record": id.String(), "state": string(target.RecordState())},
		}
	}
	return nil
}

// checkPeople refuses owners and teams that are not there, or not active.
func (s *Service) checkPeople(ctx context.Context, tx *store.Tx, a *actor.Actor, drafts []*draft) error {
	for _, ref := range []struct{ column, field, table, active string }{
		{"owner_id", "ownerID", "users", " AND active"}, {"team_id", "teamID", "teams", ""},
	} {
		known := map[gid.ID]bool{}
		var unknown []gid.ID
		for _, id := range append(slices.Clone(a.Teams), a.User) {
			known[id] = true
		}
		for _, d := range drafts {
			if id, ok := d.values[ref.column].(gid.ID); ok && !known[id] && !slices.Contains(unknown, id) {
				unknown = append(unknown, id)
			}
		}
		if len(unknown) == 0 {
			continue
		}
		err := store.Build(tx).Add(`SELECT id FROM `+ref.table+` WHERE tenant_id = ?`+ref.active+` AND `, a.Tenant).IDs("id", unknown).
			Query(ctx, tx, scanIDs(func(id gid.ID) { known[id] = true }))
		if err != nil {
			return fmt.Errorf("looking up %s: %w", ref.table, err)
		}
		for _, d := range drafts {
			if id, ok := d.values[ref.column].(gid.ID); ok && !known[id] && d.err == nil {
				if d.inherited && ref.column == "owner_id" {
					delete(d.values, ref.column)
					continue
				}
				d.err = Refuse(lifecycle.BadUserInput, "there is no such user or team", ref.field)
			}
		}
	}
	return nil
}

func (s *Service) authorizeCreate(ctx context.Context, a *actor.Actor, t *ent.RecordType, drafts []*draft) {
	questions := make([]access.Question, len(drafts))
	for i, d := range drafts {
		d.props = access.Props(t, func(column string) any {
			if column == "state" {
				return string(lifecycle.Active)
			}
			return d.values[column]
		})
		questions[i] = access.Question{Action: authz.Create, Type: t.Name, Props: d.props}
	}
	for i, answer := range s.control.Decide(ctx, a, questions) {
		if d := drafts[i]; d.err == nil && !answer.Permit {
			d.err = refusal(answer)
		}
	}
}

func refusal(d access.Decision) *Error {
	if d.Unavailable {
		return Refuse(lifecycle.AuthzUnavailable, "access could not be decided; try again")
	}
	return Refuse(lifecycle.Forbidden, "the policy does not allow this")
}

// checkUnique refuses drafts whose folded values a live record has, or an
// earlier draft. The index only catches what slips in between.
func (s *Service) checkUnique(ctx context.Context, tx *store.Tx, a *actor.Actor, t *ent.RecordType, drafts []*draft, self *gid.ID) error {
	for _, u := range t.Uniques {
		byKey := map[string][]*draft{}
		for _, d := range drafts {
			if k := d.keys[u.Key]; k != "" && d.err == nil {
				byKey[k] = append(byKey[k], d)
			}
		}
		if len(byKey) == 0 {
			continue
		}
		keys := make([]string, 0, len(byKey))
		for k := range byKey {
			keys = append(keys, k)
		}
		taken, err := s.taken(ctx, tx, a, t, u, keys)
		if err != nil {
			return err
		}
		for _, ds := range byKey {
			seen := map[string]bool{}
			for _, d := range ds {
				scope := d.keys[u.Key]
				if u.Within != "" {
					within, ok := d.values[u.Within].(gid.ID)
					if !ok {
						continue // NULLs are never equal
					}
					scope += " " + within.String()
				}
				holder, conflict := taken[scope]
				if conflict && self != nil && holder == *self {
					conflict = false
				}
				if conflict || seen[scope] {
					d.err = s.uniqueError(ctx, t, u, holder)
				}
				seen[scope] = true
			}
		}
	}
	return nil
}

// taken says which live record has each of the folded values, by value and scope.
func (s *Service) taken(ctx context.Context, q store.Querier, a *actor.Actor, t *ent.RecordType, u ent.RecordUnique, keys []string) (map[string]gid.ID, error) {
	within := "NULL"
	if u.Within != "" {
		within = u.Within
	}
	out := map[string]gid.ID{}
	err := store.Build(q).Add(`SELECT id, `+u.Key+`, `+within+` FROM `+t.Table+` WHERE tenant_id = ? AND retired_at IS NULL AND `, a.Tenant).
		Strings(u.Key, keys).Query(ctx, q, func(rows *stdsql.Rows) error {
		var id, scope gid.ID
		var key string
		if err := rows.Scan(&id, &key, &scope); err != nil {
			return err
		}
		if u.Within != "" {
			key += " " + scope.String()
		}
		out[key] = id
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for twins: %w", err)
	}
	return out, nil
}

// uniqueError names the record that has the value to those who may read it.
func (s *Service) uniqueError(ctx context.Context, t *ent.RecordType, u ent.RecordUnique, holder gid.ID) *Error {
	e := &Error{
		Code: lifecycle.UniqueConflict, Message: "another live record has this value", Fields: []string{u.GraphQL},
		Extensions: map[string]any{"field": u.GraphQL},
	}
	if !holder.IsZero() {
		if rows, err := s.load(ctx, t, []gid.ID{holder}, none); err == nil && len(rows) == 1 {
			e.Extensions["record"] = holder.String()
		}
	}
	return e
}

func (s *Service) insert(ctx context.Context, tx *store.Tx, a *actor.Actor, t *ent.RecordType, drafts []*draft, out []ent.Record) error {
	var index []int
	for i, d := range drafts {
		if d.err == nil {
			index = append(index, i)
		}
	}
	if len(index) == 0 {
		return nil
	}
	extra := map[ent.Mutation][]audit.Change{}
	ctx = context.WithValue(ctx, partsKey{}, extra)
	records, err := s.Client(ctx).CreateRecords(ctx, t.Name, len(index), func(i int, m ent.Mutation) error {
		d := drafts[index[i]]
		for _, p := range t.Parts {
			if rows := d.parts[p.Name]; len(rows) > 0 {
				extra[m] = append(extra[m], audit.Change{Field: p.GraphQL, New: rows})
			}
		}
		return setFields(t, m, d)
	})
	if err != nil {
		return mapWriteError(t, err)
	}
	for i, r := range records {
		out[index[i]] = r
	}
	for _, p := range t.Parts {
		var rows [][]any
		for i, r := range records {
			rows = append(rows, partRows(a, p, r.RecordID(), drafts[index[i]].parts[p.Name])...)
		}
		if err := tx.Insert(ctx, p.Table, p.Columns, rows); err != nil {
			return fmt.Errorf("writing %s: %w", p.Name, err)
		}
	}
	if !t.Numbered {
		return nil
	}
	numbers := make([][]any, len(records))
	for i, r := range records {
		numbers[i] = []any{a.Tenant, t.Name, r.Column("number"), r.RecordID()}
	}
	if err := tx.Insert(ctx, "record_numbers", []string{"tenant_id", "record_type", "number", "record_id"}, numbers); err != nil {
		return mapWriteError(t, err)
	}
	return nil
}

// valid refuses a draft that the schema would refuse, so that one bad row does
// not take a batch down with it.
func (s *Service) valid(ctx context.Context, tx *store.Tx, a *actor.Actor, t *ent.RecordType, d *draft) *Error {
	err := s.Client(ctx).CheckRecord(t.Name, func(m ent.Mutation) error {
		for _, name := range []string{"created_at", "updated_at", "state_changed_at"} {
			if err := m.SetField(name, tx.Now()); err != nil {
				return err
			}
		}
		if err := m.SetField("tenant_id", a.Tenant); err != nil {
			return err
		}
		if t.Numbered { // it is taken later, where none is given
			if err := m.SetField("number", "0"); err != nil {
				return err
			}
		}
		return setFields(t, m, d)
	})
	if err == nil {
		return nil
	}
	err = mapWriteError(t, err)
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused
	}
	return Refuse(lifecycle.BadUserInput, err.Error())
}

func partRows(a *actor.Actor, p ent.RecordPart, record gid.ID, parts []part) [][]any {
	rows := make([][]any, len(parts))
	for i, values := range parts {
		row := make([]any, len(p.Columns))
		for j, column := range p.Columns {
			switch column {
			case "id":
				row[j] = gid.New(gid.Recipient)
			case "tenant_id":
				row[j] = a.Tenant
			case p.Column:
				row[j] = record
			case "address_key":
				address, _ := values["address"].(string)
				row[j] = Fold(address, lifecycle.FoldEmail)
			default:
				row[j] = values[column]
				if row[j] == "" {
					row[j] = nil
				}
			}
		}
		rows[i] = row
	}
	return rows
}

// setFields fills a mutation with what a draft says; nil clears.
func setFields(t *ent.RecordType, m ent.Mutation, d *draft) error {
	for name, v := range d.values {
		if err := setField(m, name, v); err != nil {
			return Refuse(lifecycle.BadUserInput, "cannot have this value", graphQLName(t, name))
		}
	}
	for column, key := range d.keys {
		var v any
		if key != "" {
			v = key
		}
		if err := setField(m, column, v); err != nil {
			return fmt.Errorf("setting %s: %w", column, err)
		}
	}
	return nil
}

func setField(m ent.Mutation, name string, v any) error {
	if v != nil {
		return m.SetField(name, v)
	}
	if m.Op().Is(ent.OpCreate) {
		return nil
	}
	return m.ClearField(name)
}

func graphQLName(t *ent.RecordType, column string) string {
	for _, f := range t.Fields {
		if f.Name == column {
			return f.GraphQL
		}
	}
	return column
}

// mapWriteError turns what ent and the database say about a write into what the
// API says about a field.
func mapWriteError(t *ent.RecordType, err error) error {
	if invalid, ok := errors.AsType[*ent.ValidationError](err); ok {
		reason := "is not valid"
		if long, ok := errors.AsType[mixin.TooLongError](invalid); ok {
			reason = long.Error()
		} else if strings.Contains(invalid.Error(), "missing required") || strings.Contains(invalid.Error(), "less than the required") {
			reason = "is required"
		}
		return Refuse(lifecycle.BadUserInput, reason, graphQLName(t, invalid.Name))
	}
	c, ok := store.Constraint(err)
	if !ok {
		return err
	}
	switch c.Kind {
	case store.UniqueViolation:
		for _, u := range t.Uniques {
			if c.Concerns(u.Key) {
				return &Error{Code: lifecycle.UniqueConflict, Message: "another live record has this value", Fields: []string{u.GraphQL}, Extensions: map[string]any{"field": u.GraphQL}}
			}
		}
		if c.Concerns("number") {
			return &Error{Code: lifecycle.UniqueConflict, Message: "this number was given out before", Fields: []string{"number"}, Extensions: map[string]any{"field": "number"}}
		}
	case store.ReferenceViolation:
		return Refuse(lifecycle.BadUserInput, "refers to something that is not there")
	}
	return err
}

// Update changes fields of a record the caller saw at a version.
func (s *Service) Update(ctx context.Context, id gid.ID, version int, values Values) (ent.Record, error) {
	a, t := actor.From(ctx), ent.RecordTypeOf(id)
	if a == nil {
		return nil, errors.New("record: updating for nobody")
	}
	if t == nil {
		return nil, Refuse(lifecycle.NotFound, "there is no such record", "id")
	}
	var out ent.Record
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		out, err = s.update(ctx, tx, a, t, id, version, values)
		if refused, ok := errors.AsType[*Error](err); ok && refused.Code == lifecycle.Forbidden {
			s.logRefusal(ctx, tx, audit.Event{Action: "UPDATE", Code: refused.Code, RecordType: t.Name, Count: 1, IDs: []string{id.String()}})
		}
		return err
	})
	return out, err
}

func (s *Service) update(ctx context.Context, tx *store.Tx, a *actor.Actor, t *ent.RecordType, id gid.ID, version int, values Values) (ent.Record, error) {
	d := newDraft(t, values, false)
	if d.err != nil {
		return nil, d.err
	}
	// What it will point to is locked first: owners before what they own.
	targets, err := s.lockTargets(ctx, t, []*draft{d})
	if err != nil {
		return nil, err
	}
	rows, err := s.load(ctx, t, []gid.ID{id}, update)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, Refuse(lifecycle.NotFound, "there is no such record", "id")
	}
	r := rows[0]
	before := access.Question{Action: authz.Update, Type: t.Name, ID: id, Props: access.RecordProps(r)}
	after := before
	after.Props = access.Props(t, func(column string) any {
		if v, ok := d.values[column]; ok {
			return v
		}
		return r.Column(column)
	})
	for _, answer := range s.control.Decide(ctx, a, []access.Question{before, after}) {
		if !answer.Permit {
			return nil, refusal(answer)
		}
	}
	switch {
	case !r.RecordState().Editable():
		return nil, &Error{Code: lifecycle.RecordNotEditable, Message: "a record in this state is read-only", Fields: []string{"id"}, Extensions: map[string]any{"state": string(r.RecordState())}}
	case r.RecordVersion() != version:
		return nil, &Error{
			Code: lifecycle.Conflict, Message: "the record is not at this version any more", Fields: []string{"version"},
			Extensions: map[string]any{"state": string(r.RecordState()), "version": r.RecordVersion()},
		}
	}
	for _, e := range t.Edges {
		if to, ok := d.values[e.Column].(gid.ID); ok {
			if refused := checkTarget(e, to, targets[to]); refused != nil {
				return nil, refused
			}
		}
	}
	if err := s.checkPeople(ctx, tx, a, []*draft{d}); err != nil {
		return nil, err
	}
	for _, u := range t.Uniques { // a move to another owner meets its twins there
		_, keyed := d.keys[u.Key]
		if _, given := d.values[u.Within]; given && u.Within != "" && !keyed {
			if key, ok := r.Column(u.Key).(string); ok {
				d.keys[u.Key] = key
			}
		} else if u.Within != "" && !given {
			if within := r.Column(u.Within); within != nil && d.keys[u.Key] != "" {
				d.values[u.Within] = within
			}
		}
	}
	if err := s.checkUnique(ctx, tx, a, t, []*draft{d}, &id); err != nil {
		return nil, err
	}
	if d.err != nil {
		return nil, d.err
	}
	return s.save(ctx, tx, a, t, r, d)
}

func (s *Service) save(ctx context.Context, tx *store.Tx, a *actor.Actor, t *ent.RecordType, r ent.Record, d *draft) (ent.Record, error) {
	extra := map[ent.Mutation][]audit.Change{}
	for _, p := range t.Parts {
		parts, given := d.parts[p.Name]
		if !given {
			continue
		}
		old, err := s.partsOf(ctx, tx, p, []gid.ID{r.RecordID()})
		if err != nil {
			return nil, err
		}
		if _, err := store.Build(tx).Add(`DELETE FROM `+p.Table+` WHERE `+p.Column+` = ?`, r.RecordID()).Exec(ctx, tx); err != nil {
			return nil, fmt.Errorf("replacing %s: %w", p.Name, err)
		}
		if err := tx.Insert(ctx, p.Table, p.Columns, partRows(a, p, r.RecordID(), parts)); err != nil {
			return nil, fmt.Errorf("writing %s: %w", p.Name, err)
		}
		extra[nil] = append(extra[nil], audit.Change{Field: p.GraphQL, Old: old[r.RecordID()], New: parts})
	}
	ctx = context.WithValue(ctx, partsKey{}, extra)
	// The row is locked and was read in this transaction: what the caller may
	// see of it was decided then.
	saved, err := s.Client(ctx).UpdateRecord(visible.With(ctx, visible.Tenant(a.Tenant)), r, func(m ent.Mutation) error {
		extra[m] = extra[nil]
		return setFields(t, m, d)
	})
	if ent.IsNotFound(err) {
		return nil, Refuse(lifecycle.RecordNotEditable, "a record in this state is read-only", "id")
	}
	if err != nil {
		return nil, mapWriteError(t, err)
	}
	return saved, nil
}
