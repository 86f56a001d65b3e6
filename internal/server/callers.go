package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/transport"
)

// checkEvery is how often it is asked whether those who are connected may still be:
// twice as often as is promised.
const checkEvery = time.Second

// maxConnections is how many sockets and streams one user may have open at a time.
const maxConnections = 50

// Stayers says of actors who came in whether they may stay, as identity.Service does.
type Stayers interface {
	Still(ctx context.Context, actors []*actor.Actor) ([]*actor.Actor, error)
}

// Callers knows who is connected, and ends the connections of those who may no longer
// be, and all when the server stops. It implements transport.Callers.
type Callers struct {
	signIn  func(ctx context.Context, token string) (*actor.Actor, error)
	stayers Stayers
	log     *slog.Logger

	mu       sync.Mutex
	held     map[*hold]struct{}
	of       map[gid.ID]int // connections, by user
	stopping bool
	released chan struct{} // closed when the server stops and nothing is held
}

var _ transport.Callers = (*Callers)(nil)

// hold is one connection of a caller.
type hold struct {
	by     atomic.Pointer[actor.Actor] // nil where nobody has signed in
	asked  atomic.Uint64               // operations, to name them
	cancel context.CancelCauseFunc
}

type holdKey struct{}

// NewCallers returns nobody yet. Tokens are taken as in requests.
func NewCallers(own identity.Authenticator, issued Issued, stayers Stayers, log *slog.Logger) *Callers {
	return &Callers{stayers: stayers, log: log, held: map[*hold]struct{}{}, of: map[gid.ID]int{}, released: make(chan struct{}), signIn: func(ctx context.Context, token string) (*actor.Actor, error) {
		return authenticate(ctx, own, issued, token, log)
	}}
}

// SignIn implements transport.Callers.
func (c *Callers) SignIn(ctx context.Context, token string) (context.Context, bool, error) {
	if token == "" {
		return ctx, actor.From(ctx) != nil, nil
	}
	a, err := c.signIn(ctx, token)
	if err != nil {
		c.log.ErrorContext(ctx, "authenticating failed", "error", err)
		return ctx, false, err
	}
	if a == nil {
		return ctx, false, nil
	}
	a.RequestID = RequestID(ctx)
	return actor.With(ctx, a), true, nil
}

// Hold implements transport.Callers.
func (c *Callers) Hold(ctx context.Context) (context.Context, func(), error) {
	return c.hold(ctx, actor.From(ctx))
}

// Attend implements transport.Callers.
func (c *Callers) Attend(ctx context.Context) (context.Context, func()) {
	ctx, release, _ := c.hold(ctx, nil) // which refuses users only
	return ctx, release
}

func (c *Callers) hold(ctx context.Context, by *actor.Actor) (context.Context, func(), error) {
	h := &hold{}
	h.by.Store(by)
	c.mu.Lock()
	defer c.mu.Unlock()
	if by != nil {
		if c.of[by.User] >= maxConnections {
			return ctx, nil, transport.ErrTooMany
		}
		c.of[by.User]++
	}
	ctx, h.cancel = context.WithCancelCause(context.WithValue(ctx, holdKey{}, h))
	c.held[h] = struct{}{}
	if c.stopping {
		h.cancel(transport.ErrStopping)
	}
	return ctx, func() {
		h.cancel(nil)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.held, h)
		if by != nil {
			if c.of[by.User]--; c.of[by.User] == 0 {
				delete(c.of, by.User)
			}
		}
		if c.stopping && len(c.held) == 0 {
			c.closeReleased()
		}
	}, nil
}

func (c *Callers) closeReleased() {
	select {
	case <-c.released:
	default:
		close(c.released)
	}
}

// Now implements transport.Callers. The request's name is followed by a number.
func (c *Callers) Now(held context.Context) (context.Context, error) {
	h, _ := held.Value(holdKey{}).(*hold)
	if h == nil || h.by.Load() == nil {
		return held, nil
	}
	if err := c.check(held, []*hold{h}); err != nil {
		c.log.ErrorContext(held, "authenticating failed", "error", err)
		return held, err
	}
	return c.Latest(held)
}

// Latest implements transport.Callers.
func (*Callers) Latest(held context.Context) (context.Context, error) {
	h, _ := held.Value(holdKey{}).(*hold)
	if h == nil || h.by.Load() == nil {
		return held, nil
	}
	if errors.Is(context.Cause(held), transport.ErrSignedOut) {
		return held, transport.ErrSignedOut
	}
	a := *h.by.Load()
	a.RequestID = fmt.Sprintf("%s.%d", RequestID(held), h.asked.Add(1))
	return actor.With(context.WithValue(held, requestIDKey{}, a.RequestID), &a), nil
}

// Run asks until the context ends whether those who are connected may still be.
func (c *Callers) Run(ctx context.Context) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		c.mu.Lock()
		var holds []*hold
		for h := range c.held {
			if h.by.Load() != nil {
				holds = append(holds, h)
			}
		}
		c.mu.Unlock()
		if err := c.check(ctx, holds); err != nil && ctx.Err() == nil {
			c.log.ErrorContext(ctx, "it could not be told who may stay connected", "error", err)
		}
	}
}

// check ends the connections of those who may no longer be connected.
func (c *Callers) check(ctx context.Context, holds []*hold) error {
	const most = 1_000 // at a time, to bound the statements
	for len(holds) > 0 {
		some := holds[:min(most, len(holds))]
		holds = holds[len(some):]
		actors := make([]*actor.Actor, len(some))
		for i, h := range some {
			actors[i] = h.by.Load()
		}
		still, err := c.stayers.Still(ctx, actors)
		if err != nil {
			return err
		}
		for i, h := range some {
			if still[i] == nil {
				h.cancel(transport.ErrSignedOut)
				continue
			}
			h.by.Store(still[i])
		}
	}
	return nil
}

// stop ends all connections, and takes no more.
func (c *Callers) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	for h := range c.held {
		h.cancel(transport.ErrStopping)
	}
	if len(c.held) == 0 {
		c.closeReleased()
	}
}

// wait waits until all connections have ended after stop, or the context has.
func (c *Callers) wait(ctx context.Context) error {
	select {
	case <-c.released:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Connections is how many sockets and streams are open.
func (c *Callers) Connections() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, of := range c.of {
		n += of
	}
	return n
}
