package record

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// ExportBefore are the verbs that wait, by type of record, until an export has
// what the record says.
type ExportBefore map[string][]lifecycle.Verb

// ExportVerbs are the verbs that can be made to wait for an export.
var ExportVerbs = []lifecycle.Verb{lifecycle.Void, lifecycle.Delete, lifecycle.Purge}

func readExportBefore(text *string) (ExportBefore, error) {
	if text == nil {
		return nil, nil
	}
	var out ExportBefore
	if err := json.Unmarshal([]byte(*text), &out); err != nil {
		return nil, fmt.Errorf("reading what waits for an export: %w", err)
	}
	return out, nil
}

func (b ExportBefore) waits(typ string, verbs ...lifecycle.Verb) bool {
	return slices.ContainsFunc(verbs, func(v lifecycle.Verb) bool { return slices.Contains(b[typ], v) })
}

// exportBeforeOf are those of a tenant.
func (s *Service) exportBeforeOf(ctx context.Context, tenant gid.ID) (ExportBefore, error) {
	var text *string
	if _, err := store.Build(s.db).Add(`SELECT export_before FROM tenants WHERE id = ?`, tenant).One(ctx, s.db, &text); err != nil {
		return nil, fmt.Errorf("reading the tenant's settings: %w", err)
	}
	return readExportBefore(text)
}

// RequireExport sets which verbs wait for an export of the records of a type;
// none is an empty list. The settings are still at a version.
func (s *Service) RequireExport(ctx context.Context, version int, typ string, verbs []lifecycle.Verb) (out *Settings, err error) {
	a := actor.From(ctx)
	if a == nil {
		return nil, errors.New("record: settings by nobody")
	}
	err = s.attempt(ctx, "SETTINGS_UPDATE", nil, s.control.Repin, func(ctx context.Context, tx *store.Tx, a *actor.Actor) error {
		out, err = s.requireExport(ctx, tx, a, version, typ, verbs)
		return err
	})
	return out, err
}

func (s *Service) requireExport(ctx context.Context, tx *store.Tx, a *actor.Actor, version int, typ string, verbs []lifecycle.Verb) (*Settings, error) {
	if err := s.maySet(ctx, a); err != nil {
		return nil, err
	}
	for _, v := range verbs {
		if !slices.Contains(ExportVerbs, v) {
			return nil, Refuse(lifecycle.BadUserInput, fmt.Sprintf("%s cannot wait for an export", v), "verbs")
		}
	}
	// Who purges by the old settings has done so by now, or will read the new ones.
	if err := fenceOff(ctx, tx, a.Tenant); err != nil {
		return nil, err
	}
	if _, err := store.Build(tx).Add(`SELECT id FROM tenants WHERE id = ?`, a.Tenant).ForNoKeyUpdate().Exec(ctx, tx); err != nil {
		return nil, fmt.Errorf("locking the tenant's settings: %w", err)
	}
	old, err := s.settingsOf(ctx, tx, a)
	if err != nil {
		return nil, err
	}
	if old.Version != version {
		return nil, movedOn("settings are", old.Version, nil)
	}
	before := maps.Clone(old.ExportBefore)
	if before == nil {
		before = ExportBefore{}
	}
	was := before[typ]
	delete(before, typ)
	var now []lifecycle.Verb // in one order, each once
	for _, v := range ExportVerbs {
		if slices.Contains(verbs, v) {
			now = append(now, v)
		}
	}
	if slices.Equal(was, now) {
		return old, nil
	}
	if len(now) > 0 {
		before[typ] = now
	}
	var text any
	if len(before) > 0 {
		encoded, err := json.Marshal(before)
		if err != nil {
			return nil, fmt.Errorf("encoding what waits for an export: %w", err)
		}
		text = string(encoded)
	}
	if _, err := store.Build(tx).Add(`UPDATE tenants SET settings_version = settings_version + 1, export_before = ? WHERE id = ?`, text, a.Tenant).Exec(ctx, tx); err != nil {
		return nil, fmt.Errorf("changing the tenant's settings: %w", err)
	}
	event := audit.Event{Action: "SETTINGS_UPDATE", PolicyVersion: s.control.Version(ctx, a.Tenant), Detail: map[string]any{
		"exportBefore": map[string]any{"type": typ, "old": was, "new": now},
	}}
	if err := s.audit.Append(ctx, tx, event); err != nil {
		return nil, err
	}
	return s.settingsOf(ctx, tx, a)
}

// Content is what a record says, apart from its life: what has to be the same in
// an export for that to stand for the record.
type Content struct {
	// Hash is keyed: one of a phone number would be guessed in seconds.
	Hash []byte
	// Parts are those of the record, by the name of the API.
	Parts map[string][]map[string]any
}

