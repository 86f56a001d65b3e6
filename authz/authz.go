// Package authz is the contract between the application and whatever decides on access.
//
// A plugin answers batches of requests; a chain combines the answers of several plugins. The shapes follow
// AuthZEN (request) and XACML (effects, deny-overrides). The package knows nothing about the application:
// records, users and teams reach it as types, ids and attributes.
package authz

import "context"

// Effect is a plugin's answer. The zero value grants nothing.
type Effect uint8

// The effects of XACML.
const (
	NotApplicable Effect = iota // no rule speaks about this request
	Permit
	Deny
	Indeterminate // the plugin could not decide: an error, a timeout, missing data
)

func (e Effect) String() string {
	switch e {
	case NotApplicable:
		return "not_applicable"
	case Permit:
		return "permit"
	case Deny:
		return "deny"
	default:
		return "indeterminate"
	}
}

// Entity is a subject or a resource. Ids are strings, as in AuthZEN.
type Entity struct {
	Type, ID string
	Props    map[string]any
}

// Request is one question. It maps one to one to an AuthZEN evaluation.
//
// A plugin may do with it as it likes; one that only reads it says so by ReadOnly, and is spared the copy.
type Request struct {
	Tenant      string
	Subject     Entity
	Action      Action
	ActionProps map[string]any
	Resource    Entity // ID == "": the type as a whole
	Field       string // "" = the record
	Context     map[string]any
}

// Query asks which resources of a type a subject may act on: a Request whose Resource.ID is empty.
type Query = Request

// Code is the part of a Reason that may reach a client.
type Code string

// Codes of reasons.
const (
	CodeRulePermit      Code = "rule_permit"
	CodeRuleDeny        Code = "rule_deny"
	CodeConditionFailed Code = "condition_failed" // only in explanations: the rule matches but for its condition
	CodeNoMatchingRule  Code = "no_matching_rule"
	CodeIncomplete      Code = "incomplete_request"
	CodePolicyInvalid   Code = "policy_invalid"
	CodeNotSupported    Code = "not_supported"
	CodePluginError     Code = "pdp_error"
	CodePluginTimeout   Code = "pdp_timeout"
)

// Reason is for operators and the audit trail. Only Code may reach a client.
type Reason struct {
	Plugin  string `json:"plugin"`
	Code    Code   `json:"code"`
	Rule    string `json:"rule,omitempty"`
	Version uint64 `json:"policyVersion,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

// Decision is the answer to one Request.
type Decision struct {
	Effect  Effect
	Reasons []Reason
}

// Permitted reports whether the decision lets the request through. Everything but Permit does not.
func (d Decision) Permitted() bool { return d.Effect == Permit }

// Plugin decides. It returns one decision per request, in their order; an error means that none was decided.
type Plugin interface {
	Decide(ctx context.Context, reqs []Request) ([]Decision, error)
}

// Plan says which rows a plugin permits and which it denies; a nil filter is no row.
type Plan struct {
	Permit, Deny Filter
	Reasons      []Reason
}

// Planner is implemented by plugins that can answer for all rows of a type without seeing them.
type Planner interface {
	Plan(ctx context.Context, q Query) (Plan, error)
}

// Explainer is implemented by plugins that can tell which rules they considered for a request.
type Explainer interface {
	Explain(ctx context.Context, r Request) ([]Reason, error)
}

// Versioned is implemented by plugins whose policy has numbered revisions. Each tenant has its own policy, so
// each has its own number; zero means none is loaded. It is asked for often and must not wait for anything.
type Versioned interface {
	Version(ctx context.Context, tenant string) uint64
}

// Pinner is implemented by plugins whose policy changes while they run. Under the returned context they keep
// answering from the revision that was current at the call, so that one operation is judged by one policy. It is a
// context derived from the one given, of which only what was added to it is kept.
type Pinner interface {
	Pin(ctx context.Context, tenant string) (context.Context, error)
}

// AttributeReader is implemented by plugins that can tell which attributes of a type's resources they look at, so
// that no others have to be gathered; known is false where they may look at any. It answers under the context that
// Decide is asked under, of the pinned policy if one is pinned, and like Version must not wait. A plugin that is none
// may look at all.
type AttributeReader interface {
	Attributes(ctx context.Context, tenant, typ string) (names []string, known bool)
}
