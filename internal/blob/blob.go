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
	"os"
	"path/filepath"
	"slices"
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

const (
	// sweepBatch is how many keys are let go at a time.
	sweepBatch = 200
	// putOff is when what could not be removed is tried again.
	putOff = time.Hour
)

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
	folder *folder // nil where it is none
}

// Open opens a bucket by its URL: file:///folder, s3://name?region=…, azblob://name,
// or mem:// for tests.
func Open(ctx context.Context, address string) (*Bucket, error) {
	scheme, _, _ := strings.Cut(address, ":") // the rest may hold a password
	bucket, err := blob.OpenBucket(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("opening the %s bucket: %w", scheme, err)
	}
	b := &Bucket{bucket: bucket}
	if scheme == "file" {
		if b.folder, err = folderAt(address); err != nil {
			return nil, errors.Join(err, bucket.Close())
		}
	}
	return b, nil
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

// Copy copies the bytes under a key to another bucket, and answers how many.
func (b *Bucket) Copy(ctx context.Context, key string, to *Bucket) (size int64, err error) {
	r, err := b.Open(ctx, key)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return to.Write(ctx, key, r)
}

// Has reports whether there are bytes under a key.
func (b *Bucket) Has(ctx context.Context, key string) (bool, error) {
	there, err := b.bucket.Exists(ctx, key)
	if err != nil {
		return false, fmt.Errorf("looking for bytes: %w", err)
	}
	return there, nil
}

// Key is where the bytes of something of a tenant are. The first is the id of a
// tenant, so that one can be told from another in the bucket as well.
func Key(tenant, of gid.ID) string { return tenant.String() + "/" + of.String() }

// Write keeps all that a reader has under a key that is spare, and answers how
// much that was. Of what fails nothing is kept. What it answered outlives the power:
// the transaction that refers to it does so, too.
func (b *Bucket) Write(ctx context.Context, key string, from io.Reader) (size int64, err error) {
	writing, cancel := context.WithCancel(ctx)
	defer cancel()
	var file *os.File
	w, err := b.bucket.NewWriter(writing, key, &blob.WriterOptions{ContentType: "application/octet-stream", BeforeWrite: func(as func(any) bool) error {
		as(&file) // where the bucket is a folder
		return nil
	}})
	if err != nil {
		return 0, fmt.Errorf("writing bytes: %w", err)
	}
	if size, err = io.Copy(w, from); err != nil {
		cancel() // so that Close throws away what there is
		_ = w.Close()
		return 0, err
	}
	if b.folder != nil {
		if err := b.folder.syncFile(file); err != nil {
			cancel()
			_ = w.Close()
			return 0, fmt.Errorf("writing bytes: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return 0, fmt.Errorf("writing bytes: %w", err)
	}
	if b.folder != nil {
		if err := b.folder.syncNames(key); err != nil {
			return 0, fmt.Errorf("writing bytes: %w", err)
		}
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

// Keys calls f for every key there is, in order, with how many bytes it has. What a
// killed process left in a folder is among them.
func (b *Bucket) Keys(ctx context.Context, f func(key string, size int64) error) error {
	if b.folder != nil {
		return b.folder.keys(ctx, f)
	}
	list := b.bucket.List(nil)
	for {
		object, err := list.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listing bytes: %w", err)
		}
		if err := f(object.Key, object.Size); err != nil {
			return err
		}
	}
}

// delete removes bytes, also those of which only a part was written, and answers
// of which keys it could not. These hold up no others.
func (b *Bucket) delete(ctx context.Context, keys []string) (failed map[string]bool, err error) {
	var errs []error
	failed, missing := map[string]bool{}, map[string]bool{}
	for _, key := range keys {
		err := b.bucket.Delete(ctx, key)
		switch {
		case err == nil:
		case gcerrors.Code(err) == gcerrors.NotFound:
			missing[key] = true
		default:
			failed[key] = true
			errs = append(errs, fmt.Errorf("removing bytes: %w", err))
		}
	}
	if b.folder == nil || len(missing) == 0 {
		return failed, errors.Join(errs...)
	}
	torn, err := b.folder.torn(missing)
	if err != nil {
		return nil, err
	}
	for name, key := range torn {
		if err := b.bucket.Delete(ctx, name); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			failed[key] = true
			errs = append(errs, fmt.Errorf("removing bytes: %w", err))
		}
	}
	return failed, errors.Join(errs...)
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

// Take says, in the transaction that refers to keys from now on, that they are not
// spare. It answers ErrExpired when the bytes of one may be gone.
func Take(ctx context.Context, tx *store.Tx, keys ...string) error {
	n, err := store.Build(tx).Add(`DELETE FROM blob_spares WHERE going = ? AND `, false).Strings("blob_key", keys).Exec(ctx, tx)
	if err != nil {
		return fmt.Errorf("taking bytes: %w", err)
	}
	if n != int64(len(keys)) {
		return ErrExpired
	}
	return nil
}

// Forsake says that keys which are spare will not be taken: their bytes go with
// the next sweep.
func Forsake(ctx context.Context, db *store.DB, keys ...string) error {
	return db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		_, err := store.Build(tx).Add(`UPDATE blob_spares SET until = ? WHERE going = ? AND `, tx.Now(), false).Strings("blob_key", keys).Exec(ctx, tx)
		if err != nil {
			return fmt.Errorf("giving bytes up: %w", err)
		}
		return nil
	})
}

// Sweep removes the bytes of keys that were spare for too long, and answers how
// many. It can be stopped anywhere, and several may do it at once. Keys that cannot
// be removed are tried again later, and hold up no others.
func (b *Bucket) Sweep(ctx context.Context, db *store.DB) (removed int, err error) {
	for {
		due, n, failed := b.remove(ctx, db, nil)
		removed, err = removed+n, errors.Join(err, failed)
		// Where nothing of a batch can be removed it is not for the keys.
		if due < sweepBatch || n == 0 {
			return removed, err
		}
	}
}

// Remove removes the bytes of those of some keys that were spare for too long.
func (b *Bucket) Remove(ctx context.Context, db *store.DB, keys []string) (err error) {
	for some := range slices.Chunk(keys, sweepBatch) {
		due, n, failed := b.remove(ctx, db, some)
		err = errors.Join(err, failed)
		if due > 0 && n == 0 {
			return err
		}
	}
	return err
}

// remove lets go of a batch of what is due, or of what of some keys is, and answers
// how much was due and how much is gone.
func (b *Bucket) remove(ctx context.Context, db *store.DB, among []string) (due, removed int, err error) {
	var keys []string
	// Whatever let go of the keys was committed before. Of none of it the power may take
	// anything back once the bytes are gone.
	err = db.Durable().InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		keys = nil
		stmt := store.Build(tx).Add(`SELECT blob_key FROM blob_spares WHERE until <= ?`, tx.Now())
		if among != nil {
			stmt.Add(` AND `).Strings("blob_key", among)
		}
		// Who takes a key meanwhile waits for this, and finds it going.
		err := stmt.Add(` ORDER BY until, blob_key LIMIT ?`, sweepBatch).ForUpdate().Query(ctx, tx, func(row store.Row) error {
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
		return 0, 0, fmt.Errorf("looking for bytes without an owner: %w", err)
	}
	if len(keys) == 0 {
		return 0, 0, nil
	}
	failed, err := b.delete(ctx, keys)
	gone := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return failed[key] })
	rest := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !failed[key] })
	wrong := db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		if _, err := store.Build(tx).Add(`DELETE FROM blob_spares WHERE `).Strings("blob_key", gone).Exec(ctx, tx); err != nil {
			return err
		}
		if len(rest) == 0 {
			return nil
		}
		_, err := store.Build(tx).Add(`UPDATE blob_spares SET until = ? WHERE `, tx.Now().Add(putOff)).Strings("blob_key", rest).Exec(ctx, tx)
		return err
	})
	if wrong != nil {
		return len(keys), 0, errors.Join(err, fmt.Errorf("forgetting bytes without an owner: %w", wrong))
	}
	return len(keys), len(gone), err
}