// ContentsOf answers what records of a tenant say. They were read whole; their
// parts are read here, one statement for each kind.
func (s *Service) ContentsOf(ctx context.Context, q store.Querier, tenant gid.ID, rows []ent.Record) (map[gid.ID]Content, error) {
	key, err := s.audit.Keys().Tenant(tenant)
	if err != nil {
		return nil, err
	}
	if key, err = hkdf.Key(sha256.New, key, nil, "lethe export content", sha256.Size); err != nil {
		return nil, fmt.Errorf("deriving the key of contents: %w", err)
	}
	byType := map[*ent.RecordType][]ent.Record{}
	for _, row := range rows {
		byType[row.RecordType()] = append(byType[row.RecordType()], row)
	}
	out := make(map[gid.ID]Content, len(rows))
	for t, rows := range byType {
		ids := make([]gid.ID, len(rows))
		for i, row := range rows {
			ids[i] = row.RecordID()
		}
		parts := map[string]map[gid.ID][]part{}
		for _, p := range t.Parts {
			if parts[p.GraphQL], err = s.partsOf(ctx, q, p, ids); err != nil {
				return nil, err
			}
		}
		for _, row := range rows {
			c := Content{Parts: map[string][]map[string]any{}}
			said := map[string]any{}
			for _, f := range t.Fields {
				if f.ReadOnly || isKey(f.Name) {
					continue
				}
				said[f.Name] = row.Column(f.Name)
			}
			for name, of := range parts {
				for _, p := range of[row.RecordID()] {
					c.Parts[name] = append(c.Parts[name], p)
				}
				said[name] = c.Parts[name]
			}
			encoded, err := json.Marshal(said)
			if err != nil {
				return nil, fmt.Errorf("encoding a record: %w", err)
			}
			mac := hmac.New(sha256.New, key)
			mac.Write(encoded)
			c.Hash = mac.Sum(nil)
			out[row.RecordID()] = c
		}
	}
	return out, nil
}

// exported is the newest export that has what a record says.
type exported struct {
	export   gid.ID
	manifest string // SHA-256 of it
	stale    bool   // there is none, but one that has what it said before
}

// exportedAmong says which export has what records say, whatever became of them
// since. Records in no complete export are not in the answer.
func (s *Service) exportedAmong(ctx context.Context, q store.Querier, tenant gid.ID, rows []ent.Record) (map[gid.ID]exported, error) {
	out := map[gid.ID]exported{}
	if len(rows) == 0 {
		return out, nil
	}
	contents, err := s.ContentsOf(ctx, q, tenant, rows)
	if err != nil {
		return nil, err
	}
	ids := make([]gid.ID, len(rows))
	for i, row := range rows {
		ids[i] = row.RecordID()
	}
	// Of the same content, the export that was asked for last.
	err = store.Build(q).Add(`SELECT r.record_id, r.content, e.id, e.manifest_sha256 FROM export_rows r JOIN exports e ON e.id = r.export_id
		WHERE r.tenant_id = ? AND e.complete AND e.status IN ('SUCCEEDED', 'EXPIRED') AND `, tenant).IDs("r.record_id", ids).Add(` ORDER BY e.id`).
		Query(ctx, q, func(row store.Row) error {
			var id gid.ID
			var content []byte
			var found exported
			if err := row.Scan(&id, &content, &found.export, &found.manifest); err != nil {
				return err
			}
			found.stale = !hmac.Equal(content, contents[id].Hash)
			if before, known := out[id]; !known || before.stale || !found.stale {
				out[id] = found
			}
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("looking for exports of records: %w", err)
	}
	return out, nil
}

// keepUnexported keeps from the verb what has to be exported first, of all that is
// in reach. A deletion or a restore since then changes nothing of what a record
// says; an edit does.
func (r *run) keepUnexported(ctx context.Context) error {
	if len(r.settings.exportBefore) == 0 {
		return nil
	}
	var waiting []*node
	var rows []ent.Record
	for _, n := range r.sorted() {
		verbs := []lifecycle.Verb{r.req.Verb}
		if r.deletes() && !n.row.RecordState().Retired() {
			verbs = append(verbs, lifecycle.Delete)
		}
		if n.problem == "" && r.settings.exportBefore.waits(n.row.RecordType().Name, verbs...) {
			waiting, rows = append(waiting, n), append(rows, n.row)
		}
	}
	var err error
	if r.exported, err = r.exportedAmong(ctx, r.q, r.a.Tenant, rows); err != nil {
		return err
	}
	for _, n := range waiting {
		switch found, known := r.exported[n.row.RecordID()]; {
		case !known:
			n.problem = lifecycle.ExportRequired
		case found.stale:
			n.problem = lifecycle.ExportStale
		default:
			continue
		}
		n.blockers = []Blocker{{Code: n.problem, Type: n.row.RecordType().Name, Count: 1}}
	}
	return nil
}

// exportDetail says in an event which export had to have the record.
func (r *run) exportDetail(verb lifecycle.Verb, row ent.Record) map[string]any {
	manifest := r.manifestOf(verb, row)
	if manifest == "" {
		return nil
	}
	return map[string]any{"export": r.exported[row.RecordID()].export.String(), "exportManifest": manifest}
}

// manifestOf is the hash of the manifest of the export that a verb waited for;
// empty where it waits for none.
func (r *run) manifestOf(verb lifecycle.Verb, row ent.Record) string {
	if !r.settings.exportBefore.waits(row.RecordType().Name, verb) {
		return ""
	}
	return r.exported[row.RecordID()].manifest
}

// forgetExports lets go of what exports say of records that are purged: the event
// and the tombstone name the one that has them.
func (r *run) forgetExports(ctx context.Context) error {
	ids := make([]gid.ID, len(r.changing))
	for i, n := range r.changing {
		ids[i] = n.row.RecordID()
	}
	if len(ids) == 0 || !r.settings.exported {
		return nil
	}
	return store.Build(r.tx).Add(`DELETE FROM export_rows WHERE tenant_id = ? AND `, r.a.Tenant).IDs("record_id", ids).Queue(ctx, r.tx, named("forgetting exports"))
}

// unexported says which of the records must wait for an export, of themselves or
// of what came with them and would have to go along: so that timers do not try,
// and fail, again and again.
func (s *Service) unexported(ctx context.Context, tenant gid.ID, before ExportBefore, verb lifecycle.Verb, ids []gid.ID) (map[gid.ID]bool, error) {
	out := map[gid.ID]bool{}
	if !slices.ContainsFunc(slices.Collect(maps.Values(before)), func(verbs []lifecycle.Verb) bool { return slices.Contains(verbs, verb) }) {
		return out, nil
	}
	roots, err := s.rootsOf(ctx, s.db, tenant, ids)
	if err != nil {
		return nil, err
	}
	all := visible.With(ctx, visible.Tenant(tenant))
	var rows []ent.Record
	for _, t := range typeOrder {
		if !before.waits(t.Name, verb) {
			continue
		}
		own := slices.DeleteFunc(slices.Collect(maps.Keys(roots)), func(id gid.ID) bool { return ent.RecordTypeOf(id) != t })
		found, err := s.load(all, t, own, none)
		if err != nil {
			return nil, err
		}
		rows = append(rows, found...)
	}
	have, err := s.exportedAmong(ctx, s.db, tenant, rows)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if found, known := have[row.RecordID()]; known && !found.stale {
			continue
		}
		for _, root := range roots[row.RecordID()] {
			out[root] = true
		}
	}
	return out, nil
}

