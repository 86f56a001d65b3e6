package export_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

func TestCheckAndBackupKnowTheFilesOfExports(t *testing.T) {
	each(t, func(w *world) {
		w.customer("admin", "one")
		id, err := w.exports.Create(w.as("compliance"), customers)
		w.NoError(err)
		w.work()
		_, err = w.exports.ToStream(w.as("compliance"), customers, io.Discard) // has no file here
		w.NoError(err)
		kept := blob.Key(w.tenant, *w.export(id).BlobID)
		// Another is being made, and of a third something was left behind.
		making, stray := blob.Key(w.tenant, gid.New(gid.Export)), blob.Key(w.tenant, gid.New(gid.Export))
		for _, key := range []string{making, stray} {
			_, err := w.blobs.Write(w.Context(), key, strings.NewReader("bytes"))
			w.NoError(err)
		}
		spare := func(key string) {
			w.NoError(w.db.InTx(w.Context(), func(ctx context.Context, tx *store.Tx) error { return blob.Spare(ctx, tx, tx.Now(), key) }))
		}
		spare(making)
		check := func() record.Checked {
			found, err := w.records.Check(w.Context(), w.blobs, nil)
			w.NoError(err)
			w.Equal(1, found.Exports)
			return found
		}
		found := check()
		w.Equal([]record.Finding{{Problem: record.StrayBytes, Key: stray}}, found.Findings)
		w.NoError(w.records.Repair(w.Context(), w.blobs, &found))
		w.Empty(check().Findings)

		var keys []string
		w.NoError(record.EachKey(w.Context(), w.db, func(key string) error { keys = append(keys, key); return nil }))
		w.Equal([]string{kept}, keys)

		// As if somebody had removed the file.
		spare(kept)
		w.NoError(w.blobs.Remove(w.Context(), w.db, []string{kept}))
		w.Equal([]record.Finding{{Problem: record.MissingBytes, Tenant: w.tenant, Record: id, Key: kept}}, check().Findings)
		refers, err := record.Refers(w.Context(), w.db, kept)
		w.NoError(err)
		w.True(refers)
	})
}
