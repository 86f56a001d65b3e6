package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/config"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/store"
)

// bench is a run.
type bench struct {
	*options
	work   string // for what is gone after the run
	folder string // for the database

	cluster *cluster
	url     string
	db      *store.DB
	keys    *audit.Keys
	tenant  gid.ID

	token   string // of the manager
	auditor string // of who may read the audit log
	purger  string // of who may purge; for jobs only

	lethe, limit *server
	startups     []startup
	postmaster   int
}

func (b *bench) keyFile() string { return filepath.Join(b.folder, "lethe.key") }

func (b *bench) name() string {
	if b.sqlite {
		return "sqlite"
	}
	return "postgres"
}

// open finds a database in the folder, or makes and fills one, and lets the
// callers in.
func (b *bench) open(ctx context.Context) error {
	if err := os.MkdirAll(b.folder, 0o755); err != nil { //nolint:gosec // PostgreSQL's user passes through it
		return err
	}
	if err := b.readKey(); err != nil {
		return err
	}
	switch {
	case b.sqlite:
		b.url = "sqlite:" + filepath.Join(b.folder, "sqlite", "lethe.db")
	case b.database != "":
		b.url = b.database
	default:
		var err error
		if b.cluster, err = startCluster(ctx, b.folder); err != nil {
			return err
		}
		b.url = b.cluster.url
	}
	if !b.sqlite {
		// Both servers may use a connection for each request that is under way.
		separator := "?"
		if strings.Contains(b.url, "?") {
			separator = "&"
		}
		b.url += fmt.Sprintf("%spool_max_conns=%d", separator, max(b.connections, 4))
	}
	var err error
	if b.db, err = store.Open(ctx, b.url); err != nil {
		return err
	}
	if err := b.db.Migrate(ctx); err != nil {
		return err
	}
	if err := identity.CheckKey(ctx, b.db, b.keys); err != nil {
		return err
	}
	if err := b.fill(ctx); err != nil {
		return err
	}
	return b.admit(ctx)
}

func (b *bench) readKey() error {
	if _, err := os.Stat(b.keyFile()); errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, config.KeySize)
		if _, err := rand.Read(key); err != nil {
			return err
		}
		if err := os.WriteFile(b.keyFile(), []byte(base64.StdEncoding.EncodeToString(key)), 0o600); err != nil {
			return err
		}
	}
	secret, err := config.Storage{KeyFile: b.keyFile()}.ReadKey(false)
	if err != nil {
		return err
	}
	b.keys, err = audit.NewKeys(secret)
	return err
}

// size is what a kept database was filled with.
type size struct{ Customers, Messages int }

func (b *bench) fill(ctx context.Context) error {
	want := size{b.customers, b.messages}
	marker := filepath.Join(b.folder, b.name()+".json")
	if text, err := os.ReadFile(marker); err == nil {
		var have size
		if err := json.Unmarshal(text, &have); err != nil {
			return fmt.Errorf("reading %s: %w", marker, err)
		}
		if have != want {
			return fmt.Errorf("%s has a database of another size: %+v", b.folder, have)
		}
		sayf("found a database with %d customers and %d messages", have.Customers, have.Messages)
		return nil
	}
	if err := seed(ctx, b.db, b.keys, b.customers, b.messages); err != nil {
		return fmt.Errorf("filling the database: %w", err)
	}
	text, err := json.Marshal(want)
	if err != nil {
		return err
	}
	return os.WriteFile(marker, text, 0o600)
}

// admit makes tokens of this run.
func (b *bench) admit(ctx context.Context) (err error) {
	who := identity.New(b.db, audit.New(b.keys), nil)
	if b.tenant, err = who.TenantByName(ctx, tenantName); err != nil {
		return err
	}
	if err := b.unbrake(ctx); err != nil {
		return err
	}
	tokens := map[string]*string{manager: &b.token, auditor: &b.auditor}
	if b.jobs {
		tokens[purger] = &b.purger
	}
	for email, token := range tokens {
		u, err := who.UserByEmail(ctx, b.tenant, email)
		if err != nil {
			return err
		}
		c, err := who.CreateToken(ctx, b.tenant, u.ID, 24*time.Hour)
		if err != nil {
			return err
		}
		*token = c.Secret
	}
	return nil
}

// unbrake lets a user do in a minute what the brake allows in a month, and nobody be asked.
func (b *bench) unbrake(ctx context.Context) error {
	for _, statement := range []string{
		`UPDATE tenants SET brake_records = NULL, brake_percent = NULL, brake_hour = NULL, brake_day = NULL, purge_day = NULL WHERE id = ?`,
		`UPDATE approval_rules SET enabled = false WHERE subject <> 'GRANT' AND tenant_id = ?`,
	} {
		if _, err := store.Build(b.db).Add(statement, b.tenant).Exec(ctx, b.db); err != nil {
			return err
		}
	}
	return nil
}

// build compiles both servers. For profiles a file is laid over their packages:
// what is measured otherwise has no such thing in it.
func (b *bench) build(ctx context.Context) error {
	root, err := filepath.Abs(b.root)
	if err != nil {
		return err
	}
	for name, pkg := range map[string]string{"lethe": "./cmd/lethe", "limit": "./bench/limit"} {
		args := []string{"build", "-o", filepath.Join(b.binaries, name)}
		if b.profile != "" {
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
				filepath.Join(root, pkg, "profile_bench.go"): filepath.Join(root, "bench", "testdata", "profile.go"),
			}})
			if err != nil {
				return err
			}
			path := filepath.Join(b.binaries, name+".json")
			if err := os.WriteFile(path, overlay, 0o600); err != nil {
				return err
			}
			args = append(args, "-overlay", path)
		}
		cmd := exec.CommandContext(ctx, "go", append(args, pkg)...) //nolint:gosec // our own packages
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
	}
	return nil
}

func (b *bench) close() error {
	var errs []error
	for _, s := range []*server{b.lethe, b.limit} {
		if s != nil {
			errs = append(errs, s.stop())
		}
	}
	if b.db != nil {
		errs = append(errs, b.db.Close())
	}
	if b.cluster != nil {
		errs = append(errs, b.cluster.stop())
	}
	return errors.Join(errs...)
}
