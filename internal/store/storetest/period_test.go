package storetest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

func TestBothDatabasesKnowWhenAPeriodBegan(t *testing.T) {
	t.Parallel()
	begins := map[store.Period]map[string]string{
		store.Day:   {"2026-03-01T23:59:59.999999+00:00": "2026-03-01", "2026-03-02T01:30:00+03:00": "2026-03-01"},
		store.Week:  {"2026-03-01T23:59:59+00:00": "2026-02-23", "2026-03-02T00:00:00+00:00": "2026-03-02", "2026-01-01T12:00:00+00:00": "2025-12-29"},
		store.Month: {"2026-02-28T23:59:59+00:00": "2026-02-01", "2026-03-01T00:00:00+00:00": "2026-03-01", "2026-12-31T12:00:00+00:00": "2026-12-01"},
	}
	for name, open := range map[string]func(testing.TB, ...store.Option) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			kind := map[string]string{"sqlite": "datetime", "postgres": "timestamptz"}[name]
			_, err := store.Build(db).Add(`CREATE TABLE moments (at `+kind+` NOT NULL)`).Exec(t.Context(), db)
			require.NoError(t, err)
			for period, cases := range begins {
				for text, want := range cases {
					at, err := time.Parse(time.RFC3339, text)
					require.NoError(t, err)
					require.Equal(t, want, period.Start(at).Format(time.DateOnly), "%s of %s", period, text)
					require.Equal(t, period.Next(period.Start(at)), period.Start(period.Next(period.Start(at))), "the next %s begins as one", period)
					_, err = store.Build(db).Add(`DELETE FROM moments`).Exec(t.Context(), db)
					require.NoError(t, err)
					_, err = store.Build(db).Add(`INSERT INTO moments (at) VALUES (?)`, at.UTC()).Exec(t.Context(), db)
					require.NoError(t, err)
					var got string
					_, err = store.Build(db).Add(`SELECT `+period.Day(db.Dialect(), "at")+` FROM moments`).One(t.Context(), db, &got)
					require.NoError(t, err)
					require.Equal(t, want, got, "%s of %s", period, text)
				}
			}
		})
	}
}
