package authzen

import (
	"errors"
	"fmt"
	"maps"

	"github.com/lethe-crm/lethe/authz"
)

// evaluation is an authz.Request as AuthZEN has it.
type evaluation struct {
	Subject  entity         `json:"subject"`
	Action   action         `json:"action"`
	Resource entity         `json:"resource"`
	Context  map[string]any `json:"context"`
}

type entity struct {
	Type  string         `json:"type"`
	ID    string         `json:"id"`
	Props map[string]any `json:"properties,omitempty"`
}

type action struct {
	Name  string         `json:"name"`
	Props map[string]any `json:"properties,omitempty"`
}

// evaluations asks for every answer: with another semantic an early answer would leave the rest open.
type evaluations struct {
	Evaluations []evaluation `json:"evaluations"`
	Options     options      `json:"options"`
}

type options struct {
	Semantic string `json:"evaluations_semantic"`
}

const executeAll = "execute_all"

// Tenant and field have no place of their own in AuthZEN. They go into the context, and there before what the
// request came with: a caller must not be able to choose them.
const (
	TenantKey = "tenant"
	FieldKey  = "field"
)

func (p *plugin) evaluation(r authz.Request) evaluation {
	context := make(map[string]any, len(r.Context)+2)
	maps.Copy(context, r.Context)
	context[TenantKey] = r.Tenant
	delete(context, FieldKey)
	if r.Field != "" {
		context[FieldKey] = r.Field
	}
	id := r.Resource.ID
	if id == "" {
		id = p.typeID
	}
	return evaluation{
		Subject:  entity{r.Subject.Type, r.Subject.ID, r.Subject.Props},
		Action:   action{string(r.Action), r.ActionProps},
		Resource: entity{r.Resource.Type, id, r.Resource.Props},
		Context:  context,
	}
}

// answer is what a decision point said to one evaluation.
type answer struct {
	permit  bool
	context any // for operators
}

var errNoDecision = errors.New("the answer has no decision that is true or false")

func readAnswer(v any) (answer, error) {
	object, _ := v.(map[string]any)
	decision, ok := object["decision"].(bool)
	if !ok {
		return answer{}, errNoDecision
	}
	return answer{decision, object["context"]}, nil
}

func readAnswers(v any, n int) ([]answer, error) {
	object, _ := v.(map[string]any)
	list, ok := object["evaluations"].([]any)
	if !ok {
		return nil, errors.New("the answer has no list of evaluations")
	}
	if len(list) != n {
		return nil, fmt.Errorf("%d answers to %d evaluations", len(list), n)
	}
	out := make([]answer, n)
	for i, v := range list {
		var err error
		if out[i], err = readAnswer(v); err != nil {
			return nil, fmt.Errorf("evaluation %d: %w", i, err)
		}
	}
	return out, nil
}
