package pdp

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/internal/gid"
)

// decision is the answer to one evaluation. Of why it is no, only a code is told.
type decision struct {
	Decision bool    `json:"decision"`
	Context  *reason `json:"context,omitempty"`
}

type reason struct {
	Code  authz.Code `json:"reason"`
	Error string     `json:"error,omitempty"` // what is wrong with the question
}

// Codes of refusals that come before any plugin is asked.
const (
	codeMalformed        authz.Code = "malformed"
	codeSubjectNotFound  authz.Code = "subject_not_found"
	codeSubjectInactive  authz.Code = "subject_inactive"
	codeResourceNotFound authz.Code = "resource_not_found"
	// codeOtherState tells that read is about records in use, and read_retired
	// about the others.
	codeOtherState authz.Code = "resource_state"
)

func (h *handler) evaluation(ctx context.Context, tenant gid.ID, body map[string]any) (any, error) {
	r, err := h.question(tenant.String(), body)
	if err != nil {
		return nil, err
	}
	q := asked{Request: r}
	if err := h.resolve(ctx, tenant, []*asked{&q}); err != nil {
		return nil, err
	}
	if q.wrong != nil {
		return nil, q.wrong
	}
	return h.decide(ctx, []*asked{&q})[0], nil
}

// The semantics of several evaluations.
const (
	executeAll          = "execute_all"
	denyOnFirstDeny     = "deny_on_first_deny"
	permitOnFirstPermit = "permit_on_first_permit"
)

func (h *handler) evaluations(ctx context.Context, tenant gid.ID, body map[string]any) (any, error) {
	list, ok := body["evaluations"].([]any)
	switch {
	case body["evaluations"] != nil && !ok:
		return nil, malformed("evaluations is no list")
	case len(list) == 0: // as the specification has it
		return h.evaluation(ctx, tenant, body)
	case len(list) > maxEvaluations:
		return nil, malformed(fmt.Sprintf("there are more than %d evaluations", maxEvaluations))
	}
	semantic, err := semanticOf(body)
	if err != nil {
		return nil, err
	}
	defaults, err := defaultsOf(body)
	if err != nil {
		return nil, err
	}
	questions := make([]*asked, len(list))
	for i, item := range list {
		questions[i] = &asked{}
		object, ok := item.(map[string]any)
		if !ok {
			questions[i].wrong = malformed("the evaluation is no object")
			continue
		}
		// What an evaluation has takes the place of the default as a whole.
		whole := maps.Clone(defaults)
		for name := range whole {
			if _, given := object[name]; given {
				whole[name] = object[name]
			}
		}
		questions[i].Request, questions[i].wrong = h.question(tenant.String(), whole)
	}
	if err := h.resolve(ctx, tenant, questions); err != nil {
		return nil, err
	}
	// All are decided at once, whatever the semantic: an answer has no side
	// effects, and a plugin far away is asked once.
	return map[string]any{"evaluations": cut(h.decide(ctx, questions), semantic)}, nil
}

// cut leaves out what comes after the answer at which the caller wants to stop.
func cut(ds []decision, semantic string) []decision {
	for i, d := range ds {
		if semantic == denyOnFirstDeny && !d.Decision || semantic == permitOnFirstPermit && d.Decision {
			return ds[:i+1]
		}
	}
	return ds
}

func semanticOf(body map[string]any) (string, error) {
	options, err := objectAt(body, "options")
	if err != nil {
		return "", err
	}
	switch v := options["evaluations_semantic"]; v {
	case nil, executeAll:
		return executeAll, nil
	case denyOnFirstDeny, permitOnFirstPermit:
		return v.(string), nil //nolint:forcetypeassert // it equals a string
	}
	return "", malformed("options.evaluations_semantic is none of " + executeAll + ", " + denyOnFirstDeny + ", " + permitOnFirstPermit)
}

// defaultsOf are what evaluations take over that do not say otherwise. They are
// checked by themselves, so that a mistake in one is told once and as what it is.
func defaultsOf(body map[string]any) (map[string]any, error) {
	var problems []error
	for _, name := range []string{"subject", "resource"} {
		if body[name] != nil {
			_, err := part(body, name, true)
			problems = append(problems, err)
		}
	}
	if body["action"] != nil {
		_, _, err := actionOf(body)
		problems = append(problems, err)
	}
	_, err := objectAt(body, "context")
	problems = append(problems, err)
	return map[string]any{
		"subject": body["subject"], "action": body["action"], "resource": body["resource"], "context": body["context"],
	}, errors.Join(problems...)
}

// decide asks the chain about what was not refused before.
func (h *handler) decide(ctx context.Context, questions []*asked) []decision {
	out := make([]decision, len(questions))
	var reqs []authz.Request
	var at []int
	for i, q := range questions {
		switch {
		case q.wrong != nil:
			out[i].Context = &reason{codeMalformed, q.wrong.Error()}
		case q.refused != "":
			out[i].Context = &reason{Code: q.refused}
		default:
			reqs, at = append(reqs, q.Request), append(at, i)
		}
	}
	if len(reqs) == 0 {
		return out
	}
	for i, d := range h.Control.Evaluate(ctx, reqs) {
		out[at[i]].Decision = d.Permitted()
		if !d.Permitted() && len(d.Reasons) > 0 {
			out[at[i]].Context = &reason{Code: d.Reasons[0].Code}
		}
	}
	return out
}
