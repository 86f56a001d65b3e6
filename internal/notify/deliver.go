package notify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/telemetry"
)

const (
	// senders is how many attempts are under way in a process, perTenant how many of them
	// are one tenant's, whose receivers may be slow, and perWebhook to one webhook.
	senders    = 16
	perTenant  = 4
	perWebhook = 2
	// lease is how long a process has for an attempt: after that another takes it up,
	// under the same id.
	lease = sendWithin + 15*time.Second
	// pollEvery is how late what another process left may be found.
	pollEvery = 3 * time.Second
	// drainWithin is how long attempts that are under way are waited for at the end.
	drainWithin = 7 * time.Second
	// unreadableWait is when it is tried again to read a secret that cannot be read.
	unreadableWait = time.Hour
	// patience is how long a webhook may fail before it is disabled.
	patience = 5 * 24 * time.Hour
)

// backoff are the times between attempts, of https://www.standardwebhooks.com.
var backoff = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// MaxAttempts is how often an event is sent before it is given up.
var MaxAttempts = len(backoff) + 1

func deliveryRow(tenant, webhook gid.ID, event string, body []byte, now time.Time) []any {
	return []any{gid.New(gid.WebhookDelivery), tenant, webhook, event, body, "PENDING", 0, now, now}
}

// addDeliveries adds deliveries of what happened in the span that parent names, if any.
func addDeliveries(ctx context.Context, tx *store.Tx, rows [][]any, parent string) error {
	if err := tx.Insert(ctx, "webhook_deliveries", []string{"id", "tenant_id", "webhook_id", "event_type", "body", "status", "attempts", "created_at", "next_at"}, rows); err != nil {
		return fmt.Errorf("writing deliveries: %w", err)
	}
	if parent == "" {
		return nil
	}
	traces := make([][]any, len(rows))
	for i, row := range rows {
		traces[i] = []any{row[0], parent}
	}
	if err := tx.Insert(ctx, "webhook_traces", []string{"delivery_id", "traceparent"}, traces); err != nil {
		return fmt.Errorf("writing deliveries: %w", err)
	}
	return nil
}

// attempt is a delivery that this process makes.
type attempt struct {
	id, tenant, webhook gid.ID
	number              int
	until               time.Time // the end of its lease, which tells it from other attempts
	url                 string
	body                []byte
	secrets             [][]byte
	traceparent         string // the span in which it happened what is told
}

// Run tells and delivers until the context ends. Attempts that are under way then
// are given a few seconds to end; others, and those of a process that is killed,
// are made again.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	d := &dispatcher{Service: s, ctx: ctx, busy: map[gid.ID]int{}, done: make(chan struct{}, 1)}
	defer d.drain()
	if s.DB.Dialect() == "sqlite3" { // which one process has for itself: nobody else is at it
		if err := s.takeUp(ctx); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "taking up deliveries failed", "error", err)
		}
	}
	for {
		if _, err := s.Tell(ctx); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "telling what happened failed", "error", err)
		}
		if err := d.dispatch(ctx); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "sending to webhooks failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.Outbox.wake:
		case <-d.done:
		case <-tick.C:
		}
	}
}

// takeUp makes due what a killed process was about to send.
func (s *Service) takeUp(ctx context.Context) error {
	return s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		_, err := store.Build(tx).Add(`UPDATE webhook_deliveries SET next_at = ? WHERE status = 'PENDING' AND attempts > 0 AND status_code IS NULL AND failure IS NULL AND next_at > ?`, tx.Now(), tx.Now()).Exec(ctx, tx)
		return err
	})
}

// dispatcher has attempts made, a few at a time.
type dispatcher struct {
	*Service

	ctx  context.Context //nolint:containedctx // of Run, under which all attempts are made
	mu   sync.Mutex
	busy map[gid.ID]int // attempts under way, by webhook and by tenant
	all  int
	done chan struct{}
	wait sync.WaitGroup
}

// dispatch begins attempts until there is nothing due, or no room.
func (d *dispatcher) dispatch(ctx context.Context) error {
	for ctx.Err() == nil {
		d.mu.Lock()
		room := senders - d.all
		var full, crowded []gid.ID
		for id, n := range d.busy {
			switch {
			case id.Type() == gid.Tenant && n >= perTenant:
				crowded = append(crowded, id)
			case id.Type() == gid.Webhook && n >= perWebhook:
				full = append(full, id)
			}
		}
		d.mu.Unlock()
		if room <= 0 {
			return nil
		}
		attempts, err := d.claim(ctx, 1, full, crowded)
		if err != nil || len(attempts) == 0 {
			return err
		}
		for i := range attempts {
			d.begin(&attempts[i])
		}
	}
	return nil
}

