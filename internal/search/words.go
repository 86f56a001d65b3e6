package search

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/internal/gid"
)

const (
	// MaxQuery is how many characters may be asked for.
	MaxQuery = 500
	// MaxQueryWords is how many tokens those may be.
	MaxQueryWords = 32
	// maxWords is how many tokens of a record count, all its fields together: no
	// database has to take more than half a megabyte of them.
	maxWords = 6_000
	// MaxGathered is how many records that have the words SQLite gathers to sort them,
	// at 7 µs each. Where there are more, a list is walked first.
	MaxGathered = 2_000
	// MaxWalked is how many rows of a list are walked, at 4 µs each.
	MaxWalked = 5_000
)

// Version is of what texts are taken apart into. A change of that wants another one:
// then all texts are taken apart anew.
const Version = 1

// ErrTooLong says that more is asked for than counts.
var ErrTooLong = fmt.Errorf("search: more than %d characters or %d words", MaxQuery, MaxQueryWords)

// errNoText says that what is asked for is no text at all.
var errNoText = errors.New("search: not UTF-8, or with a NUL in it")

// Text is what a field of a record says. A field is told by a letter, so that who
// may not know one does not find anything by it.
type Text struct {
	Field byte
	Text  string
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

// Words are those by which a record of a tenant is found, with spaces between.
func Words(tenant gid.ID, texts []Text) string {
	out := []string{ofTenant(tenant)}
	for _, text := range texts {
		for _, token := range Tokens(text.Text) {
			if len(out) == maxWords {
				return strings.Join(out, " ")
			}
			out = append(out, word(text.Field, token))
		}
	}
	return strings.Join(out, " ")
}

// Query is what is asked for, taken apart.
type Query []string

// Parse takes apart what is asked for.
func Parse(text string) (Query, error) {
	switch {
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return nil, errNoText
	case utf8.RuneCountInString(text) > MaxQuery:
		return nil, ErrTooLong
	}
	tokens := needed(text)
	if len(tokens) > MaxQueryWords {
		return nil, ErrTooLong
	}
	return tokens, nil
}

// Where narrows a selection of records to those of a tenant that have all words of
// a query, each in any of the fields. What has no word finds nothing.
func (q Query) Where(s *sql.Selector, tenant gid.ID, fields []byte) {
	if len(q) == 0 || len(fields) == 0 {
		s.Where(sql.False())
		return
	}
	match := q.Match(s.Dialect(), tenant, fields)
	s.Where(sql.P(func(b *sql.Builder) {
		b.Ident(s.C("id")).WriteString(" IN (")
		if s.Dialect() == dialect.Postgres {
			b.WriteString("SELECT record_id FROM search_entries WHERE words @@ ").Arg(match).WriteString("::tsquery)")
			return
		}
		b.WriteString("SELECT e.record_id FROM search_words w CROSS JOIN search_entries e ON e.place = w.rowid WHERE w.search_words MATCH ").Arg(match).WriteString(")")
	}))
}

// Frequent reports whether more records have the words than SQLite should gather and
// sort for a page: then it is better to Walk. PostgreSQL sees that by itself.
func (q Query) Frequent(ctx context.Context, db dialect.Driver, tenant gid.ID, fields []byte) (bool, error) {
	if db.Dialect() == dialect.Postgres || len(q) == 0 || len(fields) == 0 {
		return false, nil
	}
	rows := &sql.Rows{}
	if err := db.Query(ctx, "SELECT count(*) FROM (SELECT 1 FROM search_words WHERE search_words MATCH ? LIMIT ?)",
		[]any{q.Match(db.Dialect(), tenant, fields), MaxGathered + 1}, rows); err != nil {
		return false, fmt.Errorf("counting what has the words: %w", err)
	}
	n, err := sql.ScanInt(rows)
	return n > MaxGathered, errors.Join(err, rows.Close())
}

// Walk is Where for the first rows of a list of live records, the highest of a column
// first, from a value down: what it finds are the first that Where would find, but not
// all of them. Words are looked for from the highest place in the index down to the
// lowest that one of those rows has. A row's place is as high as it is new, so those
// are few, however many records have the words.
func (q Query) Walk(s *sql.Selector, tenant gid.ID, fields []byte, column string, from any) {
	match := q.Match(s.Dialect(), tenant, fields)
	s.Where(sql.P(func(b *sql.Builder) {
		list := func(what, cut string) {
			b.WriteString("SELECT ").Ident(what).WriteString(" FROM ").Ident(s.TableName()).WriteString(" WHERE tenant_id = ").Arg(tenant).WriteString(" AND retired_at IS NULL")
			if from != nil {
				b.WriteString(" AND ").Ident(column).WriteString(" <= ").Arg(from)
			}
			b.WriteString(" ORDER BY ").Ident(column).WriteString(" DESC LIMIT ").WriteString(cut)
		}
		b.Ident(s.C(column)).WriteString(" > coalesce((")
		list(column, fmt.Sprintf("1 OFFSET %d", MaxWalked)) // of rows with one value some may be further down
		b.WriteString("), '') AND (SELECT place FROM search_entries WHERE record_id = ").Ident(s.C("id"))
		b.WriteString(") IN (SELECT rowid FROM search_words WHERE search_words MATCH ").Arg(match).WriteString(" AND rowid >= (SELECT min(e.place) FROM (")
		list("id", strconv.Itoa(MaxWalked))
		// Without a LIMIT the order is dropped, and the index read from its lowest place.
		b.WriteString(") l CROSS JOIN search_entries e ON e.record_id = l.id) ORDER BY rowid DESC LIMIT -1)")
	}))
}

// Match is the query as the index of a database takes it.
func (q Query) Match(database string, tenant gid.ID, fields []byte) string {
	and, or := " & ", " | "
	if database != dialect.Postgres {
		and, or = " AND ", " OR "
	}
	parts := []string{ofTenant(tenant)}
	for _, token := range q {
		words := make([]string, len(fields))
		for i, field := range fields {
			words[i] = word(field, token)
		}
		parts = append(parts, "("+strings.Join(words, or)+")")
	}
	return strings.Join(parts, and)
}
