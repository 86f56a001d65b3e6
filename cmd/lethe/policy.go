package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/policy"
)

type policyCmd struct {
	Export  policyExportCmd  `cmd:"" help:"Print a tenant's policy as a Casbin policy file."`
	Import  policyImportCmd  `cmd:"" help:"Make a Casbin policy file a tenant's policy, all of it or nothing."`
	Check   policyCheckCmd   `cmd:"" help:"Say what is wrong with a Casbin policy file; ends with 1 when it cannot be used."`
	Explain policyExplainCmd `cmd:"" help:"Say why a user or a role may or may not do something."`
}

// policies changes policies as the operator.
func (a *app) policies() *policy.Service {
	return policy.New(a.db, nil, a.audit, a.log).WithVocabulary(a.vocabulary)
}

type policyExportCmd struct {
	storage
	output
	Tenant  string `required:"" placeholder:"NAME" help:"The tenant."`
	Version uint64 `placeholder:"N" help:"An earlier version. Default is the one in force."`
}

// Run implements the command.
func (cmd *policyExportCmd) Run(ctx context.Context, c *console) error {
	return cmd.withApp(ctx, c, func(a *app) error {
		tenant, err := a.identity.TenantByName(ctx, cmd.Tenant)
		if err != nil {
			return err
		}
		p, err := a.policies().Current(ctx, tenant)
		if err == nil && cmd.Version > 0 {
			var r policy.Revision
			r, err = a.policies().At(ctx, tenant, cmd.Version)
			p = r.Policy
		}
		if err != nil {
			return err
		}
		return c.print(cmd.JSON, strings.TrimSuffix(p.CSV(), "\n"), map[string]any{
			"tenant": tenant, "version": p.Version, "rules": policy.Lines(p.Rules), "duties": append([]policy.Duty{}, p.Duties...),
		})
	})
}

type policyImportCmd struct {
	storage
	output
	Tenant  string `required:"" placeholder:"NAME" help:"The tenant."`
	File    string `arg:"" help:"The file; - is the standard input. A dot stands for the tenant's id."`
	Version uint64 `placeholder:"N" help:"The version the file was made from: fails when it is not the last any more. Default is whatever is in force."`
	Message string `placeholder:"TEXT" help:"Why, for the history."`
}

// Run implements the command.
func (cmd *policyImportCmd) Run(ctx context.Context, c *console) error {
	return cmd.withApp(ctx, c, func(a *app) error {
		tenant, err := a.identity.TenantByName(ctx, cmd.Tenant)
		if err != nil {
			return err
		}
		rules, err := readPolicy(c, cmd.File, tenant)
		if err != nil {
			return err
		}
		before, err := a.policies().Current(ctx, tenant)
		if err != nil {
			return err
		}
		d := policy.Draft{Base: cmd.Version, Rules: rules, Replace: true, Message: cmd.Message}
		if d.Base == 0 {
			d.Base = before.Version
		}
		after, err := a.policies().Apply(actor.With(ctx, actor.ForSystem(tenant)), tenant, d)
		if err != nil {
			return err
		}
		diff := policy.Diff(before, after)
		return c.print(cmd.JSON, fmt.Sprintf("The policy of %s is at version %d: %d rows came, %d went.", cmd.Tenant, after.Version, len(diff.Added), len(diff.Removed)),
			map[string]any{"version": after.Version, "added": policy.Lines(diff.Added), "removed": policy.Lines(diff.Removed)})
	})
}

