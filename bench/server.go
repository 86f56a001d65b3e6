package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/lethe-crm/lethe/internal/store"
)

// server is one of the two that are compared.
type server struct {
	name    string
	address string
	cmd     *exec.Cmd
	log     *os.File
	pprof   string
}

// startup is how long a server took from being started to answering /readyz.
type startup struct {
	Server string        `json:"server"`
	On     string        `json:"on"`
	Time   time.Duration `json:"time"`
}

// starts is how often starting is measured; the median is reported.
const starts = 3

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed at once
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (b *bench) letheArgs(address, database string) []string {
	return []string{
		"serve", "--listen", address, "--database", database, "--key-file", b.keyFile(), "--data", filepath.Join(b.work, "data"), "--log-level", "error",
	}
}

func (b *bench) limitArgs(address, database string) []string {
	return []string{"-listen", address, "-database", database, "-key-file", b.keyFile()}
}

// start starts both servers, a few times, on the filled database, and Lethe on
// an empty one; the last of each stays.
func (b *bench) start(ctx context.Context) (err error) {
	if b.lethe, err = b.startMany(ctx, "lethe", "the filled database", starts, func(string, int) string { return b.url }); err != nil {
		return err
	}
	if b.limit, err = b.startMany(ctx, "limit", "the filled database", starts, func(string, int) string { return b.url }); err != nil {
		return err
	}
	if b.sqlite {
		empty, err := b.startMany(ctx, "lethe", "an empty folder", starts, func(work string, i int) string {
			return fmt.Sprintf("sqlite:%s/empty%d/lethe.db", work, i)
		})
		if err != nil {
			return err
		}
		return empty.stop()
	}
	return b.findPostmaster(ctx)
}

func (b *bench) startMany(ctx context.Context, name, on string, times int, database func(work string, i int) string) (*server, error) {
	var took []time.Duration
	for i := range times {
		s, t, err := b.startOne(ctx, name, database(b.work, i))
		if err != nil {
			return nil, err
		}
		took = append(took, t)
		if i == times-1 {
			slices.Sort(took)
			b.startups = append(b.startups, startup{name, on, took[len(took)/2]})
			return s, nil
		}
		if err := s.stop(); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("nothing was started")
}

func (b *bench) startOne(ctx context.Context, name, database string) (*server, time.Duration, error) {
	address, err := freePort()
	if err != nil {
		return nil, 0, err
	}
	args := map[string]func(string, string) []string{"lethe": b.letheArgs, "limit": b.limitArgs}[name](address, database)
	s := &server{name: name, address: address, cmd: exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(b.binaries, name), args...)} //nolint:gosec // built by us
	if s.log, err = os.CreateTemp(b.work, name+"-*.log"); err != nil {
		return nil, 0, err
	}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if b.profile != "" {
		if s.pprof, err = freePort(); err != nil {
			return nil, 0, err
		}
		s.cmd.Env = append(os.Environ(), "LETHE_BENCH_PROFILE="+s.pprof)
	}
	begin := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, 0, fmt.Errorf("starting %s: %w", name, err)
	}
	for end := begin.Add(time.Minute); ; time.Sleep(500 * time.Microsecond) {
		c, err := dial(address)
		if err == nil {
			_, err = c.do([]byte("GET /readyz HTTP/1.1\r\nHost: bench\r\n\r\n"))
			c.close()
		}
		if err == nil {
			return s, time.Since(begin), nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return nil, 0, errors.Join(fmt.Errorf("%s does not get ready: %w\n%s", name, err, s.output()), s.stop())
		}
	}
}

// output is what the server said.
func (s *server) output() []byte {
	text, err := os.ReadFile(s.log.Name())
	if err != nil {
		return []byte(err.Error())
	}
	return text
}

func (s *server) pid() int { return s.cmd.Process.Pid }

func (s *server) stop() error {
	defer s.log.Close()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping %s: %w", s.name, err)
	}
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("%s ended: %w\n%s", s.name, err, s.output())
	}
	return nil
}

// findPostmaster finds PostgreSQL's main process if it runs on this machine.
func (b *bench) findPostmaster(ctx context.Context) error {
	var backend int
	if _, err := store.Build(b.db).Add(`SELECT pg_backend_pid()`).One(ctx, b.db, &backend); err != nil {
		return err
	}
	if b.cluster != nil || b.database != "" {
		b.postmaster = parent(backend)
	}
	return nil
}
