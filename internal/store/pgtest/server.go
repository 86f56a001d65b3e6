package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// server is where databases are created.
type server struct {
	admin   *url.URL // of the database from which the others are made
	stop    func() error
	prefix  string // keeps the names of two processes on one server apart
	copying string // the strategy by which CREATE DATABASE copies its template
	counter atomic.Int64

	templates []string // to drop at the end; guarded by templatesMu
}

// newServer returns the server at the given address, or one of its own when
// the address is empty.
func newServer(address string) (*server, error) {
	s := &server{
		stop:   func() error { return nil },
		prefix: "lethe_test_" + strings.ToLower(rand.Text()[:10]) + "_",
	}
	if address == "" {
		c, err := startCluster()
		if err != nil {
			return nil, err
		}
		s.admin, s.stop = c.url(), c.stop
		// Twice as fast where a checkpoint costs nothing. A server that is
		// durable, or only compatible, had better choose itself.
		s.copying = " STRATEGY FILE_COPY"
		return s, nil
	}
	admin, err := url.Parse(address)
	if err != nil || (admin.Scheme != "postgres" && admin.Scheme != "postgresql") {
		return nil, fmt.Errorf("%s is not a postgres:// URL", serverVariable)
	}
	s.admin = admin
	return s, nil
}

// url is the server's URL with another database.
func (s *server) url(database string) string {
	u := *s.admin
	u.Path = "/" + database
	return u.String()
}

// create makes a database and returns its name. It is a copy of the template,
// or empty when that is "".
func (s *server) create(template string) (string, error) {
	name := fmt.Sprintf("%s%d", s.prefix, s.counter.Add(1))
	if template == "" {
		template = "template0" // an administrator may have filled template1
	}
	statement := "CREATE DATABASE " + name + " TEMPLATE " + template + s.copying
	if err := s.exec(statement); err != nil {
		return "", fmt.Errorf("create database: %w", err)
	}
	return name, nil
}

// drop removes a database and closes the connections to it.
func (s *server) drop(name string) error {
	if err := s.exec("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop database: %w", err)
	}
	return nil
}

// createTemplate makes a database with setup and closes it for connections: a
// database with one cannot be copied, and a test must not change what the
// others will get.
func (s *server) createTemplate(setup func(url string) error) (string, error) {
	name, err := s.create("")
	if err != nil {
		return "", err
	}
	templatesMu.Lock()
	s.templates = append(s.templates, name)
	templatesMu.Unlock()

	if err := setup(s.url(name)); err != nil {
		return "", fmt.Errorf("setup: %w", err)
	}
	if err := s.exec("ALTER DATABASE " + name + " ALLOW_CONNECTIONS false"); err != nil {
		return "", fmt.Errorf("close template: %w", err)
	}
	return name, nil
}

// close drops the templates and stops the cluster if it is ours.
func (s *server) close() error {
	templatesMu.Lock()
	defer templatesMu.Unlock()
	var errs []error
	for _, name := range s.templates {
		errs = append(errs, s.drop(name))
	}
	return errors.Join(append(errs, s.stop())...)
}

// exec runs one statement on a connection of its own. A kept connection would
// save 3 ms and show up in tests that look for leaked goroutines.
func (s *server) exec(statement string) (err error) {
	ctx, cancel := statementContext()
	defer cancel()
	conn, err := pgx.Connect(ctx, s.admin.String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	_, err = conn.Exec(ctx, statement)
	return err
}
