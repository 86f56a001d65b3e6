package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
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
	As          string            `required:"" placeholder:"WHAT" help:"What to import: customers, contacts, deals, tasks, messages, calls or notes."`
	Map         map[string]string `placeholder:"COLUMN=FIELD" mapsep:"none" help:"The field that a column of the table fills. May be repeated."`
	Set         map[string]string `placeholder:"FIELD=VALUE" mapsep:"none" help:"A field's value in every record. May be repeated."`
	Timezone    string            `placeholder:"ZONE" help:"Where times without a zone are from, such as Europe/Moscow. UTC if absent."`
	MarkDeleted string            `placeholder:"COLUMN=VALUE" help:"Rows of a table of which the column has the value are deleted once they are imported or found, by one operation."`
	DryRun      bool              `help:"Do everything but keep it."`
	Path        string            `arg:"" help:"A table (CSV, XLSX or JSON Lines, by its name), or for messages mail: an .eml, a folder of them, a maildir or an mbox."`
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
			As: cmd.As, Path: cmd.Path, Map: cmd.Map, Set: cmd.Set, MarkDeleted: cmd.MarkDeleted, ActAs: a.actAs, DryRun: cmd.DryRun, Timezone: cmd.Timezone, Progress: c.progress(), Now: time.Now,
		})
		if len(report.UnusedColumns) > 0 {
			c.sayf("columns that fill nothing: %s", strings.Join(report.UnusedColumns, ", "))
		}
		for _, item := range report.Items {
			c.sayf("%s", describe(item))
		}
		if report.Omitted > 0 {
			c.sayf("... and %d more", report.Omitted)
		}
		if err != nil {
			if report.Read > 0 {
				c.sayf("%s", summary(report))
			}
			return err
		}
		return c.print(cmd.JSON, summary(report), report)
	})
}

func summary(r importer.Report) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d read: %d created, %d duplicate, %d in the bin, %d failed", r.Read, r.Created, r.Duplicate, r.InBin, r.Failed)
	if r.Unchanged > 0 {
		fmt.Fprintf(&text, ", %d unchanged", r.Unchanged)
	}
	if r.Deleted > 0 || r.NotDeleted > 0 {
		fmt.Fprintf(&text, "; %d deleted, %d not deleted", r.Deleted, r.NotDeleted)
	}
	for _, d := range r.Deletions {
		if d.Waiting > 0 {
			fmt.Fprintf(&text, "; %d wait in %s, which is %s", d.Waiting, d.Operation, d.Status)
		}
	}
	if r.Attachments > 0 {
		fmt.Fprintf(&text, "; %d attachments", r.Attachments)
	}
	if r.AttachmentsAdded > 0 {
		fmt.Fprintf(&text, ", %d of them added to messages that lacked them", r.AttachmentsAdded)
	}
	if r.AttachmentsFailed > 0 {
		fmt.Fprintf(&text, "; %d attachments failed", r.AttachmentsFailed)
	}
	if r.Ignored > 0 {
		fmt.Fprintf(&text, "; %d files are no mail by their names", r.Ignored)
	}
	for _, source := range slices.Sorted(maps.Keys(r.SentAt)) {
		fmt.Fprintf(&text, "; sent at by %s: %d", source, r.SentAt[source])
	}
	if r.DryRun {
		text.WriteString(" (dry run: nothing is kept)")
	}
	return text.String()
}

func describe(item importer.ReportItem) string {
	name := item.Name
	if name == "" {
		name = fmt.Sprintf("line %d", item.Line)
	}
	outcome := string(item.Outcome)
	if item.Code != "" {
		outcome += " " + item.Code
	}
	parts := []string{name, outcome}
	if item.Reason != "" {
		parts = append(parts, item.Reason)
	}
	if item.Outcome == importer.Duplicate && item.Attachments > 0 {
		parts = append(parts, fmt.Sprintf("%d attachments added", item.Attachments))
	}
	return strings.Join(append(parts, item.Warnings...), ": ")
}

// progress draws a bar where somebody is looking.
func (c *console) progress() func(done, total int64) {
	f, ok := c.err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
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
