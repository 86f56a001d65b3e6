package record_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// withBlobs gives the world a bucket.
func (w *world) withBlobs() *blob.Bucket {
	w.t.Helper()
	address, err := blob.Folder(filepath.Join(w.t.TempDir(), "blobs"))
	require.NoError(w.t, err)
	bucket, err := blob.Open(w.t.Context(), address)
	require.NoError(w.t, err)
	w.t.Cleanup(func() {
		w.verify() // which looks into it
		require.NoError(w.t, bucket.Close())
	})
	w.svc.WithBlobs(bucket)
	return bucket
}

// file uploads a file to a record.
func (w *world) file(as, edge string, of gid.ID, name, content string) gid.ID {
	w.t.Helper()
	file, err := w.svc.Receive(w.as(as), strings.NewReader(content))
	require.NoError(w.t, err)
	file.Values = record.Values{"filename": name, edge: of}
	made, refusals, err := w.svc.Attach(w.as(as), []*record.File{file})
	require.NoError(w.t, err)
	require.NoError(w.t, refusals[0])
	return made[0].ID
}

// bytesMatch checks that the bytes there are, and those that attachments say there are, are the same.
func (w *world) bytesMatch(bucket *blob.Bucket) (n int) {
	w.t.Helper()
	keys := []string{}
	require.NoError(w.t, bucket.Keys(w.t.Context(), func(key string, _ int64) error { keys = append(keys, key); return nil }))
	said := []string{}
	for _, text := range w.rows(`SELECT CAST(id AS text) FROM attachments WHERE sha256 IS NOT NULL`) {
		id, err := gid.ParseUUID(text)
		require.NoError(w.t, err)
		said = append(said, blob.Key(w.tenant, id))
	}
	slices.Sort(keys)
	slices.Sort(said)
	require.Equal(w.t, said, keys)
	require.Empty(w.t, w.rows(`SELECT blob_key FROM blob_spares`))
	return len(keys)
}

func TestBytesStayAsLongAsTheirAttachment(t *testing.T) {
	each(t, func(w *world) {
		bucket := w.withBlobs()
		c := w.customer("admin", "a")
		m := w.message("admin", c, "m")
		bare := w.create("admin", "Attachment", record.Values{"filename": "no bytes", "customerID": c}).RecordID()
		ids := []gid.ID{w.file("admin", "customerID", c, "one", "1"), w.file("admin", "messageID", m, "two", "22"), w.file("admin", "messageID", m, "three", "333")}
		require.Equal(w.t, 3, w.bytesMatch(bucket))

		// Whatever can be taken back keeps them.
		op := w.delete("admin", c)
		require.Equal(w.t, 3, w.bytesMatch(bucket))
		_, err := w.svc.Undo(w.as("admin"), op.ID, record.Request{})
		require.NoError(w.t, err)
		w.void("admin", c)
		w.delete("admin", c)
		w.restore("admin", c)
		w.restore("admin", c)
		require.Equal(w.t, 3, w.bytesMatch(bucket))
		for i, id := range ids {
			ctx := visible.With(w.t.Context(), visible.Everything)
			a, err := w.svc.Client(ctx).Attachment.Get(ctx, id)
			require.NoError(w.t, err)
			r, err := w.svc.Bytes(w.as("admin"), a)
			require.NoError(w.t, err)
			text, err := io.ReadAll(r)
			require.NoError(w.t, errors.Join(err, r.Close()))
			require.Equal(w.t, []string{"1", "22", "333"}[i], string(text))
		}

		w.delete("admin", ids[0])
		w.purge("purger", ids[0])
		require.Equal(w.t, 2, w.bytesMatch(bucket), "they are gone when the purge has ended")

		// A document that is rolled back purges nothing.
		w.delete("admin", m)
		torn := errors.New("torn")
		require.ErrorIs(w.t, w.db.InTx(w.as("purger"), func(ctx context.Context, _ *store.Tx) error {
			op, err := w.svc.Run(ctx, record.Request{Verb: lifecycle.Purge, Select: record.Selection{IDs: []gid.ID{m}}})
			require.NoError(w.t, err)
			require.Equal(w.t, 3, op.Changed)
			return torn
		}), torn)
		require.Equal(w.t, 2, w.bytesMatch(bucket))

		// A timer's purge is a purge.
		w.clock.add(40 * 24 * time.Hour)
		_, err = w.svc.Sweep(w.everything())
		require.NoError(w.t, err)
		require.Zero(w.t, w.bytesMatch(bucket))

		// So is one of what is live.
		w.file("admin", "customerID", c, "four", "4444")
		require.Equal(w.t, 1, w.bytesMatch(bucket))
		op, err = w.svc.Run(w.as("system"), record.Request{Verb: lifecycle.Purge, IncludeLive: true, Select: record.Selection{IDs: []gid.ID{c}}})
		require.NoError(w.t, err)
		require.Equal(w.t, 3, op.Changed, "with the attachment that has no bytes")
		require.Equal(w.t, lifecycle.State(""), w.state(bare))
		require.Zero(w.t, w.bytesMatch(bucket))
		w.eventsMatchChanges()
	})
}

