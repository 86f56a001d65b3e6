package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// Conformance is what the rest of Lethe relies on a database for. Every
// database passes it; a bug of one becomes a case here.
func Conformance(t *testing.T, open func(testing.TB, ...store.Option) *store.DB) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *store.DB){
		"a transaction is seen whole or not at all":                    wholeOrNothing,
		"a transaction inside a transaction is the same":               nested,
		"a panic rolls back and frees the connection":                  panics,
		"what runs before the commit is part of it":                    beforeCommit,
		"ent and statements share a transaction":                       sharedWithEnt,
		"nothing is written through the reading driver":                readOnly,
		"bulk inserts keep every kind of value":                        bulkInsert,
		"lists of ids and strings are one argument":                    lists,
		"broken constraints are told apart":                            constraints,
		"text is compared letter by letter":                            text,
		"times keep their order and their microseconds":                times,
		"a row lock holds until the end of the transaction":            locks,
		"a snapshot stays as it is while others write":                 snapshot,
		"migrations go down and up again":                              migrateDownAndUp,
		"a cancelled context ends a transaction without a trace of it": cancelled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func insertTenant(ctx context.Context, q store.Querier, name string) error {
	_, err := store.Build(q).Add(`INSERT INTO tenants (id, name, bin_days, created_at) VALUES (?, ?, ?, ?)`, gid.New(gid.Tenant), name, 30, q.Now()).Exec(ctx, q)
	return err
}

func tenants(t *testing.T, q store.Querier) (n int) {
	t.Helper()
	_, err := store.Build(q).Add(`SELECT COUNT(*) FROM tenants`).One(t.Context(), q, &n)
	require.NoError(t, err)
	return n
}

// snapshot reads twice, with a write in between that does not wait for it.
func snapshot(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, insertTenant(ctx, db, "before"))
	require.ErrorIs(t, db.Snapshot(ctx, func(_ context.Context, tx *store.Tx) error {
		require.Equal(t, 1, tenants(t, tx))
		require.NoError(t, insertTenant(ctx, db, "meanwhile"))
		require.NoError(t, db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error { return insertTenant(ctx, tx, "in a transaction") }))
		require.Equal(t, 1, tenants(t, tx))
		require.ErrorIs(t, tx.Driver().Exec(ctx, `DELETE FROM tenants`, []any{}, nil), store.ErrNoTransaction)
		return errBoom
	}), errBoom)
	require.Equal(t, 3, tenants(t, db))
}

var errBoom = errors.New("boom")

func wholeOrNothing(t *testing.T, db *store.DB) {
	err := db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		require.NoError(t, insertTenant(ctx, tx, "a"))
		require.Equal(t, 1, tenants(t, tx))
		return errBoom
	})
	require.ErrorIs(t, err, errBoom)
	require.Zero(t, tenants(t, db))
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error { return insertTenant(ctx, tx, "a") }))
	require.Equal(t, 1, tenants(t, db))
}

func nested(t *testing.T, db *store.DB) {
	err := db.InTx(t.Context(), func(ctx context.Context, outer *store.Tx) error {
		return db.InTx(ctx, func(ctx context.Context, inner *store.Tx) error {
			require.Same(t, outer, inner)
			require.Same(t, outer, store.TxFrom(ctx))
			return errBoom
		})
	})
	require.ErrorIs(t, err, errBoom)
}

func panics(t *testing.T, db *store.DB) {
	for range 20 { // more than there are connections
		require.Panics(t, func() {
			_ = db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				require.NoError(t, insertTenant(ctx, tx, "a"))
				panic("boom")
			})
		})
	}
	require.Zero(t, tenants(t, db))
}

func beforeCommit(t *testing.T, db *store.DB) {
	var ended []bool
	run := func(result error) error {
		return db.InTx(t.Context(), func(_ context.Context, tx *store.Tx) error {
			tx.BeforeCommit(func(ctx context.Context) error { return insertTenant(ctx, tx, "late") })
			tx.AfterEnd(func(committed bool) { ended = append(ended, committed) })
			return result
		})
	}
	require.ErrorIs(t, run(errBoom), errBoom)
	require.Zero(t, tenants(t, db))
	require.NoError(t, run(nil))
	require.Equal(t, 1, tenants(t, db))
	require.Error(t, run(nil), "the second tenant of that name")
	require.Equal(t, []bool{false, true, false}, ended)
}

