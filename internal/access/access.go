// Package access asks the chain of plugins on behalf of an actor: what he may
// do to a record, and which rows he may see.
package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
)

// Control answers for one process.
type Control struct {
	chain  atomic.Pointer[authz.Chain] // that operations begin with; see reload.go
	policy *casbin.Plugin
	// vocabulary is what policies may name under the chain.
	vocabulary casbin.Vocabulary

	observer authz.Observer
	mu       sync.Mutex
	// retired close what chains have that were replaced and are not closed yet.
	retired     map[int]func() error
	retirements int
}

// Kind is the kind of the member that decides by the policies in the database.
const Kind = "casbin"

// New builds the chain over the policies stored in the database. Without members
// these decide alone; else one of the members must be of Kind, and grant: roots
// are refused, and lists are planned, by what it says.
func New(source casbin.Source, onLoad func(tenant string, version uint64, findings []casbin.Finding, err error), members ...authz.Config) (*Control, error) {
	vocabulary, err := VocabularyOf(members)
	if err != nil {
		return nil, fmt.Errorf("building the chain: %w", err)
	}
	policy, err := casbin.New(casbin.Options{Source: source, Vocabulary: vocabulary, OnLoad: onLoad})
	if err != nil {
		return nil, fmt.Errorf("building the Casbin plugin: %w", err)
	}
	c := &Control{policy: policy, vocabulary: vocabulary, retired: map[int]func() error{}}
	chain, err := c.build(context.Background(), members)
	if err != nil {
		return nil, err
	}
	c.chain.Store(chain)
	return c, nil
}

