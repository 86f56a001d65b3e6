package record_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

func TestAPurgeMayIncludeWhatIsLive(t *testing.T) {
	each(t, func(w *world) {
		purge := func(as string, ids ...gid.ID) record.Request {
			return record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: ids}, Mode: record.BestEffort, IncludeLive: true, Reason: "for good"}
		}
		c, kept := w.customer("agent", "a"), w.customer("agent", "kept")
		m := w.message("agent", c, "m")
		early := w.message("agent", c, "deleted by itself")
		w.delete("agent", early)
		w.deal("agent", kept, "d")

		// It takes both rights: the purger may not delete, the admin may not purge.
		op := w.run("purger", purge("purger", c))
		require.Equal(w.t, map[gid.ID]string{c: "FAILED FORBIDDEN"}, w.outcomes(op))
		_, err := w.svc.Run(w.as("admin"), purge("admin", c))
		require.Equal(w.t, lifecycle.Forbidden, code(err))

		tenant := w.tenant.String()
		w.policy.replace(w.tenant, append(w.policy.rules[tenant], casbin.Permission(casbin.UserSubject(w.users["purger"].String()), tenant, "*", "delete", "allow", "any")))
		require.NoError(w.t, w.control.Refresh(w.t.Context(), w.tenant))
		op = w.run("purger", purge("purger", c, kept))
		require.Equal(w.t, map[gid.ID]string{c: "CHANGED", m: "CHANGED along", kept: "FAILED HAS_DEPENDENTS"}, w.outcomes(op))
		require.Equal(w.t, "PURGE", string(op.Verb))
		require.Empty(w.t, string(w.state(c))+string(w.state(m)))
		require.Equal(w.t, lifecycle.Deleted, w.state(early), "what was deleted by itself stays in the bin")
		require.NotNil(w.t, w.get(early).Column("orphaned_at"))
		require.Equal(w.t, lifecycle.Active, w.state(kept))
		for _, id := range []gid.ID{c, m} {
			require.Equal(w.t, []string{"CREATE", "DELETE", "PURGE"}, w.rows(`SELECT action FROM audit_events WHERE record_id = ? AND outcome = 'SUCCEEDED' ORDER BY id`, id))
			require.Contains(w.t, w.rows(`SELECT history FROM tombstones WHERE record_id = ?`, id)[0], "DELETE")
		}
		require.Equal(w.t, []string{"1"}, w.rows(`SELECT COUNT(*) FROM operations WHERE verb = 'PURGE' AND changed > 0`), "one operation")
		w.eventsMatchChanges()
	})
}