func sharedWithEnt(t *testing.T, db *store.DB) {
	err := db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		require.NoError(t, insertTenant(ctx, tx, "a"))
		var rows entsql.Rows
		require.NoError(t, tx.Driver().Query(ctx, `SELECT name FROM tenants`, []any{}, &rows))
		defer rows.Close()
		require.True(t, rows.Next(), "ent sees what the transaction wrote")
		require.False(t, rows.Next())
		require.NoError(t, rows.Err())
		// ent opens transactions of its own for some writes; they join ours.
		again, err := tx.Driver().Tx(ctx)
		require.NoError(t, err)
		require.NoError(t, again.Commit())
		return errBoom
	})
	require.ErrorIs(t, err, errBoom)
	require.Zero(t, tenants(t, db))
}

func readOnly(t *testing.T, db *store.DB) {
	require.ErrorIs(t, db.Driver().Exec(t.Context(), `DELETE FROM tenants`, []any{}, nil), store.ErrNoTransaction)
	_, err := db.Driver().Tx(t.Context())
	require.ErrorIs(t, err, store.ErrNoTransaction)
}

func bulkInsert(t *testing.T, db *store.DB) {
	const n = 2_500 // more values than SQLite takes in one statement
	at := time.Date(2026, 3, 1, 12, 30, 0, 123_456_000, time.UTC)
	operation := gid.New(gid.Operation)
	err := db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		rows := make([][]any, n)
		for i := range rows {
			var team any
			if i%2 == 0 {
				team = gid.New(gid.Team)
			}
			rows[i] = []any{
				gid.New(gid.Event), operation, at, "ПРИВЕТ 你好 \\ \t\n\"'", "SUCCEEDED", team, int64(i), `{"a": [1, null]}`, []byte{0, 1, 255},
			}
		}
		return tx.Insert(ctx, "audit_events", []string{"id", "tenant_id", "at", "action", "outcome", "team_id", "version", "detail", "sealed"}, rows)
	})
	require.NoError(t, err)
	got := 0
	err = store.Build(db).Add(`SELECT tenant_id, at, action, team_id, version, sealed FROM audit_events ORDER BY version`).
		Query(t.Context(), db, func(rows store.Row) error {
			var tenant, team gid.ID
			var when time.Time
			var action string
			var version int
			var sealed []byte
			if err := rows.Scan(&tenant, &when, &action, &team, &version, &sealed); err != nil {
				return err
			}
			require.Equal(t, operation, tenant)
			require.True(t, at.Equal(when), "%s", when)
			require.Equal(t, "ПРИВЕТ 你好 \\ \t\n\"'", action)
			require.Equal(t, got%2 == 1, team.IsZero())
			require.Equal(t, got, version)
			require.Equal(t, []byte{0, 1, 255}, sealed)
			got++
			return nil
		})
	require.NoError(t, err)
	require.Equal(t, n, got)
}

