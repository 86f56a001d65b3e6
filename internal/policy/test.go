package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// Test is a question with the answer that a tenant's policy has to give.
type Test struct {
	Name string `json:"-"`
	// User or Role is who asks.
	User  *gid.ID  `json:"user,omitempty"`
	Role  string   `json:"role,omitempty"`
	Teams []string `json:"teams,omitempty"`

	Action authz.Action `json:"action"`
	Object string       `json:"object"` // a type, or "type.field"
	// Props are the attributes of one record; without any the question is about
	// the type as a whole.
	Props  map[string]any `json:"props,omitempty"`
	Permit bool           `json:"permit"`
}

// Verdict is what became of a test.
type Verdict struct {
	Test    Test
	Permit  bool
	Reasons []authz.Reason
}

// Passed reports whether the policy gave the answer it should.
func (v Verdict) Passed() bool { return v.Permit == v.Test.Permit }

func (t Test) request(tenant gid.ID, vocabulary casbin.Vocabulary) authz.Request {
	subject := authz.Entity{Type: "role", ID: t.Role, Props: map[string]any{"teams": t.Teams}}
	if t.User != nil {
		subject.Type, subject.ID = "user", t.User.String()
	}
	typ, field, _ := strings.Cut(t.Object, ".")
	r := authz.Request{Tenant: tenant.String(), Subject: subject, Action: t.Action, Field: field, Resource: authz.Entity{Type: typ}}
	if len(t.Props) > 0 {
		r.Resource.ID, r.Resource.Props = "test", map[string]any{}
		for name := range vocabulary.Schema[typ] {
			r.Resource.Props[name] = nil // what a test does not name is null
		}
		maps.Copy(r.Resource.Props, t.Props)
	}
	return r
}

// Limits on stored tests.
const (
	maxTests    = 1_000
	maxTestName = 200
)

func (t Test) check(vocabulary casbin.Vocabulary) error {
	typ, field, dotted := strings.Cut(t.Object, ".")
	known := vocabulary.Schema[typ] != nil
	for _, f := range vocabulary.Fields[typ] {
		dotted = dotted && f != field
	}
	switch {
	case t.Name == "" || strings.TrimSpace(t.Name) != t.Name || len(t.Name) > maxTestName:
		return refuse(ErrInvalid, fmt.Sprintf("The name of a test has 1 to %d bytes, and no space around it.", maxTestName), nil, "name")
	case (t.User == nil) == (t.Role == ""):
		return refuse(ErrInvalid, "A test asks for a user or for a role.", nil, "user", "role")
	case !t.Action.Known():
		return refuse(ErrInvalid, "There is no such action.", nil, "action")
	case !known || dotted:
		return refuse(ErrInvalid, fmt.Sprintf("There is no object %q.", t.Object), nil, "object")
	}
	for name := range t.Props {
		if _, ok := vocabulary.Schema[typ][name]; !ok {
			return refuse(ErrInvalid, fmt.Sprintf("%s has no attribute %q.", typ, name), nil, "attributes")
		}
	}
	return nil
}

// Tests lists a tenant's tests by name.
func (s *Service) Tests(ctx context.Context, tenant gid.ID) ([]Test, error) {
	return tests(ctx, s.querier(ctx), tenant)
}

func tests(ctx context.Context, q store.Querier, tenant gid.ID) ([]Test, error) {
	var out []Test
	err := store.Build(q).Add("SELECT name, question FROM policy_tests WHERE tenant_id = ? ORDER BY name", tenant).Query(ctx, q, func(rows store.Row) error {
		var t Test
		var question []byte
		if err := rows.Scan(&t.Name, &question); err != nil {
			return err
		}
		out = append(out, t)
		return json.Unmarshal(question, &out[len(out)-1])
	})
	if err != nil {
		return nil, fmt.Errorf("reading the tests of a policy: %w", err)
	}
	return out, nil
}

