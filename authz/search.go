package authz

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Sought is what a search is for.
type Sought string

// The kinds of things that are searched for.
const (
	SoughtSubjects  Sought = "subjects"
	SoughtResources Sought = "resources"
	SoughtActions   Sought = "actions"
)

// Search asks which things there are that decisions may be asked about.
type Search struct {
	Tenant string
	For    Sought
	Type   string // of the subjects or resources; of the resources that the actions are done to
	After  string // only ids greater than this one are wanted
	Limit  int
}

// Searcher is implemented by plugins that know subjects, resources or actions of which the application has no list.
// It answers by id (of an action: its name), ascending, and at most Limit. To list is not to permit: the chain decides
// on each thing that was found.
type Searcher interface {
	Search(ctx context.Context, s Search) ([]Entity, error)
}

// Search returns what the members know together, each id once, by id. When one of them fails the answer would have
// holes, and is an error.
func (c *Chain) Search(ctx context.Context, s Search) ([]Entity, error) {
	members := slices.DeleteFunc(slices.Clone(c.members), func(m Member) bool {
		_, ok := m.Plugin.(Searcher)
		return !ok || m.Role == Shadow
	})
	type answer struct {
		found []Entity
		err   error
	}
	var out []Entity
	for _, a := range askAll(members, func(m Member) answer {
		ended := c.begin(m, MethodSearch, 1)
		found, why, failure := call(c.under(ctx, m), c, m, func(ctx context.Context) ([]Entity, error) {
			return m.Plugin.(Searcher).Search(ctx, s) //nolint:forcetypeassert // only such are asked
		})
		ended(ctx, failure, nil)
		if why != nil {
			return answer{err: fmt.Errorf("authz: searching in %q: %s", m.Name, why[0].Detail)}
		}
		return answer{found: found}
	}) {
		if a.err != nil {
			return nil, a.err
		}
		for _, e := range a.found {
			if e.ID > s.After {
				out = append(out, e)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Entity) int { return cmp.Compare(a.ID, b.ID) })
	out = slices.CompactFunc(out, func(a, b Entity) bool { return a.ID == b.ID })
	return out[:min(len(out), s.Limit)], nil
}
