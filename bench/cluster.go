package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lethe-crm/lethe/internal/store/pgtest"
)

// settings are those an operator would choose for a small server. What makes it
// durable is as it comes: fsync and synchronous_commit are on.
var settings = []string{
	"shared_buffers = 1GB", "effective_cache_size = 4GB", "max_wal_size = 8GB", "checkpoint_timeout = 15min", "random_page_cost = 1.1",
	"max_connections = 100", "listen_addresses = ''", "timezone = 'UTC'",
}

// cluster is a PostgreSQL started for a run. It ends when its input does, so
// also when this process is killed.
type cluster struct {
	process  *exec.Cmd
	lifeline io.WriteCloser
	url      string
}

const guardian = `"$1/postgres" -D "$2" >"$2/../log" 2>&1 & server=$!; cat >/dev/null; kill -INT $server; wait $server; true`

// startCluster starts a cluster in a folder, which it is made in when it is not
// there.
func startCluster(ctx context.Context, folder string) (*cluster, error) {
	bin, err := pgtest.Binaries()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Join(folder, "postgres"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for parent := filepath.Dir(dir); strings.HasPrefix(parent, os.TempDir()+"/"); parent = filepath.Dir(parent) {
		if err := os.Chmod(parent, 0o755); err != nil { //nolint:gosec // the user PostgreSQL runs as passes through it
			return nil, err
		}
	}
	if err := give(dir); err != nil {
		return nil, fmt.Errorf("giving the folder to PostgreSQL's user: %w", err)
	}
	data := filepath.Join(dir, "data")
	if _, err := os.Stat(data); err != nil {
		// ICU's order, as production has a language; no locale of the machine's.
		initdb, err := command(ctx, dir, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
			"--locale=C", "--locale-provider=icu", "--icu-locale=und")
		if err != nil {
			return nil, err
		}
		if out, err := initdb.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("initdb: %w: %s", err, out)
		}
		more := strings.Join(append(settings, "unix_socket_directories = '"+dir+"'"), "\n")
		conf, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		_, err = conf.WriteString("\n" + more + "\n")
		if err := errors.Join(err, conf.Close()); err != nil {
			return nil, err
		}
	}
	process, err := command(context.WithoutCancel(ctx), dir, "/bin/sh", "-c", guardian, "sh", bin, data)
	if err != nil {
		return nil, err
	}
	c := &cluster{process: process}
	if c.lifeline, err = process.StdinPipe(); err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	query := url.Values{"host": {dir}, "port": {"5432"}, "sslmode": {"disable"}}
	c.url = (&url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/postgres", RawQuery: query.Encode()}).String()
	if err := c.await(ctx); err != nil {
		log, logErr := os.ReadFile(filepath.Join(dir, "log"))
		return nil, errors.Join(fmt.Errorf("PostgreSQL does not start: %w\n%s", err, log), logErr, c.stop())
	}
	return c, nil
}

func (c *cluster) await(ctx context.Context) error {
	for end := time.Now().Add(time.Minute); ; {
		conn, err := pgx.Connect(ctx, c.url)
		if err == nil {
			return conn.Close(ctx)
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *cluster) stop() error {
	if err := c.lifeline.Close(); err != nil {
		return err
	}
	return c.process.Wait()
}
