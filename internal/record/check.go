package record

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// Problem is something that is not as it should be.
type Problem string

// The problems.
const (
	// MissingBytes is an attachment or an export whose bytes are not there.
	MissingBytes Problem = "MISSING_BYTES"
	// WrongSize is an attachment that has more bytes than it says, or fewer.
	WrongSize Problem = "WRONG_SIZE"
	// StrayBytes are bytes that nothing refers to, and that no sweep knows of.
	StrayBytes Problem = "STRAY_BYTES"
	// PurgedRecord is a record that was purged and is there again.
	PurgedRecord Problem = "PURGED_RECORD"
)

// Finding is a problem with a record or a key.
type Finding struct {
	Problem Problem `json:"problem"`
	Tenant  gid.ID  `json:"tenant,omitzero"`
	Record  gid.ID  `json:"record,omitzero"` // or export
	Key     string  `json:"key,omitempty"`
	// Repaired says that it was mended.
	Repaired bool `json:"repaired"`
	// Reason says why it was not, where that was tried.
	Reason string `json:"reason,omitempty"`
}

// Checked is what Check looked at, and found.
type Checked struct {
	Attachments int       `json:"attachments"` // with bytes
	Exports     int       `json:"exports"`     // with bytes
	Keys        int       `json:"keys"`
	Tombstones  int       `json:"tombstones"`
	Findings    []Finding `json:"findings"`
}

// Tombstone says that a record was purged.
type Tombstone struct{ Tenant, Record gid.ID }

// checkRows is how much is looked at in one statement.
const checkRows = 500

// Check compares, in all tenants, attachments and exports with the bytes there are, and
// tombstones, those given besides included, with the records there are. Others may
// go on working meanwhile: what looks wrong is looked at twice.
func (s *Service) Check(ctx context.Context, bucket *blob.Bucket, more []Tombstone) (Checked, error) {
	c := check{Service: s, bucket: bucket, sizes: map[gid.ID]int64{}, files: map[gid.ID]bool{}}
	for _, step := range []func(context.Context) error{c.bytes, c.attachments, c.exports, func(ctx context.Context) error { return c.purged(ctx, more) }} {
		if err := step(ctx); err != nil {
			return c.Checked, err
		}
	}
	return c.Checked, nil
}

type check struct {
	*Service
	Checked

	bucket *blob.Bucket
	sizes  map[gid.ID]int64 // of the bytes of attachments
	files  map[gid.ID]bool  // of exports
}

func (c *check) found(f Finding) { c.Findings = append(c.Findings, f) }

// otherKey is a key of something that has bytes and is not known here.
var otherKey = regexp.MustCompile(`^tenant_[0-9a-z]{26}/[a-z]+_[0-9a-z]{26}$`)

// ownerOf is what is under a key, or was to be: what a killed process left behind has
// an ending.
func ownerOf(key string) (id gid.ID, whole, ok bool) {
	_, of, _ := strings.Cut(key, "/")
	of, _, torn := strings.Cut(of, ".")
	id, err := gid.Parse(of)
	return id, !torn, err == nil && (id.Type() == gid.Attachment || id.Type() == gid.Export)
}

// hasFile is the condition by which an export has bytes: others are still written, or
// failed, or were the command line's.
const hasFile = `status = 'SUCCEEDED' AND blob_id IS NOT NULL`

