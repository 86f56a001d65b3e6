package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"entgo.io/ent/dialect"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/export"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

const (
	// beat is how often who works on an export says so, and lease after how long
	// without that somebody else takes it up.
	beat  = 3 * time.Second
	lease = 15 * time.Second
	// spareTime is how long bytes may be without an owner while they are written.
	spareTime = 24 * time.Hour
	// lostTime is after how long an export of the command line that did not end is
	// given up: nobody takes it up.
	lostTime = 24 * time.Hour
)

// errLost says that an export was cancelled, or taken up by somebody else.
var errLost = errors.New("export: somebody else works on it, or nobody is to")

// Create asks for an export, which is made in the background with the rights that
// the requester has by then.
func (s *Service) Create(ctx context.Context, spec Spec) (id gid.ID, err error) {
	id = gid.New(gid.Export)
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		a := actor.From(ctx)
		if a == nil || a.User.IsZero() {
			return errors.New("export: an export for nobody")
		}
		return s.refused(ctx, "EXPORT_REQUEST", s.create(ctx, tx, a, id, spec, gid.Nil))
	})
	return id, err
}

// create writes an export down, and has somebody work on it.
func (s *Service) create(ctx context.Context, tx *store.Tx, a *actor.Actor, id gid.ID, spec Spec, schedule gid.ID) error {
	if err := spec.check(); err != nil {
		return err
	}
	reading, rows, err := s.reads(ctx, a)
	if err != nil {
		return err
	}
	if err := s.allowed(reading, a, &spec, rows); err != nil {
		return err
	}
	// A user's exports are counted by one at a time.
	if _, err := store.Build(tx).Add(`SELECT id FROM users WHERE id = ?`, a.User).ForNoKeyUpdate().Exec(ctx, tx); err != nil {
		return fmt.Errorf("locking the user: %w", err)
	}
	var waiting int
	_, err = store.Build(tx).Add(`SELECT COUNT(*) FROM exports WHERE tenant_id = ? AND requested_by_id = ? AND worked_at IS NOT NULL`, a.Tenant, a.User).One(ctx, tx, &waiting)
	if err != nil {
		return fmt.Errorf("counting exports: %w", err)
	}
	if waiting >= maxWaiting {
		return record.Refuse(lifecycle.Limit, fmt.Sprintf("%d exports of yours are under way; wait for one to end, or cancel it", waiting))
	}
	now := tx.Now()
	if err := s.writeDown(ctx, tx, a, id, spec, schedule, export.StatusPENDING, &now); err != nil {
		return err
	}
	if err := s.log(reading, tx, "EXPORT_REQUEST", id, spec.Type, map[string]any{"format": spec.Format, "encrypted": len(spec.EncryptTo) > 0}); err != nil {
		return err
	}
	if s.Queue == nil {
		return nil
	}
	return s.Queue.EnqueueExport(ctx, tx, a.Tenant, id)
}

func (s *Service) writeDown(ctx context.Context, tx *store.Tx, a *actor.Actor, id gid.ID, spec Spec, schedule gid.ID, status export.Status, worked *time.Time) error {
	states, keys, filter := spec.kept()
	var of any
	if !schedule.IsZero() {
		of = schedule
	}
	err := tx.Insert(ctx, "exports", []string{
		"id", "tenant_id", "record_type", "filter", "states", "format", "encrypt_to", "reason", "status", "rows", "complete", "attempt", "schedule_id", "requested_by_id", "created_at", "worked_at",
	}, [][]any{{id, a.Tenant, spec.Type, filter, states, string(spec.Format), keys, nullText(spec.Reason), string(status), 0, false, 0, of, a.User, tx.Now(), nullTime(worked)}})
	if err == nil {
		err = tx.Flush(ctx)
	}
	if err != nil {
		return fmt.Errorf("writing an export: %w", err)
	}
	return nil
}

// kept is what of a spec is written down.
func (spec *Spec) kept() (states, keys string, filter any) {
	names := make([]string, len(spec.States))
	for i, state := range spec.States {
		names[i] = string(state)
	}
	if spec.Filter != nil {
		filter = string(spec.Filter.Text)
	}
	return store.JSONStrings(names), store.JSONStrings(append([]string{}, spec.EncryptTo...)), filter
}

