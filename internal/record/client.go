package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/intercept"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// Client returns the entities as the reader in the context may see them, over
// the context's transaction where there is one. Outside of a transaction it
// only reads.
func (s *Service) Client(ctx context.Context) *ent.Client {
	if tx := store.TxFrom(ctx); tx != nil {
		return store.Get(tx, clientKey{}, func() *ent.Client { return s.newClient(tx.Driver()) })
	}
	return s.reader()
}

type clientKey struct{}

// newClient makes a client with all hooks; who reads is in the context of each
// query.
func (s *Service) newClient(driver dialect.Driver) *ent.Client {
	c := ent.NewClient(ent.Driver(driver))
	c.Intercept(intercept.TraverseFunc(func(ctx context.Context, q intercept.Query) error {
		if q.Type() == ent.TypeTenant || q.Type() == ent.TypeSecret {
			return nil // they belong to no tenant
		}
		q.WhereP(func(s *sql.Selector) { visible.WhereContext(ctx, s, q.Type()) })
		return nil
	}))
	c.UseRecords(s.guard)
	refuse := func(ent.Mutator) ent.Mutator {
		return ent.MutateFunc(func(context.Context, ent.Mutation) (ent.Value, error) { return nil, ErrGuarded })
	}
	c.AuditEvent.Use(refuse)
	c.Tombstone.Use(refuse)
	c.RecordNumber.Use(refuse)
	c.OperationItem.Use(refuse)
	c.LegalHold.Use(refuse)
	c.LegalHoldRecord.Use(refuse)
	c.RetentionRule.Use(refuse)
	c.RetentionWait.Use(refuse)
	c.Export.Use(refuse)
	c.ExportSchedule.Use(refuse)
	c.Notification.Use(refuse)
	c.Webhook.Use(refuse)
	c.WebhookDelivery.Use(refuse)
	c.Department.Use(refuse)
	c.AlertRule.Use(refuse)
	return c
}

// Rows is what the actor in the context may see.
func (s *Service) Rows(ctx context.Context) visible.Rows {
	return s.control.Rows(ctx, actor.From(ctx))
}

// Pin makes everything under the returned context be judged by one version of
// the policy of the actor's tenant.
func (s *Service) Pin(ctx context.Context) (context.Context, error) {
	return s.control.Pin(ctx, actor.From(ctx).Tenant)
}

// ErrGuarded reports a write that would go around the pipeline: a lifecycle
// column, a bulk update, a delete, an edge to many. It is a programming error.
var ErrGuarded = errors.New("record: this write belongs to the lifecycle pipeline")

// frozen are the columns of mixin.Record that only the pipeline writes.
var frozen = []string{
	"state", "prior_state", "state_changed_at", "state_changed_by_id", "state_reason", "operation_id", "orphaned_at", "seal",
	"retired_at", "purge_after", "suspended_until", "suspended_then", "version", "tenant_id", "created_at", "updated_at",
}

// mutation is what the generated mutations of all record types have in common.
type mutation interface {
	ent.Mutation
	WhereP(...func(*sql.Selector))
	AddVersion(int)
}

