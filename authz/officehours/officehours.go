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

// Config says when the actions may be done: from From until before To, hours of the day in Zone.
type Config struct {
	Zone     string         `json:"zone"`
	Days     []time.Weekday `json:"days"` // Sunday is 0
	From, To int
	Actions  []authz.Action `json:"actions"`
}

// Validate refuses what would never or always deny by mistake. Hours over midnight are not known.
func (c *Config) Validate() error {
	if c.Zone == "" || len(c.Days) == 0 || len(c.Actions) == 0 || c.From < 0 || c.To > 24 || c.From >= c.To {
		return errors.New("zone, days, actions, and hours with 0 <= from < to <= 24 are needed")
	}
	for _, d := range c.Days {
		if d < time.Sunday || d > time.Saturday {
			return fmt.Errorf("day %d is none of 0 to 6", d)
		}
	}
	for _, a := range c.Actions {
		if !a.Known() {
			return fmt.Errorf("unknown action %q", a)
		}
	}
	return nil
}

type plugin struct {
	Config
	name string
	zone *time.Location
	now  func() time.Time
}

func init() { authz.Register("officehours", build) }

func build(_ context.Context, name string, raw json.RawMessage) (authz.Plugin, error) {
	c, err := authz.Decode[Config](raw)
	if err != nil {
		return nil, err
	}
	zone, err := time.LoadLocation(c.Zone)
	if err != nil {
		return nil, fmt.Errorf("zone: %w", err)
	}
	return &plugin{c, name, zone, time.Now}, nil //nolint:forbidigo // the hours of the office are those of the wall clock
}

func (p *plugin) judge(r authz.Request) authz.Decision {
	t := p.now().In(p.zone)
	open := slices.Contains(p.Days, t.Weekday()) && t.Hour() >= p.From && t.Hour() < p.To
	if open || !slices.Contains(p.Actions, r.Action) {
		return authz.Decision{}
	}
	why := authz.Reason{Plugin: p.name, Code: authz.CodeRuleDeny, Detail: "outside office hours"}
	return authz.Decision{Effect: authz.Deny, Reasons: []authz.Reason{why}}
}

// Decide denies the actions outside office hours, and has no opinion otherwise.
func (p *plugin) Decide(_ context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	ds := make([]authz.Decision, len(reqs))
	for i, r := range reqs {
		ds[i] = p.judge(r)
	}
	return ds, nil
}

// Plan denies all rows or none, as Decide does.
func (p *plugin) Plan(_ context.Context, q authz.Query) (authz.Plan, error) {
	d := p.judge(q)
	if d.Effect == authz.Deny {
		return authz.Plan{Deny: authz.True{}, Reasons: d.Reasons}, nil
	}
	return authz.Plan{}, nil
}