// exportedOf are those of the candidates that need not wait for an export: as with
// what is kept, nobody is told that a rule would act on the others.
func (c *cycle) exportedOf(ctx context.Context, found []candidate) ([]candidate, error) {
	if len(found) == 0 || c.person {
		return found, nil
	}
	before, err := c.exportBeforeOf(ctx, c.tenant)
	if err != nil {
		return nil, err
	}
	ids := make([]gid.ID, len(found))
	for i, f := range found {
		ids[i] = f.row.RecordID()
	}
	waits, err := c.unexported(ctx, c.tenant, before, c.rule.Action.Verb(), ids)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(f candidate) bool { return waits[f.row.RecordID()] }), nil
}

// Compared lists the fields of records, each with its type, that a filter compares.
func (f *Filter) Compared(visit func(typ, key string)) error {
	if f == nil || len(f.Text) == 0 {
		return nil
	}
	var where map[string]any
	if err := json.Unmarshal(f.Text, &where); err != nil {
		return fmt.Errorf("reading a filter: %w", err)
	}
	compared(f.Type, where, visit)
	return nil
}

func compared(typ string, where map[string]any, visit func(typ, key string)) {
	for key, value := range where {
		field := fieldNamed(reflect.New(whereInputs[typ]).Elem(), key)
		of := typ
		if field.IsValid() {
			elem := field.Type()
			for elem.Kind() == reflect.Pointer || elem.Kind() == reflect.Slice {
				elem = elem.Elem()
			}
			if isWhereInput(elem) {
				of = elem.Name()[:len(elem.Name())-len("WhereInput")]
			} else {
				visit(typ, key)
				continue
			}
		}
		switch v := value.(type) {
		case map[string]any:
			compared(of, v, visit)
		case []any:
			for _, each := range v {
				if nested, ok := each.(map[string]any); ok {
					compared(of, nested, visit)
				}
			}
		}
	}
}

// Records reads records of a type by id, as the reader in the context may see
// them: the next after one, those that where lets through.
func (s *Service) Records(ctx context.Context, typ string, after gid.ID, most int, where func(*sql.Selector)) ([]ent.Record, error) {
	return s.query(ctx, ent.RecordTypeNamed(typ), none, func(sel *sql.Selector) {
		where(sel)
		if !after.IsZero() {
			sel.Where(sql.GT(sel.C("id"), after))
		}
		sel.Limit(most)
	})
}

// Among is "column IN ids", with one argument for any number of ids.
func Among(column string, ids []gid.ID) *sql.Predicate { return inIDs(column, ids) }