// guard is the hook on every record type. It lets through what create and
// update may do, stamps it, and writes it to the audit log.
func (s *Service) guard(t *ent.RecordType) ent.Hook {
	return func(next ent.Mutator) ent.Mutator {
		return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
			tx, a := store.TxFrom(ctx), actor.From(ctx)
			mut, ok := m.(mutation)
			if !ok || tx == nil || a == nil {
				return nil, fmt.Errorf("%w: %s outside of a transaction or without an actor", ErrGuarded, m.Type())
			}
			create := m.Op().Is(ent.OpCreate)
			if !create && !m.Op().Is(ent.OpUpdateOne) {
				return nil, fmt.Errorf("%w: %s of %s", ErrGuarded, m.Op(), t.Name)
			}
			if err := allowedFields(mut, create); err != nil {
				return nil, err
			}
			if err := allowedEdges(t, mut); err != nil {
				return nil, err
			}
			stamp := map[string]any{"updated_at": tx.Now()}
			if create {
				stamp["created_at"], stamp["state_changed_at"], stamp["tenant_id"] = tx.Now(), tx.Now(), a.Tenant
				if by := a.UserRef(); by != nil {
					stamp["state_changed_by_id"] = *by
				}
			} else {
				mut.AddVersion(1)
				mut.WhereP(func(s *sql.Selector) {
					s.Where(sql.EQ(s.C("tenant_id"), a.Tenant))
					s.Where(sql.In(s.C("state"), string(lifecycle.Active), string(lifecycle.Suspended)))
				})
			}
			for name, v := range stamp {
				if err := m.SetField(name, v); err != nil {
					return nil, fmt.Errorf("stamping %s: %w", name, err)
				}
			}
			changes, err := changesOf(ctx, t, mut, create)
			if err != nil {
				return nil, err
			}
			v, err := next.Mutate(ctx, m)
			if err != nil {
				return nil, err
			}
			if extra, ok := ctx.Value(partsKey{}).(map[ent.Mutation][]audit.Change); ok {
				changes = append(changes, extra[m]...)
			}
			r, ok := v.(ent.Record)
			if !ok {
				return nil, fmt.Errorf("record: %T is no record", v)
			}
			action := "UPDATE"
			if create {
				action = "CREATE"
			}
			e := event(action, r, changes)
			e.To, e.Version = r.RecordState(), r.RecordVersion()
			if !create {
				e.From = e.To
			}
			e.PolicyVersion = s.control.Version(ctx, a.Tenant)
			return v, s.audit.Append(ctx, tx, e)
		})
	}
}

func allowedFields(m mutation, create bool) error {
	touched := append(append(m.Fields(), m.AddedFields()...), m.ClearedFields()...)
	for _, name := range touched {
		if !slices.Contains(frozen, name) {
			continue
		}
		v, _ := m.Field(name)
		if create && (name == "seal" || name == "state" && v == lifecycle.Active || name == "version" && v == 1) {
			continue // defaults of the schema
		}
		return fmt.Errorf("%w: column %s", ErrGuarded, name)
	}
	return nil
}

func allowedEdges(t *ent.RecordType, m mutation) error {
	for _, name := range slices.Concat(m.AddedEdges(), m.RemovedEdges(), m.ClearedEdges()) {
		single := func(f ent.RecordField) bool { return f.Target != "" && f.Name == name+"_id" }
		if !slices.ContainsFunc(t.Fields, single) {
			return fmt.Errorf("%w: edge %s", ErrGuarded, name)
		}
	}
	return nil
}

// changesOf lists the fields a mutation sets, with old and new values.
func changesOf(ctx context.Context, t *ent.RecordType, m mutation, create bool) ([]audit.Change, error) {
	var changes []audit.Change
	for _, f := range t.Fields {
		if isKey(f.Name) {
			continue
		}
		v, set := m.Field(f.Name)
		if !set {
			if create || !m.FieldCleared(f.Name) {
				continue
			}
			v = nil // ent answers the zero value for what is cleared
		}
		c := audit.Change{Field: f.GraphQL, New: v}
		if !create {
			old, err := m.OldField(ctx, f.Name)
			if err != nil {
				return nil, fmt.Errorf("reading the old %s: %w", f.Name, err)
			}
			c.Old = deref(old)
			before, wasTime := c.Old.(time.Time)
			after, isTime := c.New.(time.Time)
			if c.Old == c.New || wasTime && isTime && before.Equal(after) {
				continue
			}
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// partsKey is under which a write tells the guard of parts, such as recipients,
// that change with a record: they belong into the same event.
type partsKey struct{}

// event is an audit event about a record as it is now.
func event(action string, r ent.Record, changes []audit.Change) audit.Event {
	id := r.RecordID()
	seal, _ := r.Column("seal").([]byte)
	return audit.Event{
		Action: action, RecordID: &id, RecordType: r.RecordType().Name, Owner: refOf(r, "owner_id"), Team: refOf(r, "team_id"),
		Seal: seal, Personal: audit.Personal{Changes: changes},
	}
}
