package record

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/belong"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// wideHold is a hold that keeps more than the records it names: what belongs to a person, or
// what matches a filter, whenever it arrives. Whether it keeps a record is found
// out when that matters; only a record that is changed so that the hold would keep
// it no more is named by it from then on.
type wideHold struct {
	hold                gid.ID
	blockDelete, freeze bool
	released            *time.Time
	typ, filter         string // empty for persons alone
	byPerson            bool   // of one that keeps a record: as what belongs to a person
}

// to adds the hold to what keeps a record.
func (w wideHold) to(k *kept) {
	k.add(w.blockDelete, w.freeze, w.released)
	if w.released == nil {
		k.wide = append(k.wide, w)
	}
}

// covered says of records which of the holds keep them, beside those that name
// them: with one statement for all persons and one for each filter.
func (s *Service) covered(ctx context.Context, q store.Querier, tenant gid.ID, ids []gid.ID, holds []wideHold) (map[gid.ID][]wideHold, error) {
	out := map[gid.ID][]wideHold{}
	if len(holds) == 0 || len(ids) == 0 {
		return out, nil
	}
	byID := map[gid.ID]wideHold{}
	var some []gid.ID
	for _, w := range holds {
		byID[w.hold] = w
		some = append(some, w.hold)
	}
	start, end, _ := strings.Cut(belong.Above(q.Dialect(), "?"), "?")
	stmt := store.Build(q).Add(start)
	if q.Dialect() == dialect.Postgres {
		stmt.Add(`SELECT id, id FROM unnest(?::uuid[]) picked(id)`, gid.Array(ids))
	} else {
		stmt.Add(`SELECT value, value FROM json_each(?)`, gid.JSONArray(ids))
	}
	err := stmt.Add(end+`SELECT DISTINCT above.root, r.hold_id FROM above JOIN legal_hold_records r ON r.person_id = above.id WHERE r.tenant_id = ? AND `, tenant).
		IDs("r.hold_id", some).Query(ctx, q, func(row store.Row) error {
		var id, hold gid.ID
		if err := row.Scan(&id, &hold); err != nil {
			return err
		}
		w := byID[hold]
		w.byPerson = true
		out[id] = append(out[id], w)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for legal holds on persons: %w", err)
	}
	for _, w := range holds {
		own := slices.DeleteFunc(slices.Clone(ids), func(id gid.ID) bool { t := ent.RecordTypeOf(id); return t == nil || t.Name != w.typ })
		if len(own) == 0 {
			continue
		}
		match, err := s.matching(ctx, q, tenant, w, own)
		if err != nil {
			return nil, err
		}
		for _, id := range match {
			if !slices.ContainsFunc(out[id], func(o wideHold) bool { return o.hold == w.hold }) {
				out[id] = append(out[id], w)
			}
		}
	}
	return out, nil
}

// matching answers which of some records match the filter of a hold. Of a filter
// that cannot be read any more nobody can say what it keeps: that is all.
func (s *Service) matching(ctx context.Context, q store.Querier, tenant gid.ID, w wideHold, ids []gid.ID) ([]gid.ID, error) {
	f, err := ParseFilter(w.typ, []byte(w.filter))
	if err != nil {
		s.log.ErrorContext(ctx, "the filter of a legal hold cannot be read: it keeps all records of its type", "hold", w.hold, "error", err)
		return ids, nil
	}
	if f.searches {
		known, err := s.findable(ctx, q, tenant, ent.RecordTypeNamed(w.typ), ids)
		if err != nil || !known {
			return ids, err
		}
	}
	ctx = visible.With(ctx, visible.Tenant(tenant))
	rows, err := s.Client(ctx).CollectRecords(ctx, w.typ, nil, []string{"id"}, f.Where, func(sel *sql.Selector) { sel.Where(inIDs(sel.C("id"), ids)) })
	if err != nil {
		return nil, fmt.Errorf("asking for what the filter of a legal hold matches: %w", err)
	}
	out := make([]gid.ID, len(rows))
	for i, row := range rows {
		out[i] = row.RecordID()
	}
	return out, nil
}

// nameLost names by their holds the records that these would keep no more after a
// change: before is what kept them. With a record goes what belongs to it, as far
// as a person's hold kept that by way of it.
func (s *Service) nameLost(ctx context.Context, tx *store.Tx, a *actor.Actor, before map[gid.ID][]wideHold) error {
	if len(before) == 0 {
		return nil
	}
	ids, holds := slices.Collect(maps.Keys(before)), map[gid.ID]wideHold{}
	for _, list := range before {
		for _, w := range list {
			holds[w.hold] = w
		}
	}
	now, err := s.covered(ctx, tx, a.Tenant, ids, slices.Collect(maps.Values(holds)))
	if err != nil {
		return err
	}
	for hold := range holds {
		var lost, with []gid.ID
		for id, list := range before {
			i := slices.IndexFunc(list, func(w wideHold) bool { return w.hold == hold })
			switch {
			case i < 0 || slices.ContainsFunc(now[id], func(w wideHold) bool { return w.hold == hold && (w.byPerson || !list[i].byPerson) }):
			case list[i].byPerson:
				with = append(with, id)
			default:
				lost = append(lost, id)
			}
		}
		if len(with) > 0 {
			below, err := s.below(ctx, tx, with)
			if err != nil {
				return err
			}
			lost = append(lost, below...)
		}
		if len(lost) > 0 {
			if err := s.name(ctx, tx, a, hold, lost, audit.Personal{}, map[string]any{"hold": hold.String(), "because": "changed"}); err != nil {
				return err
			}
		}
	}
	return nil
}

// below answers records and what belongs to them, in order.
func (s *Service) below(ctx context.Context, q store.Querier, ids []gid.ID) ([]gid.ID, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	start, end, _ := strings.Cut(belong.Below(q.Dialect(), "?"), "?")
	stmt := store.Build(q).Add(start + `SELECT * FROM (`)
	for i, t := range typeOrder {
		if i > 0 {
			stmt.Add(` UNION ALL `)
		}
		stmt.Add(`SELECT id, id FROM `+t.Table+` WHERE `).IDs("id", ids)
	}
	var out []gid.ID
	if err := stmt.Add(`) picked`+end+`SELECT DISTINCT id FROM below ORDER BY 1`).Query(ctx, q, scanIDs(func(id gid.ID) { out = append(out, id) })); err != nil {
		return nil, fmt.Errorf("looking for what belongs to records: %w", err)
	}
	return out, nil
}

// name adds records to those a hold names, and says so of each that it did not
// name before. The hold itself is not locked: it may be released meanwhile.
func (s *Service) name(ctx context.Context, tx *store.Tx, a *actor.Actor, hold gid.ID, ids []gid.ID, personal audit.Personal, detail map[string]any) error {
	named := map[gid.ID]bool{}
	err := store.Build(tx).Add(`SELECT record_id FROM legal_hold_records WHERE hold_id = ? AND `, hold).IDs("record_id", ids).
		Query(ctx, tx, scanIDs(func(id gid.ID) { named[id] = true }))
	if err != nil {
		return fmt.Errorf("reading the records of a legal hold: %w", err)
	}
	ids = slices.DeleteFunc(ids, func(id gid.ID) bool { return named[id] })
	rows, err := s.loadAny(visible.With(ctx, visible.Tenant(a.Tenant)), ids, none)
	if err != nil || len(rows) == 0 {
		return err
	}
	for chunk := range slices.Chunk(rows, MaxRows) {
		stmt := store.Build(tx).Add(`INSERT INTO legal_hold_records (tenant_id, hold_id, record_id) VALUES `)
		for i, row := range chunk {
			if i > 0 {
				stmt.Add(`, `)
			}
			stmt.Add(`(?, ?, ?)`, a.Tenant, hold, row.RecordID())
		}
		if _, err := stmt.Add(` ON CONFLICT (hold_id, record_id) DO NOTHING`).Exec(ctx, tx); err != nil {
			return fmt.Errorf("naming records by a legal hold: %w", err)
		}
	}
	return s.auditHold(ctx, tx, a, "HOLD_PLACE", rows, personal, detail)
}

// fenceKey is that of a tenant's fence, a lock of PostgreSQL. Whatever changes
// records takes it together with others before it asks for holds; a wide hold is
// placed by who has it alone. So it finds no change under way that did not see it,
// and locks none of the many rows it may be about. On SQLite one writes at a time.
func fenceKey(tenant gid.ID) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("holds"))
	_, _ = h.Write(tenant[:])
	return int64(binary.BigEndian.Uint64(h.Sum(nil))) //nolint:gosec // a name, not a number
}

// fenced takes the fence together with others when the rows of a query are
// locked: by the query, so that it costs no statement of its own.
func fenced(tenant gid.ID) func(*sql.Selector) {
	return func(s *sql.Selector) {
		if s.Dialect() == dialect.Postgres {
			s.Where(sql.P(func(b *sql.Builder) {
				b.WriteString("pg_advisory_xact_lock_shared(").Arg(fenceKey(tenant)).WriteString(") IS NOT NULL")
			}))
		}
	}
}

// fenceOff waits for what changes records of the tenant, and holds up more of it
// until the transaction ends.
func fenceOff(ctx context.Context, tx *store.Tx, tenant gid.ID) error {
	if tx.Dialect() != dialect.Postgres {
		return nil
	}
	if _, err := store.Build(tx).Add(`SELECT pg_advisory_xact_lock(?)`, fenceKey(tenant)).Exec(ctx, tx); err != nil {
		return fmt.Errorf("waiting for changes of records: %w", err)
	}
	return nil
}
