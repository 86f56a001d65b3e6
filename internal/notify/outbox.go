package notify

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/telemetry"
)

// heard says of the events of the audit log which become facts, and which of their
// particulars names what they are about beside records and operations. Refusals of
// anything do, for alert rules.
var heard = map[string]string{
	"DELETE": "", "VOID": "", "ARCHIVE": "", "SUSPEND": "", "RESTORE": "", "UNDO": "", "PURGE": "",
	"QUEUE": "", "SCHEDULE": "", "BRAKE": "",
	"HOLD_PLACE": "hold", "HOLD_ADD": "hold", "HOLD_RELEASE": "hold",
	"APPROVAL_ASK": "approval", "APPROVE": "approval", "REJECT": "approval", "APPROVAL_EXPIRE": "approval",
	actionAlert: "rule", actionWebhookDisable: "webhook",
}

// Outbox notes facts in the transactions in which they happen.
type Outbox struct {
	wake chan struct{}
}

// NewOutbox returns an outbox; there is one in a process.
func NewOutbox() *Outbox { return &Outbox{make(chan struct{}, 1)} }

// Of implements audit.Feed.
func (o *Outbox) Of(tx *store.Tx) audit.Listener { return &listener{outbox: o, tx: tx} }

// awake lets Run look at what there is to do.
func (o *Outbox) awake() {
	select {
	case o.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// listener gathers the facts of a transaction.
type listener struct {
	outbox *Outbox
	tx     *store.Tx
	facts  []*noted
	last   *noted // most events belong to the same fact as the one before
}

// noted is a fact as it is gathered.
type noted struct {
	id, tenant                       gid.ID
	action                           string
	outcome                          audit.Outcome
	actor, operation, subject, about *gid.ID
	count                            int
	records                          []string
}

// is reports whether an event belongs to a fact.
func (n *noted) is(tenant gid.ID, e *audit.Event, outcome audit.Outcome, subject, about *gid.ID) bool {
	return n.action == e.Action && n.outcome == outcome && n.tenant == tenant && same(n.operation, e.Operation) && same(n.subject, subject) && same(n.about, about)
}

// Hear implements audit.Listener.
func (l *listener) Hear(tenant gid.ID, actor *gid.ID, id gid.ID, e *audit.Event) {
	outcome := e.Outcome
	if outcome == "" {
		outcome = audit.Succeeded
	}
	named, listens := heard[e.Action]
	if outcome == audit.Succeeded && !listens {
		return
	}
	subject := idIn(e, named)
	var about *gid.ID
	if e.Action == actionAlert {
		about = idIn(e, "actor")
	}
	n := l.last
	if n == nil || !n.is(tenant, e, outcome, subject, about) {
		n = l.find(tenant, actor, id, e, outcome, subject, about)
	}
	l.last = n
	n.count++
	if e.Operation == nil && e.RecordID != nil && len(n.records) < MaxRecords {
		n.records = append(n.records, e.RecordID.String())
	}
	if e.Action == actionAlert {
		n.count, _ = e.Detail["count"].(int)
	}
}

func (l *listener) find(tenant gid.ID, actor *gid.ID, id gid.ID, e *audit.Event, outcome audit.Outcome, subject, about *gid.ID) *noted {
	for _, n := range l.facts {
		if n.is(tenant, e, outcome, subject, about) {
			return n
		}
	}
	n := &noted{id: id, tenant: tenant, action: e.Action, outcome: outcome, actor: copied(actor), operation: copied(e.Operation), subject: subject, about: about}
	if e.Operation != nil && subject == nil {
		n.id = factOf(*e.Operation, e.Action, outcome)
	}
	l.facts = append(l.facts, n)
	return n
}

// End implements audit.Listener.
func (l *listener) End(ctx context.Context) error {
	if len(l.facts) == 0 {
		return nil
	}
	stmt := store.Build(l.tx).Add(`INSERT INTO notify_facts (id, tenant_id, at, action, outcome, actor_id, operation_id, subject_id, about_id, count, records, weighed, traceparent) VALUES `)
	parent := orNull(telemetry.Parent(ctx))
	for i, n := range l.facts {
		if i > 0 {
			stmt.Add(`, `)
		}
		var records any
		if len(n.records) > 0 {
			records = store.JSONStrings(n.records)
		}
		stmt.Add(`(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, n.id, n.tenant, l.tx.Now(), n.action, string(n.outcome), nullID(n.actor), nullID(n.operation), nullID(n.subject), nullID(n.about), n.count, records, false, parent)
	}
	// The batches of a job all add to one fact. What is weighed against alert rules is what came since.
	stmt.Add(` ON CONFLICT (id) DO UPDATE SET count = notify_facts.count + excluded.count, weighed = excluded.weighed, at = excluded.at`)
	l.facts, l.last = nil, nil
	l.tx.AfterEnd(func(committed bool) {
		if committed {
			l.outbox.awake()
		}
	})
	return stmt.Queue(ctx, l.tx, func(_ int64, err error) error {
		if err != nil {
			return fmt.Errorf("noting what is to be told: %w", err)
		}
		return nil
	})
}

// factOf is the id of the one fact about what an operation did.
func factOf(operation gid.ID, action string, outcome audit.Outcome) gid.ID {
	sum := sha256.Sum256([]byte(operation.String() + " " + action + " " + string(outcome)))
	var id gid.ID
	copy(id[:], sum[:])
	id[len(id)-1] = byte(gid.Event)
	return id
}

func idIn(e *audit.Event, name string) *gid.ID {
	text, _ := e.Detail[name].(string)
	id, err := gid.Parse(text)
	if err != nil {
		return nil
	}
	return &id
}

func same(a, b *gid.ID) bool { return a == b || a != nil && b != nil && *a == *b }

// copied is a copy: what an event points to may be used again.
func copied(id *gid.ID) *gid.ID {
	if id == nil || id.IsZero() {
		return nil
	}
	c := *id
	return &c
}