func (d *dispatcher) begin(a *attempt) {
	d.mu.Lock()
	d.all++
	d.busy[a.webhook]++
	d.busy[a.tenant]++
	d.mu.Unlock()
	d.wait.Go(func() {
		ctx, cancel := context.WithCancel(context.WithoutCancel(d.ctx))
		stop := context.AfterFunc(d.ctx, func() { // some time to end what has begun
			time.AfterFunc(drainWithin-time.Second, cancel)
		})
		defer stop()
		defer cancel()
		if err := d.make(ctx, a); err != nil {
			d.Log.ErrorContext(ctx, "what became of a delivery could not be written", "delivery", a.id, "error", err)
		}
		d.mu.Lock()
		d.all--
		for _, id := range []gid.ID{a.webhook, a.tenant} {
			if d.busy[id]--; d.busy[id] == 0 {
				delete(d.busy, id)
			}
		}
		d.mu.Unlock()
		select {
		case d.done <- struct{}{}:
		default:
		}
	})
}

// drain waits for what is under way, for a while.
func (d *dispatcher) drain() {
	ended := make(chan struct{})
	go func() {
		d.wait.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(drainWithin):
	}
	d.sender.client.CloseIdleConnections()
}

// Deliver makes the attempts that are due, one after the other, and answers how
// many: for who cannot wait, such as tests.
func (s *Service) Deliver(ctx context.Context) (made int, err error) {
	for ctx.Err() == nil {
		attempts, err := s.claim(ctx, senders, nil, nil)
		if err != nil || len(attempts) == 0 {
			return made, err
		}
		for i := range attempts {
			if err := s.make(ctx, &attempts[i]); err != nil {
				return made, err
			}
			made++
		}
	}
	return made, ctx.Err()
}

// claim takes deliveries that are due, one of each webhook, and leases them: none of
// webhooks and tenants that have enough under way.
func (s *Service) claim(ctx context.Context, most int, full, crowded []gid.ID) (attempts []attempt, err error) {
	// Most of the time there is nothing, and nobody has to be kept from writing to find that out.
	due := false
	_, err = store.Build(s.DB).Add(`SELECT EXISTS (SELECT 1 FROM webhooks w JOIN webhook_deliveries d ON d.webhook_id = w.id WHERE w.enabled = ? AND d.next_at <= ?)`, true, s.DB.Now()).One(ctx, s.DB, &due)
	if err != nil || !due {
		return nil, wrapped(err)
	}
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		attempts = nil
		until := tx.Now().Add(lease)
		stmt := store.Build(tx).Add(`SELECT d.id, d.tenant_id, d.webhook_id, d.attempts + 1, d.body, w.url, w.secret, w.previous_secret, w.previous_secret_until,
				(SELECT t.traceparent FROM webhook_traces t WHERE t.delivery_id = d.id)
			FROM webhooks w JOIN webhook_deliveries d ON d.webhook_id = w.id
			AND d.id = (SELECT x.id FROM webhook_deliveries x WHERE x.webhook_id = w.id AND x.next_at <= ? ORDER BY x.next_at, x.id LIMIT 1)
			WHERE w.enabled = ? AND d.next_at <= ? AND NOT (`, tx.Now(), true, tx.Now()).IDs("w.id", full).Add(` OR `).IDs("w.tenant_id", crowded).Add(`) ORDER BY d.next_at, d.id LIMIT ?`, most).ForUpdateOf("d")
		var ids, unreadable []gid.ID
		err := stmt.Query(ctx, tx, func(row store.Row) error {
			var a attempt
			var secret, previous []byte
			var overlaps *time.Time
			var parent *string
			if err := row.Scan(&a.id, &a.tenant, &a.webhook, &a.number, &a.body, &a.url, &secret, &previous, &overlaps, &parent); err != nil {
				return err
			}
			if parent != nil {
				a.traceparent = *parent
			}
			sealed := [][]byte{secret}
			if previous != nil && overlaps != nil && tx.Now().Before(*overlaps) {
				sealed = append(sealed, previous)
			}
			for _, one := range sealed {
				opened, err := s.Audit.Keys().Unseal(a.tenant, a.webhook, one)
				if err != nil { // it holds up nobody else
					s.Log.ErrorContext(ctx, "the secret of a webhook cannot be read", "webhook", a.webhook, "error", err)
					unreadable = append(unreadable, a.id)
					return nil
				}
				a.secrets = append(a.secrets, opened)
			}
			a.until = until
			attempts, ids = append(attempts, a), append(ids, a.id)
			return nil
		})
		if err == nil && len(ids) > 0 {
			_, err = store.Build(tx).Add(`UPDATE webhook_deliveries SET attempts = attempts + 1, next_at = ?, status_code = NULL, failure = NULL WHERE `, until).IDs("id", ids).Exec(ctx, tx)
		}
		if err == nil && len(unreadable) > 0 {
			_, err = store.Build(tx).Add(`UPDATE webhook_deliveries SET next_at = ? WHERE `, tx.Now().Add(unreadableWait)).IDs("id", unreadable).Exec(ctx, tx)
		}
		return err
	})
	return attempts, wrapped(err)
}

