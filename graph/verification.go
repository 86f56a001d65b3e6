package graph

import (
	"context"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/gid"
)

func (r *Resolver) verifyOperation(ctx context.Context, id gid.ID) (*model.Verification, error) {
	if err := checkID(id, "id", gid.Operation); err != nil {
		return nil, err
	}
	found, err := r.Records.VerifyOperation(ctx, id)
	if err != nil {
		return nil, err
	}
	op, err := selected[*ent.Operation](ctx, r, id, "operation")
	if err != nil {
		return nil, err
	}
	out := &model.Verification{Operation: op, Passed: found.Passed(), Changed: whole(found.Changed), Superseded: whole(found.Superseded)}
	for _, c := range found.Checks {
		out.Checks = append(out.Checks, &model.VerificationCheck{
			Name: model.VerificationCheckName(c.Name), Passed: c.Passed(), Checked: whole(c.Checked), Exceptions: whole(c.Exceptions), Records: c.Records,
		})
	}
	return out, nil
}

// whole is a number of records as the API shows it.
func whole(n int) int32 { return int32(n) } //nolint:gosec // there are fewer records than that
