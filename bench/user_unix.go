//go:build linux || darwin

package main

import (
	"context"
	"os"
	"os/exec"
	"syscall"

	"github.com/lethe-crm/lethe/internal/store/pgtest"
)

// command is a command that runs as the user who may run PostgreSQL: as root it
// refuses to.
func command(ctx context.Context, dir, name string, args ...string) (*exec.Cmd, error) {
	owner, err := pgtest.Owner()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // PostgreSQL's own programs
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + dir}
	// A process group of its own: Ctrl-C ends it by the end of this process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: owner}
	return cmd, nil
}

// give makes a folder that user's.
func give(dir string) error {
	owner, err := pgtest.Owner()
	if err != nil || owner == nil {
		return err
	}
	return os.Chown(dir, int(owner.Uid), int(owner.Gid))
}
