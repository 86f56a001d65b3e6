package graph

import (
	"context"
	"errors"
	"slices"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/auditevent"
	"github.com/lethe-crm/lethe/ent/notification"
	"github.com/lethe-crm/lethe/ent/operation"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/live"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/transport"
	"github.com/lethe-crm/lethe/internal/visible"
)

// source is where the events of a subscription come from.
type source[T any] interface {
	// wait waits until there may be something to tell.
	wait(ctx context.Context) error
	// look answers what there is to tell to the caller of ctx, which may be nothing.
	// It says over after what comes last. What it failed to look at is there still.
	look(ctx context.Context) (events []T, over bool, err error)
	// again has the next look answer the last n events anew, which were not told.
	again(n int)
	close()
}

// stream is a subscription. gqlgen waits for an event under the context in which
// somebody subscribed; here the event comes first, and with it a context of its own:
// who the caller is by then, what he may see by then.
type stream struct {
	// pull waits for the next event, has it answered next, and returns the context for
	// that. It answers false after the last.
	pull func(ctx context.Context) (context.Context, bool, error)
	// renew makes that context, or answers why there is none.
	renew func(ctx context.Context) (context.Context, error)
}

type streamKey struct{}

const (
	// renewEvery is how long what was read is told under the rights that it was read by.
	renewEvery = time.Second
	// retryFor is how long a subscription outlives errors such as of a database that is
	// away, and retryEvery how often it tries.
	retryFor, retryEvery = 30 * time.Second, time.Second
)

// refusedError ends a subscription whose document the policy no longer allows.
type refusedError struct{ response *graphql.Response }

// Error implements error.
func (refusedError) Error() string {
	return "graph: the policy no longer allows what the document compares"
}

// subscribed runs a subscription.
func (a admission) subscribed(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
	s := &stream{renew: a.renewed}
	responses := next(context.WithValue(ctx, streamKey{}, s))
	if s.pull == nil { // nothing was subscribed to: it was refused
		return responses
	}
	over := false
	return func(ctx context.Context) *graphql.Response {
		if over {
			return nil
		}
		answering, more, err := s.pull(ctx)
		if err == nil && more {
			return responses(answering)
		}
		over = true
		if err == nil || ctx.Err() != nil || errors.Is(err, transport.ErrSignedOut) {
			return nil
		}
		if refused, ok := errors.AsType[refusedError](err); ok {
			return refused.response
		}
		return a.refusal(answering, err)
	}
}

// open has gqlgen answer the events of a source.
func open[T any](ctx context.Context, c Config, from source[T]) <-chan T {
	s, _ := ctx.Value(streamKey{}).(*stream)
	p := &puller[T]{
		Config: c, from: from, renew: s.renew, events: make(chan T, 1), base: ctx,
	}
	context.AfterFunc(ctx, from.close)
	s.pull = p.pull
	return p.events
}

// puller takes the events of a source one by one.
type puller[T any] struct {
	Config

	from   source[T]
	renew  func(ctx context.Context) (context.Context, error)
	events chan T
	// base has what gqlgen tells resolvers, and does not keep for the events.
	base context.Context //nolint:containedctx // REASON: it lasts as long as the subscription, whose this is

	looked, last bool
	waiting      []T
	now          context.Context //nolint:containedctx // REASON: what was read together is answered under one, for a while
	since        time.Time
}

func (p *puller[T]) pull(ctx context.Context) (context.Context, bool, error) {
	if len(p.waiting) > 0 && p.DB.Now().Sub(p.since) > renewEvery { // its reader is slow
		p.from.again(len(p.waiting))
		p.waiting, p.last = nil, false
		if err := p.tryLooking(ctx); err != nil {
			return ctx, false, err
		}
	}
	for len(p.waiting) == 0 {
		if p.last {
			return ctx, false, nil
		}
		if p.looked {
			if err := p.patiently(ctx, func() error { return p.from.wait(ctx) }); err != nil {
				return ctx, false, err
			}
		}
		if err := p.tryLooking(ctx); err != nil {
			return ctx, false, err
		}
	}
	p.events <- p.waiting[0]
	p.waiting = p.waiting[1:]
	return withShared(p.now), true, nil
}

