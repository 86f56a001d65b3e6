package index_test

import (
	"context"
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
