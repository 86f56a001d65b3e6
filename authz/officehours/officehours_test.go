package officehours

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
)

const weekdays = `{"zone": "Europe/Berlin", "days": [1, 2, 3, 4, 5], "from": 9, "to": 17, "actions": ["purge"]}`

func TestListedActionsAreDeniedOutsideOfficeHoursInDecisionsAndPlans(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		now    string
		action authz.Action
		want   authz.Effect
	}{
		"just before opening":  {"2026-07-06T06:59:59Z", "purge", authz.Deny}, // 08:59:59 in summer
		"at opening":           {"2026-07-06T07:00:00Z", "purge", authz.NotApplicable},
		"winter opens later":   {"2026-01-05T07:30:00Z", "purge", authz.Deny},
		"at closing":           {"2026-07-06T15:00:00Z", "purge", authz.Deny},
		"on a Sunday":          {"2026-07-05T10:00:00Z", "purge", authz.Deny},
		"an action not listed": {"2026-07-05T10:00:00Z", "read", authz.NotApplicable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p, err := authz.New(t.Context(), "officehours", "hours", json.RawMessage(weekdays))
				require.NoError(t, err)
				now, err := time.Parse(time.RFC3339, c.now)
				require.NoError(t, err)
				time.Sleep(time.Until(now))
				r := authz.Request{Action: c.action}
				ds, err := p.Decide(t.Context(), []authz.Request{r})
				require.NoError(t, err)
				require.Equal(t, c.want, ds[0].Effect)
				planner, ok := p.(authz.Planner)
				require.True(t, ok)
				plan, err := planner.Plan(t.Context(), r)
				require.NoError(t, err)
				require.Equal(t, c.want == authz.Deny, plan.Deny != nil)
				require.Nil(t, plan.Permit)
			})
		})
	}
}

func TestConfigurationsThatSayNothingOrTooMuchAreRefused(t *testing.T) {
	t.Parallel()
	for config, says := range map[string]string{
		``:                     "zone, days, actions",
		`{"zoen": "UTC"}`:      `unknown field "zoen"`,
		weekdays + `{}`:        "more than one value",
		`{"from": 9, "to": 9}`: "from < to",
		`{"zone": "Mars", "days": [1], "from": 9, "to": 17, "actions": ["purge"]}`: "zone",
		`{"zone": "UTC", "days": [7], "from": 9, "to": 17, "actions": ["purge"]}`:  "day 7",
		`{"zone": "UTC", "days": [1], "from": 9, "to": 17, "actions": ["prug"]}`:   `unknown action "prug"`,
		`{"zone": "UTC", "days": [1], "from": 9, "to": 25, "actions": ["purge"]}`:  "to <= 24",
		`{"zone": "UTC", "days": [1], "from": 9, "to": 17, "actions": []}`:         "actions",
	} {
		_, err := authz.New(t.Context(), "officehours", "hours", json.RawMessage(config))
		require.ErrorContains(t, err, says, config)
	}
}
