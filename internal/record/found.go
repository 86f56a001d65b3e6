package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/search"
	"github.com/lethe-crm/lethe/internal/search/index"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// entries are what records of a type are found by. The parts are those of each, by
// the part's name.
func entries(t *ent.RecordType, records []ent.Record, parts map[string]map[gid.ID][]part) []index.Entry {
	out := make([]index.Entry, len(records))
	for i, r := range records {
		out[i].Record = r.RecordID()
		for _, text := range t.Searched {
			words := textOf(deref(r.Column(text.Column)))
			if text.Part != "" {
				words = wordsOf(text, parts[text.Part][r.RecordID()])
			}
			if words != "" {
				out[i].Texts = append(out[i].Texts, search.Text{Field: text.As, Text: words})
			}
		}
	}
	return out
}

func textOf(value any) string {
	text, _ := value.(string)
	return text
}

func wordsOf(text ent.RecordText, rows []part) string {
	var words []string
	for _, row := range rows {
		for _, column := range text.Texts {
			if word := textOf(deref(row[column])); word != "" {
				words = append(words, word)
			}
		}
	}
	return strings.Join(words, "\n")
}

// refind has records of a type found by what they say now.
func (s *Service) refind(ctx context.Context, tx *store.Tx, tenant gid.ID, t *ent.RecordType, records []ent.Record) error {
	ids := make([]gid.ID, len(records))
	for i, r := range records {
		ids[i] = r.RecordID()
	}
	parts, err := s.searchedParts(ctx, tx, t, ids)
	if err != nil {
		return err
	}
	return index.Put(ctx, tx, tenant, entries(t, records, parts))
}

// refindMended is refind for rows of which a restore has changed values.
func (r *run) refindMended(ctx context.Context, mended map[*ent.RecordType][]gid.ID) error {
	all := visible.With(ctx, visible.Tenant(r.a.Tenant))
	for t, ids := range mended {
		rows, err := r.load(all, t, ids, none)
		if err != nil {
			return err
		}
		if err := r.refind(ctx, r.tx, r.a.Tenant, t, rows); err != nil {
			return err
		}
	}
	return nil
}

// saysOther reports whether a draft changes what records of a type are found by.
func (d *draft) saysOther(t *ent.RecordType) bool {
	given := d.given(t)
	return slices.ContainsFunc(t.Searched, func(text ent.RecordText) bool { return given[text.GraphQL] })
}

// searchedParts are those parts of records by which they are found.
func (s *Service) searchedParts(ctx context.Context, tx *store.Tx, t *ent.RecordType, ids []gid.ID) (map[string]map[gid.ID][]part, error) {
	out := map[string]map[gid.ID][]part{}
	for _, text := range t.Searched {
		i := slices.IndexFunc(t.Parts, func(p ent.RecordPart) bool { return p.Name == text.Part })
		if i < 0 {
			continue
		}
		rows, err := s.partsOf(ctx, tx, t.Parts[i], ids)
		if err != nil {
			return nil, fmt.Errorf("reading what records are found by: %w", err)
		}
		out[text.Part] = rows
	}
	return out, nil
}

// maySearch refuses a filter that is kept and searches where something is hidden from
// who keeps it: it is not he who searches then, and what it finds would tell him.
func (s *Service) maySearch(ctx context.Context, a *actor.Actor, f *Filter) error {
	rows, hidden := s.control.Rows(ctx, a), ""
	err := f.Compared(func(typ, comparison string) {
		if comparison != "search" {
			return
		}
		for _, text := range ent.RecordTypeNamed(typ).Searched {
			if !rows.Filterable(typ, text.GraphQL) {
				hidden = text.GraphQL
			}
		}
	})
	if err == nil && hidden != "" {
		return Refuse(lifecycle.FieldForbidden, "the policy hides a field from you that this would search: it cannot be kept", hidden)
	}
	return err
}

