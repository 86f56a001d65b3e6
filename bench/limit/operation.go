package main

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
)

// maxRows is how many records one operation may change, as in Lethe.
const maxRows = 1_000

// operation is a delete, a restore or a purge under way.
type operation struct {
	*handler
	caller *caller
	d      dialect
	verb   string
	sel    selection
	raw    []byte
	id     ref
	now    time.Time

	// keepers are the customers of what is picked, locked, with when they were
	// last in touch.
	keepers map[ref]keeper
	rows    map[ref]*row
	direct  []*row // what was picked, in that order
	binDays int
}

type keeper struct {
	retired bool
	last    *time.Time
}

func newOperation(h *handler, c *caller, verb string, s selection, raw []byte) *operation {
	return &operation{
		handler: h, caller: c, d: h.db.dialect(), verb: verb, sel: s, raw: raw, id: ref(gid.New(gid.Operation)), now: moment(),
		keepers: map[ref]keeper{}, rows: map[ref]*row{},
	}
}

type payload struct {
	Operation struct {
		ID      gid.ID `json:"id"`
		Status  string `json:"status"`
		Changed int    `json:"changed"`
	} `json:"operation"`
}

func (op *operation) payload() payload {
	var p payload
	p.Operation.ID, p.Operation.Status, p.Operation.Changed = gid.ID(op.id), "SUCCEEDED", len(op.rows)
	return p
}

// picked is the kind that is picked, and the condition that selects it: of the
// caller's rows, these ids or this thread.
func (op *operation) picked() (k *kind, where string, args []any, err error) {
	args = []any{op.caller.tenant, op.caller.user, op.d.ids(op.caller.teams)}
	where = `t.tenant_id = $1 AND ` + op.d.visible() + ` AND `
	if op.sel.ThreadKey != "" {
		return kindNamed("Message"), op.d.unindexed + where + op.d.thread, append(args, op.sel.ThreadKey), nil
	}
	ids := make([]ref, len(op.sel.IDs))
	for i, id := range op.sel.IDs {
		ids[i] = ref(id)
	}
	k = kindOf(ids[0])
	if k == nil || slices.ContainsFunc(ids, func(id ref) bool { return kindOf(id) != k }) {
		return nil, "", nil, &problem{"BAD_USER_INPUT", "records of one kind at a time"}
	}
	return k, op.d.unindexed + where + op.d.in("t.id", "$4"), append(args, op.d.ids(ids)), nil
}

// lockKeepers locks the customers of communications before these are locked, in
// the order of their ids: two who each see only their own communication would
// leave the older one behind.
func (op *operation) lockKeepers(k *kind, where string, args []any) []step {
	if k.name == "Customer" {
		return nil
	}
	return []step{{
		sql: `SELECT id, retired_at, last_activity_at FROM customers WHERE tenant_id = $1 AND id IN (SELECT t.customer_id FROM ` + k.table + ` t WHERE ` + where + `)
			ORDER BY id` + op.d.lock("NO KEY UPDATE"),
		args: args,
		each: func(scan scanner) error {
			var id ref
			var retired *time.Time
			var kept keeper
			err := scan(&id, &retired, &kept.last)
			kept.retired = retired != nil
			op.keepers[id] = kept
			return err
		},
	}}
}

// pick keeps a picked row, and refuses one whose customer came too late to be
// locked.
func (op *operation) pick(r *row) error {
	if customer := r.get("customer_id"); r.kind.name != "Customer" && !customer.zero() {
		if _, locked := op.keepers[customer]; !locked {
			return &problem{"CONFLICT", "the selection changes; try again"}
		}
	}
	op.rows[r.id] = r
	op.direct = append(op.direct, r)
	return nil
}

// complete insists that all that was asked for was found.
func (op *operation) complete() error {
	switch want := op.sel.ExpectedCount; {
	case want != 0 && want != len(op.direct):
		return &problem{"CONFLICT", "the selection does not have the expected number of records"}
	case want == 0 && len(op.sel.IDs) != len(op.direct):
		return &problem{"NOT_FOUND", "there is no such record"}
	case len(op.rows) > maxRows:
		return &problem{"LIMIT", "too many records at once"}
	}
	return nil
}

// permitted asks for the verb on each row. What a manager may delete and restore
// is what he may read: his own, and what belongs to his teams.
func (op *operation) permitted() error {
	for _, r := range op.rows {
		if r.get("owner_id") != op.caller.user && !slices.Contains(op.caller.teams, r.get("team_id")) {
			return &problem{"FORBIDDEN", "not all that comes along is yours"}
		}
	}
	return nil
}

// sorted are all rows by depth and id.
func (op *operation) sorted() []*row {
	list := make([]*row, 0, len(op.rows))
	for _, r := range op.rows {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *row) int {
		if a.depth != b.depth {
			return a.depth - b.depth
		}
		return bytes.Compare(a.id[:], b.id[:])
	})
	return list
}

// steps write the operation, and what becomes of each row: picks come first
// among the items, in the order they were given.
func (op *operation) steps(write func(*operation, *kind, []*row) []step) []step {
	list := op.sorted()
	for _, r := range append(slices.Clone(op.direct), list...) {
		if r.item.zero() {
			r.item = ref(gid.New(gid.OperationItem))
		}
	}
	byKind := map[*kind][]*row{}
	for _, r := range list {
		byKind[r.kind] = append(byKind[r.kind], r)
	}
	n := len(list)
	var team ref
	if len(op.caller.teams) > 0 {
		team = op.caller.teams[0]
	}
	steps := []step{{
		sql: `INSERT INTO operations (id, tenant_id, verb, status, mode, cascade, reason, selection, actor_id, team_id, total, processed, changed, unchanged, failed, created_at, finished_at)
			VALUES ($1, $2, $3, 'SUCCEEDED', 'ALL_OR_NOTHING', false, $4, $5, $6, $7, $8, $8, $8, 0, 0, $9, $9)`,
		args: []any{op.id, op.caller.tenant, op.verb, op.reason(), op.raw, op.caller.user, team, n, op.now}, write: true,
	}}
	for _, k := range kinds {
		if rows := byKind[k]; len(rows) > 0 {
			steps = append(steps, write(op, k, rows)...)
		}
	}
	return steps
}

func (op *operation) reason() *string {
	if op.sel.Reason == "" {
		return nil
	}
	return &op.sel.Reason
}

// inTransaction begins and ends what op does.
func (op *operation) inTransaction(ctx context.Context, do func(transaction) error) error {
	tx, err := op.db.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.end()
	return do(tx)
}
