//go:build linux || darwin

package pgtest

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// watchdog sets the cluster up, reports, and takes it down when its standard
// input closes, which the kernel sees to however the test process ends.
//
//go:embed watchdog.sh
var watchdog string

const (
	// startTimeout is for a machine that is busy; about a second is usual.
	startTimeout = 2 * time.Minute
	superuser    = "postgres"
	// port only names the socket file: every cluster has a folder of its own.
	port = "5432"
)

// settings make a server whose data nobody will miss: durability is off and
// the log for it kept short. Autovacuum is off because its workers hold up the
// copying of a template. The connections are for packages that run many tests
// at once, each with a pool.
var settings = []string{
	"fsync=off", "synchronous_commit=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0",
	"max_wal_size=256MB",
	"autovacuum=off",
	"max_connections=200",
	"listen_addresses=", "port=" + port, "unix_socket_permissions=0700",
	"timezone=UTC",
}

type cluster struct {
	dir      string
	process  *exec.Cmd
	lifeline *os.File // the write end of the watchdog's standard input
}

// startCluster returns a running cluster in a new folder.
func startCluster() (*cluster, error) {
	bin, err := Binaries()
	if err != nil {
		return nil, err
	}
	owner, err := Owner()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(clusterParent(), "lethe-pg-")
	if err != nil {
		return nil, fmt.Errorf("folder for the cluster: %w", err)
	}
	c, err := launch(bin, dir, owner)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL from %s: %w", bin, err), os.RemoveAll(dir))
	}
	return c, nil
}

func launch(bin, dir string, owner *syscall.Credential) (*cluster, error) {
	if owner != nil {
		if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return nil, err
		}
	}
	input, lifeline, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer input.Close()
	report, output, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, lifeline.Close())
	}
	defer report.Close()
	defer output.Close()

	cmd := exec.Command("/bin/sh", "-c", watchdog, "pgtest-watchdog", bin, dir, superuser, options(dir))
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + dir}
	// Files, so that no goroutine copies: tests look for leaked ones.
	cmd.Stdin, cmd.Stdout = input, output
	// A process group of its own, so that Ctrl-C in the terminal reaches the
	// watchdog only through the end of the test process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: owner}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, lifeline.Close())
	}
	c := &cluster{dir: dir, process: cmd, lifeline: lifeline}
	if err := errors.Join(output.Close(), c.await(report)); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// await returns when the server accepts connections, with what it logged when
// it does not.
func (c *cluster) await(report *os.File) error {
	if err := report.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return err
	}
	line, err := bufio.NewReader(report).ReadString('\n')
	if line == "ready\n" {
		return nil
	}
	log, logErr := os.ReadFile(filepath.Join(c.dir, "log"))
	return errors.Join(fmt.Errorf("the server did not start (%w); its log:\n%s", err, log), logErr)
}

// stop lets go of the watchdog and waits until it has removed everything.
func (c *cluster) stop() error {
	if err := c.lifeline.Close(); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	if err := c.process.Wait(); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	return nil
}

// url is the URL of the cluster's maintenance database. It names all that
// PG* variables of the environment could otherwise change.
func (c *cluster) url() *url.URL {
	query := url.Values{"host": {c.dir}, "port": {port}, "sslmode": {"disable"}}
	return &url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/postgres", RawQuery: query.Encode()}
}

// options are the server's command line arguments. Pg_ctl hands them to a
// shell; neither a setting nor the folder's name has a character to quote.
func options(dir string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "-c unix_socket_directories=%s", dir)
	for _, s := range settings {
		fmt.Fprintf(&b, " -c %s", s)
	}
	return b.String()
}

// clusterParent is the folder for the cluster's folder: in memory where that
// holds enough, because a database is some 300 files and making them takes
// 20 ms there and up to 400 ms on a disk. Else it is the temporary folder,
// unless its name is too long for the path of a socket, which has about 100
// bytes, or would need quoting, or root may have closed it to others.
func clusterParent() string {
	const (
		memory      = "/dev/shm"
		enough      = 1 << 30 // bytes; containers are often given 64 MiB
		roomForName = 60
	)
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memory, &fs); err == nil && fs.Bavail*uint64(fs.Bsize) >= enough {
		return memory
	}
	if dir := os.TempDir(); len(dir) <= roomForName && os.Getuid() != 0 && !strings.ContainsAny(dir, ` '"\$`) {
		return dir
	}
	return "/tmp"
}

// Owner is the user who runs the server: nil for the one who runs the
// tests, another for root, as which PostgreSQL refuses to run.
func Owner() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	var errs []error
	for _, name := range []string{superuser, "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, fmt.Errorf("ids of user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("PostgreSQL does not run as root: %w", errors.Join(errs...))
}
