// Command limit serves what Lethe's benchmark asks for, and nothing else, by
// handlers and SQL that were written by hand for it: net/http, pgx (or
// database/sql and SQLite), encoding/json.
//
// It is the limit Lethe is measured against, so it does all that the work asks
// for and takes no short cut: each request is authenticated by one statement,
// each query is restricted to the rows the caller may see, and a delete, a
// restore or a purge leaves the same operation, items, sealed audit events, rows
// and tombstones behind. What it leaves out is what makes Lethe general: documents, policies
// that can be changed, verbs and filters other than these, and refusals that
// explain themselves.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/config"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8081", "where to listen")
	database := flag.String("database", "", "postgres://... or sqlite:PATH")
	keyFile := flag.String("key-file", "", "the key Lethe runs with")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *listen, *database, *keyFile)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "limit:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen, database, keyFile string) error {
	secret, err := config.Storage{Database: database, KeyFile: keyFile}.ReadKey(false)
	if err != nil {
		return err
	}
	keys, err := audit.NewKeys(secret)
	if err != nil {
		return err
	}
	db, err := open(ctx, database)
	if err != nil {
		return err
	}
	defer db.close()
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	h := &handler{db: db, keys: keys, policies: map[ref]int{}}
	err = db.run(ctx, step{sql: `SELECT tenant_id, version FROM policy_heads`, each: func(scan scanner) error {
		var tenant ref
		var version int
		if err := scan(&tenant, &version); err != nil {
			return err
		}
		h.policies[tenant] = version
		return nil
	}})
	if err != nil {
		return errors.Join(fmt.Errorf("reading the policies: %w", err), listener.Close())
	}
	srv := &http.Server{Handler: h.routes(), ReadHeaderTimeout: 10 * time.Second}
	ended := context.AfterFunc(ctx, func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(stop) // the process ends in any case
	})
	defer ended()
	if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}
