package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/importer"
)

type importCmd struct {
	storage
	output
	who
	As     string            `required:"" placeholder:"WHAT" help:"What to import: messages or customers."`
	Map    map[string]string `placeholder:"COLUMN=FIELD" mapsep:"none" help:"The field that a column of the table fills. May be repeated."`
	Set    map[string]string `placeholder:"FIELD=VALUE" mapsep:"none" help:"A field's value in every record. May be repeated."`
	DryRun bool              `help:"Do everything but keep it."`
	Path   string            `arg:"" help:"A table (CSV, XLSX, JSONL), or mail: a folder of .eml, a maildir, an mbox."`
}

// Run implements the command.
func (cmd *importCmd) Run(ctx context.Context, c *console) error {
	return cmd.withApp(ctx, c, func(a *app) error {
		tenant, user, err := cmd.find(ctx, a)
		if err != nil {
			return err
		}
		who, err := a.identity.ActAs(ctx, tenant, user, "import-"+rand.Text())
		if err != nil {
			return err
		}
		control, err := a.control()
		if err != nil {
			return err
		}
		report, err := importer.Run(actor.With(ctx, who), importer.Config{
			DB: a.db, Records: a.records(control), Control: control, Audit: a.audit,
			As: cmd.As, Path: cmd.Path, Map: cmd.Map, Set: cmd.Set, DryRun: cmd.DryRun, Progress: c.progress(), Now: time.Now,
		})
		for _, item := range report.Items {
			c.say("%s", describe(item))
		}
		if report.Omitted > 0 {
			c.say("... and %d more", report.Omitted)
		}
		if err != nil {
			if report.Read > 0 {
				c.say("%s", summary(report))
			}
			return err
		}
		return c.print(cmd.JSON, summary(report), report)
	})
}

func summary(r importer.Report) string {
	text := fmt.Sprintf("%d read: %d created, %d duplicate, %d in the bin, %d failed", r.Read, r.Created, r.Duplicate, r.InBin, r.Failed)
	if r.DryRun {
		text += " (dry run: nothing is kept)"
	}
	return text
}

func describe(item importer.ReportItem) string {
	name := item.Name
	if name == "" {
		name = fmt.Sprintf("line %d", item.Line)
	}
	text := fmt.Sprintf("%s: %s", name, item.Outcome)
	if item.Code != "" {
		text += " " + item.Code
	}
	if item.Reason != "" {
		text += ": " + item.Reason
	}
	for _, w := range item.Warnings {
		text += "; " + w
	}
	return text
}

// progress draws a bar where somebody is looking.
func (c *console) progress() func(done, total int64) {
	f, ok := c.err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) { //nolint:gosec // a file descriptor is an int
		return nil
	}
	var bar *progressbar.ProgressBar
	return func(done, total int64) {
		if bar == nil {
			bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(f), progressbar.OptionShowBytes(true), progressbar.OptionClearOnFinish())
		}
		_ = bar.Set64(done) // a bar that cannot be drawn is no reason to stop
	}
}