// build makes a chain of members around the policy, which all chains share.
func (c *Control) build(ctx context.Context, members []authz.Config) (*authz.Chain, error) {
	if len(members) == 0 {
		members = []authz.Config{{Name: Kind, Kind: Kind, Role: authz.Grant, Timeout: "5s"}}
	}
	built := 0
	chain, err := authz.BuildChain(ctx, members, map[string]authz.Factory{
		Kind: func(context.Context, string, json.RawMessage) (authz.Plugin, error) { // its config is the vocabulary
			built++
			return c.policy, nil
		},
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("building the chain: %w", err)
	}
	if i := slices.IndexFunc(members, func(m authz.Config) bool { return m.Kind == Kind }); built != 1 || members[i].Role != authz.Grant || members[i].OnError != authz.FallbackDeny {
		err := fmt.Errorf("building the chain: there must be one member of kind %q, with the role grant, that is not skipped on errors", Kind)
		return nil, errors.Join(err, chain.Close())
	}
	chain.Observe(c.observer)
	return chain, nil
}

// ReadChain reads the members of a chain from a file: JSON, a list in which each
// has name, kind and role, and may have on_error, no_plan, timeout and config.
func ReadChain(path string) ([]authz.Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	members, err := authz.Decode[[]authz.Config](text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(members) == 0 {
		return nil, fmt.Errorf("%s: no members", path)
	}
	return members, nil
}

// Run watches for policy changes until the context ends.
func (c *Control) Run(ctx context.Context) error { return c.policy.Run(ctx) }

// Refresh reads a tenant's policy again if it changed.
func (c *Control) Refresh(ctx context.Context, tenant gid.ID) error {
	return c.policy.Refresh(ctx, tenant.String())
}

// Pin makes everything under the returned context be judged by one chain, and by
// one version of the tenant's policy.
func (c *Control) Pin(ctx context.Context, tenant gid.ID) (context.Context, error) {
	return c.pin(ctx, c.chainOf(ctx), tenant)
}

// Repin is Pin of the chain, and of the policies of all its members, as they are
// now.
func (c *Control) Repin(ctx context.Context, tenant gid.ID) (context.Context, error) {
	if err := c.policy.Refresh(ctx, tenant.String()); err != nil {
		return ctx, err
	}
	chain := c.chain.Load()
	return chain.Repin(c.with(ctx, chain), tenant.String())
}

// under is the context in which the policy is asked without the chain.
func (c *Control) under(ctx context.Context) context.Context {
	return c.chainOf(ctx).Under(ctx, c.policy)
}

// Version is the version of the policy that judges under ctx.
func (c *Control) Version(ctx context.Context, tenant gid.ID) uint64 {
	return c.chainOf(ctx).Version(ctx, tenant.String())
}

// Roles lists the actor's roles, inherited ones included.
func (c *Control) Roles(ctx context.Context, a *actor.Actor) ([]string, error) {
	return c.policy.RolesOf(c.under(ctx), a.Tenant.String(), a.Subject())
}

// CouldEver reports whether the policy might permit the actor the action on
// some record of the type.
func (c *Control) CouldEver(ctx context.Context, a *actor.Actor, action authz.Action, object string) (bool, error) {
	return c.policy.CouldEver(c.under(ctx), a.Tenant.String(), a.Subject(), action, object)
}

// Covers reports whether the policy allows the actor all that it allows a user of
// his tenant, so that acting as that user would gain him nothing. Actions that do
// not count are left out.
func (c *Control) Covers(ctx context.Context, a *actor.Actor, user gid.ID, but ...authz.Action) (bool, error) {
	return c.policy.Covers(c.under(ctx), a.Tenant.String(), a.Subject(), person(user), but...)
}

// Alone reports whether the policy alone decides under ctx. Else what Covers and
// Widens say is not all: other members of the chain judge each person by himself,
// in ways that cannot be compared.
func (c *Control) Alone(ctx context.Context) bool { return c.chainOf(ctx).Alone(c.policy) }

// Widens reports whether the policy would allow a user, who is in some teams,
// something that it does not if he were in others instead. Where actions are
// given, only those count.
func (c *Control) Widens(ctx context.Context, tenant, user gid.ID, teams, after []gid.ID, only ...authz.Action) (bool, error) {
	subject := (&actor.Actor{Kind: actor.User, User: user, Teams: teams}).Subject()
	then := make([]string, len(after))
	for i, t := range after {
		then[i] = t.String()
	}
	return c.policy.Widens(c.under(ctx), tenant.String(), subject, then, only...)
}

// RolesOf lists the roles of a user: those he was given, and those that come with
// them.
func (c *Control) RolesOf(ctx context.Context, tenant, user gid.ID) ([]casbin.Held, error) {
	return c.policy.Held(c.under(ctx), tenant.String(), person(user))
}

// Holders lists the users who have a role, inherited or not.
func (c *Control) Holders(ctx context.Context, tenant gid.ID, role string) ([]gid.ID, error) {
	names, err := c.policy.Holders(c.under(ctx), tenant.String(), role)
	if err != nil {
		return nil, err
	}
	users := make([]gid.ID, 0, len(names))
	for _, name := range names {
		if id, err := gid.Parse(name); err == nil && id.Type() == gid.User { // others are nobody
			users = append(users, id)
		}
	}
	return users, nil
}

func person(user gid.ID) authz.Entity { return authz.Entity{Type: "user", ID: user.String()} }

// Question is what an actor wants to do to one thing.
type Question struct {
	Action authz.Action
	// Type is a record type, or another object of policies such as "AuditEvent".
	Type string
	// ID is zero for the type as a whole, and for what is not there yet.
	ID gid.ID
	// Field is a field of the record, empty for the record itself.
	Field string
	Props map[string]any
	// Record is whose attributes are meant where Props is nil. Only those that the
	// chain looks at are read from it.
	Record ent.Record
}

// Of is the question whether something may be done to a record.
func Of(action authz.Action, r ent.Record) Question {
	return Question{Action: action, Type: r.RecordType().Name, ID: r.RecordID(), Record: r}
}

// Decision is the answer to a Question.
type Decision struct {
	Permit bool
	// Unavailable says that it was refused because a plugin could not answer.
	Unavailable bool
	// Silent says that it was refused because no member of the chain said anything.
	Silent bool
	// Rule and Version are what decided, for the audit log.
	Rule    string
	Version uint64
}

// Decide answers questions, all at once.
func (c *Control) Decide(ctx context.Context, a *actor.Actor, questions []Question) []Decision {
	if len(questions) == 0 {
		return nil
	}
	subject, tenant, chain := a.Subject(), a.Tenant.String(), c.chainOf(ctx)
	requests := make([]authz.Request, len(questions))
	gathers := func(q Question) bool { return q.Props == nil && q.Record != nil }
	if slices.ContainsFunc(questions, gathers) {
		// What decides must be what was asked for its attributes. A member that
		// cannot be pinned gives no answer.
		ctx, _ = c.pin(ctx, chain, a.Tenant)
	}
	looked := map[string][]attribute{}
	for i, q := range questions {
		if gathers(q) {
			attrs, known := looked[q.Type]
			if !known {
				attrs = lookedAt(ctx, chain, tenant, q.Type)
				looked[q.Type] = attrs
			}
			q.Props = read(attrs, q.Record.Column)
		}
		requests[i] = authz.Request{
			Tenant: tenant, Subject: subject, Action: q.Action,
			Resource: authz.Entity{Type: q.Type, ID: q.ID.String(), Props: q.Props}, Field: q.Field,
		}
	}
	answers := chain.Decide(ctx, requests)
	out := make([]Decision, len(answers))
	for i, answer := range answers {
		out[i].Permit = answer.Effect == authz.Permit
		out[i].Silent = !out[i].Permit
		for _, r := range answer.Reasons {
			out[i].Silent = out[i].Silent && r.Code == authz.CodeNoMatchingRule
			if r.Rule != "" && out[i].Rule == "" {
				out[i].Rule = r.Rule
			}
			out[i].Version = max(out[i].Version, r.Version)
			if r.Code == authz.CodePluginError || r.Code == authz.CodePluginTimeout {
				out[i].Unavailable = !out[i].Permit
			}
		}
	}
	return out
}

// Fields are the fields of a record type about which the chain may decide otherwise than about the record.
func (c *Control) Fields(ctx context.Context, a *actor.Actor, typ string) []string {
	return c.chainOf(ctx).Fields(ctx, a.Tenant.String(), typ, maskable[typ])
}

// May answers one question.
func (c *Control) May(ctx context.Context, a *actor.Actor, q Question) bool {
	return c.Decide(ctx, a, []Question{q})[0].Permit
}

// Forbids answers a question about what everybody may do who was not told
// otherwise: it needs a rule, or a member that has no answer, to forbid it.
func (c *Control) Forbids(ctx context.Context, a *actor.Actor, q Question) bool {
	d := c.Decide(ctx, a, []Question{q})[0]
	return !d.Permit && !d.Silent
}

// Props are the attributes policies may speak of, of a record that is read from
// its columns by get.
func Props(t *ent.RecordType, get func(column string) any) map[string]any {
	return read(attributes[t.Name], get)
}

func read(attrs []attribute, get func(column string) any) map[string]any {
	props := make(map[string]any, len(attrs))
	for _, attr := range attrs {
		props[attr.name] = attr.read(get(attr.column))
	}
	return props
}

// lookedAt are the attributes of a type that the members of the chain look at.
func lookedAt(ctx context.Context, chain *authz.Chain, tenant, typ string) []attribute {
	names, all := chain.Attributes(ctx, tenant, typ)
	if all {
		return attributes[typ]
	}
	var out []attribute
	for _, attr := range attributes[typ] {
		if slices.Contains(names, attr.name) {
			out = append(out, attr)
		}
	}
	return out
}

// RecordProps are the attributes of a loaded record.
func RecordProps(r ent.Record) map[string]any { return Props(r.RecordType(), r.Column) }

type attribute struct {
	name, column string
	kind         casbin.Kind
}

// read turns a column's value into what policies compare: ids as clients see
// them, enums as text.
func (a attribute) read(v any) any {
	switch v := v.(type) {
	case nil:
		return nil
	case gid.ID:
		return v.String()
	case *gid.ID:
		if v == nil {
			return nil
		}
		return v.String()
	case []byte:
		return string(v)
	case int:
		return int64(v)
	case string, int64, float64, bool, time.Time:
		return v
	case fmt.Stringer:
		return v.String()
	}
	return fmt.Sprint(v)
}

// attributes are what policies may speak of, by record type.
var attributes = func() map[string][]attribute {
	kinds := map[string]casbin.Kind{
		"string": casbin.String, "enum": casbin.String, "int": casbin.Int, "float": casbin.Float,
		"bool": casbin.Bool, "time": casbin.Time, "id": casbin.ID,
	}
	out := map[string][]attribute{}
	for _, t := range ent.RecordTypes {
		attrs := []attribute{
			{"owner", "owner_id", casbin.ID}, {"team", "team_id", casbin.ID}, {"state", "state", casbin.String},
		}
		for _, f := range t.Fields {
			if strings.HasSuffix(f.Name, "_key") || f.Name == "owner_id" || f.Name == "team_id" {
				continue
			}
			name := f.GraphQL
			if f.Kind == "id" {
				name = strings.TrimSuffix(name, "ID")
			}
			attrs = append(attrs, attribute{name, f.Name, kinds[f.Kind]})
		}
		out[t.Name] = attrs
	}
	// Operations belong to their actor; events to the record they speak of.
	out["Operation"] = []attribute{{"owner", "actor_id", casbin.ID}, {"team", "team_id", casbin.ID}}
	return out
}()

// Vocabulary is what policies may name where nothing is configured.
func Vocabulary() casbin.Vocabulary {
	v := casbin.Vocabulary{Schema: casbin.Schema{}, Fields: maskable}
	for _, object := range []string{"AuditEvent", "Authz", "Policy", "User", "Team", "Token", "Webhook", "Alert", "Settings", "LegalHold", "RetentionRule", "Statistics", "Export", "Schema"} {
		v.Schema[object] = map[string]casbin.Kind{}
	}
	for object, attrs := range attributes {
		kinds := map[string]casbin.Kind{}
		for _, a := range attrs {
			kinds[a.name] = a.kind
		}
		v.Schema[object] = kinds
	}
	return v
}
