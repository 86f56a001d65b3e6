// Package officehours is an example of a plugin: a veto of some actions outside office hours.
package officehours

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lethe-crm/lethe/authz"
)

func init() { authz.Register("officehours", build) }

// Hours are when the actions may be done: on the days (Sunday is 0), from From until before To o'clock in the zone.
type Hours struct {
	Zone     string
	Days     []time.Weekday
	From, To int
	Actions  []authz.Action
	zone     *time.Location
}

// Validate refuses what would deny never or always by mistake. Hours over midnight are not known.
func (h *Hours) Validate() (err error) {
	if h.Zone == "" || len(h.Days) == 0 || len(h.Actions) == 0 || h.From < 0 || h.From >= h.To || h.To > 24 {
		return errors.New("zone, days, actions, and hours with 0 <= from < to <= 24 are needed")
	}
	for _, day := range h.Days {
		if day < time.Sunday || day > time.Saturday {
			return fmt.Errorf("day %d is none of 0 to 6", day)
		}
	}
	if i := slices.IndexFunc(h.Actions, func(a authz.Action) bool { return !a.Known() }); i >= 0 {
		return fmt.Errorf("unknown action %q", h.Actions[i])
	}
	h.zone, err = time.LoadLocation(h.Zone)
	return err
}

func build(_ context.Context, name string, raw json.RawMessage) (authz.Plugin, error) {
	hours, err := authz.Decode[Hours](raw)
	why := []authz.Reason{{Plugin: name, Code: authz.CodeRuleDeny, Detail: "outside office hours"}}
	return authz.Uniform(func(_ context.Context, r authz.Request) authz.Decision {
		now := time.Now().In(hours.zone) //nolint:forbidigo // an office opens by the real clock
		open := slices.Contains(hours.Days, now.Weekday()) && now.Hour() >= hours.From && now.Hour() < hours.To
		if open || !slices.Contains(hours.Actions, r.Action) {
			return authz.Decision{} // it has no opinion
		}
		return authz.Decision{Effect: authz.Deny, Reasons: why}
	}), err
}
