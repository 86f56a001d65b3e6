// Package policy changes the policy of a tenant, and says what a change would
// do. A change is refused as a whole when a row of it cannot be used, when it
// would leave nobody who can edit the policy, when somebody would gain by it
// what its author may not give, when it would break a separation of duty, or
// when a stored test fails.
//
// The author is the actor of the context; the system is Lethe itself, or its
// operator on the machine, who may give anything. That the author may edit the
// policy is asked again here, of the policy that is changed.
package policy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// The errors that callers tell apart. They come wrapped, together with a
// *record.Error where a client is to be told.
var (
	ErrNotFound = errors.New("not found")
	// ErrInvalid refuses rows that could not be used, and other bad input.
	ErrInvalid = errors.New("invalid")
	// ErrConflict refuses a change of a version that is not the last any more.
	ErrConflict = errors.New("the policy was changed in the meantime")
	// ErrLockout refuses what would leave nobody who can edit the policy.
	ErrLockout = errors.New("the tenant would be left without an active user who can edit its policy")
	// ErrEscalation refuses to give what the author may not give.
	ErrEscalation = errors.New("more would be given than the author may give")
	// ErrDuty refuses two roles to one user that nobody may have both.
	ErrDuty = errors.New("a separation of duty would be broken")
	// ErrTest refuses a policy that a stored test fails under.
	ErrTest = errors.New("a test of the policy fails")
	// ErrForbidden refuses an author who may not edit the policy.
	ErrForbidden = errors.New("the policy does not allow this")
)

// codes are what clients are told.
var codes = map[error]lifecycle.Code{
	ErrNotFound: lifecycle.NotFound, ErrInvalid: lifecycle.BadUserInput, ErrConflict: lifecycle.Conflict, ErrLockout: lifecycle.Forbidden,
	ErrEscalation: lifecycle.Forbidden, ErrDuty: lifecycle.Forbidden, ErrTest: lifecycle.BadUserInput, ErrForbidden: lifecycle.Forbidden,
}

// causes tell refusals of one code apart, in the extension "cause".
var causes = map[error]string{
	ErrLockout: "LOCKOUT", ErrEscalation: "ESCALATION", ErrDuty: "SEPARATION_OF_DUTY", ErrTest: "POLICY_TEST", ErrInvalid: "POLICY_INVALID",
}

// refuse is one of the errors above, in the form that clients see.
func refuse(kind error, message string, extensions map[string]any, fields ...string) error {
	shown := record.Refuse(codes[kind], message, fields...)
	shown.Extensions = map[string]any{}
	if cause := causes[kind]; cause != "" {
		shown.Extensions["cause"] = cause
	}
	maps.Copy(shown.Extensions, extensions)
	return &refusal{kind, shown}
}

// refusal is an error of this package that says to people what it says to
// clients.
type refusal struct {
	kind  error
	shown *record.Error
}

func (r *refusal) Error() string { return r.shown.Message }

// Unwrap lets errors.Is find the kind and errors.As what clients are told.
func (r *refusal) Unwrap() []error { return []error{r.kind, r.shown} }

// Duty is a set of roles of which no user and no role may have two, inherited
// ones included.
type Duty struct {
	Name  string   `json:"name"`
	Roles []string `json:"roles"`
}

// Policy is what a tenant's policy says.
type Policy struct {
	Tenant  gid.ID
	Version uint64
	Rules   []casbin.Rule
	Duties  []Duty
	// Waiting is the request for others to agree to the change that was asked for; zero where none is needed.
	Waiting gid.ID
}

// CSV is the rows as a Casbin policy file.
func (p Policy) CSV() string {
	var b strings.Builder
	_ = casbin.WriteCSV(&b, p.Rules) // a strings.Builder takes every write
	return b.String()
}

// Head and Load make a policy a casbin.Source, so that what it would permit is
// answered by what will answer once it is stored.
func (p Policy) Head(context.Context, string) (uint64, error) { return max(p.Version, 1), nil }

// Load implements casbin.Source.
func (p Policy) Load(context.Context, string) (uint64, []casbin.Rule, error) {
	return max(p.Version, 1), p.Rules, nil
}

// plugin answers by a policy.
func (s *Service) plugin(p Policy) (*casbin.Plugin, error) {
	return casbin.New(casbin.Options{Source: p, Vocabulary: s.vocabulary})
}

