// Command bench measures Lethe against what a handler and SQL written by hand
// for the same work can do (bench/limit), both on one database in one run.
// README.md says what is measured, how, and what came out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// options are what a run is asked for.
type options struct {
	database    string // of PostgreSQL; empty starts a cluster
	sqlite      bool
	customers   int
	messages    int
	connections int
	slice       time.Duration
	rounds      int
	only        []string
	keep        string
	json        string
	readme      bool
	profile     string
	decisions   bool
	jobs        bool
	search      bool
	records     []int  // of the jobs
	root        string // of the module
	binaries    string // a folder with both servers, built already
}

func main() {
	o := options{root: "."}
	flag.StringVar(&o.database, "database", "", "an empty `URL` postgres://... to measure on, instead of a cluster started for it")
	flag.BoolVar(&o.sqlite, "sqlite", false, "measure on SQLite instead of PostgreSQL")
	flag.IntVar(&o.customers, "customers", 100_000, "how many customers there are")
	flag.IntVar(&o.messages, "messages", 1_000_000, "how many messages there are")
	flag.IntVar(&o.connections, "connections", 16, "how many requests are under way at once")
	flag.DurationVar(&o.slice, "slice", 5*time.Second, "how long one side is loaded before the other has its turn")
	flag.IntVar(&o.rounds, "rounds", 4, "how many turns each side has")
	only := flag.String("only", "", "the workloads to run, such as a,c")
	flag.StringVar(&o.keep, "keep", "", "a `folder` for the database, which the next run finds there")
	flag.StringVar(&o.json, "json", "", "write the figures to this `file`, too")
	flag.BoolVar(&o.readme, "readme", false, "write the table into bench/README.md")
	flag.StringVar(&o.profile, "profile", "", "write CPU profiles of both servers into this `folder`")
	flag.BoolVar(&o.decisions, "decisions", false, "measure decisions on access, beside stock Casbin's, and nothing else")
	flag.BoolVar(&o.jobs, "jobs", false, "measure operations on many records, which are jobs, beside SQL in chunks, and nothing else")
	flag.BoolVar(&o.search, "search", false, "measure the first page of searches, beside SQL, and nothing else")
	records := flag.String("records", "10000,100000", "on how many records the jobs are")
	flag.Parse()
	for text := range strings.SplitSeq(*records, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n <= 1_000 {
			fmt.Fprintln(os.Stderr, "bench: --records takes numbers above 1000: an operation on fewer is no job")
			os.Exit(2)
		}
		o.records = append(o.records, n)
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := o.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (o *options) run(ctx context.Context) (err error) {
	if strings.HasPrefix(o.database, "sqlite:") {
		return errors.New("--database is for PostgreSQL; SQLite is asked for by --sqlite")
	}
	readme := filepath.Join(o.root, "bench", "README.md")
	if o.decisions {
		table, err := decisions(ctx)
		if err != nil {
			return err
		}
		fmt.Print(table)
		if o.readme {
			return rewrite(readme, "decisions", table)
		}
		return nil
	}
	if o.search {
		table, err := measureSearch(ctx, o)
		if err != nil {
			return err
		}
		fmt.Print(table)
		if o.readme {
			place := "search"
			if o.sqlite {
				place = "search on sqlite"
			}
			return rewrite(readme, place, table)
		}
		return nil
	}
	if o.jobs {
		r, err := measureJobs(ctx, o)
		if err != nil {
			return err
		}
		fmt.Print(r.table())
		if o.readme {
			return rewrite(readme, r.place, r.table())
		}
		return nil
	}
	r, err := measure(ctx, o)
	if err != nil {
		return err
	}
	fmt.Print(r.table())
	if o.json != "" {
		if err := r.write(o.json); err != nil {
			return err
		}
	}
	if o.readme {
		return r.rewrite(readme)
	}
	return nil
}

// measure prepares a database, starts both servers, checks that they answer and
// write the same, and loads them in turn.
func measure(ctx context.Context, o *options) (_ *result, err error) {
	work, err := os.MkdirTemp("", "lethe-bench-")
	if err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	b := &bench{options: o, work: work, folder: o.keep}
	if b.folder == "" {
		b.folder = work
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	if b.binaries == "" {
		b.binaries = work
		if err := b.build(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.start(ctx); err != nil {
		return nil, err
	}
	m, err := b.gather(ctx)
	if err != nil {
		return nil, fmt.Errorf("picking what to ask for: %w", err)
	}
	sayf("picked what to ask for")
	if err := b.compare(ctx, m); err != nil {
		return nil, fmt.Errorf("comparing what the two answer and write: %w", err)
	}
	sayf("both answer and write the same")
	return b.measure(ctx, m)
}

// wanted reports whether a workload is among those asked for.
func (o *options) wanted(name string) bool { return o.only == nil || slices.Contains(o.only, name) }

// sayf tells how far it is.
func sayf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05.0 ")+format+"\n", args...)
}