// bytes looks for what nothing refers to.
func (c *check) bytes(ctx context.Context) error {
	var batch, suspects []string
	flush := func() error {
		some, err := c.stray(ctx, batch)
		suspects, batch = append(suspects, some...), nil
		return err
	}
	err := c.bucket.Keys(ctx, func(key string, size int64) error {
		c.Keys++
		id, whole, ok := ownerOf(key)
		switch {
		case ok && whole && id.Type() == gid.Export:
			c.files[id] = true
		case ok && whole:
			c.sizes[id] = size
		case !ok && otherKey.MatchString(key):
			return nil
		}
		if batch = append(batch, key); len(batch) < checkRows {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	for some := range slices.Chunk(suspects, checkRows) {
		still, err := c.stray(ctx, some)
		if err != nil {
			return err
		}
		for _, key := range still {
			there, err := c.bucket.Has(ctx, key) // it may have been purged and removed in between
			if err != nil {
				return err
			}
			if there {
				c.found(Finding{Problem: StrayBytes, Key: key})
			}
		}
	}
	return nil
}

// stray are those of some keys to which no attachment and no export refers and that
// are not spare.
func (c *check) stray(ctx context.Context, keys []string) ([]string, error) {
	known := map[string]bool{}
	var ids []gid.ID
	names := slices.Clone(keys)
	for _, key := range keys {
		if id, _, ok := ownerOf(key); ok {
			ids = append(ids, id)
		}
		if before, _, torn := strings.Cut(key, "."); torn {
			names = append(names, before)
		}
	}
	err := store.Build(c.db).Add(`SELECT tenant_id, id FROM attachments WHERE sha256 IS NOT NULL AND `).IDs("id", ids).
		Add(` UNION ALL SELECT tenant_id, blob_id FROM exports WHERE `+hasFile+` AND `).IDs("blob_id", ids).Query(ctx, c.db, func(row store.Row) error {
		var tenant, id gid.ID
		err := row.Scan(&tenant, &id)
		known[blob.Key(tenant, id)] = true
		return err
	})
	spare := map[string]bool{}
	if err == nil {
		err = store.Build(c.db).Add(`SELECT blob_key FROM blob_spares WHERE `).Strings("blob_key", names).Query(ctx, c.db, func(row store.Row) error {
			var key string
			err := row.Scan(&key)
			spare[key] = true
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("looking for who refers to bytes: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
		before, _, _ := strings.Cut(key, ".")
		return known[key] || spare[key] || spare[before]
	}), nil
}

// attachments looks for bytes that are missing.
func (c *check) attachments(ctx context.Context) error {
	type row struct {
		tenant, id gid.ID
		size       int64
	}
	for last := gid.Nil; ; {
		var rows []row
		err := store.Build(c.db).Add(`SELECT tenant_id, id, size FROM attachments WHERE sha256 IS NOT NULL AND id > ? ORDER BY id LIMIT ?`, last, checkRows).
			Query(ctx, c.db, func(r store.Row) error {
				var a row
				err := r.Scan(&a.tenant, &a.id, &a.size)
				rows = append(rows, a)
				return err
			})
		if err != nil {
			return fmt.Errorf("reading attachments: %w", err)
		}
		for _, a := range rows {
			c.Attachments++
			size, listed := c.sizes[a.id]
			if listed && size == a.size {
				continue
			}
			f := Finding{Problem: WrongSize, Tenant: a.tenant, Record: a.id, Key: blob.Key(a.tenant, a.id)}
			there, err := c.bucket.Has(ctx, f.Key)
			if err != nil {
				return err
			}
			if there && !listed { // uploaded since
				continue
			}
			if !there {
				f.Problem = MissingBytes
			}
			var again int
			if _, err := store.Build(c.db).Add(`SELECT COUNT(*) FROM attachments WHERE id = ?`, a.id).One(ctx, c.db, &again); err != nil {
				return fmt.Errorf("reading an attachment: %w", err)
			}
			if again == 1 {
				c.found(f)
			}
		}
		if len(rows) < checkRows {
			return nil
		}
		last = rows[len(rows)-1].id
	}
}

// exports looks for files of exports that are missing.
func (c *check) exports(ctx context.Context) error {
	return eachExport(ctx, c.db, func(tenant, id, file gid.ID) error {
		c.Exports++
		if c.files[file] {
			return nil
		}
		f := Finding{Problem: MissingBytes, Tenant: tenant, Record: id, Key: blob.Key(tenant, file)}
		there, err := c.bucket.Has(ctx, f.Key)
		if err != nil || there { // made since
			return err
		}
		still, err := Refers(ctx, c.db, f.Key)
		if err == nil && still {
			c.found(f)
		}
		return err
	})
}

// eachExport calls f for each export that has a file.
func eachExport(ctx context.Context, db *store.DB, f func(tenant, id, file gid.ID) error) error {
	for last := gid.Nil; ; {
		var rows [][3]gid.ID
		err := store.Build(db).Add(`SELECT tenant_id, id, blob_id FROM exports WHERE `+hasFile+` AND id > ? ORDER BY id LIMIT ?`, last, checkRows).
			Query(ctx, db, func(row store.Row) error {
				var e [3]gid.ID
				err := row.Scan(&e[0], &e[1], &e[2])
				rows = append(rows, e)
				return err
			})
		if err != nil {
			return fmt.Errorf("reading exports: %w", err)
		}
		for _, e := range rows {
			if err := f(e[0], e[1], e[2]); err != nil {
				return err
			}
		}
		if len(rows) < checkRows {
			return nil
		}
		last = rows[len(rows)-1][1]
	}
}

// purged looks for records that were purged.
func (c *check) purged(ctx context.Context, more []Tombstone) error {
	if _, err := store.Build(c.db).Add(`SELECT COUNT(*) FROM tombstones`).One(ctx, c.db, &c.Tombstones); err != nil {
		return fmt.Errorf("counting tombstones: %w", err)
	}
	known := map[gid.ID]bool{}
	note := func(row store.Row) error {
		f := Finding{Problem: PurgedRecord}
		err := row.Scan(&f.Tenant, &f.Record)
		if !known[f.Record] {
			known[f.Record] = true
			c.found(f)
		}
		return err
	}
	for _, t := range typeOrder {
		err := store.Build(c.db).Add(`SELECT r.tenant_id, r.id FROM tombstones d JOIN `+t.Table+` r ON r.id = d.record_id WHERE d.record_type = ? ORDER BY r.id`, t.Name).Query(ctx, c.db, note)
		if err != nil {
			return fmt.Errorf("looking for purged %s: %w", t.Table, err)
		}
	}
	c.Tombstones += len(more)
	for some := range slices.Chunk(more, checkRows) {
		ids := make([]gid.ID, len(some))
		for i, d := range some {
			ids[i] = d.Record
		}
		for _, t := range typeOrder {
			if err := store.Build(c.db).Add(`SELECT tenant_id, id FROM `+t.Table+` WHERE `).IDs("id", ids).Add(` ORDER BY id`).Query(ctx, c.db, note); err != nil {
				return fmt.Errorf("looking for purged %s: %w", t.Table, err)
			}
		}
	}
	return nil
}

// Tombstones are all that a database has.
func Tombstones(ctx context.Context, db *store.DB) ([]Tombstone, error) {
	var out []Tombstone
	err := store.Build(db).Add(`SELECT tenant_id, record_id FROM tombstones ORDER BY id`).Query(ctx, db, func(row store.Row) error {
		var d Tombstone
		err := row.Scan(&d.Tenant, &d.Record)
		out = append(out, d)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading tombstones: %w", err)
	}
	return out, nil
}

// Repair mends of what Check found what can be: bytes that nothing refers to go,
// and what was purged is purged again. Missing bytes can only be brought back from
// a backup.
func (s *Service) Repair(ctx context.Context, bucket *blob.Bucket, c *Checked) error {
	byTenant := map[gid.ID][]*Finding{}
	var stray []string
	for i := range c.Findings {
		switch f := &c.Findings[i]; f.Problem {
		case StrayBytes:
			stray = append(stray, f.Key)
			f.Repaired = true
		case PurgedRecord:
			byTenant[f.Tenant] = append(byTenant[f.Tenant], f)
		}
	}
	if len(stray) > 0 {
		err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error { return blob.Spare(ctx, tx, tx.Now(), stray...) })
		if err != nil {
			return err
		}
		if err := bucket.Remove(ctx, s.db, stray); err != nil {
			return err
		}
	}
	for tenant, findings := range byTenant {
		if err := s.purgeAgain(ctx, tenant, findings); err != nil {
			return err
		}
	}
	return nil
}

// purgeAgain purges what was purged before, as operations of the system, and never
// anything else: what would take along a record that nobody purged is left to
// people.
func (s *Service) purgeAgain(ctx context.Context, tenant gid.ID, findings []*Finding) error {
	ctx = actor.With(ctx, actor.ForSystem(tenant))
	ctx = visible.With(ctx, s.Rows(ctx))
	purged := map[gid.ID]*Finding{}
	for _, f := range findings {
		purged[f.Record] = f
	}
	for some := range slices.Chunk(findings, checkRows) {
		if err := s.purgeSome(ctx, some, purged); err != nil {
			return err
		}
	}
	return nil
}

// errTakesAlong rolls a purge back that would take along what nobody purged.
var errTakesAlong = errors.New("it would take along a record that was not purged")

// purgeSome purges some records that were purged, by halves where they cannot go
// together.
func (s *Service) purgeSome(ctx context.Context, findings []*Finding, purged map[gid.ID]*Finding) error {
	findings = slices.DeleteFunc(slices.Clone(findings), func(f *Finding) bool { return f.Repaired }) // it came along with another
	if len(findings) == 0 {
		return nil
	}
	var gone []*Finding
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		gone = nil
		ids := make([]gid.ID, len(findings))
		for i, f := range findings {
			ids[i] = f.Record
		}
		req := Request{Verb: lifecycle.Purge, Select: Selection{IDs: ids}, Mode: BestEffort, IncludeLive: true, Reason: "it was purged before"}
		op, err := s.start(ctx, &run{req: req, again: true})
		if err != nil {
			return err
		}
		return store.Build(tx).Add(`SELECT record_id, outcome, COALESCE(code, '') FROM operation_items WHERE operation_id = ?`, op.ID).Query(ctx, tx, func(row store.Row) error {
			var id gid.ID
			var outcome, code string
			if err := row.Scan(&id, &outcome, &code); err != nil {
				return err
			}
			f := purged[id]
			switch {
			case f == nil && outcome == changed:
				return errTakesAlong
			case f == nil:
			case outcome == changed:
				gone = append(gone, f)
			default:
				f.Reason = code
			}
			return nil
		})
	})
	refused, isRefused := errors.AsType[*Error](err)
	switch {
	case err == nil:
		for _, f := range gone {
			f.Repaired, f.Reason = true, ""
		}
		return nil
	case !isRefused && !errors.Is(err, errTakesAlong):
		return fmt.Errorf("purging again: %w", err)
	case len(findings) == 1 && isRefused:
		findings[0].Reason = string(refused.Code)
		return nil
	case len(findings) == 1:
		findings[0].Reason = errTakesAlong.Error()
		return nil
	}
	return errors.Join(s.purgeSome(ctx, findings[:len(findings)/2], purged), s.purgeSome(ctx, findings[len(findings)/2:], purged))
}

// EachKey calls f for each key to which a database refers.
func EachKey(ctx context.Context, db *store.DB, f func(key string) error) error {
	for last := gid.Nil; ; {
		var keys []string
		err := store.Build(db).Add(`SELECT tenant_id, id FROM attachments WHERE sha256 IS NOT NULL AND id > ? ORDER BY id LIMIT ?`, last, checkRows).
			Query(ctx, db, func(row store.Row) error {
				var tenant gid.ID
				err := row.Scan(&tenant, &last)
				keys = append(keys, blob.Key(tenant, last))
				return err
			})
		if err != nil {
			return fmt.Errorf("reading attachments: %w", err)
		}
		for _, key := range keys {
			if err := f(key); err != nil {
				return err
			}
		}
		if len(keys) < checkRows {
			break
		}
	}
	return eachExport(ctx, db, func(tenant, _, file gid.ID) error { return f(blob.Key(tenant, file)) })
}

// Refers reports whether there is the attachment or the export in a database that a
// key is of.
func Refers(ctx context.Context, db *store.DB, key string) (bool, error) {
	id, _, ok := ownerOf(key)
	if !ok {
		return false, nil
	}
	query := `SELECT COUNT(*) FROM attachments WHERE id = ?`
	if id.Type() == gid.Export {
		query = `SELECT COUNT(*) FROM exports WHERE ` + hasFile + ` AND blob_id = ?`
	}
	var n int
	if _, err := store.Build(db).Add(query, id).One(ctx, db, &n); err != nil {
		return false, fmt.Errorf("looking for who refers to bytes: %w", err)
	}
	return n == 1, nil
}
