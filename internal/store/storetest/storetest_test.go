package storetest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func TestEachDatabaseIsMigratedAndOfItsOwn(t *testing.T) {
	t.Parallel()
	for range 2 { // the second would see the first one's row
		storetest.Each(t, func(t *testing.T, db *store.DB) {
			require.NoError(t, db.Ready(t.Context()))
			var rows int
			_, err := store.Build(db).Add("SELECT count(*) FROM secrets").One(t.Context(), db, &rows)
			require.NoError(t, err)
			require.Zero(t, rows)
			_, err = store.Build(db).Add("INSERT INTO secrets (name, value) VALUES (?, ?)", "key-check", []byte{1}).Exec(t.Context(), db)
			require.NoError(t, err)
		})
	}
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Conformance(t, storetest.SQLite)
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	storetest.Conformance(t, storetest.Postgres)
}