// log writes an event about an export. Its filter and reason may hold personal data,
// for which there is no seal here.
func (s *Service) log(ctx context.Context, tx *store.Tx, action string, id gid.ID, typ string, detail map[string]any) error {
	if detail == nil {
		detail = map[string]any{}
	}
	detail["export"], detail["type"] = id.String(), typ
	return s.Audit.Append(ctx, tx, audit.Event{Action: action, PolicyVersion: s.Control.Version(ctx, actor.From(ctx).Tenant), Detail: detail})
}

// Work makes an export until it has ended, or the context ends. What fails for a
// reason that may pass is an error, and is to be tried again.
func (s *Service) Work(ctx context.Context, tenant, id gid.ID) error {
	e, err := s.claim(ctx, tenant, id)
	if e == nil || err != nil {
		return err
	}
	a, err := s.ActAs(ctx, tenant, e.RequestedByID)
	if errors.Is(err, record.ErrLeft) {
		a = &actor.Actor{Kind: actor.User, Tenant: tenant, User: e.RequestedByID}
		return s.fail(actor.With(ctx, a), e, lifecycle.Forbidden)
	}
	if err != nil {
		return errors.Join(err, s.putBack(ctx, e))
	}
	err = s.make(actor.With(ctx, a), a, e)
	switch refused, ok := errors.AsType[*record.Error](err); {
	case err == nil, errors.Is(err, errLost):
		return nil
	case ok && refused.Code != lifecycle.AuthzUnavailable && ctx.Err() == nil:
		return s.fail(actor.With(ctx, a), e, refused.Code)
	}
	return errors.Join(err, s.putBack(ctx, e))
}

// claim takes an export up that waits, or of which who worked on it is gone; nil is
// none. Who worked on it before cannot finish it any more.
func (s *Service) claim(ctx context.Context, tenant, id gid.ID) (e *ent.Export, err error) {
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		n, err := store.Build(tx).Add(`UPDATE exports SET status = 'RUNNING', attempt = attempt + 1, rows = 0, worked_at = ?, blob_id = ?
			WHERE tenant_id = ? AND id = ? AND worked_at IS NOT NULL AND (status = 'PENDING' OR status = 'RUNNING' AND worked_at <= ?)`,
			tx.Now(), gid.New(gid.Export), tenant, id, tx.Now().Add(-lease)).Exec(ctx, tx)
		if err != nil || n == 0 {
			return err
		}
		if _, err := store.Build(tx).Add(`DELETE FROM export_rows WHERE export_id = ?`, id).Exec(ctx, tx); err != nil {
			return err
		}
		if e, err = s.Records.Client(ctx).Export.Get(visible.With(ctx, visible.Tenant(tenant)), id); err != nil {
			return err
		}
		// Before the first byte is written.
		return blob.Spare(ctx, tx, tx.Now().Add(spareTime), blob.Key(tenant, *e.BlobID))
	})
	if err != nil {
		return nil, fmt.Errorf("taking up an export: %w", err)
	}
	return e, nil
}

// make writes the file of an export that was taken up, and finishes it.
func (s *Service) make(ctx context.Context, a *actor.Actor, e *ent.Export) error {
	reason := ""
	if e.Reason != nil {
		reason = *e.Reason
	}
	spec, err := specOf(e.RecordType, e.Filter, e.States, e.EncryptTo, string(e.Format), reason)
	if err != nil {
		return err
	}
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	reading, u, err := s.begin(working, e.ID, a, spec)
	if err != nil {
		return err
	}
	u.page = func(rows []covered) error { return s.keepUp(working, e, u.manifest.Rows, rows) }
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.keepAlive(working, e, stop)
	}()
	defer func() { stop(nil); <-done }()

	key := blob.Key(e.TenantID, *e.BlobID)
	read, write := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		err := u.writeTo(reading, write)
		write.CloseWithError(err) // nil ends the file
		wrote <- err
	}()
	_, failed := s.Blobs.Write(working, key, read)
	_ = read.CloseWithError(errLost) // so that the writer does not wait for a reader that is gone
	err = <-wrote
	if cause := context.Cause(working); errors.Is(cause, errLost) {
		return errLost
	}
	switch {
	case err != nil && !errors.Is(err, errLost):
		return err
	case failed != nil:
		return failed
	case err != nil:
		return err
	}
	return s.finish(reading, e, u)
}

