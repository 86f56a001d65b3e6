package record_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

func TestARuleThatIsDisabledWhileItActsDoesNoMore(t *testing.T) {
	each(t, func(w *world) {
		a := w.customer("agent", "a")
		w.clock.add(40 * day)
		id := w.ruleBy("admin", record.RetentionRule{Type: "Customer", Term: term(30), Action: lifecycle.DeleteAction}, "")
		w.ruled(0)
		w.clock.add(2 * day)
		var err error
		w.sql.onceBefore("waits", func() { // it has its turn, and looks for its records
			_, err = w.changeRule("compliance", id, func(r *record.RetentionRule) { r.Enabled = false })
		})
		w.ruled(0)
		require.NoError(w.t, err)
		require.False(w.t, w.ruleOf(id).Enabled)
		require.Equal(w.t, lifecycle.Active, w.state(a))
		require.Nil(w.t, w.ruleOf(id).NextRunAt)

		_, err = w.changeRule("admin", id, func(r *record.RetentionRule) { r.Enabled = true })
		require.NoError(w.t, err)
		w.ruled(0)
		w.clock.add(2 * day)
		w.ruled(1)
	})
}

func TestARuleCanBeRunByHandDuringItsTurn(t *testing.T) {
	each(t, func(w *world) {
		a := w.customer("agent", "a")
		w.deal("agent", a, "stands in the way")
		w.clock.add(40 * day)
		id := w.ruleBy("admin", record.RetentionRule{Type: "Customer", Term: term(30), Action: lifecycle.DeleteAction}, "")
		w.ruled(0)
		w.clock.add(2 * day)
		done := make(chan error, 1)
		w.sql.onceBefore(`"retention_waits" (`, func() {
			ended := make(chan struct{})
			go func() {
				_, err := w.svc.RunRule(w.as("admin"), id)
				done <- err
				close(ended)
			}()
			select {
			case <-ended:
			case <-time.After(time.Second): // it waits, as it should
			}
		})
		_, err := w.svc.ApplyRules(w.t.Context())
		require.NoError(w.t, err)
		require.NoError(w.t, <-done)
		require.Equal(w.t, lifecycle.Active, w.state(a))
		require.Len(w.t, w.rows(`SELECT code FROM retention_waits WHERE rule_id = ?`, id), 1)
	})
}

func TestARequestAboutARuleThatWasRemovedIsStale(t *testing.T) {
	each(t, func(w *world) {
		w.asks("admin2")
		id, request, err := w.svc.CreateRetentionRule(w.as("compliance"), w.ruling(record.RetentionRule{Type: "Note", Term: term(1), Basis: lifecycle.StateChangedAt, Action: lifecycle.PurgeAction}, ""))
		require.NoError(w.t, err)
		_, err = w.svc.RemoveRetentionRule(w.as("admin"), id, 1)
		require.NoError(w.t, err)
		ap, err := w.svc.DecideRequest(w.as("admin2"), request, true, "")
		require.NoError(w.t, err)
		require.Equal(w.t, []string{"FAILED", "STALE"}, []string{string(ap.Status), *ap.Code})
	})
}
