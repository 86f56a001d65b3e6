package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/99designs/gqlgen/graphql"

	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// common are the fields that the inputs of most verbs have.
type common struct {
	selection      *model.RecordSelector
	states         graphql.Omittable[[]lifecycle.State]
	reason         *string
	mode           *operation.Mode
	expectedCount  *int32
	previewToken   *string
	idempotencyKey *string
	runAt          *time.Time
}

// move is a verb with its input, whether it is carried out or previewed.
type move struct {
	verb lifecycle.Verb
	// mutation is the field that carries it out.
	mutation string
	common   common
	// more reads the fields of this verb's own.
	more func(*record.Request) error
}

func deletion(in *model.DeleteRecordsInput) move {
	c := common{in.Select, in.States, in.Reason.Value(), in.Mode.Value(), in.ExpectedCount.Value(), in.PreviewToken.Value(), in.IdempotencyKey.Value(), in.RunAt.Value()}
	return move{lifecycle.Delete, "deleteRecords", c, func(req *record.Request) error {
		req.Cascade = in.Cascade
		return nil
	}}
}

func archiving(in *model.ArchiveRecordsInput) move {
	c := common{in.Select, in.States, in.Reason.Value(), in.Mode.Value(), in.ExpectedCount.Value(), in.PreviewToken.Value(), in.IdempotencyKey.Value(), in.RunAt.Value()}
	return move{lifecycle.Archive, "archiveRecords", c, func(*record.Request) error { return nil }}
}

func suspending(in *model.SuspendRecordsInput) move {
	c := common{in.Select, in.States, in.Reason.Value(), in.Mode.Value(), in.ExpectedCount.Value(), in.PreviewToken.Value(), in.IdempotencyKey.Value(), in.RunAt.Value()}
	return move{lifecycle.Suspend, "suspendRecords", c, func(req *record.Request) error {
		req.Until, req.Then = &in.Until, in.Then.String()
		return nil
	}}
}

func voiding(in *model.VoidRecordsInput) move {
	c := common{in.Select, in.States, &in.Reason, in.Mode.Value(), in.ExpectedCount.Value(), in.PreviewToken.Value(), in.IdempotencyKey.Value(), in.RunAt.Value()}
	return move{lifecycle.Void, "voidRecords", c, func(req *record.Request) error {
		req.Cascade, req.DuplicateOf = in.Cascade, in.DuplicateOf.Value()
		return recordRef(req.DuplicateOf, "duplicateOf")
	}}
}

func restoration(in *model.RestoreRecordsInput) move {
	c := common{in.Select, in.States, in.Reason.Value(), in.Mode.Value(), in.ExpectedCount.Value(), in.PreviewToken.Value(), in.IdempotencyKey.Value(), in.RunAt.Value()}
	return move{lifecycle.Restore, "restoreRecords", c, func(req *record.Request) error {
		req.Overrides, req.WithAncestors, req.NewParentID = overridesOf(in.Overrides.Value()), in.WithAncestors, in.NewParentID.Value()
		return recordRef(req.NewParentID, "newParentID")
	}}
}

func purging(in *model.PurgeRecordsInput) move {
	c := common{in.Select, in.States, in.Reason.Value(), in.Mode.Value(), in.ExpectedCount.Value(), in.PreviewToken.Value(), in.IdempotencyKey.Value(), in.RunAt.Value()}
	return move{lifecycle.Purge, "purgeRecords", c, func(req *record.Request) error {
		req.IncludeLive = in.IncludeLive
		return nil
	}}
}

func emptying(in *model.EmptyBinInput) move {
	c := common{
		reason: in.Reason.Value(), mode: in.Mode.Value(), expectedCount: in.ExpectedCount.Value(),
		previewToken: in.PreviewToken.Value(), idempotencyKey: in.IdempotencyKey.Value(),
	}
	return move{lifecycle.Purge, "emptyBin", c, func(req *record.Request) (err error) {
		req.Select.Bin, err = binOf(in.Types.Value(), in.DeletedBy.Value())
		return err
	}}
}

func undoing(in *model.UndoOperationInput) move {
	c := common{reason: in.Reason.Value(), mode: in.Mode.Value(), idempotencyKey: in.IdempotencyKey.Value()}
	return move{lifecycle.Undo, "undoOperation", c, func(req *record.Request) error {
		req.Select.Operation = &in.ID
		return checkID(in.ID, "id", gid.Operation)
	}}
}

// run carries a verb out.
func (r *Resolver) run(ctx context.Context, m move) (*model.OperationPayload, error) {
	req, err := m.request(inputOf(ctx))
	if err != nil {
		return nil, err
	}
	op, err := r.Records.Run(ctx, req)
	if err != nil {
		return nil, err
	}
	return &model.OperationPayload{Operation: op}, nil
}

// cancel calls an operation off.
func (r *Resolver) cancel(ctx context.Context, id gid.ID) (*model.OperationPayload, error) {
	if err := checkID(id, "id", gid.Operation); err != nil {
		return nil, err
	}
	op, err := r.Records.Cancel(ctx, id)
	if err != nil {
		return nil, err
	}
	return &model.OperationPayload{Operation: op}, nil
}

// resume goes on with an operation that was stopped.
func (r *Resolver) resume(ctx context.Context, id gid.ID) (*model.OperationPayload, error) {
	if err := checkID(id, "id", gid.Operation); err != nil {
		return nil, err
	}
	op, err := r.Records.Resume(ctx, id)
	if err != nil {
		return nil, err
	}
	return &model.OperationPayload{Operation: op}, nil
}

// inputOf is the argument input of the field, as it was given.
func inputOf(ctx context.Context) map[string]any {
	args := graphql.GetFieldContext(ctx).Field.ArgumentMap(graphql.GetOperationContext(ctx).Variables)
	input, _ := args["input"].(map[string]any)
	return input
}

// request puts a verb into the pipeline's form.
func (m move) request(input map[string]any) (record.Request, error) {
	c := m.common
	req := record.Request{Verb: m.verb, ExpectedCount: number(c.expectedCount), States: c.states.Value(), RunAt: c.runAt}
	for to, from := range map[*string]*string{&req.Reason: c.reason, &req.PreviewToken: c.previewToken, &req.IdempotencyKey: c.idempotencyKey} {
		if from != nil {
			*to = *from
		}
	}
	if c.mode != nil {
		req.Mode = c.mode.String()
	}
	var err error
	if req.Payload, err = m.canonical(input, "idempotencyKey", "previewToken"); err != nil {
		return req, err
	}
	if req.Bound, err = m.canonical(input, "idempotencyKey", "previewToken", "expectedCount", "reason", "mode"); err != nil {
		return req, err
	}
	if c.selection != nil {
		if req.Select, err = selectionOf(c.selection); err != nil {
			return req, err
		}
	}
	return req, m.more(&req)
}

// canonical is the input as it was given but for some fields, by which the same
// request is known again.
func (m move) canonical(input map[string]any, without ...string) (json.RawMessage, error) {
	input = maps.Clone(input)
	// What is absent, null or the default asks for the same.
	maps.DeleteFunc(input, func(_ string, v any) bool { return v == nil || v == "" || v == false })
	for _, name := range without {
		delete(input, name)
	}
	b, err := json.Marshal(map[string]any{m.mutation: input}) // keys come out sorted
	if err != nil {
		return nil, fmt.Errorf("encoding the request: %w", err)
	}
	return b, nil
}
