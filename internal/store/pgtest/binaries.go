package pgtest

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// oldestVersion is the oldest PostgreSQL that Lethe supports.
const oldestVersion = 15

// installed says where packages put the server's binaries, none of which is
// usually in PATH.
var installed = []string{
	"/usr/lib/postgresql/*/bin",             // Debian, Ubuntu
	"/usr/pgsql-*/bin",                      // PostgreSQL's packages for RHEL, Fedora
	"/opt/homebrew/opt/postgresql@*/bin",    // Homebrew
	"/usr/local/opt/postgresql@*/bin",       // Homebrew on Intel
	"/Applications/Postgres.app/*/*/*/bin/", // Postgres.app
}

// Binaries returns the folder of a PostgreSQL that is new enough: the one in
// PATH, else the newest installed.
func Binaries() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			if dir := filepath.Dir(target); version(dir) >= oldestVersion {
				return dir, nil
			}
		}
	}
	type found struct {
		dir     string
		version int
	}
	var all []found
	for _, pattern := range installed {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("look for PostgreSQL in %s: %w", pattern, err)
		}
		for _, dir := range dirs {
			if v := version(dir); v >= oldestVersion {
				all = append(all, found{dir, v})
			}
		}
	}
	if len(all) == 0 {
		return "", fmt.Errorf("%w: no binaries of version %d or newer are installed and %s is not set",
			errUnavailable, oldestVersion, serverVariable)
	}
	newest := slices.MaxFunc(all, func(a, b found) int { return cmp.Compare(a.version, b.version) })
	return newest.dir, nil
}

var majorVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// version is the major version of the server in dir, 0 when there is none or
// a tool to set up a cluster is missing, as where only the client is installed.
func version(dir string) int {
	for _, tool := range []string{"initdb", "pg_ctl"} {
		if _, err := os.Stat(filepath.Join(dir, tool)); err != nil {
			return 0
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	match := majorVersion.FindSubmatch(out)
	if match == nil {
		return 0
	}
	v, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return 0
	}
	return v
}
