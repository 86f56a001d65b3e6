package authz

import (
	"context"
	"errors"
)

// Uniform is a plugin that judges all resources of a type alike: by who asks, for what, and when. It is given requests
// without the resource's id and attributes, so that what it plans is what it decides.
type Uniform func(ctx context.Context, r Request) Decision

var _ interface {
	Plugin
	Planner
} = Uniform(nil)

// Decide implements Plugin.
func (u Uniform) Decide(ctx context.Context, reqs []Request) ([]Decision, error) {
	ds := make([]Decision, len(reqs))
	for i, r := range reqs {
		ds[i] = u.judge(ctx, r)
	}
	return ds, nil
}

// Plan implements Planner.
func (u Uniform) Plan(ctx context.Context, q Query) (Plan, error) {
	d := u.judge(ctx, q)
	p := Plan{Reasons: d.Reasons}
	switch d.Effect {
	case NotApplicable:
	case Permit:
		p.Permit = True{}
	case Deny:
		p.Deny = True{}
	default:
		return Plan{}, errors.New("the plugin could not decide")
	}
	return p, nil
}

// Attributes implements AttributeReader.
func (Uniform) Attributes(context.Context, string, string) (names []string, known bool) {
	return nil, true
}

func (u Uniform) judge(ctx context.Context, r Request) Decision {
	r.Resource = Entity{Type: r.Resource.Type}
	return u(ctx, r)
}
