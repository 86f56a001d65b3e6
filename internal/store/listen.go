package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNoNotifications reports a database whose clients cannot be told of changes.
var ErrNoNotifications = errors.New("store: SQLite sends no notifications")

const (
	// listenCheck is how long a connection may be silent before it is asked whether
	// it is still there: a peer that is gone without a word sends nothing either.
	listenCheck = 10 * time.Second
	// listenAnswer is how long it may take to answer, and to connect.
	listenAnswer = 5 * time.Second
)

// Notifies reports whether the database can tell one process what another does.
func (db *DB) Notifies() bool { return db.pool != nil }

// Listen hands on what PostgreSQL sends to a channel, until the context ends or
// the connection does; its error says which. The connection is its own: one of
// the pool would be missing there. Nothing sent before began is called is told.
func (db *DB) Listen(ctx context.Context, channel string, began func(), notified func(payload string)) error {
	if db.pool == nil {
		return ErrNoNotifications
	}
	conn, err := listening(ctx, db.pool.Config().ConnConfig, channel)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", channel, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listenAnswer)
		defer cancel()
		_ = conn.Close(ctx) // whether it said goodbye or not, it is closed
	}()
	began()
	for {
		n, err := notification(ctx, conn)
		switch {
		case err != nil:
			return fmt.Errorf("listening on %s: %w", channel, err)
		case n != nil:
			notified(n.Payload)
		}
	}
}

func listening(ctx context.Context, config *pgx.ConnConfig, channel string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, listenAnswer)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// notification waits for the next one; nil when there was none for a while and
// the connection is still there.
func notification(ctx context.Context, conn *pgx.Conn) (*pgconn.Notification, error) {
	wait, cancel := context.WithTimeout(ctx, listenCheck)
	defer cancel()
	n, err := conn.WaitForNotification(wait)
	if err == nil || ctx.Err() != nil || !pgconn.Timeout(err) {
		return n, err
	}
	ping, cancel := context.WithTimeout(ctx, listenAnswer)
	defer cancel()
	return nil, conn.Ping(ping)
}