func TestAJobThatPurgesLetsGoOfBytes(t *testing.T) {
	each(t, func(w *world) {
		w.caps(nil, nil, nil, nil)
		bucket := w.withBlobs()
		w.svc.Resize(4, 2, 100)
		c := w.customer("admin", "a")
		var messages []gid.ID
		for i := range 6 {
			m := w.message("admin", c, fmt.Sprint(i))
			w.file("admin", "messageID", m, "f", fmt.Sprint(i))
			messages = append(messages, m)
		}
		finish := func(as string, verb lifecycle.Verb) {
			op := w.run(as, record.Request{Verb: verb, Select: record.Selection{IDs: messages}})
			require.Nil(w.t, op.FinishedAt, "it is a job")
			require.NoError(w.t, w.svc.Work(w.t.Context(), w.actAs(), w.tenant, op.ID))
		}
		finish("admin", lifecycle.Delete)
		require.Equal(w.t, 6, w.bytesMatch(bucket))
		finish("purger", lifecycle.Purge)
		require.Zero(w.t, w.bytesMatch(bucket))
		require.Empty(w.t, w.rows(`SELECT CAST(id AS text) FROM messages`))
	})
}

func TestAProcessWithoutABucketLeavesBytesToTheSweeper(t *testing.T) {
	each(t, func(w *world) {
		bucket := w.withBlobs()
		c := w.customer("admin", "a")
		w.file("admin", "customerID", c, "one", "1")
		w.svc.WithBlobs(nil)
		w.delete("admin", c)
		w.purge("purger", c)
		require.Len(w.t, w.rows(`SELECT blob_key FROM blob_spares`), 1)
		n, err := bucket.Sweep(w.t.Context(), w.db)
		require.NoError(w.t, err)
		require.Equal(w.t, 1, n)
		require.Zero(w.t, w.bytesMatch(bucket))
	})
}

func TestNobodyClaimsBytes(t *testing.T) {
	each(t, func(w *world) {
		w.withBlobs()
		c := w.customer("admin", "a")
		other := w.file("admin", "customerID", c, "one", "1")
		for field, value := range map[string]any{"sha256": strings.Repeat("0", 64), "size": 12, "id": other} {
			_, err := w.svc.Create(w.as("admin"), "Attachment", record.Values{"filename": "f", "customerID": c, field: value})
			refused, ok := errors.AsType[*record.Error](err)
			require.True(w.t, ok, "%v", err)
			require.Equal(w.t, []string{field}, refused.Fields)
			_, err = w.svc.Update(w.as("admin"), other, 1, record.Values{field: value})
			refused, ok = errors.AsType[*record.Error](err)
			require.True(w.t, ok, "%v", err)
			require.Equal(w.t, []string{field}, refused.Fields)
		}
		// Nor those of another's upload, once they are taken.
		again := record.NewFile([]byte("1"))
		again.Values = record.Values{"filename": "f", "customerID": c}
		_, _, err := w.svc.Attach(w.as("admin"), []*record.File{again})
		refused, ok := errors.AsType[*record.Error](err)
		require.True(w.t, ok, "%v", err)
		require.Equal(w.t, lifecycle.Limit, refused.Code)
		require.Len(w.t, w.rows(`SELECT filename FROM attachments`), 1)
	})
}

func TestAttachingManyTakesAFewStatements(t *testing.T) {
	each(t, func(w *world) {
		w.withBlobs()
		c := w.customer("admin", "a")
		attach := func(n int) int {
			files := make([]*record.File, n)
			for i := range files {
				var err error
				files[i], err = w.svc.Receive(w.as("admin"), strings.NewReader("x"))
				require.NoError(w.t, err)
				files[i].Values = record.Values{"filename": fmt.Sprint(i), "customerID": c}
			}
			w.sql.reset()
			_, refusals, err := w.svc.Attach(w.as("admin"), files)
			require.NoError(w.t, err)
			for _, refused := range refusals {
				require.NoError(w.t, refused)
			}
			return w.sql.count()
		}
		few, many := attach(2), attach(300)
		require.LessOrEqual(w.t, many, few+1)
		ctx := actor.With(w.everything(), actor.ForSystem(w.tenant))
		w.sql.reset()
		_, err := w.svc.Run(visible.With(ctx, w.svc.Rows(ctx)), record.Request{Verb: lifecycle.Purge, IncludeLive: true, Select: record.Selection{IDs: []gid.ID{c}}})
		require.NoError(w.t, err)
		require.Less(w.t, w.sql.count(), 70)
	})
}
