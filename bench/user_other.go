//go:build !linux && !darwin

package main

import (
	"context"
	"errors"
	"os/exec"
)

var errElsewhere = errors.New("clusters are started on Linux and macOS only; name a server by --database")

func command(context.Context, string, string, ...string) (*exec.Cmd, error) { return nil, errElsewhere }

func give(string) error { return errElsewhere }