// allIndexed reports whether all records are found by their words. Of a type of which
// nothing is noted they are if each was written since there is an index.
func (s *Service) allIndexed(ctx context.Context, q store.Querier) (bool, error) {
	if s.indexed.Load() {
		return true, nil
	}
	noted, all := map[string]bool{}, true
	err := store.Build(q).Add(`SELECT record_type, version, done FROM search_progress`).Query(ctx, q, func(row store.Row) error {
		var name string
		var version int
		var done bool
		if err := row.Scan(&name, &version, &done); err != nil || ent.RecordTypeNamed(name) == nil {
			return err
		}
		noted[name], all = true, all && done && version == search.Version
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("asking whether all records are found by their words: %w", err)
	}
	stmt := store.Build(q).Add(`SELECT 1 WHERE 1 = 0`)
	for _, t := range ent.RecordTypes {
		if !noted[t.Name] {
			stmt.Add(fmt.Sprintf(` OR EXISTS (SELECT 1 FROM %s r WHERE NOT EXISTS (SELECT 1 FROM search_entries e WHERE e.record_id = r.id))`, t.Table))
		}
	}
	if all {
		missing, err := stmt.One(ctx, q, new(int))
		if err != nil {
			return false, fmt.Errorf("looking for records that are not found by their words: %w", err)
		}
		all = !missing
	}
	if all {
		s.indexed.Store(true)
	}
	return all, nil
}

// mustBeIndexed refuses what selects by words until all records are found by theirs: it
// would pass over some, or take those that it should not.
func (s *Service) mustBeIndexed(ctx context.Context) error {
	all, err := s.allIndexed(ctx, s.querier(ctx))
	if err == nil && !all {
		return Refuse(lifecycle.Conflict, "not all records can be found by their words yet, after an upgrade; try again later")
	}
	return err
}

// mustSearch is mustBeIndexed for rules of which one searches: which of them decides on
// a record depends on all.
func (s *Service) mustSearch(ctx context.Context, rules []*rule) error {
	if !slices.ContainsFunc(rules, func(r *rule) bool { return r.searches }) {
		return nil
	}
	return s.mustBeIndexed(ctx)
}

// findable reports whether what some records of a type say can be asked of the index.
// A transaction that may change them has them found first.
func (s *Service) findable(ctx context.Context, q store.Querier, tenant gid.ID, t *ent.RecordType, ids []gid.ID) (bool, error) {
	all, err := s.allIndexed(ctx, q)
	if err != nil || all {
		return all, err
	}
	tx, ok := q.(*store.Tx)
	if !ok {
		return false, nil
	}
	rows, err := s.load(visible.With(ctx, visible.Tenant(tenant)), t, ids, share)
	if err != nil {
		return false, err
	}
	return true, s.refind(ctx, tx, tenant, t, rows)
}

// reindexBatch is how many records are taken apart in a transaction, and reindexBytes
// how much text at most, but for one record: others wait for it to write.
const reindexBatch, reindexBytes = 200, 2 << 20

// few are the first of some records, with no more text than is taken apart at a time.
func few(t *ent.RecordType, rows []ent.Record) []ent.Record {
	bytes := 0
	for i, r := range rows {
		for _, text := range t.Searched {
			if text.Part == "" {
				bytes += len(textOf(deref(r.Column(text.Column))))
			}
		}
		if bytes > reindexBytes && i > 0 {
			return rows[:i]
		}
	}
	return rows
}

// Reindex has all records found by their words that were written before there was
// an index, or by another version of it, and answers how many those were. It goes
// on where the last one was stopped, and past a type that fails with the others.
// Between two transactions it leaves the database to others for a while.
func (s *Service) Reindex(ctx context.Context, others time.Duration) (int, error) {
	total := 0
	var errs []error
	for _, t := range ent.RecordTypes {
		n, err := s.reindexType(ctx, t, others)
		total += n
		if err != nil {
			errs = append(errs, fmt.Errorf("finding words of %s: %w", t.Table, err))
		}
	}
	if total > 0 {
		errs = append(errs, s.db.Analyze(ctx, total, "search_entries"))
	}
	return total, errors.Join(errs...)
}

func (s *Service) reindexType(ctx context.Context, t *ent.RecordType, others time.Duration) (total int, err error) {
	for try := 1; ; {
		var n int
		var done bool
		err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
			n, done, err = s.reindex(ctx, tx, t)
			return err
		})
		if err != nil {
			if try == tries || !store.Busy(err) || store.Pause(ctx, try) != nil {
				return total, err
			}
			try++
			continue
		}
		try = 1
		if total += n; done {
			return total, nil
		}
		select {
		case <-ctx.Done():
			return total, ctx.Err()
		case <-time.After(others):
		}
	}
}

// reindex does the next records of a type.
func (s *Service) reindex(ctx context.Context, tx *store.Tx, t *ent.RecordType) (n int, done bool, err error) {
	var version int
	var last gid.ID // zero before the first
	known, err := store.Build(tx).Add(`SELECT version, last, done FROM search_progress WHERE record_type = ?`, t.Name).ForUpdate().One(ctx, tx, &version, &last, &done)
	if err != nil {
		return 0, false, err
	}
	if known && version == search.Version && done {
		return 0, true, nil
	}
	if version != search.Version {
		last = gid.Nil
	}
	rows, err := s.query(visible.With(ctx, visible.Everything), t, share, func(sel *sql.Selector) {
		sel.Where(sql.GT(sel.C("id"), last)).Limit(reindexBatch)
	})
	if err != nil {
		return 0, false, err
	}
	byTenant, some := map[gid.ID][]ent.Record{}, few(t, rows)
	for _, r := range some {
		tenant, _ := r.Column("tenant_id").(gid.ID)
		byTenant[tenant], last = append(byTenant[tenant], r), r.RecordID()
	}
	for tenant, records := range byTenant {
		if err := s.refind(ctx, tx, tenant, t, records); err != nil {
			return 0, false, err
		}
	}
	done = len(some) < reindexBatch && len(some) == len(rows)
	_, err = store.Build(tx).Add(`INSERT INTO search_progress (record_type, version, last, done) VALUES (?, ?, ?, ?)
		ON CONFLICT (record_type) DO UPDATE SET version = excluded.version, last = excluded.last, done = excluded.done`, t.Name, search.Version, last, done).Exec(ctx, tx)
	return len(some), done, err
}

// Forget takes the words of purged records out of SQLite's file, if any were purged
// since it last did. One process does so at a time, and one of its callers.
func (s *Service) Forget(ctx context.Context, others time.Duration) error {
	if s.db.Dialect() == dialect.Postgres {
		return nil
	}
	var last time.Time
	if _, err := store.Build(s.db).Add(`SELECT purged_at FROM tombstones ORDER BY purged_at DESC LIMIT 1`).One(ctx, s.db, &last); err != nil {
		return fmt.Errorf("asking when records were purged: %w", err)
	}
	if !last.After(s.forgotten) {
		return nil
	}
	if err := index.Forget(ctx, s.db, others); err != nil {
		return err
	}
	s.forgotten = last
	return nil
}
