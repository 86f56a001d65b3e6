package index_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/search"
	"github.com/lethe-crm/lethe/internal/search/index"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func TestBothDatabasesFindTheSame(t *testing.T) {
	t.Parallel()
	texts := []string{"The dogs were running after c++", "Счета были оплачены", "请把合同发给John", "nul \x00 and 'quotes' & | ! :* ()", ""}
	queries := map[string][]int{
		"dog": {0}, "c++": {0}, "счет": {1}, "合同": {2}, "john 合同": {2}, "quotes": {3}, `' OR 1=1 --`: nil, "": nil, "&|!": nil, "nul": {3}, "run dogs": {0}, "dog счет": nil, "* OR": nil,
	}
	for name, open := range map[string]func(testing.TB, ...store.Option) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, tenant, other := open(t), gid.New(gid.Tenant), gid.New(gid.Tenant)
			entries := make([]index.Entry, len(texts))
			for i, text := range texts {
				entries[i] = index.Entry{Record: gid.New(gid.Message), Texts: []search.Text{{Field: 'a', Text: text}, {Field: 'b', Text: "hidden"}}}
			}
			put := func(list []index.Entry) {
				require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error { return index.Put(ctx, tx, tenant, list) }))
			}
			put(entries)
			_, err := store.Build(db).Add(`CREATE TABLE things AS SELECT record_id AS id FROM search_entries`).Exec(t.Context(), db)
			require.NoError(t, err)
			find := func(tenant gid.ID, query, fields string) []int {
				things := sql.Dialect(db.Dialect()).Table("things")
				rows := sql.Dialect(db.Dialect()).Select(things.C("id")).From(things)
				parsed, err := search.Parse(query)
				require.NoError(t, err)
				parsed.Where(rows, tenant, []byte(fields))
				found := map[gid.ID]bool{}
				require.NoError(t, store.Select(t.Context(), db, rows, func(row store.Row) error {
					var id gid.ID
					err := row.Scan(&id)
					found[id] = true
					return err
				}), query)
				var out []int
				for i := range entries {
					if found[entries[i].Record] {
						out = append(out, i)
					}
				}
				return out
			}
			for query, want := range queries {
				require.Equal(t, want, find(tenant, query, "a"), query)
				require.Empty(t, find(other, query, "a"), query)
			}
			require.Empty(t, find(tenant, "hidden", "a"))
			require.Len(t, find(tenant, "hidden", "ab"), len(texts))
			entries[0].Texts[0].Text = "cats"
			put(entries[:1])
			require.Equal(t, []int{0}, find(tenant, "cat", "a"))
			require.Empty(t, find(tenant, "dog", "a"))
			require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				return index.Remove(ctx, tx, []gid.ID{entries[0].Record})
			}))
			require.Empty(t, find(tenant, "cat", "ab"))
		})
	}
}

func TestWordsOfWhatIsRemovedAreInTheFileNoMore(t *testing.T) {
	t.Parallel()
	url := storetest.SQLiteURL(t)
	db, err := store.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	tenant, secret := gid.New(gid.Tenant), gid.New(gid.Message)
	in := func(do func(ctx context.Context, tx *store.Tx) error) { require.NoError(t, db.InTx(t.Context(), do)) }
	for i := range 40 { // as many segments, some of them merged
		in(func(ctx context.Context, tx *store.Tx) error {
			entries := make([]index.Entry, 50)
			for j := range entries {
				entries[j] = index.Entry{Record: gid.New(gid.Message), Texts: []search.Text{{Field: 'a', Text: fmt.Sprintf("letter number %d of the day %d", j, i)}}}
			}
			if i == 7 {
				entries[0] = index.Entry{Record: secret, Texts: []search.Text{{Field: 'a', Text: "xylophonist"}}}
			}
			return index.Put(ctx, tx, tenant, entries)
		})
	}
	word := search.Query{"xylophonist"}.Match(db.Dialect(), tenant, []byte("a"))
	word = strings.Trim(word[strings.LastIndex(word, "(")+1:], ")")[8:] // the index leaves away what a word has in common with the one before it
	kept := func() bool {
		_, err := store.Build(db).Add(`PRAGMA wal_checkpoint(TRUNCATE)`).Exec(t.Context(), db)
		require.NoError(t, err)
		file, err := os.ReadFile(strings.TrimPrefix(url, "sqlite:"))
		require.NoError(t, err)
		return bytes.Contains(file, []byte(word))
	}
	require.True(t, kept())
	in(func(ctx context.Context, tx *store.Tx) error { return index.Remove(ctx, tx, []gid.ID{secret}) })
	require.True(t, kept(), "if SQLite removes it by itself, Forget is not needed any more")
	require.NoError(t, index.Forget(t.Context(), db, 0))
	require.False(t, kept())
	require.NoError(t, index.Forget(t.Context(), db, 0), "there may be nothing to forget")
}