// readPolicy reads a policy file. A dot stands for the tenant.
func readPolicy(c *console, path string, tenant gid.ID) (rules []casbin.Rule, err error) {
	in := c.in
	if path != "-" {
		f, failed := os.Open(path)
		if failed != nil {
			return nil, failed
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		in = f
	}
	rules, err = casbin.ReadCSV(io.LimitReader(in, maxPolicy))
	for i := range rules {
		at := 1
		if rules[i].Ptype == "g" {
			at = 2
		}
		if rules[i].V[at] == "." {
			rules[i].V[at] = tenant.String()
		}
	}
	return rules, err
}

// maxPolicy is how much of a policy file is read, in bytes.
const maxPolicy = 64 << 20

type policyCheckCmd struct {
	storage
	output
	File   string `arg:"" help:"The file; - is the standard input. A dot stands for the tenant's id."`
	Tenant string `placeholder:"NAME" help:"Also hold it against this tenant: its users, separations of duty, tests, and who could still edit it. Without a tenant no database is needed."`
}

// errPolicy ends the command with 1 when the file cannot be used.
var errPolicy = errors.New("the policy cannot be used")

// Run implements the command.
func (cmd *policyCheckCmd) Run(ctx context.Context, c *console) error {
	if cmd.Tenant != "" {
		return cmd.withApp(ctx, c, func(a *app) error {
			tenant, err := a.identity.TenantByName(ctx, cmd.Tenant)
			if err != nil {
				return err
			}
			rules, err := readPolicy(c, cmd.File, tenant)
			if err != nil {
				return err
			}
			j, err := a.policies().Validate(actor.With(ctx, actor.ForSystem(tenant)), tenant, policy.Draft{Rules: rules, Replace: true})
			if err != nil {
				return err
			}
			return cmd.report(c, j.Findings, j.Refused())
		})
	}
	rules, err := readPolicy(c, cmd.File, gid.Nil)
	if err != nil {
		return err
	}
	// Offline the tenant is the one that the first row is of.
	tenant := ""
	if len(rules) > 0 {
		if tenant = rules[0].V[1]; rules[0].Ptype == "g" {
			tenant = rules[0].V[2]
		}
	}
	_, vocabulary, err := cmd.chain()
	if err != nil {
		return err
	}
	return cmd.report(c, vocabulary.Lint(tenant, rules), nil)
}

func (cmd *policyCheckCmd) report(c *console, findings []casbin.Finding, refused error) error {
	type shown struct {
		Row      int             `json:"row"`
		Severity casbin.Severity `json:"severity"`
		Message  string          `json:"message"`
		Rule     string          `json:"rule"`
	}
	list, text, bad := []shown{}, []string{}, refused != nil
	for _, f := range findings {
		list = append(list, shown{f.Index, f.Severity, f.Message, f.Rule.String()})
		text = append(text, f.String())
		bad = bad || f.Severity == casbin.Error
	}
	result := map[string]any{"valid": !bad, "findings": list}
	if refused != nil {
		result["refusal"] = refused.Error()
		text = append(text, refused.Error())
	}
	if !bad {
		text = append(text, "The policy can be used.")
	}
	if err := c.print(cmd.JSON, strings.Join(text, "\n"), result); err != nil {
		return err
	}
	if bad {
		return errPolicy
	}
	return nil
}

type policyExplainCmd struct {
	storage
	output
	Tenant string `required:"" placeholder:"NAME" help:"The tenant."`
	User   string `placeholder:"EMAIL" help:"The user who asks."`
	Role   string `placeholder:"NAME" help:"Or the role that asks."`
	Action string `arg:"" help:"What is asked for, such as delete or hold.release."`
	Object string `arg:"" help:"The type it is about, such as Customer."`
}

// Run implements the command.
func (cmd *policyExplainCmd) Run(ctx context.Context, c *console) error {
	if (cmd.User == "") == (cmd.Role == "") {
		return errors.New("name either --user or --role")
	}
	action := authz.Action(cmd.Action)
	return cmd.withApp(ctx, c, func(a *app) error {
		if !action.Known() || a.vocabulary.Schema[cmd.Object] == nil {
			return fmt.Errorf("there is no action %q or no type %q", cmd.Action, cmd.Object)
		}
		tenant, err := a.identity.TenantByName(ctx, cmd.Tenant)
		if err != nil {
			return err
		}
		subject := authz.Entity{Type: "role", ID: cmd.Role}
		if cmd.User != "" {
			u, err := a.identity.UserByEmail(ctx, tenant, cmd.User)
			if err != nil {
				return err
			}
			if subject, _, err = a.policies().Subject(ctx, tenant, u.ID); err != nil {
				return err
			}
		}
		control, err := a.control()
		if err != nil {
			return err
		}
		e, err := control.Explain(ctx, authz.Request{Tenant: tenant.String(), Subject: subject, Action: action, Resource: authz.Entity{Type: cmd.Object}})
		if err != nil {
			return err
		}
		reach, err := control.Reach(ctx, tenant, subject, action, cmd.Object)
		if err != nil {
			return err
		}
		text := []string{[]string{"never", "for some records", "for every record"}[reach]}
		for _, r := range e.Reasons {
			text = append(text, strings.TrimSpace(fmt.Sprintf("%s: %s  %s  %s", r.Plugin, r.Code, r.Rule, r.Detail)))
		}
		return c.print(cmd.JSON, strings.Join(text, "\n"), map[string]any{
			"reach": []string{"never", "sometimes", "always"}[reach], "roles": append([]string{}, e.Roles...), "reasons": e.Reasons, "policyVersion": e.Version,
		})
	})
}
