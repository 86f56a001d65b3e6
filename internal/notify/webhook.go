package notify

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/ent/notification"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/telemetry"
)

const (
	objectWebhook        = "Webhook"
	actionWebhookDisable = "WEBHOOK_DISABLE"

	// secretPrefix and secretSize are of https://www.standardwebhooks.com.
	secretPrefix = "whsec_"
	secretSize   = 32
	// overlap is how long an event is signed with the secret before the last one,
	// too, so that a receiver can be given the new one without losing any.
	overlap = 24 * time.Hour

	maxURL      = 2_000
	maxWebhooks = 100 // of a tenant
	maxReplay   = 10_000
)

// Webhook is a webhook as it is asked for.
type Webhook struct {
	URL, Name string
	Interests
	Enabled bool
}

func newSecret() ([]byte, error) {
	raw := make([]byte, secretSize)
	if _, err := rand.Read(raw); err != nil {
		return nil, fmt.Errorf("drawing a secret: %w", err)
	}
	return raw, nil
}

// show is a secret as receivers are given it.
func show(secret []byte) string { return secretPrefix + base64.StdEncoding.EncodeToString(secret) }

// sign is the signature of a message under secrets, as Standard Webhooks has it.
func sign(id string, at time.Time, body []byte, secrets ...[]byte) string {
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}

// check refuses a webhook that cannot be, or that the actor may not have: it is told
// of all records of its types, so he must be able to read all of them.
func (s *Service) check(ctx context.Context, a *actor.Actor, w *Webhook) error {
	if err := s.checkURL(w.URL); err != nil {
		return err
	}
	if err := errors.Join(mixin.Characters(mixin.MaxName)(w.Name)); err != nil {
		return record.Refuse(lifecycle.BadUserInput, err.Error(), "name")
	}
	if err := w.Interests.check(); err != nil {
		return err
	}
	types := w.Types
	if len(types) == 0 {
		for _, t := range ent.RecordTypes {
			types = append(types, t.Name)
		}
	}
	for _, t := range types {
		if !s.Control.Everywhere(ctx, a, authz.Read, t) {
			return record.Refuse(lifecycle.Forbidden, "it would be told of records that you may not read", "types")
		}
	}
	for _, k := range w.Kinds {
		if (k == notification.KindHOLD_PLACED || k == notification.KindHOLD_RELEASED) && !s.Control.May(ctx, a, access.Question{Action: authz.HoldRead, Type: ent.TypeLegalHold}) {
			return record.Refuse(lifecycle.Forbidden, "it would be told of holds that you may not know of", "kinds")
		}
	}
	return nil
}

func (s *Service) checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || len(text) > maxURL:
		return record.Refuse(lifecycle.BadUserInput, "is not the URL of a web server", "url")
	case u.Scheme != "https" && (u.Scheme != "http" || !s.AllowPrivate):
		return record.Refuse(lifecycle.BadUserInput, "must begin with https://", "url")
	case u.User != nil:
		return record.Refuse(lifecycle.BadUserInput, "must not hold a user name or password: events are signed", "url")
	case u.Fragment != "" || strings.Contains(text, "#"):
		return record.Refuse(lifecycle.BadUserInput, "must not hold a fragment", "url")
	}
	return s.sender.checkHost(u.Hostname())
}

