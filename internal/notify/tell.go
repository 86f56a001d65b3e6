package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent/notification"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// fact is something that happened and is to be told.
type fact struct {
	id, tenant                       gid.ID
	at                               time.Time
	action                           string
	outcome                          audit.Outcome
	actor, operation, subject, about *gid.ID
	count                            int
	records                          []gid.ID
	traceparent                      string // the span in which it happened
}

// telling is what is told of a fact.
type telling struct {
	*fact
	kind  Kind
	event string // to webhooks
	// source are the records it is about, as a query of id, type, owner, state and version; nil where it is about none.
	source func(*store.SQL) *store.SQL
	// owners says whether owners and followers are told; to are others who are.
	owners   bool
	to       []gid.ID
	approval *gid.ID
	days     *int
	verb     string
}

const (
	ended = `'SUCCEEDED', 'PARTIAL', 'FAILED', 'REJECTED', 'CANCELLED', 'EXPIRED'`
	// atOnce are the facts about an operation that do not wait for its end.
	atOnce = `'BRAKE', 'APPROVAL_ASK', 'APPROVE', 'REJECT', 'APPROVAL_EXPIRE'`
	// tellBatch is how many facts are looked for at a time.
	tellBatch = 200
)

// Tell tells what is to be told, and answers how much that was. What fails holds up
// nothing else. Several may do it at once.
func (s *Service) Tell(ctx context.Context) (told int, err error) {
	var failures error
	var failed []gid.ID
	weighs := true
	for ctx.Err() == nil {
		if weighs {
			if err := s.weigh(ctx); err != nil { // what is weighed already is told all the same
				failures, weighs = errors.Join(failures, err), false
			}
		}
		ready, err := s.ready(ctx, failed)
		if err != nil {
			return told, errors.Join(failures, err)
		}
		if len(ready) == 0 {
			return told, failures
		}
		for _, id := range ready {
			if err := s.tellOne(ctx, id); err != nil {
				failed = append(failed, id)
				failures = errors.Join(failures, err)
				continue
			}
			told++
		}
	}
	return told, errors.Join(failures, ctx.Err())
}

