package record

import (
	"context"
	"errors"
	"fmt"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	words "github.com/lethe-crm/lethe/internal/search/index"
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

// CreateMany makes records of one type in a bounded number of statements. What
// is refused is left out: its place in the records is nil, its place in the
// refusals says why. Inside one call a later twin of an earlier record is a
// conflict.
func (s *Service) CreateMany(ctx context.Context, typ string, rows []Values) ([]ent.Record, []error, error) {
	a, t := actor.From(ctx), ent.RecordTypeNamed(typ)
	if a == nil || t == nil {
		return nil, nil, fmt.Errorf("record: creating a %q for nobody", typ)
	}
	var out []ent.Record
	var errs []error
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		drafts := make([]*draft, len(rows))
		for i, values := range rows {
			drafts[i] = newDraft(t, values, true)
		}
		out, errs, err = s.createDrafts(ctx, tx, a, t, drafts)
		return err
	})
	return out, errs, err
}

func (s *Service) createDrafts(ctx context.Context, tx *store.Tx, a *actor.Actor, t *ent.RecordType, drafts []*draft) ([]ent.Record, []error, error) {
	out, errs := make([]ent.Record, len(drafts)), make([]error, len(drafts))
	if err := s.settleOwners(ctx, tx, a, t, drafts); err != nil {
		return nil, nil, err
	}
	s.authorizeCreate(ctx, a, t, drafts)
	for _, d := range drafts { // what is not written must not take a value or a number from another row
		if d.err == nil {
			d.err = s.valid(ctx, tx, a, t, d)
		}
	}
	if err := s.checkUnique(ctx, tx, a, t, drafts, nil); err != nil {
		return nil, nil, err
	}
	if err := s.number(ctx, tx, a, t, drafts); err != nil {
		return nil, nil, err
	}
	if err := s.insert(ctx, tx, a, t, drafts, out); err != nil {
		return nil, nil, err
	}
	if err := s.activity(ctx, tx, a, customersOf(out...)); err != nil {
		return nil, nil, err
	}
	if err := s.wakeThreads(ctx, tx, a, t, out); err != nil {
		return nil, nil, err
	}
	refused := map[lifecycle.Code]int{}
	for i, d := range drafts {
		if d.err != nil {
			errs[i] = d.err
			refused[d.err.Code]++
		}
	}
	for _, code := range []lifecycle.Code{lifecycle.Forbidden, lifecycle.FieldForbidden} {
		if n := refused[code]; n > 0 {
			s.logRefusal(ctx, tx, audit.Event{Action: "CREATE", Code: code, RecordType: t.Name, Count: n})
		}
	}
	return out, errs, nil
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
	s.mayCreateFields(ctx, a, t, drafts)
}

func refusal(d access.Decision) *Error {
	if d.Unavailable {
		return Refuse(lifecycle.AuthzUnavailable, "access could not be decided; try again")
	}
	return Refuse(lifecycle.Forbidden, "the policy does not allow this")
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
	parts := map[string]map[gid.ID][]part{}
	for _, p := range t.Parts {
		var rows [][]any
		parts[p.Name] = map[gid.ID][]part{}
		for i, r := range records {
			parts[p.Name][r.RecordID()] = drafts[index[i]].parts[p.Name]
			rows = append(rows, partRows(a, p, r.RecordID(), drafts[index[i]].parts[p.Name])...)
		}
		if err := tx.Insert(ctx, p.Table, p.Columns, rows); err != nil {
			return fmt.Errorf("writing %s: %w", p.Name, err)
		}
	}
	if err := words.Put(ctx, tx, a.Tenant, entries(t, records, parts)); err != nil {
		return err
	}
	if !t.Numbered {
		return nil
	}
	numbers := make([][]any, len(records))
	for i, r := range records {
		numbers[i] = []any{a.Tenant, t.Name, r.Column("number"), r.RecordID()}
	}
	err = tx.Insert(ctx, "record_numbers", []string{"tenant_id", "record_type", "number", "record_id"}, numbers)
	if err == nil {
		err = tx.Flush(ctx) // another may have taken a number meanwhile
	}
	if err != nil {
		return mapWriteError(t, err)
	}
	return nil
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
		if refused, ok := errors.AsType[*Error](err); ok && (refused.Code == lifecycle.Forbidden || refused.Code == lifecycle.FieldForbidden) {
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
	if err := s.lockActivityOf(ctx, tx, a, t, d, id); err != nil {
		return nil, err
	}
	targets, err := s.lockTargets(ctx, t, []*draft{d})
	if err != nil {
		return nil, err
	}
	rows, err := s.query(ctx, t, update, func(sel *sql.Selector) {
		sel.Where(inIDs(sel.C("id"), []gid.ID{id}))
		fenced(a.Tenant)(sel)
	})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		gone, err := s.purged(ctx, tx, a, []gid.ID{id})
		if err != nil {
			return nil, err
		}
		if gone[id] {
			return nil, Refuse(lifecycle.Gone, "the record was purged", "id")
		}
		return nil, Refuse(lifecycle.NotFound, "there is no such record", "id")
	}
	r := rows[0]
	before := access.Of(authz.Update, r)
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
	if refused := s.mayUpdateFields(ctx, a, t, before, after, r, d); refused != nil {
		return nil, refused
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
	code, wide, err := s.frozen(ctx, tx, a, r)
	switch {
	case err != nil:
		return nil, err
	case code != "":
		return nil, Refuse(code, "the record has to be kept as it is", "id")
	}
	for _, e := range t.Edges {
		if to, ok := d.values[e.Column].(gid.ID); ok {
			if refused := checkTarget(e, to, targets[to]); refused != nil {
				return nil, refused
			}
		}
	}
	if refused := d.oneOwner(t, r); refused != nil {
		return nil, refused
	}
	if err := s.checkPeople(ctx, tx, a, t, []*draft{d}); err != nil {
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
	saved, err := s.save(ctx, tx, a, t, r, d)
	if err == nil && len(wide) > 0 {
		err = s.nameLost(ctx, tx, a, map[gid.ID][]wideHold{id: wide})
	}
	if err != nil || !d.moves(t) {
		return saved, err
	}
	return saved, s.activity(ctx, tx, a, customersOf(r, saved))
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
	if d.saysOther(t) {
		err = s.refind(ctx, tx, a.Tenant, t, []ent.Record{saved})
	}
	return saved, err
}