// CreateWebhook adds a webhook, and answers its secret: it cannot be had again.
func (s *Service) CreateWebhook(ctx context.Context, w Webhook) (id gid.ID, secret string, err error) {
	id = gid.New(gid.Webhook)
	err = s.change(ctx, authz.WebhookEdit, objectWebhook, "WEBHOOK_CREATE", func(ctx context.Context, tx *store.Tx, a *actor.Actor) (map[string]any, error) {
		if err := s.check(ctx, a, &w); err != nil {
			return nil, err
		}
		count := 0
		if _, err := store.Build(tx).Add(`SELECT count(*) FROM webhooks WHERE tenant_id = ? AND removed_at IS NULL`, a.Tenant).One(ctx, tx, &count); err != nil {
			return nil, fmt.Errorf("counting webhooks: %w", err)
		}
		if count >= maxWebhooks {
			return nil, record.Refuse(lifecycle.Limit, fmt.Sprintf("more than %d webhooks", maxWebhooks))
		}
		raw, err := newSecret()
		if err != nil {
			return nil, err
		}
		sealed, err := s.Audit.Keys().Seal(a.Tenant, id, raw)
		if err != nil {
			return nil, err
		}
		secret = show(raw)
		kinds, types := store.JSONStrings(w.kinds()), store.JSONStrings(w.types())
		_, err = store.Build(tx).Add(`INSERT INTO webhooks (id, tenant_id, url, name, kinds, types, enabled, version, secret, created_by_id, created_at, updated_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?)`, id, a.Tenant, w.URL, w.Name, kinds, types, w.Enabled, sealed, nullID(a.UserRef()), tx.Now(), tx.Now()).Exec(ctx, tx)
		if err != nil {
			return nil, fmt.Errorf("writing a webhook: %w", err)
		}
		return webhookDetail(id, &w), nil
	})
	return id, secret, err
}

// webhookDetail is what the log is told: the host alone, since paths and queries of
// such addresses often hold what lets one in.
func webhookDetail(id gid.ID, w *Webhook) map[string]any {
	host := ""
	if u, err := url.Parse(w.URL); err == nil {
		host = u.Host
	}
	return map[string]any{"webhook": id.String(), "host": host, "kinds": w.kinds(), "types": w.types(), "enabled": w.Enabled}
}

// lockWebhook locks a webhook of the actor's tenant that is there, at a version.
func lockWebhook(ctx context.Context, tx *store.Tx, a *actor.Actor, id gid.ID, version int) (w Webhook, err error) {
	var kinds, types []byte
	at := 0
	found, err := store.Build(tx).Add(`SELECT url, name, kinds, types, enabled, version FROM webhooks WHERE tenant_id = ? AND id = ? AND removed_at IS NULL`, a.Tenant, id).ForUpdate().
		One(ctx, tx, &w.URL, &w.Name, &kinds, &types, &w.Enabled, &at)
	switch {
	case err != nil:
		return w, fmt.Errorf("reading a webhook: %w", err)
	case !found:
		return w, record.Refuse(lifecycle.NotFound, "there is no such webhook", "id")
	case version != 0 && at != version:
		return w, movedOn(at)
	}
	return w, errors.Join(json.Unmarshal(kinds, &w.Kinds), json.Unmarshal(types, &w.Types))
}

func movedOn(version int) *record.Error {
	return &record.Error{Code: lifecycle.Conflict, Message: "it has changed since", Fields: []string{"version"}, Extensions: map[string]any{"version": version}}
}

// UpdateWebhook changes a webhook that the actor saw at a version. What was not sent
// while it was disabled is sent once it is replayed.
func (s *Service) UpdateWebhook(ctx context.Context, id gid.ID, version int, update func(*Webhook) error) error {
	return s.change(ctx, authz.WebhookEdit, objectWebhook, "WEBHOOK_UPDATE", func(ctx context.Context, tx *store.Tx, a *actor.Actor) (map[string]any, error) {
		w, err := lockWebhook(ctx, tx, a, id, version)
		if err != nil {
			return nil, err
		}
		if err := update(&w); err != nil {
			return nil, err
		}
		if err := s.check(ctx, a, &w); err != nil {
			return nil, err
		}
		_, err = store.Build(tx).Add(`UPDATE webhooks SET url = ?, name = ?, kinds = ?, types = ?, enabled = ?, failing_since = NULL, version = version + 1, updated_at = ? WHERE id = ?`,
			w.URL, w.Name, store.JSONStrings(w.kinds()), store.JSONStrings(w.types()), w.Enabled, tx.Now(), id).Exec(ctx, tx)
		if err == nil && !w.Enabled {
			err = dropPending(ctx, tx, id)
		}
		if err != nil {
			return nil, fmt.Errorf("changing a webhook: %w", err)
		}
		return webhookDetail(id, &w), nil
	})
}

