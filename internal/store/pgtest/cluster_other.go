//go:build !linux && !darwin

package pgtest

import (
	"fmt"
	"net/url"
)

// cluster is never made here: starting one takes unix sockets and users.
type cluster struct{}

func startCluster() (*cluster, error) {
	return nil, fmt.Errorf("%w: set %s", errUnavailable, serverVariable)
}

func (*cluster) url() *url.URL { return nil }
func (*cluster) stop() error   { return nil }