// keepUp writes down which records are in the file so far. It is the snapshot's
// context that must not be in use here: that only reads.
func (s *Service) keepUp(ctx context.Context, e *ent.Export, rows int, in []covered) error {
	return s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		n, err := store.Build(tx).Add(`UPDATE exports SET rows = ?, worked_at = ? WHERE id = ? AND status = 'RUNNING' AND attempt = ?`, rows, workedAt(e, tx.Now()), e.ID, e.Attempt).Exec(ctx, tx)
		if err == nil && n == 0 {
			err = errLost
		}
		if err == nil {
			err = tx.InsertEach(ctx, "export_rows", []string{"tenant_id", "export_id", "record_id", "version", "content"}, len(in), func(i int, row []any) error {
				copy(row, []any{e.TenantID, e.ID, in[i].id, in[i].version, in[i].content})
				return nil
			})
		}
		if err == nil {
			err = tx.Flush(ctx)
		}
		if err != nil {
			return fmt.Errorf("writing down what is exported: %w", err)
		}
		return nil
	})
}

// workedAt is null for exports of the command line, which nobody else takes up.
func workedAt(e *ent.Export, now time.Time) any {
	if e.WorkedAt == nil {
		return nil
	}
	return now
}

// keepAlive says every so often that somebody works on an export, also while no
// record is read, and stops the work when it is not to be finished.
func (s *Service) keepAlive(ctx context.Context, e *ent.Export, stop context.CancelCauseFunc) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n, err := store.Build(s.DB).Add(`UPDATE exports SET worked_at = ? WHERE id = ? AND status = 'RUNNING' AND attempt = ?`, s.DB.Now(), e.ID, e.Attempt).Exec(ctx, s.DB)
		if err == nil && n == 0 {
			stop(errLost)
			return
		}
	}
}

// finish ends an export, in the transaction from which on its bytes belong to it.
func (s *Service) finish(ctx context.Context, e *ent.Export, u *under) error {
	text, sum, err := u.manifest.encode()
	if err != nil {
		return err
	}
	return s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		if e.ScheduleID != nil { // who removes it meanwhile has its files expire, this one as well
			if _, err := store.Build(tx).Add(`SELECT id FROM export_schedules WHERE id = ?`, *e.ScheduleID).ForShare().Exec(ctx, tx); err != nil {
				return fmt.Errorf("locking a schedule: %w", err)
			}
		}
		var days int
		if _, err := store.Build(tx).Add(`SELECT export_days FROM tenants WHERE id = ?`, e.TenantID).One(ctx, tx, &days); err != nil {
			return fmt.Errorf("reading the tenant's settings: %w", err)
		}
		var expires, fetched any
		local := e.WorkedAt == nil
		switch {
		case local: // whoever asked for it has it
			fetched = tx.Now()
		case e.ScheduleID == nil:
			expires = tx.Now().Add(time.Duration(days) * 24 * time.Hour)
		}
		n, err := store.Build(tx).Add(`UPDATE exports SET status = 'SUCCEEDED', rows = ?, manifest = ?, manifest_sha256 = ?, complete = ?, worked_at = NULL, finished_at = ?, expires_at = ?, downloaded_at = ?
			WHERE id = ? AND status = 'RUNNING' AND attempt = ?`, u.manifest.Rows, string(text), sum, u.manifest.Complete, tx.Now(), expires, fetched, e.ID, e.Attempt).Exec(ctx, tx)
		if err == nil && n == 0 {
			return errLost
		}
		if err == nil && !local {
			err = blob.Take(ctx, tx, blob.Key(e.TenantID, *e.BlobID))
		}
		if err == nil && !u.manifest.Complete {
			err = s.forget(ctx, tx, e.ID)
		}
		if err == nil && e.ScheduleID != nil {
			err = s.keepNewest(ctx, tx, *e.ScheduleID)
		}
		if err == nil && e.ScheduleID != nil { // nobody counts the files of a schedule that is gone
			_, err = store.Build(tx).Add(`UPDATE exports SET expires_at = ? WHERE id = ? AND schedule_id IN (SELECT id FROM export_schedules WHERE removed_at IS NOT NULL)`,
				tx.Now().Add(time.Duration(days)*24*time.Hour), e.ID).Exec(ctx, tx)
		}
		if err != nil {
			return fmt.Errorf("finishing an export: %w", err)
		}
		s.tell(tx, e, export.StatusSUCCEEDED)
		return s.log(ctx, tx, "EXPORT_FINISH", e.ID, e.RecordType, map[string]any{
			"exportManifest": sum, "rows": u.manifest.Rows, "complete": u.manifest.Complete, "sha256": u.manifest.SHA256, "policyVersion": u.manifest.PolicyVersion,
		})
	})
}

