package graph

import (
	"context"

	"github.com/lethe-crm/lethe/ent"
)

// Resolver is what all resolvers share.
type Resolver struct{ Config }

// client reads what the caller may see, in the document's transaction where
// there is one.
func (r *Resolver) client(ctx context.Context) *ent.Client { return r.Records.Client(ctx) }

// number turns an Int argument into what ent's pagers take.
func number(n *int32) *int {
	if n == nil {
		return nil
	}
	i := int(*n)
	return &i
}
