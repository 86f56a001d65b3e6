package record

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
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
	key, err := r.tokenKey()
	if err != nil {
		return nil, err
	}
	p := &Preview{Reversible: undoable(r.req.Verb), run: r}
	err = r.prepare(ctx)
	if errors.Is(err, errLarge) {
		return p, r.previewLarge(ctx, p, key)
	}
	if err != nil {
		return nil, err
	}
	p.Token = r.picked(key).sealed(key)
	if err := p.list(key, r, map[gid.ID]uint64{}); err != nil {
		return nil, err
	}
	p.Total = len(p.Items)
	p.count(r.all())
	p.block(r.items)
	p.stop(r, r.overCaps())
	return p, nil
}

// stop says which caps the operation would be over, and who would have to agree to it.
func (p *Preview) stop(r *run, caps []exceeded) {
	for _, over := range caps {
		p.Blocked = append(p.Blocked, Blocked{Blocker: over.blocker()})
	}
	k := r.asks(caps)
	p.NeedsApproval = k != nil
	for _, b := range k.blockers() {
		p.Blocked = append(p.Blocked, Blocked{Blocker: b})
	}
}

// list appends the items of a plan, each under an id that is stable, so that one page follows another, and another one in
// another preview. seen counts how often each record was listed.
func (p *Preview) list(key []byte, r *run, seen map[gid.ID]uint64) error {
	hash := p.run.requestHash(key)
	for _, it := range r.all() {
		e, err := it.entity()
		if err != nil {
			return err
		}
		copy(e.ID[:], keyed(key, []byte("item"), hash, it.id[:], binary.BigEndian.AppendUint64(nil, seen[it.id])))
		e.ID[15] = byte(gid.OperationItem)
		seen[it.id]++
		p.Items = append(p.Items, e)
	}
	return nil
}

// previewLarge previews what will be a job, batch by batch, as that will be carried out. It lists the items of the first
// batches, up to as many as one transaction takes, and adds the others up.
func (r *run) previewLarge(ctx context.Context, p *Preview, key []byte) error {
	if r.modeGiven == AllOrNothing {
		return r.tooMany()
	}
	r.req.Mode = BestEffort
	r.large = len(r.items) > r.sizes.rows
	if err := r.checkDuplicateOf(ctx); err != nil { // the plan may have been given up before it came to this
		return err
	}
	token := r.picked(key)
	next, err := r.selected(ctx)
	if err != nil {
		return err
	}
	l := &largePreview{Preview: p, key: key, listed: map[gid.ID]uint64{}, known: map[gid.ID]bool{}, taken: map[*ent.RecordType]int{}}
	n, seal := 0, newSeal(key)
	for {
		page, err := next(ctx)
		if err != nil {
			return err
		}
		n += len(page)
		if n > MaxPicks {
			return Refuse(lifecycle.Limit, fmt.Sprintf("more than %d records", MaxPicks), "select")
		}
		if err := r.noneRepeated(page); err != nil {
			return err
		}
		seal.add(page)
		full := len(page) >= pageSize
		for len(page) > 0 {
			batch := page[:min(r.sizes.batch, len(page))]
			page = page[len(batch):]
			if err := l.add(ctx, r, batch); err != nil {
				return err
			}
		}
		if !full {
			break
		}
	}
	if want := r.req.ExpectedCount; want != nil && *want != n {
		return unexpected(*want, n)
	}
	if r.large {
		token.count, token.picks, token.digest = n, nil, seal.sum()
	}
	p.Token = token.sealed(key)
	if err := r.countLiveOf(ctx, l.taken); err != nil {
		return err
	}
	changes := 0
	for _, c := range p.ByType {
		changes += c.Changed
	}
	r.job = max(n, changes)
	p.stop(r, r.over(changes, l.taken))
	return nil
}

// largePreview adds batches up.
type largePreview struct {
	*Preview

	key    []byte
	listed map[gid.ID]uint64
	known  map[gid.ID]bool // what was counted, where it may come again
	taken  map[*ent.RecordType]int
}

// add plans a batch, and adds it up.
func (l *largePreview) add(ctx context.Context, r *run, picks []Version) error {
	b := &run{Service: r.Service, q: r.q, a: r.a, req: r.req, batch: &batch{size: len(picks), most: 2 * r.sizes.rows}}
	if len(picks) == 1 {
		b.batch.most = r.sizes.tree
	}
	b.plan = plan{nodes: map[gid.ID]*node{}, stale: map[gid.ID]*item{}, undo: r.undo, settings: r.settings}
	for _, pick := range picks {
		it := &item{id: pick.ID, typ: ent.RecordTypeOf(pick.ID)}
		if r.names() {
			it.expect = pick.Version
		}
		if l.known[it.id] {
			it.outcome = notProcessed // it came along before
		}
		b.items = append(b.items, it)
	}
	for _, step := range []func(context.Context) error{b.couldEver, b.judge, b.guard, b.checkSize} {
		if err := step(ctx); errors.Is(err, errLarge) && len(picks) > 1 {
			half := len(picks) / 2
			if err := l.add(ctx, r, picks[:half]); err != nil {
				return err
			}
			return l.add(ctx, r, picks[half:])
		} else if errors.Is(err, errLarge) {
			b.plan = plan{items: b.items}
			b.items[0].fail(lifecycle.Limit, Blocker{Limit: r.sizes.tree})
			break
		} else if err != nil {
			return err
		}
	}
	if len(l.Items) == 0 {
		l.run.plan.nodes, l.run.plan.items, l.run.plan.along = b.nodes, b.items, b.along // whom and what the preview can say more of
	}
	b.items = slices.DeleteFunc(b.items, func(it *item) bool { return l.known[it.id] })
	b.along = slices.DeleteFunc(b.along, func(n *node) bool { return l.known[n.row.RecordID()] })
	all := b.all()
	if len(l.Items)+len(all) <= MaxRows {
		if err := l.list(l.key, b, l.listed); err != nil {
			return err
		}
	}
	// A filter's picks are of one type, bring none of it, and nothing twice but by ancestors and cascade.
	if r.req.Select.Filter == nil || r.req.WithAncestors || r.req.Cascade {
		for _, it := range all {
			l.known[it.id] = true
		}
	}
	for t, n := range b.takenLive() {
		l.taken[t] += n
	}
	l.Total += len(all)
	l.count(all)
	l.block(b.items)
	return nil
}

// undoable reports whether what the verb does can be taken back.
func undoable(v lifecycle.Verb) bool {
	return slices.Contains(counted, v) && v != lifecycle.Purge
}

func (p *Preview) count(items []*item) {
	before := p.ByType
	p.ByType = nil
	for _, t := range typeOrder {
		c := TypeCount{Type: t.Kind()}
		if i := slices.IndexFunc(before, func(b TypeCount) bool { return b.Type == c.Type }); i >= 0 {
			c = before[i]
		}
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

// blockKind is what blockers must share to be added up.
type blockKind struct {
	code       lifecycle.Code
	typ, field string
	state      lifecycle.State
	hidden     bool
}

// block adds up the blockers of what would fail by what kind they are. One that
// stands alone keeps its particulars.
func (p *Preview) block(items []*item) {
	at := map[blockKind]int{}
	for i, b := range p.Blocked {
		at[blockKind{b.Code, b.Type, b.Field, b.State, b.Hidden}] = i
	}
	for _, it := range items {
		if it.outcome != failed {
			continue
		}
		for _, b := range it.why() {
			k := blockKind{b.Code, b.Type, b.Field, b.State, b.Hidden}
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
