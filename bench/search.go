package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/search"
	"github.com/lethe-crm/lethe/internal/store"
)

const (
	// searchPage is how many messages are on a page, searchTimes how often it is asked for, unless that takes longer than
	// searchWithin: then it is as often as it can be.
	searchPage, searchTimes = 50, 200
	searchWithin            = 30 * time.Second
	searchQuery             = `query Search($q: String!) { messages(first: 50, search: $q) { nodes { id subject sender sentAt } } }`
)

// searches are what is looked for. The seed's texts have no word as rare as the first
// two: the first stands in every 100,000th message, the second in every hundredth.
var searches = []struct {
	name, text string
	every      int
}{
	{"rare: in 10 messages of a million", "zanzibar", 100_000},
	{"middle: in 1 %", "warranty", 100},
	{"frequent: in about 40 %", "technician", 0},
	{"two frequent ones", "technicians boxes", 0},
	{"a frequent and a rare one", "technician zanzibar", 0},
	{"none", "elephant", 0},
}

// searchRow is what the first page of a search took.
type searchRow struct {
	name                      string
	found                     int
	lethe, letheLate, sql, sl time.Duration // median and 95th of 100, through the server and by SQL alone
}

type searchedMessage struct {
	id              gid.ID
	subject, sender *string
	at              time.Time
}

// measureSearch asks for the first page of searches, one request after another, and for the same rows by SQL that is
// written by hand over the same index.
func measureSearch(ctx context.Context, o *options) (table string, err error) {
	work, err := os.MkdirTemp("", "lethe-bench-")
	if err != nil {
		return "", fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	own := *o
	b := &bench{options: &own, work: work, folder: filepath.Join(work, "search")}
	if o.keep != "" {
		b.folder = o.keep
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.open(ctx); err != nil {
		return "", err
	}
	if err := b.index(ctx); err != nil {
		return "", err
	}
	own.binaries = work
	if err := b.build(ctx); err != nil {
		return "", err
	}
	if b.lethe, _, err = b.startOne(ctx, "lethe", b.url); err != nil {
		return "", err
	}
	about, err := b.newResult(ctx)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s; %s; %s\n\n", about.Database, about.Machine, about.Size)
	out.WriteString("| words | on the page | Lethe | 95th of 100 | SQL by hand | 95th of 100 |\n|---|---:|---:|---:|---:|---:|\n")
	for _, s := range searches {
		row, err := b.searchOne(ctx, s.name, s.text)
		if err != nil {
			return "", fmt.Errorf("searching for %s: %w", s.text, err)
		}
		fmt.Fprintf(&out, "| %s | %d | %s | %s | %s | %s |\n", row.name, row.found, milliseconds(row.lethe), milliseconds(row.letheLate), milliseconds(row.sql), milliseconds(row.sl))
	}
	return out.String(), nil
}

// index writes the words that the seed lacks into messages, and has all found.
func (b *bench) index(ctx context.Context) error {
	for _, s := range searches {
		if s.every == 0 {
			continue
		}
		n, err := store.Build(b.db).Add(`UPDATE messages SET body = body || ? WHERE body NOT LIKE ? AND id IN (SELECT id FROM (
			SELECT id, row_number() OVER (ORDER BY sent_at) AS place FROM messages) m WHERE place % ? = 7)`, " "+s.text, "%"+s.text+"%", s.every).Exec(ctx, b.db)
		if err != nil {
			return err
		}
		if n > 0 {
			sayf("wrote %q into %d messages", s.text, n)
			if _, err := store.Build(b.db).Add(`DELETE FROM search_progress`).Exec(ctx, b.db); err != nil {
				return err
			}
		}
	}
	start := time.Now()
	n, err := record.New(b.db, nil, audit.New(b.keys), nil).Reindex(ctx, 0)
	if err != nil {
		return err
	}
	sayf("found the words of %d records in %s", n, time.Since(start).Round(time.Millisecond))
	statements := []string{`ANALYZE search_entries`}
	if n > 0 && b.db.Dialect() == "postgres" {
		statements = []string{`VACUUM (ANALYZE) search_entries`, `VACUUM (ANALYZE) messages`, `CHECKPOINT`}
	}
	for _, statement := range statements {
		if _, err := store.Build(b.db).Add(statement).Exec(ctx, b.db); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) searchOne(ctx context.Context, name, text string) (*searchRow, error) {
	row := &searchRow{name: name}
	byHand, err := b.byHand(text)
	if err != nil {
		return nil, err
	}
	c, err := dial(b.lethe.address)
	if err != nil {
		return nil, err
	}
	defer c.close()
	request := b.graphql(searchQuery, map[string]any{"q": text})
	var lethe, sql []time.Duration
	for start := time.Now(); len(sql) < searchTimes && (len(sql) < 3 || time.Since(start) < searchWithin); {
		var page struct {
			Messages struct{ Nodes []struct{ ID string } }
		}
		begin := time.Now()
		if err := c.graphql(request, &page); err != nil {
			return nil, err
		}
		lethe = append(lethe, time.Since(begin))
		begin = time.Now()
		ids, err := byHand(ctx)
		if err != nil {
			return nil, err
		}
		sql = append(sql, time.Since(begin))
		row.found = len(page.Messages.Nodes)
		if len(ids) != row.found {
			return nil, fmt.Errorf("lethe answers %d messages, and SQL %d", row.found, len(ids))
		}
		for i, node := range page.Messages.Nodes {
			if node.ID != ids[i] {
				return nil, fmt.Errorf("place %d: lethe answers %s, and SQL %s", i, node.ID, ids[i])
			}
		}
	}
	slices.Sort(lethe)
	slices.Sort(sql)
	row.lethe, row.letheLate = lethe[len(lethe)/2], lethe[len(lethe)*95/100]
	row.sql, row.sl = sql[len(sql)/2], sql[len(sql)*95/100]
	return row, nil
}

// byHand is the same page for the same reader by one statement.
func (b *bench) byHand(text string) (func(context.Context) ([]string, error), error) {
	query, err := search.Parse(text)
	if err != nil {
		return nil, err
	}
	match := query.Match(b.db.Dialect(), b.tenant, []byte("fnsbr"))
	inIndex := `SELECT e.record_id FROM search_entries e WHERE e.words @@ ?::tsquery`
	if b.sqlite {
		inIndex = `SELECT e.record_id FROM search_words w CROSS JOIN search_entries e ON e.place = w.rowid WHERE w.search_words MATCH ?`
	}
	return func(ctx context.Context) ([]string, error) {
		var ids []string
		err := store.Build(b.db).Add(`SELECT m.id, m.subject, m.sender, m.sent_at FROM messages m WHERE m.tenant_id = ? AND m.state = 'ACTIVE' AND m.retired_at IS NULL
			AND m.team_id = (SELECT id FROM teams WHERE tenant_id = ? AND name = ?) AND m.id IN (`+inIndex+`) ORDER BY m.sent_at DESC, m.id DESC LIMIT ?`, b.tenant, b.tenant, north, match, searchPage).
			Query(ctx, b.db, func(rows store.Row) error {
				var m searchedMessage
				err := rows.Scan(&m.id, &m.subject, &m.sender, &m.at)
				ids = append(ids, m.id.String())
				return err
			})
		return ids, err
	}, nil
}