// tell tells of an export that ends with the transaction.
func (s *Service) tell(tx *store.Tx, e *ent.Export, status export.Status) {
	if s.Ended == nil {
		return
	}
	tx.AfterEnd(func(committed bool) {
		if committed {
			s.Ended(string(e.Format), string(status))
		}
	})
}

// forget takes away what an export says of records: it stands for none of them.
func (s *Service) forget(ctx context.Context, tx *store.Tx, id gid.ID) error {
	_, err := store.Build(tx).Add(`DELETE FROM export_rows WHERE export_id = ?`, id).Exec(ctx, tx)
	return err
}

// putBack lets somebody else take an export up.
func (s *Service) putBack(ctx context.Context, e *ent.Export) error {
	_, err := store.Build(s.DB).Add(`UPDATE exports SET status = 'PENDING' WHERE id = ? AND status = 'RUNNING' AND attempt = ?`, e.ID, e.Attempt).Exec(context.WithoutCancel(ctx), s.DB)
	if err != nil {
		return fmt.Errorf("putting an export back: %w", err)
	}
	return nil
}

// fail ends an export that cannot be made.
func (s *Service) fail(ctx context.Context, e *ent.Export, code lifecycle.Code) error {
	return s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		n, err := store.Build(tx).Add(`UPDATE exports SET status = 'FAILED', code = ?, worked_at = NULL, finished_at = ?, blob_id = NULL WHERE id = ? AND status = 'RUNNING' AND attempt = ?`,
			string(code), tx.Now(), e.ID, e.Attempt).Exec(ctx, tx)
		if err != nil || n == 0 {
			return err
		}
		if err := s.forget(ctx, tx, e.ID); err != nil {
			return err
		}
		s.tell(tx, e, export.StatusFAILED)
		event := audit.Event{Action: "EXPORT_FINISH", Outcome: audit.Failed, Code: code, PolicyVersion: s.Control.Version(ctx, e.TenantID), Detail: map[string]any{"export": e.ID.String(), "type": e.RecordType}}
		return s.Audit.Append(ctx, tx, event)
	})
}

// GiveUp ends an export on which work has failed too often.
func (s *Service) GiveUp(ctx context.Context, tenant, id gid.ID) error {
	all := visible.With(ctx, visible.Tenant(tenant))
	e, err := s.Records.Client(all).Export.Get(all, id)
	if err != nil {
		return fmt.Errorf("reading an export: %w", err)
	}
	if e.Status != export.StatusPENDING && e.Status != export.StatusRUNNING {
		return nil
	}
	ctx = actor.With(ctx, actor.ForSystem(tenant))
	if _, err := store.Build(s.DB).Add(`UPDATE exports SET status = 'RUNNING' WHERE id = ? AND status = 'PENDING'`, id).Exec(ctx, s.DB); err != nil {
		return fmt.Errorf("giving an export up: %w", err)
	}
	return s.fail(ctx, e, lifecycle.Internal)
}

