package record

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/attachment"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// The bytes of an attachment are written before it is created: under a key that is spare until the transaction that
// creates it. Its SHA-256 says that there are bytes; nobody sets it but who read them. Whoever purges it makes the key
// spare again, in the same transaction. So nothing refers to bytes that are not there, and what is there without being
// referred to goes with the next sweep.

// UploadTime is for how long bytes are kept that nothing refers to: within it they must be written and their attachment
// created.
const UploadTime = 30 * time.Minute

// removeTime is how long whoever purges waits for bytes to be removed. The sweeper removes the rest.
const removeTime = 5 * time.Second

// writers is how many files are written at the same time, where there are many:
// most of the time goes to waiting for the bucket.
const writers = 8

// MaxFile is the largest file there can be, in bytes.
const MaxFile = math.MaxInt32

// File is the file of an attachment that is about to be created.
type File struct {
	ID     gid.ID // of the attachment
	SHA256 string
	Size   int
	// Values are the attachment's other fields.
	Values Values
	// Content are the bytes until they are kept; nil where they went by.
	Content []byte
}

// NewFile says of bytes what an attachment keeps of them.
func NewFile(content []byte) *File {
	sum := sha256.Sum256(content)
	return &File{ID: gid.New(gid.Attachment), SHA256: hex.EncodeToString(sum[:]), Size: len(content), Content: content}
}

// WithBlobs has whoever purges attachments remove their bytes at once. Without it that is left to the sweeper.
func (s *Service) WithBlobs(b *blob.Bucket) *Service {
	s.blobs = b
	return s
}

// DownloadURL is the path at which the server answers an attachment's bytes, nil
// where there are none.
func DownloadURL(a *ent.Attachment) *string {
	if a.Sha256 == nil {
		return nil
	}
	path := "/attachments/" + a.ID.String()
	return &path
}

// Receive keeps the bytes of a file, for UploadTime unless Attach takes them. What the reader fails with is answered as
// it is.
func (s *Service) Receive(ctx context.Context, from io.Reader) (*File, error) {
	a := actor.From(ctx)
	if err := s.mayAttach(ctx, a); err != nil {
		return nil, err
	}
	file := &File{ID: gid.New(gid.Attachment)}
	if err := s.Reserve(ctx, file); err != nil {
		return nil, err
	}
	sum := sha256.New()
	size, err := s.blobs.Write(ctx, blob.Key(a.Tenant, file.ID), io.TeeReader(from, sum))
	if err != nil {
		return nil, errors.Join(err, s.Forsake(ctx, file))
	}
	file.Size, file.SHA256 = int(size), hex.EncodeToString(sum.Sum(nil))
	return file, nil
}

// Keep keeps the bytes of files, as Receive does, and lets go of their contents.
func (s *Service) Keep(ctx context.Context, files ...*File) error {
	if err := s.Reserve(ctx, files...); err != nil {
		return err
	}
	tenant := actor.From(ctx).Tenant
	writing, ctx := errgroup.WithContext(ctx)
	writing.SetLimit(writers)
	for _, f := range files {
		writing.Go(func() error {
			_, err := s.blobs.Write(ctx, blob.Key(tenant, f.ID), bytes.NewReader(f.Content))
			f.Content = nil
			return err
		})
	}
	return writing.Wait()
}

// Reserve lets bytes of files be kept for UploadTime, before there are any.
func (s *Service) Reserve(ctx context.Context, files ...*File) error {
	return s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		return blob.Spare(ctx, tx, tx.Now().Add(UploadTime), keysOf(actor.From(ctx).Tenant, files)...)
	})
}

// mayAttach refuses who could not create any attachment: his bytes are not read.
func (s *Service) mayAttach(ctx context.Context, a *actor.Actor) error {
	could, err := s.control.CouldEver(ctx, a, authz.Create, ent.TypeAttachment)
	if err != nil {
		return Refuse(lifecycle.AuthzUnavailable, "access could not be decided; try again")
	}
	if !could {
		s.logRefusal(ctx, store.TxFrom(ctx), audit.Event{Action: "CREATE", Code: lifecycle.Forbidden, RecordType: ent.TypeAttachment, Count: 1})
		return Refuse(lifecycle.Forbidden, "the policy does not allow this")
	}
	return nil
}

// Forsake lets go of files that no attachment will be created of.
func (s *Service) Forsake(ctx context.Context, files ...*File) error {
	if len(files) == 0 {
		return nil
	}
	return blob.Forsake(context.WithoutCancel(ctx), s.db, keysOf(actor.From(ctx).Tenant, files)...)
}