// RunTests runs the stored tests on the policy in force.
func (s *Service) RunTests(ctx context.Context, tenant gid.ID) ([]Verdict, error) {
	p, err := s.Current(ctx, tenant)
	if err != nil {
		return nil, err
	}
	return s.runTests(ctx, s.querier(ctx), p)
}

func (s *Service) runTests(ctx context.Context, q store.Querier, p Policy) ([]Verdict, error) {
	list, err := tests(ctx, q, p.Tenant)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	plugin, err := s.plugin(p)
	if err != nil {
		return nil, err
	}
	requests := make([]authz.Request, len(list))
	for i, t := range list {
		requests[i] = t.request(p.Tenant, s.vocabulary)
	}
	decisions, err := plugin.Decide(ctx, requests)
	if err != nil {
		return nil, err
	}
	out := make([]Verdict, len(list))
	for i, d := range decisions {
		out[i] = Verdict{list[i], d.Permitted(), d.Reasons}
	}
	return out, nil
}

// PutTest stores a test, in the place of one of the same name. One that fails
// now is stored as well: it keeps the policy from being changed until it passes.
func (s *Service) PutTest(ctx context.Context, tenant gid.ID, t Test) (Verdict, error) {
	var verdict Verdict
	err := s.changeTests(ctx, tenant, ActionTestPut, t.Name, func(ctx context.Context, tx *store.Tx, p Policy) error {
		if err := t.check(s.vocabulary); err != nil {
			return err
		}
		question, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("encoding a test: %w", err)
		}
		if _, err := store.Build(tx).Add("INSERT INTO policy_tests (id, tenant_id, name, question) VALUES (?, ?, ?, ?)"+
			" ON CONFLICT (tenant_id, name) DO UPDATE SET question = excluded.question", gid.New(gid.PolicyTest), tenant, t.Name, question).Exec(ctx, tx); err != nil {
			return err
		}
		verdicts, err := s.runTests(ctx, tx, p)
		if len(verdicts) > maxTests {
			return refuse(ErrInvalid, fmt.Sprintf("There are %d tests already.", maxTests), nil)
		}
		for _, v := range verdicts {
			if v.Test.Name == t.Name {
				verdict = v
			}
		}
		return err
	})
	return verdict, err
}

// DeleteTest removes a test.
func (s *Service) DeleteTest(ctx context.Context, tenant gid.ID, name string) error {
	return s.changeTests(ctx, tenant, ActionTestDelete, name, func(ctx context.Context, tx *store.Tx, _ Policy) error {
		n, err := store.Build(tx).Add("DELETE FROM policy_tests WHERE tenant_id = ? AND name = ?", tenant, name).Exec(ctx, tx)
		if err == nil && n == 0 {
			err = refuse(ErrNotFound, fmt.Sprintf("There is no test %q.", name), nil, "name")
		}
		return err
	})
}

func (s *Service) changeTests(ctx context.Context, tenant gid.ID, action, name string, do func(context.Context, *store.Tx, Policy) error) error {
	by := actor.From(ctx)
	switch {
	case by == nil:
		by = actor.ForSystem(tenant)
		ctx = actor.With(ctx, by)
	case by.Tenant != tenant:
		return refuse(ErrForbidden, "The policy does not allow this.", nil)
	}
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		p, err := lock(ctx, tx, tenant) // so that no change slips past a test that is being stored
		if err != nil {
			return err
		}
		err = s.mayEdit(ctx, by, p)
		if err == nil {
			err = do(ctx, tx, p)
		}
		c := change{action: action, detail: map[string]any{"test": name}}
		if err != nil {
			return s.refused(ctx, tx, p.Version, c, err)
		}
		return s.audit.Append(ctx, tx, audit.Event{Action: action, PolicyVersion: p.Version, Detail: c.detail})
	})
	if err != nil {
		return fmt.Errorf("changing the tests of a policy: %w", err)
	}
	return nil
}

// isRefusal tells what a client is told from what went wrong.
func isRefusal(err error) bool {
	var shown *record.Error
	return errors.As(err, &shown)
}
