package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/server"
	"github.com/lethe-crm/lethe/internal/transport"
)

// reloadTimeout keeps a plugin that cannot be built from holding up the next try.
const reloadTimeout = 30 * time.Second

// hangups tells of every SIGHUP. Where there is no file to read again SIGHUP
// stays what ends a server whose terminal was closed.
func (cmd *serveCmd) hangups() (signals <-chan os.Signal, stop func()) {
	if cmd.Authz == "" && cmd.TrustedDocuments == "" {
		return nil, func() {}
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

// trusted reads the documents that requests may name.
func (cmd *serveCmd) trusted() (*transport.TrustedDocuments, error) {
	documents := &transport.TrustedDocuments{Only: cmd.TrustedDocumentsOnly}
	if cmd.TrustedDocuments == "" {
		if cmd.TrustedDocumentsOnly {
			return nil, &usageError{"--trusted-documents-only needs --trusted-documents"}
		}
		return documents, nil
	}
	_, err := documents.Load(cmd.TrustedDocuments)
	return documents, err
}

// reload reads the chain of plugins and the trusted documents again with every
// hangup, until the context ends. A file that is not right leaves what there is.
func (cmd *serveCmd) reload(ctx context.Context, hangups <-chan os.Signal, trusted *transport.TrustedDocuments, control *access.Control, metrics *server.Metrics, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		if cmd.TrustedDocuments != "" {
			if n, err := trusted.Load(cmd.TrustedDocuments); err != nil {
				log.ErrorContext(ctx, "the trusted documents stay as they are", "error", err)
			} else {
				log.InfoContext(ctx, "the trusted documents were replaced", "documents", n)
			}
		}
		if cmd.Authz == "" {
			continue
		}
		names, err := cmd.reloadOnce(ctx, control, log)
		metrics.ChainReloaded(err)
		if err != nil {
			log.ErrorContext(ctx, "the chain of plugins stays as it is", "file", cmd.Authz, "error", err)
			continue
		}
		log.InfoContext(ctx, "the chain of plugins was replaced", "file", cmd.Authz, "members", names)
	}
}

func (cmd *serveCmd) reloadOnce(ctx context.Context, control *access.Control, log *slog.Logger) (names []string, err error) {
	members, _, err := cmd.chain()
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		names = append(names, m.Name)
	}
	within, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	return names, control.Reload(within, members, func(err error) {
		if err != nil {
			log.WarnContext(context.WithoutCancel(ctx), "closing plugins of the old chain", "error", err)
		}
	})
}
