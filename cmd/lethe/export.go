package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/export"
	"github.com/lethe-crm/lethe/internal/importer"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

type exportCmd struct {
	storage
	output
	who
	As        string   `required:"" placeholder:"WHAT" help:"What to export: customers, contacts, deals, tasks, messages, calls, notes or attachments."`
	States    []string `placeholder:"STATE" help:"Records in these states: active, suspended, archived, voided, deleted. Default is active."`
	Filter    string   `placeholder:"JSON" help:"Which of them: a where-input of the API, as JSON."`
	Format    string   `placeholder:"FORMAT" help:"csv, xlsx or jsonl. Default is what the name of the file says, else csv."`
	EncryptTo []string `placeholder:"KEY" help:"A key of age (age1...) that can decrypt the file. May be repeated."`
	Reason    string   `placeholder:"TEXT" help:"Why, for the manifest."`
	Path      string   `arg:"" help:"The file; its manifest is written beside it. - is the standard output."`
}

// spec is what was asked for.
func (cmd *exportCmd) spec() (export.Spec, error) {
	spec := export.Spec{EncryptTo: cmd.EncryptTo, Reason: cmd.Reason, Format: export.Format(strings.ToUpper(cmd.Format))}
	tables := make([]string, len(ent.RecordTypes))
	for i, t := range ent.RecordTypes {
		if tables[i] = t.Table; t.Table == cmd.As {
			spec.Type = t.Name
		}
	}
	if spec.Type == "" {
		slices.Sort(tables)
		return spec, fmt.Errorf("nothing can be exported as %q; there are: %s", cmd.As, strings.Join(tables, ", "))
	}
	for _, state := range cmd.States {
		spec.States = append(spec.States, lifecycle.State(strings.ToUpper(state)))
	}
	if spec.Format == "" {
		spec.Format = export.CSV
		name := strings.TrimSuffix(strings.ToLower(cmd.Path), ".age")
		for _, f := range export.Formats() {
			if filepath.Ext(name) == f.Extension() {
				spec.Format = f
			}
		}
	}
	if cmd.Filter != "" {
		var err error
		if spec.Filter, err = record.ParseFilter(spec.Type, []byte(cmd.Filter)); err != nil {
			return spec, err
		}
	}
	return spec, nil
}

// Run implements the command.
func (cmd *exportCmd) Run(ctx context.Context, c *console) error {
	spec, err := cmd.spec()
	if err != nil {
		return importer.Misused(err)
	}
	return cmd.withApp(ctx, c, func(a *app) error {
		tenant, user, err := cmd.find(ctx, a)
		if err != nil {
			return err
		}
		who, err := a.identity.ActAs(ctx, tenant, user, "export-"+rand.Text())
		if err != nil {
			return err
		}
		control, err := a.control()
		if err != nil {
			return err
		}
		exports := a.exports(control, a.records(control))
		ctx := actor.With(ctx, who)
		if cmd.Path == "-" {
			m, err := exports.ToStream(ctx, spec, c.out)
			if err == nil {
				c.sayf("%s", exported(m, "the standard output"))
			}
			return err
		}
		m, err := exports.ToFile(ctx, spec, cmd.Path)
		if err != nil {
			return err
		}
		return c.print(cmd.JSON, exported(m, cmd.Path), m)
	})
}

func exported(m *export.Manifest, where string) string {
	text := fmt.Sprintf("%d rows of %s in %s, %d bytes, SHA-256 %s", m.Rows, m.Type, where, m.Bytes, m.SHA256)
	hidden := 0
	for _, n := range m.Masked {
		hidden += n
	}
	if hidden > 0 {
		text += fmt.Sprintf("; %d values are hidden from the user and left out", hidden)
	}
	if n := len(m.Cut); n > 0 {
		text += "; some text is longer than a cell of a workbook and was cut"
	}
	if !m.Complete {
		text += "; it does not stand for the records where an export is required"
	}
	return text
}
