// Package index keeps what records are found by: on PostgreSQL as a tsvector, on
// SQLite in an FTS5 table, of the same words in both.
package index

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

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

// forgetPages is how much of SQLite's index is written anew in a transaction.
const forgetPages = 250

// Forget writes SQLite's index anew without the words of what was removed. FTS5 only
// notes that such a row is gone, and keeps its words in the file until it happens to
// merge what they stand in. Others write in between, after a while each time.
// PostgreSQL removes them by itself.
func Forget(ctx context.Context, db *store.DB, others time.Duration) error {
	if db.Dialect() == dialect.Postgres {
		return nil
	}
	for pages := -forgetPages; ; pages = forgetPages { // the first, which is negative, takes in everything; the next go on
		var before, after int
		err := db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
			if _, err := store.Build(tx).Add(`SELECT total_changes()`).One(ctx, tx, &before); err != nil {
				return err
			}
			if _, err := store.Build(tx).Add(`INSERT INTO search_words (search_words, rank) VALUES ('merge', ?)`, pages).Exec(ctx, tx); err != nil {
				return err
			}
			_, err := store.Build(tx).Add(`SELECT total_changes()`).One(ctx, tx, &after)
			return err
		})
		if err != nil {
			return fmt.Errorf("forgetting the words of what was removed: %w", err)
		}
		if after-before < 2 && pages > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(others):
		}
	}
}

func named(_ int64, err error) error {
	if err != nil {
		return fmt.Errorf("writing what records are found by: %w", err)
	}
	return nil
}
