package migration_test

import (
	"context"
	"database/sql"
	"testing"

	"ariga.io/atlas/sql/migrate"
	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/schema"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/lethe-crm/lethe/ent/migration"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func TestMigrationsMakeTheDatabaseTheEntitiesWant(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		dialect, driver string
		url             func(testing.TB) string
	}{
		{dialect.SQLite, "sqlite", func(tb testing.TB) string {
			return "file:" + storetest.SQLiteURL(tb)[len("sqlite:"):] + "?_pragma=foreign_keys(1)"
		}},
		{dialect.Postgres, "pgx", storetest.PostgresURL},
	} {
		t.Run(test.dialect, func(t *testing.T) {
			t.Parallel()
			db, err := sql.Open(test.driver, test.url(t))
			require.NoError(t, err)
			defer db.Close()
			var missing []string
			m, err := schema.NewMigrate(entsql.OpenDB(test.dialect, db), schema.WithDropColumn(true), schema.WithDropIndex(true),
				schema.WithApplyHook(func(schema.Applier) schema.Applier {
					return schema.ApplyFunc(func(_ context.Context, _ dialect.ExecQuerier, plan *migrate.Plan) error {
						for _, c := range plan.Changes {
							missing = append(missing, c.Cmd)
						}
						return nil
					})
				}))
			require.NoError(t, err)
			require.NoError(t, m.Create(t.Context(), migration.Tables()...))
			require.Empty(t, missing, "run `make migration NAME=...`")
		})
	}
}