// Roles are the roles that rows speak of, sorted.
func (p Policy) Roles() []string {
	var out []string
	for _, r := range p.Rules {
		for _, name := range r.V[:2] {
			if role, ok := strings.CutPrefix(name, casbin.RoleSubject("")); ok {
				out = append(out, role)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Service changes policies.
type Service struct {
	db      *store.DB
	control *access.Control
	audit   *audit.Log
	log     *slog.Logger
	// vocabulary is what rows may name.
	vocabulary casbin.Vocabulary
	// approvals is nil where nobody else can be asked.
	approvals *record.Service
}

// New returns a service. Control is who may do what, and learns of every change
// at once; it is nil where only the operator makes changes.
func New(db *store.DB, control *access.Control, auditLog *audit.Log, log *slog.Logger) *Service {
	s := &Service{db: db, control: control, audit: auditLog, log: log, vocabulary: access.Vocabulary()}
	if control != nil {
		s.vocabulary = control.Vocabulary()
	}
	return s
}

// WithVocabulary is the service where policies may name other things: without
// a control it cannot know of external types.
func (s *Service) WithVocabulary(v casbin.Vocabulary) *Service {
	other := *s
	other.vocabulary = v
	return &other
}

// The actions as the audit log names them.
const (
	ActionApply      = "POLICY_APPLY"
	ActionRollback   = "POLICY_ROLLBACK"
	ActionRoleGrant  = "ROLE_GRANT"
	ActionRoleRevoke = "ROLE_REVOKE"
	ActionTestPut    = "POLICY_TEST_PUT"
	ActionTestDelete = "POLICY_TEST_DELETE"
)

// maxMessage is how many characters the message of a change may have.
const maxMessage = 1_000

// Current is the policy in force.
func (s *Service) Current(ctx context.Context, tenant gid.ID) (Policy, error) {
	p, err := load(ctx, s.querier(ctx), tenant)
	if err == nil && p.Version == 0 {
		err = fmt.Errorf("tenant %s: %w", tenant, ErrNotFound)
	}
	return p, err
}

// At is the policy as a version of it was.
func (s *Service) At(ctx context.Context, tenant gid.ID, version uint64) (Revision, error) {
	return revision(ctx, s.querier(ctx), tenant, version)
}

// querier is the transaction of the context, or the database.
func (s *Service) querier(ctx context.Context) store.Querier {
	if tx := store.TxFrom(ctx); tx != nil {
		return tx
	}
	return s.db
}

// Draft is a change that is asked for: all rows, or some that come and some
// that go.
type Draft struct {
	// Base is the version that the author changed.
	Base        uint64
	Rules       []casbin.Rule
	Replace     bool // whether Rules are all rows there will be
	Add, Remove []casbin.Rule
	Duties      []Duty
	SetDuties   bool
	Message     string
}

// on is the policy that a draft makes of another.
func (d Draft) on(p Policy) (Policy, error) {
	out := Policy{Tenant: p.Tenant, Rules: slices.Clone(p.Rules), Duties: p.Duties}
	if d.SetDuties {
		out.Duties = d.Duties
	}
	if d.Replace {
		out.Rules = slices.Clone(d.Rules)
		return out, nil
	}
	for _, r := range d.Remove {
		at := slices.Index(out.Rules, r)
		if at < 0 {
			return out, refuse(ErrInvalid, "The policy has no such row: "+r.String(), nil, "remove")
		}
		out.Rules = slices.Delete(out.Rules, at, at+1)
	}
	out.Rules = append(out.Rules, d.Add...)
	return out, nil
}

// Apply changes a policy, all of it or nothing. A change of a version that is
// not the last is refused with what changed since.
func (s *Service) Apply(ctx context.Context, tenant gid.ID, d Draft) (Policy, error) {
	return s.carryOut(ctx, tenant, s.applying(d))
}

func (s *Service) applying(d Draft) change {
	return change{action: ActionApply, message: d.Message, frozen: Frozen{Draft: &d}, to: func(ctx context.Context, tx *store.Tx, p Policy) (Policy, error) {
		if err := s.checkBase(ctx, tx, p, d.Base); err != nil {
			return p, err
		}
		return d.on(p)
	}}
}

// Rollback makes an earlier version the policy again, as a new version that has
// to pass everything any change has to.
func (s *Service) Rollback(ctx context.Context, tenant gid.ID, base, to uint64, message string) (Policy, error) {
	return s.carryOut(ctx, tenant, s.rollingBack(tenant, base, to, message))
}

func (s *Service) rollingBack(tenant gid.ID, base, to uint64, message string) change {
	return change{
		action: ActionRollback, message: message, detail: map[string]any{"to": to}, frozen: Frozen{To: to},
		to: func(ctx context.Context, tx *store.Tx, p Policy) (Policy, error) {
			if err := s.checkBase(ctx, tx, p, base); err != nil {
				return p, err
			}
			r, err := revision(ctx, tx, tenant, to)
			return Policy{Tenant: tenant, Rules: r.Rules, Duties: r.Duties}, err
		},
	}
}

func (s *Service) checkBase(ctx context.Context, tx *store.Tx, p Policy, base uint64) error {
	if base == p.Version {
		return nil
	}
	extensions := map[string]any{"version": p.Version}
	latest, err := revision(ctx, tx, p.Tenant, p.Version)
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return err
	default:
		extensions["message"] = latest.Message
		if latest.Author != nil {
			extensions["author"] = latest.Author.String()
		}
	}
	was, err := revision(ctx, tx, p.Tenant, base)
	switch {
	case errors.Is(err, ErrNotFound): // a version that never was
	case err != nil:
		return err
	default:
		d := Diff(was.Policy, p)
		extensions["added"], extensions["removed"] = Lines(d.Added), Lines(d.Removed)
	}
	return refuse(ErrConflict, fmt.Sprintf("The policy is at version %d, not %d.", p.Version, base), extensions, "version")
}

// Difference is what one policy has and another has not.
type Difference struct {
	Added, Removed             []casbin.Rule
	AddedDuties, RemovedDuties []Duty
}

// Diff compares two policies row by row, whatever their order.
func Diff(from, to Policy) Difference {
	less := func(a, b []casbin.Rule) (out []casbin.Rule) {
		count := map[casbin.Rule]int{}
		for _, r := range b {
			count[r]++
		}
		for _, r := range a {
			if count[r]--; count[r] < 0 {
				out = append(out, r)
			}
		}
		return out
	}
	lessDuties := func(a, b []Duty) (out []Duty) {
		for _, d := range a {
			if !slices.ContainsFunc(b, func(o Duty) bool { return o.Name == d.Name && slices.Equal(o.Roles, d.Roles) }) {
				out = append(out, d)
			}
		}
		return out
	}
	return Difference{less(to.Rules, from.Rules), less(from.Rules, to.Rules), lessDuties(to.Duties, from.Duties), lessDuties(from.Duties, to.Duties)}
}

// Lines are rows as lines of CSV.
func Lines(rules []casbin.Rule) []string {
	out := make([]string, len(rules))
	for i, r := range rules {
		out[i] = r.String()
	}
	return out
}

// Grant gives a user a role. A role is known when the policy has a row about it.
// Granting it twice is no error and changes nothing.
func (s *Service) Grant(ctx context.Context, tenant, user gid.ID, role string) (Policy, error) {
	if user.IsZero() {
		return Policy{}, errSystemRoles
	}
	return s.carryOut(ctx, tenant, s.granting(tenant, user, role))
}

var errSystemRoles = errors.New("the system has the roles the policy gives it, and no others")

func (s *Service) granting(tenant, user gid.ID, role string) change {
	return s.roleChange(tenant, user, role, ActionRoleGrant, func(p Policy, grant casbin.Rule) Policy {
		if !slices.Contains(p.Rules, grant) {
			p.Rules = append(slices.Clip(p.Rules), grant)
		}
		return p
	})
}

// Revoke takes a role back that a user was given. Without it there is nothing
// to do.
func (s *Service) Revoke(ctx context.Context, tenant, user gid.ID, role string) (Policy, error) {
	if user.IsZero() {
		return Policy{}, errSystemRoles
	}
	return s.carryOut(ctx, tenant, s.roleChange(tenant, user, role, ActionRoleRevoke, func(p Policy, grant casbin.Rule) Policy {
		p.Rules = slices.DeleteFunc(slices.Clone(p.Rules), func(r casbin.Rule) bool { return r == grant })
		return p
	}))
}

func (s *Service) roleChange(tenant, user gid.ID, role, action string, to func(Policy, casbin.Rule) Policy) change {
	return change{
		action: action, detail: map[string]any{"user": user, "role": role}, frozen: Frozen{User: user, Role: role},
		to: func(ctx context.Context, tx *store.Tx, p Policy) (Policy, error) {
			var one int
			ok, err := store.Build(tx).Add("SELECT 1 FROM users WHERE id = ? AND tenant_id = ?", user, tenant).ForShare().One(ctx, tx, &one)
			if err != nil {
				return p, err
			}
			if !ok {
				return p, refuse(ErrNotFound, fmt.Sprintf("There is no user %s.", user), nil, "user")
			}
			if !slices.Contains(p.Roles(), role) {
				return p, refuse(ErrNotFound, fmt.Sprintf("The policy has no role %q.", role), nil, "role")
			}
			return to(p, casbin.Grant(casbin.UserSubject(user.String()), casbin.RoleSubject(role), tenant.String())), nil
		},
	}
}

// change is one way to change a policy.
type change struct {
	action, message string
	detail          map[string]any
	to              func(context.Context, *store.Tx, Policy) (Policy, error)
	// frozen says what is asked for, for others to agree to it, and agreed is the request by which they have.
	frozen Frozen
	agreed *gid.ID
}

// carryOut makes a change to the locked policy. What others have to agree to first is written down as a request, and the
// policy stays as it is. What is refused is written down after the
// transaction has ended, however it ends.
func (s *Service) carryOut(ctx context.Context, tenant gid.ID, c change) (Policy, error) {
	var after Policy
	by := actor.From(ctx)
	switch {
	case by == nil:
		by = actor.ForSystem(tenant)
		ctx = actor.With(ctx, by)
	case by.Tenant != tenant:
		return Policy{}, refuse(ErrForbidden, "The policy does not allow this.", nil)
	}
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		before, err := lock(ctx, tx, tenant)
		if err != nil {
			return err
		}
		var judgement *Judgement
		if after, judgement, err = s.admit(ctx, tx, by, before, c); err != nil {
			return s.refused(ctx, tx, before.Version, c, err)
		}
		if judgement.Grants != nil && c.agreed == nil {
			request, err := s.ask(ctx, tx, before, after, c)
			if err == nil && request.IsZero() {
				err = errors.New("there is no rule about giving restricted actions")
			}
			after, after.Waiting = before, request
			return err
		}
		d := Diff(before, after)
		if slices.Equal(before.Rules, after.Rules) && len(d.AddedDuties)+len(d.RemovedDuties) == 0 {
			after.Version = before.Version
			return nil
		}
		after.Version = before.Version + 1
		if err := write(ctx, tx, before, after, by, c.message); err != nil {
			return err
		}
		detail := c.detail
		if c.action == ActionApply || c.action == ActionRollback {
			detail = map[string]any{"version": after.Version, "added": len(d.Added), "removed": len(d.Removed)}
			maps.Copy(detail, c.detail)
		}
		if c.agreed != nil {
			detail = maps.Clone(detail)
			detail["approval"] = c.agreed.String()
		}
		s.refresh(ctx, tx, tenant)
		return s.audit.Append(ctx, tx, audit.Event{Action: c.action, PolicyVersion: before.Version, Detail: detail})
	})
	if err != nil {
		return Policy{}, fmt.Errorf("changing the policy: %w", err)
	}
	return after, nil
}

// admit is the policy that a change leads to, if nothing is against it.
func (s *Service) admit(ctx context.Context, tx *store.Tx, by *actor.Actor, before Policy, c change) (Policy, *Judgement, error) {
	if !utf8.ValidString(c.message) || strings.ContainsFunc(c.message, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) ||
		utf8.RuneCountInString(c.message) > maxMessage {
		return before, nil, refuse(ErrInvalid, fmt.Sprintf("A message has at most %d characters, none of them a control character.", maxMessage), nil, "message")
	}
	if err := s.mayEdit(ctx, by, before); err != nil {
		return before, nil, err
	}
	after, err := c.to(ctx, tx, before)
	if err != nil {
		return before, nil, err
	}
	judgement, err := s.judge(ctx, tx, by, before, after)
	if err != nil {
		return before, nil, err
	}
	return after, judgement, judgement.err()
}

// mayEdit asks the policy that is about to change, and whatever else decides on
// access, whether its author may edit it.
func (s *Service) mayEdit(ctx context.Context, by *actor.Actor, p Policy) error {
	if by.Kind == actor.System {
		return nil
	}
	plugin, err := s.plugin(p)
	if err != nil {
		return err
	}
	decisions, err := plugin.Decide(ctx, []authz.Request{{
		Tenant: p.Tenant.String(), Subject: by.Subject(), Action: authz.PolicyEdit, Resource: authz.Entity{Type: "Policy"},
	}})
	if err != nil {
		return err
	}
	may := decisions[0].Permitted()
	if may && s.control != nil {
		current, err := s.control.Repin(ctx, p.Tenant)
		if err != nil {
			return err
		}
		may = s.control.May(current, by, access.Question{Action: authz.PolicyEdit, Type: "Policy"})
	}
	if !may {
		return refuse(ErrForbidden, "The policy does not allow this.", nil)
	}
	return nil
}

// write stores a policy as the next version.
func write(ctx context.Context, tx *store.Tx, before, after Policy, by *actor.Actor, message string) error {
	// Rows have an order, and decide in it: all are written anew unless nothing
	// but the end changes.
	kept := 0
	if len(after.Rules) >= len(before.Rules) && slices.Equal(before.Rules, after.Rules[:len(before.Rules)]) {
		kept = len(before.Rules)
	}
	if kept == 0 && len(before.Rules) > 0 {
		if _, err := store.Build(tx).Add("DELETE FROM policy_rules WHERE tenant_id = ?", after.Tenant).Exec(ctx, tx); err != nil {
			return err
		}
	}
	start := 0
	if kept > 0 {
		if _, err := store.Build(tx).Add("SELECT COALESCE(MAX(position), -1) + 1 FROM policy_rules WHERE tenant_id = ?", after.Tenant).One(ctx, tx, &start); err != nil {
			return err
		}
	}
	if err := insertRules(ctx, tx, after.Tenant, start, after.Rules[kept:]); err != nil {
		return err
	}
	duties, err := encodeDuties(after.Duties)
	if err != nil {
		return err
	}
	if _, err := store.Build(tx).Add("UPDATE policy_heads SET version = version + 1, duties = ? WHERE tenant_id = ?", duties, after.Tenant).Exec(ctx, tx); err != nil {
		return err
	}
	return writeRevision(ctx, tx, after, by.UserRef(), message)
}

// refresh lets this process judge by the new policy at once; others poll.
func (s *Service) refresh(ctx context.Context, tx *store.Tx, tenant gid.ID) {
	if s.control == nil {
		return
	}
	detached := context.WithoutCancel(ctx)
	tx.AfterEnd(func(committed bool) {
		if !committed {
			return
		}
		if err := s.control.Refresh(detached, tenant); err != nil {
			s.log.ErrorContext(detached, "a changed policy could not be read; it is tried again", "error", err)
		}
	})
}

// refused writes a REFUSED event for what is forbidden, and gives the client its
// id. Bad input and conflicts are no matter of access.
func (s *Service) refused(ctx context.Context, tx *store.Tx, version uint64, c change, err error) error {
	var shown *record.Error
	if !errors.As(err, &shown) || shown.Code != lifecycle.Forbidden {
		return err
	}
	event := audit.Event{
		ID: gid.New(gid.Event), Action: c.action, Outcome: audit.Refused, Code: shown.Code, PolicyVersion: version, Detail: map[string]any{},
	}
	maps.Copy(event.Detail, c.detail)
	if cause := shown.Extensions["cause"]; cause != nil {
		event.Detail["cause"] = cause
	}
	shown.Extensions["decisionID"] = event.ID.String()
	detached := context.WithoutCancel(ctx)
	tx.AfterEnd(func(bool) {
		if err := s.audit.Write(detached, s.db, event); err != nil {
			s.log.ErrorContext(detached, "a refusal could not be written to the audit log", "action", event.Action, "error", err)
		}
	})
	return err
}
