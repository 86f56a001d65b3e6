//go:build linux || darwin

package pgtest

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// abandonVariable makes this test binary a process that starts a cluster, says
// where and waits to be killed.
const abandonVariable = "LETHE_PGTEST_ABANDON"

func init() {
	if os.Getenv(abandonVariable) == "" {
		return
	}
	c, err := startCluster()
	if err != nil {
		panic(err)
	}
	fmt.Println("cluster", c.dir)
	time.Sleep(time.Minute) // for as long as it takes to be killed
}

func TestAClusterDiesWithAProcessThatIsKilled(t *testing.T) {
	t.Parallel()
	if _, err := Binaries(); err != nil {
		refuse(t, err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), abandonVariable+"=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	dir, ok := strings.CutPrefix(strings.TrimSpace(line), "cluster ")
	require.True(t, ok, "%q, %v", line, err)
	pid := postmaster(t, dir)
	require.NoError(t, syscall.Kill(pid, 0), "the server runs")

	require.NoError(t, cmd.Process.Kill())
	require.EqualError(t, cmd.Wait(), "signal: killed")

	require.Eventually(t, func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, fs.ErrNotExist) && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	}, 10*time.Second, 20*time.Millisecond, "%s or process %d is still there", dir, pid)
}

func TestAClusterThatCannotStartSaysWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(clusterParent(), "lethe-pg-broken-"+strconv.Itoa(os.Getpid()))
	require.NoError(t, os.Mkdir(dir, 0o700))
	owner, err := Owner()
	require.NoError(t, err)

	_, err = launch(t.TempDir(), dir, owner)

	require.ErrorContains(t, err, "initdb")
	require.NoDirExists(t, dir)
}

func postmaster(t *testing.T, dir string) int {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(file), "\n")
	pid, err := strconv.Atoi(first)
	require.NoError(t, err)
	return pid
}
