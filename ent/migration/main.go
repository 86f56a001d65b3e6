//go:build ignore

// Command main writes the migrations that bring databases to the entities as
// they are now: go run ./ent/migration/main.go NAME. It needs SQLite, which is
// built in, and an empty PostgreSQL database in LETHE_DEV_POSTGRES; without one
// it writes those for SQLite alone, to try something out.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	atlas "ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/sqltool"
	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/migration"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: LETHE_DEV_POSTGRES=postgres://... go run ./ent/migration/main.go NAME")
	}
	dev, err := os.MkdirTemp("", "lethe-migration-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dev)
	for _, t := range []struct{ dialect, driver, dsn, dir string }{
		{dialect.SQLite, "sqlite", "file:" + filepath.Join(dev, "dev.db") + "?_pragma=foreign_keys(1)", "sqlite"},
		{dialect.Postgres, "pgx", os.Getenv("LETHE_DEV_POSTGRES"), "postgres"},
	} {
		if t.dsn == "" {
			fmt.Println("LETHE_DEV_POSTGRES is not set: the half for PostgreSQL is left out")
			continue
		}
		if err := write(t.dialect, t.driver, t.dsn, filepath.Join("internal/store/migrations", t.dir), os.Args[1]); err != nil {
			log.Fatalf("%s: %v", t.dialect, err)
		}
	}
}

func write(d, driver, dsn, path, name string) error {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	dir, err := sqltool.NewGooseDir(path)
	if err != nil {
		return err
	}
	// Hand-written migrations, such as the triggers, change the sum as well.
	sum, err := dir.Checksum()
	if err != nil {
		return err
	}
	if err := atlas.WriteSumFile(dir, sum); err != nil {
		return err
	}
	err = migration.Diff(context.Background(), entsql.OpenDB(d, db), dir, name, sqltool.GooseFormatter)
	if errors.Is(err, atlas.ErrNoPlan) {
		fmt.Println(d, "needs nothing")
		return nil
	}
	if err != nil {
		return err
	}
	if err := protect(d, path); err != nil {
		return err
	}
	if sum, err = dir.Checksum(); err != nil {
		return err
	}
	return atlas.WriteSumFile(dir, sum)
}

// triggers keep live rows of a record type from being removed; their function
// on PostgreSQL is in the migration of the first ones.
var triggers = map[string]string{
	dialect.SQLite: `-- +goose StatementBegin
CREATE TRIGGER %[1]s_no_live_delete BEFORE DELETE ON %[1]s WHEN OLD.retired_at IS NULL BEGIN SELECT RAISE(ABORT, 'a live record cannot be removed'); END;
-- +goose StatementEnd
`,
	dialect.Postgres: `CREATE TRIGGER %[1]s_no_live_delete BEFORE DELETE ON %[1]s FOR EACH ROW WHEN (OLD.retired_at IS NULL) EXECUTE FUNCTION lethe_no_live_delete();
`,
}

// protect adds the triggers of new record types to the newest migration. The
// triggers go with their tables on the way down.
func protect(d, path string) error {
	files, err := filepath.Glob(filepath.Join(path, "*.sql"))
	if err != nil {
		return err
	}
	var all, newest string
	for _, file := range files { // sorted by name, which begins with the time
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		newest = string(b)
		all += newest
	}
	up, down, _ := strings.Cut(newest, "-- +goose Down")
	for _, t := range ent.RecordTypes {
		if !strings.Contains(all, "TRIGGER "+t.Table+"_no_live_delete ") {
			up += fmt.Sprintf(triggers[d], t.Table)
		}
	}
	return os.WriteFile(files[len(files)-1], []byte(up+"-- +goose Down"+down), 0o644)
}
