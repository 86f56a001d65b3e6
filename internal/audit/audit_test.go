package audit_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func newLog(t *testing.T, key byte) *audit.Log {
	t.Helper()
	keys, err := audit.NewKeys(bytes.Repeat([]byte{key}, audit.KeySize))
	require.NoError(t, err)
	return audit.New(keys)
}

func TestEventsOfATransactionAreWrittenTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		log := newLog(t, 'k')
		ctx := actor.With(t.Context(), actor.ForSystem(gid.New(gid.Tenant)))
		count := func() (n int) {
			_, err := store.Build(db).Add(`SELECT COUNT(*) FROM audit_events`).One(ctx, db, &n)
			require.NoError(t, err)
			return n
		}
		write := func(result error) error {
			return db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
				require.NoError(t, log.Append(ctx, tx, audit.Event{Action: "A"}, audit.Event{Action: "B"}))
				require.NoError(t, log.Append(ctx, tx, audit.Event{Action: "C"}))
				return result
			})
		}
		require.ErrorIs(t, write(context.Canceled), context.Canceled)
		require.Zero(t, count())
		require.NoError(t, write(nil))
		require.Equal(t, 3, count())
		require.NoError(t, log.Write(ctx, db, audit.Event{Action: "D", Outcome: audit.Refused}))
		require.Equal(t, 4, count())
		require.Error(t, db.InTx(t.Context(), func(ctx context.Context, tx *store.Tx) error { return log.Append(ctx, tx, audit.Event{Action: "E"}) }), "nobody acts")
	})
}

func TestSealedValuesOpenForTheirEventOnly(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		log, tenant, seal := newLog(t, 'k'), gid.New(gid.Tenant), bytes.Repeat([]byte{7}, 16)
		ctx := actor.With(t.Context(), actor.ForSystem(tenant))
		personal := audit.Personal{Reason: "because", Changes: []audit.Change{{Field: "name", Old: "Анна", New: nil}}}
		require.NoError(t, log.Write(ctx, db, audit.Event{Action: "A", Seal: seal, Personal: personal}, audit.Event{Action: "B", Seal: seal, Personal: personal}))
		require.Error(t, log.Write(ctx, db, audit.Event{Action: "C", Personal: personal}), "personal values need a seal")
		var ids []gid.ID
		var sealed [][]byte
		err := store.Build(db).Add(`SELECT id, sealed FROM audit_events ORDER BY id`).Query(ctx, db, func(rows store.Row) error {
			var id gid.ID
			var b []byte
			err := rows.Scan(&id, &b)
			ids, sealed = append(ids, id), append(sealed, b)
			return err
		})
		require.NoError(t, err)
		require.Len(t, ids, 2)
		got, err := log.Open(tenant, seal, ids[0], sealed[0])
		require.NoError(t, err)
		require.Equal(t, personal, got)
		for name, open := range map[string]func() (audit.Personal, error){
			"another event":  func() (audit.Personal, error) { return log.Open(tenant, seal, ids[1], sealed[0]) },
			"another tenant": func() (audit.Personal, error) { return log.Open(gid.New(gid.Tenant), seal, ids[0], sealed[0]) },
			"another seal": func() (audit.Personal, error) {
				return log.Open(tenant, bytes.Repeat([]byte{8}, 16), ids[0], sealed[0])
			},
			"no seal":     func() (audit.Personal, error) { return log.Open(tenant, nil, ids[0], sealed[0]) },
			"another key": func() (audit.Personal, error) { return newLog(t, 'x').Open(tenant, seal, ids[0], sealed[0]) },
			"cut short":   func() (audit.Personal, error) { return log.Open(tenant, seal, ids[0], sealed[0][:5]) },
		} {
			_, err := open()
			require.ErrorIs(t, err, audit.ErrErased, name)
		}
	})
}

func TestAKeyHas32Bytes(t *testing.T) {
	t.Parallel()
	_, err := audit.NewKeys(make([]byte, 31))
	require.Error(t, err)
}
