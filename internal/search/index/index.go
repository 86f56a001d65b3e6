// Package index keeps what records are found by: on PostgreSQL as a tsvector, on
// SQLite in an FTS5 table, of the same words in both.
package index

import (
	"context"
	"encoding/json"
	"fmt"

	"entgo.io/ent/dialect"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/search"
	"github.com/lethe-crm/lethe/internal/store"
)

// maxBytes is how much is handed to the database at a time.
const maxBytes = 4 << 20

// Entry is what a record is found by.
type Entry struct {
	Record gid.ID
	Texts  []search.Text
}

// Put has records of a tenant found by what they say now.
func Put(ctx context.Context, tx *store.Tx, tenant gid.ID, entries []Entry) error {
	for len(entries) > 0 {
		var ids []gid.ID
		var words []string
		for size := 0; len(entries) > 0 && size < maxBytes; entries = entries[1:] {
			text := search.Words(tenant, entries[0].Texts)
			ids, words, size = append(ids, entries[0].Record), append(words, text), size+len(text)
		}
		if err := put(ctx, tx, tenant, ids, words); err != nil {
			return err
		}
	}
	return nil
}

func put(ctx context.Context, tx *store.Tx, tenant gid.ID, ids []gid.ID, words []string) error {
	if tx.Dialect() == dialect.Postgres {
		return store.Build(tx).Add(`INSERT INTO search_entries (record_id, tenant_id, words)
			SELECT r.id, ?, array_to_tsvector(string_to_array(r.words, ' ')) FROM unnest(?::uuid[], ?::text[]) r (id, words)
			ON CONFLICT (record_id) DO UPDATE SET words = excluded.words`, tenant, gid.Array(ids), words).Queue(ctx, tx, named)
	}
	pairs := make([][2]string, len(ids))
	for i, id := range ids {
		pairs[i] = [2]string{id.UUID(), words[i]}
	}
	list, err := json.Marshal(pairs)
	if err != nil {
		return fmt.Errorf("encoding words: %w", err)
	}
	err = store.Build(tx).Add(`INSERT OR IGNORE INTO search_entries (record_id, tenant_id) SELECT value, ? FROM json_each(?)`, tenant, gid.JSONArray(ids)).Queue(ctx, tx, named)
	if err != nil {
		return err
	}
	return store.Build(tx).Add(`INSERT OR REPLACE INTO search_words (rowid, words) SELECT e.place, json_extract(w.value, '$[1]') FROM json_each(?) w
		CROSS JOIN search_entries e ON e.record_id = json_extract(w.value, '$[0]')`, string(list)).Queue(ctx, tx, named)
}

// Remove has records found no more.
func Remove(ctx context.Context, tx *store.Tx, ids []gid.ID) error {
	if len(ids) == 0 {
		return nil
	}
	if tx.Dialect() != dialect.Postgres {
		stmt := store.Build(tx).Add(`DELETE FROM search_words WHERE rowid IN (SELECT place FROM search_entries WHERE `).IDs("record_id", ids).Add(`)`)
		if err := stmt.Queue(ctx, tx, named); err != nil {
			return err
		}
	}
	return store.Build(tx).Add(`DELETE FROM search_entries WHERE `).IDs("record_id", ids).Queue(ctx, tx, named)
}

func named(_ int64, err error) error {
	if err != nil {
		return fmt.Errorf("writing what records are found by: %w", err)
	}
	return nil
}
