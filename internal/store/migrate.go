package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"entgo.io/ent/dialect"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations
var migrations embed.FS

// ErrPending reports that the database lacks migrations.
var ErrPending = errors.New("the database is not migrated; run `lethe migrate up` or serve with --migrate")

// Migration says of one migration whether it was applied.
type Migration struct {
	Version int64  `json:"version"`
	Name    string `json:"name"`
	Applied bool   `json:"applied"`
}

func (db *DB) migrator() (*goose.Provider, error) {
	dir, d, opts := "migrations/sqlite", goose.DialectSQLite3, []goose.ProviderOption(nil)
	if db.dialect == dialect.Postgres {
		dir, d = "migrations/postgres", goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return nil, err
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	}
	files, err := fs.Sub(migrations, dir)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(d, db.sql, files, append(opts, goose.WithGoMigrations(db.riverMigration()))...)
}

// Migrate applies all migrations the database lacks.
func (db *DB) Migrate(ctx context.Context) error {
	m, err := db.migrator()
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	if _, err := m.Up(ctx); err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	return nil
}

// MigrateDown takes the newest migration back.
func (db *DB) MigrateDown(ctx context.Context) error {
	m, err := db.migrator()
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	if _, err := m.Down(ctx); err != nil {
		return fmt.Errorf("migrating down: %w", err)
	}
	return nil
}

// Migrations lists the migrations of this binary.
func (db *DB) Migrations(ctx context.Context) ([]Migration, error) {
	m, err := db.migrator()
	if err != nil {
		return nil, fmt.Errorf("reading the migrations: %w", err)
	}
	states, err := m.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for the migrations: %w", err)
	}
	out := make([]Migration, len(states))
	for i, s := range states {
		out[i] = Migration{s.Source.Version, s.Source.Path, s.State == goose.StateApplied}
	}
	return out, nil
}

// Ready answers ErrPending while migrations are missing.
func (db *DB) Ready(ctx context.Context) error {
	all, err := db.Migrations(ctx)
	if err != nil {
		return err
	}
	for _, m := range all {
		if !m.Applied {
			return ErrPending
		}
	}
	return nil
}
