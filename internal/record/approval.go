package record

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/approval"
	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// An operation that rules ask others for is written down with what it is about, as one that is scheduled is, and with
// the versions its records are at; then it waits for an approval. That is for what was written down: a record that was
// edited since is STALE when the operation runs, and all that any operation is checked for is checked then.

// Need is how many of those who have a role must agree. Empty is whoever may edit the policy.
type Need struct {
	Role      string   `json:"role"`
	Approvals int      `json:"approvals"`
	Rules     []string `json:"rules"` // that ask for them
}

// asking is what is to be asked of others.
type asking struct {
	subject   approval.Subject
	needs     []Need
	request   time.Duration
	use       int // hours
	execution approval.Execution
}

// add takes up a rule. Where several ask, each is met: as many have to agree as any of them asks of a role, in the
// shortest of their times.
func (k *asking) add(r *Rule) {
	if k.subject == "" {
		k.subject, k.request, k.use, k.execution = r.Subject, hours(r.RequestHours), r.UseHours, r.Execution
	}
	k.request, k.use = min(k.request, hours(r.RequestHours)), min(k.use, r.UseHours)
	if r.Execution == approval.ExecutionCONFIRM {
		k.execution = r.Execution
	}
	i := slices.IndexFunc(k.needs, func(n Need) bool { return n.Role == r.Role })
	if i < 0 {
		i, k.needs = len(k.needs), append(k.needs, Need{Role: r.Role})
	}
	n := &k.needs[i]
	n.Approvals, n.Rules = max(n.Approvals, r.Approvals), append(n.Rules, r.Name)
}

// asks says what has to be asked of others before what is planned is done; nil if nothing. caps are those it is over.
func (r *run) asks(caps []exceeded) *asking {
	k := &asking{}
	if r.kept.Approval != nil || r.due != nil || r.a.Kind == actor.System { // approved before, or nobody asks for it
		return nil
	}
	if len(caps) > 0 {
		own := false
		for i := range r.settings.rules {
			if rule := &r.settings.rules[i]; rule.Subject == approval.SubjectBRAKE {
				k.add(rule)
				own = true
			}
		}
		if !own {
			k.add(&brakeRule)
		}
	}
	for i := range r.settings.rules {
		rule := &r.settings.rules[i]
		if rule.Subject == approval.SubjectBRAKE || rule.ByFilter && !r.byFilter() {
			continue
		}
		if rule.asks(r.meeting(rule)) {
			k.add(rule)
		}
	}
	if len(k.needs) == 0 {
		return nil
	}
	if len(caps) > 0 {
		k.subject = approval.SubjectBRAKE
	}
	return k
}

// subjects are what rules must be about to ask for the verb.
func (r *run) subjects() []approval.Subject {
	subjects := []approval.Subject{approval.Subject(r.req.Verb), approval.SubjectBRAKE}
	if r.deletes() || r.req.Verb == lifecycle.Suspend && r.req.Then == ThenDelete { // which the clock does for the actor
		subjects = append(subjects, approval.SubjectDELETE)
	}
	return subjects
}

// byFilter reports whether a filter, or the bin, selected what it is about.
func (r *run) byFilter() bool {
	return r.kept.ByFilter || r.req.Select.Filter != nil || r.req.Select.Bin != nil
}

// meeting is how many of the records that would change meet a rule. Of a job that has not begun all are taken to, and of
// one that has, all that the batches before changed.
func (r *run) meeting(rule *Rule) int {
	if r.job > 0 {
		if rule.OpenDeals && !r.req.Cascade && !r.deletes() {
			return 0 // those who have live deals are refused, unless these are picked: then the batch asks
		}
		return r.job
	}
	var open map[gid.ID]bool
	if rule.OpenDeals {
		open = r.withLiveDeals()
	}
	n := 0
	for _, node := range r.changing {
		if rule.counts(r.a, actions[r.req.Verb], node.row) && (!rule.OpenDeals || open[node.row.RecordID()]) {
			n++
		}
	}
	if n > 0 && r.stored != nil {
		n += r.stored.Changed
	}
	return n
}

// withLiveDeals are the customers whose live deals go with them: because they come along, or are picked as well.
func (r *run) withLiveDeals() map[gid.ID]bool {
	out := map[gid.ID]bool{}
	for _, n := range r.changing {
		if n.row.RecordType().Name != ent.TypeDeal || n.row.RecordState().Retired() {
			continue
		}
		for _, e := range n.row.RecordType().Edges {
			if id := refOf(n.row, e.Column); e.Class == lifecycle.Blocking && id != nil && ent.RecordTypeOf(*id).Name == ent.TypeCustomer {
				out[*id] = true
			}
		}
	}
	return out
}

