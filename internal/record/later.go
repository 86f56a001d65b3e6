package record

import (
	"context"
	"crypto/hmac"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// MaxPicks is how many records an operation may select. What comes along is not
// counted.
const MaxPicks = 1_000_000

// later is what is kept of a request that is carried out later. What it is about
// is kept as the operation's items: each has its place in the line, and the
// version the caller saw, if he named one.
type later struct {
	Mode          string                       `json:"mode,omitempty"` // as it was given
	Reason        string                       `json:"reason,omitempty"`
	Previewed     bool                         `json:"previewed,omitempty"`
	ByFilter      bool                         `json:"byFilter,omitempty"`
	Cascade       bool                         `json:"cascade,omitempty"`
	IncludeLive   bool                         `json:"includeLive,omitempty"`
	DuplicateOf   *gid.ID                      `json:"duplicateOf,omitempty"`
	Undoes        *gid.ID                      `json:"undoes,omitempty"`
	Overrides     map[gid.ID]map[string]string `json:"overrides,omitempty"`
	WithAncestors bool                         `json:"withAncestors,omitempty"`
	NewParentID   *gid.ID                      `json:"newParentID,omitempty"`
	Until         *time.Time                   `json:"until,omitempty"`
	Then          string                       `json:"then,omitempty"`

	// Approval is the one by which it runs, and Agreed what that was for.
	Approval *gid.ID  `json:"approval,omitempty"`
	Agreed   *payload `json:"agreed,omitempty"`

	// Progress is what a job must know of its batches so far.
	Progress progress `json:"progress,omitzero"`
}

// progress is what a job that has begun keeps.
type progress struct {
	Taken   map[string]int `json:"taken,omitempty"` // live records changed, by type
	Types   []string       `json:"types,omitempty"` // of which any record was changed
	Place   int            `json:"place,omitempty"` // in the line up to which nothing waits any more: what was done is not looked through again
	Refused []string       `json:"refused,omitempty"`
	Code    lifecycle.Code `json:"code,omitempty"` // of the first that was refused
}

// keep writes an operation down with what it is about, for it to be carried out
// later.
func (r *run) keep(ctx context.Context, status operation.Status) (*ent.Operation, error) {
	req := r.req
	kept := later{
		Mode: r.modeGiven, Reason: req.Reason, Previewed: r.token != nil || r.previewed, ByFilter: r.byFilter(), Cascade: req.Cascade, IncludeLive: req.IncludeLive, DuplicateOf: req.DuplicateOf,
		Undoes: r.undone(), Overrides: req.Overrides, WithAncestors: req.WithAncestors, NewParentID: req.NewParentID, Until: req.Until, Then: req.Then,
	}
	request, err := json.Marshal(kept)
	if err != nil {
		return nil, fmt.Errorf("encoding a request: %w", err)
	}
	op := &ent.Operation{
		ID: r.id, TenantID: r.a.Tenant, Verb: req.Verb, Status: status, Mode: operation.Mode(req.Mode), Cascade: req.Cascade,
		Selection: req.Payload, Request: request, ActorID: r.a.UserRef(), TeamID: r.a.FirstTeam(), UndoesID: r.undone(), DuplicateOfID: req.DuplicateOf,
		Total: len(r.items), Imported: r.imported(), CreatedAt: r.tx.Now(), RunAt: req.RunAt,
	}
	if err := r.insertOperation(ctx, op); err != nil {
		return nil, err
	}
	if r.large {
		if op.Total, err = r.freeze(ctx); err != nil {
			return nil, err
		}
		if _, err = store.Build(r.tx).Add(`UPDATE operations SET total = ? WHERE id = ?`, op.Total, op.ID).Exec(ctx, r.tx); err != nil {
			return nil, fmt.Errorf("writing the operation: %w", err)
		}
	} else {
		picks := make([]waitingPick, len(r.items))
		for i, it := range r.items {
			picks[i] = waitingPick{Version: Version{it.id, it.expect}, again: it.code == lifecycle.DuplicateInput}
		}
		if err := r.insertPicks(ctx, picks, 0); err != nil {
			return nil, err
		}
	}
	return r.Client(ctx).AdoptOperation(op), nil
}

// freeze writes down what a selection is of that is too large for memory, and
// answers how many that are.
func (r *run) freeze(ctx context.Context) (int, error) {
	next, err := r.selected(ctx)
	if err != nil {
		return 0, err
	}
	key, err := r.tokenKey()
	if err != nil {
		return 0, err
	}
	n, seal, seen := 0, newSeal(key), map[gid.ID]bool{}
	for {
		page, err := next(ctx)
		if err != nil {
			return 0, err
		}
		if err := r.noneRepeated(page); err != nil {
			return 0, err
		}
		seal.add(page)
		picks := make([]waitingPick, len(page))
		for i, p := range page {
			picks[i].ID = p.ID
			if r.names() { // what nobody named is judged as it is then
				picks[i].Version, picks[i].again = p, seen[p.ID]
				seen[p.ID] = true
			}
		}
		if err := r.insertPicks(ctx, picks, n); err != nil {
			return 0, err
		}
		n += len(page)
		if n > MaxPicks {
			return 0, Refuse(lifecycle.Limit, fmt.Sprintf("more than %d records", MaxPicks), "select")
		}
		if len(page) < pageSize {
			break
		}
	}
	if want := r.req.ExpectedCount; want != nil && *want != n {
		return 0, unexpected(*want, n)
	}
	if r.token != nil && !hmac.Equal(r.token.digest, seal.sum()) {
		return 0, changedSince(r.token.size(), n)
	}
	return n, nil
}

// insertPicks writes down picks that wait, after so many others.
func (r *run) insertPicks(ctx context.Context, picks []waitingPick, after int) error {
	columns := []string{"id", "tenant_id", "operation_id", "record_id", "direct", "outcome", "code", "version", "pending"}
	err := r.tx.InsertEach(ctx, "operation_items", columns, len(picks), func(i int, row []any) error {
		p, code := picks[i], ""
		if p.again {
			code = string(lifecycle.DuplicateInput)
		}
		copy(row, []any{gid.New(gid.OperationItem), r.a.Tenant, r.id, p.ID, true, notProcessed, nullText(code), p.Version.Version, place(p.ID, after+i+1)})
		return nil
	})
	if err == nil {
		err = r.tx.Flush(ctx)
	}
	if err != nil {
		return fmt.Errorf("writing the picks: %w", err)
	}
	return nil
}

// place is where the nth pick stands in the line: owners before what they own, so that nothing is restored below what is
// still in the bin, nor created below what is about to go.
func place(id gid.ID, n int) int {
	rank := slices.Index(typeOrder, ent.RecordTypeOf(id)) // -1 for an id of no record
	return (rank+1)<<32 + n
}

// readLater takes up the request of an operation that was written down before.
func (r *run) readLater(op *ent.Operation) error {
	kept := &r.kept
	*kept = later{}
	if err := json.Unmarshal(op.Request, kept); err != nil {
		return fmt.Errorf("reading a request: %w", err)
	}
	r.stored, r.previewed, r.modeGiven = op, kept.Previewed, kept.Mode
	r.req = Request{
		Verb: op.Verb, Mode: string(op.Mode), Payload: op.Selection, Reason: kept.Reason, Cascade: kept.Cascade, IncludeLive: kept.IncludeLive, DuplicateOf: kept.DuplicateOf,
		Overrides: kept.Overrides, WithAncestors: kept.WithAncestors, NewParentID: kept.NewParentID, Until: kept.Until, Then: kept.Then,
	}
	return nil
}

// waitingPick is a pick that waits, with its item.
type waitingPick struct {
	item  gid.ID
	place int
	Version
	again bool // it stands in the input before
}

// waiting are the first picks in the line.
func (r *run) waiting(ctx context.Context, most int) ([]waitingPick, error) {
	var picks []waitingPick
	err := store.Build(r.tx).Add(`SELECT id, pending, record_id, version, code IS NOT NULL FROM operation_items WHERE operation_id = ? AND pending IS NOT NULL AND pending > ?
		ORDER BY pending LIMIT ?`, r.id, r.kept.Progress.Place, most).
		Query(ctx, r.tx, func(row store.Row) error {
			var p waitingPick
			err := row.Scan(&p.item, &p.place, &p.ID, &p.Version.Version, &p.again)
			picks = append(picks, p)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("reading what waits: %w", err)
	}
	return picks, nil
}
