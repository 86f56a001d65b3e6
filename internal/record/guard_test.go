package record_test

import (
	"context"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/customer"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

func TestNothingGoesAroundThePipeline(t *testing.T) {
	each(t, func(w *world) {
		id := w.customer("agent", "a")
		contact := w.contact("agent", id, "p")
		tries := map[string]func(ctx context.Context, c *ent.Client) error{
			"bulk update": func(ctx context.Context, c *ent.Client) error {
				return c.Customer.Update().SetName("x").Exec(ctx)
			},
			"bulk delete": func(ctx context.Context, c *ent.Client) error {
				_, err := c.Customer.Delete().Exec(ctx)
				return err
			},
			"delete of one": func(ctx context.Context, c *ent.Client) error { return c.Customer.DeleteOneID(id).Exec(ctx) },
			"a lifecycle column": func(ctx context.Context, c *ent.Client) error {
				return c.Customer.UpdateOneID(id).SetState(lifecycle.Deleted).Exec(ctx)
			},
			"a version": func(ctx context.Context, c *ent.Client) error {
				return c.Customer.UpdateOneID(id).SetVersion(1).Exec(ctx)
			},
			"a clock": func(ctx context.Context, c *ent.Client) error {
				return c.Customer.UpdateOneID(id).SetPurgeAfter(w.db.Now()).Exec(ctx)
			},
			"a state on create": func(ctx context.Context, c *ent.Client) error {
				return c.Customer.Create().SetName("x").SetNumber("N").SetState(lifecycle.Voided).Exec(ctx)
			},
			"clearing an edge to many": func(ctx context.Context, c *ent.Client) error {
				return c.Customer.UpdateOneID(id).ClearContacts().Exec(ctx)
			},
			"adding to an edge to many": func(ctx context.Context, c *ent.Client) error {
				return c.Customer.UpdateOneID(id).AddContactIDs(contact).Exec(ctx)
			},
			"deleting an event": func(ctx context.Context, c *ent.Client) error {
				_, err := c.AuditEvent.Delete().Exec(ctx)
				return err
			},
		}
		for name, try := range tries {
			before := w.get(id)
			err := w.db.InTx(w.as("admin"), func(ctx context.Context, _ *store.Tx) error { return try(ctx, w.svc.Client(ctx)) })
			require.ErrorIs(w.t, err, record.ErrGuarded, name)
			require.Equal(w.t, before.RecordVersion(), w.get(id).RecordVersion(), name)
		}
		require.Equal(w.t, lifecycle.Active, w.state(id))
	})
}

func TestARetiredRecordIsReadOnly(t *testing.T) {
	each(t, func(w *world) {
		id := w.customer("agent", "a")
		w.delete("agent", id)
		_, err := w.svc.Update(w.as("agent"), id, 2, record.Values{"name": "x"})
		require.Equal(w.t, lifecycle.RecordNotEditable, code(err))
		// Past the service the hook holds as well.
		ctx := w.as("agent")
		err = w.db.InTx(ctx, func(ctx context.Context, _ *store.Tx) error {
			return w.svc.Client(ctx).Customer.UpdateOneID(id).SetName("x").Exec(ctx)
		})
		require.True(w.t, ent.IsNotFound(err), "%v", err)
		require.Equal(w.t, "a", w.get(id).Column("name"))
	})
}

func TestAWriteNeedsATransaction(t *testing.T) {
	each(t, func(w *world) {
		ctx := w.as("admin")
		err := w.svc.Client(ctx).Customer.Create().SetName("x").SetNumber("N").Exec(ctx)
		require.ErrorIs(w.t, err, record.ErrGuarded)
	})
}

func TestThereIsNoUpsert(t *testing.T) {
	t.Parallel()
	for _, builder := range []any{&ent.CustomerCreate{}, &ent.CustomerCreateBulk{}, &ent.MessageCreate{}, &ent.MessageCreateBulk{}} {
		_, found := reflect.TypeOf(builder).MethodByName("OnConflict")
		require.False(t, found, "the feature sql/upsert would write past the hooks")
		_, found = reflect.TypeOf(builder).MethodByName("Modify")
		require.False(t, found, "the feature sql/modifier would write past the hooks")
	}
}

func TestTheDatabaseRefusesWhatTheCodeNeverDoes(t *testing.T) {
	each(t, func(w *world) {
		id := w.customer("agent", "a")
		m := w.message("agent", id, "one")
		for _, query := range []string{
			`DELETE FROM customers WHERE id = ?`, // a live record
			`DELETE FROM messages WHERE customer_id = ?`,
			`DELETE FROM audit_events WHERE record_id = ?`,
			`UPDATE audit_events SET action = 'X' WHERE record_id = ?`,
			`DELETE FROM record_numbers WHERE record_id = ?`,
		} {
			_, err := store.Build(w.db).Add(query, id).Exec(w.t.Context(), w.db)
			c, ok := store.Constraint(err)
			require.True(w.t, ok, "%s: %v", query, err)
			require.Equal(w.t, store.OtherViolation, c.Kind, query)
		}
		w.contact("agent", id, "p")
		w.deal("agent", id, "d")
		w.rest("agent", id)
		for _, t := range ent.RecordTypes {
			_, err := store.Build(w.db).Add(`DELETE FROM `+t.Table).Exec(w.t.Context(), w.db)
			c, ok := store.Constraint(err)
			require.True(w.t, ok, "%s: %v", t.Table, err)
			require.Equal(w.t, store.OtherViolation, c.Kind, t.Table)
		}
		w.run("agent", record.Request{Verb: lifecycle.Delete, Cascade: true, Select: record.Selection{IDs: []gid.ID{id}}})
		// References are restricted: an owner does not go before what it owns.
		_, err := store.Build(w.db).Add(`DELETE FROM customers WHERE id = ?`, id).Exec(w.t.Context(), w.db)
		c, _ := store.Constraint(err)
		require.Equal(w.t, store.ReferenceViolation, c.Kind, "%v", err)
		require.NotNil(w.t, w.get(m))
	})
}

func TestEdgePredicatesSeeWhatTheReaderSees(t *testing.T) {
	each(t, func(w *world) {
		seen, hidden, foreign := w.customer("agent", "a"), w.customer("agent", "b"), w.customer("agent", "c")
		w.contact("agent", seen, "live")
		w.delete("agent", w.contact("agent", hidden, "gone"))
		p := w.contact("agent", foreign, "theirs")
		w.exec(`UPDATE contacts SET owner_id = ?, team_id = ? WHERE id = ?`, w.users["agent2"], w.support, p)
		ctx := w.as("agent")
		ids, err := w.svc.Client(ctx).Customer.Query().Where(customer.HasContacts()).IDs(ctx)
		require.NoError(w.t, err)
		require.Equal(w.t, []gid.ID{seen}, ids)
		ids, err = w.svc.Client(ctx).Customer.Query().Where(customer.HasContactsWith()).IDs(ctx)
		require.NoError(w.t, err)
		require.Equal(w.t, []gid.ID{seen}, ids)
		n, err := w.svc.Client(ctx).Customer.Query().Where(customer.Not(customer.HasContacts())).Count(ctx)
		require.NoError(w.t, err)
		require.Equal(w.t, 2, n)
		// The stranger's tenant has none of them.
		ctx = w.as("stranger")
		n, err = w.svc.Client(ctx).Customer.Query().Count(ctx)
		require.NoError(w.t, err)
		require.Zero(w.t, n)
	})
}

func TestWithoutAReaderNothingIsSeen(t *testing.T) {
	each(t, func(w *world) {
		w.customer("agent", "a")
		n, err := w.svc.Client(w.t.Context()).Customer.Query().Count(w.t.Context())
		require.NoError(w.t, err)
		require.Zero(w.t, n)
	})
}