// takenAlong is what a plan takes along that would else be in the way, and at which versions: what is added to it, or edited,
// was not agreed to. What belongs to a record goes with it, whatever it has become by then.
func (r *run) takenAlong() []Version {
	out := []Version{}
	for _, n := range r.along {
		if n.isTaken() {
			out = append(out, Version{n.row.RecordID(), n.row.RecordVersion()})
		}
	}
	return out
}

// isTaken reports whether it comes along only because the caller wants it to.
func (n *node) isTaken() bool {
	for _, e := range n.row.RecordType().Edges {
		if id := refOf(n.row, e.Column); e.Class == lifecycle.Blocking && id != nil &&
			slices.ContainsFunc(n.above, func(a *node) bool { return a.row.RecordID() == *id }) {
			return true
		}
	}
	return false
}

// payload is what an approval keeps of an operation besides its items.
type payload struct {
	// Taken is nil for a job, of which nobody knows beforehand what it takes along.
	Taken []Version `json:"taken"`
}

// compareApproved finds what comes along and is not as it was when others agreed.
func (r *run) compareApproved() {
	if r.kept.Agreed == nil || r.kept.Agreed.Taken == nil {
		return
	}
	for _, n := range r.nodes {
		if n.item == nil && n.problem == "" && n.isTaken() && !slices.Contains(r.kept.Agreed.Taken, Version{n.row.RecordID(), n.row.RecordVersion()}) {
			n.problem = lifecycle.Stale
			n.blockers = []Blocker{{Code: lifecycle.Stale, Type: n.row.RecordType().Name, Count: 1}}
		}
	}
}

// moved is the code of a record that is not at the version it was seen at: by who asked, or by those who agreed.
func (r *run) moved() lifecycle.Code {
	if r.kept.Approval != nil {
		return lifecycle.Stale
	}
	return lifecycle.Conflict
}

// ask lets an operation wait for others: it is written down if it is not yet.
func (r *run) ask(ctx context.Context, k *asking, caps []exceeded) (*ent.Operation, error) {
	op, records, taken := r.stored, r.changes(), r.takenAlong()
	if r.job > 0 {
		records, taken = r.job, nil
	}
	status, code := operation.StatusPENDING_APPROVAL, ""
	if len(caps) > 0 {
		status, code = operation.StatusPAUSED, string(lifecycle.Limit)
	}
	if op == nil {
		var err error
		if op, err = r.keep(ctx, status); err != nil {
			return nil, err
		}
	}
	if err := r.tx.Flush(ctx); err != nil {
		return nil, err
	}
	if err := r.pinVersions(ctx); err != nil {
		return nil, err
	}
	if _, err := store.Build(r.tx).Add(`UPDATE operations SET status = ?, code = ? WHERE id = ?`, string(status), nullText(code), r.id).Exec(ctx, r.tx); err != nil {
		return nil, fmt.Errorf("writing the operation: %w", err)
	}
	op.Status, op.Code = status, nil
	if code != "" {
		op.Code = &code
	}
	frozen, err := json.Marshal(payload{taken})
	if err != nil {
		return nil, fmt.Errorf("encoding a request: %w", err)
	}
	id, err := r.file(ctx, r.tx, k, Ask{Operation: &r.id, Payload: frozen, Reason: r.req.Reason, Records: records}, op.RunAt)
	if err != nil {
		return nil, err
	}
	return op, r.logAsked(ctx, id, k, op, caps)
}

// logAsked tells the log of a request about an operation and, where the brake stopped it, everybody who watches.
func (r *run) logAsked(ctx context.Context, id gid.ID, k *asking, op *ent.Operation, caps []exceeded) error {
	version := r.control.Version(ctx, r.a.Tenant)
	for _, over := range caps {
		r.log.WarnContext(ctx, "an operation is over a cap and was stopped", "tenant", r.a.Tenant, "operation", r.id, "cap", over.cap, "limit", over.limit, "actual", over.actual)
		if r.onBrake != nil {
			r.onBrake(over.cap)
		}
		event := audit.Event{Action: "BRAKE", Operation: &r.id, Code: lifecycle.Limit, PolicyVersion: version, Detail: over.detail()}
		if err := r.audit.Append(ctx, r.tx, event); err != nil {
			return err
		}
	}
	return r.audit.Append(ctx, r.tx, audit.Event{Action: "APPROVAL_ASK", Operation: &r.id, Count: op.Total, PolicyVersion: version, Detail: k.detail(id)})
}

