package export

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/lethe-crm/lethe/ent/export"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// ManifestName is where the manifest of a file stands.
func ManifestName(path string) string { return path + ".manifest.json" }

// ToFile makes an export of what the actor in the context may read into a file, with
// its manifest beside it. The file is there whole or not at all.
func (s *Service) ToFile(ctx context.Context, spec Spec, path string) (*Manifest, error) {
	folder := filepath.Dir(path)
	file, err := os.CreateTemp(folder, ".lethe-export-*") // with mode 0600
	if err != nil {
		return nil, fmt.Errorf("writing an export: %w", err)
	}
	temporary := []string{file.Name()}
	defer func() {
		for _, name := range temporary {
			_ = os.Remove(name) // which is not there where all went well
		}
	}()
	defer file.Close()
	m, err := s.local(ctx, spec, file, func(text []byte) error {
		if err := errors.Join(file.Sync(), file.Close()); err != nil {
			return err
		}
		beside, err := os.CreateTemp(folder, ".lethe-export-*")
		if err != nil {
			return err
		}
		temporary = append(temporary, beside.Name())
		_, err = beside.Write(text)
		if err := errors.Join(err, beside.Sync(), beside.Close()); err != nil {
			return err
		}
		// The manifest first: who finds the file finds what it is.
		if err := os.Rename(beside.Name(), ManifestName(path)); err != nil {
			return err
		}
		if err := os.Rename(file.Name(), path); err != nil {
			return err
		}
		return syncFolder(folder)
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// syncFolder makes what a folder is said to hold outlast a crash.
func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// ToStream makes such an export into a stream, of which the manifest is answered.
func (s *Service) ToStream(ctx context.Context, spec Spec, to io.Writer) (*Manifest, error) {
	buffered := bufio.NewWriter(to)
	return s.local(ctx, spec, buffered, func([]byte) error { return buffered.Flush() })
}

// local makes an export here and now. keep puts into place what was written, before
// the export stands for anything.
func (s *Service) local(ctx context.Context, spec Spec, to io.Writer, keep func(manifest []byte) error) (*Manifest, error) {
	a := actor.From(ctx)
	if a == nil || a.User.IsZero() {
		return nil, errors.New("export: an export for nobody")
	}
	if err := spec.check(); err != nil {
		return nil, err
	}
	id := gid.New(gid.Export)
	reading, u, err := s.begin(ctx, id, a, spec)
	if err != nil {
		return nil, s.refused(ctx, "EXPORT_REQUEST", err)
	}
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		// It is never taken up: it has no time at which somebody worked on it.
		if err := s.writeDown(ctx, tx, a, id, spec, gid.Nil, export.StatusRUNNING, nil); err != nil {
			return err
		}
		return s.log(reading, tx, "EXPORT_REQUEST", id, spec.Type, map[string]any{"format": spec.Format, "encrypted": len(spec.EncryptTo) > 0, "local": true})
	})
	if err != nil {
		return nil, err
	}
	all := visible.With(ctx, visible.Tenant(a.Tenant))
	e, err := s.Records.Client(all).Export.Get(all, id)
	if err != nil {
		return nil, fmt.Errorf("reading an export: %w", err)
	}
	u.page = func(rows []covered) error { return s.keepUp(ctx, e, u.manifest.Rows, rows) }
	if err = u.writeTo(reading, to); err == nil {
		var text []byte
		if text, _, err = u.manifest.encode(); err == nil {
			err = keep(text)
		}
		if err == nil {
			err = s.finish(reading, e, u)
		}
	}
	if err == nil {
		return &u.manifest, nil
	}
	code := lifecycle.Internal
	if refused, ok := errors.AsType[*record.Error](err); ok {
		code = refused.Code
	}
	return nil, errors.Join(err, s.fail(context.WithoutCancel(ctx), e, code))
}
