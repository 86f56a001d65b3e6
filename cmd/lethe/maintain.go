package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/graph"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/export"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/notify"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" help:"Apply what is missing."`
	Status migrateStatusCmd `cmd:"" help:"List the migrations."`
	Down   migrateDownCmd   `cmd:"" help:"Take the newest migration back, with the data in what it made."`
}

type migrateUpCmd struct{ storage }

// Run implements the command.
func (cmd *migrateUpCmd) Run(ctx context.Context, c *console) error {
	return cmd.withDB(ctx, true, func(db *store.DB) error {
		if err := db.Migrate(ctx); err != nil {
			return err
		}
		c.sayf("%s is up to date.", cmd.config().Redacted())
		return nil
	})
}

type migrateStatusCmd struct {
	storage
	output
}

// Run implements the command.
func (cmd *migrateStatusCmd) Run(ctx context.Context, c *console) error {
	return cmd.withDB(ctx, false, func(db *store.DB) error {
		all, err := db.Migrations(ctx)
		if err != nil {
			return err
		}
		lines := make([]string, len(all))
		for i, m := range all {
			state := "pending"
			if m.Applied {
				state = "applied"
			}
			lines[i] = state + "  " + m.Name
		}
		return c.print(cmd.JSON, strings.Join(lines, "\n"), all)
	})
}

type migrateDownCmd struct{ storage }

// Run implements the command.
func (cmd *migrateDownCmd) Run(ctx context.Context, c *console) error {
	return cmd.withDB(ctx, false, func(db *store.DB) error {
		if err := db.MigrateDown(ctx); err != nil {
			return err
		}
		c.sayf("The newest migration of %s is taken back.", cmd.config().Redacted())
		return nil
	})
}

func (s storage) withDB(ctx context.Context, create bool, do func(*store.DB) error) (err error) {
	db, err := s.connect(ctx, create)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return do(db)
}

type sweepCmd struct {
	storage
	output
	Once bool `required:"" help:"Sweep once and end. A server sweeps by itself: scheduled and approved operations run, requests that nobody decided on expire, suspensions that ran out end, what retention rules say is done, exports are made, what is due is purged, and who has to know is told."`
}

// Run implements the command.
func (cmd *sweepCmd) Run(ctx context.Context, c *console) error {
	return cmd.withApp(ctx, c, func(a *app) error {
		control, err := a.control()
		if err != nil {
			return err
		}
		records := a.records(control)
		did, err := a.applyRules(ctx, records)
		rest, otherErr := a.sweep(ctx, records, a.exports(control, records), a.notifying(control, false))
		rest.Ruled = did.Ruled
		did = rest
		if did.Purged+did.Ruled > 0 {
			otherErr = errors.Join(otherErr, records.Forget(ctx, 0))
		}
		if err = errors.Join(err, otherErr); err != nil {
			return fmt.Errorf("sweeping, after %s: %w", did, err)
		}
		return c.print(cmd.JSON, did.String(), did)
	})
}

// swept counts what the clocks brought about.
type swept struct {
	Ran     int `json:"ran"`     // scheduled and approved operations
	Expired int `json:"expired"` // requests for approval
	Jobs    int `json:"jobs"`    // large operations that nobody worked on
	Woken   int `json:"woken"`   // suspensions that ended
	Ruled   int `json:"ruled"`   // records that retention rules changed
	Purged  int `json:"purged"`  // records
	Exports int `json:"exports"` // exports that schedules asked for
	Ended   int `json:"ended"`   // exports whose file went
	Bytes   int `json:"bytes"`   // attachments and exports whose bytes went
	Told    int `json:"told"`    // what happened, and digests of what is going to
	Old     int `json:"old"`     // notifications and deliveries that were too old
}

func (s swept) String() string {
	return fmt.Sprintf("%d run, %d expired, %d taken up, %d woken, %d by rules, %d purged, %d exports begun, %d ended, bytes of %d removed, %d told, %d forgotten", s.Ran, s.Expired, s.Jobs, s.Woken, s.Ruled, s.Purged, s.Exports, s.Ended, s.Bytes, s.Told, s.Old)
}

// sweep does what is due. What fails holds up nothing else.
func (a *app) sweep(ctx context.Context, records *record.Service, exports *export.Service, telling *notify.Service) (did swept, err error) {
	var errs [12]error
	did.Expired, errs[0] = records.ExpireApprovals(ctx)
	did.Ran, errs[1] = records.RunScheduled(ctx, a.actAs)
	approved, err := records.RunApproved(ctx, a.actAs)
	did.Ran, errs[2] = did.Ran+approved, err
	did.Jobs, errs[3] = records.TakeUp(ctx, a.actAs, false)
	did.Woken, errs[4] = records.Wake(ctx)
	did.Purged, errs[5] = records.Sweep(ctx)
	did.Exports, errs[7] = exports.RunSchedules(ctx)
	taken, err := exports.TakeUp(ctx, false)
	did.Jobs, errs[8] = did.Jobs+taken, err
	did.Ended, errs[9] = exports.Expire(ctx)
	did.Bytes, errs[6] = a.blobs.Sweep(ctx, a.db)
	_, did.Old, errs[10] = telling.Sweep(ctx)
	did.Told, errs[11] = telling.Tell(ctx)
	return did, errors.Join(errs[:]...)
}

// applyRules lets retention rules act whose time has come: apart from what is due by the clock, which must not wait for it.
func (a *app) applyRules(ctx context.Context, records *record.Service) (did swept, err error) {
	did.Ruled, err = records.ApplyRules(ctx)
	return did, err
}

// actAs answers a user as he is now.
func (a *app) actAs(ctx context.Context, tenant, user gid.ID) (*actor.Actor, error) {
	as, err := a.identity.ActAs(ctx, tenant, user, "")
	if errors.Is(err, identity.ErrInactive) {
		err = record.ErrLeft
	}
	return as, err
}

type schemaCmd struct {
	Output string `short:"o" placeholder:"FILE" help:"Write it to a file."`
}

// Run implements the command.
func (cmd *schemaCmd) Run(c *console) error {
	if cmd.Output == "" {
		_, err := fmt.Fprint(c.out, graph.SDL())
		return err
	}
	return os.WriteFile(cmd.Output, []byte(graph.SDL()), 0o644) //nolint:gosec // a schema is for everybody to read
}

type versionCmd struct{ output }

// build is what the binary was made from.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
}

// version is set by -ldflags "-X main.version=..." where a release is built from an archive, which has no history.
var version string

func readBuild() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return build{Version: cmp.Or(version, "unknown")}
	}
	b := build{Version: info.Main.Version, Go: info.GoVersion}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	if version != "" {
		b.Version = version
	}
	return b
}

// Run implements the command.
func (cmd *versionCmd) Run(c *console) error {
	b := readBuild()
	parts := []string{"lethe", b.Version, b.Revision, b.Time, b.Go}
	if b.Modified {
		parts = append(parts, "(modified)")
	}
	parts = slices.DeleteFunc(parts, func(part string) bool { return part == "" })
	return c.print(cmd.JSON, strings.Join(parts, " "), b)
}