// TakeUp has the exports worked on that nobody works on any more, and answers how
// many. Because the process has just begun, where it is the only one, that is all of
// them that have not ended. Without a queue it makes them itself.
func (s *Service) TakeUp(ctx context.Context, began bool) (int, error) {
	now := s.DB.Now()
	since := now.Add(-lease)
	if began && s.DB.Dialect() != dialect.Postgres {
		since = now
	}
	return s.eachTenant(ctx, func(ctx context.Context, tenant gid.ID) (int, error) {
		var ids []gid.ID
		// What waits has its job in the queue, behind others for as long as these take. Where
		// there was none, or its process is gone, it may have no job any more.
		waiting := began || s.Queue == nil
		err := store.Build(s.DB).Add(`SELECT id FROM exports WHERE tenant_id = ? AND worked_at IS NOT NULL AND (status = 'RUNNING' AND worked_at <= ? OR status = 'PENDING' AND ?)
			ORDER BY id`, tenant, since, waiting).Query(ctx, s.DB, func(row store.Row) error {
			var id gid.ID
			err := row.Scan(&id)
			ids = append(ids, id)
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("looking for exports: %w", err)
		}
		var errs []error
		for _, id := range ids {
			errs = append(errs, s.takeUp(ctx, tenant, id, since, waiting))
			if s.Queue == nil {
				errs = append(errs, s.Work(ctx, tenant, id))
			}
		}
		return len(ids), errors.Join(errs...)
	})
}

// takeUp puts an export back that somebody left, and has it worked on. The one who
// works on it after all cannot finish it.
func (s *Service) takeUp(ctx context.Context, tenant, id gid.ID, since time.Time, waiting bool) error {
	return s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		n, err := store.Build(tx).Add(`UPDATE exports SET status = 'PENDING', attempt = attempt + 1, worked_at = ?
			WHERE id = ? AND (status = 'RUNNING' AND worked_at <= ? OR status = 'PENDING' AND ?)`, tx.Now(), id, since, waiting).Exec(ctx, tx)
		if err != nil || n == 0 || s.Queue == nil {
			return err
		}
		return s.Queue.EnqueueExport(ctx, tx, tenant, id)
	})
}

// Cancel ends an export that has not ended.
func (s *Service) Cancel(ctx context.Context, id gid.ID) error {
	return s.steer(ctx, id, "EXPORT_CANCEL", func(ctx context.Context, tx *store.Tx, e *ent.Export) error {
		if e.Status != export.StatusPENDING && e.Status != export.StatusRUNNING {
			return &record.Error{
				Code: lifecycle.IllegalTransition, Message: "only an export that has not ended can be cancelled", Fields: []string{"id"},
				Extensions: map[string]any{"status": string(e.Status)},
			}
		}
		// What was written so far goes when it was spare for too long: somebody may be
		// writing still.
		_, err := store.Build(tx).Add(`UPDATE exports SET status = 'CANCELLED', worked_at = NULL, finished_at = ?, blob_id = NULL WHERE id = ?`, tx.Now(), id).Exec(ctx, tx)
		if err == nil {
			err = s.forget(ctx, tx, id)
		}
		return err
	})
}

// Delete lets go of the file of an export, and of what it stands for.
func (s *Service) Delete(ctx context.Context, id gid.ID) error {
	return s.steer(ctx, id, "EXPORT_DELETE", func(ctx context.Context, tx *store.Tx, e *ent.Export) error {
		switch e.Status {
		case export.StatusPENDING, export.StatusRUNNING:
			return &record.Error{
				Code: lifecycle.IllegalTransition, Message: "it has not ended; cancel it", Fields: []string{"id"}, Extensions: map[string]any{"status": string(e.Status)},
			}
		case export.StatusSUCCEEDED, export.StatusEXPIRED:
		default:
			return nil // there is nothing to let go of
		}
		if err := s.letGo(ctx, tx, e); err != nil {
			return err
		}
		return s.forget(ctx, tx, id)
	})
}

