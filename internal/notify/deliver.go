package notify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

const (
	// senders is how many attempts are under way in a process, and perWebhook how
	// many of them to one webhook.
	senders    = 8
	perWebhook = 2
	// lease is how long a process has for an attempt: after that another takes it up,
	// under the same id.
	lease = sendWithin + 15*time.Second
	// pollEvery is how late what another process left may be found.
	pollEvery = 3 * time.Second
	// drainWithin is how long attempts that are under way are waited for at the end.
	drainWithin = 7 * time.Second
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

func addDeliveries(ctx context.Context, tx *store.Tx, rows [][]any) error {
	if err := tx.Insert(ctx, "webhook_deliveries", []string{"id", "tenant_id", "webhook_id", "event_type", "body", "status", "attempts", "created_at", "next_at"}, rows); err != nil {
		return fmt.Errorf("writing deliveries: %w", err)
	}
	return nil
}

// attempt is a delivery that this process makes.
type attempt struct {
	id, tenant, webhook gid.ID
	number              int
	url                 string
	body                []byte
	secrets             [][]byte
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
	busy map[gid.ID]int // attempts under way, by webhook
	all  int
	done chan struct{}
	wait sync.WaitGroup
}

// dispatch begins attempts until there is nothing due, or no room.
func (d *dispatcher) dispatch(ctx context.Context) error {
	for ctx.Err() == nil {
		d.mu.Lock()
		room := senders - d.all
		var full []gid.ID
		for webhook, n := range d.busy {
			if n >= perWebhook {
				full = append(full, webhook)
			}
		}
		d.mu.Unlock()
		if room <= 0 {
			return nil
		}
		attempts, err := d.claim(ctx, room, full)
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
		if d.busy[a.webhook]--; d.busy[a.webhook] == 0 {
			delete(d.busy, a.webhook)
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
		attempts, err := s.claim(ctx, senders, nil)
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

// claim takes deliveries that are due, one of each webhook, and leases them.
func (s *Service) claim(ctx context.Context, most int, full []gid.ID) (attempts []attempt, err error) {
	// Most of the time there is nothing, and nobody has to be kept from writing to find that out.
	due := false
	_, err = store.Build(s.DB).Add(`SELECT EXISTS (SELECT 1 FROM webhooks w JOIN webhook_deliveries d ON d.webhook_id = w.id WHERE w.enabled = ? AND d.next_at <= ?)`, true, s.DB.Now()).One(ctx, s.DB, &due)
	if err != nil || !due {
		return nil, wrapped(err)
	}
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		attempts = nil
		stmt := store.Build(tx).Add(`SELECT d.id, d.tenant_id, d.webhook_id, d.attempts + 1, d.body, w.url, w.secret, w.previous_secret, w.previous_secret_until
			FROM webhooks w JOIN webhook_deliveries d ON d.webhook_id = w.id
			AND d.id = (SELECT x.id FROM webhook_deliveries x WHERE x.webhook_id = w.id AND x.next_at <= ? ORDER BY x.next_at, x.id LIMIT 1)
			WHERE w.enabled = ? AND NOT (`, tx.Now(), true).IDs("w.id", full).Add(`) ORDER BY d.next_at, d.id LIMIT ?`, most).ForUpdateOf("d")
		var ids []gid.ID
		err := stmt.Query(ctx, tx, func(row store.Row) error {
			var a attempt
			var secret, previous []byte
			var until *time.Time
			if err := row.Scan(&a.id, &a.tenant, &a.webhook, &a.number, &a.body, &a.url, &secret, &previous, &until); err != nil {
				return err
			}
			opened, err := s.Audit.Keys().Unseal(a.tenant, a.webhook, secret)
			if err != nil {
				return err
			}
			a.secrets = [][]byte{opened}
			if previous != nil && until != nil && tx.Now().Before(*until) {
				if opened, err = s.Audit.Keys().Unseal(a.tenant, a.webhook, previous); err != nil {
					return err
				}
				a.secrets = append(a.secrets, opened)
			}
			attempts, ids = append(attempts, a), append(ids, a.id)
			return nil
		})
		if err == nil && len(ids) > 0 {
			_, err = store.Build(tx).Add(`UPDATE webhook_deliveries SET attempts = attempts + 1, next_at = ?, status_code = NULL, failure = NULL WHERE `, tx.Now().Add(lease)).IDs("id", ids).Exec(ctx, tx)
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
	at := s.DB.Now()
	got := s.sender.send(ctx, a.url, a.id.String(), at, sign(a.id.String(), at, a.body, a.secrets...), a.body)
	if ctx.Err() != nil { // nobody knows: it is made again when its lease is over
		return nil //nolint:nilerr // there is nothing to be written down
	}
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
		n, err := store.Build(tx).Add(`UPDATE webhook_deliveries SET status = ?, next_at = ?, delivered_at = ?, status_code = ?, failure = ? WHERE id = ? AND attempts = ? AND status = 'PENDING'`,
			status, next, delivered, orNull(got.status), orNull(got.failure), a.id, a.number).Exec(ctx, tx)
		if err != nil || n == 0 {
			return err
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
