package search

import (
	"context"
	"encoding/base32"
	"fmt"
	"strings"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// Entry is what a record is found by.
type Entry struct {
	Record, Tenant gid.ID
	// Texts are those of its fields. A field is told by a letter, so that who may not
	// know one does not find anything by it.
	Texts map[byte]string
}

// encoding writes words in letters that no database takes for anything else.
var encoding = base32.HexEncoding.WithPadding(base32.NoPadding)

// word is a token of a field as the databases keep it.
func word(field byte, token string) string {
	return string(field) + strings.ToLower(encoding.EncodeToString([]byte(token)))
}

// ofTenant is a word that everything of a tenant has: so that one finds nothing of
// another, nor waits for it.
func ofTenant(tenant gid.ID) string { return word('0', string(tenant[:])) }

func (e *Entry) words() []string {
	out := []string{ofTenant(e.Tenant)}
	for field, text := range e.Texts {
		for _, token := range Tokens(text) {
			out = append(out, word(field, token))
		}
	}
	return out
}

// Put has records found by what they say now.
func Put(ctx context.Context, tx *store.Tx, entries []Entry) error {
	ids := make([]gid.ID, len(entries))
	for i := range entries {
		ids[i] = entries[i].Record
	}
	if err := Remove(ctx, tx, ids); err != nil {
		return err
	}
	for i := range entries {
		e := &entries[i]
		words := strings.Join(e.words(), " ")
		if tx.Dialect() == dialect.Postgres {
			err := store.Build(tx).Add(`INSERT INTO search_entries (record_id, tenant_id, words) VALUES (?, ?, array_to_tsvector(string_to_array(?, ' ')))`, e.Record, e.Tenant, words).
				Queue(ctx, tx, named)
			if err != nil {
				return err
			}
			continue
		}
		_, err := store.Build(tx).Add(`INSERT INTO search_entries (record_id, tenant_id) VALUES (?, ?)`, e.Record, e.Tenant).Exec(ctx, tx)
		if err == nil {
			_, err = store.Build(tx).Add(`INSERT INTO search_words (rowid, words) SELECT place, ? FROM search_entries WHERE record_id = ?`, words, e.Record).Exec(ctx, tx)
		}
		if err != nil {
			return named(0, err)
		}
	}
	return nil
}

// Remove has records found no more.
func Remove(ctx context.Context, tx *store.Tx, ids []gid.ID) error {
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

// Where narrows a query to the records of a tenant that have all words of what is
// asked for, in any of the fields. What has no word finds nothing.
func Where(s *sql.Selector, tenant gid.ID, query string, fields []byte) {
	tokens := Tokens(query)
	if len(tokens) == 0 || len(fields) == 0 {
		s.Where(sql.False())
		return
	}
	and, or := " & ", " | "
	if s.Dialect() != dialect.Postgres {
		and, or = " AND ", " OR "
	}
	parts := []string{ofTenant(tenant)}
	for _, token := range tokens {
		words := make([]string, len(fields))
		for i, field := range fields {
			words[i] = word(field, token)
		}
		parts = append(parts, "("+strings.Join(words, or)+")")
	}
	match := strings.Join(parts, and)
	s.Where(sql.P(func(b *sql.Builder) {
		b.Ident(s.C("id")).WriteString(" IN (")
		if s.Dialect() == dialect.Postgres {
			b.WriteString("SELECT record_id FROM search_entries WHERE words @@ ").Arg(match).WriteString("::tsquery)")
			return
		}
		b.WriteString("SELECT record_id FROM search_entries WHERE place IN (SELECT rowid FROM search_words WHERE search_words MATCH ").Arg(match).WriteString("))")
	}))
}
