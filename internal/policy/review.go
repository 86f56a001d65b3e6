package policy

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// Grant is a role that a user is given, and when he last used it.
type Grant struct {
	User      gid.ID
	Name      string // empty when there is no such user
	Active    bool
	Role      string
	Inherited []string
	LastUsed  *time.Time
}

// Review lists every role that a user is given. One statement reads the users
// and what each of them did last of every kind; a grant was used by what its
// role permits.
func (s *Service) Review(ctx context.Context, tenant gid.ID) ([]Grant, error) {
	p, err := s.Current(ctx, tenant)
	if err != nil {
		return nil, err
	}
	type used struct {
		action authz.Action
		object string
		at     time.Time
	}
	type user struct {
		name   string
		active bool
		used   []used
	}
	users, q := map[gid.ID]*user{}, s.querier(ctx)
	err = store.Build(q).Add("SELECT u.id, u.name, u.active, e.action, e.record_type, e.at FROM users u LEFT JOIN"+
		" (SELECT actor_id, action, record_type, at, ROW_NUMBER() OVER (PARTITION BY actor_id, action, record_type ORDER BY id DESC) AS place FROM audit_events"+
		" WHERE tenant_id = ? AND outcome = 'SUCCEEDED' AND actor_id IS NOT NULL) e ON e.actor_id = u.id AND e.place = 1 WHERE u.tenant_id = ?", tenant, tenant).Query(ctx, q, func(rows store.Row) error {
		var id gid.ID
		var u user
		var action, object sql.NullString
		var at sql.NullTime
		if err := rows.Scan(&id, &u.name, &u.active, &action, &object, &at); err != nil {
			return err
		}
		if users[id] == nil {
			users[id] = &u
		}
		if a, o, ok := Asked(action.String, object.String); ok {
			users[id].used = append(users[id].used, used{a, o, at.Time})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reviewing access: %w", err)
	}
	plugin, err := s.plugin(p)
	if err != nil {
		return nil, err
	}
	var out []Grant
	for _, r := range p.Rules {
		text, isUser := strings.CutPrefix(r.V[0], casbin.UserSubject(""))
		if r.Ptype != "g" || !isUser {
			continue
		}
		id, err := gid.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("reviewing %s: %w", r, err)
		}
		g := Grant{User: id, Role: strings.TrimPrefix(r.V[1], casbin.RoleSubject(""))}
		if g.Inherited, err = plugin.RolesOf(ctx, tenant.String(), authz.Entity{Type: "role", ID: g.Role}); err != nil {
			return nil, err
		}
		if u := users[id]; u != nil {
			g.Name, g.Active = u.name, u.active
			for _, use := range u.used {
				reach, err := plugin.Reach(ctx, tenant.String(), authz.Entity{Type: "role", ID: g.Role}, use.action, use.object)
				if err != nil {
					return nil, err
				}
				if reach != casbin.Never && (g.LastUsed == nil || use.at.After(*g.LastUsed)) {
					g.LastUsed = &use.at
				}
			}
		}
		out = append(out, g)
	}
	return out, nil
}

// askedFor are the questions behind events that are not named like an action.
var askedFor = map[string]struct {
	action authz.Action
	object string
}{
	ActionApply: {authz.PolicyEdit, "Policy"}, ActionRollback: {authz.PolicyEdit, "Policy"}, ActionRoleGrant: {authz.PolicyEdit, "Policy"},
	ActionRoleRevoke: {authz.PolicyEdit, "Policy"}, ActionTestPut: {authz.PolicyEdit, "Policy"}, ActionTestDelete: {authz.PolicyEdit, "Policy"},
}

// Asked is the question that was decided for an event of the audit log; ok is
// false for events that nobody asks the policy for.
func Asked(event, object string) (action authz.Action, on string, ok bool) {
	if known, ok := askedFor[event]; ok {
		return known.action, known.object, true
	}
	if action.UnmarshalGQL(event) != nil || object == "" {
		return "", "", false
	}
	return action, object, true
}

// Flip is an audited decision that a policy would answer otherwise.
type Flip struct {
	Event, User   gid.ID
	Action        authz.Action
	Object        string
	Before, After bool
}

// MaxReplay is how many decisions a preview asks again at most.
const MaxReplay = 10_000

// Decided is an audited decision.
type Decided struct {
	Event, User gid.ID
	Action      authz.Action
	Object      string
	Record      gid.ID
	Props       map[string]any // what of the record the log has
}

// Preview is what a draft would change.
type Preview struct {
	*Judgement
	Changes []casbin.Change
	Flips   []Flip
}

// Preview compiles a draft beside the policy in force. The teams of users are
// those of now. Decisions are asked again of both, by what the log has of the
// record: where a rule looks at more than that, an allow does not count.
func (s *Service) Preview(ctx context.Context, tenant gid.ID, d Draft, decisions []Decided) (*Preview, error) {
	before, err := s.Current(ctx, tenant)
	if err != nil {
		return nil, err
	}
	j, err := s.Validate(ctx, tenant, d)
	if err != nil {
		return nil, err
	}
	out := &Preview{Judgement: j}
	for _, f := range j.Findings {
		if f.Severity == casbin.Error {
			return out, nil // it permits nothing to anybody
		}
	}
	comparison, err := s.vocabulary.Compare(before.Rules, j.Policy.Rules)
	if err != nil {
		return nil, err
	}
	out.Changes = comparison.Changes()
	if len(decisions) == 0 {
		return out, nil
	}
	teams, err := s.teams(ctx, tenant)
	if err != nil {
		return nil, err
	}
	requests := make([]authz.Request, len(decisions))
	for i, d := range decisions {
		requests[i] = authz.Request{
			Tenant: tenant.String(), Action: d.Action, Resource: authz.Entity{Type: d.Object, ID: d.Record.String(), Props: d.Props},
			Subject: authz.Entity{Type: "user", ID: d.User.String(), Props: map[string]any{"teams": teams[d.User]}},
		}
	}
	var answers [2][]authz.Decision
	for i, p := range []Policy{before, j.Policy} {
		plugin, err := s.plugin(p)
		if err == nil {
			answers[i], err = plugin.Decide(ctx, requests)
		}
		if err != nil {
			return nil, err
		}
	}
	for i, d := range decisions {
		if was, is := answers[0][i].Permitted(), answers[1][i].Permitted(); was != is {
			out.Flips = append(out.Flips, Flip{d.Event, d.User, d.Action, d.Object, was, is})
		}
	}
	return out, nil
}

// teams are the teams of a tenant's users.
func (s *Service) teams(ctx context.Context, tenant gid.ID) (map[gid.ID][]string, error) {
	out, q := map[gid.ID][]string{}, s.querier(ctx)
	err := store.Build(q).Add("SELECT m.user_id, m.team_id FROM user_teams m JOIN users u ON u.id = m.user_id WHERE u.tenant_id = ? ORDER BY m.team_id", tenant).
		Query(ctx, q, func(rows store.Row) error {
			var user, team gid.ID
			err := rows.Scan(&user, &team)
			out[user] = append(out[user], team.String())
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("reading teams: %w", err)
	}
	return out, nil
}

// Subject is a user as policies know him, with his teams; ok is false when the
// tenant has no such user.
func (s *Service) Subject(ctx context.Context, tenant, user gid.ID) (subject authz.Entity, ok bool, err error) {
	teams, q := []string{}, s.querier(ctx)
	err = store.Build(q).Add("SELECT m.team_id FROM users u LEFT JOIN user_teams m ON m.user_id = u.id WHERE u.tenant_id = ? AND u.id = ? ORDER BY m.team_id", tenant, user).
		Query(ctx, q, func(rows store.Row) error {
			var team gid.ID
			err := rows.Scan(&team)
			if ok = true; !team.IsZero() {
				teams = append(teams, team.String())
			}
			return err
		})
	if err != nil {
		return subject, false, fmt.Errorf("looking for a user: %w", err)
	}
	return authz.Entity{Type: "user", ID: user.String(), Props: map[string]any{"teams": slices.Clip(teams)}}, ok, nil
}

// ActiveUsers lists a tenant's active users.
func (s *Service) ActiveUsers(ctx context.Context, tenant gid.ID) ([]gid.ID, error) {
	return activeUsers(ctx, s.querier(ctx), tenant)
}