// ready are the facts that are to be told now: those about an operation once it has
// ended, so that all it did is told at once. Those that failed just now are left out.
func (s *Service) ready(ctx context.Context, failed []gid.ID) ([]gid.ID, error) {
	var ids []gid.ID
	err := store.Build(s.DB).Add(`SELECT f.id FROM notify_facts f LEFT JOIN operations o ON o.id = f.operation_id
		WHERE f.weighed = ? AND (o.id IS NULL OR f.action IN (`+atOnce+`) OR o.status IN (`+ended+`)) AND NOT (`, true).IDs("f.id", failed).Add(`) ORDER BY f.at, f.id LIMIT ?`, tellBatch).Query(ctx, s.DB, func(row store.Row) error {
		var id gid.ID
		err := row.Scan(&id)
		ids = append(ids, id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for what is to be told: %w", err)
	}
	return ids, nil
}

// tellOne tells one fact and forgets it, unless somebody else is about to.
func (s *Service) tellOne(ctx context.Context, id gid.ID) error {
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		f := &fact{id: id}
		var records, parent *string
		found, err := store.Build(tx).Add(`SELECT f.tenant_id, f.at, f.action, f.outcome, f.actor_id, f.operation_id, f.subject_id, f.about_id, f.count, f.records, f.traceparent
			FROM notify_facts f WHERE f.id = ? AND f.weighed = ?`, id, true).ForUpdateOf("f").
			One(ctx, tx, &f.tenant, &f.at, &f.action, &f.outcome, &f.actor, &f.operation, &f.subject, &f.about, &f.count, &records, &parent)
		if err != nil || !found {
			return err
		}
		if parent != nil {
			f.traceparent = *parent
		}
		if records != nil {
			if f.records, err = parseIDs(*records); err != nil {
				return err
			}
		}
		tellings, err := s.tellings(ctx, tx, f)
		if err != nil {
			return err
		}
		for i := range tellings {
			if err := s.tell(ctx, tx, &tellings[i]); err != nil {
				return err
			}
		}
		_, err = store.Build(tx).Add(`DELETE FROM notify_facts WHERE id = ?`, id).Exec(ctx, tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("telling of %s: %w", id, err)
	}
	return nil
}

func parseIDs(list string) ([]gid.ID, error) {
	var texts []string
	if err := json.Unmarshal([]byte(list), &texts); err != nil {
		return nil, fmt.Errorf("reading the records of a fact: %w", err)
	}
	ids := make([]gid.ID, len(texts))
	for i, text := range texts {
		id, err := gid.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("reading the records of a fact: %w", err)
		}
		ids[i] = id
	}
	return ids, nil
}

// ofRecords is what is told of what became of records.
var ofRecords = map[string]struct {
	kind   Kind
	event  string
	owners bool
}{
	"DELETE":       {notification.KindDELETED, "record.deleted", true},
	"VOID":         {notification.KindVOIDED, "record.voided", true},
	"RESTORE":      {notification.KindRESTORED, "record.restored", true},
	"UNDO":         {notification.KindRESTORED, "record.restored", true},
	"ARCHIVE":      {notification.KindARCHIVED, "record.archived", false},
	"SUSPEND":      {notification.KindSUSPENDED, "record.suspended", false},
	"PURGE":        {notification.KindPURGED, "record.purged", false},
	"HOLD_PLACE":   {notification.KindHOLD_PLACED, "hold.placed", true},
	"HOLD_RELEASE": {notification.KindHOLD_RELEASED, "hold.released", true},
	actionDue:      {notification.KindWILL_BE_PURGED, "record.purge_due", true},
}

// tellings are what is told of a fact: nothing, where nobody is told of such.
func (s *Service) tellings(ctx context.Context, tx *store.Tx, f *fact) ([]telling, error) {
	if f.outcome == audit.Refused {
		if f.action != "PURGE" || f.operation == nil {
			return nil, nil
		}
		return s.ofOperation(ctx, tx, f, notification.KindPURGE_FAILED, "purge.failed", false)
	}
	if of, ok := ofRecords[f.action]; ok {
		t := telling{fact: f, kind: of.kind, event: of.event, owners: of.owners, verb: f.action, source: f.source()}
		if f.action == actionDue {
			t.days = &f.count
		}
		if f.action == "PURGE" {
			if err := s.forget(ctx, tx, f); err != nil {
				return nil, err
			}
		}
		return []telling{t}, nil
	}
	switch f.action {
	case "QUEUE", "SCHEDULE":
		return s.ofOperation(ctx, tx, f, notification.KindOPERATION_FINISHED, "operation.finished", true)
	case "BRAKE", "APPROVAL_ASK", "APPROVE", "REJECT", "APPROVAL_EXPIRE":
		return s.ofApproval(ctx, tx, f)
	case actionAlert:
		to, err := s.alerted(ctx, tx, f)
		return []telling{{fact: f, kind: notification.KindALERT, event: "alert.raised", to: to}}, err
	case actionWebhookDisable:
		var creator gid.ID
		_, err := store.Build(tx).Add(`SELECT created_by_id FROM webhooks WHERE id = ? AND created_by_id IS NOT NULL`, nullID(f.subject)).One(ctx, tx, &creator)
		return []telling{{fact: f, kind: notification.KindWEBHOOK_DISABLED, event: "webhook.disabled", to: []gid.ID{creator}}}, err
	}
	return nil, nil
}

// source are the records of a fact, as they were when it happened.
func (f *fact) source() func(*store.SQL) *store.SQL {
	const events = `SELECT e.record_id, e.record_type, e.owner_id, e.to_state AS state, e.version FROM audit_events e WHERE e.action = ? AND e.outcome = 'SUCCEEDED' AND e.record_id IS NOT NULL AND `
	switch {
	case f.action == actionDue:
		return func(stmt *store.SQL) *store.SQL {
			return stmt.Add(`SELECT p.record_id, p.record_type, p.owner_id, NULL AS state, NULL AS version FROM purge_notices p WHERE p.fact_id = ?`, f.id)
		}
	case f.operation != nil:
		return func(stmt *store.SQL) *store.SQL { return stmt.Add(events+`e.operation_id = ?`, f.action, *f.operation) }
	case len(f.records) == 0:
		return nil
	}
	return func(stmt *store.SQL) *store.SQL {
		return stmt.Add(events+`e.at = ? AND `, f.action, f.at).IDs("e.record_id", f.records)
	}
}

// forget removes what follows records that were purged.
func (s *Service) forget(ctx context.Context, tx *store.Tx, f *fact) error {
	for _, from := range []string{`DELETE FROM follows`, `DELETE FROM notification_records`, `DELETE FROM purge_notices`} {
		if _, err := f.source()(store.Build(tx).Add(from+` WHERE record_id IN (SELECT gone.record_id FROM (`)).Add(`) gone)`).Exec(ctx, tx); err != nil {
			return fmt.Errorf("forgetting what was purged: %w", err)
		}
	}
	return nil
}

// ofOperation is what is told of how an operation ended; with its requester where he
// did not wait for it.
func (s *Service) ofOperation(ctx context.Context, tx *store.Tx, f *fact, kind Kind, event string, requester bool) ([]telling, error) {
	t := telling{fact: f, kind: kind, event: event}
	var by *gid.ID
	found, err := store.Build(tx).Add(`SELECT actor_id, verb FROM operations WHERE id = ?`, nullID(f.operation)).One(ctx, tx, &by, &t.verb)
	if err != nil || !found {
		return nil, err
	}
	if f.actor = by; requester {
		if by != nil {
			t.to = []gid.ID{*by}
		}
		f.actor = nil // he left it alone: that it has ended is news to him
	}
	return []telling{t}, nil
}

// ofApproval is what is told of a request, and of a brake that asks for one.
func (s *Service) ofApproval(ctx context.Context, tx *store.Tx, f *fact) ([]telling, error) {
	var id gid.ID
	var by *gid.ID
	var subject, status, roles string
	stmt := store.Build(tx).Add(`SELECT id, subject, status, roles, requested_by_id FROM approvals WHERE tenant_id = ? AND `, f.tenant)
	if f.subject != nil {
		stmt.Add(`id = ?`, *f.subject)
	} else {
		stmt.Add(`operation_id = ? ORDER BY id DESC LIMIT 1`, nullID(f.operation))
	}
	found, err := stmt.One(ctx, tx, &id, &subject, &status, &roles, &by)
	if err != nil || !found {
		return nil, err
	}
	t := telling{fact: f, kind: notification.KindAPPROVAL_ASKED, event: "approval.asked", approval: &id, verb: subject}
	switch {
	case f.action == "APPROVAL_ASK" && subject == "BRAKE": // told as the brake
		return nil, nil
	case f.action == "BRAKE":
		t.kind, t.event = notification.KindBRAKE_PULLED, "operation.paused"
		fallthrough
	case f.action == "APPROVAL_ASK":
		for role := range strings.FieldsSeq(roles) {
			holders, err := s.Control.Holders(ctx, f.tenant, role)
			if err != nil {
				return nil, fmt.Errorf("asking who may agree: %w", err)
			}
			t.to = append(t.to, holders...)
		}
		if subject == "GRANT" { // which asks no role
			if t.to, err = s.editors(ctx, tx, f.tenant); err != nil {
				return nil, err
			}
		}
		if by != nil && f.action == "APPROVAL_ASK" {
			f.actor = by
		}
	case status == "PENDING": // one of several agreed
		return nil, nil
	default:
		t.kind, t.event = notification.KindAPPROVAL_DECIDED, "approval.decided"
		if by != nil {
			t.to = []gid.ID{*by}
		}
	}
	return []telling{t}, nil
}

// editors are the users who may edit policies.
func (s *Service) editors(ctx context.Context, tx *store.Tx, tenant gid.ID) ([]gid.ID, error) {
	var users []gid.ID
	err := store.Build(tx).Add(`SELECT id FROM users WHERE tenant_id = ? AND active = ? ORDER BY id`, tenant, true).Query(ctx, tx, func(row store.Row) error {
		var id gid.ID
		err := row.Scan(&id)
		users = append(users, id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("asking who may agree: %w", err)
	}
	return slices.DeleteFunc(users, func(user gid.ID) bool {
		return !s.Control.May(ctx, &actor.Actor{Kind: actor.User, Tenant: tenant, User: user}, access.Question{Action: authz.PolicyEdit, Type: "Policy"})
	}), nil
}

// department is who wants to be told of what.
type department struct {
	id      gid.ID
	wants   interest
	webhook *gid.ID
}

type interest struct{ kinds, types []string }

// in reports whether a kind is wanted.
func (i interest) in(kind Kind) bool { return slices.Contains(i.kinds, string(kind)) }

func scanInterest(kinds, types []byte) (i interest, err error) {
	return i, errors.Join(json.Unmarshal(kinds, &i.kinds), json.Unmarshal(types, &i.types))
}

// tell writes notifications and deliveries.
func (s *Service) tell(ctx context.Context, tx *store.Tx, t *telling) error {
	var departments []department
	err := store.Build(tx).Add(`SELECT id, kinds, types, webhook_id FROM departments WHERE tenant_id = ? ORDER BY id`, t.tenant).Query(ctx, tx, func(row store.Row) error {
		var d department
		var kinds, types []byte
		err := row.Scan(&d.id, &kinds, &types, &d.webhook)
		if err == nil {
			d.wants, err = scanInterest(kinds, types)
		}
		if err == nil && d.wants.in(t.kind) {
			departments = append(departments, d)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("reading departments: %w", err)
	}
	if t.kind != notification.KindPURGED { // of which nothing is left to be shown
		if err := s.tellUsers(ctx, tx, t, departments); err != nil {
			return err
		}
	}
	return s.tellWebhooks(ctx, tx, t, departments)
}

// reader is somebody who is told, and of how many records.
type reader struct {
	user    gid.ID
	records int
}

// tellUsers writes one notification for each who is told, and keeps with it which
// records he is told of.
func (s *Service) tellUsers(ctx context.Context, tx *store.Tx, t *telling, departments []department) error {
	var readers []reader
	scan := func(row store.Row) error {
		var r reader
		err := row.Scan(&r.user, &r.records)
		readers = append(readers, r)
		return err
	}
	self := gid.Nil // who did it himself is not told
	if t.actor != nil && t.kind != notification.KindALERT && t.kind != notification.KindWILL_BE_PURGED {
		self = *t.actor
	}
	var err error
	if t.source != nil {
		if !t.owners && len(departments) == 0 {
			return nil
		}
		stmt := t.concerned(store.Build(tx).Add(`SELECT d.user_id, count(*) FROM (`), departments)
		err = stmt.Add(`) d JOIN users u ON u.id = d.user_id WHERE u.tenant_id = ? AND u.active = ? AND u.id <> ? GROUP BY d.user_id ORDER BY d.user_id`, t.tenant, true, self).Query(ctx, tx, scan)
	} else {
		ids := make([]gid.ID, len(departments))
		for i, d := range departments {
			ids[i] = d.id
		}
		err = store.Build(tx).Add(`SELECT u.id, 0 FROM users u WHERE u.tenant_id = ? AND u.active = ? AND u.id <> ? AND (`, t.tenant, true, self).IDs("u.id", t.to).
			Add(` OR u.id IN (SELECT m.user_id FROM department_members m WHERE `).IDs("m.department_id", ids).Add(`)) ORDER BY u.id`).Query(ctx, tx, scan)
	}
	if err != nil {
		return fmt.Errorf("finding who is told: %w", err)
	}
	if len(readers) == 0 {
		return nil
	}
	var count *int
	if t.kind == notification.KindALERT {
		count = &t.count
	}
	rows := make([][]any, len(readers))
	for i, r := range readers {
		rows[i] = []any{
			gid.New(gid.Notification), t.tenant, t.id, r.user, string(t.kind), t.at, nullID(t.operation), nullID(t.approval), nullID(t.subjectOf()), nullID(t.about), nullInt(t.days), nullInt(count), r.records,
		}
	}
	err = tx.Insert(ctx, "notifications", []string{
		"id", "tenant_id", "fact_id", "user_id", "kind", "at", "operation_id", "approval_id", "subject_id", "about_id", "days", "count", "records",
	}, rows)
	if err == nil && t.source != nil {
		stmt := store.Build(tx).Add(`INSERT INTO notification_records (notification_id, record_id) SELECT n.id, d.record_id FROM (
			SELECT c.user_id, c.record_id, row_number() OVER (PARTITION BY c.user_id ORDER BY c.record_id) AS place FROM (`)
		_, err = t.concerned(stmt, departments).Add(`) c) d JOIN notifications n ON n.fact_id = ? AND n.user_id = d.user_id WHERE d.place <= ?`, t.id, MaxRecords).Exec(ctx, tx)
	}
	if err != nil {
		return fmt.Errorf("writing notifications: %w", err)
	}
	for _, r := range readers {
		if s.Told != nil {
			s.Told(tx, r.user)
		}
	}
	return nil
}

// subjectOf is what a notification is about beside operations and requests.
func (t *telling) subjectOf() *gid.ID {
	if t.approval != nil {
		return nil
	}
	return t.subject
}

// concerned appends a query of who is told of which records, each once: owners,
// followers, members of departments.
func (t *telling) concerned(stmt *store.SQL, departments []department) *store.SQL {
	stmt.Add(`SELECT user_id, record_id FROM (`)
	parts := 0
	part := func(text string) {
		if parts++; parts > 1 {
			stmt.Add(` UNION ALL `)
		}
		stmt.Add(text)
	}
	if t.owners {
		part(`SELECT a.owner_id AS user_id, a.record_id FROM (`)
		t.source(stmt).Add(`) a WHERE a.owner_id IS NOT NULL`)
		part(`SELECT f.user_id, a.record_id FROM (`)
		t.source(stmt).Add(`) a JOIN follows f ON f.record_id = a.record_id`)
	}
	for _, d := range departments {
		part(`SELECT m.user_id, a.record_id FROM (`)
		t.source(stmt).Add(`) a JOIN department_members m ON m.department_id = ?`, d.id)
		if len(d.wants.types) > 0 {
			stmt.Add(` WHERE `).Strings("a.record_type", d.wants.types)
		}
	}
	return stmt.Add(`) everybody GROUP BY user_id, record_id`)
}

func nullInt(n *int) any {
	if n == nil {
		return nil
	}
	return *n
}

func text(id *gid.ID) string {
	if id == nil || id.IsZero() {
		return ""
	}
	return id.String()
}
