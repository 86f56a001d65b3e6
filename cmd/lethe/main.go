// Command lethe serves the API and does what the operator does by hand.
//
// Results go to stdout, all else to stderr. It ends with 0 when it did what was
// asked, 1 when that failed, and 2 when it was asked wrongly. Every flag has an
// environment variable, LETHE_ and the flag's name.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/lethe-crm/lethe/internal/importer"
	"github.com/lethe-crm/lethe/internal/server"
)

// The exit statuses.
const (
	done   = 0
	failed = 1
	misuse = 2
)

// gcPercent is how much the heap may grow between collections unless GOGC says
// otherwise: a server that shares a small machine with its database had rather
// take less memory, for a few hundredths of its CPU time.
const gcPercent = 75

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// commands is the whole command line.
type commands struct {
	Serve   serveCmd   `cmd:"" help:"Serve the API."`
	Migrate migrateCmd `cmd:"" help:"Change the tables of the database to what this version needs."`
	Tenant  tenantCmd  `cmd:"" help:"Manage tenants."`
	User    userCmd    `cmd:"" help:"Manage users."`
	Role    roleCmd    `cmd:"" help:"Manage who has which role."`
	Policy  policyCmd  `cmd:"" help:"Manage what roles may do."`
	Token   tokenCmd   `cmd:"" help:"Manage API tokens."`
	Link    linkCmd    `cmd:"" help:"Manage sign-in links."`
	Import  importCmd  `cmd:"" help:"Import mail or tables."`
	Export  exportCmd  `cmd:"" help:"Export records into a file."`
	Sweep   sweepCmd   `cmd:"" help:"Purge what is due for it."`
	Backup  backupCmd  `cmd:"" help:"Copy the database and the bytes of attachments to a folder, while the server runs."`
	Check   checkCmd   `cmd:"" help:"Find attachments without their bytes, bytes without an attachment, and records that were purged."`
	Schema  schemaCmd  `cmd:"" help:"Print the GraphQL schema."`
	Version versionCmd `cmd:"" help:"Print the version."`
	Healthy healthyCmd `cmd:"" help:"Ask a server whether it is healthy: for containers, which have no other program to ask with."`

	Configuration configurationCmd `cmd:"" hidden:"" help:"Print docs/configuration.md."`
}

// usageError says that a command was asked for what it does not do.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

// console is where a command talks.
type console struct {
	in       io.Reader
	out, err io.Writer
}

// sayf talks to the operator.
func (c *console) sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(c.err, format+"\n", args...) // there is nowhere to say that it cannot be said
}

// print writes a result as text, or what it was made from as JSON.
func (c *console) print(asJSON bool, text string, value any) error {
	if asJSON {
		encoder := json.NewEncoder(c.out)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(value)
	}
	_, err := fmt.Fprintln(c.out, text)
	return err
}

func (c *console) logger(level slog.Level) *slog.Logger {
	return slog.New(server.LogHandler(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: level})))
}

// output is the flag of commands whose result may be parsed.
type output struct {
	JSON bool `name:"json" help:"Print the result as JSON."`
}

// run is main without the process: it ends when the context does and answers
// the exit status.
func run(ctx context.Context, args []string, in io.Reader, out, err io.Writer) (status int) {
	type exit int
	defer func() {
		switch value := recover().(type) {
		case nil:
		case exit: // --help
			status = int(value)
		default:
			panic(value)
		}
	}()
	c := &console{in, out, err}
	parser, problem := kong.New(&commands{},
		kong.Name("lethe"),
		kong.Description("Records of customers, and the end of their life: deletion you can undo, purges you can prove."),
		kong.DefaultEnvars("LETHE"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Writers(out, err),
		kong.Exit(func(status int) { panic(exit(status)) }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(c),
	)
	if problem != nil {
		c.sayf("lethe: %v", problem)
		return failed
	}
	command, problem := parser.Parse(args)
	if problem != nil {
		c.sayf("lethe: %v\nSee lethe --help.", problem)
		return misuse
	}
	problem = command.Run()
	var wrong *importer.UsageError
	var misused *usageError
	switch {
	case problem == nil:
		return done
	case errors.As(problem, &wrong), errors.As(problem, &misused):
		c.sayf("lethe: %v", problem)
		return misuse
	}
	c.sayf("lethe: %v", problem)
	return failed
}
