// Package blob keeps bytes that no database should: of attachments and exports,
// in a folder or a bucket.
//
// A transaction and a bucket cannot commit together. So the database says which
// bytes may be without an owner: a key is spare from before its first byte is
// written until the transaction that refers to it, and again from the transaction
// that refers to it no more. What is spare for too long goes. Whoever is killed in
// between leaves nothing behind that a later sweep does not find.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/azureblob" // azblob://
	_ "gocloud.dev/blob/fileblob"  // file://
	_ "gocloud.dev/blob/memblob"   // mem://
	_ "gocloud.dev/blob/s3blob"    // s3://, which Google's and many others speak as well
	"gocloud.dev/gcerrors"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// sweepBatch is how many keys are let go at a time.
const sweepBatch = 200

// The ways in which bytes are not there.
var (
	// ErrNotFound says that there are no bytes under a key.
	ErrNotFound = errors.New("blob: there are no such bytes")
	// ErrExpired says that bytes were spare for too long and may be gone.
	ErrExpired = errors.New("blob: it took too long to refer to the bytes")
)

// Bucket is where bytes are kept, by key.
type Bucket struct {
	bucket *blob.Bucket
}

// Open opens a bucket by its URL: file:///folder, s3://name?region=…, azblob://name,
// or mem:// for tests.
func Open(ctx context.Context, address string) (*Bucket, error) {
	bucket, err := blob.OpenBucket(ctx, address)
	if err != nil {
		scheme, _, _ := strings.Cut(address, ":") // the rest may hold a password
		return nil, fmt.Errorf("opening the %s bucket: %w", scheme, err)
	}
	return &Bucket{bucket}, nil
}

// Folder is the URL of a folder, which is made when something is written to it. A
// file is there when it is complete.
func Folder(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("finding the folder of bytes: %w", err)
	}
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: "create_dir=true&no_tmp_dir=true&metadata=skip&dir_file_mode=448"}).String(), nil
}

// Close lets go of the bucket.
func (b *Bucket) Close() error { return b.bucket.Close() }

// Key is where the bytes of something of a tenant are. The first is the id of a
// tenant, so that one can be told from another in the bucket as well.
func Key(tenant, of gid.ID) string { return tenant.String() + "/" + of.String() }

// Write keeps all that a reader has under a key that is spare, and answers how
// much that was. Of what fails nothing is kept.
func (b *Bucket) Write(ctx context.Context, key string, from io.Reader) (size int64, err error) {
	writing, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := b.bucket.NewWriter(writing, key, &blob.WriterOptions{ContentType: "application/octet-stream"})
	if err != nil {
		return 0, fmt.Errorf("writing bytes: %w", err)
	}
	if size, err = io.Copy(w, from); err != nil {
		cancel() // so that Close throws away what there is
		_ = w.Close()
		return 0, err
	}
	if err := w.Close(); err != nil {
		return 0, fmt.Errorf("writing bytes: %w", err)
	}
	return size, nil
}

// Open answers a reader that can seek, as http.ServeContent wants it, and when the
// bytes were written.
func (b *Bucket) Open(ctx context.Context, key string) (*blob.Reader, error) {
	r, err := b.bucket.NewReader(ctx, key, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading bytes: %w", err)
	}
	return r, nil
}

// Keys calls f for every key there is, in order.
func (b *Bucket) Keys(ctx context.Context, f func(key string) error) error {
	list := b.bucket.List(nil)
	for {
		object, err := list.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listing bytes: %w", err)
		}
		if err := f(object.Key); err != nil {
			return err
		}
	}
}

// Spare says, in a transaction, that nothing refers to keys (any more), and that
// their bytes go when it is time. Before bytes are written that transaction must
// be committed.
func Spare(ctx context.Context, tx *store.Tx, until time.Time, keys ...string) error {
	rows := make([][]any, len(keys))
	for i, key := range keys {
		rows[i] = []any{key, until, false}
	}
	if err := tx.Insert(ctx, "blob_spares", []string{"blob_key", "until", "going"}, rows); err != nil {
		return fmt.Errorf("noting bytes without an owner: %w", err)
	}
	return nil
}

// Take says, in the transaction that refers to a key from now on, that it is not
// spare. It answers ErrExpired when the bytes may be gone.
func Take(ctx context.Context, tx *store.Tx, key string) error {
	n, err := store.Build(tx).Add(`DELETE FROM blob_spares WHERE blob_key = ? AND going = ?`, key, false).Exec(ctx, tx)
	if err != nil {
		return fmt.Errorf("taking bytes: %w", err)
	}
	if n == 0 {
		return ErrExpired
	}
	return nil
}

// Sweep removes the bytes of keys that were spare for too long, and answers how
// many. It can be stopped anywhere, and several may do it at once.
func (b *Bucket) Sweep(ctx context.Context, db *store.DB) (removed int, err error) {
	for {
		var keys []string
		err := db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
			keys = nil
			// Who takes a key meanwhile waits for this, and finds it going.
			err := store.Build(tx).Add(`SELECT blob_key FROM blob_spares WHERE until <= ? ORDER BY until, blob_key LIMIT ?`, tx.Now(), sweepBatch).ForUpdate().
				Query(ctx, tx, func(row store.Row) error {
					var key string
					err := row.Scan(&key)
					keys = append(keys, key)
					return err
				})
			if err == nil && len(keys) > 0 {
				_, err = store.Build(tx).Add(`UPDATE blob_spares SET going = ? WHERE `, true).Strings("blob_key", keys).Exec(ctx, tx)
			}
			return err
		})
		if err != nil {
			return removed, fmt.Errorf("looking for bytes without an owner: %w", err)
		}
		if len(keys) == 0 {
			return removed, nil
		}
		for _, key := range keys {
			if err := b.bucket.Delete(ctx, key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
				return removed, fmt.Errorf("removing bytes: %w", err)
			}
		}
		err = db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
			_, err := store.Build(tx).Add(`DELETE FROM blob_spares WHERE `).Strings("blob_key", keys).Exec(ctx, tx)
			return err
		})
		if err != nil {
			return removed, fmt.Errorf("forgetting bytes without an owner: %w", err)
		}
		removed += len(keys)
		if len(keys) < sweepBatch {
			return removed, nil
		}
	}
}