// detail is what the log is told of a request.
func (k *asking) detail(id gid.ID) map[string]any {
	return map[string]any{"approval": id.String(), "subject": k.subject, "needs": k.needs}
}

func (e exceeded) detail() map[string]any {
	out := map[string]any{"cap": e.cap, "limit": e.limit, "actual": e.actual}
	if e.typ != nil {
		out["type"] = e.typ.Kind()
	}
	return out
}

// unseen is a version that no record is at.
const unseen = math.MaxInt32

// pinVersions keeps with what waits in an operation the versions it is at. What is not there stays so for it.
func (r *run) pinVersions(ctx context.Context) error {
	for _, t := range typeOrder {
		_, err := store.Build(r.tx).Add(`UPDATE operation_items SET version = t.version FROM `+t.Table+` t
			WHERE t.id = operation_items.record_id AND operation_items.operation_id = ? AND operation_items.pending IS NOT NULL AND operation_items.version = 0`, r.id).Exec(ctx, r.tx)
		if err != nil {
			return fmt.Errorf("keeping the versions of %s: %w", t.Table, err)
		}
	}
	_, err := store.Build(r.tx).Add(`UPDATE operation_items SET version = ? WHERE operation_id = ? AND pending IS NOT NULL AND version = 0`, unseen, r.id).Exec(ctx, r.tx)
	if err != nil {
		return fmt.Errorf("keeping versions: %w", err)
	}
	return nil
}

// Ask is what a request for an approval is about.
type Ask struct {
	Operation *gid.ID
	// Target is what it is about, if that is no operation.
	Target  *gid.ID
	Payload json.RawMessage
	Reason  string
	Records int
}

var approvalColumns = []string{
	"id", "tenant_id", "subject", "status", "execution", "operation_id", "target_id", "payload", "needs", "roles", "reason", "records", "policy_version", "use_hours",
	"requested_by_id", "created_at", "expires_at", "waits_until",
}

// file writes a request down. What is to be done at a time is decided by then.
func (s *Service) file(ctx context.Context, tx *store.Tx, k *asking, ask Ask, runAt *time.Time) (gid.ID, error) {
	a, now := actor.From(ctx), tx.Now()
	id, expires := gid.New(gid.Approval), now.Add(k.request)
	if runAt != nil && runAt.After(now) && runAt.Before(expires) {
		expires = *runAt
	}
	needs, err := json.Marshal(k.needs)
	if err != nil {
		return id, fmt.Errorf("encoding a request: %w", err)
	}
	version := s.control.Version(ctx, a.Tenant)
	err = tx.Insert(ctx, "approvals", approvalColumns, [][]any{{
		id, a.Tenant, string(k.subject), string(approval.StatusPENDING), string(k.execution), nullID(ask.Operation), nullID(ask.Target), []byte(ask.Payload), needs, k.roles(), nullText(ask.Reason),
		ask.Records, int64(version), k.use, nullID(a.UserRef()), now, expires, expires, //nolint:gosec // versions fit
	}})
	if err == nil {
		err = tx.Flush(ctx)
	}
	if err != nil {
		return id, fmt.Errorf("writing a request for approval: %w", err)
	}
	return id, nil
}

// roles are those who are asked, in a form in which a query finds one of them.
func (k *asking) roles() string {
	var out strings.Builder
	for _, n := range k.needs {
		out.WriteString(access.RoleMark(n.Role))
	}
	return out.String()
}

// blockers are what a preview shows of what has to be asked of others.
func (k *asking) blockers() []Blocker {
	if k == nil {
		return nil
	}
	out := make([]Blocker, len(k.needs))
	for i, n := range k.needs {
		out[i] = Blocker{Code: lifecycle.ApprovalRequired, Count: n.Approvals, Role: n.Role}
	}
	return out
}

// words say what has to be asked of others.
func (k *asking) words() string {
	parts := make([]string, len(k.needs))
	for i, n := range k.needs {
		who := n.Role
		if who == "" {
			who = "may edit the policy"
		}
		parts[i] = fmt.Sprintf("%d × %s", n.Approvals, who)
	}
	return "Others have to agree first: " + strings.Join(parts, ", ") + "."
}
