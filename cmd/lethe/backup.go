package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/search/index"
	"github.com/lethe-crm/lethe/internal/store"
)

type backupCmd struct {
	storage
	output

	Path string `arg:"" help:"A folder that is not there yet. It can be served with --data."`
}

// backedUp is what a backup holds.
type backedUp struct {
	Path  string `json:"path"`
	Files int    `json:"files"` // of attachments and exports
	Bytes int64  `json:"bytes"` // of these
	// Purged counts the files that were purged, or expired, while they were copied.
	Purged int `json:"purged"`
}

func (b backedUp) String() string {
	text := fmt.Sprintf("%s: the database, and %d files of %d bytes", b.Path, b.Files, b.Bytes)
	if b.Purged > 0 {
		text += fmt.Sprintf("; %d files were purged meanwhile", b.Purged)
	}
	return text
}

// Run implements the command.
func (cmd *backupCmd) Run(ctx context.Context, c *console) error {
	if _, ok := cmd.config().SQLitePath(); !ok {
		return &usageError{`a PostgreSQL database is backed up with its own tools, and the bytes after it:
  pg_dump --format=custom --file=lethe.dump URL
  and then a copy of what --blobs names, or of the folder blobs in the data folder
Restored are the bytes first; "lethe check" says whether all of them are there.`}
	}
	if _, err := os.Lstat(cmd.Path); err == nil {
		return fmt.Errorf("%s is there already", cmd.Path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return cmd.withDB(ctx, false, func(db *store.DB) error {
		if err := db.Ready(ctx); err != nil {
			return err
		}
		did, err := cmd.backUp(ctx, db)
		if err != nil {
			return err
		}
		c.sayf("The key is not part of it: keep it elsewhere, and name it with --key-file or LETHE_KEY.")
		return c.print(cmd.JSON, did.String(), did)
	})
}

// backUp makes a folder that appears complete or not at all.
func (cmd *backupCmd) backUp(ctx context.Context, db *store.DB) (did backedUp, err error) {
	did.Path = cmd.Path
	folder, err := os.MkdirTemp(filepath.Dir(filepath.Clean(cmd.Path)), filepath.Base(cmd.Path)+".part-*") // with mode 0700
	if err != nil {
		return did, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(folder))
		}
	}()
	file := filepath.Join(folder, "lethe.db")
	// The database first: what it refers to and is not there any more was purged
	// since, and what is written since it does not refer to.
	if _, err := store.Build(db).Add(`VACUUM INTO ?`, file).Exec(ctx, db); err != nil {
		return did, fmt.Errorf("copying the database: %w", err)
	}
	if err := forget(ctx, file); err != nil {
		return did, err
	}
	if err := cmd.copyBytes(ctx, db, folder, file, &did); err != nil {
		return did, err
	}
	if err := errors.Join(synced(file), blob.SyncFolder(folder)); err != nil {
		return did, fmt.Errorf("copying the database: %w", err)
	}
	if err := os.Rename(folder, cmd.Path); err != nil {
		return did, err
	}
	return did, blob.SyncFolder(filepath.Dir(filepath.Clean(cmd.Path)))
}

// forget takes the words of what was purged out of a copy of the database, which may
// be kept for longer than anybody would wait for that.
func forget(ctx context.Context, file string) (err error) {
	frozen, err := store.Open(ctx, "sqlite:"+file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, frozen.Close()) }()
	return index.Forget(ctx, frozen, 0)
}

// synced makes sure that a file outlives the power.
func synced(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// copyBytes copies what the copy of the database refers to.
func (cmd *backupCmd) copyBytes(ctx context.Context, db *store.DB, folder, file string, did *backedUp) (err error) {
	from, err := cmd.bucket(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	address, err := blob.Folder(filepath.Join(folder, "blobs"))
	if err != nil {
		return err
	}
	to, err := blob.Open(ctx, address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	frozen, err := store.Open(ctx, "sqlite:"+file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, frozen.Close()) }()
	return record.EachKey(ctx, frozen, func(key string) error {
		n, err := from.Copy(ctx, key, to)
		if errors.Is(err, blob.ErrNotFound) {
			refers, wrong := record.Refers(ctx, db, key)
			if wrong != nil || refers {
				return errors.Join(fmt.Errorf("copying the bytes of %s: %w", key, err), wrong)
			}
			did.Purged++
			return nil
		}
		if err != nil {
			return fmt.Errorf("copying the bytes of %s: %w", key, err)
		}
		did.Files, did.Bytes = did.Files+1, did.Bytes+n
		return nil
	})
}

type checkCmd struct {
	storage
	output

	Repair     bool     `help:"Mend what can be mended: remove bytes that nothing refers to, and purge again what was purged."`
	Tombstones []string `placeholder:"URL" help:"Another database, such as the one a backup was restored in place of: what was purged there must not be here. May be repeated."`
}

// Run implements the command.
func (cmd *checkCmd) Run(ctx context.Context, c *console) error {
	return cmd.withApp(ctx, c, func(a *app) error {
		var more []record.Tombstone
		for _, url := range cmd.Tombstones {
			some, err := tombstones(ctx, url)
			if err != nil {
				return err
			}
			more = append(more, some...)
		}
		control, err := a.control()
		if err != nil {
			return err
		}
		records := a.records(control)
		found, err := records.Check(ctx, a.blobs, more)
		if err == nil && cmd.Repair {
			err = records.Repair(ctx, a.blobs, &found)
		}
		if err != nil {
			return err
		}
		if found.Findings == nil {
			found.Findings = []record.Finding{}
		}
		if err := c.print(cmd.JSON, checked(found), found); err != nil {
			return err
		}
		left := 0
		for _, f := range found.Findings {
			if !f.Repaired {
				left++
			}
		}
		if left > 0 {
			return fmt.Errorf("%d things are not as they should be", left)
		}
		return nil
	})
}

// tombstones are those of another database, which is only read.
func tombstones(ctx context.Context, url string) (list []record.Tombstone, err error) {
	other := storage{Database: url}
	db, err := other.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return record.Tombstones(ctx, db)
}

func checked(found record.Checked) string {
	var text strings.Builder
	for _, f := range found.Findings {
		fmt.Fprint(&text, f.Problem)
		if !f.Record.IsZero() {
			fmt.Fprint(&text, " ", f.Record)
		}
		if f.Key != "" {
			fmt.Fprint(&text, " ", f.Key)
		}
		switch {
		case f.Repaired:
			text.WriteString(": repaired")
		case f.Reason != "":
			text.WriteString(": not repaired: " + f.Reason)
		}
		text.WriteByte('\n')
	}
	fmt.Fprintf(&text, "%d attachments and %d exports with bytes, %d keys, %d tombstones; %d findings", found.Attachments, found.Exports, found.Keys, found.Tombstones, len(found.Findings))
	return text.String()
}
