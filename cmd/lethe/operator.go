package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
)

type tenantCmd struct {
	Create tenantCreateCmd `cmd:"" help:"Create a tenant with the default policy, and print its id."`
}

type tenantCreateCmd struct {
	storage
	output
	Name string `arg:"" help:"The tenant's name."`
}

// Run implements the command.
func (cmd *tenantCreateCmd) Run(ctx context.Context, c *console) (err error) {
	a, err := cmd.open(ctx, c.logger(slog.LevelWarn), opening{create: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	id, err := a.identity.CreateTenant(ctx, cmd.Name)
	if err != nil {
		return err
	}
	return c.print(cmd.JSON, id.String(), map[string]any{"id": id, "name": cmd.Name})
}

type userCmd struct {
	Create     userCreateCmd     `cmd:"" help:"Create a user without a role, and print his id."`
	Deactivate userDeactivateCmd `cmd:"" help:"Keep a user out, and revoke his tokens, sessions and links."`
	Activate   userActivateCmd   `cmd:"" help:"Let a deactivated user in again."`
}

type userCreateCmd struct {
	storage
	output
	Tenant string   `required:"" placeholder:"NAME" help:"The tenant."`
	Email  string   `required:"" placeholder:"EMAIL" help:"The user's address."`
	Name   string   `placeholder:"NAME" help:"The user's name. Default is what is before the @."`
	Team   []string `placeholder:"NAME" sep:"none" help:"A team of the user's; made if it is missing. May be repeated."`
}

// Run implements the command.
func (cmd *userCreateCmd) Run(ctx context.Context, c *console) error {
	return cmd.withApp(ctx, c, func(a *app) error {
		tenant, err := a.identity.TenantByName(ctx, cmd.Tenant)
		if err != nil {
			return err
		}
		name := cmd.Name
		if name == "" {
			name, _, _ = strings.Cut(cmd.Email, "@")
		}
		id, err := a.identity.CreateUser(ctx, tenant, cmd.Email, name, cmd.Team)
		if err != nil {
			return err
		}
		return c.print(cmd.JSON, id.String(), map[string]any{"id": id, "email": cmd.Email, "name": name})
	})
}

// oneUser is how user commands name a user.
type oneUser struct {
	storage
	Tenant string `required:"" placeholder:"NAME" help:"The tenant."`
	Email  string `required:"" placeholder:"EMAIL" help:"The user's address."`
}

func (u oneUser) change(ctx context.Context, c *console, done string, change func(s *identity.Service, tenant, user gid.ID) error) error {
	return u.withApp(ctx, c, func(a *app) error {
		tenant, user, err := who{u.Tenant, u.Email}.find(ctx, a)
		if err != nil {
			return err
		}
		if err := change(a.identity, tenant, user); err != nil {
			return err
		}
		c.sayf("%s is %s.", u.Email, done)
		return nil
	})
}

type userDeactivateCmd struct{ oneUser }

// Run implements the command.
func (cmd *userDeactivateCmd) Run(ctx context.Context, c *console) error {
	return cmd.change(ctx, c, "deactivated", func(s *identity.Service, tenant, user gid.ID) error { return s.DeactivateUser(ctx, tenant, user) })
}

type userActivateCmd struct{ oneUser }

// Run implements the command.
func (cmd *userActivateCmd) Run(ctx context.Context, c *console) error {
	return cmd.change(ctx, c, "active", func(s *identity.Service, tenant, user gid.ID) error { return s.ActivateUser(ctx, tenant, user) })
}

type roleCmd struct {
	Grant  roleGrantCmd  `cmd:"" help:"Give a user a role."`
	Revoke roleRevokeCmd `cmd:"" help:"Take a role from a user."`
}

type roleGrantCmd struct{ roleFlags }

type roleRevokeCmd struct{ roleFlags }

type roleFlags struct {
	storage
	who
	Role string `arg:"" help:"The role, such as agent."`
}

// Run implements the command.
func (cmd *roleGrantCmd) Run(ctx context.Context, c *console) error {
	return cmd.withApp(ctx, c, func(a *app) error {
		tenant, user, err := cmd.find(ctx, a)
		if err != nil {
			return err
		}
		if err := a.identity.GrantRole(ctx, tenant, user, cmd.Role); err != nil {
			return err
		}
		c.sayf("%s has the role %s.", cmd.User, cmd.Role)
		return nil
	})
}

// Run implements the command.
func (cmd *roleRevokeCmd) Run(ctx context.Context, c *console) error {
	return cmd.withApp(ctx, c, func(a *app) error {
		tenant, user, err := cmd.find(ctx, a)
		if err != nil {
			return err
		}
		if err := a.identity.RevokeRole(ctx, tenant, user, cmd.Role); err != nil {
			return err
		}
		c.sayf("%s is not granted the role %s.", cmd.User, cmd.Role)
		return nil
	})
}

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Create a token that acts as a user, and print it. It cannot be shown again."`
	Revoke tokenRevokeCmd `cmd:"" help:"Revoke a token."`
}

type tokenCreateCmd struct {
	storage
	output
	who
	TTL time.Duration `name:"ttl" default:"24h" help:"How long it holds (${default})."`
}

// Run implements the command.
func (cmd *tokenCreateCmd) Run(ctx context.Context, c *console) error {
	return cmd.withApp(ctx, c, func(a *app) error {
		tenant, user, err := cmd.find(ctx, a)
		if err != nil {
			return err
		}
		token, err := a.identity.CreateToken(ctx, tenant, user, cmd.TTL)
		if err != nil {
			return err
		}
		if cmd.JSON {
			return c.print(true, "", token)
		}
		// Without an end of line, so that a file it is sent to is the token.
		_, err = fmt.Fprint(c.out, token.Secret)
		return err
	})
}

type tokenRevokeCmd struct {
	storage
	Tenant string `required:"" placeholder:"NAME" help:"The tenant."`
	ID     string `arg:"" help:"The token's id, as token create --json shows it."`
}

// Run implements the command.
func (cmd *tokenRevokeCmd) Run(ctx context.Context, c *console) error {
	return cmd.withApp(ctx, c, func(a *app) error {
		tenant, err := a.identity.TenantByName(ctx, cmd.Tenant)
		if err != nil {
			return err
		}
		id, err := gid.Parse(cmd.ID)
		if err != nil {
			return fmt.Errorf("%q: %w", cmd.ID, err)
		}
		if err := a.identity.RevokeToken(ctx, tenant, id); err != nil {
			return err
		}
		c.sayf("%s is revoked.", id)
		return nil
	})
}

type linkCmd struct {
	Create linkCreateCmd `cmd:"" help:"Create a link that signs a user in once, and print it."`
}

type linkCreateCmd struct {
	storage
	output
	who
	TTL time.Duration `name:"ttl" default:"1h" help:"How long it holds, 15m to 24h (${default})."`
	URL string        `name:"url" default:"http://127.0.0.1:8080" help:"Where people reach the server (${default})."`
}

// Run implements the command.
func (cmd *linkCreateCmd) Run(ctx context.Context, c *console) error {
	return cmd.withApp(ctx, c, func(a *app) error {
		tenant, user, err := cmd.find(ctx, a)
		if err != nil {
			return err
		}
		link, err := a.identity.CreateLink(ctx, tenant, user, cmd.TTL)
		if err != nil {
			return err
		}
		at := signInURL(cmd.URL, link)
		return c.print(cmd.JSON, at, map[string]any{"url": at, "expiresAt": link.ExpiresAt})
	})
}

// signInURL is where a link is redeemed.
func signInURL(base string, link identity.Credential) string {
	return strings.TrimSuffix(base, "/") + "/signin?token=" + url.QueryEscape(link.Secret)
}
