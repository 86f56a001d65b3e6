package record

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/operationitem"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// Blocker is a parameter of an item's code, as it is kept with the item: ids
// and names of fields, never values.
type Blocker struct {
	Code      lifecycle.Code   `json:"code"`
	Type      string           `json:"type,omitempty"`
	Count     int              `json:"count,omitempty"`
	Record    string           `json:"record,omitempty"` // UUID
	Field     string           `json:"field,omitempty"`
	State     lifecycle.State  `json:"state,omitempty"`
	Version   int              `json:"version,omitempty"`
	Allowed   []lifecycle.Verb `json:"allowed,omitempty"`
	Operation string           `json:"operation,omitempty"` // UUID
	Until     *time.Time       `json:"until,omitempty"`
	Limit     int              `json:"limit,omitempty"` // of which Count is more
	Role      string           `json:"role,omitempty"`  // of which Count have to agree
	Hidden    bool             `json:"hidden,omitempty"`
}

// item is what becomes of one id that was picked.
type item struct {
	id     gid.ID
	typ    *ent.RecordType // nil for an id of no record type
	expect int             // the version the caller saw; zero for any
	node   *node           // nil while nothing is to be done to it

	version int // of the row; zero where there is none the caller may read

	// key is the id of an item that was written down before; zero for a new one. It may have been picked, and come along
	// all the same.
	key    gid.ID
	picked bool

	outcome  string
	code     lifecycle.Code
	blockers []Blocker
}

func (it *item) fail(code lifecycle.Code, blockers ...Blocker) {
	it.outcome, it.code, it.node = failed, code, nil
	it.blockers = blockers
	for i := range it.blockers {
		if it.blockers[i].Code == "" {
			it.blockers[i].Code = code
		}
	}
}

// node is one record in the reach of the operation.
type node struct {
	row   ent.Record
	item  *item // the pick it stems from; nil when it comes along
	depth int
	above []*node // what brings it along, nearest first
	below []*node

	// problem is why the verb cannot be applied to it.
	problem  lifecycle.Code
	blockers []Blocker

	// to is the state it goes to; empty when the row goes.
	to lifecycle.State
	// pop is what it goes back to, when restored.
	pop *prior
	// awake says that it goes back to a suspension which has ended meanwhile.
	awake bool

	included bool
	cameWith *gid.ID
	// under is an owner of a pick that a batch before took.
	under *gid.ID
	// waits is the item of a record that comes along and was picked, too, by a job that has not come to it yet.
	waits gid.ID
}

// prior is what an item keeps of its record.
type prior struct {
	state      lifecycle.State
	operation  *gid.ID
	purgeAfter *time.Time
	retiredAt  *time.Time
	changedAt  *time.Time
	changedBy  *gid.ID
	reason     *string
}

func priorOf(row ent.Record) prior {
	p := prior{state: row.RecordState(), operation: refOf(row, "operation_id"), changedBy: refOf(row, "state_changed_by_id")}
	p.purgeAfter, p.retiredAt, p.changedAt = timeOf(row, "purge_after"), timeOf(row, "retired_at"), timeOf(row, "state_changed_at")
	if reason, ok := row.Column("state_reason").(string); ok {
		p.reason = &reason
	}
	return p
}

func timeOf(row ent.Record, column string) *time.Time {
	t, ok := row.Column(column).(time.Time)
	if !ok {
		return nil
	}
	return &t
}

// asItem is the item of a record that came along.
func (n *node) asItem() *item {
	return &item{id: n.row.RecordID(), typ: n.row.RecordType(), node: n, outcome: changed, key: n.waits, picked: !n.waits.IsZero()}
}

// itemColumns are those of operation_items, in the order of fill.
var itemColumns = []string{
	"id", "tenant_id", "operation_id", "record_id", "direct", "depth", "came_with", "outcome", "code", "params",
	"prior_state", "prior_operation_id", "prior_purge_after", "prior_retired_at", "prior_changed_at", "prior_changed_by", "prior_reason", "version",
}

// entity is the item as it is kept, but for its id and its operation.
func (it *item) entity() (*ent.OperationItem, error) {
	e := &ent.OperationItem{RecordID: it.id, Direct: true, Outcome: operationitem.Outcome(it.outcome)}
	if it.code != "" {
		code := string(it.code)
		e.Code = &code
	}
	if len(it.blockers) > 0 {
		b, err := json.Marshal(it.blockers)
		if err != nil {
			return nil, fmt.Errorf("encoding blockers: %w", err)
		}
		e.Params = b
	}
	n := it.node
	if n == nil {
		return e, nil
	}
	e.Direct, e.Depth = n.item != nil || it.picked, n.depth
	if it.picked {
		e.Depth = 0
	}
	if it.outcome == changed {
		p := priorOf(n.row)
		e.CameWith, e.Version = n.cameWith, n.row.RecordVersion()
		e.PriorState, e.PriorOperationID, e.PriorPurgeAfter, e.PriorRetiredAt = &p.state, p.operation, p.purgeAfter, p.retiredAt
		e.PriorChangedAt, e.PriorChangedBy, e.PriorReason = p.changedAt, p.changedBy, p.reason
	}
	return e, nil
}

func (it *item) fill(r *run, row []any) error {
	e, err := it.entity()
	if err != nil {
		return err
	}
	var params, state, reason any
	if e.Params != nil {
		params = e.Params
	}
	if e.PriorState != nil {
		state = string(*e.PriorState)
	}
	if e.PriorReason != nil {
		reason = *e.PriorReason
	}
	key := it.key
	if key.IsZero() {
		key = gid.New(gid.OperationItem)
	}
	copy(row, []any{
		key, r.a.Tenant, r.id, e.RecordID, e.Direct, e.Depth, nullID(e.CameWith), string(e.Outcome), nullText(string(it.code)), params,
		state, nullID(e.PriorOperationID), nullTime(e.PriorPurgeAfter), nullTime(e.PriorRetiredAt), nullTime(e.PriorChangedAt), nullID(e.PriorChangedBy), reason, e.Version,
	})
	return nil
}