// steer does something to an export that the actor may read, with the export locked.
func (s *Service) steer(ctx context.Context, id gid.ID, action string, do func(context.Context, *store.Tx, *ent.Export) error) error {
	return s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		a := actor.From(ctx)
		reading, _, err := s.reads(ctx, a)
		if err != nil {
			return err
		}
		if _, err := store.Build(tx).Add(`SELECT id FROM exports WHERE tenant_id = ? AND id = ?`, a.Tenant, id).ForUpdate().Exec(ctx, tx); err != nil {
			return fmt.Errorf("locking an export: %w", err)
		}
		e, err := s.Records.Client(ctx).Export.Get(reading, id)
		if ent.IsNotFound(err) {
			return s.refused(ctx, action, record.Refuse(lifecycle.NotFound, "there is no such export", "id"))
		}
		if err != nil {
			return fmt.Errorf("reading an export: %w", err)
		}
		if err := do(ctx, tx, e); err != nil {
			return s.refused(ctx, action, err)
		}
		return s.log(reading, tx, action, id, e.RecordType, nil)
	})
}

// letGo lets the bytes of an export go. Its manifest stays, and if its file was
// fetched, so does what it stands for.
func (s *Service) letGo(ctx context.Context, tx *store.Tx, e *ent.Export) error {
	if e.BlobID != nil {
		if err := blob.Spare(ctx, tx, tx.Now(), blob.Key(e.TenantID, *e.BlobID)); err != nil {
			return err
		}
	}
	_, err := store.Build(tx).Add(`UPDATE exports SET status = 'EXPIRED', blob_id = NULL, expires_at = NULL WHERE id = ?`, e.ID).Exec(ctx, tx)
	if err == nil { // asked now: it may have been fetched since it was read
		_, err = store.Build(tx).Add(`DELETE FROM export_rows WHERE export_id = ? AND EXISTS (SELECT 1 FROM exports WHERE id = ? AND downloaded_at IS NULL)`, e.ID, e.ID).Exec(ctx, tx)
	}
	if err != nil {
		return fmt.Errorf("letting an export go: %w", err)
	}
	return nil
}

// Expire lets the files go whose time has come, and answers how many.
func (s *Service) Expire(ctx context.Context) (int, error) {
	now := s.DB.Now()
	return s.eachTenant(ctx, func(ctx context.Context, tenant gid.ID) (int, error) {
		// What the command line left in the middle of, nobody takes up.
		_, err := store.Build(s.DB).Add(`UPDATE exports SET status = 'FAILED', code = ?, finished_at = ? WHERE tenant_id = ? AND status = 'RUNNING' AND worked_at IS NULL AND created_at <= ?`,
			string(lifecycle.Internal), now, tenant, now.Add(-lostTime)).Exec(ctx, s.DB)
		if err != nil {
			return 0, fmt.Errorf("giving exports up: %w", err)
		}
		all := visible.With(ctx, visible.Tenant(tenant))
		due, err := s.Records.Client(all).Export.Query().Where(export.ExpiresAtLTE(now), export.StatusEQ(export.StatusSUCCEEDED)).Order(export.ByExpiresAt()).All(all)
		if err != nil {
			return 0, fmt.Errorf("looking for exports: %w", err)
		}
		var errs []error
		done := 0
		for _, e := range due {
			err := s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
				n, err := store.Build(tx).Add(`UPDATE exports SET expires_at = NULL WHERE id = ? AND expires_at <= ? AND status = 'SUCCEEDED'`, e.ID, now).Exec(ctx, tx)
				if err != nil || n == 0 {
					return err
				}
				done++
				if err := s.letGo(ctx, tx, e); err != nil {
					return err
				}
				return s.log(ctx, tx, "EXPORT_EXPIRE", e.ID, e.RecordType, nil)
			})
			errs = append(errs, err)
		}
		return done, errors.Join(errs...)
	})
}

// ManifestOf reads the manifest of an export; nil while there is none.
func ManifestOf(e *ent.Export) (*Manifest, error) {
	if e.Manifest == nil {
		return nil, nil
	}
	m := &Manifest{}
	if err := json.Unmarshal([]byte(*e.Manifest), m); err != nil {
		return nil, fmt.Errorf("reading a manifest: %w", err)
	}
	return m, nil
}
