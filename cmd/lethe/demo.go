package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/lethe-crm/lethe/internal/demo"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// demoData sets the demo up, and prints links for its users.
func demoData(ctx context.Context, c *console, a *app, records *record.Service, public string) error {
	tenant, err := demoIdentities(ctx, a)
	if err != nil {
		return fmt.Errorf("setting up the demo: %w", err)
	}
	if err := demo.Load(ctx, demo.Config{DB: a.db, Records: records, Tenant: tenant}); err != nil {
		return err
	}
	c.sayf("Sign in to the demo, once each and within %s:", identity.MaxLinkTTL)
	for _, u := range demo.Users() {
		user, err := a.identity.UserByEmail(ctx, tenant, u.Email())
		if err != nil {
			return err
		}
		link, err := a.identity.CreateLink(ctx, tenant, user.ID, identity.MaxLinkTTL)
		switch {
		case errors.Is(err, identity.ErrInactive): // somebody tried that out
			c.sayf("  %-24s is deactivated", u.Email())
		case err != nil:
			return err
		default:
			c.sayf("  %-24s %s", u.Email(), signInURL(public, link))
		}
	}
	return nil
}

// demoIdentities makes the tenant with its users, unless it is there: what was
// changed in it since stays so.
func demoIdentities(ctx context.Context, a *app) (tenant gid.ID, err error) {
	err = a.db.InTx(ctx, func(ctx context.Context, _ *store.Tx) error {
		var err error
		if tenant, err = a.identity.TenantByName(ctx, demo.Tenant); !errors.Is(err, identity.ErrNotFound) {
			return err
		}
		if tenant, err = a.identity.CreateTenant(ctx, demo.Tenant); err != nil {
			return err
		}
		for _, u := range demo.Users() {
			user, err := a.identity.CreateUser(ctx, tenant, u.Email(), u.Name, []string{u.Team})
			if err != nil {
				return err
			}
			if err := a.identity.GrantRole(ctx, tenant, user, u.Role); err != nil {
				return err
			}
		}
		return nil
	})
	return tenant, err
}
