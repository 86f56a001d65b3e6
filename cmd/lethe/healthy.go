package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// healthyPatience is how long a server may take to say that it is well.
const healthyPatience = 5 * time.Second

type healthyCmd struct {
	Listen string `default:"127.0.0.1:8080" placeholder:"ADDRESS" help:"Where the server listens (${default})."`
	Ready  bool   `help:"Ask whether it can serve requests, and not only whether it runs."`
}

// Run implements the command.
func (cmd *healthyCmd) Run(ctx context.Context, c *console) error {
	host, port, err := net.SplitHostPort(cmd.Listen)
	if err != nil {
		return &usageError{fmt.Sprintf("%s is not an address such as 127.0.0.1:8080", cmd.Listen)}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	path := "/healthz"
	if cmd.Ready {
		path = "/readyz"
	}
	ctx, cancel := context.WithTimeout(ctx, healthyPatience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return fmt.Errorf("asking: %w", err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("asking: %w", err)
	}
	if err := answer.Body.Close(); err != nil {
		return fmt.Errorf("asking: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answered %s", answer.Status)
	}
	_, err = fmt.Fprintln(c.out, "ok")
	return err
}
