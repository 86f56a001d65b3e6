package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"go.opentelemetry.io/otel/trace"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/config"
	"github.com/lethe-crm/lethe/internal/export"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/live"
	"github.com/lethe-crm/lethe/internal/notify"
	"github.com/lethe-crm/lethe/internal/policy"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// storage are the flags that say where things are kept.
type storage struct {
	Data     string `default:"./lethe-data" placeholder:"FOLDER" help:"The data folder (${default})."`
	Database string `placeholder:"URL" help:"The database: postgres://... or sqlite:PATH. Default is SQLite in the data folder."`
	KeyFile  string `placeholder:"PATH" help:"A file with the key, 32 bytes in base64; LETHE_KEY holds the key itself. Default with SQLite is lethe.key in the data folder."`
	Blobs    string `placeholder:"URL" help:"Where attachments and exports are kept: file:///FOLDER, s3://BUCKET?region=..., azblob://CONTAINER. Default is the folder blobs in the data folder."`
	Authz    string `placeholder:"FILE" help:"What decides on access, in order: a list of plugins in JSON. Default is the policy in the database alone."`
}

func (s storage) config() config.Storage {
	return config.Storage{Data: s.Data, Database: s.Database, KeyFile: s.KeyFile, Key: os.Getenv(config.KeyVariable)}
}

// connect opens the database as it is. Without create a SQLite database must be
// there: a mistyped path would otherwise become an empty one.
func (s storage) connect(ctx context.Context, create bool, opts ...store.Option) (*store.DB, error) {
	c := s.config()
	if path, ok := c.SQLitePath(); ok && !create {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no database at %s; name it with --data or --database, or make one with `lethe serve`", path)
		}
	}
	return store.Open(ctx, c.URL(), opts...)
}

// chain reads who decides on access, and what policies may name because of it.
func (s storage) chain() (members []authz.Config, vocabulary casbin.Vocabulary, err error) {
	if s.Authz != "" {
		if members, err = access.ReadChain(s.Authz); err != nil {
			return nil, vocabulary, fmt.Errorf("reading the chain of plugins: %w", err)
		}
	}
	if vocabulary, err = access.VocabularyOf(members); err != nil {
		return nil, vocabulary, fmt.Errorf("reading the chain of plugins: %w", err)
	}
	return members, vocabulary, nil
}

// app is what commands work with.
type app struct {
	db       *store.DB
	audit    *audit.Log
	outbox   *notify.Outbox
	feed     *live.Feed
	identity *identity.Service
	blobs    *blob.Bucket
	log      *slog.Logger
	tracer   trace.Tracer   // nil makes no spans
	members  []authz.Config // of the chain; none for the policy alone
	// loaded is told of policies that were read, where somebody wants to know.
	loaded func(findings []casbin.Finding, err error)
	// vocabulary is what policies may name under that chain.
	vocabulary casbin.Vocabulary
}

// opening says how open treats a database that is not as it should be.
type opening struct {
	create  bool         // make a SQLite database that is not there
	migrate bool         // change a PostgreSQL database, too
	tracer  trace.Tracer // nil makes no spans
}

// open opens the database, brings its tables up to date, and checks the key.
func (s storage) open(ctx context.Context, log *slog.Logger, o opening) (a *app, err error) {
	members, vocabulary, err := s.chain()
	if err != nil {
		return nil, err
	}
	db, err := s.connect(ctx, o.create, store.WithTracer(o.tracer))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	err = db.Ready(ctx)
	if _, isSQLite := s.config().SQLitePath(); errors.Is(err, store.ErrPending) && (isSQLite || o.migrate) {
		err = db.Migrate(ctx)
	}
	if err != nil {
		return nil, err
	}
	hasKey, err := identity.HasKey(ctx, db)
	if err != nil {
		return nil, err
	}
	secret, err := s.config().ReadKey(!hasKey)
	if err != nil {
		return nil, err
	}
	keys, err := audit.NewKeys(secret)
	if err != nil {
		return nil, err
	}
	if err := identity.CheckKey(ctx, db, keys); err != nil {
		return nil, err
	}
	if err := policy.Adopt(ctx, db); err != nil {
		return nil, err
	}
	bucket, err := s.bucket(ctx)
	if err != nil {
		return nil, err
	}
	outbox, feed := notify.NewOutbox(), live.New(db, log)
	events := audit.New(keys).Feeding(outbox, feed)
	return &app{
		db: db, audit: events, outbox: outbox, feed: feed, identity: identity.New(db, events, log).WithVocabulary(vocabulary), blobs: bucket, log: log, tracer: o.tracer, members: members, vocabulary: vocabulary,
	}, nil
}

// bucket opens where bytes are kept.
func (s storage) bucket(ctx context.Context) (*blob.Bucket, error) {
	address := s.Blobs
	if address == "" {
		var err error
		if address, err = blob.Folder(filepath.Join(s.Data, "blobs")); err != nil {
			return nil, err
		}
	}
	return blob.Open(ctx, address)
}

func (a *app) close() error { return errors.Join(a.blobs.Close(), a.db.Close()) }

// control is who may do what.
func (a *app) control() (*access.Control, error) {
	return access.New(identity.PolicySource{DB: a.db}, func(tenant string, version uint64, findings []casbin.Finding, err error) {
		if a.loaded != nil {
			a.loaded(findings, err)
		}
		log := a.log.With("tenant", tenant, "version", version)
		if err != nil {
			log.Error("reading a policy failed", "error", err)
		}
		for _, f := range findings {
			if f.Severity == casbin.Error {
				log.Error("a policy is invalid and permits nothing", "finding", f.String())
			}
		}
	}, a.members...)
}

// notifying tells what happened.
func (a *app) notifying(control *access.Control, allowPrivate bool) *notify.Service {
	return notify.New(notify.Config{DB: a.db, Control: control, Audit: a.audit, Outbox: a.outbox, Log: a.log, Told: a.feed.Touch, AllowPrivate: allowPrivate, Tracer: a.tracer})
}

// records is the pipeline.
func (a *app) records(control *access.Control) *record.Service {
	records := record.New(a.db, control, a.audit, a.log).WithBlobs(a.blobs)
	records.ActingAs(a.actAs)
	return records
}

// exports makes files of records.
func (a *app) exports(control *access.Control, records *record.Service) *export.Service {
	return export.New(export.Config{DB: a.db, Control: control, Records: records, Audit: a.audit, Blobs: a.blobs, Log: a.log, ActAs: a.actAs})
}

// withApp runs a command of the operator on a database that is there.
func (s storage) withApp(ctx context.Context, c *console, do func(*app) error) (err error) {
	a, err := s.open(ctx, c.logger(slog.LevelWarn), opening{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	return do(a)
}

// who are the flags that name a user.
type who struct {
	Tenant string `required:"" placeholder:"NAME" help:"The tenant."`
	User   string `required:"" placeholder:"EMAIL" help:"The user."`
}

// find looks a user up.
func (w who) find(ctx context.Context, a *app) (tenant, user gid.ID, err error) {
	tenant, err = a.identity.TenantByName(ctx, w.Tenant)
	if err != nil {
		return gid.Nil, gid.Nil, err
	}
	u, err := a.identity.UserByEmail(ctx, tenant, w.User)
	return tenant, u.ID, err
}
