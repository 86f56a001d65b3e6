// Package authzen is a plugin that asks a remote policy decision point (PDP) by the OpenID AuthZEN
// Authorization API 1.0: OpenFGA, Cerbos, Topaz, OPA and others speak it, and Lethe itself does.
//
// A Request becomes an evaluation, field by field; tenant and field go into the context under those names. "true"
// is Permit. "false" is Deny, and not "no rule speaks about this": AuthZEN has no word for that. So a decision
// point that grants also vetoes what it does not permit. Whatever is not one of the two (an error, a redirect, another
// content type, a missing answer, "true" in quotes) is an error, which the chain makes a denial.
//
// It cannot say which rows of a type are permitted, so it is no authz.Planner: what that means for lists is the
// member's no_plan.
package authzen

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lethe-crm/lethe/authz"
)

const (
	// parallel is how many requests of one batch run at a time.
	parallel = 8
	// idle is how long a connection is kept that nobody uses.
	idle      = 90 * time.Second
	handshake = 10 * time.Second
	// maxDetail is how much of what a decision point says besides yes or no is kept for operators, in bytes.
	maxDetail = 512
)

func init() { authz.Register("authzen", build) }

type plugin struct {
	name   string
	client *client
	batch  int
	typeID string
}

var _ interface {
	authz.Plugin
	authz.Explainer
} = (*plugin)(nil)

// build asks nothing of the decision point: a server starts while it is down, and denies.
func build(_ context.Context, name string, raw json.RawMessage) (authz.Plugin, error) {
	c, err := authz.Decode[Config](raw)
	if err != nil {
		return nil, err
	}
	token := ""
	if c.TokenEnv != "" {
		if token = os.Getenv(c.TokenEnv); token == "" {
			return nil, fmt.Errorf("config: the environment variable %s of token_env is empty", c.TokenEnv)
		}
	}
	if c.Batch == 0 {
		c.Batch = defaultBatch
	}
	if c.TypeID == "" {
		c.TypeID = TypeAsWhole
	}
	remote, err := newClient(c, token)
	if err != nil {
		return nil, err
	}
	return &plugin{name, remote, c.Batch, c.TypeID}, nil
}

// Decide implements authz.Plugin.
func (p *plugin) Decide(ctx context.Context, reqs []authz.Request) ([]authz.Decision, error) {
	if len(reqs) == 0 {
		return nil, nil
	}
	at, err := p.client.endpoints(ctx)
	if err != nil {
		return nil, err
	}
	size := p.batch
	if at.many == "" {
		size = 1
	}
	out := make([]authz.Decision, len(reqs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	start := 0
	for part := range slices.Chunk(reqs, size) {
		into := out[start : start+len(part)]
		start += len(part)
		group.Go(func() (err error) {
			defer func() { // the chain catches what panics in its own goroutine only
				if v := recover(); v != nil {
					err = fmt.Errorf("panic: %v", v)
				}
			}()
			answers, err := p.ask(ctx, at, part)
			if err != nil {
				return err
			}
			for i, a := range answers {
				into[i] = p.decision(a)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

// ask asks for some decisions in one request. One alone goes to the endpoint that every decision point has.
func (p *plugin) ask(ctx context.Context, at endpoints, reqs []authz.Request) ([]answer, error) {
	if len(reqs) == 1 {
		v, err := p.client.post(ctx, at.one, p.evaluation(reqs[0]))
		if err != nil {
			return nil, err
		}
		a, err := readAnswer(v)
		return []answer{a}, err
	}
	question := evaluations{Options: options{executeAll}, Evaluations: make([]evaluation, len(reqs))}
	for i, r := range reqs {
		question.Evaluations[i] = p.evaluation(r)
	}
	v, err := p.client.post(ctx, at.many, question)
	if err != nil {
		return nil, err
	}
	return readAnswers(v, len(reqs))
}

func (p *plugin) decision(a answer) authz.Decision {
	reason := authz.Reason{Plugin: p.name, Code: authz.CodeRuleDeny}
	effect := authz.Deny
	if a.permit {
		effect, reason.Code = authz.Permit, authz.CodeRulePermit
	}
	if a.context != nil {
		if text, err := json.Marshal(a.context); err == nil {
			reason.Detail = string(text[:min(len(text), maxDetail)])
		}
	}
	return authz.Decision{Effect: effect, Reasons: []authz.Reason{reason}}
}

// Explain implements authz.Explainer by asking again: the decision point's own words are all there is to say.
func (p *plugin) Explain(ctx context.Context, r authz.Request) ([]authz.Reason, error) {
	ds, err := p.Decide(ctx, []authz.Request{r})
	if err != nil {
		return nil, err
	}
	return ds[0].Reasons, nil
}