func keysOf(tenant gid.ID, files []*File) []string {
	keys := make([]string, len(files))
	for i, f := range files {
		keys[i] = blob.Key(tenant, f.ID)
	}
	return keys
}

// Attach makes attachments of files whose bytes are there, as CreateMany makes records of values.
func (s *Service) Attach(ctx context.Context, files []*File) (out []*ent.Attachment, refusals []error, err error) {
	for try := 1; ; try++ {
		out, refusals, err = s.attach(ctx, files)
		// In a transaction of the caller's only he can try again.
		if err == nil || try == tries || store.TxFrom(ctx) != nil || !store.Busy(err) || store.Pause(ctx, try) != nil {
			return out, refusals, err
		}
	}
}

func (s *Service) attach(ctx context.Context, files []*File) ([]*ent.Attachment, []error, error) {
	a, t := actor.From(ctx), ent.RecordTypeNamed(ent.TypeAttachment)
	if a == nil {
		return nil, nil, errors.New("record: attaching for nobody")
	}
	out := make([]*ent.Attachment, len(files))
	var refusals []error
	err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		drafts := make([]*draft, len(files))
		for i, f := range files {
			drafts[i] = newDraft(t, f.Values, true)
			drafts[i].id = f.ID
			drafts[i].values[attachment.FieldSha256], drafts[i].values[attachment.FieldSize] = f.SHA256, f.Size
		}
		records, refused, err := s.createDrafts(ctx, tx, a, t, drafts)
		if err != nil {
			return err
		}
		refusals = refused
		var taken []*File
		for i, r := range records {
			if r == nil {
				continue
			}
			var ok bool
			if out[i], ok = r.(*ent.Attachment); !ok {
				return fmt.Errorf("an attachment was created as a %T", r)
			}
			taken = append(taken, files[i])
		}
		if len(taken) == 0 {
			return nil
		}
		err = blob.Take(ctx, tx, keysOf(a.Tenant, taken)...)
		if errors.Is(err, blob.ErrExpired) {
			return Refuse(lifecycle.Limit, "it took too long to upload the file", "file")
		}
		return err
	})
	return out, refusals, err
}

// Attachment finds an attachment that the actor may read, in any state, and that has bytes.
func (s *Service) Attachment(ctx context.Context, id gid.ID) (*ent.Attachment, error) {
	found, err := s.Client(ctx).Attachment.Query().Where(attachment.ID(id)).All(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading an attachment: %w", err)
	}
	if len(found) == 0 {
		gone, err := s.purged(ctx, s.db, actor.From(ctx), []gid.ID{id})
		if err != nil {
			return nil, err
		}
		if gone[id] {
			return nil, Refuse(lifecycle.Gone, "the record was purged", "id")
		}
		return nil, Refuse(lifecycle.NotFound, "there is no such record", "id")
	}
	if found[0].Sha256 == nil {
		return nil, Refuse(lifecycle.NotFound, "the attachment has no bytes", "id")
	}
	return found[0], nil
}

// Bytes opens the bytes of an attachment. It answers NOT_FOUND where somebody purged it meanwhile.
func (s *Service) Bytes(ctx context.Context, a *ent.Attachment) (io.ReadSeekCloser, error) {
	r, err := s.blobs.Open(ctx, blob.Key(a.TenantID, a.ID))
	if !errors.Is(err, blob.ErrNotFound) {
		return r, err
	}
	if _, gone := s.Attachment(ctx, a.ID); gone != nil {
		return nil, gone
	}
	return nil, fmt.Errorf("the bytes of %s are lost: %w", a.ID, err)
}

// letGo says of the bytes of what is purged that nothing refers to them any more, and removes them once that is
// certain.
func (r *run) letGo(ctx context.Context) error {
	var keys []string
	for _, n := range r.changing {
		if a, ok := n.row.(*ent.Attachment); ok && a.Sha256 != nil {
			keys = append(keys, blob.Key(a.TenantID, a.ID))
		}
	}
	if len(keys) == 0 {
		return nil
	}
	if err := blob.Spare(ctx, r.tx, r.tx.Now(), keys...); err != nil {
		return err
	}
	r.tx.AfterEnd(func(committed bool) {
		if !committed || r.blobs == nil {
			return
		}
		ctx, cancel := context.WithTimeout(store.After(ctx), removeTime)
		defer cancel()
		if err := r.blobs.Remove(ctx, r.db, keys); err != nil { // the sweeper will try again
			r.log.WarnContext(ctx, "bytes of purged attachments were not removed at once", "error", err)
		}
	})
	return nil
}
