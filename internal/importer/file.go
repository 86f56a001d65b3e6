package importer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lethe-crm/lethe/ent/message"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// file is an attachment of a mail. Rows of one batch share it where they are the same
// mail: which of them becomes the message is not known before.
type file struct {
	*record.File

	name, kind string
	kept       bool // its bytes are written
	taken      bool // and an attachment refers to them
}

// filed says that a message has a file of this name and content. Of these a
// message gets one.
type filed struct{ messageID, name, sha256 string }

// keepFiles writes the bytes of the files that rows will need, before the
// transaction that refers to them: all those of mail that is not there, and those
// that its live twins lack. What becomes of a row is only seen there; by then a
// twin may have come or gone.
func (r *run) keepFiles(ctx context.Context, rows []*row) error {
	rows = slices.DeleteFunc(slices.Clone(rows), func(row *row) bool { return len(row.files) == 0 || row.filed })
	if len(rows) == 0 || r.DryRun {
		return nil
	}
	live, retired, err := r.twins(ctx, r.DB, rows, false)
	if err != nil {
		return err
	}
	there, err := r.filesThere(ctx, r.DB, rows)
	if err != nil {
		return err
	}
	var files []*record.File
	keeping := map[filed]*file{}
	for _, row := range rows {
		key := row.key(r.messageID())
		column := message.FieldMessageIDKey + " " + key
		for i, f := range row.files {
			same := filed{key, f.name, f.SHA256}
			switch {
			case there[same] || retired[column] && live[column].IsZero():
				f.Content = nil
			case keeping[same] != nil:
				row.files[i] = keeping[same]
			default:
				keeping[same], f.kept = f, true
				files = append(files, f.File)
			}
		}
		row.filed, row.held = true, 0
	}
	if len(files) == 0 {
		return nil
	}
	return r.Records.Keep(ctx, files...)
}

// forsakeFiles lets go of what was written and is not needed by rows that are
// done with.
func (r *run) forsakeFiles(ctx context.Context, rows []*row) error {
	needed := map[*file]bool{}
	for _, row := range rows {
		for _, f := range row.files {
			needed[f] = needed[f] || row.pending() || f.taken || !f.kept
		}
	}
	var files []*record.File
	for f, is := range needed {
		if !is {
			files = append(files, f.File)
		}
	}
	return r.Records.Forsake(ctx, files...)
}

// filesThere are the files that the live messages of some rows have, in whatever
// state: one that somebody deleted is not brought back by an import.
func (r *run) filesThere(ctx context.Context, q store.Querier, rows []*row) (map[filed]bool, error) {
	out := map[filed]bool{}
	err := store.Build(q).Add(`SELECT m.message_id_key, a.filename, a.sha256 FROM messages m JOIN attachments a ON a.message_id = m.id
		WHERE m.tenant_id = ? AND m.retired_at IS NULL AND a.sha256 IS NOT NULL AND `, r.actor.Tenant).
		Strings("m.message_id_key", distinct(rows, func(row *row) []string { return []string{row.key(r.messageID())} })).
		Query(ctx, q, func(row store.Row) error {
			var f filed
			err := row.Scan(&f.messageID, &f.name, &f.sha256)
			out[f] = true
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("looking for files: %w", err)
	}
	return out, nil
}

// attach makes attachments of the files of messages that were created, and of
// those that their live twins lack, as far as the actor may see these.
func (r *run) attach(ctx context.Context, tx *store.Tx, rows []*row) error {
	rows = slices.DeleteFunc(slices.Clone(rows), func(row *row) bool {
		return len(row.files) == 0 || row.item.Outcome != Created && row.item.Outcome != Duplicate
	})
	if len(rows) == 0 {
		return nil
	}
	targets, err := r.liveMessages(ctx, rows)
	if err != nil {
		return err
	}
	there, err := r.filesThere(ctx, tx, rows)
	if err != nil {
		return err
	}
	var files []*record.File
	var of []*row
	var as []*file
	for _, row := range rows {
		key := row.key(r.messageID())
		target, known := targets[key]
		if row.created != nil {
			target, known = row.created.RecordID(), true
		}
		if !known {
			continue
		}
		for _, f := range row.files {
			same := filed{key, f.name, f.SHA256}
			if there[same] {
				continue
			}
			if !r.DryRun && (!f.kept || f.taken) { // the twin that had it, or got it, is gone
				row.item.AttachmentsFailed++
				row.item.Warnings = append(row.item.Warnings, fmt.Sprintf("the attachment %q is not kept: the message that had it was purged meanwhile; import it again", f.name))
				continue
			}
			there[same] = true
			f.Values = record.Values{"filename": f.name, "mediaType": f.kind, "messageID": target}
			files, of, as = append(files, f.File), append(of, row), append(as, f)
		}
	}
	if len(files) == 0 {
		return nil
	}
	if r.DryRun { // there are no bytes, and there will be no attachments
		if err := r.Records.Reserve(ctx, files...); err != nil {
			return err
		}
	}
	_, refusals, err := r.Records.Attach(ctx, files)
	if err != nil {
		return err
	}
	for i, refusal := range refusals {
		refused, ok := errors.AsType[*record.Error](refusal)
		switch {
		case refusal == nil:
			tx.AfterEnd(func(committed bool) { as[i].taken = committed })
			of[i].item.Attachments++
		case !ok:
			return refusal
		default:
			of[i].item.AttachmentsFailed++
			of[i].item.Warnings = append(of[i].item.Warnings, fmt.Sprintf("the attachment %q is not kept: %s %s", as[i].name, refused.Code, reason(refused)))
		}
	}
	return nil
}

// liveMessages are those that the duplicates among some rows are duplicates of,
// as far as the actor may see them.
func (r *run) liveMessages(ctx context.Context, rows []*row) (map[string]gid.ID, error) {
	out := map[string]gid.ID{}
	keys := distinct(rows, func(row *row) []string {
		if row.created != nil {
			return nil
		}
		return []string{row.key(r.messageID())}
	})
	for some := range slices.Chunk(keys, lookupKeys) {
		var found []struct {
			ID  gid.ID `sql:"id"`
			Key string `sql:"message_id_key"`
		}
		err := r.Records.Client(ctx).Message.Query().Where(message.RetiredAtIsNil(), message.MessageIDKeyIn(some...)).
			Select(message.FieldID, message.FieldMessageIDKey).Scan(ctx, &found)
		if err != nil {
			return nil, fmt.Errorf("looking up messages: %w", err)
		}
		for _, m := range found {
			out[m.Key] = m.ID
		}
	}
	return out, nil
}