func lists(t *testing.T, db *store.DB) {
	for _, name := range []string{"a", `b"c`, `d{e,f}\`, "ж"} {
		require.NoError(t, insertTenant(t.Context(), db, name))
	}
	count := func(s *store.SQL) (n int) {
		_, err := s.One(t.Context(), db, &n)
		require.NoError(t, err)
		return n
	}
	from := func() *store.SQL { return store.Build(db).Add(`SELECT COUNT(*) FROM tenants WHERE `) }
	require.Equal(t, 4, count(from().Strings("name", []string{"a", `b"c`, `d{e,f}\`, "ж", "other"})))
	require.Zero(t, count(from().Strings("name", nil)))
	require.Zero(t, count(from().IDs("id", nil)))
	var id gid.ID
	_, err := store.Build(db).Add(`SELECT id FROM tenants WHERE name = ?`, "a").One(t.Context(), db, &id)
	require.NoError(t, err)
	require.Equal(t, 1, count(from().IDs("id", []gid.ID{id, gid.New(gid.Tenant)}).Add(` AND name = ?`, "a")))
}

func constraints(t *testing.T, db *store.DB) {
	ctx := t.Context()
	require.NoError(t, insertTenant(ctx, db, "a"))
	c, ok := store.Constraint(insertTenant(ctx, db, "a"))
	require.True(t, ok)
	require.Equal(t, store.UniqueViolation, c.Kind)
	_, err := store.Build(db).Add(`INSERT INTO user_teams (user_id, team_id) VALUES (?, ?)`, gid.New(gid.User), gid.New(gid.Team)).Exec(ctx, db)
	c, ok = store.Constraint(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, store.ReferenceViolation, c.Kind)
	_, err = store.Build(db).Add(`INSERT INTO tenants (id, name, bin_days, created_at) VALUES (?, NULL, ?, ?)`, gid.New(gid.Tenant), 30, db.Now()).Exec(ctx, db)
	c, ok = store.Constraint(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, store.OtherViolation, c.Kind)
	_, ok = store.Constraint(errBoom)
	require.False(t, ok)
	tenant := gid.New(gid.Tenant)
	user := func() error {
		_, err := store.Build(db).Add(`INSERT INTO users (id, tenant_id, email, email_key, name, active, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			gid.New(gid.User), tenant, "a@b.c", "a@b.c", "a", true, db.Now()).Exec(ctx, db)
		return err
	}
	require.NoError(t, user())
	c, _ = store.Constraint(user())
	require.True(t, c.Concerns("email_key"), "%q names the column", c.Columns)
	require.False(t, c.Concerns("mail_key"))
}

func times(t *testing.T, db *store.DB) {
	base := time.Date(2026, 1, 31, 23, 59, 59, 0, time.UTC)
	offsets := []time.Duration{0, time.Microsecond, 10 * time.Microsecond, 100 * time.Millisecond, 120 * time.Millisecond, time.Second, 61 * time.Second, 24 * time.Hour}
	zone := time.FixedZone("east", 9*3600)
	for i, d := range offsets {
		at := base.Add(d)
		if i%2 == 1 {
			at = at.In(zone) // the same moment, written elsewhere
		}
		_, err := store.Build(db).Add(`INSERT INTO tenants (id, name, bin_days, created_at) VALUES (?, ?, ?, ?)`, gid.New(gid.Tenant), fmt.Sprint(i), 30, at).Exec(t.Context(), db)
		require.NoError(t, err)
	}
	for i, d := range offsets {
		var earlier int
		_, err := store.Build(db).Add(`SELECT COUNT(*) FROM tenants WHERE created_at < ?`, base.Add(d).In(zone)).One(t.Context(), db, &earlier)
		require.NoError(t, err)
		require.Equal(t, i, earlier, "rows before %s", d)
		var name string
		_, err = store.Build(db).Add(`SELECT name FROM tenants WHERE created_at = ?`, base.Add(d)).One(t.Context(), db, &name)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), name)
	}
}

func text(t *testing.T, db *store.DB) {
	for _, name := range []string{"Abc", "abc", "ABC", "Я", "я"} {
		require.NoError(t, insertTenant(t.Context(), db, name))
	}
	for pattern, want := range map[string]int{"abc": 1, "%b%": 2, "я": 1, "A__": 2} {
		var n int
		_, err := store.Build(db).Add(`SELECT COUNT(*) FROM tenants WHERE name LIKE ?`, pattern).One(t.Context(), db, &n)
		require.NoError(t, err)
		require.Equal(t, want, n, pattern)
	}
}

func locks(t *testing.T, db *store.DB) {
	require.NoError(t, insertTenant(t.Context(), db, "a"))
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			err := db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				var days int
				if _, err := store.Build(tx).Add(`SELECT bin_days FROM tenants WHERE name = ?`, "a").ForUpdate().One(ctx, tx, &days); err != nil {
					return err
				}
				_, err := store.Build(tx).Add(`UPDATE tenants SET bin_days = ? WHERE name = ?`, days+1, "a").Exec(ctx, tx)
				return err
			})
			if err != nil {
				t.Errorf("counting up: %v", err)
			}
		})
	}
	wg.Wait()
	var days int
	_, err := store.Build(db).Add(`SELECT bin_days FROM tenants`).One(t.Context(), db, &days)
	require.NoError(t, err)
	require.Equal(t, 70, days, "no update was lost")
}

func migrateDownAndUp(t *testing.T, db *store.DB) {
	require.NoError(t, db.Ready(t.Context()))
	all, err := db.Migrations(t.Context())
	require.NoError(t, err)
	require.NoError(t, db.MigrateDown(t.Context()))
	require.ErrorIs(t, db.Ready(t.Context()), store.ErrPending)
	require.NoError(t, db.Migrate(t.Context()))
	require.NoError(t, db.Migrate(t.Context()), "a second run finds nothing to do")
	again, err := db.Migrations(t.Context())
	require.NoError(t, err)
	require.Equal(t, all, again)
}

func cancelled(t *testing.T, db *store.DB) {
	ctx, cancel := context.WithCancel(t.Context())
	err := db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		require.NoError(t, insertTenant(ctx, tx, "a"))
		cancel()
		return ctx.Err()
	})
	require.Error(t, err)
	require.Zero(t, tenants(t, db))
	require.Contains(t, []string{dialect.SQLite, dialect.Postgres}, db.Dialect())
}
