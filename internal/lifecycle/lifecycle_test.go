package lifecycle_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// TestTheStateMachineIsDrawn keeps state_machine.md what the table says; with
// LETHE_UPDATE=1 it writes it.
func TestTheStateMachineIsDrawn(t *testing.T) {
	t.Parallel()
	if os.Getenv("LETHE_UPDATE") != "" {
		require.NoError(t, os.WriteFile("state_machine.md", []byte(lifecycle.Page()), 0o600))
	}
	page, err := os.ReadFile("state_machine.md")
	require.NoError(t, err)
	require.Equal(t, lifecycle.Page(), string(page))
}

func TestTheTable(t *testing.T) {
	t.Parallel()
	// Written out once more, as users know it; a dot changes nothing.
	rows := strings.Split(strings.TrimSpace(`
ACTIVE    DELETED VOIDED  ARCHIVED SUSPENDED .      NOT_RETIRED
SUSPENDED DELETED VOIDED  ARCHIVED SUSPENDED ACTIVE NOT_RETIRED
ARCHIVED  DELETED VOIDED  .        ILLEGAL_TRANSITION prior NOT_RETIRED
VOIDED    DELETED .       ILLEGAL_TRANSITION ILLEGAL_TRANSITION prior gone
DELETED   . ILLEGAL_TRANSITION ILLEGAL_TRANSITION ILLEGAL_TRANSITION prior gone`), "\n")
	require.Len(t, rows, len(lifecycle.States()))
	for _, row := range rows {
		cells := strings.Fields(row)
		for i, verb := range lifecycle.Verbs() {
			move := lifecycle.Next(lifecycle.State(cells[0]), verb)
			got := string(move.To) + string(move.Code)
			switch {
			case move.Unchanged:
				got = "."
			case move.Prior:
				got = "prior"
			case move.Gone:
				got = "gone"
			}
			require.Equal(t, cells[i+1], got, "%s %s", cells[0], verb)
		}
	}
	require.Equal(t, lifecycle.IllegalTransition, lifecycle.Next("PURGED", lifecycle.Delete).Code)
	require.Equal(t, lifecycle.IllegalTransition, lifecycle.Next(lifecycle.Active, lifecycle.Erase).Code)
}

func TestAVerbIsNeverStrongerTheSecondTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		state := rapid.SampledFrom(lifecycle.States()).Draw(t, "state")
		verb := rapid.SampledFrom(lifecycle.Verbs()).Draw(t, "verb")
		first := lifecycle.Next(state, verb)
		if first.To == "" {
			return
		}
		second := lifecycle.Next(first.To, verb)
		if second.Applies() && second.To != first.To {
			t.Fatalf("%s %s: %v, then %v", state, verb, first, second)
		}
	})
}

func TestAllowedAndChangedByAgree(t *testing.T) {
	t.Parallel()
	for _, state := range lifecycle.States() {
		for _, verb := range lifecycle.Verbs() {
			require.Equal(t, slices.Contains(lifecycle.Allowed(state), verb), slices.Contains(lifecycle.ChangedBy(verb), state))
		}
	}
}