// dropPending gives up what is on its way to a webhook that takes nothing any more.
func dropPending(ctx context.Context, tx *store.Tx, webhook gid.ID) error {
	_, err := store.Build(tx).Add(`UPDATE webhook_deliveries SET status = 'FAILED', next_at = NULL WHERE webhook_id = ? AND status = 'PENDING'`, webhook).Exec(ctx, tx)
	return err
}

// RemoveWebhook removes a webhook. What it was sent stays to be read.
func (s *Service) RemoveWebhook(ctx context.Context, id gid.ID, version int) error {
	return s.change(ctx, authz.WebhookEdit, objectWebhook, "WEBHOOK_REMOVE", func(ctx context.Context, tx *store.Tx, a *actor.Actor) (map[string]any, error) {
		if _, err := lockWebhook(ctx, tx, a, id, version); err != nil {
			return nil, err
		}
		_, err := store.Build(tx).Add(`UPDATE webhooks SET enabled = ?, removed_at = ?, secret = ?, previous_secret = NULL, previous_secret_until = NULL, version = version + 1, updated_at = ? WHERE id = ?`,
			false, tx.Now(), []byte{}, tx.Now(), id).Exec(ctx, tx)
		if err == nil {
			_, err = store.Build(tx).Add(`UPDATE departments SET webhook_id = NULL, version = version + 1, updated_at = ? WHERE webhook_id = ?`, tx.Now(), id).Exec(ctx, tx)
		}
		if err == nil {
			err = dropPending(ctx, tx, id)
		}
		if err != nil {
			return nil, fmt.Errorf("removing a webhook: %w", err)
		}
		return map[string]any{"webhook": id.String()}, nil
	})
}

// RotateSecret gives a webhook another secret, and answers it. For a day events are
// signed with the one before, too.
func (s *Service) RotateSecret(ctx context.Context, id gid.ID, version int) (secret string, err error) {
	err = s.change(ctx, authz.WebhookEdit, objectWebhook, "WEBHOOK_ROTATE", func(ctx context.Context, tx *store.Tx, a *actor.Actor) (map[string]any, error) {
		if _, err := lockWebhook(ctx, tx, a, id, version); err != nil {
			return nil, err
		}
		raw, err := newSecret()
		if err != nil {
			return nil, err
		}
		sealed, err := s.Audit.Keys().Seal(a.Tenant, id, raw)
		if err != nil {
			return nil, err
		}
		secret = show(raw)
		_, err = store.Build(tx).Add(`UPDATE webhooks SET previous_secret = secret, previous_secret_until = ?, secret = ?, version = version + 1, updated_at = ? WHERE id = ?`,
			tx.Now().Add(overlap), sealed, tx.Now(), id).Exec(ctx, tx)
		if err != nil {
			return nil, fmt.Errorf("changing a secret: %w", err)
		}
		return map[string]any{"webhook": id.String()}, nil
	})
	return secret, err
}

