package record

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// Preview says what an operation would do, if it were asked for now.
type Preview struct {
	// Token, sent with the operation, insists that it is about the records
	// previewed.
	Token string
	// Total is how many records it is about, those that come along included.
	Total  int
	ByType []TypeCount
	// Items are what the operation's items would be.
	Items []*ent.OperationItem
	// Blocked is what stands in the way, of all items together.
	Blocked []Blocked
	// NeedsApproval says that somebody else must agree first.
	NeedsApproval bool
	// Reversible says that the operation could be undone.
	Reversible bool

	run *run
}

// TypeCount counts records of one type.
type TypeCount struct {
	Type    ent.RecordKind
	Count   int
	Changed int
}

// Blocked is a blocker with the record it blocks; zero where there are several.
type Blocked struct {
	Record gid.ID
	Blocker
}

// Preview plans an operation and leaves it at that: it takes no locks and
// writes nothing. A preview the policy would never allow is refused like the
// operation, and the refusal is logged.
func (s *Service) Preview(ctx context.Context, req Request) (*Preview, error) {
	r, err := s.look(ctx, req)
	if err != nil {
		return nil, err
	}
	if store.TxFrom(ctx) == nil {
		n, err := r.weight(ctx, r.q)
		if err != nil {
			return nil, err
		}
		release, err := take(ctx, s.previewRoom, n)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	p, err := r.preview(ctx)
	if refused, ok := errors.AsType[*Error](err); ok && refused.Code == lifecycle.Forbidden {
		s.logPreview(ctx, r, refused)
	}
	return p, err
}

// look is a run that only looks.
func (s *Service) look(ctx context.Context, req Request) (*run, error) {
	r := &run{Service: s, q: s.db, a: actor.From(ctx), req: req}
	if r.a == nil {
		return nil, errors.New("record: a preview for nobody")
	}
	if tx := store.TxFrom(ctx); tx != nil {
		r.q = tx // what the document has done so far counts
	}
	if err := r.check(); err != nil {
		return r, err
	}
	return r, r.checkTimes()
}

func (s *Service) logPreview(ctx context.Context, r *run, refused *Error) {
	e := audit.Event{Action: string(r.req.Verb), Code: refused.Code, Count: len(r.items), Detail: map[string]any{"preview": true}}
	for _, it := range r.items {
		e.IDs = append(e.IDs, it.id.String())
	}
	s.logRefusal(ctx, store.TxFrom(ctx), e)
}

func (r *run) preview(ctx context.Context) (*Preview, error) {
	ctx, err := r.pinned(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	key, err := r.tokenKey()
	if err != nil {
		return nil, err
	}
	p := &Preview{Token: r.picked(key).sealed(key), Reversible: undoable(r.req.Verb), run: r}
	seen := map[gid.ID]uint64{}
	for _, it := range r.all() {
		e, err := it.entity()
		if err != nil {
			return nil, err
		}
		// Stable, so that one page follows another, and another one in another preview.
		copy(e.ID[:], keyed(key, []byte("item"), r.requestHash(key), it.id[:], binary.BigEndian.AppendUint64(nil, seen[it.id])))
		e.ID[15] = byte(gid.OperationItem)
		seen[it.id]++
		p.Items = append(p.Items, e)
	}
	p.Total = len(p.Items)
	p.count(r.all())
	p.block(r.items)
	for _, over := range r.overCaps() {
		p.Blocked = append(p.Blocked, Blocked{Blocker: over.blocker()})
	}
	return p, nil
}

// undoable reports whether what the verb does can be taken back.
func undoable(v lifecycle.Verb) bool {
	return slices.Contains(counted, v) && v != lifecycle.Purge
}

func (p *Preview) count(items []*item) {
	for _, t := range typeOrder {
		c := TypeCount{Type: t.Kind()}
		for _, it := range items {
			if it.typ != t {
				continue
			}
			c.Count++
			if it.outcome == changed {
				c.Changed++
			}
		}
		if c.Count > 0 {
			p.ByType = append(p.ByType, c)
		}
	}
}

// block adds up the blockers of what would fail by what kind they are. One that
// stands alone keeps its particulars.
func (p *Preview) block(items []*item) {
	type kind struct {
		code       lifecycle.Code
		typ, field string
		state      lifecycle.State
		hidden     bool
	}
	at := map[kind]int{}
	for _, it := range items {
		if it.outcome != failed {
			continue
		}
		for _, b := range it.why() {
			k := kind{b.Code, b.Type, b.Field, b.State, b.Hidden}
			if !b.Hidden {
				b.Count = max(b.Count, 1)
			}
			i, ok := at[k]
			if !ok {
				at[k] = len(p.Blocked)
				p.Blocked = append(p.Blocked, Blocked{it.id, b})
				continue
			}
			sum := &p.Blocked[i]
			*sum = Blocked{Blocker: Blocker{Code: b.Code, Type: b.Type, Field: b.Field, State: b.State, Allowed: b.Allowed, Until: latest(sum.Until, b.Until), Hidden: b.Hidden, Count: sum.Count + b.Count}}
		}
	}
}

// why is what an item failed for: its blockers, or its code alone.
func (it *item) why() []Blocker {
	if len(it.blockers) > 0 {
		return it.blockers
	}
	b := Blocker{Code: it.code}
	if it.version > 0 { // of what the caller may not read, not even that it is there
		b.Type = it.typ.Name
	}
	return []Blocker{b}
}