func (p *puller[T]) tryLooking(ctx context.Context) error {
	p.looked = true
	return p.patiently(ctx, func() (err error) {
		p.since = p.DB.Now()
		if p.now, err = p.renew(p.base); err == nil { //nolint:contextcheck // REASON: see base
			p.waiting, p.last, err = p.from.look(withShared(p.now))
		}
		return err
	})
}

// patiently tries again what fails for a while, as where the database is away: clients
// do not ask again for a subscription that ended by an error.
func (p *puller[T]) patiently(ctx context.Context, do func() error) error {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for tries := retryFor / retryEvery; ; tries-- {
		err := do()
		refused, known := errors.AsType[*record.Error](err)
		_, forbidden := errors.AsType[refusedError](err)
		if err == nil || ctx.Err() != nil || tries == 0 || forbidden || errors.Is(err, transport.ErrSignedOut) || known && refused.Code != lifecycle.AuthzUnavailable {
			return err
		}
		p.Log.WarnContext(ctx, "a subscription waits for the database", "error", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// renewed is the context of a subscription's caller as he is now, and under the policy
// as it is now.
func (a admission) renewed(ctx context.Context) (context.Context, error) {
	ctx, err := a.Callers.Latest(ctx)
	if err != nil {
		return ctx, err
	}
	who := actor.From(ctx)
	pinned, err := a.Control.Repin(ctx, who.Tenant)
	if err != nil {
		return ctx, record.Refuse(lifecycle.AuthzUnavailable, "Access could not be decided; try again.")
	}
	rows := a.Control.Rows(pinned, who)
	ctx = ent.WithRecordHost(visible.With(pinned, rows), host{a.Config})
	if refused := a.refuseHidden(ctx, rows); refused != nil {
		return ctx, refusedError{refused}
	}
	return ctx, nil
}

const (
	// progressEvery is how often an operation is looked at while it gets on.
	progressEvery = 100 * time.Millisecond
	// loadedTogether is how many records are read at a time.
	loadedTogether = 500
	// recent is how long a notification may take from being made to being seen.
	recent = 30 * time.Second
)

func (r *Resolver) operationProgress(ctx context.Context, id gid.ID) (<-chan *ent.Operation, error) {
	if err := checkID(id, "id", gid.Operation); err != nil {
		return nil, err
	}
	found, err := r.client(ctx).Operation.Query().Where(operation.ID(id)).Exist(ctx)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, record.Refuse(lifecycle.NotFound, "There is no such operation.", "id")
	}
	p := &progress{r: r, id: id, field: graphql.GetFieldContext(ctx).Field}
	p.signal, p.end = r.Feed.Signal(id)
	return open(ctx, r.Config, p), nil
}

// progress is that of an operation.
type progress struct {
	r      *Resolver
	id     gid.ID
	field  graphql.CollectedField
	signal *live.Signal
	end    func()
	told   *ent.Operation // as it was when it was last told of
}

func (p *progress) close() { p.end() }

func (p *progress) again(int) { p.told = nil }

func (p *progress) wait(ctx context.Context) error {
	timer := time.NewTimer(progressEvery)
	defer timer.Stop()
	if err := p.signal.Wait(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

func (p *progress) look(ctx context.Context) ([]*ent.Operation, bool, error) {
	now, err := p.r.client(ctx).Operation.Query().Where(operation.ID(p.id)).Select(
		operation.FieldStatus, operation.FieldTotal, operation.FieldProcessed, operation.FieldChanged, operation.FieldUnchanged, operation.FieldFailed, operation.FieldFinishedAt,
	).Only(ctx)
	if ent.IsNotFound(err) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	over := now.FinishedAt != nil
	if t := p.told; t != nil && t.Status == now.Status && t.Total == now.Total && t.Processed == now.Processed && t.Changed == now.Changed && t.Unchanged == now.Unchanged && t.Failed == now.Failed {
		return nil, over, nil
	}
	found, err := p.r.client(ctx).NodesByID(ctx, []gid.ID{p.id}, &p.field)
	op, ok := found[p.id].(*ent.Operation)
	if err != nil || !ok {
		return nil, err == nil, err
	}
	p.told = now
	return []*ent.Operation{op}, over, nil
}

func (r *Resolver) recordChanged(ctx context.Context, types []ent.RecordKind, ids []gid.ID) (<-chan *model.RecordEvent, error) {
	e := &recordEvents{r: r}
	if types != nil {
		e.types = map[string]bool{}
		for _, kind := range types {
			e.types[typeOfKind(kind)] = true
		}
	}
	if ids != nil {
		e.ids = map[gid.ID]bool{}
		for _, id := range ids {
			if ent.RecordTypeOf(id) == nil {
				return nil, badInput("is not the id of a record", "ids")
			}
			e.ids[id] = true
		}
	}
	field := graphql.GetFieldContext(ctx).Field
	e.record, e.operation = below(ctx, field, "record"), below(ctx, field, "operation")
	var err error
	if e.changes, err = r.Feed.Changes(ctx, actor.From(ctx).Tenant); err != nil {
		return nil, err
	}
	return open(ctx, r.Config, e), nil
}

// recordEvents are the changes of records.
type recordEvents struct {
	r                 *Resolver
	types             map[string]bool // nil is all
	ids               map[gid.ID]bool // nil is all
	record, operation *graphql.CollectedField
	changes           *live.Changes
	waiting           []live.Change
	shown             []live.Change // by the events that were answered last
}

func (e *recordEvents) close() { e.changes.Close() }

func (e *recordEvents) again(n int) {
	e.waiting = slices.Concat(e.shown[len(e.shown)-n:], e.waiting)
}

func (e *recordEvents) wait(ctx context.Context) error {
	for len(e.waiting) == 0 {
		changes, err := e.changes.Next(ctx)
		if errors.Is(err, live.ErrLost) {
			return record.Refuse(lifecycle.Limit, "Too many changes came at once. Read again what you show, and subscribe again.")
		}
		if err != nil {
			return err
		}
		for _, c := range changes {
			if t := ent.RecordTypeOf(c.Record); t != nil && (e.types == nil || e.types[t.Name]) && (e.ids == nil || e.ids[c.Record]) {
				e.waiting = append(e.waiting, c)
			}
		}
	}
	return nil
}

// look answers what the caller may know of the next changes.
func (e *recordEvents) look(ctx context.Context) ([]*model.RecordEvent, bool, error) {
	some := e.waiting[:min(loadedTogether, len(e.waiting))]
	if len(some) == 0 {
		return nil, false, nil
	}
	records, err := e.records(ctx, some)
	if err != nil {
		return nil, false, err
	}
	gone, err := e.gone(ctx, some, records)
	if err != nil {
		return nil, false, err
	}
	operations, err := e.operations(ctx, some)
	if err != nil {
		return nil, false, err
	}
	e.waiting, e.shown = e.waiting[len(some):], nil
	var events []*model.RecordEvent
	for _, c := range some {
		rec := records[c.Record]
		if rec == nil && !gone[c.Event] {
			continue
		}
		event := &model.RecordEvent{
			At: c.At, Action: model.RecordChange(c.Action), RecordID: c.Record, Type: ent.RecordTypeOf(c.Record).Kind(), Record: rec, From: c.From, To: c.To, Version: c.Version,
		}
		if c.Operation != nil {
			event.Operation = operations[*c.Operation]
		}
		events, e.shown = append(events, event), append(e.shown, c)
	}
	return events, false, nil
}

// records are those that the caller may read now.
func (e *recordEvents) records(ctx context.Context, changes []live.Change) (map[gid.ID]ent.Record, error) {
	var ids []gid.ID
	for _, c := range changes {
		if c.To != nil {
			ids = append(ids, c.Record)
		}
	}
	if e.record == nil {
		return e.r.columns(ctx, ids, func(*ent.RecordType) []string { return nil })
	}
	found, err := e.r.client(ctx).NodesByID(ctx, ids, e.record)
	records := make(map[gid.ID]ent.Record, len(found))
	for id, node := range found {
		records[id], _ = node.(ent.Record)
	}
	return records, err
}

// gone are the events of records that left what the caller may read, by being retired
// or purged: of which he knows once he looks for them.
func (e *recordEvents) gone(ctx context.Context, changes []live.Change, readable map[gid.ID]ent.Record) (map[gid.ID]bool, error) {
	var ids []any
	for _, c := range changes {
		if readable[c.Record] == nil && (c.To == nil || c.To.Retired()) {
			ids = append(ids, c.Event)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	table := sql.Dialect(e.r.DB.Dialect()).Table(auditevent.Table)
	events := sql.Dialect(e.r.DB.Dialect()).Select(table.C(auditevent.FieldID)).From(table).Where(sql.In(table.C(auditevent.FieldID), ids...))
	e.r.Control.Rows(ctx, actor.From(ctx)).WhereWas(events)
	gone := map[gid.ID]bool{}
	err := store.Select(ctx, e.r.DB, events, func(row store.Row) error {
		var id gid.ID
		err := row.Scan(&id)
		gone[id] = true
		return err
	})
	return gone, err
}

func (e *recordEvents) operations(ctx context.Context, changes []live.Change) (map[gid.ID]*ent.Operation, error) {
	if e.operation == nil {
		return nil, nil
	}
	operations := map[gid.ID]*ent.Operation{}
	var ids []gid.ID
	for _, c := range changes {
		if c.Operation == nil {
			continue
		}
		if _, named := operations[*c.Operation]; !named {
			operations[*c.Operation] = nil
			ids = append(ids, *c.Operation)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	found, err := e.r.client(ctx).NodesByID(ctx, ids, e.operation)
	for id, node := range found {
		operations[id], _ = node.(*ent.Operation)
	}
	return operations, err
}

func (r *Resolver) newNotifications(ctx context.Context) (<-chan *ent.Notification, error) {
	n := &newNotifications{r: r, field: graphql.GetFieldContext(ctx).Field, asked: gid.New(gid.Notification).Time()}
	before, err := n.recent(ctx, n.asked)
	if err != nil {
		return nil, err
	}
	n.keep(before) // is no news
	n.signal, n.end = r.Feed.Signal(actor.From(ctx).User)
	return open(ctx, r.Config, n), nil
}

// newNotifications are those that come to a user.
type newNotifications struct {
	r      *Resolver
	field  graphql.CollectedField
	signal *live.Signal
	end    func()
	asked  time.Time       // when it was last looked
	seen   map[gid.ID]bool // of those that were recent then
	told   []gid.ID        // last
}

func (n *newNotifications) close() { n.end() }

func (n *newNotifications) wait(ctx context.Context) error { return n.signal.Wait(ctx) }

func (n *newNotifications) again(left int) {
	for _, id := range n.told[len(n.told)-left:] {
		delete(n.seen, id)
	}
}

// recent are the notifications that may have been committed since it was last looked.
func (n *newNotifications) recent(ctx context.Context, looked time.Time) ([]gid.ID, error) {
	since := gid.Derive(gid.Notification, looked.Add(-recent), "")
	return n.r.client(ctx).Notification.Query().Where(notification.IDGT(since)).Order(notification.ByID()).IDs(ctx)
}

func (n *newNotifications) keep(ids []gid.ID) {
	n.seen = make(map[gid.ID]bool, len(ids))
	for _, id := range ids {
		n.seen[id] = true
	}
}

func (n *newNotifications) look(ctx context.Context) ([]*ent.Notification, bool, error) {
	now := gid.New(gid.Notification).Time()
	ids, err := n.recent(ctx, n.asked)
	if err != nil {
		return nil, false, err
	}
	unseen := slices.DeleteFunc(slices.Clone(ids), func(id gid.ID) bool { return n.seen[id] })
	var found map[gid.ID]ent.Noder
	if len(unseen) > 0 {
		if found, err = n.r.client(ctx).NodesByID(ctx, unseen, &n.field); err != nil {
			return nil, false, err
		}
	}
	n.keep(ids)
	n.asked, n.told = now, nil
	var told []*ent.Notification
	for _, id := range unseen {
		if node, ok := found[id].(*ent.Notification); ok {
			told, n.told = append(told, node), append(n.told, id)
		}
	}
	return told, false, nil
}

// panicked logs what an operation on a socket panicked with.
func (c Config) panicked(ctx context.Context, value any) *gqlerror.Error {
	return c.present(ctx, c.recovered(ctx, value))
}