func wrapped(err error) error {
	if err != nil {
		return fmt.Errorf("looking for deliveries: %w", err)
	}
	return nil
}

// make makes an attempt and writes down what became of it.
func (s *Service) make(ctx context.Context, a *attempt) error {
	ctx, end := s.span(ctx, a)
	defer end(nil)
	at := s.DB.Now()
	got := s.sender.send(ctx, a.url, a.id.String(), at, sign(a.id.String(), at, a.body, a.secrets...), a.body)
	if ctx.Err() != nil { // nobody knows: it is made again when its lease is over
		return nil
	}
	end(&got)
	for try := 1; ; try++ {
		err := s.settle(ctx, a, got)
		if err == nil || try == 5 || !store.Busy(err) || store.Pause(ctx, try) != nil {
			return err
		}
	}
}

// settle writes down what became of an attempt, unless somebody else has made it
// since.
func (s *Service) settle(ctx context.Context, a *attempt, got answer) error {
	return s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		// The webhook first, as who changes it does.
		if _, err := store.Build(tx).Add(`SELECT id FROM webhooks WHERE id = ?`, a.webhook).ForNoKeyUpdate().Exec(ctx, tx); err != nil {
			return fmt.Errorf("locking a webhook: %w", err)
		}
		now := tx.Now()
		status, next, delivered := "PENDING", any(nil), any(nil)
		switch {
		case got.failure == "":
			status, delivered = "DELIVERED", now
		case got.failure == failedGone || a.number >= MaxAttempts:
			status = "DEAD"
		default:
			next = now.Add(jitter(backoff[a.number-1]))
		}
		result := Failed
		switch status {
		case "DELIVERED":
			result = Delivered
		case "DEAD":
			result = Dead
		}
		n, err := store.Build(tx).Add(`UPDATE webhook_deliveries SET status = ?, next_at = ?, delivered_at = ?, status_code = ?, failure = ? WHERE id = ? AND next_at = ? AND status = 'PENDING'`,
			status, next, delivered, orNull(got.status), orNull(got.failure), a.id, a.until).Exec(ctx, tx)
		if err != nil || n == 0 {
			return err
		}
		if s.Attempted != nil {
			tx.AfterEnd(func(committed bool) {
				if committed {
					s.Attempted(result)
				}
			})
		}
		if got.failure == "" {
			_, err = store.Build(tx).Add(`UPDATE webhooks SET failing_since = NULL WHERE id = ? AND failing_since IS NOT NULL`, a.webhook).Exec(ctx, tx)
			return err
		}
		if _, err := store.Build(tx).Add(`UPDATE webhooks SET failing_since = ? WHERE id = ? AND failing_since IS NULL`, now, a.webhook).Exec(ctx, tx); err != nil {
			return err
		}
		if got.failure == failedGone {
			return s.disable(ctx, tx, a.tenant, a.webhook, failedGone)
		}
		var since time.Time
		_, err = store.Build(tx).Add(`SELECT failing_since FROM webhooks WHERE id = ? AND failing_since IS NOT NULL`, a.webhook).One(ctx, tx, &since)
		if err == nil && !since.IsZero() && now.Sub(since) >= patience {
			err = s.disable(ctx, tx, a.tenant, a.webhook, got.failure)
		}
		return err
	})
}

// span begins a span of an attempt, which belongs to what it tells of.
func (s *Service) span(ctx context.Context, a *attempt) (_ context.Context, end func(*answer)) {
	if s.Tracer == nil {
		return ctx, func(*answer) {}
	}
	//nolint:spancheck // who makes the attempt ends it
	ctx, span := s.Tracer.Start(telemetry.WithParent(ctx, a.traceparent), "webhook", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("http.request.method", http.MethodPost), attribute.Int("lethe.webhook.attempt", a.number)))
	return ctx, func(got *answer) { //nolint:spancheck // as said
		if got != nil && got.status != 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", got.status))
		}
		if got != nil && got.failure != "" {
			span.SetAttributes(attribute.String("error.type", got.failure))
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// Pending is how many deliveries are still to be made, now or later.
func (s *Service) Pending(ctx context.Context) (n int, err error) {
	if _, err := store.Build(s.DB).Add(`SELECT COUNT(*) FROM webhook_deliveries WHERE next_at IS NOT NULL`).One(ctx, s.DB, &n); err != nil {
		return 0, fmt.Errorf("counting deliveries: %w", err)
	}
	return n, nil
}

// jitter lengthens a wait by up to a fifth, so that what failed together does not
// come back together.
func jitter(wait time.Duration) time.Duration {
	return wait + rand.N(wait/5) //nolint:gosec // nobody gains by knowing how long
}

func orNull[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}
