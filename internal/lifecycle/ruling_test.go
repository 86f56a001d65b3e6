package lifecycle_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/lifecycle"
)

func TestAReleasedHoldKeepsFromBeingPurgedWhatARuleDeletes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	deletes, released, kept := now.Add(time.Hour), now.Add(30*time.Hour), now.Add(10*time.Hour)
	s := lifecycle.Standing{
		State: lifecycle.Active, Released: released,
		Clauses: []lifecycle.Clause{{Key: "deletes", Action: lifecycle.DeleteAction, At: deletes}},
	}
	// It goes into the bin on its day, and is purged no sooner than the clocks go on.
	require.Equal(t, lifecycle.Ruling{By: "deletes", Action: lifecycle.DeleteAction, At: &deletes, Stays: lifecycle.Retained, Until: &released}, s.Rule(now))
	// What is kept by a rule is not deleted, either.
	s.Clauses = append(s.Clauses, lifecycle.Clause{Key: "keeps", Action: lifecycle.KeepAction, At: kept})
	require.Equal(t, lifecycle.Ruling{By: "keeps", Action: lifecycle.DeleteAction, At: &kept, Stays: lifecycle.Retained, Until: &released}, s.Rule(now))
}