// TestWebhook sends a webhook an event that says that it is a test, and answers its
// delivery.
func (s *Service) TestWebhook(ctx context.Context, id gid.ID) (delivery gid.ID, err error) {
	err = s.change(ctx, authz.WebhookEdit, objectWebhook, "WEBHOOK_TEST", func(ctx context.Context, tx *store.Tx, a *actor.Actor) (map[string]any, error) {
		w, err := lockWebhook(ctx, tx, a, id, 0)
		if err != nil {
			return nil, err
		}
		if !w.Enabled {
			return nil, record.Refuse(lifecycle.BadUserInput, "the webhook is disabled", "id")
		}
		body, err := json.Marshal(payload{Type: "webhook.test", Timestamp: tx.Now(), Data: payloadData{Tenant: a.Tenant.String(), Actor: a.User.String()}})
		if err != nil {
			return nil, fmt.Errorf("encoding an event: %w", err)
		}
		row := deliveryRow(a.Tenant, id, "webhook.test", body, tx.Now())
		delivery, _ = row[0].(gid.ID)
		tx.AfterEnd(func(committed bool) { s.Outbox.awake() })
		return map[string]any{"webhook": id.String()}, addDeliveries(ctx, tx, [][]any{row}, telemetry.Parent(ctx))
	})
	return delivery, err
}

// Replay is which deliveries are sent once more, under the ids they had: some by
// their ids, or those to a webhook since a moment that were not taken, or all.
type Replay struct {
	IDs     []gid.ID
	Webhook gid.ID
	Since   time.Time
	All     bool // with those that were taken
}

// ReplayDeliveries sends deliveries once more, and answers how many.
func (s *Service) ReplayDeliveries(ctx context.Context, r Replay) (replayed int, err error) {
	err = s.change(ctx, authz.WebhookEdit, objectWebhook, "WEBHOOK_REPLAY", func(ctx context.Context, tx *store.Tx, a *actor.Actor) (map[string]any, error) {
		var ids []gid.ID
		stmt := store.Build(tx).Add(`SELECT d.id FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id WHERE d.tenant_id = ? AND w.enabled = ? AND d.status <> 'PENDING' AND `, a.Tenant, true)
		if len(r.IDs) > 0 {
			stmt.IDs("d.id", r.IDs)
		} else {
			if _, err := lockWebhook(ctx, tx, a, r.Webhook, 0); err != nil {
				return nil, err
			}
			stmt.Add(`d.webhook_id = ? AND d.created_at >= ?`, r.Webhook, r.Since)
			if !r.All {
				stmt.Add(` AND d.status <> 'DELIVERED'`)
			}
		}
		err := stmt.Add(` ORDER BY d.id LIMIT ?`, maxReplay+1).Query(ctx, tx, func(row store.Row) error {
			var id gid.ID
			err := row.Scan(&id)
			ids = append(ids, id)
			return err
		})
		switch {
		case err != nil:
			return nil, fmt.Errorf("looking for deliveries: %w", err)
		case len(ids) > maxReplay:
			return nil, record.Refuse(lifecycle.Limit, fmt.Sprintf("more than %d deliveries at once", maxReplay), "since")
		}
		n, err := store.Build(tx).Add(`UPDATE webhook_deliveries SET status = 'PENDING', attempts = 0, next_at = ?, delivered_at = NULL, status_code = NULL, failure = NULL WHERE `, tx.Now()).IDs("id", ids).Exec(ctx, tx)
		if err != nil {
			return nil, fmt.Errorf("replaying deliveries: %w", err)
		}
		replayed = int(n)
		tx.AfterEnd(func(bool) { s.Outbox.awake() })
		return map[string]any{"webhook": text(&r.Webhook), "deliveries": replayed}, nil
	})
	return replayed, err
}

// disable stops sending to a webhook and tells the log, and by it who created it.
func (s *Service) disable(ctx context.Context, tx *store.Tx, tenant, webhook gid.ID, why string) error {
	n, err := store.Build(tx).Add(`UPDATE webhooks SET enabled = ?, version = version + 1, updated_at = ? WHERE id = ? AND enabled = ?`, false, tx.Now(), webhook, true).Exec(ctx, tx)
	if err != nil || n == 0 {
		return err
	}
	if err := dropPending(ctx, tx, webhook); err != nil {
		return err
	}
	return s.Audit.Append(actor.With(ctx, actor.ForSystem(tenant)), tx, audit.Event{
		Action: actionWebhookDisable, Detail: map[string]any{"webhook": webhook.String(), "cause": why},
	})
}
